import ArgumentParser
import Control

struct Metrics: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what the bridge does for Prometheus.",
        discussion: """
            The text exposition format. The bridge itself listens on no network: let node_exporter's textfile collector, or whatever scrapes the \
            machine, have it: sekisho metrics -o /var/lib/prometheus/node-exporter/sekisho.prom every few seconds. The file is replaced in one piece. Or \
            let sekisho feed listen for Prometheus: [metrics] in its file.
            """)
    @Option(name: .shortAndLong, help: ArgumentHelp("File to write; else the standard output.", valueName: "file")) var output: String?
    @OptionGroup var socket: ControlOption

    func run() throws {
        guard let status = try ask(ControlRequest(command: .status), at: socket.path).status else { throw Exit.failed }
        let text = status.metrics(version: Sekisho.configuration.version)
        guard let output else { return print(text, terminator: "") }
        try OutputFile.write(text.utf8, to: output)
    }
}
