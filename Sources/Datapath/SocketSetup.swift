// Opening AF_XDP sockets: UMEM, rings, binding.
//
// One UMEM serves all sockets of a worker, on both ports, so that an allowed frame crosses as a descriptor.
// The first socket registers it; the others bind with XDP_SHARED_UMEM.

import CLinux
import Glibc

/// How a port hands its frames over, as the kernel says it, not as we asked.
public enum SocketMode: String, Sendable, Codable {
    case zeroCopy = "zero-copy"
    case copy
}

/// Ring sizes, in entries; powers of two.
///
/// 4096 is what waits while a virtual machine's host takes the processor away for 4 ms at a million frames a second.
struct RingSizes {
    var rx: UInt32 = 4096
    var tx: UInt32 = 2048
    /// Larger than all frames of a worker, so that nobody ever waits for room in them.
    var fill: UInt32
    var completion: UInt32
}

/// An open socket and its mappings; closed when it goes away.
final class XSKSocket {
    /// Name of the port it is for.
    let port: String
    let descriptor: Int32
    /// The XDP program's count of timed frames of this queue.
    let stamped: UnsafeMutablePointer<Counter>
    private let mappings: [(UnsafeMutableRawPointer, Int)]
    let rx: RingMemory
    let tx: RingMemory
    let fill: RingMemory
    let completion: RingMemory

    /// Opens a socket and its rings; not bound yet.
    ///
    /// - Parameter stamped: see there.
    /// - Parameter frames: registered as this socket's UMEM if it is the first of its worker.
    init(
        port: String, queue: Int, frames: borrowing FrameMemory, isFirst: Bool, sizes: RingSizes,
        stamped: UnsafeMutablePointer<Counter>
    ) throws(DatapathError) {
        let subject = "\(port) queue \(queue)"
        let fd = socket(AF_XDP, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else {
            let code = errno
            throw DatapathError(
                "opening an AF_XDP socket for \(subject)", code: code,
                hint: code == EAFNOSUPPORT
                    ? "this kernel is built without CONFIG_XDP_SOCKETS; use a distribution kernel"
                    : DatapathError.usualHint(code, port: port))
        }
        func fail(_ what: String) -> DatapathError {
            let code = errno
            close(fd)
            return DatapathError("\(what) of \(subject)", code: code, hint: DatapathError.usualHint(code, port: port))
        }
        if isFirst {
            var region = xdp_umem_reg()
            region.addr = UInt64(UInt(bitPattern: frames.base))
            region.len = UInt64(frames.byteCount)
            region.chunk_size = UInt32(frames.frameSize)
            guard setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &region, socklen_t(MemoryLayout<xdp_umem_reg>.size)) == 0 else {
                throw fail("registering \(frames.byteCount >> 20) MiB of frames as UMEM")
            }
        }
        for (option, name, size) in [
            (XDP_UMEM_FILL_RING, "fill ring", sizes.fill), (XDP_UMEM_COMPLETION_RING, "completion ring", sizes.completion),
            (XDP_RX_RING, "RX ring", sizes.rx), (XDP_TX_RING, "TX ring", sizes.tx),
        ] {
            var entries = size
            guard setsockopt(fd, SOL_XDP, option, &entries, socklen_t(MemoryLayout<UInt32>.size)) == 0 else {
                throw fail("making the \(name) (\(size) entries)")
            }
        }
        var offsets = xdp_mmap_offsets()
        var length = socklen_t(MemoryLayout<xdp_mmap_offsets>.size)
        guard getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) == 0 else { throw fail("reading the ring offsets") }

        var mappings: [(UnsafeMutableRawPointer, Int)] = []
        func map(_ offset: xdp_ring_offset, _ size: UInt32, _ entry: Int, _ page: UInt64) -> RingMemory? {
            let bytes = Int(offset.desc) + Int(size) * entry
            let at = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, off_t(page))
            guard let at, at != MAP_FAILED else { return nil }
            mappings.append((at, bytes))
            func word(_ offset: UInt64) -> UnsafeMutablePointer<RingWord> {
                // The kernel's words are aligned to their size, and Atomic<UInt32> is laid out as one.
                (at + Int(offset)).assumingMemoryBound(to: RingWord.self)
            }
            return RingMemory(
                producer: word(offset.producer), consumer: word(offset.consumer), flags: word(offset.flags),
                entries: at + Int(offset.desc), size: size)
        }
        let entry = MemoryLayout<xdp_desc>.stride
        guard
            let rx = map(offsets.rx, sizes.rx, entry, UInt64(XDP_PGOFF_RX_RING)),
            let tx = map(offsets.tx, sizes.tx, entry, UInt64(XDP_PGOFF_TX_RING)),
            let fill = map(offsets.fr, sizes.fill, 8, UInt64(XDP_UMEM_PGOFF_FILL_RING)),
            let completion = map(offsets.cr, sizes.completion, 8, UInt64(XDP_UMEM_PGOFF_COMPLETION_RING))
        else {
            for (at, size) in mappings { munmap(at, size) }
            throw fail("mapping the rings")
        }
        self.port = port
        self.stamped = stamped
        descriptor = fd
        self.mappings = mappings
        self.rx = rx
        self.tx = tx
        self.fill = fill
        self.completion = completion
    }

    deinit {
        for (at, size) in mappings { munmap(at, size) }
        close(descriptor)
    }

    /// Binds to a queue.
    ///
    /// - Parameters:
    ///   - shared: the worker's first socket, if this is another one.
    ///   - flags: XDP_ZEROCOPY or XDP_COPY, and XDP_USE_SG; ignored for a shared one, which has the first one's.
    /// - Returns: the errno, 0 if bound.
    func bind(ifindex: Int32, queue: Int, shared: Int32?, flags: UInt16) -> Int32 {
        var address = sockaddr_xdp()
        address.sxdp_family = UInt16(AF_XDP)
        address.sxdp_ifindex = UInt32(ifindex)
        address.sxdp_queue_id = UInt32(queue)
        if let shared {
            address.sxdp_flags = UInt16(XDP_SHARED_UMEM)
            address.sxdp_shared_umem_fd = UInt32(shared)
        } else {
            address.sxdp_flags = flags | UInt16(XDP_USE_NEED_WAKEUP)
        }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_xdp>.size))
            }
        }
        return result == 0 ? 0 : errno
    }

    /// What the kernel bound.
    var mode: SocketMode {
        var options = xdp_options()
        var length = socklen_t(MemoryLayout<xdp_options>.size)
        guard getsockopt(descriptor, SOL_XDP, XDP_OPTIONS, &options, &length) == 0 else { return .copy }
        return options.flags & UInt32(XDP_OPTIONS_ZEROCOPY) != 0 ? .zeroCopy : .copy
    }

    /// Lets one call send a whole ring in copy mode (Linux 6.18); older kernels stay at 32 frames.
    func raiseTransmitBudget(to frames: UInt32) {
        var budget = frames
        setsockopt(
            descriptor, SOL_XDP, Int32(clinux_XDP_MAX_TX_SKB_BUDGET), &budget, socklen_t(MemoryLayout<UInt32>.size))
    }

    /// The kernel's own counters.
    static func statistics(_ descriptor: Int32) -> KernelCounts {
        var statistics = xdp_statistics()
        var length = socklen_t(MemoryLayout<xdp_statistics>.size)
        guard getsockopt(descriptor, SOL_XDP, XDP_STATISTICS, &statistics, &length) == 0 else { return KernelCounts() }
        return KernelCounts(
            dropped: statistics.rx_dropped, ringFull: statistics.rx_ring_full,
            fillEmpty: statistics.rx_fill_ring_empty_descs,
            invalid: statistics.rx_invalid_descs &+ statistics.tx_invalid_descs)
    }
}

/// What the kernel counted on a socket.
public struct KernelCounts: Sendable, Codable {
    /// Frames dropped for other reasons than a full ring.
    public var dropped: UInt64 = 0
    /// Frames dropped because the RX ring was full: the worker is too slow.
    public var ringFull: UInt64 = 0
    /// Frames that found the fill ring empty.
    public var fillEmpty: UInt64 = 0
    /// Descriptors the kernel refused: a fault of ours.
    public var invalid: UInt64 = 0
}
