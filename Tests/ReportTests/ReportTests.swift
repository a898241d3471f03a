import Allowlist
import Baseline
import Evidence
import Foundation
import Frames
import Policy
import Testing

@testable import Report

/// What reports say of what was recorded. How the program writes them, Tests/System/test_report.py tells.
@Suite struct ReportTests {
    private func json(_ document: ReportDocument) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(document), as: UTF8.self)
    }

    // MARK: - E187

    @Test func aVerdictIsNeverFilledIn() throws {
        let directory = StateDirectory()
        let document = try Plant.evidence(directory).e187()
        let table = try #require(document.table("requirements", of: "requirements"))
        #expect(table.rows.count == 13)
        #expect(table.column("assessment").allSatisfy { $0 == .blank } && table.column("explanation").allSatisfy { $0 == .blank })
        let standings = table.column("standing").map { cell in if case .words(let words) = cell { words.id } else { "" } }
        #expect(!standings.contains("shown"))
        #expect(standings.enumerated().filter { $0.element == "in_part" }.map { $0.offset + 1 } == [3, 4, 8, 11, 12])
        // Nor is it in words, in any report.
        let claims = ["complian", "complies", "conform", "fulfil", "satisf", "certified", "準拠", "適合している", "適合します", "満たして", "符合本", "合規", "達到"]
        for document in try Plant.all(try Plant.evidence(directory)) {
            for language in ReportLanguage.allCases {
                let text = ReportWriting(language: language).markdown(document).lowercased()
                for claim in claims { #expect(!text.contains(claim), "\(claim) in \(document.kind), \(language)") }
            }
        }
    }

    @Test func whatIsNotRecordedIsNotEvidenced() throws {
        // A policy, and nothing else.
        let evidence = try ReportEvidence(Plant.request(policy: Plant.policy), whole: nil, store: nil, alerts: nil)
        let table = try #require(evidence.e187().table("requirements", of: "requirements"))
        #expect(table.column("standing").allSatisfy { $0 == .words(Standing.notEvidenced.words) })
        #expect(evidence.e187().section("scope")?.notes.contains("no_traffic") == true)
        for document in try Plant.all(evidence) {
            for language in ReportLanguage.allCases {
                let said = Phrase.noTraffic.text(language), writing = ReportWriting(language: language)
                #expect(writing.markdown(document).contains(said) && writing.html(document).contains(said.prefix { $0 != "'" }), "\(document.kind) in \(language)")
            }
        }
    }

    @Test func theMatrixHasRulesPurposesAndOwners() throws {
        let directory = StateDirectory()
        let document = try Plant.evidence(directory).e187()
        let table = try #require(document.table("matrix", of: "matrix"))
        #expect(table.column("client") == [.text("mes (10.3.0.10)"), .text("10.3.0.66"), .text("10.3.0.66"), .text("scanner-1 (10.3.1.21)")])
        #expect(table.column("service") == [.text("tcp/5000"), .text("tcp/445"), .text("tcp/3389"), .text("udp/514")])
        #expect(table.column("rule") == [.text("host-link"), .words(SectionText.byNone), .text("visits"), .text("logs")])
        #expect(table.column("purpose").first == .text("SECS/GEM") && table.column("owner").first == .text("litho"))
        #expect(table.column("connections").first == .number(240))
        #expect(document.fact("not_allowed", of: "declared") == .number(1) && document.fact("denied", of: "denials") == .number(7))
        #expect(document.table("syslog", of: "log_conduits")?.rows.count == 1)
        let services = try #require(document.table("services", of: "clear_text"))
        let seen = zip(services.column("port"), services.column("conversations")).filter { $0.1 != .number(0) }.map(\.0)
        #expect(seen == [.code("tcp/445"), .code("tcp/3389")])
        let unused = try #require(document.table("unused", of: "unused"))
        #expect(unused.column("rule") == [.text("host-link"), .text("visits"), .text("never")])
        #expect(unused.column("not_used") == [.words(SectionText.partOfRule), .words(SectionText.partOfRule), .words(SectionText.wholeRule)])
        #expect(unused.column("not_used_to").first == .names(["10.3.1.22"], most: 8) && unused.column("not_used_service").first == .names(["tcp/5001"], most: 8))
        #expect(document.fact("without_owner", of: "owners") == .number(3))
    }

    @Test func aDeviceAloneHasItsPeers() throws {
        let directory = StateDirectory()
        let table = try #require(try Plant.evidence(directory, device: "mes").e187().table("matrix", of: "matrix"))
        #expect(table.column("peer") == [.text("scanner-1 (10.3.1.21)")] && table.column("direction") == [.words(Label.outgoing)])
        #expect(throws: StateError.self) { try Plant.evidence(directory, device: "nobody") }
        let network = try #require(try Plant.evidence(directory, device: "10.3.0.0/24").e187().table("matrix", of: "matrix"))
        #expect(network.rows.count == 4)
        // Of several addresses each row says which.
        let group = try Plant.evidence(directory, device: "tools").e187()
        #expect(group.table("matrix", of: "matrix")?.column("server").contains(.text("scanner-1 (10.3.1.21)")) == true)
        // What another device uses is used.
        let own = try Plant.evidence(directory, device: "mes").e187()
        let unused = try #require(own.table("unused", of: "unused"))
        #expect(unused.column("rule") == [.text("host-link"), .text("visits"), .text("never")])
        #expect(unused.column("not_used") == [.words(SectionText.partOfRule), .words(SectionText.partOfRule), .words(SectionText.wholeRule)])
        #expect(own.fact("unused_rules", of: "declared") == .number(1) && own.fact("partly_unused_rules", of: "declared") == .number(2))
    }

    // MARK: - Times

    @Test func timesInModesAndFailuresAreThoseOfTheLog() throws {
        let directory = StateDirectory()
        let document = try Plant.evidence(directory).e187()
        let modes = try #require(document.table("modes", of: "operation"))
        #expect(modes.column("mode") == [.code("enforce"), .code("monitor")])
        // The first policy says enforce a thousandth of a day in; the event of the first day changes nothing.
        #expect(modes.column("seconds") == [.seconds(Double(Plant.days) * 86_400 - 86.4), .seconds(86.4)])
        let failures = try #require(document.table("failures", of: "operation"))
        #expect(failures.rows.count == 1 && failures.column("seconds") == [.seconds(1.5)] && failures.column("times") == [.number(1)])
        // A period after it has none of them, and one that ends within a failure has that part.
        #expect(try Plant.evidence(directory, from: 5).e187().table("failures", of: "operation")?.rows.isEmpty == true)
        let half = try Plant.evidence(directory, to: 4 + 1.0 / 86_400).e187()
        #expect(half.table("failures", of: "operation")?.column("seconds") == [.seconds(1)])
        #expect(half.table("failures", of: "operation")?.column("goes_on") == [.flag(true)])
    }

    @Test func aFailureThatIsThereWhenThePeriodBeginsBelongsToIt() throws {
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store)
        try store.append([AuditEvent(.failureEntered, "x", fields: ["state": "worker_dead", "action": "open", "times": "1"], time: Plant.micro(day: 8))])
        let open = try Plant.evidence(directory, from: 9)
        let rows = try #require(open.e187().table("failures", of: "operation"))
        #expect(rows.column("goes_on") == [.flag(true)] && rows.column("seconds") == [.seconds(86_400)] && rows.column("times") == [.number(1)])
        #expect(rows.column("first_seen") == [.time(UInt64(Plant.micro(day: 9)) * 1000)])
        #expect(standings(try open.zones(), "requirements", of: "iec_62443")["SR 5.2 RE(1)"] == "in_part")
        #expect(open.e187().section("rq-00001")?.notes.contains("compensation") == false)
        // It ends within the period.
        try store.append([AuditEvent(.failureLeft, "x", fields: ["state": "worker_dead", "lasted": "129600000.0 ms"], time: Plant.micro(day: 9.5))])
        let left = try Plant.evidence(directory, from: 9)
        let ended = try #require(left.e187().table("failures", of: "operation"))
        #expect(ended.column("goes_on") == [.flag(false)] && ended.column("seconds") == [.seconds(43_200)] && ended.column("times") == [.number(1)])
        #expect(standings(try left.zones(), "requirements", of: "iec_62443")["SR 5.2 RE(1)"] == "in_part")
    }

    /// What a log that is not whole cannot say.
    @Test(arguments: [AuditType.eventsLost, .logDamaged]) func eventsThatAreMissingLeaveDoubt(_ type: AuditType) throws {
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store)
        try store.append([AuditEvent(type, "x", time: Plant.micro(day: 8))])
        #expect(try Plant.evidence(directory, from: 7).log?.isEnforcedThroughout == false)
        #expect(try Plant.evidence(directory, from: 9).log?.isEnforcedThroughout == true)
    }

    @Test func aHandoverFalsifiesNoTime() throws {
        func start(_ day: Double) -> AuditEvent { AuditEvent(.start, "x", fields: ["mode": "enforce"], time: Plant.micro(day: day)) }
        func stop(_ day: Double) -> AuditEvent { AuditEvent(.stop, "x", fields: ["reason": "made way for another bridge"], time: Plant.micro(day: day)) }
        func read(_ events: [AuditEvent]) throws -> [Double] {
            let directory = StateDirectory()
            let store = try AuditStore(directory: directory.path)
            try store.append(events)
            let log = try #require(try Plant.evidence(directory).log)
            return [log.modes.reduce(0) { $0 + $1.seconds }.rounded(), Double(log.startsWithoutStop)]
        }
        let second = 1.0 / 86_400
        // Either order of stop and start, with hours of silence before.
        #expect(try read([start(0), start(5), stop(5 + second)]) == [864_000, 0])
        #expect(try read([start(0), stop(5), start(5 + second)]) == [864_000, 0])
        // Nobody has taken over.
        #expect(try read([start(0), stop(5)]) == [432_000, 0])
        // One that was killed ran until its last word, also where a handover comes days later.
        #expect(try read([start(0), start(5)]) == [432_000, 1])
        #expect(try read([start(0), start(5), stop(8), start(8 + second)]) == [432_000, 1])
    }

    @Test func refusalsAreCountedBeyondThoseThatAreListed() throws {
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store)
        try store.append((0..<10_001).map { AuditEvent(.accessRefused, "x \($0)", time: Plant.micro(day: 8) + Int64($0)) })
        let document = try Plant.evidence(directory).e187()
        #expect(document.fact("refusals", of: "versions") == .number(10_001))
        let rows = try #require(document.table("refusals", of: "versions"))
        #expect(rows.rows.count == 10_000 && rows.column("what").first == .text("x 0"))
    }

    @Test func thePolicyIsTheOneInUseAtTheEnd() throws {
        let directory = StateDirectory()
        #expect(try Plant.evidence(directory).policy?.version?.number == 2)
        let before = try Plant.evidence(directory, to: 5)
        #expect(before.policy?.version?.number == 1 && before.policy?.document.rules.contains { $0.id == "before" } == true)
        #expect(before.log?.versionsInPeriod.map(\.number) == [1])
        #expect(try Plant.evidence(directory, from: 2, to: 7).log?.versionsInPeriod.map(\.number) == [1, 2])
        #expect(try Plant.evidence(directory, from: 7).log?.versionsInPeriod.map(\.number) == [2])
        // Before anything was applied.
        let none = try ReportEvidence(Plant.request(to: -0.0 + 0.0001), whole: Plant.history(), store: AuditStore(directory: directory.path), alerts: nil)
        #expect(none.policy == nil)
        #expect(throws: StateError.self) { try none.zones() }
    }

    @Test func aPeriodMustHaveALength() throws {
        #expect(throws: StateError.self) { try ReportEvidence(Plant.request(from: 11), whole: Plant.history(), store: nil, alerts: nil) }
        #expect(throws: StateError.self) { try ReportEvidence(Plant.request(from: 3, to: 3), whole: Plant.history(), store: nil, alerts: nil) }
    }

    // MARK: - Zones and coverage

    private func standings(_ document: ReportDocument, _ table: String, of section: String) -> [String: String] {
        guard let table = document.table(table, of: section) else { return [:] }
        return Dictionary(uniqueKeysWithValues: zip(table.column("id"), table.column("standing")).map { id, standing in
            guard case .text(let id) = id, case .words(let words) = standing else { return ("", "") }
            return (id, words.id)
        })
    }

    @Test(arguments: [
        ("", "in_part"), ("on_failure = \"kernel\"\n", "not_evidenced"), ("on_failure = { stopping = \"open\" }\n", "not_evidenced"),
        ("on_failure = { flow_table_full = \"open\" }\n", "not_evidenced"),
    ])
    func failCloseNeedsEveryCauseClosed(_ line: String, _ expected: String) throws {
        let policy = Plant.policy.replacingOccurrences(of: "[devices.mes]", with: line + "[devices.mes]")
        let evidence = try ReportEvidence(Plant.request(policy: policy), whole: Plant.history(), store: nil, alerts: nil)
        #expect(standings(try evidence.zones(), "requirements", of: "iec_62443")["SR 5.2 RE(3)"] == expected)
    }

    /// What earlier policies said, and what hardware does, the policy in use does not tell.
    @Test func failCloseIsShownInPartOfThePolicyInUse() throws {
        let directory = StateDirectory()
        #expect(standings(try Plant.evidence(directory, from: 7).zones(), "requirements", of: "iec_62443")["SR 5.2 RE(3)"] == "in_part")
    }

    @Test func denyByDefaultNeedsEnforceAllTheTime() throws {
        func standing(_ evidence: ReportEvidence) throws -> String? { standings(try evidence.zones(), "requirements", of: "iec_62443")["SR 5.2 RE(1)"] }
        let directory = StateDirectory()
        #expect(try standing(try Plant.evidence(directory)) == "in_part")
        #expect(try standing(try Plant.evidence(directory, from: 2)) == "shown")
        let monitor = Plant.policy.replacingOccurrences(of: "enforce", with: "monitor")
        #expect(try standing(try ReportEvidence(Plant.request(policy: monitor), whole: Plant.history(), store: nil, alerts: nil)) == "not_evidenced")
        let learner = Plant.policy.replacingOccurrences(of: "[devices.scanner-1]", with: "[devices.scanner-1]\nmode = \"learn\"")
        #expect(try standing(try ReportEvidence(Plant.request(policy: learner), whole: Plant.history(), store: nil, alerts: nil)) == "in_part")
    }

    @Test func whatPassesWhileADeviceLearnsIsNotDeclared() throws {
        let learner = Plant.policy.replacingOccurrences(of: "[devices.scanner-1]", with: "[devices.scanner-1]\nmode = \"learn\"")
        let evidence = try ReportEvidence(Plant.request(policy: learner), whole: Plant.history(), store: nil, alerts: nil)
        let document = evidence.e187()
        #expect(document.section("scope")?.notes.contains("some_learn") == true)
        #expect(
            document.table("matrix", of: "matrix")?.column("rule")
                == [.text("host-link"), .words(SectionText.byLearning), .text("visits"), .text("logs")])
        #expect(document.table("not_declared", of: "declared")?.column("decision") == [.words(SectionText.byLearning)])
        #expect(document.fact("allowed", of: "declared") == .number(3) && document.fact("learning", of: "declared") == .number(1))
        #expect(document.fact("unused_rules", of: "declared") == .number(1))
    }

    /// A policy of the period that is no longer in use counts as well.
    @Test func aDeviceThatLearntEarlierInThePeriodCounts() throws {
        let learner = Plant.policy.replacingOccurrences(of: "[devices.scanner-1]", with: "[devices.scanner-1]\nmode = \"learn\"")
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store, policy: learner)
        let text = [UInt8](Plant.policy.utf8), document = PolicyReader.read(text, now: 0).document!
        let applied = AppliedPolicy(document: document, text: text, file: "/etc/sekisho/bay3.toml", signature: nil, key: nil)
        try store.append(
            [PolicyChange.event(applied, version: 3, mode: "enforce", after: nil, who: "tanaka", fields: [:], time: Plant.micro(day: 8))], texts: [text])
        func says(_ from: Double) throws -> [String] {
            let evidence = try Plant.evidence(directory, from: from)
            let notes = try #require(evidence.e187().section("rq-00001")).notes
            let standing = standings(try evidence.zones(), "requirements", of: "iec_62443")["SR 5.2 RE(1)"]
            return [evidence.learnsInPeriod.map { "\($0)" } ?? "unknown", notes.contains("compensation") ? "compensation" : "none", standing ?? ""]
        }
        #expect(try says(7) == ["true", "none", "in_part"])
        #expect(try says(9) == ["false", "compensation", "shown"])
    }

    @Test func preventionHangsOnFacts() throws {
        func prevented(_ policy: String) throws -> [String: String] {
            let evidence = try ReportEvidence(Plant.request(policy: policy), whole: Plant.history(), store: nil, alerts: nil)
            let table = try #require(try evidence.coverage().table("prevention", of: "prevention"))
            #expect(table.rows.count == 83)
            return Dictionary(uniqueKeysWithValues: zip(table.column("id_18_1"), table.column("prevented")).map { id, cell in
                guard case .code(let id) = id, case .words(let words) = cell else { return ("", "") }
                return (id, words.id)
            })
        }
        let enforced = try prevented(Plant.policy)
        #expect(enforced["T0886"] == "blocked" && enforced["T0859"] == "limited" && enforced["T0830"] == "limited" && enforced["T0807"] == "out_of_reach")
        #expect(enforced["T0840"] == "out_of_reach" && enforced["T0814"] == "limited")
        // Forged addresses are dropped for those that are bound; all of them, if all are.
        let bound = try prevented(Plant.policy.replacingOccurrences(of: "[devices.scanner-1]", with: "[devices.scanner-1]\nmac = [\"02:00:00:00:03:0b\"]"))
        #expect(bound["T0830"] == "blocked")
        let monitored = try prevented(Plant.policy.replacingOccurrences(of: "enforce", with: "monitor"))
        #expect(!monitored.values.contains("blocked") && !monitored.values.contains("limited") && monitored["T0886"] == "not_in_mode")
        let unbound = try prevented(Plant.policy.replacingOccurrences(of: "mac = [\"02:00:00:00:03:0a\"]", with: ""))
        #expect(unbound["T0830"] == "not_bound")
        // The rule that lets RDP in is named.
        let table = try #require(
            try ReportEvidence(Plant.request(policy: Plant.policy), whole: nil, store: nil, alerts: nil).coverage().table("prevention", of: "prevention"))
        let place = try #require(table.column("id_18_1").firstIndex(of: .code("T0886")))
        #expect(table.column("left_open_by")[place] == .names(["visits"], most: 2))
        // HSMS is a protocol that controls machines.
        let command = try #require(table.column("id_18_1").firstIndex(of: .code("T0855")))
        #expect(table.column("left_open_by")[command] == .names(["host-link"], most: 2))
    }

    @Test func techniquesAreThoseOfTheAlerts() {
        let known = Dictionary(uniqueKeysWithValues: AttackTechnique.all.map { ($0.id, $0) })
        #expect(known.count == 83)
        for technique in AlertKindTechniques.all {
            let ids = Dictionary(uniqueKeysWithValues: technique.ids.map { ($0.version, $0) })
            let own = known[ids["18.1"]?.id ?? ""]
            #expect(own?.name == ids["18.1"]?.name && own?.isFlowVisible == technique.isFlowVisible)
            // A sub-technique, where version 19 has one.
            #expect(ids["19"]?.id.hasPrefix(own?.laterID ?? "?") == true)
        }
    }

    @Test func theUnionOfTheMitigationsIsMitres() {
        let union = AttackTechnique.all.filter { !Set($0.mitigations).isDisjoint(with: ["M0930", "M0807", "M0937"]) }
        #expect(union.count == 33)
        func count(_ id: String) -> Int { AttackTechnique.all.count { $0.mitigations.contains(id) } }
        #expect(count("M0930") == 28 && count("M0807") == 23 && count("M0937") == 15 && count("M0931") == 7 && count("M0814") == 7)
        #expect(AttackTechnique.all.count(where: \.isFlowVisible) == 25)
        // Which they are, and not only how many: a list that slips to the row beside it has the same number.
        let listed = [
            "M0930": "0800 0802 0805 0806 0816 0819 0822 0830 0838 0839 0842 0843 0845 0848 "
                + "0855 0856 0857 0858 0861 0864 0866 0868 0869 0878 0881 0883 0885 0886",
            "M0807": "0800 0802 0803 0804 0805 0806 0816 0838 0839 0843 0845 0848 0855 0856 0857 0858 0861 0868 0869 0878 0879 0884 0886",
            "M0937": "0800 0806 0816 0839 0843 0845 0848 0855 0856 0857 0859 0861 0868 0884 0886",
            "M0931": "0830 0863 0865 0867 0869 0884 0885",
            "M0814": "0803 0804 0830 0842 0846 0878 0888",
        ]
        for (mitigation, techniques) in listed {
            #expect(AttackTechnique.all.filter { $0.mitigations.contains(mitigation) }.map { String($0.id.dropFirst()) }.joined(separator: " ") == techniques, "\(mitigation)")
        }
    }

    // MARK: - Unused rules

    @Test func rulesFallOutOfUse() throws {
        let directory = StateDirectory()
        let all = try Plant.evidence(directory).unusedRules()
        #expect(all.table("never", of: "never")?.column("rule") == [.text("never")])
        #expect(all.table("never", of: "never")?.column("in_policy_since") == [.time(UInt64(Plant.micro(day: 6)) * 1000)])
        #expect(all.table("never", of: "never")?.column("in_policy_days") == [.number(4)])
        #expect(all.table("no_longer", of: "no_longer")?.rows.isEmpty == true)
        let late = try Plant.evidence(directory, from: 7).unusedRules()
        #expect(late.table("no_longer", of: "no_longer")?.column("rule") == [.text("visits")])
        #expect(late.table("no_longer", of: "no_longer")?.column("idle_days") == [.number(6)])
        #expect(late.table("used", of: "used")?.column("rule") == [.text("host-link"), .text("logs")])
        #expect(late.table("used", of: "used")?.column("allowed_conversations") == [.number(4), .number(1)])
        // A rule with networks has no number.
        #expect(all.table("used", of: "used")?.column("allowed_conversations").contains(.none) == true)
    }

    // MARK: - Forms

    @Test func everyLanguageHasEveryWord() throws {
        let directory = StateDirectory()
        let open = Plant.policy.replacingOccurrences(of: "enforce", with: "monitor").replacingOccurrences(of: "[devices.mes]", with: "on_failure = \"open\"\n[devices.mes]")
        let learner = Plant.policy.replacingOccurrences(of: "[devices.scanner-1]", with: "[devices.scanner-1]\nmode = \"learn\"")
        let bare = "version = 1\nname = \"bare\"\nmode = \"enforce\"\n"
        // A plant that enforces, one that does not, one that learns, and one of which nothing is known.
        let plants = [
            try Plant.evidence(directory), try ReportEvidence(Plant.request(policy: open), whole: Plant.history(), store: nil, alerts: nil),
            try ReportEvidence(Plant.request(policy: learner), whole: Plant.history(), store: nil, alerts: []),
            try ReportEvidence(Plant.request(policy: bare), whole: nil, store: nil, alerts: nil),
        ]
        for document in try plants.flatMap({ try Plant.all($0) }) {
            for section in document.sections {
                let words = [section.title] + section.blocks.flatMap(Self.words)
                for one in words {
                    for language in ReportLanguage.allCases { #expect(!one.text(language).isEmpty, "\(one.id)") }
                    let english = one.text(.english)
                    // What is longer than a name is said in each language.
                    if english.split(separator: " ").count > 3, one.id != "mitre_licence" {
                        for language in [ReportLanguage.japanese, .chinese] {
                            #expect(one.text(language).unicodeScalars.contains { (0x3040...0x9FFF).contains($0.value) }, "\(one.id) in \(language)")
                        }
                        // Kana is not Chinese; simplified letters are not Taiwan's.
                        #expect(!one.text(.chinese).unicodeScalars.contains { (0x3041...0x30FF).contains($0.value) && $0 != "・" }, "\(one.id)")
                        #expect(!one.text(.chinese).contains { "这网络设备规则协议执认证没为时间讯问题报对从".contains($0) }, "\(one.id)")
                    }
                }
                for case .table(let table) in section.blocks {
                    #expect(Set(table.columns.map(\.name.id)).count == table.columns.count, "\(table.id)")
                    #expect(table.rows.allSatisfy { $0.count == table.columns.count }, "\(table.id)")
                }
            }
            #expect(Set(document.sections.map(\.id)).count == document.sections.count)
        }
    }

    private static func words(_ block: ReportDocument.Block) -> [Words] {
        func words(_ cell: ReportDocument.Cell) -> [Words] {
            switch cell {
            case .words(let words): [words]
            case .list(let cells): cells.flatMap(words)
            default: []
            }
        }
        switch block {
        case .paragraph(let one), .note(let one): return [one]
        case .days(let name, _): return [name]
        case .list(let all): return all
        case .facts(let facts): return facts.flatMap { [$0.name] + words($0.value) }
        case .table(let table): return table.columns.map(\.name) + [table.empty] + table.rows.flatMap { $0.flatMap(words) }
        }
    }

    @Test func jsonIsTheSameForEveryone() throws {
        let directory = StateDirectory()
        let document = try Plant.evidence(directory).e187()
        let text = try json(document)
        let data = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(data["schema"] as? String == "sekisho-report" && data["schema_version"] as? Int == 1 && data["report"] as? String == "e187")
        let sections = try #require(data["sections"] as? [[String: Any]])
        let first = try #require(((sections.first { $0["id"] as? String == "requirements" })?["tables"] as? [String: Any])?["requirements"] as? [[String: Any]])
        #expect(first.count == 13 && first.allSatisfy { $0["assessment"] is NSNull })
        #expect(first[2]["standing"] as? String == "in_part" && first[2]["requirement"] as? String == "E187.00-RQ-00003-00")
    }

    @Test func aHostileNameStaysAName() throws {
        // U+0600 and an accent join with what stands beside them: a mark is one all the same.
        let evil = "<script>alert(1)</script>&\"'|`*_[x](http://evil.example/)![i](x)\u{202E}\u{600}<img src=x>\u{600}[x\u{600}](https://e.example/)|\u{301}WWW.e\u{61C}"
        let policy = Plant.policy.replacingOccurrences(of: "scanner-1", with: "evil").replacingOccurrences(of: "[devices.evil]", with: "[devices.\"\(Self.toml(evil))\"]")
            .replacingOccurrences(of: "\"evil\"", with: "\"\(Self.toml(evil))\"").replacingOccurrences(of: "\"SECS/GEM\"", with: "\"\(Self.toml(evil))\"")
        // Who did something, and why, is as free.
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        let bytes = [UInt8](policy.utf8)
        let applied = AppliedPolicy(document: try #require(PolicyReader.read(bytes, now: 0).document), text: bytes, file: evil, signature: nil, key: nil)
        try store.append(
            [
                AuditEvent(.start, "bridge started", who: evil, fields: ["version": "1", "mode": "enforce"], time: Plant.micro(day: 0)),
                PolicyChange.event(applied, version: 1, mode: "enforce", after: nil, who: evil, fields: ["why": evil], time: Plant.micro(day: 0.1)),
                AuditEvent(.quarantine, evil, who: evil, fields: ["why": evil, "addresses": evil], time: Plant.micro(day: 7)),
                AuditEvent(.policyRefused, evil, who: evil, time: Plant.micro(day: 8)),
            ], texts: [bytes])
        let evidence = try ReportEvidence(Plant.request(state: "</style><b>"), whole: Plant.history(), store: store, alerts: nil)
        #expect(evidence.e187().table("versions", of: "versions")?.column("why") == [.text(evil)])
        #expect(evidence.e187().table("orders", of: "quarantines")?.column("who") == [.text(evil)])
        func has(_ text: String, _ marks: String) throws -> Bool { try text.firstMatch(of: Regex(marks).matchingSemantics(.unicodeScalar)) != nil }
        for document in try Plant.all(evidence) {
            let html = ReportWriting().html(document)
            #expect(try !has(html, #"<script|<img|</style><b>|[\u202E\u061C]"#))
            #expect(html.components(separatedBy: "</style>").count == 2)
            let markdown = ReportWriting().markdown(document)
            #expect(try !has(markdown, #"[^\\](<script|<img|\[x|\]\(|://|`|!\[)"#))
            #expect(try !has(markdown, #"WWW\.|[\u202E\u061C]"#))
            #expect(try !has(ReportWriting().terminal(document), #"[\u202E\u061C]"#))
            // As many cells in every row of a table.
            var cells: Set<Int> = []
            for line in markdown.split(separator: "\n", omittingEmptySubsequences: false) {
                if line.unicodeScalars.first == "|" {
                    let scalars = Array(line.unicodeScalars)
                    cells.insert(scalars.indices.count { scalars[$0] == "|" && ($0 == 0 || scalars[$0 - 1] != "\\") })
                } else {
                    #expect(cells.count <= 1, "\(document.kind)")
                    cells = []
                }
            }
        }
        let html = ReportWriting().html(evidence.e187())
        #expect(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;|"))
        #expect(ReportWriting().markdown(evidence.e187()).contains("\\<script\\>alert(1)\\</script\\>\\&\"'\\|\\`\\*\\_\\[x\\]"))
    }

    private static func toml(_ text: String) -> String {
        text.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"")
    }

    @Test(arguments: ReportLanguage.allCases) func tablesLineUp(_ language: ReportLanguage) throws {
        let directory = StateDirectory()
        for document in try Plant.all(try Plant.evidence(directory)) {
            var widths: Set<Int> = []
            for line in ReportWriting(language: language).markdown(document).split(separator: "\n", omittingEmptySubsequences: false) {
                if line.hasPrefix("|") { widths.insert(DisplayWidth.of(String(line))) } else {
                    #expect(widths.count <= 1, "\(document.kind)")
                    widths = []
                }
            }
            let terminal = ReportWriting(language: language).terminal(document)
            #expect(terminal.split(separator: "\n").allSatisfy { DisplayWidth.of(String($0)) <= 160 })
        }
    }

    @Test func manyRowsAreCutButInJSON() throws {
        let more = (0..<3000).map { Plant.conversation(100 + Int64($0), Plant.mes, AddressWords(high: 0, low: 0x0A04_0000 + UInt64($0)), .tcp, 5000, days: 0...0) }
        let evidence = try ReportEvidence(Plant.request(policy: Plant.policy), whole: Plant.history(more), store: nil, alerts: nil)
        let document = evidence.e187()
        #expect(document.table("matrix", of: "matrix")?.rows.count == 3004)
        let html = ReportWriting(mostRows: 50).html(document)
        #expect(html.contains("2,954 more rows") && !html.contains("10.4.3.0"))
        #expect(try json(document).contains("10.4.11.183"))
    }

    @Test func textIsBrokenWhereItMayBe() {
        #expect(DisplayWidth.of("許可リスト") == 10 && DisplayWidth.of("e\u{301}") == 1)
        #expect(DisplayWidth.wrapped("one two three", 7) == ["one two", "three"])
        #expect(DisplayWidth.wrapped("abcdefghij", 4) == ["abcd", "efgh", "ij"])
        #expect(DisplayWidth.wrapped("ab cdefghij k", 4) == ["ab", "cdef", "ghij", "k"] && DisplayWidth.wrapped("許可", 1) == ["許", "可"])
        // A word as long as a file is done in the time that a file takes.
        #expect(DisplayWidth.wrapped(String(repeating: "x", count: 1_000_000), 10).count == 100_000)
        #expect(DisplayWidth.wrapped("許" + String(repeating: "。", count: 100_000), 10).joined().unicodeScalars.count == 100_001)
        // No line begins with what closes.
        for width in 4...20 {
            let lines = DisplayWidth.wrapped("通信は記録されていません。ポリシーを、指定してください。", width)
            #expect(lines.joined() == "通信は記録されていません。ポリシーを、指定してください。")
            #expect(lines.allSatisfy { !"。、".contains($0.first ?? " ") && DisplayWidth.of($0) <= width })
        }
        #expect(DisplayWidth.wrapped("", 5) == [""])
    }

    @Test func noNumberOrTimeIsTooLarge() throws {
        let policy = Plant.policy.replacingOccurrences(of: "id = \"visits\"", with: "id = \"visits\"\nexpires = 9999-12-31T23:59:59Z")
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store, policy: policy)
        try store.append([
            AuditEvent(.failureLeft, "x", fields: ["state": "worker_dead", "lasted": "nan ms", "times": "18446744073709551615"], time: Plant.micro(day: 8)),
            AuditEvent(.failureLeft, "x", fields: ["state": "worker_dead", "lasted": "inf ms", "times": "18446744073709551615"], time: Plant.micro(day: 8)),
            AuditEvent(.failureEntered, "x", fields: ["lasted": "-1e999 ms"], time: Plant.micro(day: 9)),
            AuditEvent(.stop, "x", time: .max), AuditEvent(.stop, "x", time: .min), AuditEvent(.start, "x", fields: ["mode": "…"], time: -1),
        ])
        var history = Plant.history([Plant.conversation(9, Plant.mes, Plant.tool, .tcp, 9999, days: 0...0)])
        history.conversations[0].days[0].day = .min
        history.conversations[0].days[1].day = .max
        for index in 0..<2 {
            history.conversations[4].days = [history.conversations[4].days[0], history.conversations[4].days[0]]
            history.conversations[4].days[index].first = .max
            history.conversations[4].days[index].last = .max
            history.conversations[4].days[index].framesOut = .max
            history.conversations[4].days[index].denied = .max
        }
        let evidence = try ReportEvidence(Plant.request(), whole: history, store: store, alerts: [])
        for document in try Plant.all(evidence) {
            for rows in [1, Int.max] {
                let writing = ReportWriting(mostRows: rows)
                for text in [writing.terminal(document), writing.markdown(document), writing.html(document)] { #expect(text.contains("bay3")) }
            }
            #expect(try json(document).contains("sekisho-report"))
        }
        #expect(try evidence.zones().table("conduits", of: "conduits")?.column("expires").contains(.text("9999-12-31T23:59:59Z")) == true)
    }

    @Test func aWireThatWasOpenDidNotDenyByDefault() throws {
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        try Plant.writeLog(to: store)
        try store.append([AuditEvent(.failureEntered, "x", fields: ["state": "worker_dead", "action": "open", "times": "1"], time: Plant.micro(day: 9))])
        #expect(standings(try Plant.evidence(directory, from: 2).zones(), "requirements", of: "iec_62443")["SR 5.2 RE(1)"] == "in_part")
    }

    /// What the whole of a small report looks like: to be looked at when it changes.
    @Test func aSmallReportIsAsItWas() throws {
        let evidence = try ReportEvidence(Plant.request(policy: Plant.policy), whole: Plant.history(), store: nil, alerts: nil)
        let text = ReportWriting().terminal(try evidence.unusedRules())
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "unused.txt")
        if ProcessInfo.processInfo.environment["SEKISHO_WRITE_GOLDEN"] != nil { try Data(text.utf8).write(to: file) }
        #expect(try String(contentsOf: file, encoding: .utf8) == text)
    }
}
