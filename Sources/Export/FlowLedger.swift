// What flow collectors have been told, on disk: a restart neither tells twice nor forgets.

import Baseline
import Foundation
import GRDB

public final class FlowLedger: Sendable {
    private let file: StateFile

    private static let kind = StateFileKind(
        name: "feed-flows", what: "ledger of exported flows", applicationID: 0x534B_5346 /* SKSF */, version: 1,
        howToBegin: "it is made by sekisho feed --state",
        schema: [
            "CREATE TABLE collector (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, history INTEGER NOT NULL) STRICT",
            """
            CREATE TABLE told (
                collector INTEGER NOT NULL, conversation INTEGER NOT NULL, day INTEGER NOT NULL, frames_out INTEGER NOT NULL,
                frames_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, denied INTEGER NOT NULL, last INTEGER NOT NULL,
                PRIMARY KEY (collector, conversation, day)) STRICT, WITHOUT ROWID
            """,
        ])

    /// Opens the ledger of a state directory, or makes it.
    public init(directory: String) throws(StateError) { file = try StateFile(Self.kind, in: directory, mayMake: true) }

    /// A conversation on one day.
    struct Place: Hashable, Sendable {
        var row: Int64
        var day: Int32
    }

    /// A collector's number, and the identity of the history it was told of; nil: none of that name was told anything.
    func collector(_ name: String) throws(StateError) -> (id: Int64, history: Int64)? {
        try file.read { db in
            try Row.fetchOne(db, sql: "SELECT id, history FROM collector WHERE name = ?", arguments: [name]).map { ($0[0], $0[1]) }
        }
    }

    /// In place of a history's identity: what there is is being marked as told, and not all of it is.
    static let isMarking: Int64 = -1

    /// It has been told nothing of this history yet.
    ///
    /// - Returns: its number.
    func begin(_ name: String, history: Int64) throws(StateError) -> Int64 {
        try file.write { db in
            let id = try Int64.fetchOne(
                db, sql: "INSERT INTO collector (name, history) VALUES (?, ?) ON CONFLICT DO UPDATE SET history = excluded.history RETURNING id",
                arguments: [name, history])
            guard let id else { throw DatabaseError(resultCode: .SQLITE_INTERNAL) }
            try db.execute(sql: "DELETE FROM told WHERE collector = ?", arguments: [id])
            return id
        }
    }

    /// All that there was is marked: from now on it is told what comes.
    func endMarking(_ collector: Int64, history: Int64) throws(StateError) {
        try file.write { db in try db.execute(sql: "UPDATE collector SET history = ? WHERE id = ?", arguments: [history, collector]) }
    }

    /// What it was told of these conversations.
    ///
    /// - Parameter rows: of the history.
    func told(_ collector: Int64, _ rows: ClosedRange<Int64>) throws(StateError) -> [Place: FlowCounts] {
        try file.read { db in
            var told: [Place: FlowCounts] = [:]
            let found = try Row.fetchCursor(
                db, sql: """
                    SELECT conversation, day, frames_out, frames_in, bytes_out, bytes_in, denied, last FROM told
                    WHERE collector = ? AND conversation BETWEEN ? AND ?
                    """, arguments: [collector, rows.lowerBound, rows.upperBound])
            while let row = try found.next() {
                func count(_ at: Int) -> UInt64 { UInt64(bitPattern: row[at] as Int64) }
                told[Place(row: row[0], day: Int32(truncatingIfNeeded: row[1] as Int64))] = FlowCounts(
                    framesOut: count(2), framesIn: count(3), bytesOut: count(4), bytesIn: count(5), denied: count(6), last: count(7))
            }
            return told
        }
    }

    /// It has been told these.
    func tell(_ collector: Int64, _ counts: [(place: Place, counts: FlowCounts)]) throws(StateError) {
        if counts.isEmpty { return }
        try file.write { db in
            let put = try db.cachedStatement(sql: "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
            for (place, counts) in counts {
                try put.execute(arguments: [
                    collector, place.row, Int64(place.day), Int64(bitPattern: counts.framesOut), Int64(bitPattern: counts.framesIn),
                    Int64(bitPattern: counts.bytesOut), Int64(bitPattern: counts.bytesIn), Int64(bitPattern: counts.denied),
                    Int64(bitPattern: counts.last),
                ])
            }
        }
    }

    /// Days before this one are looked at no more.
    func forget(before day: Int32) throws(StateError) {
        try file.write { db in try db.execute(sql: "DELETE FROM told WHERE day < ?", arguments: [day]) }
    }
}
