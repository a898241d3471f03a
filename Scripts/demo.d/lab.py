"""The demo's laboratory: network namespaces, cables and programs, and the
certainty that none of them outlives it.

Everything the laboratory makes carries its process's number in its name, so
that whatever a killed run left behind can be told from a living one.
"""

import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PREFIX = "sk-demo-"
HERE = pathlib.Path(__file__).resolve().parent

# veth hands frames on with unfinished checksums and unsplit segments, which a
# real cable never carries: end hosts have to finish them before sending.
OFFLOADS = ("tx", "tso", "gso", "gro", "txvlan", "rxvlan")

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class DemoError(Exception):
    """The demo cannot go on; the text says what was being done, and why."""


def _die_with_parent():
    # Children must not survive even a kill -9 of the demo.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*command, timeout: float = 10, check: bool = True) -> subprocess.CompletedProcess:
    """Runs a command that is expected to end soon."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise DemoError(f"'{command[0]}' is not installed: Scripts/setup") from error
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"'{' '.join(command)}' did not end within {timeout} s") from error
    if check and done.returncode != 0:
        raise DemoError(f"'{' '.join(command)}' failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done


class Program:
    """A program running in one of the laboratory's namespaces."""

    def __init__(self, lab: "Lab", role: str, name: str, command: list):
        self.name = name
        self.log = lab.directory / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", lab.namespace(role), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends these in order
                preexec_fn=_die_with_parent,
            )

    def alive(self) -> bool:
        return self.process.poll() is None

    def last_words(self, lines: int = 8) -> str:
        text = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join("    " + line for line in text[-lines:]) or "    (it said nothing)"

    def stop(self, number: int = signal.SIGTERM, timeout: float = 5) -> int | None:
        """The exit status, or None if it had to be killed."""
        if self.alive():
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout)
            return None


class Conversation(Program):
    """One of the Python programs beside this file, with its result."""

    def __init__(self, lab: "Lab", role: str, name: str, script: str, *arguments):
        self._result = lab.directory / f"{name}.json"
        self._result.unlink(missing_ok=True)  # of an earlier program of this name
        command = [sys.executable, HERE / script, *arguments, "--result", self._result]
        super().__init__(lab, role, name, command)

    def result(self) -> dict:
        try:
            return json.loads(self._result.read_text())
        except FileNotFoundError:
            return {}


class Lab:
    def __init__(self):
        self._prefix = f"{PREFIX}{os.getpid()}-"
        self._programs: list[Program] = []
        self.directory = pathlib.Path()

    def open(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self._prefix))

    # --- network ---

    def namespace(self, role: str) -> str:
        return self._prefix + role

    def add_namespace(self, role: str):
        run("ip", "netns", "add", self.namespace(role))
        # No IPv6: its unasked-for router solicitations and multicast reports
        # would only blur the comparison of what was sent with what arrived.
        run("ip", "netns", "exec", self.namespace(role), "sh", "-c",
            "for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done", check=False)
        self.ip(role, "link", "set", "lo", "up")

    def ip(self, role: str, *arguments, **options) -> subprocess.CompletedProcess:
        return run("ip", "-n", self.namespace(role), *arguments, **options)

    def cable(self, role: str, interface: str, other_role: str, other_interface: str):
        self.ip(role, "link", "add", interface, "type", "veth",
                "peer", "name", other_interface, "netns", self.namespace(other_role))
        self.ip(role, "link", "set", interface, "up")
        self.ip(other_role, "link", "set", other_interface, "up")

    def end_host(self, role: str, interface: str, mac: str, address: str):
        self.ip(role, "link", "set", interface, "address", mac)
        self.ip(role, "address", "add", address, "dev", interface)
        settings = [word for name in OFFLOADS for word in (name, "off")]
        run("ip", "netns", "exec", self.namespace(role), "ethtool", "-K", interface, *settings)

    # --- programs ---

    def start(self, role: str, name: str, command: list) -> Program:
        self._programs.append(Program(self, role, name, command))
        return self._programs[-1]

    def converse(self, role: str, name: str, script: str, *arguments) -> Conversation:
        self._programs.append(Conversation(self, role, name, script, *arguments))
        return self._programs[-1]

    def last_words(self, name: str) -> str:
        """What the program of this name said last, for an error message."""
        said = [program.last_words() for program in self._programs if program.name == name]
        return f"\n{name} said last:\n{said[-1]}" if said else ""

    def stop(self, program: Program, number: int = signal.SIGTERM) -> int | None:
        self._programs.remove(program)  # from here on, its end is no surprise
        status = program.stop(number)
        if status is None:
            raise DemoError(f"{program.name} did not end within 5 s of being asked to")
        return status

    def wait(self, what: str, condition, timeout: float = 10):
        """Waits until `condition()` is true, or fails."""
        if not self.wait_if(what, condition, timeout):
            raise DemoError(f"waited {timeout:g} s in vain for {what}")

    def wait_if(self, what: str, condition, timeout: float) -> bool:
        """Waits for something that a check judges later: its not coming is a
        finding, the end of a program is still a failure."""
        deadline = time.monotonic() + timeout
        while not condition():
            for program in self._programs:
                if not program.alive():
                    raise DemoError(f"{program.name} ended by itself with status {program.process.returncode} "
                                    f"while the demo waited for {what}{self.last_words(program.name)}")
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    # --- the end ---

    def close(self, keep: bool = False):
        """Ends every program and removes everything. Does not fail: what
        cannot be removed now, the next run's sweep removes."""
        for program in self._programs:
            if program.alive():
                program.process.terminate()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(program.alive() for program in self._programs):
            time.sleep(0.02)
        for program in self._programs:
            if program.alive():
                program.process.kill()
            program.process.wait()
        if not keep:
            _remove(self._prefix)


def _namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10).stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def _remove(prefix: str):
    """Removes every namespace and directory whose name starts with `prefix`,
    and the programs inside: found by place, not by a list, so that one started
    in the very moment of an interrupt is found as well."""
    for name in _namespaces():
        if not name.startswith(prefix):
            continue
        inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=10).stdout
        for pid in map(int, inside.split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=10)
    for directory in pathlib.Path(tempfile.gettempdir()).glob(prefix + "*"):
        shutil.rmtree(directory, ignore_errors=True)


def sweep() -> int:
    """Removes what runs of the demo left that are not running any more (they
    were killed, or told to --keep); returns how many."""
    names = [*_namespaces(), *(path.name for path in pathlib.Path(tempfile.gettempdir()).glob(PREFIX + "*"))]
    owners = {match[1] for name in names if (match := re.match(rf"{PREFIX}(\d+)-", name))}
    dead = [pid for pid in owners if not _is_demo(pid)]
    for pid in dead:
        _remove(f"{PREFIX}{pid}-")
    return len(dead)


def _is_demo(pid: str) -> bool:
    # A number may have been given to another process since.
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return any(name in command for name in (b"demo.py", b"zerocopy.py")) and pid != str(os.getpid())
    except OSError:
        return False
