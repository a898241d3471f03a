// Records as frames again: a capture with right headers, lengths and checksums, for whatever reads captures.
//
// A record says how many frames there were between two times, and how many bytes: they are spread evenly. Every TCP
// connection counts its sequence numbers on; the payload is zero.

import FabTraffic
import Foundation
import Frames

enum CaptureFile {
    /// A frame to be written: when, of which record, and which of its frames.
    private struct Place {
        let time: UInt64
        let record: Int
        let number: Int
    }

    private struct Flow: Hashable {
        let source: UInt64
        let destination: UInt64
        let ports: UInt32
    }

    /// - Returns: the number of frames.
    static func write(_ traffic: FabTraffic, hours: Int, to path: String) throws -> Int {
        guard FileManager.default.createFile(atPath: path, contents: nil), let file = FileHandle(forWritingAtPath: path) else {
            throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO)
        }
        // Little-endian, nanoseconds, Ethernet.
        try file.write(contentsOf: Data(le32(0xA1B2_3C4D) + [2, 0, 4, 0] + le32(0) + le32(0) + le32(65535) + le32(1)))
        let macs = Dictionary(uniqueKeysWithValues: traffic.truth.devices.map { (UInt64($0.address), $0.mac.rawValue) })
        var sequences: [Flow: UInt32] = [:]
        var asked: Set<[UInt64]> = []
        var count = 0
        // A record ends in its hour, but the first of its frames may be of an hour before: those wait for the whole.
        var records: [TrafficRecord] = [], places: [Place] = []
        traffic.run(hours: 0..<hours) { record, _ in
            let number = records.count
            records.append(copy record)
            for n in 0..<Int(record.frames) { places.append(Place(time: time(of: n, record), record: number, number: n)) }
        }
        places.sort { $0.time == $1.time ? ($0.record, $0.number) < ($1.record, $1.number) : $0.time < $1.time }
        var block = Data()
        for place in places {
            let frame = frame(records[place.record], place.number, macs, &sequences, &asked)
            let length = UInt32(frame.count)
            block.append(contentsOf: le32(UInt32(place.time / 1_000_000_000)) + le32(UInt32(place.time % 1_000_000_000)) + le32(length) + le32(length))
            block.append(contentsOf: frame)
            count += 1
            if block.count > 1 << 20 {
                try file.write(contentsOf: block)
                block.removeAll(keepingCapacity: true)
            }
        }
        try file.write(contentsOf: block)
        try file.close()
        return count
    }

    private static func time(of number: Int, _ record: borrowing TrafficRecord) -> UInt64 {
        // The acknowledgement of the other side's end comes behind it.
        if record.tcpFlags.contains(.fin) { return record.first + UInt64(number) * 400_000 }
        if record.frames == 1 { return record.last }
        return record.first + (record.last - record.first) / UInt64(record.frames - 1) * UInt64(number)
    }

    // MARK: - Frames

    private static func frame(
        _ record: TrafficRecord, _ number: Int, _ macs: [UInt64: UInt64], _ sequences: inout [Flow: UInt32],
        _ asked: inout Set<[UInt64]>
    ) -> [UInt8] {
        let length = Int(record.bytes) * (number + 1) / Int(record.frames) - Int(record.bytes) * number / Int(record.frames)
        let receiver = macs[record.destination.low] ?? 0
        if record.form == .arp {
            // The record does not tell a request from a reply: who speaks second answers.
            let isReply = asked.remove([record.destination.low, record.source.low]) != nil
            if !isReply { asked.insert([record.source.low, record.destination.low]) }
            let body =
                [0, 1, 8, 0, 6, 4, 0, isReply ? 2 : 1] + mac(record.sourceMAC.rawValue) + be32(record.source.low)
                + mac(isReply ? receiver : 0) + be32(record.destination.low)
            return padded(mac(isReply ? receiver : 0xFFFF_FFFF_FFFF) + mac(record.sourceMAC.rawValue) + [8, 6] + body)
        }
        let ports = be16(record.sourcePort.rawValue) + be16(record.destinationPort.rawValue)
        var transport: [UInt8]
        switch record.ipProtocol {
        case .tcp: transport = tcp(record, number, payload: max(0, length - 54), &sequences)
        case .udp:
            let size = max(8, length - 34)
            transport = ports + be16(UInt16(size)) + [0, 0] + [UInt8](repeating: 0, count: size - 8)
        default:
            // Echo: for its answer the type is 0, and so is the destination's port.
            let type = UInt8(truncatingIfNeeded: record.destinationPort.rawValue >> 8)
            transport = [type, 0, 0, 0, 0, 1, 0, 1] + [UInt8](repeating: 0, count: max(0, length - 42))
            setChecksum(&transport, at: 2, start: 0)
        }
        let addresses = be32(record.source.low) + be32(record.destination.low)
        if record.ipProtocol != .icmp {
            let pseudo = words(addresses) + UInt32(record.ipProtocol.rawValue) + UInt32(transport.count)
            setChecksum(&transport, at: record.ipProtocol == .tcp ? 16 : 6, start: pseudo)
        }
        var header: [UInt8] = [0x45, 0] + be16(UInt16(20 + transport.count)) + [0, 0, 0x40, 0, 64, record.ipProtocol.rawValue, 0, 0] + addresses
        setChecksum(&header, at: 10, start: 0)
        return padded(mac(receiver) + mac(record.sourceMAC.rawValue) + [8, 0] + header + transport)
    }

    private static func tcp(_ record: TrafficRecord, _ number: Int, payload: Int, _ sequences: inout [Flow: UInt32]) -> [UInt8] {
        var flags = record.tcpFlags
        if flags.contains(.fin), number > 0 { flags = .ack }
        let carries = flags.contains(.psh)
        let there = Flow(source: record.source.low, destination: record.destination.low, ports: UInt32(record.sourcePort.rawValue) << 16 | UInt32(record.destinationPort.rawValue))
        let back = Flow(source: record.destination.low, destination: record.source.low, ports: UInt32(record.destinationPort.rawValue) << 16 | UInt32(record.sourcePort.rawValue))
        // Where a connection begins is its ends' choice: the clock will do.
        if flags.contains(.syn) { sequences[there] = UInt32(truncatingIfNeeded: record.first / 4000) }
        if flags.opensConnection { sequences[back] = nil }
        let sequence = sequences[there, default: 1_000_000]
        let acknowledged = flags.contains(.ack) ? sequences[back, default: 1_000_000] : 0
        let size = carries ? payload : 0
        sequences[there] = sequence &+ UInt32(size) &+ (flags.contains(.syn) || flags.contains(.fin) ? 1 : 0)
        return be16(record.sourcePort.rawValue) + be16(record.destinationPort.rawValue) + be32(UInt64(sequence)) + be32(UInt64(acknowledged))
            + [0x50, flags.rawValue, 0x20, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: size)
    }

    // MARK: - Bytes

    private static func padded(_ frame: [UInt8]) -> [UInt8] { frame + [UInt8](repeating: 0, count: max(0, 60 - frame.count)) }
    private static func mac(_ value: UInt64) -> [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: value >> (40 - 8 * UInt64($0))) } }
    private static func be16(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)] }
    private static func be32(_ value: UInt64) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt64($0))) } }
    private static func le32(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * UInt32($0))) } }

    private static func words(_ bytes: [UInt8]) -> UInt32 {
        var sum: UInt32 = 0
        for i in stride(from: 0, to: bytes.count, by: 2) { sum += UInt32(bytes[i]) << 8 | (i + 1 < bytes.count ? UInt32(bytes[i + 1]) : 0) }
        return sum
    }

    /// RFC 1071.
    private static func setChecksum(_ bytes: inout [UInt8], at place: Int, start: UInt32) {
        var sum = start + words(bytes)
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        let checksum = ~UInt16(sum)
        (bytes[place], bytes[place + 1]) = (UInt8(checksum >> 8), UInt8(truncatingIfNeeded: checksum))
    }
}
