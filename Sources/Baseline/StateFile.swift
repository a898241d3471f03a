// Databases of the state directory: each one SQLite file that says whose it is and of which version. One that is damaged, of another
// program or of a later version is left as it is.

import Foundation
import GRDB

/// Why the history, or another database of the state directory, cannot be used.
public struct HistoryError: Error, CustomStringConvertible, Sendable {
    public let description: String

    package init(_ doing: String, _ path: String, _ problem: any Error) {
        var text = "\(doing) \(path): "
        if let error = problem as? DatabaseError {
            text += error.message ?? "SQLite error \(error.resultCode.rawValue)"
            switch error.resultCode {
            case .SQLITE_NOTADB, .SQLITE_CORRUPT:
                text += "\n  → it is damaged, or none of Sekisho's; nothing was changed. Restore a copy, or name another directory"
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

package struct StateFile: Sendable {
    /// In messages.
    let what: String
    let directory: String
    package let path: String
    let applicationID: Int64
    let version: Int
    /// One that every version has.
    let table: String
    /// What to do about a missing one.
    let ifMissing: String

    /// - Parameter applicationID: in the file's header.
    package init(what: String, directory: String, name: String, applicationID: Int64, version: Int, table: String, ifMissing: String) {
        self.what = what
        self.directory = directory
        path = directory + "/" + name
        self.applicationID = applicationID
        self.version = version
        self.table = table
        self.ifMissing = ifMissing
    }

    /// - Parameters:
    ///   - mayMake: whether it may be made; else a missing one is an error.
    ///   - make: makes the tables, and sets the file's ids.
    package func open(mayMake: Bool, _ make: @escaping @Sendable (Database) throws -> Void) throws(HistoryError) -> DatabasePool {
        let exists = FileManager.default.fileExists(atPath: path)
        guard exists || mayMake else { throw HistoryError(text: "opening the \(what) \(path): it does not exist\n  → \(ifMissing)") }
        if mayMake {
            do {
                try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
            } catch { throw HistoryError(text: "making the state directory \(directory): \(error.localizedDescription)") }
        }
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA synchronous = NORMAL")
        }
        do {
            // Looked at before the pool may write anything to it.
            if exists { try check() } else { try create() }
            let database = try DatabasePool(path: path, configuration: configuration)
            try database.write { db in
                if try Int.fetchOne(db, sql: "PRAGMA user_version") == 0 { try make(db) }
            }
            return database
        } catch let error as HistoryError {
            throw error
        } catch {
            throw HistoryError("opening the \(what)", path, error)
        }
    }

    /// An empty file is a database without tables. SQLite gives those beside it the same rights.
    private func create() throws {
        let file = Glibc.open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o640)
        guard file >= 0 else {
            let code = errno
            throw HistoryError(text: "making the \(what) \(path): \(String(cString: strerror(code)))\n"
                    + (code == ENOSPC || code == EDQUOT ? "  → make room there" : "  → it must be in a directory that you may write to"))
        }
        close(file)
    }

    private func check() throws {
        var configuration = Configuration()
        configuration.readonly = true
        let database = try DatabaseQueue(path: path, configuration: configuration)
        try database.read { db in
            let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
            let application = try Int64.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_master") ?? 0
            if tables > 0 && application != applicationID {
                throw HistoryError(text: "opening the \(what) \(path): this is another program's database; nothing was changed")
            }
            if version > self.version {
                throw HistoryError(text: "opening the \(what) \(path): it is of version \(version), and this program knows \(self.version); nothing was changed\n"
                        + "  → use the program that wrote it, or a later one")
            }
            if tables > 0 { _ = try Int.fetchOne(db, sql: "SELECT count(*) FROM \(table)") }
        }
    }
}
