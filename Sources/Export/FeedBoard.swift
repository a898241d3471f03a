// How each destination fares, for the log's and the metrics' sake.

import Synchronization

/// Of one destination of messages.
public struct DestinationStatus: Sendable, Equatable {
    public var name: String
    /// "syslog", "webhook", "file", "ipfix".
    public var kind: String
    public var destination: String
    /// nil: not known yet.
    public var isUp: Bool?
    /// Events and changes of alerts that it has not taken, at the most.
    public var waiting: Int64 = 0
    /// Since it was first named.
    public var sent: Int64 = 0
    public var refused: Int64 = 0
    public var skipped: Int64 = 0
    /// Why it is down.
    public var problem: String?

    public init(name: String, kind: String, destination: String) { (self.name, self.kind, self.destination) = (name, kind, destination) }
}

public final class FeedBoard: Sendable {
    private let all = Mutex<[String: DestinationStatus]>([:])

    public init() {}

    /// By name.
    public var statuses: [DestinationStatus] { all.withLock { $0.values.sorted { $0.name < $1.name } } }

    public func set(_ status: DestinationStatus) { all.withLock { $0[status.name] = status } }
}
