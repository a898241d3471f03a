import ArgumentParser
import Baseline
import Captures
import Control
import Datapath
import Detection
import Foundation
import Glibc
import Policy

struct AlertsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "alerts",
        abstract: "List what a running bridge found worth a word, show one, and acknowledge it.",
        discussion: "Alerts are made by 'sekisho run --state DIR', in every mode. One of them is one device and all that it does.",
        subcommands: [List.self, Show.self, Acknowledge.self, Capture.self], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List alerts, the latest last. This is what 'alerts' does by itself.")
        @Option(help: "State directory.") var state: String
        @Option(help: ArgumentHelp("Only those that had something from then on: 2026-11-24, 2026-11-24T06:00, or with Z for UTC.", valueName: "time"))
        var since: Moment?
        @Flag(help: "Only those that have not ended.") var open = false
        @Flag(help: "Show them again every two seconds, until Ctrl-C; with --json one that changed a line.") var watch = false
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            do throws(HistoryError) {
                let store = try AlertStore(directory: state, mayMake: false)
                let from = since.map { Date(timeIntervalSince1970: Double($0.nanoseconds) / 1e9) }
                if watch { return try follow(store, from) }
                let alerts = try store.read(since: from, onlyOpen: open) { Output.error("warning: alert \($0) is damaged, or of another version; it is left out") }
                if json { return try AlertsCommand.json(alerts) }
                show(alerts)
            } catch { throw HistoryOptions.failed(error) }
        }

        private func follow(_ store: AlertStore, _ from: Date?) throws(HistoryError) {
            var known: [Int64: Alert] = [:]
            while true {
                let alerts = try store.read(since: from, onlyOpen: open) { _ in }
                if json {
                    for alert in alerts where known[alert.id] != alert { try AlertsCommand.json(alert, pretty: false) }
                    known = Dictionary(uniqueKeysWithValues: alerts.map { ($0.id, $0) })
                } else {
                    Output.clearScreen()
                    show(alerts)
                }
                // Whoever reads it may be gone.
                do { try Output.finish() } catch { return }
                sleep(2)
            }
        }

        private func show(_ alerts: [Alert]) {
            if alerts.isEmpty { return print(open ? "no open alerts" : "no alerts") }
            print(
                Output.table(
                    alerts.map { one in
                        [
                            String(one.id), one.severity.name, one.kind.rawValue, AlertsCommand.name(one.device) + (one.others.isEmpty ? "" : " and \(one.others.count) more"),
                            AlertsCommand.time(one.begin), one.end == nil ? "goes on" : AlertsCommand.time(one.last), Output.grouped(one.attempts), Output.grouped(one.frames),
                            one.acknowledged.map { "by \(Output.printable($0.who))" } ?? "",
                        ]
                    }, header: ["", "severity", "kind", "device", "begin", "until", "attempts", "frames", "acknowledged"], numbers: [0, 6, 7]))
            print("sekisho alerts show ID --state \(state) tells the story")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show all that is known of one alert.")
        @Argument(help: "Its number.") var id: Int64
        @Option(help: "State directory.") var state: String
        @Flag(help: "Print JSON.") var json = false

        func run() throws {
            do throws(HistoryError) {
                guard let alert = try AlertStore(directory: state, mayMake: false).read(id) else { throw AlertsCommand.missing(id, state) }
                if json { return try AlertsCommand.json(alert) }
                show(alert)
            } catch { throw HistoryOptions.failed(error) }
        }

        private func show(_ one: Alert) {
            print("alert \(one.id): \(one.kind.text), \(one.severity.name), confidence \(Int((one.confidence * 100).rounded())) %, \(one.end == nil ? "goes on" : "has ended")\n")
            print(Output.printable(one.story) + "\n")
            print(
                Output.table(
                    one.behaviours.map { [$0.kind.rawValue, AlertsCommand.time($0.first), AlertsCommand.time($0.last), Output.grouped($0.count), "\(Int(($0.confidence * 100).rounded())) %"] },
                    header: ["what", "first", "last", "times", "confidence"], numbers: [3, 4]))
            if !one.evidence.isEmpty {
                print(
                    "\n" + Output.table(
                        one.evidence.map {
                            [$0.client, $0.server, $0.service, Output.grouped($0.attempts), Output.grouped($0.frames), $0.isDenied ? "denied" : "", $0.isAnswered ? "answered" : ""]
                        }, header: ["client", "server", "service", "attempts", "frames", "", ""], numbers: [3, 4]))
            }
            if !one.others.isEmpty { print("\nalso: \(one.others.map(AlertsCommand.name).joined(separator: ", "))") }
            if !one.techniques.isEmpty {
                print(
                    "\n" + Output.table(
                        one.techniques.map { technique in
                            technique.ids.map { "\($0.id) \($0.name)" } + [technique.isFlowVisible ? "MITRE's detection looks at flows" : "own analysis only"]
                        }, header: ["consistent with ATT&CK for ICS 18.1", "19", ""]))
            }
            if let word = one.acknowledged { print("\nacknowledged by \(Output.printable(word.who)), \(AlertsCommand.time(word.at)): \(Output.printable(word.why))") }
        }
    }

    struct Acknowledge: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "ack", abstract: "Say that somebody has looked at an alert, and what it was.")
        @Argument(help: "Its number.") var id: Int64
        @Option(help: "State directory.") var state: String
        @OptionGroup var reason: ReasonOptions

        func run() throws {
            do throws(HistoryError) {
                let store = try AlertStore(directory: state, mayMake: false)
                guard try store.acknowledge(id, Acknowledgement(at: Date(), who: reason.person, why: reason.why)) else { throw AlertsCommand.missing(id, state) }
                print("alert \(id): acknowledged, by \(Output.printable(reason.person))")
            } catch { throw HistoryOptions.failed(error) }
        }
    }

    struct Capture: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the frames that an alert rests on as a capture (pcapng), for Wireshark.",
            discussion: "They are the first 192 bytes of up to 32 frames that did not pass, or would not under 'enforce', each with its cause as a comment.")
        @Argument(help: "Its number.") var id: Int64
        @Option(help: "State directory.") var state: String
        @Option(name: .shortAndLong, help: "File to write.") var output: String

        func run() throws {
            let frames = try read()
            var writer = CaptureWriter(program: "Sekisho \(Sekisho.configuration.version)", interfaces: ["inside", "outside"])
            for frame in frames {
                writer.add(frame.bytes, wireLength: frame.wireLength, interface: Int(frame.side.rawValue), at: frame.time, comment: frame.cause.name)
            }
            let file = try OutputFile(output, mode: 0o640)
            file.write(writer.bytes)
            try file.finish()
            print("\(frames.count) frame\(frames.count == 1 ? "" : "s") written to \(output)")
        }

        private func read() throws -> [AlertFrame] {
            do throws(HistoryError) {
                let store = try AlertStore(directory: state, mayMake: false)
                guard try store.read(id) != nil else { throw AlertsCommand.missing(id, state) }
                let frames = try store.frames(of: id)
                guard !frames.isEmpty else {
                    throw HistoryError(text: "alert \(id) has no frames\n  → they are kept only of what did not pass, or would not under 'enforce'")
                }
                return frames
            } catch { throw HistoryOptions.failed(error) }
        }
    }

    private static func missing(_ id: Int64, _ state: String) -> HistoryError {
        HistoryError(text: "there is no alert \(id)\n  → sekisho alerts --state \(state) lists them")
    }

    private static func json(_ value: some Encodable, pretty: Bool = true) throws(HistoryError) {
        do { print(String(decoding: try MachineFormat.encoder(pretty: pretty).encode(value), as: UTF8.self)) } catch { throw HistoryError(text: "\(error)") }
    }

    private static func time(_ date: Date) -> String { Output.time(UInt64(max(0, date.timeIntervalSince1970) * 1e9)) }

    private static func name(_ device: AlertDevice?) -> String {
        guard let device else { return "the bridge" }
        if device.isMany { return "many\(device.side.map { ", \($0)" } ?? "")" }
        return Output.printable([device.name, device.address ?? device.mac].compactMap { $0 }.joined(separator: " "))
    }
}
