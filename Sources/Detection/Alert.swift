// What an operator is told: who, what, since when, how sure, and what it rests on.

import Foundation

/// What an alert is about. Of several behaviours of one device, the gravest names its alert.
public enum AlertKind: String, Codable, Sendable, CaseIterable, Hashable {
    case policyChanged = "policy-changed"
    /// A conversation at an hour of the day, or a day of the week, at which it never took place.
    case outOfHours = "out-of-hours"
    /// A conversation with far more of it than on any day before.
    case volume
    /// An expected conversation that stopped.
    case missing
    /// Most of what is expected of a device stopped.
    case silent = "gone-silent"
    /// A known device, and a peer or a service that neither it nor its like had before.
    case newConversation = "new-conversation"
    case unknownDevice = "unknown-device"
    /// Again and again at regular times, what is neither allowed nor known.
    case beacon
    case wrongSide = "wrong-side"
    /// More than ten minutes until it was seen to be one.
    case slowScan = "slow-scan"
    case scan
    /// From one tool to another, where tools had nothing to do with each other.
    case lateralMovement = "lateral-movement"
    /// An address used by another's network card.
    case spoofing
    /// Frames came and no worker judged them.
    case bridgeFailure = "bridge-failure"

    /// Gravest last.
    var rank: Int { Self.allCases.firstIndex(of: self)! }

    var severity: Severity {
        switch self {
        case .policyChanged: .info
        case .outOfHours, .volume: .low
        case .missing, .silent, .newConversation, .unknownDevice: .medium
        case .beacon, .wrongSide, .slowScan, .scan, .lateralMovement, .spoofing, .bridgeFailure: .high
        }
    }

    /// In a sentence: "… shows: scan, spoofing".
    public var text: String {
        switch self {
        case .policyChanged: "policy changed"
        case .outOfHours: "conversation out of its hours"
        case .volume: "volume out of its band"
        case .missing: "expected conversation missing"
        case .silent: "device gone silent"
        case .newConversation: "new peer or service"
        case .unknownDevice: "unknown device"
        case .beacon: "regular beacon"
        case .wrongSide: "device on the wrong side"
        case .slowScan: "slow scan"
        case .scan: "scan"
        case .lateralMovement: "lateral movement attempt"
        case .spoofing: "address spoofing"
        case .bridgeFailure: "bridge in failure"
        }
    }
}

public enum Severity: Int, Codable, Sendable, Comparable, CaseIterable {
    case info, low, medium, high, critical

    public var name: String {
        switch self {
        case .info: "info"
        case .low: "low"
        case .medium: "medium"
        case .high: "high"
        case .critical: "critical"
        }
    }

    public static func < (a: Severity, b: Severity) -> Bool { a.rawValue < b.rawValue }

    public init(from decoder: any Decoder) throws {
        let name = try decoder.singleValueContainer().decode(String.self)
        guard let found = Self.allCases.first(where: { $0.name == name }) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "no severity \(name)"))
        }
        self = found
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(name)
    }
}

/// Who an alert is about, as far as it is known.
public struct AlertDevice: Codable, Sendable, Equatable {
    /// nil: it was never seen to use one of its own; or it stands for many.
    public var address: String?
    /// nil: it is behind a router; or it stands for many.
    public var mac: String?
    /// Of the network card; filled in when it is written down, for that takes time.
    public var vendor: String?
    /// By the policy.
    public var name: String?
    /// By what it does, as learnt.
    public var role: String?
    /// The port of the bridge it was seen at.
    public var side: String?
    /// Known by the history or the policy before.
    public var isKnown: Bool
    /// It stands for all senders that came under ever new addresses on this side.
    public var isMany: Bool
    /// When it last did something of the alert itself; nil: not since the bridge was started.
    public var last: Date?
}

/// One of the things a device does.
public struct Behaviour: Codable, Sendable, Equatable {
    public var kind: AlertKind
    public var first: Date
    public var last: Date
    /// How often it was noticed.
    public var count: UInt64
    public var confidence: Double
}

/// A conversation that an alert rests on.
public struct AlertEvidence: Codable, Sendable, Equatable {
    public var client: String
    public var server: String
    public var service: String
    public var attempts: UInt64
    public var frames: UInt64
    public var isDenied: Bool
    public var isAnswered: Bool
    public var first: Date
    public var last: Date
}

public struct Acknowledgement: Codable, Sendable, Equatable {
    public var at: Date
    public var who: String
    public var why: String

    public init(at: Date, who: String, why: String) {
        self.at = at
        self.who = who
        self.why = why
    }
}

public struct Alert: Codable, Sendable, Equatable, Identifiable {
    public var id: Int64
    public var kind: AlertKind
    public var severity: Severity
    /// That it is what it is called, 0…1.
    public var confidence: Double
    /// nil: the bridge itself, or the wire.
    public var device: AlertDevice?
    /// That do the same since it tried them, as a worm goes on; the first 64.
    public var others: [AlertDevice]
    /// When the first and the last frame of it came.
    public var begin: Date
    public var last: Date
    /// nil: it goes on, or has not been quiet for long enough.
    public var end: Date?
    public var frames: UInt64
    /// Connections that were tried, questions that were asked.
    public var attempts: UInt64
    /// One paragraph.
    public var story: String
    public var behaviours: [Behaviour]
    /// The most active conversations, a few.
    public var evidence: [AlertEvidence]
    public var techniques: [Technique]
    /// nil: nobody has looked at it yet.
    public var acknowledged: Acknowledgement?
    /// What makes two alerts one: of one device, say. For whoever takes them up again after a restart.
    public var group: String
}

/// What has become of an alert.
public enum AlertChange: Sendable, Equatable {
    case raised(Alert)
    /// It goes on, or has become graver.
    case changed(Alert)
    case ended(Alert)

    public var alert: Alert {
        switch self {
        case .raised(let alert), .changed(let alert), .ended(let alert): alert
        }
    }
}

extension Date {
    /// - Parameter nanoseconds: since 1970.
    init(_ nanoseconds: UInt64) { self.init(timeIntervalSince1970: Double(nanoseconds) / 1e9) }

    var nanoseconds: UInt64 { UInt64(max(0, timeIntervalSince1970 * 1e9)) }
}
