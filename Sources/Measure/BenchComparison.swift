// Two reports beside each other: what got better or worse beyond the noise.
//
// A change counts if the ranges over the rounds do not meet, and the medians differ by more than a floor below which
// this kind of bed says nothing. One run's rounds differ less than two runs do, so the verdict is a hint to look, not a proof.

import Foundation

public struct BenchComparison: Sendable, Codable {
    public struct Row: Sendable, Codable {
        public var what: String
        public var old: Double
        public var new: Double
        public var unit: String
        /// new / old.
        public var ratio: Double
        /// better, worse or same.
        public var verdict: String
    }

    public var rows: [Row] = []
    /// Why the two may not be comparable.
    public var warnings: [String] = []

    public var hasWorse: Bool { rows.contains { $0.verdict == "worse" } }

    /// Medians closer than this are the same.
    static let floor = 0.05

    public init(_ old: BenchReport, _ new: BenchReport) {
        if old.machine.cpu != new.machine.cpu || old.machine.cores != new.machine.cores {
            warnings.append("different machines: \(old.machine.cpu) × \(old.machine.cores), \(new.machine.cpu) × \(new.machine.cores)")
        }
        if old.machine.kernel != new.machine.kernel { warnings.append("different kernels: \(old.machine.kernel), \(new.machine.kernel)") }
        if old.bed.burst != new.bed.burst { warnings.append("different bursts: \(old.bed.burst), \(new.bed.burst)") }
        if old.preset != new.preset { warnings.append("different presets: \(old.preset), \(new.preset)") }
        compareThroughput(old, new)
        compareLatency(old, new)
        if let drift = Self.drift(old, new) {
            warnings.append(
                String(format: "the cable itself carries %.2f times as much as before: the machine's speed changed; look at the ratios", drift))
        }
    }

    private mutating func compareThroughput(_ old: BenchReport, _ new: BenchReport) {
        for row in new.throughput {
            guard let before = old.throughput.first(where: { $0.scenario == row.scenario && $0.forwarder == row.forwarder }) else { continue }
            let name = "\(row.forwarder), \(title(row.scenario, new))"
            add("PDR: \(name)", before.pdrFps, row.pdrFps, "frames/s", isGoodHigh: true)
            add("NDR: \(name)", before.ndrFps, row.ndrFps, "frames/s", isGoodHigh: true)
            add("CPU time a frame: \(name)", before.cpuNsPerFrame, row.cpuNsPerFrame, "ns", isGoodHigh: false)
            let reference = ForwarderID.bridgeNft.rawValue
            add(
                "PDR : Linux bridge + nftables: \(name)", before.ratioPdr[reference], row.ratioPdr[reference], "×", isGoodHigh: true)
        }
    }

    private mutating func compareLatency(_ old: BenchReport, _ new: BenchReport) {
        for row in new.latency {
            guard
                let before = old.latency.first(where: {
                    $0.scenario == row.scenario && $0.forwarder == row.forwarder && $0.hosts == row.hosts && $0.load == row.load
                        && $0.direction == row.direction
                })
            else { continue }
            let name = "\(row.forwarder), load \(row.load), \(row.hosts) hosts, \(row.direction.replacingOccurrences(of: "_", with: " "))"
            add("p50: \(name)", before.p50Rounds, row.p50Rounds, "ns", isGoodHigh: false)
            add("p99: \(name)", before.p99Rounds, row.p99Rounds, "ns", isGoodHigh: false)
        }
    }

    private mutating func add(_ what: String, _ old: Statistic?, _ new: Statistic?, _ unit: String, isGoodHigh: Bool) {
        guard let old, let new, old.median > 0 else { return }
        let ratio = new.median / old.median
        let isApart = new.min > old.max || new.max < old.min
        let isChanged = isApart && abs(ratio - 1) > Self.floor
        let verdict = !isChanged ? "same" : (ratio > 1) == isGoodHigh ? "better" : "worse"
        rows.append(Row(what: what, old: old.median, new: new.median, unit: unit, ratio: ratio, verdict: verdict))
    }

    private func title(_ scenario: String, _ report: BenchReport) -> String {
        report.scenarios.first { $0.id == scenario }?.title ?? scenario
    }

    /// How much faster the bed itself has become, if it has.
    private static func drift(_ old: BenchReport, _ new: BenchReport) -> Double? {
        func cable(_ report: BenchReport) -> Double? {
            report.throughput.first { $0.forwarder == ForwarderID.cable.rawValue }?.pdrFps?.median
        }
        guard let before = cable(old), let after = cable(new), before > 0 else { return nil }
        let ratio = after / before
        return abs(ratio - 1) > 0.1 ? ratio : nil
    }
}
