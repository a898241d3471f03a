// Keys, and signatures of policies.

import ArgumentParser
import Control
import Datapath
import Evidence
import Foundation
import Glibc

struct Keygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a key to sign policies with (Ed25519).",
        discussion: "KEY is the private one, for whoever signs: keep it off the bridge. KEY.pub is for 'sekisho run --trusted-key'. Files that are there stay.")
    @Option(name: .shortAndLong, help: ArgumentHelp("File of the private key.", valueName: "key")) var output: String

    func run() throws {
        let key = SigningKey()
        try Self.make(output, key.pem, mode: 0o600)
        do { try Self.make(output + ".pub", key.publicPEM, mode: 0o644) } catch {
            // Half a pair is of no use, and would be in the way of the next attempt.
            unlink(output)
            throw error
        }
        print("key \(key.id.text)")
        print("private: \(output), keep it off the bridge; public: \(output).pub")
    }

    private static func make(_ path: String, _ text: String, mode: mode_t) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard file >= 0 else {
            let code = errno
            guard code == EEXIST else { throw OutputFile.failed(path, code) }
            Output.error("error: writing \(DatapathError(path, code: code, hint: "a key is never replaced; give another name, or move the old one away"))")
            throw Exit.failed
        }
        defer { close(file) }
        var code = writeAll(Array(text.utf8), to: file)
        if code == 0, fsync(file) != 0 { code = errno }
        guard code == 0 else {
            unlink(path)
            throw OutputFile.failed(path, code)
        }
    }
}

struct Sign: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sign a policy: writes POLICY.sig beside it.",
        discussion: "The signature is of the file's bytes. A policy with an error is not signed.")
    @Argument(help: "Policy file.") var file: String
    @Option(help: ArgumentHelp("Private key, as 'sekisho keygen' made it.", valueName: "key")) var key: String

    func run() throws {
        let policy = try PolicyFile(file)
        _ = try policy.document()
        let (id, text): (String, String)
        do {
            let key = try SigningKey(pem: PolicyText.key(key), name: key)
            (id, text) = (key.id.text, try key.sign(policy.text))
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
        try OutputFile.write(text.utf8, to: file + ".sig")
        print("signed \(file) with the key \(id): \(file).sig")
    }
}

/// `--trusted-key`.
struct TrustOptions: ParsableArguments {
    @Option(name: .customLong("trusted-key"), help: ArgumentHelp(
        "Public key, as 'sekisho keygen' made it: only policies that it has signed are used; several: again.", valueName: "file"))
    var trustedKeys: [String] = []

    func keys() throws -> TrustedKeys {
        var keys = TrustedKeys()
        do {
            for name in trustedKeys { try keys.add(pem: PolicyText.key(name), name: name) }
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
        return keys
    }
}
