// Captures with a label for every packet: learn from all but one, and watch that one under the policy that was learnt.

import Allowlist
import Baseline
import Detection
import FabLearning
import Foundation
import Frames
import Policy

struct CapturesWatched {
    private let captures: [LabelledCapture]

    init(_ folder: String) throws { captures = try LabelledCapture.all(in: folder) }

    func run() throws {
        for (watched, capture) in captures.enumerated() {
            let made = try LabelledCapture.history(of: captures, without: watched)
            let allowed = Allowed(Proposal(made, Review(made)))
            let packets = try capture.packets()
            let attackers = Set(packets.filter(\.isMalicious).map(\.record.sourceMAC.written))
            for withAttack in [false, true] { watch(capture.name, packets.filter { withAttack || !$0.isMalicious }, Norms(made), allowed, attackers) }
        }
    }

    private func watch(
        _ name: String, _ packets: [(record: TrafficRecord, isMalicious: Bool)], _ norms: Norms, _ allowed: Allowed, _ attackers: Set<String>
    ) {
        var detector = Detector(norms, policy: PolicyView(mode: .enforce))
        var latest: [Int64: Alert] = [:], raisedAt: [Int64: UInt64] = [:]
        var ticked: UInt64 = 0, denied = 0
        func take(_ changes: [AlertChange], at time: UInt64) {
            for change in changes {
                latest[change.alert.id] = change.alert
                if case .raised(let alert) = change { raisedAt[alert.id] = time }
            }
        }
        for packet in packets {
            var record = packet.record
            if !allowed.passes(record) {
                record.cause = .notInPolicy
                denied += 1
            }
            if record.last >= ticked &+ 100_000_000 {
                ticked = record.last
                take(detector.tick(ticked), at: ticked)
            }
            detector.observe(record)
        }
        take(detector.finish(ticked), at: ticked)
        let hours = Double((packets.last?.record.last ?? 0) - (packets.first?.record.first ?? 0)) / 3.6e12
        let first = packets.first(where: \.isMalicious)?.record.first
        print("\(name), \(first == nil ? "without its attack" : "whole"): \(String(format: "%.1f", hours)) h, \(grouped(packets.count)) packets, \(grouped(denied)) denied, \(latest.count) alerts")
        for alert in latest.values.sorted(by: { $0.id < $1.id }) {
            let isAttacker = alert.device?.mac.map { attackers.contains($0) } ?? false
            let after = first.map { String(format: "%.1f s after the first malicious packet", (Double(raisedAt[alert.id] ?? 0) - Double($0)) / 1e9) } ?? ""
            print("  \(alert.kind.rawValue), \(isAttacker ? "of the attacker" : "of another") \(after): \(alert.story)")
        }
    }
}
