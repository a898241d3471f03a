// A second parser, from the RFCs, to be read and not to be fast. What `Frames` says of a frame is compared with it.
//
// It shares no code with `Frames`, only the form of the answer. Bytes are arrays, a read beyond them is nil, every
// header is a copy. What was read before a fault stays in the answer, as there.

import Frames

public enum ObviousParser {
    /// - Parameter wireLength: length of the frame on the wire; more than `frame` has if it was recorded cut short.
    public static func parse(_ frame: [UInt8], wireLength: Int) -> FrameHeaders {
        var reading = Reading()
        do throws(Fault) {
            try reading.ethernet(Part(frame, length: max(wireLength, frame.count), start: 0))
        } catch {
            reading.headers.cause = error.cause
        }
        return reading.headers
    }
}

private struct Fault: Error {
    let cause: Cause
    init(_ cause: Cause) { self.cause = cause }
}

/// A header and what follows it: how long it is by what stands around it, and as much of it as was recorded.
private struct Part {
    let recorded: [UInt8]
    let length: Int
    /// Where it begins in the frame.
    let start: Int

    init(_ bytes: some Sequence<UInt8>, length: Int, start: Int) {
        recorded = Array(bytes.prefix(length))
        self.length = length
        self.start = start
    }

    func number(_ at: Int, bytes: Int) -> UInt64? {
        guard at + bytes <= recorded.count else { return nil }
        return recorded[at..<at + bytes].reduce(0) { $0 << 8 | UInt64($1) }
    }

    func read(_ at: Int, bytes: Int) throws(Fault) -> UInt64 {
        guard let number = number(at, bytes: bytes) else { throw Fault(.truncated) }
        return number
    }

    func byte(_ at: Int) throws(Fault) -> Int { Int(try read(at, bytes: 1)) }
    func word(_ at: Int) throws(Fault) -> Int { Int(try read(at, bytes: 2)) }
    func mac(_ at: Int) throws(Fault) -> MACAddress { MACAddress(rawValue: try read(at, bytes: 6)) }
    func port(_ at: Int) throws(Fault) -> Port { Port(rawValue: UInt16(try word(at))) }
    func ipv4(_ at: Int) throws(Fault) -> AddressWords { AddressWords(high: 0, low: try read(at, bytes: 4)) }
    func ipv6(_ at: Int) throws(Fault) -> AddressWords {
        AddressWords(high: try read(at, bytes: 8), low: try read(at + 8, bytes: 8))
    }

    /// Without its first `count` bytes.
    func after(_ count: Int) -> Part {
        Part(recorded.dropFirst(count), length: max(0, length - count), start: start + count)
    }

    /// Its first `count` bytes.
    func first(_ count: Int) -> Part { Part(recorded, length: count, start: start) }

    /// The first `count` bytes must be there, and must have been recorded.
    func demand(_ count: Int, else cause: Cause) throws(Fault) {
        if length < count { throw Fault(cause) }
        if recorded.count < count { throw Fault(.truncated) }
    }
}

/// One frame being read.
private struct Reading {
    var headers = FrameHeaders()

    var isFirstFragment: Bool { headers.marks.contains(.firstFragment) }
    var isLaterFragment: Bool { headers.marks.contains(.laterFragment) }

    // MARK: IEEE 802

    mutating func ethernet(_ frame: Part) throws(Fault) {
        try frame.demand(14, else: .truncated)
        // IEEE 802.3 3.2.3: the group bit of a source address is 0.
        if try frame.byte(6) % 2 == 1 { throw Fault(.ethernetHeader) }

        // IEEE 802.1Q 9.5: customer tag 8100, service tag 88A8; 9100 is the service tag of before the standard.
        let tags = [0x8100, 0x88A8, 0x9100]
        var at = 12
        var vlans: [Int] = []
        while tags.contains(try frame.word(at)) {
            if vlans.count == 2 { throw Fault(.vlanDepth) }
            try frame.demand(at + 6, else: .truncated)
            vlans.append(try frame.word(at + 2) % 4096)
            headers.vlan = VLANID(rawValue: UInt16(vlans[0]))
            at += 4
        }
        let type = try frame.word(at)
        headers.etherType = EtherType(rawValue: UInt16(type))
        headers.networkOffset = UInt8(at + 2)
        let payload = frame.after(at + 2)
        switch type {
        case 0x0800: try ipv4(payload)
        case 0x86DD: try ipv6(payload, sender: try frame.mac(6))
        case 0x0806: try arp(payload)
        case 0...1500: try llc(payload, length: type)
        case 1501...1535: throw Fault(.ethernetHeader)  // IEEE 802.3 3.2.6: neither a length nor a type
        default: break
        }
    }

    /// IEEE 802.2 3.2 and, for SNAP, IEEE 802 10.3.
    mutating func llc(_ payload: Part, length: Int) throws(Fault) {
        if length > payload.length { throw Fault(.truncated) }
        let unit = payload.first(length)
        try unit.demand(3, else: .llcHeader)
        let dsap = try unit.byte(0)
        headers.etherType = EtherType(rawValue: UInt16(dsap))
        // AA is SNAP, AB the group of it.
        if dsap == 0xAA || dsap == 0xAB {
            try unit.demand(8, else: .llcHeader)
            let organisation = try unit.read(3, bytes: 3)
            // Encapsulated Ethernet (RFC 1042) and the bridge tunnel (IEEE 802.1H).
            if organisation == 0x000000 || organisation == 0x0000F8 { throw Fault(.llcEncapsulated) }
        }
        // RFC 948: IP right behind the LLC header.
        if dsap == 0x06 { throw Fault(.llcEncapsulated) }
    }

    /// RFC 826.
    mutating func arp(_ packet: Part) throws(Fault) {
        try packet.demand(28, else: .truncated)
        headers.form = .arp
        let (hardware, hardwareLength) = (try packet.word(0), try packet.byte(4))
        let (protocolType, protocolLength) = (try packet.word(2), try packet.byte(5))
        if hardware != 1 || hardwareLength != 6 { throw Fault(.arpHeader) }  // not Ethernet
        if protocolType != 0x0800 || protocolLength != 4 { throw Fault(.arpHeader) }  // not IPv4
        let (request, reply) = (1, 2)
        if ![request, reply].contains(try packet.word(6)) { throw Fault(.arpHeader) }
        headers.claimedMAC = try packet.mac(8)
        headers.source = try packet.ipv4(14)
        headers.destination = try packet.ipv4(24)
        // Who asks whether an address is free says that it will be theirs (RFC 5227 2.1.1).
        let isProbe = headers.source == AddressWords(high: 0, low: 0)
        if isProbe { headers.source = headers.destination }
    }

    // MARK: IPv4 (RFC 791)

    mutating func ipv4(_ payload: Part) throws(Fault) {
        try payload.demand(20, else: .truncated)
        headers.form = .ipv4
        headers.source = try payload.ipv4(12)
        headers.destination = try payload.ipv4(16)
        headers.ipProtocol = IPProtocol(rawValue: UInt8(try payload.byte(9)))
        let version = try payload.byte(0) / 16
        let headerLength = try payload.byte(0) % 16 * 4
        guard version == 4, headerLength >= 20 else { throw Fault(.ipHeader) }
        let totalLength = try payload.word(2)
        if totalLength < headerLength { throw Fault(.ipLength) }
        if totalLength > payload.length { throw Fault(.truncated) }
        // What follows is padding (IEEE 802.3 4.2.3.3).
        let packet = payload.first(totalLength)
        try packet.demand(headerLength, else: .ipLength)
        try ipv4Options(Array(packet.recorded[20..<headerLength]))

        let data = packet.after(headerLength)
        let flags = try packet.word(6) >> 13
        let offset = try packet.word(6) % 0x2000 * 8
        let more = flags % 2 == 1
        if more || offset > 0 {
            try fragment(offset, more: more, of: try packet.read(4, bytes: 2), length: data.length, before: headerLength)
        }
        if !isLaterFragment { try transport(data) }
    }

    /// RFC 791 3.1, "Options". RFC 7126 4.3 and 4.4: drop what routes by its source, loosely (131) or strictly (137).
    mutating func ipv4Options(_ all: [UInt8]) throws(Fault) {
        var options = all
        while let kind = options.first {
            if kind == 0 { return }
            if kind == 1 {
                options.removeFirst()
                continue
            }
            guard options.count >= 2, options[1] >= 2, options[1] <= options.count else { throw Fault(.ipOptions) }
            if kind == 131 || kind == 137 { throw Fault(.ipOptions) }
            options.removeFirst(Int(options[1]))
        }
    }

    /// A packet in parts, of either version.
    ///
    /// - Parameters:
    ///   - identification: what the parts of one packet have in common.
    ///   - length: bytes of the whole packet's payload that are in this part.
    ///   - before: bytes that stand in front of the payload in the whole packet and count in its 16-bit length.
    mutating func fragment(_ offset: Int, more: Bool, of identification: UInt64, length: Int, before: Int) throws(Fault) {
        if length == 0 { throw Fault(.fragmentLength) }
        // All but the last hold a multiple of 8 bytes (RFC 791 3.2, RFC 8200 4.5).
        if more && length % 8 != 0 { throw Fault(.fragmentLength) }
        // No packet is longer than its length field can say.
        if before + offset + length > 65535 { throw Fault(.fragmentLength) }
        headers.fragment = FragmentPlace(
            rawValue: identification << 32 | UInt64(offset + length) << 16 | UInt64(offset) | (more ? 1 : 0))
        if offset == 0 {
            headers.marks.insert(.firstFragment)
        } else if offset < 20 {
            // RFC 1858 3 and 4, RFC 3128: only an attack writes over a TCP header.
            throw Fault(.fragmentOverlap)
        } else {
            headers.marks.insert(.laterFragment)
        }
    }

    // MARK: IPv6 (RFC 8200)

    mutating func ipv6(_ payload: Part, sender: MACAddress) throws(Fault) {
        try payload.demand(40, else: .truncated)
        headers.form = .ipv6
        headers.source = try payload.ipv6(8)
        headers.destination = try payload.ipv6(24)
        if try payload.byte(0) / 16 != 6 { throw Fault(.ipHeader) }
        let length = try payload.word(4)
        if 40 + length > payload.length { throw Fault(.truncated) }
        let hopLimit = try payload.byte(7)
        let packet = payload.first(40 + length)
        let data = try extensions(packet.after(40), first: try packet.byte(6))
        if isLaterFragment { return }
        if headers.ipProtocol.rawValue == 58, let type = data.number(0, bytes: 1), type == 135 || type == 136 {
            // RFC 6980 5: a fragment of one must be ignored.
            if isFirstFragment { throw Fault(.neighbourHeader) }
            return try neighbour(data, isAdvertisement: type == 136, hopLimit: hopLimit, sender: sender)
        }
        try transport(data)
    }

    /// RFC 8200 4: what stands between the fixed header and the upper layer. Returns the upper layer.
    mutating func extensions(_ payload: Part, first: Int) throws(Fault) -> Part {
        let hopByHop = 0, routing = 43, fragmentHeader = 44, destinationOptions = 60
        var rest = payload
        var next = first
        var seen: [Int] = []
        headers.ipProtocol = IPProtocol(rawValue: UInt8(next))
        while [hopByHop, routing, fragmentHeader, destinationOptions].contains(next) {
            // A bound of our own, as RFC 8504 5.3 allows.
            if seen.count == 6 { throw Fault(.ipv6Extensions) }
            // RFC 8200 4.1: hop-by-hop options come first.
            if next == hopByHop && !seen.isEmpty { throw Fault(.ipv6Extensions) }
            if next == fragmentHeader && seen.contains(fragmentHeader) { throw Fault(.ipv6Extensions) }
            // RFC 7112: the first fragment holds all headers.
            let cutShort = isFirstFragment ? Cause.fragmentTiny : .ipv6Extensions
            try rest.demand(8, else: cutShort)
            let following = try rest.byte(0)
            seen.append(next)
            if next == fragmentHeader {
                let offset = try rest.word(2) / 8 * 8
                let more = try rest.word(2) % 2 == 1
                let identification = try rest.read(4, bytes: 4)
                rest = rest.after(8)
                // RFC 6946: one that is the only one is a packet like any other.
                if more || offset > 0 {
                    headers.ipProtocol = IPProtocol(rawValue: UInt8(following))
                    let before = payload.length - rest.length - 8  // the fragment header is not in the whole packet
                    try fragment(offset, more: more, of: identification, length: rest.length, before: before)
                    if isLaterFragment { return rest }
                }
            } else {
                // RFC 5095: type 0 is deprecated.
                let kind = try rest.byte(2)
                if next == routing && kind == 0 { throw Fault(.ipv6Extensions) }
                let length = 8 + 8 * (try rest.byte(1))
                if length > rest.length { throw Fault(cutShort) }
                rest = rest.after(length)
            }
            next = following
            headers.ipProtocol = IPProtocol(rawValue: UInt8(next))
        }
        return rest
    }

    /// RFC 4861 4.3 (solicitation), 4.4 (advertisement), 4.6 (options) and 7.1 (which of them are valid).
    mutating func neighbour(_ message: Part, isAdvertisement: Bool, hopLimit: Int, sender: MACAddress) throws(Fault) {
        headers.form = .neighbour
        if message.length < 24 { throw Fault(.neighbourHeader) }
        try message.demand(message.length, else: .truncated)
        let isMulticast = try message.byte(8) == 0xFF
        let code = try message.byte(1)
        guard hopLimit == 255, code == 0, !isMulticast else { throw Fault(.neighbourHeader) }
        let target = try message.ipv6(8)
        // Who asks whether an address is free says that it will be theirs (RFC 4862 5.4.2).
        let isProbe = !isAdvertisement && headers.source == AddressWords(high: 0, low: 0)
        if !isAdvertisement { headers.destination = target }
        if isAdvertisement || isProbe { headers.source = target }
        headers.claimedMAC = sender

        var options = message.after(24)
        var seen: Set<Int> = []
        while options.length > 0 {
            try options.demand(8, else: .neighbourHeader)
            let kind = try options.byte(0)
            let length = try options.byte(1) * 8
            if length == 0 || length > options.length { throw Fault(.neighbourHeader) }
            let isLinkAddress = kind == 1 || kind == 2  // of the source, of the target
            if isLinkAddress {
                // An Ethernet address has 6 bytes (RFC 2464 6); two of a kind contradict each other.
                if length != 8 || seen.contains(kind) { throw Fault(.neighbourHeader) }
                // Nobody with an address probes (RFC 4861 4.3).
                if isProbe && kind == 1 { throw Fault(.neighbourHeader) }
                seen.insert(kind)
                if kind == (isAdvertisement ? 2 : 1) { headers.claimedMAC = try options.mac(2) }
            }
            options = options.after(length)
        }
    }

    // MARK: Upper layers

    mutating func transport(_ data: Part) throws(Fault) {
        headers.transportOffset = UInt16(data.start)
        switch (headers.ipProtocol.rawValue, headers.form) {
        case (6, _): try tcp(data)
        case (17, _): try udp(data)
        case (1, .ipv4), (58, .ipv6): try icmp(data)
        case (33, _), (132, _): try ports(data, header: 12)  // DCCP (RFC 4340 5.1), SCTP (RFC 9260 3.1)
        case (136, _): try ports(data, header: 8)  // UDP-Lite (RFC 3828 3.1)
        default: break
        }
    }

    /// What a header that does not fit is called: a first fragment hides it (RFC 1858 3).
    func short(_ cause: Cause) -> Cause { isFirstFragment ? .fragmentTiny : cause }

    mutating func ports(_ data: Part, header: Int) throws(Fault) {
        if data.length < header { throw Fault(short(.transportHeader)) }
        try data.demand(4, else: .truncated)
        headers.sourcePort = try data.port(0)
        headers.destinationPort = try data.port(2)
    }

    /// RFC 9293 3.1.
    mutating func tcp(_ segment: Part) throws(Fault) {
        try segment.demand(20, else: short(.tcpHeader))
        headers.sourcePort = try segment.port(0)
        headers.destinationPort = try segment.port(2)
        let flags = try segment.byte(13)
        headers.tcpFlags = TCPFlags(rawValue: UInt8(flags))
        let headerLength = try segment.byte(12) / 16 * 4
        if headerLength < 20 { throw Fault(.tcpHeader) }
        if headerLength > segment.length { throw Fault(short(.tcpHeader)) }
        let fin = 1, syn = 2, rst = 4, ack = 16
        let deciding = flags & (fin | syn | rst | ack)
        if ![syn, syn | ack, rst, rst | ack, ack, fin | ack].contains(deciding) { throw Fault(.tcpFlags) }
    }

    /// RFC 768.
    mutating func udp(_ datagram: Part) throws(Fault) {
        try datagram.demand(8, else: short(.udpLength))
        headers.sourcePort = try datagram.port(0)
        headers.destinationPort = try datagram.port(2)
        let length = try datagram.word(4)
        if length < 8 { throw Fault(.udpLength) }
        // The rest of it may be in other fragments.
        if length > datagram.length && !isFirstFragment { throw Fault(.udpLength) }
    }

    // MARK: ICMP (RFC 792, RFC 4443)

    /// Replies by number, and what they answer: echo, time stamp, information, address mask (RFC 792, RFC 950).
    static let replies4: [Int: UInt8] = [0: 8, 14: 13, 16: 15, 18: 17]
    static let replies6: [Int: UInt8] = [129: 128]
    /// Unreachable, time exceeded, parameter problem; in version 6 also too big. A redirect (5) is not one, and
    /// source quench (4) is deprecated (RFC 6633).
    static let errors4 = [3, 11, 12]
    static let errors6 = [1, 2, 3, 4]

    func isError(_ type: Int) -> Bool { (headers.form == .ipv6 ? Self.errors6 : Self.errors4).contains(type) }

    mutating func icmp(_ message: Part) throws(Fault) {
        try message.demand(8, else: short(.icmpHeader))
        let type = try message.byte(0)
        let code = try message.byte(1)
        guard isError(type) else { return icmpMessage(type, code) }
        // One fragment is not a whole error; nor may it exceed 576 (RFC 1812 4.3.2.3) or 1280 bytes (RFC 4443 2.4c).
        let largest = headers.form == .ipv6 ? 1280 - 40 : 576 - 20
        if isFirstFragment || message.length > largest { throw Fault(.icmpHeader) }
        // A port or protocol is unreachable at a host, and it says so itself.
        let fromHost = headers.form == .ipv6 ? type == 1 && code == 4 : type == 3 && [2, 3].contains(code)
        try original(message.after(8), fromHost: fromHost)
    }

    mutating func icmpMessage(_ type: Int, _ code: Int) {
        let replies = headers.form == .ipv6 ? Self.replies6 : Self.replies4
        headers.destinationPort = Port(rawValue: UInt16(type * 256 + code))
        if let request = replies[type] {
            headers.sourcePort = Port(rawValue: UInt16(Int(request) * 256 + code))
            headers.marks.insert(.neverForward)
        } else {
            headers.marks.insert(.neverReverse)
        }
    }

    /// The packet that an ICMP error is about: its header, options included, and 8 bytes.
    mutating func original(_ packet: Part, fromHost: Bool) throws(Fault) {
        let sender = headers.source
        let receiver = headers.destination
        let isIPv6 = headers.form == .ipv6
        try packet.demand((isIPv6 ? 40 : 20) + 8, else: .icmpHeader)
        headers.marks.insert(.icmpError)
        let version = try packet.byte(0) / 16
        var headerLength = 40
        if isIPv6 {
            if version != 6 { throw Fault(.icmpHeader) }
        } else {
            headerLength = try packet.byte(0) % 16 * 4
            if version != 4 || headerLength < 20 { throw Fault(.icmpHeader) }
            try packet.demand(headerLength + 8, else: .icmpHeader)
            // RFC 792: "for fragment zero" only.
            if try packet.word(6) % 0x2000 != 0 { throw Fault(.icmpHeader) }
        }
        headers.source = isIPv6 ? try packet.ipv6(8) : try packet.ipv4(12)
        headers.destination = isIPv6 ? try packet.ipv6(24) : try packet.ipv4(16)
        let number = try packet.byte(isIPv6 ? 6 : 9)
        headers.ipProtocol = IPProtocol(rawValue: UInt8(number))
        // It goes to who sent the packet.
        if headers.source != receiver { throw Fault(.icmpErrorUnrelated) }
        if fromHost && headers.destination != sender { throw Fault(.icmpErrorUnrelated) }
        let data = packet.after(headerLength)
        headers.transportOffset = UInt16(data.start)
        if [6, 17, 33, 132, 136].contains(number) {
            headers.sourcePort = try data.port(0)
            headers.destinationPort = try data.port(2)
        } else if number == (isIPv6 ? 58 : 1) {
            // RFC 1122 3.2.2, RFC 4443 2.4e: none about an error.
            if isError(try data.byte(0)) { throw Fault(.icmpErrorUnrelated) }
            icmpMessage(try data.byte(0), try data.byte(1))
        }
    }
}
