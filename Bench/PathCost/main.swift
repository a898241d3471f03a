// What a frame costs in user space, without any kernel: rings in plain memory, the Swift worker and its C twin side by side.
//
//   path-cost                                     every stage and burst size, medians over interleaved rounds
//   path-cost --one swift worker 64 10000 both    one of them, for valgrind: only path_cost_measured is the measured part
//   path-cost --flows 1000000                     what the flow table adds to a frame
//
// A helper in C plays the kernel for both: it moves descriptors, and costs both the same.

@_spi(Measurement) import Allowlist
import CTwin
@_spi(Measurement) import Datapath
import Foundation
import Frames

/// What of the path is measured.
enum Stage: String, CaseIterable {
    case rings, parse, keys, lookup, verdict, worker, looked, sampled, flow, recorded

    var text: String {
        switch self {
        case .rings: "ring work alone"
        case .parse: "parse"
        case .keys: "keys"
        case .lookup: "lookup, hit"
        case .verdict: "keys, lookup and verdict"
        case .worker: "all together"
        case .looked: "… all looked at"
        case .sampled: "… one in 128 timed"
        case .recorded: "… all recorded"
        case .flow: "a flow's entry (and making up the frame)"
        }
    }
}

enum Implementation: String, CaseIterable { case swift, c }

/// What the frames are.
enum Traffic: String { case requests, both, denied }

/// Instances live until the process ends.
final class Path {
    let table: CompiledTable
    let rules: Int
    private let swift: WorkerInMemory
    private let recording: WorkerInMemory
    private let stages: VerdictStages
    private let c: OpaquePointer
    private let cRings = [PlainRings(frames: WorkerInMemory.frameCount), PlainRings(frames: WorkerInMemory.frameCount)]
    private let cBase: UnsafeMutableRawPointer
    private let cTable: UnsafeMutablePointer<ctwin_table>
    private let kernels: UnsafeMutablePointer<ctwin_fake_kernel>
    private let lengths: UnsafeMutablePointer<UInt32>
    private let frames: UnsafeMutablePointer<UnsafeRawPointer>
    private let swiftHeaders: UnsafeMutablePointer<FrameHeaders>
    private let cHeaders: UnsafeMutablePointer<frame_headers>
    private let scratch: UnsafeMutablePointer<ctwin_scratch>
    private let verdicts = UnsafeMutablePointer<verdict>.allocate(capacity: 64)
    private var at = 0
    private var sinceStamp = 0
    private let flows: FlowLookup

    init(rules count: Int, traffic: Traffic) throws {
        rules = count
        let (table, list) = try Self.plant(rules: count, traffic)
        self.table = table
        let total = WorkerInMemory.frameCount, size = WorkerInMemory.frameSize
        let cTable = UnsafeMutablePointer<ctwin_table>.allocate(capacity: 1)
        let kernels = UnsafeMutablePointer<ctwin_fake_kernel>.allocate(capacity: 3)
        let lengths = UnsafeMutablePointer<UInt32>.allocate(capacity: total)
        self.cTable = cTable
        self.kernels = kernels
        self.lengths = lengths
        swift = try WorkerInMemory(table)
        recording = try WorkerInMemory(table, records: true)
        stages = VerdictStages(table)
        flows = try FlowLookup(flows: 10_240, isShared: false, isStrict: false)
        let cBase = pages(total * size)
        self.cBase = cBase
        for base in [swift.base, recording.base, cBase] {
            for index in 0..<total {
                // What a recording worker sums up are the flows of a bay, not of a country.
                let frame = list[index % (base == recording.base ? 512 : list.count)]
                frame.withUnsafeBytes {
                    (base + index * size + WorkerInMemory.dataOffset).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
                }
                lengths[index] = UInt32(frame.count)
            }
        }
        let frames = UnsafeMutablePointer<UnsafeRawPointer>.allocate(capacity: total)
        self.frames = frames
        let base = swift.base
        let cHeaders = UnsafeMutablePointer<frame_headers>.allocate(capacity: total)
        self.cHeaders = cHeaders
        let swiftHeaders = UnsafeMutablePointer<FrameHeaders>.allocate(capacity: total)
        self.swiftHeaders = swiftHeaders
        for index in 0..<total { frames[index] = UnsafeRawPointer(base + index * size + WorkerInMemory.dataOffset) }
        parseBurst(frames: frames, available: lengths, wireLengths: lengths, count: total, into: swiftHeaders)
        frames.withMemoryRebound(to: UnsafePointer<UInt8>?.self, capacity: total) {
            ctwin_parse_burst($0, lengths, lengths, total, cHeaders)
        }
        precondition(
            UnsafeRawBufferPointer(start: swiftHeaders, count: 48).elementsEqual(UnsafeRawBufferPointer(start: cHeaders, count: 48)),
            "the twin parses something else")

        // The C twin: the same table as an image, its own rings and frames.
        let image = TableImage(table).bytes
        let copy = pages(image.count)
        image.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        var why: UnsafePointer<CChar>?
        let error = ctwin_table_open(cTable, copy, image.count, &why)
        precondition(error == 0, "the twin refuses the table: \(why.map { String(cString: $0) } ?? "")")
        var sockets = cRings.map(\.c)
        let hits = pages((count + 16) * 8).bindMemory(to: UInt64.self, capacity: count + 16)
        let hitsOfWorkers = UnsafeMutablePointer<UnsafeMutablePointer<UInt64>?>.allocate(capacity: 1)
        hitsOfWorkers[0] = hits
        let publication = UnsafeMutablePointer<ctwin_publication>.allocate(capacity: 1)
        publication.initialize(to: ctwin_publication(table: UnsafePointer(cTable), version: 1, hits: UnsafePointer(hitsOfWorkers)))
        let current = UnsafeMutablePointer<UnsafePointer<ctwin_publication>?>.allocate(capacity: 1)
        current[0] = UnsafePointer(publication)
        let seen = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128).bindMemory(to: UInt64.self, capacity: 16)
        let made = sockets.withUnsafeMutableBufferPointer { buffer -> OpaquePointer? in
            var config = ctwin_worker_config(
                sockets: buffer.baseAddress, inside_count: 1, outside_count: 1, umem: cBase, frame_count: total, frame_size: size,
                current: UnsafePointer(current), seen: seen, index: 0)
            return ctwin_worker_create(&config)
        }
        c = made!
        ctwin_worker_prepare(c)
        scratch = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<ctwin_scratch>.size, alignment: 64)
            .bindMemory(to: ctwin_scratch.self, capacity: 1)
        for (index, rings) in [swift.rings, cRings, recording.rings].enumerated() {
            let pair = rings.map(\.c)
            pair.withUnsafeBufferPointer {
                ctwin_fake_init(kernels + index, $0.baseAddress, lengths, UInt32(size), UInt32(WorkerInMemory.dataOffset))
            }
        }
    }

    /// Host-to-host rules, and frames of them: from clients, half of them answers, or all to a stranger.
    private static func plant(rules count: Int, _ traffic: Traffic) throws -> (CompiledTable, [[UInt8]]) {
        var random = Generator(state: 3)
        let pairs = (0..<count).map { _ in (0x0A00_0000 | random.next24(), 0x0A00_0000 | random.next24()) }
        func host(_ address: UInt32) -> [AddressPrefix] {
            [AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: UInt64(address)), length: 32)]
        }
        let service = [ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5000))]
        let rules = pairs.map { AllowRule(clients: host($0.0), servers: host($0.1), services: service) }
        let table = try CompiledTable.build(AllowlistSource(rules: rules))
        let list = (0..<WorkerInMemory.frameCount).map { index -> [UInt8] in
            let (client, server) = pairs[Int(random.next() % UInt64(count))]
            switch traffic {
            case .denied: return tcpFrame(client, server ^ 0x1000_0000, 40_000, 5000)
            case .both where index % 2 == 0: return tcpFrame(server, client, 5000, 40_000)
            default: return tcpFrame(client, server, 40_000, 5000)
            }
        }
        return (table, list)
    }

    /// Handles `count` frames in bursts.
    ///
    /// - Returns: frames that got through, so that nothing can be left out.
    @inline(never)
    func run(_ implementation: Implementation, _ stage: Stage, burst: Int, count: Int) -> Int {
        var left = count
        var through = 0
        while left > 0 {
            let n = min(burst, left)
            left -= n
            switch stage {
            case .rings, .worker, .looked, .sampled, .recorded: through &+= turn(implementation, stage, n)
            // It has no twin in C.
            case .flow: through &+= implementation == .swift ? flows.run(batches: 1, of: n, tracks: true) : n
            case .parse, .keys, .lookup, .verdict:
                if at + n > WorkerInMemory.frameCount { at = 0 }
                through &+= part(implementation, stage, n)
                at += n
            }
        }
        return through
    }

    private func turn(_ implementation: Implementation, _ stage: Stage, _ n: Int) -> Int {
        let kernel = kernels + (implementation == .c ? 1 : stage == .recorded ? 2 : 0)
        // By turns from the inside and the outside.
        at ^= 1
        _ = ctwin_fake_deliver(kernel, Int32(at & 1), UInt32(n))
        switch (implementation, stage) {
        case (.swift, .sampled):
            sinceStamp += n
            if sinceStamp >= 128 {
                sinceStamp = 0
                swift.stampOldest(at & 1)
            }
            _ = swift.poll()
        case (.swift, .looked):
            // What a frame without a time pays in a burst that has one with.
            swift.announceStamp()
            _ = swift.poll()
        case (.swift, .recorded): _ = recording.poll()
        case (.swift, .worker): _ = swift.poll()
        case (.swift, _): _ = swift.pollRings()
        // The twin times and records nothing: its column shows the path without.
        case (.c, .worker), (.c, .looked), (.c, .sampled), (.c, .recorded): _ = ctwin_worker_poll(c)
        case (.c, _): _ = ctwin_worker_poll_rings(c)
        }
        return Int(ctwin_fake_transmit(kernel, Int32(at & 1 ^ 1)))
    }

    private func part(_ implementation: Implementation, _ stage: Stage, _ n: Int) -> Int {
        switch (implementation, stage) {
        case (.swift, .parse):
            parseBurst(frames: frames + at, available: lengths + at, wireLengths: lengths + at, count: n, into: swiftHeaders + at)
        case (.swift, .keys): stages.keys(swiftHeaders + at, count: n)
        case (.swift, .lookup): stages.lookUp(count: n)
        case (.swift, _): return stages.judge(frames + at, swiftHeaders + at, count: n)
        case (.c, .parse):
            frames.withMemoryRebound(to: UnsafePointer<UInt8>?.self, capacity: at + n) {
                ctwin_parse_burst($0 + at, lengths + at, lengths + at, n, cHeaders + at)
            }
        case (.c, .keys): ctwin_keys4(cHeaders + at, list, n, false, keys)
        case (.c, .lookup): ctwin_lookup4(cTable, keys, n, scratch, references)
        case (.c, _):
            ctwin_judge_burst(cTable, cHeaders + at, n, scratch, verdicts)
            var allowed = n
            for i in 0..<n { allowed &-= verdicts[i].cause == 0 ? 0 : 1 }
            return allowed
        }
        return n
    }

    private let list: UnsafeMutablePointer<UInt8> = {
        let list = UnsafeMutablePointer<UInt8>.allocate(capacity: 64)
        for i in 0..<64 { list[i] = UInt8(i) }
        return list
    }()
    private let keys = UnsafeMutablePointer<ctwin_key4>.allocate(capacity: 64)
    private let references = UnsafeMutablePointer<UInt32>.allocate(capacity: 64)

    /// Keys for the lookup stage, which has none of its own.
    func prepareKeys() {
        stages.keys(swiftHeaders, count: 64)
        ctwin_keys4(cHeaders, list, 64, false, keys)
    }
}

extension PlainRings {
    fileprivate var c: ctwin_rings {
        func ring(_ plain: PlainRing) -> ctwin_ring {
            ctwin_ring(
                producer: plain.producer.assumingMemoryBound(to: UInt32.self),
                consumer: plain.consumer.assumingMemoryBound(to: UInt32.self), flags: plain.flags.assumingMemoryBound(to: UInt32.self),
                entries: plain.entries, size: plain.size)
        }
        return ctwin_rings(rx: ring(rx), tx: ring(tx), fill: ring(fill), completion: ring(completion), fd: -1)
    }
}

/// As `TableMemory` and `FrameMemory` get theirs.
private func pages(_ bytes: Int) -> UnsafeMutableRawPointer {
    var block: UnsafeMutableRawPointer?
    precondition(posix_memalign(&block, bytes >= 2 << 20 ? 2 << 20 : 4096, bytes) == 0, "no memory")
    if bytes >= 2 << 20 { madvise(block!, bytes, MADV_HUGEPAGE) }
    memset(block!, 0, bytes)
    return block!
}

private func tcpFrame(_ source: UInt32, _ destination: UInt32, _ sourcePort: UInt16, _ port: UInt16) -> [UInt8] {
    func be32(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    func be16(_ value: UInt16) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
    return [2, 0, 0, 0, 3, 0x15, 2, 0, 0, 0, 3, 0x0A, 8, 0, 0x45, 0] + be16(46) + [0, 0, 0, 0, 64, 6, 0, 0] + be32(source)
        + be32(destination) + be16(sourcePort) + be16(port)
        + [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Random numbers that repeat (Steele, Lea, Flood 2014).
private struct Generator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func next24() -> UInt32 { UInt32(truncatingIfNeeded: next()) & 0xFF_FFFF }
}

// MARK: - Measuring

/// What valgrind counts: `--toggle-collect=path_cost_measured`.
@c(path_cost_measured)
@inline(never)
func pathCostMeasured(_ path: UnsafeRawPointer, _ implementation: Int32, _ stage: Int32, _ burst: Int32, _ count: Int) -> Int {
    Unmanaged<Path>.fromOpaque(path).takeUnretainedValue()
        .run(Implementation.allCases[Int(implementation)], Stage.allCases[Int(stage)], burst: Int(burst), count: count)
}

private func measure(_ path: Path, _ implementation: Implementation, _ stage: Stage, _ burst: Int, _ count: Int) -> Int {
    pathCostMeasured(
        Unmanaged.passUnretained(path).toOpaque(), Int32(Implementation.allCases.firstIndex(of: implementation)!),
        Int32(Stage.allCases.firstIndex(of: stage)!), Int32(burst), count)
}

private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

private func expected(_ traffic: Traffic, _ stage: Stage, _ count: Int) -> Int {
    traffic == .denied && (stage == .verdict || stage == .worker || stage == .looked || stage == .sampled || stage == .recorded) ? 0 : count
}

private func nanoseconds(_ path: Path, _ traffic: Traffic, _ implementation: Implementation, _ stage: Stage, _ burst: Int, _ count: Int)
    -> Double
{
    let clock = ContinuousClock()
    let begin = clock.now
    let through = measure(path, implementation, stage, burst, count)
    let elapsed = begin.duration(to: clock.now)
    precondition(through == expected(traffic, stage, count), "\(implementation) \(stage): \(through) of \(count) got through")
    return (Double(elapsed.components.attoseconds) / 1e9 + Double(elapsed.components.seconds) * 1e9) / Double(count)
}

private func table(rules: Int, traffic: Traffic, rounds: Int, count: Int) throws {
    let path = try Path(rules: rules, traffic: traffic)
    path.prepareKeys()
    print("\n\(rules) rules, frames: \(traffic.rawValue); ns a frame, medians of \(rounds) interleaved rounds of \(count) frames")
    print("                            burst      Swift          C   Swift : C (median of rounds)")
    for stage in Stage.allCases where stage != .flow {
        for burst in [1, 8, 32, 64] {
            var swift: [Double] = [], c: [Double] = []
            for round in 0...rounds {
                // The first is not counted; who goes first changes.
                for implementation in round % 2 == 0 ? Implementation.allCases : Implementation.allCases.reversed() {
                    let cost = nanoseconds(path, traffic, implementation, stage, burst, count)
                    if round > 0 { if implementation == .swift { swift.append(cost) } else { c.append(cost) } }
                }
            }
            let ratio = median(zip(swift, c).map { $0 / $1 })
            print(
                stage.text.padding(toLength: 28, withPad: " ", startingAt: 0)
                    + String(format: "%5d %10.2f %10.2f   %.3f", burst, median(swift), median(c), ratio))
            fflush(nil)
        }
    }
}

/// What the flow table adds to a frame: established TCP connections, segments of random ones.
private func flows(_ counts: [Int], rounds: Int) throws {
    print("what the flow table adds, ns a frame: established TCP connections, a segment of a random one; medians of \(rounds) rounds")
    print("     flows   burst  one worker      strict      shared   bytes a flow")
    let batches = 2000
    let clock = ContinuousClock()
    for count in counts {
        let tables = try [(false, false), (false, true), (true, false)].map { try FlowLookup(flows: count, isShared: $0.0, isStrict: $0.1) }
        precondition(tables.allSatisfy { $0.known >= UInt64(count) }, "flows are missing")
        for burst in [1, 8, 64] {
            var costs: [[Double]] = [[], [], []]
            for round in 0...rounds {
                for (index, table) in tables.enumerated() {
                    var times: [Double] = []
                    for tracks in [false, true] {
                        let begin = clock.now
                        let passed = table.run(batches: batches, of: burst, tracks: tracks)
                        let elapsed = begin.duration(to: clock.now)
                        precondition(passed == batches * burst, "a segment was denied")
                        times.append(Double(elapsed.components.attoseconds) / 1e9 + Double(elapsed.components.seconds) * 1e9)
                    }
                    if round > 0 { costs[index].append((times[1] - times[0]) / Double(batches * burst)) }
                }
            }
            print(
                String(
                    format: "%10d %7d %11.1f %11.1f %11.1f %14.1f", count, burst, median(costs[0]), median(costs[1]), median(costs[2]),
                    Double(tables[0].bytesInAll) / Double(count)))
            fflush(nil)
        }
    }
}

let arguments = Array(CommandLine.arguments.dropFirst())
func usage() -> Never {
    FileHandle.standardError.write(
        Data(
            """
            usage: path-cost [--rules N] [--traffic requests|both|denied] [--rounds N]
                   path-cost --flows N[,N…] [--rounds N]
                   path-cost --one swift|c STAGE BURST RULES requests|both|denied [FRAMES]
            stages: \(Stage.allCases.map(\.rawValue).joined(separator: ", "))

            """.utf8))
    exit(64)
}
if arguments.first == "--one" {
    guard arguments.count >= 6, let implementation = Implementation(rawValue: arguments[1]), let stage = Stage(rawValue: arguments[2]),
        let burst = Int(arguments[3]), (1...64).contains(burst), let rules = Int(arguments[4]), rules > 0,
        let traffic = Traffic(rawValue: arguments[5]), let count = arguments.count > 6 ? Int(arguments[6]) : 64_000
    else { usage() }
    let path = try Path(rules: rules, traffic: traffic)
    path.prepareKeys()
    let through = measure(path, implementation, stage, burst, count)
    print("\(count) frames, \(through) through")
} else {
    var rules: [Int] = [10_000, 1_000_000], traffic: [Traffic] = [.requests, .both, .denied], rounds = 21
    var flowCounts: [Int] = []
    var rest = arguments[...]
    while let option = rest.popFirst() {
        guard let value = rest.popFirst() else { usage() }
        switch option {
        case "--rules": rules = value.split(separator: ",").compactMap { Int($0) }
        case "--traffic": traffic = value.split(separator: ",").compactMap { Traffic(rawValue: String($0)) }
        case "--flows": flowCounts = value.split(separator: ",").compactMap { Int($0) }
        case "--rounds": rounds = Int(value) ?? 21
        default: usage()
        }
    }
    if !flowCounts.isEmpty {
        try flows(flowCounts, rounds: max(1, rounds))
        exit(0)
    }
    for count in rules { for kind in traffic { try table(rules: count, traffic: kind, rounds: max(1, rounds), count: 128_000) } }
}
