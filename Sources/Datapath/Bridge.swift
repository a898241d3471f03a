// Two ports, their programs and sockets, and the workers between them: set up whole or not at all.

import Allowlist
import CLinux
import Frames
import Glibc

/// What to bridge and how.
public struct BridgeConfiguration: Sendable {
    public var inside: String
    public var outside: String
    /// Workers; nil: one for each queue that both ports have.
    public var queues: Int?
    /// Processors of the workers, in their order; empty: the last ones this process may use.
    public var cpus: [Int]
    public var idle: IdlePolicy
    /// One frame in so many is timed; 0: none.
    public var latencySample: Int
    /// Whether traffic is recorded, for `trafficRings`.
    public var records: Bool
    /// Port that copies of frames of mirrored rules leave by; nil: none.
    public var mirror: String?

    /// Rare enough to cost nothing (docs/performance.md), often enough for a percentile of a busy second.
    public static let usualLatencySample = 128

    public init(
        inside: String, outside: String, queues: Int? = nil, cpus: [Int] = [], idle: IdlePolicy = .hybrid,
        latencySample: Int = BridgeConfiguration.usualLatencySample, records: Bool = false, mirror: String? = nil
    ) {
        self.mirror = mirror
        self.inside = inside
        self.outside = outside
        self.queues = queues
        self.cpus = cpus
        self.idle = idle
        self.latencySample = latencySample
        self.records = records
    }
}

/// Frames a worker has for each socket. Twice the RX ring, so that as many can wait for reception as can be on their way out.
private let framesPerSocket = 8192
/// How long what is in the rings may take to go out when the bridge ends, in milliseconds.
private let drainPatience = 100
/// Looks at the workers before the publisher yields: about a millisecond.
private let spinsBeforeYield = 50_000
/// How long to wait for the kernel to let go of what a process that has just ended held, in milliseconds.
private let releasePatience = 3000

/// A running bridge. Used by one thread at a time (`Control` sees to it); the workers share nothing with it
/// but atomics.
public final class Bridge {
    public let configuration: BridgeConfiguration
    private let program: XDPProgram
    private let ports: [NetworkPort]
    /// Empty until the ports are this process's alone.
    private var preparations: [PortPreparation] = []
    private var sockets: [[XSKSocket]] = []
    private var threads: [WorkerThread] = []
    /// What the workers record, each in a ring of its own, for one reader. Their ends outlive the workers.
    public private(set) var trafficRings: [TrafficRing] = []
    private let publisher: TablePublisher
    /// Marks the frames that the XDP programs have timed.
    private let latencyTag = UInt16.random(in: 1...UInt16.max)
    public private(set) var socketModes: [SocketMode] = []
    /// What was changed on the ports, for the log.
    public var preparationNotes: [String] {
        preparations.flatMap { preparation in preparation.changes.map { "\(preparation.port.name): \($0)" } }
    }

    private let remains: BridgeRemains
    private var lock: Int32 = -1
    private var failing: FailurePlan
    private let mirror: MirrorPort?
    private let flows: FlowTable?
    private let flowPlan: FlowPlan
    /// Whether the program was taken over from a bridge that was here before, with no frame in between.
    public let hasTakenOver: Bool

    /// Checks the ports, attaches, binds. Until `start`, `failing` says what becomes of frames.
    ///
    /// - Parameters:
    ///   - quarantine: in force from the first frame on.
    ///   - makeWay: asks the bridge that runs on these ports to end. Called when this one's program is in place,
    ///     if the links outlive a process; else before it is attached.
    public init(
        _ configuration: BridgeConfiguration, table: CompiledTable, ruleNames: [String], quarantine: Quarantine = .none,
        failing: FailurePlan = FailurePlan(), flows flowPlan: FlowPlan = FlowPlan(), makeWay: (() throws -> Void)? = nil
    ) throws {
        self.configuration = configuration
        self.failing = failing
        self.flowPlan = flowPlan
        try Self.checkClock()
        ports = try Self.checkedPorts(configuration)
        atStart = ports.map { ($0.mtu, $0.queues.now) }
        mirror = if let name = configuration.mirror { try MirrorPort(Self.checkedMirror(name, ports)) } else { nil }
        let plan = try WorkerPlan(configuration, ports)
        remains = BridgeRemains(inside: configuration.inside, outside: configuration.outside)
        if makeWay == nil { lock = try Self.lock(remains, configuration) }
        program = try XDPProgram(predecessor: remains.pinned(.inside))
        publisher = TablePublisher(workerCount: plan.workers.count)
        flows = flowPlan.flows > 0 ? FlowTable(capacity: flowPlan.flows, isShared: plan.workers.count > 1) : nil
        first = (table, ruleNames, quarantine)
        program.setQuarantine(quarantine)
        program.setActions(failing.actions, deadline: failing.deadline, onlyKernel: failing.onlyKernel)
        program.setLongestFrame(plan.longestFrame)
        try program.setPorts(ports)
        if failing.needsTwin { try program.publish(table, ruleNames: ruleNames) }
        hasTakenOver = try Self.takeOver(program, remains, ports)
        // What is known already must not cost the other one its place.
        try checkTransmit(failing)
        if let makeWay {
            // If this fails, the other one is still there, and gets its links back (`stop`).
            try makeWay()
            lock = try Self.lock(remains, configuration)
            // Until it ended, the other one may have put a program of its own there.
            try program.reassert()
        }
        // Only now, when nobody else changes them any more.
        for side in Side.allCases {
            let port = ports[Int(side.rawValue)]
            preparations.append(PortPreparation(port, inherited: remains.settings(of: port, side)))
        }
        if !hasTakenOver {
            remains.removeLinks()
            // virtio_net refuses it while a program is attached.
            for preparation in preparations { try preparation.keepFramesWhole() }
            try Self.attach(program, ports)
        }
        for (side, preparation) in zip(Side.allCases, preparations) {
            try preparation.apply(isGeneric: program.modes[side] == "generic")
        }
        try checkTransmit(failing)
        try hold()
        try bindWorkers(plan, ports)
    }

    /// What the first publication is made of.
    private var first: (table: CompiledTable, ruleNames: [String], quarantine: Quarantine)

    /// Before `start`: another quarantine than that of `init`.
    public func begin(with quarantine: Quarantine) {
        first.quarantine = quarantine
        program.setQuarantine(quarantine)
        program.settleQuarantine()
    }

    /// Puts the program in the place of the one that a bridge before left on both ports. If that cannot be, the other stays.
    private static func takeOver(_ program: XDPProgram, _ remains: BridgeRemains, _ ports: [NetworkPort]) throws(DatapathError) -> Bool {
        var adopted = 0
        for side in Side.allCases {
            guard let pin = remains.pinned(side) else { continue }
            let port = ports[Int(side.rawValue)]
            let code = program.adopt(port, side, pin: pin)
            if code == 0 { adopted += 1 }
            // ENODEV, ENOLINK: of a port that is no more; nothing is held by it.
            guard code == 0 || code == ENODEV || code == ENOLINK else {
                program.giveBack()
                program.release()
                throw DatapathError(
                    "taking over \(port.name) from the bridge before (\(pin))", code: code,
                    hint: "what holds the wire stays; if it is not wanted: sekisho detach")
            }
        }
        if adopted == Side.allCases.count { return true }
        program.giveBack()
        program.release()
        return false
    }

    /// The kernel and the workers must mean the same by the time: it looks at theirs to see whether they live.
    public static func checkClock() throws(DatapathError) {
        for line in String(decoding: readFile("/proc/self/timens_offsets") ?? [], as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.first == "monotonic", words.dropFirst().contains(where: { Int64($0) != 0 }) else { continue }
            throw DatapathError(
                "watching the workers: this process has a monotonic clock of its own (a time namespace), the kernel's XDP program has not",
                hint: "start it outside of the time namespace")
        }
    }

    /// Ports that send no redirected frame, so that what the kernel judges or passes is lost there. As it is now: a veth's other end
    /// may change.
    private var portsWithoutTransmit: [(name: String, abilities: PortAbilities)] {
        zip(Side.allCases, ports).compactMap { side, port in
            guard program.modes[side] == "native" else { return nil }
            let abilities = port.abilities
            return abilities.takesRedirected(isAttached: true) == false ? (port.name, abilities) : nil
        }
    }

    /// What is wrong with ports that must send redirected frames for the failure plan to hold, in words.
    public var transmitWarnings: [String] {
        guard !failing.actions.isClosed, !failing.onlyKernel else { return [] }
        return portsWithoutTransmit.map { port in
            "\(port.name) (driver \(port.abilities.driver)) sends no redirected frames: while no worker judges, what is to leave by it is lost, whatever on_failure says\n  → \(port.abilities.transmitHint)"
        }
    }

    /// Where the kernel judges everything, nothing would ever leave by such a port.
    private func checkTransmit(_ plan: FailurePlan) throws(DatapathError) {
        guard plan.onlyKernel, let port = portsWithoutTransmit.first else { return }
        throw DatapathError(
            "judging in the kernel (datapath = \"kernel\"): \(port.name) (driver \(port.abilities.driver)) sends no redirected frames (ndo_xdp_xmit)",
            code: EOPNOTSUPP, hint: "\(port.abilities.transmitHint), or leave datapath to the workers")
    }

    /// Sees to it that the program outlives this process, or does not, as the policy asks.
    private func hold() throws(DatapathError) {
        if failing.actions.isClosed {
            remains.removeLinks()
        } else {
            for side in Side.allCases {
                try preparations[Int(side.rawValue)].stayPromiscuous()
                if remains.pinned(side) != nil { continue }
                let path = try remains.place(for: side)
                let code = program.pin(side, at: path)
                guard code == 0 else {
                    throw DatapathError("keeping the XDP program of \(ports[Int(side.rawValue)].name) in \(path)", code: code)
                }
            }
        }
        let code = remains.write(preparations)
        recordWarning = code == 0
            ? nil
            : DatapathError(
                "writing how the ports were (\(remains.record))", code: code,
                hint: "make room there, or a bridge that is killed leaves its ports changed").description
    }

    /// What could not be written, and does not matter while the bridge ends by itself; nil: nothing.
    public private(set) var recordWarning: String?

    /// Begins to forward.
    public func start() throws(DatapathError) {
        publisher.publish(first.table, ruleNames: first.ruleNames, quarantine: first.quarantine)
        try mirror?.start()
        for thread in threads {
            thread.rest(failing.onlyKernel)
            thread.setUnwatched(after: failing.unwatchedAfter)
            thread.setDeadline(UInt64(failing.deadline) * 1_000_000)
            try thread.start()
        }
        program.setSampling(gap: configuration.latencySample, tag: latencyTag)
        for side in Side.allCases {
            let port = ports[Int(side.rawValue)].name
            for (queue, descriptor) in queueDescriptors[Int(side.rawValue)] {
                try program.set(socket: descriptor, of: queue, port, side)
            }
        }
        // Only now do frames come: the workers are there to take them.
        program.setState(.workerDead)
        isStarted = true
    }

    /// Changes what becomes of frames that no worker judges.
    private func setFailing(_ plan: FailurePlan) throws(DatapathError) {
        let old = failing
        failing = plan
        do throws(DatapathError) {
            if plan.actions != old.actions { try hold() }
        } catch {
            failing = old
            throw error
        }
        for thread in threads {
            thread.setUnwatched(after: plan.unwatchedAfter)
            thread.setDeadline(UInt64(plan.deadline) * 1_000_000)
            thread.rest(plan.onlyKernel)
        }
        program.setActions(plan.actions, deadline: plan.deadline, onlyKernel: plan.onlyKernel)
    }

    private static func lock(_ remains: BridgeRemains, _ configuration: BridgeConfiguration) throws(DatapathError) -> Int32 {
        var lock = remains.lock()
        // A process that was just killed is still being taken apart.
        for _ in 0..<releasePatience / 50 where lock == nil {
            usleep(50_000)
            lock = remains.lock()
        }
        guard let lock else {
            throw DatapathError(
                "bridging \(configuration.inside) and \(configuration.outside)", code: EBUSY,
                hint: "another sekisho bridges these ports; stop it first, or take its place with --replace")
        }
        return lock
    }

    /// Side and queue of each worker's sockets, in their order.
    private var socketPlaces: [[(side: Side, queue: Int)]] = []

    /// Sockets by port and queue.
    private var queueDescriptors: [[(Int, Int32)]] = [[], []]

    /// Puts another table in use.
    ///
    /// - Returns: microseconds from publishing until no worker uses the old one, or nil if a worker did not answer
    ///   within `patience` milliseconds; then both tables are kept.
    public func publish(
        _ table: CompiledTable, ruleNames: [String], quarantine: Quarantine? = nil, failing: FailurePlan? = nil, patience: Int = 5000
    ) throws(DatapathError) -> Double? {
        // The twin first: what can fail must leave everything as it was.
        let plan = failing ?? self.failing
        if !self.failing.onlyKernel { try checkTransmit(plan) }
        if plan.needsTwin { try program.publish(table, ruleNames: ruleNames) }
        try setFailing(plan)
        // What monitor and learn let pass was not noted: from now on it counts, and nobody knows what has gone before.
        if let before = publisher.table?.view.pointee.mode, before != .enforce, table.view.pointee.mode == .enforce {
            flows?.view.beginGrace(FlowTick(nanoseconds: clinux_monotonic_coarse()))
        }
        return wait(patience) { publisher.publish(table, ruleNames: ruleNames, quarantine: quarantine ?? publisher.quarantine) }
    }

    /// Cuts devices off, or everything, and lets go of those that were. It holds in every mode.
    ///
    /// - Returns: as `publish`.
    public func publish(_ quarantine: Quarantine, patience: Int = 5000) -> Double? {
        defer { program.settleQuarantine() }
        return wait(patience) {
            program.setQuarantine(quarantine)
            publisher.publish(quarantine)
        }
    }

    /// Publishes something, and waits until every worker has it.
    private func wait(_ patience: Int, _ publish: () -> Void) -> Double? {
        let clock = ContinuousClock()
        let begin = clock.now
        publish()
        var spins = 0
        while !publisher.isQuiescent {
            spins += 1
            // A burst takes microseconds; whoever yields before it ends gets the processor back milliseconds later.
            if spins < spinsBeforeYield { clinux_spin_hint() } else { sched_yield() }
            if spins % 256 == 0, begin.duration(to: clock.now) > .milliseconds(patience) { return nil }
        }
        let waited = begin.duration(to: clock.now)
        publisher.reclaim()
        return Double(waited.components.attoseconds) / 1e12 + Double(waited.components.seconds) * 1e6
    }

    public var table: CompiledTable? { publisher.table }

    /// Times in which frames came and no worker judged them, also those that a bridge before left behind.
    public var failures: [FailureEpisodes] { program.episodes() }

    /// What can be told of each port at a glance, inside first.
    public var links: [(port: String, state: LinkState)] {
        ports.map { port in
            (port.name, !port.exists ? .gone : port.hasCarrier ? .up : .down)
        }
    }

    /// What somebody has changed about each port since the start, in words; those that are as they were are left out.
    public var changes: [(port: String, change: String)] {
        zip(ports, atStart).flatMap { port, before -> [(port: String, change: String)] in
            guard let name = port.currentName else { return [] }
            var changes: [String] = []
            if name != port.name { changes.append("is now called \(name); start the bridge with that name the next time") }
            if port.mtu != before.mtu {
                changes.append(
                    "its MTU is now \(port.mtu), and was \(before.mtu) at the start; start the bridge again, or longer frames are lost")
            }
            if port.queues.now != before.queues {
                changes.append(
                    "it has \(port.queues.now) queues now, and had \(before.queues) at the start; start the bridge again, or what comes by others is not judged by a worker")
            }
            return changes.map { (port.name, $0) }
        }
    }

    private let atStart: [(mtu: Int, queues: Int)]

    /// Senders that have come or changed since the last call, and how many found no room since the start.
    public func takeSightings() -> (new: [Sighting], lost: UInt64) {
        (threads.flatMap { $0.sightings.take() }, threads.reduce(0) { $0 + $1.sightings.lost })
    }

    /// Linux thread ids of the workers, in their order.
    public var workerThreadIDs: [Int] { threads.map(\.id) }

    /// Workers that share a processor, which halves what each can do.
    public var hasCrowdedProcessors: Bool { Set(threads.map(\.cpu)).count < threads.count }

    /// Keeps the calling thread, and those it starts, off the workers' processors, if there are others.
    public func leaveProcessorsToWorkers() {
        let others = allowedProcessors().filter { cpu in !threads.contains { $0.cpu == cpu } }.map(Int32.init)
        if !others.isEmpty { _ = clinux_keep_thread_to(others, Int32(others.count)) }
    }

    /// Ends: as the policy says, the wire is off, or goes on without this process.
    public func stop() {
        if isStopped { return }
        isStopped = true
        guard isStarted else { return undoStart() }
        if failing.actions.stopping == .closed { takeOff() } else { leaveHeld() }
    }

    /// Ends for a bridge that takes over. If the program outlives this process, that one has put its own in its place.
    public func makeWay() {
        if isStopped { return }
        isStopped = true
        if failing.actions.isClosed { takeOff() } else { leaveHeld() }
    }

    /// A start that failed leaves everything as it was: a wire that was held stays so, by the program that held it.
    private func undoStart() {
        program.giveBack()
        if hasTakenOver {
            program.release()
            release()
            for preparation in preparations { preparation.leave() }
        } else if !preparations.isEmpty {
            return takeOff()
        }
        program.detach()
        unlock()
    }

    private var isStopped = false
    private var isStarted = false

    private func takeOff() {
        // The program goes first: a socket closed under load upsets some drivers.
        remains.removeLinks()
        program.detach()
        release()
        for preparation in preparations { preparation.restore() }
        remains.removeRecord()
        unlock()
    }

    /// Ends the workers, those of a start that failed half-way too. Then the queues are another process's to bind.
    private func release() {
        for thread in threads { thread.stop() }
        mirror?.stop()
        threads = []
        sockets = []
    }

    private func unlock() {
        remains.unlock(lock)
        lock = -1
    }

    private func leaveHeld() {
        program.setState(.stopping)
        // What is in the rings still goes out, also what a program that saw the state before puts there.
        clinux_xdp_wait_for_programs()
        for _ in 0..<drainPatience where threads.contains(where: { $0.hasFramesInFlight }) { usleep(1000) }
        release()
        program.detach()
        for preparation in preparations { preparation.leave() }
        unlock()
    }

    /// Takes what a bridge has left on its ports off them, and gives them back as they were.
    ///
    /// - Returns: whether there was anything; nil: a bridge runs on them.
    public static func detach(inside: String, outside: String) -> Bool? {
        let remains = BridgeRemains(inside: inside, outside: outside)
        guard let lock = remains.lock() else { return nil }
        defer { remains.unlock(lock) }
        let hadLinks = remains.hasLinks
        remains.removeLinks()
        var hadSettings = false
        for (side, name) in zip(Side.allCases, [inside, outside]) {
            guard let port = try? NetworkPort(name) else { continue }
            let settings = remains.settings(of: port, side)
            hadSettings = hadSettings || !settings.isEmpty
            PortPreparation(port, inherited: settings).restore()
        }
        remains.removeRecord()
        return hadLinks || hadSettings
    }

    // MARK: - Set-up

    private static func attach(_ program: XDPProgram, _ ports: [NetworkPort]) throws(DatapathError) {
        for (side, port) in zip(Side.allCases, ports) { try attach(program, port, side, native: true) }
        guard program.modes.values.contains("generic") else { return }
        // Both alike: a native program cannot redirect to a port without one.
        program.release()
        for (side, port) in zip(Side.allCases, ports) { try attach(program, port, side, native: false) }
    }

    private static func attach(_ program: XDPProgram, _ port: NetworkPort, _ side: Side, native wanted: Bool) throws(DatapathError) {
        var waited = 0
        while true {
            let native = wanted ? program.attach(port, side, native: true) : 0
            if wanted, native == 0 { return }
            // A program is there already: native or generic makes no difference.
            var code = native
            if native != EBUSY && native != EEXIST {
                code = program.attach(port, side, native: false)
                if code == 0 { return }
                if code != EBUSY && code != EEXIST {
                    throw DatapathError(
                        "attaching the XDP program to \(port.name) (native: \(name(of: native)); generic)", code: code,
                        hint: DatapathError.usualHint(code, port: port.name))
                }
            }
            // A process that was just killed is still being taken apart.
            if waited >= releasePatience {
                let attached = port.attachedProgram
                let found = attached.map { "\($0.name), id \($0.id)" } ?? "unknown"
                throw DatapathError(
                    "attaching the XDP program to \(port.name), which has one already (\(found))", code: code,
                    hint: attached?.isOurs == true
                        ? "another sekisho bridges this port; stop it first"
                        : "if you do not need it: ip link set dev \(port.name) xdp off")
            }
            usleep(50_000)
            waited += 50
        }
    }

    private static func name(of code: Int32) -> String { String(cString: clinux_errno_name(code)) }

    private func bindWorkers(_ plan: WorkerPlan, _ ports: [NetworkPort]) throws(DatapathError) {
        let canZeroCopy = program.modes.values.allSatisfy { $0 == "native" }
        var attempts: [UInt16] = [UInt16(XDP_COPY)]
        if canZeroCopy { attempts.insert(UInt16(XDP_ZEROCOPY), at: 0) }
        var failure: DatapathError?
        for flags in attempts {
            do throws(DatapathError) {
                for (index, worker) in plan.workers.enumerated() {
                    try bind(index, worker, plan, ports, flags | (plan.needsChains ? UInt16(clinux_XDP_USE_SG) : 0))
                }
                socketModes = ports.map { port in
                    sockets.joined().allSatisfy { $0.port != port.name || $0.mode == .zeroCopy } ? .zeroCopy : .copy
                }
                return
            } catch {
                failure = error
                threads = []
                trafficRings = []
                sockets = []
                socketPlaces = []
                queueDescriptors = [[], []]
            }
        }
        throw failure!
    }

    private func bind(
        _ index: Int, _ worker: WorkerPlan.Worker, _ plan: WorkerPlan, _ ports: [NetworkPort], _ flags: UInt16
    ) throws(DatapathError) {
        let socketCount = worker.queues[0].count + worker.queues[1].count
        let frames = try FrameMemory(frameCount: framesPerSocket * socketCount, frameSize: plan.frameSize)
        let entries = UInt32(framesPerSocket * socketCount).nextPowerOfTwo
        let sizes = RingSizes(fill: entries, completion: entries)
        var own: [XSKSocket] = []
        for (port, queues) in worker.queues.enumerated() {
            for queue in queues {
                let side = Side(rawValue: UInt8(port))!
                try program.set(worker: index, judge: worker.cpu, of: queue, ports[port], side)
                own.append(
                    try XSKSocket(
                        port: ports[port].name, queue: queue, frames: frames, isFirst: own.isEmpty, sizes: sizes,
                        stamped: program.stampedFrames(side, queue: queue)))
            }
        }
        let rings = UnsafeMutablePointer<WorkerSocket>.allocate(capacity: socketCount)
        for (i, socket) in own.enumerated() {
            (rings + i).initialize(
                to: WorkerSocket(
                    rx: socket.rx, tx: socket.tx, fill: socket.fill, completion: socket.completion,
                    descriptor: socket.descriptor, stamped: socket.stamped))
        }
        let published = publisher.view(index)
        var loop = Worker(
            index: index, frames: frames, sockets: rings, insideCount: worker.queues[0].count,
            outsideCount: worker.queues[1].count, published: published, counters: .allocate(), latencyTag: latencyTag, flows: flows,
            grace: flowPlan.graceSeconds)
        loop.prepare()
        var i = 0
        for (port, queues) in worker.queues.enumerated() {
            for queue in queues {
                try Self.bind(own[i], ports[port], queue, shared: i == 0 ? nil : own[0].descriptor, flags, plan)
                own[i].raiseTransmitBudget(to: sizes.tx)
                queueDescriptors[port].append((queue, own[i].descriptor))
                i += 1
            }
        }
        let trafficRing = configuration.records ? TrafficRing() : nil
        loop.recorder = trafficRing.map { TrafficRecorder.allocate(ring: $0) }
        loop.mirror = mirror?.addRing().writer
        threads.append(
            try WorkerThread(
                index: index, cpu: worker.cpu, idle: configuration.idle, worker: loop, published: published,
                descriptors: own.map(\.descriptor), heartbeat: program.heartbeat(worker: index), trafficRing: trafficRing))
        if let trafficRing { trafficRings.append(trafficRing) }
        sockets.append(own)
        socketPlaces.append(
            worker.queues.enumerated().flatMap { port, queues in queues.map { (Side(rawValue: UInt8(port))!, $0) } })
    }

    private static func bind(
        _ socket: XSKSocket, _ port: NetworkPort, _ queue: Int, shared: Int32?, _ flags: UInt16, _ plan: WorkerPlan
    ) throws(DatapathError) {
        var code = socket.bind(ifindex: port.index, queue: queue, shared: shared, flags: flags)
        var waited = 0
        // The queue's former socket is closed, but the kernel frees it later.
        while code == EBUSY && waited < releasePatience {
            usleep(50_000)
            waited += 50
            code = socket.bind(ifindex: port.index, queue: queue, shared: shared, flags: flags)
        }
        guard code != 0 else { return }
        var hint = DatapathError.usualHint(code, port: port.name)
        if plan.needsChains && (code == EINVAL || code == EOPNOTSUPP) {
            hint = "frames of this MTU need multi-buffer AF_XDP (Linux 6.6 and a driver that has it); "
                + "set both MTUs to 3500 or less"
        }
        throw DatapathError("binding an AF_XDP socket to \(port.name) queue \(queue)", code: code, hint: hint)
    }

    /// Set-up that failed, or a process that forgot: nothing of it may stay, but for what the policy wants to stay.
    deinit { stop() }
}

extension UInt32 {
    var nextPowerOfTwo: UInt32 { self <= 1 ? 1 : 1 << (32 - (self - 1).leadingZeroBitCount) }
}

// MARK: - What can be read while it runs

/// A port's cable, as far as the port knows.
public enum LinkState: String, Sendable {
    case up, down
    /// The port was removed; the bridge must be started again.
    case gone
}

/// A port as it is now.
public struct PortSnapshot: Sendable {
    public var name: String
    public var driver: String
    public var xdpMode: String
    public var socketMode: SocketMode
    public var hasCarrier: Bool
    public var mtu: Int
    public var queues: Int
    public var kernel = KernelCounts()
}

/// A worker as it is now.
public struct WorkerSnapshot: Sendable {
    public var index: Int
    public var cpu: Int
    public var isPinned: Bool
    public var isConfined: Bool
    public var threadID: Int
    public var polls: UInt64
    public var sleeps: UInt64
    public var kicks: UInt64
    public var kickErrors: UInt64
    public var frames: Int
    public var freeFrames: Int
    public var umemBytes: Int
    public var usesHugePages: Bool
    /// Entries in each ring, summed over the worker's sockets.
    public var rx: Int
    public var tx: Int
    public var fill: Int
    public var completion: Int
}

/// The flow table as it is now.
public struct FlowSnapshot: Sendable {
    public var counts = FlowCounts()
    public var capacity: Int
    public var bytes: Int
}

public struct BridgeSnapshot: Sendable {
    public var ports: [Side: PortSnapshot]
    public var workers: [WorkerSnapshot]
    /// What workers judged.
    public var directions: [Side: DirectionCounts]
    /// What no worker judged: `received` is what came, and what became of it.
    public var kernel: [Side: DirectionCounts]
    public var ruleHits: [String: UInt64]
    /// Of all workers; nil: no flows are kept.
    public var flows: FlowSnapshot?
    /// nil: there is no mirror port.
    public var mirror: MirrorSnapshot?
    public var failures: [FailureEpisodes]
}

extension Bridge {
    public func snapshot() -> BridgeSnapshot {
        var ports: [Side: PortSnapshot] = [:]
        for side in Side.allCases {
            let own = self.ports[Int(side.rawValue)]
            var port = PortSnapshot(
                name: own.name, driver: own.driver, xdpMode: program.modes[side] ?? "none",
                socketMode: socketModes[Int(side.rawValue)], hasCarrier: own.hasCarrier, mtu: own.mtu,
                queues: queueDescriptors[Int(side.rawValue)].count)
            // Before what was judged is read: what is under way must not look lost.
            let sent = queueDescriptors[Int(side.rawValue)].reduce(0) { $0 + program.sentAway(side, queue: $1.0) }
            if sent > 0 {
                let judged = program.counts(side).received.frames
                port.kernel.ringFull += sent > judged ? sent - judged : 0
            }
            for (_, descriptor) in queueDescriptors[Int(side.rawValue)] {
                let counts = XSKSocket.statistics(descriptor)
                port.kernel.dropped += counts.dropped
                port.kernel.ringFull += counts.ringFull
                port.kernel.fillEmpty += counts.fillEmpty
                port.kernel.invalid += counts.invalid
            }
            ports[side] = port
        }
        var directions: [Side: DirectionCounts] = [:]
        var kernel: [Side: DirectionCounts] = [:]
        for side in Side.allCases {
            var sum = DirectionCounts()
            for thread in threads { sum += thread.counters.counts(side) }
            directions[side] = sum
            kernel[side] = program.counts(side)
        }
        var flowSnapshot: FlowSnapshot?
        if let flows {
            var snapshot = FlowSnapshot(capacity: flows.capacity, bytes: flows.bytes)
            for thread in threads { snapshot.counts += thread.counters.flows }
            flowSnapshot = snapshot
        }
        return BridgeSnapshot(
            ports: ports, workers: threads.map(\.snapshot), directions: directions, kernel: kernel,
            ruleHits: publisher.hits().merging(program.ruleHits(), uniquingKeysWith: &+), flows: flowSnapshot, mirror: mirror?.snapshot,
            failures: program.episodes())
    }
}

extension Bridge {
    /// Latencies of timed frames since the start, of those queues, verdicts and stages that have any.
    public func latencies() -> [LatencySeries] {
        var series: [LatencySeries] = []
        for (index, thread) in threads.enumerated() {
            for (socket, place) in socketPlaces[index].enumerated() {
                for isAllowed in [true, false] {
                    for stage in LatencyStage.allCases {
                        let histogram = thread.latency.histogram(socket: socket, isAllowed: isAllowed, stage: stage)
                        if histogram.counts.isEmpty { continue }
                        series.append(
                            LatencySeries(
                                from: place.side, queue: place.queue, worker: index, isAllowed: isAllowed, stage: stage,
                                histogram: histogram))
                    }
                }
            }
        }
        return series
    }
}

extension WorkerThread {
    fileprivate var snapshot: WorkerSnapshot {
        func sum(_ ring: (RingOccupancy) -> RingMemory) -> Int { occupancies.reduce(0) { $0 + Int(ring($1).occupancy) } }
        return WorkerSnapshot(
            index: index, cpu: cpu, isPinned: pinningError == 0, isConfined: isConfined, threadID: id, polls: counters.value(.polls),
            sleeps: counters.value(.sleeps), kicks: counters.value(.kicks),
            kickErrors: counters.value(.kickErrors), frames: frameCount, freeFrames: Int(counters.value(.freeFrames)),
            umemBytes: umemBytes, usesHugePages: usesHugePages,
            rx: sum(\.rx), tx: sum(\.tx), fill: sum(\.fill), completion: sum(\.completion))
    }
}
