// What zones, techniques and rules are said to be, where that hangs on facts that are easily missed.

import Evidence
import Foundation
import Policy
import Testing

@testable import Report

@Suite struct StandingTests {
    private func words(_ table: ReportDocument.Table?, _ key: String, _ column: String) throws -> [String: String] {
        let table = try #require(table)
        return Dictionary(uniqueKeysWithValues: zip(table.column(key), table.column(column)).map { key, cell in
            let name = switch key {
            case .code(let text), .text(let text): text
            default: ""
            }
            guard case .words(let words) = cell else { return (name, "") }
            return (name, words.id)
        })
    }

    private func given(_ policy: String, whole: Bool = true) throws -> ReportEvidence {
        try ReportEvidence(Plant.request(policy: policy), whole: whole ? Plant.history() : nil, store: nil, alerts: nil)
    }

    // MARK: - Techniques

    @Test func everyTechniqueIsCountedOnce() throws {
        let monitor = Plant.policy.replacingOccurrences(of: "enforce", with: "monitor")
        for policy in [Plant.policy, monitor] {
            let document = try given(policy).coverage()
            let counts = try ["blocked", "limited", "not_bound", "not_in_mode", "out_of_reach"].map { id -> UInt64 in
                guard case .number(let count) = try #require(document.fact(id, of: "summary")) else { return 0 }
                return count
            }
            #expect(counts.reduce(0, +) == 83, "\(counts)")
        }
        // A bridge that only watches and keeps nothing does nothing about any of them.
        #expect(try given(monitor).coverage().fact("neither", of: "summary") == .number(83))
        let enforced = try given(Plant.policy).coverage()
        #expect(enforced.fact("neither", of: "summary") == enforced.fact("out_of_reach", of: "summary"))
    }

    @Test func rulesBeyondThePlantLeaveTheWayOutOpen() throws {
        func open(_ end: String, _ more: String = "") throws -> ReportDocument.Cell {
            let policy = Plant.policy.replacingOccurrences(of: "from = \"any\"", with: "from = \"mes\"")
                + "[[allow]]\nid = \"out\"\nfrom = \"\(end)\"\nto = \"scanner-1\"\nservice = \"tcp/443\"\n\(more)"
            let table = try #require(try given(policy).coverage().table("prevention", of: "prevention"))
            return table.column("left_open_by")[try #require(table.column("id_18_1").firstIndex(of: .code("T0883")))]
        }
        for end in ["any", "203.0.113.7", "0.0.0.0/1", "10.0.0.0/7"] { #expect(try open(end) == .names(["out"], most: 2), "\(end)") }
        for end in ["10.9.0.0/16", "172.31.0.1", "192.168.4.0/24", "169.254.1.1"] { #expect(try open(end) == .none, "\(end)") }
        // One that has expired opens nothing.
        #expect(try open("203.0.113.7", "expires = 2023-11-25T00:00:00Z\n") == .none)
    }

    // MARK: - Zones

    @Test func whatNothingShowsIsNotShown() throws {
        let bare = try words(try given(Plant.policy, whole: false).zones().table("requirements", of: "iec_62443"), "id", "standing")
        #expect(bare["SR 7.6 RE(1)"] == "not_evidenced" && bare["SR 5.2"] == "not_evidenced" && bare["SR 6.1"] == "not_evidenced")
        let tenets = try words(try given(Plant.policy, whole: false).zones().table("tenets", of: "nist_800_207"), "id", "standing")
        #expect(tenets["1"] == "not_evidenced" && tenets["7"] == "not_evidenced")
    }

    @Test func theBoundaryNeedsEnforceAllTheTime() throws {
        let directory = StateDirectory()
        func rows(from: Double? = nil) throws -> [String: String] {
            try words(try Plant.evidence(directory, from: from).zones().table("requirements", of: "iec_62443"), "id", "standing")
        }
        #expect(try rows()["SR 5.2"] == "in_part" && rows()["SR 7.6 RE(1)"] == "shown")
        #expect(try rows(from: 2)["SR 5.2"] == "shown")
        let tenets = try words(try Plant.evidence(directory, from: 2).zones().table("tenets", of: "nist_800_207"), "id", "standing")
        #expect(tenets["1"] == "in_part" && tenets["7"] == "in_part" && !tenets.values.contains("shown"))
    }

    @Test func anExpiredRuleIsNoConduit() throws {
        let policy = Plant.policy.replacingOccurrences(of: "id = \"never\"", with: "id = \"never\"\nexpires = 2023-11-25T00:00:00Z")
        let table = try #require(try given(policy).zones().table("conduits", of: "conduits"))
        #expect(table.column("conduit") == [.text("host-link"), .text("visits"), .text("logs")])
    }

    // MARK: - Rules

    @Test func withoutAHistoryNobodyKnowsOfUse() throws {
        let document = try given(Plant.policy, whole: false).unusedRules()
        for id in ["never_used", "no_longer_used", "used"] { #expect(document.fact(id, of: "scope") == ReportDocument.Cell.none, "\(id)") }
        #expect(document.fact("rules", of: "scope") == .number(4))
    }

    /// Of what was before a text that is gone nothing is known.
    @Test func sinceEndsWhereTheTextsEnd() throws {
        let directory = StateDirectory()
        let store = try AuditStore(directory: directory.path)
        func apply(_ text: String, version: UInt64, day: Double, keeps: Bool = true) throws {
            let bytes = [UInt8](text.utf8)
            let applied = AppliedPolicy(document: try #require(PolicyReader.read(bytes, now: 0).document), text: bytes, file: "p", signature: nil, key: nil)
            try store.append(
                [PolicyChange.event(applied, version: version, mode: "enforce", after: nil, who: "root", fields: [:], time: Plant.micro(day: day))],
                texts: keeps ? [bytes] : [])
        }
        let old = Plant.policy.replacingOccurrences(of: "id = \"never\"", with: "id = \"before\"")
        try apply(old + "# lost\n", version: 1, day: 1, keeps: false)
        try apply(old, version: 2, day: 2)
        try apply(Plant.policy, version: 3, day: 6)
        let document = try ReportEvidence(Plant.request(), whole: Plant.history(), store: store, alerts: []).unusedRules()
        // It came with version 3; the others may be older than version 2.
        #expect(document.table("never", of: "never")?.column("in_policy_since") == [.time(UInt64(Plant.micro(day: 6)) * 1000)])
        #expect(document.table("used", of: "used")?.column("in_policy_since") == [.none, .none, .none])
    }
}
