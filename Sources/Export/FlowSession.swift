// A transport session with a flow collector: templates first, records numbered from 0 (RFC 7011 10). It ends with the first thing that fails.

import NIOCore
import NIOPosix
import Synchronization

/// Where a collector listens.
public struct FlowCollector: Sendable, Equatable {
    public var name: String
    /// Over UDP or TCP.
    public var to: Endpoint
    /// Seconds between exports.
    public var interval: Int
    /// As which the collector knows the bridge.
    public var observationDomain: UInt32
    /// A new one is told of yesterday and today, not only of what is to come.
    public var beginsAtStart: Bool
}

struct FlowSession {
    private let channel: any Channel
    private let collector: FlowCollector
    private let errors: ErrorNote
    private var encoder: IPFIXEncoder
    private var isBegun = false

    /// A collector that takes nothing for so long is given up, until the next export.
    private static let patience = TimeAmount.seconds(20)
    /// Datagrams that are sent at once, and the pause between, in ms: a collector's usual socket holds some ninety.
    private static let burst = 8
    private static let breath: Int64 = 5
    /// For the message, in ms, that there is nobody: ICMP's, where no firewall keeps it back.
    private static let timeToRefuse: Int64 = 50
    /// TCP_USER_TIMEOUT (tcp(7)): data that was not acknowledged for so long, in ms, ends the connection.
    private static let userTimeout = ChannelOptions.Types.SocketOption(level: .tcp, name: NIOBSDSocket.Option(rawValue: 18))

    init(_ collector: FlowCollector, on group: any EventLoopGroup) async throws {
        self.collector = collector
        let errors = ErrorNote()
        self.errors = errors
        switch collector.to.transport {
        case .udp:
            // Names are looked up by a thread that may wait.
            let to = collector.to
            let address = try await NIOThreadPool.singleton.runIfActive { try SocketAddress.makeAddressResolvingHost(to.host, port: to.port) }
            channel = try await DatagramBootstrap(group: group)
                .channelInitializer { $0.pipeline.addHandler(errors) }.connect(to: address).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestDatagram)
        case .tcp, .tls:
            channel = try await ClientBootstrap(group: group).connectTimeout(.seconds(10))
                .channelOption(.socketOption(.so_keepalive), value: 1).channelOption(Self.userTimeout, value: 20_000)
                .channelInitializer { $0.pipeline.addHandler(errors) }.connect(host: collector.to.host, port: collector.to.port).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestOverTCP)
        }
    }

    var isOpen: Bool { channel.isActive }

    /// Sends records. Over TCP: until the collector's machine has acknowledged them; over UDP: until it could have refused them.
    ///
    /// - Parameter withTemplates: over UDP, where they may be lost and collectors forget them; TCP has them once.
    mutating func send(_ records: [FlowRecord], withTemplates: Bool, at seconds: UInt32) async throws {
        let messages = encoder.messages(records, withTemplates: !isBegun || withTemplates && collector.to.transport == .udp, at: seconds)
        isBegun = true
        let channel = channel
        let limit = channel.eventLoop.scheduleTask(in: Self.patience) { channel.close(promise: nil) }
        defer { limit.cancel() }
        for at in stride(from: 0, to: messages.count, by: Self.burst) {
            let piece = messages[at..<min(at + Self.burst, messages.count)]
            for message in piece.dropLast() { channel.write(ByteBuffer(bytes: message), promise: nil) }
            if let last = piece.last { try await channel.writeAndFlush(ByteBuffer(bytes: last)).get() }
            if collector.to.transport == .udp { await pause(.milliseconds(Self.breath)) }
        }
        if collector.to.transport == .tcp { try await acknowledged() } else { await pause(.milliseconds(Self.timeToRefuse)) }
        if let error = errors.first { throw error }
    }

    private func acknowledged() async throws {
        while await !SyslogExporter.hasAcknowledgedAll(channel) {
            guard channel.isActive else { throw ChannelError.ioOnClosedChannel }
            await pause(.milliseconds(2))
        }
    }

    /// Also where the task is cancelled: what was begun is finished, so that it is known what was sent.
    private func pause(_ time: TimeAmount) async { try? await channel.eventLoop.scheduleTask(in: time) {}.futureResult.get() }

    func close() { channel.close(promise: nil) }
}

/// What collectors say is nothing to us; what goes wrong is.
private final class ErrorNote: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let note = Mutex<(any Error)?>(nil)

    var first: (any Error)? { note.withLock { $0 } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        note.withLock { if $0 == nil { $0 = error } }
        context.close(promise: nil)
    }
}
