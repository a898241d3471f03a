// Zones and conduits, with what the records show of IEC 62443's network requirements and of the tenets of NIST SP 800-207. Paraphrase only.

import Allowlist
import Baseline
import Evidence
import Foundation
import Frames
import Policy

/// A row of a table about a standard: a requirement, how far it is shown, by what, and what is missing.
struct StandardRow: Sendable {
    var id: String
    var subject: Words
    var standing: Standing
    var shows: Words?
    var lacks: Words?

    var cells: [ReportDocument.Cell] {
        [.text(id), .words(subject), .words(standing.words), shows.map { .words($0) } ?? .none, lacks.map { .words($0) } ?? .none]
    }

    static let columns = [
        ReportDocument.Column(ZonesText.id), ReportDocument.Column(Label.subject, .long), ReportDocument.Column(Label.standing, .long),
        ReportDocument.Column(Label.shows, .long), ReportDocument.Column(Label.lacks, .long),
    ]
}

extension ReportEvidence {
    public func zones() throws(StateError) -> ReportDocument {
        let policy = try neededPolicy()
        let facts = ZoneFacts(policy, log: log, hasTraffic: hasTraffic, learns: learnsInPeriod)
        let sections = [
            Section("scope", ZonesText.scope, beginsPage: true, warnings() + [.paragraph(ZonesText.reading), .paragraph(ZonesText.levels)]),
            zoneTable(policy.document), conduits(policy.document),
            Section("facts", CoverageText.facts, [.paragraph(CoverageText.factsMeaning), .facts(coverageFacts(policy).list)]),
            Section(
                "iec_62443", ZonesText.iec, beginsPage: true,
                [.paragraph(ZonesText.iecMeaning), .table(Table("requirements", StandardRow.columns, facts.iec.map(\.cells)))]),
            Section(
                "nist_800_207", ZonesText.nist, beginsPage: true,
                [.paragraph(ZonesText.nistMeaning), .table(Table("tenets", StandardRow.columns, facts.nist.map(\.cells)))]),
            operation(), quarantines(),
        ]
        return ReportDocument(kind: .zones, title: ZonesText.title, cover: cover([Fact(Label.edition, .words(ZonesText.edition))]), sections: sections)
    }

    private func zoneTable(_ document: PolicyDocument) -> Section {
        let seen = addressesSeen()
        let all = Set(seen)
        func count(_ prefixes: [AddressPrefix]) -> UInt64 {
            // Hosts by themselves: there may be many of either.
            let hosts = prefixes.filter(\.isHost), networks = prefixes.filter { !$0.isHost }
            let named = Set(hosts.map { LearntEnd(words: $0.words, family: $0.family) })
            let inNetworks = networks.isEmpty ? 0 : seen.count { one in !named.contains(one) && networks.contains { $0.family == one.family && $0.contains(one.words) } }
            return UInt64(named.intersection(all).count + inNetworks)
        }
        let devices = document.devices.map { one -> [Cell] in
            [
                .text(one.name), .words(ZonesText.deviceZone), .some(one.addresses.map(\.written)), .some(one.macs.map(\.written)),
                one.side.map { .words(ZonesText.side($0)) } ?? .none, .words(one.isLearning ? ZonesText.learns : ZonesText.asPolicy), .number(count(one.addresses)),
            ]
        }
        let groups = document.groups.map { one -> [Cell] in
            [.text(one.name), .words(ZonesText.groupZone), .some(one.addresses.map(\.written)), .none, .none, .words(ZonesText.asPolicy), .number(count(one.addresses))]
        }
        let zones = document.devices.flatMap(\.addresses) + document.groups.flatMap(\.addresses)
        let hosts = Set(zones.filter(\.isHost).map { LearntEnd(words: $0.words, family: $0.family) }), networks = zones.filter { !$0.isHost }
        let outside = seen.filter { one in
            !hosts.contains(one) && !networks.contains { $0.family == one.family && $0.contains(one.words) }
        }
        return Section(
            "zones", ZonesText.zones, beginsPage: true,
            [
                .paragraph(ZonesText.zonesMeaning),
                .table(
                    Table(
                        "zones",
                        [
                            Column(ZonesText.zone, .long), Column(Label.kind), Column(ZonesText.members, .long), Column(ZonesText.macs), Column(ZonesText.sideName),
                            Column(Label.mode), Column(ZonesText.seen, .number),
                        ], devices + groups, empty: ZonesText.noZones)),
                .facts([
                    Fact(ZonesText.unzoned, .numbers(outside.count)),
                    Fact(ZonesText.unzonedAddresses, .some(outside.map { $0.words.written($0.family) }.sorted(), most: 20)),
                ]),
            ])
    }

    private func addressesSeen() -> [LearntEnd] {
        var seen: Set<LearntEnd> = []
        for one in history?.conversations ?? [] {
            seen.insert(LearntEnd(words: one.key.client, family: one.key.family))
            if !one.isToGroup { seen.insert(LearntEnd(words: one.key.server, family: one.key.family)) }
        }
        return Array(seen)
    }

    private func conduits(_ document: PolicyDocument) -> Section {
        let hits = hits()
        let now = Int64(period.upperBound / 1_000_000_000)
        let rows = document.rules.filter { !$0.isLearning && !$0.isExpired(at: now) }.map { rule -> [Cell] in
            let hit = hits[rule.id]
            return [
                .text(rule.id), .some(rule.from), .some(rule.to), .some(rule.service), .maybe(rule.purpose), .maybe(rule.owner),
                .words(rule.isMonitored ? ZonesText.onTrial : ZonesText.enforcedRule), rule.expires.map { .text(PolicyExport.written($0)) } ?? .none,
                .number(hit?.conversations ?? 0), .number(hit?.connections ?? 0), .maybe(time: hit?.last),
            ]
        }
        var outside: [Fact] = []
        if let use {
            outside = [
                Fact(Label.total, .numbers(history?.conversations.count ?? 0)), Fact(Label.allowed, .numbers(use.allowed)),
                Fact(ZonesText.outsideConduits, .numbers(use.stopped.count + use.rejected.count)),
            ]
        }
        return Section(
            "conduits", ZonesText.conduits, beginsPage: true,
            [
                .paragraph(ZonesText.conduitsMeaning), .paragraph(Phrase.cutDays), .facts(outside),
                .table(
                    Table(
                        "conduits",
                        [
                            Column(ZonesText.conduit, .long), Column(ZonesText.fromZone, .long), Column(ZonesText.toZone, .long), Column(Label.service, .long),
                            Column(Label.purpose, .long), Column(Label.owner, .long), Column(Label.mode), Column(ZonesText.expires), Column(Label.conversations, .number),
                            Column(Label.connections, .number), Column(Label.last),
                        ], rows)),
            ])
    }
}

private struct LearntEnd: Hashable {
    let words: AddressWords
    let family: IPFamily
}

/// What of a policy and the log decides about requirements.
struct ZoneFacts {
    let policy: UsedPolicy
    let log: LogEvidence?
    let hasTraffic: Bool
    /// See `ReportEvidence.learnsInPeriod`.
    let learns: Bool?

    init(_ policy: UsedPolicy, log: LogEvidence?, hasTraffic: Bool, learns: Bool?) {
        (self.policy, self.log, self.hasTraffic, self.learns) = (policy, log, hasTraffic, learns)
    }

    /// In use, in force at the end, and all the time before as far as the log goes.
    private var isEnforcing: Bool { policy.mode == .enforce }
    /// By a log that is what was written.
    private var isInUse: Bool { policy.version != nil && hasLog }
    private var isEnforcedThroughout: Bool { isEnforcing && isInUse && (log?.isEnforcedThroughout ?? false) && learns != nil }
    private var hasLearners: Bool { learns == true }
    /// Every cause there is.
    private var failsClosed: Bool { policy.document.failing.actions.isClosed && !policy.document.failing.fullPasses }
    private var hasLog: Bool { log.map { $0.check.isIntact && $0.check.events > 0 } ?? false }
    /// Why it has none.
    private var withoutLog: Words { log.map { $0.check.isIntact } ?? true ? Phrase.noLog : Phrase.logDamaged }

    var iec: [StandardRow] {
        typealias T = ZonesText
        return [
            StandardRow(
                id: "SR 5.1", subject: T.segmentation, standing: isEnforcing ? .partly : .notEvidenced, shows: isEnforcing ? T.segmentationShows : nil,
                lacks: isEnforcing ? T.segmentationLacks : T.notInMode),
            StandardRow(id: "SR 5.1 RE(1)", subject: T.physical, standing: .notEvidenced, shows: nil, lacks: T.physicalLacks),
            StandardRow(id: "SR 5.1 RE(2)", subject: T.independence, standing: .notEvidenced, shows: nil, lacks: T.independenceLacks),
            StandardRow(id: "SR 5.1 RE(3)", subject: T.criticalNetworks, standing: .notEvidenced, shows: nil, lacks: T.criticalNetworksLacks),
            StandardRow(
                id: "SR 5.2", subject: T.boundary, standing: isEnforcedThroughout && hasTraffic ? .shown : hasTraffic || hasLog ? .partly : .notEvidenced,
                shows: hasTraffic || hasLog ? T.boundaryShows : nil, lacks: isEnforcing ? T.boundaryLacks : T.notInMode),
            StandardRow(
                id: "SR 5.2 RE(1)", subject: T.denyByDefault,
                standing: !isEnforcing ? .notEvidenced : hasLearners || !isEnforcedThroughout ? .partly : .shown, shows: isEnforcing ? T.denyByDefaultShows : nil,
                lacks: !isEnforcing ? T.notInMode : hasLearners ? CoverageText.someLearn : isEnforcedThroughout ? nil : T.notThroughout),
            StandardRow(id: "SR 5.2 RE(2)", subject: T.island, standing: .partly, shows: T.islandShows, lacks: T.islandLacks),
            StandardRow(
                id: "SR 5.2 RE(3)", subject: T.failClose, standing: failsClosed && isEnforcing ? .partly : .notEvidenced,
                shows: failsClosed && isEnforcing ? T.failCloseShows : nil, lacks: failsClosed ? isEnforcing ? T.failCloseLacks : T.notInMode : T.failsOtherwise),
            StandardRow(
                id: "SR 5.3", subject: T.personToPerson, standing: isEnforcing ? .partly : .notEvidenced, shows: isEnforcing ? T.personToPersonShows : nil,
                lacks: isEnforcing ? T.personToPersonLacks : T.notInMode),
            StandardRow(
                id: "SR 6.1", subject: T.logAccess, standing: hasLog ? .shown : .notEvidenced, shows: hasLog ? T.logAccessShows : nil, lacks: hasLog ? T.ownLogOnly : withoutLog),
            StandardRow(
                id: "SR 6.2", subject: T.monitoring, standing: hasLog ? .partly : .notEvidenced, shows: hasLog ? T.monitoringShows : nil, lacks: hasLog ? T.monitoringLacks : withoutLog),
            StandardRow(
                id: "SR 7.1 RE(1)", subject: T.load, standing: isEnforcing ? .partly : .notEvidenced, shows: isEnforcing ? T.loadShows : nil,
                lacks: isEnforcing ? T.loadLacks : T.notInMode),
            StandardRow(
                id: "SR 7.1 RE(2)", subject: T.effectOnOthers, standing: isEnforcing ? .partly : .notEvidenced, shows: isEnforcing ? T.loadShows : nil,
                lacks: isEnforcing ? T.effectOnOthersLacks : T.notInMode),
            StandardRow(
                id: "SR 7.6 RE(1)", subject: T.settings, standing: isInUse ? .shown : .notEvidenced, shows: isInUse ? T.settingsShows : nil, lacks: T.settingsLacks),
            StandardRow(id: "SR 7.7", subject: T.leastFunction, standing: hasTraffic ? .partly : .notEvidenced, shows: hasTraffic ? T.leastFunctionShows : nil,
                lacks: hasTraffic ? T.leastFunctionLacks : Phrase.noTraffic),
            StandardRow(id: "SR 7.8", subject: T.inventory, standing: hasTraffic ? .partly : .notEvidenced, shows: hasTraffic ? T.inventoryShows : nil,
                lacks: hasTraffic ? T.inventoryLacks : Phrase.noTraffic),
            StandardRow(
                id: "SR 2.8–2.12, 3.4", subject: T.ownConsole, standing: hasLog ? .partly : .notEvidenced, shows: hasLog ? T.ownConsoleShows : nil, lacks: T.ownConsoleLacks),
            StandardRow(id: "SR 1.x", subject: T.ownUsers, standing: .notEvidenced, shows: nil, lacks: T.ownUsersLacks),
        ]
    }

    var nist: [StandardRow] {
        typealias T = ZonesText
        return [
            StandardRow(
                id: "1", subject: T.tenet1, standing: hasTraffic ? .partly : .notEvidenced, shows: hasTraffic ? T.tenet1Shows : nil,
                lacks: hasTraffic ? T.tenet1Lacks : Phrase.noTraffic),
            StandardRow(id: "2", subject: T.tenet2, standing: .notEvidenced, shows: T.tenet2Shows, lacks: T.tenet2Lacks),
            StandardRow(
                id: "3", subject: T.tenet3, standing: isEnforcing ? .partly : .notEvidenced, shows: isEnforcing ? T.tenet3Shows : nil,
                lacks: isEnforcing ? T.tenet3Lacks : T.notInMode),
            StandardRow(id: "4", subject: T.tenet4, standing: .partly, shows: T.tenet4Shows, lacks: T.tenet4Lacks),
            StandardRow(id: "5", subject: T.tenet5, standing: hasTraffic ? .partly : .notEvidenced, shows: hasTraffic ? T.tenet5Shows : nil, lacks: T.tenet5Lacks),
            StandardRow(id: "6", subject: T.tenet6, standing: .notEvidenced, shows: nil, lacks: T.tenet6Lacks),
            StandardRow(
                id: "7", subject: T.tenet7, standing: hasTraffic || hasLog ? .partly : .notEvidenced, shows: hasTraffic || hasLog ? T.tenet7Shows : nil,
                lacks: T.monitoringLacks),
        ]
    }
}
