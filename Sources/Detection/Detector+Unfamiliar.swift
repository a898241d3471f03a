// What is not expected: who sends it, whether it fails, and whether anything like it is known.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

extension Detector {
    /// Until a question counts as unanswered.
    private static let patience = 3 * second
    /// Half of what somebody tried in vain is forgotten after a day: two failures a day are still a slow scan, one is not.
    private static let halfLife = 86_400.0
    /// Services that failed on a day, on however few hosts.
    private static let servicesOfScan = 8
    private static let fast = 600 * second

    // MARK: - Who it is

    private enum Sender {
        case known, stranger
        /// Said already.
        case forger
    }

    private mutating func sender(_ record: TrafficRecord) -> Sender {
        if record.source == .zero { return norms.macs.contains(record.sourceMAC) ? .known : .stranger }
        if let place = deviceByAddress[record.source] {
            let place = Int(place)
            if devices[place].fits(record) {
                devices[place].last = record.last
                return .known
            }
            return contested(record, place) ? .forger : .known
        }
        if norms.macs.contains(record.sourceMAC) { return .known }
        guard policy.mode == .learn || policy.covers(record.source) else { return .stranger }
        if devices.count < Self.mostDevices + norms.devices.count {
            deviceByAddress[record.source] = Int32(devices.count)
            devices.append(KnownDevice(record.source, mac: record.sourceMAC, side: nil))
            devices[devices.count - 1].last = record.last
            liveAddresses[record.sourceMAC, default: 0] += 1
        }
        return .known
    }

    private func isRouter(_ mac: MACAddress) -> Bool { norms.routers.contains(mac) || liveAddresses[mac, default: 0] >= 5 }

    /// A known address from another card, or from the other side.
    ///
    /// - Returns: whether it is forged, and was said to be.
    mutating func contested(_ record: TrafficRecord, _ place: Int) -> Bool {
        guard let own = devices[place].mac, !isRouter(own), !isRouter(record.sourceMAC) else { return false }
        if policy.isForged(record) {
            forged(record)
            return true
        }
        let isAlive = devices[place].last > 0 && record.first < devices[place].last &+ 600 * Self.second
        if own == record.sourceMAC {
            if policy.mode == .learn { return false }
            noteForged(.wrongSide, record, confidence: isAlive ? 0.8 : 0.6)
            return true
        }
        if devices[place].contested == 0 || isAlive { devices[place].contested = record.first }
        // The card was replaced: the old one has not been seen since.
        if !isAlive, record.first > devices[place].contested &+ Self.hour {
            devices[place] = KnownDevice(record.source, mac: record.sourceMAC, side: nil)
            devices[place].last = record.last
            return false
        }
        noteForged(.spoofing, record, confidence: isAlive ? 0.9 : 0.6)
        return true
    }

    /// Denied, because the policy says whose address it is.
    mutating func forged(_ record: TrafficRecord) { noteForged(record.cause == .wrongSide ? .wrongSide : .spoofing, record, confidence: 0.95) }

    private mutating func noteForged(_ kind: AlertKind, _ record: TrafficRecord, confidence: Double) {
        let isKnown = norms.macs.contains(record.sourceMAC)
        guard let actor = actor(forgersKey(record, isKnown: isKnown), isKnown: isKnown, mac: record.sourceMAC, address: .zero, side: record.side, at: record.first) else { return }
        if actors[actor].claims.count < Actor.mostAddresses { actors[actor].claims.insert(record.source) }
        count(record, actor, isAttempt: record.form == .arp || record.form == .neighbour || record.tcpFlags.opensConnection)
        note(kind, actor, record, confidence: confidence)
    }

    private mutating func forgersKey(_ record: TrafficRecord, isKnown: Bool) -> ActorKey {
        isKnown ? ActorKey(.mac, mac: record.sourceMAC) : strangersKey(record)
    }

    /// An unknown card is one; if there come ever new ones, they are all one.
    private mutating func strangersKey(_ record: TrafficRecord) -> ActorKey {
        if isRouter(record.sourceMAC) {
            let own = ActorKey(.address, address: record.source)
            if actorByKey[own] != nil { return own }
            guard behindRouter[record.sourceMAC, default: 0] < Self.mostBehindRouter else { return ActorKey(.mac, mac: record.sourceMAC) }
            behindRouter[record.sourceMAC, default: 0] += 1
            return own
        }
        let own = ActorKey(.mac, mac: record.sourceMAC)
        if actorByKey[own] != nil { return own }
        let side = record.side.map { Int($0.rawValue) } ?? -1
        var seen = strangers[side] ?? (0, 0, record.first)
        if record.first > seen.since &+ 60 * Self.second { (seen.now, seen.since) = (0, record.first) }
        guard seen.all < Self.mostStrangers, seen.now < Self.mostNewStrangers else {
            strangers[side] = seen
            collapsed()
            return ActorKey(.side, side: record.side)
        }
        seen.all += 1
        seen.now += 1
        strangers[side] = seen
        return own
    }

    private mutating func actor(of record: TrafficRecord, isStranger: Bool) -> Int? {
        let key = isStranger ? strangersKey(record)
            : isRouter(record.sourceMAC) ? ActorKey(.address, address: record.source) : ActorKey(.mac, mac: record.sourceMAC)
        return actor(key, isKnown: !isStranger, mac: record.sourceMAC, address: record.source, side: record.side, at: record.first)
    }

    // MARK: - What it does

    /// ARP and neighbour discovery: who claims which address.
    mutating func observeClaim(_ record: TrafficRecord) {
        if policy.isForged(record) { return forged(record) }
        if record.cause != .none || record.source == .zero { return }
        guard case .stranger = sender(record) else { return }
        stranger(record)
    }

    /// An unknown device that is only there.
    private mutating func stranger(_ record: TrafficRecord) {
        // With less than a day behind, everybody is unknown.
        guard policy.mode != .learn, norms.hours >= Norms.hoursOfSense else { return }
        guard let actor = actor(of: record, isStranger: true) else { return }
        count(record, actor, isAttempt: false)
        note(.unknownDevice, actor, record, confidence: 0.6)
    }

    mutating func unfamiliar(_ record: TrafficRecord) {
        if policy.isForged(record) { return forged(record) }
        // Answers first: whoever answers is who he is by the conversation.
        let answering = ConversationKey(answering: record)
        let isOpening = record.ipProtocol == .tcp && record.tcpFlags.opensConnection
        if !isOpening, !record.marks.contains(.neverReverse), let place = contacts.find(answering) { return answer(record, place) }
        let isStranger: Bool
        switch sender(record) {
        case .forger: return
        case .known: isStranger = false
        case .stranger: isStranger = true
        }
        let isDenied = policy.mode != .learn && (record.cause == .notInPolicy || record.cause == .synFromServer || record.cause == .tcpFlags)
        // Other causes hang on what went before: late segments, lost requests. They say little of who sends them.
        if record.cause != .none, !isDenied {
            if policy.mode != .learn || record.cause.isOfParser { return }
        }
        if record.destination.isGroup(record.form == .ipv6 ? .ipv6 : .ipv4) || isNetworksBroadcast(record) {
            if isStranger { stranger(record) }
            return
        }
        if isDenied, flood(record, isStranger: isStranger) { return }
        let key = ConversationKey(asking: record)
        if let place = contacts.find(key) {
            // What was said of it is over by now.
            if record.first < contacts[place].last &+ Self.memory { return again(record, place, isDenied: isDenied) }
            contacts.forget(place)
        }
        // Who opens? Of TCP whoever sends a SYN; in the middle of what nobody knows, if it is denied, whoever sends to the lower port.
        let opens = record.ipProtocol == .tcp
            ? isOpening || record.cause == .tcpFlags || isDenied && record.destinationPort.rawValue < record.sourcePort.rawValue : !record.marks.contains(.neverForward)
        guard opens else {
            // Whoever only answers was asked by somebody; that one is spoken of.
            if isStranger, record.destinationPort.rawValue < record.sourcePort.rawValue { stranger(record) }
            return
        }
        begin(key, record, isStranger: isStranger, isDenied: isDenied)
    }

    /// Of a network of 256 addresses or more, by its form; whose it is, nobody says. Whoever has spoken is a device.
    private func isNetworksBroadcast(_ record: TrafficRecord) -> Bool {
        record.form == .ipv4 && record.ipProtocol == .udp && record.destination.low & 0xFF == 0xFF && deviceByAddress[record.destination] == nil
    }

    /// One more of somebody of whom everything is said already: only counted, at whatever rate it comes.
    private mutating func flood(_ record: TrafficRecord, isStranger: Bool) -> Bool {
        let own = isRouter(record.sourceMAC) ? ActorKey(.address, address: record.source) : ActorKey(.mac, mac: record.sourceMAC)
        guard let actor = actorByKey[own] ?? (isStranger ? actorByKey[ActorKey(.side, side: record.side)] : nil), actors[actor].contacts.count >= Actor.mostContacts,
            actors[actor].alert != 0, actors[actor].behaviours.contains(where: { $0.kind == .scan || $0.kind == .slowScan })
        else { return false }
        count(record, actor, isAttempt: record.ipProtocol != .tcp || record.tcpFlags.opensConnection)
        return true
    }

    private mutating func begin(_ key: ConversationKey, _ record: TrafficRecord, isStranger: Bool, isDenied: Bool) {
        let isYoung = norms.hours < Norms.hoursOfSense
        var novelty = isStranger || !isDenied ? .alike : norms.novelty(key)
        // With less than a day behind everything is new. But from equipment to equipment a policy that is enforced would have named it.
        if isYoung, novelty != .lateral || policy.mode != .enforce { novelty = .alike }
        if novelty != .alike, key.ipProtocol == .tcp, key.service.rawValue >= 1024, hasFileTransfer(key) { novelty = .alike }
        var contact = Contact(
            key: key, serial: 0, mac: record.sourceMAC, side: record.side, first: record.first, last: record.last, novelty: novelty, isStranger: isStranger,
            port: record.sourcePort, lastAttempt: record.first)
        contact.attempts = 1
        contact.frames = UInt64(record.frames)
        contact.isDenied = isDenied
        let fails = isDenied && (isStranger || novelty != .alike || isYoung)
        // Without anything against it yet, it needs no actor.
        let isNoteworthy = fails || isStranger && policy.mode != .learn && !isYoung
        guard isNoteworthy, let actor = actor(of: record, isStranger: isStranger) else {
            if isNoteworthy { return uncounted() }
            let reference = contacts.add(contact)
            if !isDenied, pending.count - pendingHead < 65_536 { pending.append((reference, record.first &+ Self.patience)) }
            return
        }
        count(record, actor, isAttempt: true)
        contact.isDecided = fails
        if actors[actor].contacts.count < Actor.mostContacts {
            let reference = contacts.add(contact)
            actors[actor].contacts.append(reference)
            if !fails { pending.append((reference, record.first &+ Self.patience)) }
        } else {
            uncounted()
        }
        if isStranger { note(.unknownDevice, actor, record, confidence: isDenied ? 0.9 : 0.6) }
        if novelty != .alike { noteNovelty(novelty, key, actor, record) }
        if fails { step(actor, key, failed: true, record) }
    }

    /// FTP's data connections have ports that nobody knows.
    private func hasFileTransfer(_ key: ConversationKey) -> Bool {
        var session = key
        session.service = Port(rawValue: 21)
        if contacts.find(session) != nil { return true }
        swap(&session.client, &session.server)
        return contacts.find(session) != nil
    }

    private mutating func noteNovelty(_ novelty: Novelty, _ key: ConversationKey, _ actor: Int, _ record: TrafficRecord) {
        if record.first > actors[actor].novelDay &+ 86_400 * Self.second { (actors[actor].novelDay, actors[actor].novel) = (record.first, [:]) }
        actors[actor].novel[novelty, default: 0] += 1
        guard actors[actor].novel[novelty]! > norms.bearable(key.client, novelty) else { return }
        note(novelty == .lateral ? .lateralMovement : .newConversation, actor, record, confidence: novelty == .other ? 0.6 : 0.8)
    }

    /// One more first contact of somebody, as Threshold Random Walk counts them: once for each server.
    private mutating func step(_ actor: Int, _ key: ConversationKey, failed: Bool, _ record: TrafficRecord?) {
        let time = record?.first ?? now
        if failed {
            if actors[actor].walk.last &+ 86_400 * Self.second < time { actors[actor].failedServices = [] }
            if actors[actor].failedServices.count < Actor.mostServices { actors[actor].failedServices.insert(ServiceKind(key)) }
        }
        let isFirst = actors[actor].walked.count >= Actor.mostPeers ? !actors[actor].walked.contains(key.server) : actors[actor].walked.insert(key.server).inserted
        if isFirst { actors[actor].walk.add(failed: failed, at: time, halfLife: Self.halfLife) }
        guard failed, actors[actor].walk.isScan || actors[actor].failedServices.count >= Self.servicesOfScan else { return }
        let isFast = actors[actor].behaviours.contains { $0.kind == .scan } || time < max(actors[actor].walk.since, actors[actor].first) &+ Self.fast
        note(isFast ? .scan : .slowScan, actor, record, confidence: actors[actor].walked.count >= 10 ? 0.99 : 0.9)
    }

    /// The server's side of a contact.
    private mutating func answer(_ record: TrafficRecord, _ place: Int) {
        contacts[place].last = record.last
        contacts[place].frames &+= UInt64(record.frames)
        // What does not pass is no answer; what a person or an alert has cut off passes in no mode.
        if record.cause != .none, policy.mode == .enforce || record.cause.isOrdered { return }
        let isRefusal = record.ipProtocol == .tcp && record.tcpFlags.contains(.rst) && !record.tcpFlags.contains(.syn)
        if !isRefusal, !contacts[place].isAnswered {
            contacts[place].isAnswered = true
            if contacts[place].isDecided, let actor = actorByKey[key(of: contacts[place])] {
                actors[actor].answered &+= 1
                retell(actor)
            }
        }
        if !contacts[place].isDecided { decide(place, failed: isRefusal) }
    }

    private func key(of contact: Contact) -> ActorKey {
        isRouter(contact.mac) ? ActorKey(.address, address: contact.key.client) : ActorKey(.mac, mac: contact.mac)
    }

    private mutating func decide(_ place: Int, failed: Bool) {
        contacts[place].isDecided = true
        let contact = contacts[place], key = key(of: contact)
        if !failed {
            // Whoever has nothing against him needs no praise.
            guard let actor = actorByKey[key] else { return }
            if contact.isStranger {
                actors[actor].answered &+= 1
                retell(actor)
            }
            return step(actor, contact.key, failed: false, nil)
        }
        guard let actor = actor(key, isKnown: !contact.isStranger, mac: contact.mac, address: contact.key.client, side: contact.side, at: contact.first) else { return }
        if !actors[actor].contacts.contains(where: { $0.serial == contact.serial }), actors[actor].contacts.count < Actor.mostContacts {
            actors[actor].contacts.append(ContactReference(place: Int32(place), serial: contact.serial))
            if actors[actor].peers.count < Actor.mostPeers { actors[actor].peers.insert(contact.key.server) }
            actors[actor].acted = max(actors[actor].acted, contact.lastAttempt)
            actors[actor].attempts &+= contact.attempts
            actors[actor].frames &+= contact.frames
            actors[actor].services[ServiceKind(contact.key), default: 0] &+= contact.attempts
        }
        step(actor, contact.key, failed: true, nil)
    }

    /// Questions that nobody has answered by now.
    mutating func expirePending(_ now: UInt64) {
        while pendingHead < pending.count, pending[pendingHead].due <= now {
            let reference = pending[pendingHead].0
            pendingHead += 1
            // One-way telemetry is not answered, ever: UDP says nothing. Only TCP fails by silence.
            if let place = contacts.find(reference), !contacts[place].isDecided, contacts[place].key.ipProtocol == .tcp { decide(place, failed: true) }
        }
        if pendingHead > 4096, pendingHead * 2 > pending.count {
            pending.removeFirst(pendingHead)
            pendingHead = 0
        }
    }

    /// A contact that is known by now.
    private mutating func again(_ record: TrafficRecord, _ place: Int, isDenied: Bool) {
        contacts[place].last = record.last
        contacts[place].frames &+= UInt64(record.frames)
        if isDenied { contacts[place].isDenied = true }
        // A SYN that is sent again is the same attempt.
        let isAttempt = (record.ipProtocol != .tcp || record.tcpFlags.opensConnection)
            && (record.sourcePort != contacts[place].port || record.first > contacts[place].lastAttempt &+ 60 * Self.second)
        if isAttempt {
            contacts[place].attempts &+= 1
            if record.first > contacts[place].lastAttempt {
                let interval = Float(record.first - contacts[place].lastAttempt) / 1e9
                if contacts[place].intervals.count == Contact.mostIntervals { contacts[place].intervals.removeFirst() }
                contacts[place].intervals.append(interval)
            }
            contacts[place].lastAttempt = record.first
            contacts[place].port = record.sourcePort
        }
        let isStranger = contacts[place].isStranger
        guard isStranger || isDenied && contacts[place].novelty != .alike, policy.mode != .learn else { return }
        // Only of whom there is something to say already; a contact that failed has its actor.
        guard let actor = actorByKey[key(of: contacts[place])] ?? (isStranger ? actorByKey[ActorKey(.side, side: record.side)] : nil) else { return }
        count(record, actor, isAttempt: isAttempt)
        // Every fourth attempt is soon enough.
        if isAttempt, contacts[place].attempts % 4 == 1, Self.isRegular(contacts[place].intervals) { note(.beacon, actor, record, confidence: 0.8) }
    }

    /// Eight intervals and more, half of them within 15 % of their median, and none further from it than half of it.
    static func isRegular(_ intervals: [Float]) -> Bool {
        guard intervals.count >= 8 else { return false }
        let sorted = intervals.sorted(), median = sorted[sorted.count / 2]
        guard median >= 5, sorted[0] >= 0.5 * median, sorted[sorted.count - 1] <= 1.5 * median else { return false }
        let deviations = sorted.map { abs($0 - median) }.sorted()
        return deviations[deviations.count / 2] <= 0.15 * median
    }

    private mutating func count(_ record: TrafficRecord, _ actor: Int, isAttempt: Bool) {
        actors[actor].frames &+= UInt64(record.frames)
        if record.cause != .none { actors[actor].deniedFrames &+= UInt64(record.frames) }
        actors[actor].last = max(actors[actor].last, record.last)
        actors[actor].acted = max(actors[actor].acted, record.last)
        if record.source != .zero, actors[actor].sources.count < Actor.mostAddresses, !actors[actor].claims.contains(record.source) { actors[actor].sources.insert(record.source) }
        if isAttempt {
            actors[actor].attempts &+= 1
            if record.form == .ipv4 || record.form == .ipv6 {
                let key = ConversationKey(asking: record)
                if actors[actor].peers.count < Actor.mostPeers { actors[actor].peers.insert(key.server) }
                let service = ServiceKind(key)
                if actors[actor].services.count < Actor.mostServices || actors[actor].services[service] != nil { actors[actor].services[service, default: 0] &+= 1 }
            }
        }
        if actors[actor].alert != 0 { touch(actor, record.last) }
    }
}
