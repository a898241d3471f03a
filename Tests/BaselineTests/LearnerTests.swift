import Allowlist
import Frames
import TestSupport
import Testing

@testable import Baseline

/// Frames of conversations as they would come out of a capture.
struct Talk {
    let learner = Learner(connections: 1 << 10)
    /// Seconds since 1970: a Monday, 00:00 UTC.
    var time: Double = 1_700_438_400

    static let mes: [UInt8] = [10, 3, 0, 10], tool: [UInt8] = [10, 3, 1, 21], laptop: [UInt8] = [10, 3, 0, 66]

    func send(_ bytes: [UInt8]) {
        var feeder = CaptureLearner(learner)
        bytes.withUnsafeBytes { feeder.add($0, wireLength: $0.count, at: UInt64(time * 1e9)) }
    }

    func tcp(_ a: [UInt8], _ ap: UInt16, _ b: [UInt8], _ bp: UInt16, _ flags: TCPFlags, payload: Int = 0) {
        var segment = FrameBuilder.be(ap) + FrameBuilder.be(bp) + [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags.rawValue, 0x10, 0, 0, 0, 0, 0]
        segment += [UInt8](repeating: 0, count: payload)
        var frame = FrameBuilder()
        frame.ipv4(from: a, to: b, proto: 6, payload: segment)
        send(frame.bytes)
    }

    /// A whole connection, answered.
    mutating func session(_ client: [UInt8], _ port: UInt16, _ server: [UInt8], _ service: UInt16, requests: Int = 2, every: Double = 1, ends: Bool = true) {
        tcp(client, port, server, service, .syn)
        tcp(server, service, client, port, [.syn, .ack])
        tcp(client, port, server, service, .ack)
        for _ in 0..<requests {
            tcp(client, port, server, service, [.psh, .ack], payload: 10)
            tcp(server, service, client, port, [.psh, .ack], payload: 20)
            time += every
        }
        if ends {
            tcp(client, port, server, service, [.fin, .ack])
            tcp(server, service, client, port, [.fin, .ack])
        }
    }

    func learnt() -> [ConversationKey: ConversationDay] {
        learner.finish()
        return Dictionary(learner.drain().map { ($0.key, $0.day) }) { $0.adding($1) }
    }

    static func address(_ bytes: [UInt8]) -> AddressWords { AddressWords(high: 0, low: bytes.reduce(0) { $0 << 8 | UInt64($1) }) }

    static func key(_ client: [UInt8], _ server: [UInt8], _ service: UInt16, _ ipProtocol: IPProtocol = .tcp) -> ConversationKey {
        ConversationKey(
            client: address(client), server: address(server), service: Port(rawValue: service), vlan: .untagged, ipProtocol: ipProtocol, family: .ipv4)
    }
}

@Suite struct LearnerTests {
    @Test func aConnectionBecomesAConversation() {
        var talk = Talk()
        talk.session(Talk.mes, 40000, Talk.tool, 5000)
        talk.session(Talk.mes, 40001, Talk.tool, 5000)
        let learnt = talk.learnt()
        #expect(Array(learnt.keys) == [Talk.key(Talk.mes, Talk.tool, 5000)])
        let day = learnt[Talk.key(Talk.mes, Talk.tool, 5000)]!
        #expect(day.connections == 2 && day.answered == 2 && day.refused == 0)
        #expect(day.framesOut == 10 && day.framesIn == 8)
        #expect(day.day == 19681 && day.hours == 1)
    }

    /// Whoever answered last week still serves, also if the recording begins in the middle and its first frame is the server's.
    @Test(arguments: [true, false]) func theMiddleOfAConnectionIsKnownByItsPort(serverFirst: Bool) {
        var talk = Talk()
        for port in [50001, 50002, 50003] as [UInt16] {
            for _ in 0..<3 {
                if serverFirst { talk.tcp(Talk.tool, 7777, Talk.mes, port, .ack, payload: 5) }
                talk.tcp(Talk.mes, port, Talk.tool, 7777, .ack, payload: 5)
                if !serverFirst { talk.tcp(Talk.tool, 7777, Talk.mes, port, .ack, payload: 5) }
            }
            talk.time += 1
        }
        #expect(Array(talk.learnt().keys) == [Talk.key(Talk.mes, Talk.tool, 7777)])
    }

    /// A poll from a new port each time: its first exchange is a guess, and the guess is mended by those that follow.
    @Test func aGuessIsMendedByWhatComesLater() {
        var talk = Talk()
        for port in 0..<5 {
            for (from, fromPort, to, toPort) in [(Talk.mes, UInt16(40_000 + port), Talk.tool, UInt16(161)), (Talk.tool, 161, Talk.mes, UInt16(40_000 + port))] {
                var frame = FrameBuilder()
                frame.ipv4(from: from, to: to, proto: 17, payload: FrameBuilder.be(fromPort) + FrameBuilder.be(toPort) + [0, 9, 0, 0, 1])
                talk.send(frame.bytes)
            }
            talk.time += 1800
            // Only now is it known to be over.
            if port == 0 { talk.learner.finish() }
        }
        talk.learner.finish()
        let days = talk.learner.drain()
        #expect(Set(days.map(\.key)) == [Talk.key(Talk.mes, Talk.tool, 161, .udp)])
        #expect(days.last?.orientation == .inferred)
    }

    @Test func aPortThatWasSeenToBeOpenedServes() {
        var talk = Talk()
        talk.session(Talk.mes, 1025, Talk.tool, 60000)
        // The server's segment first; its port is the higher one.
        talk.tcp(Talk.tool, 60000, Talk.laptop, 1026, .ack, payload: 5)
        talk.tcp(Talk.laptop, 1026, Talk.tool, 60000, .ack, payload: 5)
        #expect(Set(talk.learnt().keys) == [Talk.key(Talk.mes, Talk.tool, 60000), Talk.key(Talk.laptop, Talk.tool, 60000)])
    }

    /// A session that lives for days, met in its middle, while the store is written every now and then.
    @Test func theMiddleOfALongConnectionIsAnswered() {
        var talk = Talk()
        var answered: UInt32 = 0
        for _ in 0..<30 {
            talk.tcp(Talk.mes, 50_001, Talk.tool, 5000, [.psh, .ack], payload: 5)
            talk.tcp(Talk.tool, 5000, Talk.mes, 50_001, [.psh, .ack], payload: 5)
            talk.time += 1
            answered += talk.learner.drain().reduce(0) { $0 + $1.day.answered }
        }
        talk.learner.finish()
        answered += talk.learner.drain().reduce(0) { $0 + $1.day.answered }
        #expect(answered == 1)
    }

    /// Nobody makes a conversation alone.
    @Test func answersThatNobodyAskedForAreNone() {
        let talk = Talk()
        talk.tcp(Talk.laptop, 443, Talk.mes, 40_000, [.syn, .ack])
        talk.tcp(Talk.mes, 40_000, Talk.laptop, 443, .rst)
        talk.tcp(Talk.laptop, 443, Talk.mes, 40_000, [.syn, .ack])
        #expect(talk.learnt().values.allSatisfy { $0.answered == 0 })
    }

    @Test func symmetricPortsAreAskedByWhoSpeaksFirst() {
        let talk = Talk()
        for _ in 0..<3 {
            talk.send(FrameBuilder.udpFrame(from: Talk.tool, to: Talk.mes, 123, 123))
            talk.send(FrameBuilder.udpFrame(from: Talk.mes, to: Talk.tool, 123, 123))
        }
        let learnt = talk.learnt()
        #expect(Array(learnt.keys) == [Talk.key(Talk.tool, Talk.mes, 123, .udp)])
        #expect(learnt.values.first!.answered == 1)
    }

    @Test func refusalsAndSilenceAreToldApart() {
        var talk = Talk()
        talk.tcp(Talk.laptop, 40000, Talk.tool, 22, .syn)
        talk.tcp(Talk.tool, 22, Talk.laptop, 40000, [.rst, .ack])
        talk.tcp(Talk.laptop, 40001, Talk.tool, 23, .syn)
        talk.time += 3
        talk.tcp(Talk.laptop, 40001, Talk.tool, 23, .syn)
        talk.send(FrameBuilder.udpFrame(from: Talk.laptop, to: Talk.tool, 40002, 161))
        let learnt = talk.learnt()
        let refused = learnt[Talk.key(Talk.laptop, Talk.tool, 22)]!, silent = learnt[Talk.key(Talk.laptop, Talk.tool, 23)]!
        #expect(refused.connections == 1 && refused.answered == 0 && refused.refused == 1)
        #expect(silent.connections == 1 && silent.answered == 0 && silent.refused == 0)
        #expect(learnt[Talk.key(Talk.laptop, Talk.tool, 161, .udp)]?.answered == 0)
    }

    @Test func whatIsSentToAllIsNobodysAnswer() {
        let talk = Talk()
        talk.send(FrameBuilder.udpFrame(from: Talk.tool, to: [255, 255, 255, 255], 5560, 49152))
        talk.send(FrameBuilder.udpFrame(from: Talk.tool, to: [239, 1, 1, 1], 5560, 5560))
        #expect(Set(talk.learnt().keys.map(\.client)) == [Talk.address(Talk.tool)])
    }

    @Test func daysAndHoursAreKeptApart() {
        var talk = Talk()
        talk.session(Talk.mes, 40000, Talk.tool, 5000, requests: 2, ends: false)
        talk.time += 3600
        talk.tcp(Talk.mes, 40000, Talk.tool, 5000, [.psh, .ack], payload: 1)
        talk.time += 86_400
        talk.tcp(Talk.mes, 40000, Talk.tool, 5000, [.psh, .ack], payload: 1)
        talk.learner.finish()
        let days = talk.learner.drain().map(\.day).filter { $0.hours != 0 }.sorted { $0.day < $1.day }
        #expect(days.map(\.hours) == [0b11, 0b10])
        #expect(days.map(\.day) == [19681, 19682])
        #expect(days.map(\.connections) == [1, 0])
    }

    @Test func aPollHasItsRhythm() {
        var talk = Talk()
        talk.session(Talk.mes, 40000, Talk.tool, 502, requests: 40, every: 2.5)
        _ = talk.learnt()
        let intervals = talk.learner.drainIntervals().map(\.intervals)
        #expect(intervals.count == 1 && intervals[0].count == 39 && intervals[0].values.count == Intervals.most)
        #expect(intervals[0].values.allSatisfy { abs($0 - 2.5) < 0.001 })
    }

    /// What the store is given in pieces adds up to what it would be given at once, whenever it asks.
    @Test(arguments: 0..<20) func piecesAddUp(seed: Int) {
        var random = SplitMix(UInt64(seed))
        var talk = Talk()
        var pieces: [ConversationKey: (UInt64, UInt32, UInt32)] = [:]
        func add(_ days: [LearntDay]) {
            for one in days {
                let old = pieces[one.key] ?? (0, 0, 0)
                pieces[one.key] = (old.0 + one.day.framesOut + one.day.framesIn, old.1 + one.day.connections, old.2 + one.day.answered)
            }
        }
        for i in 0..<300 {
            let server: [UInt8] = [10, 3, 1, UInt8.random(in: 1...20, using: &random)]
            talk.session(Talk.mes, UInt16(20_000 + i), server, [502, 5000, 80].randomElement(using: &random)!, requests: Int.random(in: 0...3, using: &random),
                every: Double.random(in: 0...4000, using: &random), ends: Bool.random(using: &random))
            if Int.random(in: 0..<10, using: &random) == 0 { add(talk.learner.drain()) }
        }
        talk.learner.finish()
        add(talk.learner.drain())
        #expect(pieces.values.reduce(0) { $0 + $1.0 } == talk.learner.counts.frames)
        #expect(pieces.values.reduce(0) { $0 + $1.1 } == 300)
        #expect(pieces.values.reduce(0) { $0 + $1.2 } == 300)
    }

    @Test func aScannerDoesNotFillTheHistory() {
        let talk = Talk()
        for i in 0..<5000 {
            talk.tcp(Talk.laptop, 40000, [10, 3, UInt8(2 + i / 250), UInt8(1 + i % 250)], 445, .syn)
        }
        talk.learner.finish()
        _ = talk.learner.drain()
        #expect(talk.learner.count == Learner.mostUnanswered)
        #expect(talk.learner.counts.overflow == UInt64(5000 - Learner.mostUnanswered))
    }

    @Test func malformedFramesTeachNothing() {
        let talk = Talk()
        var frame = FrameBuilder.tcpFrame(40000, 5000)
        frame[14] = 0x43
        talk.send(frame)
        #expect(talk.learnt().isEmpty)
        #expect(talk.learner.counts.malformed == 1)
    }
}
