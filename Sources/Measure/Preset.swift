// How much a run measures: what fits three minutes, what fits a coffee, and everything.

/// Lengths and loads of a run.
public struct BenchPlan: Sendable {
    public var name: String
    public var rounds: Int
    /// Seconds of a throughput trial, of one that counts processor time, and of a latency trial.
    public var trialSeconds: Double
    public var costSeconds: Double
    public var latencySeconds: Double
    /// Latency trials of one kind in a round.
    public var latencyRepeats = 1
    /// A search ends when what is left of its interval is this share of it.
    public var precision: Double
    /// Frames due at once. 1: evenly spaced, as RFC 2544 has it.
    public var burst = 1
    /// Where latency and changes are measured, and what ratios and bars are of.
    public var base = TrafficMix()
    /// Throughput only.
    public var sweeps: [TrafficMix]
    public var loads: [LoadPoint]
    public var swapSeconds: Double
    public var measuresSleepers = true

    /// Where a latency is measured.
    public enum LoadPoint: Sendable, Equatable {
        /// Frames a second.
        case idle(Double)
        /// Of the forwarder's own PDR.
        case share(Double)
        /// 90 % of what Linux bridge + nftables carries.
        case common
        /// Frames a second, and a capture's own times.
        case rate(Double)
        case recorded

        var name: String {
            switch self {
            case .idle: "idle"
            case .share(let share): "\(Int((share * 100).rounded()))"
            case .common: "common"
            case .rate: "rate"
            case .recorded: "recorded"
            }
        }
    }

    /// Leaves the sweeps that differ from the base in this alone.
    public mutating func keepSweeps(over dimension: SweepDimension) {
        let base = base
        sweeps.removeAll { mix in
            var same = base
            switch dimension {
            case .all: return false
            case .none: return true
            case .rules: same.rules = mix.rules
            case .flows: same.flows = mix.flows
            case .size: same.size = mix.size
            case .denied: same.deniedPercent = mix.deniedPercent
            case .fab: return mix.kind != .fab
            }
            return mix.id != same.id
        }
    }

    /// Frames a second that are next to nothing.
    static let idleRate = 2000.0

    public static let quick = BenchPlan(
        name: "quick", rounds: 3, trialSeconds: 0.13, costSeconds: 0.3, latencySeconds: 0.08, precision: 0.08, sweeps: [],
        loads: [.idle(idleRate), .share(0.1), .share(0.5), .share(0.9), .common], swapSeconds: 4)

    public static let standard = BenchPlan(
        name: "standard", rounds: 5, trialSeconds: 0.3, costSeconds: 1, latencySeconds: 0.15, latencyRepeats: 5, precision: 0.03,
        sweeps: [
            TrafficMix(rules: 1), TrafficMix(rules: 1000), TrafficMix(rules: 100_000), TrafficMix(rules: 1_000_000),
            TrafficMix(flows: 1), TrafficMix(flows: 100), TrafficMix(flows: 10_000), TrafficMix(flows: 100_000),
            TrafficMix(size: .fixed(1500)), TrafficMix(size: .imix), TrafficMix(deniedPercent: 50), TrafficMix(deniedPercent: 100),
            TrafficMix(kind: .fab),
        ],
        loads: [.idle(idleRate), .share(0.1), .share(0.5), .share(0.9), .common], swapSeconds: 10)

    /// Flows {1, 100, 10k, 100k} × rules {1, 1k, 10k, 100k, 1M} × sizes {64, 512, 1500, IMIX} × denied {0, 50, 100 %}, and
    /// the fab mix.
    public static let full: BenchPlan = {
        var plan = standard
        plan.name = "full"
        plan.sweeps = [TrafficMix(kind: .fab)]
        for rules in [1, 1000, 10_000, 100_000, 1_000_000] {
            for flows in [1, 100, 10_000, 100_000] {
                for size in [FrameSize.fixed(64), .fixed(512), .fixed(1500), .imix] {
                    for denied in [0, 50, 100] {
                        plan.sweeps.append(TrafficMix(flows: flows, rules: rules, size: size, deniedPercent: denied))
                    }
                }
            }
        }
        return plan
    }()
}

/// What a sweep varies.
public enum SweepDimension: String, CaseIterable, Sendable { case all, none, rules, flows, size, denied, fab }
