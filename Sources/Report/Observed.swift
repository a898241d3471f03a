// Conversations of the period with what the policy says of them.

import Allowlist
import Baseline
import Detection
import Frames
import Policy

/// What the policy says of a recorded conversation.
enum Declared: Sendable {
    case rule(PolicyDocument.Rule)
    /// No rule allows it: it passes because one of its ends learns.
    case learning
    /// A data connection of an FTP session that a rule allows.
    case fileTransfer
    case notAllowed
    /// A person has rejected it, so it is not allowed as was wanted.
    case rejected
    /// There is no policy to compare with.
    case unknown
}

struct Observed: Sendable {
    var client: String
    var server: String
    var clientAddress: String
    var serverAddress: String
    /// With --device: whether the device is the client.
    var isOutgoing: Bool?
    var service: String
    var key: ConversationKey
    var vlan: UInt16
    var first: UInt64
    var last: UInt64
    var connections: UInt64
    var frames: UInt64
    var denied: UInt64
    var isAnswered: Bool
    var declared: Declared
    var review: [ReviewReason]

    var rule: PolicyDocument.Rule? { if case .rule(let rule) = declared { rule } else { nil } }
}

extension ReportEvidence {
    /// In order of clients, servers and services.
    func observed() -> [Observed] {
        guard let history, let review else { return [] }
        let names = names
        let rules = Dictionary((policy?.document.rules ?? []).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let rejected = Set((use?.rejected ?? []).map(\.conversation)), stopped = Set((use?.stopped ?? []).map(\.conversation))
        return history.conversations.enumerated().sorted { a, b in
            let (x, y) = (a.element.key, b.element.key)
            return x.client != y.client ? x.client < y.client : x.server != y.server ? x.server < y.server
                : (x.ipProtocol.rawValue, x.service.rawValue, x.vlan.rawValue) < (y.ipProtocol.rawValue, y.service.rawValue, y.vlan.rawValue)
        }.map { place, one in
            let key = one.key
            let declared: Declared
            if let use {
                if let id = use.rules[place], let rule = rules[id] {
                    declared = rule.isLearning ? .learning : .rule(rule)
                } else {
                    declared = rejected.contains(place) ? .rejected : stopped.contains(place) ? .notAllowed : .fileTransfer
                }
            } else {
                declared = .unknown
            }
            return Observed(
                client: names?.name(key.client, key.family) ?? key.client.written(key.family), server: names?.name(key.server, key.family) ?? key.server.written(key.family),
                clientAddress: key.client.written(key.family), serverAddress: key.server.written(key.family),
                isOutgoing: addresses.map { $0.contains { $0.family == key.family && $0.contains(key.client) } },
                service: key.range.written, key: key, vlan: key.vlan.rawValue, first: one.first, last: one.last, connections: one.connections, frames: one.frames,
                denied: one.denied, isAnswered: one.isAnswered, declared: declared, review: review.reasons[place])
        }
    }

    /// By rule: conversations of the period, connections, and when one was seen last, in the period and ever.
    struct RuleHits: Sendable {
        var conversations: UInt64 = 0
        var connections: UInt64 = 0
        var last: UInt64?
        var lastEver: UInt64?
    }

    func hits() -> [String: RuleHits] {
        var hits: [String: RuleHits] = [:]
        if let use, let history {
            for (place, one) in history.conversations.enumerated() {
                guard let id = use.rules[place] else { continue }
                var hit = hits[id] ?? RuleHits()
                hit.conversations += 1
                hit.connections &+= one.connections
                hit.last = max(hit.last ?? 0, one.last)
                hits[id] = hit
            }
        }
        if let wholeUse {
            for (place, id) in wholeUse.rules.enumerated() {
                guard let id else { continue }
                var hit = hits[id] ?? RuleHits()
                hit.lastEver = max(hit.lastEver ?? 0, wholeUse.lasts[place])
                hits[id] = hit
            }
        }
        return hits
    }

    /// Denied frames and connections by day.
    func days() -> [(day: Int32, connections: UInt64, frames: UInt64, denied: UInt64, conversations: UInt64)] {
        var days: [Int32: (connections: UInt64, frames: UInt64, denied: UInt64, conversations: UInt64)] = [:]
        for one in history?.conversations ?? [] {
            for day in one.days {
                var sum = days[day.day] ?? (0, 0, 0, 0)
                sum.connections &+= UInt64(day.connections)
                sum.frames &+= day.framesOut &+ day.framesIn
                sum.denied &+= UInt64(day.denied)
                sum.conversations += day.denied > 0 ? 1 : 0
                days[day.day] = sum
            }
        }
        return days.sorted { $0.key < $1.key }.map { ($0.key, $0.value.connections, $0.value.frames, $0.value.denied, $0.value.conversations) }
    }
}
