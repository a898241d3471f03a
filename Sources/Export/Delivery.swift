// From the spool to one destination: in order, again and again until it is taken, and never more kept than was said.

import Baseline
import Foundation
import Logging

struct Delivery: FeedService {
    let options: DeliveryOptions
    let kind: String
    let exporter: any Exporter
    let spool: Spool
    let board: FeedBoard
    let log: Logger

    var name: String { options.name }

    func run() async {
        var run = DeliveryRun(self)
        await run.go()
    }

    func reopen() async { await exporter.reopen() }
}

/// Tries again after ever longer times, each a little different, so that many do not come all at once.
struct Backoff: Sendable {
    private(set) var tries = 0

    mutating func next(asked: Duration? = nil) -> Duration {
        // 0.2 s, doubled up to 30 s. What a destination asks for holds, up to five minutes.
        let usual = min(30.0, 0.2 * Double(1 << min(tries, 10))) * Double.random(in: 0.75...1.25)
        tries += 1
        return max(.seconds(usual), min(asked ?? .zero, .seconds(300)))
    }

    mutating func reset() { tries = 0 }
}

/// What goes on for one destination; used by one task.
private struct DeliveryRun {
    private let delivery: Delivery
    private var record = DestinationRecord(position: FeedPosition(), auditHash: "")
    /// As it is on disk.
    private var saved: DestinationRecord?
    private var status: DestinationStatus
    /// Behind what was handed over.
    private var handedOver = FeedPosition()
    /// Of what was handed over and is not confirmed: where it stands, and how many of the skipped are said with it.
    private var inFlight: [(position: FeedPosition, skippedTold: Int64?, isRefused: Bool)] = []
    private var isOpen = false
    private var openedAt = ContinuousClock.now
    private var downSince: ContinuousClock.Instant?
    private var backoff = Backoff()
    /// Refusals that were not logged.
    private var quietRefusals = 0
    private var saysRefusalsAfter = ContinuousClock.now
    private var saidSkipping = false

    /// Handed over at once.
    private static let batch = 256
    /// Not confirmed at the most: then it waits. A place takes some 40 octets.
    private static let window = 20_000
    /// Between two looks, where there is nothing to do.
    private static let pause = Duration.milliseconds(200)

    init(_ delivery: Delivery) {
        self.delivery = delivery
        status = DestinationStatus(name: delivery.name, kind: delivery.kind, destination: delivery.exporter.destination)
    }

    private var log: Logger { delivery.log }

    mutating func go() async {
        while !Task.isCancelled {
            do throws(StateError) {
                try begin()
                break
            } catch {
                delivery.spool.report("\(delivery.name): state directory", error)
                try? await Task.sleep(for: .seconds(1))
            }
        }
        while !Task.isCancelled {
            var wait = Self.pause
            do {
                if try await step() { wait = .zero }
                delivery.spool.report("\(delivery.name): state directory", nil)
            } catch let failure as DeliveryFailure {
                if Task.isCancelled { break }
                wait = await fail(failure)
            } catch let error as StateError {
                delivery.spool.report("\(delivery.name): state directory", error)
                wait = .seconds(1)
            } catch { break }
            tell()
            if wait > .zero { try? await Task.sleep(for: wait) }
        }
        confirm(await delivery.exporter.close())
        do throws(StateError) { try save() } catch { log.error("\(delivery.name): \(error); what it has is told again") }
        tell()
    }

    // MARK: - Where it stands

    private mutating func begin() throws(StateError) {
        let end = try delivery.spool.end()
        if let known = try delivery.spool.store.destination(delivery.name) {
            record = known
            saved = known
            let hash = try delivery.spool.auditHash(known.position.audit)
            if hash != known.auditHash {
                log.warning("\(delivery.name): the audit log is not the one that was told before; it is told from its beginning")
                (record.position.audit, record.auditHash) = (0, "")
            }
            if known.position.alert > end.position.alert { record.position.alert = end.position.alert }
        } else if delivery.options.beginsAtStart {
            record = DestinationRecord(position: FeedPosition(), auditHash: "")
        } else {
            record = DestinationRecord(position: end.position, auditHash: end.auditHash)
        }
        handedOver = record.position
        try save()
    }

    private mutating func save() throws(StateError) {
        guard saved != record else { return }
        if saved?.position.audit != record.position.audit { record.auditHash = try delivery.spool.auditHash(record.position.audit) ?? "" }
        try delivery.spool.store.save(record, of: delivery.name)
        saved = record
    }

    private mutating func tell() {
        (status.sent, status.refused, status.skipped) = (record.sent, record.refused, record.skipped)
        delivery.board.set(status)
    }

    // MARK: - Handing over

    /// - Returns: whether there may be more to do at once.
    private mutating func step() async throws -> Bool {
        let end = try delivery.spool.end().position
        if inFlight.isEmpty, isTooMuch(end) { try skip(to: end) }
        status.waiting = max(0, end.audit - record.position.audit) + max(0, end.alert - record.position.alert)
        if !isOpen {
            try await delivery.exporter.open()
            (isOpen, openedAt) = (true, .now)
        }
        // Before more is handed over: what follows at once would keep it from being seen.
        confirm(try await delivery.exporter.confirmed())
        var didSomething = false
        if inFlight.count < Self.window, !isTooMuch(end) {
            let batch = try delivery.spool.messages(after: handedOver, most: Self.batch, events: delivery.options.events)
            var messages = batch.messages.map { (message: $0.message, position: $0.position, told: Int64?.none) }
            let told = inFlight.last(where: { $0.skippedTold != nil })?.skippedTold ?? record.skippedTold
            if record.skipped > told {
                let spool = delivery.spool
                messages.insert(
                    (
                        FeedMessage(
                            skipped: record.skipped - told, total: record.skipped, to: delivery.name, time: FeedMessage.microseconds(Date()),
                            bridge: spool.bridge, host: spool.host), handedOver, record.skipped
                    ), at: 0)
            }
            if !messages.isEmpty {
                let done = try await delivery.exporter.send(messages.map(\.message))
                for (index, one) in messages.prefix(done.count).enumerated() {
                    inFlight.append((one.position, one.told, done.refused[index] != nil))
                    if let reason = done.refused[index] { refuse(one.message, reason) }
                }
                if done.count > 0 {
                    handedOver = done.count >= messages.count ? batch.reached : messages[done.count - 1].position
                    didSomething = true
                }
            } else if handedOver != batch.reached {
                handedOver = batch.reached
                didSomething = true
            }
        }
        confirm(try await delivery.exporter.confirmed())
        // What it is not told is behind it as well.
        if inFlight.isEmpty { record.position = handedOver }
        try save()
        // Whoever is down is up again when it has taken something, or stays: many a peer lets one in only to hang up.
        if delivery.exporter.hasConnection, ContinuousClock.now - openedAt > (downSince == nil ? .seconds(2) : .seconds(30)) { isUp() }
        return didSomething
    }

    private mutating func confirm(_ count: Int) {
        guard count > 0, count <= inFlight.count else { return }
        for one in inFlight.prefix(count) {
            if one.isRefused { record.refused += 1 } else { record.sent += 1 }
            if let told = one.skippedTold { record.skippedTold = told }
        }
        record.position = inFlight[count - 1].position
        inFlight.removeFirst(count)
        isUp()
    }

    /// Whether more waits than is kept.
    private func isTooMuch(_ end: FeedPosition) -> Bool {
        max(end.audit - handedOver.audit, end.alert - handedOver.alert) > delivery.options.mostWaiting
    }

    /// Leaves out the oldest. Nothing is on its way.
    private mutating func skip(to end: FeedPosition) throws(StateError) {
        let from = record.position, most = delivery.options.mostWaiting
        let to = FeedPosition(audit: max(from.audit, end.audit - most), alert: max(from.alert, end.alert - most))
        let count = try delivery.spool.count(from: from, to: to, events: delivery.options.events)
        (record.position, handedOver) = (to, to)
        record.skipped += count
        if !saidSkipping, count > 0 {
            saidSkipping = true
            log.warning("\(delivery.name): more than \(most) wait; the oldest are skipped")
        }
        try save()
    }

    // MARK: - How it fares

    private mutating func isUp() {
        backoff.reset()
        guard status.isUp != true else { return }
        if let since = downSince {
            let seconds = Int((ContinuousClock.now - since).components.seconds)
            log.info("\(delivery.name): up again after \(seconds) s; \(status.waiting) waited, \(record.skipped) were skipped ever")
        } else {
            log.info("\(delivery.name): up, \(delivery.exporter.destination)")
        }
        (status.isUp, status.problem, downSince, saidSkipping) = (true, nil, nil, false)
    }

    /// - Returns: how long to wait.
    private mutating func fail(_ failure: DeliveryFailure) async -> Duration {
        // What was not confirmed before goes again, even if the end might have confirmed it.
        _ = await delivery.exporter.close()
        (isOpen, inFlight, handedOver) = (false, [], record.position)
        if status.isUp != false {
            downSince = .now
            log.warning("\(delivery.name): down, \(delivery.exporter.destination): \(failure); tried again until it is up")
        }
        (status.isUp, status.problem) = (false, failure.description)
        return backoff.next(asked: failure.retryAfter)
    }

    private mutating func refuse(_ message: FeedMessage, _ reason: String) {
        quietRefusals += 1
        guard ContinuousClock.now >= saysRefusalsAfter else { return }
        log.error("\(delivery.name): \(message.id) is refused: \(reason); it is left out\(quietRefusals > 1 ? " (and \(quietRefusals - 1) before it)" : "")")
        (quietRefusals, saysRefusalsAfter) = (0, .now + .seconds(60))
    }
}
