// Equipment hosts and their tools: SECS/GEM over HSMS (SEMI E37).
//
// One host for every bay, with a standby. The host connects, as a rule; a few tools connect to it. 5000 is the usual
// port, but it is configured, and some tools' makers chose others.

import Frames

extension FabPlan {
    mutating func addHSMS() {
        var random = random()
        for bay in 0..<bays {
            var host = HostPlan(
                primary: device("eq-host-\(bay)", .server, Self.address(10, 1, 10 + bay)),
                standby: device("eq-host-\(bay)-standby", .server, Self.address(10, 2, 10 + bay)))
            occasions(everyDays: scenario.failoverDays, &random) { time, random in
                let from = max(time, (host.failovers.last?.to ?? 0) + Span.hour)
                host.failovers.append((from, from + random.between(1, 6) * Span.hour))
            }
            hosts.append(host)
        }
        for number in tools.indices {
            planMaintenance(number, &random)
            let tool = tools[number]
            // The maker's port, now and then another.
            let usual = 5000 + Int(tool.kind.rawValue) % 3
            let port = random.chance(0.9) ? usual : random.pick([5003, 5004, 5005, 5006, 5007, 5008, 5009, 5010, 3241, 6000, 7001])
            let isActive = random.chance(0.08)
            addHSMS(tool, port: isActive ? 5100 : port, isActive: isActive, purpose: "hsms", messagesPerHour: 240, &random)
            // A second one, for dispatching or for metrology's results.
            if random.chance(0.3) {
                addHSMS(tool, port: port + 1, isActive: false, purpose: "hsms second", messagesPerHour: 40, &random)
            }
        }
    }

    private mutating func addHSMS(
        _ tool: Tool, port: Int, isActive: Bool, purpose: String, messagesPerHour: Double, _ random: inout SplitMix
    ) {
        let host = hosts[tool.bay]
        let rule = "\(purpose) bay \(tool.bay) \(isActive ? "to the host" : "port \(port)")"
        let perDay = 1 / scenario.hsmsLifeDays
        let line =
            isActive
            ? line(rule, tool.main, host.primary, .tcp, port, perDay: .infinity)
            : line(rule, host.primary, tool.main, .tcp, port, perDay: .infinity)
        if scenario.failoverDays > 0 {
            let perDay = min(perDay, 1 / scenario.failoverDays)
            _ = isActive
                ? self.line(rule, tool.main, host.standby, .tcp, port, perDay: perDay)
                : self.line(rule, host.standby, tool.main, .tcp, port, perDay: perDay)
        }
        // A link test is 14 bytes and is answered; the answer is acknowledged with what comes next, or by itself.
        let pace = Pace(
            period: random.between(30, 60) * Span.second, phase: 0, out: Load(frames: 2, bytes: 68 + 60), back: Load(frames: 1, bytes: 68),
            messagesPerHour: messagesPerHour, messageBytes: random.between(60, 400))
        var session = LongSession(line, pace, rhythm: .production, lifeDays: scenario.hsmsLifeDays, random: self.random())
        session.host = tool.bay
        session.hostIsClient = !isActive
        session.tool = tool.number
        sessions.append(session)
    }
}
