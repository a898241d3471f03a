// Records as a bridge hands them over, and a history to judge them by.

import Allowlist

import Foundation
import Frames
import Policy

@testable import Baseline
@testable import Detection

let second: UInt64 = 1_000_000_000
let minute = 60 * second
let hour = 60 * minute
/// Monday, 19 January 2026, 00:00 UTC: the day behind two weeks of history.
let monday: UInt64 = 1_768_780_800 * second

func address(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) -> AddressWords { AddressWords(high: 0, low: a << 24 | b << 16 | c << 8 | d) }
func card(_ address: AddressWords) -> MACAddress { MACAddress(rawValue: 0x02_00_00_00_00_00 | address.low) }

let host = address(10, 10, 0, 1), laptop = address(10, 30, 0, 66), stranger = address(10, 99, 0, 1)
func tool(_ number: UInt64) -> AddressWords { address(10, 20, 0, number) }

/// Frames of one direction.
func record(
    _ source: AddressWords, _ destination: AddressWords, _ service: UInt16, at time: UInt64, from port: UInt16 = 40_000, flags: TCPFlags = .syn, answers: Bool = false,
    cause: Cause = .none, mac: MACAddress? = nil, side: Side? = .outside, frames: UInt32 = 1, bytes: UInt64? = nil, ipProtocol: IPProtocol = .tcp, form: FrameForm = .ipv4
) -> TrafficRecord {
    TrafficRecord(
        source: source, destination: destination, first: time, last: time, bytes: bytes ?? UInt64(frames) * 60, sourceMAC: mac ?? card(source), frames: frames,
        sourcePort: Frames.Port(rawValue: answers ? service : port), destinationPort: Frames.Port(rawValue: answers ? port : service), vlan: .untagged,
        etherType: form == .arp ? .arp : .ipv4, ipProtocol: ipProtocol, tcpFlags: ipProtocol == .tcp ? flags : [], form: form, marks: [], side: side, cause: cause)
}

func conversation(
    _ client: AddressWords, _ server: AddressWords, _ service: UInt16, hours: (Int) -> ClosedRange<Int>? = { _ in 0...23 }, bytes: UInt64 = 100_000, every: Float? = nil
) -> RecordedConversation {
    let first = Int32(monday / (24 * hour)) - 14
    let days: [ConversationDay] = (0..<14).compactMap { number in
        guard let open = hours(number) else { return nil }
        let day = first + Int32(number), begin = UInt64(day) * 24 * hour
        return ConversationDay(
            day: day, hours: open.reduce(0) { $0 | 1 << UInt32($1) }, first: begin + UInt64(open.lowerBound) * hour, last: begin + UInt64(open.upperBound) * hour + 59 * minute,
            connections: 10, answered: 10, refused: 0, framesOut: bytes / 200, framesIn: bytes / 200, bytesOut: bytes / 2, bytesIn: bytes / 2, denied: 0)
    }
    var intervals = Intervals()
    if let every {
        intervals.values = [Float](repeating: every, count: 32)
        intervals.count = 1000
    }
    return RecordedConversation(
        row: 0, key: ConversationKey(client: client, server: server, service: Frames.Port(rawValue: service), vlan: .untagged, ipProtocol: .tcp, family: .ipv4),
        orientation: .seen, intervals: intervals, days: days)
}

/// Two weeks: a host polls ten tools, which fetch from it; a laptop visits two of them.
func history(_ more: [RecordedConversation] = []) -> History {
    var conversations = (1...10).flatMap { [conversation(host, tool($0), 5000, every: 10), conversation(tool($0), host, 21, hours: { _ in 6...18 })] }
    conversations += (1...2).map { conversation(laptop, tool($0), 3389, hours: { $0 % 3 == 0 ? 8...10 : nil }) }
    conversations += more
    var addresses: Set<AddressWords> = []
    for one in conversations { addresses.formUnion([one.key.client, one.key.server]) }
    return History(
        conversations: conversations,
        addresses: addresses.map {
            RecordedAddress(
                address: LearntAddress(address: $0, family: .ipv4, vlan: .untagged, mac: card($0), side: $0.low >> 16 == 10 << 8 | 20 ? .inside : .outside),
                first: monday - 14 * 24 * hour, last: monday - second)
        }, sources: [], etherTypes: [], decisions: [], periods: [], hours: (0..<14 * 24).map { Int64(monday / hour) - 14 * 24 + $0 })
}

/// A detector and all that it said.
final class Watcher {
    var detector: Detector
    var alerts: [Int64: Alert] = [:]
    var raised: [Alert] = []
    var ended: [Alert] = []

    init(_ norms: Norms = Norms(history()), mode: Mode = .enforce, policy: PolicyView? = nil, alerts: [Alert] = [], nextAlert: Int64 = 1) {
        detector = Detector(norms, policy: policy ?? PolicyView(mode: mode), alerts: alerts, nextAlert: nextAlert)
        add(detector.tick(monday))
    }

    func see(_ records: TrafficRecord...) {
        for one in records {
            detector.observe(one)
            tick(one.last)
        }
    }

    func tick(_ time: UInt64) { add(detector.tick(time)) }

    private func add(_ changes: [AlertChange]) {
        for change in changes {
            alerts[change.alert.id] = change.alert
            switch change {
            case .raised(let alert): raised.append(alert)
            case .ended(let alert): ended.append(alert)
            case .changed: break
            }
        }
    }

    /// What is known of all by now.
    var all: [Alert] {
        add(detector.finish(detector.now + 20 * second))
        return alerts.values.sorted { $0.id < $1.id }
    }

    var kinds: [AlertKind] { all.map(\.kind) }

    /// Alerts about what somebody does. Where a test has nobody poll, what is expected is missed as well.
    var doings: [Alert] { all.filter { ![.missing, .silent].contains($0.kind) } }
    var raisedDoings: [Alert] { raised.filter { ![.missing, .silent].contains($0.kind) } }
}
