import ArgumentParser
import Control
import Policy

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say what of this machine and its ports helps or hurts, why, and how to change it.",
        discussion: "Looks only; changes nothing. Ends with exit code 1 if something keeps the bridge from running.")

    @Option(help: ArgumentHelp("Port towards the protected tools.", valueName: "port")) var inside: String?
    @Option(help: ArgumentHelp("Port towards the rest of the plant.", valueName: "port")) var outside: String?
    @Option(help: ArgumentHelp("Policy file that is to run: what it asks of the ports is looked at.", valueName: "file")) var policy: String?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let failing = try policy.map { try PolicyFile($0).document().failing }
        let findings = Doctor.examine(inside: inside, outside: outside, failing: failing)
        if json {
            try Output.json(findings)
        } else {
            let width = findings.map { $0.subject.count }.max() ?? 0
            for finding in findings {
                let (mark, colour): (String, Output.Colour) =
                    switch finding.level {
                    case .good: ("ok     ", .green)
                    case .note: ("note   ", .dim)
                    case .warning: ("warning", .yellow)
                    case .problem: ("problem", .red)
                    }
                let padding = String(repeating: " ", count: width - finding.subject.count)
                print("\(Output.coloured(mark, colour))  \(finding.subject)\(padding)  \(finding.finding)")
                let margin = String(repeating: " ", count: width + 11)
                if !finding.why.isEmpty { print("\(margin)\(finding.why)") }
                if !finding.fix.isEmpty { print("\(margin)$ \(finding.fix)") }
            }
        }
        if findings.contains(where: { $0.level == .problem }) { throw Exit.negative }
    }
}
