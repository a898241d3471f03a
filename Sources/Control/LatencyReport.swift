// What `sekisho latency` shows, as its JSON has it.

import Datapath
import Foundation
import Frames

public struct LatencyReport: Codable, Sendable {
    public static let schemaName = "sekisho-latency"
    public static let currentVersion = 1

    public var schema = LatencyReport.schemaName
    public var schemaVersion = LatencyReport.currentVersion
    public var created: Date
    public var sekishoVersion: String
    public var bridge: BridgeFacts
    /// Seconds that the figures cover.
    public var windowS: Double
    /// One frame in so many was timed; 0: none is.
    public var sampleOneIn: Int
    public var series: [Series]
    /// Filled in by the command line.
    public var slo: [Objective] = []

    public struct BridgeFacts: Codable, Sendable {
        public var inside: String
        public var outside: String
        public var policy: String
        public var policyVersion: UInt64
        public var mode: String
        public var idle: String
    }

    /// Times in ns.
    public struct Series: Codable, Sendable {
        /// "inside_to_outside" or "outside_to_inside".
        public var direction: String
        public var worker: Int
        public var queue: Int
        /// "allowed" or "denied".
        public var verdict: String
        /// "wait": XDP hook to worker; "work": from there to the other port (or the drop); "total": both.
        public var stage: String
        public var count: UInt64
        public var meanNs: Double
        public var p50Ns: UInt64
        public var p90Ns: UInt64
        public var p99Ns: UInt64
        public var p999Ns: UInt64
        public var p9999Ns: UInt64
        public var maxNs: UInt64
        public var percentiles: [[Double]]
        /// [low, high, count].
        public var buckets: [[UInt64]]
    }

    public struct Objective: Codable, Sendable {
        public var text: String
        public var held: Bool
        public var measuredNs: UInt64

        public init(text: String, held: Bool, measuredNs: UInt64) {
            self.text = text
            self.held = held
            self.measuredNs = measuredNs
        }
    }
}

extension LatencyStage {
    var name: String {
        switch self {
        case .wait: "wait"
        case .work: "work"
        case .total: "total"
        }
    }
}

extension LatencyReport.Series {
    init(_ key: LatencyKey, _ histogram: LatencyHistogram) {
        self.init(
            direction: key.from == .inside ? "inside_to_outside" : "outside_to_inside", worker: key.worker, queue: key.queue,
            verdict: key.isAllowed ? "allowed" : "denied", stage: key.stage.name, count: histogram.count,
            meanNs: (histogram.mean * 10).rounded() / 10, p50Ns: histogram.percentile(50), p90Ns: histogram.percentile(90),
            p99Ns: histogram.percentile(99), p999Ns: histogram.percentile(99.9), p9999Ns: histogram.percentile(99.99),
            maxNs: histogram.max, percentiles: Self.curve(histogram),
            buckets: histogram.buckets.map { [$0.range.lowerBound, $0.range.upperBound, $0.count] })
    }

    /// Five points for each halving of what is left, as HdrHistogram's plots have them.
    private static func curve(_ histogram: LatencyHistogram) -> [[Double]] {
        var points: [[Double]] = [[0, Double(histogram.percentile(0))]]
        var left = 1.0
        let least = 1 / Double(max(histogram.count, 2))
        while left > least, points.count < 200 {
            for _ in 0..<5 where left > least {
                left -= left / 10
                points.append([(1 - left) * 100, Double(histogram.percentile((1 - left) * 100))])
            }
        }
        points.append([100, Double(histogram.max)])
        return points
    }
}
