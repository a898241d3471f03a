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

    /// What it allows and nobody has done, in words; of a range the parts between what was done.
    public func unobservedPermissions(in history: History) -> [String] {
        if unobserved == 0 { return [] }
        let seen = Dictionary(grouping: evidence.map { history.conversations[$0].key }) { AddressPair($0.client, $0.server) }
        return clients.flatMap { client in
            servers.flatMap { server -> [String] in
                let own = seen[AddressPair(client, server)] ?? []
                return services.flatMap { service -> [String] in
                    let used = own.filter { $0.ipProtocol == service.ipProtocol }.map(\.service.rawValue).filter { service.contains(service.ipProtocol, Port(rawValue: $0)) }.sorted()
                    var parts: [ServiceRange] = [], next = Int(service.low.rawValue)
                    for port in used.map(Int.init) + [Int(service.high.rawValue) + 1] {
                        if port > next { parts.append(ServiceRange(service.ipProtocol, Port(rawValue: UInt16(next)), Port(rawValue: UInt16(port - 1)))) }
                        next = port + 1
                    }
                    return parts.map { "\(client.written(family)) → \(server.written(family)) \($0.written)" }
                }
            }
        }
    }
}

/// What is proposed, what waits and what was rejected, before any rule is made. Places in `History.conversations`.
public struct Standing: Sendable {
    public private(set) var accepted: [Int] = []
    public private(set) var waiting: [(Int, [ReviewReason])] = []
    public private(set) var rejected: [Int] = []
    let words: LastWords

    public init(_ history: History, _ review: Review) {
        var approved: Set<Int> = []
        words = LastWords(history)
        for (place, one) in history.conversations.enumerated() {
            // An approval is of what there was to see; what came later waits.
            if let decision = words.about(one.key, where: { $0.verdict == .reject || one.isSeen(by: $0.at) }) {
                if decision.verdict == .approve {
                    accepted.append(place)
                    approved.insert(place)
                } else {
                    rejected.append(place)
                }
            } else if review.reasons[place].isEmpty {
                accepted.append(place)
            } else {
                waiting.append((place, review.reasons[place]))
            }
        }
        // Data connections of FTP come with the rule for their session.
        let sessions = Set(accepted)
        waiting.removeAll { review.ftp.isData($0.0, besides: sessions) }
        accepted.removeAll { !approved.contains($0) && review.ftp.isData($0, besides: sessions) }
    }
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
        let standing = Standing(history, review)
        let (accepted, waiting, rejected, words) = (standing.accepted, standing.waiting, standing.rejected, standing.words)
        var knowledge = Knowledge(
            words: words, standIns: StandIns(history), generalized: Self.generalized(history, accepted, budget: budget), ftp: review.ftp,
            waiting: Set(waiting.map { history.conversations[$0.0].key }), refusedSessions: Set(rejected.flatMap { review.ftp.sessions(of: $0) }))
        var rules = Self.rules(history, accepted, knowledge)
        if includesReview {
            // What nobody has agreed to yet is given to nobody else.
            knowledge.generalized = []
            knowledge.standIns = .none
            knowledge.waiting = []
            let groups: [[ReviewReason]: [(Int, [ReviewReason])]] = Dictionary(grouping: waiting) { $0.1 }
            for (reasons, group) in groups.sorted(by: { $0.value[0].0 < $1.value[0].0 }) {
                var more = reasons.contains(.portRange) ? Self.ranges(history, group.map { $0.0 }, words) : Self.rules(history, group.map { $0.0 }, knowledge)
                for i in more.indices { more[i].reasons = Set(reasons) }
                rules += more
            }
        }
        var families: [AddressWords: IPFamily] = [:]
        for rule in rules {
            for address in rule.clients + rule.servers { families[address] = rule.family }
        }
        devices = Self.devices(history, families, accepted)
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

    /// What else is known than what was seen.
    private struct Knowledge {
        var words: LastWords
        var standIns: StandIns
        var generalized: Generalized
        var ftp: FTPData
        /// What waits: it is given by no word about others.
        var waiting: Set<ConversationKey>
        /// Sessions of FTP of whose data connections one was rejected.
        var refusedSessions: Set<Int>

        func hasData(_ place: Int) -> Bool { ftp.hasData(place) && !refusedSessions.contains(place) }
        func isClosed(_ key: ConversationKey) -> Bool { waiting.contains(key) || words.about(key)?.verdict == .reject }
        var closesAny: Bool { !waiting.isEmpty || words.hasRejections }
    }

    private static func rules(_ history: History, _ places: [Int], _ knowledge: Knowledge) -> [ProposedRule] {
        var lanes: [Lane: [Int]] = [:]
        for place in places {
            let key = history.conversations[place].key
            lanes[Lane(family: key.family, vlan: key.vlan, service: key.range), default: []].append(place)
        }
        var sides: [Sides: (services: [ServiceRange], evidence: [Int])] = [:]
        func add(_ lane: Lane, _ block: Block) {
            let isFTP = lane.service.ipProtocol == .tcp && lane.service.low.rawValue == 21 && block.evidence.contains { knowledge.hasData($0) }
            let side = Sides(family: lane.family, vlan: lane.vlan, clients: block.clients, servers: block.servers, hasFTPData: isFTP)
            sides[side, default: ([], [])].services.append(lane.service)
            sides[side]!.evidence += block.evidence
        }
        let whole = Dictionary(grouping: knowledge.generalized, by: \.lane)
        for (lane, places) in lanes {
            var rest = places
            for block in whole[lane] ?? [] {
                let clients = Set(block.clients), servers = Set(block.servers)
                func isInside(_ place: Int) -> Bool {
                    clients.contains(history.conversations[place].key.client) && servers.contains(history.conversations[place].key.server)
                }
                let given = Block(clients: block.clients, servers: block.servers, evidence: rest.filter(isInside))
                for block in withoutClosed(given, lane, history, knowledge) { add(lane, block) }
                rest.removeAll(where: isInside)
            }
            // Those who stand in for one another are one until it is known who may ask whom.
            let members = knowledge.standIns.of(lane.service)
            func node(_ address: AddressWords) -> AddressWords { members[address]?.first ?? address }
            let pairs = rest.map { place in
                let key = history.conversations[place].key
                return (pair: AddressPair(node(key.client), node(key.server)), place: Optional(place))
            }
            for var block in blocks(pairs) {
                if !members.isEmpty {
                    block.clients = Set(block.clients.flatMap { members[$0] ?? [$0] }).sorted()
                    block.servers = Set(block.servers.flatMap { members[$0] ?? [$0] }).sorted()
                }
                for block in withoutClosed(block, lane, history, knowledge) { add(lane, block) }
            }
        }
        return sides.map { side, what in
            let services = what.services.reduce(0) { $0 + $1.count }
            return ProposedRule(
                id: "", clients: side.clients, servers: side.servers, family: side.family, services: joined(what.services), vlan: side.vlan,
                hasFTPData: side.hasFTPData, evidence: what.evidence.sorted(),
                unobserved: side.clients.count * side.servers.count * services - Set(what.evidence.map { history.conversations[$0].key }).count)
        }.sorted { ($0.evidence.first ?? .max, $0.clients[0], $0.servers[0]) < ($1.evidence.first ?? .max, $1.clients[0], $1.servers[0]) }
    }

    /// What was rejected, or waits, is in no rule, whatever it is that the rule would have been made for.
    private static func withoutClosed(_ block: Block, _ lane: Lane, _ history: History, _ knowledge: Knowledge) -> [Block] {
        let isExact = block.evidence.count == block.clients.count * block.servers.count
        guard !isExact, knowledge.closesAny else { return [block] }
        var pairs: [(pair: AddressPair, place: Int?)] = []
        var seen: [AddressPair: Int] = [:]
        for place in block.evidence { seen[AddressPair(history.conversations[place].key.client, history.conversations[place].key.server)] = place }
        for client in block.clients {
            for server in block.servers {
                let key = ConversationKey(
                    client: client, server: server, service: lane.service.low, vlan: lane.vlan, ipProtocol: lane.service.ipProtocol, family: lane.family)
                let place = seen[AddressPair(client, server)]
                if place != nil || !knowledge.isClosed(key) { pairs.append((AddressPair(client, server), place)) }
            }
        }
        return pairs.count == block.clients.count * block.servers.count ? [block] : blocks(pairs)
    }

    /// One rule for all the ports between two: from the lowest to the highest, but for those that were rejected, and those of remote control.
    private static func ranges(_ history: History, _ places: [Int], _ words: LastWords) -> [ProposedRule] {
        let pairs = Dictionary(grouping: places) { place in
            let key = history.conversations[place].key
            return ConversationKey(
                client: key.client, server: key.server, service: Port(rawValue: 0), vlan: key.vlan, ipProtocol: key.ipProtocol, family: key.family)
        }
        return pairs.map { pair, places in
            let ports = Set(places.map { history.conversations[$0].key.service.rawValue })
            var services: [ServiceRange] = [], begin: UInt16?
            for port in ports.min()!...ports.max()! {
                var key = pair
                key.service = Port(rawValue: port)
                let isOpen = ports.contains(port) || Review.risky[port] == nil && words.about(key)?.verdict != .reject
                if isOpen { begin = begin ?? port }
                if let first = begin, !isOpen || port == ports.max()! {
                    services.append(ServiceRange(pair.ipProtocol, Port(rawValue: first), Port(rawValue: isOpen ? port : port - 1)))
                    begin = nil
                }
            }
            return ProposedRule(
                id: "", clients: [pair.client], servers: [pair.server], family: pair.family, services: services, vlan: pair.vlan, evidence: places.sorted(),
                unobserved: services.reduce(0) { $0 + $1.count } - ports.count)
        }.sorted { $0.evidence[0] < $1.evidence[0] }
    }

    private struct Block {
        var clients: [AddressWords]
        var servers: [AddressWords]
        var evidence: [Int]
    }

    /// Covers the pairs of one service by blocks "all of these to all of those" without any other pair.
    private static func blocks(_ pairs: [(pair: AddressPair, place: Int?)]) -> [Block] {
        typealias Group = (one: [AddressWords], others: [AddressWords], evidence: [Int])
        func grouped(by side: KeyPath<AddressPair, AddressWords>, _ other: KeyPath<AddressPair, AddressWords>) -> [Group] {
            var partners: [AddressWords: (others: Set<AddressWords>, evidence: [Int])] = [:]
            for (pair, place) in pairs {
                partners[pair[keyPath: side], default: ([], [])].others.insert(pair[keyPath: other])
                if let place { partners[pair[keyPath: side]]!.evidence.append(place) }
            }
            var groups: [[AddressWords]: (one: [AddressWords], evidence: [Int])] = [:]
            for (one, met) in partners {
                let others = met.others.sorted()
                groups[others, default: ([], [])].one.append(one)
                groups[others]!.evidence += met.evidence
            }
            return groups.map { ($0.value.one.sorted(), $0.key, $0.value.evidence) }
        }
        let byServer = grouped(by: \AddressPair.server, \AddressPair.client)
        let byClient = grouped(by: \AddressPair.client, \AddressPair.server)
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

    // MARK: - The budget

    /// A service of one kind of devices: what they ask for, or what they serve.
    private struct Custom: Hashable {
        var lane: Lane
        var kind: Int
        var serves: Bool
    }

    private typealias Generalized = [(lane: Lane, clients: [AddressWords], servers: [AddressWords])]

    /// Permissions that nobody has used, but that the devices' kinds make likely: all who were seen to ask some of a kind may ask all of
    /// it; all of a kind may ask whom some of it have asked. Where new pairs keep coming, the cheapest first, until the budget is spent.
    private static func generalized(_ history: History, _ accepted: [Int], budget: Int) -> Generalized {
        if budget <= 0 { return [] }
        let kinds = Kinds(history, accepted)
        struct Facts {
            var pairs: Set<AddressPair> = []
            var others: Set<AddressWords> = []
            var firstDays: Set<Int32> = []
            /// Seen on one day only: about as many are to be expected anew (Good–Turing).
            var rare = 0
        }
        var customs: [Custom: Facts] = [:]
        for place in accepted where !history.conversations[place].isToGroup {
            let one = history.conversations[place], key = one.key
            let lane = Lane(family: key.family, vlan: key.vlan, service: key.range)
            for serves in [true, false] {
                guard let kind = kinds[serves ? key.server : key.client] else { continue }
                var facts = customs.removeValue(forKey: Custom(lane: lane, kind: kind, serves: serves)) ?? Facts()
                facts.pairs.insert(AddressPair(key.client, key.server))
                facts.others.insert(serves ? key.client : key.server)
                if let day = one.days.first?.day { facts.firstDays.insert(day) }
                if one.days.count == 1 { facts.rare += 1 }
                customs[Custom(lane: lane, kind: kind, serves: serves)] = facts
            }
        }
        let ranked = customs.compactMap { custom, facts -> (custom: Custom, cost: Int, worth: Double, others: [AddressWords])? in
            // What came on one or two days only is an event, not a habit.
            guard facts.rare > 0, facts.pairs.count >= 3, facts.firstDays.count >= 3 else { return nil }
            let cost = kinds.members[custom.kind].count * facts.others.count - facts.pairs.count
            return cost > 0 ? (custom, cost, Double(facts.rare) / Double(cost), facts.others.sorted()) : nil
        }.sorted { $0.worth != $1.worth ? $0.worth > $1.worth : $0.cost < $1.cost }
        var chosen: Generalized = []
        var taken: Set<Custom> = []
        var left = budget
        for one in ranked where one.cost <= left {
            // The same service the other way round would overlap.
            if taken.contains(where: { $0.lane == one.custom.lane && $0.serves != one.custom.serves }) { continue }
            let members = kinds.members[one.custom.kind]
            chosen.append((one.custom.lane, one.custom.serves ? one.others : members, one.custom.serves ? members : one.others))
            taken.insert(one.custom)
            left -= one.cost
        }
        return chosen
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
            let service = rule.services[0].written + (rule.services.count == 1 ? "" : "-and-\(rule.services.count - 1)")
            let id = "\(side(rule.clients))-\(side(rule.servers))-\(service)".replacing("/", with: "-")
            taken[id, default: 0] += 1
            rule.id = taken[id]! == 1 ? id : "\(id)-\(taken[id]!)"
            return rule
        }
    }

    private static func devices(_ history: History, _ families: [AddressWords: IPFamily], _ accepted: [Int]) -> [Device] {
        var macs: [AddressWords: [MACAddress: (first: UInt64, last: UInt64)]] = [:]
        var owners: [MACAddress: Set<AddressWords>] = [:]
        for one in history.addresses {
            let old = macs[one.address.address]?[one.address.mac] ?? (.max, 0)
            macs[one.address.address, default: [:]][one.address.mac] = (min(old.first, one.first), max(old.last, one.last))
            owners[one.address.mac, default: []].insert(one.address.address)
        }
        let roles = Role.all(history, accepted)
        var taken: Set<String> = []
        return families.sorted { $0.key < $1.key }.map { address, family in
            let role = roles[address] ?? .device
            let suffix = address.written(family).replacing(".", with: "-").replacing(":", with: "-")
            let isGroup = address.isGroup(family)
            var name = isGroup ? "group-\(suffix)" : "\(role.rawValue)-\(suffix)"
            while !taken.insert(name).inserted { name += "-2" }
            // Whoever came first, unless it was gone before the next one came: a device that was replaced, not one that was impersonated.
            var own: (mac: MACAddress, last: UInt64)?
            for (mac, seen) in (macs[address] ?? [:]).sorted(by: { $0.value.first < $1.value.first }) where own == nil || seen.first > own!.last {
                own = (mac, seen.last)
            }
            // Several addresses behind one: a router's, or a device's own; nothing is bound then but what is sure.
            let mac = own.flatMap { owners[$0.mac]!.count == 1 && !isGroup ? $0.mac : nil }
            return Device(name: name, address: address, family: family, mac: mac, role: isGroup ? .device : role)
        }
    }
}
