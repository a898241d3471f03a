// How messages are written, byte for byte, and what a hostile one cannot do.

import Detection
import Foundation
import Testing

@testable import Evidence
@testable import Export

private func record(
    _ description: String = "applied \"bay3\"", fields: [String: String] = ["why": "ticket 4711"], category: String = "configuration_change"
) -> AuditRecord {
    AuditRecord(
        number: 17, time: 1_764_000_000_123_456, category: category, type: "policy_applied", description: description, who: "anna", fields: fields,
        hash: "3f2a9c01" + String(repeating: "0", count: 56))
}

private func message(_ record: AuditRecord) -> FeedMessage { FeedMessage(record, bridge: "bay3", host: "gate-1")! }

private func alert(_ story: String = "10.0.0.66 scans", device: String = "10.0.0.66", server: String = "10.0.0.2") throws -> Alert {
    let text = """
        {"id": 4, "kind": "scan", "severity": "high", "confidence": 0.987, "others": [], "begin": 0, "last": 1.5, "frames": 12, "attempts": 7,
         "device": {"address": "\(device)", "mac": "02:00:00:00:00:66", "side": "outside", "isKnown": false, "isMany": false},
         "story": "-", "behaviours": [], "techniques": [], "group": "g", "evidence": [
         {"client": "\(device)", "server": "\(server)", "service": "tcp/445", "attempts": 7, "frames": 12, "isDenied": true, "isAnswered": false,
          "first": 0, "last": 0}]}
        """
    var alert = try JSONDecoder().decode(Alert.self, from: Data(text.utf8))
    alert.story = story
    return alert
}

private func message(_ alert: Alert, _ step: AlertStep = .raised) -> FeedMessage {
    FeedMessage(alert, step, change: 9, time: 1_764_000_000_000_001, bridge: "bay3", host: "gate-1")
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

struct SyslogFormatTests {
    @Test func anEventIsThisLine() {
        #expect(
            text(SyslogFormat().bytes(message(record()), sequence: 3))
                == "<165>1 2025-11-24T16:00:00.123456Z gate-1 sekisho - policy_applied [meta sequenceId=\"3\"][sekisho@32473 id=\"bay3/audit/17/3f2a9c01\" "
                + "bridge=\"bay3\" category=\"configuration_change\" severity=\"low\" number=\"17\" type=\"policy_applied\" who=\"anna\" "
                + "hash=\"3f2a9c0100000000000000000000000000000000000000000000000000000000\"][fields@32473 why=\"ticket 4711\"] applied \"bay3\"")
    }

    @Test func anAlertIsThisLine() throws {
        #expect(
            text(SyslogFormat(facility: 13, enterprise: 99).bytes(message(try alert("scans Gerät")), sequence: 1))
                == "<107>1 2025-11-24T16:00:00.000001Z gate-1 sekisho - scan [meta sequenceId=\"1\"][sekisho@99 id=\"bay3/alert/4/9-1764000000000001/raised\" bridge=\"bay3\" "
                + "category=\"alert\" severity=\"high\" alert=\"4\" step=\"raised\" kind=\"scan\" confidence=\"0.99\" address=\"10.0.0.66\" "
                + "mac=\"02:00:00:00:00:66\" side=\"outside\" known=\"false\" begin=\"2001-01-01T00:00:00.000000Z\" last=\"2001-01-01T00:00:01.500000Z\" "
                + "attempts=\"7\" frames=\"12\" client=\"10.0.0.66\" server=\"10.0.0.2\" service=\"tcp/445\" denied=\"true\"] \u{FEFF}scans Gerät")
    }

    @Test func severitiesAreThoseOfSyslog() {
        #expect(Severity.allCases.map(SyslogFormat.severity) == [6, 5, 4, 3, 2])
        #expect(Severity.allCases.map(CEFFormat.severity) == [1, 3, 5, 8, 10])
    }

    @Test(arguments: [
        (#"a"b\c]d"#, #"a\"b\\c\]d"#), ("a\nb\r\nc\u{85}d\u{2028}e\u{0}f", "a b  c d e f"), ("", ""), ("装置", "装置"),
    ]) func valuesAreEscaped(_ value: String, _ expected: String) { #expect(SyslogFormat.escaped(value) == expected) }

    @Test func namesAreFitForThem() {
        #expect(SyslogFormat.name("a b=c]\"é") == "a_b_c____")
        #expect(SyslogFormat.name("") == "_" && SyslogFormat.name(String(repeating: "x", count: 99)).count == 32)
        #expect(SyslogFormat.word("", 5) == "-" && SyslogFormat.word("a b\u{1}cdef", 5) == "a_b_c")
    }

    /// Whatever is in a message: one line, UTF-8, no longer than it may be, and the structured data ends where it should.
    @Test func noMessageBreaksOut() throws {
        var random = SystemRandomNumberGenerator()
        let hostile = ["]", "\"", "\\", "\n", "\r", "[x@1 a=\"", " ", "é", "装", "\u{0}", "=", "|", "<34>1 ", "\u{1F600}"]
        for _ in 0..<300 {
            let words = (0..<Int.random(in: 0...400, using: &random)).map { _ in hostile.randomElement(using: &random)! }.joined()
            for (format, longest) in MessageFormat.allCases.flatMap({ [($0, 480), ($0, 600)] }) {
                let bytes = SyslogFormat(format: format, longest: longest).bytes(message(record(words, fields: [words: words, "why": words])), sequence: 1)
                #expect(bytes.count <= longest && !bytes.contains { $0 < 0x20 })
                #expect(String(validating: bytes, as: UTF8.self) != nil)
                let line = text(bytes)
                if format == .json, let begin = line.firstIndex(of: "{") {
                    #expect((try? JSONSerialization.jsonObject(with: Data(line[begin...].utf8))) != nil)
                }
            }
        }
    }
}

struct CEFFormatTests {
    @Test func anAlertIsThisLine() throws {
        #expect(
            text(CEFFormat(version: "1.2").bytes(message(try alert("a=b|c\\d\ne")), longest: 9999))
                == "CEF:0|Sekisho|sekisho|1.2|scan|scan|8|rt=1764000000000 externalId=bay3/alert/4/9-1764000000000001/raised cat=alert dvchost=gate-1 cs1Label=bridge cs1=bay3 "
                + "src=10.0.0.66 smac=02:00:00:00:00:66 dst=10.0.0.2 proto=TCP dpt=445 act=denied cnt=7 start=978307200000 end=978307201500 "
                + #"cs2Label=step cs2=raised cn1Label=alert cn1=4 cn2Label=frames cn2=12 cfp1Label=confidence cfp1=0.99 deviceInboundInterface=outside msg=a\=b|c\\d\ne"#)
    }

    @Test func anEventIsThisLine() {
        let line = text(CEFFormat(version: "1|2").bytes(message(record()), longest: 9999))
        #expect(line.hasPrefix(#"CEF:0|Sekisho|sekisho|1\|2|policy_applied|policy applied|3|rt=1764000000123 "#))
        #expect(line.contains(" suser=anna reason=ticket 4711 msg=applied \"bay3\" cn1Label=eventNumber cn1=17 "))
    }

    /// The keys src and dst are for IPv4.
    @Test func anIPv6AddressHasAKeyOfItsOwn() throws {
        let line = text(CEFFormat(version: "1").bytes(message(try alert(device: "2001:db8::66", server: "2001:db8::2")), longest: 9999))
        #expect(line.contains("c6a2Label=Source IPv6 Address c6a2=2001:db8::66") && line.contains("c6a3=2001:db8::2"))
        #expect(!line.contains(" src=") && !line.contains(" dst="))
    }

    @Test func aValueEndsWhereItShould() {
        #expect(CEFFormat.escaped("a=b\\c\r\nd\re\u{7}") == #"a\=b\\c\nd\ne "#)
        #expect(CEFFormat.escapedHeader("a|b\\c\nd=e") == #"a\|b\\c d=e"#)
    }
}

struct JSONFormatTests {
    private func object(_ bytes: [UInt8]) throws -> [String: Any] { try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]) }

    @Test func anEventHasTheNamesOfAnExport() throws {
        let audit = try #require(try object(JSONFormat.bytes(message(record())))["audit"] as? [String: Any])
        #expect(Set(audit.keys) == ["category", "description", "fields", "hash", "number", "time", "type", "who"])
        #expect(audit["time"] as? Int64 == 1_764_000_000_123_456 && audit["fields"] as? [String: String] == ["why": "ticket 4711"])
    }

    @Test func whatDoesNotFitIsLeftOutAndSaid() throws {
        for longest in [400, 600, 900, 1500, 5000] {
            let one = try object(JSONFormat.bytes(message(try alert(String(repeating: "\"é", count: 5000))), longest: longest))
            #expect(one["shortened"] as? Bool == true && one["id"] as? String == "bay3/alert/4/9-1764000000000001/raised")
            #expect(JSONFormat.bytes(message(try alert(String(repeating: "\"é", count: 5000))), longest: longest).count <= longest)
        }
        #expect(try object(JSONFormat.bytes(message(try alert()), longest: 2000))["shortened"] == nil)
    }
}

struct MessageTests {
    @Test func timesAreWrittenToTheMicrosecond() {
        #expect(FeedMessage.written(1_764_000_000_000_001) == "2025-11-24T16:00:00.000001Z")
        #expect(FeedMessage.written(-1) == "1969-12-31T23:59:59.999999Z")
    }

    /// An alert stands for itself; the audit log's word of it would be the same once more.
    @Test func anAlertIsNotToldTwice() {
        var one = record(category: "security")
        one.type = "alert"
        #expect(FeedMessage(one, bridge: "b", host: "h") == nil)
        one.type = "something of a later version"
        #expect(FeedMessage(one, bridge: "b", host: "h") == nil)
        one.category = "operation"
        #expect(FeedMessage(one, bridge: "b", host: "h")?.category == .operation)
    }

    @Test func anEndIsNoSecondAlarm() throws {
        let one = try alert()
        #expect(message(one, .raised).severity == .high && message(one, .changed).severity == .high)
        #expect(message(one, .ended).severity == .info && message(one, .acknowledged).severity == .info)
    }
}
