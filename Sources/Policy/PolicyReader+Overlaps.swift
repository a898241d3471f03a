// Rules that say the same twice. Not wrong, but an auditor asks which of them is meant.

import Allowlist

/// Above this many rules, pairs are not compared: n² would take minutes. Duplicates are still found.
private let rulesToCompare = 4000

extension PolicyReader {
    mutating func findOverlaps(_ document: PolicyDocument) {
        let rules = document.rules.filter { !$0.isLearning }
        if rules.count > rulesToCompare {
            var seen: [RuleMeaning: PolicyDocument.Rule] = [:]
            for rule in rules {
                if let first = seen[RuleMeaning(rule)] { warn(rule, first, "is the same as") }
                seen[RuleMeaning(rule)] = seen[RuleMeaning(rule)] ?? rule
            }
            return
        }
        let boxes = rules.map(RuleBox.init)
        for (index, rule) in rules.enumerated() {
            // The worst relation is enough: one finding for a rule, and one for a pair.
            var overlap: (relation: Relation, other: PolicyDocument.Rule)?
            for (other, candidate) in rules.enumerated() where other != index && boxes[index].meets(boxes[other]) {
                let relation = Relation(rule, candidate)
                // The later of two equal or overlapping rules is the one to look at.
                guard relation == .covered || other < index, relation != .none else { continue }
                if relation == .partial, Relation(candidate, rule) == .covered { continue }
                if relation.rawValue > overlap?.relation.rawValue ?? 0 { overlap = (relation, candidate) }
            }
            switch overlap?.relation {
            case .equal: warn(rule, overlap!.other, "is the same as")
            case .covered: warn(rule, overlap!.other, "is covered by")
            case .partial: warn(rule, overlap!.other, "overlaps with")
            default: break
            }
        }
    }

    private mutating func warn(_ rule: PolicyDocument.Rule, _ other: PolicyDocument.Rule, _ relation: String) {
        diagnostics.warning(
            "rule \"\(rule.id)\" \(relation) rule \"\(other.id)\" (line \(other.location.line))", at: rule.location,
            relation == "overlaps with" ? "frames of both are counted for the first" : "remove one of them")
    }
}

/// The smallest ranges of addresses around a rule's clients and servers: rules whose ranges do not meet
/// have nothing in common, and most pairs are dealt with by this.
private struct RuleBox {
    private var clients: [ClosedRange<UInt64>?]
    private var servers: [ClosedRange<UInt64>?]

    init(_ rule: PolicyDocument.Rule) {
        clients = IPFamily.allCases.map { Self.range(rule.clients, $0) }
        servers = IPFamily.allCases.map { Self.range(rule.servers, $0) }
    }

    /// Of the first 64 bits for IPv6.
    private static func range(_ prefixes: [AddressPrefix], _ family: IPFamily) -> ClosedRange<UInt64>? {
        var low = UInt64.max, high = UInt64.min
        for prefix in prefixes where prefix.family == family {
            let first = family == .ipv4 ? prefix.words.low : prefix.words.high
            let free = max(0, (family == .ipv4 ? 32 : 64) - prefix.length)
            low = min(low, first)
            high = max(high, first | (free == 64 ? UInt64.max : (1 << UInt64(free)) - 1))
        }
        return low <= high ? low...high : nil
    }

    func meets(_ other: RuleBox) -> Bool {
        for family in 0..<2 {
            if let a = clients[family], let b = other.clients[family], let c = servers[family], let d = other.servers[family],
                a.overlaps(b), c.overlaps(d)
            {
                return true
            }
        }
        return false
    }
}

/// What a rule allows, for finding duplicates by hash.
private struct RuleMeaning: Hashable {
    let clients: Set<AddressPrefix>
    let servers: Set<AddressPrefix>
    let services: Set<ServiceRange>
    let vlans: Set<UInt16>
    let side: UInt8?

    init(_ rule: PolicyDocument.Rule) {
        clients = Set(rule.clients)
        servers = Set(rule.servers)
        services = Set(rule.services)
        vlans = Set(rule.vlans.map(\.rawValue))
        side = rule.side?.rawValue
    }
}

/// How what one rule allows stands to what another allows; higher is worse.
private enum Relation: Int {
    case none = 0, partial, covered, equal

    init(_ a: PolicyDocument.Rule, _ b: PolicyDocument.Rule) {
        guard
            Self.meet(a.clients, b.clients, meets: { $0.contains($1) || $1.contains($0) }),
            Self.meet(a.servers, b.servers, meets: { $0.contains($1) || $1.contains($0) }),
            Self.meet(
                a.services, b.services,
                meets: { $0.ipProtocol == $1.ipProtocol && $0.low.rawValue <= $1.high.rawValue && $1.low.rawValue <= $0.high.rawValue }),
            a.vlans.isEmpty || b.vlans.isEmpty || a.vlans.contains(where: b.vlans.contains),
            a.side == nil || b.side == nil || a.side == b.side
        else {
            self = .none
            return
        }
        let inside = Self.isInside(a, b)
        self = inside && Self.isInside(b, a) ? .equal : inside ? .covered : .partial
    }

    private static func meet<T>(_ a: [T], _ b: [T], meets: (T, T) -> Bool) -> Bool {
        a.contains { x in b.contains { meets(x, $0) } }
    }

    /// Whether `outer` allows all that `inner` does.
    private static func isInside(_ inner: PolicyDocument.Rule, _ outer: PolicyDocument.Rule) -> Bool {
        inner.clients.allSatisfy { prefix in outer.clients.contains { $0.contains(prefix) } }
            && inner.servers.allSatisfy { prefix in outer.servers.contains { $0.contains(prefix) } }
            && inner.services.allSatisfy { service in
                outer.services.contains {
                    $0.ipProtocol == service.ipProtocol && $0.low.rawValue <= service.low.rawValue
                        && service.high.rawValue <= $0.high.rawValue
                }
            }
            && (outer.vlans.isEmpty || !inner.vlans.isEmpty && inner.vlans.allSatisfy(outer.vlans.contains))
            && (outer.side == nil || outer.side == inner.side)
            // A rule that ends sooner does not cover one that goes on.
            && (outer.expires == nil || inner.expires != nil && inner.expires! <= outer.expires!)
    }
}
