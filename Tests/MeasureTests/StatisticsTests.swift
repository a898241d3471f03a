import Foundation
import Testing
import TestSupport

@testable import Measure

@Suite struct StatisticsTests {
    @Test func medians() {
        #expect(Statistic([]) == nil)
        #expect(Statistic([3, 1, 2])?.median == 2)
        #expect(Statistic([4, 1, 2, 3])?.median == 2.5)
        let statistic = Statistic([5, 1, 9])!
        #expect(statistic.min == 1 && statistic.max == 9 && statistic.rounds == [5, 1, 9])
    }

    @Test func summariesAreThoseOfTheSortedValues() {
        let values = (1...10_000).map { UInt32($0) }
        let summary = LatencySummary(sorted: values)
        #expect(summary.p50Ns == 5000 && summary.p90Ns == 9000 && summary.p99Ns == 9900)
        #expect(summary.p999Ns == 9990 && summary.p9999Ns == 9999 && summary.maxNs == 10_000)
        #expect(summary.meanNs == 5000 || summary.meanNs == 5001)
        #expect(summary.percentiles.last! == [100, 10_000])
        #expect(zip(summary.percentiles, summary.percentiles.dropFirst()).allSatisfy { $0[0] < $1[0] && $0[1] <= $1[1] })
        #expect(LatencySummary(sorted: []).count == 0)
        #expect(LatencySummary(sorted: [7]).p9999Ns == 7)
    }

    /// The smallest value that so many per cent of all do not exceed, by counting instead of by rank.
    private func exact(_ percentile: Double, _ sorted: [UInt32]) -> Double {
        var notAbove = 0.0
        for value in sorted {
            notAbove += 1
            if notAbove * 100 >= percentile * Double(sorted.count) { return Double(value) }
        }
        return Double(sorted.last!)
    }

    @Test(arguments: [1, 2, 3, 99, 100, 101, 1000]) func summariesOfRandomValues(_ count: Int) {
        var random = TestSupport.SplitMix(UInt64(count))
        let sorted = (0..<count).map { _ in UInt32.random(in: 0...(1 << UInt32.random(in: 1...30, using: &random)), using: &random) }.sorted()
        let summary = LatencySummary(sorted: sorted)
        #expect(summary.count == count && summary.maxNs == Double(sorted.last!))
        let told = [summary.p50Ns, summary.p90Ns, summary.p99Ns, summary.p999Ns, summary.p9999Ns]
        #expect(told == [50, 90, 99, 99.9, 99.99].map { exact($0, sorted) })
        // The curve begins with the least, ends with the longest, and goes no deeper than there are samples.
        #expect(summary.percentiles.first! == [0, Double(sorted[0])] && summary.percentiles.last! == [100, summary.maxNs])
        let inner = summary.percentiles.dropLast()
        #expect(inner.allSatisfy { (100 - $0[0]) / 100 >= 1 / Double(max(count, 2)) })
        for pair in zip(summary.percentiles, summary.percentiles.dropFirst()) {
            #expect(pair.0[0] < pair.1[0] && pair.0[1] <= pair.1[1])
        }
    }
}

/// A forwarder as a formula: frames a second offered → share lost.
private func trial(_ sending: SendingPlan, _ loss: (Double) -> Double) -> Trial {
    let due = max(1, Int(sending.rate * sending.seconds))
    let arrived = due - Int((Double(due) * loss(sending.rate)).rounded(.up))
    return Trial(
        offeredRate: sending.rate, seconds: sending.seconds, due: due, sent: due, allowedDue: due, allowedSent: due, allowedArrived: arrived,
        deniedArrived: 0, reflected: 0, reordered: 0, busySeconds: 0, stolenShare: 0, begin: 0, samples: [])
}

@Suite struct RateSearchTests {
    private func search(_ loss: @escaping (Double) -> Double) throws -> RateBounds {
        try RateSearch(seconds: 1, burst: 1, precision: 0.02).run { (sending) throws(MeasureError) -> Trial in trial(sending, loss) }
    }

    /// Carries `limit` and loses everything above.
    private func sharp(_ limit: Double) -> (Double) -> Double { { $0 <= limit ? 0 : 1 - limit / $0 } }

    @Test(arguments: [900.0, 15_000, 400_000, 1_700_000])
    func aSharpLimitIsBoth(_ limit: Double) throws {
        let bounds = try search(sharp(limit))
        #expect(bounds.pdr <= limit * 1.0051 && bounds.pdr > limit * 0.97)
        #expect(bounds.ndr <= limit && bounds.ndr > limit * 0.93)
    }

    @Test func aLittleLossIsPDRAndNotNDR() throws {
        // From 300,000 on three frames in a thousand, from 500,000 on all that is too much.
        let bounds = try search { $0 <= 300_000 ? 0 : max(0.003, 1 - 500_000 / $0) }
        #expect(bounds.pdr > 480_000 && bounds.pdr <= 503_000)
        #expect(bounds.ndr > 280_000 && bounds.ndr <= 300_000)
    }

    @Test func whoAlwaysLosesOneHasNoNDR() throws {
        let bounds = try search { max(1e-6, 1 - 200_000 / $0) }
        #expect(bounds.ndr == 0 && bounds.pdr > 190_000)
    }

    @Test func whoLosesOneFrameOfEveryTrialHasNoNDR() throws {
        // One frame, however many are sent: what a stranger's interrupt does.
        let bounds = try search { max(0.5 / $0, 1 - 200_000 / $0) }
        #expect(bounds.ndr == 0 && bounds.pdr > 195_000 && bounds.pdr <= 201_100 && bounds.trials <= 60)
    }

    @Test func whoNeverLosesEndsTheSearch() throws {
        let bounds = try search { _ in 0 }
        // The generator itself cannot send so much.
        #expect(bounds.pdr >= RateSearch.flood && bounds.ndr == bounds.pdr && bounds.trials < 20)
    }

    /// Receive livelock: under a flood a quarter of what can be carried is.
    @Test func whatAFloodChokesIsFound() throws {
        let bounds = try search { $0 <= 400_000 ? 0 : $0 <= 2_000_000 ? 1 - 400_000 / $0 : 1 - 100_000 / $0 }
        #expect(bounds.pdr > 390_000 && bounds.pdr <= 402_100)
        #expect(bounds.ndr > 370_000 && bounds.ndr <= 400_000)
    }

    @Test(arguments: [0.2, 0.06, 0.01]) func theResultIsAsPreciseAsAsked(_ precision: Double) throws {
        let limit = 314_159.0
        let bounds = try RateSearch(seconds: 1, burst: 1, precision: precision).run { (sending) throws(MeasureError) -> Trial in
            trial(sending) { $0 <= limit ? 0 : 1 - limit / $0 }
        }
        #expect(bounds.pdr <= limit / 0.995 + 1 && bounds.pdr > limit * (1 - precision))
        #expect(bounds.ndr <= limit && bounds.ndr > limit * (1 - 2 * precision) * 0.999)
        // The trial that is shown is the one of that rate.
        let shown = try #require(bounds.atPDR)
        #expect(shown.offeredRate == bounds.pdr && shown.lossRatio <= RateSearch.partialLoss)
    }

    @Test func aFailureEndsTheSearch() {
        #expect(throws: MeasureError.self) {
            _ = try RateSearch(seconds: 1, burst: 1, precision: 0.1).run { (sending) throws(MeasureError) -> Trial in
                throw MeasureError("sending")
            }
        }
    }

    @Test func aDeadForwarderEndsTheSearch() throws {
        let bounds = try search { _ in 1 }
        #expect(bounds.pdr == 0 && bounds.ndr == 0 && bounds.trials < 60)
    }
}
