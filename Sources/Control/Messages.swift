// What the control socket speaks: one JSON object each way, then the connection ends.

import Datapath
import Foundation
import Policy

/// A question to the running bridge.
public struct ControlRequest: Codable, Sendable {
    public enum Command: String, Codable, Sendable {
        case status, apply, rollback, confirm, latency
        /// Cuts a device off, or everything (`isolate`); lets go again.
        case quarantine, isolate, release
        /// Ends for a bridge that takes over; answered when the ports are free.
        case makeWay
    }

    public var command: Command
    /// `apply`: name of the file, for messages, and its text. The client reads it: the bridge may not see the same files.
    public var file: String?
    public var text: Data?
    /// `apply`: the text of its signature file.
    public var signature: String?
    /// `rollback`: to which version.
    public var version: UInt64?
    /// `apply`, `rollback`: what was there before comes back after so many seconds, unless `confirm` comes.
    public var confirmWithin: Double?
    /// For the audit log: why, and who is said to want it; whose account it is is known.
    public var why: String?
    public var who: String?
    /// `makeWay`: for which ports, by interface index, inside first: a bridge of others must not end.
    public var ports: [Int32]?
    /// `latency`: the last so many seconds; nil: since the start.
    public var window: Double?
    /// `quarantine`, `release`: a device's name, address or MAC address; `release` without one: all.
    public var device: String?
    /// `quarantine`, `isolate`.
    public var seconds: Int64?
    public var exceptions: [String]?
    /// `quarantine`: of a protected device, too.
    public var force: Bool?

    public init(
        command: Command, file: String? = nil, text: Data? = nil, signature: String? = nil, version: UInt64? = nil, confirmWithin: Double? = nil,
        why: String? = nil, who: String? = nil, ports: [Int32]? = nil, window: Double? = nil
    ) {
        self.command = command
        self.file = file
        self.text = text
        self.signature = signature
        self.version = version
        self.confirmWithin = confirmWithin
        self.why = why
        self.who = who
        self.ports = ports
        self.window = window
    }
}

/// The answer: exactly one of these.
public struct ControlResponse: Codable, Sendable {
    public var status: StatusReport?
    public var applied: ApplyReport?
    public var confirmed: ConfirmReport?
    public var latency: LatencyReport?
    public var quarantine: QuarantineReport?
    public var failure: ControlFailure?

    public init(
        status: StatusReport? = nil, applied: ApplyReport? = nil, confirmed: ConfirmReport? = nil, latency: LatencyReport? = nil,
        quarantine: QuarantineReport? = nil,
        failure: ControlFailure? = nil
    ) {
        self.status = status
        self.applied = applied
        self.confirmed = confirmed
        self.latency = latency
        self.quarantine = quarantine
        self.failure = failure
    }
}

/// Why a command was not carried out.
public struct ControlFailure: Codable, Error, Sendable, CustomStringConvertible {
    public var message: String
    /// Findings in the policy file, rendered.
    public var diagnostics: [String]

    public init(_ message: String, diagnostics: [String] = []) {
        self.message = message
        self.diagnostics = diagnostics
    }

    public var description: String { (diagnostics + [message]).joined(separator: "\n") }
}

/// What an `apply` did.
public struct ApplyReport: Codable, Sendable {
    public var name: String
    public var version: UInt64
    public var mode: String
    public var rules: Int
    /// Conversations in the perfect hash, and label pairs of network rules.
    public var exactConversations: Int
    public var networkPairs: Int
    public var tableBytes: Int
    /// Milliseconds to read, compile and check.
    public var buildMs: Double
    /// Microseconds from publishing until no worker used the old table; nil: a worker has not answered yet.
    public var swapUs: Double?
    public var warnings: [String]
    /// If it is not confirmed within so many seconds, this version comes back.
    public var confirmWithin: Double?
    public var otherwise: UInt64?

    /// In a sentence.
    public var swapText: String { swapUs.map { "in use by every worker after \($0) µs" } ?? "not yet in use by every worker" }
}

/// What a `confirm` did.
public struct ConfirmReport: Codable, Sendable {
    public var version: UInt64
}

/// The bridge as it is now.
public struct StatusReport: Codable, Sendable {
    public struct Policy: Codable, Sendable {
        public var name: String
        public var version: UInt64
        public var rules: Int
        public var file: String
        public var ageSeconds: Double
        public var exactConversations: Int
        public var networkPairs: Int
        public var tableBytes: Int
        /// Of the file's bytes.
        public var sha256: String
        /// By whose signature it was accepted; nil: none was asked for.
        public var key: String?
        /// nil: it stays.
        public var unconfirmed: Unconfirmed?
    }

    /// A policy that gives way to another version unless it is confirmed.
    public struct Unconfirmed: Codable, Sendable {
        public var secondsLeft: Double
        public var otherwise: UInt64
    }

    public struct Port: Codable, Sendable {
        public var name: String
        public var driver: String
        /// native or generic, as obtained.
        public var xdp: String
        /// zero-copy or copy, as obtained.
        public var afXdp: String
        public var link: String
        public var mtu: Int
        public var queues: Int
        /// Dropped in the kernel before a worker saw them.
        public var lost: Lost
    }

    public struct Lost: Codable, Sendable {
        /// The RX ring was full.
        public var ringFull: UInt64
        /// No frame was ready to receive into.
        public var fillEmpty: UInt64
        public var other: UInt64
    }

    /// Who judges, and what happens when nobody in user space does.
    public struct Judging: Codable, Sendable {
        /// worker or kernel: who judges now; else what becomes of frames: closed or open.
        public var now: String
        /// worker or kernel, as the policy asks.
        public var datapath: String
        /// closed, open or kernel, by cause.
        public var onFailure: [String: String]
        public var deadlineMs: Int
        /// Frames that no worker judged, since the program was attached: also those of bridges before this one.
        public var withoutWorker: Count
        public var episodes: [Episode]
    }

    /// Times in which frames came and no worker judged them.
    public struct Episode: Codable, Sendable {
        /// starting, worker_dead or stopping.
        public var cause: String
        public var count: UInt64
        /// Of the last one: how long ago its first frame came, and how long it took until a worker judged again, or takes already.
        public var beganSecondsAgo: Double
        public var lastedMs: Double
        public var goesOn: Bool
    }

    /// Copies of frames for a third port.
    public struct Mirror: Codable, Sendable {
        public var port: String
        /// Sent.
        public var frames: UInt64
        public var bytes: UInt64
        /// Not copied, because those before were not sent yet.
        public var lost: UInt64
        /// Not taken by the port: too long for it, or it is down.
        public var refused: UInt64

        init(_ snapshot: MirrorSnapshot) {
            (port, frames, bytes, lost, refused) = (snapshot.port, snapshot.frames, snapshot.bytes, snapshot.lost, snapshot.refused)
        }
    }

    /// The flow table.
    public struct Flows: Codable, Sendable {
        /// Flows that it is made for, and entries now: flows, and what is kept beside them.
        public var capacity: Int
        public var now: UInt64
        public var bytes: Int
        /// Since the start: entries made; TCP connections taken up without their beginning; tentative flows that had to
        /// make room; flows that found none; flows cut because their rule was gone for a while; frames whose place another
        /// worker held too long.
        public var made: UInt64
        public var pickedUp: UInt64
        public var pushedOut: UInt64
        public var refused: UInt64
        public var cut: UInt64
        public var contended: UInt64
    }

    /// Which MAC address uses which IP address, and on which side.
    public struct Addresses: Codable, Sendable {
        public struct Change: Codable, Sendable {
            public var at: Date
            public var address: String
            public var mac: String
            public var side: String
            /// Who had the address before; nil where the policy says who has it.
            public var beforeMac: String?
            public var beforeSide: String?
            /// The cause it was denied by; nil: it passed.
            public var denied: String?
            public var times: Int
            public var text: String
        }

        /// Addresses seen, and those that there was no room for.
        public var known: Int
        public var changes: UInt64
        public var forgotten: UInt64
        /// Newest first.
        public var latest: [Change]

        init(known: Int, changes: UInt64, forgotten: UInt64, latest: [Change]) {
            self.known = known
            self.changes = changes
            self.forgotten = forgotten
            self.latest = latest
        }
    }

    /// What is written down of the traffic.
    public struct Recording: Codable, Sendable {
        public var file: String
        /// Taken from the workers since the start.
        public var records: UInt64
        /// Found no room on their way: so many frames are not in the history.
        public var lostRecords: UInt64
        public var lostFrames: UInt64
        /// That the history and this process know.
        public var conversations: Int
        /// nil: not yet.
        public var lastWritten: Date?
        /// Why the last attempt to write failed; nil: it did not.
        public var error: String?
    }

    /// The log of what was done, by whom.
    public struct Audit: Codable, Sendable {
        public var file: String
        /// As far as this process has written it.
        public var events: Int64
        public var head: String
        /// Found no room while the disk took nothing.
        public var lost: UInt64
        /// nil: nothing yet.
        public var lastWritten: Date?
        /// Why the last attempt to write failed; nil: it did not.
        public var error: String?
    }

    /// What is watched for.
    public struct Detection: Codable, Sendable {
        public var file: String
        /// What is usual has been read; until then records wait.
        public var isReady: Bool
        /// Alerts that have not ended, and all since the start.
        public var open: Int
        public var raised: UInt64
        /// That the detector had no time for.
        public var lostRecords: UInt64
        /// Why the last attempt to write failed; nil: it did not.
        public var error: String?
    }

    public struct Count: Codable, Sendable {
        public var frames: UInt64
        public var bytes: UInt64
    }

    public struct Direction: Codable, Sendable {
        public var received: Count
        public var forwarded: Count
        public var denied: Count
    }

    public struct Cause: Codable, Sendable {
        public var cause: String
        public var text: String
        public var frames: UInt64
        public var bytes: UInt64
    }

    public struct Rule: Codable, Sendable {
        public var id: String
        /// "monitor" for a rule on trial, else "enforce".
        public var mode: String
        public var frames: UInt64
    }

    public struct Worker: Codable, Sendable {
        public var index: Int
        public var cpu: Int
        public var pinned: Bool
        /// Whether the kernel refuses it every system call that it has no need of.
        public var confined: Bool
        /// Of one processor, over the last second.
        public var cpuPercent: Double
        public var frames: Frames
        public var rings: Rings
        public var sleeps: UInt64
        public var kicks: UInt64
        public var kickErrors: UInt64
    }

    public struct Frames: Codable, Sendable {
        public var total: Int
        public var free: Int
        public var bytes: Int
        public var hugePages: Bool
    }

    public struct Rings: Codable, Sendable {
        public var rx: Int
        public var tx: Int
        public var fill: Int
        public var completion: Int
    }

    public var mode: String
    public var idle: String
    public var pid: Int
    public var uptimeSeconds: Double
    public var residentBytes: Int
    public var policy: Policy
    public var judging: Judging
    /// "inside" and "outside".
    public var ports: [String: Port]
    /// "inside_to_outside" and "outside_to_inside".
    public var directions: [String: Direction]
    public var denied: [Cause]
    /// Forwarded in learn or monitor although enforce would have denied them.
    public var wouldDeny: [Cause]
    /// nil: none are kept.
    public var flows: Flows?
    /// nil: there is no mirror port.
    public var mirror: Mirror?
    public var identities: Addresses
    /// nil: nothing is recorded.
    public var recording: Recording?
    /// Who is cut off now.
    public var quarantine: [QuarantineOrder]
    /// nil: there is none.
    public var audit: Audit?
    /// nil: nothing is watched for.
    public var detection: Detection?
    public var rules: [Rule]
    public var workers: [Worker]
}
