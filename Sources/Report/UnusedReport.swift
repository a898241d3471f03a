// Rules that nobody used, or nobody uses any longer, and what of the others was never used.

import Allowlist
import Baseline
import Evidence
import Foundation
import Policy

extension ReportEvidence {
    public func unusedRules() throws(StateError) -> ReportDocument {
        let policy = try neededPolicy()
        let hits = hits(), since = rulesSince(policy)
        let now = Int64(period.upperBound / 1_000_000_000)
        let rules = policy.document.rules.filter { !$0.isLearning && !$0.isExpired(at: now) }
        func days(_ from: UInt64) -> Cell { .number(period.upperBound > from ? (period.upperBound - from) / 86_400_000_000_000 : 0) }
        func row(_ rule: PolicyDocument.Rule) -> [Cell] {
            let hit = hits[rule.id]
            let (permissions, used) = (Self.permissions(rule), hit?.conversations ?? 0)
            return [
                .text(rule.id), .some(rule.from), .some(rule.to), .some(rule.service), .maybe(rule.purpose), .maybe(rule.owner), .maybe(time: since[rule.id]),
                since[rule.id].map(days) ?? .none, .maybe(time: hit?.lastEver), hit?.lastEver.map(days) ?? .none, permissions.map { .number($0) } ?? .none, .number(used),
            ]
        }
        let never = rules.filter { hits[$0.id]?.lastEver == nil }
        let noLonger = rules.filter { hits[$0.id]?.lastEver != nil && hits[$0.id]?.last == nil }
        let used = rules.filter { hits[$0.id]?.last != nil }.sorted { (hits[$0.id]?.last ?? 0, $0.id) < (hits[$1.id]?.last ?? 0, $1.id) }
        let known = whole != nil
        // Without a history nothing can be said of use.
        func count(_ rules: [PolicyDocument.Rule]) -> Cell { known ? .numbers(rules.count) : .none }
        let facts = [
            Fact(Label.rules, .numbers(rules.count)), Fact(UnusedText.neverCount, count(never)), Fact(UnusedText.noLongerCount, count(noLonger)),
            Fact(UnusedText.usedCount, count(used)), Fact(UnusedText.expiredCount, .numbers(policy.document.rules.count { $0.isExpired(at: now) })),
        ]
        let idle = [
            Column(Label.rule, .long), Column(ZonesText.fromZone, .long), Column(ZonesText.toZone, .long), Column(Label.service, .long), Column(Label.purpose, .long),
            Column(Label.owner, .long), Column(UnusedText.since), Column(UnusedText.age, .number), Column(UnusedText.lastHit), Column(UnusedText.idle, .number),
            Column(UnusedText.permissions, .number),
        ]
        let busy = [
            Column(Label.rule, .long), Column(UnusedText.since), Column(UnusedText.lastHit), Column(UnusedText.idle, .number), Column(UnusedText.permissions, .number),
            Column(UnusedText.permissionsUsed, .number),
        ]
        func table(_ id: String, _ rules: [PolicyDocument.Rule], empty: Words) -> ReportDocument.Block {
            known ? .table(Table(id, idle, rules.map { Array(row($0).prefix(idle.count)) }, empty: empty)) : .note(Phrase.noTraffic)
        }
        let sections = [
            Section("scope", CoverageText.scope, beginsPage: true, warnings() + [.paragraph(UnusedText.reading), .paragraph(UnusedText.sinceMeaning), .facts(facts)]),
            Section("never", UnusedText.never, [.paragraph(UnusedText.neverMeaning), table("never", never, empty: UnusedText.noneNever)]),
            Section("no_longer", UnusedText.noLonger, [.paragraph(UnusedText.noLongerMeaning), table("no_longer", noLonger, empty: UnusedText.noneNoLonger)]),
            unusedPermissions(),
            Section(
                "used", UnusedText.used,
                [
                    .paragraph(UnusedText.usedMeaning), .paragraph(Phrase.cutDays),
                    known
                        ? .table(Table("used", busy, used.map(row).map { cells in [0, 6, 8, 9, 10, 11].map { cells[$0] } }, empty: UnusedText.noneUsed))
                        : .note(Phrase.noTraffic),
                ]),
        ]
        return ReportDocument(kind: .unused, title: UnusedText.title, cover: cover(), sections: sections)
    }

    /// Conversations that a rule allows, where it names hosts only; nil: networks.
    private static func permissions(_ rule: PolicyDocument.Rule) -> UInt64? {
        var total: UInt64 = 0
        for family in IPFamily.allCases {
            let clients = rule.clients.filter { $0.family == family }, servers = rule.servers.filter { $0.family == family }
            guard (clients + servers).allSatisfy(\.isHost) else { return nil }
            let services = rule.services.filter { $0.applies(to: family) }.reduce(UInt64(0)) { sum, range in
                // A type of ICMP is one service, whatever its codes.
                sum + (range.ipProtocol == .icmp || range.ipProtocol == .icmpv6 ? UInt64((range.count + 255) / 256) : UInt64(range.count))
            }
            let product = UInt64(clients.count).multipliedReportingOverflow(by: UInt64(servers.count))
            let all = product.partialValue.multipliedReportingOverflow(by: services)
            if product.overflow || all.overflow { return nil }
            total = total &+ all.partialValue
        }
        return total
    }

    /// The most versions that are looked through: texts may be large.
    private static let mostVersions = 200

    /// Since when each rule is in the policy without a break, by the versions in the audit log, ns since 1970. A rule that is older than the versions
    /// that were looked through has none.
    private func rulesSince(_ policy: UsedPolicy) -> [String: UInt64] {
        guard let log, policy.version != nil else { return [:] }
        var since: [String: UInt64] = [:]
        var open = Set(policy.document.rules.map(\.id))
        var texts: [String: Set<String>] = [:]
        let versions = log.versions.filter { $0.time < Int64(period.upperBound / 1000) }
        var isWhole = versions.count <= Self.mostVersions
        for version in versions.suffix(Self.mostVersions).reversed() where !open.isEmpty {
            let ids: Set<String>
            if let known = texts[version.sha256] {
                ids = known
            } else {
                // A text that is gone or changed ends what is known.
                guard let text = try? log.store.text(of: version.sha256),
                    let document = PolicyReader.read(text, now: version.time / 1_000_000).document
                else {
                    isWhole = false
                    break
                }
                ids = Set(document.rules.map(\.id))
                texts[version.sha256] = ids
            }
            open.formIntersection(ids)
            for id in open { since[id] = UInt64(microseconds: version.time) }
        }
        // In all that was read: of what was before nothing is known.
        if !isWhole { for id in open { since[id] = nil } }
        return since
    }
}

enum UnusedText {
    static let title = Words("unused", "Rules that are not used", ja: "使われていないルール", zh: "未使用的規則")
    static let reading = Words(
        "reading",
        """
        A rule counts as used if a recorded conversation is counted for it: of several rules that allow a conversation, the first in the policy. What comes rarely (a yearly \
        maintenance, a standby that takes over) may look unused for long: ask the owner before it is taken out.
        """,
        ja: """
            記録された通信がそのルールに計上されていれば、使われているとみなします（複数のルールが許可する場合はポリシー内で最初のもの）。年次保守や予備系への切り替えなど、まれな通信は長期間\
            未使用に見えることがあります。削除の前に責任者に確認してください。
            """,
        zh: "若有已記錄的通訊計入某規則，即視為使用中（多條規則皆允許時，計入政策中的第一條）。罕見的通訊（年度保養、備援接手）可能長期顯示為未使用：刪除前請先洽詢負責人。")
    static let sinceMeaning = Words(
        "since_meaning", "Since when a rule is in the policy is read from the versions in the audit log, by its id; where that is not known the cell is empty.",
        ja: "ルールがポリシーに存在する時期は、監査ログのバージョンからルール ID により求めます。不明な場合は空欄です。", zh: "規則自何時存在於政策，係依稽核日誌各版本以規則 ID 判讀；無法得知者留空。")
    static let neverCount = Words("never_used", "Never used", ja: "一度も使われていない", zh: "從未使用")
    static let noLongerCount = Words("no_longer_used", "Not used in the period", ja: "期間中に使われていない", zh: "期間內未使用")
    static let usedCount = Words("used", "Used in the period", ja: "期間中に使われた", zh: "期間內有使用")
    static let expiredCount = Words("expired", "Expired, and left out here", ja: "失効済み（本書では除外）", zh: "已失效（本文件不列）")

    static let never = Words("never", "Never used", ja: "一度も使われていないルール", zh: "從未使用的規則")
    static let neverMeaning = Words(
        "never_meaning", "No conversation was ever recorded for these, as long as the history goes back.", ja: "履歴に残る限り、該当する通信が一度も記録されていないルールです。", zh: "就現存歷史紀錄而言，從未有對應通訊的規則。")
    static let noneNever = Words("none_never", "Every rule was used at some time.", ja: "すべてのルールが一度は使われています。", zh: "所有規則均曾使用。")
    static let noLonger = Words("no_longer", "No longer used", ja: "使われなくなったルール", zh: "不再使用的規則")
    static let noLongerMeaning = Words(
        "no_longer_meaning", "Used at some time before the period (--from), and not in it.", ja: "期間（--from）より前に使われたことがあり、期間中には使われていないルールです。", zh: "期間（--from）之前曾使用，而期間內未使用的規則。")
    static let noneNoLonger = Words("none_no_longer", "No rule has fallen out of use.", ja: "使われなくなったルールはありません。", zh: "沒有不再使用的規則。")
    static let used = Words("used", "Used rules, the longest idle first", ja: "使われているルール（最終使用の古い順）", zh: "使用中的規則（依閒置時間由長至短）")
    static let usedMeaning = Words(
        "used_meaning", "“Allowed” counts conversations that a rule of single hosts allows; rules with networks have no such number.",
        ja: "「許可数」は、個別ホストのルールが許可する通信の数です。ネットワークを含むルールでは示せません。", zh: "「允許數」為僅含單一主機之規則所允許的通訊數；含網段之規則無此數字。")
    static let noneUsed = Words("none_used", "No rule was used in the period.", ja: "期間中に使われたルールはありません。", zh: "期間內無規則被使用。")

    static let since = Words("in_policy_since", "In the policy since", ja: "ポリシー登録日時", zh: "列入政策時間")
    static let age = Words("in_policy_days", "Days in it", ja: "登録日数", zh: "列入天數")
    static let lastHit = Words("last_hit", "Last used", ja: "最終使用", zh: "最後使用")
    static let idle = Words("idle_days", "Days idle", ja: "未使用日数", zh: "閒置天數")
    static let permissions = Words("allowed_conversations", "Allowed", ja: "許可数", zh: "允許數")
    static let permissionsUsed = Words("used_conversations", "Used", ja: "使用数", zh: "使用數")
}
