"""Ethernet frames, as far as the demo asks about them."""

import socket
import struct
import typing

ARP, IPV4 = 0x0806, 0x0800
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
SYN, ACK = 0x02, 0x10


class Frame(typing.NamedTuple):
    """The fields of a captured frame that the demo asks about."""
    when: float
    source_mac: bytes
    destination_mac: bytes
    ether_type: int
    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    tcp_flags: int
    payload: int    # bytes of TCP payload
    data: bytes     # the whole frame

    @property
    def is_syn(self) -> bool:
        return self.protocol == TCP and self.tcp_flags & (SYN | ACK) == SYN

    def port_is(self, port: int) -> bool:
        return port in (self.source_port, self.destination_port)


def dissect(when: float, data: bytes) -> Frame:
    source = destination = b""
    protocol = source_port = destination_port = flags = payload = 0
    ether_type = int.from_bytes(data[12:14], "big")
    if ether_type == IPV4 and len(data) >= 34:
        protocol, source, destination = data[23], data[26:30], data[30:34]
        transport = 14 + (data[14] & 0x0F) * 4
        if protocol in (TCP, UDP) and len(data) >= transport + 8:
            source_port, destination_port = struct.unpack_from("!HH", data, transport)
        if protocol == TCP and len(data) >= transport + 20:
            flags = data[transport + 13]
            payload = int.from_bytes(data[16:18], "big") + 14 - transport - (data[transport + 12] >> 4) * 4
    return Frame(when, data[6:12], data[0:6], ether_type, source, destination, protocol,
                 source_port, destination_port, flags, payload, data)
