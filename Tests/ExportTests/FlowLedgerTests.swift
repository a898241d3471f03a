// What collectors are known to have been told, when a clock is wrong and when the feed ends in the middle.

import Baseline
import Foundation
import Logging
import NIOPosix
import Testing

@testable import Export

struct FlowForgettingTests {
    /// Why: an hour in a wrong year must not make a collector count today twice.
    @Test func aDayMustStandForAnHour() {
        var forgetting = FlowForgetting()
        let start = ContinuousClock.now
        func isDue(_ day: Int32, _ seconds: Int) -> Bool { forgetting.isDue(before: day, at: start + .seconds(seconds)) }
        #expect(!isDue(100, 0) && !isDue(100, 3599))
        #expect(isDue(100, 3600))
        forgetting.done = 100
        #expect(!isDue(100, 9000))
        // Ahead and back, and days later that day comes.
        #expect(!isDue(102, 9001))
        #expect(!isDue(100, 9002))
        #expect(!isDue(102, 99_000))
        #expect(isDue(102, 102_600))
    }
}

struct FlowMarkingTests {
    private let directory = NSTemporaryDirectory() + "/sekisho-flows-\(UInt64.random(in: 0 ... .max))"

    private func exporter(_ ledger: FlowLedger, begin: Bool = false) -> FlowExporter {
        FlowExporter(
            FlowCollector(
                name: "flows", to: Endpoint(transport: .udp, host: "127.0.0.1", port: 9), interval: 1, observationDomain: 1, beginsAtStart: begin),
            directory: directory, ledger: ledger, group: MultiThreadedEventLoopGroup.singleton, board: FeedBoard(),
            log: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }), askBridge: { nil })
    }

    /// Why: half of a year's conversations marked, and the other half told as if they were new.
    @Test func aMarkingThatWasCutOffBeginsOnceMore() async throws {
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let history = try HistoryStore(directory: directory)
        _ = try history.addSource(kind: "test", name: "test")
        let identity = try history.identity(), ledger = try FlowLedger(directory: directory)
        #expect(identity > 0)
        let cutOff = Task { [one = exporter(ledger)] in
            withUnsafeCurrentTask { $0?.cancel() }
            return try await one.export()
        }
        await #expect(throws: CancellationError.self) { try await cutOff.value }
        let begun = try #require(try ledger.collector("flows"))
        #expect(begun.history == FlowLedger.isMarking)
        let place = FlowLedger.Place(row: 1, day: 20_000)
        try ledger.tell(begun.id, [(place, FlowCounts(framesOut: 1, framesIn: 0, bytesOut: 64, bytesIn: 0, denied: 0, last: 1))])
        #expect(try await exporter(ledger).export() == 0)
        let marked = try #require(try ledger.collector("flows"))
        #expect(marked.id == begun.id && marked.history == identity)
        #expect(try ledger.told(begun.id, 1...1).isEmpty)
        // What is marked stays so.
        try ledger.tell(begun.id, [(place, FlowCounts(framesOut: 1, framesIn: 0, bytesOut: 64, bytesIn: 0, denied: 0, last: 1))])
        #expect(try await exporter(ledger).export() == 0)
        #expect(try ledger.told(begun.id, 1...1).count == 1)
        // Asked to begin at the start meanwhile, it is told all.
        _ = try ledger.begin("flows", history: FlowLedger.isMarking)
        #expect(try await exporter(ledger, begin: true).export() == 0)
        #expect(try ledger.collector("flows")?.history == identity)
    }
}
