// Who is in the fab: bays of tools, and the servers around them. Actors (Actors/) add what these say to each other.
//
//     10.20.b.t  tools' main computers    10.10.0.x  servers           10.40.0.x  vendors' jump hosts
//     10.21.b.t  their sub-fab controllers 10.10.1.x  equipment hosts  10.30.0.x  engineers' laptops
//     10.22.b.t  their data ports          10.10.2.x  their standbys
//
// One flat network: every device is seen under its own MAC address, strangers outside under the gateway's.

import Allowlist
import Frames

struct Tool: Sendable {
    let number: Int
    let kind: ToolKind
    let bay: Int
    let main: Endpoint
    let controller: Endpoint?
    /// The main computer's where it has no other.
    let data: Endpoint
    var isWindows: Bool
    /// Planned work on it, in order of time: from and to.
    var maintenances: [(from: Int, to: Int)] = []
}

/// When an equipment host is down and its standby serves.
struct HostPlan: Sendable {
    let primary: Endpoint
    let standby: Endpoint
    var failovers: [(from: Int, to: Int)] = []

    func endpoint(at time: Int) -> Endpoint { failovers.contains { $0.from <= time && time < $0.to } ? standby : primary }

    /// The next time the serving one changes; `.max`: never.
    func change(after time: Int) -> Int {
        for window in failovers {
            if window.from > time { return window.from }
            if window.to > time { return window.to }
        }
        return .max
    }
}

/// Everything that is decided before the first record.
struct FabPlan: Sendable {
    let scenario: FabScenario
    var truth = FabTruth()
    var tools: [Tool] = []
    var hosts: [HostPlan] = []
    var laptops: [Endpoint] = []
    /// By address, whose ports answer: `address << 16 | port`.
    private(set) var open: Set<UInt64> = []

    var sessions: [LongSession] = []
    var exchanges: [Exchanges] = []
    var transfers: [FileTransfers] = []
    var resolutions: [AddressResolution] = []
    var visits: [Visit] = []
    var attackers: [Attacker] = []

    private var streams: UInt64 = 0
    static let toolsPerBay = 25
    var bays: Int { (scenario.tools + Self.toolsPerBay - 1) / Self.toolsPerBay }
    var end: Int { Int(scenario.weeks * Double(Span.week)) }

    init(_ scenario: FabScenario) {
        self.scenario = scenario
        addTools()
        addHSMS()
        addDataCollection()
        addRecipes()
        addPolling()
        addHousekeeping()
        addRareWork()
        addVisits()
        addAttackers()
    }

    /// Numbers for one more stream of traffic.
    mutating func random() -> SplitMix {
        streams += 1
        return SplitMix(seed: scenario.seed, stream: streams)
    }

    // MARK: - Devices

    static func address(_ a: Int, _ b: Int, _ c: Int) -> UInt32 { 10 << 24 | UInt32(a) << 16 | UInt32(b) << 8 | UInt32(c) }

    /// Adds a device. Its MAC address is locally administered; the second byte stands for its maker.
    mutating func device(_ name: String, _ role: FabRole, _ address: UInt32) -> Endpoint {
        let maker: UInt64 = switch role {
        case .tool(let kind), .dataPort(let kind): 0x10 + UInt64(kind.rawValue)
        case .controller: 0x30
        case .server: 0x40
        case .laptop: 0x50
        case .stranger: 0x60
        }
        let device = FabDevice(
            name: name, role: role, address: address, mac: MACAddress(rawValue: 0x02 << 40 | maker << 32 | UInt64(address)))
        truth.add(device)
        return device.endpoint
    }

    private var servers: [String: Endpoint] = [:]

    /// The server of this name.
    mutating func server(_ name: String) -> Endpoint {
        if let known = servers[name] { return known }
        let one = device(name, .server, Self.address(10, 0, 10 + servers.count))
        servers[name] = one
        return one
    }

    private mutating func addTools() {
        var random = random()
        // A small fab has one bay with some of everything, a large one bays of one trade.
        let trades: [[ToolKind]] =
            bays == 1
            ? [ToolKind.allCases]
            : [[.lithography, .track], [.etch], [.deposition], [.implant], [.clean], [.etch], [.metrology], [.deposition], [.polish], [.clean]]
        for number in 0..<scenario.tools {
            let bay = number / Self.toolsPerBay, place = 10 + number % Self.toolsPerBay
            let trade = trades[bay % trades.count]
            let kind = trade[number % trade.count]
            let name = "\(kind)-\(bay)-\(place - 9)"
            let main = device(name, .tool(kind), Self.address(20, bay, place))
            let controller = kind.hasSubFab ? device("\(name)-subfab", .controller, Self.address(21, bay, place)) : nil
            let data = kind.hasDataPort ? device("\(name)-data", .dataPort(kind), Self.address(22, bay, place)) : main
            tools.append(
                Tool(
                    number: number, kind: kind, bay: bay, main: main, controller: controller, data: data,
                    isWindows: random.chance(kind.windowsShare)))
        }
    }

    // MARK: - Conversations

    /// A conversation that a rule of this name allows.
    mutating func line(
        _ rule: String, _ client: Endpoint, _ server: Endpoint, _ ipProtocol: IPProtocol, _ port: Int, through last: Int? = nil,
        perDay: Double, label: FabLabel = .normal
    ) -> Line {
        let service = ServiceRange(ipProtocol, Port(rawValue: UInt16(port)), Port(rawValue: UInt16(last ?? port)))
        let number = truth.allow(rule, client.address, server.address, service, perDay: perDay)
        if ipProtocol == .tcp, last == nil { open.insert(UInt64(server.address) << 16 | UInt64(port)) }
        return Line(
            client: client, server: server, rule: Int32(number), port: UInt16(port), ipProtocol: ipProtocol.rawValue, label: label)
    }

    /// Calls `body` at the exponential times of something that happens every `days`.
    func occasions(everyDays days: Double, _ random: inout SplitMix, _ body: (Int, inout SplitMix) -> Void) {
        guard days > 0 else { return }
        var time = Int(random.exponential(mean: days) * Double(Span.day))
        while time < end {
            body(time, &random)
            time += max(Span.hour, Int(random.exponential(mean: days) * Double(Span.day)))
        }
    }
}

extension ToolKind {
    var hasSubFab: Bool {
        switch self {
        case .etch, .deposition, .implant, .clean: true
        default: false
        }
    }

    /// Whether data collection has a network card of its own.
    var hasDataPort: Bool { self == .lithography || self == .etch }

    var windowsShare: Double { self == .lithography ? 0 : self == .implant ? 0.5 : 0.85 }

    /// Days between planned maintenances.
    var maintenanceDays: Double {
        switch self {
        case .lithography, .metrology: 30
        case .track, .clean: 14
        case .etch, .deposition, .polish: 7
        case .implant: 10
        }
    }
}
