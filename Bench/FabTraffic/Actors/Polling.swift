// Who asks again and again: Modbus to the sub-fab, the historian by OPC UA, and the inline link of a track to its scanner.

import Frames

extension FabPlan {
    mutating func addPolling() {
        var random = random()
        for tool in tools {
            if let controller = tool.controller {
                // Facilities' supervisors, one for some bays each; a second one looks after gas alone.
                let supervisor = server("facilities-\(tool.bay / 8)")
                let tenths = random.pick([5, 10, 10, 20, 20, 50, 100])
                sessions.append(
                    poll(line("modbus \(tool.bay / 8)", supervisor, controller, .tcp, 502, perDay: .infinity), tenths: tenths, answer: random.between(9, 259)))
                if tool.kind == .deposition || tool.kind == .implant {
                    let gas = server("gas-monitoring")
                    sessions.append(poll(line("modbus gas", gas, controller, .tcp, 502, perDay: .infinity), tenths: 50, answer: 29))
                }
            }
            if tool.kind == .clean || tool.kind == .polish || tool.kind == .metrology {
                let pace = Pace(
                    period: Span.second, phase: 0, out: Load(frames: 1, bytes: 150), back: Load(frames: 1, bytes: random.between(150, 1200)),
                    messagesPerHour: 0, messageBytes: 0)
                let line = line("opc ua", server("historian"), tool.main, .tcp, 4840, perDay: .infinity)
                sessions.append(LongSession(line, pace, lifeDays: 8, retrySeconds: 20, random: self.random()))
            }
        }
        // A wafer goes from the track to the scanner beside it and back.
        for bay in 0..<bays {
            let tracks = tools.filter { $0.bay == bay && $0.kind == .track }, scanners = tools.filter { $0.bay == bay && $0.kind == .lithography }
            for (track, scanner) in zip(tracks, scanners) {
                let pace = Pace(
                    period: 5 * Span.second, phase: 0, out: Load(frames: 2, bytes: 140), back: Load(frames: 1, bytes: 80), messagesPerHour: 400,
                    messageBytes: 120)
                let line = line("inline link \(track.number)", track.main, scanner.main, .tcp, 10_001, perDay: .infinity)
                sessions.append(LongSession(line, pace, rhythm: .production, lifeDays: 5, retrySeconds: 5, random: self.random()))
            }
        }
    }

    private mutating func poll(_ line: Line, tenths: Int, answer: Int) -> LongSession {
        // A request of 12 bytes, its answer, and an acknowledgement of that.
        let pace = Pace(
            period: tenths * 100 * Span.millisecond, phase: 0, out: Load(frames: 2, bytes: 66 + 60), back: Load(frames: 1, bytes: 54 + answer),
            messagesPerHour: 0, messageBytes: 0)
        return LongSession(line, pace, lifeDays: 3, retrySeconds: 3, random: random())
    }
}
