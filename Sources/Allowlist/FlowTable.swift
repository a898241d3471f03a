// Where flows are kept: fixed memory, nothing that grows, and no wait that is not bounded.
//
//               block 0               block 1
//     locks     ┌───────────────────┬───────────────────┬─
//     tags      │ 512 buckets × 8   │ 512 buckets × 8   │    a byte each
//     entries   │ 4096 × 64 bytes   │ 4096 × 64 bytes   │
//     halves    │ 4096 × 32 bytes   │ 4096 × 32 bytes   │
//
// A key's hash picks one block and two of its buckets; a flow lies in the one that was emptier. Of a
// bucket the eight tags (a byte of the hash each, 0: free) are compared in one word, and only what fits is looked at. Tags lie
// together, so that those of a million flows stay in the cache. Because both buckets lie in one block, one lock guards everything
// a frame touches. It is taken only where several workers share the table: the two directions of a flow need not meet in
// one worker.

import CLinux
import Frames
import Synchronization

/// A table of flows as the packet path sees it.
public struct FlowView: BitwiseCopyable {
    let header: UnsafeMutablePointer<FlowTableHeader>
    /// One for each block, a cache line apart.
    let locks: UnsafeMutableRawPointer
    let tags: UnsafeMutablePointer<Atomic<UInt64>>
    let entries: UnsafeMutablePointer<FlowEntry>
    let halves: UnsafeMutablePointer<TCPHalf>
    let blockCount: UInt64
    let seed: HashSeed
    /// Whether several workers use it.
    let isShared: Bool

    static let bucketsPerBlock = 1 << 9
    static let slotsPerBucket = 8
    static let slotsPerBlock = bucketsPerBlock * slotsPerBucket
    static let lockStride = 64

    @inline(__always)
    func slot(_ index: Int) -> FlowSlot { FlowSlot(entry: entries + index, halves: halves + 2 &* index) }
}

/// What all workers of a table share besides the flows.
struct FlowTableHeader: ~Copyable {
    /// When a flow found no room last, 0: never.
    let fullAt = Atomic<UInt32>(0)
    /// Since when nobody knows what has gone before; see `FlowClock`.
    let graceBegan = Atomic<UInt32>(0)
}

/// Owns the memory of a table of flows.
public final class FlowTable: Sendable {
    // Set once; what it leads to is guarded by the blocks' locks.
    nonisolated(unsafe) public let view: UnsafePointer<FlowView>
    private let memory: TableMemory
    /// Flows it is made for; there is almost a third more room, so that a block that many keys fall into is not full at once.
    public let capacity: Int

    /// Most flows a table can be asked for: 2 GiB.
    public static let most = 16 << 20

    /// - Parameters:
    ///   - capacity: flows, 1…`most`.
    ///   - isShared: whether several workers use it.
    public init(capacity: Int, isShared: Bool) {
        precondition((1...Self.most).contains(capacity))
        self.capacity = capacity
        let memory = TableMemory()
        let slots = capacity + capacity * 5 / 16
        let blockCount = max(1, (slots + FlowView.slotsPerBlock - 1) / FlowView.slotsPerBlock)
        let header = memory.allocate(FlowTableHeader.self)
        header.initialize(to: FlowTableHeader())
        self.memory = memory
        func zeroed<T: ~Copyable>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
            memory.allocateZeroed(bytes: count * MemoryLayout<T>.stride).bindMemory(to: type, capacity: count)
        }
        let view = memory.allocate(FlowView.self, count: 1)
        view.initialize(to: FlowView(
            header: header, locks: memory.allocateZeroed(bytes: blockCount * FlowView.lockStride),
            tags: zeroed(Atomic<UInt64>.self, blockCount * FlowView.bucketsPerBlock),
            entries: zeroed(FlowEntry.self, blockCount * FlowView.slotsPerBlock),
            halves: zeroed(TCPHalf.self, blockCount * FlowView.slotsPerBlock * 2), blockCount: UInt64(blockCount),
            seed: HashSeed.random(), isShared: isShared))
        self.view = UnsafePointer(view)
    }

    public var bytes: Int { memory.bytes }

    /// For workers that keep none; never looked into.
    public static let none = FlowTable(capacity: 1, isShared: false)
}

/// What the owner asks of the flow table as a whole.
public struct FlowPlan: Sendable, Hashable {
    /// Flows it is made for; 0: none are kept, and replies pass on the rules' word alone. Fixed while the bridge runs.
    public var flows: Int
    /// Seconds after a start, or after a time without workers, in which replies pass unasked.
    public var graceSeconds: Int

    public static let usualFlows = 65_536

    public init(flows: Int = usualFlows, graceSeconds: Int = FlowOptions.usualReplySeconds) {
        self.flows = flows
        self.graceSeconds = graceSeconds
    }
}

/// What a worker counts of flows. One writer; `Datapath` copies it where others may read.
public struct FlowCounts: BitwiseCopyable, Sendable {
    /// Entries made, and entries taken away again, of whatever kind.
    public var made: UInt64 = 0
    public var ended: UInt64 = 0
    /// TCP connections taken up without their beginning.
    public var pickedUp: UInt64 = 0
    /// Tentative flows that had to make room.
    public var pushedOut: UInt64 = 0
    /// Flows that found no room.
    public var refused: UInt64 = 0
    /// Flows cut because their rule was gone for a while.
    public var cut: UInt64 = 0
    /// Frames whose block another worker held too long.
    public var contended: UInt64 = 0

    public init() {}

    public static func += (a: inout FlowCounts, b: FlowCounts) {
        a.made &+= b.made
        a.ended &+= b.ended
        a.pickedUp &+= b.pickedUp
        a.pushedOut &+= b.pushedOut
        a.refused &+= b.refused
        a.cut &+= b.cut
        a.contended &+= b.contended
    }
}

/// Two buckets of one block, and what a key's tag looks like there. 16 bytes.
struct FlowHome: BitwiseCopyable {
    /// The first in the low half; never the same.
    let buckets: UInt64
    /// The tag in every byte.
    let pattern: UInt64

    @inline(__always)
    init(_ hash: UInt64, blockCount: UInt64) {
        let base = scaled(hash, blockCount) &* UInt64(FlowView.bucketsPerBlock)
        // From low bits; the block was cut from the high ones.
        let low = hash & 0xFFFF_FFFF
        buckets = base &+ (low & 511) | (base &+ ((low &+ 1 &+ (low &>> 16 & 255)) & 511)) &<< 32
        // 0 is a free place, and 1 would be taken for it where the place below fits (`zeroBytes`).
        let byte = low &>> 24
        pattern = (byte < 2 ? byte &+ 2 : byte) &* 0x0101_0101_0101_0101
    }

    @inline(__always) var first: Int { Int(buckets & 0xFFFF_FFFF) }
    @inline(__always) var second: Int { Int(buckets &>> 32) }
    @inline(__always) var block: Int { Int((buckets & 0xFFFF_FFFF) &>> 9) }

    /// Slots whose tag fits: of byte i, bit 0 is slot i of the first bucket, bit 4 of the second. Above the lowest bit others may be wrong.
    @inline(__always)
    func matches(_ tags: UnsafeMutablePointer<Atomic<UInt64>>) -> UInt64 {
        FlowPlace.zeroBytes(tags[first].load(ordering: .relaxed) ^ pattern) &>> 7
            | FlowPlace.zeroBytes(tags[second].load(ordering: .relaxed) ^ pattern) &>> 3
    }

    /// The first of `matches`; of none some slot of the first bucket. Without a branch: which bucket it is cannot be foretold.
    @inline(__always)
    func slot(_ matches: UInt64) -> UInt32 {
        let position = UInt64(truncatingIfNeeded: matches.trailingZeroBitCount)
        let bucket = UInt32(truncatingIfNeeded: buckets &>> ((position & 4) &<< 3))
        return bucket &<< 3 | UInt32(truncatingIfNeeded: position &>> 3 & 7)
    }
}

/// Where a key may lie.
struct FlowPlace: BitwiseCopyable {
    let view: UnsafePointer<FlowView>
    private let home: FlowHome

    @inline(__always)
    init(_ home: FlowHome, _ view: UnsafePointer<FlowView>) {
        self.view = view
        self.home = home
    }

    @inline(__always)
    init(_ hash: UInt64, _ view: UnsafePointer<FlowView>) {
        self.init(FlowHome(hash, blockCount: view.pointee.blockCount), view)
    }

    @inline(__always) var first: Int { home.first }
    @inline(__always) var second: Int { home.second }
    @inline(__always) var block: Int { home.block }
    @inline(__always) var tag: UInt64 { home.pattern & 0xFF }

    @inline(__always)
    func tags(_ bucket: Int) -> UnsafeMutablePointer<Atomic<UInt64>> { view.pointee.tags + bucket }

    @inline(__always)
    func slot(_ bucket: Int, _ slot: Int) -> FlowSlot { view.pointee.slot(bucket &* FlowView.slotsPerBucket &+ slot) }

    @inline(__always)
    private static func ones(_ byte: UInt64) -> UInt64 { byte &* 0x0101_0101_0101_0101 }

    /// A high bit in each byte of `word` that is 0. Above the lowest of them others may be wrong; whoever takes more than the first looks.
    @inline(__always)
    static func zeroBytes(_ word: UInt64) -> UInt64 { (word &- ones(1)) & ~word & ones(0x80) }

    @inline(__always)
    func matches(_ bucket: Int) -> UInt64 {
        Self.zeroBytes(tags(bucket).pointee.load(ordering: .relaxed) ^ home.pattern)
    }

    @inline(__always)
    func find(_ key: UnsafePointer<FlowKey>) -> FlowSlot? {
        find(key, first) ?? find(key, second)
    }

    @inline(__always)
    private func find(_ key: UnsafePointer<FlowKey>, _ bucket: Int) -> FlowSlot? {
        var found = matches(bucket)
        while found != 0 {
            let slot = slot(bucket, found.trailingZeroBitCount &>> 3)
            if slot.entry.pointee.key.equals(key.pointee) { return slot }
            found &= found &- 1
        }
        return nil
    }

    /// A slot for a new flow: a free one in the emptier bucket, else one whose flow is over or can move to its other bucket,
    /// else the oldest tentative one, else the oldest of an earlier policy.
    ///
    /// - Returns: its entry, to be written at once; nil if every flow in both buckets is established under this policy.
    @inline(never)
    func makeRoom(_ now: FlowTick, version: UInt32, _ counts: UnsafeMutablePointer<FlowCounts>) -> FlowSlot? {
        let free = (
            Self.freeBytes(tags(first).pointee.load(ordering: .relaxed)), Self.freeBytes(tags(second).pointee.load(ordering: .relaxed))
        )
        if free.0 | free.1 != 0 {
            // The emptier one, so that few are ever full.
            let takesFirst = free.0.nonzeroBitCount >= free.1.nonzeroBitCount
            counts.pointee.made &+= 1
            return claim(takesFirst ? first : second, (takesFirst ? free.0 : free.1).trailingZeroBitCount &>> 3)
        }
        var oldest: (bucket: Int, slot: Int, age: UInt32)?
        // Of a policy before this one: its rule may be gone. If not, and it is still alive, it is taken up again.
        var stale: (bucket: Int, slot: Int, age: UInt32)?
        for i in 0..<2 &* FlowView.slotsPerBucket {
            let bucket = i < FlowView.slotsPerBucket ? first : second
            let slot = i % FlowView.slotsPerBucket
            let old = self.slot(bucket, slot)
            let age = now.since(old.pointee.lastSeen)
            if age > old.pointee.timeout {
                counts.pointee.made &+= 1
                counts.pointee.ended &+= 1
                return claim(bucket, slot)
            }
            guard old.pointee.marks.contains(.isTentative) else {
                if old.pointee.version != version, age >= stale?.age ?? 0 { stale = (bucket, slot, age) }
                continue
            }
            if let known = oldest, known.age >= age { continue }
            oldest = (bucket, slot, age)
        }
        // Without this some block would be full long before the table is.
        for i in 0..<2 &* FlowView.slotsPerBucket {
            let bucket = i < FlowView.slotsPerBucket ? first : second
            let old = slot(bucket, i % FlowView.slotsPerBucket)
            let places = FlowPlace(old.pointee.key.hash(view.pointee.seed), view)
            let other = places.first == bucket ? places.second : places.first
            let free = Self.freeBytes(tags(other).pointee.load(ordering: .relaxed))
            if free == 0 { continue }
            places.claim(other, free.trailingZeroBitCount &>> 3).take(old)
            counts.pointee.made &+= 1
            return claim(bucket, i % FlowView.slotsPerBucket)
        }
        guard let oldest = oldest ?? stale else { return nil }
        counts.pointee.made &+= 1
        counts.pointee.ended &+= 1
        counts.pointee.pushedOut &+= 1
        return claim(oldest.bucket, oldest.slot)
    }

    /// Exact, where `zeroBytes` may be wrong above the first.
    @inline(__always)
    private static func freeBytes(_ word: UInt64) -> UInt64 {
        ~(((word & ones(0x7F)) &+ ones(0x7F)) | word | ones(0x7F))
    }

    @inline(__always)
    private func claim(_ bucket: Int, _ slot: Int) -> FlowSlot {
        let shift = UInt64(truncatingIfNeeded: slot &* 8)
        let word = tags(bucket).pointee.load(ordering: .relaxed)
        tags(bucket).pointee.store(word & ~(0xFF &<< shift) | tag &<< shift, ordering: .relaxed)
        return self.slot(bucket, slot)
    }
}

extension FlowSlot {
    /// The flow that lies there moves here.
    @inline(__always)
    func take(_ other: FlowSlot) {
        entry.pointee = other.entry.pointee
        halves[0] = other.halves[0]
        halves[1] = other.halves[1]
    }
}

/// By its address: the view itself is larger than what a lock needs of it.
extension UnsafePointer<FlowView> {
    @inline(__always)
    private func word(_ block: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        (pointee.locks + block &* FlowView.lockStride).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// - Returns: false if another worker keeps it.
    @inline(__always)
    func lock(_ block: Int) -> Bool { pointee.isShared ? lockShared(block) : true }

    @inline(never)
    private func lockShared(_ block: Int) -> Bool {
        for _ in 0..<spinsForLock {
            if word(block).pointee.load(ordering: .relaxed) == 0,
                word(block).pointee.exchange(1, ordering: .acquiring) == 0
            { return true }
            clinux_spin_hint()
        }
        return false
    }

    /// Waits until whoever keeps the block has its processor again, but not for longer than the wire can be kept waiting.
    ///
    /// - Parameter patience: nanoseconds.
    @inline(never)
    func lockPatiently(_ block: Int, _ patience: UInt64) -> Bool {
        let began = clinux_monotonic()
        repeat {
            if lockShared(block) { return true }
            clinux_yield()
        } while clinux_monotonic() &- began < patience
        return false
    }

    @inline(__always)
    func unlock(_ block: Int) {
        if pointee.isShared { word(block).pointee.store(0, ordering: .releasing) }
    }
}

extension UnsafePointer<FlowView> {
    /// Nobody has watched until now, whichever worker says so: a flow's directions may come to several.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    public func beginGrace(_ now: FlowTick) { pointee.header.pointee.graceBegan.store(now.rawValue, ordering: .relaxed) }

    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    public func graceBegan() -> FlowTick { FlowTick(rawValue: pointee.header.pointee.graceBegan.load(ordering: .relaxed)) }
}

/// Looks at a lock before something else is done: some microseconds. Its holder has some ten nanoseconds of work, unless its processor
/// was taken from it; were this longer, a burst that meets a block whose holder is gone would take the other worker past its own deadline.
private let spinsForLock = 100

extension UnsafePointer<FlowView> {
    /// Forgets what is over in one bucket, so that the count of flows stays true: called now and then.
    ///
    /// - Parameter position: any number; each worker counts its own up.
    /// - Returns: false if another worker keeps the block.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    @discardableResult
    public func sweep(_ position: UInt64, _ now: FlowTick, _ counts: UnsafeMutablePointer<FlowCounts>) -> Bool {
        let bucket = Int(truncatingIfNeeded: position % pointee.bucketCount)
        let block = bucket / FlowView.bucketsPerBlock
        let tags = pointee.tags + bucket
        if tags.pointee.load(ordering: .relaxed) == 0 { return true }
        guard lock(block) else { return false }
        var word = tags.pointee.load(ordering: .relaxed)
        for slot in 0..<FlowView.slotsPerBucket {
            let mask = 0xFF &<< UInt64(truncatingIfNeeded: slot &* 8)
            let flow = pointee.slot(bucket &* FlowView.slotsPerBucket &+ slot)
            if word & mask != 0, flow.isOver(now) {
                word &= ~mask
                counts.pointee.ended &+= 1
                // Who comes by its place and not by its tag must not find it.
                flow.pointee.key.tail = 0
            }
        }
        tags.pointee.store(word, ordering: .relaxed)
        unlock(block)
        return true
    }
}

extension FlowView {
    /// How many buckets there are to sweep.
    public var bucketCount: UInt64 { blockCount &* UInt64(Self.bucketsPerBlock) }
}
