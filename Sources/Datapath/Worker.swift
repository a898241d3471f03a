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

/// Frames to look at for one that was timed: twice the RX ring.
private let stampPatience = 8192

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
    let latency: LatencyRecorder
    let sightings = Sightings.allocate()
    /// Takes what passes, and what does not; nil: nothing is recorded. Set before the first turn.
    var recorder: TrafficRecorder?
    /// Takes copies for the mirror port; nil: there is none. Set before the first turn.
    var mirror: MirrorWriter?
    private let burst: Burst
    private let judgeMemory = JudgeMemory()
    private let scratch: JudgeScratch
    private let flows: FlowTable?
    /// Of `flows`, where the loop finds it without a reference.
    private let flowView: UnsafePointer<FlowView>
    private let keepsFlows: Bool
    private let flowMemory = FlowMemory()
    private let flowScratch: FlowScratch
    private var clock: FlowClock
    private var sweepPosition: UInt64
    private var flowsLookedAt: UInt64 = 0

    /// - Parameters:
    ///   - inside, outside: sockets of queues of each port, at least one of each; taken over.
    ///   - latencyTag: marks frames that carry a time; not 0.
    ///   - flows: what has gone before; nil: the rules alone judge.
    ///   - grace: seconds in which replies pass unasked, counted from `beginGrace`.
    init(
        index: Int, frames: consuming FrameMemory, sockets: UnsafeMutablePointer<WorkerSocket>, insideCount: Int,
        outsideCount: Int, published: PublishedTable, counters: WorkerCounters, latencyTag: UInt16, flows: FlowTable? = nil, grace: Int = 0
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
        latency = .allocate(sockets: insideCount + outsideCount, burst: burstCapacity, tag: latencyTag)
        burst = Burst()
        scratch = judgeMemory.scratch
        self.flows = flows
        keepsFlows = flows != nil
        flowView = flows?.view ?? FlowTable.none.view
        flowScratch = flowMemory.scratch
        let never = FlowTick(rawValue: 0)
        clock = FlowClock(now: never, graceBegan: never, grace: grace > 0 ? FlowTick.ticks(seconds: grace) : 0)
        // Each worker begins elsewhere.
        sweepPosition = UInt64(index) &* 0x9E37_79B9
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
    mutating func poll() -> Int { turn(judges: true) }

    /// The same with neither parser nor verdicts, everything allowed: what the rings alone cost. For benchmarks.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    mutating func pollRings() -> Int { turn(judges: false) }

    @inline(__always)
    private mutating func turn(judges: Bool) -> Int {
        let publication = published.load()
        var handled = 0
        for i in 0..<insideCount { handled &+= forward(from: .inside, i, publication, judges) }
        for i in insideCount..<socketCount { handled &+= forward(from: .outside, i, publication, judges) }
        // The rest of a burst that one call could not send; and a port that was down, though nothing waits for it.
        for i in 0..<socketCount where sockets[i].inFlight > 0 || sockets[i].isStuck {
            handled &+= complete(i)
        }
        for i in 0..<socketCount { refill(i) }
        published.announce(publication.pointee.version)
        counters.count(.polls)
        counters.set(.freeFrames, UInt64(frames.freeCount))
        return handled
    }

    // MARK: - Time

    /// Tells the time, now and then: flows are counted in ticks of 67 ms. What is over is forgotten on the way.
    ///
    /// - Parameter nanoseconds: of CLOCK_MONOTONIC_COARSE.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    @inline(__always)
    mutating func tell(_ nanoseconds: UInt64) {
        clock.now = FlowTick(nanoseconds: nanoseconds)
        if let recorder { recorder.tell(nanoseconds) }
        guard keepsFlows else { return }
        clock.graceBegan = flowView.graceBegan()
        flowView.sweep(sweepPosition, clock.now, flowScratch.counts)
        sweepPosition &+= 1
        counters.set(flowScratch.counts.pointee)
    }

    /// How long another worker's flows are waited for, ns.
    mutating func setPatience(_ nanoseconds: UInt64) { clock.patience = nanoseconds }

    /// Nobody watched until now: for a while flows that are not known get the benefit of the doubt.
    mutating func beginGrace(_ nanoseconds: UInt64) {
        clock.now = FlowTick(nanoseconds: nanoseconds)
        clock.graceBegan = clock.now
        if let recorder { recorder.tell(nanoseconds) }
        if keepsFlows { flowView.beginGrace(clock.now) }
    }

    /// Forgets what is over in some of the table, and hands over what was recorded; before a sleep.
    mutating func sweepSome() {
        recorder?.settle()
        guard keepsFlows else { return }
        for _ in 0..<min(flowView.pointee.bucketCount, 512) {
            if !flowView.sweep(sweepPosition, clock.now, flowScratch.counts) { break }
            sweepPosition &+= 1
        }
        counters.set(flowScratch.counts.pointee)
    }

    // MARK: - One burst

    /// Receives a burst from socket `from`, judges it and sends what may pass.
    @inline(__always)
    private mutating func forward(
        from side: Side, _ from: Int, _ publication: UnsafePointer<Publication>, _ judges: Bool
    ) -> Int {
        let available = sockets[from].rx.available(UInt32(burstCapacity))
        if available == 0 { return 0 }
        if gatherWhole(from, available) {
            let frameCount = Int(available)
            let timed = judges ? judge(side, from, frameCount, burst.lengths, publication) : (count: 0, pickedUp: 0)
            let isWhole = sendWhole(from: side, from, frameCount, publication, judges)
            if let mirror, let mirrored = publication.pointee.mirrored, judges {
                if isWhole { copyWhole(to: mirror, mirrored, frameCount) } else { copyChains(to: mirror, mirrored, from, frameCount) }
            }
            finish(side, from, frameCount, descriptors: available, timed, publication, judges)
            return frameCount
        }
        return forwardChains(from: side, from, available, publication, judges)
    }

    /// The same for a burst with frames in several buffers.
    @inline(never)
    private mutating func forwardChains(
        from side: Side, _ from: Int, _ available: UInt32, _ publication: UnsafePointer<Publication>, _ judges: Bool
    ) -> Int {
        let (frameCount, descriptorCount) = gather(from, available)
        if descriptorCount == 0 {
            // The beginning of a frame whose end has not arrived.
            sockets[from].rx.refresh()
            return 0
        }
        let timed = judges ? judge(side, from, frameCount, burst.firstLengths, publication) : (count: 0, pickedUp: 0)
        if !judges { for i in 0..<frameCount { burst.verdicts[i] = Verdict(rule: Verdict.noRule, cause: .none, isReply: false) } }
        transmit(from: side, from, frameCount, publication)
        if let mirror, let mirrored = publication.pointee.mirrored, judges { copyChains(to: mirror, mirrored, from, frameCount) }
        finish(side, from, frameCount, descriptors: UInt32(truncatingIfNeeded: descriptorCount), timed, publication, judges)
        return frameCount
    }

    @inline(__always)
    private mutating func judge(
        _ side: Side, _ from: Int, _ frameCount: Int, _ firstLengths: UnsafePointer<UInt32>, _ publication: UnsafePointer<Publication>
    ) -> (count: Int, pickedUp: UInt64) {
        var timed = (count: 0, pickedUp: UInt64(0))
        if sockets[from].stamped.pointee.count != sockets[from].stampsMet { timed = findTimes(from, frameCount) }
        parseBurst(
            frames: burst.frames, available: firstLengths, wireLengths: burst.lengths, count: frameCount, into: burst.headers)
        var isNews = judgeBurst(
            publication.pointee.table, frames: burst.frames, headers: burst.headers, count: frameCount, from: side, scratch: scratch,
            verdicts: burst.verdicts)
        let quarantine = publication.pointee.quarantine
        if !quarantine.pointee.isEmpty {
            quarantineBurst(
                quarantine, frames: burst.frames, headers: burst.headers, count: frameCount, isBefore: keepsFlows, verdicts: burst.verdicts)
        }
        if keepsFlows {
            trackBurst(
                publication.pointee.table, flowView, from: side, frames: burst.frames, available: firstLengths, headers: burst.headers,
                count: frameCount, clock, flowScratch, verdicts: burst.verdicts)
            // Who begins a flow is worth a look.
            if flowScratch.counts.pointee.made != flowsLookedAt {
                flowsLookedAt = flowScratch.counts.pointee.made
                isNews = true
            }
        }
        if keepsFlows, quarantine.pointee.hasExceptions {
            quarantineBurst(quarantine, frames: burst.frames, headers: burst.headers, count: frameCount, isBefore: false, verdicts: burst.verdicts)
        }
        if isNews { sightings.look(burst.frames, burst.headers, burst.verdicts, count: frameCount, from: side) }
        return timed
    }

    @inline(__always)
    private mutating func finish(
        _ side: Side, _ from: Int, _ frameCount: Int, descriptors: UInt32, _ timed: (count: Int, pickedUp: UInt64),
        _ publication: UnsafePointer<Publication>, _ judges: Bool
    ) {
        if timed.count > 0 {
            latency.record(socket: from, count: timed.count, pickedUp: timed.pickedUp, verdicts: burst.verdicts)
        }
        // Only now, when the frames are on their way: they stay where they are until a later turn has them back.
        if judges, let recorder {
            recorder.record(
                burst.frames, burst.headers, burst.lengths, burst.verdicts, count: frameCount, from: side,
                enforces: publication.pointee.table.pointee.mode == .enforce)
        }
        sockets[from].rx.release(descriptors)
        sockets[from].filled &-= descriptors
    }

    // MARK: - The mirror port

    /// Whether a frame passed by a rule of which copies are asked for.
    @inline(__always)
    private func isMirrored(_ verdict: Verdict, _ mirrored: UnsafeMutablePointer<UInt64>) -> Bool {
        guard verdict.cause == .none, verdict.rule != Verdict.noRule else { return false }
        return mirrored[Int(verdict.rule) / 64] >> UInt64(verdict.rule % 64) & 1 == 1
    }

    /// Copies frames that are on their way already: until a later turn they stay where they are.
    @inline(never)
    private func copyWhole(to mirror: MirrorWriter, _ mirrored: UnsafeMutablePointer<UInt64>, _ frameCount: Int) {
        for i in 0..<frameCount where isMirrored(burst.verdicts[i], mirrored) {
            let length = Int(burst.lengths[i])
            guard let place = mirror.place(length) else { continue }
            place.copyMemory(from: burst.frames[i], byteCount: length)
            mirror.commit(length)
        }
    }

    /// The same where frames may have several buffers, and some may have stayed.
    @inline(never)
    private func copyChains(to mirror: MirrorWriter, _ mirrored: UnsafeMutablePointer<UInt64>, _ from: Int, _ frameCount: Int) {
        let rx = sockets[from].rx.cursor
        for i in 0..<frameCount where isMirrored(burst.verdicts[i], mirrored) && burst.chainLengths[i] > 0 {
            let length = Int(burst.lengths[i])
            guard let place = mirror.place(length) else { continue }
            var done = 0
            for k in 0..<UInt32(burst.chainLengths[i]) {
                let descriptor = rx.peek(UInt32(burst.firstDescriptors[i]) &+ k)
                // `lengths` is the sum of these.
                (place + done).copyMemory(from: UnsafeRawPointer(frames.base) + Int(truncatingIfNeeded: descriptor.addr), byteCount: Int(descriptor.len))
                done &+= Int(descriptor.len)
            }
            mirror.commit(length)
        }
    }

    /// There is a timed frame in this burst, or in one of the next.
    @inline(never)
    private mutating func findTimes(_ from: Int, _ frameCount: Int) -> (count: Int, pickedUp: UInt64) {
        let found = latency.findTimes(burst.frames, count: frameCount)
        sockets[from].stampsMet &+= UInt64(truncatingIfNeeded: found.count)
        sockets[from].framesSinceStamp = found.count > 0 ? 0 : sockets[from].framesSinceStamp &+ frameCount
        if sockets[from].framesSinceStamp > stampPatience {
            // The kernel dropped it: everything that was in the RX ring has been looked at.
            sockets[from].stampsMet = sockets[from].stamped.pointee.count
            sockets[from].framesSinceStamp = 0
        }
        return found
    }

    /// Notes where each frame of the burst is, if every one has one buffer: the usual case.
    ///
    /// - Returns: false if one has more or nothing in it, or the rest of such a frame is to be dropped; then `gather` does it.
    @inline(__always)
    private mutating func gatherWhole(_ from: Int, _ available: UInt32) -> Bool {
        let rx = sockets[from].rx.cursor
        let burst = burst
        let base = UnsafeRawPointer(frames.base)
        var options: UInt32 = sockets[from].skipsChain ? UInt32(clinux_XDP_PKT_CONTD) : 0
        var shortest = UInt32.max
        for i in 0..<Int(available) {
            let descriptor = rx.peek(UInt32(truncatingIfNeeded: i))
            let data = base + Int(truncatingIfNeeded: descriptor.addr)
            clinux_prefetch(data)
            burst.frames[i] = data
            burst.lengths[i] = descriptor.len
            options |= descriptor.options
            shortest = min(shortest, descriptor.len)
        }
        return options & UInt32(clinux_XDP_PKT_CONTD) == 0 && shortest > 0
    }

    /// Notes where each frame of the burst begins and ends. Descriptors of one frame follow each other, all
    /// but the last marked; a frame whose end has not arrived waits.
    @inline(__always)
    private mutating func gather(_ from: Int, _ available: UInt32) -> (frames: Int, descriptors: Int) {
        let rx = sockets[from].rx.cursor
        let burst = burst
        let base = UnsafeRawPointer(frames.base)
        var skips = sockets[from].skipsChain
        var frameCount = 0
        var taken = 0
        var chain = 0
        for i in 0..<Int(available) {
            let descriptor = rx.peek(UInt32(truncatingIfNeeded: i))
            let goesOn = descriptor.options & UInt32(clinux_XDP_PKT_CONTD) != 0
            if chain == 0 {
                let data = base + Int(truncatingIfNeeded: descriptor.addr)
                clinux_prefetch(data)
                burst.frames[frameCount] = data
                burst.firstLengths[frameCount] = descriptor.len
                burst.lengths[frameCount] = descriptor.len
                burst.firstDescriptors[frameCount] = UInt8(truncatingIfNeeded: i)
            } else {
                burst.lengths[frameCount] &+= descriptor.len
            }
            if skips {
                burst.firstLengths[frameCount] = 0
                burst.chainLengths[frameCount] = 1
                skips = goesOn
                frameCount &+= 1
                taken = i &+ 1
                continue
            }
            chain &+= 1
            if !goesOn || chain == burstCapacity {
                burst.chainLengths[frameCount] = UInt8(truncatingIfNeeded: chain)
                skips = goesOn
                frameCount &+= 1
                taken = i &+ 1
                chain = 0
            }
        }
        sockets[from].skipsChain = skips
        return (frameCount, taken)
    }

    /// The socket that frames received by `from` leave by.
    @inline(__always)
    private func opposite(_ side: Side, _ from: Int) -> Int {
        side == .inside ? insideCount &+ from % (socketCount &- insideCount) : (from &- insideCount) % insideCount
    }

    /// A frame goes to the other port as a descriptor: its bytes stay where they are.
    ///
    /// - Returns: false if it took the general way, and `chainLengths` says what went.
    @inline(__always)
    private mutating func sendWhole(
        from side: Side, _ from: Int, _ frameCount: Int, _ publication: UnsafePointer<Publication>, _ judges: Bool
    ) -> Bool {
        let to = opposite(side, from)
        if sockets[to].isStuck || sockets[to].tx.room(for: UInt32(truncatingIfNeeded: frameCount)) < frameCount {
            for i in 0..<frameCount {
                burst.firstLengths[i] = burst.lengths[i]
                burst.firstDescriptors[i] = UInt8(truncatingIfNeeded: i)
                burst.chainLengths[i] = 1
                if !judges { burst.verdicts[i] = Verdict(rule: Verdict.noRule, cause: .none, isReply: false) }
            }
            transmit(from: side, from, frameCount, publication)
            return false
        }
        let enforces = publication.pointee.table.pointee.mode == .enforce
        let hits = publication.pointee.hits[index]
        let verdicts = burst.verdicts, lengths = burst.lengths, counters = counters
        let rx = sockets[from].rx.cursor
        let before = sockets[to].tx.cursor
        // In registers until the end of the burst.
        var tx = before
        var free = frames.free
        var receivedBytes: UInt64 = 0
        var keptBytes: UInt64 = 0
        for i in 0..<frameCount {
            let bytes = UInt64(lengths[i])
            receivedBytes &+= bytes
            let descriptor = rx.peek(UInt32(truncatingIfNeeded: i))
            if judges {
                let verdict = verdicts[i]
                if verdict.cause == .none {
                    if verdict.rule != Verdict.noRule { hits[Int(verdict.rule)].add(1) }
                } else if enforces || verdict.cause.isOrdered {
                    counters.denied(side, verdict.cause, bytes: bytes)
                    keptBytes &+= bytes
                    free.give(descriptor.addr)
                    continue
                } else {
                    counters.noted(side, verdict.cause, bytes: bytes)
                }
            }
            tx.put(descriptor)
        }
        frames.free = free
        counters.received(side, frames: UInt64(frameCount), bytes: receivedBytes)
        hand(over: tx.next &- before.next, bytes: receivedBytes &- keptBytes, from: side, to, tx)
        return true
    }

    @inline(__always)
    private mutating func hand(over sent: UInt32, bytes: UInt64, from side: Side, _ to: Int, _ tx: RingCursor<xdp_desc>) {
        guard sent > 0 else { return }
        sockets[to].inFlight &+= sent
        sockets[to].tx.cursor = tx
        counters.forwarded(side, frames: UInt64(sent), bytes: bytes)
        sockets[to].tx.publish()
        kick(to)
    }

    /// The general form: frames in several buffers, a TX ring that is full, a port that is down.
    @inline(never)
    private mutating func transmit(
        from side: Side, _ from: Int, _ frameCount: Int, _ publication: UnsafePointer<Publication>
    ) {
        let to = opposite(side, from)
        let enforces = publication.pointee.table.pointee.mode == .enforce
        let hits = publication.pointee.hits[index]
        let burst = burst, counters = counters
        let rx = sockets[from].rx.cursor
        var receivedBytes: UInt64 = 0
        var sentFrames: UInt64 = 0
        var sentBytes: UInt64 = 0
        // What a port that is down would take now, it would send when it is up again, under a policy that is gone.
        var room = sockets[to].isStuck ? 0 : sockets[to].tx.room(for: UInt32(burstCapacity))
        var mayWait = !sockets[to].isStuck
        // In registers, and set back before anybody else looks.
        var tx = sockets[to].tx.cursor
        var free = frames.free
        for i in 0..<frameCount {
            let bytes = UInt64(burst.lengths[i])
            receivedBytes &+= bytes
            let verdict = burst.verdicts[i]
            let chain = UInt32(burst.chainLengths[i])
            var cause = verdict.cause
            if cause == .none {
                if verdict.rule != Verdict.noRule { hits[Int(verdict.rule)].add(1) }
            } else if !enforces && !cause.isOrdered {
                counters.noted(side, cause, bytes: bytes)
                cause = .none
            }
            if chain > UInt32(longestChain) || burst.firstLengths[i] == 0 { cause = .frameChain }
            if cause == .none && room < chain {
                if mayWait {
                    sockets[to].inFlight &+= tx.next &- sockets[to].tx.cursor.next
                    sockets[to].tx.cursor = tx
                    frames.free = free
                    room = makeRoom(to, chain)
                    free = frames.free
                }
                // Once in a burst: the frames behind this one must not wait for each other.
                mayWait = room >= chain
                if room < chain { cause = .transmitFull }
            }
            let first = UInt32(burst.firstDescriptors[i])
            if cause == .none {
                for k in 0..<chain { tx.put(rx.peek(first &+ k)) }
                room &-= chain
                sentFrames &+= 1
                sentBytes &+= bytes
            } else {
                counters.denied(side, cause, bytes: bytes)
                for k in 0..<chain { free.give(rx.peek(first &+ k).addr) }
                // Of what does not leave there is no copy.
                burst.chainLengths[i] = 0
            }
        }
        frames.free = free
        counters.received(side, frames: UInt64(frameCount), bytes: receivedBytes)
        if sentFrames > 0 {
            sockets[to].inFlight &+= tx.next &- sockets[to].tx.cursor.next
            sockets[to].tx.cursor = tx
            counters.forwarded(side, frames: sentFrames, bytes: sentBytes)
            sockets[to].tx.publish()
            kick(to)
        }
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
        // A driver that is back may have sent what waited by itself: only a kick tells.
        if (sockets[i].tx.isPending || sockets[i].isStuck) && isTime { kick(i) }
        let done = sockets[i].completion.available(UInt32.max)
        let completion = sockets[i].completion.cursor
        var free = frames.free
        for k in 0..<done { free.give(completion.peek(k)) }
        frames.free = free
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
            var fill = sockets[i].fill.cursor
            var unused = frames.free
            for _ in 0..<count { fill.put(unused.take()) }
            frames.free = unused
            sockets[i].fill.cursor = fill
            if count > 0 { sockets[i].fill.publish() }
            sockets[i].filled &+= count
        }
        if sockets[i].fill.needsWakeup && sockets[i].descriptor >= 0 { _ = clinux_kick_rx(sockets[i].descriptor) }
    }

    /// Tells the kernel to send. In copy mode one call sends 32 frames (or the budget set at start) and asks
    /// for another with EAGAIN; a rest is kicked again in the next turn.
    @inline(__always)
    private mutating func kick(_ i: Int) {
        guard sockets[i].descriptor >= 0, sockets[i].tx.needsWakeup || sockets[i].isStuck else { return }
        for _ in 0..<transmitRetries {
            counters.count(.kicks)
            let error = clinux_kick_tx(sockets[i].descriptor)
            sockets[i].isStuck = Self.isStuck(error)
            if error == 0 { return }
            if error != -EAGAIN {
                counters.count(.kickErrors)
                return
            }
            if !sockets[i].tx.isPending { return }
        }
    }

    /// After a sleep every port is worth another attempt: with what waits in its ring, not with the next burst, which it
    /// would keep and send under a policy that may be gone by then.
    mutating func retryStuckPorts() {
        for i in 0..<socketCount where sockets[i].isStuck && sockets[i].descriptor >= 0 {
            sockets[i].isStuck = Self.isStuck(clinux_kick_tx(sockets[i].descriptor))
        }
    }

    /// EAGAIN, EBUSY, ENOBUFS: the driver is full. Others (ENETDOWN, ENXIO): the port is down or gone.
    @inline(__always)
    private static func isStuck(_ error: Int32) -> Bool {
        error != 0 && error != -EAGAIN && error != -EBUSY && error != -ENOBUFS
    }

    /// Whether something waits in a TX ring that will be taken soon.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    mutating func hasPendingTransmit() -> Bool {
        for i in 0..<socketCount where sockets[i].tx.isPending && !sockets[i].isStuck { return true }
        return false
    }

    /// For benchmarks, where sockets share one counter of timed frames.
    mutating func meetStamp(_ socket: Int) { sockets[socket].stampsMet &+= 1 }

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

    private let block: UnsafeMutableRawPointer

    /// One block, each part on cache lines of its own: a burst goes through all of them.
    init() {
        func bytes<T>(_ type: T.Type) -> Int { (burstCapacity * MemoryLayout<T>.stride + 63) & ~63 }
        let sizes = [
            bytes(UnsafeRawPointer.self), bytes(UInt32.self), bytes(UInt32.self), bytes(UInt8.self), bytes(UInt8.self),
            bytes(FrameHeaders.self), bytes(Verdict.self),
        ]
        block = .allocate(byteCount: sizes.reduce(0, +), alignment: 4096)
        var at = block
        func next<T>(_ type: T.Type) -> UnsafeMutablePointer<T> {
            defer { at += bytes(type) }
            return at.bindMemory(to: type, capacity: burstCapacity)
        }
        frames = next(UnsafeRawPointer.self)
        firstLengths = next(UInt32.self)
        lengths = next(UInt32.self)
        firstDescriptors = next(UInt8.self)
        chainLengths = next(UInt8.self)
        headers = next(FrameHeaders.self)
        verdicts = next(Verdict.self)
    }

    func deallocate() { block.deallocate() }
}
