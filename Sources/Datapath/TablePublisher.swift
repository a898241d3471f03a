// Hot swap: one pointer, read once per burst; the old table goes when nobody can be using it.
//
//   control   publish ──────────────► wait ─────────────────► free old, answer
//   worker    …burst (old)│ burst (new) │ seen = new │ …
//
// Quiescent-state reclamation (QSBR): a worker says after each burst which version it used. A worker that is
// about to sleep in the kernel says that it uses none.

import Allowlist
import Glibc
import Synchronization

/// What the pointer leads to.
struct Publication {
    let table: UnsafePointer<TableView>
    let quarantine: UnsafePointer<QuarantineView>
    /// Of publications, of which a table may have several.
    let version: UInt64
    /// Hits by rule, one array for each worker.
    let hits: UnsafeMutablePointer<UnsafeMutablePointer<Counter>>
    /// A bit for each rule whose frames are copied to the mirror port; nil: none is.
    let mirrored: UnsafeMutablePointer<UInt64>?
}

/// What the packet path shares with the control side: trivial, copied into each worker.
struct PublishedTable {
    /// Address of the current `Publication`; never 0 while workers run.
    let current: UnsafeMutablePointer<Atomic<UInt>>
    /// This worker's line: the version it has used last, or `offline`.
    let seen: UnsafeMutablePointer<Atomic<UInt64>>

    static let offline = UInt64.max
    /// Back from sleep, nothing used yet: holds back every reclamation.
    static let returning: UInt64 = 0

    @inline(__always)
    func load() -> UnsafePointer<Publication> {
        // Sequentially consistent, as the store in `goOnline` before it: the publisher stores the pointer
        // and then reads `seen`, we store `seen` and then read the pointer; one of us must notice the other.
        // On x86-64 this load is a plain move.
        UnsafePointer(bitPattern: current.pointee.load(ordering: .sequentiallyConsistent)).unsafelyUnwrapped
    }

    /// The burst is over; nothing of `version` is used any more.
    @inline(__always)
    func announce(_ version: UInt64) { seen.pointee.store(version, ordering: .releasing) }

    func goOffline() { seen.pointee.store(Self.offline, ordering: .releasing) }
    func goOnline() { seen.pointee.store(Self.returning, ordering: .sequentiallyConsistent) }
}

/// The control side of the swap. Used by one thread at a time.
final class TablePublisher {
    private let current: UnsafeMutablePointer<Atomic<UInt>>
    /// One per worker, 128 bytes apart.
    private let seen: UnsafeMutableRawPointer
    private let workerCount: Int
    private var live: Owned?
    /// Tables whose workers did not answer in time: kept until they do.
    private var retired: [Owned] = []
    /// Hits of tables that are gone, by rule name.
    private(set) var pastHits: [String: UInt64] = [:]

    private static let line = 128
    private static let hugePage = 2 << 20

    private struct Owned {
        let table: CompiledTable
        let ruleNames: [String]
        let hits: UnsafeMutablePointer<UnsafeMutablePointer<Counter>>
        /// The last one; those before it are in `past`.
        var publication: UnsafeMutablePointer<Publication>
        var quarantine: Quarantine
    }

    /// Publications of tables that are still in use, with what they point to.
    private var past: [(publication: UnsafeMutablePointer<Publication>, quarantine: Quarantine)] = []
    private var version: UInt64 = 0

    init(workerCount: Int) {
        self.workerCount = workerCount
        current = .allocate(capacity: 1)
        current.initialize(to: Atomic(0))
        seen = .allocate(byteCount: Self.line * workerCount, alignment: Self.line)
        for worker in 0..<workerCount { slot(worker).initialize(to: Atomic(PublishedTable.offline)) }
    }

    /// - Precondition: the workers have ended.
    deinit {
        for owned in retired + (live.map { [$0] } ?? []) { free(owned) }
        for one in past { one.publication.deallocate() }
        current.deallocate()
        seen.deallocate()
    }

    private func slot(_ worker: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (seen + worker * Self.line).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    func view(_ worker: Int) -> PublishedTable { PublishedTable(current: current, seen: slot(worker)) }

    var table: CompiledTable? { live?.table }

    /// Makes `table` the one in use.
    ///
    /// - Parameters:
    ///   - ruleNames: by rule index; hits are kept by name over versions.
    ///   - quarantine: its exceptions are rules of this table.
    func publish(_ table: CompiledTable, ruleNames: [String], quarantine: Quarantine = .none) {
        let hits = UnsafeMutablePointer<UnsafeMutablePointer<Counter>>.allocate(capacity: max(workerCount, 1))
        for worker in 0..<workerCount {
            // Padded, and aligned to two lines: no other worker's writes share them.
            let count = ruleNames.count + Self.line / 8
            let isLarge = count * 8 >= Self.hugePage
            let memory = UnsafeMutableRawPointer.allocate(byteCount: count * 8, alignment: isLarge ? Self.hugePage : Self.line)
            // A million rules' counters are on two thousand pages, and each frame touches another.
            if isLarge { madvise(memory, count * 8, MADV_HUGEPAGE) }
            let counters = memory.bindMemory(to: Counter.self, capacity: count)
            for rule in 0..<count { (counters + rule).initialize(to: Counter()) }
            hits[worker] = counters
        }
        let mirrored = Self.bits(table.source.mirrored, count: ruleNames.count)
        let publication = show(table, quarantine, hits, mirrored)
        if let live { retired.append(live) }
        live = Owned(table: table, ruleNames: ruleNames, hits: hits, publication: publication, quarantine: quarantine)
    }

    /// Puts another quarantine before the table in use.
    func publish(_ quarantine: Quarantine) {
        guard let owned = live else { return }
        let publication = show(owned.table, quarantine, owned.hits, owned.publication.pointee.mirrored)
        past.append((owned.publication, owned.quarantine))
        live?.publication = publication
        live?.quarantine = quarantine
    }

    private func show(
        _ table: CompiledTable, _ quarantine: Quarantine, _ hits: UnsafeMutablePointer<UnsafeMutablePointer<Counter>>,
        _ mirrored: UnsafeMutablePointer<UInt64>?
    ) -> UnsafeMutablePointer<Publication> {
        version += 1
        let publication = UnsafeMutablePointer<Publication>.allocate(capacity: 1)
        publication.initialize(to: Publication(table: table.view, quarantine: quarantine.view, version: version, hits: hits, mirrored: mirrored))
        current.pointee.store(UInt(bitPattern: publication), ordering: .sequentiallyConsistent)
        return publication
    }

    private static func bits(_ places: Set<Int>, count: Int) -> UnsafeMutablePointer<UInt64>? {
        if places.isEmpty { return nil }
        let bits = UnsafeMutablePointer<UInt64>.allocate(capacity: count / 64 + 1)
        bits.initialize(repeating: 0, count: count / 64 + 1)
        for place in places where place < count { bits[place / 64] |= 1 << UInt64(place % 64) }
        return bits
    }

    var quarantine: Quarantine { live?.quarantine ?? .none }

    /// Whether no worker can be using anything older than the current table.
    var isQuiescent: Bool {
        guard let live else { return true }
        let version = live.publication.pointee.version
        return (0..<workerCount).allSatisfy {
            let value = slot($0).pointee.load(ordering: .sequentiallyConsistent)
            return value == PublishedTable.offline || value >= version
        }
    }

    /// Frees old tables once `isQuiescent`. What the workers counted in them is kept.
    func reclaim() {
        guard isQuiescent else { return }
        for owned in retired {
            addHits(of: owned, to: &pastHits)
            free(owned)
        }
        retired = []
        for one in past { one.publication.deallocate() }
        past = []
    }

    /// Hits by rule name since the start.
    func hits() -> [String: UInt64] {
        var sum = pastHits
        for owned in retired + (live.map { [$0] } ?? []) { addHits(of: owned, to: &sum) }
        return sum
    }

    private func addHits(of owned: Owned, to sum: inout [String: UInt64]) {
        for worker in 0..<workerCount {
            for (rule, name) in owned.ruleNames.enumerated() {
                let count = owned.hits[worker][rule].count
                if count > 0 { sum[name, default: 0] += count }
            }
        }
    }

    private func free(_ owned: Owned) {
        for worker in 0..<workerCount { owned.hits[worker].deallocate() }
        owned.hits.deallocate()
        owned.publication.pointee.mirrored?.deallocate()
        owned.publication.deallocate()
    }
}
