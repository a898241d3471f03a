import ArgumentParser
import Glibc
import Policy

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the same policy for another forwarder, to compare or to cross-check.",
        discussion: "What the other one cannot express stands in comments at the head of the output.",
        subcommands: [ExportNftables.self, ExportOpenFlow.self])
}

struct ExportNftables: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nftables",
        abstract: "Write a policy as an nftables ruleset for a Linux bridge.",
        discussion: """
            Table "bridge sekisho", which the ruleset replaces as a whole when it is loaded: nft -f FILE. \
            Rules between hosts become keys of a hash set, networks and port ranges interval sets.
            """)

    @Argument(help: "Policy file.") var policy: String
    @Option(help: ArgumentHelp("Name of the port towards the protected tools.", valueName: "port")) var inside = "inside"
    @Option(help: ArgumentHelp("Name of the port towards the rest of the plant.", valueName: "port")) var outside = "outside"
    @Flag(help: "Judge ICMP errors by the packet in them; without it they are denied. Doubles the sets, and nft 1.0.6 cannot list them.")
    var icmpErrors = false
    @OptionGroup var target: OutputOption

    func validate() throws {
        for (option, name) in [("--inside", inside), ("--outside", outside)] where !NftablesOptions.isPortName(name) {
            throw ValidationError("\(option): \"\(name)\" is no name of a port")
        }
        if inside == outside { throw ValidationError("--inside and --outside name the same port") }
    }

    func run() throws {
        let document = try PolicyFile(policy).document()
        try target.write(
            PolicyExport(document, now: PolicyFile.now).nftables(
                NftablesOptions(inside: inside, outside: outside, judgesICMPErrors: icmpErrors)))
    }
}

struct ExportOpenFlow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "openflow",
        abstract: "Write a policy as OpenFlow flows for Open vSwitch.",
        discussion: "Port 1 of the bridge is inside, port 2 outside. Load it with: ovs-ofctl add-flows BRIDGE FILE")

    @Argument(help: "Policy file.") var policy: String
    @OptionGroup var target: OutputOption

    func run() throws {
        let document = try PolicyFile(policy).document()
        try target.write(PolicyExport(document, now: PolicyFile.now).openFlow())
    }
}

/// `--output`.
struct OutputOption: ParsableArguments {
    @Option(help: ArgumentHelp("File to write; it is there as a whole or not at all. Default: standard output.", valueName: "file"))
    var output: String?

    func write(_ text: String) throws {
        if let output { return try OutputFile.write(text.utf8, to: output) }
        let code = writeAll(Array(text.utf8), to: STDOUT_FILENO)
        guard code == 0 else { throw OutputFile.failed("standard output", code) }
    }
}
