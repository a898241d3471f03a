"""What a policy means, said a second time: slow, obvious, and without looking at the program.

A frame is not parsed here. Who makes one says what it is (`Packet`), and the verdict follows from that.
"""

import dataclasses
import ipaddress
import typing

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "sctp": 132}
PORTS = ("tcp", "udp", "sctp")
# Requests and what answers them (RFC 792, RFC 4443).
REPLIES = {"icmp": {0: 8, 14: 13, 16: 15, 18: 17}, "icmpv6": {129: 128}}


@dataclasses.dataclass
class Service:
    protocol: str
    low: int = 0
    high: int = 65535
    # ICMP: which type, None for any; "echo" is type 8 or 128 and code 0.
    kind: typing.Optional[int] = None
    code: typing.Optional[int] = None

    def written(self):
        if self.protocol.startswith("icmp"):
            if self.kind is None:
                return f"{self.protocol}/any"
            return f"{self.protocol}/" + ("echo" if self.code == 0 else str(self.kind))
        if self.protocol not in PORTS or (self.low, self.high) == (0, 65535):
            return f"{self.protocol}/any"
        return f"{self.protocol}/{self.low}" + ("" if self.low == self.high else f"-{self.high}")

    def allows(self, protocol, port, kind, code):
        if protocol != self.protocol:
            return False
        if protocol.startswith("icmp"):
            return self.kind in (None, kind) and self.code in (None, code)
        return protocol not in PORTS or self.low <= port <= self.high


@dataclasses.dataclass
class Rule:
    id: str
    clients: list
    servers: list
    services: list
    vlans: list = dataclasses.field(default_factory=list)
    expired: bool = False

    def allows(self, client, server, vlan, protocol, port, kind, code):
        return (
            not self.expired
            and any(client.version == net.version and client in net for net in self.clients)
            and any(server.version == net.version and server in net for net in self.servers)
            and (not self.vlans or vlan in self.vlans)
            and any(service.allows(protocol, port, kind, code) for service in self.services))


@dataclasses.dataclass
class Packet:
    """An IP packet as its maker means it."""

    source: object
    destination: object
    protocol: str  # or a number, for protocols the policy has no name for
    source_port: int = 0
    port: int = 0
    flags: str = ""
    kind: int = 0
    code: int = 0
    vlan: int = 0
    later_fragment: bool = False
    about: typing.Optional["Packet"] = None  # of an ICMP error


class Judgement(typing.NamedTuple):
    cause: str  # "" if it may pass
    rules: list  # that may have let it pass


def judge(rules, packet):
    if packet.later_fragment:
        return Judgement("fragment-untracked", [])
    if packet.about:
        about = dataclasses.replace(packet.about, vlan=packet.vlan)
        # Only who sent the packet may be told about it.
        if about.source != packet.destination:
            return Judgement("icmp-error-unrelated", [])
        # Port and protocol unreachable can only come from who received it.
        hosts = {"icmp": ((3, 2), (3, 3)), "icmpv6": ((1, 4),)}[packet.protocol]
        if (packet.kind, packet.code) in hosts and packet.source != about.destination:
            return Judgement("icmp-error-unrelated", [])
        found = forward(rules, about) + reverse(rules, about)
        return Judgement("" if found else "not-in-policy", found)
    found = forward(rules, packet)
    if found:
        # Which of several rules is counted is not what is tested.
        return Judgement("", found + reverse(rules, packet))
    found = reverse(rules, packet)
    if found and packet.protocol == "tcp" and "S" in packet.flags and "A" not in packet.flags:
        return Judgement("syn-from-server", [])
    return Judgement("" if found else "not-in-policy", found)


def forward(rules, packet):
    """Rules that allow it with the sender as client."""
    if packet.protocol in REPLIES and packet.kind in REPLIES[packet.protocol]:
        return []
    return [
        rule.id for rule in rules
        if rule.allows(
            packet.source, packet.destination, packet.vlan, packet.protocol, packet.port, packet.kind, packet.code)]


def reverse(rules, packet):
    """Rules that allow it with the sender as server."""
    kind = packet.kind
    if packet.protocol in REPLIES:
        if kind not in REPLIES[packet.protocol]:
            return []
        kind = REPLIES[packet.protocol][kind]
    return [
        rule.id for rule in rules
        if rule.allows(
            packet.destination, packet.source, packet.vlan, packet.protocol, packet.source_port, kind, packet.code)]


def address(text):
    return ipaddress.ip_address(text)


def network(text):
    return ipaddress.ip_network(text)
