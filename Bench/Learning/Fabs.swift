// A generated fab: learn two weeks, with a worm in the second, propose, and judge the third.

import Allowlist
import Baseline
import FabLearning
import FabTraffic
import Foundation
import Frames

struct Fabs {
    let sizes: [Int]
    let seeds: Int
    let budgets: [Int]

    private static let learnt = 14 * 24

    struct Outcome {
        var connections: UInt64 = 0
        var deniedConnections: UInt64 = 0
        var malicious: UInt64 = 0
        var maliciousPassed: UInt64 = 0
        var byLabel: [String: (seen: UInt64, passed: UInt64)] = [:]
        var missed: [String: UInt64] = [:]
        var missedAfterAll: [String: UInt64] = [:]
        /// Denied connections, by variant.
        var others: [Int: UInt64] = [:]
        /// Connections of maintenance visits, and those that are denied by variant.
        var maintenance: UInt64 = 0
        var othersMaintenance: [Int: UInt64] = [:]
        /// Malicious records that pass, by variant.
        var othersMalicious: [Int: UInt64] = [:]
    }

    func run() throws {
        for tools in sizes {
            var within = 0
            for seed in 1...seeds {
                if one(tools: tools, seed: UInt64(seed)) { within += 1 }
            }
            if seeds > 1 { print("\(tools) tools: actual unseen share within the predicted bound in \(within) of \(seeds) fabs\n") }
        }
    }

    /// - Returns: whether the prediction held.
    private func one(tools: Int, seed: UInt64) -> Bool {
        var scenario = FabScenario(tools: tools)
        scenario.seed = seed
        // One of each in the second week, and again in the third.
        scenario.attacks = FabScenario.everyAttack(from: 9 * 24) + FabScenario.everyAttack(from: 16 * 24)
        let fab = FabTraffic(scenario)
        print("\(tools) tools, seed \(seed): \(fab.truth.rules.count) rules of its own, \(grouped(fab.truth.conversations.count)) conversations")

        let learner = Learner(connections: 1 << 17)
        var days: [LearntDay] = []
        var worm: Set<ConversationKey> = []
        let (_, learning) = timed {
            fab.runHours(0..<Self.learnt) { records in
                for one in records {
                    learner.learn(one.record)
                    if one.label == .worm, one.record.tcpFlags.opensConnection {
                        worm.insert(ConversationKey(opening: one.record))
                    }
                }
                days += learner.drain()
            }
            learner.finish()
            days += learner.drain()
        }
        let ((made, review, proposal), proposing) = timed {
            let made = history(learner, days)
            let review = Review(made)
            return (made, review, Proposal(made, review))
        }
        let complete = Completeness(
            made, review, made.conversations.indices, Completeness.ObservedTime(made.hours, zone: TimeZone(secondsFromGMT: 0)!))
        var approved = fab.truth.approving(made, review, proposal)
        let person = Proposal(approved, review)
        let places = Dictionary(uniqueKeysWithValues: made.conversations.enumerated().map { ($0.element.key, $0.offset) })
        var variants = [("by itself", proposal), ("a person approves what is right", person)]
        for budget in budgets { variants.append(("… and gives away \(grouped(budget)) permissions", Proposal(approved, review, budget: budget))) }
        approved.decisions += fab.standIns
        variants.append(("… and says who stands in for whom", Proposal(approved, review)))
        let allowed = variants.map { Allowed($0.1) }

        // A rule's name, and why its connection is not allowed.
        func why(_ one: FabRecord) -> String {
            let name = one.rule >= 0 ? fab.truth.rules[Int(one.rule)].name.prefix { !$0.isNumber }.trimmingCharacters(in: .whitespaces) : "-"
            let reasons = places[ConversationKey(opening: one.record)].map { review.reasons[$0].map(\.name).joined(separator: "+") } ?? "never seen"
            return "\(name) (\(reasons.isEmpty ? "its sender's MAC address" : reasons))"
        }
        var outcome = Outcome()
        var unseen: UInt64 = 0
        fab.runHours(Self.learnt..<Self.learnt + 7 * 24) { records in
            for one in records {
                let record = one.record
                let passes = allowed[0].passes(record)
                if one.label.isMalicious {
                    outcome.malicious += 1
                    for i in 1..<allowed.count where allowed[i].passes(record) { outcome.othersMalicious[i, default: 0] += 1 }
                    if passes { outcome.maliciousPassed += 1 }
                    let old = outcome.byLabel["\(one.label)"] ?? (0, 0)
                    outcome.byLabel["\(one.label)"] = (old.seen + 1, old.passed + (passes ? 1 : 0))
                    continue
                }
                // A connection is its first request.
                guard record.form == .ipv4, record.ipProtocol == .tcp ? record.tcpFlags.opensConnection : !record.marks.contains(.neverForward) else { continue }
                let isRequest = record.ipProtocol == .tcp || fab.truth.rule(
                    client: UInt32(truncatingIfNeeded: record.source.low), server: UInt32(truncatingIfNeeded: record.destination.low), record.ipProtocol,
                    record.destinationPort) != nil
                guard isRequest else { continue }
                outcome.connections += 1
                if one.label == .maintenance { outcome.maintenance += 1 }
                for i in 1..<allowed.count where !allowed[i].passes(record) {
                    outcome.others[i, default: 0] += 1
                    if one.label == .maintenance { outcome.othersMaintenance[i, default: 0] += 1 }
                }
                if let last = allowed.last, !last.passes(record) { outcome.missedAfterAll[why(one), default: 0] += 1 }
                if !passes {
                    outcome.deniedConnections += 1
                    outcome.missed[why(one), default: 0] += 1
                    if places[ConversationKey(opening: record)] == nil { unseen += 1 }
                }
            }
        }
        report(fab, learner, made, proposal, complete, outcome, worm, variants, unseen, learning, proposing)
        let actual = outcome.connections == 0 ? 0 : Double(unseen) / Double(outcome.connections)
        return actual <= complete.unseenBound
    }

    private func report(
        _ fab: FabTraffic, _ learner: Learner, _ made: History, _ proposal: Proposal, _ complete: Completeness, _ outcome: Outcome,
        _ worm: Set<ConversationKey>, _ variants: [(String, Proposal)], _ unseen: UInt64, _ learning: Double, _ proposing: Double
    ) {
        let frames = learner.counts.frames
        func share(_ part: UInt64, _ whole: UInt64) -> String { whole == 0 ? "-" : String(format: "%.5f %%", 100 * Double(part) / Double(whole)) }
        let allowed = Allowed(proposal)
        let kept = worm.count { allowed.allows($0) }
        let reasons = Dictionary(grouping: proposal.waiting.flatMap(\.reasons), by: \.name).mapValues(\.count).sorted { $0.value > $1.value }
        print(
            """
              learnt        \(grouped(frames)) frames in \(String(format: "%.1f", learning)) s: \(grouped(made.conversations.count)) conversations, \(grouped(proposal.waiting.count)) wait
                            (\(reasons.map { "\($0.key) \(grouped($0.value))" }.joined(separator: ", ")))
              proposed      \(proposal.rules.count) rules in \(String(format: "%.1f", proposing)) s (\(String(format: "%.2f", Double(proposal.rules.count) / Double(fab.truth.rules.count))) × its own), \(proposal.rules.reduce(0) { $0 + $1.unobserved }) permissions unobserved; conversations of the worm in it: \(kept) of \(grouped(worm.count))
              third week    legitimate connections denied: \(grouped(outcome.deniedConnections)) of \(grouped(outcome.connections)) (\(share(outcome.deniedConnections, outcome.connections)))
                            malicious records denied: \(share(outcome.malicious - outcome.maliciousPassed, outcome.malicious)) of \(grouped(outcome.malicious)) (\(outcome.byLabel.sorted { $0.key < $1.key }.map { "\($0.key) \(share($0.value.seen - $0.value.passed, $0.value.seen))" }.joined(separator: ", ")))
              unseen share  predicted \(String(format: "%.6f", complete.unseenShare)), at most \(String(format: "%.6f", complete.unseenBound)); actual \(String(format: "%.6f", Double(unseen) / Double(max(1, outcome.connections))))
              most denied   \(outcome.missed.sorted { $0.value > $1.value }.prefix(6).map { "\($0.key) \(grouped($0.value))" }.joined(separator: ", "))
            """)
        for (i, variant) in variants.enumerated().dropFirst() {
            print(
                "  \(variant.0): \(variant.1.rules.count) rules, \(grouped(variant.1.rules.reduce(0) { $0 + $1.unobserved })) permissions unobserved; denied: production "
                    + "\(grouped((outcome.others[i] ?? 0) - (outcome.othersMaintenance[i] ?? 0))) (\(share((outcome.others[i] ?? 0) - (outcome.othersMaintenance[i] ?? 0), outcome.connections - outcome.maintenance))), "
                    + "maintenance \(grouped(outcome.othersMaintenance[i] ?? 0)) of \(grouped(outcome.maintenance)), malicious denied \(share(outcome.malicious - (outcome.othersMalicious[i] ?? 0), outcome.malicious))")
        }
        print("  still denied  \(outcome.missedAfterAll.sorted { $0.value > $1.value }.prefix(8).map { "\($0.key) \(grouped($0.value))" }.joined(separator: ", "))\n")
    }
}
