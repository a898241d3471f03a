// A policy against everything that was recorded: what it would have denied, when, and how often that is to be expected.
//
// The data path's own table judges, once for each conversation: the first frame of its client. What was recorded does not say
// by which port a frame came, nor what hangs on single frames (flow state): those the rules' verdict is taken for.

import Allowlist
import Foundation
import Frames
import Policy

public struct HistorySimulation: Sendable {
    public struct Denied: Sendable {
        /// In `History.conversations`.
        public var conversation: Int
        public var cause: Cause
    }

    public let denied: [Denied]
    /// Connections by day, in order: since 1970, UTC; all, and those that would have been denied.
    public let days: [(day: Int32, connections: UInt64, denied: UInt64)]
    /// Rules by number: how many conversations each allows.
    public let rules: [Int]

    /// Connections to be denied in a week, with the upper end of the 95 % interval.
    public var perWeek: (expected: Double, bound: Double) {
        let counts = days.map { Double($0.denied) }
        guard counts.count >= 2 else { return (counts.reduce(0, +) * 7, .infinity) }
        let mean = counts.reduce(0, +) / Double(counts.count)
        // None on so many days: a day with one has at most this chance ("3/n").
        if mean == 0 { return (0, 7 * (1 - pow(0.05, 1 / Double(counts.count)))) }
        let spread = counts.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(counts.count - 1)
        // The week scatters as the days before it did; fewer than a Poisson process can nothing scatter.
        let variance = max(spread, mean) * (1 / Double(counts.count) + 1 / 7)
        return (7 * mean, 7 * (mean + Completeness.studentT(counts.count - 1) * variance.squareRoot()))
    }

    /// - Parameters:
    ///   - table: compiled without sides.
    ///   - counts: which conversations the figures by day are about; denied are all.
    public init(_ history: History, _ review: Review, _ table: CompiledTable, counts: (Int) -> Bool = { _ in true }) {
        let memory = JudgeMemory()
        var denied: [Denied] = []
        var rules = [Int](repeating: 0, count: table.source.rules.count)
        var byDay: [Int32: (UInt64, UInt64)] = [:]
        // No frame is looked into but for its Ethernet source, and that only where addresses are bound.
        let blank = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
        defer { blank.deallocate() }
        blank.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
        var macs: [AddressWords: MACAddress] = [:]
        for one in history.addresses { macs[one.address.address] = one.address.mac }
        var bringsData: Set<AddressPair> = []
        // Sessions before their data connections.
        let all = history.conversations.indices
        for place in all.filter({ !review.ftp.isData($0) }) + all.filter({ review.ftp.isData($0) }) {
            let one = history.conversations[place]
            let key = one.key, pair = AddressPair(key.client, key.server)
            var headers = PacketQuestion(
                family: key.family, from: key.client, to: key.server, ipProtocol: key.ipProtocol, port: key.service, fromPort: Port(rawValue: 0),
                vlan: key.vlan
            ).headers
            let mac = macs[one.key.client]?.rawValue ?? 0
            for i in 0..<6 { blank.storeBytes(of: UInt8(truncatingIfNeeded: mac >> UInt64(40 - 8 * i)), toByteOffset: 6 + i, as: UInt8.self) }
            var frame = UnsafeRawPointer(blank)
            var verdict = Verdict(rule: Verdict.noRule, cause: .none, isReply: false)
            _ = judgeBurst(
                table.view, frames: &frame, headers: &headers, count: 1, from: .inside, scratch: memory.scratch, verdicts: &verdict)
            if verdict.isAllowed, verdict.rule != Verdict.noRule, table.source.rules[Int(verdict.rule)].flows.expectsData {
                bringsData.insert(pair)
            }
            if !verdict.isAllowed, review.ftp.isData(place),
                bringsData.contains(pair) || bringsData.contains(pair.swapped)
            {
                verdict.cause = .none
                verdict.rule = Verdict.noRule
            }
            if !verdict.isAllowed {
                denied.append(Denied(conversation: place, cause: verdict.cause))
            } else if verdict.rule != Verdict.noRule {
                rules[Int(verdict.rule)] += 1
            }
            guard counts(place) else { continue }
            for day in one.days {
                let connections = UInt64(max(1, day.connections))
                byDay[day.day, default: (0, 0)].0 += connections
                if !verdict.isAllowed { byDay[day.day]!.1 += connections }
            }
        }
        self.denied = denied
        self.rules = rules
        days = byDay.map { (day: $0.key, connections: $0.value.0, denied: $0.value.1) }.sorted { $0.day < $1.day }
    }
}
