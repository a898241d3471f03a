"""Fixtures of the system tests: the built program, networks of namespaces, a running bridge.

Run them with: SEKISHO=path/to/sekisho pytest Tests/System (root is needed for most).
"""

import ctypes
import errno
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager

import pytest

from feeding import Feed

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAPTURES = ROOT.parent / "shared" / "captures"

# --- Skips: a continuous run may not skip what it is there to test -----------------------------------------------


def pytest_configure(config):
    config.addinivalue_line("markers", "optional_input: needs files that need not be there; may skip even in CI")
    config.addinivalue_line("markers", "alone: beside it nothing else may run")


# They count milliseconds, fill processors, install packages, or look at what all of the machine has. The others mostly wait, and several can.
ALONE = {"test_bench", "test_failing", "test_failing_ports", "test_faults", "test_full_disk", "test_latency", "test_package", "test_soak", "test_swap", "test_unit"}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")


def pytest_sessionfinish(session):
    """Why: a run that silently skipped everything would look like a run that passed."""
    if os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):  # one of pytest-xdist's processes: the first one counts
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [r for r in reporter.stats.get("skipped", []) if "optional_input" not in r.keywords]
    if skipped:
        reporter.write_line("")
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            reporter.write_line(f"skipped although CI=true: {report.nodeid}: {reason}", red=True)
        session.exitstatus = 1


def what_is_missing():
    """Why no bridge can run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "ethtool"):
        if not shutil.which(tool):
            return f"needs the program {tool}"
    try:
        socket.socket(44, socket.SOCK_RAW).close()  # AF_XDP
    except OSError as error:
        return f"needs AF_XDP sockets: {error}"
    name = f"sekisho-probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"needs network namespaces: {probe.stderr.strip()}" if probe.returncode else None


@pytest.fixture(scope="session")
def privileged():
    if reason := what_is_missing():
        pytest.skip(reason)


PINNED = pathlib.Path("/run/sekisho/bpf/sekisho")


def mount_bpf():
    """Where `ip netns exec` starts the bridge, what it mounts ends with it. On a real machine /sys/fs/bpf is there."""
    folder = PINNED.parent
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "bpf.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.ismount(folder):
            sh(f"mount -t bpf bpf {folder}")


@pytest.fixture(scope="session")
def bpf_file_system(privileged):
    mount_bpf()


# --- The program -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def binary():
    path = os.environ.get("SEKISHO")
    if not path:
        path = subprocess.run([ROOT / "Scripts" / "build"], stdout=subprocess.PIPE, text=True).stdout.strip()
    if not os.access(path, os.X_OK):
        pytest.exit(f"no program at {path}: build it with Scripts/build, or set SEKISHO", returncode=2)
    return os.path.abspath(path)


@pytest.fixture(scope="session")
def sekisho(binary):
    """Runs one command to its end. Whatever it is given, it must end by itself and not by a signal."""

    def run(*arguments, prefix=(), timeout=30, **options):
        done = subprocess.run(
            [*prefix, binary, *map(str, arguments)], capture_output=True, text=True, errors="replace",
            timeout=timeout, **options)
        assert 0 <= done.returncode < 128, f"crashed ({done.returncode}): {arguments}\n{done.stderr[-2000:]}"
        return done

    return run


# --- Networks ----------------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside_netns(name):
    """This thread is in a namespace for a while: sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if _libc.setns(away, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        _libc.setns(home, 0x40000000)
        os.close(home)
        os.close(away)


def sh(command):
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING, ETH_P_ALL = 263, 8, 4, 3
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40


class Host:
    """One end of the wire: sends frames as they are and receives them as they are."""

    def __init__(self, netns, port):
        self.netns, self.port = netns, port
        with inside_netns(netns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.bind((port, ETH_P_ALL))

    def send(self, *frames, pause=0.0):
        for frame in frames:
            for _ in range(200):  # a full queue is the host's, not the bridge's
                try:
                    self.socket.send(bytes(frame))
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                        raise
                    time.sleep(0.005)
            if pause:
                time.sleep(pause)

    def receive(self, count=None, timeout=5.0, quiet=0.25):
        """`count` frames, or without it all until nothing has come for `quiet` seconds."""
        frames = []
        end = time.monotonic() + timeout
        while count is None or len(frames) < count:
            left = end - time.monotonic()
            if left <= 0:
                break
            self.socket.settimeout(left if count is not None else min(left, quiet))
            try:
                data, control, _, address = self.socket.recvmsg(65536, 256)
            except TimeoutError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # said once, after the link went down
                    raise
                continue
            if address[2] == PACKET_OUTGOING:
                continue
            frames.append(_with_tag(data, control))
        return frames

    def drain(self):
        self.receive(quiet=0.1, timeout=1)


def _with_tag(data, control):
    """The kernel takes the outer VLAN tag out of what it hands over, and says so aside: put it back."""
    for level, kind, value in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = (
                int.from_bytes(value[a:b], "little")
                for a, b in ((0, 4), (4, 8), (8, 12), (12, 14), (14, 16), (16, 18), (18, 20)))
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                return data[:12] + tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") + data[12:]
    return data


class Network:
    """host A (outside) ── out0 [namespace of the bridge] in0 ── host B (inside)"""

    count = 0

    def __init__(self, mtu=1500, queues=(1, 1), is_quiet=True):
        Network.count += 1
        stem = f"sk{os.getpid()}-{Network.count}"
        self.bridge, self.outer, self.inner = f"{stem}s", f"{stem}a", f"{stem}b"
        self.made = []
        try:
            for name in (self.bridge, self.outer, self.inner):
                sh(f"ip netns add {name}")
                self.made.append(name)
            for far, end, near, count in ((self.outer, "a0", "out0", queues[0]), (self.inner, "b0", "in0", queues[1])):
                several = f"numrxqueues {count} numtxqueues {count}"
                sh(f"ip -n {self.bridge} link add {near} mtu {mtu} {several} type veth "
                   f"peer name {end} netns {far} mtu {mtu} {several}")
                # Nothing may come from the hosts but what a test sends.
                sh(f"ip netns exec {far} sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")
                if is_quiet:
                    sh(f"ip netns exec {self.bridge} sysctl -qw net.ipv6.conf.{near}.disable_ipv6=1")
                # In two steps: some of these depend on each other.
                sh(f"ip netns exec {far} ethtool -K {end} tx off tso off gso off gro off")
                sh(f"ip netns exec {far} ethtool -K {end} txvlan off rxvlan off")
                sh(f"ip -n {far} link set {end} up")
            self.a = Host(self.outer, "a0")
            self.b = Host(self.inner, "b0")
        except BaseException:
            self.close()
            raise

    def __getitem__(self, side):
        return {"outside": self.a, "inside": self.b}[side]

    def links(self):
        """What the bridge's namespace knows of its links."""
        return {link["ifname"]: link for link in json.loads(sh(f"ip -n {self.bridge} -d -j link show"))}

    def has_programs(self):
        return any("xdp" in link for link in self.links().values())

    def close(self):
        for end in ("a", "b"):
            if hasattr(self, end):
                getattr(self, end).socket.close()
        # What a killed bridge has pinned is held to the namespace by its number, which the next one may get.
        if self.bridge in self.made:
            for file in PINNED.glob(f"{os.stat(f'/run/netns/{self.bridge}').st_ino}-*"):
                file.unlink()
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def network(privileged):
    made = []

    def make(**options):
        made.append(Network(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- A running bridge --------------------------------------------------------------------------------------------


def patient(policy):
    """A policy that says nothing of failures, with a deadline that busy machines keep as well: 50 ms without a worker is a failure where that is what is tested."""
    if not isinstance(policy, str) or "on_failure" in policy or "version = 1\n" not in policy:
        return policy
    return policy.replace("version = 1\n", "version = 1\non_failure = { deadline_ms = 5000 }\n", 1)


class Bridge:
    def __init__(self, binary, sekisho, network, policy, folder, *options, inside="in0", outside="out0", wait=True, prefix=(), errors=None,
                 environment=None, key=None):
        self.sekisho, self.network, self.folder = sekisho, network, folder
        folder.mkdir(exist_ok=True)
        self.policy = folder / "policy.toml"
        self.policy.write_text(patient(policy))
        if key:
            assert sekisho("sign", self.policy, "--key", key).returncode == 0
        self.socket = folder / "control"
        self.log = folder / "log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, "ip", "netns", "exec", network.bridge, binary, "run", "--inside", inside, "--outside", outside,
                 "--policy", self.policy, "--control", self.socket, *map(str, options)], stdout=log, stderr=log if errors is None else errors,
                env={**os.environ, **(environment or {})})
        if wait:
            self.wait_until_up()

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_until_up(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the bridge ended: {self.said()}"
            if self.socket.exists() and self.sekisho("status", "--control", self.socket).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError(f"the bridge does not come up: {self.said()}")

    def status(self):
        done = self.sekisho("status", "--json", "--control", self.socket)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def denied(self):
        return {cause["cause"]: cause["frames"] for cause in self.status()["denied"]}

    def would_deny(self):
        return {cause["cause"]: cause["frames"] for cause in self.status()["would_deny"]}

    def hits(self):
        return {rule["id"]: rule["frames"] for rule in self.status()["rules"]}

    def apply(self, text):
        """Applies a policy; the command as it ended."""
        file = self.folder / "next.toml"
        file.write_bytes(text if isinstance(text, bytes) else patient(text).encode())
        return self.sekisho("apply", file, "--control", self.socket, "--json")

    def wait_for(self, condition, what, timeout=10):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return
            assert self.process.poll() is None, f"the bridge ended while it was waited for {what}: {self.said()[-3000:]}"
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout} s for {what}\n{self.said()}")

    def wait_for_end(self, timeout=20):
        return self.process.wait(timeout)

    def stop(self, signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal)
        return self.wait_for_end()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)


@pytest.fixture
def folder():
    """A short path: that of a Unix socket has 107 bytes at the most."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="sekisho-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bridge(binary, sekisho, network, folder):
    """Starts bridges; at the end each must still be alive, unless it was stopped."""
    made = []

    def start(policy, *options, net=None, wait=True, **how):
        made.append(Bridge(
            binary, sekisho, net or network(), policy, folder / str(len(made)), *options, wait=wait, **how))
        return made[-1]

    yield start
    crashes = []
    for one in made:
        try:
            if one.process.poll() is None:
                one.stop()
        except subprocess.TimeoutExpired:
            crashes.append("the bridge does not stop")
        finally:
            one.kill()
        if one.process.returncode not in (0, 1, -signal.SIGKILL):
            crashes.append(f"the bridge ended with {one.process.returncode}")
        if crashes:
            crashes.append(one.said()[-3000:])
    assert not crashes, "\n".join(crashes)


@pytest.fixture
def feed(binary, folder):
    """Starts feeds; at the end each must still be alive, unless it was stopped."""
    made = []

    def start(state, config, *options):
        made.append(Feed(binary, state, config, folder / f"feed-{len(made)}", *options))
        return made[-1]

    yield start
    problems = []
    for one in made:
        try:
            if one.process.poll() is None:
                one.stop()
            elif one.process.returncode not in (0, -signal.SIGKILL):
                problems.append(f"the feed ended with {one.process.returncode}: {one.said()[-3000:]}")
        except (subprocess.TimeoutExpired, AssertionError) as problem:
            problems.append(str(problem))
        finally:
            one.process.kill()
            one.process.wait(20)
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def captures():
    if not CAPTURES.is_dir():
        pytest.skip(f"no captures in {CAPTURES}")
    return CAPTURES
