// What is remembered of one flow: 64 bytes that every frame looks at, 32 that windows need.
//
//      0        8        16       24       32       40                        64
//     ┌────────┬────────┬────────┬────────┬────────┬──────────────────────────┐
//     │ lesser endpoint │ greater endpoint│ ports, │ version, rule, time,     │  FlowEntry
//     │   address       │   address       │ kind … │ stage, marks             │
//     └────────┴────────┴────────┴────────┴────────┴──────────────────────────┘
//     ┌──────────────────────┬─────────────────────┐
//     │ lesser endpoint      │ greater endpoint    │  TCPHalf: the windows; of others: when it asked last
//     └──────────────────────┴─────────────────────┘

import Frames

/// Time of the flow table: units of 2²⁶ ns (67 ms) of the monotonic clock. Wraps after nine years.
@frozen
public struct FlowTick: RawRepresentable, Sendable, Equatable, BitwiseCopyable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// - Parameter nanoseconds: of CLOCK_MONOTONIC.
    @inlinable @inline(__always)
    public init(nanoseconds: UInt64) { rawValue = UInt32(truncatingIfNeeded: nanoseconds >> 26) }

    @inline(__always) static var perSecond: UInt32 { 15 }

    /// So many seconds in ticks, at least one.
    public static func ticks(seconds: Int) -> UInt32 {
        UInt32(clamping: max(1, (seconds.multipliedReportingOverflow(by: 1_000_000_000).partialValue) >> 26))
    }

    /// Ticks since `then`; 0 if that lies ahead, as another worker's clock may.
    @inline(__always)
    func since(_ then: UInt32) -> UInt32 {
        let passed = rawValue &- then
        return passed > UInt32(Int32.max) ? 0 : passed
    }
}

/// What a key of the flow table is about.
enum FlowKind {
    static let ipv4: UInt8 = 1
    static let ipv6: UInt8 = 2
    /// A datagram in fragments.
    static let datagram4: UInt8 = 3
    static let datagram6: UInt8 = 4
    /// Two hosts with an FTP control connection.
    static let companion4: UInt8 = 5
    static let companion6: UInt8 = 6
}

/// Two endpoints, protocol, VLAN and kind; the lesser endpoint first, so that both directions have one key.
struct FlowKey: BitwiseCopyable {
    var lesser: AddressWords
    var greater: AddressWords
    /// Lesser port, greater port, VLAN, protocol, kind.
    var tail: UInt64

    @inline(__always)
    func equals(_ other: FlowKey) -> Bool {
        (lesser.high ^ other.lesser.high) | (lesser.low ^ other.lesser.low) | (greater.high ^ other.greater.high)
            | (greater.low ^ other.greater.low) | (tail ^ other.tail) == 0
    }

    /// Of IPv4: address and port of either endpoint, and the rest of the key multiplied.
    @inline(__always)
    static func hash(_ lesser: UInt64, _ greater: UInt64, _ rest: UInt64, _ seed: HashSeed) -> UInt64 {
        // Once more: one product alone spreads addresses and ports that follow each other badly.
        mum(mum(lesser ^ seed.s0, greater ^ seed.s1 ^ rest), HashSeed.finish)
    }

    @inline(__always)
    func hash(_ seed: HashSeed) -> UInt64 {
        // VLAN, protocol and kind by a secret multiplier of their own: nobody can play them off against addresses.
        let rest = (tail &>> 32) &* seed.s2
        // Also of IPv6, if no bit is lost.
        if lesser.high | greater.high | (lesser.low | greater.low) &>> 32 == 0 {
            return Self.hash(lesser.low &<< 16 | tail & 0xFFFF, greater.low &<< 16 | tail &>> 16 & 0xFFFF, rest, seed)
        }
        let first = mum(lesser.high ^ seed.s0, lesser.low ^ seed.s1 ^ rest)
        let second = mum(greater.high ^ seed.s2, greater.low ^ seed.s3)
        return mum(first ^ (tail & 0xFFFF_FFFF), second ^ seed.s1)
    }
}

/// The port of the bridge that an endpoint sends by. A flow that crosses has its endpoints on different sides: what one wire says
/// for both is forged.
struct FlowSide: BitwiseCopyable, Equatable {
    let rawValue: UInt8

    @inline(__always) init(rawValue: UInt8) { self.rawValue = rawValue }
    /// - Parameter side: nil: a capture does not say.
    @inline(__always) init(_ side: Side?) { rawValue = side == nil ? 0 : side == .inside ? 1 : 2 }

    /// Both known, and the same.
    @inline(__always) func isSame(_ other: FlowSide) -> Bool { rawValue != 0 && rawValue == other.rawValue }
    /// Both known, and not the same.
    @inline(__always) func isOther(_ other: FlowSide) -> Bool { rawValue != 0 && other.rawValue != 0 && rawValue != other.rawValue }
}

/// How far a flow has come.
enum FlowStage: UInt8 {
    /// UDP, ICMP and others: asked; answered.
    case asked, answered
    /// TCP: the client's SYN; the server's SYN-ACK.
    case opening, accepted
    /// TCP whose beginning was not seen, and whose directions have not yet been seen to fit together.
    case pickedUp
    /// TCP: the client's ACK; the same, with its windows followed (`tcp = "strict"`).
    case established, held
    /// TCP: one FIN; both; a RST.
    case halfClosed, closing, reset
    /// Fragments of a datagram; a companion entry of an FTP control connection.
    case fragments, companion
}

/// One direction of a TCP connection, after G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2000).
struct TCPHalf: BitwiseCopyable {
    /// Sequence number behind the last byte sent. Other protocols: the tick of the last request from the inside (or from no known
    /// side), 0: none; fragments: where the next begins.
    var end: UInt32
    /// The furthest that the other side's window allows. Other protocols: the tick of the last request from the outside.
    var limit: UInt32
    /// The largest window this side has offered, scaled.
    var window: UInt32
    /// What this side has acknowledged last: the next sequence number it expects.
    var acknowledged: UInt32
}

struct FlowMarks: OptionSet, BitwiseCopyable {
    var rawValue: UInt8
    /// The greater endpoint is the client.
    @inline(__always) static var clientIsGreater: FlowMarks { FlowMarks(rawValue: 1) }
    /// A segment of that endpoint has been seen (TCP); it has asked (others).
    @inline(__always) static var lesserSeen: FlowMarks { FlowMarks(rawValue: 2) }
    @inline(__always) static var greaterSeen: FlowMarks { FlowMarks(rawValue: 4) }
    /// A FIN of that endpoint.
    @inline(__always) static var lesserEnded: FlowMarks { FlowMarks(rawValue: 8) }
    @inline(__always) static var greaterEnded: FlowMarks { FlowMarks(rawValue: 16) }
    /// Nothing of it may push others out, but others may push it out.
    @inline(__always) static var isTentative: FlowMarks { FlowMarks(rawValue: 32) }
    /// A data connection that no rule names: it lives by the rule of its control connection.
    @inline(__always) static var isExpected: FlowMarks { FlowMarks(rawValue: 64) }
    /// `synSequence` is a SYN's that has not been answered.
    @inline(__always) static var hasSYN: FlowMarks { FlowMarks(rawValue: 128) }

    @inline(__always) static var bothSeen: FlowMarks { FlowMarks(rawValue: 2 | 4) }
    @inline(__always) static var bothEnded: FlowMarks { FlowMarks(rawValue: 8 | 16) }

    @inline(__always)
    static func seen(_ endpoint: Int) -> FlowMarks { FlowMarks(rawValue: 2 &<< UInt8(truncatingIfNeeded: endpoint)) }
    @inline(__always)
    static func ended(_ endpoint: Int) -> FlowMarks { FlowMarks(rawValue: 8 &<< UInt8(truncatingIfNeeded: endpoint)) }
}

/// A flow. All zero: none.
struct FlowEntry: BitwiseCopyable {
    var key: FlowKey
    /// Of the table that let its last frame pass.
    var version: UInt32
    /// `FlowRule.identity` of the rule that did.
    var rule: UInt32
    /// When its last frame passed.
    var lastSeen: UInt32
    /// Ticks after which it is forgotten.
    var timeout: UInt32
    var stage: FlowStage
    var marks: FlowMarks
    /// Of the lesser and the greater endpoint: window scale in the low four bits (15: none offered), side above (`FlowSide`).
    var ends: (UInt8, UInt8)
    /// Sequence number of an unanswered SYN.
    var synSequence: UInt32

    /// The entry and its halves.
    static let bytes = 64 + 32
}

/// A flow's place: its entry and its two halves, which lie apart.
struct FlowSlot: BitwiseCopyable {
    let entry: UnsafeMutablePointer<FlowEntry>
    let halves: UnsafeMutablePointer<TCPHalf>

    @inline(__always) var pointee: FlowEntry {
        unsafeAddress { UnsafePointer(entry) }
        nonmutating unsafeMutableAddress { entry }
    }

    /// 0: the lesser endpoint, 1: the greater.
    @inline(__always)
    func half(_ endpoint: Int) -> UnsafeMutablePointer<TCPHalf> { halves + endpoint }

    @inline(__always)
    private func end(_ endpoint: Int) -> UInt8 { endpoint == 0 ? pointee.ends.0 : pointee.ends.1 }

    @inline(__always)
    private func setEnd(_ endpoint: Int, _ value: UInt8) {
        if endpoint == 0 { pointee.ends.0 = value } else { pointee.ends.1 = value }
    }

    @inline(__always)
    func scale(_ endpoint: Int) -> UInt32 { UInt32(end(endpoint) & 15) }

    @inline(__always)
    func setScale(_ endpoint: Int, _ scale: UInt8) { setEnd(endpoint, end(endpoint) & 0xF0 | scale & 15) }

    /// Where the endpoint was seen to send from.
    @inline(__always)
    func side(_ endpoint: Int) -> FlowSide { FlowSide(rawValue: end(endpoint) &>> 4) }

    @inline(__always)
    func setSide(_ endpoint: Int, _ side: FlowSide) { setEnd(endpoint, end(endpoint) & 15 | side.rawValue &<< 4) }

    @inline(__always) var client: Int { pointee.marks.contains(.clientIsGreater) ? 1 : 0 }

    @inline(__always)
    func isOver(_ now: FlowTick) -> Bool { now.since(pointee.lastSeen) > pointee.timeout }
}

/// Ticks after which a flow that stands still is forgotten, by stage.
enum FlowTimeouts {
    /// A SYN's retransmissions come at 1, 3, 7, 15, 31 s and renew it (RFC 6298).
    @inline(__always) static var opening: UInt32 { seconds(30) }
    /// As nf_conntrack: HSMS sessions live for days, and say nothing between linktests.
    @inline(__always) static var established: UInt32 { seconds(5 * 86400) }
    @inline(__always) static var halfClosed: UInt32 { seconds(120) }
    @inline(__always) static var closing: UInt32 { seconds(60) }
    @inline(__always) static var reset: UInt32 { seconds(10) }
    @inline(__always) static var pickedUp: UInt32 { seconds(300) }
    /// RFC 791 3.2 has 15 s, RFC 8200 4.5 has 60 s, Linux takes 30 s for IPv4.
    @inline(__always) static var fragments: UInt32 { seconds(60) }
    /// From the last word on the control connection to the beginning of a data connection.
    @inline(__always) static var companion: UInt32 { seconds(60) }

    @inline(__always)
    private static func seconds(_ count: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: (count &* 1_000_000_000) &>> 26) }
}
