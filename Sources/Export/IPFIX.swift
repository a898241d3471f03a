// Flow records as IPFIX has them (RFC 7011), with elements of IANA's registry only.
//
//     message   16 bytes: version 10, length, export time, sequence number, observation domain
//     └ set     4 bytes: 2 for templates, else the template's number; length
//       └ record of fixed length, no padding

import Allowlist
import Frames

/// What one end of a conversation sent the other between two exports.
public struct FlowRecord: Sendable, Equatable {
    /// ms since 1970.
    public var start: UInt64
    public var end: UInt64
    public var packets: UInt64
    /// Of whole frames, without their check sequence.
    public var frameBytes: UInt64
    public var source: AddressWords
    public var destination: AddressWords
    public var family: IPFamily
    /// 0: not kept, or the protocol has none.
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    /// Type × 256 + code, of ICMP only.
    public var icmp: UInt16?
    public var ipProtocol: IPProtocol
    public var vlan: VLANID
    /// Port of the bridge that they came in by; nil: not known.
    public var side: Side?
    /// nil: not known.
    public var sourceMAC: MACAddress?
    public var destinationMAC: MACAddress?
    public var fate: FlowFate

    public init(
        start: UInt64, end: UInt64, packets: UInt64, frameBytes: UInt64, source: AddressWords, destination: AddressWords, family: IPFamily,
        sourcePort: UInt16, destinationPort: UInt16, icmp: UInt16?, ipProtocol: IPProtocol, vlan: VLANID, side: Side?, sourceMAC: MACAddress?,
        destinationMAC: MACAddress?, fate: FlowFate
    ) {
        (self.start, self.end, self.packets, self.frameBytes) = (start, end, packets, frameBytes)
        (self.source, self.destination, self.family) = (source, destination, family)
        (self.sourcePort, self.destinationPort, self.icmp, self.ipProtocol, self.vlan) = (sourcePort, destinationPort, icmp, ipProtocol, vlan)
        (self.side, self.sourceMAC, self.destinationMAC, self.fate) = (side, sourceMAC, destinationMAC, fate)
    }

    /// Without Ethernet's header and one tag, which is what the element counts; what pads a short frame is in it.
    var packetBytes: UInt64 {
        let headers = packets.multipliedReportingOverflow(by: vlan == .untagged ? 14 : 18)
        return headers.overflow || headers.partialValue > frameBytes ? 0 : frameBytes - headers.partialValue
    }
}

/// What became of a flow's packets: forwardingStatus (RFC 7270 4.12).
public enum FlowFate: UInt8, Sendable {
    /// Some passed and some did not, or it is not known.
    case unknown = 0
    case forwarded = 64
    case dropped = 128
}

/// Makes messages. One for each transport session: its records are numbered.
struct IPFIXEncoder {
    /// Of the bridge, as collectors tell them apart.
    let domain: UInt32
    /// Bytes of a message at the most.
    let longest: Int
    /// Data records that messages have held so far, modulo 2³² (RFC 7011 3.1).
    private(set) var sequence: UInt32 = 0

    /// Over UDP: with the headers of IPv6 and UDP, and a tunnel's, it fits into every Ethernet frame.
    static let longestDatagram = 1400
    static let longestOverTCP = 16_000
    /// A message with all templates and one record, and some more.
    static let shortest = 512

    init(domain: UInt32, longest: Int) {
        precondition((Self.shortest...65_535).contains(longest))
        self.domain = domain
        self.longest = longest
    }

    /// Messages with these records, in their order.
    ///
    /// - Parameters:
    ///   - withTemplates: also where there are no records: the first message begins with all templates.
    ///   - seconds: when they are sent, since 1970; modulo 2³².
    mutating func messages(_ records: [FlowRecord], withTemplates: Bool, at seconds: UInt32) -> [[UInt8]] {
        var done: [[UInt8]] = []
        var message = IPFIXMessage(capacity: longest)
        if withTemplates { message.addTemplates() }
        for record in records {
            let template = IPFIXTemplate.of(record)
            if !message.fits(template, longest) {
                done.append(message.finished(domain: domain, at: seconds, sequence: &sequence))
                message = IPFIXMessage(capacity: longest)
            }
            message.add(record, template)
        }
        if !message.isEmpty { done.append(message.finished(domain: domain, at: seconds, sequence: &sequence)) }
        return done
    }
}

/// Which elements a record has, by family and by whether there are ports.
enum IPFIXTemplate: UInt16, CaseIterable {
    case ipv4 = 256
    case ipv6 = 257
    case icmp4 = 258
    case icmp6 = 259

    static func of(_ record: FlowRecord) -> IPFIXTemplate {
        record.family == .ipv6 ? (record.icmp == nil ? .ipv6 : .icmp6) : (record.icmp == nil ? .ipv4 : .icmp4)
    }

    /// Numbers of IANA's registry of IPFIX information elements, and lengths. `IPFIXMessage.add` writes them in this order.
    var elements: [(id: UInt16, length: UInt16)] {
        let addresses: [(UInt16, UInt16)] = self == .ipv6 || self == .icmp6
            ? [(27, 16), (28, 16)]  // source, destinationIPv6Address
            : [(8, 4), (12, 4)]  // source, destinationIPv4Address
        let service: [(UInt16, UInt16)] = switch self {
        case .ipv4, .ipv6: [(7, 2), (11, 2)]  // source, destinationTransportPort
        case .icmp4: [(32, 2)]  // icmpTypeCodeIPv4
        case .icmp6: [(139, 2)]  // icmpTypeCodeIPv6
        }
        return [
            (152, 8), (153, 8),  // flowStart, flowEndMilliseconds
            (1, 8), (2, 8), (352, 8),  // octet, packet, layer2OctetDeltaCount
        ] + addresses + service + [
            (4, 1), (58, 2),  // protocolIdentifier, vlanId
            (10, 4), (14, 4),  // ingress, egressInterface
            (56, 6), (80, 6),  // source, destinationMacAddress
            (89, 1),  // forwardingStatus
        ]
    }

    var recordLength: Int { elements.reduce(0) { $0 + Int($1.length) } }
}

/// One that is being written.
private struct IPFIXMessage {
    private var bytes: [UInt8]
    private var records: UInt32 = 0
    /// The set that is open, and where it begins.
    private var set: (template: IPFIXTemplate, at: Int)?
    private static let headerLength = 16
    private static let setHeaderLength = 4

    init(capacity: Int) {
        bytes = []
        bytes.reserveCapacity(capacity)
        bytes.append(contentsOf: repeatElement(0, count: Self.headerLength))
    }

    var isEmpty: Bool { bytes.count == Self.headerLength }

    func fits(_ template: IPFIXTemplate, _ longest: Int) -> Bool {
        bytes.count + (set?.template == template ? 0 : Self.setHeaderLength) + template.recordLength <= longest
    }

    mutating func addTemplates() {
        let at = bytes.count
        put(UInt16(2))
        put(UInt16(0))
        for template in IPFIXTemplate.allCases {
            let elements = template.elements
            put(template.rawValue)
            put(UInt16(elements.count))
            for element in elements {
                put(element.id)
                put(element.length)
            }
        }
        setLength(at)
    }

    mutating func add(_ record: FlowRecord, _ template: IPFIXTemplate) {
        if set?.template != template {
            closeSet()
            set = (template, bytes.count)
            put(template.rawValue)
            put(UInt16(0))
        }
        for word in [record.start, record.end, record.packetBytes, record.packets, record.frameBytes] { put(word) }
        for address in [record.source, record.destination] {
            if record.family == .ipv6 {
                put(address.high)
                put(address.low)
            } else {
                put(UInt32(truncatingIfNeeded: address.low))
            }
        }
        if let icmp = record.icmp {
            put(icmp)
        } else {
            put(record.sourcePort)
            put(record.destinationPort)
        }
        put(record.ipProtocol.rawValue)
        put(record.vlan.rawValue)
        put(Self.interface(record.side))
        put(record.fate == .dropped ? 0 : Self.interface(record.side?.other))
        put(record.sourceMAC)
        put(record.destinationMAC)
        put(record.fate.rawValue)
        records &+= 1
    }

    /// As a number that collectors keep for it: 1 inside, 2 outside, 0 not known or none.
    private static func interface(_ side: Side?) -> UInt32 { side.map { $0 == .inside ? 1 : 2 } ?? 0 }

    /// - Parameter sequence: records before it; those in it are added.
    mutating func finished(domain: UInt32, at seconds: UInt32, sequence: inout UInt32) -> [UInt8] {
        closeSet()
        var header = IPFIXMessage(capacity: Self.headerLength)
        header.bytes.removeAll(keepingCapacity: true)
        header.put(UInt16(10))
        header.put(UInt16(truncatingIfNeeded: bytes.count))
        header.put(seconds)
        header.put(sequence)
        header.put(domain)
        bytes.replaceSubrange(0..<Self.headerLength, with: header.bytes)
        sequence &+= records
        return bytes
    }

    private mutating func closeSet() {
        if let set { setLength(set.at) }
        set = nil
    }

    private mutating func setLength(_ at: Int) {
        let length = UInt16(truncatingIfNeeded: bytes.count - at)
        bytes[at + 2] = UInt8(length >> 8)
        bytes[at + 3] = UInt8(length & 0xFF)
    }

    private mutating func put(_ mac: MACAddress?) {
        let raw = mac?.rawValue ?? 0
        put(UInt16(truncatingIfNeeded: raw >> 32))
        put(UInt32(truncatingIfNeeded: raw))
    }

    /// In network order.
    private mutating func put(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }
}
