// Devices that a person has said stand in for one another: a host and its standby, the engineers' laptops, the tools of a kind.
//
// What comes once in a recording's time (a host fails, and its standby takes over) no statistics can foretell, but whoever
// knows the plant can.

import Allowlist
import Frames

struct StandIns {
    private struct Group {
        var service: ServiceRange?
        /// Sorted.
        var members: [AddressWords]
    }

    private var groups: [Group] = []

    /// Of networks those addresses that were seen at all.
    init(_ history: History) {
        let said = history.decisions.filter { $0.verdict == .alike }
        if said.isEmpty { return }
        var seen: Set<SeenAddress> = []
        for one in history.conversations {
            for address in [one.key.client, one.key.server] where !address.isGroup(one.key.family) { seen.insert(SeenAddress(address, one.key.family)) }
        }
        for decision in said {
            var members: Set<AddressWords> = []
            for prefix in decision.members {
                if prefix.isHost {
                    members.insert(prefix.words)
                } else {
                    members.formUnion(seen.lazy.filter { $0.family == prefix.family && prefix.contains($0.words) }.map(\.words))
                }
            }
            groups.append(Group(service: decision.service, members: members.sorted()))
        }
    }

    private struct SeenAddress: Hashable {
        var words: AddressWords
        var family: IPFamily
        init(_ words: AddressWords, _ family: IPFamily) { (self.words, self.family) = (words, family) }
    }

    private init() {}
    static let none = StandIns()

    /// For this service: of each who has any, all who may do what it may, itself among them. Sorted; those of one set have the same.
    func of(_ service: ServiceRange) -> [AddressWords: [AddressWords]] {
        var sets: [Int: Set<AddressWords>] = [:], setOf: [AddressWords: Int] = [:]
        for (number, group) in groups.enumerated() where group.service.map({ $0.contains(service.ipProtocol, service.low) }) ?? true {
            // Who stands in for somebody who stands in for a third does so for the third.
            var all = Set(group.members)
            for old in Set(group.members.compactMap { setOf[$0] }) { all.formUnion(sets.removeValue(forKey: old)!) }
            for member in all { setOf[member] = number }
            sets[number] = all
        }
        let sorted = sets.mapValues { $0.sorted() }
        return setOf.mapValues { sorted[$0]! }
    }
}
