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
        return (try? encoder.encode(line)).map { [UInt8]($0) } ?? Array("{}".utf8)
    }
}
