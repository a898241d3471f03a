// What every computer does: the time, names, logs, network management, the directory, and ARP.

import Frames

extension FabPlan {
    mutating func addHousekeeping() {
        var random = random()
        let times = [server("ntp-1"), server("ntp-2")], names = [server("dns-1"), server("dns-2")]
        let syslog = server("syslog"), management = server("snmp"), directories = [server("directory-1"), server("directory-2")]
        for tool in tools {
            // The second time server is asked now and then, to compare.
            for (rank, server) in times.enumerated() {
                let period = scenario.ntpSeconds * Span.second * (rank == 0 ? 1 : 32)
                let line = line("ntp", tool.main, server, .udp, 123, perDay: Double(Span.day) / Double(period))
                exchanges.append(
                    Exchanges(
                        line, every: period, jitter: 3 * Span.second, out: Load(frames: 1, bytes: 90), back: Load(frames: 1, bytes: 90),
                        isSymmetric: !tool.isWindows || rank == 0, failures: scenario.failures, random: self.random()))
            }
            // The second name server only when the first is slow.
            for (server, perHour) in [(names[0], 1.5), (names[1], 0.02)] {
                let line = line("dns", tool.main, server, .udp, 53, perDay: perHour * 24)
                exchanges.append(
                    Exchanges(
                        line, perHour: perHour, out: Load(frames: 1, bytes: 80), back: Load(frames: 1, bytes: 140), failures: scenario.failures,
                        random: self.random()))
            }
            let log = line("syslog", tool.main, syslog, .udp, 514, perDay: 30)
            exchanges.append(Exchanges(log, perHour: 1.5, rhythm: .production, out: Load(frames: 1, bytes: 260), back: nil, random: self.random()))

            let poll = scenario.snmpSeconds * Span.second
            if let controller = tool.controller {
                let line = line("snmp", management, controller, .udp, 161, perDay: Double(Span.day) / Double(poll))
                exchanges.append(
                    Exchanges(
                        line, every: poll, jitter: 2 * Span.second, out: Load(frames: 1, bytes: 85), back: Load(frames: 1, bytes: 130),
                        failures: scenario.failures, random: self.random()))
                // Only when something is wrong: once in weeks.
                let trap = self.line("snmp traps", controller, management, .udp, 162, perDay: 0.1)
                exchanges.append(Exchanges(trap, perHour: 0.1 / 24, out: Load(frames: 1, bytes: 190), back: nil, random: self.random()))
            }
            let ping = line("ping", management, tool.main, .icmp, 8 << 8, perDay: Double(Span.day) / Double(2 * poll))
            exchanges.append(
                Exchanges(
                    ping, every: 2 * poll, jitter: Span.second, out: Load(frames: 1, bytes: 98), back: Load(frames: 1, bytes: 98),
                    random: self.random()))

            if tool.isWindows {
                let directory = directories[random.chance(0.8) ? 0 : 1]
                for (port, perHour, size) in [(88, 0.3, 1500), (389, 0.25, 3000)] {
                    let line = line("directory", tool.main, directory, .tcp, port, perDay: perHour * 24)
                    exchanges.append(
                        Exchanges(
                            line, perHour: perHour, out: .payload(size), back: .payload(size), failures: scenario.failures, random: self.random()))
                }
            }
            resolutions.append(
                AddressResolution(asker: hosts[tool.bay].primary, asked: tool.main, period: random.between(20, 60) * Span.minute, random: self.random()))
        }
    }
}

/// Who has an address, asked again whenever it was forgotten.
struct AddressResolution: BitwiseCopyable, Sendable {
    let asker: Endpoint
    let asked: Endpoint
    let period: Int
    private var next: Int
    private var random: SplitMix

    init(asker: Endpoint, asked: Endpoint, period: Int, random: SplitMix) {
        self.asker = asker
        self.asked = asked
        self.period = period
        self.random = random
        next = self.random.below(period)
    }

    mutating func step(_ hour: Hour, _ buffer: inout RecordBuffer) {
        while next < hour.end {
            buffer.arp(asker, asks: asked, label: .normal, first: next, last: next)
            let after = random.between(80, 700)
            buffer.arp(asked, asks: asker, label: .normal, first: next + after, last: next + after)
            next += period + random.below(period / 4)
        }
    }
}
