// EtherTypes and LLC addresses as people write them.

import Frames

public enum EtherTypeNames {
    /// Names that `ethertypes` knows. IEEE 802 Numbers (IANA); LLC addresses below 256.
    public static let all: [String: UInt16] = [
        "arp": 0x0806, "wake-on-lan": 0x0842, "lldp": 0x88CC, "profinet": 0x8892, "goose": 0x88B8, "gse": 0x88B9,
        "sv": 0x88BA, "ethercat": 0x88A4, "powerlink": 0x88AB, "sercos": 0x88CD, "cc-link-ie": 0x890F, "ptp": 0x88F7,
        "mrp": 0x88E3, "prp": 0x88FB, "hsr": 0x892F, "eapol": 0x888E, "lacp": 0x8809, "macsec": 0x88E5, "ctp": 0x9000,
        "mstp-mrp": 0x88F5,
        // LLC: 802.1D spanning tree, SNAP (CDP, VTP, …), NetBEUI, IPX.
        "stp": 0x42, "snap": 0xAA, "netbeui": 0xF0, "ipx-llc": 0xE0,
    ]

    public static func name(_ type: EtherType) -> String {
        let number = "0x" + String(type.rawValue, radix: 16)
        return all.first { $0.value == type.rawValue }.map { "\($0.key) (\(number))" } ?? number
    }

    /// Judged by rules, or by what is inside: never a matter of this list.
    static let notListable: [UInt16: String] = [
        0x0800: "IPv4", 0x86DD: "IPv6", 0x8100: "a VLAN tag", 0x88A8: "a VLAN tag", 0x9100: "a VLAN tag",
    ]
}
