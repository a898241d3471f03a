// What becomes of messages at the edges: files that end in the middle of a line, characters that are orders, too little room.

import Foundation
import Testing

@testable import Evidence
@testable import Export

private func message(_ text: String, who: String = "anna", host: String = "gate-1") throws -> FeedMessage {
    let record = AuditRecord(
        number: 17, time: 1_764_000_000_123_456, category: "configuration_change", type: "policy_applied", description: text, who: who, fields: [:],
        hash: "3f2a9c01" + String(repeating: "0", count: 56))
    return try #require(FeedMessage(record, bridge: "bay3", host: host))
}

struct FileExporterTests {
    private func write(_ text: String, to path: String) async throws {
        let delivery = DeliveryOptions(name: "lines", events: Set(FeedCategory.choices), mostWaiting: 10, beginsAtStart: false)
        let exporter = FileExporter(FileOptions(delivery: delivery, path: path, format: .json), version: "1")
        try await exporter.open()
        #expect(try await exporter.send([message(text), message(text)]).count == 2)
        #expect(await exporter.close() == 2)
    }

    /// As a full disk or a killed process leaves it.
    @Test func halfALineSpoilsNoOther() async throws {
        let path = NSTemporaryDirectory() + "/sekisho-lines-\(UInt64.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data("{\"half".utf8).write(to: URL(fileURLWithPath: path))
        try await write("first", to: path)
        try await write("second", to: path)
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false)
        try #require(lines.count == 6)
        #expect(lines[0] == "{\"half" && lines[5] == "")
        for line in lines[1...4] { #expect((try? JSONSerialization.jsonObject(with: Data(line.utf8))) != nil, "\(line)") }
    }
}

struct EscapingTests {
    @Test func noCharacterOfJSONIsAnOrder() throws {
        let text = "\u{7E}\u{7F}\u{80}\u{9B}31m\u{9F}\u{A0}é\u{2027}\u{2028}\u{2029}\u{202A}装置"
        let bytes = JSONFormat.bytes(try message(text))
        let line = try #require(String(validating: bytes, as: UTF8.self))
        #expect(line.contains(#""text":"~\u007f\u0080\u009b31m\u009f"# + "\u{A0}é\u{2027}" + #"\u2028\u2029"# + "\u{202A}装置\""))
        let object = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        #expect(object["text"] as? String == text)
        // What ends in the middle of a character is left as it is.
        #expect(JSONFormat.escaped([0xC2]) == [0xC2] && JSONFormat.escaped([0xE2, 0x80]) == [0xE2, 0x80])
    }

    @Test func whereThereIsLittleRoomTheTextStays() throws {
        let one = try message("applied", who: String(repeating: "]", count: 100), host: String(repeating: "h", count: 200))
        let line = String(decoding: SyslogFormat(longest: 480).bytes(one, sequence: 1), as: UTF8.self)
        #expect(line.utf8.count <= 480)
        #expect(line.contains(#" id="bay3/audit/17/3f2a9c01""#) && line.hasSuffix("] applied") && !line.contains("hash="), "\(line)")
    }
}
