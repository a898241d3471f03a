// From frames to conversations.
//
//   record ─► connection (fixed memory) ─► which side serves? ─► conversation, by day ─► `drain` ─► the store
//
// A frame costs a look at its connection; its conversation is touched when an hour or the connection ends, and when
// the owner drains.

import Allowlist
import Frames

/// What the learner hands to the store.
public struct LearntDay: Sendable {
    /// For `Learner.setRow`.
    public var conversation: Int
    public var key: ConversationKey
    /// In the store; 0: new.
    public var row: Int64
    public var orientation: Orientation
    /// Since the last time; counts are to be added.
    public var day: ConversationDay
}

/// An address as it was seen to be used.
public struct LearntAddress: Sendable, Hashable {
    public var address: AddressWords
    public var family: IPFamily
    public var vlan: VLANID
    public var mac: MACAddress
    public var side: Side?
}

/// All that is new since the last time, for the store.
public struct LearntBatch: Sendable {
    public var days: [LearntDay]
    public var intervals: [(conversation: Int, row: Int64, intervals: Intervals)]
    public var addresses: [(LearntAddress, first: UInt64, last: UInt64)]
    public var etherTypes: [EtherType: UInt64]
    public var counts: LearnerCounts
}

/// Counts of what the learner was given.
public struct LearnerCounts: Sendable, Equatable {
    public var frames: UInt64 = 0
    /// Malformed, by the parser's word: never learnt.
    public var malformed: UInt64 = 0
    /// Of conversations that found no room any more.
    public var overflow: UInt64 = 0
}

/// Learns from traffic records, in order of time.
///
/// Memory: 16 MB for connections, 4 MB for ports, 150 bytes for each conversation.
public final class Learner {
    public static let mostConversations = 2_000_000
    /// A client that was never answered by so many is scanning: the rest is only counted.
    public static let mostUnanswered = 2_000
    /// Of all clients together, so that forged ones take no room from those that are answered.
    public static let mostUnansweredInAll = 200_000
    /// Addresses that may wait to be written down: forged ones must not fill the memory.
    static let mostAddresses = 200_000

    private var connections: ConnectionTable
    private let scramble = Scramble()
    private var fans = PortFans()
    private var index = ConversationIndex()
    // Unsafe: owned here alone; `count` are initialized, of `room`.
    private var conversations: UnsafeMutablePointer<Conversation>
    private var room = 1 << 10
    public private(set) var count = 0
    private var dirty: [UInt32] = []
    /// Days that ended since the last drain.
    private var ended: [LearntDay] = []
    private var intervals: [Intervals] = []
    private var freshIntervals: Set<Int> = []
    private var addresses: [LearntAddress: (first: UInt64, last: UInt64)] = [:]
    private var etherTypes: [EtherType: UInt64] = [:]
    private var unanswered: [AddressWords: Int] = [:]
    private var unansweredCount = 0
    public private(set) var counts = LearnerCounts()
    /// Latest time seen, ns since 1970.
    public private(set) var now: UInt64 = 0

    /// - Parameter connections: that can be followed at once, a power of two.
    public init(connections: Int = 1 << 17) {
        self.connections = ConnectionTable(capacity: connections)
        conversations = .allocate(capacity: room)
    }

    deinit { conversations.deallocate() }

    // MARK: - Frames

    public func learn(_ record: TrafficRecord) {
        counts.frames &+= UInt64(record.frames)
        // What cannot be, and IPv6 addresses that would read as IPv4's (::/96, RFC 4291 2.5.5.1: not in use).
        let isStrange =
            record.cause.isOfParser || record.last > Self.latest
            || record.form == .ipv6 && (Self.looksLikeIPv4(record.source) || Self.looksLikeIPv4(record.destination))
        if isStrange {
            counts.malformed &+= UInt64(record.frames)
            return
        }
        // A clock that was set back far is believed; small disorder is not.
        now = now > record.last && now - record.last > 3_600_000_000_000 ? record.last : max(now, record.last)
        switch record.form {
        case .ipv4, .ipv6:
            // Errors are about what others sent, and later fragments have no ports.
            if record.marks.contains(.icmpError) || record.marks.contains(.laterFragment) { return }
            follow(record)
        default:
            etherTypes[record.etherType, default: 0] &+= UInt64(record.frames)
        }
    }

    /// ns since 1970: the year 2116. Later stamps are a clock that was never set.
    private static let latest: UInt64 = 1 << 62

    private static func looksLikeIPv4(_ address: AddressWords) -> Bool { address.high == 0 && address.low >> 32 == 0 }

    private func follow(_ record: TrafficRecord) {
        let isTCP = record.ipProtocol == .tcp
        var sourcePort = UInt64(record.sourcePort.rawValue), destinationPort = UInt64(record.destinationPort.rawValue)
        // Request and answer of ICMP have one key: the request's type and code.
        let isICMP = !record.ipProtocol.hasPorts && sourcePort | destinationPort != 0
        if isICMP {
            sourcePort = record.marks.contains(.neverForward) ? sourcePort : destinationPort
            destinationPort = 0
        }
        let isSwapped: Bool
        if record.source.high != record.destination.high {
            isSwapped = record.source.high > record.destination.high
        } else if record.source.low != record.destination.low {
            isSwapped = record.source.low > record.destination.low
        } else {
            isSwapped = sourcePort > destinationPort
        }
        let keepsPorts = isICMP || !isSwapped
        let tail =
            (keepsPorts ? sourcePort | destinationPort << 16 : destinationPort | sourcePort << 16) | UInt64(record.vlan.rawValue) << 32
            | UInt64(record.ipProtocol.rawValue) << 48 | UInt64(record.form == .ipv6 ? 6 : 4) << 56
        let lesser = isSwapped ? record.destination : record.source, greater = isSwapped ? record.source : record.destination
        let sender: UInt8 = isSwapped ? 1 : 0
        let (one, isKnown) = connections.place(scramble.hash(lesser, greater, tail), lesser, greater, tail)
        var isNew = !isKnown
        if isKnown, isOver(one, record, sender, isTCP) {
            fold(one)
            isNew = true
        }
        if isNew {
            // A farewell of a connection that is not known any more says nothing about who served.
            if isTCP, record.tcpFlags.rawValue & Connection.endingFlags != 0, !record.tcpFlags.contains(.syn) { return }
            if !isKnown, !one.pointee.isFree { fold(one) }
            begin(one, record, lesser, greater, tail, sender, isICMP)
        }
        let isRefusal = isTCP && record.tcpFlags.contains(.rst)
        let hour = UInt32(truncatingIfNeeded: record.last / 3_600_000_000_000)
        if hour != one.pointee.hour {
            settle(one)
            one.pointee.hour = hour
            meet(record)
        }
        one.pointee.last = max(record.last, 1)
        // Who says something for the first time, or after an hour.
        if sender == 0 ? !one.pointee.seen.0 : !one.pointee.seen.1 {
            meet(record)
            let side: UInt8 = record.side == nil ? 0 : record.side == .inside ? 1 : 2
            if sender == 0 { one.pointee.sides.0 = side } else { one.pointee.sides.1 = side }
        }
        if record.cause != .none { one.pointee.denied &+= record.frames }
        if sender == 0 {
            one.pointee.bytes.0 &+= record.bytes
            one.pointee.frames.0 &+= record.frames
            one.pointee.flags.0 |= record.tcpFlags.rawValue
            if !isRefusal { one.pointee.seen.0 = true }
        } else {
            one.pointee.bytes.1 &+= record.bytes
            one.pointee.frames.1 &+= record.frames
            one.pointee.flags.1 |= record.tcpFlags.rawValue
            if !isRefusal { one.pointee.seen.1 = true }
        }
        if one.pointee.orientation == .seen {
            if sender == one.pointee.client { request(one, record, isTCP) } else { answer(one, record, isTCP) }
        } else {
            orient(one, record, sender, isTCP)
        }
    }

    private func meet(_ record: TrafficRecord) {
        // What breaks a binding is forged.
        if record.source == .zero || record.cause == .addressBinding || record.cause == .wrongSide { return }
        let address = LearntAddress(
            address: record.source, family: record.form == .ipv6 ? .ipv6 : .ipv4, vlan: record.vlan, mac: record.sourceMAC, side: record.side)
        if addresses.count >= Self.mostAddresses, addresses[address] == nil { return }
        addresses[address, default: (record.first, record.last)].last = record.last
    }

    /// Silence after which the same ports are another connection, ns: TCP's may live for days.
    private static let tcpSilence: UInt64 = 5 * 86_400_000_000_000
    private static let otherSilence: UInt64 = 60_000_000_000

    /// The same ports are used anew.
    private func isOver(_ one: UnsafeMutablePointer<Connection>, _ record: TrafficRecord, _ sender: UInt8, _ isTCP: Bool) -> Bool {
        let silence = record.first > one.pointee.last ? record.first - one.pointee.last : 0
        guard isTCP else { return silence > Self.otherSilence }
        if silence > Self.tcpSilence { return true }
        // A SYN behind the end of a connection, or behind an answer; one that comes again asks again.
        return record.tcpFlags.opensConnection
            && ((one.pointee.flags.0 | one.pointee.flags.1) & Connection.endingFlags != 0 || one.pointee.isAnswered || one.pointee.client != sender)
    }

    private func begin(
        _ one: UnsafeMutablePointer<Connection>, _ record: TrafficRecord, _ lesser: AddressWords, _ greater: AddressWords,
        _ tail: UInt64, _ sender: UInt8, _ isICMP: Bool
    ) {
        one.pointee = Connection(
            lesser: lesser, greater: greater, tail: tail, first: record.first, last: max(record.last, 1), bytes: (0, 0), frames: (0, 0),
            lastRequest: 0, conversation: -1, hour: UInt32(truncatingIfNeeded: record.first / 3_600_000_000_000), flags: (0, 0), client: sender,
            orientation: nil, opener: sender, denied: 0, isCounted: false, isAnswered: false, awaitsAnswer: false, seen: (false, false))
        if isICMP {
            one.pointee.client = record.marks.contains(.neverForward) ? 1 &- sender : sender
            one.pointee.orientation = .seen
        } else if !record.ipProtocol.hasPorts || record.destination.isGroup(record.form == .ipv6 ? .ipv6 : .ipv4) {
            // Who is all or many never asks.
            one.pointee.orientation = .inferred
        } else if record.ipProtocol == .tcp, record.tcpFlags.contains(.syn) {
            one.pointee.client = record.tcpFlags.contains(.ack) ? 1 &- sender : sender
            one.pointee.orientation = .seen
        } else {
            for endpoint in 0..<UInt8(2) {
                fans.note(endpoint == 0 ? lesser : greater, port(one, endpoint), record.ipProtocol, isServer: false)
            }
        }
    }

    private func port(_ one: UnsafeMutablePointer<Connection>, _ endpoint: UInt8) -> UInt16 {
        UInt16(truncatingIfNeeded: endpoint == 0 ? one.pointee.tail : one.pointee.tail >> 16)
    }

    // MARK: - Requests and answers

    @inline(__always)
    private func request(_ one: UnsafeMutablePointer<Connection>, _ record: TrafficRecord, _ isTCP: Bool) {
        // Of TCP only what carries data asks for something.
        guard !isTCP || record.tcpFlags.contains(.psh) else { return }
        if one.pointee.awaitsAnswer { return }
        one.pointee.awaitsAnswer = true
        if one.pointee.lastRequest != 0, one.pointee.conversation >= 0, record.first > one.pointee.lastRequest {
            noteInterval(Int(one.pointee.conversation), record.first - one.pointee.lastRequest)
        }
        one.pointee.lastRequest = record.first
    }

    @inline(__always)
    private func answer(_ one: UnsafeMutablePointer<Connection>, _ record: TrafficRecord, _ isTCP: Bool) {
        if one.pointee.isAnswered, !one.pointee.awaitsAnswer { return }
        // A refusal is no answer, nor what came unasked, or by the wire of who asked: anybody can send that.
        if isTCP, record.tcpFlags.contains(.rst) { return }
        let client = one.pointee.client
        guard client == 0 ? one.pointee.seen.0 : one.pointee.seen.1, one.pointee.isByTwoWires else { return }
        if !isTCP || record.tcpFlags.contains(.psh) { one.pointee.awaitsAnswer = false }
        if one.pointee.isAnswered { return }
        if isTCP, one.pointee.orientation == .seen {
            let server = 1 &- one.pointee.client
            fans.note(server == 0 ? one.pointee.lesser : one.pointee.greater, port(one, server), one.pointee.ipProtocol, isServer: true)
        }
        countAnswer(one)
    }

    private func countAnswer(_ one: UnsafeMutablePointer<Connection>) {
        one.pointee.isAnswered = true
        enter(one)
        if one.pointee.conversation >= 0 { conversations[Int(one.pointee.conversation)].day.answered &+= 1 }
    }

    /// A connection whose beginning was not seen.
    @inline(never)
    private func orient(_ one: UnsafeMutablePointer<Connection>, _ record: TrafficRecord, _ sender: UInt8, _ isTCP: Bool) {
        if isTCP, record.tcpFlags.contains(.syn) {
            one.pointee.client = record.tcpFlags.contains(.ack) ? 1 &- sender : sender
            one.pointee.orientation = .seen
            if sender != one.pointee.client { answer(one, record, isTCP) }
            return
        }
        if one.pointee.orientation == nil {
            // Of two ways that are known already, the first speaker's.
            for client in [one.pointee.opener, 1 &- one.pointee.opener] {
                guard let known = index.find(key(one, client: client), conversations) else { continue }
                one.pointee.client = client
                if conversations[known].orientation == .guessed {
                    // A guess does not become more by being repeated, but by what is known of the ports meanwhile.
                    (one.pointee.client, one.pointee.orientation) = weighed(one)
                    if one.pointee.orientation == .guessed { one.pointee.client = client }
                } else {
                    one.pointee.orientation = .inferred
                }
                if one.pointee.client == client { one.pointee.conversation = Int32(known) }
                break
            }
        }
        guard one.pointee.orientation != nil else { return }
        if sender == one.pointee.client { request(one, record, isTCP) } else { answer(one, record, isTCP) }
    }

    /// Decides by what is known by now.
    private func decide(_ one: UnsafeMutablePointer<Connection>) {
        guard one.pointee.orientation == nil else { return }
        (one.pointee.client, one.pointee.orientation) = weighed(one)
        if one.pointee.seen.0, one.pointee.seen.1, one.pointee.isByTwoWires { countAnswer(one) }
    }

    /// Who is the client, by what is known of both ports by now.
    private func weighed(_ one: UnsafeMutablePointer<Connection>) -> (client: UInt8, Orientation) {
        let opener = one.pointee.opener, other = 1 &- opener
        let evidence = [opener, other].map { endpoint in
            let port = port(one, endpoint)
            let known = fans.look(endpoint == 0 ? one.pointee.lesser : one.pointee.greater, port, one.pointee.ipProtocol)
            return ServiceEvidence(port: port, connections: known.connections, wasOpened: known.isServer)
        }
        let (servesSecond, orientation) = ServiceEvidence.servesSecond(evidence[0], evidence[1])
        return (servesSecond ? opener : other, orientation)
    }

    private func key(_ one: UnsafeMutablePointer<Connection>, client: UInt8) -> ConversationKey {
        let ipProtocol = one.pointee.ipProtocol
        // ICMP's number is where the lesser endpoint's port would be.
        let service = ipProtocol.hasPorts ? port(one, 1 &- client) : port(one, 0)
        return ConversationKey(
            client: client == 0 ? one.pointee.lesser : one.pointee.greater, server: client == 0 ? one.pointee.greater : one.pointee.lesser,
            service: Port(rawValue: service), vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: one.pointee.tail >> 32)), ipProtocol: ipProtocol,
            family: one.pointee.tail >> 56 == 6 ? .ipv6 : .ipv4)
    }

    // MARK: - Conversations

    /// Finds or makes the conversation of a connection whose sides are known, and counts it there.
    private func enter(_ one: UnsafeMutablePointer<Connection>) {
        if one.pointee.conversation < 0 {
            let key = key(one, client: one.pointee.client)
            if let known = index.find(key, conversations) {
                one.pointee.conversation = Int32(known)
            } else if count >= Self.mostConversations || !one.pointee.isAnswered
                && (unanswered[key.client, default: 0] >= Self.mostUnanswered || unansweredCount >= Self.mostUnansweredInAll)
            {
                counts.overflow &+= UInt64(one.pointee.frames.0 &+ one.pointee.frames.1)
                return
            } else {
                if !one.pointee.isAnswered {
                    unanswered[key.client, default: 0] += 1
                    unansweredCount += 1
                }
                one.pointee.conversation = Int32(add(key, one.pointee.orientation ?? .guessed))
            }
        }
        let conversation = conversations + Int(one.pointee.conversation)
        if let orientation = one.pointee.orientation, orientation > conversation.pointee.orientation {
            conversation.pointee.orientation = orientation
        }
        guard !one.pointee.isCounted else { return }
        one.pointee.isCounted = true
        turn(conversation, to: one.pointee.first)
        conversation.pointee.day.connections &+= 1
        conversation.pointee.day.widen(one.pointee.first, one.pointee.first)
        mark(Int(one.pointee.conversation))
    }

    private func add(_ key: ConversationKey, _ orientation: Orientation) -> Int {
        if count == room {
            let more = UnsafeMutablePointer<Conversation>.allocate(capacity: room * 2)
            more.moveInitialize(from: conversations, count: count)
            conversations.deallocate()
            conversations = more
            room *= 2
        }
        (conversations + count).initialize(
            to: Conversation(key: key, row: 0, day: .none, intervals: -1, orientation: orientation, isDirty: false))
        index.insert(count, conversations)
        count += 1
        return count - 1
    }

    private func mark(_ index: Int) {
        if conversations[index].isDirty { return }
        conversations[index].isDirty = true
        dirty.append(UInt32(index))
    }

    /// Makes `day` the one that this moment belongs to; what there was of another goes to the store.
    private func turn(_ conversation: UnsafeMutablePointer<Conversation>, to time: UInt64) {
        let day = Int32(truncatingIfNeeded: time / 86_400_000_000_000)
        if conversation.pointee.day.day == day { return }
        if conversation.pointee.isDirty, conversation.pointee.day.day != ConversationDay.none.day {
            ended.append(learnt(Int(conversation - conversations)))
        }
        conversation.pointee.day = .none
        conversation.pointee.day.day = day
    }

    private func learnt(_ index: Int) -> LearntDay {
        let one = conversations[index]
        return LearntDay(conversation: index, key: one.key, row: one.row, orientation: one.orientation, day: one.day)
    }

    /// Adds what a connection has carried to its conversation.
    private func settle(_ one: UnsafeMutablePointer<Connection>) {
        let frames = one.pointee.frames
        guard frames.0 | frames.1 != 0, one.pointee.orientation != nil else { return }
        enter(one)
        let bytes = one.pointee.bytes
        let denied = one.pointee.denied
        one.pointee.frames = (0, 0)
        one.pointee.bytes = (0, 0)
        one.pointee.denied = 0
        guard one.pointee.conversation >= 0 else { return }
        let conversation = conversations + Int(one.pointee.conversation)
        let time = one.pointee.last
        turn(conversation, to: time)
        let isSwapped = one.pointee.client == 1
        conversation.pointee.day.framesOut &+= UInt64(isSwapped ? frames.1 : frames.0)
        conversation.pointee.day.framesIn &+= UInt64(isSwapped ? frames.0 : frames.1)
        conversation.pointee.day.bytesOut &+= isSwapped ? bytes.1 : bytes.0
        conversation.pointee.day.bytesIn &+= isSwapped ? bytes.0 : bytes.1
        conversation.pointee.day.denied &+= denied
        conversation.pointee.day.hours |= 1 << (one.pointee.hour % 24)
        let first = max(one.pointee.first, time / 86_400_000_000_000 * 86_400_000_000_000)
        conversation.pointee.day.widen(first, time)
        mark(Int(one.pointee.conversation))
    }

    /// A connection is over, or its place is needed.
    private func fold(_ one: UnsafeMutablePointer<Connection>) {
        decide(one)
        settle(one)
        if !one.pointee.isAnswered, one.pointee.conversation >= 0 {
            let flags = one.pointee.client == 0 ? one.pointee.flags.1 : one.pointee.flags.0
            if flags & TCPFlags.rst.rawValue != 0 {
                let conversation = conversations + Int(one.pointee.conversation)
                turn(conversation, to: one.pointee.last)
                conversation.pointee.day.refused &+= 1
                mark(Int(one.pointee.conversation))
            }
        }
        one.pointee.last = 0
    }

    private func noteInterval(_ index: Int, _ nanoseconds: UInt64) {
        if conversations[index].intervals < 0 {
            conversations[index].intervals = Int32(intervals.count)
            intervals.append(Intervals())
        }
        let at = Int(conversations[index].intervals)
        intervals[at].add(Float(nanoseconds) / 1e9)
        freshIntervals.insert(index)
    }

    // MARK: - What was learnt

    /// Folds every connection: a capture has ended, or another begins.
    public func finish() {
        for i in 0..<connections.capacity where !connections[i].pointee.isFree { fold(connections[i]) }
    }

    /// What is new since the last time. Connections that have been silent for a while are decided and folded; others go on.
    public func drain() -> [LearntDay] {
        for i in 0..<connections.capacity {
            let one = connections[i]
            if one.pointee.isFree { continue }
            if now > one.pointee.last, now - one.pointee.last > Self.patience(one) {
                fold(one)
            } else {
                // A guess that waits a little is a better one.
                if now > one.pointee.first, now - one.pointee.first > 10_000_000_000 { decide(one) }
                settle(one)
            }
        }
        var days = ended
        ended.removeAll()
        for index in dirty {
            let index = Int(index)
            conversations[index].isDirty = false
            days.append(learnt(index))
            let day = conversations[index].day.day
            conversations[index].day = .none
            conversations[index].day.day = day
        }
        dirty.removeAll(keepingCapacity: true)
        return days
    }

    private static func patience(_ one: UnsafeMutablePointer<Connection>) -> UInt64 {
        guard one.pointee.ipProtocol == .tcp else { return otherSilence }
        if !one.pointee.isAnswered { return otherSilence }
        return (one.pointee.flags.0 | one.pointee.flags.1) & Connection.endingFlags != 0 ? 10_000_000_000 : tcpSilence
    }

    /// All of it. Whoever cannot write it down keeps it, and tries again before the next.
    public func takeBatch() -> LearntBatch {
        LearntBatch(days: drain(), intervals: drainIntervals(), addresses: drainAddresses(), etherTypes: drainEtherTypes(), counts: counts)
    }

    /// A conversation that was learnt before. Which side serves need not be guessed again.
    public func know(_ key: ConversationKey, _ orientation: Orientation, row: Int64) {
        guard count < Self.mostConversations, index.find(key, conversations) == nil else { return }
        setRow(add(key, orientation), row)
        if orientation == .seen, key.ipProtocol.hasPorts { fans.note(key.server, key.service.rawValue, key.ipProtocol, isServer: true) }
    }

    /// Conversations that have something new; a drain takes some two hundred bytes for each.
    public var waiting: Int { dirty.count + ended.count }

    /// Of a conversation, by its number.
    public func key(_ conversation: Int) -> ConversationKey? { (0..<count).contains(conversation) ? conversations[conversation].key : nil }

    /// The store's name for a conversation.
    public func setRow(_ conversation: Int, _ row: Int64) { conversations[conversation].row = row }

    /// Intervals that changed since the last time, by conversation.
    public func drainIntervals() -> [(conversation: Int, row: Int64, intervals: Intervals)] {
        let fresh = freshIntervals.map { ($0, conversations[$0].row, intervals[Int(conversations[$0].intervals)]) }
        freshIntervals.removeAll(keepingCapacity: true)
        return fresh
    }

    public func drainAddresses() -> [(LearntAddress, first: UInt64, last: UInt64)] {
        let all = addresses.map { ($0.key, $0.value.first, $0.value.last) }
        addresses.removeAll(keepingCapacity: true)
        return all
    }

    public func drainEtherTypes() -> [EtherType: UInt64] {
        let all = etherTypes
        etherTypes.removeAll()
        return all
    }
}
