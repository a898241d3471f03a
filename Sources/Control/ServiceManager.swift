// What the service manager (systemd) is told: sd_notify(3), a datagram to the socket it names.

import CLinux
import Foundation
import Glibc

enum ServiceManager {
    /// "READY=1", "WATCHDOG=1", "STOPPING=1". Without a service manager nothing is said.
    static func say(_ what: String) {
        guard let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@") else { return }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) {
            $0.copyBytes(from: path.utf8)
            // An abstract socket: its name begins with a 0 byte.
            if path.hasPrefix("@") { $0[0] = 0 }
        }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + path.utf8.count)
        _ = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, what, what.utf8.count, Int32(MSG_DONTWAIT), $0, length)
            }
        }
    }
}
