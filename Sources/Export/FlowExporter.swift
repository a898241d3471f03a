// Tells a flow collector what conversations have carried: every so often what was added to the history since the last time.
//
//     history ─► counts as they stand ─┐
//     ledger  ─► counts as told ───────┴─► growth ─► records ─► messages ─► collector, then the ledger
//
// There is no queue: while a collector is away the counts grow, and when it is back one record has all of it. The days that are
// looked at are today and the one before.

import Baseline
import Foundation
import Frames
import Logging
import NIOCore
import NIOPosix

actor FlowExporter: FeedService {
    nonisolated let name: String
    private let collector: FlowCollector
    private let directory: String
    private let ledger: FlowLedger
    private let watch: StoreWatch
    private let group: any EventLoopGroup
    private let board: FeedBoard
    private let log: Logger
    private let askBridge: @Sendable () -> String?
    private let now: @Sendable () -> Date
    private var status: DestinationStatus
    private var history: HistoryStore?
    private var session: FlowSession?
    private var forgetting = FlowForgetting()
    private var downSince: ContinuousClock.Instant?

    /// Conversations of one reading, one sending and one writing.
    private static let piece = 2000

    /// - Parameters:
    ///   - directory: the bridge's state directory.
    ///   - askBridge: its metrics; nil: it does not answer. It may take a while.
    ///   - now: the time, for days and messages.
    init(
        _ collector: FlowCollector, directory: String, ledger: FlowLedger, group: any EventLoopGroup, board: FeedBoard, log: Logger,
        askBridge: @escaping @Sendable () -> String?, watch: StoreWatch = StoreWatch(), now: @escaping @Sendable () -> Date = { Date() }
    ) {
        name = collector.name
        (self.collector, self.directory, self.ledger, self.group, self.board, self.log) = (collector, directory, ledger, group, board, log)
        (self.askBridge, self.watch, self.now) = (askBridge, watch, now)
        status = DestinationStatus(name: collector.name, kind: "ipfix", destination: collector.to.written)
    }

    func run() async {
        while !Task.isCancelled {
            do { note(sent: try await export()) } catch {
                if Task.isCancelled { break }
                note(failure: (error as? StateError)?.description ?? SyslogExporter.text(of: error))
            }
            try? await Task.sleep(for: .seconds(collector.interval))
        }
        session?.close()
        session = nil
    }

    /// Exports once.
    ///
    /// - Returns: the records sent.
    func export() async throws -> Int {
        let today = Int32(clamping: Int64(now().timeIntervalSince1970 / 86_400))
        let first = today - 1
        // Where nothing has been recorded yet, all that will be is new.
        let store = try openHistory()
        let identity = try store?.identity() ?? 0
        let known = try ledger.collector(collector.name)
        // All of it or nothing: where it did not come to the end it begins once more.
        let isMarking = store != nil && !collector.beginsAtStart && (known == nil || known?.history == FlowLedger.isMarking)
        // A history that was begun anew counts from 0, whatever was told of the one before.
        let id = if let known, known.history == identity { known.id } else {
            try ledger.begin(collector.name, history: isMarking ? FlowLedger.isMarking : identity)
        }
        guard let store else { return 0 }
        if forgetting.isDue(before: first, at: .now) {
            try ledger.forget(before: first)
            forgetting.done = first
        }
        var sent = 0, after: Int64 = 0, isFirst = true
        var enforced: Bool?, isAsked = false
        while true {
            try Task.checkCancellation()
            let (days, last) = try store.standing(from: first, after: after, most: Self.piece)
            guard let last else {
                if isMarking { try ledger.endMarking(id, history: identity) }
                return sent
            }
            let told = try ledger.told(id, after + 1...last)
            after = last
            var news: [(FlowLedger.Place, FlowCounts)] = [], growths: [FlowGrowth] = []
            for day in days {
                let place = FlowLedger.Place(row: day.row, day: day.day.day), before = told[place], counts = FlowCounts(day.day)
                if before == counts { continue }
                news.append((place, counts))
                if !isMarking, let growth = FlowGrowth(day, told: before) { growths.append(growth) }
            }
            if !growths.isEmpty {
                if !isAsked, growths.contains(where: { $0.added.denied > 0 }) {
                    enforced = await isEnforced()
                    isAsked = true
                }
                let uses = try store.lastUses(of: Set(growths.flatMap(\.addresses)))
                let records = growths.flatMap { $0.records(uses, isEnforced: enforced) }
                try await send(records, withTemplates: isFirst)
                isFirst = false
                sent += records.count
            }
            try ledger.tell(id, news)
        }
    }

    private func openHistory() throws(StateError) -> HistoryStore? {
        if let history { return history }
        let path = "\(directory)/history.sqlite"
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let opened = try watch.opening(path) { () throws(StateError) in try HistoryStore(directory: directory, mayMake: false) }
        history = opened
        return opened
    }

    private func send(_ records: [FlowRecord], withTemplates: Bool) async throws {
        if let session, !session.isOpen { self.session = nil }
        var session = if let session { session } else { try await FlowSession(collector, on: group) }
        do {
            try await session.send(records, withTemplates: withTemplates, at: UInt32(truncatingIfNeeded: Int64(now().timeIntervalSince1970)))
            self.session = session
            status.sent += Int64(records.count)
        } catch {
            session.close()
            self.session = nil
            throw error
        }
    }

    /// Whether the bridge drops what it denies; nil: it does not answer.
    private func isEnforced() async -> Bool? {
        let text = (try? await NIOThreadPool.singleton.runIfActive { [askBridge] in askBridge() }) ?? nil
        return text.map { Self.isEnforced($0) }
    }

    /// - Parameter metrics: the bridge's.
    static func isEnforced(_ metrics: String) -> Bool {
        metrics.split(separator: "\n").contains { $0.hasPrefix("sekisho_info{mode=\"enforce\",") }
    }

    // MARK: - Saying

    private func note(sent records: Int) {
        if let since = downSince {
            log.info("\(name): up again after \((ContinuousClock.now - since).components.seconds) s; \(records) flow records sent")
        } else if status.isUp == nil {
            log.info("\(name): flows go to \(collector.to.written) every \(collector.interval) s")
        }
        (status.isUp, status.problem, downSince) = (true, nil, nil)
        board.set(status)
    }

    private func note(failure: String) {
        if status.isUp != false {
            downSince = .now
            log.warning("\(name): down, \(collector.to.written): \(failure); tried again every \(collector.interval) s, nothing since yesterday is lost")
        }
        (status.isUp, status.problem) = (false, failure)
        board.set(status)
    }
}

/// When what was told of days before is forgotten: a clock that is two days ahead for a moment must not take today's away.
struct FlowForgetting {
    /// Days before this one are forgotten.
    var done: Int32?
    private var waiting: (day: Int32, since: ContinuousClock.Instant)?

    /// A day must have stood for so long.
    static let patience = Duration.seconds(3600)

    /// - Parameter first: the first day that is looked at now.
    mutating func isDue(before first: Int32, at now: ContinuousClock.Instant) -> Bool {
        if done == first {
            waiting = nil
            return false
        }
        guard let waiting, waiting.day == first else {
            waiting = (first, now)
            return false
        }
        return now - waiting.since >= Self.patience
    }
}

extension FlowGrowth {
    var addresses: [PlacedAddress] {
        [key.client, key.server].map { PlacedAddress(address: $0, family: key.family, vlan: key.vlan) }
    }
}
