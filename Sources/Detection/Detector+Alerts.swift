// From what was noticed to alerts: one for each actor, which grows and ends.

import Allowlist
import Baseline
import Foundation
import Frames
import Policy

extension Detector {
    // MARK: - Actors

    /// The actor of a key, new if need be; nil: there is no room.
    mutating func actor(_ key: ActorKey, isKnown: Bool, mac: MACAddress?, address: AddressWords, side: Side?, at time: UInt64) -> Int? {
        if let known = actorByKey[key] { return known }
        serials &+= 1
        let isMany = key.level == .side
        defer { if isMany { gather(key) } }
        let new = Actor(
            key, serial: serials, isKnown: isKnown, mac: isMany || key.level == .address ? nil : mac, address: isMany ? .zero : address, side: key.side ?? side,
            at: time)
        if actors.count < Self.mostActors {
            actorByKey[key] = actors.count
            actors.append(new)
            return actors.count - 1
        }
        // Whoever has no alert, and was quiet the longest.
        guard let place = actors.indices.filter({ actors[$0].alert == 0 || actors[$0].ended != 0 && !actors[$0].isDirty }).min(by: { actors[$0].last < actors[$1].last }),
            actors[place].last &+ 60 * Self.second < time
        else {
            collapsed()
            return nil
        }
        actorByKey[actors[place].key] = nil
        actors[place] = new
        actorByKey[key] = place
        return place
    }

    /// Ever new senders on one side: those of the last minute were the first of them. The first one's alert is theirs.
    private mutating func gather(_ side: ActorKey) {
        guard let place = actorByKey[side] else { return }
        let young = actors.indices.filter {
            $0 != place && actors[$0].alert != 0 && !actors[$0].isKnown && actors[$0].key.level == .mac && actors[$0].side == side.side && actors[$0].leader == nil
                && actors[$0].begin &+ 120 * Self.second > now
        }.sorted { actors[$0].begin < actors[$1].begin }
        guard let first = young.first else { return }
        (actors[place].alert, actors[place].begin, actors[place].isRaised, actors[place].said) =
            (actors[first].alert, actors[first].begin, actors[first].isRaised, actors[first].said)
        actors[place].behaviours = actors[first].behaviours
        for one in young {
            // One that was told already, other than the first, ends.
            if one != first, actors[one].isRaised {
                actors[one].ended = max(1, actors[one].last)
                continue
            }
            actors[one].leader = side
            actors[one].alert = actors[place].alert
            actors[one].isDirty = false
            dirty.remove(one)
            actors[place].followers.append(actors[one].key)
        }
        for one in young where actors[one].leader == nil && !actors[one].isDirty {
            actors[one].isDirty = true
            dirty.insert(one)
        }
        touch(place, now)
    }

    /// Somebody did something of a kind.
    ///
    /// - Parameter record: by which it shows; nil: by what did not come.
    mutating func note(_ kind: AlertKind, _ actor: Int, _ record: TrafficRecord?, confidence: Double) {
        let first = record?.first ?? now, last = record?.last ?? now
        if let at = actors[actor].behaviours.firstIndex(where: { $0.kind == kind }) {
            actors[actor].behaviours[at].last = max(actors[actor].behaviours[at].last, last)
            actors[actor].behaviours[at].count &+= 1
            actors[actor].behaviours[at].confidence = max(actors[actor].behaviours[at].confidence, confidence)
        } else {
            actors[actor].behaviours.append(BehaviourState(kind: kind, first: first, last: last, count: 1, confidence: confidence))
        }
        if actors[actor].alert == 0, let leader = leader(of: actor, record) { join(actor, leader, last) }
        if let leader = actors[actor].leader, let place = actorByKey[leader], actors[place].alert == actors[actor].alert {
            note(kind, place, record, confidence: confidence)
        }
        if actors[actor].alert == 0 {
            guard open < Self.mostOpen else { return collapsed() }
            actors[actor].alert = nextAlert
            nextAlert += 1
            // What it began with may have shown only later what it was.
            actors[actor].begin = min(actors[actor].first, first)
        }
        touch(actor, last)
    }

    /// Whoever tried this device by the service that it tries now, and is known for trying: a worm goes from one to the next.
    private func leader(of actor: Int, _ record: TrafficRecord?) -> Int? {
        guard let record, record.form == .ipv4 || record.form == .ipv6, actors[actor].isKnown, actors[actor].key.level == .mac else { return nil }
        let key = ConversationKey(asking: record), service = ServiceKind(key)
        return actors.indices.first { place in
            let one = actors[place]
            guard place != actor, one.alert != 0, one.leader == nil, one.ended == 0, one.followers.count < Actor.mostFollowers,
                one.behaviours.contains(where: { [.scan, .slowScan, .lateralMovement].contains($0.kind) })
            else { return false }
            return ([place] + one.followers.compactMap { actorByKey[$0] }).contains { hasTried(actors[$0], key.client, service, before: record.first) || actors[$0].address == key.server }
        }
    }

    /// Within the last ten minutes.
    private func hasTried(_ one: Actor, _ address: AddressWords, _ service: ServiceKind, before time: UInt64) -> Bool {
        guard one.services[service] != nil, time < one.last &+ 600 * Self.second else { return false }
        // Of whoever goes through everything nobody knows the last address: any.
        if one.peers.count >= Actor.mostPeers || one.contacts.count >= Actor.mostContacts && one.peers.contains(address) { return true }
        return one.contacts.compactMap { contacts.find($0) }.contains {
            contacts[$0].key.server == address && ServiceKind(contacts[$0].key) == service && time < contacts[$0].last &+ 600 * Self.second
        }
    }

    private mutating func join(_ actor: Int, _ leader: Int, _ time: UInt64) {
        actors[actor].leader = actors[leader].key
        actors[actor].alert = actors[leader].alert
        actors[leader].followers.append(actors[actor].key)
        touch(leader, time)
    }

    /// There is more to say of an alert that goes on; not that more was done.
    mutating func retell(_ actor: Int) {
        if actors[actor].alert != 0, actors[actor].ended == 0 { touch(actor, actors[actor].last) }
    }

    /// There is more of an alert.
    mutating func touch(_ actor: Int, _ time: UInt64) {
        actors[actor].last = max(actors[actor].last, time)
        actors[actor].ended = 0
        if let leader = actors[actor].leader {
            if let place = actorByKey[leader], actors[place].alert == actors[actor].alert { return touch(place, time) }
            // That one is forgotten: it is a matter of its own from now on.
            actors[actor].leader = nil
            actors[actor].alert = nextAlert
            actors[actor].begin = time
            nextAlert += 1
        }
        if actors[actor].isDirty { return }
        actors[actor].isDirty = true
        dirty.insert(actor)
    }

    /// An alert of before this start goes on where it was.
    mutating func takeUp(_ alert: Alert) {
        nextAlert = max(nextAlert, alert.id + 1)
        guard let key = ActorKey(text: alert.group), actorByKey[key] == nil, actors.count < Self.mostActors, key.level != .bridge, key.level != .policy else { return }
        let mac = alert.device?.mac.flatMap { MACAddress(written: $0) }
        let address = alert.device?.address.flatMap { WrittenAddress($0) }?.words ?? .zero
        guard let place = actor(key, isKnown: alert.device?.isKnown ?? true, mac: mac, address: address, side: key.side, at: alert.begin.nanoseconds) else { return }
        actors[place].alert = alert.id
        actors[place].begin = alert.begin.nanoseconds
        actors[place].last = alert.last.nanoseconds
        actors[place].ended = alert.end?.nanoseconds ?? 0
        actors[place].frames = alert.frames
        actors[place].attempts = alert.attempts
        actors[place].isRaised = true
        actors[place].said = (alert.last.nanoseconds, alert.kind, alert.severity)
        actors[place].behaviours = alert.behaviours.map {
            BehaviourState(kind: $0.kind, first: $0.first.nanoseconds, last: $0.last.nanoseconds, count: $0.count, confidence: $0.confidence)
        }
        if key.level == .silent, alert.end == nil {
            // What is missing has to be missed anew.
            touch(place, alert.last.nanoseconds)
            actors[place].ended = max(1, alert.last.nanoseconds)
        }
    }

    // MARK: - The bridge itself

    public mutating func observe(_ event: BridgeEvent, at time: UInt64) {
        now = max(now, time)
        switch event {
        case .policyChanged(let name, let version, let mode, let rules):
            guard let actor = actor(ActorKey(.policy), isKnown: true, mac: nil, address: .zero, side: nil, at: time) else { return }
            // One for each time of working on it.
            if actors[actor].alert != 0, time > actors[actor].last &+ 600 * Self.second { forget(actor) }
            guard let actor = self.actor(ActorKey(.policy), isKnown: true, mac: nil, address: .zero, side: nil, at: time) else { return }
            actors[actor].addNote("\"\(name)\" as version \(version), mode \(mode), \(rules) rules")
            note(.policyChanged, actor, nil, confidence: 1)
        case .failureEntered(let cause, let frames, let times):
            guard let actor = actor(ActorKey(.bridge), isKnown: true, mac: nil, address: .zero, side: nil, at: time) else { return }
            actors[actor].addNote("\(cause)\(times > 1 ? ", \(times) times" : ""): frames are \(frames)")
            actors[actor].attempts &+= times
            note(.bridgeFailure, actor, nil, confidence: 1)
        case .failureLeft(let cause, let lasted):
            guard let actor = actorByKey[ActorKey(.bridge)], actors[actor].alert != 0 else { return }
            actors[actor].addNote("the workers judge again (\(cause)), after \(lasted)")
            touch(actor, time)
            actors[actor].ended = time
        }
    }

    /// The next thing of this key is another alert.
    private mutating func forget(_ place: Int) {
        dirty.remove(place)
        actorByKey[actors[place].key] = nil
        let last = actors.count - 1
        if place != last {
            actors[place] = actors[last]
            actorByKey[actors[place].key] = place
            if dirty.remove(last) != nil { dirty.insert(place) }
        }
        actors.removeLast()
    }

    // MARK: - Time

    /// Tells the time, ns since 1970, and returns what is new of alerts.
    public mutating func tick(_ time: UInt64) -> [AlertChange] {
        // The clock was set, or this machine slept: what did not come meanwhile tells nothing.
        if now > time &+ Self.hour { goBack(to: time) } else if ticked != 0, time > ticked &+ 600 * Self.second { began = time }
        ticked = time
        now = max(now, time)
        if began == 0 { began = now }
        expirePending(now)
        if now >= silenceDue {
            silenceDue = now &+ 30 * Self.second
            lookForSilence()
        }
        if now >= expiryDue {
            expiryDue = now &+ 60 * Self.second
            expire()
        }
        if dirty.isEmpty { return [] }
        var changes: [AlertChange] = []
        for place in dirty.sorted() {
            let actor = actors[place]
            let isGraver = actor.said.kind != actor.kind || actor.said.severity != actor.severity
            // At first every second, later less often: each is written down.
            let pause = now < actor.begin &+ 60 * Self.second ? Self.second : 10 * Self.second
            guard !actor.isRaised || isGraver || actor.ended != 0 || now >= actor.said.at &+ pause else { continue }
            dirty.remove(place)
            actors[place].isDirty = false
            actors[place].isRaised = true
            actors[place].said = (now, actor.kind, actor.severity)
            let alert = alert(actor)
            if !actor.isRaised { changes.append(.raised(alert)) } else { changes.append(actor.ended != 0 ? .ended(alert) : .changed(alert)) }
            if !actor.isRaised, actor.ended != 0 { changes.append(.ended(alert)) }
        }
        return changes
    }

    private mutating func goBack(to time: UInt64) {
        (now, began, silenceDue, expiryDue) = (time, time, 0, 0)
        for place in devices.indices { devices[place].last = min(devices[place].last, time) }
        for place in 0..<known.count { known[place].pointee.last = min(known[place].pointee.last, time) }
        for place in actors.indices {
            actors[place].last = min(actors[place].last, time)
            actors[place].acted = min(actors[place].acted, time)
            actors[place].said.at = min(actors[place].said.at, time)
        }
    }

    /// All that has not been said yet: the end.
    public mutating func finish(_ time: UInt64) -> [AlertChange] {
        for place in dirty { actors[place].said.at = 0 }
        return tick(time)
    }

    /// Ends what is quiet, and forgets what was long ago.
    private mutating func expire() {
        for place in actors.indices where actors[place].alert != 0 && actors[place].ended == 0 {
            if actors[place].leader != nil {
                if now > actors[place].last &+ Self.quiet { actors[place].ended = actors[place].last }
                continue
            }
            let quiet: UInt64 = switch actors[place].key.level {
            case .silent, .bridge: .max
            case .policy: 600 * Self.second
            default: Self.quiet
            }
            guard quiet != .max, now > actors[place].last &+ quiet else { continue }
            let last = actors[place].last
            touch(place, last)
            actors[place].ended = max(last, 1)
        }
        var place = 0
        while place < actors.count {
            let actor = actors[place]
            let isOver = actor.alert == 0 || actor.ended != 0
            let memory = actor.key.level == .bridge || actor.key.level == .silent ? Self.hour : Self.memory
            if isOver, !actor.isDirty, now > actor.last &+ memory {
                if actor.key.level == .mac || actor.key.level == .address, !actor.isKnown {
                    let side = actor.side.map { Int($0.rawValue) } ?? -1
                    if let seen = strangers[side], seen.all > 0 { strangers[side]!.all -= 1 }
                }
                forget(place)
            } else {
                place += 1
            }
        }
        if behindRouter.count > 1024 { behindRouter = [:] }
    }

    // MARK: - Alerts

    private func alert(_ actor: Actor) -> Alert {
        let kind = actor.kind
        let behaviours = actor.behaviours.sorted { $0.kind.rank > $1.kind.rank }
        var techniques: [Technique] = []
        for behaviour in behaviours { for technique in behaviour.kind.techniques where !techniques.contains(technique) { techniques.append(technique) } }
        let evidence = actor.contacts.compactMap { contacts.find($0) }.map { contacts[$0] }.sorted { ($0.attempts, $0.frames) > ($1.attempts, $1.frames) }.prefix(8)
        if evidence.contains(where: { $0.isStranger && policy.mode != .learn && norms.deviceClass($0.key.server).isEquipment }),
            kind == .unknownDevice, !techniques.contains(.rogueMaster)
        {
            techniques.append(.rogueMaster)
        }
        let device = device(actor)
        let followers = actor.followers.compactMap { actorByKey[$0] }.map { actors[$0] }
        return Alert(
            id: actor.alert, kind: kind, severity: actor.severity, confidence: actor.behaviours.map(\.confidence).max() ?? 0, device: device,
            others: followers.prefix(64).compactMap { self.device($0) }, begin: Date(actor.begin), last: Date(actor.last), end: actor.ended == 0 ? nil : Date(actor.ended),
            frames: followers.reduce(actor.frames) { $0 &+ $1.frames }, attempts: followers.reduce(actor.attempts) { $0 &+ $1.attempts },
            story: Story(actor, device, Array(evidence), mode: policy.mode, followers: followers.map { $0.address.written }).text,
            behaviours: behaviours.map { Behaviour(kind: $0.kind, first: Date($0.first), last: Date($0.last), count: $0.count, confidence: $0.confidence) },
            evidence: evidence.map {
                AlertEvidence(
                    client: $0.key.client.written, server: $0.key.server.written, service: $0.key.range.written, attempts: $0.attempts, frames: $0.frames,
                    isDenied: $0.isDenied, isAnswered: $0.isAnswered, first: Date($0.first), last: Date($0.last))
            }, techniques: techniques, acknowledged: nil, group: actor.key.text)
    }

    private func device(_ actor: Actor) -> AlertDevice? {
        switch actor.key.level {
        case .bridge, .policy: return nil
        case .silent where actor.address == .zero: return nil
        default: break
        }
        var address = actor.address
        // A forger's own, if it had one; of a known card, the one it is known by.
        if address == .zero, let own = actor.sources.sorted().first { address = own }
        if address == .zero, actor.isKnown, let own = norms.devices.first(where: { $0.mac == actor.mac }) { address = own.address }
        let mac = actor.mac ?? deviceByAddress[address].flatMap { devices[Int($0)].mac }
        return AlertDevice(
            address: address == .zero ? nil : address.written, mac: mac?.written, vendor: nil, name: policy.names[address],
            role: role(address)?.rawValue, side: actor.side.map { "\($0)" }, isKnown: actor.isKnown, isMany: actor.key.level == .side,
            last: actor.acted == 0 ? nil : Date(actor.acted))
    }

    /// As its class has it, where that is of a role.
    private func role(_ address: AddressWords) -> Role? {
        if case .role(let role) = norms.deviceClass(address), norms.roles[address] != nil { return role }
        return norms.roles[address]
    }
}
