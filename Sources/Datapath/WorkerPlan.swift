// Which ports may be bridged, and which worker serves which queues on which processor.

import CLinux
import Glibc

/// Every queue of both ports belongs to exactly one worker.
struct WorkerPlan {
    struct Worker {
        var cpu: Int
        /// Queues of the inside and of the outside port, at least one of each.
        var queues: [[Int]]
    }

    var workers: [Worker]
    /// 2048 holds a frame of a normal MTU, a page anything larger, in several buffers if need be.
    var frameSize: Int
    var needsChains: Bool

    /// The kernel's head room in front of a frame (XDP_PACKET_HEADROOM).
    /// A frame that the sockets take: in one buffer, or in as many as a kernel has.
    var longestFrame: Int { needsChains ? Int(UInt16.max) + 1 : frameSize - Self.headroom }

    private static let headroom = 256
    /// Ethernet header and two VLAN tags.
    private static let linkHeader = 14 + 8

    init(_ configuration: BridgeConfiguration, _ ports: [NetworkPort]) throws(DatapathError) {
        let counts = ports.map(\.queues.now)
        let shared = counts.min()!
        let allowed = allowedProcessors()
        // One processor stays for everything else; a worker may serve several queues.
        let processors = configuration.cpus.isEmpty ? max(1, allowed.count - 1) : configuration.cpus.count
        let count = configuration.queues ?? min(shared, processors)
        guard count >= 1 else { throw DatapathError("using \(count) queues", hint: "--queues takes 1 or more") }
        guard count <= shared else {
            let short = counts[0] == shared ? 0 : 1
            throw DatapathError(
                "using \(count) queues: \(ports[short].name) has \(shared) (its driver offers \(ports[short].queues.most))",
                hint: "try: ethtool -L \(ports[short].name) combined \(count)")
        }
        for cpu in configuration.cpus where !allowed.contains(cpu) {
            throw DatapathError(
                "pinning a worker to processor \(cpu), which this process may not use",
                hint: "processors it may use: \(allowed.map(String.init).joined(separator: ","))")
        }
        // From the last processor down: the first one has the most interrupts.
        let cpus = configuration.cpus.isEmpty ? Array(allowed.reversed()) : configuration.cpus
        workers = (0..<count).map { worker in
            Worker(
                cpu: cpus[worker % cpus.count],
                queues: counts.map { total in (0..<total).filter { $0 % count == worker } })
        }
        let longest = ports[0].mtu + Self.linkHeader
        frameSize = longest <= 2048 - Self.headroom ? 2048 : 4096
        needsChains = longest > frameSize - Self.headroom
    }
}

/// Processors this process may use.
public func allowedProcessors() -> [Int] {
    var cpus = [Int32](repeating: 0, count: 1024)
    let count = clinux_allowed_cpus(&cpus, Int32(cpus.count))
    return count > 0 ? cpus.prefix(Int(count)).map(Int.init) : [0]
}

extension Bridge {
    /// The two ports, or why they cannot be a bridge. Nothing is changed yet.
    /// The port that copies leave by: any that is nobody's part of the wire.
    static func checkedMirror(_ name: String, _ ports: [NetworkPort]) throws(DatapathError) -> NetworkPort {
        let port = try NetworkPort(name)
        guard !ports.contains(where: { $0.index == port.index }) else {
            throw DatapathError("mirroring to \(name), which is a port of the bridge", hint: "--mirror must be a third port")
        }
        guard !port.isLoopback, port.isEthernet else {
            throw DatapathError("mirroring to \(name), which is not an Ethernet port", hint: "list the ports there are with: ip -brief link")
        }
        if let below = port.below {
            throw DatapathError("mirroring to \(name), which stands on another port (\(below))", hint: "copies must not reach the plant's wire; name a port of its own")
        }
        if let master = port.master {
            throw DatapathError("mirroring to \(name), which belongs to \(master)", hint: "take it out with: ip link set dev \(name) nomaster")
        }
        if let destination = defaultRoute(through: port) {
            throw DatapathError(
                "mirroring to \(name), which has this machine's default route (\(destination))", hint: "copies of the plant's frames must not go there; use a port of their own")
        }
        return port
    }

    public static func checkedPorts(_ configuration: BridgeConfiguration) throws(DatapathError) -> [NetworkPort] {
        guard configuration.inside != configuration.outside else {
            throw DatapathError(
                "bridging \(configuration.inside) with itself", hint: "--inside and --outside must be two ports")
        }
        let ports = [try NetworkPort(configuration.inside), try NetworkPort(configuration.outside)]
        if ports[0].index == ports[1].index {
            throw DatapathError(
                "bridging \(ports[0].name) with itself (\(ports[1].name) is another name of it)",
                hint: "--inside and --outside must be two ports")
        }
        for port in ports {
            guard !port.isLoopback, port.isEthernet else {
                throw DatapathError(
                    "using \(port.name), which is not an Ethernet port", hint: "list the ports there are with: ip -brief link")
            }
            if let destination = defaultRoute(through: port) {
                throw DatapathError(
                    "using \(port.name), which has this machine's default route (\(destination))",
                    hint: "taking it would cut this machine off; manage it by a third port")
            }
            if let master = port.master {
                throw DatapathError(
                    "using \(port.name), which belongs to \(master)",
                    hint: "take it out with: ip link set dev \(port.name) nomaster")
            }
        }
        for port in ports {
            guard let below = port.below else { continue }
            throw DatapathError(
                "using \(port.name), which stands on another port (\(below)): VLAN tags are lost on the way up to it",
                hint: "bridge \(below) itself")
        }
        guard ports[0].mtu == ports[1].mtu else {
            throw DatapathError(
                "bridging ports of different MTU (\(ports[0].name) \(ports[0].mtu), \(ports[1].name) \(ports[1].mtu)): "
                    + "large frames would be lost",
                hint: "try: ip link set dev \(ports[0].mtu < ports[1].mtu ? ports[0].name : ports[1].name) "
                    + "mtu \(max(ports[0].mtu, ports[1].mtu))")
        }
        return ports
    }

    /// "IPv4" or "IPv6" if a default route leaves by this port.
    private static func defaultRoute(through port: NetworkPort) -> String? {
        let ipv4 = String(decoding: readFile("/proc/net/route") ?? [], as: UTF8.self)
        for line in ipv4.split(separator: "\n").dropFirst() {
            let fields = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
            if fields.count > 7, fields[0] == port.name, fields[1] == "00000000", fields[7] == "00000000" { return "IPv4" }
        }
        let ipv6 = String(decoding: readFile("/proc/net/ipv6_route") ?? [], as: UTF8.self)
        for line in ipv6.split(separator: "\n") {
            let fields = line.split(separator: " ")
            // RTF_REJECT (0x200) marks the kernel's own "no route" entries.
            if fields.count > 9, fields[9] == port.name, fields[0].allSatisfy({ $0 == "0" }), fields[1] == "00",
                UInt32(fields[8], radix: 16).map({ $0 & 0x200 == 0 }) == true
            { return "IPv6" }
        }
        return nil
    }
}

extension NetworkPort {
    /// The port this one stands on (VLAN, macvlan, bond): then XDP runs behind the kernel's own VLAN handling.
    public var below: String? {
        guard let directory = opendir("/sys/class/net/\(name)") else { return nil }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let file = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if file.hasPrefix("lower_") { return String(file.dropFirst(6)) }
        }
        return nil
    }

    /// The bridge or bond the port belongs to.
    public var master: String? {
        var path = [CChar](repeating: 0, count: 512)
        let count = readlink("/sys/class/net/\(name)/master", &path, path.count - 1)
        guard count > 0 else { return nil }
        return String(decoding: path.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
            .split(separator: "/").last.map(String.init)
    }
}
