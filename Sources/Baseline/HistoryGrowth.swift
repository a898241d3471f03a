// The history as it grows: how the counts stand now, piece by piece, for whoever tells others what was added.

import Allowlist
import Foundation
import Frames
import GRDB

/// How the counts of a conversation on one day stand.
public struct StandingDay: Sendable {
    /// In the store.
    public var row: Int64
    public var key: ConversationKey
    public var day: ConversationDay

    public init(row: Int64, key: ConversationKey, day: ConversationDay) {
        self.row = row
        self.key = key
        self.day = day
    }
}

/// An address where it is used.
public struct PlacedAddress: Hashable, Sendable {
    public var address: AddressWords
    public var family: IPFamily
    public var vlan: VLANID

    public init(address: AddressWords, family: IPFamily, vlan: VLANID) {
        self.address = address
        self.family = family
        self.vlan = vlan
    }
}

extension HistoryStore {
    /// Differs from that of a history which was begun anew in its place: when the first thing was learnt, seconds since 1970; 0: nothing was yet.
    public func identity() throws(HistoryError) -> Int64 {
        try reading { db in try Int64.fetchOne(db, sql: "SELECT learnt_at FROM source ORDER BY id LIMIT 1") ?? 0 }
    }

    /// The days of the next conversations, in order of rows and days.
    ///
    /// The days are found by their conversations: a conversation without one costs a look, and days before cost nothing.
    ///
    /// - Parameters:
    ///   - first: the first day that matters, since 1970, UTC.
    ///   - row: of the last conversation that was looked at; 0: begins.
    ///   - most: conversations to look at.
    /// - Returns: them, and the last conversation that was looked at; nil: there were no more.
    public func standing(from first: Int32, after row: Int64, most: Int) throws(HistoryError) -> (days: [StandingDay], last: Int64?) {
        try reading { db in
            let last = try Int64.fetchOne(
                db, sql: "SELECT max(id) FROM (SELECT id FROM conversation WHERE id > ? ORDER BY id LIMIT ?)", arguments: [row, most])
            guard let last else { return ([], nil) }
            let rows = try Row.fetchCursor(
                db, sql: """
                    SELECT c.id, c.client, c.server, c.family, c.protocol, c.service, c.vlan, d.* FROM conversation c
                    CROSS JOIN day d ON d.conversation = c.id AND d.day >= ? WHERE c.id > ? AND c.id <= ? ORDER BY c.id, d.day
                    """, arguments: [first, row, last])
            var days: [StandingDay] = []
            while let row = try rows.next() { days.append(StandingDay(row: row[0], key: ConversationKey(row), day: ConversationDay(row, from: 7))) }
            return (days, last)
        }
    }

    /// How addresses were used last. Those that never sent anything are missing.
    public func lastUses(of addresses: Set<PlacedAddress>) throws(HistoryError) -> [PlacedAddress: LearntAddress] {
        if addresses.isEmpty { return [:] }
        return try reading { db in
            let find = try db.cachedStatement(
                sql: "SELECT mac, side FROM address WHERE address = ? AND family = ? AND vlan = ? ORDER BY last DESC LIMIT 1")
            var uses: [PlacedAddress: LearntAddress] = [:]
            for one in addresses {
                let row = try Row.fetchOne(
                    find, arguments: [one.address.blob(one.family), Int(one.family.rawValue), Int(one.vlan.rawValue)])
                guard let row else { continue }
                uses[one] = LearntAddress(
                    address: one.address, family: one.family, vlan: one.vlan, mac: MACAddress(rawValue: UInt64(bitPattern: row[0] as Int64)),
                    side: Side(rawValue: UInt8(truncatingIfNeeded: row[1] as Int64)))
            }
            return uses
        }
    }
}

extension ConversationDay {
    /// - Parameters:
    ///   - row: with the columns of `day`.
    ///   - first: where these begin.
    init(_ row: Row, from first: Int) {
        self.init(
            day: Int32(truncatingIfNeeded: row[first + 1] as Int64), hours: UInt32(truncatingIfNeeded: row[first + 2] as Int64),
            first: UInt64(bitPattern: row[first + 3] as Int64), last: UInt64(bitPattern: row[first + 4] as Int64),
            connections: UInt32(clamping: row[first + 5] as Int64), answered: UInt32(clamping: row[first + 6] as Int64),
            refused: UInt32(clamping: row[first + 7] as Int64), framesOut: UInt64(bitPattern: row[first + 8] as Int64),
            framesIn: UInt64(bitPattern: row[first + 9] as Int64), bytesOut: UInt64(bitPattern: row[first + 10] as Int64),
            bytesIn: UInt64(bitPattern: row[first + 11] as Int64), denied: UInt32(clamping: row[first + 12] as Int64))
    }
}
