// Traffic of a semiconductor fab, weeks of it in seconds, with the truth about every record: what learning and detection are
// measured against. It knows nothing of how they work.
//
//     FabScenario ─► FabPlan: devices, rules, streams ─► hour by hour: every stream's records, sorted ─► the caller
//
// A record is what a worker reports of one direction of a flow: a short connection is six of them, a long one gives
// two for each slice. Records come in the order of their last frames. Equal scenarios give equal records.

import Frames

public struct FabTraffic: Sendable {
    public let scenario: FabScenario
    private let plan: FabPlan

    public init(_ scenario: FabScenario) {
        self.scenario = scenario
        plan = FabPlan(scenario)
    }

    /// Devices, rules and conversations.
    public var truth: FabTruth { plan.truth }

    /// Gives the records of some hours, one hour at a time, each in order of time; hours without any are left out.
    ///
    /// - Parameters:
    ///   - hours: of the recording; nil: all. What goes on when they begin, began before them.
    ///   - body: the records are gone when it returns.
    public func runHours(_ hours: Range<Int>? = nil, _ body: (UnsafeBufferPointer<FabRecord>) throws -> Void) rethrows {
        let hours = hours ?? 0..<scenario.hours
        var buffer = RecordBuffer(scenario)
        let field = Battlefield(plan)
        var sessions = plan.sessions, exchanges = plan.exchanges, transfers = plan.transfers, resolutions = plan.resolutions
        var attackers = plan.attackers
        var visit = 0
        for number in 0..<hours.upperBound {
            let hour = Hour(number: number)
            buffer.begin(hour)
            for i in sessions.indices { sessions[i].step(hour, plan, &buffer) }
            for i in exchanges.indices { exchanges[i].step(hour, &buffer) }
            for i in transfers.indices { transfers[i].step(hour, &buffer) }
            for i in resolutions.indices { resolutions[i].step(hour, &buffer) }
            while visit < plan.visits.count, plan.visits[visit].from < hour.end {
                var one = plan.visits[visit]
                one.make(&buffer)
                visit += 1
            }
            for i in attackers.indices { attackers[i].step(hour, field, &buffer) }
            if hours.contains(number), buffer.count > 0 { try body(buffer.sorted()) }
        }
    }

    /// Gives every record, in order of time.
    public func run(hours: Range<Int>? = nil, _ body: (borrowing TrafficRecord, FabLabel) throws -> Void) rethrows {
        try runHours(hours) { records in
            for record in records { try body(record.record, record.label) }
        }
    }
}
