// From conversations to rules: as few as possible, and none that allows what nobody did.
//
//   conversations ─► without what waits for a person ─► by service: who asks whom ─► servers asked by the same clients, or clients
//   that ask the same servers, whichever makes fewer rules ─► services with the same two sides become one rule

import Allowlist
import Foundation
import Frames

public struct ProposedRule: Sendable {
    public var id: String
    /// Sorted.
    public var clients: [AddressWords]
    public var servers: [AddressWords]
    public var family: IPFamily
    public var services: [ServiceRange]
    public var vlan: VLANID
    /// FTP: its data connections come with it.
    public var hasFTPData = false
    /// Places in `History.conversations`.
    public var evidence: [Int]
    /// Client, server and service that nobody has seen together, and that the rule allows all the same.
    public var unobserved = 0
    /// Why a person must look at it; empty: proposed by itself.
    public var reasons: Set<ReviewReason> = []
}

public struct Proposal: Sendable {
    public let rules: [ProposedRule]
    /// Left out: they wait for a person. Places in `History.conversations`, with why.
    public let waiting: [(conversation: Int, reasons: [ReviewReason])]
    /// Rejected by a person.
    public let rejected: [Int]
    public let devices: [Device]

    public struct Device: Sendable {
        public var name: String
        public var address: AddressWords
        public var family: IPFamily
        /// The only one it was seen with; nil: none, several, or one that stands for many addresses (a router's).
        public var mac: MACAddress?
        public var role: Role
    }

    /// - Parameters:
    ///   - includesReview: rules for what waits for a person, too, each marked.
    ///   - budget: permissions nobody has observed that may be given away, if that makes rules fewer.
    public init(_ history: History, _ review: Review, includesReview: Bool = false, budget: Int = 0) {
        var accepted: [Int] = [], waiting: [(Int, [ReviewReason])] = [], rejected: [Int] = []
        for (place, one) in history.conversations.enumerated() {
            // The last word counts.
            if let decision = history.decisions.last(where: { $0.covers(one.key) }) {
                switch decision.verdict {
                case .approve: accepted.append(place)
                case .reject: rejected.append(place)
                case .forget: break
                }
            } else if review.reasons[place].isEmpty {
                accepted.append(place)
            } else {
                waiting.append((place, review.reasons[place]))
            }
        }
        // Data connections of FTP between the same two, which the rule for its control connection brings with it.
        var data = FTPData(history, accepted)
        accepted.removeAll { data.takes($0) }
        waiting.removeAll { data.takes($0.0) }
        var rules = Self.rules(history, accepted, data, budget: budget)
        if includesReview {
            let groups: [[ReviewReason]: [(Int, [ReviewReason])]] = Dictionary(grouping: waiting) { $0.1 }
            for (reasons, group) in groups.sorted(by: { $0.value[0].0 < $1.value[0].0 }) {
                var more = Self.rules(history, group.map { $0.0 }, data, budget: 0)
                for i in more.indices { more[i].reasons = Set(reasons) }
                rules += more
            }
        }
        var used: Set<AddressWords> = []
        for rule in rules { used.formUnion(rule.clients + rule.servers) }
        devices = Self.devices(history, used, accepted)
        self.rules = Self.named(rules, devices)
        self.waiting = waiting.map { (conversation: $0.0, reasons: $0.1) }
        self.rejected = rejected
    }

    // MARK: - Rules

    private struct Lane: Hashable {
        var family: IPFamily
        var vlan: VLANID
        var service: ServiceRange
    }

    private struct Sides: Hashable {
        var family: IPFamily
        var vlan: VLANID
        var clients: [AddressWords]
        var servers: [AddressWords]
        var hasFTPData: Bool
    }

    private static func rules(_ history: History, _ places: [Int], _ data: FTPData, budget: Int) -> [ProposedRule] {
        var lanes: [Lane: [Int]] = [:]
        for place in places {
            let key = history.conversations[place].key
            lanes[Lane(family: key.family, vlan: key.vlan, service: ServiceRange(key.ipProtocol, key.service, key.service)), default: []].append(place)
        }
        var sides: [Sides: (services: [ServiceRange], evidence: [Int])] = [:]
        for (lane, places) in lanes {
            for block in blocks(history, places) {
                let isFTP = lane.service.ipProtocol == .tcp && lane.service.low.rawValue == 21 && block.evidence.contains { data.hasData($0) }
                let side = Sides(family: lane.family, vlan: lane.vlan, clients: block.clients, servers: block.servers, hasFTPData: isFTP)
                sides[side, default: ([], [])].services.append(lane.service)
                sides[side]!.evidence += block.evidence
            }
        }
        var rules = sides.map { side, what in
            ProposedRule(
                id: "", clients: side.clients, servers: side.servers, family: side.family, services: joined(what.services), vlan: side.vlan,
                hasFTPData: side.hasFTPData, evidence: what.evidence.sorted())
        }
        spend(&rules, budget, history)
        return rules.sorted { ($0.evidence.first ?? 0) < ($1.evidence.first ?? 0) }
    }

    private struct Block {
        var clients: [AddressWords]
        var servers: [AddressWords]
        var evidence: [Int]
    }

    /// Covers the pairs of one service by blocks "all of these to all of those" without a pair that nobody saw.
    private static func blocks(_ history: History, _ places: [Int]) -> [Block] {
        typealias Group = (one: [AddressWords], others: [AddressWords], evidence: [Int])
        func grouped(by side: KeyPath<ConversationKey, AddressWords>, _ other: KeyPath<ConversationKey, AddressWords>) -> [Group] {
            var partners: [AddressWords: [(AddressWords, Int)]] = [:]
            for place in places {
                let key = history.conversations[place].key
                partners[key[keyPath: side], default: []].append((key[keyPath: other], place))
            }
            var groups: [[AddressWords]: (one: [AddressWords], evidence: [Int])] = [:]
            for (one, met) in partners {
                let others = met.map(\.0).sorted()
                groups[others, default: ([], [])].one.append(one)
                groups[others]!.evidence += met.map(\.1)
            }
            return groups.map { ($0.value.one.sorted(), $0.key, $0.value.evidence) }
        }
        let byServer = grouped(by: \ConversationKey.server, \ConversationKey.client)
        let byClient = grouped(by: \ConversationKey.client, \ConversationKey.server)
        if byServer.count <= byClient.count { return byServer.map { Block(clients: $0.others, servers: $0.one, evidence: $0.evidence) } }
        return byClient.map { Block(clients: $0.one, servers: $0.others, evidence: $0.evidence) }
    }

    /// Neighbouring ports become a range.
    private static func joined(_ services: [ServiceRange]) -> [ServiceRange] {
        let sorted = services.sorted { ($0.ipProtocol.rawValue, $0.low.rawValue) < ($1.ipProtocol.rawValue, $1.low.rawValue) }
        return sorted.reduce(into: []) { ranges, one in
            guard let last = ranges.last, last.ipProtocol == one.ipProtocol, one.ipProtocol.hasPorts,
                Int(one.low.rawValue) <= Int(last.high.rawValue) + 1
            else { return ranges.append(one) }
            ranges[ranges.count - 1] = ServiceRange(one.ipProtocol, last.low, last.high.rawValue > one.high.rawValue ? last.high : one.high)
        }
    }

    /// Merges rules that differ on one side only, the cheapest first, until the budget is spent.
    private static func spend(_ rules: inout [ProposedRule], _ budget: Int, _ history: History) {
        var left = budget
        while left > 0, rules.count > 1, rules.count <= 2_000 {
            var best: (a: Int, b: Int, cost: Int)?
            for a in rules.indices {
                for b in (a + 1)..<max(a + 1, rules.count) {
                    guard rules[a].services == rules[b].services, rules[a].vlan == rules[b].vlan, rules[a].family == rules[b].family,
                        rules[a].hasFTPData == rules[b].hasFTPData
                    else { continue }
                    let clients = Set(rules[a].clients + rules[b].clients).count, servers = Set(rules[a].servers + rules[b].servers).count
                    let cost = clients * servers - rules[a].clients.count * rules[a].servers.count - rules[b].clients.count * rules[b].servers.count
                    if cost > 0, cost <= left, cost < best?.cost ?? .max { best = (a, b, cost) }
                }
            }
            guard let (a, b, cost) = best else { return }
            rules[a].clients = Array(Set(rules[a].clients + rules[b].clients)).sorted()
            rules[a].servers = Array(Set(rules[a].servers + rules[b].servers)).sorted()
            rules[a].evidence = (rules[a].evidence + rules[b].evidence).sorted()
            rules[a].unobserved += rules[b].unobserved + cost * rules[a].services.count
            rules.remove(at: b)
            left -= cost
        }
    }

    // MARK: - Names

    private static func named(_ rules: [ProposedRule], _ devices: [Device]) -> [ProposedRule] {
        let names = Dictionary(uniqueKeysWithValues: devices.map { ($0.address, $0) })
        var taken: [String: Int] = [:]
        return rules.map { rule in
            var rule = rule
            func side(_ addresses: [AddressWords]) -> String {
                if addresses.count == 1 { return names[addresses[0]]?.name ?? "device" }
                let roles = Set(addresses.map { names[$0]?.role ?? .device })
                return roles.count == 1 ? roles.first!.plural : "devices"
            }
            let service = rule.services.count == 1 ? Self.serviceName(rule.services[0]) : "\(Self.serviceName(rule.services[0]))-and-\(rule.services.count - 1)"
            let id = "\(side(rule.clients))-\(side(rule.servers))-\(service)".replacing("/", with: "-")
            taken[id, default: 0] += 1
            rule.id = taken[id]! == 1 ? id : "\(id)-\(taken[id]!)"
            return rule
        }
    }

    public static func serviceName(_ service: ServiceRange) -> String {
        service.written
    }

    private static func devices(_ history: History, _ used: Set<AddressWords>, _ accepted: [Int]) -> [Device] {
        var macs: [AddressWords: Set<MACAddress>] = [:]
        var owners: [MACAddress: Set<AddressWords>] = [:]
        for one in history.addresses {
            macs[one.address.address, default: []].insert(one.address.mac)
            owners[one.address.mac, default: []].insert(one.address.address)
        }
        let roles = Role.all(history, accepted)
        var families: [AddressWords: IPFamily] = [:]
        for one in history.conversations {
            families[one.key.client] = one.key.family
            families[one.key.server] = one.key.family
        }
        var taken: Set<String> = []
        return used.sorted().compactMap { address in
            guard let family = families[address] else { return nil }
            let role = roles[address] ?? .device
            let suffix = address.written(family).replacing(".", with: "-").replacing(":", with: "-")
            let isGroup = Learner.isGroup(address, family == .ipv6 ? .ipv6 : .ipv4)
            let name = isGroup ? "group-\(suffix)" : "\(role.rawValue)-\(suffix)"
            guard taken.insert(name).inserted else { return nil }
            let own = macs[address] ?? []
            // Several addresses behind one: a router's, or a device's own; nothing is bound then but what is sure.
            let mac = own.count == 1 && owners[own.first!]!.count == 1 && !isGroup ? own.first : nil
            return Device(name: name, address: address, family: family, mac: mac, role: isGroup ? .device : role)
        }
    }
}

/// Which conversations are data connections of FTP sessions between the same two.
struct FTPData {
    private let history: History
    private var sessions: [Pair: [Int]] = [:]
    private var with: Set<Int> = []

    private struct Pair: Hashable {
        var client: AddressWords
        var server: AddressWords
    }

    init(_ history: History, _ accepted: [Int]) {
        self.history = history
        for place in accepted {
            let key = history.conversations[place].key
            if key.ipProtocol == .tcp, key.service.rawValue == 21 { sessions[Pair(client: key.client, server: key.server), default: []].append(place) }
        }
    }

    /// Passive: the client opens a port above the well-known ones. Active: the server comes from port 20, which is not recorded, to a port of the client's.
    mutating func takes(_ place: Int) -> Bool {
        let one = history.conversations[place], key = one.key
        guard key.ipProtocol == .tcp, key.service.rawValue >= 1024 else { return false }
        guard let session = sessions[Pair(client: key.client, server: key.server)] ?? sessions[Pair(client: key.server, server: key.client)] else { return false }
        // A port that is used on many days is a service of its own.
        guard one.days.count <= 2, one.connections <= 4, key.service.rawValue >= 32768 || key.service.rawValue < 5000 else { return false }
        with.formUnion(session)
        return true
    }

    func hasData(_ place: Int) -> Bool { with.contains(place) }
}
