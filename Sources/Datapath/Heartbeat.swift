// A worker's sign of life, which the XDP program looks at for every frame.

import CLinux
import Synchronization

/// One word in the XDP program's map: the time of the last sign, or 0 while the worker sleeps until a frame comes.
struct Heartbeat {
    private let word: UnsafeMutablePointer<Atomic<UInt64>>

    init(_ word: UnsafeMutablePointer<Atomic<UInt64>>) { self.word = word }

    /// By the coarse clock, which costs a few ns; its steps of up to 10 ms are small beside the deadline.
    ///
    /// - Returns: the time, in ns.
    @discardableResult
    @inline(__always)
    func beat() -> UInt64 {
        let now = clinux_monotonic_coarse()
        word.pointee.store(now, ordering: .relaxed)
        return now
    }

    /// When the first frame came after `fallAsleep`, or the last beat; 0: none came.
    var last: UInt64 { word.pointee.load(ordering: .relaxed) }

    /// The next frame sets the clock running: a worker that does not wake up is found out as soon as it is missed.
    func fallAsleep() { word.pointee.store(0, ordering: .sequentiallyConsistent) }
}
