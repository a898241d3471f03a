// Reports for an auditor, from what was recorded.

import ArgumentParser
import Baseline
import Control
import Evidence
import Foundation
import Glibc
import Policy
import Report

struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Write down what the records show an auditor, and what they do not.",
        discussion: """
            Made from the state directory of a bridge: what was observed, the audit log with its versions of the policy, and alerts. Nothing is ever called \
            fulfilled; that is for the assessor to say. docs/reports.md describes what is in each.
            """,
        subcommands: [E187.self, Zones.self, Coverage.self, Unused.self])

    struct E187: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "e187", abstract: "Evidence for an assessment against SEMI E187-0122, requirement by requirement.",
            discussion: """
                A device in the network cannot meet E187, nor make equipment meet it: the report says what its records show of each requirement, \
                and leaves the verdict empty.
                """)
        @OptionGroup var options: ReportOptions
        @Option(help: ArgumentHelp("Only what this tool has to do with: a device or group of the policy, an address or a network.", valueName: "device"))
        var device: String?
        func run() throws { try options.write(device: device) { (evidence) throws(StateError) in evidence.e187() } }
    }

    struct Zones: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "zones", abstract: "Zones and conduits as in IEC 62443, with its network requirements and the tenets of NIST SP 800-207.")
        @OptionGroup var options: ReportOptions
        func run() throws { try options.write { (evidence) throws(StateError) in try evidence.zones() } }
    }

    struct Coverage: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "coverage", abstract: "Techniques of MITRE ATT&CK for ICS: blocked by the policy in use, detected, or out of reach, and why.")
        @OptionGroup var options: ReportOptions
        func run() throws { try options.write { (evidence) throws(StateError) in try evidence.coverage() } }
    }

    struct Unused: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "unused", abstract: "Rules that nobody used, or nobody uses any longer, and what of the others was never used.")
        @OptionGroup var options: ReportOptions
        func run() throws { try options.write { (evidence) throws(StateError) in try evidence.unusedRules() } }
    }
}

/// Which evidence, and how it is written.
struct ReportOptions: ParsableArguments {
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("Policy file; else the one in use at the end of the period, by the audit log.", valueName: "policy")) var policy: String?
    @Option(help: ArgumentHelp("From then on: 2026-11-24, 2026-11-24T06:00, or with Z for UTC.", valueName: "time")) var from: Moment?
    @Option(help: ArgumentHelp("Until then; else until now.", valueName: "time")) var to: Moment?
    @Flag(help: "Write HTML: one file that needs nothing else, for the browser and for paper.") var html = false
    @Flag(help: "Write Markdown.") var md = false
    @Flag(help: "Write JSON: the same in every language, and all rows.") var json = false
    @Option(name: .shortAndLong, help: ArgumentHelp("File to write; else the standard output.", valueName: "file")) var output: String?
    @Option(help: ArgumentHelp("en, ja or zh-TW. What comes from the records stays as it is.", valueName: "language")) var language = ReportLanguage.english
    @Option(help: ArgumentHelp("Rows that are written of a table, but in JSON.", valueName: "number")) var rows = 500

    func validate() throws {
        if [html, md, json].count(where: \.self) > 1 { throw ValidationError("--html, --md and --json exclude each other") }
        if let from, let to, from.nanoseconds >= to.nanoseconds { throw ValidationError("--from must lie before --to") }
        if rows < 1 { throw ValidationError("--rows is a number of rows, 1 or more") }
    }

    func write(device: String? = nil, _ make: (ReportEvidence) throws(StateError) -> ReportDocument) throws {
        if let output {
            try OutputFile.check(output)
            if Self.isInside(output, folder: state) {
                Output.error("error: writing \(output): it would lie in the state directory, which holds the records themselves\n  → give a file elsewhere")
                throw Exit.failed
            }
        }
        let given = try policy.map { path in
            let file = try PolicyFile(path)
            return ReportRequest.GivenPolicy(document: try file.document(), sha256: contentHash(file.text), file: path)
        }
        let document: ReportDocument
        do throws(StateError) {
            let evidence = try ReportEvidence(
                ReportRequest(
                    state: state, policy: given, from: from?.nanoseconds, to: to?.nanoseconds, device: device,
                    now: UInt64(max(0, Date().timeIntervalSince1970) * 1e9), version: Sekisho.configuration.version))
            document = try make(evidence)
        } catch { throw HistoryOptions.failed(error) }
        let writing = ReportWriting(language: language, mostRows: rows)
        let text: String
        if json {
            text = String(decoding: try MachineFormat.encoder().encode(document), as: UTF8.self) + "\n"
        } else {
            text = html ? writing.html(document) : md ? writing.markdown(document) : writing.terminal(document)
        }
        if let output { try OutputFile.write(text.utf8, to: output) } else { print(text, terminator: "") }
    }
}

extension ReportOptions {
    /// Whether a file lies in a folder, or behind links in one: whatever it is called by, a record is not to be replaced by a report about it.
    private static func isInside(_ path: String, folder: String) -> Bool {
        var own = stat()
        guard stat(folder, &own) == 0 else { return false }
        func isThere(_ path: String) -> Bool {
            let parent = (path as NSString).deletingLastPathComponent
            var status = stat()
            return stat(parent.isEmpty ? "." : parent, &status) == 0 && status.st_dev == own.st_dev && status.st_ino == own.st_ino
        }
        if isThere(path) { return true }
        guard let resolved = realpath(path, nil) else { return false }
        defer { free(resolved) }
        return isThere(String(cString: resolved))
    }
}

extension ReportLanguage: ExpressibleByArgument {}
