// The history as it is read: every conversation with its days, addresses, decisions.

import Allowlist
import Foundation
import Frames
import GRDB

/// A conversation and all that was recorded of it.
public struct RecordedConversation: Sendable {
    public let row: Int64
    public let key: ConversationKey
    public let orientation: Orientation
    public let intervals: Intervals
    /// In order.
    public var days: [ConversationDay]

    public var first: UInt64 { days.first?.first ?? 0 }
    public var last: UInt64 { days.map(\.last).max() ?? 0 }
    public var connections: UInt64 { days.reduce(0) { $0 + UInt64($1.connections) } }
    public var answered: UInt64 { days.reduce(0) { $0 + UInt64($1.answered) } }
    public var refused: UInt64 { days.reduce(0) { $0 + UInt64($1.refused) } }
    public var framesOut: UInt64 { days.reduce(0) { $0 + $1.framesOut } }
    public var framesIn: UInt64 { days.reduce(0) { $0 + $1.framesIn } }
    public var bytesOut: UInt64 { days.reduce(0) { $0 + $1.bytesOut } }
    public var bytesIn: UInt64 { days.reduce(0) { $0 + $1.bytesIn } }
    public var denied: UInt64 { days.reduce(0) { $0 + UInt64($1.denied) } }
    public var frames: UInt64 { framesOut + framesIn }
    /// Hours in which it was seen.
    public var hourCount: Int { days.reduce(0) { $0 + $1.hours.nonzeroBitCount } }
    /// Whoever is asked never says anything to one that is all or many.
    public var isToGroup: Bool { Learner.isGroup(key.server, key.family == .ipv6 ? .ipv6 : .ipv4) }
    public var isAnswered: Bool { answered > 0 }
}

/// How an address was seen to be used.
public struct RecordedAddress: Sendable, Hashable {
    public var address: LearntAddress
    public var first: UInt64
    public var last: UInt64
}

/// What was learnt from.
public struct RecordedSource: Sendable {
    public var kind: String
    public var name: String
    public var learntAt: Int64
    public var first: UInt64
    public var last: UInt64
    public var frames: UInt64
    public var malformed: UInt64
    public var overflow: UInt64
}

public struct History: Sendable {
    public var conversations: [RecordedConversation]
    public var addresses: [RecordedAddress]
    public var sources: [RecordedSource]
    public var etherTypes: [(type: EtherType, frames: UInt64)]
    public var decisions: [Decision]
    /// Hours since 1970 in which anything was seen, in order.
    public var hours: [Int64]

    /// Only what lies in these times, ns since 1970. Days are cut at their hours; the counts of a cut day stay whole.
    public func during(_ from: UInt64, _ to: UInt64) -> History {
        var cut = self
        cut.conversations = conversations.compactMap { one in
            var one = one
            one.days = one.days.compactMap { day in
                var day = day
                let start = UInt64(day.day) * 86_400_000_000_000
                for hour in 0..<UInt64(24) {
                    let begin = start + hour * 3_600_000_000_000
                    if begin + 3_600_000_000_000 <= from || begin >= to { day.hours &= ~(1 << UInt32(hour)) }
                }
                guard day.hours != 0 else { return nil }
                day.first = max(day.first, from)
                day.last = max(day.first, min(day.last, to))
                return day
            }
            return one.days.isEmpty ? nil : one
        }
        cut.hours = hours.filter { UInt64($0 + 1) * 3_600_000_000_000 > from && UInt64($0) * 3_600_000_000_000 < to }
        return cut
    }
}

/// What a person has said of a conversation.
public struct Decision: Sendable, Equatable {
    public enum Verdict: String, Sendable { case approve, reject, forget }
    public var id: Int64
    /// Seconds since 1970.
    public var at: Int64
    public var who: String
    public var why: String
    public var verdict: Verdict
    public var clients: AddressPrefix
    public var servers: AddressPrefix
    public var services: ServiceRange
    public var vlan: VLANID?

    public func covers(_ key: ConversationKey) -> Bool {
        key.family == clients.family && clients.contains(key.client) && servers.contains(key.server) && services.ipProtocol == key.ipProtocol
            && (services.low.rawValue...services.high.rawValue).contains(key.service.rawValue) && (vlan == nil || vlan == key.vlan)
    }
}

extension HistoryStore {
    /// Everything. A million conversations take some seconds.
    public func read() throws(HistoryError) -> History {
        try reading { db in
            var conversations: [RecordedConversation] = []
            var places: [Int64: Int] = [:]
            let rows = try Row.fetchCursor(db, sql: """
                SELECT id, client, server, family, protocol, service, vlan, orientation, intervals, interval_count FROM conversation ORDER BY id
                """)
            while let row = try rows.next() {
                let family: IPFamily = (row[3] as Int) == 6 ? .ipv6 : .ipv4
                let key = ConversationKey(
                    client: AddressWords(blob: row[1]), server: AddressWords(blob: row[2]),
                    service: Port(rawValue: UInt16(truncatingIfNeeded: row[5] as Int)), vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: row[6] as Int)),
                    ipProtocol: IPProtocol(rawValue: UInt8(truncatingIfNeeded: row[4] as Int)), family: family)
                let id: Int64 = row[0]
                places[id] = conversations.count
                conversations.append(
                    RecordedConversation(
                        row: id, key: key, orientation: Orientation(rawValue: UInt8(truncatingIfNeeded: row[7] as Int)) ?? .guessed,
                        intervals: Intervals(blob: row[8], count: UInt64(bitPattern: row[9] as Int64)), days: []))
            }
            let days = try Row.fetchCursor(db, sql: "SELECT * FROM day ORDER BY conversation, day")
            while let row = try days.next() {
                guard let place = places[row[0]] else { continue }
                conversations[place].days.append(
                    ConversationDay(
                        day: Int32(truncatingIfNeeded: row[1] as Int64), hours: UInt32(truncatingIfNeeded: row[2] as Int64),
                        first: UInt64(bitPattern: row[3] as Int64), last: UInt64(bitPattern: row[4] as Int64),
                        connections: UInt32(clamping: row[5] as Int64), answered: UInt32(clamping: row[6] as Int64),
                        refused: UInt32(clamping: row[7] as Int64), framesOut: UInt64(bitPattern: row[8] as Int64),
                        framesIn: UInt64(bitPattern: row[9] as Int64), bytesOut: UInt64(bitPattern: row[10] as Int64),
                        bytesIn: UInt64(bitPattern: row[11] as Int64), denied: UInt32(clamping: row[12] as Int64)))
            }
            let addresses = try Row.fetchAll(db, sql: "SELECT * FROM address").map { row in
                RecordedAddress(
                    address: LearntAddress(
                        address: AddressWords(blob: row[0]), family: (row[1] as Int) == 6 ? .ipv6 : .ipv4,
                        vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: row[2] as Int)), mac: MACAddress(rawValue: UInt64(bitPattern: row[3] as Int64)),
                        side: Side(rawValue: UInt8(truncatingIfNeeded: row[4] as Int))),
                    first: UInt64(bitPattern: row[5] as Int64), last: UInt64(bitPattern: row[6] as Int64))
            }
            let sources = try Row.fetchAll(db, sql: "SELECT kind, name, learnt_at, first, last, frames, malformed, overflow FROM source ORDER BY id").map { row in
                RecordedSource(
                    kind: row[0], name: row[1], learntAt: row[2], first: UInt64(bitPattern: row[3] as Int64), last: UInt64(bitPattern: row[4] as Int64),
                    frames: UInt64(bitPattern: row[5] as Int64), malformed: UInt64(bitPattern: row[6] as Int64),
                    overflow: UInt64(bitPattern: row[7] as Int64))
            }
            let types = try Row.fetchAll(db, sql: "SELECT type, frames FROM ethertype ORDER BY type").map { row in
                (type: EtherType(rawValue: UInt16(truncatingIfNeeded: row[0] as Int)), frames: UInt64(bitPattern: row[1] as Int64))
            }
            return History(
                conversations: conversations.filter { !$0.days.isEmpty }, addresses: addresses, sources: sources, etherTypes: types,
                decisions: try Self.decisions(db), hours: try Int64.fetchAll(db, sql: "SELECT hour FROM observed_hour ORDER BY hour"))
        }
    }

    static func decisions(_ db: Database) throws -> [Decision] {
        try Row.fetchAll(db, sql: """
            SELECT id, at, who, why, verdict, client, client_length, server, server_length, family, protocol, service_low, service_high, vlan
            FROM decision ORDER BY id
            """
        ).compactMap { row in
            let family: IPFamily = (row[9] as Int) == 6 ? .ipv6 : .ipv4
            let low = UInt16(truncatingIfNeeded: row[11] as Int), high = UInt16(truncatingIfNeeded: row[12] as Int)
            guard let verdict = Decision.Verdict(rawValue: row[4]), low <= high, (0...family.bits).contains(row[6]), (0...family.bits).contains(row[8])
            else { return nil }
            return Decision(
                id: row[0], at: row[1], who: row[2], why: row[3], verdict: verdict,
                clients: AddressPrefix(family: family, words: AddressWords(blob: row[5]), length: row[6]),
                servers: AddressPrefix(family: family, words: AddressWords(blob: row[7]), length: row[8]),
                services: ServiceRange(
                    IPProtocol(rawValue: UInt8(truncatingIfNeeded: row[10] as Int)), Port(rawValue: low), Port(rawValue: high)),
                vlan: (row[13] as Int?).map { VLANID(rawValue: UInt16(truncatingIfNeeded: $0)) })
        }
    }
}
