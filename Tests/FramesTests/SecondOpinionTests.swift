import Frames
import Testing
import TestSupport

/// The parser against `ObviousParser`: one answer to every frame, in all fields.
@Suite struct SecondOpinionTests {
    /// Both answers. The frame ends at a page that nobody may read.
    private static func compare(_ frame: [UInt8], wireLength: Int, _ memory: GuardedMemory) -> (headers: FrameHeaders, differences: [String]) {
        let expected = ObviousParser.parse(frame, wireLength: wireLength)
        let placed = memory.place(frame)
        var one = FrameHeaders()
        parseFrame(placed, wireLength: wireLength, into: &one)
        // The worker's way in.
        var burst = FrameHeaders()
        var available = UInt32(frame.count)
        var wire = UInt32(wireLength)
        var start = placed.baseAddress!
        parseBurst(frames: &start, available: &available, wireLengths: &wire, count: 1, into: &burst)
        return (one, one.differences(from: expected) + burst.differences(from: expected))
    }

    @Test func everyFieldIsCompared() {
        let fields = Mirror(reflecting: FrameHeaders()).children.map { $0.label ?? "" }
        #expect(FrameHeaders.comparedFields.map(\.name) == fields)
    }

    @Test func namedFramesAreJudgedAsTheirNamesSay() {
        let memory = GuardedMemory()
        var names: Set<String> = []
        for frame in FrameCorpus.frames {
            let (headers, differences) = Self.compare(frame.bytes, wireLength: frame.wireLength, memory)
            #expect(differences.isEmpty, "\(frame.name)")
            let cause = Cause.ofParser.first { $0.cause == headers.cause }?.name ?? "none"
            #expect(cause == frame.cause, "\(frame.name)")
            #expect(names.insert(frame.name).inserted, "\(frame.name) is there twice")
        }
        #expect(FrameCorpus.frames.count >= 120)
    }

    @Test func namedFramesMeetEveryCause() {
        let met = Set(FrameCorpus.frames.map(\.cause))
        for cause in Cause.ofParser { #expect(met.contains(cause.name), "\(cause.name)") }
        #expect(met.count == Cause.ofParser.count + 1)  // and none
    }

    @Test func everyPrefixOfANamedFrame() {
        let memory = GuardedMemory()
        for frame in FrameCorpus.frames where frame.bytes.count < 200 {
            for length in 0..<frame.bytes.count {
                let bytes = Array(frame.bytes.prefix(length))
                for wireLength in [length, frame.wireLength] {
                    let differences = Self.compare(bytes, wireLength: wireLength, memory).differences
                    if !differences.isEmpty { Issue.record("\(frame.name), \(length) bytes of it: \(differences)") }
                }
            }
        }
    }

    /// In parts, so that they run side by side.
    @Test(arguments: 1...6)
    func framesNobodyWouldSend(seed: Int) {
        let memory = GuardedMemory()
        var mutator = FrameMutator(seed: UInt64(seed), known: FrameCorpus.frames.map(\.bytes))
        var met: [UInt8: Int] = [:]
        for _ in 0..<50_000 {
            let (frame, wireLength) = mutator.next()
            let (headers, differences) = Self.compare(frame, wireLength: wireLength, memory)
            met[headers.cause.rawValue, default: 0] += 1
            if !differences.isEmpty {
                let hex = frame.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
                Issue.record("\(differences) for \(hex), \(wireLength) bytes on the wire")
            }
        }
        // Each outcome often enough to be worth something.
        for cause in Cause.ofParser { #expect(met[cause.cause.rawValue, default: 0] >= 20, "\(cause.name)") }
        #expect(met[0, default: 0] >= 5_000)
    }
}
