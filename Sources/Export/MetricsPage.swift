// What a scrape is answered: the bridge's metrics, as it tells them, and the feed's own.

import NIOPosix
import Policy

/// Makes the page. Whoever asks while another's is being made gets the same.
actor MetricsPage {
    private let bridge: @Sendable () -> String?
    private let board: FeedBoard
    private var making: Task<String, Never>?

    /// - Parameters:
    ///   - bridge: the text of its metrics; nil: it does not answer. It may take a while, but scrapers give up after ten seconds.
    ///   - board: how the destinations fare.
    init(bridge: @escaping @Sendable () -> String?, board: FeedBoard) { (self.bridge, self.board) = (bridge, board) }

    func text() async -> String {
        if let making { return await making.value }
        let task = Task { [bridge, board] in
            // Blocks a thread that may be blocked.
            let told = (try? await NIOThreadPool.singleton.runIfActive { bridge() }) ?? nil
            return Self.text(bridge: told, board.statuses)
        }
        making = task
        let text = await task.value
        making = nil
        return text
    }

    static func text(bridge: String?, _ destinations: [DestinationStatus]) -> String {
        var own = MetricsText()
        func labels(_ one: DestinationStatus) -> [String: String] { ["destination": one.name, "kind": one.kind] }
        // Flows have no queue: what was not sent is part of what is sent next.
        let queues = destinations.filter { $0.kind != "ipfix" }
        own.add("up", .gauge, "1: the bridge answers.", [([:], bridge == nil ? 0 : 1)])
        own.add(
            "feed_destination_up", .gauge, "1: the destination takes what it is sent, as far as is known.",
            destinations.compactMap { one in one.isUp.map { (labels(one), $0 ? 1 : 0) } })
        own.add("feed_sent_total", .counter, "Messages that it has taken, or flow records.", destinations.map { (labels($0), Double($0.sent)) })
        own.add("feed_waiting", .gauge, "Messages that it has not taken yet.", queues.map { (labels($0), Double($0.waiting)) })
        own.add("feed_skipped_total", .counter, "Messages that too many others waited before: never sent.", queues.map { (labels($0), Double($0.skipped)) })
        own.add("feed_refused_total", .counter, "Messages that it will not take: left out.", queues.map { (labels($0), Double($0.refused)) })
        return (bridge ?? "") + own.text
    }
}
