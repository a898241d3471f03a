// One AF_XDP socket as the worker sees it: its four rings.

import CLinux

/// The rings of one queue of one port. RX and fill belong to receiving, TX and completion to sending.
struct WorkerSocket: ~Copyable {
    var rx: ConsumerRing<xdp_desc>
    var tx: ProducerRing<xdp_desc>
    var fill: ProducerRing<UInt64>
    var completion: ConsumerRing<UInt64>
    /// -1 where the rings are not the kernel's (tests): then nobody is woken.
    let descriptor: Int32
    /// Sent, but not completed yet.
    var inFlight: UInt32 = 0
    /// The port takes nothing (down, or gone): it is asked again now and then.
    var isStuck = false
    /// In the middle of a frame in more buffers than a burst holds: its rest is dropped.
    var skipsChain = false
    /// In the fill ring or with the kernel, to be received into.
    var filled: UInt32 = 0
    /// The XDP program's count of timed frames of this queue; how many of them were met, and frames since the last one.
    let stamped: UnsafeMutablePointer<Counter>
    var stampsMet: UInt64 = 0
    var framesSinceStamp = 0

    init(
        rx: RingMemory, tx: RingMemory, fill: RingMemory, completion: RingMemory, descriptor: Int32,
        stamped: UnsafeMutablePointer<Counter>
    ) {
        self.stamped = stamped
        self.rx = ConsumerRing(rx)
        self.tx = ProducerRing(tx)
        self.fill = ProducerRing(fill)
        self.completion = ConsumerRing(completion)
        self.descriptor = descriptor
    }

    /// What is in each ring, for `status`.
    var occupancy: RingOccupancy {
        RingOccupancy(rx: rx.memory, tx: tx.memory, fill: fill.memory, completion: completion.memory)
    }
}

/// Reads a socket's ring indices from the control side.
struct RingOccupancy {
    let rx: RingMemory
    let tx: RingMemory
    let fill: RingMemory
    let completion: RingMemory
}
