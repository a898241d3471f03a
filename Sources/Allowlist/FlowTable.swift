// Where flows are kept: fixed memory, nothing that grows, nothing that waits.
//
//     block ┌──────┬─────────────────────────┬────────────────────────────┐
//           │ lock │ tags: 64 buckets × 8    │ entries: 512 × 96 bytes    │   × as many as hold the flows
//           └──────┴─────────────────────────┴────────────────────────────┘
//
// A key's hash picks one block and two of its buckets; a flow lies in either. Of a bucket the eight tags (a byte of the
// hash each, 0: free) are compared in one word, and only what fits is looked at. Because both buckets lie in
// one block, one lock guards everything a frame touches. It is taken only where several workers share the table: the two
// directions of a flow need not meet in one worker.

import CLinux
import Frames
import Synchronization

/// A table of flows as the packet path sees it.
public struct FlowView: BitwiseCopyable {
    let header: UnsafeMutablePointer<FlowTableHeader>
    let blocks: UnsafeMutableRawPointer
    let blockCount: UInt64
    let seed: HashSeed
    /// Whether several workers use it.
    let isShared: Bool

    static let bucketsPerBlock = 64
    static let slotsPerBucket = 8
    static let slotsPerBlock = bucketsPerBlock * slotsPerBucket
    static let tagsAt = 64
    static let entriesAt = tagsAt + bucketsPerBlock * 8
    /// A multiple of a cache line.
    static let blockBytes = entriesAt + slotsPerBlock * FlowEntry.bytes
}

/// What all workers of a table share besides the flows.
struct FlowTableHeader: ~Copyable {
    /// When a flow found no room last, 0: never.
    let fullAt = Atomic<UInt32>(0)
}

/// Owns the memory of a table of flows.
public final class FlowTable: Sendable {
    // Set once; guarded by the blocks' locks after that.
    nonisolated(unsafe) public let view: FlowView
    private let memory: TableMemory
    /// Flows it is made for; there is a quarter more room, so that a block that many keys fall into is not full at once.
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
        let slots = capacity + capacity / 4
        let blockCount = max(1, (slots + FlowView.slotsPerBlock - 1) / FlowView.slotsPerBlock)
        let bytes = blockCount * FlowView.blockBytes
        let blocks = UnsafeMutableRawPointer(memory.allocateZeroed(bytes: bytes))
        let header = memory.allocate(FlowTableHeader.self)
        header.initialize(to: FlowTableHeader())
        self.memory = memory
        view = FlowView(header: header, blocks: blocks, blockCount: UInt64(blockCount), seed: HashSeed.random(), isShared: isShared)
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

/// Where a key may lie.
struct FlowPlace: BitwiseCopyable {
    let block: UnsafeMutableRawPointer
    let bucket: (Int, Int)
    let tag: UInt64

    @inline(__always)
    init(_ hash: UInt64, _ view: FlowView) {
        block = view.blocks + Int(truncatingIfNeeded: scaled(hash, view.blockCount)) &* FlowView.blockBytes
        // Low bits; the block was cut from the high ones.
        let first = hash & 63
        let step = 1 &+ scaled(hash &<< 20, 63)
        bucket = (Int(truncatingIfNeeded: first), Int(truncatingIfNeeded: (first &+ step) & 63))
        let byte = hash &>> 8 & 0xFF
        tag = byte == 0 ? 1 : byte
    }

    @inline(__always)
    func tags(_ bucket: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (block + FlowView.tagsAt).assumingMemoryBound(to: Atomic<UInt64>.self) + bucket
    }

    @inline(__always)
    func entry(_ bucket: Int, _ slot: Int) -> UnsafeMutablePointer<FlowEntry> {
        (block + FlowView.entriesAt).assumingMemoryBound(to: FlowEntry.self) + (bucket &* FlowView.slotsPerBucket &+ slot)
    }

    @inline(__always)
    private static func ones(_ byte: UInt64) -> UInt64 { byte &* 0x0101_0101_0101_0101 }

    /// A high bit in each byte of `word` that is 0. Above the lowest of them others may be wrong; whoever takes more than the first looks.
    @inline(__always)
    static func zeroBytes(_ word: UInt64) -> UInt64 { (word &- ones(1)) & ~word & ones(0x80) }

    @inline(__always)
    func matches(_ bucket: Int) -> UInt64 {
        Self.zeroBytes(tags(bucket).pointee.load(ordering: .relaxed) ^ Self.ones(tag))
    }

    @inline(__always)
    func prefetchTags() {
        clinux_prefetch(tags(bucket.0))
        clinux_prefetch(tags(bucket.1))
    }

    /// Brings what the tags point at into the cache.
    @inline(__always)
    func prefetchEntry() {
        let first = matches(bucket.0)
        let (bucket, found) = first != 0 ? (bucket.0, first) : (bucket.1, matches(bucket.1))
        if found == 0 { return }
        let at = UnsafeRawPointer(entry(bucket, found.trailingZeroBitCount &>> 3))
        clinux_prefetch(at)
        // 96 bytes are always two lines.
        clinux_prefetch(at + (FlowEntry.bytes - 1))
    }

    @inline(__always)
    func find(_ key: FlowKey) -> UnsafeMutablePointer<FlowEntry>? {
        find(key, bucket.0) ?? find(key, bucket.1)
    }

    @inline(__always)
    private func find(_ key: FlowKey, _ bucket: Int) -> UnsafeMutablePointer<FlowEntry>? {
        var found = matches(bucket)
        while found != 0 {
            let entry = entry(bucket, found.trailingZeroBitCount &>> 3)
            if entry.pointee.key.equals(key) { return entry }
            found &= found &- 1
        }
        return nil
    }

    /// A slot for a new flow: a free one in the emptier bucket, else one whose flow is over or can move to its other bucket,
    /// else the oldest tentative one.
    ///
    /// - Returns: its entry, to be written at once; nil if every flow in both buckets is established.
    @inline(never)
    func makeRoom(_ now: FlowTick, _ flows: FlowView, _ counts: UnsafeMutablePointer<FlowCounts>) -> UnsafeMutablePointer<FlowEntry>? {
        let first = tags(bucket.0).pointee.load(ordering: .relaxed), second = tags(bucket.1).pointee.load(ordering: .relaxed)
        let free = (Self.freeBytes(first), Self.freeBytes(second))
        if free.0 | free.1 != 0 {
            let takesSecond = free.1.nonzeroBitCount > free.0.nonzeroBitCount
            let slot = (takesSecond ? free.1 : free.0).trailingZeroBitCount &>> 3
            counts.pointee.made &+= 1
            return claim(takesSecond ? bucket.1 : bucket.0, slot)
        }
        var oldest: (bucket: Int, slot: Int, age: UInt32)?
        for i in 0..<2 &* FlowView.slotsPerBucket {
            let bucket = i < FlowView.slotsPerBucket ? bucket.0 : bucket.1
            let slot = i % FlowView.slotsPerBucket
            let old = entry(bucket, slot)
            let age = now.since(old.pointee.lastSeen)
            if age > old.pointee.timeout {
                counts.pointee.made &+= 1
                counts.pointee.ended &+= 1
                return claim(bucket, slot)
            }
            guard old.pointee.marks.contains(.isTentative) else { continue }
            if let known = oldest, known.age >= age { continue }
            oldest = (bucket, slot, age)
        }
        // Without this some block would be full long before the table is.
        for i in 0..<2 &* FlowView.slotsPerBucket {
            let bucket = i < FlowView.slotsPerBucket ? bucket.0 : bucket.1
            let old = entry(bucket, i % FlowView.slotsPerBucket)
            let places = FlowPlace(old.pointee.key.hash(flows.seed), flows)
            let other = places.bucket.0 == bucket ? places.bucket.1 : places.bucket.0
            let free = Self.freeBytes(tags(other).pointee.load(ordering: .relaxed))
            if free == 0 { continue }
            places.claim(other, free.trailingZeroBitCount &>> 3).pointee = old.pointee
            counts.pointee.made &+= 1
            return claim(bucket, i % FlowView.slotsPerBucket)
        }
        guard let oldest else { return nil }
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
    private func claim(_ bucket: Int, _ slot: Int) -> UnsafeMutablePointer<FlowEntry> {
        let shift = UInt64(truncatingIfNeeded: slot &* 8)
        let word = tags(bucket).pointee.load(ordering: .relaxed)
        tags(bucket).pointee.store(word & ~(0xFF &<< shift) | tag &<< shift, ordering: .relaxed)
        return entry(bucket, slot)
    }
}

extension FlowView {
    /// Looks at a lock before giving up. Its holder has some ten nanoseconds of work, unless its processor was taken from it.
    private static let patience = 2000

    @inline(__always)
    private func word(_ block: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Atomic<UInt32>> {
        block.assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// - Returns: false if another worker keeps it.
    @inline(__always)
    func lock(_ block: UnsafeMutableRawPointer) -> Bool { isShared ? lockShared(block) : true }

    @inline(never)
    private func lockShared(_ block: UnsafeMutableRawPointer) -> Bool {
        for _ in 0..<Self.patience {
            if word(block).pointee.load(ordering: .relaxed) == 0,
                word(block).pointee.exchange(1, ordering: .acquiring) == 0
            { return true }
            clinux_spin_hint()
        }
        return false
    }

    @inline(__always)
    func unlock(_ block: UnsafeMutableRawPointer) {
        if isShared { word(block).pointee.store(0, ordering: .releasing) }
    }

    /// Forgets what is over in one bucket, so that the count of flows stays true: called now and then.
    ///
    /// - Parameter position: any number; each worker counts its own up.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    public func sweep(_ position: UInt64, _ now: FlowTick, _ counts: UnsafeMutablePointer<FlowCounts>) {
        let block = blocks + Int(truncatingIfNeeded: position / UInt64(Self.bucketsPerBlock) % blockCount) &* Self.blockBytes
        let bucket = Int(truncatingIfNeeded: position % UInt64(Self.bucketsPerBlock))
        let tags = (block + Self.tagsAt).assumingMemoryBound(to: Atomic<UInt64>.self) + bucket
        guard tags.pointee.load(ordering: .relaxed) != 0, lock(block) else { return }
        var word = tags.pointee.load(ordering: .relaxed)
        let entries = (block + Self.entriesAt).assumingMemoryBound(to: FlowEntry.self) + bucket &* Self.slotsPerBucket
        for slot in 0..<Self.slotsPerBucket {
            let mask = 0xFF &<< UInt64(truncatingIfNeeded: slot &* 8)
            if word & mask != 0, (entries + slot).isOver(now) {
                word &= ~mask
                counts.pointee.ended &+= 1
            }
        }
        tags.pointee.store(word, ordering: .relaxed)
        unlock(block)
    }

    /// How many buckets there are to sweep.
    public var bucketCount: UInt64 { blockCount &* UInt64(Self.bucketsPerBlock) }
}
