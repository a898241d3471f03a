// Who was seen where: address, MAC address and side of a sender, from the worker to the control side.
//
//   worker   burst with ARP, neighbour discovery, a new flow or a broken binding ─► recent ─► ring ─►   control
//
// `recent` remembers what was said of an address last, so that only news go into the ring.

import Allowlist
import CLinux
import Frames

/// A sender as one frame shows it. 40 bytes.
public struct Sighting: BitwiseCopyable, Sendable, Equatable {
    public var address: AddressWords
    /// The MAC address it uses, or claims for the address.
    public var mac: MACAddress
    public var family: UInt8
    public var side: Side
    /// `.none`, or why the frame was denied.
    public var cause: Cause
    /// Said by ARP or neighbour discovery, not by the mere use of the address.
    public var isClaim: Bool

    public init(address: AddressWords, mac: MACAddress, family: UInt8, side: Side, cause: Cause = .none, isClaim: Bool = false) {
        self.address = address
        self.mac = mac
        self.family = family
        self.side = side
        self.cause = cause
        self.isClaim = isClaim
    }
}

/// The worker's end and the control side's.
struct Sightings {
    private let ring: RecordRing<Sighting>
    /// By address: what was said last.
    private let recent: UnsafeMutablePointer<Sighting>

    private static var lostCount: Int { RecordRing<Sighting>.firstCount }
    private static var recentSize: Int { 1024 }

    static func allocate() -> Sightings {
        let nobody = Sighting(address: .zero, mac: MACAddress(rawValue: 0), family: 0, side: .inside)
        let recent = UnsafeMutablePointer<Sighting>.allocate(capacity: recentSize)
        recent.initialize(repeating: nobody, count: recentSize)
        return Sightings(ring: .allocate(4096), recent: recent)
    }

    func deallocate() {
        ring.deallocate()
        recent.deallocate()
    }

    // MARK: The worker

    /// Looks at a burst that may have something new in it.
    #if !DEBUG
    @_noLocks @_noAllocation
    #endif
    @inline(never)
    func look(
        _ frames: UnsafePointer<UnsafeRawPointer>, _ headers: UnsafePointer<FrameHeaders>, _ verdicts: UnsafePointer<Verdict>, count: Int,
        from side: Side
    ) {
        for i in 0..<count {
            let cause = verdicts[i].cause
            let breaks = cause == .addressBinding || cause == .wrongSide
            if cause != .none && !breaks { continue }
            let form = headers[i].form
            switch form {
            case .other: continue
            case .arp, .neighbour:
                let claimed = headers[i].claimedMAC
                if claimed.rawValue == 0 || headers[i].source == .zero { continue }
                // Who asks whether an address is free does not have it yet: a switch asks so after every device.
                if cause == .none, isProbe(frames[i], headers + i) { continue }
                say(headers[i].source, claimed, form == .arp ? 4 : 6, side, cause, isClaim: true)
            case .ipv4, .ipv6:
                // Of an ICMP error the headers have the addresses of the packet inside.
                if headers[i].marks.contains(.icmpError) || headers[i].source == .zero { continue }
                say(headers[i].source, frames[i].loadMAC(6), form == .ipv4 ? 4 : 6, side, cause, isClaim: false)
            }
        }
    }

    /// No sender: 0.0.0.0, ::. The parser proved these bytes.
    @inline(__always)
    private func isProbe(_ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>) -> Bool {
        let network = frame + Int(headers.pointee.networkOffset)
        if headers.pointee.form == .arp { return network.loadUnaligned(fromByteOffset: 14, as: UInt32.self) == 0 }
        return network.loadUnaligned(fromByteOffset: 8, as: UInt64.self) | network.loadUnaligned(fromByteOffset: 16, as: UInt64.self) == 0
    }

    @inline(__always)
    private func say(_ address: AddressWords, _ mac: MACAddress, _ family: UInt8, _ side: Side, _ cause: Cause, isClaim: Bool) {
        let sighting = Sighting(address: address, mac: mac, family: family, side: side, cause: cause, isClaim: isClaim)
        // Where two addresses share a place, they are said more often than they need be.
        let place = ((address.low ^ address.high) &* 0x9E37_79B9_7F4A_7C15) &>> 54
        let known = recent + Int(truncatingIfNeeded: place)
        if known.pointee.address == address, known.pointee.mac == mac, known.pointee.side == side, known.pointee.cause == cause { return }
        guard ring.put(sighting) else { return ring.add(1, to: Self.lostCount) }
        // Only now: what was lost is said again with the next frame.
        known.pointee = sighting
    }

    // MARK: The control side

    /// What has come since the last call.
    func take() -> [Sighting] {
        var new: [Sighting] = []
        _ = ring.take(into: &new)
        return new
    }

    /// Sightings that found no room.
    var lost: UInt64 { ring.value(Self.lostCount) }
}
