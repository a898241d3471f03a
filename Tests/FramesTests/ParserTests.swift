import Testing
import TestSupport

@testable import Frames

/// Parses in guarded memory: a byte read too far ends the process.
private func parsed(_ bytes: [UInt8], wireLength: Int? = nil) -> FrameHeaders {
    let memory = GuardedMemory()
    var headers = FrameHeaders()
    parseFrame(memory.place(bytes), wireLength: wireLength ?? bytes.count, into: &headers)
    return headers
}

private func ipv4(_ build: (inout FrameBuilder) -> Void) -> FrameHeaders {
    var frame = FrameBuilder()
    build(&frame)
    return parsed(frame.bytes)
}

@Suite struct ParserTests {
    @Test func tcpOverIPv4() {
        let headers = parsed(FrameBuilder.tcpFrame(40001, 5000, flags: 0x12))
        #expect(headers.cause == .none)
        #expect(headers.form == .ipv4)
        #expect(headers.source.low == 0x0A03_000A)
        #expect(headers.destination.low == 0x0A03_0115)
        #expect(headers.sourcePort.rawValue == 40001)
        #expect(headers.destinationPort.rawValue == 5000)
        #expect(headers.tcpFlags == [.syn, .ack])
        #expect(headers.vlan == .untagged)
    }

    @Test func oneAndTwoTagsAreReadAndThreeAreDenied() {
        let one = parsed(FrameBuilder.tcpFrame(tags: [(0x8100, 0x600C)]))
        #expect(one.cause == .none)
        #expect(one.vlan.rawValue == 12)
        let two = parsed(FrameBuilder.tcpFrame(tags: [(0x88A8, 100), (0x8100, 12)]))
        #expect(two.cause == .none)
        #expect(two.vlan.rawValue == 100)
        #expect(two.destinationPort.rawValue == 5000)
        #expect(parsed(FrameBuilder.tcpFrame(tags: [(0x88A8, 1), (0x8100, 2), (0x8100, 3)])).cause == .vlanDepth)
    }

    @Test func tcpOverIPv6() {
        var frame = FrameBuilder()
        frame.ipv6(next: 6, payload: FrameBuilder.tcp(1, 2))
        let headers = parsed(frame.bytes)
        #expect(headers.cause == .none)
        #expect(headers.form == .ipv6)
        #expect(headers.source == AddressWords(high: 0xFD00_0003_0000_0000, low: 10))
        #expect(headers.destinationPort.rawValue == 2)
    }

    @Test func extensionHeadersAreWalkedToTheTransportHeader() {
        let hop: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
        let destination: [UInt8] = [17, 0, 1, 4, 0, 0, 0, 0]
        var frame = FrameBuilder()
        frame.ipv6(next: 0, payload: hop + destination + FrameBuilder.udp(7, 8))
        let headers = parsed(frame.bytes)
        #expect(headers.cause == .none)
        #expect(headers.ipProtocol == .udp)
        #expect(headers.destinationPort.rawValue == 8)
    }

    @Test func extensionHeadersBeyondTheBoundAreDenied() {
        let option: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
        let last: [UInt8] = [6, 0, 1, 4, 0, 0, 0, 0]
        for (count, cause) in [(5, Cause.none), (6, .ipv6Extensions)] {
            var frame = FrameBuilder()
            let chain = (0..<count).flatMap { _ in option } + last
            frame.ipv6(next: 60, payload: chain + FrameBuilder.tcp())
            #expect(parsed(frame.bytes).cause == cause, "\(count + 1) headers")
        }
    }

    @Test func misplacedExtensionHeadersAreDenied() {
        let late: [UInt8] = [0, 0, 1, 4, 0, 0, 0, 0] + [6, 0, 1, 4, 0, 0, 0, 0]
        var frame = FrameBuilder()
        frame.ipv6(next: 60, payload: late + FrameBuilder.tcp())  // hop-by-hop behind another header
        #expect(parsed(frame.bytes).cause == .ipv6Extensions)
        frame = FrameBuilder()
        frame.ipv6(next: 43, payload: [6, 0, 0, 1, 0, 0, 0, 0] + FrameBuilder.tcp())  // type 0 routing
        #expect(parsed(frame.bytes).cause == .ipv6Extensions)
    }

    // MARK: Contradictions, one cause each

    @Test func badIPv4HeadersAreDenied() {
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), version: 5) }.cause == .ipHeader)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), ihl: 4) }.cause == .ipHeader)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), length: 19) }.cause == .ipLength)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), length: 41) }.cause == .truncated)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), ihl: 15) }.cause == .ipLength)
    }

    @Test func sourceRoutesAndBrokenOptionsAreDenied() {
        let route: [UInt8] = [131, 7, 4, 10, 0, 0, 1, 0]
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), options: route) }.cause == .ipOptions)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), options: [7, 0, 0, 0]) }.cause == .ipOptions)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), options: [7, 9, 0, 0]) }.cause == .ipOptions)
        let alert: [UInt8] = [148, 4, 0, 0]
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(), options: alert) }.cause == .none)
    }

    @Test(arguments: 0..<256)
    func tcpFlagsPassAsLinuxSaysTheyMay(flags: Int) {
        // net/netfilter/nf_conntrack_proto_tcp.c, tcp_valid_flags, with PSH, ECE and CWR (and URG) masked out.
        let possible: Set<Int> = [0x02, 0x12, 0x04, 0x14, 0x10, 0x11]
        let expected: Cause = possible.contains(flags & 0x17) ? .none : .tcpFlags
        #expect(parsed(FrameBuilder.tcpFrame(flags: UInt8(flags))).cause == expected)
    }

    @Test func badTransportHeadersAreDenied() {
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(offset: 4)) }.cause == .tcpHeader)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(offset: 6)) }.cause == .tcpHeader)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: [1, 2, 3]) }.cause == .tcpHeader)
        #expect(ipv4 { $0.ipv4(proto: 17, payload: FrameBuilder.udp(length: 7)) }.cause == .udpLength)
        #expect(ipv4 { $0.ipv4(proto: 17, payload: FrameBuilder.udp(length: 13)) }.cause == .udpLength)
        #expect(ipv4 { $0.ipv4(proto: 1, payload: [8, 0, 0, 0]) }.cause == .icmpHeader)
        #expect(ipv4 { $0.ipv4(proto: 132, payload: [1, 2, 3, 4]) }.cause == .transportHeader)
    }

    @Test func fragments() {
        let first = ipv4 { $0.ipv4(proto: 17, payload: FrameBuilder.udp(payload: [UInt8](repeating: 0, count: 16), length: 900), fragment: 0x2000) }
        #expect(first.cause == .none)
        #expect(first.marks == .firstFragment)
        let later = ipv4 { $0.ipv4(proto: 17, payload: [UInt8](repeating: 0, count: 24), fragment: 0x2003) }
        #expect(later.cause == .none)
        #expect(later.marks == .laterFragment)
        #expect(later.destinationPort.rawValue == 0)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: [0, 80, 0, 80, 0, 0, 0, 0], fragment: 0x2000) }.cause == .fragmentTiny)
        #expect(ipv4 { $0.ipv4(proto: 6, payload: [UInt8](repeating: 0, count: 16), fragment: 0x0001) }.cause == .fragmentOverlap)
        #expect(ipv4 { $0.ipv4(proto: 17, payload: [UInt8](repeating: 0, count: 25), fragment: 0x2003) }.cause == .fragmentLength)
        #expect(ipv4 { $0.ipv4(proto: 17, payload: [UInt8](repeating: 0, count: 64), fragment: 0x1FFF) }.cause == .fragmentLength)
        // The whole packet's length counts its header too: 20 + 65512 + 3 is the most there can be.
        #expect(ipv4 { $0.ipv4(proto: 1, payload: [1, 2, 3], fragment: 0x1FFD) }.cause == .none)
        #expect(ipv4 { $0.ipv4(proto: 1, payload: [1, 2, 3, 4], fragment: 0x1FFD) }.cause == .fragmentLength)
    }

    @Test func ipv6Fragments() {
        func fragment(_ field: UInt16, _ payload: [UInt8], next: UInt8 = 6) -> FrameHeaders {
            var frame = FrameBuilder()
            frame.ipv6(next: 44, payload: [next, 0] + FrameBuilder.be(field) + [0, 0, 0, 9] + payload)
            return parsed(frame.bytes)
        }
        #expect(fragment(0, FrameBuilder.tcp()).cause == .none)  // atomic: a whole packet
        #expect(fragment(0, FrameBuilder.tcp()).marks.isEmpty)
        #expect(fragment(1, FrameBuilder.tcp(payload: [0, 0, 0, 0])).marks == .firstFragment)
        #expect(fragment(1, [0, 80, 0, 80, 0, 0, 0, 0]).cause == .fragmentTiny)
        #expect(fragment(8, [UInt8](repeating: 0, count: 16)).cause == .fragmentOverlap)
        #expect(fragment(800, [UInt8](repeating: 0, count: 16)).marks == .laterFragment)
        // RFC 7112: the first fragment holds the whole chain.
        #expect(fragment(1, [6, 4, 0, 0, 0, 0, 0, 0], next: 60).cause == .fragmentTiny)
    }

    // MARK: ICMP

    @Test func icmpRequestsAreClientsAndRepliesAreServers() {
        let request = ipv4 { $0.ipv4(proto: 1, payload: FrameBuilder.icmp(8)) }
        #expect(request.destinationPort == .icmp(type: 8, code: 0))
        #expect(request.marks == .neverReverse)
        let reply = ipv4 { $0.ipv4(proto: 1, payload: FrameBuilder.icmp(0)) }
        #expect(reply.sourcePort == .icmp(type: 8, code: 0))
        #expect(reply.marks == .neverForward)
    }

    @Test func icmpErrorsCarryTheConversationTheyAreAbout() {
        var inner = FrameBuilder()
        inner.bytes = []
        inner.ipv4(from: [10, 3, 0, 10], to: [10, 3, 1, 21], proto: 6, payload: FrameBuilder.tcp(40000, 5000))
        let packet = Array(inner.bytes.dropFirst(2).prefix(28))
        let error = ipv4 { $0.ipv4(from: [10, 3, 1, 1], to: [10, 3, 0, 10], proto: 1, payload: FrameBuilder.icmp(3, 1, payload: packet)) }
        #expect(error.cause == .none)
        #expect(error.marks == .icmpError)
        #expect(error.ipProtocol == .tcp)
        #expect(error.source.low == 0x0A03_000A)
        #expect(error.destinationPort.rawValue == 5000)
        let stray = ipv4 { $0.ipv4(from: [10, 3, 1, 1], to: [10, 3, 0, 11], proto: 1, payload: FrameBuilder.icmp(3, 1, payload: packet)) }
        #expect(stray.cause == .icmpErrorUnrelated)
        #expect(ipv4 { $0.ipv4(proto: 1, payload: FrameBuilder.icmp(11, payload: Array(packet.prefix(20)))) }.cause == .icmpHeader)
        // Port unreachable comes from the host itself, not from a router or a laptop.
        func portUnreachable(from: [UInt8], _ more: Int = 0) -> Cause {
            ipv4 {
                $0.ipv4(
                    from: from, to: [10, 3, 0, 10], proto: 1,
                    payload: FrameBuilder.icmp(3, 3, payload: packet + [UInt8](repeating: 0x41, count: more)))
            }.cause
        }
        #expect(portUnreachable(from: [10, 3, 1, 21]) == .none)
        #expect(portUnreachable(from: [10, 3, 0, 66]) == .icmpErrorUnrelated)
        // An error has no room for a message: 576 bytes and no more.
        #expect(portUnreachable(from: [10, 3, 1, 21], 520) == .none)
        #expect(portUnreachable(from: [10, 3, 1, 21], 521) == .icmpHeader)
    }

    // MARK: Not IP

    @Test func etherTypesAndLLC() {
        var lldp = FrameBuilder()
        lldp.add16(0x88CC)
        lldp.add([UInt8](repeating: 0, count: 46))
        #expect(parsed(lldp.bytes).form == .other)
        #expect(parsed(lldp.bytes).etherType.rawValue == 0x88CC)
        func llc(_ length: UInt16, _ payload: [UInt8]) -> FrameHeaders {
            var frame = FrameBuilder()
            frame.add16(length)
            frame.add(payload)
            return parsed(frame.bytes)
        }
        let stp = llc(38, [0x42, 0x42, 3] + [UInt8](repeating: 0, count: 43))
        #expect(stp.cause == .none)
        #expect(stp.etherType == .llc(dsap: 0x42))
        #expect(llc(47, [UInt8](repeating: 0, count: 46)).cause == .truncated)
        #expect(llc(2, [UInt8](repeating: 0, count: 46)).cause == .llcHeader)
        #expect(llc(1501, [UInt8](repeating: 0, count: 46)).cause == .ethernetHeader)
        let snap = [0xAA, 0xAA, 3, 0, 0, 0, 8, 0] + [UInt8](repeating: 0, count: 38)
        #expect(llc(46, snap).cause == .llcEncapsulated)
        #expect(llc(46, [0x06, 0x06, 3] + [UInt8](repeating: 0, count: 43)).cause == .llcEncapsulated)
    }

    @Test func arp() {
        func arp(_ body: [UInt8]) -> FrameHeaders {
            var frame = FrameBuilder()
            frame.add16(0x0806)
            frame.add(body)
            return parsed(frame.bytes)
        }
        let head: [UInt8] = [0, 1, 8, 0, 6, 4, 0, 1]
        let body: [UInt8] = [2, 0, 0, 0, 3, 0x0A, 10, 3, 0, 10, 0, 0, 0, 0, 0, 0, 10, 3, 1, 21]
        let request = arp(head + body)
        #expect(request.cause == .none)
        #expect(request.form == .arp)
        #expect(request.source.low == 0x0A03_000A)
        #expect(request.claimedMAC.rawValue == 0x0200_0000_030A)
        // A probe claims the address that it asks for.
        #expect(arp(head + body.prefix(6) + [0, 0, 0, 0] + body.dropFirst(10)).source.low == 0x0A03_0115)
        #expect(arp([0, 6] + head.dropFirst(2) + body).cause == .arpHeader)
        #expect(arp(Array(head.dropLast()) + [9] + body).cause == .arpHeader)
        #expect(arp(head).cause == .truncated)
    }

    @Test func neighbourDiscovery() {
        func neighbour(
            _ type: UInt8, from: [UInt8] = FrameBuilder.ipv6Address(10), hopLimit: UInt8 = 255, options: [UInt8] = []
        ) -> FrameHeaders {
            var frame = FrameBuilder()
            let message = [type, 0, 0, 0, 0, 0, 0, 0] + FrameBuilder.ipv6Address(99) + options
            frame.ipv6(from: from, next: 58, payload: message, hopLimit: hopLimit)
            return parsed(frame.bytes)
        }
        #expect(neighbour(135).form == .neighbour)
        #expect(neighbour(135).cause == .none)
        #expect(neighbour(136).source.low == 99)
        #expect(neighbour(136, options: [2, 1, 2, 9, 9, 9, 9, 9]).claimedMAC.rawValue == 0x0209_0909_0909)
        // Two answers to one question: stacks differ in which they believe.
        let mine: [UInt8] = [2, 1, 2, 9, 9, 9, 9, 9], yours: [UInt8] = [2, 1, 2, 0, 0, 0, 3, 0x0A]
        #expect(neighbour(136, options: mine + yours).cause == .neighbourHeader)
        // A source option in an advertisement is nobody's claim.
        #expect(neighbour(136, options: mine + [1] + yours.dropFirst()).claimedMAC.rawValue == 0x0209_0909_0909)
        // Duplicate address detection claims the address that it asks for, and has no option of its own.
        let nobody = [UInt8](repeating: 0, count: 16)
        #expect(neighbour(135, from: nobody).source.low == 99)
        #expect(neighbour(135, from: nobody).claimedMAC == neighbour(135).claimedMAC)
        #expect(neighbour(135, from: nobody, options: [1] + mine.dropFirst()).cause == .neighbourHeader)
        #expect(neighbour(135, hopLimit: 64).cause == .neighbourHeader)
        #expect(neighbour(135, options: [1, 0, 0, 0, 0, 0, 0, 0]).cause == .neighbourHeader)
        // RFC 6980: never in fragments, where nobody looks at what it claims.
        var fragment = FrameBuilder()
        fragment.ipv6(next: 44, payload: [58, 0, 0, 1, 0, 0, 0, 9, 136, 0, 0, 0, 0, 0, 0, 0] + FrameBuilder.ipv6Address(99), hopLimit: 255)
        #expect(parsed(fragment.bytes).cause == .neighbourHeader)
    }

    // MARK: Hostile lengths

    @Test func everyPrefixOfEveryFrameIsReadInsideItsBounds() {
        for frame in Self.examples {
            for length in 0...frame.count {
                let headers = parsed(Array(frame.prefix(length)))
                if length < 14 { #expect(headers.cause == .truncated) }
                // As a capture with a snap length: the wire had it all, the file has not.
                _ = parsed(Array(frame.prefix(length)), wireLength: frame.count)
            }
        }
    }

    @Test func mutatedFramesNeverReadTooFar() {
        var random = SplitMix(1)
        let memory = GuardedMemory()
        var headers = FrameHeaders()
        var denied = 0
        for round in 0..<60_000 {
            var frame = Self.examples[round % Self.examples.count]
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                frame[Int.random(in: 12..<frame.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            frame.removeLast(Int.random(in: 0...min(8, frame.count - 1), using: &random))
            parseFrame(memory.place(frame), wireLength: frame.count, into: &headers)
            denied += headers.cause == .none ? 0 : 1
        }
        #expect(denied > 10_000)
    }

    static let examples: [[UInt8]] = {
        var all = [
            FrameBuilder.tcpFrame(), FrameBuilder.udpFrame(), FrameBuilder.tcpFrame(tags: [(0x8100, 12)]),
            FrameBuilder.tcpFrame(tags: [(0x88A8, 3), (0x8100, 12)]),
        ]
        func add(_ build: (inout FrameBuilder) -> Void) {
            var frame = FrameBuilder()
            build(&frame)
            all.append(frame.bytes)
        }
        add { $0.ipv4(proto: 6, payload: FrameBuilder.tcp(offset: 8, payload: [UInt8](repeating: 1, count: 40)), options: [148, 4, 0, 0]) }
        add { $0.ipv6(next: 0, payload: [43, 1, 1, 4, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 8) + [17, 0, 4, 0, 0, 0, 0, 0] + FrameBuilder.udp()) }
        add { $0.ipv6(next: 44, payload: [6, 0, 0, 1, 0, 0, 0, 9] + FrameBuilder.tcp(payload: [0, 0, 0, 0])) }
        add { $0.ipv6(next: 58, payload: [136, 0, 0, 0, 0, 0, 0, 0] + FrameBuilder.ipv6Address(9) + [2, 1, 2, 0, 0, 0, 3, 0x0A], hopLimit: 255) }
        var inner = FrameBuilder()
        inner.bytes = []
        inner.ipv4(proto: 6, payload: FrameBuilder.tcp())
        add { $0.ipv4(to: [10, 3, 0, 10], proto: 1, payload: FrameBuilder.icmp(3, 1, payload: Array(inner.bytes.dropFirst(2)))) }
        add { $0.add([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 3, 0x0A, 10, 3, 0, 10, 0, 0, 0, 0, 0, 0, 10, 3, 1, 21]) }
        add { $0.add([0, 38, 0xAA, 0xAA, 3, 0, 0, 12, 0x20, 0] + [UInt8](repeating: 0, count: 38)) }
        return all
    }()
}
