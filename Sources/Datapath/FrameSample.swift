// The beginnings of some frames that did not pass, as evidence: from the worker to the control side.

import Frames

/// What is kept of a frame. Fixed size, plain data.
public struct FrameSample: BitwiseCopyable, Sendable {
    /// First of all, so that a frame is copied to where the sample begins.
    private var words: InlineArray<24, UInt64>
    /// ns of CLOCK_MONOTONIC_COARSE.
    public var time: UInt64
    /// Of IP its source, of ARP and ND the address its sender claims; else zero.
    public var source: AddressWords
    /// Bytes on the wire.
    public var wireLength: UInt32
    /// Of `bytes`, those that are the frame's.
    public var length: UInt16
    public var side: Side
    public var cause: Cause

    /// All headers, and what most protocols of a fab begin with: two IPv6 headers with options and a request.
    public static var longest: Int { 192 }

    /// A copy of the first `length` bytes.
    public var bytes: [UInt8] {
        withUnsafeBytes(of: words) { [UInt8]($0.prefix(Int(length))) }
    }

    /// Ethernet source.
    public var sender: MACAddress {
        withUnsafeBytes(of: words) { MACAddress(rawValue: UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 6, as: UInt64.self)) >> 16) }
    }
}

/// Samples on their way to the control side. One writer, one reader; when it is full, they are not taken: there are enough.
public final class FrameSampleRing: @unchecked Sendable {
    // Unchecked: one writer, one reader, and the words between them are atomic.
    fileprivate let ring: RecordRing<FrameSample>

    /// - Parameter capacity: a power of two.
    init(capacity: Int = 512) { ring = .allocate(capacity) }

    deinit { ring.deallocate() }

    /// Adds what has come since the last call. Times are those of CLOCK_MONOTONIC.
    public func take(into list: inout [FrameSample]) { _ = ring.take(into: &list) }

    /// The worker's end; it must not outlive this ring.
    var sampler: FrameSampler { FrameSampler(ring: ring) }
}

struct FrameSampler: BitwiseCopyable {
    fileprivate let ring: RecordRing<FrameSample>

    /// - Parameters:
    ///   - frame: of `wireLength` bytes, of which as many as a sample has, or all, lie in its first buffer.
    @inline(__always)
    func take(_ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>, wireLength: UInt32, cause: Cause, from side: Side, at time: UInt64) {
        guard let slot = ring.next() else { return }
        let length = min(Int(wireLength), FrameSample.longest)
        slot.pointee.time = time
        slot.pointee.source = headers.pointee.source
        slot.pointee.wireLength = wireLength
        slot.pointee.length = UInt16(truncatingIfNeeded: length)
        slot.pointee.side = side
        slot.pointee.cause = cause
        // `words` comes first, and `length` is at most its size.
        UnsafeMutableRawPointer(slot).copyMemory(from: frame, byteCount: length)
        ring.commit()
    }
}
