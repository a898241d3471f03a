// Frames nobody would send: known ones changed, and new ones made of headers in any order. The seed repeats them.

public struct FrameMutator {
    private var random: SplitMix
    private let known: [[UInt8]]

    public init(seed: UInt64, known: [[UInt8]]) {
        random = SplitMix(seed)
        self.known = known
    }

    /// A frame, and how long it was on the wire.
    public mutating func next() -> (frame: [UInt8], wireLength: Int) {
        var frame = chance(3) ? structured() : changed()
        if chance(6), !frame.isEmpty { frame.removeLast(number(frame.count + 1)) }
        // Cut short by whoever recorded it.
        let wireLength = frame.count
        if chance(4), !frame.isEmpty { frame.removeLast(number(min(frame.count, 60) + 1)) }
        return (frame, chance(16) ? wireLength + number(100) : wireLength)
    }

    private mutating func number(_ bound: Int) -> Int { Int(truncatingIfNeeded: random.next() % UInt64(bound)) }
    private mutating func chance(_ oneIn: Int) -> Bool { number(oneIn) == 0 }
    private mutating func pick<T>(_ values: [T]) -> T { values[number(values.count)] }
    private mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: random.next()) }
    private mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }

    // MARK: Known frames, changed

    private mutating func changed() -> [UInt8] {
        var frame = pick(known)
        for _ in 0...number(4) where !frame.isEmpty {
            // Where headers are, mostly.
            let at = number(chance(8) ? frame.count : min(frame.count, 96))
            switch number(8) {
            case 0, 1: frame[at] = byte()
            case 2: frame[at] ^= 1 << UInt8(number(8))
            case 3: frame[at] = pick([0, 1, 2, 4, 6, 8, 0x2F, 0x3A, 0x40, 0x45, 0x60, 0x7F, 0x80, 0xFF])
            case 4: frame[at] = pick([1, 6, 17, 33, 43, 44, 58, 60, 132, 136])
            case 5: frame[at] &+= pick([1, 4, 8, 0xFF, 0xFC, 0xF8])
            case 6:
                // Another frame's end.
                let other = pick(known)
                frame = Array(frame.prefix(at) + other.dropFirst(number(other.count + 1)))
            default: frame.insert(contentsOf: bytes(pick([1, 2, 4, 8])), at: at)
            }
        }
        return frame
    }

    // MARK: New ones, header by header; every field can lie

    private mutating func structured() -> [UInt8] {
        var tags: [(UInt16, UInt16)] = []
        while tags.count < 4, chance(4) { tags.append((pick([0x8100, 0x88A8, 0x9100]), UInt16(number(65536)))) }
        var frame = FrameBuilder(source: [chance(50) ? 3 : 2, 0, 0, 0, 3, 0x0A], tags: tags)
        switch number(8) {
        case 0...2: ipv4(&frame)
        case 3...5: ipv6(&frame)
        case 6:
            frame.add16(0x0806)
            frame.add([0, 1, 8, 0, 6, 4, 0, UInt8(number(4))] + bytes(20))
        default:
            let data: [UInt8] = [pick([0xAA, 0xAB, 0x06, 0x42, 0xF0]), 0xAA, 3, 0, 0, pick([0, 0x0C, 0xF8]), 8, 0] + bytes(number(40))
            frame.add16(pick([UInt16(data.count), UInt16(number(60)), UInt16(number(2048))]))
            frame.add(data)
        }
        return frame.bytes
    }

    private mutating func ipv4(_ frame: inout FrameBuilder) {
        let (proto, data) = upperLayer(isIPv6: false)
        var options: [UInt8] = []
        while options.count < 40, chance(3) {
            options += pick([[1, 1, 1, 1], [0x94, 4, 0, 0], [7, 3, 4, 1], [pick([0x83, 0x89, 7, 68]), UInt8(number(8)), 4, 0], [0, 9, 9, 9]])
        }
        let honest = UInt16(20 + options.count + data.count)
        frame.ipv4(
            proto: proto, payload: data, options: options, fragment: chance(4) ? fragmentField() : pick([0, 0x4000]),
            version: chance(40) ? byte() & 15 : 4, ihl: chance(20) ? UInt8(number(16)) : nil,
            length: chance(10) ? pick([honest &- 1, honest &+ 1, UInt16(number(64))]) : honest)
    }

    /// Few, near an end, or any.
    private mutating func fragmentField() -> UInt16 {
        (chance(2) ? 0x2000 : 0) | pick([0, 1, 2, 3, 0x1FFC, 0x1FFD, 0x1FFF, UInt16(number(0x2000))])
    }

    private mutating func ipv6(_ frame: inout FrameBuilder) {
        let (proto, data) = upperLayer(isIPv6: true)
        var first = proto
        var chain: [UInt8] = []
        while chance(2), chain.count < 80 {
            let kind: UInt8 = pick([0, 43, 44, 60, 60])
            let length = chance(12) ? number(6) : kind == 44 ? 0 : number(2)
            var header: [UInt8] = [first, UInt8(length)]
            if kind == 44 {
                let field = fragmentField()
                header += FrameBuilder.be(chance(4) ? UInt16(number(8)) : field << 3 | field >> 13)
                header += [0, 0, 0, 9]
            } else {
                header += [pick([0, 1, 2, 4]), 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: length * 8)
            }
            chain = header + chain
            first = kind
        }
        let honest = UInt16(chain.count + data.count)
        frame.ipv6(
            next: first, payload: chain + data, length: chance(10) ? pick([honest &- 1, honest &+ 1, UInt16(number(64))]) : honest,
            version: chance(40) ? byte() & 15 : 6, hopLimit: chance(3) ? 64 : 255)
    }

    private mutating func upperLayer(isIPv6: Bool) -> (UInt8, [UInt8]) {
        let data: [UInt8]
        let proto: UInt8
        switch number(7) {
        case 0, 1:
            proto = 6
            let flags: UInt8 = chance(3) ? byte() : pick([2, 0x12, 0x10, 0x18, 0x11, 4])
            data = FrameBuilder.tcp(flags: flags, offset: chance(4) ? UInt8(number(16)) : 5, payload: bytes(number(24)))
        case 2:
            proto = 17
            let payload = bytes(number(24))
            data = FrameBuilder.udp(payload: payload, length: chance(4) ? UInt16(number(40)) : UInt16(8 + payload.count))
        case 3:
            proto = isIPv6 ? 58 : 1
            data = FrameBuilder.icmp(pick(isIPv6 ? [128, 129, 133, 137] : [0, 8, 13, 14, 16, 18, 5, byte()]), byte(), payload: bytes(number(16)))
        case 4:
            proto = isIPv6 ? 58 : 1
            data = icmpError(isIPv6)
        case 5 where isIPv6:
            proto = 58
            data = neighbour()
        default:
            proto = pick([33, 132, 136, 47, 50, 51, 59, 1, 58, byte()])
            data = bytes(number(24))
        }
        return (proto, chance(6) ? Array(data.prefix(number(data.count + 1))) : data)
    }

    /// About a packet that the receiver sent, mostly; from who should have received it, sometimes.
    private mutating func icmpError(_ isIPv6: Bool) -> [UInt8] {
        var inner = FrameBuilder()
        inner.bytes = []
        let proto: UInt8 = pick([6, 17, 1, 58, 132, 47])
        var data = bytes(8 + number(8))
        if proto == 1 || proto == 58 { data[0] = pick([0, 8, 3, 1, 128, 129, 11]) }
        // The outer frame's addresses are FrameBuilder's.
        if isIPv6 {
            let from = FrameBuilder.ipv6Address(chance(6) ? 99 : 21)
            inner.ipv6(from: from, to: FrameBuilder.ipv6Address(chance(3) ? 99 : 10), next: proto, payload: data, version: chance(12) ? 4 : 6)
        } else {
            inner.ipv4(
                from: [10, 3, 1, chance(6) ? 99 : 21], to: [10, 3, 0, chance(3) ? 99 : 10], proto: proto, payload: data,
                options: chance(4) ? [0x94, 4, 0, 0] : [], fragment: chance(6) ? fragmentField() : 0, version: chance(12) ? 6 : 4)
        }
        let about = Array(inner.bytes.dropFirst(2))
        return FrameBuilder.icmp(
            pick(isIPv6 ? [1, 2, 3, 4] : [3, 11, 12]), UInt8(number(6)), payload: about + bytes(chance(12) ? number(1400) : 0))
    }

    private mutating func neighbour() -> [UInt8] {
        var message: [UInt8] = [pick([135, 136]), chance(12) ? 1 : 0, 0, 0, 0, 0, 0, 0] + FrameBuilder.ipv6Address(9)
        if chance(12) { message[8] = 0xFF }
        while chance(2) {
            let length: UInt8 = chance(6) ? pick([0, 2, 9]) : 1
            message += [pick([1, 2, 14]), length] + bytes(6 + (length == 2 ? 8 : 0))
        }
        return message
    }
}
