// Syslog over UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425).
//
// None of them answers. What was written is taken for delivered when the other machine has acknowledged all of it and the connection has lived
// for a while after: a receiver that is killed takes what it has not read with it. When the connection breaks before, it is sent again.

import Foundation
import Glibc
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

actor SyslogExporter: Exporter {
    nonisolated let destination: String
    nonisolated let hasConnection: Bool

    private let to: Endpoint
    private let format: SyslogFormat
    private let framing: SyslogOptions.Framing
    private let serverName: String?
    private let tls: NIOSSLContext?
    private let group: any EventLoopGroup
    /// That a connection must live after what was sent, for that to be safe.
    private let settling: Duration

    private var channel: (any Channel)?
    private var inbound: InboundHandler?
    private var sequence: UInt32 = 0
    /// What was written: how many, when, and whether the other side has it.
    private var written: [(count: Int, at: ContinuousClock.Instant, isAcknowledged: Bool)] = []

    /// To connect, to write a piece.
    private static let patience = TimeAmount.seconds(10)
    /// Octets that are written at once, and one message more at the most: a slow line takes so much within its time.
    private static let piece = 32_768
    /// Datagrams that are sent at once, and the pause between, in ms: receivers' usual sockets hold some hundred.
    private static let burst: UInt32 = 8
    private static let breath: Int64 = 5

    init(_ options: SyslogOptions, version: String, group: any EventLoopGroup) throws(FeedError) {
        to = options.to
        destination = options.to.written
        hasConnection = options.to.transport != .udp
        framing = options.framing
        format = SyslogFormat(format: options.format, facility: options.facility, enterprise: options.enterprise, longest: options.longest, version: version)
        // An address is no name to ask for: the certificate must be of the address then.
        serverName = options.tls.serverName ?? (Endpoint.isAddress(options.to.host) ? nil : options.to.host)
        tls = options.to.transport == .tls ? try options.tls.context(for: options.delivery.name) : nil
        self.group = group
        // A datagram that nobody wants comes back as an error, if at all, at once.
        settling = options.to.transport == .udp ? .seconds(1) : .seconds(options.resendSeconds)
    }

    func open() async throws(DeliveryFailure) {
        let inbound = InboundHandler(), tls = tls, serverName = serverName, to = to
        do {
            if to.transport == .udp {
                // Names are looked up by a thread that may wait.
                let address = try await NIOThreadPool.singleton.runIfActive { try SocketAddress.makeAddressResolvingHost(to.host, port: to.port) }
                channel = try await DatagramBootstrap(group: group)
                    .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(inbound) } }
                    .connect(to: address).get()
            } else {
                channel = try await ClientBootstrap(group: group)
                    .connectTimeout(Self.patience)
                    .channelOption(.socketOption(.so_keepalive), value: 1)
                    .channelOption(ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_KEEPIDLE)), value: 10)
                    .channelOption(ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_KEEPINTVL)), value: 5)
                    .channelOption(ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_KEEPCNT)), value: 3)
                    // What is not acknowledged for so many milliseconds breaks the connection.
                    .channelOption(ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT)), value: 20_000)
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: tls, serverHostname: serverName)) }
                            try channel.pipeline.syncOperations.addHandler(inbound)
                        }
                    }
                    .connect(host: to.host, port: to.port).get()
            }
        } catch { throw DeliveryFailure(Self.text(of: error)) }
        self.inbound = inbound
        written = []
        if tls != nil { try await shakeHands() }
    }

    private func shakeHands() async throws(DeliveryFailure) {
        guard let channel, let inbound else { return }
        let timeout = channel.eventLoop.scheduleTask(in: Self.patience) {
            inbound.note("no TLS handshake within 10 s")
            channel.close(promise: nil)
        }
        defer { timeout.cancel() }
        while !inbound.isReady {
            if let problem = inbound.problem { throw DeliveryFailure(problem) }
            if !channel.isActive { throw DeliveryFailure("closed by the other side before the TLS handshake was done") }
            do { try await Task.sleep(for: .milliseconds(5)) } catch { throw DeliveryFailure("ended") }
        }
    }

    func send(_ messages: [FeedMessage]) async throws(DeliveryFailure) -> Handover {
        let channel = try live()
        if to.transport == .udp { return try await sendDatagrams(messages, channel) }
        // While more follows at once there is hardly a moment in which all is acknowledged: it is waited for.
        if let oldest = written.first(where: { !$0.isAcknowledged }), ContinuousClock.now - oldest.at > .seconds(1) { return Handover(count: 0) }
        let end = ContinuousClock.now + .seconds(1)
        var count = 0
        while count < messages.count, count == 0 || ContinuousClock.now < end {
            var buffer = channel.allocator.buffer(capacity: 2 * Self.piece)
            let first = count
            while count < messages.count, buffer.readableBytes < Self.piece {
                let bytes = nextBytes(messages[count])
                if framing == .octets { buffer.writeString("\(bytes.count) ") }
                buffer.writeBytes(bytes)
                if framing == .lines { buffer.writeString("\n") }
                count += 1
            }
            try await write(buffer, channel)
            written.append((count - first, .now, false))
        }
        return Handover(count: count)
    }

    private func sendDatagrams(_ messages: [FeedMessage], _ channel: any Channel) async throws(DeliveryFailure) -> Handover {
        for message in messages {
            try await write(ByteBuffer(bytes: nextBytes(message)), channel)
            // Also where the task is cancelled: what was begun is finished.
            if sequence.isMultiple(of: Self.burst) { try? await channel.eventLoop.scheduleTask(in: .milliseconds(Self.breath)) {}.futureResult.get() }
        }
        written.append((messages.count, .now, true))
        return Handover(count: messages.count)
    }

    private func nextBytes(_ message: FeedMessage) -> [UInt8] {
        // 1 to 2147483647, then 1 again (RFC 5424, 7.3.1).
        sequence = sequence >= 0x7FFF_FFFF ? 1 : sequence + 1
        return format.bytes(message, sequence: sequence)
    }

    private func write(_ buffer: ByteBuffer, _ channel: any Channel) async throws(DeliveryFailure) {
        let timeout = channel.eventLoop.scheduleTask(in: Self.patience) { [inbound] in
            inbound?.note("it takes nothing for 10 s")
            channel.close(promise: nil)
        }
        defer { timeout.cancel() }
        do { try await channel.writeAndFlush(buffer) } catch { throw DeliveryFailure(inbound?.problem ?? Self.text(of: error)) }
    }

    func confirmed() async throws(DeliveryFailure) -> Int {
        let channel = try live()
        if written.contains(where: { !$0.isAcknowledged }) {
            let before = written.count
            if await Self.hasAcknowledgedAll(channel) { for index in 0..<before { written[index].isAcknowledged = true } }
        }
        let now = ContinuousClock.now
        let safe = written.prefix { $0.isAcknowledged && now - $0.at >= settling }
        written.removeFirst(safe.count)
        return safe.reduce(0) { $0 + $1.count }
    }

    func close() async -> Int {
        guard let channel else { return 0 }
        self.channel = nil
        var count = 0
        // The connection is whole, and so is the other side: what it has acknowledged it has.
        if channel.isActive, inbound?.problem == nil {
            for _ in 0..<40 where count == 0 && !written.isEmpty {
                if to.transport == .udp { count = written.reduce(0) { $0 + $1.count } } else if await Self.hasAcknowledgedAll(channel) {
                    count = written.reduce(0) { $0 + $1.count }
                } else {
                    try? await Task.sleep(for: .milliseconds(50))
                }
            }
        }
        written = []
        channel.close(promise: nil)
        _ = try? await channel.closeFuture.get()
        return count
    }

    private func live() throws(DeliveryFailure) -> any Channel {
        guard let channel else { throw DeliveryFailure("not connected") }
        if let problem = inbound?.problem { throw DeliveryFailure(problem) }
        guard channel.isActive else { throw DeliveryFailure("closed by the other side") }
        return channel
    }

    /// Whether nothing that was written is still on its way.
    static func hasAcknowledgedAll(_ channel: any Channel) async -> Bool {
        guard let provider = channel as? any SocketOptionProvider else { return true }
        guard let info: TCPInformation = try? await provider.unsafeGetSocketOption(level: .tcp, name: .init(rawValue: TCP_INFO)).get() else { return false }
        return info.unacknowledged == 0 && info.notSent == 0
    }

    static func text(of error: any Error) -> String {
        switch error {
        case let error as IOError: return "\(String(cString: strerror(error.errnoCode)))"
        case let error as NIOConnectionError:
            if let first = error.connectionErrors.first { return text(of: first.error) }
            if error.dnsAError != nil || error.dnsAAAAError != nil { return "\(error.host) cannot be looked up" }
            return "cannot connect"
        case let error as SocketAddressError.UnknownHost: return "\(error.host) cannot be looked up"
        case let error as ChannelError:
            if case .connectTimeout = error { return "no answer within 10 s" }
            return "the connection is closed"
        case is NIOSSLError, is BoringSSLError: return "TLS: \(reason(in: "\(error)"))"
        case let error as NIOSSLExtraError: return "TLS: \(error)"
        default: return "\(error)"
        }
    }
}

/// BoringSSL's name for what went wrong, of "sslError([Error: 268435581 error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at …])".
private func reason(in text: String) -> String {
    guard let begin = text.range(of: "OPENSSL_internal:"), let end = text[begin.upperBound...].range(of: " at ") else { return text }
    return text[begin.upperBound..<end.lowerBound].lowercased().replacingOccurrences(of: "_", with: " ")
}

/// What the other side sends is nothing to us; what goes wrong is.
private final class InboundHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = Any

    private let state = Mutex<(problem: String?, isReady: Bool)>((nil, false))

    var problem: String? { state.withLock { $0.problem } }
    var isReady: Bool { state.withLock { $0.isReady } }
    func note(_ problem: String) { state.withLock { if $0.problem == nil { $0.problem = problem } } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // TLSUserEvent.handshakeCompleted, of a module that is not ours to name.
        if String(describing: event).hasPrefix("handshakeCompleted") { state.withLock { $0.isReady = true } }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Whoever closes without saying so has closed.
        if let error = error as? NIOSSLError, case .uncleanShutdown = error { note("closed by the other side") } else { note(SyslogExporter.text(of: error)) }
        context.close(promise: nil)
    }
}

/// `struct tcp_info` of linux/tcp.h: glibc's ends before what is needed here.
private struct TCPInformation: Sendable {
    /// State to window scales.
    var octets: UInt64 = 0
    var retransmissionTimeout: UInt32 = 0
    var acknowledgementTimeout: UInt32 = 0
    var sendSegment: UInt32 = 0
    var receiveSegment: UInt32 = 0
    /// Segments that were sent.
    var unacknowledged: UInt32 = 0
    /// tcpi_sacked to tcpi_total_retrans.
    var sacked: UInt32 = 0
    var rest: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0, 0)
    /// tcpi_pacing_rate to tcpi_bytes_received.
    var rates: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var segmentsOut: UInt32 = 0
    var segmentsIn: UInt32 = 0
    /// Octets that wait to be sent.
    var notSent: UInt32 = 0
    var padding: UInt32 = 0
}

extension TLSOptions {
    /// Always verifies whom it speaks to.
    func configuration(for name: String) throws(FeedError) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.certificateVerification = .fullVerification
        if let ca {
            let found = try Self.reading(ca, "certificates of authorities", name) { try NIOSSLCertificate.fromPEMFile(ca) }
            configuration.trustRoots = .certificates(found)
        }
        if let certificate, let key {
            configuration.certificateChain = try Self.reading(certificate, "certificate", name) {
                try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
            }
            configuration.privateKey = try Self.reading(key, "key", name) { .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)) }
        }
        return configuration
    }

    func context(for name: String) throws(FeedError) -> NIOSSLContext {
        let configuration = try configuration(for: name)
        do { return try NIOSSLContext(configuration: configuration) } catch {
            throw FeedError("\(name): \(certificate ?? ca ?? "TLS") cannot be used: \(error)\n  → do the certificate and the key belong together?")
        }
    }

    private static func reading<T>(_ path: String, _ what: String, _ name: String, _ body: () throws -> T) throws(FeedError) -> T {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            let code = errno
            throw FeedError("\(name): reading the \(what) \(path): \(String(cString: strerror(code)))")
        }
        Glibc.close(file)
        do { return try body() } catch { throw FeedError("\(name): the \(what) \(path) is not in PEM format, or damaged: \(error)") }
    }
}
