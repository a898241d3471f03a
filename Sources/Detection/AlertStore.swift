// Alerts on disk: one SQLite file in the state directory, written by the daemon and read, and acknowledged, by whoever looks.

import Allowlist
import Baseline
import Foundation
import Frames
import GRDB

/// An alert in a few words.
public struct AlertSummary: Sendable, Equatable {
    public var id: Int64
    public var kind: String
    public var severity: Int
    public var last: Date
    public var hasEnded: Bool
    public var isAcknowledged: Bool

    public init(id: Int64, kind: String, severity: Int, last: Date, hasEnded: Bool = false, isAcknowledged: Bool = false) {
        (self.id, self.kind, self.severity, self.last) = (id, kind, severity, last)
        (self.hasEnded, self.isAcknowledged) = (hasEnded, isAcknowledged)
    }
}

public final class AlertStore: Sendable {
    private let file: StateFile
    public var path: String { file.path }

    static let version = 2
    private static let frames = """
        CREATE TABLE frame (
            alert INTEGER NOT NULL, number INTEGER NOT NULL, time INTEGER NOT NULL, sender INTEGER NOT NULL, source_high INTEGER NOT NULL,
            source_low INTEGER NOT NULL, side INTEGER NOT NULL, cause INTEGER NOT NULL, wire_length INTEGER NOT NULL, bytes BLOB NOT NULL,
            PRIMARY KEY (alert, number)) STRICT, WITHOUT ROWID
        """
    private static let kind = StateFileKind(
        name: "alerts", what: "alerts", applicationID: 0x534B_5341 /* SKSA */, version: version,
        howToBegin: "alerts are made by a running bridge: sekisho run --state",
        schema: [
            """
            CREATE TABLE alert (
                id INTEGER PRIMARY KEY, kind TEXT NOT NULL, severity INTEGER NOT NULL, begin INTEGER NOT NULL, last INTEGER NOT NULL, ended INTEGER,
                body TEXT NOT NULL, acknowledged_at INTEGER, acknowledged_by TEXT, acknowledged_why TEXT) STRICT
            """,
            "CREATE INDEX alert_last ON alert (last)",
            frames,
        ],
        upgrades: [[frames]])
    /// What is kept: no more alerts, and no older ones.
    public static let most = 100_000
    public static let days = 400

    /// Opens the alerts of a state directory, or makes the file.
    public init(directory: String, mayMake: Bool = true) throws(HistoryError) { file = try StateFile(Self.kind, in: directory, mayMake: mayMake) }

    // MARK: - Writing

    /// Writes down what has become of alerts, all or nothing. Acknowledgements stay.
    public func write(_ alerts: [Alert]) throws(HistoryError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        try writing { db in
            let put = try db.cachedStatement(sql: """
                INSERT INTO alert (id, kind, severity, begin, last, ended, body) VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET kind = excluded.kind, severity = excluded.severity, begin = excluded.begin, last = excluded.last,
                ended = excluded.ended, body = excluded.body
                """)
            for alert in alerts {
                var bare = alert
                bare.acknowledged = nil
                try put.execute(arguments: [
                    alert.id, alert.kind.rawValue, alert.severity.rawValue, Self.stored(alert.begin), Self.stored(alert.last), alert.end.map(Self.stored),
                    String(decoding: try encoder.encode(bare), as: UTF8.self),
                ])
            }
        }
    }

    /// Writes down frames of an alert, behind those there are, as far as there is room.
    public func write(_ frames: [AlertFrame], of alert: Int64) throws(HistoryError) {
        try writing { db in
            let first = try Int.fetchOne(db, sql: "SELECT max(number) FROM frame WHERE alert = ?", arguments: [alert]) ?? 0
            let put = try db.cachedStatement(sql: "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            for (i, frame) in frames.prefix(max(0, AlertFrames.mostOfAlert - first)).enumerated() {
                try put.execute(arguments: [
                    alert, first + 1 + i, Int64(truncatingIfNeeded: frame.time), Int64(frame.sender.rawValue), Int64(bitPattern: frame.source.high),
                    Int64(bitPattern: frame.source.low), Int64(frame.side.rawValue), Int64(frame.cause.rawValue), frame.wireLength, Data(frame.bytes),
                ])
            }
        }
    }

    /// Ends what a bridge that is no more has left open: nobody watches it any longer.
    ///
    /// - Parameter before: alerts that had nothing since.
    public func endForgotten(before: Date) throws(HistoryError) {
        let forgotten = try read(since: nil, onlyOpen: true, damaged: { _ in }).filter { $0.last < before }
        try write(forgotten.map { one in
            var one = one
            one.end = one.last
            return one
        })
    }

    /// Keeps the latest.
    public func trim(now: Date) throws(HistoryError) {
        try writing { db in
            try db.execute(sql: "DELETE FROM alert WHERE last < ?", arguments: [Self.stored(now.addingTimeInterval(-86_400 * Double(Self.days)))])
            try db.execute(sql: "DELETE FROM alert WHERE id <= (SELECT max(id) FROM alert) - ?", arguments: [Self.most])
            try db.execute(sql: "DELETE FROM frame WHERE alert NOT IN (SELECT id FROM alert)")
        }
    }

    /// Somebody has looked at it.
    ///
    /// - Returns: false if there is none of this number.
    public func acknowledge(_ id: Int64, _ acknowledgement: Acknowledgement) throws(HistoryError) -> Bool {
        try writing { db in
            try db.execute(
                sql: "UPDATE alert SET acknowledged_at = ?, acknowledged_by = ?, acknowledged_why = ? WHERE id = ?",
                arguments: [Self.stored(acknowledgement.at), acknowledgement.who, acknowledgement.why, id])
            return db.changesCount > 0
        }
    }

    // MARK: - Reading

    /// Alerts in order.
    ///
    /// - Parameters:
    ///   - since: those that had something from then on; nil: all.
    ///   - damaged: told the numbers of those that are not as this program writes them, and are left out; nil: one of them is an error.
    public func read(since: Date?, onlyOpen: Bool = false, damaged: ((Int64) -> Void)? = nil) throws(HistoryError) -> [Alert] {
        try reading { db in
            let rows = try Row.fetchCursor(
                db, sql: "SELECT \(Self.columns) FROM alert WHERE last >= ? \(onlyOpen ? "AND ended IS NULL" : "") ORDER BY id", arguments: [since.map(Self.stored) ?? 0])
            var alerts: [Alert] = []
            while let row = try rows.next() { if let one = try Self.alert(row, damaged) { alerts.append(one) } }
            return alerts
        }
    }

    /// - Parameter damaged: as of several.
    public func read(_ id: Int64, damaged: ((Int64) -> Void)? = nil) throws(HistoryError) -> Alert? {
        try reading { db in
            guard let row = try Row.fetchOne(db, sql: "SELECT \(Self.columns) FROM alert WHERE id = ?", arguments: [id]) else { return nil }
            return try Self.alert(row, damaged)
        }
    }

    /// Frames of an alert, as they came.
    public func frames(of alert: Int64) throws(HistoryError) -> [AlertFrame] {
        try reading { db in
            try Row.fetchAll(db, sql: "SELECT * FROM frame WHERE alert = ? ORDER BY time, number", arguments: [alert]).map { row in
                AlertFrame(
                    time: UInt64(bitPattern: row["time"]), sender: MACAddress(rawValue: UInt64(bitPattern: row["sender"])),
                    source: AddressWords(high: UInt64(bitPattern: row["source_high"]), low: UInt64(bitPattern: row["source_low"])),
                    side: row["side"] == 0 ? .inside : .outside, cause: Cause(rawValue: UInt8(truncatingIfNeeded: row["cause"] as Int)), wireLength: row["wire_length"],
                    bytes: [UInt8](row["bytes"] as Data))
            }
        }
    }

    /// What has become of alerts, without their stories: for whoever looks again and again.
    ///
    /// - Parameters:
    ///   - since: those that had something from then on.
    ///   - after: and those of higher numbers, whatever the clock said.
    public func summaries(since: Date, after: Int64) throws(HistoryError) -> [AlertSummary] {
        try summaries("last >= ? OR id > ?", [Self.stored(since), after])
    }

    public func summary(_ id: Int64) throws(HistoryError) -> AlertSummary? { try summaries("id = ?", [id]).first }

    private func summaries(_ condition: String, _ values: StatementArguments) throws(HistoryError) -> [AlertSummary] {
        try reading { db in
            let rows = try Row.fetchCursor(
                db, sql: "SELECT id, kind, severity, last, ended, acknowledged_at FROM alert WHERE \(condition) ORDER BY id", arguments: values)
            var found: [AlertSummary] = []
            while let row = try rows.next() {
                found.append(
                    AlertSummary(
                        id: row[0], kind: row[1], severity: row[2], last: Date(timeIntervalSince1970: Double(row[3] as Int64) / 1e6),
                        hasEnded: (row[4] as Int64?) != nil, isAcknowledged: (row[5] as Int64?) != nil))
            }
            return found
        }
    }

    /// Of the last alert; 0: there was none.
    public func lastID() throws(HistoryError) -> Int64 {
        try reading { db in try Int64.fetchOne(db, sql: "SELECT max(id) FROM alert") ?? 0 }
    }

    /// What `alert` reads.
    private static let columns = "body, acknowledged_at, acknowledged_by, acknowledged_why, id"

    private static func alert(_ row: Row, _ damaged: ((Int64) -> Void)?) throws -> Alert? {
        do {
            var alert = try JSONDecoder().decode(Alert.self, from: Data((row[0] as String).utf8))
            if let at: Int64 = row[1] { alert.acknowledged = Acknowledgement(at: Date(timeIntervalSince1970: Double(at) / 1e6), who: row[2] ?? "", why: row[3] ?? "") }
            return alert
        } catch let error as DecodingError {
            guard let damaged else { throw error }
            damaged(row[4])
            return nil
        }
    }

    /// Microseconds since 1970.
    private static func stored(_ date: Date) -> Int64 { Int64(date.timeIntervalSince1970 * 1e6) }

    private func writing<T>(_ body: (Database) throws -> T) throws(HistoryError) -> T { try file.write { db in try Self.understood(path) { try body(db) } } }
    private func reading<T>(_ body: (Database) throws -> T) throws(HistoryError) -> T { try file.read { db in try Self.understood(path) { try body(db) } } }

    private static func understood<T>(_ path: String, _ body: () throws -> T) throws -> T {
        do { return try body() } catch is DecodingError {
            throw HistoryError(text: "reading the alerts \(path): an entry is not as this program writes them; nothing was changed\n  → it is damaged, or of another version")
        }
    }
}
