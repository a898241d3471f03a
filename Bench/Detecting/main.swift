// Detecting, measured against the truth:
//
//   detecting                         generated fabs of 10, 100 and 1,000 tools: learn two weeks, watch the third, with attacks and without
//   detecting --tools N --seeds N     one size, several fabs
//   detecting --unattended            under the policy as it is proposed, before a person has approved what waits
//   detecting --monitor               what is denied passes all the same
//   detecting --stories               every alert's paragraph
//   detecting --captures FOLDER       labelled captures: learn from all but one, watch that one
//   detecting --flood                 100,000 denials a second for a minute
//
// Labels are looked at to say which alert is right, never to raise one.

import Allowlist
import Baseline
import Detection
import FabLearning
import FabTraffic
import Foundation
import Frames

struct Failure: Error, CustomStringConvertible { var description: String }

struct Options {
    var sizes = [10, 100, 1000]
    var seeds = 1
    var isAttended = true
    var mode = Mode.enforce
    var tellsStories = false
}

func run() throws {
    var options = Options()
    var arguments = Array(CommandLine.arguments.dropFirst())
    while !arguments.isEmpty {
        let name = arguments.removeFirst()
        func number() throws -> Int {
            guard !arguments.isEmpty, let value = Int(arguments.removeFirst()), value > 0 else { throw Failure(description: "\(name) needs a number") }
            return value
        }
        switch name {
        case "--tools": options.sizes = [try number()]
        case "--seeds": options.seeds = try number()
        case "--unattended": options.isAttended = false
        case "--monitor": options.mode = .monitor
        case "--stories": options.tellsStories = true
        case "--captures":
            if arguments.isEmpty { throw Failure(description: "\(name) needs a folder") }
            return try CapturesWatched(arguments.removeFirst()).run()
        case "--flood": return Flood().run()
        default: throw Failure(description: "usage: detecting [--tools N] [--seeds N] [--unattended] [--monitor] [--stories] [--captures FOLDER] [--flood]")
        }
    }
    for tools in options.sizes {
        var quiet = 0, alerts = 0
        for seed in 1...options.seeds {
            let result = Watching(tools: tools, seed: UInt64(seed), options).run()
            alerts += result
            if Double(result) / 7 <= Double(tools) / 100 { quiet += 1 }
        }
        if options.seeds > 1 {
            print(
                "\(tools) tools: without attacks \(String(format: "%.3f", Double(alerts) / 7 / Double(options.seeds) / Double(tools) * 100)) alerts a day and 100 tools "
                    + "in the mean of \(options.seeds) fabs; at most 1 in \(quiet) of them\n")
        }
    }
}

do { try run() } catch {
    FileHandle.standardError.write(Data("detecting: error: \(error)\n".utf8))
    exit(1)
}
