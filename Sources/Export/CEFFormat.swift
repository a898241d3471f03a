// A message in ArcSight's Common Event Format, version 0.

import Detection
import Foundation

struct CEFFormat: Sendable {
    /// Of the program.
    var version: String

    /// What does not fit is left out from the end, the least telling first.
    func bytes(_ message: FeedMessage, longest: Int) -> [UInt8] {
        let isAlert = message.category == .alert
        let header = ["Sekisho", "sekisho", version, message.type, isAlert ? Self.name(message) : message.type.replacingOccurrences(of: "_", with: " ")]
            .map(Self.escapedHeader).joined(separator: "|")
        var text = Array("CEF:0|\(header)|\(Self.severity(message.severity))|".utf8)
        var isFirst = true
        for (key, value) in extensions(message) {
            let one = Array("\(isFirst ? "" : " ")\(key)=\(Self.escaped(value))".utf8)
            guard text.count + one.count <= longest else {
                // The story, shortened, rather than nothing.
                if key == "msg", longest - text.count > 100 {
                    let short = Self.escaped(String(value.prefix((longest - text.count) / 8)))
                    text += SyslogFormat.prefix("\(isFirst ? "" : " ")msg=\(short)", longest - text.count)
                }
                continue
            }
            text += one
            isFirst = false
        }
        return text
    }

    /// 0 to 10; from 7 on high, from 9 on very high.
    static func severity(_ severity: Severity) -> Int {
        switch severity {
        case .info: 1
        case .low: 3
        case .medium: 5
        case .high: 8
        case .critical: 10
        }
    }

    private static func name(_ message: FeedMessage) -> String {
        guard case .alert(let alert, let step) = message.content else { return message.type }
        return step == .raised ? alert.kind.text : "\(alert.kind.text), \(step.rawValue)"
    }

    private func extensions(_ message: FeedMessage) -> [(String, String)] {
        var all: [(String, String)] = [
            ("rt", "\(message.time / 1000)"), ("externalId", message.id), ("cat", message.category.rawValue), ("dvchost", message.host),
        ]
        func add(_ key: String, _ value: String?) { if let value, !value.isEmpty { all.append((key, value)) } }
        func custom(_ key: String, _ label: String, _ value: String?) {
            guard let value, !value.isEmpty else { return }
            all += [("\(key)Label", label), (key, value)]
        }
        /// The keys for addresses take IPv4 only.
        func address(_ key: String, _ sixKey: String, _ sixLabel: String, _ value: String?) {
            guard let value else { return }
            if value.contains(":") { custom(sixKey, sixLabel, value) } else { add(key, value) }
        }
        custom("cs1", "bridge", message.bridge)
        switch message.content {
        case .audit(let record):
            add("suser", record.who)
            add("reason", record.fields["why"])
            add("msg", record.description)
            custom("cn1", "eventNumber", "\(record.number)")
            custom("cs3", "eventHash", record.hash)
            let rest = record.fields.filter { $0.key != "why" }
            if !rest.isEmpty {
                custom("cs4", "fields", rest.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; "))
            }
        case .alert(let alert, let step):
            let chief = alert.chief
            // Who does it; of what stands for many, or the bridge, there is none.
            address("src", "c6a2", "Source IPv6 Address", alert.device?.address ?? (alert.device?.mac == nil ? chief?.client : nil))
            add("smac", alert.device?.mac)
            add("shost", alert.device?.name)
            if let chief {
                address("dst", "c6a3", "Destination IPv6 Address", chief.server)
                let parts = chief.service.split(separator: "/", maxSplits: 1)
                if let kind = parts.first { add("proto", kind.uppercased()) }
                if parts.count == 2, UInt16(parts[1]) != nil { add("dpt", String(parts[1])) }
                add("act", chief.isDenied ? "denied" : "allowed")
            }
            add("cnt", "\(alert.attempts)")
            add("start", "\(FeedMessage.microseconds(alert.begin) / 1000)")
            add("end", "\(FeedMessage.microseconds(alert.end ?? alert.last) / 1000)")
            custom("cs2", "step", step.rawValue)
            custom("cs3", "techniques", alert.techniqueIDs)
            custom("cn1", "alert", "\(alert.id)")
            custom("cn2", "frames", "\(alert.frames)")
            custom("cfp1", "confidence", String(format: "%.2f", alert.confidence))
            add("deviceInboundInterface", alert.device?.side)
            add("msg", alert.story)
        case .skipped(let count):
            add("cnt", "\(count)")
            add("msg", message.text)
        }
        return all
    }

    // MARK: - Escaping

    /// Of the header: pipes and backslashes.
    static func escapedHeader(_ text: String) -> String {
        SyslogFormat.line(text).replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "|", with: "\\|")
    }

    /// Of a value: equals signs and backslashes; lines as \n.
    static func escaped(_ text: String) -> String {
        let lines = text.replacingOccurrences(of: "\r\n", with: "\n").replacingOccurrences(of: "\r", with: "\n")
            .split(separator: "\n", omittingEmptySubsequences: false)
        return lines.map { SyslogFormat.line(String($0)).replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "=", with: "\\=") }
            .joined(separator: "\\n")
    }
}
