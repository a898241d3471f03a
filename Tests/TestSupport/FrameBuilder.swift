// Frames for tests, built header by header, so that a test reads like the frame it is about.

/// Bytes of an Ethernet frame in the making.
public struct FrameBuilder {
    public var bytes: [UInt8] = []

    public init(
        destination: [UInt8] = [0x02, 0, 0, 0, 3, 0x15], source: [UInt8] = [0x02, 0, 0, 0, 3, 0x0A], tags: [(UInt16, UInt16)] = []
    ) {
        bytes = destination + source
        for (type, id) in tags {
            add16(type)
            add16(id)
        }
    }

    public mutating func add16(_ value: UInt16) { bytes += FrameBuilder.be(value) }

    public mutating func add(_ more: [UInt8]) { bytes += more }

    /// An IPv4 packet. `length` and `ihl` can lie.
    public mutating func ipv4(
        from: [UInt8] = [10, 3, 0, 10], to: [UInt8] = [10, 3, 1, 21], proto: UInt8, payload: [UInt8], options: [UInt8] = [],
        fragment: UInt16 = 0, version: UInt8 = 4, ihl: UInt8? = nil, length: UInt16? = nil
    ) {
        add16(0x0800)
        let words = ihl ?? UInt8(5 + options.count / 4)
        add([version << 4 | words, 0])
        add16(length ?? UInt16(20 + options.count + payload.count))
        add16(0x1234)
        add16(fragment)
        add([64, proto, 0, 0])
        add(from + to + options + payload)
    }

    /// An IPv6 packet; `payload` begins with what `next` names.
    public mutating func ipv6(
        from: [UInt8] = FrameBuilder.ipv6Address(10), to: [UInt8] = FrameBuilder.ipv6Address(21), next: UInt8, payload: [UInt8],
        length: UInt16? = nil, version: UInt8 = 6, hopLimit: UInt8 = 64
    ) {
        add16(0x86DD)
        add([version << 4, 0, 0, 0])
        add16(length ?? UInt16(payload.count))
        add([next, hopLimit])
        add(from + to + payload)
    }

    /// fd00:3::n
    public static func ipv6Address(_ last: UInt8) -> [UInt8] { [0xFD, 0, 0, 3] + [UInt8](repeating: 0, count: 11) + [last] }

    public static func tcp(
        _ from: UInt16 = 40000, _ to: UInt16 = 5000, flags: UInt8 = 0x10, offset: UInt8 = 5, payload: [UInt8] = []
    ) -> [UInt8] {
        be(from) + be(to) + [0, 0, 0, 1, 0, 0, 0, 2, offset << 4, flags] + be(8192) + [0, 0, 0, 0] + payload
    }

    public static func udp(_ from: UInt16 = 40000, _ to: UInt16 = 53, payload: [UInt8] = [1, 2, 3, 4], length: UInt16? = nil) -> [UInt8] {
        be(from) + be(to) + be(length ?? UInt16(8 + payload.count)) + [0, 0] + payload
    }

    public static func icmp(_ type: UInt8, _ code: UInt8 = 0, payload: [UInt8] = [UInt8](repeating: 7, count: 8)) -> [UInt8] {
        [type, code, 0, 0, 0, 1, 0, 1] + payload
    }

    public static func be(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
}

extension FrameBuilder {
    /// A whole TCP frame over IPv4.
    public static func tcpFrame(
        from: [UInt8] = [10, 3, 0, 10], to: [UInt8] = [10, 3, 1, 21], _ source: UInt16 = 40000, _ port: UInt16 = 5000,
        flags: UInt8 = 0x10, tags: [(UInt16, UInt16)] = []
    ) -> [UInt8] {
        var frame = FrameBuilder(tags: tags)
        frame.ipv4(from: from, to: to, proto: 6, payload: tcp(source, port, flags: flags))
        return frame.bytes
    }

    public static func udpFrame(
        from: [UInt8] = [10, 3, 0, 10], to: [UInt8] = [10, 3, 1, 21], _ source: UInt16 = 40000, _ port: UInt16 = 53
    ) -> [UInt8] {
        var frame = FrameBuilder()
        frame.ipv4(from: from, to: to, proto: 17, payload: udp(source, port))
        return frame.bytes
    }
}
