// Telling others: a process beside the bridge.

import ArgumentParser
import CLinux
import Control
import Export
import Foundation
import Glibc
import Logging
import Policy

struct FeedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "feed",
        abstract: "Send what the bridge writes down to other systems, SIEM, webhook, file, flow collector, Prometheus; until SIGINT or SIGTERM.",
        discussion: """
            A process of its own, beside the bridge, which itself speaks to no network. It reads the audit log and the alerts of the state directory and \
            sends what is new, over syslog (RFC 5424, CEF or JSON; UDP, TCP or TLS), as webhooks or to files; docs/feeds.md says what the file has. What \
            a destination does not take waits, over restarts too. It tells flow collectors what the history gained (IPFIX), and listens for Prometheus \
            where the file says so. SIGHUP opens files again.

            Ends with exit code 1 if the file or what it names has an error, and where another store is put in the place of one that is open: start it \
            again then, as its unit does.
            """)
    @Option(help: "State directory of the bridge.") var state: String?
    @Option(help: ArgumentHelp("Whom to tell (TOML).", valueName: "file")) var config: String
    @Flag(help: "Only check the file, and the certificates and secrets it names.") var check = false
    @OptionGroup var socket: ControlOption

    func validate() throws {
        if !check, state == nil { throw ValidationError("name the bridge's --state directory") }
    }

    func run() throws {
        let config = try read()
        if check {
            do throws(FeedError) { try Feed.check(config, version: Sekisho.configuration.version) } catch { throw failed(error) }
            let rows = Feed.destinations(of: config).map { [$0.name, $0.kind, $0.destination, $0.detail] }
            return print(Output.table(rows, header: ["name", "kind", "to", ""]))
        }
        let errors = LogWriter()
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, writer: errors) }
        defer { errors.finish() }
        // Before there is any other thread: they inherit it.
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        Glibc.signal(SIGPIPE, SIG_IGN)
        let log = Logger(label: "sekisho"), socket = socket.path
        let feed: Feed
        do throws(FeedError) {
            feed = try Feed(config, directory: state ?? "", version: Sekisho.configuration.version, log: log) {
                try? ControlClient.ask(ControlRequest(command: .status), at: socket).status?.metrics(version: Sekisho.configuration.version)
            }
        } catch {
            errors.write("error: \(error)", isLast: true)
            throw Exit.failed
        }
        log.info("telling \(Feed.destinations(of: config).map(\.name).joined(separator: ", "))")
        let ended = DispatchSemaphore(value: 0)
        let task = Task.detached {
            // Wakes who waits for signals below.
            await feed.run { _ = kill(getpid(), SIGTERM) }
            ended.signal()
        }
        while true {
            var which: Int32 = 0
            guard sigwait(&signals, &which) == 0 else { continue }
            guard which == SIGHUP else { break }
            log.info("opening files again")
            Task.detached { await feed.reopen() }
        }
        log.info("ending")
        task.cancel()
        // What is on its way has a moment; nobody waits for a destination that is stuck.
        _ = ended.wait(timeout: .now() + 10)
        if feed.isReplaced { throw Exit.failed }
    }

    private func read() throws -> FeedConfig {
        let text: [UInt8]
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: config), options: .mappedIfSafe)
            guard data.count <= largestFeedFile else {
                throw failed("reading \(config): it has \(Output.bytes(UInt64(data.count))); the most is \(Output.bytes(UInt64(largestFeedFile)))")
            }
            text = [UInt8](data)
        } catch let code as ExitCode { throw code } catch { throw failed("reading \(config): \(error.localizedDescription)") }
        let reading = FeedConfigReader.read(text)
        for finding in reading.diagnostics { Output.error(finding.rendered(file: config)) }
        guard let config = reading.config else { throw Exit.failed }
        return config
    }

    private func failed(_ problem: some CustomStringConvertible) -> ExitCode {
        Output.error("error: \(problem)")
        return Exit.failed
    }
}
