// The third port: sends copies of frames of chosen conversations to whoever looks into them (Suricata, Zeek, a recorder).
//
// A thread of its own, by plain packet sockets: the port needs no XDP, and nothing that becomes of it is felt on the wire.

import CLinux
import Glibc
import Synchronization

/// What became of copies.
public struct MirrorSnapshot: Sendable, Equatable {
    public var port: String
    public var frames: UInt64
    public var bytes: UInt64
    /// No room: the port is slower than what is to be copied, or down.
    public var lost: UInt64
    /// The port would not take them: longer than its MTU, most likely.
    public var refused: UInt64
}

final class MirrorPort: @unchecked Sendable {
    // Unchecked: set before the thread starts, or atomic.
    let name: String
    private let socket: Int32
    private var rings: [MirrorRing] = []
    private var thread = pthread_t()
    private let isToEnd = Atomic<Bool>(false)
    private let frames = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)
    private let refused = Atomic<UInt64>(0)

    /// Frames a system call sends.
    private static let burst = 64
    /// Pauses after which a port that takes nothing is taken to be without a cable: a tenth of a second.
    private static let patience = 200
    /// Where there is nothing to send, or no room to, in microseconds: a hundredth of what a ring holds at 1 Gbit/s.
    private static let pause: UInt32 = 500

    init(_ port: NetworkPort) throws(DatapathError) {
        name = port.name
        socket = clinux_sender(port.index)
        guard socket >= 0 else { throw DatapathError("opening the mirror port \(port.name)", code: -socket, hint: DatapathError.usualHint(-socket, port: port.name)) }
    }

    deinit { close(socket) }

    /// A ring for one more worker; before `start`.
    func addRing() -> MirrorRing {
        let ring = MirrorRing()
        rings.append(ring)
        return ring
    }

    func start() throws(DatapathError) {
        let argument = Unmanaged.passRetained(self).toOpaque()
        let error = pthread_create(&thread, nil, { argument in
            Unmanaged<MirrorPort>.fromOpaque(argument!).takeRetainedValue().run()
            return nil
        }, argument)
        guard error == 0 else {
            Unmanaged<MirrorPort>.fromOpaque(argument).release()
            throw DatapathError("starting the thread of the mirror port \(name)", code: error)
        }
    }

    /// Sends what waits, and ends.
    func stop() {
        guard thread != pthread_t() else { return }
        isToEnd.store(true, ordering: .releasing)
        pthread_join(thread, nil)
        thread = pthread_t()
    }

    var snapshot: MirrorSnapshot {
        MirrorSnapshot(
            port: name, frames: frames.load(ordering: .relaxed), bytes: bytes.load(ordering: .relaxed), lost: rings.reduce(0) { $0 + $1.lost },
            refused: refused.load(ordering: .relaxed))
    }

    private func run() {
        clinux_name_thread("sekisho-mirror")
        _ = clinux_keep_capabilities(0)
        // Off the workers' processors.
        _ = clinux_follow_first_thread()
        var list: [iovec] = []
        list.reserveCapacity(Self.burst)
        while true {
            let isLast = isToEnd.load(ordering: .acquiring)
            var sent = 0
            for ring in rings { sent += send(ring, &list) }
            if sent == 0 {
                if isLast { return }
                usleep(Self.pause)
            }
        }
    }

    /// - Returns: frames that are gone from the ring, whatever became of them.
    private func send(_ ring: MirrorRing, _ list: inout [iovec]) -> Int {
        let end = ring.look(&list, most: Self.burst)
        guard !list.isEmpty else {
            ring.release(end)
            return 0
        }
        var done = 0, pauses = 0
        while done < list.count {
            let count = list.withUnsafeMutableBufferPointer { clinux_send_frames(socket, $0.baseAddress! + done, Int32($0.count - done)) }
            if count > 0 {
                let size = list[done..<done + Int(count)].reduce(0) { $0 + $1.iov_len }
                frames.add(UInt64(count), ordering: .relaxed)
                bytes.add(UInt64(size), ordering: .relaxed)
                done += Int(count)
                pauses = 0
            } else if count == -ENOBUFS || count == -EAGAIN || count == -EINTR {
                // Its queue is full; or there is no cable: what is old must not go out when there is one again.
                pauses += 1
                if pauses > Self.patience || isToEnd.load(ordering: .relaxed) {
                    refused.add(UInt64(list.count - done), ordering: .relaxed)
                    break
                }
                usleep(Self.pause)
            } else {
                // Too long for this port, or the port is down or gone: one less.
                refused.add(1, ordering: .relaxed)
                done += 1
            }
        }
        ring.release(end)
        return list.count
    }
}
