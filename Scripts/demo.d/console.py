"""What the demo prints: a line per step as it happens, a table at the end."""

import json
import pathlib
import sys
import textwrap
import time
import typing

_COLOURS = {"PASS": "\033[32m", "FAIL": "\033[31m", "NOT RUN": "\033[33m", "bold": "\033[1m", "dim": "\033[2m"}
_WIDTH = 110


class Check(typing.NamedTuple):
    id: str
    title: str
    verdict: str            # PASS, FAIL or NOT RUN
    measured: str
    values: dict


class Console:
    def __init__(self, checks: dict[str, str]):
        """`checks`: every check the demo will make, by id, in their order."""
        self._titles = checks
        self._done: dict[str, Check] = {}
        self._began = time.monotonic()

    def _paint(self, text: str, colour: str) -> str:
        return f"{_COLOURS[colour]}{text}\033[0m" if sys.stdout.isatty() else text

    def heading(self, text: str):
        print(f"\n{self._paint(text, 'bold')}", flush=True)

    def step(self, text: str):
        at = f"{time.monotonic() - self._began:5.1f} s"
        print(f"{self._paint(at, 'dim')}  {text}", flush=True)

    def check(self, id: str, held: bool, measured: str, **values):
        """Records a check for the table. JSON has no NaN: what could not be
        measured is null there."""
        values = {key: None if value != value else value for key, value in values.items()}
        self._done[id] = Check(id, self._titles[id], "PASS" if held else "FAIL", measured, values)

    @property
    def held(self) -> bool:
        return all(check.verdict == "PASS" for check in self._checks())

    @property
    def failed(self) -> list[Check]:
        return [check for check in self._checks() if check.verdict == "FAIL"]

    def _checks(self) -> list[Check]:
        return [self._done.get(id) or Check(id, title, "NOT RUN", "the demo ended before", {})
                for id, title in self._titles.items()]

    def table(self):
        self.heading("Summary")
        column = max(map(len, self._titles.values()))
        for check in self._checks():
            lines = textwrap.wrap(check.measured, _WIDTH - column - 11) or [""]
            print(f"{self._paint(f'{check.verdict:7}', check.verdict)}  {check.title:{column}}  {lines[0]}")
            for line in lines[1:]:
                print(f"{'':7}  {'':{column}}  {line}")
        count = sum(check.verdict == "PASS" for check in self._checks())
        text = f"{count} of {len(self._titles)} held, {time.monotonic() - self._began:.0f} s"
        print(f"\n{self._paint(text, 'PASS' if self.held else 'FAIL')}", flush=True)

    def write_json(self, path: pathlib.Path, error: str | None):
        path.write_text(json.dumps({
            "held": self.held and error is None,
            "seconds": round(time.monotonic() - self._began, 1),
            "error": error,
            "checks": [check._asdict() for check in self._checks()],
        }, indent=2) + "\n")
