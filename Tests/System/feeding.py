"""A running feed, for tests."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def wait_for(condition, what, running=None, timeout=20):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return
        assert running is None or running.process.poll() is None, f"it ended while it was waited for {what}: {running.said()}"
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout} s for {what}\n{running.said() if running else ''}")


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def page_of(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
        return answer.read().decode()


def samples(text):
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in text_string_to_metric_families(text) for one in family.samples}


def samples_of(port):
    """Of the feed's page; empty: it does not listen yet."""
    try:
        return samples(page_of(port))
    except (urllib.error.URLError, ConnectionError):
        return {}


class Feed:
    def __init__(self, binary, state, config, folder, *options):
        folder.mkdir(exist_ok=True)
        self.config, self.log = folder / "feeds.toml", folder / "log"
        self.config.write_text(config)
        options = [*map(str, options)]
        if "--control" not in options:
            options += ["--control", str(folder / "nobody")]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [binary, "feed", "--state", state, "--config", self.config, *options], stdout=log, stderr=log, env={**os.environ})

    def said(self):
        return self.log.read_text(errors="replace")

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(20)
        assert code == (0 if how == signal.SIGTERM else -how), f"ended with {code}: {self.said()[-3000:]}"
