import Allowlist
import Captures
import Foundation
import Frames
import Testing
import TestSupport

@testable import Policy

@Suite struct SimulationTests {
    /// A pcap of these frames.
    private func capture(_ frames: [[UInt8]], cut: Int = 0, link: UInt32 = 1) throws -> URL {
        func le32(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
        var bytes = le32(0xA1B2_C3D4) + [2, 0, 4, 0] + le32(0) + le32(0) + le32(65535) + le32(link)
        for (index, frame) in frames.enumerated() {
            bytes += le32(UInt32(1_700_000_000 + index)) + le32(250_000) + le32(UInt32(frame.count)) + le32(UInt32(frame.count)) + frame
        }
        let url = FileManager.default.temporaryDirectory.appending(path: "sekisho-\(UUID().uuidString).pcap")
        try Data(bytes.dropLast(cut)).write(to: url)
        return url
    }

    private func table(_ mode: Mode = .enforce) throws -> CompiledTable {
        let policy = try #require(
            PolicyReader.read(
                [UInt8]("version = 1\n[[allow]]\nid = \"r\"\nfrom = \"10.3.0.10\"\nto = \"10.3.1.21\"\nservice = \"hsms\"\nside = \"inside\"".utf8),
                now: 0
            ).document)
        return try CompiledTable.build(policy.compiled(now: 0, mode: mode, ignoringSides: true).source)
    }

    private func simulate(_ url: URL, _ mode: Mode = .enforce) throws -> (SimulationCounts, [Bool], String?) {
        var simulation = Simulation(try table(mode))
        var passed: [Bool] = []
        let reader = try CaptureReader(url.path)
        while let frame = reader.next() {
            simulation.add(frame.bytes, wireLength: frame.wireLength) { passed.append($1) }
        }
        simulation.flush { passed.append($1) }
        return (simulation.counts, passed, reader.warning)
    }

    @Test func framesAreJudgedInOrderAcrossBursts() throws {
        let frames = (0..<150).map { FrameBuilder.tcpFrame(40000, $0 % 3 == 0 ? 5000 : 5002) }
        let url = try capture(frames)
        defer { try? FileManager.default.removeItem(at: url) }
        let (counts, passed, warning) = try simulate(url)
        #expect(passed == (0..<150).map { $0 % 3 == 0 })
        #expect(counts.allowed == 50 && counts.denied == 100)
        #expect(counts.rules == [50])
        #expect(counts.causes == [.notInPolicy: 100])
        #expect(warning == nil)
        let (monitored, all, _) = try simulate(url, .monitor)
        #expect(all.allSatisfy { $0 } && monitored.denied == 0)
        #expect(monitored.causes == [.notInPolicy: 100])
    }

    @Test func aCaptureThatEndsMidPacketIsReadAsFarAsItGoes() throws {
        let url = try capture([FrameBuilder.tcpFrame(), FrameBuilder.tcpFrame()], cut: 10)
        defer { try? FileManager.default.removeItem(at: url) }
        let (counts, _, warning) = try simulate(url)
        #expect(counts.allowed == 1)
        #expect(warning?.contains("what came before it was read") == true)
    }

    @Test func otherFilesAreRefusedWithAReason() throws {
        let text = FileManager.default.temporaryDirectory.appending(path: "sekisho-\(UUID().uuidString).txt")
        try Data("not a capture".utf8).write(to: text)
        let cooked = try capture([], link: 113)
        defer {
            try? FileManager.default.removeItem(at: text)
            try? FileManager.default.removeItem(at: cooked)
        }
        #expect(throws: CaptureError.self) { try CaptureReader(text.path) }
        #expect { try CaptureReader(cooked.path) } throws: { "\($0)".contains("LINUX_SLL, not Ethernet") }
    }

    @Test func timestampsHaveNineDecimals() throws {
        let url = try capture([FrameBuilder.tcpFrame()])
        defer { try? FileManager.default.removeItem(at: url) }
        #expect(try CaptureReader(url.path).next()?.timestamp == "1700000000.250000000")
    }

    @Test(.enabled(if: SharedData.file("captures/ics") != nil, "the captures are not beside the checkout"))
    func realCapturesAreReadToTheEnd() throws {
        let folder = SharedData.file("captures/ics")!
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil) {
            let (counts, passed, warning) = try simulate(file)
            #expect(passed.count > 0 && Int(counts.allowed + counts.denied) == passed.count, "\(file.lastPathComponent)")
            #expect(warning == nil)
        }
    }
}

/// Nanoseconds.
private let second: UInt64 = 1_000_000_000

@Suite struct CaptureClockTests {
    private let now: UInt64 = 1_790_000_000 * second

    /// What passed between each stamp and the one before.
    private func passed(_ stamps: [UInt64]) -> [Int64] {
        var clock = CaptureClock()
        let times = stamps.map { clock.time(of: $0) }
        return zip(times, times.dropFirst()).map { Int64(bitPattern: $1 &- $0) }
    }

    @Test func timePassesAsTheStampsSay() {
        let hour = 3600 * second, month = 30 * 86400 * second
        let expected: [Int64] = [0, 1, Int64(hour) - 1, Int64(month - hour)]
        #expect(passed([now, now, now + 1, now + hour, now + month]) == expected)
    }

    @Test func framesOutOfOrderAreNotMadeLater() {
        #expect(passed([now, now + 5, now + 2, now + 6]) == [5, -3, 4])
    }

    @Test func aClockThatIsSetStandsStill() {
        let year = 365 * 86400 * second
        let set: [UInt64] = [0, 1, now - 3601 * second, now + year + second, now + 100 * year, .max - 7]
        for later in set {
            let expected: [Int64] = [0, 7]
            #expect(passed([now, later, later + 7]) == expected, "\(later)")
        }
        // There and back again.
        #expect(passed([now, 0, now, 0, now + 5]) == [0, 0, 0, 0])
    }

    /// Ticks of the flow table begin where they would by the stamps themselves, and none is 0.
    @Test func ticksKeepTheirPlace() {
        let stamps: [UInt64] = [0, 1, (1 << 26) - 1, 1 << 26, now, .max]
        for first in stamps {
            var clock = CaptureClock()
            let time = clock.time(of: first)
            let tick: UInt64 = 1 << 26
            #expect(time % tick == first % tick)
            #expect(FlowTick(nanoseconds: time).rawValue > 0)
        }
    }
}
