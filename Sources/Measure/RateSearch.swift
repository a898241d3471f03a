// The highest rate a forwarder carries without loss (NDR) and with at most 0.5 % (PDR), by bisection.
//
// RFC 2544 26.1 searches the first; fd.io CSIT added the second, because a single frame lost to
// a stranger's interrupt says little of a forwarder. Every trial narrows both, as in CSIT's MLRsearch.

/// What a search found. Frames a second of allowed frames offered.
struct RateBounds {
    var ndr: Double
    var pdr: Double
    /// The trial at PDR.
    var atPDR: Trial?
    var trials = 0
}

struct RateSearch {
    /// 0.5 %: fd.io CSIT's partial drop rate.
    static let partialLoss = 0.005
    /// Offered to find where to begin: more than the generator can send.
    static let flood = 5_000_000.0

    var seconds: Double
    var burst: Int
    /// The search ends when what is left of the interval is this share of it.
    var precision: Double

    func run(_ trial: (SendingPlan) throws(MeasureError) -> Trial) throws(MeasureError) -> RateBounds {
        let flooded = try trial(SendingPlan(rate: Self.flood, seconds: seconds, burst: burst))
        var bounds = RateBounds(ndr: 0, pdr: 0, trials: 1)
        // Under a flood a forwarder may carry less than it can, or more for once.
        let carried = max(flooded.arrivedRate, 1000) / allowedShare(flooded)
        var low = 0.0, high = carried * 1.3
        func offer(_ rate: Double) throws(MeasureError) -> Trial {
            bounds.trials += 1
            let result = try trial(SendingPlan(rate: rate, seconds: seconds, burst: burst))
            if result.lossRatio <= Self.partialLoss, rate > bounds.pdr {
                bounds.pdr = rate
                bounds.atPDR = result
            }
            if result.lossRatio == 0 { bounds.ndr = max(bounds.ndr, rate) }
            return result
        }
        // The upper end must have been seen to lose: what a flood chokes may carry several times as much of less.
        while high < Self.flood, try offer(high).lossRatio <= Self.partialLoss {
            low = high
            high *= 2
        }
        var next = low == 0 ? carried * 0.95 : (low + high) / 2
        while high - low > high * precision {
            if try offer(next).lossRatio <= Self.partialLoss { low = next } else { high = next }
            // Nothing gets through: there is no rate to find.
            if bounds.trials > 40 || high < 100 { break }
            next = low == 0 ? high * 0.75 : (low + high) / 2
        }
        // Lossless: from the best seen up to PDR.
        low = bounds.ndr
        high = bounds.pdr
        while high - low > high * precision * 2, bounds.trials < 60 {
            next = low == 0 ? high * 0.8 : (low + high) / 2
            if try offer(next).lossRatio == 0 { low = max(low, next) } else { high = next }
        }
        return bounds
    }

    private func allowedShare(_ trial: Trial) -> Double { max(0.001, Double(trial.allowedDue) / Double(trial.due)) }
}
