// The running bridge's control side: policy, signals, the control socket. It never touches a ring.

import Allowlist
import CLinux
import Datapath
import Detection
import Evidence
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
    /// Directory of the history that traffic is recorded in, and of the audit log; nil: there is neither.
    public var state: String?
    /// If there are any, only policies that one of them has signed are used.
    public var trustedKeys: TrustedKeys
    /// Who starts it, for the audit log.
    public var who: String
    /// The latest days of it that stay; 0: all.
    public var keepDays: Int
    /// Of the program, for reports.
    public var version: String

    public init(
        bridge: BridgeConfiguration, policyFile: String, mode: Mode?, controlSocket: String, controlGroup: String? = nil, replaces: Bool = false,
        state: String? = nil, keepDays: Int = 0, trustedKeys: TrustedKeys = TrustedKeys(), who: String = AuditEvent.bridge,
        version: String
    ) {
        self.bridge = bridge
        self.bridge.records = state != nil
        self.policyFile = policyFile
        self.mode = mode
        self.controlSocket = controlSocket
        self.controlGroup = controlGroup
        self.replaces = replaces
        self.state = state
        self.trustedKeys = trustedKeys
        self.who = who
        self.keepDays = keepDays
        self.version = version
    }
}

/// A policy file that was read, in order to be applied.
private struct LoadedPolicy {
    var policy: AppliedPolicy
    var warnings: [String]

    var file: String { policy.file }
    var document: PolicyDocument { policy.document }

    var withoutText: LoadedPolicy {
        var copy = self
        copy.policy.text = []
        return copy
    }
}

/// What is to come into use.
private enum NextPolicy {
    /// - Parameter confirmWithin: seconds; then what was confirmed last comes back. nil: it stays.
    case new(LoadedPolicy, confirmWithin: Double?)
    /// The running one, without what has expired.
    case again
    /// What was confirmed last, if the time for confirming is over.
    case undo
}

/// A policy that gives way to another unless somebody confirms it.
private struct Unconfirmed {
    var version: UInt64
    var seconds: Double
    var deadline: ContinuousClock.Instant
    /// What was confirmed last.
    var fallback: LoadedPolicy
    var fallbackVersion: UInt64
}

/// Who wants something done, and what else is known of that.
private struct Origin {
    var who: String
    var fields: [String: String] = [:]
}

/// A policy that nobody who is trusted has signed.
private struct SignatureRefused: Error, CustomStringConvertible {
    var description: String
}

/// A policy was confirmed while it was about to be undone.
private struct NothingToUndo: Error {}

/// How long whoever asks waits for the audit log, in seconds.
private let settlingTime = 2.0

/// A clock that is set by less, in nanoseconds, is being kept right.
private let clockJump: Int64 = 2_000_000_000

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
    private var quarantines: Quarantines
    /// Of the table in use, by number.
    private var ruleNames: [String] = []
    private var audit: AuditTrail?
    private var unconfirmed: Unconfirmed?
    /// From CLOCK_MONOTONIC to CLOCK_REALTIME, ns, as it was a moment ago.
    private var clockOffset: Int64?
    private var hasMadeWay = false
    private var watch: Watch?
    private let responses = DispatchQueue(label: "sekisho-respond")
    private let keeping = DispatchQueue(label: "sekisho-quarantine")
    /// Used on `responses` only.
    private var answered = Responses()
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
        quarantines = Quarantines(directory: configuration.state)
    }

    /// Attaches, forwards, and returns after SIGINT or SIGTERM with everything taken off again.
    public func run() throws {
        // Before any thread begins, so that all inherit it: signals come through `signals` only.
        let signals = try blockSignals()
        defer { close(signals) }
        // Before anything is attached: a history that cannot be written must not be found out later.
        let recording = try configuration.state.map {
            try Recording(
                directory: $0, source: "inside \(configuration.bridge.inside), outside \(configuration.bridge.outside)",
                keepDays: configuration.keepDays, log: log)
        }
        let audit = try configuration.state.map { try AuditTrail(directory: $0, log: log) }
        self.audit = audit
        var watch: Watch?
        // When the workers have ended: the records first.
        defer {
            recording?.finish()
            watch?.finish()
            // What the last records raised.
            responses.sync {}
            audit?.finish()
        }
        // Before anything is measured by the calendar, so that a jump from now on is seen.
        state.withLock { noteClock() }
        try state.withLock { try quarantines.read() }
        let starter = Origin(who: configuration.who, fields: ["via": "start"])
        let policy = try loadFile(starter)
        // Versions go on over restarts: a number stands for one text only.
        let isAsBefore = audit?.lastVersion?.sha256 == policy.policy.sha256
        let firstVersion = (audit?.lastNumber ?? 0) + (isAsBefore ? 0 : 1)
        let first = try build(policy, version: firstVersion)
        // Behind the history: whoever cannot have that needs no other file.
        watch = try configuration.state.map {
            try Watch(directory: $0, policy: PolicyView(policy.document, mode: mode(of: policy.document)), log: log) { [self] change in
                // The detector does not wait.
                responses.async { [self] in respond(to: change) }
            }
        }
        // Before anything is attached: a bridge that runs here must not be disturbed, unless it is to be replaced.
        var listener = configuration.replaces && ControlClient.isAnswering(configuration.controlSocket)
            ? nil : try ControlListener(configuration.controlSocket, group: configuration.controlGroup)
        defer { listener?.remove() }

        let isReplacing = listener == nil
        let bridge = try Bridge(
            configuration.bridge, table: first.table, ruleNames: first.ruleNames,
            quarantine: state.withLock { quarantines.compiled(ruleNames: first.ruleNames) }, failing: policy.document.failing,
            flows: policy.document.flows, makeWay: isReplacing ? { [self] in try haveOtherMakeWay() } : nil)
        defer { bridge.stop() }
        if listener == nil { listener = try ControlListener(configuration.controlSocket, group: configuration.controlGroup) }
        if bridge.hasTakenOver { log.info("took over the wire from the bridge before") }
        for note in bridge.preparationNotes { log.info("port prepared: \(note)") }
        if isReplacing {
            // What was ordered of the other one until it made way.
            try state.withLock {
                try quarantines.read()
                bridge.begin(with: quarantines.compiled(ruleNames: first.ruleNames))
            }
        }
        try bridge.start()
        state.withLock { self.watch = watch }
        reportFailures(of: bridge, since: "before this start")
        bridge.leaveProcessorsToWorkers()
        state.withLock {
            self.bridge = bridge
            self.recording = recording
            live = policy.withoutText
            flowPlan = policy.document.flows
            ruleNames = first.ruleNames
            history.note(first.table.source.rules, names: first.ruleNames, first.marks)
            nextExpiry = first.nextExpiry
            lastExpiry = first.lastExpiry
            version = firstVersion
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
        log.info(
            "forwarding: policy \"\(policy.document.name)\" version \(firstVersion), mode \(mode(of: policy.document).name), \(first.ruleNames.count) rules")
        if let recording {
            recording.begin(bridge.trafficRings, watch: watch)
            recording.beQuick(!policy.document.response.quarantines.isEmpty)
            watch?.begin()
            log.info("recording to \(recording.now.file)")
        } else {
            log.info("nothing is recorded, and nothing raises an alert: that needs --state DIR")
        }
        for warning in warnings(on: policy.document) { log.warning("\(warning)") }
        for order in state.withLock({ quarantines.orders }) { log.warning("\(order.device) is still in quarantine, until \(order.end)") }
        if let audit { noteStart(audit, policy, version: firstVersion, isAsBefore: isAsBefore, starter) }
        try Privileges.drop()
        ServiceManager.say("READY=1")
        let reason = loop(signals, listener!)
        ServiceManager.say("STOPPING=1")
        let lost = state.withLock { gonePorts }
        log.info("stopping")
        // No new reports from here on; one that has begun ends first.
        applying.lock()
        state.withLock {
            if let bridge = self.bridge { reportFailures(of: bridge, since: nil) }
            self.bridge = nil
            if let unconfirmed { log.warning("version \(unconfirmed.version) was never confirmed; the next start reads \(configuration.policyFile)") }
            let why = hasMadeWay ? "made way for another bridge" : reason
            audit?.add(.stop, "bridge stopped: \(why)", ["reason": why, "version": "\(version)"])
        }
        applying.unlock()
        guard lost.isEmpty else {
            bridge.stop()
            throw ControlFailure("\(lost.joined(separator: " and ")) is gone; start the bridge again when it is back (under systemd: Restart=always)")
        }
    }

    private func mode(of document: PolicyDocument) -> Mode { configuration.mode ?? document.mode }

    /// What a policy asks for that this bridge was not started for, and the other way round.
    private func warnings(on document: PolicyDocument) -> [String] {
        var warnings: [String] = []
        let mirrors = document.rules.contains(where: \.isMirrored)
        if mirrors, configuration.bridge.mirror == nil { warnings.append("rules with mirror = true, but nothing is copied: start the bridge with --mirror PORT") }
        if let port = configuration.bridge.mirror {
            if !mirrors { warnings.append("nothing is copied to \(port): no rule of the policy has mirror = true") }
            if document.failing.onlyKernel { warnings.append("datapath = \"kernel\": what the kernel judges is not copied to \(port)") }
        }
        if configuration.state == nil {
            if mode(of: document) == .learn { warnings.append("mode learn, but nothing is recorded: start the bridge with --state DIR") }
        } else if document.failing.onlyKernel {
            warnings.append("datapath = \"kernel\": what the kernel judges is not recorded, and raises no alert")
        }
        return warnings
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

    /// - Returns: why it ended.
    private func loop(_ signals: Int32, _ listener: ControlListener) -> String {
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
                case SIGINT: return "SIGINT"
                case SIGTERM: return "SIGTERM"
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
                noteClock()
                if let bridge { reportFailures(of: bridge, since: nil) }
            }
            // While this loop turns, and no worker is dead: what else there is to see stands in `status`.
            ServiceManager.say("WATCHDOG=1")
            expireRules()
            expireQuarantines()
            undoUnconfirmed()
            if !state.withLock({ gonePorts }).isEmpty { return "a port is gone" }
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

    /// Says when somebody has set the clock. What it is kept right by is too little to be told.
    private func noteClock() {
        let before = clinux_monotonic()
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let after = clinux_monotonic()
        // This thread stood still between the two clocks: in a second they are compared again.
        guard after - before < 100_000_000 else { return }
        let offset = Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec) - Int64(before)
        defer { clockOffset = offset }
        guard let known = clockOffset, abs(offset - known) > clockJump else { return }
        let jump = String(format: "%+.3f s", Double(offset - known) / 1e9)
        log.warning("the clock was set: \(jump)")
        audit?.add(.clockChanged, "the clock was set: \(jump)", ["by": jump])
        let areBack = quarantines.followClock()
        guard !quarantines.orders.isEmpty else { return }
        if areBack, let bridge {
            _ = bridge.publish(quarantines.compiled(ruleNames: ruleNames))
            log.warning("quarantine: the clock was wrong, \(quarantines.orders.map(\.device).joined(separator: ", ")) is cut off still")
        }
        keeping.async { [self] in _ = writeQuarantine(isFirst: true) }
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
                    let text = "no worker judged (\(action.state)) \(times) time\(times == 1 ? "" : "s") \(when), the last time for \(lasted)"
                    log.warning("\(text)")
                    audit?.add(.failureLeft, text, ["state": action.state, "times": "\(times)", "lasted": lasted])
                } else {
                    let text = "no worker judges (\(action.state)): frames are \(fate(action.does))"
                    log.error("\(text)")
                    audit?.add(.failureEntered, text, ["state": action.state, "action": action.does, "times": "\(times)"])
                }
            }
            if when == nil, !episode.isActive, known.isActive || episode.count > known.count {
                let text = "the workers judge again (\(action.state)), after \(lasted)"
                log.warning("\(text)")
                audit?.add(.failureLeft, text, ["state": action.state, "lasted": lasted])
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
            hasMadeWay = true
            self.bridge = nil
            bridge.makeWay()
        }
    }

    private func reload() {
        let origin = Origin(who: AuditEvent.bridge, fields: ["via": "SIGHUP"])
        do {
            let report = try apply(.new(try loadFile(origin), confirmWithin: nil), origin)
            log.info(
                "reloaded \(configuration.policyFile): version \(report.version), \(report.rules) rules, built in \(report.buildMs) ms, \(report.swapText)")
        } catch {
            log.error("the running policy stays: \(error)")
        }
    }

    /// A rule whose time is over leaves the table; one that left it too early, because the clock was wrong, comes back.
    private func expireRules() {
        let now = Int64(Date().timeIntervalSince1970)
        let (isDue, wasEarly, rules) = state.withLock {
            let wasEarly = lastExpiry.map { $0 > now } ?? false
            guard wasEarly || nextExpiry.map({ $0 <= now }) ?? false, expiryIsDue <= .now else { return (false, false, [String]()) }
            // Tried again in a minute should it fail; by a clock that nobody sets.
            expiryIsDue = .now + .seconds(60)
            let between = min(now, lastExpiry ?? 0)..<max(now, lastExpiry ?? 0)
            // Ends of rules are the last second they do not have any more.
            let rules = live?.document.rules.filter { $0.expires.map { between.contains($0 - 1) } ?? false }.map(\.id) ?? []
            return (true, wasEarly, rules)
        }
        guard isDue else { return }
        do {
            let report = try apply(.again, Origin(who: AuditEvent.bridge))
            state.withLock { expiryIsDue = .now }
            let text = "rules \(wasEarly ? "are back, the clock was set back" : "have expired"): version \(report.version), \(report.rules) rules"
            log.info("\(text)")
            audit?.add(
                wasEarly ? .ruleReturned : .ruleExpired, text, ["version": "\(report.version)", "rules": rules.joined(separator: ", "), "mode": report.mode])
        } catch {
            log.error("\(wasEarly ? "taking rules back that had expired" : "leaving expired rules out"): \(error)")
        }
    }

    // MARK: - Policies

    /// The file that the bridge was started with, and its signature.
    private func loadFile(_ origin: Origin) throws -> LoadedPolicy {
        let file = configuration.policyFile
        return try load(file, PolicyText.read(file), signature: PolicyText.signature(of: file), origin)
    }

    /// A policy that may be used; what may not is in the audit log.
    private func load(_ file: String, _ text: [UInt8], signature: String?, _ origin: Origin) throws -> LoadedPolicy {
        do {
            return try load(file, text, signature: signature)
        } catch {
            noteRefused(file, contentHash(text), error, origin)
            throw error
        }
    }

    private func load(_ file: String, _ text: [UInt8], signature: String?) throws -> LoadedPolicy {
        var key: KeyID?
        if !configuration.trustedKeys.isEmpty {
            do throws(SignatureError) {
                key = try configuration.trustedKeys.check(text, signature: signature)
            } catch {
                throw SignatureRefused(description: "\(file): \(error)")
            }
        }
        let reading = PolicyReader.read(text, now: Int64(Date().timeIntervalSince1970))
        guard let document = reading.document else {
            throw ControlFailure(
                "\(file) has \(reading.errors.count) error(s)", diagnostics: reading.diagnostics.map { $0.rendered(file: file) })
        }
        return LoadedPolicy(
            policy: AppliedPolicy(document: document, text: text, file: file, signature: signature, key: key?.text),
            warnings: reading.warnings.map { $0.rendered(file: file) })
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
    private func apply(_ wanted: NextPolicy, _ origin: Origin) throws -> ApplyReport {
        applying.lock()
        defer { applying.unlock() }
        // Chosen only now: while this waited, another policy may have come into use.
        let (next, before, waiting) = state.withLock { (version + 1, live, unconfirmed) }
        guard let before else { throw ControlFailure("the bridge is stopping") }
        let policy: LoadedPolicy
        var newPolicy: LoadedPolicy?
        var confirmWithin: Double?
        switch wanted {
        case .again: policy = before
        case .new(let new, let seconds): (policy, newPolicy, confirmWithin) = (new, new, seconds)
        case .undo:
            guard let waiting, waiting.deadline <= .now else { throw NothingToUndo() }
            (policy, newPolicy) = (waiting.fallback, waiting.fallback)
        }
        let built: Build
        do { built = try build(policy, version: next) } catch {
            noteRefused(policy.file, policy.policy.sha256, error, origin)
            throw error
        }
        let table = built.table
        var warnings = policy.warnings
        if newPolicy != nil, policy.document.flows != flowPlan {
            warnings.append("state.flows and state.reply_s (for the time after a start) hold from the next start on: the flow table is made then")
        }
        let swapUs: Double? = try state.withLock {
            guard let bridge else { throw ControlFailure("the bridge is stopping") }
            let swap = try bridge.publish(
                table, ruleNames: built.ruleNames, quarantine: quarantines.compiled(ruleNames: built.ruleNames), failing: policy.document.failing)
            ruleNames = built.ruleNames
            version = next
            live = policy.withoutText
            history.note(table.source.rules, names: built.ruleNames, built.marks)
            nextExpiry = built.nextExpiry
            appliedAt = ContinuousClock().now
            lastExpiry = built.lastExpiry
            watch?.use(PolicyView(policy.document, mode: mode(of: policy.document)))
            recording?.beQuick(!policy.document.response.quarantines.isEmpty)
            watch?.observe(
                .policyChanged(name: policy.document.name, version: next, mode: mode(of: policy.document).name, rules: built.ruleNames.count))
            if newPolicy != nil {
                warnings += self.warnings(on: policy.document) + bridge.transmitWarnings + [bridge.recordWarning].compactMap(\.self)
                // A policy that is applied without being doubted ends the doubt about the one before.
                unconfirmed = confirmWithin.map { seconds in
                    Unconfirmed(
                        version: next, seconds: seconds, deadline: .now + .seconds(seconds), fallback: waiting?.fallback ?? before,
                        fallbackVersion: waiting?.fallbackVersion ?? next - 1)
                }
                noteApplied(policy, version: next, after: before, confirmWithin, origin)
            }
            return swap
        }
        // What reading and compiling needed goes back to the system: this process runs for months.
        clinux_release_memory()
        if swapUs == nil {
            warnings.append("version \(next) is published, but a worker has not taken it within five seconds: is its processor starved? See sekisho status")
        }
        return ApplyReport(
            name: policy.document.name, version: next, mode: mode(of: policy.document).name, rules: built.ruleNames.count,
            exactConversations: table.statistics.exactIPv4 + table.statistics.exactIPv6,
            networkPairs: table.statistics.networkPairs, tableBytes: table.bytes,
            buildMs: (built.milliseconds * 1000).rounded() / 1000, swapUs: swapUs.map { ($0 * 10).rounded() / 10 }, warnings: warnings,
            confirmWithin: confirmWithin, otherwise: confirmWithin.map { _ in waiting?.fallbackVersion ?? next - 1 })
    }

    // MARK: - Confirming

    /// The time to confirm is over: what was confirmed last comes back.
    private func undoUnconfirmed() {
        guard let late = state.withLock({ unconfirmed }), late.deadline <= .now else { return }
        let why = "version \(late.version) was not confirmed within \(String(format: "%.0f", late.seconds)) s"
        do {
            let report = try apply(.undo, Origin(who: AuditEvent.bridge, fields: ["via": "no confirmation", "undone": "\(late.version)", "why": why]))
            log.warning("\(why): \(late.fallback.file) is in use again, as version \(report.version)")
        } catch is NothingToUndo {
        } catch {
            log.error("\(why), but what was before could not be applied; it is tried again: \(error)")
            state.withLock { if unconfirmed?.version == late.version { unconfirmed?.deadline = .now + .seconds(10) } }
        }
    }

    private func confirm(_ origin: Origin) throws -> ConfirmReport {
        // Not while it is being undone.
        applying.lock()
        defer { applying.unlock() }
        return try state.withLock {
            guard let waiting = unconfirmed else { throw ControlFailure("no policy waits for being confirmed\n  → see sekisho status") }
            unconfirmed = nil
            log.info("version \(waiting.version) is confirmed")
            var fields = origin.fields
            fields["version"] = "\(waiting.version)"
            audit?.add(.policyConfirmed, "version \(waiting.version) is confirmed: it stays", who: origin.who, fields)
            return ConfirmReport(version: waiting.version)
        }
    }

    // MARK: - The audit log

    private func noteStart(_ audit: AuditTrail, _ policy: LoadedPolicy, version: UInt64, isAsBefore: Bool, _ starter: Origin) {
        let mode = mode(of: policy.document).name, ports = configuration.bridge
        audit.add(
            .start,
            "bridge started, inside \(ports.inside), outside \(ports.outside): policy \"\(policy.document.name)\" version \(version), mode \(mode)",
            who: starter.who,
            [
                "inside": ports.inside, "outside": ports.outside, "version": "\(version)", "sha256": policy.policy.sha256, "mode": mode,
                "program": configuration.version, "pid": "\(getpid())", "signed_only": configuration.trustedKeys.isEmpty ? "no" : "yes",
            ])
        if !isAsBefore {
            audit.add(.applied(
                policy.policy, version: version, mode: mode, before: audit.takeLastDocument(), who: starter.who, fields: starter.fields, time: AuditEvent.now))
        }
        if let before = audit.lastMode, before != mode { noteMode(from: before, to: mode, starter) }
    }

    private func noteApplied(_ policy: LoadedPolicy, version: UInt64, after before: LoadedPolicy, _ confirmWithin: Double?, _ origin: Origin) {
        guard let audit else { return }
        if let undone = origin.fields["undone"] { audit.add(.policyUndone, origin.fields["why"] ?? "", ["version": undone]) }
        var fields = origin.fields
        fields["confirm_within"] = confirmWithin.map { String(format: "%.0f s", $0) }
        let mode = mode(of: policy.document).name, modeBefore = self.mode(of: before.document).name
        audit.add(.applied(
            policy.policy, version: version, mode: mode, before: before.document, who: origin.who, fields: fields, time: AuditEvent.now))
        if mode != modeBefore { noteMode(from: modeBefore, to: mode, origin) }
    }

    private func noteRefused(_ file: String, _ sha256: String, _ error: any Error, _ origin: Origin) {
        var fields = origin.fields
        (fields["file"], fields["sha256"]) = (file, sha256)
        if let failure = error as? ControlFailure, !failure.diagnostics.isEmpty {
            fields["findings"] = failure.diagnostics.prefix(20).joined(separator: "\n")
        }
        let message = (error as? ControlFailure)?.message ?? "\(error)"
        audit?.add(error is SignatureRefused ? .signatureRefused : .policyRefused, "policy refused: \(message)", who: origin.who, fields)
    }

    private func noteMode(from before: String, to mode: String, _ origin: Origin) {
        audit?.add(.modeChanged, "mode \(before) → \(mode)", who: origin.who, ["from": before, "mode": mode])
    }

    // MARK: - Quarantine

    /// Puts what was ordered in force at once, then has it written down.
    ///
    /// - Parameter change: of the orders; says who was let go.
    private func changeQuarantine(_ change: (inout Quarantines) throws(ControlFailure) -> [QuarantineOrder]) throws -> QuarantineReport {
        let begin = ContinuousClock().now
        // One at a time, also with `apply`: the exceptions are numbers of the table in use.
        var (report, isKept) = try state.withLock {
            guard let bridge else { throw ControlFailure("the bridge is stopping") }
            var new = quarantines
            let released = try change(&new)
            quarantines = new
            let waited = begin.duration(to: ContinuousClock().now).milliseconds * 1000
            let took = bridge.publish(new.compiled(ruleNames: ruleNames)).map { waited + $0 }
            return (
                QuarantineReport(
                    orders: new.orders, released: released, inForceUs: took.map { ($0 * 10).rounded() / 10 },
                    unknownExceptions: Set(new.orders.flatMap(\.exceptions)).subtracting(ruleNames).sorted(), warning: nil), new.isKept
            )
        }
        // A disk that hangs must not hold up anything else.
        if isKept, let problem = keepQuarantine() { report.warning = "\(problem); until it is written, a restart would bring back what was before" }
        return report
    }

    /// Writes the orders as they are now, again every second until it can be done.
    ///
    /// - Returns: why it has not been done yet; nil: it has.
    private func keepQuarantine() -> String? {
        let done = DispatchSemaphore(value: 0)
        nonisolated(unsafe) var problem: String?
        keeping.async { [self] in
            problem = writeQuarantine(isFirst: true)
            done.signal()
        }
        return done.wait(timeout: .now() + settlingTime) == .success ? problem : "the disk is slow"
    }

    private func writeQuarantine(isFirst: Bool) -> String? {
        do throws(ControlFailure) {
            try state.withLock { quarantines }.write()
            if !isFirst { log.info("quarantine: written down") }
            return nil
        } catch {
            if isFirst { log.error("quarantine: \(error); tried again every second") }
            keeping.asyncAfter(deadline: .now() + 1) { [weak self] in _ = self?.writeQuarantine(isFirst: false) }
            return "\(error)"
        }
    }

    private func quarantine(_ request: ControlRequest, _ origin: Origin) throws -> QuarantineReport {
        guard let seconds = request.seconds, (1...Quarantines.longest).contains(seconds), let why = request.why else {
            throw ControlFailure("a quarantine needs a time of at most 30 days, and why")
        }
        let (document, identities) = try state.withLock {
            guard let live else { throw ControlFailure("the bridge is stopping") }
            return (live.document, self.identities)
        }
        let device = try request.command == .isolate ? nil : MeantDevice(request.device ?? "", document, identities)
        var origin = origin
        if let device, let reason = device.protection(by: document) {
            origin.fields["protected"] = reason
            guard request.force == true else {
                audit?.add(.accessRefused, "cutting \(device.name) off was refused: it is protected by the policy (\(reason))", who: origin.who, origin.fields)
                throw protected(device, reason)
            }
            origin.fields["forced"] = "true"
        }
        return try quarantine(device, seconds: seconds, exceptions: request.exceptions ?? [], why: why, origin)
    }

    private func protected(_ device: MeantDevice, _ reason: String) -> ControlFailure {
        ControlFailure("\(device.name) is protected by the policy (\(reason))\n  → --force, if the tool may lose its host")
    }

    /// - Parameter device: nil: everything.
    private func quarantine(
        _ device: MeantDevice?, seconds: Int64, exceptions: [String], why: String, automatic: Bool = false, _ origin: Origin
    ) throws -> QuarantineReport {
        let now = Int64(Date().timeIntervalSince1970)
        let order = QuarantineOrder(
            device: device?.name ?? "everything", isIsland: device == nil, addresses: device?.addresses ?? [], macs: device?.macs ?? [], exceptions: exceptions,
            since: now, until: now + seconds, who: origin.who, why: why)
        let report = try changeQuarantine { (all) throws(ControlFailure) in
            try all.add(order, automatic: automatic)
            return []
        }
        let force = report.inForceUs.map { "\($0) µs" }
        log.warning("quarantine: \(order.device) is cut off by \(order.who) until \(order.end): \(why); in force after \(force ?? "a worker's delay")")
        var fields = origin.fields
        fields["until"] = order.end
        fields["in_force_after"] = force
        fields["addresses"] = (order.addresses + order.macs).joined(separator: " ")
        fields["exceptions"] = order.exceptions.isEmpty ? nil : order.exceptions.joined(separator: " ")
        audit?.add(device == nil ? .isolate : .quarantine, "\(order.device) is cut off until \(order.end)", who: order.who, fields)
        return report
    }

    private func release(_ device: String?, _ origin: Origin) throws -> QuarantineReport {
        let meant = state.withLock { live.map { ($0.document, identities) } }.flatMap { document, identities in
            device.flatMap { try? MeantDevice($0, document, identities) }
        }
        let report = try changeQuarantine { all in
            all.remove { order in device == nil || order.device == device || !order.isIsland && meant?.isMeant(by: order) ?? false }
        }
        for order in report.released {
            log.warning("quarantine: \(order.device) is released by \(origin.who)")
            audit?.add(.release, "\(order.device) is released", who: origin.who, origin.fields)
            responses.async { [self] in answered.released(order, byPerson: true, at: Date()) }
        }
        return report
    }

    /// What is done by itself about an alert: it is written down, and where the policy asks for it, its devices are cut off for a time.
    private func respond(to change: AlertChange) {
        let alert = change.alert
        switch change {
        case .raised:
            // Of policies and failures the log has events of their own.
            if alert.kind != .policyChanged, alert.kind != .bridgeFailure {
                audit?.add(.alert, alert.story, who: AuditEvent.bridge, ["alert": "\(alert.id)", "kind": alert.kind.rawValue, "severity": alert.severity.name])
            }
        case .changed: break
        case .ended:
            return answered.ended(alert.id)
        }
        guard let (document, identities) = state.withLock({ live.map { ($0.document, self.identities) } }),
            alert.behaviours.contains(where: { document.response.quarantines.contains($0.kind.rawValue) }),
            // What a process before had to do with is not begun anew: a person may have decided meanwhile.
            alert.id > (state.withLock({ self.watch })?.lastBefore ?? .max)
        else { return }
        // Whose addresses are forged must not pay for it: of a forger only the network card is known.
        let isForger = alert.behaviours.contains { $0.kind == .spoofing || $0.kind == .wrongSide }
        for device in ([alert.device].compactMap(\.self) + alert.others) where !device.isMany {
            let target = MeantDevice(device, isForger: isForger, identities)
            guard !target.name.isEmpty, answered.begins(alert.id, target, lastActed: device.last) else { continue }
            // A person's word stands, and an order that holds needs no other.
            if state.withLock({ quarantines.orders.contains { target.isMeant(by: $0) } }) { continue }
            if let protection = target.protection(by: document) {
                log.warning("alert \(alert.id): \(target.name) is not cut off: it is protected by the policy (\(protection))")
                continue
            }
            let why = "alert \(alert.id): \(alert.kind.text)"
            let origin = Origin(who: AuditEvent.bridge, fields: ["via": "alert", "alert": "\(alert.id)", "why": why])
            do {
                _ = try quarantine(target, seconds: document.response.seconds, exceptions: [], why: why, automatic: true, origin)
            } catch {
                // Perhaps there is room the next time.
                answered.takesBack(alert.id, target)
                log.error("alert \(alert.id): \(target.name) is not cut off: \(error)")
            }
        }
    }

    /// Every quarantine ends by itself.
    private func expireQuarantines() {
        guard state.withLock({ bridge != nil && quarantines.isAnyOver }) else { return }
        do {
            let report = try changeQuarantine { all in all.removeOver() }
            for order in report.released {
                log.warning("quarantine: the time of \(order.device) is over; it is released")
                audit?.add(.release, "\(order.device) is released: its time is over", who: AuditEvent.bridge)
                responses.async { [self] in answered.released(order, byPerson: false, at: Date()) }
            }
        } catch { log.error("quarantine: \(error)") }
    }

    // MARK: - The control socket

    private func answer(_ connection: Connection, _ listener: ControlListener) {
        guard let data = connection.readAll() else { return }
        let response: ControlResponse
        do {
            let request = try MachineFormat.decoder().decode(ControlRequest.self, from: data)
            if request.command == .makeWay {
                guard connection.isOwners else {
                    audit?.add(
                        .accessRefused, "having the bridge make way was refused: only root may", who: Account.name(connection.user),
                        ["uid": "\(connection.user)"])
                    throw ControlFailure("only root may have the bridge make way")
                }
                try makeWay(for: request.ports, listener)
                // The loop ends by itself only by a signal.
                defer { kill(getpid(), SIGTERM) }
                response = ControlResponse()
                if let encoded = try? MachineFormat.encoder(pretty: false).encode(response) { _ = connection.writeAll(encoded) }
                return
            }
            response = try respond(request, connection.user)
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

    private func respond(_ request: ControlRequest, _ user: Int64) throws -> ControlResponse {
        var origin = Origin(who: Account.name(user, saying: request.who), fields: ["uid": "\(user)", "via": "\(request.command.rawValue)"])
        origin.fields["why"] = request.why
        switch request.command {
        case .status:
            return ControlResponse(status: try status())
        case .latency:
            return ControlResponse(latency: try latency(window: request.window))
        case .makeWay: throw ControlFailure("not a question")
        case .quarantine, .isolate, .release:
            let report = request.command == .release ? try release(request.device, origin) : try quarantine(request, origin)
            _ = audit?.settle(seconds: settlingTime)
            return ControlResponse(quarantine: report)
        case .apply:
            guard let file = request.file, let text = request.text else { throw ControlFailure("apply needs a file and its text") }
            return ControlResponse(applied: try apply(file, [UInt8](text), request.signature, confirmWithin: request.confirmWithin, origin))
        case .rollback:
            guard let audit else { throw ControlFailure("the bridge keeps no versions\n  → start it with --state DIR") }
            guard let number = request.version, number <= state.withLock({ self.version }) else {
                throw ControlFailure("there is no version \(request.version ?? 0)\n  → sekisho versions lists them")
            }
            let (version, text) = try audit.version(number)
            origin.fields["rollback_to"] = "\(number)"
            return ControlResponse(applied: try apply(version.file, text, version.signature, confirmWithin: request.confirmWithin, origin))
        case .confirm:
            let report = try confirm(origin)
            _ = audit?.settle(seconds: settlingTime)
            return ControlResponse(confirmed: report)
        }
    }

    private func apply(_ file: String, _ text: [UInt8], _ signature: String?, confirmWithin: Double?, _ origin: Origin) throws -> ApplyReport {
        guard confirmWithin.map({ $0 >= 1 && $0 <= 86_400 }) ?? true else { throw ControlFailure("a policy is confirmed within 1 s to 24 h") }
        guard (signature?.utf8.count ?? 0) <= PolicyText.longestSignature else { throw ControlFailure("the signature of \(file) is too long to be one") }
        do {
            var report = try apply(.new(try load(file, text, signature: signature, origin), confirmWithin: confirmWithin), origin)
            log.info("applied \(file): version \(report.version), \(report.rules) rules, \(report.swapText)")
            if let audit, !audit.settle(seconds: settlingTime) {
                report.warnings.append("it is not in the audit log yet: \(audit.now.error ?? "the disk is slow")")
            }
            return report
        } catch {
            log.warning("\(file) was not applied, the running policy stays: \(error)")
            _ = audit?.settle(seconds: settlingTime)
            throw error
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
                    networkPairs: table.statistics.networkPairs, tableBytes: table.bytes, sha256: live.policy.sha256, key: live.policy.key,
                    unconfirmed: unconfirmed.map {
                        StatusReport.Unconfirmed(secondsLeft: max(0, now.duration(to: $0.deadline).milliseconds / 1000), otherwise: $0.fallbackVersion)
                    }),
                failing: live.document.failing, identities: identities, recording: recording?.now, quarantine: quarantines.orders, audit: audit?.now,
                detection: watch?.now, snapshot: snapshot,
                rules: live.document.rules.map {
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
