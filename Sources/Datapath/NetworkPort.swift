// A network port: what it is, whether it can be a port of the bridge, and the settings a bridge needs.

import CLinux
import Glibc

/// Facts about a port, read when asked.
public struct NetworkPort: Sendable {
    public let name: String
    public let index: Int32

    public init(_ name: String) throws(DatapathError) {
        let index = if_nametoindex(name)
        guard index != 0 else {
            throw DatapathError(
                "looking for the port \(name)", code: errno, hint: "list the ports there are with: ip -brief link")
        }
        self.name = name
        self.index = Int32(index)
    }

    public var exists: Bool { currentName != nil }

    /// What it is called now: somebody may have renamed it. nil: it is no more.
    public var currentName: String? {
        var buffer = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard if_indextoname(UInt32(index), &buffer) != nil else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// For the kernel.
    private var nameNow: String { currentName ?? name }

    public var mtu: Int {
        var value: UInt32 = 0
        return clinux_mtu(nameNow, &value) == 0 ? Int(value) : 0
    }

    /// Interface flags (IFF_*).
    private var flags: UInt32 {
        var value: UInt32 = 0
        return clinux_flags(nameNow, &value) == 0 ? value : 0
    }

    /// Set by somebody with `ip link`, or by `setPromiscuous`.
    var isAdministrativelyPromiscuous: Bool { flags & UInt32(IFF_PROMISC) != 0 }

    public var isUp: Bool { flags & UInt32(IFF_UP) != 0 }
    /// The kernel counts requests for it; IFF_PROMISC shows only the administrator's.
    public var isPromiscuous: Bool {
        let flags = String(decoding: readFile("/sys/class/net/\(nameNow)/flags") ?? [], as: UTF8.self)
        return (UInt32(flags.dropFirst(2).prefix { $0.isHexDigit }, radix: 16) ?? 0) & UInt32(IFF_PROMISC) != 0
    }
    public var isLoopback: Bool { flags & UInt32(IFF_LOOPBACK) != 0 }
    /// The cable is plugged in and the other end is there. IFF_RUNNING lags behind; it is for where /sys is not.
    public var hasCarrier: Bool {
        readFile("/sys/class/net/\(nameNow)/carrier").map { $0.first == UInt8(ascii: "1") } ?? (flags & UInt32(IFF_RUNNING) != 0)
    }

    public var isEthernet: Bool {
        var mac = (UInt8(0), UInt8(0), UInt8(0), UInt8(0), UInt8(0), UInt8(0))
        var type: UInt16 = 0
        return withUnsafeMutableBytes(of: &mac) {
            clinux_mac(nameNow, $0.baseAddress!.assumingMemoryBound(to: UInt8.self), &type)
        } == 0 && type == 1  // ARPHRD_ETHER
    }

    /// Driver name, "unknown" where it does not say.
    public var driver: String {
        var info = clinux_driver()
        guard clinux_driver_info(nameNow, &info) == 0 else { return "unknown" }
        return withUnsafeBytes(of: &info.driver) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// RX queues in use, and the most there may be.
    public var queues: (now: Int, most: Int) {
        var now: UInt32 = 0, most: UInt32 = 0
        guard clinux_queues(nameNow, &now, &most) == 0 else { return (1, 1) }
        return (Int(now), Int(most))
    }

    /// Offloads that change what an XDP program sees, by the kernel's names for them.
    public enum Offload: String, CaseIterable, Sendable {
        /// Customer and service tags taken off by the NIC: they would be lost.
        case rxVLAN = "rx-vlan-hw-parse"
        case rxServiceVLAN = "rx-vlan-stag-hw-parse"
        /// Segments joined: not what was sent.
        case lro = "rx-lro"
        case hardwareGRO = "rx-gro-hw"
        /// The same in software, behind native XDP and in front of generic XDP.
        case gro = "rx-gro"
    }

    /// nil where the driver has no such thing.
    public func offload(_ offload: Offload) -> Bool? {
        var on = false
        return clinux_feature_get(nameNow, offload.rawValue, &on) == 0 ? on : nil
    }

    func setOffload(_ offload: Offload, _ on: Bool) -> Int32 {
        -clinux_feature_set(nameNow, offload.rawValue, on)
    }

    func setUp(_ up: Bool) -> Int32 { -clinux_set_up(nameNow, up) }
    func setPromiscuous(_ on: Bool) -> Int32 { -clinux_set_promiscuous(nameNow, on) }

    /// XDP program on the port, whether it is one of a running sekisho; nil if there is none.
    public var attachedProgram: (id: UInt32, name: String, isOurs: Bool, isNative: Bool)? {
        var attached = clinux_xdp_attached()
        guard clinux_xdp_query(index, &attached) == 0, attached.id != 0 else { return nil }
        let name = withUnsafeBytes(of: &attached.name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return (attached.id, name, name.hasPrefix("sekisho"), attached.native)
    }
}
