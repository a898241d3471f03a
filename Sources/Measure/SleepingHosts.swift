// End hosts as applications are: one asks by UDP and sleeps in recv until the answer comes; the other sleeps until asked.
//
// What they see is mostly their own wake-up, which is why it stands apart from the bridge's latency.

import CLinux
import Foundation
import Glibc
import Synchronization

/// A pair of applications on a bed.
final class SleepingHosts: @unchecked Sendable {
    // Unchecked: `times` is written by the asking thread only, and read when it has ended.
    private static let port: UInt16 = 7000
    /// Pause between questions, in µs: every one finds everything asleep.
    private static let pause: UInt32 = 150
    /// A lost answer is given up after this, in ms.
    private static let patience = 50

    private let bed: Bed
    private let cpu: Int
    private let stopped = Atomic<Bool>(false)
    private var times: [UInt32] = []
    private var asked = 0

    init(_ bed: Bed, cpu: Int) {
        self.bed = bed
        self.cpu = cpu
    }

    /// Asks for `seconds` while `body` runs.
    ///
    /// - Returns: half of each round trip, ns, ascending; and how many questions were asked.
    func measure<Result>(
        seconds: Double, while body: () throws(MeasureError) -> Result
    ) throws(MeasureError) -> (halves: [UInt32], asked: Int, result: Result) {
        let server = try socket(bed.toolNamespace), client = try socket(bed.hostNamespace)
        defer {
            close(server)
            close(client)
        }
        var own = Self.address("0.0.0.0")
        guard Self.withAddress(&own, { bind(server, $0, $1) }) == 0 else {
            throw MeasureError("binding the sleeping host's socket", code: errno)
        }
        var peer = Self.address(Bed.toolAddress)
        guard Self.withAddress(&peer, { connect(client, $0, $1) }) == 0 else {
            throw MeasureError("connecting the sleeping host's socket", code: errno)
        }
        let answering = Thread { [self] in
            prepareThread()
            var buffer = [UInt8](repeating: 0, count: 64)
            var from = sockaddr_in()
            while !stopped.load(ordering: .relaxed) {
                var length = socklen_t(MemoryLayout<sockaddr_in>.size)
                let count = Self.withAddress(&from) { address, _ in
                    Int32(recvfrom(server, &buffer, buffer.count, 0, UnsafeMutablePointer(mutating: address), &length))
                }
                if count > 0 { _ = Self.withAddress(&from) { Int32(sendto(server, buffer, Int(count), 0, $0, $1)) } }
            }
            finished.signal()
        }
        let asking = Thread { [self] in
            prepareThread()
            ask(client, until: monotonicNow() + UInt64(seconds * 1e9))
            finished.signal()
        }
        answering.start()
        asking.start()
        let result: Result
        do {
            result = try body()
        } catch {
            end()
            throw error
        }
        finished.wait()
        stopped.store(true, ordering: .relaxed)
        finished.wait()
        return (times.sorted(), asked, result)
    }

    private let finished = DispatchSemaphore(value: 0)

    private func end() {
        stopped.store(true, ordering: .relaxed)
        finished.wait()
        finished.wait()
    }

    private func prepareThread() {
        _ = clinux_pin_thread(Int32(cpu))
        // They share a processor with the generator, which never sleeps: a woken application must come first, as it would on
        // a machine of its own.
        _ = clinux_set_realtime(1)
    }

    private func ask(_ socket: Int32, until end: UInt64) {
        var buffer = [UInt8](repeating: 0, count: 64)
        var number: UInt64 = 0
        while monotonicNow() < end, !stopped.load(ordering: .relaxed) {
            number += 1
            let begin = monotonicNow()
            guard withUnsafeBytes(of: number, { send(socket, $0.baseAddress, $0.count, 0) }) == 8 else { continue }
            asked += 1
            // An answer to an older question is not this one's.
            while recv(socket, &buffer, buffer.count, 0) == 8 {
                if buffer.withUnsafeBytes({ $0.loadUnaligned(as: UInt64.self) }) == number {
                    times.append(UInt32(min((monotonicNow() - begin) / 2, UInt64(UInt32.max))))
                    break
                }
            }
            usleep(Self.pause)
        }
    }

    private func socket(_ namespace: String) throws(MeasureError) -> Int32 {
        let descriptor = try Namespace.enter(namespace) { () throws(MeasureError) -> Int32 in
            Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        guard descriptor >= 0 else { throw MeasureError("opening the sleeping host's socket", code: errno) }
        var limit = timeval(tv_sec: 0, tv_usec: Self.patience * 1000)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }

    private static func address(_ host: String) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, host, &address.sin_addr)
        return address
    }

    private static func withAddress(_ address: inout sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body(UnsafePointer($0), socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}
