// Medians over rounds, and percentiles of one distribution.

import Foundation

/// One figure over the rounds of a run.
public struct Statistic: Codable, Sendable, Equatable {
    public var median: Double
    public var min: Double
    public var max: Double
    public var rounds: [Double]

    /// nil if nothing was measured.
    public init?(_ rounds: [Double]) {
        guard !rounds.isEmpty else { return nil }
        self.rounds = rounds
        let sorted = rounds.sorted()
        min = sorted[0]
        max = sorted[sorted.count - 1]
        let middle = sorted.count / 2
        median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}

/// What is told of a latency distribution. Times in ns.
public struct LatencySummary: Codable, Sendable, Equatable {
    public var count = 0
    public var meanNs = 0.0
    public var p50Ns = 0.0
    public var p90Ns = 0.0
    public var p99Ns = 0.0
    public var p999Ns = 0.0
    public var p9999Ns = 0.0
    public var maxNs = 0.0
    /// [percentile, ns], closer together towards 100.
    public var percentiles: [[Double]] = []

    public init() {}

    /// - Parameter sorted: ascending.
    init(sorted: [UInt32]) {
        self.init()
        count = sorted.count
        guard count > 0 else { return }
        meanNs = (sorted.reduce(0.0) { $0 + Double($1) } / Double(count)).rounded()
        func at(_ percentile: Double) -> Double { Double(sorted[Self.rank(percentile, of: sorted.count)]) }
        (p50Ns, p90Ns, p99Ns, p999Ns, p9999Ns) = (at(50), at(90), at(99), at(99.9), at(99.99))
        maxNs = Double(sorted[count - 1])
        percentiles = Self.curve(count: count).map { [$0, at($0)] }
    }

    /// Place of a percentile among `count` sorted values: the smallest that at least so many per cent do not exceed.
    static func rank(_ percentile: Double, of count: Int) -> Int {
        // 99.9 % of 10,000 is 9,990, not a hair more.
        min(count - 1, max(0, Int((percentile / 100 * Double(count) - 1e-6).rounded(.up)) - 1))
    }

    /// Percentiles worth drawing: five for each halving of what is left, as HdrHistogram's plots have them, and no deeper
    /// than the sample count carries.
    static func curve(count: Int) -> [Double] {
        var points: [Double] = [0]
        var left = 1.0
        while left > 1 / Double(max(count, 2)), points.count < 200 {
            for _ in 0..<5 {
                left -= left / 10
                points.append((1 - left) * 100)
            }
        }
        return points.filter { (100 - $0) / 100 >= 1 / Double(max(count, 2)) } + [100]
    }
}
