"""What has gone before: replies, handshakes, windows, fragments and companions, with real stacks and with forged frames."""

import os
import socket
import subprocess
import threading
import time

import pytest

from conftest import inside_netns, sh
from frames import ICMP, IP, TCP, UDP, Raw, ether

HOST, TOOL = "10.0.0.1", "10.0.0.2"
# How long after a start, and after a request, replies pass; short, so that a test need not wait.
REPLY_S = 1


def policy(state="", rule="", service='["tcp/5000", "udp/53", "icmp/echo"]', top="", more=""):
    return f"""
version = 1
name = "state"
{top}
[state]
reply_s = {REPLY_S}
{state}
[[allow]]
id = "link"
from = "{HOST}"
to = "{TOOL}"
service = {service}
{rule}
{more}"""


@pytest.fixture
def started(bridge, network):
    """A bridge whose time of grace is over; host A is the client."""

    def start(text, net=None, **options):
        running = bridge(text, net=net or network(), **options)
        running.wait_for(lambda: "forwarding" in running.said(), "the start")
        time.sleep(REPLY_S + 0.3)
        return running

    return start


@pytest.fixture
def stacks(network):
    """Two hosts with addresses: real connections between them."""
    net = network()
    for host, address in ((net.a, HOST), (net.b, TOOL)):
        sh(f"ip -n {host.netns} addr add {address}/24 dev {host.port}")
        sh(f"ip -n {host.netns} link set lo up")
    return net


def there(number=0, sport=4000, **tcp):
    return bytes(ether() / IP(src=HOST, dst=TOOL, id=number) / TCP(sport=sport, dport=5000, **tcp))


def back(number=0, dport=4000, **tcp):
    return bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src=TOOL, dst=HOST, id=number) / TCP(sport=5000, dport=dport, **tcp))


def crosses(sender, receiver, frame):
    receiver.drain()
    sender.send(frame)
    return frame in receiver.receive(quiet=0.15, timeout=1)


def test_replies_need_a_request(started):
    running = started(policy())
    a, b = running.network.a, running.network.b
    ask = bytes(ether() / IP(src=HOST, dst=TOOL) / UDP(sport=4000, dport=53) / Raw(b"question"))
    answer = bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src=TOOL, dst=HOST) / UDP(sport=53, dport=4000) / Raw(b"answer"))
    echo = bytes(ether() / IP(src=HOST, dst=TOOL) / ICMP(type=8, id=7, seq=1))
    reply = bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src=TOOL, dst=HOST) / ICMP(type=0, id=7, seq=1))
    for request, response in ((ask, answer), (echo, reply)):
        assert not crosses(b, a, response)
        assert crosses(a, b, request) and crosses(b, a, response)
        time.sleep(REPLY_S + 0.3)
        assert not crosses(b, a, response)
    assert running.denied() == {"reply-unasked": 4}
    assert running.status()["flows"]["now"] <= 2


def test_after_a_start_there_is_grace(bridge, network):
    """Why: a restart must not cost a tool the answer to what it asked before."""
    running = bridge(policy().replace(f"reply_s = {REPLY_S}", "reply_s = 30"), net=network())
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    answer = bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src=TOOL, dst=HOST) / UDP(sport=53, dport=4000) / Raw(b"answer"))
    assert crosses(running.network.b, running.network.a, answer)
    assert crosses(running.network.b, running.network.a, back(flags="SA", seq=1, ack=2))


def test_a_syn_ack_answers_a_syn(started):
    running = started(policy())
    a, b = running.network.a, running.network.b
    assert not crosses(b, a, back(flags="SA", seq=9, ack=1_000_001))
    assert crosses(a, b, there(flags="S", seq=1_000_000))
    assert not crosses(b, a, back(flags="SA", seq=9, ack=1_000_002))
    assert crosses(b, a, back(flags="SA", seq=9, ack=1_000_001))
    assert running.denied() == {"syn-ack-unasked": 2}


def test_strict_denies_what_does_not_fit(started):
    running = started(policy('tcp = "strict"'))
    a, b = running.network.a, running.network.b
    # Of no connection: nothing that only a forger sends.
    assert not crosses(b, a, back(flags="RA", seq=9, ack=1_000_001))
    assert crosses(a, b, there(flags="S", seq=1_000_000))
    assert crosses(b, a, back(flags="SA", seq=2_000_000, ack=1_000_001))
    assert crosses(a, b, there(1, flags="A", seq=1_000_001, ack=2_000_001))
    for number, frame in enumerate((
            back(2, flags="PA", seq=2_200_001, ack=1_000_001), back(3, flags="PA", seq=1_800_001, ack=1_000_001),
            back(4, flags="PA", seq=2_000_001, ack=1_005_001), back(5, flags="PA", seq=2_000_001, ack=900_001),
            back(6, flags="R", seq=2_000_002), back(7, flags="R", seq=0), there(8, flags="R", seq=1_000_000), there(9, flags="PA", seq=1_070_001, ack=2_000_001))):
        sender, receiver = (a, b) if frame[26:30] == bytes([10, 0, 0, 1]) else (b, a)
        assert not crosses(sender, receiver, frame), f"frame {number}"
    assert crosses(b, a, back(10, flags="PA", seq=2_000_001, ack=1_000_001))
    assert crosses(b, a, back(11, flags="R", seq=2_000_001))
    assert running.denied() == {"tcp-untracked": 1, "tcp-window": 5, "tcp-reset": 3}


def test_a_rule_may_refuse_mid_stream(started):
    running = started(policy("", "midstream = false"))
    a, b = running.network.a, running.network.b
    for frame, (sender, receiver) in ((there(flags="PA", seq=1, ack=1), (a, b)), (back(flags="PA", seq=1, ack=1), (b, a))):
        assert not crosses(sender, receiver, frame)
    assert running.denied() == {"tcp-untracked": 2}
    # Without the key they pass.
    assert running.apply(policy()).returncode == 0
    assert crosses(a, b, there(1, flags="PA", seq=1, ack=1))
    assert running.status()["flows"]["picked_up"] == 1


def test_a_revoked_rule_has_its_flows_cut(started):
    """Why: what was revoked, and allowed again later, is another permission."""
    other = '[[allow]]\nid = "other"\nfrom = "10.0.0.9"\nto = "10.0.0.8"\nservice = "tcp/1"'
    running = started(policy("midstream = false"))
    a, b = running.network.a, running.network.b
    assert crosses(a, b, there(flags="S", seq=1_000_000)) and crosses(b, a, back(flags="SA", seq=2_000_000, ack=1_000_001))
    assert crosses(a, b, there(1, flags="A", seq=1_000_001, ack=2_000_001))
    # Another rule comes: nothing changes for this one.
    assert running.apply(policy("midstream = false", more=other)).returncode == 0
    assert crosses(a, b, there(2, flags="PA", seq=1_000_001, ack=2_000_001))
    assert running.apply(f'version = 1\n[state]\nmidstream = false\n{other}').returncode == 0
    assert not crosses(a, b, there(3, flags="PA", seq=1_000_001, ack=2_000_001))
    assert running.apply(policy("midstream = false")).returncode == 0
    assert not crosses(a, b, there(4, flags="PA", seq=1_000_001, ack=2_000_001))
    assert not crosses(b, a, back(5, flags="PA", seq=2_000_001, ack=1_000_001))
    assert running.denied() == {"not-in-policy": 1, "tcp-untracked": 2}
    assert running.status()["flows"]["cut"] == 2


def test_a_full_table_does_what_the_policy_says(started):
    """4096 places are the least there is: more connections than that, all established."""
    for top, passes in (("on_failure = { flow_table_full = \"closed\" }", False), ("on_failure = { flow_table_full = \"open\" }", True)):
        running = started(policy("flows = 1", top=top))
        a, b = running.network.a, running.network.b
        opening, accepting = there(flags="S", seq=1_000_000), back(flags="SA", seq=2_000_000, ack=1_000_001)
        acknowledging = there(flags="A", seq=1_000_001, ack=2_000_001)
        for first in range(2000, 8000, 250):
            ports = [port.to_bytes(2, "big") for port in range(first, first + 250)]
            for sender, receiver, head, at in ((a, b, opening, 34), (b, a, accepting, 36), (a, b, acknowledging, 34)):
                sender.send(*(head[:at] + port + head[at + 2:] for port in ports))
                receiver.receive(250, timeout=0.2)
        status = running.status()
        assert status["flows"]["refused"] > 500 and 3500 < status["flows"]["now"] <= 4096
        full = {cause["cause"]: cause["frames"] for cause in status["denied"]}.get("flow-table-full", 0)
        assert (full == 0) == passes
        # Those that are in are not disturbed.
        assert crosses(a, b, there(1, flags="PA", seq=1_000_001, ack=2_000_001, sport=2000))
        assert crosses(b, a, back(1, flags="PA", seq=2_000_001, ack=1_000_001, dport=2000))
        running.stop()


# --- Real stacks -------------------------------------------------------------------------------------------------


def serve(netns, handle, port=5000):
    """A server in a namespace that handles one connection after the other."""
    with inside_netns(netns):
        listener = socket.create_server(("", port))

    def loop():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return listener


def connect(netns, address, port, timeout=10):
    with inside_netns(netns):
        connection = socket.socket()
    connection.settimeout(timeout)
    connection.connect((address, port))
    return connection


@pytest.mark.parametrize("loses", (False, True))
def test_strict_never_denies_an_honest_connection(started, stacks, loses):
    """Why: window tracking that is wrong somewhere costs a tool its host. Megabytes both ways, over a bad line as well."""
    for host in (stacks.a, stacks.b) if loses else ():
        # One frame in a hundred is lost behind the bridge.
        for command in ("add table ip line", "add chain ip line in { type filter hook prerouting priority 0; }",
                        "add rule ip line in numgen random mod 100 < 1 drop"):
            done = subprocess.run(["ip", "netns", "exec", host.netns, "nft", command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    running = started(policy('tcp = "strict"\nmidstream = false', service='"tcp/5000-5001"'), net=stacks)
    size = 500_000 if loses else 8_000_000

    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    listener = serve(stacks.b.netns, echo)
    sent = os.urandom(size)
    for _ in range(3):
        connection = connect(stacks.a.netns, TOOL, 5000, timeout=60)
        writer = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)), daemon=True)
        writer.start()
        got = bytearray()
        while data := connection.recv(65536):
            got += data
        assert got == sent
        connection.close()
    listener.close()
    # A refused connection, and one that is reset, are told at once.
    with pytest.raises(ConnectionRefusedError):
        connect(stacks.a.netns, TOOL, 5001)
    denied = running.denied()
    denied.pop("ethertype", None)
    assert denied == {}, denied


def test_datagrams_larger_than_a_frame(started, stacks):
    running = started(policy(), net=stacks)
    with inside_netns(stacks.b.netns):
        server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind(("", 53))
    with inside_netns(stacks.a.netns):
        client = socket.socket(type=socket.SOCK_DGRAM)
    client.settimeout(5)
    server.settimeout(5)
    for size in (1000, 1473, 6000, 60_000):
        client.sendto(bytes(size), (TOOL, 53))
        got, address = server.recvfrom(65536)
        server.sendto(got, address)
        assert len(client.recv(65536)) == size
    assert running.denied() == {}


def test_ftp_opens_its_data_connections(started, stacks):
    """Both ways of RFC 959: the client connects to a port of the server, and the server, from port 20, to one of the client."""
    rule = policy("midstream = false", "ftp_data = true", service='"ftp"')
    running = started(rule, net=stacks)

    def session(connection):
        for line in connection.makefile():
            if line.startswith("PASV"):
                with inside_netns(stacks.b.netns):
                    data = socket.create_server(("", 0))
                connection.sendall(f"{data.getsockname()[1]}\n".encode())
                other, _ = data.accept()
                other.sendall(b"passive" * 1000)
                other.close()
            elif line.startswith("PORT"):
                with inside_netns(stacks.b.netns):
                    data = socket.socket()
                data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                data.bind(("", 20))
                data.connect((HOST, int(line.split()[1])))
                data.sendall(b"active" * 1000)
                data.close()

    def all_of(connection):
        got = b""
        while data := connection.recv(65536):
            got += data
        return got

    listener = serve(stacks.b.netns, session, 21)
    elsewhere = serve(stacks.b.netns, lambda connection: connection.close(), 6000)
    with pytest.raises(TimeoutError):
        connect(stacks.a.netns, TOOL, 6000, timeout=1)
    control = connect(stacks.a.netns, TOOL, 21)
    control.sendall(b"PASV\n")
    assert all_of(connect(stacks.a.netns, TOOL, int(control.makefile().readline()))) == b"passive" * 1000
    with inside_netns(stacks.a.netns):
        waiting = socket.create_server(("", 0))
    control.sendall(f"PORT {waiting.getsockname()[1]}\n".encode())
    assert all_of(waiting.accept()[0]) == b"active" * 1000
    # Not below the registered ports, and not without the key.
    with pytest.raises(TimeoutError):
        connect(stacks.a.netns, TOOL, 22, timeout=1)
    assert running.apply(rule.replace("ftp_data = true", "")).returncode == 0
    control.sendall(b"\n")
    with pytest.raises(TimeoutError):
        connect(stacks.a.netns, TOOL, 6000, timeout=1)
    for one in (listener, elsewhere, waiting):
        one.close()


def test_two_workers_share_the_table(started, network):
    """The two directions of a flow may come to different workers: a veth's queue is the sender's processor."""
    net = network(queues=(2, 2))
    for host, address in ((net.a, HOST), (net.b, TOOL)):
        sh(f"ip -n {host.netns} addr add {address}/24 dev {host.port}")
    running = started(policy('tcp = "strict"\nmidstream = false'), net=net)
    assert len(running.status()["workers"]) == 2 or os.cpu_count() < 3

    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)

    listener = serve(net.b.netns, echo)
    for cpu in range(os.cpu_count()):
        os.sched_setaffinity(0, {cpu})
        try:
            for _ in range(20):
                connection = connect(net.a.netns, TOOL, 5000)
                for _ in range(5):
                    connection.sendall(b"x" * 3000)
                    left = 3000
                    while left:
                        left -= len(connection.recv(left))
                connection.close()
        finally:
            os.sched_setaffinity(0, range(os.cpu_count()))
    listener.close()
    denied = running.denied()
    # A worker whose processor is taken away in the middle of a frame keeps others waiting; they say so, and TCP repeats.
    denied.pop("flow-table-full", None)
    assert denied == {}
