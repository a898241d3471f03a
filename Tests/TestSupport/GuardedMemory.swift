// Memory that ends at a page nobody may touch: one byte read too far ends the test.

import Glibc

/// Copies bytes so that the last one lies just in front of a forbidden page.
public final class GuardedMemory {
    private let mapping: UnsafeMutableRawPointer
    private let pages: Int
    private static let page = 4096

    /// - Parameter capacity: bytes that can be placed.
    public init(capacity: Int = 16384) {
        pages = capacity / Self.page + 2
        mapping = mmap(nil, pages * Self.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(mapping != MAP_FAILED)
        mprotect(mapping + (pages - 1) * Self.page, Self.page, PROT_NONE)
    }

    deinit { munmap(mapping, pages * Self.page) }

    public func place(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
        let start = mapping + (pages - 1) * Self.page - bytes.count
        bytes.withUnsafeBytes { start.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(mapping), byteCount: bytes.count) }
        return UnsafeRawBufferPointer(start: start, count: bytes.count)
    }
}
