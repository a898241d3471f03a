// From rules to a table, checked before anybody may use it.
//
// Tier 0  host to host, few ports: one key each in a perfect table
// Tier 1  the rest: labels (LabelTier)
//
// A key of tier 0 also carries the network rules that cover it, so the answer
// names the first rule in file order whichever tier gives it.

import Frames

/// A service range of at most this many ports is multiplied out into exact keys.
private let expandedPorts = 64

extension CompiledTable {
    /// Compiles and checks a table.
    ///
    /// - Parameters:
    ///   - version: number that workers and counters know the table by.
    ///   - marks: by rule, what `RuleHistory` says; nil: the rules are new.
    public static func build(
        _ source: AllowlistSource, version: UInt64 = 1, marks: [RuleMark]? = nil
    ) throws(TableError) -> CompiledTable {
        try build(source, version: version, marks: marks, effort: BuildEffort())
    }

    static func build(
        _ source: AllowlistSource, version: UInt64, marks: [RuleMark]? = nil, effort: BuildEffort
    ) throws(TableError) -> CompiledTable {
        let memory = TableMemory()
        var pool = ReferencePool(rules: source.rules)
        var sorted = try SortedRules(source.rules, &pool)
        let labels = try LabelTierBuilder.build(sorted.items, &pool, in: memory, effort: effort)
        if labels.probesInUse != 0 { sorted.addCoveringRules(labels, &pool) }

        let exact4 = sorted.keys4.withUnsafeBufferPointer {
            PerfectTable<Key4>.build($0, in: memory, effort: effort) { pool.merge($0, $1) }
        }
        let exact6 = sorted.keys6.withUnsafeBufferPointer {
            PerfectTable<Key6>.build($0, in: memory, effort: effort) { pool.merge($0, $1) }
        }
        try checkExact(exact4, sorted.keys4, pool)
        try checkExact(exact6, sorted.keys6, pool)

        let etherTypes = memory.allocate(UInt64.self, count: 1024)
        etherTypes.initialize(repeating: 0, count: 1024)
        for type in source.etherTypes { etherTypes[Int(type.rawValue >> 6)] |= 1 << UInt64(type.rawValue & 63) }

        let (bindings4, bindings6, boundMACs) = bindingTables(source.bindings, memory, effort)
        let flowRules = source.rules.enumerated().map { index, rule in
            let mark = marks?[index] ?? RuleMark(identity: UInt32(truncatingIfNeeded: index), since: version)
            return FlowRule(rule.flows, identity: mark.identity, since: mark.since)
        }
        let expecting = source.rules.indices.filter { source.rules[$0].flows.expectsData }.map { UInt32(truncatingIfNeeded: $0) }
        let view = TableView(
            mode: source.mode, version: version,
            exact4: exact4, exact6: exact6, labels: labels,
            references: pool.frozen(rules: source.rules, in: memory), etherTypes: UnsafePointer(etherTypes),
            bindings4: bindings4, bindings6: bindings6, boundMACs: boundMACs,
            hasBindings: !source.bindings.isEmpty, hasSides: source.bindings.contains { $0.side != nil && !$0.macs.isEmpty },
            flowRules: memory.copy(flowRules), expecting: memory.copy(expecting), expectingCount: expecting.count,
            holdsWindows: flowRules.contains { $0.followsWindows },
            fullPasses: source.fullPasses)
        let table = CompiledTable(
            view, memory: memory, source: source,
            statistics: TableStatistics(
                rules: source.rules.count, exactIPv4: exact4.count, exactIPv6: exact6.count,
                networkPairs: labels.pairs.count, bindings: bindings4.count + bindings6.count,
                usesPlainTable: exact4.isPlain && exact4.count > 0 || exact6.isPlain && exact6.count > 0))
        try table.checkAgainstRules()
        return table
    }

    /// Every key is found with all its rules, and nothing else is in the table: so no frame can match a key that no
    /// rule made. A sample of keys that differ in one bit is looked up besides.
    private static func checkExact<Key: TableKey>(
        _ table: PerfectTable<Key>, _ keys: [Key], _ pool: ReferencePool
    ) throws(TableError) {
        for key in keys {
            let found = table.reference(key)
            if found == key.reference { continue }
            // Merged with an equal key: then it must still lead to a rule at least as early.
            guard found != noReference, let first = pool.rules(found).first, let own = pool.rules(key.reference).first,
                first <= own
            else { throw .checkFailed("a rule's key is not found in the new table") }
        }
        try checkOccupancy(table)
        var random = SampleGenerator()
        for _ in 0..<min(1024, keys.count) {
            let absent = keys.randomElement(using: &random)!.flippingOneBit(&random)
            if table.reference(absent) != noReference, !keys.contains(where: { $0.holds(absent) }) {
                throw .checkFailed("the new table answers for a key that no rule made")
            }
        }
    }

    private static func bindingTables(
        _ bindings: [AddressBinding], _ memory: TableMemory, _ effort: BuildEffort
    ) -> (PerfectTable<Key4>, PerfectTable<Key6>, UnsafePointer<UInt64>) {
        var macs: [UInt64] = []
        var sided: [UInt64: UInt64] = [:]
        var keys4: [Key4] = []
        var keys6: [Key6] = []
        for binding in bindings {
            let place = UInt32(macs.count)
            let sides = UInt64(binding.side?.bit ?? Side.inside.bit | Side.outside.bit)
            macs.append(UInt64(binding.macs.count) | sides << 32)
            macs += binding.macs.map(\.rawValue)
            if binding.family == .ipv4 {
                var key = bindingKey4(UInt32(truncatingIfNeeded: binding.address.low))
                key.reference = place
                keys4.append(key)
            } else {
                var key = bindingKey6(binding.address)
                key.reference = place
                keys6.append(key)
            }
            // Without MAC addresses, and so for any; of two bindings on different sides the sides add up.
            guard let side = binding.side else { continue }
            for mac in binding.macs { sided[mac.rawValue, default: 0] |= UInt64(side.bit) }
        }
        for (mac, sides) in sided {
            var key = sideKey(MACAddress(rawValue: mac))
            key.reference = UInt32(macs.count)
            macs.append(sides << 32)
            keys4.append(key)
        }
        return (
            keys4.withUnsafeBufferPointer { PerfectTable.build($0, in: memory, effort: effort) },
            keys6.withUnsafeBufferPointer { PerfectTable.build($0, in: memory, effort: effort) },
            memory.copy(macs)
        )
    }
}

@inline(__always)
func bindingKey4(_ address: UInt32) -> Key4 { Key4(client: address, server: 0, port: 0, ipProtocol: 0) }
/// The port sets such keys apart from addresses.
@inline(__always)
func sideKey(_ mac: MACAddress) -> Key4 {
    Key4(
        client: UInt32(truncatingIfNeeded: mac.rawValue >> 16), server: UInt32(truncatingIfNeeded: mac.rawValue & 0xFFFF) << 16, port: 1,
        ipProtocol: 0)
}
@inline(__always)
func bindingKey6(_ address: AddressWords) -> Key6 { Key6(client: address, server: .zero, port: 0, ipProtocol: 0) }

/// Rules multiplied out and sorted into tiers.
private struct SortedRules {
    var keys4: [Key4] = []
    var keys6: [Key6] = []
    var items: [LabelItem] = []

    init(_ rules: [AllowRule], _ pool: inout ReferencePool) throws(TableError) {
        for (index, rule) in rules.enumerated() {
            let reference = pool.reference(UInt32(index))
            for client in rule.clients {
                for server in rule.servers where server.family == client.family {
                    var wide: [ServiceRange] = []
                    for service in rule.services where service.applies(to: client.family) {
                        if client.isHost && server.isHost && service.count <= expandedPorts {
                            addKeys(client.words, server.words, client.family, service, reference)
                        } else {
                            wide.append(service)
                        }
                    }
                    if !wide.isEmpty {
                        items.append(LabelItem(client: client, server: server, services: wide, rule: UInt32(index)))
                    }
                    // Here, and not behind the loops: groups multiply.
                    let count = keys4.count + keys6.count
                    if count > TableLimits.exactKeys {
                        throw .tooMany(what: "host-to-host conversations", count: count, limit: TableLimits.exactKeys)
                    }
                    if items.count > TableLimits.labelItems {
                        throw .tooMany(what: "network-to-network pairs", count: items.count, limit: TableLimits.labelItems)
                    }
                }
            }
        }
    }

    private mutating func addKeys(
        _ client: AddressWords, _ server: AddressWords, _ family: IPFamily, _ service: ServiceRange,
        _ reference: UInt32
    ) {
        for port in service.low.rawValue...service.high.rawValue {
            if family == .ipv4 {
                var key = Key4(
                    client: UInt32(client.low), server: UInt32(server.low), port: port,
                    ipProtocol: service.ipProtocol.rawValue)
                key.reference = reference
                keys4.append(key)
            } else {
                var key = Key6(client: client, server: server, port: port, ipProtocol: service.ipProtocol.rawValue)
                key.reference = reference
                keys6.append(key)
            }
        }
    }

    /// Merges into each exact key the network rules that cover it.
    mutating func addCoveringRules(_ labels: LabelTier, _ pool: inout ReferencePool) {
        for i in keys4.indices {
            let key = keys4[i]
            let covering = labels.allReferences(
                client: labels.trie4.labelIPv4(UInt32(key.addresses >> 32)),
                server: labels.trie4.labelIPv4(UInt32(truncatingIfNeeded: key.addresses)), tail: key.tail)
            for reference in covering { keys4[i].reference = pool.merge(keys4[i].reference, reference) }
        }
        for i in keys6.indices {
            let key = keys6[i]
            let covering = labels.allReferences(
                client: labels.trie6.labelIPv6(key.client), server: labels.trie6.labelIPv6(key.server), tail: key.tail)
            for reference in covering { keys6[i].reference = pool.merge(keys6[i].reference, reference) }
        }
    }
}

extension LabelTier {
    /// What every probe finds, for the build.
    fileprivate func allReferences(client: UInt32, server: UInt32, tail: UInt64) -> [UInt32] {
        let clients = projections[Int(client)], servers = projections[Int(server)]
        let port = portKey(
            IPProtocol(rawValue: UInt8(truncatingIfNeeded: tail >> 8)), Port(rawValue: UInt16(truncatingIfNeeded: tail >> 16)))
        var result: [UInt32] = []
        for c in [clients.narrowClient, clients.wideClient] where c != 0 {
            for s in [servers.narrowServer, servers.wideServer] where s != 0 {
                let set = pairs.reference(Self.key(c, s))
                if set == noReference { continue }
                let reference = portSets.reference(port, inSetAt: set)
                if reference != noReference { result.append(reference) }
            }
        }
        return result
    }
}
