// FTP opens a second connection for every file, to a port that was never used before: not a conversation of its own each time.

import Frames

/// Which conversations are data connections of FTP sessions between the same two.
struct FTPData: Sendable {
    private let data: Set<Int>
    private let sessions: Set<Int>

    private struct Pair: Hashable {
        var client: AddressWords
        var server: AddressWords
    }

    /// - Parameter sessions: places of those that may have data connections; nil: whatever is answered on FTP's port.
    init(_ conversations: [RecordedConversation], sessions chosen: Set<Int>? = nil) {
        var control: [Pair: [Int]] = [:]
        for (place, one) in conversations.enumerated()
        where chosen?.contains(place) ?? (one.key.ipProtocol == .tcp && one.key.service.rawValue == 21 && one.isAnswered) {
            control[Pair(client: one.key.client, server: one.key.server), default: []].append(place)
        }
        var data: Set<Int> = [], sessions: Set<Int> = []
        if !control.isEmpty {
            for (place, one) in conversations.enumerated() {
                let key = one.key
                // Passive: the client opens one more, above the well-known ports. Active: the server does, from port 20.
                guard key.ipProtocol == .tcp, key.service.rawValue >= 1024,
                    let session = control[Pair(client: key.client, server: key.server)] ?? control[Pair(client: key.server, server: key.client)]
                else { continue }
                // A port that is used again and again, on several days, is a service of its own.
                guard one.days.count <= 2, one.connections <= 4 else { continue }
                data.insert(place)
                sessions.formUnion(session)
            }
        }
        self.data = data
        self.sessions = sessions
    }

    func isData(_ place: Int) -> Bool { data.contains(place) }
    /// Whether data connections were seen beside this session.
    func hasData(_ place: Int) -> Bool { sessions.contains(place) }
}
