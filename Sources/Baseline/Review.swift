// What a person has to look at before it may become a rule: learning during an infection is the obvious attack.

import Allowlist
import Foundation
import Frames

/// Why a conversation is not proposed by itself.
public enum ReviewReason: Sendable, Hashable, Comparable {
    /// Nobody answered; or every attempt was refused.
    case unanswered
    case refused
    /// Its client tried what was not there: first contacts that fail (Threshold Random Walk).
    case scanner
    /// An address of it was used by several MAC addresses.
    case addressConflict
    /// A device that was not there before the last days.
    case newDevice
    /// Remote control or file sharing.
    case risky(String)
    /// Seen on one day of many.
    case seenOnce
    /// Which side serves is a guess.
    case guessed
    /// To everyone, and rarely.
    case broadcast
    /// One of many ports between the same two, each used once or twice.
    case portRange

    public var text: String {
        switch self {
        case .unanswered: "nobody answered"
        case .refused: "every attempt was refused"
        case .scanner: "it began when its client tried what is not there, as a scanner does"
        case .addressConflict: "one of its addresses was used by several MAC addresses"
        case .newDevice: "one of its devices is new"
        case .risky(let name): "\(name): remote control or file sharing"
        case .seenOnce: "seen on one day only"
        case .guessed: "its beginning was not seen; which side serves is a guess"
        case .broadcast: "sent to everyone, now and then"
        case .portRange: "one of many ports between the two, each used a few times: a range, as of RPC, or a scan"
        }
    }

    public var name: String {
        switch self {
        case .unanswered: "unanswered"
        case .refused: "refused"
        case .scanner: "scanner"
        case .addressConflict: "address-conflict"
        case .newDevice: "new-device"
        case .risky: "risky-service"
        case .seenOnce: "seen-once"
        case .guessed: "guessed"
        case .broadcast: "broadcast"
        case .portRange: "port-range"
        }
    }
}

/// Judges every conversation of a history.
public struct Review: Sendable {
    /// By place in `History.conversations`; empty: it may be proposed.
    public let reasons: [[ReviewReason]]
    /// Clients that behaved as scanners, and since when, ns since 1970.
    public let scanners: [AddressWords: UInt64]

    let ftp: FTPData

    /// Conversations that say something about what is normal, whether they are proposed or not: a rare one that waits is still one that came.
    /// Failed attempts, scanners and forgers say nothing.
    public func isEvidence(_ place: Int) -> Bool {
        !ftp.isData(place) && !reasons[place].contains { reason in
            switch reason {
            case .unanswered, .refused: true
            // What was answered is lost to somebody if it is denied, whoever asked; but a worm's spreading is not normal.
            case .scanner: reasons[place].contains { if case .risky = $0 { true } else { false } }
            default: false
            }
        }
    }

    /// A data connection of FTP.
    public func isFileTransfer(_ place: Int) -> Bool { ftp.isData(place) }

    /// A device is new if it was first seen in the last so many days of at least three times as many.
    private static let newDays: UInt64 = 2

    /// Of a part of a history, by all that is known: who scanned last week does not become honest by a look at this one.
    public init(_ part: History, within whole: History) {
        let (own, all) = (Review(part), Review(whole))
        let places = Dictionary(uniqueKeysWithValues: whole.conversations.enumerated().map { ($0.element.row, $0.offset) })
        reasons = zip(part.conversations, own.reasons).map { one, reasons in
            guard let place = places[one.row] else { return reasons }
            // What is too little of it in the part need not be in the whole.
            return Array(Set(reasons.filter { $0 != .newDevice }).union(all.reasons[place].filter { $0 != .unanswered && $0 != .refused || reasons.contains($0) })).sorted()
        }
        scanners = all.scanners
        ftp = own.ftp
    }

    public init(_ history: History) {
        let conversations = history.conversations
        let first = UInt64(max(0, history.hours.first ?? 0)) &* 3_600_000_000_000
        let last = UInt64(max(0, history.hours.last ?? -1) + 1) &* 3_600_000_000_000
        let day: UInt64 = 86_400_000_000_000
        let days = Set(history.hours.map { $0 / 24 }).count
        ftp = FTPData(conversations)
        let scanners = Self.scanners(conversations)
        self.scanners = scanners
        let conflicts = Self.conflicts(history.addresses)
        var firstSeen: [AddressWords: UInt64] = [:]
        for one in conversations {
            for address in [one.key.client, one.key.server] { firstSeen[address] = min(firstSeen[address] ?? .max, one.first) }
        }
        let ranges = Self.ranges(conversations, ftp)
        // Who is asked by several serves; who is sent something by one may be its victim.
        var asked: [AddressWords: Set<AddressWords>] = [:]
        for one in conversations where one.key.ipProtocol == .udp && asked[one.key.server, default: []].count < 2 {
            asked[one.key.server, default: []].insert(one.key.client)
        }
        let isLong = last > first && last - first >= 3 * Self.newDays * day
        reasons = conversations.enumerated().map { place, one in
            var reasons: [ReviewReason] = []
            if one.isToGroup {
                if one.hourCount < 3 || days >= 2 && one.days.count < 2 { reasons.append(.broadcast) }
            } else if !one.isAnswered {
                if one.refused > 0 {
                    reasons.append(.refused)
                } else if !Self.isOneWay(one) || asked[one.key.server, default: []].count < 2 {
                    reasons.append(.unanswered)
                }
            }
            // What it did before it began to scan is its own.
            if let since = scanners[one.key.client], one.first >= since { reasons.append(.scanner) }
            if one.first >= conflicts[one.key.client] ?? .max || one.first >= conflicts[one.key.server] ?? .max { reasons.append(.addressConflict) }
            let younger = max(firstSeen[one.key.client] ?? 0, one.isToGroup ? 0 : firstSeen[one.key.server] ?? 0)
            if isLong, younger > last || last - younger < Self.newDays * day {
                reasons.append(.newDevice)
            }
            if let name = Self.risky[one.key.service.rawValue], one.key.ipProtocol == .tcp || one.key.ipProtocol == .udp { reasons.append(.risky(name)) }
            if days >= 7, one.days.count == 1 { reasons.append(.seenOnce) }
            if one.orientation == .guessed { reasons.append(.guessed) }
            if ranges.contains(place) { reasons.append(.portRange) }
            return reasons
        }
    }

    /// Ports that stand for a range: so many between the same two, and each used so little.
    private static let portsOfRange = 8

    private static func ranges(_ conversations: [RecordedConversation], _ ftp: FTPData) -> Set<Int> {
        struct Pair: Hashable {
            var client: AddressWords
            var server: AddressWords
            var ipProtocol: IPProtocol
        }
        var pairs: [Pair: [Int]] = [:]
        for (place, one) in conversations.enumerated()
        where one.key.ipProtocol.hasPorts && one.key.service.rawValue >= 1024 && one.days.count <= 2 && one.connections <= 4 && !ftp.isData(place) {
            pairs[Pair(client: one.key.client, server: one.key.server, ipProtocol: one.key.ipProtocol), default: []].append(place)
        }
        return Set(pairs.values.filter { $0.count >= portsOfRange }.joined())
    }

    /// Services that send without being answered, and did so again and again.
    private static func isOneWay(_ one: RecordedConversation) -> Bool {
        one.key.ipProtocol == .udp && [162, 514, 2055, 4739, 6343, 9995].contains(one.key.service.rawValue) && one.hourCount >= 3
    }

    /// Ports over which people and worms take machines over, or carry files between them.
    package static let risky: [UInt16: String] = [
        22: "SSH", 23: "Telnet", 135: "Windows RPC", 137: "NetBIOS", 138: "NetBIOS", 139: "SMB", 445: "SMB", 512: "rexec", 513: "rlogin",
        1434: "SQL browser", 2049: "NFS", 3389: "RDP", 4899: "Radmin", 5800: "VNC", 5900: "VNC", 5901: "VNC", 5938: "TeamViewer",
        5985: "WinRM", 5986: "WinRM", 7070: "AnyDesk",
    ]

    /// Who went through what is not there; see `RandomWalk`.
    private static func scanners(_ conversations: [RecordedConversation]) -> [AddressWords: UInt64] {
        // In order of time: each (client, server) counts once for each service that it tried.
        var walks: [AddressWords: RandomWalk] = [:]
        var found: [AddressWords: UInt64] = [:]
        for one in conversations.sorted(by: { $0.first < $1.first }) where !one.isToGroup && one.key.ipProtocol.hasPorts {
            if one.key.ipProtocol == .udp, !one.isAnswered, isOneWay(one) { continue }
            var walk = walks[one.key.client] ?? RandomWalk(at: one.first)
            walk.add(failed: !one.isAnswered, at: one.first)
            if walk.isScan, found[one.key.client] == nil { found[one.key.client] = walk.since }
            walks[one.key.client] = walk
        }
        return found
    }

    /// Addresses that several MAC addresses used, and since when: the later ones' first.
    private static func conflicts(_ addresses: [RecordedAddress]) -> [AddressWords: UInt64] {
        var byAddress: [AddressWords: [RecordedAddress]] = [:], owned: [MACAddress: Set<AddressWords>] = [:]
        for one in addresses { owned[one.address.mac, default: []].insert(one.address.address) }
        // One that stands for many addresses is a router's: of two routers either may be taken.
        for one in addresses where owned[one.address.mac]!.count <= 4 { byAddress[one.address.address, default: []].append(one) }
        return byAddress.compactMapValues { uses in
            let macs = Dictionary(grouping: uses, by: \.address.mac).mapValues { $0.map(\.first).min()! }
            // Of whoever was replaced for good, as a repaired tool, the second is the only one from then on; of a spoofed one both go on.
            guard macs.count > 1 else { return nil }
            return macs.values.sorted()[1]
        }
    }
}
