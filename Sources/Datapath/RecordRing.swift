// Fixed-size records from one worker to the control side. One writer, one reader; when it is full the writer counts what is lost, and
// goes on.

import Synchronization

struct RecordRing<Record: BitwiseCopyable> {
    private let records: UnsafeMutablePointer<Record>
    /// Written by the worker: records put in, then counts of its own from `firstCount` on. Then, on a line of its own, the reader's:
    /// records taken out.
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    /// A power of two.
    let capacity: Int

    @inline(__always) private static var put: Int { 0 }
    /// The worker's words after that are its own.
    @inline(__always) static var firstCount: Int { 1 }
    @inline(__always) private static var taken: Int { 16 }

    static func allocate(_ capacity: Int) -> RecordRing {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0)
        let records = UnsafeMutablePointer<Record>.allocate(capacity: capacity)
        // Touched now, so that no frame waits for the kernel to find the memory.
        UnsafeMutableRawPointer(records).initializeMemory(as: UInt8.self, repeating: 0, count: capacity * MemoryLayout<Record>.stride)
        let words = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 128).bindMemory(to: Atomic<UInt64>.self, capacity: 32)
        for i in 0..<32 { (words + i).initialize(to: Atomic(0)) }
        return RecordRing(records: records, words: words, capacity: capacity)
    }

    func deallocate() {
        records.deallocate()
        words.deallocate()
    }

    // MARK: The worker

    /// - Returns: false if there is no room.
    @inline(__always)
    func put(_ record: Record) -> Bool {
        guard let place = next() else { return false }
        place.pointee = record
        commit()
        return true
    }

    /// The place of the next record, to be filled in and then committed; nil: there is no room.
    @inline(__always)
    func next() -> UnsafeMutablePointer<Record>? {
        let put = words[Self.put].load(ordering: .relaxed)
        guard put &- words[Self.taken].load(ordering: .acquiring) < UInt64(capacity) else { return nil }
        return records + (Int(truncatingIfNeeded: put) & (capacity &- 1))
    }

    /// Shows the reader what was filled in. Release: the record is written before the index that shows it.
    @inline(__always)
    func commit() { words[Self.put].store(words[Self.put].load(ordering: .relaxed) &+ 1, ordering: .releasing) }

    @inline(__always)
    func add(_ count: UInt64, to word: Int) { words[word].store(words[word].load(ordering: .relaxed) &+ count, ordering: .relaxed) }

    @inline(__always)
    func set(_ word: Int, _ value: UInt64) { words[word].store(value, ordering: .releasing) }

    // MARK: The control side

    /// Adds what has come since the last call.
    ///
    /// - Returns: how many.
    func take(into list: inout [Record]) -> Int {
        let taken = words[Self.taken].load(ordering: .relaxed), put = words[Self.put].load(ordering: .acquiring)
        for place in taken..<put { list.append(records[Int(truncatingIfNeeded: place) & (capacity - 1)]) }
        words[Self.taken].store(put, ordering: .releasing)
        return Int(put - taken)
    }

    func value(_ word: Int) -> UInt64 { words[word].load(ordering: .acquiring) }
}
