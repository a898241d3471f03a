// What the audit log says of a period: versions, times in each mode and failure state, orders, counts; and whether it is intact.

import Baseline
import Evidence
import Foundation

public struct LogEvidence: Sendable {
    /// Of one failure state.
    struct Failure: Sendable {
        var state: String
        /// What the policy had frames come to, as far as it was told.
        var actions: Set<String> = []
        var times: UInt64 = 0
        /// Known of them; the log tells only the last duration of several that came unseen.
        var seconds = 0.0
        var first: UInt64 = 0
        var last: UInt64 = 0
        var isOpen = false
    }

    struct Count: Sendable {
        var category: String
        var type: String
        var count: UInt64 = 0
        var first: UInt64
        var last: UInt64
    }

    /// Of the whole log, to its end.
    public let check: AuditCheck
    public let file: String
    /// All, also of later than the period.
    let versions: [PolicyVersion]
    /// Applied in the period, or in use when it began.
    let versionsInPeriod: [PolicyVersion]
    let versionInUse: PolicyVersion?
    let modeAtEnd: String?
    let counts: [Count]
    let failures: [Failure]
    /// Seconds by mode while a bridge ran.
    let modes: [(mode: String, seconds: Double)]
    /// quarantine, release, isolate.
    let orders: [AuditRecord]
    /// policy_refused, signature_refused, access_refused: the first of them, and how many there are.
    let refusals: [AuditRecord]
    let refusalCount: UInt64
    /// Starts, and how many of them found that no stop had been written.
    let starts: UInt64
    let startsWithoutStop: UInt64
    let store: AuditStore

    private static let mostRefusals = 10_000

    /// - Parameters:
    ///   - from: nanoseconds since 1970; nil: from its beginning.
    ///   - to: not included.
    init(_ store: AuditStore, from: UInt64?, to: UInt64) throws(StateError) {
        self.store = store
        file = store.path
        check = try AuditCheck(store)
        let versions = try store.versions()
        self.versions = versions
        let (begin, end) = (Int64((from ?? 0) / 1000), Int64(to / 1000))
        let before = versions.filter { $0.time < end }
        versionInUse = before.last
        // The one that was in use when the period began belongs to it.
        versionsInPeriod = before.enumerated().filter { $0.offset + 1 == before.count || before[$0.offset + 1].time > begin }.map(\.element)
        var reading = Reading(begin: begin, end: end)
        try store.forEach(times: 0..<end) { reading.take($0) }
        reading.finish()
        modeAtEnd = reading.mode
        counts = reading.counts.values.sorted { ($0.category, $0.type) < ($1.category, $1.type) }
        failures = reading.failures.values.filter { $0.times > 0 }.sorted { $0.state < $1.state }
        modes = reading.modes.map { (mode: $0.key, seconds: $0.value) }.sorted { $0.mode < $1.mode }
        (orders, refusals, refusalCount) = (reading.orders, reading.refusals, reading.refusalCount)
        (starts, startsWithoutStop) = (reading.starts, reading.startsWithoutStop)
    }

    /// Also while no worker judged; where the log does not say what became of frames then, or is not all that happened, it cannot be told.
    var isEnforcedThroughout: Bool {
        let isWhole = !counts.contains { [AuditType.eventsLost.rawValue, AuditType.logDamaged.rawValue].contains($0.type) }
        return isWhole && !modes.isEmpty && modes.allSatisfy { $0.mode == "enforce" }
            && failures.allSatisfy { !$0.actions.isEmpty && !$0.actions.contains("open") }
    }

    /// Goes through the events in order. Times are microseconds since 1970, as the log has them.
    private struct Reading {
        let begin: Int64
        let end: Int64
        var mode: String?
        var counts: [String: Count] = [:]
        var failures: [String: Failure] = [:]
        var modes: [String: Double] = [:]
        var orders: [AuditRecord] = []
        var refusals: [AuditRecord] = []
        var refusalCount: UInt64 = 0
        var starts: UInt64 = 0
        var startsWithoutStop: UInt64 = 0
        private var runsSince: Int64?
        private var last: Int64 = 0
        private var openSince: [String: (time: Int64, action: String?)] = [:]
        /// The bridge has made way for one whose start has not come yet.
        private var hasMadeWay = false
        /// Between the last word of a bridge and a start that found no stop: the stop of one that made way may come yet.
        private var gap: (from: Int64, to: Int64, mode: String)?

        /// A stop that comes later after a start than this (microseconds) is not that of a bridge that made way for it.
        private static let longestHandover: Int64 = 60_000_000

        init(begin: Int64, end: Int64) { (self.begin, self.end) = (begin, end) }

        mutating func take(_ record: AuditRecord) {
            let time = record.time, isInPeriod = time >= begin
            switch AuditType(rawValue: record.type) {
            case .start:
                // Of a bridge that takes over and the one that makes way, either may write first.
                gap = nil
                if let since = runsSince {
                    if hasMadeWay {
                        count(until: time)
                    } else {
                        count(until: last)
                        if let mode { gap = (max(last, since), time, mode) }
                        if isInPeriod { startsWithoutStop += 1 }
                    }
                }
                hasMadeWay = false
                if isInPeriod { starts += 1 }
                mode = record.fields["mode"] ?? mode
                runsSince = time
            case .stop:
                if record.fields["reason"]?.hasPrefix("made way") == true {
                    if let gap, time - gap.to <= Self.longestHandover {
                        // The start that came before was no end of anything.
                        add(gap.mode, from: gap.from, to: gap.to)
                        if gap.to >= begin, startsWithoutStop > 0 { startsWithoutStop -= 1 }
                    } else {
                        hasMadeWay = true
                    }
                } else {
                    count(until: time)
                    closeFailures(at: time)
                    runsSince = nil
                    hasMadeWay = false
                }
                gap = nil
            case .policyApplied, .modeChanged, .ruleExpired, .ruleReturned:
                if let new = record.fields["mode"], new != mode {
                    count(until: time)
                    if runsSince != nil { runsSince = time }
                    mode = new
                }
            case .failureEntered:
                let state = record.fields["state"] ?? ""
                if isInPeriod {
                    carry(state)
                    note(state, record, times: record.fields["times"].flatMap { UInt64($0) } ?? 1)
                }
                openSince[state] = (time, record.fields["action"])
            case .failureLeft:
                let state = record.fields["state"] ?? ""
                let lasted = record.fields["lasted"].flatMap { Double($0.split(separator: " ").first ?? "") }.flatMap { $0.isFinite ? $0 / 1000 : nil } ?? 0
                if isInPeriod {
                    carry(state)
                    // Those that nobody saw begin.
                    note(state, record, times: openSince[state] == nil ? record.fields["times"].flatMap { UInt64($0) } ?? 1 : 0)
                    failures[state]?.seconds += max(0, min(lasted, Double(time - begin) / 1e6))
                }
                openSince[state] = nil
            case .quarantine, .release, .isolate: if isInPeriod { orders.append(record) }
            case .policyRefused, .signatureRefused, .accessRefused:
                if isInPeriod {
                    refusalCount += 1
                    if refusals.count < LogEvidence.mostRefusals { refusals.append(record) }
                }
            default: break
            }
            last = max(last, time)
            if isInPeriod {
                let moment = UInt64(microseconds: time)
                counts[record.type, default: Count(category: record.category, type: record.type, first: moment, last: moment)].count += 1
                counts[record.type]?.last = moment
            }
        }

        mutating func finish() {
            // The log has no stop: the bridge runs, or was killed and nobody has written since.
            count(until: hasMadeWay ? last : end)
            let open = openSince.keys
            closeFailures(at: end)
            for state in open { failures[state]?.isOpen = true }
        }

        /// A failure that was there when the period began belongs to it.
        private mutating func carry(_ state: String) {
            guard let since = openSince[state], since.time < begin else { return }
            let moment = UInt64(microseconds: begin)
            var failure = failures[state] ?? Failure(state: state, first: moment, last: moment)
            failure.times &+= 1
            if let action = since.action { failure.actions.insert(action) }
            failures[state] = failure
        }

        private mutating func note(_ state: String, _ record: AuditRecord, times: UInt64) {
            let moment = UInt64(microseconds: record.time)
            var failure = failures[state] ?? Failure(state: state, first: moment)
            failure.times &+= times
            failure.last = moment
            if let action = record.fields["action"] { failure.actions.insert(action) }
            failures[state] = failure
        }

        private mutating func closeFailures(at time: Int64) {
            for (state, since) in openSince {
                if time > begin { carry(state) }
                failures[state]?.seconds += max(0, Double(time - max(since.time, begin)) / 1e6)
            }
            openSince = [:]
        }

        private mutating func count(until time: Int64) {
            guard let since = runsSince, let mode else { return }
            add(mode, from: since, to: time)
        }

        private mutating func add(_ mode: String, from since: Int64, to time: Int64) {
            let seconds = Double(min(time, end) - max(since, begin)) / 1e6
            if seconds > 0 { modes[mode, default: 0] += seconds }
        }
    }
}

extension UInt64 {
    /// Nanoseconds since 1970, of a time as the audit log has it. A log that somebody has changed may hold any number.
    init(microseconds: Int64) { self = Swift.min(UInt64(Swift.max(0, microseconds)), 9_000_000_000_000_000) * 1000 }
}
