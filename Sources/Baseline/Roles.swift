// What a device is, from whom it talks to and how; for names that a person can read, never for what is allowed.

import Allowlist
import Frames

public enum Role: String, Sendable, Hashable, CaseIterable {
    case equipment, controller, host
    case fileServer = "file-server"
    case timeServer = "time-server"
    case nameServer = "name-server"
    case logServer = "log-server"
    case database, historian, monitor, workstation, device

    public var plural: String { self == .equipment ? "equipment" : "\(rawValue)s" }

    /// Of every device in these conversations.
    package static func all(_ history: History, _ places: [Int]) -> [AddressWords: Role] {
        struct Facts {
            var served: [UInt16: Int] = [:]
            var asked: [UInt16: Int] = [:]
        }
        var facts: [AddressWords: Facts] = [:]
        for place in places {
            let key = history.conversations[place].key
            guard key.ipProtocol.hasPorts else { continue }
            facts[key.server, default: Facts()].served[key.service.rawValue, default: 0] += 1
            facts[key.client, default: Facts()].asked[key.service.rawValue, default: 0] += 1
        }
        return facts.mapValues { facts in
            func serves(_ ports: UInt16...) -> Int { ports.reduce(0) { $0 + facts.served[$1, default: 0] } }
            func asks(_ ports: UInt16...) -> Int { ports.reduce(0) { $0 + facts.asked[$1, default: 0] } }
            // What many come for tells most; then what a device serves to few; then what it asks of others.
            if serves(123) >= 2 { return .timeServer }
            if serves(53) >= 2 { return .nameServer }
            if serves(514, 6514, 601) >= 2 { return .logServer }
            if serves(21, 445, 2049, 22) >= 2 { return .fileServer }
            if serves(1433, 1521, 3306, 5432) >= 1 { return .database }
            if serves(5000, 5001, 5002, 5003, 5004, 5005) >= 1 { return .equipment }
            if serves(502, 102, 44818, 20000, 47808, 2404, 48898) >= 1 { return .controller }
            if asks(5000, 5001, 5002, 5003, 5004, 5005) >= 2 { return .host }
            if asks(4840) >= 2 { return .historian }
            if asks(161, 502) >= 2 { return .monitor }
            if facts.served.isEmpty { return .workstation }
            return .device
        }
    }
}
