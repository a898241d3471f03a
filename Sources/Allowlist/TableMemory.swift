// Memory of tables: allocated once, cache-line aligned, freed with its owner.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Owns blocks of plain memory until it goes away.
///
/// Not locked: one thread builds, and after that nobody changes it.
final class TableMemory: @unchecked Sendable {
    // Unchecked: mutated only while the builder is its sole user.
    private var blocks: [(base: UnsafeMutableRawPointer, bytes: Int)] = []
    private(set) var bytes = 0

    /// From this size on a block is aligned to 2 MiB and offered to the kernel as huge pages:
    /// at a million rules a lookup would otherwise miss the TLB as well as the cache.
    private static let hugePage = 2 << 20

    func allocate<T: BitwiseCopyable>(_ type: T.Type, count: Int) -> UnsafeMutablePointer<T> {
        // One spare line behind: a prefetch of the last slot's end stays inside.
        let size = max(count, 1) * MemoryLayout<T>.stride + 64
        let isLarge = size >= Self.hugePage
        var block: UnsafeMutableRawPointer?
        let error = posix_memalign(&block, isLarge ? Self.hugePage : 64, size)
        guard error == 0, let block else { fatalError("no memory for a table of \(size) bytes") }
        if isLarge { madvise(block, size, MADV_HUGEPAGE) }
        blocks.append((block, count * MemoryLayout<T>.stride))
        bytes += size
        return block.bindMemory(to: T.self, capacity: max(count, 1))
    }

    /// Zeroed, and backed by pages only where it is touched.
    func allocateZeroed(bytes size: Int) -> UnsafeMutableRawPointer {
        let isLarge = size >= Self.hugePage
        let length = (size + 4095) & ~4095
        let map = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let map, map != MAP_FAILED else { fatalError("no memory for a table of \(length) bytes") }
        if isLarge { madvise(map, length, MADV_HUGEPAGE) }
        maps.append((map, length))
        bytes += length
        return map
    }

    /// One value that is not plain data.
    func allocate<T: ~Copyable>(_ type: T.Type) -> UnsafeMutablePointer<T> {
        allocate(UInt8.self, count: MemoryLayout<T>.stride).withMemoryRebound(to: T.self, capacity: 1) { $0 }
    }

    private var maps: [(base: UnsafeMutableRawPointer, bytes: Int)] = []

    /// The block that begins there, as far as it was asked for.
    func block(at base: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        let bytes = blocks.first { UnsafeRawPointer($0.base) == base }?.bytes
        precondition(bytes != nil, "no block of this table begins there")
        return UnsafeRawBufferPointer(start: base, count: bytes!)
    }

    deinit {
        for block in blocks { free(block.base) }
        for map in maps { munmap(map.base, map.bytes) }
    }
}
