// What was learnt as one HTML file that needs nothing else: a template with the data put in.

import Allowlist
import Foundation
import Frames
import Policy

/// The data of the page; in JSON its names are in snake case. Times are written in the plant's zone.
public struct BaselinePage: Encodable, Sendable {
    public let schema = "sekisho-baseline"
    public let schemaVersion = 1
    public let created: String
    public let sekishoVersion: String
    /// As it was given: commands on the page name it.
    public let state: String
    /// What narrows the page: options, as they were given.
    public let options: [String]
    public let zone: String
    public let sources: [Source]
    public let periods: [Period]
    public let decisions: [Decided]
    public let complete: Complete
    /// New conversations by block, in order.
    public let curve: [Block]
    /// By hour of the week, Monday 0 o'clock first: how often it was observed.
    public let observed: [Int]
    public let devices: [Device]
    public let groups: [Group]
    public let rules: [Rule]
    public let conversations: [Conversation]
    /// By hour of the week, one digit each to the base of 36 (z: 35 or more): how often something was seen. Many share one.
    public let weeks: [String]
    /// Conversations that are not on the page, to keep it small.
    public let omitted: Int

    public struct Source: Encodable, Sendable {
        let kind: String
        let name: String
        let first: String?
        let last: String?
        let frames: UInt64
    }

    public struct Period: Encodable, Sendable {
        let name: String
        let first: String
        let last: String
    }

    public struct Decided: Encodable, Sendable {
        let id: Int64
        let at: String
        let verdict: String
        let who: String
        let why: String
    }

    public struct Complete: Encodable, Sendable {
        let complete: Bool
        let block: String
        let blocks: Int
        let spanDays: Double
        let hoursOfWeek: Int
        let conversations: Int
        let unseenShare: Double
        let unseenShareBound: Double
        /// The same for reading.
        let unseen: String
        let unseenBound: String
        let expectedMore: Double
        let expectedMoreBound: Double?
        let missing: [String]

        init(_ one: Completeness) {
            complete = one.isComplete()
            block = one.block.rawValue
            blocks = one.blocks
            spanDays = one.spanDays
            hoursOfWeek = one.hoursOfWeek.count
            conversations = one.conversations
            unseenShare = one.unseenShare
            unseenShareBound = one.unseenBound
            unseen = Completeness.share(one.unseenShare)
            unseenBound = Completeness.share(one.unseenBound)
            expectedMore = one.expected
            expectedMoreBound = one.expectedBound.flatMap { $0.isFinite ? min($0, 1e9) : nil }
            missing = one.missing()
        }
    }

    public struct Block: Encodable, Sendable {
        let begin: String
        let new: Int
    }

    public struct Device: Encodable, Sendable {
        let address: String
        /// In the proposal; nil: no rule names it.
        let name: String?
        /// Of `Role`, or "multicast".
        let role: String
        let mac: [String]
        /// In `weeks`.
        let week: Int
        let complete: Complete
    }

    public struct Group: Encodable, Sendable {
        let name: String
        /// In `devices`.
        let members: [Int]
    }

    public struct Rule: Encodable, Sendable {
        let id: String
        /// In `devices`.
        let clients: [Int]
        let servers: [Int]
        let services: [String]
        let unobserved: Int
    }

    public struct Conversation: Encodable, Sendable {
        /// In `devices`.
        let client: Int
        let server: Int
        let service: String
        /// By the catalogue; nil: none.
        let known: String?
        let vlan: UInt16
        let state: State
        /// Of FTP: it comes with its session, and is no decision of its own.
        let isFtpData: Bool
        /// In `rules`.
        let rule: Int?
        /// In `decisions`, by number.
        let decision: Int64?
        let connections: UInt64
        let answered: UInt64
        let refused: UInt64
        let frames: UInt64
        let bytes: UInt64
        let days: Int
        let hours: Int
        let first: String
        let last: String
        let sideKnown: String
        let rhythm: String?
        let review: [Reason]
        /// In `weeks`.
        let week: Int
    }

    public struct Reason: Encodable, Sendable {
        let name: String
        let text: String
    }

    public enum State: String, Encodable, Sendable {
        case proposed, waiting, rejected
    }

    /// More would make a page that no browser opens gladly.
    public static let most = 20_000

    /// - Parameters:
    ///   - chosen: places in `History.conversations` that the page is about.
    ///   - options: what narrowed the history, in words.
    ///   - most: conversations at most; those that failed go first, then those with the fewest connections.
    public init(
        _ history: History, _ review: Review, chosen: [Int], state: String, options: [String], version: String, created: Date = Date(),
        zone: TimeZone = .current, most: Int = BaselinePage.most
    ) {
        let formatter = plantTime(zone)
        func date(_ nanoseconds: UInt64) -> String { formatter.string(from: Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)) }
        self.created = formatter.string(from: created)
        sekishoVersion = version
        self.state = state
        self.options = options
        self.zone = zone.identifier

        let proposal = Proposal(history, review)
        let states = Self.states(history, review, proposal)
        var places = chosen
        if places.count > most {
            // A scan must not push out what is learnt.
            let ranked = places.map { (place: $0, isEvidence: review.isEvidence($0), connections: history.conversations[$0].connections) }.sorted { a, b in
                if a.isEvidence != b.isEvidence { return a.isEvidence }
                return a.connections != b.connections ? a.connections > b.connections : a.place < b.place
            }
            places = ranked.prefix(most).map(\.place).sorted()
        }
        omitted = chosen.count - places.count

        sources = history.sources.map { one in
            Source(kind: one.kind, name: one.name, first: one.first > 0 ? date(one.first) : nil, last: one.first > 0 ? date(one.last) : nil, frames: one.frames)
        }
        periods = history.periods.map { Period(name: $0.name, first: date($0.first), last: date($0.last)) }
        decisions = history.decisions.map {
            Decided(id: $0.id, at: date(UInt64(max(0, $0.at)) * 1_000_000_000), verdict: $0.verdict.rawValue, who: $0.who, why: $0.why)
        }
        let time = Completeness.ObservedTime(history.hours, zone: zone)
        let completeness = Completeness(history, review, chosen, time)
        complete = Complete(completeness)
        curve = Self.curve(completeness, history.hours, formatter)

        var week = WeekPatterns(zone)
        observed = week.counts(history.hours.reduce(into: [:]) { $0[Int32($1 / 24), default: 0] |= 1 << UInt32($1 % 24) })

        let byDevice = history.byDevice(places)
        var numbers: [AddressWords: Int] = [:]
        for (number, one) in byDevice.enumerated() { numbers[one.address] = number }
        let named = Dictionary(uniqueKeysWithValues: proposal.devices.map { ($0.address, $0) })
        // Whoever is in no rule is what its answered conversations make it.
        let roles = Role.all(history, history.conversations.indices.filter { review.isEvidence($0) })
        var macs: [AddressWords: Set<UInt64>] = [:]
        for one in history.addresses { macs[one.address.address, default: []].insert(one.address.mac.rawValue) }
        devices = byDevice.map { address, family, places in
            let isGroup = address.isGroup(family)
            let days = places.reduce(into: [Int32: UInt32]()) { hours, place in
                for day in history.conversations[place].days { hours[day.day, default: 0] |= day.hours }
            }
            return Device(
                address: address.written(family), name: named[address]?.name,
                role: isGroup ? "multicast" : (named[address]?.role ?? roles[address] ?? .device).rawValue,
                mac: (macs[address] ?? []).sorted().prefix(8).map { MACAddress(rawValue: $0).written }, week: week.pattern(days),
                complete: Complete(Completeness(history, review, places, time)))
        }
        groups = proposal.groups.compactMap { name, members in
            let members = members.compactMap { numbers[$0] }
            return members.count > 1 ? Group(name: name, members: members) : nil
        }

        // Only rules that say something about what is on the page.
        let onPage = Set(places)
        var rules: [Rule] = [], ruleOf: [Int: Int] = [:]
        for rule in proposal.rules where rule.evidence.contains(where: { onPage.contains($0) }) {
            for place in rule.evidence { ruleOf[place] = rules.count }
            rules.append(
                Rule(
                    id: rule.id, clients: rule.clients.compactMap { numbers[$0] }, servers: rule.servers.compactMap { numbers[$0] },
                    services: rule.services.map(\.written), unobserved: rule.unobserved))
        }
        self.rules = rules

        var catalogue = KnownServices()
        let words = LastWords(history)
        conversations = places.map { place in
            let one = history.conversations[place], key = one.key
            let service = key.range
            return Conversation(
                client: numbers[key.client]!, server: numbers[key.server]!, service: service.written, known: catalogue.name(service),
                vlan: key.vlan.rawValue, state: states[place], isFtpData: review.ftp.isData(place), rule: ruleOf[place],
                decision: words.about(key)?.id, connections: one.connections, answered: one.answered,
                refused: one.refused, frames: one.frames, bytes: one.bytesIn + one.bytesOut, days: one.days.count, hours: one.hourCount,
                first: date(one.first), last: date(one.last), sideKnown: "\(one.orientation)", rhythm: Rhythm([one])?.text,
                review: review.reasons[place].map { Reason(name: $0.name, text: $0.text) },
                week: week.pattern(one.days.reduce(into: [:]) { $0[$1.day, default: 0] |= $1.hours }))
        }
        weeks = week.patterns
    }

    private static func states(_ history: History, _ review: Review, _ proposal: Proposal) -> [State] {
        var states = [State](repeating: .proposed, count: history.conversations.count)
        for one in proposal.waiting { states[one.conversation] = .waiting }
        for place in proposal.rejected { states[place] = .rejected }
        // Data connections of FTP go where their session goes.
        for place in states.indices where states[place] == .proposed {
            if let session = review.ftp.sessions(of: place).last { states[place] = states[session] }
        }
        return states
    }

    private static func curve(_ completeness: Completeness, _ hours: [Int64], _ formatter: DateFormatter) -> [Block] {
        let isDay = completeness.block == .day
        let begins = isDay ? Set(hours.map { $0 / 24 * 24 }).sorted() : hours
        return zip(begins, completeness.newByBlock).map { begin, new in
            let text = formatter.string(from: Date(timeIntervalSince1970: Double(begin) * 3600))
            // Days of the history are UTC's: near enough for a name.
            return Block(begin: isDay ? String(text.prefix(10)) : text, new: new)
        }
    }
}

/// Hours by day, as hours of the week.
private struct WeekPatterns {
    private let zone: TimeZone
    private var ofDay: [Int32: [Int]] = [:]
    private(set) var patterns: [String] = []
    private var known: [String: Int] = [:]

    init(_ zone: TimeZone) { self.zone = zone }

    mutating func counts(_ days: [Int32: UInt32]) -> [Int] {
        var counts = [Int](repeating: 0, count: 168)
        for (day, hours) in days {
            if ofDay[day] == nil { ofDay[day] = (0..<24).map { Completeness.hourOfWeek(Int64(day) * 24 + $0, zone) } }
            for hour in 0..<24 where hours >> UInt32(hour) & 1 == 1 { counts[ofDay[day]![hour]] += 1 }
        }
        return counts
    }

    /// - Returns: its place in `patterns`.
    mutating func pattern(_ days: [Int32: UInt32]) -> Int {
        let text = counts(days).map { String(min($0, 35), radix: 36) }.joined()
        if let place = known[text] { return place }
        known[text] = patterns.count
        patterns.append(text)
        return patterns.count - 1
    }
}

/// Names of services by their ports; where a port has several, all of them.
private struct KnownServices {
    private let entries: [(name: String, ranges: [ServiceRange])] = ServiceCatalogue.entries.keys.sorted().map {
        ($0, WrittenAddress.services($0) ?? [])
    }
    private var known: [ServiceRange: String?] = [:]

    mutating func name(_ service: ServiceRange) -> String? {
        if let name = known[service] { return name }
        let names = entries.filter { $0.ranges.contains { $0.contains(service.ipProtocol, service.low) } }.map(\.name)
        let name = names.isEmpty ? nil : names.joined(separator: " or ")
        known[service] = .some(name)
        return name
    }
}

extension BaselinePage {
    private static let place = "__SEKISHO_DATA__"

    /// - Parameter json: the page's data.
    public static func html(_ json: Data) throws(HistoryError) -> String {
        guard let data = Data(base64Encoded: EmbeddedBaselinePage.base64) else {
            throw HistoryError(text: "reading the embedded page: the binary is damaged\n  → install it again")
        }
        // A "</script>" in a name would end the data.
        let text = String(decoding: json, as: UTF8.self).replacingOccurrences(of: "<", with: "\\u003c")
        return String(decoding: data, as: UTF8.self).replacingOccurrences(of: place, with: text)
    }
}
