// Frames in memory: parsed and judged in bursts of 64, as the worker does. And network rules: ClassBench.

@_spi(Measurement) import Allowlist
import Benchmark
import Foundation
import Frames

/// Frames one behind the other, as in a UMEM of 2048-byte frames.
struct FrameStore {
    let frames: [UnsafeRawPointer]
    let lengths: [UInt32]
    private let memory: UnsafeMutableRawPointer

    init(_ frames: [[UInt8]]) {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: frames.count * 2048, alignment: 4096)
        for (index, frame) in frames.enumerated() {
            frame.withUnsafeBytes { (memory + index * 2048 + 256).copyMemory(from: $0.baseAddress!, byteCount: frame.count) }
        }
        self.memory = memory
        self.frames = frames.indices.map { UnsafeRawPointer(memory) + $0 * 2048 + 256 }
        lengths = frames.map { UInt32($0.count) }
    }
}

func tcpFrame(_ client: UInt32, _ server: UInt32, _ port: UInt16) -> [UInt8] {
    func be32(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    func be16(_ value: UInt16) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    return [2, 0, 0, 0, 3, 0x15, 2, 0, 0, 0, 3, 0x0A, 8, 0, 0x45, 0] + be16(46) + [0, 0, 0, 0, 64, 6, 0, 0] + be32(client)
        + be32(server) + be16(40000) + be16(port) + [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// 4,096 frames: 8 MiB of UMEM, twice what a queue pair has waiting.
private let frameCount = 4096

func verdictBenchmarks() {
    for count in [10_000, 1_000_000] {
        let name = count == 1_000_000 ? "1M" : "\(count / 1000)k"
        for kind in ["requests", "both ways", "denied"] {
            let judge = Lazy { plantJudge(rules: count, kind) }
            Benchmark("parse and verdict \(name) \(kind)") { _ in
                let allowed = judge.value.judge(million)
                precondition(kind == "denied" ? allowed == 0 : allowed == million / 64 * 64)
                blackHole(allowed)
            }
        }
    }
}

/// Host-to-host rules, and frames of them: all from clients, half from servers, or all to a stranger.
private func plantJudge(rules count: Int, _ kind: String) -> BurstJudge {
    var random = SplitMix(3)
    let pairs = (0..<count).map { _ in
        (
            0x0A00_0000 | UInt32.random(in: 0..<1 << 24, using: &random),
            0x0A00_0000 | UInt32.random(in: 0..<1 << 24, using: &random)
        )
    }
    func host(_ address: UInt32) -> [AddressPrefix] {
        [AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: UInt64(address)), length: 32)]
    }
    let service = [ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5000))]
    let rules = pairs.map { AllowRule(clients: host($0.0), servers: host($0.1), services: service) }
    guard let table = try? CompiledTable.build(AllowlistSource(rules: rules)) else { fatalError("the table does not build") }
    return BurstJudge(
        table,
        FrameStore(
            (0..<frameCount).map { index in
                let (client, server) = pairs.randomElement(using: &random)!
                if kind == "denied" { return tcpFrame(client, server ^ 0x1000_0000, 5000) }
                var frame = tcpFrame(client, server, 5000)
                if kind == "both ways", index % 2 == 0 {
                    frame.swapRange(26..<30, 30..<34)
                    frame.swapRange(34..<36, 36..<38)
                }
                return frame
            }))
}

/// Judges the same frames over and over.
final class BurstJudge {
    private let table: CompiledTable
    private let store: FrameStore
    private let memory = JudgeMemory()
    private let headers = UnsafeMutablePointer<FrameHeaders>.allocate(capacity: burstCapacity)
    private let verdicts = UnsafeMutablePointer<Verdict>.allocate(capacity: burstCapacity)

    init(_ table: CompiledTable, _ store: FrameStore) {
        self.table = table
        self.store = store
        headers.initialize(repeating: FrameHeaders(), count: burstCapacity)
        verdicts.initialize(repeating: Verdict(rule: 0, cause: .none, isReply: false), count: burstCapacity)
    }

    private lazy var networks = NetworkLookup(table)
    private lazy var parsed: [FrameHeaders] = {
        var parsed = [FrameHeaders](repeating: FrameHeaders(), count: store.frames.count)
        parseBurst(
            frames: store.frames, available: store.lengths, wireLengths: store.lengths, count: parsed.count, into: &parsed)
        return parsed
    }()

    /// The label tier alone, over headers parsed before: one lookup a frame, the sender taken for the client.
    func lookUpNetworks(_ count: Int) -> Int {
        parsed.withUnsafeBufferPointer { headers in
            var hits = 0
            for _ in 0..<count / headers.count { hits += networks.hits(headers.baseAddress!, count: headers.count) }
            return hits * count / (count / headers.count * headers.count)
        }
    }

    /// - Returns: frames allowed.
    func judge(_ count: Int) -> Int {
        var allowed = 0
        let scratch = memory.scratch
        store.frames.withUnsafeBufferPointer { frames in
            store.lengths.withUnsafeBufferPointer { lengths in
                for burst in 0..<count / burstCapacity {
                    let at = burst * burstCapacity % store.frames.count
                    let frame = frames.baseAddress! + at, length = lengths.baseAddress! + at
                    parseBurst(frames: frame, available: length, wireLengths: length, count: burstCapacity, into: headers)
                    judgeBurst(
                        table.view, frames: frame, headers: headers, count: burstCapacity, from: .outside, scratch: scratch,
                        verdicts: verdicts)
                    for i in 0..<burstCapacity { allowed &+= verdicts[i].cause == .none ? 1 : 0 }
                }
            }
        }
        return allowed
    }
}

extension [UInt8] {
    fileprivate mutating func swapRange(_ a: Range<Int>, _ b: Range<Int>) {
        let first = Array(self[a])
        replaceSubrange(a, with: self[b])
        replaceSubrange(b, with: first)
    }
}

// MARK: - Network rules

/// ClassBench sets, if `../shared/rules` lies beside the checkout: one verdict for each packet of the trace.
func classBenchBenchmarks() {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "shared/rules")
    for set in ["acl1_1k", "fw1_1k", "ipc2_1k", "acl2_10k", "fw2_10k"] {
        guard let text = try? String(contentsOf: folder.appending(path: set), encoding: .utf8) else {
            print("# \(set): not beside the checkout, left out")
            continue
        }
        for kind in ["inside rules", "near misses"] {
            let judge = Lazy { classBenchJudge(set, text, nearMisses: kind == "near misses") }
            Benchmark("ClassBench \(set) frames \(kind)") { _ in blackHole(judge.value.judge(million)) }
            Benchmark("ClassBench \(set) lookups \(kind)") { _ in blackHole(judge.value.lookUpNetworks(million)) }
        }
    }
}

/// - Parameter nearMisses: one rule's client to another's server, most of them denied: both ways round are looked up
///   then. Else frames inside rules, as in ClassBench's own traces.
private func classBenchJudge(_ set: String, _ text: String, nearMisses: Bool) -> BurstJudge {
    let rules = text.split(separator: "\n").compactMap(classBenchRule)
    guard let table = try? CompiledTable.build(AllowlistSource(rules: rules)) else { fatalError("\(set) does not build") }
    print("# \(set): \(rules.count) rules, \(table.statistics.networkPairs) label pairs, \(table.bytes >> 10) KiB")
    var random = SplitMix(5)
    return BurstJudge(
        table,
        FrameStore(
            (0..<frameCount).map { _ in
                let a = rules.randomElement(using: &random)!
                let b = nearMisses ? rules.randomElement(using: &random)! : a
                func address(_ prefix: AddressPrefix) -> UInt32 {
                    UInt32(prefix.words.low)
                        | (prefix.length == 32 ? 0 : UInt32.random(in: 0...UInt32.max, using: &random) >> UInt32(prefix.length))
                }
                return tcpFrame(address(a.clients[0]), address(b.servers[0]), b.services[0].low.rawValue)
            }))
}

private func classBenchRule(_ line: Substring) -> AllowRule? {
    let fields = line.dropFirst().split(whereSeparator: { $0 == "\t" || $0 == " " }).map(String.init)
    func prefix(_ text: String) -> AddressPrefix {
        let parts = text.split(separator: "/")
        let address = parts[0].split(separator: ".").reduce(UInt64(0)) { $0 << 8 | UInt64($1)! }
        return AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: address), length: Int(parts[1])!)
    }
    let client = prefix(fields[0]), server = prefix(fields[1])
    // Shorter ones allow nearly everything.
    guard client.length + server.length >= 16 else { return nil }
    let proto = fields[8].split(separator: "/")
    let protocols: [UInt8] = proto[1] == "0x00" ? [1, 6, 17] : [UInt8(proto[0].dropFirst(2), radix: 16)!]
    return AllowRule(
        clients: [client], servers: [server],
        services: protocols.map { ServiceRange(IPProtocol(rawValue: $0), Port(rawValue: UInt16(fields[5])!), Port(rawValue: UInt16(fields[7])!)) })
}
