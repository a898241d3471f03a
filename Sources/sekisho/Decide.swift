import Allowlist
import ArgumentParser
import Baseline
import Evidence
import Foundation
import Frames
import Policy

/// Who decides, and why.
struct ReasonOptions: ParsableArguments {
    @Option(help: "Why; kept for the auditor.") var why: String
    @Option(help: "Who decides; else the user who calls.") var who: String?

    func validate() throws {
        if why.trimmingCharacters(in: .whitespaces).isEmpty { throw ValidationError("--why: give a reason that an auditor will understand") }
    }

    var person: String { who ?? Caller.name }
}

enum Caller {
    /// The person, not root.
    static var name: String {
        let environment = ProcessInfo.processInfo.environment
        return environment["SUDO_USER"] ?? environment["USER"] ?? environment["LOGNAME"] ?? NSUserName()
    }
}

/// What `approve` and `reject` have in common.
struct DecideOptions: ParsableArguments {
    @Option(help: "State directory.") var state: String
    @OptionGroup var conversations: ConversationOptions
    @OptionGroup var reason: ReasonOptions

    func validate() throws {
        if conversations.isEmpty { throw ValidationError("say what is meant: --from, --to or --service, or several") }
    }

    func run(_ verdict: Decision.Verdict) throws {
        let decisions = try conversations.decisions(verdict, reason)
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            let history = try store.read().forgetting()
            // What will be seen only after now, by its clock, is not meant.
            let covered = history.conversations.filter { one in decisions.contains { $0.covers(one.key) && ($0.verdict != .approve || one.isSeen(by: $0.at)) } }
            // A refusal may come before anybody tries; an approval of what nobody has seen is a rule that a person should write.
            guard verdict == .reject || !covered.isEmpty else {
                throw HistoryError(
                    text: "no conversation that was recorded is meant\n  → sekisho baseline --state \(state) shows them; write a rule for what nobody has seen")
            }
            for decision in decisions {
                let id = try store.add(decision)
                try decision.note(id, covers: covered.count, reason, state: state)
                print("decision \(id): \(verdict == .approve ? "approved" : "rejected"), by \(decision.who)")
            }
            for one in covered.prefix(20) {
                print(
                    "  \(one.key.client.written(one.key.family)) → \(one.key.server.written(one.key.family)) "
                        + one.key.range.written)
            }
            if covered.count > 20 { print("  … and \(covered.count - 20) more") }
            if covered.isEmpty { print("  nobody has tried it yet") }
        } catch { throw HistoryOptions.failed(error) }
    }
}

struct Approve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let conversations that wait for a person into the next proposal.",
        discussion: "The last decision about a conversation counts. 'sekisho decisions' lists them, and takes them back.")
    @OptionGroup var options: DecideOptions
    func run() throws { try options.run(.approve) }
}

struct Reject: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep conversations out of every proposal.",
        discussion: "The last decision about a conversation counts. 'sekisho decisions' lists them, and takes them back.")
    @OptionGroup var options: DecideOptions
    func run() throws { try options.run(.reject) }
}

struct Alike: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say that devices stand in for one another: a host and its standby, laptops, tools of a kind.",
        discussion: """
            What one of them may do by the next proposal, every one may, and the same for what may be done to them; with --service, for that service. \
            Of a network those addresses are meant that a proposal has now; whoever comes later is not. What was rejected stays so. 'sekisho decisions' takes it back.
            """)
    @Argument(help: ArgumentHelp("Addresses or networks.", valueName: "address")) var members: [String]
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("tcp/5000, udp/5000-5010, icmp/echo, or a service's name; else all.", valueName: "service")) var service: String?
    @OptionGroup var reason: ReasonOptions

    func run() throws {
        let prefixes = try members.map { try ConversationOptions.prefix($0, "address")! }
        guard Set(prefixes.map(\.family)).count == 1 else { throw ValidationError("give addresses of one family") }
        if let wrong = prefixes.first(where: { $0.isHost && ($0.words == .zero || $0.words.isGroup($0.family)) }) {
            throw ValidationError("\(wrong.written) is no device's address")
        }
        let ranges = try ConversationOptions.services(service)
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            var history = try store.read().forgetting()
            func proposal() -> Proposal { Proposal(history, Review(history)) }
            func given(_ proposal: Proposal) -> Int { proposal.rules.reduce(0) { $0 + $1.unobserved } }
            let before = proposal()
            // Whoever comes later, or waits for a person, is not meant by a network.
            let all = Set(prefixes.filter(\.isHost) + before.devices.filter { one in
                prefixes.contains { !$0.isHost && $0.family == one.family && $0.contains(one.address) } && !one.address.isGroup(one.family)
            }.map { AddressPrefix(family: $0.family, words: $0.address, length: $0.family.bits) }).sorted { $0.words < $1.words }
            guard all.count > 1 else {
                throw HistoryError(
                    text: "\(all.count == 0 ? "nobody" : "only \(all[0].written)") is meant, of those that a proposal has\n  → give at least two addresses, or a network in which there are some")
            }
            for range in ranges {
                let decision = Decision(
                    at: Int64(Date().timeIntervalSince1970), who: reason.person, why: reason.why, verdict: .alike, service: range, members: all)
                let id = try store.add(decision)
                history.decisions.append(decision)
                try decision.note(id, covers: nil, reason, state: state)
                print("decision \(id): they stand in for one another, by \(decision.who)")
            }
            let after = proposal()
            for one in all.prefix(40) { print("  \(one.written)") }
            if all.count > 40 { print("  … and \(all.count - 40) more; sekisho decisions has them all") }
            print(
                "  a proposal has \(Output.grouped(UInt64(after.rules.count))) rules then (\(Output.grouped(UInt64(before.rules.count))) before), and gives "
                    + "\(Output.grouped(UInt64(given(after)))) permissions that nobody has used (\(Output.grouped(UInt64(given(before)))) before)")
        } catch { throw HistoryOptions.failed(error) }
    }
}

struct Forget: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take out what was learnt by time, device or conversation, as after an infection.",
        discussion: "Nothing is deleted: baseline, propose and simulate leave it out until 'sekisho decisions --undo' takes that back.")
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("From then on.", valueName: "time")) var since: Moment?
    @Option(help: ArgumentHelp("Until then.", valueName: "time")) var until: Moment?
    @Option(help: ArgumentHelp("All that this device took part in.", valueName: "address")) var device: String?
    @OptionGroup var conversations: ConversationOptions
    @OptionGroup var reason: ReasonOptions

    func validate() throws {
        if since == nil, until == nil, device == nil, conversations.isEmpty {
            throw ValidationError("say what is to be forgotten: --since, --until, --device, --from, --to or --service")
        }
        if let since, let until, since.nanoseconds >= until.nanoseconds { throw ValidationError("--since must lie before --until") }
    }

    func run() throws {
        let decisions = try conversations.decisions(
            .forget, reason, either: device, first: since?.nanoseconds ?? 0, last: until?.nanoseconds ?? .max)
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            var history = try store.read()
            let before = history.forgetting()
            for decision in decisions {
                let id = try store.add(decision)
                try decision.note(id, covers: nil, reason, state: state)
                print("decision \(id): forgotten, by \(decision.who)")
            }
            history.decisions += decisions
            let after = history.forgetting()
            let rows = Set(after.conversations.map(\.row))
            let gone = before.conversations.count { !rows.contains($0.row) }
            let cut = zip(before.conversations.filter { rows.contains($0.row) }, after.conversations).count { $0.hourCount != $1.hourCount }
            print("  \(gone) conversations are left out, \(cut) more in part")
        } catch { throw HistoryOptions.failed(error) }
    }
}

struct Decisions: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List what was approved, rejected, forgotten and said to be alike, by whom and why.")
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("Take the decision of this number back.", valueName: "number")) var undo: Int64?
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        var id: Int64
        var at: String
        var verdict: String
        var who: String
        var why: String
        var what: String
    }

    func run() throws {
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            if let undo {
                guard try store.undo(undo, at: Int64(Date().timeIntervalSince1970)) else {
                    throw HistoryError(text: "there is no decision \(undo)\n  → sekisho decisions --state \(state) lists them")
                }
                try Audit.note(.decisionUndone, "decision \(undo) is taken back", nil, ["decision": "\(undo)"], state: state)
                return print("decision \(undo) is taken back")
            }
            try show(store.decisions())
        } catch { throw HistoryOptions.failed(error) }
    }

    private func show(_ decisions: [Decision]) throws(HistoryError) {
        let reports = decisions.map { one in
            Report(
                id: one.id, at: PolicyExport.written(one.at), verdict: one.verdict.rawValue, who: Output.printable(one.who), why: Output.printable(one.why),
                what: one.what)
        }
        if json {
            do { return try Output.json(reports) } catch { throw HistoryError(text: "\(error)") }
        }
        if reports.isEmpty { return print("no decisions yet") }
        print(Output.table(reports.map { [String($0.id), $0.at, $0.verdict, $0.what, $0.who, $0.why] }, header: ["", "when", "verdict", "what", "who", "why"], numbers: [0]))
    }
}

extension Decision {
    /// What it is about.
    var what: String {
        var what: [String] = []
        if let either { what.append("device \(either.written)") }
        if !members.isEmpty { what.append(members.map(\.written).joined(separator: " = ")) }
        if clients != nil || servers != nil { what.append("\(clients?.written ?? "any") → \(servers?.written ?? "any")") }
        if let service { what.append(service.written) }
        if first > 0 { what.append("from \(Output.time(first))") }
        if last < UInt64(Int64.max) { what.append("until \(Output.time(last))") }
        return what.joined(separator: ", ")
    }

    /// Into the audit log.
    func note(_ id: Int64, covers count: Int?, _ reason: ReasonOptions, state: String) throws(HistoryError) {
        let type: AuditType = switch verdict {
        case .approve: .approved
        case .reject: .rejected
        case .forget: .forgotten
        case .alike: .alike
        }
        var fields = ["decision": "\(id)", "what": what]
        fields["conversations"] = count.map { "\($0)" }
        try Audit.note(type, "decision \(id): \(type.rawValue): \(what)", reason, fields, state: state)
    }
}

struct PeriodCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "period",
        abstract: "Give a time a name: a maintenance, a vendor's visit.",
        discussion: "baseline, propose and simulate take --period NAME (only these times), or --period=-NAME (all others).")
    @Argument(help: "Name.") var name: String
    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("From then on.", valueName: "time")) var since: Moment?
    @Option(help: ArgumentHelp("Until then.", valueName: "time")) var until: Moment?
    @Flag(help: "Remove the name.") var remove = false

    func validate() throws {
        if name.hasPrefix("-") || name.isEmpty { throw ValidationError("a period's name begins with a letter") }
        if remove { return }
        guard let since, let until else { throw ValidationError("give --since and --until, or --remove") }
        if since.nanoseconds >= until.nanoseconds { throw ValidationError("--since must lie before --until") }
    }

    func run() throws {
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            if remove {
                let count = try store.removePeriods(name)
                guard count > 0 else { throw HistoryError(text: "there is no period \"\(name)\"") }
                return print("\(name): \(count) time\(count == 1 ? "" : "s") removed")
            }
            try store.add(History.Period(name: name, first: since!.nanoseconds, last: until!.nanoseconds))
            print("\(name): from \(since!.text) until \(until!.text)")
        } catch { throw HistoryOptions.failed(error) }
    }
}
