// What an exporter is: it takes what happened and delivers it to a system of somebody else's.
//
//   audit.sqlite, alerts.sqlite ─► Spool ─ messages in order ─► Delivery (one for each destination) ─► Exporter ─► SIEM, webhook, file
//
// What is no stream of messages (flows, metrics) is a `FeedService` of its own.

import Logging

/// One thing that the feed does until its task is cancelled. None of them waits for another.
public protocol FeedService: Sendable {
    /// As the configuration has it.
    var name: String { get }
    func run() async
    /// SIGHUP: what is written to by name is opened again.
    func reopen() async
}

extension FeedService {
    public func reopen() async {}
}

/// Why a destination did not take something; it is tried again.
public struct DeliveryFailure: Error, CustomStringConvertible, Sendable {
    public var description: String
    /// As the destination asked for; nil: as usual.
    public var retryAfter: Duration?

    public init(_ description: String, retryAfter: Duration? = nil) {
        self.description = description
        self.retryAfter = retryAfter
    }
}

/// What became of messages.
public struct Handover: Sendable {
    /// So many of them, the first ones, are on their way.
    public var count: Int
    /// Those among them that the destination will never take, by index, and why.
    public var refused: [Int: String] = [:]
}

/// A way to one destination. After a failure it starts from nothing: what was not confirmed is handed over again.
public protocol Exporter: Sendable {
    /// "tls://10.0.9.5:6514".
    var destination: String { get }
    /// Whether there is a connection, which shows that the destination is there; else only what was taken does.
    var hasConnection: Bool { get }
    /// Makes ready: connects, opens.
    func open() async throws(DeliveryFailure)
    /// Hands over one message or more, in order; all or the first of them. None: it wants to be asked again, a little later.
    func send(_ messages: [FeedMessage]) async throws(DeliveryFailure) -> Handover
    /// How many of those handed over, the next ones in order, are safe with the destination since it was last asked.
    func confirmed() async throws(DeliveryFailure) -> Int
    /// The end: waits a moment for what is on its way, then closes. Also after a failure.
    ///
    /// - Returns: as `confirmed`.
    func close() async -> Int
    func reopen() async
}

extension Exporter {
    public func reopen() async {}
}

/// Why the feed cannot run as it is configured.
public struct FeedError: Error, CustomStringConvertible, Sendable {
    public let description: String
    public init(_ description: String) { self.description = description }
}
