// /metrics over HTTP, for Prometheus. One request a connection, and little patience: who is slow, or sends much, is cut off.

import Crypto
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

public struct MetricsOptions: Sendable, Equatable {
    /// An address of this machine, or 0.0.0.0 or :: for all.
    public var host: String
    public var port: Int
    /// What scrapers must say as `Authorization: Bearer …`; nil: anybody may ask.
    public var tokenFile: String?
    /// nil: plain HTTP.
    public var certificate: String?
    public var key: String?

    public var address: String { "\(certificate == nil ? "http" : "https")://\(host.contains(":") ? "[\(host)]" : host):\(port)/metrics" }

    /// Whether the files can be used.
    func check() throws(FeedError) {
        _ = try token()
        _ = try context()
    }

    fileprivate func token() throws(FeedError) -> String? {
        guard let tokenFile else { return nil }
        let text: String
        do { text = try String(contentsOfFile: tokenFile, encoding: .utf8) } catch {
            throw FeedError("metrics: reading the token \(tokenFile): \(error.localizedDescription)")
        }
        let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard token.utf8.count >= 16, token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw FeedError("metrics: \(tokenFile) has no token\n  → 16 printable ASCII characters or more, no blanks: openssl rand -hex 32")
        }
        return token
    }

    fileprivate func context() throws(FeedError) -> NIOSSLContext? {
        guard let certificate, let key else { return nil }
        do {
            var tls = TLSConfiguration.makeServerConfiguration(
                certificateChain: try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
            tls.minimumTLSVersion = .tlsv12
            return try NIOSSLContext(configuration: tls)
        } catch {
            throw FeedError("metrics: \(certificate) and \(key) cannot be used: \(error)\n  → PEM files that belong together, and that the feed may read")
        }
    }
}

/// Listens while the feed runs.
final class MetricsService: FeedService {
    let name = "metrics"
    private let options: MetricsOptions
    private let page: MetricsPage
    private let group: any EventLoopGroup
    private let log: Logger
    private let token: SHA256Digest?
    private let tls: NIOSSLContext?

    init(_ options: MetricsOptions, page: MetricsPage, group: any EventLoopGroup, log: Logger) throws(FeedError) {
        (self.options, self.page, self.group, self.log) = (options, page, group, log)
        token = try options.token().map { SHA256.hash(data: Data($0.utf8)) }
        tls = try options.context()
    }

    func run() async {
        var saidWhy: String?
        while !Task.isCancelled {
            let doors = Doors()
            do {
                let channel = try await listen(doors)
                log.info("metrics: at \(options.address)")
                saidWhy = nil
                // Until it is closed, which nobody does but us; or cancelled.
                await withTaskCancellationHandler { try? await channel.closeFuture.get() } onCancel: { channel.close(promise: nil) }
                for one in doors.all { one.hangUp() }
            } catch {
                // The address may come later, or another process may have the port for a moment.
                let why = SyslogExporter.text(of: error)
                if saidWhy != why { log.error("metrics: listening at \(options.host) port \(options.port): \(why); tried again every second") }
                saidWhy = why
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    private func listen(_ doors: Doors) async throws -> any Channel {
        let (tls, token, page) = (tls, token, page)
        return try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 64).serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    let door = DoorHandler(doors)
                    try pipeline.addHandler(door)
                    if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
                    try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: false)
                    try pipeline.addHandler(MetricsHandler(door, token: token, page: page))
                }
            }
            .bind(host: options.host, port: options.port).get()
    }
}

/// The wire of a connection. TLS above it would wait for the other side's goodbye before it closes.
private struct Wire: Sendable {
    let channel: any Channel
    private let lowest: NIOLoopBound<ChannelHandlerContext>

    /// - Parameter context: of the handler next to the wire, in its event loop.
    init(_ context: ChannelHandlerContext) {
        channel = context.channel
        lowest = NIOLoopBound(context, eventLoop: context.eventLoop)
    }

    /// Hangs up without a word; of a connection that is closed by then nothing comes.
    @discardableResult
    func hangUp(in time: TimeAmount = .zero) -> Scheduled<Void> {
        channel.eventLoop.scheduleTask(in: time) { [lowest] in lowest.value.close(promise: nil) }
    }
}

/// Who is connected, oldest first.
private final class Doors: Sendable {
    /// Scrapers are few; more connections are a mistake, or an attack.
    static let most = 32

    private let open = Mutex<[(wire: Wire, hasAsked: Bool)]>([])

    var all: [Wire] { open.withLock { $0.map(\.wire) } }

    /// - Returns: who must go for this one: the oldest that has not asked for anything that it may have; nil: there is room.
    func enter(_ wire: Wire) -> Wire? {
        open.withLock { open in
            open.append((wire, false))
            guard open.count > Self.most else { return nil }
            return open.remove(at: open.firstIndex { !$0.hasAsked } ?? open.count - 1).wire
        }
    }

    func note(asked channel: any Channel) {
        open.withLock { open in
            if let at = open.firstIndex(where: { $0.wire.channel === channel }) { open[at].hasAsked = true }
        }
    }

    func leave(_ channel: any Channel) { open.withLock { $0.removeAll { $0.wire.channel === channel } } }
}

/// Next to the wire: counts what comes, and the time.
private final class DoorHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// A request, with a handshake of TLS and a client's certificates before it.
    private static let mostBytes = 32_768
    /// To ask, and then to take the answer.
    private static let timeToAsk = TimeAmount.seconds(5)
    private static let timeToTake = TimeAmount.seconds(20)

    private let doors: Doors
    private var bytes = 0
    private var limit: Scheduled<Void>?
    /// While it is connected.
    private(set) var wire: Wire?

    init(_ doors: Doors) { self.doors = doors }

    func channelActive(context: ChannelHandlerContext) {
        let wire = Wire(context)
        self.wire = wire
        doors.enter(wire)?.hangUp()
        limit = wire.hangUp(in: Self.timeToAsk)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        limit?.cancel()
        wire = nil
        doors.leave(context.channel)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        bytes += unwrapInboundIn(data).readableBytes
        guard bytes <= Self.mostBytes else { return context.close(promise: nil) }
        context.fireChannelRead(data)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    /// The request is complete, and may be answered.
    func hasAsked() {
        guard let wire else { return }
        doors.note(asked: wire.channel)
        limit?.cancel()
        limit = wire.hangUp(in: Self.timeToTake)
    }
}

/// Answers one request.
private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// For the goodbye under TLS, once the answer is sent.
    private static let timeToPart = TimeAmount.seconds(1)

    private let door: DoorHandler
    private let token: SHA256Digest?
    private let page: MetricsPage
    private var head: HTTPRequestHead?
    private var isAnswered = false

    init(_ door: DoorHandler, token: SHA256Digest?, page: MetricsPage) {
        (self.door, self.token, self.page) = (door, token, page)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isAnswered { return }
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        // What a GET carries means nothing; how much it may be is counted at the door.
        case .body: break
        case .end:
            guard let head, let wire = door.wire else { return }
            isAnswered = true
            answer(head, wire)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
        door.wire?.hangUp(in: Self.timeToPart)
    }

    private func answer(_ head: HTTPRequestHead, _ wire: Wire) {
        let path = head.uri.prefix { $0 != "?" && $0 != "#" }
        let isHead = head.method == .HEAD
        guard head.method == .GET || isHead else {
            return Self.send(wire, .methodNotAllowed, "only GET and HEAD\n", isHead: isHead, also: ("Allow", "GET, HEAD"))
        }
        guard isAllowed(head.headers) else {
            return Self.send(wire, .unauthorized, "a token is needed\n", isHead: isHead, also: ("WWW-Authenticate", "Bearer"))
        }
        door.hasAsked()
        guard path == "/metrics" else { return Self.send(wire, .notFound, "there is only /metrics\n", isHead: isHead) }
        let page = page
        Task {
            let text = await page.text()
            MetricsHandler.send(wire, .ok, text, isHead: isHead, type: "text/plain; version=0.0.4; charset=utf-8")
        }
    }

    /// Digests are compared, so that how long it takes says nothing about the token.
    private func isAllowed(_ headers: HTTPHeaders) -> Bool {
        guard let token else { return true }
        guard let said = headers.first(name: "Authorization"), said.prefix(7).lowercased() == "bearer " else { return false }
        let given = said.dropFirst(7).drop { $0 == " " }
        return SHA256.hash(data: Data(given.utf8)) == token
    }

    private static func send(
        _ wire: Wire, _ status: HTTPResponseStatus, _ text: String, isHead: Bool, type: String = "text/plain; charset=utf-8",
        also: (String, String)? = nil
    ) {
        let channel = wire.channel, body = ByteBuffer(string: text)
        var headers = HTTPHeaders([
            ("Content-Type", type), ("Content-Length", "\(body.readableBytes)"), ("Connection", "close"), ("Cache-Control", "no-store"),
        ])
        if let also { headers.add(name: also.0, value: also.1) }
        channel.write(HTTPServerResponsePart.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)), promise: nil)
        if !isHead { channel.write(HTTPServerResponsePart.body(.byteBuffer(body)), promise: nil) }
        channel.writeAndFlush(HTTPServerResponsePart.end(nil)).whenComplete { _ in
            channel.close(promise: nil)
            wire.hangUp(in: timeToPart)
        }
    }
}
