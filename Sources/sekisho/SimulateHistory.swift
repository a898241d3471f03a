import Allowlist
import Baseline
import Foundation
import Frames
import Policy

/// `simulate POLICY --state DIR`.
extension Simulate {
    struct HistoryReport: Encodable {
        struct Denied: Encodable {
            var client: String
            var server: String
            var service: String
            var cause: String
            var first: String
            var last: String
            var days: Int
            var connections: UInt64
            var frames: UInt64
            var review: [String]
        }
        var policy: String
        var conversations: Int
        var connections: UInt64
        var denied_conversations: Int
        var denied_connections: UInt64
        var expected_false_blocks_per_week: Double
        var expected_false_blocks_per_week_bound: Double?
        var denied: [Denied]
        var unused_rules: [String]
    }

    func simulateHistory(_ state: String, _ table: CompiledTable, _ document: PolicyDocument, _ compiled: CompiledPolicy) throws {
        let (history, review) = try times.history(state)
        // A scanner's attempts are meant to be denied; all else counts as a false block.
        let simulation = HistorySimulation(history, review, table) { review.isEvidence($0) || review.isFileTransfer($0) }
        let (expected, bound) = simulation.perWeek
        let denied = simulation.denied.map { one in
            let seen = history.conversations[one.conversation]
            return HistoryReport.Denied(
                client: seen.key.client.written(seen.key.family), server: seen.key.server.written(seen.key.family),
                service: seen.key.range.written, cause: one.cause.name,
                first: Output.time(seen.first),
                last: Output.time(seen.last), days: seen.days.count, connections: seen.connections,
                frames: seen.frames, review: review.reasons[one.conversation].map(\.name))
        }.sorted { $0.connections > $1.connections }
        let report = HistoryReport(
            policy: document.name, conversations: history.conversations.count, connections: simulation.days.reduce(0) { $0 + $1.connections },
            denied_conversations: denied.count, denied_connections: denied.reduce(0) { $0 + $1.connections }, expected_false_blocks_per_week: expected,
            expected_false_blocks_per_week_bound: bound.isFinite ? bound : nil, denied: denied,
            unused_rules: zip(compiled.ruleNames, simulation.rules).filter { $0.1 == 0 }.map(\.0))
        if json { return try Output.json(report) }
        let days = simulation.days
        print(
            "\(Output.grouped(UInt64(report.conversations))) recorded conversations under \"\(document.name)\", on \(days.count) day\(days.count == 1 ? "" : "s")"
                + (days.isEmpty ? "" : ": \(Output.day(days.first!.day)) to \(Output.day(days.last!.day))"))
        print(
            "would deny \(Output.grouped(UInt64(denied.count))) conversations, \(Output.grouped(report.denied_connections)) connections; false blocks to expect: "
                + "\(Self.number(expected)) a week, at most \(bound.isFinite ? Self.number(bound) : "?") (95 %)")
        if !denied.isEmpty {
            print(
                "\n"
                    + Output.table(
                        denied.prefix(40).map {
                            [$0.client, $0.server, $0.service, $0.cause, Output.grouped($0.connections), String($0.days), String($0.last.prefix(16)), $0.review.joined(separator: ", ")]
                        }, header: ["client", "server", "service", "why", "connections", "days", "last", "look at"], numbers: [4, 5]))
            if denied.count > 40 { print("… and \(denied.count - 40) more: --json has them all") }
            print("\nOn which days:\n" + Output.table(days.filter { $0.denied > 0 }.suffix(14).map { [Output.day($0.day), Output.grouped($0.denied), Output.grouped($0.connections)] }, header: ["day", "denied", "of"], numbers: [1, 2]))
        }
        if !report.unused_rules.isEmpty { print("\nrules that nothing recorded needs: \(report.unused_rules.joined(separator: ", "))") }
    }

    private static func number(_ value: Double) -> String { value >= 10 ? String(Int(value.rounded(.up))) : String(format: "%.1f", value) }
}
