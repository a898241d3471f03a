// What is expected and does not come: a poll that stopped, a tool that is gone.

import Baseline
import Foundation
import Frames
import Policy

extension Detector {
    /// Looks at every conversation that is expected all the time; twice a minute.
    mutating func lookForSilence() {
        if policy.mode == .learn || watched.isEmpty || began == 0 { return }
        var due: [Int32] = []
        for place in devices.indices where devices[place].quiet != 0 { devices[place].quiet = 0 }
        var quiet = 0
        for place in watched {
            let one = known[Int(place)]
            // Whoever has not spoken since the start gets the same time again.
            let silence = now &- max(one.pointee.last, began)
            // Half of its patience: so that what fails together is seen together.
            if silence < one.pointee.patience / 2 { continue }
            quiet += 1
            if one.pointee.client >= 0 { devices[Int(one.pointee.client)].quiet += 1 }
            if one.pointee.server >= 0 { devices[Int(one.pointee.server)].quiet += 1 }
            if silence >= one.pointee.patience, !one.pointee.isMissing { due.append(place) }
        }
        if due.isEmpty { return }
        // Half of all that is expected stops at once: that is the wire, or whatever feeds it.
        let isWire = watched.count >= 10 && quiet * 2 > watched.count
        for place in due {
            let one = known[Int(place)]
            one.pointee.isMissing = true
            let (address, isWhole) = isWire ? (AddressWords.zero, true) : silent(one)
            guard let actor = actor(ActorKey(.silent, address: address), isKnown: true, mac: nil, address: address, side: nil, at: max(one.pointee.last, began)) else { continue }
            actors[actor].missing.insert(place)
            if actors[actor].notes.count < Actor.mostNotes {
                actors[actor].addNote("\(Story.conversation(one.pointee.key)), last at \(one.pointee.last == 0 ? "no time since the start" : Story.time(one.pointee.last))")
            }
            note(isWhole ? .silent : .missing, actor, nil, confidence: isWhole ? 0.9 : 0.7)
            actors[actor].begin = min(actors[actor].begin, max(one.pointee.last, began))
        }
    }

    /// Whose silence it is: of the two ends the one of which more is missing.
    ///
    /// - Returns: its address, and whether most of what is expected of it is missing.
    private func silent(_ one: UnsafeMutablePointer<KnownConversation>) -> (AddressWords, Bool) {
        func share(_ place: Int32) -> (share: Double, count: Int32) {
            guard place >= 0, devices[Int(place)].expected > 0 else { return (0, 0) }
            return (Double(devices[Int(place)].quiet) / Double(devices[Int(place)].expected), devices[Int(place)].quiet)
        }
        // One more of a device that is gone already.
        for address in [one.pointee.key.client, one.pointee.key.server] {
            if let known = actorByKey[ActorKey(.silent, address: address)], actors[known].kind == .silent, actors[known].ended == 0 { return (address, true) }
        }
        let client = share(one.pointee.client), server = share(one.pointee.server)
        let isClient = client > server
        let (share, count) = isClient ? client : server
        return (isClient ? one.pointee.key.client : one.pointee.key.server, share >= 0.6 && count >= 2)
    }

    /// It lives again.
    mutating func isBack(_ one: UnsafeMutablePointer<KnownConversation>) {
        one.pointee.isMissing = false
        let place = Int32(truncatingIfNeeded: one - known[0])
        // Few: only those that miss something.
        for actor in actors.indices where actors[actor].key.level == .silent && actors[actor].missing.remove(place) != nil && actors[actor].missing.isEmpty {
            touch(actor, one.pointee.last)
            actors[actor].ended = one.pointee.last
        }
    }
}
