import Allowlist
import Frames
import Testing
import TestSupport

@testable import Datapath

/// A recorder, its ring, and bursts for it.
private final class Recorded {
    let ring: TrafficRing
    let recorder: TrafficRecorder
    private let headers = UnsafeMutablePointer<FrameHeaders>.allocate(capacity: burstCapacity)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: burstCapacity)

    init(capacity: Int = 1 << 16) {
        ring = TrafficRing(capacity: capacity)
        recorder = .allocate(ring: ring)
    }

    deinit {
        recorder.deallocate()
        headers.deallocate()
        verdicts.deallocate()
    }

    func record(_ frames: [[UInt8]], from side: Side, cause: Cause = .none, enforces: Bool = true) {
        precondition(frames.count <= burstCapacity)
        // As in a UMEM: behind a short frame there is more memory.
        let buffers = frames.map { $0 + [UInt8](repeating: 0, count: 64) }
        let lengths = frames.map { UInt32($0.count) }
        withUnsafeTemporaryAllocation(of: UnsafeRawPointer.self, capacity: burstCapacity) { pointers in
            func with(_ index: Int, _ body: () -> Void) {
                if index == frames.count { return body() }
                buffers[index].withUnsafeBytes {
                    pointers.initializeElement(at: index, to: $0.baseAddress!)
                    with(index + 1, body)
                }
            }
            with(0) {
                let list = UnsafePointer(pointers.baseAddress!)
                parseBurst(frames: list, available: lengths, wireLengths: lengths, count: frames.count, into: headers)
                for i in frames.indices {
                    let own = headers[i].cause
                    verdicts[i] = Verdict(rule: Verdict.noRule, cause: own == .none ? cause : own, isReply: false)
                }
                recorder.record(list, headers, lengths, verdicts, count: frames.count, from: side, enforces: enforces)
            }
        }
    }

    /// What has come, in order of time.
    func take() -> [TrafficRecord] {
        var list: [TrafficRecord] = []
        ring.take(into: &list)
        return list.sorted { $0.first < $1.first }
    }
}

private func tcp(_ flags: UInt8, from port: UInt16 = 40000) -> [UInt8] { FrameBuilder.tcpFrame(port, 5000, flags: flags) }

@Suite struct TrafficRecorderTests {
    /// Why: the recorder reads words of several fields at once.
    @Test func headersLieWhereTheRecorderReadsThem() {
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.sourcePort) == 32)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.destinationPort) == 34)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.etherType) == 36)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.vlan) == 38)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.form) == 40)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.cause) == 41)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.ipProtocol) == 42)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.tcpFlags) == 43)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.networkOffset) == 44)
        #expect(MemoryLayout<FrameHeaders>.offset(of: \.marks) == 45)
    }

    @Test func aRecordIsTheSumOfItsFrames() throws {
        let bed = Recorded()
        bed.recorder.tell(1_000_000_000)
        let frame = FrameBuilder.tcpFrame(flags: 0x10, tags: [(0x8100, 7)])
        bed.record([frame, frame], from: .outside)
        bed.recorder.tell(1_100_000_000)
        bed.record([FrameBuilder.tcpFrame(flags: 0x18, tags: [(0x8100, 7)])], from: .outside)
        #expect(bed.take().isEmpty)
        #expect(bed.recorder.holdsAny)
        bed.recorder.finish()
        let records = bed.take()
        let record = try #require(records.first)
        #expect(records.count == 1 && !bed.recorder.holdsAny)
        #expect(record.frames == 3 && record.bytes == UInt64(3 * frame.count))
        #expect(record.source == AddressWords(high: 0, low: 0x0A03_000A) && record.destination == AddressWords(high: 0, low: 0x0A03_0115))
        #expect(record.sourcePort.rawValue == 40000 && record.destinationPort.rawValue == 5000 && record.vlan.rawValue == 7)
        #expect(record.form == .ipv4 && record.etherType == .ipv4 && record.ipProtocol == .tcp && record.side == .outside)
        #expect(record.tcpFlags.rawValue == 0x18 && record.cause == .none && record.marks.isEmpty)
        #expect(record.sourceMAC.rawValue == 0x0200_0000_030A)
        #expect(record.first == 1_000_000_000 && record.last == 1_100_000_000)
    }

    @Test func whatDiffersIsNotSummedUp() {
        let bed = Recorded()
        bed.record([tcp(0x10), FrameBuilder.tcpFrame(tags: [(0x8100, 7)]), FrameBuilder.udpFrame(40000, 5000)], from: .inside)
        bed.record([tcp(0x10)], from: .outside)
        bed.record([tcp(0x10)], from: .inside, cause: .tcpWindow)
        bed.recorder.finish()
        let records = bed.take()
        #expect(records.count == 5)
        #expect(records.allSatisfy { $0.frames == 1 })
    }

    /// Why: who opened a connection, and that it was refused, must survive the summing up.
    @Test func eachConnectionBeginsARecordOfItsOwn() {
        let bed = Recorded()
        for _ in 0..<2 {
            bed.record([tcp(0x02)], from: .outside)
            bed.record([answer(0x12)], from: .inside)
            bed.record([tcp(0x10), tcp(0x18), tcp(0x11)], from: .outside)
            bed.record([answer(0x18), answer(0x11)], from: .inside)
        }
        bed.record([tcp(0x02), tcp(0x02)], from: .outside)
        bed.record([answer(0x14), answer(0x14)], from: .inside)
        bed.recorder.finish()
        let one: [UInt8] = [0x02, 0x12 | 0x18 | 0x11, 0x19]
        #expect(bed.take().map(\.tcpFlags.rawValue) == one + one + [0x02, 0x02, 0x14, 0x14])
    }

    /// Why: a client must stand before the server that answers it, also where both spoke between two ticks of the clock.
    @Test func recordsKeepTheirOrderAndSaySoWhenTheyAreComplete() {
        let bed = Recorded()
        var random = SplitMix(7)
        var now: UInt64 = 1_000_000_000
        var begun: [UInt16] = [], settledBefore: UInt64 = 0
        var seen: [(UInt16, UInt64)] = []
        bed.recorder.tell(now)
        for port in UInt16(1)...3000 {
            bed.record([FrameBuilder.udpFrame(port, 53)], from: port % 2 == 0 ? .inside : .outside)
            begun.append(port)
            if Int.random(in: 0..<8, using: &random) == 0 { now += 4_000_000 }
            for _ in 0..<4 { bed.recorder.tell(now) }
            if port % 64 == 0 {
                let settled = bed.ring.settled
                #expect(settled >= settledBefore)
                for record in bed.take() {
                    #expect(record.first > settledBefore, "it came too late")
                    seen.append((record.sourcePort.rawValue, record.first))
                }
                settledBefore = settled
            }
        }
        #expect(!seen.isEmpty && settledBefore > 1_000_000_000)
        bed.recorder.finish()
        seen += bed.take().map { ($0.sourcePort.rawValue, $0.first) }
        #expect(seen.sorted { $0.1 < $1.1 }.map(\.0) == begun)
        #expect(bed.ring.settled == .max)
    }

    @Test func aRecordIsHandedOverSoonAfterItIsOld() {
        let bed = Recorded()
        bed.recorder.tell(1_000_000_000)
        bed.record([tcp(0x10)], from: .outside)
        var now: UInt64 = 1_000_000_000
        while bed.recorder.holdsAny {
            now += 10_000_000
            for _ in 0..<64 { bed.recorder.tell(now) }
        }
        #expect((1_100_000_000...1_150_000_000).contains(now))
        #expect(bed.take().count == 1)
        // Before a sleep in one go.
        bed.record([tcp(0x10)], from: .outside)
        bed.recorder.tell(now + 1_000_000_000)
        bed.recorder.settle()
        #expect(!bed.recorder.holdsAny && bed.take().count == 1)
    }

    /// Why: whoever has to be cut off must not be left a tenth of a second more.
    @Test func whatDidNotPassIsToldAtTheNextTick() {
        let bed = Recorded()
        bed.recorder.tell(1_000_000_000)
        bed.record([tcp(0x10)], from: .outside)
        bed.record([tcp(0x10, from: 1), tcp(0x10, from: 1)], from: .outside, cause: .notInPolicy)
        bed.recorder.tell(1_004_000_000)
        #expect(bed.take().map(\.frames) == [2])
        // In the same tick it is summed up, so that a flood is not a flood of records.
        for _ in 0..<10 {
            bed.record([tcp(0x10, from: 1)], from: .outside, cause: .notInPolicy)
            bed.recorder.tell(1_004_000_000)
        }
        #expect(bed.take().isEmpty)
        bed.recorder.tell(1_008_000_000)
        #expect(bed.take().map(\.frames) == [10])
        // Many at once go a few hundred at a time, before a sleep all together.
        bed.record((1...64).map { tcp(0x02, from: $0) }, from: .outside, cause: .notInPolicy)
        bed.recorder.settle()
        #expect(bed.take().count == 64)
        for burst in 0..<8 { bed.record((1...64).map { tcp(0x02, from: UInt16(burst * 64 + $0)) }, from: .outside, cause: .notInPolicy) }
        let displaced = bed.take().count
        bed.recorder.tell(1_012_000_000)
        #expect(bed.take().count == 256)
        bed.recorder.tell(1_012_000_000)
        #expect(bed.take().count == 256 - displaced)
        bed.recorder.finish()
        #expect(bed.take().map(\.cause) == [.none])
    }

    /// Why: an answer that is told before its question makes the server the one who asked; a busy flow that would be denied is no news.
    @Test func whatPassedAllTheSameWaitsItsTurn() {
        let bed = Recorded()
        bed.recorder.tell(1_000_000_000)
        bed.record([FrameBuilder.udpFrame(40000, 53), tcp(0x10, from: 7)], from: .outside, cause: .notInPolicy, enforces: false)
        bed.recorder.tell(1_004_000_000)
        #expect(bed.take().isEmpty)
        bed.record([tcp(0x02), answer(0x12)], from: .outside, cause: .notInPolicy, enforces: false)
        bed.recorder.tell(1_008_000_000)
        let told = bed.take()
        #expect(told.map(\.tcpFlags.rawValue) == [0x02] && told.allSatisfy(\.isUrgent))
        bed.recorder.finish()
        #expect(bed.take().map(\.isUrgent) == [false, false, false])
    }

    @Test func framesThatDidNotPassAreSampled() throws {
        let bed = Recorded()
        bed.recorder.tell(1_000_000_000)
        var builder = FrameBuilder()
        builder.ipv4(from: [10, 3, 0, 10], to: [10, 3, 1, 21], proto: 6, payload: FrameBuilder.tcp(payload: (0..<200).map { UInt8($0) }))
        let long = builder.bytes
        bed.record([tcp(0x10), long], from: .inside)
        bed.record([long, long], from: .inside, cause: .notInPolicy)
        bed.record([tcp(0x02)], from: .outside, cause: .tcpFlags)
        var samples: [FrameSample] = []
        bed.ring.samples.take(into: &samples)
        #expect(samples.map(\.cause) == [.notInPolicy, .tcpFlags] && samples.map(\.side) == [.inside, .outside])
        #expect(samples[0].bytes == Array(long.prefix(FrameSample.longest)) && samples[0].wireLength == UInt32(long.count))
        #expect(samples[1].bytes == tcp(0x02))
        #expect(samples[0].sender.rawValue == 0x0200_0000_030A && samples[0].source == AddressWords(high: 0, low: 0x0A03_000A))
        #expect(samples[0].time == 1_000_000_000)
        // Full: nothing waits, nothing is overwritten.
        for port in UInt16(1)...2000 { bed.record([tcp(0x02, from: port)], from: .outside, cause: .notInPolicy) }
        samples = []
        bed.ring.samples.take(into: &samples)
        #expect(samples.count == 512 && samples.last?.bytes == tcp(0x02, from: 512))
    }

    /// Why: what is summed up must add up again, whatever is displaced, and what is lost must be counted.
    @Test(arguments: [16, 1 << 16], [1, 40, 100_000])
    func nothingIsLostUncounted(capacity: Int, flows: Int) {
        let bed = Recorded(capacity: capacity)
        var random = SplitMix(UInt64(capacity &+ flows))
        struct Key: Hashable {
            let side: Side?
            let ports: [UInt16]
            let cause: Cause
        }
        var put: [Key: Traffic] = [:], taken: [Key: Traffic] = [:]
        func take() {
            for record in bed.take() {
                let key = Key(side: record.side, ports: [record.sourcePort.rawValue, record.destinationPort.rawValue], cause: record.cause)
                taken[key, default: Traffic()] += Traffic(frames: UInt64(record.frames), bytes: record.bytes)
            }
        }
        for burst in 0..<2000 {
            let side = Side.allCases.randomElement(using: &random)!
            let cause = [Cause.none, .none, .none, .notInPolicy].randomElement(using: &random)!
            let frames = (0..<Int.random(in: 1...64, using: &random)).map { _ in
                let flow = Int.random(in: 0..<flows, using: &random)
                let flags: UInt8 = [0x10, 0x10, 0x18, 0x18, 0x02, 0x12, 0x14, 0x11].randomElement(using: &random)!
                let ports = (UInt16(flow & 0xFFF) + 1, UInt16(flow >> 12) + 1)
                let frame = FrameBuilder.tcpFrame(ports.0, ports.1, flags: flags) + [UInt8](repeating: 0, count: flow % 50)
                put[Key(side: side, ports: [ports.0, ports.1], cause: cause), default: Traffic()] += Traffic(frames: 1, bytes: UInt64(frame.count))
                return frame
            }
            bed.record(frames, from: side, cause: cause)
            bed.recorder.tell(UInt64(burst) * 1_000_000)
            if Int.random(in: 0..<20, using: &random) == 0 { take() }
        }
        take()
        bed.recorder.finish()
        take()
        func frames(_ sums: [Key: Traffic]) -> UInt64 { sums.values.reduce(0) { $0 + $1.frames } }
        #expect(frames(taken) + bed.ring.lostFrames == frames(put))
        if capacity > 16 {
            #expect(bed.ring.lostRecords == 0 && taken == put)
        } else if flows > 1 {
            #expect(bed.ring.lostRecords > 0)
        }
    }

    @Test func whatNoLearnerWantsDoesNoHarm() {
        let bed = Recorded()
        bed.record([[1], [UInt8](repeating: 0, count: 13), tcp(0), tcp(0x03), FrameBuilder().bytes + [0x88, 0xCC, 1, 2, 3]], from: .inside)
        bed.recorder.finish()
        let records = bed.take()
        #expect(records.reduce(0) { $0 + $1.frames } == 5)
        #expect(records.filter(\.cause.isOfParser).reduce(0) { $0 + $1.frames } == 4)
        #expect(records.contains { $0.etherType.rawValue == 0x88CC && $0.form == .other && $0.cause == .none })
    }

    @Test(arguments: [Mode.enforce, .learn])
    func aWorkerRecordsWhatPassesAndWhatDoesNot(mode: Mode) throws {
        var source = policy
        source.mode = mode
        let bed = try Bed(source)
        let ring = TrafficRing()
        let recorder = TrafficRecorder.allocate(ring: ring)
        defer { recorder.deallocate() }
        bed.worker.pointee.recorder = recorder
        bed.worker.pointee.tell(1_000_000_000)
        var long = FrameBuilder()
        long.ipv4(proto: 6, payload: FrameBuilder.tcp(payload: [UInt8](repeating: 1, count: 3000)))
        bed.outside.deliver(allowed)
        bed.outside.deliver(denied)
        bed.inside.deliver(reply)
        _ = bed.worker.pointee.poll()
        bed.outside.deliver(long.bytes, pieces: 2)
        _ = bed.worker.pointee.poll()
        recorder.finish()
        var records: [TrafficRecord] = []
        ring.take(into: &records)
        records.sort { $0.first < $1.first }
        #expect(records.map(\.side) == [.inside, .outside, .outside, .outside])
        #expect(records.map(\.cause) == [.none, .none, .notInPolicy, .none])
        #expect(records.map(\.bytes) == [reply, allowed, denied, long.bytes].map { UInt64($0.count) })
        bed.expectConservation()
    }
}

private func answer(_ flags: UInt8) -> [UInt8] {
    FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000, flags: flags)
}
