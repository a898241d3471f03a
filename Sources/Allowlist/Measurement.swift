// The tiers by themselves, for benchmarks.

import Frames

/// A perfect table of IPv4 conversations with its owner. The data path uses the same table as part of a
/// `CompiledTable`; this is the door for measuring it alone.
@_spi(Measurement)
public final class ExactTable {
    private let memory = TableMemory()
    private let table: PerfectTable<Key4>
    private let scratch: LookupScratch<Key4>

    /// A conversation as the table stores it.
    public struct Conversation: BitwiseCopyable {
        fileprivate var key: Key4

        public init(client: UInt32, server: UInt32, port: UInt16, ipProtocol: UInt8, rule: UInt32) {
            key = Key4(client: client, server: server, port: port, ipProtocol: ipProtocol)
            key.reference = rule
        }

        /// The words a lookup compares, for tables of another make.
        public var words: SIMD2<UInt64> { SIMD2(key.addresses, key.tail & 0xFFFF_FFFF) }
    }

    public init(_ conversations: [Conversation]) {
        let memory = memory
        table = conversations.withUnsafeBufferPointer { buffer in
            // A conversation is its key and nothing else.
            buffer.withMemoryRebound(to: Key4.self) { PerfectTable<Key4>.build($0, in: memory) }
        }
        scratch = LookupScratch(capacity: burstCapacity, in: memory)
    }

    public var bytes: Int { memory.bytes }
    public var isPerfect: Bool { !table.isPlain }

    /// Looks `count` conversations up in batches of `burstCapacity`.
    ///
    /// - Returns: how many are in the table.
    @inline(never)
    public func hits(_ conversations: UnsafePointer<Conversation>, count: Int) -> Int {
        var hits = 0
        var at = 0
        let scratch = scratch
        let table = table
        while at < count {
            let n = min(burstCapacity, count &- at)
            // A conversation is its key and nothing else.
            let keys = UnsafeRawPointer(conversations + at).assumingMemoryBound(to: Key4.self)
            table.lookUp(keys, n, scratch)
            for i in 0..<n { hits &+= scratch.references[i] == noReference ? 0 : 1 }
            at &+= n
        }
        return hits
    }
}

/// The label tier of a table: network rules, the sender taken for the client.
@_spi(Measurement)
public final class NetworkLookup {
    private let table: CompiledTable
    private let memory = JudgeMemory()

    public init(_ table: CompiledTable) { self.table = table }

    /// Looks parsed headers up in batches of `burstCapacity`; `count` is a multiple of it.
    ///
    /// - Returns: how many some rule allows.
    @inline(never)
    public func hits(_ headers: UnsafePointer<FrameHeaders>, count: Int) -> Int {
        var hits = 0
        let scratch = memory.scratch, view = table.view
        for i in 0..<burstCapacity { scratch.list4[i] = UInt8(i) }
        for burst in 0..<count / burstCapacity {
            let at = headers + burst &* burstCapacity
            for i in 0..<burstCapacity { scratch.found[i] = Verdict.noRule }
            view.pointee.labels.findLabels(at, scratch.list4, burstCapacity, scratch.labels)
            view.pointee.labels.lookUp(
                at, scratch.list4, burstCapacity, isReply: false, from: .outside, view.pointee.references, scratch.labels,
                found: scratch.found)
            for i in 0..<burstCapacity { hits &+= scratch.found[i] == Verdict.noRule ? 0 : 1 }
        }
        return hits
    }
}

/// The stages of a verdict, one by one, over headers parsed before.
@_spi(Measurement)
public final class VerdictStages {
    private let table: CompiledTable
    private let memory = JudgeMemory()
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: burstCapacity)

    public init(_ table: CompiledTable) { self.table = table }
    deinit { verdicts.deallocate() }

    /// Keys of `count` ≤ `burstCapacity` IPv4 frames, the sender taken for the client.
    @inline(never)
    public func keys(_ headers: UnsafePointer<FrameHeaders>, count: Int) {
        let scratch = memory.scratch
        for i in 0..<count { scratch.list4[i] = UInt8(truncatingIfNeeded: i) }
        buildKeys4(headers, isReply: false, scratch, count)
    }

    /// Looks up the keys made before.
    @inline(never)
    public func lookUp(count: Int) { table.view.pointee.exact4.lookUp(count, memory.scratch.exact4) }

    /// Everything: both ways round if need be.
    ///
    /// - Returns: frames allowed.
    @inline(never)
    public func judge(_ frames: UnsafePointer<UnsafeRawPointer>, _ headers: UnsafePointer<FrameHeaders>, count: Int) -> Int {
        judgeBurst(
            table.view, frames: frames, headers: headers, count: count, from: .outside, scratch: memory.scratch, verdicts: verdicts)
        return Int(truncatingIfNeeded: count) - (0..<count).reduce(0) { $0 &+ (verdicts[$1].isAllowed ? 0 : 1) }
    }
}

/// The flow table by itself: established TCP connections, a segment of a random one after the other.
@_spi(Measurement)
public final class FlowLookup {
    private let table: CompiledTable
    private let flows: FlowTable
    private let memory = FlowMemory()
    private let frames = UnsafeMutablePointer<UnsafeRawPointer>.allocate(capacity: burstCapacity)
    private let bytes = UnsafeMutableRawPointer.allocate(byteCount: burstCapacity * 64, alignment: 64)
    private let lengths = UnsafeMutablePointer<UInt32>.allocate(capacity: burstCapacity)
    private let headers = UnsafeMutablePointer<FrameHeaders>.allocate(capacity: burstCapacity)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: burstCapacity)
    private var random = SampleGenerator()
    private let count: UInt64
    private let clock = FlowClock(now: FlowTick(rawValue: 1000), graceBegan: FlowTick(rawValue: 1), grace: 0)

    /// - Parameter isShared: with the locks that several workers need.
    public init(flows count: Int, isShared: Bool, isStrict: Bool) throws(TableError) {
        let any = AddressPrefix.any(.ipv4)
        let service = ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5000))
        table = try CompiledTable.build(
            AllowlistSource(rules: [
                AllowRule(clients: [any], servers: [any], services: [service], flows: FlowOptions(isStrict: isStrict))
            ]))
        flows = FlowTable(capacity: count, isShared: isShared)
        self.count = UInt64(count)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: burstCapacity * 64)
        for i in 0..<burstCapacity {
            let frame = bytes + 64 * i
            // IPv4 total length 40, TCP sequence and acknowledgement 1, header of 20 bytes, a window.
            frame.storeBytes(of: UInt16(40).bigEndian, toByteOffset: 16, as: UInt16.self)
            frame.storeBytes(of: UInt32(1).bigEndian, toByteOffset: 38, as: UInt32.self)
            frame.storeBytes(of: UInt32(1).bigEndian, toByteOffset: 42, as: UInt32.self)
            frame.storeBytes(of: UInt32(0x5010_2000).bigEndian, toByteOffset: 46, as: UInt32.self)
            frames[i] = UnsafeRawPointer(frame)
            lengths[i] = 54
            headers[i] = FrameHeaders()
            headers[i].form = .ipv4
            headers[i].ipProtocol = .tcp
            headers[i].tcpFlags = .ack
            headers[i].transportOffset = 34
        }
        // Both ways, so that each is established.
        for first in stride(from: UInt64(0), to: self.count, by: burstCapacity) {
            for isReply in [false, true, false] {
                for i in 0..<burstCapacity { set(i, first &+ UInt64(i), isReply: isReply) }
                track(burstCapacity)
            }
        }
    }

    deinit {
        frames.deallocate()
        bytes.deallocate()
        lengths.deallocate()
        headers.deallocate()
        verdicts.deallocate()
    }

    public var known: UInt64 { memory.scratch.counts.pointee.made &- memory.scratch.counts.pointee.ended }
    public var bytesInAll: Int { flows.bytes }

    @inline(__always)
    private func set(_ i: Int, _ flow: UInt64, isReply: Bool) {
        let client = AddressWords(high: 0, low: 0x0A00_0000 | flow >> 6), server = AddressWords(high: 0, low: 0xC0A8_0000 | flow & 0xFF)
        headers[i].source = isReply ? server : client
        headers[i].destination = isReply ? client : server
        headers[i].sourcePort = Port(rawValue: isReply ? 5000 : 40_000 &+ UInt16(truncatingIfNeeded: flow & 63))
        headers[i].destinationPort = Port(rawValue: isReply ? 40_000 &+ UInt16(truncatingIfNeeded: flow & 63) : 5000)
        verdicts[i] = Verdict(rule: 0, cause: .none, isReply: isReply)
    }

    @inline(__always)
    private func track(_ n: Int) {
        trackBurst(
            table.view, flows.view, from: nil, frames: frames, available: lengths, headers: headers, count: n, clock, memory.scratch,
            verdicts: verdicts)
    }

    /// - Parameter tracks: false: makes the frames only, which is to be subtracted.
    /// - Returns: how many passed.
    @inline(never)
    public func run(batches: Int, of n: Int, tracks: Bool) -> Int {
        var passed = 0
        for _ in 0..<batches {
            for i in 0..<n {
                let word = random.next()
                set(i, word.multipliedFullWidth(by: count).high, isReply: word & 1 == 1)
            }
            if tracks { track(n) }
            for i in 0..<n { passed &+= verdicts[i].isAllowed ? 1 : 0 }
        }
        return passed
    }
}
