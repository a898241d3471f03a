// A file of the state directory: one SQLite database of one kind, made if it is not there, and left as it is if it is
// damaged, another program's, or of a later version.

import Foundation
import GRDB

/// Why a file of the state directory cannot be used.
public struct StateError: Error, CustomStringConvertible, Sendable {
    public let description: String

    /// - Parameters:
    ///   - doing: e.g. "opening the history".
    ///   - what: "history".
    init(_ doing: String, _ what: String, _ path: String, _ problem: any Error) {
        var text = "\(doing) \(path): "
        if let error = problem as? DatabaseError {
            text += error.message ?? "SQLite error \(error.resultCode.rawValue)"
            switch error.resultCode {
            case .SQLITE_NOTADB, .SQLITE_CORRUPT:
                text += "\n  → it is damaged, or no \(what) of Sekisho's; nothing was changed. Restore a copy, or name another directory"
            case .SQLITE_FULL, .SQLITE_IOERR: text += "\n  → is the disk full? df \(path)"
            case .SQLITE_BUSY: text += "\n  → another process is writing to it; try again"
            case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_READONLY: text += "\n  → it must be in a directory that you may write to"
            default: break
            }
        } else {
            text += "\(problem)"
        }
        description = text
    }

    public init(text: String) { description = text }
}

/// What is particular to one kind of file.
public struct StateFileKind: Sendable {
    /// The file's name without ".sqlite".
    let name: String
    /// In messages: "history".
    let what: String
    /// In the file's header, four letters.
    let applicationID: Int64
    let version: Int
    /// Each transaction is on the disk when it ends, also if the power fails; else the last ones may be missing then.
    let isDurable: Bool
    /// Every page is looked at when it is opened.
    let isChecked: Bool
    /// What to do where there is none, without the directory, which follows.
    let howToBegin: String
    /// Makes its tables; one statement each.
    public let schema: [String]
    /// By version, from 1 on: statements that make the next version of it.
    let upgrades: [[String]]

    public init(
        name: String, what: String, applicationID: Int64, version: Int, isDurable: Bool = false, isChecked: Bool = false, howToBegin: String,
        schema: [String], upgrades: [[String]] = []
    ) {
        precondition(upgrades.count == version - 1)
        self.upgrades = upgrades
        (self.name, self.what, self.applicationID, self.version) = (name, what, applicationID, version)
        (self.isDurable, self.isChecked, self.howToBegin, self.schema) = (isDurable, isChecked, howToBegin, schema)
    }
}

public final class StateFile: Sendable {
    public let path: String
    let kind: StateFileKind
    let database: DatabasePool
    private let lock: StateLock

    /// - Parameter mayMake: whether it may be made; else a missing one is an error.
    public init(_ kind: StateFileKind, in directory: String, mayMake: Bool) throws(StateError) {
        self.kind = kind
        let what = kind.what
        path = "\(directory)/\(kind.name).sqlite"
        let exists = FileManager.default.fileExists(atPath: path)
        guard exists || mayMake else {
            throw StateError(text: "opening the \(what) \(path): it does not exist\n  → \(kind.howToBegin) \(directory)")
        }
        if mayMake {
            do {
                try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
            } catch { throw StateError(text: "making the state directory \(directory): \(error.localizedDescription)") }
        }
        lock = try StateLock(directory: directory, .shared)
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA synchronous = \(kind.isDurable ? "FULL" : "NORMAL")")
        }
        do {
            // Looked at before the pool may write anything to it.
            if exists { try Self.check(path, kind) } else { try Self.create(path, what) }
            database = try DatabasePool(path: path, configuration: configuration)
            try database.write { db in
                let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
                guard version < kind.version else { return }
                if version == 0 { try db.execute(sql: "PRAGMA application_id = \(kind.applicationID)") }
                for statement in version == 0 ? kind.schema : Array(kind.upgrades[(version - 1)...].joined()) { try db.execute(sql: statement) }
                try db.execute(sql: "PRAGMA user_version = \(kind.version)")
            }
        } catch let error as StateError {
            throw error
        } catch {
            throw StateError("opening the \(what)", what, path, error)
        }
    }

    /// An empty file is a database without tables. SQLite gives those beside it the same rights.
    private static func create(_ path: String, _ what: String) throws {
        let file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o640)
        guard file >= 0 else {
            let code = errno
            throw StateError(text: "making the \(what) \(path): \(String(cString: strerror(code)))\n"
                    + (code == ENOSPC || code == EDQUOT ? "  → make room there" : "  → it must be in a directory that you may write to"))
        }
        close(file)
    }

    private static func check(_ path: String, _ kind: StateFileKind) throws {
        var configuration = Configuration()
        configuration.readonly = true
        // Where a writer was killed, the next one to come puts it in order, and others wait.
        configuration.busyMode = .timeout(5)
        let database = try DatabaseQueue(path: path, configuration: configuration)
        try database.read { db in
            let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
            let application = try Int64.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table'")
            if !tables.isEmpty && application != kind.applicationID {
                throw StateError(text: "opening the \(kind.what) \(path): this is another program's database; nothing was changed")
            }
            if version > kind.version {
                throw StateError(
                    text: "opening the \(kind.what) \(path): it is of version \(version), and this program knows \(kind.version); nothing was changed\n"
                        + "  → use the program that wrote it, or a later one")
            }
            if kind.isChecked, let finding = try String.fetchOne(db, sql: "PRAGMA quick_check(1)"), finding != "ok" {
                throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: finding)
            }
            for table in tables { _ = try Row.fetchOne(db, sql: "SELECT * FROM \(table.quotedDatabaseIdentifier) LIMIT 1") }
        }
    }

    public func write<T>(_ body: (Database) throws -> T) throws(StateError) -> T {
        do { return try database.write(body) } catch { throw failed("writing", error) }
    }

    public func read<T>(_ body: (Database) throws -> T) throws(StateError) -> T {
        do { return try database.read(body) } catch { throw failed("reading", error) }
    }

    private func failed(_ doing: String, _ error: any Error) -> StateError {
        error as? StateError ?? StateError("\(doing) the \(kind.what)", kind.what, path, error)
    }
}
