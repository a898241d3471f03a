import Foundation
import Frames
import Testing
import TestSupport

@testable import Allowlist

/// Tables against the linear scan: over random policies, and over rule sets nobody made for this project.
@Suite struct OracleTests {
    /// Headers of a TCP or UDP packet, as the parser would give them.
    private static func headers(_ source: UInt64, _ destination: UInt64, _ port: UInt16, _ proto: UInt8, _ random: inout SplitMix) -> FrameHeaders {
        var headers = FrameHeaders()
        headers.form = .ipv4
        headers.source = AddressWords(high: 0, low: source)
        headers.destination = AddressWords(high: 0, low: destination)
        headers.ipProtocol = IPProtocol(rawValue: proto)
        headers.destinationPort = Port(rawValue: port)
        headers.sourcePort = Port(rawValue: UInt16.random(in: 1024...65535, using: &random))
        headers.tcpFlags = .ack
        return headers
    }

    private static func randomPrefix(_ random: inout SplitMix, hostsOnly: Bool) -> AddressPrefix {
        // A small space, so that prefixes nest and collide.
        let address = 0x0A00_0000 | UInt64.random(in: 0..<4096, using: &random) << 4
        let length = hostsOnly ? 32 : [0, 8, 16, 20, 24, 27, 28, 30, 32, 32, 32].randomElement(using: &random)!
        return AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: address | UInt64.random(in: 0..<16, using: &random)), length: length)
    }

    private static func randomRule(_ random: inout SplitMix) -> AllowRule {
        let exact = Bool.random(using: &random)
        func prefixes() -> [AddressPrefix] {
            (0..<Int.random(in: 1...3, using: &random)).map { _ in randomPrefix(&random, hostsOnly: exact) }
        }
        let services = (0..<Int.random(in: 1...3, using: &random)).map { _ -> ServiceRange in
            let low = UInt16.random(in: 1...200, using: &random)
            let high = Bool.random(using: &random) ? low : UInt16.random(in: low...300, using: &random)
            return ServiceRange(Bool.random(using: &random) ? .tcp : .udp, Port(rawValue: low), Port(rawValue: high))
        }
        return AllowRule(
            clients: prefixes(), servers: prefixes(), services: services,
            vlans: Int.random(in: 0..<4, using: &random) == 0 ? [VLANID(rawValue: UInt16.random(in: 1...3, using: &random))] : [],
            clientSide: Int.random(in: 0..<4, using: &random) == 0 ? .inside : nil)
    }

    @Test(arguments: 1...12)
    func randomPoliciesJudgeAsTheLinearScanDoes(seed: Int) throws {
        var random = SplitMix(UInt64(seed))
        let rules = (0..<[1, 10, 60, 250][seed % 4]).map { _ in Self.randomRule(&random) }
        let table = try CompiledTable.build(AllowlistSource(rules: rules))
        let memory = JudgeMemory()
        var allowed = 0
        for _ in 0..<4000 {
            let rule = rules.randomElement(using: &random)!
            // Around a rule: inside it, beside it, the other way round.
            let client = rule.clients.randomElement(using: &random)!, server = rule.servers.randomElement(using: &random)!
            let noise = UInt64.random(in: 0..<16, using: &random)
            var headers = Self.headers(
                client.words.low ^ (Bool.random(using: &random) ? noise : 0), server.words.low ^ (Bool.random(using: &random) ? noise << 4 : 0),
                UInt16.random(in: 1...310, using: &random), Bool.random(using: &random) ? 6 : 17, &random)
            headers.tcpFlags = Bool.random(using: &random) ? .syn : .ack
            headers.vlan = VLANID(rawValue: UInt16.random(in: 0...3, using: &random))
            if Bool.random(using: &random) {
                swap(&headers.source, &headers.destination)
                swap(&headers.sourcePort, &headers.destinationPort)
            }
            let side: Side = Bool.random(using: &random) ? .inside : .outside
            let own = table.judge(headers, from: side, memory)
            let expected = table.source.linearScan(headers, from: side)
            #expect(own.cause == expected.cause)
            // Among the rules that match this way round, the first.
            if own.isReply == expected.isReply { #expect(own.rule == expected.rule) }
            allowed += own.isAllowed ? 1 : 0
        }
        #expect(allowed > (rules.count > 1 ? 20 : 2))
    }

    @Test func prefixesNestedByTheHundredStayWithinFourProbes() throws {
        // `any`, a /8, /16s with more than 64 networks inside: wide on both sides.
        var random = SplitMix(77)
        var rules: [AllowRule] = []
        func rule(_ client: AddressPrefix, _ server: AddressPrefix, _ port: UInt16) {
            rules.append(AllowRule(clients: [client], servers: [server], services: [ServiceRange(.tcp, Port(rawValue: port), Port(rawValue: port + 100))]))
        }
        func prefix(_ address: UInt64, _ length: Int) -> AddressPrefix {
            AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: address), length: length)
        }
        for i in 0..<300 { rule(prefix(0x0A00_0000 + UInt64(i) << 8, 24), prefix(0x0B00_0000 + UInt64(i) << 8, 24), 1000) }
        rule(.any(.ipv4), prefix(0x0B00_0500, 24), 2000)
        rule(prefix(0x0A00_0000, 8), .any(.ipv4), 3000)
        rule(.any(.ipv4), .any(.ipv4), 4000)
        rule(prefix(0x0A00_0500, 24), .any(.ipv4), 6000)
        rule(prefix(0x0A00_0000, 16), prefix(0x0B00_0000, 8), 5000)
        let table = try CompiledTable.build(AllowlistSource(rules: rules))
        #expect(table.view.pointee.labels.probesInUse == 0b1111)
        let memory = JudgeMemory()
        for _ in 0..<20_000 {
            let headers = Self.headers(
                [0x0A00_0000, 0x0B00_0000].randomElement(using: &random)! + UInt64.random(in: 0..<90_000, using: &random),
                [0x0B00_0000, 0x0C00_0000].randomElement(using: &random)! + UInt64.random(in: 0..<90_000, using: &random),
                UInt16.random(in: 1...6, using: &random) * 1000 + UInt16.random(in: 0...150, using: &random), 6, &random)
            let own = table.judge(headers, from: .inside, memory), expected = table.source.linearScan(headers, from: .inside)
            #expect(own.cause == expected.cause && (own.rule == expected.rule || own.isReply != expected.isReply))
        }
    }

    // MARK: ClassBench

    @Test(
        .enabled(if: SharedData.file("rules/acl1_1k") != nil, "the ClassBench sets are not beside the checkout"),
        arguments: ["acl1_1k", "fw1_1k", "ipc2_1k", "acl2_10k", "fw2_10k"])
    func classBenchSetsJudgeAsTheLinearScanDoes(set: String) throws {
        let rules = try ClassBench.rules(set)
        let table = try CompiledTable.build(AllowlistSource(rules: rules))
        let memory = JudgeMemory()
        var random = SplitMix(4)
        var packets = try ClassBench.trace(set)
        // The traces hold no packet that matches nothing: add near misses and strangers.
        for _ in 0..<2000 {
            let a = rules.randomElement(using: &random)!, b = rules.randomElement(using: &random)!
            packets.append((a.clients[0].words.low, b.servers[0].words.low, b.services[0].low.rawValue, a.services[0].ipProtocol.rawValue))
            packets.append((UInt64(UInt32.random(in: 0...UInt32.max, using: &random)), UInt64(UInt32.random(in: 0...UInt32.max, using: &random)), 80, 6))
        }
        if rules.count > 2000 { packets = Array(packets.shuffled(using: &random).prefix(6000)) }
        var wrong = 0, allowed = 0
        for (source, destination, port, proto) in packets {
            let headers = Self.headers(source, destination, port, proto, &random)
            let own = table.judge(headers, from: .inside, memory)
            let expected = table.source.linearScan(headers, from: .inside)
            if own.cause != expected.cause || own.isReply == expected.isReply && own.rule != expected.rule { wrong += 1 }
            allowed += own.isAllowed ? 1 : 0
        }
        #expect(wrong == 0)
        #expect(allowed > 200)
    }
}

/// Reads ClassBench filter sets and traces. Rules that allow nearly everything are left out, and source ports do
/// not exist in our rules.
enum ClassBench {
    static func rules(_ set: String) throws -> [AllowRule] {
        let text = try String(contentsOf: SharedData.file("rules/\(set)")!, encoding: .utf8)
        var rules: [AllowRule] = []
        for line in text.split(separator: "\n") {
            let fields = line.dropFirst().split(whereSeparator: { $0 == "\t" || $0 == " " }).map(String.init)
            func prefix(_ text: String) -> AddressPrefix {
                let parts = text.split(separator: "/")
                let address = parts[0].split(separator: ".").reduce(UInt64(0)) { $0 << 8 | UInt64($1)! }
                return AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: address), length: Int(parts[1])!)
            }
            let client = prefix(fields[0]), server = prefix(fields[1])
            guard client.length + server.length >= 16 else { continue }
            let low = Port(rawValue: UInt16(fields[5])!), high = Port(rawValue: UInt16(fields[7])!)
            let proto = fields[8].split(separator: "/")
            let protocols: [UInt8] = proto[1] == "0x00" ? [1, 6, 17] : [UInt8(proto[0].dropFirst(2), radix: 16)!]
            rules.append(
                AllowRule(
                    clients: [client], servers: [server],
                    services: protocols.map { ServiceRange(IPProtocol(rawValue: $0), low, high) }))
        }
        return rules
    }

    static func trace(_ set: String) throws -> [(UInt64, UInt64, UInt16, UInt8)] {
        guard let file = SharedData.file("rules/\(set)_trace") else { return [] }
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
            let fields = line.split(separator: "\t")
            return (UInt64(fields[0])!, UInt64(fields[1])!, UInt16(fields[3])!, UInt8(fields[4])!)
        }
    }
}
