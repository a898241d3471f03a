// The one place where bytes from the wire are read without a check.

/// Reads big-endian fields of one frame.
///
/// A caller first proves with `holds` that the bytes are there, then reads
/// them unchecked: a header costs one comparison, not one per field. All
/// offsets are from the first byte of the frame.
struct WireReader {
    let base: UnsafeRawPointer
    /// Bytes that may be read.
    let available: Int

    @inline(__always)
    init(_ base: UnsafeRawPointer, available: Int) {
        self.base = base
        self.available = available
    }

    /// Whether `count` bytes at `offset` may be read. Neither can overflow:
    /// both are sums of header lengths of at most 16 bits.
    @inline(__always)
    func holds(_ count: Int, at offset: Int) -> Bool { offset &+ count <= available }

    @inline(__always)
    func byte(_ offset: Int) -> UInt8 {
        assert(holds(1, at: offset))
        return base.loadUnaligned(fromByteOffset: offset, as: UInt8.self)
    }

    @inline(__always)
    func word16(_ offset: Int) -> UInt16 {
        assert(holds(2, at: offset))
        return UInt16(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    @inline(__always)
    func word32(_ offset: Int) -> UInt32 {
        assert(holds(4, at: offset))
        return UInt32(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inline(__always)
    func word64(_ offset: Int) -> UInt64 {
        assert(holds(8, at: offset))
        return UInt64(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always)
    func ipv4(_ offset: Int) -> AddressWords { AddressWords(high: 0, low: UInt64(word32(offset))) }

    @inline(__always)
    func ipv6(_ offset: Int) -> AddressWords {
        AddressWords(high: word64(offset), low: word64(offset &+ 8))
    }

    @inline(__always)
    func mac(_ offset: Int) -> MACAddress {
        MACAddress(rawValue: UInt64(word16(offset)) << 32 | UInt64(word32(offset &+ 2)))
    }
}
