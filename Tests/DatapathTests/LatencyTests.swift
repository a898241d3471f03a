import Allowlist
import CLinux
import Frames
import Testing
import TestSupport

@testable import Datapath

@Suite struct LatencyBucketsTests {
    @Test func everyValueLiesInItsBucket() {
        var values = Array(UInt64(0)...100_000)
        for bit in 0...32 { values += [-1, 0, 1].map { UInt64((1 << bit) + $0) } }
        // Collected, not expected one by one: there are very many.
        var wrong: [UInt64] = []
        var last = 0
        for value in values.sorted() {
            let place = LatencyBuckets.place(value)
            let range = LatencyBuckets.range(place)
            let width = range.upperBound - range.lowerBound + 1
            let isNarrow = value < 128 ? width == 1 : Double(width) <= 0.016 * Double(range.lowerBound)
            // What is longer than the longest is counted as it.
            let isInside = range.contains(min(value, LatencyBuckets.longest))
            if place >= LatencyBuckets.count || place < last || !isInside || !isNarrow { wrong.append(value) }
            last = place
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(10))")
        for value in [LatencyBuckets.longest, LatencyBuckets.longest + 1, 1 << 40, .max] {
            #expect(LatencyBuckets.place(value) == LatencyBuckets.count - 1)
        }
        #expect(LatencyBuckets.range(LatencyBuckets.count - 1).upperBound == LatencyBuckets.longest)
    }

    @Test func neighboursTouch() {
        for place in 1..<LatencyBuckets.count {
            #expect(LatencyBuckets.range(place).lowerBound == LatencyBuckets.range(place - 1).upperBound + 1)
        }
    }
}

@Suite struct LatencyHistogramTests {
    private func histogram(_ values: [UInt64]) -> LatencyHistogram {
        var counts: [Int: UInt64] = [:]
        for value in values { counts[LatencyBuckets.place(value), default: 0] += 1 }
        return LatencyHistogram(counts: counts, sum: values.reduce(0, +), max: values.max() ?? 0)
    }

    @Test func percentilesAreThoseOfTheSortedValues() {
        var random = SplitMix(4)
        let values = (0..<5000).map { _ in UInt64.random(in: 1...(1 << UInt64.random(in: 3...24, using: &random)), using: &random) }.sorted()
        let histogram = histogram(values)
        for percent in [0.01, 1, 50, 90, 99, 99.9, 99.99, 100] {
            let exact = values[min(values.count - 1, max(0, Int((percent / 100 * Double(values.count) - 1e-6).rounded(.up)) - 1))]
            let told = histogram.percentile(percent)
            #expect(told >= exact && told <= LatencyBuckets.range(LatencyBuckets.place(exact)).upperBound)
        }
        #expect(histogram.percentile(100) == values.last!)
        #expect(histogram.count == 5000)
        #expect(LatencyHistogram().percentile(99) == 0)
    }

    /// 99.9 / 100 × 1000 is a little more than 999 in binary, and the thousandth value is another one.
    @Test(arguments: [(1000, 99.9), (2000, 99.9), (10_000, 99.9), (10_000, 99.99), (100, 99)] as [(Int, Double)])
    func aPercentileIsNotTheNextValue(count: Int, percent: Double) {
        let above = Int(((100 - percent) * Double(count) / 100).rounded())
        let told = histogram([UInt64](repeating: 10, count: count - above) + [UInt64](repeating: 100, count: above))
        #expect(told.percentile(percent) == 10)
        #expect(told.percentile(percent + (100 - percent) / 2) == 100)
    }

    @Test func partsAddUpToTheWhole() {
        var random = SplitMix(8)
        func values(_ count: Int) -> [UInt64] { (0..<count).map { _ in UInt64.random(in: 0...3_000_000, using: &random) } }
        let first = values(700), second = values(1300)
        var sum = histogram(first)
        sum += histogram(second)
        #expect(sum == histogram(first + second))
        #expect(sum.mean == Double((first + second).reduce(0, +)) / 2000)
        let added = sum.since(histogram(first))
        #expect(added.counts == histogram(second).counts)
        #expect(added.sum == second.reduce(0, +))
        // The longest is known exactly if it is a new one, and else as well as its bucket.
        let longest = second.max()!
        let range = LatencyBuckets.range(LatencyBuckets.place(longest))
        #expect(added.max >= longest && added.max <= Swift.max(range.upperBound, longest))
        #expect(sum.since(sum) == LatencyHistogram())
        #expect(sum.buckets.map(\.count).reduce(0, +) == 2000)
        #expect(zip(sum.buckets, sum.buckets.dropFirst()).allSatisfy { $0.range.upperBound < $1.range.lowerBound })
    }

    @Test func whatWasAddedSince() {
        let before = histogram([100, 200, 300_000])
        var now = before
        now += histogram([100, 5000])
        let added = now.since(before)
        #expect(added.count == 2 && added.sum == 5100)
        // The longest since then is known as well as its bucket.
        #expect(added.max >= 5000 && added.max <= 5100)
        #expect(now.since(now).count == 0)
        #expect(now.max == 300_000)
    }
}

@Suite struct LatencyRecorderTests {
    private func stamp(_ age: UInt64, tag: UInt16 = Bed.tag) -> UInt64 {
        UInt64(tag) << 48 | (clinux_monotonic() &- age) & 0xFFFF_FFFF_FFFF
    }

    private func count(_ bed: Bed, socket: Int, isAllowed: Bool, _ stage: LatencyStage = .total) -> UInt64 {
        bed.latency.histogram(socket: socket, isAllowed: isAllowed, stage: stage).count
    }

    @Test func timedFramesAreRecordedByPortAndVerdict() throws {
        let bed = try Bed(policy)
        bed.outside.deliver(allowed, stamp: stamp(2000))
        bed.outside.deliver(denied, stamp: stamp(3000))
        bed.outside.deliver(allowed)
        bed.inside.deliver(reply, stamp: stamp(1000))
        _ = bed.worker.pointee.poll()
        for stage in LatencyStage.allCases {
            #expect(count(bed, socket: 1, isAllowed: true, stage) == 1)
            #expect(count(bed, socket: 1, isAllowed: false, stage) == 1)
            #expect(count(bed, socket: 0, isAllowed: true, stage) == 1)
            #expect(count(bed, socket: 0, isAllowed: false, stage) == 0)
        }
        let wait = bed.latency.histogram(socket: 1, isAllowed: true, stage: .wait)
        let work = bed.latency.histogram(socket: 1, isAllowed: true, stage: .work)
        let total = bed.latency.histogram(socket: 1, isAllowed: true, stage: .total)
        #expect(wait.sum >= 2000)
        #expect(wait.sum + work.sum == total.sum)
        bed.expectConservation()
    }

    @Test func aTimeIsTakenOnce() throws {
        // Few frames, so that each is used again and again.
        let bed = try Bed(policy, frames: 16, ringSize: 16)
        var random = SplitMix(1)
        bed.outside.deliver(allowed, stamp: stamp(10))
        for _ in 0..<200 {
            _ = bed.worker.pointee.poll()
            bed.inside.transmit(64)
            bed.inside.complete(64, &random)
            // The program says that there is a timed frame, which the kernel dropped: the worker looks.
            bed.outside.stamped.pointee.add(1)
            bed.outside.deliver(allowed)
        }
        #expect(count(bed, socket: 1, isAllowed: true) == 1)
    }

    @Test func aTimeIsTakenOffItsFrame() throws {
        let bed = try Bed(policy)
        let time = stamp(10)
        bed.outside.deliver(allowed, stamp: time)
        let data = bed.outside.lastData
        #expect(bed.outside.word(inFrontOf: data) == time)
        _ = bed.worker.pointee.poll()
        #expect(bed.outside.word(inFrontOf: data) == 0)
        bed.inside.transmit(64)
        #expect(bed.inside.sent == [allowed])
    }

    @Test func everyTimedFrameOfABurstHasItsOwnTime() throws {
        let bed = try Bed(policy, frames: 1024)
        for number in UInt64(1)...40 {
            bed.outside.deliver(number % 2 == 0 ? allowed : denied, stamp: stamp(number * 1_000_000))
            bed.outside.deliver(allowed)
        }
        while bed.worker.pointee.poll() > 0 {}
        let even = bed.latency.histogram(socket: 1, isAllowed: true, stage: .wait)
        let odd = bed.latency.histogram(socket: 1, isAllowed: false, stage: .wait)
        #expect(even.count == 20 && odd.count == 20)
        // 2 + 4 + … + 40 ms and 1 + 3 + … + 39 ms, and what passed until they were picked up.
        #expect(even.sum >= 420_000_000 && odd.sum >= 400_000_000)
        #expect(even.max >= 40_000_000 && odd.max >= 39_000_000)
        #expect(even.percentile(0) >= 2_000_000 && odd.percentile(0) >= 1_000_000)
        for isAllowed in [true, false] {
            let total = bed.latency.histogram(socket: 1, isAllowed: isAllowed, stage: .total)
            let work = bed.latency.histogram(socket: 1, isAllowed: isAllowed, stage: .work)
            #expect(total.sum == work.sum + (isAllowed ? even : odd).sum)
        }
    }

    @Test func aFrameInSeveralBuffersHasOneTime() throws {
        let bed = try Bed(policy)
        var frame = FrameBuilder()
        frame.ipv4(proto: 6, payload: FrameBuilder.tcp(payload: [UInt8](repeating: 7, count: 4000)))
        bed.outside.deliver(allowed, stamp: stamp(10))
        bed.outside.deliver(frame.bytes, pieces: 3, stamp: stamp(10))
        bed.outside.deliver(denied, stamp: stamp(10))
        #expect(bed.worker.pointee.poll() == 3)
        bed.inside.transmit(64)
        #expect(bed.inside.sent == [allowed, frame.bytes])
        #expect(count(bed, socket: 1, isAllowed: true) == 2)
        #expect(count(bed, socket: 1, isAllowed: false) == 1)
    }

    @Test(arguments: [Mode.learn, .monitor]) func whatPassesWithoutARuleCountsAsDenied(mode: Mode) throws {
        var source = policy
        source.mode = mode
        let bed = try Bed(source)
        bed.outside.deliver(denied, stamp: stamp(10))
        _ = bed.worker.pointee.poll()
        #expect(count(bed, socket: 1, isAllowed: false) == 1 && count(bed, socket: 1, isAllowed: true) == 0)
    }

    @Test func whatLooksLikeATimeIsNone() throws {
        let bed = try Bed(policy)
        bed.outside.deliver(allowed, stamp: stamp(10, tag: Bed.tag ^ 1))
        bed.outside.deliver(allowed, stamp: stamp(2_000_000_000))
        // Not yet.
        bed.outside.deliver(allowed, stamp: stamp(0 &- 5_000_000_000))
        _ = bed.worker.pointee.poll()
        #expect(count(bed, socket: 1, isAllowed: true) == 0)
        bed.outside.deliver(allowed, stamp: stamp(500_000_000))
        _ = bed.worker.pointee.poll()
        #expect(count(bed, socket: 1, isAllowed: true) == 1)
    }

    /// The program counts a frame before the kernel finds the RX ring full.
    @Test func aTimedFrameThatTheKernelDroppedIsNotLookedForForEver() throws {
        let bed = try Bed(policy)
        var random = SplitMix(3)
        func pass(_ turns: Int) {
            for _ in 0..<turns {
                for _ in 0..<32 { bed.outside.deliver(allowed) }
                _ = bed.worker.pointee.poll()
                bed.inside.transmit(64)
                bed.inside.complete(64, &random)
            }
        }
        /// Whether a time that the program has not told of is found.
        func looks() -> Bool {
            let before = count(bed, socket: 1, isAllowed: true), told = bed.outside.stamped.pointee.count
            bed.outside.deliver(allowed, stamp: stamp(10))
            bed.outside.stamped.pointee.set(told)
            _ = bed.worker.pointee.poll()
            return count(bed, socket: 1, isAllowed: true) > before
        }
        pass(2)
        bed.outside.stamped.pointee.add(1)
        pass(4)
        // Which is also the one it was looking for.
        #expect(looks())
        bed.outside.stamped.pointee.add(1)
        // More than the worker's patience: 8192 frames.
        pass(8192 / 32 + 2)
        #expect(!looks())
        #expect(bed.outside.lost == 0)
        // The next that is told of is found.
        bed.outside.deliver(allowed, stamp: stamp(10))
        _ = bed.worker.pointee.poll()
        #expect(count(bed, socket: 1, isAllowed: true) == 2)
        bed.expectConservation()
    }

    @Test func withoutTheProgramsWordNobodyLooks() throws {
        let bed = try Bed(policy)
        bed.outside.deliver(allowed, stamp: stamp(10))
        bed.outside.stamped.pointee.set(0)
        _ = bed.worker.pointee.poll()
        #expect(count(bed, socket: 1, isAllowed: true) == 0)
    }
}
