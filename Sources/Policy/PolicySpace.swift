// What a policy allows as a set: who may open a conversation, to whom, at which port, in which VLAN, from which side.
//
// A rule is a product of five sets, for each family and protocol. Products stay as they are, however many pairs they
// stand for: taking one from another leaves at most five of them.

import Allowlist
import Frames

/// A set of numbers: spans in order, which neither meet nor touch, so that equal sets are equal however they were written.
struct Spans: Hashable, Sendable {
    struct Span: Hashable, Sendable {
        var low: UInt128
        var high: UInt128
    }

    private(set) var spans: [Span]

    static let none = Spans(sorted: [])

    init(_ low: UInt128, _ high: UInt128) { spans = [Span(low: low, high: high)] }

    private init(sorted spans: [Span]) { self.spans = spans }

    init(_ unsorted: [Span]) {
        guard unsorted.count > 1 else {
            spans = unsorted
            return
        }
        spans = []
        for span in unsorted.sorted(by: { $0.low < $1.low }) {
            // Not `high + 1`: that may be beyond the last number there is.
            if let last = spans.last, span.low <= last.high || span.low - 1 == last.high {
                if span.high > last.high { spans[spans.count - 1].high = span.high }
            } else {
                spans.append(span)
            }
        }
    }

    init(_ prefixes: [AddressPrefix], _ family: IPFamily) {
        self.init(prefixes.filter { $0.family == family }.map(\.span))
    }

    var isEmpty: Bool { spans.isEmpty }

    /// How many numbers, as far as that matters for an order.
    var size: Double { spans.reduce(0) { $0 + Double($1.high - $1.low) + 1 } }

    /// The first span that does not end before `number`.
    private func first(from number: UInt128) -> Int {
        var (low, high) = (0, spans.count)
        while low < high {
            let middle = (low + high) / 2
            if spans[middle].high < number { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func contains(_ number: UInt128) -> Bool {
        let place = first(from: number)
        return place < spans.count && spans[place].low <= number
    }

    func meets(_ other: Spans) -> Bool {
        let (few, many) = spans.count <= other.spans.count ? (self, other) : (other, self)
        guard let low = few.spans.first?.low, let high = few.spans.last?.high, let start = many.spans.first?.low,
            let end = many.spans.last?.high, low <= end, start <= high
        else { return false }
        for span in few.spans {
            let place = many.first(from: span.low)
            if place < many.spans.count, many.spans[place].low <= span.high { return true }
        }
        return false
    }

    func contains(_ other: Spans) -> Bool {
        other.spans.allSatisfy { span in
            let place = first(from: span.low)
            return place < spans.count && spans[place].low <= span.low && span.high <= spans[place].high
        }
    }

    func intersection(_ other: Spans) -> Spans {
        if spans == other.spans { return self }
        let (few, many) = spans.count <= other.spans.count ? (self, other) : (other, self)
        var result: [Span] = []
        for span in few.spans {
            var place = many.first(from: span.low)
            while place < many.spans.count, many.spans[place].low <= span.high {
                result.append(Span(low: max(span.low, many.spans[place].low), high: min(span.high, many.spans[place].high)))
                place += 1
            }
        }
        return Spans(sorted: result)
    }

    func subtracting(_ other: Spans) -> Spans {
        var result: [Span] = []
        for span in spans {
            var low = span.low
            var place = other.first(from: low)
            var isLeft = true
            while place < other.spans.count, other.spans[place].low <= span.high {
                let taken = other.spans[place]
                if taken.low > low { result.append(Span(low: low, high: taken.low - 1)) }
                if taken.high >= span.high {
                    isLeft = false
                    break
                }
                low = taken.high + 1
                place += 1
            }
            if isLeft { result.append(Span(low: low, high: span.high)) }
        }
        return Spans(sorted: result)
    }

    /// Addresses as the fewest networks.
    func prefixes(_ family: IPFamily) -> [AddressPrefix] {
        var result: [AddressPrefix] = []
        for span in spans {
            var low = span.low
            while true {
                // The widest network that begins here and ends within.
                var free = min(family.bits, low.trailingZeroBitCount)
                while Self.ones(free) > span.high - low { free -= 1 }
                result.append(
                    AddressPrefix(
                        family: family, words: AddressWords(number: low),
                        length: family.bits - free))
                let last = low + Self.ones(free)
                if last == span.high { break }
                low = last + 1
            }
        }
        return result
    }

    /// The highest number of so many bits.
    static func ones(_ bits: Int) -> UInt128 { bits == 0 ? 0 : UInt128.max >> UInt128(128 - bits) }

    static func addresses(_ family: IPFamily) -> Spans { Spans(0, ones(family.bits)) }
    static let ports = Spans(0, 65535)
    static let vlans = Spans(0, 4095)
    static let sides = Spans(0, 1)
}

extension AddressWords {
    var number: UInt128 { UInt128(high) << 64 | UInt128(low) }

    init(number: UInt128) { self.init(high: UInt64(truncatingIfNeeded: number >> 64), low: UInt64(truncatingIfNeeded: number)) }
}

extension AddressPrefix {
    var span: Spans.Span { Spans.Span(low: words.number, high: words.number | Spans.ones(family.bits - length)) }
}

/// What is compared with each other: addresses of one family, ports of one protocol.
struct Lane: Hashable, Comparable, Sendable {
    var family: IPFamily
    var ipProtocol: IPProtocol

    static func < (a: Lane, b: Lane) -> Bool {
        (a.family.rawValue, a.ipProtocol.rawValue) < (b.family.rawValue, b.ipProtocol.rawValue)
    }

    /// ICMP types that rules are asked about: errors, answers and neighbour discovery pass by other ways, or not at all.
    private static let requests: [IPFamily: Spans] = Dictionary(
        uniqueKeysWithValues: IPFamily.allCases.map { family in
            let types = ICMPRole.all(family).enumerated().filter { $0.element == .request }
            return (family, Spans(types.map { Spans.Span(low: UInt128($0.offset) << 8, high: UInt128($0.offset) << 8 | 255) }))
        })

    /// Ports that a rule can match.
    var allPorts: Spans {
        if ipProtocol == .icmp || ipProtocol == .icmpv6 { return Self.requests[family]! }
        return ipProtocol.hasPorts ? .ports : Spans(0, 0)
    }
}

/// Every combination of these five.
struct Region: Hashable, Sendable {
    var clients: Spans
    var servers: Spans
    var ports: Spans
    var vlans: Spans
    var sides: Spans

    static let axes = 5

    subscript(_ axis: Int) -> Spans {
        get {
            switch axis {
            case 0: clients
            case 1: servers
            case 2: ports
            case 3: vlans
            default: sides
            }
        }
        set {
            switch axis {
            case 0: clients = newValue
            case 1: servers = newValue
            case 2: ports = newValue
            case 3: vlans = newValue
            default: sides = newValue
            }
        }
    }

    var size: Double { clients.size * servers.size * ports.size * vlans.size * sides.size }
    /// What it costs to look through it.
    var spanCount: Int { clients.spans.count + servers.spans.count + ports.spans.count + vlans.spans.count + 1 }

    func meets(_ other: Region) -> Bool {
        servers.meets(other.servers) && clients.meets(other.clients) && ports.meets(other.ports) && vlans.meets(other.vlans)
            && sides.meets(other.sides)
    }

    /// nil: they have nothing in common.
    func intersection(_ other: Region) -> Region? {
        guard meets(other) else { return nil }
        return Region(
            clients: clients.intersection(other.clients), servers: servers.intersection(other.servers),
            ports: ports.intersection(other.ports), vlans: vlans.intersection(other.vlans), sides: sides.intersection(other.sides))
    }

    /// What is left without `other`, which it meets: pieces that do not meet each other.
    func subtracting(_ other: Region) -> [Region] {
        var pieces: [Region] = []
        var rest = self
        for axis in 0..<Self.axes {
            let left = rest[axis].subtracting(other[axis])
            if left.isEmpty { continue }
            var piece = rest
            piece[axis] = left
            pieces.append(piece)
            rest[axis] = rest[axis].intersection(other[axis])
        }
        return pieces
    }

    /// The same set in fewer regions: those that differ in one of the five only become one.
    static func joined(_ regions: [Region]) -> [Region] {
        var regions = regions
        while regions.count > 1 {
            let before = regions.count
            for axis in [2, 3, 4, 0, 1] where regions.count > 1 {
                var places: [Region: Int] = [:]
                var parts: [[Spans.Span]] = []
                var kept: [Region] = []
                for region in regions {
                    var key = region
                    key[axis] = .none
                    if let place = places[key] {
                        parts[place] += region[axis].spans
                    } else {
                        places[key] = kept.count
                        parts.append(region[axis].spans)
                        kept.append(key)
                    }
                }
                for place in kept.indices { kept[place][axis] = Spans(parts[place]) }
                regions = kept
            }
            if regions.count == before { break }
        }
        return regions
    }
}

/// A region and the rule it is of, by index in the document.
struct RuleRegion: Sendable {
    var region: Region
    var rule: Int
}

/// A policy's rules as regions, at a point in time.
struct PolicySpace: Sendable {
    /// In the order of the file.
    var lanes: [Lane: [RuleRegion]] = [:]

    init(_ document: PolicyDocument, now: Int64) {
        // Groups come in many rules: their sets are made once, and shared.
        var known: [IPFamily: [[AddressPrefix]: Spans]] = [:]
        func addresses(_ prefixes: [AddressPrefix], _ family: IPFamily) -> Spans {
            if prefixes.count == 1 { return prefixes[0].family == family ? Spans([prefixes[0].span]) : .none }
            if let spans = known[family]?[prefixes] { return spans }
            let spans = Spans(prefixes, family)
            known[family, default: [:]][prefixes] = spans
            return spans
        }
        for (index, rule) in document.rules.enumerated() where !rule.isExpired(at: now) {
            let vlans = rule.vlans.isEmpty ? Spans.vlans : Spans(rule.vlans.map { Spans.Span(low: UInt128($0.rawValue), high: UInt128($0.rawValue)) })
            let sides = rule.side.map { Spans(UInt128($0.rawValue), UInt128($0.rawValue)) } ?? .sides
            for family in IPFamily.allCases {
                let clients = addresses(rule.clients, family), servers = addresses(rule.servers, family)
                if clients.isEmpty || servers.isEmpty { continue }
                var ports: [IPProtocol: [Spans.Span]] = [:]
                for service in rule.services where service.applies(to: family) {
                    ports[service.ipProtocol, default: []].append(
                        Spans.Span(low: UInt128(service.low.rawValue), high: UInt128(service.high.rawValue)))
                }
                for (ipProtocol, spans) in ports {
                    let lane = Lane(family: family, ipProtocol: ipProtocol)
                    let possible = Spans(spans).intersection(lane.allPorts)
                    if possible.isEmpty { continue }
                    lanes[lane, default: []].append(
                        RuleRegion(
                            region: Region(clients: clients, servers: servers, ports: possible, vlans: vlans, sides: sides), rule: index))
                }
            }
        }
    }
}

/// Finds the regions that may meet another: by their clients or by their servers, whichever tells more.
struct RegionIndex {
    let regions: [RuleRegion]
    private let clients: SpanIndex
    private let servers: SpanIndex

    init(_ regions: [RuleRegion]) {
        self.regions = regions
        clients = SpanIndex(regions.map(\.region.clients))
        servers = SpanIndex(regions.map(\.region.servers))
    }

    /// Places of those that meet `region`, in order.
    func meeting(_ region: Region, _ budget: inout WorkBudget) -> [Int] {
        let byClients = clients.count(region.clients), byServers = servers.count(region.servers)
        let found = byServers <= byClients ? servers.meeting(region.servers) : clients.meeting(region.clients)
        budget.spend(found.count + region.spanCount)
        return found.filter { regions[$0].region.meets(region) }
    }
}

/// Spans by where they begin, with the furthest end of every subtree of the binary search.
private struct SpanIndex {
    private struct Entry {
        var span: Spans.Span
        var owner: Int
    }

    private let entries: [Entry]
    private let furthest: [UInt128]
    private let ends: [UInt128]

    init(_ sets: [Spans]) {
        var entries: [Entry] = []
        for (owner, set) in sets.enumerated() {
            for span in set.spans { entries.append(Entry(span: span, owner: owner)) }
        }
        entries.sort { $0.span.low < $1.span.low }
        var furthest = [UInt128](repeating: 0, count: entries.count)
        func fill(_ low: Int, _ high: Int) -> UInt128 {
            guard low < high else { return 0 }
            let middle = (low + high) / 2
            furthest[middle] = max(entries[middle].span.high, fill(low, middle), fill(middle + 1, high))
            return furthest[middle]
        }
        _ = fill(0, entries.count)
        self.entries = entries
        self.furthest = furthest
        ends = entries.map(\.span.high).sorted()
    }

    /// How many spans meet those of `set`; one may count more than once.
    func count(_ set: Spans) -> Int {
        set.spans.reduce(0) { count, span in
            let begun = Self.place(entries.count) { entries[$0].span.low <= span.high }
            let over = Self.place(ends.count) { ends[$0] < span.low }
            return count + begun - over
        }
    }

    /// Owners of spans that meet those of `set`, in order.
    func meeting(_ set: Spans) -> [Int] {
        var found: [Int] = []
        func visit(_ low: Int, _ high: Int, _ span: Spans.Span) {
            guard low < high else { return }
            let middle = (low + high) / 2
            if furthest[middle] < span.low { return }
            visit(low, middle, span)
            let entry = entries[middle]
            if entry.span.low > span.high { return }
            if entry.span.high >= span.low { found.append(entry.owner) }
            visit(middle + 1, high, span)
        }
        for span in set.spans { visit(0, entries.count, span) }
        found.sort()
        var owners: [Int] = []
        for owner in found where owners.last != owner { owners.append(owner) }
        return owners
    }

    /// How many of the first places satisfy a condition that holds up to some place and not behind.
    private static func place(_ count: Int, _ holds: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if holds(middle) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// How much may be done before the answer is that there is none: overlapping networks can be made to fall into more
/// pieces than anybody waits for.
struct WorkBudget {
    private(set) var left: Int
    var isSpent: Bool { left <= 0 }

    init(_ left: Int) { self.left = left }

    mutating func spend(_ work: Int) { left -= work }
}
