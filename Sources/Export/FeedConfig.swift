// What `feeds.toml` says: who is told what, and how.

/// What a message is about, as `events` chooses.
public enum FeedCategory: String, Sendable, CaseIterable {
    case alert
    case accessControl = "access_control"
    case configurationChange = "configuration_change"
    case systemError = "system_error"
    case operation
    /// Of the feed itself: what was skipped. It is always told.
    case feed

    /// Those that can be chosen.
    public static var choices: [Self] { allCases.filter { $0 != .feed } }
}

/// How a message is written.
public enum MessageFormat: String, Sendable, CaseIterable { case rfc5424, cef, json }

/// What every destination of messages has.
public struct DeliveryOptions: Sendable {
    public var name: String
    public var events: Set<FeedCategory>
    /// So many are kept for it while it takes none; the oldest are skipped beyond that.
    public var mostWaiting: Int64
    /// A new destination is told what happened before it, too.
    public var beginsAtStart: Bool
}

/// Files of certificates in PEM format.
public struct TLSOptions: Sendable, Equatable {
    /// nil: those that the system trusts.
    public var ca: String?
    public var certificate: String?
    public var key: String?
    /// nil: as it is addressed.
    public var serverName: String?
}

public struct SyslogOptions: Sendable {
    public enum Framing: String, Sendable, CaseIterable {
        /// Each message after its length (RFC 6587, 3.4.1).
        case octets
        /// Each message on a line (RFC 6587, 3.4.2).
        case lines
    }

    public var delivery: DeliveryOptions
    public var to: Endpoint
    public var format: MessageFormat
    public var facility: Int
    public var framing: Framing
    public var tls: TLSOptions
    /// Private enterprise number in the ids of structured data.
    public var enterprise: Int
    /// Octets of a message at the most.
    public var longest: Int
    /// What was sent within so many seconds before a connection broke is sent again.
    public var resendSeconds: Int
}

public struct WebhookOptions: Sendable {
    public var delivery: DeliveryOptions
    public var url: String
    /// Of the server, where the name in the URL cannot be looked up.
    public var address: String?
    public var secretFile: String?
    public var tls: TLSOptions
    public var timeoutSeconds: Int
}

public struct FileOptions: Sendable {
    public var delivery: DeliveryOptions
    /// "-": standard output.
    public var path: String
    public var format: MessageFormat
}

public struct FeedConfig: Sendable {
    /// Of the bridge, in messages; nil: the state directory's last component.
    public var bridge: String?
    /// Of this machine, in messages; nil: as the system says.
    public var hostname: String?
    public var syslog: [SyslogOptions] = []
    public var webhooks: [WebhookOptions] = []
    public var files: [FileOptions] = []
    public var collectors: [FlowCollector] = []
    public var metrics: MetricsOptions?

    public init() {}

    /// Whether there is anybody to tell.
    public var isEmpty: Bool { syslog.isEmpty && webhooks.isEmpty && files.isEmpty && collectors.isEmpty && metrics == nil }
}
