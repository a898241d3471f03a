// Frames into a pcapng file, as Wireshark reads it: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
//
// libpcap writes none, and only pcapng says which port a frame came in by, and why it did not pass.

import Foundation

/// A pcapng section in memory: little-endian, nanoseconds.
public struct CaptureWriter {
    public private(set) var bytes: [UInt8] = []

    /// - Parameters:
    ///   - program: that writes it.
    ///   - interfaces: names, in the order of their numbers.
    public init(program: String, interfaces: [String]) {
        block(0x0A0D_0D0A) { body in
            // The magic number says the byte order; version 1.0; a section of unknown length.
            body.append(UInt32(0x1A2B_3C4D), UInt16(1), UInt16(0), UInt64.max)
            body.option(4, Array(program.utf8))
        }
        for name in interfaces {
            block(1) { body in
                // Ethernet; no limit of length.
                body.append(UInt16(1), UInt16(0), UInt32(0))
                body.option(2, Array(name.utf8))
                // Times are multiples of 10⁻⁹ s.
                body.option(9, [9])
            }
        }
    }

    /// - Parameters:
    ///   - nanoseconds: since 1970.
    ///   - wireLength: at least as many as there are bytes.
    ///   - comment: empty: none.
    public mutating func add(_ frame: [UInt8], wireLength: Int, interface: Int, at nanoseconds: UInt64, comment: String) {
        block(6) { body in
            body.append(UInt32(interface), UInt32(truncatingIfNeeded: nanoseconds >> 32), UInt32(truncatingIfNeeded: nanoseconds))
            body.append(UInt32(frame.count), UInt32(max(wireLength, frame.count)))
            body.padded(frame)
            if !comment.isEmpty { body.option(1, Array(comment.utf8)) }
        }
    }

    /// A block says its length at either end.
    private mutating func block(_ type: UInt32, _ fill: (inout Body) -> Void) {
        var body = Body()
        fill(&body)
        if body.hasOptions { body.append(UInt32(0)) }
        let length = UInt32(body.bytes.count + 12)
        var whole = Body()
        whole.append(type, length)
        whole.bytes += body.bytes
        whole.append(length)
        bytes += whole.bytes
    }

    private struct Body {
        var bytes: [UInt8] = []
        var hasOptions = false

        mutating func append<each Word: FixedWidthInteger>(_ words: repeat each Word) {
            for word in repeat each words { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        }

        /// Everything begins at a multiple of four.
        mutating func padded(_ more: [UInt8]) {
            bytes += more
            bytes += [UInt8](repeating: 0, count: -more.count & 3)
        }

        mutating func option(_ code: UInt16, _ value: [UInt8]) {
            let value = value.prefix(Int(UInt16.max))
            append(code, UInt16(value.count))
            padded(Array(value))
            hasOptions = true
        }
    }
}
