// The bars Sekisho holds itself to, judged from a run.

import Foundation

enum BenchBars {
    static func judge(_ report: BenchReport) -> [BenchReport.Bar] {
        let base = report.scenarios.first?.id ?? ""
        // A user takes the setting that suits his ports: each bar is held by the best of ours, which is named.
        let ours = [ForwarderID.sekishoSpin, .sekishoHybrid, .sekishoKernel].map(\.rawValue)
        func rows(_ forwarder: String, _ scenario: String = base) -> BenchReport.Throughput? {
            report.throughput.first { $0.forwarder == forwarder && $0.scenario == scenario }
        }
        func latency(_ forwarder: String, _ load: String) -> [BenchReport.Latency] {
            report.latency.filter { $0.forwarder == forwarder && $0.load == load && $0.hosts == "polling" }
        }
        func number(_ value: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", value) }
        /// The best of ours, and which it is.
        func best(_ isBetter: (Double, Double) -> Bool, _ value: (String) -> Double?) -> (Double, String)? {
            ours.compactMap { id in value(id).map { ($0, String(id.dropFirst("sekisho-".count))) } }.min { isBetter($0.0, $1.0) }
        }
        func atLeast(_ what: String, _ limit: Double, _ value: (String) -> Double?) -> BenchReport.Bar {
            let found = best(>, value)
            return BenchReport.Bar(
                what: what, bar: "≥ \(limit)", value: found?.0, shown: found.map { "\(number($0.0)) (\($0.1))" } ?? "not measured",
                held: found.map { $0.0 >= limit })
        }
        func atMost(_ what: String, _ limit: Double, unit: String = "", _ value: (String) -> Double?) -> BenchReport.Bar {
            let found = best(<, value)
            return BenchReport.Bar(
                what: what, bar: "≤ \(limit == limit.rounded() ? String(Int(limit)) : "\(limit)")\(unit)", value: found?.0,
                shown: found.map { "\(number($0.0))\(unit) (\($0.1))" } ?? "not measured", held: found.map { $0.0 <= limit })
        }
        func ratio(_ other: ForwarderID) -> (String) -> Double? { { rows($0)?.ratioPdr[other.rawValue]?.median } }
        var bars: [BenchReport.Bar] = [
            atLeast("PDR : Linux bridge + nftables", 2.0, ratio(.bridgeNft)),
            atMost(
                "CPU time per frame, each at its PDR : Linux bridge + nftables", 0.7
            ) { rows($0)?.ratioCpu[ForwarderID.bridgeNft.rawValue]?.median },
            atLeast("PDR : DPDK testpmd", 1.2, ratio(.dpdk)),
            atLeast("PDR : XDP redirect (devmap)", 0.7, ratio(.devmap)),
        ]
        // Rules: in scenarios that differ from the base in nothing else.
        let one = report.scenarios.first { $0.traffic.rules == 1 && isRuleSweep($0, report) }
        let million = report.scenarios.first { $0.traffic.rules == 1_000_000 && isRuleSweep($0, report) }
        bars.append(
            atLeast("PDR at 1M rules : PDR at 1 rule", 0.9) { id in
                guard let one, let million, let few = rows(id, one.id)?.pdrFps?.median,
                    let many = rows(id, million.id)?.pdrFps?.median, few > 0
                else { return nil }
                return many / few
            })
        bars.append(
            atMost("p99 at one load (90 % of bridge + nftables), polling hosts : that bridge", 0.7) {
                latency($0, "common").compactMap { $0.ratioP99?.median }.max()
            })
        let cable = latency(ForwarderID.cable.rawValue, "idle").map(\.p50Ns).max()
        bars.append(
            atMost("p50 at idle added to the cable, polling hosts", 5, unit: " µs") { id in
                guard let cable, let idle = latency(id, "idle").map(\.p50Ns).max() else { return nil }
                return (idle - cable) / 1000
            })
        bars.append(
            atMost("frames lost to swaps", 0) { id in
                let swapped = report.swaps.filter { $0.withSwaps && $0.forwarder == id }
                return swapped.isEmpty ? nil : Double(swapped.map(\.lost).reduce(0, +))
            })
        return bars
    }

    private static func isRuleSweep(_ scenario: BenchReport.Scenario, _ report: BenchReport) -> Bool {
        guard let base = report.scenarios.first?.traffic else { return false }
        let traffic = scenario.traffic
        return traffic.kind == base.kind && traffic.flows == base.flows && traffic.frame == base.frame
            && traffic.deniedPercent == base.deniedPercent
    }
}
