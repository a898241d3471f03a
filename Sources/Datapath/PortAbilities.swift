// What a port's driver can do with XDP: as the kernel says it, or, before Linux 6.3, as its sources do.

import CLinux

/// NETDEV_XDP_ACT_* of linux/netdev.h.
public struct XDPFeatures: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// A program in the driver.
    public static let basic = XDPFeatures(rawValue: 1)
    public static let redirect = XDPFeatures(rawValue: 2)
    /// Sends frames that a program on another port redirects to it (ndo_xdp_xmit).
    public static let transmit = XDPFeatures(rawValue: 4)
    public static let zeroCopy = XDPFeatures(rawValue: 8)
}

public struct PortAbilities: Sendable {
    public enum XDP: Sendable {
        case zeroCopy, native, generic
    }

    public let driver: String
    /// nil: the kernel does not tell.
    public let features: XDPFeatures?

    public init(driver: String, features: XDPFeatures?) {
        self.driver = driver
        self.features = features
    }

    /// Drivers with XDP in the driver, and of those the ones with zero copy (kernel sources, 6.12).
    private static let zeroCopyDrivers: Set<String> = [
        "i40e", "ice", "ixgbe", "igc", "igb", "mlx5_core", "stmmac", "st_gmac", "virtio_net", "idpf", "gve",
    ]
    private static let nativeDrivers: Set<String> = [
        "veth", "tun", "ena", "bnxt_en", "bnx2x", "mlx4_en", "nfp", "qede", "sfc", "thunderx", "dpaa2-eth", "mvneta", "mvpp2",
        "cpsw", "hv_netvsc", "netsec", "fec", "tsnep", "mana", "enetc", "vmxnet3", "am65-cpsw-nuss", "macb",
    ]

    public var xdp: XDP {
        if let features { return !features.contains(.basic) ? .generic : features.contains(.zeroCopy) ? .zeroCopy : .native }
        return Self.zeroCopyDrivers.contains(driver) ? .zeroCopy : Self.nativeDrivers.contains(driver) ? .native : .generic
    }

    /// Whether a frame that a program on the other port redirects here is sent; nil: it cannot be told.
    ///
    /// - Parameter isAttached: whether a program is on the port, in the driver. Many drivers say that they can only then.
    public func takesRedirected(isAttached: Bool) -> Bool? {
        guard let features else { return nil }
        // Generic XDP sends as the stack does.
        if features.contains(.transmit) || !features.contains(.basic) { return true }
        // A veth's depends on its other end alone.
        return isAttached || driver == "veth" ? false : nil
    }

    /// What helps where frames cannot be redirected to a port.
    public var transmitHint: String {
        driver == "veth"
            ? "on the other end of the veth pair: ethtool -K FAR_END gro on"
            : "use ports whose driver has ndo_xdp_xmit (server NICs do)"
    }
}

extension NetworkPort {
    public var abilities: PortAbilities {
        var features: UInt64 = 0
        return PortAbilities(
            driver: driver, features: clinux_xdp_features(index, &features) == 0 ? XDPFeatures(rawValue: features) : nil)
    }
}
