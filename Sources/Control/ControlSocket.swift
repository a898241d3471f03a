// The Unix socket between the running bridge and the command line. For root (mode 0600), and for the members of one group if it is named (0660).

import CLinux
import Datapath
import Foundation
import Glibc
import Policy
import Synchronization

/// Where the socket is if nobody says otherwise.
public let defaultControlSocket = "/run/sekisho/control.sock"

/// A message longer than this is refused. A policy of a million rules fits.
private let longestMessage = 640 << 20
/// A peer that says nothing for so long is hung up on, in milliseconds.
private let patience: Int32 = 10_000

/// A stream socket, closed when it goes away.
final class Connection: Sendable {
    let descriptor: Int32

    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    /// Whose process is at the other end; -1: it cannot be told.
    var user: Int64 { clinux_peer_user(descriptor) }

    /// Whether root, or whoever the bridge runs as, is at the other end.
    var isOwners: Bool {
        let user = user
        return user == 0 || user == Int64(geteuid())
    }

    /// Everything until the peer has said all. nil: too long, too slow, or broken.
    func readAll(patience limit: Int32 = patience) -> Data? {
        var data = Data()
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while data.count <= longestMessage {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waiting, 1, limit)
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { return nil }
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { return data }
            data.append(contentsOf: chunk[0..<count])
        }
        return nil
    }

    func writeAll(_ data: Data) -> Bool {
        var rest = data[...]
        while !rest.isEmpty {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            let ready = poll(&waiting, 1, patience)
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { return false }
            // MSG_NOSIGNAL: a peer that has gone is no reason to die.
            let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

private func unixAddress(_ path: String) throws(DatapathError) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < room, !path.isEmpty else {
        throw DatapathError("using the control socket \(path)", hint: "its path must have 1 to \(room - 1) bytes")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return address
}

private func withSocketAddress(_ address: sockaddr_un, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    withUnsafePointer(to: address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
}

private func streamSocket() -> Int32 { socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0) }

/// The bridge's end.
final class ControlListener: Sendable {
    let path: String
    private let isRemoved = Atomic(false)
    let descriptor: Int32

    /// - Parameter group: whose members may connect besides root.
    init(_ path: String, group: String? = nil) throws(DatapathError) {
        self.path = path
        let groupID = try group.map { name throws(DatapathError) in try Self.groupID(name) }
        let address = try unixAddress(path)
        let action = "listening on the control socket \(path)"
        if path == defaultControlSocket {
            // Under /run, which is empty after a start of the machine.
            mkdir((path as NSString).deletingLastPathComponent, 0o755)
        }
        let fd = streamSocket()
        guard fd >= 0 else { throw DatapathError(action, code: errno) }
        func bound() -> Int32 {
            let old = umask(group == nil ? 0o177 : 0o117)
            defer { umask(old) }
            return withSocketAddress(address) { bind(fd, $0, $1) } == 0 ? 0 : errno
        }
        var code = bound()
        if code == EADDRINUSE {
            // Somebody answers: a bridge is running. Nobody answers: one was killed and left its socket.
            let probe = streamSocket()
            let isAlive = withSocketAddress(address) { connect(probe, $0, $1) } == 0
            close(probe)
            if isAlive {
                close(fd)
                throw DatapathError(
                    action, code: code, hint: "a bridge listens there already; stop it, or give another --control path")
            }
            var status = stat()
            if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK {
                unlink(path)
                code = bound()
            }
        }
        guard code == 0, listen(fd, 8) == 0 else {
            if code == 0 { code = errno }
            close(fd)
            throw DatapathError(
                action, code: code,
                hint: code == ENOENT ? "make its directory first, or give another --control path" : code == EADDRINUSE
                    ? "the path is taken by something that is no socket"
                    : code == ENOSPC || code == EDQUOT ? "make room there, or give another --control path" : "run as root, or give another --control path")
        }
        // Not through a link that somebody has put there meanwhile.
        if let groupID, lchown(path, uid_t.max, groupID) != 0 {
            let code = errno
            close(fd)
            unlink(path)
            throw DatapathError("giving the control socket \(path) to the group \(group ?? "")", code: code, hint: "run as root")
        }
        descriptor = fd
    }

    private static func groupID(_ name: String) throws(DatapathError) -> gid_t {
        guard let entry = getgrnam(name) else {
            throw DatapathError("looking for the group \(name)", hint: "make it first: groupadd --system \(name)")
        }
        return entry.pointee.gr_gid
    }

    func accept() -> Connection? {
        let fd = Glibc.accept(descriptor, nil, nil)
        guard fd >= 0 else { return nil }
        _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
        return Connection(fd)
    }

    /// Once: after that the path may be another bridge's.
    func remove() {
        if isRemoved.exchange(true, ordering: .relaxed) { return }
        unlink(path)
        close(descriptor)
    }
}

/// The command line's end.
public enum ControlClient {
    private static let folder = (defaultControlSocket as NSString).deletingLastPathComponent

    /// Of the bridge that is started as sekisho@NAME.
    public static func socket(named name: String) -> String { "\(folder)/\(name).sock" }

    /// Where one bridge runs nobody need name it. nil: there is none but the usual one, or several.
    public static var onlySocket: String? {
        guard access(defaultControlSocket, F_OK) != 0 else { return nil }
        let all = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { $0.hasSuffix(".sock") }
        return all.count == 1 ? "\(folder)/\(all[0])" : nil
    }

    /// The bridges there are, if there are several.
    private static var names: String {
        let all = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { $0.hasSuffix(".sock") && $0 != "control.sock" }
        return all.map { String($0.dropLast(5)) }.sorted().joined(separator: ", ")
    }

    /// Whether somebody listens there.
    static func isAnswering(_ path: String) -> Bool {
        guard let address = try? unixAddress(path) else { return false }
        let fd = streamSocket()
        defer { close(fd) }
        return withSocketAddress(address) { connect(fd, $0, $1) } == 0
    }

    /// Asks the bridge and waits for its answer.
    public static func ask(_ request: ControlRequest, at path: String) throws -> ControlResponse {
        let address = try unixAddress(path)
        let action = "asking the bridge at \(path)"
        let fd = streamSocket()
        guard fd >= 0 else { throw DatapathError(action, code: errno) }
        let connection = Connection(fd)
        // A bridge that is stopped (SIGSTOP) neither accepts nor answers.
        let patience: Int32 = [.apply, .rollback, .makeWay].contains(request.command) ? 120_000 : 5_000
        var limit = timeval(tv_sec: Int(patience) / 1000, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard withSocketAddress(address, { connect(fd, $0, $1) }) == 0 else {
            let code = errno
            throw DatapathError(
                action, code: code,
                hint: code == ENOENT || code == ECONNREFUSED
                    ? "no bridge runs there; " + (path == defaultControlSocket && !names.isEmpty
                        ? "name one with --control: \(names)" : "start one with sekisho run, or give its --control path")
                    : "run as the user the bridge runs as")
        }
        guard connection.writeAll(try MachineFormat.encoder(pretty: false).encode(request)) else {
            throw DatapathError(action, code: EPIPE, hint: "the bridge hung up; is it stopping?")
        }
        shutdown(fd, Int32(SHUT_WR))
        guard let data = connection.readAll(patience: patience), !data.isEmpty else {
            throw DatapathError(action, code: ETIMEDOUT, hint: "it did not answer; is it stopping, or stopped?")
        }
        do {
            return try MachineFormat.decoder().decode(ControlResponse.self, from: data)
        } catch {
            throw DatapathError("understanding the answer of the bridge at \(path)", hint: "use the same version of sekisho for both")
        }
    }
}
