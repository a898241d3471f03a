import Allowlist
import Frames
import Glibc
import Testing
import TestSupport

@testable import Datapath

/// The kernel's twin against the worker: every frame gets the same verdict, the same cause, the same rule.
@Suite(.enabled(if: geteuid() == 0, "loading a BPF program needs root"), .serialized)
struct TwinTests {
    /// The worker's own path: parser and judge, one frame.
    private static func judge(_ table: CompiledTable, _ frame: [UInt8], from side: Side, _ memory: JudgeMemory) -> Verdict {
        var headers = FrameHeaders()
        var verdict = Verdict(rule: 0, cause: .none, isReply: false)
        frame.withUnsafeBytes { bytes in
            parseFrame(bytes, wireLength: frame.count, into: &headers)
            _ = withUnsafePointer(to: bytes.baseAddress!) {
                judgeBurst(table.view, frames: $0, headers: &headers, count: 1, from: side, scratch: memory.scratch, verdicts: &verdict)
            }
        }
        return verdict
    }

    /// What a comparison saw: as much of each as makes it worth something.
    private struct Seen {
        var frames = 0
        var allowed = 0
        var causes: Set<UInt8> = []
    }

    private static func compare(
        _ program: XDPProgram, _ table: CompiledTable, _ frame: [UInt8], from side: Side, _ memory: JudgeMemory, _ seen: inout Seen
    ) throws {
        guard let twin = try program.verdict(of: frame, from: side) else { return }
        let worker = judge(table, frame, from: side, memory)
        seen.frames += 1
        seen.causes.insert(worker.cause.rawValue)
        if worker.isAllowed { seen.allowed += 1 }
        if twin == worker { return }
        // The one listed difference: what lies behind the first 256 bytes is not looked at.
        if frame.count > 256, twin.cause == .truncated { return }
        Issue.record("twin \(twin), worker \(worker), from \(side), frame \(frame.map { String($0, radix: 16) }.joined(separator: " "))")
    }

    @Test(arguments: 1...16)
    func randomFramesUnderRandomPolicies(seed: Int) throws {
        var random = SplitMix(UInt64(seed) &* 7919)
        var maker = FrameMaker(random: SplitMix(UInt64(seed)))
        let rules = (0..<[1, 4, 20, 80][seed % 4]).map { _ in maker.rule() }
        let bindings = seed % 2 == 0 ? [] : maker.bindings()
        let types = [EtherType.arp, EtherType(rawValue: 0x88CC), .llc(dsap: 0x42)]
        let table = try CompiledTable.build(AllowlistSource(rules: rules, etherTypes: seed % 3 == 0 ? [] : types, bindings: bindings))
        let program = try XDPProgram()
        try program.publish(table, ruleNames: rules.indices.map { "r\($0)" })
        let memory = JudgeMemory()
        var seen = Seen()
        for _ in 0..<6000 {
            var frame = maker.frame()
            if Int.random(in: 0..<4, using: &random) == 0, !frame.isEmpty {
                // A broken one: a bit flipped in what is looked at, or cut off.
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    frame[Int.random(in: 0..<min(frame.count, 100), using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
                if Bool.random(using: &random) { frame.removeLast(Int.random(in: 0..<frame.count, using: &random)) }
            }
            try Self.compare(program, table, frame, from: Bool.random(using: &random) ? .inside : .outside, memory, &seen)
        }
        #expect(seen.frames > 5000 && seen.causes.count >= 15, "\(seen)")
        if rules.count >= 20 { #expect(seen.allowed > 100) }
    }

    @Test func longAndShortFrames() throws {
        let table = try CompiledTable.build(
            AllowlistSource(rules: [
                AllowRule(clients: [.any(.ipv4)], servers: [.any(.ipv4)], services: [ServiceRange(.udp, Port(rawValue: 53), Port(rawValue: 53))])
            ]))
        let program = try XDPProgram()
        try program.publish(table, ruleNames: ["dns"])
        let memory = JudgeMemory()
        var seen = Seen()
        for length in [0, 1, 100, 200, 228, 229, 300, 1472] {
            var frame = FrameBuilder()
            frame.ipv4(proto: 17, payload: FrameBuilder.udp(payload: [UInt8](repeating: 7, count: length)))
            try Self.compare(program, table, frame.bytes, from: .inside, memory, &seen)
            #expect(try program.verdict(of: frame.bytes, from: .inside)?.isAllowed == true)
        }
        for length in 14..<60 { try Self.compare(program, table, [UInt8](repeating: 8, count: length), from: .inside, memory, &seen) }
    }

    /// What is wrong with a frame does not hang on the policy: this one allows all it can.
    @Test func namedFrames() throws {
        let everyPort = [IPProtocol.tcp, .udp, .sctp, .udpLite, .dccp].map { ServiceRange($0, Port(rawValue: 0), Port(rawValue: 65535)) }
        let rules = [IPFamily.ipv4, .ipv6].map { AllowRule(clients: [.any($0)], servers: [.any($0)], services: everyPort) }
        let types = FrameCorpus.frames.filter { $0.bytes.count >= 14 }.map { EtherType(rawValue: UInt16($0.bytes[12]) << 8 | UInt16($0.bytes[13])) }
        let table = try CompiledTable.build(AllowlistSource(rules: rules, etherTypes: Array(Set(types))))
        let program = try XDPProgram()
        try program.publish(table, ruleNames: ["ipv4", "ipv6"])
        let memory = JudgeMemory()
        var seen = Seen()
        for frame in FrameCorpus.frames where frame.wireLength == frame.bytes.count {
            try Self.compare(program, table, frame.bytes, from: .inside, memory, &seen)
        }
        #expect(seen.causes.count > Cause.ofParser.count && seen.allowed > 50, "\(seen)")
    }

    @Test func anotherTableIsTakenWhole() throws {
        let program = try XDPProgram()
        let memory = JudgeMemory()
        var seen = Seen()
        // Growing, so that the program must be replaced by a larger one; and shrinking again.
        for (version, count) in [2, 3000, 40_000, 5].enumerated() {
            let rules = (0..<count).map { i in
                AllowRule(
                    clients: [host(0x0A03_0000 + UInt64(i))], servers: [host(0x0A04_0000 + UInt64(i))],
                    services: [ServiceRange(.tcp, Port(rawValue: 5000 + UInt16(version)), Port(rawValue: 5000 + UInt16(version)))])
            }
            let table = try CompiledTable.build(AllowlistSource(rules: rules), version: UInt64(version + 1))
            try program.publish(table, ruleNames: rules.indices.map { "r\($0)" })
            for i in stride(from: 0, to: count, by: max(1, count / 50)) {
                let low = [UInt8(i >> 8 & 0xFF), UInt8(i & 0xFF)]
                for port in 5000...5003 {
                    try Self.compare(
                        program, table, FrameBuilder.tcpFrame(from: [10, 3] + low, to: [10, 4] + low, 40000, UInt16(port)), from: .outside,
                        memory, &seen)
                }
            }
        }
        #expect(seen.allowed > 100)
    }

    @Test func withoutATableNothingPasses() throws {
        let verdict = try XDPProgram().verdict(of: FrameBuilder.tcpFrame(), from: .inside)
        #expect(verdict?.isAllowed == false)
    }

    private func host(_ address: UInt64) -> AddressPrefix {
        AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: address), length: 32)
    }
}

/// Frames of every kind the parser knows, among a few addresses and ports, so that rules meet them often.
private struct FrameMaker {
    var random: SplitMix
    private var ipv6 = false

    init(random: SplitMix) { self.random = random }

    private mutating func pick<T>(_ values: [T]) -> T { values.randomElement(using: &random)! }
    private mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &random) == 0 }

    private mutating func address4() -> [UInt8] { [10, 3, UInt8.random(in: 0...1, using: &random), UInt8.random(in: 1...6, using: &random)] }
    private mutating func address6() -> [UInt8] { chance(10) ? FrameBuilder.ipv6Address(0x80) : FrameBuilder.ipv6Address(UInt8.random(in: 1...6, using: &random)) }
    private mutating func mac() -> [UInt8] { [2, 0, 0, 0, 0, UInt8.random(in: 1...4, using: &random)] }
    private mutating func port() -> UInt16 { pick([53, 102, 500, 502, 5000, 5001, 40000]) }

    private mutating func transport(_ isIPv6: Bool) -> (UInt8, [UInt8]) {
        switch Int.random(in: 0..<9, using: &random) {
        case 0...2:
            let offset: UInt8 = chance(8) ? pick([0, 4, 6, 15]) : 5
            return (6, FrameBuilder.tcp(port(), port(), flags: chance(6) ? UInt8.random(in: 0...255, using: &random) : pick([0x02, 0x10, 0x12, 0x18, 0x11]), offset: offset, payload: [1, 2, 3]))
        case 3...4: return (17, FrameBuilder.udp(port(), port(), length: chance(8) ? pick([0, 7, 11, 300]) : nil))
        case 5:
            let type: UInt8 = isIPv6 ? pick([128, 129, 133, 134, 1, 135]) : pick([0, 8, 13, 14, 5, 17, 18, 4])
            return (isIPv6 ? 58 : 1, FrameBuilder.icmp(type, pick([0, 1])))
        case 6: return icmpError(isIPv6)
        case 7: return (pick([132, 136, 33]), FrameBuilder.be(port()) + FrameBuilder.be(port()) + [UInt8](repeating: 0, count: pick([2, 4, 8])))
        default: return (pick([47, 50, 2, 1, 58]), [UInt8](repeating: 3, count: pick([0, 4, 20])))
        }
    }

    private mutating func icmpError(_ isIPv6: Bool) -> (UInt8, [UInt8]) {
        var inner = FrameBuilder()
        let proto: UInt8 = pick([6, 17, 1, 58, 47])
        let payload = proto == 6 ? FrameBuilder.tcp(port(), port()) : proto == 17 ? FrameBuilder.udp(port(), port()) : FrameBuilder.icmp(pick([8, 0, 3, 128, 1]))
        if isIPv6 {
            inner.ipv6(from: address6(), to: address6(), next: proto, payload: payload)
        } else {
            inner.ipv4(from: address4(), to: address4(), proto: proto, payload: payload, options: chance(6) ? [1, 1, 1, 1] : [], fragment: chance(8) ? 5 : 0)
        }
        let packet = Array(inner.bytes.dropFirst(14))
        return isIPv6 ? (58, FrameBuilder.icmp(pick([1, 2, 3, 4]), pick([0, 4]), payload: packet)) : (1, FrameBuilder.icmp(pick([3, 11, 12]), pick([0, 2, 3]), payload: packet))
    }

    mutating func frame() -> [UInt8] {
        let tags: [(UInt16, UInt16)] = chance(4) ? (0..<Int.random(in: 1...3, using: &random)).map { _ in (pick([0x8100, 0x88A8, 0x9100]), UInt16.random(in: 0...3, using: &random)) } : []
        var frame = FrameBuilder(destination: mac(), source: chance(30) ? [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF] : mac(), tags: tags)
        switch Int.random(in: 0..<12, using: &random) {
        case 0...4:
            let (proto, payload) = transport(false)
            let options: [UInt8] = chance(8) ? pick([[1, 1, 1, 0], [7, 4, 4, 0], [131, 3, 4, 0], [68, 40, 0, 0], [0, 9, 9, 9], [1, 148, 2, 0]]) : []
            let fragment: UInt16 = chance(8) ? pick([0x2000, 0x2001, 1, 2, 3, 0x20B9, 0x1FFF, 0x4000]) : 0
            frame.ipv4(
                from: address4(), to: address4(), proto: proto, payload: payload, options: options, fragment: fragment,
                version: chance(40) ? 5 : 4, ihl: chance(40) ? pick([0, 4, 6, 15]) : nil, length: chance(30) ? pick([10, 20, 24, 400]) : nil)
        case 5...8:
            var (next, payload) = transport(true)
            for _ in 0..<(chance(3) ? Int.random(in: 1...8, using: &random) : 0) {
                let kind: UInt8 = pick([0, 43, 44, 60, 60, 60])
                let header: [UInt8] = kind == 44
                    ? [next, 0] + FrameBuilder.be(pick([0, 1, 8, 24, 25, 0xFFF9])) + [0, 0, 0, 1]
                    : [next, pick([0, 0, 0, 1, 40]), kind == 43 ? pick([0, 2]) : 1, 4, 0, 0, 0, 0]
                payload = header + payload
                next = kind
            }
            frame.ipv6(
                from: address6(), to: address6(), next: next, payload: payload, length: chance(30) ? pick([0, 7, 500]) : nil,
                version: chance(40) ? 4 : 6)
        case 9: arp(&frame)
        case 10: neighbour(&frame)
        default:
            if Bool.random(using: &random) {
                frame.add16(pick([0x88CC, 0x8892, 0x0600, 0x05FF, 0x9000]))
                frame.add([1, 2, 3, 4])
            } else {
                let body: [UInt8] = pick([[0x42, 0x42, 3], [0xAA, 0xAA, 3, 0, 0, 0, 8, 0], [0xAB, 0xAA, 3, 0, 0, 0xF8, 8, 0], [0xAA, 0xAA, 3, 1, 2, 3, 8, 0], [6, 6, 3], [1, 2]])
                frame.add16(UInt16(body.count + (chance(4) ? 9 : 0)))
                frame.add(body)
            }
        }
        // As short frames are padded on the wire.
        if Bool.random(using: &random), frame.bytes.count < 60 { frame.add([UInt8](repeating: 0, count: 60 - frame.bytes.count)) }
        return frame.bytes
    }

    private mutating func arp(_ frame: inout FrameBuilder) {
        frame.add16(0x0806)
        frame.add([0, 1, 8, 0, 6, 4, 0, pick([1, 2, 2, 3])] + mac() + address4() + mac() + address4())
    }

    private mutating func neighbour(_ frame: inout FrameBuilder) {
        let isAdvertisement = Bool.random(using: &random)
        var message: [UInt8] = [isAdvertisement ? 136 : 135, 0, 0, 0, 0, 0, 0, 0] + address6()
        for _ in 0..<Int.random(in: 0...2, using: &random) { message += [pick([1, 2, 14]), chance(10) ? pick([0, 2]) : 1] + mac() }
        frame.ipv6(
            from: chance(6) ? [UInt8](repeating: 0, count: 16) : address6(), to: address6(), next: 58, payload: message,
            hopLimit: chance(10) ? 64 : 255)
    }

    // MARK: Policies

    private mutating func prefix(_ family: IPFamily) -> AddressPrefix {
        let bytes = family == .ipv4 ? address4() : address6()
        let words = bytes.count == 4
            ? AddressWords(high: 0, low: bytes.reduce(0) { $0 << 8 | UInt64($1) })
            : AddressWords(high: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }, low: bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
        let lengths = family == .ipv4 ? [32, 32, 32, 30, 24, 16, 0] : [128, 128, 128, 125, 64, 0]
        return AddressPrefix(family: family, words: words, length: pick(lengths))
    }

    mutating func rule() -> AllowRule {
        let family: IPFamily = Bool.random(using: &random) ? .ipv4 : .ipv6
        let services = (0..<Int.random(in: 1...2, using: &random)).map { _ -> ServiceRange in
            switch Int.random(in: 0..<6, using: &random) {
            case 0...1: return ServiceRange(.tcp, Port(rawValue: 500), Port(rawValue: pick([500, 502, 5001])))
            case 2...3: return ServiceRange(.udp, Port(rawValue: 53), Port(rawValue: pick([53, 600])))
            case 4: return ServiceRange(family == .ipv4 ? .icmp : .icmpv6, .icmp(type: 0, code: 0), .icmp(type: pick([8, 128, 255]), code: 255))
            default: return ServiceRange(IPProtocol(rawValue: pick([47, 132, 136])), Port(rawValue: 0), Port(rawValue: pick([0, 65535])))
            }
        }
        return AllowRule(
            clients: [prefix(family), prefix(family)], servers: [prefix(family)], services: services,
            vlans: chance(4) ? [VLANID(rawValue: 1), VLANID(rawValue: 3)] : [], clientSide: chance(4) ? pick([.inside, .outside]) : nil)
    }

    mutating func bindings() -> [AddressBinding] {
        var result: [AddressBinding] = []
        for last in 1...3 as ClosedRange<UInt64> {
            let macs = [MACAddress(rawValue: 0x0200_0000_0000 + last), MACAddress(rawValue: 0x0200_0000_0004)]
            let side: Side? = chance(3) ? pick([.inside, .outside]) : nil
            result.append(
                AddressBinding(
                    family: .ipv4, address: AddressWords(high: 0, low: 0x0A03_0000 + last), macs: chance(5) ? [] : macs, side: side))
            result.append(
                AddressBinding(
                    family: .ipv6, address: AddressWords(high: 0xFD00_0003_0000_0000, low: last), macs: chance(5) ? [] : macs,
                    side: chance(3) ? side : nil))
        }
        return result
    }
}
