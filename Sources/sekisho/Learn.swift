import ArgumentParser
import Baseline
import Captures
import Foundation
import Frames
import Glibc

struct Learn: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Learn conversations from captures.",
        discussion: """
            Adds what the captures show to the history in the state directory, as 'sekisho run --mode learn' does with live traffic. \
            A capture that was learnt before is passed over.
            """)

    @Argument(help: "Captures: pcap or pcapng.") var captures: [String]
    @Option(help: "State directory; made if it is not there.") var state: String
    @Flag(help: "Learn captures again that were learnt before.") var again = false

    func validate() throws {
        if captures.isEmpty { throw ValidationError("give at least one capture") }
    }

    func run() throws {
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state)
            let alone = try Self.lock(state)
            defer { close(alone) }
            for path in captures { try learn(path, store) }
        } catch { throw HistoryOptions.failed(error) }
    }

    /// One at a time, or the same capture is counted twice. A running bridge may record meanwhile.
    private static func lock(_ state: String) throws(HistoryError) -> Int32 {
        let descriptor = open(state + "/history.sqlite", O_RDONLY | O_CLOEXEC)
        if descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return descriptor }
        let code = errno
        if descriptor >= 0 { close(descriptor) }
        throw HistoryError(
            text: code == EWOULDBLOCK
                ? "learning to \(state): another 'sekisho learn' is at it\n  → try again when that is done, or give both their captures at once"
                : "locking the history of \(state): \(String(cString: strerror(code)))")
    }

    private func learn(_ path: String, _ store: HistoryStore) throws(HistoryError) {
        let reader: CaptureReader
        do { reader = try CaptureReader(path) } catch { throw HistoryError(text: "\(error)") }
        let digest = try Self.digest(path)
        if !again, try store.hasSource(digest: digest) {
            return print("\(path): learnt before; nothing is counted twice (--again to do so)")
        }
        let learner = Learner()
        let source = try store.addSource(kind: "capture", name: path)
        var feeder = CaptureLearner(learner)
        var frames = 0
        var last: UInt64 = 0, jumps = 0
        let isTerminal = isatty(2) == 1
        while let frame = reader.next() {
            let time = frame.time
            // A clock that was set, or files put together in the wrong order: each frame counts on its own day.
            if time &+ 60_000_000_000 < last { jumps += 1 }
            last = time
            feeder.add(frame.bytes, wireLength: frame.wireLength, at: time)
            frames += 1
            if frames % 8192 == 0, learner.waiting > 50_000 || frames % (1 << 20) == 0 {
                try store.write(learner, source: source)
                if isTerminal { _ = writeAll(Array("\r\(path): \(Output.grouped(UInt64(frames))) frames".utf8), to: STDERR_FILENO) }
            }
        }
        ProgressLine.clear()
        learner.finish()
        try store.write(learner, source: source)
        // Only now: of one that was learnt in part, all may be learnt again.
        try store.finishSource(source, digest: digest)
        if let warning = reader.warning { Output.error("warning: \(warning)") }
        if jumps > 0 { Output.error("warning: \(path): its clock goes back \(jumps) time\(jumps == 1 ? "" : "s"); days and hours are as it says") }
        let counts = learner.counts
        var text = "\(path): \(Output.grouped(counts.frames)) frames, \(Output.grouped(UInt64(learner.count))) conversations"
        if counts.malformed > 0 { text += "; \(Output.grouped(counts.malformed)) malformed frames are not learnt from" }
        if counts.overflow > 0 { text += "; \(Output.grouped(counts.overflow)) frames of scans are only counted" }
        print(text)
    }

    /// Of the file's content; tells captures apart, and is no proof against a forger.
    private static func digest(_ path: String) throws(HistoryError) -> String {
        guard let file = FileHandle(forReadingAtPath: path) else { throw HistoryError(text: "reading the capture \(path) failed") }
        defer { try? file.close() }
        var a: UInt64 = 0xCBF2_9CE4_8422_2325, b: UInt64 = 0x9E37_79B9_7F4A_7C15, length: UInt64 = 0
        while let data = try? file.read(upToCount: 1 << 20), !data.isEmpty {
            length += UInt64(data.count)
            data.withUnsafeBytes { bytes in
                var at = 0
                while at + 8 <= bytes.count {
                    let word = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                    let product = (word ^ a).multipliedFullWidth(by: b | 1)
                    a = product.low ^ product.high
                    b = b &+ word ^ a
                    at += 8
                }
                while at < bytes.count {
                    a = (a ^ UInt64(bytes[at])) &* 0x100_0000_01B3
                    at += 1
                }
            }
        }
        return String(length, radix: 16) + "-" + String(a, radix: 16) + String(b, radix: 16)
    }
}
