// Ed25519 signatures of policies (RFC 8032): of the file's bytes, as they are.
//
// Keys are the PEM files that openssl reads and writes (PKCS #8 and SubjectPublicKeyInfo, RFC 8410), so that anybody can check a
// signature without Sekisho. A signature is a small text file beside the policy, with the name of the policy and ".sig".

import Crypto
import Foundation

/// Why a key or a signature is of no use.
public struct SignatureError: Error, CustomStringConvertible, Sendable, Equatable {
    public let description: String
    init(_ text: String) { description = text }
}

/// The first 16 bytes of the public key's SHA-256, in hex.
public struct KeyID: Sendable, Hashable {
    public let text: String

    init(_ key: Curve25519.Signing.PublicKey) { text = SHA256.hash(data: key.rawRepresentation).prefix(16).hex }
    fileprivate init(text: String) { self.text = text }
}

public struct SigningKey: Sendable {
    private let key: Curve25519.Signing.PrivateKey
    public var id: KeyID { KeyID(key.publicKey) }

    /// A new one.
    public init() { key = Curve25519.Signing.PrivateKey() }

    /// - Parameter name: of the file, for messages.
    public init(pem: String, name: String) throws(SignatureError) {
        guard let raw = PEM.read(pem, .privateKey), let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: raw) else {
            throw SignatureError(
                PEM.read(pem, .publicKey) != nil
                    ? "\(name) is a public key\n  → sign with the private one: the same name without .pub"
                    : "\(name) is no Ed25519 private key (PEM)\n  → make one: sekisho keygen -o KEY")
        }
        self.key = key
    }

    public var pem: String { PEM.write(key.rawRepresentation, .privateKey) }
    public var publicPEM: String { PEM.write(key.publicKey.rawRepresentation, .publicKey) }

    /// The text of a signature file.
    public func sign(_ text: [UInt8]) throws(SignatureError) -> String {
        guard let signature = try? key.signature(for: text) else { throw SignatureError("signing did not work") }
        return PolicySignature(key: id, signature: signature).text
    }
}

/// A signature file, read.
struct PolicySignature {
    var key: KeyID
    var signature: Data

    private static let title = "sekisho-signature"

    var text: String { "\(Self.title): 1\nkey: \(key.text)\ned25519: \(signature.base64EncodedString())\n" }

    init(key: KeyID, signature: Data) { (self.key, self.signature) = (key, signature) }

    init(_ text: String) throws(SignatureError) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.split(separator: ": ", maxSplits: 1).map(String.init) }
        guard lines.count == 4, lines[3].isEmpty, lines[0] == [Self.title, "1"], lines[1].count == 2, lines[1][0] == "key", lines[2].count == 2,
            lines[2][0] == "ed25519", let signature = Data(base64Encoded: lines[2][1]), signature.count == 64
        else { throw SignatureError("the signature is not one that this version of sekisho sign wrote") }
        self.init(key: KeyID(text: lines[1][1]), signature: signature)
        // One way to write it only.
        guard self.text == text else { throw SignatureError("the signature is not one that this version of sekisho sign wrote") }
    }
}

/// Whose signatures are accepted.
public struct TrustedKeys: Sendable {
    private var keys: [KeyID: Curve25519.Signing.PublicKey] = [:]

    public init() {}

    public var isEmpty: Bool { keys.isEmpty }

    /// - Parameter name: of the file, for messages.
    public mutating func add(pem: String, name: String) throws(SignatureError) {
        guard let raw = PEM.read(pem, .publicKey), let key = try? Curve25519.Signing.PublicKey(rawRepresentation: raw) else {
            throw SignatureError(
                PEM.read(pem, .privateKey) != nil
                    ? "\(name) is a private key, which does not belong here\n  → give the public one: the same name with .pub"
                    : "\(name) is no Ed25519 public key (PEM)\n  → give what sekisho keygen wrote with the name .pub")
        }
        keys[KeyID(key)] = key
    }

    /// The key that has signed a policy; else why it must not be used.
    ///
    /// - Parameters:
    ///   - text: the policy's bytes.
    ///   - signature: the signature file's text; nil: there is none.
    public func check(_ text: [UInt8], signature: String?) throws(SignatureError) -> KeyID {
        guard let signature else { throw SignatureError("it is not signed, and only signed policies are used here\n  → sekisho sign POLICY --key KEY") }
        let read = try PolicySignature(signature)
        guard let key = keys[read.key] else {
            let trusted = keys.keys.map(\.text).sorted().joined(separator: ", ")
            throw SignatureError("it is signed with the key \(read.key.text), which is not trusted here\n  → trusted: \(trusted)")
        }
        guard key.isValidSignature(read.signature, for: text) else {
            throw SignatureError(
                "it is not what was signed with the key \(read.key.text): it was changed, or the signature is another file's\n  → sign it again")
        }
        return read.key
    }
}

/// RFC 8410: what stands before the 32 bytes of an Ed25519 key is always the same.
private enum PEM {
    enum Kind: String {
        case privateKey = "PRIVATE KEY"
        case publicKey = "PUBLIC KEY"

        var prefix: [UInt8] {
            switch self {
            case .privateKey: [0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20]
            case .publicKey: [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00]
            }
        }
    }

    static func write(_ raw: Data, _ kind: Kind) -> String {
        "-----BEGIN \(kind.rawValue)-----\n\((Data(kind.prefix) + raw).base64EncodedString())\n-----END \(kind.rawValue)-----\n"
    }

    static func read(_ text: String, _ kind: Kind) -> Data? {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        guard lines.count >= 3, lines.first == "-----BEGIN \(kind.rawValue)-----", lines.last == "-----END \(kind.rawValue)-----",
            let data = Data(base64Encoded: lines[1..<(lines.count - 1)].joined()), data.count == kind.prefix.count + 32, data.starts(with: kind.prefix)
        else { return nil }
        return Data(data.suffix(32))
    }
}
