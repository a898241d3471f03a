// Making a port fit to be a bridge's, and giving it back as it was.
//
// A bridge must see every frame as it is on the wire, and say nothing by itself.

import CLinux
import Glibc

/// Settings changed on one port; undone by `restore`.
final class PortPreparation {
    let port: NetworkPort
    /// What was changed, for the log.
    private(set) var changes: [String] = []
    private var undo: [() -> Void] = []
    private var promiscuous: Int32 = -1

    init(_ port: NetworkPort) { self.port = port }

    func apply(isGeneric: Bool) throws(DatapathError) {
        // First, or a port that comes up would ask the network for an address.
        silenceIPv6()
        if !port.isUp {
            let code = port.setUp(true)
            guard code == 0 else {
                throw DatapathError("bringing \(port.name) up", code: code, hint: DatapathError.usualHint(code, port: port.name))
            }
            changes.append("brought up")
            undo.append { [port] in _ = port.setUp(false) }
        }
        // The membership ends with the socket: a killed process leaves the port as it was.
        promiscuous = clinux_promiscuous(port.index)
        guard promiscuous >= 0 else {
            throw DatapathError(
                "making \(port.name) promiscuous", code: -promiscuous,
                hint: DatapathError.usualHint(-promiscuous, port: port.name))
        }
        // Stripped tags would be lost; joined segments would not fit and not be what was sent. Generic XDP runs
        // behind GRO, native XDP in front of it.
        for offload in [NetworkPort.Offload.rxVLAN, .rxServiceVLAN, .lro, .hardwareGRO] { try turnOff(offload) }
        if isGeneric { try turnOff(.gro) }
    }

    private func turnOff(_ offload: NetworkPort.Offload) throws(DatapathError) {
        guard port.offload(offload) == true else { return }
        let code = port.setOffload(offload, false)
        guard code == 0, port.offload(offload) == false else {
            throw DatapathError(
                "turning \(offload.rawValue) off on \(port.name), which would change frames", code: code,
                hint: "try: ethtool -K \(port.name) \(offload.rawValue) off; if the driver refuses, use another NIC")
        }
        changes.append("\(offload.rawValue) off")
        undo.append { [port] in _ = port.setOffload(offload, true) }
    }

    /// The kernel's own IPv6 would send router solicitations and multicast reports from the port.
    private func silenceIPv6() {
        let path = "/proc/sys/net/ipv6/conf/\(port.name)/disable_ipv6"
        guard readFile(path)?.first == UInt8(ascii: "0"), writeFile(path, "1") else { return }
        changes.append("IPv6 of this host off")
        undo.append { _ = writeFile(path, "0") }
    }

    func restore() {
        for step in undo.reversed() { step() }
        undo = []
        if promiscuous >= 0 { close(promiscuous) }
        promiscuous = -1
    }

    deinit { restore() }
}

/// A small file of /proc or /sys; nil if it cannot be read.
func readFile(_ path: String) -> [UInt8]? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(fd, &chunk, chunk.count)
        guard count > 0 else { return content }
        content += chunk[0..<count]
    }
}

func writeFile(_ path: String, _ text: String) -> Bool {
    let fd = open(path, O_WRONLY | O_CLOEXEC)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    return write(fd, text, text.utf8.count) == text.utf8.count
}
