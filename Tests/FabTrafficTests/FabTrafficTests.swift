import Allowlist
import Frames
import Testing

@testable import FabTraffic

/// Ten tools, some days, one of each attack on the third.
private func scenario(attacks: Bool = true, days: Double = 4, seed: UInt64 = 1) -> FabScenario {
    var scenario = FabScenario.small
    scenario.weeks = days / 7
    scenario.seed = seed
    scenario.edaRequestsPerHour = 10
    scenario.ntpSeconds = 256
    scenario.sliceSeconds = 600
    scenario.maintenanceFactor = 0.3
    if attacks {
        scenario.attacks = [
            FabAttack(.scan, start: 49, hours: 0.2), FabAttack(.attack(.rogueHost), start: 50, hours: 1),
            FabAttack(.attack(.spoofing), start: 51.5, hours: 1), FabAttack(.attack(.lateral), start: 53, hours: 4, tool: 3),
            FabAttack(.attack(.beacon), start: 53, hours: 30, tool: 3), FabAttack(.slowScan, start: 48, hours: 40, tool: 5),
            FabAttack(.worm, start: 60.3, hours: 0.4, tool: 1),
        ]
    }
    return scenario
}

/// FNV-1a over every byte that says something.
private struct Print: Equatable {
    private var hash: UInt64 = 0xCBF2_9CE4_8422_2325

    private mutating func add(_ value: UInt64) { hash = (hash ^ value) &* 0x100_0000_01B3 }

    mutating func add(_ one: FabRecord) {
        let record = one.record
        add(record.source.low << 32 | record.destination.low)
        add(record.first)
        add(record.last)
        add(record.bytes)
        add(record.sourceMAC.rawValue)
        add(UInt64(record.frames) << 32 | UInt64(record.sourcePort.rawValue) << 16 | UInt64(record.destinationPort.rawValue))
        add(UInt64(record.tcpFlags.rawValue) << 8 | UInt64(record.ipProtocol.rawValue))
        add(UInt64(bitPattern: Int64(one.rule)))
    }
}

private func print(_ scenario: FabScenario, hours: Range<Int>? = nil, where included: (FabRecord) -> Bool = { _ in true }) -> Print {
    var print = Print()
    FabTraffic(scenario).runHours(hours) { for one in $0 where included(one) { print.add(one) } }
    return print
}

/// The records' truth by the allowlist itself.
private final class Oracle {
    private let table: CompiledTable
    private let memory = JudgeMemory()
    private let macs: [UInt64: UInt64]

    init(_ truth: FabTruth) throws {
        macs = Dictionary(uniqueKeysWithValues: truth.devices.map { (UInt64($0.address), $0.mac.rawValue) })
        let bindings = truth.devices.map {
            AddressBinding(family: .ipv4, address: AddressWords(high: 0, low: UInt64($0.address)), macs: [$0.mac])
        }
        table = try CompiledTable.build(AllowlistSource(rules: truth.allowRules, bindings: bindings))
    }

    func verdict(_ record: TrafficRecord) -> Verdict {
        var headers = FrameHeaders()
        headers.source = record.source
        headers.destination = record.destination
        headers.sourcePort = record.sourcePort
        headers.destinationPort = record.destinationPort
        headers.etherType = record.etherType
        headers.form = record.form
        headers.ipProtocol = record.ipProtocol
        headers.tcpFlags = record.tcpFlags
        headers.marks = record.marks
        if record.form == .arp { headers.claimedMAC = record.sourceMAC }
        func bytes(_ value: UInt64, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) } }
        let receiver = macs[record.destination.low] ?? 0
        var verdict = Verdict(rule: 0, cause: .none, isReply: false)
        let frame =
            bytes(receiver, 6) + bytes(record.sourceMAC.rawValue, 6) + [8, 0] + [UInt8](repeating: 0, count: 12)
            + bytes(record.source.low, 4) + bytes(record.destination.low, 4) + [UInt8](repeating: 0, count: 20)
        frame.withUnsafeBytes { bytes in
            var base = bytes.baseAddress!
            judgeBurst(table.view, frames: &base, headers: &headers, count: 1, from: .outside, scratch: memory.scratch, verdicts: &verdict)
        }
        return verdict
    }
}

@Suite struct FabTrafficTests {
    @Test func recordsComeInOrderAndAreWhole() {
        let scenario = scenario()
        let begin = scenario.start * 1_000_000_000, end = begin + UInt64(scenario.hours) * 3_600_000_000_000
        var last = begin, count = 0
        var disordered = 0, partial = 0, misflagged = 0, unnamed = 0
        FabTraffic(scenario).run { record, _ in
            count += 1
            if record.last < last || record.first > record.last || record.last >= end || record.first < begin { disordered += 1 }
            let bytes = 60 * UInt64(record.frames)...1514 * UInt64(record.frames)
            if record.frames == 0 || !bytes.contains(record.bytes) { partial += 1 }
            if record.ipProtocol == .tcp ? !record.tcpFlags.isPossible : record.tcpFlags.rawValue != 0 { misflagged += 1 }
            let isIP = record.form == .ipv4 && record.etherType == .ipv4 && record.ipProtocol.rawValue != 0
            let isARP = record.form == .arp && record.etherType == .arp
            if !isIP && !isARP || record.side != nil || record.sourceMAC.isGroup { unnamed += 1 }
            last = record.last
        }
        #expect(count > 100_000)
        #expect([disordered, partial, misflagged, unnamed] == [0, 0, 0, 0])
    }

    @Test func theSeedDecidesEverything() {
        let small = scenario(days: 2)
        #expect(print(small) == print(small))
        #expect(print(small) != print(scenario(days: 2, seed: 2)))
    }

    @Test func aPartIsTheSameAsInTheWhole() {
        let scenario = scenario(days: 2)
        let from = (scenario.start + 30 * 3600) * 1_000_000_000, to = (scenario.start + 40 * 3600) * 1_000_000_000
        #expect(print(scenario, hours: 30..<40) == print(scenario) { $0.record.last >= from && $0.record.last < to })
    }

    @Test func attackersChangeNothingElse() {
        #expect(print(scenario()) { !$0.label.isMalicious } == print(scenario(attacks: false)))
    }

    @Test func whatIsLegitimateIsAllowedAndNothingElse() throws {
        let traffic = FabTraffic(scenario())
        let truth = traffic.truth
        let oracle = try Oracle(truth)
        var denied = 0, passed = 0, disagreed = 0, misnamed = 0, looked = 0
        traffic.runHours { hour in
            for (n, one) in hour.enumerated() where one.label.isMalicious || n % 8 == 0 {
                let isLegitimate = truth.isLegitimate(one.record)
                if one.label.isMalicious, isLegitimate { passed += 1 }
                if !one.label.isMalicious, !isLegitimate { denied += 1 }
                if one.record.form == .ipv4, (one.rule >= 0) == one.label.isMalicious { misnamed += 1 }
                // The allowlist's own code, on some.
                if n % 32 == 0 {
                    looked += 1
                    if oracle.verdict(one.record).isAllowed != isLegitimate { disagreed += 1 }
                }
            }
        }
        #expect(denied == 0 && passed == 0 && misnamed == 0)
        #expect(looked > 3000 && disagreed == 0)
    }

    @Test func everyLabelIsThereWhenItShouldBe() {
        var counts: [FabLabel: Int] = [:]
        var outside = 0
        let traffic = FabTraffic(scenario())
        traffic.run { record, label in
            counts[label, default: 0] += 1
            if label.isMalicious, record.last < (traffic.scenario.start + 48 * 3600) * 1_000_000_000 { outside += 1 }
        }
        for label in FabLabel.all where label != .covert { #expect(counts[label, default: 0] > 0, "\(label)") }
        #expect(counts[.covert] == nil && outside == 0)
        #expect(counts[.slowScan, default: 0] < 150)
        var calm: Set<FabLabel> = []
        FabTraffic(scenario(attacks: false, days: 2)).run { calm.insert($1) }
        #expect(calm.isSubset(of: [.normal, .maintenance]))
    }

    @Test func covertAttacksUseWhatARuleAllows() {
        var covert = scenario()
        covert.includesCovert = true
        covert.attacks.append(FabAttack(.covert, start: 50, hours: 10, tool: 2))
        let traffic = FabTraffic(covert)
        let truth = traffic.truth
        var counts = (all: 0, denied: 0)
        traffic.runHours(48..<70) { hour in
            for one in hour where one.label == .covert {
                counts.all += 1
                if !truth.isLegitimate(one.record) { counts.denied += 1 }
            }
        }
        #expect(counts.all > 20 && counts.denied == 0)
    }

    @Test func theWormSpreadsAndIsAnswered() {
        var sources: Set<UInt64> = [], targets: Set<UInt64> = [], answered = 0, fetched = 0
        FabTraffic(scenario()).run { record, label in
            guard label == .worm else { return }
            if record.tcpFlags.opensConnection, record.destinationPort.rawValue == 445 {
                sources.insert(record.source.low)
                targets.insert(record.destination.low)
            }
            if record.tcpFlags == [.syn, .ack] { answered += 1 }
            if record.sourcePort.rawValue == 4444, record.bytes > 1_000_000 { fetched += 1 }
        }
        #expect(sources.count > 1 && fetched == sources.count - 1)
        #expect(targets.count > 500 && answered > fetched)
    }

    @Test func hsmsTalksAtItsPace() throws {
        let traffic = FabTraffic(scenario(attacks: false, days: 2))
        let truth = traffic.truth
        let hosts = Set(truth.devices.filter { $0.name.hasPrefix("eq-host") }.map(\.address))
        // By tool and port: what the host sent in each hour.
        var frames: [UInt64: [UInt32]] = [:], opened: [UInt64: Int] = [:]
        let start = traffic.scenario.start * 1_000_000_000
        traffic.runHours { hour in
            for one in hour where one.rule >= 0 && truth.rules[Int(one.rule)].name.hasPrefix("hsms") {
                let record = one.record
                guard hosts.contains(UInt32(record.source.low)), (3000...7001).contains(record.destinationPort.rawValue) else { continue }
                let key = record.destination.low << 16 | UInt64(record.destinationPort.rawValue)
                if record.tcpFlags.opensConnection { opened[key, default: 0] += 1 }
                frames[key, default: [UInt32](repeating: 0, count: 48)][Int((record.last - start) / 3_600_000_000_000)] += record.frames
            }
        }
        #expect(frames.count >= 8)
        for (_, hours) in frames {
            // Link tests every 30 to 60 seconds, of two frames each; at most 240 messages beside them.
            #expect(hours.allSatisfy { $0 >= 100 || $0 == 0 } && hours.count { $0 == 0 } <= 1)
            #expect(hours.allSatisfy { $0 <= 240 + 2 * 300 })
        }
        // Most had been going on before, and are never seen to be opened.
        #expect(opened.count < frames.count)
    }

    @Test func aStandbyTakesOver() {
        var failing = scenario(attacks: false, days: 14)
        failing.tools = 3
        failing.failoverDays = 3
        let traffic = FabTraffic(failing)
        let standby = traffic.truth.devices.first { $0.name.hasSuffix("standby") }!.address
        var hours: Set<UInt64> = []
        traffic.run { record, _ in if record.source.low == UInt64(standby) { hours.insert(record.last / 3_600_000_000_000) } }
        #expect(hours.count > 3 && hours.count < 14 * 24 / 2)
    }

    @Test func someOfWhatIsLegitimateComesLate() {
        var long = scenario(attacks: false, days: 14)
        long.edaRequestsPerHour = 2
        long.ntpSeconds = 1024
        long.sliceSeconds = 3600
        let traffic = FabTraffic(long)
        struct Key: Hashable { var client, server: UInt64, rule: Int32, port: UInt16 }
        var seen: [Key: Int] = [:]
        let truth = traffic.truth
        let ranged = Set(truth.rules.indices.filter { truth.rules[$0].services.contains { $0.count > 1 } }.map { Int32($0) })
        traffic.runHours { hour in
            for one in hour where one.rule >= 0 && one.record.tcpFlags.opensConnection && !ranged.contains(one.rule) {
                let record = one.record
                let key = Key(
                    client: record.source.low, server: record.destination.low, rule: one.rule, port: record.destinationPort.rawValue)
                if seen[key] == nil { seen[key] = Int((record.last / 1_000_000_000 - long.start) / 86400) }
            }
        }
        let planned = truth.conversations.filter { $0.service.ipProtocol == .tcp && $0.service.count == 1 && $0.perDay.isFinite }
        #expect(planned.count > 100)
        let (day, week, all) = (seen.values.count { $0 < 1 }, seen.values.count { $0 < 7 }, seen.count)
        #expect(day < week && week < all && all < planned.count)
        // Every weekly one comes within a fortnight.
        for one in planned where one.perDay == 1.0 / 7 {
            #expect(seen[Key(client: UInt64(one.client), server: UInt64(one.server), rule: Int32(one.rule), port: one.service.low.rawValue)] != nil)
        }
    }

    @Test func rulesAreFewAndConversationsTypical() {
        let truth = FabTraffic(.large).truth
        #expect(truth.rules.count < 500)
        #expect((10...60).contains(truth.conversations.count / 1000))
        #expect(Set(truth.devices.map(\.mac)).count == truth.devices.count)
    }
}
