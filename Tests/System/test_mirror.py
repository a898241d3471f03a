"""Copies for a third port: the frames of chosen rules, whole, and never at the wire's cost."""

import json
import time

import pytest

from conftest import Host, sh
from frames import IP, TCP, UDP, Ether, Raw

HOST, TOOL = "10.0.0.1", "10.0.0.2"
POLICY = f"""
version = 1
name = "mirrored"
[[allow]]
id = "watched"
from = "{HOST}"
to = "{TOOL}"
service = ["tcp/5000", "udp/9"]
mirror = true
[[allow]]
id = "private"
from = "{HOST}"
to = "{TOOL}"
service = "udp/10"
"""


def frame(source, destination, segment):
    macs = {HOST: "02:00:00:00:00:01", TOOL: "02:00:00:00:00:02"}
    return bytes(Ether(src=macs[source], dst=macs[destination]) / IP(src=source, dst=destination) / segment)


@pytest.fixture
def mirrored(network):
    """A network with a third port, and whoever listens there."""
    net = network()
    far = f"{net.bridge}m"
    sh(f"ip netns add {far}")
    net.made.append(far)
    sh(f"ip -n {net.bridge} link add mirror0 type veth peer name m0 netns {far}")
    for netns, port in ((far, "m0"), (net.bridge, "mirror0")):
        sh(f"ip netns exec {netns} sysctl -qw net.ipv6.conf.{port}.disable_ipv6=1")
        sh(f"ip -n {netns} link set {port} up")
    listener = Host(far, "m0")
    yield net, listener
    listener.socket.close()


def test_frames_of_chosen_rules_are_copied(bridge, mirrored, sekisho):
    """Why: an intrusion detection system must see both directions, byte for byte, and nothing that it was not given."""
    net, listener = mirrored
    running = bridge(POLICY, "--mirror", "mirror0", net=net)
    question = frame(HOST, TOOL, TCP(sport=40000, dport=5000, flags="S"))
    answer = frame(TOOL, HOST, TCP(sport=5000, dport=40000, flags="SA", ack=1))
    large = frame(HOST, TOOL, UDP(sport=4, dport=9) / Raw(bytes(range(256)) * 5))
    others = [frame(HOST, TOOL, UDP(sport=4, dport=10) / Raw(b"x" * 20)), frame(HOST, TOOL, UDP(sport=4, dport=11) / Raw(b"y" * 20))]
    net.a.send(question)
    assert net.b.receive(1) == [question]
    net.b.send(answer)
    assert net.a.receive(1) == [answer]
    for one in others:
        net.a.send(one)
    net.a.send(large)
    assert net.b.receive(2) == [others[0], large]
    assert listener.receive(3) == [question, answer, large]
    mirror = running.status()["mirror"]
    assert (mirror["port"], mirror["frames"], mirror["lost"], mirror["refused"]) == ("mirror0", 3, 0, 0)
    assert "3 frames copied to mirror0" in sekisho("status", "--control", running.socket).stdout
    assert 'sekisho_mirror_frames_total{result="sent"} 3' in sekisho("metrics", "--control", running.socket).stdout
    # Without the word, no more.
    assert running.apply(POLICY.replace("mirror = true", "")).returncode == 0
    net.a.send(question)
    assert net.b.receive(1) == [question] and listener.receive() == []
    assert running.status()["mirror"]["frames"] == 3


def test_a_mirror_port_that_is_down_costs_the_wire_nothing(bridge, mirrored):
    net, listener = mirrored
    running = bridge(POLICY, "--mirror", "mirror0", net=net)
    sh(f"ip -n {net.bridge} link set mirror0 down")
    frames = [frame(HOST, TOOL, UDP(sport=4, dport=9) / Raw(number.to_bytes(4, "big") * 8)) for number in range(2000)]
    for one in frames:
        net.a.send(one)
    assert net.b.receive(2000, timeout=10) == frames
    running.wait_for(lambda: running.status()["mirror"]["refused"] == 2000, "the counting")
    sh(f"ip -n {net.bridge} link set mirror0 up")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and running.status()["mirror"]["frames"] == 0:
        net.a.send(frames[0])
        time.sleep(0.05)
    assert running.status()["mirror"]["frames"] > 0


@pytest.mark.parametrize("port, said", [("in0", "which is a port of the bridge"), ("lo", "not an Ethernet port"), ("nowhere", "nowhere")])
def test_what_is_no_third_port_is_refused(bridge, network, port, said):
    net = network()
    running = bridge(POLICY, "--mirror", port, net=net, wait=False)
    assert running.process.wait(10) == 1
    assert said in running.said() and not net.has_programs()


def test_what_belongs_together_is_missed(bridge, network, sekisho, folder):
    running = bridge(POLICY, net=network())
    assert "start the bridge with --mirror PORT" in running.said()
    other = folder / "other.toml"
    other.write_text(running.policy.read_text().replace("mirror = true", ""))
    changes = json.loads(sekisho("diff", running.policy, other, "--json").stdout)["changes"]
    assert [(one["what"], one["a"], one["b"]) for one in changes] == [("mirror", "true", "false")]
