// Connections that are under way, in fixed memory. Each is folded into its conversation when it is over, or when its place is needed.
//
//     hash ─► bucket of 8: the one with this key, else a free one, else the one that matters least

import Frames

/// Both directions of one flow, the lesser endpoint first. 120 bytes.
struct Connection: BitwiseCopyable {
    var lesser: AddressWords
    var greater: AddressWords
    /// Ports, VLAN, protocol and family.
    var tail: UInt64
    /// When its first and its last frame came, ns since 1970; `last` 0: a free place.
    var first: UInt64
    var last: UInt64
    /// Since it was last added to its conversation.
    var bytes: (UInt64, UInt64)
    var frames: (UInt32, UInt32)
    /// When the client asked last, ns since 1970; 0: not yet.
    var lastRequest: UInt64
    /// In `Learner.conversations`; -1: not known yet.
    var conversation: Int32
    /// Hours since 1970 that the frames above fall in.
    var hour: UInt32
    /// TCP flags of either endpoint, all together.
    var flags: (UInt8, UInt8)
    /// The endpoint that opened it: 0 the lesser, 1 the greater.
    var client: UInt8
    var orientation: Orientation?
    /// The endpoint that spoke first.
    var opener: UInt8
    /// Frames, since it was last added to its conversation.
    var denied: UInt32
    /// Counted as a connection of its conversation; its answer is.
    var isCounted: Bool
    var isAnswered: Bool
    /// The last frame was the client's request: what follows is not a new one.
    var awaitsAnswer: Bool

    /// FIN, RST.
    static let endingFlags: UInt8 = TCPFlags.fin.rawValue | TCPFlags.rst.rawValue

    /// Its ends send by different ports of the bridge, as far as that is known.
    var isByTwoWires: Bool { sides.0 == 0 || sides.0 != sides.1 }

    @inline(__always) var isFree: Bool { last == 0 }
    @inline(__always) var ipProtocol: IPProtocol { IPProtocol(rawValue: UInt8(truncatingIfNeeded: tail >> 48)) }

    @inline(__always)
    func isOf(_ lesser: AddressWords, _ greater: AddressWords, _ tail: UInt64) -> Bool {
        (self.lesser.low ^ lesser.low) | (self.greater.low ^ greater.low) | (self.tail ^ tail) | (self.lesser.high ^ lesser.high)
            | (self.greater.high ^ greater.high) == 0
    }

    /// Which endpoint has sent anything but a refusal since the connection began.
    var seen: (Bool, Bool)
    /// The port of the bridge that either endpoint sends by; 0: not known, or nothing was sent.
    var sides: (UInt8, UInt8) = (0, 0)
}

/// Owns the connections.
struct ConnectionTable: ~Copyable {
    // Unsafe: owned here alone, `capacity` long, and every index is a hash cut to it.
    private let slots: UnsafeMutablePointer<Connection>
    private let bucketMask: UInt64
    let capacity: Int
    private static let ways = 8

    /// - Parameter capacity: connections, a power of two.
    init(capacity: Int) {
        precondition(capacity >= Self.ways && capacity & (capacity - 1) == 0)
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
        // All zero is a free place.
        UnsafeMutableRawPointer(slots).initializeMemory(as: UInt8.self, repeating: 0, count: capacity * MemoryLayout<Connection>.stride)
        bucketMask = UInt64(capacity / Self.ways - 1)
    }

    deinit { slots.deallocate() }

    subscript(_ index: Int) -> UnsafeMutablePointer<Connection> { slots + index }

    /// The place of a connection, or where it may go: free, or with another one in it that has to be folded first.
    @inline(__always)
    func place(_ hash: UInt64, _ lesser: AddressWords, _ greater: AddressWords, _ tail: UInt64) -> (UnsafeMutablePointer<Connection>, isKnown: Bool) {
        let bucket = slots + Int(truncatingIfNeeded: (hash >> 20) & bucketMask) * Self.ways
        for way in 0..<Self.ways where bucket[way].isOf(lesser, greater, tail) && !bucket[way].isFree { return (bucket + way, true) }
        return (leastImportant(bucket), false)
    }

    /// A free place, else the oldest of those that nobody answered, else the oldest.
    @inline(never)
    private func leastImportant(_ bucket: UnsafeMutablePointer<Connection>) -> UnsafeMutablePointer<Connection> {
        var best = bucket
        for way in 0..<Self.ways {
            let one = bucket + way
            if one.pointee.isFree { return one }
            let isLess = one.pointee.isAnswered == best.pointee.isAnswered
                ? one.pointee.last < best.pointee.last : !one.pointee.isAnswered
            if isLess { best = one }
        }
        return best
    }
}
