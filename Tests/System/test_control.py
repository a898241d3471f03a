"""The control socket: whatever a client does, the bridge goes on and other clients get their answer."""

import grp
import json
import os
import resource
import socket
import stat
import struct
import subprocess
import time

import pytest

from conftest import sh
from frames import IP, UDP, ether

POLICY = """
version = 1
[[allow]]
id = "one"
from = "10.0.0.1"
to = "10.0.0.2"
service = "udp/1"
"""


@pytest.fixture
def running(bridge, network):
    started = bridge(POLICY, net=network())
    yield started
    # Whatever the test did.
    number = int(time.monotonic() * 1000) & 0xFFFF
    frame = bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=9, dport=1) / b"still here")
    started.network.a.send(frame)
    assert started.network.b.receive(1) == [frame], "it does not forward any more"
    assert started.status()["policy"]["version"] == 1


def connect(running):
    client = socket.socket(socket.AF_UNIX)
    # Waits for its turn, but not for ever; with settimeout() connect would not wait at all.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 20, 0))
    client.connect(str(running.socket))
    client.settimeout(30)
    return client


def ask(running, data):
    """Sends all, says that it is all, and reads the answer."""
    with connect(running) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            return b""
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_the_socket_is_for_its_owner_only(running):
    """Why: who can write to it can let anything through."""
    mode = os.stat(running.socket).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_a_group_may_use_the_socket(binary, sekisho, bridge, network, folder):
    """Why: who looks at status need not be root."""
    running = bridge(POLICY, "--control-group", "nogroup")
    status = os.stat(running.socket)
    assert stat.S_IMODE(status.st_mode) == 0o660 and status.st_gid == grp.getgrnam("nogroup").gr_gid
    # A process of that group, and of no other right, is answered; one of another is not.
    for path in (folder, running.folder):
        path.chmod(0o755)
    for group, code in (("nogroup", 0), ("games", 1)):
        done = sekisho("status", "--json", "--control", running.socket, prefix=("setpriv", "--reuid", "nobody", "--regid", group, "--clear-groups"))
        assert done.returncode == code, done.stderr
    # Asking and applying is theirs; ending the bridge is not.
    ports = [int(sh(f"ip netns exec {running.network.bridge} cat /sys/class/net/{port}/ifindex")) for port in ("in0", "out0")]
    ask = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(running.socket)!r}); " \
          f"s.sendall(b'{{\"command\":\"makeWay\",\"ports\":{ports}}}'); s.shutdown(1); print(s.recv(9999).decode())"
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "/usr/bin/python3", "-c", ask], capture_output=True, text=True)
    assert "only root" in done.stdout, done
    assert running.status()["mode"] == "enforce"
    done = subprocess.run([binary, "run", "--inside", "in0", "--outside", "out0", "--policy", running.policy, "--control", folder / "c2",
                           "--control-group", "no-such-group"], capture_output=True, text=True)
    assert done.returncode == 1 and "no-such-group" in done.stderr and "groupadd" in done.stderr


def test_status_over_the_socket(running):
    """Why: what the tests below send differs from this only in what is wrong with it."""
    answer = json.loads(ask(running, b'{"command":"status"}'))
    assert answer["status"]["policy"]["version"] == 1


@pytest.mark.parametrize("data", [
    b"", b"\n", b"garbage", b"\0" * 1000, bytes(range(256)) * 100, b"{", b'{"command":', b'{"command":"explode"}', b'{"command":5}',
    b'"status"', b"[]", b"null", b'{"command":"apply"}', b'{"command":"apply","file":"x"}', b'{"command":"apply","file":"x","text":5}',
    b'{"command":"apply","file":"x","text":"\\ud800"}', b'{"command":"status"}{"command":"status"}', b"GET / HTTP/1.1\r\n\r\n",
    b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"command":"' + b"a" * 2_000_000 + b'"}',
], ids=lambda data: data[:40].decode("latin-1").encode("unicode_escape").decode() or "nothing")
def test_requests_that_are_none(running, data):
    """Why: a monitoring script with a mistake must not take the line down."""
    answer = ask(running, data)
    if answer:
        assert "failure" in json.loads(answer) and json.loads(answer)["failure"]["message"]
        assert "status" not in json.loads(answer) and "applied" not in json.loads(answer)


def test_clients_that_go_away(running):
    """Why: a client may be killed at any moment, also before it has read a byte of the answer."""
    for data, abrupt in ((b"", False), (b'{"comm', False), (b'{"command":"status"}', True), (b'{"command":"status"}', False)) * 20:
        client = connect(running)
        client.sendall(data)
        if abrupt:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert running.status()["mode"] == "enforce"


def test_slow_clients_hold_nobody_up(running):
    """Why: one hung client must not hide the bridge from everybody else."""
    slow = [connect(running) for _ in range(50)]
    for number, client in enumerate(slow):
        client.sendall(b'{"command":"status"'[:number % 19])
    try:
        for _ in range(5):
            assert running.status()["mode"] == "enforce"
        done = running.apply("version = 1\nnonsense = 1\n")
        assert done.returncode == 1 and "nonsense" in done.stderr
    finally:
        for client in slow:
            client.close()


def test_more_clients_than_file_descriptors(running):
    """Why: 1,024 open files is the usual limit; clients beyond it may be turned away, but not for good."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = min(hard, 4096) if hard != resource.RLIM_INFINITY else 4096
    if more < 1500:
        pytest.skip(f"needs more than {hard} open files")
    clients = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
        for _ in range(1100):
            client = socket.socket(socket.AF_UNIX)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 500_000))
            clients.append(client)
            try:
                client.connect(str(running.socket))
            except OSError:
                break
        assert len(clients) > 100, "turned away too early to test anything"
        frame = bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=1) / b"meanwhile")
        running.network.a.send(frame)
        assert running.network.b.receive(1) == [frame]
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    running.wait_for(lambda: running.sekisho("status", "--control", running.socket).returncode == 0, "an answer")


def test_many_clients_at_once(running):
    """Why: everybody looks at the status when something is wrong."""
    clients = [connect(running) for _ in range(100)]
    for client in clients:
        client.sendall(b'{"command":"status"}')
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        assert json.loads(answer)["status"]["mode"] == "enforce"
        client.close()


def test_a_request_without_end(running):
    """Why: a client that pipes the wrong file into the socket must not eat the machine's memory."""
    before = running.status()["resident_bytes"]
    with connect(running) as client:
        try:
            for _ in range(64):
                client.sendall(b" " * (1 << 20))
            during = running.status()["resident_bytes"]
        except (BrokenPipeError, ConnectionResetError):
            during = before
    assert during - before < 512 << 20
    assert running.status()["mode"] == "enforce"
