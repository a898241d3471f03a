// A message as RFC 5424 has it. In the formats "cef" and "json" its text is that, and it has no structured data.

import Detection
import Foundation

struct SyslogFormat: Sendable {
    /// Set aside for examples (RFC 5612); whoever has a number of his own names it in the configuration.
    static let exampleEnterprise = 32_473
    /// local4: nothing else on a usual machine writes there.
    static let usualFacility = 20
    static let facilities: [String: Int] = Dictionary(
        uniqueKeysWithValues: [("user", 1), ("daemon", 3), ("auth", 4), ("authpriv", 10), ("audit", 13), ("alert", 14)]
            + (0...7).map { ("local\($0)", 16 + $0) })

    var format: MessageFormat = .rfc5424
    var facility = usualFacility
    var enterprise = exampleEnterprise
    /// Octets, the length before it not counted.
    var longest = 8192
    var version = ""

    /// - Parameter sequence: of the message among all that this process has sent there; it shows gaps.
    func bytes(_ message: FeedMessage, sequence: UInt32) -> [UInt8] {
        let priority = facility * 8 + Self.severity(message.severity)
        let header = "<\(priority)>1 \(FeedMessage.written(message.time)) \(Self.word(message.host, 255)) sekisho - \(Self.word(message.type, 32)) "
        var text = Array(header.utf8)
        switch format {
        case .rfc5424:
            var data = structuredData(message, sequence, withFields: true)
            let most = longest - 64 - text.count
            if data.utf8.count > most { data = structuredData(message, sequence, withFields: false, most: most) }
            text += Array((data + " ").utf8)
            let words = Self.line(message.text)
            // Where it is no ASCII it must be said that it is UTF-8.
            if !words.utf8.allSatisfy({ $0 < 0x80 }) { text += [0xEF, 0xBB, 0xBF] }
            text += Self.prefix(words, longest - text.count)
        case .cef:
            text += Array("- ".utf8)
            text += CEFFormat(version: version).bytes(message, longest: longest - text.count)
        case .json:
            text += Array("- ".utf8)
            text += JSONFormat.bytes(message, longest: longest - text.count)
        }
        return text
    }

    /// RFC 5424, 6.2.1; "emergency" and "alert" are not ours to say.
    static func severity(_ severity: Severity) -> Int {
        switch severity {
        case .critical: 2
        case .high: 3
        case .medium: 4
        case .low: 5
        case .info: 6
        }
    }

    /// - Parameter most: octets; values that do not fit are left out, the first ones last.
    private func structuredData(_ message: FeedMessage, _ sequence: UInt32, withFields: Bool, most: Int = .max) -> String {
        var text = "[meta sequenceId=\"\(sequence)\"][sekisho@\(enterprise)"
        func add(_ name: String, _ value: String?) {
            guard let value else { return }
            // Where it must be short, a name that somebody has made up is, too.
            let one = " \(name)=\"\(Self.escaped(withFields ? value : String(decoding: Self.prefix(value, 80), as: UTF8.self)))\""
            // And a bracket.
            guard text.utf8.count + one.utf8.count < most else { return }
            text += one
        }
        add("id", message.id)
        add("bridge", message.bridge)
        add("category", message.category.rawValue)
        add("severity", message.severity.name)
        var fields: [String: String] = [:]
        switch message.content {
        case .audit(let record):
            add("number", "\(record.number)")
            add("type", record.type)
            add("who", record.who)
            add("hash", record.hash)
            fields = record.fields
        case .alert(let alert, let step):
            add("alert", "\(alert.id)")
            add("step", step.rawValue)
            add("kind", alert.kind.rawValue)
            add("confidence", String(format: "%.2f", alert.confidence))
            if let device = alert.device {
                add("device", device.name)
                add("address", device.address)
                add("mac", device.mac)
                add("vendor", device.vendor)
                add("side", device.side)
                add("known", device.isKnown ? "true" : "false")
            }
            if !alert.others.isEmpty { add("others", "\(alert.others.count)") }
            add("begin", FeedMessage.written(FeedMessage.microseconds(alert.begin)))
            add("last", FeedMessage.written(FeedMessage.microseconds(alert.last)))
            add("end", alert.end.map { FeedMessage.written(FeedMessage.microseconds($0)) })
            add("attempts", "\(alert.attempts)")
            add("frames", "\(alert.frames)")
            add("client", alert.chief?.client)
            add("server", alert.chief?.server)
            add("service", alert.chief?.service)
            add("denied", alert.chief.map { $0.isDenied ? "true" : "false" })
            if !alert.techniques.isEmpty { add("techniques", alert.techniqueIDs) }
            add("acknowledged_by", alert.acknowledged?.who)
        case .skipped(let count): add("skipped", "\(count)")
        }
        text += "]"
        guard withFields, !fields.isEmpty else { return text }
        text += "[fields@\(enterprise)"
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) { add(Self.name(name), value) }
        return text + "]"
    }

    // MARK: - Escaping

    /// RFC 5424, 6.3.3: a value is UTF-8, in which these three have a backslash before them.
    static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in line(value).unicodeScalars {
            if scalar == "\"" || scalar == "\\" || scalar == "]" { text.unicodeScalars.append("\\") }
            text.unicodeScalars.append(scalar)
        }
        return text
    }

    /// A name of a value: printable ASCII without these, at most 32.
    static func name(_ name: String) -> String {
        let bytes = name.utf8.map { (0x21...0x7E).contains($0) && !"=]\"".utf8.contains($0) ? $0 : UInt8(ascii: "_") }
        return bytes.isEmpty ? "_" : String(decoding: bytes.prefix(32), as: UTF8.self)
    }

    /// Of the header: printable ASCII, "-" for nothing.
    static func word(_ text: String, _ most: Int) -> String {
        let bytes = text.utf8.map { (0x21...0x7E).contains($0) ? $0 : UInt8(ascii: "_") }
        return bytes.isEmpty ? "-" : String(decoding: bytes.prefix(most), as: UTF8.self)
    }

    /// One line: what a receiver might take for an end of the message, or a terminal for an order, becomes a blank.
    static func line(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { scalar in
            scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028 || scalar.value == 0x2029 ? " " : scalar
        }))
    }

    /// So many octets of a text at the most, no character in pieces.
    static func prefix(_ text: String, _ most: Int) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count > most else { return bytes }
        var end = max(0, most)
        while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
        return Array(bytes[..<end])
    }
}
