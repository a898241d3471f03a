// A perfect hash with the keys inline: every lookup touches one pilot byte and one slot.
//
//   hash ─► part ─► bucket ─► pilots[bucket] ─► slot ─► whole key compared
//
// The scheme is PtrHash's (Groot Koerkamp, SEA 2025): keys fall into buckets of
// three on average, and each bucket has an 8-bit pilot, found at build time,
// that sends its keys to slots nobody else uses. A miss costs what a hit costs,
// so a flood of denied frames is no slower than the plant's own traffic.

import CLinux

/// Read-only view of a built table: plain data, passed by value or pointer.
///
/// Who owns the memory (`CompiledTable`) outlives every view of it.
struct PerfectTable<Key: TableKey>: BitwiseCopyable {
    let slots: UnsafePointer<Key>
    let pilots: UnsafePointer<UInt8>
    let seed: HashSeed
    /// Buckets of all parts together.
    let bucketCount: UInt64
    /// A bucket's number shifted right by this is its part's. 63 where there is one part.
    let partShift: UInt64
    let slotsPerPart: UInt64
    /// Keys stored.
    let count: Int
    /// Set where no perfect hash could be found: then the slots are a linear-probing table at load ≤ 0.5.
    let isPlain: Bool

    @inline(__always) var isEmpty: Bool { count == 0 }

    /// Bucket of a hash, and what of the hash is left: uniform among the keys of one bucket.
    @inline(__always)
    static func split(_ hash: UInt64, _ bucketCount: UInt64) -> (bucket: UInt64, rest: UInt64) {
        let product = hash.multipliedFullWidth(by: bucketCount)
        return (product.high, product.low)
    }

    /// Slot within a part. The odd multiplier brings the pilot's 8 bits to the top, where `scaled` looks.
    @inline(__always)
    static func displaced(_ rest: UInt64, _ pilot: UInt8, _ slotsPerPart: UInt64) -> UInt64 {
        scaled((rest ^ UInt64(pilot)) &* 0xD6E8_FEB8_6659_FD93, slotsPerPart)
    }

    /// The only slot that can hold a key of this bucket and rest. Not for a plain table.
    @inline(__always)
    func slot(bucket: UInt64, rest: UInt64) -> UnsafePointer<Key> {
        let pilot = pilots[Int(truncatingIfNeeded: bucket)]
        let base = (bucket &>> partShift) &* slotsPerPart
        return slots + Int(truncatingIfNeeded: base &+ Self.displaced(rest, pilot, slotsPerPart))
    }

    /// One lookup, for everything but bursts.
    @inline(__always)
    func reference(_ key: Key) -> UInt32 {
        let hash = key.hash(seed)
        if isPlain { return plainReference(key, hash) }
        let (bucket, rest) = Self.split(hash, bucketCount)
        let slot = slot(bucket: bucket, rest: rest)
        return slot.pointee.holds(key) ? slot.pointee.reference : noReference
    }

    /// Load is at most one half, so an empty slot ends every walk.
    @inline(never)
    private func plainReference(_ key: Key, _ hash: UInt64) -> UInt32 {
        let end = slots + Int(truncatingIfNeeded: slotsPerPart)
        var slot = slots + Int(truncatingIfNeeded: scaled(hash, slotsPerPart))
        while !slot.pointee.isEmpty {
            if slot.pointee.holds(key) { return slot.pointee.reference }
            slot += 1
            if slot == end { slot = slots }
        }
        return noReference
    }
}

/// Room for a burst's lookups in flight.
struct LookupScratch<Key: TableKey>: BitwiseCopyable {
    /// Where the caller puts its keys.
    let keys: UnsafeMutablePointer<Key>
    fileprivate let slots: UnsafeMutablePointer<UnsafePointer<Key>>
    fileprivate let rests: UnsafeMutablePointer<UInt64>
    let references: UnsafeMutablePointer<UInt32>

    init(capacity: Int, in memory: TableMemory) {
        keys = memory.allocate(Key.self, count: capacity)
        slots = memory.allocate(UnsafePointer<Key>.self, count: capacity)
        rests = memory.allocate(UInt64.self, count: capacity)
        references = memory.allocate(UInt32.self, count: capacity)
    }
}

/// Up to these sizes a level of lookup finds its bytes in L2 (1 MiB on the smallest machine measured) and
/// the processor overlaps the misses by itself; a pass of its own, with prefetch, would only cost. Above it, it
/// is worth a factor of three (docs/performance.md).
private let slotsWithoutPrefetch = 256 << 10
private let pilotsWithoutPrefetch = 512 << 10

extension PerfectTable {
    /// Looks up `scratch.keys[0..<n]` into `scratch.references`.
    @inline(__always)
    func lookUp(_ n: Int, _ scratch: LookupScratch<Key>) { lookUp(scratch.keys, n, scratch) }

    /// Looks up `keys[0..<n]` into `scratch.references`, in as many passes as the table's size is worth.
    @inline(__always)
    func lookUp(_ keys: UnsafePointer<Key>, _ n: Int, _ scratch: LookupScratch<Key>) {
        let slotBytes = Int(truncatingIfNeeded: slotsPerPart) &* MemoryLayout<Key>.stride
        if isPlain {
            for i in 0..<n { scratch.references[i] = reference(keys[i]) }
        } else if partShift == 63 && slotBytes <= slotsWithoutPrefetch {
            lookUpInCache(keys, n, scratch)
        } else {
            lookUpWithPrefetch(keys, n, scratch)
        }
    }

    @inline(__always)
    private func lookUpInCache(_ keys: UnsafePointer<Key>, _ n: Int, _ scratch: LookupScratch<Key>) {
        // In registers: see `judgeBurst`.
        let seed = seed, bucketCount = bucketCount, pilots = pilots, slots = slots, slotsPerPart = slotsPerPart
        let references = scratch.references
        for i in 0..<n {
            let key = keys[i]
            let (bucket, rest) = Self.split(key.hash(seed), bucketCount)
            let pilot = pilots[Int(truncatingIfNeeded: bucket)]
            let slot = slots + Int(truncatingIfNeeded: Self.displaced(rest, pilot, slotsPerPart))
            references[i] = Self.compare(slot, key)
        }
    }

    @inline(__always)
    private func lookUpWithPrefetch(_ keys: UnsafePointer<Key>, _ n: Int, _ scratch: LookupScratch<Key>) {
        let seed = seed, bucketCount = bucketCount, pilots = pilots, slots = slots, slotsPerPart = slotsPerPart
        let partShift = partShift
        let references = scratch.references, places = scratch.slots, rests = scratch.rests
        @inline(__always)
        func slot(_ bucket: UInt64, _ rest: UInt64) -> UnsafePointer<Key> {
            let base = (bucket &>> partShift) &* slotsPerPart
            return slots
                + Int(truncatingIfNeeded: base &+ Self.displaced(rest, pilots[Int(truncatingIfNeeded: bucket)], slotsPerPart))
        }
        if Int(truncatingIfNeeded: bucketCount) > pilotsWithoutPrefetch {
            for i in 0..<n {
                let (bucket, rest) = Self.split(keys[i].hash(seed), bucketCount)
                clinux_prefetch(pilots + Int(truncatingIfNeeded: bucket))
                rests[i] = rest
                references[i] = UInt32(truncatingIfNeeded: bucket)
            }
            for i in 0..<n {
                let place = slot(UInt64(references[i]), rests[i])
                places[i] = place
                Self.prefetch(place)
            }
        } else {
            for i in 0..<n {
                let (bucket, rest) = Self.split(keys[i].hash(seed), bucketCount)
                let place = slot(bucket, rest)
                places[i] = place
                Self.prefetch(place)
            }
        }
        for i in 0..<n { references[i] = Self.compare(places[i], keys[i]) }
    }

    /// Without a branch: a miss costs what a hit costs.
    @inline(__always)
    private static func compare(_ slot: UnsafePointer<Key>, _ key: Key) -> UInt32 {
        let found = slot.pointee.reference
        return slot.pointee.holds(key) ? found : noReference
    }

    @inline(__always)
    private static func prefetch(_ slot: UnsafePointer<Key>) {
        clinux_prefetch(slot)
        // 40-byte keys straddle cache lines.
        if MemoryLayout<Key>.stride > 16 {
            clinux_prefetch(UnsafeRawPointer(slot) + (MemoryLayout<Key>.stride - 1))
        }
    }
}

/// Absent from a table.
let noReference: UInt32 = 0xFFFF_FFFF
