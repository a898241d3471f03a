// The four rings that a socket shares with the kernel: single producer, single consumer, in shared memory.
//
//        producer index, written by the producer ──┐
//   ┌────┬────┬────┬────┬────┬────┬────┬────┐      │ free-running 32-bit counters;
//   │    │ ██ │ ██ │ ██ │    │    │    │    │      │ place = index & mask
//   └────┴────┴────┴────┴────┴────┴────┴────┘      │
//        consumer index, written by the consumer ──┘
//
// Each side keeps its own copy of both indices and reads the other side's only when the copy says full or
// empty: that line is in the other core's cache. A stale copy is always safe: it shows
// less room, or fewer entries, than there are.

import Synchronization

/// One of the kernel's 32-bit ring words.
typealias RingWord = Atomic<UInt32>

/// Where a ring lies. The memory is the kernel's mapping, or plain memory in tests.
struct RingMemory {
    let producer: UnsafeMutablePointer<RingWord>
    let consumer: UnsafeMutablePointer<RingWord>
    let flags: UnsafeMutablePointer<RingWord>
    let entries: UnsafeMutableRawPointer
    /// A power of two.
    let size: UInt32

    /// Entries between the indices, as anybody may read them at any time.
    var occupancy: UInt32 {
        producer.pointee.load(ordering: .relaxed) &- consumer.pointee.load(ordering: .relaxed)
    }
}

/// Where a loop over a ring is. A copy: kept in registers for a burst, and given back.
struct RingCursor<Entry: BitwiseCopyable>: BitwiseCopyable {
    let entries: UnsafeMutablePointer<Entry>
    let mask: UInt32
    var next: UInt32

    /// Writes an entry. The caller has made sure of room.
    @inline(__always)
    mutating func put(_ entry: Entry) {
        entries[Int(next & mask)] = entry
        next &+= 1
    }

    /// The entry `offset` places ahead.
    @inline(__always)
    func peek(_ offset: UInt32) -> Entry { entries[Int((next &+ offset) & mask)] }
}

/// The side that writes entries: fill and TX rings.
struct ProducerRing<Entry: BitwiseCopyable>: ~Copyable {
    let memory: RingMemory
    private let entries: UnsafeMutablePointer<Entry>
    private let mask: UInt32
    /// Next place to write; ahead of the published index by what is not published yet.
    private var next: UInt32
    /// The consumer's index when last read, plus the ring's size.
    private var limit: UInt32

    init(_ memory: RingMemory) {
        self.memory = memory
        entries = memory.entries.assumingMemoryBound(to: Entry.self)
        mask = memory.size - 1
        next = memory.producer.pointee.load(ordering: .relaxed)
        limit = memory.consumer.pointee.load(ordering: .acquiring) &+ memory.size
    }

    /// Free places, at least `wanted` if there are so many.
    @inline(__always)
    mutating func room(for wanted: UInt32) -> UInt32 {
        if limit &- next < wanted {
            // Acquire: the consumer has read an entry before it gave the place back.
            limit = memory.consumer.pointee.load(ordering: .acquiring) &+ memory.size
        }
        return limit &- next
    }

    /// Writes an entry. The caller has made sure of room.
    @inline(__always)
    mutating func put(_ entry: Entry) {
        assert(limit != next)
        entries[Int(next & mask)] = entry
        next &+= 1
    }

    /// For a loop; what it puts is the ring's when it is set back.
    var cursor: RingCursor<Entry> {
        @inline(__always) get { RingCursor(entries: entries, mask: mask, next: next) }
        @inline(__always) set { next = newValue.next }
    }

    /// Hands all that was put to the consumer.
    @inline(__always)
    func publish() {
        // Release: entries are written before the index that shows them.
        memory.producer.pointee.store(next, ordering: .releasing)
    }

    /// Whether the consumer has not taken all yet.
    @inline(__always)
    var isPending: Bool { memory.consumer.pointee.load(ordering: .relaxed) != next }

    /// Whether the kernel sleeps until it is called (XDP_RING_NEED_WAKEUP).
    @inline(__always)
    var needsWakeup: Bool { memory.flags.pointee.load(ordering: .relaxed) & 1 != 0 }
}

/// The side that reads entries: RX and completion rings.
struct ConsumerRing<Entry: BitwiseCopyable>: ~Copyable {
    let memory: RingMemory
    private let entries: UnsafeMutablePointer<Entry>
    private let mask: UInt32
    /// Next place to read; ahead of the published index by what is not given back yet.
    private var next: UInt32
    /// The producer's index when last read.
    private var limit: UInt32

    init(_ memory: RingMemory) {
        self.memory = memory
        entries = memory.entries.assumingMemoryBound(to: Entry.self)
        mask = memory.size - 1
        next = memory.consumer.pointee.load(ordering: .relaxed)
        limit = next
    }

    /// Entries that can be read now, up to `most`.
    @inline(__always)
    mutating func available(_ most: UInt32) -> UInt32 {
        if limit == next {
            // Acquire: entries are read after the index that shows them.
            limit = memory.producer.pointee.load(ordering: .acquiring)
        }
        return min(limit &- next, most)
    }

    /// Looks at the producer's index again although not all that is known was read.
    @inline(__always)
    mutating func refresh() { limit = memory.producer.pointee.load(ordering: .acquiring) }

    /// For a loop over what `available` has shown.
    @inline(__always)
    var cursor: RingCursor<Entry> { RingCursor(entries: entries, mask: mask, next: next) }

    /// The entry `offset` places ahead, which `available` has shown.
    @inline(__always)
    func peek(_ offset: UInt32) -> Entry { entries[Int((next &+ offset) & mask)] }

    /// Gives `count` entries back to the producer.
    @inline(__always)
    mutating func release(_ count: UInt32) {
        next &+= count
        // Release: entries are read before their places may be written again.
        memory.consumer.pointee.store(next, ordering: .releasing)
    }
}
