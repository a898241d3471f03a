// Learning, measured against the truth:
//
//   learning                                  generated fabs of 10, 100 and 1,000 tools: learn two weeks, judge the third
//   learning --tools N --seeds N              one size, several fabs
//   learning --captures FOLDER                labelled captures: learn from all but one, judge that one
//
// Time splits, never a random half: tomorrow has to be judged by what was known today.

import Allowlist
import Baseline
import Captures
import FabTraffic
import Foundation
import Frames

struct Failure: Error, CustomStringConvertible { var description: String }

/// Seconds that something took.
func timed<T>(_ body: () throws -> T) rethrows -> (T, Double) {
    let began = ContinuousClock.now
    let result = try body()
    let took = began.duration(to: .now)
    return (result, Double(took.components.seconds) + Double(took.components.attoseconds) * 1e-18)
}

func grouped(_ value: some BinaryInteger) -> String {
    var text = String(value), at = text.count - 3
    while at > 0 {
        text.insert(" ", at: text.index(text.startIndex, offsetBy: at))
        at -= 3
    }
    return text
}

/// A history of what a learner has learnt, without a disk.
func history(_ learner: Learner, _ days: [LearntDay]) -> History {
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
    let conversations = all.enumerated().map { number, item in
        let days = item.value.days.values.sorted { $0.day < $1.day }
        for day in days { hours.formUnion(day.hourNumbers) }
        return RecordedConversation(
            row: Int64(number), key: item.key, orientation: item.value.orientation, intervals: Intervals(), days: days)
    }
    let addresses = learner.drainAddresses().map { RecordedAddress(address: $0.0, first: $0.first, last: $0.last) }
    return History(
        conversations: conversations, addresses: addresses, sources: [], etherTypes: [], decisions: [], periods: [], hours: hours.sorted())
}

func run() throws {
    var sizes = [10, 100, 1000], seeds = 1, budgets = [1_000, 10_000], captures: String?
    var arguments = Array(CommandLine.arguments.dropFirst())
    while !arguments.isEmpty {
        let name = arguments.removeFirst()
        func value() throws -> String {
            if arguments.isEmpty { throw Failure(description: "\(name) needs a value") }
            return arguments.removeFirst()
        }
        switch name {
        case "--tools": sizes = [Int(try value()) ?? 10]
        case "--seeds": seeds = Int(try value()) ?? 1
        case "--budgets": budgets = try value().split(separator: ",").compactMap { Int($0) }
        case "--captures": captures = try value()
        default: throw Failure(description: "usage: learning [--tools N] [--seeds N] [--budgets N,…] [--captures FOLDER]")
        }
    }
    if let captures {
        try LabelledCaptures(captures).run()
    } else {
        try Fabs(sizes: sizes, seeds: seeds, budgets: budgets).run()
    }
}

do { try run() } catch {
    FileHandle.standardError.write(Data("learning: error: \(error)\n".utf8))
    exit(1)
}
