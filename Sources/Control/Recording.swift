// From the workers' traffic records to the history on disk.
//
//   rings ─ every 50 ms ─► in order of time ─► learner ─ every 750 ms ─► batch ─► another thread: one transaction
//     │                                  └─► detector (Watch)
//     └─ what did not pass, at once; every 2 ms where somebody is to be cut off by it ─► detector
//
// Neither thread is waited for by anybody who forwards or answers. A disk that is slow or full holds up the writing only:
// the learner goes on in memory that is bounded, and the batch that could not be written is written later.

import Baseline
import CLinux
import Datapath
import Foundation
import Frames
import Glibc
import Logging

final class Recording: @unchecked Sendable {
    // Unchecked: `changed` guards all that changes.
    private let changed = NSCondition()
    private let log: Logger
    private let source: String
    /// Days of the history that stay; 0: all.
    private let keepDays: Int
    private var watch: Watch?
    private var state: StatusReport.Recording
    private var opening: Result<Void, HistoryError>?
    /// nil: there is no bridge yet.
    private var rings: [TrafficRing]?
    private var isPrompt = false
    private var isEnding = false
    private var hasEnded = false
    /// A batch to write; then, what came of it.
    private var order: LearntBatch?
    private var written: [Int: Int64]?

    /// Between looks into the rings, in seconds; and where one of them was a quarter full.
    private static let pause = 0.05
    private static let shortPause = 0.005
    /// Where an alert may cut a device off by itself.
    private static let promptPause = 0.002
    /// Between batches, in nanoseconds. With what waits before it, a process that is killed has lost a second at the most.
    private static let batchInterval: UInt64 = 750_000_000
    /// Records that wait for earlier ones of other workers. More are learnt from as they are.
    private static let mostWaiting = 1 << 17
    /// Between prunings, and how long their pieces may take between two batches, in nanoseconds.
    private static let pruningInterval: UInt64 = 86_400_000_000_000
    private static let pruningTime: UInt64 = 50_000_000
    /// How long the end waits for the disk, in seconds.
    private static let patience = 10.0

    /// Opens the history, by a thread that has no privileges already: what could not be written later fails now.
    ///
    /// - Parameter source: what is learnt from, in words.
    init(directory: String, source: String, keepDays: Int, log: Logger) throws(HistoryError) {
        self.log = log
        self.source = source
        self.keepDays = keepDays
        state = StatusReport.Recording(file: directory + "/history.sqlite", records: 0, lostRecords: 0, lostFrames: 0, conversations: 0)
        Thread.detachNewThread { [self] in run(directory) }
        changed.lock()
        while opening == nil { changed.wait() }
        let opening = opening!
        changed.unlock()
        try opening.get()
    }

    /// Begins to take what workers record.
    ///
    /// - Parameter watch: is given the same records.
    func begin(_ rings: [TrafficRing], watch: Watch?) {
        change {
            self.rings = rings
            self.watch = watch
        }
    }

    /// - Parameter prompt: whether what is denied must not wait.
    func beQuick(_ prompt: Bool) { change { isPrompt = prompt } }

    /// Takes the rest and writes it. The workers must have ended.
    func finish() {
        change { isEnding = true }
        let end = Date(timeIntervalSinceNow: Self.patience)
        changed.lock()
        while !hasEnded, changed.wait(until: end) {}
        if !hasEnded { log.error("recording: the disk takes nothing; the last of what was learnt is lost") }
        changed.unlock()
    }

    var now: StatusReport.Recording {
        changed.lock()
        defer { changed.unlock() }
        var state = state
        for ring in rings ?? [] {
            state.lostRecords += ring.lostRecords
            state.lostFrames += ring.lostFrames
        }
        return state
    }

    private func change(_ body: () -> Void) {
        changed.lock()
        body()
        changed.broadcast()
        changed.unlock()
    }

    // MARK: - Learning

    private func run(_ directory: String) {
        clinux_name_thread("sekisho-record")
        // Also of the thread that writes: it is started from here.
        _ = clinux_keep_capabilities(0)
        defer { change { hasEnded = true } }
        let store: HistoryStore, learner = Learner()
        do throws(HistoryError) {
            store = try HistoryStore(directory: directory)
            try store.teach(learner)
            change {
                state.conversations = learner.count
                opening = .success(())
            }
        } catch {
            return change { opening = .failure(error) }
        }
        changed.lock()
        while rings == nil, !isEnding { changed.wait() }
        let (rings, watch) = (rings, watch)
        changed.unlock()
        guard let rings else { return }
        // Off the workers' processors, which are known by now.
        _ = clinux_follow_first_thread()
        Thread.detachNewThread { [self] in write(store) }
        learn(rings, learner, watch)
        // The writer ends when it has nothing more to write.
        changed.lock()
        while order != nil { changed.wait() }
        changed.unlock()
    }

    private func learn(_ rings: [TrafficRing], _ learner: Learner, _ watch: Watch?) {
        var waiting: [TrafficRecord] = []
        var lastBatch = clinux_monotonic()
        var pause = Self.pause
        var samples: [FrameSample] = []
        while true {
            changed.lock()
            if !isEnding { _ = changed.wait(until: Date(timeIntervalSinceNow: isPrompt ? min(pause, Self.promptPause) : pause)) }
            let isLast = isEnding
            changed.unlock()
            // Before the rings are read: what began until then is in them.
            let settled = isLast ? .max : rings.map(\.settled).min() ?? .max
            var taken = 0
            pause = Self.pause
            for ring in rings {
                let count = ring.take(into: &waiting)
                if count > ring.capacity / 4 { pause = Self.shortPause }
                taken += count
                ring.samples.take(into: &samples)
            }
            tellUrgent(waiting.suffix(taken), &samples, watch)
            learn(&waiting, until: waiting.count > Self.mostWaiting ? .max : settled, learner, watch)
            if isLast { learner.finish() }
            let now = clinux_monotonic()
            let isDue = isLast || now &- lastBatch >= Self.batchInterval
            changed.lock()
            state.records += UInt64(taken)
            state.conversations = learner.count
            // Its rows must be known before the next batch is made.
            while isLast, order != nil { changed.wait() }
            if let rows = written {
                for (conversation, row) in rows { learner.setRow(conversation, row) }
                written = nil
            }
            let isFree = order == nil
            changed.unlock()
            if isDue, isFree {
                lastBatch = now
                let batch = learner.takeBatch()
                change { order = batch }
            }
            if isLast { return }
        }
    }

    /// Learns what began until a moment, in order, and keeps the rest.
    private func learn(_ waiting: inout [TrafficRecord], until moment: UInt64, _ learner: Learner, _ watch: Watch?) {
        guard !waiting.isEmpty else { return }
        waiting.sort { $0.first < $1.first }
        let end = waiting.firstIndex { $0.first > moment } ?? waiting.count
        // From the workers' clock to the calendar, as it is set now.
        let offset = calendarOffset()
        for i in 0..<end {
            waiting[i].shift(by: offset)
            learner.learn(waiting[i])
        }
        watch?.observe(waiting[..<end].filter { !$0.isUrgent })
        waiting.removeFirst(end)
    }

    /// Gives the detector what must not wait for other workers' records.
    private func tellUrgent(_ new: ArraySlice<TrafficRecord>, _ samples: inout [FrameSample], _ watch: Watch?) {
        var urgent = new.filter(\.isUrgent)
        urgent.sort { $0.first < $1.first }
        let offset = calendarOffset()
        for i in urgent.indices { urgent[i].shift(by: offset) }
        watch?.observe(urgent, samples)
        samples.removeAll(keepingCapacity: true)
    }

    // MARK: - Writing

    private func write(_ store: HistoryStore) {
        clinux_name_thread("sekisho-history")
        var source: Int64?
        var pruning: Pruning?
        var nextPruning: UInt64 = 0
        while true {
            changed.lock()
            while order == nil {
                if hasEnded { return changed.unlock() }
                changed.wait()
            }
            let batch = order!
            changed.unlock()
            do throws(HistoryError) {
                if source == nil { source = try store.addSource(kind: "live", name: self.source) }
                let rows = try store.write(batch, source: source!)
                change {
                    if state.error != nil { log.info("recording: written again to \(store.path)") }
                    state.error = nil
                    state.lastWritten = Date()
                    (order, written) = (nil, rows)
                }
                prune(store, &pruning, next: &nextPruning)
            } catch {
                var givesUp = false
                change {
                    if state.error == nil { log.error("recording: \(error); tried again every second, nothing is lost yet") }
                    state.error = "\(error)"
                    // At the end there is one attempt.
                    givesUp = isEnding
                    if givesUp { (order, written) = (nil, [:]) }
                }
                if givesUp { continue }
                changed.lock()
                if !isEnding { _ = changed.wait(until: Date(timeIntervalSinceNow: 1)) }
                changed.unlock()
            }
        }
    }

    /// Between two batches: the same thread writes both, so that neither waits for the other's lock.
    private func prune(_ store: HistoryStore, _ pruning: inout Pruning?, next: inout UInt64) {
        let begin = clinux_monotonic()
        do throws(HistoryError) {
            if keepDays > 0, begin >= next {
                next = begin + Self.pruningInterval
                pruning = try store.pruning(keepingDays: keepDays)
            }
            guard var going = pruning else { return }
            repeat { try store.prune(&going) } while !going.isDone && clinux_monotonic() - begin < Self.pruningTime
            pruning = going.isDone ? nil : going
            if going.isDone {
                log.info("history: \(going.days) days of conversations before the last \(keepDays) days with traffic are taken out, and \(going.conversations) conversations")
            }
        } catch {
            pruning = nil
            log.warning("taking old days out: \(error); tried again in a day")
        }
    }
}

extension TrafficRecord {
    /// From the workers' clock to the calendar, ns.
    fileprivate mutating func shift(by offset: UInt64) {
        first &+= offset
        last &+= offset
    }
}
