// Short connections and datagrams of one conversation, again and again: by a timetable, or by chance at some rate.

import Frames

struct Exchanges: BitwiseCopyable, Sendable {
    let line: Line
    let rhythm: Rhythm
    /// By chance, at full rhythm; 0: by the timetable.
    let perHour: Double
    /// Of the timetable.
    let period: Int
    let jitter: Int
    /// Next place in the timetable, and when it will really be.
    private var slot: Int
    private var next: Int

    let out: Load
    /// nil: one way only.
    let back: Load?
    /// Of a TCP connection, in the mean.
    let lasting: Int
    /// Connections at once.
    let sockets: Int
    /// The client sends from the server's port (NTP).
    let isSymmetric: Bool
    let failures: Double
    var random: SplitMix

    /// By chance.
    init(
        _ line: Line, perHour: Double, rhythm: Rhythm = .always, out: Load, back: Load?, lasting: Int = 50 * Span.millisecond,
        sockets: Int = 1, failures: Double = 0, random: SplitMix
    ) {
        self.line = line
        self.rhythm = rhythm
        self.perHour = perHour
        (period, jitter, slot, next) = (0, 0, 0, 0)
        self.out = out
        self.back = back
        self.lasting = lasting
        self.sockets = sockets
        isSymmetric = false
        self.failures = failures
        self.random = random
    }

    /// By a timetable.
    ///
    /// - Parameter first: its first place; nil: anywhere in the first period.
    init(
        _ line: Line, every period: Int, jitter: Int, first: Int? = nil, out: Load, back: Load?, lasting: Int = 50 * Span.millisecond,
        sockets: Int = 1, isSymmetric: Bool = false, failures: Double = 0, random: SplitMix
    ) {
        var random = random
        self.line = line
        rhythm = .always
        perHour = 0
        self.period = period
        self.jitter = min(jitter, period / 2)
        slot = first ?? random.below(period)
        next = slot + random.below(self.jitter)
        self.out = out
        self.back = back
        self.lasting = lasting
        self.sockets = sockets
        self.isSymmetric = isSymmetric
        self.failures = failures
        self.random = random
    }

    @inline(__always)
    mutating func step(_ hour: Hour, _ buffer: inout RecordBuffer) {
        if period > 0 {
            while next < hour.end {
                exchange(at: next, &buffer)
                slot += period
                next = slot + random.below(jitter)
            }
            return
        }
        let rate = perHour * hour.factor(rhythm)
        guard rate > 0 else { return }
        // Most of the rare ones have nothing to do: 1 - exp(-rate) < rate, and that spares the logarithm.
        let chance = random.unit()
        if chance >= rate { return }
        var time = Gaps.first(chance, rate)
        while time < 1 {
            exchange(at: hour.start + Int(time * Double(Span.hour)), &buffer)
            time += random.exponential(mean: 1 / rate)
        }
    }

    private mutating func exchange(at time: Int, _ buffer: inout RecordBuffer) {
        if line.ipProtocol == IPProtocol.icmp.rawValue { return buffer.ping(line, at: time, after: random.between(150, 900)) }
        if line.ipProtocol == IPProtocol.udp.rawValue {
            let port = isSymmetric ? line.port : random.clientPort()
            let isAnswered = !random.chance(failures)
            return buffer.datagrams(line, port: port, at: time, out: out, back: isAnswered ? back : nil, after: random.between(200, 4000))
        }
        for socket in 0..<sockets {
            // Half to one and a half times the mean.
            let size = 0.5 + random.unit()
            let outcome: Outcome = random.chance(failures) ? (random.chance(0.5) ? .unanswered : .refused) : random.chance(0.03) ? .cut : .whole
            buffer.connection(
                line, port: random.clientPort(), at: time + socket * 700, lasting: Int(Double(lasting) * (0.5 + random.unit())),
                out: out.times(size), back: (back ?? .payload(0)).times(size), outcome: outcome, random: &random)
        }
    }
}

extension Load {
    @inline(__always)
    func times(_ size: Double) -> Load { Load(frames: max(1, Int(Double(frames) * size)), bytes: Int(Double(bytes) * size)) }
}
