// The audit log on the command line.

import ArgumentParser
import Baseline
import Evidence
import Foundation

struct Audit: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show, check and export the log of what was done, by whom and why.",
        discussion: """
            A bridge with a state directory keeps it, and commands that decide something (approve, reject, forget) write to it. Each event's hash covers \
            the one before: a change is found by 'sekisho audit verify'. docs/evidence.md says how another program checks it.
            """,
        subcommands: [AuditShow.self, AuditVerify.self, AuditExport.self])

    static func store(_ state: String) throws(StateError) -> AuditStore { try AuditStore(directory: state, mayMake: false) }

    /// - Parameter microseconds: since 1970.
    static func time(_ microseconds: Int64) -> String { Output.time(UInt64(max(0, microseconds)) * 1000) }

    /// A line of text as a terminal may show it.
    static func line(_ text: String) -> String { Output.printable(text.split(separator: "\n").joined(separator: "; ")) }

    /// Writes down what a command has done. What was done stays done if that fails.
    static func note(_ type: AuditType, _ description: String, _ reason: ReasonOptions?, _ fields: [String: String], state: String) throws(StateError) {
        var fields = fields
        fields["why"] = reason?.why
        fields["uid"] = "\(getuid())"
        do throws(StateError) {
            try AuditStore(directory: state).append([AuditEvent(type, description, who: person(reason?.person), fields: fields)])
        } catch {
            throw StateError(text: "it is done, but it is not in the audit log: \(error)")
        }
    }

    /// Whose account this is, and who is at it.
    static func person(_ said: String? = nil) -> String { Account.name(Int64(getuid()), saying: said ?? Caller.name) }
}

struct AuditShow: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "List events, the oldest first.")
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("From then on: 2026-11-24, 2026-11-24T06:00, or with Z for UTC.", valueName: "time")) var since: Moment?
    @Option(help: ArgumentHelp("Until then.", valueName: "time")) var until: Moment?
    @Option(help: ArgumentHelp("Only events of this type or category, e.g. policy_applied or access_control; several: again.", valueName: "type"))
    var type: [String] = []
    @Flag(help: "Print JSON.") var json = false

    struct Event: Encodable {
        var number: Int64
        var at: String
        var category: String
        var type: String
        var who: String
        var description: String
        var fields: [String: String]
        var hash: String
    }

    func validate() throws {
        if let since, let until, since.nanoseconds >= until.nanoseconds { throw ValidationError("--since must lie before --until") }
        let known = AuditType.allCases.map(\.rawValue) + AuditCategory.allCases.map(\.rawValue)
        for one in type where !known.contains(one) { throw ValidationError("--type: \"\(one)\" is none of \(known.joined(separator: ", "))") }
    }

    func run() throws {
        var events: [Event] = []
        do throws(StateError) {
            let times = Int64((since?.nanoseconds ?? 0) / 1000)..<(until.map { Int64($0.nanoseconds / 1000) } ?? .max)
            try Audit.store(state).forEach(times: times, types: type) { record in
                events.append(
                    Event(
                        number: record.number, at: Audit.time(record.time), category: record.category, type: record.type, who: record.who,
                        description: record.description, fields: record.fields, hash: record.hash))
            }
        } catch { throw HistoryOptions.failed(error) }
        if json { return try Output.json(events) }
        if events.isEmpty { return print("no such events") }
        print(
            Output.table(
                events.map { event in
                    let why = event.fields["why"].map { $0.isEmpty ? "" : " (why: \($0))" } ?? ""
                    return ["\(event.number)", event.at, event.type, Audit.line(event.who), Audit.line(event.description + why)]
                }, header: ["", "when", "type", "who", "what"], numbers: [0]))
    }
}

struct AuditVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check that the log, or an export of it, is what was written.",
        discussion: """
            Finds changed, inserted and removed events, and changed policy texts. That events are missing at the end is found only with --head, a hash that \
            was kept elsewhere: the bridge's log has one from every day and every stop.

            Ends with exit code 0 if it is, 1 if not, 2 if it could not be found out.
            """)
    @Argument(help: ArgumentHelp("An export; or give --state.", valueName: "file")) var export: String?
    @Option(help: "State directory.") var state: String?
    @Option(help: ArgumentHelp("A head that was noted earlier: the log must go on from it.", valueName: "hash")) var head: String?
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        struct Problem: Encodable {
            var event: Int64?
            var text: String
        }
        var file: String
        var intact: Bool
        var events: Int64
        var first: String?
        var last: String?
        var head: String
        /// "head", "earlier" or "missing".
        var expected: String?
        var eventsSince: Int64?
        var problems: [Problem]
        var problemCount: Int
    }

    func validate() throws {
        if (export == nil) == (state == nil) { throw ValidationError("give --state, or an export") }
        if let head, head.count != 64 || !head.allSatisfy({ $0.isASCII && $0.isHexDigit }) {
            throw ValidationError("--head is 64 hexadecimal digits, as sekisho audit verify prints them")
        }
    }

    func run() throws {
        let check: AuditCheck, file: String
        do throws(StateError) {
            if let export {
                let data: Data
                do { data = try Data(contentsOf: URL(fileURLWithPath: export), options: .mappedIfSafe) } catch {
                    throw StateError(text: "reading the export \(export): \(error.localizedDescription)")
                }
                (check, file) = (AuditCheck(export: data, expecting: head), export)
            } else {
                let store = try Audit.store(state!)
                (check, file) = (try AuditCheck(store, expecting: head), store.path)
            }
        } catch {
            Output.error("error: \(error)")
            throw Exit.undecided
        }
        if json { try Output.json(report(check, file)) } else { show(check, file) }
        if !check.isIntact { throw Exit.negative }
    }

    private func report(_ check: AuditCheck, _ file: String) -> Report {
        var report = Report(
            file: file, intact: check.isIntact, events: check.events, first: check.first.map(Audit.time), last: check.last.map(Audit.time), head: check.head,
            problems: check.problems.map { Report.Problem(event: $0.number, text: $0.text) }, problemCount: check.problemCount)
        switch check.anchor {
        case nil: break
        case .isHead: report.expected = "head"
        case .isMissing: report.expected = "missing"
        case .isEarlier(_, let since): (report.expected, report.eventsSince) = ("earlier", since)
        }
        return report
    }

    private func show(_ check: AuditCheck, _ file: String) {
        for problem in check.problems { print("\(problem.number.map { "event \($0)" } ?? file): \(problem.text)") }
        if check.problemCount > check.problems.count { print("… and \(check.problemCount - check.problems.count) more") }
        switch check.anchor {
        case nil: break
        case .isHead: print("it ends with the head that was expected")
        case .isEarlier(let number, let since): print("the head that was expected is event \(number); \(since) have come since")
        case .isMissing: print("the head that was expected is not in it: events are missing at the end, or it was written anew")
        }
        let times = check.first.map { " from \(Audit.time($0)) to \(Audit.time(check.last ?? $0))" } ?? ""
        print("\(check.isIntact ? Output.coloured("intact", .green) : Output.coloured("not intact", .red)): \(Output.grouped(check.events)) events\(times)")
        print("head \(check.head)")
    }
}

struct AuditExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write every event as a line of JSON, with its hash; 'sekisho audit verify FILE' checks it.")
    @Option(help: "State directory.") var state: String
    @Option(name: .shortAndLong, help: ArgumentHelp("File to write.", valueName: "file")) var output: String

    func run() throws {
        do {
            let store = try Audit.store(state)
            let file = try OutputFile(output)
            let count = try store.export { file.write($0) }
            try file.finish()
            Output.error("\(count) event\(count == 1 ? "" : "s") written to \(output)")
        } catch let error as StateError { throw HistoryOptions.failed(error) }
    }
}
