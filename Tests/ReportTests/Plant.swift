// A small plant: what was recorded of it, its policy, and its audit log.

import Allowlist
import Baseline
import Evidence
import Foundation
import Frames
import Policy

@testable import Report

/// A directory that goes away with the test.
final class StateDirectory: Sendable {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "/sekisho-report-\(UInt64.random(in: 0 ... .max))"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

struct Plant {
    /// Monday, 20 November 2023, 0 o'clock UTC.
    static let start: UInt64 = 1_700_438_400_000_000_000
    static let dayLength: UInt64 = 86_400_000_000_000
    static let days = 10
    static let mes = host("10.3.0.10"), tool = host("10.3.1.21"), laptop = host("10.3.0.66"), log = host("10.3.0.30")

    static func host(_ text: String) -> AddressWords { AddressPrefix.host(text)!.words }

    static let policy = """
        version = 1
        name = "bay3"
        mode = "enforce"
        [devices.mes]
        addresses = ["10.3.0.10"]
        mac = ["02:00:00:00:03:0a"]
        [devices.scanner-1]
        addresses = ["10.3.1.21"]
        [groups]
        tools = ["scanner-1", "10.3.1.22"]
        [[allow]]
        id = "host-link"
        from = "mes"
        to = "tools"
        service = ["tcp/5000", "tcp/5001"]
        purpose = "SECS/GEM"
        owner = "litho"
        [[allow]]
        id = "visits"
        from = "any"
        to = "scanner-1"
        service = "rdp"
        [[allow]]
        id = "logs"
        from = "scanner-1"
        to = "10.3.0.30"
        service = "udp/514"
        [[allow]]
        id = "never"
        from = "mes"
        to = "scanner-1"
        service = "tcp/9999"

        """

    static func conversation(
        _ row: Int64, _ client: AddressWords, _ server: AddressWords, _ ipProtocol: IPProtocol, _ port: UInt16, days: ClosedRange<Int>, denied: UInt32 = 0
    ) -> RecordedConversation {
        RecordedConversation(
            row: row, key: ConversationKey(client: client, server: server, service: Port(rawValue: port), vlan: .untagged, ipProtocol: ipProtocol, family: .ipv4),
            orientation: .seen, intervals: Intervals(),
            days: days.map { day in
                let begin = start + UInt64(day) * dayLength
                return ConversationDay(
                    day: Int32(begin / dayLength), hours: 0xFF_FFFF, first: begin, last: begin + dayLength - 1_000_000_000, connections: 24, answered: denied == 0 ? 24 : 0,
                    refused: 0, framesOut: 100, framesIn: 100, bytesOut: 1000, bytesIn: 1000, denied: denied)
            })
    }

    static func history(_ more: [RecordedConversation] = []) -> History {
        History(
            conversations: [
                conversation(1, mes, tool, .tcp, 5000, days: 0...9), conversation(2, laptop, tool, .tcp, 3389, days: 2...3),
                conversation(3, laptop, tool, .tcp, 445, days: 5...5, denied: 7), conversation(4, tool, log, .udp, 514, days: 0...9),
            ] + more, addresses: [], sources: [], etherTypes: [(type: .arp, frames: 10)], decisions: [], periods: [],
            hours: (0..<Int64(days) * 24).map { Int64(start / 3_600_000_000_000) + $0 })
    }

    static func micro(day: Double) -> Int64 { Int64(start / 1000) + Int64(day * 86_400_000_000) }

    /// A bridge that ran for the ten days, with a change of policy and a failure.
    static func writeLog(to store: AuditStore, policy text: String = policy) throws {
        let document = PolicyReader.read([UInt8](text.utf8), now: 0).document!
        let old = [UInt8](text.replacingOccurrences(of: "id = \"never\"", with: "id = \"before\"").utf8)
        let before = PolicyReader.read(old, now: 0).document!
        func applied(_ bytes: [UInt8], _ document: PolicyDocument, version: UInt64, after: PolicyDocument?, day: Double, why: String) -> AuditEvent {
            PolicyChange.event(
                AppliedPolicy(document: document, text: bytes, file: "/etc/sekisho/bay3.toml", signature: nil, key: nil), version: version, mode: document.mode.name,
                after: after, who: "tanaka (as root)", fields: ["why": why], time: micro(day: day))
        }
        try store.append(
            [
                AuditEvent(.start, "bridge started", who: "root", fields: ["version": "1", "mode": "monitor"], time: micro(day: 0)),
                applied(old, before, version: 1, after: nil, day: 0.001, why: "first"),
                AuditEvent(.modeChanged, "mode monitor → enforce", who: "root", fields: ["from": "monitor", "mode": "enforce"], time: micro(day: 1)),
                AuditEvent(.failureEntered, "no worker judges", fields: ["state": "worker_dead", "action": "closed", "times": "1"], time: micro(day: 4)),
                AuditEvent(.failureLeft, "the workers judge again", fields: ["state": "worker_dead", "lasted": "1500.0 ms"], time: micro(day: 4) + 1_500_000),
                applied([UInt8](text.utf8), document, version: 2, after: before, day: 6, why: "ticket 4711"),
                AuditEvent(.quarantine, "laptop is cut off", who: "sato (as root)", fields: ["why": "scan", "addresses": "10.3.0.66"], time: micro(day: 7)),
            ], texts: [old, [UInt8](text.utf8)])
    }

    static func request(policy: String? = nil, from: Double? = nil, to: Double? = nil, device: String? = nil, state: String = "/state") -> ReportRequest {
        func moment(_ day: Double?) -> UInt64? { day.map { start + UInt64($0 * Double(dayLength)) } }
        let given = policy.map { text in
            ReportRequest.GivenPolicy(document: PolicyReader.read([UInt8](text.utf8), now: 0).document!, sha256: contentHash([UInt8](text.utf8)), file: "bay3.toml")
        }
        return ReportRequest(
            state: state, policy: given, from: moment(from), to: moment(to), device: device, now: start + UInt64(days) * dayLength, version: "1.2.3")
    }

    /// Everything there is.
    static func evidence(_ directory: StateDirectory, policy: String = policy, from: Double? = nil, to: Double? = nil, device: String? = nil) throws -> ReportEvidence {
        let store = try AuditStore(directory: directory.path)
        if try store.head().number == 0 { try writeLog(to: store, policy: policy) }
        return try ReportEvidence(request(from: from, to: to, device: device), whole: history(), store: store, alerts: [])
    }

    static func all(_ evidence: ReportEvidence) throws -> [ReportDocument] {
        [evidence.e187(), try evidence.zones(), try evidence.coverage(), try evidence.unusedRules()]
    }
}

extension ReportDocument {
    func section(_ id: String) -> Section? { sections.first { $0.id == id } }

    func table(_ id: String, of section: String) -> Table? {
        for case .table(let table) in self.section(section)?.blocks ?? [] where table.id == id { return table }
        return nil
    }

    func fact(_ id: String, of section: String) -> Cell? {
        for case .facts(let facts) in self.section(section)?.blocks ?? [] { if let one = facts.first(where: { $0.name.id == id }) { return one.value } }
        return nil
    }
}

extension ReportDocument.Table {
    /// The cells of one column.
    func column(_ id: String) -> [ReportDocument.Cell] {
        columns.firstIndex { $0.name.id == id }.map { place in rows.map { $0[place] } } ?? []
    }
}
