import Foundation
import Testing

@testable import Evidence

@Suite struct SignatureTests {
    private let policy = Array("version = 1\n".utf8)

    private func trusted(_ keys: SigningKey...) throws -> TrustedKeys {
        var trusted = TrustedKeys()
        for key in keys { try trusted.add(pem: key.publicPEM, name: "key.pub") }
        return trusted
    }

    @Test func whatIsSignedIsAccepted() throws {
        let key = SigningKey(), other = SigningKey()
        #expect(try SigningKey(pem: key.pem, name: "key").id == key.id)
        #expect(try trusted(other, key).check(policy, signature: key.sign(policy)) == key.id)
    }

    /// RFC 8032 7.1, test 2: the key as openssl writes it, and a signature that others have computed.
    @Test func anothersSignatureIsTheSame() throws {
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n-----END PUBLIC KEY-----\n"
        var keys = TrustedKeys()
        try keys.add(pem: pem, name: "rfc")
        let id = "39f713d0a644253f04529421b9f51b9b"
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        let raw = Data(stride(from: 0, to: 128, by: 2).map { UInt8(signature.dropFirst($0).prefix(2), radix: 16)! })
        #expect(try keys.check([0x72], signature: "sekisho-signature: 1\nkey: \(id)\ned25519: \(raw.base64EncodedString())\n").text == id)
    }

    @Test func anyChangeIsRefused() throws {
        let key = SigningKey()
        let trusted = try trusted(key), signature = try key.sign(policy)
        for at in policy.indices {
            var changed = policy
            changed[at] ^= 1
            #expect(throws: SignatureError.self) { try trusted.check(changed, signature: signature) }
        }
        for at in signature.utf8.indices {
            var changed = Array(signature.utf8)
            changed[signature.utf8.distance(from: signature.utf8.startIndex, to: at)] ^= 1
            #expect(throws: SignatureError.self) { try trusted.check(policy, signature: String(decoding: changed, as: UTF8.self)) }
        }
        for text in [nil, "", "x", signature + signature, signature + "\n", String(signature.dropLast())] {
            #expect(throws: SignatureError.self) { try trusted.check(policy, signature: text) }
        }
        #expect(throws: SignatureError.self) { try trusted.check(policy + [10], signature: signature) }
    }

    @Test func anothersKeyIsRefused() throws {
        let key = SigningKey(), other = SigningKey()
        let error = #expect(throws: SignatureError.self) { try trusted(other).check(policy, signature: key.sign(policy)) }
        #expect(error?.description.contains(key.id.text) == true && error?.description.contains("not trusted") == true)
        // Under the other's name, too.
        let forged = try key.sign(policy).replacingOccurrences(of: key.id.text, with: other.id.text)
        #expect(throws: SignatureError.self) { try trusted(other).check(policy, signature: forged) }
    }

    @Test func whatIsNoKeyIsSaid() throws {
        let key = SigningKey()
        var trusted = TrustedKeys()
        let short = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
        for (pem, words) in [(key.pem, "private key"), ("", "no Ed25519 public key"), (short, "no Ed25519")] {
            let error = #expect(throws: SignatureError.self) { try trusted.add(pem: pem, name: "k") }
            #expect(error?.description.contains(words) == true)
        }
        #expect(throws: SignatureError.self) { try SigningKey(pem: key.publicPEM, name: "k") }
        #expect(trusted.isEmpty)
    }
}
