import Allowlist
import Baseline
import Foundation
import Frames
import GRDB
import Testing

@testable import Detection

private func frame(_ sender: UInt64, _ time: UInt64, source: UInt64 = 1, side: Side = .outside) -> AlertFrame {
    AlertFrame(
        time: time, sender: MACAddress(rawValue: sender), source: AddressWords(high: 0, low: source), side: side, cause: Cause(rawValue: 33), wireLength: 60,
        bytes: [1, 2, UInt8(truncatingIfNeeded: time)])
}

private func alert(_ id: Int64, group: String, others: [AlertDevice] = [], begin: Double = 0) -> Alert {
    let device = AlertDevice(address: nil, mac: nil, vendor: nil, name: nil, role: nil, side: nil, isKnown: false, isMany: false)
    return Alert(
        id: id, kind: .scan, severity: .high, confidence: 1, device: device, others: others, begin: Date(timeIntervalSince1970: begin), last: Date(timeIntervalSince1970: 2),
        end: nil, frames: 1, attempts: 1, story: "", behaviours: [], evidence: [], techniques: [], acknowledged: nil, group: group)
}

@Suite struct AlertFramesTests {
    @Test func anAlertIsGivenTheFramesOfItsDevices() {
        var frames = AlertFrames()
        frames.add([frame(1, 1), frame(2, 2), frame(1, 3), frame(3, 4, source: 9), frame(4, 5, side: .inside)])
        #expect(frames.take(for: alert(1, group: "mac 00:00:00:00:00:01")).map(\.time) == [1, 3])
        // Only once.
        #expect(frames.take(for: alert(1, group: "mac 00:00:00:00:00:01")).isEmpty)
        // Whoever is behind a router is told by his address.
        #expect(frames.take(for: alert(2, group: "address 0.0.0.9")).map(\.time) == [4])
        #expect(frames.take(for: alert(3, group: "side inside")).map(\.time) == [5])
        #expect(frames.take(for: alert(4, group: "bridge")).isEmpty && frames.take(for: alert(4, group: "nonsense")).isEmpty)
        let other = AlertDevice(address: nil, mac: "00:00:00:00:00:02", vendor: nil, name: nil, role: nil, side: nil, isKnown: true, isMany: false)
        #expect(frames.take(for: alert(5, group: "mac 00:00:00:00:00:07", others: [other])).map(\.time) == [2])
    }

    /// Why: a flood of one sender must neither take all memory nor push out what another did.
    @Test func aFloodLeavesRoomForOthers() {
        var frames = AlertFrames()
        frames.add([frame(2, 0)])
        frames.add((0..<100_000).map { frame(1, $0) })
        #expect(frames.take(for: alert(2, group: "mac 00:00:00:00:00:02")).count == 1)
        let first = frames.take(for: alert(1, group: "mac 00:00:00:00:00:01"))
        // Half of the room is for what it becomes.
        #expect(first.map(\.time) == Array(0..<UInt64(AlertFrames.mostOfAlert / 2)))
        #expect(frames.take(for: alert(1, group: "mac 00:00:00:00:00:01")).count == AlertFrames.mostOfAlert / 2)
        #expect(frames.take(for: alert(1, group: "mac 00:00:00:00:00:01")).isEmpty)
        // Under ever new cards: the latest stay.
        for sender in UInt64(100)..<20_000 { frames.add([frame(sender, sender)]) }
        #expect(frames.take(for: alert(3, group: "mac 00:00:00:00:4e:1f")).count == 1)
        #expect(frames.take(for: alert(4, group: "mac 00:00:00:00:00:65")).isEmpty)
    }

    /// Why: a PC whose broadcasts are denied all day must not have them shown as evidence of its scan.
    @Test func whatWasBeforeItIsNoEvidence() {
        let second: UInt64 = 1_000_000_000
        var frames = AlertFrames()
        frames.add((0..<100).map { frame(1, $0) })
        frames.add((0..<20).map { frame(1, 3000 * second + $0) })
        #expect(frames.take(for: alert(1, group: "mac 00:00:00:00:00:01", begin: 3000)).map(\.time) == (0..<16).map { 3000 * second + $0 })
    }

    /// Why: what others say is not the stranger's evidence.
    @Test func anAlertAboutStrangersHasNothingOfKnownDevices() {
        var frames = AlertFrames()
        frames.add([frame(1, 1), frame(2, 2)])
        #expect(frames.take(for: alert(1, group: "side outside"), known: [MACAddress(rawValue: 1)]).map(\.time) == [2])
        #expect(frames.take(for: alert(2, group: "mac 00:00:00:00:00:01")).map(\.time) == [1])
    }

    @Test func theyAreKeptAndReadAgain() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "alert-frames-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try AlertStore(directory: folder)
        try store.write([alert(7, group: "bridge")])
        let all = [frame(1, .max), frame(0xFFFF_FFFF_FFFF, 5, source: .max, side: .inside)]
        try store.write([all[0]], of: 7)
        try store.write([all[1]], of: 7)
        #expect(try Set(store.frames(of: 7).map(\.sender)) == Set(all.map(\.sender)))
        #expect(try store.frames(of: 7).contains(all[1]) && store.frames(of: 8).isEmpty)
        try store.write((0..<40).map { frame(1, $0) }, of: 7)
        #expect(try store.frames(of: 7).count == AlertFrames.mostOfAlert)
        // They go with their alert.
        try store.trim(now: Date())
        #expect(try store.frames(of: 7).isEmpty && store.read(7) == nil)
    }

    /// Why: an upgrade must not cost anybody his alerts.
    @Test func aFileOfTheFirstVersionIsTakenOn() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "alert-frames-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do {
            let store = try AlertStore(directory: folder)
            try store.write([alert(7, group: "bridge")])
        }
        let old = try DatabaseQueue(path: folder + "/alerts.sqlite")
        try old.write { db in
            try db.execute(sql: "DROP TABLE frame")
            try db.execute(sql: "PRAGMA user_version = 1")
        }
        try old.close()
        let store = try AlertStore(directory: folder)
        try store.write([frame(1, 5)], of: 7)
        #expect(try store.frames(of: 7).count == 1 && store.read(7)?.id == 7)
    }
}
