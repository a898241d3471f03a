// A message as the body of an HTTP request, signed: for whatever has a web server.

import AsyncHTTPClient
import Crypto
import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOSSL

actor WebhookExporter: Exporter {
    nonisolated let destination: String
    /// Only an answer shows that it is there.
    nonisolated let hasConnection = false

    private let url: String
    private let key: SymmetricKey?
    private let timeout: TimeAmount
    private let configuration: HTTPClient.Configuration
    private let group: any EventLoopGroup
    private var client: HTTPClient?
    private let agent: String
    private var taken = 0

    init(_ options: WebhookOptions, version: String, group: any EventLoopGroup) throws(FeedError) {
        url = options.url
        destination = options.url
        timeout = .seconds(Int64(options.timeoutSeconds))
        agent = "sekisho/\(version)"
        key = try options.secretFile.map { file throws(FeedError) in SymmetricKey(data: try Self.secret(file, options.delivery.name)) }
        var configuration = HTTPClient.Configuration(
            tlsConfiguration: try options.tls.configuration(for: options.delivery.name), redirectConfiguration: .disallow,
            timeout: .init(connect: .seconds(10), read: .seconds(Int64(options.timeoutSeconds))))
        configuration.httpVersion = .http1Only
        // Trying again is ours, and so is saying why.
        configuration.connectionPool.retryConnectionEstablishment = false
        if let address = options.address, let host = Self.host(of: options.url) { configuration.dnsOverride = [host: address] }
        self.configuration = configuration
        self.group = group
    }

    func open() { if client == nil { client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration) } }

    func send(_ messages: [FeedMessage]) async throws(DeliveryFailure) -> Handover {
        // One at a time: what was answered is remembered before the next goes.
        guard let client, let message = messages.first else { return Handover(count: 0) }
        let body = JSONFormat.bytes(message)
        let timestamp = String(Int64(Date().timeIntervalSince1970))
        var request = HTTPClientRequest(url: url)
        request.method = .POST
        request.headers = ["content-type": "application/json", "user-agent": agent, "x-sekisho-id": message.id, "x-sekisho-timestamp": timestamp]
        if let key { request.headers.add(name: "x-sekisho-signature", value: Self.signature(body, timestamp: timestamp, key)) }
        request.body = .bytes(ByteBuffer(bytes: body))
        let response: HTTPClientResponse
        do { response = try await client.execute(request, timeout: timeout) } catch { throw DeliveryFailure(Self.text(of: error)) }
        let status = response.status
        // The status is the answer, whatever becomes of what follows it.
        await Self.drain(response.body)
        switch status.code {
        case 200..<300:
            taken += 1
            return Handover(count: 1)
        case 408, 429, 500..., 300..<400:
            let isElsewhere = (300..<400).contains(status.code)
            let what = "HTTP \(status.code)" + (isElsewhere ? ": it is elsewhere, and redirects are not followed" : " \(status.reasonPhrase)")
            throw DeliveryFailure(what, retryAfter: response.headers.first(name: "retry-after").flatMap { Self.duration($0, now: Date()) })
        default:
            taken += 1
            return Handover(count: 1, refused: [0: "HTTP \(status.code) \(status.reasonPhrase)"])
        }
    }

    func confirmed() -> Int {
        defer { taken = 0 }
        return taken
    }

    /// After a failure the next attempt has a connection of its own.
    func close() async -> Int {
        let last = client
        client = nil
        try? await last?.shutdown()
        return confirmed()
    }

    // MARK: -

    /// Reads an answer to its end, so that the connection can be used again; of an endless or a slow one no more than this.
    private static func drain(_ body: HTTPClientResponse.Body) async {
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                var octets = 0
                do {
                    for try await piece in body {
                        octets += piece.readableBytes
                        if octets > 65_536 { break }
                    }
                } catch {}
            }
            tasks.addTask { try? await Task.sleep(for: .seconds(1)) }
            await tasks.next()
            tasks.cancelAll()
        }
    }

    /// "sha256=" and HMAC-SHA-256 of timestamp, ".", and body in hexadecimal digits.
    static func signature(_ body: [UInt8], timestamp: String, _ key: SymmetricKey) -> String {
        var code = HMAC<SHA256>(key: key)
        code.update(data: Array("\(timestamp).".utf8))
        code.update(data: body)
        return "sha256=" + code.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// What the file holds, without the end of a line; too short a secret is none.
    static func secret(_ path: String, _ name: String) throws(FeedError) -> [UInt8] {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            let code = errno
            throw FeedError("\(name): reading the secret \(path): \(String(cString: strerror(code)))")
        }
        defer { Glibc.close(file) }
        var facts = stat()
        guard fstat(file, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { throw FeedError("\(name): the secret \(path) is no file") }
        guard facts.st_mode & 0o007 == 0 else { throw FeedError("\(name): anybody may read the secret \(path)\n  → chmod 600 \(path)") }
        var bytes = [UInt8](repeating: 0, count: 4097)
        let count = read(file, &bytes, bytes.count)
        var secret = count > 0 ? Array(bytes[..<count]) : []
        while let last = secret.last, last == 10 || last == 13 { secret.removeLast() }
        guard (16...4096).contains(secret.count) else {
            throw FeedError("\(name): the secret \(path) has \(secret.count) octets; 16 to 4096 are good\n  → openssl rand -hex 32 > \(path)")
        }
        return secret
    }

    /// "Retry-After": seconds, or a date.
    static func duration(_ text: String, now: Date) -> Duration? {
        if let seconds = UInt32(text) { return .seconds(Int64(seconds)) }
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(secondsFromGMT: 0)
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        return formatter.date(from: text).map { .seconds(max(0, min(86_400, $0.timeIntervalSince(now)))) }
    }

    /// nil: it has none.
    static func host(of url: String) -> String? {
        guard let parts = URLComponents(string: url), let host = parts.host, !host.isEmpty, parts.user == nil, parts.password == nil,
            !url.unicodeScalars.contains(where: { $0.value <= 0x20 || $0.value >= 0x7F }), parts.port.map({ (1...65_535).contains($0) }) ?? true
        else { return nil }
        return host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    }

    private static func text(of error: any Error) -> String {
        if let error = error as? HTTPClientError {
            switch error {
            case .connectTimeout: return "no answer within 10 s"
            case .readTimeout, .deadlineExceeded: return "no answer in time"
            case .remoteConnectionClosed: return "closed by the other side"
            default: return "\(error)"
            }
        }
        return SyslogExporter.text(of: error)
    }
}
