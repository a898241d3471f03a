"""Learning from live traffic: what was said is in the history, whatever happens to the process, and the wire does not notice."""

import ctypes
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import stat
import threading
import time

import pytest

from conftest import inside_netns, sh
from frames import ICMP, IP, UDP, ether

HOST, TOOL, NOBODY = "10.0.0.1", "10.0.0.2", "10.0.0.9"

POLICY = f"""
version = 1
name = "learn"
[[allow]]
id = "link"
from = "{HOST}"
to = "{TOOL}"
service = ["tcp/5000", "udp/9"]
"""


@pytest.fixture
def stacks(network):
    """Two hosts with addresses, and the MAC address of a third that is not there."""
    net = network()
    for host, address in ((net.a, HOST), (net.b, TOOL)):
        sh(f"ip -n {host.netns} addr add {address}/24 dev {host.port}")
        sh(f"ip -n {host.netns} link set lo up")
    sh(f"ip -n {net.a.netns} neigh add {NOBODY} lladdr 02:00:00:00:00:99 dev {net.a.port}")
    return net


def open_socket(host, kind=socket.SOCK_STREAM, protocol=0):
    with inside_netns(host.netns):
        made = socket.socket(socket.AF_INET, kind, protocol)
    made.settimeout(5)
    return made


class Server:
    """Echoes what it is sent, over TCP and UDP, on one port."""

    def __init__(self, host, address, port):
        self.sockets = [open_socket(host), open_socket(host, socket.SOCK_DGRAM)]
        for one in self.sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
            one.settimeout(None)
        self.sockets[0].listen(64)
        threading.Thread(target=self.serve, daemon=True).start()
        threading.Thread(target=self.answer, daemon=True).start()

    def serve(self):
        while True:
            try:
                with self.sockets[0].accept()[0] as one:
                    one.sendall(one.recv(100))
            except OSError:
                return

    def answer(self):
        while True:
            try:
                self.sockets[1].sendto(*self.sockets[1].recvfrom(100))
            except OSError:
                return

    def close(self):
        for one in self.sockets:
            one.close()


def talk(host, address, port):
    with open_socket(host) as one:
        one.connect((address, port))
        one.sendall(b"hello")
        assert one.recv(100) == b"hello"


def ask(host, address, port, is_answered=True):
    with open_socket(host, socket.SOCK_DGRAM) as one:
        one.sendto(b"hello", (address, port))
        if is_answered:
            assert one.recv(100) == b"hello"


def learnt(sekisho, state):
    """Conversations by client, server and service."""
    done = sekisho("baseline", "--state", state, "--json")
    assert done.returncode == 0, done.stderr
    return {(one["client"], one["server"], one["service"]): one for one in json.loads(done.stdout)["conversations"]}


def counts(one):
    return one["connections"], one["answered"], one["refused"]


def ports_now(net):
    """Everything of the bridge's ports that somebody could have changed."""
    links = net.links()
    for link in links.values():
        link.pop("stats64", None)
    return links, [sh(f"ip netns exec {net.bridge} ethtool -k {port}") for port in ("in0", "out0")]


def test_what_was_said_is_learnt(sekisho, bridge, stacks, folder):
    """Why: a rule is made of each of these; a side that is wrong allows the opposite."""
    state = folder / "state" / "bay"
    running = bridge(POLICY, "--mode", "learn", "--state", state, net=stacks)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    servers = [Server(stacks.b, TOOL, 5000), Server(stacks.a, HOST, 6000)]
    for _ in range(3):
        talk(stacks.a, TOOL, 5000)
    talk(stacks.b, HOST, 6000)
    with pytest.raises(ConnectionRefusedError):
        talk(stacks.a, TOOL, 5001)
    with open_socket(stacks.a) as one, pytest.raises(TimeoutError):
        one.settimeout(0.3)
        one.connect((NOBODY, 102))
    ask(stacks.a, TOOL, 5000)
    ask(stacks.b, HOST, 6000)
    ask(stacks.a, NOBODY, 514, is_answered=False)
    with open_socket(stacks.a, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
        for _ in range(2):
            one.sendto(bytes(ICMP(type=8, id=7)), (TOOL, 0))
            assert one.recv(100)
    tcp = {
        (HOST, TOOL, "tcp/5000"): (3, 3, 0), (TOOL, HOST, "tcp/6000"): (1, 1, 0), (HOST, TOOL, "tcp/5001"): (1, 0, 1),
        (HOST, NOBODY, "tcp/102"): (1, 0, 0)}
    # Whoever asks meanwhile is answered; a refusal is one when its connection is over.
    running.wait_for(lambda: tcp.keys() <= learnt(sekisho, state).keys(), "what was said")
    now = learnt(sekisho, state)
    assert {key: counts(now[key])[:2] for key in tcp} == {key: value[:2] for key, value in tcp.items()}
    status = running.status()["recording"]
    assert status["file"] == str(state / "history.sqlite") and "error" not in status and status["lost_frames"] == 0
    assert status["records"] > 20 and status["conversations"] >= len(tcp) and status["last_written"]
    text = sekisho("status", "--control", running.socket).stdout
    assert f"recording to {state}/history.sqlite" in text and "not recorded" not in text
    assert stat.S_IMODE(state.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o640}
    running.stop()
    for server in servers:
        server.close()
    after = learnt(sekisho, state)
    assert {key: counts(one) for key, one in after.items()} == {
        **tcp, (HOST, TOOL, "udp/5000"): (1, 1, 0), (TOOL, HOST, "udp/6000"): (1, 1, 0), (HOST, NOBODY, "udp/514"): (1, 0, 0),
        (HOST, TOOL, "icmp/echo"): (1, 1, 0)}
    assert after[HOST, TOOL, "icmp/echo"]["frames"] == 4
    assert all(after[key]["side_known"] == "seen" for key in tcp)


def test_what_was_denied_is_learnt_as_denied(sekisho, bridge, stacks, folder):
    """Why: what somebody tried is what the owner must see, and no reason for a rule."""
    running = bridge(POLICY, "--state", folder / "state", net=stacks)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    server = Server(stacks.b, TOOL, 5000)
    talk(stacks.a, TOOL, 5000)
    with open_socket(stacks.a) as one, pytest.raises(TimeoutError):
        one.settimeout(0.3)
        one.connect((TOOL, 22))
    running.stop()
    server.close()
    denied = learnt(sekisho, folder / "state")
    assert counts(denied[HOST, TOOL, "tcp/22"]) == (1, 0, 0) and denied[HOST, TOOL, "tcp/22"]["denied"] == 1
    assert "unanswered" in denied[HOST, TOOL, "tcp/22"]["review"]
    assert counts(denied[HOST, TOOL, "tcp/5000"]) == (1, 1, 0) and denied[HOST, TOOL, "tcp/5000"]["denied"] == 0


def test_a_new_tool_learns_beside_those_that_are_enforced(sekisho, bridge, stacks, folder):
    """Why: a bay must not go back to learning because a tool was added to it."""
    NEW = "10.0.0.3"
    sh(f"ip -n {stacks.b.netns} addr add {NEW}/24 dev {stacks.b.port}")
    state, policy = folder / "state", POLICY + f'[devices.new]\naddresses = ["{NEW}"]\nmode = "learn"\n'
    running = bridge(policy, "--mode", "enforce", "--state", state, net=stacks)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    servers = [Server(stacks.b, TOOL, 7000), Server(stacks.b, NEW, 7000)]
    with open_socket(stacks.a) as one, pytest.raises(TimeoutError):
        one.settimeout(0.3)
        one.connect((TOOL, 7000))
    talk(stacks.a, NEW, 7000)
    ask(stacks.a, NEW, 7000)
    hits = {rule["id"]: rule["frames"] for rule in running.status()["rules"]}
    assert hits["learn:new:server"] + hits["learn:new:client"] >= 10 and hits["link"] == 0
    running.stop()
    for server in servers:
        server.close()
    proposed = sekisho("propose", "--state", state).stdout
    assert f'addresses = ["{NEW}"]' in proposed and "tcp/7000" in proposed and f'"{TOOL}"' not in proposed


@pytest.mark.alone
def test_a_killed_process_has_lost_a_second(sekisho, bridge, stacks, folder):
    """Why: what took weeks to learn must not hang on how the process ends; and the next one goes on from there."""
    state = folder / "state"
    server = Server(stacks.b, TOOL, 5000)
    running = bridge(POLICY, "--mode", "learn", "--state", state, net=stacks)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    begun = []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        begun.append(time.monotonic())
        talk(stacks.a, TOOL, 5000)
        time.sleep(0.02)
    running.kill()
    killed = time.monotonic()
    key = (HOST, TOOL, "tcp/5000")
    first = learnt(sekisho, state)[key]["connections"]
    # The machine may be busy with other things for a while.
    assert len([at for at in begun if at < killed - 1.5]) <= first <= len(begun)
    running = bridge(POLICY, "--mode", "learn", "--state", state, net=stacks)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    assert running.status()["recording"]["conversations"] >= 1
    talk(stacks.a, TOOL, 5000)
    running.stop()
    server.close()
    assert learnt(sekisho, state)[key]["connections"] == first + 1


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


class Halted:
    """One thread of a process stands still."""

    def __init__(self, process, name):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        self.thread = next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name)
        self.libc = libc

    def __enter__(self):
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            assert self.libc.ptrace(request, self.thread, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(self.thread, WALL)
        return self

    def __exit__(self, *_):
        assert self.libc.ptrace(PTRACE_DETACH, self.thread, None, None) == 0


def test_records_that_find_no_room_are_counted(sekisho, bridge, network, folder):
    """Why: a flood of new flows, or a control side that stands still, must cost the history something, and the wire nothing."""
    net = network()
    running = bridge(POLICY, "--state", folder / "state", net=net)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    count = 40_000
    frame = bytes(ether() / IP(src=HOST, dst=TOOL) / UDP(sport=1, dport=9, chksum=0) / bytes(20))
    with Halted(running.process, "sekisho-record"):
        for start in range(0, count, 1000):
            frames = [frame[:34] + (number + 1).to_bytes(2, "big") + frame[36:] for number in range(start, start + 1000)]
            net.a.send(*frames)
            assert net.b.receive(1000) == frames
        status = running.status()
        assert status["recording"]["lost_frames"] > 0
        assert status["directions"]["outside_to_inside"]["forwarded"]["frames"] == count
    running.wait_for(lambda: "frames are not recorded" in running.said(), "a word of it")
    lost = running.status()["recording"]["lost_frames"]
    assert "frames not recorded" in sekisho("status", "--control", running.socket).stdout
    running.stop()
    assert learnt(sekisho, folder / "state")[HOST, TOOL, "udp/9"]["frames"] + lost == count


def test_a_full_disk_holds_nobody_up(sekisho, bridge, stacks, folder):
    """Why: the history shares its disk with others."""
    place = folder / "disk"
    place.mkdir()
    sh(f"mount -t tmpfs -o size=16m tmpfs {place}")
    try:
        server = Server(stacks.b, TOOL, 5000)
        running = bridge(POLICY, "--mode", "learn", "--state", place / "state", net=stacks)
        running.wait_for(lambda: "forwarding" in running.said(), "the start")
        talk(stacks.a, TOOL, 5000)
        running.wait_for(lambda: running.status()["recording"].get("last_written"), "the first writing")
        with open(place / "ballast", "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        made = 1

        def fails():
            nonlocal made
            talk(stacks.a, TOOL, 5000)
            made += 1
            return "error" in running.status()["recording"]

        running.wait_for(fails, "the disk to be full", timeout=60)
        assert "ALARM" in sekisho("status", "--control", running.socket).stdout
        for _ in range(10):
            talk(stacks.a, TOOL, 5000)
            time.sleep(0.3)
        (place / "ballast").unlink()
        running.wait_for(lambda: "error" not in running.status()["recording"], "it to be written again")
        assert running.said().count("is the disk full?") == 1 and "written again" in running.said()
        running.stop()
        server.close()
        assert learnt(sekisho, place / "state")[HOST, TOOL, "tcp/5000"]["connections"] == made + 10
    finally:
        sh(f"umount -l {place}")


def damaged(state):
    (state / "history.sqlite").write_bytes(b"SQLite format 3\0" + b"\x5a" * 8000)
    return "damaged"


def of_another_version(state):
    with sqlite3.connect(state / "history.sqlite") as database:
        database.executescript("PRAGMA application_id = 0x534B5348; PRAGMA user_version = 99; CREATE TABLE t (x)")
    return "version 99"


def of_another_program(state):
    with sqlite3.connect(state / "history.sqlite") as database:
        database.executescript("CREATE TABLE t (x)")
    return "another program"


def a_file(state):
    shutil.rmtree(state)
    state.write_text("no directory")
    return "making the state directory"


def of_another_user(state):
    """Root gives up the right to write where others' rights say no: what cannot be written later must fail at once."""
    os.chown(state, 65534, 65534)
    return "write"


def with_a_history_of_another_user(state):
    (state / "history.sqlite").touch(0o600)
    os.chown(state / "history.sqlite", 65534, 65534)
    return "open"


def nowhere(state):
    state.rmdir()
    state.symlink_to("/proc/nowhere")
    return "making the state directory"


@pytest.mark.parametrize(
    "spoil", [damaged, of_another_version, of_another_program, a_file, of_another_user, with_a_history_of_another_user, nowhere])
def test_a_history_that_cannot_be_written_keeps_the_bridge_from_starting(bridge, network, folder, spoil):
    """Why: who learns for weeks and finds nothing has lost weeks."""
    net = network()
    state = folder / "state"
    state.mkdir()
    complaint = spoil(state)
    before, files = ports_now(net), {path: path.read_bytes() for path in state.glob("*")}
    running = bridge(POLICY, "--mode", "learn", "--state", state, net=net, wait=False)
    assert running.wait_for_end() == 1
    said = running.said()
    assert "error: " in said and complaint in said and str(state) in said, said
    assert "crash" not in said.lower() and not running.socket.exists()
    assert ports_now(net) == before and not net.has_programs()
    assert {path: path.read_bytes() for path in state.glob("*")} == files


def test_learning_needs_a_place(sekisho, bridge, network):
    """Why: a week in learn mode that recorded nothing is a week lost."""
    done = sekisho("run", "--inside", "a", "--outside", "b", "--policy", "p", "--mode", "learn")
    assert done.returncode == 64 and "--state" in done.stderr
    # The policy's own mode may be changed while it runs: it is said there.
    running = bridge('mode = "learn"\n' + POLICY, net=network())
    running.wait_for(lambda: "nothing is recorded" in running.said(), "a warning")
    assert "recording" not in running.status()
    done = running.apply('mode = "learn"\n' + POLICY)
    assert done.returncode == 0 and "nothing is recorded" in done.stdout
