// A policy as the packet path sees it: immutable, in one piece, reached by one pointer.

import Frames

/// Everything a verdict needs. Plain data; lives as long as its `CompiledTable`.
public struct TableView: BitwiseCopyable {
    public let mode: Mode
    public let version: UInt64
    let exact4: PerfectTable<Key4>
    let exact6: PerfectTable<Key6>
    let labels: LabelTier
    let references: RuleReferences
    /// One bit for each EtherType and LLC address that passes: 8 KiB.
    let etherTypes: UnsafePointer<UInt64>
    /// IP address → place in `boundMACs`; and MAC addresses that belong to a side.
    let bindings4: PerfectTable<Key4>
    let bindings6: PerfectTable<Key6>
    /// A count in the low half, the sides it may come in by as bits from 32 on; then so many MAC addresses, of which 0 mean any.
    let boundMACs: UnsafePointer<UInt64>
    let hasBindings: Bool
    /// Whether a MAC address belongs to a side.
    let hasSides: Bool
    /// By rule.
    let flowRules: UnsafePointer<FlowRule>
    /// Rules whose flows may be accompanied: `expectingCount` numbers.
    let expecting: UnsafePointer<UInt32>
    let expectingCount: Int
    /// Whether windows are followed for any rule.
    let holdsWindows: Bool
    /// Whether flows that find no room pass on the rules' word alone.
    let fullPasses: Bool

    /// The rule of that identity, if it is there and expects data connections.
    @inline(__always)
    func expectingRule(_ identity: UInt32) -> Int? {
        for i in 0..<expectingCount where flowRules[Int(expecting[i])].identity == identity { return Int(expecting[i]) }
        return nil
    }

    @inline(__always)
    func allows(_ type: EtherType) -> Bool {
        etherTypes[Int(type.rawValue >> 6)] &>> UInt64(type.rawValue & 63) & 1 == 1
    }
}

/// Owns a table. Immutable once built, so it may be shared; the packet path holds only the view's address and
/// is waited for before the owner goes (`Datapath.TablePublisher`).
public final class CompiledTable: Sendable {
    // Written once in `init`; what it points to never changes.
    nonisolated(unsafe) public let view: UnsafePointer<TableView>
    let memory: TableMemory
    /// What it was built from, for explanations and self-checks.
    public let source: AllowlistSource
    public let statistics: TableStatistics

    init(_ view: TableView, memory: TableMemory, source: AllowlistSource, statistics: TableStatistics) {
        let storage = memory.allocate(TableView.self, count: 1)
        storage.initialize(to: view)
        self.view = UnsafePointer(storage)
        self.memory = memory
        self.source = source
        self.statistics = statistics
    }

    public var bytes: Int { memory.bytes }
}

/// What became of the rules, for `apply`, `status` and the benchmarks.
public struct TableStatistics: Sendable, Codable {
    public var rules = 0
    public var exactIPv4 = 0
    public var exactIPv6 = 0
    public var networkPairs = 0
    public var bindings = 0
    /// A perfect hash was not found within the budget and a plain table stands in.
    public var usesPlainTable = false
}
