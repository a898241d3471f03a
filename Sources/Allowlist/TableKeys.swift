// The keys of the perfect tables, as they lie in a slot.

import Frames

/// What a key must be able to do. Used only as a generic constraint that the
/// compiler specialises away; never as an existential.
protocol TableKey: BitwiseCopyable, Equatable {
    /// Hash under a seed. The reference in the key takes no part.
    func hash(_ seed: HashSeed) -> UInt64
    /// A key that no frame can produce, for empty slots.
    static var empty: Self { get }
    /// Whether this slot holds `key`.
    func holds(_ key: Self) -> Bool
    var isEmpty: Bool { get }
    /// What the table maps the key to.
    var reference: UInt32 { get set }
    /// A key beside this one, for checking that it is absent.
    func flippingOneBit(_ random: inout SampleGenerator) -> Self
}

/// What a key is for; compared as part of it.
enum KeyKind {
    /// A conversation or a label pair.
    static let plain: UInt32 = 0
    /// Never stored: only empty slots have it.
    static let empty: UInt32 = 0xFF
}

/// Client, server, server port and protocol of an IPv4 conversation; or two labels. 16 bytes.
///
///      63           32 31            0
///     ┌───────────────┬───────────────┐
///     │ client        │ server        │ addresses
///     ├───────────────┼───────┬───┬───┤
///     │ reference     │ port  │ p │ k │ tail: p protocol, k kind
///     └───────────────┴───────┴───┴───┘
struct Key4: TableKey {
    var addresses: UInt64
    var tail: UInt64

    @inline(__always)
    init(client: UInt32, server: UInt32, port: UInt16, ipProtocol: UInt8, kind: UInt32 = KeyKind.plain) {
        addresses = UInt64(client) << 32 | UInt64(server)
        tail = UInt64(port) << 16 | UInt64(ipProtocol) << 8 | UInt64(kind)
    }

    @inline(__always)
    func hash(_ seed: HashSeed) -> UInt64 {
        let first = mum(addresses ^ seed.s0, (tail & 0xFFFF_FFFF) ^ seed.s1)
        return first &* HashSeed.finish
    }

    func flippingOneBit(_ random: inout SampleGenerator) -> Key4 {
        var key = self
        key.addresses ^= 1 << UInt64.random(in: 0..<64, using: &random)
        return key
    }

    static var empty: Key4 { Key4(client: 0, server: 0, port: 0, ipProtocol: 0, kind: KeyKind.empty) }

    @inline(__always)
    func holds(_ key: Key4) -> Bool {
        // One test, no branch between the words: a miss costs what a hit costs.
        (addresses ^ key.addresses) | ((tail ^ key.tail) & 0xFFFF_FFFF) == 0
    }

    @inline(__always) var isEmpty: Bool { tail & 0xFF == UInt64(KeyKind.empty) }

    @inline(__always)
    var reference: UInt32 {
        get { UInt32(truncatingIfNeeded: tail >> 32) }
        set { tail = tail & 0xFFFF_FFFF | UInt64(newValue) << 32 }
    }
}

/// The same for IPv6. 40 bytes.
struct Key6: TableKey {
    var client: AddressWords
    var server: AddressWords
    var tail: UInt64

    @inline(__always)
    init(client: AddressWords, server: AddressWords, port: UInt16, ipProtocol: UInt8, kind: UInt32 = KeyKind.plain) {
        self.client = client
        self.server = server
        tail = UInt64(port) << 16 | UInt64(ipProtocol) << 8 | UInt64(kind)
    }

    @inline(__always)
    func hash(_ seed: HashSeed) -> UInt64 {
        let first = mum(client.high ^ seed.s0, client.low ^ seed.s1)
        // Other words for the second pair, or client and server could be swapped unnoticed.
        let second = mum(server.high ^ seed.s2, server.low ^ seed.s3)
        let mixed = mum(first ^ seed.s1, second ^ seed.s0 ^ (tail & 0xFFFF_FFFF))
        return mixed &* HashSeed.finish
    }

    func flippingOneBit(_ random: inout SampleGenerator) -> Key6 {
        var key = self
        key.server.low ^= 1 << UInt64.random(in: 0..<64, using: &random)
        return key
    }

    static var empty: Key6 {
        Key6(client: .zero, server: .zero, port: 0, ipProtocol: 0, kind: KeyKind.empty)
    }

    @inline(__always)
    func holds(_ key: Key6) -> Bool {
        (client.high ^ key.client.high) | (client.low ^ key.client.low)
            | (server.high ^ key.server.high) | (server.low ^ key.server.low)
            | ((tail ^ key.tail) & 0xFFFF_FFFF) == 0
    }

    @inline(__always) var isEmpty: Bool { tail & 0xFF == UInt64(KeyKind.empty) }

    @inline(__always)
    var reference: UInt32 {
        get { UInt32(truncatingIfNeeded: tail >> 32) }
        set { tail = tail & 0xFFFF_FFFF | UInt64(newValue) << 32 }
    }
}
