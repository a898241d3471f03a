// What comes seldom, and is missed by whoever learns for too short a time: weekly, monthly, and a tail of everything else.

import Frames

extension FabPlan {
    private static let weekly: [(name: String, port: Int, isFromTool: Bool, payload: Int)] = [
        ("backup", 10_000, false, 60_000_000), ("updates", 8530, true, 8_000_000), ("virus patterns", 8014, true, 3_000_000),
        ("inventory", 5985, false, 40_000),
    ]
    private static let monthly: [(name: String, port: Int, isFromTool: Bool, payload: Int)] = [
        ("monthly report", 8443, true, 400_000), ("change of passwords", 5986, false, 20_000), ("licence renewal", 27_000, true, 9_000),
    ]
    private static let others: [(name: String, port: Int, isFromTool: Bool, payload: Int)] = [
        ("licences", 27_001, true, 2000), ("labels", 9100, true, 30_000), ("wafer maps", 1521, true, 80_000), ("results", 1433, true, 120_000),
        ("broker", 8883, true, 900), ("process control", 9443, true, 6000), ("spare parts", 8444, true, 15_000), ("images", 104, true, 900_000),
        ("consumables", 8081, true, 4000), ("manuals", 443, true, 700_000), ("clock audit", 37, true, 100), ("remote console", 6129, false, 200_000),
        ("file index", 9200, true, 25_000), ("asset scan", 135, false, 12_000), ("energy", 1883, true, 800), ("alarm mail", 25, true, 5000),
    ]

    mutating func addRareWork() {
        var random = random()
        for tool in tools {
            for n in 0..<scenario.weeklyConversations {
                let work = Self.weekly[(n + tool.number) % Self.weekly.count]
                // Saturday or Sunday night, a few minutes for each tool.
                let first = (5 + tool.number % 2) * Span.day + random.between(0, 5 * 60) * Span.minute
                add(work, tool, every: Span.week, first: first, perDay: 1.0 / 7)
            }
            for n in 0..<scenario.monthlyConversations {
                let work = Self.monthly[(n + tool.number) % Self.monthly.count]
                let month = Int(scenario.monthDays * Double(Span.day))
                add(work, tool, every: month, first: random.below(month), perDay: 1 / scenario.monthDays)
            }
            var rest = Self.others
            for _ in 0..<min(scenario.tailConversations, rest.count) {
                let work = rest.remove(at: random.below(rest.count))
                let perDay = random.logUniform(scenario.tailLeastPerDay, scenario.tailMostPerDay)
                exchanges.append(
                    Exchanges(
                        line(work, tool, perDay: perDay), perHour: perDay / 24, out: .payload(work.isFromTool ? work.payload : 3000),
                        back: .payload(work.isFromTool ? 3000 : work.payload), lasting: Span.second, failures: scenario.failures,
                        random: self.random()))
            }
        }
    }

    private mutating func line(_ work: (name: String, port: Int, isFromTool: Bool, payload: Int), _ tool: Tool, perDay: Double) -> Line {
        let server = server(work.name)
        return work.isFromTool
            ? line(work.name, tool.main, server, .tcp, work.port, perDay: perDay)
            : line(work.name, server, tool.main, .tcp, work.port, perDay: perDay)
    }

    private mutating func add(
        _ work: (name: String, port: Int, isFromTool: Bool, payload: Int), _ tool: Tool, every period: Int, first: Int, perDay: Double
    ) {
        // What a tool fetches comes from the server, what a server saves from the tool: from whoever answers.
        exchanges.append(
            Exchanges(
                line(work, tool, perDay: perDay), every: period, jitter: 30 * Span.minute, first: first, out: .payload(work.payload / 40),
                back: .payload(work.payload), lasting: work.payload / 20 + Span.second, random: random()))
    }
}
