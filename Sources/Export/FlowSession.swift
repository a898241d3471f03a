// A transport session with a flow collector: templates first, records numbered from 0 (RFC 7011 10). It ends with the first thing that fails.

import NIOCore
import NIOPosix

/// Where a collector listens.
public struct FlowCollector: Sendable, Equatable {
    public enum Transport: String, Sendable { case udp, tcp }

    public var name: String
    public var transport: Transport
    public var host: String
    public var port: Int
    /// Seconds between exports.
    public var interval: Int
    /// As which the collector knows the bridge.
    public var observationDomain: UInt32

    public init(name: String, transport: Transport, host: String, port: Int, interval: Int = 60, observationDomain: UInt32 = 1) {
        (self.name, self.transport, self.host, self.port) = (name, transport, host, port)
        (self.interval, self.observationDomain) = (interval, observationDomain)
    }

    public var address: String { "\(transport.rawValue)://\(host.contains(":") ? "[\(host)]" : host):\(port)" }
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
        switch collector.transport {
        case .udp:
            channel = try await DatagramBootstrap(group: group).connect(host: collector.host, port: collector.port).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestDatagram)
        case .tcp:
            channel = try await ClientBootstrap(group: group).connectTimeout(.seconds(10))
                .channelOption(.socketOption(.so_keepalive), value: 1).channelOption(Self.userTimeout, value: 20_000)
                .connect(host: collector.host, port: collector.port).get()
            encoder = IPFIXEncoder(domain: collector.observationDomain, longest: IPFIXEncoder.longestOverTCP)
        }
    }

    var isOpen: Bool { channel.isActive }

    /// Sends records. Over TCP: until the collector's machine has acknowledged them.
    ///
    /// - Parameter withTemplates: over UDP, where they may be lost and collectors forget them; TCP has them once.
    mutating func send(_ records: [FlowRecord], withTemplates: Bool, at seconds: UInt32) async throws {
        let messages = encoder.messages(records, withTemplates: !isBegun || withTemplates && collector.transport == .udp, at: seconds)
        isBegun = true
        let channel = channel
        let limit = channel.eventLoop.scheduleTask(in: Self.patience) { channel.close(promise: nil) }
        defer { limit.cancel() }
        for at in stride(from: 0, to: messages.count, by: Self.burst) {
            let piece = messages[at..<min(at + Self.burst, messages.count)]
            for message in piece.dropLast() { channel.write(ByteBuffer(bytes: message), promise: nil) }
            if let last = piece.last { try await channel.writeAndFlush(ByteBuffer(bytes: last)).get() }
            if collector.transport == .udp, at + Self.burst < messages.count { try await Task.sleep(for: .milliseconds(Self.pause)) }
        }
        if collector.transport == .tcp { try await acknowledged() }
    }

    private func acknowledged() async throws {
        guard let provider = channel as? any SocketOptionProvider else { return }
        while true {
            guard channel.isActive else { throw ChannelError.ioOnClosedChannel }
            if try await provider.getTCPInfo().get().tcpi_unacked == 0 { return }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    func close() { channel.close(promise: nil) }
}
