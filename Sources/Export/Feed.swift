// The process that tells others: reads what the bridge has written down, and delivers it. It is never the bridge's own.

import Baseline
import Foundation
import Glibc
import Logging
import NIOPosix
import Synchronization

public final class Feed: Sendable {
    private let config: FeedConfig
    private let directory: String
    private let exporters: [Destination]
    private let metrics: MetricsService?
    /// Those that run: some begin when their stores can be opened.
    private let services = Mutex<[any FeedService]>([])
    private let askBridge: @Sendable () -> String?
    private let watch = StoreWatch()
    private let sawReplaced = Mutex(false)
    private let group: MultiThreadedEventLoopGroup
    private let log: Logger
    public let board: FeedBoard
    /// Held as long as the process lives: two would send everything twice.
    private let lock: Int32

    /// Makes ready; nothing is connected to, and no store is opened yet.
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
        (self.config, self.directory, self.log, self.askBridge) = (config, directory, log, askBridge)
        exporters = try Self.exporters(config, version: version, group: group)
        lock = try Self.lock(directory)
        if let options = config.metrics {
            metrics = try MetricsService(options, page: MetricsPage(bridge: askBridge, board: board), group: group, log: log)
        } else {
            metrics = nil
        }
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

    fileprivate typealias Destination = (options: DeliveryOptions, kind: String, exporter: any Exporter)

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

    /// Until its task is cancelled. What cannot begin, because its store cannot be opened, keeps nothing else from running.
    ///
    /// - Parameter onReplaced: there is another store in the place of one that is open; the process must end, to begin with that one.
    public func run(onReplaced: @escaping @Sendable () -> Void) async {
        await withTaskGroup(of: Void.self) { tasks in
            if let metrics { tasks.addTask { await metrics.run() } }
            if !config.collectors.isEmpty { tasks.addTask { await self.tellFlows() } }
            tasks.addTask { await self.tellMessages() }
            tasks.addTask { await self.watchStores(onReplaced) }
        }
        try? await group.shutdownGracefully()
    }

    /// What is written to by name is opened again.
    public func reopen() async { for service in services.withLock({ $0 }) { await service.reopen() } }

    /// Whether that is why it ended.
    public var isReplaced: Bool { sawReplaced.withLock { $0 } }

    // MARK: - What it does

    private func tellMessages() async {
        let bridge = config.bridge ?? Self.name(of: directory), host = config.hostname ?? ProcessInfo.processInfo.hostName
        let most = exporters.map(\.options.mostWaiting).max() ?? 0
        let statuses = exporters.map { DestinationStatus(name: $0.options.name, kind: $0.kind, destination: $0.exporter.destination) }
        // What is on its way is looked at once more: hence the 50,000.
        let spool = await opened(statuses) { () throws(StateError) in
            try Spool(directory: directory, bridge: bridge, host: host, keeping: most + 50_000, log: log, watch: watch)
        }
        guard let spool else { return }
        // What is there now is before whoever begins now. Alerts that cannot be read keep no events back.
        notice(spool)
        let deliveries = exporters.map { Delivery(options: $0.options, kind: $0.kind, exporter: $0.exporter, spool: spool, board: board, log: log) }
        services.withLock { $0 += deliveries }
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.noticeAlerts(spool) }
            for one in deliveries { tasks.addTask { await one.run() } }
        }
    }

    private func tellFlows() async {
        let statuses = config.collectors.map { DestinationStatus(name: $0.name, kind: "ipfix", destination: $0.to.written) }
        let ledger = await opened(statuses) { () throws(StateError) in
            try watch.opening(directory + "/feed-flows.sqlite") { () throws(StateError) in try FlowLedger(directory: directory) }
        }
        guard let ledger else { return }
        let exporters = config.collectors.map {
            FlowExporter($0, directory: directory, ledger: ledger, group: group, board: board, log: log, askBridge: askBridge, watch: watch)
        }
        services.withLock { $0 += exporters as [any FeedService] }
        await withTaskGroup(of: Void.self) { tasks in
            for one in exporters { tasks.addTask { await one.run() } }
        }
    }

    /// Tries until it can be opened.
    ///
    /// - Parameter statuses: of those who wait for it.
    /// - Returns: nil: the task is cancelled.
    private func opened<Store>(_ statuses: [DestinationStatus], _ open: () throws(StateError) -> Store) async -> Store? {
        var said: String?
        while !Task.isCancelled {
            do throws(StateError) {
                let store = try open()
                if said != nil { log.info("\(statuses.map(\.name).joined(separator: ", ")): the store can be opened now") }
                return store
            } catch {
                if said != error.description { log.error("\(error); tried again every second") }
                said = error.description
                for var one in statuses {
                    (one.isUp, one.problem) = (false, error.description)
                    board.set(one)
                }
            }
            try? await Task.sleep(for: .seconds(1))
        }
        return nil
    }

    private func watchStores(_ onReplaced: @Sendable () -> Void) async {
        while !Task.isCancelled {
            if let path = watch.replaced {
                log.error("\(path) is another file than the one that is open; the feed ends, and begins with this one when it is started again")
                sawReplaced.withLock { $0 = true }
                return onReplaced()
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    private func notice(_ spool: Spool) {
        do throws(StateError) {
            try spool.noticeAlerts()
            spool.report("alerts", nil)
        } catch { spool.report("alerts", error) }
    }

    private func noticeAlerts(_ spool: Spool) async {
        while !Task.isCancelled {
            let began = ContinuousClock.now
            notice(spool)
            // Of many alerts a look takes longer: no more than a twentieth of the time.
            try? await Task.sleep(for: max(.milliseconds(200), (ContinuousClock.now - began) * 20))
        }
    }

    private static func name(of directory: String) -> String {
        let last = URL(fileURLWithPath: directory).standardizedFileURL.lastPathComponent
        return last.isEmpty || last == "/" ? "bridge" : SyslogFormat.word(last, 48)
    }
}
