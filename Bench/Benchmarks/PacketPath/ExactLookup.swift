// The exact tier beside Swift's Dictionary: lookups in batches of 64, hit and miss, and the build.
//
// One iteration is a million lookups, so a thousand microseconds are one nanosecond each.

@_spi(Measurement) import Allowlist
import Benchmark

let million = 1_000_000

/// Conversations of a plant: clients and servers of a /8, few ports.
func conversations(_ count: Int) -> [ExactTable.Conversation] {
    var random = SplitMix(UInt64(count))
    return (0..<count).map { index in
        ExactTable.Conversation(
            client: 0x0A00_0000 | UInt32(truncatingIfNeeded: random.next()) & 0xFF_FFFF,
            server: 0x0A00_0000 | UInt32(truncatingIfNeeded: random.next()) & 0xFF_FFFF,
            port: UInt16(truncatingIfNeeded: 5000 + index % 16), ipProtocol: 6, rule: UInt32(index))
    }
}

/// Questions in random order: all in the table, or none. A quarter of a million, asked four times: in the data path keys
/// come from headers just parsed, not from a list as large as the table.
func questions(_ known: [ExactTable.Conversation], hit: Bool) -> [ExactTable.Conversation] {
    var random = SplitMix(7)
    let strangers = hit ? known : conversations(known.count + 1)
    return (0..<million / 4).map { _ in strangers.randomElement(using: &random)! }
}

func exactBenchmarks() {
    for count in [10_000, 100_000, 1_000_000] {
        let name = count == 1_000_000 ? "1M" : "\(count / 1000)k"
        let known = Lazy { conversations(count) }
        let table = Lazy {
            let table = ExactTable(known.value)
            precondition(table.isPerfect)
            print("# exact table, \(name) rules: \(table.bytes / count) bytes a rule")
            return table
        }
        let dictionary = Lazy {
            Dictionary(uniqueKeysWithValues: known.value.enumerated().map { ($1.words, UInt32($0)) })
        }
        for hit in [true, false] {
            let asked = Lazy { questions(known.value, hit: hit) }
            let kind = hit ? "hit" : "miss"
            Benchmark("exact \(name) \(kind)") { _ in
                let asked = asked.value, table = table.value
                var hits = 0
                for _ in 0..<4 { hits += asked.withUnsafeBufferPointer { table.hits($0.baseAddress!, count: million / 4) } }
                precondition(hit ? hits == million : hits < million / 100)
                blackHole(hits)
            }
            let words = Lazy { asked.value.map(\.words) }
            Benchmark("Dictionary \(name) \(kind)") { _ in
                let dictionary = dictionary.value
                var hits = 0
                for _ in 0..<4 {
                    for word in words.value where dictionary[word] != nil { hits += 1 }
                }
                blackHole(hits)
            }
        }
        // One iteration is one build: nanoseconds a rule are microseconds × 1000 / rules.
        Benchmark("build \(name)") { benchmark in
            let known = known.value
            benchmark.startMeasurement()
            blackHole(ExactTable(known))
        }
    }
}

/// Made when first asked for: in the warm-up. Every benchmark runs in a process of its own and needs only its own.
final class Lazy<Value>: @unchecked Sendable {
    // Unchecked: benchmarks run one after the other.
    private let make: () -> Value
    private(set) lazy var value = make()
    init(_ make: @escaping () -> Value) { self.make = make }
}

/// Random numbers that repeat (Steele, Lea, Flood 2014).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
