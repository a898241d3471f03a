// A worker over rings in plain memory, for benchmarks: no kernel, no system call, no thread.

import Allowlist
import CLinux
import Synchronization

/// Where a ring lies, for whoever plays the kernel.
@_spi(Measurement)
public struct PlainRing {
    public let producer, consumer, flags, entries: UnsafeMutableRawPointer
    /// Entries, a power of two.
    public let size: UInt32

    fileprivate init(size: UInt32, entry: Int) {
        // A line for each index, as in the kernel's mapping.
        let words = UnsafeMutableRawPointer.allocate(byteCount: 4 * 64, alignment: 64)
        words.initializeMemory(as: UInt8.self, repeating: 0, count: 4 * 64)
        producer = words
        consumer = words + 64
        flags = words + 128
        entries = .allocate(byteCount: Int(size) * entry, alignment: 4096)
        self.size = size
    }

    fileprivate var memory: RingMemory {
        func word(_ at: UnsafeMutableRawPointer) -> UnsafeMutablePointer<RingWord> { at.assumingMemoryBound(to: RingWord.self) }
        return RingMemory(producer: word(producer), consumer: word(consumer), flags: word(flags), entries: entries, size: size)
    }

    fileprivate func deallocate() {
        producer.deallocate()
        entries.deallocate()
    }
}

@_spi(Measurement)
public struct PlainRings {
    public let rx, tx, fill, completion: PlainRing

    /// As many entries as `SocketSetup` asks the kernel for.
    public init(frames: Int) {
        let sizes = RingSizes(fill: UInt32(frames).nextPowerOfTwo, completion: UInt32(frames).nextPowerOfTwo)
        rx = PlainRing(size: sizes.rx, entry: MemoryLayout<xdp_desc>.stride)
        tx = PlainRing(size: sizes.tx, entry: MemoryLayout<xdp_desc>.stride)
        fill = PlainRing(size: sizes.fill, entry: 8)
        completion = PlainRing(size: sizes.completion, entry: 8)
    }

    public func deallocate() { for ring in [rx, tx, fill, completion] { ring.deallocate() } }
}

/// Two sockets, inside and outside, and the worker between them.
@_spi(Measurement)
public final class WorkerInMemory {
    /// Frames of a worker with one queue of each port.
    public static let frameCount = 8192
    public static let frameSize = 2048
    /// Where the kernel puts a frame's first byte.
    public static let dataOffset = 256

    public let rings: [PlainRings]
    private let worker: UnsafeMutablePointer<Worker>
    private let publisher: TablePublisher
    public let base: UnsafeMutableRawPointer
    private let stamped = UnsafeMutablePointer<Counter>.allocate(capacity: 1)

    private let recorder: TrafficRecorder?
    private let trafficRing: TrafficRing?

    /// - Parameters:
    ///   - table: its rules are all named by their number.
    ///   - records: as with `--state`; nobody takes the records.
    public init(_ table: CompiledTable, records: Bool = false) throws {
        let frames = try FrameMemory(frameCount: Self.frameCount, frameSize: Self.frameSize)
        base = frames.base
        rings = [PlainRings(frames: Self.frameCount), PlainRings(frames: Self.frameCount)]
        publisher = TablePublisher(workerCount: 1)
        publisher.publish(table, ruleNames: table.source.rules.indices.map(String.init))
        let published = publisher.view(0)
        published.goOnline()
        let sockets = UnsafeMutablePointer<WorkerSocket>.allocate(capacity: 2)
        stamped.initialize(to: Counter())
        for (index, ring) in rings.enumerated() {
            (sockets + index).initialize(
                to: WorkerSocket(
                    rx: ring.rx.memory, tx: ring.tx.memory, fill: ring.fill.memory, completion: ring.completion.memory, descriptor: -1,
                    stamped: stamped))
        }
        trafficRing = records ? TrafficRing() : nil
        recorder = trafficRing.map { TrafficRecorder.allocate(ring: $0) }
        worker = .allocate(capacity: 1)
        worker.initialize(
            to: Worker(
                index: 0, frames: frames, sockets: sockets, insideCount: 1, outsideCount: 1, published: published,
                counters: .allocate(), latencyTag: 0x5EC1))
        worker.pointee.recorder = recorder
        worker.pointee.prepare()
    }

    deinit {
        let (counters, latency, sightings) = (worker.pointee.counters, worker.pointee.latency, worker.pointee.sightings)
        worker.deinitialize(count: 1)
        worker.deallocate()
        counters.deallocate()
        latency.deallocate()
        sightings.deallocate()
        recorder?.deallocate()
        for ring in rings { ring.deallocate() }
        stamped.deallocate()
    }

    /// Does what the XDP program does for a timed frame, to the oldest in a socket's RX ring.
    public func stampOldest(_ socket: Int) {
        let ring = rings[socket].rx
        let place = ring.consumer.load(as: UInt32.self) & (ring.size - 1)
        let address = ring.entries.load(fromByteOffset: Int(place) * MemoryLayout<xdp_desc>.stride, as: xdp_desc.self).addr
        (base + Int(address) - 8).storeBytes(of: UInt64(0x5EC1) << 48 | clinux_monotonic() & 0xFFFF_FFFF_FFFF, as: UInt64.self)
        stamped.pointee.add(1)
        // Both sockets share the counter here: the other one's is met as well.
        worker.pointee.meetStamp(1 - socket)
    }

    /// Says that a frame is timed while none is: the worker looks in front of every frame.
    public func announceStamp() { stamped.pointee.add(1) }

    public func poll() -> Int { worker.pointee.poll() }
    public func pollRings() -> Int { worker.pointee.pollRings() }
    public var forwarded: UInt64 { worker.pointee.counters.counts(.inside).forwarded.frames + worker.pointee.counters.counts(.outside).forwarded.frames }
}
