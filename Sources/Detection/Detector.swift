// From traffic records to a few alerts.
//
//   record ─► is it of an expected conversation? ─ yes ─► its sender, its hours, its volume; it lives
//                     └ no ─► contact ─► does it fail? is anything like it known? how often? ─► actor ─► alert
//
// The daemon calls `observe` for every record in order of time, but for those that are urgent, which come up to a tenth of a second before
// others; and `tick` a few times a second. Memory is bounded whatever is sent.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

/// What happens to the bridge itself.
public enum BridgeEvent: Sendable, Equatable {
    /// Frames came and no worker judged them.
    ///
    /// - Parameters: the cause's name, what became of the frames, in words; `times` more than once if nobody was there to see it.
    case failureEntered(cause: String, frames: String, times: UInt64)
    case failureLeft(cause: String, lasted: String)
    case policyChanged(name: String, version: UInt64, mode: String, rules: Int)
}

/// What the detector was given, and what it had no room for.
public struct DetectorCounts: Sendable, Equatable {
    public var records: UInt64 = 0
    /// Records that are not of an expected conversation.
    public var unfamiliar: UInt64 = 0
    /// New contacts of actors that have too many already: counted only.
    public var uncounted: UInt64 = 0
    /// Senders for which no alert of their own had room.
    public var collapsed: UInt64 = 0
}

public struct Detector: ~Copyable {
    static let mostActors = 2048
    static let mostOpen = 256
    static let mostDevices = 65_536
    /// Unknown network cards of one side that may come in a minute, and in all, before they are taken for one that forges.
    static let (mostNewStrangers, mostStrangers) = (4, 128)
    /// Unknown devices behind one router.
    static let mostBehindRouter = 8
    static let second: UInt64 = 1_000_000_000
    static let hour: UInt64 = 3600 * second
    /// An alert ends when there was nothing for so long; and is taken up again if its device does anything within a week: it was told.
    static let quiet = hour
    static let memory = 7 * 24 * hour

    let norms: Norms
    var policy: PolicyView
    let known: KnownTable
    var devices: [KnownDevice] = []
    var deviceByAddress: [AddressWords: Int32] = [:]
    /// Places of conversations that are expected all the time.
    var watched: [Int32] = []
    /// Addresses by MAC address, of devices that the history does not know.
    var liveAddresses: [MACAddress: Int] = [:]

    var contacts = Contacts()
    var pending: [(ContactReference, due: UInt64)] = []
    var pendingHead = 0
    var actors: [Actor] = []
    var actorByKey: [ActorKey: Int] = [:]
    var serials: UInt32 = 0
    /// Unknown cards by side: in all, in this minute, and when it began.
    var strangers: [Int: (all: Int, now: Int, since: UInt64)] = [:]
    var behindRouter: [MACAddress: Int] = [:]
    /// Places of actors whose alert has something to say.
    var dirty: Set<Int> = []
    var nextAlert: Int64

    public private(set) var counts = DetectorCounts()
    /// Latest time seen, ns since 1970.
    public var now: UInt64 = 0
    /// Since when it watches; 0: not yet.
    var began: UInt64 = 0
    var ticked: UInt64 = 0
    var silenceDue: UInt64 = 0
    var expiryDue: UInt64 = 0

    /// - Parameters:
    ///   - norms: by the history there is at the start.
    ///   - alerts: of the last week, to be taken up again.
    ///   - nextAlert: the number of the next new one.
    public init(_ norms: Norms, policy: PolicyView, alerts: [Alert] = [], nextAlert: Int64 = 1) {
        self.norms = norms
        self.policy = policy
        self.nextAlert = nextAlert
        devices = norms.devices.map { KnownDevice($0.address, mac: $0.mac, side: $0.side) }
        for (place, device) in devices.enumerated() { deviceByAddress[device.address] = Int32(place) }
        var conversations: [KnownConversation] = []
        conversations.reserveCapacity(norms.expected.count)
        for one in norms.expected {
            let client = deviceByAddress[one.key.client] ?? -1, server = deviceByAddress[one.key.server] ?? -1
            if one.patience > 0 {
                watched.append(Int32(conversations.count))
                if client >= 0 { devices[Int(client)].expected += 1 }
                if server >= 0 { devices[Int(server)].expected += 1 }
            }
            conversations.append(
                KnownConversation(
                    key: one.key, client: client, server: server, patience: one.patience, mostBytes: one.mostBytes, mostFrames: one.mostFrames, last: 0,
                    bytes: 0, frames: 0, day: 0, closedHours: one.closedHours, isClosedAtWeekends: one.isClosedAtWeekends, isOneWay: one.isOneWay,
                    isMissing: false, saidHours: false, doublings: 0))
        }
        known = KnownTable(conversations)
        for alert in alerts { takeUp(alert) }
    }

    /// Another policy, or another mode, from now on.
    public mutating func use(_ policy: PolicyView) { self.policy = policy }

    public var conversations: Int { known.count }

    /// Network cards of devices that the history or the policy knows.
    public var knownCards: Set<MACAddress> { norms.macs.union(policy.cards) }

    /// Alerts that have not ended.
    public var open: Int { actors.count { $0.alert != 0 && $0.ended == 0 && $0.leader == nil } }

    // MARK: - Records

    public mutating func observe(_ record: TrafficRecord) {
        counts.records &+= 1
        if record.last > now { now = record.last }
        switch record.form {
        case .ipv4, .ipv6: break
        case .arp, .neighbour: return observeClaim(record)
        case .other: return
        }
        if record.marks.rawValue & (FrameMarks.icmpError.rawValue | FrameMarks.laterFragment.rawValue) != 0 { return }
        // The lower port is more often the service's.
        let isAnswerFirst = record.sourcePort.rawValue < record.destinationPort.rawValue
        let mayAsk = !record.marks.contains(.neverForward)
        let mayAnswer = !record.marks.contains(.neverReverse) && !(record.ipProtocol == .tcp && record.tcpFlags.opensConnection)
        if isAnswerFirst, mayAnswer, let one = known.find(ConversationKey(answering: record)) { return familiar(record, one, isAnswer: true) }
        if mayAsk, let one = known.find(ConversationKey(asking: record)) { return familiar(record, one, isAnswer: false) }
        if !isAnswerFirst, mayAnswer, let one = known.find(ConversationKey(answering: record)) { return familiar(record, one, isAnswer: true) }
        counts.unfamiliar &+= 1
        unfamiliar(record)
    }

    @inline(__always)
    private mutating func familiar(_ record: TrafficRecord, _ one: UnsafeMutablePointer<KnownConversation>, isAnswer: Bool) {
        let sender = Int(isAnswer ? one.pointee.server : one.pointee.client)
        if sender >= 0 {
            if !devices[sender].fits(record) {
                if contested(record, sender) { return }
            } else {
                devices[sender].last = record.last
            }
        }
        if record.cause != .none {
            // What is denied shows no life. That a known conversation is not allowed is the policy's business; forging is ours.
            if record.cause == .addressBinding || record.cause == .wrongSide { forged(record) }
            return
        }
        if isAnswer || one.pointee.isOneWay {
            one.pointee.last = record.last
            if one.pointee.isMissing { isBack(one) }
        }
        let day = UInt32(truncatingIfNeeded: record.last / 86_400_000_000_000)
        if day != one.pointee.day {
            one.pointee.day = day
            (one.pointee.bytes, one.pointee.frames) = (0, 0)
            (one.pointee.saidHours, one.pointee.doublings) = (false, 0)
        }
        one.pointee.bytes &+= record.bytes
        one.pointee.frames &+= UInt64(record.frames)
        // Conservative: weekdays' and weekends' limits apart only once one of them is passed.
        if one.pointee.bytes > min(one.pointee.mostBytes.0, one.pointee.mostBytes.1) || one.pointee.frames > min(one.pointee.mostFrames.0, one.pointee.mostFrames.1) {
            volume(record, one)
        }
        if one.pointee.closedHours != 0 || one.pointee.isClosedAtWeekends { hours(record, one) }
    }

    @inline(never)
    private mutating func volume(_ record: TrafficRecord, _ one: UnsafeMutablePointer<KnownConversation>) {
        let isWeekend = isWeekend(day: Int64(one.pointee.day))
        let (bytes, frames) = isWeekend ? (one.pointee.mostBytes.1, one.pointee.mostFrames.1) : (one.pointee.mostBytes.0, one.pointee.mostFrames.0)
        guard one.pointee.bytes > bytes || one.pointee.frames > frames else { return }
        // Told when it is too much, and at each doubling of what is.
        let told = one.pointee.doublings
        while one.pointee.doublings < 64, one.pointee.bytes >> UInt64(one.pointee.doublings) > bytes || one.pointee.frames >> UInt64(one.pointee.doublings) > frames {
            one.pointee.doublings += 1
        }
        guard one.pointee.doublings > told else { return }
        let isOfBytes = Double(one.pointee.bytes) / Double(bytes) >= Double(one.pointee.frames) / Double(frames)
        let what = isOfBytes ? "\(PeopleFormat.grouped(one.pointee.bytes)) bytes" : "\(PeopleFormat.grouped(one.pointee.frames)) frames"
        let start = "moved far more than on any day before in \(Story.conversation(one.pointee.key)) on \(Story.time(record.last).prefix(10)) UTC: "
        noteKnown(.volume, one, record, "\(start)\(what), where \(PeopleFormat.grouped(isOfBytes ? bytes : frames)) were much", replacing: start)
    }

    private mutating func hours(_ record: TrafficRecord, _ one: UnsafeMutablePointer<KnownConversation>) {
        let hour = record.last / 3_600_000_000_000
        let isClosed = one.pointee.closedHours >> UInt32(hour % 24) & 1 == 1
        guard isClosed || one.pointee.isClosedAtWeekends && isWeekend(day: Int64(hour / 24)), !one.pointee.saidHours else { return }
        one.pointee.saidHours = true
        noteKnown(.outOfHours, one, record, "took part in \(Story.conversation(one.pointee.key)) at \(Story.time(record.last)), never before \(isClosed ? "at that hour" : "at weekends")")
    }

    /// What a known conversation does is its client's doing.
    ///
    /// - Parameter start: what the text begins with that it takes the place of; nil: it is one more.
    private mutating func noteKnown(
        _ kind: AlertKind, _ one: UnsafeMutablePointer<KnownConversation>, _ record: TrafficRecord, _ text: String, replacing start: String? = nil
    ) {
        if policy.mode == .learn { return }
        let device = one.pointee.client
        let mac = device >= 0 ? devices[Int(device)].mac : nil
        let key = mac.map { ActorKey(.mac, mac: $0) } ?? ActorKey(.address, address: one.pointee.key.client)
        guard let actor = actor(key, isKnown: true, mac: mac, address: one.pointee.key.client, side: nil, at: record.first) else { return }
        actors[actor].frames &+= UInt64(record.frames)
        actors[actor].addNote(text, replacing: start)
        note(kind, actor, record, confidence: 0.6)
    }

    mutating func uncounted() { counts.uncounted &+= 1 }
    mutating func collapsed() { counts.collapsed &+= 1 }
}
