// Making a port fit to be a bridge's, and giving it back as it was.
//
// A bridge must see every frame as it is on the wire, and say nothing by itself.

import CLinux
import Glibc

/// A setting that was changed on a port, by a name that a later process understands.
enum PortSetting: Hashable, Sendable {
    case up
    case promiscuous
    case ipv6
    case offload(NetworkPort.Offload)

    var name: String {
        switch self {
        case .up: "up"
        case .promiscuous: "promiscuous"
        case .ipv6: "ipv6"
        case .offload(let offload): offload.rawValue
        }
    }

    init?(name: String) {
        switch name {
        case "up": self = .up
        case "promiscuous": self = .promiscuous
        case "ipv6": self = .ipv6
        default:
            guard let offload = NetworkPort.Offload(rawValue: name) else { return nil }
            self = .offload(offload)
        }
    }
}

/// Settings changed on one port; undone by `restore`.
final class PortPreparation {
    let port: NetworkPort
    /// What was changed, for the log.
    private(set) var changes: [String] = []
    /// In the order they were changed; those of a bridge that was here before come first.
    private(set) var changed: [PortSetting]
    private var membership: Int32 = -1

    /// - Parameter inherited: what a bridge changed that has ended without putting it back.
    init(_ port: NetworkPort, inherited: [PortSetting] = []) {
        self.port = port
        changed = inherited
    }

    func apply(isGeneric: Bool) throws(DatapathError) {
        // First, or a port that comes up would ask the network for an address.
        silenceIPv6()
        if !port.isUp {
            let code = port.setUp(true)
            guard code == 0 else {
                throw DatapathError("bringing \(port.name) up", code: code, hint: DatapathError.usualHint(code, port: port.name))
            }
            note(.up, "brought up")
        }
        // The membership ends with the socket: a killed process leaves the port as it was.
        membership = clinux_promiscuous(port.index)
        guard membership >= 0 else {
            throw DatapathError(
                "making \(port.name) promiscuous", code: -membership,
                hint: DatapathError.usualHint(-membership, port: port.name))
        }
        try keepFramesWhole()
        // Generic XDP runs behind GRO, native XDP in front of it.
        if isGeneric { try turnOff(.gro) }
    }

    /// Stripped tags would be lost; joined segments would not fit and not be what was sent.
    func keepFramesWhole() throws(DatapathError) {
        for offload in [NetworkPort.Offload.rxVLAN, .rxServiceVLAN, .lro, .hardwareGRO] { try turnOff(offload) }
    }

    /// Promiscuous also when this process has ended: the kernel goes on forwarding.
    func stayPromiscuous() throws(DatapathError) {
        // Where the administrator wants it so already, it stays so, and is not taken back.
        guard !port.isAdministrativelyPromiscuous else { return }
        let code = port.setPromiscuous(true)
        guard code == 0 else {
            throw DatapathError(
                "making \(port.name) promiscuous for good", code: code, hint: DatapathError.usualHint(code, port: port.name))
        }
        note(.promiscuous, "promiscuous for good")
    }

    private func note(_ setting: PortSetting, _ what: String) {
        changes.append(what)
        if !changed.contains(setting) { changed.append(setting) }
    }

    private func turnOff(_ offload: NetworkPort.Offload) throws(DatapathError) {
        guard port.offload(offload) == true else { return }
        let code = port.setOffload(offload, false)
        guard code == 0, port.offload(offload) == false else {
            throw DatapathError(
                "turning \(offload.rawValue) off on \(port.name), which would change frames", code: code,
                hint: "try: ethtool -K \(port.name) \(offload.rawValue) off; if the driver refuses, use another NIC")
        }
        note(.offload(offload), "\(offload.rawValue) off")
    }

    private var ipv6Switch: String { "/proc/sys/net/ipv6/conf/\(port.name)/disable_ipv6" }

    /// The kernel's own IPv6 would send router solicitations and multicast reports from the port.
    private func silenceIPv6() {
        guard readFile(ipv6Switch)?.first == UInt8(ascii: "0"), writeFile(ipv6Switch, "1") else { return }
        note(.ipv6, "IPv6 of this host off")
    }

    func restore() {
        if port.exists {
            for setting in changed.reversed() {
                switch setting {
                case .up: _ = port.setUp(false)
                case .promiscuous: _ = port.setPromiscuous(false)
                case .ipv6: _ = writeFile(ipv6Switch, "0")
                case .offload(let offload): _ = port.setOffload(offload, true)
                }
            }
        }
        leave()
    }

    /// Ends, and leaves the port as it is: another process takes over what was changed.
    func leave() {
        changed = []
        if membership >= 0 { close(membership) }
        membership = -1
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
    let isWritten = write(fd, text, text.utf8.count) == text.utf8.count
    let code = errno
    close(fd)
    errno = code
    return isWritten
}
