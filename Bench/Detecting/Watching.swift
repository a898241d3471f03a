// A generated fab: learn two weeks without attacks, propose, and watch the third.

import Allowlist
import Baseline
import Detection
import FabLearning
import FabTraffic
import Foundation
import Frames
import Policy

struct Watching {
    let tools: Int
    let seed: UInt64
    let options: Options

    private static let learnt = 14 * 24

    init(tools: Int, seed: UInt64, _ options: Options) {
        self.tools = tools
        self.seed = seed
        self.options = options
    }

    /// - Returns: alerts of the week without attacks.
    func run() -> Int {
        var scenario = FabScenario(tools: tools)
        scenario.seed = seed
        let calm = FabTraffic(scenario)
        scenario.attacks = FabScenario.everyAttack(from: 15 * 24)
        let attacked = FabTraffic(scenario)
        // A tool that was taken over sends 20 MB twice an hour, in a conversation that a rule allows.
        scenario.attacks = [FabAttack(.covert, start: 15 * 24, hours: 48, tool: 2)]
        scenario.includesCovert = true
        let drained = FabTraffic(scenario)
        let learner = Learner()
        var days: [LearntDay] = []
        calm.runHours(0..<Self.learnt) { records in
            for one in records { learner.learn(one.record) }
            days += learner.drain()
        }
        learner.finish()
        days += learner.drain()
        var made = history(learner, days)
        let review = Review(made)
        var proposal = Proposal(made, review)
        if options.isAttended {
            made = calm.truth.approving(made, review, proposal)
            proposal = Proposal(made, review)
        }
        let allowed = Allowed(proposal)
        let (norms, building) = timed { Norms(made) }
        print("\(tools) tools, seed \(seed), \(options.mode.name), \(options.isAttended ? "" : "un")attended: \(grouped(made.conversations.count)) conversations, norms in \(String(format: "%.2f", building)) s")
        let quiet = watch(calm, norms, allowed, title: "no attack")
        _ = watch(attacked, norms, allowed, title: "attacks")
        _ = watch(drained, norms, allowed, title: "data carried off by what a rule allows")
        print("")
        return quiet
    }

    /// A record as a bridge that stands before every device would hand it over; nil: it would not have been sent.
    private func judged(_ one: TrafficRecord, _ allowed: Allowed) -> TrafficRecord? {
        var record = one
        if allowed.breaksBinding(record) { record.cause = .addressBinding } else if !allowed.passes(record) { record.cause = .notInPolicy }
        guard options.mode == .enforce, record.cause == .notInPolicy, record.form == .ipv4 else { return record }
        // Nobody answers what did not come, and who is not answered sends no data.
        let isRequest = record.ipProtocol == .tcp ? record.tcpFlags.opensConnection
            : !record.marks.contains(.neverForward) && record.destinationPort.rawValue <= record.sourcePort.rawValue
        return isRequest || record.ipProtocol == .icmp && record.marks.contains(.neverReverse) ? record : nil
    }

    private struct Sighting {
        var begin: UInt64
        /// Who sent it: addresses and MAC addresses.
        var senders: Set<String> = []
    }

    private func watch(_ fab: FabTraffic, _ norms: Norms, _ allowed: Allowed, title: String) -> Int {
        let before = residentBytes()
        var detector = Detector(norms, policy: PolicyView(mode: options.mode))
        var outcome = Outcome()
        var told: UInt64 = 0, spent = 0.0, records = 0
        var attacks: [FabLabel: Sighting] = [:]
        var batch: [TrafficRecord] = []
        fab.runHours(Self.learnt..<Self.learnt + 7 * 24) { hour in
            batch.removeAll(keepingCapacity: true)
            for one in hour {
                guard let record = judged(one.record, allowed) else { continue }
                batch.append(record)
                if one.label.isMalicious, record.tcpFlags.opensConnection || record.form == .arp {
                    var sighting = attacks[one.label] ?? Sighting(begin: record.first)
                    sighting.begin = min(sighting.begin, record.first)
                    sighting.senders.insert(record.sourceMAC.written)
                    attacks[one.label] = sighting
                }
            }
            let (_, took) = timed {
                for record in batch {
                    if record.last >= told &+ 1_000_000_000 {
                        told = record.last
                        outcome.add(detector.tick(told), at: told, attacks)
                    }
                    detector.observe(record)
                }
            }
            spent += took
            records += batch.count
        }
        outcome.add(detector.finish(told), at: told, attacks)
        report(title, outcome, attacks, records, spent, detector.counts, max(0, residentBytes() - before))
        return outcome.raised
    }

    /// What became of alerts, without keeping all that was said of them.
    private struct Outcome {
        var latest: [Int64: Alert] = [:]
        var raised = 0
        /// Per attack: when its sender was first in an alert, when that had its name, in which alerts.
        var first: [FabLabel: UInt64] = [:]
        var named: [FabLabel: UInt64] = [:]
        var alerts: [FabLabel: Set<Int64>] = [:]

        mutating func add(_ changes: [AlertChange], at time: UInt64, _ attacks: [FabLabel: Sighting]) {
            for change in changes {
                if case .raised = change { raised += 1 }
                let alert = change.alert
                latest[alert.id] = alert
                let macs = Set(([alert.device].compactMap { $0 } + alert.others).compactMap(\.mac))
                for (label, sighting) in attacks where !macs.isDisjoint(with: sighting.senders) {
                    func isOf(_ date: Date) -> Bool { date.timeIntervalSince1970 * 1e9 >= Double(sighting.begin) - 1e9 }
                    guard isOf(alert.last) else { continue }
                    if first[label] == nil { first[label] = time }
                    alerts[label, default: []].insert(alert.id)
                    if named[label] == nil, alert.behaviours.contains(where: { Watching.meant(label).contains($0.kind) && isOf($0.last) }) { named[label] = time }
                }
            }
        }
    }

    /// Which kinds mean an attack.
    private static func meant(_ label: FabLabel) -> Set<AlertKind> {
        switch label {
        case .scan: [.scan]
        case .slowScan: [.slowScan, .scan]
        case .worm: [.scan, .lateralMovement]
        case .attack(.rogueHost): [.unknownDevice, .scan]
        case .attack(.spoofing): [.spoofing]
        case .attack(.lateral): [.lateralMovement, .scan]
        case .attack(.beacon): [.beacon]
        case .covert: [.volume]
        case .normal, .maintenance: []
        }
    }

    private func report(
        _ title: String, _ outcome: Outcome, _ attacks: [FabLabel: Sighting], _ records: Int, _ spent: Double, _ counts: DetectorCounts, _ bytes: Int
    ) {
        let latest = outcome.latest
        let kinds = Dictionary(grouping: latest.values, by: \.kind).map { "\($0.key.rawValue) \($0.value.count)" }.sorted()
        print(
            "  \(title): \(outcome.raised) alerts in 7 days, \(String(format: "%.2f", Double(outcome.raised) / 7 / Double(tools) * 100)) a day and 100 tools"
                + "\(kinds.isEmpty ? "" : " (\(kinds.joined(separator: ", ")))"); \(grouped(records)) records, \(grouped(Int(Double(records) / max(spent, 1e-9)))) a second, "
                + "\(grouped(counts.unfamiliar)) not of a known conversation; \(bytes / 1_048_576) MiB more")
        for (label, sighting) in attacks.sorted(by: { $0.value.begin < $1.value.begin }) {
            func after(_ moment: UInt64?) -> String {
                guard let moment else { return "never" }
                let seconds = max(0, (Double(moment) - Double(sighting.begin)) / 1e9)
                return seconds < 120 ? String(format: "%.1f s", seconds) : seconds < 7200 ? String(format: "%.0f min", seconds / 60) : String(format: "%.1f h", seconds / 3600)
            }
            let ids = outcome.alerts[label]?.count ?? 0
            print(
                "    \(label): first alert after \(after(outcome.first[label])), named after \(after(outcome.named[label])); "
                    + "\(sighting.senders.count) sender\(sighting.senders.count == 1 ? "" : "s"), \(ids) alert\(ids == 1 ? "" : "s")")
        }
        if options.tellsStories {
            for alert in latest.values.sorted(by: { $0.id < $1.id }) { print("    \(alert.id) \(alert.kind.rawValue), \(alert.severity.name): \(alert.story)") }
        }
    }
}
