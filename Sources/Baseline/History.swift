// The history as it is read: every conversation with its days, addresses, decisions.

import Allowlist
import Foundation
import Frames
import GRDB
import Policy

/// A conversation and all that was recorded of it.
public struct RecordedConversation: Sendable {
    public let row: Int64
    public let key: ConversationKey
    public let orientation: Orientation
    public let intervals: Intervals
    /// In order.
    public var days: [ConversationDay]
    /// Also where a cut has left later days only, ns since 1970.
    public internal(set) var firstSeen: UInt64

    public init(row: Int64, key: ConversationKey, orientation: Orientation, intervals: Intervals, days: [ConversationDay]) {
        self.row = row
        self.key = key
        self.orientation = orientation
        self.intervals = intervals
        self.days = days
        firstSeen = days.first?.first ?? 0
    }

    public var first: UInt64 { days.first?.first ?? 0 }
    /// - Parameter moment: seconds since 1970.
    public func isSeen(by moment: Int64) -> Bool { moment > 0 && firstSeen / 1_000_000_000 <= UInt64(moment) }
    public var last: UInt64 { days.map(\.last).max() ?? 0 }
    public var connections: UInt64 { days.reduce(0) { $0 &+ UInt64($1.connections) } }
    public var answered: UInt64 { days.reduce(0) { $0 &+ UInt64($1.answered) } }
    public var refused: UInt64 { days.reduce(0) { $0 &+ UInt64($1.refused) } }
    public var framesOut: UInt64 { days.reduce(0) { $0 &+ $1.framesOut } }
    public var framesIn: UInt64 { days.reduce(0) { $0 &+ $1.framesIn } }
    public var bytesOut: UInt64 { days.reduce(0) { $0 &+ $1.bytesOut } }
    public var bytesIn: UInt64 { days.reduce(0) { $0 &+ $1.bytesIn } }
    public var denied: UInt64 { days.reduce(0) { $0 + UInt64($1.denied) } }
    public var frames: UInt64 { framesOut &+ framesIn }
    /// Hours in which it was seen.
    public var hourCount: Int { days.reduce(0) { $0 + $1.hours.nonzeroBitCount } }
    /// Whoever is asked never says anything to one that is all or many.
    public var isToGroup: Bool { key.server.isGroup(key.family) }
    public var isAnswered: Bool { answered > 0 }

    /// It came on several days, and has not come for much longer than ever between them: a device that is gone, work that is done.
    public func isSilent(in history: History) -> Bool {
        guard days.count >= 3, let last = days.last?.day, let end = history.hours.last else { return false }
        let longest = zip(days, days.dropFirst()).map { Int64($1.day) - Int64($0.day) }.max() ?? 0
        return end / 24 - Int64(last) > max(14, 3 * longest)
    }
}

/// How an address was seen to be used.
public struct RecordedAddress: Sendable, Hashable {
    public var address: LearntAddress
    public var first: UInt64
    public var last: UInt64

    public init(address: LearntAddress, first: UInt64, last: UInt64) {
        self.address = address
        self.first = first
        self.last = last
    }
}

/// What was learnt from.
public struct RecordedSource: Sendable {
    public var kind: String
    public var name: String
    public var learntAt: Int64
    public var first: UInt64
    public var last: UInt64
    public var frames: UInt64
    public var malformed: UInt64
    public var overflow: UInt64
}

public struct History: Sendable {
    public var conversations: [RecordedConversation]
    public var addresses: [RecordedAddress]
    public var sources: [RecordedSource]
    public var etherTypes: [(type: EtherType, frames: UInt64)]
    public var decisions: [Decision]
    public var periods: [Period]
    /// Hours since 1970 in which anything was seen, in order.
    public var hours: [Int64]

    public init(
        conversations: [RecordedConversation], addresses: [RecordedAddress], sources: [RecordedSource], etherTypes: [(type: EtherType, frames: UInt64)],
        decisions: [Decision], periods: [Period], hours: [Int64]
    ) {
        self.conversations = conversations
        self.addresses = addresses
        self.sources = sources
        self.etherTypes = etherTypes
        self.decisions = decisions
        self.periods = periods
        self.hours = hours
    }

    /// A time with a name: "maintenance", a vendor's visit.
    public struct Period: Sendable {
        public var name: String
        /// ns since 1970.
        public var first: UInt64
        public var last: UInt64

        public init(name: String, first: UInt64, last: UInt64) {
            self.name = name
            self.first = first
            self.last = last
        }
    }

    /// Only what lies in one of these times, ns since 1970. Days are cut at their hours; the counts of a cut day stay whole.
    public func during(_ times: [Range<UInt64>]) -> History {
        var cut = self
        cut.conversations = conversations.compactMap { one in
            var one = one
            one.days = one.days.compactMap { Self.cut($0) { hour in times.contains { Self.overlaps(hour, $0) } } }
            return one.days.isEmpty ? nil : one
        }
        cut.hours = hours.filter { hour in times.contains { Self.overlaps(hour, $0) } }
        cut.addresses = addresses.filter { one in times.contains { $0.lowerBound <= one.last && one.first < $0.upperBound } }
        return cut
    }

    /// Without what a person has had forgotten.
    public func forgetting() -> History {
        let forgets = decisions.filter { $0.verdict == .forget }
        if forgets.isEmpty { return self }
        var cut = self
        cut.conversations = conversations.compactMap { one in
            let own = forgets.filter { $0.covers(one.key) }
            if own.isEmpty { return one }
            var one = one
            one.days = one.days.compactMap { Self.cut($0) { hour in !own.contains { $0.first < $0.last && Self.overlaps(hour, $0.first..<$0.last) } } }
            return one.days.isEmpty ? nil : one
        }
        // A device that is forgotten claims no address; a time that is forgotten was not observed.
        let devices = forgets.filter { $0.either != nil && $0.clients == nil && $0.servers == nil && $0.service == nil }
        let times = forgets.filter { $0.either == nil && $0.clients == nil && $0.servers == nil && $0.service == nil }.filter { $0.first < $0.last }.map { $0.first..<$0.last }
        let macs = Set(addresses.filter { one in devices.contains { $0.either!.contains(one.address.address) && one.first < $0.last && one.last >= $0.first } }.map(\.address.mac))
        cut.addresses = addresses.filter { one in
            !macs.contains(one.address.mac) && !times.contains { $0.lowerBound <= one.first && one.last < $0.upperBound }
        }
        cut.hours = hours.filter { hour in !times.contains { Self.overlaps(hour, $0) } }
        return cut
    }

    private static let hourLength: UInt64 = 3_600_000_000_000

    private static func overlaps(_ hour: Int64, _ time: Range<UInt64>) -> Bool {
        guard hour >= 0, let begin = Optional(UInt64(hour).multipliedReportingOverflow(by: hourLength)), !begin.overflow else { return false }
        return begin.partialValue < time.upperBound && begin.partialValue &+ hourLength > time.lowerBound
    }

    /// The day with those of its hours; nil: none is left.
    private static func cut(_ day: ConversationDay, _ keeps: (Int64) -> Bool) -> ConversationDay? {
        var day = day
        var first: UInt64?, last: UInt64 = 0
        for hour in 0..<Int64(24) where day.hours >> UInt32(hour) & 1 == 1 {
            let number = Int64(day.day) * 24 + hour
            if keeps(number) {
                first = first ?? UInt64(max(0, number)) &* hourLength
                last = UInt64(max(0, number) + 1) &* hourLength
            } else {
                day.hours &= ~(1 << UInt32(hour))
            }
        }
        guard let first else { return nil }
        day.first = max(day.first, first)
        day.last = min(day.last, last)
        return day
    }
}

/// What a person has said of conversations.
public struct Decision: Sendable, Equatable {
    public enum Verdict: String, Sendable {
        case approve, reject
        /// Not learnt, for a time: during an infection, say.
        case forget
        /// Devices that stand in for one another: what one of them may do, every one may.
        case alike
    }
    public var id: Int64 = 0
    /// Seconds since 1970.
    public var at: Int64
    public var who: String
    public var why: String
    public var verdict: Verdict
    /// nil: of either side, any.
    public var clients: AddressPrefix?
    public var servers: AddressPrefix?
    /// What either end may be, for a device as a whole; nil: any.
    public var either: AddressPrefix?
    /// nil: any.
    public var service: ServiceRange?
    /// `alike` only: who they are.
    public var members: [AddressPrefix] = []
    /// `forget` only: ns since 1970.
    public var first: UInt64 = 0
    public var last: UInt64 = .max

    public init(
        at: Int64, who: String, why: String, verdict: Verdict, clients: AddressPrefix? = nil, servers: AddressPrefix? = nil,
        either: AddressPrefix? = nil, service: ServiceRange? = nil, members: [AddressPrefix] = [], first: UInt64 = 0, last: UInt64 = .max
    ) {
        self.at = at
        self.who = who
        self.why = why
        self.verdict = verdict
        self.clients = clients
        self.servers = servers
        self.either = either
        self.service = service
        self.members = members
        self.first = first
        self.last = last
    }

    public func covers(_ key: ConversationKey) -> Bool {
        func fits(_ prefix: AddressPrefix?, _ address: AddressWords) -> Bool {
            prefix.map { $0.family == key.family && $0.contains(address) } ?? true
        }
        return fits(clients, key.client) && fits(servers, key.server) && (fits(either, key.client) || fits(either, key.server))
            && (service.map { $0.contains(key.ipProtocol, key.service) } ?? true)
    }
}

extension History {
    /// Every device that takes part in these conversations, in order of addresses, with their places.
    public func byDevice(_ places: [Int]) -> [(address: AddressWords, family: IPFamily, places: [Int])] {
        var devices: [AddressWords: (family: IPFamily, places: [Int])] = [:]
        for place in places {
            let key = conversations[place].key
            for address in Set([key.client, key.server]) { devices[address, default: (key.family, [])].places.append(place) }
        }
        return devices.map { (address: $0.key, family: $0.value.family, places: $0.value.places) }.sorted { $0.address < $1.address }
    }
}

extension ConversationKey {
    /// - Parameter row: id, client, server, family, protocol, service, vlan …
    init(_ row: Row) {
        self.init(
            client: AddressWords(blob: row[1]), server: AddressWords(blob: row[2]),
            service: Port(rawValue: UInt16(truncatingIfNeeded: row[5] as Int)), vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: row[6] as Int)),
            ipProtocol: IPProtocol(rawValue: UInt8(truncatingIfNeeded: row[4] as Int)), family: (row[3] as Int) == 6 ? .ipv6 : .ipv4)
    }
}

extension Orientation {
    /// - Parameter row: behind what makes the key.
    init(_ row: Row) { self = Orientation(rawValue: UInt8(truncatingIfNeeded: row[7] as Int)) ?? .guessed }
}

extension HistoryStore {
    /// Everything. A million conversations take some seconds.
    public func read() throws(HistoryError) -> History {
        try reading { db in
            var conversations: [RecordedConversation] = []
            var places: [Int64: Int] = [:]
            let rows = try Row.fetchCursor(db, sql: """
                SELECT id, client, server, family, protocol, service, vlan, orientation, intervals, interval_count FROM conversation ORDER BY id
                """)
            while let row = try rows.next() {
                let id: Int64 = row[0]
                places[id] = conversations.count
                conversations.append(
                    RecordedConversation(
                        row: id, key: ConversationKey(row), orientation: Orientation(row),
                        intervals: Intervals(blob: row[8], count: UInt64(bitPattern: row[9] as Int64)), days: []))
            }
            let days = try Row.fetchCursor(db, sql: "SELECT * FROM day ORDER BY conversation, day")
            while let row = try days.next() {
                guard let place = places[row[0]] else { continue }
                if conversations[place].days.isEmpty { conversations[place].firstSeen = UInt64(bitPattern: row[3] as Int64) }
                conversations[place].days.append(ConversationDay(row, from: 0))
            }
            let addresses = try Row.fetchAll(db, sql: "SELECT * FROM address").map { row in
                RecordedAddress(
                    address: LearntAddress(
                        address: AddressWords(blob: row[0]), family: (row[1] as Int) == 6 ? .ipv6 : .ipv4,
                        vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: row[2] as Int)), mac: MACAddress(rawValue: UInt64(bitPattern: row[3] as Int64)),
                        side: Side(rawValue: UInt8(truncatingIfNeeded: row[4] as Int))),
                    first: UInt64(bitPattern: row[5] as Int64), last: UInt64(bitPattern: row[6] as Int64))
            }
            let sources = try Row.fetchAll(db, sql: "SELECT kind, name, learnt_at, first, last, frames, malformed, overflow FROM source ORDER BY id").map { row in
                RecordedSource(
                    kind: row[0], name: row[1], learntAt: row[2], first: UInt64(bitPattern: row[3] as Int64), last: UInt64(bitPattern: row[4] as Int64),
                    frames: UInt64(bitPattern: row[5] as Int64), malformed: UInt64(bitPattern: row[6] as Int64),
                    overflow: UInt64(bitPattern: row[7] as Int64))
            }
            let types = try Row.fetchAll(db, sql: "SELECT type, frames FROM ethertype ORDER BY type").map { row in
                (type: EtherType(rawValue: UInt16(truncatingIfNeeded: row[0] as Int)), frames: UInt64(bitPattern: row[1] as Int64))
            }
            return History(
                conversations: conversations.filter { !$0.days.isEmpty }, addresses: addresses, sources: sources, etherTypes: types,
                decisions: try Self.decisions(db),
                periods: try Row.fetchAll(db, sql: "SELECT name, first, last FROM period ORDER BY first").map { row in
                    History.Period(name: row[0], first: UInt64(max(0, row[1] as Int64)), last: UInt64(max(0, row[2] as Int64)))
                }, hours: try Int64.fetchAll(db, sql: "SELECT hour FROM observed_hour ORDER BY hour"))
        }
    }

    /// What was decided, and not taken back.
    public func decisions() throws(HistoryError) -> [Decision] { try reading { db in try Self.decisions(db) } }

    private static func decisions(_ db: Database) throws -> [Decision] {
        try Row.fetchAll(db, sql: """
            SELECT id, at, who, why, verdict, clients, servers, either, protocol, service_low, service_high, first, last
            FROM decision WHERE undone IS NULL ORDER BY id
            """
        ).compactMap { row in
            guard let verdict = Decision.Verdict(rawValue: row[4]) else { return nil }
            func prefix(_ column: Int) -> AddressPrefix?? {
                guard let text: String = row[column] else { return .some(nil) }
                return WrittenAddress.network(text).map { .some($0) }
            }
            var service: ServiceRange?
            if let number: Int = row[8] {
                let low = UInt16(clamping: row[9] as Int), high = UInt16(clamping: row[10] as Int)
                guard low <= high else { return nil }
                service = ServiceRange(IPProtocol(rawValue: UInt8(clamping: number)), Port(rawValue: low), Port(rawValue: high))
            }
            // One that cannot be read must not come to mean more than it said.
            var members: [AddressPrefix] = []
            if verdict == .alike {
                let written = (row[7] as String? ?? "").split(separator: ",")
                members = written.compactMap { WrittenAddress.network(String($0)) }
                guard members.count == written.count, members.count > 0 else { return nil }
            }
            guard let clients = prefix(5), let servers = prefix(6), let either = verdict == .alike ? .some(nil) : prefix(7) else { return nil }
            var decision = Decision(
                at: row[1], who: row[2], why: row[3], verdict: verdict, clients: clients, servers: servers, either: either, service: service, members: members,
                first: UInt64(max(0, row[11] as Int64)), last: UInt64(max(0, row[12] as Int64)))
            decision.id = row[0]
            return decision
        }
    }

    /// Writes down what a person has said.
    ///
    /// - Returns: its number.
    @discardableResult
    public func add(_ decision: Decision) throws(HistoryError) -> Int64 {
        try writing { db in
            try db.execute(
                sql: """
                    INSERT INTO decision (at, who, why, verdict, clients, servers, either, protocol, service_low, service_high, first, last)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    decision.at, decision.who, decision.why, decision.verdict.rawValue, decision.clients?.written, decision.servers?.written,
                    decision.verdict == .alike ? decision.members.map(\.written).joined(separator: ",") : decision.either?.written, decision.service.map { Int($0.ipProtocol.rawValue) }, decision.service.map { Int($0.low.rawValue) },
                    decision.service.map { Int($0.high.rawValue) }, Int64(clamping: decision.first), Int64(clamping: decision.last),
                ])
            return db.lastInsertedRowID
        }
    }

    /// Takes a decision back; that it was made stays written.
    ///
    /// - Returns: false if there is none of this number.
    public func undo(_ id: Int64, at: Int64) throws(HistoryError) -> Bool {
        try writing { db in
            try db.execute(sql: "UPDATE decision SET undone = ? WHERE id = ? AND undone IS NULL", arguments: [at, id])
            return db.changesCount > 0
        }
    }

    /// Gives a time a name; the same name may stand for several times.
    public func add(_ period: History.Period) throws(HistoryError) {
        try writing { db in
            try db.execute(
                sql: "INSERT INTO period (name, first, last) VALUES (?, ?, ?)",
                arguments: [period.name, Int64(clamping: period.first), Int64(clamping: period.last)])
        }
    }

    public func removePeriods(_ name: String) throws(HistoryError) -> Int {
        try writing { db in
            try db.execute(sql: "DELETE FROM period WHERE name = ?", arguments: [name])
            return db.changesCount
        }
    }
}
