// What the parser says of one frame: everything a verdict needs, in 48 bytes.

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
    /// ARP and neighbour discovery: the link-layer address claimed for `source`, in the
    /// low 48 bits; 0 if none is claimed.
    public var claimedMAC: MACAddress

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
        claimedMAC = MACAddress(rawValue: 0)
    }
}
