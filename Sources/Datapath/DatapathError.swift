// What went wrong outside: the call, its object, the errno, and what to do about it.

import CLinux
import Glibc

/// Typed set-up error. Its description is written for the person who started the bridge.
public struct DatapathError: Error, CustomStringConvertible, Sendable {
    /// What was being done to what, e.g. "binding an AF_XDP socket to eth1 queue 0".
    public let action: String
    /// 0 where no system call failed.
    public let code: Int32
    /// What to do about it; may be empty.
    public let hint: String

    public init(_ action: String, code: Int32 = 0, hint: String = "") {
        self.action = action
        self.code = code
        self.hint = hint
    }

    public var description: String {
        var text = action
        if code != 0 {
            text += ": \(String(cString: clinux_errno_name(code))) (\(String(cString: strerror(code))))"
        }
        if !hint.isEmpty { text += "\n  → \(hint)" }
        return text
    }
}

extension DatapathError {
    /// What most often stands behind an errno of these calls.
    static func usualHint(_ code: Int32, port: String) -> String {
        switch code {
        case EPERM, EACCES:
            "run as root, or give the binary CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK"
        case EBUSY:
            "another program uses this port; see: ip -details link show dev \(port)"
        case ENODEV, ENXIO:
            "list the ports there are with: ip -brief link"
        case ENETDOWN:
            "bring the port up with: ip link set dev \(port) up"
        case ENOMEM, ENOBUFS:
            "raise the limit on locked memory (ulimit -l unlimited), or use fewer --queues"
        default:
            ""
        }
    }
}
