import Allowlist
import Foundation
import Frames
import Policy
import TestSupport
import Testing

@testable import Baseline

/// What the page is made of; how it looks and works, Tests/System/test_baseline_page.py tells.
@Suite struct BaselinePageTests {
    private let utc = TimeZone(secondsFromGMT: 0)!

    private func page(_ history: History, most: Int = 100, zone: TimeZone? = nil, state: String = "/state") -> BaselinePage {
        BaselinePage(
            history, Review(history), chosen: Array(history.conversations.indices), state: state, options: [], version: "1", zone: zone ?? utc, most: most)
    }

    @Test func whatFailedMakesRoomForWhatIsLearnt() {
        var all = (0..<4).map { recorded(Talk.key(Talk.laptop, [10, 3, 9, UInt8($0)], 5000), days: Array(0..<10), answered: 0) }
        all.append(recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: Array(0..<10), connections: 1))
        let page = page(history(all, days: 10), most: 2)
        #expect(page.omitted == 3)
        #expect(page.conversations.map { page.devices[$0.server].address } == ["10.3.9.0", "10.3.1.21"])
        // What is left out still counts.
        #expect(page.complete.conversations == 1)
    }

    @Test func everyConversationHasTheStateThatTheProposalGivesIt() {
        var history = history(
            [
                recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: Array(0..<10)),
                recorded(Talk.key(Talk.mes, Talk.tool, 22), days: Array(0..<10)),
                recorded(Talk.key(Talk.mes, Talk.tool, 5900), days: Array(0..<10)),
            ], days: 10)
        var decision = Decision(
            at: 1, who: "me", why: "no", verdict: .reject, service: ServiceRange(.tcp, Port(rawValue: 5900), Port(rawValue: 5900)))
        decision.id = 7
        history.decisions = [decision]
        let page = page(history)
        #expect(page.conversations.map(\.state) == [.proposed, .waiting, .rejected])
        #expect(page.conversations.map(\.decision) == [nil, nil, 7])
        #expect(page.conversations.map(\.rule) == [0, nil, nil])
        #expect(page.conversations.map(\.known) == ["hsms", "ssh", "vnc"])
    }

    @Test func hoursAreThoseOfThePlant() {
        // 1 January 1970 was a Thursday.
        let one = recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: [0])
        let page = page(history([one], days: 1)), east = self.page(history([one], days: 1), zone: TimeZone(secondsFromGMT: 9 * 3600)!)
        let day = (19_681 + 3) % 7
        #expect(page.observed == (0..<168).map { $0 / 24 == day ? 1 : 0 })
        #expect(east.observed == (0..<168).map { ($0 + 168 - 9) % 168 / 24 == day ? 1 : 0 })
        #expect(page.weeks[page.devices[0].week] == page.observed.map(String.init).joined())
        #expect(page.curve.map(\.new).reduce(0, +) == 1)
    }

    @Test func noNameEndsTheData() throws {
        let page = page(history([recorded(Talk.key(Talk.mes, Talk.tool, 5000), days: [0])], days: 1), state: "</script><!--\u{2028}__SEKISHO_DATA__\"\\")
        let html = try BaselinePage.html(JSONEncoder().encode(page))
        let empty = try BaselinePage.html(Data("{}".utf8))
        #expect(html.components(separatedBy: "</script").count == empty.components(separatedBy: "</script").count)
        #expect(html.components(separatedBy: "<!--").count == empty.components(separatedBy: "<!--").count)
        let begin = try #require(html.range(of: "id=\"data\">")), end = try #require(html.range(of: "</script>", range: begin.upperBound..<html.endIndex))
        let data = try JSONSerialization.jsonObject(with: Data(html[begin.upperBound..<end.lowerBound].utf8)) as? [String: Any]
        #expect(data?["state"] as? String == page.state)
    }
}
