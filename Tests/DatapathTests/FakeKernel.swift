// The kernel's side of the rings, in plain memory: delivers, sends and completes frames when a test says so,
// in any order it likes.

import CLinux
import Synchronization

@testable import Datapath

/// A ring's words and entries in ordinary memory.
private func plainRing(size: UInt32, entry: Int, startingAt index: UInt32) -> RingMemory {
    func word(_ value: UInt32) -> UnsafeMutablePointer<RingWord> {
        let word = UnsafeMutablePointer<RingWord>.allocate(capacity: 1)
        word.initialize(to: RingWord(value))
        return word
    }
    return RingMemory(
        producer: word(index), consumer: word(index), flags: word(0),
        entries: .allocate(byteCount: Int(size) * entry, alignment: 64), size: size)
}

/// One port as the kernel sees it.
final class FakePort {
    private let memories: (rx: RingMemory, tx: RingMemory, fill: RingMemory, completion: RingMemory)
    private var rx: ProducerRing<xdp_desc>
    private var tx: ConsumerRing<xdp_desc>
    private var fill: ConsumerRing<UInt64>
    private var completion: ProducerRing<UInt64>
    private let base: UnsafeMutableRawPointer
    /// Frames taken to be sent and not completed yet.
    private(set) var sending: [xdp_desc] = []
    /// What went out, frame by frame.
    private(set) var sent: [[UInt8]] = []
    private var openChain: [UInt8] = []
    /// Frames that found no place: the kernel dropped them.
    private(set) var lost = 0
    /// The XDP program's count of timed frames.
    let stamped = UnsafeMutablePointer<Counter>.allocate(capacity: 1)
    /// Where the data of the frame delivered last begins.
    private(set) var lastData: UInt64 = 0

    init(base: UnsafeMutableRawPointer, size: UInt32, startingAt index: UInt32) {
        self.base = base
        memories = (
            plainRing(size: size, entry: 16, startingAt: index), plainRing(size: size, entry: 16, startingAt: index),
            plainRing(size: size * 4, entry: 8, startingAt: index), plainRing(size: size * 4, entry: 8, startingAt: index)
        )
        rx = ProducerRing(memories.rx)
        tx = ConsumerRing(memories.tx)
        fill = ConsumerRing(memories.fill)
        completion = ProducerRing(memories.completion)
        stamped.initialize(to: Counter())
    }

    deinit { stamped.deallocate() }

    var socket: WorkerSocket {
        WorkerSocket(
            rx: memories.rx, tx: memories.tx, fill: memories.fill, completion: memories.completion, descriptor: -1,
            stamped: stamped)
    }

    /// A frame arrives, in as many buffers as `pieces`.
    ///
    /// - Parameter stamp: what the XDP program wrote in front of it.
    func deliver(_ frame: [UInt8], pieces: Int = 1, stamp: UInt64? = nil) {
        guard fill.available(UInt32(pieces)) == pieces, rx.room(for: UInt32(pieces)) >= pieces else {
            lost += 1
            return
        }
        let step = (frame.count + pieces - 1) / pieces
        for piece in 0..<pieces {
            let bytes = Array(frame[min(piece * step, frame.count)..<min((piece + 1) * step, frame.count)])
            // As the kernel does: data begins behind the head room.
            let address = fill.peek(0) + 256
            fill.release(1)
            if piece == 0 { lastData = address }
            if let stamp, piece == 0 {
                (base + Int(address)).storeBytes(of: stamp, toByteOffset: -8, as: UInt64.self)
                stamped.pointee.add(1)
            }
            bytes.withUnsafeBytes { (base + Int(address)).copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(base), byteCount: bytes.count) }
            rx.put(xdp_desc(addr: address, len: UInt32(bytes.count), options: piece + 1 < pieces ? 1 : 0))
        }
        rx.publish()
    }

    /// The word in front of a frame's data.
    func word(inFrontOf data: UInt64) -> UInt64 { (base + Int(data)).load(fromByteOffset: -8, as: UInt64.self) }

    /// The buffers of a frame arrive one by one, each marked as going on or not.
    func deliverPiece(_ bytes: [UInt8], goesOn: Bool) {
        _ = fill.available(1)
        let address = fill.peek(0) + 256
        fill.release(1)
        bytes.withUnsafeBytes { (base + Int(address)).copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
        rx.put(xdp_desc(addr: address, len: UInt32(bytes.count), options: goesOn ? 1 : 0))
        rx.publish()
    }

    /// Takes up to `count` descriptors from the TX ring.
    func transmit(_ count: Int) {
        let available = tx.available(UInt32(count))
        for i in 0..<available {
            let descriptor = tx.peek(i)
            sending.append(descriptor)
            openChain += UnsafeRawBufferPointer(start: base + Int(descriptor.addr), count: Int(descriptor.len))
            if descriptor.options & 1 == 0 {
                sent.append(openChain)
                openChain = []
            }
        }
        tx.release(available)
    }

    /// Completes up to `count` frames, in an order the generator picks.
    func complete(_ count: Int, _ random: inout some RandomNumberGenerator) {
        for _ in 0..<min(count, sending.count) where completion.room(for: 1) > 0 {
            completion.put(sending.remove(at: Int.random(in: 0..<sending.count, using: &random)).addr)
        }
        completion.publish()
    }

    /// Addresses the kernel holds in the fill ring and the descriptors it has shown but the worker not taken.
    var held: [UInt64] {
        func entries(_ memory: RingMemory) -> [UInt32] {
            let first = memory.consumer.pointee.load(ordering: .relaxed)
            return (0..<memory.occupancy).map { (first &+ $0) & (memory.size - 1) }
        }
        let filled = entries(memories.fill).map { (memories.fill.entries + Int($0) * 8).load(as: UInt64.self) }
        let completed = entries(memories.completion).map { (memories.completion.entries + Int($0) * 8).load(as: UInt64.self) }
        let received = entries(memories.rx).map { (memories.rx.entries + Int($0) * 16).load(as: UInt64.self) }
        let waiting = entries(memories.tx).map { (memories.tx.entries + Int($0) * 16).load(as: UInt64.self) }
        return filled + completed + received + waiting + sending.map(\.addr)
    }
}
