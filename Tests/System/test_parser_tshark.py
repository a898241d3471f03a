"""The parser against tshark, frame by frame: real captures, and the named frames of Tests/Corpus.

What tshark prints is turned into the parser's fields by the protocol's own rules; where the two still differ, the
difference and its reason stand in OF_ALLOWED and OF_DENIED.
"""

import collections
import ipaddress
import json
import pathlib
import shutil
import subprocess

import pytest

from conftest import CAPTURES, ROOT
from frames import write_pcap

TAGS = {"vlan": "vlan.id", "ieee8021ad": "ieee8021ad.id"}
EXTENSIONS = {name: f"{name}.nxt" for name in ("ipv6.hopopts", "ipv6.dstopts", "ipv6.routing", "ipv6.fraghdr")}
PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udp"}
FIELDS = [
    "frame.protocols", "eth.src", "eth.type", "eth.len", "vlan.id", "vlan.etype", "ieee8021ad.id", "llc.dsap",
    "ip.src", "ip.dst", "ip.proto", "ip.id", "ip.flags.mf", "ip.frag_offset", "ipv6.src", "ipv6.dst", "ipv6.nxt", *EXTENSIONS.values(),
    "ipv6.fraghdr.ident", "ipv6.fraghdr.offset", "ipv6.fraghdr.more", "arp.src.hw_mac", "arp.src.proto_ipv4", "arp.dst.proto_ipv4",
    "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code", "icmpv6.nd.ns.target_address", "icmpv6.nd.na.target_address",
    "icmpv6.opt.linkaddr", "tcp.flags", *(f"{name}.{side}port" for name in ("tcp", "udp", "dccp", "sctp") for side in ("src", "dst")),
]
# Frames by themselves: no packet is put together from several, no port is taken for another because of what came before.
OPTIONS = [
    "-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
    "-o", "tcp.analyze_sequence_numbers:FALSE",
]

OTHER, IPV4, IPV6, ARP, NEIGHBOUR = range(5)
FIRST_FRAGMENT, LATER_FRAGMENT, ICMP_ERROR, REPLY, NO_REPLY = 1, 2, 4, 8, 16
REPLIES = {IPV4: {0: 8, 14: 13, 16: 15, 18: 17}, IPV6: {129: 128}}
ERRORS = {IPV4: {3, 11, 12}, IPV6: {1, 2, 3, 4}}

# Frames that both should understand, and do not in the same way: (name in the corpus, field) and the reason.
OF_ALLOWED = {
    ("ipx-802.3-raw", "etherType"): "Novell's IPX has no LLC header: tshark knows it by its FF FF, the parser calls it DSAP FF",
    ("icmp-unreachable-protocol", "sourcePort"): "tshark wants SCTP's 12 bytes, an ICMP error need hold no more than 8",
    ("icmp-unreachable-protocol", "destinationPort"): "as above",
    ("icmpv6-time-exceeded", "sourcePort"): "as above",
    ("icmpv6-time-exceeded", "destinationPort"): "as above",
}
# Frames that the parser denies: it stops at the fault, where tshark goes on. (cause, field) and what the parser has there.
_OUTER = "the outer packet's: the one inside the error is not looked at any more"
_WALKED = "where the walk through the extension headers ended"
OF_DENIED = {
    ("vlan-depth", "networkOffset"): "the network header behind the tags was not reached",
    ("truncated", "networkOffset"): "the same",
    ("llc-header", "etherType"): "the length field, until the DSAP is read",
    ("truncated", "etherType"): "the same",
    ("ip-header", "form"): "the EtherType's; tshark gives up an IPv6 packet of version 4",
    ("ip-options", "destination"): "the next stop of a source route; tshark names the last one",
    ("ipv6-extensions", "ipProtocol"): _WALKED,
    ("fragment-tiny", "ipProtocol"): _WALKED,
    ("truncated", "ipProtocol"): f"{_WALKED}, or {_OUTER}",
    ("icmp-header", "source"): _OUTER,
    ("icmp-header", "destination"): _OUTER,
    ("icmp-header", "ipProtocol"): _OUTER,
    ("icmp-header", "marks"): _OUTER,
    ("truncated", "source"): _OUTER,
    ("truncated", "destination"): f"{_OUTER}; or the solicitation's: its target is not believed",
    ("icmp-error-unrelated", "marks"): "an error about an error; tshark goes into that one too",
    ("neighbour-header", "destination"): "the solicitation's: its target is not believed",
    ("neighbour-header", "marks"): "that it is a fragment, which is the fault",
}
# Frames of real traffic that are denied; of these, tshark too says what is wrong with them, and of no others.
DENIED = {"modbus-fuzzed": {1: "ethernet-header", 2: "ip-header"}}


def number(text):
    return {"True": 1, "False": 0}[text] if text in ("True", "False") else int(text, 0)


def mac(text):
    return int(text.replace(":", ""), 16)


def address(text):
    value = int(ipaddress.ip_address(text))
    return [value >> 64, value & (1 << 64) - 1]


class Opinion:
    """What tshark says of one frame, as the parser would say it; a field it does not say is missing."""

    def __init__(self, row):
        self.row = {name: value.split(",") if value else [] for name, value in zip(FIELDS, row)}
        self.layers = self.row["frame.protocols"][0].split(":") if self.row["frame.protocols"] else []
        self.fields = {}
        self.ethernet()

    def get(self, name, nth=0):
        values = self.row[name]
        return values[nth] if nth < len(values) else None

    def put(self, field, text, convert=number):
        if text is not None:
            self.fields[field] = convert(text)

    def ethernet(self):
        path = [layer for layer in self.layers[1:] if layer != "ethertype"]
        tags = 0
        while path and path[0] in TAGS:
            name = path.pop(0)
            if not tags:
                self.put("vlan", self.get(TAGS[name]))
            tags += 1
        if not tags:
            self.fields["vlan"] = 0
        self.fields["networkOffset"] = 14 + 4 * tags
        length = self.get("eth.len")
        types = self.row["eth.type"] + self.row["vlan.etype"]
        if self.get("llc.dsap"):
            self.put("etherType", self.get("llc.dsap"))
        elif length is None and types:
            self.put("etherType", types[-1])
        network = path[0] if path else None
        self.fields["form"] = {"ip": IPV4, "ipv6": IPV6, "arp": ARP}.get(network, OTHER)
        self.fields["marks"] = 0
        if network == "arp":
            self.put("source", self.get("arp.src.proto_ipv4"), address)
            self.put("destination", self.get("arp.dst.proto_ipv4"), address)
            self.put("claimedMAC", self.get("arp.src.hw_mac"), mac)
            self.probe()
        elif network == "ip":
            self.ipv4()
        elif network == "ipv6":
            self.ipv6(path[1:])

    def ipv4(self):
        self.addresses("ip", 0)
        self.put("ipProtocol", self.get("ip.proto"))
        self.fragment("ip.id", "ip.frag_offset", "ip.flags.mf")

    def ipv6(self, rest):
        self.addresses("ipv6", 0)
        following = self.get("ipv6.nxt")
        seen = collections.Counter()
        while rest and rest[0] in EXTENSIONS:
            name = rest.pop(0)
            following = self.get(EXTENSIONS[name], seen[name])
            seen[name] += 1
        self.put("ipProtocol", following)
        self.fragment("ipv6.fraghdr.ident", "ipv6.fraghdr.offset", "ipv6.fraghdr.more")

    def addresses(self, name, nth):
        self.put("source", self.get(f"{name}.src", nth), address)
        self.put("destination", self.get(f"{name}.dst", nth), address)

    def fragment(self, identification, offset, more):
        is_later = number(self.get(offset) or "0") > 0
        if is_later or number(self.get(more) or "0"):
            self.fields["marks"] = LATER_FRAGMENT if is_later else FIRST_FRAGMENT
            self.put("identification", self.get(identification))
        if not is_later:
            self.transport(0)

    def transport(self, nth):
        """nth: 0 for the packet, 1 for the one inside an ICMP error."""
        protocol, form = self.fields.get("ipProtocol"), self.fields["form"]
        if protocol in PORTS:
            self.put("sourcePort", self.get(f"{PORTS[protocol]}.srcport"))
            self.put("destinationPort", self.get(f"{PORTS[protocol]}.dstport"))
            if protocol == 6 and not nth:
                self.put("tcpFlags", self.get("tcp.flags"), lambda text: number(text) & 0xFF)
        elif protocol == {IPV4: 1, IPV6: 58}[form]:
            name = {IPV4: "icmp", IPV6: "icmpv6"}[form]
            if self.get(f"{name}.type", nth) and self.get(f"{name}.code", nth):
                self.icmp(number(self.get(f"{name}.type", nth)), number(self.get(f"{name}.code", nth)), nth)

    def icmp(self, kind, code, nth):
        form = self.fields["form"]
        if kind in ERRORS[form] and not nth:
            name = {IPV4: "ip", IPV6: "ipv6"}[form]
            self.fields["marks"] |= ICMP_ERROR
            self.addresses(name, 1)
            self.put("ipProtocol", self.get({IPV4: "ip.proto", IPV6: "ipv6.nxt"}[form], 1))
            self.transport(1)
        elif form == IPV6 and kind in (135, 136) and not nth and not self.fields["marks"]:
            self.neighbour(kind == 136)
        else:
            self.fields["destinationPort"] = kind << 8 | code
            request = REPLIES[form].get(kind)
            self.fields["sourcePort"] = request << 8 | code if request is not None else 0
            self.fields["marks"] |= REPLY if request is not None else NO_REPLY

    def neighbour(self, is_advertisement):
        self.fields["form"] = NEIGHBOUR
        target = self.get("icmpv6.nd.na.target_address" if is_advertisement else "icmpv6.nd.ns.target_address")
        self.put("source" if is_advertisement else "destination", target, address)
        self.probe()
        self.put("claimedMAC", self.get("icmpv6.opt.linkaddr") or self.get("eth.src"), mac)

    def probe(self):
        """Who asks whether an address is free claims it (RFC 5227, RFC 4862): what the parser makes of what tshark sees."""
        if self.fields.get("source") == [0, 0] and "destination" in self.fields:
            self.fields["source"] = self.fields["destination"]


@pytest.fixture(scope="module")
def tshark():
    """Runs tshark over a capture: an opinion for every frame."""
    if not shutil.which("tshark"):
        pytest.skip("needs the program tshark")

    def run(capture):
        command = ["tshark", *OPTIONS, "-r", capture, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
        done = subprocess.run(
            [*map(str, command), *(word for field in FIELDS for word in ("-e", field))], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return [Opinion(line.split("|")) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="module")
def parse(binary):
    """Runs the parser over a capture: its fields for every frame."""
    program = pathlib.Path(binary).parent / "parse-capture"
    if not program.exists():
        pytest.fail(f"no program at {program}: build it with Scripts/build parse-capture")

    def run(capture):
        done = subprocess.run([program, capture], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return [named(json.loads(line)) for line in done.stdout.splitlines()]

    return run


def named(mine):
    """The parser's fields by what they are for this form of frame, without the one that tshark has no word for."""
    mine.pop("transportOffset")
    detail = mine.pop("detail")
    if mine["marks"] & (FIRST_FRAGMENT | LATER_FRAGMENT):
        mine["identification"] = detail >> 32
    else:
        mine["claimedMAC"] = detail
    return mine


def differences(mine, opinion):
    """Fields about which the two differ. Of a denied frame the parser says only what it read before the fault."""
    for field, value in mine.items():
        if field == "cause":
            continue
        if mine["cause"] != "none" and value in (0, [0, 0]):
            continue
        its = opinion.fields.get(field)
        # Where the frame is at fault, tshark often stops reading earlier.
        if its is None and mine["cause"] != "none":
            continue
        if its != value and (its is not None or value not in (0, [0, 0])):
            yield field, value, its


def compare(parse, tshark, capture, names=()):
    """The parser's fields of each frame, and the listed differences that were met."""
    headers, opinions = parse(capture), tshark(capture)
    assert headers and len(headers) == len(opinions)
    met, unexplained = set(), []
    for index, (mine, opinion) in enumerate(zip(headers, opinions)):
        name = names[index] if names else f"frame {index + 1}"
        for field, value, its in differences(mine, opinion):
            key = (name if mine["cause"] == "none" else mine["cause"], field)
            if key in OF_ALLOWED or key in OF_DENIED:
                met.add(key)
            else:
                unexplained.append(f"{name} ({mine['cause']}): {field} {value}, tshark {its}")
    assert not unexplained, "\n".join(unexplained[:40])
    return headers, met


CAPTURE_FILES = sorted(CAPTURES.glob("*/*.pcap*"))


@pytest.mark.optional_input
@pytest.mark.parametrize("capture", CAPTURE_FILES or [None], ids=lambda path: path.stem if path else "none")
def test_real_traffic(parse, tshark, capture):
    if capture is None:
        pytest.skip("needs ../shared/captures")
    headers, _ = compare(parse, tshark, capture)
    denied = {number: line["cause"] for number, line in enumerate(headers, 1) if line["cause"] != "none"}
    assert denied == DENIED.get(capture.stem, {})


def corpus():
    for line in (ROOT / "Tests" / "Corpus" / "frames.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, cause, *pieces = line.split()
        frame, missing = b"", 0
        for piece in pieces:
            digits, _, times = piece.partition("x")
            if piece.startswith("+"):
                missing = int(piece)
            else:
                frame += bytes.fromhex(digits) * int(times or 1)
        yield name, cause, (frame, len(frame) + missing)


def test_named_frames(parse, tshark, tmp_path):
    names, causes, frames = zip(*corpus())
    capture = write_pcap(tmp_path / "corpus.pcap", frames)
    headers, met = compare(parse, tshark, capture, names)
    assert [line["cause"] for line in headers] == list(causes)
    assert met == OF_ALLOWED.keys() | OF_DENIED.keys(), "a difference is listed that is not there"
