// The ports a pair of labels may use: disjoint segments, in order, each with the rules it stands for.

/// Read-only view. A set is a count, then three words a segment: first key, last key, reference.
struct PortSets: BitwiseCopyable {
    let words: UnsafePointer<UInt32>

    /// The reference for `key` (`portKey`) in the set at `offset`, or `noReference`.
    @inline(__always)
    func reference(_ key: UInt32, inSetAt offset: UInt32) -> UInt32 {
        let set = words + Int(offset)
        var base = set + 1
        var count = Int(set[0])
        // The last segment that begins at or before the key; the step is a conditional move.
        while count > 1 {
            let half = count >> 1
            base = base[half &* 3] <= key ? base + half &* 3 : base
            count &-= half
        }
        return base[0] <= key && key <= base[1] ? base[2] : noReference
    }
}

/// Collects sets while a table is built; equal sets are stored once.
struct PortSetPool {
    private var words: [UInt32] = []
    private var known: [[UInt32]: UInt32] = [:]

    /// The offset of the set of these ranges.
    mutating func set(_ ranges: [(keys: ClosedRange<UInt32>, rule: UInt32)], _ pool: inout ReferencePool) -> UInt32 {
        let segments = Self.segments(ranges, &pool)
        if let offset = known[segments] { return offset }
        let offset = UInt32(words.count)
        words.append(UInt32(segments.count / 3))
        words += segments
        known[segments] = offset
        return offset
    }

    func frozen(in memory: TableMemory) -> PortSets { PortSets(words: memory.copy(words)) }

    /// Cuts overlapping ranges at each other's ends; neighbours with the same rules become one.
    private static func segments(
        _ ranges: [(keys: ClosedRange<UInt32>, rule: UInt32)], _ pool: inout ReferencePool
    ) -> [UInt32] {
        if ranges.count == 1 {
            return [ranges[0].keys.lowerBound, ranges[0].keys.upperBound, pool.reference(ranges[0].rule)]
        }
        var edges: [(at: UInt32, opens: Bool, rule: UInt32)] = []
        for range in ranges {
            edges.append((range.keys.lowerBound, true, range.rule))
            edges.append((range.keys.upperBound + 1, false, range.rule))
        }
        edges.sort { $0.at < $1.at }
        var open: [UInt32: Int] = [:]
        var result: [UInt32] = []
        var index = 0
        while index < edges.count {
            let at = edges[index].at
            while index < edges.count, edges[index].at == at {
                open[edges[index].rule, default: 0] += edges[index].opens ? 1 : -1
                index += 1
            }
            let rules = open.filter { $0.value > 0 }.map(\.key)
            guard !rules.isEmpty, index < edges.count else { continue }
            let reference = pool.list(rules)
            let end = edges[index].at - 1
            if result.count >= 3, result[result.count - 2] == at - 1, result[result.count - 1] == reference {
                result[result.count - 2] = end
            } else {
                result += [at, end, reference]
            }
        }
        return result
    }
}
