// A record and the truth about it.

import Frames

/// Attacks that are no scan and no worm.
public enum FabTrick: UInt8, Sendable, Hashable, CaseIterable, BitwiseCopyable {
    /// ARP and IP under an equipment host's address, from another MAC address.
    case spoofing
    /// A laptop that opens HSMS to tools, as if it were their host.
    case rogueHost
    /// From tool to tool.
    case lateral
    /// To an address outside of the fab, again and again.
    case beacon
}

/// Why a record is there.
public enum FabLabel: Sendable, Hashable, BitwiseCopyable {
    case normal
    /// An engineer's visit to a tool, or a vendor's from afar: legitimate.
    case maintenance
    case worm
    case scan
    case slowScan
    case attack(FabTrick)
    /// An attacker's, in a conversation that a rule allows.
    case covert

    public var isMalicious: Bool { self != .normal && self != .maintenance }

    public static var all: [FabLabel] {
        [.normal, .maintenance, .worm, .scan, .slowScan] + FabTrick.allCases.map { .attack($0) } + [.covert]
    }
}

extension FabLabel: CustomStringConvertible {
    public var description: String {
        switch self {
        case .normal: "normal"
        case .maintenance: "maintenance"
        case .worm: "worm"
        case .scan: "scan"
        case .slowScan: "slow scan"
        case .attack(let trick): "\(trick)"
        case .covert: "covert"
        }
    }
}

/// 88 bytes.
public struct FabRecord: BitwiseCopyable, Sendable {
    public var record: TrafficRecord
    /// In `FabTruth.rules`; -1: no rule allows it, or it is ARP.
    public var rule: Int32
    public var label: FabLabel
}
