// The audit log on disk: audit.sqlite in the state directory, written by the bridge and by commands, each in transactions of
// its own that take the last hash and go on from it.

import Baseline
import Foundation
import GRDB

/// The last event.
public struct AuditHead: Sendable, Equatable {
    public var number: Int64
    public var hash: String
}

public final class AuditStore: Sendable {
    private let file: StateFile
    public var path: String { file.path }

    /// Rows may be added, at the end, and nothing else. Who has the file can take the triggers off: that is found by `check`.
    static let schema =
        [
            """
            CREATE TABLE event (
                number INTEGER PRIMARY KEY, time INTEGER NOT NULL, category TEXT NOT NULL, type TEXT NOT NULL, description TEXT NOT NULL,
                who TEXT NOT NULL, fields TEXT NOT NULL, hash BLOB NOT NULL) STRICT
            """,
            "CREATE TABLE policy_text (sha256 TEXT PRIMARY KEY, text BLOB NOT NULL) STRICT",
            // Without these, INSERT OR REPLACE would take a row's place.
            """
            CREATE TRIGGER event_insert BEFORE INSERT ON event WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM event)
            BEGIN SELECT raise(ABORT, 'the audit log only grows at its end'); END
            """,
            """
            CREATE TRIGGER policy_text_insert BEFORE INSERT ON policy_text WHEN EXISTS (SELECT 1 FROM policy_text WHERE sha256 = NEW.sha256)
            BEGIN SELECT raise(ABORT, 'the policies of the audit log are not changed'); END
            """,
        ]
        + ["event", "policy_text"].flatMap { table in
            ["UPDATE", "DELETE"].map { what in
                """
                CREATE TRIGGER \(table)_\(what.lowercased()) BEFORE \(what) ON \(table)
                BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END
                """
            }
        }

    private static let kind = StateFileKind(
        name: "audit", what: "audit log", applicationID: 0x534B_4155 /* SKAU */, version: 1, isDurable: true, isChecked: true,
        howToBegin: "a bridge begins one: sekisho run … --state", schema: schema)

    /// Opens the audit log of a state directory, or makes it.
    public init(directory: String, mayMake: Bool = true) throws(StateError) {
        file = try StateFile(Self.kind, in: directory, mayMake: mayMake)
    }

    /// Writes events, all or none.
    ///
    /// - Parameter texts: of policies that the events name by their content hash.
    @discardableResult
    public func append(_ events: [AuditEvent], texts: [[UInt8]] = []) throws(StateError) -> AuditHead {
        try file.write { db in
            var head = try Self.head(db)
            for text in texts {
                let hash = contentHash(text)
                guard try Row.fetchOne(db, sql: "SELECT 1 FROM policy_text WHERE sha256 = ?", arguments: [hash]) == nil else { continue }
                try db.execute(sql: "INSERT INTO policy_text VALUES (?, ?)", arguments: [hash, Data(text)])
            }
            for event in events {
                let stored = StoredEvent(number: head.number + 1, event)
                let digest = stored.digest(previous: head.hash), hash = digest.hex
                // As bytes: what is bound as text ends at its first NUL.
                try db.execute(
                    sql: "INSERT INTO event VALUES (?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)",
                    arguments: [
                        stored.number, event.time, event.type.category.rawValue, event.type.rawValue, Data(stored.description), Data(stored.who),
                        Data(stored.fields), Data(digest),
                    ])
                head = AuditHead(number: stored.number, hash: hash)
            }
            return head
        }
    }

    public func head() throws(StateError) -> AuditHead { try file.read(Self.head) }

    private static func head(_ db: Database) throws -> AuditHead {
        guard let row = try Row.fetchOne(db, sql: "SELECT number, hash FROM event ORDER BY number DESC LIMIT 1") else {
            return AuditHead(number: 0, hash: noHash)
        }
        return AuditHead(number: row[0], hash: (Data.fromDatabaseValue(row[1]) ?? Data()).hex)
    }

    /// Events in order, none of them in memory for longer than needed.
    ///
    /// - Parameters:
    ///   - times: microseconds since 1970.
    ///   - types: or categories; empty: all.
    public func forEach(times: Range<Int64> = 0..<Int64.max, types: [String] = [], _ body: (AuditRecord) throws -> Void) throws(StateError) {
        var filter = "WHERE time >= ? AND time < ?"
        var arguments: [any DatabaseValueConvertible] = [times.lowerBound, times.upperBound]
        if !types.isEmpty {
            let places = types.map { _ in "?" }.joined(separator: ", ")
            filter += " AND (type IN (\(places)) OR category IN (\(places)))"
            arguments += types + types
        }
        try forEachStored(filter, StatementArguments(arguments)) { stored, hash in try body(stored.record(hash: hash)) }
    }

    /// Events by number, in order.
    public func records(_ numbers: ClosedRange<Int64>) throws(StateError) -> [AuditRecord] {
        var records: [AuditRecord] = []
        try forEachStored("WHERE number BETWEEN ? AND ?", [numbers.lowerBound, numbers.upperBound]) { stored, hash in records.append(stored.record(hash: hash)) }
        return records
    }

    /// How many events of these categories there are among them.
    public func count(_ numbers: ClosedRange<Int64>, categories: [String]) throws(StateError) -> Int64 {
        let places = categories.map { _ in "?" }.joined(separator: ", ")
        let arguments: [any DatabaseValueConvertible] = [numbers.lowerBound, numbers.upperBound] + categories
        return try file.read { db in
            try Int64.fetchOne(
                db, sql: "SELECT count(*) FROM event WHERE number BETWEEN ? AND ? AND category IN (\(places))", arguments: StatementArguments(arguments)) ?? 0
        }
    }

    /// Every event as one line of JSON, whose hash anybody can compute.
    ///
    /// - Returns: how many.
    public func export(_ body: ([UInt8]) throws -> Void) throws(StateError) -> Int64 {
        var previous = noHash
        var count: Int64 = 0
        try forEachStored { stored, hash in
            try body(stored.canonical(previous: previous, hash: hash) + [UInt8(ascii: "\n")])
            previous = hash
            count += 1
        }
        return count
    }

    /// Whatever the file holds, also where it was damaged.
    func forEachStored(
        _ filter: String = "", _ arguments: StatementArguments = StatementArguments(), _ body: (StoredEvent, String) throws -> Void
    ) throws(StateError) {
        let columns = ["time", "category", "type", "description", "who", "fields"].map { "CAST(\($0) AS BLOB)" }.joined(separator: ", ")
        try file.read { db in
            let rows = try Row.fetchCursor(db, sql: "SELECT number, \(columns), CAST(hash AS BLOB) FROM event \(filter) ORDER BY number", arguments: arguments)
            while let row = try rows.next() {
                func bytes(_ column: Int) -> [UInt8] { [UInt8](Data.fromDatabaseValue(row[column]) ?? Data()) }
                try body(
                    StoredEvent(
                        number: Int64.fromDatabaseValue(row[0]) ?? 0, time: bytes(1), category: bytes(2), type: bytes(3), description: bytes(4),
                        who: bytes(5), fields: bytes(6)), bytes(7).hex)
            }
        }
    }

    // MARK: - Policies

    /// Every policy that was applied, oldest first.
    public func versions() throws(StateError) -> [PolicyVersion] {
        var versions: [PolicyVersion] = []
        try forEach(types: [AuditType.policyApplied.rawValue]) { record in
            if let version = PolicyVersion(record) { versions.append(version) }
        }
        return versions
    }

    /// The policy that was in use last, by the log.
    public func lastVersion() throws(StateError) -> PolicyVersion? { try last(.policyApplied).flatMap { PolicyVersion($0) } }

    /// The number that the policy in use had last; it has a new one when a rule expires.
    public func lastNumber() throws(StateError) -> UInt64? {
        try last(.policyApplied, .ruleExpired, .ruleReturned).flatMap { $0.fields["version"].flatMap(UInt64.init) }
    }

    /// The mode that was in force last.
    public func lastMode() throws(StateError) -> String? { try last(.policyApplied, .modeChanged, .start)?.fields["mode"] }

    private func last(_ types: AuditType...) throws(StateError) -> AuditRecord? {
        var last: AuditRecord?
        let names = types.map { "'\($0.rawValue)'" }.joined(separator: ", ")
        try forEachStored("WHERE number = (SELECT max(number) FROM event WHERE type IN (\(names)))") { stored, hash in last = stored.record(hash: hash) }
        return last
    }

    /// The text of a policy, if it is still what was written.
    public func text(of sha256: String) throws(StateError) -> [UInt8]? {
        let text = try file.read { db in
            try Row.fetchOne(db, sql: "SELECT CAST(text AS BLOB) FROM policy_text WHERE sha256 = ?", arguments: [sha256])
                .flatMap { Data.fromDatabaseValue($0[0]) }
        }
        guard let text else { return nil }
        guard contentHash([UInt8](text)) == sha256 else {
            throw StateError(text: "reading the policy \(sha256.prefix(16))… from \(path): it is not what was written\n  → sekisho audit verify")
        }
        return [UInt8](text)
    }

    /// Content hashes, and whether the text is what they say.
    func texts() throws(StateError) -> [String: Bool] {
        try file.read { db in
            var found: [String: Bool] = [:]
            let rows = try Row.fetchCursor(db, sql: "SELECT CAST(sha256 AS BLOB), CAST(text AS BLOB) FROM policy_text")
            while let row = try rows.next() {
                let hash = String(decoding: Data.fromDatabaseValue(row[0]) ?? Data(), as: UTF8.self)
                found[hash] = contentHash([UInt8](Data.fromDatabaseValue(row[1]) ?? Data())) == hash
            }
            return found
        }
    }

    /// Tables and triggers as the file has them.
    func schemaNow() throws(StateError) -> Set<String> {
        try file.read { db in Set(try String.fetchAll(db, sql: "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")) }
    }
}

/// A policy as it was applied.
public struct PolicyVersion: Sendable {
    public var number: UInt64
    /// Microseconds since 1970.
    public var time: Int64
    public var sha256: String
    public var name: String
    public var mode: String
    public var rules: Int
    public var file: String
    public var who: String
    public var why: String
    /// What it changed, in a sentence.
    public var change: String
    /// The signature file's text, and the key that it was accepted by.
    public var signature: String?
    public var key: String?

    init?(_ record: AuditRecord) {
        let fields = record.fields
        guard let number = fields["version"].flatMap(UInt64.init), let sha256 = fields["sha256"] else { return nil }
        (self.number, time, self.sha256, who) = (number, record.time, sha256, record.who)
        (name, mode, file) = (fields["policy"] ?? "", fields["mode"] ?? "", fields["file"] ?? "")
        (why, change, rules) = (fields["why"] ?? "", fields["change"] ?? "", fields["rules"].flatMap { Int($0) } ?? 0)
        (signature, key) = (fields["signature"], fields["key"])
    }
}
