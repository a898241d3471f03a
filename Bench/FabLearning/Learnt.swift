// A generated fab, learnt: what the benchmarks of learning and detecting have in common.

import Allowlist
import Baseline
import FabTraffic
import Foundation
import Frames

/// Seconds that something took.
public func timed<T>(_ body: () throws -> T) rethrows -> (T, Double) {
    let began = ContinuousClock.now
    let result = try body()
    let took = began.duration(to: .now)
    return (result, Double(took.components.seconds) + Double(took.components.attoseconds) * 1e-18)
}

public func grouped(_ value: some BinaryInteger) -> String {
    var text = String(value), at = text.count - 3
    while at > 0 {
        text.insert(" ", at: text.index(text.startIndex, offsetBy: at))
        at -= 3
    }
    return text
}

/// A history of what a learner has learnt, without a disk.
public func history(_ learner: Learner, _ days: [LearntDay]) -> History {
    var all: [ConversationKey: (orientation: Orientation, days: [Int32: ConversationDay])] = [:]
    for one in days where one.day.hours != 0 || one.day.connections != 0 {
        var known = all[one.key] ?? (one.orientation, [:])
        known.orientation = max(known.orientation, one.orientation)
        if let old = known.days[one.day.day] {
            known.days[one.day.day] = old.adding(one.day)
        } else {
            known.days[one.day.day] = one.day
        }
        all[one.key] = known
    }
    var hours: Set<Int64> = []
    let intervals = Dictionary(
        learner.drainIntervals().compactMap { one in learner.key(one.conversation).map { ($0, one.intervals) } }, uniquingKeysWith: { _, last in last })
    let conversations = all.enumerated().map { number, item in
        let days = item.value.days.values.sorted { $0.day < $1.day }
        for day in days { hours.formUnion(day.hourNumbers) }
        return RecordedConversation(
            row: Int64(number), key: item.key, orientation: item.value.orientation, intervals: intervals[item.key] ?? Intervals(), days: days)
    }
    let addresses = learner.drainAddresses().map { RecordedAddress(address: $0.0, first: $0.first, last: $0.last) }
    return History(
        conversations: conversations, addresses: addresses, sources: [], etherTypes: [], decisions: [], periods: [], hours: hours.sorted())
}

extension FabTruth {
    /// A person knows the plant: approves what waits and is right, and nothing else.
    public func approving(_ made: History, _ review: Review, _ proposal: Proposal) -> History {
        var approved = made
        // Data connections of FTP come with their sessions.
        for (place, _) in proposal.waiting where !review.isFileTransfer(place) {
            let key = made.conversations[place].key
            let isRight = rule(
                client: UInt32(truncatingIfNeeded: key.client.low), server: UInt32(truncatingIfNeeded: key.server.low), key.ipProtocol, key.service) != nil
            if isRight, !review.reasons[place].contains(where: { [.scanner, .addressConflict, .refused].contains($0) }) {
                approved.decisions.append(
                    Decision(
                        at: .max, who: "truth", why: "", verdict: .approve, clients: AddressPrefix(family: .ipv4, words: key.client, length: 32),
                        servers: AddressPrefix(family: .ipv4, words: key.server, length: 32), service: key.range))
            }
        }
        return approved
    }
}

extension ConversationKey {
    /// Of a record that opens one.
    public init(opening record: TrafficRecord) {
        self.init(
            client: record.source, server: record.destination, service: record.destinationPort, vlan: record.vlan, ipProtocol: record.ipProtocol,
            family: .ipv4)
    }
}
