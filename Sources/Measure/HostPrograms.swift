// The end hosts' kernel programs (BPF/bench_hosts.bpf.c): what to send, what arrived, and one call to run a trial.
//
// The structures shared with the C side stand here once more; change both.

import CLinux
import Foundation
import Frames
import Glibc

/// A frame of the list that is sent round and round.
public struct ListedFrame: Sendable {
    /// What the frame begins with. The rest of `length` is left as it is, and the end is the trailer's.
    public var bytes: [UInt8]
    /// Without the frame check sequence, as a capture counts.
    public var length: Int
    /// The side it comes from.
    public var from: Side
    public var isAllowed: Bool
    /// Nanoseconds after the first frame, for recorded times.
    public var offset: UInt64 = 0

    public init(bytes: [UInt8], length: Int, from: Side, isAllowed: Bool, offset: UInt64 = 0) {
        self.bytes = bytes
        self.length = length
        self.from = from
        self.isAllowed = isAllowed
        self.offset = offset
    }
}

/// How a trial sends.
struct SendingPlan {
    /// Frames a second; ignored if `round` is set.
    var rate: Double
    var seconds: Double
    /// Frames that are due at once.
    var burst = 1
    /// Recorded times: the length of one round of the list in ns, after which it begins anew.
    var round: UInt64 = 0
    /// The generator shares its processor: latency counts from when a frame got away, and a late one pushes the others.
    var yields = false
}

/// What the end hosts say of a trial.
struct HostCounts {
    var due = 0
    var sent = 0
    /// Nanoseconds the generator waited for a frame to be due.
    var waited: UInt64 = 0
    /// Arrived, by the side they came from.
    var arrived = [0, 0]
    var deniedArrived = 0
    var reflected = 0
    var reordered = 0
    /// When the first frame was due; CLOCK_MONOTONIC, ns.
    var begin: UInt64 = 0
    var samples: [Sample] = []
}

/// One frame's way.
struct Sample: BitwiseCopyable {
    /// Nanoseconds from when it was due to its arrival.
    var latency: UInt32
    var sequence: UInt32
}

final class HostPrograms {
    /// Bytes of a frame that are kept, so that headers with two tags and IPv6 fit; replayed captures keep all.
    static let headerBytes = 112
    /// Longest frame the beds' ports take: MTU 1500, Ethernet header, one tag. Replays keep so much.
    static let longestFrame = 1518
    static let trailerBytes = 16
    /// Samples kept of one trial.
    private static let samplesMost = 1 << 22
    private static let frameHeader = 16
    /// Time for the call to set itself up before the first frame is due; it takes some 5 ms.
    private static let lead: UInt64 = 20_000_000

    private let object: OpaquePointer
    private let frames: UnsafeMutableRawPointer
    private let plan: UnsafeMutablePointer<UInt64>
    private let samples: UnsafeMutablePointer<Sample>
    private let arrived: UnsafeMutablePointer<UInt64>
    private let stride: Int
    private let capacity: Int
    private let kept: Int
    private(set) var listed: [ListedFrame] = []

    /// - Parameters:
    ///   - capacity: frames in the longest list.
    ///   - kept: bytes of each frame that can be kept.
    init(capacity: Int, kept: Int = HostPrograms.headerBytes) throws(MeasureError) {
        guard let bytes = Data(base64Encoded: EmbeddedBenchHosts.base64) else {
            throw MeasureError("reading the embedded programs of the end hosts", hint: "the binary is damaged; install it again")
        }
        self.capacity = capacity
        self.kept = (kept + 7) / 8 * 8
        stride = Self.frameHeader + self.kept
        var log = [CChar](repeating: 0, count: 16384)
        var constants = [UInt32(self.kept), UInt32(Self.samplesMost)]
        let (entries, size) = (UInt32(capacity), UInt32(stride))
        let loaded = "frames".withCString { name in
            var map = clinux_map_size(map: name, entries: entries, value_size: size)
            return bytes.withUnsafeBytes {
                clinux_bpf_load($0.baseAddress, $0.count, &map, 1, &constants, 2, &log, log.count)
            }
        }
        guard let loaded else {
            let code = errno
            let said = String(decoding: log.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw MeasureError(
                "loading the programs of the end hosts\(said.isEmpty ? "" : " (\(said.suffix(400)))")", code: code,
                hint: code == EPERM ? "run as root" : "the kernel must be 5.18 or newer (BPF_PROG_RUN with live frames)")
        }
        object = loaded
        func map(_ name: String) -> UnsafeMutableRawPointer? {
            var length = 0
            return clinux_bpf_map(loaded, name, &length)
        }
        guard let frames = map("frames"), let plan = map("plan"), let samples = map("samples"), let arrived = map("arrived") else {
            let code = errno
            clinux_bpf_close(loaded)
            throw MeasureError("mapping the end hosts' memory", code: code)
        }
        self.frames = frames
        self.plan = plan.assumingMemoryBound(to: UInt64.self)
        self.samples = samples.assumingMemoryBound(to: Sample.self)
        self.arrived = arrived.assumingMemoryBound(to: UInt64.self)
    }

    // Mappings go with the process; the programs with the ports they are on.
    deinit { clinux_bpf_close(object) }

    // MARK: - Set-up

    /// Makes a port of the calling thread's namespace an end host: frames from `side` leave by it, and arrive at it.
    func attachEnd(_ side: Side, ifindex: Int32) throws(MeasureError) {
        let error = clinux_bpf_attach_ingress(object, side == .outside ? "sink_outside" : "sink_inside", ifindex)
        guard error == 0 else { throw MeasureError("attaching the sink of the \(side) host", code: -error) }
    }

    /// Chooses the ports of the next trial. In each the calling thread must be in the port's namespace.
    func choose(_ side: Side, ifindex: Int32) throws(MeasureError) {
        let error = clinux_bpf_set(object, "ends", side == .outside ? 0 : 1, UInt32(ifindex))
        guard error == 0 else { throw MeasureError("choosing the \(side) host's port", code: -error) }
    }

    /// The peer that only redirects, between two ports of the calling thread's namespace.
    func attachRedirect(outside: Int32, inside: Int32) throws(MeasureError) {
        for (key, port, program) in [(UInt32(0), outside, "to_inside"), (1, inside, "to_outside")] {
            var error = clinux_bpf_set(object, "ports", key, UInt32(port))
            if error == 0 { error = clinux_bpf_attach_xdp(object, program, port) }
            guard error == 0 else { throw MeasureError("attaching the redirect program", code: -error) }
        }
    }

    /// Puts a list in place of the last one.
    func load(_ list: [ListedFrame]) throws(MeasureError) {
        guard !list.isEmpty, list.count <= capacity else { throw MeasureError("loading \(list.count) frames; the most is \(capacity)") }
        listed = list
        for (index, frame) in list.enumerated() {
            let at = frames + index * stride
            at.storeBytes(of: frame.offset, as: UInt64.self)
            at.storeBytes(of: UInt16(frame.length), toByteOffset: 8, as: UInt16.self)
            at.storeBytes(of: UInt16(min(frame.bytes.count, frame.length, kept)), toByteOffset: 10, as: UInt16.self)
            at.storeBytes(of: frame.from == .outside ? 0 : 1, toByteOffset: 12, as: UInt8.self)
            at.storeBytes(of: frame.isAllowed ? 0 : 1, toByteOffset: 13, as: UInt8.self)
            frame.bytes.withUnsafeBytes {
                (at + Self.frameHeader).copyMemory(from: $0.baseAddress!, byteCount: min($0.count, kept))
            }
        }
    }

    // MARK: - A trial

    /// Sends, waits for what is still on its way, and counts.
    ///
    /// Blocks for as long as the trial lasts; the calling thread is the generator.
    ///
    /// - Parameter ifindex: a port of the calling thread's namespace, for the kernel's books only.
    func run(_ sending: SendingPlan, ifindex: Int32) throws(MeasureError) -> HostCounts {
        var counts = HostCounts()
        let longest = UInt32(listed.reduce(0) { max($0, $1.length) })
        counts.begin = monotonicNow() + Self.lead
        if sending.round > 0 {
            counts.due = Int((sending.seconds * 1e9 / Double(sending.round)).rounded(.up)) * listed.count
        } else {
            counts.due = Int((sending.rate * sending.seconds).rounded())
        }
        counts.due = max(counts.due, 1)
        for word in 0..<3 * 8 { arrived[word] = 0 }
        let words: [UInt64] = [
            counts.begin,
            // What is not sent by then was not carried: a wire does not wait. A thousandth is for the last frames' turn.
            counts.begin + UInt64(sending.seconds * 1.001e9) + 100_000,
            sending.round > 0 ? 0 : UInt64(65536e9 / sending.rate), UInt64(sending.burst), UInt64(counts.due),
            UInt64(listed.count), sending.round, 0, 0, 0, 0, sending.yields ? 1 : 0,
        ]
        for (index, word) in words.enumerated() { plan[index] = word }
        let error = clinux_bpf_run_live(
            object, "generate", ifindex, longest, UInt32(counts.due), UInt32(min(max(sending.burst, 1), 64)))
        guard error == 0 else {
            throw MeasureError(
                "sending live frames", code: -error,
                hint: error == -EINTR ? "interrupted" : "the kernel must be 5.18 or newer, with BPF_PROG_RUN for XDP")
        }
        // A full ring of a slow forwarder may take this long to empty.
        usleep(20_000)
        counts.sent = Int(plan[7])
        counts.waited = plan[8]
        // What came from the inside arrived at the outside end (0), and the other way round.
        counts.arrived = [Int(arrived[0]), Int(arrived[8])]
        counts.deniedArrived = Int(arrived[1] + arrived[9])
        counts.reflected = Int(arrived[2] + arrived[10])
        counts.reordered = Int(arrived[3] + arrived[11])
        let kept = min(Int(arrived[16]), Self.samplesMost)
        counts.samples = Array(UnsafeBufferPointer(start: samples, count: kept))
        return counts
    }
}

/// CLOCK_MONOTONIC, ns: the clock of bpf_ktime_get_ns.
func monotonicNow() -> UInt64 { clinux_monotonic() }
