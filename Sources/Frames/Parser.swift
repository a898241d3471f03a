// Ethernet … TCP/UDP/ICMP of one frame into `FrameHeaders`.
//
//   Ethernet ─► 0–2 VLAN tags ─┬─► IPv4 ─┐
//                              ├─► IPv6 ─┴─► TCP, UDP, ICMP, …
//                              ├─► ARP
//                              └─► EtherType or LLC
//
// Every byte is hostile. What is malformed or contradicts itself is denied here,
// with a cause of its own, whatever the policy says: a host behind the bridge
// could understand such a frame differently from us.

/// Parses a burst of frames.
///
/// - Parameters:
///   - frames: `count` pointers to the first byte of each frame.
///   - available: bytes that may be read at each pointer.
///   - wireLengths: length of each frame on the wire, ≥ `available`. They
///     differ for a frame in several buffers and for a capture with a snap length.
///   - headers: `count` places to write.
#if !DEBUG
@_noLocks @_noAllocation
#endif
public func parseBurst(
    frames: UnsafePointer<UnsafeRawPointer>, available: UnsafePointer<UInt32>,
    wireLengths: UnsafePointer<UInt32>, count: Int,
    into headers: UnsafeMutablePointer<FrameHeaders>
) {
    for i in 0..<count {
        parse(
            WireReader(frames[i], available: Int(available[i])),
            wireLength: Int(wireLengths[i]), into: &headers[i])
    }
}

/// Parses one frame. As `parseBurst`, for tests, `explain` and captures.
#if !DEBUG
@_noLocks @_noAllocation
#endif
public func parseFrame(
    _ frame: UnsafeRawBufferPointer, wireLength: Int, into headers: inout FrameHeaders
) {
    // An empty buffer may have no address; nothing of it is read then.
    guard let base = frame.baseAddress else {
        headers = FrameHeaders()
        headers.cause = .truncated
        return
    }
    parse(
        WireReader(base, available: frame.count),
        wireLength: max(wireLength, frame.count), into: &headers)
}

@inline(__always)
private func parse(_ frame: WireReader, wireLength: Int, into headers: inout FrameHeaders) {
    headers = FrameHeaders()
    headers.cause = parseEthernet(frame, wireLength, &headers)
}

@inline(__always)
private func parseEthernet(
    _ frame: WireReader, _ wireLength: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard frame.holds(14, at: 0) else { return .truncated }
    if frame.byte(6) & 1 != 0 { return .ethernetHeader }  // a group cannot send
    let type = EtherType(rawValue: frame.word16(12))
    // Most frames by far; with the offset a constant.
    if type == .ipv4 {
        headers.etherType = type
        return parseIPv4(frame, 14, wireLength, &headers)
    }
    return parseTagged(frame, type, wireLength, &headers)
}

/// VLAN tags, and everything that is not plain IPv4.
@inline(never)
private func parseTagged(
    _ frame: WireReader, _ firstType: EtherType, _ wireLength: Int, _ headers: inout FrameHeaders
) -> Cause {
    var type = firstType
    var offset = 14
    if type.isVLANTag {
        guard frame.holds(4, at: offset) else { return .truncated }
        headers.vlan = VLANID(rawValue: frame.word16(offset) & 0x0FFF)
        type = EtherType(rawValue: frame.word16(offset &+ 2))
        offset &+= 4
        if type.isVLANTag {
            guard frame.holds(4, at: offset) else { return .truncated }
            type = EtherType(rawValue: frame.word16(offset &+ 2))
            offset &+= 4
            if type.isVLANTag { return .vlanDepth }
        }
    }
    headers.etherType = type
    headers.networkOffset = UInt8(truncatingIfNeeded: offset)
    if type == .ipv4 { return parseIPv4(frame, offset, wireLength, &headers) }
    if type == .ipv6 { return parseIPv6(frame, offset, wireLength, &headers) }
    if type == .arp { return parseARP(frame, offset, &headers) }
    if type.rawValue < EtherType.minimum { return parseLLC(frame, offset, wireLength, &headers) }
    return .none
}

// MARK: - Not IP

@inline(never)
private func parseLLC(
    _ frame: WireReader, _ offset: Int, _ wireLength: Int, _ headers: inout FrameHeaders
) -> Cause {
    let length = headers.etherType.rawValue
    guard length <= EtherType.maximumLength else { return .ethernetHeader }
    guard offset &+ Int(length) <= wireLength else { return .truncated }
    guard length >= 3 else { return .llcHeader }
    guard frame.holds(3, at: offset) else { return .truncated }
    let dsap = frame.byte(offset)
    headers.etherType = .llc(dsap: dsap)
    // SNAP (IEEE 802 10.3) can carry any EtherType; hosts that decode it would see a
    // packet that neither a rule nor the EtherType list has judged. OUI 00-00-F8 is the
    // bridge-tunnel form of the same (802.1H).
    if dsap & 0xFE == 0xAA {
        guard length >= 8 else { return .llcHeader }
        guard frame.holds(8, at: offset) else { return .truncated }
        let oui = frame.word32(offset &+ 2) & 0x00FF_FFFF
        if oui == 0 || oui == 0x0000F8 { return .llcEncapsulated }
    }
    // DSAP 06: IP straight over LLC (RFC 948).
    if dsap == 0x06 { return .llcEncapsulated }
    return .none
}

@inline(never)
private func parseARP(_ frame: WireReader, _ offset: Int, _ headers: inout FrameHeaders) -> Cause {
    guard frame.holds(28, at: offset) else { return .truncated }
    headers.form = .arp
    // Ethernet (1), IPv4, 6, 4: RFC 826.
    guard frame.word16(offset) == 1, frame.word16(offset &+ 2) == EtherType.ipv4.rawValue,
        frame.word16(offset &+ 4) == 0x0604
    else { return .arpHeader }
    let operation = frame.word16(offset &+ 6)
    guard operation == 1 || operation == 2 else { return .arpHeader }
    headers.claimedMAC = frame.mac(offset &+ 8)
    headers.source = frame.ipv4(offset &+ 14)
    headers.destination = frame.ipv4(offset &+ 24)
    // A probe (RFC 5227 2.1.1) claims what it asks for: who is about to use that address gives it up.
    if headers.source == .zero { headers.source = headers.destination }
    return .none
}

// MARK: - IPv4

@inline(__always)
private func parseIPv4(
    _ frame: WireReader, _ offset: Int, _ wireLength: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard frame.holds(20, at: offset) else { return .truncated }
    headers.form = .ipv4
    // Only the low words: the high ones are 0.
    headers.source.low = UInt64(frame.word32(offset &+ 12))
    headers.destination.low = UInt64(frame.word32(offset &+ 16))
    headers.ipProtocol = IPProtocol(rawValue: frame.byte(offset &+ 9))
    let versionAndLength = frame.byte(offset)
    let headerLength = Int(versionAndLength & 0x0F) &* 4
    guard versionAndLength >> 4 == 4, headerLength >= 20 else { return .ipHeader }
    let totalLength = Int(frame.word16(offset &+ 2))
    guard totalLength >= headerLength else { return .ipLength }
    guard offset &+ totalLength <= wireLength else { return .truncated }
    if headerLength > 20 {
        guard frame.holds(headerLength, at: offset) else { return .truncated }
        let cause = checkIPv4Options(frame, offset &+ 20, offset &+ headerLength)
        if cause != .none { return cause }
    }
    let transport = offset &+ headerLength
    let length = totalLength &- headerLength
    let fragmentField = frame.word16(offset &+ 6)
    if fragmentField & 0x3FFF != 0 {
        let cause = markFragment(
            UInt32(frame.word16(offset &+ 4)), fragmentOffset: Int(fragmentField & 0x1FFF) &* 8,
            more: fragmentField & 0x2000 != 0, length: length, before: headerLength, &headers)
        if cause != .none { return cause }
        if headers.marks.contains(.laterFragment) { return .none }
    }
    return parseTransport(frame, transport, length, &headers)
}

/// Options must be well formed and may not route the packet (RFC 7126 4.3, 4.4:
/// drop LSRR and SSRR).
@inline(never)
private func checkIPv4Options(_ frame: WireReader, _ start: Int, _ end: Int) -> Cause {
    var at = start
    while at < end {
        let kind = frame.byte(at)
        if kind == 0 { return .none }  // end of options
        if kind == 1 {  // no operation
            at &+= 1
            continue
        }
        guard at &+ 2 <= end else { return .ipOptions }
        let length = Int(frame.byte(at &+ 1))
        guard length >= 2, at &+ length <= end else { return .ipOptions }
        if kind == 131 || kind == 137 { return .ipOptions }
        at &+= length
    }
    return .none
}

/// Checks a fragment's place and notes whether it is the first.
///
/// - Parameters:
///   - length: bytes of payload in this fragment.
///   - before: bytes in front of the payload that the reassembled packet's length counts too.
@inline(never)
private func markFragment(
    _ identification: UInt32, fragmentOffset: Int, more: Bool, length: Int, before: Int, _ headers: inout FrameHeaders
) -> Cause {
    // No packet is longer than its 16-bit length can say (RFC 791 3.1, RFC 8200 4.5).
    guard length > 0, !more || length % 8 == 0, before &+ fragmentOffset &+ length <= 0xFFFF else {
        return .fragmentLength
    }
    headers.fragment = FragmentPlace(
        identification: identification, start: fragmentOffset, end: fragmentOffset &+ length, isLast: !more)
    if fragmentOffset == 0 {
        headers.marks.insert(.firstFragment)
        return .none
    }
    // RFC 1858 3: no honest fragment begins inside the transport header; 20 is TCP's,
    // and RFC 8200's minimum MTU lets nobody need less.
    if fragmentOffset < 20 { return .fragmentOverlap }
    headers.marks.insert(.laterFragment)
    return .none
}

// MARK: - IPv6

@inline(never)
private func parseIPv6(
    _ frame: WireReader, _ offset: Int, _ wireLength: Int, _ headers: inout FrameHeaders
) -> Cause {
    guard frame.holds(40, at: offset) else { return .truncated }
    headers.form = .ipv6
    headers.source = frame.ipv6(offset &+ 8)
    headers.destination = frame.ipv6(offset &+ 24)
    guard frame.byte(offset) >> 4 == 6 else { return .ipHeader }
    let payload = Int(frame.word16(offset &+ 4))
    let end = offset &+ 40 &+ payload
    guard end <= wireLength else { return .truncated }
    var next = IPProtocol(rawValue: frame.byte(offset &+ 6))
    var at = offset &+ 40
    let cause = walkExtensions(frame, &at, end, &next, &headers)
    headers.ipProtocol = next
    if cause != .none { return cause }
    if headers.marks.contains(.laterFragment) { return .none }
    if next == .icmpv6, at < end, frame.holds(1, at: at) {
        let type = frame.byte(at)
        if type == 135 || type == 136 {
            // RFC 6980 5: never in fragments. By a rule for ICMPv6 it would get past the bindings of addresses.
            if headers.marks.contains(.firstFragment) { return .neighbourHeader }
            return parseNeighbour(frame, offset, at, end, &headers)
        }
    }
    return parseTransport(frame, at, end &- at, &headers)
}

/// More extension headers than any stack sends; RFC 8504 5.3 lets a node
/// stop at 8 options, and a filter that walks without end is a target.
private let extensionBound = 6

/// Walks from the fixed header to the upper layer.
///
/// - Parameters:
///   - at: offset of the next header; moved on.
///   - end: where the IPv6 payload ends, which lies inside the frame on the wire.
@inline(never)
private func walkExtensions(
    _ frame: WireReader, _ at: inout Int, _ end: Int, _ next: inout IPProtocol,
    _ headers: inout FrameHeaders
) -> Cause {
    let start = at
    var walked = 0
    var sawFragment = false
    while true {
        let isFragment = next == .fragment
        guard isFragment || next == .hopByHop || next == .routing || next == .destinationOptions else {
            return .none
        }
        guard walked < extensionBound, !(next == .hopByHop && walked > 0), !(isFragment && sawFragment) else {
            return .ipv6Extensions
        }
        guard at &+ 8 <= end else {
            // RFC 7112: the first fragment holds the whole header chain.
            return headers.marks.contains(.firstFragment) ? .fragmentTiny : .ipv6Extensions
        }
        guard frame.holds(8, at: at) else { return .truncated }
        let following = IPProtocol(rawValue: frame.byte(at))
        var length = 8
        if isFragment {
            sawFragment = true
            let field = frame.word16(at &+ 2)
            // Offset 0 and no more: an atomic fragment is a whole packet (RFC 6946).
            if field & 0xFFF9 != 0 {
                next = following
                let cause = markFragment(
                    frame.word32(at &+ 4), fragmentOffset: Int(field & 0xFFF8), more: field & 1 != 0,
                    length: end &- at &- 8, before: at &- start, &headers)
                if cause != .none { return cause }
                if headers.marks.contains(.laterFragment) { return .none }
            }
        } else {
            // Type 0 routing is a source route (RFC 5095: drop).
            if next == .routing, frame.byte(at &+ 2) == 0 { return .ipv6Extensions }
            length = (Int(frame.byte(at &+ 1)) &+ 1) &* 8
            guard at &+ length <= end else {
                return headers.marks.contains(.firstFragment) ? .fragmentTiny : .ipv6Extensions
            }
        }
        next = following
        at &+= length
        walked &+= 1
    }
}

/// Neighbour solicitation and advertisement (RFC 4861 4.3, 4.4, 7.1): as ARP.
@inline(never)
private func parseNeighbour(
    _ frame: WireReader, _ network: Int, _ at: Int, _ end: Int, _ headers: inout FrameHeaders
) -> Cause {
    let isAdvertisement = frame.byte(at) == 136
    headers.form = .neighbour
    guard end &- at >= 24 else { return .neighbourHeader }
    guard frame.holds(end &- at, at: at) else { return .truncated }
    // 255: nobody on another link can have sent it. Code 0; a multicast target has no owner.
    guard frame.byte(network &+ 7) == 255, frame.byte(at &+ 1) == 0, frame.byte(at &+ 8) != 0xFF else {
        return .neighbourHeader
    }
    let target = frame.ipv6(at &+ 8)
    var isProbe = false
    if isAdvertisement {
        headers.source = target
        headers.claimedMAC = frame.mac(6)
    } else {
        headers.destination = target
        headers.claimedMAC = frame.mac(6)
        // Duplicate address detection has the unspecified source and claims what it asks for (RFC 4862 5.4.3).
        isProbe = headers.source == .zero
        if isProbe { headers.source = target }
    }
    // The link-layer option, where there is one, is what the receiver will believe: source (1) in a
    // solicitation, target (2) in an advertisement. Of two, stacks differ in which they take.
    var option = at &+ 24
    var seen: UInt8 = 0
    while option < end {
        guard option &+ 8 <= end else { return .neighbourHeader }
        let length = Int(frame.byte(option &+ 1)) &* 8
        guard length > 0, option &+ length <= end else { return .neighbourHeader }
        let kind = frame.byte(option)
        if kind == 1 || kind == 2 {
            // RFC 4861 4.3: none of its own in a probe.
            guard length == 8, seen & kind == 0, !(isProbe && kind == 1) else { return .neighbourHeader }
            seen |= kind
            if (kind == 2) == isAdvertisement { headers.claimedMAC = frame.mac(option &+ 2) }
        }
        option &+= length
    }
    return .none
}
