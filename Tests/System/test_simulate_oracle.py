"""`simulate` against a second implementation of what a policy means (oracle.py), frame by frame."""

import csv
import dataclasses
import ipaddress
import random
import struct

import pytest

import oracle
from frames import (
    ARP, ICMP, IP, LLC, MAC_A, MAC_B, SNAP, STP, TCP, UDP, Dot1Q, Dot3, Ether, IPv6, Raw, ether, write_pcap)
from oracle import Packet, Rule, Service, address, network

# --- From descriptions to files ----------------------------------------------------------------------------------


def written_policy(rules, ethertypes='["arp"]', extra="", rng=random.Random(0)):
    """The rules as TOML, sometimes by way of devices, groups and services: the meaning is the same."""
    devices, groups, services, allow = [], [], [], []

    def named(nets, rule, which):
        texts = []
        for number, net in enumerate(nets):
            if net.prefixlen == 0:
                # "any" is of both families.
                if "any" not in texts:
                    texts.append("any")
                continue
            texts.append(str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net))
        way = rng.randrange(3)
        if way == 0 or "any" in texts:
            return texts
        name = f"{which}-{rule.id}"
        if way == 1:
            groups.append(f"{name} = {list_of(texts)}")
            return [name]
        groups.append(f"{name}-part = {list_of(texts[1:])}" if texts[1:] else f"{name}-part = {list_of(texts)}")
        groups.append(f"{name} = {list_of([texts[0], name + '-part'])}")
        return [name]

    def list_of(texts):
        return "[" + ", ".join(f'"{text}"' for text in texts) + "]"

    for rule in rules:
        written = [service.written() for service in rule.services]
        if rng.randrange(2):
            services.append(f"s-{rule.id} = {list_of(written)}")
            written = [f"s-{rule.id}"]
        allow.append(
            f'[[allow]]\nid = "{rule.id}"\nfrom = {list_of(named(rule.clients, rule, "c"))}\n'
            f'to = {list_of(named(rule.servers, rule, "s"))}\nservice = {list_of(written)}'
            + (f"\nvlan = {rule.vlans}" if rule.vlans else "") + ("\nexpires = 2020-01-01T00:00:00Z" if rule.expired else ""))
    return "\n".join([
        # The oracle knows the rules and nothing of what has gone before.
        "version = 1", f"ethertypes = {ethertypes}", extra, "[state]", "flows = 0", "[groups]", *groups, "[services]", *services, *allow, ""])


def verdicts(sekisho, folder, policy, frames):
    """Verdict, cause and rule of each frame, by the program."""
    (folder / "policy.toml").write_text(policy)
    write_pcap(folder / "frames.pcap", frames)
    done = sekisho(
        "simulate", folder / "policy.toml", folder / "frames.pcap", "--mode", "enforce", "--verdicts", folder / "out.csv",
        timeout=60)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    rows = list(csv.DictReader(open(folder / "out.csv", newline="")))
    assert [int(row["packet"]) for row in rows] == list(range(1, len(frames) + 1))
    return rows


def network_layer(packet, inner):
    fields = dict(src=str(packet.source), dst=str(packet.destination))
    number = oracle.NUMBERS.get(packet.protocol, packet.protocol)
    ip = IP(**fields, proto=number) if packet.source.version == 4 else IPv6(**fields, nh=number)
    if packet.later_fragment and packet.source.version == 4:
        ip.frag = 185
    return ip / inner


def transport_layer(packet, payload=b"payload!"):
    if packet.about:
        inner = bytes(network_layer(packet.about, transport_layer(packet.about)))
        return Raw(bytes([packet.kind, packet.code, 0, 0, 0, 0, 0, 0]) + inner)
    if packet.protocol == "tcp":
        return TCP(sport=packet.source_port, dport=packet.port, flags=packet.flags) / payload
    if packet.protocol == "udp":
        return UDP(sport=packet.source_port, dport=packet.port) / payload
    if packet.protocol == "sctp":
        return Raw(struct.pack(">HHII", packet.source_port, packet.port, 1, 2) + payload)
    if packet.protocol in ("icmp", "icmpv6"):
        return Raw(bytes([packet.kind, packet.code, 0, 0, 0, 1, 0, 2]) + payload)
    return Raw(b"\0\0\x08\0" + payload)


def frame_of(packet, rng):
    if packet.vlan and rng.randrange(4) == 0:  # the outer tag counts
        head = ether(type=0x88A8) / Dot1Q(vlan=packet.vlan, type=0x8100) / Dot1Q(vlan=rng.randrange(1, 4))
    elif packet.vlan:
        head = ether() / Dot1Q(vlan=packet.vlan, prio=rng.randrange(8))
    elif rng.randrange(10) == 0:  # priority-tagged is untagged
        head = ether() / Dot1Q(vlan=0, prio=5)
    else:
        head = ether()
    data = bytes(head / network_layer(packet, transport_layer(packet)))
    # Padding up to Ethernet's least, and sometimes more.
    return data + bytes(max(0, 60 - len(data)) if rng.randrange(2) else 0)


def compare(rows, described):
    """All disagreements, readable. `described`: (what it is, the oracle's judgement) of each frame."""
    wrong = []
    for row, (what, judgement) in zip(rows, described, strict=True):
        expected = ("deny", judgement.cause) if judgement.cause else ("allow", "")
        agrees = (row["verdict"], row["cause"]) == expected
        if agrees and not judgement.cause and judgement.rules:
            agrees = row["rule"] in judgement.rules
        if not agrees:
            wrong.append(f"frame {row['packet']}: {row['verdict']} {row['cause']} {row['rule']}; "
                         f"expected {expected} by {judgement.rules}: {what}")
    assert not wrong, f"{len(wrong)} of {len(rows)} disagree:\n" + "\n".join(wrong[:20])


# --- Random policies, random packets -----------------------------------------------------------------------------


class World:
    """Few addresses and ports, so that chance finds matches, near misses and overlaps."""

    def __init__(self, seed, exact):
        self.rng = random.Random(seed)
        self.exact = exact
        self.rules = [self.rule(number) for number in range(30)]

    def address(self, version=None):
        rng = self.rng
        if (version or rng.choice((4, 4, 6))) == 4:
            return address(f"10.0.0.{rng.randrange(32)}")
        # Networks end in both halves of an IPv6 address.
        return address(f"fd00:0:0:{rng.randrange(3):x}::{rng.randrange(8):x}")

    def network(self, version):
        rng = self.rng
        one = self.address(version)
        if self.exact or rng.randrange(2):
            return network(str(one))
        if rng.randrange(12) == 0:
            return network("0.0.0.0/0" if version == 4 else "::/0")
        length = rng.choice((31, 30, 29, 28, 27, 24, 8) if version == 4 else (127, 126, 125, 65, 64, 63, 62, 16))
        return ipaddress.ip_network(f"{one}/{length}", strict=False)

    def networks(self, versions):
        nets = [self.network(version) for version in versions for _ in range(self.rng.randrange(1, 3))]
        # "any" has no family.
        if any(net.prefixlen == 0 for net in nets):
            nets += [network("0.0.0.0/0"), network("::/0")]
        return nets

    def service(self):
        rng = self.rng
        kind = rng.randrange(10)
        if kind < 7:
            low = rng.choice((1, 2, 3, 4, 5, 65534, 65535))
            high = low if self.exact or rng.randrange(2) else min(65535, low + rng.randrange(4))
            return [Service(rng.choice(("tcp", "tcp", "udp", "sctp")), low, high)]
        if kind == 7:
            return [Service("icmp", kind=8, code=0), Service("icmpv6", kind=128, code=0)]
        if kind == 8 and not self.exact:
            return rng.choice((
                [Service("icmp"), Service("icmpv6")], [Service("tcp")], [Service("udp")],
                [Service("icmp", kind=13), Service("icmpv6", kind=13)]))
        return [Service("gre")]

    def rule(self, number):
        rng = self.rng
        versions = rng.choice(((4,), (4,), (6,), (4, 6)))
        services = [each for _ in range(rng.randrange(1, 3)) for each in self.service()]
        return Rule(
            f"r{number}", self.networks(versions), self.networks(versions), services,
            vlans=rng.sample((1, 2, 3), rng.randrange(1, 3)) if rng.randrange(4) == 0 else [],
            expired=rng.randrange(12) == 0)

    def packet(self, depth=0):
        rng = self.rng
        if depth == 0 and rng.randrange(12) == 0:
            about = self.packet(1)
            while about.protocol in ("icmp", "icmpv6") and is_icmp_error(about):
                about = self.packet(1)
            about.later_fragment = False
            version = about.source.version
            kinds = (3, 11, 12) if version == 4 else (1, 2, 3, 4)
            return Packet(
                rng.choice((about.destination, self.address(version))),
                about.source if rng.randrange(6) else self.address(version), "icmp" if version == 4 else "icmpv6",
                kind=rng.choice(kinds), code=rng.randrange(5), vlan=about.vlan, about=about)
        packet = self.near_a_rule() if rng.randrange(3) else self.anything()
        if rng.randrange(2):  # the other way
            packet.source, packet.destination = packet.destination, packet.source
            packet.source_port, packet.port = packet.port, packet.source_port
            if packet.protocol in ("icmp", "icmpv6"):
                packet.kind = {8: 0, 13: 14, 128: 129}.get(packet.kind, packet.kind)
        if depth == 0 and packet.source.version == 4 and rng.randrange(60) == 0:
            packet.later_fragment = True
        return packet

    def anything(self):
        rng = self.rng
        source = self.address()
        protocol = rng.choice(("tcp", "tcp", "udp", "sctp", "gre", "icmp", 50))
        if protocol == "icmp" and source.version == 6:
            protocol = "icmpv6"
        return Packet(
            source, self.address(source.version), protocol, rng.choice((1, 3, 40000)), rng.choice((1, 2, 3, 4, 5, 6, 65535)),
            rng.choice(("S", "SA", "A", "PA", "FA", "R", "RA", "SEC")),
            kind=rng.choice((8, 13, 17) if source.version == 4 else (128, 130, 143)), code=rng.choice((0, 0, 0, 1)),
            vlan=rng.choice((0, 0, 1, 2, 3)))

    def near_a_rule(self):
        """What a rule allows, often with one thing changed."""
        rng = self.rng
        rule = rng.choice(self.rules)
        client = rng.choice(rule.clients)
        others = [net for net in rule.servers if net.version == client.version]
        services = [s for s in rule.services if s.protocol not in ("icmp", "icmpv6")
                    or (s.protocol == "icmp") == (client.version == 4)]
        if not others or not services:
            return self.anything()
        service = rng.choice(services)
        packet = self.anything()
        packet.source = self.in_network(client)
        packet.destination = self.in_network(rng.choice(others))
        packet.protocol = service.protocol
        packet.source_port, packet.port = 40000, rng.choice((service.low, service.high, service.low))
        packet.port = packet.port or 7
        packet.kind = service.kind if service.kind is not None else (8 if client.version == 4 else 128)
        packet.code = 0
        packet.vlan = rng.choice(rule.vlans) if rule.vlans else rng.choice((0, 0, 2))
        match rng.randrange(12):
            case 0: packet.source = self.address(client.version)
            case 1: packet.destination = self.address(client.version)
            case 2: packet.port = max(1, min(65535, packet.port + rng.choice((-1, 1))))
            case 3: packet.vlan = rng.choice((0, 1, 2, 3))
            case 4 if packet.protocol in ("tcp", "udp"): packet.protocol = {"tcp": "udp", "udp": "tcp"}[packet.protocol]
            case 5: packet.code = 1
        return packet

    def in_network(self, net):
        """Its first, its last or any address, within the world."""
        candidates = [a for a in (self.address(net.version) for _ in range(4)) if a in net]
        ends = [net[0], net[-1]] if net.prefixlen else []
        return self.rng.choice(candidates + ends or [self.address(net.version)])


def is_icmp_error(packet):
    return packet.kind in ((3, 4, 5, 11, 12) if packet.protocol == "icmp" else (1, 2, 3, 4, 137))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("exact", [True, False], ids=["hosts", "networks"])
def test_random_policies(sekisho, folder, seed, exact):
    """Why: two implementations rarely make the same mistake; one of the two tiers, or both of them, are in use."""
    world = World(seed * 2 + exact, exact)
    packets = [world.packet() for _ in range(500)]
    frames = [frame_of(packet, world.rng) for packet in packets]
    rows = verdicts(sekisho, folder, written_policy(world.rules, rng=world.rng), frames)
    judged = [(packet, oracle.judge(world.rules, packet)) for packet in packets]
    causes = {judgement.cause for _, judgement in judged}
    assert {"", "not-in-policy", "syn-from-server"} <= causes, f"these packets test nothing: {causes}"
    compare(rows, judged)


def test_many_rules_and_their_nearest_misses(sekisho, folder):
    """Why: in a perfect hash of thousands an absent key lands on a present one; only the compare tells them apart."""
    rng = random.Random(5)
    rules = [
        Rule(f"r{number}", [network(f"10.{rng.randrange(4)}.{rng.randrange(8)}.{rng.randrange(256)}")],
             [network(f"10.9.{rng.randrange(8)}.{rng.randrange(256)}")], [Service("tcp", port, port)])
        for number, port in enumerate(rng.choices((102, 502, 4840, 5000), k=4000))]
    index = {}
    for rule in rules:
        key = (rule.clients[0].network_address, rule.servers[0].network_address, rule.services[0].low)
        index.setdefault(key, []).append(rule)
    described, frames = [], []
    for rule in rng.sample(rules, 600):
        client, server, port = rule.clients[0].network_address, rule.servers[0].network_address, rule.services[0].low
        for packet in (
            Packet(client, server, "tcp", 40000, port, "S"), Packet(server, client, "tcp", port, 40000, "SA"),
            Packet(server, client, "tcp", port, 40000, "S"), Packet(client + 1, server, "tcp", 40000, port, "A"),
            Packet(client, server + 256, "tcp", 40000, port, "A"), Packet(client, server, "tcp", port, 40000, "A"),
            Packet(client, server, "udp", 40000, port), Packet(client, server, "tcp", 40000, port ^ 1, "A"),
        ):
            near = [
                r for key in ((packet.source, packet.destination, packet.port),
                              (packet.destination, packet.source, packet.source_port)) for r in index.get(key, [])]
            described.append((packet, oracle.judge(near, packet)))
            frames.append(frame_of(packet, rng))
    rows = verdicts(sekisho, folder, written_policy(rules, rng=rng), frames)
    compare(rows, described)


# --- Frames that are broken in one known way ---------------------------------------------------------------------

BASE = """
version = 1
ethertypes = ["arp", "lldp", 0x8892, "stp", "snap"]
[state]
flows = 0
[[allow]]
id = "all"
from = "10.0.0.1"
to = "10.0.0.2"
service = ["tcp/any", "udp/any", "sctp/any", "icmp/any", "gre/any"]
[[allow]]
id = "all6"
from = "fd00::1"
to = "fd00::2"
service = ["tcp/any", "udp/any", "sctp/any", "icmp/any", "gre/any"]
"""
V4 = dict(src="10.0.0.1", dst="10.0.0.2")
V6 = dict(src="fd00::1", dst="fd00::2")
SEGMENT = TCP(sport=40000, dport=5000, flags="A") / b"0123456789"
DATAGRAM = UDP(sport=40000, dport=5000) / b"0123456789"


def checked(cases, sekisho, folder, policy=BASE):
    rows = verdicts(sekisho, folder, policy, [frame for frame, _, _ in cases])
    compare(rows, [(what, oracle.Judgement(cause, [])) for _, cause, what in cases])


def with_tags(cases):
    """Each frame also with one and with two tags: the offsets move, the verdict does not."""
    for frame, cause, what in cases:
        data = bytes(frame)
        yield data, cause, what
        yield data[:12] + b"\x81\0\0\7" + data[12:], cause, what + ", tagged"
        yield data[:12] + b"\x88\xa8\0\x64\x81\0\0\7" + data[12:], cause, what + ", tagged twice"


def ipv4_cases():
    def ip(inner=SEGMENT, **fields):
        return ether() / IP(**V4, **fields) / inner

    yield ip(), "", "IPv4"
    yield ip(tos=0xFF, id=7, ttl=1, chksum=1), "", "fields that do not matter"
    yield ip(flags="DF"), "", "do not fragment"
    for version in (0, 5, 6, 15):
        yield ip(version=version), "ip-header", f"IPv4 type, version {version}"
    for ihl in range(5):
        yield ip(ihl=ihl), "ip-header", f"header of {ihl} words"
    for length in (0, 1, 19):
        yield ip(len=length), "ip-length", f"total length {length}"
    yield ip(ihl=15, len=59), "ip-length", "header longer than the packet"
    yield ip(len=51), "truncated", "longer than the frame by one"
    yield ip(len=0xFFFF), "truncated", "much longer than the frame"
    yield ip(len=20), "tcp-header", "no segment in it"
    for options in ("01010101", "94040000", "0703040 0".replace(" ", ""), "440c050000000000 00000000".replace(" ", ""),
                    "00ffffff", "010101 00".replace(" ", "")):
        yield ip(options=Raw(bytes.fromhex(options))), "", f"options {options}"
    for options in ("83030401", "89030401", "83070400000000 00".replace(" ", ""), "0183030400000000", "8300ffff",
                    "07000000", "07010000", "07050000", "01010144", "0101ff04"):
        yield ip(options=Raw(bytes.fromhex(options))), "ip-options", f"options {options}"
    # Fragments.
    for inner, what in ((SEGMENT, "TCP"), (DATAGRAM, "UDP")):
        whole = bytes(inner) + bytes(64)
        proto = 6 if what == "TCP" else 17
        needed = 20 if what == "TCP" else 8

        def fragment(size, proto=proto, whole=whole, **fields):
            return ether() / IP(**V4, proto=proto, **fields) / Raw(whole[:size])

        for size in (8, 16, 24, 64):
            cause = "" if size >= needed else "fragment-tiny"
            yield fragment(size, flags="MF"), cause, f"first {what} fragment of {size}"
        for offset in (1, 2):
            yield fragment(16, frag=offset), "fragment-overlap", f"{what} fragment at {offset * 8}"
            yield fragment(16, frag=offset, flags="MF"), "fragment-overlap", f"{what} fragment at {offset * 8}, more"
        for offset in (3, 185, 8180):
            yield fragment(16, frag=offset), "fragment-untracked", f"{what} fragment at {offset * 8}"
        yield fragment(0, flags="MF"), "fragment-length", f"{what} fragment of nothing"
        yield fragment(0, frag=185), "fragment-length", f"last {what} fragment of nothing"
        yield fragment(25, flags="MF"), "fragment-length", f"{what} fragment not a multiple of 8"
        yield fragment(64, frag=8191), "fragment-length", f"{what} fragment beyond 65535"
    header_of_24 = TCP(sport=1, dport=5000, flags="A", dataofs=6)
    yield ether() / IP(**V4, flags="MF", proto=6) / Raw(bytes(header_of_24)[:20] + b""), "fragment-length", "20 bytes and more"
    yield (ether() / IP(**V4, flags="MF", proto=6) / Raw(bytes(TCP(sport=1, dport=5000, flags="A", dataofs=15))[:20] + bytes(12)),
           "fragment-tiny", "TCP options in the next fragment")


def transport_cases():
    for layer, what in ((IP(**V4), "IPv4"), (IPv6(**V6), "IPv6")):
        def over(inner):
            return ether() / layer / inner

        for offset in range(5):
            yield over(TCP(sport=1, dport=2, flags="A", dataofs=offset)), "tcp-header", f"{what} TCP header of {offset} words"
        yield over(TCP(sport=1, dport=2, flags="A", dataofs=6)), "tcp-header", f"{what} TCP header beyond the segment"
        yield over(TCP(sport=1, dport=2, flags="A", dataofs=15) / bytes(40)), "", f"{what} TCP options to the end"
        possible = {"S", "SA", "R", "RA", "A", "FA"}
        for bits in range(256):
            named = "".join(name for bit, name in ((2, "S"), (4, "R"), (1, "F"), (16, "A")) if bits & bit)
            cause = "" if named in possible else "tcp-flags"
            yield over(TCP(sport=1, dport=2, flags=bits) / b"x"), cause, f"{what} TCP flags {bits:#04x}"
        for length in (0, 7, 20, 0xFFFF):
            yield over(UDP(sport=1, dport=2, len=length) / b"0123456789"), "udp-length", f"{what} UDP length {length}"
        for length in (8, 17, 18):
            yield over(UDP(sport=1, dport=2, len=length) / b"0123456789"), "", f"{what} UDP length {length}"
        for protocol, least, cause in ((6, 20, "tcp-header"), (17, 8, "udp-length"), (132, 12, "transport-header")):
            for size in {0, 1, 4, 7, least - 1}:
                short = layer.copy()
                setattr(short, "proto" if what == "IPv4" else "nh", protocol)
                yield ether() / short / Raw(bytes(size)) , cause, f"{what} protocol {protocol} in {size} bytes"
    # ICMP.
    for layer, number, echo in ((IP(**V4, proto=1), 1, 8), (IPv6(**V6, nh=58), 58, 128)):
        yield ether() / layer / Raw(bytes([echo, 0, 0, 0, 0, 0, 0, 0])), "", f"ping over {number}"
        for size in (0, 1, 4, 7):
            yield ether() / layer / Raw(bytes([echo, 0, 0, 0, 0, 0, 0, 0])[:size]), "icmp-header", f"ICMP {number} of {size} bytes"
    # A protocol of the other family is no ICMP.
    yield ether() / IP(**V4, proto=58) / Raw(bytes([128, 0, 0, 0, 0, 0, 0, 0])), "not-in-policy", "ICMPv6 over IPv4"
    yield ether() / IPv6(**V6, nh=1) / Raw(bytes([8, 0, 0, 0, 0, 0, 0, 0])), "not-in-policy", "ICMP over IPv6"


def icmp_error_cases():
    router = dict(src="10.0.0.254")
    conversation = bytes(IP(**V4) / TCP(sport=40000, dport=5000, flags="S") / b"x")
    reply = bytes(IP(src=V4["dst"], dst=V4["src"]) / TCP(sport=5000, dport=40000, flags="S") / b"x")

    def error(about, to="10.0.0.1", kind=3, code=1, **fields):
        return ether() / IP(**router, dst=to, proto=1, **fields) / Raw(bytes([kind, code, 0, 0, 0, 0, 5, 0xDC]) + about)

    for kind in (3, 11, 12):
        yield error(conversation, kind=kind), "", f"error {kind} about the client's packet"
        yield error(reply, to="10.0.0.2", kind=kind), "", f"error {kind} about the server's packet"
        yield error(conversation, to="10.0.0.2", kind=kind), "icmp-error-unrelated", f"error {kind} to who did not send"
        yield error(conversation[:27], kind=kind), "icmp-header", f"error {kind} about a packet cut short"
        yield error(b"", kind=kind), "icmp-header", f"error {kind} about nothing"
    yield error(conversation[:28]), "", "error with 8 bytes of the segment"
    foreign = bytes(IP(src="10.0.0.1", dst="10.0.0.66") / TCP(sport=1, dport=5000))
    yield error(foreign), "not-in-policy", "error about a conversation nobody allowed"
    later = bytes(IP(**V4, frag=100, proto=6) / Raw(bytes(40)))
    yield error(later), "icmp-header", "error about a later fragment"
    yield error(b"\x65" + conversation[1:]), "icmp-header", "error about a packet of version 6"
    yield error(b"\x44" + conversation[1:]), "icmp-header", "error about a packet with a header too short"
    yield error(b"\x4f" + conversation[1:]), "icmp-header", "error about a packet with a header too long"
    yield error(conversation + bytes(-len(conversation) % 8), flags="MF"), "icmp-header", "an error in fragments"
    about_error = bytes(IP(**V4, proto=1) / Raw(bytes([3, 1, 0, 0, 0, 0, 0, 0]) + conversation))
    yield error(about_error), "icmp-error-unrelated", "an error about an error"
    yield error(bytes(IP(**V4, proto=1) / ICMP(type=8) / b"ping")), "", "error about a ping"
    yield error(bytes(IP(src=V4["dst"], dst=V4["src"], proto=1) / ICMP(type=8)), to="10.0.0.2"), "not-in-policy", "… from the server"
    # Redirects change routes: never by an allowed conversation.
    yield error(conversation, kind=4), "not-in-policy", "a source quench, which nobody may send (RFC 6633)"
    yield error(conversation, code=3), "icmp-error-unrelated", "port unreachable from a router"
    yield error(conversation, code=2), "icmp-error-unrelated", "protocol unreachable from a router"
    yield error(conversation + bytes(548 - len(conversation))), "", "an error of 576 bytes"
    yield error(conversation + bytes(549 - len(conversation))), "icmp-header", "an error of 577 bytes: something is in it"
    yield error(conversation, kind=5), "not-in-policy", "a redirect about the client's packet"

    six = bytes(IPv6(**V6) / TCP(sport=40000, dport=5000) / b"x")

    def error6(about, to="fd00::1", kind=1):
        return ether() / IPv6(src="fd00::ff", dst=to, nh=58) / Raw(bytes([kind, 0, 0, 0, 0, 0, 5, 0]) + about)

    for kind in (1, 2, 3, 4):
        yield error6(six, kind=kind), "", f"ICMPv6 error {kind}"
        yield error6(six, to="fd00::2", kind=kind), "icmp-error-unrelated", f"ICMPv6 error {kind} to who did not send"
        yield error6(six[:47], kind=kind), "icmp-header", f"ICMPv6 error {kind} about a packet cut short"
    yield error6(b"\x40" + six[1:]), "icmp-header", "ICMPv6 error about a packet of version 4"
    yield error6(six, kind=137), "not-in-policy", "an ICMPv6 redirect"


def extension(kind, following, size=8, first=0):
    """An IPv6 extension header of `size` bytes."""
    return bytes([following, size // 8 - 1, first]) + bytes(size - 3)


def ipv6_cases():
    def ip(first, *headers, inner=SEGMENT, **fields):
        return ether() / IPv6(**V6, nh=first, **fields) / Raw(b"".join(headers) + bytes(inner))

    hop, routing, fragment, options = 0, 43, 44, 60
    yield ether() / IPv6(**V6) / SEGMENT, "", "IPv6"
    yield ether() / IPv6(**V6, tc=255, fl=0xFFFFF, hlim=0) / SEGMENT, "", "fields that do not matter"
    for version in (0, 4, 5, 15):
        yield ether() / IPv6(**V6, version=version) / SEGMENT, "ip-header", f"IPv6 type, version {version}"
    yield ether() / IPv6(**V6, plen=31) / SEGMENT, "truncated", "longer than the frame"
    yield ether() / IPv6(**V6, plen=19) / SEGMENT, "tcp-header", "too short for TCP"
    yield ether() / IPv6(**V6, plen=0) / SEGMENT, "tcp-header", "nothing in it"
    yield ip(hop, extension(hop, 6)), "", "hop-by-hop"
    yield ip(options, extension(options, 6, 24)), "", "destination options of 24 bytes"
    yield ip(routing, extension(routing, 6, 24, first=2)), "", "routing of type 2"
    yield ip(routing, extension(routing, 6, 24, first=0)[:2] + b"\0" + bytes(21)), "ipv6-extensions", "source route (type 0)"
    yield ip(hop, extension(hop, routing), extension(routing, options)[:2] + b"\4" + bytes(5), extension(options, 6)), "", "three"
    yield ip(options, extension(options, hop), extension(hop, 6)), "ipv6-extensions", "hop-by-hop not first"
    yield ip(hop, extension(hop, hop), extension(hop, 6)), "ipv6-extensions", "hop-by-hop twice"
    for count in (6, 7, 40):
        chain = [extension(options, options) for _ in range(count - 1)] + [extension(options, 6)]
        yield ip(options, *chain), "" if count <= 6 else "ipv6-extensions", f"{count} extension headers"
    yield ip(options, extension(options, 6)[:1] + b"\xff" + bytes(6)), "ipv6-extensions", "an extension beyond the packet"
    yield ip(options, b"\x06\0\0", inner=b""), "ipv6-extensions", "half an extension"
    yield ip(59), "not-in-policy", "no next header"
    yield ip(51, extension(51, 6)), "not-in-policy", "authentication header"
    yield ip(4, inner=IP(**V4) / SEGMENT), "not-in-policy", "IPv4 in IPv6"
    yield ip(41, inner=IPv6(**V6) / SEGMENT), "not-in-policy", "IPv6 in IPv6"
    # Jumbo payloads have length 0 and an option.
    yield ip(hop, b"\x06\0\xc2\4\0\1\0\0", plen=0), "ipv6-extensions", "jumbo payload"

    def piece(offset, more, following=6, size=32, inner=SEGMENT):
        field = struct.pack(">BBHI", following, 0, offset << 3 | more, 7)
        return ip(fragment, field, inner=(bytes(inner) + bytes(64))[:size])

    yield piece(0, 0), "", "atomic fragment"
    yield piece(0, 1), "", "first fragment"
    yield piece(0, 1, size=16), "fragment-tiny", "first fragment without the whole header"
    yield piece(1, 0), "fragment-overlap", "fragment at 8"
    yield piece(2, 1), "fragment-overlap", "fragment at 16"
    yield piece(3, 0), "fragment-untracked", "fragment at 24"
    yield piece(8191, 0, size=64), "fragment-length", "fragment beyond 65535"
    yield piece(5, 1, size=31), "fragment-length", "fragment not a multiple of 8"
    yield piece(5, 0, size=0), "fragment-length", "fragment of nothing"
    yield piece(0, 1, following=options, size=8, inner=b"\x06\x03" + bytes(6)), "fragment-tiny", "chain goes on in the next fragment"
    two = struct.pack(">BBHI", fragment, 0, 0, 7) + struct.pack(">BBHI", 6, 0, 0, 8)
    yield ip(fragment, two), "ipv6-extensions", "two fragment headers"


def neighbour_cases():
    multicast = "33:33:ff:00:00:02"

    def solicit(options=b"\1\1" + bytes.fromhex("02000000000a"), hops=255, code=0, target="fd00::2", source="fd00::1", kind=135):
        body = bytes([kind, code, 0, 0, 0, 0, 0, 0]) + address(target).packed + options
        return ether(destination=multicast) / IPv6(src=source, dst="ff02::1:ff00:2", nh=58, hlim=hops) / Raw(body)

    yield solicit(), "", "neighbour solicitation"
    yield solicit(b""), "", "neighbour solicitation without option"
    yield solicit(b"", source="::"), "", "duplicate address detection"
    yield solicit(source="::"), "neighbour-header", "duplicate address detection with a MAC address of its own"
    yield solicit(b"\2\1" + bytes.fromhex("02000000000a"), kind=136), "", "neighbour advertisement"
    yield solicit(hops=254), "neighbour-header", "forwarded neighbour solicitation"
    yield solicit(code=1), "neighbour-header", "neighbour solicitation of code 1"
    yield solicit(target="ff02::1"), "neighbour-header", "solicitation of a group"
    yield solicit(b"\1\0" + bytes(6)), "neighbour-header", "option of length 0"
    yield solicit(b"\1\2" + bytes(6)), "neighbour-header", "option beyond the packet"
    yield solicit(b"\1"), "neighbour-header", "half an option"
    yield solicit(b"\1\2" + bytes(14)), "neighbour-header", "a link-layer address of 14 bytes"
    body = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + bytes(8)
    yield ether() / IPv6(**V6, nh=58, hlim=255) / Raw(body), "neighbour-header", "solicitation cut short"


def other_cases():
    arp = dict(psrc="10.0.0.1", pdst="10.0.0.2", hwsrc=MAC_A)
    yield ether() / ARP(**arp), "", "ARP request"
    yield ether() / ARP(**arp, op=2), "", "ARP reply"
    for fields in (dict(op=0), dict(op=3), dict(op=8), dict(hwtype=6), dict(ptype=0x86DD), dict(hwlen=8), dict(plen=16)):
        broken = bytearray(bytes(ether() / ARP(**arp)))
        for name, value in fields.items():
            at, size = {"op": (20, 2), "hwtype": (14, 2), "ptype": (16, 2), "hwlen": (18, 1), "plen": (19, 1)}[name]
            broken[at:at + size] = value.to_bytes(size, "big")
        yield bytes(broken), "arp-header", f"ARP with {fields}"
    yield bytes(ether() / ARP(**arp))[:41], "truncated", "ARP cut short"
    yield ether(source="03:00:00:00:00:01") / IP(**V4) / SEGMENT, "ethernet-header", "sent by a group"
    yield ether(source="ff:ff:ff:ff:ff:ff") / IP(**V4) / SEGMENT, "ethernet-header", "sent by everybody"
    yield ether(destination="ff:ff:ff:ff:ff:ff") / IP(**V4) / SEGMENT, "", "sent to everybody"
    for kind in (1501, 1518, 1535):
        yield ether(type=kind) / Raw(bytes(1500)), "ethernet-header", f"neither length nor type: {kind}"
    for kind in (0x8892, 0x88CC):
        yield ether(type=kind) / Raw(bytes(46)), "", f"listed type {kind:#x}"
    for kind in (0x0600, 0x8891, 0x8893, 0x88A4, 0x8847, 0x8864, 0xFFFF, 0x0842):
        yield ether(type=kind) / Raw(bytes(46)), "ethertype", f"type {kind:#x}"

    def llc(body, length=None, size=46):
        return Ether(src=MAC_A, dst=MAC_B, type=len(body) if length is None else length) / Raw(body + bytes(max(0, size - len(body))))

    yield Dot3(src=MAC_A, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(), "", "spanning tree"
    yield llc(b"\x42\x42\3" + bytes(35)), "", "spanning tree, padded"
    yield llc(b"\xf0\xf0\3" + bytes(35)), "ethertype", "NetBEUI"
    yield llc(b"\xff\xff\0" + bytes(35)), "ethertype", "raw IPX"
    yield llc(b"\x43\x42\3" + bytes(35)), "ethertype", "LLC group address next to a listed one"
    yield llc(b"\x42\x42\3", length=0), "llc-header", "LLC length 0"
    yield llc(b"\x42\x42\3", length=2), "llc-header", "LLC length 2"
    yield llc(b"\x42\x42\3", length=47), "truncated", "LLC length beyond the frame"
    yield llc(bytes.fromhex("aaaa0300000c2000") + bytes(30)), "", "SNAP of Cisco"
    yield llc(bytes.fromhex("aaaa0300000c20")), "llc-header", "SNAP cut short"
    for inner in ("0800", "86dd", "0806", "8100", "88a8"):
        for oui in ("000000", "0000f8"):
            yield llc(bytes.fromhex(f"aaaa03{oui}{inner}") + bytes(IP(**V4) / SEGMENT)), "llc-encapsulated", f"SNAP {oui} {inner}"
    yield llc(b"\x06\x06\3" + bytes(IP(**V4) / SEGMENT)), "llc-encapsulated", "IP over LLC"


def depth_cases():
    inner = bytes(IP(**V4) / SEGMENT)
    macs = bytes(ether(type=0))[:12]
    tags = (b"\x81\0", b"\x88\xa8", b"\x91\0")
    for a in tags:
        yield macs + a + b"\0\1\x08\0" + inner, "", f"tag {a.hex()}"
        yield macs + a + b"\0\1" + b"\x08", "truncated", f"tag {a.hex()} cut short"
        for b in tags:
            yield macs + a + b"\0\1" + b + b"\0\2\x08\0" + inner, "", f"tags {a.hex()} {b.hex()}"
            yield macs + a + b"\0\1" + b + b"\0\2", "truncated", f"tags {a.hex()} {b.hex()} and no more"
            for c in tags:
                yield macs + a + b"\0\1" + b + b"\0\2" + c + b"\0\3\x08\0" + inner, "vlan-depth", "three tags"


GROUPS = {
    "ipv4": lambda: with_tags(ipv4_cases()), "transport": lambda: with_tags(transport_cases()),
    "icmp-errors": lambda: with_tags(icmp_error_cases()), "ipv6": lambda: with_tags(ipv6_cases()),
    "neighbours": lambda: with_tags(neighbour_cases()), "not-ip": lambda: with_tags(other_cases()), "tags": depth_cases,
}


@pytest.mark.parametrize("group", GROUPS)
def test_broken_in_one_way(sekisho, folder, group):
    """Why: every frame here but for its one fault is allowed, so that nothing else can deny it; and the cause is what a
    person will look at."""
    checked([(bytes(frame), cause, what) for frame, cause, what in GROUPS[group]()], sekisho, folder)


def test_cut_at_every_byte(sekisho, folder):
    """Why: reading behind the end of a frame shows at the one length nobody tried."""
    cases = []
    for frame in (
        ether() / IP(**V4) / SEGMENT, ether() / Dot1Q(vlan=7) / IP(**V4) / DATAGRAM, ether() / IPv6(**V6) / SEGMENT,
        ether(type=0x88A8) / Dot1Q(vlan=1, type=0x8100) / Dot1Q(vlan=7) / IPv6(**V6) / DATAGRAM,
        ether() / IP(**V4, options=Raw(b"\x94\4\0\0")) / SEGMENT, ether() / IPv6(**V6, nh=58) / Raw(bytes([128, *bytes(20)])),
        ether() / IP(src="10.0.0.254", dst="10.0.0.1", proto=1) / Raw(b"\3\1" + bytes(6)) / IP(**V4) / SEGMENT,
    ):
        data = bytes(frame)
        cases.append((data, "", "whole"))
        cases += [(data[:size], "truncated", f"{size} of {len(data)} bytes") for size in range(len(data))]
    checked(cases, sekisho, folder)


def test_snapped_by_the_capture(sekisho, folder):
    """Why: a capture with a snap length holds the headers of frames that were whole on the wire."""
    cases = []
    for frame, headers in ((ether() / IP(**V4) / SEGMENT, 54), (ether() / IPv6(**V6) / DATAGRAM, 62)):
        data = bytes(frame)
        for size in range(len(data)):
            cases.append(((data[:size], len(data)), "" if size >= headers else "truncated", f"{size} of {len(data)} recorded"))
    checked(cases, sekisho, folder)


BOUND = BASE + """
[devices.one]
addresses = ["10.0.0.1", "fd00::1"]
mac = ["02:00:00:00:00:0a", "02:00:00:00:00:1a"]
[devices.two]
addresses = ["10.0.0.2", "fd00::2"]
mac = ["02:00:00:00:00:0b"]
"""


def test_addresses_bound_to_macs(sekisho, folder):
    """Why: taking over a tool's IP address is the first thing an intruder on its segment does."""
    good = dict(source=MAC_A, destination=MAC_B)
    evil = "02:00:00:00:00:ee"
    cases = []
    for layer, what in ((IP(**V4), "IPv4"), (IPv6(**V6), "IPv6")):
        cases += [
            (ether(**good) / layer / SEGMENT, "", f"{what}, its own address"),
            (ether("02:00:00:00:00:1a", MAC_B) / layer / SEGMENT, "", f"{what}, its second MAC address"),
            (ether(evil, MAC_B) / layer / SEGMENT, "address-binding", f"{what} from another MAC address"),
            (ether(MAC_A, evil) / layer / SEGMENT, "address-binding", f"{what} to another MAC address"),
            (ether(MAC_B, MAC_A) / layer / SEGMENT, "address-binding", f"{what} with both exchanged"),
        ]

    def arp(source=MAC_A, claimed=MAC_A, ip="10.0.0.1", **fields):
        return ether(source, "ff:ff:ff:ff:ff:ff") / ARP(psrc=ip, pdst="10.0.0.2", hwsrc=claimed, **fields)

    cases += [
        (arp(), "", "ARP"), (arp(op=2), "", "ARP reply"),
        (arp(claimed=evil), "address-binding", "ARP that claims another MAC address"),
        (arp(source=evil), "address-binding", "ARP from another MAC address"),
        (arp(source=evil, claimed=evil, op=2), "address-binding", "ARP reply of an intruder"),
        (arp(source=evil, claimed=evil, ip="10.0.0.77"), "", "ARP of an address that is not bound"),
    ]

    # A probe claims what it asks for: who is about to use that address would give it up.
    def probe(mac, claimed, target):
        return ether(mac, "ff:ff:ff:ff:ff:ff") / ARP(psrc="0.0.0.0", pdst=target, hwsrc=claimed)

    def detect(mac, target):
        body = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + address(target).packed
        return ether(mac, "33:33:ff:00:00:01") / IPv6(src="::", dst="ff02::1:ff00:1", nh=58, hlim=255) / Raw(body)

    cases += [
        (probe(MAC_A, MAC_A, "10.0.0.1"), "", "ARP probe for its own address"),
        (probe(evil, evil, "10.0.0.1"), "address-binding", "ARP probe for another's address"),
        (probe(MAC_A, evil, "10.0.0.1"), "address-binding", "ARP probe with two MAC addresses"),
        (probe(evil, evil, "10.0.0.77"), "", "ARP probe for an address that is not bound"),
        (detect(MAC_A, "fd00::1"), "", "duplicate address detection of its own address"),
        (detect(evil, "fd00::1"), "address-binding", "duplicate address detection of another's address"),
        (detect(evil, "fd00::66"), "", "duplicate address detection of an address that is not bound"),
    ]

    def advertise(mac, claimed, target="fd00::1", source="fd00::1"):
        body = bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + address(target).packed + b"\2\1" + bytes.fromhex(claimed.replace(":", ""))
        return ether(mac, "33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", nh=58, hlim=255) / Raw(body)

    cases += [
        (advertise(MAC_A, MAC_A), "", "advertisement"),
        (advertise(MAC_A, evil), "address-binding", "advertisement of another MAC address"),
        (advertise(evil, MAC_A), "address-binding", "advertisement from another MAC address"),
        (advertise(evil, evil, source="fd00::66"), "address-binding", "advertisement of somebody else's address"),
        (advertise(evil, evil, target="fd00::66", source="fd00::66"), "", "advertisement of an address that is not bound"),
    ]
    # An error comes from a router; it is no word of the device inside it.
    error = IP(src="10.0.0.254", dst="10.0.0.1", proto=1) / Raw(b"\3\1" + bytes(6)) / IP(**V4) / SEGMENT
    cases += [(ether(evil, MAC_A) / error, "", "ICMP error of a router"),
              (ether(evil, evil) / error, "address-binding", "ICMP error to another MAC address")]
    checked([(bytes(frame), cause, what) for frame, cause, what in cases], sekisho, folder, BOUND)


# --- No frame passes that somebody else would read as something not allowed ---------------------------------------


def test_noise_never_widens_a_policy(sekisho, folder):
    """Why: whatever a byte turns into, a frame that passes must be one the policy allows as scapy reads it."""
    rng = random.Random(11)
    policy = BASE.replace('"tcp/any", "udp/any", "sctp/any", "icmp/any", "gre/any"', '"tcp/5000", "udp/5000"')
    allowed = {("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ("fd00::1", "fd00::2"), ("fd00::2", "fd00::1")}
    seeds = [
        bytes(head / ip / inner) for ip in (IP(**V4), IPv6(**V6)) for inner in (SEGMENT, DATAGRAM)
        for head in (ether(), ether() / Dot1Q(vlan=3), ether(type=0x88A8) / Dot1Q(vlan=1, type=0x8100) / Dot1Q(vlan=3))]
    frames = []
    for _ in range(3000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(6, len(data))] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
        frames.append(bytes(data))
    rows = verdicts(sekisho, folder, policy, frames)
    passed = [frame for frame, row in zip(frames, rows) if row["verdict"] == "allow"]
    assert 200 < len(passed) < 2800, "the noise is too weak or too strong to test anything"
    for data in passed:
        # scapy does not know the old service tag.
        frame = Ether(data.replace(b"\x91\0", b"\x81\0"))
        kind = frame.lastlayer() if IP not in frame and IPv6 not in frame else None
        if kind is not None:
            assert frame.type in (0x0806, 0x88CC, 0x8892) or len(data) > 14 and frame.type < 0x600 or Dot1Q in frame, data.hex()
            continue
        ip = frame[IP] if IP in frame else frame[IPv6]
        assert (ip.src, ip.dst) in allowed, data.hex()
        transport = ip.getlayer(TCP) or ip.getlayer(UDP)
        assert transport is not None and 5000 in (transport.sport, transport.dport), data.hex()


# --- Real traffic ------------------------------------------------------------------------------------------------


@pytest.mark.optional_input
def test_real_captures_have_no_broken_frames(sekisho, folder, captures):
    """Why: what the parser calls broken in a factory's own traffic would be an outage."""
    (folder / "policy.toml").write_text("version = 1\n")
    for capture in sorted((captures / "ics").iterdir()):
        done = sekisho("simulate", folder / "policy.toml", capture, "--mode", "enforce", "--verdicts", folder / "out.csv", timeout=60)
        assert done.returncode == 0, done.stderr
        causes = {row["cause"] for row in csv.DictReader(open(folder / "out.csv", newline=""))}
        assert causes <= {"", "not-in-policy", "ethertype"} or "fuzzed" in capture.name, f"{capture.name}: {causes}"


@pytest.mark.optional_input
def test_labelled_capture_under_the_policy_a_person_would_write(sekisho, folder, captures):
    """Why: the attack is a station that talks to its neighbours, which no master's rule allows."""
    (folder / "policy.toml").write_text("""
version = 1
[groups]
stations = ["192.168.1.101", "192.168.1.102", "192.168.1.103", "192.168.1.104", "192.168.1.105", "192.168.1.106"]
[[allow]]
id = "poll"
from = "192.168.1.100"
to = "stations"
service = "modbus"
""")
    name = "characterization_modbus_6RTU_with_operate"
    done = sekisho("simulate", folder / "policy.toml", captures / "labelled" / f"{name}.pcap", "--verdicts", folder / "out.csv", timeout=60)
    assert done.returncode == 0, done.stderr
    rows = {int(row["packet"]): row for row in csv.DictReader(open(folder / "out.csv", newline=""))}
    labels = dict(
        (int(a), b.strip()) for a, b in csv.reader(open(captures / "labelled" / f"{name}_labeled.csv"), delimiter=";")
        if a.strip().isdigit())
    assert len(labels) == len(rows)
    malicious = [rows[number] for number, label in labels.items() if label == "1"]
    harmless = [rows[number] for number, label in labels.items() if label == "0"]
    passed = [row["packet"] for row in malicious if row["verdict"] == "allow"]
    assert malicious and not passed, f"{len(passed)} of {len(malicious)} passed: {passed[:20]}"
    blocked = [row["packet"] for row in harmless if row["verdict"] == "deny"]
    assert len(blocked) < len(harmless) / 100, f"{len(blocked)} of {len(harmless)} blocked: {blocked[:20]}"
