// Finding the pilots: largest buckets first, evicting where nothing fits, within a budget.

/// Why a table could not be built. The running table stays in place.
public enum TableError: Error, Equatable, Sendable {
    /// More than `limit` of `what`.
    case tooMany(what: String, count: Int, limit: Int)
    /// The table as built does not answer as the rules do. Never published.
    case checkFailed(String)
}

/// How hard to try. Tests make it fail on purpose.
struct BuildEffort: Sendable {
    /// Loads to try, each with `seedsPerLoad` seeds. 0.90 needs almost no eviction;
    /// above 0.95 some builds do not end (docs/performance.md).
    var loads: [Double] = [0.90, 0.80]
    var seedsPerLoad = 4
    /// Evictions allowed for each bucket of a part.
    var evictionsPerBucket = 4
}

/// Keys of one bucket on average. Fewer make more pilots, more make them hard to find.
private let bucketSize = 3.0
/// Buckets of one part where there are several: about 98,000 keys, so that the part's slots' owners
/// (4 bytes each) stay in a core's L2 cache while it is built.
private let partShift = 15

extension PerfectTable {
    /// Builds a table of `keys`, whose references are kept.
    ///
    /// - Parameters:
    ///   - memory: owns the result.
    ///   - merge: gives the reference for a key that stands twice.
    static func build(
        _ keys: UnsafeBufferPointer<Key>, in memory: TableMemory, effort: BuildEffort = BuildEffort(),
        merge: (UInt32, UInt32) -> UInt32 = { min($0, $1) }
    ) -> PerfectTable {
        if keys.isEmpty { return plain(keys, in: memory, merge: merge) }
        for load in effort.loads {
            for _ in 0..<effort.seedsPerLoad {
                let builder = PerfectBuilder<Key>(keyCount: keys.count, load: load)
                if let table = builder.attempt(keys, in: memory, effort: effort, merge: merge) { return table }
            }
        }
        return plain(keys, in: memory, merge: merge)
    }

    /// Linear probing at load one half: always succeeds.
    private static func plain(
        _ keys: UnsafeBufferPointer<Key>, in memory: TableMemory, merge: (UInt32, UInt32) -> UInt32
    ) -> PerfectTable {
        let slotCount = keys.count * 2 + 1
        let slots = memory.allocate(Key.self, count: slotCount)
        slots.initialize(repeating: .empty, count: slotCount)
        let seed = HashSeed.random()
        var stored = 0
        for key in keys {
            var index = Int(scaled(key.hash(seed), UInt64(slotCount)))
            while !slots[index].isEmpty, !slots[index].holds(key) { index = index + 1 == slotCount ? 0 : index + 1 }
            if slots[index].isEmpty {
                slots[index] = key
                stored += 1
            } else {
                slots[index].reference = merge(slots[index].reference, key.reference)
            }
        }
        return PerfectTable(
            slots: slots, pilots: UnsafePointer(memory.allocate(UInt8.self, count: 1)), seed: seed,
            bucketCount: 1, partShift: 63, slotsPerPart: UInt64(slotCount), count: stored, isPlain: true)
    }
}

/// A key on its way into a bucket.
private struct Placed: BitwiseCopyable {
    /// Decides the slot; equal keys of a bucket have equal ones.
    var rest: UInt64
    /// Place among the input keys; `duplicate` if an equal key stands for it.
    var index: UInt32
    var bucket: UInt32

    static let duplicate: UInt32 = 0xFFFF_FFFF
}

/// One attempt: one seed, one load.
private struct PerfectBuilder<Key: TableKey> {
    let partCount: Int
    let bucketsPerPart: Int
    let slotsPerPart: Int
    let seed = HashSeed.random()

    init(keyCount: Int, load: Double) {
        let buckets = Int(Double(keyCount) / bucketSize) + 1
        partCount = (buckets >> partShift) + 1
        bucketsPerPart = partCount == 1 ? buckets : 1 << partShift
        let perPart = Double(keyCount) / Double(partCount)
        // Parts differ by chance: five standard deviations of room.
        let largest = partCount == 1 ? perPart : perPart + 5 * perPart.squareRoot()
        slotsPerPart = Int(largest / load) + 1
    }

    func attempt(
        _ keys: UnsafeBufferPointer<Key>, in memory: TableMemory, effort: BuildEffort,
        merge: (UInt32, UInt32) -> UInt32
    ) -> PerfectTable<Key>? {
        let scratch = TableMemory()
        let (sorted, starts) = sortedByBucket(keys, scratch)
        let totalSlots = partCount * slotsPerPart
        let pilots = scratch.allocate(UInt8.self, count: partCount * bucketsPerPart)
        pilots.initialize(repeating: 0, count: partCount * bucketsPerPart)
        let references = scratch.allocate(UInt32.self, count: keys.count)
        for i in 0..<keys.count { references[i] = keys[i].reference }
        guard let stored = mergeDuplicates(sorted, starts, keys, references, merge) else { return nil }

        let owners = scratch.allocate(UInt32.self, count: slotsPerPart)
        let order = scratch.allocate(UInt32.self, count: bucketsPerPart)
        for part in 0..<partCount {
            let firstBucket = part * bucketsPerPart
            var search = PilotSearch(
                sorted: sorted, starts: starts + firstBucket, owners: owners, pilots: pilots + firstBucket,
                order: order, bucketCount: bucketsPerPart, slotCount: slotsPerPart,
                evictionsLeft: effort.evictionsPerBucket * bucketsPerPart)
            guard search.placeAll() else { return nil }
        }
        let table = PerfectTable<Key>(
            slots: memory.allocate(Key.self, count: totalSlots),
            pilots: memory.allocate(UInt8.self, count: partCount * bucketsPerPart), seed: seed,
            bucketCount: UInt64(partCount * bucketsPerPart), partShift: partCount == 1 ? 63 : UInt64(partShift),
            slotsPerPart: UInt64(slotsPerPart), count: stored, isPlain: false)
        UnsafeMutablePointer(mutating: table.pilots).update(from: pilots, count: partCount * bucketsPerPart)
        let slots = UnsafeMutablePointer(mutating: table.slots)
        slots.initialize(repeating: .empty, count: totalSlots)
        for position in 0..<keys.count where sorted[position].index != Placed.duplicate {
            let place = sorted[position]
            let slot = UnsafeMutablePointer(mutating: table.slot(bucket: UInt64(place.bucket), rest: place.rest))
            slot.pointee = keys[Int(place.index)]
            slot.pointee.reference = references[Int(place.index)]
        }
        return table
    }

    /// Counting sort by bucket; buckets of a part lie together. Two passes: by part first where there are several,
    /// so that the second stays in the cache.
    private func sortedByBucket(
        _ keys: UnsafeBufferPointer<Key>, _ scratch: TableMemory
    ) -> (UnsafeMutablePointer<Placed>, UnsafeMutablePointer<UInt32>) {
        let count = keys.count
        let bucketCount = partCount * bucketsPerPart
        var from = scratch.allocate(Placed.self, count: count)
        var to = scratch.allocate(Placed.self, count: count)
        let starts = scratch.allocate(UInt32.self, count: bucketCount + 1)
        starts.initialize(repeating: 0, count: bucketCount + 1)
        let partStarts = scratch.allocate(UInt32.self, count: partCount + 1)
        partStarts.initialize(repeating: 0, count: partCount + 1)
        for i in 0..<count {
            let (bucket, rest) = PerfectTable<Key>.split(keys[i].hash(seed), UInt64(bucketCount))
            from[i] = Placed(rest: rest, index: UInt32(i), bucket: UInt32(bucket))
            starts[Int(bucket) + 1] += 1
            if partCount > 1 { partStarts[Int(bucket >> partShift) + 1] += 1 }
        }
        if partCount > 1 {
            for part in 0..<partCount { partStarts[part + 1] += partStarts[part] }
            for i in 0..<count {
                let part = Int(from[i].bucket >> partShift)
                to[Int(partStarts[part])] = from[i]
                partStarts[part] += 1
            }
            swap(&from, &to)
        }
        for bucket in 0..<bucketCount { starts[bucket + 1] += starts[bucket] }
        // Fill from the end of each bucket, so that `starts` ends up as the beginnings.
        for i in stride(from: count - 1, through: 0, by: -1) {
            let bucket = Int(from[i].bucket)
            starts[bucket + 1] -= 1
            to[Int(starts[bucket + 1])] = from[i]
        }
        // Now starts[b + 1] is where bucket b begins.
        for bucket in 0..<bucketCount { starts[bucket] = starts[bucket + 1] }
        starts[bucketCount] = UInt32(count)
        return (to, starts)
    }

    /// Equal keys fall into one bucket: merges their references there.
    ///
    /// - Returns: distinct keys, or nil if two different keys have one hash (a new seed is needed).
    private func mergeDuplicates(
        _ sorted: UnsafeMutablePointer<Placed>, _ starts: UnsafeMutablePointer<UInt32>,
        _ keys: UnsafeBufferPointer<Key>, _ references: UnsafeMutablePointer<UInt32>,
        _ merge: (UInt32, UInt32) -> UInt32
    ) -> Int? {
        var stored = keys.count
        for bucket in 0..<partCount * bucketsPerPart {
            let begin = Int(starts[bucket]), end = Int(starts[bucket + 1])
            guard end - begin > 1 else { continue }
            for i in begin + 1..<end {
                for j in begin..<i where sorted[j].rest == sorted[i].rest && sorted[j].index != Placed.duplicate {
                    let kept = Int(sorted[j].index), other = Int(sorted[i].index)
                    guard keys[kept].holds(keys[other]) else { return nil }
                    references[kept] = merge(references[kept], references[other])
                    sorted[i].index = Placed.duplicate
                    stored -= 1
                    break
                }
            }
        }
        return stored
    }
}

/// Places the buckets of one part.
private struct PilotSearch {
    let sorted: UnsafeMutablePointer<Placed>
    /// `bucketCount` + 1 places in `sorted`.
    let starts: UnsafeMutablePointer<UInt32>
    /// Bucket that has each slot, or `free`.
    let owners: UnsafeMutablePointer<UInt32>
    let pilots: UnsafeMutablePointer<UInt8>
    let order: UnsafeMutablePointer<UInt32>
    let bucketCount: Int
    let slotCount: Int
    var evictionsLeft: Int

    private static let free: UInt32 = 0xFFFF_FFFF

    mutating func placeAll() -> Bool {
        owners.initialize(repeating: Self.free, count: slotCount)
        orderBySize()
        for i in 0..<bucketCount where !place(order[i]) { return false }
        return true
    }

    /// Counting sort, largest first: they are the hardest to place, and the table is emptiest at the start.
    private func orderBySize() {
        var counts = [Int](repeating: 0, count: 66)
        func sizeClass(_ bucket: Int) -> Int { 64 - min(64, Int(starts[bucket + 1] - starts[bucket])) }
        for bucket in 0..<bucketCount { counts[sizeClass(bucket) + 1] += 1 }
        for size in 1..<66 { counts[size] += counts[size - 1] }
        for bucket in 0..<bucketCount {
            let size = sizeClass(bucket)
            order[counts[size]] = UInt32(bucket)
            counts[size] += 1
        }
    }

    @inline(__always)
    private func slot(_ position: Int, _ pilot: UInt8) -> Int {
        Int(truncatingIfNeeded: PerfectTable<Key4>.displaced(sorted[position].rest, pilot, UInt64(slotCount)))
    }

    private mutating func place(_ bucket: UInt32) -> Bool {
        if placeWithoutEviction(bucket) { return true }
        // Evict the cheapest owners and place them again: a queue, bounded by the budget.
        var waiting = [bucket]
        while let next = waiting.popLast() {
            if placeWithoutEviction(next) { continue }
            guard let pilot = cheapestPilot(next) else { return false }
            for position in range(next) where sorted[position].index != Placed.duplicate {
                let owner = owners[slot(position, pilot)]
                guard owner != Self.free else { continue }
                remove(owner)
                waiting.append(owner)
                evictionsLeft -= 1
                if evictionsLeft < 0 { return false }
            }
            take(next, pilot)
        }
        return true
    }

    @inline(__always)
    private func range(_ bucket: UInt32) -> Range<Int> {
        Int(starts[Int(bucket)])..<Int(starts[Int(bucket) + 1])
    }

    /// The first pilot that sends every key of the bucket to a free slot of its own.
    private func placeWithoutEviction(_ bucket: UInt32) -> Bool {
        let range = range(bucket)
        if range.isEmpty { return true }
        search: for candidate in 0...255 {
            let pilot = UInt8(candidate)
            var position = range.lowerBound
            while position < range.upperBound {
                if owners[slot(position, pilot)] != Self.free && sorted[position].index != Placed.duplicate {
                    continue search
                }
                position += 1
            }
            if range.count > 1 && collides(range, pilot) { continue }
            take(bucket, pilot)
            return true
        }
        return false
    }

    /// Whether two keys of the bucket want one slot.
    private func collides(_ range: Range<Int>, _ pilot: UInt8) -> Bool {
        for i in range.dropFirst() where sorted[i].index != Placed.duplicate {
            let mine = slot(i, pilot)
            for j in range.lowerBound..<i where sorted[j].index != Placed.duplicate && slot(j, pilot) == mine {
                return true
            }
        }
        return false
    }

    /// The pilot whose slots' owners are the fewest and smallest; large buckets are hard to place again.
    private func cheapestPilot(_ bucket: UInt32) -> UInt8? {
        let range = range(bucket)
        var best: (pilot: UInt8, cost: Int)?
        for candidate in 0...255 {
            let pilot = UInt8(candidate)
            if pilot == pilots[Int(bucket)] || collides(range, pilot) { continue }
            var cost = 0
            for position in range where sorted[position].index != Placed.duplicate {
                let owner = owners[slot(position, pilot)]
                if owner != Self.free {
                    let size = self.range(owner).count
                    cost += size * size
                }
            }
            if cost < best?.cost ?? .max { best = (pilot, cost) }
        }
        return best?.pilot
    }

    private func take(_ bucket: UInt32, _ pilot: UInt8) {
        pilots[Int(bucket)] = pilot
        for position in range(bucket) where sorted[position].index != Placed.duplicate {
            owners[slot(position, pilot)] = bucket
        }
    }

    private func remove(_ bucket: UInt32) {
        let pilot = pilots[Int(bucket)]
        for position in range(bucket) where sorted[position].index != Placed.duplicate {
            owners[slot(position, pilot)] = Self.free
        }
    }
}
