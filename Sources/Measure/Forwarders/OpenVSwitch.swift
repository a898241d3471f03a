// Open vSwitch with the policy as OpenFlow flows: the kernel's datapath where the kernel has it, else the one in user space.

import Foundation

final class OpenVSwitch: Forwarder {
    let id = "ovs", why = "the usual software switch"
    private(set) var title = "Open vSwitch"
    let filters = true
    // Three flows a rule, and some 15,000 flows a second.
    let mostRules = 10_000
    private(set) var version = ""
    private(set) var setting = ""
    private let context: ForwarderContext
    private let run: String
    private var database: Companion?
    private var daemon: Companion?

    init(_ context: ForwarderContext) {
        self.context = context
        run = "\(context.folder)/ovs"
    }

    func whatIsMissing() -> String? {
        for program in ["ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovsdb-tool"] where Shell.find(program) == nil {
            return "\(program) is not installed (apt-get install openvswitch-switch)"
        }
        return nil
    }

    private var environment: [String: String] {
        ["OVS_RUNDIR": run, "OVS_LOGDIR": run, "OVS_DBDIR": run, "OVS_SYSCONFDIR": run]
    }

    private func command(_ bed: Bed, _ words: [String]) throws(MeasureError) -> String {
        try bed.inForwarder(["env"] + environment.map { "\($0.key)=\($0.value)" } + words)
    }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        try? FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        let schema = "/usr/share/openvswitch/vswitch.ovsschema"
        try? FileManager.default.removeItem(atPath: "\(run)/conf.db")
        try Shell.run(["ovsdb-tool", "create", "\(run)/conf.db", schema])
        let enter = ["ip", "netns", "exec", bed.forwarderNamespace]
        let database = try Companion(
            "ovsdb-server", enter + ["ovsdb-server", "\(run)/conf.db", "--remote=punix:\(run)/db.sock", "--unixctl=\(run)/db.ctl"],
            log: "\(run)/ovsdb.log", environment: environment)
        self.database = database
        let socket = "\(run)/db.sock"
        try database.wait { FileManager.default.fileExists(atPath: socket) }
        let daemon = try Companion(
            "ovs-vswitchd", enter + ["ovs-vswitchd", "unix:\(socket)", "--unixctl=\(run)/vs.ctl"],
            log: "\(run)/vswitchd.log", environment: environment)
        self.daemon = daemon
        let controlSocket = "\(run)/vs.ctl"
        try daemon.wait { FileManager.default.fileExists(atPath: controlSocket) }
        func control(_ words: [String]) throws(MeasureError) -> String {
            try command(bed, ["ovs-vsctl", "--timeout=15", "--db=unix:\(socket)"] + words)
        }
        _ = try control(["--no-wait", "init"])
        _ = try control(["--no-wait", "set", "Open_vSwitch", ".", "other_config:vlan-limit=2"])
        // ovs-vsctl ends with 0 even where the kernel has no such datapath; the record says so.
        var isKernel = true
        _ = try? control(["add-br", "br0", "--", "set", "bridge", "br0", "fail-mode=secure"])
        if (try? control(["get", "interface", "br0", "ofport"]))?.trimmingCharacters(in: .whitespacesAndNewlines) != "65534" {
            isKernel = false
            _ = try control(["--if-exists", "del-br", "br0"])
            _ = try control(["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail-mode=secure"])
        }
        title = isKernel ? "Open vSwitch (kernel datapath)" : "Open vSwitch (user-space datapath)"
        setting = isKernel ? "" : "this kernel has no Open vSwitch datapath (CONFIG_OPENVSWITCH)"
        for (port, number) in [(Bed.inside, 1), (Bed.outside, 2)] {
            _ = try control(["add-port", "br0", port, "--", "set", "interface", port, "ofport_request=\(number)"])
        }
        try loadFlows(bed, policy)
        version = (try? command(bed, ["ovs-vswitchd", "--version"]))?.split(separator: "\n").first.map(String.init) ?? ""
    }

    private func loadFlows(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        let bridge = "unix:\(run)/br0.mgmt"
        // First fragments show their ports to flows.
        _ = try command(bed, ["ovs-ofctl", "set-frags", bridge, "nx-match"])
        _ = try command(bed, ["ovs-ofctl", "del-flows", bridge])
        _ = try command(bed, ["ovs-ofctl", "add-flows", bridge, try policy.exported("openflow")])
    }

    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError) { try loadFlows(bed, policy) }

    // In user space it has a thread that polls.
    func pause() { daemon?.pause() }
    func resume() { daemon?.resume() }

    func stop() {
        daemon?.stop()
        database?.stop()
        daemon = nil
        database = nil
    }

    func drops(_ bed: Bed) -> [String: UInt64]? {
        guard let text = try? command(bed, ["ovs-ofctl", "dump-flows", "unix:\(run)/br0.mgmt", "--no-names"]) else { return nil }
        var dropped: UInt64 = 0
        for line in text.split(separator: "\n") where line.contains("actions=drop") {
            if let at = line.range(of: "n_packets=") { dropped += UInt64(line[at.upperBound...].prefix { $0.isNumber }) ?? 0 }
        }
        return ["drop flow": dropped]
    }
}
