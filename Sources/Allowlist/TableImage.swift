// A table's exact tier as bytes, for the C twin: Bench/CTwin/include/ctwin.h describes them once more.
//
//   header │ slots of IPv4 keys │ pilots │ slots of IPv6 keys │ pilots │ EtherTypes

import Frames

/// A table written out. Only tables without networks, narrowed rules and bindings can be.
public struct TableImage {
    public let bytes: [UInt8]

    /// "SKTABLE1"
    private static let magic: UInt64 = 0x3145_4C42_4154_4B53
    private static let alignment = 64

    public init?(_ table: CompiledTable) {
        let view = table.view.pointee
        guard view.labels.isEmpty, !view.hasBindings, !table.source.rules.contains(where: \.isNarrowed) else { return nil }
        var body: [UInt8] = []
        let headerBytes = 8 + 8 + 2 * 11 * 8 + 4 * 8
        let bodyStart = (headerBytes + Self.alignment - 1) / Self.alignment * Self.alignment
        func append(_ bytes: UnsafeRawPointer, _ count: Int) -> UInt64 {
            let at = bodyStart + body.count
            body += UnsafeRawBufferPointer(start: bytes, count: count)
            // A spare line behind, and the next part on a line of its own.
            body += [UInt8](repeating: 0, count: Self.alignment + (Self.alignment - count % Self.alignment) % Self.alignment)
            return UInt64(at)
        }
        func words<Key>(_ perfect: PerfectTable<Key>) -> [UInt64] {
            let parts = perfect.isPlain ? 1 : Int((perfect.bucketCount - 1) >> perfect.partShift) + 1
            let slots = parts * Int(perfect.slotsPerPart) * MemoryLayout<Key>.stride
            let pilots = perfect.isPlain ? 0 : Int(perfect.bucketCount)
            return [
                append(perfect.slots, slots), append(perfect.pilots, pilots), perfect.seed.s0, perfect.seed.s1, perfect.seed.s2,
                perfect.seed.s3, perfect.bucketCount, perfect.partShift, perfect.slotsPerPart, UInt64(perfect.count),
                perfect.isPlain ? 1 : 0,
            ]
        }
        let exact4 = words(view.exact4), exact6 = words(view.exact6)
        let etherTypes = append(view.etherTypes, 8192)
        var header = [Self.magic, UInt64(bodyStart + body.count)] + exact4 + exact6
        header += [etherTypes, UInt64(view.mode.rawValue), UInt64(table.source.rules.count), view.version]
        var bytes: [UInt8] = []
        for word in header { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        bytes += [UInt8](repeating: 0, count: bodyStart - bytes.count)
        self.bytes = bytes + body
    }
}
