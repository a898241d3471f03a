// A message as one object of JSON on one line. "alert" is what `sekisho alerts --json` has, "audit" has the names of `sekisho audit export`.

import Detection
import Evidence
import Foundation
import Policy

enum JSONFormat {
    struct Event: Encodable {
        var category: String
        var description: String
        var fields: [String: String]
        var hash: String
        var number: Int64
        var time: Int64
        var type: String
        var who: String

        init(_ record: AuditRecord) {
            (category, description, fields, hash) = (record.category, record.description, record.fields, record.hash)
            (number, time, type, who) = (record.number, record.time, record.type, record.who)
        }
    }

    struct Line: Encodable {
        var id: String
        var at: String
        var host: String
        var bridge: String
        var category: String
        var type: String
        var severity: String
        var text: String
        /// Of an alert.
        var step: String?
        var alert: Alert?
        var audit: Event?
        /// How many were not told.
        var skipped: Int64?
        /// It did not fit: something of it is missing.
        var shortened: Bool?

        init(_ message: FeedMessage) {
            (id, at, host, bridge) = (message.id, FeedMessage.written(message.time), message.host, message.bridge)
            (category, type, severity, text) = (message.category.rawValue, message.type, message.severity.name, message.text)
            switch message.content {
            case .audit(let record): audit = Event(record)
            case .alert(let alert, let step):
                self.alert = alert
                self.step = step.rawValue
            case .skipped(let count): skipped = count
            }
        }
    }

    /// - Parameter longest: octets; what is told elsewhere in it, or is long, is left out until it fits.
    static func bytes(_ message: FeedMessage, longest: Int = .max) -> [UInt8] {
        var line = Line(message)
        var bytes = encoded(line)
        let steps: [(inout Line) -> Void] = [
            { $0.alert?.others = [] }, { $0.alert?.evidence = [] }, { $0.alert?.story = "" }, { $0.audit?.description = "" },
            { $0.text = String(decoding: SyslogFormat.prefix($0.text, max(100, $0.text.utf8.count + longest - bytes.count)), as: UTF8.self) },
            { $0.alert?.techniques = [] }, { $0.alert?.behaviours = [] }, { $0.audit?.fields = [:] }, { $0.text = String($0.text.prefix(50)) },
            { $0.alert = nil }, { $0.audit = nil }, { $0.text = "" },
        ]
        for step in steps where bytes.count > longest {
            line.shortened = true
            bytes = encoded(line)
            step(&line)
            bytes = encoded(line)
        }
        return bytes
    }

    private static func encoded(_ line: Line) -> [UInt8] {
        let encoder = MachineFormat.encoder(pretty: false)
        encoder.outputFormatting.insert(.withoutEscapingSlashes)
        // Strings, numbers and dates always can be.
        return (try? encoder.encode(line)).map { escaped([UInt8]($0)) } ?? Array("{}".utf8)
    }

    /// JSON allows U+007F to U+009F, U+2028 and U+2029 as they are, but terminals obey the former, and readers of lines end one at the others.
    /// They are nowhere but in strings.
    static func escaped(_ json: [UInt8]) -> [UInt8] {
        guard json.contains(where: { $0 == 0x7F || $0 == 0xC2 || $0 == 0xE2 }) else { return json }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(json.count)
        var at = 0
        while at < json.count {
            switch (json[at], at + 1 < json.count ? json[at + 1] : 0, at + 2 < json.count ? json[at + 2] : 0) {
            case (0x7F, _, _):
                bytes += Array("\\u007f".utf8)
                at += 1
            case (0xC2, let second, _) where (0x80...0x9F).contains(second):
                bytes += Array("\\u00\(String(second, radix: 16))".utf8)
                at += 2
            case (0xE2, 0x80, let third) where third == 0xA8 || third == 0xA9:
                bytes += Array("\\u202\(third - 0xA0)".utf8)
                at += 3
            case (let one, _, _):
                bytes.append(one)
                at += 1
            }
        }
        return bytes
    }
}
