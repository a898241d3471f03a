// What a rule asks of the flows it allows.

/// What the owner asks of a rule's flows.
@frozen
public struct FlowOptions: Sendable, Hashable {
    /// TCP: segments outside the windows, and resets that are not exact, are denied.
    public var isStrict: Bool
    /// TCP: a connection whose beginning was not seen is taken up where it is.
    public var picksUp: Bool
    /// How long after a client's request the server's replies pass, where the protocol has no connections.
    public var replySeconds: Int
    /// The rule allows FTP control connections, and data connections may accompany them.
    public var expectsData: Bool

    public static let usualReplySeconds = 30

    public init(isStrict: Bool = false, picksUp: Bool = true, replySeconds: Int = usualReplySeconds, expectsData: Bool = false) {
        self.isStrict = isStrict
        self.picksUp = picksUp
        self.replySeconds = replySeconds
        self.expectsData = expectsData
    }
}

/// The same as the packet path reads it. 16 bytes.
struct FlowRule: BitwiseCopyable {
    /// The same in every table that has this rule without a break; never used again for another.
    var identity: UInt32
    /// The first version of the table since which the rule has been there without a break: a flow whose last frame
    /// passed under an earlier one is cut.
    var since: UInt32
    var replyTicks: UInt32
    private var flags: UInt32

    init(_ options: FlowOptions, identity: UInt32, since: UInt64) {
        self.identity = identity
        self.since = UInt32(truncatingIfNeeded: since)
        replyTicks = FlowTick.ticks(seconds: options.replySeconds)
        flags = (options.isStrict ? 1 : 0) | (options.picksUp ? 2 : 0) | (options.expectsData ? 4 : 0)
    }

    @inline(__always) var isStrict: Bool { flags & 1 != 0 }
    @inline(__always) var picksUp: Bool { flags & 2 != 0 }
    /// Also where it is not strict but takes nothing up: what it forgets by a forged end does not come back.
    @inline(__always) var followsWindows: Bool { flags & 3 != 2 }
    @inline(__always) var expectsData: Bool { flags & 4 != 0 }
}

/// Since when each rule of a policy has been there without a break. Kept by whoever applies policies.
public struct RuleHistory: Sendable {
    private var known: [String: (rule: AllowRule, mark: RuleMark)] = [:]
    private var last: UInt32 = 0

    public init() {}

    /// Identity and first version of each rule, for a table about to be made. Nothing is noted until `note`.
    public func marks(of rules: [AllowRule], names: [String], version: UInt64) -> [RuleMark] {
        var fresh = last
        return zip(rules, names).map { rule, name in
            // One that allows all it did before, and perhaps more, goes on.
            if let known = known[name], rule.covers(known.rule) { return known.mark }
            fresh &+= 1
            return RuleMark(identity: fresh, since: version)
        }
    }

    /// These rules are in use now; what is not among them is forgotten.
    public mutating func note(_ rules: [AllowRule], names: [String], _ marks: [RuleMark]) {
        known.removeAll(keepingCapacity: true)
        for (index, mark) in marks.enumerated() {
            known[names[index]] = (rules[index], mark)
            last = max(last, mark.identity)
        }
    }
}

extension AllowRule {
    /// Whether every conversation of `old` is one of this rule's, as far as the sets themselves tell.
    fileprivate func covers(_ old: AllowRule) -> Bool {
        if clients == old.clients, servers == old.servers, services == old.services, vlans == old.vlans, clientSide == old.clientSide {
            return true
        }
        return (clientSide == nil || clientSide == old.clientSide)
            && (vlans.isEmpty || !old.vlans.isEmpty && Set(old.vlans).isSubset(of: vlans))
            && Set(old.clients).isSubset(of: clients) && Set(old.servers).isSubset(of: servers)
            && Set(old.services).isSubset(of: services)
    }
}

/// See `FlowRule`.
public struct RuleMark: Sendable {
    public var identity: UInt32
    public var since: UInt64

    public init(identity: UInt32, since: UInt64) {
        self.identity = identity
        self.since = since
    }
}
