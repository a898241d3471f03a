import Allowlist
import ArgumentParser
import Baseline
import Control
import Foundation
import Frames
import Policy

struct BaselineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baseline",
        abstract: "Show what was learnt, how complete it is, and what needs a person's eye.")

    @OptionGroup var options: HistoryOptions
    @Option(help: ArgumentHelp("Only conversations of this device.", valueName: "address")) var device: String?
    @Option(
        help: ArgumentHelp(
            "Write one HTML file for the browser: who talks to whom, how complete it is, what waits for a person and how to decide.", valueName: "file"))
    var html: String?
    @Option(help: ArgumentHelp("What the proposed rule of this id rests on, to the last number.", valueName: "rule")) var why: String?
    @Option(help: "With --why: as 'sekisho propose' was given it.") var budget = 0
    @Flag(help: "Show it again every ten seconds, until Ctrl-C.") var watch = false
    @Flag(help: "Print JSON.") var json = false

    func validate() throws {
        if budget < 0 || budget > 0 && why == nil { throw ValidationError("--budget is a number of permissions, 0 or more, and goes with --why") }
        if watch, json || why != nil || html != nil { throw ValidationError("--watch is for people, and for everything") }
        if why != nil, device != nil { throw ValidationError("--why and --device exclude each other") }
        if why != nil, html != nil { throw ValidationError("--why and --html exclude each other") }
    }

    struct Report: Encodable {
        struct Conversation: Encodable {
            var client: String
            var server: String
            var service: String
            var vlan: UInt16
            var first: String
            var last: String
            var days: Int
            var hours: Int
            var connections: UInt64
            var answered: UInt64
            var refused: UInt64
            /// Frames that did not pass, or would not have under enforce.
            var denied: UInt64
            var frames: UInt64
            var bytes: UInt64
            var side_known: String
            var period_seconds: Double?
            var period_spread: Double?
            var silent: Bool
            var review: [String]
        }
        struct Complete: Encodable {
            var complete: Bool
            var block: String
            var blocks: Int
            var span_days: Double
            var hours_of_week: Int
            var conversations: Int
            var unseen_share: Double
            var unseen_share_bound: Double
            var expected_more: Double
            var expected_more_bound: Double?
            var missing: [String]
        }
        struct Device: Encodable {
            var address: String
            var conversations: Int
            var complete: Complete
        }
        var complete: Complete
        var devices: [Device]
        var conversations: [Conversation]
        /// With --why: what the rule allows and nobody has done.
        var never_used: [String]?
    }

    func run() throws {
        if let html { try OutputFile.check(html) }
        repeat {
            let (history, review) = try options.history()
            if watch { Output.clearScreen() }
            try show(history, review)
            if watch {
                try Output.finish()
                sleep(10)
            }
        } while watch
    }

    private func show(_ history: History, _ review: Review) throws {
        if let why { return try explain(why, history, review) }
        let address = try device.map { text in
            guard let prefix = WrittenAddress.network(text), prefix.isHost else {
                throw ValidationError("\"\(text)\" is no IP address")
            }
            return prefix.words
        }
        let chosen = history.conversations.indices.filter { place in
            address.map { history.conversations[place].key.client == $0 || history.conversations[place].key.server == $0 } ?? true
        }
        if let device, chosen.isEmpty {
            Output.error("error: nothing was learnt of \(device)\n  → sekisho baseline --state \(options.state) lists the devices")
            throw Exit.failed
        }
        let complete = Completeness(history, review, chosen, Completeness.ObservedTime(history.hours))
        if json { try Output.json(report(history, review, chosen, complete)) } else { show(history, review, chosen, complete) }
        if let html { try write(history, review, chosen, to: html) }
    }

    private func write(_ history: History, _ review: Review, _ chosen: [Int], to path: String) throws {
        // The commands on the page work from any directory.
        let page = BaselinePage(
            history, review, chosen: chosen, state: URL(fileURLWithPath: options.state).standardizedFileURL.path,
            options: options.times.words + (device.map { ["--device \($0)"] } ?? []), version: Sekisho.configuration.version)
        let text: String
        do throws(HistoryError) {
            text = try BaselinePage.html((try? MachineFormat.encoder(pretty: false).encode(page)) ?? Data())
        } catch { throw HistoryOptions.failed(error) }
        try OutputFile.write(text.utf8, to: path)
        if page.omitted > 0 {
            Output.error("warning: \(path) shows \(BaselinePage.most) conversations; \(page.omitted) that failed or were rare are left out\n  → --device ADDRESS shows all of one")
        }
    }

    /// A rule's evidence: conversations, and of each the days.
    private func explain(_ id: String, _ history: History, _ review: Review) throws {
        let proposal = Proposal(history, review, includesReview: true, budget: budget)
        guard let rule = proposal.rules.first(where: { $0.id == id }) else {
            let near = proposal.rules.map(\.id).filter { $0.contains(id) }.prefix(5)
            Output.error(
                "error: no rule \"\(id)\" would be proposed\n  → "
                    + (near.isEmpty ? "sekisho propose --include-review --state \(options.state) shows the ids" : "did you mean \(near.joined(separator: ", "))?"))
            throw Exit.failed
        }
        let conversations = rule.evidence.map { history.conversations[$0] }
        let unobserved = rule.unobservedPermissions(in: history)
        if json {
            var report = report(history, review, rule.evidence, Completeness(conversations, Completeness.ObservedTime(history.hours)))
            report.never_used = unobserved
            return try Output.json(report)
        }
        let count = conversations.reduce(0) { $0 + $1.connections }
        print("\(id): \(conversations.count) conversation\(conversations.count == 1 ? "" : "s"), \(Output.grouped(count)) connections\(rule.reasons.isEmpty ? "" : "; waits for a person: " + rule.reasons.sorted().map(\.text).joined(separator: "; "))")
        for one in conversations {
            let services = one.key.range.written
            print("\n\(one.key.client.written(one.key.family)) → \(one.key.server.written(one.key.family)) \(services); which side serves was \(one.orientation)")
            if let rhythm = Rhythm([one]) { print("  \(rhythm.text), by the last \(one.intervals.values.count) of \(Output.grouped(one.intervals.count)) intervals") }
            print(
                Output.table(
                    one.days.map { day in
                        let hours = (0..<24).map { day.hours >> UInt32($0) & 1 == 1 ? "█" : "·" }.joined()
                        return [
                            Output.day(day.day), hours, Output.grouped(UInt64(day.connections)),
                            Output.grouped(UInt64(day.answered)), Output.grouped(UInt64(day.refused)), Output.grouped(day.framesOut), Output.grouped(day.framesIn),
                            Output.grouped(UInt64(day.denied)),
                        ]
                    }, header: ["day (UTC)", "hours 0–23", "connections", "answered", "refused", "frames out", "in", "denied"], numbers: [2, 3, 4, 5, 6, 7]))
        }
        if !unobserved.isEmpty {
            print("\nallowed, and never used:")
            for one in unobserved.prefix(100) { print("  \(one)") }
            if unobserved.count > 100 { print("  … and \(unobserved.count - 100) more: --json has them all") }
        }
    }

    private func report(_ history: History, _ review: Review, _ chosen: [Int], _ complete: Completeness) -> Report {
        func written(_ complete: Completeness) -> Report.Complete {
            Report.Complete(
                complete: complete.isComplete(), block: complete.block.rawValue, blocks: complete.blocks, span_days: complete.spanDays,
                hours_of_week: complete.hoursOfWeek.count, conversations: complete.conversations, unseen_share: complete.unseenShare,
                unseen_share_bound: complete.unseenBound, expected_more: complete.expected,
                expected_more_bound: complete.expectedBound, missing: complete.missing())
        }
        let time = Completeness.ObservedTime(history.hours)
        return Report(
            complete: written(complete),
            devices: history.byDevice(chosen).map { one in
                Report.Device(
                    address: one.address.written(one.family), conversations: one.places.count,
                    complete: written(Completeness(history, review, one.places, time)))
            },
            conversations: chosen.map { place in
                let one = history.conversations[place], period = Rhythm([one])
                return Report.Conversation(
                    client: one.key.client.written(one.key.family), server: one.key.server.written(one.key.family),
                    service: one.key.range.written, vlan: one.key.vlan.rawValue,
                    first: Output.time(one.first), last: Output.time(one.last), days: one.days.count, hours: one.hourCount,
                    connections: one.connections, answered: one.answered, refused: one.refused, denied: one.denied, frames: one.frames,
                    bytes: one.bytesIn + one.bytesOut, side_known: "\(one.orientation)", period_seconds: period?.median,
                    period_spread: period?.spread, silent: one.isSilent(in: history), review: review.reasons[place].map(\.name))
            })
    }

    private func show(_ history: History, _ review: Review, _ chosen: [Int], _ complete: Completeness) {
        let devices = history.byDevice(chosen)
        // Data connections of FTP come with their session.
        let places = Set(Standing(history, review).waiting.map(\.0)), waiting = chosen.filter { places.contains($0) }
        print(
            "\(Output.grouped(UInt64(chosen.count))) conversations between \(Output.grouped(UInt64(devices.count))) devices, "
                + "\(waiting.count == 0 ? "none" : Output.grouped(UInt64(waiting.count))) of them for a person to look at")
        let unit = complete.block == .day ? "days" : "hours"
        print(
            "observed: \(complete.blocks) \(unit) over \(String(format: "%.1f", complete.spanDays)) days, \(complete.hoursOfWeek.count) of the week's 168 hours")
        print(
            "unseen:   \(Completeness.share(complete.unseenShare)) of the connections to come, at most \(Completeness.share(complete.unseenBound)) (95 %); "
                + "\(Int(complete.expected.rounded())) conversations more, at most \(complete.expectedBound.map { String(Int(min($0, 1e9).rounded(.up))) } ?? "?")")
        let missing = complete.missing()
        if missing.isEmpty {
            print("complete: yes")
        } else {
            print("complete: no; missing:")
            for one in missing { print("  - \(one)") }
        }
        let byFrames = chosen.map { (place: $0, frames: history.conversations[$0].frames) }.sorted { $0.frames > $1.frames }
        let rows = byFrames.prefix(device == nil ? 40 : .max).map { place, _ -> [String] in
            let one = history.conversations[place]
            let period = Rhythm([one]).map { $0.isRegular ? String(format: "%.3g s", $0.median) : "" } ?? ""
            return [
                one.key.client.written(one.key.family), one.key.server.written(one.key.family),
                one.key.range.written + (one.key.vlan == .untagged ? "" : " vlan \(one.key.vlan.rawValue)"),
                Output.grouped(one.connections), Output.grouped(one.frames), one.denied == 0 ? "" : Output.grouped(one.denied), String(one.days.count), period,
                ((review.isFileTransfer(place) && !places.contains(place) ? ["data of FTP"] : review.reasons[place].map(\.name)) + (one.isSilent(in: history) ? ["silent since \(Output.day(one.days.last?.day ?? 0))"] : []))
                    .joined(separator: ", "),
            ]
        }
        print("\n" + Output.table(rows, header: ["client", "server", "service", "connections", "frames", "denied", "days", "every", "look at"], numbers: [3, 4, 5, 6]))
        if chosen.count > rows.count { print("… and \(chosen.count - rows.count) more: --json has them all, --device ADDRESS those of one") }
    }
}
