// Latencies over time: what was recorded in the last ten minutes by the second, in the last twelve hours by the minute.
//
// The workers only ever add; the difference of two readings is what happened between them.

import Datapath
import Frames

/// What a distribution is of.
struct LatencyKey: Hashable, Sendable {
    var from: Side
    var queue: Int
    var worker: Int
    var isAllowed: Bool
    var stage: LatencyStage
}

extension LatencyKey: Comparable {
    /// In the order of tables.
    static func < (a: LatencyKey, b: LatencyKey) -> Bool {
        (a.from.rawValue, a.queue, a.isAllowed ? 0 : 1, a.stage.rawValue) < (b.from.rawValue, b.queue, b.isAllowed ? 0 : 1, b.stage.rawValue)
    }
}

struct LatencyHistory {
    typealias Reading = [LatencyKey: LatencyHistogram]

    private struct Slice {
        /// Seconds since the start of the bridge, at its end.
        var end: Double
        var added: Reading
    }

    private static let seconds = 600
    private static let minutes = 720

    private var last: Reading = [:]
    private var bySecond: [Slice] = []
    private var byMinute: [Slice] = []
    private var minute: Reading = [:]
    private var minuteBegan = 0.0

    static func reading(_ series: [LatencySeries]) -> Reading {
        var reading: Reading = [:]
        for one in series {
            reading[
                LatencyKey(from: one.from, queue: one.queue, worker: one.worker, isAllowed: one.isAllowed, stage: one.stage)] = one.histogram
        }
        return reading
    }

    /// Takes a reading, once a second or so.
    ///
    /// - Parameter at: seconds since the start.
    mutating func add(_ reading: Reading, at: Double) {
        let added = Self.difference(reading, last)
        last = reading
        bySecond.append(Slice(end: at, added: added))
        if bySecond.count > Self.seconds { bySecond.removeFirst(bySecond.count - Self.seconds) }
        Self.merge(added, into: &minute)
        if at - minuteBegan >= 60 {
            byMinute.append(Slice(end: at, added: minute))
            if byMinute.count > Self.minutes { byMinute.removeFirst(byMinute.count - Self.minutes) }
            minute = [:]
            minuteBegan = at
        }
    }

    /// What was recorded in the last `window` seconds, from what is there and `now`, the latest reading.
    ///
    /// - Returns: the distributions, and how many seconds they really cover.
    func since(_ window: Double, now: Reading, at: Double) -> (Reading, covered: Double) {
        var sum = Self.difference(now, last)
        let from = at - window
        var begin = bySecond.last?.end ?? 0
        // By the second as far as that goes; what lies before it by the minute.
        let oldestSecond = bySecond.first?.end ?? at
        for slice in bySecond.reversed() where slice.end > from {
            Self.merge(slice.added, into: &sum)
            begin = slice.end - 1
        }
        for slice in byMinute.reversed() where slice.end > from && slice.end < oldestSecond {
            Self.merge(slice.added, into: &sum)
            begin = slice.end - 60
        }
        return (sum, at - max(0, min(begin, at)))
    }

    private static func difference(_ now: Reading, _ before: Reading) -> Reading {
        var result: Reading = [:]
        for (key, histogram) in now {
            let added = before[key].map { histogram.since($0) } ?? histogram
            if !added.counts.isEmpty { result[key] = added }
        }
        return result
    }

    private static func merge(_ reading: Reading, into sum: inout Reading) {
        for (key, histogram) in reading { sum[key, default: LatencyHistogram()] += histogram }
    }
}
