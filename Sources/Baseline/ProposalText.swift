// A proposal as a policy file that a person would sign: every rule with what it rests on.

import Allowlist
import Foundation
import Frames
import Policy

extension Proposal {
    /// - Parameters:
    ///   - name: the policy's.
    ///   - zone: for times in comments.
    public func text(_ history: History, name: String, completeness: Completeness, zone: TimeZone = .current) -> String {
        var text = ""
        func line(_ words: String = "") { text += words + "\n" }
        let formatter = plantTime(zone)
        func date(_ nanoseconds: UInt64) -> String { formatter.string(from: Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)) }
        let connections = history.conversations.reduce(0) { $0 + $1.connections }

        line("# Proposed by sekisho from what was observed: \(history.conversations.count) conversations, \(connections) connections,")
        if let first = history.hours.first, let last = history.hours.last, first >= 0, last < 1 << 21 {
            line("# from \(date(UInt64(first) * 3_600_000_000_000)) to \(date(UInt64(last + 1) * 3_600_000_000_000)) (\(zone.identifier)).")
        }
        line("# Of the next week's connections \(Completeness.share(completeness.unseenShare)) may be new, at most \(Completeness.share(completeness.unseenBound)) (95 %).")
        let missing = completeness.missing()
        if missing.isEmpty {
            line("# Learning may be called complete.")
        } else {
            line("# Learning is not complete yet. Missing:")
            for one in missing { line("#   - \(one)") }
        }
        if !waiting.isEmpty { line("# \(waiting.count) conversations wait for a person and are not in here, unless marked \"review\".") }
        line()
        line("version = 1")
        line("name = \(Self.quoted(name))")
        line("mode = \"monitor\"    # change to \"enforce\" when 'sekisho simulate' and 'sekisho status' show that nothing is missing")
        // They pass for everybody, either way: for a person to decide.
        for (type, frames) in history.etherTypes where ![.arp, .ipv4, .ipv6].contains(type) && type.rawValue >= EtherType.minimum {
            line("# seen as well: \(EtherTypeNames.name(type)), \(frames) frames; add 0x\(String(type.rawValue, radix: 16)) to let it pass")
        }
        line("ethertypes = [\"arp\"]")
        line()

        let names = Dictionary(uniqueKeysWithValues: devices.map { ($0.address, $0.name) })
        let vendors = Vendors(for: devices.compactMap(\.mac))
        for device in devices {
            if let vendor = device.mac.flatMap({ vendors.name($0) }) { line("# made by \(vendor.filter { !$0.isNewline })") }
            line("[devices.\(device.name)]")
            line("addresses = [\(Self.quoted(device.address.written(device.family)))]")
            if let mac = device.mac { line("mac = [\(Self.quoted(mac.written))]") }
        }
        let groups = groups
        if !groups.isEmpty {
            line()
            line("[groups]")
            for (name, side) in groups { line("\(name) = [\(side.map { Self.quoted(names[$0] ?? "") }.joined(separator: ", "))]") }
        }
        let groupNames = Dictionary(uniqueKeysWithValues: groups.map { ($0.members, $0.name) })
        func side(_ addresses: [AddressWords]) -> String {
            addresses.count == 1 ? Self.quoted(names[addresses[0]] ?? addresses[0].written(.ipv4)) : Self.quoted(groupNames[addresses]!)
        }
        for rule in rules {
            line()
            for words in evidence(rule, history, date) { line("# \(words)") }
            line("[[allow]]")
            line("id = \(Self.quoted(rule.id))")
            line("from = \(side(rule.clients))")
            line("to = \(side(rule.servers))")
            let services = rule.services.map { Self.quoted($0.written) }
            line("service = \(services.count == 1 ? services[0] : "[\(services.joined(separator: ", "))]")")
            if rule.vlan != .untagged { line("vlan = [\(rule.vlan.rawValue)]") }
            if rule.hasFTPData { line("ftp_data = true") }
            line("purpose = \(Self.quoted(rule.reasons.isEmpty ? "learnt" : "review"))")
        }
        return text
    }

    /// Sets of devices that rules name; several rules may share one.
    public var groups: [(name: String, members: [AddressWords])] {
        let roles = Dictionary(uniqueKeysWithValues: devices.map { ($0.address, $0.role) })
        var groups: [(name: String, members: [AddressWords])] = []
        var known: Set<[AddressWords]> = [], counts: [String: Int] = [:]
        for rule in rules {
            for side in [rule.clients, rule.servers] where side.count > 1 && known.insert(side).inserted {
                let kinds = Set(side.map { roles[$0] ?? .device })
                let base = kinds.count == 1 ? kinds.first!.plural : "devices"
                counts[base, default: 0] += 1
                groups.append(("\(base)-\(counts[base]!)", side))
            }
        }
        return groups
    }

    /// What a rule rests on, in words.
    private func evidence(_ rule: ProposedRule, _ history: History, _ date: (UInt64) -> String) -> [String] {
        let all = rule.evidence.map { history.conversations[$0] }
        let connections = all.reduce(0) { $0 + $1.connections }, frames = all.reduce(0) { $0 + $1.frames }
        let days = Set(all.flatMap { $0.days.map(\.day) }).count
        let first = all.map(\.first).min() ?? 0, last = all.map(\.last).max() ?? 0
        var lines: [String] = []
        if !rule.reasons.isEmpty { lines.append("review: " + rule.reasons.sorted().map(\.text).joined(separator: "; ")) }
        if all.isEmpty { return lines + ["never seen\(standIns(rule, history))"] }
        lines.append(
            "seen: \(all.count) conversation\(all.count == 1 ? "" : "s"), \(connections) connections, \(frames) frames, on \(days) day\(days == 1 ? "" : "s"), "
                + "\(date(first)) to \(date(last))")
        if let period = Rhythm(all) { lines.append(period.text) }
        let guesses = all.count { $0.orientation != .seen }
        if guesses > 0 { lines.append("the beginning of \(guesses == all.count ? "none" : "\(guesses) of them") was \(guesses == all.count ? "seen" : "not seen")") }
        if rule.hasFTPData { lines.append("data connections of FTP come with every session of it, as they were seen with some") }
        let silent = all.filter { $0.isSilent(in: history) }
        if silent.count == all.count {
            lines.append("silent since \(date(last)): take it out if that is over")
        } else if !silent.isEmpty {
            lines.append("silent: \(silent.count) of them, since \(date(silent.map(\.last).max() ?? 0)): take them out if that is over; baseline shows which")
        }
        if rule.unobserved > 0 { lines.append("unobserved: \(rule.unobserved) of the permissions it gives were never used\(standIns(rule, history))") }
        return lines
    }

    /// Whose word it is that some of a rule stand in for others.
    private func standIns(_ rule: ProposedRule, _ history: History) -> String {
        let said = history.decisions.filter { one in
            one.verdict == .alike && (one.service.map { range in rule.services.contains { range.contains($0.ipProtocol, $0.low) } } ?? true)
                && [rule.clients, rule.servers].contains { side in
                    side.lazy.filter { address in one.members.contains { $0.family == rule.family && $0.contains(address) } }.prefix(2).count == 2
                }
        }
        if said.isEmpty { return "" }
        return "; by decision " + said.map { one in "\(one.id) (\(one.who): \(one.why))" }.joined(separator: ", ").filter { one in
            !one.unicodeScalars.contains { $0.properties.generalCategory == .control || $0.properties.generalCategory == .lineSeparator }
        }
    }

    static func quoted(_ text: String) -> String {
        "\"" + text.unicodeScalars.map { scalar in
            switch scalar {
            case "\"": "\\\""
            case "\\": "\\\\"
            case let scalar where scalar.value < 0x20 || scalar.value == 0x7F: String(format: "\\u%04X", scalar.value)
            default: String(Character(scalar))
            }
        }.joined() + "\""
    }

}

/// Days and minutes as people at the plant have them.
func plantTime(_ zone: TimeZone) -> DateFormatter {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = zone
    formatter.dateFormat = "yyyy-MM-dd HH:mm"
    return formatter
}

/// How regularly something is asked.
public struct Rhythm: Sendable {
    /// Seconds.
    public var median: Double
    /// Half of the intervals lie so near to it, as a share of it.
    public var spread: Double

    /// Over the last intervals of these conversations; nil: too few.
    public init?(_ conversations: [RecordedConversation]) {
        let values = conversations.flatMap { $0.intervals.values }.map(Double.init).sorted()
        guard values.count >= 8 else { return nil }
        let middle = values[values.count / 2]
        let deviations = values.map { abs($0 - middle) }.sorted()
        median = middle
        spread = middle > 0 ? deviations[deviations.count / 2] / middle : 0
    }

    public var isRegular: Bool { spread <= 0.1 }

    public var text: String {
        let time = median < 1 ? String(format: "%.0f ms", median * 1000) : median < 120 ? String(format: "%.1f s", median) : String(format: "%.0f min", median / 60)
        return isRegular ? "asks every \(time) (± \(Int((spread * 100).rounded())) %)" : "asks every \(time) or so"
    }
}
