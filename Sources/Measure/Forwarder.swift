// What is compared: each knows how to start between two ports, what it dropped, and why it may be missing here.

import Foundation
import Frames

/// A policy in every form that a forwarder wants it in, written once for a mix.
final class PolicyForms {
    let folder: String
    let mix: TrafficMix
    /// The policy file.
    let file: String

    init(_ mix: TrafficMix, text: String? = nil, folder: String) throws(MeasureError) {
        self.mix = mix
        self.folder = folder
        file = "\(folder)/policy-\(mix.id).toml"
        try writeText(text ?? mix.policyText(), to: file)
    }

    /// Made by `sekisho export FORMAT`, when first asked for.
    func exported(_ format: String) throws(MeasureError) -> String {
        let path = "\(folder)/policy-\(mix.id).\(format)"
        if !FileManager.default.fileExists(atPath: path) {
            try Shell.run([ownBinary(), "export", format, file, "--output", path])
        }
        return path
    }
}

/// This program.
func ownBinary() -> String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
}

func writeText(_ text: String, to path: String) throws(MeasureError) {
    do {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    } catch {
        throw MeasureError(writing: path, error)
    }
}

/// A peer, or ourselves.
protocol Forwarder: AnyObject {
    /// Stable, for reports: "bridge-nft".
    var id: String { get }
    var title: String { get }
    /// Why it is in the comparison.
    var why: String { get }
    var filters: Bool { get }
    /// Version, once it is known.
    var version: String { get }
    /// What of several settings was taken, e.g. RPS or not.
    var setting: String { get }

    /// Rules it can be given within seconds.
    var mostRules: Int { get }
    /// Why it cannot run here, or nil. Looks only.
    func whatIsMissing() -> String?
    /// Begins to forward on its bed. The process keeps running until `stop`.
    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError)
    /// A policy in place of the one before, while it runs or by starting it again.
    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError)
    /// Takes it off the processors while another is measured.
    func pause()
    func resume()
    func stop()
    /// Frames it dropped itself since it was started, by its own counters and their names; nil if it does not say.
    func drops(_ bed: Bed) -> [String: UInt64]?
}

extension Forwarder {
    var version: String { "" }
    var setting: String { "" }
    var mostRules: Int { .max }
    func whatIsMissing() -> String? { nil }
    func pause() {}
    func resume() {}
    func stop() {}
    func drops(_ bed: Bed) -> [String: UInt64]? { [:] }

    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError) {
        guard filters else { return }
        stop()
        try start(bed, policy)
    }
}

/// The ids of every forwarder there is, in the order of reports.
public enum ForwarderID: String, CaseIterable, Sendable {
    case cable, bridge
    case bridgeNft = "bridge-nft"
    case ovs, dpdk, devmap
    case cForwarder = "c-forwarder"
    case sekishoSpin = "sekisho-spin"
    case sekishoHybrid = "sekisho-hybrid"
    case sekishoKernel = "sekisho-kernel"
    case sekishoRecording = "sekisho-recording"

    /// Those that are compared if nobody says which: recording is compared with `sekishoHybrid` alone.
    public static let usual = allCases.filter { $0 != .sekishoRecording }

    func make(_ context: ForwarderContext) -> any Forwarder {
        switch self {
        case .cable: Cable()
        case .bridge: LinuxBridge(filters: false)
        case .bridgeNft: LinuxBridge(filters: true)
        case .ovs: OpenVSwitch(context)
        case .dpdk: Testpmd(context)
        case .devmap: DevmapRedirect(context)
        case .cForwarder: CForwarder(context)
        case .sekishoSpin: SekishoBridge(idle: "spin", context)
        case .sekishoHybrid: SekishoBridge(idle: "hybrid", context)
        case .sekishoKernel: SekishoBridge(idle: "sleep", onlyKernel: true, context)
        case .sekishoRecording: SekishoBridge(idle: "hybrid", records: true, context)
        }
    }
}

/// What forwarders share.
struct ForwarderContext {
    var programs: HostPrograms
    /// Logs and sockets.
    var folder: String
    /// The processor of whoever polls.
    var workerCPU: Int
    var generatorCPU: Int
}
