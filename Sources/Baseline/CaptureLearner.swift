// Learning from recorded frames, by the data path's own parser.

import Allowlist
import Frames

/// Feeds frames of a capture to a learner.
public struct CaptureLearner: ~Copyable {
    private let learner: Learner
    private var headers = FrameHeaders()

    public init(_ learner: Learner) { self.learner = learner }

    /// - Parameter nanoseconds: since 1970.
    public mutating func add(_ bytes: UnsafeRawBufferPointer, wireLength: Int, at nanoseconds: UInt64) {
        // Without an Ethernet header nobody has sent it.
        guard let base = bytes.baseAddress, bytes.count >= 14 else { return }
        parseFrame(bytes, wireLength: wireLength, into: &headers)
        learner.learn(TrafficRecord(headers, frame: base, wireLength: max(wireLength, bytes.count), at: nanoseconds, side: nil))
    }
}
