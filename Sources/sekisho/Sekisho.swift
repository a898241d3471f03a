// The command line. Thin: it reads arguments, asks the modules, and prints.

import ArgumentParser
import Foundation

@main
struct Sekisho: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sekisho",
        abstract: "A transparent two-port bridge that lets only allowed conversations pass.",
        discussion: """
            Sekisho sits on the wire in front of a tool. Frames of conversations that the \
            policy allows cross unchanged; everything else is dropped and counted.

            Begin with: sekisho check POLICY, then sekisho doctor, then sekisho run.
            """,
        version: "0.1.0",
        subcommands: [
            Run.self, Detach.self, Apply.self, Confirm.self, Rollback.self, QuarantineCommand.self, Isolate.self, Release.self, Status.self, Latency.self,
            Check.self, Explain.self, Simulate.self, Diff.self,
            Learn.self, BaselineCommand.self, Propose.self, Approve.self, Reject.self, Alike.self, Forget.self, Decisions.self, PeriodCommand.self,
            AlertsCommand.self, ReportCommand.self, FeedCommand.self, Metrics.self,
            Versions.self, Audit.self, Keygen.self, Sign.self, Export.self, Backup.self, Restore.self, Prune.self, DoctorCommand.self, Support.self,
            Bench.self,
        ])

    static func main() {
        Output.holdStandardStreams()
        main(nil)
        do { try Output.finish() } catch { exit(withError: error) }
    }
}

/// Exit codes, the same for every command; `--help` names them where they matter.
enum Exit {
    /// Something did not work: a port, a file, the bridge.
    static let failed = ExitCode(1)
    /// The answer is no: `check` found errors, `explain` says deny, `doctor` sees a problem.
    static let negative = ExitCode(1)
    /// It could not be found out, where 1 is an answer, as with diff(1).
    static let undecided = ExitCode(2)
    // 64 (EX_USAGE) is ArgumentParser's own for wrong arguments.
}
