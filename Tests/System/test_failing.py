"""What becomes of the wire when the bridge fails, stops, or is replaced: killed, stopped, starved, upgraded, with traffic running."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import ROOT, inside_netns, sh
from frames import ARP, IP, TCP, UDP, Raw, ether

ACTIONS = ("kernel", "open", "closed")


def policy(on_failure='"kernel"', extra="", rules=""):
    return f"""
version = 1
name = "failing"
on_failure = {on_failure}
{extra}
[[allow]]
id = "kept"
from = "10.0.0.1"
to = "10.0.0.2"
service = ["udp/1", "tcp/7"]
{rules}"""


def frame(port, number):
    return bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=port) / Raw(struct.pack(">Q", number) + bytes(10)))


pytestmark = pytest.mark.usefixtures("bpf_file_system")


@pytest.fixture
def wire(network):
    """A network whose hosts take frames from the kernel's redirect: a veth port does only with NAPI, which GRO brings."""
    net = network()
    for host in (net.a, net.b):
        sh(f"ip netns exec {host.netns} ethtool -K {host.port} gro on")
    return net


class Streams:
    """Numbered frames every millisecond: one of a conversation the policy allows, one of another. Says what came, and when."""

    def __init__(self, net):
        self.net, self.sent, self.going = net, 0, True
        self.came = {1: {}, 2: {}}  # port -> number -> when
        self.twice = 0
        # When each was sent, and when the receiver itself did not run: on a machine that others keep busy, either takes its time.
        self.sent_at, self.pauses = [], []
        self.heads = {port: frame(port, 0)[:42] for port in (1, 2)}
        self.threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        while self.going:
            self.sent_at.append(time.monotonic())
            for port in (1, 2):
                self.net.a.send(self.heads[port] + struct.pack(">Q", self.sent) + bytes(10))
            self.sent += 1
            time.sleep(0.001)

    def _receive(self):
        last = time.monotonic()
        while self.going:
            now = time.monotonic()
            if now - last > 0.06:
                self.pauses.append((last + 0.05, now))
            last = now
            for got in self.net.b.receive(1, timeout=0.05):
                if len(got) >= 52 and got[23] == 17:
                    number, = struct.unpack(">Q", got[42:50])
                    came = self.came[int.from_bytes(got[36:38], "big")]
                    self.twice += number in came
                    came[number] = time.monotonic()

    def finish(self):
        time.sleep(0.3)
        self.going = False
        for thread in self.threads:
            thread.join(5)
        for got in self.net.b.receive(quiet=0.2):
            if len(got) >= 52 and got[23] == 17:
                self.came[int.from_bytes(got[36:38], "big")].setdefault(struct.unpack(">Q", got[42:50])[0], time.monotonic())
        return self

    def lost(self):
        """Of the allowed ones; the last few may have been under way."""
        return sorted(set(range(self.sent - 5)) - set(self.came[1]))

    def longest_gap(self):
        """Of the wire: the time in which the sender or the receiver did not run is not its."""
        longest = 0
        came = sorted(self.came[1].items(), key=lambda one: one[1])
        for (a, since), (b, until) in zip(came, came[1:]):
            sent = self.sent_at[min(a, b):max(a, b) + 1]
            own = sum(max(0, later - earlier - 0.005) for earlier, later in zip(sent, sent[1:]))
            own += sum(min(until, end) - max(since, begin) for begin, end in self.pauses if begin < until and end > since)
            longest = max(longest, until - since - own)
        return longest

    def strangers(self, since=0.0):
        return sum(1 for when in self.came[2].values() if when > since)


def numbers_after(streams, moment):
    return [number for number, when in streams.came[1].items() if when > moment]


@pytest.fixture
def started(bridge, wire):
    def start(text, *options):
        running = bridge(text, *options, net=wire)
        running.wait_for(lambda: "forwarding" in running.said(), "the start")
        return running

    return start


def second(binary, sekisho, bridge_before, *options):
    """Another process on the same ports."""
    from conftest import Bridge
    return Bridge(
        binary, sekisho, bridge_before.network, bridge_before.policy.read_text(), bridge_before.folder, *options, wait=False)


# --- Killed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_killed(started, wire, binary, sekisho, action):
    """Why: a crash must not cost a tool its host."""
    running = started(policy(f'"{action}"'))
    streams = Streams(wire)
    time.sleep(0.3)
    killed = time.monotonic()
    running.kill()
    time.sleep(0.5)
    again = second(binary, sekisho, running)
    again.wait_until_up()
    back = time.monotonic()
    time.sleep(0.3)
    status = again.status()
    streams.finish()
    assert status["judging"]["now"] == "worker"
    # Bars: at most one ring's content lost, and traffic again within 100 ms. At this rate a ring is never full.
    assert len(streams.lost()) <= 60, streams.lost()
    assert streams.longest_gap() < 0.1
    assert streams.twice == 0
    if action == "kernel":
        assert streams.strangers() == 0
    else:
        # Without a worker everything passes: that is what was asked for, and nothing else.
        assert streams.strangers() > 200 and streams.strangers(since=back + 0.05) == 0
        assert min(streams.came[2].values()) > killed - 0.01
    # What nobody saw happen is told by the next process.
    assert "no worker judged (worker_dead) 1 time before this start" in again.said()
    episode = {e["cause"]: e for e in status["judging"]["episodes"]}["worker_dead"]
    assert episode["count"] == 1 and not episode["goes_on"] and 300 < episode["lasted_ms"] < 10_000
    again.stop()


def test_killed_and_closed(started, wire):
    """Why: whoever chose closed wants silence rather than an unjudged frame."""
    running = started(policy('"closed"'))
    streams = Streams(wire)
    time.sleep(0.3)
    running.kill()
    end = time.monotonic()
    time.sleep(0.5)
    streams.finish()
    assert len(streams.came[1]) > 100
    assert [when - end for when in streams.came[1].values() if when > end + 0.05] == []
    assert streams.strangers() == 0
    assert not wire.has_programs()


# --- Stopped, starved --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("idle", ("spin", "sleep"))
def test_a_process_that_stands_still(started, wire, action, idle):
    """Why: a debugger, a full disk or a swapped-out page stops a process as surely as a crash, and leaves its sockets."""
    running = started(policy(f'"{action}"'), "--idle", idle)
    streams = Streams(wire)
    time.sleep(0.3)
    running.process.send_signal(signal.SIGSTOP)
    pids = subprocess.run(["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGSTOP)
    stopped = time.monotonic()
    time.sleep(0.6)
    for pid in [*pids, running.process.pid]:
        os.kill(int(pid), signal.SIGCONT)
    woken = time.monotonic()
    running.wait_for(lambda: running.status()["judging"]["now"] == "worker" and not running.status()["judging"]["episodes"][-1]["goes_on"], "the worker")
    time.sleep(0.2)
    status = running.status()
    streams.finish()
    while_still = [when for when in streams.came[1].values() if stopped + 0.15 < when < woken]
    if action == "closed":
        assert while_still == []
    else:
        # 50 ms until it is noticed; what came in that time waits in the ring and goes out when the worker is back.
        assert len(while_still) > 100
        assert streams.longest_gap() < 0.25
        assert len(streams.lost()) == 0, streams.lost()
    assert streams.twice == 0
    if action != "open":
        assert streams.strangers() == 0
    episode = {e["cause"]: e for e in status["judging"]["episodes"]}["worker_dead"]
    assert episode["count"] == 1 and 400 < episode["lasted_ms"] < 3000
    assert "no worker judges (worker_dead)" in running.said() and "the workers judge again (worker_dead)" in running.said()
    assert running.stop() == 0


@contextlib.contextmanager
def one_thread_stopped(thread):
    """As a debugger stops it; the rest of its process goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(16, thread, None, None):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(17, thread, None, None)  # PTRACE_DETACH


@pytest.mark.parametrize("action", ACTIONS)
def test_a_worker_that_gets_nowhere(started, wire, action):
    """Why: a loop without end, or a processor that somebody else keeps: the process lives, and its worker does nothing."""
    running = started(policy(f'"{action}"'))
    streams = Streams(wire)
    time.sleep(0.3)
    worker = next(int(task.name) for task in pathlib.Path(f"/proc/{running.process.pid}/task").iterdir()
                  if (task / "comm").read_text().startswith("sekisho-w"))
    with one_thread_stopped(worker):
        stopped = time.monotonic()
        time.sleep(0.5)
        # The control side sees it while it lasts.
        running.wait_for(lambda: running.status()["judging"]["now"] == action, "the alarm")
        woken = time.monotonic()
    running.wait_for(lambda: running.status()["judging"]["now"] == "worker", "the worker")
    time.sleep(0.2)
    streams.finish()
    while_stuck = [when for when in streams.came[1].values() if stopped + 0.15 < when < woken]
    assert (while_stuck == []) if action == "closed" else len(while_stuck) > 100
    assert streams.twice == 0 and (action == "open" or streams.strangers() == 0)
    if action != "closed":
        assert streams.lost() == []


def test_killed_for_want_of_memory(started, wire, binary, sekisho):
    """Why: the kernel kills without asking, in the middle of an apply."""
    memory = pathlib.Path("/sys/fs/cgroup/memory")
    if not (memory / "memory.limit_in_bytes").exists():
        pytest.skip("needs the memory controller of cgroup v1")
    running = started(policy())
    group = memory / f"sekisho-{os.getpid()}"
    group.mkdir()
    try:
        (group / "tasks").write_text(str(running.process.pid))
        (group / "cgroup.procs").write_text(str(running.process.pid))
        (group / "memory.limit_in_bytes").write_text(str(4 << 20))
        streams = Streams(wire)
        time.sleep(0.2)
        many = "".join(f'[[allow]]\nid = "r{i}"\nfrom = "10.{i % 200}.{i // 200}.1"\nto = "10.0.0.2"\nservice = "tcp/1-60"\n' for i in range(20_000))
        assert running.apply(policy(rules=many)).returncode == 1
        assert running.wait_for_end() == -signal.SIGKILL
        died = time.monotonic()
        time.sleep(0.4)
        again = second(binary, sekisho, running)
        again.wait_until_up()
        time.sleep(0.2)
        streams.finish()
        assert len([when for when in streams.came[1].values() if died < when < died + 0.4]) > 100
        assert len(streams.lost()) <= 60 and streams.strangers() == 0 and streams.twice == 0
        again.stop()
    finally:
        time.sleep(0.1)
        group.rmdir()


# --- Replaced, stopped, taken off --------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_replaced_while_it_runs(started, wire, binary, sekisho, action):
    """Why: an upgrade must not need a maintenance window."""
    running = started(policy(f'"{action}"'))
    streams = Streams(wire)
    time.sleep(0.3)
    again = second(binary, sekisho, running, "--replace")
    assert running.wait_for_end() == 0
    again.wait_for(lambda: "forwarding" in again.said().split("making way")[-1], "the other's start")
    time.sleep(0.3)
    status = again.status()
    assert status["pid"] != running.process.pid and status["judging"]["now"] == "worker"
    streams.finish()
    assert streams.lost() == [] and streams.twice == 0
    if action == "kernel":
        assert streams.strangers() == 0
    again.stop()


def test_a_second_one_without_replace_is_refused(started, wire, binary, sekisho):
    """Why: the ports of a running bridge must not be taken from it by a slip."""
    running = started(policy())
    other = second(binary, sekisho, running, "--control", running.folder / "other")
    assert other.wait_for_end() == 1 and "--replace" in other.said()
    wire.a.send(frame(1, 7))
    assert wire.b.receive(1) and running.status()["judging"]["now"] == "worker"


def test_replace_is_for_the_same_ports_only(started, wire, binary, sekisho):
    """Why: whoever answers on the control socket may be the bridge of another bay."""
    running = started(policy())
    from conftest import Bridge
    wrong = Bridge(binary, sekisho, wire, policy(), running.folder, "--replace", inside="out0", outside="in0", wait=False)
    assert wrong.wait_for_end() == 1 and "has other ports" in wrong.said()
    wire.a.send(frame(1, 7))
    assert wire.b.receive(1) and running.status()["judging"]["now"] == "worker"
    assert running.process.poll() is None


def test_a_failed_start_gives_the_wire_back(started, wire, binary, sekisho):
    """Why: an upgrade that does not start must leave the tool as connected as it was."""
    running = started(policy())
    running.kill()
    streams = Streams(wire)
    time.sleep(0.2)
    # Its control socket cannot be made: what it had prepared by then is undone.
    other = second(binary, sekisho, running, "--control", "/nowhere/control")
    assert other.wait_for_end() == 1
    # And those that run out of descriptors at one step or another, before and after the wire is theirs.
    failed = set()
    for limit in range(20, 44, 2):
        starved = subprocess.run(
            ["prlimit", f"--nofile={limit}", "timeout", "2", "ip", "netns", "exec", wire.bridge, binary, "run", "--inside", "in0",
             "--outside", "out0", "--policy", running.policy, "--control", running.folder / "c2"],
            capture_output=True, text=True, timeout=30)
        if starved.returncode == 1:
            failed.add(starved.stderr.split("error: ")[-1].split(":")[0][:30])
    assert len(failed) >= 3, failed
    time.sleep(0.3)
    streams.finish()
    assert streams.lost() == [] and streams.strangers() == 0 and wire.has_programs(), failed


def test_privileges_are_given_up(started, wire):
    """Why: whoever takes the process over must not get the machine with it."""
    running = started(policy())
    for task in pathlib.Path(f"/proc/{running.process.pid}/task").iterdir():
        fields = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        kept = int(fields["CapEff"].strip(), 16)
        is_worker = fields["Name"].strip().startswith("sekisho-w")
        assert fields["NoNewPrivs"].strip() == "1", fields["Name"]
        # NET_ADMIN, NET_RAW, BPF, PERFMON, DAC_READ_SEARCH; never SYS_ADMIN.
        if is_worker:
            assert fields["Seccomp"].strip() == "2"
        assert kept == 0 if is_worker else kept & ~(1 << 2 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39) == 0, (fields["Name"], hex(kept))
    assert all(worker["confined"] for worker in running.status()["workers"])
    # What it still must be able to do: a policy of another size and another on_failure.
    more = "".join(f'[[allow]]\nid = "r{i}"\nfrom = "10.1.{i // 250}.{i % 250 + 1}"\nto = "10.0.0.2"\nservice = "udp/9"\n' for i in range(4000))
    assert running.apply(policy(rules=more)).returncode == 0
    assert running.apply(policy('"closed"')).returncode == 0 and running.apply(policy()).returncode == 0
    wire.a.send(frame(1, 7))
    assert wire.b.receive(1)


def test_stopped_and_taken_off(started, wire, sekisho):
    """Why: stopping the service must not stop the tool, and there must be a way to stop it all the same."""
    before = wire.links()
    running = started(policy())
    streams = Streams(wire)
    time.sleep(0.3)
    assert running.stop() == 0
    time.sleep(0.3)
    streams.finish()
    assert streams.lost() == [] and streams.strangers() == 0 and streams.twice == 0
    assert wire.has_programs()
    prefix = ["ip", "netns", "exec", wire.bridge]
    off = sekisho("detach", "--inside", "in0", "--outside", "out0", prefix=prefix)
    assert off.returncode == 0, off.stderr
    assert not wire.has_programs()
    wire.b.drain()
    wire.a.send(frame(1, 8))
    assert wire.b.receive(1, timeout=0.5) == []
    after = wire.links()
    for port in ("in0", "out0"):
        assert after[port]["promiscuity"] == before[port]["promiscuity"] and after[port]["flags"] == before[port]["flags"]
    assert sekisho("detach", "--inside", "in0", "--outside", "out0", prefix=prefix).returncode == 1


def test_detach_leaves_a_running_bridge_alone(started, wire, sekisho):
    running = started(policy())
    done = sekisho("detach", "--inside", "in0", "--outside", "out0", prefix=["ip", "netns", "exec", wire.bridge])
    assert done.returncode == 1 and "stop it first" in done.stderr
    assert running.status()["judging"]["now"] == "worker"
    wire.a.send(frame(1, 7))
    assert wire.b.receive(1)


def test_what_was_killed_is_put_back_by_the_next_end(started, wire, binary, sekisho):
    """Why: after kill -9 the ports' settings are still changed; the next run must not take that for how they were."""
    def ipv6():
        return sh(f"ip netns exec {wire.bridge} sysctl -n net.ipv6.conf.in0.disable_ipv6").strip()

    sh(f"ip netns exec {wire.bridge} sysctl -qw net.ipv6.conf.in0.disable_ipv6=0")
    running = started(policy('"closed"'))
    assert ipv6() == "1"
    running.kill()
    assert ipv6() == "1"
    again = second(binary, sekisho, running)
    again.wait_until_up()
    again.stop()
    assert ipv6() == "0"


def test_apply_changes_what_happens(started, wire):
    """Why: it is part of the policy, and a policy changes while the bridge runs."""
    running = started(policy('"closed"'))
    assert running.apply(policy('"kernel"')).returncode == 0
    assert running.status()["judging"]["on_failure"] == {"starting": "kernel", "worker_dead": "kernel", "stopping": "kernel"}
    assert running.apply(policy('{ worker_dead = "open", deadline_ms = 200 }')).returncode == 0
    judging = running.status()["judging"]
    assert judging["on_failure"] == {"starting": "closed", "worker_dead": "open", "stopping": "closed"} and judging["deadline_ms"] == 200
    assert running.apply(policy('"closed"')).returncode == 0
    running.kill()
    assert not wire.has_programs()


@pytest.mark.parametrize("text, words", [
    ('"opne"', "did you mean"), ('{ worker_deed = "open" }', "worker_deed"), ('{ deadline_ms = 5 }', "20 to 60000"), ("7", "string"),
])
def test_mistakes_are_explained(sekisho, folder, text, words):
    file = folder / "p.toml"
    file.write_text(policy(text))
    done = sekisho("check", file)
    assert done.returncode == 1 and words in done.stdout + done.stderr, done.stdout + done.stderr


# --- The kernel alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", ("spin", "hybrid"))
def test_the_kernel_alone(started, wire, idle):
    """Why: ports without zero copy carry more that way; what is allowed and counted must be the same."""
    running = started(policy('"kernel"', 'datapath = "kernel"', '[[allow]]\nid = "more"\nfrom = "10.0.0.1"\nto = "10.0.0.0/28"\nservice = "udp/3"\n'), "--idle", idle)
    allowed = [frame(1, n) for n in range(50)] + [frame(3, n) for n in range(20)]
    denied = [frame(2, n) for n in range(30)]
    syn = bytes(ether() / IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=7, dport=9, flags="S"))
    arp = bytes(ether() / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
    wire.a.send(*allowed, *denied, arp)
    got = wire.b.receive(quiet=0.5)
    assert sorted(got) == sorted(allowed + [arp])
    wire.b.send(syn)
    assert wire.a.receive(1, timeout=0.3) == []
    status = running.status()
    assert status["judging"]["now"] == "kernel" and status["judging"]["datapath"] == "kernel"
    assert running.denied() == {"not-in-policy": 30, "syn-from-server": 1}
    assert running.hits() == {"kept": 50, "more": 20}
    assert status["directions"]["outside_to_inside"]["forwarded"]["frames"] == 71
    # And back.
    assert running.apply(policy()).returncode == 0
    wire.a.send(frame(1, 1))
    assert wire.b.receive(1)
    assert running.status()["judging"]["now"] == "worker"


# --- A real connection -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connection(net):
    """A TCP connection from the outer host to the inner one, with a server that answers every line."""
    for host, address in ((net.a, "10.0.0.1"), (net.b, "10.0.0.2")):
        sh(f"ip -n {host.netns} addr add {address}/24 dev {host.port}")
    with inside_netns(net.b.netns):
        server = socket.create_server(("10.0.0.2", 7))

    def serve():
        peer, _ = server.accept()
        while data := peer.recv(1 << 16):
            peer.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with inside_netns(net.a.netns):
        client = socket.socket()
        client.settimeout(5)
        client.connect(("10.0.0.2", 7))
    try:
        yield client
    finally:
        client.close()
        server.close()


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_a_connection_lives_through_it_all(started, wire, binary, sekisho, action):
    """Why: HSMS is one TCP connection that lives for days; losing it stops a tool."""
    running = started(policy(f'"{action}"'))
    with connection(wire) as client:
        slowest, number = 0.0, 0

        def talk(seconds):
            nonlocal slowest, number
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                line, begin = b"%08d" % number, time.monotonic()
                client.sendall(line)
                got = b""
                while len(got) < len(line):
                    some = client.recv(64)
                    assert some, "the connection was lost"
                    got += some
                assert got == line
                slowest = max(slowest, time.monotonic() - begin)
                number += 1

        talk(0.2)
        again = second(binary, sekisho, running, "--replace")
        talk(1.5)
        assert running.wait_for_end() == 0
        again.kill()
        talk(0.5)
        third = second(binary, sekisho, again)
        talk(1.5)
        third.wait_until_up()
        assert third.stop() == 0
        talk(0.3)
        assert number > 100
        # A lost segment is sent again after 200 ms, and then after 400.
        assert slowest < 1.0, slowest


# --- A real HSMS session -----------------------------------------------------------------------------------------

STACKS = ROOT / "Scripts" / "demo.d"


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_an_hsms_session_lives_through_it_all(started, wire, binary, sekisho, folder, action):
    """Why: it is what the box is for: one session between factory and tool, and a tool that stops when it goes."""
    for host, address in ((wire.a, "10.0.0.1"), (wire.b, "10.0.0.2")):
        sh(f"ip -n {host.netns} addr add {address}/24 dev {host.port}")
        sh(f"ip -n {host.netns} link set lo up")
    running = started(policy(f'"{action}"').replace("tcp/7", "hsms"))
    results = {}

    def program(name, host, *arguments):
        results[name] = folder / f"{name}.json"
        with open(folder / f"{name}.log", "wb") as log:
            return subprocess.Popen(
                ["ip", "netns", "exec", host.netns, ROOT / ".venv/bin/python", STACKS / f"{name}.py", "--result", results[name], *arguments],
                stdout=log, stderr=log)

    def told(name):
        try:
            return json.loads(results[name].read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    tool = program("hsms_tool", wire.b, "--address", "10.0.0.2")
    time.sleep(1.5)
    factory = program("hsms_host", wire.a, "--tool", "10.0.0.2")
    try:
        running.wait_for(lambda: told("hsms_host").get("answered", 0) >= 5, "the HSMS session", timeout=30)
        again = second(binary, sekisho, running, "--replace")
        assert running.wait_for_end() == 0
        again.wait_for(lambda: "forwarding" in again.said().split("making way")[-1], "the other's start")
        time.sleep(0.5)
        again.kill()
        time.sleep(1)
        third = second(binary, sekisho, again)
        third.wait_until_up()
        third.process.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        third.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        assert third.stop() == 0
        before = told("hsms_host")["answered"]
        time.sleep(1.5)
        after = told("hsms_host")
        assert after["answered"] > before, after
        # Never selected anew, nothing unanswered but what is under way.
        assert (after["connected"], after["disconnected"], after["selected"]) == (1, 0, 1), after
        assert after["sent"] - after["answered"] <= 1, after
    finally:
        for one in (factory, tool):
            one.terminate()
            one.wait(10)
