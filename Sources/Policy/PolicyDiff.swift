// Two policies compared by what they mean, however they are written.
//
//   rules ─► regions ─► without those that both have ─► each minus all it meets in the other, and minus the rules before
//   it in its own file ─► pieces that do not overlap ─► rows with the policy's own names

import Allowlist
import Frames

/// What changes if policy B takes the place of policy A.
public struct PolicyDiff: Sendable {
    /// Conversations of one rule.
    public struct Row: Sendable, Hashable {
        public var rule: String
        public var from: NamedAddresses
        public var to: NamedAddresses
        public var services: [String]
        /// nil: whatever the tag.
        public var vlans: String?
        /// Where the client is; nil: either side.
        public var side: Side?
        /// nil: both.
        public var family: IPFamily?
        /// Whether the names stand for addresses of the other family too, which are not meant.
        public var isOneFamilyOfTwo = false
    }

    public struct Rows: Sendable {
        public var rows: [Row] = []
        /// Pieces beyond those that are told.
        public var more = 0

        public var count: Int { rows.count + more }
    }

    /// What is not a question of who may talk to whom.
    public struct Change: Sendable {
        public enum Kind: String, Sendable {
            case mode, ethertype, binding, flows, trial, mirror, expiry
            case onFailure = "on_failure"
            case state
        }

        public var kind: Kind
        public var subject: String
        public var before: String
        public var after: String
        /// By which rules A and B allow what is treated otherwise.
        public var rules: [RulePair] = []
    }

    public struct RulePair: Sendable, Hashable {
        public var a: String
        public var b: String
    }

    /// What B allows and A does not.
    public let gained: Rows
    /// What A allows and B does not.
    public let lost: Rows
    public let changes: [Change]
    /// Ids of rules that have expired and do not count.
    public let expired: (a: [String], b: [String])
    /// Whether everything was compared; false: the rules overlap so much that it would take too long.
    public let isComplete: Bool
    /// Mode of A and of B.
    public let modes: (a: Mode, b: Mode)

    /// Holds if `isComplete`.
    public var isSame: Bool { gained.count == 0 && lost.count == 0 && changes.isEmpty }

    /// - Parameters:
    ///   - now: seconds since 1970; expired rules do not count.
    ///   - most: pieces told of each direction; the rest is counted.
    ///   - work: how much may be done; what an ordinary pair of ten thousand rules needs is a hundredth of it.
    public init(_ a: PolicyDocument, _ b: PolicyDocument, now: Int64, most: Int = 1_000, work: Int = 200_000_000) {
        let spaces = (a: PolicySpace(a, now: now), b: PolicySpace(b, now: now))
        var budget = WorkBudget(work)
        let more = SpaceDifference(of: spaces.b, without: spaces.a, most: most, &budget)
        let fewer = SpaceDifference(of: spaces.a, without: spaces.b, most: most, &budget)
        let names = (a: PolicyNames(a), b: PolicyNames(b))
        gained = Rows(rows: Self.rows(more.pieces, b, names.b), more: more.more)
        lost = Rows(rows: Self.rows(fewer.pieces, a, names.a), more: fewer.more)
        var changes = Self.settings(a, b) + Self.bindings(a, b, names)
        changes += Self.treatments(a, b, spaces, &budget)
        changes += Self.expiries(a, b, spaces, &budget)
        self.changes = changes
        expired = (a.rules.filter { $0.isExpired(at: now) }.map(\.id), b.rules.filter { $0.isExpired(at: now) }.map(\.id))
        isComplete = !budget.isSpent
        modes = (a.mode, b.mode)
    }

    /// In a sentence.
    public var summary: String { summary(a: "A", b: "B") }

    /// - Parameters:
    ///   - a: what policy A is called.
    ///   - b: what policy B is called.
    public func summary(a: String, b: String) -> String {
        if isSame { return isComplete ? "\(a) and \(b) mean the same" : "no difference was found, but the rules were not compared to the end" }
        func kinds(_ count: Int) -> String { "\(count) kind\(count == 1 ? "" : "s") of conversation" }
        var parts: [String] = []
        switch (gained.count, lost.count) {
        case (0, 0): parts.append("\(b) lets the same conversations pass")
        case (let more, 0): parts.append("\(b) lets \(kinds(more)) more pass")
        case (0, let fewer): parts.append("\(b) lets \(kinds(fewer)) fewer pass")
        case (let more, let fewer): parts.append("\(b) lets \(kinds(more)) more pass, \(fewer) fewer")
        }
        if modes.a != modes.b { parts.append("mode changes from \(modes.a.name) to \(modes.b.name)") }
        let others = changes.count { $0.kind != .mode }
        if others > 0 { parts.append("\(others) other change\(others == 1 ? "" : "s")") }
        if !isComplete { parts.append("the rules were not compared to the end") }
        return parts.joined(separator: "; ")
    }
}

// MARK: - Differences of sets

/// What one policy allows and another does not: pieces that do not overlap, each of the first rule that allows it.
struct SpaceDifference {
    struct Piece {
        var lane: Lane
        var region: Region
        /// By index in the document.
        var rule: Int
    }

    var pieces: [Piece] = []
    /// Pieces beyond `most`.
    var more = 0

    init(of space: PolicySpace, without other: PolicySpace, most: Int, _ budget: inout WorkBudget) {
        for lane in space.lanes.keys.sorted() {
            // Most rules are in both.
            let others = other.lanes[lane] ?? []
            var known = Set(others.map(\.region))
            let fresh = space.lanes[lane]!.filter { known.insert($0.region).inserted }
            if fresh.isEmpty { continue }
            let before = RegionIndex(others), own = RegionIndex(fresh)
            for (place, part) in fresh.enumerated() where !budget.isSpent {
                var taken = before.meeting(part.region, &budget).map { others[$0].region }
                taken += own.meeting(part.region, &budget).prefix { $0 < place }.map { fresh[$0].region }
                var found: [Region] = []
                part.region.forEachPiece(without: taken, &budget) { piece in
                    if found.count < most { found.append(piece) } else { more += 1 }
                    return true
                }
                for region in Region.joined(found) {
                    if pieces.count < most { pieces.append(Piece(lane: lane, region: region, rule: part.rule)) } else { more += 1 }
                }
            }
        }
    }
}

extension Region {
    /// Calls `body` with what is left of the region without `others`, in pieces that do not overlap, until it says false.
    ///
    /// - Returns: whether it never did.
    @discardableResult
    func forEachPiece(without others: [Region], _ budget: inout WorkBudget, _ body: (Region) -> Bool) -> Bool {
        var taken = others.compactMap { other in
            budget.spend(other.spanCount)
            return other.intersection(self)
        }
        // Many rules between hosts may be one network here.
        if taken.count > 4 { taken = Region.joined(taken) }
        if taken.count > Self.few {
            for axis in [0, 1] {
                guard let parts = split(axis, taken, &budget) else { continue }
                for (part, taken) in parts where !budget.isSpent {
                    if !part.forEachPiece(without: taken, &budget, body) { return false }
                }
                return true
            }
        }
        // What takes most first: what it covers need not be cut up.
        taken = taken.map { ($0, $0.size) }.sorted { $0.1 > $1.1 }.map(\.0)
        var stack = [(piece: self, next: 0)]
        while let (piece, start) = stack.popLast() {
            var next = start
            while next < taken.count, !taken[next].meets(piece) { next += 1 }
            budget.spend(next - start + 1)
            if budget.isSpent { return true }
            if next == taken.count {
                if !body(piece) { return false }
                continue
            }
            budget.spend(piece.spanCount + taken[next].spanCount)
            for rest in piece.subtracting(taken[next]).reversed() { stack.append((rest, next + 1)) }
        }
        return true
    }

    /// So many are taken away one after the other; more are first told apart by address.
    private static let few = 16

    /// Parts with different addresses on one axis, and which of `taken` (all inside the region) each part meets. nil: it is not
    /// divided by them.
    private func split(_ axis: Int, _ taken: [Region], _ budget: inout WorkBudget) -> [(Region, [Region])]? {
        if taken.allSatisfy({ $0[axis] == self[axis] }) { return nil }
        var begins: [UInt128: [Int]] = [:]
        var ends: [UInt128: [Int]] = [:]
        for (place, one) in taken.enumerated() {
            for span in one[axis].spans {
                begins[span.low, default: []].append(place)
                // Nothing begins behind the last number there is.
                if span.high != .max { ends[span.high + 1, default: []].append(place) }
            }
        }
        let points = Set(begins.keys).union(ends.keys).sorted()
        var active: Set<Int> = []
        var parts: [[Int]: [Spans.Span]] = [:]
        for (index, point) in points.enumerated() where !budget.isSpent {
            for place in ends[point] ?? [] { active.remove(place) }
            for place in begins[point] ?? [] { active.insert(place) }
            budget.spend(active.count + 1)
            if active.isEmpty { continue }
            parts[active.sorted(), default: []].append(
                Spans.Span(low: point, high: index + 1 < points.count ? points[index + 1] - 1 : self[axis].spans.last!.high))
        }
        var result: [(Region, [Region])] = []
        for (places, spans) in parts.sorted(by: { $0.value[0].low < $1.value[0].low }) {
            var part = self
            part[axis] = Spans(spans)
            result.append((part, places.map { taken[$0] }))
        }
        let rest = self[axis].subtracting(Spans(parts.values.flatMap { $0 }))
        if !rest.isEmpty {
            var part = self
            part[axis] = rest
            result.append((part, []))
        }
        return result
    }
}

// MARK: - Rows

extension PolicyDiff {
    private static func rows(_ pieces: [SpaceDifference.Piece], _ document: PolicyDocument, _ names: PolicyNames) -> [Row] {
        // Services of the same rule between the same are one row; so are the two families, if they have the same services.
        var services: [Row: [String]] = [:]
        var order: [(row: Row, rule: Int)] = []
        for piece in pieces {
            let rule = document.rules[piece.rule], family = piece.lane.family, region = piece.region
            let row = Row(
                rule: rule.id,
                from: names.named(region.clients, of: Spans(rule.clients, family), family, preferring: rule.from),
                to: names.named(region.servers, of: Spans(rule.servers, family), family, preferring: rule.to), services: [],
                vlans: vlans(region.vlans), side: region.sides == .sides ? nil : region.sides.contains(0) ? .inside : .outside, family: family)
            if services[row] == nil { order.append((row, piece.rule)) }
            services[row, default: []] += piece.lane.written(region.ports)
        }
        var families: [Row: [IPFamily]] = [:]
        var merged: [(row: Row, rule: Int)] = []
        for (row, rule) in order {
            var key = row
            key.family = nil
            // "icmp/echo" is how a policy says both.
            key.services = services[row]!.map { $0.hasPrefix("icmpv6/") ? "icmp/" + $0.dropFirst("icmpv6/".count) : $0 }
            if families[key] == nil { merged.append((key, rule)) }
            families[key, default: []].append(row.family!)
        }
        return merged.enumerated().sorted { ($0.element.rule, $0.offset) < ($1.element.rule, $1.offset) }.map { _, entry in
            var row = entry.row
            guard let family = families[row]?.first, families[row]?.count == 1 else { return row }
            row.family = family
            row.isOneFamilyOfTwo = [row.from, row.to].allSatisfy { $0.names.contains(where: names.isOfBothFamilies) }
            return row
        }
    }

    private static func vlans(_ set: Spans) -> String? {
        if set == .vlans { return nil }
        func written(_ set: Spans) -> String {
            set.spans.flatMap { span -> [String] in
                let low = span.low == 0 ? ["untagged"] : []
                let first = max(span.low, 1)
                return first > span.high ? low : low + [first == span.high ? "\(first)" : "\(first)-\(span.high)"]
            }.joined(separator: ", ")
        }
        let others = Spans.vlans.subtracting(set)
        return others.spans.count < set.spans.count ? "all but \(written(others))" : written(set)
    }
}

extension Lane {
    /// Ports as they would be written in a policy.
    func written(_ ports: Spans) -> [String] {
        let name = ServiceRange(ipProtocol, Port(rawValue: 0), Port(rawValue: 0)).written.split(separator: "/")[0]
        if ports == allPorts { return ["\(name)/any"] }
        guard ipProtocol == .icmp || ipProtocol == .icmpv6 else {
            return ports.spans.map { $0.low == $0.high ? "\(name)/\($0.low)" : "\(name)/\($0.low)-\($0.high)" }
        }
        return ports.spans.flatMap { span in
            icmpPieces(ServiceRange(ipProtocol, Port(rawValue: UInt16(span.low)), Port(rawValue: UInt16(span.high)))).flatMap { piece in
                piece.types.map { type in
                    let known = WrittenService.icmpName(UInt8(type), ipProtocol)
                    if piece.codes == 0...255 { return "\(name)/\(type)" }
                    if piece.codes == 0...0, let known { return "\(name)/\(known)" }
                    return "\(name)/\(type) code \(piece.codes.lowerBound)"
                        + (piece.codes.count > 1 ? "-\(piece.codes.upperBound)" : "")
                }
            }
        }
    }
}

// MARK: - Everything else

extension PolicyDiff {
    private static func settings(_ a: PolicyDocument, _ b: PolicyDocument) -> [Change] {
        var changes: [Change] = []
        func compare(_ kind: Change.Kind, _ subject: String, _ before: String, _ after: String) {
            if before != after { changes.append(Change(kind: kind, subject: subject, before: before, after: after)) }
        }
        compare(.mode, "mode", a.mode.name, b.mode.name)
        let types = (a: Set(a.etherTypes.map(\.rawValue)), b: Set(b.etherTypes.map(\.rawValue)))
        for type in types.a.symmetricDifference(types.b).sorted() {
            let passes = types.b.contains(type)
            compare(
                .ethertype, EtherTypeNames.name(EtherType(rawValue: type)), passes ? "denied" : "passes", passes ? "passes" : "denied")
        }
        let causes: [(String, KeyPath<FailureActions, FailureAction>)] = [
            ("starting", \.starting), ("worker_dead", \.workerDead), ("stopping", \.stopping),
        ]
        for (name, actions) in causes {
            compare(.onFailure, name, a.failing.actions[keyPath: actions].name, b.failing.actions[keyPath: actions].name)
        }
        func full(_ passes: Bool) -> String { passes ? "the rules alone judge" : "closed" }
        compare(.onFailure, "flow_table_full", full(a.failing.fullPasses), full(b.failing.fullPasses))
        compare(.onFailure, "deadline_ms", "\(a.failing.deadline)", "\(b.failing.deadline)")
        func datapath(_ plan: FailurePlan) -> String { plan.onlyKernel ? "kernel" : "worker" }
        compare(.onFailure, "datapath", datapath(a.failing), datapath(b.failing))
        compare(.state, "flows", "\(a.flows.flows)", "\(b.flows.flows)")
        compare(.state, "reply_s", "\(a.flows.graceSeconds)", "\(b.flows.graceSeconds)")
        return changes
    }

    /// By address: a device may have another name and mean the same.
    private static func bindings(_ a: PolicyDocument, _ b: PolicyDocument, _ names: (a: PolicyNames, b: PolicyNames)) -> [Change] {
        struct Binding: Hashable {
            var macs: Set<MACAddress> = []
            var side: Side?

            var text: String {
                let parts = macs.map(\.written).sorted() + (side.map { ["\($0)"] } ?? [])
                return parts.isEmpty ? "not bound" : parts.joined(separator: ", ")
            }
        }
        func bindings(_ document: PolicyDocument) -> [AddressPrefix: Binding] {
            var result: [AddressPrefix: Binding] = [:]
            for device in document.devices where !device.macs.isEmpty || device.side != nil {
                for address in device.addresses { result[address] = Binding(macs: Set(device.macs), side: device.side) }
            }
            return result
        }
        let bound = (a: bindings(a), b: bindings(b))
        var order: [[String]] = []
        var addresses: [[String]: [String]] = [:]
        for address in Set(bound.a.keys).union(bound.b.keys).sorted(by: { ($0.family.rawValue, $0.words) < ($1.family.rawValue, $1.words) }) {
            let before = bound.a[address] ?? Binding(), after = bound.b[address] ?? Binding()
            if before == after { continue }
            var name = names.b.name(address.words, address.family)
            if name == address.written { name = names.a.name(address.words, address.family) }
            let key = [name, before.text, after.text]
            if addresses[key] == nil { order.append(key) }
            addresses[key, default: []].append(address.written)
        }
        return order.map { key in
            let own = addresses[key]!
            return Change(
                kind: .binding, subject: own == [key[0]] ? key[0] : "\(key[0]) (\(own.joined(separator: ", ")))", before: key[1], after: key[2])
        }
    }

    /// What is asked of flows that both allow, and whether they are on trial.
    private static func treatments(
        _ a: PolicyDocument, _ b: PolicyDocument, _ spaces: (a: PolicySpace, b: PolicySpace), _ budget: inout WorkBudget
    ) -> [Change] {
        let kinds: [(Change.Kind, String)] = [(.flows, "tcp"), (.flows, "midstream"), (.flows, "ftp_data"), (.flows, "reply_s"), (.trial, "mode of a rule"), (.mirror, "mirror")]
        func treatment(_ rule: PolicyDocument.Rule, _ lane: Lane) -> [String] {
            // What a protocol does not know makes no difference.
            let isTCP = lane.ipProtocol == .tcp, flows = rule.flows
            return [
                isTCP && flows.isStrict ? "strict" : "loose", isTCP && !flows.picksUp ? "false" : "true",
                isTCP && flows.expectsData ? "true" : "false", isTCP ? "" : "\(flows.replySeconds)",
                rule.isMonitored ? "monitor" : "enforce", rule.isMirrored ? "true" : "false",
            ]
        }
        // The first rule of the file is the one whose options hold.
        let found = pairs(a, b, spaces, &budget, value: treatment, order: { regions, _ in regions })
        var order: [[String]] = []
        var changes: [[String]: Change] = [:]
        var told: [[String]: Set<RulePair>] = [:]
        for (before, after, rules) in found {
            for (place, (kind, subject)) in kinds.enumerated() where before[place] != after[place] {
                let key = [subject, before[place], after[place]]
                if changes[key] == nil {
                    order.append(key)
                    changes[key] = Change(kind: kind, subject: subject, before: key[1], after: key[2])
                }
                for pair in rules where told[key, default: []].insert(pair).inserted { changes[key]!.rules.append(pair) }
            }
        }
        return order.map { changes[$0]! }
    }

    /// Until when what both allow is allowed.
    private static func expiries(
        _ a: PolicyDocument, _ b: PolicyDocument, _ spaces: (a: PolicySpace, b: PolicySpace), _ budget: inout WorkBudget
    ) -> [Change] {
        // The rule that goes on the longest is the one that counts.
        let found = pairs(
            a, b, spaces, &budget, value: { rule, _ in rule.expires ?? .max },
            order: { regions, document in
                regions.enumerated().sorted { x, y in
                    let (one, other) = (document.rules[x.element.rule].expires ?? .max, document.rules[y.element.rule].expires ?? .max)
                    return one != other ? one > other : x.offset < y.offset
                }.map(\.element)
            })
        func written(_ time: Int64) -> String { time == .max ? "never" : PolicyExport.written(time) }
        return found.map { before, after, rules in
            Change(kind: .expiry, subject: "expires", before: written(before), after: written(after), rules: rules)
        }
    }

    /// Rules by which A and B allow the same and treat it otherwise. Of rules that overlap, the first of `order` counts.
    private static func pairs<Value: Hashable>(
        _ a: PolicyDocument, _ b: PolicyDocument, _ spaces: (a: PolicySpace, b: PolicySpace), _ budget: inout WorkBudget,
        value: (PolicyDocument.Rule, Lane) -> Value, order: ([RuleRegion], PolicyDocument) -> [RuleRegion]
    ) -> [(before: Value, after: Value, rules: [RulePair])] {
        var keys: [BeforeAndAfter<Value>] = []
        var known: [BeforeAndAfter<Value>: Set<RulePair>] = [:]
        var rules: [BeforeAndAfter<Value>: [RulePair]] = [:]
        for lane in spaces.a.lanes.keys.sorted() {
            guard let theirs = spaces.b.lanes[lane] else { continue }
            let mine = spaces.a.lanes[lane]!
            let values = (a: mine.map { value(a.rules[$0.rule], lane) }, b: theirs.map { value(b.rules[$0.rule], lane) })
            if Set(values.a).union(values.b).count < 2 { continue }
            let before = RegionIndex(order(mine, a)), after = RegionIndex(order(theirs, b))
            let valuesBefore = before.regions.map { value(a.rules[$0.rule], lane) }
            for (place, part) in after.regions.enumerated() where !budget.isSpent {
                let own = value(b.rules[part.rule], lane)
                let met = before.meeting(part.region, &budget)
                for other in met where valuesBefore[other] != own {
                    let key = BeforeAndAfter(before: valuesBefore[other], after: own)
                    let pair = RulePair(a: a.rules[before.regions[other].rule].id, b: b.rules[part.rule].id)
                    if known[key]?.contains(pair) == true { continue }
                    guard let both = part.region.intersection(before.regions[other].region) else { continue }
                    let earlier =
                        after.meeting(both, &budget).prefix { $0 < place }.map { after.regions[$0].region }
                        + met.prefix { $0 < other }.map { before.regions[$0].region }
                    var isThere = false
                    both.forEachPiece(without: earlier, &budget) { _ in
                        isThere = true
                        return false
                    }
                    guard isThere else { continue }
                    if rules[key] == nil { keys.append(key) }
                    known[key, default: []].insert(pair)
                    rules[key, default: []].append(pair)
                }
            }
        }
        return keys.map { ($0.before, $0.after, rules[$0]!) }
    }
}

private struct BeforeAndAfter<Value: Hashable>: Hashable {
    var before: Value
    var after: Value
}
