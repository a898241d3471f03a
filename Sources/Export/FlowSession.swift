// A transport session with a flow collector: templates first, records numbered from 0 (RFC 7011 10). It ends with the first thing that fails.

import NIOCore
import NIOPosix

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
    private var encoder: IPFIXEncoder
    private var isBegun = false

    /// A collector that takes nothing for so long is given up, until the next export.
    private static let patience = TimeAmount.seconds(20)
    /// Datagrams that are sent at once, and the pause between, in ms: a collector's usual socket holds some ninety.
    private static let burst = 16
    private static let pause = 5
    /// TCP_USER_TIMEOUT (tcp(7)): data that was not acknowledged for so long, in ms, ends the connection.
    private static let userTimeout = ChannelOptions.Types.SocketOption(level: .tcp, name: NIOBSDSocket.Option(rawValue: 18))

    init(_ collector: FlowCollector, on group: any EventLoopGroup) async throws {
        self.collector = collector
        switch collector.to.transport {
        case .udp:
            // Names are looked up by a thread that may wait.
            let to = collector.to
            let address = try await NIOThreadPool.singleton.runIfActive { try SocketAddress.makeAddressResolvingHost(to.host, port: to.port) }
            channel = try await DatagramBootstrap(group: group).connect(to: address).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestDatagram)
        case .tcp, .tls:
            channel = try await ClientBootstrap(group: group).connectTimeout(.seconds(10))
                .channelOption(.socketOption(.so_keepalive), value: 1).channelOption(Self.userTimeout, value: 20_000)
                .connect(host: collector.to.host, port: collector.to.port).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestOverTCP)
        }
    }

    var isOpen: Bool { channel.isActive }

    /// Sends records. Over TCP: until the collector's machine has acknowledged them.
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
            if collector.to.transport == .udp, at + Self.burst < messages.count { try await Task.sleep(for: .milliseconds(Self.pause)) }
        }
        if collector.to.transport == .tcp { try await acknowledged() }
    }

    private func acknowledged() async throws {
        while await !SyslogExporter.hasAcknowledgedAll(channel) {
            guard channel.isActive else { throw ChannelError.ioOnClosedChannel }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    func close() { channel.close(promise: nil) }
}
