// Conversations that are expected, found by a record's headers: what every ordinary frame costs is in here.

import Allowlist
import Baseline
import Frames

/// A device and how it was seen last.
struct KnownDevice: BitwiseCopyable {
    var address: AddressWords
    /// The MAC address in the low 48 bits, the side above them.
    var identity: UInt64
    /// Which of these bits are known: 0, none.
    var mask: UInt64
    /// Of its own, ns since 1970; 0: not yet.
    var last: UInt64
    /// Since when another MAC address has its address; 0: none has.
    var contested: UInt64
    /// Of its conversations that are expected all the time.
    var expected: Int32
    var quiet: Int32

    static let macBits: UInt64 = 0xFFFF_FFFF_FFFF

    init(_ address: AddressWords, mac: MACAddress?, side: Side?) {
        self.address = address
        identity = (mac?.rawValue ?? 0) | (side.map { UInt64($0.rawValue) + 1 } ?? 0) << 48
        mask = (mac == nil ? 0 : Self.macBits) | (side == nil || mac == nil ? 0 : 0xFF << 48)
        (last, contested, expected, quiet) = (0, 0, 0, 0)
    }

    var mac: MACAddress? { mask & Self.macBits == 0 ? nil : MACAddress(rawValue: identity) }

    @inline(__always)
    func fits(_ record: TrafficRecord) -> Bool {
        if mask == 0 { return true }
        guard let side = record.side else { return (record.sourceMAC.rawValue ^ identity) & mask & Self.macBits == 0 }
        return ((record.sourceMAC.rawValue | (UInt64(side.rawValue) &+ 1) << 48) ^ identity) & mask == 0
    }
}

/// A conversation that is expected, and what it has done today.
struct KnownConversation: BitwiseCopyable {
    let key: ConversationKey
    let client: Int32
    let server: Int32
    let patience: UInt64
    let mostBytes: (UInt64, UInt64)
    let mostFrames: (UInt64, UInt64)
    /// When it showed that it lives, ns since 1970.
    var last: UInt64
    var bytes: UInt64
    var frames: UInt64
    /// Since 1970, UTC.
    var day: UInt32
    let closedHours: UInt32
    let isClosedAtWeekends: Bool
    let isOneWay: Bool
    /// It is missed, and was said to be.
    var isMissing: Bool
    /// What was said of it today.
    var saidHours: Bool
    /// How often its day's limit was doubled before it was more than was told of; 0: nothing was.
    var doublings: UInt8
}

/// Open addressing over hashes and places: a place is looked at only when the hash fits.
struct KnownTable: ~Copyable {
    // Unsafe: owned here alone; `count` are initialized.
    private let conversations: UnsafeMutablePointer<KnownConversation>
    let count: Int
    /// High half of the hash, and the place plus one; 0: free.
    private var slots: [UInt64]
    private let scramble = Scramble()

    init(_ all: [KnownConversation]) {
        count = all.count
        conversations = .allocate(capacity: max(1, count))
        conversations.initialize(from: all, count: count)
        var size = 16
        while size < count * 2 { size *= 2 }
        slots = [UInt64](repeating: 0, count: size)
        for place in 0..<count {
            let hash = hash(all[place].key)
            var at = Int(truncatingIfNeeded: hash) & (size - 1)
            while slots[at] != 0 { at = (at + 1) & (size - 1) }
            slots[at] = hash & ~0xFFFF_FFFF | UInt64(place + 1)
        }
    }

    deinit { conversations.deallocate() }

    subscript(_ place: Int) -> UnsafeMutablePointer<KnownConversation> { conversations + place }

    @inline(__always)
    private func hash(_ key: ConversationKey) -> UInt64 { scramble.hash(key.client, key.server, key.tail) }

    @inline(__always)
    func find(_ key: ConversationKey) -> UnsafeMutablePointer<KnownConversation>? {
        let hash = hash(key), mask = slots.count - 1
        var at = Int(truncatingIfNeeded: hash) & mask
        while true {
            let slot = slots[at]
            if slot == 0 { return nil }
            if (slot ^ hash) >> 32 == 0 {
                let one = conversations + Int(truncatingIfNeeded: slot & 0xFFFF_FFFF) - 1
                if one.pointee.key == key { return one }
            }
            at = (at + 1) & mask
        }
    }
}

extension ConversationKey {
    /// As the sender's question, or as its answer.
    @inline(__always)
    init(asking record: TrafficRecord) {
        self.init(
            client: record.source, server: record.destination, service: record.destinationPort, vlan: record.vlan, ipProtocol: record.ipProtocol,
            family: record.form == .ipv6 ? .ipv6 : .ipv4)
    }

    @inline(__always)
    init(answering record: TrafficRecord) {
        self.init(
            client: record.destination, server: record.source, service: record.sourcePort, vlan: record.vlan, ipProtocol: record.ipProtocol,
            family: record.form == .ipv6 ? .ipv6 : .ipv4)
    }
}
