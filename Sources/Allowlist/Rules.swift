// What the allowlist is built from: rules as sets of addresses and ports, without names.

import Frames

@frozen
public enum IPFamily: UInt8, Sendable, Hashable, CaseIterable {
    case ipv4 = 4
    case ipv6 = 6

    /// Length of an address in bits.
    public var bits: Int { self == .ipv4 ? 32 : 128 }
}

/// An address range: the first `length` bits of `words`. A host has the full length.
public struct AddressPrefix: Sendable, Hashable {
    public let family: IPFamily
    /// Host bits are 0.
    public let words: AddressWords
    public let length: Int

    /// - Precondition: `length` lies within the family's bits. Host bits are cleared.
    public init(family: IPFamily, words: AddressWords, length: Int) {
        precondition((0...family.bits).contains(length))
        self.family = family
        self.length = length
        self.words = words.masked(to: length, family)
    }

    public static func any(_ family: IPFamily) -> AddressPrefix {
        AddressPrefix(family: family, words: .zero, length: 0)
    }

    public var isHost: Bool { length == family.bits }

    public func contains(_ address: AddressWords) -> Bool { address.masked(to: length, family) == words }

    public func contains(_ other: AddressPrefix) -> Bool {
        family == other.family && length <= other.length && contains(other.words)
    }
}

extension AddressWords {
    /// The first `length` bits, the rest 0.
    func masked(to length: Int, _ family: IPFamily) -> AddressWords {
        // Swift's smart shift gives 0 beyond 63.
        if family == .ipv4 { return AddressWords(high: 0, low: low & (UInt64(0xFFFF_FFFF) << (32 - length)) & 0xFFFF_FFFF) }
        if length >= 64 { return AddressWords(high: high, low: low & (UInt64.max << (128 - length))) }
        return AddressWords(high: high & (UInt64.max << (64 - length)), low: 0)
    }
}

/// Server ports of one protocol, `low`…`high`. For ICMP: type × 256 + code. A protocol without ports: 0…0.
public struct ServiceRange: Sendable, Hashable {
    public let ipProtocol: IPProtocol
    public let low: Port
    public let high: Port

    public init(_ ipProtocol: IPProtocol, _ low: Port, _ high: Port) {
        precondition(low.rawValue <= high.rawValue)
        self.ipProtocol = ipProtocol
        self.low = low
        self.high = high
    }

    public var count: Int { Int(high.rawValue) - Int(low.rawValue) + 1 }

    public func contains(_ ipProtocol: IPProtocol, _ port: Port) -> Bool {
        ipProtocol == self.ipProtocol && (low.rawValue...high.rawValue).contains(port.rawValue)
    }

    /// ICMP belongs to IPv4 and ICMPv6 to IPv6; a frame of the other kind is not ICMP.
    public func applies(to family: IPFamily) -> Bool {
        ipProtocol == .icmp ? family == .ipv4 : ipProtocol == .icmpv6 ? family == .ipv6 : true
    }

    /// Protocol and port as one number, in order.
    var keys: ClosedRange<UInt32> { portKey(ipProtocol, low)...portKey(ipProtocol, high) }
}

@inline(__always)
func portKey(_ ipProtocol: IPProtocol, _ port: Port) -> UInt32 {
    UInt32(ipProtocol.rawValue) << 16 | UInt32(port.rawValue)
}

/// One rule: any of the clients may open a conversation to any of the servers by any of the services.
public struct AllowRule: Sendable, Hashable {
    public var clients: [AddressPrefix]
    public var servers: [AddressPrefix]
    public var services: [ServiceRange]
    /// Outermost VLAN ids it holds for; empty: all, tagged or not.
    public var vlans: [VLANID]
    /// Where the client is; nil: either side.
    public var clientSide: Side?
    public var flows: FlowOptions

    public init(
        clients: [AddressPrefix], servers: [AddressPrefix], services: [ServiceRange],
        vlans: [VLANID] = [], clientSide: Side? = nil, flows: FlowOptions = FlowOptions()
    ) {
        self.clients = clients
        self.servers = servers
        self.services = services
        self.vlans = vlans
        self.clientSide = clientSide
        self.flows = flows
    }

    var isNarrowed: Bool { !vlans.isEmpty || clientSide != nil }
}

/// An IP address, the MAC addresses that may use it, and the side they are on.
public struct AddressBinding: Sendable {
    public var family: IPFamily
    public var address: AddressWords
    /// Empty: any.
    public var macs: [MACAddress]
    /// nil: either. The MAC addresses belong to it too, whatever address they use.
    public var side: Side?

    public init(family: IPFamily, address: AddressWords, macs: [MACAddress], side: Side? = nil) {
        self.family = family
        self.address = address
        self.macs = macs
        self.side = side
    }
}

/// All that a table is compiled from.
public struct AllowlistSource: Sendable {
    public var mode: Mode
    public var rules: [AllowRule]
    /// EtherTypes that pass, and LLC addresses (`EtherType.llc`).
    public var etherTypes: [EtherType]
    public var bindings: [AddressBinding]
    /// Whether flows that find no room in the flow table pass on the rules' word alone.
    public var fullPasses: Bool
    /// Places of rules whose frames are copied to the mirror port.
    public var mirrored: Set<Int>

    public init(
        mode: Mode = .enforce, rules: [AllowRule] = [], etherTypes: [EtherType] = [.arp],
        bindings: [AddressBinding] = [], fullPasses: Bool = false, mirrored: Set<Int> = []
    ) {
        self.mirrored = mirrored
        self.mode = mode
        self.rules = rules
        self.etherTypes = etherTypes
        self.bindings = bindings
        self.fullPasses = fullPasses
    }
}
