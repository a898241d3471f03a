// A comparison run: all forwarders on beds of their own, taking turns, the same frames for each.
//
//   set up ─► rounds of (search the rates of all ─► latency of all) ─► sweeps ─► changes under load ─► report
//
// Only what was measured in one round is compared: a shared machine's speed drifts by the minute.

import Datapath
import Foundation
import Frames
import Glibc
import Policy

/// What to compare, and who wants to know how it goes.
public struct BenchOptions: Sendable {
    public var plan: BenchPlan
    public var forwarders: [ForwarderID]
    public var replay: ReplayOptions?
    /// A policy file in place of the generated one; only with a replay.
    public var policyFile: String?
    public var command: String
    public var version: String

    public init(
        plan: BenchPlan, forwarders: [ForwarderID] = ForwarderID.usual, replay: ReplayOptions? = nil, policyFile: String? = nil,
        command: String, version: String
    ) {
        self.plan = plan
        self.forwarders = forwarders
        self.replay = replay
        self.policyFile = policyFile
        self.command = command
        self.version = version
    }
}

/// How far a run is.
public struct BenchProgress: Sendable {
    public var text: String
    /// 0…1.
    public var share: Double
    public var secondsLeft: Double?
}

/// One forwarder with its bed and what was seen of it.
private final class Contestant {
    let forwarder: any Forwarder
    let bed: Bed
    var rates: [RateBounds] = []
    var cost: [Double] = []
    var costCommon: [Double] = []
    var account: BenchReport.Account?
    var deniedCrossed = 0, reflected = 0, reordered = 0

    init(_ forwarder: any Forwarder, _ bed: Bed) {
        self.forwarder = forwarder
        self.bed = bed
    }

    func clear() {
        rates = []
        cost = []
        costCommon = []
        account = nil
        (deniedCrossed, reflected, reordered) = (0, 0, 0)
    }

    func note(_ trial: Trial) {
        if forwarder.filters { deniedCrossed += trial.deniedArrived }
        reflected += trial.reflected
        reordered += trial.reordered
    }
}

/// Key of a latency: what the trials of several rounds have in common.
private struct LatencyKey: Hashable {
    var forwarder: String
    var hosts: String
    var direction: String
    var load: String
}

private struct LatencyRecord {
    var offered: [Double] = []
    var sent = 0, lost = 0
    var all: [UInt32] = []
    /// By round, of each of its trials. A round counts with their median: a stall of the host hits one trial in several.
    var p50: [Int: [Double]] = [:], p99: [Int: [Double]] = [:]
}

public final class BenchRun {
    private let options: BenchOptions
    private let plan: BenchPlan
    private let progress: (BenchProgress) -> Void
    private let folder: String
    private let runner: TrialRunner
    private let context: ForwarderContext
    private var contestants: [Contestant] = []
    /// Whose turn it is.
    private var current: Contestant?
    private var report: BenchReport
    private var latencies: [LatencyKey: LatencyRecord] = [:]
    private var latencyOrder: [LatencyKey] = []
    private let started = monotonicNow()
    private var stepsDone = 0.0
    private var stepsTotal = 1.0

    public init(_ options: BenchOptions, progress: @escaping (BenchProgress) -> Void) throws(MeasureError) {
        self.options = options
        plan = options.plan
        self.progress = progress
        guard geteuid() == 0 else { throw MeasureError("building the benchmark's networks", hint: "run as root: sudo sekisho bench") }
        let cpus = allowedProcessors()
        guard cpus.count >= 2 else {
            throw MeasureError("using \(cpus.count) processor", hint: "the generator and a polling bridge need one each: two at least")
        }
        folder = NSTemporaryDirectory() + "sekisho-bench-\(getpid())"
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw MeasureError("making the folder \(folder): \(error.localizedDescription)")
        }
        // The ends of a list of processors are least likely to share a core.
        let generator = cpus[0], worker = cpus[cpus.count - 1]
        let longest = ([plan.base] + plan.sweeps).map { max(TrafficMix.listed($0.flows), 5000) }.max() ?? 5000
        let isReplay = options.replay != nil
        let programs: HostPrograms
        do throws(MeasureError) {
            programs = try HostPrograms(
                capacity: isReplay ? max(longest, 100_000) : longest, kept: isReplay ? HostPrograms.longestFrame : HostPrograms.headerBytes)
        } catch {
            // There is no object yet whose end would do it.
            try? FileManager.default.removeItem(atPath: folder)
            throw error
        }
        runner = TrialRunner(programs: programs, generatorCPU: generator, processors: cpus)
        context = ForwarderContext(programs: programs, folder: folder, workerCPU: worker, generatorCPU: generator)
        report = BenchReport(
            created: Date(), sekishoVersion: options.version, preset: plan.name, command: options.command, machine: .describe(),
            bed: BenchReport.BedFacts(
                generatorCpu: generator, workerCpu: worker, rounds: plan.rounds, trialS: plan.trialSeconds, burst: plan.burst,
                text:
                    "veth pairs in network namespaces; BPF_PROG_RUN generates live frames on processor \(generator), "
                    + "tc ingress programs stamp and count them at the other end; whoever polls does so on processor \(worker)"))
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    // MARK: - The whole run

    public func run() throws(MeasureError) -> BenchReport {
        stepsTotal = estimate()
        Bed.removeLeftovers()
        let policy = try PolicyForms(
            plan.base, text: try options.policyFile.map { (path: String) throws(MeasureError) in try Self.text(of: path) }, folder: folder)
        defer { for contestant in contestants { contestant.forwarder.stop() } }
        say("listening to the bed")
        report.machine.notes.append(BedNoise.measure(on: [context.generatorCPU, context.workerCPU], of: runner.processors).text)
        try setUp(policy)
        guard !contestants.isEmpty else {
            throw MeasureError(
                "comparing forwarders: none can run here: "
                    + report.forwarders.compactMap { $0.skipped.map { "\($0)" } }.joined(separator: "; "))
        }
        let frames = try baseFrames(policy)
        try measureBase(frames)
        for mix in plan.sweeps {
            try Interruption.check()
            try sweep(mix)
        }
        if options.replay == nil, plan.swapSeconds > 0 { try measureSwaps() }
        finish()
        return report
    }

    private static func text(of path: String) throws(MeasureError) -> String {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw MeasureError("reading the policy \(path)", hint: "does it exist?")
        }
        return String(decoding: data, as: UTF8.self)
    }

    private var replayRound: UInt64 = 0

    private func baseFrames(_ policy: PolicyForms) throws(MeasureError) -> [ListedFrame] {
        guard let replay = options.replay else { return plan.base.frames() }
        let made: CaptureReplay
        do {
            made = try CaptureReplay(replay, table: try compiledTable(policy.file))
        } catch let error as MeasureError {
            throw error
        } catch {
            throw MeasureError("\(error)")
        }
        guard !made.frames.isEmpty else { throw MeasureError("replaying \(replay.captures.joined(separator: ", ")): no frame can be sent") }
        guard made.frames.contains(where: \.isAllowed) else {
            throw MeasureError(
                "replaying \(replay.captures.joined(separator: ", ")): the policy allows none of its frames",
                hint: "give a policy for it: --policy FILE (see: sekisho simulate FILE CAPTURE), and --inside-net if it has two sides")
        }
        replayRound = made.duration
        report.machine.notes += made.notes
        return made.frames
    }

    private func setUp(_ policy: PolicyForms) throws(MeasureError) {
        for id in options.forwarders {
            try Interruption.check()
            let forwarder = id.make(context)
            say("starting \(forwarder.title)")
            var skipped = forwarder.whatIsMissing()
            if skipped == nil {
                do throws(MeasureError) {
                    let bed = try Bed(id.rawValue, isCable: forwarder is Cable, programs: runner.programs)
                    try forwarder.start(bed, policy)
                    forwarder.pause()
                    contestants.append(Contestant(forwarder, bed))
                } catch {
                    forwarder.stop()
                    // Its own end may be the interruption's.
                    try Interruption.check()
                    skipped = error.description
                }
            }
            report.forwarders.append(
                BenchReport.ForwarderFacts(
                    id: forwarder.id, title: forwarder.title, why: forwarder.why, filters: forwarder.filters,
                    version: forwarder.version, setting: forwarder.setting, skipped: skipped))
            step(1)
        }
    }

    /// Runs `body` with a contestant on the processors and its bed in use.
    private func turn(_ contestant: Contestant, _ body: () throws(MeasureError) -> Void) throws(MeasureError) {
        contestant.forwarder.resume()
        current = contestant
        defer {
            current = nil
            contestant.forwarder.pause()
        }
        try contestant.bed.use(runner.programs)
        try body()
    }

    // MARK: - Rates

    private func measureBase(_ frames: [ListedFrame]) throws(MeasureError) {
        try runner.programs.load(frames)
        try chooseSteering()
        for round in 0..<plan.rounds {
            try searchAll(round, of: plan.rounds, frames, precision: plan.precision)
            try measureLatency(round, frames)
        }
        try account(frames)
        report.scenarios.append(scenario(plan.base, replayTitle()))
        report.throughput += throughput(plan.base.id)
        report.latency = latencyRows(plan.base.id)
    }

    private func replayTitle() -> String? {
        options.replay.map { "replay of \($0.captures.map { ($0 as NSString).lastPathComponent }.joined(separator: ", "))" }
    }

    /// The bridges get receive packet steering if it serves them better.
    private func chooseSteering() throws(MeasureError) {
        for contestant in contestants {
            guard let bridge = contestant.forwarder as? LinuxBridge else { continue }
            try turn(contestant) { () throws(MeasureError) in
                var carried: [Double] = []
                for cpu in [nil, context.workerCPU] {
                    try bridge.steer(contestant.bed, to: cpu)
                    // Where the better rate is lost frames, more arriving is still better.
                    carried.append(try trial(SendingPlan(rate: RateSearch.flood, seconds: plan.trialSeconds * 2, burst: plan.burst)).arrivedRate)
                }
                try bridge.choose(contestant.bed, cpu: context.workerCPU, alone: carried[0], steered: carried[1])
                if let index = report.forwarders.firstIndex(where: { $0.id == bridge.id }) {
                    report.forwarders[index].setting =
                        "rates: \(bridge.setting) (carried \(Int(carried[0] / 1000)) kpps on one, \(Int(carried[1] / 1000)) with RPS); "
                        + "latency: RPS only where one processor does not carry the load"
                }
            }
        }
    }

    private func trial(_ sending: SendingPlan) throws(MeasureError) -> Trial {
        guard let bed = current?.bed else { fatalError("no contestant has its turn") }
        try Interruption.check()
        return try runner.run(bed, sending)
    }

    private func searchAll(_ round: Int, of rounds: Int, _ frames: [ListedFrame], precision: Double) throws(MeasureError) {
        // Another order each round: who comes after whom must not matter.
        for contestant in contestants.rotated(by: round * 4) {
            say("round \(round + 1) of \(rounds): rates of \(contestant.forwarder.title)")
            try turn(contestant) { () throws(MeasureError) in
                // The first frames warm caches and a bridge's address table.
                _ = try trial(SendingPlan(rate: 20_000, seconds: 0.05))
                let search = RateSearch(seconds: plan.trialSeconds, burst: plan.burst, precision: precision)
                let bounds = try search.run { (sending) throws(MeasureError) -> Trial in
                    let result = try trial(sending)
                    contestant.note(result)
                    return result
                }
                contestant.rates.append(bounds)
                let paid = try trial(SendingPlan(rate: max(bounds.pdr, 1000), seconds: plan.costSeconds, burst: plan.burst))
                contestant.cost.append(paid.cpuNanosecondsPerFrame)
            }
            step(1)
        }
        guard let common = commonRate(round) else { return }
        for contestant in contestants {
            try turn(contestant) { () throws(MeasureError) in
                let paid = try trial(SendingPlan(rate: common, seconds: plan.costSeconds, burst: plan.burst))
                contestant.costCommon.append(paid.cpuNanosecondsPerFrame)
            }
        }
    }

    /// 90 % of what Linux bridge + nftables carried in a round.
    private func commonRate(_ round: Int) -> Double? {
        contestants.first { $0.forwarder.id == ForwarderID.bridgeNft.rawValue }.map { $0.rates[round].pdr * 0.9 }.flatMap { $0 > 0 ? $0 : nil }
    }

    /// One overloaded trial each: where did every frame go?
    private func account(_ frames: [ListedFrame]) throws(MeasureError) {
        for contestant in contestants {
            say("accounting for every frame of \(contestant.forwarder.title)")
            try turn(contestant) { () throws(MeasureError) in
                let bed = contestant.bed
                let before = contestant.forwarder.drops(bed), portsBefore = bed.portDrops()
                let rate = max(contestant.rates.last?.pdr ?? 0, 10_000) * 1.2
                let result = try trial(SendingPlan(rate: rate, seconds: plan.trialSeconds, burst: plan.burst))
                contestant.note(result)
                let after = contestant.forwarder.drops(bed), portsAfter = bed.portDrops()
                let own = Self.difference(after, before), ports = Self.difference(portsAfter, portsBefore) ?? [:]
                let all = (own ?? [:]).merging(ports) { $0 + $1 }
                let arrived = result.allowedArrived + result.deniedArrived
                let named = all.values.reduce(0, +)
                contestant.account = BenchReport.Account(
                    sent: result.sent, arrived: arrived, drops: all,
                    unexplained: own == nil && named == 0 && result.sent != arrived ? nil : result.sent - arrived - Int(named))
            }
            step(0.3)
        }
    }

    private static func difference(_ after: [String: UInt64]?, _ before: [String: UInt64]?) -> [String: UInt64]? {
        guard let after, let before else { return nil }
        return after.reduce(into: [:]) { result, entry in
            let grown = entry.value &- (before[entry.key] ?? 0)
            if grown > 0 { result[entry.key] = grown }
        }
    }

    // MARK: - Latency

    private func measureLatency(_ round: Int, _ frames: [ListedFrame]) throws(MeasureError) {
        let common = commonRate(round)
        let turned = TrafficMix.turned(frames)
        for contestant in contestants.rotated(by: round * 4 + 1) {
            say("round \(round + 1) of \(plan.rounds): latency of \(contestant.forwarder.title)")
            try turn(contestant) { () throws(MeasureError) in
                for load in plan.loads {
                    var sending = SendingPlan(rate: 0, seconds: plan.latencySeconds, burst: plan.burst)
                    switch load {
                    case .idle(let idle): sending.rate = idle
                    case .share(let share): sending.rate = contestant.rates[round].pdr * share
                    case .common: sending.rate = common ?? 0
                    case .rate(let rate): sending.rate = rate
                    case .recorded:
                        sending.round = replayRound
                        sending.seconds = max(plan.latencySeconds, Double(replayRound) / 1e9)
                        sending.rate = Double(frames.count) / Double(replayRound) * 1e9
                    }
                    guard sending.rate > 0 else { continue }
                    let bridge = contestant.forwarder as? LinuxBridge, steersTo = bridge?.steersTo
                    try bridge?.prepare(contestant.bed, for: sending.rate, cpu: context.workerCPU)
                    for (direction, side, list) in [
                        ("outside_to_inside", Side.outside, frames), ("inside_to_outside", .inside, turned),
                    ] {
                        try runner.programs.load(list)
                        let from = frames.contains { $0.from != frames[0].from } ? Optional(side) : nil
                        for _ in 0..<(load == .recorded ? 1 : plan.latencyRepeats) {
                            let result = try trial(sending)
                            contestant.note(result)
                            record(
                                LatencyKey(forwarder: contestant.forwarder.id, hosts: "polling", direction: direction, load: load.name),
                                round, offered: sending.rate, sent: result.sent,
                                lost: result.allowedSent - result.allowedArrived,
                                result.latencies(of: list, from: from))
                        }
                    }
                    try runner.programs.load(frames)
                    if plan.measuresSleepers, options.replay == nil {
                        try measureSleepers(contestant, round, load, sending.rate)
                    }
                    try bridge?.steer(contestant.bed, to: steersTo)
                }
            }
            step(1)
        }
        try runner.programs.load(frames)
    }

    private func measureSleepers(_ contestant: Contestant, _ round: Int, _ load: BenchPlan.LoadPoint, _ rate: Double) throws(MeasureError) {
        let hosts = SleepingHosts(contestant.bed, cpu: context.generatorCPU)
        let isIdle: Bool
        if case .idle = load { isIdle = true } else { isIdle = false }
        let measured = try hosts.measure(seconds: plan.latencySeconds) { () throws(MeasureError) in
            // At idle the applications' own frames are all there is.
            if isIdle { return }
            _ = try trial(SendingPlan(rate: rate, seconds: plan.latencySeconds, burst: plan.burst))
        }
        record(
            LatencyKey(forwarder: contestant.forwarder.id, hosts: "sleeping", direction: "round_trip_half", load: load.name),
            round, offered: isIdle ? Double(measured.asked) / plan.latencySeconds : rate, sent: measured.asked,
            lost: measured.asked - measured.halves.count, measured.halves)
    }

    private func record(_ key: LatencyKey, _ round: Int, offered: Double, sent: Int, lost: Int, _ sorted: [UInt32]) {
        if latencies[key] == nil { latencyOrder.append(key) }
        var record = latencies[key] ?? LatencyRecord()
        record.offered.append(offered)
        record.sent += sent
        record.lost += lost
        record.all += sorted
        if !sorted.isEmpty {
            record.p50[round, default: []].append(Double(sorted[LatencySummary.rank(50, of: sorted.count)]))
            record.p99[round, default: []].append(Double(sorted[LatencySummary.rank(99, of: sorted.count)]))
        }
        latencies[key] = record
    }

    private func latencyRows(_ scenario: String) -> [BenchReport.Latency] {
        latencyOrder.map { key in
            let record = latencies[key]!
            let summary = LatencySummary(sorted: record.all.sorted())
            var reference = key
            reference.forwarder = ForwarderID.bridgeNft.rawValue
            let other = latencies[reference]
            func medians(_ trials: [Int: [Double]]) -> [Int: Double] { trials.compactMapValues { Statistic($0)?.median } }
            func ratio(_ mine: [Int: [Double]], _ theirs: [Int: [Double]]?) -> Statistic? {
                let theirs = theirs.map(medians)
                return Statistic(medians(mine).sorted { $0.key < $1.key }.compactMap { round, value in
                    theirs?[round].flatMap { $0 > 0 ? value / $0 : nil }
                })
            }
            func rounds(_ trials: [Int: [Double]]) -> Statistic? {
                Statistic(medians(trials).sorted { $0.key < $1.key }.map(\.value))
            }
            return BenchReport.Latency(
                scenario: scenario, forwarder: key.forwarder, hosts: key.hosts, direction: key.direction, load: key.load,
                offeredFps: (Statistic(record.offered)?.median ?? 0).rounded(), sent: record.sent, lost: record.lost,
                count: summary.count, meanNs: summary.meanNs, p50Ns: summary.p50Ns, p90Ns: summary.p90Ns, p99Ns: summary.p99Ns,
                p999Ns: summary.p999Ns, p9999Ns: summary.p9999Ns, maxNs: summary.maxNs, percentiles: summary.percentiles,
                p50Rounds: rounds(record.p50), p99Rounds: rounds(record.p99), ratioP50: ratio(record.p50, other?.p50),
                ratioP99: ratio(record.p99, other?.p99))
        }
    }

    // MARK: - Other traffic

    private func sweep(_ mix: TrafficMix) throws(MeasureError) {
        say("changing to \(mix.title)")
        let policy = try PolicyForms(mix, folder: folder)
        let frames = mix.frames()
        try runner.programs.load(frames)
        var left: [Contestant] = []
        for contestant in contestants {
            contestant.clear()
            // Only the filters' work depends on the policy; the others have shown what they can.
            if !contestant.forwarder.filters, mix.size == plan.base.size, mix.flows == plan.base.flows { continue }
            if mix.rules > contestant.forwarder.mostRules {
                report.machine.notes.append(
                    "\(contestant.forwarder.title) left out of \"\(mix.title)\": it takes minutes to load so many rules")
                continue
            }
            contestant.forwarder.resume()
            defer { contestant.forwarder.pause() }
            do throws(MeasureError) {
                try contestant.forwarder.change(contestant.bed, to: policy)
                left.append(contestant)
            } catch {
                report.machine.notes.append("\(contestant.forwarder.title) left out of \"\(mix.title)\": \(error.description)")
            }
        }
        let all = contestants
        contestants = left
        defer { contestants = all }
        let rounds = min(plan.rounds, 3)
        for round in 0..<rounds { try searchAll(round, of: rounds, frames, precision: max(plan.precision, 0.05)) }
        try account(frames)
        report.scenarios.append(scenario(mix, nil))
        report.throughput += throughput(mix.id)
    }

    // MARK: - Under change

    /// A policy swapped once a second at half load, beside the same without swaps but with the same work next to it.
    private func measureSwaps() throws(MeasureError) {
        let rules = 100_000
        guard let contestant = contestants.first(where: { $0.forwarder.id == ForwarderID.sekishoHybrid.rawValue }) else { return }
        say("swapping a policy of \(PeopleFormat.grouped(rules)) rules under load")
        let mix = TrafficMix(rules: rules)
        let policy = try PolicyForms(mix, folder: folder)
        // The same conversations, and one rule more: a table of its own.
        var other = mix
        other.rules += 1
        let variant = try PolicyForms(other, folder: folder)
        let frames = mix.frames()
        try runner.programs.load(frames)
        try turn(contestant) { () throws(MeasureError) in
            try contestant.forwarder.change(contestant.bed, to: policy)
            let search = RateSearch(seconds: plan.trialSeconds, burst: plan.burst, precision: 0.1)
            let rate = try search.run { (sending) throws(MeasureError) -> Trial in try trial(sending) }.pdr / 2
            for withSwaps in [false, true] {
                let control = (contestant.forwarder as! SekishoBridge).control
                let swapper = Swapper(files: [variant.file, policy.file], control: control, swaps: withSwaps)
                swapper.start()
                let result: Trial
                do throws(MeasureError) {
                    result = try trial(SendingPlan(rate: rate, seconds: plan.swapSeconds, burst: plan.burst, yields: true))
                } catch {
                    swapper.stop()
                    throw error
                }
                let times = swapper.stop()
                if let failure = swapper.failure { throw MeasureError("swapping the policy under load: \(failure)") }
                let sorted = result.latencies(of: frames)
                let summary = LatencySummary(sorted: sorted)
                report.swaps.append(
                    BenchReport.Swaps(
                        forwarder: contestant.forwarder.id, rules: rules, withSwaps: withSwaps, offeredFps: rate.rounded(),
                        sent: result.sent, lost: result.allowedSent - result.allowedArrived, swaps: withSwaps ? times.count : 0, p50Ns: summary.p50Ns,
                        p99Ns: summary.p99Ns, maxNs: summary.maxNs, timeline: timeline(result, rate),
                        swapTimesS: withSwaps ? times.map { (Double($0) - Double(result.begin)) / 1e9 } : []))
            }
        }
        step(plan.swapSeconds)
    }

    /// Percentiles of slices of a trial.
    private func timeline(_ trial: Trial, _ rate: Double) -> [[Double]] {
        let slice = max(0.05, trial.seconds / 120)
        var slices: [[UInt32]] = []
        for sample in trial.samples {
            let at = Int(Double(sample.sequence) / rate / slice)
            while slices.count <= at { slices.append([]) }
            slices[at].append(sample.latency)
        }
        return slices.enumerated().compactMap { index, values in
            guard !values.isEmpty else { return nil }
            let summary = LatencySummary(sorted: values.sorted())
            return [(Double(index) * slice * 1000).rounded() / 1000, summary.p50Ns, summary.p99Ns, summary.maxNs]
        }
    }

    // MARK: - The report

    private func scenario(_ mix: TrafficMix, _ title: String?) -> BenchReport.Scenario {
        BenchReport.Scenario(
            id: mix.id, title: title ?? mix.title,
            traffic: BenchReport.Scenario.Traffic(
                kind: options.replay != nil ? "replay" : mix.kind.rawValue, flows: mix.flows, rules: mix.rules, frame: mix.size.name,
                deniedPercent: mix.deniedPercent, text: title ?? mix.title))
    }

    private func throughput(_ scenario: String) -> [BenchReport.Throughput] {
        contestants.map { contestant in
            func ratios(_ value: (Contestant) -> [Double]) -> [String: Statistic] {
                var result: [String: Statistic] = [:]
                for other in contestants where other !== contestant {
                    let pairs = zip(value(contestant), value(other)).filter { $0.1 > 0 }
                    if let statistic = Statistic(pairs.map { $0 / $1 }) { result[other.forwarder.id] = statistic }
                }
                return result
            }
            return BenchReport.Throughput(
                scenario: scenario, forwarder: contestant.forwarder.id, pdrFps: Statistic(contestant.rates.map { $0.pdr.rounded() }),
                ndrFps: Statistic(contestant.rates.map { $0.ndr.rounded() }), cpuNsPerFrame: Statistic(contestant.cost.map { $0.rounded() }),
                cpuNsPerFrameCommon: Statistic(contestant.costCommon.map { $0.rounded() }), account: contestant.account,
                deniedCrossed: contestant.deniedCrossed, reflected: contestant.reflected, reordered: contestant.reordered,
                ratioPdr: ratios { $0.rates.map(\.pdr) }, ratioCpu: ratios(\.cost))
        }
    }

    private func finish() {
        report.durationS = (Double(monotonicNow() - started) / 1e8).rounded() / 10
        report.bars = BenchBars.judge(report)
    }

    // MARK: - Progress

    /// Seconds the run will take, roughly; steps are worth what they take.
    private func estimate() -> Double {
        let forwarders = Double(options.forwarders.count)
        return forwarders * (1 + Double(plan.rounds) * 2 + 0.3) + plan.swapSeconds
            + forwarders * Double(plan.sweeps.count) * (Double(min(plan.rounds, 3)) + 0.3)
    }

    private func step(_ worth: Double) { stepsDone += worth }

    private func say(_ text: String) {
        let share = min(1, stepsDone / stepsTotal)
        let elapsed = Double(monotonicNow() - started) / 1e9
        progress(BenchProgress(text: text, share: share, secondsLeft: share > 0.05 ? elapsed / share * (1 - share) : nil))
    }
}

extension Array {
    fileprivate func rotated(by places: Int) -> [Element] {
        isEmpty ? self : Array(self[(places % count)...]) + Array(self[..<(places % count)])
    }
}

/// Applies two policies by turns once a second; or only checks them, which is the same work without the swap.
private final class Swapper: @unchecked Sendable {
    // Unchecked: `times` and `failure` are read when the thread has ended.
    private let files: [String]
    private let control: String
    private let swaps: Bool
    private var times: [UInt64] = []
    private(set) var failure: String?
    private let ending = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    init(files: [String], control: String, swaps: Bool) {
        self.files = files
        self.control = control
        self.swaps = swaps
    }

    func start() {
        Thread.detachNewThread { [self] in
            var turn = 0
            while ending.wait(timeout: .now() + 1) == .timedOut {
                let file = files[turn % files.count]
                do throws(MeasureError) {
                    try Shell.run(swaps ? [ownBinary(), "apply", file, "--control", control] : [ownBinary(), "check", file])
                } catch {
                    failure = error.description
                    break
                }
                times.append(monotonicNow())
                turn += 1
            }
            ended.signal()
        }
    }

    @discardableResult
    func stop() -> [UInt64] {
        ending.signal()
        ended.wait()
        return times
    }
}
