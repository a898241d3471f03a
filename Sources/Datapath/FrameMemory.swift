// UMEM: the memory all frames of one worker lie in, and the stack of those nobody uses.

import CLinux
import Glibc

/// Frames of equal size in one mapping, owned.
struct FrameMemory: ~Copyable {
    let base: UnsafeMutableRawPointer
    let frameCount: Int
    /// Bytes of a frame: 2048 or 4096.
    let frameSize: Int
    let usesHugePages: Bool
    /// Addresses (offsets from `base`) of frames nobody uses; a stack, so that the warmest goes first.
    private let free: UnsafeMutablePointer<UInt64>
    private(set) var freeCount: Int

    var byteCount: Int { frameCount * frameSize }

    /// - Precondition: `frameSize` is a power of two.
    init(frameCount: Int, frameSize: Int) throws(DatapathError) {
        precondition(frameSize.nonzeroBitCount == 1)
        self.frameCount = frameCount
        self.frameSize = frameSize
        let size = frameCount * frameSize
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
        // Reserved huge pages where there are any; else normal ones, which the kernel may join.
        var mapping = mmap(nil, size, PROT_READ | PROT_WRITE, flags | Int32(0x40000) /* MAP_HUGETLB */, -1, 0)
        usesHugePages = mapping != MAP_FAILED
        if mapping == MAP_FAILED { mapping = mmap(nil, size, PROT_READ | PROT_WRITE, flags, -1, 0) }
        guard mapping != MAP_FAILED, let mapping else {
            throw DatapathError("reserving \(size >> 20) MiB for frames", code: errno, hint: "free memory, or use fewer --queues")
        }
        base = mapping
        // Frames are other people's data: not in a core dump.
        madvise(base, size, MADV_DONTDUMP)
        free = .allocate(capacity: frameCount)
        for i in 0..<frameCount { free[i] = UInt64((frameCount - 1 - i) * frameSize) }
        freeCount = frameCount
    }

    deinit {
        munmap(base, byteCount)
        free.deallocate()
    }

    @inline(__always)
    mutating func take() -> UInt64 {
        assert(freeCount > 0)
        freeCount &-= 1
        return free[freeCount]
    }

    /// Takes a frame back. The address may lie anywhere inside it: the kernel leaves
    /// head room in front of the data and returns the data's address.
    @inline(__always)
    mutating func give(_ address: UInt64) {
        assert(freeCount < frameCount)
        free[freeCount] = address & ~UInt64(truncatingIfNeeded: frameSize &- 1)
        freeCount &+= 1
    }
}
