// A policy against what was learnt: what it would have stopped, and what of it nobody has used.

import Allowlist
import Frames
import Policy

public struct PolicyUse: Sendable {
    /// A recorded conversation that the policy does not allow.
    public struct Stopped: Sendable {
        /// Place in `History.conversations`.
        public var conversation: Int
        public var reasons: [ReviewReason]
        /// The last word of a person about it.
        public var decision: Decision.Verdict?
    }

    /// What of a rule no recorded conversation was counted for.
    public struct Unused: Sendable {
        public var rule: String
        /// Nothing of it was used; the rest is empty then.
        public var isWhole: Bool
        public var from: [String] = []
        public var to: [String] = []
        public var services: [String] = []
        public var vlans: [UInt16] = []
    }

    /// The busiest first.
    public let stopped: [Stopped]
    /// The same, which a person has rejected: stopped as was wanted.
    public let rejected: [Stopped]
    /// In the order of the file.
    public let unused: [Unused]
    /// EtherTypes and LLC addresses that were seen and do not pass, with frames.
    public let stoppedTypes: [(type: EtherType, frames: UInt64)]
    /// Those that pass and were not seen.
    public let unusedTypes: [EtherType]
    /// Recorded conversations that the policy allows.
    public let allowed: Int
    /// Ids of rules that have expired and do not count.
    public let expired: [String]
    /// By place in `History.conversations`: the rule that allows it; nil: none does, or it is a data connection of FTP.
    public let rules: [String?]
    /// By place: when it was seen last, ns since 1970.
    public let lasts: [UInt64]

    public var isSame: Bool { stopped.isEmpty && unused.isEmpty && stoppedTypes.isEmpty && unusedTypes.isEmpty }

    public init(_ history: History, _ review: Review, _ document: PolicyDocument, now: Int64) throws(TableError) {
        let table = try CompiledTable.build(document.compiled(now: now).source)
        let rules = document.rules.filter { !$0.isExpired(at: now) }
        expired = document.rules.filter { $0.isExpired(at: now) }.map(\.id)
        let memory = JudgeMemory()
        // Where a client was seen. Captures do not say by which port a frame came: then either will do.
        var sides: [AddressWords: Set<Side>] = [:]
        for one in history.addresses {
            if let side = one.address.side { sides[one.address.address, default: []].insert(side) }
        }
        var uses = rules.map { _ in RuleUse() }
        var open: [Int] = [], sessions: [Int] = []
        var matched = [String?](repeating: nil, count: history.conversations.count)
        for (place, one) in history.conversations.enumerated() {
            let key = one.key
            let headers = PacketQuestion(
                family: key.family, from: key.client, to: key.server, ipProtocol: key.ipProtocol, port: key.service, vlan: key.vlan
            ).headers
            let verdict = Side.allCases.filter { sides[key.client]?.contains($0) ?? true }.lazy
                .map { table.judge(headers, from: $0, memory) }.first { $0.isAllowed && !$0.isReply && $0.rule != Verdict.noRule }
            guard let verdict else {
                open.append(place)
                continue
            }
            uses[Int(verdict.rule)].add(key)
            matched[place] = rules[Int(verdict.rule)].id
            if rules[Int(verdict.rule)].flows.expectsData { sessions.append(place) }
        }
        self.rules = matched
        lasts = history.conversations.map(\.last)
        // Data connections of FTP need no rule of their own.
        let data = FTPData(history.conversations, sessions: Set(sessions))
        open.removeAll { data.isData($0) }
        allowed = history.conversations.count - open.count
        let words = LastWords(history)
        let all = open.map { place in
            let key = history.conversations[place].key
            return (
                Stopped(conversation: place, reasons: review.reasons[place], decision: words.about(key)?.verdict),
                frames: history.conversations[place].frames)
        }.sorted { $0.frames > $1.frames }.map(\.0)
        stopped = all.filter { $0.decision != .reject }
        rejected = all.filter { $0.decision == .reject }
        let names = PolicyNames(document)
        unused = zip(rules, uses).compactMap { $1.unused(of: $0, names) }
        // Neighbour discovery passes where ARP does.
        var seen: [EtherType: UInt64] = [:]
        for (type, frames) in history.etherTypes { seen[type == .ipv6 ? .arp : type, default: 0] += frames }
        let types = Set(document.etherTypes)
        stoppedTypes = seen.filter { !types.contains($0.key) }.map { (type: $0.key, frames: $0.value) }
            .sorted { ($1.frames, $0.type.rawValue) < ($0.frames, $1.type.rawValue) }
        unusedTypes = types.filter { seen[$0] == nil }.sorted { $0.rawValue < $1.rawValue }
    }
}

/// Which addresses, ports and VLANs of a rule were used.
private struct RuleUse {
    private var clients: [IPFamily: Set<AddressWords>] = [:]
    private var servers: [IPFamily: Set<AddressWords>] = [:]
    private var services: Set<ServiceRange> = []
    private var vlans: Set<VLANID> = []

    mutating func add(_ key: ConversationKey) {
        clients[key.family, default: []].insert(key.client)
        servers[key.family, default: []].insert(key.server)
        services.insert(key.range)
        vlans.insert(key.vlan)
    }

    func unused(of rule: PolicyDocument.Rule, _ names: PolicyNames) -> PolicyUse.Unused? {
        if clients.isEmpty { return PolicyUse.Unused(rule: rule.id, isWhole: true) }
        // Families that can meet in it: an address without a partner is no permission.
        let families = IPFamily.allCases.filter { family in
            rule.clients.contains { $0.family == family } && rule.servers.contains { $0.family == family }
                && rule.services.contains { $0.applies(to: family) }
        }
        func unused(_ prefixes: [AddressPrefix], _ used: [IPFamily: Set<AddressWords>], _ written: [String]) -> [String] {
            var result: [String] = []
            for family in families {
                let seen = used[family] ?? []
                let left = prefixes.filter { prefix in
                    prefix.family == family && (prefix.isHost ? !seen.contains(prefix.words) : !seen.contains(where: prefix.contains))
                }
                for name in names.names(left, family, preferring: written) where !result.contains(name) { result.append(name) }
            }
            return result
        }
        var result = PolicyUse.Unused(rule: rule.id, isWhole: false)
        result.from = unused(rule.clients, clients, rule.from)
        result.to = unused(rule.servers, servers, rule.to)
        for range in rule.services where families.contains(where: { range.applies(to: $0) }) && !services.contains(where: { range.contains($0.ipProtocol, $0.low) }) {
            if !result.services.contains(range.written) { result.services.append(range.written) }
        }
        result.vlans = rule.vlans.filter { !vlans.contains($0) }.map(\.rawValue)
        return result.from.isEmpty && result.to.isEmpty && result.services.isEmpty && result.vlans.isEmpty ? nil : result
    }
}
