// Devices that somebody, or an alert, has cut off for a time: who, until when, why. It holds in every mode, also over a restart
// where there is a state directory.

import Allowlist
import CLinux
import Detection
import Foundation
import Frames
import Policy

/// An order to cut off.
public struct QuarantineOrder: Codable, Sendable, Equatable {
    /// As it was named; of an island "everything".
    public var device: String
    /// Nothing crosses.
    public var isIsland: Bool
    public var addresses: [String]
    public var macs: [String]
    /// Ids of rules that still hold for it.
    public var exceptions: [String]
    /// Seconds since 1970.
    public var since: Int64
    public var until: Int64
    public var who: String
    public var why: String

    /// Its addresses can be read, and it has some; and it ends.
    var isWhole: Bool {
        // Far beyond any clock, so that sums of them are numbers too.
        let times = -1 << 40..<Int64(1) << 40
        guard times.contains(since), times.contains(until), (0...Quarantines.longest).contains(until - since) else { return false }
        return addresses.allSatisfy { AddressPrefix.host($0) != nil } && macs.allSatisfy { MACAddress(written: $0) != nil } && isIsland == (addresses.isEmpty && macs.isEmpty)
    }

    var end: String { Date(timeIntervalSince1970: Double(until)).formatted(.iso8601) }
}

/// What a quarantine or release did.
public struct QuarantineReport: Codable, Sendable {
    public var orders: [QuarantineOrder]
    public var released: [QuarantineOrder]
    /// Microseconds from the decision until the last worker held to it; nil: a worker has not answered yet.
    public var inForceUs: Double?
    /// Ids of exceptions that are no rules of the running policy.
    public var unknownExceptions: [String]
    /// It is in force, but could not be written down.
    public var warning: String?
}

/// Times in orders are the calendar's, for people. What counts in a process is a clock that nobody sets.
struct Quarantines {
    private(set) var orders: [QuarantineOrder] = []
    /// When each ends, ns of CLOCK_MONOTONIC, by device.
    private var ends: [String: UInt64] = [:]
    /// What seemed over when it was read: should the clock turn out to have been wrong, it is not.
    private var doubtful: [QuarantineOrder] = []
    /// nil: nothing outlives the process.
    private let file: String?

    /// The longest; what is meant for longer belongs into the policy.
    static let longest: Int64 = 30 * 86_400

    /// - Parameter directory: of the state; nil: none.
    init(directory: String?) { file = directory.map { "\($0)/\(Self.fileName)" } }

    static let fileName = "quarantine.json"

    /// Reads what a process before left, if anything.
    mutating func read() throws(ControlFailure) {
        guard let file, FileManager.default.fileExists(atPath: file) else { return }
        let now = Self.calendar()
        let read = try Self.orders(in: file)
        (orders, doubtful, ends) = ([], read.filter { $0.until <= now }, [:])
        for order in read where order.until > now { take(order, now) }
    }

    private mutating func take(_ order: QuarantineOrder, _ now: Int64) {
        // Ordered in the future: the clock is behind. It is given all its time anew.
        let left = order.since > now ? order.until - order.since : order.until - now
        orders.append(order)
        ends[order.device] = clinux_monotonic() &+ UInt64(left) * 1_000_000_000
    }

    static func orders(in file: String) throws(ControlFailure) -> [QuarantineOrder] {
        let data: Data
        do { data = try Data(contentsOf: URL(fileURLWithPath: file)) } catch {
            throw ControlFailure("reading the devices in quarantine from \(file): \(error.localizedDescription)")
        }
        guard let read = try? MachineFormat.decoder().decode([QuarantineOrder].self, from: data), read.allSatisfy(\.isWhole),
            Self.devices(read, ruleNames: [:]).count <= Quarantine.capacity
        else {
            throw ControlFailure(
                "reading the devices in quarantine from \(file): it is damaged\n  → remove it, and quarantine again whoever must not be let go")
        }
        return read
    }

    /// All at once, or not at all. May take as long as the disk does.
    func write() throws(ControlFailure) {
        guard let file else { return }
        do {
            try MachineFormat.encoder().encode(orders).write(to: URL(fileURLWithPath: file), options: .atomic)
        } catch {
            throw ControlFailure("writing the devices in quarantine to \(file): \(error.localizedDescription)")
        }
    }

    var isKept: Bool { file != nil }

    /// Places that are left to people: alerts may not use them up.
    static let kept = 24

    /// The same device again replaces what was said of it.
    mutating func add(_ order: QuarantineOrder, automatic: Bool = false) throws(ControlFailure) {
        var new = orders.filter { $0.device != order.device } + [order]
        new.sort { ($0.since, $0.device) < ($1.since, $1.device) }
        guard Self.devices(new, ruleNames: [:]).count <= Quarantine.capacity - (automatic ? Self.kept : 0) else {
            throw ControlFailure("\(order.device): \(Quarantine.capacity) addresses are the most that can be cut off at once\n  → isolate the bridge: sekisho isolate")
        }
        orders = new
        ends[order.device] = clinux_monotonic() &+ UInt64(max(0, order.until - order.since)) * 1_000_000_000
    }

    var isAnyOver: Bool {
        let now = clinux_monotonic()
        return orders.contains { end(of: $0) <= now }
    }

    /// - Returns: whose time is over.
    mutating func removeOver() -> [QuarantineOrder] {
        let now = clinux_monotonic(), ends = ends
        return remove { ends[$0.device] ?? 0 <= now }
    }

    private func end(of order: QuarantineOrder) -> UInt64 { ends[order.device] ?? 0 }

    mutating func remove(where isMeant: (QuarantineOrder) -> Bool) -> [QuarantineOrder] {
        let released = orders.filter(isMeant)
        orders.removeAll(where: isMeant)
        for order in released { ends[order.device] = nil }
        return released
    }

    /// - Parameter ruleNames: of the table that it stands before.
    func compiled(ruleNames: [String]) -> Quarantine {
        let numbers = Dictionary(ruleNames.enumerated().map { ($0.element, UInt32($0.offset)) }, uniquingKeysWith: { first, _ in first })
        let island = orders.filter(\.isIsland).map(end).max()
        return Quarantine(devices: Self.devices(orders, ends, ruleNames: numbers), isIsland: island != nil, islandUntil: island ?? .max)
    }

    /// The clock was set: what is ordered goes on for as long as was said, and what seemed over may not be.
    ///
    /// - Returns: whether some of that is in force again.
    mutating func followClock() -> Bool {
        let now = Self.calendar(), monotonic = clinux_monotonic()
        for i in orders.indices {
            let end = end(of: orders[i]), length = orders[i].until - orders[i].since
            orders[i].until = now + Int64((end > monotonic ? end - monotonic : 0) / 1_000_000_000)
            orders[i].since = orders[i].until - length
        }
        let back = doubtful.filter { order in order.until > now && !orders.contains { $0.device == order.device } }
        doubtful.removeAll { back.contains($0) }
        for order in back where Self.devices(orders + [order], ruleNames: [:]).count <= Quarantine.capacity { take(order, now) }
        return !back.isEmpty
    }

    /// Seconds since 1970.
    private static func calendar() -> Int64 { Int64(Date().timeIntervalSince1970) }

    /// One for each address, the first MAC addresses along with them: each costs a comparison.
    private static func devices(_ orders: [QuarantineOrder], _ ends: [String: UInt64] = [:], ruleNames: [String: UInt32]) -> [QuarantinedDevice] {
        orders.filter { !$0.isIsland }.flatMap { order -> [QuarantinedDevice] in
            let addresses = order.addresses.compactMap { AddressPrefix.host($0) }
            let macs = order.macs.compactMap { MACAddress(written: $0) }
            let exceptions = order.exceptions.compactMap { ruleNames[$0] }
            return (0..<max(addresses.count, macs.count)).map { i in
                QuarantinedDevice(
                    address: i < addresses.count ? addresses[i].words : nil, family: i < addresses.count ? addresses[i].family : .ipv4,
                    mac: i < macs.count ? macs[i] : nil, exceptions: exceptions, until: ends[order.device] ?? .max)
            }
        }
    }
}

/// Whom a name, an address or a MAC address stands for.
struct MeantDevice {
    var name: String
    var addresses: [String]
    var macs: [String]

    init(_ text: String, _ document: PolicyDocument, _ identities: Identities) throws(ControlFailure) {
        if let mac = MACAddress(written: text) {
            self.init(name: mac.written, addresses: [], macs: [mac.written])
        } else if let device = document.devices.first(where: { $0.name == text }) {
            self.init(device, document, identities)
        } else if let prefix = AddressPrefix.host(text) {
            if let device = document.devices.first(where: { $0.addresses.contains { $0.family == prefix.family && $0.words == prefix.words } }) {
                self.init(device, document, identities)
            } else {
                self.init(name: prefix.words.written(prefix.family), addresses: [prefix], known: [], document, identities)
            }
        } else {
            throw ControlFailure(
                "\"\(text)\" is no device of the policy, no address and no MAC address\n  → e.g. 10.3.1.21, 02:00:00:00:03:15, or a name under [devices]")
        }
    }

    private init(_ device: PolicyDocument.Device, _ document: PolicyDocument, _ identities: Identities) {
        self.init(name: device.name, addresses: device.addresses, known: device.macs, document, identities)
    }

    /// With the MAC addresses that use these addresses now: who is cut off must not come back under another address. But with none that
    /// the policy, or what was seen, gives to somebody else: one forged frame is enough to claim an address.
    private init(name: String, addresses: [AddressPrefix], known: [MACAddress], _ document: PolicyDocument, _ identities: Identities) {
        let bound = Set(document.devices.filter { device in !device.addresses.contains { addresses.contains($0) } }.flatMap(\.macs))
        let seen = addresses.compactMap { identities.owner(of: $0.words, $0.family) }.filter { !bound.contains($0) }
        self.init(
            name: name, addresses: addresses.map { $0.words.written($0.family) }, macs: Set(known + seen).map(\.written).sorted())
    }

    private init(name: String, addresses: [String], macs: [String]) { (self.name, self.addresses, self.macs) = (name, addresses, macs) }

    /// Whom an alert is about. Of a forger only the MAC address: what he forged is another's. Of others the MAC address only if nobody
    /// else has it, as behind a router.
    init(_ device: AlertDevice, isForger: Bool, _ identities: Identities) {
        let addresses = isForger ? [] : [device.address].compactMap(\.self)
        let words = addresses.compactMap { AddressPrefix.host($0)?.words }
        let macs = [device.mac].compactMap(\.self).filter { mac in
            isForger || MACAddress(written: mac).map { !identities.others(with: $0, than: words) } ?? false
        }
        self.init(name: addresses.first ?? macs.first ?? "", addresses: addresses, macs: macs)
    }

    /// Under which name it is protected; nil: it is not. By a MAC address only if the policy binds it: whoever forges a protected
    /// address must not be protected by that.
    func protection(by document: PolicyDocument) -> String? {
        if let name = document.protection(of: addresses) { return name }
        return document.protected.first { group in
            document.devices.contains { device in
                device.addresses.contains { one in group.addresses.contains { $0.contains(one) } } && device.macs.contains { macs.contains($0.written) }
            }
        }?.name
    }

    func overlaps(_ other: MeantDevice) -> Bool {
        name == other.name || !Set(addresses).isDisjoint(with: other.addresses) || !Set(macs).isDisjoint(with: other.macs)
    }

    /// Whether an order is about it, under whatever name.
    func isMeant(by order: QuarantineOrder) -> Bool {
        overlaps(MeantDevice(name: order.device, addresses: order.addresses, macs: order.macs))
    }
}
