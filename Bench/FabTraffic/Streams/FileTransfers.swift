// FTP in passive mode: a control connection, and data connections to a port that the server chooses anew each time.

import Frames

struct FileTransfers: BitwiseCopyable, Sendable {
    let control: Line
    /// Its port is the first of those the server chooses from.
    let data: Line
    let ports: Int
    let perHour: Double
    let rhythm: Rhythm
    /// Of a file, in the mean.
    let bytes: Int
    /// Towards the server (logs) rather than from it (recipes).
    let isUpload: Bool
    var random: SplitMix

    mutating func step(_ hour: Hour, _ buffer: inout RecordBuffer) {
        let rate = perHour * hour.factor(rhythm)
        let chance = random.unit()
        if rate <= 0 || chance >= rate { return }
        var time = Gaps.first(chance, rate)
        while time < 1 {
            transfer(at: hour.start + Int(time * Double(Span.hour)), &buffer)
            time += random.exponential(mean: 1 / rate)
        }
    }

    /// - Parameter label: of all of it.
    mutating func transfer(at time: Int, _ buffer: inout RecordBuffer) {
        let files = random.between(1, 3)
        var lasting = Span.second
        for _ in 0..<files {
            var line = data
            line.port = UInt16(Int(data.port) + random.below(ports))
            let size = Int(Double(bytes) * (0.5 + random.unit()))
            // Some ten megabytes a second.
            let length = size / 10 + 2 * Span.millisecond
            let (full, acknowledged) = (Load.payload(size), Load(frames: size / 2920 + 1, bytes: 60 * (size / 2920 + 1)))
            buffer.connection(
                line, port: random.clientPort(), at: time + lasting, lasting: length, out: isUpload ? full : acknowledged,
                back: isUpload ? acknowledged : full, random: &random)
            lasting += length + random.between(100, 900) * Span.millisecond
        }
        buffer.connection(
            control, port: random.clientPort(), at: time, lasting: lasting, out: Load(frames: 8 + 4 * files, bytes: 80 * (8 + 4 * files)),
            back: Load(frames: 9 + 4 * files, bytes: 110 * (9 + 4 * files)), random: &random)
    }
}
