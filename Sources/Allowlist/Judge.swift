// The verdicts of one burst.
//
//   sort by form ─► exact, sender as client ─► exact, sender as server
//                ─► labels, sender as client ─► labels, sender as server ─► bindings
//
// Each pass works on the frames no earlier one has allowed. What nothing
// allows is denied.

import Frames

/// Frames of one burst at the most.
public let burstCapacity = 64

/// Working memory of one worker. Allocate once, before the first burst.
public struct JudgeScratch: BitwiseCopyable {
    let exact4: LookupScratch<Key4>
    let exact6: LookupScratch<Key6>
    let labels: LabelScratch
    /// Places in the burst: IPv4 and IPv6 frames not yet allowed, and what a lookup is about.
    let list4: UnsafeMutablePointer<UInt8>
    let list6: UnsafeMutablePointer<UInt8>
    /// Lowest rule found, by frame.
    let found: UnsafeMutablePointer<UInt32>
}

/// Owns a `JudgeScratch`.
public final class JudgeMemory {
    private let memory = TableMemory()
    public let scratch: JudgeScratch

    public init() {
        scratch = JudgeScratch(
            exact4: LookupScratch(capacity: burstCapacity, in: memory),
            exact6: LookupScratch(capacity: burstCapacity, in: memory),
            labels: LabelScratch(capacity: burstCapacity, in: memory),
            list4: memory.allocate(UInt8.self, count: burstCapacity),
            list6: memory.allocate(UInt8.self, count: burstCapacity),
            found: memory.allocate(UInt32.self, count: burstCapacity))
    }
}

/// Judges a burst.
///
/// - Parameters:
///   - frames: `count` ≤ `burstCapacity` pointers to the frames; read only where the table has bindings, and only
///     bytes that the parser proved to be there.
///   - headers: what the parser made of them.
///   - side: the port they came in by.
///   - verdicts: `count` places to write. Under every mode they are those of `enforce`.
/// - Returns: whether somebody says who they are, or uses what is another's: ARP, neighbour discovery, a broken binding.
#if !DEBUG
@_noLocks @_noAllocation
#endif
@discardableResult
public func judgeBurst(
    _ table: UnsafePointer<TableView>, frames: UnsafePointer<UnsafeRawPointer>,
    headers: UnsafePointer<FrameHeaders>, count: Int, from side: Side, scratch: JudgeScratch,
    verdicts: UnsafeMutablePointer<Verdict>
) -> Bool {
    var n4 = 0
    var showsIdentity = false
    var n6 = 0
    // In registers: what is written below could lie, for all the compiler knows, where these are read from.
    let list4 = scratch.list4, list6 = scratch.list6
    for i in 0..<count {
        let form = headers[i].form
        var cause = headers[i].cause
        if cause == .none {
            if form == .ipv4 || form == .ipv6 {
                if headers[i].marks.contains(.laterFragment) {
                    cause = .fragmentUntracked
                } else if form == .ipv4 {
                    cause = .notInPolicy
                    list4[n4] = UInt8(truncatingIfNeeded: i)
                    n4 &+= 1
                } else {
                    cause = .notInPolicy
                    list6[n6] = UInt8(truncatingIfNeeded: i)
                    n6 &+= 1
                }
            } else {
                showsIdentity = true
                // Neighbour discovery is IPv6's ARP, and passes where ARP does.
                let type = form == .neighbour ? .arp : headers[i].etherType
                cause = table.pointee.allows(type) ? .none : .etherTypeNotAllowed
            }
        }
        verdicts[i] = Verdict(rule: Verdict.noRule, cause: cause, isReply: false)
    }
    if n4 > 0 {
        let hasExact = table.pointee.exact4.count > 0
        if hasExact {
            n4 = judgeExact4(table, headers, side, isReply: false, scratch, n4, verdicts)
            if n4 > 0 { n4 = judgeExact4(table, headers, side, isReply: true, scratch, n4, verdicts) }
        }
        if n4 > 0 && !table.pointee.labels.isEmpty {
            judgeLabels(table, headers, side, scratch, scratch.list4, n4, verdicts)
        }
    }
    if n6 > 0 {
        if table.pointee.exact6.count > 0 {
            n6 = judgeExact6(table, headers, side, isReply: false, scratch, n6, verdicts)
            if n6 > 0 { n6 = judgeExact6(table, headers, side, isReply: true, scratch, n6, verdicts) }
        }
        if n6 > 0 && !table.pointee.labels.isEmpty {
            judgeLabels(table, headers, side, scratch, scratch.list6, n6, verdicts)
        }
    }
    if table.pointee.hasBindings, checkBindings(table, frames, headers, count, side, verdicts) { showsIdentity = true }
    return showsIdentity
}

// MARK: - Exact keys

/// A kind no stored key has: the lookup misses, without a branch here.
@inline(__always)
private func keyKind(_ marks: FrameMarks, isReply: Bool) -> UInt32 {
    UInt32(marks.rawValue & (isReply ? FrameMarks.neverReverse.rawValue : FrameMarks.neverForward.rawValue))
}

@inline(__always)
func buildKeys4(_ headers: UnsafePointer<FrameHeaders>, isReply: Bool, _ scratch: JudgeScratch, _ n: Int) {
    let list = scratch.list4, keys = scratch.exact4.keys
    for i in 0..<n {
        let frame = headers + Int(list[i])
        let source = UInt32(truncatingIfNeeded: frame.pointee.source.low)
        let destination = UInt32(truncatingIfNeeded: frame.pointee.destination.low)
        keys[i] = Key4(
            client: isReply ? destination : source, server: isReply ? source : destination,
            port: (isReply ? frame.pointee.sourcePort : frame.pointee.destinationPort).rawValue,
            ipProtocol: frame.pointee.ipProtocol.rawValue, kind: keyKind(frame.pointee.marks, isReply: isReply))
    }
}

/// - Returns: how many frames of the list are still not allowed; they stay in it, in order.
@inline(__always)
private func judgeExact4(
    _ table: UnsafePointer<TableView>, _ headers: UnsafePointer<FrameHeaders>, _ side: Side, isReply: Bool,
    _ scratch: JudgeScratch, _ n: Int, _ verdicts: UnsafeMutablePointer<Verdict>
) -> Int {
    buildKeys4(headers, isReply: isReply, scratch, n)
    table.pointee.exact4.lookUp(n, scratch.exact4)
    return settle(
        headers, table.pointee.references, scratch.exact4.references, scratch.list4, n, side, isReply: isReply, verdicts)
}

@inline(__always)
private func judgeExact6(
    _ table: UnsafePointer<TableView>, _ headers: UnsafePointer<FrameHeaders>, _ side: Side, isReply: Bool,
    _ scratch: JudgeScratch, _ n: Int, _ verdicts: UnsafeMutablePointer<Verdict>
) -> Int {
    for i in 0..<n {
        let frame = headers + Int(scratch.list6[i])
        scratch.exact6.keys[i] = Key6(
            client: isReply ? frame.pointee.destination : frame.pointee.source,
            server: isReply ? frame.pointee.source : frame.pointee.destination,
            port: (isReply ? frame.pointee.sourcePort : frame.pointee.destinationPort).rawValue,
            ipProtocol: frame.pointee.ipProtocol.rawValue, kind: keyKind(frame.pointee.marks, isReply: isReply))
    }
    table.pointee.exact6.lookUp(n, scratch.exact6)
    return settle(
        headers, table.pointee.references, scratch.exact6.references, scratch.list6, n, side, isReply: isReply, verdicts)
}

/// Turns references into verdicts and keeps in `list` what is still not allowed.
@inline(__always)
private func settle(
    _ headers: UnsafePointer<FrameHeaders>, _ references: RuleReferences, _ found: UnsafePointer<UInt32>,
    _ list: UnsafeMutablePointer<UInt8>, _ n: Int, _ side: Side, isReply: Bool,
    _ verdicts: UnsafeMutablePointer<Verdict>
) -> Int {
    var left = 0
    for i in 0..<n {
        let place = list[i]
        let frame = headers + Int(place)
        list[left] = place
        // Most are one rule or none; the side and the VLAN matter to lists only.
        var rule = found[i]
        if rule & RuleReferences.listBit != 0 {
            if rule == noReference {
                left &+= 1
                continue
            }
            rule = references.resolve(
                rule, clientSide: clientSide(frame.pointee, isReply: isReply, from: side), vlan: frame.pointee.vlan)
        }
        left &+= record(rule, frame, isReply: isReply, verdicts + Int(place)) ? 0 : 1
    }
    return left
}

/// Writes a verdict if there is a rule.
///
/// - Returns: whether the frame is settled. A server's attempt to open a connection is
///   not: another rule may make it the client.
@inline(__always)
private func record(
    _ rule: UInt32, _ frame: UnsafePointer<FrameHeaders>, isReply: Bool, _ verdict: UnsafeMutablePointer<Verdict>
) -> Bool {
    if rule == Verdict.noRule { return false }
    if isReply, frame.pointee.ipProtocol == .tcp, frame.pointee.tcpFlags.opensConnection,
        !frame.pointee.marks.contains(.icmpError)
    {
        verdict.pointee.cause = .synFromServer
        return false
    }
    verdict.pointee = Verdict(rule: rule, cause: .none, isReply: isReply)
    return true
}

// MARK: - Labels

@inline(never)
private func judgeLabels(
    _ table: UnsafePointer<TableView>, _ headers: UnsafePointer<FrameHeaders>, _ side: Side, _ scratch: JudgeScratch,
    _ list: UnsafeMutablePointer<UInt8>, _ count: Int, _ verdicts: UnsafeMutablePointer<Verdict>
) {
    table.pointee.labels.findLabels(headers, list, count, scratch.labels)
    let n = labelPass(table, headers, side, isReply: false, scratch, list, count, verdicts)
    if n > 0 { _ = labelPass(table, headers, side, isReply: true, scratch, list, n, verdicts) }
}

@inline(__always)
private func labelPass(
    _ table: UnsafePointer<TableView>, _ headers: UnsafePointer<FrameHeaders>, _ side: Side, isReply: Bool,
    _ scratch: JudgeScratch, _ list: UnsafeMutablePointer<UInt8>, _ n: Int, _ verdicts: UnsafeMutablePointer<Verdict>
) -> Int {
    for i in 0..<n { scratch.found[Int(list[i])] = Verdict.noRule }
    table.pointee.labels.lookUp(
        headers, list, n, isReply: isReply, from: side, table.pointee.references, scratch.labels, found: scratch.found)
    var left = 0
    for i in 0..<n {
        let place = Int(list[i])
        list[left] = UInt8(truncatingIfNeeded: place)
        left &+= record(scratch.found[place], headers + place, isReply: isReply, verdicts + place) ? 0 : 1
    }
    return left
}

// MARK: - Bindings

/// Denies allowed frames that use a bound IP address with a MAC address that is not its own, or come from the wrong side.
///
/// - Returns: whether there were any.
@inline(never)
private func checkBindings(
    _ table: UnsafePointer<TableView>, _ frames: UnsafePointer<UnsafeRawPointer>,
    _ headers: UnsafePointer<FrameHeaders>, _ count: Int, _ side: Side, _ verdicts: UnsafeMutablePointer<Verdict>
) -> Bool {
    var breaks = false
    for i in 0..<count where verdicts[i].cause == .none {
        let cause = breach(table, frames[i], headers + i, side)
        if cause == .none { continue }
        verdicts[i] = Verdict(rule: verdicts[i].rule, cause: cause, isReply: verdicts[i].isReply)
        breaks = true
    }
    return breaks
}

/// The cause by which a frame breaks the bindings of its addresses, or `.none`.
@inline(__always)
func breach(
    _ table: UnsafePointer<TableView>, _ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>, _ side: Side
) -> Cause {
    // The parser proved that the Ethernet and the network header are there.
    let source = frame.loadMAC(6)
    if table.pointee.hasSides {
        let cause = breach(table, table.pointee.bindings4.reference(sideKey(source)), source, side)
        if cause != .none { return cause }
    }
    if headers.pointee.form == .other { return .none }
    func of4(_ address: UInt32, _ mac: MACAddress, _ side: Side?) -> Cause {
        breach(table, table.pointee.bindings4.reference(bindingKey4(address)), mac, side)
    }
    func of6(_ address: AddressWords, _ mac: MACAddress, _ side: Side?) -> Cause {
        breach(table, table.pointee.bindings6.reference(bindingKey6(address)), mac, side)
    }
    let destination = frame.loadMAC(0)
    let network = frame + Int(headers.pointee.networkOffset)
    switch headers.pointee.form {
    case .arp:
        let address = UInt32(truncatingIfNeeded: headers.pointee.source.low)
        let cause = of4(address, source, side)
        return cause != .none ? cause : of4(address, headers.pointee.claimedMAC, nil)
    case .ipv4:
        // Not `headers`: for an ICMP error those are the addresses of the packet inside.
        let cause = of4(network.loadWord32(12), source, side)
        return cause != .none ? cause : of4(network.loadWord32(16), destination, nil)
    default:
        var cause = of6(network.loadIPv6(8), source, side)
        // Solicitations go to a group address; everything else to its owner.
        if cause == .none { cause = of6(network.loadIPv6(24), destination, nil) }
        if cause == .none && headers.pointee.form == .neighbour && headers.pointee.claimedMAC.rawValue != 0 {
            cause = of6(headers.pointee.source, headers.pointee.claimedMAC, side)
        }
        return cause
    }
}

/// Whether this MAC address may use what is bound at `place`, from this side (nil: whatever the side).
@inline(__always)
private func breach(_ table: UnsafePointer<TableView>, _ place: UInt32, _ mac: MACAddress, _ side: Side?) -> Cause {
    if place == noReference { return .none }
    let list = table.pointee.boundMACs + Int(place)
    let count = Int(truncatingIfNeeded: list[0] & 0xFFFF_FFFF)
    var isFound = count == 0
    for i in 0..<count where list[1 &+ i] == mac.rawValue { isFound = true }
    if !isFound { return .addressBinding }
    guard let side else { return .none }
    return list[0] >> 32 & UInt64(side.bit) == 0 ? .wrongSide : .none
}

extension UnsafeRawPointer {
    @inline(__always)
    func loadWord32(_ offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    @inline(__always)
    func loadIPv6(_ offset: Int) -> AddressWords {
        AddressWords(
            high: UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self)),
            low: UInt64(bigEndian: loadUnaligned(fromByteOffset: offset &+ 8, as: UInt64.self)))
    }
}
