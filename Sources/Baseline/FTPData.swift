// FTP opens a second connection for every file, to a port that was never used before: not a conversation of its own each time.

import Frames
import Policy

/// Which conversations are data connections of FTP sessions between the same two.
struct FTPData: Sendable {
    /// By place of the data connection: places of its sessions.
    private let data: [Int: [Int]]
    private let sessions: Set<Int>

    private struct Service: Hashable {
        var server: AddressWords
        var port: Port
    }

    /// Fewer ports than this, of one server or of one client, are no habit of FTP's.
    private static let fewestPorts = 3

    /// - Parameter chosen: places of sessions that may have data connections; nil: whatever is answered on FTP's port.
    init(_ conversations: [RecordedConversation], sessions chosen: Set<Int>? = nil) {
        var control: [AddressPair: [Int]] = [:]
        for (place, one) in conversations.enumerated()
        where chosen?.contains(place) ?? (one.key.ipProtocol == .tcp && one.key.service.rawValue == 21 && one.isAnswered) {
            control[AddressPair(one.key.client, one.key.server), default: []].append(place)
        }
        var data: [Int: [Int]] = [:], sessions: Set<Int> = []
        if !control.isEmpty {
            // A port that somebody without a session asks for, too, is a service.
            var services: Set<Service> = []
            for one in conversations where one.key.ipProtocol == .tcp && one.key.service.rawValue >= 1024 && one.isAnswered {
                let (client, server) = (one.key.client, one.key.server)
                let pair = AddressPair(client, server)
                if control[pair] == nil, control[pair.swapped] == nil {
                    services.insert(Service(server: server, port: one.key.service))
                }
            }
            let sessionCounts = control.mapValues { places in
                (connections: places.reduce(0) { $0 + conversations[$1].connections }, days: Set(places.flatMap { conversations[$0].days.map(\.day) }).count)
            }
            var candidates: [AddressPair: [Int]] = [:]
            for (place, one) in conversations.enumerated() {
                let key = one.key
                // Passive: the client opens one more, above the well-known ports. Active: the server does, from port 20.
                // Answered: a scan beside a session is none of its data.
                guard key.ipProtocol == .tcp, key.service.rawValue >= 1024, one.isAnswered, Review.risky[key.service.rawValue] == nil, !ServiceCatalogue.isKnown(key.ipProtocol, key.service),
                    !services.contains(Service(server: key.server, port: key.service))
                else { continue }
                let own = AddressPair(key.client, key.server)
                for pair in [own, own.swapped] {
                    // A port chosen anew each time comes seldom, or seldom again where there are many sessions.
                    guard let all = sessionCounts[pair], one.connections <= max(4, all.connections / 4), one.days.count <= max(2, all.days / 2) else { continue }
                    candidates[pair, default: []].append(place)
                }
            }
            var byServer: [AddressWords: Int] = [:], byClient: [AddressWords: Int] = [:]
            for (pair, places) in candidates {
                byServer[pair.server, default: 0] += places.count
                byClient[pair.client, default: 0] += places.count
            }
            for (pair, places) in candidates where max(byServer[pair.server]!, byClient[pair.client]!) >= Self.fewestPorts {
                for place in places { data[place, default: []] += control[pair]! }
                sessions.formUnion(control[pair]!)
            }
        }
        self.data = data
        self.sessions = sessions
    }

    func isData(_ place: Int) -> Bool { data[place] != nil }
    /// Whether one of its sessions is among these.
    func isData(_ place: Int, besides accepted: Set<Int>) -> Bool { sessions(of: place).contains { accepted.contains($0) } }
    /// Of a data connection: places of its sessions.
    func sessions(of place: Int) -> [Int] { data[place] ?? [] }
    /// Whether data connections were seen beside this session.
    func hasData(_ place: Int) -> Bool { sessions.contains(place) }
}
