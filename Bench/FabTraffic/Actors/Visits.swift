// People at a tool for some hours: an engineer's laptop at a planned maintenance, a vendor through the jump host.

import Frames

struct Visit: Sendable {
    let from: Int
    let to: Int
    /// What the visitor may use; each is used in some of the visits.
    let screen: Line
    let tools: [Line]
    let files: FileTransfers?
    var random: SplitMix

    /// All of it, whenever its parts come.
    mutating func make(_ buffer: inout RecordBuffer) {
        // The screen, now and then closed and opened again.
        var time = from + random.between(1, 8) * Span.minute
        while time < to {
            let lasting = min(to - time, random.between(20, 150) * Span.minute)
            let seconds = lasting / Span.second
            buffer.connection(
                screen, port: random.clientPort(), at: time, lasting: lasting, out: Load(frames: 8 * seconds, bytes: 640 * seconds),
                back: Load(frames: 12 * seconds, bytes: 9000 * seconds), random: &random)
            time += lasting + random.between(2, 20) * Span.minute
        }
        for line in tools where random.chance(0.7) {
            for _ in 0..<random.between(1, 6) {
                buffer.connection(
                    line, port: random.clientPort(), at: from + random.below(to - from), lasting: random.between(2, 40) * Span.second,
                    out: .payload(random.between(500, 9000)), back: .payload(random.between(2000, 90_000)), random: &random)
            }
        }
        if var files, random.chance(0.6) {
            files.transfer(at: from + random.below(to - from), &buffer)
        }
    }
}

extension FabPlan {
    /// When the tool is taken out of production, by day on a weekday.
    mutating func planMaintenance(_ number: Int, _ random: inout SplitMix) {
        guard scenario.maintenanceFactor > 0 else { return }
        let period = Int(tools[number].kind.maintenanceDays * scenario.maintenanceFactor * Double(Span.day))
        var slot = random.below(period)
        while slot < end {
            var day = slot / Span.day
            if day % 7 > 4 { day += 7 - day % 7 }
            let from = day * Span.day + random.between(8 * 60, 14 * 60) * Span.minute
            tools[number].maintenances.append((from, from + random.between(60, 300) * Span.minute))
            slot = max(slot + period, (day + 1) * Span.day)
        }
    }

    mutating func addVisits() {
        var random = random()
        for n in 0..<max(3, min(200, scenario.tools / 12)) { laptops.append(device("laptop-\(n)", .laptop, Self.address(30, 0, 10 + n))) }
        for tool in tools {
            let kind = tool.kind
            // A few laptops know a bay; which one comes is chance.
            for maintenance in tool.maintenances {
                let laptop = laptops[(tool.bay * 3 + random.below(3)) % laptops.count]
                let perDay = 1 / (kind.maintenanceDays * scenario.maintenanceFactor * 3)
                func line(_ plan: inout FabPlan, _ port: Int, through last: Int? = nil) -> Line {
                    plan.line("maintenance \(kind)", laptop, tool.main, .tcp, port, through: last, perDay: perDay, label: .maintenance)
                }
                let screen = line(&self, tool.isWindows ? 3389 : 5900)
                let own = [line(&self, 7000 + Int(kind.rawValue) * 11), line(&self, 23)]
                let files = FileTransfers(
                    control: line(&self, 21), data: line(&self, 50_000, through: 50_099), ports: 100, perHour: 0, rhythm: .office,
                    bytes: 3_000_000, isUpload: true, random: self.random())
                visits.append(
                    Visit(from: maintenance.from, to: maintenance.to, screen: screen, tools: own, files: files, random: self.random()))
            }
            // From afar, by the maker's own host, at any time of an office day somewhere.
            let jump = jumpHost(kind)
            let perDay = scenario.vendorVisitDays > 0 ? 1 / scenario.vendorVisitDays : 0
            let coming = random.next()
            var vendor = SplitMix(seed: coming, stream: 1)
            var times: [(from: Int, to: Int)] = []
            occasions(everyDays: scenario.vendorVisitDays, &vendor) { time, random in
                times.append((time, time + random.between(30, 180) * Span.minute))
            }
            guard perDay > 0 else { continue }
            let screen = line("vendor \(kind)", jump, tool.main, .tcp, 443, perDay: perDay, label: .maintenance)
            let own = line("vendor \(kind)", jump, tool.main, .tcp, 7000 + Int(kind.rawValue) * 11, perDay: perDay, label: .maintenance)
            for time in times {
                visits.append(Visit(from: time.from, to: time.to, screen: screen, tools: [own], files: nil, random: self.random()))
            }
        }
        visits.sort { $0.from < $1.from }
    }

    private mutating func jumpHost(_ kind: ToolKind) -> Endpoint {
        let address = Self.address(40, 0, 10 + Int(kind.rawValue))
        if let mac = truth.macs[address] { return Endpoint(address: address, mac: mac) }
        return device("jump-\(kind)", .server, address)
    }
}
