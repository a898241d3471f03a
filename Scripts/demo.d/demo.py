"""Sekisho's main job, shown and measured.

    mes     10.3.0.10 ──┐
                        switch ── outside [ Sekisho ] inside ── tool 10.3.1.21
    laptop  10.3.0.66 ──┘

Each of the five is a network namespace of its own; the lines are veth pairs.
The factory's host and the tool run real SECS/GEM and Modbus stacks, the laptop
is infected and on the same segment as the host. Captures run on the tool's
interface, on the switch's port towards Sekisho and on the laptop's interface,
from before the first frame until after the last; what the programs report is
believed only together with them.
"""

import argparse
import pathlib
import signal
import sys

import lab as laboratory
from acts import HOSTS, Demo
from bridge import Sekisho
from console import Console
from lab import DemoError

NAME = pathlib.Path(sys.argv[0]).stem

CHECKS = {
    "control": "in monitor mode the attack works",
    "hsms": "HSMS selects and talks",
    "modbus": "Modbus polls",
    "laptop": "the laptop gets no answer",
    "reach": "no frame of it reaches the tool",
    "added": "a rule added lets in",
    "removed": "a rule removed cuts off",
    "alert": "it is one alert, and soon",
    "respond": "it is cut off by itself",
    "swaps": "hot swaps lose no frame",
    "links": "no link flap",
    "bytes": "what is allowed crosses unchanged",
    "counted": "what is denied is counted",
    "clean": "Sekisho ends cleanly",
}


class Interrupted(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, number: int):
        self.number = number


def show(checks: dict[str, str], run, json: pathlib.Path | None, keep: bool) -> int:
    """Runs `run(lab, console)` in a laboratory of its own, prints the table of
    `checks`, clears everything away; returns the exit status."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def ignore_signals():
        for number in signals:
            signal.signal(number, signal.SIG_IGN)

    def on_signal(number, _):
        ignore_signals()  # a second Ctrl-C must not interrupt the clean-up
        raise Interrupted(number)

    for number in signals:
        signal.signal(number, on_signal)

    lab, console, error, interrupted = laboratory.Lab(), Console(checks), None, None
    try:
        try:
            if count := laboratory.sweep():
                console.step(f"removed what {count} earlier run{'s' if count > 1 else ''} left behind")
            lab.open()
            run(lab, console)
        except DemoError as problem:
            error = str(problem)
            if "said last" not in error:
                error += lab.last_words("sekisho")
        finally:
            ignore_signals()
    except Interrupted as interrupt:
        interrupted = interrupt.number
    finally:
        lab.close(keep=keep)

    if interrupted is not None:
        left = "kept what there was" if keep else "nothing was left behind"
        print(f"\n{NAME}: ended by {signal.Signals(interrupted).name}; {left}", file=sys.stderr)
        return 128 + interrupted
    console.table()
    if error:
        print(f"\n{NAME}: error: {error}", file=sys.stderr)
    if keep:
        print(f"kept: {lab.directory} and the namespaces {lab.namespace('*')}")
    if json:
        console.write_json(json, error)
    return 0 if console.held and not error else 1


def add_options(parser: argparse.ArgumentParser):
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the summary as JSON, too")
    parser.add_argument("--keep", action="store_true",
                        help="leave namespaces, captures and logs for inspection; the next run removes them")


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows and measures Sekisho's main job in network namespaces.")
    bridges = parser.add_mutually_exclusive_group(required=True)
    bridges.add_argument("--sekisho", type=pathlib.Path, help="the program")
    # For selfcheck.py: a toy bridge with a chosen fault, which must be found.
    bridges.add_argument("--stand-in", metavar="FAULT", help=argparse.SUPPRESS)
    add_options(parser)
    args = parser.parse_args()
    command = ([str(args.sekisho.resolve())] if args.sekisho else
               [sys.executable, str(laboratory.HERE / "stand_in.py"), "--fault", args.stand_in])
    return show(CHECKS, lambda lab, console: Demo(lab, console, Sekisho(lab, command, HOSTS)).run(),
                json=args.json, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
