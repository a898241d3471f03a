// A policy taken apart for other forwarders: what their languages are written from.

import Allowlist
import Frames

/// A policy at a point in time, to be written for another forwarder.
public struct PolicyExport: Sendable {
    let name: String
    let source: AllowlistSource
    let expired: Int
    /// Devices bound to a side, which other forwarders are not told.
    private let hasSides: Bool
    /// When the next of its rules expires; the other forwarder will not notice.
    let nextExpiry: Int64?

    /// - Parameter now: seconds since 1970; expired rules are left out.
    public init(_ document: PolicyDocument, now: Int64) {
        name = document.name
        var source = document.compiled(now: now).source
        hasSides = source.bindings.contains { $0.side != nil }
        source.bindings.removeAll { $0.macs.isEmpty }
        self.source = source
        expired = document.rules.count { $0.isExpired(at: now) }
        nextExpiry = document.nextExpiry(after: now)
    }

    /// Whether what no rule allows is dropped.
    var enforces: Bool { source.mode == .enforce }
    var allowsARP: Bool { source.etherTypes.contains(.arp) }

    /// Listed EtherTypes without ARP, and LLC addresses; in order.
    var otherTypes: [UInt16] { Set(source.etherTypes.map(\.rawValue)).subtracting([EtherType.arp.rawValue]).sorted() }

    /// Calls `body` for every client, server and service of every rule; the same may come twice.
    func forEachConversation(_ body: (Conversation) -> Void) {
        for rule in source.rules {
            for family in IPFamily.allCases {
                let servers = rule.servers.filter { $0.family == family }
                let services = rule.services.filter { $0.applies(to: family) }
                for client in rule.clients where client.family == family {
                    for server in servers {
                        for service in services {
                            for vlan in rule.vlans.isEmpty ? [.untagged] : rule.vlans {
                                body(
                                    Conversation(
                                        client: client, server: server, service: service, vlan: vlan.rawValue,
                                        side: rule.clientSide))
                            }
                        }
                    }
                }
            }
        }
    }

    /// What stands at the head of every output, without the comment's mark.
    func heading(for forwarder: String) -> [String] {
        var lines = ["Sekisho policy \"\(Self.oneLine(name))\" for \(forwarder): \(source.rules.count) rule(s), mode \(source.mode.name)."]
        if expired > 0 { lines.append("Left out: \(expired) expired rule(s).") }
        if let nextExpiry {
            lines.append("A rule expires \(Self.written(nextExpiry)); it stays here until the policy is exported again.")
        }
        if !enforces {
            lines.append("Mode \(source.mode.name): everything passes; the counters say what \"enforce\" would deny.")
        }
        lines.append("Without what Sekisho remembers of flows: replies pass without a recent request, later fragments do not pass.")
        if hasSides { lines.append("Without the sides of devices.") }
        return lines
    }

    /// Names must not end a comment.
    static func oneLine(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.isWhitespace || $0.value < 32 || $0.value == 127 ? " " : $0 }))
    }

    /// Seconds since 1970 as ISO 8601, without Foundation.
    public static func written(_ seconds: Int64) -> String {
        // H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
        let days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let shifted = days + 719468
        let era = (shifted >= 0 ? shifted : shifted - 146096) / 146097
        let dayOfEra = shifted - era * 146097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * month + 2) / 5 + 1
        let civil = month < 10 ? month + 3 : month - 9
        let year = yearOfEra + era * 400 + (civil <= 2 ? 1 : 0)
        func two(_ value: Int64) -> String { (value < 10 ? "0" : "") + String(value) }
        let rest = seconds - days * 86400
        return "\(year)-\(two(civil))-\(two(day))T\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60))Z"
    }
}

/// One client, one server, one service.
struct Conversation {
    var client: AddressPrefix
    var server: AddressPrefix
    var service: ServiceRange
    /// 0: whatever the tag.
    var vlan: UInt16
    /// Where the client is.
    var side: Side?

    var family: IPFamily { client.family }
    var isICMP: Bool { service.ipProtocol == .icmp || service.ipProtocol == .icmpv6 }
}

/// What an ICMP type is to the rules: the parser's own answer.
enum ICMPRole: Equatable {
    case request
    case reply(to: UInt8)
    /// Judged by the packet it is about.
    case error
    /// Passes where ARP does.
    case neighbour

    static func all(_ family: IPFamily) -> [ICMPRole] {
        (0...255).map { type in
            var headers = FrameHeaders()
            headers.form = family == .ipv4 ? .ipv4 : .ipv6
            headers.ipProtocol = family == .ipv4 ? .icmp : .icmpv6
            headers.destinationPort = .icmp(type: UInt8(type), code: 0)
            if headers.isICMPError { return .error }
            if headers.isNeighbourDiscovery { return .neighbour }
            headers.setICMPDirection()
            return headers.marks.contains(.neverForward) ? .reply(to: UInt8(headers.sourcePort.rawValue >> 8)) : .request
        }
    }
}

/// Types and codes of a range of ICMP "ports": at most three pieces, each of whole types or within one.
func icmpPieces(_ service: ServiceRange) -> [(types: ClosedRange<UInt16>, codes: ClosedRange<UInt16>)] {
    var (first, last) = (service.low.rawValue >> 8, service.high.rawValue >> 8)
    let (low, high) = (service.low.rawValue & 0xFF, service.high.rawValue & 0xFF)
    if first == last { return [(first...first, low...high)] }
    var pieces: [(types: ClosedRange<UInt16>, codes: ClosedRange<UInt16>)] = []
    if low > 0 {
        pieces.append((first...first, low...255))
        first += 1
    }
    if high < 255 {
        pieces.append((last...last, 0...high))
        last -= 1
    }
    if first <= last { pieces.append((first...last, 0...255)) }
    return pieces
}
