// One thing to tell, before anybody has decided how it is written.

import Detection
import Evidence
import Foundation
import Policy

/// What has become of an alert, as somebody else is told: when it begins, becomes graver, ends, and when a person has looked at it.
public enum AlertStep: String, Codable, Sendable { case raised, changed, ended, acknowledged }

public struct FeedMessage: Sendable {
    public enum Content: Sendable {
        case audit(AuditRecord)
        case alert(Alert, AlertStep)
        /// So many were not told, because too many waited.
        case skipped(Int64)
    }

    /// The same whenever the same is told again: "bay3/audit/17/3f2a9c01".
    public var id: String
    /// Microseconds since 1970.
    public var time: Int64
    public var category: FeedCategory
    /// Of the audit log's events, or kind of alert.
    public var type: String
    public var severity: Severity
    public var text: String
    public var content: Content
    public var bridge: String
    public var host: String

    /// nil: alerts stand for themselves, and what a later version writes is left to that.
    init?(_ record: AuditRecord, bridge: String, host: String) {
        guard record.type != AuditType.alert.rawValue, let category = FeedCategory(rawValue: record.category), category != .alert, category != .feed
        else { return nil }
        id = "\(bridge)/audit/\(record.number)/\(record.hash.prefix(8))"
        (time, self.category, type, text) = (record.time, category, record.type, record.description)
        severity = Self.severity(AuditType(rawValue: record.type), category)
        content = .audit(record)
        (self.bridge, self.host) = (bridge, host)
    }

    /// - Parameters:
    ///   - change: its number among all changes of alerts.
    ///   - time: microseconds since 1970, when it was noticed.
    init(_ alert: Alert, _ step: AlertStep, change: Int64, time: Int64, bridge: String, host: String) {
        // Numbers begin again where stores do: with the time they are of one change only.
        id = "\(bridge)/alert/\(alert.id)/\(change)-\(time)/\(step.rawValue)"
        (self.time, category, type, text) = (time, .alert, alert.kind.rawValue, alert.story)
        // That it is over is no second alarm.
        severity = step == .raised || step == .changed ? alert.severity : .info
        content = .alert(alert, step)
        (self.bridge, self.host) = (bridge, host)
    }

    /// - Parameter total: all that this destination was not told, ever.
    init(skipped count: Int64, total: Int64, to destination: String, time: Int64, bridge: String, host: String) {
        id = "\(bridge)/feed/\(destination)/skipped/\(total)"
        (self.time, category, type, severity) = (time, .feed, "events_skipped", .medium)
        text = "\(count) event\(count == 1 ? " was" : "s were") not sent to \(destination): more waited than are kept"
        content = .skipped(count)
        (self.bridge, self.host) = (bridge, host)
    }

    /// A change of an alert that the feed's memory cannot give any more.
    init(unreadable change: Int64, time: Int64, bridge: String, host: String) {
        id = "\(bridge)/feed/alert-change/\(change)-\(time)/unreadable"
        (self.time, category, type, severity) = (time, .feed, "events_skipped", .medium)
        text = "a change of an alert was not sent: number \(change) in the feed's memory cannot be read"
        content = .skipped(1)
        (self.bridge, self.host) = (bridge, host)
    }

    private static func severity(_ type: AuditType?, _ category: FeedCategory) -> Severity {
        switch type {
        case .logDamaged, .failureEntered: .high
        case .eventsLost, .signatureRefused, .accessRefused, .quarantine, .isolate: .medium
        case .policyRefused, .policyUndone, .modeChanged, .clockChanged, .ruleExpired, .ruleReturned, .policyApplied, .release: .low
        case nil: category == .systemError ? .medium : .low
        default: .info
        }
    }

    /// "2026-11-24T06:00:00.123456Z", as RFC 3339 has it.
    public static func written(_ microseconds: Int64) -> String {
        let seconds = microseconds >= 0 ? microseconds / 1_000_000 : (microseconds - 999_999) / 1_000_000
        let fraction = String(microseconds - seconds * 1_000_000)
        return PolicyExport.written(seconds).dropLast() + "." + String(repeating: "0", count: 6 - fraction.count) + fraction + "Z"
    }

    static func microseconds(_ date: Date) -> Int64 { Int64((date.timeIntervalSince1970 * 1e6).rounded()) }
}

extension Alert {
    /// "T0846 T0888": ids of the version that other systems know best.
    var techniqueIDs: String { techniques.compactMap { $0.ids.first?.id }.joined(separator: " ") }

    /// The most active conversation: what it is about.
    var chief: AlertEvidence? { evidence.first }
}
