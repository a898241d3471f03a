// Addresses as people write them.

import Allowlist
import Frames
import Glibc

extension AddressPrefix {
    /// What can be wrong with a written address.
    enum WrittenError: Error {
        case notAnAddress
        /// Length beyond the family's.
        case length(most: Int)
        /// Bits set behind the prefix length; the network they lie in.
        case hostBits(network: AddressPrefix)
    }

    /// "10.3.0.10", "10.3.1.64/27", "fd00:3::21", "fd00::/16".
    init(written text: String) throws(WrittenError) {
        // inet_pton would stop at a zero byte.
        guard !text.utf8.contains(0) else { throw .notAnAddress }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let (family, words) = Self.address(String(parts[0])) else { throw .notAnAddress }
        guard parts.count == 2 else {
            self.init(family: family, words: words, length: family.bits)
            return
        }
        guard !parts[1].isEmpty, parts[1].allSatisfy(\.isASCIIDigit), let length = Int(parts[1]),
            String(length) == parts[1]
        else { throw .notAnAddress }
        guard length <= family.bits else { throw .length(most: family.bits) }
        self.init(family: family, words: words, length: length)
        if self.words != words { throw .hostBits(network: self) }
    }

    /// One address; nil: a network, or neither.
    public static func host(_ text: String) -> AddressPrefix? {
        address(text).map { AddressPrefix(family: $0.0, words: $0.1, length: $0.0.bits) }
    }

    static func address(_ text: String) -> (IPFamily, AddressWords)? {
        var bytes4 = in_addr()
        if inet_pton(AF_INET, text, &bytes4) == 1 {
            return (.ipv4, AddressWords(high: 0, low: UInt64(UInt32(bigEndian: bytes4.s_addr))))
        }
        var bytes6 = in6_addr()
        guard inet_pton(AF_INET6, text, &bytes6) == 1 else { return nil }
        return withUnsafeBytes(of: &bytes6) {
            (
                .ipv6,
                AddressWords(
                    high: UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                    low: UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
            )
        }
    }

    /// As it would be written: hosts without a length.
    public var written: String {
        let address = words.written(family)
        return isHost ? address : "\(address)/\(length)"
    }
}

extension AddressWords {
    public func written(_ family: IPFamily) -> String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        switch family {
        case .ipv4:
            var bytes = UInt32(truncatingIfNeeded: low).bigEndian
            inet_ntop(AF_INET, &bytes, &text, socklen_t(text.count))
        case .ipv6:
            var bytes = (high.bigEndian, low.bigEndian)
            inet_ntop(AF_INET6, &bytes, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension MACAddress {
    /// "02:00:00:00:03:0a", also with dashes.
    public init?(written text: String) {
        let parts = text.split(whereSeparator: { $0 == ":" || $0 == "-" })
        guard parts.count == 6, text.count == 17 else { return nil }
        var value: UInt64 = 0
        for part in parts {
            guard part.count == 2, part.allSatisfy(\.isHexDigit), let byte = UInt8(part, radix: 16) else { return nil }
            value = value << 8 | UInt64(byte)
        }
        self.init(rawValue: value)
    }

    public var written: String {
        (0..<6).map { i in
            let byte = UInt8(truncatingIfNeeded: rawValue >> UInt64(40 - 8 * i))
            return (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined(separator: ":")
    }
}

extension Character {
    var isASCIIDigit: Bool { self >= "0" && self <= "9" }
}

/// A host address given on a command line.
public struct WrittenAddress: Sendable {
    public let family: IPFamily
    public let words: AddressWords

    public init?(_ text: String) {
        guard let (family, words) = AddressPrefix.address(text) else { return nil }
        self.family = family
        self.words = words
    }

    /// A protocol's name or number.
    public static func ipProtocol(_ name: String) -> IPProtocol? { WrittenService.ipProtocol(name) }

    /// What a service's name, or "tcp/5000-5010", stands for; nil if it is neither.
    public static func services(_ text: String) -> [ServiceRange]? { ServiceCatalogue.ranges(text) ?? (try? WrittenService(text))?.ranges }

    /// A host or a network; nil if it is neither, or has host bits set.
    public static func network(_ text: String) -> AddressPrefix? { try? AddressPrefix(written: text) }
}
