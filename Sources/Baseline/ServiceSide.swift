// Which side of a connection serves, when its beginning was not seen.
//
// Without this every client port would look like a service of its own: of one recorded network 12,444 connections
// made 2,545 "conversations"; with it, ten.

import Allowlist
import Frames

/// What is known of an endpoint's port: how many connections it had, and whether it was seen to be opened.
struct PortFans: ~Copyable {
    private struct Entry {
        /// Of address, protocol and port; 0: free.
        var print: UInt64 = 0
        var connections: UInt32 = 0
        var isServer = false
    }

    private var entries: [Entry]
    private let scramble = Scramble()
    private static let ways = 4

    /// - Parameter capacity: ports, a power of two. The least used make room.
    init(capacity: Int = 1 << 18) { entries = [Entry](repeating: Entry(), count: capacity) }

    private func print(_ address: AddressWords, _ port: UInt16, _ ipProtocol: IPProtocol) -> UInt64 {
        scramble.hash(address, .zero, UInt64(port) << 8 | UInt64(ipProtocol.rawValue)) | 1
    }

    private func place(_ print: UInt64) -> (at: Int, isKnown: Bool) {
        let bucket = Int(truncatingIfNeeded: print >> 24) & (entries.count / Self.ways - 1)
        var best = bucket * Self.ways
        for at in bucket * Self.ways..<(bucket + 1) * Self.ways {
            if entries[at].print == print { return (at, true) }
            let (one, other) = (entries[at], entries[best])
            if one.isServer == other.isServer ? one.connections < other.connections : !one.isServer { best = at }
        }
        return (best, false)
    }

    /// One more connection of this port.
    mutating func note(_ address: AddressWords, _ port: UInt16, _ ipProtocol: IPProtocol, isServer: Bool) {
        let print = print(address, port, ipProtocol)
        let (at, isKnown) = place(print)
        if !isKnown { entries[at] = Entry(print: print) }
        entries[at].connections &+= 1
        if isServer { entries[at].isServer = true }
    }

    func look(_ address: AddressWords, _ port: UInt16, _ ipProtocol: IPProtocol) -> (connections: UInt32, isServer: Bool) {
        let (at, isKnown) = place(print(address, port, ipProtocol))
        return isKnown ? (entries[at].connections, entries[at].isServer) : (0, false)
    }
}

/// Ports of one endpoint, as evidence about who serves.
struct ServiceEvidence {
    var port: UInt16
    var connections: UInt32
    var wasOpened: Bool

    /// First port that any common system takes for a client by itself (Linux: 32768; IANA, Windows, BSD: 49152).
    private static let ephemeral: UInt16 = 32768

    /// Whether `b` serves rather than `a`, who spoke first.
    static func servesSecond(_ a: ServiceEvidence, _ b: ServiceEvidence) -> (Bool, Orientation) {
        if a.wasOpened != b.wasOpened { return (b.wasOpened, .inferred) }
        // The same port on both sides, as NTP's and NetBIOS's: whoever asks first is the client.
        if a.port == b.port { return (true, .inferred) }
        // A port that several connections came to: a client takes a new one each time.
        let (few, many) = (min(a.connections, b.connections), max(a.connections, b.connections))
        if many >= 3, many >= 2 * few { return (b.connections > a.connections, .inferred) }
        let known = (isWellKnown(a.port), isWellKnown(b.port))
        if known.0 != known.1 { return (known.1, .guessed) }
        let isHigh = (a.port >= ephemeral, b.port >= ephemeral)
        if isHigh.0 != isHigh.1 { return (isHigh.0, .guessed) }
        return (true, .guessed)
    }

    /// System ports (RFC 6335 6), and the usual ones of plants that lie above.
    static func isWellKnown(_ port: UInt16) -> Bool {
        port < 1024 || [1433, 1521, 2404, 3306, 3389, 4840, 5000, 5432, 5900, 8080, 8443, 20000, 44818, 47808].contains(port)
    }
}
