// The running bridge's control side: policy, signals, the control socket. It never touches a ring.

import Allowlist
import CLinux
import Datapath
import Detection
import Foundation
import Frames
import Glibc
import Logging
import Policy

/// What `sekisho run` was told.
public struct DaemonConfiguration: Sendable {
    public var bridge: BridgeConfiguration
    public var policyFile: String
    /// Stands above the file's mode, also after `apply`.
    public var mode: Mode?
    public var controlSocket: String
    /// Members of this group may ask, and apply, besides root; nil: nobody.
    public var controlGroup: String?
    /// Takes the place of the bridge that answers on `controlSocket`.
    public var replaces: Bool
    /// Directory of the history that traffic is recorded in; nil: nothing is.
    public var state: String?
    /// Called for every change of an alert; it must not wait. Only with `state`.
    public var onAlert: (@Sendable (AlertChange) -> Void)?
    /// Of the program, for reports.
    public var version: String

    public init(
        bridge: BridgeConfiguration, policyFile: String, mode: Mode?, controlSocket: String, controlGroup: String? = nil, replaces: Bool = false,
        state: String? = nil, onAlert: (@Sendable (AlertChange) -> Void)? = nil, version: String
    ) {
        self.bridge = bridge
        self.bridge.records = state != nil
        self.policyFile = policyFile
        self.mode = mode
        self.controlSocket = controlSocket
        self.controlGroup = controlGroup
        self.replaces = replaces
        self.state = state
        self.onAlert = onAlert
        self.version = version
    }
}

/// A policy file that was read, in order to be applied.
private struct LoadedPolicy {
    var file: String
    var document: PolicyDocument
    var warnings: [String]
}

/// A flood of forged addresses must not flood the log.
private let logsPerMinute = 30

/// Runs a bridge until it is told to stop.
public final class Daemon: @unchecked Sendable {
    // Unchecked: `state` guards all that changes; `applying` lets one policy change at a time be prepared.
    private let configuration: DaemonConfiguration
    private let log: Logger
    private let state = NSLock()
    private let applying = NSLock()
    private let started = ContinuousClock().now
    private var bridge: Bridge?
    private var live: LoadedPolicy?
    private var version: UInt64 = 0
    private var appliedAt = ContinuousClock().now
    /// When the running policy must be compiled anew because a rule's time is over; seconds since 1970.
    private var nextExpiry: Int64?
    /// The latest end of a rule that was left out of it; should the clock go back behind that, it is compiled anew as well.
    private var lastExpiry: Int64?
    /// Not before then.
    private var expiryIsDue = ContinuousClock().now
    private var links: [String: LinkState] = [:]
    /// What was said of ports that somebody has changed.
    private var changes: Set<String> = []
    private var failures: [FailureState: (count: UInt64, isActive: Bool)] = [:]
    /// Since when each rule has been there; changes with `live`.
    private var history = RuleHistory()
    /// As the flow table was made at the start.
    private var flowPlan = FlowPlan()
    private var latencies = LatencyHistory()
    private var identities = Identities()
    private var sightingsLost: UInt64 = 0
    private var recording: Recording?
    private var watch: Watch?
    /// What was said of records that were lost, and when something may be said again, in seconds since the start.
    private var recordsLost = (frames: UInt64(0), until: 0.0)
    /// Changes that may still be said in this minute, and when it ends; what comes besides stands in `status`.
    private var logAllowance = (left: logsPerMinute, until: 0.0)
    /// Seconds since the start.
    private var latencySampledAt = 0.0
    private var processorTimes: [Int: (ticks: UInt64, at: ContinuousClock.Instant, percent: Double)] = [:]

    public init(_ configuration: DaemonConfiguration, log: Logger) {
        self.configuration = configuration
        self.log = log
    }

    /// Attaches, forwards, and returns after SIGINT or SIGTERM with everything taken off again.
    public func run() throws {
        // Before any thread begins, so that all inherit it: signals come through `signals` only.
        let signals = try blockSignals()
        defer { close(signals) }
        let policy = try load(configuration.policyFile, PolicyText.read(configuration.policyFile))
        let first = try build(policy, version: 1)
        // Before anything is attached: a history that cannot be written must not be found out later.
        let recording = try configuration.state.map {
            try Recording(directory: $0, source: "inside \(configuration.bridge.inside), outside \(configuration.bridge.outside)", log: log)
        }
        // Behind the history: whoever cannot have that needs no other file.
        let watch = try configuration.state.map {
            try Watch(directory: $0, policy: PolicyView(policy.document, mode: mode(of: policy.document)), log: log, hook: configuration.onAlert)
        }
        // When the workers have ended: the records first.
        defer {
            recording?.finish()
            watch?.finish()
        }
        // Before anything is attached: a bridge that runs here must not be disturbed, unless it is to be replaced.
        var listener = configuration.replaces && ControlClient.isAnswering(configuration.controlSocket)
            ? nil : try ControlListener(configuration.controlSocket, group: configuration.controlGroup)
        defer { listener?.remove() }

        let isReplacing = listener == nil
        let bridge = try Bridge(
            configuration.bridge, table: first.table, ruleNames: first.ruleNames, failing: policy.document.failing,
            flows: policy.document.flows, makeWay: isReplacing ? { [self] in try haveOtherMakeWay() } : nil)
        defer { bridge.stop() }
        if listener == nil { listener = try ControlListener(configuration.controlSocket, group: configuration.controlGroup) }
        if bridge.hasTakenOver { log.info("took over the wire from the bridge before") }
        for note in bridge.preparationNotes { log.info("port prepared: \(note)") }
        try bridge.start()
        state.withLock { self.watch = watch }
        reportFailures(of: bridge, since: "before this start")
        bridge.leaveProcessorsToWorkers()
        state.withLock {
            self.bridge = bridge
            self.recording = recording
            live = policy
            flowPlan = policy.document.flows
            history.note(first.table.source.rules, names: first.ruleNames, first.marks)
            nextExpiry = first.nextExpiry
            lastExpiry = first.lastExpiry
            version = 1
            appliedAt = ContinuousClock().now
        }
        for (side, port) in bridge.snapshot().ports.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            log.info(
                "\(side): \(port.name), driver \(port.driver), XDP \(port.xdpMode), AF_XDP \(port.socketMode.rawValue), \(port.queues) queue(s), MTU \(port.mtu)")
        }
        if let warning = bridge.recordWarning { log.warning("\(warning)") }
        for warning in bridge.transmitWarnings { log.warning("\(warning)") }
        if bridge.hasCrowdedProcessors { log.warning("workers share a processor: use fewer --queues or more --cpus") }
        for warning in policy.warnings { log.warning("\(warning)") }
        log.info("forwarding: policy \"\(policy.document.name)\" version 1, mode \(mode(of: policy.document).name), \(first.ruleNames.count) rules")
        if let recording {
            recording.begin(bridge.trafficRings, watch: watch)
            watch?.begin()
            log.info("recording to \(recording.now.file)")
        } else {
            log.info("nothing is recorded, and nothing raises an alert: that needs --state DIR")
        }
        for warning in recordingWarnings(policy.document) { log.warning("\(warning)") }
        try Privileges.drop()
        ServiceManager.say("READY=1")
        loop(signals, listener!)
        ServiceManager.say("STOPPING=1")
        let lost = state.withLock { gonePorts }
        log.info("stopping")
        // No new reports from here on; one that has begun ends first.
        applying.lock()
        state.withLock {
            if let bridge = self.bridge { reportFailures(of: bridge, since: nil) }
            self.bridge = nil
        }
        applying.unlock()
        guard lost.isEmpty else {
            bridge.stop()
            throw ControlFailure("\(lost.joined(separator: " and ")) is gone; start the bridge again when it is back (under systemd: Restart=always)")
        }
    }

    private func mode(of document: PolicyDocument) -> Mode { configuration.mode ?? document.mode }

    /// What a policy and what is recorded have to do with each other.
    private func recordingWarnings(_ document: PolicyDocument) -> [String] {
        if configuration.state == nil {
            return mode(of: document) == .learn ? ["mode learn, but nothing is recorded: start the bridge with --state DIR"] : []
        }
        return document.failing.onlyKernel ? ["datapath = \"kernel\": what the kernel judges is not recorded, and raises no alert"] : []
    }

    // MARK: - Waiting

    private func blockSignals() throws -> Int32 {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        let descriptor = clinux_signals(&set)
        guard descriptor >= 0 else { throw DatapathError("waiting for signals", code: errno) }
        return descriptor
    }

    private func loop(_ signals: Int32, _ listener: ControlListener) {
        while true {
            var waiting = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            // Once a second: processor times, and rules that expire.
            _ = poll(&waiting, 2, 1000)
            if waiting[0].revents != 0 {
                switch clinux_next_signal(signals) {
                case SIGHUP: reload()
                case SIGINT, SIGTERM: return
                default: break
                }
            }
            if waiting[1].revents != 0 {
                if let connection = listener.accept() {
                    // A slow client must not hold up signals or other clients.
                    Thread.detachNewThread { [self] in answer(connection, listener) }
                } else {
                    // Out of descriptors, most likely: they come back as slow clients are hung up on.
                    usleep(20_000)
                }
            }
            state.withLock {
                sampleProcessors()
                sampleLatencies()
                noteLinks()
                noteIdentities()
                noteLostRecords()
                if let bridge { reportFailures(of: bridge, since: nil) }
            }
            // While this loop turns, and no worker is dead: what else there is to see stands in `status`.
            ServiceManager.say("WATCHDOG=1")
            expireRules()
            if !state.withLock({ gonePorts }).isEmpty { return }
        }
    }

    /// Takes in who was seen, and says who has changed hands.
    private func noteIdentities() {
        guard let bridge else { return }
        let (new, lost) = bridge.takeSightings()
        if uptime >= logAllowance.until { logAllowance = (logsPerMinute, uptime + 60) }
        for sighting in new {
            guard let change = identities.note(sighting) else { continue }
            guard logAllowance.left > 0 else { continue }
            logAllowance.left -= 1
            log.warning("\(change.text)")
            if logAllowance.left == 0 { log.warning("more such changes in this minute are not logged; see sekisho status --json") }
        }
        if lost > sightingsLost { log.warning("\(lost - sightingsLost) sightings of addresses were too many at once") }
        sightingsLost = lost
    }

    /// Says that the history has a gap, at most once a minute.
    private func noteLostRecords() {
        guard let now = recording?.now, now.lostFrames > recordsLost.frames, uptime >= recordsLost.until else { return }
        log.warning("\(now.lostFrames - recordsLost.frames) frames are not recorded: too many flows at once")
        recordsLost = (now.lostFrames, uptime + 60)
    }

    /// Says when a cable or a port comes or goes.
    private func noteLinks() {
        for (port, now) in bridge?.links ?? [] {
            defer { links[port] = now }
            guard let before = links[port], before != now else { continue }
            switch now {
            case .up: log.info("\(port): link up")
            case .down: log.warning("\(port): link down; nothing passes")
            case .gone: log.error("\(port): the port is gone; the bridge ends, to be started again when it is back")
            }
        }
        for (port, change) in bridge?.changes ?? [] where changes.insert("\(port) \(change)").inserted {
            log.warning("\(port): \(change)")
        }
    }

    /// A port that is no more cannot be taken up again by this process, which has no right to any more: the service manager starts another.
    private var gonePorts: [String] { links.filter { $0.value == .gone }.map(\.key).sorted() }

    /// Says when frames came and no worker judged them. The counts are the kernel's, so that none is missed, not even one
    /// that came while no process was there to see it.
    private func reportFailures(of bridge: Bridge, since when: String?) {
        for episode in bridge.failures {
            let known = failures[episode.state] ?? (count: 0, isActive: false)
            failures[episode.state] = (episode.count, episode.isActive)
            let action = (state: episode.state.name, does: live?.document.failing.actions[episode.state].name ?? "")
            let lasted = String(format: "%.1f ms", Double(episode.end &- episode.since) / 1e6)
            if episode.count > known.count {
                let times = episode.count - known.count
                // To start and to stop is no failure.
                if episode.state == .workerDead { watch?.observe(.failureEntered(cause: action.state, frames: fate(action.does), times: times)) }
                if let when {
                    log.warning("no worker judged (\(action.state)) \(times) time\(times == 1 ? "" : "s") \(when), the last time for \(lasted)")
                } else {
                    log.error(
                        "no worker judges (\(action.state)): frames are \(fate(action.does))")
                }
            }
            if when == nil, !episode.isActive, known.isActive || episode.count > known.count {
                log.warning("the workers judge again (\(action.state)), after \(lasted)")
            }
            if episode.state == .workerDead, !episode.isActive, known.isActive || episode.count > known.count { watch?.observe(.failureLeft(cause: action.state, lasted: lasted)) }
        }
    }

    /// What becomes of frames that no worker judges, in words.
    private func fate(_ action: String) -> String { action == "kernel" ? "judged in the kernel" : action == "open" ? "passed" : "dropped" }

    private func haveOtherMakeWay() throws {
        log.info("asking the running bridge to make way")
        let response = try ControlClient.ask(
            ControlRequest(command: .makeWay, ports: try portIndexes()), at: configuration.controlSocket)
        if let failure = response.failure { throw failure }
    }

    private func portIndexes() throws -> [Int32] {
        try [configuration.bridge.inside, configuration.bridge.outside].map { try NetworkPort($0).index }
    }

    /// Ends for another bridge: the ports are free when this returns.
    private func makeWay(for ports: [Int32]?, _ listener: ControlListener) throws {
        guard try ports == portIndexes() else {
            throw ControlFailure(
                "the bridge that answers there has other ports (inside \(configuration.bridge.inside), outside \(configuration.bridge.outside))")
        }
        applying.lock()
        defer { applying.unlock() }
        try state.withLock {
            guard let bridge else { throw ControlFailure("the bridge is stopping") }
            log.info("making way for another bridge")
            reportFailures(of: bridge, since: nil)
            listener.remove()
            self.bridge = nil
            bridge.makeWay()
        }
    }

    private func reload() {
        do {
            let policy = try load(configuration.policyFile, PolicyText.read(configuration.policyFile))
            let report = try apply(policy)
            log.info(
                "reloaded \(configuration.policyFile): version \(report.version), \(report.rules) rules, built in \(report.buildMs) ms, swapped in \(report.swapUs) µs")
        } catch {
            log.error("the running policy stays: \(error)")
        }
    }

    /// A rule whose time is over leaves the table; one that left it too early, because the clock was wrong, comes back.
    private func expireRules() {
        let now = Int64(Date().timeIntervalSince1970)
        let (isDue, wasEarly) = state.withLock {
            let wasEarly = lastExpiry.map { $0 > now } ?? false
            guard wasEarly || nextExpiry.map({ $0 <= now }) ?? false, expiryIsDue <= .now else { return (false, false) }
            // Tried again in a minute should it fail; by a clock that nobody sets.
            expiryIsDue = .now + .seconds(60)
            return (true, wasEarly)
        }
        guard isDue else { return }
        do {
            let report = try apply(nil)
            state.withLock { expiryIsDue = .now }
            log.info("rules \(wasEarly ? "are back, the clock was set back" : "have expired"): version \(report.version), \(report.rules) rules")
        } catch {
            log.error("\(wasEarly ? "taking rules back that had expired" : "leaving expired rules out"): \(error)")
        }
    }

    // MARK: - Policies

    private func load(_ file: String, _ text: [UInt8]) throws -> LoadedPolicy {
        let reading = PolicyReader.read(text, now: Int64(Date().timeIntervalSince1970))
        guard let document = reading.document else {
            throw ControlFailure(
                "\(file) has \(reading.errors.count) error(s)", diagnostics: reading.diagnostics.map { $0.rendered(file: file) })
        }
        return LoadedPolicy(file: file, document: document, warnings: reading.warnings.map { $0.rendered(file: file) })
    }

    /// A policy compiled for a point in time.
    private struct Build {
        var table: CompiledTable
        var ruleNames: [String]
        var marks: [RuleMark]
        var milliseconds: Double
        /// When a rule in the table expires next, and when one that was left out did last; seconds since 1970.
        var nextExpiry: Int64?
        var lastExpiry: Int64?
    }

    private func build(_ policy: LoadedPolicy, version: UInt64) throws -> Build {
        let now = Int64(Date().timeIntervalSince1970)
        let begin = ContinuousClock().now
        let compiled = policy.document.compiled(now: now, mode: mode(of: policy.document))
        do throws(TableError) {
            let marks = state.withLock { history }.marks(of: compiled.source.rules, names: compiled.ruleNames, version: version)
            let table = try CompiledTable.build(compiled.source, version: version, marks: marks)
            return Build(
                table: table, ruleNames: compiled.ruleNames, marks: marks,
                milliseconds: begin.duration(to: ContinuousClock().now).milliseconds,
                nextExpiry: policy.document.nextExpiry(after: now), lastExpiry: policy.document.lastExpiry(until: now))
        } catch {
            throw ControlFailure("compiling \(policy.file): \(error.text)")
        }
    }

    /// Compiles, checks, swaps, and returns when no worker uses the old table.
    ///
    /// - Parameter newPolicy: nil: the running one again, without what has expired.
    private func apply(_ newPolicy: LoadedPolicy?) throws -> ApplyReport {
        applying.lock()
        defer { applying.unlock() }
        // Chosen only now: while this waited, another policy may have come into use.
        let (next, current) = state.withLock { (version + 1, live) }
        guard let policy = newPolicy ?? current else { throw ControlFailure("the bridge is stopping") }
        let built = try build(policy, version: next)
        let table = built.table
        var warnings = policy.warnings
        if newPolicy != nil, policy.document.flows != flowPlan {
            warnings.append("state.flows and state.reply_s (for the time after a start) hold from the next start on: the flow table is made then")
        }
        let swapUs: Double? = try state.withLock {
            guard let bridge else { throw ControlFailure("the bridge is stopping") }
            let swap = try bridge.publish(table, ruleNames: built.ruleNames, failing: policy.document.failing)
            version = next
            live = policy
            history.note(table.source.rules, names: built.ruleNames, built.marks)
            nextExpiry = built.nextExpiry
            appliedAt = ContinuousClock().now
            lastExpiry = built.lastExpiry
            watch?.use(PolicyView(policy.document, mode: mode(of: policy.document)))
            watch?.observe(
                .policyChanged(name: policy.document.name, version: next, mode: mode(of: policy.document).name, rules: built.ruleNames.count))
            if newPolicy != nil { warnings += recordingWarnings(policy.document) + bridge.transmitWarnings + [bridge.recordWarning].compactMap(\.self) }
            return swap
        }
        // What reading and compiling needed goes back to the system: this process runs for months.
        clinux_release_memory()
        guard let swapUs else {
            throw ControlFailure(
                "version \(next) is published, but a worker has not taken it within five seconds: is its processor starved? See sekisho status")
        }
        return ApplyReport(
            name: policy.document.name, version: next, mode: mode(of: policy.document).name, rules: built.ruleNames.count,
            exactConversations: table.statistics.exactIPv4 + table.statistics.exactIPv6,
            networkPairs: table.statistics.networkPairs, tableBytes: table.bytes,
            buildMs: (built.milliseconds * 1000).rounded() / 1000, swapUs: (swapUs * 10).rounded() / 10, warnings: warnings)
    }

    // MARK: - The control socket

    private func answer(_ connection: Connection, _ listener: ControlListener) {
        guard let data = connection.readAll() else { return }
        let response: ControlResponse
        do {
            let request = try MachineFormat.decoder().decode(ControlRequest.self, from: data)
            if request.command == .makeWay {
                guard connection.isOwners else { throw ControlFailure("only root may have the bridge make way") }
                try makeWay(for: request.ports, listener)
                // The loop ends by itself only by a signal.
                defer { kill(getpid(), SIGTERM) }
                response = ControlResponse()
                if let encoded = try? MachineFormat.encoder(pretty: false).encode(response) { _ = connection.writeAll(encoded) }
                return
            }
            response = try respond(request)
        } catch let failure as ControlFailure {
            response = ControlResponse(failure: failure)
        } catch is DecodingError {
            response = ControlResponse(failure: ControlFailure("the request is not understood"))
        } catch {
            response = ControlResponse(failure: ControlFailure("\(error)"))
        }
        guard let encoded = try? MachineFormat.encoder(pretty: false).encode(response) else { return }
        _ = connection.writeAll(encoded)
    }

    private func respond(_ request: ControlRequest) throws -> ControlResponse {
        switch request.command {
        case .status:
            return ControlResponse(status: try status())
        case .latency:
            return ControlResponse(latency: try latency(window: request.window))
        case .makeWay: throw ControlFailure("not a question")
        case .apply:
            guard let file = request.file, let text = request.text else { throw ControlFailure("apply needs a file and its text") }
            do {
                let report = try apply(try load(file, [UInt8](text)))
                log.info("applied \(file): version \(report.version), \(report.rules) rules, swapped in \(report.swapUs) µs")
                return ControlResponse(applied: report)
            } catch {
                log.warning("\(file) was not applied, the running policy stays: \(error)")
                throw error
            }
        }
    }

    // MARK: - Latency

    private var uptime: Double { started.duration(to: ContinuousClock().now).milliseconds / 1000 }

    /// Once a second; the loop may be woken more often.
    private func sampleLatencies() {
        guard let bridge, uptime - latencySampledAt >= 0.9 else { return }
        latencySampledAt = uptime
        latencies.add(LatencyHistory.reading(bridge.latencies()), at: uptime)
    }

    private func latency(window: Double?) throws -> LatencyReport {
        try state.withLock {
            guard let bridge, let live else { throw ControlFailure("the bridge is stopping") }
            let now = LatencyHistory.reading(bridge.latencies())
            let (reading, covered) =
                window.map { latencies.since($0, now: now, at: uptime) } ?? (now, covered: uptime)
            return LatencyReport(
                created: Date(), sekishoVersion: configuration.version,
                bridge: LatencyReport.BridgeFacts(
                    inside: configuration.bridge.inside, outside: configuration.bridge.outside, policy: live.document.name,
                    policyVersion: version, mode: mode(of: live.document).name, idle: configuration.bridge.idle.rawValue),
                windowS: (covered * 10).rounded() / 10, sampleOneIn: configuration.bridge.latencySample,
                series: reading.sorted { $0.key < $1.key }.map { LatencyReport.Series($0.key, $0.value) })
        }
    }

    // MARK: - Status

    /// Percent of a processor each worker used since the last sample.
    private func sampleProcessors() {
        guard let bridge else { return }
        let now = ContinuousClock().now
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        for (index, thread) in bridge.workerThreadIDs.enumerated() {
            let ticks = Self.processorTicks(thread)
            if let last = processorTimes[index] {
                let elapsed = last.at.duration(to: now).milliseconds / 1000
                guard elapsed >= 0.5 else { continue }
                let used = Double(ticks &- last.ticks) / ticksPerSecond
                processorTimes[index] = (ticks, now, min(100, used / elapsed * 100))
            } else {
                processorTimes[index] = (ticks, now, 0)
            }
        }
    }

    /// User and system time of one of our threads, in clock ticks (proc(5), fields 14 and 15 of stat).
    private static func processorTicks(_ thread: Int) -> UInt64 {
        guard let text = try? String(contentsOfFile: "/proc/self/task/\(thread)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return 0 }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 12 else { return 0 }
        return (UInt64(fields[11]) ?? 0) + (UInt64(fields[12]) ?? 0)
    }

    private static var residentBytes: Int {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
    }

    private func status() throws -> StatusReport {
        try state.withLock {
            guard let bridge, let live, let table = bridge.table else { throw ControlFailure("the bridge is stopping") }
            let snapshot = bridge.snapshot()
            let now = ContinuousClock().now
            return StatusReport(
                mode: mode(of: live.document).name, idle: configuration.bridge.idle.rawValue, pid: Int(getpid()),
                uptimeSeconds: started.duration(to: now).milliseconds / 1000, residentBytes: Self.residentBytes,
                policy: StatusReport.Policy(
                    name: live.document.name, version: version, rules: table.source.rules.count, file: live.file,
                    ageSeconds: appliedAt.duration(to: now).milliseconds / 1000,
                    exactConversations: table.statistics.exactIPv4 + table.statistics.exactIPv6,
                    networkPairs: table.statistics.networkPairs, tableBytes: table.bytes),
                failing: live.document.failing, identities: identities, recording: recording?.now, detection: watch?.now, snapshot: snapshot, rules: live.document.rules.map {
                    StatusReport.Rule(
                        id: $0.id, mode: $0.isMonitored ? "monitor" : "enforce", frames: snapshot.ruleHits[$0.id] ?? 0)
                },
                processorPercent: processorTimes.mapValues(\.percent))
        }
    }
}

extension Duration {
    var milliseconds: Double { Double(components.seconds) * 1000 + Double(components.attoseconds) / 1e15 }
}

extension TableError {
    public var text: String {
        switch self {
        case .tooMany(let what, let count, let limit):
            "\(count) \(what); the most is \(limit)\n  → name larger networks or port ranges, or split the policy over two bridges"
        case .checkFailed(let what):
            "the compiled table failed its own check (\(what))\n  → please report this with the policy file"
        }
    }
}
