// The transport header: ports, flags, and what an ICMP error is about.

/// Parses what follows the network header.
///
/// - Parameters:
///   - at: offset of the transport header.
///   - length: bytes of it and its payload, as the network header says.
@inline(__always)
func parseTransport(
    _ frame: WireReader, _ at: Int, _ length: Int, _ headers: inout FrameHeaders
) -> Cause {
    // An IPv6 chain is at most six headers of 2048 bytes.
    headers.transportOffset = UInt16(truncatingIfNeeded: at)
    let proto = headers.ipProtocol
    if proto == .tcp { return parseTCP(frame, at, length, &headers) }
    if proto == .udp { return parseUDP(frame, at, length, &headers) }
    return parseOtherTransport(frame, at, length, &headers)
}

@inline(__always)
private func parseTCP(
    _ frame: WireReader, _ at: Int, _ length: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard length >= 20 else { return tooShort(headers, .tcpHeader) }
    guard frame.holds(20, at: at) else { return .truncated }
    headers.sourcePort = Port(rawValue: frame.word16(at))
    headers.destinationPort = Port(rawValue: frame.word16(at &+ 2))
    headers.tcpFlags = TCPFlags(rawValue: frame.byte(at &+ 13))
    let headerLength = Int(frame.byte(at &+ 12) >> 4) &* 4
    guard headerLength >= 20 else { return .tcpHeader }
    guard headerLength <= length else { return tooShort(headers, .tcpHeader) }
    guard headers.tcpFlags.isPossible else { return .tcpFlags }
    return .none
}

@inline(__always)
private func parseUDP(
    _ frame: WireReader, _ at: Int, _ length: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard length >= 8 else { return tooShort(headers, .udpLength) }
    guard frame.holds(8, at: at) else { return .truncated }
    headers.sourcePort = Port(rawValue: frame.word16(at))
    headers.destinationPort = Port(rawValue: frame.word16(at &+ 2))
    let udpLength = Int(frame.word16(at &+ 4))
    // A first fragment's datagram is longer than what is here.
    guard udpLength >= 8, udpLength <= length || headers.marks.contains(.firstFragment) else {
        return .udpLength
    }
    return .none
}

@inline(never)
private func parseOtherTransport(
    _ frame: WireReader, _ at: Int, _ length: Int, _ headers: inout FrameHeaders
) -> Cause {
    let proto = headers.ipProtocol
    if proto == .icmp && headers.form == .ipv4 || proto == .icmpv6 && headers.form == .ipv6 {
        return parseICMP(frame, at, length, &headers)
    }
    guard proto.hasPorts else { return .none }
    // SCTP and DCCP have at least 12 bytes of header, UDP-Lite 8 (RFC 9260 3.1, 4340 5.1, 3828 3.1).
    guard length >= (proto == .udpLite ? 8 : 12) else { return tooShort(headers, .transportHeader) }
    guard frame.holds(4, at: at) else { return .truncated }
    headers.sourcePort = Port(rawValue: frame.word16(at))
    headers.destinationPort = Port(rawValue: frame.word16(at &+ 2))
    return .none
}

/// A header that does not fit: in a first fragment that is an attempt to hide it.
@inline(__always)
private func tooShort(_ headers: FrameHeaders, _ cause: Cause) -> Cause {
    headers.marks.contains(.firstFragment) ? .fragmentTiny : cause
}

// MARK: - ICMP

private func parseICMP(
    _ frame: WireReader, _ at: Int, _ length: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard length >= 8 else { return tooShort(headers, .icmpHeader) }
    guard frame.holds(8, at: at) else { return .truncated }
    let type = frame.byte(at)
    let code = frame.byte(at &+ 1)
    if isICMPError(type, headers.form) {
        // An error fits one packet (RFC 1812 4.3.2.3, RFC 4443 2.4c).
        guard headers.marks.isEmpty else { return .icmpHeader }
        // And has no room for a message of its own (RFC 1812 4.3.2.3: 576 bytes; RFC 4443 2.4c: 1280).
        guard length <= (headers.form == .ipv6 ? 1280 - 40 : 576 - 20) else { return .icmpHeader }
        // Port and protocol unreachable come from the host itself, the others from any router on the way.
        let isHosts = headers.form == .ipv6 ? type == 1 && code == 4 : type == 3 && (code == 2 || code == 3)
        return parseEmbedded(frame, at &+ 8, length &- 8, isHosts ? headers.source : nil, &headers)
    }
    setICMPPorts(type, code, &headers)
    return .none
}

extension FrameHeaders {
    /// For headers that were not parsed: what the type in `destinationPort` makes of an ICMP message.
    public var isICMPError: Bool { Frames.isICMPError(UInt8(destinationPort.rawValue >> 8), form) }

    public var isNeighbourDiscovery: Bool {
        let type = destinationPort.rawValue >> 8
        return form == .ipv6 && ipProtocol == .icmpv6 && (type == 135 || type == 136)
    }

    /// Marks an ICMP message as request or reply by its type, which stands in `destinationPort`. For headers
    /// that were not parsed.
    public mutating func setICMPDirection() {
        setICMPPorts(UInt8(destinationPort.rawValue >> 8), UInt8(destinationPort.rawValue & 0xFF), &self)
    }
}

/// A request is the client's, a reply the server's: a rule for `icmp/echo` lets
/// nobody but its client ask.
@inline(__always)
private func setICMPPorts(_ type: UInt8, _ code: UInt8, _ headers: inout FrameHeaders) {
    if let request = icmpRequest(ofReply: type, headers.form) {
        headers.marks.insert(.neverForward)
        headers.sourcePort = .icmp(type: request, code: code)
        headers.destinationPort = .icmp(type: type, code: code)
    } else {
        headers.marks.insert(.neverReverse)
        headers.destinationPort = .icmp(type: type, code: code)
    }
}

/// Types that carry the packet they are about. Redirect (5, 137) is not among
/// them: it changes routes, and passes only by a rule of its own; nor source quench (4),
/// which nobody may send (RFC 6633).
@inline(__always)
private func isICMPError(_ type: UInt8, _ form: FrameForm) -> Bool {
    form == .ipv6 ? (1...4).contains(type) : type == 3 || type == 11 || type == 12
}

/// The request a reply answers: echo, timestamp, information, address mask
/// (RFC 792, 950); echo (RFC 4443).
@inline(__always)
private func icmpRequest(ofReply type: UInt8, _ form: FrameForm) -> UInt8? {
    if form == .ipv6 { return type == 129 ? 128 : nil }
    switch type {
    case 0: return 8
    case 14: return 13
    case 16: return 15
    case 18: return 17
    default: return nil
    }
}

/// Puts the packet inside an ICMP error into `headers`: the verdict is that of
/// the conversation it belongs to.
///
/// - Parameter sender: who must have received that packet, if only its receiver can send the error.
private func parseEmbedded(
    _ frame: WireReader, _ at: Int, _ length: Int, _ sender: AddressWords?, _ headers: inout FrameHeaders
) -> Cause {
    let receiver = headers.destination
    let isIPv6 = headers.form == .ipv6
    let fixed = isIPv6 ? 40 : 20
    // RFC 792: the header and 8 bytes, at least.
    guard length >= fixed &+ 8 else { return .icmpHeader }
    guard frame.holds(fixed &+ 8, at: at) else { return .truncated }
    headers.marks.insert(.icmpError)
    var transport = at &+ fixed
    if isIPv6 {
        guard frame.byte(at) >> 4 == 6 else { return .icmpHeader }
        headers.source = frame.ipv6(at &+ 8)
        headers.destination = frame.ipv6(at &+ 24)
        // No walk here: an error about a packet with extension headers is rare, and denied.
        headers.ipProtocol = IPProtocol(rawValue: frame.byte(at &+ 6))
    } else {
        let headerLength = Int(frame.byte(at) & 0x0F) &* 4
        guard frame.byte(at) >> 4 == 4, headerLength >= 20, length >= headerLength &+ 8 else {
            return .icmpHeader
        }
        guard frame.holds(headerLength &+ 8, at: at) else { return .truncated }
        // A later fragment has no ports to judge by.
        guard frame.word16(at &+ 6) & 0x1FFF == 0 else { return .icmpHeader }
        headers.source = frame.ipv4(at &+ 12)
        headers.destination = frame.ipv4(at &+ 16)
        headers.ipProtocol = IPProtocol(rawValue: frame.byte(at &+ 9))
        transport = at &+ headerLength
    }
    guard headers.source == receiver, sender == nil || sender == headers.destination else { return .icmpErrorUnrelated }
    headers.sourcePort = Port(rawValue: 0)
    headers.destinationPort = Port(rawValue: 0)
    headers.transportOffset = UInt16(truncatingIfNeeded: transport)
    let proto = headers.ipProtocol
    if proto.hasPorts {
        headers.sourcePort = Port(rawValue: frame.word16(transport))
        headers.destinationPort = Port(rawValue: frame.word16(transport &+ 2))
    } else if proto == (isIPv6 ? .icmpv6 : .icmp) {
        let type = frame.byte(transport)
        let code = frame.byte(transport &+ 1)
        // No error answers an error (RFC 1122 3.2.2).
        guard !isICMPError(type, headers.form) else { return .icmpErrorUnrelated }
        setICMPPorts(type, code, &headers)
    }
    return .none
}
