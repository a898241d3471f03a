// The bars Sekisho holds itself to, judged from a run.

import Foundation

enum BenchBars {
    static func judge(_ report: BenchReport) -> [BenchReport.Bar] {
        let base = report.scenarios.first?.id ?? ""
        let best = [ForwarderID.sekishoSpin, .sekishoHybrid].map(\.rawValue)
        func rows(_ forwarder: String, _ scenario: String = base) -> BenchReport.Throughput? {
            report.throughput.first { $0.forwarder == forwarder && $0.scenario == scenario }
        }
        func latency(_ forwarder: String, _ load: String) -> [BenchReport.Latency] {
            report.latency.filter { $0.forwarder == forwarder && $0.load == load && $0.hosts == "polling" }
        }
        func number(_ value: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", value) }
        func atLeast(_ what: String, _ limit: Double, _ value: Double?) -> BenchReport.Bar {
            BenchReport.Bar(
                what: what, bar: "≥ \(limit)", value: value, shown: value.map { number($0) } ?? "not measured", held: value.map { $0 >= limit })
        }
        func atMost(_ what: String, _ limit: Double, _ value: Double?, unit: String = "") -> BenchReport.Bar {
            BenchReport.Bar(
                what: what, bar: "≤ \(limit == limit.rounded() ? String(Int(limit)) : "\(limit)")\(unit)", value: value,
                shown: value.map { number($0) + unit } ?? "not measured", held: value.map { $0 <= limit })
        }
        func ratio(_ other: ForwarderID) -> Double? {
            best.compactMap { rows($0)?.ratioPdr[other.rawValue]?.median }.max()
        }
        var bars: [BenchReport.Bar] = [
            atLeast("PDR : Linux bridge + nftables", 2.0, ratio(.bridgeNft)),
            atMost(
                "CPU time per frame, each at its PDR : Linux bridge + nftables", 0.7,
                best.compactMap { rows($0)?.ratioCpu[ForwarderID.bridgeNft.rawValue]?.median }.min()),
            atLeast("PDR : DPDK testpmd", 1.2, ratio(.dpdk)),
            atLeast("PDR : XDP redirect (devmap)", 0.7, ratio(.devmap)),
        ]
        // Rules: in scenarios that differ from the base in nothing else.
        let one = report.scenarios.first { $0.traffic.rules == 1 && isRuleSweep($0, report) }
        let million = report.scenarios.first { $0.traffic.rules == 1_000_000 && isRuleSweep($0, report) }
        var rules: Double?
        if let one, let million {
            rules = best.compactMap { id in
                guard let few = rows(id, one.id)?.pdrFps?.median, let many = rows(id, million.id)?.pdrFps?.median, few > 0 else { return nil }
                return many / few
            }.max()
        }
        bars.append(atLeast("PDR at 1M rules : PDR at 1 rule", 0.9, rules))
        let common = best.compactMap { id -> Double? in
            let ratios = latency(id, "common").compactMap { $0.ratioP99?.median }
            return ratios.isEmpty ? nil : ratios.max()
        }.min()
        bars.append(atMost("p99 at one load (90 % of bridge + nftables), polling hosts : that bridge", 0.7, common))
        let cable = latency(ForwarderID.cable.rawValue, "idle").map(\.p50Ns).max()
        let idle = best.compactMap { latency($0, "idle").map(\.p50Ns).max() }.min()
        var added: Double?
        if let cable, let idle { added = (idle - cable) / 1000 }
        bars.append(atMost("p50 at idle added to the cable, polling hosts", 5, added, unit: " µs"))
        let swapped = report.swaps.filter(\.withSwaps)
        bars.append(atMost("frames lost to swaps", 0, swapped.isEmpty ? nil : Double(swapped.map(\.lost).reduce(0, +))))
        return bars
    }

    private static func isRuleSweep(_ scenario: BenchReport.Scenario, _ report: BenchReport) -> Bool {
        guard let base = report.scenarios.first?.traffic else { return false }
        let traffic = scenario.traffic
        return traffic.kind == base.kind && traffic.flows == base.flows && traffic.frame == base.frame
            && traffic.deniedPercent == base.deniedPercent
    }
}
