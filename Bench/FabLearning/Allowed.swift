// What a proposal lets pass, asked record by record; a few lines, so that they can be seen to be right.

import Baseline
import Frames

public struct Allowed: Sendable {
    private struct Pair: Hashable, Sendable {
        var client: AddressWords
        var server: AddressWords
        var ipProtocol: UInt8
    }

    private var ports: [Pair: [ClosedRange<UInt16>]] = [:]
    private var ftp: Set<Pair> = []
    private var macs: [AddressWords: MACAddress] = [:]

    public init(_ proposal: Proposal) {
        for rule in proposal.rules {
            for client in rule.clients {
                for server in rule.servers {
                    for service in rule.services {
                        let pair = Pair(client: client, server: server, ipProtocol: service.ipProtocol.rawValue)
                        ports[pair, default: []].append(service.low.rawValue...service.high.rawValue)
                        if rule.hasFTPData { ftp.insert(pair) }
                    }
                }
            }
        }
        for device in proposal.devices { if let mac = device.mac { macs[device.address] = mac } }
    }

    /// What ARP claims is bound as well.
    public func breaksBinding(_ record: TrafficRecord) -> Bool { macs[record.source].map { $0 != record.sourceMAC } ?? false }

    public func passes(_ record: TrafficRecord) -> Bool {
        if breaksBinding(record) { return false }
        guard record.form == .ipv4 || record.form == .ipv6 else { return record.etherType == .arp }
        let ipProtocol = record.ipProtocol.rawValue
        let mayAsk = !record.marks.contains(.neverForward), mayAnswer = !record.tcpFlags.opensConnection && !record.marks.contains(.neverReverse)
        let asks = Pair(client: record.source, server: record.destination, ipProtocol: ipProtocol)
        if mayAsk, allows(asks, record.destinationPort.rawValue) { return true }
        let answers = Pair(client: record.destination, server: record.source, ipProtocol: ipProtocol)
        if mayAnswer, allows(answers, record.sourcePort.rawValue) { return true }
        // Data connections beside an FTP session, either way round.
        guard record.ipProtocol == .tcp else { return false }
        return ftp.contains(asks) && record.destinationPort.rawValue >= 1024 || ftp.contains(answers) && record.sourcePort.rawValue >= 1024
    }

    public func allows(_ key: ConversationKey) -> Bool {
        allows(Pair(client: key.client, server: key.server, ipProtocol: key.ipProtocol.rawValue), key.service.rawValue)
    }

    private func allows(_ pair: Pair, _ port: UInt16) -> Bool { ports[pair]?.contains { $0.contains(port) } ?? false }
}
