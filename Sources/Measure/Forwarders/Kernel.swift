// The kernel's own ways between two ports: nothing (a cable), the bridge, the bridge with nftables, and a redirect in XDP.

import Foundation
import Frames
import Glibc

/// What the bed itself costs.
final class Cable: Forwarder {
    let id = "cable", title = "cable (a veth pair)", why = "what the bed itself costs"
    let filters = false
    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {}
}

/// The Linux bridge, plain or with the policy as an nftables ruleset.
final class LinuxBridge: Forwarder {
    let id: String, title: String, why: String
    let filters: Bool
    /// Receive packet steering: frames go on to the other processor. For rates it is used if it carries more.
    var steersTo: Int?
    /// What it carried on one processor, frames a second: below that it is faster without steering.
    private var alone = Double.infinity

    init(filters: Bool) {
        self.filters = filters
        id = filters ? "bridge-nft" : "bridge"
        title = filters ? "Linux bridge + nftables" : "Linux bridge"
        why = filters ? "what a user would pick instead" : "the simplest thing a user has"
    }

    var setting: String { steersTo.map { "RPS to processor \($0)" } ?? "one processor" }
    var version: String {
        guard filters, let text = try? Shell.run(["nft", "--version"]) else { return "" }
        return text.split(separator: "(").first.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) } ?? ""
    }

    func whatIsMissing() -> String? { filters && Shell.find("nft") == nil ? "nft is not installed (apt-get install nftables)" : nil }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        // br_netfilter, where it is built in, would send every frame through iptables as well.
        for family in ["iptables", "ip6tables", "arptables"] {
            _ = try? bed.inForwarder(["sysctl", "-qw", "net.bridge.bridge-nf-call-\(family)=0"])
        }
        try bed.inForwarder(["ip", "link", "add", "br0", "type", "bridge"])
        for port in [Bed.outside, Bed.inside] { try bed.inForwarder(["ip", "link", "set", port, "master", "br0"]) }
        try bed.inForwarder(["ip", "link", "set", "br0", "up"])
        if filters { try bed.inForwarder(["nft", "-f", try policy.exported("nftables")]) }
        try steer(bed, to: steersTo)
    }

    func change(_ bed: Bed, to policy: PolicyForms) throws(MeasureError) {
        guard filters else { return }
        try bed.inForwarder(["nft", "flush", "ruleset"])
        try bed.inForwarder(["nft", "-f", try policy.exported("nftables")])
    }

    /// Takes the better of both for rates.
    func choose(_ bed: Bed, cpu: Int, alone: Double, steered: Double) throws(MeasureError) {
        self.alone = alone
        try steer(bed, to: steered > alone ? cpu : nil)
    }

    /// The setting that serves a load better: handing a frame to another processor costs microseconds.
    func prepare(_ bed: Bed, for rate: Double, cpu: Int) throws(MeasureError) {
        try steer(bed, to: rate > alone * 0.9 ? cpu : nil)
    }

    /// - Parameter cpu: nil: frames stay on the processor they came in on.
    func steer(_ bed: Bed, to cpu: Int?) throws(MeasureError) {
        steersTo = cpu
        let mask = String(cpu.map { 1 << $0 } ?? 0, radix: 16)
        for port in [Bed.outside, Bed.inside] {
            try bed.inForwarder(
                ["sh", "-c", "for f in /sys/class/net/\(port)/queues/rx-*/rps_cpus; do echo \(mask) > $f; done"])
        }
    }

    func drops(_ bed: Bed) -> [String: UInt64]? {
        guard filters else { return [:] }
        guard let text = try? bed.inForwarder(["nft", "-j", "list", "counters"]),
            let json = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any],
            let objects = json["nftables"] as? [[String: Any]]
        else { return nil }
        var drops: [String: UInt64] = [:]
        for object in objects {
            guard let counter = object["counter"] as? [String: Any], let name = counter["name"] as? String,
                let packets = counter["packets"] as? NSNumber, name.hasPrefix("denied")
            else { continue }
            drops[name] = packets.uint64Value
        }
        return drops
    }
}

/// The kernel's own limit on this bed: every frame to the other port by a devmap, nothing judged.
final class DevmapRedirect: Forwarder {
    let id = "devmap", title = "XDP redirect (devmap)", why = "the kernel's own limit on this bed"
    let filters = false
    private let programs: HostPrograms

    init(_ context: ForwarderContext) { programs = context.programs }

    func start(_ bed: Bed, _ policy: PolicyForms) throws(MeasureError) {
        let programs = programs
        try Namespace.enter(bed.forwarderNamespace) { () throws(MeasureError) in
            try programs.attachRedirect(outside: Int32(if_nametoindex(Bed.outside)), inside: Int32(if_nametoindex(Bed.inside)))
        }
    }
}
