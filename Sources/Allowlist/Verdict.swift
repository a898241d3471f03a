// What the allowlist says of a frame.

import Frames

/// The answer for one frame.
@frozen
public struct Verdict: Sendable, Equatable {
    /// Index of the rule that let it pass, or `noRule`.
    public var rule: UInt32
    /// `.none` if the frame may pass.
    public var cause: Cause
    /// Whether the sender is the server of the conversation.
    public var isReply: Bool

    @inlinable
    public init(rule: UInt32, cause: Cause, isReply: Bool) {
        self.rule = rule
        self.cause = cause
        self.isReply = isReply
    }

    @inlinable public static var noRule: UInt32 { 0xFFFF_FFFF }
    @inlinable public var isAllowed: Bool { cause == .none }
}

/// What the bridge does with verdicts.
@frozen
public enum Mode: UInt8, Sendable, CaseIterable, Codable {
    /// Forward all, record.
    case learn = 0
    /// Forward all, say what would have been denied.
    case monitor = 1
    /// Forward what is allowed and nothing else.
    case enforce = 2

    public var name: String {
        switch self {
        case .learn: "learn"
        case .monitor: "monitor"
        case .enforce: "enforce"
        }
    }

    public init?(name: String) {
        guard let mode = Mode.allCases.first(where: { $0.name == name }) else { return nil }
        self = mode
    }
}

// MARK: - Causes of the verdict (32…47)

extension Cause {
    @inlinable public static var notInPolicy: Cause { Cause(rawValue: 32) }
    @inlinable public static var synFromServer: Cause { Cause(rawValue: 33) }
    @inlinable public static var etherTypeNotAllowed: Cause { Cause(rawValue: 34) }
    @inlinable public static var fragmentUntracked: Cause { Cause(rawValue: 35) }
    @inlinable public static var addressBinding: Cause { Cause(rawValue: 36) }
    @inlinable public static var replyUnasked: Cause { Cause(rawValue: 37) }
    @inlinable public static var synAckUnasked: Cause { Cause(rawValue: 38) }
    @inlinable public static var tcpUntracked: Cause { Cause(rawValue: 39) }
    @inlinable public static var tcpWindow: Cause { Cause(rawValue: 40) }
    @inlinable public static var tcpReset: Cause { Cause(rawValue: 41) }
    @inlinable public static var icmpErrorUntracked: Cause { Cause(rawValue: 42) }
    @inlinable public static var flowTableFull: Cause { Cause(rawValue: 43) }
    @inlinable public static var wrongSide: Cause { Cause(rawValue: 44) }
    @inlinable public static var quarantined: Cause { Cause(rawValue: 45) }
    @inlinable public static var isolated: Cause { Cause(rawValue: 46) }

    /// A person, or an alert, has ordered it: it holds in every mode.
    @inlinable public var isOrdered: Bool { self == .quarantined || self == .isolated }

    /// The verdict's causes, in the order of their numbers.
    public static let ofVerdict: [CauseDescription] = [
        CauseDescription(.notInPolicy, "not-in-policy", "no rule allows this conversation"),
        CauseDescription(.synFromServer, "syn-from-server", "the server of an allowed conversation tries to open one"),
        CauseDescription(.etherTypeNotAllowed, "ethertype", "an EtherType or LLC address that the policy does not list"),
        CauseDescription(.fragmentUntracked, "fragment-untracked", "a later fragment of no datagram whose first one passed"),
        CauseDescription(.addressBinding, "address-binding", "an IP address used with another device's MAC address"),
        CauseDescription(.replyUnasked, "reply-unasked", "a UDP, ICMP or other reply to no recent request"),
        CauseDescription(.synAckUnasked, "syn-ack-unasked", "a SYN-ACK that answers no SYN"),
        CauseDescription(.tcpUntracked, "tcp-untracked", "a TCP segment of no connection that was seen to begin"),
        CauseDescription(.tcpWindow, "tcp-window", "a TCP segment outside the windows of its connection (tcp = \"strict\")"),
        CauseDescription(.tcpReset, "tcp-reset", "a TCP reset that is not at the next byte expected (tcp = \"strict\")"),
        CauseDescription(.icmpErrorUntracked, "icmp-error-untracked", "an ICMP error about a packet of no flow there is"),
        CauseDescription(.flowTableFull, "flow-table-full", "a frame that needs room in the flow table, and there is none (or another worker kept it too long)"),
        CauseDescription(.wrongSide, "wrong-side", "a device's address in a frame from the other side of the bridge"),
        CauseDescription(.quarantined, "quarantined", "to or from a device in quarantine"),
        CauseDescription(.isolated, "isolated", "the bridge is an island: nothing crosses"),
    ]
}
