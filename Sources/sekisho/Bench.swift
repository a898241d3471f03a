import Allowlist
import ArgumentParser
import Control
import Datapath
import Foundation
import Glibc
import Measure
import Policy

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare Sekisho with its peers on this machine: throughput, latency, processor time.",
        discussion: """
            Builds network namespaces of its own and never touches a real port. Needs root and two processors. \
            A peer that is not installed is skipped and said so; Scripts/peers installs them all.
            """,
        subcommands: [BenchRunCommand.self, BenchCompare.self], defaultSubcommand: BenchRunCommand.self)
}

enum PresetName: String, ExpressibleByArgument, CaseIterable {
    case quick, standard, full

    var plan: BenchPlan {
        switch self {
        case .quick: .quick
        case .standard: .standard
        case .full: .full
        }
    }
}

extension SweepDimension: ExpressibleByArgument {}

extension FrameSize: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// "recorded", "recorded*10", "50000" (frames a second), "fastest".
struct ReplayTiming: ExpressibleByArgument {
    var timing: ReplayOptions.Timing

    init?(argument: String) {
        if argument == "fastest" {
            timing = .fastest
        } else if argument == "recorded" {
            timing = .recorded(1)
        } else if argument.hasPrefix("recorded*"), let speed = Double(argument.dropFirst(9)), speed > 0, speed.isFinite {
            timing = .recorded(speed)
        } else if let rate = Double(argument), rate >= 1, rate <= 5_000_000 {
            timing = .rate(rate)
        } else {
            return nil
        }
    }
}

extension AddressPrefix: ExpressibleByArgument {
    public init?(argument: String) {
        guard let written = WrittenAddress.network(argument) else { return nil }
        self = written
    }
}

/// "10.1.2.0/24=10.9.2.0/24".
struct RewriteArgument: ExpressibleByArgument {
    var rewrite: AddressRewrite

    init?(argument: String) {
        let sides = argument.split(separator: "=").map { WrittenAddress.network(String($0)) }
        guard sides.count == 2, let from = sides[0], let to = sides[1], from.family == .ipv4, to.family == .ipv4,
            from.length == to.length
        else { return nil }
        rewrite = AddressRewrite(
            from: UInt32(truncatingIfNeeded: from.words.low), to: UInt32(truncatingIfNeeded: to.words.low), length: from.length)
    }
}

struct BenchRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Measure (the default).",
        discussion: """
            Ends with exit code 0 when everything that could be measured was, 1 if something failed. Bars that are \
            missed are shown, and change the exit code only with --strict.
            """)

    @Option(help: "quick (three minutes), standard (half an hour) or full (hours: every mix).") var preset: PresetName = .quick
    @Option(help: ArgumentHelp("Only these, separated by commas: \(ForwarderID.allCases.map(\.rawValue).joined(separator: ", ")).", valueName: "list"))
    var forwarders: String?
    @Option(help: "Rounds in place of the preset's.") var rounds: Int?
    @Option(help: "Frames that are due at once; 1: evenly spaced, as RFC 2544 has it.") var burst = 1
    @Option(help: "Rules of the policy.") var rules = 10_000
    @Option(help: "Flows.") var flows = 1000
    @Option(help: "Frame size: 64 to 1518, or imix.") var size: FrameSize = .fixed(64)
    @Option(help: "Per cent of the frames that the policy denies: 0 to 100.") var denied = 0
    @Flag(help: "The fab mix in place of generated flows.") var fab = false
    @Option(help: ArgumentHelp("Vary only this beside the base mix: \(SweepDimension.allCases.map(\.rawValue).joined(separator: ", ")).", valueName: "what"))
    var sweep: SweepDimension = .all
    @Option(help: ArgumentHelp("Replay captures in place of generated frames.", valueName: "capture")) var replay: [String] = []
    @Option(help: ArgumentHelp("Policy for the replay.", valueName: "file")) var policy: String?
    @Option(help: ArgumentHelp("When to send: recorded, recorded*10, a rate in frames a second, or fastest.", valueName: "timing"))
    var timing: ReplayTiming?
    @Option(help: ArgumentHelp("Hosts whose frames come from the inside.", valueName: "network")) var insideNet: [AddressPrefix] = []
    @Option(help: ArgumentHelp("Rewrite addresses of the capture, e.g. 10.1.2.0/24=10.9.2.0/24.", valueName: "from=to"))
    var rewrite: [RewriteArgument] = []
    @Option(name: .customLong("json"), help: ArgumentHelp("Write the report as JSON.", valueName: "file")) var jsonFile: String?
    @Option(name: .customLong("html"), help: ArgumentHelp("Write the report as one HTML file.", valueName: "file")) var htmlFile: String?
    @Flag(help: "Exit code 1 if a bar that was measured is missed.") var strict = false

    func validate() throws {
        guard (1...100).contains(rounds ?? 1) else { throw ValidationError("--rounds is 1 to 100") }
        guard (1...64).contains(burst) else { throw ValidationError("--burst is 1 to 64") }
        guard (1...1_000_000).contains(rules) else { throw ValidationError("--rules is 1 to 1000000") }
        guard (1...1_000_000).contains(flows) else { throw ValidationError("--flows is 1 to 1000000") }
        guard (0...100).contains(denied) else { throw ValidationError("--denied is 0 to 100") }
        if replay.isEmpty, policy != nil || timing != nil || !insideNet.isEmpty || !rewrite.isEmpty {
            throw ValidationError("--policy, --timing, --inside-net and --rewrite belong to --replay")
        }
        if !replay.isEmpty, policy == nil { throw ValidationError("--replay needs the --policy its frames are judged by") }
        if fab, !replay.isEmpty { throw ValidationError("--fab and --replay exclude each other") }
        _ = try chosen()
    }

    private func chosen() throws -> [ForwarderID] {
        guard let forwarders else { return ForwarderID.usual }
        let chosen = try forwarders.split(separator: ",").map { name in
            guard let id = ForwarderID(rawValue: name.trimmingCharacters(in: .whitespaces)) else {
                throw ValidationError("--forwarders: \"\(name)\" is none of \(ForwarderID.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            return id
        }
        guard !chosen.isEmpty else { throw ValidationError("--forwarders names none") }
        // Each has a bed of its own, named after it.
        guard Set(chosen).count == chosen.count else { throw ValidationError("--forwarders names one twice") }
        return chosen
    }

    private func plan() -> BenchPlan {
        var plan = preset.plan
        plan.rounds = rounds ?? plan.rounds
        plan.burst = burst
        plan.base = TrafficMix(kind: fab ? .fab : .generated, flows: flows, rules: rules, size: size, deniedPercent: denied)
        if !replay.isEmpty {
            plan.base.kind = .replay
            plan.sweeps = []
            switch timing?.timing ?? .recorded(1) {
            case .recorded: plan.loads = [.recorded]
            case .rate(let rate): plan.loads = [.rate(rate)]
            case .fastest: plan.loads = []
            }
        }
        plan.keepSweeps(over: sweep)
        plan.sweeps.removeAll { $0.id == plan.base.id }
        return plan
    }

    func run() throws {
        let options = BenchOptions(
            plan: plan(), forwarders: try chosen(),
            replay: replay.isEmpty
                ? nil
                : ReplayOptions(
                    captures: replay, timing: timing?.timing ?? .recorded(1), inside: insideNet, rewrites: rewrite.map(\.rewrite)),
            policyFile: policy, command: (["sekisho"] + CommandLine.arguments.dropFirst()).joined(separator: " "),
            version: Sekisho.configuration.version)
        // Where the report goes must be known to be writable before an hour of measuring, not after.
        for file in [jsonFile, htmlFile].compactMap({ $0 }) { try OutputFile.check(file) }
        Interruption.watch()
        let report: BenchReport
        do throws(MeasureError) {
            report = try BenchRun(options, progress: ProgressLine.show).run()
        } catch {
            ProgressLine.clear()
            Output.error("error: \(error)")
            throw Exit.failed
        }
        ProgressLine.clear()
        print(report.text)
        let json = try MachineFormat.encoder().encode(report)
        if let jsonFile { try OutputFile.write(json, to: jsonFile) }
        if let htmlFile { try OutputFile.write(Data(try page(json).utf8), to: htmlFile) }
        if strict, report.bars.contains(where: { $0.held == false }) { throw Exit.negative }
    }

    private func page(_ json: Data) throws -> String {
        do throws(MeasureError) {
            return try ReportPage.html(json)
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
    }
}

struct BenchCompare: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare", abstract: "Say what got better or worse between two reports, beyond the noise.",
        discussion: """
            A figure has changed if its ranges over the rounds do not meet and the medians differ by more than five per cent. \
            Ends with exit code 1 if anything got worse.
            """)

    @Argument(help: "JSON of the earlier run.") var old: String
    @Argument(help: "JSON of the later run.") var new: String
    @Flag(help: "Show what stayed the same too.") var all = false
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let comparison = BenchComparison(try read(old), try read(new))
        if json {
            try Output.json(comparison)
        } else {
            for warning in comparison.warnings { Output.error("warning: \(warning)") }
            let shown = comparison.rows.filter { all || $0.verdict != "same" }
            if !shown.isEmpty {
                print(
                    Output.table(
                        shown.map { row in
                            let colour: Output.Colour = row.verdict == "better" ? .green : row.verdict == "worse" ? .red : .dim
                            return [
                                Output.coloured(row.verdict, colour), number(row.old), number(row.new), row.unit,
                                String(format: "× %.2f", row.ratio), row.what,
                            ]
                        }, header: [Output.coloured("", .dim) + "change", "old", "new", "", "ratio", "what"], numbers: [1, 2, 4]))
            }
            let counts = Dictionary(grouping: comparison.rows, by: \.verdict).mapValues(\.count)
            print("\(counts["better"] ?? 0) better, \(counts["worse"] ?? 0) worse, \(counts["same"] ?? 0) the same within the noise")
        }
        if comparison.hasWorse { throw Exit.negative }
    }

    private func number(_ value: Double) -> String { value >= 100 ? Output.grouped(Int(value.rounded())) : String(format: "%.2f", value) }

    private func read(_ path: String) throws -> BenchReport {
        guard let data = FileManager.default.contents(atPath: path) else {
            Output.error("error: reading \(DatapathError(path, code: errno))")
            throw Exit.failed
        }
        do {
            let header = try MachineFormat.decoder().decode(ReportHeader.self, from: data)
            guard header.schema == BenchReport.schemaName, header.schemaVersion == BenchReport.currentVersion else {
                Output.error(
                    "error: \(path) is \(header.schema) version \(header.schemaVersion), not \(BenchReport.schemaName) version "
                        + "\(BenchReport.currentVersion)\n  → compare reports of one version of sekisho")
                throw Exit.failed
            }
            return try MachineFormat.decoder().decode(BenchReport.self, from: data)
        } catch let exit as ExitCode {
            throw exit
        } catch {
            Output.error("error: \(path) is no report of sekisho bench\n  → write one with: sekisho bench --json \(path)")
            throw Exit.failed
        }
    }

    private struct ReportHeader: Decodable {
        var schema: String
        var schemaVersion: Int
    }
}

/// One line that is written over on a terminal, and a line for each step elsewhere.
enum ProgressLine {
    private static let isTerminal = isatty(2) == 1

    static func show(_ progress: BenchProgress) {
        var line = String(format: "%3.0f %%  ", progress.share * 100) + progress.text
        if let left = progress.secondsLeft { line += ", about \(Output.duration(left)) left" }
        if isTerminal {
            _ = writeAll(Array("\r\u{1B}[K\(line)".utf8), to: STDERR_FILENO)
        } else {
            Output.error(line)
        }
    }

    static func clear() {
        if isTerminal { _ = writeAll(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO) }
    }
}

extension BenchReport {
    /// For a person.
    var text: String {
        var parts: [String] = []
        parts.append("\(machine.cpu), \(machine.cores) processors, Linux \(machine.kernel); \(bed.rounds) rounds, burst \(bed.burst)")
        for scenario in scenarios {
            let rows = throughput.filter { $0.scenario == scenario.id }
            parts.append(
                Output.coloured(scenario.title, .bold) + "\n"
                    + Output.table(
                        rows.map { row in
                            [
                                title(row.forwarder), kpps(row.pdrFps), kpps(row.ndrFps), range(row.ratioPdr["bridge-nft"]),
                                row.cpuNsPerFrame.map { Output.grouped(Int($0.median)) } ?? "–",
                                range(row.ratioCpu["bridge-nft"]),
                                row.deniedCrossed > 0 ? Output.coloured("\(row.deniedCrossed) denied frames crossed", .red) : "",
                            ]
                        },
                        header: ["forwarder", "PDR kpps", "NDR kpps", ": bridge+nft", "CPU ns/frame", ": bridge+nft", ""],
                        numbers: [1, 2, 3, 4, 5]))
        }
        for hosts in ["polling", "sleeping"] {
            for load in ["idle", "10", "50", "90", "common", "rate", "recorded"] {
                let rows = latency.filter { $0.hosts == hosts && $0.load == load }
                if rows.isEmpty { continue }
                parts.append(
                    Output.coloured("latency, µs: \(hosts) hosts, \(Self.loadTitle(load))", .bold) + "\n"
                        + Output.table(
                            rows.map { row in
                                [
                                    title(row.forwarder), row.direction == "round_trip_half" ? "half round trip" : row.direction.replacingOccurrences(of: "_", with: " "),
                                    Output.grouped(Int(row.offeredFps)), micro(row.p50Ns), micro(row.p90Ns), micro(row.p99Ns),
                                    micro(row.p999Ns), micro(row.p9999Ns), micro(row.maxNs), range(row.ratioP99), "\(row.lost)",
                                ]
                            },
                            header: ["forwarder", "direction", "frames/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "p99 : bridge+nft", "lost"],
                            numbers: [2, 3, 4, 5, 6, 7, 8, 9, 10]))
            }
        }
        if !swaps.isEmpty {
            parts.append(
                Output.coloured("a policy of \(Output.grouped(swaps[0].rules)) rules swapped under load, µs", .bold) + "\n"
                    + Output.table(
                        swaps.map {
                            [
                                $0.withSwaps ? "\($0.swaps) swaps" : "no swaps, the same work beside it", Output.grouped(Int($0.offeredFps)),
                                "\($0.lost)", micro($0.p50Ns), micro($0.p99Ns), micro($0.maxNs),
                            ]
                        }, header: ["", "frames/s", "lost", "p50", "p99", "max"], numbers: [1, 2, 3, 4, 5]))
        }
        parts.append(
            Output.coloured("bars", .bold) + "\n"
                + Output.table(
                    bars.map { bar in
                        let state = bar.held.map { $0 ? Output.coloured("held", .green) : Output.coloured("MISSED", .red) } ?? "–"
                        return [state, bar.shown, bar.bar, bar.what]
                    }, header: ["", "measured", "bar", ""], numbers: [1, 2]))
        let skipped = forwarders.filter { $0.skipped != nil }
        if !skipped.isEmpty {
            parts.append(skipped.map { "skipped: \($0.title): \($0.skipped ?? "")" }.joined(separator: "\n"))
        }
        for note in machine.notes { parts.append("note: \(note)") }
        return parts.joined(separator: "\n\n")
    }

    private static func loadTitle(_ load: String) -> String {
        switch load {
        case "idle": "next to idle"
        case "common": "at 90 % of what Linux bridge + nftables carries"
        case "rate": "at the rate asked for"
        case "recorded": "at recorded times"
        default: "at \(load) % of its own PDR"
        }
    }

    private func title(_ id: String) -> String { forwarders.first { $0.id == id }?.title ?? id }
    private func kpps(_ value: Statistic?) -> String { value.map { String(format: "%.0f", $0.median / 1000) } ?? "–" }
    private func micro(_ nanoseconds: Double) -> String { String(format: nanoseconds < 99_950 ? "%.1f" : "%.0f", nanoseconds / 1000) }
    private func range(_ value: Statistic?) -> String {
        value.map { String(format: "%.2f (%.2f–%.2f)", $0.median, $0.min, $0.max) } ?? "–"
    }
}
