import ArgumentParser
import Baseline
import Captures
import Foundation
import Frames

struct Learn: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Learn conversations from captures.",
        discussion: """
            Adds what the captures show to the history in the state directory, as 'sekisho run --mode learn' does with live traffic. \
            A capture that was learnt before is passed over.
            """)

    @Argument(help: "Captures: pcap or pcapng.") var captures: [String]
    @Option(help: "State directory; made if it is not there.") var state: String

    func validate() throws {
        if captures.isEmpty { throw ValidationError("give at least one capture") }
    }

    func run() throws {
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state)
            for path in captures { try learn(path, store) }
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
    }

    private func learn(_ path: String, _ store: HistoryStore) throws(HistoryError) {
        let reader: CaptureReader
        do { reader = try CaptureReader(path) } catch { throw HistoryError(text: "\(error)") }
        let learner = Learner()
        let source = try store.addSource(kind: "capture", name: path, digest: nil)
        var feeder = CaptureLearner(learner)
        var frames = 0
        while let frame = reader.next() {
            feeder.add(frame.bytes, wireLength: frame.wireLength, at: UInt64(max(0, frame.seconds)) &* 1_000_000_000 &+ UInt64(frame.nanoseconds))
            frames += 1
            if frames % 4_000_000 == 0 { try store.write(learner, source: source) }
        }
        feeder.flush()
        learner.finish()
        try store.write(learner, source: source)
        if let warning = reader.warning { Output.error("warning: \(warning)") }
        print("\(path): \(Output.grouped(learner.counts.frames)) frames, \(Output.grouped(UInt64(learner.count))) conversations")
    }
}
