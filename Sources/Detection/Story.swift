// What happened, in a paragraph of plain English.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

struct Story {
    private let actor: Actor
    private let device: AlertDevice?
    private let evidence: [Contact]
    private let mode: Mode
    private let followers: [String]

    init(_ actor: Actor, _ device: AlertDevice?, _ evidence: [Contact], mode: Mode, followers: [String]) {
        self.actor = actor
        self.device = device
        self.evidence = evidence
        self.mode = mode
        self.followers = followers
    }

    var text: String {
        switch actor.key.level {
        case .policy: return "The policy was changed: \(actor.notes.joined(separator: "; then "))."
        case .bridge: return "No worker judged frames: \(actor.notes.joined(separator: "; "))."
        case .silent: return silence
        case .mac, .address, .side: return doings
        }
    }

    private var silence: String {
        let count = actor.missing.count
        let what = actor.notes.prefix(4).joined(separator: "; ") + (actor.notes.count > 4 ? "; and more" : "")
        let isOver = actor.ended != 0 ? " It is back." : ""
        if actor.address == .zero { return "Most of what is expected on this wire has stopped: \(what).\(isOver)" }
        if actor.kind == .silent {
            return "\(who) has gone silent: \(count == 0 ? "what" : "\(count) of the conversations") that went on all the time stopped: \(what).\(isOver)"
        }
        return "\(who) lacks \(count == 1 ? "a conversation" : "conversations") that went on all the time: \(what).\(isOver)"
    }

    private var who: String {
        if actor.key.level == .side { return "Senders under ever new addresses\(actor.side.map { " on the \($0) side" } ?? ""), taken for one," }
        guard let device else { return "The bridge" }
        var names: [String] = []
        if device.address != nil, let mac = device.mac { names.append(mac) }
        if let role = device.role, role != "device" { names.append(role) }
        if !device.isKnown { names.append("not known before \(Self.time(actor.first))") }
        var text = device.name.map { "\($0) " } ?? ""
        text += device.address ?? device.mac ?? "a device"
        return names.isEmpty ? text : "\(text) (\(names.joined(separator: ", ")))"
    }

    private var doings: String {
        var parts: [String] = []
        let kinds = Set(actor.behaviours.map(\.kind))
        if actor.attempts > 0, !kinds.isDisjoint(with: [.scan, .slowScan, .unknownDevice, .newConversation, .lateralMovement, .beacon]) { parts.append(tried) }
        if kinds.contains(.unknownDevice), actor.attempts == 0 { parts.append("is on the network, and neither the policy nor the history knows it") }
        if !actor.claims.isEmpty {
            let claimed = actor.claims.sorted().prefix(4).map(\.written).joined(separator: ", ") + (actor.claims.count > 4 ? ", and more" : "")
            parts.append(kinds.contains(.spoofing) ? "has used addresses of others: \(claimed)" : "came from the wrong side as \(claimed)")
        }
        if kinds.contains(.beacon), let regular = evidence.first(where: { Detector.isRegular($0.intervals) }) {
            parts.append(
                "comes back to \(regular.key.server.written) \(regular.key.range.written) every \(Self.length(Double(regular.intervals.sorted()[regular.intervals.count / 2])))")
        }
        if kinds.contains(.lateralMovement) { parts.append("went from equipment to equipment, which had nothing to do with each other before") }
        parts += actor.notes.suffix(4)
        if parts.isEmpty { parts.append("does what it did not do before") }
        var text = "\(who) \(parts.joined(separator: "; it "))."
        if actor.behaviours.count > 1 {
            text += " In all: \(actor.behaviours.sorted { $0.kind.rank > $1.kind.rank }.map(\.kind.text).joined(separator: ", "))."
        }
        if !followers.isEmpty {
            text += " \(followers.count == 1 ? "One device does" : "\(followers.count) devices do") the same since they were tried: "
                + followers.prefix(4).joined(separator: ", ") + (followers.count > 4 ? ", and more." : ".")
        }
        if actor.ended != 0 { text += " Nothing more of it since \(Self.time(actor.last))." }
        return text
    }

    private var tried: String {
        let top = actor.services.sorted { $0.value != $1.value ? $0.value > $1.value : $0.key.port.rawValue < $1.key.port.rawValue }.prefix(3).map { Self.service($0.key) }
        let services = top.isEmpty ? "" : " on \(top.joined(separator: ", "))\(actor.services.count > 3 ? " and \(actor.services.count >= Actor.mostServices ? "many" : "\(actor.services.count - 3)") more" : "")"
        let peers = actor.peers.count >= Actor.mostPeers ? "more than \(PeopleFormat.grouped(UInt64(Actor.mostPeers))) addresses"
            : actor.peers.count == 1 ? actor.peers.first!.written : "\(PeopleFormat.grouped(UInt64(actor.peers.count))) addresses"
        var text = "has tried \(peers)\(services) since \(Self.time(actor.begin)), \(actor.attempts == 1 ? "once" : "\(PeopleFormat.grouped(actor.attempts)) times")"
        let isAllDenied = actor.deniedFrames > 0 && actor.deniedFrames >= actor.frames
        // Enforced was not from its beginning on.
        if actor.answered > 0, isAllDenied, mode == .enforce { return text + "; some answered, before this was enforced; all denied now" }
        text += actor.answered > 0 ? "; some answered" : "; none answered"
        if actor.deniedFrames > 0 {
            let denied = mode == .enforce ? "denied" : "would be denied under enforce"
            text += isAllDenied ? "; all \(denied)" : "; some \(denied)"
        }
        return text
    }

    // MARK: - Words

    static func conversation(_ key: ConversationKey) -> String { "\(key.client.written) → \(key.server.written) \(key.range.written)" }

    private static func service(_ kind: ServiceKind) -> String { ServiceRange(kind.ipProtocol, kind.port, kind.port).written }

    /// "2026-11-25 14:02 UTC".
    static func time(_ nanoseconds: UInt64) -> String {
        PolicyExport.written(Int64(nanoseconds / 1_000_000_000)).prefix(16).replacing("T", with: " ") + " UTC"
    }

    static func length(_ seconds: Double) -> String {
        seconds < 120 ? "\(Int(seconds.rounded())) s" : seconds < 7200 ? "\(Int((seconds / 60).rounded())) min" : "\(Int((seconds / 3600).rounded())) h"
    }

}
