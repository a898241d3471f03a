// The frames of Tests/Corpus/frames.txt, which says how it is to be read.

import Foundation
import Frames

public struct NamedFrame: Sendable {
    public let name: String
    /// Name of the cause it must be denied for, or `none`.
    public let cause: String
    public let bytes: [UInt8]
    /// Its length on the wire: more than was recorded, if it was cut short.
    public let wireLength: Int
}

public enum FrameCorpus {
    public static let frames: [NamedFrame] = {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let path = folder.appending(path: "Corpus/frames.txt")
        guard let text = try? String(contentsOf: path, encoding: .utf8) else { fatalError("cannot read \(path.path)") }
        return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let words = line.split(separator: " ")
            var bytes: [UInt8] = []
            var missing = 0
            for word in words.dropFirst(2) {
                if word.hasPrefix("+") {
                    missing = Int(word.dropFirst())!
                    continue
                }
                let parts = word.split(separator: "x")
                let piece = hex(parts[0])
                for _ in 0..<(parts.count == 2 ? Int(parts[1])! : 1) { bytes += piece }
            }
            return NamedFrame(name: String(words[0]), cause: String(words[1]), bytes: bytes, wireLength: bytes.count + missing)
        }
    }()

    private static func hex(_ text: Substring) -> [UInt8] {
        precondition(text.count % 2 == 0, "half a byte in \(text)")
        let digits = text.map { UInt8($0.hexDigitValue!) }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
