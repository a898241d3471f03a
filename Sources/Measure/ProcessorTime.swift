// Processor time of everything: programs, kernel threads and soft interrupts alike.
//
// Counted as what was not idle, because the kernel books idle time exactly and the rest by samples.

import Foundation

struct ProcessorTime {
    /// Seconds idle, summed over all processors, and seconds the host had taken away.
    var idle = 0.0
    var stolen = 0.0
    var at: UInt64 = 0

    static func now() -> ProcessorTime {
        var time = ProcessorTime()
        time.at = monotonicNow()
        guard let text = try? String(contentsOfFile: "/proc/stat", encoding: .utf8) else { return time }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        // proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
        let fields = text.prefix { $0 != "\n" }.split(separator: " ").dropFirst().compactMap { Double($0) }
        guard fields.count >= 8 else { return time }
        time.idle = (fields[3] + fields[4]) / ticks
        time.stolen = fields[7] / ticks
        return time
    }

    /// Busy seconds since `before`, over all processors.
    func busy(since before: ProcessorTime, processors: Int) -> Double {
        max(0, Double(at - before.at) / 1e9 * Double(processors) - (idle - before.idle) - (stolen - before.stolen))
    }
}
