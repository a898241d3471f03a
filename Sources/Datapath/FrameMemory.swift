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
    /// Frames nobody uses. A loop takes a copy and gives it back.
    var free: FreeFrames

    var freeCount: Int { free.count }

    private static let hugePage = 2 << 20

    var byteCount: Int { frameCount * frameSize }

    /// - Precondition: `frameSize` is a power of two.
    init(frameCount: Int, frameSize: Int) throws(DatapathError) {
        precondition(frameSize.nonzeroBitCount == 1)
        self.frameCount = frameCount
        self.frameSize = frameSize
        let size = frameCount * frameSize
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        let access = PROT_READ | PROT_WRITE
        // Reserved huge pages where there are any; else pages that the kernel is asked to join: a burst touches as
        // many pages as it has frames.
        var mapping = mmap(nil, size, access, flags | MAP_POPULATE | Int32(0x40000) /* MAP_HUGETLB */, -1, 0)
        usesHugePages = mapping != MAP_FAILED
        if mapping == MAP_FAILED {
            // With room to begin where a huge page does.
            mapping = mmap(nil, size + Self.hugePage, access, flags, -1, 0)
            if mapping != MAP_FAILED, let start = mapping {
                let aligned = UnsafeMutableRawPointer(
                    bitPattern: (UInt(bitPattern: start) + UInt(Self.hugePage) - 1) & ~UInt(Self.hugePage - 1))!
                let before = aligned - start
                if before > 0 { munmap(start, before) }
                munmap(aligned + size, Self.hugePage - before)
                madvise(aligned, size, MADV_HUGEPAGE)
                // Every page is there before the first frame.
                memset(aligned, 0, size)
                mapping = aligned
            }
        }
        guard mapping != MAP_FAILED, let mapping else {
            throw DatapathError("reserving \(size >> 20) MiB for frames", code: errno, hint: "free memory, or use fewer --queues")
        }
        base = mapping
        // Frames are other people's data: not in a core dump.
        madvise(base, size, MADV_DONTDUMP)
        free = FreeFrames(count: frameCount, frameSize: frameSize)
    }

    deinit {
        munmap(base, byteCount)
        free.deallocate()
    }
}

/// Addresses (offsets into the UMEM) of frames nobody uses; a stack, so that the warmest goes first.
struct FreeFrames: BitwiseCopyable {
    private let stack: UnsafeMutablePointer<UInt64>
    private let mask: UInt64
    private let capacity: Int
    private(set) var count: Int

    fileprivate init(count: Int, frameSize: Int) {
        stack = .allocate(capacity: count)
        for i in 0..<count { stack[i] = UInt64((count - 1 - i) * frameSize) }
        mask = ~UInt64(frameSize - 1)
        capacity = count
        self.count = count
    }

    fileprivate func deallocate() { stack.deallocate() }

    @inline(__always)
    mutating func take() -> UInt64 {
        assert(count > 0)
        count &-= 1
        return stack[count]
    }

    /// Takes a frame back. The address may lie anywhere inside it: the kernel leaves
    /// head room in front of the data and returns the data's address.
    @inline(__always)
    mutating func give(_ address: UInt64) {
        assert(count < capacity)
        stack[count] = address & mask
        count &+= 1
    }
}
