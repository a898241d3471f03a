// What a worker counts. One writer each, any number of readers, who never disturb it.

import Allowlist
import Frames
import Synchronization

/// A 64-bit counter with one writer: two plain moves and an add, no locked instruction.
struct Counter: ~Copyable {
    private let value = Atomic<UInt64>(0)

    @inline(__always)
    func add(_ amount: UInt64) {
        value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    @inline(__always)
    func set(_ amount: UInt64) { value.store(amount, ordering: .relaxed) }

    var count: UInt64 { value.load(ordering: .relaxed) }
}

/// Frames and bytes.
public struct Traffic: Sendable, Codable, Equatable {
    public var frames: UInt64 = 0
    public var bytes: UInt64 = 0

    public init(frames: UInt64 = 0, bytes: UInt64 = 0) {
        self.frames = frames
        self.bytes = bytes
    }

    public static func += (a: inout Traffic, b: Traffic) {
        a.frames &+= b.frames
        a.bytes &+= b.bytes
    }
}

/// Frames that came in by one port.
public struct DirectionCounts: Sendable {
    public var received = Traffic()
    public var forwarded = Traffic()
    /// Not forwarded, by `Cause`; 0 is unused.
    public var denied = [Traffic](repeating: Traffic(), count: Cause.capacity)
    /// Forwarded in `learn` or `monitor` although `enforce` would have denied them.
    public var noted = [Traffic](repeating: Traffic(), count: Cause.capacity)

    public init() {}

    /// From counters laid out as in `WorkerCounters`.
    init(words: [UInt64]) {
        func traffic(_ index: Int) -> Traffic { Traffic(frames: words[index], bytes: words[index + 1]) }
        received = traffic(0)
        forwarded = traffic(2)
        for cause in 0..<Cause.capacity {
            denied[cause] = traffic(4 + 2 * cause)
            noted[cause] = traffic(4 + 2 * (Cause.capacity + cause))
        }
    }

    public static func += (a: inout DirectionCounts, b: DirectionCounts) {
        a.received += b.received
        a.forwarded += b.forwarded
        for cause in 0..<Cause.capacity {
            a.denied[cause] += b.denied[cause]
            a.noted[cause] += b.noted[cause]
        }
    }
}

/// The counters of one worker: one block, lines of its own, so that no other core's writes share them.
///
/// Layout, in counters: for each side received 2, forwarded 2, denied 2 × 64, noted 2 × 64; then the gauges.
struct WorkerCounters {
    private let base: UnsafeMutablePointer<Counter>

    private static let perSide = 4 + 4 * Cause.capacity
    private static let total = 2 * perSide + Gauge.count

    /// What a worker shows of itself.
    enum Gauge: Int {
        case polls, sleeps, kicks, kickErrors, freeFrames
        case flowsMade, flowsEnded, flowsPickedUp, flowsPushedOut, flowsRefused, flowsCut, flowsContended
        static let count = 12
    }

    static func allocate() -> WorkerCounters {
        // Two lines of padding: the prefetcher fetches lines in pairs.
        let raw = UnsafeMutableRawPointer.allocate(byteCount: total * 8 + 256, alignment: 128)
        let base = raw.bindMemory(to: Counter.self, capacity: total)
        for i in 0..<total { (base + i).initialize(to: Counter()) }
        return WorkerCounters(base: base)
    }

    func deallocate() { base.deallocate() }

    @inline(__always)
    private func side(_ side: Side) -> UnsafeMutablePointer<Counter> { base + Int(side.rawValue) &* Self.perSide }

    @inline(__always)
    func received(_ from: Side, frames: UInt64, bytes: UInt64) {
        side(from)[0].add(frames)
        side(from)[1].add(bytes)
    }

    @inline(__always)
    func forwarded(_ from: Side, frames: UInt64, bytes: UInt64) {
        side(from)[2].add(frames)
        side(from)[3].add(bytes)
    }

    @inline(__always)
    func denied(_ from: Side, _ cause: Cause, bytes: UInt64) {
        let at = side(from) + (4 &+ 2 &* Int(cause.rawValue))
        at[0].add(1)
        at[1].add(bytes)
    }

    @inline(__always)
    func noted(_ from: Side, _ cause: Cause, bytes: UInt64) {
        let place = Cause.capacity &+ Int(cause.rawValue)
        let at = side(from) + (4 &+ 2 &* place)
        at[0].add(1)
        at[1].add(bytes)
    }

    @inline(__always)
    func count(_ gauge: Gauge, _ amount: UInt64 = 1) { base[2 &* Self.perSide &+ gauge.rawValue].add(amount) }

    @inline(__always)
    func set(_ gauge: Gauge, _ value: UInt64) { base[2 &* Self.perSide &+ gauge.rawValue].set(value) }

    func set(_ flows: FlowCounts) {
        set(.flowsMade, flows.made)
        set(.flowsEnded, flows.ended)
        set(.flowsPickedUp, flows.pickedUp)
        set(.flowsPushedOut, flows.pushedOut)
        set(.flowsRefused, flows.refused)
        set(.flowsCut, flows.cut)
        set(.flowsContended, flows.contended)
    }

    // MARK: Reading, on the control side

    var flows: FlowCounts {
        var counts = FlowCounts()
        counts.made = value(.flowsMade)
        counts.ended = value(.flowsEnded)
        counts.pickedUp = value(.flowsPickedUp)
        counts.pushedOut = value(.flowsPushedOut)
        counts.refused = value(.flowsRefused)
        counts.cut = value(.flowsCut)
        counts.contended = value(.flowsContended)
        return counts
    }

    func value(_ gauge: Gauge) -> UInt64 { base[2 * Self.perSide + gauge.rawValue].count }

    func counts(_ from: Side) -> DirectionCounts {
        let at = side(from)
        return DirectionCounts(words: (0..<Self.perSide).map { at[$0].count })
    }
}

// MARK: - Causes of the rings (48…55)

extension Cause {
    @inlinable public static var transmitFull: Cause { Cause(rawValue: 48) }
    @inlinable public static var frameChain: Cause { Cause(rawValue: 49) }
    @inlinable public static var noWorker: Cause { Cause(rawValue: 50) }

    /// The data path's own causes.
    public static let ofDatapath: [CauseDescription] = [
        CauseDescription(.transmitFull, "transmit-full", "the other port could not take it in time"),
        CauseDescription(.frameChain, "frame-chain", "a frame in more buffers than any kernel uses"),
        CauseDescription(.noWorker, "no-worker", "no worker was there to judge it (starting, stopping or dead), and the policy says: closed"),
    ]

    /// Every cause there is.
    public static let all: [CauseDescription] = ofParser + ofVerdict + ofDatapath

    private static let names: [Cause: CauseDescription] =
        Dictionary(uniqueKeysWithValues: all.map { ($0.cause, $0) })

    public var name: String { Self.names[self]?.name ?? "cause-\(rawValue)" }
    public var text: String { Self.names[self]?.text ?? "" }
}
