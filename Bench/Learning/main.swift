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
import FabLearning
import FabTraffic
import Foundation
import Frames

struct Failure: Error, CustomStringConvertible { var description: String }

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
