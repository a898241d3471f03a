// A capture with a label for every packet.

import Captures
import Foundation
import Frames

public struct LabelledCapture: Sendable {
    public let name: String
    private let capture: String
    private let labels: String

    /// Captures `NAME.pcap` of a folder that have labels, `NAME_labeled.csv`: "packet number;label", where 0 is benign.
    public static func all(in folder: String) throws -> [LabelledCapture] {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        return names.filter { $0.hasSuffix(".pcap") }.compactMap { name in
            let labels = name.replacing(".pcap", with: "_labeled.csv")
            return names.contains(labels) ? LabelledCapture(name: name, capture: "\(folder)/\(name)", labels: "\(folder)/\(labels)") : nil
        }
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
