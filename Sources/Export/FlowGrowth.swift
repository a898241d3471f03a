// What a conversation has carried since it was told of last, as flow records: one for each direction that grew.

import Allowlist
import Baseline
import Frames

/// Counts of a conversation on one day, as a collector has been told them.
public struct FlowCounts: Sendable, Equatable {
    public var framesOut: UInt64
    public var framesIn: UInt64
    public var bytesOut: UInt64
    public var bytesIn: UInt64
    public var denied: UInt64
    /// When its last frame had come, ns since 1970.
    public var last: UInt64

    public init(framesOut: UInt64, framesIn: UInt64, bytesOut: UInt64, bytesIn: UInt64, denied: UInt64, last: UInt64) {
        (self.framesOut, self.framesIn, self.bytesOut, self.bytesIn) = (framesOut, framesIn, bytesOut, bytesIn)
        (self.denied, self.last) = (denied, last)
    }

    public init(_ day: ConversationDay) {
        self.init(
            framesOut: day.framesOut, framesIn: day.framesIn, bytesOut: day.bytesOut, bytesIn: day.bytesIn, denied: UInt64(day.denied), last: day.last)
    }
}

/// What was added to a conversation.
public struct FlowGrowth: Sendable, Equatable {
    public var key: ConversationKey
    /// `last` is when the newest frame came.
    public var added: FlowCounts
    /// ns since 1970.
    public var start: UInt64

    /// - Parameter told: what stood there before; nil: nothing.
    /// - Returns: nil where nothing was added, or a count went back: the history is an older one, and goes on from there.
    public init?(_ standing: StandingDay, told: FlowCounts?) {
        let now = FlowCounts(standing.day)
        let before = told ?? FlowCounts(framesOut: 0, framesIn: 0, bytesOut: 0, bytesIn: 0, denied: 0, last: standing.day.first)
        guard now.framesOut >= before.framesOut, now.framesIn >= before.framesIn, now.bytesOut >= before.bytesOut, now.bytesIn >= before.bytesIn,
            now.denied >= before.denied, now.framesOut > before.framesOut || now.framesIn > before.framesIn
        else { return nil }
        key = standing.key
        added = FlowCounts(
            framesOut: now.framesOut - before.framesOut, framesIn: now.framesIn - before.framesIn, bytesOut: now.bytesOut - before.bytesOut,
            bytesIn: now.bytesIn - before.bytesIn, denied: now.denied - before.denied, last: now.last)
        start = min(before.last, now.last)
    }

    /// - Parameters:
    ///   - uses: of both addresses, as far as they are known.
    ///   - isEnforced: whether what is denied does not pass; nil: not known.
    public func records(_ uses: [PlacedAddress: LearntAddress], isEnforced: Bool?) -> [FlowRecord] {
        let client = uses[PlacedAddress(address: key.client, family: key.family, vlan: key.vlan)]
        let server = uses[PlacedAddress(address: key.server, family: key.family, vlan: key.vlan)]
        let fate = fate(isEnforced)
        func record(isToServer: Bool) -> FlowRecord {
            let (from, to) = isToServer ? (client, server) : (server, client)
            let hasPorts = key.ipProtocol.hasPorts
            return FlowRecord(
                start: start / 1_000_000, end: added.last / 1_000_000, packets: isToServer ? added.framesOut : added.framesIn,
                frameBytes: isToServer ? added.bytesOut : added.bytesIn, source: isToServer ? key.client : key.server,
                destination: isToServer ? key.server : key.client, family: key.family,
                sourcePort: hasPorts && !isToServer ? key.service.rawValue : 0, destinationPort: hasPorts && isToServer ? key.service.rawValue : 0,
                icmp: isICMP ? (isToServer ? key.service.rawValue : Self.reply(key.service.rawValue, key.ipProtocol)) : nil,
                ipProtocol: key.ipProtocol, vlan: key.vlan,
                // Who has never sent anything is on the other side, if anywhere.
                side: from?.side ?? to?.side?.other, sourceMAC: from?.mac, destinationMAC: to?.mac, fate: fate)
        }
        return [true, false].filter { ($0 ? added.framesOut : added.framesIn) > 0 }.map(record)
    }

    private var isICMP: Bool { key.family == .ipv6 ? key.ipProtocol == .icmpv6 : key.ipProtocol == .icmp }

    /// The history counts what is denied of both directions together: of some denied it is not known which.
    private func fate(_ isEnforced: Bool?) -> FlowFate {
        if added.denied == 0 || isEnforced == false { return .forwarded }
        return isEnforced == true && added.denied >= added.framesOut &+ added.framesIn ? .dropped : .unknown
    }

    /// What answers a request of ICMP: the history keeps the request only.
    private static func reply(_ service: UInt16, _ ipProtocol: IPProtocol) -> UInt16 {
        switch (ipProtocol, service >> 8) {
        case (.icmp, 8): 0
        case (.icmp, 13): 14 << 8
        case (.icmp, 15): 16 << 8
        case (.icmp, 17): 18 << 8
        case (.icmpv6, 128): 129 << 8
        default: service
        }
    }
}
