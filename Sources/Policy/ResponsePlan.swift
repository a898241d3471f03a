// What is done by itself about an alert: nothing but telling, unless the policy says more.

/// Which kinds of alerts cut their device off, and for how long.
public struct ResponsePlan: Sendable, Equatable {
    /// Names of kinds of alerts.
    public var quarantines: Set<String> = []
    public var seconds: Int64 = 3600

    /// Kinds that are about a device that does something, by their names in `Detection.AlertKind`.
    public static let kinds = ["scan", "slow-scan", "spoofing", "lateral-movement", "beacon", "wrong-side", "unknown-device", "new-conversation"]
}
