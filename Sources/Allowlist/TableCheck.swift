// The last gate before a table may be published: its verdicts against the linear scan's.

import Frames

/// Addresses and ports one check may compare: some 20 ms. Every exact key has been checked before; this is for what
/// lies between the keys.
private let comparisonBudget = 500_000
private let samplesAtMost = 2048

extension CompiledTable {
    /// Draws frames inside rules and just beside them, and compares.
    func checkAgainstRules() throws(TableError) {
        guard !source.rules.isEmpty else { return }
        var random = SampleGenerator()
        let memory = JudgeMemory()
        let weight = source.rules.reduce(0) { $0 + $1.clients.count + $1.servers.count + $1.services.count }
        let samples = max(16, min(samplesAtMost, comparisonBudget / max(1, weight)))
        for _ in 0..<samples {
            guard let headers = sample(&random) else { continue }
            let side: Side = Bool.random(using: &random) ? .inside : .outside
            let own = judge(headers, from: side, memory)
            let expected = source.linearScan(headers, from: side)
            guard own.cause == expected.cause else {
                throw .checkFailed("the new table and the rules disagree about a sample frame")
            }
        }
    }

    /// The verdict for headers alone. Bindings, which need the frame, are not looked at.
    public func judge(_ headers: FrameHeaders, from side: Side, _ memory: JudgeMemory) -> Verdict {
        var headers = headers
        var verdict = Verdict(rule: Verdict.noRule, cause: .none, isReply: false)
        var table = view.pointee.withoutBindings
        withUnsafePointer(to: &table) { table in
            // Never read: there are no bindings.
            var frame = UnsafeRawPointer(table)
            judgeBurst(
                table, frames: &frame, headers: &headers, count: 1, from: side, scratch: memory.scratch, verdicts: &verdict)
        }
        return verdict
    }

    /// A frame of a random rule, with one thing changed half of the time.
    private func sample(_ random: inout SampleGenerator) -> FrameHeaders? {
        let rule = source.rules.randomElement(using: &random)!
        let near = source.rules.randomElement(using: &random)!
        let mutation = Int.random(in: 0..<8, using: &random)
        guard let client = rule.clients.randomElement(using: &random),
            let server = (mutation == 1 ? near : rule).servers.randomElement(using: &random),
            client.family == server.family,
            let service = (mutation == 2 ? near : rule).services.randomElement(using: &random),
            service.applies(to: client.family)
        else { return nil }
        var headers = FrameHeaders()
        headers.form = client.family == .ipv4 ? .ipv4 : .ipv6
        headers.source = client.randomAddress(&random)
        headers.destination = server.randomAddress(&random)
        headers.ipProtocol = service.ipProtocol
        headers.destinationPort = Port(
            rawValue: UInt16.random(in: service.low.rawValue...service.high.rawValue, using: &random))
        headers.sourcePort = Port(rawValue: UInt16.random(in: 1024...65535, using: &random))
        headers.tcpFlags = Bool.random(using: &random) ? .ack : .syn
        headers.vlan = rule.vlans.randomElement(using: &random) ?? .untagged
        switch mutation {
        case 3: headers.destination.low ^= 1 << UInt64.random(in: 0..<32, using: &random)
        case 4: headers.source.low ^= 1 << UInt64.random(in: 0..<32, using: &random)
        case 5: headers.destinationPort.rawValue ^= 1 << UInt16.random(in: 0..<16, using: &random)
        case 6:
            swap(&headers.source, &headers.destination)
            swap(&headers.sourcePort, &headers.destinationPort)
        default: break
        }
        return headers
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014) from a random start: samples differ from build to build, and cost
/// no system call each.
struct SampleGenerator: RandomNumberGenerator {
    private var state = UInt64.random(in: 0...UInt64.max)

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension TableView {
    fileprivate var withoutBindings: TableView {
        TableView(
            mode: mode, version: version, exact4: exact4, exact6: exact6, labels: labels,
            references: references, etherTypes: etherTypes, bindings4: bindings4, bindings6: bindings6,
            boundMACs: boundMACs, hasBindings: false, hasSides: false, flowRules: flowRules, expecting: expecting, expectingCount: expectingCount,
            holdsWindows: holdsWindows, fullPasses: fullPasses)
    }
}

extension AddressPrefix {
    func randomAddress(_ random: inout SampleGenerator) -> AddressWords {
        let noise = AddressWords(
            high: family == .ipv4 ? 0 : random.next(), low: family == .ipv4 ? UInt64(UInt32.random(in: 0...UInt32.max, using: &random)) : random.next())
        let kept = noise.masked(to: length, family)
        // Prefix bits from the prefix, the rest from the noise.
        return AddressWords(high: words.high | noise.high ^ kept.high, low: words.low | noise.low ^ kept.low)
    }
}
