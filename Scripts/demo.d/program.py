"""What the demo's small programs share.

Each plays one end of one conversation, runs until SIGTERM, and keeps a JSON
file with what it has seen. The file is replaced as a whole, so that a reader
never meets half of it.
"""

import argparse
import collections
import json
import os
import signal
import sys
import threading

# How often the result file is refreshed: the demo waits for things to appear
# in it, so this is the granularity of those waits, not of any measurement.
REFRESH_SECONDS = 0.2

# A thread of ours waits for these. A handler would run inside the main thread,
# where setting the event it is just waiting for can deadlock. Blocked on
# import: before any protocol stack starts a thread, which inherits the mask.
_SIGNALS = {signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--result", required=True, help="JSON file to keep up to date")
    return parser


class Histogram:
    """Counts per microsecond: exact percentiles without keeping every sample,
    so that writing the result does not stall the conversation it describes."""

    def __init__(self):
        self._buckets = collections.Counter()
        self._count = 0

    def add(self, seconds: float):
        self._buckets[int(seconds * 1e6)] += 1
        self._count += 1

    def milliseconds(self) -> dict:
        """p50, p99 and max; empty before the first sample."""
        if not self._count:
            return {}
        result, seen, buckets = {}, 0, sorted(self._buckets.items())
        for name, rank in (("p50", 0.50), ("p99", 0.99)):
            seen = 0
            for microseconds, count in buckets:
                seen += count
                if seen >= rank * self._count:
                    result[name] = microseconds / 1e3
                    break
        result["max"] = buckets[-1][0] / 1e3
        return result


class Result:
    """The program's result, and its stop signal.

        with Result(path, {"polls": 0}) as result:
            while not result.stop.is_set(): ...
    """

    def __init__(self, path: str, values: dict):
        self._path = path
        self._values = values
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def __getitem__(self, key):
        with self._lock:
            return self._values[key]

    def set(self, **values):
        with self._lock:
            self._values.update(values)

    def count(self, key: str, by: int = 1):
        with self._lock:
            self._values[key] += by

    def write(self):
        with self._lock:
            text = json.dumps(self._values)
            partial = self._path + ".partial"
            with open(partial, "w") as file:
                file.write(text)
            os.replace(partial, self._path)

    def _keep_fresh(self):
        while not self.stop.wait(REFRESH_SECONDS):
            self.write()

    def _await_signal(self):
        signal.sigwait(_SIGNALS)
        self.stop.set()

    def __enter__(self) -> "Result":
        self.write()
        for target in (self._await_signal, self._keep_fresh):
            threading.Thread(target=target, daemon=True).start()
        return self

    def __exit__(self, kind, error, traceback):
        if error is not None:
            sys.excepthook(kind, error, traceback)
            self.set(error=f"{kind.__name__}: {error}")
        self.write()
        sys.stderr.flush()
        # Not sys.exit(): the protocol stacks have threads of their own that
        # wait for their peer, and would keep the process alive after SIGTERM.
        os._exit(1 if error is not None else 0)
