import Allowlist
import Frames
import Glibc
import Testing
import TestSupport

@testable import Datapath

/// What waits in a ring, taken out.
private func take(_ ring: MirrorRing, most: Int = 64) -> [[UInt8]] {
    var list: [iovec] = []
    let end = ring.look(&list, most: most)
    let frames = list.map { [UInt8](UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len)) }
    ring.release(end)
    return frames
}

private func put(_ frame: [UInt8], _ writer: MirrorWriter) -> Bool {
    guard let place = writer.place(frame.count) else { return false }
    frame.withUnsafeBytes { place.copyMemory(from: $0.baseAddress!, byteCount: frame.count) }
    writer.commit(frame.count)
    return true
}

@Suite struct MirrorTests {
    /// Why: lengths, the end of the memory and a full ring must not make one frame out of two, nor lose one uncounted.
    @Test func whatGoesInComesOut() {
        let ring = MirrorRing(capacity: 4096)
        let writer = ring.writer
        var random = SplitMix(11)
        var waiting: [[UInt8]] = [], refused: UInt64 = 0, number = 0
        for _ in 0..<20_000 {
            if Bool.random(using: &random) {
                number &+= 1
                let frame = (0..<Int.random(in: 1...1600, using: &random)).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
                if put(frame, writer) { waiting.append(frame) } else { refused += 1 }
            } else {
                let most = Int.random(in: 1...4, using: &random)
                let frames = take(ring, most: most)
                #expect(frames == Array(waiting.prefix(most)))
                waiting.removeFirst(frames.count)
            }
        }
        #expect(ring.lost == refused && refused > 0)
        while !waiting.isEmpty {
            let frames = take(ring)
            #expect(!frames.isEmpty && frames == Array(waiting.prefix(frames.count)))
            waiting.removeFirst(frames.count)
        }
        #expect(take(ring).isEmpty)
        // Longer than it is.
        #expect(!put([UInt8](repeating: 0, count: 5000), writer))
    }

    /// Why: what is being sent must stay as it is, however much comes meanwhile.
    @Test func whatIsLookedAtIsNotWrittenOver() {
        let ring = MirrorRing(capacity: 4096)
        let writer = ring.writer
        for number in UInt8(0)..<3 { #expect(put([UInt8](repeating: number, count: 1000), writer)) }
        var list: [iovec] = []
        let end = ring.look(&list, most: 64)
        var more = 0
        while put([UInt8](repeating: 9, count: 700), writer) { more += 1 }
        #expect(more == 1)
        #expect(list.map { [UInt8](UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len)) } == (0..<3).map { [UInt8](repeating: $0, count: 1000) })
        ring.release(end)
        #expect(take(ring) == [[UInt8](repeating: 9, count: 700)])
    }

    @Test func framesOfChosenRulesAreCopied() throws {
        var source = policy
        source.mirrored = [0]
        let bed = try Bed(source)
        let ring = MirrorRing(capacity: 1 << 16)
        bed.worker.pointee.mirror = ring.writer
        var long = FrameBuilder()
        long.ipv4(proto: 6, payload: FrameBuilder.tcp(payload: [UInt8](repeating: 1, count: 3000)))
        bed.outside.deliver(allowed)
        bed.outside.deliver(denied)
        bed.inside.deliver(reply)
        _ = bed.worker.pointee.poll()
        bed.outside.deliver(allowed)
        bed.outside.deliver(long.bytes, pieces: 2)
        _ = bed.worker.pointee.poll()
        #expect(take(ring) == [reply, allowed, allowed, long.bytes])
        bed.expectConservation()
    }

    @Test func withoutARuleNothingIsCopied() throws {
        let bed = try Bed(policy)
        let ring = MirrorRing(capacity: 1 << 16)
        bed.worker.pointee.mirror = ring.writer
        bed.outside.deliver(allowed)
        _ = bed.worker.pointee.poll()
        #expect(take(ring).isEmpty)
    }
}
