// A worker between ports whose kernel is slow, stalls, refuses kicks, goes down and comes back, as a seed says. Whatever it
// does, every frame of the UMEM is in one place, and every frame received has one fate. A failure names its seed.

import Allowlist
import Frames
import Glibc
import Testing
import TestSupport

@testable import Datapath

@Suite struct RandomFaultTests {
    @Test(arguments: 0..<8)
    func framesAreConservedUnderFaults(group: Int) throws {
        var seen = FaultRun.Seen()
        for seed in UInt64(group * 5)..<UInt64(group * 5 + 5) {
            let run = try FaultRun(seed: seed)
            do throws(Violation) {
                try run.run()
            } catch {
                Issue.record("seed \(seed), turn \(run.turn): \(error.what)")
            }
            seen += run.seen
        }
        // Enough of everything, or the runs say little.
        #expect(
            seen.sent > 3000 && seen.denied > 2000 && seen.dropped > 1000 && seen.refusedKicks > 1000 && seen.acceptedKicks > 100
                && seen.wholeBursts > 20, "\(seen)")
    }
}

/// A promise that was not kept.
private struct Violation: Error {
    let what: String
    init(_ what: String) { self.what = what }
}

/// How the kernel treats one queue for some turns.
private struct Mood {
    var turns: Int
    // How many it takes, completes, … at most at once.
    var transmits = 64
    var completes = 64
    var buffers = 256
    var receives = 128
    /// What a kick ends with, though the kernel may have sent something before.
    var refusal: Int32 = 0

    static let fair = Mood(turns: .max, transmits: .max, completes: .max, buffers: .max, receives: .max)

    static func random(_ random: inout SplitMix) -> Mood {
        var mood = Mood(turns: Int.random(in: 1...40, using: &random))
        switch Int.random(in: 0..<9, using: &random) {
        case 0: mood.transmits = 3
        case 1: mood.completes = 3
        case 2:
            // A TX ring that fills up and stays full.
            mood.transmits = 0
            mood.turns += 40
        case 3:
            // Completions that are long in coming, until the worker has nothing left to receive into.
            mood.completes = 0
            mood.turns += 40
        case 4: (mood.buffers, mood.receives) = (2, 8)
        case 5, 6:
            mood.refusal = [EAGAIN, EBUSY, ENOBUFS].randomElement(using: &random)!
            mood.transmits = [0, 8].randomElement(using: &random)!
        case 7:
            // The port is down.
            mood.refusal = [ENETDOWN, ENXIO].randomElement(using: &random)!
            mood.transmits = 0
        default: break
        }
        return mood
    }
}

/// What came in by one queue and may leave by another.
private struct Flow {
    var passing: [[UInt8]] = []
    /// Those before it were sent, or dropped.
    var position = 0
    var sent = 0
    /// The queue that the first of them left by.
    var out: Int?

    var dropped: Int { passing.count - sent }
}

private final class FaultRun {
    /// What a run has come across.
    struct Seen {
        var sent = 0, denied = 0, dropped = 0, refusedKicks = 0, acceptedKicks = 0, wholeBursts = 0

        static func += (a: inout Seen, b: Seen) {
            a.sent += b.sent
            a.denied += b.denied
            a.dropped += b.dropped
            a.refusedKicks += b.refusedKicks
            a.acceptedKicks += b.acceptedKicks
            a.wholeBursts += b.wholeBursts
        }
    }

    private(set) var seen = Seen()
    private(set) var turn = 0
    private var random: SplitMix
    private let bed: Bed
    private let mode: Mode
    private let frameSize: Int
    private let ringSize: Int
    /// Buffers one frame may have: no more than rings and frames to receive into can hold at once.
    private let longestFrame: Int
    /// Whether the worker sleeps now and then, as it does when there is little to do; else it must come back by polling.
    private let sleeps: Bool
    private var moods: [Mood]
    /// Whether a queue's last kick was told that the port is down. The worker believes so until it is told otherwise.
    private var saidDown: [Bool]
    /// By side: whether there was a reason to drop since the last check, and what was dropped until then.
    private var mayDrop = [false, false]
    private var droppedBefore: [UInt64] = [0, 0]
    private var flows: [Flow]
    private var serial: UInt32 = 0
    // By side: what was put on the wire, and what must be counted under each cause.
    private var offered = [Traffic](repeating: Traffic(), count: 2)
    private var expectedDenied = [[UInt64]](repeating: [UInt64](repeating: 0, count: Cause.capacity), count: 2)
    private var expectedNoted = [[UInt64]](repeating: [UInt64](repeating: 0, count: Cause.capacity), count: 2)

    init(seed: UInt64) throws {
        var random = SplitMix(seed)
        let count = (inside: Int.random(in: 1...3, using: &random), outside: Int.random(in: 1...3, using: &random))
        let sockets = count.inside + count.outside
        let perSocket = [128, 256, 400].randomElement(using: &random)!
        ringSize = [32, 64, 128, 256].randomElement(using: &random)!
        frameSize = [2048, 4096].randomElement(using: &random)!
        mode = Int.random(in: 0..<4, using: &random) == 0 ? .monitor : .enforce
        longestFrame = min(ringSize, perSocket / 2 - 32, 64)
        sleeps = Int.random(in: 0..<3, using: &random) > 0
        var source = policy
        source.mode = mode
        // Also where the rings' 32-bit indices wrap.
        let first = [0, UInt32.max - 100, UInt32.random(in: 0...UInt32.max, using: &random)].randomElement(using: &random)!
        bed = try Bed(
            source, frames: perSocket * sockets, frameSize: frameSize, ringSize: UInt32(ringSize), startingAt: first, queues: count,
            areKicked: true)
        moods = (0..<sockets).map { _ in Mood.random(&random) }
        saidDown = [Bool](repeating: false, count: sockets)
        flows = [Flow](repeating: Flow(), count: sockets)
        self.random = random
        for i in 0..<sockets {
            bed.queues[i].onTransmitKick = { [unowned self] in transmitKick(i) }
            bed.queues[i].onReceiveKick = { [unowned self] in bed.queues[i].takeBuffers(upTo(moods[i].buffers)) }
        }
    }

    func run() throws(Violation) {
        for _ in 0..<100 {
            for i in bed.queues.indices {
                changeMood(i)
                offer(i)
            }
            if sleeps, chance(20) { bed.worker.pointee.retryStuckPorts() }
            step()
            try check()
        }
        // A worker that never sleeps asks a port that was down every 1024 turns.
        try drain(turns: sleeps ? 4 : 1030)
        try expectFates()
        // As if nothing had been.
        let dropped = flows.map(\.dropped)
        for _ in 0..<4 {
            for i in bed.queues.indices {
                for _ in 0..<8 { put(segment(5000, length: 60), from: i, cause: .none, buffers: frameSize) }
            }
            step()
            try check()
        }
        try drain(turns: 4)
        try expectFates()
        for i in flows.indices where flows[i].dropped != dropped[i] {
            throw Violation("faults are over, and \(flows[i].dropped - dropped[i]) of 32 frames from queue \(i) are dropped")
        }
    }

    // MARK: - The kernel

    private func changeMood(_ i: Int) {
        moods[i].turns -= 1
        guard moods[i].turns <= 0 else { return }
        moods[i] = .random(&random)
        bed.queues[i].transmitSleeps = !chance(3)
        bed.queues[i].receiveSleeps = chance(3)
    }

    private func step() {
        turn += 1
        for (i, queue) in bed.queues.enumerated() {
            let mood = moods[i]
            if !queue.receiveSleeps { queue.takeBuffers(upTo(mood.buffers)) }
            queue.receive(upTo(mood.receives), &random)
            if !queue.transmitSleeps { queue.transmit(upTo(mood.transmits)) }
            queue.complete(upTo(mood.completes), &random)
        }
        let before = Side.allCases.map(hasRoom)
        _ = bed.worker.pointee.poll()
        for side in Side.allCases where !before[Int(side.rawValue)] || queues(across: side).contains(where: { saidDown[$0] }) {
            mayDrop[Int(side.rawValue)] = true
        }
    }

    /// Whether all that one turn may take from a side's RX rings can go to whichever queue of the other port.
    private func hasRoom(_ side: Side) -> Bool {
        let most = queues(of: side).reduce(0) { $0 + min(Int(bed.queues[$1].received), 64) }
        return queues(across: side).allSatisfy { !saidDown[$0] && Int(bed.queues[$0].toTransmit) + most <= ringSize }
    }

    /// In copy mode the kernel sends within the call, and what it has sent may be completed before the call returns.
    private func transmitKick(_ i: Int) -> Int32 {
        let mood = moods[i]
        bed.queues[i].transmit(mood.transmits == .max ? ringSize : min(upTo(mood.transmits), 32))
        if chance(4) { bed.queues[i].complete(upTo(mood.completes), &random) }
        let error = mood.refusal != 0 ? mood.refusal : bed.queues[i].toTransmit > 0 ? EAGAIN : 0
        if error == 0 { seen.acceptedKicks += 1 } else { seen.refusedKicks += 1 }
        saidDown[i] = error == ENETDOWN || error == ENXIO
        return error
    }

    /// Faults end, and what was on its way arrives.
    ///
    /// - Parameter turns: in which nothing may be on its way any more.
    private func drain(turns: Int) throws(Violation) {
        for i in moods.indices { moods[i] = .fair }
        if sleeps { bed.worker.pointee.retryStuckPorts() }
        var quiet = 0
        for k in 0..<4000 {
            step()
            if k % 16 == 0 { try check() }
            let isQuiet = bed.worker.pointee.census.inFlight == 0 && bed.queues.allSatisfy { $0.arriving.isEmpty && $0.received == 0 }
            quiet = isQuiet ? quiet + 1 : 0
            if quiet >= turns { return try check() }
        }
        throw Violation("frames are still on their way: \(bed.worker.pointee.census)")
    }

    // MARK: - The wire

    /// A burst of none to as many frames as the RX ring holds.
    private func offer(_ i: Int) {
        guard bed.queues[i].arriving.count < ringSize else { return }
        var count = chance(3) ? 0 : number(16)
        if chance(16) {
            count = ringSize
            seen.wholeBursts += 1
        }
        for _ in 0..<count {
            switch number(12) {
            case 0:
                let frame = Self.malformed.randomElement(using: &random)!
                put(frame.bytes, from: i, cause: frame.cause, buffers: frameSize)
            case 1: put([UInt8](repeating: 2, count: 1 + number(13)), from: i, cause: .truncated, buffers: frameSize)
            case 2, 3, 4: put(segment(5001, length: someLength()), from: i, cause: .notInPolicy, buffers: frameSize)
            case 5:
                let buffers = chance(4) ? 1 + number(longestFrame) : 2
                let size = buffers > 4 ? 256 : 256 + number(frameSize - 512)
                put(segment(5000, length: buffers * size - number(100)), from: i, cause: .none, buffers: size)
            default: put(segment(5000, length: someLength()), from: i, cause: .none, buffers: frameSize)
            }
        }
    }

    /// Puts a frame on the wire, marked so that it is told from all others.
    ///
    /// - Parameters:
    ///   - cause: what a policy that enforces denies it for.
    ///   - size: bytes of a buffer, as far as there is room for them.
    private func put(_ bytes: [UInt8], from i: Int, cause: Cause, buffers size: Int) {
        var frame = bytes
        serial += 1
        // In the source address, which no rule and no binding looks at; a frame without one begins with its queue.
        if frame.count < 12 {
            frame[0] = UInt8(i)
        } else {
            frame[7] = UInt8(i)
            for k in 0..<4 { frame[8 + k] = UInt8(truncatingIfNeeded: serial >> (8 * UInt32(k))) }
        }
        let capacity = min(size, frameSize - 256)
        bed.queues[i].send(frame, buffers: capacity)
        let side = i < bed.insideCount ? 0 : 1
        offered[side] += Traffic(frames: 1, bytes: UInt64(frame.count))
        // The kernel's own limit: 45 fragments and the head.
        let isChain = (frame.count + capacity - 1) / capacity > 46
        if mode == .enforce, cause != .none {
            expectedDenied[side][Int(cause.rawValue)] += 1
            return
        }
        if cause != .none { expectedNoted[side][Int(cause.rawValue)] += 1 }
        if isChain { expectedDenied[side][Int(Cause.frameChain.rawValue)] += 1 } else { flows[i].passing.append(frame) }
    }

    /// TCP over IPv4, of an exact length; most of it noise.
    private func segment(_ port: UInt16, length: Int) -> [UInt8] {
        let header = port == 5000 ? (chance(2) ? allowed : reply) : denied
        var frame = header + Self.noise[(Int(serial) % 997)...].prefix(length - header.count)
        frame[16] = UInt8((length - 14) >> 8)
        frame[17] = UInt8((length - 14) & 0xFF)
        return frame
    }

    /// Headers alone, all a buffer holds, or something between.
    private func someLength() -> Int {
        switch number(8) {
        case 0: allowed.count
        case 1: frameSize - 256
        case 2: allowed.count + number(frameSize - 256 - allowed.count)
        default: allowed.count + number(100)
        }
    }

    private static let noise: [UInt8] = {
        var random = SplitMix(0)
        return (0..<20_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }()

    private static let malformed: [(bytes: [UInt8], cause: Cause)] = FrameCorpus.frames.compactMap { frame in
        guard frame.wireLength == frame.bytes.count, 14...1700 ~= frame.wireLength else { return nil }
        return Cause.ofParser.first { $0.name == frame.cause }.map { (frame.bytes, $0.cause) }
    }

    // MARK: - What must hold

    /// After any turn.
    private func check() throws(Violation) {
        try expectEachInOnePlace()
        for (i, queue) in bed.queues.enumerated() {
            for frame in queue.takeSent() { try match(frame, out: i) }
            if queue.overwritten > 0 { throw Violation("queue \(i): a buffer was written to while the kernel sent it") }
        }
        for side in Side.allCases {
            let counts = bed.counters.counts(side)
            var fates = counts.forwarded
            for traffic in counts.denied { fates += traffic }
            if counts.received != fates { throw Violation("from \(side): received \(counts.received), forwarded and denied \(fates)") }
            let i = Int(side.rawValue)
            let dropped = counts.denied[Int(Cause.transmitFull.rawValue)].frames
            if dropped != droppedBefore[i] && !mayDrop[i] {
                throw Violation("from \(side): \(dropped - droppedBefore[i]) frames dropped, though there was room")
            }
            droppedBefore[i] = dropped
            mayDrop[i] = false
            let sent = flows[queues(of: side)].reduce(0) { $0 + $1.sent }
                + bed.queues[queues(across: side)].reduce(0) { $0 + $1.framesToTransmit }
            if counts.forwarded.frames != sent {
                throw Violation("from \(side): \(counts.forwarded.frames) frames counted as forwarded, \(sent) sent or in a TX ring")
            }
        }
    }

    private func expectEachInOnePlace() throws(Violation) {
        var free = bed.worker.pointee.frames.free
        var places: [(name: String, addresses: [UInt64])] = [("free list", (0..<free.count).map { _ in free.take() })]
        var filled = 0, inFlight = 0
        for (i, queue) in bed.queues.enumerated() {
            let ofQueue = queue.places
            for (name, addresses) in ofQueue { places.append(("\(name) of queue \(i)", addresses)) }
            filled += ofQueue[..<3].reduce(0) { $0 + $1.addresses.count }
            inFlight += ofQueue[3...].reduce(0) { $0 + $1.addresses.count }
        }
        var place = [Int](repeating: -1, count: bed.frameCount)
        for (p, (name, addresses)) in places.enumerated() {
            for address in addresses {
                let frame = Int(address) / frameSize
                if place[frame] >= 0 { throw Violation("frame \(frame) is in two places: \(places[place[frame]].name), \(name)") }
                place[frame] = p
            }
        }
        if let lost = place.firstIndex(of: -1) { throw Violation("frame \(lost) is nowhere") }
        let census = bed.worker.pointee.census
        let counted = FrameCensus(free: places[0].addresses.count, inFlight: inFlight, filled: filled)
        if census != counted { throw Violation("the worker believes in \(census), there is \(counted)") }
    }

    /// A frame left: the next of its flow, or one behind some that were dropped, and unchanged.
    private func match(_ frame: [UInt8], out: Int) throws(Violation) {
        let from = Int(frame.count < 12 ? frame[0] : frame[7])
        guard flows.indices.contains(from) else { throw Violation("queue \(out) sends a frame that never came") }
        let isAcross = (from < bed.insideCount) != (out < bed.insideCount)
        guard isAcross, flows[from].out ?? out == out else { throw Violation("a frame from queue \(from) leaves by queue \(out)") }
        flows[from].out = out
        let passing = flows[from].passing
        guard let position = passing[flows[from].position...].firstIndex(of: frame) else {
            let what = passing.contains(frame) ? "twice, or out of order" : "that never came, or may not pass"
            throw Violation("queue \(out) sends a frame from queue \(from) \(what)")
        }
        flows[from].position = position + 1
        flows[from].sent += 1
        seen.sent += 1
    }

    /// When nothing is on its way: each frame that came was sent, or is counted under its cause.
    private func expectFates() throws(Violation) {
        seen.dropped = 0
        seen.denied = 0
        for side in Side.allCases {
            let i = Int(side.rawValue)
            let counts = bed.counters.counts(side)
            if counts.received != offered[i] { throw Violation("from \(side): \(offered[i]) came, \(counts.received) counted") }
            var causes = expectedDenied[i]
            let dropped = flows[queues(of: side)].reduce(0) { $0 + $1.dropped }
            causes[Int(Cause.transmitFull.rawValue)] = UInt64(dropped)
            seen.dropped += dropped
            seen.denied += expectedDenied[i].reduce(0) { $0 + Int($1) }
            for cause in 0..<Cause.capacity {
                let name = Cause(rawValue: UInt8(cause)).name
                if counts.denied[cause].frames != causes[cause] {
                    throw Violation("from \(side): \(counts.denied[cause].frames) denied as \(name), not \(causes[cause])")
                }
                if counts.noted[cause].frames != expectedNoted[i][cause] {
                    throw Violation("from \(side): \(counts.noted[cause].frames) noted as \(name), not \(expectedNoted[i][cause])")
                }
            }
        }
    }

    /// The queues of a side's own port, and of the other.
    private func queues(of side: Side) -> Range<Int> { side == .inside ? 0..<bed.insideCount : bed.insideCount..<bed.queues.count }
    private func queues(across side: Side) -> Range<Int> { queues(of: side == .inside ? .outside : .inside) }

    // MARK: - Chance

    private func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }
    private func chance(_ oneIn: Int) -> Bool { number(oneIn) == 0 }
    /// 0 to `most`; all there is if there is no limit.
    private func upTo(_ most: Int) -> Int { most == .max ? 1 << 20 : number(most + 1) }
}
