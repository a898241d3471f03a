// One trial: so many frames at this rate through this forwarder, and what became of each.

import CLinux
import Frames
import Glibc

/// What a trial showed.
struct Trial {
    var offeredRate: Double
    var seconds: Double
    /// What had to be sent, and was.
    var due: Int
    var sent: Int
    /// Frames the policy allows, due and arrived.
    var allowedDue: Int
    var allowedSent: Int
    var allowedArrived: Int
    var deniedArrived: Int
    var reflected: Int
    var reordered: Int
    /// Seconds all processors together worked, without the generator's waiting.
    var busySeconds: Double
    /// What part of the processors' time the host gave to others.
    var stolenShare: Double
    var begin: UInt64
    var samples: [Sample]

    /// Share of the allowed frames that did not arrive: a frame that could not be sent in time counts as lost, because a wire
    /// does not wait.
    var lossRatio: Double { allowedDue == 0 ? 0 : Double(allowedDue - allowedArrived) / Double(allowedDue) }
    var arrivedRate: Double { Double(allowedArrived) / seconds }
    var cpuNanosecondsPerFrame: Double { sent == 0 ? 0 : busySeconds * 1e9 / Double(sent) }

    /// Latencies, ascending; of one direction if it is given.
    func latencies(of list: [ListedFrame], from side: Side? = nil) -> [UInt32] {
        var result: [UInt32] = []
        result.reserveCapacity(samples.count)
        for sample in samples {
            let frame = list[Int(sample.sequence) % list.count]
            if frame.isAllowed, side == nil || frame.from == side { result.append(sample.latency) }
        }
        result.sort()
        return result
    }
}

/// Runs trials; the calling thread is the generator.
final class TrialRunner {
    let programs: HostPrograms
    let generatorCPU: Int
    /// All that this process may use.
    let processors: [Int]

    init(programs: HostPrograms, generatorCPU: Int, processors: [Int]) {
        self.programs = programs
        self.generatorCPU = generatorCPU
        self.processors = processors
    }

    /// - Precondition: `bed` is in use (`Bed.use`), and the list is loaded.
    func run(_ bed: Bed, _ sending: SendingPlan) throws(MeasureError) -> Trial {
        let list = programs.listed
        // Only while it generates: what this thread starts inherits where it may run.
        _ = clinux_pin_thread(Int32(generatorCPU))
        let everywhere = processors.map(Int32.init)
        defer { _ = clinux_keep_thread_to(everywhere, Int32(everywhere.count)) }
        return try Namespace.enter(bed.hostNamespace) { () throws(MeasureError) -> Trial in
            let before = ProcessorTime.now()
            let counts = try programs.run(sending, ifindex: bed.hostIndex)
            let after = ProcessorTime.now()
            let allowed = list.reduce(0) { $0 + ($1.isAllowed ? 1 : 0) }
            /// Whole rounds of the list, and the beginning of another.
            func allowedAmong(_ frames: Int) -> Int {
                frames / list.count * allowed + list.prefix(frames % list.count).reduce(0) { $0 + ($1.isAllowed ? 1 : 0) }
            }
            let wall = Double(after.at - before.at) / 1e9
            return Trial(
                offeredRate: sending.round > 0 ? Double(counts.due) / sending.seconds : sending.rate, seconds: sending.seconds,
                due: counts.due, sent: counts.sent, allowedDue: allowedAmong(counts.due),
                allowedSent: allowedAmong(counts.sent), allowedArrived: counts.arrived[0] + counts.arrived[1] - counts.deniedArrived, deniedArrived: counts.deniedArrived,
                reflected: counts.reflected, reordered: counts.reordered,
                busySeconds: max(0, after.busy(since: before, processors: processors.count) - Double(counts.waited) / 1e9),
                stolenShare: (after.stolen - before.stolen) / (wall * Double(processors.count)), begin: counts.begin,
                samples: counts.samples)
        }
    }
}
