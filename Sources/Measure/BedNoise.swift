// How quiet the machine is: two processors that do nothing but read the clock, and the gaps they see.
//
// A gap is time that somebody else had: another program, or on a virtual machine the host. It bounds from below what any
// polling forwarder can show here.

import CLinux
import Foundation
import Glibc

struct BedNoise {
    private static let seconds = 1.0
    /// Longer than an interrupt takes.
    private static let gap: UInt64 = 100_000

    /// Gaps a second, and the longest, over all processors.
    var gaps = 0.0
    var longest: UInt64 = 0

    static func measure(on cpus: [Int], of all: [Int]) -> BedNoise {
        let results = UnsafeMutablePointer<(count: Int, longest: UInt64)>.allocate(capacity: cpus.count)
        results.initialize(repeating: (0, 0), count: cpus.count)
        nonisolated(unsafe) let shared = results
        DispatchQueue.concurrentPerform(iterations: cpus.count) { index in
            _ = clinux_pin_thread(Int32(cpus[index]))
            let end = monotonicNow() + UInt64(seconds * 1e9)
            var last = monotonicNow()
            while last < end {
                let now = monotonicNow()
                if now - last > gap {
                    shared[index].count += 1
                    shared[index].longest = max(shared[index].longest, now - last)
                }
                last = now
            }
            let everywhere = all.map(Int32.init)
            _ = clinux_keep_thread_to(everywhere, Int32(everywhere.count))
        }
        var noise = BedNoise()
        for index in cpus.indices {
            noise.gaps += Double(results[index].count) / seconds
            noise.longest = max(noise.longest, results[index].longest)
        }
        results.deallocate()
        return noise
    }

    var text: String {
        String(
            format: "before anything ran, two polling processors were interrupted %.0f times a second for more than 0.1 ms, at the longest for %.1f ms",
            gaps, Double(longest) / 1e6)
    }
}
