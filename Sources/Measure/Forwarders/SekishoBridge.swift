// Ourselves, as a user runs us: the binary that runs this comparison, in a process of its own.

import Foundation
import Glibc

final class SekishoBridge: Forwarder {
    let id: String, title: String, why = "the bridge this is about"
    let filters = true
    let setting: String
    private let idle: String
    private let onlyKernel: Bool
    private let records: Bool
    private let context: ForwarderContext
    private var process: Companion?
    let control: String
    /// Also `--latency-sample`; nil: the default.
    var sampling: String?

    /// - Parameters:
    ///   - onlyKernel: the policy asks for `datapath = "kernel"`, and the workers sleep.
    ///   - records: what passes is recorded.
    init(idle: String, onlyKernel: Bool = false, records: Bool = false, _ context: ForwarderContext) {
        self.idle = idle
        self.onlyKernel = onlyKernel
        self.records = records
        self.context = context
        let name = onlyKernel ? "kernel" : records ? "recording" : idle
        id = "sekisho-\(name)"
        title = "Sekisho, \(name)"
        setting = onlyKernel ? "datapath = \"kernel\"" : "--idle \(idle)" + (records ? " --state" : "")
        control = "\(context.folder)/\(name).sock"
    }

    /// The policy file as it is, or with the other datapath.
    private func file(_ policy: PolicyForms) throws(MeasureError) -> String {
        guard onlyKernel else { return policy.file }
        let path = policy.file + ".kernel"
        if !FileManager.default.fileExists(atPath: path) {
            guard let text = try? String(contentsOfFile: policy.file, encoding: .utf8) else {
                throw MeasureError("reading \(policy.file) again")
            }
            try writeText("datapath = \"kernel\"\n" + text, to: path)
        }
        return path
    }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        let command =
            ["ip", "netns", "exec", bed.forwarderNamespace, ownBinary(), "run", "--inside", Bed.inside, "--outside", Bed.outside]
            + ["--policy", try file(policy), "--control", control, "--idle", idle, "--cpus", "\(context.workerCPU)"]
            + (records ? ["--state", "\(context.folder)/state"] : [])
            + (sampling.map { ["--latency-sample", $0] } ?? [])
        let process = try Companion(title, command, log: "\(context.folder)/\(id).log")
        self.process = process
        // A million rules take seconds to compile.
        try process.wait(seconds: 120) { process.printed.contains("forwarding") }
    }

    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError) {
        try Shell.run([ownBinary(), "apply", try file(policy), "--control", control])
    }

    func pause() { process?.pause() }
    func resume() { process?.resume() }

    func stop() {
        process?.stop()
        process = nil
    }

    func drops(_ bed: Bed) -> [String: UInt64]? {
        guard let text = try? Shell.run([ownBinary(), "status", "--control", control, "--json"]),
            let status = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        else { return nil }
        var drops: [String: UInt64] = [:]
        for denied in status["denied"] as? [[String: Any]] ?? [] {
            if let cause = denied["cause"] as? String, let frames = denied["frames"] as? NSNumber { drops[cause] = frames.uint64Value }
        }
        // What the kernel dropped before a worker saw it stands in the ports' own counters too, and is taken from there.
        return drops
    }
}
