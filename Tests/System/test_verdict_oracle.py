"""The same policy in Sekisho and, by `export nftables`, in a real Linux bridge: the same frames through both, and every
frame's fate compared. A difference is one of a list with a reason for each, or a failure.

Whether a reason holds is read from the frame's bytes, without asking Sekisho: that it denies a frame as malformed is no
reason to believe that it is.
"""

import collections
import ipaddress
import random
import struct

import pytest
from scapy.utils import RawPcapReader

import test_simulate_oracle as worlds
from frames import ARP, MAC_A, MAC_B, Ether, IPv6, Raw, ether
from test_export import PORTS, LinuxBridge, export, nft  # noqa: F401

IN, OUT = "inside", "outside"

# nftables judges each frame by itself: what Sekisho remembers of earlier ones is switched off. The worlds' policies say so themselves.
STATE = "[state]\nflows = 0\n"
# That other programs keep the processors busy is no failure: a frame dropped for that would look denied.
HEAD = "on_failure = { deadline_ms = 10000 }\n"

# Passes under every policy here, and ends a batch: frames keep their order.
MARK = 0x88B5


# --- Two forwarders ----------------------------------------------------------------------------------------------


class Both:
    """A Linux bridge with nftables and a Sekisho bridge, each between two hosts."""

    def __init__(self, network, bridge, sekisho, folder):
        self.sekisho, self.folder = sekisho, folder
        self.linux = LinuxBridge(network())
        self.bridge, self.ours, self.start = None, network(), bridge
        self.marks = 0

    def load(self, policy):
        self.linux.load(export(self.sekisho, self.folder, policy, "nftables", "--icmp-errors", *PORTS))
        if self.bridge:
            done = self.bridge.apply(policy)
            assert done.returncode == 0, done.stderr
        else:
            self.bridge = self.start(policy, net=self.ours)

    def fates(self, frames):
        """Whether each (side, bytes) crosses, by Sekisho and by nftables."""
        before = self.bridge.status()
        ours, theirs = (self.crossing(net, frames) for net in (self.ours, self.linux.network))
        after = self.bridge.status()
        assert {cause["cause"] for cause in after["denied"]}.isdisjoint({"no-worker", "transmit-full", "frame-chain"}), after["denied"]
        # Each frame and each mark has been counted once: none is missing because a ring was full.
        assert denied(after) - denied(before) == len(frames) - sum(ours)
        return ours, theirs

    def crossing(self, net, frames):
        sent = {IN: {}, OUT: {}}
        for number, (side, data) in enumerate(frames):
            sent[side][data] = number
        assert len(sent[IN]) + len(sent[OUT]) == len(frames), "two frames are alike"
        crossed = [False] * len(frames)
        for side, other in ((OUT, IN), (IN, OUT)):
            came = collections.Counter()
            waiting = list(sent[side])
            for start in range(0, len(waiting), 256):
                self.marks += 1
                mark = bytes(ether(type=MARK) / Raw(struct.pack(">Q", self.marks) + bytes(38)))
                net[side].send(*waiting[start:start + 256], mark)
                while True:
                    got = net[other].receive(1, timeout=10)
                    assert got, f"the mark after frame {start + 256} does not arrive"
                    if got[0] == mark:
                        break
                    came[got[0]] += 1
            came.update(net[other].receive(quiet=0.2))
            strange = [data.hex() for data in came if data not in sent[side]]
            assert not strange, f"{len(strange)} frames came that nobody sent: {strange[:3]}"
            assert set(came.values()) <= {1}, "a frame came twice"
            for data in came:
                crossed[sent[side][data]] = True
        return crossed


def denied(status):
    return sum(cause["frames"] for cause in status["denied"])


@pytest.fixture
def both(nft, network, bridge, sekisho, folder):  # noqa: F811
    return Both(network, bridge, sekisho, folder)


# --- What may differ, and why ------------------------------------------------------------------------------------

TAGS = (0x8100, 0x88A8, 0x9100)


class Seen:
    """What stands where in a frame. Read from the RFCs, with -1 for what is not there."""

    def __init__(self, data):
        self.data = data
        self.tags, at = [], 12
        while self.word(at) in TAGS:
            self.tags.append(self.word(at))
            at += 4
        self.type, self.at = self.word(at), at + 2
        self.version = {0x0800: 4, 0x86DD: 6}.get(self.type, 0)
        self.protocol = self.transport = self.end = -1
        self.offset, self.more, self.extensions, self.overruns = 0, False, [], False
        if self.version == 4:
            self.protocol = self.byte(self.at + 9)
            self.transport = self.at + 4 * (self.byte(self.at) & 15)
            self.end = self.at + self.word(self.at + 2)
            field = self.word(self.at + 6)
            self.offset, self.more = 8 * (field & 0x1FFF), field & 0x2000 != 0
        elif self.version == 6:
            self.end = self.at + 40 + self.word(self.at + 4)
            following, at = self.byte(self.at + 6), self.at + 40
            while following in (0, 43, 44, 60) and not self.offset:
                self.overruns = at + 8 > self.end
                if self.overruns:
                    break
                self.extensions.append(following)
                if following == 44:
                    field = self.word(at + 2)
                    self.offset, self.more = field & 0xFFF8, field & 1 != 0
                size = 8 if following == 44 else 8 * max(1, self.byte(at + 1) + 1)
                following, at = self.byte(at), at + size
            self.protocol, self.transport = following, at
        self.size = self.end - self.transport  # of the transport header and what it carries

    def byte(self, at):
        return self.data[at] if 0 <= at < len(self.data) else -1

    def word(self, at):
        return int.from_bytes(self.data[at:at + 2], "big") if 0 <= at <= len(self.data) - 2 else -1

    @property
    def icmp_error(self):
        return (self.version, self.protocol) in ((4, 1), (6, 58)) and self.byte(self.transport) in (
            (3, 11, 12) if self.version == 4 else (1, 2, 3, 4))

    @property
    def neighbour(self):
        return self.version == 6 and self.protocol == 58 and self.byte(self.transport) in (135, 136)


def llc_length(seen):
    length, body = seen.type, len(seen.data) - seen.at
    return 0 <= length < 0x600 and (length < 3 or length > body or seen.byte(seen.at) & 0xFE == 0xAA and length < 8)


def transport_length(seen):
    if seen.version == 0 or seen.offset:
        return False
    size, least = seen.size, {6: 20, 17: 8, 132: 12, 33: 12, 136: 8, 1: 8, 58: 8}.get(seen.protocol, 0)
    if size < least:
        return True
    if seen.protocol == 6:
        return not 20 <= 4 * (seen.byte(seen.transport + 12) >> 4) <= size
    if seen.protocol == 17:
        length = seen.word(seen.transport + 4)
        return length < 8 or length > size and not seen.more
    return False


def packet_length(seen):
    return seen.version > 0 and (seen.end > len(seen.data) or seen.end < seen.transport)


def fragment_length(seen):
    return seen.more and not seen.offset and seen.size % 8 != 0


def ipv4_options(seen):
    at = seen.at + 20
    while seen.version == 4 and at < seen.transport:
        if seen.byte(at) == 0:
            return False
        if seen.byte(at) == 1:
            at += 1
            continue
        length = seen.byte(at + 1)
        if at + 2 > seen.transport or length < 2 or at + length > seen.transport or seen.byte(at) in (131, 137):
            return True
        at += length
    return False


def ipv6_extensions(seen):
    kinds = seen.extensions
    return len(kinds) > 6 or 0 in kinds[1:] or kinds.count(44) > 1 or seen.overruns or kinds != [] and seen.transport > seen.end


def not_its_sender(seen):
    """An error to somebody who did not send the packet inside."""
    if not seen.icmp_error:
        return False
    inner = seen.transport + 8
    if seen.version == 4:
        return seen.data[inner + 12:inner + 16] != seen.data[seen.at + 16:seen.at + 20]
    return seen.data[inner + 8:inner + 24] != seen.data[seen.at + 24:seen.at + 40]


def not_its_receiver(seen):
    """Port or protocol unreachable from somebody who did not receive the packet inside."""
    if not seen.icmp_error:
        return False
    inner, kind, code = seen.transport + 8, seen.byte(seen.transport), seen.byte(seen.transport + 1)
    if seen.version == 4:
        return (kind, code) in ((3, 2), (3, 3)) and seen.data[inner + 16:inner + 20] != seen.data[seen.at + 12:seen.at + 16]
    return (kind, code) == (1, 4) and seen.data[inner + 24:inner + 40] != seen.data[seen.at + 8:seen.at + 24]


def broken_error(seen):
    """An error in fragments, or about a packet that is no first one with its first 8 bytes."""
    if not seen.icmp_error:
        return False
    inner = seen.transport + 8
    if seen.version == 6:
        return seen.more or seen.byte(inner) >> 4 != 6 or seen.size < 56
    return seen.more or seen.byte(inner) != 0x45 or seen.size < 36 or seen.word(inner + 6) & 0x1FFF != 0


def error_about_error(seen):
    inner = seen.transport + 8
    return seen.icmp_error and (
        seen.version == 4 and seen.byte(inner + 9) == 1 and seen.byte(inner + 20) in (3, 11, 12)
        or seen.version == 6 and seen.byte(inner + 6) == 58 and seen.byte(inner + 40) in (1, 2, 3, 4))


def broken_neighbour(seen):
    """Neighbour discovery whose options are malformed, that names a group, or more than one link-layer address of a kind."""
    if not seen.neighbour:
        return False
    at, kinds = seen.transport + 24, []
    if seen.byte(seen.transport) == 135 and not any(seen.data[seen.at + 8:seen.at + 24]):
        kinds = [1]  # in duplicate address detection none may be
    if seen.size < 24 or seen.byte(seen.transport + 8) == 0xFF:
        return True
    while at < seen.end:
        kind, size = seen.byte(at), 8 * seen.byte(at + 1)
        if size <= 0 or at + size > seen.end or kind in (1, 2) and (size != 8 or kind in kinds):
            return True
        kinds.append(kind)
        at += size
    return False


def claims_another(seen):
    """Neighbour discovery that claims an address or a MAC address other than those it is sent from."""
    if not seen.neighbour:
        return False
    kind, option = seen.byte(seen.transport) - 134, seen.transport + 24
    if not any(seen.data[seen.at + 8:seen.at + 24]):
        return True  # from nobody: what it asks for
    if kind == 2 and seen.data[seen.at + 8:seen.at + 24] != seen.data[option - 16:option]:
        return True
    while option < seen.end and seen.byte(option + 1) > 0:
        if seen.byte(option) == kind and seen.data[option + 2:option + 8] != seen.data[6:12]:
            return True
        option += 8 * seen.byte(option + 1)
    return False


def cut_arp(seen):
    return seen.type == 0x0806 and len(seen.data) < seen.at + 28


# What nftables lets pass and Sekisho does not.
STRICTER = {
    llc_length: "an 802.3 length that contradicts the frame: nftables does not read it",
    packet_length: "an IP length that contradicts the frame",
    transport_length: "a transport length that contradicts the packet: nftables cannot compare two fields",
    fragment_length: "a fragment whose length no stack sends: not a multiple of 8",
    ipv4_options: "malformed IP options: nftables sees only whether one is there",
    ipv6_extensions: "extension headers in a number or order that no stack sends",
    not_its_sender: "that the receiver of an error sent the packet in it: nftables cannot compare two fields",
    not_its_receiver: "that who says port unreachable received the packet in it: the same",
    broken_error: "an error without the packet it is about",
    error_about_error: "no error answers an error: nftables looks one packet deep",
    broken_neighbour: "neighbour discovery that is malformed: nftables does not see its options",
    claims_another: "neighbour discovery for another's address: nftables does not see what it claims",
    cut_arp: "ARP without its end: nftables reads only its beginning",
}


def options_inside(seen):
    """An error about a packet with IP options."""
    inner = seen.transport + 8
    return seen.version == 4 and seen.icmp_error and seen.byte(inner) >> 4 == 4 and seen.byte(inner) & 15 > 5


# What Sekisho lets pass and nftables does not.
LAXER = {
    options_inside: "an error about a packet with IP options: nftables does not find the ports",
}


def readable(data):
    """The same frame as nftables can read it: it finds no IP header behind two tags, nor behind 0x9100. Both keep the outer
    tag, which is what a rule's `vlan` means."""
    tags = Seen(data).tags
    if not 1 <= len(tags) <= 2 or tags in ([0x8100], [0x88A8]):
        return data
    return data[:12] + (b"\x81\0" if tags[0] == 0x9100 else data[12:14]) + data[14:16] + data[12 + 4 * len(tags):]


def compare(both, frames, least=0):
    """Fails for a difference that is in no list. `least`: how many frames must cross, for the comparison to mean anything."""
    frames = distinct(frames)
    ours, theirs = both.fates(frames)
    translated = {each: (each[0], readable(each[1])) for each in frames if readable(each[1]) != each[1]}
    _, again = both.fates(distinct(translated.values())) if translated else (0, [])
    read = dict(zip(distinct(translated.values()), again, strict=True))
    counts, unlisted = collections.Counter(), []
    for frame, our, their in zip(frames, ours, theirs, strict=True):
        if frame in translated:
            if their:
                unlisted.append(f"nftables understood it: {frame}")
            their = read[translated[frame]]
            counts["compared by the same frame with one tag"] += 1
        if our == their:
            counts["pass" if our else "denied"] += 1
            continue
        seen = Seen(frame[1])
        reasons = [reason for applies, reason in (STRICTER if their else LAXER).items() if applies(seen)]
        if reasons:
            counts[reasons[0]] += 1
        else:
            unlisted.append(f"{'crossed' if our else 'did not cross'}, but {'did' if their else 'did not'} by nftables: "
                            f"{frame[0]} {frame[1].hex()}")
    said = f"{len(frames)} frames: {dict(counts)}"
    print(said)
    assert not unlisted, f"{len(unlisted)} differences without a reason; {said}\n" + "\n".join(unlisted[:20])
    assert counts["pass"] >= least, f"too few cross to mean anything; {said}"
    return counts


# --- Generated: rules of every tier, and frames that hit them, miss them narrowly, or are broken -----------------


def bound_mac(ip):
    return "02:00:01:00:00:%02x" % (int(ip) & 0xFF)


class Plant(worlds.World):
    """A world with sides, bound addresses, ARP, neighbour discovery, other EtherTypes and LLC."""

    def __init__(self, seed, exact):
        super().__init__(seed, exact)
        rng = self.rng
        self.sides = {rule.id: rng.choice((IN, OUT)) for rule in self.rules if rng.randrange(5) == 0}
        self.bound = {self.address() for _ in range(8)}

    def policy(self):
        text = worlds.written_policy(
            self.rules, f'["arp", "lldp", 0x8892, "stp", "snap", {MARK:#x}]',
            HEAD + "".join(f'[devices.bound-{number}]\naddresses = ["{ip}"]\nmac = ["{bound_mac(ip)}"]\n'
                            for number, ip in enumerate(sorted(self.bound, key=str))), self.rng)
        for rule, side in self.sides.items():
            text = text.replace(f'id = "{rule}"\n', f'id = "{rule}"\nside = "{side}"\n')
        return text

    def mac(self, ip):
        rng = self.rng
        if ip in self.bound and rng.randrange(8):
            return bound_mac(ip)
        return rng.choice((MAC_A, MAC_B, bound_mac(rng.choice(sorted(self.bound, key=str))), "02:00:02:00:00:%02x" % rng.randrange(256)))

    def frame(self):
        rng = self.rng
        kind = rng.randrange(20)
        if kind == 0:
            data = self.arp()
        elif kind == 1:
            data = self.neighbour()
        elif kind == 2:
            data = self.other()
        else:
            packet = self.packet()
            data = worlds.frame_of(packet, rng)
            data = bytes.fromhex((self.mac(packet.destination) + self.mac(packet.source)).replace(":", "")) + data[12:]
            if kind >= 17:
                data = noisy(data, rng)
        return rng.choice((IN, OUT)), data

    def arp(self):
        rng = self.rng
        source, target = self.address(4), self.address(4)
        mac = self.mac(source)
        return bytes(
            ether(mac, "ff:ff:ff:ff:ff:ff") / ARP(
                op=rng.choice((1, 1, 2, 2, 3)), psrc=str(source) if rng.randrange(4) else "0.0.0.0", pdst=str(target),
                hwsrc=mac if rng.randrange(4) else self.mac(source)))

    def neighbour(self):
        rng = self.rng
        source, target = self.address(6), self.address(6)
        kind = rng.choice((135, 136))
        mac = self.mac(source)
        option = b"" if rng.randrange(3) == 0 else bytes([kind - 134, 1]) + bytes.fromhex((mac if rng.randrange(4) else MAC_A).replace(":", ""))
        body = bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + (source if kind == 136 else target).packed + option
        return bytes(
            ether(mac, "33:33:ff:00:00:02") / IPv6(
                src=str(source) if rng.randrange(4) else "::", dst="ff02::1", nh=58, hlim=rng.choice((255, 255, 255, 64))) / Raw(body))

    def other(self):
        rng = self.rng
        body = rng.randbytes(46)
        kind = rng.choice((0x88CC, 0x8892, 0x88A4, 0x8847, 0x0842, 0x0600, 1501, None))
        if kind is not None:
            return bytes(ether(self.mac(self.address()), type=kind) / Raw(body))
        head = bytes.fromhex(rng.choice(("424203", "f0f003", "aaaa0300000c2000", "aaaa030000000800", "aaaa030000f886dd", "060603", "ffff00")))
        return bytes(Ether(src=MAC_A, dst=MAC_B, type=rng.choice((46, 46, 46, 3, 2, 0, 47))) / Raw((head + body)[:46]))


def noisy(data, rng):
    """One to three bytes changed behind the MAC addresses, and now and then the end cut off or drawn out."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(12, len(data))] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
    match rng.randrange(8):
        case 0: del data[rng.randrange(14, len(data) + 1):]
        case 1: data += bytes(rng.randrange(1, 20))
    return bytes(data)


def distinct(frames):
    """Each once, of those that a raw socket sends: no less than an Ethernet header, no more than fits the port."""
    return [each for each in dict.fromkeys(frames) if 14 <= len(each[1]) <= 1514]


@pytest.mark.parametrize("seed", range(6))
def test_generated(both, seed):
    """Why: rules of every tier, and chance finds what lies just beside them."""
    plant = Plant(seed, exact=seed % 2 == 0)
    both.load(plant.policy())
    compare(both, [plant.frame() for _ in range(6000)], least=1000)


def test_a_difference_is_found(both):
    """Why: a comparison that cannot fail says nothing."""
    plant = Plant(0, exact=True)
    both.load(plant.policy())
    del plant.rules[::2]
    both.linux.load(export(both.sekisho, both.folder, plant.policy(), "nftables", "--icmp-errors", *PORTS))
    with pytest.raises(AssertionError, match="differences without a reason"):
        compare(both, [plant.frame() for _ in range(8000)])


BASE = worlds.BASE.replace('"snap"]', f'"snap", {MARK:#x}]\n{HEAD}')


def broken_frames():
    """Each broken in one way, under a policy that allows it otherwise; from either side."""
    frames = [bytes(frame) for group in worlds.GROUPS.values() for frame, _, _ in group()]
    return [(side, frame) for side in (IN, OUT) for frame in frames]


def test_broken(both):
    """Why: what is malformed in one known way is denied by both, or nftables cannot see it, which is in the list."""
    both.load(BASE)
    compare(both, broken_frames(), least=1000)


@pytest.mark.parametrize("seed", range(2))
def test_broken_at_random(both, seed):
    """Why: a fault nobody thought of, on top of those that somebody did."""
    rng = random.Random(seed)
    both.load(BASE)
    frames = broken_frames()
    compare(both, [(side, noisy(frame, rng)) for side, frame in rng.choices(frames, k=8000)], least=500)


# --- Captured ----------------------------------------------------------------------------------------------------


def captured(captures):
    """The frames of every capture, each from the side that its sender is on."""
    for file in sorted(captures.rglob("*.pcap*")):
        frames = (data for data, _ in RawPcapReader(str(file)))
        yield file.name, distinct((IN if sum(data[6:12]) % 2 else OUT, data) for data in frames)


def addresses(seen):
    """Source and destination, and where they stand."""
    size, at = (4, seen.at + 12) if seen.version == 4 else (16, seen.at + 8)
    return [(ipaddress.ip_address(seen.data[place:place + size]), place) for place in (at, at + size)]


def policy_of(frames, rng):
    """What somebody might allow who has seen these frames: some of the conversations, in rules of every tier."""
    talks, types, macs = {}, set(), {}
    for _, data in frames:
        seen = Seen(data)
        if not seen.version:
            types.add(seen.type if seen.type >= 0x600 else seen.byte(seen.at))
            continue
        (client, _), (server, _) = addresses(seen)
        macs.setdefault(client, data[6:12].hex(":"))
        port = 0
        if seen.protocol in (6, 17):
            source, port = seen.word(seen.transport), seen.word(seen.transport + 2)
            if source < port:
                client, server, port = server, client, source
        vlan = int.from_bytes(data[14:16], "big") & 0xFFF if seen.tags else 0
        talks.setdefault((client, server, seen.protocol, max(1, port)), vlan)
    rules = {}
    for (client, server, protocol, port), vlan in talks.items():
        name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}.get(protocol, str(protocol))
        ends, service, more = (str(client), str(server)), f"{name}/{port}" if protocol in (6, 17) else f"{name}/any", ""
        match rng.randrange(9):
            case 0 | 1: continue
            case 2: ends = tuple(str(ipaddress.ip_network(f"{end}/{end.max_prefixlen - 4}", strict=False)) for end in (client, server))
            case 3 if protocol in (6, 17): service = f"{name}/{max(1, port - 3)}-{min(65535, port + 9)}"
            case 4 if protocol in (6, 17): service = f"{name}/any"
            case 5: more = f"vlan = [{rng.choice((vlan or 5, 5))}]\n"
            case 6: more = f'side = "{rng.choice((IN, OUT))}"\n'
        rules[ends, service] = f'from = "{ends[0]}"\nto = "{ends[1]}"\nservice = "{service}"\n{more}'
    listed = [f"{kind:#x}" for kind in sorted(types) if rng.randrange(2) and kind > 0]
    bound = rng.sample(sorted(macs, key=str), min(3, len(macs)))
    right = [macs[ip] if rng.randrange(3) else "02:00:00:00:00:77" for ip in bound]
    return "\n".join([
        f"version = 1\nethertypes = [{', '.join([*listed, hex(MARK)])}]", HEAD, STATE,
        *(f'[devices.bound-{n}]\naddresses = ["{ip}"]\nmac = ["{mac}"]' for n, (ip, mac) in enumerate(zip(bound, right))),
        *(f'[[allow]]\nid = "{number}"\n{rule}' for number, rule in enumerate(rules.values()))])


@pytest.mark.optional_input
def test_captured(both, captures):
    """Why: real stacks send what no generator thinks of."""
    rng, counts = random.Random(1), collections.Counter()
    for name, frames in captured(captures):
        print(name)
        both.load(policy_of(frames, rng))
        counts += compare(both, frames)
    assert min(counts["pass"], counts["denied"]) > 5000, counts


@pytest.mark.optional_input
def test_captured_with_other_addresses(both, captures):
    """Why: the same real frames, moved under rules that were not made for them."""
    counts = collections.Counter()
    for seed, (name, frames) in enumerate(captured(captures)):
        print(name)
        plant = Plant(seed, exact=seed % 2 == 0)
        both.load(plant.policy())
        counts += compare(both, [(side, moved(data, plant)) for side, data in frames])
    assert min(counts["pass"], counts["denied"]) > 5000, counts


def moved(data, plant):
    """With addresses, ports and a VLAN of the plant, as near one of its rules as its packets are."""
    seen = Seen(data)
    if seen.version and not seen.tags:
        packet = plant.near_a_rule()
        while packet.source.version != seen.version:
            packet = plant.near_a_rule()
        ends = [(packet.source, packet.source_port), (packet.destination, packet.port)]
        if plant.rng.randrange(2):
            ends.reverse()
        changed = bytearray(data)
        changed[:12] = bytes.fromhex((plant.mac(ends[1][0]) + plant.mac(ends[0][0])).replace(":", ""))
        for number, ((address, port), (_, place)) in enumerate(zip(ends, addresses(seen), strict=True)):
            changed[place:place + len(address.packed)] = address.packed
            if seen.protocol in (6, 17) and not seen.offset:
                changed[seen.transport + 2 * number:seen.transport + 2 * number + 2] = port.to_bytes(2, "big")
        data = bytes(changed)
        if packet.vlan:
            data = data[:12] + b"\x81\0" + packet.vlan.to_bytes(2, "big") + data[12:]
    return data
