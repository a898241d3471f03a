// Captures with a label for every packet: learn from all but one, and judge that one.

import Allowlist
import Baseline
import Captures
import FabLearning
import Foundation
import Frames

struct LabelledCaptures {
    private let pairs: [(capture: String, labels: String)]

    init(_ folder: String) throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        pairs = names.filter { $0.hasSuffix(".pcap") }.compactMap { name in
            let labels = name.replacing(".pcap", with: "_labeled.csv")
            return names.contains(labels) ? ("\(folder)/\(name)", "\(folder)/\(labels)") : nil
        }
        if pairs.count < 2 { throw Failure(description: "\(folder) has no two captures NAME.pcap with NAME_labeled.csv") }
    }

    private func records(_ path: String) throws -> [TrafficRecord] {
        let reader = try CaptureReader(path)
        var records: [TrafficRecord] = []
        while let frame = reader.next() {
            var headers = FrameHeaders()
            parseFrame(frame.bytes, wireLength: frame.wireLength, into: &headers)
            records.append(TrafficRecord(headers, frame: frame.bytes.baseAddress!, wireLength: frame.wireLength, at: frame.time, side: nil))
        }
        return records
    }

    /// By packet, in order: whether it is malicious.
    private func labels(_ path: String) throws -> [Bool] {
        try String(contentsOfFile: path, encoding: .utf8).split(whereSeparator: \.isNewline).compactMap { line in
            let parts = line.split(separator: ";")
            guard parts.count == 2, Int(parts[0].trimmingCharacters(in: .whitespaces)) != nil else { return nil }
            return parts[1].trimmingCharacters(in: .whitespaces) != "0"
        }
    }

    func run() throws {
        var all = (malicious: 0, passed: 0, benign: 0, denied: 0)
        for (judged, pair) in pairs.enumerated() {
            let learner = Learner()
            var days: [LearntDay] = []
            for (other, learnt) in pairs.enumerated() where other != judged {
                // An operator who has been told of the attack has its packets forgotten; here the labels do it.
                for (record, isMalicious) in zip(try records(learnt.capture), try labels(learnt.labels)) where !isMalicious { learner.learn(record) }
                learner.finish()
                days += learner.drain()
            }
            let made = history(learner, days)
            let proposal = Proposal(made, Review(made))
            let allowed = Allowed(proposal)
            var one = (malicious: 0, passed: 0, benign: 0, denied: 0)
            var denied: [String: Int] = [:]
            for (record, isMalicious) in zip(try records(pair.capture), try labels(pair.labels)) {
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
                \(URL(fileURLWithPath: pair.capture).lastPathComponent): \(proposal.rules.count) rules from the other captures
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
