// Longest prefix of an address, among the prefixes that rules use.
//
// The first 16 bits index a table; below it every node has 16 entries for the
// next 4 bits and fills one cache line. An entry is a label, or the number of
// a node with the high bit set. Prefixes are pushed down to the leaves, so a
// lookup never goes back up.

import Frames

/// Read-only view. Label 0: no prefix.
struct AddressTrie: BitwiseCopyable {
    /// 65,536 entries.
    let root: UnsafePointer<UInt32>
    /// 16 entries a node.
    let nodes: UnsafePointer<UInt32>

    static let nodeBit: UInt32 = 0x8000_0000

    @inline(__always)
    func labelIPv4(_ address: UInt32) -> UInt32 {
        var entry = root[Int(address >> 16)]
        var rest = address << 16
        while entry & Self.nodeBit != 0 {
            entry = nodes[Int(entry & ~Self.nodeBit) &* 16 &+ Int(rest >> 28)]
            rest <<= 4
        }
        return entry
    }

    @inline(__always)
    func labelIPv6(_ address: AddressWords) -> UInt32 {
        var entry = root[Int(truncatingIfNeeded: address.high >> 48)]
        var high = address.high << 16 | address.low >> 48
        var low = address.low << 16
        while entry & Self.nodeBit != 0 {
            entry = nodes[Int(entry & ~Self.nodeBit) &* 16 &+ Int(truncatingIfNeeded: high >> 60)]
            high = high << 4 | low >> 60
            low <<= 4
        }
        return entry
    }
}

/// Builds a trie of one family.
struct AddressTrieBuilder {
    private var root = [UInt32](repeating: 0, count: 1 << 16)
    private var nodes: [UInt32] = []
    private let family: IPFamily

    init(_ family: IPFamily) { self.family = family }

    var bytes: Int { (root.count + nodes.count) * 4 }

    /// Adds a prefix. Shorter ones first: a longer one overwrites what it covers.
    mutating func insert(_ prefix: AddressPrefix, label: UInt32) {
        precondition(prefix.family == family)
        // Left-aligned bits, so that both families walk alike.
        let high = family == .ipv4 ? prefix.words.low << 32 : prefix.words.high
        let low = family == .ipv4 ? 0 : prefix.words.low
        let first = Int(high >> 48)
        if prefix.length <= 16 {
            for i in first..<first + (1 << (16 - prefix.length)) { root[i] = label }
            return
        }
        var node = child(atRoot: first)
        var depth = 16
        while true {
            let nibble = Int((depth < 64 ? high >> (60 - depth) : low >> (124 - depth)) & 0xF)
            if prefix.length <= depth + 4 {
                let span = 1 << (depth + 4 - prefix.length)
                for i in nibble..<nibble + span { nodes[node * 16 + i] = label }
                return
            }
            node = child(node * 16 + nibble)
            depth += 4
        }
    }

    private mutating func child(atRoot index: Int) -> Int {
        if root[index] & AddressTrie.nodeBit == 0 { root[index] = newNode(root[index]) }
        return Int(root[index] & ~AddressTrie.nodeBit)
    }

    private mutating func child(_ entry: Int) -> Int {
        if nodes[entry] & AddressTrie.nodeBit == 0 { nodes[entry] = newNode(nodes[entry]) }
        return Int(nodes[entry] & ~AddressTrie.nodeBit)
    }

    private mutating func newNode(_ label: UInt32) -> UInt32 {
        let number = UInt32(nodes.count / 16)
        for _ in 0..<16 { nodes.append(label) }
        return number | AddressTrie.nodeBit
    }

    func frozen(in memory: TableMemory) -> AddressTrie {
        AddressTrie(root: memory.copy(root), nodes: memory.copy(nodes))
    }
}
