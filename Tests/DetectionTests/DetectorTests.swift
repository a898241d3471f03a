import Allowlist

import Foundation
import Frames
import Policy
import Testing

@testable import Baseline
@testable import Detection

@Suite struct DetectorTests {
    // MARK: - What is usual

    @Test func whatIsUsualRaisesNothing() {
        let watch = Watcher()
        for number in 0..<360 {
            let time = monday + UInt64(number) * 10 * second
            for one in UInt64(1)...10 {
                watch.see(record(host, tool(one), 5000, at: time, flags: [.psh, .ack]), record(tool(one), host, 5000, at: time + 1000, flags: [.psh, .ack], answers: true, side: .inside))
            }
        }
        #expect(watch.all.isEmpty)
    }

    /// SEMI E37, T5: a host knocks every ten seconds while its tool is down.
    @Test func knockingAtAToolThatIsDownIsNoScan() {
        let watch = Watcher()
        for number in 0..<60 { watch.see(record(host, tool(1), 5000, at: monday + UInt64(number) * 10 * second, from: UInt16(40_000 + number))) }
        #expect(watch.all.isEmpty)
    }

    /// The policy may forbid what was always done; that is a matter for its owner.
    @Test func aKnownConversationThatIsDeniedIsNoAlert() {
        let watch = Watcher()
        for number in 0..<20 { watch.see(record(tool(1), host, 21, at: monday + 8 * hour + UInt64(number) * minute, cause: .notInPolicy, side: .inside)) }
        #expect(!watch.kinds.contains { ![.missing, .silent].contains($0) })
    }

    /// A laptop that visits tools visits another one.
    @Test func whatIsAlikeIsNotNew() {
        let watch = Watcher()
        for number in UInt64(3)...9 { watch.see(record(laptop, tool(number), 3389, at: monday + number * minute, cause: .notInPolicy)) }
        #expect(watch.all.isEmpty)
    }

    // MARK: - Who acts

    /// In monitor an answer passes, though it is denied; but not to a device that is cut off.
    @Test func whatIsCutOffHasAnsweredNobody() throws {
        for (cause, isAnswered) in [(Cause.notInPolicy, true), (.quarantined, false), (.isolated, false)] {
            let watch = Watcher(mode: .monitor)
            watch.see(record(stranger, tool(1), 445, at: monday + second, cause: .notInPolicy))
            watch.see(record(tool(1), stranger, 445, at: monday + 2 * second, flags: [.syn, .ack], answers: true, cause: cause, side: .inside))
            let alerts = watch.doings
            #expect(alerts.map { $0.evidence.map(\.isAnswered) } == [[isAnswered]], "\(cause)")
        }
    }

    @Test func anUnknownDeviceIsToldAtOnceAndRises() throws {
        let watch = Watcher()
        watch.see(record(stranger, tool(1), 445, at: monday + second, cause: .notInPolicy))
        #expect(watch.raised.map(\.kind) == [.unknownDevice])
        #expect(watch.raised[0].device?.address == "10.99.0.1" && watch.raised[0].device?.isKnown == false)
        for number in UInt64(2)...9 { watch.see(record(stranger, tool(number), 445, at: monday + second + number * 1_000_000, cause: .notInPolicy)) }
        // Guesses at one port, and takes the host's address.
        for number in UInt16(0)..<100 { watch.see(record(stranger, tool(1), 22, at: monday + 2 * second + UInt64(number) * 1_000_000, from: number + 50_000, cause: .notInPolicy)) }
        watch.see(record(host, tool(1), 5000, at: monday + 3 * second, cause: .addressBinding, mac: card(stranger)))
        let alerts = watch.all
        try #require(alerts.count == 1)
        #expect(alerts[0].kind == .spoofing && alerts[0].severity == .critical)
        #expect(Set(alerts[0].behaviours.map(\.kind)) == [.unknownDevice, .scan, .spoofing])
        #expect(alerts[0].attempts == 110 && alerts[0].frames == 110)
        #expect(alerts[0].begin == Date(monday + second))
        #expect(alerts[0].story.contains("has tried 9 addresses on tcp/22, tcp/445") && alerts[0].story.contains("none answered; all denied") && alerts[0].story.contains("10.10.0.1"))
        #expect(watch.raised.count == 1)
    }

    /// Of a frame that no rule allows the cause is just that; whose address it is the policy knows all the same.
    @Test func whoScansUnderABoundAddressForgesIt() throws {
        let document = try #require(PolicyReader.read([UInt8]("""
            version = 1
            mode = "monitor"
            [devices.mes]
            addresses = ["10.3.0.77"]
            mac = ["02:00:00:00:00:77"]
            """.utf8), now: 0).document)
        let bound = AddressWords(high: 0, low: 0x0A03_004D)
        let watch = Watcher(policy: PolicyView(document))
        for number in UInt64(1)...12 { watch.see(record(bound, tool(number), 445, at: monday + number * 1_000_000, cause: .notInPolicy, mac: card(stranger))) }
        let alerts = watch.all
        try #require(alerts.count == 1)
        #expect(alerts[0].kind == .spoofing && alerts[0].device?.address == nil && alerts[0].device?.mac == card(stranger).written)
    }

    @Test func anUnknownDeviceIsToldByItsARP() {
        let watch = Watcher()
        watch.see(record(stranger, tool(1), 0, at: monday, flags: [], form: .arp))
        #expect(watch.kinds == [.unknownDevice])
    }

    @Test func whoeverOnlyAnswersIsNotTold() {
        let watch = Watcher(mode: .monitor)
        watch.see(record(stranger, tool(1), 445, at: monday, flags: [.rst, .ack], answers: true))
        #expect(watch.doings.isEmpty)
    }

    @Test(arguments: [false, true]) func aKnownDeviceThatLooksForWhatIsNotThereScans(isSlow: Bool) {
        let watch = Watcher()
        for number in UInt64(0)..<8 {
            watch.see(record(host, address(10, 10, 0, 100 + number), 445, at: monday + number * (isSlow ? hour : second), cause: .notInPolicy))
        }
        #expect(watch.doings.count == 1 && watch.doings[0].behaviours.contains { $0.kind == (isSlow ? .slowScan : .scan) })
        #expect(watch.doings[0].device?.isKnown == true)
    }

    /// Allowed, and nobody answers: a range that a rule gives away.
    @Test func whatIsAllowedAndNotThereIsAScanToo() {
        let watch = Watcher()
        for number in UInt64(0)..<6 { watch.see(record(host, address(10, 20, 1, number + 1), 5000, at: monday + number * second)) }
        watch.tick(monday + 20 * second)
        #expect(watch.kinds == [.scan])
    }

    @Test func whatIsAllowedAndAnsweredIsNone() {
        let watch = Watcher()
        for number in UInt64(0)..<20 {
            let other = address(10, 20, 1, number + 1)
            watch.see(record(host, other, 5000, at: monday + number * second), record(other, host, 5000, at: monday + number * second + 1000, flags: [.syn, .ack], answers: true))
        }
        watch.tick(monday + minute)
        #expect(!watch.kinds.contains(.scan))
    }

    @Test func manyPortsOfOneHostAreAScan() {
        let watch = Watcher()
        for port in UInt16(1)...12 { watch.see(record(laptop, tool(9), 6000 + port, at: monday + UInt64(port) * second, cause: .notInPolicy)) }
        #expect(watch.all.count == 1 && watch.all[0].behaviours.contains { $0.kind == .scan })
    }

    @Test func fromToolToToolIsLateral() {
        let watch = Watcher()
        watch.see(record(tool(1), tool(2), 445, at: monday, cause: .notInPolicy, side: .inside))
        #expect(watch.kinds == [.lateralMovement])
        #expect(watch.all[0].techniques.map { $0.ids[0].id } == ["T0886", "T0866"])
        #expect(watch.all[0].device?.role == "equipment")
    }

    @Test func aNetworkThatNobodyKnowsIsNew() {
        let watch = Watcher()
        watch.see(record(tool(1), address(203, 0, 113, 9), 443, at: monday, cause: .notInPolicy, side: .inside))
        #expect(watch.kinds == [.newConversation])
    }

    @Test func whatComesBackRegularlyIsABeacon() {
        let watch = Watcher()
        for number in UInt64(0)..<20 {
            let jitter = number * 7919 % 100
            watch.see(record(tool(1), address(203, 0, 113, 9), 443, at: monday + (number * 1800 + jitter) * second, from: UInt16(40_000 + number), cause: .notInPolicy, side: .inside))
        }
        #expect(watch.doings.count == 1 && watch.doings[0].kind == .beacon && watch.doings[0].story.contains("203.0.113.9 tcp/443 every 30 min"), "\(watch.doings.map(\.story))")
    }

    @Test func aWormIsOneAlert() throws {
        let watch = Watcher()
        var time = monday
        // One after the other begins what was done to it.
        for infected in UInt64(1)...6 {
            for number in UInt64(1)...10 where number != infected {
                time += 100_000_000
                watch.see(record(tool(infected), tool(number), 445, at: time, cause: .notInPolicy, side: .inside))
            }
        }
        try #require(watch.raised.count == 1)
        #expect(watch.all[0].device?.address == "10.20.0.1")
        #expect(watch.all[0].others.compactMap(\.address) == (2...6).map { "10.20.0.\($0)" })
        #expect(watch.all[0].attempts == 54)
    }

    // MARK: - Addresses

    @Test(arguments: [FrameForm.ipv4, .arp]) func anotherCardWithAKnownAddressIsForged(form: FrameForm) {
        let watch = Watcher()
        watch.see(record(host, tool(1), 5000, at: monday, flags: .ack))
        watch.see(record(host, tool(1), form == .arp ? 0 : 5000, at: monday + second, flags: form == .arp ? [] : .syn, mac: card(stranger), form: form))
        #expect(watch.kinds == [.spoofing])
        #expect(watch.all[0].device?.mac == card(stranger).written && watch.all[0].confidence >= 0.9)
    }

    /// The card was replaced: told once, and believed after an hour.
    @Test func aReplacedCardIsBelievedInTheEnd() {
        let watch = Watcher()
        for number in UInt64(0)..<240 { watch.see(record(host, tool(1), 5000, at: monday + number * minute, flags: .ack, mac: MACAddress(rawValue: 0x02_99_00_00_00_01))) }
        watch.tick(monday + 5 * hour)
        #expect(watch.all.filter { $0.kind == .spoofing }.count == 1 && watch.all.first { $0.kind == .spoofing }?.end != nil)
        #expect(watch.all.first { $0.kind == .spoofing }!.confidence < 0.9)
    }

    @Test func aKnownCardOnTheOtherSideIsTold() {
        let watch = Watcher()
        watch.see(record(host, tool(1), 5000, at: monday, flags: .ack), record(host, tool(1), 5000, at: monday + second, flags: .ack, side: .inside))
        #expect(watch.kinds == [.wrongSide])
    }

    @Test func aRoutersCardStandsForMany() {
        let router = MACAddress(rawValue: 0x02_77_00_00_00_01)
        var made = history()
        for number in UInt64(1)...8 {
            let far = address(172, 16, number, 1)
            made.conversations.append(conversation(far, host, 443))
            made.addresses.append(
                RecordedAddress(
                    address: LearntAddress(address: far, family: .ipv4, vlan: .untagged, mac: router, side: .outside), first: monday - 14 * 24 * hour, last: monday - second))
        }
        let watch = Watcher(Norms(made))
        watch.see(record(address(172, 16, 1, 1), host, 443, at: monday, mac: MACAddress(rawValue: 0x02_77_00_00_00_02)))
        #expect(watch.all.isEmpty)
        // Whoever comes from behind it and is not known, is not the router.
        watch.see(record(address(172, 16, 99, 9), host, 445, at: monday + second, cause: .notInPolicy, mac: router))
        #expect(watch.all.map { $0.device?.address } == ["172.16.99.9"] && watch.all[0].device?.mac == nil)
    }

    // MARK: - Floods

    enum Forgery: CaseIterable { case nothing, addresses, cards }

    @Test(arguments: Forgery.allCases) func aFloodIsFewAlertsInBoundedMemory(forgery: Forgery) {
        let watch = Watcher()
        for number in UInt64(0)..<200_000 {
            let source = forgery == .nothing ? stranger : address(172, number >> 16 & 255, number >> 8 & 255, number & 255)
            let target = address(10, 20, number * 7919 >> 8 & 255, number * 7919 & 255)
            watch.detector.observe(
                record(
                    source, target, UInt16(truncatingIfNeeded: number * 31), at: monday + number * 10_000, cause: .notInPolicy,
                    mac: forgery == .cards ? MACAddress(rawValue: 0x02_66_00_00_00_00 | number) : card(stranger)))
            if number % 1000 == 0 { watch.tick(monday + number * 10_000) }
        }
        let alerts = watch.all
        // Of forged cards the first ones were told before there were many.
        #expect(alerts.count <= (forgery == .cards ? 2 : 1) && watch.raised.count == alerts.count)
        #expect(alerts.reduce(0) { $0 + $1.frames } == 200_000)
        #expect(watch.detector.actors.count <= 8 && watch.detector.contacts.all.count <= 8 * Actor.mostContacts)
        #expect(watch.detector.actors.allSatisfy { $0.peers.count <= Actor.mostPeers && $0.services.count <= Actor.mostServices && $0.sources.count <= Actor.mostAddresses })
        #expect(alerts.allSatisfy { $0.evidence.count <= 8 && $0.story.utf8.count < 1000 })
        #expect(forgery != .cards || alerts.contains { $0.device?.isMany == true && $0.severity >= .high })
    }

    @Test func contactsAreBounded() {
        let watch = Watcher(Norms(), mode: .monitor)
        for number in UInt64(0)..<100_000 { watch.detector.observe(record(address(11, 0, number >> 8, number & 255), tool(1), UInt16(number % 60_000) + 1, at: monday + number * 1000)) }
        #expect(watch.detector.contacts.all.count == Contacts.most)
        watch.tick(monday + hour)
    }

    // MARK: - Time

    @Test func anAlertEndsAndComesBackAsTheSame() throws {
        let watch = Watcher()
        watch.see(record(stranger, tool(1), 445, at: monday, cause: .notInPolicy))
        watch.tick(monday + 2 * hour)
        #expect(watch.ended.map(\.end) == [Date(monday)])
        watch.see(record(stranger, tool(1), 445, at: monday + 3 * hour, from: 40_001, cause: .notInPolicy))
        #expect(watch.doings.count == 1 && watch.doings[0].end == nil && watch.doings[0].attempts == 2)
        watch.tick(monday + 6 * hour)
        watch.tick(monday + 180 * hour)
        watch.see(record(stranger, tool(1), 445, at: monday + 190 * hour, from: 40_002, cause: .notInPolicy))
        #expect(watch.raisedDoings.count == 2)
    }

    @Test func anAlertIsTakenUpAgain() {
        let first = Watcher()
        first.see(record(stranger, tool(1), 445, at: monday, cause: .notInPolicy))
        let second = Watcher(alerts: first.all, nextAlert: 2)
        second.see(record(stranger, tool(2), 445, at: monday + minute, cause: .notInPolicy))
        #expect(second.raised.isEmpty && second.all.map(\.id) == [1] && second.all[0].attempts == 2 && second.all[0].begin == Date(monday))
        second.see(record(address(10, 99, 0, 2), tool(2), 445, at: monday + 2 * minute, cause: .notInPolicy))
        #expect(second.raised.map(\.id) == [2])
    }

    @Test func aConversationOutOfItsHoursIsTold() {
        let watch = Watcher()
        watch.see(record(tool(1), host, 21, at: monday + 12 * hour, side: .inside))
        #expect(watch.doings.isEmpty)
        // 18:59 is its last; two hours are left for a clock that is set.
        watch.see(record(tool(1), host, 21, at: monday + 20 * hour + 30 * minute, side: .inside))
        #expect(!watch.kinds.contains(.outOfHours))
        watch.see(record(tool(1), host, 21, at: monday + 23 * hour, side: .inside))
        #expect(watch.kinds.contains(.outOfHours))
    }

    @Test func whatHasNoHoursIsNotHeldToAny() {
        // Seen now and then: that it was never seen at night is chance.
        let rare = conversation(tool(1), address(10, 10, 0, 9), 8443, hours: { [8...9, 14...15, 19...19, 11...12][$0 % 4] })
        let watch = Watcher(Norms(history([rare])))
        watch.see(record(tool(1), address(10, 10, 0, 9), 8443, at: monday + 2 * hour, side: .inside))
        #expect(!watch.kinds.contains(.outOfHours))
    }

    @Test func farMoreThanEverIsTold() {
        let watch = Watcher()
        watch.see(record(tool(1), host, 21, at: monday + 12 * hour, flags: .ack, side: .inside, bytes: 350_000))
        #expect(!watch.kinds.contains(.volume))
        watch.see(record(tool(1), host, 21, at: monday + 13 * hour, flags: .ack, side: .inside, bytes: 50_000_000))
        #expect(watch.kinds.contains(.volume))
        // It goes on, and into the next day.
        for number in UInt64(0)..<30 { watch.see(record(tool(1), host, 21, at: monday + 14 * hour + number * 30 * minute, flags: .ack, side: .inside, bytes: 20_000_000)) }
        let told = watch.all.filter { $0.kind == .volume }
        #expect(told.count == 1)
        let story = told[0].story
        #expect(story.contains("on 2026-01-19 UTC: 270,350,000 bytes, where 1,048,576 were much") && story.contains("on 2026-01-20 UTC: 140,000,000 bytes"), "\(story)")
        #expect(story.components(separatedBy: "moved far more").count == 3, "\(story)")
    }

    // MARK: - Silence

    private func poll(_ watch: Watcher, _ tools: [UInt64], from begin: UInt64, until end: UInt64) {
        var time = begin
        while time < end {
            for one in tools { watch.see(record(tool(one), host, 5000, at: time, flags: [.psh, .ack], answers: true, side: .inside)) }
            time += minute
        }
    }

    @Test func aPollThatStopsIsMissedAndComesBack() throws {
        // Time servers are asked, too: the tool is not gone.
        let more = (1...10).map { conversation(tool($0), address(10, 10, 0, 5), 8080, every: 60) }
        let watch = Watcher(Norms(history(more)))
        func others(_ begin: UInt64, _ end: UInt64) {
            var time = begin
            while time < end {
                for one in UInt64(1)...10 {
                    watch.see(record(address(10, 10, 0, 5), tool(one), 8080, at: time, flags: [.psh, .ack], answers: true))
                    if one != 3 || time > monday + 50 * minute { watch.see(record(tool(one), host, 5000, at: time, flags: [.psh, .ack], answers: true, side: .inside)) }
                }
                time += minute
            }
        }
        others(monday, monday + 40 * minute)
        try #require(watch.raised.map(\.kind) == [.missing])
        #expect(watch.raised[0].device?.address == "10.20.0.3" && watch.raised[0].story.contains("10.10.0.1 → 10.20.0.3 tcp/5000"))
        others(monday + 40 * minute, monday + 60 * minute)
        #expect(watch.ended.map(\.kind) == [.missing])
    }

    @Test func aHostThatIsGoneIsOneAlert() {
        let watch = Watcher()
        poll(watch, Array(1...10), from: monday, until: monday + 10 * minute)
        for number in UInt64(10)...20 { watch.tick(monday + number * minute) }
        #expect(watch.all.isEmpty)
        for number in UInt64(21)...26 { watch.tick(monday + number * minute) }
        // All that is expected here stopped at once.
        #expect(watch.all.map(\.kind) == [.silent] && watch.all[0].device == nil)
    }

    @Test func aToolThatIsGoneIsOneAlert() {
        let more = (1...10).map { conversation(tool($0), address(10, 10, 0, 5), 8080, every: 60) }
        let watch = Watcher(Norms(history(more)))
        var time = monday
        while time < monday + 40 * minute {
            for one in UInt64(1)...10 where one != 3 {
                watch.see(record(address(10, 10, 0, 5), tool(one), 8080, at: time, flags: [.psh, .ack], answers: true))
                watch.see(record(tool(one), host, 5000, at: time, flags: [.psh, .ack], answers: true, side: .inside))
            }
            time += minute
        }
        #expect(watch.all.map(\.kind) == [.silent] && watch.all[0].device?.address == "10.20.0.3")
    }

    /// The clock was set, forward or back: nobody has gone silent.
    @Test(arguments: [-400.0, 400.0]) func aClockThatIsSetSilencesNobody(days: Double) {
        let watch = Watcher()
        poll(watch, Array(1...10), from: monday, until: monday + 10 * minute)
        let then = UInt64(Double(monday) + days * 86_400e9)
        for number in UInt64(0)..<30 {
            watch.tick(then + number * minute)
            for one in UInt64(1)...10 { watch.see(record(tool(one), host, 5000, at: then + number * minute, flags: [.psh, .ack], answers: true, side: .inside)) }
        }
        #expect(watch.all.isEmpty)
        // And who does go silent is missed all the same.
        for number in UInt64(30)..<60 { watch.tick(then + number * minute) }
        #expect(watch.kinds == [.silent])
    }

    // MARK: - The bridge

    @Test func failuresAndPoliciesAreTold() {
        let watch = Watcher()
        watch.detector.observe(.policyChanged(name: "bay", version: 2, mode: "enforce", rules: 3), at: monday)
        watch.detector.observe(.policyChanged(name: "bay", version: 3, mode: "enforce", rules: 4), at: monday + minute)
        watch.detector.observe(.failureEntered(cause: "worker dead", frames: "dropped", times: 1), at: monday + 2 * minute)
        watch.tick(monday + 2 * minute)
        #expect(watch.raised.map(\.kind) == [.policyChanged, .bridgeFailure] && watch.raised.allSatisfy { $0.device == nil })
        #expect(watch.raised[0].story.contains("version 2") && watch.raised[0].story.contains("version 3"))
        watch.detector.observe(.failureLeft(cause: "worker dead", lasted: "80 ms"), at: monday + 3 * minute)
        watch.tick(monday + 4 * minute)
        #expect(watch.ended.map(\.kind) == [.bridgeFailure])
        watch.detector.observe(.policyChanged(name: "bay", version: 4, mode: "enforce", rules: 4), at: monday + hour)
        watch.tick(monday + hour)
        #expect(watch.raisedDoings.map(\.kind) == [.policyChanged, .bridgeFailure, .policyChanged])
    }

    @Test func inLearnModeOnlyWhatIsNeverRightIsTold() {
        let watch = Watcher(mode: .learn)
        watch.see(record(stranger, tool(1), 8080, at: monday), record(tool(1), stranger, 8080, at: monday + 1000, flags: [.syn, .ack], answers: true, side: .inside))
        watch.see(record(tool(1), tool(2), 445, at: monday + second, side: .inside), record(tool(2), tool(1), 445, at: monday + second, flags: [.syn, .ack], answers: true, side: .inside))
        watch.tick(monday + hour)
        #expect(watch.all.isEmpty)
        for number in UInt64(1)...8 { watch.see(record(stranger, address(10, 20, 3, number), 445, at: monday + 2 * hour + number * second)) }
        watch.tick(monday + 2 * hour + minute)
        #expect(watch.kinds == [.scan])
    }

    /// Without a day of history everybody is new.
    @Test func withoutAHistoryOnlyDenialsAndScansAreTold() {
        let watch = Watcher(Norms())
        watch.see(record(stranger, tool(1), 0, at: monday, flags: [], form: .arp))
        #expect(watch.all.isEmpty)
        watch.see(record(stranger, tool(1), 445, at: monday + second, cause: .notInPolicy))
        #expect(watch.kinds == [.unknownDevice])
    }

    /// Why: a tool that turns to another in the first hour of a policy is an attack as it is in its second week; a network's broadcast is not.
    @Test(arguments: [Mode.enforce, .monitor])
    func fromToolToToolIsToldFromTheFirstHour(mode: Mode) {
        var young = history()
        young.hours = Array(young.hours.suffix(2))
        let watch = Watcher(Norms(young), mode: mode)
        watch.see(record(tool(1), tool(2), 5000, at: monday, cause: .notInPolicy, side: .inside))
        watch.see(record(tool(3), address(10, 20, 0, 255), 138, at: monday + second, cause: .notInPolicy, side: .inside, ipProtocol: .udp))
        watch.see(record(tool(4), host, 7777, at: monday + 2 * second, cause: .notInPolicy, side: .inside))
        #expect(watch.kinds == (mode == .enforce ? [.lateralMovement] : []))
    }

    @Test func whatScannedWhileItWasLearntIsNotKnown() {
        var made = history()
        // Scanned all of yesterday, and was denied.
        for number in UInt64(1)...9 {
            var one = conversation(address(10, 30, 0, 9), address(10, 20, 7, number), 445, hours: { $0 == 13 ? 3...3 : nil })
            one.days[0].answered = 0
            one.days[0].denied = 10
            made.conversations.append(one)
        }
        let watch = Watcher(Norms(made))
        watch.see(record(address(10, 30, 0, 9), address(10, 20, 7, 1), 445, at: monday, cause: .notInPolicy))
        #expect(watch.kinds == [.unknownDevice])
    }
}

@Suite struct AlertStoreTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("alerts-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    @Test func whatIsWrittenIsRead() throws {
        let watch = Watcher()
        watch.see(record(stranger, tool(1), 445, at: monday, cause: .notInPolicy), record(tool(1), tool(2), 445, at: monday, cause: .notInPolicy, side: .inside))
        let alerts = watch.all
        try withFolder { folder in
            let store = try AlertStore(directory: folder)
            try store.write(alerts)
            #expect(try AlertStore(directory: folder, mayMake: false).read(since: nil) == alerts && store.lastID() == 2)
            #expect(try store.acknowledge(2, Acknowledgement(at: Date(monday), who: "ana", why: "a test")))
            #expect(try !store.acknowledge(3, Acknowledgement(at: Date(monday), who: "ana", why: "a test")))
            // It goes on: what was said of it stays.
            try store.write(alerts)
            #expect(try store.read(2)?.acknowledged?.why == "a test" && store.read(1)?.acknowledged == nil)
            #expect(try store.read(since: Date(monday + 3600 * second)).isEmpty)
            try store.endForgotten(before: Date(monday + second))
            #expect(try store.read(since: nil, onlyOpen: true).isEmpty && store.read(1)?.end == Date(monday))
            try store.trim(now: Date(monday + 401 * 24 * hour))
            #expect(try store.read(since: nil).isEmpty)
        }
    }

    @Test func everyKindHasItsWords() {
        for kind in AlertKind.allCases {
            #expect(!kind.text.isEmpty && kind.rawValue.allSatisfy { $0.isLowercase || $0 == "-" })
            for technique in kind.techniques { #expect(technique.ids.map(\.version) == ["18.1", "19"] && technique.relation == "consistent with") }
        }
    }

    @Test func everyKeyIsReadAsItIsWritten() {
        for key in [
            ActorKey(.mac, mac: card(stranger)), ActorKey(.address, address: stranger), ActorKey(.side, side: .inside), ActorKey(.side), ActorKey(.silent, address: stranger),
            ActorKey(.silent), ActorKey(.bridge), ActorKey(.policy), ActorKey(.address, address: AddressWords(high: 0xFD00_0000_0000_0000, low: 1)),
        ] { #expect(ActorKey(text: key.text) == key) }
        for text in ["", "mac", "mac 1", "address x", "tool 1"] { #expect(ActorKey(text: text) == nil) }
    }
}
