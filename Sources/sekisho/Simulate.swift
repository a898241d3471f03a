import Allowlist
import ArgumentParser
import Captures
import Control
import Datapath
import Foundation
import Frames
import Policy

struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Judge recorded frames with the parser and table of the data path.",
        discussion: """
            Reads pcap and pcapng. The verdicts are those of the mode that --mode or else the file names: in learn and \
            monitor every frame passes, and the causes say what enforce would deny. A capture does not say by which port a frame came: a rule's side is not looked at.
            """)

    @Argument(help: "Policy file.") var policy: String
    @Argument(help: "Captures.") var captures: [String] = []
    @Option(help: "State directory: the whole recorded history instead of captures.") var state: String?
    @OptionGroup var times: HistoryTimes
    @Option(help: "Mode, whatever the policy file says.") var mode: Mode?
    @Option(help: ArgumentHelp("Write packet,timestamp,verdict,cause,rule for every frame.", valueName: "out.csv"))
    var verdicts: String?
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        struct Count: Encodable {
            var name: String
            var frames: UInt64
        }
        var policy: String
        var mode: String
        var frames: UInt64
        var allowed: UInt64
        var denied: UInt64
        var causes: [Count]
        var rules: [Count]
        var warnings: [String]
    }

    func validate() throws {
        if captures.isEmpty == (state == nil) { throw ValidationError("give captures, or --state with what was learnt") }
        if state == nil, !times.words.isEmpty { throw ValidationError("\(times.words[0]) is about a history: give --state") }
        if state != nil, verdicts != nil { throw ValidationError("--verdicts is about frames of captures") }
    }

    func run() throws {
        let document = try PolicyFile(policy).document()
        let compiled = document.compiled(now: PolicyFile.now, mode: mode, ignoringSides: true)
        let table: CompiledTable
        do throws(TableError) {
            table = try CompiledTable.build(compiled.source)
        } catch {
            Output.error("error: \(error.text)")
            throw Exit.failed
        }
        if let state { return try simulateHistory(state, table, document, compiled) }
        var simulation = Simulation(table, flows: document.flows)
        let csv = try verdicts.map { try VerdictFile($0, compiled.ruleNames) }
        var warnings: [String] = []
        for path in captures {
            let reader: CaptureReader
            do {
                reader = try CaptureReader(path)
            } catch {
                Output.error("error: \(error)")
                throw Exit.failed
            }
            simulation.flush { csv?.write($0, passes: $1) }
            simulation.beginCapture()
            while csv?.hasFailed != true, let frame = reader.next() {
                csv?.expect(frame.timestamp)
                simulation.add(frame.bytes, wireLength: frame.wireLength, at: frame.time) { csv?.write($0, passes: $1) }
            }
            simulation.flush { csv?.write($0, passes: $1) }
            if let warning = reader.warning { warnings.append(warning) }
        }
        try csv?.finish()
        for warning in warnings { Output.error("warning: \(warning)") }
        try show(simulation.counts, document, compiled, warnings)
    }

    private func show(
        _ counts: SimulationCounts, _ document: PolicyDocument, _ compiled: CompiledPolicy, _ warnings: [String]
    ) throws {
        let causes = counts.causes.sorted { ($1.value, $0.key.rawValue) < ($0.value, $1.key.rawValue) }
        let mode = compiled.source.mode
        if json {
            return try Output.json(
                Report(
                    policy: document.name, mode: mode.name, frames: counts.allowed + counts.denied, allowed: counts.allowed,
                    denied: counts.denied, causes: causes.map { Report.Count(name: $0.key.name, frames: $0.value) },
                    rules: zip(compiled.ruleNames, counts.rules).map { Report.Count(name: $0, frames: $1) },
                    warnings: warnings))
        }
        print("\(Output.grouped(counts.allowed + counts.denied)) frames under \"\(document.name)\", mode \(mode.name)")
        print(
            Output.table(
                [["allow", Output.grouped(counts.allowed)], ["deny", Output.grouped(counts.denied)]],
                header: ["verdict", "frames"], numbers: [1]))
        if !causes.isEmpty {
            print(
                "\n"
                    + Output.table(
                        causes.map { [$0.key.name, Output.grouped($0.value), $0.key.text] },
                        header: [mode == .enforce ? "denied" : "would be denied", "frames", "why"], numbers: [1]))
        }
        if !compiled.ruleNames.isEmpty {
            print(
                "\n"
                    + Output.table(
                        zip(compiled.ruleNames, counts.rules).sorted { $0.1 > $1.1 }.map { [$0, Output.grouped($1)] },
                        header: ["rule", "frames"], numbers: [1]))
        }
    }
}

/// The CSV of verdicts.
private final class VerdictFile {
    private let file: OutputFile
    private let ruleNames: [String]
    private var number = 0
    private var timestamps: [String] = []
    private var next = 0

    init(_ path: String, _ ruleNames: [String]) throws {
        file = try OutputFile(path)
        // A name with a comma or quote is quoted (RFC 4180).
        self.ruleNames = ruleNames.map { name in
            name.contains(where: { ",\"\n\r".contains($0) }) ? "\"\(name.replacingOccurrences(of: "\"", with: "\"\""))\"" : name
        }
        file.write("packet,timestamp,verdict,cause,rule\n".utf8)
    }

    /// A frame whose verdict will come.
    func expect(_ timestamp: String) { timestamps.append(timestamp) }

    func write(_ verdict: Verdict, passes: Bool) {
        number += 1
        let cause = verdict.isAllowed ? "" : verdict.cause.name
        let rule = verdict.isAllowed && verdict.rule != Verdict.noRule ? ruleNames[Int(verdict.rule)] : ""
        file.write("\(number),\(timestamps[next]),\(passes ? "allow" : "deny"),\(cause),\(rule)\n".utf8)
        next += 1
        if next == timestamps.count {
            timestamps.removeAll(keepingCapacity: true)
            next = 0
        }
    }

    /// Nothing more can be written: there is no use in judging on.
    var hasFailed: Bool { file.failure != 0 }

    func finish() throws { try file.finish() }
}
