"""`export`: the other forwarders, loaded with its output, let pass what Sekisho lets pass."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from frames import ARP, ICMP, IP, LLC, MAC_A, MAC_B, SNAP, STP, TCP, UDP, Dot1Q, Dot3, IPv6, Raw, ether
from conftest import sh
import oracle
import test_simulate_oracle as random_worlds

POLICY = """
version = 1
ethertypes = ["arp", "lldp", "stp"]

[state]
flows = 0  # each frame by itself, as the others judge
[devices.bound]
addresses = ["10.0.0.9"]
mac = ["02:00:00:00:00:09"]

[[allow]]
id = "hosts"
from = ["10.0.0.1", "fd00::1"]
to = ["10.0.0.2", "fd00::2"]
service = ["tcp/5000", "udp/6000", "icmp/echo", "gre/any"]
[[allow]]
id = "networks"
from = ["10.1.0.0/24", "fd00:1::/64"]
to = ["10.2.0.0/24", "fd00:2::/64"]
service = "tcp/80"
[[allow]]
id = "part-of-networks"
from = "10.1.0.0/25"
to = "10.2.0.0/16"
service = "tcp/80-81"
[[allow]]
id = "range"
from = "10.0.0.1"
to = "10.0.0.3"
service = "tcp/1000-1999"
[[allow]]
id = "any-icmp"
from = "10.0.0.1"
to = "10.0.0.3"
service = "icmp/any"
[[allow]]
id = "vlan"
from = "10.0.0.4"
to = "10.0.0.5"
service = ["tcp/502", "icmp/echo"]
vlan = [12, 13]
[[allow]]
id = "vlan-back"
from = "10.0.0.2"
to = "10.0.0.1"
service = "tcp/40000"
vlan = [12]
[[allow]]
id = "side"
from = "10.0.0.6"
to = "10.0.0.7"
service = ["tcp/22", "icmp/echo"]
side = "outside"
[[allow]]
id = "bound"
from = "10.0.0.9"
to = "10.0.0.2"
service = "udp/7"
[[allow]]
id = "expired"
from = "10.0.0.1"
to = "10.0.0.2"
service = "tcp/9999"
expires = 2020-01-01T00:00:00Z
"""

# --- Named cases -------------------------------------------------------------------------------------------------


def ip(source, destination, **fields):
    return IPv6(src=source, dst=destination, **fields) if ":" in source else IP(src=source, dst=destination, **fields)


def tcp(source, destination, sport, dport, flags, head=None, **fields):
    return (head or ether()) / ip(source, destination, **fields) / TCP(sport=sport, dport=dport, flags=flags)


def udp(source, destination, sport, dport, head=None):
    return (head or ether()) / ip(source, destination) / UDP(sport=sport, dport=dport)


def icmp(source, destination, kind, code=0, head=None):
    if ":" in source:
        return (head or ether()) / IPv6(src=source, dst=destination, nh=58) / Raw(bytes([kind, code, 0, 0, 0, 1, 0, 1]))
    return (head or ether()) / ip(source, destination) / ICMP(type=kind, code=code)


def error(source, destination, about, kind=11, code=0):
    number = {"proto": 1} if "." in source else {"nh": 58}
    return ether() / ip(source, destination, **number) / Raw(bytes([kind, code, 0, 0, 0, 0, 0, 0]) + bytes(about))


def neighbour(kind, hops=255):
    body = bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + bytes.fromhex("fd000000000000000000000000000002")
    return ether() / IPv6(src="fd00::1", dst="fd00::2", nh=58, hlim=hops) / Raw(body)


def tag(number, **fields):
    return ether() / Dot1Q(vlan=number, **fields)


def lldp():
    return ether(destination="01:80:c2:00:00:0e", type=0x88CC) / Raw(b"\x02\x07\x04lldp01\x04\x02\x05a\x06\x02\0x\0\0")


A, B, C, N, M = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.7", "10.2.0.9"
OUT, IN = "outside", "inside"
SEGMENT = ip(A, B) / TCP(sport=40000, dport=5000, flags="S")
ANSWER = ip(B, A) / TCP(sport=5000, dport=40000, flags="SA")

# Name: whether Sekisho lets it pass, where it comes in, the frame.
CASES = {
    "SYN of the client": (True, OUT, tcp(A, B, 40000, 5000, "S")),
    "SYN+ACK of the server": (True, IN, tcp(B, A, 5000, 40000, "SA")),
    "ACK of the client": (True, OUT, tcp(A, B, 40000, 5000, "A")),
    "data of the server": (True, IN, tcp(B, A, 5000, 40000, "PA")),
    "RST of the server": (True, IN, tcp(B, A, 5000, 40000, "R")),
    "FIN of the client": (True, OUT, tcp(A, B, 40000, 5000, "FA")),
    "the client inside": (True, IN, tcp(A, B, 40001, 5000, "S")),
    "tagged, where no VLAN is named": (True, OUT, tcp(A, B, 40000, 5000, "S", head=tag(7))),
    "priority-tagged": (True, OUT, tcp(A, B, 40000, 5000, "S", head=tag(0, prio=5))),
    "two tags": (True, OUT, tcp(A, B, 40000, 5000, "S", head=tag(7, type=0x8100) / Dot1Q(vlan=8))),
    "SYN from the server": (False, IN, tcp(B, A, 5000, 40000, "S")),
    "SYN+FIN": (False, OUT, tcp(A, B, 40000, 5000, "SF")),
    "no flags": (False, OUT, tcp(A, B, 40000, 5000, "")),
    "wrong port": (False, OUT, tcp(A, B, 40000, 5001, "S")),
    "wrong port, reply": (False, IN, tcp(B, A, 5001, 40000, "SA")),
    "wrong client": (False, OUT, tcp("10.0.0.66", B, 40000, 5000, "S")),
    "wrong server": (False, OUT, tcp(A, "10.0.0.66", 40000, 5000, "S")),
    "wrong protocol": (False, OUT, udp(A, B, 40000, 5000)),
    "expired rule": (False, OUT, tcp(A, B, 40000, 9999, "S")),
    "source route": (False, OUT, tcp(A, B, 40000, 5000, "S", options=b"\x83\x07\x04\x0a\0\0\x63\0")),
    "harmless IP option": (True, OUT, tcp(A, B, 40000, 5000, "S", options=b"\x94\x04\0\0")),
    "UDP": (True, OUT, udp(A, B, 40000, 6000)),
    "UDP reply": (True, IN, udp(B, A, 6000, 40000)),
    "UDP, wrong port": (False, OUT, udp(A, B, 40000, 6001)),
    "GRE": (True, OUT, ether() / ip(A, B, proto=47) / Raw(b"\0\0\x08\0payload")),
    "GRE back": (True, IN, ether() / ip(B, A, proto=47) / Raw(b"\0\0\x08\0payload")),
    "ESP, which no rule names": (False, OUT, ether() / ip(A, B, proto=50) / Raw(b"\0\0\0\1\0\0\0\1payload")),
    "networks": (True, OUT, tcp(N, M, 40000, 80, "S")),
    "networks, reply": (True, IN, tcp(M, N, 80, 40000, "SA")),
    "networks, SYN from the server": (False, IN, tcp(M, N, 80, 40000, "S")),
    "networks, wrong port": (False, OUT, tcp(N, M, 40000, 82, "S")),
    "networks, beside": (False, OUT, tcp("10.1.1.7", M, 40000, 80, "S")),
    "overlapping networks": (True, OUT, tcp(N, "10.2.7.7", 40000, 81, "S")),
    "overlapping networks, wider client": (True, OUT, tcp("10.1.0.200", M, 40000, 80, "S")),
    "overlapping networks, neither": (False, OUT, tcp("10.1.0.200", M, 40000, 81, "S")),
    "range, first": (True, OUT, tcp(A, C, 40000, 1000, "S")),
    "range, last": (True, OUT, tcp(A, C, 40000, 1999, "S")),
    "range, below": (False, OUT, tcp(A, C, 40000, 999, "S")),
    "range, above": (False, OUT, tcp(A, C, 40000, 2000, "S")),
    "range, reply": (True, IN, tcp(C, A, 1500, 40000, "A")),
    "VLAN": (True, OUT, tcp("10.0.0.4", "10.0.0.5", 40000, 502, "S", head=tag(12))),
    "VLAN, the other": (True, OUT, tcp("10.0.0.4", "10.0.0.5", 40000, 502, "S", head=tag(13, prio=3))),
    "VLAN, reply": (True, IN, tcp("10.0.0.5", "10.0.0.4", 502, 40000, "A", head=tag(12))),
    "VLAN, service tag": (True, OUT, tcp("10.0.0.4", "10.0.0.5", 40000, 502, "S", head=ether(type=0x88A8) / Dot1Q(vlan=12))),
    "VLAN, echo": (True, OUT, icmp("10.0.0.4", "10.0.0.5", 8, head=tag(12))),
    "VLAN, echo reply": (True, IN, icmp("10.0.0.5", "10.0.0.4", 0, head=tag(12))),
    "VLAN, wrong": (False, OUT, tcp("10.0.0.4", "10.0.0.5", 40000, 502, "S", head=tag(14))),
    "VLAN, untagged": (False, OUT, tcp("10.0.0.4", "10.0.0.5", 40000, 502, "S")),
    "VLAN, SYN from the server": (False, IN, tcp("10.0.0.5", "10.0.0.4", 502, 40000, "S", head=tag(12))),
    "VLAN, SYN from one rule's server who is another's client": (True, IN, tcp(B, A, 5000, 40000, "S", head=tag(12))),
    "VLAN, the same in another": (False, IN, tcp(B, A, 5000, 40000, "S", head=tag(13))),
    "side": (True, OUT, tcp("10.0.0.6", "10.0.0.7", 40000, 22, "S")),
    "side, reply": (True, IN, tcp("10.0.0.7", "10.0.0.6", 22, 40000, "SA")),
    "side, wrong": (False, IN, tcp("10.0.0.6", "10.0.0.7", 40001, 22, "S")),
    "side, wrong reply": (False, OUT, tcp("10.0.0.7", "10.0.0.6", 22, 40001, "SA")),
    "side, echo": (True, OUT, icmp("10.0.0.6", "10.0.0.7", 8)),
    "side, echo reply": (True, IN, icmp("10.0.0.7", "10.0.0.6", 0)),
    "side, wrong echo": (False, IN, icmp("10.0.0.6", "10.0.0.7", 8, head=ether(MAC_B, MAC_A))),
    "ARP request": (True, OUT, ether(destination="ff:ff:ff:ff:ff:ff") / ARP(psrc=A, pdst=B, hwsrc=MAC_A)),
    "ARP reply": (True, IN, ether() / ARP(op=2, psrc=B, pdst=A, hwsrc=MAC_B)),
    "ARP request, tagged": (True, OUT, tag(7) / ARP(psrc=A, pdst=B, hwsrc=MAC_A)),
    "ARP reply, service tag": (True, IN, ether(type=0x88A8) / Dot1Q(vlan=7) / ARP(op=2, psrc=B, pdst=A, hwsrc=MAC_B)),
    "RARP operation": (False, OUT, ether() / ARP(op=3, psrc=A, pdst=B, hwsrc=MAC_A)),
    "ARP for another's address": (False, OUT, ether() / ARP(op=2, psrc="10.0.0.9", pdst=B, hwsrc=MAC_A)),
    "address with its own MAC": (True, OUT, udp("10.0.0.9", B, 40000, 7, head=ether("02:00:00:00:00:09"))),
    "address with another's MAC": (False, OUT, udp("10.0.0.9", B, 40000, 7)),
    "to an address with another's MAC": (False, IN, udp(B, "10.0.0.9", 7, 40000)),
    "LLDP": (True, OUT, lldp()),
    "PROFINET, which is not listed": (False, OUT, ether(type=0x8892) / Raw(bytes(46))),
    "spanning tree": (True, OUT, Dot3(src=MAC_A, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP()),
    "NetBEUI, which is not listed": (False, OUT, Dot3(src=MAC_A, dst=MAC_B) / LLC(dsap=0xF0, ssap=0xF0, ctrl=3) / Raw(b"x" * 40)),
    "IP in SNAP": (False, OUT, Dot3(src=MAC_A, dst=MAC_B) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x800) / SEGMENT),
    "IPv6": (True, OUT, tcp("fd00::1", "fd00::2", 40000, 5000, "S")),
    "IPv6, reply": (True, IN, tcp("fd00::2", "fd00::1", 5000, 40000, "SA")),
    "IPv6, tagged": (True, OUT, tcp("fd00::1", "fd00::2", 40000, 5000, "S", head=tag(7))),
    "IPv6, SYN from the server": (False, IN, tcp("fd00::2", "fd00::1", 5000, 40000, "S")),
    "IPv6, wrong host": (False, OUT, tcp("fd00::3", "fd00::2", 40000, 5000, "S")),
    "IPv6, networks": (True, OUT, tcp("fd00:1::5", "fd00:2::5", 40000, 80, "S")),
    "IPv6, beside the networks": (False, OUT, tcp("fd00:1:0:1::5", "fd00:2::5", 40000, 80, "S")),
    "IPv6, echo": (True, OUT, icmp("fd00::1", "fd00::2", 128)),
    "IPv6, echo reply": (True, IN, icmp("fd00::2", "fd00::1", 129)),
    "IPv6, echo from the server": (False, IN, icmp("fd00::2", "fd00::1", 128)),
    "neighbour solicitation": (True, OUT, neighbour(135)),
    "neighbour advertisement": (True, IN, neighbour(136)),
    "neighbour solicitation from afar": (False, OUT, neighbour(135, hops=64)),
    "router advertisement": (False, OUT, icmp("fd00::1", "fd00::2", 134)),
    "IPv6, later fragment": (
        False, OUT, ether() / IPv6(src="fd00::1", dst="fd00::2", nh=44) / Raw(b"\x11\0\x05\xb8\0\0\0\1" + b"x" * 16)),
    "IPv6, first fragment": (
        True, OUT, ether() / IPv6(src="fd00::1", dst="fd00::2", nh=44) / Raw(
            b"\x11\0\0\1\0\0\0\1" + bytes(UDP(sport=40000, dport=6000, len=2000)) + b"x" * 16)),
    "echo": (True, OUT, icmp(A, B, 8)),
    "echo reply": (True, IN, icmp(B, A, 0)),
    "echo from the server": (False, IN, icmp(B, A, 8)),
    "echo reply from the client": (False, OUT, icmp(A, B, 0)),
    "timestamp, which no rule names": (False, OUT, icmp(A, B, 13)),
    "any ICMP": (True, OUT, icmp(A, C, 13)),
    "any ICMP, its reply": (True, IN, icmp(C, A, 14)),
    "any ICMP, a reply of the client": (False, OUT, icmp(A, C, 14)),
    "ICMPv6 in IPv4": (False, OUT, ether() / ip(A, C, proto=58) / Raw(b"\x80\0\0\0\0\1\0\1")),
    "first fragment": (True, OUT, ether() / ip(A, B, flags="MF") / UDP(sport=40000, dport=6000, len=2000) / Raw(b"x" * 16)),
    "later fragment": (False, OUT, ether() / ip(A, B, frag=185, proto=17) / Raw(b"x" * 16)),
    "later fragment of GRE": (False, OUT, ether() / ip(A, B, frag=185, proto=47) / Raw(b"x" * 16)),
    "ICMP error to the client": (True, IN, error("10.9.9.9", A, SEGMENT)),
    "ICMP error to the server": (True, OUT, error("10.9.9.9", B, ANSWER)),
    "port unreachable from the server": (True, IN, error(B, A, SEGMENT, 3, 3)),
    "port unreachable from elsewhere": (False, IN, error("10.9.9.9", A, SEGMENT, 3, 3)),
    "ICMP error about an echo": (True, IN, error("10.9.9.9", A, ip(A, B) / ICMP(type=8))),
    "ICMP error about what no rule allows": (False, IN, error("10.9.9.9", A, ip(A, B) / TCP(sport=1, dport=5001))),
    "ICMP error to somebody else": (False, IN, error("10.9.9.9", "10.0.0.66", SEGMENT)),
    "ICMP error about a network's conversation": (True, IN, error("10.9.9.9", N, ip(N, M) / TCP(sport=40000, dport=80))),
    "ICMPv6 error": (True, IN, error("fd00::9", "fd00::1", ip("fd00::1", "fd00::2") / UDP(sport=1, dport=6000), 3)),
    "ICMPv6 error to somebody else": (False, IN, error("fd00::9", "fd00::3", ip("fd00::1", "fd00::2") / UDP(sport=1, dport=6000), 3)),
    "UDP length beyond the datagram": (False, OUT, ether() / ip(A, B) / UDP(sport=40000, dport=6000, len=99) / Raw(b"x" * 8)),
    "tiny first fragment": (False, OUT, ether() / ip(A, B, flags="MF", proto=6) / Raw(b"\x9c\x40\x13\x88\0\0\0\1")),
}

ICMP_ERRORS = {
    name: "the packet in an ICMP error is not seen" for name in (
        "ICMP error to the client", "ICMP error to the server", "port unreachable from the server", "ICMP error about an echo",
        "ICMP error about a network's conversation", "ICMPv6 error")}
# What the others cannot say; the outputs name it in their comments.
DIFFERENT = {
    "nftables --icmp-errors": {
        "two tags": "the IP header is not found behind two tags",
        "UDP length beyond the datagram": "no comparison with another field",
    },
    "nftables": ICMP_ERRORS | {
        "two tags": "the IP header is not found behind two tags",
        "UDP length beyond the datagram": "no comparison with another field",
    },
    "openflow": ICMP_ERRORS | {
        "source route": "no field for IP options",
        "spanning tree": "no field for LLC addresses",
        "IP in SNAP": "decoded as if it stood in Ethernet",
        "UDP length beyond the datagram": "no field for the length",
    },
}


def crossing(network, frames):
    """Which of (side, frame) come out at the other end."""
    crossed = [False] * len(frames)
    for side, other in ((OUT, IN), (IN, OUT)):
        network[other].drain()
        sent = [(number, bytes(frame)) for number, (where, frame) in enumerate(frames) if where == side]
        assert len({data for _, data in sent}) == len(sent), "two frames are alike"
        for start in range(0, len(sent), 200):
            part = sent[start:start + 200]
            network[side].send(*(data for _, data in part))
            got = set(network[other].receive(quiet=0.3))
            for number, data in part:
                crossed[number] = data in got
    return crossed


def check_cases(network, forwarder):
    crossed = dict(zip(CASES, crossing(network, [(side, frame) for _, side, frame in CASES.values()]), strict=True))
    different = DIFFERENT[forwarder]
    wrong = [
        f"{name}: {'crossed' if crossed[name] else 'did not cross'}"
        for name, (passes, _, _) in CASES.items() if crossed[name] != (passes != (name in different))]
    assert not wrong, f"{len(wrong)} of {len(CASES)} cases:\n" + "\n".join(wrong)


def test_the_table_of_cases_is_right(sekisho, folder):
    rows = random_worlds.verdicts(sekisho, folder, POLICY, [bytes(frame) for _, _, frame in CASES.values()])
    said = {name: row["verdict"] == "allow" for name, row in zip(CASES, rows, strict=True)}
    # A capture has no sides.
    wrong = [name for name in CASES if said[name] != CASES[name][0] and not name.startswith("side, wrong")]
    assert not wrong, wrong
    for forwarder, cases in DIFFERENT.items():
        assert set(cases) <= set(CASES), forwarder


# --- nftables ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nft():
    if not shutil.which("nft"):
        pytest.skip("needs the program nft (Debian package nftables)")


class LinuxBridge:
    def __init__(self, network):
        self.network, self.name = network, network.bridge
        sh(f"ip -n {self.name} link add br0 type bridge stp_state 0 mcast_snooping 0 group_fwd_mask 0xfff8")
        inside = f"ip netns exec {self.name}"
        sh(f"{inside} sysctl -qw net.ipv6.conf.br0.disable_ipv6=1")
        for key in ("iptables", "ip6tables", "arptables"):
            # Not there where the kernel was built without it, which is as good.
            subprocess.run([*inside.split(), "sysctl", "-qw", f"net.bridge.bridge-nf-call-{key}=0"], capture_output=True)
        for port in ("in0", "out0"):
            sh(f"ip -n {self.name} link set {port} master br0 up")
            # Else it would not forward to where it has seen the address.
            sh(f"ip -n {self.name} link set {port} type bridge_slave learning off")
        sh(f"ip -n {self.name} link set br0 up")

    def load(self, file):
        started = time.monotonic()
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "nft", "-f", str(file)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return time.monotonic() - started

    def counters(self):
        # Not "list": nft 1.0.6 cannot list the sets of --icmp-errors. This resets them.
        listed = json.loads(sh(f"ip netns exec {self.name} nft -j reset counters table bridge sekisho"))
        return {each["counter"]["name"]: each["counter"]["packets"] for each in listed["nftables"] if "counter" in each}


@pytest.fixture
def linux_bridge(nft, network):
    return LinuxBridge(network())


def export(sekisho, folder, policy, forwarder, *options):
    (folder / "policy.toml").write_text(policy)
    done = sekisho("export", forwarder, folder / "policy.toml", "--output", folder / "out", *options)
    assert done.returncode == 0, done.stderr
    return folder / "out"


PORTS = ("--inside", "in0", "--outside", "out0")


@pytest.mark.parametrize("options", [[], ["--icmp-errors"]], ids=["", "icmp-errors"])
def test_nftables_judges_the_cases_alike(sekisho, folder, linux_bridge, options):
    linux_bridge.load(export(sekisho, folder, POLICY, "nftables", *options, *PORTS))
    check_cases(linux_bridge.network, " ".join(["nftables", *options]))
    if not options:
        listed = sh(f"ip netns exec {linux_bridge.name} nft list ruleset")
        assert "chain forward" in listed and "elements = { 10.0.0.1 . 10.0.0.2" in listed
    counters = linux_bridge.counters()
    assert sum(counters.values()) == len(CASES), counters
    assert all(counters.values()), f"a counter that nothing counts: {counters}"
    assert counters["denied_syn_from_server"] == sum(
        "SYN from the server" in name or name == "VLAN, the same in another" for name in CASES)
    assert counters["denied_binding"] == 3


def test_nftables_is_replaced_as_a_whole(sekisho, folder, linux_bridge):
    linux_bridge.load(export(sekisho, folder, POLICY, "nftables", *PORTS))
    linux_bridge.load(export(sekisho, folder, "version = 1\n", "nftables", *PORTS))
    frames = [(OUT, tcp(A, B, 40000, 5000, "S")), (OUT, ether() / ARP(psrc=A, pdst=B))]
    assert crossing(linux_bridge.network, frames) == [False, True]


@pytest.mark.parametrize("mode", ["learn", "monitor"])
def test_nftables_lets_all_pass_where_nothing_is_enforced(sekisho, folder, linux_bridge, mode):
    linux_bridge.load(export(sekisho, folder, f'mode = "{mode}"\n' + POLICY, "nftables", *PORTS))
    assert all(crossing(linux_bridge.network, [(side, frame) for _, side, frame in CASES.values()]))
    assert linux_bridge.counters()["denied"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_nftables_judges_random_frames_as_the_oracle(sekisho, folder, linux_bridge, seed):
    world = random_worlds.World(seed, exact=seed % 2 == 0)
    rng = random.Random(seed)
    policy = random_worlds.written_policy(world.rules, rng=rng)
    linux_bridge.load(export(sekisho, folder, policy, "nftables", "--icmp-errors", *PORTS))
    packets = [world.packet() for _ in range(2000)]
    frames = []
    for number, packet in enumerate(packets):
        data = random_worlds.frame_of(packet, rng)
        # A sender of its own for each, to know it again.
        frames.append((OUT, data[:6] + b"\x02" + number.to_bytes(5, "big") + data[12:]))
    crossed = crossing(linux_bridge.network, frames)
    wrong = []
    for packet, (_, frame), passes in zip(packets, frames, crossed, strict=True):
        judgement = oracle.judge(world.rules, packet)
        if judgement.cause == "icmp-error-unrelated":
            continue  # who sent the packet inside cannot be compared
        expected = not judgement.cause and frame[12:14] != b"\x88\xa8"  # two tags
        if passes != expected:
            wrong.append(f"{'crossed' if passes else 'did not cross'}: {judgement} {packet}")
    assert not wrong, f"{len(wrong)} of {len(packets)}:\n" + "\n".join(wrong[:10])
    assert sum(crossed) > 300, "too few cross to mean anything"


def test_nftables_loads_a_hundred_thousand_conversations(sekisho, folder, linux_bridge):
    servers = {n: ", ".join(f'"10.200.{n % 250}.{k}"' for k in range(1, 101)) for n in range(250)}
    rules = "".join(
        f'[[allow]]\nid = "{n}"\nfrom = "10.{n // 250}.{n % 250}.1"\nto = [{servers[n % 250]}]\nservice = "tcp/{n + 1}"\n'
        for n in range(1000))
    seconds = linux_bridge.load(export(sekisho, folder, "version = 1\n" + rules, "nftables", *PORTS))
    frames = [(OUT, tcp("10.3.249.1", "10.200.249.100", 40000, port, "S")) for port in (1000, 999)]
    assert crossing(linux_bridge.network, frames) == [True, False]
    assert seconds < 60, f"{seconds:.1f} s"


# --- Open vSwitch ------------------------------------------------------------------------------------------------


class OpenVSwitch:
    """Daemons of its own: their files in a folder, their ports in the bridge's namespace."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        folder.mkdir()
        self.database = f"unix:{folder}/db.sock"
        self.environment = {**os.environ, "OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder), "OVS_DBDIR": str(folder)}
        for port in ("in0", "out0"):
            sh(f"ip -n {network.bridge} link set {port} up")
        self.processes = []
        try:
            self.run("ovsdb-tool", "create", folder / "conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
            self.start("ovsdb-server", folder / "conf.db", f"--remote=punix:{folder}/db.sock", f"--unixctl={folder}/db.ctl")
            self.wait_for(folder / "db.sock")
            self.vsctl("--no-wait", "init")
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
            self.start("ovs-vswitchd", self.database, f"--unixctl={folder}/vswitchd.ctl")
            # The userspace datapath: the kernel's is a module, or is not there.
            self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure",
                       "--", "add-port", "br0", "in0", "--", "set", "interface", "in0", "ofport_request=1",
                       "--", "add-port", "br0", "out0", "--", "set", "interface", "out0", "ofport_request=2")
            self.ofctl("set-frags", "nx-match")
        except BaseException:
            self.close()
            raise

    def run(self, *command):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, env=self.environment)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        return done.stdout

    def start(self, *command):
        with open(self.folder / "log", "ab") as log:
            self.processes.append(subprocess.Popen(
                ["ip", "netns", "exec", self.network.bridge, *map(str, command)], stdout=log, stderr=log, env=self.environment))

    def wait_for(self, path):
        end = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < end, f"no {path}: {(self.folder / 'log').read_text()[-2000:]}"
            time.sleep(0.02)

    def vsctl(self, *arguments):
        return self.run("ovs-vsctl", f"--db={self.database}", "--timeout=20", *arguments)

    def ofctl(self, command, *arguments):
        return self.run("ovs-ofctl", command, f"unix:{self.folder}/br0.mgmt", *arguments)

    def close(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@pytest.fixture
def open_vswitch(network, folder):
    for tool in ("ovsdb-server", "ovs-vswitchd", "ovs-ofctl"):
        if not shutil.which(tool):
            pytest.skip(f"needs the program {tool} (Debian package openvswitch-switch)")
    switch = OpenVSwitch(network(), folder / "ovs")
    yield switch
    switch.close()


def test_open_vswitch_judges_the_cases_alike(sekisho, folder, open_vswitch):
    flows = export(sekisho, folder, POLICY, "openflow")
    open_vswitch.ofctl("add-flows", flows)
    written = [line for line in flows.read_text().splitlines() if not line.startswith("#")]
    assert len(open_vswitch.ofctl("dump-flows", "--no-stats").splitlines()) == len(written), "two flows have the same match"
    check_cases(open_vswitch.network, "openflow")
    rest = [line for line in open_vswitch.ofctl("dump-flows").splitlines() if "table=2" in line and "priority=0 " in line]
    assert len(rest) == 1 and "n_packets=0," not in rest[0], "the flow of the denied counts"


@pytest.mark.parametrize("seed", range(2))
def test_open_vswitch_judges_random_frames_as_the_oracle(sekisho, folder, open_vswitch, seed):
    world = random_worlds.World(seed, exact=False)
    rng = random.Random(seed)
    open_vswitch.ofctl("add-flows", export(sekisho, folder, random_worlds.written_policy(world.rules, rng=rng), "openflow"))
    packets = [world.packet() for _ in range(1000)]
    frames = []
    for number, packet in enumerate(packets):
        data = random_worlds.frame_of(packet, rng)
        frames.append((OUT, data[:6] + b"\x02" + number.to_bytes(5, "big") + data[12:]))
    crossed = crossing(open_vswitch.network, frames)
    wrong = []
    for packet, passes in zip(packets, crossed, strict=True):
        judgement = oracle.judge(world.rules, packet)
        if passes != (not judgement.cause and not packet.about):  # the packet in an error is not seen
            wrong.append(f"{'crossed' if passes else 'did not cross'}: {judgement} {packet}")
    assert not wrong, f"{len(wrong)} of {len(packets)}:\n" + "\n".join(wrong[:10])


def test_openflow_is_understood_without_a_daemon(sekisho, folder):
    if not shutil.which("ovs-ofctl"):
        pytest.skip("needs the program ovs-ofctl (Debian package openvswitch-switch)")
    flows = export(sekisho, folder, 'mode = "monitor"\n' + POLICY, "openflow")
    done = subprocess.run(["ovs-ofctl", "parse-flows", flows], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "drop" not in flows.read_text()


# --- The command -------------------------------------------------------------------------------------------------


def test_the_output_is_the_same_every_time(sekisho, folder):
    for forwarder in ("nftables", "openflow"):
        texts = {export(sekisho, folder, POLICY, forwarder).read_text() for _ in range(3)}
        printed = sekisho("export", forwarder, folder / "policy.toml")
        assert texts == {printed.stdout} and printed.stderr == ""


def test_a_failure_leaves_the_file_as_it_was(sekisho, folder):
    (folder / "out").write_text("before")
    (folder / "policy.toml").write_text("version = 2\n")
    done = sekisho("export", "nftables", folder / "policy.toml", "--output", folder / "out")
    assert done.returncode == 1 and "version 1" in done.stderr
    (folder / "policy.toml").write_text(POLICY)
    done = sekisho("export", "openflow", folder / "policy.toml", "--output", folder / "nowhere" / "out")
    assert done.returncode == 1 and "ENOENT" in done.stderr
    # A directory cannot be replaced by a file: the last step fails.
    (folder / "taken").mkdir()
    done = sekisho("export", "nftables", folder / "policy.toml", "--output", folder / "taken")
    assert done.returncode == 1 and "EISDIR" in done.stderr
    assert (folder / "out").read_text() == "before"
    assert sorted(path.name for path in folder.iterdir()) == ["out", "policy.toml", "taken"]


def test_a_full_disk_is_reported(binary, folder):
    (folder / "policy.toml").write_text(POLICY)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [binary, "export", "nftables", folder / "policy.toml"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1 and "ENOSPC" in done.stderr


@pytest.mark.parametrize("arguments, text", [
    (["--inside", "a b"], "no name of a port"),
    (["--inside", 'x" accept'], "no name of a port"),
    (["--outside", "sixteen-letters-"], "no name of a port"),
    (["--inside", "eth0", "--outside", "eth0"], "the same port"),
])
def test_wrong_ports_are_refused(sekisho, folder, arguments, text):
    (folder / "policy.toml").write_text(POLICY)
    done = sekisho("export", "nftables", folder / "policy.toml", *arguments)
    assert done.returncode == 64 and text in done.stderr
