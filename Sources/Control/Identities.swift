// Which MAC address uses which IP address, and on which side: first seen, remembered, and every change noted.

import Allowlist
import Datapath
import Foundation
import Frames
import Policy

/// What is known of senders. For a device with `mac` or `side` in the policy the packet path denies what does not fit; of all
/// others the first one seen is remembered here, and a change is recorded, not denied.
struct Identities {
    struct Change: Sendable {
        var at: Date
        var address: String
        var mac: String
        var side: Side
        /// Who had it before; nil: the policy says who has it, and this one was denied.
        var before: (mac: String, side: Side)?
        var cause: Cause
        var isClaim: Bool
        /// How often since the first time.
        var times = 1
    }

    private struct Key: Hashable {
        var address: AddressWords
        var family: UInt8
    }

    private var known: [Key: (mac: MACAddress, side: Side)] = [:]
    private var sides: [MACAddress: Side] = [:]
    /// The first addresses that each MAC address used or claimed. What came first stays: an address is claimed by one frame.
    private var uses: [MACAddress: [Key]] = [:]
    private(set) var changes: [Change] = []
    /// Addresses that there was no room for.
    private(set) var forgotten: UInt64 = 0
    private(set) var changeCount: UInt64 = 0

    /// The floor of design.md is 16k address bindings; an attacker may send any number of addresses.
    private static let most = 65_536
    private static let mostUses = 8
    /// Changes that are kept, the latest ones.
    private static let mostChanges = 256

    var count: Int { known.count }

    /// The MAC address that uses this address; nil: none, or one that other addresses have too: a router's, or somebody else's that was claimed.
    func owner(of address: AddressWords, _ family: IPFamily) -> MACAddress? {
        guard let mac = known[Key(address: address, family: family == .ipv4 ? 4 : 6)]?.mac else { return nil }
        return others(with: mac, than: [address]) ? nil : mac
    }

    /// Whether somebody else is known to use it. Link-local addresses say nothing: every card has one.
    func others(with mac: MACAddress, than addresses: [AddressWords]) -> Bool {
        (uses[mac] ?? []).contains { !addresses.contains($0.address) && !($0.family == 6 && $0.address.high >> 54 == 0x3FA) }
    }

    /// - Returns: what is new, for the log; the same thing again is only counted.
    mutating func note(_ sighting: Sighting, at now: Date = Date()) -> Change? {
        let key = Key(address: sighting.address, family: sighting.family)
        let written = sighting.address.written(sighting.family == 4 ? .ipv4 : .ipv6)
        guard sighting.cause == .none else {
            // Denied: what is known stays.
            return add(Change(
                at: now, address: written, mac: sighting.mac.written, side: sighting.side, before: nil, cause: sighting.cause,
                isClaim: sighting.isClaim))
        }
        defer { if sides.count < Self.most { sides[sighting.mac] = sighting.side } }
        let used = uses[sighting.mac] ?? []
        if used.count < Self.mostUses, !used.contains(key), !used.isEmpty || uses.count < Self.most { uses[sighting.mac] = used + [key] }
        guard let before = known[key] else {
            guard known.count < Self.most else {
                forgotten += 1
                return nil
            }
            known[key] = (sighting.mac, sighting.side)
            // The address is new, but its MAC address may have been on the other side.
            if let old = sides[sighting.mac], old != sighting.side {
                return add(Change(
                    at: now, address: written, mac: sighting.mac.written, side: sighting.side, before: (sighting.mac.written, old),
                    cause: .none, isClaim: sighting.isClaim))
            }
            return nil
        }
        if before == (sighting.mac, sighting.side) { return nil }
        known[key] = (sighting.mac, sighting.side)
        return add(Change(
            at: now, address: written, mac: sighting.mac.written, side: sighting.side, before: (before.mac.written, before.side),
            cause: .none, isClaim: sighting.isClaim))
    }

    private mutating func add(_ change: Change) -> Change? {
        changeCount += 1
        if let index = changes.lastIndex(where: {
            $0.address == change.address && $0.mac == change.mac && $0.side == change.side && $0.cause == change.cause
                && $0.before?.mac == change.before?.mac && $0.before?.side == change.before?.side
        }) {
            changes[index].times += 1
            changes[index].at = change.at
            return nil
        }
        changes.append(change)
        if changes.count > Self.mostChanges { changes.removeFirst(changes.count - Self.mostChanges) }
        return change
    }
}

extension Identities.Change {
    /// One line for the log.
    var text: String {
        let who = "\(address) \(isClaim ? "is claimed" : "is used") by \(mac) (\(side))"
        guard let before else { return "denied: \(who), against the policy (\(cause.name))" }
        if before.mac == mac { return "\(who); that MAC address was on the other side" }
        return "\(who); before, it was \(before.mac)'s (\(before.side))"
    }
}
