// What there is to tell, in order: the audit log's events and the changes of alerts. The stores themselves are the spool: nothing is copied but what
// alerts.sqlite does not keep.

import Baseline
import Detection
import Evidence
import Foundation
import Logging
import Synchronization

/// Messages, each with where a destination stands that has it.
struct SpoolBatch: Sendable {
    var messages: [(message: FeedMessage, position: FeedPosition)] = []
    /// Behind the last message, and behind what the destination is not told.
    var reached: FeedPosition
}

final class Spool: Sendable {
    let store: FeedStore
    private let directory: String
    let bridge: String
    let host: String
    private let log: Logger
    private let watch: StoreWatch
    private let stores = Mutex(Stores())
    private let told: Mutex<[Int64: ToldAlert]>
    /// Changes of alerts that are kept for all destinations.
    private let keeping: Int64

    /// Opened when they are there: a bridge may not have made them yet.
    private struct Stores {
        var audit: AuditStore?
        var alerts: AlertStore?
        /// What was said of each; nil: all is well.
        var problems: [String: String] = [:]
        /// Changes that were said not to be readable.
        var unreadable: Set<Int64> = []
    }

    init(directory: String, bridge: String, host: String, keeping: Int64, log: Logger, watch: StoreWatch = StoreWatch()) throws(StateError) {
        (self.directory, self.bridge, self.host, self.keeping, self.log, self.watch) = (directory, bridge, host, keeping, log, watch)
        store = try watch.opening(directory + "/feed.sqlite") { () throws(StateError) in try FeedStore(directory: directory) }
        told = Mutex(try store.told())
    }

    // MARK: - The stores

    private func audit() throws(StateError) -> AuditStore? {
        if let open = stores.withLock({ $0.audit }) { return open }
        guard FileManager.default.fileExists(atPath: directory + "/audit.sqlite") else { return nil }
        let opened = try watch.opening(directory + "/audit.sqlite") { () throws(StateError) in try AuditStore(directory: directory, mayMake: false) }
        stores.withLock { $0.audit = opened }
        return opened
    }

    private func alerts() throws(StateError) -> AlertStore? {
        if let open = stores.withLock({ $0.alerts }) { return open }
        guard FileManager.default.fileExists(atPath: directory + "/alerts.sqlite") else { return nil }
        let opened = try watch.opening(directory + "/alerts.sqlite") { () throws(StateError) in try AlertStore(directory: directory, mayMake: false) }
        stores.withLock { $0.alerts = opened }
        return opened
    }

    /// Says once what is wrong with a store, and once that it is well again.
    func report(_ what: String, _ error: StateError?) {
        let before = stores.withLock { all in
            defer { all.problems[what] = error?.description }
            return all.problems[what]
        }
        if let error, before == nil { log.error("\(what): \(error); tried again") }
        if error == nil, before != nil { log.info("\(what): readable again") }
    }

    // MARK: - Changes of alerts

    /// Looks what has become of alerts since the last time, and writes it down.
    func noticeAlerts(at now: Int64 = FeedMessage.microseconds(Date())) throws(StateError) {
        guard let alerts = try alerts() else { return }
        let remembered = told.withLock { $0 }
        // Numbers only rise: where the last one is gone, they have begun again, and what is remembered is of others.
        let isOther = if let last = remembered.keys.max() { try alerts.lastID() < last } else { false }
        let known = isOther ? [:] : remembered
        let highest = known.keys.max() ?? 0
        let window = Self.window(known, now: now)
        var summaries = try alerts.summaries(since: window, after: highest)
        let found = Set(summaries.map(\.id))
        // One that was left open by a bridge that is no more is ended later, without anything new.
        for (id, one) in known where !one.hasEnded && one.last < window && !found.contains(id) {
            if let left = try alerts.summary(id) { summaries.append(left) }
        }
        let changes = Self.changes(summaries, told: known)
        let changed = Set(changes.map(\.id))
        let fresh = Dictionary(uniqueKeysWithValues: summaries.filter { changed.contains($0.id) }.map { ($0.id, ToldAlert($0)) })
        // The highest stays: by it is known which are new.
        let forgotten = isOther
            ? remembered.keys.filter { fresh[$0] == nil }
            : known.filter { $0.value.hasEnded && $0.value.last < window && $0.key != highest }.map(\.key)
        guard !changes.isEmpty || !forgotten.isEmpty else { return }
        var full: [(alert: Alert, step: AlertStep)] = [], damaged: Set<Int64> = []
        for change in changes {
            guard var alert = try alerts.read(change.id, damaged: { damaged.insert($0) }) else { continue }
            // It went on and ended before anybody looked: it was not always over.
            if change.step == .raised { alert.end = nil }
            full.append((alert, change.step))
        }
        // They must not keep back the others.
        for id in damaged.sorted() { log.error("alert \(id) is damaged in alerts.sqlite; it is not told") }
        try store.note(full, told: fresh, forgotten: forgotten, at: now, keeping: keeping)
        told.withLock { all in
            all.merge(fresh) { $1 }
            for id in forgotten { all[id] = nil }
        }
        if isOther { log.warning("alerts: the store is not the one that was told of before; all of it is told") }
    }

    /// Older alerts do not change any more: a detector takes up those of the last week after a restart.
    ///
    /// - Parameter now: microseconds since 1970. A clock may have been wrong when an alert was written: none is of later than now.
    static func window(_ told: [Int64: ToldAlert], now: Int64) -> Date {
        min(told.values.lazy.map(\.last).max() ?? .distantPast, Date(timeIntervalSince1970: Double(now) / 1e6)).addingTimeInterval(-8 * 86_400)
    }

    /// What others do not know yet, in order.
    static func changes(_ summaries: [AlertSummary], told: [Int64: ToldAlert]) -> [(id: Int64, step: AlertStep)] {
        var changes: [(id: Int64, step: AlertStep)] = []
        let highest = told.keys.max() ?? 0
        for one in summaries {
            guard let before = told[one.id] else {
                // Told and forgotten, and the clock was set back.
                if one.id <= highest, one.hasEnded { continue }
                changes.append((one.id, .raised))
                if one.hasEnded { changes.append((one.id, .ended)) }
                if one.isAcknowledged { changes.append((one.id, .acknowledged)) }
                continue
            }
            // That there is more of it is no news; that it is graver, or begins again, is.
            if one.severity > before.severity || one.kind != before.kind || before.hasEnded && !one.hasEnded { changes.append((one.id, .changed)) }
            if one.hasEnded, !before.hasEnded { changes.append((one.id, .ended)) }
            if one.isAcknowledged, !before.isAcknowledged { changes.append((one.id, .acknowledged)) }
        }
        return changes
    }

    // MARK: - Messages

    /// Where a destination stands that has all there is.
    func end() throws(StateError) -> (position: FeedPosition, auditHash: String) {
        let head = try audit()?.head()
        return (FeedPosition(audit: head?.number ?? 0, alert: try store.lastChange()), head?.hash ?? "")
    }

    /// nil: there is no such event.
    func auditHash(_ number: Int64) throws(StateError) -> String? {
        guard number > 0 else { return "" }
        return try audit()?.records(number...number).first?.hash
    }

    /// The next messages for a destination; what it is not told is passed by.
    func messages(after position: FeedPosition, most: Int, events: Set<FeedCategory>) throws(StateError) -> SpoolBatch {
        let records = try audit()?.records(position.audit + 1...position.audit + Int64(most)) ?? []
        let notices = try store.changes(after: position.alert, most: most)
        var batch = SpoolBatch(reached: position)
        var (record, notice) = (0, 0)
        // Each in its own order; between the two by time, as far as clocks go.
        while record + notice < most, record < records.count || notice < notices.count {
            var message: FeedMessage?
            if notice == notices.count || record < records.count && records[record].time <= notices[notice].time {
                message = FeedMessage(records[record], bridge: bridge, host: host)
                batch.reached.audit = records[record].number
                record += 1
            } else {
                let one = notices[notice]
                if let alert = one.alert {
                    message = FeedMessage(alert, one.step, change: one.number, time: one.time, bridge: bridge, host: host)
                } else if events.contains(.alert) {
                    message = FeedMessage(unreadable: one.number, time: one.time, bridge: bridge, host: host)
                    sayUnreadable(one.number)
                }
                batch.reached.alert = one.number
                notice += 1
            }
            if let message, message.category == .feed || events.contains(message.category) { batch.messages.append((message, batch.reached)) }
        }
        return batch
    }

    private func sayUnreadable(_ number: Int64) {
        let isNew = stores.withLock { $0.unreadable.insert(number).inserted }
        guard isNew else { return }
        log.error("alerts: change \(number) in the memory of the feed \(store.path) is not as this program writes them; it is left out, and that is told")
    }

    /// How many messages a destination misses that goes on at `to`.
    func count(from: FeedPosition, to: FeedPosition, events: Set<FeedCategory>) throws(StateError) -> Int64 {
        var count: Int64 = 0
        if from.audit < to.audit, let audit = try audit() {
            count += try audit.count(from.audit + 1...to.audit, categories: events.filter { $0 != .alert }.map(\.rawValue))
        }
        if events.contains(.alert) { count += max(0, to.alert - from.alert) }
        return count
    }
}
