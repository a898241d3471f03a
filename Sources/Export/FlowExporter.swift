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
import Synchronization

public actor FlowExporter {
    /// What may be asked of it at any time.
    public struct Figures: Sendable {
        /// The last export succeeded; nil: there was none yet.
        public var isUp: Bool?
        /// Records since the start.
        public var sent: UInt64 = 0
    }

    private let collector: FlowCollector
    private let directory: String
    private let ledger: FlowLedger
    private let group: any EventLoopGroup
    private let log: Logger
    /// Whether the bridge drops what it denies; nil: it does not say.
    private let isEnforced: @Sendable () async -> Bool?
    private let now: @Sendable () -> Date
    private let state = Mutex(Figures())
    private var history: HistoryStore?
    private var session: FlowSession?
    private var forgotten: Int32?
    /// Since when exports fail.
    private var failingSince: Date?

    /// Conversations of one reading, one sending and one writing.
    static let piece = 2000

    public init(
        _ collector: FlowCollector, directory: String, ledger: FlowLedger, group: any EventLoopGroup, log: Logger,
        isEnforced: @escaping @Sendable () async -> Bool?, now: @escaping @Sendable () -> Date = { Date() }
    ) {
        (self.collector, self.directory, self.ledger, self.group, self.log) = (collector, directory, ledger, group, log)
        (self.isEnforced, self.now) = (isEnforced, now)
    }

    public nonisolated var figures: Figures { state.withLock { $0 } }

    /// Exports until the task is cancelled.
    ///
    /// - Parameter fromStart: a collector that was never told anything is told of yesterday and today, not only of what is to come.
    public func run(fromStart: Bool) async {
        while !Task.isCancelled {
            do {
                let records = try await export(fromStart: fromStart)
                note(succeeded: records)
            } catch {
                if Task.isCancelled { break }
                note(failed: error)
            }
            try? await Task.sleep(for: .seconds(collector.interval))
        }
        session?.close()
        session = nil
    }

    /// Exports once.
    ///
    /// - Returns: the records sent.
    func export(fromStart: Bool) async throws -> Int {
        let today = Int32(clamping: Int64(now().timeIntervalSince1970 / 86_400))
        let first = today - 1
        // Where nothing has been recorded yet, all that will be is new.
        let store = try openHistory()
        let identity = try store?.identity() ?? 0
        let known = try ledger.collector(collector.name)
        // A history that was begun anew counts from 0, whatever was told of the one before.
        let id = if let known, known.history == identity { known.id } else { try ledger.begin(collector.name, history: identity) }
        guard let store else { return 0 }
        let isMarking = known == nil && !fromStart
        if forgotten != first {
            try ledger.forget(before: first)
            forgotten = first
        }
        var sent = 0, after: Int64 = 0, isFirst = true
        var enforced: Bool?, isAsked = false
        while true {
            let (days, last) = try store.standing(from: first, after: after, most: Self.piece)
            guard let last else { return sent }
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
        guard FileManager.default.fileExists(atPath: "\(directory)/history.sqlite") else { return nil }
        let opened = try HistoryStore(directory: directory, mayMake: false)
        history = opened
        return opened
    }

    private func send(_ records: [FlowRecord], withTemplates: Bool) async throws {
        if let session, !session.isOpen { self.session = nil }
        var session = if let session { session } else { try await FlowSession(collector, on: group) }
        do {
            try await session.send(records, withTemplates: withTemplates, at: UInt32(truncatingIfNeeded: Int64(now().timeIntervalSince1970)))
            self.session = session
            state.withLock { $0.sent += UInt64(records.count) }
        } catch {
            session.close()
            self.session = nil
            throw error
        }
    }

    // MARK: - Saying

    private func note(succeeded records: Int) {
        state.withLock { $0.isUp = true }
        guard let since = failingSince else { return }
        failingSince = nil
        log.notice("flow collector \"\(collector.name)\" (\(collector.address)) is back after \(Int(now().timeIntervalSince(since))) s; \(records) records sent")
    }

    private func note(failed error: any Error) {
        state.withLock { $0.isUp = false }
        guard failingSince == nil else { return }
        failingSince = now()
        log.error(
            """
            flow collector "\(collector.name)" (\(collector.address)): \(flowFailure(error))
              → tried again every \(collector.interval) s; what was not sent is sent then, as far back as yesterday
            """)
    }
}

extension FlowGrowth {
    var addresses: [PlacedAddress] {
        [key.client, key.server].map { PlacedAddress(address: $0, family: key.family, vlan: key.vlan) }
    }
}

/// With the errno's name, where there is one.
private func flowFailure(_ error: any Error) -> String {
    switch error {
    case let error as IOError: String(cString: strerror(error.errnoCode))
    case let error as NIOConnectionError:
        error.connectionErrors.first.map { flowFailure($0.error) }
            ?? ((error.dnsAError ?? error.dnsAAAAError).map { "\($0)" } ?? "no address")
    case ChannelError.connectTimeout: "it does not answer"
    case ChannelError.ioOnClosedChannel, ChannelError.alreadyClosed, ChannelError.eof: "the connection was closed"
    default: "\(error)"
    }
}
