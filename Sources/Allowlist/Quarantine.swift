// What is cut off at once, whatever the rules say: devices, or everything (an island).
//
// Small and apart from the table, so that it takes effect in a burst's time: a table of many rules takes longer to build
// than an attacker may be left alone.

import Frames

/// A device that is cut off.
public struct QuarantinedDevice: Sendable, Hashable {
    /// nil: known by its MAC address alone.
    public var address: AddressWords?
    public var family: IPFamily
    /// nil: known by its address alone.
    public var mac: MACAddress?
    /// Numbers of the rules under which it may go on.
    public var exceptions: [UInt32]
    /// ns of CLOCK_MONOTONIC. For the kernel, which may be alone by then; workers go on until they are given another quarantine.
    public var until: UInt64

    public init(address: AddressWords?, family: IPFamily, mac: MACAddress?, exceptions: [UInt32], until: UInt64 = .max) {
        self.until = until
        self.address = address
        self.family = family
        self.mac = mac
        self.exceptions = exceptions
    }
}

/// As the packet path reads it.
struct QuarantineEntry: BitwiseCopyable {
    /// All ones: none.
    let address: AddressWords
    /// 0: none.
    let mac: UInt64
    let isIPv6: Bool
    let exceptionCount: Int
    let exceptions: UnsafePointer<UInt32>
}

/// For the packet path: trivial.
public struct QuarantineView: BitwiseCopyable {
    let entries: UnsafePointer<QuarantineEntry>
    let count: Int
    let isIsland: Bool
    public let isEmpty: Bool
    /// Some of it hangs on what the flow table says.
    public let hasExceptions: Bool
}

/// Owns a quarantine. Immutable once made; whoever publishes the view keeps the owner until no worker uses it.
public final class Quarantine: Sendable {
    /// Devices at the most: each costs every frame a comparison.
    public static let capacity = 64
    public static let none = Quarantine(devices: [], isIsland: false)

    public let devices: [QuarantinedDevice]
    /// Nothing crosses.
    public let isIsland: Bool
    /// As of a device.
    public let islandUntil: UInt64
    // Written once in `init`; what it points to never changes.
    nonisolated(unsafe) public let view: UnsafePointer<QuarantineView>
    private let memory: TableMemory

    /// - Precondition: `devices.count` ≤ `capacity`.
    public init(devices: [QuarantinedDevice], isIsland: Bool, islandUntil: UInt64 = .max) {
        self.islandUntil = islandUntil
        precondition(devices.count <= Self.capacity)
        self.devices = devices
        self.isIsland = isIsland
        memory = TableMemory()
        let entries = memory.allocate(QuarantineEntry.self, count: devices.count)
        for (i, device) in devices.enumerated() {
            let exceptions = memory.allocate(UInt32.self, count: device.exceptions.count)
            for (k, rule) in device.exceptions.enumerated() { exceptions[k] = rule }
            (entries + i).initialize(
                to: QuarantineEntry(
                    address: device.address ?? AddressWords(high: .max, low: .max), mac: device.mac?.rawValue ?? 0, isIPv6: device.family == .ipv6,
                    exceptionCount: device.exceptions.count, exceptions: UnsafePointer(exceptions)))
        }
        let view = memory.allocate(QuarantineView.self, count: 1)
        view.initialize(
            to: QuarantineView(
                entries: UnsafePointer(entries), count: devices.count, isIsland: isIsland, isEmpty: devices.isEmpty && !isIsland,
                hasExceptions: devices.contains { !$0.exceptions.isEmpty }))
        self.view = UnsafePointer(view)
    }
}

/// What is to or from a device that is cut off does not pass, whatever the rules say. Before the flow table is asked, so that such frames
/// make and change no flow; and again behind it, where exceptions may hang on what it said of fragments and data connections.
///
/// - Parameter isBefore: nothing is said yet of frames without a rule that exceptions may apply to.
/// - Parameters as of `judgeBurst`; there are 14 bytes behind each of `frames`, though they may not be the frame's.
#if !DEBUG
@_noLocks @_noAllocation
#endif
@inline(never)
public func quarantineBurst(
    _ view: UnsafePointer<QuarantineView>, frames: UnsafePointer<UnsafeRawPointer>, headers: UnsafePointer<FrameHeaders>, count: Int,
    isBefore: Bool, verdicts: UnsafeMutablePointer<Verdict>
) {
    for i in 0..<count {
        if view.pointee.isIsland {
            verdicts[i].cause = .isolated
        } else if isCutOff(view, frames[i], headers + i, verdicts[i], isBefore) {
            verdicts[i].cause = .quarantined
        }
    }
}

@inline(__always)
private func isCutOff(
    _ view: UnsafePointer<QuarantineView>, _ frame: UnsafeRawPointer, _ headers: UnsafePointer<FrameHeaders>, _ verdict: Verdict,
    _ isBefore: Bool
) -> Bool {
    // Of a frame whose addresses were not reached there are none, and of one that is too short those 14 bytes are another's that was
    // there before: at worst it is denied.
    let form = headers.pointee.form
    let sender = frame.loadMAC(6).rawValue, receiver = frame.loadMAC(0).rawValue
    var source = headers.pointee.source, destination = headers.pointee.destination
    if headers.pointee.marks.contains(.icmpError), headers.pointee.cause == .none {
        // Those are the addresses of the packet inside.
        let network = frame + Int(headers.pointee.networkOffset)
        if form == .ipv4 {
            (source, destination) = (AddressWords(high: 0, low: UInt64(network.loadWord32(12))), AddressWords(high: 0, low: UInt64(network.loadWord32(16))))
        } else {
            (source, destination) = (network.loadIPv6(8), network.loadIPv6(24))
        }
    }
    let hasAddresses = form != .other, isIPv6 = form == .ipv6 || form == .neighbour
    for i in 0..<view.pointee.count {
        let entry = view.pointee.entries + i
        let mac = entry.pointee.mac
        let byMAC = mac != 0 && (mac == sender || mac == receiver)
        let byAddress = hasAddresses && entry.pointee.isIPv6 == isIPv6 && (entry.pointee.address == source || entry.pointee.address == destination)
        guard byMAC || byAddress else { continue }
        if isBefore, entry.pointee.exceptionCount > 0, verdict.cause != .none { continue }
        // Who may still talk must find, and be found.
        var isException = entry.pointee.exceptionCount > 0 && (form == .arp || form == .neighbour)
        for k in 0..<entry.pointee.exceptionCount where entry.pointee.exceptions[k] == verdict.rule { isException = true }
        if !isException { return true }
    }
    return false
}
