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
