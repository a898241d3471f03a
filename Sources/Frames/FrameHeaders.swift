// What the parser says of one frame: everything a verdict needs, in 56 bytes.

/// What a frame is, which decides how it is judged.
@frozen
public enum FrameForm: UInt8, Sendable {
    /// Judged by the EtherType or LLC allowlist.
    case other = 0
    /// Judged by the rules. `FrameHeaders.source` and `.destination` hold the addresses.
    case ipv4 = 1
    case ipv6 = 2
    /// `source` is the address the sender claims, `destination` the one asked for.
    case arp = 3
    /// IPv6 neighbour solicitation or advertisement; `source` is the address
    /// whose link-layer address the sender claims.
    case neighbour = 4
}

/// Marks that a verdict looks at.
@frozen
public struct FrameMarks: OptionSet, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// First fragment of several: its ports are known.
    @inlinable public static var firstFragment: FrameMarks { FrameMarks(rawValue: 1) }
    /// A later fragment: no transport header, ports are 0.
    @inlinable public static var laterFragment: FrameMarks { FrameMarks(rawValue: 2) }
    /// An ICMP error. Addresses, protocol and ports are those of the packet
    /// inside it, which the error's receiver sent.
    @inlinable public static var icmpError: FrameMarks { FrameMarks(rawValue: 4) }
    /// Cannot be a client's: an ICMP reply. `sourcePort` holds its request's type and code.
    @inlinable public static var neverForward: FrameMarks { FrameMarks(rawValue: 8) }
    /// Cannot be a server's answer: any other ICMP message.
    @inlinable public static var neverReverse: FrameMarks { FrameMarks(rawValue: 16) }
}

/// The parsed headers of one frame. Plain data: no reference, fixed size.
@frozen
public struct FrameHeaders: Sendable {
    public var source: AddressWords
    public var destination: AddressWords
    /// The server's port if the sender is the server.
    public var sourcePort: Port
    /// The server's port if the sender is the client; ICMP: type × 256 + code;
    /// protocols without ports: 0.
    public var destinationPort: Port
    public var etherType: EtherType
    public var vlan: VLANID
    public var form: FrameForm
    /// `.none`, or why the frame is denied whatever the policy says.
    public var cause: Cause
    public var ipProtocol: IPProtocol
    /// TCP only, else empty.
    public var tcpFlags: TCPFlags
    /// Where the network header begins in the frame: 14, 18 or 22.
    public var networkOffset: UInt8
    public var marks: FrameMarks
    /// Where the transport header begins in the frame, that of the packet inside for an ICMP error; 0 if there is none.
    public var transportOffset: UInt16
    /// By form: `claimedMAC` or `fragment`.
    public var detail: UInt64

    /// ARP and neighbour discovery: the link-layer address claimed for `source`; 0 if none is claimed.
    @inlinable public var claimedMAC: MACAddress {
        get { MACAddress(rawValue: detail) }
        set { detail = newValue.rawValue }
    }

    /// IP with a mark of a fragment: its place in the datagram.
    @inlinable public var fragment: FragmentPlace {
        get { FragmentPlace(rawValue: detail) }
        set { detail = newValue.rawValue }
    }

    @inlinable
    public init() {
        source = .zero
        destination = .zero
        sourcePort = Port(rawValue: 0)
        destinationPort = Port(rawValue: 0)
        etherType = EtherType(rawValue: 0)
        vlan = .untagged
        form = .other
        cause = .none
        ipProtocol = IPProtocol(rawValue: 0)
        tcpFlags = TCPFlags(rawValue: 0)
        networkOffset = 14
        marks = FrameMarks(rawValue: 0)
        transportOffset = 0
        detail = 0
    }
}

/// Which part of which datagram a fragment is.
///
///      63            32 31        16 15         0
///     ┌────────────────┬────────────┬────────────┐
///     │ identification │ end        │ start │more│ start is a multiple of 8, so its lowest bit is free
///     └────────────────┴────────────┴────────────┘
@frozen
public struct FragmentPlace: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// - Parameters: `start` and `end` in bytes of the datagram's payload, `end` ≤ 65535.
    @inlinable public init(identification: UInt32, start: Int, end: Int, isLast: Bool) {
        rawValue =
            UInt64(identification) << 32 | UInt64(UInt16(truncatingIfNeeded: end)) << 16
            | UInt64(UInt16(truncatingIfNeeded: start)) | (isLast ? 0 : 1)
    }

    @inlinable public var identification: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
    @inlinable public var start: Int { Int(rawValue & 0xFFF8) }
    @inlinable public var end: Int { Int(rawValue >> 16 & 0xFFFF) }
    @inlinable public var isLast: Bool { rawValue & 1 == 0 }
}
