import Allowlist
import Foundation
import Frames
import TestSupport
import Testing

@testable import Baseline

/// A directory that goes away with the test.
final class StateDirectory {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "/sekisho-history-\(UInt64.random(in: 0 ... .max))"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var file: String { path + "/history.sqlite" }
}

@Suite struct HistoryTests {
    @Test func whatIsWrittenIsRead() throws {
        let directory = StateDirectory()
        var talk = Talk()
        talk.session(Talk.mes, 40000, Talk.tool, 5000, requests: 20)
        talk.session(Talk.mes, 40001, Talk.laptop, 502)
        talk.learner.finish()
        let store = try HistoryStore(directory: directory.path)
        let source = try store.addSource(kind: "capture", name: "test")
        try store.write(talk.learner, source: source)
        // Again, by another learner, as after a restart.
        var more = Talk()
        more.time = talk.time + 100_000
        more.session(Talk.mes, 40009, Talk.tool, 5000, requests: 3)
        more.learner.finish()
        try HistoryStore(directory: directory.path).write(more.learner, source: source)
        let history = try HistoryStore(directory: directory.path, mayMake: false).read()
        #expect(history.conversations.map(\.key) == [Talk.key(Talk.mes, Talk.tool, 5000), Talk.key(Talk.mes, Talk.laptop, 502)])
        let one = history.conversations[0]
        #expect(one.connections == 2 && one.answered == 2 && one.days.count == 2 && one.orientation == .seen)
        #expect(one.frames == 2 * 20 + 5 + 2 * 3 + 5)
        #expect(history.addresses.count == 3)
    }

    @Test func aDamagedFileStaysAsItIs() throws {
        let directory = StateDirectory()
        for damage in [Data("not a database at all, but long enough to be looked at as one".utf8), Data(count: 5000)] {
            try damage.write(to: URL(fileURLWithPath: directory.file))
            #expect(throws: HistoryError.self) { try HistoryStore(directory: directory.path) }
            #expect(try Data(contentsOf: URL(fileURLWithPath: directory.file)) == damage)
        }
    }

    @Test func aLaterVersionStaysAsItIs() throws {
        let directory = StateDirectory()
        _ = try HistoryStore(directory: directory.path).addSource(kind: "capture", name: "x")
        do {
            let store = try HistoryStore(directory: directory.path)
            try store.writing { try $0.execute(sql: "PRAGMA user_version = 99") }
        }
        let error = #expect(throws: HistoryError.self) { try HistoryStore(directory: directory.path) }
        #expect(error?.description.contains("version 99") == true)
    }

    @Test func aMissingHistoryIsNotMadeByAsking() {
        let directory = StateDirectory()
        #expect(throws: HistoryError.self) { try HistoryStore(directory: directory.path, mayMake: false) }
        #expect(!FileManager.default.fileExists(atPath: directory.file))
    }

    @Test func whatIsForgottenIsLeftOutAndComesBack() throws {
        let directory = StateDirectory()
        var talk = Talk()
        talk.session(Talk.mes, 40000, Talk.tool, 5000)
        talk.time += 7200
        talk.session(Talk.laptop, 40000, Talk.tool, 3389)
        let start = UInt64(talk.time * 1e9) - 7_200_000_000_000
        talk.learner.finish()
        let store = try HistoryStore(directory: directory.path)
        try store.write(talk.learner, source: try store.addSource(kind: "capture", name: "x"))
        let id = try store.add(Decision(at: 1, who: "w", why: "y", verdict: .forget, first: start + 3_600_000_000_000))
        #expect(try store.read().forgetting().conversations.map(\.key) == [Talk.key(Talk.mes, Talk.tool, 5000)])
        #expect(try store.undo(id, at: 2))
        #expect(try store.read().forgetting().conversations.count == 2)
        try store.add(
            Decision(at: 1, who: "w", why: "y", verdict: .forget, either: AddressPrefix(family: .ipv4, words: Talk.address(Talk.laptop), length: 32)))
        #expect(try store.read().forgetting().conversations.map(\.key) == [Talk.key(Talk.mes, Talk.tool, 5000)])
    }
}

// MARK: - Completeness and proposals, of histories made up

/// A conversation seen on these days, so often.
func recorded(_ key: ConversationKey, days: [Int], connections: UInt32 = 10, answered: UInt32? = nil, row: Int64 = 0) -> RecordedConversation {
    RecordedConversation(
        row: row, key: key, orientation: .seen, intervals: Intervals(),
        days: days.map { day in
            let start = UInt64(19_681 + day) * 86_400_000_000_000
            return ConversationDay(
                day: Int32(19_681 + day), hours: 0xFF_FFFF, first: start, last: start + 80_000_000_000_000, connections: connections,
                answered: answered ?? connections, refused: 0, framesOut: 10, framesIn: 10, bytesOut: 1000, bytesIn: 1000, denied: 0)
        })
}

func history(_ conversations: [RecordedConversation], days: Int) -> History {
    History(
        conversations: conversations, addresses: [], sources: [], etherTypes: [], decisions: [], periods: [],
        hours: (0..<Int64(days) * 24).map { 19_681 * 24 + $0 })
}

@Suite struct CompletenessTests {
    private func key(_ i: Int) -> ConversationKey { Talk.key(Talk.mes, [10, 3, UInt8(i / 250), UInt8(1 + i % 250)], 5000) }

    @Test func theEstimatesAreTheFormulae() {
        // 10 conversations every day, 4 on one day, 2 on two days; 10 days.
        var all = (0..<10).map { recorded(key($0), days: Array(0..<10)) }
        all += (0..<4).map { recorded(key(100 + $0), days: [2 * $0], connections: 5) }
        all += (0..<2).map { recorded(key(200 + $0), days: [$0, 9 - $0], connections: 5) }
        let one = Completeness(all, Completeness.ObservedTime(history(all, days: 10).hours, zone: TimeZone(secondsFromGMT: 0)!))
        #expect(one.block == .day && one.blocks == 10 && one.conversations == 16)
        #expect(abs(one.unseenShare - 20.0 / (1000 + 20 + 20)) < 1e-12)
        #expect(one.unseenBound > one.unseenShare && one.unseenBound < 0.1)
        // Chao2: 9/10 · 4 · 3 / (2 · 3).
        #expect(abs(one.expected - 1.8) < 1e-12)
        #expect(one.expectedBound! > one.expected)
    }

    @Test func aQuietNetworkIsCompleteAfterAWeekAndAChattyOneIsNot() {
        let quiet = (0..<20).map { recorded(key($0), days: Array(0..<10)) }
        let calm = Completeness(quiet, Completeness.ObservedTime(history(quiet, days: 10).hours, zone: TimeZone(secondsFromGMT: 0)!))
        #expect(calm.isComplete(), "\(calm.missing())")
        let short = Completeness(quiet.map { recorded($0.key, days: [0, 1, 2]) }, Completeness.ObservedTime(history(quiet, days: 3).hours))
        #expect(!short.isComplete())
        let chatty = quiet + (0..<200).map { recorded(key(300 + $0), days: [$0 % 10], connections: 1) }
        let loud = Completeness(chatty, Completeness.ObservedTime(history(chatty, days: 10).hours))
        #expect(!loud.isComplete() && loud.unseenBound > 0.05)
    }

    @Test func nothingSeenIsNothingKnown() {
        let none = Completeness([], Completeness.ObservedTime([]))
        #expect(!none.isComplete() && none.unseenBound == 1)
    }
}

@Suite struct ProposalTests {
    /// Whatever was seen: the rules allow that and nothing else.
    @Test(arguments: 0..<30) func rulesAreExactlyWhatWasSeen(seed: Int) {
        var random = SplitMix(UInt64(seed))
        var keys: Set<ConversationKey> = []
        for _ in 0..<Int.random(in: 1...120, using: &random) {
            keys.insert(
                ConversationKey(
                    client: AddressWords(high: 0, low: UInt64.random(in: 0x0A03_0001...0x0A03_0006, using: &random)),
                    server: AddressWords(high: 0, low: UInt64.random(in: 0x0A03_0101...0x0A03_0106, using: &random)),
                    service: Port(rawValue: UInt16.random(in: 8000...8004, using: &random)), vlan: .untagged,
                    ipProtocol: Bool.random(using: &random) ? .tcp : .udp, family: .ipv4))
        }
        let all = keys.map { recorded($0, days: Array(0..<10)) }
        let history = history(all, days: 10)
        let proposal = Proposal(history, Review(history))
        var allowed: [ConversationKey: Int] = [:]
        for rule in proposal.rules {
            for client in rule.clients {
                for server in rule.servers {
                    for service in rule.services {
                        for port in service.low.rawValue...service.high.rawValue {
                            allowed[
                                ConversationKey(
                                    client: client, server: server, service: Port(rawValue: port), vlan: rule.vlan, ipProtocol: service.ipProtocol,
                                    family: rule.family), default: 0] += 1
                        }
                    }
                }
            }
        }
        #expect(Set(allowed.keys) == keys)
        // Nor twice.
        #expect(allowed.values.allSatisfy { $0 == 1 })
        #expect(proposal.rules.count <= keys.count)
    }

    @Test func equalToolsShareARule() {
        let tools = (1...40).map { [10, 3, 1, UInt8($0)] as [UInt8] }
        let all = tools.flatMap { tool in [5000, 5001, 80].map { recorded(Talk.key(Talk.mes, tool, $0), days: Array(0..<10)) } }
        let history = history(all, days: 10)
        let proposal = Proposal(history, Review(history))
        #expect(proposal.rules.count == 1)
        #expect(proposal.rules[0].services.count == 2)  // 80, 5000–5001
    }

    @Test func aBudgetBuysFewerRulesAndSaysWhatItGave() {
        // All tools are asked by the host; an engineer has been at nine of ten, once each and on different days.
        let tools = (1...10).map { [10, 3, 1, UInt8($0)] as [UInt8] }
        var all = tools.flatMap { tool in [5000, 80].map { recorded(Talk.key(Talk.mes, tool, $0), days: Array(0..<10)) } }
        all += tools.dropLast().enumerated().map { recorded(Talk.key(Talk.laptop, $0.element, 7777), days: [$0.offset % 7]) }
        var history = history(all, days: 10)
        history.decisions = [Decision(at: 2_000_000_000, who: "a", why: "b", verdict: .approve)]
        func engineer(_ proposal: Proposal) -> [ProposedRule] { proposal.rules.filter { $0.clients == [Talk.address(Talk.laptop)] } }
        #expect(engineer(Proposal(history, Review(history))).map(\.servers.count) == [9])
        let bought = engineer(Proposal(history, Review(history), budget: 1))
        #expect(bought.map(\.servers.count) == [10] && bought[0].unobserved == 1)
    }

    @Test func whatIsSuspectWaits() {
        var all = (1...20).map { recorded(Talk.key(Talk.mes, [10, 3, 1, UInt8($0)], 5000), days: Array(0..<10)) }
        // A worm: most do not answer, some do.
        all += (1...60).map { recorded(Talk.key(Talk.laptop, [10, 3, 2, UInt8($0)], 8081), days: [5], connections: 1, answered: $0 % 9 == 0 ? 1 : 0) }
        all.append(recorded(Talk.key(Talk.mes, Talk.tool, 3389), days: Array(0..<10)))
        all.append(recorded(Talk.key(Talk.mes, [10, 3, 3, 3], 9999), days: [9]))
        let history = history(all, days: 10)
        let review = Review(history)
        let proposal = Proposal(history, review)
        #expect(review.scanners.keys.contains(Talk.address(Talk.laptop)))
        #expect(proposal.rules.count == 1)
        #expect(proposal.waiting.count == 62)
        let marked = Proposal(history, review, includesReview: true)
        #expect(marked.rules.count > 1 && marked.rules.dropFirst().allSatisfy { !$0.reasons.isEmpty })
    }

    @Test func whoStandsInMayDoTheSameButNothingThatWasRejected() {
        let tools = (1...4).map { [10, 3, 1, UInt8($0)] as [UInt8] }, standby: [UInt8] = [10, 3, 0, 11]
        var made = history(tools.map { recorded(Talk.key(Talk.mes, $0, 5000), days: Array(0..<10)) }, days: 10)
        func alike(_ members: [[UInt8]], _ service: ServiceRange? = nil) -> Decision {
            Decision(
                at: 1, who: "a", why: "b", verdict: .alike, service: service,
                members: members.map { AddressPrefix(family: .ipv4, words: Talk.address($0), length: 32) })
        }
        made.decisions = [alike([Talk.mes, standby], ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5000)))]
        var rules = Proposal(made, Review(made)).rules
        #expect(rules.count == 1 && rules[0].clients == [Talk.mes, standby].map(Talk.address) && rules[0].servers.count == 4 && rules[0].unobserved == 4)
        // Not for another service.
        made.decisions = [alike([Talk.mes, standby], ServiceRange(.tcp, Port(rawValue: 80), Port(rawValue: 80)))]
        #expect(Proposal(made, Review(made)).rules.map(\.clients) == [[Talk.address(Talk.mes)]])
        // Who stands in for somebody who stands in for a third; on both sides; a network is those of it that were seen.
        made.decisions = [alike([Talk.mes, standby]), alike([standby, Talk.laptop])]
        made.decisions.append(
            Decision(at: 1, who: "a", why: "b", verdict: .alike, members: [AddressPrefix(family: .ipv4, words: Talk.address([10, 3, 1, 0]), length: 24)]))
        rules = Proposal(made, Review(made)).rules
        #expect(rules.count == 1 && rules[0].clients.count == 3 && rules[0].servers.count == 4 && rules[0].unobserved == 8)
        // A refusal stands above it.
        made.decisions.append(
            Decision(
                at: 2, who: "a", why: "b", verdict: .reject, clients: AddressPrefix(family: .ipv4, words: Talk.address(standby), length: 32),
                servers: AddressPrefix(family: .ipv4, words: Talk.address(tools[0]), length: 32)))
        rules = Proposal(made, Review(made)).rules
        let pairs = rules.flatMap { rule in rule.clients.flatMap { client in rule.servers.map { AddressPair(client, $0) } } }
        #expect(pairs.count == 11 && !pairs.contains(AddressPair(Talk.address(standby), Talk.address(tools[0]))))
        #expect(rules.reduce(0) { $0 + $1.unobserved } == 7)
    }

    @Test func ofManyDecisionsTheLastAboutAConversationCounts() {
        let key = Talk.key(Talk.mes, Talk.tool, 5000)
        func host(_ address: [UInt8]) -> AddressPrefix { AddressPrefix(family: .ipv4, words: Talk.address(address), length: 32) }
        var made = history([recorded(key, days: Array(0..<10))], days: 10)
        #expect(LastWords(made).about(key) == nil)
        // About the two, about one of them, about the two again.
        made.decisions = [
            Decision(at: 1, who: "a", why: "", verdict: .approve, clients: host(Talk.mes), servers: host(Talk.tool)),
            Decision(at: 2, who: "b", why: "", verdict: .reject, servers: host(Talk.tool)),
        ]
        #expect(LastWords(made).about(key)?.who == "b")
        made.decisions.append(Decision(at: 3, who: "c", why: "", verdict: .approve, clients: host(Talk.mes), servers: host(Talk.tool)))
        #expect(LastWords(made).about(key)?.who == "c")
        #expect(LastWords(made).about(key) { $0.at < 3 }?.who == "b")
        #expect(LastWords(made).about(Talk.key(Talk.laptop, Talk.tool, 5000))?.who == "b")
        #expect(LastWords(made).about(Talk.key(Talk.mes, Talk.laptop, 5000)) == nil)
    }

    @Test func whatCameOftenAndComesNoMoreIsSilent() {
        let made = history(
            [
                recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: Array(0..<60)), recorded(Talk.key(Talk.mes, Talk.tool, 80), days: Array(0..<10)),
                recorded(Talk.key(Talk.mes, Talk.tool, 81), days: [0, 20, 40]),
            ], days: 60)
        #expect(made.conversations.map { $0.isSilent(in: made) } == [false, true, false])
    }

    @Test func manyPortsBetweenTwoAreARangeForAPerson() {
        let all = (0..<20).map { recorded(Talk.key(Talk.mes, Talk.tool, UInt16(49_200 + 7 * $0)), days: [$0 % 10, ($0 + 1) % 10].sorted(), connections: 1) }
        let history = history(all, days: 10)
        let review = Review(history)
        #expect(Proposal(history, review).rules.isEmpty)
        let rules = Proposal(history, review, includesReview: true).rules
        #expect(rules.count == 1 && rules[0].services.map(\.written) == ["tcp/49200-49333"] && rules[0].unobserved == 134 - 20)
        #expect(rules[0].reasons.contains(.portRange))
    }

    @Test func aRejectedPortIsInNoRange() {
        let all = (0..<12).map { recorded(Talk.key(Talk.mes, Talk.tool, UInt16(9000 + $0)), days: [$0 % 10], connections: 1) }
        var made = history(all, days: 10)
        let one = ServiceRange(.tcp, Port(rawValue: 9005), Port(rawValue: 9005))
        made.decisions = [Decision(at: 2, who: "a", why: "b", verdict: .reject, service: one)]
        let rules = Proposal(made, Review(made), includesReview: true).rules
        #expect(rules.map { $0.services.map(\.written) } == [["tcp/9000-9004", "tcp/9006-9011"]] && rules[0].unobserved == 0)
    }

    /// What waits is given by no word about others, and by no budget.
    @Test func whatWaitsIsGivenByNobodyElse() {
        let tools = (1...10).map { [10, 3, 1, UInt8($0)] as [UInt8] }
        var all = tools.flatMap { tool in [5000, 80].map { recorded(Talk.key(Talk.mes, tool, $0), days: Array(0..<10)) } }
        all += tools.dropLast().enumerated().map { recorded(Talk.key(Talk.laptop, $0.element, 7777), days: [$0.offset % 7, 8]) }
        // The tenth never answered.
        all.append(recorded(Talk.key(Talk.laptop, tools[9], 7777), days: [0, 3, 6], answered: 0))
        var made = history(all, days: 10)
        func servers(_ proposal: Proposal) -> Set<AddressWords> {
            Set(proposal.rules.filter { $0.services.contains { $0.contains(.tcp, Port(rawValue: 7777)) } }.flatMap(\.servers))
        }
        #expect(servers(Proposal(made, Review(made), budget: 50)).count == 9)
        made.decisions = [
            Decision(at: 1, who: "a", why: "b", verdict: .alike, members: tools.map { AddressPrefix(family: .ipv4, words: Talk.address($0), length: 32) })]
        let alike = Proposal(made, Review(made))
        #expect(servers(alike).count == 9 && !servers(alike).contains(Talk.address(tools[9])) && alike.waiting.count == 1)
    }

    @Test func aPartIsJudgedByTheWhole() {
        var all = (1...60).map { recorded(Talk.key(Talk.laptop, [10, 3, 2, UInt8($0)], 8081), days: [1], connections: 1, answered: 0, row: Int64($0)) }
        all.append(recorded(Talk.key(Talk.laptop, Talk.tool, 8888), days: Array(2..<10), row: 99))
        let whole = history(all, days: 10)
        let part = whole.during([UInt64(19_686) * 86_400_000_000_000..<UInt64.max])
        #expect(part.conversations.map(\.row) == [99])
        #expect(Review(part).reasons == [[]] && Review(part, within: whole).reasons == [[.scanner]])
        // An approval of what was seen before the part began is one of it.
        #expect(part.conversations[0].isSeen(by: 19_684 * 86_400) && !part.conversations[0].isSeen(by: 19_682 * 86_400))
    }

    @Test func aScanBesideASessionIsNoneOfItsData() {
        var all = [recorded(Talk.key(Talk.mes, Talk.tool, 21), days: Array(0..<10))]
        all += (0..<30).map { recorded(Talk.key(Talk.mes, Talk.tool, UInt16(50_000 + $0)), days: [1 + $0 % 9], connections: 1, answered: 0) }
        let made = history(all, days: 10)
        let proposal = Proposal(made, Review(made))
        #expect(proposal.rules.allSatisfy { !$0.hasFTPData } && proposal.waiting.count == 30)
    }

    @Test func dataConnectionsOfFTPComeWithTheirSession() {
        var all = [recorded(Talk.key(Talk.mes, Talk.tool, 21), days: Array(0..<10))]
        all += (0..<30).map { recorded(Talk.key(Talk.mes, Talk.tool, UInt16(50_000 + $0)), days: [$0 % 10], connections: 1) }
        // Not hidden behind them: a known service, and one that others use.
        all.append(recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: [0], connections: 1))
        all.append(recorded(Talk.key(Talk.mes, Talk.tool, 3389), days: [0], connections: 1))
        let history = history(all, days: 10)
        let proposal = Proposal(history, Review(history))
        #expect(proposal.rules.count == 1 && proposal.rules[0].hasFTPData)
        #expect(Set(proposal.waiting.map { history.conversations[$0.conversation].key.service.rawValue }) == [5000, 3389])
    }

    @Test func portsThatComeAgainWithManySessionsAreDataToo() {
        var all = [recorded(Talk.key(Talk.mes, Talk.tool, 21), days: Array(0..<14), connections: 280)]
        all += (0..<30).map { recorded(Talk.key(Talk.mes, Talk.tool, UInt16(50_000 + $0)), days: [1, 4, 9], connections: 3) }
        // One port for half of the sessions is a service of its own.
        all.append(recorded(Talk.key(Talk.mes, Talk.tool, 61_000), days: Array(0..<14), connections: 140))
        let history = history(all, days: 14)
        let review = Review(history)
        #expect((1...30).allSatisfy { review.isFileTransfer($0) } && !review.isFileTransfer(31))
    }

    @Test func anAddressIsBoundToWhoHadItFirst() {
        func used(_ mac: UInt64, _ first: UInt64, _ last: UInt64) -> RecordedAddress {
            RecordedAddress(
                address: LearntAddress(address: Talk.address(Talk.mes), family: .ipv4, vlan: .untagged, mac: MACAddress(rawValue: mac), side: nil), first: first,
                last: last)
        }
        func bound(_ uses: [RecordedAddress]) -> UInt64? {
            var made = history([recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: Array(0..<10))], days: 10)
            made.addresses = uses
            made.decisions = [Decision(at: 2_000_000_000, who: "a", why: "b", verdict: .approve)]
            return Proposal(made, Review(made)).devices.first { $0.address == Talk.address(Talk.mes) }?.mac?.rawValue
        }
        #expect(bound([used(1, 10, 90)]) == 1)
        // Impersonated; and replaced.
        #expect(bound([used(2, 50, 60), used(1, 10, 90)]) == 1)
        #expect(bound([used(1, 10, 40), used(2, 50, 90)]) == 2)
    }

    @Test func theLastDecisionCounts() {
        var made = history([recorded(Talk.key(Talk.mes, Talk.tool, 3389), days: Array(0..<10))], days: 10)
        #expect(Proposal(made, Review(made)).rules.isEmpty)
        made.decisions = [Decision(at: 2_000_000_000, who: "a", why: "b", verdict: .approve)]
        #expect(Proposal(made, Review(made)).rules.count == 1)
        made.decisions.append(Decision(at: 2, who: "a", why: "b", verdict: .reject))
        #expect(Proposal(made, Review(made)).rules.isEmpty)
        #expect(Proposal(made, Review(made)).rejected == [0])
    }
}
