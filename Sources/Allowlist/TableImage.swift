// A table as bytes, for those who judge beside the worker: the kernel's twin (BPF/twin.h) and the C twin of the packet
// path (Bench/CTwin/include/ctwin.h), which knows the first part of the header. Both describe it once more.
//
//   header │ slots of IPv4 keys │ pilots │ slots of IPv6 keys │ pilots │ EtherTypes │ labels │ lists │ bindings
//
// Little-endian words; offsets in bytes from the beginning; each part on a cache line, with a spare one behind.

import Frames

/// A table written out.
public struct TableImage {
    public let bytes: [UInt8]
    /// Words of the header, which the kernel's twin has in a map of its own.
    public static let headerWords = 28 + 3 * perfectWords + 12

    /// "SKTABLE2"
    private static let magic: UInt64 = 0x3245_4C42_4154_4B53
    private static let alignment = 64
    private static let perfectWords = 11

    public init(_ table: CompiledTable) {
        let view = table.view.pointee
        let bodyStart = Self.aligned(Self.headerWords * 8)
        var body: [UInt8] = []
        body.reserveCapacity(table.bytes + 4096)
        func append(_ part: UnsafeRawBufferPointer) -> UInt64 {
            let at = bodyStart + body.count
            body += part
            body += [UInt8](repeating: 0, count: Self.aligned(part.count) - part.count + Self.alignment)
            return UInt64(at)
        }
        func block<T>(_ base: UnsafePointer<T>) -> UInt64 { append(table.memory.block(at: base)) }
        func words<Key>(_ perfect: PerfectTable<Key>) -> [UInt64] {
            let parts = perfect.isPlain ? 1 : Int((perfect.bucketCount - 1) >> perfect.partShift) + 1
            let slots = parts * Int(perfect.slotsPerPart) * MemoryLayout<Key>.stride
            let pilots = perfect.isPlain ? 0 : Int(perfect.bucketCount)
            return [
                append(UnsafeRawBufferPointer(start: perfect.slots, count: slots)),
                append(UnsafeRawBufferPointer(start: perfect.pilots, count: pilots)),
                perfect.seed.s0, perfect.seed.s1, perfect.seed.s2, perfect.seed.s3, perfect.bucketCount, perfect.partShift,
                perfect.slotsPerPart, UInt64(perfect.count), perfect.isPlain ? 1 : 0,
            ]
        }
        let exact4 = words(view.exact4), exact6 = words(view.exact6)
        var header = [Self.magic, 0] + exact4 + exact6
        header += [block(view.etherTypes), UInt64(view.mode.rawValue), UInt64(table.source.rules.count), view.version]
        header += words(view.labels.pairs) + words(view.bindings4) + words(view.bindings6)
        if view.labels.isEmpty {
            header += [UInt64](repeating: 0, count: 6)
        } else {
            header += [block(view.labels.trie4.root), block(view.labels.trie4.nodes)]
            header += [block(view.labels.trie6.root), block(view.labels.trie6.nodes)]
            header += [block(view.labels.projections), block(view.labels.portSets.words)]
        }
        header += [block(view.references.narrowings), block(view.references.vlans), block(view.references.lists)]
        header += [block(view.boundMACs), UInt64(view.labels.probesInUse), (view.hasBindings ? 1 : 0) | (view.hasSides ? 2 : 0)]
        precondition(header.count == Self.headerWords)
        header[1] = UInt64(bodyStart + body.count)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(bodyStart + body.count)
        for word in header { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        bytes += [UInt8](repeating: 0, count: bodyStart - bytes.count)
        self.bytes = bytes + body
    }

    private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }
}

extension CompiledTable {
    /// Whether exact keys are all there is: no networks, no rules narrowed to VLANs or a side, no bindings.
    public var isExactOnly: Bool {
        view.pointee.labels.isEmpty && !view.pointee.hasBindings && !source.rules.contains(where: \.isNarrowed)
    }
}
