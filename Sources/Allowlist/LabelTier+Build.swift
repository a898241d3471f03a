// Compiling network rules into labels, pairs and port sets, within caps.

import Frames

/// One client range to one server range, for the services of one rule.
struct LabelItem {
    var client: AddressPrefix
    var server: AddressPrefix
    var services: [ServiceRange]
    var rule: UInt32
}

/// Bounds of what a policy may compile to: beyond them it is refused with a clear error, and the
/// running table stays.
enum TableLimits {
    /// Exact conversations after groups and short port ranges are multiplied out.
    static let exactKeys = 8_000_000
    /// Client range × server range of network rules.
    static let labelItems = 2_000_000
    static func labelPairs(_ items: Int) -> Int { max(4_000_000, items * 8) }
    static let trieBytes = 256 << 20
}

/// A prefix with more prefixes of its side inside than this is wide. 64 keeps a narrow pair's product at 64² in
/// the worst case and at a handful in real policies.
private let wideFanOut = 64

struct LabelTierBuilder {
    private var prefixes: [AddressPrefix] = []
    /// Descendants of prefix i, itself included, are i..<ends[i]: the order is that of a walk in depth.
    private var ends: [Int] = []
    private var parents: [Int?] = []
    private var isClient: [Bool] = []
    private var isServer: [Bool] = []
    private var isWideClient: [Bool] = []
    private var isWideServer: [Bool] = []
    private var position: [AddressPrefix: Int] = [:]

    static func build(
        _ items: [LabelItem], _ pool: inout ReferencePool, in memory: TableMemory, effort: BuildEffort
    ) throws(TableError) -> LabelTier {
        var builder = LabelTierBuilder()
        builder.order(items)
        let (pairs, probes) = try builder.closure(items)
        let tries = try builder.tries()
        var portSets = PortSetPool()
        var keys: [Key4] = []
        var index = 0
        var ranges: [(keys: ClosedRange<UInt32>, rule: UInt32)] = []
        while index < pairs.count {
            let pair = pairs[index].pair
            ranges.removeAll(keepingCapacity: true)
            while index < pairs.count, pairs[index].pair == pair {
                let item = items[Int(pairs[index].item)]
                for service in item.services { ranges.append((service.keys, item.rule)) }
                index += 1
            }
            var key = LabelTier.key(UInt32(pair >> 32), UInt32(truncatingIfNeeded: pair))
            key.reference = portSets.set(ranges, &pool)
            keys.append(key)
        }
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory, effort: effort) }
        try check(table, keys)
        return LabelTier(
            trie4: tries.0.frozen(in: memory), trie6: tries.1.frozen(in: memory),
            projections: memory.copy(builder.projections()), pairs: table,
            portSets: portSets.frozen(in: memory), probesInUse: probes)
    }

    /// Sorts the prefixes so that what a prefix contains follows it, and finds out which are wide.
    private mutating func order(_ items: [LabelItem]) {
        var roles: [AddressPrefix: (client: Bool, server: Bool)] = [:]
        for item in items {
            roles[item.client, default: (false, false)].client = true
            roles[item.server, default: (false, false)].server = true
        }
        prefixes = roles.keys.sorted { a, b in
            if a.family != b.family { return a.family.rawValue < b.family.rawValue }
            if a.words.high != b.words.high { return a.words.high < b.words.high }
            if a.words.low != b.words.low { return a.words.low < b.words.low }
            return a.length < b.length
        }
        let count = prefixes.count
        ends = [Int](repeating: count, count: count)
        parents = [Int?](repeating: nil, count: count)
        isClient = prefixes.map { roles[$0]!.client }
        isServer = prefixes.map { roles[$0]!.server }
        var clientsInside = [Int](repeating: 0, count: count)
        var serversInside = [Int](repeating: 0, count: count)
        var open: [Int] = []
        for (index, prefix) in prefixes.enumerated() {
            while let last = open.last, !prefixes[last].contains(prefix) {
                ends[last] = index
                open.removeLast()
            }
            parents[index] = open.last
            for outer in open {
                if isClient[index] { clientsInside[outer] += 1 }
                if isServer[index] { serversInside[outer] += 1 }
            }
            open.append(index)
            position[prefix] = index
        }
        isWideClient = clientsInside.map { $0 > wideFanOut }
        isWideServer = serversInside.map { $0 > wideFanOut }
    }

    /// All label pairs each item stands for, sorted; and which of the four probes can hit at all.
    private func closure(_ items: [LabelItem]) throws(TableError) -> ([(pair: UInt64, item: UInt32)], UInt8) {
        var total = 0
        var probes: UInt8 = 0
        var clientLabels: [Int: [UInt32]] = [:]
        var serverLabels: [Int: [UInt32]] = [:]
        let limit = TableLimits.labelPairs(items.count)
        for item in items {
            let client = position[item.client]!, server = position[item.server]!
            if clientLabels[client] == nil { clientLabels[client] = labels(inside: client, isClient, isWideClient) }
            if serverLabels[server] == nil { serverLabels[server] = labels(inside: server, isServer, isWideServer) }
            total += clientLabels[client]!.count * serverLabels[server]!.count
            probes |= 1 << ((isWideClient[client] ? 1 : 0) + (isWideServer[server] ? 2 : 0))
            if total > limit {
                throw .tooMany(what: "label pairs (networks nested in networks)", count: total, limit: limit)
            }
        }
        var pairs: [(pair: UInt64, item: UInt32)] = []
        pairs.reserveCapacity(total)
        for (index, item) in items.enumerated() {
            for client in clientLabels[position[item.client]!]! {
                for server in serverLabels[position[item.server]!]! {
                    pairs.append((UInt64(client) << 32 | UInt64(server), UInt32(index)))
                }
            }
        }
        pairs.sort { $0.pair < $1.pair }
        return (pairs, probes)
    }

    /// Labels (place + 1) of one side and one width inside a prefix.
    private func labels(inside index: Int, _ hasRole: [Bool], _ isWide: [Bool]) -> [UInt32] {
        let wide = isWide[index]
        return (index..<ends[index]).filter { hasRole[$0] && isWide[$0] == wide }.map { UInt32($0 + 1) }
    }

    private func projections() -> [LabelProjection] {
        var result = [LabelProjection()]
        for index in prefixes.indices {
            // A parent comes first in the order.
            var own = parents[index].map { result[$0 + 1] } ?? LabelProjection()
            let label = UInt32(index + 1)
            if isClient[index] {
                if isWideClient[index] { own.wideClient = label } else { own.narrowClient = label }
            }
            if isServer[index] {
                if isWideServer[index] { own.wideServer = label } else { own.narrowServer = label }
            }
            result.append(own)
        }
        return result
    }

    private func tries() throws(TableError) -> (AddressTrieBuilder, AddressTrieBuilder) {
        var trie4 = AddressTrieBuilder(.ipv4), trie6 = AddressTrieBuilder(.ipv6)
        for index in prefixes.indices.sorted(by: { prefixes[$0].length < prefixes[$1].length }) {
            let label = UInt32(index + 1)
            if prefixes[index].family == .ipv4 {
                trie4.insert(prefixes[index], label: label)
            } else {
                trie6.insert(prefixes[index], label: label)
            }
            let bytes = trie4.bytes + trie6.bytes
            if bytes > TableLimits.trieBytes {
                throw .tooMany(what: "bytes of address tries", count: bytes, limit: TableLimits.trieBytes)
            }
        }
        return (trie4, trie6)
    }
}

/// Every key answers with its own reference, and there is nothing else in the table.
func check<Key: TableKey>(_ table: PerfectTable<Key>, _ keys: [Key]) throws(TableError) {
    for key in keys where table.reference(key) != key.reference {
        throw .checkFailed("a rule's key is not found in the new table")
    }
    try checkOccupancy(table)
}

func checkOccupancy<Key: TableKey>(_ table: PerfectTable<Key>) throws(TableError) {
    let slotCount = Int(table.isPlain ? table.slotsPerPart : ((table.bucketCount - 1) >> table.partShift + 1) * table.slotsPerPart)
    var occupied = 0
    for i in 0..<slotCount where !table.slots[i].isEmpty { occupied += 1 }
    guard occupied == table.count else {
        throw .checkFailed("the new table holds \(occupied) keys instead of \(table.count)")
    }
}
