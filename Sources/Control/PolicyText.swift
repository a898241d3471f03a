// A policy file's bytes and its signature's, or why they cannot be had.

import Datapath
import Glibc
import Policy

public enum PolicyText {
    /// A signature file has some 200 bytes.
    static let longestSignature = 4096

    /// The text of the signature beside a policy; nil: there is none.
    public static func signature(of path: String) throws(DatapathError) -> String? {
        guard access(path + ".sig", F_OK) == 0 else { return nil }
        let text = try read(path + ".sig", "signature", most: longestSignature)
        return String(decoding: text, as: UTF8.self)
    }

    /// A key file's text.
    public static func key(_ path: String) throws(DatapathError) -> String {
        String(decoding: try read(path, "key", most: longestSignature), as: UTF8.self)
    }

    /// Reads a file to its end; also a pipe.
    public static func read(_ path: String) throws(DatapathError) -> [UInt8] { try read(path, "policy", most: largestPolicyFile) }

    private static func read(_ path: String, _ what: String, most: Int) throws(DatapathError) -> [UInt8] {
        let action = "reading the \(what) \(path)"
        let hint = "give the path of a readable \(what) file"
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw DatapathError(action, code: errno, hint: hint) }
        defer { close(fd) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(fd, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw DatapathError(action, code: errno, hint: hint) }
            if count == 0 { return text }
            text += chunk[0..<count]
            guard text.count <= most else {
                throw DatapathError(
                    action, code: EFBIG, hint: most >> 20 > 0 ? "a \(what) has at most \(most >> 20) MiB" : "a \(what) has at most \(most) bytes")
            }
        }
    }
}
