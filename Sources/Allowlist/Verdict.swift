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

    /// The verdict's causes, in the order of their numbers.
    public static let ofVerdict: [CauseDescription] = [
        CauseDescription(.notInPolicy, "not-in-policy", "no rule allows this conversation"),
        CauseDescription(.synFromServer, "syn-from-server", "the server of an allowed conversation tries to open one"),
        CauseDescription(.etherTypeNotAllowed, "ethertype", "an EtherType or LLC address that the policy does not list"),
        CauseDescription(.fragmentUntracked, "fragment-untracked", "a later fragment: its first one is not tracked yet"),
        CauseDescription(.addressBinding, "address-binding", "an IP address used with another device's MAC address"),
    ]
}
