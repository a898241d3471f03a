// From what happens in the bridge to the audit log on disk, by a thread of its own. Nobody who forwards, answers or watches waits
// for it: a disk that is slow or full holds up the writing only. What waits is bounded, and what finds no room is counted there.

import Baseline
import CLinux
import Evidence
import Foundation
import Glibc
import Logging
import Policy

final class AuditTrail: @unchecked Sendable {
    /// What is to be written.
    enum Entry: Sendable {
        case event(AuditEvent)
        /// A policy came into use: what it changes is found out by the thread that writes, for that may take long.
        case applied(AppliedPolicy, version: UInt64, mode: String, before: PolicyDocument?, who: String, fields: [String: String], time: Int64)

        /// Roughly, in memory.
        var bytes: Int {
            switch self {
            case .event(let event): 500 + event.fields.values.reduce(0) { $0 + $1.utf8.count }
            // The document takes about as much as the text, and the one before it is kept as well.
            case .applied(let policy, _, _, _, _, _, _): 2000 + 3 * policy.text.count
            }
        }
    }

    // Unchecked: `changed` guards all that changes.
    private let changed = NSCondition()
    private let log: Logger
    private var state: StatusReport.Audit
    private var waiting: [Entry] = []
    private var bytes = 0
    /// Entries that were given, and those that are on the disk.
    private var given: UInt64 = 0
    private var written: UInt64 = 0
    private var isEnding = false
    private var hasEnded = false
    private let store: AuditStore

    /// What was in use last, by the log.
    let lastVersion: PolicyVersion?
    let lastNumber: UInt64
    let lastMode: String?
    private var lastDocument: PolicyDocument?

    /// What waits at the most, unless it is a single entry.
    private static let mostBytes = 64 << 20
    /// How long the end waits for the disk, in seconds.
    private static let patience = 10.0

    /// Opens the log, by a thread that has no privileges already: what could not be written later fails now.
    init(directory: String, log: Logger) throws(StateError) {
        self.log = log
        let opener = Opener(directory)
        let opened = try opener.result()
        store = opened.store
        (lastVersion, lastNumber, lastMode) = (opened.version, opened.number, opened.mode)
        lastDocument = opened.text.flatMap { PolicyReader.read($0, now: AuditEvent.now / 1_000_000).document }
        state = StatusReport.Audit(file: opened.store.path, events: opened.head.number, head: opened.head.hash, lost: 0)
        Thread.detachNewThread { [self] in run() }
    }

    /// Reads what is there.
    private final class Opener: @unchecked Sendable {
        struct Opened {
            var store: AuditStore
            var head: AuditHead
            var version: PolicyVersion?
            var number: UInt64
            var mode: String?
            var text: [UInt8]?
        }

        private let done = NSCondition()
        private var outcome: Result<Opened, StateError>?

        init(_ directory: String) {
            Thread.detachNewThread { [self] in
                clinux_name_thread("sekisho-audit")
                _ = clinux_keep_capabilities(0)
                let found: Result<Opened, StateError>
                do throws(StateError) { found = .success(try Self.open(directory)) } catch { found = .failure(error) }
                done.lock()
                outcome = found
                done.signal()
                done.unlock()
            }
        }

        private static func open(_ directory: String) throws(StateError) -> Opened {
            let store = try AuditStore(directory: directory)
            // Also that it can be written.
            try store.append([])
            let version = try store.lastVersion()
            var text: [UInt8]?
            // A text that was changed is found by the check; it does not keep the bridge from starting.
            if let version { text = try? store.text(of: version.sha256) }
            return Opened(
                store: store, head: try store.head(), version: version, number: try store.lastNumber() ?? 0, mode: try store.lastMode(), text: text)
        }

        func result() throws(StateError) -> Opened {
            done.lock()
            while outcome == nil { done.wait() }
            let outcome = outcome!
            done.unlock()
            return try outcome.get()
        }
    }

    /// Never waits.
    func add(_ entry: Entry) {
        changed.lock()
        if waiting.isEmpty || bytes + entry.bytes <= Self.mostBytes {
            waiting.append(entry)
            bytes += entry.bytes
            given += 1
            changed.broadcast()
        } else {
            state.lost += 1
        }
        changed.unlock()
    }

    func add(_ type: AuditType, _ description: String, who: String = AuditEvent.bridge, _ fields: [String: String] = [:]) {
        add(.event(AuditEvent(type, description, who: who, fields: fields)))
    }

    /// Waits for what was added until now to be on the disk, for a while.
    ///
    /// - Returns: whether it is.
    func settle(seconds: Double) -> Bool {
        let end = Date(timeIntervalSinceNow: seconds)
        changed.lock()
        defer { changed.unlock() }
        let aim = given
        while written < aim, !hasEnded, state.error == nil, changed.wait(until: end) {}
        return written >= aim
    }

    /// The policy that was in use last, once: it may be large.
    func takeLastDocument() -> PolicyDocument? {
        changed.lock()
        defer { changed.unlock() }
        return lastDocument.take()
    }

    /// A policy that was applied once, by a number that it had, also without rules that had expired. By a thread that may wait for the disk.
    func version(_ number: UInt64) throws -> (version: PolicyVersion, text: [UInt8]) {
        guard let version = try store.versions().last(where: { $0.number <= number }) else {
            throw ControlFailure("the audit log \(store.path) has no version \(number)\n  → sekisho versions lists them")
        }
        guard let text = try store.text(of: version.sha256) else {
            throw ControlFailure("the audit log \(store.path) has lost the text of version \(number)\n  → sekisho audit verify")
        }
        return (version, text)
    }

    /// Writes what waits, and says the last hash.
    func finish() {
        let end = Date(timeIntervalSinceNow: Self.patience)
        changed.lock()
        isEnding = true
        changed.broadcast()
        while !hasEnded, changed.wait(until: end) {}
        let (hasEnded, missing) = (hasEnded, waiting.count)
        changed.unlock()
        if !hasEnded || missing > 0 { log.error("audit log: the disk takes nothing; its last \(missing) events are lost") }
        sayHead()
    }

    var now: StatusReport.Audit {
        changed.lock()
        defer { changed.unlock() }
        return state
    }

    /// For whoever keeps the log of this process: the audit log cannot be cut at its end, or written anew, without that being seen.
    private func sayHead() {
        let now = now
        log.info("audit log: \(now.events) events, head \(now.head)")
    }

    // MARK: - Writing

    private func run() {
        clinux_name_thread("sekisho-audit")
        _ = clinux_keep_capabilities(0)
        defer {
            changed.lock()
            hasEnded = true
            changed.broadcast()
            changed.unlock()
        }
        check()
        var saidOn = Self.today
        while true {
            changed.lock()
            // A minute: for the day's end.
            if waiting.isEmpty, !isEnding { _ = changed.wait(until: Date(timeIntervalSinceNow: 60)) }
            let entries = waiting
            let (isLast, lost) = (isEnding, state.lost)
            changed.unlock()
            // Off the workers' processors, once they have theirs.
            _ = clinux_follow_first_thread()
            if entries.isEmpty {
                if isLast { return }
            } else if !write(entries, lost: lost) {
                // At the end there is one attempt.
                if isLast { return }
                changed.lock()
                if !isEnding { _ = changed.wait(until: Date(timeIntervalSinceNow: 1)) }
                changed.unlock()
            }
            if Self.today != saidOn {
                saidOn = Self.today
                sayHead()
            }
        }
    }

    private static var today: Int64 { AuditEvent.now / 86_400_000_000 }

    /// A log that somebody has changed is written on: what happens from now on must not be lost with it.
    private func check() {
        do throws(StateError) {
            let check = try AuditCheck(store)
            guard let problem = check.problems.first else { return }
            let place = problem.number.map { "event \($0): " } ?? ""
            log.error("audit log: it is not what was written (\(check.problemCount) findings): \(place)\(problem.text); see sekisho audit verify")
            add(.logDamaged, "the audit log is not what was written: \(place)\(problem.text)", ["findings": "\(check.problemCount)"])
        } catch {
            log.error("audit log: it cannot be checked: \(error)")
        }
    }

    /// - Returns: whether they are on the disk.
    private func write(_ entries: [Entry], lost: UInt64) -> Bool {
        var events: [AuditEvent] = []
        var texts: [[UInt8]] = []
        for entry in entries {
            switch entry {
            case .event(let event): events.append(event)
            case .applied(let policy, let version, let mode, let before, let who, let fields, let time):
                events.append(PolicyChange.event(policy, version: version, mode: mode, after: before, who: who, fields: fields, time: time))
                if !policy.text.isEmpty { texts.append(policy.text) }
            }
        }
        if lost > 0 {
            events.append(AuditEvent(.eventsLost, "\(lost) events found no room while the disk took nothing", fields: ["events": "\(lost)"]))
        }
        do throws(StateError) {
            let head = try store.append(events, texts: texts)
            changed.lock()
            if state.error != nil { log.info("audit log: written again to \(store.path)") }
            state.error = nil
            state.lastWritten = Date()
            (state.events, state.head) = (head.number, head.hash)
            state.lost -= lost
            waiting.removeFirst(entries.count)
            bytes = waiting.reduce(0) { $0 + $1.bytes }
            written += UInt64(entries.count)
            changed.broadcast()
            changed.unlock()
            return true
        } catch {
            changed.lock()
            if state.error == nil { log.error("audit log: \(error); tried again every second, nothing is lost yet") }
            state.error = "\(error)"
            changed.broadcast()
            changed.unlock()
            return false
        }
    }
}
