// Who does something that is worth a word, and what: the matter an alert is made of. Bounded, whoever sends what.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

/// What counts as one, so that one infected laptop is one, whatever addresses it takes.
struct ActorKey: Hashable {
    enum Level: String {
        /// A network card; the usual.
        case mac
        /// A device behind a router.
        case address
        /// All the unknown cards of a side, when there come ever new ones.
        case side
        /// A device, or the wire, of which something is missing.
        case silent
        case bridge, policy
    }

    var level: Level
    var mac = MACAddress(rawValue: 0)
    var address = AddressWords.zero
    var side: Side?

    var text: String {
        switch level {
        case .mac: "mac \(mac.written)"
        case .address: "address \(address.written)"
        case .side: "side \(side.map { "\($0)" } ?? "")"
        case .silent: "silent \(address == .zero ? "" : address.written)"
        case .bridge, .policy: level.rawValue
        }
    }

    init(_ level: Level, mac: MACAddress = MACAddress(rawValue: 0), address: AddressWords = .zero, side: Side? = nil) {
        self.level = level
        self.mac = mac
        self.address = address
        self.side = side
    }

    /// As `text` has it.
    init?(text: String) {
        let parts = text.split(separator: " ", maxSplits: 1).map(String.init)
        guard let level = parts.first.flatMap(Level.init(rawValue:)) else { return nil }
        self.init(level)
        let rest = parts.count == 2 ? parts[1] : ""
        switch level {
        case .mac:
            guard let mac = MACAddress(written: rest) else { return nil }
            self.mac = mac
        case .address, .silent:
            if rest.isEmpty, level == .silent { return }
            guard let address = WrittenAddress(rest) else { return nil }
            self.address = address.words
        case .side: side = rest == "inside" ? .inside : rest == "outside" ? .outside : nil
        case .bridge, .policy: break
        }
    }
}

/// A kind of what it does.
struct BehaviourState {
    var kind: AlertKind
    /// ns since 1970.
    var first: UInt64
    var last: UInt64
    var count: UInt64
    var confidence: Double
}

struct Actor {
    static let mostPeers = 1024
    static let mostServices = 64
    static let mostContacts = 256
    static let mostAddresses = 16

    let key: ActorKey
    /// Not used again when its place is.
    let serial: UInt32
    var isKnown: Bool
    var mac: MACAddress?
    var address: AddressWords
    var side: Side?
    /// Of what is worth a word, ns since 1970.
    var first: UInt64
    var last: UInt64
    var frames: UInt64 = 0
    var attempts: UInt64 = 0
    var deniedFrames: UInt64 = 0
    /// Of what it does itself, the last; of `last` others have their share.
    var acted: UInt64 = 0
    var answered: UInt64 = 0

    var walk: RandomWalk
    /// First contacts that the walk has counted.
    var walked: Set<AddressWords> = []
    var peers: Set<AddressWords> = []
    var failedServices: Set<ServiceKind> = []
    /// Attempts by service.
    var services: [ServiceKind: UInt64] = [:]
    /// Other devices' addresses that it used.
    var claims: Set<AddressWords> = []
    /// Addresses of its own.
    var sources: Set<AddressWords> = []
    /// New conversations on a day, ns since 1970.
    var novelDay: UInt64 = 0
    var novel: [Novelty: Int] = [:]
    /// In `Contacts`.
    var contacts: [ContactReference] = []
    /// What is missing; in words, for alerts that are about no contact.
    private(set) var notes: [String] = []
    static let mostNotes = 8
    var missing: Set<Int32> = []

    var behaviours: [BehaviourState] = []
    /// 0: there is no alert.
    var alert: Int64 = 0
    /// Whose alert it is: of the one that infected it, as it seems.
    var leader: ActorKey?
    /// Who joined it.
    var followers: [ActorKey] = []
    static let mostFollowers = 256
    var begin: UInt64 = 0
    var ended: UInt64 = 0
    var isRaised = false
    var isDirty = false
    var said: (at: UInt64, kind: AlertKind?, severity: Severity) = (0, nil, .info)

    init(_ key: ActorKey, serial: UInt32, isKnown: Bool, mac: MACAddress?, address: AddressWords, side: Side?, at time: UInt64) {
        self.key = key
        self.serial = serial
        self.isKnown = isKnown
        self.mac = mac
        self.address = address
        self.side = side
        (first, last) = (time, time)
        walk = RandomWalk(at: time)
    }

    /// The latest stay: whoever begins with small things must not hide the great one.
    ///
    /// - Parameter start: what the note begins with that this one takes the place of; nil: it is one more.
    mutating func addNote(_ text: String, replacing start: String? = nil) {
        if let start, let place = notes.firstIndex(where: { $0.hasPrefix(start) }) {
            notes[place] = text
        } else {
            if notes.count == Self.mostNotes { notes.removeFirst() }
            notes.append(text)
        }
    }

    var kind: AlertKind { behaviours.max { $0.kind.rank < $1.kind.rank }?.kind ?? .policyChanged }

    var severity: Severity {
        let severities = behaviours.map(\.kind.severity)
        // Scan and slow scan are one thing.
        let grave = Set(behaviours.filter { $0.kind.severity >= .high }.map { $0.kind == .slowScan ? .scan : $0.kind }).count
        return grave >= 2 ? .critical : severities.max() ?? .info
    }
}

struct ContactReference {
    var place: Int32
    var serial: UInt32
}

/// A conversation that nobody expects.
struct Contact {
    var key: ConversationKey
    var serial: UInt32
    var mac: MACAddress
    var side: Side?
    var first: UInt64
    var last: UInt64
    var attempts: UInt64 = 0
    var frames: UInt64 = 0
    var novelty: Novelty
    var isStranger: Bool
    var isDenied = false
    var isAnswered = false
    /// Its outcome was taken for a failure, or for an answer.
    var isDecided = false
    /// Of the last attempt; and when that was.
    var port: Frames.Port
    var lastAttempt: UInt64
    /// Seconds between the last attempts.
    var intervals: [Float] = []
    static let mostIntervals = 16
}

/// Owns the contacts; the oldest of a few makes room.
struct Contacts {
    static let most = 16_384

    private(set) var all: [Contact] = []
    private var places: [ConversationKey: Int32] = [:]
    private var hand = 0
    private var serials: UInt32 = 0

    @inline(__always)
    func find(_ key: ConversationKey) -> Int? { places[key].map(Int.init) }

    subscript(_ place: Int) -> Contact {
        _read { yield all[place] }
        _modify { yield &all[place] }
    }

    func find(_ reference: ContactReference) -> Int? {
        all[Int(reference.place)].serial == reference.serial ? Int(reference.place) : nil
    }

    /// It will be a new one if it comes again.
    mutating func forget(_ place: Int) {
        if places[all[place].key] == Int32(place) { places[all[place].key] = nil }
        all[place].last = 0
    }

    mutating func add(_ contact: Contact) -> ContactReference {
        serials &+= 1
        var contact = contact
        contact.serial = serials
        if all.count < Self.most {
            places[contact.key] = Int32(all.count)
            all.append(contact)
            return ContactReference(place: Int32(all.count - 1), serial: serials)
        }
        var oldest = hand
        for step in 1..<8 where all[(hand + step) % Self.most].last < all[oldest].last { oldest = (hand + step) % Self.most }
        hand = (hand + 8) % Self.most
        forget(oldest)
        all[oldest] = contact
        places[contact.key] = Int32(oldest)
        return ContactReference(place: Int32(oldest), serial: serials)
    }
}
