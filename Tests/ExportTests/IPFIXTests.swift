// Messages of IPFIX, byte by byte, and what a conversation's growth says.

import Allowlist
import Frames
import Testing

@testable import Baseline
@testable import Export

private let (host, tool) = (AddressWords(high: 0, low: 0x0A00_0001), AddressWords(high: 0, low: 0x0A00_0002))
private let (host6, tool6) = (AddressWords(high: 0xFD00 << 48, low: 1), AddressWords(high: 0xFD00 << 48, low: 2))
private let (hostMAC, toolMAC) = (MACAddress(rawValue: 0x0200_0000_0001), MACAddress(rawValue: 0x0200_0000_0002))

private func record(_ packets: UInt64 = 7) -> FlowRecord {
    FlowRecord(
        start: 1_800_000_000_000, end: 1_800_000_060_500, packets: packets, frameBytes: 1000, source: host, destination: tool, family: .ipv4,
        sourcePort: 0, destinationPort: 5000, icmp: nil, ipProtocol: .tcp, vlan: VLANID(rawValue: 7), side: .outside, sourceMAC: hostMAC,
        destinationMAC: toolMAC, fate: .forwarded)
}

private let ping = FlowRecord(
    start: 1_800_000_000_000, end: 1_800_000_000_000, packets: 1, frameBytes: 86, source: host6, destination: tool6, family: .ipv6, sourcePort: 0,
    destinationPort: 0, icmp: 0x8000, ipProtocol: .icmpv6, vlan: .untagged, side: .inside, sourceMAC: nil, destinationMAC: nil, fate: .dropped)

/// Made with Python's struct from the text of RFC 7011 and IANA's registry.
private let golden = """
        000a01d26b49d23d00000028010203040002010c01000010009800080099000800010008000200080160000800080004000c000400070002000b0002
        00040001003a0002000a0004000e0004003800060050000600590001010100100098000800990008000100080002000801600008001b0010001c0010
        00070002000b000200040001003a0002000a0004000e00040038000600500006005900010102000f0098000800990008000100080002000801600008
        00080004000c00040020000200040001003a0002000a0004000e00040038000600500006005900010103000f00980008009900080001000800020008
        01600008001b0010001c0010008b000200040001003a0002000a0004000e000400380006005000060059000101000050000001a3185c5000000001a3
        185d3c54000000000000036a000000000000000700000000000003e80a0000010a000002000013880600070000000200000001020000000001020000
        0000024001030066000001a3185c5000000001a3185c5000000000000000004800000000000000010000000000000056fd0000000000000000000000
        00000001fd00000000000000000000000000000280003a0000000000010000000000000000000000000000000080
        """

@Suite struct IPFIXTests {
    @Test func messageByteByByte() {
        var encoder = IPFIXEncoder(domain: 0x0102_0304, longest: 1400)
        // 40 before it.
        let before = encoder.messages([FlowRecord](repeating: record(), count: 40), withTemplates: false, at: 1_800_000_000)
        #expect(before.allSatisfy { $0.count <= 1400 } && before.count == 3)
        let messages = encoder.messages([record(), ping], withTemplates: true, at: 1_800_000_061)
        let hex = messages.map { $0.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined() }
        #expect(hex == [golden.split(separator: "\n").joined()])
        #expect(encoder.sequence == 42)
    }

    /// Why: a collector finds lost messages by the numbers, and nothing may be longer than a datagram.
    @Test func sequenceAndLengthsHold() {
        for longest in [512, 1400, 16_000] {
            var encoder = IPFIXEncoder(domain: 1, longest: longest)
            let records = (0..<500).map { $0 % 3 == 0 ? ping : record(UInt64($0)) }
            var before: UInt32 = 0
            for message in encoder.messages(records, withTemplates: true, at: 0) {
                func word(_ at: Int) -> UInt32 { message[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } }
                #expect(message.count <= longest && Int(word(0) & 0xFFFF) == message.count && word(0) >> 16 == 10)
                #expect(word(8) == before)
                // Sets follow one another to the end.
                var at = 16
                while at < message.count {
                    let set = word(at) >> 16, length = Int(word(at) & 0xFFFF)
                    if let template = IPFIXTemplate(rawValue: UInt16(set)) {
                        #expect((length - 4) % template.recordLength == 0)
                        before += UInt32((length - 4) / template.recordLength)
                    } else {
                        #expect(set == 2)
                    }
                    at += length
                }
                #expect(at == message.count)
            }
            #expect(before == 500)
        }
    }

    @Test func nothingIsSentForNothing() {
        var encoder = IPFIXEncoder(domain: 1, longest: 1400)
        #expect(encoder.messages([], withTemplates: false, at: 0).isEmpty)
        #expect(encoder.messages([], withTemplates: true, at: 0).count == 1)
    }
}

private func standing(
    _ out: UInt64, _ back: UInt64, denied: UInt32 = 0, last: UInt64 = 9_000_000_000, service: UInt16 = 5000, ipProtocol: IPProtocol = .tcp
) -> StandingDay {
    StandingDay(
        row: 1,
        key: ConversationKey(
            client: host, server: tool, service: Port(rawValue: service), vlan: .untagged, ipProtocol: ipProtocol, family: .ipv4),
        day: ConversationDay(
            day: 0, hours: 1, first: 1_000_000_000, last: last, connections: 1, answered: 1, refused: 0, framesOut: out, framesIn: back,
            bytesOut: out * 100, bytesIn: back * 200, denied: denied))
}

@Suite struct FlowGrowthTests {
    private let uses = [
        PlacedAddress(address: host, family: .ipv4, vlan: .untagged): LearntAddress(
            address: host, family: .ipv4, vlan: .untagged, mac: hostMAC, side: .outside)
    ]

    @Test func bothDirectionsOfWhatIsNew() throws {
        let growth = try #require(FlowGrowth(standing(10, 5), told: nil))
        let records = growth.records(uses, isEnforced: true)
        #expect(records.map(\.packets) == [10, 5] && records.map(\.frameBytes) == [1000, 1000])
        #expect(records.map(\.packetBytes) == [860, 930])
        #expect(records.map(\.start) == [1000, 1000] && records.map(\.end) == [9000, 9000])
        #expect(records.map(\.destinationPort) == [5000, 0] && records.map(\.sourcePort) == [0, 5000])
        #expect(records.map(\.sourceMAC) == [hostMAC, nil] && records.map(\.destinationMAC) == [nil, hostMAC])
        // Who never spoke is opposite.
        #expect(records.map(\.side) == [.outside, .inside] && records.map(\.fate) == [.forwarded, .forwarded])
    }

    @Test func onlyWhatWasAdded() throws {
        let told = FlowCounts(standing(10, 5).day)
        #expect(FlowGrowth(standing(10, 5), told: told) == nil)
        let growth = try #require(FlowGrowth(standing(12, 5, last: 70_000_000_000), told: told))
        let records = growth.records([:], isEnforced: nil)
        #expect(records.map(\.packets) == [2] && records.map(\.start) == [9000] && records.map(\.end) == [70_000])
        #expect(records.map(\.side) == [nil])
        // A history that was put back by a restore.
        #expect(FlowGrowth(standing(9, 5), told: told) == nil)
    }

    /// Why: "dropped" must not be said of what passed.
    @Test func fates() throws {
        func fate(_ denied: UInt32, _ isEnforced: Bool?) throws -> FlowFate? {
            try #require(FlowGrowth(standing(4, 0, denied: denied), told: nil)).records([:], isEnforced: isEnforced).first?.fate
        }
        #expect(try fate(4, true) == .dropped && fate(3, true) == .unknown && fate(0, true) == .forwarded)
        #expect(try fate(4, false) == .forwarded && fate(4, nil) == .unknown && fate(0, nil) == .forwarded)
    }

    @Test func anAnswerToAPingIsOne() throws {
        let growth = try #require(FlowGrowth(standing(1, 1, service: 0x0800, ipProtocol: .icmp), told: nil))
        #expect(growth.records([:], isEnforced: nil).map(\.icmp) == [0x0800, 0])
        #expect(growth.records([:], isEnforced: nil).allSatisfy { $0.sourcePort == 0 && $0.destinationPort == 0 })
    }

    @Test func modeIsReadFromTheMetrics() {
        #expect(FlowExporter.isEnforced("# TYPE\nsekisho_info{mode=\"enforce\",policy=\"x\",version=\"1\"} 1\n"))
        #expect(!FlowExporter.isEnforced("sekisho_info{mode=\"monitor\",policy=\"mode=\\\"enforce\\\",\",version=\"1\"} 1\n"))
    }
}
