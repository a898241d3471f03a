// What one conversation has done since it was last written down, and what must be remembered of it between times.

import Frames

/// Counts of one conversation on one day.
public struct ConversationDay: BitwiseCopyable, Sendable, Equatable {
    /// Days since 1970, UTC.
    public var day: Int32
    /// Bit h: it was seen in hour h.
    public var hours: UInt32
    /// Of that day, ns since 1970.
    public var first: UInt64
    public var last: UInt64
    public var connections: UInt32
    /// Of these, by the server with anything but a refusal.
    public var answered: UInt32
    /// With a RST, before anything else.
    public var refused: UInt32
    /// From the client, from the server.
    public var framesOut: UInt64
    public var framesIn: UInt64
    public var bytesOut: UInt64
    public var bytesIn: UInt64
    /// Frames of either side that did not pass, or would not have under `enforce`.
    public var denied: UInt32

    static let none = ConversationDay(
        day: .min, hours: 0, first: 0, last: 0, connections: 0, answered: 0, refused: 0, framesOut: 0, framesIn: 0, bytesOut: 0, bytesIn: 0, denied: 0)

    public init(
        day: Int32, hours: UInt32, first: UInt64, last: UInt64, connections: UInt32, answered: UInt32, refused: UInt32, framesOut: UInt64,
        framesIn: UInt64, bytesOut: UInt64, bytesIn: UInt64, denied: UInt32
    ) {
        self.day = day
        self.hours = hours
        self.first = first
        self.last = last
        self.connections = connections
        self.answered = answered
        self.refused = refused
        self.framesOut = framesOut
        self.framesIn = framesIn
        self.bytesOut = bytesOut
        self.bytesIn = bytesIn
        self.denied = denied
    }
}

extension ConversationDay {
    /// Hours since 1970 in which it was seen.
    public var hourNumbers: [Int64] { (0..<24).filter { hours >> UInt32($0) & 1 == 1 }.map { Int64(day) * 24 + Int64($0) } }

    /// Something of it lies between these, ns since 1970.
    mutating func widen(_ from: UInt64, _ to: UInt64) {
        if first == 0 || from < first { first = from }
        if to > last { last = to }
    }

    /// Two parts of one day.
    public func adding(_ other: ConversationDay) -> ConversationDay {
        ConversationDay(
            day: day, hours: hours | other.hours, first: first == 0 ? other.first : other.first == 0 ? first : min(first, other.first),
            last: max(last, other.last), connections: connections &+ other.connections, answered: answered &+ other.answered,
            refused: refused &+ other.refused, framesOut: framesOut &+ other.framesOut, framesIn: framesIn &+ other.framesIn,
            bytesOut: bytesOut &+ other.bytesOut, bytesIn: bytesIn &+ other.bytesIn, denied: denied &+ other.denied)
    }
}

/// The last intervals between a client's requests, in seconds.
public struct Intervals: Sendable, Equatable {
    public static let most = 32
    public var values: [Float] = []
    /// Of all there were.
    public var count: UInt64 = 0

    public init() {}

    mutating func add(_ seconds: Float) {
        if values.count < Self.most { values.append(seconds) } else { values[Int(count % UInt64(Self.most))] = seconds }
        count += 1
    }
}

/// A conversation as the learner holds it. 136 bytes.
struct Conversation: BitwiseCopyable {
    let key: ConversationKey
    /// In the store; 0: not yet.
    var row: Int64
    var day: ConversationDay
    /// In `Learner.intervals`; -1: none yet.
    var intervals: Int32
    var orientation: Orientation
    /// There is something that the store does not have yet.
    var isDirty: Bool
}

/// Finds conversations by their keys: open addressing over indices, so that a million need eight megabytes beside themselves.
struct ConversationIndex: ~Copyable {
    private var slots: [UInt32]
    private var count = 0
    private let scramble = Scramble()

    init() { slots = [UInt32](repeating: .max, count: 1 << 10) }

    @inline(__always)
    private func hash(_ key: ConversationKey) -> Int {
        Int(truncatingIfNeeded: scramble.hash(key.client, key.server, key.tail) >> 16) & (slots.count - 1)
    }

    func find(_ key: ConversationKey, _ conversations: UnsafePointer<Conversation>) -> Int? {
        var at = hash(key)
        while slots[at] != .max {
            if conversations[Int(slots[at])].key == key { return Int(slots[at]) }
            at = (at + 1) & (slots.count - 1)
        }
        return nil
    }

    /// - Parameter index: of a conversation that is not in here.
    mutating func insert(_ index: Int, _ conversations: UnsafePointer<Conversation>) {
        if (count + 1) * 3 > slots.count * 2 { grow(conversations) }
        put(index, conversations)
        count += 1
    }

    private mutating func put(_ index: Int, _ conversations: UnsafePointer<Conversation>) {
        var at = hash(conversations[index].key)
        while slots[at] != .max { at = (at + 1) & (slots.count - 1) }
        slots[at] = UInt32(index)
    }

    private mutating func grow(_ conversations: UnsafePointer<Conversation>) {
        let old = slots
        slots = [UInt32](repeating: .max, count: old.count * 2)
        for index in old where index != .max { put(Int(index), conversations) }
    }
}
