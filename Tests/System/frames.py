"""Frames for the tests, and files of them."""

import struct

from scapy.config import conf

conf.ipv6_enabled = False  # scapy need not look at this machine's routes
conf.verb = 0
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402,F401
from scapy.layers.inet6 import IPv6  # noqa: E402,F401
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Dot3, Ether, SNAP  # noqa: E402,F401
from scapy.packet import Raw  # noqa: E402,F401
from scapy.utils import rdpcap  # noqa: E402,F401

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def ether(source=MAC_A, destination=MAC_B, **fields):
    return Ether(src=source, dst=destination, **fields)


def write_pcap(path, frames, link=1, start=1_700_000_000):
    """Frames are bytes, or (bytes, length on the wire). Nanosecond time stamps, one microsecond apart."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link))
        for number, frame in enumerate(frames):
            data, wire = frame if isinstance(frame, tuple) else (bytes(frame), None)
            seconds, micro = divmod(number, 1_000_000)
            file.write(struct.pack("<IIII", start + seconds, micro * 1000 + 7, len(data), wire or len(data)))
            file.write(data)
    return path


def write_stamped(path, frames):
    """A pcap with stamps of one's own: (nanoseconds since 1970, bytes) each."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for stamp, data in frames:
            file.write(struct.pack("<IIII", stamp // 10**9, stamp % 10**9, len(data), len(data)) + data)
    return path


def write_pcapng(path, frames):
    """Section header, one Ethernet interface, enhanced packet blocks."""

    def block(kind, body):
        body += b"\0" * (-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    with open(path, "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack("<HHI", 1, 0, 262144)))
        for number, frame in enumerate(frames):
            data = bytes(frame)
            time = 1_700_000_000_000_000 + number
            file.write(block(6, struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(data), len(data)) + data))
    return path
