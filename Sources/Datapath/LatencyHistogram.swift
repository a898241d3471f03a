// Log-linear buckets, as HdrHistogram has them: exact below 128 ns, then 64 to each doubling, so that a bucket is at
// most 1.6 % wide.

/// Where a latency is counted, and what a bucket stands for.
public enum LatencyBuckets {
    // Not stored: the packet path may not run initialisers.
    @inline(__always) private static var halfBits: Int { 6 }
    @inline(__always) private static var half: Int { 64 }
    /// Longer than this is counted as this: some four seconds.
    @inline(__always) public static var longest: UInt64 { 0xFFFF_FFFF }
    @inline(__always) public static var count: Int { (32 - halfBits - 1) * half + 2 * half }

    @inline(__always)
    static func place(_ nanoseconds: UInt64) -> Int {
        let value = min(nanoseconds, longest)
        let shift = max(0, 63 &- (value | 1).leadingZeroBitCount &- halfBits)
        return shift &* half &+ Int(truncatingIfNeeded: value &>> UInt64(truncatingIfNeeded: shift))
    }

    /// The nanoseconds that are counted at `place`.
    public static func range(_ place: Int) -> ClosedRange<UInt64> {
        let shift = max(0, place / half - 1)
        let low = UInt64(place - shift * half) << UInt64(shift)
        return low...(low + (1 << UInt64(shift)) - 1)
    }
}

/// A latency distribution, as the control side reads it.
public struct LatencyHistogram: Sendable, Equatable {
    /// Counts by place (`LatencyBuckets`); only those that are not 0.
    public private(set) var counts: [Int: UInt64]
    public var sum: UInt64
    /// The longest seen, exactly; 0 if it is not known.
    public var max: UInt64

    public init(counts: [Int: UInt64] = [:], sum: UInt64 = 0, max: UInt64 = 0) {
        self.counts = counts
        self.sum = sum
        self.max = max
    }

    public var count: UInt64 { counts.values.reduce(0, +) }
    public var mean: Double { count == 0 ? 0 : Double(sum) / Double(count) }

    public static func += (a: inout LatencyHistogram, b: LatencyHistogram) {
        a.counts.merge(b.counts, uniquingKeysWith: &+)
        a.sum &+= b.sum
        a.max = Swift.max(a.max, b.max)
    }

    /// What was added since `earlier`. Its maximum is the top of its highest bucket, but no more than ours.
    public func since(_ earlier: LatencyHistogram) -> LatencyHistogram {
        var grown: [Int: UInt64] = [:]
        for (place, count) in counts {
            let added = count &- (earlier.counts[place] ?? 0)
            if added > 0 { grown[place] = added }
        }
        let top = grown.keys.max().map { Swift.min(LatencyBuckets.range($0).upperBound, max) } ?? 0
        return LatencyHistogram(counts: grown, sum: sum &- earlier.sum, max: max > earlier.max ? max : top)
    }

    /// The value that so many per cent do not exceed: the top of its bucket, as HdrHistogram says it; never above the maximum.
    public func percentile(_ percent: Double) -> UInt64 {
        let total = count
        guard total > 0 else { return 0 }
        let wanted = Swift.max(1, UInt64(Swift.max(0, percent / 100 * Double(total) - 1e-6).rounded(.up)))
        var seen: UInt64 = 0
        for place in counts.keys.sorted() {
            seen += counts[place]!
            if seen >= wanted { return Swift.min(LatencyBuckets.range(place).upperBound, max == 0 ? .max : max) }
        }
        return max
    }

    /// Places that are in use with their counts, ascending.
    public var buckets: [(range: ClosedRange<UInt64>, count: UInt64)] {
        counts.keys.sorted().map { (LatencyBuckets.range($0), counts[$0]!) }
    }
}
