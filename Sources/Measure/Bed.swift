// What a forwarder is measured on: two end hosts, and two ports for the forwarder between them, in namespaces of their own.
//
//   namespace …-out        namespace …-mid                namespace …-in
//   host ════════════════ outside │ forwarder │ inside ════════════════ tool
//
// Every forwarder has a bed of its own, so that all can be there at once and take turns.

import CLinux
import Foundation
import Frames
import Glibc

final class Bed {
    /// Names of the ends and of the ports.
    static let host = "host", tool = "tool", outside = "outside", inside = "inside"
    /// For hosts with an IP stack: the applications that sleep.
    static let hostAddress = "10.250.0.10", toolAddress = "10.250.1.21"

    private let prefix: String
    /// A cable has no forwarder: the ends face each other.
    let isCable: Bool
    private(set) var hostIndex: Int32 = 0
    private(set) var toolIndex: Int32 = 0

    var hostNamespace: String { "\(prefix)-out" }
    var toolNamespace: String { "\(prefix)-in" }
    var forwarderNamespace: String { "\(prefix)-mid" }
    private var namespaces: [String] { [hostNamespace, toolNamespace] + (isCable ? [] : [forwarderNamespace]) }

    /// - Parameter name: short, e.g. "ovs": part of the namespaces' names.
    init(_ name: String, isCable: Bool, programs: HostPrograms) throws(MeasureError) {
        prefix = "skb\(getpid())-\(name)"
        self.isCable = isCable
        do {
            try build(programs)
        } catch {
            remove()
            throw error
        }
    }

    private func build(_ programs: HostPrograms) throws(MeasureError) {
        for namespace in namespaces {
            try Shell.run(["ip", "netns", "add", namespace])
            // The kernel's own IPv6 would send what nobody asked for.
            try inside(namespace, ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
        }
        if isCable {
            try link(Self.host, hostNamespace, Self.tool, toolNamespace)
        } else {
            try link(Self.host, hostNamespace, Self.outside, forwarderNamespace)
            try link(Self.tool, toolNamespace, Self.inside, forwarderNamespace)
            for port in [Self.outside, Self.inside] { try prepare(port, forwarderNamespace) }
        }
        for (end, namespace, address, side) in [
            (Self.host, hostNamespace, Self.hostAddress, Side.outside), (Self.tool, toolNamespace, Self.toolAddress, .inside),
        ] {
            try prepare(end, namespace)
            // Checksums left to the NIC would cross an AF_XDP port unfinished.
            try inside(namespace, ["ethtool", "-K", end, "tx", "off"])
            try inside(namespace, ["ip", "addr", "add", "\(address)/16", "dev", end])
            try Namespace.enter(namespace) { () throws(MeasureError) in
                let index = Int32(if_nametoindex(end))
                if side == .outside { hostIndex = index } else { toolIndex = index }
                try programs.attachEnd(side, ifindex: index)
            }
        }
    }

    private func link(_ a: String, _ aSpace: String, _ b: String, _ bSpace: String) throws(MeasureError) {
        try Shell.run(["ip", "link", "add", a, "netns", aSpace, "type", "veth", "peer", "name", b, "netns", bSpace])
    }

    private func prepare(_ port: String, _ namespace: String) throws(MeasureError) {
        try inside(namespace, ["ip", "link", "set", port, "up"])
        // Frames redirected into a veth whose other end has no NAPI are dropped without a word; "gro on" gives it one, but
        // only to a port that is up.
        try inside(namespace, ["ethtool", "-K", port, "gro", "on"])
    }

    /// Makes this bed the one the next trials run on.
    func use(_ programs: HostPrograms) throws(MeasureError) {
        for (namespace, side, index) in [(hostNamespace, Side.outside, hostIndex), (toolNamespace, .inside, toolIndex)] {
            try Namespace.enter(namespace) { () throws(MeasureError) in try programs.choose(side, ifindex: index) }
        }
    }

    /// Runs a command in a namespace.
    @discardableResult
    func inside(_ namespace: String, _ command: [String], input: String? = nil) throws(MeasureError) -> String {
        try Shell.run(["ip", "netns", "exec", namespace] + command, input: input)
    }

    @discardableResult
    func inForwarder(_ command: [String], input: String? = nil) throws(MeasureError) -> String {
        try inside(forwarderNamespace, command, input: input)
    }

    /// Frames that the bed's ports dropped, by port and counter: what the kernel lost between the hosts.
    func portDrops() -> [String: UInt64] {
        var drops: [String: UInt64] = [:]
        let places = [(hostNamespace, Self.host), (toolNamespace, Self.tool)]
            + (isCable ? [] : [(forwarderNamespace, Self.outside), (forwarderNamespace, Self.inside)])
        for (namespace, port) in places {
            guard let text = try? inside(namespace, ["ethtool", "-S", port]) else { continue }
            for line in text.split(separator: "\n") {
                let parts = line.split(separator: ":").map { $0.trimmingCharacters(in: .whitespaces) }
                guard parts.count == 2, parts[0].contains("drops") || parts[0].contains("errors"), let value = UInt64(parts[1]),
                    value > 0
                else { continue }
                drops["\(port) \(parts[0])", default: 0] += value
            }
        }
        // Between processors: where frames are steered to, the queue may be full. Second column, hexadecimal, by processor.
        let backlog = ((try? String(contentsOfFile: "/proc/net/softnet_stat", encoding: .utf8)) ?? "").split(separator: "\n")
            .reduce(UInt64(0)) { sum, line in
                let columns = line.split(separator: " ")
                return sum + (columns.count > 1 ? UInt64(columns[1], radix: 16) ?? 0 : 0)
            }
        if backlog > 0 { drops["backlog of a processor"] = backlog }
        return drops
    }

    /// Takes down what a run that was killed has left: programs, stopped ones too, namespaces, folders.
    static func removeLeftovers() {
        func isDead(_ text: Substring) -> Bool {
            Int32(text.prefix { $0.isNumber }).map { kill($0, 0) != 0 && errno == ESRCH } ?? false
        }
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? [] where name.hasPrefix("skb") {
            guard isDead(name.dropFirst(3)) else { continue }
            let programs = (try? Shell.run(["ip", "netns", "pids", name])) ?? ""
            for program in programs.split(separator: "\n").compactMap({ Int32($0) }) { kill(program, SIGKILL) }
            _ = try? Shell.run(["ip", "netns", "del", name])
        }
        let temporary = NSTemporaryDirectory(), prefix = "sekisho-bench-"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: temporary)) ?? [] where name.hasPrefix(prefix) {
            guard isDead(name.dropFirst(prefix.count)) else { continue }
            try? FileManager.default.removeItem(atPath: temporary + name)
        }
    }

    func remove() {
        for namespace in namespaces { _ = try? Shell.run(["ip", "netns", "del", namespace]) }
    }

    deinit { remove() }
}

/// Network namespaces of threads.
enum Namespace {
    /// Runs `body` with the calling thread in a namespace, and comes back.
    static func enter<Result>(_ name: String, _ body: () throws(MeasureError) -> Result) throws(MeasureError) -> Result {
        let before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
        defer { close(before) }
        let error = clinux_enter_namespace("/run/netns/\(name)")
        guard error == 0 else { throw MeasureError("entering the network namespace \(name)", code: -error) }
        defer { _ = clinux_enter_namespace("/proc/self/fd/\(before)") }
        return try body()
    }
}
