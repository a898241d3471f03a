// Where messages go: "tls://10.0.9.5:6514".

import Glibc

public struct Endpoint: Sendable, Equatable {
    public enum Transport: String, Sendable, CaseIterable { case udp, tcp, tls }

    public var transport: Transport
    /// A name, or an address without brackets.
    public var host: String
    public var port: Int

    public init(transport: Transport, host: String, port: Int) { (self.transport, self.host, self.port) = (transport, host, port) }

    /// - Parameters:
    ///   - text: e.g. "udp://[2001:db8::5]:514".
    ///   - usual: the port where none is named; without one there it must be.
    public init?(_ text: String, usual: [Transport: Int] = [:]) {
        guard let separator = text.range(of: "://"), let transport = Transport(rawValue: String(text[..<separator.lowerBound])) else { return nil }
        var rest = text[separator.upperBound...]
        let host: Substring
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = rest[rest.index(after: rest.startIndex)..<end]
            guard host.contains(":"), Self.isAddress(String(host)) else { return nil }
            rest = rest[rest.index(after: end)...]
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            host = rest[..<end]
            rest = rest[end...]
        }
        guard !host.isEmpty, host.utf8.count <= 253, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !"/?#@[]".utf8.contains($0) }) else { return nil }
        var port = usual[transport]
        if !rest.isEmpty {
            guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
            port = Int(number)
        }
        guard let port else { return nil }
        self.init(transport: transport, host: String(host), port: port)
    }

    public var written: String { "\(transport.rawValue)://\(host.contains(":") ? "[\(host)]" : host):\(port)" }

    /// Whether it is an address and no name.
    public static func isAddress(_ host: String) -> Bool {
        var buffer = in6_addr()
        return inet_pton(AF_INET, host, &buffer) == 1 || inet_pton(AF_INET6, host, &buffer) == 1
    }
}
