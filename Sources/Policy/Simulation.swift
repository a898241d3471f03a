// A policy over recorded frames: the data path's own parser and table, in bursts as it uses them.

import Allowlist
import Frames

/// Counts of a simulation.
public struct SimulationCounts: Sendable {
    public var allowed: UInt64 = 0
    public var denied: UInt64 = 0
    /// By cause under `enforce`; in `learn` and `monitor` such frames pass all the same.
    public var causes: [Cause: UInt64] = [:]
    /// Hits by rule number.
    public var rules: [UInt64]
}

/// Judges frames one after the other.
public struct Simulation {
    private let table: CompiledTable
    private let memory = JudgeMemory()
    private var flows: FlowTable?
    private let plan: FlowPlan?
    private let flowMemory = FlowMemory()
    private let grace: UInt32
    private var clock = CaptureClock()
    /// Of the first frame of the capture; nil: none has come.
    private var began: FlowTick?
    private var times: [FlowTick] = []
    private var buffer: [UInt8] = []
    private var starts: [Int] = []
    private var lengths: [UInt32] = []
    private var wireLengths: [UInt32] = []
    private var headers = [FrameHeaders](repeating: FrameHeaders(), count: burstCapacity)
    private var verdicts = [Verdict](
        repeating: Verdict(rule: Verdict.noRule, cause: .none, isReply: false), count: burstCapacity)
    public private(set) var counts: SimulationCounts

    /// - Parameters:
    ///   - table: compiled without sides; a capture does not say by which port a frame came.
    ///   - flows: what is remembered of flows, by the times of the frames; nil: the rules alone judge.
    public init(_ table: CompiledTable, flows plan: FlowPlan? = nil) {
        self.table = table
        self.plan = plan
        flows = Self.newTable(plan)
        grace = FlowTick.ticks(seconds: plan?.graceSeconds ?? 0)
        counts = SimulationCounts(rules: [UInt64](repeating: 0, count: table.source.rules.count))
    }

    /// Takes a frame in; every `burstCapacity` frames they are judged.
    ///
    /// - Parameters:
    ///   - nanoseconds: when it came.
    ///   - judged: called once for each frame of a full burst, in order.
    public mutating func add(
        _ bytes: UnsafeRawBufferPointer, wireLength: Int, at nanoseconds: UInt64 = 0, judged: (Verdict, _ passes: Bool) -> Void
    ) {
        let time = FlowTick(nanoseconds: clock.time(of: nanoseconds))
        if began == nil { began = time }
        times.append(time)
        starts.append(buffer.count)
        buffer.append(contentsOf: bytes)
        lengths.append(UInt32(truncatingIfNeeded: bytes.count))
        wireLengths.append(UInt32(truncatingIfNeeded: max(wireLength, bytes.count)))
        if starts.count == burstCapacity { flush(judged: judged) }
    }

    /// Another capture begins: as after a start, nobody knows what has gone before.
    public mutating func beginCapture() {
        if began != nil { flows = Self.newTable(plan) }
        began = nil
        clock = CaptureClock()
    }

    private static func newTable(_ plan: FlowPlan?) -> FlowTable? {
        plan.flatMap { $0.flows > 0 ? FlowTable(capacity: $0.flows, isShared: false) : nil }
    }

    /// Judges what is left.
    public mutating func flush(judged: (Verdict, _ passes: Bool) -> Void) {
        let count = starts.count
        guard count > 0 else { return }
        // One byte more, so that even frames of no bytes have an address.
        buffer.append(0)
        buffer.withUnsafeBytes { bytes in
            let frames = starts.map { bytes.baseAddress! + $0 }
            parseBurst(frames: frames, available: lengths, wireLengths: wireLengths, count: count, into: &headers)
            judgeBurst(
                table.view, frames: frames, headers: headers, count: count, from: .inside, scratch: memory.scratch,
                verdicts: &verdicts)
            if let flows { track(flows, frames, count) }
        }
        let enforces = table.view.pointee.mode == .enforce
        for verdict in verdicts[0..<count] {
            let passes = verdict.isAllowed || !enforces
            counts.allowed += passes ? 1 : 0
            counts.denied += passes ? 0 : 1
            if !verdict.isAllowed { counts.causes[verdict.cause, default: 0] += 1 }
            if verdict.isAllowed, verdict.rule != Verdict.noRule { counts.rules[Int(verdict.rule)] += 1 }
            judged(verdict, passes)
        }
        buffer.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        wireLengths.removeAll(keepingCapacity: true)
        times.removeAll(keepingCapacity: true)
    }

    /// One frame at a time, for each has its own.
    private mutating func track(_ flows: FlowTable, _ frames: [UnsafeRawPointer], _ count: Int) {
        for i in 0..<count {
            let clock = FlowClock(now: times[i], graceBegan: began ?? times[i], grace: grace)
            var frame = frames[i]
            var length = lengths[i]
            trackBurst(
                table.view, flows.view, from: nil, frames: &frame, available: &length, headers: &headers[i], count: 1, clock, flowMemory.scratch,
                verdicts: &verdicts[i])
        }
    }
}

/// The bridge's clock only goes forward; the one a capture was recorded by may have been set.
struct CaptureClock {
    /// The latest stamp so far, and what is added to stamps.
    private var latest: UInt64?
    private var shift: UInt64 = 0

    /// Further back than frames of several queues are out of order.
    private static let mostDisorder: UInt64 = 3600 * 1_000_000_000
    /// Longer than captures are silent.
    private static let mostSilence: UInt64 = 365 * 86400 * 1_000_000_000
    /// Time 0 has a meaning of its own in the flow table.
    private static let start: UInt64 = 1 << 40

    mutating func time(of stamp: UInt64) -> UInt64 {
        // Ticks begin where they would by the stamps themselves.
        let before = latest ?? stamp
        if latest == nil { shift = Self.start &+ stamp & ((1 << 26) - 1) &- stamp }
        latest = max(before, stamp)
        let isSet = stamp < before ? before - stamp > Self.mostDisorder : stamp - before > Self.mostSilence
        if isSet {
            // Time goes on where it was.
            shift &+= before &- stamp
            latest = stamp
        }
        return stamp &+ shift
    }
}
