"""A real bridge between two hosts: what may pass passes unchanged, nothing else passes, everything is counted."""

import os
import random
import re

import pytest

from conftest import sh
from frames import ARP, ICMP, IP, LLC, MAC_A, MAC_B, STP, TCP, UDP, Dot1Q, Dot3, Ether, IPv6, Raw, ether

POLICY = """
version = 1
name = "bridge"
ethertypes = ["arp", "lldp", 0x8892, "stp", "snap"]
[[allow]]
id = "v4"
from = "10.0.0.10"
to = "10.0.0.20"
service = ["tcp/5000", "udp/7000", "icmp/echo", "gre/any"]
[[allow]]
id = "v6"
from = "fd00::10"
to = "fd00::20"
service = ["tcp/5000", "udp/7000", "icmp/echo"]
[[allow]]
id = "narrow"
from = "10.0.0.11"
to = "10.0.0.20"
service = "tcp/5000"
side = "outside"
"""

CLIENT = dict(src="10.0.0.10", dst="10.0.0.20")
SERVER = dict(src="10.0.0.20", dst="10.0.0.10")
CLIENT6 = dict(src="fd00::10", dst="fd00::20")
SERVER6 = dict(src="fd00::20", dst="fd00::10")
REQUEST = TCP(sport=40000, dport=5000, flags="PA")
ANSWER = TCP(sport=5000, dport=40000, flags="A")


def bulk(size, seed=1):
    return Raw(random.Random(seed).randbytes(size))


def padded(frame, size=60):
    data = bytes(frame)
    return data + b"\xa5" * (size - len(data))


def to_length(head, size):
    """A frame of exactly `size` bytes."""
    return bytes(head / bulk(size - len(head)))


def allowed_frames():
    """From host A, which has the client, and from host B, which has the server."""
    ask, answer = ether() / IP(**CLIENT), ether(MAC_B, MAC_A) / IP(**SERVER)
    requests = [
        padded(ask / TCP(sport=40000, dport=5000, flags="S")),
        to_length(ask / REQUEST, 1514), to_length(ask / REQUEST, 1513), to_length(ask / REQUEST, 61),
        bytes(ask / REQUEST),  # 54 bytes: shorter than any NIC would send
        padded(ask / UDP(sport=1, dport=7000) / b"odd"),
        padded(ether() / IP(**CLIENT, chksum=0xBAD) / REQUEST),  # not ours to judge
        to_length(ether() / IP(**CLIENT, options=[b"\x94\x04\0\0"]) / REQUEST, 301),  # router alert
        padded(ask / ICMP(type=8) / b"ping"), padded(ether() / IP(**CLIENT, proto=47) / b"\0\0\x08\0tunnel"),
        to_length(ether() / Dot1Q(vlan=7, prio=5) / IP(**CLIENT) / REQUEST, 1518),
        to_length(ether() / Dot1Q(vlan=0, prio=7) / IP(**CLIENT) / REQUEST, 64),
        to_length(ether(type=0x88A8) / Dot1Q(vlan=100, type=0x8100) / Dot1Q(vlan=7, dei=1) / IP(**CLIENT) / REQUEST, 1514),
        to_length(ether(type=0x9100) / Dot1Q(vlan=9) / IP(**CLIENT) / REQUEST, 99),
        to_length(ether() / IPv6(**CLIENT6) / REQUEST, 1514), padded(ether() / IPv6(**CLIENT6) / UDP(sport=1, dport=7000)),
        padded(ether(destination="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.10", pdst="10.0.0.20", hwsrc=MAC_A)),
        to_length(ether(type=0x88CC), 200), padded(ether(destination="01:0e:cf:00:00:00", type=0x8892)),
        to_length(ether() / Dot1Q(vlan=3, type=0x8892), 64),
        padded(Dot3(src=MAC_A, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP()),
        padded(Dot3(src=MAC_A, dst="01:00:0c:cc:cc:cc", len=30) / bytes.fromhex("aaaa0300000c2000") / bytes(22)),  # CDP
    ]
    answers = [
        padded(answer / TCP(sport=5000, dport=40000, flags="SA")),
        to_length(answer / ANSWER, 1514), to_length(answer / ANSWER, 777), to_length(answer / UDP(sport=7000, dport=1), 999),
        padded(answer / ICMP(type=0) / b"pong"), to_length(ether(MAC_B, MAC_A) / IPv6(**SERVER6) / ANSWER, 1514),
        to_length(ether(MAC_B, MAC_A) / Dot1Q(vlan=7) / IP(**SERVER) / ANSWER, 1518),
        # "Port unreachable", about the client's own datagram.
        padded(answer / ICMP(type=3, code=3) / IP(**CLIENT) / UDP(sport=1, dport=7000)),
    ]
    return requests, answers


def denied_frames():
    """Frames of host A, each with its cause."""
    ask = ether() / IP(**CLIENT)
    return [
        (ask / TCP(sport=40000, dport=5001, flags="S"), "not-in-policy"),
        (ether() / IP(src="10.0.0.66", dst="10.0.0.20") / REQUEST, "not-in-policy"),
        (ether() / Dot1Q(vlan=7) / IP(src="10.0.0.66", dst="10.0.0.20") / REQUEST, "not-in-policy"),
        (ether() / IPv6(src="fd00::66", dst="fd00::20") / REQUEST, "not-in-policy"),
        # The server's own port is no way in: host A is now the server's side of the conversation.
        (ether() / IP(**SERVER) / TCP(sport=5000, dport=40000, flags="S"), "syn-from-server"),
        (ask / TCP(sport=40000, dport=5000, flags="SF"), "tcp-flags"),
        (ask / TCP(sport=40000, dport=5000, flags=""), "tcp-flags"),
        (ether(type=0x88A4) / Raw(bytes(46)), "ethertype"),
        (Ether(src=MAC_A, dst=MAC_B, type=46) / b"\xf0\xf0\x03" / bytes(43), "ethertype"),
        (Ether(src=MAC_A, dst=MAC_B, type=46) / bytes.fromhex("aaaa030000000800") / bytes(38), "llc-encapsulated"),
        (ether() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / IP(**CLIENT) / REQUEST, "vlan-depth"),
        (ether() / IP(**CLIENT, ihl=4) / REQUEST, "ip-header"),
        (ether() / IP(**CLIENT, len=1000) / REQUEST, "truncated"),
        (ether() / IP(**CLIENT, flags="MF", proto=6) / Raw(bytes(8)), "fragment-tiny"),
        (ether() / IP(**CLIENT, frag=1, proto=6) / Raw(bytes(24)), "fragment-overlap"),
        (ether() / IP(**CLIENT, frag=100, proto=6) / Raw(bytes(24)), "fragment-untracked"),
        (ether(source="03:00:00:00:00:01") / IP(**CLIENT) / REQUEST, "ethernet-header"),
    ]


def assert_conserved(status):
    """Why: a frame that is neither forwarded nor counted as denied has been lost without a trace."""
    for direction in status["directions"].values():
        for unit in ("frames", "bytes"):
            assert direction["received"][unit] == direction["forwarded"][unit] + direction["denied"][unit]
    assert sum(d["denied"]["frames"] for d in status["directions"].values()) == sum(
        cause["frames"] for cause in status["denied"])


def received(status):
    return {name: d["received"]["frames"] for name, d in status["directions"].items()}


@pytest.mark.parametrize("idle", ["spin", "hybrid", "sleep"])
def test_allowed_frames_arrive_byte_for_byte(bridge, network, idle):
    """Why: a bridge that changes one byte is not transparent; whatever the worker does when idle."""
    net = network()
    running = bridge(POLICY, "--idle", idle, net=net)
    requests, answers = allowed_frames()
    net.a.send(*requests)
    assert net.b.receive(len(requests)) == requests
    net.b.send(*answers)
    assert net.a.receive(len(answers)) == answers
    status = running.status()
    assert_conserved(status)
    assert received(status) == {"outside_to_inside": len(requests), "inside_to_outside": len(answers)}
    assert status["directions"]["outside_to_inside"]["forwarded"]["bytes"] == sum(map(len, requests))
    assert status["idle"] == idle


def test_a_frame_on_its_own_is_not_kept_waiting(bridge, network):
    """Why: a bridge that waits for a full burst would hold a request back for ever."""
    net = network()
    bridge(POLICY, net=net)
    for number in range(20):
        frame = to_length(ether() / IP(**CLIENT, id=number) / REQUEST, 80)
        net.a.send(frame)
        assert net.b.receive(1) == [frame]


def test_denied_frames_never_arrive_and_are_counted(bridge, network):
    """Why: the purpose of the whole thing."""
    net = network()
    running = bridge(POLICY, net=net)
    expected = {}
    for frame, cause in denied_frames():
        net.a.send(padded(frame))
        expected[cause] = expected.get(cause, 0) + 1
    last = padded(ether() / IP(**CLIENT) / REQUEST)
    net.a.send(last)
    # Frames keep their order: when the last one is here, the others are not to come.
    assert net.b.receive(1) == [last]
    assert net.b.receive() == []
    assert running.denied() == expected
    assert_conserved(running.status())


def test_the_bridge_says_nothing_itself(bridge, network):
    """Why: it has no address and no name on this wire; a frame of its own would be one no policy has allowed."""
    nets = [network(is_quiet=False) for _ in range(4)]
    for net in nets:
        bridge(POLICY, net=net)
    for net in nets:
        # IPv6 waits up to a second before it asks whether an address is taken.
        assert net.a.receive(quiet=1.2 if net is nets[0] else 0.1) + net.b.receive(quiet=0.1) == []


def test_side_narrows_where_the_client_is(bridge, network):
    """Why: an address that is right on the wrong side of the bridge is somebody else's."""
    net = network()
    running = bridge(POLICY, net=net)
    frame = padded(ether() / IP(src="10.0.0.11", dst="10.0.0.20") / REQUEST)
    answer = padded(ether() / IP(src="10.0.0.20", dst="10.0.0.11") / ANSWER)
    error = padded(
        ether() / IP(src="10.0.0.1", dst="10.0.0.11") / ICMP(type=3, code=1)
        / IP(src="10.0.0.11", dst="10.0.0.20") / REQUEST)
    net.a.send(frame, answer, error)
    assert net.b.receive() == [frame]
    net.b.send(frame, answer, error)
    assert net.a.receive() == [answer, error]
    assert running.denied() == {"not-in-policy": 3}


@pytest.mark.parametrize("mode", ["monitor", "learn"])
def test_without_enforcement_all_frames_pass_and_are_noted(bridge, network, folder, mode):
    """Why: the owner must see what enforcement would cost before it costs something."""
    net = network()
    running = bridge(POLICY, "--mode", mode, *(("--state", folder / "state") if mode == "learn" else ()), net=net)
    frames = [padded(frame) for frame, _ in denied_frames()] + [padded(ether() / IP(**CLIENT) / REQUEST)]
    net.a.send(*frames)
    assert net.b.receive(len(frames)) == frames
    noted = {}
    for _, cause in denied_frames():
        noted[cause] = noted.get(cause, 0) + 1
    assert running.would_deny() == noted
    assert running.denied() == {}
    status = running.status()
    assert status["mode"] == mode
    assert_conserved(status)


def test_frames_with_two_tags_need_no_smaller_payload(bridge, network):
    """Why: a trunk port carries 1522 bytes and more."""
    net = network(mtu=2000)
    bridge(POLICY, net=net)
    frames = [
        to_length(ether(type=0x88A8) / Dot1Q(vlan=100, type=0x8100) / Dot1Q(vlan=7) / IP(**CLIENT) / REQUEST, 1522),
        to_length(ether() / IP(**CLIENT) / REQUEST, 2014)]
    net.a.send(*frames)
    assert net.b.receive(len(frames)) == frames


@pytest.mark.parametrize("mtu", [3500, 9000])
def test_jumbo_frames(bridge, network, mtu):
    """Why: image transfers of inspection tools run on jumbo frames, which span several buffers."""
    net = network(mtu=mtu)
    running = bridge(POLICY, net=net)
    sizes = sorted({60, 1514, 2000, 3400, 3514, *(s for s in (3840, 4096, 4097, 8192, 9001, 9014) if s <= mtu + 14)})
    requests = [to_length(ether() / IP(**CLIENT, id=i) / REQUEST, size) for i, size in enumerate(sizes * 4)]
    answers = [to_length(ether(MAC_B, MAC_A) / IP(**SERVER, id=i) / ANSWER, size) for i, size in enumerate(sizes * 4)]
    foreign = [
        to_length(ether() / IP(src="10.0.0.66", dst="10.0.0.20", id=i) / REQUEST, size) for i, size in enumerate(sizes)]
    for some in range(0, len(requests), 8):
        net.a.send(*requests[some:some + 8], *foreign[some:some + 8])
        net.b.send(*answers[some:some + 8])
        assert net.b.receive(len(requests[some:some + 8])) == requests[some:some + 8]
        assert net.a.receive(len(answers[some:some + 8])) == answers[some:some + 8]
    assert net.b.receive() == []
    status = running.status()
    assert_conserved(status)
    assert running.denied() == {"not-in-policy": len(foreign)}
    worker = status["workers"][0]
    assert worker["frames"]["free"] > worker["frames"]["total"] // 4, "buffers of long frames do not come back"


CPUS = len(os.sched_getaffinity(0))  # without being told, one stays for everything else


@pytest.mark.parametrize(
    "queues, options, workers",
    [((4, 4), ("--queues", 2), 2), ((4, 4), ("--queues", 1), 1), ((2, 2), ("--queues", 2), 2), ((2, 2), (), max(1, min(2, CPUS - 1))), ((4, 1), (), 1), ((1, 3), (), 1)])
def test_every_queue_is_served(bridge, network, queues, options, workers):
    """Why: a queue nobody reads is a conversation that dies for no reason anybody can see."""
    if workers > len(os.sched_getaffinity(0)):
        pytest.skip(f"needs {workers} processors")
    net = network(queues=queues)
    running = bridge(POLICY, *options, net=net)
    status = running.status()
    assert len(status["workers"]) == workers
    assert [status["ports"][side]["queues"] for side in ("outside", "inside")] == list(queues)
    # Many conversations: the hosts' kernels spread them over the queues.
    requests = [
        padded(ether() / IP(**CLIENT, id=i) / TCP(sport=10000 + 37 * i, dport=5000, flags="A")) for i in range(200)]
    answers = [
        padded(ether(MAC_B, MAC_A) / IP(**SERVER, id=i) / TCP(sport=5000, dport=10000 + 37 * i, flags="A")) for i in range(200)]
    net.a.send(*requests)
    net.b.send(*answers)
    # Between queues the order may change, within a conversation not; here each has one frame.
    assert sorted(net.b.receive(len(requests))) == sorted(requests)
    assert sorted(net.a.receive(len(answers))) == sorted(answers)
    status = running.status()
    assert_conserved(status)
    assert received(status) == {"outside_to_inside": 200, "inside_to_outside": 200}
    assert "no-worker" not in {cause["cause"] for cause in status["denied"]}
    for port, count in zip(("out0", "in0"), queues):
        lines = sh(f"ip netns exec {net.bridge} ethtool -S {port}").splitlines()
        used = [line for line in lines if re.match(r"\s*rx_queue_\d+_xdp_packets: [1-9]", line)]
        assert len(used) == count, f"the frames came by {len(used)} of {count} queues of {port}"


def test_a_long_run_of_bursts_loses_no_buffer(bridge, network):
    """Why: a buffer that does not come back is a bridge that stops in a week."""
    net = network()
    running = bridge(POLICY, net=net)
    before = running.status()["workers"][0]["frames"]
    good = [to_length(ether() / IP(**CLIENT, id=i) / REQUEST, 60 + i) for i in range(64)]
    bad = [padded(frame) for frame, _ in denied_frames()]
    arrived = 0
    for _ in range(150):  # more frames than the bridge has buffers
        net.a.send(*good, *bad)
        arrived += len(net.b.receive(len(good)))
    assert arrived == 150 * len(good)
    status = running.status()
    assert_conserved(status)
    after = status["workers"][0]
    assert after["frames"]["total"] == before["total"]
    held = after["frames"]["free"] + sum(after["rings"][ring] for ring in ("rx", "tx", "fill", "completion"))
    # A batch may be on its way from one place to another.
    assert held >= after["frames"]["total"] - 64
