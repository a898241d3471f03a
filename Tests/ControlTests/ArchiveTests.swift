import Baseline
import Foundation
import GRDB
import Testing

@testable import Control

/// A directory that goes away with the test.
final class Folder {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "/sekisho-control-\(UInt64.random(in: 0 ... .max))"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func file(_ name: String) -> String { "\(path)/\(name)" }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

@Suite struct BackupTests {
    /// A state directory with a decision, and a backup of it.
    private func backedUp(_ folder: Folder, policy: (path: String, text: [UInt8])? = nil) throws -> (state: String, file: String) {
        let state = folder.file("state"), scratch = folder.file("scratch"), file = folder.file("backup")
        for path in [state, scratch] { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        try HistoryStore(directory: state).add(Decision(at: 1, who: "w", why: "first", verdict: .reject))
        var bytes: [UInt8] = []
        _ = try StateBackup.make(of: state, policy: policy, scratch: scratch, version: "1") { bytes += $0 }
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        return (state, file)
    }

    @Test func whatIsBackedUpComesBack() throws {
        let folder = Folder()
        let (_, file) = try backedUp(folder, policy: ("/etc/p.toml", Array("version = 1\n".utf8)))
        let restored = try StateBackup.restore(file, to: folder.file("new"), replaces: false)
        #expect(restored.policy == Array("version = 1\n".utf8) && restored.before == nil)
        #expect(restored.manifest.files.map(\.name) == ["history.sqlite", "policy.toml"])
        #expect(try HistoryStore(directory: folder.file("new"), mayMake: false).decisions().map(\.why) == ["first"])
    }

    @Test func whatIsThereIsNotLost() throws {
        let folder = Folder()
        let (state, file) = try backedUp(folder)
        try HistoryStore(directory: state).add(Decision(at: 2, who: "w", why: "second", verdict: .reject))
        #expect(throws: ArchiveError.self) { try StateBackup.restore(file, to: state, replaces: false) }
        #expect(try HistoryStore(directory: state, mayMake: false).decisions().count == 2)
        let before = try #require(try StateBackup.restore(file, to: state, replaces: true).before)
        #expect(try HistoryStore(directory: state, mayMake: false).decisions().map(\.why) == ["first"])
        #expect(try HistoryStore(directory: before, mayMake: false).decisions().map(\.why) == ["first", "second"])
    }

    @Test func aDirectoryInUseIsNotRestored() throws {
        let folder = Folder()
        let (state, file) = try backedUp(folder)
        let store = try HistoryStore(directory: state)
        let error = #expect(throws: HistoryError.self) { try StateBackup.restore(file, to: state, replaces: true) }
        #expect(error?.description.contains("in use") == true)
        #expect(try store.decisions().count == 1)
        // And whoever begins to record must not do so in the middle of it.
        let other = folder.file("other")
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        _ = try withExtendedLifetime(StateLock(directory: other, .alone)) {
            #expect(throws: HistoryError.self) { try HistoryStore(directory: other) }
        }
        _ = try HistoryStore(directory: other)
    }

    /// Every byte is looked at: where it is changed, nothing is restored, or it is one that means nothing.
    @Test func aDamagedBackupChangesNothing() throws {
        let folder = Folder()
        let (state, file) = try backedUp(folder)
        let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        let names = Folder()
        var refused = 0, places = Array(stride(from: 0, to: whole.count, by: 977)) + Array(0..<600)
        places += [whole.count - 1500, whole.count - 1100]
        for place in places {
            var bytes = whole
            bytes[place] ^= 0x11
            try Data(bytes).write(to: URL(fileURLWithPath: names.file("damaged")))
            do {
                _ = try StateBackup.restore(names.file("damaged"), to: names.file("state"), replaces: false)
                // Only what is not said of the content: names of owners, times, padding.
                #expect(try HistoryStore(directory: names.file("state"), mayMake: false).decisions().map(\.why) == ["first"])
                try FileManager.default.removeItem(atPath: names.file("state"))
            } catch {
                refused += 1
                #expect(((try? FileManager.default.contentsOfDirectory(atPath: names.file("state"))) ?? []).isEmpty)
            }
        }
        #expect(refused > places.count / 2)
        for length in [0, 1, 511, 512, 1024, whole.count / 2, whole.count - 1024] {
            try Data(whole[..<length]).write(to: URL(fileURLWithPath: names.file("damaged")))
            #expect(throws: (any Error).self) { try StateBackup.restore(names.file("damaged"), to: names.file("state"), replaces: false) }
        }
        #expect(try HistoryStore(directory: state, mayMake: false).decisions().count == 1)
    }

    @Test(arguments: ["../evil.sqlite", "/etc/evil.sqlite", ".hidden.sqlite", "a/b.sqlite", "evil", "Ä.sqlite", ""])
    func namesThatLeadElsewhereAreRefused(name: String) throws {
        let folder = Folder()
        let manifest = ArchiveManifest(
            kind: "backup", created: Date(), sekishoVersion: "1",
            files: [.init(name: name, bytes: 3, sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", about: "")])
        var bytes: [UInt8] = []
        let writer = try ArchiveWriter(manifest) { bytes += $0 }
        writer.add(name, Array("abc".utf8))
        writer.finish()
        try Data(bytes).write(to: URL(fileURLWithPath: folder.file("evil.tar")))
        #expect(throws: ArchiveError.self) { try StateBackup.restore(folder.file("evil.tar"), to: folder.file("state"), replaces: true) }
        #expect(((try? FileManager.default.contentsOfDirectory(atPath: folder.file("state"))) ?? []).isEmpty)
    }

    @Test func othersDatabasesAreLeftOut() throws {
        let folder = Folder()
        let (state, _) = try backedUp(folder)
        try DatabaseQueue(path: "\(state)/other.sqlite").write { try $0.execute(sql: "CREATE TABLE t (x)") }
        // One of Sekisho's that this program has no code for.
        try DatabaseQueue(path: "\(state)/alerts.sqlite").write { try $0.execute(sql: "PRAGMA application_id = 0x534B414C; CREATE TABLE t (x)") }
        try FileManager.default.createDirectory(atPath: folder.file("scratch2"), withIntermediateDirectories: true)
        let (manifest, leftOut) = try StateBackup.make(of: state, policy: nil, scratch: folder.file("scratch2"), version: "1") { _ in }
        #expect(manifest.files.map(\.name) == ["alerts.sqlite", "history.sqlite"] && leftOut == ["other.sqlite"])
    }

    @Test func sizesBeyondOctalDigitsAreReadAsWritten() throws {
        for bytes: UInt64 in [0, 1, 511, 1 << 33 - 1, 1 << 33, 1 << 41] {
            let read = try #require(try Tar.read(Tar.header("a", bytes: bytes, time: Date())))
            #expect(read.bytes == bytes && read.name == "a")
        }
    }
}
