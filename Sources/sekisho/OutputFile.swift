// Files that a command writes.

import CLinux
import Datapath
import Foundation
import Glibc

/// There as a whole or not at all: written beside its place, and put there last. What is no plain file (a pipe, a device) is
/// written as it is.
final class OutputFile {
    private let path: String
    /// Where it goes: behind links. nil: it is written in place.
    private let target: String?
    private let temporary: String
    private let file: Int32
    private var buffer: [UInt8] = []
    private var isFinished = false
    /// The errno of the first write that failed.
    private(set) var failure: Int32 = 0

    private static let bufferSize = 256 << 10

    /// - Parameter mode: of a file that is new.
    init(_ path: String, mode: mode_t = 0o644) throws {
        self.path = path
        var status = stat(), own = stat()
        let isThere = stat(path, &status) == 0
        let kind = status.st_mode & S_IFMT
        if isThere, kind == S_IFDIR { throw Self.failed(path, EISDIR) }
        // /dev/stdout: what was printed there before stays.
        if isThere, let stream = [STDOUT_FILENO, STDERR_FILENO].first(where: {
            fstat($0, &own) == 0 && own.st_dev == status.st_dev && own.st_ino == status.st_ino
        }) {
            (target, temporary, file) = (nil, "", dup(stream))
        } else if isThere, kind != S_IFREG {
            (target, temporary, file) = (nil, "", open(path, O_WRONLY | O_CLOEXEC))
        } else {
            if isThere, access(path, W_OK) != 0 { throw Self.failed(path, errno) }
            let target = try isThere ? Self.behindLinks(path) : path
            self.target = target
            temporary = "\(target).\(getpid()).tmp"
            file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
            // As the one it replaces, as far as that may be.
            if file >= 0, isThere {
                _ = fchown(file, status.st_uid, status.st_gid)
                fchmod(file, status.st_mode & 0o777)
            }
        }
        guard file >= 0 else { throw Self.failed(path, errno) }
    }

    /// The file that a link of ours or root's names is replaced; anybody else's link is.
    private static func behindLinks(_ path: String) throws -> String {
        var link = stat()
        guard lstat(path, &link) == 0 else { throw failed(path, errno) }
        guard link.st_mode & S_IFMT == S_IFLNK, link.st_uid == geteuid() || link.st_uid == 0 else { return path }
        guard let resolved = realpath(path, nil) else { throw failed(path, errno) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    static func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
        let file = try OutputFile(path)
        file.write(bytes)
        try file.finish()
    }

    /// What is known before anything is written: that it is no folder, and that there may be a file.
    static func check(_ path: String) throws {
        var status = stat()
        // A pipe or a device needs no room beside it.
        if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG, status.st_mode & S_IFMT != S_IFDIR { return }
        let folder = (path as NSString).deletingLastPathComponent
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
            Output.error("error: writing \(path): it is a folder\n  → give a file's name")
            throw Exit.failed
        }
        if access(folder.isEmpty ? "." : folder, W_OK) != 0 { throw failed(path, errno) }
    }

    /// Adds to it; `finish` says whether that went well.
    func write(_ bytes: some Sequence<UInt8>) {
        guard failure == 0 else { return }
        buffer.append(contentsOf: bytes)
        if buffer.count >= Self.bufferSize { flush() }
    }

    private func flush() {
        if failure == 0 { failure = writeAll(buffer, to: file) }
        buffer.removeAll(keepingCapacity: true)
    }

    func finish() throws {
        flush()
        // A disk may be found full only when it is really written.
        if failure == 0, target != nil, fsync(file) != 0 { failure = errno }
        if failure == 0, let target, rename(temporary, target) != 0 { failure = errno }
        guard failure == 0 else { throw Self.failed(path, failure) }
        isFinished = true
    }

    deinit {
        if file >= 0 { close(file) }
        if !isFinished, target != nil, file >= 0 { unlink(temporary) }
    }

    static func failed(_ name: String, _ code: Int32) -> any Error {
        let hint = code == ENOSPC || code == EDQUOT ? "is the disk full?" : "give a path in a writable directory"
        Output.error("error: writing \(DatapathError(name, code: code, hint: hint))")
        return Exit.failed
    }
}

/// - Returns: the errno, 0 if all is written.
func writeAll(_ bytes: [UInt8], to file: Int32) -> Int32 {
    bytes.withUnsafeBytes { bytes in
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress! + done, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN {
                // Whoever has the other end has made it so.
                var waiting = pollfd(fd: file, events: Int16(POLLOUT), revents: 0)
                _ = poll(&waiting, 1, -1)
                continue
            }
            guard count > 0 else { return count < 0 ? errno : EIO }
            done += count
        }
        return 0
    }
}
