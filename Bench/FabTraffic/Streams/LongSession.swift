// A connection that lives for days, falls, and is made again: HSMS, pollers, subscriptions.

import Frames

struct LongSession: BitwiseCopyable, Sendable {
    /// Its ends while the primary host serves.
    let line: Line
    let pace: Pace
    let rhythm: Rhythm
    /// Of a connection, in the mean.
    let life: Double
    /// Until it is tried again (SEMI E37: T5).
    let retry: Int
    /// In `FabPlan.hosts`, and whether that end is the client's; -1: the other end has no standby.
    var host = -1
    var hostIsClient = true
    /// In `FabPlan.tools`, whose maintenance ends the connection; -1: none.
    var tool = -1
    var random: SplitMix

    // The connection there is, or its next.
    private var current: Line
    private var port: UInt16
    private var isUp = true
    /// When it falls, or comes back.
    private var change = -1

    /// - Parameter period: of `pace`, shifted by chance.
    init(_ line: Line, _ pace: Pace, rhythm: Rhythm = .always, lifeDays: Double, retrySeconds: Int = 10, random: SplitMix) {
        var random = random
        self.line = line
        var pace = pace
        // A multiple of some microseconds, or all would poll in step.
        pace.phase = -random.below(pace.period)
        self.pace = pace
        self.rhythm = rhythm
        life = lifeDays * Double(Span.day)
        retry = retrySeconds * Span.second
        current = line
        port = random.clientPort()
        self.random = random
    }

    mutating func step(_ hour: Hour, _ plan: borrowing FabPlan, _ buffer: inout RecordBuffer) {
        // What goes on at the recording's beginning began before it.
        if change < 0 {
            isUp = random.chance(0.97)
            change = isUp ? fall(after: 0, plan) : random.below(5 * Span.minute)
        }
        var time = hour.start
        while true {
            let stop = min(hour.end, change)
            if isUp {
                buffer.carry(current, port: port, from: time, to: stop, pace, factor: hour.factor(rhythm), random: &random)
                if change >= hour.end { return }
                // Of what ends a connection, a reset is the commonest, then an orderly end; some just fall silent.
                let end = random.unit()
                if end < 0.5 {
                    buffer.out(current, port, flags: 0x14, Load(frames: 1, bytes: 60), first: stop, last: stop)
                } else if end < 0.85 {
                    buffer.close(current, port: port, at: stop, byServer: end < 0.6)
                }
                isUp = false
                change = stop + retry + Int(random.exponential(mean: Double(2 * Span.minute)))
            } else {
                // Nobody is there, or it is not ready.
                var attempt = change - (change - time) / retry * retry
                if attempt == time { attempt += retry }
                while attempt < stop {
                    let isRefused = random.chance(0.5)
                    buffer.fail(current, port: random.clientPort(), at: attempt, refused: isRefused, tries: 1)
                    attempt += retry
                }
                if change >= hour.end { return }
                current = ends(at: stop, plan)
                port = random.clientPort()
                let after = random.between(150, 800)
                buffer.open(current, port: port, at: stop, after: after)
                isUp = true
                change = fall(after: stop, plan)
            }
            time = stop
        }
    }

    private func ends(at time: Int, _ plan: borrowing FabPlan) -> Line {
        guard host >= 0 else { return line }
        var line = line
        let endpoint = plan.hosts[host].endpoint(at: time)
        if hostIsClient { line.client = endpoint } else { line.server = endpoint }
        return line
    }

    private mutating func fall(after time: Int, _ plan: borrowing FabPlan) -> Int {
        var fall = time + Span.minute + Int(random.exponential(mean: life))
        if host >= 0 { fall = min(fall, plan.hosts[host].change(after: time)) }
        // A tool is started anew some minutes into its maintenance.
        if tool >= 0, let next = plan.tools[tool].maintenances.first(where: { $0.from + 10 * Span.minute > time }) {
            fall = min(fall, next.from + 10 * Span.minute)
        }
        return fall
    }
}
