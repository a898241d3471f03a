// Devices that somebody, or an alert, has cut off for a time: who, until when, why. It holds in every mode, also over a restart
// where there is a state directory.

import Allowlist
import Detection
import Foundation
import Frames
import Policy

/// An order to cut off.
public struct QuarantineOrder: Codable, Sendable, Equatable {
    /// As it was named; nil: everything, the bridge is an island.
    public var device: String?
    public var addresses: [String]
    public var macs: [String]
    /// Ids of rules that still hold for it.
    public var exceptions: [String]
    /// Seconds since 1970.
    public var since: Int64
    public var until: Int64
    public var who: String
    public var why: String

    public var what: String { device ?? "everything" }
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

struct Quarantines {
    private(set) var orders: [QuarantineOrder] = []
    /// nil: nothing outlives the process.
    private let file: String?

    /// The longest; what is meant for longer belongs into the policy.
    static let longest: Int64 = 30 * 86_400

    /// - Parameter directory: of the state; nil: none.
    init(directory: String?) { file = directory.map { $0 + "/quarantine.json" } }

    /// Reads what a process before left, if anything.
    mutating func read(now: Int64) throws(ControlFailure) {
        guard let file, FileManager.default.fileExists(atPath: file) else { return }
        do {
            orders = try MachineFormat.decoder().decode([QuarantineOrder].self, from: Data(contentsOf: URL(fileURLWithPath: file)))
        } catch {
            throw ControlFailure(
                "reading the devices in quarantine from \(file): it is damaged\n  → remove it, and quarantine again whoever must not be let go")
        }
        orders.removeAll { $0.until <= now }
    }

    /// All at once, or not at all.
    func write() throws(ControlFailure) {
        guard let file else { return }
        do {
            try MachineFormat.encoder().encode(orders).write(to: URL(fileURLWithPath: file), options: .atomic)
        } catch {
            throw ControlFailure("writing the devices in quarantine to \(file): \(error.localizedDescription)")
        }
    }

    /// The same device again replaces what was said of it.
    mutating func add(_ order: QuarantineOrder) throws(ControlFailure) {
        var new = orders.filter { $0.device != order.device } + [order]
        new.sort { ($0.since, $0.what) < ($1.since, $1.what) }
        guard Self.devices(new, ruleNames: [:]).count <= Quarantine.capacity else {
            throw ControlFailure("\(order.what): \(Quarantine.capacity) addresses are the most that can be cut off at once\n  → isolate the bridge: sekisho isolate")
        }
        orders = new
    }

    mutating func remove(where isMeant: (QuarantineOrder) -> Bool) -> [QuarantineOrder] {
        let released = orders.filter(isMeant)
        orders.removeAll(where: isMeant)
        return released
    }

    /// - Parameter ruleNames: of the table that it stands before.
    func compiled(ruleNames: [String]) -> Quarantine {
        let numbers = Dictionary(ruleNames.enumerated().map { ($0.element, UInt32($0.offset)) }, uniquingKeysWith: { first, _ in first })
        return Quarantine(devices: Self.devices(orders, ruleNames: numbers), isIsland: orders.contains { $0.device == nil })
    }

    /// One for each address, the first MAC addresses along with them: each costs a comparison.
    private static func devices(_ orders: [QuarantineOrder], ruleNames: [String: UInt32]) -> [QuarantinedDevice] {
        orders.filter { $0.device != nil }.flatMap { order -> [QuarantinedDevice] in
            let addresses = order.addresses.compactMap { AddressPrefix.host($0) }
            let macs = order.macs.compactMap { MACAddress(written: $0) }
            let exceptions = order.exceptions.compactMap { ruleNames[$0] }
            return (0..<max(addresses.count, macs.count)).map { i in
                QuarantinedDevice(
                    address: i < addresses.count ? addresses[i].words : nil, family: i < addresses.count ? addresses[i].family : .ipv4,
                    mac: i < macs.count ? macs[i] : nil, exceptions: exceptions)
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

    /// With the MAC addresses that use these addresses now: who is cut off must not come back under another address. But not with one
    /// that a protected device uses.
    private init(name: String, addresses: [AddressPrefix], known: [MACAddress], _ document: PolicyDocument, _ identities: Identities) {
        let spared = Set(document.protected.flatMap(\.addresses).filter { $0.isHost && !addresses.contains($0) }.compactMap { identities.owner(of: $0.words, $0.family) })
        let seen = addresses.compactMap { identities.owner(of: $0.words, $0.family) }.filter { !spared.contains($0) }
        self.init(
            name: name, addresses: addresses.map { $0.words.written($0.family) }, macs: Set(known + seen).map(\.written).sorted())
    }

    private init(name: String, addresses: [String], macs: [String]) { (self.name, self.addresses, self.macs) = (name, addresses, macs) }

    /// Whom an alert is about. Of a forger only the MAC address: what he forged is another's.
    init(_ device: AlertDevice, isForger: Bool) {
        let addresses = isForger ? [] : [device.address].compactMap(\.self), macs = [device.mac].compactMap(\.self)
        self.init(name: addresses.first ?? macs.first ?? "", addresses: addresses, macs: macs)
    }

    /// Under which name it is protected; nil: it is not. Also by a MAC address that a protected device has, or uses.
    func protection(by document: PolicyDocument, _ identities: Identities) -> String? {
        if let name = document.protection(of: addresses) { return name }
        return document.protected.first { group in
            let hosts = group.addresses.filter(\.isHost)
            let used = hosts.compactMap { identities.owner(of: $0.words, $0.family) }
            let bound = document.devices.filter { device in device.addresses.contains { one in group.addresses.contains { $0.contains(one) } } }.flatMap(\.macs)
            return (used + bound).contains { macs.contains($0.written) }
        }?.name
    }
}
