import Foundation
import Testing

@testable import Measure

private func report(pdr: [Double], cable: Double = 1_000_000) -> BenchReport {
    var report = BenchReport(
        created: Date(timeIntervalSince1970: 0), sekishoVersion: "0", preset: "quick", command: "fixture",
        machine: Machine(
            kernel: "6", cpu: "test", cores: 2, memoryBytes: 1, virtual: "no", clocksource: "tsc", preemption: "", mitigations: "",
            governor: "", swift: "", notes: []),
        bed: BenchReport.BedFacts(generatorCpu: 0, workerCpu: 1, rounds: 3, trialS: 1, burst: 1, text: ""))
    report.scenarios = [
        BenchReport.Scenario(
            id: "base", title: "base",
            traffic: BenchReport.Scenario.Traffic(kind: "generated", flows: 1, rules: 10, frame: "64", deniedPercent: 0, text: ""))
    ]
    func row(_ id: String, _ rates: [Double], _ ratios: [String: Statistic]) -> BenchReport.Throughput {
        BenchReport.Throughput(
            scenario: "base", forwarder: id, pdrFps: Statistic(rates), ndrFps: Statistic(rates), cpuNsPerFrame: Statistic([100, 101, 99]),
            cpuNsPerFrameCommon: nil, account: nil, deniedCrossed: 0, reflected: 0, reordered: 0, ratioPdr: ratios, ratioCpu: [:])
    }
    report.throughput = [
        row("cable", [cable, cable, cable], [:]), row("bridge-nft", [400_000, 410_000, 405_000], [:]),
        row("sekisho-spin", pdr, ["bridge-nft": Statistic(pdr.map { $0 / 405_000 })!, "dpdk": Statistic([1.1, 1.3, 1.2])!]),
    ]
    return report
}

@Suite struct BenchComparisonTests {
    @Test func betterWorseAndSame() {
        let old = report(pdr: [900_000, 950_000, 920_000])
        let worse = BenchComparison(old, report(pdr: [600_000, 650_000, 620_000]))
        #expect(worse.hasWorse)
        #expect(worse.rows.first { $0.what.hasPrefix("PDR: sekisho-spin") }?.verdict == "worse")
        #expect(worse.rows.first { $0.what.hasPrefix("PDR: bridge-nft") }?.verdict == "same")
        let better = BenchComparison(old, report(pdr: [1_200_000, 1_250_000, 1_220_000]))
        #expect(!better.hasWorse)
        #expect(better.rows.first { $0.what.hasPrefix("PDR: sekisho-spin") }?.verdict == "better")
        // Medians apart, ranges not: noise.
        #expect(!BenchComparison(old, report(pdr: [700_000, 910_000, 720_000])).hasWorse)
        // Ranges apart, but by less than this bed can tell.
        #expect(!BenchComparison(old, report(pdr: [890_000, 895_000, 899_000])).hasWorse)
    }

    private func latency(_ p50: [Double], _ p99: [Double], load: String = "50") -> BenchReport.Latency {
        BenchReport.Latency(
            scenario: "base", forwarder: "sekisho-spin", hosts: "polling", direction: "outside_to_inside", load: load, offeredFps: 1,
            sent: 1, lost: 0, count: 1, meanNs: 1, p50Ns: 1, p90Ns: 1, p99Ns: 1, p999Ns: 1, p9999Ns: 1, maxNs: 1, percentiles: [],
            p50Rounds: Statistic(p50), p99Rounds: Statistic(p99), ratioP50: nil, ratioP99: nil)
    }

    private func verdict(_ prefix: String, _ comparison: BenchComparison) -> String? {
        comparison.rows.first { $0.what.hasPrefix(prefix) }?.verdict
    }

    @Test func moreIsWorseWhereItIsTime() {
        var old = report(pdr: [900_000, 950_000, 920_000]), new = old
        old.latency = [latency([5000, 5100, 5050], [9000, 9500, 9900])]
        new.latency = [latency([7000, 7100, 7050], [5000, 5500, 5900])]
        for index in new.throughput.indices { new.throughput[index].cpuNsPerFrame = Statistic([150, 151, 149]) }
        let comparison = BenchComparison(old, new)
        #expect(verdict("p50: sekisho-spin, load 50, polling hosts, outside to inside", comparison) == "worse")
        #expect(verdict("p99: sekisho-spin", comparison) == "better")
        #expect(verdict("CPU time a frame: cable", comparison) == "worse")
        #expect(verdict("NDR: cable", comparison) == "same")
        let row = comparison.rows.first { $0.what.hasPrefix("p50: ") }
        #expect(row?.old == 5050 && row?.new == 7050 && row?.unit == "ns")
        #expect(abs((row?.ratio ?? 0) - 7050.0 / 5050) < 1e-9)
        // The other way round everything is.
        let back = BenchComparison(new, old)
        #expect(verdict("p50: sekisho-spin", back) == "better" && verdict("p99: sekisho-spin", back) == "worse")
    }

    @Test func touchingRangesAreTheSame() {
        let old = report(pdr: [900_000, 950_000, 920_000])
        #expect(verdict("PDR: sekisho-spin", BenchComparison(old, report(pdr: [950_000, 1_200_000, 1_100_000]))) == "same")
        #expect(verdict("PDR: sekisho-spin", BenchComparison(old, report(pdr: [950_001, 1_200_000, 1_100_000]))) == "better")
        // One round each: every change beyond the floor counts.
        #expect(verdict("PDR: sekisho-spin", BenchComparison(report(pdr: [100_000]), report(pdr: [94_000]))) == "worse")
        #expect(verdict("PDR: sekisho-spin", BenchComparison(report(pdr: [100_000]), report(pdr: [96_000]))) == "same")
    }

    @Test func whatOneOfThemHasNotIsNotCompared() {
        let old = report(pdr: [900_000, 950_000, 920_000])
        var new = old
        new.throughput.removeAll { $0.forwarder == "sekisho-spin" }
        new.latency = [latency([1, 1, 1], [1, 1, 1])]
        for (a, b) in [(old, new), (new, old)] {
            let comparison = BenchComparison(a, b)
            #expect(!comparison.rows.isEmpty && !comparison.hasWorse)
            #expect(comparison.rows.allSatisfy { !$0.what.contains("sekisho-spin") })
        }
        // Nor a figure that was nothing before, or is nothing now.
        var nothing = old
        for index in nothing.throughput.indices { nothing.throughput[index].ndrFps = nil }
        #expect(BenchComparison(old, nothing).rows.allSatisfy { !$0.what.hasPrefix("NDR") })
        var other = old
        other.scenarios[0].id = "elsewhere"
        for index in other.throughput.indices { other.throughput[index].scenario = "elsewhere" }
        #expect(BenchComparison(old, other).rows.isEmpty)
    }

    @Test func whatMakesThemIncomparableIsSaid() {
        let old = report(pdr: [1, 1, 1])
        var new = old
        new.machine.cpu = "another"
        new.machine.kernel = "7"
        new.bed.burst = 32
        new.preset = "full"
        let warnings = BenchComparison(old, new).warnings
        #expect(warnings.count == 4)
        for word in ["another", "kernels", "bursts", "presets"] { #expect(warnings.contains { $0.contains(word) }, "\(word)") }
    }

    @Test func aMachineThatBecameSlowerIsSaid() {
        let old = report(pdr: [900_000, 950_000, 920_000])
        #expect(BenchComparison(old, old).warnings.isEmpty)
        #expect(BenchComparison(old, report(pdr: [900_000, 950_000, 920_000], cable: 700_000)).warnings.count == 1)
    }
}

@Suite struct BenchBarsTests {
    private func bar(_ prefix: String, _ report: BenchReport) -> BenchReport.Bar {
        BenchBars.judge(report).first { $0.what.hasPrefix(prefix) }!
    }

    private func latency(_ id: String, _ load: String, p50: Double, ratioP99: Double? = nil, _ direction: String = "outside_to_inside")
        -> BenchReport.Latency
    {
        BenchReport.Latency(
            scenario: "base", forwarder: id, hosts: "polling", direction: direction, load: load, offeredFps: 1, sent: 1, lost: 0, count: 1,
            meanNs: p50, p50Ns: p50, p90Ns: p50, p99Ns: p50, p999Ns: p50, p9999Ns: p50, maxNs: p50, percentiles: [], p50Rounds: nil,
            p99Rounds: nil, ratioP50: nil, ratioP99: ratioP99.flatMap { Statistic([$0]) })
    }

    @Test func theWorseDirectionOfTheBetterModeCounts() {
        var made = report(pdr: [900_000, 950_000, 920_000])
        made.latency = [
            latency("cable", "idle", p50: 2000), latency("cable", "idle", p50: 2500, "inside_to_outside"),
            latency("sekisho-spin", "idle", p50: 6000), latency("sekisho-spin", "idle", p50: 7000, "inside_to_outside"),
            latency("sekisho-hybrid", "idle", p50: 9000),
            latency("sekisho-spin", "common", p50: 1, ratioP99: 0.4),
            latency("sekisho-spin", "common", p50: 1, ratioP99: 0.8, "inside_to_outside"),
            latency("sekisho-hybrid", "common", p50: 1, ratioP99: 0.6),
        ]
        #expect(bar("p50 at idle", made).value == 4.5 && bar("p50 at idle", made).held == true)
        // Spin's worse direction is 0.8, hybrid's 0.6.
        #expect(bar("p99 at one load", made).value == 0.6 && bar("p99 at one load", made).held == true)
        made.latency.removeAll { $0.forwarder == "sekisho-hybrid" }
        #expect(bar("p99 at one load", made).value == 0.8 && bar("p99 at one load", made).held == false)
        // What sleeps is measured by its own wake-up.
        for index in made.latency.indices { made.latency[index].hosts = "sleeping" }
        #expect(bar("p50 at idle", made).held == nil && bar("p99 at one load", made).held == nil)
    }

    @Test func swapsMayLoseNothing() {
        var made = report(pdr: [1, 1, 1])
        func swaps(_ withSwaps: Bool, lost: Int) -> BenchReport.Swaps {
            BenchReport.Swaps(
                forwarder: "sekisho-hybrid", rules: 1, withSwaps: withSwaps, offeredFps: 1, sent: 9, lost: lost, swaps: 1, p50Ns: 1, p99Ns: 1,
                maxNs: 1, timeline: [], swapTimesS: [])
        }
        // What is lost without swaps is not theirs.
        made.swaps = [swaps(false, lost: 7)]
        #expect(bar("frames lost to swaps", made).held == nil)
        made.swaps.append(swaps(true, lost: 0))
        #expect(bar("frames lost to swaps", made).held == true)
        made.swaps[1].lost = 1
        #expect(bar("frames lost to swaps", made).held == false)
    }

    @Test func rulesAreComparedInMixesThatDifferInNothingElse() {
        var made = report(pdr: [900_000, 950_000, 920_000])
        func add(_ id: String, rules: Int, frame: String, pdr: Double) {
            made.scenarios.append(
                BenchReport.Scenario(
                    id: id, title: id,
                    traffic: BenchReport.Scenario.Traffic(kind: "generated", flows: 1, rules: rules, frame: frame, deniedPercent: 0, text: "")))
            var row = made.throughput.first { $0.forwarder == "sekisho-spin" }!
            row.scenario = id
            row.pdrFps = Statistic([pdr])
            made.throughput.append(row)
        }
        add("large", rules: 1, frame: "1500", pdr: 100)
        add("one", rules: 1, frame: "64", pdr: 1_000_000)
        #expect(bar("PDR at 1M rules", made).held == nil)
        add("million", rules: 1_000_000, frame: "64", pdr: 910_000)
        #expect(bar("PDR at 1M rules", made).value == 0.91 && bar("PDR at 1M rules", made).held == true)
    }

    @Test func barsAreJudgedFromMedians() {
        let good = report(pdr: [900_000, 950_000, 920_000])
        #expect(bar("PDR : Linux bridge + nftables", good).held == true)
        #expect(bar("PDR : DPDK", good).value == 1.2)
        #expect(bar("PDR : DPDK", good).held == true)
        #expect(bar("PDR : Linux bridge + nftables", report(pdr: [700_000, 950_000, 720_000])).held == false)
        // What was not measured is neither held nor missed.
        #expect(bar("PDR : XDP redirect", good).held == nil)
        #expect(bar("frames lost to swaps", good).held == nil)
    }
}

@Suite struct ReportPageTests {
    @Test func namesCannotEndTheData() throws {
        let page = try ReportPage.html(Data(#"{"schema":"x","name":"</script><b>"}"#.utf8))
        #expect(!page.contains("__SEKISHO_DATA__"))
        #expect(page.contains("\\u003c/script>"))
        #expect(page.components(separatedBy: "</script>").count == page.components(separatedBy: "<script").count)
        // And what the page reads is what was given.
        let begin = try #require(page.range(of: #"<script type="application/json" id="data">"#))
        let end = try #require(page.range(of: "</script>", range: begin.upperBound..<page.endIndex))
        let data = try JSONDecoder().decode([String: String].self, from: Data(page[begin.upperBound..<end.lowerBound].utf8))
        #expect(data == ["schema": "x", "name": "</script><b>"])
    }
}
