// What of this machine helps or hurts a bridge: findings, why they matter, and the exact command.

import Allowlist
import CLinux
import Datapath
import Foundation
import Glibc

/// One thing looked at.
public struct Finding: Codable, Sendable {
    public enum Level: String, Codable, Sendable {
        case good, note, warning, problem
    }

    public var level: Level
    public var subject: String
    public var finding: String
    public var why: String
    /// Command that changes it; empty if there is nothing to do.
    public var fix: String
}

/// Looks only; changes nothing.
public struct Doctor {
    private(set) var findings: [Finding] = []
    private let failing: FailurePlan?

    /// - Parameter failing: of the policy that is to run; nil: it is not known.
    public static func examine(inside: String?, outside: String?, failing: FailurePlan? = nil) -> [Finding] {
        var doctor = Doctor(failing: failing)
        doctor.kernel()
        doctor.privileges()
        doctor.memory()
        doctor.processors()
        var ports: [NetworkPort] = []
        for name in [inside, outside].compactMap({ $0 }) {
            if let port = doctor.port(name) { ports.append(port) }
        }
        if ports.count == 2 { doctor.pair(ports[0], ports[1]) }
        return doctor.findings
    }

    private mutating func add(_ level: Finding.Level, _ subject: String, _ finding: String, _ why: String = "", _ fix: String = "") {
        findings.append(Finding(level: level, subject: subject, finding: finding, why: why, fix: fix))
    }

    private func text(_ path: String) -> String? {
        (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    // MARK: - The machine

    private mutating func kernel() {
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        let version = numbers.count == 2 ? numbers[0] * 1000 + numbers[1] : 0
        if version < 6001 {
            add(.problem, "kernel", "Linux \(release)", "the XDP program needs 6.1 (bpf_loop, bpf_xdp_load_bytes)", "apt-get install linux-image-amd64")
        } else if version < 6006 {
            add(.note, "kernel", "Linux \(release)", "frames larger than one buffer (MTU above 3500) need 6.6")
        } else {
            add(.good, "kernel", "Linux \(release)")
        }
        if version < 6018 {
            add(.note, "kernel", "one call sends 32 frames in copy mode", "Linux 6.18 lets Sekisho raise that (XDP_MAX_TX_SKB_BUDGET)")
        }
        switch text("/proc/sys/net/core/bpf_jit_enable") {
        case "0":
            add(.warning, "kernel", "BPF programs are interpreted", "the XDP program runs for every frame", "sysctl -w net.core.bpf_jit_enable=1")
        case .some: add(.good, "kernel", "BPF programs are compiled")
        case nil: add(.note, "kernel", "cannot tell whether BPF programs are compiled", "/proc/sys/net/core/bpf_jit_enable is not readable")
        }
        do {
            try Bridge.checkClock()
        } catch {
            add(.problem, "kernel", error.action, "every frame would be dropped, or a dead worker not be noticed", error.hint)
        }
        let mounts = text("/proc/self/mounts") ?? ""
        if mounts.split(separator: "\n").contains(where: { $0.split(separator: " ").dropFirst(2).first == "bpf" }) {
            add(.good, "kernel", "bpffs is mounted")
        } else {
            add(.note, "kernel", "bpffs is not mounted", "on_failure \"kernel\" and \"open\" need one; without it sekisho mounts one under /run/sekisho", "mount -t bpf bpf /sys/fs/bpf")
        }
    }

    private mutating func privileges() {
        // Numbers from linux/capability.h.
        let needed: [(String, Int32)] = [
            ("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_IPC_LOCK", 14), ("CAP_BPF", 39),
        ]
        let missing = needed.filter { clinux_has_capability($0.1) != 1 }.map(\.0)
        if missing.isEmpty {
            add(.good, "privileges", "all capabilities are there")
        } else {
            add(
                .problem, "privileges", "missing: \(missing.joined(separator: ", "))", "attaching programs and AF_XDP sockets needs them",
                "run as root, or: setcap cap_net_admin,cap_net_raw,cap_ipc_lock,cap_bpf+ep $(command -v sekisho)")
        }
    }

    private mutating func memory() {
        let info = text("/proc/meminfo") ?? ""
        func field(_ name: String) -> Int? {
            info.split(separator: "\n").first { $0.hasPrefix(name + ":") }?
                .split(whereSeparator: { $0 == " " || $0 == ":" }).dropFirst().first.flatMap { Int($0) }
        }
        if let huge = field("HugePages_Free"), huge > 0 {
            add(.good, "memory", "\(huge) huge pages are free")
        } else {
            add(.note, "memory", "no huge pages are reserved", "frames in huge pages miss the TLB less", "sysctl -w vm.nr_hugepages=64")
        }
        if let free = field("MemAvailable"), free < 256 << 10 {
            add(.warning, "memory", "\(free >> 10) MiB are available", "one queue pair takes 16 MiB or more")
        }
    }

    private mutating func processors() {
        let allowed = allowedProcessors()
        if allowed.count < 2 {
            add(.warning, "processors", "one processor for everything", "a spinning worker would starve the rest", "use --idle sleep")
        } else {
            add(.good, "processors", "\(allowed.count) processors may be used")
        }
        if let isolated = text("/sys/devices/system/cpu/isolated"), !isolated.isEmpty {
            add(.good, "processors", "isolated: \(isolated)", "give them to the workers with --cpus \(isolated)")
        } else {
            add(
                .note, "processors", "none is isolated", "other programs on a worker's core show in the slowest frames",
                "add isolcpus=N nohz_full=N rcu_nocbs=N to the kernel's command line")
        }
        if let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), governor != "performance" {
            add(
                .warning, "processors", "frequency governor \"\(governor)\"", "a core that slows down at idle is slow for the next frame",
                "cpupower frequency-set -g performance")
        }
        let directory = "/sys/devices/system/cpu/vulnerabilities"
        let active = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted().filter {
            text("\(directory)/\($0)")?.hasPrefix("Mitigation") == true
        }
        if !active.isEmpty {
            add(.note, "processors", "mitigations at work: \(active.joined(separator: ", "))", "each system call and BPF program costs more; keep them unless the box runs nothing else")
        }
    }

    // MARK: - The ports

    private mutating func port(_ name: String) -> NetworkPort? {
        let port: NetworkPort
        do {
            port = try NetworkPort(name)
        } catch {
            add(.problem, name, "there is no such port", "", "ip -brief link")
            return nil
        }
        guard port.isEthernet, !port.isLoopback else {
            add(.problem, name, "it is not an Ethernet port", "Sekisho bridges Ethernet frames", "ip -brief link")
            return port
        }
        driver(port)
        if port.isUp {
            port.hasCarrier
                ? add(.good, name, "link up")
                : add(.warning, name, "no carrier", "nothing is plugged in, or the other end is down")
        } else {
            add(.note, name, "it is down", "sekisho run brings it up", "ip link set dev \(name) up")
        }
        if let master = port.master {
            add(.problem, name, "it belongs to \(master)", "frames would go two ways", "ip link set dev \(name) nomaster")
        }
        if let attached = port.attachedProgram {
            attached.isOurs
                ? add(.good, name, "a sekisho bridges it (XDP program \(attached.name), id \(attached.id))")
                : add(.warning, name, "an XDP program is attached (\(attached.name), id \(attached.id))", "only one can be", "ip link set dev \(name) xdp off")
        }
        let isOurs = port.attachedProgram?.isOurs == true
        offload(port, .rxVLAN, "the NIC strips VLAN tags before XDP sees them; sekisho run turns it off")
        offload(port, .rxServiceVLAN, "the NIC strips service tags (QinQ) before XDP sees them; sekisho run turns it off")
        offload(port, .lro, "the NIC joins segments: not what was sent; sekisho run turns it off")
        offload(port, .hardwareGRO, "the NIC joins segments: not what was sent; sekisho run turns it off")
        if port.offload(.gro) == true {
            add(.note, name, "rx-gro is on", "native XDP comes before it; with generic XDP sekisho run turns it off", "ethtool -K \(name) rx-gro off")
        }
        add(.good, name, "MTU \(port.mtu)", port.mtu > 3500 ? "frames in several buffers: Linux 6.6 and a driver that has them" : "")
        add(
            .good, name, port.isPromiscuous ? "promiscuous" : "not promiscuous",
            port.isPromiscuous || isOurs ? "" : "a bridge must hear frames for others; sekisho run sees to it while it runs")
        let queues = port.queues
        add(
            .good, name, "\(queues.now) receive queue(s) of \(queues.most)", queues.most > 1 ? "one worker for each queue pair" : "",
            queues.most > queues.now ? "ethtool -L \(name) combined N" : "")
        if let stray = strayAddresses(name), !stray.isEmpty {
            add(.warning, name, "it has addresses (\(stray))", "a bridge port needs none, and this host would answer from it", "ip address flush dev \(name)")
        }
        if FileManager.default.fileExists(atPath: "/sys/class/net/\(name)/device/numa_node"),
            let node = text("/sys/class/net/\(name)/device/numa_node"), node != "-1"
        {
            add(.note, name, "on NUMA node \(node)", "workers on its processors reach it faster: /sys/class/net/\(name)/device/local_cpulist")
        }
        return port
    }

    private mutating func driver(_ port: NetworkPort) {
        let abilities = port.abilities
        let driver = abilities.driver
        let isTold = abilities.features != nil
        switch abilities.xdp {
        case .zeroCopy:
            add(.good, port.name, "driver \(driver): native XDP and zero copy", isTold ? "" : "as far as this kernel's version of it has them; sekisho run prints what it got")
        case .native:
            add(.note, port.name, "driver \(driver): native XDP, frames are copied", "zero copy needs one of: i40e, ice, ixgbe, igc, mlx5_core")
        case .generic:
            add(
                .warning, port.name, "driver \(driver): \(isTold ? "" : "probably ")generic XDP only",
                "every frame passes the kernel's stack first: slower, but correct")
        }
        redirects(port, abilities)
        if driver == "virtio_net", abilities.xdp == .zeroCopy {
            add(
                .note, port.name, "zero copy of virtio_net may lose frames (seen in Linux 6.18)",
                "the device is told a wrong address for the header of a frame that is sent; leave the device's iommu_platform off, and sekisho run copies frames: see AF_XDP in sekisho status")
        }
        if driver == "veth" {
            add(
                .note, port.name, "the far end of a veth pair sends partial checksums", "TCP would fail while ping works; on the far end:",
                "ethtool -K FAR_END tx off tso off gso off")
        }
    }

    /// What the kernel judges, or passes, leaves by a redirect.
    private mutating func redirects(_ port: NetworkPort, _ abilities: PortAbilities) {
        switch abilities.takesRedirected(isAttached: port.attachedProgram?.isNative == true) {
        case true?:
            add(.good, port.name, "sends redirected frames: the kernel can judge in place of the workers")
        case false?:
            let asked = failing.map { $0.onlyKernel ? "datapath = \"kernel\"" : $0.actions.isClosed ? "" : "on_failure" } ?? ""
            let cure = abilities.driver == "veth" ? "; on the far end of the veth pair:" : "; server NICs do"
            add(
                asked.isEmpty ? .note : .problem, port.name, "driver \(abilities.driver): sends no redirected frames (ndo_xdp_xmit)",
                asked.isEmpty
                    ? "on_failure \"kernel\" and \"open\", and datapath = \"kernel\", need it: what is to leave by this port would be lost\(cure)"
                    : "\(asked) in the policy needs it: what is to leave by this port would be lost\(cure)",
                abilities.driver == "veth" ? "ethtool -K FAR_END gro on" : "")
        case nil:
            add(
                .note, port.name, "cannot tell whether it sends redirected frames (ndo_xdp_xmit)",
                abilities.features == nil
                    ? "Linux tells since 6.3; on_failure \"kernel\" and \"open\" and datapath = \"kernel\" need it"
                    : "most drivers say so only with a program attached; sekisho run looks again then, for on_failure and datapath need it")
        }
    }

    private mutating func offload(_ port: NetworkPort, _ offload: NetworkPort.Offload, _ why: String) {
        if port.offload(offload) == true {
            add(.warning, port.name, "\(offload.rawValue) is on", why, "ethtool -K \(port.name) \(offload.rawValue) off")
        } else {
            add(.good, port.name, "\(offload.rawValue) is off")
        }
    }

    /// IPv4 and global IPv6 addresses of a port.
    private func strayAddresses(_ name: String) -> String? {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return nil }
        defer { freeifaddrs(list) }
        var found: [String] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard String(cString: entry.pointee.ifa_name) == name, let address = entry.pointee.ifa_addr else { continue }
            let family = Int32(address.pointee.sa_family)
            guard family == AF_INET || family == AF_INET6 else { continue }
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let length = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
            guard getnameinfo(address, socklen_t(length), &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 else { continue }
            let written = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            // Link-local ones come by themselves and go when sekisho run silences the port.
            if !written.hasPrefix("fe80:") { found.append(written) }
        }
        return found.joined(separator: ", ")
    }

    private mutating func pair(_ inside: NetworkPort, _ outside: NetworkPort) {
        do {
            _ = try Bridge.checkedPorts(BridgeConfiguration(inside: inside.name, outside: outside.name))
            add(.good, "both ports", "MTU \(inside.mtu) on both; they can be bridged")
        } catch {
            add(.problem, "both ports", error.action, "", error.hint)
        }
        if inside.queues.now != outside.queues.now {
            add(
                .note, "both ports", "\(inside.name) has \(inside.queues.now) queues, \(outside.name) \(outside.queues.now)",
                "some worker serves several queues of one port", "ethtool -L \(inside.name) combined \(min(inside.queues.now, outside.queues.now))")
        }
    }
}
