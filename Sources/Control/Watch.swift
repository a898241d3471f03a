// From the records that are learnt from to alerts: detection beside the bridge.
//
//   Recording ─ records in order ─► detector ─ changes ─► log, hook ─► another thread: alerts.sqlite
//
// Nobody waits for either thread. Records that the detector has no time for are counted and lost to it, not to the history.

import Allowlist
import Baseline
import CLinux
import Datapath
import Detection
import Foundation
import Frames
import Glibc
import Logging
import Policy

final class Watch: @unchecked Sendable {
    // Unchecked: `changed` guards all that changes.
    private let changed = NSCondition()
    private let log: Logger
    private let hook: @Sendable (AlertChange) -> Void
    private var state: StatusReport.Detection
    private var opening: Result<Int64, HistoryError>?
    private var policy: PolicyView
    private var hasBegun = false
    private var isEnding = false
    private var hasEnded = false
    /// What waits for the detector.
    private var records: [TrafficRecord] = []
    private var samples: [FrameSample] = []
    private var events: [(event: BridgeEvent, time: UInt64)] = []
    private var nextPolicy: PolicyView?
    /// The latest state of alerts that is not on disk.
    private var unwritten: [Int64: Alert] = [:]
    private var unwrittenFrames: [Int64: [AlertFrame]] = [:]

    private static let pause = 0.05
    private static let mostWaiting = 1 << 18
    private static let mostEvents = 256
    private static let mostSamples = 4096
    /// How long the end waits for the disk, in seconds.
    private static let patience = 5.0

    /// Opens the alerts, by a thread that has no privileges already: what could not be written later fails now.
    ///
    /// - Parameter hook: called for every change, by the detector's thread; it must not wait.
    init(directory: String, policy: PolicyView, log: Logger, hook: @escaping @Sendable (AlertChange) -> Void) throws(HistoryError) {
        self.log = log
        self.hook = hook
        self.policy = policy
        state = StatusReport.Detection(file: directory + "/alerts.sqlite", isReady: false, open: 0, raised: 0, lostRecords: 0)
        Thread.detachNewThread { [self] in run(directory) }
        changed.lock()
        while opening == nil { changed.wait() }
        let opening = opening!
        changed.unlock()
        _ = try opening.get()
    }

    /// Number of the last alert of a process before; 0: there was none.
    var lastBefore: Int64 {
        changed.lock()
        defer { changed.unlock() }
        return (try? opening?.get()) ?? 0
    }

    /// The bridge is there.
    func begin() { change { hasBegun = true } }

    /// - Parameters:
    ///   - more: in order of time, ns since 1970; what is urgent may come before what was earlier.
    ///   - frames: what came of those that did not pass, by CLOCK_MONOTONIC.
    func observe(_ more: [TrafficRecord], _ frames: [FrameSample] = []) {
        if more.isEmpty, frames.isEmpty { return }
        change {
            samples += frames.prefix(max(0, Self.mostSamples - samples.count))
            let room = Self.mostWaiting - records.count
            if more.count <= room { records += more } else {
                records += more.prefix(max(0, room))
                state.lostRecords += UInt64(more.count - max(0, room))
            }
        }
    }

    func observe(_ event: BridgeEvent) {
        change { if events.count < Self.mostEvents { events.append((event, calendarNow())) } }
    }

    func use(_ policy: PolicyView) { change { nextPolicy = policy } }

    var now: StatusReport.Detection {
        changed.lock()
        defer { changed.unlock() }
        return state
    }

    /// Says and writes the rest. No more records may come.
    func finish() {
        change { isEnding = true }
        let end = Date(timeIntervalSinceNow: Self.patience)
        changed.lock()
        while !hasEnded || !unwritten.isEmpty || !unwrittenFrames.isEmpty, changed.wait(until: end) {}
        if !unwritten.isEmpty { log.error("alerts: the disk takes nothing; the last changes of \(unwritten.count) alerts are lost") }
        changed.unlock()
    }

    private func change(_ body: () -> Void) {
        changed.lock()
        body()
        changed.broadcast()
        changed.unlock()
    }

    // MARK: - Detecting

    private func run(_ directory: String) {
        clinux_name_thread("sekisho-detect")
        // Also of the thread that writes: it is started from here.
        _ = clinux_keep_capabilities(0)
        defer { change { hasEnded = true } }
        let store: AlertStore, recent: [Alert], last: Int64
        do throws(HistoryError) {
            store = try AlertStore(directory: directory)
            let week = Date(timeIntervalSinceNow: -7 * 86_400)
            try store.endForgotten(before: week)
            try store.trim(now: Date())
            // A wire is not held up for what was damaged, or written by a later version.
            recent = try store.read(since: week) { [log] in log.warning("alert \($0) in alerts.sqlite is damaged, or of another version; it is not taken up") }
            last = try store.lastID()
            change { opening = .success(last) }
        } catch {
            return change { opening = .failure(error) }
        }
        changed.lock()
        while !hasBegun, !isEnding { changed.wait() }
        changed.unlock()
        // Off the workers' processors, which are known by now.
        _ = clinux_follow_first_thread()
        Thread.detachNewThread { [self] in write(store) }
        var detector = Detector(norms(directory), policy: policy, alerts: recent, nextAlert: last + 1)
        // What reading the history needed.
        clinux_release_memory()
        change { state.isReady = true }
        // Of the last week, for whoever watches after this detector.
        var latest = Dictionary(uniqueKeysWithValues: recent.map { ($0.id, $0) }), lastID = last
        var mode = policy.mode
        var frames = AlertFrames()
        while true {
            changed.lock()
            if !isEnding, records.isEmpty { _ = changed.wait(until: Date(timeIntervalSinceNow: Self.pause)) }
            let (records, samples, events, next, isLast) = (records, samples, events, nextPolicy, isEnding)
            (self.records, self.samples, self.events, nextPolicy) = ([], [], [], nil)
            changed.unlock()
            // Before the records: an alert has its frames from the beginning.
            let offset = calendarOffset()
            frames.add(samples.map { AlertFrame($0, offset: offset) })
            // Frames that came before a change were judged by the policy before it.
            for record in records { detector.observe(record) }
            func take(_ changes: [AlertChange]) {
                for change in changes {
                    latest[change.alert.id] = change.alert
                    lastID = max(lastID, change.alert.id)
                }
                tell(changes, open: detector.open, &frames, knownCards: changes.isEmpty ? [] : detector.knownCards)
            }
            if let next {
                if mode == .learn, next.mode != .learn {
                    // What was learnt until now is what is usual from now on.
                    take(detector.finish(calendarNow()))
                    let week = Date(timeIntervalSinceNow: -7 * 86_400)
                    detector = Detector(
                        norms(directory), policy: next, alerts: latest.values.filter { $0.last > week }.sorted { $0.id < $1.id }, nextAlert: lastID + 1)
                    clinux_release_memory()
                }
                mode = next.mode
                detector.use(next)
            }
            for (event, time) in events { detector.observe(event, at: time) }
            take(isLast ? detector.finish(calendarNow()) : detector.tick(calendarNow()))
            if latest.count > 10_000 {
                let week = Date(timeIntervalSinceNow: -7 * 86_400)
                latest = latest.filter { $0.value.last > week }
            }
            if isLast { return }
        }
    }

    private func norms(_ directory: String) -> Norms {
        do throws(HistoryError) {
            return Norms(try HistoryStore(directory: directory, mayMake: false).read())
        } catch {
            log.error("detecting: \(error); what is usual is not known, so only scans, forged addresses and failures are told")
            return Norms()
        }
    }

    private func tell(_ changes: [AlertChange], open: Int, _ frames: inout AlertFrames, knownCards: Set<MACAddress>) {
        for one in changes {
            let alert = one.alert
            switch one {
            case .raised: log.warning("alert \(alert.id), \(alert.severity.name), \(alert.kind.rawValue): \(alert.story)")
            case .changed: break
            case .ended: log.info("alert \(alert.id), \(alert.kind.rawValue), has ended")
            }
            hook(one)
        }
        let evidence = changes.map { ($0.alert.id, frames.take(for: $0.alert, known: knownCards)) }.filter { !$0.1.isEmpty }
        for case .ended(let alert) in changes { frames.end(alert) }
        change {
            state.open = open
            for (id, more) in evidence { unwrittenFrames[id, default: []] += more }
            for one in changes {
                if case .raised = one { state.raised += 1 }
                unwritten[one.alert.id] = one.alert
            }
        }
    }

    // MARK: - Writing

    private func write(_ store: AlertStore) {
        clinux_name_thread("sekisho-alerts")
        var vendors = VendorCache()
        while true {
            changed.lock()
            while unwritten.isEmpty, unwrittenFrames.isEmpty {
                if hasEnded { return changed.unlock() }
                changed.wait()
            }
            let (batch, frames) = (unwritten, unwrittenFrames)
            changed.unlock()
            do throws(HistoryError) {
                try store.write(batch.values.sorted { $0.id < $1.id }.map { vendors.named($0) })
                for (id, list) in frames {
                    try store.write(list, of: id)
                    change {
                        unwrittenFrames[id]?.removeFirst(list.count)
                        if unwrittenFrames[id]?.isEmpty ?? false { unwrittenFrames[id] = nil }
                    }
                }
                change {
                    // What changed meanwhile is for the next time.
                    for (id, alert) in batch where unwritten[id] == alert { unwritten[id] = nil }
                    if state.error != nil { log.info("alerts: written again to \(store.path)") }
                    state.error = nil
                }
            } catch {
                change {
                    if state.error == nil { log.error("alerts: \(error); tried again every second, nothing is lost yet") }
                    state.error = "\(error)"
                }
                changed.lock()
                let gaveUp = hasEnded
                if !gaveUp { _ = changed.wait(until: Date(timeIntervalSinceNow: 1)) }
                changed.unlock()
                if gaveUp { return }
            }
        }
    }
}

extension AlertFrame {
    /// - Parameter offset: from CLOCK_MONOTONIC to the calendar, ns.
    fileprivate init(_ sample: FrameSample, offset: UInt64) {
        self.init(
            time: sample.time &+ offset, sender: sample.sender, source: sample.source, side: sample.side, cause: sample.cause,
            wireLength: Int(sample.wireLength), bytes: sample.bytes)
    }
}

/// ns since 1970.
func calendarNow() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    // Before 1970 it is 1970.
    return now.tv_sec < 0 ? 0 : UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Lists of makers are long: each card is looked up once.
private struct VendorCache {
    private var names: [MACAddress: String?] = [:]

    mutating func named(_ alert: Alert) -> Alert {
        var alert = alert
        if let written = alert.device?.mac, let mac = MACAddress(written: written) { alert.device?.vendor = name(mac) }
        return alert
    }

    private mutating func name(_ mac: MACAddress) -> String? {
        // Given by whoever runs the network, not by a maker (IEEE 802).
        if mac.rawValue >> 41 & 1 == 1 { return nil }
        if let known = names[mac] { return known }
        if names.count > 4096 { names = [:] }
        let name = Vendors(for: [mac]).name(mac)
        names[mac] = .some(name)
        return name
    }
}

/// From CLOCK_MONOTONIC to the calendar, ns. Of a calendar that is behind even that, nothing.
func calendarOffset() -> UInt64 {
    let monotonic = clinux_monotonic(), now = calendarNow()
    return now > monotonic ? now - monotonic : 0
}
