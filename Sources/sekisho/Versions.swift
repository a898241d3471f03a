// Policies that were applied, and the way back to one.

import ArgumentParser
import Baseline
import Control
import Evidence
import Foundation

struct Versions: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List every policy that was applied: when, by whom, why, and what it changed.",
        discussion: "'sekisho rollback VERSION' applies one again; --show prints one.")
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("Print the policy file of this version, as it was.", valueName: "version")) var show: UInt64?
    @Flag(help: "Print JSON.") var json = false

    struct Version: Encodable {
        var version: UInt64
        var at: String
        var sha256: String
        var name: String
        var mode: String
        var rules: Int
        var file: String
        var who: String
        var why: String
        var change: String
        var key: String?
    }

    func validate() throws {
        if json, show != nil { throw ValidationError("--show prints the file as it is, not JSON") }
    }

    func run() throws {
        do throws(StateError) {
            let store = try Audit.store(state)
            let versions = try store.versions()
            if let show {
                guard let version = versions.last(where: { $0.number == show }), let text = try store.text(of: version.sha256) else {
                    throw StateError(text: "there is no version \(show)\n  → sekisho versions --state \(state) lists them")
                }
                return print(String(decoding: text, as: UTF8.self), terminator: "")
            }
            do { try list(versions) } catch { throw StateError(text: "\(error)") }
        } catch { throw HistoryOptions.failed(error) }
    }

    private func list(_ versions: [PolicyVersion]) throws {
        if json {
            return try Output.json(versions.map {
                Version(
                    version: $0.number, at: Audit.time($0.time), sha256: $0.sha256, name: $0.name, mode: $0.mode, rules: $0.rules, file: $0.file, who: $0.who,
                    why: $0.why, change: $0.change, key: $0.key)
            })
        }
        if versions.isEmpty { return print("no policy was applied yet") }
        print(
            Output.table(
                versions.map { version in
                    [
                        "\(version.number)", Audit.time(version.time), String(version.sha256.prefix(12)), Audit.line(version.name), version.mode,
                        "\(version.rules)", version.key.map { String($0.prefix(8)) } ?? "", Audit.line(version.who),
                        Audit.line(version.why.isEmpty ? version.change : "\(version.why): \(version.change)"),
                    ]
                }, header: ["", "when", "sha256", "policy", "mode", "rules", "signed by", "who", "why"], numbers: [0, 5]))
    }
}

/// "30s", "5m", "1h".
struct Period: ExpressibleByArgument {
    let seconds: Double

    init?(argument: String) {
        guard let unit = ["s": 1.0, "m": 60, "h": 3600][argument.suffix(1)], let number = Int(argument.dropLast()), number > 0 else { return nil }
        seconds = Double(number) * unit
        if seconds > 86_400 { return nil }
    }
}

/// What `apply` and `rollback` have in common.
struct ApplyOptions: ParsableArguments {
    @Option(help: "Why; kept for the auditor.") var why: String?
    @Option(help: "Who wants it; else the user who calls. The account is kept besides.") var who: String?
    @Option(help: ArgumentHelp("Undo it after this time (30s, 5m, 1h; at most 24h) unless 'sekisho confirm' comes.", valueName: "time")) var confirm: Period?
    @OptionGroup var socket: ControlOption
    @Flag(help: "Print JSON.") var json = false

    func send(_ request: ControlRequest) throws {
        var request = request
        (request.why, request.who, request.confirmWithin) = (why, who ?? Caller.name, confirm?.seconds)
        let response = try ask(request, at: socket.path)
        guard let report = response.applied else { throw Exit.failed }
        if json { return try Output.json(report) }
        for warning in report.warnings { Output.error(warning) }
        print(
            "\(Output.coloured("applied", .green)) \"\(report.name)\" as version \(report.version), mode \(report.mode): "
                + "\(report.rules) rules, \(Output.grouped(report.exactConversations)) exact conversations, "
                + "\(Output.grouped(report.networkPairs)) network pairs")
        print("built and checked in \(report.buildMs) ms, \(report.swapText)")
        if let seconds = report.confirmWithin, let version = report.otherwise {
            print("version \(version) comes back in \(Output.duration(seconds)) unless you say: sekisho confirm")
        }
    }
}

struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Swap the running bridge's policy; answers when every worker uses it.",
        discussion: """
            No frame is lost and no link goes down. A file with an error, or one that does not compile, leaves the \
            running policy in place and ends with exit code 1. FILE.sig, if it is there, is sent along.

            With --confirm, the policy before comes back by itself unless 'sekisho confirm' comes in time. A second apply meanwhile takes the \
            place of the first: with --confirm the time begins anew, and what comes back is still the last policy that was not in doubt; without, it stays.
            """)

    @Argument(help: "Policy file.") var file: String
    @OptionGroup var options: ApplyOptions

    func run() throws {
        let text = try PolicyFile.text(file)
        let signature = try PolicyFile.signature(file)
        let path = URL(fileURLWithPath: file).path
        try options.send(ControlRequest(command: .apply, file: path, text: Data(text), signature: signature))
    }
}

struct Rollback: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Apply a policy again that was in use before, as 'sekisho versions' lists them.",
        discussion: """
            It becomes a version of its own. The bridge must have a state directory; its policy file is not changed, and is what the next start reads.
            """)
    @Argument(help: "Version.") var version: UInt64
    @OptionGroup var options: ApplyOptions

    func run() throws { try options.send(ControlRequest(command: .rollback, version: version)) }
}

struct Confirm: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Keep the policy that 'sekisho apply --confirm' has put to the test.")
    @Option(help: "Why; kept for the auditor.") var why: String?
    @Option(help: "Who confirms; else the user who calls.") var who: String?
    @OptionGroup var socket: ControlOption
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let response = try ask(ControlRequest(command: .confirm, why: why, who: who ?? Caller.name), at: socket.path)
        guard let report = response.confirmed else { throw Exit.failed }
        json ? try Output.json(report) : print("version \(report.version) stays")
    }
}
