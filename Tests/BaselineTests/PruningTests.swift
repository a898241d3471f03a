import Allowlist
import Foundation
import Frames
import GRDB
import TestSupport
import Testing

@testable import Baseline

@Suite struct PruningTests {
    /// Sessions on days that are apart, all in one store.
    private func store(_ directory: StateDirectory, days: [(day: Double, client: [UInt8], port: UInt16)]) throws -> (store: HistoryStore, today: Int32) {
        let store = try HistoryStore(directory: directory.path)
        let source = try store.addSource(kind: "capture", name: "x")
        var today: Int32 = 0
        for one in days {
            var talk = Talk()
            talk.time += one.day * 86_400
            talk.session(one.client, 40000, Talk.tool, one.port)
            talk.learner.finish()
            try store.write(talk.learner, source: source)
            today = max(today, Int32(talk.time / 86_400))
        }
        return (store, today)
    }

    private func prune(_ store: HistoryStore, _ start: Pruning) throws -> Pruning {
        var pruning = start
        while !pruning.isDone { try store.prune(&pruning) }
        return pruning
    }

    @Test func oldDaysGoAndAllElseStays() throws {
        let directory = StateDirectory()
        let (store, today) = try store(directory, days: [(0, Talk.mes, 5000), (0, Talk.laptop, 502), (10, Talk.mes, 5000)])
        try store.add(Decision(at: 1, who: "w", why: "y", verdict: .reject))
        try store.add(History.Period(name: "visit", first: 1, last: 2))
        let before = try store.read()
        let done = try prune(store, Pruning(before: today))
        let after = try store.read()
        #expect(before.conversations.count == 2 && after.conversations.map(\.key) == [Talk.key(Talk.mes, Talk.tool, 5000)])
        #expect(after.conversations[0].days == before.conversations[0].days.suffix(1))
        #expect(done.days == 2 && done.conversations == 1 && done.addresses == 1)
        #expect(after.addresses.count == before.addresses.count - 1 && after.hours.allSatisfy { $0 >= Int64(today) * 24 })
        #expect(after.decisions == before.decisions && after.periods.count == 1 && after.sources.count == 1)
        // Nothing more to do, and nothing is done.
        #expect(try prune(store, Pruning(before: today)).days == 0 && store.pruning(keepingDays: 1) == nil)
    }

    @Test func daysWithTrafficCount() throws {
        let directory = StateDirectory()
        // The last one by a clock that was wrong for a while.
        let (store, today) = try store(directory, days: [(0, Talk.mes, 5000), (1, Talk.mes, 5000), (2, Talk.mes, 5000), (9000, Talk.mes, 5000)])
        #expect(try store.pruning(keepingDays: 4) == nil && store.pruning(keepingDays: 400) == nil)
        #expect(try store.pruning(keepingDays: 3)?.before == today - 8999)
        #expect(try prune(store, #require(try store.pruning(keepingDays: 2))).days == 2)
        #expect(try store.read().conversations[0].days.count == 2)
    }

    @Test func aLearnerThatKnowsWhatIsPrunedWritesItAnew() throws {
        let directory = StateDirectory()
        let (store, today) = try store(directory, days: [(0, Talk.mes, 5000), (0, Talk.laptop, 502)])
        var talk = Talk()
        try store.teach(talk.learner)
        #expect(try prune(store, Pruning(before: today + 1)).conversations == 2)
        // Another conversation takes the row that was the last one's.
        let source = try store.addSource(kind: "live", name: "y")
        var other = Talk()
        other.time += 3 * 86_400
        other.session(Talk.mes, 1, Talk.laptop, 22)
        other.learner.finish()
        try store.write(other.learner, source: source)
        talk.time += 5 * 86_400
        talk.session(Talk.mes, 40000, Talk.tool, 5000)
        talk.session(Talk.laptop, 40000, Talk.tool, 502)
        talk.learner.finish()
        try store.write(talk.learner, source: source)
        talk.session(Talk.mes, 40001, Talk.tool, 5000)
        talk.learner.finish()
        try store.write(talk.learner, source: source)
        let history = try store.read()
        #expect(Dictionary(uniqueKeysWithValues: history.conversations.map { ($0.key, $0.connections) }) == [
            Talk.key(Talk.mes, Talk.laptop, 22): 1, Talk.key(Talk.mes, Talk.tool, 5000): 2, Talk.key(Talk.laptop, Talk.tool, 502): 1,
        ])
        #expect(try store.reading { try Int.fetchOne($0, sql: "SELECT count(*) FROM day WHERE conversation NOT IN (SELECT id FROM conversation)") } == 0)
    }

    /// Many pieces, each of which looks at a bounded number of conversations.
    @Test func whoeverWritesMeanwhileIsNotHeldUp() throws {
        let directory = StateDirectory()
        let (store, today) = try store(directory, days: [(0, Talk.mes, 5000)])
        try store.writing { db in
            for id in 10..<3010 {
                try db.execute(
                    sql: "INSERT INTO conversation (id, client, server, family, protocol, service, vlan, orientation) VALUES (?, ?, x'0a030001', 4, 6, 5000, 4096, 1)",
                    arguments: [id, withUnsafeBytes(of: UInt32(id).bigEndian) { Data($0) }])
                try db.execute(sql: "INSERT INTO day VALUES (?, ?, 1, 1, 2, 1, 1, 0, 1, 1, 1, 1, 0)", arguments: [id, today - 5])
            }
        }
        // By another connection, as another process has it, while the pruning goes on.
        let writer = try HistoryStore(directory: directory.path)
        var pruning = Pruning(before: today), pieces = 0
        while !pruning.isDone {
            try store.prune(&pruning)
            pieces += 1
            _ = try writer.addSource(kind: "live", name: "\(pieces)")
        }
        #expect(pieces >= 15 && pruning.conversations == 3000 && pruning.days == 3000)
        #expect(try store.read().conversations.count == 1)
    }
}
