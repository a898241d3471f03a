// A capture with a label for every packet.

import Baseline
import Captures
import Foundation
import Frames

public struct LabelledCapture: Sendable {
    private struct Missing: Error, CustomStringConvertible { var description: String }

    public let name: String
    private let capture: String
    private let labels: String

    /// Captures `NAME.pcap` of a folder that have labels, `NAME_labeled.csv`: "packet number;label", where 0 is benign. Two at the least.
    public static func all(in folder: String) throws -> [LabelledCapture] {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        let captures = names.filter { $0.hasSuffix(".pcap") }.compactMap { name in
            let labels = name.replacing(".pcap", with: "_labeled.csv")
            return names.contains(labels) ? LabelledCapture(name: name, capture: "\(folder)/\(name)", labels: "\(folder)/\(labels)") : nil
        }
        if captures.count < 2 { throw Missing(description: "\(folder) has no two captures NAME.pcap with NAME_labeled.csv") }
        return captures
    }

    /// What all but one of some captures teach. An operator who has been told of an attack has its packets forgotten; here the labels do it.
    public static func history(of captures: [LabelledCapture], without left: Int) throws -> History {
        let learner = Learner()
        var days: [LearntDay] = []
        for (place, capture) in captures.enumerated() where place != left {
            for (record, isMalicious) in try capture.packets() where !isMalicious { learner.learn(record) }
            learner.finish()
            days += learner.drain()
        }
        return FabLearning.history(learner, days)
    }

    /// In order, with whether a packet is malicious.
    public func packets() throws -> [(record: TrafficRecord, isMalicious: Bool)] { Array(zip(try records(), try isMalicious())) }

    private func records() throws -> [TrafficRecord] {
        let reader = try CaptureReader(capture)
        var records: [TrafficRecord] = []
        while let frame = reader.next() {
            var headers = FrameHeaders()
            parseFrame(frame.bytes, wireLength: frame.wireLength, into: &headers)
            records.append(TrafficRecord(headers, frame: frame.bytes.baseAddress!, wireLength: frame.wireLength, at: frame.time, side: nil))
        }
        return records
    }

    private func isMalicious() throws -> [Bool] {
        try String(contentsOfFile: labels, encoding: .utf8).split(whereSeparator: \.isNewline).compactMap { line in
            let parts = line.split(separator: ";")
            guard parts.count == 2, Int(parts[0].trimmingCharacters(in: .whitespaces)) != nil else { return nil }
            return parts[1].trimmingCharacters(in: .whitespaces) != "0"
        }
    }
}
