// From the counters of the data path to what a person reads.

import Allowlist
import CLinux
import Datapath
import Frames

extension StatusReport {
    init(
        mode: String, idle: String, pid: Int, uptimeSeconds: Double, residentBytes: Int, policy: Policy,
        failing: FailurePlan, identities known: Identities, recording: Recording?, quarantine: [QuarantineOrder], audit: Audit?, detection: Detection?,
        snapshot: BridgeSnapshot, rules: [Rule],
        processorPercent: [Int: Double]
    ) {
        self.mode = mode
        self.idle = idle
        self.pid = pid
        self.uptimeSeconds = uptimeSeconds
        self.residentBytes = residentBytes
        self.policy = policy
        judging = Judging(failing, snapshot)
        ports = [:]
        for (side, port) in snapshot.ports {
            ports["\(side)"] = Port(
                name: port.name, driver: port.driver, xdp: port.xdpMode, afXdp: port.socketMode.rawValue,
                link: port.hasCarrier ? "up" : "down", mtu: port.mtu, queues: port.queues,
                lost: Lost(
                    ringFull: port.kernel.ringFull, fillEmpty: port.kernel.fillEmpty,
                    other: port.kernel.dropped &+ port.kernel.invalid))
        }
        directions = [:]
        var denied = [Traffic](repeating: Traffic(), count: DenialCause.capacity)
        var noted = denied
        for (side, workers) in snapshot.directions {
            var counts = workers
            if let kernel = snapshot.kernel[side] { counts += kernel }
            var sum = Traffic()
            for cause in 0..<DenialCause.capacity {
                denied[cause] += counts.denied[cause]
                noted[cause] += counts.noted[cause]
                sum += counts.denied[cause]
            }
            directions["\(side)_to_\(side.other)"] = Direction(
                received: Count(counts.received), forwarded: Count(counts.forwarded), denied: Count(sum))
        }
        self.denied = Self.causes(denied)
        wouldDeny = Self.causes(noted)
        flows = snapshot.flows.map { Flows($0) }
        mirror = snapshot.mirror.map { Mirror($0) }
        identities = Addresses(
            known: known.count, changes: known.changeCount, forgotten: known.forgotten,
            latest: known.changes.suffix(32).reversed().map {
                Addresses.Change(
                    at: $0.at, address: $0.address, mac: $0.mac, side: "\($0.side)", beforeMac: $0.before?.mac,
                    beforeSide: $0.before.map { "\($0.side)" }, denied: $0.cause == .none ? nil : $0.cause.name, times: $0.times, text: $0.text)
            })
        self.recording = recording
        self.quarantine = quarantine
        self.audit = audit
        self.detection = detection
        self.rules = rules
        workers = snapshot.workers.map { worker in
            Worker(
                index: worker.index, cpu: worker.cpu, pinned: worker.isPinned, confined: worker.isConfined,
                cpuPercent: ((processorPercent[worker.index] ?? 0) * 10).rounded() / 10,
                frames: Frames(
                    total: worker.frames, free: worker.freeFrames, bytes: worker.umemBytes, hugePages: worker.usesHugePages),
                rings: Rings(rx: worker.rx, tx: worker.tx, fill: worker.fill, completion: worker.completion),
                sleeps: worker.sleeps, kicks: worker.kicks, kickErrors: worker.kickErrors)
        }
    }

    /// Largest first.
    private static func causes(_ counts: [Traffic]) -> [Cause] {
        counts.enumerated().filter { $0.element.frames > 0 }.sorted { $0.element.frames > $1.element.frames }.map {
            let cause = DenialCause(rawValue: UInt8($0.offset))
            return Cause(cause: cause.name, text: cause.text, frames: $0.element.frames, bytes: $0.element.bytes)
        }
    }
}

extension FailureState {
    /// As in the policy file.
    var name: String {
        switch self {
        case .starting: "starting"
        case .workerDead: "worker_dead"
        case .stopping: "stopping"
        }
    }
}

extension StatusReport.Judging {
    init(_ failing: FailurePlan, _ snapshot: BridgeSnapshot) {
        datapath = failing.onlyKernel ? "kernel" : "worker"
        onFailure = Dictionary(uniqueKeysWithValues: FailureState.allCases.map { ($0.name, failing.actions[$0].name) })
        deadlineMs = failing.deadline
        var sum = Traffic()
        for counts in snapshot.kernel.values { sum += counts.received }
        withoutWorker = StatusReport.Count(sum)
        let clock = clinux_monotonic()
        episodes = snapshot.failures.filter { $0.count > 0 }.map { episode in
            StatusReport.Episode(
                cause: episode.state.name, count: episode.count,
                beganSecondsAgo: (Double(clock &- episode.since) / 1e8).rounded() / 10,
                lastedMs: (Double(episode.end &- episode.since) / 1e4).rounded() / 100, goesOn: episode.isActive)
        }
        let isDead = snapshot.failures.contains { $0.state == .workerDead && $0.isActive }
        now = isDead ? failing.actions.workerDead.name : datapath
    }
}

extension StatusReport.Count {
    init(_ traffic: Traffic) {
        self.init(frames: traffic.frames, bytes: traffic.bytes)
    }
}

extension StatusReport.Flows {
    init(_ snapshot: FlowSnapshot) {
        let counts = snapshot.counts
        self.init(
            capacity: snapshot.capacity, now: counts.made > counts.ended ? counts.made - counts.ended : 0, bytes: snapshot.bytes,
            made: counts.made, pickedUp: counts.pickedUp, pushedOut: counts.pushedOut, refused: counts.refused, cut: counts.cut,
            contended: counts.contended)
    }
}
