// Addresses in texts that leave the plant are replaced: the same address always by the same other one, by a keyed hash whose key
// dies with the process. What shares a network still does, so that a policy keeps its meaning (after Xu et al., "Prefix-preserving
// IP address anonymization", ICNP 2002).

import Allowlist
import Crypto
import Foundation
import Frames
import Policy

public struct Pseudonyms: Sendable {
    private let key = SymmetricKey(size: .bits256)
    /// Whether addresses are replaced at all.
    private let replacesAddresses: Bool

    public init(replacesAddresses: Bool = true) { self.replacesAddresses = replacesAddresses }

    // MARK: - Texts

    /// Any text, without addresses, and without what may be key material. In doubt something goes that need not have.
    public func cleaned(_ text: String) -> String {
        var result: [UInt8] = []
        let bytes = Array(Self.withoutPEM(text).utf8)
        var at = 0
        while at < bytes.count {
            let end = bytes[at...].firstIndex { !Self.isPartOfToken($0) } ?? bytes.count
            if end > at {
                result += cleaned(bytes[at..<end])
                at = end
            } else {
                result.append(bytes[at])
                at += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static let removed = Array("[removed]".utf8)

    private static func withoutPEM(_ text: String) -> String {
        var result = "", rest = text[...]
        while let begin = rest.range(of: "-----BEGIN ") {
            result += rest[..<begin.lowerBound] + "[removed]"
            rest = rest[begin.upperBound...]
            guard let end = rest.range(of: "-----END "), let close = rest[end.upperBound...].range(of: "-----") else { return result }
            rest = rest[close.upperBound...]
        }
        return result + rest
    }

    private static func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }
    private static func isLetter(_ byte: UInt8) -> Bool { UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 }
    private static func isHex(_ byte: UInt8) -> Bool { isDigit(byte) || UInt8(ascii: "a")...UInt8(ascii: "f") ~= byte | 0x20 }
    private static func isPartOfToken(_ byte: UInt8) -> Bool { isDigit(byte) || isLetter(byte) || ".:-_/+=".utf8.contains(byte) }

    private func cleaned(_ token: ArraySlice<UInt8>) -> [UInt8] {
        if Self.looksLikeKey(token) { return Self.removed }
        guard replacesAddresses else { return Array(token) }
        var result: [UInt8] = []
        var at = token.startIndex
        while at < token.endIndex {
            let before = at > token.startIndex ? token[at - 1] : UInt8(ascii: " ")
            if let (new, end) = mac(token[at...], behind: before) ?? ipv6(token[at...], behind: before) ?? ipv4(token[at...], behind: before) {
                result += new.utf8
                at = end
            } else {
                result.append(token[at])
                at += 1
            }
        }
        return result
    }

    /// A key, a signature or a hash: hexadecimal digits, or what changes between letters, capitals and digits as only base64 does.
    private static func looksLikeKey(_ token: ArraySlice<UInt8>) -> Bool {
        guard token.count >= 32 else { return false }
        if token.count(where: isHex) == token.count { return true }
        func kind(_ byte: UInt8) -> Int { isDigit(byte) ? 0 : !isLetter(byte) ? 1 : byte & 0x20 == 0 ? 2 : 3 }
        // Addresses and times have no capitals and small letters side by side.
        let kinds = Set(token.map(kind))
        let changes = zip(token, token.dropFirst()).count { kind($0) != kind($1) }
        // Words that are joined have more hyphens than chance gives a key.
        let joints = token.count { "-_/+.:".utf8.contains($0) }
        return kinds.isSuperset(of: [2, 3]) && joints * 100 <= token.count * 12 && Double(changes) >= 0.38 * Double(token.count - 1)
    }

    private typealias Found = (text: String, end: Int)

    private func mac(_ rest: ArraySlice<UInt8>, behind before: UInt8) -> Found? {
        guard !Self.isHex(before) else { return nil }
        // 02:00:00:00:03:0a, 02-00-00-00-03-0a, 0200.0000.030a
        for (length, step, separators) in [(17, 3, ":-"), (14, 5, ".")] {
            let text = rest.prefix(length), end = rest.startIndex + length
            guard text.count == length, end == rest.endIndex || !Self.isHex(rest[end]) else { continue }
            let marks = stride(from: text.startIndex + step - 1, to: end, by: step).map { text[$0] }
            guard let mark = marks.first, separators.utf8.contains(mark), marks.allSatisfy({ $0 == mark }) else { continue }
            let digits = text.filter(Self.isHex)
            guard digits.count == 12, let number = UInt64(String(decoding: digits, as: UTF8.self), radix: 16) else { continue }
            return (pseudonym(mac: number).written, end)
        }
        return nil
    }

    private func ipv6(_ rest: ArraySlice<UInt8>, behind before: UInt8) -> Found? {
        guard !Self.isHex(before), before != UInt8(ascii: ":") else { return nil }
        var text = rest.prefix { Self.isHex($0) || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }
        guard text.count(where: { $0 == UInt8(ascii: ":") }) >= 2, text.endIndex == rest.endIndex || !Self.isLetter(rest[text.endIndex]) else { return nil }
        // A colon or full stop of the sentence.
        while text.count > 2, let last = text.last, !Self.isHex(last), WrittenAddress(String(decoding: text, as: UTF8.self)) == nil { text.removeLast() }
        guard let address = WrittenAddress(String(decoding: text, as: UTF8.self)), address.family == .ipv6 else { return nil }
        return found(address, rest[text.endIndex...])
    }

    private func ipv4(_ rest: ArraySlice<UInt8>, behind before: UInt8) -> Found? {
        guard !Self.isDigit(before), let first = rest.first, Self.isDigit(first) else { return nil }
        var numbers: [UInt64] = [], at = rest.startIndex, separator: UInt8?
        while numbers.count < 4 {
            let digits = rest[at...].prefix(4).prefix(while: Self.isDigit)
            guard (1...3).contains(digits.count), let number = UInt64(String(decoding: digits, as: UTF8.self)), number <= 255 else { return nil }
            numbers.append(number)
            at = digits.endIndex
            if numbers.count == 4 { break }
            guard at < rest.endIndex, ".-_".utf8.contains(rest[at]), separator ?? rest[at] == rest[at] else { return nil }
            separator = rest[at]
            at += 1
        }
        let words = AddressWords(high: 0, low: numbers.reduce(0) { $0 << 8 | $1 })
        // In a name ("tool-10-3-0-5") it stays part of the name.
        guard separator == UInt8(ascii: ".") else {
            let new = pseudonym(words, .ipv4, length: 32).written(.ipv4)
            return (new.replacingOccurrences(of: ".", with: String(UnicodeScalar(separator!))), at)
        }
        guard let address = WrittenAddress(words.written(.ipv4)) else { return nil }
        return found(address, rest[at...])
    }

    /// - Parameter rest: behind the address: the length of a network, maybe.
    private func found(_ address: WrittenAddress, _ rest: ArraySlice<UInt8>) -> Found {
        var length: Int?, end = rest.startIndex
        if rest.first == UInt8(ascii: "/") {
            let digits = rest.dropFirst().prefix(4).prefix(while: Self.isDigit)
            if let number = Int(String(decoding: digits, as: UTF8.self)), number <= address.family.bits { (length, end) = (number, digits.endIndex) }
        }
        let new = pseudonym(address.words, address.family, length: length ?? address.family.bits)
        return (new.written(address.family) + (length.map { "/\($0)" } ?? ""), end)
    }

    // MARK: - Addresses

    /// - Parameter length: the bits behind it stay as they are: those of a network are 0.
    func pseudonym(_ address: AddressWords, _ family: IPFamily, length: Int) -> AddressWords {
        if Self.isEverywhere(address, family) { return address }
        let bits = family.bits
        // Private, global, link-local or multicast stays what it is.
        let kept = family == .ipv4 ? 8 : 16
        var words = address
        for place in kept..<max(kept, length) {
            let before = Self.head(address, bits: bits, length: place)
            var message = Data([UInt8(bits), UInt8(place)])
            withUnsafeBytes(of: (before.high, before.low)) { message.append(contentsOf: $0) }
            let hash = HMAC<SHA256>.authenticationCode(for: message, using: key)
            guard hash.first(where: { _ in true })! & 1 == 1 else { continue }
            let fromRight = bits - 1 - place
            if fromRight >= 64 { words = AddressWords(high: words.high ^ 1 << UInt64(fromRight - 64), low: words.low) } else {
                words = AddressWords(high: words.high, low: words.low ^ 1 << UInt64(fromRight))
            }
        }
        return words
    }

    private static func head(_ address: AddressWords, bits: Int, length: Int) -> AddressWords {
        let drop = bits - length
        if drop >= 64 { return AddressWords(high: drop == 128 ? 0 : (address.high >> UInt64(drop - 64)) << UInt64(drop - 64), low: 0) }
        return AddressWords(high: address.high, low: (address.low >> UInt64(drop)) << UInt64(drop))
    }

    /// The same in every plant: unspecified, loopback, broadcast, well-known groups.
    private static func isEverywhere(_ address: AddressWords, _ family: IPFamily) -> Bool {
        switch family {
        case .ipv4: address.low == 0 || address.low == 0xFFFF_FFFF || address.low >> 24 == 127 || address.low >> 8 == 0xE00000
        case .ipv6: address.high == 0 && address.low <= 1 || address.high & 0xFF00_FFFF_FFFF_FFFF == 0xFF00_0000_0000_0000 && address.low < 0x2_0000
        }
    }

    /// Locally administered, without its maker; groups stay.
    private func pseudonym(mac number: UInt64) -> MACAddress {
        if number >> 40 & 1 == 1 || number == 0 { return MACAddress(rawValue: number) }
        var message = Data([48])
        withUnsafeBytes(of: number) { message.append(contentsOf: $0) }
        return MACAddress(rawValue: HMAC<SHA256>.authenticationCode(for: message, using: key).prefix(5).reduce(2) { $0 << 8 | UInt64($1) })
    }
}

/// A policy file for somebody else's eyes: its rules and names, without what people wrote beside them.
enum PolicyForOthers {
    /// Without comments, purposes and owners: free text may hold anything. Lines keep their numbers.
    static func stripped(_ text: String) -> String {
        var result = "", isInComment = false
        var rest = text[...]
        /// What ends the string that goes on; nil: there is none.
        var quote: String?
        while let next = rest.first {
            if isInComment {
                if next.isNewline {
                    isInComment = false
                    result.append(next)
                }
                rest = rest.dropFirst()
            } else if let end = quote {
                if end.first == "\"", next == "\\" {
                    result += rest.prefix(2)
                    rest = rest.dropFirst(2)
                } else if rest.hasPrefix(end) {
                    result += end
                    rest = rest.dropFirst(end.count)
                    quote = nil
                } else if next.isNewline, end.count == 1 {
                    // A string that is not closed ends with its line: what is behind it is looked at again.
                    quote = nil
                } else {
                    result.append(next)
                    rest = rest.dropFirst()
                }
            } else if let begin = ["\"\"\"", "'''", "\"", "'"].first(where: { rest.hasPrefix($0) }) {
                result += begin
                rest = rest.dropFirst(begin.count)
                quote = begin
            } else if next == "#" {
                isInComment = true
                rest = rest.dropFirst()
            } else {
                result.append(next)
                rest = rest.dropFirst()
            }
        }
        return result.replacing(/\b(["']?)(purpose|owner)\1\s*=\s*("""(?s:.)*?"""|'''(?s:.)*?'''|"([^"\\\n]|\\.)*"?|'[^'\n]*'?)/) { match in
            "\(match.output.2) = \"[removed]\"" + String(repeating: "\n", count: match.output.0.count { $0.isNewline })
        }
    }
}
