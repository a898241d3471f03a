// A worker's thread: pinned, polling, and asleep only as far as the idle policy allows.

import CLinux
import Glibc
import Synchronization

/// What a worker does when there is nothing to do.
public enum IdlePolicy: String, Sendable, CaseIterable, Codable {
    /// Polls without end: the least latency, a whole core.
    case spin
    /// Polls for a while, then sleeps in the kernel until a frame comes.
    case hybrid
    /// Sleeps at once: for machines that have other work.
    case sleep
}

/// Empty turns before `hybrid` goes to sleep: some 100 µs, longer than the gaps within a
/// request and its answer, and than a wake-up costs (notes in docs/performance.md).
private let emptyTurnsBeforeSleep = 4096
/// Turns between looks at the stop word, which lies in another core's cache line, and between signs of life: some 10 ms
/// where every turn is full, microseconds otherwise. Of a worker with many queues a turn is longer, and they are fewer.
private let mostTurnsPerCheck = 64
/// The longest sleep, in milliseconds: bounds how stale a missed wake-up can be.
private let longestSleep: Int32 = 500
/// The longest sleep while something recorded waits to be handed over, in milliseconds.
private let longestSleepWithRecords: Int32 = 50

/// Runs one worker. Everything here is set before the thread starts, or atomic.
final class WorkerThread: @unchecked Sendable {
    let index: Int
    let cpu: Int
    let counters: WorkerCounters
    let latency: LatencyRecorder
    let sightings: Sightings
    private let recorder: TrafficRecorder?
    /// Of the recorder, kept for it.
    private let trafficRing: TrafficRing?
    /// Rings of each socket, inside ones first, to read from the control side.
    let occupancies: [RingOccupancy]
    let frameCount: Int
    let umemBytes: Int
    let usesHugePages: Bool
    private let idle: IdlePolicy
    private let worker: UnsafeMutablePointer<Worker>
    private let published: PublishedTable
    private let descriptors: [Int32]
    private let heartbeat: Heartbeat
    private let turnsPerCheck: Int
    private let wake: Int32
    /// Whether the loop is to be left for a look at `isToEnd` and `isToRest`.
    private let stopped: UnsafeMutablePointer<Atomic<Bool>>
    private let isToEnd = Atomic<Bool>(false)
    private let isToRest = Atomic<Bool>(false)
    /// Silence after which others may have let frames pass, ns.
    private let unwatched = Atomic<UInt64>(.max)
    /// Longest wait for another worker, ns.
    private let patience = Atomic<UInt64>(5_000_000)
    private let threadID = Atomic<Int32>(0)
    private let pinError = Atomic<Int32>(0)
    private let confineError = Atomic<Int32>(-1)
    private var thread = pthread_t()

    init(
        index: Int, cpu: Int, idle: IdlePolicy, worker: consuming Worker, published: PublishedTable,
        descriptors: [Int32], heartbeat: Heartbeat, trafficRing: TrafficRing? = nil
    ) throws(DatapathError) {
        self.index = index
        self.heartbeat = heartbeat
        turnsPerCheck = max(1, mostTurnsPerCheck * 2 / max(2, descriptors.count))
        self.cpu = cpu
        self.idle = idle
        counters = worker.counters
        latency = worker.latency
        sightings = worker.sightings
        recorder = worker.recorder
        self.trafficRing = trafficRing
        frameCount = worker.frames.frameCount
        umemBytes = worker.frames.byteCount
        usesHugePages = worker.frames.usesHugePages
        var occupancies: [RingOccupancy] = []
        for socket in descriptors.indices { occupancies.append(worker.occupancy(socket)) }
        self.occupancies = occupancies
        stopped = .allocate(capacity: 1)
        stopped.initialize(to: Atomic(false))
        self.worker = .allocate(capacity: 1)
        self.worker.initialize(to: worker)
        self.published = published
        self.descriptors = descriptors
        wake = clinux_wakeup()
        guard wake >= 0 else { throw DatapathError("making a worker's wake-up", code: errno) }
    }

    /// - Precondition: the thread has ended or never began.
    deinit {
        worker.deinitialize(count: 1)
        worker.deallocate()
        close(wake)
        stopped.deallocate()
        counters.deallocate()
        latency.deallocate()
        sightings.deallocate()
        recorder?.deallocate()
    }

    /// Linux thread id, for /proc; 0 until it runs.
    var id: Int { Int(threadID.load(ordering: .relaxed)) }
    /// The errno of pinning, 0 if it is pinned.
    var pinningError: Int32 { pinError.load(ordering: .relaxed) }

    /// Whether the kernel refuses it every system call that it has no need of.
    var isConfined: Bool { confineError.load(ordering: .relaxed) == 0 }

    /// Frames received and not yet sent.
    var hasFramesInFlight: Bool { occupancies.contains { $0.rx.occupancy > 0 || $0.tx.occupancy > 0 } }

    func start() throws(DatapathError) {
        published.goOnline()
        let argument = Unmanaged.passRetained(self).toOpaque()
        let error = pthread_create(&thread, nil, { argument in
            Unmanaged<WorkerThread>.fromOpaque(argument!).takeRetainedValue().run()
            return nil
        }, argument)
        guard error == 0 else {
            Unmanaged<WorkerThread>.fromOpaque(argument).release()
            throw DatapathError("starting worker \(index)", code: error)
        }
    }

    /// Ends the thread and waits for it.
    func stop() {
        guard thread != pthread_t() else { return }
        isToEnd.store(true, ordering: .relaxed)
        lookUp()
        pthread_join(thread, nil)
        thread = pthread_t()
    }

    /// Sleeps when there is nothing to do, whatever the idle policy: its processor is wanted by the kernel.
    func rest(_ rests: Bool) {
        isToRest.store(rests, ordering: .relaxed)
        lookUp()
    }

    /// - Parameter silence: ns after which frames pass without this worker; nil: they never do.
    func setUnwatched(after silence: UInt64?) { unwatched.store(silence ?? .max, ordering: .relaxed) }

    /// - Parameter deadline: ns without a sign of life after which this worker counts as dead. A third of it may be waited.
    func setDeadline(_ deadline: UInt64) { patience.store(min(deadline / 3, 100_000_000), ordering: .relaxed) }

    /// Has the thread leave its loop, or its sleep.
    private func lookUp() {
        stopped.pointee.store(true, ordering: .releasing)
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    /// Tells that the thread runs; if it has not for so long that the kernel judged, what went by is excused.
    private func beat() -> UInt64 {
        let last = heartbeat.last
        let now = heartbeat.beat()
        if last != 0 { excuse(worker, since: last, until: now, unwatched: unwatched.load(ordering: .relaxed)) }
        return now
    }

    private func run() {
        clinux_name_thread("sekisho-w\(index)")
        threadID.store(clinux_thread_id(), ordering: .relaxed)
        pinError.store(-clinux_pin_thread(Int32(cpu)), ordering: .relaxed)
        // Best effort: whoever shares the processor comes after the wire, unless the owner asked for the opposite.
        if idle != .sleep { _ = clinux_set_nice(-20) }
        // Frames come and go through what is open already.
        _ = clinux_keep_capabilities(0)
        // All that must not reach the workers: signals are the main thread's.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)

        var waiting = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        waiting.append(pollfd(fd: wake, events: Int16(POLLIN), revents: 0))
        confineError.store(-clinux_confine_worker(), ordering: .relaxed)
        worker.pointee.beginGrace(clinux_monotonic_coarse())
        var rested = false
        while true {
            // Cleared before the words are read: a change that comes later sets it again.
            _ = stopped.pointee.exchange(false, ordering: .acquiring)
            if isToEnd.load(ordering: .relaxed) { break }
            let rests = isToRest.load(ordering: .relaxed)
            let limit = idle == .sleep || rests ? 1 : idle == .spin ? Int.max : emptyTurnsBeforeSleep
            let now = beat()
            worker.pointee.setPatience(patience.load(ordering: .relaxed))
            // The kernel has judged until now.
            if rested && !rests { worker.pointee.beginGrace(now) }
            rested = rests
            if pollWhileBusy(
                worker, until: stopped, heartbeat, turnsPerCheck: turnsPerCheck, limit: limit, unwatched: unwatched.load(ordering: .relaxed))
            { continue }
            worker.pointee.sweepSome()
            counters.count(.sleeps)
            published.goOffline()
            let last = beat()
            heartbeat.fallAsleep()
            // The same, should it happen just here.
            excuse(worker, since: last, until: clinux_monotonic_coarse(), unwatched: unwatched.load(ordering: .relaxed))
            _ = poll(&waiting, nfds_t(waiting.count), recorder?.holdsAny == true ? longestSleepWithRecords : longestSleep)
            if waiting[waiting.count - 1].revents != 0 {
                var told: UInt64 = 0
                _ = read(wake, &told, 8)
            }
            worker.pointee.tell(beat())
            published.goOnline()
            worker.pointee.retryStuckPorts()
        }
        recorder?.finish()
        published.goOffline()
    }
}

/// Somebody may have taken the processor away for so long that the kernel judged.
@inline(__always)
private func excuse(_ worker: UnsafeMutablePointer<Worker>, since last: UInt64, until now: UInt64, unwatched: UInt64) {
    if now > last, now &- last > unwatched { worker.pointee.beginGrace(now) }
}

/// Polls until there was nothing to do for `limit` turns, or the thread is to end.
///
/// Not inlined: `Scripts/check-packet-path` begins here, and `run` around it may call what it likes.
///
/// - Returns: false if it may sleep now.
@inline(never)
#if !DEBUG
@_noLocks @_noAllocation
#endif
private func pollWhileBusy(
    _ worker: UnsafeMutablePointer<Worker>, until stopped: UnsafeMutablePointer<Atomic<Bool>>, _ heartbeat: Heartbeat,
    turnsPerCheck: Int, limit: Int, unwatched: UInt64
) -> Bool {
    var empty = 0
    var turns = 0
    var last = heartbeat.last
    while empty < limit {
        if worker.pointee.poll() > 0 {
            empty = 0
        } else {
            empty &+= 1
            clinux_spin_hint()
        }
        turns &+= 1
        if turns % turnsPerCheck == 0 {
            let now = heartbeat.beat()
            worker.pointee.tell(now)
            excuse(worker, since: last, until: now, unwatched: unwatched)
            last = now
            if stopped.pointee.load(ordering: .relaxed) { return true }
        }
    }
    // What could not be sent yet must be tried again soon.
    return worker.pointee.hasPendingTransmit()
}
