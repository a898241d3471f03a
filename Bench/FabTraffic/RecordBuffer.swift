// Where records of one hour are collected, out of order, and from where they leave in order.
//
//     streams ─► this hour's records ─► sort by the last frame's time ─► the caller
//                later hours' ─► kept until their hour

import Frames

/// Address and MAC address.
struct Endpoint: BitwiseCopyable, Sendable, Hashable {
    var address: UInt32
    var mac: UInt64
}

/// Who talks to whom, and what is true of it.
struct Line: BitwiseCopyable, Sendable {
    var client: Endpoint
    var server: Endpoint
    var rule: Int32
    var port: UInt16
    var ipProtocol: UInt8
    var label: FabLabel
}

/// What goes in one direction.
struct Load: BitwiseCopyable, Sendable {
    var frames: Int
    /// On the wire, headers included.
    var bytes: Int

    /// So much payload in segments as full as they get.
    @inline(__always)
    static func payload(_ bytes: Int) -> Load {
        let frames = bytes / 1460 + 1
        return Load(frames: frames, bytes: bytes + 54 * frames)
    }
}

/// How a long-lived connection talks.
struct Pace: BitwiseCopyable, Sendable {
    /// Between polls or link tests.
    var period: Int
    var phase: Int
    /// Of one poll.
    var out: Load
    var back: Load
    /// Messages beside, at full production.
    var messagesPerHour: Double
    var messageBytes: Int
}

/// How a short connection goes.
enum Outcome: UInt8, BitwiseCopyable, Sendable { case whole, cut, refused, unanswered }

private let ack = TCPFlags.ack.rawValue
private let data = TCPFlags.ack.rawValue | TCPFlags.psh.rawValue

struct RecordBuffer: ~Copyable {
    // Unsafe: owned here alone; the first `count` of `capacity` are initialized.
    private var records: UnsafeMutablePointer<FabRecord>
    private var ordered: UnsafeMutablePointer<FabRecord>
    private var keys: UnsafeMutablePointer<UInt64>
    private var spare: UnsafeMutablePointer<UInt64>
    private var capacity = 1 << 14
    private(set) var count = 0
    private var later: [FabRecord] = []
    private let template: FabRecord
    private let epoch: UInt64
    private let slice: Int
    private var start: UInt64 = 0
    private var end: UInt64 = 0

    init(_ scenario: FabScenario) {
        precondition(scenario.sliceSeconds > 0 && 3600 % scenario.sliceSeconds == 0, "slices divide an hour")
        records = .allocate(capacity: capacity)
        ordered = .allocate(capacity: capacity)
        keys = .allocate(capacity: capacity)
        spare = .allocate(capacity: capacity)
        epoch = scenario.start * 1_000_000
        slice = scenario.sliceSeconds * Span.second
        var headers = FrameHeaders()
        headers.form = .ipv4
        headers.etherType = .ipv4
        let record = withUnsafeTemporaryAllocation(byteCount: 14, alignment: 8) { frame in
            frame.initializeMemory(as: UInt8.self, repeating: 0)
            return TrafficRecord(headers, frame: frame.baseAddress!, wireLength: 60, at: 0, side: nil)
        }
        template = FabRecord(record: record, rule: -1, label: .normal)
    }

    deinit {
        records.deallocate()
        ordered.deallocate()
        keys.deallocate()
        spare.deallocate()
    }

    // MARK: - Hours

    mutating func begin(_ hour: Hour) {
        count = 0
        start = (epoch + UInt64(hour.start)) * 1000
        end = (epoch + UInt64(hour.end)) * 1000
        var kept = 0
        for i in later.indices {
            if later[i].record.last < end {
                add(later[i])
            } else {
                later[kept] = later[i]
                kept += 1
            }
        }
        later.removeLast(later.count - kept)
    }

    private mutating func add(_ record: FabRecord) {
        if count == capacity { grow() }
        (records + count).initialize(to: record)
        count += 1
    }

    @inline(never)
    private mutating func grow() {
        let more = UnsafeMutablePointer<FabRecord>.allocate(capacity: capacity * 2)
        more.moveInitialize(from: records, count: count)
        records.deallocate()
        records = more
        capacity *= 2
        ordered.deallocate()
        keys.deallocate()
        spare.deallocate()
        ordered = .allocate(capacity: capacity)
        keys = .allocate(capacity: capacity)
        spare = .allocate(capacity: capacity)
    }

    /// The hour's records by the time of their last frame; of equal times in the order they were made. Until the next hour begins.
    mutating func sorted() -> UnsafeBufferPointer<FabRecord> {
        // An hour has 2^31.7 microseconds: time and index in one word, three passes over eleven bits of time.
        for i in 0..<count { keys[i] = ((records[i].record.last &- start) / 1000) << 32 | UInt64(truncatingIfNeeded: i) }
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 1 << 11) { places in
            for shift in [32, 43, 54] as [UInt64] {
                places.initialize(repeating: 0)
                for i in 0..<count { places[Int(keys[i] >> shift & 0x7FF)] += 1 }
                var sum = 0
                for i in 0..<1 << 11 { (places[i], sum) = (sum, sum + places[i]) }
                for i in 0..<count {
                    let digit = Int(keys[i] >> shift & 0x7FF)
                    spare[places[digit]] = keys[i]
                    places[digit] += 1
                }
                swap(&keys, &spare)
            }
        }
        for i in 0..<count { (ordered + i).initialize(to: records[Int(keys[i] & 0xFFFF_FFFF)]) }
        return UnsafeBufferPointer(start: ordered, count: count)
    }

    // MARK: - Records

    @inline(__always)
    private mutating func put(
        from source: Endpoint, to destination: Endpoint, ports: (UInt16, UInt16), _ line: Line, flags: UInt8, _ load: Load,
        first: Int, last: Int, form: FrameForm = .ipv4, marks: FrameMarks = []
    ) {
        if count == capacity { grow() }
        let at = records + count
        at.initialize(to: template)
        at.pointee.record.source.low = UInt64(source.address)
        at.pointee.record.destination.low = UInt64(destination.address)
        at.pointee.record.first = (epoch &+ UInt64(truncatingIfNeeded: first)) &* 1000
        let last = (epoch &+ UInt64(truncatingIfNeeded: last)) &* 1000
        at.pointee.record.last = last
        // An Ethernet frame has 60 to 1514 bytes, without its checksum.
        let frames = max(load.frames, (load.bytes &+ 1513) / 1514)
        at.pointee.record.bytes = UInt64(truncatingIfNeeded: max(load.bytes, 60 &* frames))
        at.pointee.record.sourceMAC = MACAddress(rawValue: source.mac)
        at.pointee.record.frames = UInt32(truncatingIfNeeded: frames)
        at.pointee.record.sourcePort = Port(rawValue: ports.0)
        at.pointee.record.destinationPort = Port(rawValue: ports.1)
        at.pointee.record.ipProtocol = IPProtocol(rawValue: line.ipProtocol)
        at.pointee.record.tcpFlags = TCPFlags(rawValue: flags)
        if form == .arp {
            at.pointee.record.form = .arp
            at.pointee.record.etherType = .arp
        }
        at.pointee.record.marks = marks
        at.pointee.rule = line.rule
        at.pointee.label = line.label
        if last >= end { later.append(at.pointee) } else { count += 1 }
    }

    @inline(__always)
    mutating func out(_ line: Line, _ port: UInt16, flags: UInt8, _ load: Load, first: Int, last: Int) {
        put(from: line.client, to: line.server, ports: (port, line.port), line, flags: flags, load, first: first, last: last)
    }

    @inline(__always)
    mutating func back(_ line: Line, _ port: UInt16, flags: UInt8, _ load: Load, first: Int, last: Int) {
        put(from: line.server, to: line.client, ports: (line.port, port), line, flags: flags, load, first: first, last: last)
    }

    /// A question over UDP and its answer, if it gets one.
    @inline(__always)
    mutating func datagrams(_ line: Line, port: UInt16, at time: Int, out: Load, back: Load?, after: Int) {
        self.out(line, port, flags: 0, out, first: time, last: time)
        if let back { self.back(line, port, flags: 0, back, first: time + after, last: time + after) }
    }

    /// An echo request and its answer.
    mutating func ping(_ line: Line, at time: Int, after: Int) {
        let load = Load(frames: 1, bytes: 98)
        put(from: line.client, to: line.server, ports: (0, line.port), line, flags: 0, load, first: time, last: time, marks: .neverReverse)
        put(
            from: line.server, to: line.client, ports: (line.port, 0), line, flags: 0, load, first: time + after, last: time + after,
            marks: .neverForward)
    }

    /// `claimed` says that its address is at `claimed.mac`.
    mutating func arp(_ claimed: Endpoint, asks asked: Endpoint, label: FabLabel, frames: Int = 1, first: Int, last: Int) {
        let line = Line(client: claimed, server: asked, rule: -1, port: 0, ipProtocol: 0, label: label)
        put(
            from: claimed, to: asked, ports: (0, 0), line, flags: 0, Load(frames: frames, bytes: 60 * frames), first: first, last: last,
            form: .arp)
    }

    /// SYN and SYN-ACK.
    @inline(__always)
    mutating func open(_ line: Line, port: UInt16, at time: Int, after: Int) {
        out(line, port, flags: TCPFlags.syn.rawValue, Load(frames: 1, bytes: 66), first: time, last: time)
        back(line, port, flags: TCPFlags.syn.rawValue | ack, Load(frames: 1, bytes: 66), first: time + after, last: time + after)
    }

    @inline(__always)
    mutating func close(_ line: Line, port: UInt16, at time: Int, byServer: Bool = false) {
        let load = Load(frames: 2, bytes: 120)
        if byServer {
            back(line, port, flags: TCPFlags.fin.rawValue | ack, load, first: time, last: time)
            out(line, port, flags: TCPFlags.fin.rawValue | ack, load, first: time + 150, last: time + 200)
        } else {
            out(line, port, flags: TCPFlags.fin.rawValue | ack, load, first: time, last: time)
            back(line, port, flags: TCPFlags.fin.rawValue | ack, load, first: time + 150, last: time + 200)
        }
    }

    /// A connection that is refused, or asked for in vain.
    @inline(never)
    mutating func fail(_ line: Line, port: UInt16, at time: Int, refused: Bool, tries: Int = 3) {
        let syn = Load(frames: 1, bytes: 66)
        if refused {
            out(line, port, flags: TCPFlags.syn.rawValue, syn, first: time, last: time)
            back(line, port, flags: TCPFlags.rst.rawValue | ack, Load(frames: 1, bytes: 60), first: time + 200, last: time + 200)
            return
        }
        // RFC 6298: one second, then twice as long each time.
        var at = time
        for n in 0..<tries {
            out(line, port, flags: TCPFlags.syn.rawValue, syn, first: at, last: at)
            at += Span.second << n
        }
    }

    /// A connection of seconds or minutes: all of it.
    @inline(__always)
    mutating func connection(
        _ line: Line, port: UInt16, at time: Int, lasting: Int, out: Load, back: Load, outcome: Outcome = .whole, random: inout SplitMix
    ) {
        if outcome == .refused || outcome == .unanswered { return fail(line, port: port, at: time, refused: outcome == .refused) }
        let after = random.between(120, 600)
        open(line, port: port, at: time, after: after)
        let begin = time + 2 * after, stop = begin + max(lasting, 2 * after)
        if lasting > max(slice, Span.minute) {
            let pace = Pace(period: Span.second, phase: time, out: out, back: back, messagesPerHour: 0, messageBytes: 0)
            carry(line, port: port, from: begin, to: stop, pace, factor: 1, whole: (out, back, stop - begin), random: &random)
        } else {
            self.out(line, port, flags: data, out, first: begin, last: stop - after)
            self.back(line, port, flags: data, back, first: begin + after, last: stop)
        }
        if outcome == .cut {
            self.out(line, port, flags: TCPFlags.rst.rawValue | ack, Load(frames: 1, bytes: 60), first: stop + after, last: stop + after)
        } else {
            close(line, port: port, at: stop + after)
        }
    }

    /// What a connection carries between two times, slice by slice.
    ///
    /// - Parameter whole: out, back and the time they take, to be spread evenly; nil: as `pace` says.
    mutating func carry(
        _ line: Line, port: UInt16, from: Int, to: Int, _ pace: Pace, factor: Double, whole: (Load, Load, Int)? = nil,
        random: inout SplitMix
    ) {
        var time = from
        while time < to {
            let stop = min(to, (time / slice + 1) * slice)
            defer { time = stop }
            let length = stop - time
            var out: Load, back: Load, first: Int, last: Int
            if let whole {
                let share = Double(length) / Double(whole.2)
                out = Load(frames: Int(Double(whole.0.frames) * share) + 1, bytes: Int(Double(whole.0.bytes) * share) + 60)
                back = Load(frames: Int(Double(whole.1.frames) * share) + 1, bytes: Int(Double(whole.1.bytes) * share) + 60)
                first = time + random.below(length / 8)
                last = stop - 1 - random.below(length / 8)
            } else {
                // Polls at phase + k * period, k a number of this slice.
                let k = (time - pace.phase + pace.period - 1) / pace.period
                let next = pace.phase + k * pace.period
                let polls = next < stop ? (stop - 1 - next) / pace.period + 1 : 0
                let wanted = pace.messagesPerHour * factor * Double(length) / Double(Span.hour)
                let messages = wanted > 0 ? Int(wanted * (0.8 + 0.4 * random.unit()) + random.unit()) : 0
                if polls + messages == 0 { continue }
                out = Load(frames: polls * pace.out.frames, bytes: polls * pace.out.bytes)
                back = Load(frames: polls * pace.back.frames, bytes: polls * pace.back.bytes)
                // A message and its reply, whoever sends the one: both acknowledge.
                let segments = pace.messageBytes / 1460 + 1
                out.frames += messages * 2
                out.bytes += messages * 140
                back.frames += messages * (segments + 1)
                back.bytes += messages * (pace.messageBytes + 60 * (segments + 1))
                if polls > 0 {
                    first = next
                    last = next + (polls - 1) * pace.period
                    // Never quite on time.
                    last = min(stop - 1, last + random.below(min(pace.period / 16, 20 * Span.millisecond)))
                } else {
                    first = time + random.below(length)
                    last = first + random.below(stop - first)
                }
                if messages > 0 { last = max(last, stop - 1 - random.below(length / max(1, messages + 1))) }
            }
            last = max(last, first)
            let after = random.between(120, 900)
            self.out(line, port, flags: data, out, first: first, last: last)
            self.back(line, port, flags: data, back, first: min(stop - 1, first + after), last: max(min(stop - 1, first + after), min(stop - 1, last + after)))
        }
    }
}
