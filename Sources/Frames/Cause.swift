// Why a frame did not pass. Every frame that is not forwarded has exactly one
// cause, and every cause has a counter.

/// One reason for not forwarding a frame: a number, for counters and rings.
///
/// Each layer adds its own in an extension: the parser below, the verdict in
/// `Allowlist`, the rings in `Datapath`. The ranges are kept apart so that a
/// number stays the same when a layer grows.
@frozen
public struct Cause: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8

    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Counter arrays have this many places.
    public static let capacity = 64

    /// No cause: the frame passes.
    @inlinable public static var none: Cause { Cause(rawValue: 0) }

    /// The frame was malformed, whatever the rules say.
    @inlinable public var isOfParser: Bool { (1...31).contains(rawValue) }
}

/// What a person reads for a cause.
public struct CauseDescription: Sendable {
    public let cause: Cause
    /// Stable name in counters, CSV and JSON, e.g. `tcp-flags`.
    public let name: String
    /// One line for `status` and `explain`.
    public let text: String

    public init(_ cause: Cause, _ name: String, _ text: String) {
        self.cause = cause
        self.name = name
        self.text = text
    }
}

// MARK: - Causes of the parser (1…31)

extension Cause {
    @inlinable public static var truncated: Cause { Cause(rawValue: 1) }
    @inlinable public static var ethernetHeader: Cause { Cause(rawValue: 2) }
    @inlinable public static var vlanDepth: Cause { Cause(rawValue: 3) }
    @inlinable public static var llcHeader: Cause { Cause(rawValue: 4) }
    @inlinable public static var llcEncapsulated: Cause { Cause(rawValue: 5) }
    @inlinable public static var arpHeader: Cause { Cause(rawValue: 6) }
    @inlinable public static var ipHeader: Cause { Cause(rawValue: 7) }
    @inlinable public static var ipLength: Cause { Cause(rawValue: 8) }
    @inlinable public static var ipOptions: Cause { Cause(rawValue: 9) }
    @inlinable public static var ipv6Extensions: Cause { Cause(rawValue: 10) }
    @inlinable public static var fragmentTiny: Cause { Cause(rawValue: 11) }
    @inlinable public static var fragmentOverlap: Cause { Cause(rawValue: 12) }
    @inlinable public static var fragmentLength: Cause { Cause(rawValue: 13) }
    @inlinable public static var tcpHeader: Cause { Cause(rawValue: 14) }
    @inlinable public static var tcpFlags: Cause { Cause(rawValue: 15) }
    @inlinable public static var udpLength: Cause { Cause(rawValue: 16) }
    @inlinable public static var icmpHeader: Cause { Cause(rawValue: 17) }
    @inlinable public static var icmpErrorUnrelated: Cause { Cause(rawValue: 18) }
    @inlinable public static var neighbourHeader: Cause { Cause(rawValue: 19) }
    @inlinable public static var transportHeader: Cause { Cause(rawValue: 20) }

    /// The parser's causes, in the order of their numbers.
    public static let ofParser: [CauseDescription] = [
        CauseDescription(.truncated, "truncated", "the frame ends before its headers say"),
        CauseDescription(.ethernetHeader, "ethernet-header", "multicast source address, or a type between 1501 and 1535"),
        CauseDescription(.vlanDepth, "vlan-depth", "more than two VLAN tags"),
        CauseDescription(.llcHeader, "llc-header", "802.3 length or LLC header contradicts the frame"),
        CauseDescription(.llcEncapsulated, "llc-encapsulated", "an EtherType hidden in LLC/SNAP"),
        CauseDescription(.arpHeader, "arp-header", "ARP that is not a request or reply for IPv4 over Ethernet"),
        CauseDescription(.ipHeader, "ip-header", "wrong IP version or header length"),
        CauseDescription(.ipLength, "ip-length", "IP length shorter than its header"),
        CauseDescription(.ipOptions, "ip-options", "source routing, or malformed IP options"),
        CauseDescription(.ipv6Extensions, "ipv6-extensions", "extension headers too many, misplaced or malformed"),
        CauseDescription(.fragmentTiny, "fragment-tiny", "a first fragment that does not hold the transport header"),
        CauseDescription(.fragmentOverlap, "fragment-overlap", "a fragment that would overwrite the transport header"),
        CauseDescription(.fragmentLength, "fragment-length", "a fragment of impossible length or offset"),
        CauseDescription(.tcpHeader, "tcp-header", "TCP header length contradicts the segment"),
        CauseDescription(.tcpFlags, "tcp-flags", "TCP flags that no stack sends (NULL, FIN alone, SYN+FIN, SYN+RST, …)"),
        CauseDescription(.udpLength, "udp-length", "UDP length contradicts the datagram"),
        CauseDescription(.icmpHeader, "icmp-header", "ICMP too short, or an error with less or more than the packet it is about"),
        CauseDescription(.icmpErrorUnrelated, "icmp-error-unrelated", "an ICMP error to or from somebody who had no part in the packet in it"),
        CauseDescription(.neighbourHeader, "neighbour-header", "malformed or forwarded neighbour discovery"),
        CauseDescription(.transportHeader, "transport-header", "a transport header cut short"),
    ]
}
