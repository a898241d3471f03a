import Frames
import TestSupport
import Testing

@testable import Allowlist

@Suite struct QuarantineTests {
    private static let own = MACAddress(rawValue: 0x02_00_00_00_00_0A), other = MACAddress(rawValue: 0x02_00_00_00_00_0B)

    private func bytes(_ mac: MACAddress) -> [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: mac.rawValue >> UInt64(40 - 8 * $0)) } }

    private func address(_ d: UInt8) -> AddressWords { AddressWords(high: 0, low: 0x0A03_0000 | UInt64(d)) }

    /// The verdict on a frame that a rule (number 3) had let pass.
    private func verdict(
        _ quarantine: Quarantine, _ frame: [UInt8], from sender: MACAddress = other, to receiver: MACAddress = other, cause: Cause = .none, isBefore: Bool = false
    ) -> Cause {
        let frame = bytes(receiver) + bytes(sender) + frame.dropFirst(12)
        var headers = FrameHeaders()
        var verdict = Verdict(rule: cause == .none ? 3 : Verdict.noRule, cause: cause, isReply: false)
        frame.withUnsafeBytes { bytes in
            parseFrame(bytes, wireLength: bytes.count, into: &headers)
            var base = bytes.baseAddress!
            quarantineBurst(quarantine.view, frames: &base, headers: &headers, count: 1, isBefore: isBefore, verdicts: &verdict)
        }
        return verdict.cause
    }

    private func udp(_ from: UInt8, _ to: UInt8) -> [UInt8] {
        var frame = FrameBuilder()
        frame.ipv4(from: [10, 3, 0, from], to: [10, 3, 0, to], proto: 17, payload: [0, 9, 0, 9, 0, 8, 0, 0])
        return frame.bytes
    }

    /// Why: whoever is cut off must not make flows; but of a later fragment only the flow table knows the rule.
    @Test func whatHangsOnTheFlowTableIsDecidedBehindIt() {
        func cut(_ exceptions: [UInt32]) -> Quarantine {
            Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv4, mac: nil, exceptions: exceptions)], isIsland: false)
        }
        let frame = udp(66, 1)
        #expect(verdict(cut([]), frame, cause: .fragmentUntracked, isBefore: true) == .quarantined)
        #expect(verdict(cut([3]), frame, cause: .fragmentUntracked, isBefore: true) == .fragmentUntracked)
        #expect(verdict(cut([3]), frame, cause: .fragmentUntracked) == .quarantined)
        #expect(verdict(cut([4]), frame, isBefore: true) == .quarantined)
        #expect(verdict(cut([3]), frame, isBefore: true) == .none)
    }

    @Test func whatIsToOrFromItDoesNotPass() {
        let cut = Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv4, mac: Self.own, exceptions: [])], isIsland: false)
        #expect(verdict(cut, udp(66, 1)) == .quarantined && verdict(cut, udp(1, 66)) == .quarantined && verdict(cut, udp(1, 2)) == .none)
        // Under another address, and asked at its MAC address.
        #expect(verdict(cut, udp(1, 2), from: Self.own) == .quarantined && verdict(cut, udp(1, 2), to: Self.own) == .quarantined)
        #expect(verdict(.none, udp(66, 1), from: Self.own) == .none)
    }

    @Test func exceptionsAreRulesByNumber() {
        func cut(_ exceptions: [UInt32]) -> Quarantine {
            Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv4, mac: nil, exceptions: exceptions)], isIsland: false)
        }
        #expect(verdict(cut([1, 3]), udp(66, 1)) == .none && verdict(cut([1, 2]), udp(66, 1)) == .quarantined)
        // One that is excepted for one device may be cut off for the other end.
        let both = Quarantine(
            devices: [
                QuarantinedDevice(address: address(66), family: .ipv4, mac: nil, exceptions: [3]),
                QuarantinedDevice(address: address(1), family: .ipv4, mac: nil, exceptions: []),
            ], isIsland: false)
        #expect(verdict(both, udp(66, 1)) == .quarantined && verdict(both, udp(66, 2)) == .none)
    }

    /// An IPv4 address is no IPv6 address of the same number, and ARP is IPv4's.
    @Test func familiesAreApart() {
        let six = Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv6, mac: nil, exceptions: [])], isIsland: false)
        #expect(verdict(six, udp(66, 1)) == .none)
        let four = Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv4, mac: nil, exceptions: [])], isIsland: false)
        let arp: [UInt8] = [UInt8](repeating: 0, count: 12) + [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] + bytes(Self.other) + [10, 3, 0, 66, 0, 0, 0, 0, 0, 0, 10, 3, 0, 1]
        #expect(verdict(four, arp) == .quarantined && verdict(six, arp) == .none)
    }

    /// The addresses outside count, not those of the packet inside.
    @Test func anErrorIsItsSenders() {
        let inside = Array(udp(66, 1).dropFirst(14))
        var frame = FrameBuilder()
        frame.ipv4(from: [10, 3, 0, 2], to: [10, 3, 0, 66], proto: 1, payload: [3, 1, 0, 0, 0, 0, 0, 0] + inside)
        let receiver = Quarantine(devices: [QuarantinedDevice(address: address(66), family: .ipv4, mac: nil, exceptions: [])], isIsland: false)
        let sender = Quarantine(devices: [QuarantinedDevice(address: address(2), family: .ipv4, mac: nil, exceptions: [])], isIsland: false)
        let quoted = Quarantine(devices: [QuarantinedDevice(address: address(1), family: .ipv4, mac: nil, exceptions: [])], isIsland: false)
        #expect(verdict(receiver, frame.bytes) == .quarantined && verdict(sender, frame.bytes) == .quarantined && verdict(quoted, frame.bytes) == .none)
    }

    @Test func onAnIslandNothingPasses() {
        #expect(verdict(Quarantine(devices: [], isIsland: true), udp(1, 2)) == .isolated)
    }

    @Test func manyDevicesAndFramesOfEveryLength() {
        let devices = (0..<Quarantine.capacity).map { QuarantinedDevice(address: address(UInt8($0)), family: .ipv4, mac: nil, exceptions: []) }
        let cut = Quarantine(devices: devices, isIsland: false)
        #expect(verdict(cut, udp(63, 200)) == .quarantined && verdict(cut, udp(64, 200)) == .none)
        let whole = udp(1, 200)
        for length in 14..<whole.count { _ = verdict(cut, Array(whole.prefix(length))) }
    }
}
