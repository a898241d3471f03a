// DPDK's testpmd between two AF_XDP ports: the usual fast path. It forwards everything and judges nothing.

import Foundation

final class Testpmd: Forwarder {
    let id = "dpdk", title = "DPDK testpmd (net_af_xdp)", why = "the usual fast path"
    let filters = false
    let setting = "io mode, one core, busy polling"
    private(set) var version = ""
    private let context: ForwarderContext
    private var process: Companion?

    init(_ context: ForwarderContext) { self.context = context }

    func whatIsMissing() -> String? {
        Shell.find("dpdk-testpmd") == nil ? "dpdk-testpmd is not installed (apt-get install dpdk-dev librte-net-af-xdp23)" : nil
    }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        // Its output is read to know that it is ready: line by line, or it stays in a buffer.
        // EAL wants two cores: one for its command line, which sleeps, and one that forwards.
        let command =
            ["ip", "netns", "exec", bed.forwarderNamespace, "stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "512", "--no-pci", "--no-telemetry"]
            + ["--file-prefix", "skb", "-l", "\(context.generatorCPU),\(context.workerCPU)", "--main-lcore", "\(context.generatorCPU)"]
            + ["--vdev", "net_af_xdp0,iface=\(Bed.outside)", "--vdev", "net_af_xdp1,iface=\(Bed.inside)"]
            + ["--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--stats-period", "3600", "--total-num-mbufs=16384"]
        let process = try Companion(
            title, command, log: "\(context.folder)/\(id).log",
            environment: ["XDG_RUNTIME_DIR": context.folder, "RUNTIME_DIRECTORY": context.folder])
        self.process = process
        try process.wait { process.printed.contains("packet forwarding packets/burst") }
        if let text = try? Shell.run(["dpkg-query", "-W", "-f", "${Version}", "dpdk"]) { version = text }
    }

    func pause() { process?.pause() }
    func resume() { process?.resume() }

    func stop() {
        process?.stop()
        process = nil
    }

    func drops(_ bed: Bed) -> [String: UInt64]? { nil }
}
