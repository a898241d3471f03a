// A policy file's bytes, or why they cannot be had.

import Datapath
import Glibc
import Policy

public enum PolicyText {
    /// Reads a file to its end; also a pipe.
    public static func read(_ path: String) throws(DatapathError) -> [UInt8] {
        let action = "reading the policy \(path)"
        let hint = "give the path of a readable policy file"
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
            guard text.count <= largestPolicyFile else {
                throw DatapathError(action, code: EFBIG, hint: "a policy has at most \(largestPolicyFile >> 20) MiB")
            }
        }
    }
}
