// Which devices are of one kind: they serve and ask for about the same things (after G. Tan et al., "Role classification of hosts
// within enterprise networks based on connection patterns", USENIX ATC 2003). What is rare about a device does not count.

import Allowlist
import Frames

struct Kinds: Sendable {
    private let kinds: [AddressWords: Int]
    /// By kind, sorted.
    let members: [[AddressWords]]

    /// Two devices are of one kind if so much of what either does is what both do.
    private static let likeness = 0.45

    /// - Parameter places: conversations that are believed.
    init(_ history: History, _ places: [Int]) {
        // What a device does: a service, or somebody it has to do with, and on which side.
        // On which days, whoever the other was: an engineer visits another tool each time.
        var days: [AddressWords: [Habit: Set<Int32>]] = [:]
        for place in places {
            let one = history.conversations[place]
            if one.isToGroup { continue }
            let service = one.key.range
            for day in one.days {
                for (own, other, serves) in [(one.key.client, one.key.server, false), (one.key.server, one.key.client, true)] {
                    days[own, default: [:]][Habit(service: service, other: nil, serves: serves), default: []].insert(day.day)
                    days[own, default: [:]][Habit(service: nil, other: other, serves: serves), default: []].insert(day.day)
                }
            }
        }
        let habits = days.mapValues { Set($0.filter { $0.value.count >= 2 }.keys) }.filter { !$0.value.isEmpty }
        var leaders: [(habits: Set<Habit>, members: [AddressWords])] = []
        // Leaders that have a habit: only they need be compared.
        var byHabit: [Habit: [Int]] = [:]
        var kinds: [AddressWords: Int] = [:]
        for (address, own) in habits.sorted(by: { $0.value.count != $1.value.count ? $0.value.count > $1.value.count : $0.key < $1.key }) {
            var shared: [Int: Int] = [:]
            for habit in own { for leader in byHabit[habit] ?? [] { shared[leader, default: 0] += 1 } }
            let best = shared.map { leader, count in
                (leader: leader, likeness: Double(count) / Double(leaders[leader].habits.count + own.count - count))
            }.max { ($0.likeness, $1.leader) < ($1.likeness, $0.leader) }
            if let best, best.likeness >= Self.likeness {
                kinds[address] = best.leader
                leaders[best.leader].members.append(address)
            } else {
                kinds[address] = leaders.count
                for habit in own { byHabit[habit, default: []].append(leaders.count) }
                leaders.append((own, [address]))
            }
        }
        self.kinds = kinds
        members = leaders.map { $0.members.sorted() }
    }

    private struct Habit: Hashable {
        var service: ServiceRange?
        var other: AddressWords?
        var serves: Bool
    }

    subscript(_ address: AddressWords) -> Int? { kinds[address] }
}
