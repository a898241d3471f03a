// What a scrape is answered: the bridge's metrics, as it tells them, and the feed's own.

import NIOPosix

/// How it is with one destination of the feed, for its metrics.
public struct DestinationFigures: Sendable {
    public var name: String
    /// "syslog", "webhook", "file", "ipfix".
    public var kind: String
    /// The last try succeeded; nil: there was none yet.
    public var isUp: Bool?
    /// Messages that wait; nil: it has no queue.
    public var waiting: Int?
    /// Messages, or flow records, since the start.
    public var sent: UInt64
    /// Messages that will never be sent; nil: it skips none.
    public var skipped: UInt64?

    public init(name: String, kind: String, isUp: Bool?, waiting: Int?, sent: UInt64, skipped: UInt64?) {
        (self.name, self.kind, self.isUp, self.waiting, self.sent, self.skipped) = (name, kind, isUp, waiting, sent, skipped)
    }
}

/// Makes the page. Whoever asks while another's is being made gets the same.
public actor MetricsPage {
    private let bridge: @Sendable () -> String?
    private let destinations: @Sendable () async -> [DestinationFigures]
    private var making: Task<String, Never>?

    /// - Parameters:
    ///   - bridge: the text of its metrics; nil: it does not answer. May wait, but not for long: scrapers give up after ten seconds.
    ///   - destinations: of the feed.
    public init(bridge: @escaping @Sendable () -> String?, destinations: @escaping @Sendable () async -> [DestinationFigures]) {
        (self.bridge, self.destinations) = (bridge, destinations)
    }

    public func text() async -> String {
        if let making { return await making.value }
        let task = Task { [bridge, destinations] in
            // Blocks a thread that may be blocked.
            let told = (try? await NIOThreadPool.singleton.runIfActive { bridge() }) ?? nil
            return Self.text(bridge: told, await destinations())
        }
        making = task
        let text = await task.value
        making = nil
        return text
    }

    static func text(bridge: String?, _ destinations: [DestinationFigures]) -> String {
        var own = MetricsText()
        func labels(_ one: DestinationFigures) -> [String: String] { ["destination": one.name, "kind": one.kind] }
        own.add("up", .gauge, "1: the bridge answers.", [([:], bridge == nil ? 0 : 1)])
        own.add(
            "feed_destination_up", .gauge, "1: the last try to send succeeded.",
            destinations.compactMap { one in one.isUp.map { (labels(one), $0 ? 1 : 0) } })
        own.add(
            "feed_waiting", .gauge, "Messages that a destination has not taken yet.",
            destinations.compactMap { one in one.waiting.map { (labels(one), Double($0)) } })
        own.add("feed_sent_total", .counter, "Messages or flow records sent since the start of the feed.", destinations.map { (labels($0), Double($0.sent)) })
        own.add(
            "feed_skipped_total", .counter, "Messages that will not be sent: too many waited, or they were refused.",
            destinations.compactMap { one in one.skipped.map { (labels(one), Double($0)) } })
        return (bridge ?? "") + own.text
    }
}
