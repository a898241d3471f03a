// Two answers about one frame, compared field by field.

import Frames

extension FrameHeaders {
    /// Every stored property, as numbers: all of them count, also those of a frame that is denied.
    public static let comparedFields: [(name: String, value: @Sendable (FrameHeaders) -> [UInt64])] = [
        ("source", { [$0.source.high, $0.source.low] }),
        ("destination", { [$0.destination.high, $0.destination.low] }),
        ("sourcePort", { [UInt64($0.sourcePort.rawValue)] }),
        ("destinationPort", { [UInt64($0.destinationPort.rawValue)] }),
        ("etherType", { [UInt64($0.etherType.rawValue)] }),
        ("vlan", { [UInt64($0.vlan.rawValue)] }),
        ("form", { [UInt64($0.form.rawValue)] }),
        ("cause", { [UInt64($0.cause.rawValue)] }),
        ("ipProtocol", { [UInt64($0.ipProtocol.rawValue)] }),
        ("tcpFlags", { [UInt64($0.tcpFlags.rawValue)] }),
        ("networkOffset", { [UInt64($0.networkOffset)] }),
        ("marks", { [UInt64($0.marks.rawValue)] }),
        ("transportOffset", { [UInt64($0.transportOffset)] }),
        ("detail", { [$0.detail] }),
    ]

    /// The fields that differ, for a person; empty if none does.
    public func differences(from other: FrameHeaders) -> [String] {
        Self.comparedFields.compactMap { name, value in
            let mine = value(self)
            let its = value(other)
            func hex(_ words: [UInt64]) -> String { words.map { String($0, radix: 16) }.joined(separator: ":") }
            return mine == its ? nil : "\(name): \(hex(mine)), not \(hex(its))"
        }
    }
}
