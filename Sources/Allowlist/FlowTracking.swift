// What the allowlist allows, held to what has gone before.
//
//   keys, and their homes' tags ─► the entries tags point at ─► one frame after the other: find, judge, note
//
// A frame that the rules deny is none of the flow table's business, but for later fragments and for the
// data connections of FTP, which no rule names.

import CLinux
import Frames

/// Working memory of one worker.
public struct FlowScratch: BitwiseCopyable {
    // By the order of the frames that are looked up.
    let keys: UnsafeMutablePointer<FlowKey>
    let homes: UnsafeMutablePointer<FlowHome>
    let likely: UnsafeMutablePointer<UInt32>
    let notes: UnsafeMutablePointer<FlowNote>
    public let counts: UnsafeMutablePointer<FlowCounts>
    /// When a block was last waited for in vain, 0: never.
    let gaveUpAt: UnsafeMutablePointer<UInt32>
}

/// What the first look at a frame has told.
struct FlowNote: BitwiseCopyable {
    /// In the burst.
    let index: UInt8
    /// The endpoint that sent it: 0 the lesser, 1 the greater.
    let sender: UInt8
    /// A TCP segment that changes no connection's stage, which the rules allow.
    let isSteady: Bool
}

/// Owns a `FlowScratch`.
public final class FlowMemory {
    private let memory = TableMemory()
    public let scratch: FlowScratch

    public init() {
        scratch = FlowScratch(
            keys: memory.allocate(FlowKey.self, count: burstCapacity), homes: memory.allocate(FlowHome.self, count: burstCapacity),
            likely: memory.allocate(UInt32.self, count: burstCapacity), notes: memory.allocate(FlowNote.self, count: burstCapacity),
            counts: memory.allocate(FlowCounts.self, count: 1), gaveUpAt: memory.allocate(UInt32.self, count: 1))
        scratch.counts.initialize(to: FlowCounts())
        scratch.gaveUpAt.initialize(to: 0)
    }
}

/// The time, and until when a flow that is not known gets the benefit of the doubt: nobody was there to see it begin.
public struct FlowClock: BitwiseCopyable {
    public var now: FlowTick
    /// Ticks that replies may pass unasked from `graceBegan` on.
    public var grace: UInt32
    public var graceBegan: FlowTick
    /// How long another worker's block is waited for, ns: less than the deadline after which the kernel judges instead.
    public var patience: UInt64 = 5_000_000

    public init(now: FlowTick, graceBegan: FlowTick, grace: UInt32) {
        self.now = now
        self.graceBegan = graceBegan
        self.grace = grace
    }

    @inline(__always) var isGrace: Bool { now.since(graceBegan.rawValue) < grace }

    /// For a rule that gives its servers more time.
    @inline(__always)
    func isGrace(for ticks: UInt32) -> Bool { grace > 0 && now.since(graceBegan.rawValue) < ticks }
}

/// Frames between the prefetch of a key's tags and the look at them.
private let tagDistance = 8

/// Takes a judged burst through the flow table.
///
/// - Parameters:
///   - side: the port they came in by; nil: a capture, which does not say.
///   - available: bytes that may be read of each frame; the parser proved the transport header's fixed part.
///   - verdicts: those of `judgeBurst`. Frames whose flow does not allow them are given a cause; later fragments, and data
///     connections of FTP, lose theirs where it does.
#if !DEBUG
@_noLocks @_noAllocation
#endif
public func trackBurst(
    _ table: UnsafePointer<TableView>, _ flows: UnsafePointer<FlowView>, from side: Side?, frames: UnsafePointer<UnsafeRawPointer>,
    available: UnsafePointer<UInt32>, headers: UnsafePointer<FrameHeaders>, count: Int, _ clock: FlowClock, _ scratch: FlowScratch,
    verdicts: UnsafeMutablePointer<Verdict>
) {
    // In registers: see `judgeBurst`.
    let keys = scratch.keys, homes = scratch.homes, likely = scratch.likely, notes = scratch.notes
    let version = UInt32(truncatingIfNeeded: table.pointee.version), now = clock.now
    let seed = flows.pointee.seed, blockCount = flows.pointee.blockCount
    let tags = flows.pointee.tags, entries = flows.pointee.entries, halves = flows.pointee.halves
    let expectsData = table.pointee.expectingCount > 0, holdsWindows = table.pointee.holdsWindows
    let from = FlowSide(side), isShared = flows.pointee.isShared
    @inline(__always)
    func look(_ k: Int) {
        let matches = homes[k].matches(tags)
        let slot = homes[k].slot(matches)
        likely[k] = slot
        clinux_prefetch(entries + Int(slot))
        // One key in twenty shares its tag with another in its buckets.
        let others = matches & (matches &- 1)
        if others != 0 { clinux_prefetch(entries + Int(homes[k].slot(others))) }
        if holdsWindows || !notes[k].isSteady { clinux_prefetch(halves + 2 &* Int(slot)) }
    }
    var n = 0
    for i in 0..<count {
        let cause = verdicts[i].cause
        let hash: UInt64, sender: UInt8
        var isSteady = false
        if cause == .none {
            if verdicts[i].rule == Verdict.noRule { continue }
            (hash, sender) = makeKey(keys + n, headers + i, frames[i], isReply: verdicts[i].isReply, seed)
            isSteady =
                headers[i].ipProtocol == .tcp && headers[i].marks.isEmpty && headers[i].tcpFlags.rawValue & TCPFlags.turning.rawValue == 0
        } else if cause == .fragmentUntracked {
            keys[n] = datagramKey(headers + i)
            (hash, sender) = (keys[n].hash(seed), 0)
        } else if expectsData, headers[i].ipProtocol == .tcp, cause == .notInPolicy || cause == .synFromServer,
            !headers[i].marks.contains(.icmpError)
        {
            (hash, sender) = makeKey(keys + n, headers + i, frames[i], isReply: false, seed)
        } else {
            continue
        }
        let home = FlowHome(hash, blockCount: blockCount)
        clinux_prefetch(tags + home.first)
        clinux_prefetch(tags + home.second)
        homes[n] = home
        notes[n] = FlowNote(index: UInt8(truncatingIfNeeded: i), sender: sender, isSteady: isSteady)
        n &+= 1
        // Those of some frames ago have come by now. In between, so that the memory works while keys are made.
        if n > tagDistance { look(n &- 1 &- tagDistance) }
    }
    for k in max(0, n &- tagDistance)..<n { look(k) }
    for k in 0..<n {
        let i = Int(notes[k].index), sender = Int(notes[k].sender)
        // All but a few in a thousand: a segment of a connection that is established, under the table that let the last one pass.
        if notes[k].isSteady, !isShared || flows.lock(homes[k].block) {
            var index = Int(likely[k])
            // A slot that has been given up has no key any more.
            if !(entries + index).pointee.key.equals(keys[k]) { index = find(flows, keys + k, homes + k) }
            let slot = FlowSlot(entry: entries + index, halves: halves + 2 &* index)
            if index >= 0, slot.entry.pointee.version == version, !slot.isOver(now), !slot.side(sender).isOther(from),
                slot.entry.pointee.stage == .established && !holdsWindows
                    || slot.entry.pointee.stage == .held && follows(slot, frames[i], headers + i, sender: sender)
            {
                // Most find the time they would write.
                if slot.entry.pointee.lastSeen != now.rawValue { slot.entry.pointee.lastSeen = now.rawValue }
                if isShared { flows.unlock(homes[k].block) }
                if expectsData { noteControl(table, flows, keys + k, homes + k, frames, available, headers, i, sender, side, clock, scratch, verdicts) }
                continue
            }
            if isShared { flows.unlock(homes[k].block) }
        }
        track(table, flows, keys + k, homes + k, frames, available, headers, i, sender, side, clock, scratch, verdicts)
    }
}

/// The slot of a key whose tag another one has, too; -1: there is none.
@inline(never)
private func find(_ flows: UnsafePointer<FlowView>, _ key: UnsafePointer<FlowKey>, _ home: UnsafePointer<FlowHome>) -> Int {
    FlowPlace(home.pointee, flows).find(key).map { $0.entry - flows.pointee.entries } ?? -1
}

@inline(never)
private func track(
    _ table: UnsafePointer<TableView>, _ flows: UnsafePointer<FlowView>, _ key: UnsafePointer<FlowKey>, _ home: UnsafePointer<FlowHome>,
    _ frames: UnsafePointer<UnsafeRawPointer>, _ available: UnsafePointer<UInt32>, _ headers: UnsafePointer<FrameHeaders>, _ i: Int,
    _ sender: Int, _ side: Side?, _ clock: FlowClock, _ scratch: FlowScratch, _ verdicts: UnsafeMutablePointer<Verdict>
) {
    let flow = Flow(
        table: table, flows: flows, key: key, place: FlowPlace(home.pointee, flows), frame: frames[i], available: Int(available[i]),
        headers: headers + i, sender: sender, from: side, clock: clock, counts: scratch.counts, gaveUpAt: scratch.gaveUpAt)
    let verdict = verdicts + i
    let cause = verdict.pointee.cause
    if cause == .fragmentUntracked {
        flow.laterFragment(verdict)
    } else if cause == .none {
        flow.allowed(verdict)
    } else {
        flow.expected(verdict)
    }
}

/// A segment of an established connection, where some rule expects data connections beside its own.
@inline(never)
private func noteControl(
    _ table: UnsafePointer<TableView>, _ flows: UnsafePointer<FlowView>, _ key: UnsafePointer<FlowKey>, _ home: UnsafePointer<FlowHome>,
    _ frames: UnsafePointer<UnsafeRawPointer>, _ available: UnsafePointer<UInt32>, _ headers: UnsafePointer<FrameHeaders>, _ i: Int,
    _ sender: Int, _ side: Side?, _ clock: FlowClock, _ scratch: FlowScratch, _ verdicts: UnsafeMutablePointer<Verdict>
) {
    let rule = table.pointee.flowRules + Int(verdicts[i].rule)
    guard rule.pointee.expectsData else { return }
    Flow(
        table: table, flows: flows, key: key, place: FlowPlace(home.pointee, flows), frame: frames[i], available: Int(available[i]),
        headers: headers + i, sender: sender, from: side, clock: clock, counts: scratch.counts, gaveUpAt: scratch.gaveUpAt
    ).noteCompanion(rule, isReply: verdicts[i].isReply)
}

extension TCPFlags {
    /// What changes a connection's stage, or may.
    @inline(__always) fileprivate static var turning: TCPFlags { TCPFlags(rawValue: 0x01 | 0x02 | 0x04) }
}

// MARK: - Keys

/// The flow a frame belongs to.
///
/// - Returns: the key's hash, and which endpoint sent it (of the packet inside, for an ICMP error): 0 the lesser, 1 the greater.
@inline(__always)
private func makeKey(
    _ key: UnsafeMutablePointer<FlowKey>, _ headers: UnsafePointer<FrameHeaders>, _ frame: UnsafeRawPointer, isReply: Bool, _ seed: HashSeed
) -> (hash: UInt64, sender: UInt8) {
    let ipProtocol = headers.pointee.ipProtocol
    if headers.pointee.form != .ipv4 || !ipProtocol.hasPorts {
        let sender = makeOtherKey(key, headers, frame, isReply: isReply)
        return (key.pointee.hash(seed), sender)
    }
    let source = headers.pointee.source.low &<< 16 | UInt64(headers.pointee.sourcePort.rawValue)
    let destination = headers.pointee.destination.low &<< 16 | UInt64(headers.pointee.destinationPort.rawValue)
    let lesser = min(source, destination), greater = max(source, destination)
    let rest = UInt64(headers.pointee.vlan.rawValue) | UInt64(ipProtocol.rawValue) &<< 16 | UInt64(FlowKind.ipv4) &<< 24
    key.pointee = FlowKey(
        lesser: AddressWords(high: 0, low: lesser &>> 16), greater: AddressWords(high: 0, low: greater &>> 16),
        tail: lesser & 0xFFFF | (greater & 0xFFFF) &<< 16 | rest &<< 32)
    return (FlowKey.hash(lesser, greater, rest &* seed.s2, seed), source > destination ? 1 : 0)
}

/// The same for IPv6, and for protocols without ports.
@inline(never)
private func makeOtherKey(
    _ key: UnsafeMutablePointer<FlowKey>, _ headers: UnsafePointer<FrameHeaders>, _ frame: UnsafeRawPointer, isReply: Bool
) -> UInt8 {
    let isIPv6 = headers.pointee.form == .ipv6
    let ipProtocol = headers.pointee.ipProtocol
    var sourcePort = headers.pointee.sourcePort.rawValue, destinationPort = headers.pointee.destinationPort.rawValue
    if !ipProtocol.hasPorts, sourcePort | destinationPort != 0 {
        // ICMP: the request's type and code for both directions, and the identifier of those that have one.
        sourcePort = isReply ? sourcePort : destinationPort
        destinationPort = icmpIdentifier(headers, frame)
    }
    let source = headers.pointee.source, destination = headers.pointee.destination
    let isSwapped: Bool
    if source.high != destination.high {
        isSwapped = source.high > destination.high
    } else if source.low != destination.low {
        isSwapped = source.low > destination.low
    } else {
        isSwapped = ipProtocol.hasPorts && sourcePort > destinationPort
    }
    // An ICMP flow's two numbers belong to no endpoint.
    let keepsPorts = !isSwapped || !ipProtocol.hasPorts
    let lesserPort = UInt64(keepsPorts ? sourcePort : destinationPort), greaterPort = UInt64(keepsPorts ? destinationPort : sourcePort)
    key.pointee.lesser = isSwapped ? destination : source
    key.pointee.greater = isSwapped ? source : destination
    key.pointee.tail =
        lesserPort | greaterPort &<< 16 | UInt64(headers.pointee.vlan.rawValue) &<< 32 | UInt64(ipProtocol.rawValue) &<< 48
        | UInt64(isIPv6 ? FlowKind.ipv6 : FlowKind.ipv4) &<< 56
    return isSwapped ? 1 : 0
}

/// Identifier of an echo, timestamp, information or mask message (RFC 792, 950, 4443); 0 for others.
@inline(never)
private func icmpIdentifier(_ headers: UnsafePointer<FrameHeaders>, _ frame: UnsafeRawPointer) -> UInt16 {
    let at = Int(headers.pointee.transportOffset)
    let type = frame.load(fromByteOffset: at, as: UInt8.self)
    let hasIdentifier = headers.pointee.form == .ipv6 ? type == 128 || type == 129 : type == 0 || type == 8 || (13...18).contains(type)
    // The parser proved eight bytes of the message, or of the packet inside an error.
    return hasIdentifier ? UInt16(bigEndian: frame.loadUnaligned(fromByteOffset: at &+ 4, as: UInt16.self)) : 0
}

/// Fragments go one way, and are told apart by their identification (RFC 791 3.2, RFC 8200 4.5).
@inline(never)
private func datagramKey(_ headers: UnsafePointer<FrameHeaders>) -> FlowKey {
    let isIPv6 = headers.pointee.form == .ipv6
    // Of IPv6 only the first fragment knows for sure what it carries.
    let ipProtocol = isIPv6 ? 0 : UInt64(headers.pointee.ipProtocol.rawValue)
    return FlowKey(
        lesser: headers.pointee.source, greater: headers.pointee.destination,
        tail: UInt64(headers.pointee.fragment.identification) | UInt64(headers.pointee.vlan.rawValue) &<< 32 | ipProtocol &<< 48
            | UInt64(isIPv6 ? FlowKind.datagram6 : FlowKind.datagram4) &<< 56)
}

// MARK: - One frame

/// One frame and where its flow may lie.
struct Flow {
    let table: UnsafePointer<TableView>
    let flows: UnsafePointer<FlowView>
    let key: UnsafePointer<FlowKey>
    let place: FlowPlace
    let frame: UnsafeRawPointer
    let available: Int
    let headers: UnsafePointer<FrameHeaders>
    /// The endpoint that sent the frame: 0 the lesser, 1 the greater.
    let sender: Int
    let from: Side?
    let clock: FlowClock
    let counts: UnsafeMutablePointer<FlowCounts>
    let gaveUpAt: UnsafeMutablePointer<UInt32>

    @inline(__always) var now: UInt32 { clock.now.rawValue }
    @inline(__always) var receiver: Int { 1 &- sender }
    @inline(__always) var side: FlowSide { FlowSide(from) }

    /// A frame that a rule allows.
    @inline(__always)
    func allowed(_ verdict: UnsafeMutablePointer<Verdict>) {
        let rule = table.pointee.flowRules + Int(verdict.pointee.rule)
        guard lock(place.block) else { return contended(verdict) }
        var entry = place.find(key)
        if let found = entry, found.isOver(clock.now) || isCut(found, rule) { entry = nil }
        let cause: Cause
        if headers.pointee.marks.contains(.icmpError) {
            cause = icmpError(entry, rule, isReply: verdict.pointee.isReply)
        } else if headers.pointee.ipProtocol == .tcp {
            cause = tcp(entry, rule, isReply: verdict.pointee.isReply)
        } else {
            cause = exchange(entry, rule, isReply: verdict.pointee.isReply)
        }
        flows.unlock(place.block)
        if cause != .none {
            verdict.pointee.cause = cause
            return
        }
        if rule.pointee.expectsData && headers.pointee.ipProtocol == .tcp { noteCompanion(rule, isReply: verdict.pointee.isReply) }
        if headers.pointee.marks.contains(.firstFragment) { noteFragment(verdict) }
    }

    /// Its rule was not there for a while since the flow's last frame: what the owner has revoked does not come back by itself.
    @inline(__always)
    private func isCut(_ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>) -> Bool {
        if Int32(bitPattern: entry.pointee.version &- rule.pointee.since) >= 0 { return false }
        counts.pointee.cut &+= 1
        return true
    }

    /// - Returns: false if another worker keeps the block and does not come back; once that has been waited for, not again for a second.
    @inline(__always)
    private func lock(_ block: Int) -> Bool { flows.lock(block) || lockPatiently(block) }

    @inline(never)
    private func lockPatiently(_ block: Int) -> Bool {
        if gaveUpAt.pointee != 0, clock.now.since(gaveUpAt.pointee) < FlowTick.perSecond { return false }
        if flows.lockPatiently(block, clock.patience) { return true }
        gaveUpAt.pointee = max(now, 1)
        return false
    }

    /// Of a frame that the rules do not know, and so nobody has looked who sends it.
    @inline(__always)
    private func breaksBindings(_ verdict: UnsafeMutablePointer<Verdict>) -> Bool {
        guard table.pointee.hasBindings else { return false }
        let cause = breach(table, frame, headers, from ?? .inside)
        if cause == .none { return false }
        verdict.pointee.cause = cause
        return true
    }

    /// Another worker keeps the block: its processor was taken from it. What would pass whatever is known of its flow passes now;
    /// what hangs on that does not, and comes again.
    @inline(never)
    private func contended(_ verdict: UnsafeMutablePointer<Verdict>) {
        counts.pointee.contended &+= 1
        guard verdict.pointee.cause == .none, !table.pointee.fullPasses else { return }
        if headers.pointee.marks.contains(.icmpError) {
            verdict.pointee.cause = .flowTableFull
            return
        }
        let rule = table.pointee.flowRules + Int(verdict.pointee.rule)
        let isTCP = headers.pointee.ipProtocol == .tcp
        let needsNothing =
            isTCP ? rule.pointee.picksUp && !rule.pointee.isStrict && !headers.pointee.tcpFlags.contains(.syn) : !verdict.pointee.isReply
        if !needsNothing { verdict.pointee.cause = .flowTableFull }
    }

    /// Makes an entry, or takes over one that is over.
    ///
    /// - Returns: nil if there is no room.
    @inline(__always)
    func make(_ key: UnsafePointer<FlowKey>, _ place: FlowPlace, _ rule: UnsafePointer<FlowRule>, _ stage: FlowStage, _ timeout: UInt32)
        -> FlowSlot?
    {
        // One of this key that is over or cut is still in its slot.
        let entry: FlowSlot
        let pushedOut = counts.pointee.pushedOut
        if let old = place.find(key) {
            counts.pointee.ended &+= 1
            counts.pointee.made &+= 1
            entry = old
        } else if let room = place.makeRoom(clock.now, version: UInt32(truncatingIfNeeded: table.pointee.version), counts) {
            entry = room
        } else {
            counts.pointee.refused &+= 1
            flows.pointee.header.pointee.fullAt.store(now | 1, ordering: .relaxed)
            return nil
        }
        // What was pushed out may be answered yet.
        if counts.pointee.pushedOut != pushedOut { flows.pointee.header.pointee.fullAt.store(now | 1, ordering: .relaxed) }
        let none = TCPHalf(end: 0, limit: 0, window: 0, acknowledged: 0)
        entry.entry.initialize(
            to: FlowEntry(
                key: key.pointee, version: UInt32(truncatingIfNeeded: table.pointee.version), rule: rule.pointee.identity, lastSeen: now,
                timeout: timeout, stage: stage, marks: .isTentative, ends: (0, 0), synSequence: 0))
        entry.half(0).pointee = none
        entry.half(1).pointee = none
        return entry
    }

    /// The frame's flow goes on.
    @inline(__always)
    func renew(_ entry: FlowSlot, _ rule: UnsafePointer<FlowRule>) {
        entry.pointee.version = UInt32(truncatingIfNeeded: table.pointee.version)
        entry.pointee.rule = rule.pointee.identity
        entry.pointee.lastSeen = now
    }

    /// What becomes of a frame whose flow has no room: the owner's choice.
    @inline(__always) var whenFull: Cause { table.pointee.fullPasses ? .none : .flowTableFull }

    /// Whether a flow that is not known may be one that lately found no room, under a policy that lets those pass.
    @inline(__always) var mayHaveFoundNoRoom: Bool {
        guard table.pointee.fullPasses else { return false }
        let at = flows.pointee.header.pointee.fullAt.load(ordering: .relaxed)
        return at != 0 && clock.now.since(at) < FlowTimeouts.halfClosed
    }

    // MARK: Without connections

    /// UDP, ICMP and the rest: the client's frames pass, the server's while a request is recent. Only requests renew
    /// that, or a server could keep the door open by itself.
    @inline(__always)
    private func exchange(_ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, isReply: Bool) -> Cause {
        if !isReply {
            guard let entry = entry ?? make(key, place, rule, .asked, rule.pointee.replyTicks) else { return whenFull }
            renew(entry, rule)
            entry.pointee.timeout = rule.pointee.replyTicks
            noteRequest(entry)
            return .none
        }
        if let entry, isRecent(lastRequest(entry, of: receiver, answeredFrom: side), rule) {
            entry.pointee.stage = .answered
            entry.pointee.marks.remove(.isTentative)
            return .none
        }
        return clock.isGrace || clock.isGrace(for: rule.pointee.replyTicks) || mayHaveFoundNoRoom ? .none : .replyUnasked
    }

    @inline(__always)
    private func noteRequest(_ entry: FlowSlot) {
        // 0 means never.
        let tick = max(now, 1)
        if side == FlowSide(.outside) { entry.half(sender).pointee.limit = tick } else { entry.half(sender).pointee.end = tick }
    }

    /// When that endpoint has asked last, from the other side than an answer comes from: who asks and answers by one wire is a forger.
    @inline(__always)
    private func lastRequest(_ entry: FlowSlot, of endpoint: Int, answeredFrom side: FlowSide) -> UInt32 {
        side == FlowSide(.inside) ? entry.half(endpoint).pointee.limit : entry.half(endpoint).pointee.end
    }

    @inline(__always)
    private func isRecent(_ request: UInt32, _ rule: UnsafePointer<FlowRule>) -> Bool {
        request != 0 && clock.now.since(request) <= rule.pointee.replyTicks
    }

    /// An error passes if the packet inside it belongs to a flow there is. Its sender, as `sender` has it, is the error's receiver.
    @inline(never)
    private func icmpError(_ entry: FlowSlot?, _ rule: UnsafePointer<FlowRule>, isReply: Bool) -> Cause {
        // The packet inside came by a moment ago: a connection that was there before has been taken up by it.
        guard let entry else { return clock.isGrace || mayHaveFoundNoRoom ? .none : .icmpErrorUntracked }
        if headers.pointee.ipProtocol == .tcp {
            // It travels towards who has sent that segment.
            if entry.side(sender).isSame(side) { return .icmpErrorUntracked }
            return rule.pointee.isStrict && !quotesSentSegment(entry) && !isExcused(entry) ? .icmpErrorUntracked : .none
        }
        // About a request: it was asked from where the error goes; about a reply: the client complains, who has asked from here.
        let request = isReply
            ? lastRequest(entry, of: receiver, answeredFrom: FlowSide(from?.other)) : lastRequest(entry, of: sender, answeredFrom: side)
        return isRecent(request, rule) ? .none : .icmpErrorUntracked
    }

    /// Nobody has watched this flow since: what is known of it may be out of date.
    @inline(__always)
    func isExcused(_ entry: FlowSlot) -> Bool {
        clock.isGrace || clock.grace > 0 && Int32(bitPattern: clock.graceBegan.rawValue &- entry.pointee.lastSeen) >= 0
    }

    // MARK: Fragments

    /// A datagram whose first fragment passes: the others may follow it.
    @inline(never)
    private func noteFragment(_ verdict: UnsafeMutablePointer<Verdict>) {
        var key = datagramKey(headers)
        let place = FlowPlace(key.hash(flows.pointee.seed), flows)
        guard lock(place.block) else { return }
        defer { flows.unlock(place.block) }
        let rule = table.pointee.flowRules + Int(verdict.pointee.rule)
        let fragment = headers.pointee.fragment
        var end = UInt32(truncatingIfNeeded: fragment.end)
        // A first one that comes again does not open what has been written already; behind the last one a number may be used anew.
        if let known = place.find(&key), !known.isOver(clock.now), known.half(0).pointee.end <= UInt32(UInt16.max) {
            end = max(end, known.half(0).pointee.end)
        }
        guard let entry = make(&key, place, rule, .fragments, FlowTimeouts.fragments) else { return }
        entry.half(0).pointee.end = end
        entry.setSide(0, side)
        // For the verdicts of those that follow.
        entry.half(1).pointee.end = verdict.pointee.rule
        entry.half(1).pointee.limit = verdict.pointee.isReply ? 1 : 0
    }

    /// Passes in order and without overlap only: stacks differ in what they make of anything else (RFC 5722, T. Ptacek 1998).
    @inline(never)
    func laterFragment(_ verdict: UnsafeMutablePointer<Verdict>) {
        guard lock(place.block) else { return contended(verdict) }
        defer { flows.unlock(place.block) }
        // Of another version the rule's number would mean another rule.
        guard let entry = place.find(key), !entry.isOver(clock.now),
            entry.pointee.version == UInt32(truncatingIfNeeded: table.pointee.version)
        else { return }
        if entry.side(0).isOther(side) || breaksBindings(verdict) { return }
        let fragment = headers.pointee.fragment
        let next = entry.half(0)
        guard fragment.start >= Int(next.pointee.end) else {
            verdict.pointee.cause = .fragmentOverlap
            return
        }
        next.pointee.end = UInt32(truncatingIfNeeded: fragment.end)
        entry.pointee.lastSeen = now
        // Behind the last one nothing comes.
        if fragment.isLast { next.pointee.end = UInt32(UInt16.max) &+ 1 }
        verdict.pointee = Verdict(rule: entry.half(1).pointee.end, cause: .none, isReply: entry.half(1).pointee.limit != 0)
    }

    // MARK: FTP

    /// Two hosts with a control connection on which something was said just now.
    @inline(never)
    func noteCompanion(_ rule: UnsafePointer<FlowRule>, isReply: Bool) {
        var (key, sender) = companionKey()
        let place = FlowPlace(key.hash(flows.pointee.seed), flows)
        guard lock(place.block) else { return }
        defer { flows.unlock(place.block) }
        var known = place.find(&key)
        if let found = known, found.isOver(clock.now) { known = nil }
        guard let entry = known ?? make(&key, place, rule, .companion, FlowTimeouts.companion) else { return }
        renew(entry, rule)
        entry.setSide(sender, side)
        let client = isReply ? 1 &- sender : sender
        if client == 1 { entry.pointee.marks.insert(.clientIsGreater) } else { entry.pointee.marks.remove(.clientIsGreater) }
    }

    private func companionKey() -> (FlowKey, sender: Int) {
        let source = headers.pointee.source, destination = headers.pointee.destination
        let isIPv6 = headers.pointee.form == .ipv6
        let isSwapped = source.high != destination.high ? source.high > destination.high : source.low > destination.low
        return (
            FlowKey(
                lesser: isSwapped ? destination : source, greater: isSwapped ? source : destination,
                tail: UInt64(headers.pointee.vlan.rawValue) &<< 32 | UInt64(isIPv6 ? FlowKind.companion6 : FlowKind.companion4) &<< 56),
            isSwapped ? 1 : 0
        )
    }

    /// A TCP segment that no rule allows: passes if it opens, or belongs to, a data connection of an FTP session.
    @inline(never)
    func expected(_ verdict: UnsafeMutablePointer<Verdict>) {
        if breaksBindings(verdict) { return }
        if headers.pointee.tcpFlags.opensConnection {
            guard let number = companionsRule() else { return }
            let rule = table.pointee.flowRules + number
            guard lock(place.block) else { return contended(verdict) }
            defer { flows.unlock(place.block) }
            var entry = place.find(key)
            if let found = entry, found.isOver(clock.now) { entry = nil }
            let cause = tcp(entry, rule, isReply: false)
            if cause == .none, let entry = place.find(key) { entry.pointee.marks.insert(.isExpected) }
            verdict.pointee = Verdict(rule: UInt32(truncatingIfNeeded: number), cause: cause, isReply: false)
            return
        }
        guard lock(place.block) else { return contended(verdict) }
        defer { flows.unlock(place.block) }
        guard let entry = place.find(key), entry.pointee.marks.contains(.isExpected), !entry.isOver(clock.now),
            let number = table.pointee.expectingRule(entry.pointee.rule)
        else { return }
        let isReply = entry.client != sender
        let cause = tcp(entry, table.pointee.flowRules + number, isReply: isReply)
        verdict.pointee = Verdict(rule: UInt32(truncatingIfNeeded: number), cause: cause, isReply: isReply)
    }

    /// The rule of the FTP session that this SYN may be a data connection of: from the client to any port above the
    /// well-known ones (passive), or from the server's port 20 (active; RFC 959 3.2, RFC 1123 4.1.2.12).
    private func companionsRule() -> Int? {
        guard headers.pointee.destinationPort.rawValue >= 1024 else { return nil }
        var (key, sender) = companionKey()
        let place = FlowPlace(key.hash(flows.pointee.seed), flows)
        guard lock(place.block) else { return nil }
        defer { flows.unlock(place.block) }
        guard let entry = place.find(&key), !entry.isOver(clock.now), let number = table.pointee.expectingRule(entry.pointee.rule),
            entry.client == sender || headers.pointee.sourcePort.rawValue == 20, !entry.side(sender).isOther(side)
        else { return nil }
        return number
    }
}
