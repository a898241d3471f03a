// What the audit log holds, and how it is bound together: each event's hash covers the hash of the event before.

import Crypto
import Foundation

/// What kind of thing an event is; the first three are those that SEMI E187 asks of logs.
public enum AuditCategory: String, Sendable, CaseIterable {
    case accessControl = "access_control"
    case configurationChange = "configuration_change"
    case systemError = "system_error"
    case operation
    case security
}

public enum AuditType: String, Sendable, CaseIterable {
    case start, stop
    case policyApplied = "policy_applied"
    case policyRefused = "policy_refused"
    case policyConfirmed = "policy_confirmed"
    /// One that nobody confirmed gave way to the one before; the `policyApplied` of that follows.
    case policyUndone = "policy_undone"
    case signatureRefused = "signature_refused"
    case modeChanged = "mode_changed"
    case failureEntered = "failure_entered"
    case failureLeft = "failure_left"
    case ruleExpired = "rule_expired"
    /// The clock was set back: a rule's time is not over.
    case ruleReturned = "rule_returned"
    case clockChanged = "clock_changed"
    case accessRefused = "access_refused"
    case approved, rejected, forgotten
    /// Devices were said to stand in for one another.
    case alike
    case decisionUndone = "decision_undone"
    case quarantine, release, isolate
    case alert
    /// The log itself is not what was written.
    case logDamaged = "log_damaged"
    /// Events that found no room while the disk took nothing.
    case eventsLost = "events_lost"

    public var category: AuditCategory {
        switch self {
        case .start, .stop: .operation
        case .policyApplied, .policyConfirmed, .policyUndone, .policyRefused, .modeChanged, .ruleExpired, .ruleReturned, .clockChanged, .approved, .rejected,
            .forgotten, .alike, .decisionUndone: .configurationChange
        case .signatureRefused, .accessRefused, .quarantine, .release, .isolate: .accessControl
        case .failureEntered, .failureLeft, .logDamaged, .eventsLost: .systemError
        case .alert: .security
        }
    }
}

/// One thing that happened, before it is written.
public struct AuditEvent: Sendable, Equatable {
    /// Microseconds since 1970: JSON's numbers hold them exactly.
    public var time: Int64
    public var type: AuditType
    public var description: String
    /// The account; "sekisho" for what the bridge did by itself.
    public var who: String
    public var fields: [String: String]

    public init(_ type: AuditType, _ description: String, who: String = AuditEvent.bridge, fields: [String: String] = [:], time: Int64 = AuditEvent.now) {
        (self.type, self.description, self.who, self.fields, self.time) = (type, description, who, fields, time)
    }

    public static let bridge = "sekisho"
    public static var now: Int64 { Int64((Date().timeIntervalSince1970 * 1e6).rounded()) }
}

/// An event as it stands in the log.
public struct AuditRecord: Sendable, Equatable {
    public var number: Int64
    public var time: Int64
    public var category: String
    /// As written: a later version may know more types.
    public var type: String
    public var description: String
    public var who: String
    public var fields: [String: String]
    public var hash: String
}

/// An event's columns as the file has them, byte for byte.
struct StoredEvent {
    var number: Int64
    var time: [UInt8]
    var category: [UInt8]
    var type: [UInt8]
    var description: [UInt8]
    var who: [UInt8]
    var fields: [UInt8]

    init(number: Int64, _ event: AuditEvent) {
        self.number = number
        (time, category, type) = (Array("\(event.time)".utf8), Array(event.type.category.rawValue.utf8), Array(event.type.rawValue.utf8))
        (description, who, fields) = (Array(event.description.utf8), Array(event.who.utf8), CanonicalJSON.object(event.fields))
    }

    init(number: Int64, time: [UInt8], category: [UInt8], type: [UInt8], description: [UInt8], who: [UInt8], fields: [UInt8]) {
        (self.number, self.time, self.category, self.type) = (number, time, category, type)
        (self.description, self.who, self.fields) = (description, who, fields)
    }

    /// The event as RFC 8785 writes JSON: what is hashed, or, with its hash, a line of an export.
    func canonical(previous: String, hash: String? = nil) -> [UInt8] {
        var text = Array(#"{"category":"#.utf8)
        CanonicalJSON.append(category, to: &text)
        text += #","description":"#.utf8
        CanonicalJSON.append(description, to: &text)
        text += #","fields":"#.utf8
        text += fields
        if let hash { text += #","hash":"\#(hash)""#.utf8 }
        text += #","number":\#(number),"previous":"\#(previous)","time":"#.utf8
        text += time
        text += #","type":"#.utf8
        CanonicalJSON.append(type, to: &text)
        text += #","who":"#.utf8
        CanonicalJSON.append(who, to: &text)
        text += "}".utf8
        return text
    }

    func digest(previous: String) -> SHA256.Digest { SHA256.hash(data: canonical(previous: previous)) }

    func record(hash: String) -> AuditRecord {
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        let known = try? JSONDecoder().decode([String: String].self, from: Data(fields))
        return AuditRecord(
            number: number, time: Int64(text(time)) ?? 0, category: text(category), type: text(type), description: text(description), who: text(who),
            fields: known ?? [:], hash: hash)
    }
}

/// What stands before the first event.
let noHash = String(repeating: "0", count: 64)

/// RFC 8785, as far as it is needed: objects of strings.
enum CanonicalJSON {
    /// - Parameter text: UTF-8.
    static func append(_ text: some Sequence<UInt8>, to result: inout [UInt8]) {
        result.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), byte]
            case 0x08: result += #"\b"#.utf8
            case 0x09: result += #"\t"#.utf8
            case 0x0A: result += #"\n"#.utf8
            case 0x0C: result += #"\f"#.utf8
            case 0x0D: result += #"\r"#.utf8
            case 0..<0x20: result += #"\u00\#([byte].hex)"#.utf8
            default: result.append(byte)
            }
        }
        result.append(UInt8(ascii: "\""))
    }

    /// Names are ASCII.
    static func object(_ fields: [String: String]) -> [UInt8] {
        var text = [UInt8(ascii: "{")]
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
            if text.count > 1 { text.append(UInt8(ascii: ",")) }
            append(name.utf8, to: &text)
            text.append(UInt8(ascii: ":"))
            append(value.utf8, to: &text)
        }
        return text + [UInt8(ascii: "}")]
    }
}

extension Sequence<UInt8> {
    /// Two lower-case digits a byte.
    var hex: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}

/// What a policy's text is known by.
public func contentHash(_ text: [UInt8]) -> String { SHA256.hash(data: text).hex }
