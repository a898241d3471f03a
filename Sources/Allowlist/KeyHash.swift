// The keyed hash of the perfect tables.
//
// A folded 64×64→128 multiply ("mum", the core of wyhash and rapidhash): one
// for an IPv4 key, three for an IPv6 key, and a plain multiply to finish. The seed is secret and new for every
// build, so nobody can choose rules or frames that collide. Correctness
// never rests on the hash: the whole key is compared.

/// Secret words of one table build.
struct HashSeed: Sendable, BitwiseCopyable {
    let s0: UInt64
    let s1: UInt64
    let s2: UInt64
    let s3: UInt64

    /// Odd, from the golden ratio: carries the low bits of a folded product to the top, where buckets are cut.
    @inline(__always) static var finish: UInt64 { 0x9E37_79B9_7F4A_7C15 }

    /// From the system's random source (getrandom).
    static func random() -> HashSeed {
        var generator = SystemRandomNumberGenerator()
        // A multiplier's high bits must be busy, or short keys mix badly.
        func word() -> UInt64 { generator.next() | 0x8000_0000_0000_0001 }
        return HashSeed(s0: word(), s1: word(), s2: word(), s3: word())
    }
}

@inlinable @inline(__always)
public func mum(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
}

/// High word of a product: maps a uniform `x` to 0..<`range`
/// (Lemire, "Fast random integer generation in an interval", 2019).
@inline(__always)
func scaled(_ x: UInt64, _ range: UInt64) -> UInt64 {
    x.multipliedFullWidth(by: range).high
}
