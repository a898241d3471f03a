import Frames
import Glibc
import Testing
import TestSupport

@testable import Allowlist

/// Parser, rules and flow table, one frame at a time, with a clock of its own.
final class FlowBed {
    var table: CompiledTable
    let flows: FlowTable
    let judge = JudgeMemory()
    let memory = FlowMemory()
    var seconds = 1000.0
    /// When nobody watched until; nil: long ago.
    var graceBegan: Double?

    init(_ rules: [AllowRule], capacity: Int = 1000, isShared: Bool = false, fullPasses: Bool = false) throws {
        table = try CompiledTable.build(AllowlistSource(rules: rules, fullPasses: fullPasses))
        flows = FlowTable(capacity: capacity, isShared: isShared)
    }

    var counts: FlowCounts { memory.scratch.counts.pointee }
    private func tick(_ seconds: Double) -> FlowTick { FlowTick(nanoseconds: UInt64(seconds * 1e9)) }

    func send(_ frame: [UInt8], from side: Side = .outside) -> Verdict {
        var headers = FrameHeaders()
        var verdict = Verdict(rule: Verdict.noRule, cause: .none, isReply: false)
        let clock = FlowClock(
            now: tick(seconds), graceBegan: tick(graceBegan ?? 1), grace: graceBegan == nil ? 0 : FlowTick.ticks(seconds: 30))
        frame.withUnsafeBytes { bytes in
            var base = bytes.baseAddress!
            var length = UInt32(bytes.count)
            parseFrame(bytes, wireLength: bytes.count, into: &headers)
            judgeBurst(
                table.view, frames: &base, headers: &headers, count: 1, from: side, scratch: judge.scratch, verdicts: &verdict)
            trackBurst(
                table.view, flows.view, from: side, frames: &base, available: &length, headers: &headers, count: 1, clock, memory.scratch,
                verdicts: &verdict)
        }
        return verdict
    }

    func cause(_ frame: [UInt8], from side: Side = .outside) -> String { send(frame, from: side).cause.testName }

    /// Entries there are, by their tags.
    var occupied: Int {
        let view = flows.view.pointee
        let tags = UnsafeRawPointer(view.tags).assumingMemoryBound(to: UInt8.self)
        return (0..<Int(view.blockCount) * FlowView.slotsPerBlock).count { tags[$0] != 0 }
    }

    func sweepAll() {
        for position in 0..<flows.view.pointee.bucketCount { flows.view.sweep(position, tick(seconds), memory.scratch.counts) }
    }
}

extension Cause {
    fileprivate var testName: String {
        self == .none ? "" : (Cause.ofParser + Cause.ofVerdict).first { $0.cause == self }?.name ?? "cause \(rawValue)"
    }
}

/// A TCP conversation as two honest stacks would have it, segment by segment.
struct Wire {
    static let client: [UInt8] = [10, 3, 0, 10], server: [UInt8] = [10, 3, 1, 21]
    var clientPort: UInt16 = 40000
    var serverPort: UInt16 = 5000
    var isIPv6 = false
    var isSwapped = false
    var clientSide: Side = .outside
    /// Next sequence numbers.
    var c: UInt32 = 0xFFFF_FFF0
    var s: UInt32 = 7000
    var window: UInt16 = 1000
    var scale: UInt8? = 3

    func segment(
        fromClient: Bool, _ flags: TCPFlags, seq: UInt32, ack: UInt32 = 0, payload: Int = 0, window: UInt16? = nil, options: [UInt8] = []
    ) -> [UInt8] {
        func be(_ value: UInt32) -> [UInt8] { FrameBuilder.be(UInt16(value >> 16)) + FrameBuilder.be(UInt16(value & 0xFFFF)) }
        var tcp = FrameBuilder.be(fromClient ? clientPort : serverPort) + FrameBuilder.be(fromClient ? serverPort : clientPort)
        tcp += be(seq) + be(ack) + [UInt8(5 + options.count / 4) << 4, flags.rawValue] + FrameBuilder.be(window ?? self.window)
        tcp += [0, 0, 0, 0] + options + [UInt8](repeating: 0x55, count: payload)
        var frame = FrameBuilder()
        // Which address is the lesser one must make no difference.
        let (a, b) = isSwapped ? (Wire.server, Wire.client) : (Wire.client, Wire.server)
        if isIPv6 {
            let a = FrameBuilder.ipv6Address(a[3]), b = FrameBuilder.ipv6Address(b[3])
            frame.ipv6(from: fromClient ? a : b, to: fromClient ? b : a, next: 6, payload: tcp)
        } else {
            frame.ipv4(from: fromClient ? a : b, to: fromClient ? b : a, proto: 6, payload: tcp)
        }
        return frame.bytes
    }

    var offer: [UInt8] { scale.map { [3, 3, $0, 1] } ?? [] }
    var syn: [UInt8] { segment(fromClient: true, .syn, seq: c, options: offer) }
    var synAck: [UInt8] { segment(fromClient: false, [.syn, .ack], seq: s, ack: c &+ 1, options: offer) }

    /// The three segments of the handshake, all of which must pass.
    mutating func open(_ bed: FlowBed, _ location: SourceLocation = #_sourceLocation) {
        #expect(bed.cause(syn, from: clientSide) == "", sourceLocation: location)
        #expect(bed.cause(synAck, from: clientSide.other) == "", sourceLocation: location)
        c &+= 1
        s &+= 1
        #expect(bed.cause(data(fromClient: true, 0), from: clientSide) == "", sourceLocation: location)
    }

    func data(fromClient: Bool, _ payload: Int, flags: TCPFlags = .ack, window: UInt16? = nil) -> [UInt8] {
        segment(fromClient: fromClient, flags, seq: fromClient ? c : s, ack: fromClient ? s : c, payload: payload, window: window)
    }

    /// Sends payload, which must pass.
    mutating func say(_ bed: FlowBed, fromClient: Bool, _ payload: Int, flags: TCPFlags = .ack, _ location: SourceLocation = #_sourceLocation) {
        #expect(bed.cause(data(fromClient: fromClient, payload, flags: flags), from: fromClient ? clientSide : clientSide.other) == "", sourceLocation: location)
        let length = UInt32(payload) &+ (flags.contains(.fin) ? 1 : 0)
        if fromClient { c &+= length } else { s &+= length }
    }
}

private func host(_ last: UInt8, _ third: UInt8) -> AddressPrefix {
    AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: 0x0A03_0000 | UInt64(third) << 8 | UInt64(last)), length: 32)
}

/// 10.3.0.10 and fd00:3::10 may talk to 10.3.1.21 and fd00:3::21.
func flowRule(_ services: [ServiceRange], _ options: FlowOptions = FlowOptions()) -> AllowRule {
    func six(_ last: UInt64) -> AddressPrefix {
        AddressPrefix(family: .ipv6, words: AddressWords(high: 0xFD00_0003_0000_0000, low: last), length: 128)
    }
    return AllowRule(clients: [host(10, 0), six(10)], servers: [host(21, 1), six(21)], services: services, flows: options)
}

func tcp(_ port: UInt16) -> ServiceRange { ServiceRange(.tcp, Port(rawValue: port), Port(rawValue: port)) }
func udp(_ port: UInt16) -> ServiceRange { ServiceRange(.udp, Port(rawValue: port), Port(rawValue: port)) }

private let strict = FlowOptions(isStrict: true)

@Suite struct FlowTableTests {
    @Test func anEntryHas96BytesAndAMillionFlowsNeedLessThan128Each() {
        #expect(MemoryLayout<FlowEntry>.size == 64 && MemoryLayout<TCPHalf>.stride == 16)
        #expect(MemoryLayout<FlowEntry>.stride + 2 * MemoryLayout<TCPHalf>.stride == FlowEntry.bytes)
        let table = FlowTable(capacity: 1_000_000, isShared: false)
        #expect(table.bytes <= 128_000_000)
    }

    /// Against a dictionary: what was put in and is not over is found, nothing else is, and the counts are right.
    @Test(arguments: [false, true]) func keysAreFoundUntilTheyAreOver(isShared: Bool) throws {
        let bed = try FlowBed([flowRule([udp(53)])], capacity: 4000, isShared: isShared)
        var random = SplitMix(11)
        var asked: [UInt16: Double] = [:]
        for _ in 0..<60_000 {
            bed.seconds += 0.02
            let port = UInt16.random(in: 1024..<5000, using: &random)
            if Bool.random(using: &random) {
                #expect(bed.cause(FrameBuilder.udpFrame(port, 53)) == "")
                asked[port] = bed.seconds
            } else {
                let age = asked[port].map { bed.seconds - $0 } ?? .infinity
                // Within a tick of the end either is right.
                if abs(age - 30) < 0.15 { continue }
                let cause = bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, port), from: .inside)
                #expect(cause == (age < 30 ? "" : "reply-unasked"), "asked \(age) s ago")
            }
        }
        #expect(bed.counts.refused == 0)
        #expect(bed.counts.made - bed.counts.ended == UInt64(bed.occupied))
        bed.sweepAll()
        #expect(abs(bed.occupied - asked.values.count { bed.seconds - $0 <= 30 }) < 20)
        bed.seconds += 100
        bed.sweepAll()
        #expect(bed.occupied == 0)
        #expect(bed.counts.made == bed.counts.ended)
    }

    @Test func aTableTakesWhatItWasMadeFor() throws {
        let bed = try FlowBed([flowRule([ServiceRange(.udp, Port(rawValue: 1), Port(rawValue: 60))])], capacity: 100_000)
        // Answered, so that none may be pushed out.
        for i in 0..<100_000 {
            let client = UInt16(1024 + i % 50_000), port = UInt16(1 + i / 50_000)
            #expect(bed.cause(FrameBuilder.udpFrame(client, port)) == "")
            #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], port, client), from: .inside) == "")
        }
        #expect(bed.counts.refused == 0)
        #expect(bed.counts.pushedOut == 0)
        #expect(bed.occupied == 100_000)
    }

    @Test(arguments: [false, true]) func aFloodOfSYNsPushesNoEstablishedConnectionOut(isIPv6: Bool) throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)], capacity: 400)
        var talks = (0..<300).map { i in
            var wire = Wire()
            wire.isIPv6 = isIPv6
            wire.clientPort = UInt16(2000 + i)
            return wire
        }
        for i in talks.indices { talks[i].open(bed) }
        for port in UInt16(10_000)..<60_000 {
            var wire = Wire()
            wire.isIPv6 = isIPv6
            wire.clientPort = port
            #expect(bed.cause(wire.syn) == "")
        }
        #expect(bed.counts.refused == 0)
        #expect(bed.counts.pushedOut > 40_000)
        for i in talks.indices {
            talks[i].say(bed, fromClient: true, 10)
            talks[i].say(bed, fromClient: false, 10)
        }
        // And somebody new still gets in.
        var late = Wire()
        late.isIPv6 = isIPv6
        late.clientPort = 1999
        late.open(bed)
    }

    @Test func aFullTableDoesWhatThePolicySays() throws {
        for fullPasses in [false, true] {
            let bed = try FlowBed([flowRule([tcp(5000), udp(53)])], capacity: 1, fullPasses: fullPasses)
            // More connections than there is room for; then one whose buckets are full, found by trying.
            for port in UInt16(2000)..<10_000 {
                var wire = Wire()
                wire.clientPort = port
                guard bed.cause(wire.syn) == "", bed.cause(wire.synAck, from: .inside) == "" else { continue }
                wire.c &+= 1
                wire.s &+= 1
                _ = bed.cause(wire.data(fromClient: true, 0))
            }
            var refused: Wire?
            for port in UInt16(10_000)..<14_000 where refused == nil {
                var wire = Wire()
                wire.clientPort = port
                let before = bed.counts.refused
                let cause = bed.cause(wire.syn)
                let isRefused = bed.counts.refused > before
                #expect(cause == (isRefused && !fullPasses ? "flow-table-full" : ""))
                if isRefused { refused = wire }
            }
            #expect(bed.cause(try #require(refused).synAck, from: .inside) == (fullPasses ? "" : "syn-ack-unasked"))
            #expect(bed.occupied <= FlowView.slotsPerBlock)
        }
    }

    /// A worker whose processor is taken from it keeps its lock meanwhile.
    @Test func aReplyWaitsForAnInterruptedWorker() throws {
        let bed = try FlowBed([flowRule([udp(53)])], isShared: true)
        let query = FrameBuilder.udpFrame(2000, 53), answer = FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 2000)
        nonisolated(unsafe) let view = bed.flows.view
        #expect(bed.cause(query) == "")
        // All blocks are kept, for much longer than spinning takes. The machine may be slow, too: one try in many has to do.
        let passed = (0..<50).contains { _ in
            for block in 0..<Int(view.pointee.blockCount) { #expect(view.lock(block)) }
            let other = PThread {
                usleep(3000)
                for block in 0..<Int(view.pointee.blockCount) { view.unlock(block) }
            }
            defer { other.join() }
            bed.memory.scratch.gaveUpAt.pointee = 0
            return bed.cause(answer, from: .inside) == ""
        }
        #expect(passed)
        // One that does not come back is given up, and the frame denied: nobody knows whether it was asked for.
        let contended = bed.counts.contended
        for block in 0..<Int(view.pointee.blockCount) { #expect(view.lock(block)) }
        for _ in 0..<100 { #expect(bed.cause(answer, from: .inside) == "flow-table-full") }
        #expect(bed.counts.contended == contended + 100)
        #expect(bed.cause(query) == "")
        for block in 0..<Int(view.pointee.blockCount) { view.unlock(block) }
        #expect(bed.cause(answer, from: .inside) == "")
    }

    /// Both directions of many flows in two threads at once, over one table. ThreadSanitizer looks on in CI.
    @Test func workersShareATable() throws {
        let flows = FlowTable(capacity: 2000, isShared: true)
        let table = try CompiledTable.build(AllowlistSource(rules: [flowRule([udp(53), tcp(5000)])]))
        nonisolated(unsafe) var wrong = [0, 0]
        nonisolated(unsafe) var made: [UInt64] = [0, 0]
        nonisolated(unsafe) let view = flows.view
        let threads = (0..<2).map { worker in
            PThread {
                let judge = JudgeMemory(), memory = FlowMemory()
                var random = SplitMix(UInt64(worker) + 1)
                var count = 0
                for round in 0..<40_000 {
                    let port = UInt16.random(in: 2000..<2200, using: &random)
                    let isUDP = Bool.random(using: &random), isReply = worker == 1
                    let frame =
                        isUDP
                        ? (isReply ? FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, port) : FrameBuilder.udpFrame(port, 53))
                        : (isReply
                            ? FrameBuilder.tcpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 5000, port) : FrameBuilder.tcpFrame(port, 5000))
                    var headers = FrameHeaders(), verdict = Verdict(rule: Verdict.noRule, cause: .none, isReply: false)
                    let clock = FlowClock(now: FlowTick(rawValue: 100 + UInt32(round / 1000)), graceBegan: FlowTick(rawValue: 1), grace: 0)
                    frame.withUnsafeBytes { bytes in
                        var base = bytes.baseAddress!, length = UInt32(bytes.count)
                        parseFrame(bytes, wireLength: bytes.count, into: &headers)
                        judgeBurst(
                            table.view, frames: &base, headers: &headers, count: 1, from: .outside, scratch: judge.scratch,
                            verdicts: &verdict)
                        trackBurst(
                            table.view, view, from: isReply ? .inside : .outside, frames: &base, available: &length, headers: &headers, count: 1, clock, memory.scratch,
                            verdicts: &verdict)
                    }
                    // A reply may come before its request; nothing else may be denied.
                    if !verdict.isAllowed, !(isReply && isUDP && verdict.cause == .replyUnasked), verdict.cause != .flowTableFull { count += 1 }
                    if round % 16 == 0 { view.sweep(UInt64(round / 16), clock.now, memory.scratch.counts) }
                }
                wrong[worker] = count
                made[worker] = memory.scratch.counts.pointee.made &- memory.scratch.counts.pointee.ended
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong == [0, 0])
        let tags = UnsafeRawPointer(view.pointee.tags).assumingMemoryBound(to: UInt8.self)
        let occupied = (0..<Int(view.pointee.blockCount) * FlowView.slotsPerBlock).count { tags[$0] != 0 }
        #expect(Int64(bitPattern: made[0] &+ made[1]) == Int64(occupied))
        #expect(occupied <= 400)
    }
}

@Suite struct FlowTests {
    @Test func repliesNeedARecentRequest() throws {
        let bed = try FlowBed([flowRule([udp(53)])])
        let ask = FrameBuilder.udpFrame(40000, 53), answer = FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40000)
        let other = FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40001)
        #expect(bed.cause(answer, from: .inside) == "reply-unasked")
        #expect(bed.cause(ask) == "")
        #expect(bed.cause(answer, from: .inside) == "")
        #expect(bed.cause(other, from: .inside) == "reply-unasked")
        // Answers do not keep the door open.
        for _ in 0..<10 {
            bed.seconds += 2.9
            #expect(bed.cause(answer, from: .inside) == "")
        }
        bed.seconds += 2
        #expect(bed.cause(answer, from: .inside) == "reply-unasked")
        #expect(bed.cause(ask) == "")
        #expect(bed.cause(answer, from: .inside) == "")
    }

    @Test func aRuleMayGiveItsServersMoreTime() throws {
        let bed = try FlowBed([flowRule([udp(53)], FlowOptions(replySeconds: 3600))])
        #expect(bed.cause(FrameBuilder.udpFrame(40000, 53)) == "")
        bed.seconds += 3590
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40000), from: .inside) == "")
        bed.seconds += 20
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40000), from: .inside) == "reply-unasked")
    }

    /// Where two rules allow both directions, each side may begin, whatever the other does.
    @Test func eachSideOfTwoRulesMayBegin() throws {
        let there = AllowRule(clients: [host(10, 0)], servers: [host(21, 1)], services: [udp(123)])
        let back = AllowRule(clients: [host(21, 1)], servers: [host(10, 0)], services: [udp(123)])
        let bed = try FlowBed([there, back])
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 123, 123), from: .inside) == "")
        bed.seconds += 100
        #expect(bed.cause(FrameBuilder.udpFrame(123, 123)) == "")
        // A reply to a request from a high port, where the other rule would let the server begin at 123 only.
        #expect(bed.cause(FrameBuilder.udpFrame(40000, 123)) == "")
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 123, 40000), from: .inside) == "")
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 123, 40001), from: .inside) == "reply-unasked")
    }

    @Test func echoRepliesAnswerTheirOwnRequest() throws {
        let bed = try FlowBed([flowRule([ServiceRange(.icmp, .icmp(type: 8, code: 0), .icmp(type: 8, code: 0))])])
        func echo(_ type: UInt8, identifier: UInt8, fromClient: Bool) -> [UInt8] {
            var frame = FrameBuilder()
            frame.ipv4(
                from: fromClient ? Wire.client : Wire.server, to: fromClient ? Wire.server : Wire.client, proto: 1,
                payload: [type, 0, 0, 0, 0, identifier, 0, 1, 9, 9])
            return frame.bytes
        }
        #expect(bed.cause(echo(0, identifier: 1, fromClient: false), from: .inside) == "reply-unasked")
        #expect(bed.cause(echo(8, identifier: 1, fromClient: true)) == "")
        #expect(bed.cause(echo(0, identifier: 1, fromClient: false), from: .inside) == "")
        #expect(bed.cause(echo(0, identifier: 2, fromClient: false), from: .inside) == "reply-unasked")
        bed.seconds += 31
        #expect(bed.cause(echo(0, identifier: 1, fromClient: false), from: .inside) == "reply-unasked")
    }

    @Test func errorsAreAboutPacketsThatWereSent() throws {
        for isStrict in [false, true] {
            let bed = try FlowBed([flowRule([udp(53), tcp(5000)], FlowOptions(isStrict: isStrict))])
            func error(_ packet: [UInt8]) -> [UInt8] {
                var frame = FrameBuilder()
                frame.ipv4(from: Wire.server, to: Wire.client, proto: 1, payload: [3, 3, 0, 0, 0, 0, 0, 0] + packet)
                return frame.bytes
            }
            let question = FrameBuilder.udpFrame(40000, 53)
            #expect(bed.cause(error(Array(question[14...])), from: .inside) == "icmp-error-untracked")
            #expect(bed.cause(question) == "")
            #expect(bed.cause(error(Array(question[14...])), from: .inside) == "")
            bed.seconds += 31
            #expect(bed.cause(error(Array(question[14...])), from: .inside) == "icmp-error-untracked")
            var wire = Wire()
            #expect(bed.cause(error(Array(wire.syn[14...].prefix(28))), from: .inside) == "icmp-error-untracked")
            wire.open(bed)
            wire.say(bed, fromClient: true, 100)
            var sent = wire
            sent.c &-= 100
            #expect(bed.cause(error(Array(sent.data(fromClient: true, 0)[14...].prefix(28))), from: .inside) == "")
            sent.c &+= 0x1000_0000
            #expect(
                bed.cause(error(Array(sent.data(fromClient: true, 0)[14...].prefix(28))), from: .inside)
                    == (isStrict ? "icmp-error-untracked" : ""))
        }
    }

    @Test func laterFragmentsFollowAnAllowedFirstOne() throws {
        for isIPv6 in [false, true] {
            let bed = try FlowBed([flowRule([udp(53)])])
            func fragment(_ id: UInt8, at offset: Int, _ length: Int, more: Bool, port: UInt16 = 53) -> [UInt8] {
                var payload = offset == 0 ? FrameBuilder.udp(40000, port, payload: [], length: 3000) : []
                payload += [UInt8](repeating: 1, count: length - payload.count)
                var frame = FrameBuilder()
                if isIPv6 {
                    frame.ipv6(next: 44, payload: [17, 0] + FrameBuilder.be(UInt16(offset) | (more ? 1 : 0)) + [0, 0, 0, id] + payload)
                } else {
                    frame.ipv4(proto: 17, payload: payload, fragment: UInt16(offset / 8) | (more ? 0x2000 : 0))
                    frame.bytes[19] = id
                }
                return frame.bytes
            }
            #expect(bed.cause(fragment(1, at: 1000, 1000, more: true)) == "fragment-untracked")
            #expect(bed.cause(fragment(1, at: 0, 1000, more: true)) == "")
            let second = bed.send(fragment(1, at: 1000, 1000, more: true))
            #expect(second.isAllowed && second.rule == 0 && !second.isReply)
            #expect(bed.cause(fragment(2, at: 1000, 1000, more: true)) == "fragment-untracked")
            // What is there already cannot be written again.
            #expect(bed.cause(fragment(1, at: 1992, 1000, more: true)) == "fragment-overlap")
            #expect(bed.cause(fragment(1, at: 1000, 1000, more: true)) == "fragment-overlap")
            #expect(bed.cause(fragment(1, at: 2000, 500, more: false)) == "")
            #expect(bed.cause(fragment(1, at: 3000, 500, more: false)) == "fragment-overlap")
            // A first one that is denied lets nothing follow.
            #expect(bed.cause(fragment(3, at: 0, 1000, more: true, port: 54)) == "not-in-policy")
            #expect(bed.cause(fragment(3, at: 1000, 1000, more: true)) == "fragment-untracked")
            // Too late; and of another policy.
            #expect(bed.cause(fragment(4, at: 0, 1000, more: true)) == "")
            bed.seconds += 61
            #expect(bed.cause(fragment(4, at: 1000, 1000, more: true)) == "fragment-untracked")
            #expect(bed.cause(fragment(5, at: 0, 1000, more: true)) == "")
            bed.table = try CompiledTable.build(bed.table.source, version: 2)
            #expect(bed.cause(fragment(5, at: 1000, 1000, more: true)) == "fragment-untracked")
        }
    }

    @Test func aRuleThatWasGoneHasItsFlowsCut() throws {
        let kept = flowRule([tcp(5000)], FlowOptions(picksUp: false)), passing = flowRule([tcp(502)])
        var history = RuleHistory()
        let bed = try FlowBed([])
        func apply(_ rules: [AllowRule], _ version: UInt64) throws {
            let names = rules.map { $0.services[0].low.rawValue.description }
            let marks = history.marks(of: rules, names: names, version: version)
            bed.table = try CompiledTable.build(AllowlistSource(rules: rules), version: version, marks: marks)
            history.note(rules, names: names, marks)
        }
        try apply([kept], 1)
        var wire = Wire()
        wire.open(bed)
        // A policy that still has the rule, in another place, changes nothing.
        try apply([passing, kept], 2)
        wire.say(bed, fromClient: true, 10)
        try apply([passing], 3)
        #expect(bed.cause(wire.data(fromClient: true, 10)) == "not-in-policy")
        try apply([passing, kept], 4)
        #expect(bed.cause(wire.data(fromClient: true, 10)) == "tcp-untracked")
        #expect(bed.cause(wire.data(fromClient: false, 10), from: .inside) == "tcp-untracked")
        #expect(bed.counts.cut > 0)
        var next = Wire()
        next.open(bed)
        // Allowed by another rule all the time: goes on.
        let wider = AllowRule(
            clients: [host(10, 0)], servers: [host(21, 1)],
            services: [ServiceRange(.tcp, Port(rawValue: 5000), Port(rawValue: 5001))], flows: FlowOptions(picksUp: false))
        try apply([passing, kept, wider], 5)
        next.say(bed, fromClient: false, 10)
        try apply([passing, wider], 6)
        next.say(bed, fromClient: false, 10)
    }

    @Test func fragmentsAndCompanionsAreTheirSendersOwn() throws {
        let own = MACAddress(rawValue: 0x0200_0000_030A)
        let bed = try FlowBed([flowRule([udp(53)]), flowRule([tcp(21)], FlowOptions(expectsData: true))])
        bed.table = try CompiledTable.build(
            AllowlistSource(
                rules: bed.table.source.rules,
                bindings: [AddressBinding(family: .ipv4, address: AddressWords(high: 0, low: 0x0A03_000A), macs: [own])]))
        func fragment(at offset: Int, more: Bool, mac: [UInt8] = [2, 0, 0, 0, 3, 0x0A]) -> [UInt8] {
            var frame = FrameBuilder(source: mac)
            let payload = offset == 0 ? FrameBuilder.udp(40000, 53, payload: [UInt8](repeating: 0, count: 992), length: 3000) : [UInt8](repeating: 1, count: 1000)
            frame.ipv4(proto: 17, payload: payload, fragment: UInt16(offset / 8) | (more ? 0x2000 : 0))
            return frame.bytes
        }
        let evil: [UInt8] = [2, 0, 0, 0, 6, 6]
        #expect(bed.cause(fragment(at: 0, more: true)) == "")
        #expect(bed.cause(fragment(at: 1000, more: true, mac: evil)) == "address-binding")
        #expect(bed.cause(fragment(at: 1000, more: true), from: .inside) == "fragment-untracked")
        #expect(bed.cause(fragment(at: 1000, more: true)) == "")
        // A first one that comes again opens nothing that has been written.
        #expect(bed.cause(fragment(at: 0, more: true)) == "")
        #expect(bed.cause(fragment(at: 1000, more: true)) == "fragment-overlap")
        #expect(bed.cause(Wire(serverPort: 21).syn) == "")
        var data = Wire(clientPort: 41000, serverPort: 50001).syn
        data.replaceSubrange(6..<12, with: evil)
        #expect(bed.cause(data) == "address-binding")
        #expect(bed.cause(Wire(clientPort: 41000, serverPort: 50001).syn, from: .inside) == "not-in-policy")
        #expect(bed.cause(Wire(clientPort: 41000, serverPort: 50001).syn) == "")
        // An ICMP error about a segment that no rule allows is no segment.
        var error = FrameBuilder()
        error.ipv4(
            from: Wire.server, to: Wire.client, proto: 1,
            payload: [3, 3, 0, 0, 0, 0, 0, 0] + Wire(clientPort: 1, serverPort: 2).syn[14...].prefix(28))
        error.bytes.replaceSubrange(0..<12, with: [2, 0, 0, 0, 3, 0x0A, 2, 0, 0, 0, 3, 0x15])
        #expect(bed.cause(error.bytes, from: .inside) == "not-in-policy")
    }

    @Test func aRuleThatGrowsGoesOn() {
        var history = RuleHistory()
        let small = flowRule([tcp(5000)]), grown = flowRule([tcp(5000), tcp(5001)], FlowOptions(replySeconds: 60))
        let first = history.marks(of: [small], names: ["a"], version: 1)
        history.note([small], names: ["a"], first)
        let second = history.marks(of: [grown], names: ["a"], version: 2)
        #expect(second[0].identity == first[0].identity && second[0].since == 1)
        history.note([grown], names: ["a"], second)
        // One that shrinks is another; so is the same under another name.
        #expect(history.marks(of: [small], names: ["a"], version: 3)[0].since == 3)
        #expect(history.marks(of: [grown], names: ["b"], version: 3)[0].since == 3)
    }

    @Test func ftpMayOpenItsDataConnections() throws {
        for isSwapped in [false, true] {
            let (client, server) = isSwapped ? (host(21, 1), host(10, 0)) : (host(10, 0), host(21, 1))
            let bed = try FlowBed([
                AllowRule(clients: [client], servers: [server], services: [tcp(21)], flows: FlowOptions(expectsData: true))
            ])
            var passive = Wire(clientPort: 41000, serverPort: 50001, isSwapped: isSwapped)
            #expect(bed.cause(passive.syn) == "not-in-policy")
            var control = Wire(serverPort: 21, isSwapped: isSwapped)
            control.open(bed)
            control.say(bed, fromClient: true, 20)
            passive.open(bed)
            passive.say(bed, fromClient: false, 1000)
            // Active: the server opens, from port 20, towards a high port of the client; in `Wire`'s words the "client".
            var active = Wire(clientPort: 20, serverPort: 42000, isSwapped: !isSwapped, clientSide: .inside)
            active.open(bed)
            active.say(bed, fromClient: true, 1000)
            #expect(bed.cause(Wire(clientPort: 25, serverPort: 42000, isSwapped: !isSwapped).syn, from: .inside) == "not-in-policy")
            #expect(bed.cause(Wire(clientPort: 41000, serverPort: 22, isSwapped: isSwapped).syn) == "not-in-policy")
            bed.seconds += 61
            #expect(bed.cause(Wire(clientPort: 41001, serverPort: 50002, isSwapped: isSwapped).syn) == "not-in-policy")
            // What is open stays open, until the rule goes.
            passive.say(bed, fromClient: false, 1000)
            active.say(bed, fromClient: false, 10)
            bed.table = try CompiledTable.build(AllowlistSource(rules: []), version: 2)
            #expect(bed.cause(passive.data(fromClient: false, 10), from: .inside) == "not-in-policy")
        }
    }
}

@Suite struct FlowTCPTests {
    /// Honest conversations of every shape pass, strict or not.
    @Test(arguments: [false, true], [false, true]) func anHonestConversationPasses(isStrict: Bool, isSwapped: Bool) throws {
        let (client, server) = isSwapped ? (host(21, 1), host(10, 0)) : (host(10, 0), host(21, 1))
        let options = FlowOptions(isStrict: isStrict, picksUp: false)
        let bed = try FlowBed([AllowRule(clients: [client], servers: [server], services: [tcp(5000)], flows: options)])
        for scale in [nil, 0, 7, 14] as [UInt8?] {
            var wire = Wire()
            wire.isSwapped = isSwapped
            wire.scale = scale
            wire.clientPort += UInt16(scale ?? 99)
            wire.open(bed)
            for round in 0..<50 {
                wire.say(bed, fromClient: true, 400)
                wire.say(bed, fromClient: false, 600)
                // Days between two messages.
                if round == 25 { bed.seconds += 4 * 86_400 }
            }
            // A keepalive repeats the byte before the next one; a retransmission what was sent.
            var old = wire
            old.c &-= 1
            #expect(bed.cause(old.data(fromClient: true, 1)) == "")
            old = wire
            old.s &-= 600
            #expect(bed.cause(old.data(fromClient: false, 600), from: .inside) == "")
            wire.say(bed, fromClient: true, 0, flags: [.fin, .ack])
            wire.say(bed, fromClient: false, 0, flags: [.fin, .ack])
            wire.say(bed, fromClient: true, 0)
            #expect(bed.cause(wire.data(fromClient: false, 0, flags: [.rst, .ack]), from: .inside) == "")
            // The port is used again.
            var again = Wire()
            again.isSwapped = isSwapped
            again.clientPort = wire.clientPort
            again.c = 5
            again.open(bed)
        }
    }

    @Test(arguments: [false, true]) func aSynAckAnswersASyn(isStrict: Bool) throws {
        let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(isStrict: isStrict))])
        var wire = Wire()
        #expect(bed.cause(wire.synAck, from: .inside) == "syn-ack-unasked")
        #expect(bed.cause(wire.syn) == "")
        var forged = wire
        forged.c &+= 1
        #expect(bed.cause(forged.synAck, from: .inside) == "syn-ack-unasked")
        #expect(bed.cause(wire.synAck, from: .inside) == "")
        // It may be lost behind us and repeated.
        #expect(bed.cause(wire.synAck, from: .inside) == "")
        wire.c &+= 1
        wire.s &+= 1
        wire.say(bed, fromClient: true, 100)
        // Nobody sends one as a client, and none comes to an established connection out of the blue.
        #expect(bed.cause(wire.segment(fromClient: true, [.syn, .ack], seq: wire.c, ack: wire.s)) == "syn-ack-unasked")
        #expect(bed.cause(wire.segment(fromClient: false, [.syn, .ack], seq: wire.s &+ 0x2000_0000, ack: wire.c), from: .inside) == "syn-ack-unasked")
        // A client that has forgotten asks anew; the server answers with what it knows, and is reset.
        var fresh = Wire()
        fresh.c = 0x1234_5678
        #expect(bed.cause(fresh.syn) == "")
        #expect(bed.cause(wire.data(fromClient: false, 0), from: .inside) == "")
        #expect(bed.cause(wire.segment(fromClient: true, .rst, seq: wire.c)) == "")
        fresh.open(bed)
        fresh.say(bed, fromClient: false, 5)
    }

    @Test func aServerMayGoOnRightBehindItsSynAck() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var wire = Wire()
        #expect(bed.cause(wire.syn) == "")
        #expect(bed.cause(wire.synAck, from: .inside) == "")
        wire.c &+= 1
        wire.s &+= 1
        // As far as the SYN's window goes, which is never scaled.
        var ahead = wire
        ahead.s &+= 1500
        #expect(bed.cause(ahead.data(fromClient: false, 500), from: .inside) == "tcp-window")
        wire.say(bed, fromClient: false, 500)
        wire.say(bed, fromClient: false, 400)
        wire.say(bed, fromClient: true, 10)
        wire.say(bed, fromClient: false, 1000)
    }

    @Test func strictKeepsToTheWindows() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var wire = Wire()
        wire.open(bed)
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
        for fromClient in [true, false] {
            let side: Side = fromClient ? .outside : .inside
            for (name, seq, ack) in [
                ("ahead", 0x0001_0000, 0), ("far ahead", 0x4000_0000, 0), ("behind", -0x0001_0000 as Int32, 0),
                ("acknowledges what was not sent", 0, 1), ("acknowledges far ahead", 0, 0x4000_0000),
                ("acknowledges long ago", 0, -0x0002_0000),
            ] as [(String, Int32, Int32)] {
                var forged = wire
                let (s, a) = (UInt32(bitPattern: seq), UInt32(bitPattern: ack))
                if fromClient { (forged.c, forged.s) = (wire.c &+ s, wire.s &+ a) } else { (forged.s, forged.c) = (wire.s &+ s, wire.c &+ a) }
                #expect(bed.cause(forged.data(fromClient: fromClient, 10), from: side) == "tcp-window", "\(name), from client: \(fromClient)")
            }
        }
        // None of it has moved anything.
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
    }

    @Test func strictBelievesExactResetsOnly() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var wire = Wire()
        wire.open(bed)
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
        for fromClient in [true, false] {
            for offset in [1, 2, 500, -1, 0x4000_0000] as [Int32] {
                let seq = (fromClient ? wire.c : wire.s) &+ UInt32(bitPattern: offset)
                #expect(bed.cause(wire.segment(fromClient: fromClient, .rst, seq: seq), from: fromClient ? .outside : .inside) == "tcp-reset")
            }
        }
        wire.say(bed, fromClient: true, 10)
        #expect(bed.cause(wire.segment(fromClient: false, [.rst, .ack], seq: wire.s, ack: wire.c), from: .inside) == "")
        // Late: of a connection that is over and forgotten.
        bed.seconds += 11
        #expect(bed.cause(wire.segment(fromClient: false, .rst, seq: wire.s), from: .inside) == "tcp-untracked")
        // A refused SYN.
        var refused = Wire()
        refused.clientPort = 40009
        #expect(bed.cause(refused.syn) == "")
        #expect(bed.cause(refused.segment(fromClient: false, [.rst, .ack], seq: 0, ack: refused.c &+ 2), from: .inside) == "tcp-reset")
        #expect(bed.cause(refused.segment(fromClient: false, .rst, seq: 0), from: .inside) == "tcp-reset")
        #expect(bed.cause(refused.segment(fromClient: false, [.rst, .ack], seq: 0, ack: refused.c &+ 1), from: .inside) == "")
    }

    @Test(arguments: [false, true]) func aConnectionIsTakenUpWhereItIs(isStrict: Bool) throws {
        let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(isStrict: isStrict))])
        var wire = Wire()
        // A forged segment that comes first shuts nobody out.
        var forged = wire
        forged.s &+= 0x5000_0000
        #expect(bed.cause(forged.data(fromClient: false, 10), from: .inside) == "")
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
        #expect(bed.counts.pickedUp == 1)
        // From now on it is held to what was seen; its scale is not known, so the windows are taken as wide as can be.
        forged = wire
        forged.s &+= 0x7000_0000
        #expect(bed.cause(forged.data(fromClient: false, 10), from: .inside) == (isStrict ? "tcp-window" : ""))
        #expect(bed.cause(wire.segment(fromClient: false, .rst, seq: wire.s &+ 5), from: .inside) == (isStrict ? "tcp-reset" : ""))
    }

    @Test(arguments: [false, true]) func aRuleMayRefuseToTakeUp(isStrict: Bool) throws {
        let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(isStrict: isStrict, picksUp: false))])
        var wire = Wire()
        // Even after a start: that is what the owner asked for.
        bed.graceBegan = bed.seconds
        for flags in [.ack, [.ack, .psh], [.fin, .ack], .rst, [.rst, .ack]] as [TCPFlags] {
            #expect(bed.cause(wire.data(fromClient: true, 0, flags: flags)) == "tcp-untracked")
            #expect(bed.cause(wire.data(fromClient: false, 0, flags: flags), from: .inside) == "tcp-untracked")
        }
        #expect(bed.cause(wire.synAck, from: .inside) == "syn-ack-unasked")
        wire.open(bed)
        wire.say(bed, fromClient: false, 10)
    }

    /// After a start, and after a time without workers, nobody knows what has gone before.
    @Test func afterAStartThereIsGrace() throws {
        let bed = try FlowBed([flowRule([tcp(5000), udp(53)], strict)])
        var wire = Wire()
        wire.open(bed)
        wire.say(bed, fromClient: true, 100)
        bed.graceBegan = bed.seconds
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40000), from: .inside) == "")
        var other = Wire()
        other.clientPort = 40001
        #expect(bed.cause(other.synAck, from: .inside) == "")
        // Much has been said that nobody here has seen; the connection goes on, and is held to its windows again.
        wire.c &+= 0x2000_0000
        wire.s &+= 0x3000_0000
        wire.say(bed, fromClient: true, 100)
        wire.say(bed, fromClient: false, 100)
        wire.say(bed, fromClient: true, 100)
        bed.seconds += 31
        wire.say(bed, fromClient: false, 100)
        wire.say(bed, fromClient: true, 100)
        var forged = wire
        forged.s &+= 0x7000_0000
        #expect(bed.cause(forged.data(fromClient: false, 10), from: .inside) == "tcp-window")
        #expect(bed.cause(FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40002), from: .inside) == "reply-unasked")
    }

    /// Without windows nobody can tell a forged end from a true one; the connection that goes on all the same is not forgotten.
    @Test func aForgedEndDoesNotEndALooseConnection() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(picksUp: false))])
        var wire = Wire()
        wire.open(bed)
        for flags in [.rst, [.rst, .ack], [.fin, .ack]] as [TCPFlags] {
            #expect(bed.cause(wire.segment(fromClient: false, flags, seq: 1, ack: 1), from: .inside) == "")
            #expect(bed.cause(wire.segment(fromClient: true, flags, seq: 1, ack: 1)) == "")
            wire.say(bed, fromClient: true, 10)
            // Longer than any ended connection is remembered.
            bed.seconds += 1000
            wire.say(bed, fromClient: true, 10)
            wire.say(bed, fromClient: false, 10)
        }
    }

    /// What the first review of this table found, each as it was told.
    @Test func aSegmentThatComesFirstBlocksNoHandshake() throws {
        for isStrict in [false, true] {
            let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(isStrict: isStrict))])
            var wire = Wire()
            #expect(bed.cause(wire.data(fromClient: false, 0), from: .inside) == "")
            wire.open(bed)
            wire.say(bed, fromClient: false, 10)
        }
    }

    /// An attacker on the server's wire who speaks for the client as well.
    @Test func oneWireDoesNotSpeakForBoth() throws {
        let bed = try FlowBed([flowRule([tcp(5000), udp(53)], FlowOptions(isStrict: true, picksUp: true))])
        let ask = FrameBuilder.udpFrame(40000, 53), answer = FrameBuilder.udpFrame(from: [10, 3, 1, 21], to: [10, 3, 0, 10], 53, 40000)
        // The rule has no side, so the forged question passes; its answer does not.
        #expect(bed.cause(ask, from: .inside) == "")
        #expect(bed.cause(answer, from: .inside) == "reply-unasked")
        // And it does not stand in the way of the true one.
        #expect(bed.cause(ask, from: .outside) == "")
        #expect(bed.cause(ask, from: .inside) == "")
        #expect(bed.cause(answer, from: .inside) == "")
        // A handshake by one wire; and over an established connection.
        let forged = Wire(clientPort: 41000)
        #expect(bed.cause(forged.syn, from: .inside) == "")
        #expect(bed.cause(forged.synAck, from: .inside) == "syn-ack-unasked")
        var wire = Wire()
        wire.open(bed)
        var anew = wire
        anew.c = 99
        #expect(bed.cause(anew.syn, from: .inside) == "")
        #expect(bed.cause(anew.synAck, from: .inside) == "syn-ack-unasked")
        #expect(bed.cause(wire.data(fromClient: true, 10), from: .inside) == "wrong-side")
        wire.say(bed, fromClient: true, 10)
        wire.say(bed, fromClient: false, 10)
        // Two segments that fit each other shut nobody out of a connection that was there before, and fill no place for days.
        for isStrict in [false, true] {
            let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(isStrict: isStrict))])
            var wire = Wire()
            let forged = Wire(c: 5, s: 6)
            #expect(bed.cause(forged.data(fromClient: true, 0), from: .inside) == "")
            #expect(bed.cause(forged.data(fromClient: false, 0), from: .inside) == "")
            for _ in 0..<3 {
                wire.say(bed, fromClient: true, 10)
                wire.say(bed, fromClient: false, 10)
            }
        }
    }

    @Test func whatNobodyWatchedIsExcusedLaterToo() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var wire = Wire()
        wire.open(bed)
        wire.say(bed, fromClient: true, 10)
        bed.seconds += 1
        bed.graceBegan = bed.seconds
        // Said while the kernel judged; and then the line is quiet for longer than the grace.
        wire.c &+= 500
        wire.s &+= 500
        bed.seconds += 100
        wire.say(bed, fromClient: true, 10)
        wire.say(bed, fromClient: false, 10)
        wire.say(bed, fromClient: true, 10)
        var forged = wire
        forged.s &+= 0x7000_0000
        #expect(bed.cause(forged.data(fromClient: false, 10), from: .inside) == "tcp-window")
    }

    @Test func aForgedSYNOrResetShutsNoConnectionOutThatIsTakenUp() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var wire = Wire()
        var forged = wire
        forged.c = 77
        #expect(bed.cause(forged.syn) == "")
        wire.say(bed, fromClient: true, 10)
        #expect(bed.cause(wire.segment(fromClient: false, .rst, seq: 3), from: .inside) == "")
        wire.say(bed, fromClient: false, 10)
        wire.say(bed, fromClient: true, 10)
        wire.say(bed, fromClient: false, 10)
    }

    @Test func aResetThatNobodyBelievesEndsNothingWhereNothingIsTakenUp() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], FlowOptions(picksUp: false))])
        var wire = Wire()
        wire.open(bed)
        #expect(bed.cause(wire.segment(fromClient: false, .rst, seq: 3), from: .inside) == "")
        var forged = wire
        forged.c = 77
        #expect(bed.cause(forged.syn) == "")
        // Silent, as HSMS is between two linktests.
        bed.seconds += 1000
        wire.say(bed, fromClient: true, 10)
        wire.say(bed, fromClient: false, 10)
    }

    /// Hostile segments of every kind, at random: whatever they do, the honest conversation beside them goes on.
    @Test func aForgerShutsNobodyOut() throws {
        let bed = try FlowBed([flowRule([tcp(5000)], strict)])
        var random = SplitMix(5)
        var wire = Wire()
        wire.open(bed)
        for _ in 0..<20_000 {
            var forged = wire
            forged.c = .random(in: 0...UInt32.max, using: &random)
            forged.s = .random(in: 0...UInt32.max, using: &random)
            let flags = [.ack, .rst, .syn, [.syn, .ack], [.fin, .ack], [.rst, .ack]].randomElement(using: &random)! as TCPFlags
            let fromClient = Bool.random(using: &random)
            _ = bed.cause(
                forged.segment(
                    fromClient: fromClient, flags, seq: fromClient ? forged.c : forged.s, ack: fromClient ? forged.s : forged.c,
                    payload: Int.random(in: 0...100, using: &random)), from: fromClient ? .outside : .inside)
            wire.say(bed, fromClient: true, Int.random(in: 0...100, using: &random))
            wire.say(bed, fromClient: false, Int.random(in: 0...100, using: &random))
        }
    }
}
