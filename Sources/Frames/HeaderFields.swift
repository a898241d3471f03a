// One distinct type per header field, so that a constant of one layer cannot
// be compared with a field of another (xdp-tools f0b4ac2: an IP protocol
// compared with an EtherType, both `int`).

/// EtherType (IEEE 802 Numbers), host byte order. Below 1536: see `llc(dsap:)`.
@frozen
public struct EtherType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    @inlinable public static var ipv4: EtherType { EtherType(rawValue: 0x0800) }
    @inlinable public static var arp: EtherType { EtherType(rawValue: 0x0806) }
    @inlinable public static var ipv6: EtherType { EtherType(rawValue: 0x86DD) }
    /// IEEE 802.1Q customer tag.
    @inlinable public static var vlan: EtherType { EtherType(rawValue: 0x8100) }
    /// IEEE 802.1ad service tag.
    @inlinable public static var serviceVLAN: EtherType { EtherType(rawValue: 0x88A8) }
    /// Service tag as some older switches write it.
    @inlinable public static var oldServiceVLAN: EtherType { EtherType(rawValue: 0x9100) }

    /// The smallest value that is a type; up to `maximumLength` the field is
    /// an IEEE 802.3 length (IEEE 802.3 3.2.6).
    @inlinable public static var minimum: UInt16 { 0x0600 }
    @inlinable public static var maximumLength: UInt16 { 1500 }

    /// An LLC frame (802.3 length field) is named by its destination service
    /// access point, 0…255: values no EtherType has.
    @inlinable public static func llc(dsap: UInt8) -> EtherType { EtherType(rawValue: UInt16(dsap)) }

    @inlinable @inline(__always) public var isVLANTag: Bool { self == .vlan || self == .serviceVLAN || self == .oldServiceVLAN }
}

/// IP protocol number (IANA Protocol Numbers).
@frozen
public struct IPProtocol: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    @inlinable public static var icmp: IPProtocol { IPProtocol(rawValue: 1) }
    @inlinable public static var tcp: IPProtocol { IPProtocol(rawValue: 6) }
    @inlinable public static var udp: IPProtocol { IPProtocol(rawValue: 17) }
    @inlinable public static var dccp: IPProtocol { IPProtocol(rawValue: 33) }
    @inlinable public static var icmpv6: IPProtocol { IPProtocol(rawValue: 58) }
    @inlinable public static var sctp: IPProtocol { IPProtocol(rawValue: 132) }
    @inlinable public static var udpLite: IPProtocol { IPProtocol(rawValue: 136) }

    // IPv6 extension headers that the parser walks through (RFC 8200 4).
    @inlinable static var hopByHop: IPProtocol { IPProtocol(rawValue: 0) }
    @inlinable static var routing: IPProtocol { IPProtocol(rawValue: 43) }
    @inlinable static var fragment: IPProtocol { IPProtocol(rawValue: 44) }
    @inlinable static var destinationOptions: IPProtocol { IPProtocol(rawValue: 60) }

    /// Whether the header begins with a source and a destination port.
    @inlinable @inline(__always) public var hasPorts: Bool {
        self == .tcp || self == .udp || self == .sctp || self == .udpLite || self == .dccp
    }
}

/// TCP or UDP port, host byte order. For ICMP: type × 256 + code.
@frozen
public struct Port: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable public static func icmp(type: UInt8, code: UInt8) -> Port {
        Port(rawValue: UInt16(type) << 8 | UInt16(code))
    }
}

/// VLAN id of the outermost tag, 1…4094; 0 for untagged and priority-tagged.
@frozen
public struct VLANID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable public static var untagged: VLANID { VLANID(rawValue: 0) }
}

/// TCP flags, the low byte (RFC 9293 3.1).
@frozen
public struct TCPFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    @inlinable public static var fin: TCPFlags { TCPFlags(rawValue: 0x01) }
    @inlinable public static var syn: TCPFlags { TCPFlags(rawValue: 0x02) }
    @inlinable public static var rst: TCPFlags { TCPFlags(rawValue: 0x04) }
    @inlinable public static var psh: TCPFlags { TCPFlags(rawValue: 0x08) }
    @inlinable public static var ack: TCPFlags { TCPFlags(rawValue: 0x10) }
    @inlinable public static var urg: TCPFlags { TCPFlags(rawValue: 0x20) }
    @inlinable public static var ece: TCPFlags { TCPFlags(rawValue: 0x40) }
    @inlinable public static var cwr: TCPFlags { TCPFlags(rawValue: 0x80) }

    /// Whether the segment asks to open a connection: SYN without ACK.
    @inlinable @inline(__always) public var opensConnection: Bool { rawValue & 0x12 == 0x02 }

    /// Whether a stack may send this combination. SYN, FIN, RST and ACK alone
    /// decide; URG, PSH, ECE and CWR do not. The list is that of Linux
    /// (net/netfilter/nf_conntrack_proto_tcp.c, tcp_valid_flags):
    /// SYN, SYN+ACK, RST, RST+ACK, ACK, FIN+ACK.
    @inlinable @inline(__always) public var isPossible: Bool {
        let index = (rawValue & 0x07) | (rawValue & 0x10) >> 1  // ack rst syn fin
        return (0b0001_0111_0001_0100 as UInt16) >> index & 1 == 1
    }
}

/// Ethernet address, 48 bits in the low part, first byte most significant.
@frozen
public struct MACAddress: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue & 0xFFFF_FFFF_FFFF }
    /// Group bit: multicast or broadcast.
    @inlinable public var isGroup: Bool { rawValue & 0x0100_0000_0000 != 0 }
}

extension UnsafeRawPointer {
    /// The Ethernet address there; six bytes that are proved to be.
    @inlinable @inline(__always)
    public func loadMAC(_ offset: Int) -> MACAddress {
        MACAddress(
            rawValue: UInt64(UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))) << 32
                | UInt64(UInt32(bigEndian: loadUnaligned(fromByteOffset: offset &+ 2, as: UInt32.self))))
    }
}

/// An IP address as two host-order words. IPv4: `high` is 0, `low` the 32 bits.
/// The family is known from where it stands (`FrameHeaders.form`).
@frozen
public struct AddressWords: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64
    @inlinable public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    @inlinable public static var zero: AddressWords { AddressWords(high: 0, low: 0) }
}

extension AddressWords: Comparable {
    @inlinable public static func < (a: AddressWords, b: AddressWords) -> Bool { (a.high, a.low) < (b.high, b.low) }
}

/// The port of the bridge a frame came in by.
@frozen
public enum Side: UInt8, Sendable, Hashable, CaseIterable {
    case inside = 0
    case outside = 1

    @inlinable public var other: Side { self == .inside ? .outside : .inside }
    /// As a bit, for sets of sides.
    @inlinable public var bit: UInt8 { 1 << rawValue }
}
