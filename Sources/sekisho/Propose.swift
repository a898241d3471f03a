import ArgumentParser
import Baseline
import Foundation
import Policy

struct Propose: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Propose a policy from what was learnt.",
        discussion: """
            Every rule carries, as comments, what it rests on. What waits for a person is left out, or put in and marked with --include-review. \
            The proposal's mode is monitor: it forwards everything and counts what enforce would deny.
            """)

    @OptionGroup var options: HistoryOptions
    @Option(name: .shortAndLong, help: ArgumentHelp("File to write; else the standard output.", valueName: "policy")) var output: String?
    @Option(help: "Name of the policy.") var name = "proposed"
    @Flag(help: "Put in what waits for a person, too, each rule marked.") var includeReview = false
    @Option(help: "Permissions that nobody has used, which may be given away to make rules fewer.") var budget = 0
    @Flag(help: "Replace the file if it is there.") var force = false

    func validate() throws {
        if name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) { throw ValidationError("--name has a control character") }
        if budget < 0 { throw ValidationError("--budget is a number of permissions, 0 or more") }
    }

    func run() throws {
        let (history, review) = try options.history()
        let proposal = Proposal(history, review, includesReview: includeReview, budget: budget)
        let text = proposal.text(
            history, name: name, completeness: Completeness(history, review, history.conversations.indices, Completeness.ObservedTime(history.hours)))
        guard let output else { return print(text, terminator: "") }
        if !force, FileManager.default.fileExists(atPath: output) {
            Output.error("error: writing the policy \(output): it is there already\n  → give another name, or --force to replace it")
            throw Exit.failed
        }
        try OutputFile.write(text.utf8, to: output)
        Output.error(
            "\(proposal.rules.count) rules for \(proposal.devices.count) devices in \(output); \(proposal.waiting.count) conversations wait for a person"
                + (includeReview ? ", and are in it, marked" : ""))
    }
}
