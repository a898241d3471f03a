import Allowlist
import Foundation
import Frames
import Policy
import Testing
import TestSupport

@testable import Measure

/// The compiled policy of a mix.
private func table(_ mix: TrafficMix) throws -> CompiledTable {
    let document = try #require(PolicyReader.read([UInt8](mix.policyText().utf8), now: 0).document)
    return try CompiledTable.build(document.compiled(now: 0).source)
}

/// What the data path says of each frame.
private func verdicts(_ frames: [ListedFrame], _ table: CompiledTable) -> [Verdict] {
    let memory = JudgeMemory()
    return frames.map { frame in
        var headers = FrameHeaders()
        var verdict = Verdict(rule: 0, cause: .none, isReply: false)
        let bytes = frame.bytes + [UInt8](repeating: 0, count: max(0, frame.length - frame.bytes.count))
        bytes.withUnsafeBytes { bytes in
            parseFrame(bytes, wireLength: frame.length, into: &headers)
            var start = bytes.baseAddress!
            _ = withUnsafePointer(to: &start) {
                judgeBurst(
                    table.view, frames: $0, headers: &headers, count: 1, from: frame.from, scratch: memory.scratch, verdicts: &verdict)
            }
        }
        return verdict
    }
}

private func hasRightChecksum(_ frame: ListedFrame) -> Bool { hasRightChecksum(frame.bytes, at: 14) }

private func hasRightChecksum(_ bytes: [UInt8], at start: Int) -> Bool {
    var sum: UInt32 = 0
    for at in stride(from: start, to: start + 20, by: 2) { sum += UInt32(bytes[at]) << 8 | UInt32(bytes[at + 1]) }
    while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
    return sum == 0xFFFF
}

@Suite struct TrafficMixTests {
    static let mixes = [
        TrafficMix(flows: 1, rules: 1), TrafficMix(flows: 1000, rules: 10), TrafficMix(flows: 100, rules: 1000, size: .imix),
        TrafficMix(flows: 500, rules: 100, size: .fixed(1500), deniedPercent: 50), TrafficMix(flows: 300, rules: 300, deniedPercent: 100),
        TrafficMix(flows: 200, rules: 50, bothWays: true), TrafficMix(kind: .fab, rules: 500),
    ]

    @Test(arguments: mixes) func thePolicyAllowsWhatIsMarked(_ mix: TrafficMix) throws {
        let frames = mix.frames()
        let table = try table(mix)
        for list in [frames, TrafficMix.turned(frames)] {
            for (frame, verdict) in zip(list, verdicts(list, table)) {
                #expect(verdict.isAllowed == frame.isAllowed, "\(verdict.cause.rawValue)")
            }
        }
        #expect(frames.allSatisfy(hasRightChecksum))
        #expect(frames.allSatisfy { $0.bytes.count <= HostPrograms.headerBytes && $0.length <= 1514 && $0.length >= 60 })
    }

    @Test func flowsAndSharesAreAsAsked() {
        let flows = TrafficMix(flows: 1000, rules: 10).frames()
        #expect(Set(flows.map { Array($0.bytes[26..<38]) }).count == 1000)
        let denied = TrafficMix(flows: 1000, rules: 10, deniedPercent: 50).frames()
        #expect(denied.filter { !$0.isAllowed }.count == 500)
        let all = TrafficMix(flows: 1000, rules: 10, deniedPercent: 100).frames()
        #expect(all.filter(\.isAllowed).count == 10)
        let imix = TrafficMix(flows: 1200, rules: 10, size: .imix).frames()
        #expect(Dictionary(grouping: imix, by: \.length).mapValues(\.count) == [60: 700, 590: 400, 1514: 100])
    }

    static let grid: [TrafficMix] = {
        var mixes: [TrafficMix] = []
        for (flows, rules) in [(1, 1), (1, 50), (150, 50), (250, 1), (400, 300)] {
            for size in [FrameSize.fixed(64), .fixed(1518), .imix] {
                for denied in [0, 30, 100] {
                    for bothWays in [false, true] {
                        mixes.append(TrafficMix(flows: flows, rules: rules, size: size, deniedPercent: denied, bothWays: bothWays))
                    }
                }
            }
        }
        return mixes
    }()

    /// Everything that is asked for, in every combination.
    @Test(arguments: grid) func aListIsWhatItsMixSays(_ mix: TrafficMix) throws {
        let frames = mix.frames()
        let told = verdicts(frames, try table(mix))
        #expect(frames.count >= mix.flows && frames.count % 100 == 0)
        #expect(zip(frames, told).allSatisfy { $0.isAllowed == $1.isAllowed })
        #expect(zip(frames, told).allSatisfy { $0.isAllowed || $1.cause == .notInPolicy })
        let denied = frames.filter { !$0.isAllowed }.count
        #expect(denied == frames.count * min(mix.deniedPercent, 99) / 100)
        #expect(frames.allSatisfy(hasRightChecksum))
        // A flow: whose client asks whose server, and the client's port.
        let flows = frames.map { frame -> [UInt8] in
            let (source, destination) = (frame.bytes[26..<30], frame.bytes[30..<34])
            if frame.from == .outside { return Array(source + destination + frame.bytes[34..<36]) }
            return Array(destination + source + frame.bytes[36..<38])
        }
        #expect(Set(flows).count == mix.flows)
        if mix.deniedPercent == 0 { #expect(Set(told.map(\.rule)).count == min(mix.flows, mix.rules)) }
        let hasReplies = frames.contains { $0.from == .inside }
        #expect(hasReplies == mix.bothWays)
        #expect(zip(frames, told).allSatisfy { !$0.isAllowed || $1.isReply == ($0.from == .inside) })
        switch mix.size {
        case .fixed(let size): #expect(frames.allSatisfy { $0.length == size - 4 })
        case .imix: #expect(Set(frames.map(\.length)) == [60, 590, 1514])
        }
        // The IP packet ends where the trailer begins, and what is kept ends before.
        let fits = frames.allSatisfy { frame in
            let total = Int(frame.bytes[16]) << 8 | Int(frame.bytes[17])
            let trailer = frame.length - HostPrograms.trailerBytes
            return 14 + total == trailer && frame.bytes.count <= trailer
        }
        #expect(fits)
    }

    @Test func aListIsTheSameEveryTime() {
        let mix = TrafficMix(flows: 500, rules: 70, size: .imix, deniedPercent: 20)
        #expect(mix.frames().map(\.bytes) == mix.frames().map(\.bytes))
        // Shuffled: no cache can guess what comes next.
        let ordered = mix.frames().map { Array($0.bytes[26..<30]) }
        #expect(zip(ordered, ordered.dropFirst()).filter { $0.lexicographicallyPrecedes($1) }.count < 400)
    }

    @Test(arguments: [TrafficMix(rules: 1), TrafficMix(rules: 300), TrafficMix(kind: .fab, rules: 500), TrafficMix(kind: .fab, rules: 1)])
    func aPolicyHasItsRules(_ mix: TrafficMix) throws {
        let reading = PolicyReader.read([UInt8](mix.policyText().utf8), now: 0, findsOverlaps: true)
        #expect(reading.diagnostics.isEmpty)
        let document = try #require(reading.document)
        #expect(document.mode == .enforce)
        // And the one for the applications that sleep; the fab mix needs some whatever is asked for.
        #expect(document.rules.count == 1 + (mix.kind == .fab ? max(mix.rules, FabMix.ruleCount) : mix.rules))
    }

    @Test func theFabMixIsMadeOfWhatItSays() throws {
        let mix = TrafficMix(kind: .fab, rules: 500)
        let frames = mix.frames()
        #expect(frames.count <= 5000, "a list must fit the end hosts' memory")
        func ports(_ frame: ListedFrame) -> Set<Int> {
            [Int(frame.bytes[34]) << 8 | Int(frame.bytes[35]), Int(frame.bytes[36]) << 8 | Int(frame.bytes[37])]
        }
        for port in [5000, 502, 8443, 990] {
            let both = frames.filter { $0.isAllowed && ports($0).contains(port) }
            #expect(both.contains { $0.from == .inside } && both.contains { $0.from == .outside }, "\(port)")
        }
        let scan = frames.filter { !$0.isAllowed }
        #expect(!scan.isEmpty && scan.count * 10 < frames.count)
        // Each a SYN from outside, from one address.
        #expect(scan.allSatisfy { $0.from == .outside && $0.bytes[47] == 0x02 })
        #expect(Set(scan.map { Array($0.bytes[26..<30]) }).count == 1)
        // Rules of all four services let something pass.
        let document = try #require(PolicyReader.read([UInt8](mix.policyText().utf8), now: 0).document)
        var used: Set<String> = []
        for verdict in verdicts(frames, try table(mix)) where verdict.isAllowed {
            used.insert(String(document.rules[Int(verdict.rule)].id.split(separator: "-")[0]))
        }
        #expect(used == ["hsms", "modbus", "eda", "recipe"])
    }

    @Test func manyRulesAreReallyUsed() throws {
        let mix = TrafficMix(flows: 100, rules: 1000)
        let used = Set(verdicts(mix.frames(), try table(mix)).map(\.rule))
        #expect(used.count == 100)
    }

    @Test func turningKeepsTheFramesAndChangesTheSide() {
        let frames = TrafficMix(flows: 10, rules: 10).frames()
        let turned = TrafficMix.turned(frames)
        #expect(zip(frames, turned).allSatisfy { $0.from == $1.from.other && $0.bytes[14...] == $1.bytes[14...] })
        #expect(zip(frames, turned).allSatisfy { $0.bytes[0..<6] == $1.bytes[6..<12] })
    }
}

@Suite struct CaptureReplayTests {
    /// A classic pcap file with microseconds.
    private func capture(_ frames: [(seconds: UInt32, micros: UInt32, bytes: [UInt8], wire: Int)]) throws -> String {
        var data = Data()
        func word(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { data.append(contentsOf: $0) } }
        word(0xA1B2_C3D4)
        word(2 | 4 << 16)
        word(0)
        word(0)
        word(65535)
        word(1)
        for frame in frames {
            word(frame.seconds)
            word(frame.micros)
            word(UInt32(frame.bytes.count))
            word(UInt32(frame.wire))
            data.append(contentsOf: frame.bytes)
        }
        let path = NSTemporaryDirectory() + "sekisho-test-\(UUID().uuidString).pcap"
        try data.write(to: URL(fileURLWithPath: path))
        return path
    }

    private func udp(_ source: UInt32, _ destination: UInt32, length: Int = 80) -> [UInt8] {
        let bytes = FrameWriter.udp(
            from: .outside, source: source, destination: destination, sourcePort: 4000, destinationPort: 5000, length: length)
        return bytes + [UInt8](repeating: 0, count: length - bytes.count)
    }

    private let mix = TrafficMix(flows: 1, rules: 1)

    private func replay(_ options: ReplayOptions) throws -> CaptureReplay { try CaptureReplay(options, table: table(mix)) }

    @Test func sidesTimesAndVerdicts() throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([
            (100, 0, udp(client, server), 80), (100, 500, udp(server, client), 80), (101, 0, udp(client, server ^ 4), 80),
        ])
        defer { unlink(path) }
        let network = AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: 0x0A80_0000), length: 9)
        let recorded = try replay(ReplayOptions(captures: [path], inside: [network]))
        #expect(recorded.frames.map(\.from) == [.outside, .inside, .outside])
        #expect(recorded.frames.map(\.offset) == [0, 500_000, 1_000_000_000])
        #expect(recorded.frames.map(\.isAllowed) == [true, false, false])
        #expect(recorded.duration > 1_000_000_000)
        // The trailer has its place behind the packet.
        #expect(recorded.frames.allSatisfy { $0.length == 96 })
        let faster = try replay(ReplayOptions(captures: [path], timing: .recorded(10), inside: [network]))
        #expect(faster.frames.map(\.offset) == [0, 50_000, 100_000_000])
    }

    @Test func rewritingKeepsTheChecksumRight() throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([(1, 0, udp(0xC0A8_0100 | (client & 0xFF), server), 80)])
        defer { unlink(path) }
        let rewrite = AddressRewrite(from: 0xC0A8_0100, to: client & 0xFFFF_FF00, length: 24)
        let replayed = try replay(ReplayOptions(captures: [path], rewrites: [rewrite]))
        #expect(replayed.frames[0].isAllowed)
        #expect(hasRightChecksum(replayed.frames[0]))
    }

    private func network(_ text: String) -> AddressPrefix { WrittenAddress.network(text)! }

    private func tagged(_ frame: [UInt8], _ type: UInt16 = 0x8100) -> [UInt8] {
        Array(frame[0..<12]) + [UInt8(type >> 8), UInt8(type & 0xFF), 0x20, 12] + frame[12...]
    }

    private func arp(_ sender: [UInt8], _ target: [UInt8]) -> [UInt8] {
        let mac: [UInt8] = [2, 0, 0, 0, 0, 1]
        var bytes = [UInt8](repeating: 0xFF, count: 6)
        bytes += mac
        bytes += [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]
        bytes += mac
        bytes += sender
        bytes += [UInt8](repeating: 0, count: 6)
        bytes += target
        return bytes + [UInt8](repeating: 0, count: 18)
    }

    @Test(arguments: [0x8100, 0x88A8, 0x9100] as [UInt16]) func tagsDoNotHideAddresses(_ type: UInt16) throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([
            (1, 0, tagged(udp(client ^ 0x0100_0000, server ^ 0x0100_0000), type), 84),
            (1, 1, tagged(tagged(udp(server ^ 0x0100_0000, client ^ 0x0100_0000), 0x8100), type), 88),
        ])
        defer { unlink(path) }
        let replayed = try replay(
            ReplayOptions(
                captures: [path], inside: [network("10.128.0.0/9")],
                rewrites: [AddressRewrite(from: 0x0B00_0000, to: 0x0A00_0000, length: 8)]))
        // Sides are those of the addresses that are sent.
        #expect(replayed.frames.map(\.from) == [.outside, .inside])
        let first = replayed.frames[0].bytes, second = replayed.frames[1].bytes
        #expect(Array(first[12..<18]) == [UInt8(type >> 8), UInt8(type & 0xFF), 0x20, 12, 8, 0])
        #expect(dotted(word(first, 30)) == dotted(client) && dotted(word(first, 34)) == dotted(server))
        #expect(dotted(word(second, 34)) == dotted(server) && dotted(word(second, 38)) == dotted(client))
        #expect(hasRightChecksum(first, at: 18) && hasRightChecksum(second, at: 22))
        #expect(replayed.frames[0].isAllowed)
    }

    private func word(_ bytes: [UInt8], _ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 << 8 | UInt32(bytes[at + $1]) } }

    @Test func addressResolutionGoesWithItsHosts() throws {
        var lldp = [UInt8](repeating: 2, count: 12)
        lldp += [0x88, 0xCC]
        lldp += [UInt8](repeating: 11, count: 46)
        let path = try capture([
            (1, 0, arp([11, 0, 0, 1], [11, 128, 0, 1]), 60), (1, 1, arp([11, 128, 0, 1], [11, 0, 0, 1]), 60),
            // Neither IP nor ARP: from the outside, unchanged.
            (1, 2, lldp, 60),
        ])
        defer { unlink(path) }
        let replayed = try replay(
            ReplayOptions(
                captures: [path], inside: [network("10.128.0.0/9")],
                rewrites: [AddressRewrite(from: 0x0B00_0000, to: 0x0A00_0000, length: 8)]))
        #expect(replayed.frames.map(\.from) == [.outside, .inside, .outside])
        #expect(Array(replayed.frames[0].bytes[28..<32]) == [10, 0, 0, 1] && Array(replayed.frames[0].bytes[38..<42]) == [10, 128, 0, 1])
        // The policy lets ARP pass, and no LLDP.
        #expect(replayed.frames.map(\.isAllowed) == [true, true, false])
        #expect(Array(replayed.frames[2].bytes.prefix(60)) == lldp)
    }

    @Test func sixHasSidesToo() throws {
        func frame(_ source: UInt8, _ destination: UInt8) -> [UInt8] {
            var frame = FrameBuilder()
            frame.ipv6(
                from: FrameBuilder.ipv6Address(source), to: FrameBuilder.ipv6Address(destination), next: 17, payload: FrameBuilder.udp())
            return frame.bytes
        }
        let path = try capture([(1, 0, frame(10, 21), 66), (1, 1, frame(21, 10), 66)])
        defer { unlink(path) }
        let replayed = try replay(ReplayOptions(captures: [path], inside: [network("10.0.0.0/8"), network("fd00:3::15/128")]))
        #expect(replayed.frames.map(\.from) == [.outside, .inside])
    }

    @Test func theFirstRewriteThatFitsIsTaken() throws {
        let path = try capture([(1, 0, udp(0xC0A8_0107, 0xC0A8_0207), 80), (1, 1, udp(0xC0A9_0107, 0xC0A8_0207), 80)])
        defer { unlink(path) }
        let replayed = try replay(
            ReplayOptions(
                captures: [path],
                rewrites: [
                    AddressRewrite(from: 0xC0A8_0100, to: 0x0A00_0100, length: 24),
                    AddressRewrite(from: 0xC0A8_0000, to: 0xAC10_0000, length: 16),
                    // Not rewritten twice.
                    AddressRewrite(from: 0x0A00_0000, to: 0x0101_0000, length: 16),
                ]))
        #expect(replayed.frames.map { dotted(word($0.bytes, 26)) } == ["10.0.1.7", "192.169.1.7"])
        #expect(replayed.frames.map { dotted(word($0.bytes, 30)) } == ["172.16.2.7", "172.16.2.7"])
        #expect(replayed.frames.allSatisfy(hasRightChecksum))
    }

    @Test func capturesAreMergedByTime() throws {
        let (client, server) = TrafficMix.pair(0)
        let early = try capture([(10, 0, udp(client, server, length: 100), 100), (12, 0, udp(client, server, length: 102), 102)])
        let late = try capture([(11, 0, udp(client, server, length: 101), 101), (9, 500_000, udp(client, server, length: 99), 99)])
        defer {
            unlink(early)
            unlink(late)
        }
        let merged = try replay(ReplayOptions(captures: [early, late]))
        #expect(merged.frames.map { $0.length - HostPrograms.trailerBytes } == [99, 100, 101, 102])
        #expect(merged.frames.map(\.offset) == [0, 500_000_000, 1_500_000_000, 2_500_000_000])
        // The first comes again some while after the last.
        #expect(merged.duration > 2_500_000_000 && merged.duration < 3_500_000_000)
        let slow = try replay(ReplayOptions(captures: [early, late], timing: .recorded(0.5)))
        #expect(slow.frames.map(\.offset) == [0, 1_000_000_000, 3_000_000_000, 5_000_000_000])
        #expect(slow.duration == merged.duration * 2)
        // Other timings leave the recorded ones alone.
        #expect(try replay(ReplayOptions(captures: [early, late], timing: .fastest)).frames.map(\.offset) == merged.frames.map(\.offset))
    }

    @Test func whatIsNoCaptureIsSaid() throws {
        #expect { try replay(ReplayOptions(captures: ["/nowhere/at-all.pcap"])) } throws: { "\($0)".contains("/nowhere/at-all.pcap") }
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([(1, 0, udp(client, server), 80), (1, 1, udp(client, server), 80)])
        defer { unlink(path) }
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        try whole.dropLast(10).write(to: URL(fileURLWithPath: path))
        let cut = try replay(ReplayOptions(captures: [path]))
        #expect(cut.frames.count == 1 && cut.notes.count == 1 && cut.notes[0].contains(path))
    }

    @Test func aFullFrameWithATagIsSent() throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([
            (1, 0, tagged(udp(client, server, length: 1514)), 1518), (1, 1, tagged(udp(client, server, length: 1515)), 1519),
            (1, 2, udp(client, server, length: 1515), 1515), (1, 3, [1, 2, 3], 3),
        ])
        defer { unlink(path) }
        let replayed = try replay(ReplayOptions(captures: [path]))
        #expect(replayed.frames.map(\.length) == [1518])
        #expect(replayed.notes.count == 2)
        #expect(replayed.notes.contains { $0.hasPrefix("2 frames are longer") } && replayed.notes.contains { $0.hasPrefix("1 frames are shorter") })
    }

    @Test func whatCannotBeSentIsLeftOutAndSaid() throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([
            (1, 0, udp(client, server), 80), (1, 1, udp(client, server), 1400), (1, 2, udp(client, server, length: 3000), 3000),
        ])
        defer { unlink(path) }
        let replayed = try replay(ReplayOptions(captures: [path]))
        #expect(replayed.frames.count == 1)
        #expect(replayed.notes.count == 2)
    }

    @Test func aFullFrameKeepsItsLength() throws {
        let (client, server) = TrafficMix.pair(0)
        let path = try capture([(1, 0, udp(client, server, length: 1514), 1514)])
        defer { unlink(path) }
        #expect(try replay(ReplayOptions(captures: [path])).frames[0].length == 1514)
    }
}
