// The kernel's side of the rings, in plain memory: delivers, sends and completes frames when a test says so,
// in any order it likes, and answers kicks.

import CLinux
import Glibc
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

/// One port, or one queue of it, as the kernel sees it. Used by the thread of its bed alone.
final class FakePort: @unchecked Sendable {
    private let memories: (rx: RingMemory, tx: RingMemory, fill: RingMemory, completion: RingMemory)
    private var rx: ProducerRing<xdp_desc>
    private var tx: ConsumerRing<xdp_desc>
    private var fill: ConsumerRing<UInt64>
    private var completion: ProducerRing<UInt64>
    private let base: UnsafeMutableRawPointer
    /// Frames taken to be sent and not completed yet.
    private(set) var sending: [xdp_desc] = []
    /// What was in them when they were taken: as long as the kernel has them, nobody else may write there.
    private var sendingBytes: [[UInt8]] = []
    /// Buffers that held something else when they were completed.
    private(set) var overwritten = 0
    /// What went out, frame by frame.
    private(set) var sent: [[UInt8]] = []
    private var openChain: [UInt8] = []
    /// Frames that found no place: the kernel dropped them.
    private(set) var lost = 0
    /// The XDP program's count of timed frames.
    let stamped = UnsafeMutablePointer<Counter>.allocate(capacity: 1)
    /// Where the data of the frame delivered last begins.
    private(set) var lastData: UInt64 = 0
    /// Buffers the driver has taken from the fill ring and put nothing in yet.
    private(set) var buffers: [UInt64] = []
    /// What comes in by the wire, buffer by buffer.
    private(set) var arriving: [Piece] = []
    private let frameSize: Int
    /// -1 where nobody is to be kicked.
    let descriptor: Int32
    /// What a kick to send, or to look at the fill ring, does, and the errno it ends with (0: none).
    var onTransmitKick: () -> Int32 = { 0 }
    var onReceiveKick: () -> Void = {}

    struct Piece {
        let bytes: ArraySlice<UInt8>
        let goesOn: Bool
    }

    init(base: UnsafeMutableRawPointer, size: UInt32, startingAt index: UInt32, frameSize: Int = 2048, isKicked: Bool = false) {
        self.base = base
        self.frameSize = frameSize
        descriptor = isKicked ? FakeCalls.newDescriptor() : -1
        memories = (
            plainRing(size: size, entry: 16, startingAt: index), plainRing(size: size, entry: 16, startingAt: index),
            plainRing(size: size * 4, entry: 8, startingAt: index), plainRing(size: size * 4, entry: 8, startingAt: index)
        )
        rx = ProducerRing(memories.rx)
        tx = ConsumerRing(memories.tx)
        fill = ConsumerRing(memories.fill)
        completion = ProducerRing(memories.completion)
        stamped.initialize(to: Counter())
        if isKicked { FakeCalls.register(self) }
    }

    deinit {
        stamped.deallocate()
        FakeCalls.forget(descriptor)
    }

    var socket: WorkerSocket {
        WorkerSocket(
            rx: memories.rx, tx: memories.tx, fill: memories.fill, completion: memories.completion, descriptor: descriptor,
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

    /// A frame is on the wire, to be received in buffers of `size` bytes.
    func send(_ frame: [UInt8], buffers size: Int) {
        for start in stride(from: 0, to: frame.count, by: size) {
            let end = min(start + size, frame.count)
            arriving.append(Piece(bytes: frame[start..<end], goesOn: end < frame.count))
        }
    }

    /// The driver takes up to `count` buffers from the fill ring.
    func takeBuffers(_ count: Int) {
        let available = fill.available(UInt32(count))
        // Where in a buffer an address points says nothing.
        for i in 0..<available { buffers.append(fill.peek(i) & ~UInt64(frameSize - 1)) }
        fill.release(available)
    }

    /// Up to `count` buffers of what is on the wire are received, into whichever the driver likes.
    func receive(_ count: Int, _ random: inout some RandomNumberGenerator) {
        var received = 0
        while received < min(count, arriving.count), !buffers.isEmpty, rx.room(for: 1) > 0 {
            let piece = arriving[received]
            // Head room and what an XDP program may have moved, or as much of it as leaves room for the data.
            let offset = min(Int.random(in: 256...384, using: &random), frameSize - piece.bytes.count)
            let address = buffers.remove(at: Int.random(in: 0..<buffers.count, using: &random)) + UInt64(offset)
            piece.bytes.withUnsafeBytes { (base + Int(address)).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
            rx.put(xdp_desc(addr: address, len: UInt32(piece.bytes.count), options: piece.goesOn ? 1 : 0))
            received += 1
        }
        arriving.removeFirst(received)
        rx.publish()
    }

    /// Whether the kernel takes nothing from the TX ring, or the fill ring, unless it is kicked (XDP_RING_NEED_WAKEUP).
    var transmitSleeps: Bool {
        get { memories.tx.flags.pointee.load(ordering: .relaxed) & 1 != 0 }
        set { memories.tx.flags.pointee.store(newValue ? 1 : 0, ordering: .relaxed) }
    }
    var receiveSleeps: Bool {
        get { memories.fill.flags.pointee.load(ordering: .relaxed) & 1 != 0 }
        set { memories.fill.flags.pointee.store(newValue ? 1 : 0, ordering: .relaxed) }
    }

    /// What went out since the last call.
    func takeSent() -> [[UInt8]] {
        defer { sent = [] }
        return sent
    }

    /// Takes up to `count` descriptors from the TX ring.
    func transmit(_ count: Int) {
        let available = tx.available(UInt32(count))
        for i in 0..<available {
            let descriptor = tx.peek(i)
            sending.append(descriptor)
            sendingBytes.append(bytes(of: descriptor))
            openChain += sendingBytes.last!
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
            let i = Int.random(in: 0..<sending.count, using: &random)
            let descriptor = sending.remove(at: i)
            if sendingBytes.remove(at: i) != bytes(of: descriptor) { overwritten += 1 }
            completion.put(descriptor.addr)
        }
        completion.publish()
    }

    private func bytes(of descriptor: xdp_desc) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: base + Int(descriptor.addr), count: Int(descriptor.len)))
    }

    /// Addresses the kernel holds in the fill ring and the descriptors it has shown but the worker not taken.
    var held: [UInt64] { places.flatMap(\.addresses) }

    /// The same by place.
    var places: [(name: String, addresses: [UInt64])] {
        [
            ("fill ring", addresses(memories.fill)), ("driver, to receive", buffers), ("RX ring", descriptors(memories.rx).map(\.addr)),
            ("TX ring", descriptors(memories.tx).map(\.addr)), ("driver, to send", sending.map(\.addr)),
            ("completion ring", addresses(memories.completion)),
        ]
    }

    /// Whole frames in the TX ring.
    var framesToTransmit: Int { descriptors(memories.tx).count { $0.options & 1 == 0 } }

    var received: UInt32 { memories.rx.occupancy }
    var toTransmit: UInt32 { memories.tx.occupancy }

    private func addresses(_ memory: RingMemory) -> [UInt64] {
        entries(memory).map { (memory.entries + $0 * 8).load(as: UInt64.self) }
    }

    private func descriptors(_ memory: RingMemory) -> [xdp_desc] {
        entries(memory).map { (memory.entries + $0 * 16).load(as: xdp_desc.self) }
    }

    private func entries(_ memory: RingMemory) -> [Int] {
        let first = memory.consumer.pointee.load(ordering: .relaxed)
        return (0..<memory.occupancy).map { Int((first &+ $0) & (memory.size - 1)) }
    }
}

// MARK: - Kicks

/// Fake ports by descriptor, for the two system calls that wake the kernel. The linker takes a function of the test binary
/// before the C library's, so the worker's calls come here; everybody else's go on to the C library.
enum FakeCalls {
    /// No kernel gives out such numbers.
    private static let first: Int32 = 1 << 30
    private static let next = Atomic<Int32>(first)
    private static let ports = Mutex<[Int32: Unmanaged<FakePort>]>([:])

    static func newDescriptor() -> Int32 { next.add(1, ordering: .relaxed).oldValue }
    static func register(_ port: FakePort) { ports.withLock { $0[port.descriptor] = Unmanaged.passUnretained(port) } }
    static func forget(_ descriptor: Int32) { ports.withLock { _ = $0.removeValue(forKey: descriptor) } }

    fileprivate static func port(_ descriptor: Int32) -> FakePort? {
        descriptor < first ? nil : ports.withLock { $0[descriptor]?.takeUnretainedValue() }
    }

    /// The C library's own function.
    fileprivate static func original<Function>(_ name: String, as type: Function.Type) -> Function {
        // RTLD_NEXT, which Swift does not import.
        unsafeBitCast(dlsym(UnsafeMutableRawPointer(bitPattern: -1), name)!, to: type)
    }
}

private typealias SendTo = @convention(c) (Int32, UnsafeRawPointer?, Int, Int32, UnsafeRawPointer?, socklen_t) -> Int
private typealias ReceiveFrom =
    @convention(c) (Int32, UnsafeMutableRawPointer?, Int, Int32, UnsafeMutableRawPointer?, UnsafeMutablePointer<socklen_t>?) -> Int

@_cdecl("sendto")
func fakeSendTo(
    _ descriptor: Int32, _ data: UnsafeRawPointer?, _ count: Int, _ flags: Int32, _ address: UnsafeRawPointer?, _ length: socklen_t
) -> Int {
    guard let port = FakeCalls.port(descriptor) else {
        return FakeCalls.original("sendto", as: SendTo.self)(descriptor, data, count, flags, address, length)
    }
    let error = port.onTransmitKick()
    if error == 0 { return 0 }
    errno = error
    return -1
}

@_cdecl("recvfrom")
func fakeReceiveFrom(
    _ descriptor: Int32, _ data: UnsafeMutableRawPointer?, _ count: Int, _ flags: Int32, _ address: UnsafeMutableRawPointer?,
    _ length: UnsafeMutablePointer<socklen_t>?
) -> Int {
    guard let port = FakeCalls.port(descriptor) else {
        return FakeCalls.original("recvfrom", as: ReceiveFrom.self)(descriptor, data, count, flags, address, length)
    }
    port.onReceiveKick()
    return 0
}
