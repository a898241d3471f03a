// Who made a network card, by the first bytes of its address (IEEE MA-L, MA-M, MA-S), if this machine has a list of them: Debian's
// ieee-data or Wireshark's. For a person to read; nothing hangs on it.

import Foundation
import Frames

public struct Vendors: Sendable {
    /// By prefix in hexadecimal digits: six, seven or nine.
    private var names: [String: String] = [:]

    public static let lists = ["/usr/share/ieee-data", "/var/lib/ieee-data", "/usr/share/wireshark", "/usr/share/misc"]

    /// Reads what is needed for these addresses; nothing, if there is no list.
    public init(for macs: some Sequence<MACAddress>, folders: [String] = Vendors.lists) {
        var wanted: Set<String> = []
        for mac in macs { for length in [6, 7, 9] { wanted.insert(Self.prefix(mac, length)) } }
        if wanted.isEmpty { return }
        for folder in folders {
            for name in ["oui.txt", "mam.txt", "oui36.txt", "manuf"] {
                guard let data = FileManager.default.contents(atPath: "\(folder)/\(name)"), data.count < 64 << 20 else { continue }
                for line in String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline) {
                    guard let (prefix, vendor) = Self.entry(line), wanted.contains(prefix), names[prefix] == nil else { continue }
                    names[prefix] = vendor
                }
            }
        }
    }

    public func name(_ mac: MACAddress) -> String? {
        // Bit 1 of the first byte: given by whoever runs the network, not by a maker (IEEE 802).
        if mac.rawValue >> 41 & 1 == 1 { return nil }
        for length in [9, 7, 6] { if let name = names[Self.prefix(mac, length)] { return name } }
        return nil
    }

    private static func prefix(_ mac: MACAddress, _ digits: Int) -> String {
        let text = String(mac.rawValue, radix: 16, uppercase: true)
        return String((String(repeating: "0", count: 12 - text.count) + text).prefix(digits))
    }

    /// "00-0C-29   (hex)\t\tVMware, Inc." or "00:0C:29\tVMware\tVMware, Inc.", with "/28" for a longer prefix.
    private static func entry(_ line: Substring) -> (String, String)? {
        if let hex = line.range(of: "(hex)") {
            let prefix = line[..<hex.lowerBound].filter(\.isHexDigit).uppercased()
            let name = line[hex.upperBound...].trimmingCharacters(in: .whitespaces)
            return prefix.count == 6 && !name.isEmpty ? (prefix, name) : nil
        }
        let parts = line.split(separator: "\t", omittingEmptySubsequences: true)
        guard parts.count >= 2, !line.hasPrefix("#") else { return nil }
        let address = parts[0].split(separator: "/")
        let digits = address[0].filter(\.isHexDigit).uppercased()
        let bits = address.count == 2 ? Int(address[1].trimmingCharacters(in: .whitespaces)) ?? 0 : digits.count * 4
        guard [24, 28, 36].contains(bits), digits.count * 4 >= bits else { return nil }
        return (String(digits.prefix(bits / 4)), parts.last!.trimmingCharacters(in: .whitespaces))
    }
}
