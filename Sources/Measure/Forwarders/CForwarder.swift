// The C twin: what our worker does, written as an expert would in C. The price of Swift.

import Allowlist
import Foundation
import Policy

final class CForwarder: Forwarder {
    let id = "c-forwarder", title = "C twin of the worker", why = "the price of Swift"
    let filters = true
    let setting = "--idle spin"
    private let context: ForwarderContext
    private var process: Companion?

    init(_ context: ForwarderContext) { self.context = context }

    /// Beside this binary, where `Scripts/build c-forwarder` puts it.
    private static var binary: String? {
        Shell.find((ownBinary() as NSString).deletingLastPathComponent + "/c-forwarder") ?? Shell.find("c-forwarder")
    }

    func whatIsMissing() -> String? {
        Self.binary == nil ? "c-forwarder is not beside sekisho (Scripts/build sekisho c-forwarder)" : nil
    }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        let image = "\(context.folder)/table-\(policy.mix.id).image"
        if !FileManager.default.fileExists(atPath: image) { try Self.writeImage(of: policy, to: image) }
        let process = try Companion(
            title,
            ["ip", "netns", "exec", bed.forwarderNamespace, Self.binary!, Bed.inside, Bed.outside, image, "--cpu", "\(context.workerCPU)"]
                + ["--idle", "spin"], log: "\(context.folder)/\(id).log")
        self.process = process
        try process.wait { process.printed.contains("forwarding") }
    }

    private static func writeImage(of policy: PolicyForms, to path: String) throws(MeasureError) {
        let table = try compiledTable(policy.file)
        guard table.isExactOnly else {
            throw MeasureError("writing the table for the C twin", hint: "it knows rules between hosts only, without VLAN, side or MAC")
        }
        let image = TableImage(table)
        do {
            try Data(image.bytes).write(to: URL(fileURLWithPath: path))
        } catch {
            throw MeasureError(writing: path, error)
        }
    }

    func pause() { process?.pause() }
    func resume() { process?.resume() }

    func stop() {
        process?.stop()
        process = nil
    }

    /// It says what it dropped only at its end.
    func drops(_ bed: Bed) -> [String: UInt64]? { nil }
}

/// Reads and compiles a policy file that this program wrote, or a user gave.
func compiledTable(_ path: String) throws(MeasureError) -> CompiledTable {
    let now = Int64(Date().timeIntervalSince1970)
    guard let text = FileManager.default.contents(atPath: path) else {
        throw MeasureError("reading the policy \(path)", hint: "does it exist?")
    }
    guard let document = PolicyReader.read([UInt8](text), now: now).document else {
        throw MeasureError("reading the policy \(path), which has errors", hint: "see: sekisho check \(path)")
    }
    do throws(TableError) {
        return try CompiledTable.build(document.compiled(now: now).source)
    } catch {
        throw MeasureError("compiling the policy \(path): \(error)")
    }
}
