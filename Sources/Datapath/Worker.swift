// The poll loop of one core: queue pairs of both ports, one table pointer, nothing shared.
//
//   for each socket:  RX ring ─► burst ─► parse ─► judge ─► TX ring of the other side ─► kick
//   then:             completion rings ─► free stack ─► fill rings
//
// The rules of the packet path (docs/design.md) are proved by the compiler for
// everything `poll` calls: no allocation, no lock, no reference counted.

import Allowlist
import CLinux
import Frames

/// Buffers one frame may span: the most fragments a kernel can be built for, and the head (CONFIG_MAX_SKB_FRAGS + 1).
private let longestChain = 46
/// Times a full TX ring is kicked and looked at again before frames are dropped: in copy mode one call sends at least 32
/// frames, so this makes room for a burst; longer waiting would only add latency for what comes behind.
private let transmitRetries = 4

/// Turns between attempts to send on a port that is down; a power of two.
private let turnsBetweenAttempts: UInt64 = 1024

/// Everything one worker owns. Moved to its thread and used by nobody else; tests drive it
/// with rings in plain memory.
struct Worker: ~Copyable {
    var frames: FrameMemory
    /// Sockets of the inside port first, then those of the outside port.
    private let sockets: UnsafeMutablePointer<WorkerSocket>
    private let insideCount: Int
    private let socketCount: Int
    /// Frames each fill ring is kept at.
    private let fillTarget: UInt32
    private let published: PublishedTable
    private let index: Int
    let counters: WorkerCounters
    private let burst: Burst
    private let judgeMemory = JudgeMemory()
    private let scratch: JudgeScratch

    /// - Parameters:
    ///   - inside, outside: sockets of queues of each port, at least one of each; taken over.
    init(
        index: Int, frames: consuming FrameMemory, sockets: UnsafeMutablePointer<WorkerSocket>, insideCount: Int,
        outsideCount: Int, published: PublishedTable, counters: WorkerCounters
    ) {
        self.index = index
        self.sockets = sockets
        self.insideCount = insideCount
        socketCount = insideCount + outsideCount
        // Half of the frames wait for reception, spread over the sockets; the other half is on its way out.
        fillTarget = UInt32(frames.frameCount / 2 / socketCount)
        self.frames = frames
        self.published = published
        self.counters = counters
        burst = Burst()
        scratch = judgeMemory.scratch
    }

    deinit {
        sockets.deinitialize(count: socketCount)
        sockets.deallocate()
        burst.deallocate()
    }

    /// One turn over all sockets.
    ///
    /// - Returns: frames handled; 0 if there was nothing to do.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    mutating func poll() -> Int {
        let publication = published.load()
        var handled = 0
        for i in 0..<insideCount { handled &+= forward(from: .inside, i, publication) }
        for i in insideCount..<socketCount { handled &+= forward(from: .outside, i, publication) }
        // The rest of a burst that one call could not send.
        for i in 0..<socketCount where sockets[i].inFlight > 0 {
            handled &+= complete(i)
        }
        for i in 0..<socketCount { refill(i) }
        published.announce(publication.pointee.version)
        counters.count(.polls)
        counters.set(.freeFrames, UInt64(frames.freeCount))
        return handled
    }

    // MARK: - One burst

    /// Receives a burst from socket `from`, judges it and sends what may pass.
    @inline(__always)
    private mutating func forward(from side: Side, _ from: Int, _ publication: UnsafePointer<Publication>) -> Int {
        let available = sockets[from].rx.available(UInt32(burstCapacity))
        if available == 0 { return 0 }
        let (frameCount, descriptorCount) = gather(from, available)
        if descriptorCount == 0 {
            // The beginning of a frame whose end has not arrived.
            sockets[from].rx.refresh()
            return 0
        }
        let table = publication.pointee.table
        parseBurst(
            frames: burst.frames, available: burst.firstLengths, wireLengths: burst.lengths, count: frameCount,
            into: burst.headers)
        judgeBurst(
            table, frames: burst.frames, headers: burst.headers, count: frameCount, from: side, scratch: scratch,
            verdicts: burst.verdicts)
        transmit(from: side, from, frameCount, publication)
        sockets[from].rx.release(UInt32(truncatingIfNeeded: descriptorCount))
        sockets[from].filled &-= UInt32(truncatingIfNeeded: descriptorCount)
        return frameCount
    }

    /// Notes where each frame of the burst begins and ends. Descriptors of one frame follow each other, all
    /// but the last marked; a frame whose end has not arrived waits.
    @inline(__always)
    private mutating func gather(_ from: Int, _ available: UInt32) -> (frames: Int, descriptors: Int) {
        var frameCount = 0
        var taken = 0
        var chain = 0
        for i in 0..<Int(available) {
            let descriptor = sockets[from].rx.peek(UInt32(truncatingIfNeeded: i))
            let data = UnsafeRawPointer(frames.base) + Int(truncatingIfNeeded: descriptor.addr)
            if chain == 0 {
                burst.frames[frameCount] = data
                burst.firstLengths[frameCount] = descriptor.len
                burst.lengths[frameCount] = descriptor.len
                burst.firstDescriptors[frameCount] = UInt8(truncatingIfNeeded: i)
                clinux_prefetch(data)
            } else {
                burst.lengths[frameCount] &+= descriptor.len
            }
            if sockets[from].skipsChain {
                burst.firstLengths[frameCount] = 0
                sockets[from].skipsChain = descriptor.options & UInt32(clinux_XDP_PKT_CONTD) != 0
                burst.chainLengths[frameCount] = 1
                frameCount &+= 1
                taken = i &+ 1
                continue
            }
            chain &+= 1
            if descriptor.options & UInt32(clinux_XDP_PKT_CONTD) == 0 || chain == burstCapacity {
                burst.chainLengths[frameCount] = UInt8(truncatingIfNeeded: chain)
                sockets[from].skipsChain = descriptor.options & UInt32(clinux_XDP_PKT_CONTD) != 0
                frameCount &+= 1
                taken = i &+ 1
                chain = 0
            }
        }
        return (frameCount, taken)
    }

    @inline(__always)
    private mutating func transmit(
        from side: Side, _ from: Int, _ frameCount: Int, _ publication: UnsafePointer<Publication>
    ) {
        let to = side == .inside ? insideCount &+ from % (socketCount &- insideCount) : (from &- insideCount) % insideCount
        let enforces = publication.pointee.table.pointee.mode == .enforce
        let hits = publication.pointee.hits[index]
        var receivedBytes: UInt64 = 0
        var sentFrames: UInt64 = 0
        var sentBytes: UInt64 = 0
        // What a port that is down would take now, it would send when it is up again, under a policy that is gone.
        var room = sockets[to].isStuck ? 0 : sockets[to].tx.room(for: UInt32(burstCapacity))
        var mayWait = !sockets[to].isStuck
        for i in 0..<frameCount {
            let bytes = UInt64(burst.lengths[i])
            receivedBytes &+= bytes
            let verdict = burst.verdicts[i]
            let chain = UInt32(burst.chainLengths[i])
            var cause = verdict.cause
            if cause == .none {
                if verdict.rule != Verdict.noRule { hits[Int(verdict.rule)].add(1) }
            } else if !enforces {
                counters.noted(side, cause, bytes: bytes)
                cause = .none
            }
            if chain > UInt32(longestChain) || burst.firstLengths[i] == 0 { cause = .frameChain }
            if cause == .none && room < chain {
                if mayWait { room = makeRoom(to, chain) }
                // Once in a burst: the frames behind this one must not wait for each other.
                mayWait = room >= chain
                if room < chain { cause = .transmitFull }
            }
            if cause == .none {
                send(from, to, i, chain)
                room &-= chain
                sentFrames &+= 1
                sentBytes &+= bytes
            } else {
                counters.denied(side, cause, bytes: bytes)
                drop(from, i, chain)
            }
        }
        counters.received(side, frames: UInt64(frameCount), bytes: receivedBytes)
        if sentFrames > 0 {
            counters.forwarded(side, frames: sentFrames, bytes: sentBytes)
            sockets[to].tx.publish()
            kick(to)
        }
    }

    /// A frame goes to the other port as descriptors: its bytes stay where they are.
    @inline(__always)
    private mutating func send(_ from: Int, _ to: Int, _ frame: Int, _ chain: UInt32) {
        let first = UInt32(burst.firstDescriptors[frame])
        for i in 0..<chain { sockets[to].tx.put(sockets[from].rx.peek(first &+ i)) }
        sockets[to].inFlight &+= chain
    }

    @inline(__always)
    private mutating func drop(_ from: Int, _ frame: Int, _ chain: UInt32) {
        let first = UInt32(burst.firstDescriptors[frame])
        for i in 0..<chain { frames.give(sockets[from].rx.peek(first &+ i).addr) }
    }

    /// Pushes what waits in a full TX ring out, a bounded number of times.
    @inline(never)
    private mutating func makeRoom(_ to: Int, _ wanted: UInt32) -> UInt32 {
        sockets[to].tx.publish()
        for _ in 0..<transmitRetries {
            kick(to)
            _ = complete(to)
            let room = sockets[to].tx.room(for: wanted)
            if room >= wanted { return room }
        }
        return sockets[to].tx.room(for: wanted)
    }

    // MARK: - Frames' way back

    /// Frames that have left come back to the free stack.
    @inline(__always)
    private mutating func complete(_ i: Int) -> Int {
        let isTime = !sockets[i].isStuck || counters.value(.polls) & (turnsBetweenAttempts - 1) == 0
        if sockets[i].tx.isPending && isTime { kick(i) }
        let done = sockets[i].completion.available(UInt32.max)
        for k in 0..<done { frames.give(sockets[i].completion.peek(k)) }
        if done > 0 { sockets[i].completion.release(done) }
        sockets[i].inFlight &-= done
        return Int(done)
    }

    /// Keeps frames ready for reception. Both ports draw on one stack, so traffic in one direction cannot
    /// starve the other.
    @inline(__always)
    private mutating func refill(_ i: Int) {
        let missing = fillTarget &- sockets[i].filled
        // Not one by one: the line is shared with the kernel.
        if missing >= 32 || missing == fillTarget {
            let free = UInt32(truncatingIfNeeded: frames.freeCount)
            let count = min(min(missing, free), sockets[i].fill.room(for: missing))
            for _ in 0..<count { sockets[i].fill.put(frames.take()) }
            if count > 0 { sockets[i].fill.publish() }
            sockets[i].filled &+= count
        }
        if sockets[i].fill.needsWakeup && sockets[i].descriptor >= 0 { _ = clinux_kick_rx(sockets[i].descriptor) }
    }

    /// Tells the kernel to send. In copy mode one call sends 32 frames (or the budget set at start) and asks
    /// for another with EAGAIN; a rest is kicked again in the next turn.
    @inline(__always)
    private mutating func kick(_ i: Int) {
        guard sockets[i].descriptor >= 0, sockets[i].tx.needsWakeup else { return }
        for _ in 0..<transmitRetries {
            counters.count(.kicks)
            let error = clinux_kick_tx(sockets[i].descriptor)
            // EBUSY, ENOBUFS: the driver is full. Others (ENETDOWN, ENXIO): the port is down or gone.
            sockets[i].isStuck = error != 0 && error != -EAGAIN && error != -EBUSY && error != -ENOBUFS
            if error == 0 { return }
            if error != -EAGAIN {
                counters.count(.kickErrors)
                return
            }
            if !sockets[i].tx.isPending { return }
        }
    }

    /// After a sleep every port is worth another attempt.
    mutating func retryStuckPorts() {
        for i in 0..<socketCount { sockets[i].isStuck = false }
    }

    /// Whether something waits in a TX ring that will be taken soon.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    mutating func hasPendingTransmit() -> Bool {
        for i in 0..<socketCount where sockets[i].tx.isPending && !sockets[i].isStuck { return true }
        return false
    }

    /// Fills the fill rings before the sockets are bound: some drivers leak what comes too early.
    mutating func prepare() {
        for i in 0..<socketCount { refill(i) }
    }

    /// Where every frame is. The kernel holds what it has taken from fill and TX rings and not given
    /// back; with the kernel at rest (or faked) the sum is `frames.frameCount`.
    var census: FrameCensus {
        var census = FrameCensus(free: frames.freeCount, inFlight: 0, filled: 0)
        for i in 0..<socketCount {
            census.inFlight += Int(sockets[i].inFlight)
            census.filled += Int(sockets[i].filled)
        }
        return census
    }

    func occupancy(_ socket: Int) -> RingOccupancy { sockets[socket].occupancy }
}

/// Frames by place: free + inFlight (TX and completion rings and the driver) + filled (fill and RX rings and
/// the driver) = all.
struct FrameCensus: Equatable {
    var free: Int
    var inFlight: Int
    var filled: Int
    var total: Int { free + inFlight + filled }
}

/// What is known of each frame of a burst, in arrays of `burstCapacity`.
private struct Burst {
    let frames: UnsafeMutablePointer<UnsafeRawPointer>
    /// Bytes in the frame's first buffer, which holds all headers.
    let firstLengths: UnsafeMutablePointer<UInt32>
    /// Bytes on the wire.
    let lengths: UnsafeMutablePointer<UInt32>
    /// Place of its first descriptor in the RX ring, from the burst's beginning.
    let firstDescriptors: UnsafeMutablePointer<UInt8>
    let chainLengths: UnsafeMutablePointer<UInt8>
    let headers: UnsafeMutablePointer<FrameHeaders>
    let verdicts: UnsafeMutablePointer<Verdict>

    init() {
        frames = .allocate(capacity: burstCapacity)
        firstLengths = .allocate(capacity: burstCapacity)
        lengths = .allocate(capacity: burstCapacity)
        firstDescriptors = .allocate(capacity: burstCapacity)
        chainLengths = .allocate(capacity: burstCapacity)
        headers = .allocate(capacity: burstCapacity)
        verdicts = .allocate(capacity: burstCapacity)
    }

    func deallocate() {
        frames.deallocate()
        firstLengths.deallocate()
        lengths.deallocate()
        firstDescriptors.deallocate()
        chainLengths.deallocate()
        headers.deallocate()
        verdicts.deallocate()
    }
}
