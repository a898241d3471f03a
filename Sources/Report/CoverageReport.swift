// Techniques of ATT&CK for ICS: what the policy in use blocks, what alerts tell of, what is out of reach. Nothing is blocked but by facts: the mode,
// the rules, the bindings, and what becomes of frames while no worker judges.

import Allowlist
import Baseline
import Detection
import Foundation
import Frames
import Policy

extension ReportEvidence {
    public func coverage() throws(StateError) -> ReportDocument {
        let policy = try neededPolicy()
        let facts = coverageFacts(policy)
        let seen = alertsByTechnique()
        let rows = AttackTechnique.all.map { technique -> [Cell] in
            let kinds = facts.kinds(technique)
            return [
                .code(technique.id), .code(technique.laterID), .text(technique.name), .list(technique.tactics.map { .words(CoverageText.tactic($0)) }),
                .words(facts.prevention(technique)), facts.openRules(technique), technique.mitigations.isEmpty ? .none : .list(technique.mitigations.map { .text($0) }),
                kinds.isEmpty ? .none : .list(kinds.map { .words(AlertText.kind($0)) }), .flag(technique.isFlowVisible), .number(seen[technique.id] ?? 0),
                .words(CoverageText.limit(technique)),
            ]
        }
        let counts = Dictionary(grouping: AttackTechnique.all) { facts.prevention($0).id }.mapValues(\.count)
        let words = [CoverageText.blocked, CoverageText.limited, CoverageText.notBound, CoverageText.notInMode, CoverageText.outOfReach]
        let detected = AttackTechnique.all.count { !facts.kinds($0).isEmpty }
        let summary = words.map { Fact($0, .numbers(counts[$0.id] ?? 0)) } + [
            Fact(CoverageText.detected, .numbers(detected)),
            Fact(CoverageText.neither, .numbers(AttackTechnique.all.count { !facts.isHindered($0) && facts.kinds($0).isEmpty })),
            Fact(CoverageText.techniques, .numbers(AttackTechnique.all.count)),
        ]
        let sections = [
            Section(
                "scope", CoverageText.scope, beginsPage: true,
                warnings() + [.paragraph(CoverageText.reading), .paragraph(CoverageText.versions), .note(CoverageText.licence)]),
            Section("summary", CoverageText.summary, [.facts(summary)]),
            Section("facts", CoverageText.facts, [.paragraph(CoverageText.factsMeaning), .facts(facts.list)] + facts.notes.map { .note($0) }),
            Section(
                "prevention", CoverageText.prevention, beginsPage: true,
                [
                    .paragraph(CoverageText.preventionMeaning),
                    .table(Table("prevention", Self.columns(CoverageText.preventionColumns), rows.map { row in [0, 1, 2, 3, 4, 5, 6, 10].map { row[$0] } })),
                ]),
            Section(
                "detection", CoverageText.detection, beginsPage: true,
                [
                    .paragraph(CoverageText.detectionMeaning),
                    .table(
                        Table(
                            "detection", Self.columns(CoverageText.detectionColumns),
                            rows.filter { $0[7] != .none }.map { row in [0, 1, 2, 7, 8, 9].map { row[$0] } })),
                ]),
        ]
        return ReportDocument(kind: .coverage, title: CoverageText.title, cover: cover([Fact(Label.edition, .words(CoverageText.edition))]), sections: sections)
    }

    func coverageFacts(_ policy: UsedPolicy) -> CoverageFacts {
        CoverageFacts(policy, detectsWith: log != nil || alerts != nil, now: Int64(period.upperBound / 1_000_000_000))
    }

    private static func columns(_ all: [(Words, Column.Style)]) -> [Column] { all.map { Column($0.0, $0.1) } }

    /// Alerts of the period by technique of version 18.1.
    private func alertsByTechnique() -> [String: UInt64] {
        var seen: [String: UInt64] = [:]
        for alert in alerts ?? [] {
            for id in Set(alert.techniques.flatMap(\.ids).filter { $0.version == "18.1" }.map(\.id)) { seen[id, default: 0] += 1 }
        }
        return seen
    }
}

/// What of a policy decides about techniques.
struct CoverageFacts: Sendable {
    let policy: UsedPolicy
    /// A bridge with a state directory: it has alerts.
    let detectsWith: Bool
    private let open: [AttackTechnique.Ports: [String]]
    private let bound: Int
    private let learning: [String]

    /// - Parameter now: seconds since 1970; a rule that has expired by then opens nothing.
    init(_ policy: UsedPolicy, detectsWith: Bool, now: Int64) {
        (self.policy, self.detectsWith) = (policy, detectsWith)
        let document = policy.document
        var open: [AttackTechnique.Ports: [String]] = [:]
        for ports in AttackTechnique.Ports.allCases { open[ports] = document.rules.filter { !$0.isExpired(at: now) && ports.isOpened(by: $0) }.map(\.id) }
        self.open = open
        bound = document.devices.count { !$0.macs.isEmpty || $0.side != nil }
        learning = document.devices.filter(\.isLearning).map(\.name)
    }

    var isEnforcing: Bool { policy.mode == .enforce }

    func prevention(_ technique: AttackTechnique) -> Words {
        switch technique.reach {
        case .none: return CoverageText.outOfReach
        case .blocks: return isEnforcing ? CoverageText.blocked : CoverageText.notInMode
        case .limits, .flood: return isEnforcing ? CoverageText.limited : CoverageText.notInMode
        case .binding:
            if !isEnforcing { return CoverageText.notInMode }
            return bound == 0 ? CoverageText.notBound : bound < policy.document.devices.count ? CoverageText.limited : CoverageText.blocked
        }
    }

    /// Blocked, or limited at least.
    func isHindered(_ technique: AttackTechnique) -> Bool { [CoverageText.blocked.id, CoverageText.limited.id].contains(prevention(technique).id) }

    /// Rules of the policy that let such a conversation in.
    func openRules(_ technique: AttackTechnique) -> ReportDocument.Cell {
        switch technique.reach {
        case .blocks(.any), .limits(.any), .flood: .words(CoverageText.everyRule)
        case .blocks(let ports), .limits(let ports): .some(open[ports] ?? [], most: 2)
        case .binding, .none: .none
        }
    }

    /// Kinds of alerts that are consistent with it, in this mode.
    func kinds(_ technique: AttackTechnique) -> [AlertKind] {
        guard detectsWith else { return [] }
        let all = AlertKind.allCases.filter { kind in kind.techniques.contains { $0.ids.contains { $0.version == "18.1" && $0.id == technique.id } } }
        // While it learns nothing is unusual yet.
        return policy.mode == .learn ? all.filter { [.scan, .slowScan, .spoofing, .wrongSide].contains($0) } : all
    }

    var list: [ReportDocument.Fact] {
        typealias Fact = ReportDocument.Fact
        let failing = policy.document.failing
        return [
            Fact(Label.mode, .code(policy.mode.name)), Fact(Label.rules, .numbers(policy.document.rules.count { !$0.isLearning })),
            Fact(CoverageText.trialRules, .numbers(policy.document.rules.count { $0.isMonitored && !$0.isLearning })),
            Fact(CoverageText.learningDevices, .some(learning)), Fact(CoverageText.boundDevices, .numbers(bound)),
            Fact(CoverageText.unboundDevices, .numbers(policy.document.devices.count - bound)),
            Fact(CoverageText.failing(.starting), .code(failing.actions.starting.name)), Fact(CoverageText.failing(.workerDead), .code(failing.actions.workerDead.name)),
            Fact(CoverageText.failing(.stopping), .code(failing.actions.stopping.name)),
            Fact(CoverageText.flowTableFull, .words(failing.fullPasses ? CoverageText.byRulesAlone : SectionText.action("closed"))),
            Fact(CoverageText.alertsKept, .flag(detectsWith)),
        ]
    }

    var notes: [Words] {
        var notes: [Words] = []
        if FailureState.allCases.contains(where: { policy.document.failing.actions[$0] == .open }) { notes.append(CoverageText.failsOpen) }
        if !learning.isEmpty { notes.append(CoverageText.someLearn) }
        if !detectsWith { notes.append(CoverageText.noDetection) }
        return notes
    }
}

extension AttackTechnique.Ports {
    /// TCP or UDP, whichever: by number only.
    private var numbers: Set<UInt16> {
        switch self {
        case .any, .outside: []
        // ISO-TSAP, Modbus, IEC 104, EtherNet/IP, DNP3, BACnet, ADS, FINS, HSMS, MELSEC, OPC UA, PROFINET CM.
        case .control: [102, 502, 2222, 2404, 4840, 5000, 5001, 5002, 5006, 5007, 9600, 20_000, 34_964, 44_818, 47_808, 48_898, 48_899]
        case .remote: [22, 23, 3389, 5900, 5901, 5902, 5903, 5985, 5986]
        case .files: [20, 21, 22, 69, 139, 445, 990, 2049]
        }
    }

    /// Networks that do not reach beyond a plant: private ones, links, groups; and what stands for no host (DHCP has it).
    private static let local: [AddressPrefix] = {
        func v4(_ a: UInt64, _ b: UInt64, _ length: Int) -> AddressPrefix {
            AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: a << 24 | b << 16), length: length)
        }
        func v6(_ first: UInt64, _ length: Int) -> AddressPrefix { AddressPrefix(family: .ipv6, words: AddressWords(high: first << 48, low: 0), length: length) }
        let everybody = AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: 0xFFFF_FFFF), length: 32)
        return [
            v4(10, 0, 8), v4(172, 16, 12), v4(192, 168, 16), v4(169, 254, 16), v4(224, 0, 4), v4(0, 0, 32), everybody, v6(0xFC00, 7), v6(0xFE80, 10), v6(0xFF00, 8),
            v6(0, 128),
        ]
    }()

    func isOpened(by rule: PolicyDocument.Rule) -> Bool {
        switch self {
        case .any: true
        case .outside: (rule.clients + rule.servers).contains { end in !Self.local.contains { $0.contains(end) } }
        case .control, .remote, .files:
            rule.services.contains { range in
                (range.ipProtocol == .tcp || range.ipProtocol == .udp) && numbers.contains { (range.low.rawValue...range.high.rawValue).contains($0) }
            }
        }
    }
}
