// Captures with a label for every packet: learn from all but one, and judge that one.

import Allowlist
import Baseline
import FabLearning
import Foundation
import Frames

struct LabelledCaptures {
    private let captures: [LabelledCapture]

    init(_ folder: String) throws { captures = try LabelledCapture.all(in: folder) }

    func run() throws {
        var all = (malicious: 0, passed: 0, benign: 0, denied: 0)
        for (judged, capture) in captures.enumerated() {
            let made = try LabelledCapture.history(of: captures, without: judged)
            let proposal = Proposal(made, Review(made))
            let allowed = Allowed(proposal)
            var one = (malicious: 0, passed: 0, benign: 0, denied: 0)
            var denied: [String: Int] = [:]
            for (record, isMalicious) in try capture.packets() {
                let passes = allowed.passes(record)
                if isMalicious {
                    one.malicious += 1
                    one.passed += passes ? 1 : 0
                } else {
                    one.benign += 1
                    if !passes {
                        one.denied += 1
                        denied[ServiceRange(record.ipProtocol, record.destinationPort, record.destinationPort).written, default: 0] += 1
                    }
                }
            }
            print(
                """
                \(capture.name): \(proposal.rules.count) rules from the other captures
                  malicious frames denied  \(one.malicious - one.passed) of \(one.malicious)
                  benign frames denied     \(one.denied) of \(one.benign)  \(denied.sorted { $0.value > $1.value }.prefix(5).map { "\($0.key) \($0.value)" }.joined(separator: ", "))
                """)
            all = (all.malicious + one.malicious, all.passed + one.passed, all.benign + one.benign, all.denied + one.denied)
        }
        print(
            String(
                format: "together: %.2f %% of the malicious frames denied, %.3f %% of the benign ones", 100 * Double(all.malicious - all.passed) / Double(max(1, all.malicious)),
                100 * Double(all.denied) / Double(max(1, all.benign))))
    }
}
