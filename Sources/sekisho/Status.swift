import ArgumentParser
import Control
import Foundation
import Glibc
import Policy

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what the running bridge does.")

    @Flag(help: "Show it again every second, until Ctrl-C.") var watch = false
    @Flag(help: "Print JSON; with --watch one object a line.") var json = false
    @OptionGroup var socket: ControlOption

    func run() throws {
        repeat {
            guard let report = try ask(ControlRequest(command: .status), at: socket.path).status else { throw Exit.failed }
            if json {
                watch
                    ? print(String(decoding: try MachineFormat.encoder(pretty: false).encode(report), as: UTF8.self))
                    : try Output.json(report)
            } else {
                if watch { Output.clearScreen() }
                print(report.text)
            }
            try Output.finish()
            if watch { sleep(1) }
        } while watch
    }
}

extension StatusReport.Judging {
    var text: String {
        var lines: [String] = []
        let actions = Set(onFailure.values)
        let plan = actions.count == 1 ? actions.first! : onFailure.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        switch (now, datapath) {
        case ("worker", _): lines.append("  judged by the workers; if one is silent for \(deadlineMs) ms, or starting or stopping: \(plan)")
        case ("kernel", "kernel"): lines.append("  judged in the kernel (datapath = \"kernel\"); starting or stopping: \(plan)")
        default: lines.append(Output.coloured("  ALARM: a worker is dead; frames are now: \(now == "kernel" ? "judged in the kernel" : now)", .red))
        }
        if withoutWorker.frames > 0, datapath == "worker" || !episodes.isEmpty {
            lines.append("  \(Output.grouped(withoutWorker.frames)) frames were not judged by a worker")
        }
        for episode in episodes {
            lines.append(
                "  \(episode.cause): \(episode.count) time\(episode.count == 1 ? "" : "s"), the last \(Output.duration(episode.beganSecondsAgo)) ago, "
                    + (episode.goesOn ? "still going on" : String(format: "for %.1f ms", episode.lastedMs)))
        }
        return lines.joined(separator: "\n")
    }
}

extension StatusReport.Recording {
    var text: String {
        var line = "  recording to \(file): \(Output.grouped(records)) records, \(Output.grouped(conversations)) conversations known, "
        line += lastWritten.map { "written \(Output.duration(max(0, Date().timeIntervalSince($0)))) ago" } ?? "nothing written yet"
        if lostFrames > 0 { line += Output.coloured(", \(Output.grouped(lostFrames)) frames not recorded", .red) }
        if let error { line += Output.coloured("\n  ALARM: \(error)", .red) }
        return line
    }
}

extension StatusReport.Audit {
    var text: String {
        var line = "  audit log \(file): \(Output.grouped(events)) events, head \(head.prefix(16))…"
        if lost > 0 { line += Output.coloured(", \(Output.grouped(lost)) events lost", .red) }
        if let error { line += Output.coloured("\n  ALARM: \(error)", .red) }
        return line
    }
}

extension StatusReport.Detection {
    var text: String {
        let count = open == 0 ? "no open alerts" : Output.coloured("\(open) open alert\(open == 1 ? "" : "s")", .red)
        var line = "  watching\(isReady ? "" : " in a moment: what is usual is being read"): \(count), \(Output.grouped(raised)) since the start; see sekisho alerts"
        if lostRecords > 0 { line += Output.coloured(", \(Output.grouped(lostRecords)) records were too many to look at", .red) }
        if let error { line += Output.coloured("\n  ALARM: \(error)", .red) }
        return line
    }
}

extension StatusReport {
    /// For a person.
    var text: String {
        var lines: [String] = []
        let colour: Output.Colour = mode == "enforce" ? .green : .yellow
        lines.append("\(Output.coloured(mode, colour))  policy \"\(policy.name)\" version \(policy.version), \(policy.rules) rules, in use for \(Output.duration(policy.ageSeconds))")
        if let unconfirmed = policy.unconfirmed {
            let left = Output.duration(unconfirmed.secondsLeft)
            lines.append(
                Output.coloured("  not confirmed: version \(unconfirmed.otherwise) comes back in \(left) unless you say: sekisho confirm", .yellow))
        }
        lines.append(judging.text)
        lines.append(
            Output.table(
                ["inside", "outside"].compactMap { side in
                    guard let port = ports[side] else { return nil }
                    let lost = port.lost.ringFull + port.lost.other
                    return [
                        side, port.name, port.driver, port.link, port.xdp, port.afXdp, "\(port.mtu)", "\(port.queues)",
                        Output.grouped(lost),
                    ]
                }, header: ["port", "name", "driver", "link", "XDP", "AF_XDP", "MTU", "queues", "lost in kernel"],
                numbers: [6, 7, 8]))
        lines.append(
            Output.table(
                ["inside_to_outside", "outside_to_inside"].compactMap { name in
                    guard let direction = directions[name] else { return nil }
                    func cell(_ count: Count) -> String { "\(Output.grouped(count.frames)) (\(Output.bytes(count.bytes)))" }
                    return [
                        name.replacingOccurrences(of: "_", with: " "), cell(direction.received), cell(direction.forwarded),
                        cell(direction.denied),
                    ]
                }, header: ["direction", "received", "forwarded", "denied"], numbers: [1, 2, 3]))
        for (title, causes) in [("denied", denied), ("would be denied", wouldDeny)] where !causes.isEmpty {
            lines.append(
                Output.table(
                    causes.map { [$0.cause, Output.grouped($0.frames), $0.text] }, header: [title, "frames", "why"], numbers: [1]))
        }
        if let flows {
            var notes = ["\(Output.grouped(flows.now)) flows of \(Output.grouped(UInt64(flows.capacity)))"]
            if flows.pickedUp > 0 { notes.append("\(Output.grouped(flows.pickedUp)) taken up in mid-stream") }
            if flows.pushedOut > 0 { notes.append("\(Output.grouped(flows.pushedOut)) tentative ones pushed out") }
            if flows.cut > 0 { notes.append("\(Output.grouped(flows.cut)) cut with their rule") }
            var line = "  " + notes.joined(separator: ", ")
            if flows.refused > 0 { line += Output.coloured(", \(Output.grouped(flows.refused)) found no room", .red) }
            lines.append(line)
        }
        if let mirror {
            var line = "  \(Output.grouped(mirror.frames)) frames copied to \(Output.printable(mirror.port))"
            let missing = mirror.lost + mirror.refused
            if missing > 0 { line += Output.coloured(", \(Output.grouped(missing)) not: the port is too slow, down, or takes no frames so long", .red) }
            lines.append(line)
        }
        if let recording { lines.append(([recording.text] + [detection?.text].compactMap { $0 }).joined(separator: "\n")) }
        for order in quarantine {
            lines.append(
                Output.coloured("  \(Output.printable(order.device)) is cut off until \(Output.time(UInt64(max(0, order.until)) * 1_000_000_000))", .red)
                    + ", by \(Output.printable(order.who)): \(Output.printable(order.why))")
        }
        if let audit { lines.append(audit.text) }
        if !identities.latest.isEmpty {
            lines.append(
                Output.table(
                    identities.latest.prefix(8).map {
                        [Output.duration(max(0, Date().timeIntervalSince($0.at))) + " ago", "\($0.times)", $0.text]
                    }, header: ["who is who", "times", "\(Output.grouped(identities.known)) addresses known"], numbers: [1]))
        }
        if !rules.isEmpty {
            let shown = rules.sorted { $0.frames > $1.frames }.prefix(20)
            var table = Output.table(
                shown.map { [$0.id, Output.grouped($0.frames), $0.mode == "monitor" ? "on trial" : ""] }, header: ["rule", "frames"], numbers: [1])
            if rules.count > shown.count { table += "\n  … and \(rules.count - shown.count) more (--json shows all)" }
            lines.append(table)
        }
        lines.append(
            Output.table(
                workers.map { worker in
                    [
                        "\(worker.index)", "\(worker.cpu)\(worker.pinned ? "" : " (not pinned)")",
                        String(format: "%.1f %%", worker.cpuPercent), "\(worker.frames.free) of \(worker.frames.total)",
                        "\(worker.rings.rx)", "\(worker.rings.tx)", "\(worker.rings.fill)", "\(worker.rings.completion)",
                        "\(worker.kickErrors)",
                    ]
                }, header: ["worker", "CPU", "busy", "free frames", "rx", "tx", "fill", "completion", "send errors"],
                numbers: [2, 3, 4, 5, 6, 7, 8]))
        lines.append(Output.coloured("  process \(pid), up \(Output.duration(uptimeSeconds)), \(Output.bytes(UInt64(residentBytes))) resident, idle: \(idle)", .dim))
        return lines.joined(separator: "\n\n")
    }
}
