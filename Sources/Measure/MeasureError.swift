// What went wrong while measuring: what was being done, and what to do about it.

import CLinux
import Foundation
import Glibc

public struct MeasureError: Error, CustomStringConvertible, Sendable {
    public let description: String

    /// - Parameter code: an errno, 0 where no system call failed.
    init(_ action: String, code: Int32 = 0, hint: String = "") {
        var text = action
        if code != 0 { text += ": \(String(cString: clinux_errno_name(code))) (\(String(cString: strerror(code))))" }
        if !hint.isEmpty { text += "\n  → \(hint)" }
        description = text
    }

    /// What Foundation could not write: it hides the errno.
    init(writing path: String, _ error: any Error) {
        let code = ((error as? CocoaError)?.underlying as? POSIXError)?.code.rawValue ?? 0
        self.init("writing \(path)" + (code == 0 ? ": \(error.localizedDescription)" : ""), code: code, hint: code == ENOSPC || code == 0 ? "is the disk full?" : "")
    }
}
