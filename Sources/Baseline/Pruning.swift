// Old days are taken out of the history in small pieces, each a transaction of its own, so that whoever records waits for none.
//
// What a person decided, named or learnt from (decisions, periods, sources) stays for good.

import Foundation
import GRDB

/// How far a pruning has come.
public struct Pruning: Sendable, Equatable {
    /// Days before this one go; since 1970, UTC.
    public let before: Int32
    /// Taken out so far: days of conversations, conversations that have none left, uses of addresses.
    public private(set) var days = 0
    public private(set) var conversations = 0
    public private(set) var addresses = 0
    public fileprivate(set) var isDone = false
    /// The last conversation that was looked at; nil: all were.
    fileprivate var row: Int64? = 0

    /// Conversations that one piece looks at: at 400 days each some 80,000 rows, a few milliseconds.
    fileprivate static let piece = 200
    fileprivate static let addressPiece = 5000

    public init(before: Int32) { self.before = before }

    fileprivate mutating func count(days: Int = 0, conversations: Int = 0, addresses: Int = 0) {
        self.days += days
        self.conversations += conversations
        self.addresses += addresses
    }
}

extension HistoryStore {
    /// What must go so that the latest days remain on which anything was seen; nil: nothing.
    ///
    /// Days with traffic are counted, not those of the calendar: a clock that jumps ahead for a moment takes nothing along but one day.
    public func pruning(keepingDays count: Int) throws(HistoryError) -> Pruning? {
        try reading { db in
            // Rounded down also before 1970, where a clock that was never set may be.
            let first = try Int64.fetchOne(
                db, sql: "SELECT DISTINCT (hour - ((hour % 24) + 24) % 24) / 24 AS day FROM observed_hour ORDER BY day DESC LIMIT 1 OFFSET ?",
                arguments: [count - 1])
            guard let first, try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM observed_hour WHERE hour < ?)", arguments: [first * 24]) == true
            else { return nil }
            return Pruning(before: Int32(clamping: first))
        }
    }

    /// Takes the next piece out.
    ///
    /// - Returns: whether anything had to be written.
    @discardableResult
    public func prune(_ pruning: inout Pruning) throws(HistoryError) -> Bool {
        let now = pruning
        guard !now.isDone else { return false }
        guard let after = now.row else {
            let gone = try writing { db in
                try db.execute(
                    sql: """
                        DELETE FROM address WHERE (address, family, vlan, mac, side) IN
                        (SELECT address, family, vlan, mac, side FROM address WHERE last < ? LIMIT ?)
                        """, arguments: [Int64(now.before) * 86_400_000_000_000, Pruning.addressPiece])
                let gone = db.changesCount
                // Last, for these say what there is to do.
                if gone < Pruning.addressPiece { try db.execute(sql: "DELETE FROM observed_hour WHERE hour < ?", arguments: [Int64(now.before) * 24]) }
                return gone
            }
            pruning.count(addresses: gone)
            pruning.isDone = gone < Pruning.addressPiece
            return true
        }
        // Looked at first, for whoever writes keeps all others who write waiting.
        let (last, isOld) = try reading { db in
            let last = try Int64.fetchOne(
                db, sql: "SELECT max(id) FROM (SELECT id FROM conversation WHERE id > ? ORDER BY id LIMIT ?)", arguments: [after, Pruning.piece])
            guard let last else { return (Int64?.none, false) }
            let isOld = try Bool.fetchOne(
                db, sql: "SELECT EXISTS (SELECT 1 FROM day WHERE conversation > ? AND conversation <= ? AND day < ?)",
                arguments: [after, last, now.before])
            return (last, isOld ?? false)
        }
        pruning.row = last
        guard let last, isOld else { return false }
        let (days, conversations) = try writing { db in
            try db.execute(
                sql: "DELETE FROM day WHERE conversation > ? AND conversation <= ? AND day < ?", arguments: [after, last, now.before])
            let days = db.changesCount
            try db.execute(
                sql: """
                    DELETE FROM conversation WHERE id > ? AND id <= ? AND NOT EXISTS (SELECT 1 FROM day WHERE day.conversation = conversation.id)
                    """, arguments: [after, last])
            return (days, db.changesCount)
        }
        pruning.count(days: days, conversations: conversations)
        return true
    }
}
