// A TCP connection from its SYN to its end.
//
//   opening ─SYN-ACK─► accepted ─ACK─► established, held ─FIN─► halfClosed ─FIN─► closing
//   pickedUp ─both directions fit────► established, held                any ─RST─► reset
//
// Whatever the rule asks: a SYN-ACK must answer a SYN. Under `tcp = "strict"` every segment must lie in the windows that
// the two ends have opened (after G. van Rooij, as in nf_conntrack), and a RST must name the very next byte, as RFC 5961 asks
// of receivers. A connection whose beginning nobody saw is taken up where it is, unless the rule refuses that.

import Frames

/// What a verdict needs of a segment.
struct Segment {
    let sequence: UInt32
    let acknowledgement: UInt32
    let window: UInt32
    /// Sequence numbers it takes: payload, SYN, FIN.
    let length: UInt32
    var end: UInt32 { sequence &+ length }

    /// The parser proved 20 bytes of TCP header, and that the lengths fit each other.
    @inline(__always)
    init(_ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>) {
        let isIPv6 = headers.pointee.form == .ipv6
        let transport = Int(headers.pointee.transportOffset), network = Int(headers.pointee.networkOffset)
        let field = UInt16(bigEndian: frame.loadUnaligned(fromByteOffset: network &+ (isIPv6 ? 4 : 2), as: UInt16.self))
        let end = network &+ Int(field) &+ (isIPv6 ? 40 : 0)
        let words = UInt32(bigEndian: frame.loadUnaligned(fromByteOffset: transport &+ 12, as: UInt32.self))
        let payload = end &- transport &- Int(words &>> 28) &* 4
        let flags = headers.pointee.tcpFlags.rawValue
        sequence = UInt32(bigEndian: frame.loadUnaligned(fromByteOffset: transport &+ 4, as: UInt32.self))
        let acknowledged = UInt32(bigEndian: frame.loadUnaligned(fromByteOffset: transport &+ 8, as: UInt32.self))
        acknowledgement = flags & TCPFlags.ack.rawValue != 0 ? acknowledged : 0
        window = words & 0xFFFF
        length = UInt32(truncatingIfNeeded: payload) &+ UInt32(flags & 1) &+ UInt32(flags &>> 1 & 1)
    }
}

/// A segment of a connection whose windows are followed: if it lies in them, they move on.
@inline(__always)
func follows(_ slot: FlowSlot, _ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>, sender: Int) -> Bool {
    let segment = Segment(frame, headers)
    guard isInWindow(slot, segment, sender: sender) else { return false }
    follow(slot, segment, sender: sender)
    return true
}

/// `a` lies behind `b` in the circle of sequence numbers.
@inline(__always)
private func isAfter(_ a: UInt32, _ b: UInt32) -> Bool { Int32(bitPattern: a &- b) > 0 }

/// The largest shift of a window (RFC 7323 2.3): what is assumed where the SYNs were not seen.
private let largestScale: UInt8 = 14
/// None was offered.
private let noScale: UInt8 = 15

/// An ACK may lag behind by a window, or by this where the window is smaller (MAXACKWINDOW of van Rooij and Linux).
private let leastAckWindow: UInt32 = 66000

/// The four bounds of van Rooij.
@inline(__always)
private func isInWindow(_ slot: FlowSlot, _ segment: Segment, sender: Int) -> Bool {
    let own = slot.half(sender), other = slot.half(1 &- sender)
    let lag = max(own.pointee.window, leastAckWindow)
    return !isAfter(segment.sequence, own.pointee.limit)
        && !isAfter(own.pointee.end &- other.pointee.window, segment.end)
        && !isAfter(segment.acknowledgement, other.pointee.end)
        && !isAfter(other.pointee.end &- lag, segment.acknowledgement)
}

/// Moves the windows on.
@inline(__always)
private func follow(_ slot: FlowSlot, _ segment: Segment, sender: Int) {
    let own = slot.half(sender), other = slot.half(1 &- sender)
    let window = segment.window &<< (slot.scale(sender) & 15)
    if isAfter(segment.end, own.pointee.end) { own.pointee.end = segment.end }
    if window > own.pointee.window { own.pointee.window = window }
    if isAfter(segment.acknowledgement, own.pointee.acknowledged) { own.pointee.acknowledged = segment.acknowledgement }
    // A probe of a closed window carries one byte (RFC 9293 3.8.6.1).
    let limit = segment.acknowledgement &+ max(window, 1)
    if isAfter(limit, other.pointee.limit) { other.pointee.limit = limit }
}

extension Flow {
    @inline(__always)
    private func word32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: frame.loadUnaligned(fromByteOffset: Int(headers.pointee.transportOffset) &+ offset, as: UInt32.self))
    }

    @inline(__always)
    func tcp(_ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, isReply: Bool) -> Cause {
        let flags = headers.pointee.tcpFlags
        let segment = Segment(frame, headers)
        // All but a few in a thousand.
        if let entry, flags.rawValue & (TCPFlags.syn.rawValue | TCPFlags.rst.rawValue) == 0 {
            return goOn(entry, rule, segment, flags)
        }
        return turn(entry, rule, segment, flags)
    }

    // MARK: - Beginning and end

    @inline(never)
    private func turn(
        _ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, _ segment: Segment, _ flags: TCPFlags
    ) -> Cause {
        if flags.opensConnection { return open(entry, rule, segment) }
        if flags.contains(.syn) { return accept(entry, rule, segment) }
        if flags.contains(.rst) { return reset(entry, rule, segment, flags) }
        return pickUp(rule, segment)
    }

    /// A SYN, which the rules allow in this direction.
    private func open(_ known: FlowSlot?, _ rule: UnsafePointer<FlowRule>, _ segment: Segment) -> Cause {
        if let known {
            switch known.pointee.stage {
            // Nothing is settled yet, or everything is over.
            case .opening, .pickedUp, .closing, .reset: break
            // The same SYN again: its answer was lost behind us.
            case .accepted where known.client == sender && segment.end == known.half(sender).pointee.end: return .none
            default:
                // Of an endpoint that is on the other side it is forged, and its answer will not be believed.
                if known.side(sender).isOther(side) { return .none }
                // It may be forged, or a client that has forgotten: what there is stays until the server answers it (RFC 5961 4).
                known.pointee.synSequence = segment.sequence
                known.pointee.marks.insert(.hasSYN)
                return .none
            }
        }
        guard let entry = make(key, place, rule, .opening, FlowTimeouts.opening) else { return whenFull }
        begin(entry, segment)
        return .none
    }

    private func begin(_ entry: FlowSlot, _ segment: Segment) {
        entry.pointee.marks.insert(.seen(sender))
        entry.pointee.marks.insert(.hasSYN)
        if sender == 1 { entry.pointee.marks.insert(.clientIsGreater) }
        entry.setSide(sender, side)
        entry.pointee.synSequence = segment.sequence
        entry.half(sender).pointee = TCPHalf(
            end: segment.end, limit: segment.end, window: max(segment.window, 1), acknowledged: 0)
        entry.setScale(sender, scaleOffered() ?? noScale)
    }

    /// A SYN-ACK: it must answer a SYN, or repeat what it answered before.
    private func accept(_ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, _ segment: Segment) -> Cause {
        guard let entry else {
            let isExcused = rule.pointee.picksUp && clock.isGrace || mayHaveFoundNoRoom
            return isExcused ? .none : .synAckUnasked
        }
        // Who asks and answers by one wire is a forger.
        if entry.side(receiver).isSame(side) || entry.pointee.stage != .opening && entry.pointee.stage != .pickedUp && entry.side(sender).isOther(side) {
            return .synAckUnasked
        }
        // A SYN may carry data (RFC 7413); all or none of it is acknowledged.
        let first = entry.pointee.synSequence &+ 1
        let data = entry.pointee.stage == .opening ? entry.half(receiver).pointee.end &- first : 0
        if entry.pointee.marks.contains(.hasSYN), entry.pointee.marks.contains(.seen(receiver)), segment.acknowledgement &- first <= data {
            if entry.pointee.stage != .opening { forgetFor(newSYN: entry) }
            entry.pointee.stage = .accepted
            entry.pointee.marks.remove(.hasSYN)
            entry.pointee.marks.insert(.seen(sender))
            entry.setSide(sender, side)
            // What the SYN's window allows may follow at once (RFC 7413).
            entry.half(sender).pointee = TCPHalf(
                end: segment.end, limit: segment.end &+ entry.half(receiver).pointee.window, window: max(segment.window, 1),
                acknowledged: segment.acknowledgement)
            // Both must have offered a scale, or neither has one (RFC 7323 1.3).
            let theirs = scaleOffered() ?? noScale, ours = UInt8(truncatingIfNeeded: entry.scale(receiver))
            let isScaled = theirs != noScale && ours != noScale
            entry.setScale(sender, isScaled ? theirs : 0)
            entry.setScale(receiver, isScaled ? ours : 0)
            // Windows in SYNs are never scaled.
            entry.half(receiver).pointee.limit = segment.acknowledgement &+ max(segment.window, 1)
            entry.pointee.timeout = FlowTimeouts.opening
            renew(entry, rule)
            return .none
        }
        let hasBoth = entry.pointee.marks.contains(.bothSeen) && entry.pointee.stage != .pickedUp
        let isRepeated = segment.end == entry.half(sender).pointee.end || entry.pointee.stage == .held && isInWindow(entry, segment)
        if entry.client == receiver, hasBoth, isRepeated { return .none }
        return rule.pointee.picksUp && clock.isGrace ? .none : .synAckUnasked
    }

    /// The server has answered a SYN that came while an older connection was there: that one is no more.
    private func forgetFor(newSYN entry: FlowSlot) {
        let end = entry.pointee.synSequence &+ 1
        entry.pointee.marks = .isTentative
        entry.pointee.marks.insert(.hasSYN)
        entry.pointee.marks.insert(.seen(receiver))
        if receiver == 1 { entry.pointee.marks.insert(.clientIsGreater) }
        entry.half(receiver).pointee = TCPHalf(end: end, limit: end, window: 65535, acknowledged: 0)
        // Its options have gone by.
        entry.setScale(receiver, largestScale)
    }

    private func reset(
        _ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, _ segment: Segment, _ flags: TCPFlags
    ) -> Cause {
        guard let entry else {
            let isExcused = rule.pointee.picksUp && !rule.pointee.isStrict || rule.pointee.picksUp && clock.isGrace || mayHaveFoundNoRoom
            return isExcused ? .none : .tcpUntracked
        }
        // Not yet held to anything, and so not ended by anything.
        if entry.pointee.stage == .pickedUp { return .none }
        if entry.side(receiver).isSame(side) || entry.side(sender).isOther(side) { return .wrongSide }
        if rule.pointee.followsWindows, !isExcused(entry), !isExact(entry, segment, flags) {
            // A rule that is not strict lets it pass, and believes it as little as its receiver will.
            return rule.pointee.isStrict ? .tcpReset : .none
        }
        if entry.pointee.stage != .reset {
            entry.pointee.stage = .reset
            entry.pointee.timeout = FlowTimeouts.reset
            renew(entry, rule)
        }
        entry.pointee.marks.insert(.isTentative)
        return .none
    }

    /// A RST that its receiver must believe: at the next byte it expects, or at the last one its sender sent; or the refusal of a SYN.
    private func isExact(_ entry: FlowSlot, _ segment: Segment, _ flags: TCPFlags) -> Bool {
        let own = entry.half(sender), other = entry.half(receiver)
        if entry.pointee.stage == .opening, entry.client == receiver {
            return flags.contains(.ack) && segment.acknowledgement &- (entry.pointee.synSequence &+ 1)
                <= other.pointee.end &- (entry.pointee.synSequence &+ 1)
        }
        // Of a new SYN that the server refuses while the old connection is still here.
        if entry.pointee.marks.contains(.hasSYN), flags.contains(.ack), segment.acknowledgement == entry.pointee.synSequence &+ 1 { return true }
        // The answer of a host that knows nothing of the connection: at what the other one has acknowledged.
        return segment.sequence == own.pointee.end || segment.sequence == other.pointee.acknowledged
    }

    /// A segment of a connection that is not known.
    @inline(never)
    private func pickUp(_ rule: UnsafePointer<FlowRule>, _ segment: Segment) -> Cause {
        guard rule.pointee.picksUp else { return mayHaveFoundNoRoom ? .none : .tcpUntracked }
        guard let entry = make(key, place, rule, .pickedUp, FlowTimeouts.pickedUp) else { return whenFull }
        counts.pointee.pickedUp &+= 1
        // Who the client is does not matter any more: SYNs are judged by the rules.
        learn(entry, segment)
        return .none
    }

    /// Takes what a segment says for true.
    private func learn(_ entry: FlowSlot, _ segment: Segment) {
        entry.pointee.marks.insert(.seen(sender))
        entry.setScale(sender, largestScale)
        entry.setSide(sender, side)
        let window = max(segment.window, 1) &<< UInt32(largestScale)
        entry.half(sender).pointee = TCPHalf(
            end: segment.end, limit: segment.end &+ window, window: window, acknowledged: segment.acknowledgement)
    }

    // MARK: - In between

    @inline(__always)
    private func goOn(
        _ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>, _ segment: Segment, _ flags: TCPFlags
    ) -> Cause {
        if entry.pointee.stage.rawValue < FlowStage.established.rawValue {
            let (cause, isSettled) = young(entry, rule, segment)
            if isSettled {
                if cause == .none, flags.contains(.fin), entry.pointee.stage.rawValue >= FlowStage.established.rawValue { end(entry) }
                return cause
            }
        } else if entry.side(sender).isOther(side) {
            return .wrongSide
        } else if !rule.pointee.followsWindows {
            revive(entry, rule, segment, flags)
        } else if entry.pointee.stage == .established || !isInWindow(entry, segment) {
            // Nobody watched for a while, or the rule has come to follow windows: what is said now counts.
            guard entry.pointee.stage == .established || isExcused(entry) else {
                if rule.pointee.isStrict { return .tcpWindow }
                renew(entry, rule)
                return .none
            }
            entry.pointee.stage = .pickedUp
            entry.pointee.marks.remove(.bothSeen)
            learn(entry, segment)
            renew(entry, rule)
            return .none
        }
        if rule.pointee.followsWindows { follow(entry, segment, sender: sender) }
        // Behind a FIN nothing comes: one in the middle is old, or forged.
        if flags.contains(.fin), !rule.pointee.followsWindows || segment.end == entry.half(sender).pointee.end { end(entry) }
        renew(entry, rule)
        return .none
    }

    /// Without windows a FIN or a RST may have been forged, and its receiver did not believe it: who still has something to say
    /// has not ended. But what has ended may be a retransmission, and goes on making room.
    @inline(__always)
    private func revive(_ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>, _ segment: Segment, _ flags: TCPFlags) {
        let stage = entry.pointee.stage
        guard stage != .established, stage == .held || segment.length > 0 && !flags.contains(.fin) else { return }
        entry.pointee.marks.remove(.bothEnded)
        establish(entry, rule)
        if stage == .closing || stage == .reset { entry.pointee.marks.insert(.isTentative) }
    }

    /// A segment before the connection is established.
    ///
    /// - Returns: whether that is all; else the segment is followed like any other.
    @inline(never)
    private func young(
        _ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>, _ segment: Segment
    ) -> (Cause, isSettled: Bool) {
        if entry.pointee.stage == .accepted {
            if entry.side(sender).isOther(side) { return (.wrongSide, true) }
            if rule.pointee.followsWindows, !isInWindow(entry, segment) {
                return (isExcused(entry) || !rule.pointee.isStrict ? .none : .tcpWindow, true)
            }
            if entry.client == sender { establish(entry, rule) }
            return (.none, false)
        }
        if entry.pointee.stage == .opening {
            // A server that still has an old connection answers a SYN with an ACK (RFC 9293 3.5.1, half-open connections).
            if entry.client == receiver, segment.length == 0 { return (.none, true) }
            // The SYN-ACK passed unseen, or the SYN was forged. Without the entry this would be taken up as well.
            guard rule.pointee.picksUp else { return (.tcpWindow, true) }
            entry.pointee.stage = .pickedUp
            entry.pointee.timeout = FlowTimeouts.pickedUp
        }
        // Not yet held to anything: a forged segment that came first must not shut the connection out.
        let other = entry.half(receiver).pointee
        learn(entry, segment)
        renew(entry, rule)
        // One wire that speaks for both is a forger's.
        if !entry.pointee.marks.contains(.bothSeen) || entry.side(receiver).isSame(side) { return (.none, true) }
        if !rule.pointee.followsWindows {
            establish(entry, rule)
            return (.none, true)
        }
        // Each has acknowledged about what the other has sent.
        guard segment.acknowledgement != 0,
            other.end &- segment.acknowledgement <= leastAckWindow || segment.acknowledgement &- other.end <= leastAckWindow,
            segment.sequence &- other.acknowledged <= leastAckWindow || other.acknowledged &- segment.end <= leastAckWindow
        else { return (.none, true) }
        entry.half(receiver).pointee.limit = segment.acknowledgement &+ entry.half(sender).pointee.window
        entry.half(sender).pointee.limit = other.acknowledged &+ other.window
        if isAfter(segment.acknowledgement, other.end) { entry.half(receiver).pointee.end = segment.acknowledgement }
        establish(entry, rule)
        return (.none, true)
    }

    private func establish(_ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>) {
        entry.pointee.stage = rule.pointee.followsWindows ? .held : .established
        entry.pointee.marks.remove(.isTentative)
        entry.pointee.timeout = FlowTimeouts.established
    }

    @inline(__always)
    private func isInWindow(_ entry: FlowSlot, _ segment: Segment) -> Bool {
        // A fragment does not tell how long its segment is.
        !headers.pointee.marks.contains(.firstFragment) && Allowlist.isInWindow(entry, segment, sender: sender)
    }

    @inline(never)
    private func end(_ entry: FlowSlot) {
        entry.pointee.marks.insert(.ended(sender))
        guard entry.pointee.stage != .reset else { return }
        if entry.pointee.marks.contains(.bothEnded) {
            entry.pointee.stage = .closing
            entry.pointee.timeout = FlowTimeouts.closing
            entry.pointee.marks.insert(.isTentative)
        } else {
            entry.pointee.stage = .halfClosed
            entry.pointee.timeout = FlowTimeouts.halfClosed
        }
    }

    // MARK: - Details

    /// The window scale in a SYN's options (RFC 7323 2.2); nil: none.
    private func scaleOffered() -> UInt8? {
        let transport = Int(headers.pointee.transportOffset)
        let end = min(transport &+ Int(word32(12) &>> 28) &* 4, available)
        var at = transport &+ 20
        while at < end {
            let kind = frame.load(fromByteOffset: at, as: UInt8.self)
            if kind == 0 { return nil }
            if kind == 1 {
                at &+= 1
                continue
            }
            guard at &+ 2 <= end else { return nil }
            let length = Int(frame.load(fromByteOffset: at &+ 1, as: UInt8.self))
            guard length >= 2, at &+ length <= end else { return nil }
            if kind == 3, length == 3 { return min(frame.load(fromByteOffset: at &+ 2, as: UInt8.self), largestScale) }
            at &+= length
        }
        return nil
    }

    /// Whether the segment inside an ICMP error is one that its sender has sent and nobody has acknowledged long ago (RFC 5927 4.1).
    func quotesSentSegment(_ entry: FlowSlot) -> Bool {
        guard entry.pointee.marks.contains(.seen(sender)) else { return false }
        let own = entry.half(sender)
        return own.pointee.end &- word32(4) <= max(entry.half(receiver).pointee.window, leastAckWindow)
    }
}
