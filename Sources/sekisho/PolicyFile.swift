// Reading the policy file a command was given.

import ArgumentParser
import Control
import Foundation
import Policy

struct PolicyFile {
    let path: String
    let text: [UInt8]
    let reading: PolicyReading

    init(_ path: String, findsOverlaps: Bool = false) throws {
        self.path = path
        text = try Self.text(path)
        reading = PolicyReader.read(text, now: Self.now, findsOverlaps: findsOverlaps)
    }

    static var now: Int64 { Int64(Date().timeIntervalSince1970) }

    static func text(_ path: String) throws -> [UInt8] {
        do {
            return try PolicyText.read(path)
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
    }

    /// The text of the signature beside it, if there is one.
    static func signature(_ path: String) throws -> String? {
        do {
            return try PolicyText.signature(of: path)
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
    }

    /// The document, or the findings on standard error and a failure.
    func document() throws -> PolicyDocument {
        if let document = reading.document { return document }
        for finding in reading.diagnostics { Output.error(finding.rendered(file: path)) }
        throw Exit.failed
    }
}

/// `--control`.
struct ControlOption: ParsableArguments {
    @Option(help: ArgumentHelp(
        "Control socket of the bridge, or NAME of sekisho@NAME; default: /run/sekisho/control.sock, or of what is asked the only one there.",
        valueName: "socket"))
    var control: String?

    /// Where a bridge is to listen.
    var own: String { control.map { $0.contains("/") ? $0 : ControlClient.socket(named: $0) } ?? defaultControlSocket }
    /// Where one is asked.
    var path: String { control == nil ? ControlClient.onlySocket ?? own : own }
}
