// What should not be there. Attackers have numbers of their own: with or without them, the rest of the traffic is the same.
//
// An attacker keeps to what no rule allows, or its records would be lies about what an allowlist can see; with
// `includesCovert` it does not care, and those records say so.

import Frames

struct Attacker: Sendable {
    let attack: FabAttack
    let from: Int
    let to: Int
    /// Who does it.
    let source: Endpoint
    private var random: SplitMix
    /// Worm: who has it, and since when.
    private var infected: [(host: Endpoint, since: Int)] = []
    /// Where it is with what it does in order.
    private var next: Int
    private var number = 0
    /// Beacon: its own port for what it repeats; spoofing: its MAC.
    private let target: Endpoint

    init(_ attack: FabAttack, source: Endpoint, target: Endpoint, random: SplitMix) {
        self.attack = attack
        from = Int(attack.start * Double(Span.hour))
        to = Int((attack.start + attack.hours) * Double(Span.hour))
        self.source = source
        self.target = target
        self.random = random
        next = from
        if attack.label == .worm { infected.append((source, from)) }
    }

    mutating func step(_ hour: Hour, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        guard hour.start < to, hour.end > from else { return }
        let end = min(hour.end, to)
        switch attack.label {
        case .worm: spread(hour.start, end, field, &buffer)
        case .scan: scan(end, field, &buffer)
        case .slowScan: probeSlowly(end, field, &buffer)
        case .attack(.spoofing): spoof(end, field, &buffer)
        case .attack(.rogueHost): pretend(end, field, &buffer)
        case .attack(.lateral): move(end, field, &buffer)
        case .attack(.beacon): call(end, field, &buffer)
        case .covert: hide(end, field, &buffer)
        case .normal, .maintenance: break
        }
    }

    /// Below every range that a rule names: an answer cannot be taken for the request of an allowed conversation.
    private mutating func port() -> UInt16 { UInt16(random.between(32_768, 45_000)) }

    private func line(_ client: Endpoint, _ server: Endpoint, _ port: UInt16, _ label: FabLabel) -> Line {
        Line(client: client, server: server, rule: -1, port: port, ipProtocol: IPProtocol.tcp.rawValue, label: label)
    }

    /// The line of an attack, unless a rule allows it and that is not wanted.
    private func line(_ client: Endpoint, _ server: Endpoint, _ port: UInt16, _ field: borrowing Battlefield) -> Line? {
        var line = line(client, server, port, attack.label)
        if let rule = field.truth.rule(client: client.address, server: server.address, .tcp, Port(rawValue: port)) {
            if !field.includesCovert { return nil }
            line.label = .covert
            line.rule = Int32(rule)
        }
        return line
    }

    // MARK: - Looking around

    /// A SYN, and what comes of it. Returns whether the port is open.
    @discardableResult
    private mutating func probe(_ line: Line, at time: Int, _ field: borrowing Battlefield, tries: Int, _ buffer: inout RecordBuffer) -> Bool {
        let port = port()
        guard field.exists(line.server) else {
            buffer.fail(line, port: port, at: time, refused: false, tries: tries)
            return false
        }
        guard field.isOpen(line.server, line.port) else {
            buffer.fail(line, port: port, at: time, refused: true)
            return false
        }
        let after = random.between(120, 600)
        buffer.open(line, port: port, at: time, after: after)
        buffer.out(line, port, flags: TCPFlags.rst.rawValue, Load(frames: 1, bytes: 60), first: time + 2 * after, last: time + 2 * after)
        return true
    }

    private static let ports: [UInt16] = [21, 22, 23, 80, 102, 135, 139, 443, 445, 502, 1433, 3389, 4840, 5000, 5001, 5900]

    /// A laptop goes through every address and some ports; `rate` probes a second, 40.
    private mutating func scan(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        let gap = Double(Span.second) / (attack.rate ?? 40)
        while next < end, number < field.addresses.count * Self.ports.count {
            let target = field.endpoint(field.addresses[number / Self.ports.count])
            if target.address != source.address, let line = line(source, target, Self.ports[number % Self.ports.count], field) {
                probe(line, at: next, field, tries: 1, &buffer)
            }
            number += 1
            next += max(1, Int(random.exponential(mean: gap)))
        }
    }

    /// A tool that was taken over asks one port of one address at a time; `rate` a hour, 1.
    private mutating func probeSlowly(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        let gap = Double(Span.hour) / (attack.rate ?? 1)
        while next < end {
            let target = field.endpoint(random.pick(field.addresses))
            if target.address != source.address, let line = line(source, target, random.pick(Self.ports), field) {
                probe(line, at: next, field, tries: 1, &buffer)
            }
            next += Int(gap * (0.8 + 0.4 * random.unit()))
        }
    }

    // MARK: - Spreading

    /// tcp/445 to addresses by chance, `rate` a second from every infected host, 5; who answers is infected in turn.
    private mutating func spread(_ start: Int, _ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        let gap = Double(Span.second) / (attack.rate ?? 5)
        var i = 0
        while i < infected.count {
            let (host, since) = infected[i]
            i += 1
            var time = max(start, since)
            while time < end {
                time += max(1, Int(random.exponential(mean: gap)))
                let target = field.endpoint(random.pick(field.addresses))
                if time >= end || target.address == host.address { continue }
                guard let first = line(host, target, 445, field) else { continue }
                guard field.isOpen(target, 445) else {
                    probe(first, at: time, field, tries: 2, &buffer)
                    continue
                }
                buffer.connection(
                    first, port: port(), at: time, lasting: 300 * Span.millisecond, out: .payload(9000), back: .payload(2000), random: &random)
                guard field.isVulnerable(target), infected.count < 64, !infected.contains(where: { $0.host == target }) else { continue }
                // The second stage: the new one fetches the rest.
                if let second = line(target, host, 4444, field) {
                    buffer.connection(
                        second, port: port(), at: time + Span.second, lasting: 4 * Span.second, out: .payload(600), back: .payload(3_700_000),
                        random: &random)
                }
                infected.append((target, time + 60 * Span.second))
            }
        }
    }

    /// From tool to tool, `rate` connections an hour, 20: some stay for a while.
    private mutating func move(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        while next < end {
            let target = random.pick(field.tools)
            if target != source, let line = line(source, target, random.pick([445, 3389, 22, 5985, 5000, 5900]), field) {
                if field.isOpen(target, line.port) {
                    buffer.connection(
                        line, port: port(), at: next, lasting: random.between(1, 200) * Span.second, out: .payload(random.between(500, 50_000)),
                        back: .payload(random.between(500, 500_000)), random: &random)
                } else {
                    probe(line, at: next, field, tries: 3, &buffer)
                }
            }
            next += max(1, Int(random.exponential(mean: Double(Span.hour) / (attack.rate ?? 20))))
        }
    }

    // MARK: - Pretending

    /// Another MAC address says that it is the host, and sends segments under its address; `rate` a minute, 6.
    private mutating func spoof(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        let liar = Endpoint(address: target.address, mac: source.mac)
        while next < end {
            let tool = random.pick(field.tools)
            buffer.arp(liar, asks: tool, label: attack.label, frames: 2, first: next, last: next + 20 * Span.millisecond)
            let line = line(liar, tool, 5000, attack.label)
            // Blind: the answer goes to whom the tool takes for its host.
            let port = port()
            buffer.out(line, port, flags: TCPFlags.syn.rawValue, Load(frames: 1, bytes: 66), first: next + 2000, last: next + 2000)
            buffer.out(line, port, flags: 0x18, Load(frames: 2, bytes: 180), first: next + 3000, last: next + 9000)
            next += Int(Double(Span.minute) / (attack.rate ?? 6) * (0.5 + random.unit()))
        }
    }

    /// A laptop opens HSMS to one tool after the other; `rate` a minute, 4.
    private mutating func pretend(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        while next < end {
            let tool = field.tools[number % field.tools.count]
            number += 1
            if let line = line(source, tool, UInt16(5000 + random.below(3)), field) {
                if field.isOpen(tool, line.port) {
                    // One host at a time: most tools hang up on the second, at the latest after T7.
                    let length = random.chance(0.7) ? random.between(5, 40) * Span.millisecond : 10 * Span.second
                    buffer.connection(line, port: port(), at: next, lasting: length, out: .payload(28), back: .payload(14), outcome: .cut, random: &random)
                } else {
                    probe(line, at: next, field, tries: 3, &buffer)
                }
            }
            next += Int(Double(Span.minute) / (attack.rate ?? 4) * (0.5 + random.unit()))
        }
    }

    // MARK: - Reporting home

    /// HTTPS to one address outside; every `rate` minutes, 30, a fifth early or late.
    private mutating func call(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        while next < end {
            buffer.connection(
                line(source, target, 443, attack.label), port: port(), at: next, lasting: 400 * Span.millisecond, out: .payload(700),
                back: .payload(1400), random: &random)
            next += Int((attack.rate ?? 30) * Double(Span.minute) * (0.8 + 0.4 * random.unit()))
        }
    }

    /// Data hidden in a share that the tool may use: no allowlist sees it. `rate` an hour, 2.
    private mutating func hide(_ end: Int, _ field: borrowing Battlefield, _ buffer: inout RecordBuffer) {
        while next < end {
            if let line = line(source, target, UInt16(number), field) {
                buffer.connection(
                    line, port: port(), at: next, lasting: 20 * Span.second, out: .payload(20_000_000), back: .payload(90_000), random: &random)
            }
            next += Int(random.exponential(mean: Double(Span.hour) / (attack.rate ?? 2))) + 1
        }
    }

    /// The port that `hide` uses.
    fileprivate mutating func use(_ port: UInt16) { number = Int(port) }
}

/// What attackers find: which addresses there are, and who answers.
struct Battlefield: Sendable {
    let truth: FabTruth
    let includesCovert: Bool
    /// Of every subnet, used or not.
    let addresses: [UInt32]
    let tools: [Endpoint]
    private let open: Set<UInt64>
    private let devices: [UInt32: Endpoint]
    private let vulnerable: Set<UInt32>

    init(_ plan: FabPlan) {
        truth = plan.truth
        includesCovert = plan.scenario.includesCovert
        tools = plan.tools.map(\.main)
        devices = Dictionary(uniqueKeysWithValues: plan.truth.devices.map { ($0.address, $0.endpoint) })
        var subnets: Set<UInt32> = []
        for device in plan.truth.devices where device.role != .stranger { subnets.insert(device.address >> 8) }
        addresses = subnets.sorted().flatMap { subnet in (1...254).map { subnet << 8 | $0 } }
        var random = SplitMix(seed: plan.scenario.seed, stream: .max)
        var open = plan.open, vulnerable: Set<UInt32> = []
        // Windows has its shares and consoles on, whether anybody uses them or not.
        for tool in plan.tools where tool.isWindows {
            for port in [135, 139, 445, 3389] as [UInt64] { open.insert(UInt64(tool.main.address) << 16 | port) }
            if random.chance(0.5) { vulnerable.insert(tool.main.address) }
        }
        self.open = open
        self.vulnerable = vulnerable
    }

    func exists(_ endpoint: Endpoint) -> Bool { devices[endpoint.address] != nil }
    func isOpen(_ endpoint: Endpoint, _ port: UInt16) -> Bool { open.contains(UInt64(endpoint.address) << 16 | UInt64(port)) }
    func isVulnerable(_ endpoint: Endpoint) -> Bool { vulnerable.contains(endpoint.address) }
    /// An address that nobody has gets no answer, so that its MAC does not matter.
    func endpoint(_ address: UInt32) -> Endpoint { devices[address] ?? Endpoint(address: address, mac: 0) }
}

extension FabPlan {
    mutating func addAttackers() {
        let gateway = device("gateway", .stranger, Self.address(10, 0, 1))
        for (n, attack) in scenario.attacks.enumerated() {
            let tool = tools[attack.tool % tools.count].main
            // Not of the streams' numbers: those stay what they are.
            let random = SplitMix(seed: scenario.seed, stream: .max - 1 - UInt64(n))
            switch attack.label {
            case .scan, .attack(.rogueHost), .attack(.spoofing):
                let laptop = device("attacker-\(n)", .stranger, Self.address(30, 0, 240 - n))
                attackers.append(Attacker(attack, source: laptop, target: hosts[0].primary, random: random))
            case .attack(.beacon):
                // TEST-NET-3 (RFC 5737).
                let outside = 203 << 24 | 113 << 8 | UInt32(10 + n)
                attackers.append(Attacker(attack, source: tool, target: Endpoint(address: outside, mac: gateway.mac), random: random))
            case .covert:
                let known = truth.conversations.first { $0.client == tool.address && $0.service.ipProtocol == .tcp && $0.service.count == 1 }
                guard scenario.includesCovert, let known, let mac = truth.macs[known.server] else { continue }
                var attacker = Attacker(attack, source: tool, target: Endpoint(address: known.server, mac: mac), random: random)
                attacker.use(known.service.low.rawValue)
                attackers.append(attacker)
            default:
                attackers.append(Attacker(attack, source: tool, target: tool, random: random))
            }
        }
    }
}
