import Allowlist
import Glibc
import CLinux
import Frames
import Synchronization
import Testing
import TestSupport

@testable import Datapath

/// A worker between two fake ports, of one queue each if nothing is said.
final class Bed {
    static let tag: UInt16 = 0x5EC1

    /// The inside port's queues, then the outside port's, as the worker has its sockets.
    let queues: [FakePort]
    let insideCount: Int
    var inside: FakePort { queues[0] }
    var outside: FakePort { queues[insideCount] }
    let publisher = TablePublisher(workerCount: 1)
    let counters = WorkerCounters.allocate()
    let worker: UnsafeMutablePointer<Worker>
    let latency: LatencyRecorder
    let frameCount: Int

    init(
        _ source: AllowlistSource, frames count: Int = 256, frameSize: Int = 2048, ringSize: UInt32 = 128, startingAt index: UInt32 = 0,
        queues queueCount: (inside: Int, outside: Int) = (1, 1), areKicked: Bool = false
    ) throws {
        frameCount = count
        insideCount = queueCount.inside
        let memory = try FrameMemory(frameCount: count, frameSize: frameSize)
        let base = memory.base
        queues = (0..<queueCount.inside + queueCount.outside).map { _ in
            FakePort(base: base, size: ringSize, startingAt: index, frameSize: frameSize, isKicked: areKicked)
        }
        let sockets = UnsafeMutablePointer<WorkerSocket>.allocate(capacity: queues.count)
        for (i, queue) in queues.enumerated() { (sockets + i).initialize(to: queue.socket) }
        let published = publisher.view(0)
        worker = .allocate(capacity: 1)
        worker.initialize(
            to: Worker(
                index: 0, frames: memory, sockets: sockets, insideCount: queueCount.inside, outsideCount: queueCount.outside,
                published: published, counters: counters, latencyTag: Bed.tag))
        latency = worker.pointee.latency
        try publish(source, version: 1)
        published.goOnline()
        worker.pointee.prepare()
    }

    func publish(_ source: AllowlistSource, version: UInt64) throws {
        publisher.publish(
            try CompiledTable.build(source, version: version), ruleNames: source.rules.indices.map { "rule-\($0)" })
    }

    deinit {
        let sightings = worker.pointee.sightings
        defer { sightings.deallocate() }
        worker.deinitialize(count: 1)
        worker.deallocate()
        counters.deallocate()
        latency.deallocate()
    }

    /// Every frame of the UMEM is in exactly one place.
    func expectConservation(_ location: SourceLocation = #_sourceLocation) {
        let census = worker.pointee.census
        #expect(census.total == frameCount, sourceLocation: location)
        let held = (inside.held + outside.held).map { $0 & ~2047 }
        #expect(Set(held).count == held.count, "a frame is in two places", sourceLocation: location)
        #expect(held.count + census.free == frameCount, sourceLocation: location)
    }
}

let policy = AllowlistSource(rules: [
    AllowRule(
        clients: [AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: 0x0A03_000A), length: 32)],
        servers: [AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: 0x0A03_0115), length: 32)],
        services: [ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5000))])
])

let allowed = FrameBuilder.tcpFrame(40000, 5000, flags: 0x02)
let reply = FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000, flags: 0x12)
let denied = FrameBuilder.tcpFrame(40000, 5001, flags: 0x02)

@Suite struct WorkerTests {
    @Test func allowedFramesCrossUnchangedAndDeniedOnesDoNot() throws {
        let bed = try Bed(policy)
        bed.outside.deliver(allowed)
        bed.outside.deliver(denied)
        bed.inside.deliver(reply)
        #expect(bed.worker.pointee.poll() == 3)
        bed.inside.transmit(64)
        bed.outside.transmit(64)
        #expect(bed.inside.sent == [allowed])
        #expect(bed.outside.sent == [reply])
        let counts = bed.counters.counts(.outside)
        #expect(counts.received == Traffic(frames: 2, bytes: UInt64(allowed.count + denied.count)))
        #expect(counts.forwarded == Traffic(frames: 1, bytes: UInt64(allowed.count)))
        #expect(counts.denied[Int(Cause.notInPolicy.rawValue)].frames == 1)
        #expect(bed.publisher.hits() == ["rule-0": 2])
        bed.expectConservation()
    }

    @Test(arguments: [Mode.learn, .monitor])
    func withoutEnforcementEverythingCrossesAndIsNoted(mode: Mode) throws {
        var source = policy
        source.mode = mode
        let bed = try Bed(source)
        let broken = FrameBuilder.tcpFrame(flags: 0)
        for frame in [allowed, denied, broken] { bed.outside.deliver(frame) }
        _ = bed.worker.pointee.poll()
        bed.inside.transmit(64)
        #expect(bed.inside.sent == [allowed, denied, broken])
        let counts = bed.counters.counts(.outside)
        #expect(counts.noted[Int(Cause.notInPolicy.rawValue)].frames == 1)
        #expect(counts.noted[Int(Cause.tcpFlags.rawValue)].frames == 1)
        #expect(counts.denied.allSatisfy { $0.frames == 0 })
    }

    @Test(arguments: [UInt32(0), 0xFFFF_FFC0])
    func framesAreConservedWhateverTheKernelDoes(firstIndex: UInt32) throws {
        // Also across the wrap of the 32-bit ring indices.
        let bed = try Bed(policy, startingAt: firstIndex)
        var random = SplitMix(UInt64(firstIndex) + 1)
        var delivered = 0
        for _ in 0..<3000 {
            for port in [bed.inside, bed.outside] {
                for _ in 0..<Int.random(in: 0...90, using: &random) {
                    let frame = [allowed, denied, reply].randomElement(using: &random)!
                    port.deliver(frame, pieces: Int.random(in: 0..<8, using: &random) == 0 ? 3 : 1)
                    delivered += 1
                }
                // A kernel that is slow, or stops sending for a while.
                if Bool.random(using: &random) { port.transmit(Int.random(in: 0...64, using: &random)) }
                if Bool.random(using: &random) { port.complete(Int.random(in: 0...64, using: &random), &random) }
            }
            _ = bed.worker.pointee.poll()
            bed.expectConservation()
        }
        for _ in 0..<8 {
            for port in [bed.inside, bed.outside] {
                port.transmit(1000)
                port.complete(1000, &random)
            }
            _ = bed.worker.pointee.poll()
        }
        bed.expectConservation()
        #expect(bed.worker.pointee.census.inFlight == 0)
        // Every frame has one fate: received = forwarded + denied, and what the kernel lost never came.
        var received = 0, sent = 0, dropped = 0
        for side in Side.allCases {
            let counts = bed.counters.counts(side)
            received += Int(counts.received.frames)
            sent += Int(counts.forwarded.frames)
            dropped += counts.denied.reduce(0) { $0 + Int($1.frames) }
        }
        #expect(received == sent + dropped)
        #expect(received + bed.inside.lost + bed.outside.lost == delivered)
        #expect(sent == bed.inside.sent.count + bed.outside.sent.count)
        #expect(bed.inside.sent.allSatisfy { $0 == allowed || $0 == reply })
        #expect(sent > 10_000 && dropped > 10_000)
    }

    @Test func aFrameInSeveralBuffersCrossesWhole() throws {
        let bed = try Bed(policy)
        var frame = FrameBuilder()
        frame.ipv4(proto: 6, payload: FrameBuilder.tcp(payload: (0..<4000).map { UInt8($0 & 0xFF) }))
        bed.outside.deliver(frame.bytes, pieces: 3)
        bed.outside.deliver(allowed)
        #expect(bed.worker.pointee.poll() == 2)
        bed.inside.transmit(64)
        #expect(bed.inside.sent == [frame.bytes, allowed])
        #expect(bed.counters.counts(.outside).forwarded.bytes == UInt64(frame.bytes.count + allowed.count))
        bed.expectConservation()
    }

    @Test func aFrameWhoseEndComesLateWaitsForIt() throws {
        let bed = try Bed(policy)
        bed.outside.deliverPiece(Array(allowed.prefix(40)), goesOn: true)
        #expect(bed.worker.pointee.poll() == 0)
        #expect(bed.worker.pointee.poll() == 0)
        bed.outside.deliverPiece(Array(allowed.dropFirst(40)), goesOn: false)
        // Headers lie in the first buffer; what is cut inside them is denied, but it is one frame, and it is over.
        #expect(bed.worker.pointee.poll() + bed.worker.pointee.poll() == 1)
        #expect(bed.counters.counts(.outside).denied[Int(Cause.truncated.rawValue)].frames == 1)
        bed.outside.deliver(allowed)
        #expect(bed.worker.pointee.poll() == 1)
        bed.expectConservation()
    }

    @Test(arguments: [Mode.enforce, .monitor])
    func theRestOfAnEndlessFrameIsNoFrameOfItsOwn(mode: Mode) throws {
        var source = policy
        source.mode = mode
        let bed = try Bed(source, frames: 1024)
        for _ in 0..<70 { bed.outside.deliverPiece(allowed, goesOn: true) }
        bed.outside.deliverPiece(allowed, goesOn: false)
        bed.outside.deliver(allowed)
        for _ in 0..<4 { _ = bed.worker.pointee.poll() }
        bed.inside.transmit(200)
        #expect(bed.inside.sent == [allowed])
        #expect(bed.counters.counts(.outside).denied[Int(Cause.frameChain.rawValue)].frames == 8)
        bed.expectConservation()
    }

    @Test func aPortThatSendsNothingCostsFramesButNeverTheLoop() throws {
        let bed = try Bed(policy, frames: 1024, ringSize: 64)
        for _ in 0..<10 {
            for _ in 0..<64 { bed.outside.deliver(allowed) }
            _ = bed.worker.pointee.poll()
        }
        let counts = bed.counters.counts(.outside)
        #expect(counts.forwarded.frames == 64)  // the TX ring's size
        #expect(counts.denied[Int(Cause.transmitFull.rawValue)].frames == counts.received.frames - 64)
        bed.expectConservation()
        // It comes back.
        var random = SplitMix(1)
        bed.inside.transmit(64)
        bed.inside.complete(64, &random)
        _ = bed.worker.pointee.poll()
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        #expect(bed.counters.counts(.outside).forwarded.frames == 65)
    }

    @Test func aPortThatWasDownAndSentByItselfWhatWaitedIsUsedAgain() throws {
        let bed = try Bed(policy, areKicked: true)
        var random = SplitMix(3)
        bed.inside.transmitSleeps = true
        bed.inside.onTransmitKick = { ENETDOWN }
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        // The driver is back, begins with what is in its ring, and wants no kick.
        bed.inside.transmitSleeps = false
        bed.inside.onTransmitKick = { 0 }
        bed.inside.transmit(64)
        bed.inside.complete(64, &random)
        for _ in 0..<1024 { _ = bed.worker.pointee.poll() }
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        bed.inside.transmit(64)
        #expect(bed.inside.sent == [allowed, allowed])
        bed.expectConservation()
    }

    @Test func trafficOneWayDoesNotStarveTheOther() throws {
        let bed = try Bed(policy)
        var random = SplitMix(2)
        for _ in 0..<200 {
            for _ in 0..<32 { bed.outside.deliver(allowed) }
            _ = bed.worker.pointee.poll()
            bed.inside.transmit(64)
            bed.inside.complete(64, &random)
        }
        _ = bed.worker.pointee.poll()
        for _ in 0..<32 { bed.inside.deliver(reply) }
        _ = bed.worker.pointee.poll()
        #expect(bed.inside.lost == 0)
        #expect(bed.counters.counts(.inside).forwarded.frames == 32)
    }

    @Test func aRevokedRuleCutsAtTheNextBurst() throws {
        let bed = try Bed(policy)
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        try bed.publish(AllowlistSource(), version: 2)
        #expect(!bed.publisher.isQuiescent)
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        #expect(bed.publisher.isQuiescent)
        bed.publisher.reclaim()
        bed.inside.transmit(64)
        #expect(bed.inside.sent.count == 1)
        // What the old table counted is kept.
        #expect(bed.publisher.hits() == ["rule-0": 1])
    }
}

@Suite struct SwapTests {
    /// A control thread swaps tables as fast as it can while the worker forwards: no frame is judged by a table
    /// that is gone, and hits are counted once.
    @Test func tablesAreSwappedUnderLoad() throws {
        let bed = try Bed(policy, frames: 512, ringSize: 128)
        let stop = Atomic<Bool>(false)
        let forwarded = Atomic<Int>(0)
        // The worker's thread owns the bed but for the publisher, as in the bridge.
        nonisolated(unsafe) let unsafeBed = bed
        let thread = PThread {
            var random = SplitMix(5)
            while !stop.load(ordering: .relaxed) {
                for _ in 0..<64 { unsafeBed.outside.deliver(allowed) }
                _ = unsafeBed.worker.pointee.poll()
                unsafeBed.inside.transmit(128)
                unsafeBed.inside.complete(128, &random)
            }
            forwarded.store(unsafeBed.inside.sent.count, ordering: .relaxed)
            unsafeBed.publisher.view(0).goOffline()
        }
        for version in UInt64(2)...150 {
            try bed.publish(policy, version: version)
            var spins = 0
            while !bed.publisher.isQuiescent {
                spins += 1
                if spins > 1000 { sched_yield() }
            }
            bed.publisher.reclaim()
        }
        stop.store(true, ordering: .relaxed)
        thread.join()
        #expect(forwarded.load(ordering: .relaxed) > 1000)
        #expect(bed.publisher.hits()["rule-0"] == UInt64(forwarded.load(ordering: .relaxed)))
        bed.expectConservation()
    }

    @Test func aSleepingWorkerHoldsNoTable() throws {
        let publisher = TablePublisher(workerCount: 2)
        let awake = publisher.view(0), asleep = publisher.view(1)
        publisher.publish(try CompiledTable.build(policy, version: 1), ruleNames: ["a"])
        awake.goOnline()
        asleep.goOnline()
        #expect(!publisher.isQuiescent)
        asleep.goOffline()
        #expect(!publisher.isQuiescent)
        awake.announce(1)
        #expect(publisher.isQuiescent)
        publisher.publish(try CompiledTable.build(policy, version: 2), ruleNames: ["a"])
        #expect(!publisher.isQuiescent)
        asleep.goOnline()
        awake.announce(2)
        // Back from sleep, and nothing said yet: it could have read either pointer.
        #expect(!publisher.isQuiescent)
        asleep.announce(2)
        #expect(publisher.isQuiescent)
    }
}
