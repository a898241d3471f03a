// What was approved or rejected of a conversation: the last decision about it counts.

import Allowlist

/// Finds decisions. Those about two devices, of which there may be thousands, by the two; the others one by one.
public struct LastWords: Sendable {
    private let decisions: [Decision]
    /// Places in `decisions`, in order.
    private var byPair: [AddressPair: [Int]] = [:]
    private var others: [Int] = []

    public init(_ history: History) {
        decisions = history.decisions.filter { $0.verdict == .approve || $0.verdict == .reject }
        for (place, one) in decisions.enumerated() {
            if let client = one.clients, let server = one.servers, client.isHost, server.isHost {
                byPair[AddressPair(client.words, server.words), default: []].append(place)
            } else {
                others.append(place)
            }
        }
    }

    var hasRejections: Bool { decisions.contains { $0.verdict == .reject } }

    /// The last about this that counts; nil: none does.
    ///
    /// - Parameter counts: whether one does, of those that cover it.
    public func about(_ key: ConversationKey, where counts: (Decision) -> Bool = { _ in true }) -> Decision? {
        func last(_ places: [Int]) -> Int? { places.last { decisions[$0].covers(key) && counts(decisions[$0]) } }
        if decisions.isEmpty { return nil }
        let place = [byPair[AddressPair(key.client, key.server)].flatMap(last), last(others)].compactMap(\.self).max()
        return place.map { decisions[$0] }
    }
}
