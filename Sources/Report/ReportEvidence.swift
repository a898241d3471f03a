// What reports are made from: the history, the audit log and the alerts of a state directory, and a policy.

import Allowlist
import Baseline
import Detection
import Evidence
import Foundation
import Policy

/// What a report is to be about.
public struct ReportRequest: Sendable {
    /// A policy file that was named; nil: the one in use, by the audit log.
    public struct GivenPolicy: Sendable {
        public var document: PolicyDocument
        public var sha256: String
        public var file: String

        public init(document: PolicyDocument, sha256: String, file: String) { (self.document, self.sha256, self.file) = (document, sha256, file) }
    }

    public var state: String
    public var policy: GivenPolicy?
    /// Nanoseconds since 1970; nil: from the beginning, to now.
    public var from: UInt64?
    public var to: UInt64?
    /// A device or group of the policy, an address or a network.
    public var device: String?
    public var now: UInt64
    /// Of the program.
    public var version: String

    public init(state: String, policy: GivenPolicy? = nil, from: UInt64? = nil, to: UInt64? = nil, device: String? = nil, now: UInt64, version: String) {
        (self.state, self.policy, self.from, self.to, self.device, self.now, self.version) = (state, policy, from, to, device, now, version)
    }
}

/// A policy, and how it is known to be the one.
public struct UsedPolicy: Sendable {
    public var document: PolicyDocument
    public var sha256: String
    public var file: String
    /// nil: it was given by name.
    public var version: PolicyVersion?
    /// In force at the end of the period; of a given file its own.
    public var mode: Mode
}

public struct ReportEvidence: Sendable {
    public let request: ReportRequest
    /// All there is but what a person has had forgotten; nil: nothing was recorded.
    public let whole: History?
    /// Of the period, and of the device.
    public let history: History?
    public let review: Review?
    public let log: LogEvidence?
    /// Of the period; nil: there is no store.
    public let alerts: [Alert]?
    public let policy: UsedPolicy?
    /// Why the policy in use could not be read.
    public let policyProblem: String?
    /// What the policy makes of the history of the period.
    public let use: PolicyUse?
    /// What the policy makes of all that is known of the device.
    public let wholeUse: PolicyUse?
    /// What the policy makes of the period, with the conversations of all devices: what another device uses is used.
    public let periodUse: PolicyUse?
    /// Nanoseconds since 1970.
    public let period: Range<UInt64>
    /// The device's addresses; nil: all are meant.
    public let addresses: [AddressPrefix]?

    /// Reads everything.
    ///
    /// - Throws: if there is no state directory, or a file in it cannot be read. That a file is not there is no error.
    public init(_ request: ReportRequest) throws(StateError) {
        let state = request.state
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: state, isDirectory: &isFolder), isFolder.boolValue else {
            throw StateError(text: "opening the state directory \(state): it does not exist\n  → give the one of 'sekisho run' or 'sekisho learn'")
        }
        func isThere(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(state)/\(name).sqlite") }
        guard ["history", "audit", "alerts"].contains(where: isThere) else {
            throw StateError(text: "opening the state directory \(state): nothing was recorded in it\n  → give the one of 'sekisho run' or 'sekisho learn'")
        }
        try self.init(
            request, whole: isThere("history") ? try HistoryStore(directory: state, mayMake: false).read().forgetting() : nil,
            store: isThere("audit") ? try AuditStore(directory: state, mayMake: false) : nil,
            alerts: isThere("alerts") ? try AlertStore(directory: state, mayMake: false).read(since: nil) : nil)
    }

    /// - Parameters:
    ///   - all: without what a person has had forgotten.
    ///   - every: alerts, also of other times.
    init(_ request: ReportRequest, whole all: History?, store: AuditStore?, alerts every: [Alert]?) throws(StateError) {
        self.request = request
        whole = all
        let end = min(request.to ?? request.now, request.now)
        guard request.from ?? 0 < end else {
            throw StateError(text: "the period of the report: its beginning does not lie before its end\n  → give --from before --to, and not in the future")
        }
        // Where nothing is said of the beginning, it is that of what is known.
        let first = all?.hours.first.map { UInt64(max(0, $0)) &* 3_600_000_000_000 }
        var log: LogEvidence?
        if let store { log = try LogEvidence(store, from: request.from, to: end) }
        let start = request.from ?? min(first ?? .max, log?.check.first.map(UInt64.init(microseconds:)) ?? .max, end - 1)
        let period = start..<end
        self.period = period
        self.log = log

        var used: UsedPolicy?, problem: String?
        if let given = request.policy {
            used = UsedPolicy(document: given.document, sha256: given.sha256, file: given.file, mode: given.document.mode)
        } else if let store, let version = log?.versionInUse {
            do throws(StateError) {
                used = try Self.used(version, store, at: Int64(end / 1_000_000_000), mode: log?.modeAtEnd)
            } catch { problem = error.description }
        }
        (policy, policyProblem) = (used, problem)
        var addresses: [AddressPrefix]?
        if let device = request.device { addresses = try Self.addresses(device, used?.document) }
        self.addresses = addresses

        // The history, and what the policy makes of it.
        let now = Int64(end / 1_000_000_000)
        if let all {
            // What came after the period is not known at its end.
            let own = Self.narrowed(request.to == nil ? all : all.during([0..<end]), to: addresses)
            let part = request.from == nil && request.to == nil ? own : own.during([period])
            let review = Review(part, within: all)
            (history, self.review) = (part, review)
            if let used {
                do throws(TableError) {
                    let use = try PolicyUse(part, review, used.document, now: now)
                    self.use = use
                    if addresses == nil {
                        periodUse = use
                    } else {
                        let known = request.to == nil ? all : all.during([0..<end])
                        let everyPart = request.from == nil && request.to == nil ? known : known.during([period])
                        periodUse = try PolicyUse(everyPart, Review(everyPart, within: all), used.document, now: now)
                    }
                    wholeUse = request.from == nil && request.to == nil ? use : try PolicyUse(own, Review(own, within: all), used.document, now: now)
                } catch { throw StateError(text: "compiling the policy \(used.file): \(Self.reason(error))") }
            } else {
                (use, wholeUse, periodUse) = (nil, nil, nil)
            }
        } else {
            (history, review, use, wholeUse, periodUse) = (nil, nil, nil, nil, nil)
        }
        let since = Date(timeIntervalSince1970: Double(start) / 1e9), until = Date(timeIntervalSince1970: Double(end) / 1e9)
        alerts = every?.filter { $0.last >= since && $0.begin < until }
    }

    private static func reason(_ error: TableError) -> String {
        switch error {
        case .tooMany(let what, let count, let limit): "\(count) \(what); the most is \(limit)\n  → give a smaller one with --policy"
        case .checkFailed(let what): "the compiled table failed its own check (\(what))\n  → please report this with the policy file"
        }
    }

    private static func used(_ version: PolicyVersion, _ store: AuditStore, at now: Int64, mode: String?) throws(StateError) -> UsedPolicy {
        guard let text = try store.text(of: version.sha256) else {
            throw StateError(text: "reading the policy version \(version.number) from \(store.path): its text is missing\n  → sekisho audit verify")
        }
        guard let document = PolicyReader.read(text, now: now).document else {
            throw StateError(text: "reading the policy version \(version.number) from \(store.path): this program does not understand it\n  → give it with --policy")
        }
        return UsedPolicy(
            document: document, sha256: version.sha256, file: version.file, version: version, mode: mode.flatMap { Mode(name: $0) } ?? document.mode)
    }

    /// Whom a name stands for.
    private static func addresses(_ text: String, _ document: PolicyDocument?) throws(StateError) -> [AddressPrefix] {
        if let device = document?.devices.first(where: { $0.name == text }) { return device.addresses }
        if let group = document?.groups.first(where: { $0.name == text }) { return group.addresses }
        if let network = WrittenAddress.network(text) { return [network] }
        throw StateError(text: "the report's device: \"\(text)\" is no device or group of the policy, and no address or network\n  → e.g. 10.3.1.21")
    }

    private static func narrowed(_ history: History, to addresses: [AddressPrefix]?) -> History {
        guard let addresses else { return history }
        var part = history
        part.conversations = history.conversations.filter { one in
            addresses.contains { $0.family == one.key.family && ($0.contains(one.key.client) || $0.contains(one.key.server)) }
        }
        return part
    }

    /// The policy; where a report cannot be without one.
    public func neededPolicy() throws(StateError) -> UsedPolicy {
        if let policy { return policy }
        throw StateError(text: policyProblem ?? "the report needs a policy, and \(request.state) has none that was in use by then\n  → give one: --policy FILE")
    }

    /// Whether traffic of the period is known.
    var hasTraffic: Bool { history.map { !$0.conversations.isEmpty } ?? false }

    /// Whether any device learnt, under this policy or another of the period; nil: the text of one cannot be read.
    var learnsInPeriod: Bool? {
        func learns(_ document: PolicyDocument) -> Bool { document.devices.contains(where: \.isLearning) }
        guard let policy, let log, policy.version != nil else { return policy.map { learns($0.document) } }
        if learns(policy.document) { return true }
        var known: Set<String> = [policy.sha256]
        for version in log.versionsInPeriod where known.insert(version.sha256).inserted {
            guard let text = try? log.store.text(of: version.sha256), let document = PolicyReader.read(text, now: version.time / 1_000_000).document
            else { return nil }
            if learns(document) { return true }
        }
        return false
    }

    var names: PolicyNames? { policy.map { PolicyNames($0.document) } }
}
