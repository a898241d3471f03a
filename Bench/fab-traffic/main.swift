// A fab's traffic, counted: how much there is of what, and how fast it comes.
//
//   fab-traffic [--tools N] [--weeks W] [--seed S] [--attacks] [--covert]
//   fab-traffic --pcap FILE [--hours N] …            as frames, for what reads captures; for few tools and hours

import FabTraffic
import Foundation
import Frames

func fail(_ text: String, _ code: Int32) -> Never {
    FileHandle.standardError.write(Data("fab-traffic: \(text)\n".utf8))
    exit(code)
}

func usage() -> Never {
    fail("usage: fab-traffic [--tools N] [--weeks W] [--seed S] [--attacks] [--covert] [--pcap FILE [--hours N]]", 64)
}

var tools: Int?, weeks = 3.0, seed: UInt64 = 1, hasAttacks = false, hasCovert = false
var capture: String?, captureHours = 2
var rest = CommandLine.arguments.dropFirst()
while let option = rest.popFirst() {
    switch option {
    case "--attacks": hasAttacks = true
    case "--covert": hasCovert = true
    case "--tools", "--weeks", "--seed", "--pcap", "--hours":
        guard let value = rest.popFirst() else { usage() }
        if option == "--tools", let number = Int(value), (1...5000).contains(number) {
            tools = number
        } else if option == "--weeks", let number = Double(value), number > 0, number <= 520 {
            weeks = number
        } else if option == "--seed", let number = UInt64(value) {
            seed = number
        } else if option == "--hours", let number = Int(value), (1...1000).contains(number) {
            captureHours = number
        } else if option == "--pcap" {
            capture = value
        } else {
            usage()
        }
    default: usage()
    }
}

var scenario = FabScenario(tools: tools ?? (capture == nil ? 1000 : 10))
scenario.weeks = weeks
scenario.seed = seed
scenario.includesCovert = hasCovert
if hasAttacks {
    // When two thirds are over: what came before can be learnt.
    let begin = capture == nil ? (weeks * 112).rounded() : 0
    scenario.attacks = FabScenario.everyAttack(from: begin)
    if hasCovert { scenario.attacks.append(FabAttack(.covert, start: begin, hours: 24, tool: 2)) }
}

if let capture {
    do {
        let frames = try CaptureFile.write(FabTraffic(scenario), hours: captureHours, to: capture)
        Swift.print("\(frames) frames of \(captureHours) hours in \(capture)")
    } catch {
        fail("\(capture): \(error.localizedDescription)", 1)
    }
    exit(0)
}

func seconds(_ duration: Duration) -> Double { Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18 }

let clock = ContinuousClock()
let planBegin = clock.now
let traffic = FabTraffic(scenario)
let planning = planBegin.duration(to: clock.now)

// Once with nothing done to the records: that is what is timed.
var records = 0, check: UInt64 = 0
let begin = clock.now
traffic.runHours { hour in
    records += hour.count
    for i in hour.indices { check = (check ^ hour[i].record.last ^ hour[i].record.source.low) &* 0x100_0000_01B3 }
}
let taken = seconds(begin.duration(to: clock.now))

// And once to look at them.
struct Key: Hashable { var client, server: UInt32, port: UInt16, rule: Int32 }
let truth = traffic.truth
let ranged = truth.rules.map { $0.services.filter { $0.count > 1 } }
var connections = 0, frames: UInt64 = 0, bytes: UInt64 = 0
var labels: [FabLabel: (records: Int, connections: Int)] = [:]
// When a conversation was first seen, in days; ports of the server's own choice count as one.
var seen: [Key: Int] = [:]
var planned: Set<Key> = [], ports: Set<Key> = []
for one in truth.conversations {
    planned.insert(Key(client: one.client, server: one.server, port: one.service.low.rawValue, rule: Int32(one.rule)))
}
traffic.runHours { hour in
    for one in hour {
        let record = one.record
        frames += UInt64(record.frames)
        bytes += record.bytes
        let opens = record.ipProtocol == .tcp && record.tcpFlags.opensConnection
        if opens { connections += 1 }
        labels[one.label, default: (0, 0)].records += 1
        if opens { labels[one.label]!.connections += 1 }
        if one.label.isMalicious || one.rule < 0 { continue }
        var key = Key(
            client: UInt32(record.source.low), server: UInt32(record.destination.low), port: record.destinationPort.rawValue, rule: one.rule)
        if opens { ports.insert(key) }
        if let range = ranged[Int(one.rule)].first(where: { $0.contains(record.ipProtocol, record.destinationPort) }) { key.port = range.low.rawValue }
        // An answer is not of a conversation's way.
        guard planned.contains(key), seen[key] == nil else { continue }
        seen[key] = Int((record.last / 1_000_000_000 - scenario.start) / 86400)
    }
}

func print(_ name: String, _ value: String) { Swift.print(name.padding(toLength: 36, withPad: " ", startingAt: 0) + value) }
print("tools, devices", "\(scenario.tools), \(truth.devices.count)")
print("rules, used", "\(truth.rules.count), \(Set(seen.keys.map(\.rule)).count)")
print("conversations", "\(planned.count)")
for days in [1, 3, 7, 14, 21, 28] where Double(days) <= weeks * 7 { print("  seen after \(days == 1 ? "a day" : "\(days) days")", "\(seen.values.count { $0 < days })") }
print("TCP conversations by port, as opened", "\(ports.count)")
print("records", "\(records)")
print("frames, bytes", "\(frames), \(bytes)")
print("TCP connections asked for", "\(connections)")
for label in FabLabel.all {
    if let count = labels[label] { print("  \(label)", "\(count.records) records, \(count.connections) connections") }
}
print("planned in", String(format: "%.2f s", seconds(planning)))
print("made in", String(format: "%.2f s, %.2f million records a second (check %016llx)", taken, Double(records) / taken / 1e6, check))
