// What passes, summed up for whoever learns: from the worker to the control side.
//
//   worker   burst ─► place of its flow: frames, bytes, flags, last ─► displaced, or old ─► ring ─►   control
//
// A frame only adds to its flow's place. What did not pass, and who claims an address, is told at once: somebody may have to be cut off. The ring
// has one writer and one reader; when it is full the worker counts what is
// lost, and goes on.

import Allowlist
import CLinux
import Frames

/// A record is handed over so long after it began, or soon after, ns.
private let longestHeld: UInt64 = 100_000_000
/// Time between looks for such records, ns.
private let betweenPasses: UInt64 = 25_000_000
/// Of `occupied`, looked at by one call of `tell`: 256 places, some microseconds if all must go.
private let wordsPerCall = 4
/// Of those that are urgent, handed over by one call.
private let urgentPerCall = 256
/// Flows of one side that are summed up at once; in sets of two.
private let placesPerSide = 4096
/// A place has two cache lines.
private let placeBytes = 128

/// A flow's frames since `first`. All up to `kind` is what they have in common.
private struct Place: BitwiseCopyable {
    var source: AddressWords
    var destination: AddressWords
    /// Both ports, EtherType, VLAN: as they lie in `FrameHeaders`.
    var ports: UInt64
    /// See `Kind`.
    var kind: UInt64
    /// Ethernet source of the first, and the two bytes behind it.
    var sender: UInt64
    var bytes: UInt64
    var first: UInt64
    var last: UInt64
    var frames: UInt32
    var tcpFlags: UInt8
}

/// Form, cause of the verdict, protocol, some TCP flags, marks: as they lie in `FrameHeaders`, little-endian.
private enum Kind {
    /// Where `FrameHeaders` has them; DatapathTests hold it to that.
    @inline(__always) static var offset: Int { 40 }
    @inline(__always) static var portsOffset: Int { 32 }

    /// All but the parser's cause and offsets. Of the flags: ACK tells a SYN from the rest of what its sender says.
    @inline(__always) static var mask: UInt64 { 0x0000_FF00_16FF_00FF }
    /// SYN, RST: they begin a record of their own, so that neither a new connection nor a refusal is lost in an old one's sum.
    @inline(__always) static var beginsAnew: UInt64 { 0x0600_0000 }
    /// To look for any record of the flow.
    @inline(__always) static var withoutFlags: UInt64 { ~0xFF00_0000 }
    /// No frame has it.
    @inline(__always) static var free: UInt64 { .max }
    /// Did not pass, or claims an address, or would not have passed and opens a TCP connection. Of the rest of what would not have passed,
    /// a question must come before its answer, and a busy flow must not be a flood of records.
    @inline(__always) static func isUrgent(_ kind: UInt64, enforces: Bool) -> Bool {
        if kind & 0xFF >= UInt64(FrameForm.arp.rawValue) { return true }
        let cause = Cause(rawValue: UInt8(truncatingIfNeeded: kind >> 8))
        guard cause != .none else { return false }
        let isOpening = kind & 0x00FF_0000 == UInt64(IPProtocol.tcp.rawValue) << 16 && kind & (openFlags << 24) == UInt64(TCPFlags.syn.rawValue) << 24
        return enforces || cause.isOrdered || isOpening
    }
    @inline(__always) private static var openFlags: UInt64 { UInt64(TCPFlags.syn.rawValue | TCPFlags.ack.rawValue) }
}

/// What only the worker knows of its recording.
private struct RecorderState {
    /// The time of the worker's last look, ns of CLOCK_MONOTONIC_COARSE, and one more for each record that began since: the
    /// order in which they began is that of their times.
    var clock: UInt64 = 0
    var births: UInt64 = 0
    /// Next word of `occupied` to be looked at; beyond the last: no pass is under way.
    var position = Int.max
    var passBegan: UInt64 = 0
    /// What began until then is handed over by this pass.
    var cutoff: UInt64 = 0
    /// Whether there may be urgent ones, and when they were last handed over.
    var hasUrgent = false
    var urgentAt: UInt64 = 0
    /// Word of `urgent` to go on with.
    var urgentPosition = 0
}

/// Records on their way to the control side.
public final class TrafficRing: @unchecked Sendable {
    // Unchecked: one writer, one reader, and the words between them are atomic.
    fileprivate let ring: RecordRing<TrafficRecord>
    /// The beginnings of frames that did not pass, one for each such record if there is room.
    public let samples = FrameSampleRing()

    fileprivate enum Word {
        @inline(__always) static var lostRecords: Int { RecordRing<TrafficRecord>.firstCount }
        @inline(__always) static var lostFrames: Int { lostRecords + 1 }
        @inline(__always) static var settled: Int { lostRecords + 2 }
    }

    /// - Parameter capacity: records, a power of two.
    init(capacity: Int = 16384) { ring = .allocate(capacity) }

    deinit { ring.deallocate() }

    // MARK: The control side

    public var capacity: Int { ring.capacity }

    /// Adds what has come since the last call. Times are those of CLOCK_MONOTONIC.
    ///
    /// - Returns: how many.
    @discardableResult
    public func take(into list: inout [TrafficRecord]) -> Int { ring.take(into: &list) }

    /// Every record that began until then, by CLOCK_MONOTONIC, is in the ring or has been taken. Read before `take`.
    public var settled: UInt64 { ring.value(Word.settled) }
    /// What found no room.
    public var lostRecords: UInt64 { ring.value(Word.lostRecords) }
    public var lostFrames: UInt64 { ring.value(Word.lostFrames) }
}

/// The worker's end. Fixed memory: a megabyte of places, and the ring.
struct TrafficRecorder {
    private let places: UnsafeMutableRawPointer
    /// A bit for each place that holds something.
    private let occupied: UnsafeMutablePointer<UInt64>
    /// Of these, those that must not wait.
    private let urgent: UnsafeMutablePointer<UInt64>
    private let state: UnsafeMutablePointer<RecorderState>
    private let ring: RecordRing<TrafficRecord>
    private let sampler: FrameSampler

    private static var wordCount: Int { 2 * placesPerSide / 64 }

    /// - Parameter ring: must outlive it.
    static func allocate(ring: TrafficRing) -> TrafficRecorder {
        let nothing = Place(
            source: .zero, destination: .zero, ports: 0, kind: Kind.free, sender: 0, bytes: 0, first: 0, last: 0, frames: 0, tcpFlags: 0)
        let places = UnsafeMutableRawPointer.allocate(byteCount: 2 * placesPerSide * placeBytes, alignment: 4096)
        for i in 0..<2 * placesPerSide { (places + i * placeBytes).initializeMemory(as: Place.self, to: nothing) }
        let occupied = UnsafeMutablePointer<UInt64>.allocate(capacity: wordCount)
        occupied.initialize(repeating: 0, count: wordCount)
        let state = UnsafeMutablePointer<RecorderState>.allocate(capacity: 1)
        state.initialize(to: RecorderState())
        let urgent = UnsafeMutablePointer<UInt64>.allocate(capacity: wordCount)
        urgent.initialize(repeating: 0, count: wordCount)
        return TrafficRecorder(places: places, occupied: occupied, urgent: urgent, state: state, ring: ring.ring, sampler: ring.samples.sampler)
    }

    func deallocate() {
        places.deallocate()
        occupied.deallocate()
        urgent.deallocate()
        state.deallocate()
    }

    // MARK: - Frames

    /// Adds a burst that was judged.
    ///
    /// - Parameters:
    ///   - frames: pointers to frames in a UMEM: there are 14 bytes behind each, though they may not be the frame's.
    ///   - enforces: whether what has a cause did not pass.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    @inline(never)
    func record(
        _ frames: UnsafePointer<UnsafeRawPointer>, _ headers: UnsafePointer<FrameHeaders>, _ lengths: UnsafePointer<UInt32>,
        _ verdicts: UnsafePointer<Verdict>, count: Int, from side: Side, enforces: Bool
    ) {
        let base = places + Int(side.rawValue) &* (placesPerSide &* placeBytes)
        let now = state.pointee.clock
        for i in 0..<count {
            let header = UnsafeRawPointer(headers + i)
            let word = header.load(fromByteOffset: Kind.offset, as: UInt64.self)
            let kind = word & Kind.mask | UInt64(verdicts[i].cause.rawValue) << 8
            let ports = header.load(fromByteOffset: Kind.portsOffset, as: UInt64.self)
            // Without a secret: whoever has his frames share a place only splits sums, as he does with every new flow.
            let hash = mum(headers[i].source.low ^ 0x9E37_79B9_7F4A_7C15, headers[i].destination.low ^ ports)
            let at = base + Int(truncatingIfNeeded: hash & UInt64((placesPerSide &- 1) &* placeBytes))
            let place = at.assumingMemoryBound(to: Place.self)
            if _fastPath(!differs(place, headers + i, ports, kind)) {
                add(place, headers + i, lengths[i], now)
            } else {
                miss(at, headers + i, ports, kind, frames[i], lengths[i], side, enforces)
            }
        }
    }

    @inline(__always)
    private func differs(
        _ place: UnsafeMutablePointer<Place>, _ headers: UnsafePointer<FrameHeaders>, _ ports: UInt64, _ kind: UInt64
    ) -> Bool {
        let low = (place.pointee.source.low ^ headers.pointee.source.low) | (place.pointee.destination.low ^ headers.pointee.destination.low)
        let high = (place.pointee.source.high ^ headers.pointee.source.high) | (place.pointee.destination.high ^ headers.pointee.destination.high)
        return low | high | (place.pointee.ports ^ ports) | (place.pointee.kind ^ kind) != 0
    }

    @inline(__always)
    private func add(_ place: UnsafeMutablePointer<Place>, _ headers: UnsafePointer<FrameHeaders>, _ length: UInt32, _ now: UInt64) {
        place.pointee.bytes &+= UInt64(length)
        place.pointee.last = now
        place.pointee.frames &+= 1
        place.pointee.tcpFlags |= headers.pointee.tcpFlags.rawValue
    }

    /// A frame whose flow is not where it was looked for first, or that begins a record of its own.
    @inline(never)
    private func miss(
        _ at: UnsafeMutableRawPointer, _ headers: UnsafePointer<FrameHeaders>, _ ports: UInt64, _ kind: UInt64, _ frame: UnsafeRawPointer,
        _ length: UInt32, _ side: Side, _ enforces: Bool
    ) {
        let now = state.pointee.clock
        let first = at.assumingMemoryBound(to: Place.self)
        // The other place of the set.
        let second = UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: at) ^ UInt(placeBytes))!.assumingMemoryBound(to: Place.self)
        if kind & Kind.beginsAnew == 0 {
            if !differs(second, headers, ports, kind) { return add(second, headers, length, now) }
        } else {
            giveUp(first, ofFlow: headers, ports, kind)
            giveUp(second, ofFlow: headers, ports, kind)
        }
        var place = first
        if first.pointee.kind != Kind.free {
            // Not the older one: of three flows that take turns, each would push out the next.
            if second.pointee.kind == Kind.free { place = second } else { handOver(first) }
        }
        place.pointee = Place(
            source: headers.pointee.source, destination: headers.pointee.destination, ports: ports, kind: kind & ~Kind.beginsAnew,
            sender: frame.loadUnaligned(fromByteOffset: 6, as: UInt64.self), bytes: UInt64(length), first: now &+ state.pointee.births,
            last: now, frames: 1, tcpFlags: headers.pointee.tcpFlags.rawValue)
        state.pointee.births &+= 1
        let number = number(place)
        occupied[number / 64] |= 1 << UInt64(number % 64)
        if Kind.isUrgent(kind, enforces: enforces) {
            urgent[number / 64] |= 1 << UInt64(number % 64)
            state.pointee.hasUrgent = true
        }
        let cause = Cause(rawValue: UInt8(truncatingIfNeeded: kind >> 8))
        if cause != .none { sampler.take(frame, headers, wireLength: length, cause: cause, from: side, at: now) }
    }

    /// Hands a place over if it is of this flow.
    @inline(__always)
    private func giveUp(
        _ place: UnsafeMutablePointer<Place>, ofFlow headers: UnsafePointer<FrameHeaders>, _ ports: UInt64, _ kind: UInt64
    ) {
        let own = place.pointee.kind
        // As far as the flags go, any: those of `kind` are made the place's.
        if own != Kind.free, !differs(place, headers, ports, kind & Kind.withoutFlags | own & ~Kind.withoutFlags) { handOver(place) }
    }

    @inline(__always)
    private func number(_ place: UnsafeMutablePointer<Place>) -> Int { (UnsafeMutableRawPointer(place) - places) / placeBytes }

    /// Puts a place's record into the ring, or counts it as lost. The place is free then.
    @inline(__always)
    private func handOver(_ place: UnsafeMutablePointer<Place>) {
        let number = number(place)
        occupied[number / 64] &= ~(1 << UInt64(number % 64))
        let isUrgent = urgent[number / 64] >> UInt64(number % 64) & 1 == 1
        urgent[number / 64] &= ~(1 << UInt64(number % 64))
        let kind = place.pointee.kind
        place.pointee.kind = Kind.free
        let ports = place.pointee.ports
        var record = TrafficRecord(
            source: place.pointee.source, destination: place.pointee.destination, first: place.pointee.first,
            last: max(place.pointee.first, place.pointee.last), bytes: place.pointee.bytes,
            sourceMAC: MACAddress(rawValue: UInt64(bigEndian: place.pointee.sender) >> 16), frames: place.pointee.frames,
            sourcePort: Port(rawValue: UInt16(truncatingIfNeeded: ports)), destinationPort: Port(rawValue: UInt16(truncatingIfNeeded: ports >> 16)),
            vlan: VLANID(rawValue: UInt16(truncatingIfNeeded: ports >> 48)), etherType: EtherType(rawValue: UInt16(truncatingIfNeeded: ports >> 32)),
            ipProtocol: IPProtocol(rawValue: UInt8(truncatingIfNeeded: kind >> 16)), tcpFlags: TCPFlags(rawValue: place.pointee.tcpFlags),
            form: FrameForm(rawValue: UInt8(truncatingIfNeeded: kind)) ?? .other, marks: FrameMarks(rawValue: UInt8(truncatingIfNeeded: kind >> 40)),
            side: number < placesPerSide ? .inside : .outside, cause: Cause(rawValue: UInt8(truncatingIfNeeded: kind >> 8)))
        record.isUrgent = isUrgent
        if ring.put(record) { return }
        ring.add(1, to: TrafficRing.Word.lostRecords)
        ring.add(UInt64(record.frames), to: TrafficRing.Word.lostFrames)
    }

    // MARK: - Time

    /// Tells the time, and hands over some of what is old.
    ///
    /// - Parameter nanoseconds: of CLOCK_MONOTONIC_COARSE.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    @inline(never)
    func tell(_ nanoseconds: UInt64) {
        if nanoseconds != state.pointee.clock {
            state.pointee.clock = nanoseconds
            state.pointee.births = 0
        }
        // By the clock's ticks, so that a flow that is denied without end is a few hundred records a second.
        if state.pointee.hasUrgent, nanoseconds != state.pointee.urgentAt { tellUrgent(urgentPerCall) }
        if beginsPass() { sweep(wordsPerCall) }
    }

    /// Hands over what must not wait.
    @inline(never)
    private func tellUrgent(_ most: Int) {
        var left = most
        let begin = state.pointee.urgentPosition
        for i in 0..<Self.wordCount {
            // On from where the last call stopped, so that none waits for ever behind others.
            let position = (begin &+ i) & (Self.wordCount &- 1)
            // `handOver` takes the bits away.
            while urgent[position] != 0 {
                if left == 0 {
                    state.pointee.urgentPosition = position
                    return
                }
                left &-= 1
                let number = position &* 64 &+ urgent[position].trailingZeroBitCount
                handOver((places + number &* placeBytes).assumingMemoryBound(to: Place.self))
            }
        }
        state.pointee.hasUrgent = false
        state.pointee.urgentAt = state.pointee.clock
    }

    /// Hands over all that is old; before a sleep.
    func settle() {
        if state.pointee.hasUrgent { tellUrgent(.max) }
        if beginsPass() { sweep(Self.wordCount) }
    }

    /// Hands over everything: the worker ends.
    func finish() {
        state.pointee.position = 0
        state.pointee.cutoff = .max
        sweep(Self.wordCount)
    }

    /// Whether a pass is under way or begins now.
    @inline(__always)
    private func beginsPass() -> Bool {
        if state.pointee.position < Self.wordCount { return true }
        let now = state.pointee.clock
        guard now &- state.pointee.passBegan >= betweenPasses else { return false }
        state.pointee.passBegan = now
        state.pointee.position = 0
        state.pointee.cutoff = now > longestHeld ? now &- longestHeld : 0
        return true
    }

    @inline(__always)
    private func sweep(_ count: Int) {
        let begin = state.pointee.position
        let end = min(begin &+ count, Self.wordCount)
        let cutoff = state.pointee.cutoff
        for position in begin..<end {
            var bits = occupied[position]
            while bits != 0 {
                let place = (places + (position &* 64 &+ bits.trailingZeroBitCount) &* placeBytes).assumingMemoryBound(to: Place.self)
                if place.pointee.first <= cutoff { handOver(place) }
                bits &= bits &- 1
            }
        }
        state.pointee.position = end
        // Whoever was displaced meanwhile is in the ring as well: in what order is the reader's to restore.
        if end == Self.wordCount { ring.set(TrafficRing.Word.settled, cutoff) }
    }

    /// Whether anything waits to be old.
    var holdsAny: Bool { (0..<Self.wordCount).contains { occupied[$0] != 0 } }
}
