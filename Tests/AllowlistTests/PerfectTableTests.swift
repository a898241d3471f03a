import Frames
import Testing
import TestSupport

@testable import Allowlist

private func keys(_ count: Int, seed: UInt64) -> [Key4] {
    var random = SplitMix(seed)
    return (0..<count).map { index in
        var key = Key4(
            client: 0x0A00_0000 | UInt32(truncatingIfNeeded: random.next()) & 0xFF_FFFF,
            server: UInt32(truncatingIfNeeded: random.next()), port: UInt16(truncatingIfNeeded: index), ipProtocol: 6)
        key.reference = UInt32(index)
        return key
    }
}

@Suite struct PerfectTableTests {
    @Test(arguments: [0, 1, 2, 3, 7, 64, 1000, 30_000, 250_000])
    func everyKeyIsFoundAndNothingElse(count: Int) throws {
        let memory = TableMemory()
        let keys = keys(count, seed: UInt64(count))
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) }
        #expect(table.count == count)
        #expect(table.isPlain == (count == 0))
        var wrong = 0
        for key in keys where table.reference(key) != key.reference { wrong += 1 }
        for var key in keys {
            key.addresses ^= 1 << 63
            if table.reference(key) != noReference { wrong += 1 }
        }
        #expect(wrong == 0)
        try checkOccupancy(table)
    }

    @Test func bytesPerRuleStayWithinTheBudget() {
        for count in [10_000, 100_000] {
            let memory = TableMemory()
            let keys = keys(count, seed: 5)
            _ = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) }
            #expect(memory.bytes <= count * 24)
        }
    }

    @Test func addressesInARowBuildAsWellAsRandomOnes() {
        // A plant numbers its tools in a row; the hash must not mind.
        let memory = TableMemory()
        let keys = (0..<50_000).map { index -> Key4 in
            var key = Key4(client: 0x0A03_0001, server: 0x0A04_0000 + UInt32(index), port: 5000, ipProtocol: 6)
            key.reference = UInt32(index)
            return key
        }
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) }
        #expect(!table.isPlain)
        #expect(keys.allSatisfy { table.reference($0) == $0.reference })
    }

    @Test func ipv6KeysAreComparedWhole() {
        let memory = TableMemory()
        let keys = (0..<2000).map { index -> Key6 in
            var key = Key6(
                client: AddressWords(high: 0xFD00 << 48, low: UInt64(index)), server: AddressWords(high: 0xFD01 << 48, low: 1),
                port: 5000, ipProtocol: 6)
            key.reference = UInt32(index)
            return key
        }
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key6>.build($0, in: memory) }
        for key in keys {
            #expect(table.reference(key) == key.reference)
            var other = key
            other.client.high ^= 1
            #expect(table.reference(other) == noReference)
            other = Key6(client: key.server, server: key.client, port: 5000, ipProtocol: 6)
            #expect(table.reference(other) == noReference)
        }
    }

    @Test func equalKeysAreMerged() {
        let memory = TableMemory()
        var keys = keys(500, seed: 3)
        for var key in keys[0..<100] {
            key.reference += 7
            keys.append(key)
        }
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) { $0 + $1 } }
        #expect(table.count == 500)
        for (index, key) in keys[0..<500].enumerated() {
            #expect(table.reference(key) == UInt32(index < 100 ? 2 * index + 7 : index))
        }
    }

    @Test func withoutABudgetAPlainTableStandsIn() throws {
        let memory = TableMemory()
        let keys = keys(3000, seed: 9)
        // A load no perfect hash reaches without evicting, and no eviction allowed.
        let effort = BuildEffort(loads: [0.999], seedsPerLoad: 2, evictionsPerBucket: 0)
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory, effort: effort) }
        #expect(table.isPlain)
        #expect(keys.allSatisfy { table.reference($0) == $0.reference })
        #expect(keys.allSatisfy { key in
            var other = key
            other.addresses ^= 1
            return table.reference(other) == noReference
        })
        try checkOccupancy(table)
    }

    @Test(arguments: [100, 20_000, 250_000])
    func burstsAnswerAsSingleLookupsDo(count: Int) {
        let memory = TableMemory()
        let keys = keys(count, seed: 11)
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) }
        let scratch = LookupScratch<Key4>(capacity: 64, in: memory)
        var random = SplitMix(12)
        for _ in 0..<200 {
            let n = Int.random(in: 1...64, using: &random)
            for i in 0..<n {
                scratch.keys[i] = keys.randomElement(using: &random)!
                if Bool.random(using: &random) { scratch.keys[i].tail ^= 0x10000 }
            }
            table.lookUp(n, scratch)
            for i in 0..<n { #expect(scratch.references[i] == table.reference(scratch.keys[i])) }
        }
    }

    @Test func aForeignKeyInTheTableIsNoticed() throws {
        let memory = TableMemory()
        let keys = keys(100, seed: 1)
        let table = keys.withUnsafeBufferPointer { PerfectTable<Key4>.build($0, in: memory) }
        try check(table, keys)
        // Damage, as a stray write would do.
        let slots = UnsafeMutablePointer(mutating: table.slots)
        let hole = (0..<Int(table.slotsPerPart)).first { slots[$0].isEmpty }!
        slots[hole] = Key4(client: 1, server: 2, port: 3, ipProtocol: 6)
        #expect(throws: TableError.self) { try check(table, keys) }
    }
}
