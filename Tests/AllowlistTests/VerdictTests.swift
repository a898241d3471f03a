import Frames
import Testing
import TestSupport

@testable import Allowlist

private func host(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> AddressPrefix { network(a, b, c, d, 32) }

private func network(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, _ length: Int) -> AddressPrefix {
    AddressPrefix(
        family: .ipv4, words: AddressWords(high: 0, low: UInt64(a) << 24 | UInt64(b) << 16 | UInt64(c) << 8 | UInt64(d)),
        length: length)
}

private func tcp(_ low: UInt16, _ high: UInt16? = nil) -> ServiceRange {
    ServiceRange(.tcp, Port(rawValue: low), Port(rawValue: high ?? low))
}

/// The way a frame goes in the data path: parsed, then judged.
private func judge(_ table: CompiledTable, _ frame: [UInt8], from side: Side = .outside) -> Verdict {
    var headers = FrameHeaders()
    let memory = JudgeMemory()
    var verdict = Verdict(rule: 0, cause: .none, isReply: false)
    frame.withUnsafeBytes { bytes in
        parseFrame(bytes, wireLength: bytes.count, into: &headers)
        var base = bytes.baseAddress!
        judgeBurst(
            table.view, frames: &base, headers: &headers, count: 1, from: side, scratch: memory.scratch, verdicts: &verdict)
    }
    return verdict
}

private let mes = host(10, 3, 0, 10), tool = host(10, 3, 1, 21)

@Suite struct VerdictTests {
    @Test func aConversationPassesBothWaysAndOnlyItsClientOpensIt() throws {
        let table = try CompiledTable.build(
            AllowlistSource(rules: [AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)])]))
        let there = judge(table, FrameBuilder.tcpFrame(40000, 5000, flags: 0x02))
        #expect(there == Verdict(rule: 0, cause: .none, isReply: false))
        let back = judge(table, FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000, flags: 0x12))
        #expect(back == Verdict(rule: 0, cause: .none, isReply: true))
        // Mid-stream: no SYN was ever seen.
        #expect(judge(table, FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000)).isAllowed)
        // The server tries to open a connection from its own port.
        #expect(
            judge(table, FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000, flags: 0x02)).cause
                == .synFromServer)
        #expect(judge(table, FrameBuilder.tcpFrame(40000, 5001, flags: 0x02)).cause == .notInPolicy)
        #expect(judge(table, FrameBuilder.tcpFrame(from: [10, 3, 0, 66], 40000, 5000, flags: 0x02)).cause == .notInPolicy)
        #expect(judge(table, FrameBuilder.udpFrame(40000, 5000)).cause == .notInPolicy)
    }

    @Test func aServerMayBeAClientByAnotherRule() throws {
        // Labels and exact keys in both directions: a SYN the first rule forbids, another allows.
        for service in [tcp(6000), tcp(6000, 6999)] {
            let table = try CompiledTable.build(
                AllowlistSource(rules: [
                    AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)]),
                    AllowRule(clients: [tool], servers: [mes], services: [service]),
                ]))
            let syn = FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 6000, flags: 0x02)
            #expect(judge(table, syn) == Verdict(rule: 1, cause: .none, isReply: false))
        }
    }

    @Test func echoIsAskedByTheClientAndAnsweredByTheServer() throws {
        let echo = ServiceRange(.icmp, .icmp(type: 8, code: 0), .icmp(type: 8, code: 0))
        let table = try CompiledTable.build(
            AllowlistSource(rules: [AllowRule(clients: [mes], servers: [tool], services: [echo])]))
        func icmp(_ from: [UInt8], _ to: [UInt8], _ type: UInt8) -> Verdict {
            var frame = FrameBuilder()
            frame.ipv4(from: from, to: to, proto: 1, payload: FrameBuilder.icmp(type))
            return judge(table, frame.bytes)
        }
        #expect(icmp([10, 3, 0, 10], [10, 3, 1, 21], 8).isAllowed)
        #expect(icmp([10, 3, 1, 21], [10, 3, 0, 10], 0).isAllowed)
        #expect(!icmp([10, 3, 1, 21], [10, 3, 0, 10], 8).isAllowed)
        #expect(!icmp([10, 3, 0, 10], [10, 3, 1, 21], 0).isAllowed)
    }

    @Test func icmpErrorsPassForAllowedConversationsOnly() throws {
        let table = try CompiledTable.build(
            AllowlistSource(rules: [AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)], clientSide: .outside)]))
        func error(_ port: UInt16, from side: Side) -> Verdict {
            var inner = FrameBuilder()
            inner.bytes = []
            inner.ipv4(proto: 6, payload: FrameBuilder.tcp(40000, port, flags: 0x02))
            var frame = FrameBuilder()
            frame.ipv4(
                from: [10, 3, 1, 1], to: [10, 3, 0, 10], proto: 1,
                payload: FrameBuilder.icmp(3, 1, payload: Array(inner.bytes.dropFirst(2))))
            return judge(table, frame.bytes, from: side)
        }
        #expect(error(5000, from: .inside).isAllowed)
        #expect(error(5001, from: .inside).cause == .notInPolicy)
        // The client is outside: an error about its packet comes from the inside.
        #expect(error(5000, from: .outside).cause == .notInPolicy)
    }

    @Test func vlanAndSideNarrowARule() throws {
        for server in [tool, network(10, 3, 1, 0, 24)] {
            let table = try CompiledTable.build(
                AllowlistSource(rules: [
                    AllowRule(
                        clients: [mes], servers: [server], services: [tcp(5000)], vlans: [VLANID(rawValue: 12)], clientSide: .outside),
                    AllowRule(clients: [mes], servers: [server], services: [tcp(5000)], vlans: [VLANID(rawValue: 13)]),
                ]))
            let tagged = FrameBuilder.tcpFrame(flags: 0x02, tags: [(0x8100, 12)])
            #expect(judge(table, tagged, from: .outside).rule == 0)
            #expect(judge(table, tagged, from: .inside).cause == .notInPolicy)
            #expect(judge(table, FrameBuilder.tcpFrame(flags: 0x02, tags: [(0x8100, 13)]), from: .inside).rule == 1)
            #expect(judge(table, FrameBuilder.tcpFrame(flags: 0x02)).cause == .notInPolicy)
            let back = FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, 40000, tags: [(0x8100, 12)])
            #expect(judge(table, back, from: .inside).isAllowed)
            #expect(judge(table, back, from: .outside).cause == .notInPolicy)
        }
    }

    @Test func theFirstRuleInTheFileIsNamed() throws {
        let table = try CompiledTable.build(
            AllowlistSource(rules: [
                AllowRule(clients: [network(10, 3, 0, 0, 24)], servers: [tool], services: [tcp(5000)]),
                AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)]),
                AllowRule(clients: [.any(.ipv4)], servers: [tool], services: [tcp(1, 65535)]),
            ]))
        #expect(judge(table, FrameBuilder.tcpFrame(flags: 0x02)).rule == 0)
        #expect(judge(table, FrameBuilder.tcpFrame(40000, 80, flags: 0x02)).rule == 2)
    }

    @Test func etherTypesPassByTheList() throws {
        let table = try CompiledTable.build(
            AllowlistSource(etherTypes: [.arp, EtherType(rawValue: 0x88CC), .llc(dsap: 0x42)]))
        func frame(_ type: UInt16, _ payload: [UInt8]) -> Verdict {
            var frame = FrameBuilder()
            frame.add16(type)
            frame.add(payload)
            return judge(table, frame.bytes)
        }
        let padding = [UInt8](repeating: 0, count: 46)
        #expect(frame(0x88CC, padding).isAllowed)
        #expect(frame(0x8892, padding).cause == .etherTypeNotAllowed)
        #expect(frame(38, [0x42, 0x42, 3] + padding).isAllowed)
        #expect(frame(38, [0xF0, 0xF0, 3] + padding).cause == .etherTypeNotAllowed)
    }

    @Test func laterFragmentsAreDeniedUntilTheyAreTracked() throws {
        let table = try CompiledTable.build(
            AllowlistSource(rules: [AllowRule(clients: [mes], servers: [tool], services: [ServiceRange(.udp, Port(rawValue: 53), Port(rawValue: 53))])]))
        var first = FrameBuilder(), later = FrameBuilder()
        first.ipv4(proto: 17, payload: FrameBuilder.udp(payload: [UInt8](repeating: 0, count: 16), length: 900), fragment: 0x2000)
        later.ipv4(proto: 17, payload: [UInt8](repeating: 0, count: 24), fragment: 0x0003)
        #expect(judge(table, first.bytes).isAllowed)
        #expect(judge(table, later.bytes).cause == .fragmentUntracked)
    }

    @Test func bindingsHoldAddressAndMACTogether() throws {
        let own = MACAddress(rawValue: 0x0200_0000_030A)
        let source = AllowlistSource(
            rules: [AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)])],
            bindings: [AddressBinding(family: .ipv4, address: mes.words, macs: [own])])
        let table = try CompiledTable.build(source)
        #expect(judge(table, FrameBuilder.tcpFrame()).isAllowed)
        var spoofed = FrameBuilder(source: [2, 0, 0, 0, 6, 6])
        spoofed.ipv4(proto: 6, payload: FrameBuilder.tcp())
        #expect(judge(table, spoofed.bytes).cause == .addressBinding)
        // Frames for the device that are sent to somebody else: after ARP poisoning.
        var diverted = FrameBuilder(destination: [2, 0, 0, 0, 6, 6], source: [2, 0, 0, 0, 3, 0x15])
        diverted.ipv4(from: [10, 3, 1, 21], to: [10, 3, 0, 10], proto: 6, payload: FrameBuilder.tcp(5000, 40000))
        #expect(judge(table, diverted.bytes).cause == .addressBinding)
        func arp(_ ethernet: [UInt8], _ claimed: [UInt8]) -> Verdict {
            var frame = FrameBuilder(source: ethernet)
            frame.add16(0x0806)
            frame.add([0, 1, 8, 0, 6, 4, 0, 2] + claimed + [10, 3, 0, 10] + [2, 0, 0, 0, 3, 0x15, 10, 3, 1, 21])
            return judge(table, frame.bytes)
        }
        #expect(arp([2, 0, 0, 0, 3, 0x0A], [2, 0, 0, 0, 3, 0x0A]).isAllowed)
        #expect(arp([2, 0, 0, 0, 6, 6], [2, 0, 0, 0, 6, 6]).cause == .addressBinding)
        #expect(arp([2, 0, 0, 0, 3, 0x0A], [2, 0, 0, 0, 6, 6]).cause == .addressBinding)
    }

    @Test func devicesStayOnTheirSide() throws {
        let own = MACAddress(rawValue: 0x0200_0000_030A)
        func bed(_ macs: [MACAddress]) throws -> CompiledTable {
            try CompiledTable.build(
                AllowlistSource(
                    rules: [AllowRule(clients: [mes], servers: [tool], services: [tcp(5000)])], etherTypes: [.arp, EtherType(rawValue: 0x88CC)],
                    bindings: [AddressBinding(family: .ipv4, address: mes.words, macs: macs, side: .outside)]))
        }
        func ether(_ source: [UInt8], _ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
            var frame = FrameBuilder(source: source)
            frame.add16(type)
            frame.add(payload)
            return frame.bytes
        }
        let mac: [UInt8] = [2, 0, 0, 0, 3, 0x0A], other: [UInt8] = [2, 0, 0, 0, 6, 6]
        func arp(_ source: [UInt8], _ address: [UInt8]) -> [UInt8] {
            ether(source, 0x0806, [0, 1, 8, 0, 6, 4, 0, 1] + source + address + [0, 0, 0, 0, 0, 0, 10, 3, 1, 21])
        }
        for macs in [[own], []] {
            let table = try bed(macs)
            // The address.
            #expect(judge(table, FrameBuilder.tcpFrame(), from: .outside).isAllowed)
            #expect(judge(table, FrameBuilder.tcpFrame(), from: .inside).cause == .wrongSide)
            #expect(judge(table, arp(mac, [10, 3, 0, 10]), from: .outside).isAllowed)
            #expect(judge(table, arp(mac, [10, 3, 0, 10]), from: .inside).cause == .wrongSide)
            #expect(judge(table, arp(other, [10, 3, 0, 10]), from: .outside).cause == (macs.isEmpty ? .none : .addressBinding))
            // The MAC address, whatever it says.
            let expected: Cause = macs.isEmpty ? .none : .wrongSide
            #expect(judge(table, arp(mac, [10, 3, 0, 99]), from: .inside).cause == expected)
            #expect(judge(table, ether(mac, 0x88CC, [2, 7, 4, 0]), from: .inside).cause == expected)
            #expect(judge(table, ether(mac, 0x88CC, [2, 7, 4, 0]), from: .outside).isAllowed)
            #expect(judge(table, ether(other, 0x88CC, [2, 7, 4, 0]), from: .inside).isAllowed)
            // What goes to it is not held to a side.
            var reply = FrameBuilder(destination: mac, source: [2, 0, 0, 0, 3, 0x15])
            reply.ipv4(from: [10, 3, 1, 21], to: [10, 3, 0, 10], proto: 6, payload: FrameBuilder.tcp(5000, 40000))
            #expect(judge(table, reply.bytes, from: .inside).isAllowed)
        }
    }

    @Test func boundIPv6AddressesAndTheirNeighbourDiscovery() throws {
        let address = AddressPrefix(family: .ipv6, words: AddressWords(high: 0xFD00_0003_0000_0000, low: 21), length: 128)
        let table = try CompiledTable.build(
            AllowlistSource(bindings: [AddressBinding(family: .ipv6, address: address.words, macs: [MACAddress(rawValue: 0x0200_0000_0315)])]))
        func advertisement(_ ethernet: [UInt8], option: [UInt8]) -> Verdict {
            var frame = FrameBuilder(source: ethernet)
            frame.ipv6(
                from: FrameBuilder.ipv6Address(21), next: 58,
                payload: [136, 0, 0, 0, 0, 0, 0, 0] + FrameBuilder.ipv6Address(21) + [2, 1] + option, hopLimit: 255)
            // Destination fd00:3::21 would be bound as well: send it to somebody else.
            frame.bytes.replaceSubrange(38..<54, with: FrameBuilder.ipv6Address(10))
            return judge(table, frame.bytes)
        }
        let own: [UInt8] = [2, 0, 0, 0, 3, 0x15], other: [UInt8] = [2, 0, 0, 0, 6, 6]
        #expect(advertisement(own, option: own).isAllowed)
        #expect(advertisement(other, option: other).cause == .addressBinding)
        #expect(advertisement(own, option: other).cause == .addressBinding)
    }

    @Test func anEmptyPolicyAllowsNothing() throws {
        let table = try CompiledTable.build(AllowlistSource(etherTypes: []))
        #expect(judge(table, FrameBuilder.tcpFrame()).cause == .notInPolicy)
    }

    @Test func whatGrowsBeyondItsCapIsRefused() {
        // 4,000 × 4,000 hosts for one port: more conversations than the table may hold.
        let many = (0..<4000).map { host(10, 9, UInt8($0 >> 8), UInt8($0 & 255)) }
        #expect(throws: TableError.self) {
            try CompiledTable.build(AllowlistSource(rules: [AllowRule(clients: many, servers: many, services: [tcp(5000)])]))
        }
    }
}
