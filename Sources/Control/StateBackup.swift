// A copy of a state directory in one file, while a bridge writes to it; and back.
//
// Each store is copied by SQLite in one read transaction: whoever writes is not held up, and what is copied is what was there at
// one moment. Other stores may be copied a moment later.

import Baseline
import Crypto
import Foundation
import GRDB
import Glibc

public enum StateBackup {
    static let policyName = "policy.toml"
    /// Beside the stores: who is cut off.
    private static let orders = Quarantines.fileName

    private static func hasOrders(_ directory: String) -> Bool { FileManager.default.fileExists(atPath: "\(directory)/\(orders)") }

    /// In the header of each of Sekisho's stores: "SK" and two letters more.
    static func isOurs(applicationID: Int64) -> Bool { applicationID >> 16 == 0x534B }

    /// The SQLite files of a directory, by name.
    static func stores(in directory: String) throws(ArchiveError) -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".sqlite") }.sorted()
        } catch { throw ArchiveError("reading the state directory \(directory): \(error.localizedDescription)") }
    }

    /// What SQLite says of a file.
    static func applicationID(_ path: String) throws(ArchiveError) -> Int64 {
        try asking(path) { db in try Int64.fetchOne(db, sql: "PRAGMA application_id") ?? 0 }
    }

    static func asking<T>(_ path: String, _ body: (Database) throws -> T) throws(ArchiveError) -> T {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        do { return try DatabaseQueue(path: path, configuration: configuration).read(body) } catch { throw failed("reading", path, error) }
    }

    private static func failed(_ doing: String, _ path: String, _ problem: any Error) -> ArchiveError {
        guard let error = problem as? DatabaseError else { return problem as? ArchiveError ?? ArchiveError("\(doing) \(path): \(problem)") }
        var text = "\(doing) \(path): \(error.message ?? "SQLite error \(error.resultCode.rawValue)")"
        switch error.resultCode {
        case .SQLITE_NOTADB, .SQLITE_CORRUPT: text += "\n  → it is damaged; copy it by other means, or move it away"
        case .SQLITE_FULL, .SQLITE_IOERR: text += "\n  → is the disk full?"
        case .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM: text += "\n  → run as the user the bridge runs as"
        default: break
        }
        return ArchiveError(text)
    }

    // MARK: - Making one

    /// - Parameters:
    ///   - policy: path and content of the policy file that is to go with it.
    ///   - scratch: a directory for the copies; nobody else's.
    ///   - write: takes the backup, piece by piece.
    /// - Returns: what is in it, and names of SQLite files that are not Sekisho's and were left out.
    public static func make(
        of directory: String, policy: (path: String, text: [UInt8])?, scratch: String, version: String, write: @escaping ([UInt8]) -> Void
    ) throws -> (manifest: ArchiveManifest, leftOut: [String]) {
        let lock = try StateLock(directory: directory, .shared)
        defer { _ = lock }
        var files: [ArchiveManifest.File] = [], leftOut: [String] = []
        for name in try stores(in: directory) {
            let path = "\(directory)/\(name)", copy = "\(scratch)/\(name)"
            guard try isOurs(applicationID: applicationID(path)) else {
                leftOut.append(name)
                continue
            }
            do {
                var configuration = Configuration()
                configuration.readonly = true
                configuration.busyMode = .timeout(5)
                try DatabaseQueue(path: path, configuration: configuration).backup(to: DatabaseQueue(path: copy))
            } catch { throw failed("copying", path, error) }
            let (bytes, sha256) = try FilePieces.digest(copy)
            files.append(ArchiveManifest.File(name: name, bytes: bytes, sha256: sha256, about: path))
        }
        guard !files.isEmpty else {
            throw ArchiveError("there is nothing to back up in \(directory)\n  → name the directory that sekisho run records to (--state)")
        }
        if hasOrders(directory) {
            let copy = "\(scratch)/\(orders)"
            do { try FileManager.default.copyItem(atPath: "\(directory)/\(orders)", toPath: copy) } catch {
                throw ArchiveError("copying \(directory)/\(orders): \(error.localizedDescription)")
            }
            let (bytes, sha256) = try FilePieces.digest(copy)
            files.append(ArchiveManifest.File(name: orders, bytes: bytes, sha256: sha256, about: "\(directory)/\(orders)"))
        }
        if let policy {
            files.append(
                ArchiveManifest.File(
                    name: policyName, bytes: UInt64(policy.text.count), sha256: SHA256.hash(data: policy.text).hex, about: policy.path))
        }
        let manifest = ArchiveManifest(kind: "backup", created: Date(), sekishoVersion: version, files: files)
        let archive = try ArchiveWriter(manifest, write: write)
        for file in files {
            if file.name == policyName {
                archive.add(file.name, policy?.text ?? [])
            } else {
                try archive.add(file.name, bytes: file.bytes, from: "\(scratch)/\(file.name)")
            }
        }
        archive.finish()
        return (manifest, leftOut)
    }

    // MARK: - Putting one back

    public struct Restored: Sendable {
        public var manifest: ArchiveManifest
        /// Where the stores are that were there before; nil: there were none.
        public var before: String?
        public var policy: [UInt8]?
    }

    /// All of it or nothing: what is there stays until all that comes is checked, and is moved aside, not deleted.
    ///
    /// - Parameter replaces: whether stores may be there already.
    public static func restore(_ path: String, to directory: String, replaces: Bool) throws -> Restored {
        let archive = try ArchiveReader(path, kind: "backup")
        do {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
        } catch { throw ArchiveError("making the state directory \(directory): \(error.localizedDescription)") }
        let lock = try StateLock(directory: directory, .alone)
        defer { _ = lock }
        // Who is cut off now stays so, if the backup says nothing of it.
        let bringsOrders = archive.manifest.files.contains { $0.name == orders }
        let present = try stores(in: directory) + (bringsOrders && hasOrders(directory) ? [orders] : [])
        guard present.isEmpty || replaces else {
            throw ArchiveError("\(directory) has \(present.joined(separator: ", ")) already; nothing was changed\n  → --force moves that aside first, or name another directory")
        }
        var owner = stat()
        stat(directory, &owner)
        func arriving(_ name: String) -> String { "\(directory)/\(name).restoring" }
        let names = archive.manifest.files.map(\.name).filter { $0 != policyName }
        defer { for name in names { for end in ["", "-wal", "-shm", "-journal"] { unlink(arriving(name) + end) } } }
        var policy: [UInt8]?
        var file: Int32 = -1
        defer { if file >= 0 { close(file) } }
        try archive.forEach { entry, piece throws(ArchiveError) in
            if entry.name == policyName {
                policy = (policy ?? []) + (piece ?? [])
                return
            }
            guard entry.name.hasSuffix(".sqlite") || entry.name == orders else { throw ArchiveError("reading \(path): \(entry.name) is nothing that belongs into a state directory") }
            let target = arriving(entry.name)
            if file < 0 {
                unlink(target)
                file = open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o640)
                guard file >= 0 else { throw writing(target) }
                // As whoever records expects it: root there has given up the right to write others' files.
                _ = fchown(file, owner.st_uid, owner.st_gid)
            }
            if let piece {
                try put(piece, to: file, target)
                return
            }
            guard fsync(file) == 0 else { throw writing(target) }
            close(file)
            file = -1
            try check(target, as: entry.name)
        }
        var before: String?
        if !present.isEmpty { before = try moveAside(present, in: directory, owner) }
        for name in names {
            guard rename(arriving(name), "\(directory)/\(name)") == 0 else { throw writing("\(directory)/\(name)") }
        }
        let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)
            close(folder)
        }
        return Restored(manifest: archive.manifest, before: before, policy: policy)
    }

    private static func put(_ piece: [UInt8], to file: Int32, _ path: String) throws(ArchiveError) {
        var rest = piece[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw writing(path) }
            rest = rest.dropFirst(count)
        }
    }

    private static func writing(_ path: String) -> ArchiveError {
        let code = errno
        return ArchiveError(
            "writing \(path): \(String(cString: strerror(code)))\n  → " + (code == ENOSPC || code == EDQUOT ? "make room there" : "run as the user the bridge runs as"))
    }

    /// That it is a store of ours, and whole.
    private static func check(_ path: String, as name: String) throws(ArchiveError) {
        if name == orders {
            guard (try? Quarantines.orders(in: path)) != nil else { throw ArchiveError("\(name) in the backup is damaged; nothing was changed") }
            return
        }
        let (application, said) = try asking(path) { db in
            (try Int64.fetchOne(db, sql: "PRAGMA application_id") ?? 0, try String.fetchOne(db, sql: "PRAGMA quick_check") ?? "")
        }
        guard isOurs(applicationID: application) else { throw ArchiveError("\(name) in the backup is no store of Sekisho's; nothing was changed") }
        guard said == "ok" else { throw ArchiveError("\(name) in the backup is damaged (\(said)); nothing was changed") }
    }

    private static func moveAside(_ names: [String], in directory: String, _ owner: stat) throws(ArchiveError) -> String {
        let stem = "\(directory)/before-restore-\(Int(Date().timeIntervalSince1970))"
        var aside = stem, number = 1
        while mkdir(aside, 0o750) != 0 {
            guard errno == EEXIST, number < 100 else { throw writing(aside) }
            number += 1
            aside = "\(stem)-\(number)"
        }
        chown(aside, owner.st_uid, owner.st_gid)
        for name in names {
            // What is not in the file itself yet goes first: without its file it is nothing.
            for end in ["-wal", "-shm", ""] where access("\(directory)/\(name)\(end)", F_OK) == 0 {
                guard rename("\(directory)/\(name)\(end)", "\(aside)/\(name)\(end)") == 0 else { throw writing(aside) }
            }
        }
        return aside
    }
}
