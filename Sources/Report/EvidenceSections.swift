// The evidence itself, a section of a report each.

import Allowlist
import Baseline
import Detection
import Evidence
import Foundation
import Frames
import Policy

extension ReportEvidence {
    typealias Section = ReportDocument.Section
    typealias Table = ReportDocument.Table
    typealias Column = ReportDocument.Column
    typealias Fact = ReportDocument.Fact
    typealias Cell = ReportDocument.Cell

    // MARK: - Traffic

    /// Who talked to whom, for what, since when, by which rule.
    func matrix(_ observed: [Observed]) -> Section {
        // Of several addresses it must be said which of them talked.
        let isOfHost = addresses.map { $0.count == 1 && $0[0].isHost } ?? false
        let ends = isOfHost
            ? [Column(Label.peer, .long), Column(Label.direction)] : [Column(Label.client, .long), Column(Label.server, .long)]
        let columns = ends + [
            Column(Label.service), Column(Label.first), Column(Label.last), Column(Label.connections, .number), Column(Label.rule, .long), Column(Label.purpose, .long),
            Column(Label.owner, .long),
        ]
        let rows = observed.map { one -> [Cell] in
            let end: [Cell]
            if isOfHost, let isOutgoing = one.isOutgoing {
                let (name, address) = isOutgoing ? (one.server, one.serverAddress) : (one.client, one.clientAddress)
                end = [Self.named(name, address), .words(isOutgoing ? Label.outgoing : Label.incoming)]
            } else {
                end = [Self.named(one.client, one.clientAddress), Self.named(one.server, one.serverAddress)]
            }
            return end + [
                .text(one.service + (one.vlan == VLANID.untagged.rawValue ? "" : ", vlan \(one.vlan)")), .time(one.first), .time(one.last), .number(one.connections),
                Self.rule(one), .maybe(one.rule?.purpose), .maybe(one.rule?.owner),
            ]
        }
        return Section(
            "matrix", SectionText.matrix, beginsPage: true,
            [.paragraph(SectionText.matrixMeaning), .paragraph(Phrase.cutDays), .table(Table("matrix", columns, rows))])
    }

    /// "scanner-1 (10.3.1.21)".
    private static func named(_ name: String, _ address: String) -> Cell { .text(name == address ? name : "\(name) (\(address))") }

    private static func rule(_ one: Observed) -> Cell {
        switch one.declared {
        case .rule(let rule): .text(rule.id)
        case .learning: .words(SectionText.byLearning)
        case .fileTransfer: .words(SectionText.byFTP)
        case .notAllowed: .words(SectionText.byNone)
        case .rejected: .words(SectionText.byRejection)
        case .unknown: .none
        }
    }

    /// What is declared against what was observed.
    func declaredAgainstObserved(_ observed: [Observed]) -> Section {
        guard let use else { return Section("declared", SectionText.declared, [.note(policy == nil ? Phrase.noPolicy : Phrase.noTraffic)]) }
        let unused = ownUnused
        let learning = observed.count { if case .learning = $0.declared { true } else { false } }
        let facts = [
            Fact(Label.total, .numbers(observed.count)), Fact(Label.allowed, .numbers(use.allowed - learning)), Fact(Label.notAllowed, .numbers(use.stopped.count)),
            Fact(Label.rejectedCount, .numbers(use.rejected.count)), Fact(SectionText.byLearning, .numbers(learning)),
            Fact(Label.unusedRules, .numbers(unused.count { $0.isWhole })), Fact(Label.partlyUnusedRules, .numbers(unused.count { !$0.isWhole })),
        ]
        let rows = observed.compactMap { one -> [Cell]? in
            let decision: Cell
            switch one.declared {
            case .notAllowed: decision = .none
            case .rejected: decision = .words(SectionText.byRejection)
            case .learning: decision = .words(SectionText.byLearning)
            case .rule, .fileTransfer, .unknown: return nil
            }
            return [
                Self.named(one.client, one.clientAddress), Self.named(one.server, one.serverAddress), .text(one.service), .time(one.first), .time(one.last),
                .number(one.connections), .number(one.denied), .flag(one.isAnswered),
                one.review.isEmpty ? .none : .list(one.review.map { .words(ReviewText.words($0)) }), decision,
            ]
        }
        return Section(
            "declared", SectionText.declared,
            [
                .paragraph(SectionText.declaredMeaning), .facts(facts),
                .table(
                    Table(
                        "not_declared",
                        [
                            Column(Label.client, .long), Column(Label.server, .long), Column(Label.service), Column(Label.first), Column(Label.last),
                            Column(Label.connections, .number), Column(Label.denied, .number), Column(Label.answered), Column(Label.lookAt, .long), Column(Label.decision),
                        ], rows, empty: SectionText.allDeclared)),
                .paragraph(SectionText.etherTypesMeaning),
                .table(
                    Table(
                        "ethertypes", [Column(SectionText.etherType), Column(Label.frames, .number)],
                        use.stoppedTypes.map { [.code(EtherTypeNames.name($0.type)), .number($0.frames)] }, empty: SectionText.noEtherTypes)),
            ])
    }

    /// What the policy permits and nobody has used.
    func unusedPermissions() -> Section {
        guard periodUse != nil else { return Section("unused", SectionText.unused, [.note(policy == nil ? Phrase.noPolicy : Phrase.noTraffic)]) }
        let rows = ownUnused.map { one -> [Cell] in
            [
                .text(one.rule), .words(one.isWhole ? SectionText.wholeRule : SectionText.partOfRule), .some(one.from), .some(one.to), .some(one.services),
                .some(one.vlans.map(String.init)),
            ]
        }
        return Section(
            "unused", SectionText.unused,
            [
                .paragraph(SectionText.unusedMeaning),
                .table(
                    Table(
                        "unused",
                        [
                            Column(Label.rule, .long), Column(Label.notUsed), Column(Label.notUsedFrom, .long), Column(Label.notUsedTo, .long),
                            Column(Label.notUsedService, .long), Column(Label.notUsedVLAN),
                        ], rows, empty: SectionText.noneUnused)),
            ])
    }

    /// What nobody used, of a device its own rules only. Those that stand for a device's learning are no permissions that somebody wrote.
    private var ownUnused: [PolicyUse.Unused] {
        let own = policy?.document.rules.filter { isOwn($0) && !$0.isLearning }.map(\.id)
        let ids = Set(own ?? [])
        return periodUse?.unused.filter { ids.contains($0.rule) } ?? []
    }

    /// Whether a rule is about the device, if there is one.
    func isOwn(_ rule: PolicyDocument.Rule) -> Bool {
        guard let addresses else { return true }
        return (rule.clients + rule.servers).contains { end in addresses.contains { $0.contains(end) || end.contains($0) } }
    }

    /// Services that carry what anybody on the way can read, beside those that are meant to protect it.
    func clearText(_ observed: [Observed]) -> Section {
        var rows: [[Cell]] = []
        for entry in PortVariant.all {
            let ones = observed.filter { $0.key.ipProtocol == entry.ipProtocol && entry.ports.contains($0.key.service.rawValue) }
            let pairs = ones.map { "\($0.client) → \($0.server)" }.distinct, rules = ones.compactMap { $0.rule?.id }.distinct
            rows.append([
                .code(entry.written), .text(entry.name), .words(entry.isProtected ? SectionText.protectedVariant : SectionText.clearVariant),
                .numbers(ones.count), .numbers(ones.count { $0.isAnswered }), .maybe(time: ones.map(\.first).min()), .maybe(time: ones.map(\.last).max()), .some(pairs, most: 4),
                .some(rules, most: 4),
            ])
        }
        return Section(
            "clear_text", SectionText.clearText,
            [
                .paragraph(SectionText.clearTextMeaning), .paragraph(Phrase.cutDays), .note(SectionText.clearTextLimit),
                .table(
                    Table(
                        "services",
                        [
                            Column(Label.port), Column(Label.service), Column(Label.kindOfPort, .long), Column(Label.conversations, .number), Column(Label.answered, .number),
                            Column(Label.first), Column(Label.last), Column(Label.by, .long), Column(Label.rule, .long),
                        ], rows)),
            ])
    }

    /// What each rule is for, and who answers for it.
    func owners() -> Section {
        guard let policy else { return Section("owners", SectionText.owners, [.note(Phrase.noPolicy)]) }
        let hits = hits()
        let rules = policy.document.rules.filter { isOwn($0) && !$0.isLearning }
        let rows = rules.map { rule -> [Cell] in
            [
                .text(rule.id), .some(rule.from), .some(rule.to), .some(rule.service), rule.purpose.map { .text($0) } ?? .words(SectionText.notStated),
                rule.owner.map { .text($0) } ?? .words(SectionText.notStated), .number(hits[rule.id]?.conversations ?? 0), .maybe(time: hits[rule.id]?.last),
            ]
        }
        let facts = [
            Fact(Label.rules, .numbers(rules.count)), Fact(SectionText.withoutPurpose, .numbers(rules.count { $0.purpose == nil })),
            Fact(SectionText.withoutOwner, .numbers(rules.count { $0.owner == nil })),
        ]
        return Section(
            "owners", SectionText.owners,
            [
                .facts(facts),
                .table(
                    Table(
                        "rules",
                        [
                            Column(Label.rule, .long), Column(Label.client, .long), Column(Label.server, .long), Column(Label.service, .long), Column(Label.purpose, .long),
                            Column(Label.owner, .long), Column(Label.conversations, .number), Column(Label.last),
                        ], rows)),
            ])
    }

    /// By day.
    func denials() -> Section {
        let days = days()
        let facts = [
            Fact(Label.denied, .number(days.reduce(0) { $0 &+ $1.denied })), Fact(SectionText.daysWithDenials, .numbers(days.count { $0.denied > 0 })),
            Fact(SectionText.daysObserved, .numbers(days.count)),
        ]
        return Section(
            "denials", SectionText.denials,
            [
                .paragraph(SectionText.denialsMeaning), .paragraph(Phrase.cutDays), .facts(facts), .days(Label.denied, days.map { (day: $0.day, count: $0.denied) }),
                .table(
                    Table(
                        "days",
                        [
                            Column(Label.day), Column(Label.denied, .number), Column(SectionText.deniedConversations, .number), Column(Label.frames, .number),
                            Column(Label.connections, .number),
                        ], days.map { [.day($0.day), .number($0.denied), .number($0.conversations), .number($0.frames), .number($0.connections)] }, empty: Phrase.noTraffic)),
            ])
    }

    /// Where logs go: conversations to syslog servers.
    func logConduits(_ observed: [Observed]) -> Section {
        let rows = observed.filter { Self.isSyslog($0.key) }.map { one -> [Cell] in
            [
                Self.named(one.client, one.clientAddress), Self.named(one.server, one.serverAddress), .text(one.service), .time(one.first), .time(one.last),
                .number(one.frames), Self.rule(one),
            ]
        }
        return Section(
            "log_conduits", SectionText.logConduits,
            [
                .paragraph(SectionText.logConduitsMeaning),
                .table(
                    Table(
                        "syslog",
                        [
                            Column(Label.client, .long), Column(Label.server, .long), Column(Label.service), Column(Label.first), Column(Label.last),
                            Column(Label.frames, .number), Column(Label.rule, .long),
                        ], rows, empty: hasTraffic ? SectionText.noLogConduits : Phrase.noTraffic)),
            ])
    }

    private static func isSyslog(_ key: ConversationKey) -> Bool {
        key.ipProtocol == .udp ? [514, 6514].contains(key.service.rawValue) : key.ipProtocol == .tcp && [514, 601, 6514].contains(key.service.rawValue)
    }

    // MARK: - The bridge

    /// Time in each mode, and in each state in which no worker judged.
    func operation() -> Section {
        guard let log else { return Section("operation", SectionText.operation, [.note(Phrase.noLog)]) }
        let modes = log.modes.map { [Cell.code($0.mode), .seconds($0.seconds)] }
        let failures = log.failures.map { one -> [Cell] in
            [
                .code(one.state), one.actions.isEmpty ? .none : .list(one.actions.sorted().map { .words(SectionText.action($0)) }), .number(one.times), .seconds(one.seconds),
                .time(one.first), .time(one.last), .flag(one.isOpen),
            ]
        }
        return Section(
            "operation", SectionText.operation,
            [
                .paragraph(SectionText.operationMeaning),
                .facts([Fact(Label.starts, .number(log.starts)), Fact(Label.startsWithoutStop, .number(log.startsWithoutStop))]),
                .table(Table("modes", [Column(Label.mode), Column(Label.duration, .number)], modes, empty: SectionText.neverRan)),
                .table(
                    Table(
                        "failures",
                        [
                            Column(Label.failureState), Column(Label.action), Column(Label.times, .number), Column(Label.duration, .number), Column(Label.first),
                            Column(Label.last), Column(Label.stillOpen),
                        ], failures, empty: SectionText.noFailures)),
            ])
    }

    /// Whether the log is what was written.
    func integrity() -> Section {
        guard let log else { return Section("integrity", SectionText.integrity, [.note(Phrase.noLog)]) }
        let check = log.check
        let facts = [
            Fact(Label.file, .text(log.file)), Fact(Label.auditIntact, .flag(check.isIntact)), Fact(Label.auditEvents, .numbers(check.events)),
            Fact(Label.firstEvent, .maybe(time: check.first.map(UInt64.init(microseconds:)))), Fact(Label.lastEvent, .maybe(time: check.last.map(UInt64.init(microseconds:)))),
            Fact(Label.auditHead, .code(check.head)), Fact(SectionText.findings, .numbers(check.problemCount)),
        ]
        let problems = check.problems.map { [$0.number.map { Cell.numbers($0) } ?? .none, Cell.text($0.text)] }
        let counts = log.counts.map { [Cell.code($0.category), .code($0.type), .number($0.count), .time($0.first), .time($0.last)] }
        return Section(
            "integrity", SectionText.integrity,
            [
                .paragraph(SectionText.integrityMeaning), .facts(facts),
                .table(Table("findings", [Column(Label.event, .number), Column(Label.problem, .long)], problems, empty: SectionText.noFindings)),
                .paragraph(SectionText.eventTypes),
                .table(
                    Table(
                        "event_types", [Column(Label.category), Column(Label.type), Column(Label.count, .number), Column(Label.first), Column(Label.last)], counts,
                        empty: SectionText.noEvents)),
            ])
    }

    /// Which policies were in use, who put them there, and why.
    func versions() -> Section {
        guard let log else { return Section("versions", SectionText.versions, [.note(Phrase.noLog)]) }
        let rows = log.versionsInPeriod.map { one -> [Cell] in
            [
                .number(one.number), .time(UInt64(microseconds: one.time)), .code(String(one.sha256.prefix(16))), .text(one.name), .code(one.mode), .numbers(one.rules),
                .text(one.who), .maybe(one.why), .text(one.change), .maybe(code: one.key.map { String($0.prefix(16)) }),
            ]
        }
        let refused = log.refusals.map { one -> [Cell] in [.time(UInt64(microseconds: one.time)), .code(one.type), .text(one.who), .text(one.description)] }
        return Section(
            "versions", SectionText.versions,
            [
                .paragraph(SectionText.versionsMeaning),
                .table(
                    Table(
                        "versions",
                        [
                            Column(Label.number, .number), Column(Label.when), Column(Label.sha256), Column(Label.policy, .long), Column(Label.mode),
                            Column(Label.rules, .number),
                            Column(Label.who, .long), Column(Label.why, .long), Column(Label.change, .long), Column(Label.key),
                        ], rows, empty: SectionText.noVersions)),
                .paragraph(SectionText.refusals), .facts([Fact(Label.refusals, .number(log.refusalCount))]),
                .table(Table("refusals", [Column(Label.when), Column(Label.type), Column(Label.who, .long), Column(Label.what, .long)], refused)),
            ])
    }

    /// What the bridge found worth a word.
    func alertsSection() -> Section {
        guard let alerts else { return Section("alerts", SectionText.alerts, [.note(Phrase.noAlerts)]) }
        let rows = alerts.filter(isOwn).map { one -> [Cell] in
            [
                .numbers(one.id), .words(AlertText.severity(one.severity)), .words(AlertText.kind(one.kind)), Self.device(one.device), .time(Self.nanoseconds(one.begin)),
                one.end.map { .time(Self.nanoseconds($0)) } ?? .words(SectionText.goesOn), .number(one.frames), .maybe(one.acknowledged?.who),
            ]
        }
        return Section(
            "alerts", SectionText.alerts,
            [
                .paragraph(SectionText.alertsMeaning),
                .table(
                    Table(
                        "alerts",
                        [
                            Column(Label.number, .number), Column(Label.severity), Column(Label.kind, .long), Column(Label.device, .long), Column(Label.begin),
                            Column(Label.end),
                            Column(Label.frames, .number), Column(Label.acknowledged, .long),
                        ], rows, empty: SectionText.noneInPeriod)),
            ])
    }

    private func isOwn(_ alert: Alert) -> Bool {
        guard let addresses else { return true }
        let own = [alert.device].compactMap(\.self) + alert.others
        let hosts = (own.compactMap(\.address) + alert.evidence.flatMap { [$0.client, $0.server] }).compactMap { AddressPrefix.host($0) }
        return own.contains { $0.name != nil && $0.name == request.device } || hosts.contains { host in addresses.contains { $0.contains(host) } }
    }

    private static func device(_ device: AlertDevice?) -> Cell {
        guard let device else { return .words(SectionText.theBridge) }
        let parts = [device.name, device.address, device.mac].compactMap(\.self)
        return parts.isEmpty ? .words(SectionText.many) : .text(parts.joined(separator: " "))
    }

    private static func nanoseconds(_ date: Date) -> UInt64 { UInt64(max(0, min(date.timeIntervalSince1970, 9e9)) * 1e6) * 1000 }

    /// Who was cut off.
    func quarantines() -> Section {
        guard let log else { return Section("quarantines", SectionText.quarantines, [.note(Phrase.noLog)]) }
        let rows = log.orders.map { one -> [Cell] in
            [
                .time(UInt64(microseconds: one.time)), .code(one.type), .text(one.who), .text(one.description), .maybe(one.fields["why"]), .maybe(one.fields["addresses"]),
                .maybe(one.fields["in_force_after"]),
            ]
        }
        return Section(
            "quarantines", SectionText.quarantines,
            [
                .table(
                    Table(
                        "orders",
                        [
                            Column(Label.when), Column(Label.type), Column(Label.who, .long), Column(Label.what, .long), Column(Label.why, .long),
                            Column(SectionText.orderAddresses, .long), Column(SectionText.inForceAfter),
                        ], rows, empty: SectionText.noneInPeriod)),
            ])
    }
}

extension [String] {
    /// Each once, in order.
    fileprivate var distinct: [String] {
        var known: Set<String> = []
        return filter { known.insert($0).inserted }
    }
}

/// A service of SEMI E187's subject, with and without protection on the way.
struct PortVariant {
    let ipProtocol: IPProtocol
    let ports: ClosedRange<UInt16>
    let name: String
    let isProtected: Bool

    var written: String { "\(ipProtocol == .tcp ? "tcp" : "udp")/\(ports.count == 1 ? "\(ports.lowerBound)" : "\(ports.lowerBound)-\(ports.upperBound)")" }

    static let all = [
        PortVariant(ipProtocol: .tcp, ports: 80...80, name: "HTTP", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 21...21, name: "FTP", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 23...23, name: "Telnet", isProtected: false),
        PortVariant(ipProtocol: .udp, ports: 69...69, name: "TFTP", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 139...139, name: "NetBIOS", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 445...445, name: "SMB", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 5900...5903, name: "VNC", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 3389...3389, name: "RDP", isProtected: false),
        PortVariant(ipProtocol: .tcp, ports: 443...443, name: "HTTPS", isProtected: true),
        PortVariant(ipProtocol: .tcp, ports: 22...22, name: "SSH, SFTP", isProtected: true),
        PortVariant(ipProtocol: .tcp, ports: 990...990, name: "FTPS", isProtected: true),
    ]
}
