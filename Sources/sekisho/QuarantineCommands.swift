import ArgumentParser
import Control
import Foundation

/// "90s", "15m", "8h", "3d".
struct Span: ExpressibleByArgument {
    let seconds: Int64

    init?(argument: String) {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        guard let last = argument.last, let unit = units[last], let count = Int64(argument.dropLast()), count > 0, count <= 2_592_000 / unit else { return nil }
        seconds = count * unit
    }

    static let help = "so many s, m, h or d, 30d at the most"
}

/// Asks for it, and says what came of it.
private func change(_ request: ControlRequest, _ socket: ControlOption, json: Bool) throws -> QuarantineReport {
    guard let report = try ask(request, at: socket.path).quarantine else { throw Exit.failed }
    if json {
        try Output.json(report)
    } else {
        for id in report.unknownExceptions { Output.error("warning: the running policy has no rule \"\(Output.printable(id))\"") }
        if let warning = report.warning { Output.error("warning: \(warning)") }
        if report.inForceUs == nil { Output.error("warning: a worker has not taken it yet; see sekisho status") }
    }
    return report
}

struct QuarantineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine",
        abstract: "Cut a device off at once, for a time, in every mode.",
        discussion: """
            Nothing to or from it passes: none of its addresses, and none of the MAC addresses that use them. It ends by itself, or by 'sekisho release'; \
            a restart does not end it, if the bridge has a state directory. Without a device, lists who is cut off.
            """)
    @Argument(help: "A device's name in the policy, an address, or a MAC address.") var device: String?
    @Option(name: .customLong("for"), help: ArgumentHelp("For how long: \(Span.help).", valueName: "time")) var time = Span(argument: "8h")!
    @Option(help: ArgumentHelp("Rule that still holds for it; may be repeated. Not while the kernel judges.", valueName: "id")) var except: [String] = []
    @Option(help: "Why; kept for the auditor.") var why: String?
    @Option(help: "Who decides; else the user who calls.") var who: String?
    @Flag(help: "Also a device that the policy protects.") var force = false
    @OptionGroup var socket: ControlOption
    @Flag(help: "Print JSON.") var json = false

    func validate() throws {
        if device != nil, (why ?? "").trimmingCharacters(in: .whitespaces).isEmpty { throw ValidationError("--why: give a reason that an auditor will understand") }
    }

    func run() throws {
        guard let device else {
            guard let status = try ask(ControlRequest(command: .status), at: socket.path).status else { throw Exit.failed }
            if json { return try Output.json(status.quarantine) }
            return Self.show(status.quarantine)
        }
        var request = ControlRequest(command: .quarantine)
        (request.device, request.seconds, request.exceptions, request.who, request.why, request.force) = (device, time.seconds, except, who ?? Caller.name, why, force)
        let report = try change(request, socket, json: json)
        if !json {
            print("\(Output.printable(device)) is cut off\(report.inForceUs.map { ", by every worker after \(Output.grouped(UInt64($0))) µs" } ?? "")")
            Self.show(report.orders)
        }
    }

    static func show(_ orders: [QuarantineOrder]) {
        if orders.isEmpty { return print("nobody is in quarantine") }
        print(
            Output.table(
                orders.map { one in
                    [
                        Output.printable(one.device), (one.addresses + one.macs).joined(separator: " "), Output.time(UInt64(max(0, one.until)) * 1_000_000_000),
                        one.exceptions.map(Output.printable).joined(separator: ", "), Output.printable(one.who), Output.printable(one.why),
                    ]
                }, header: ["device", "addresses", "until", "except", "who", "why"], numbers: []))
    }
}

struct Isolate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let nothing cross, for a time: the inside becomes an island.",
        discussion: "Not even ARP. It ends by itself, or by 'sekisho release everything'. A tool loses its host: its HSMS session ends after its timeout.")
    @Option(name: .customLong("for"), help: ArgumentHelp("For how long: \(Span.help).", valueName: "time")) var time = Span(argument: "1h")!
    @OptionGroup var reason: ReasonOptions
    @OptionGroup var socket: ControlOption
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        var request = ControlRequest(command: .isolate)
        (request.seconds, request.who, request.why) = (time.seconds, reason.person, reason.why)
        let report = try change(request, socket, json: json)
        if !json { print("nothing crosses\(report.inForceUs.map { ", after \(Output.grouped(UInt64($0))) µs" } ?? "")") }
    }
}

struct Release: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let a device out of quarantine, or end the isolation ('everything').",
        discussion: "Exit code 1 if nobody was meant.")
    @Argument(help: "Its name, address or MAC address, 'everything', or 'all' for all of them.") var device: String
    @Option(help: "Who decides; else the user who calls.") var who: String?
    @OptionGroup var socket: ControlOption
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        var request = ControlRequest(command: .release)
        (request.device, request.who) = (device == "all" ? nil : device, who ?? Caller.name)
        let report = try change(request, socket, json: json)
        if !json {
            for one in report.released { print("\(Output.printable(one.device)) is released") }
            if report.released.isEmpty { Output.error("\(Output.printable(device)) is not in quarantine") }
        }
        if report.released.isEmpty { throw Exit.negative }
    }
}
