// What was learnt, on disk: one SQLite file, opened by whoever learns and read by whoever asks.
//
// Written in one transaction a second: a process that is killed has lost no more. A file that is damaged, or of a later
// version, is left as it is.

import Allowlist
import Foundation
import Frames
import GRDB

public final class HistoryStore: Sendable {
    public let path: String
    let database: DatabasePool

    /// In the file's header: "SKSH".
    private static let applicationID: Int64 = 0x534B_5348
    static let version = 1

    /// Opens the history of a state directory, or makes it.
    ///
    /// - Parameter mayMake: whether it may be made; else a missing one is an error.
    public init(directory: String, mayMake: Bool = true) throws(HistoryError) {
        let file = StateFile(
            what: "history", directory: directory, name: "history.sqlite", applicationID: Self.applicationID, version: Self.version, table: "source",
            ifMissing: "learn something first: sekisho learn CAPTURE --state \(directory)")
        path = file.path
        database = try file.open(mayMake: mayMake, Self.make)
    }

    private static func make(_ db: Database) throws {
        try db.execute(sql: """
            PRAGMA application_id = \(applicationID);
            CREATE TABLE source (
                id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT, learnt_at INTEGER NOT NULL,
                first INTEGER NOT NULL, last INTEGER NOT NULL, frames INTEGER NOT NULL, malformed INTEGER NOT NULL, overflow INTEGER NOT NULL) STRICT;
            CREATE TABLE conversation (
                id INTEGER PRIMARY KEY, client BLOB NOT NULL, server BLOB NOT NULL, family INTEGER NOT NULL, protocol INTEGER NOT NULL,
                service INTEGER NOT NULL, vlan INTEGER NOT NULL, orientation INTEGER NOT NULL,
                intervals BLOB, interval_count INTEGER NOT NULL DEFAULT 0) STRICT;
            CREATE UNIQUE INDEX conversation_key ON conversation (client, server, family, protocol, service, vlan);
            CREATE TABLE day (
                conversation INTEGER NOT NULL, day INTEGER NOT NULL, hours INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                connections INTEGER NOT NULL, answered INTEGER NOT NULL, refused INTEGER NOT NULL,
                frames_out INTEGER NOT NULL, frames_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
                denied INTEGER NOT NULL, PRIMARY KEY (conversation, day)) STRICT, WITHOUT ROWID;
            CREATE TABLE address (
                address BLOB NOT NULL, family INTEGER NOT NULL, vlan INTEGER NOT NULL, mac INTEGER NOT NULL, side INTEGER NOT NULL,
                first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (address, family, vlan, mac, side)) STRICT, WITHOUT ROWID;
            CREATE TABLE ethertype (type INTEGER PRIMARY KEY, frames INTEGER NOT NULL) STRICT;
            CREATE TABLE observed_hour (hour INTEGER PRIMARY KEY) STRICT;
            CREATE TABLE decision (
                id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL, verdict TEXT NOT NULL, undone INTEGER,
                clients TEXT, servers TEXT, either TEXT, protocol INTEGER, service_low INTEGER, service_high INTEGER,
                first INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 9223372036854775807) STRICT;
            CREATE TABLE period (id INTEGER PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;
            PRAGMA user_version = \(version);
            """)
    }

    // MARK: - Writing

    /// Whether a capture of this content has been learnt already.
    public func hasSource(digest: String) throws(HistoryError) -> Bool {
        try reading { db in try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM source WHERE digest = ?)", arguments: [digest]) ?? false }
    }

    /// Something that is being learnt from.
    ///
    /// - Returns: its number, for `write`.
    public func addSource(kind: String, name: String) throws(HistoryError) -> Int64 {
        try writing { db in
            try db.execute(
                sql: "INSERT INTO source (kind, name, learnt_at, first, last, frames, malformed, overflow) VALUES (?, ?, ?, 0, 0, 0, 0, 0)",
                arguments: [kind, name, Int64(Date().timeIntervalSince1970)])
            return db.lastInsertedRowID
        }
    }

    /// All of it is learnt.
    public func finishSource(_ source: Int64, digest: String) throws(HistoryError) {
        try writing { db in try db.execute(sql: "UPDATE source SET digest = ? WHERE id = ?", arguments: [digest, source]) }
    }

    /// Writes down what a learner has learnt since the last time, all or nothing.
    public func write(_ learner: Learner, source: Int64) throws(HistoryError) {
        for (conversation, row) in try write(learner.takeBatch(), source: source) { learner.setRow(conversation, row) }
    }

    /// - Returns: rows of conversations that were new, for `Learner.setRow`.
    public func write(_ batch: LearntBatch, source: Int64) throws(HistoryError) -> [Int: Int64] {
        let (days, intervals, addresses, etherTypes, counts) = (batch.days, batch.intervals, batch.addresses, batch.etherTypes, batch.counts)
        return try writing { db in
            var rows: [Int: Int64] = [:]
            let find = try db.cachedStatement(sql: """
                INSERT INTO conversation (client, server, family, protocol, service, vlan, orientation) VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET orientation = max(orientation, excluded.orientation) RETURNING id
                """)
            let orient = try db.cachedStatement(sql: "UPDATE conversation SET orientation = max(orientation, ?) WHERE id = ?")
            let add = try db.cachedStatement(sql: """
                INSERT INTO day VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET hours = hours | excluded.hours, first = min(first, excluded.first), last = max(last, excluded.last),
                connections = connections + excluded.connections, answered = answered + excluded.answered, refused = refused + excluded.refused,
                frames_out = frames_out + excluded.frames_out, frames_in = frames_in + excluded.frames_in,
                bytes_out = bytes_out + excluded.bytes_out, bytes_in = bytes_in + excluded.bytes_in, denied = denied + excluded.denied
                """)
            var first = Int64.max, last: Int64 = 0
            var hours: Set<Int64> = []
            for one in days {
                var row = one.row != 0 ? one.row : rows[one.conversation] ?? 0
                if row == 0 {
                    let key = one.key
                    row = try Int64.fetchOne(find, arguments: [
                        key.client.blob(key.family), key.server.blob(key.family), Int(key.family.rawValue), Int(key.ipProtocol.rawValue),
                        Int(key.service.rawValue), Int(key.vlan.rawValue), Int(one.orientation.rawValue),
                    ]) ?? 0
                    rows[one.conversation] = row
                } else {
                    try orient.execute(arguments: [Int(one.orientation.rawValue), row])
                }
                let day = one.day
                if day.first == 0 && day.connections == 0 && day.refused == 0 { continue }
                let start = day.first != 0 ? day.first : UInt64(day.day) * 86_400_000_000_000
                try add.execute(arguments: [
                    row, Int64(day.day), Int64(day.hours), Int64(start), Int64(max(day.last, start)), Int64(day.connections), Int64(day.answered),
                    Int64(day.refused), Int64(bitPattern: day.framesOut), Int64(bitPattern: day.framesIn), Int64(bitPattern: day.bytesOut),
                    Int64(bitPattern: day.bytesIn), Int64(day.denied),
                ])
                first = min(first, Int64(start))
                last = max(last, Int64(day.last))
                hours.formUnion(day.hourNumbers)
            }
            for hour in hours { try db.execute(sql: "INSERT OR IGNORE INTO observed_hour VALUES (?)", arguments: [hour]) }
            for one in intervals {
                let row = one.row != 0 ? one.row : rows[one.conversation] ?? 0
                try db.execute(
                    sql: "UPDATE conversation SET intervals = ?, interval_count = ? WHERE id = ?",
                    arguments: [one.intervals.blob, Int64(bitPattern: one.intervals.count), row])
            }
            let see = try db.cachedStatement(sql: """
                INSERT INTO address VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last)
                """)
            for (one, first, last) in addresses {
                try see.execute(arguments: [
                    one.address.blob(one.family), Int(one.family.rawValue), Int(one.vlan.rawValue), Int64(one.mac.rawValue),
                    one.side.map { Int($0.rawValue) } ?? -1, Int64(first), Int64(last),
                ])
            }
            for (type, frames) in etherTypes {
                try db.execute(
                    sql: "INSERT INTO ethertype VALUES (?, ?) ON CONFLICT DO UPDATE SET frames = frames + excluded.frames",
                    arguments: [Int(type.rawValue), Int64(frames)])
            }
            try db.execute(
                sql: """
                    UPDATE source SET first = CASE first WHEN 0 THEN ? ELSE min(first, ?) END, last = max(last, ?), frames = ?, malformed = ?,
                    overflow = ? WHERE id = ?
                    """,
                arguments: [
                    first == .max ? 0 : first, first, last, Int64(counts.frames), Int64(counts.malformed), Int64(counts.overflow), source,
                ])
            return rows
        }
    }

    /// Tells a learner that begins of the conversations that are known already.
    public func teach(_ learner: Learner) throws(HistoryError) {
        try reading { db in
            let rows = try Row.fetchCursor(
                db, sql: "SELECT id, client, server, family, protocol, service, vlan, orientation FROM conversation ORDER BY id")
            while let row = try rows.next() {
                learner.know(ConversationKey(row), Orientation(row), row: row[0])
            }
        }
    }

    // MARK: - Both

    func writing<T>(_ body: (Database) throws -> T) throws(HistoryError) -> T {
        do { return try database.write(body) } catch { throw HistoryError("writing the history", path, error) }
    }

    func reading<T>(_ body: (Database) throws -> T) throws(HistoryError) -> T {
        do { return try database.read(body) } catch { throw HistoryError("reading the history", path, error) }
    }
}

extension AddressWords {
    /// In network order: sorts as addresses do.
    func blob(_ family: IPFamily) -> Data {
        withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { Data($0.suffix(family == .ipv6 ? 16 : 4)) }
    }

    init(blob: Data) {
        var words = (UInt64(0), UInt64(0))
        for (i, byte) in blob.suffix(16).enumerated() {
            let at = 16 - min(blob.count, 16) + i
            if at < 8 { words.0 |= UInt64(byte) << UInt64(56 - 8 * at) } else { words.1 |= UInt64(byte) << UInt64(56 - 8 * (at - 8)) }
        }
        self.init(high: words.0, low: words.1)
    }
}

extension Intervals {
    /// Little-endian floats.
    var blob: Data { values.reduce(into: Data()) { data, value in withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) } } }

    init(blob: Data?, count: UInt64) {
        self.init()
        let bytes = [UInt8](blob ?? Data())
        values = stride(from: 0, to: bytes.count - 3, by: 4).map { i in
            Float(bitPattern: UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16 | UInt32(bytes[i + 3]) << 24)
        }
        self.count = count
    }
}
