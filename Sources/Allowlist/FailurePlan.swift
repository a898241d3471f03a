// What becomes of frames while the fast path cannot judge them: the owner's choice, by cause.

/// What becomes of frames that no worker judges.
public enum FailureAction: UInt32, Sendable, CaseIterable, Codable {
    /// Dropped.
    case closed = 0
    /// Passed to the other port.
    case open = 1
    /// Judged by the kernel's twin of the allowlist.
    case kernel = 2

    public init?(name: String) {
        guard let action = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = action
    }

    public var name: String {
        switch self {
        case .closed: "closed"
        case .open: "open"
        case .kernel: "kernel"
        }
    }
}

/// Why no worker judges.
public enum FailureState: Int, Sendable, CaseIterable, Codable {
    /// The bridge has not begun to forward.
    case starting = 0
    /// A worker has given no sign of life for longer than the deadline, or its socket is gone.
    case workerDead = 1
    /// The bridge has been told to end, or to make way for another.
    case stopping = 2
}

/// Actions by cause.
public struct FailureActions: Sendable, Hashable {
    public var starting: FailureAction
    public var workerDead: FailureAction
    public var stopping: FailureAction

    public init(_ all: FailureAction = .closed) { (starting, workerDead, stopping) = (all, all, all) }

    public subscript(state: FailureState) -> FailureAction {
        switch state {
        case .starting: starting
        case .workerDead: workerDead
        case .stopping: stopping
        }
    }

    public var needsTwin: Bool { FailureState.allCases.contains { self[$0] == .kernel } }
    public var isClosed: Bool { FailureState.allCases.allSatisfy { self[$0] == .closed } }
}

/// What becomes of frames that no worker judges, and who judges at all.
public struct FailurePlan: Sendable, Hashable {
    public var actions: FailureActions
    /// Milliseconds after which a worker that gives no sign of life counts as dead.
    public var deadline: Int
    /// The kernel's twin judges everything, whether there are workers or not.
    public var onlyKernel: Bool

    /// A flow that finds no room in the flow table: false: it is denied; true: the rules alone judge it, as the kernel's twin does.
    public var fullPasses: Bool
    /// Silence of a worker after which frames pass without it, ns; nil: they never do.
    public var unwatchedAfter: UInt64? { actions.workerDead == .closed ? nil : UInt64(deadline) * 1_000_000 }

    public var needsTwin: Bool { onlyKernel || actions.needsTwin }

    /// Longer than a busy host takes a processor away, shorter than a TCP retransmission (200 ms at least).
    public static let usualDeadline = 50
    /// Below 20 the steps of the coarse clock (up to 10 ms) would tell.
    public static let deadlines = 20...60_000

    public init(_ actions: FailureActions = FailureActions(), deadline: Int = FailurePlan.usualDeadline, onlyKernel: Bool = false, fullPasses: Bool = false) {
        self.actions = actions
        self.deadline = deadline
        self.onlyKernel = onlyKernel
        self.fullPasses = fullPasses
    }
}
