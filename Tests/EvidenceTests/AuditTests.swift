import Baseline
import Foundation
import GRDB
import Policy
import Synchronization
import Testing

@testable import Evidence

/// A directory that goes away with the test.
final class StateDirectory: Sendable {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "/sekisho-audit-\(UInt64.random(in: 0 ... .max))"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var file: String { path + "/audit.sqlite" }

    func store() throws -> AuditStore { try AuditStore(directory: path) }

    /// With another program, and without what keeps the log from being changed.
    func tamper(_ sql: String, _ arguments: StatementArguments = StatementArguments()) throws {
        let database = try DatabaseQueue(path: file)
        try database.inDatabase { db in
            for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'trigger'") { try db.execute(sql: "DROP TRIGGER \(name)") }
            try db.execute(sql: sql, arguments: arguments)
            for statement in AuditStore.schema where statement.hasPrefix("CREATE TRIGGER") { try db.execute(sql: statement) }
        }
        try database.close()
    }

    func export() throws -> Data {
        var text = Data()
        _ = try store().export { text.append(contentsOf: $0) }
        return text
    }
}

private func someEvents(_ count: Int) -> [AuditEvent] {
    (0..<count).map { number in
        AuditEvent(
            AuditType.allCases[number % AuditType.allCases.count], "event \(number): \"quoted\" \\ ü 関所\n\u{1}\0x", who: "tanaka (as root)",
            fields: number % 3 == 0 ? [:] : ["version": "\(number)", "why": "a\tb\0c", "zone": "\u{2028}é"], time: 1_764_000_000_000_000 + Int64(number))
    }
}

private func read(_ text: String) throws -> PolicyDocument { try #require(PolicyReader.read([UInt8](text.utf8), now: 0).document) }

@Suite struct AuditTests {
    @Test func whatIsWrittenIsReadAndIntact() throws {
        let directory = StateDirectory()
        let events = someEvents(60)
        let head = try directory.store().append(Array(events[..<20]))
        try directory.store().append(Array(events[20...]))
        var records: [AuditRecord] = []
        try directory.store().forEach { records.append($0) }
        #expect(records.map(\.number) == Array(1...60))
        #expect(zip(records, events).allSatisfy { record, event in
            record.description == event.description && record.who == event.who && record.fields == event.fields && record.time == event.time
                && record.type == event.type.rawValue && record.category == event.type.category.rawValue
        })
        let check = try AuditCheck(directory.store(), expecting: head.hash)
        #expect(check.isIntact && check.events == 60 && check.head == records.last?.hash && check.anchor == .isEarlier(number: 20, since: 40))
        #expect(try AuditCheck(directory.store(), expecting: check.head).anchor == .isHead)
    }

    @Test func typesAndTimesAreChosen() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(60))
        var numbers: [Int64] = []
        try directory.store().forEach(types: ["start", "system_error"]) { numbers.append($0.number) }
        let meant: Set<AuditType> = [.start, .failureEntered, .failureLeft, .logDamaged, .eventsLost]
        #expect(numbers == (1...60).filter { meant.contains(AuditType.allCases[($0 - 1) % AuditType.allCases.count]) }.map(Int64.init))
        numbers = []
        try directory.store().forEach(times: 1_764_000_000_000_010..<1_764_000_000_000_015) { numbers.append($0.number) }
        #expect(numbers == [11, 12, 13, 14, 15])
    }

    @Test func nothingIsChangedOrRemovedByOrdinaryMeans() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(3), texts: [[1, 2, 3]])
        let database = try DatabaseQueue(path: directory.file)
        for statement in [
            "UPDATE event SET who = 'x' WHERE number = 2", "DELETE FROM event WHERE number = 3", "DELETE FROM event",
            "INSERT OR REPLACE INTO event SELECT number, time, category, type, 'x', who, fields, hash FROM event WHERE number = 2",
            "INSERT INTO event SELECT 9, time, category, type, 'x', who, fields, hash FROM event WHERE number = 2",
            "UPDATE policy_text SET text = x'00'", "DELETE FROM policy_text", "INSERT OR REPLACE INTO policy_text SELECT sha256, x'00' FROM policy_text",
        ] {
            #expect(throws: DatabaseError.self, "\(statement)") { try database.write { try $0.execute(sql: statement) } }
        }
        #expect(try AuditCheck(directory.store()).isIntact)
    }

    /// Every byte of every column, of the first row and the last.
    @Test(arguments: ["number", "time", "category", "type", "description", "who", "fields", "hash"])
    func aChangedByteIsFound(column: String) throws {
        for number in [1, 8] {
            let directory = StateDirectory()
            try directory.store().append(someEvents(8))
            #expect(try AuditCheck(directory.store()).isIntact)
            let database = try DatabaseQueue(path: directory.file)
            let isText = !["number", "time", "hash"].contains(column)
            let value = try #require(try database.read {
                try Row.fetchOne($0, sql: "SELECT \(isText ? "CAST(\(column) AS BLOB)" : column) FROM event WHERE number = \(number)")?[0] as DatabaseValue?
            })
            try database.close()
            var changed: [DatabaseValue] = []
            switch value.storage {
            case .int64(let one): changed = (0..<40).map { one ^ (1 << $0) }.filter { column == "time" || !(1...8).contains($0) }.map(\.databaseValue)
            case .blob(let data):
                for at in data.indices {
                    var data = data
                    data[at] ^= 1
                    changed.append(data.databaseValue)
                }
                // The last of these: what a reader of C strings does not see.
                changed += [data.dropLast().databaseValue, (data + [0x20]).databaseValue, (data + [0]).databaseValue]
            default: Issue.record("no value")
            }
            for new in changed {
                let place = isText ? "CAST(? AS TEXT)" : "?"
                try directory.tamper("UPDATE event SET \(column) = \(place) WHERE number = ?", [new, number])
                let check = try AuditCheck(directory.store())
                #expect(!check.isIntact && !check.problems.isEmpty, "\(column) of \(number): \(new)")
                let from = column == "number" ? (Int64.fromDatabaseValue(new) ?? 0) : Int64(number)
                try directory.tamper("UPDATE event SET \(column) = \(place) WHERE number = ?", [value, from])
                #expect(try AuditCheck(directory.store()).isIntact)
            }
        }
    }

    /// Whatever byte of the file changes: either the file cannot be read, or what is read is what was written, or it is found.
    @Test func aChangedByteOfTheFileIsFound() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(30), texts: [Array("a policy".utf8)])
        try DatabaseQueue(path: directory.file).inDatabase { try $0.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)") }
        let whole = try directory.export()
        let original = try Data(contentsOf: URL(fileURLWithPath: directory.file))
        var random = SystemRandomNumberGenerator()
        var found = 0
        for _ in 0..<300 {
            let at = Int.random(in: 0..<original.count, using: &random)
            if original[at] == 0 { continue }
            var bytes = original
            bytes[at] ^= UInt8.random(in: 1...255, using: &random)
            let copy = StateDirectory()
            try bytes.write(to: URL(fileURLWithPath: copy.file))
            guard let store = try? copy.store(), let check = try? AuditCheck(store) else {
                found += 1
                continue
            }
            if !check.isIntact {
                found += 1
                continue
            }
            #expect(try copy.export() == whole, "byte \(at) of \(original.count)")
        }
        #expect(found > 30)
    }

    @Test func aRemovedRowIsFound() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(9))
        let head = try directory.store().head().hash
        try directory.tamper("DELETE FROM event WHERE number BETWEEN 4 AND 5")
        #expect(try AuditCheck(directory.store()).problems.map(\.text) == ["events 4 to 5 are missing before it"])
        try directory.tamper("DELETE FROM event WHERE number < 4")
        #expect(try AuditCheck(directory.store()).problems.map(\.text) == ["events 1 to 5 are missing before it"])
        // At the end only who has kept the head finds it.
        let other = StateDirectory()
        try other.store().append(someEvents(9))
        let kept = try other.store().head().hash
        #expect(kept == head)
        try other.tamper("DELETE FROM event WHERE number > 7")
        #expect(try AuditCheck(other.store()).isIntact)
        let check = try AuditCheck(other.store(), expecting: kept)
        #expect(!check.isIntact && check.anchor == .isMissing)
    }

    @Test func aRewrittenLogHasAnotherHead() throws {
        let directory = StateDirectory(), other = StateDirectory()
        var events = someEvents(9)
        let head = try directory.store().append(events).hash
        events[3].who = "nobody"
        try other.store().append(events)
        #expect(try AuditCheck(other.store()).isIntact)
        #expect(try AuditCheck(other.store(), expecting: head).anchor == .isMissing)
    }

    @Test func triggersAndTextsAreChecked() throws {
        let directory = StateDirectory()
        let text = Array("version = 1".utf8)
        let policy = AppliedPolicy(document: try read("version = 1"), text: text, file: "p.toml", signature: nil, key: nil)
        try directory.store().append([PolicyChange.event(policy, version: 1, mode: "enforce", after: nil, who: "root", fields: [:])], texts: [text])
        #expect(try AuditCheck(directory.store()).isIntact)
        try directory.tamper("UPDATE policy_text SET text = x'00'")
        #expect(try AuditCheck(directory.store()).problems.map(\.text).contains { $0.hasPrefix("the text of the policy") })
        #expect(throws: StateError.self) { try directory.store().text(of: contentHash(text)) }
        try directory.tamper("DELETE FROM policy_text")
        #expect(try AuditCheck(directory.store()).problems.map(\.text) == ["the text of its policy is missing"])
        try DatabaseQueue(path: directory.file).write { try $0.execute(sql: "DROP TRIGGER event_update") }
        #expect(try AuditCheck(directory.store()).problems.map(\.text).contains("its tables or triggers are not as Sekisho makes them"))
    }

    @Test func anExportIsCheckedByteForByte() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(5))
        let text = try directory.export()
        let check = AuditCheck(export: text, expecting: try directory.store().head().hash)
        #expect(check.isIntact && check.events == 5 && check.anchor == .isHead)
        for at in text.indices {
            var changed = text
            changed[at] ^= 1
            #expect(!AuditCheck(export: changed).isIntact, "byte \(at)")
        }
        let lines = text.split(separator: UInt8(ascii: "\n"))
        #expect(!AuditCheck(export: text.dropLast()).isIntact)
        #expect(!AuditCheck(export: text + Data("{}\n".utf8)).isIntact)
        #expect(!AuditCheck(export: Data((lines[..<3] + lines[4...]).joined(separator: [10])) + [10]).isIntact)
    }

    @Test func manyWritersKeepTheChain() async throws {
        let directory = StateDirectory()
        _ = try directory.store()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<6 {
                group.addTask {
                    let store = try directory.store()
                    for number in 0..<25 {
                        try store.append((0...number % 3).map { AuditEvent(.alert, "\(writer) \(number) \($0)") })
                    }
                }
            }
            try await group.waitForAll()
        }
        let check = try AuditCheck(directory.store())
        #expect(check.isIntact && check.events == 6 * (25 + 8 + 16))
    }

    @Test func aDamagedFileStaysAsItIs() throws {
        let directory = StateDirectory()
        try directory.store().append(someEvents(200))
        try DatabaseQueue(path: directory.file).inDatabase { try $0.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)") }
        let whole = try Data(contentsOf: URL(fileURLWithPath: directory.file))
        var holed = whole
        holed.replaceSubrange(whole.count - 8192..<whole.count - 4096, with: Data(repeating: 0x5A, count: 4096))
        for damage in [Data("not a database at all, but long enough to be looked at as one".utf8), Data(count: 5000), holed] {
            try damage.write(to: URL(fileURLWithPath: directory.file))
            let error = #expect(throws: StateError.self) { try directory.store() }
            #expect(error?.description.contains("it is damaged, or no audit log of Sekisho's") == true)
            #expect(try Data(contentsOf: URL(fileURLWithPath: directory.file)) == damage)
        }
    }

    @Test func anotherProgramsFileStaysAsItIs() throws {
        let directory = StateDirectory()
        try DatabaseQueue(path: directory.file).write { try $0.execute(sql: "CREATE TABLE event (x)") }
        let error = #expect(throws: StateError.self) { try directory.store() }
        #expect(error?.description.contains("another program's database") == true)
        #expect(throws: StateError.self) { try AuditStore(directory: directory.path + "/nowhere", mayMake: false) }
    }

    @Test func aPolicyIsToldByItsMeaning() throws {
        func policy(_ text: String) throws -> AppliedPolicy {
            AppliedPolicy(document: try read(text), text: Array(text.utf8), file: "p.toml", signature: nil, key: nil)
        }
        func rule(_ id: String, _ port: Int) -> String { "[[allow]]\nid = \"\(id)\"\nfrom = \"10.0.0.1\"\nto = \"10.0.0.2\"\nservice = \"tcp/\(port)\"\n" }
        let before = try policy("version = 1\nmode = \"monitor\"\n" + rule("a", 1) + rule("b", 2))
        let after = try policy("version = 1\n" + rule("a", 1) + rule("c", 3))
        let directory = StateDirectory()
        let events = [
            PolicyChange.event(before, version: 1, mode: "monitor", after: nil, who: "root", fields: [:]),
            PolicyChange.event(after, version: 2, mode: "enforce", after: before.document, who: "tanaka (as root)", fields: ["why": "ticket 4711"]),
        ]
        #expect(events[1].fields["change"] == "it lets 1 kind of conversation more pass, 1 fewer; mode changes from monitor to enforce")
        #expect(events[1].fields["changes"] == """
            + 10.0.0.1 → 10.0.0.2 tcp/3 (rule "c")
            - 10.0.0.1 → 10.0.0.2 tcp/2 (rule "b")
            ~ mode mode: monitor → enforce
            """)
        try directory.store().append(events, texts: [before.text, after.text])
        let versions = try directory.store().versions()
        #expect(versions.map(\.number) == [1, 2] && versions[1].who == "tanaka (as root)" && versions[1].why == "ticket 4711" && versions[1].rules == 2)
        #expect(try directory.store().text(of: versions[0].sha256) == before.text)
        #expect(try directory.store().lastVersion()?.number == 2 && directory.store().lastNumber() == 2 && directory.store().lastMode() == "enforce")
    }
}
