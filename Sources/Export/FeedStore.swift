// What the feed remembers: feed.sqlite in the state directory. How far each destination is, and the changes of alerts, which
// alerts.sqlite has only the last of.

import Baseline
import Detection
import Foundation
import GRDB

/// How far a destination is: the last event of the audit log, and the last change of an alert, that it has taken.
public struct FeedPosition: Sendable, Equatable {
    public var audit: Int64
    public var alert: Int64

    public init(audit: Int64 = 0, alert: Int64 = 0) { (self.audit, self.alert) = (audit, alert) }
}

/// What is remembered of one destination.
struct DestinationRecord: Sendable, Equatable {
    var position: FeedPosition
    /// Of the event it is at: another log than that one is told from its beginning.
    var auditHash: String
    var sent: Int64 = 0
    var refused: Int64 = 0
    var skipped: Int64 = 0
    /// Of those skipped, so many were said to be.
    var skippedTold: Int64 = 0
}

/// What others were told of an alert.
struct ToldAlert: Sendable, Equatable {
    var kind: String
    var severity: Int
    var last: Date
    var hasEnded: Bool
    var isAcknowledged: Bool

    init(_ summary: AlertSummary) {
        (kind, severity, last, hasEnded, isAcknowledged) = (summary.kind, summary.severity, summary.last, summary.hasEnded, summary.isAcknowledged)
    }
}

/// A change of an alert, as it was when it was noticed.
struct AlertNotice: Sendable {
    var number: Int64
    /// Microseconds since 1970.
    var time: Int64
    var step: AlertStep
    /// nil: it is not as this program writes them.
    var alert: Alert?
}

final class FeedStore: Sendable {
    private let file: StateFile
    var path: String { file.path }

    private static let kind = StateFileKind(
        name: "feed", what: "memory of the feed", applicationID: 0x534B_4644 /* SKFD */, version: 1,
        howToBegin: "the feed makes it: sekisho feed --state",
        schema: [
            """
            CREATE TABLE destination (
                name TEXT PRIMARY KEY, audit INTEGER NOT NULL, audit_hash TEXT NOT NULL, alert INTEGER NOT NULL, sent INTEGER NOT NULL,
                refused INTEGER NOT NULL, skipped INTEGER NOT NULL, skipped_told INTEGER NOT NULL) STRICT
            """,
            """
            CREATE TABLE alert_told (
                id INTEGER PRIMARY KEY, kind TEXT NOT NULL, severity INTEGER NOT NULL, last REAL NOT NULL, ended INTEGER NOT NULL,
                acknowledged INTEGER NOT NULL) STRICT
            """,
            "CREATE TABLE alert_change (number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, step TEXT NOT NULL, body TEXT NOT NULL) STRICT",
        ])

    init(directory: String) throws(StateError) { file = try StateFile(Self.kind, in: directory, mayMake: true) }

    // MARK: - Destinations

    func destination(_ name: String) throws(StateError) -> DestinationRecord? {
        try file.read { db in
            try Row.fetchOne(
                db, sql: "SELECT audit, alert, audit_hash, sent, refused, skipped, skipped_told FROM destination WHERE name = ?", arguments: [name]
            ).map { row in
                DestinationRecord(
                    position: FeedPosition(audit: row[0], alert: row[1]), auditHash: row[2], sent: row[3], refused: row[4], skipped: row[5],
                    skippedTold: row[6])
            }
        }
    }

    func save(_ record: DestinationRecord, of name: String) throws(StateError) {
        try file.write { db in
            try db.execute(
                sql: """
                    INSERT INTO destination (name, audit, audit_hash, alert, sent, refused, skipped, skipped_told) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT DO UPDATE SET audit = excluded.audit, audit_hash = excluded.audit_hash, alert = excluded.alert, sent = excluded.sent,
                    refused = excluded.refused, skipped = excluded.skipped, skipped_told = excluded.skipped_told
                    """,
                arguments: [
                    name, record.position.audit, record.auditHash, record.position.alert, record.sent, record.refused, record.skipped, record.skippedTold,
                ])
        }
    }

    // MARK: - Changes of alerts

    func told() throws(StateError) -> [Int64: ToldAlert] {
        try file.read { db in
            let rows = try Row.fetchCursor(db, sql: "SELECT id, kind, severity, last, ended, acknowledged FROM alert_told")
            var all: [Int64: ToldAlert] = [:]
            while let row = try rows.next() {
                all[row[0]] = ToldAlert(
                    AlertSummary(
                        id: row[0], kind: row[1], severity: row[2], last: Date(timeIntervalSince1970: row[3]), hasEnded: row[4], isAcknowledged: row[5]))
            }
            return all
        }
    }

    /// Writes changes down, and what is known by them; all or nothing.
    ///
    /// - Parameters:
    ///   - forgotten: alerts that are too old to change.
    ///   - keeping: so many changes at the most, the latest.
    func note(_ changes: [(alert: Alert, step: AlertStep)], told: [Int64: ToldAlert], forgotten: [Int64], at time: Int64, keeping: Int64) throws(StateError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        try file.write { db in
            for (alert, step) in changes {
                try db.execute(
                    sql: "INSERT INTO alert_change (time, step, body) VALUES (?, ?, ?)",
                    arguments: [time, step.rawValue, String(decoding: try encoder.encode(alert), as: UTF8.self)])
            }
            for (id, one) in told {
                try db.execute(
                    sql: "INSERT OR REPLACE INTO alert_told VALUES (?, ?, ?, ?, ?, ?)",
                    arguments: [id, one.kind, one.severity, one.last.timeIntervalSince1970, one.hasEnded, one.isAcknowledged])
            }
            for id in forgotten { try db.execute(sql: "DELETE FROM alert_told WHERE id = ?", arguments: [id]) }
            if !changes.isEmpty {
                try db.execute(sql: "DELETE FROM alert_change WHERE number <= (SELECT max(number) FROM alert_change) - ?", arguments: [keeping])
            }
        }
    }

    /// 0: there was none.
    func lastChange() throws(StateError) -> Int64 {
        try file.read { db in try Int64.fetchOne(db, sql: "SELECT seq FROM sqlite_sequence WHERE name = 'alert_change'") ?? 0 }
    }

    func changes(after number: Int64, most: Int) throws(StateError) -> [AlertNotice] {
        try file.read { db in
            let rows = try Row.fetchCursor(
                db, sql: "SELECT number, time, step, body FROM alert_change WHERE number > ? ORDER BY number LIMIT ?", arguments: [number, most])
            var all: [AlertNotice] = []
            while let row = try rows.next() {
                // One that is damaged must not keep back those behind it.
                let step = AlertStep(rawValue: row[2])
                let alert = step == nil ? nil : try? JSONDecoder().decode(Alert.self, from: Data((row[3] as String).utf8))
                all.append(AlertNotice(number: row[0], time: row[1], step: step ?? .changed, alert: alert))
            }
            return all
        }
    }
}
