import Allowlist
import ArgumentParser
import Baseline
import Foundation
import Frames
import Policy

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two policies by what they mean, or a policy with what was learnt.",
        usage: """
            sekisho diff A B [--json]
            sekisho diff POLICY --state DIR [--since TIME] [--until TIME] [--json]
            """,
        discussion: """
            Of two policies: what B lets pass and A does not (+), what A lets pass and B does not (-), and what changes otherwise (~). How they \
            are written makes no difference: names, order, rules or ranges in one piece or in several. Rules that have expired do not count.

            With --state: recorded conversations that the policy does not allow (-), and rules, or parts of rules, that nobody has used (?): \
            with --since, that nobody has used since.

            Ends with exit code 0 if there is no difference, 1 if there is one, 2 if it could not be found out.
            """)

    @Argument(help: ArgumentHelp("Policy files: two, or one with --state.", valueName: "policy")) var policies: [String]
    @Option(help: ArgumentHelp("State directory: compare with what was learnt.", valueName: "dir")) var state: String?
    @OptionGroup var times: HistoryTimes
    @Flag(help: "Print JSON.") var json = false

    func validate() throws {
        if state == nil, policies.count != 2 { throw ValidationError("give two policies to compare, or one and --state") }
        if state != nil, policies.count != 1 { throw ValidationError("with --state, give one policy") }
        if state == nil, !times.words.isEmpty { throw ValidationError("\(times.words[0]) is about a history: give --state") }
    }

    func run() throws {
        let isSame: Bool
        do {
            isSame = try state.map { try compareWithHistory($0) } ?? comparePolicies()
        } catch is ExitCode {
            throw Exit.undecided
        }
        if !isSame { throw Exit.negative }
    }

    /// Rows of one kind, lest a terminal be flooded; JSON has more.
    private static let shown = 40

    private static func print(_ rows: [[String]], numbers: Set<Int> = []) {
        guard !rows.isEmpty else { return }
        let rows = rows.map { $0.last == "" ? Array($0.dropLast()) : $0 }
        let table = Output.table(rows, numbers: numbers, indent: 0)
        for (row, line) in zip(rows, table.split(separator: "\n", omittingEmptySubsequences: false)) {
            Swift.print(coloured(String(line), row[0]))
        }
    }

    /// - Parameter more: beyond `rows`.
    private static func printRest(_ sign: String, _ rows: Int, more: Int = 0) {
        let left = max(0, rows - shown) + more
        guard left > 0 else { return }
        let line = "\(sign) … and \(Output.grouped(left)) more" + (rows > shown ? " (--json has \(more > 0 ? "\(Output.grouped(rows)) of them" : "all"))" : "")
        Swift.print(coloured(line, sign))
    }

    private static func coloured(_ line: String, _ sign: String) -> String {
        let colours: [String: Output.Colour] = ["+": .green, "-": .red, "~": .yellow]
        return colours[sign].map { Output.coloured(line, $0) } ?? line
    }

    /// "a, b, c, … and 4 more".
    private static func list(_ names: [String], most: Int = 4) -> String {
        names.count <= most + 1 ? names.joined(separator: ", ") : names.prefix(most).joined(separator: ", ") + ", … and \(names.count - most) more"
    }

    private static func expired(_ ids: [String], _ suffix: String) -> String {
        "\(ids.count) rule\(ids.count == 1 ? "" : "s")\(suffix) \(ids.count == 1 ? "has" : "have") expired and do\(ids.count == 1 ? "es" : "") not count: "
            + list(ids)
    }
}

// MARK: - Two policies

extension Diff {
    struct Report: Encodable {
        struct Policy: Encodable {
            var file: String
            var name: String
            var mode: String
            var rules: Int
            var expired: [String]
        }
        struct Names: Encodable {
            var names: [String]
            var except: [String]?
        }
        struct Row: Encodable {
            var rule: String
            var from: Names
            var to: Names
            var service: [String]
            var vlan: String?
            var side: String?
            var family: String?
        }
        struct Rows: Encodable {
            var conversations: [Row]
            /// Beyond these.
            var more: Int
        }
        struct Pair: Encodable {
            var a: String
            var b: String
        }
        struct Change: Encodable {
            var what: String
            var subject: String
            var a: String
            var b: String
            var rules: [Pair]?
        }
        var a: Policy
        var b: Policy
        var same: Bool
        /// Whether everything was compared.
        var complete: Bool
        var gained: Rows
        var lost: Rows
        var changes: [Change]
        var summary: String
    }

    private func comparePolicies() throws -> Bool {
        // Both are read before anything is said: whoever has two wrong files wants to know of both.
        let files = try policies.map { try PolicyFile($0) }
        let broken = files.filter { $0.reading.document == nil }
        for file in broken { _ = try? file.document() }
        guard broken.isEmpty else { throw Exit.failed }
        let a = try files[0].document(), b = try files[1].document()
        let diff = PolicyDiff(a, b, now: PolicyFile.now)
        if json {
            try Output.json(report(diff, a, b))
        } else {
            show(diff)
        }
        // Found nothing, and did not look everywhere: that is no answer.
        if diff.isSame, !diff.isComplete { throw Exit.undecided }
        return diff.isSame
    }

    private func report(_ diff: PolicyDiff, _ a: PolicyDocument, _ b: PolicyDocument) -> Report {
        func names(_ named: NamedAddresses) -> Report.Names {
            Report.Names(names: named.names, except: named.except.isEmpty ? nil : named.except)
        }
        func rows(_ rows: PolicyDiff.Rows) -> Report.Rows {
            Report.Rows(
                conversations: rows.rows.map { row in
                    Report.Row(
                        rule: row.rule, from: names(row.from), to: names(row.to), service: row.services, vlan: row.vlans,
                        side: row.side.map { "\($0)" }, family: row.family.map { "\($0)" })
                }, more: rows.more)
        }
        func policy(_ file: String, _ document: PolicyDocument, _ expired: [String]) -> Report.Policy {
            Report.Policy(file: file, name: document.name, mode: document.mode.name, rules: document.rules.count, expired: expired)
        }
        return Report(
            a: policy(policies[0], a, diff.expired.a), b: policy(policies[1], b, diff.expired.b), same: diff.isSame, complete: diff.isComplete,
            gained: rows(diff.gained), lost: rows(diff.lost),
            changes: diff.changes.map { change in
                Report.Change(
                    what: change.kind.rawValue, subject: change.subject, a: change.before, b: change.after,
                    rules: change.rules.isEmpty ? nil : change.rules.map { Report.Pair(a: $0.a, b: $0.b) })
            }, summary: diff.summary)
    }

    private func show(_ diff: PolicyDiff) {
        func cell(_ named: NamedAddresses) -> String {
            Self.list(named.names) + (named.except.isEmpty ? "" : " except \(Self.list(named.except))")
        }
        func rows(_ rows: [PolicyDiff.Row], _ sign: String, _ policy: String) -> [[String]] {
            rows.map { row in
                var notes: [String] = []
                if row.isOneFamilyOfTwo, let family = row.family { notes.append(family == .ipv4 ? "IPv4 only" : "IPv6 only") }
                if let vlans = row.vlans { notes.append("vlan \(vlans)") }
                if let side = row.side { notes.append("from \(side)") }
                return [
                    sign, "\(cell(row.from)) → \(cell(row.to))", ([Self.list(row.services)] + notes).joined(separator: ", "),
                    "(rule \"\(row.rule)\" in \(policy))",
                ]
            }
        }
        Self.print(
            rows(Array(diff.gained.rows.prefix(Self.shown)), "+", "B") + rows(Array(diff.lost.rows.prefix(Self.shown)), "-", "A"))
        Self.printRest("+", diff.gained.rows.count, more: diff.gained.more)
        Self.printRest("-", diff.lost.rows.count, more: diff.lost.more)
        let changes = diff.changes.map { change in
            let subject: String
            switch change.kind {
            case .mode, .flows, .trial, .mirror, .expiry: subject = change.subject
            case .ethertype: subject = "ethertype \(change.subject)"
            case .binding: subject = "binding of \(change.subject)"
            case .onFailure: subject = change.subject == "datapath" ? "datapath" : "on_failure.\(change.subject)"
            case .state: subject = "state.\(change.subject)"
            }
            let rules = change.rules.map { $0.a == $0.b ? "\"\($0.a)\"" : "\"\($0.a)\" in A, \"\($0.b)\" in B" }
            return [
                "~", subject, "\(change.before) → \(change.after)",
                rules.isEmpty ? "" : "(rule\(rules.count == 1 ? "" : "s") \(Self.list(rules)))",
            ]
        }
        Self.print(Array(changes.prefix(Self.shown)))
        Self.printRest("~", changes.count)
        for (ids, policy) in [(diff.expired.a, " of A"), (diff.expired.b, " of B")] where !ids.isEmpty { Swift.print(Self.expired(ids, policy)) }
        if diff.gained.count + diff.lost.count > 0, diff.modes.a != .enforce || diff.modes.b != .enforce {
            Swift.print("under a mode other than enforce everything passes: + and - are what enforce would do")
        }
        Swift.print(diff.summary)
    }
}

// MARK: - A policy and the history

extension Diff {
    struct UseReport: Encodable {
        struct Stopped: Encodable {
            var client: String
            var server: String
            var service: String
            var vlan: UInt16
            var connections: UInt64
            var frames: UInt64
            var days: Int
            var review: [String]
            var decision: String?
        }
        struct Unused: Encodable {
            var rule: String
            /// Whether nothing of it was used.
            var whole: Bool
            var from: [String]
            var to: [String]
            var service: [String]
            var vlan: [UInt16]
        }
        struct TypeCount: Encodable {
            var ethertype: String
            var frames: UInt64
        }
        var file: String
        var name: String
        var state: String
        var same: Bool
        var allowed: Int
        var notAllowed: [Stopped]
        /// By a person; no difference.
        var rejected: [Stopped]
        var unused: [Unused]
        var ethertypesNotAllowed: [TypeCount]
        var ethertypesUnused: [String]
        var expired: [String]
    }

    private func compareWithHistory(_ state: String) throws -> Bool {
        let document = try PolicyFile(policies[0]).document()
        let (history, review) = try times.history(state)
        let use: PolicyUse
        do throws(TableError) {
            use = try PolicyUse(history, review, document, now: PolicyFile.now)
        } catch {
            Output.error("error: \(error.text)")
            throw Exit.failed
        }
        if json {
            try Output.json(report(use, history, document))
        } else {
            show(use, history, PolicyNames(document))
        }
        return use.isSame
    }

    private func report(_ use: PolicyUse, _ history: History, _ document: PolicyDocument) -> UseReport {
        func stopped(_ one: PolicyUse.Stopped) -> UseReport.Stopped {
            let recorded = history.conversations[one.conversation], key = recorded.key
            return UseReport.Stopped(
                client: key.client.written(key.family), server: key.server.written(key.family), service: key.range.written, vlan: key.vlan.rawValue,
                connections: recorded.connections, frames: recorded.frames, days: recorded.days.count, review: one.reasons.map(\.name),
                decision: one.decision?.rawValue)
        }
        return UseReport(
            file: policies[0], name: document.name, state: state ?? "", same: use.isSame, allowed: use.allowed,
            notAllowed: use.stopped.map(stopped), rejected: use.rejected.map(stopped),
            unused: use.unused.map {
                UseReport.Unused(rule: $0.rule, whole: $0.isWhole, from: $0.from, to: $0.to, service: $0.services, vlan: $0.vlans)
            },
            ethertypesNotAllowed: use.stoppedTypes.map { UseReport.TypeCount(ethertype: EtherTypeNames.name($0.type), frames: $0.frames) },
            ethertypesUnused: use.unusedTypes.map(EtherTypeNames.name), expired: use.expired)
    }

    private func show(_ use: PolicyUse, _ history: History, _ names: PolicyNames) {
        let stopped = use.stopped.prefix(Self.shown).map { one -> [String] in
            let recorded = history.conversations[one.conversation], key = recorded.key
            let vlan = key.vlan == .untagged ? "" : ", vlan \(key.vlan.rawValue)"
            let days = recorded.days.count
            return [
                "-", "\(names.name(key.client, key.family)) → \(names.name(key.server, key.family))", key.range.written + vlan,
                "\(Output.grouped(recorded.connections)) connection\(recorded.connections == 1 ? "" : "s")",
                "\(Output.grouped(recorded.frames)) frame\(recorded.frames == 1 ? "" : "s")", "\(days) day\(days == 1 ? "" : "s")",
                one.reasons.isEmpty ? "" : "look at: \(one.reasons.map(\.name).joined(separator: ", "))",
            ]
        }
        Self.print(stopped, numbers: [3, 4, 5])
        Self.printRest("-", use.stopped.count)
        Self.print(
            use.stoppedTypes.map { ["-", "ethertype \(EtherTypeNames.name($0.type))", "\(Output.grouped($0.frames)) frame\($0.frames == 1 ? "" : "s")"] })
        let unused = use.unused.map { one -> [String] in
            if one.isWhole { return ["?", "rule \"\(one.rule)\"", "nobody has used it"] }
            var parts: [String] = []
            for (key, names) in [("from", one.from), ("to", one.to), ("service", one.services), ("vlan", one.vlans.map(String.init))] where !names.isEmpty {
                parts.append("\(key): \(Self.list(names))")
            }
            return ["?", "rule \"\(one.rule)\"", "not used: " + parts.joined(separator: "; ")]
        }
        Self.print(
            unused.prefix(Self.shown) + use.unusedTypes.map { ["?", "ethertype \(EtherTypeNames.name($0))", "nobody has used it"] })
        Self.printRest("?", unused.count)
        if !use.expired.isEmpty { Swift.print(Self.expired(use.expired, "")) }
        func conversations(_ count: Int) -> String { "\(Output.grouped(count)) conversation\(count == 1 ? "" : "s")" }
        var words = "of \(conversations(use.allowed + use.stopped.count + use.rejected.count)) learnt the policy allows \(Output.grouped(use.allowed))"
        if !use.rejected.isEmpty { words += "; \(Output.grouped(use.rejected.count)) more \(use.rejected.count == 1 ? "was" : "were") rejected by a person" }
        let whole = use.unused.count { $0.isWhole }, part = use.unused.count - whole
        if whole > 0 { words += "; \(whole) rule\(whole == 1 ? " was" : "s were") not used" }
        if part > 0 { words += "; \(part) \(part == 1 ? "was" : "were") used in part" }
        Swift.print(words)
    }
}
