// 100,000 denials a second for a minute: what it costs, and how many alerts it makes, whatever of it is forged.

import Detection
import FabLearning
import Foundation
import Frames

struct Flood {
    private static let perSecond: UInt64 = 100_000
    private static let seconds: UInt64 = 60

    func run() {
        print("flood: \(grouped(Self.perSecond)) denials a second for \(Self.seconds) s")
        for (name, forgesAddresses, forgesCards) in [("one sender", false, false), ("forged addresses", true, false), ("forged addresses and cards", true, true)] {
            let before = residentBytes()
            var detector = Detector(Norms(), policy: PolicyView(mode: .enforce))
            var alerts: [Int64: Alert] = [:], raised = 0, first: UInt64?
            var batch: [TrafficRecord] = []
            let begin: UInt64 = 1_768_780_800_000_000_000
            var spent = 0.0, random = SystemRandomNumberGenerator()
            // As the daemon does it: twenty times a second.
            let perBatch = Self.perSecond / 20
            for number in 0..<Self.seconds * 20 {
                batch.removeAll(keepingCapacity: true)
                for i in 0..<perBatch {
                    let count = number * perBatch + i, word = random.next()
                    batch.append(
                        TrafficRecord(
                            source: AddressWords(high: 0, low: forgesAddresses ? 0xAC10_0000 | word & 0xF_FFFF : 0x0A63_0001),
                            destination: AddressWords(high: 0, low: 0x0A14_0000 | word >> 20 & 0xFFFF), first: begin + count * 10_000, last: begin + count * 10_000, bytes: 60,
                            sourceMAC: MACAddress(rawValue: forgesCards ? 0x02_66_00_00_00_00 | word >> 32 : 0x02_66_00_00_00_01), frames: 1,
                            sourcePort: Frames.Port(rawValue: UInt16(truncatingIfNeeded: word >> 40)), destinationPort: Frames.Port(rawValue: UInt16(truncatingIfNeeded: word >> 52)),
                            vlan: .untagged, etherType: .ipv4, ipProtocol: .tcp, tcpFlags: .syn, form: .ipv4, marks: [], side: .outside, cause: Cause(rawValue: 32)))
                }
                let time = begin + (number + 1) * 50_000_000
                let (changes, took) = timed {
                    for record in batch { detector.observe(record) }
                    return detector.tick(time)
                }
                spent += took
                for change in changes {
                    if case .raised = change { raised += 1 }
                    if first == nil { first = time - begin }
                    alerts[change.alert.id] = change.alert
                }
            }
            let records = Int(Self.perSecond * Self.seconds)
            print(
                "  \(name): \(raised) alert\(raised == 1 ? "" : "s") (\(alerts.values.map(\.kind.rawValue).sorted().joined(separator: ", "))), the first \(first.map { "after \($0 / 1_000_000) ms" } ?? "never"); "
                    + "\(grouped(Int(Double(records) / spent))) records a second, \(String(format: "%.1f", spent / Double(Self.seconds) * 100)) % of a core; \(max(0, residentBytes() - before) / 1024) KiB more")
        }
    }
}

func residentBytes() -> Int {
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
}
