// Random numbers that repeat. Every stream of traffic has its own, so that what one does changes nothing for the others.

import Glibc

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix: BitwiseCopyable, Sendable {
    private var state: UInt64

    init(seed: UInt64, stream: UInt64) {
        state = seed
        state = next() ^ stream &* 0xD134_2543_DE82_EF95
        state = next()
    }

    @inline(__always)
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// 0 ..< 1.
    @inline(__always)
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// 0 ..< `bound`; 0 if that is empty. The bias of so small bounds does not matter here.
    @inline(__always)
    mutating func below(_ bound: Int) -> Int {
        bound <= 0 ? 0 : Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(truncatingIfNeeded: bound)).high)
    }

    @inline(__always)
    mutating func between(_ low: Int, _ high: Int) -> Int { low + below(high - low + 1) }

    @inline(__always)
    mutating func chance(_ share: Double) -> Bool { unit() < share }

    @inline(__always)
    mutating func exponential(mean: Double) -> Double { -log(1 - unit()) * mean }

    /// Every order of magnitude as likely as any other.
    mutating func logUniform(_ low: Double, _ high: Double) -> Double { low * pow(high / low, unit()) }

    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

    /// A port as systems take them for clients.
    @inline(__always)
    mutating func clientPort() -> UInt16 { UInt16(truncatingIfNeeded: 49152 + next() & 0x3FFF) }
}

/// Times are microseconds since the recording began.
enum Span {
    static let millisecond = 1000
    static let second = 1_000_000
    static let minute = 60 * second
    static let hour = 60 * minute
    static let day = 24 * hour
    static let week = 7 * day
}

/// When people and tools work, by the hour of the week.
enum Rhythm: UInt8, BitwiseCopyable, Sendable {
    case always
    /// Three shifts, the night's and the weekend's smaller.
    case production
    /// Office hours.
    case office
}

/// One hour of the recording.
struct Hour: BitwiseCopyable, Sendable {
    let number: Int
    var start: Int { number * Span.hour }
    var end: Int { (number + 1) * Span.hour }

    @inline(__always)
    func factor(_ rhythm: Rhythm) -> Double {
        if rhythm == .always { return 1 }
        let day = number / 24 % 7, hour = number % 24
        if rhythm == .office { return day < 5 && hour >= 7 && hour < 18 ? 1 : 0 }
        // Handover in the first hour of a shift: 6, 14 and 22 o'clock.
        let shift = hour >= 6 && hour < 14 ? 1.0 : hour >= 14 && hour < 22 ? 0.9 : 0.75
        return shift * (hour % 8 == 6 ? 0.7 : 1) * (day < 5 ? 1 : 0.6)
    }
}

/// Times between things that happen by chance.
enum Gaps {
    /// The first of them, in units of the rate, from a number that was drawn already.
    @inline(__always)
    static func first(_ chance: Double, _ rate: Double) -> Double { -log(1 - chance) / rate }
}
