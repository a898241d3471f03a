// What a table maps to: a rule, or a list of rules that hold only for some VLANs or one side.
//
//   0rrr…r  rule r, holds always
//   1ooo…o  list at offset o of `lists`: count, then rules in file order

import Frames

/// What of a rule cannot stand in the key. One per rule, by index.
struct RuleNarrowing: BitwiseCopyable {
    /// `Side.bit` of each side the client may be on.
    var clientSides: UInt8
    var vlanCount: UInt16
    /// Offset in the VLAN list.
    var vlanStart: UInt32
}

/// Read-only view, for the packet path.
struct RuleReferences: BitwiseCopyable {
    let narrowings: UnsafePointer<RuleNarrowing>
    let vlans: UnsafePointer<UInt16>
    let lists: UnsafePointer<UInt32>

    static let listBit: UInt32 = 0x8000_0000

    /// The first rule of `reference` that holds for this frame, or `Verdict.noRule`.
    @inline(__always)
    func resolve(_ reference: UInt32, clientSide: Side, vlan: VLANID) -> UInt32 {
        if reference & Self.listBit == 0 { return reference }
        if reference == noReference { return Verdict.noRule }
        return resolveList(reference, clientSide, vlan)
    }

    @inline(never)
    private func resolveList(_ reference: UInt32, _ clientSide: Side, _ vlan: VLANID) -> UInt32 {
        let list = lists + Int(reference & ~Self.listBit)
        for i in 1...Int(list[0]) {
            let rule = list[i]
            let narrowing = narrowings[Int(rule)]
            if narrowing.clientSides & clientSide.bit == 0 { continue }
            if narrowing.vlanCount == 0 { return rule }
            for v in 0..<Int(narrowing.vlanCount) where vlans[Int(narrowing.vlanStart) + v] == vlan.rawValue {
                return rule
            }
        }
        return Verdict.noRule
    }
}

/// Collects lists while a table is built; equal lists are stored once.
struct ReferencePool {
    private var storage: [UInt32] = [0]
    private var known: [[UInt32]: UInt32] = [:]
    private let isNarrowed: [Bool]

    init(rules: [AllowRule]) {
        isNarrowed = rules.map(\.isNarrowed)
    }

    /// The reference for one rule.
    mutating func reference(_ rule: UInt32) -> UInt32 {
        isNarrowed[Int(rule)] ? list([rule]) : rule
    }

    /// The reference for all rules of both.
    mutating func merge(_ a: UInt32, _ b: UInt32) -> UInt32 {
        if a == b || b == noReference { return a }
        if a == noReference { return b }
        if (a | b) & RuleReferences.listBit == 0 { return min(a, b) }
        return list(rules(a) + rules(b))
    }

    /// The reference for these rules: in file order, and nothing behind a rule that always holds.
    mutating func list(_ rules: [UInt32]) -> UInt32 {
        var kept: [UInt32] = []
        for rule in rules.sorted() where kept.last != rule {
            kept.append(rule)
            if !isNarrowed[Int(rule)] { break }
        }
        if kept.count == 1, !isNarrowed[Int(kept[0])] { return kept[0] }
        if let known = known[kept] { return known }
        let reference = UInt32(storage.count) | RuleReferences.listBit
        storage.append(UInt32(kept.count))
        storage += kept
        known[kept] = reference
        return reference
    }

    func rules(_ reference: UInt32) -> [UInt32] {
        if reference == noReference { return [] }
        if reference & RuleReferences.listBit == 0 { return [reference] }
        let start = Int(reference & ~RuleReferences.listBit)
        return Array(storage[start + 1...start + Int(storage[start])])
    }

    func frozen(rules: [AllowRule], in memory: TableMemory) -> RuleReferences {
        let narrowings = memory.allocate(RuleNarrowing.self, count: rules.count)
        var vlans: [UInt16] = []
        for (index, rule) in rules.enumerated() {
            narrowings[index] = RuleNarrowing(
                clientSides: rule.clientSide?.bit ?? 3,
                vlanCount: UInt16(rule.vlans.count), vlanStart: UInt32(vlans.count))
            vlans += rule.vlans.map(\.rawValue)
        }
        return RuleReferences(
            narrowings: narrowings, vlans: memory.copy(vlans), lists: memory.copy(storage))
    }
}

extension TableMemory {
    func copy<T: BitwiseCopyable>(_ array: [T]) -> UnsafePointer<T> {
        let block = allocate(T.self, count: array.count)
        array.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { block.update(from: base, count: source.count) }
        }
        return UnsafePointer(block)
    }
}
