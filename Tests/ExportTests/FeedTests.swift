// What is told, when, and by which configuration.

import Baseline
import Crypto
import Detection
import Evidence
import Foundation
import GRDB
import Logging
import Policy
import Synchronization
import Testing

@testable import Export

/// A directory that goes away with the test.
private final class Directory: Sendable {
    let path = NSTemporaryDirectory() + "/sekisho-feed-\(UInt64.random(in: 0 ... .max))"
    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func spool(keeping: Int64 = 1000) throws -> Spool {
        try Spool(directory: path, bridge: "bay3", host: "gate-1", keeping: keeping, log: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    }
}

struct AlertChangeTests {
    private func summary(_ id: Int64, _ kind: String = "scan", _ severity: Int = 2, ended: Bool = false, acknowledged: Bool = false) -> AlertSummary {
        AlertSummary(id: id, kind: kind, severity: severity, last: Date(timeIntervalSince1970: 1_764_000_000), hasEnded: ended, isAcknowledged: acknowledged)
    }

    private func steps(_ now: AlertSummary, before: AlertSummary?) -> [AlertStep] {
        Spool.changes([now], told: before.map { [$0.id: ToldAlert($0)] } ?? [:]).map(\.step)
    }

    @Test func whatIsNewIsTold() {
        #expect(steps(summary(1), before: nil) == [.raised])
        #expect(steps(summary(1, ended: true), before: nil) == [.raised, .ended])
        #expect(steps(summary(1), before: summary(1)) == [])
        #expect(steps(summary(1, "scan", 3), before: summary(1)) == [.changed])
        // It became less grave: no news. It is called otherwise: news.
        #expect(steps(summary(1, "scan", 1), before: summary(1)) == [])
        #expect(steps(summary(1, "spoofing"), before: summary(1)) == [.changed])
        #expect(steps(summary(1, "scan", 3, ended: true), before: summary(1)) == [.changed, .ended])
        #expect(steps(summary(1), before: summary(1, ended: true)) == [.changed])
        #expect(steps(summary(1, acknowledged: true), before: summary(1)) == [.acknowledged])
    }

    /// What was told and forgotten comes up again when the clock is set back; what is new has a higher number.
    @Test func whatWasForgottenIsNotNew() {
        let told = [Int64(7): ToldAlert(summary(7))]
        let found = Spool.changes([summary(5, ended: true), summary(6), summary(8, ended: true)], told: told)
        #expect(found.map(\.id) == [6, 8, 8] && found.map(\.step) == [.raised, .raised, .ended])
    }

    @Test func aTimeToComeDoesNotMoveTheWindow() {
        let now = Date(timeIntervalSince1970: 1_764_000_000), week = 8 * 86_400.0
        func window(_ last: Date) -> Date {
            var one = ToldAlert(summary(1))
            one.last = last
            return Spool.window([1: one], now: FeedMessage.microseconds(now))
        }
        #expect(window(now.addingTimeInterval(86_400 * 4000)) == now.addingTimeInterval(-week))
        #expect(window(now.addingTimeInterval(-60)) == now.addingTimeInterval(-60 - week))
    }
}

struct AlertNoticeTests {
    private let everything = Set(FeedCategory.allCases)

    private func alert(_ id: Int64, at last: Date, hasEnded: Bool = true) throws -> Alert {
        let text = """
            {"id": \(id), "kind": "scan", "severity": "high", "confidence": 0.9, "others": [], "begin": 0, "last": 0, "frames": 1, "attempts": 1,
             "device": {"address": "10.0.0.66", "side": "outside", "isKnown": false, "isMany": false},
             "story": "alert \(id)", "behaviours": [], "techniques": [], "group": "g", "evidence": []}
            """
        var alert = try JSONDecoder().decode(Alert.self, from: Data(text.utf8))
        (alert.begin, alert.last, alert.end) = (last, last, hasEnded ? last : nil)
        return alert
    }

    private func ids(_ spool: Spool) throws -> [String] {
        try spool.messages(after: FeedPosition(), most: 100, events: everything).messages.map(\.message.id)
    }

    private func notice(_ spool: Spool, _ date: Date) throws { try spool.noticeAlerts(at: FeedMessage.microseconds(date)) }

    /// A machine without a battery begins in any year; that must not be the last alert that anybody hears of.
    @Test func aClockThatWasWrongEndsNothing() throws {
        let directory = try Directory(), store = try AlertStore(directory: directory.path), now = Date(timeIntervalSince1970: 1_764_000_000)
        let future = now.addingTimeInterval(86_400 * 3000)
        var spool = try directory.spool()
        try store.write([alert(1, at: now)])
        try notice(spool, now)
        try store.write([alert(2, at: future)])
        try notice(spool, future)
        try store.write([alert(3, at: now.addingTimeInterval(60))])
        try notice(spool, now.addingTimeInterval(60))
        // What is remembered is enough for another process.
        spool = try directory.spool()
        try store.write([alert(4, at: now.addingTimeInterval(120))])
        try notice(spool, now.addingTimeInterval(120))
        let steps = try ids(spool).map { $0.split(separator: "/") }.map { "\($0[2]) \($0[4])" }
        #expect(steps == (1...4).flatMap { ["\($0) raised", "\($0) ended"] })
    }

    /// A disk, or somebody, has spoilt one: the others are told.
    @Test func aDamagedOneKeepsNobodyBack() throws {
        let directory = try Directory(), store = try AlertStore(directory: directory.path), spool = try directory.spool()
        let now = Date(timeIntervalSince1970: 1_764_000_000)
        try store.write([alert(1, at: now, hasEnded: false), alert(2, at: now), alert(3, at: now, hasEnded: false)])
        try DatabaseQueue(path: directory.path + "/alerts.sqlite").write { db in try db.execute(sql: "UPDATE alert SET body = '{' WHERE id = 2") }
        try notice(spool, now)
        try store.write([alert(3, at: now)])
        try notice(spool, now)
        #expect(try ids(spool).map { $0.split(separator: "/") }.map { "\($0[2]) \($0[4])" } == ["1 raised", "3 raised", "3 ended"])
    }

    /// It went on for weeks while others came, and then ended.
    @Test func aLongOneIsToldOnce() throws {
        let directory = try Directory(), store = try AlertStore(directory: directory.path), spool = try directory.spool()
        let now = Date(timeIntervalSince1970: 1_764_000_000), later = now.addingTimeInterval(86_400 * 20)
        try store.write([alert(1, at: now, hasEnded: false)])
        try notice(spool, now)
        try store.write([alert(2, at: later, hasEnded: false)])
        try notice(spool, later)
        try store.write([alert(1, at: later)])
        try notice(spool, later)
        #expect(try ids(spool).map { $0.split(separator: "/")[4] } == ["raised", "raised", "ended"])
    }

    @Test func anotherStoreIsToldAndItsIdsDiffer() throws {
        let directory = try Directory(), now = Date(timeIntervalSince1970: 1_764_000_000)
        try AlertStore(directory: directory.path).write([alert(1, at: now, hasEnded: false), alert(2, at: now, hasEnded: false)])
        try notice(directory.spool(), now)
        for name in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: directory.path + "/alerts.sqlite" + name) }
        let spool = try directory.spool(), later = now.addingTimeInterval(60)
        try AlertStore(directory: directory.path).write([alert(1, at: later, hasEnded: false)])
        try notice(spool, later)
        try notice(spool, later)
        let all = try ids(spool)
        #expect(all.count == 3 && Set(all).count == 3 && all[2] == "bay3/alert/1/3-1764000060000000/raised")
        // A memory that was put back counts on from the same number: the time tells the two apart.
        #expect(try FeedMessage(alert(1, at: now), .raised, change: 3, time: 1, bridge: "bay3", host: "h").id == "bay3/alert/1/3-1/raised")
    }
}

struct SpoolTests {
    private let everything = Set(FeedCategory.allCases)

    @Test func eventsComeInOrderAndInPieces() throws {
        let directory = try Directory(), spool = try directory.spool()
        // No store is there yet.
        #expect(try spool.end().position == FeedPosition())
        let audit = try AuditStore(directory: directory.path)
        try audit.append((1...10).map { AuditEvent($0 % 2 == 0 ? .start : .policyApplied, "event \($0)") })
        #expect(try spool.end().position == FeedPosition(audit: 10))
        var position = FeedPosition(), told: [String] = []
        for _ in 0..<4 {
            let batch = try spool.messages(after: position, most: 3, events: everything)
            told += batch.messages.map(\.message.text)
            position = batch.reached
        }
        #expect(told == (1...10).map { "event \($0)" } && position == FeedPosition(audit: 10))
        // What a destination is not told is passed by.
        let batch = try spool.messages(after: FeedPosition(), most: 10, events: [.operation])
        #expect(batch.messages.map(\.message.text) == ["event 2", "event 4", "event 6", "event 8", "event 10"] && batch.reached.audit == 10)
        #expect(batch.messages.map(\.position.audit) == [2, 4, 6, 8, 10])
        #expect(try spool.count(from: FeedPosition(audit: 3), to: FeedPosition(audit: 9), events: [.operation]) == 3)
    }

    @Test func theMemoryOutlivesTheProcess() throws {
        let directory = try Directory()
        let record = DestinationRecord(position: FeedPosition(audit: 7, alert: 3), auditHash: "ab", sent: 5, refused: 1, skipped: 4, skippedTold: 2)
        try directory.spool().store.save(record, of: "siem")
        #expect(try directory.spool().store.destination("siem") == record)
        #expect(try directory.spool().store.destination("other") == nil)
    }
}

struct DamageTests {
    private let everything = Set(FeedCategory.allCases)

    /// Why: one change that a full disk or a later version left behind must not keep back all that come after it.
    @Test func aChangeThatCannotBeReadIsPassedByAndThatIsTold() throws {
        let directory = try Directory(), spool = try directory.spool()
        try AuditStore(directory: directory.path).append([AuditEvent(.start, "event 1")])
        let text = """
            {"id": 1, "kind": "scan", "severity": "high", "confidence": 0.9, "others": [], "begin": 0, "last": 0, "frames": 1, "attempts": 1,
             "device": {"address": "10.0.0.66", "side": "outside", "isKnown": false, "isMany": false},
             "story": "it scans", "behaviours": [], "techniques": [], "group": "g", "evidence": []}
            """
        let alert = try JSONDecoder().decode(Alert.self, from: Data(text.utf8))
        try spool.store.note([(alert, .raised), (alert, .changed), (alert, .ended)], told: [:], forgotten: [], at: 5, keeping: 100)
        let database = try DatabaseQueue(path: directory.path + "/feed.sqlite")
        try database.write { db in try db.execute(sql: "UPDATE alert_change SET body = '{' WHERE number = 2") }
        let batch = try spool.messages(after: FeedPosition(), most: 10, events: everything)
        #expect(batch.messages.map(\.message.id).dropLast() == ["bay3/alert/1/1-5/raised", "bay3/feed/alert-change/2-5/unreadable", "bay3/alert/1/3-5/ended"])
        #expect(batch.reached == FeedPosition(audit: 1, alert: 3) && batch.messages[1].message.type == "events_skipped")
        // Who is told of no alerts misses none.
        #expect(try spool.messages(after: FeedPosition(), most: 10, events: [.operation]).messages.map(\.message.text) == ["event 1"])
    }

    @Test func aStoreInThePlaceOfAnotherIsSeen() throws {
        let directory = try Directory(), watch = StoreWatch(), path = directory.path + "/audit.sqlite"
        try AuditStore(directory: directory.path).append([AuditEvent(.start, "event 1")])
        let open = try watch.opening(path) { () throws(StateError) in try AuditStore(directory: directory.path, mayMake: false) }
        #expect(watch.replaced == nil)
        for end in ["", "-wal", "-shm"] { try? FileManager.default.moveItem(atPath: path + end, toPath: directory.path + "/aside" + end) }
        // Only gone: it may be about to come back.
        #expect(watch.replaced == nil)
        let other = try watch.opening(path) { () throws(StateError) in try AuditStore(directory: directory.path) }
        #expect(watch.replaced == path)
        withExtendedLifetime((open, other)) {}
    }
}

/// Takes what it is told to take.
private actor FakeExporter: Exporter {
    nonisolated let destination = "fake"
    nonisolated let hasConnection = false
    private(set) var received: [String] = []
    private var unconfirmed = 0
    /// Fails at these sends, counted from 0, after it has received what was sent: as a connection breaks.
    private var failures: Set<Int>
    /// Takes none at these.
    private let idle: Set<Int>
    private let refused: Set<String>
    private var sends = 0

    init(failures: Set<Int> = [], idle: Set<Int> = [], refused: Set<String> = []) { (self.failures, self.idle, self.refused) = (failures, idle, refused) }

    func open() {}
    func send(_ messages: [FeedMessage]) throws(DeliveryFailure) -> Handover {
        defer { sends += 1 }
        if idle.contains(sends) { return Handover(count: 0) }
        let taken = Array(messages.prefix(3))
        received += taken.map(\.text)
        if failures.contains(sends) { throw DeliveryFailure("broken") }
        unconfirmed += taken.count
        var handover = Handover(count: taken.count)
        for (index, one) in taken.enumerated() where refused.contains(one.text) { handover.refused[index] = "no" }
        return handover
    }
    func confirmed() -> Int {
        defer { unconfirmed = 0 }
        return unconfirmed
    }
    func close() -> Int { confirmed() }
}

struct DeliveryTests {
    private func deliver(
        _ exporter: FakeExporter, _ directory: Directory, most: Int64 = 1000, begin: Bool = true, until condition: @escaping @Sendable (DestinationStatus) -> Bool
    ) async throws -> DestinationStatus {
        let board = FeedBoard()
        let delivery = Delivery(
            options: DeliveryOptions(name: "siem", events: Set(FeedCategory.choices), mostWaiting: most, beginsAtStart: begin), kind: "fake", exporter: exporter,
            spool: try directory.spool(), board: board, log: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let task = Task { await delivery.run() }
        for _ in 0..<1000 where board.statuses.first.map(condition) != true { try await Task.sleep(for: .milliseconds(10)) }
        task.cancel()
        await task.value
        return try #require(board.statuses.first)
    }

    @Test func whatBreaksIsSentAgainAndWhatIsRefusedIsLeftOut() async throws {
        let directory = try Directory()
        try AuditStore(directory: directory.path).append((1...10).map { AuditEvent(.start, "event \($0)") })
        let exporter = FakeExporter(failures: [1], refused: ["event 5"])
        let status = try await deliver(exporter, directory) { $0.sent == 9 }
        #expect((status.sent, status.refused, status.skipped) == (9, 1, 0))
        let received = await exporter.received
        #expect(received == (1...6).map { "event \($0)" } + (4...10).map { "event \($0)" })
        // Another process goes on where this one was.
        try AuditStore(directory: directory.path).append([AuditEvent(.stop, "event 11")])
        let second = FakeExporter()
        _ = try await deliver(second, directory) { $0.sent == 10 }
        #expect(await second.received == ["event 11"])
    }

    @Test func whoTakesNothingForNowIsAskedAgain() async throws {
        let directory = try Directory()
        try AuditStore(directory: directory.path).append((1...5).map { AuditEvent(.start, "event \($0)") })
        let exporter = FakeExporter(idle: [0, 2])
        _ = try await deliver(exporter, directory) { $0.sent == 5 }
        #expect(await exporter.received == (1...5).map { "event \($0)" })
    }

    @Test func theOldestAreSkippedAndThatIsSaid() async throws {
        let directory = try Directory()
        try AuditStore(directory: directory.path).append((1...10).map { AuditEvent(.start, "event \($0)") })
        let exporter = FakeExporter()
        let status = try await deliver(exporter, directory, most: 4) { $0.sent == 5 }
        #expect(await exporter.received == ["6 events were not sent to siem: more waited than are kept", "event 7", "event 8", "event 9", "event 10"])
        #expect(status.skipped == 6)
    }

    @Test func itBeginsNowUnlessItIsToldOtherwise() async throws {
        let directory = try Directory()
        let audit = try AuditStore(directory: directory.path)
        try audit.append([AuditEvent(.start, "before")])
        let exporter = FakeExporter()
        let head = try audit.head()
        _ = try await deliver(exporter, directory, begin: false) { status in
            guard status.waiting == 0, status.sent == 0 else { return status.sent == 1 }
            if (try? audit.head()) == head { _ = try? audit.append([AuditEvent(.start, "after")]) }
            return false
        }
        #expect(await exporter.received == ["after"])
    }

    /// As when a state directory is made anew beside the feed's memory.
    @Test func anotherLogIsToldFromItsBeginning() async throws {
        let directory = try Directory()
        try AuditStore(directory: directory.path).append((1...5).map { AuditEvent(.start, "event \($0)") })
        _ = try await deliver(FakeExporter(), directory) { $0.sent == 5 }
        for name in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: directory.path + "/audit.sqlite" + name) }
        try AuditStore(directory: directory.path).append((1...7).map { AuditEvent(.start, "other \($0)") })
        let exporter = FakeExporter()
        _ = try await deliver(exporter, directory) { $0.sent == 12 }
        #expect(await exporter.received == (1...7).map { "other \($0)" })
    }
}

struct BackoffTests {
    @Test func timesGrowAndEnd() {
        var backoff = Backoff()
        let times = (0..<12).map { _ in backoff.next() }
        #expect(times[0] < .milliseconds(251) && times[0] > .milliseconds(149))
        #expect(times.allSatisfy { $0 <= .seconds(37.5) } && times[11] >= .seconds(22.5))
        // What a destination asks for holds, in reason.
        #expect(backoff.next(asked: .seconds(100)) == .seconds(100) && backoff.next(asked: .seconds(99_999)) == .seconds(300))
        backoff.reset()
        #expect(backoff.next() < .milliseconds(251))
    }
}

struct WebhookTests {
    /// By `printf '1764000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    @Test func theSignatureIsWhatOthersCompute() {
        #expect(
            WebhookExporter.signature(Array(#"{"a":1}"#.utf8), timestamp: "1764000000", SymmetricKey(data: Array("0123456789abcdef".utf8)))
                == "sha256=19b692a3b3faad0515d4b643aa46cb06d55d8258053f2ffb472c2134aa59171c")
    }

    @Test func retryAfterIsSecondsOrADate() {
        let now = Date(timeIntervalSince1970: 1_764_000_000)
        #expect(WebhookExporter.duration("120", now: now) == .seconds(120))
        #expect(WebhookExporter.duration("Mon, 24 Nov 2025 16:00:30 GMT", now: now) == .seconds(30))
        #expect(WebhookExporter.duration("Mon, 24 Nov 2025 15:00:30 GMT", now: now) == .zero)
        #expect(WebhookExporter.duration("soon", now: now) == nil && WebhookExporter.duration("-5", now: now) == nil)
    }
}

struct EndpointTests {
    @Test(arguments: [
        ("tls://10.0.9.5:6514", "tls://10.0.9.5:6514"), ("tls://siem.fab.example", "tls://siem.fab.example:6514"), ("udp://[2001:db8::5]", "udp://[2001:db8::5]:514"),
        ("udp://[2001:db8::5]:5140", "udp://[2001:db8::5]:5140"), ("tcp://h:1", "tcp://h:1"),
    ]) func isRead(_ text: String, _ written: String) { #expect(Endpoint(text, usual: [.udp: 514, .tls: 6514])?.written == written) }

    @Test(arguments: [
        "", "tls", "tls:/a", "http://a:1", "tcp://a", "tcp://a:0", "tcp://a:65536", "tcp://a:x", "tcp://:1", "tcp://a b:1", "tcp://[::1:1", "tcp://[a]:1", "tcp://a/b:1",
        "tcp://u@a:1", "tcp://a:1/", "tcp://2001:db8::5:1", "TLS://a:1",
    ]) func isRefused(_ text: String) { #expect(Endpoint(text, usual: [.udp: 514, .tls: 6514]) == nil) }
}

struct FeedConfigTests {
    private func problems(_ text: String) -> [String] { FeedConfigReader.read(Array(text.utf8)).diagnostics.map { $0.rendered(file: "f") } }

    @Test func aWholeFileIsRead() throws {
        let text = """
            version = 1
            bridge = "gate"
            [[syslog]]
            name = "siem"
            to = "tls://10.0.9.5"
            format = "cef"
            ca = "/ca.pem"
            server_name = "siem.fab.example"
            events = ["alert", "system_error"]
            facility = "audit"
            most_waiting = 5
            begin = "start"
            [[webhook]]
            name = "soar"
            url = "https://10.0.9.6/sekisho"
            secret_file = "/s"
            [[file]]
            name = "lines"
            path = "-"
            """
        let reading = FeedConfigReader.read(Array(text.utf8))
        let config = try #require(reading.config), siem = config.syslog[0]
        #expect(reading.diagnostics.isEmpty && config.bridge == "gate")
        #expect(siem.to == Endpoint(transport: .tls, host: "10.0.9.5", port: 6514) && siem.format == .cef && siem.facility == 13 && siem.longest == 8192)
        #expect(siem.delivery.events == [.alert, .systemError] && siem.delivery.mostWaiting == 5 && siem.delivery.beginsAtStart)
        #expect(siem.tls == TLSOptions(ca: "/ca.pem", serverName: "siem.fab.example"))
        #expect(config.webhooks[0].timeoutSeconds == 10 && config.files[0].format == .json && !config.files[0].delivery.beginsAtStart)
    }

    @Test func everyProblemIsFound() {
        let found = problems("""
            version = 1
            [[syslog]]
            name = "a"
            to = "tcp://10.0.0.1:1"
            key = "/k"
            formt = "cef"
            [[file]]
            name = "a"
            path = "relative"
            most_waiting = 0
            """)
        #expect(found.count == 6, "\(found)")
        #expect(found.contains { $0.hasPrefix("f:6:1: error: unknown key \"formt\"") && $0.hasSuffix("did you mean \"format\"?") })
        #expect(found.contains { $0.hasPrefix("f:10:") })
    }

    @Test func noFileCrashesIt() {
        let whole = "version = 1\n[[syslog]]\nname = \"a\"\nto = \"tls://10.0.0.1\"\nevents = [\"alert\"]\n[[webhook]]\nname = \"b\"\nurl = \"https://x/\"\n"
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            var bytes = Array(whole.utf8)
            for _ in 0..<Int.random(in: 1...6, using: &random) { bytes[Int.random(in: 0..<bytes.count, using: &random)] = "[]=\"'\n1a.{},# \u{0}".utf8.randomElement(using: &random)! }
            _ = FeedConfigReader.read(bytes)
        }
    }
}
