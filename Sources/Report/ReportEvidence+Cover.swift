// The first page: what the report is about, and what it rests on.

import Foundation

extension ReportEvidence {
    func cover(_ more: [ReportDocument.Fact] = []) -> [ReportDocument.Fact] {
        typealias Fact = ReportDocument.Fact
        var facts = more
        facts.append(Fact(Label.state, .text(request.state)))
        facts.append(Fact(Label.device, request.device.map { .text($0) } ?? .words(CoverText.allDevices)))
        facts.append(Fact(Label.from, .time(period.lowerBound)))
        facts.append(Fact(Label.to, .time(period.upperBound)))
        let sources = (whole?.sources ?? []).map { "\($0.kind) \($0.name) (\($0.frames))" }
        facts.append(Fact(Label.sources, .some(sources, most: 4)))
        facts.append(Fact(Label.observedHours, history.map { .numbers($0.hours.count) } ?? .none))
        facts.append(Fact(Label.noRoom, whole.map { .number($0.sources.reduce(0) { $0 &+ $1.overflow }) } ?? .none))
        facts.append(Fact(Label.forgotten, whole.map { .numbers($0.decisions.count { $0.verdict == .forget }) } ?? .none))
        facts.append(Fact(Label.policy, .maybe(policy?.document.name)))
        facts.append(Fact(Label.policyVersion, policy.map { $0.version.map { .number($0.number) } ?? .words(CoverText.given) } ?? .none))
        facts.append(Fact(Label.sha256, .maybe(code: policy?.sha256)))
        facts.append(Fact(Label.policyFile, .maybe(policy?.file)))
        facts.append(Fact(Label.applied, .maybe(time: policy?.version.map { UInt64(microseconds: $0.time) })))
        facts.append(Fact(Label.mode, .maybe(code: policy?.mode.name)))
        facts.append(Fact(Label.auditIntact, log.map { .flag($0.check.isIntact) } ?? .words(CoverText.noLog)))
        facts.append(Fact(Label.auditEvents, log.map { .numbers($0.check.events) } ?? .none))
        facts.append(Fact(Label.auditHead, .maybe(code: log?.check.head)))
        facts.append(Fact(Label.created, .time(request.now)))
        facts.append(Fact(Label.program, .text(request.version)))
        return facts
    }

    /// What must be known before anything else is read.
    func warnings() -> [ReportDocument.Block] {
        var notes: [Words] = []
        if let log, !log.check.isIntact { notes.append(Phrase.logDamaged) }
        if policyProblem != nil { notes.append(Phrase.policyUnreadable) } else if policy == nil { notes.append(Phrase.noPolicy) }
        if let policy, policy.version == nil { notes.append(Phrase.policyGiven) }
        if let policy, policy.mode != .enforce { notes.append(Phrase.notEnforcing) }
        if learnsInPeriod == true { notes.append(CoverageText.someLearn) }
        if !hasTraffic { notes.append(Phrase.noTraffic) }
        return notes.map { .note($0) }
    }
}

enum CoverText {
    static let allDevices = Words("all", "all devices behind or before this bridge", ja: "本ブリッジの両側のすべての機器", zh: "本橋接器兩側的所有設備")
    static let given = Words("given_file", "given as a file", ja: "ファイル指定", zh: "以檔案指定")
    static let noLog = Words("no_audit_log", "there is no audit log", ja: "監査ログなし", zh: "無稽核日誌")
}
