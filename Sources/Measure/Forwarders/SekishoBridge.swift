// Ourselves, as a user runs us: the binary that runs this comparison, in a process of its own.

import Foundation
import Glibc

final class SekishoBridge: Forwarder {
    let id: String, title: String, why = "the bridge this is about"
    let filters = true
    let setting: String
    private let idle: String
    private let context: ForwarderContext
    private var process: Companion?
    let control: String
    /// Also `--latency-sample`; nil: the default.
    var sampling: String?

    init(idle: String, _ context: ForwarderContext) {
        self.idle = idle
        self.context = context
        id = "sekisho-\(idle)"
        title = "Sekisho, \(idle)"
        setting = "--idle \(idle)"
        control = "\(context.folder)/\(idle).sock"
    }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        let command =
            ["ip", "netns", "exec", bed.forwarderNamespace, ownBinary(), "run", "--inside", Bed.inside, "--outside", Bed.outside]
            + ["--policy", policy.file, "--control", control, "--idle", idle, "--cpus", "\(context.workerCPU)"]
            + (sampling.map { ["--latency-sample", $0] } ?? [])
        let process = try Companion(title, command, log: "\(context.folder)/\(id).log")
        self.process = process
        // A million rules take seconds to compile.
        try process.wait(seconds: 120) { process.printed.contains("forwarding") }
    }

    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError) {
        try Shell.run([ownBinary(), "apply", policy.file, "--control", control])
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
