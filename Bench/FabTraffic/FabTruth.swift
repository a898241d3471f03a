// What is legitimate in the fab, by the word of whoever planned it: the rules a person would write down.

import Allowlist
import Frames

public enum ToolKind: UInt8, Sendable, Hashable, CaseIterable {
    case lithography, track, etch, deposition, implant, metrology, clean, polish
}

public enum FabRole: Sendable, Hashable {
    /// A tool's main computer.
    case tool(ToolKind)
    /// A tool's data collection port, where it has one of its own.
    case dataPort(ToolKind)
    /// Pumps, gas, chillers.
    case controller
    case server
    case laptop
    /// Behind the gateway, or an attacker's own.
    case stranger
}

public struct FabDevice: Sendable {
    public let name: String
    public let role: FabRole
    /// IPv4, host order.
    public let address: UInt32
    public let mac: MACAddress
    var endpoint: Endpoint { Endpoint(address: address, mac: mac.rawValue) }
}

/// Any of the clients may talk to any of the servers by any of the services.
public struct FabRule: Sendable {
    public let name: String
    public internal(set) var clients: Set<UInt32> = []
    public internal(set) var servers: Set<UInt32> = []
    public internal(set) var services: [ServiceRange] = []
}

/// A conversation that takes place, or will if the recording is long enough.
public struct FabConversation: Sendable, Hashable {
    public let client: UInt32
    public let server: UInt32
    /// More than one port only where the server chooses one anew each time.
    public let service: ServiceRange
    public let rule: Int
    /// Connections a day in the mean, roughly; infinite: it goes on all the time.
    public let perDay: Double
}

/// The truth about a fab.
public struct FabTruth: Sendable {
    public internal(set) var devices: [FabDevice] = []
    public internal(set) var rules: [FabRule] = []
    public internal(set) var conversations: [FabConversation] = []
    /// That are not IP and legitimate between any two.
    public let etherTypes: [EtherType] = [.arp]

    private var byName: [String: Int] = [:]
    /// Rules by protocol and port, and those with ranges.
    private var byPort: [UInt32: [Int]] = [:]
    private var ranged: [Int] = []
    private var known: Set<FabConversation> = []
    private(set) var macs: [UInt32: UInt64] = [:]

    mutating func add(_ device: FabDevice) {
        precondition(macs.updateValue(device.mac.rawValue, forKey: device.address) == nil, "\(device.name) takes another's address")
        devices.append(device)
    }

    /// Allows a conversation under a rule of this name.
    mutating func allow(_ name: String, _ client: UInt32, _ server: UInt32, _ service: ServiceRange, perDay: Double) -> Int {
        let rule: Int
        if let known = byName[name] {
            rule = known
        } else {
            rule = rules.count
            byName[name] = rule
            rules.append(FabRule(name: name))
        }
        rules[rule].clients.insert(client)
        rules[rule].servers.insert(server)
        if !rules[rule].services.contains(service) {
            rules[rule].services.append(service)
            if service.count == 1 {
                byPort[UInt32(service.ipProtocol.rawValue) << 16 | UInt32(service.low.rawValue), default: []].append(rule)
            } else {
                ranged.append(rule)
            }
        }
        let conversation = FabConversation(client: client, server: server, service: service, rule: rule, perDay: perDay)
        if known.insert(conversation).inserted { conversations.append(conversation) }
        return rule
    }

    /// The first rule under which `client` may open this conversation.
    public func rule(client: UInt32, server: UInt32, _ ipProtocol: IPProtocol, _ port: Port) -> Int? {
        func allows(_ rule: Int) -> Bool {
            rules[rule].clients.contains(client) && rules[rule].servers.contains(server)
                && rules[rule].services.contains { $0.contains(ipProtocol, port) }
        }
        return byPort[UInt32(ipProtocol.rawValue) << 16 | UInt32(port.rawValue)]?.first(where: allows) ?? ranged.first(where: allows)
    }

    /// Whether a record is of an allowed conversation, and its sender's MAC address the one its address belongs to.
    public func isLegitimate(_ record: TrafficRecord) -> Bool {
        let source = UInt32(truncatingIfNeeded: record.source.low), destination = UInt32(truncatingIfNeeded: record.destination.low)
        guard macs[source] == record.sourceMAC.rawValue else { return false }
        if record.form != .ipv4 { return etherTypes.contains(record.etherType) }
        let isICMP = record.ipProtocol == .icmp
        let opens = record.ipProtocol == .tcp && record.tcpFlags.opensConnection || record.marks.contains(.neverReverse)
        let answers =
            record.ipProtocol == .tcp && record.tcpFlags.isSuperset(of: [.syn, .ack]) || record.marks.contains(.neverForward)
        if !answers, rule(client: source, server: destination, record.ipProtocol, record.destinationPort) != nil { return true }
        if isICMP && !answers { return false }
        return !opens && rule(client: destination, server: source, record.ipProtocol, record.sourcePort) != nil
    }

    /// The rules as the allowlist takes them.
    public var allowRules: [AllowRule] {
        func prefixes(_ addresses: Set<UInt32>) -> [AddressPrefix] {
            addresses.sorted().map { AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: UInt64($0)), length: 32) }
        }
        return rules.map { AllowRule(clients: prefixes($0.clients), servers: prefixes($0.servers), services: $0.services) }
    }
}
