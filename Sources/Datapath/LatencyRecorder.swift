// In-box latency of sampled frames: from the XDP hook to the frame handed to the other port.
//
//   XDP hook ──── wait: kernel, RX ring ────► picked up ──── work: judge, send ────► handed over
//   time in the metadata area                 clock read if a frame has a time       clock read again
//
// The worker writes, the control side reads; both by plain moves (`Counter`), so the reader never disturbs.

import Allowlist
import CLinux
import Frames

/// Bytes in front of a frame that the XDP program may write a time into: the end of the kernel's head room.
private let metadataBytes = 8
/// Low bits of that word are the time (CLOCK_MONOTONIC, ns), the rest the tag.
private let timeBits: UInt64 = 48
private let timeMask: UInt64 = (1 << timeBits) - 1
/// A time older than a second is none: what lay there by accident had the tag.
private let oldest: UInt64 = 1_000_000_000

/// What part of a frame's way.
public enum LatencyStage: Int, Sendable, CaseIterable {
    /// From the XDP hook to the worker's hands: the kernel's copying, and waiting in the RX ring.
    case wait
    /// From there until it is handed to the other port, or dropped.
    case work
    case total
}

/// One worker's histograms: for each socket, allowed and denied, each stage. Fixed memory.
struct LatencyRecorder {
    private let base: UnsafeMutablePointer<Counter>
    /// Random, new for every worker; 0 in frames that have no time.
    let tag: UInt64
    private let sockets: Int
    /// Frames of the burst that have a time, and their times.
    private let places: UnsafeMutablePointer<UInt8>
    private let times: UnsafeMutablePointer<UInt64>

    /// Buckets, then sum and maximum.
    @inline(__always) private static var perSeries: Int { LatencyBuckets.count &+ 2 }
    /// Allowed and denied, three stages each.
    @inline(__always) private static var seriesPerSocket: Int { 6 }

    static func allocate(sockets: Int, burst: Int, tag: UInt16) -> LatencyRecorder {
        let total = sockets * seriesPerSocket * perSeries
        let raw = UnsafeMutableRawPointer.allocate(byteCount: total * 8 + 256, alignment: 128)
        let base = raw.bindMemory(to: Counter.self, capacity: total)
        for i in 0..<total { (base + i).initialize(to: Counter()) }
        return LatencyRecorder(
            base: base, tag: UInt64(tag), sockets: sockets, places: .allocate(capacity: burst), times: .allocate(capacity: burst))
    }

    func deallocate() {
        base.deallocate()
        places.deallocate()
        times.deallocate()
    }

    /// Notes which frames of a burst have a time, and takes it off them: the next frame in the same
    /// memory must not be taken for timed.
    ///
    /// - Parameter frames: pointers to frames in a UMEM, with the kernel's head room in front of them.
    /// - Returns: how many, and when they were picked up; 0 and no clock read if none.
    @inline(__always)
    func findTimes(_ frames: UnsafePointer<UnsafeRawPointer>, count: Int) -> (count: Int, pickedUp: UInt64) {
        var found = 0
        for i in 0..<count {
            // Inside the frame's own memory: the kernel leaves 256 bytes.
            let word = frames[i].loadUnaligned(fromByteOffset: -metadataBytes, as: UInt64.self)
            if word >> timeBits == tag {
                places[found] = UInt8(truncatingIfNeeded: i)
                times[found] = word & timeMask
                UnsafeMutableRawPointer(mutating: frames[i]).storeBytes(of: 0, toByteOffset: -metadataBytes, as: UInt64.self)
                found &+= 1
            }
        }
        return (found, found > 0 ? clinux_monotonic() : 0)
    }

    /// Records the burst's timed frames once it is sent.
    @inline(never)
    func record(socket: Int, count: Int, pickedUp: UInt64, verdicts: UnsafePointer<Verdict>) {
        let now = clinux_monotonic()
        for k in 0..<count {
            let wait = (pickedUp &- times[k]) & timeMask
            if wait > oldest { continue }
            let work = now &- pickedUp
            let series = socket &* Self.seriesPerSocket &+ (verdicts[Int(places[k])].isAllowed ? 0 : 3)
            add(series &+ 0, wait)
            add(series &+ 1, work)
            add(series &+ 2, wait &+ work)
        }
    }

    @inline(__always)
    private func add(_ series: Int, _ nanoseconds: UInt64) {
        let at = base + series &* Self.perSeries
        at[LatencyBuckets.place(nanoseconds)].add(1)
        at[LatencyBuckets.count].add(nanoseconds)
        if nanoseconds > at[LatencyBuckets.count &+ 1].count { at[LatencyBuckets.count &+ 1].set(nanoseconds) }
    }

    // MARK: Reading, on the control side

    func histogram(socket: Int, isAllowed: Bool, stage: LatencyStage) -> LatencyHistogram {
        let series = socket * Self.seriesPerSocket + (isAllowed ? 0 : 3) + stage.rawValue
        let at = base + series * Self.perSeries
        var counts: [Int: UInt64] = [:]
        for place in 0..<LatencyBuckets.count {
            let count = at[place].count
            if count > 0 { counts[place] = count }
        }
        return LatencyHistogram(counts: counts, sum: at[LatencyBuckets.count].count, max: at[LatencyBuckets.count + 1].count)
    }
}

/// One distribution of a running bridge.
public struct LatencySeries: Sendable {
    /// The port the frames came in by, its queue, and the worker.
    public var from: Side
    public var queue: Int
    public var worker: Int
    /// Whether the policy allows them.
    public var isAllowed: Bool
    public var stage: LatencyStage
    public var histogram: LatencyHistogram
}
