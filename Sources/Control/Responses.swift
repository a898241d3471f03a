// What was done about alerts by itself: each device is cut off once for each alert, and again if it goes on when its time is over;
// never again where a person has let it go.

import Foundation

struct Responses {
    private struct Response {
        var target: MeantDevice
        /// A person has released it.
        var isSpared = false
        /// When its time was over; nil: it is cut off.
        var releasedAt: Date?
    }

    private var byAlert: [Int64: [Response]] = [:]

    /// Alerts that are remembered, and devices of each; the detector has 256 open ones, with 65 devices at the most.
    private static let mostAlerts = 1024, mostDevices = 128

    /// Whether a device is to be cut off for an alert. If so it counts as cut off.
    ///
    /// - Parameter lastActed: when it last did something of the alert.
    mutating func begins(_ alert: Int64, _ target: MeantDevice, lastActed: Date?) -> Bool {
        var all = byAlert[alert, default: []]
        defer { byAlert[alert] = all }
        guard let place = all.firstIndex(where: { $0.target.overlaps(target) }) else {
            if all.count == Self.mostDevices { all.removeFirst() }
            all.append(Response(target: target))
            if byAlert.count >= Self.mostAlerts, byAlert[alert] == nil { byAlert[byAlert.keys.min()!] = nil }
            return true
        }
        // Once it forges addresses only its card is meant: what it was known by before is still its own.
        all[place].target.addresses = Array(Set(all[place].target.addresses).union(target.addresses))
        all[place].target.macs = Array(Set(all[place].target.macs).union(target.macs))
        guard !all[place].isSpared, let over = all[place].releasedAt, let lastActed, lastActed > over else { return false }
        all[place].releasedAt = nil
        return true
    }

    /// It could not be done: the next change of the alert is another chance.
    mutating func takesBack(_ alert: Int64, _ target: MeantDevice) {
        byAlert[alert]?.removeAll { !$0.isSpared && $0.target.overlaps(target) }
    }

    /// An order is no more.
    mutating func released(_ order: QuarantineOrder, byPerson: Bool, at time: Date) {
        for (alert, all) in byAlert {
            for place in all.indices where all[place].target.isMeant(by: order) {
                if byPerson { byAlert[alert]![place].isSpared = true } else { byAlert[alert]![place].releasedAt = time }
            }
        }
    }

    /// It may be taken up again under its number, within a week: what a person has said stands.
    mutating func ended(_ alert: Int64) {
        byAlert[alert]?.removeAll { !$0.isSpared }
        if byAlert[alert]?.isEmpty ?? false { byAlert[alert] = nil }
    }
}
