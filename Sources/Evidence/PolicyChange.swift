// What applying a policy did, in the words of the audit log.

import Policy

/// A policy with all that is known of where it came from.
public struct AppliedPolicy: Sendable {
    public var document: PolicyDocument
    /// Empty once it is in the log: it may be large.
    public var text: [UInt8]
    public let sha256: String
    public var file: String
    /// The signature file's text, and the key that accepted it.
    public var signature: String?
    public var key: String?

    public init(document: PolicyDocument, text: [UInt8], file: String, signature: String?, key: String?) {
        (self.document, self.text, self.file, self.signature, self.key) = (document, text, file, signature, key)
        sha256 = contentHash(text)
    }
}

public enum PolicyChange {
    /// Lines of each direction that an event tells; the rest is counted.
    private static let mostLines = 50

    /// - Parameters:
    ///   - before: nil: none is known.
    ///   - mode: in force, which a command line may set.
    ///   - fields: what else is known: who, why.
    public static func event(
        _ policy: AppliedPolicy, version: UInt64, mode: String, after before: PolicyDocument?, who: String, fields: [String: String],
        time: Int64 = AuditEvent.now
    ) -> AuditEvent {
        var fields = fields
        fields["version"] = "\(version)"
        fields["sha256"] = policy.sha256
        fields["policy"] = policy.document.name
        fields["mode"] = mode
        fields["rules"] = "\(policy.document.rules.count)"
        fields["file"] = policy.file
        fields["signature"] = policy.signature
        fields["key"] = policy.key
        let change: String
        if let before {
            let diff = PolicyDiff(before, policy.document, now: time / 1_000_000, most: mostLines)
            change = diff.summary(a: "the policy before", b: "it")
            fields["changes"] = lines(diff).joined(separator: "\n")
        } else {
            change = "no policy before it is known"
        }
        fields["change"] = change
        let again = fields["rollback_to"].map { ", back to version \($0)" } ?? ""
        return AuditEvent(
            .policyApplied, "policy \"\(policy.document.name)\" applied as version \(version)\(again), mode \(mode): \(change)", who: who, fields: fields, time: time)
    }

    /// "+" what passes now, "-" what does no longer, "~" what is otherwise.
    static func lines(_ diff: PolicyDiff) -> [String] {
        func rows(_ rows: PolicyDiff.Rows, _ sign: String) -> [String] {
            rows.rows.map { "\(sign) \($0.text)" } + (rows.more > 0 ? ["\(sign) … and \(rows.more) more"] : [])
        }
        let changes = diff.changes.prefix(mostLines).map { "~ \($0.kind.rawValue) \($0.subject): \($0.before) → \($0.after)" }
        let more = diff.changes.count - changes.count
        return rows(diff.gained, "+") + rows(diff.lost, "-") + changes + (more > 0 ? ["~ … and \(more) more"] : [])
    }
}

extension PolicyDiff.Row {
    fileprivate var text: String {
        func names(_ named: NamedAddresses) -> String {
            named.names.joined(separator: ", ") + (named.except.isEmpty ? "" : " except \(named.except.joined(separator: ", "))")
        }
        var notes: [String] = []
        if isOneFamilyOfTwo, let family { notes.append(family == .ipv4 ? "IPv4 only" : "IPv6 only") }
        if let vlans { notes.append("vlan \(vlans)") }
        if let side { notes.append("from \(side)") }
        return "\(names(from)) → \(names(to)) \((services + notes).joined(separator: ", ")) (rule \"\(rule)\")"
    }
}
