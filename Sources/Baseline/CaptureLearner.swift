// Learning from recorded frames: the data path's own parser, in bursts as it uses them.

import Allowlist
import Frames

/// Feeds frames of a capture to a learner.
public struct CaptureLearner: ~Copyable {
    private let learner: Learner
    private var buffer: [UInt8] = []
    private var starts: [Int] = []
    private var lengths: [UInt32] = []
    private var wireLengths: [UInt32] = []
    private var times: [UInt64] = []
    private var headers = [FrameHeaders](repeating: FrameHeaders(), count: burstCapacity)

    public init(_ learner: Learner) { self.learner = learner }

    /// - Parameter nanoseconds: since 1970.
    public mutating func add(_ bytes: UnsafeRawBufferPointer, wireLength: Int, at nanoseconds: UInt64) {
        // What was not recorded to the end of its headers is malformed, whatever it was on the wire.
        if bytes.count < 14 { return }
        times.append(nanoseconds)
        starts.append(buffer.count)
        buffer.append(contentsOf: bytes)
        lengths.append(UInt32(truncatingIfNeeded: bytes.count))
        wireLengths.append(UInt32(truncatingIfNeeded: max(wireLength, bytes.count)))
        if starts.count == burstCapacity { flush() }
    }

    /// Learns what is left.
    public mutating func flush() {
        let count = starts.count
        guard count > 0 else { return }
        buffer.withUnsafeBytes { bytes in
            withUnsafeTemporaryAllocation(of: UnsafeRawPointer.self, capacity: burstCapacity) { frames in
                for i in 0..<count { frames.initializeElement(at: i, to: bytes.baseAddress! + starts[i]) }
                parseBurst(
                    frames: UnsafePointer(frames.baseAddress!), available: lengths, wireLengths: wireLengths, count: count, into: &headers)
                for i in 0..<count {
                    learner.learn(TrafficRecord(headers[i], frame: frames[i], wireLength: Int(wireLengths[i]), at: times[i], side: nil))
                }
            }
        }
        buffer.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        wireLengths.removeAll(keepingCapacity: true)
        times.removeAll(keepingCapacity: true)
    }
}
