// Frames as bytes: what the generated mixes are made of. Real headers with right checksums, because some peers look at them.

import Frames

enum FrameWriter {
    static let hostMAC: [UInt8] = [0x02, 0, 0, 0, 0x0A, 0x01]
    static let toolMAC: [UInt8] = [0x02, 0, 0, 0, 0x0B, 0x02]

    /// The headers of an IPv4 packet in a frame of `length` bytes; the trailer stands behind the packet, as padding does.
    static func ipv4(
        from: Side, source: UInt32, destination: UInt32, ipProtocol: IPProtocol, transport: [UInt8], length: Int
    ) -> [UInt8] {
        let total = length - 14 - HostPrograms.trailerBytes
        var header: [UInt8] = [0x45, 0] + be16(UInt16(total)) + [0, 0, 0x40, 0, 64, ipProtocol.rawValue, 0, 0]
        header += be32(source) + be32(destination)
        let sum = checksum(header)
        header[10] = UInt8(sum >> 8)
        header[11] = UInt8(truncatingIfNeeded: sum)
        return (from == .outside ? toolMAC + hostMAC : hostMAC + toolMAC) + [8, 0] + header + transport
    }

    /// Without a checksum, which UDP over IPv4 may leave out (RFC 768).
    static func udp(
        from: Side, source: UInt32, destination: UInt32, sourcePort: UInt16, destinationPort: UInt16, length: Int
    ) -> [UInt8] {
        let datagram = UInt16(length - 14 - HostPrograms.trailerBytes - 20)
        return ipv4(
            from: from, source: source, destination: destination, ipProtocol: .udp,
            transport: be16(sourcePort) + be16(destinationPort) + be16(datagram) + [0, 0], length: length)
    }

    static func tcp(
        from: Side, source: UInt32, destination: UInt32, sourcePort: UInt16, destinationPort: UInt16, flags: TCPFlags,
        sequence: UInt32 = 1, length: Int
    ) -> [UInt8] {
        let acknowledgment: UInt32 = flags.contains(.ack) ? 1 : 0
        return ipv4(
            from: from, source: source, destination: destination, ipProtocol: .tcp,
            transport: be16(sourcePort) + be16(destinationPort) + be32(sequence) + be32(acknowledgment)
                + [0x50, flags.rawValue, 0x20, 0, 0, 0, 0, 0], length: length)
    }

    private static func be16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)] }
    private static func be32(_ value: UInt32) -> [UInt8] {
        be16(UInt16(value >> 16)) + be16(UInt16(truncatingIfNeeded: value))
    }

    /// RFC 1071, over an even number of bytes.
    private static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for i in stride(from: 0, to: bytes.count, by: 2) { sum += UInt32(bytes[i]) << 8 | UInt32(bytes[i + 1]) }
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        return ~UInt16(sum)
    }
}

/// Random numbers that repeat (Steele, Lea, Flood 2014): every run sends the same.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
