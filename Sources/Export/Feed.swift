// The process that tells others: reads what the bridge has written down, and delivers it. It is never the bridge's own.

import Baseline
import Foundation
import Glibc
import Logging
import NIOPosix

public final class Feed: Sendable {
    private let spool: Spool
    private let services: [any FeedService]
    private let group: MultiThreadedEventLoopGroup
    private let log: Logger
    public let board: FeedBoard
    /// Held as long as the process lives: two would send everything twice.
    private let lock: Int32

    /// Makes ready; nothing is connected to yet.
    ///
    /// - Parameters:
    ///   - directory: the bridge's state directory.
    ///   - version: of the program.
    ///   - askBridge: what `sekisho metrics` prints, from the bridge's control socket; nil: it does not answer. It may take a while.
    public init(
        _ config: FeedConfig, directory: String, version: String, log: Logger, askBridge: @escaping @Sendable () -> String?
    ) throws(FeedError) {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        board = FeedBoard()
        self.log = log
        let exporters = try Self.exporters(config, version: version, group: group)
        lock = try Self.lock(directory)
        let bridge = config.bridge ?? Self.name(of: directory), host = config.hostname ?? ProcessInfo.processInfo.hostName
        let most = exporters.map(\.options.mostWaiting).max() ?? 0
        // What is on its way is looked at once more.
        do throws(StateError) {
            spool = try Spool(directory: directory, bridge: bridge, host: host, keeping: most + 50_000, log: log)
            // What is there now is before whoever begins now.
            try spool.noticeAlerts()
        } catch { throw FeedError(error.description) }
        var services: [any FeedService] = []
        for one in exporters {
            services.append(Delivery(options: one.options, kind: one.kind, exporter: one.exporter, spool: spool, board: board, log: log))
        }
        if !config.collectors.isEmpty {
            let ledger: FlowLedger
            do throws(StateError) { ledger = try FlowLedger(directory: directory) } catch { throw FeedError(error.description) }
            for one in config.collectors {
                services.append(FlowExporter(one, directory: directory, ledger: ledger, group: group, board: board, log: log, askBridge: askBridge))
            }
        }
        if let metrics = config.metrics {
            services.append(try MetricsService(metrics, page: MetricsPage(bridge: askBridge, board: board), group: group, log: log))
        }
        self.services = services
    }

    private static func lock(_ directory: String) throws(FeedError) -> Int32 {
        try? FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
        let path = directory + "/feed.lock"
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard file >= 0 else {
            let code = errno
            throw FeedError("opening \(path): \(String(cString: strerror(code)))\n  → it must be in a directory that you may write to")
        }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            close(file)
            throw FeedError("another feed runs on the state directory \(directory)\n  → one file may name any number of destinations: stop the other")
        }
        return file
    }

    private typealias Destination = (options: DeliveryOptions, kind: String, exporter: any Exporter)

    private static func exporters(_ config: FeedConfig, version: String, group: MultiThreadedEventLoopGroup) throws(FeedError) -> [Destination] {
        var all: [Destination] = []
        for one in config.syslog { all.append((one.delivery, "syslog", try SyslogExporter(one, version: version, group: group))) }
        for one in config.webhooks { all.append((one.delivery, "webhook", try WebhookExporter(one, version: version, group: group))) }
        for one in config.files { all.append((one.delivery, "file", FileExporter(one, version: version))) }
        return all
    }

    /// Whether all that the configuration names can be used; nothing is connected to.
    public static func check(_ config: FeedConfig, version: String) throws(FeedError) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        _ = try exporters(config, version: version, group: group)
        try config.metrics?.check()
    }

    /// For people.
    public static func destinations(of config: FeedConfig) -> [(name: String, kind: String, destination: String, detail: String)] {
        func events(_ options: DeliveryOptions) -> String {
            options.events == Set(FeedCategory.choices) ? "all events" : options.events.map(\.rawValue).sorted().joined(separator: ", ")
        }
        return config.syslog.map { ($0.delivery.name, "syslog", $0.to.written, "\($0.format.rawValue), \(events($0.delivery))") }
            + config.webhooks.map { ($0.delivery.name, "webhook", $0.url, "\($0.secretFile == nil ? "not signed" : "signed"), \(events($0.delivery))") }
            + config.files.map { ($0.delivery.name, "file", $0.path, "\($0.format.rawValue), \(events($0.delivery))") }
            + config.collectors.map { ($0.name, "ipfix", $0.to.written, "flows every \($0.interval) s, observation domain \($0.observationDomain)") }
            + (config.metrics.map { [("metrics", "metrics", $0.address, $0.tokenFile == nil ? "whoever reaches the port" : "whoever has the token")] } ?? [])
    }

    /// Until its task is cancelled.
    public func run() async {
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.noticeAlerts() }
            for service in services { tasks.addTask { await service.run() } }
        }
        try? await group.shutdownGracefully()
    }

    /// What is written to by name is opened again.
    public func reopen() async { for service in services { await service.reopen() } }

    private func noticeAlerts() async {
        while !Task.isCancelled {
            let began = ContinuousClock.now
            do throws(StateError) {
                try spool.noticeAlerts()
                spool.report("alerts", nil)
            } catch { spool.report("alerts", error) }
            // Of many alerts a look takes longer: no more than a twentieth of the time.
            try? await Task.sleep(for: max(.milliseconds(200), (ContinuousClock.now - began) * 20))
        }
    }

    private static func name(of directory: String) -> String {
        let last = URL(fileURLWithPath: directory).standardizedFileURL.lastPathComponent
        return last.isEmpty || last == "/" ? "bridge" : SyslogFormat.word(last, 48)
    }
}
