// Services as people write them, and the catalogue of well-known ones.

import Allowlist
import Frames

/// "tcp/5000", "udp/49152-49407", "tcp/any", "icmp/echo", "gre/any".
struct WrittenService {
    /// Both families' forms: `icmp/…` stands for ICMP and ICMPv6.
    var ranges: [ServiceRange]

    /// What is wrong, for the reader.
    struct Problem: Error {
        var message: String
        var suggestion: String?
    }

    init(_ text: String) throws(Problem) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 else {
            throw Problem(message: "\"\(text)\" is neither a service name nor protocol/port", suggestion: nil)
        }
        let (name, port) = (parts[0].lowercased(), parts[1].lowercased())
        if name == "icmp" {
            ranges = try Self.icmp(port, text)
            return
        }
        guard let ipProtocol = Self.ipProtocol(name) else {
            throw Problem(
                message: "unknown protocol \"\(parts[0])\" in \"\(text)\"",
                suggestion: nearest(name, among: Self.protocols.keys) ?? "use tcp, udp, sctp, icmp, a protocol name or its number")
        }
        if ipProtocol == .icmp || ipProtocol == .icmpv6 {
            ranges = try Self.icmp(port, text).filter { $0.ipProtocol == ipProtocol }
        } else if ipProtocol.hasPorts {
            ranges = [try Self.ports(port, ipProtocol, text)]
        } else {
            guard port == "any" else {
                throw Problem(message: "\(name) has no ports", suggestion: "write \"\(name)/any\"")
            }
            ranges = [ServiceRange(ipProtocol, Port(rawValue: 0), Port(rawValue: 0))]
        }
    }

    private static func ports(_ text: String, _ ipProtocol: IPProtocol, _ whole: String) throws(Problem) -> ServiceRange {
        if text == "any" { return ServiceRange(ipProtocol, Port(rawValue: 0), Port(rawValue: 65535)) }
        let ends = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let numbers = ends.map { end in end.allSatisfy(\.isASCIIDigit) ? Int(end) : nil }
        guard let low = numbers[0], let high = numbers[numbers.count - 1] else {
            throw Problem(
                message: "\"\(text)\" in \"\(whole)\" is not a port, a range or \"any\"", suggestion: "e.g. \"tcp/5000\" or \"tcp/5000-5010\"")
        }
        guard (1...65535).contains(low), (1...65535).contains(high) else {
            throw Problem(message: "port out of range in \"\(whole)\"", suggestion: "ports are 1 to 65535")
        }
        guard low <= high else {
            throw Problem(message: "the range in \"\(whole)\" runs backwards", suggestion: "write \"\(high)-\(low)\"")
        }
        return ServiceRange(ipProtocol, Port(rawValue: UInt16(low)), Port(rawValue: UInt16(high)))
    }

    /// Requests by name, with the number of each family; errors and replies need no rule.
    private static let icmpTypes: [String: (v4: UInt8?, v6: UInt8?)] = [
        "echo": (8, 128), "timestamp": (13, nil), "address-mask": (17, nil), "redirect": (5, 137),
        "router-solicitation": (10, 133), "router-advertisement": (9, 134),
        "mld-query": (nil, 130), "mld-report": (nil, 131), "mld-done": (nil, 132), "mldv2-report": (nil, 143),
    ]

    static func icmpName(_ type: UInt8, _ ipProtocol: IPProtocol) -> String? {
        icmpTypes.first { (ipProtocol == .icmp ? $0.value.v4 : $0.value.v6) == type }?.key
    }

    private static func icmp(_ text: String, _ whole: String) throws(Problem) -> [ServiceRange] {
        func range(_ ipProtocol: IPProtocol, _ type: UInt8) -> ServiceRange {
            ServiceRange(ipProtocol, .icmp(type: type, code: 0), .icmp(type: type, code: 255))
        }
        if text == "any" {
            return [IPProtocol.icmp, .icmpv6].map { ServiceRange($0, Port(rawValue: 0), Port(rawValue: 65535)) }
        }
        if let type = icmpTypes[text] {
            // Queries have code 0 and no other (RFC 792, 4443): one key, not 256.
            func named(_ ipProtocol: IPProtocol, _ type: UInt8) -> ServiceRange {
                text == "redirect" ? range(ipProtocol, type)
                    : ServiceRange(ipProtocol, .icmp(type: type, code: 0), .icmp(type: type, code: 0))
            }
            return [type.v4.map { named(.icmp, $0) }, type.v6.map { named(.icmpv6, $0) }].compactMap { $0 }
        }
        guard text.allSatisfy(\.isASCIIDigit), let number = UInt8(text) else {
            throw Problem(
                message: "unknown ICMP type \"\(text)\" in \"\(whole)\"",
                suggestion: nearest(text, among: icmpTypes.keys) ?? "use icmp/echo, icmp/any or a type number")
        }
        return [range(.icmp, number), range(.icmpv6, number)]
    }

    /// Why a single ICMP type can never match, nil if it can, or is no single type.
    var neverMatches: String? {
        // `icmp/0` stands for a type of both families; who writes it thinks of the first, IPv4.
        guard let range = ranges.first, range.ipProtocol == .icmp || range.ipProtocol == .icmpv6, range.count <= 256 else {
            return nil
        }
        return Self.outsideRules(UInt8(range.low.rawValue >> 8), range.ipProtocol)
    }

    /// Why no rule for this type can match, nil if one can.
    static func outsideRules(_ type: UInt8, _ ipProtocol: IPProtocol) -> String? {
        let isICMPv6 = ipProtocol == .icmpv6
        if isICMPv6 ? (1...4).contains(type) : [3, 11, 12].contains(type) {
            return "ICMP errors pass by the conversation they are about"
        }
        if isICMPv6 ? type == 129 : [0, 14, 16, 18].contains(type) { return "it is an answer, which passes by the rule for its request" }
        if isICMPv6, type == 135 || type == 136 { return "neighbour discovery passes where ethertypes has \"arp\"" }
        return nil
    }

    /// IANA names of protocols that turn up in plants.
    static let protocols: [String: UInt8] = [
        "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50,
        "ah": 51, "icmpv6": 58, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136,
    ]

    /// Of every protocol that has a name here.
    static let all: [ServiceRange] = protocols.values.sorted().map { number in
        let ipProtocol = IPProtocol(rawValue: number)
        let last: UInt16 = ipProtocol.hasPorts || ipProtocol == .icmp || ipProtocol == .icmpv6 ? 65535 : 0
        return ServiceRange(ipProtocol, Port(rawValue: 0), Port(rawValue: last))
    }

    static func ipProtocol(_ name: String) -> IPProtocol? {
        if let number = protocols[name] { return IPProtocol(rawValue: number) }
        guard name.allSatisfy(\.isASCIIDigit) else { return nil }
        return UInt8(name).map(IPProtocol.init(rawValue:))
    }
}

/// Services known without being defined; a file's own `[services]` come first.
///
/// Ports: IANA Service Name and Transport Protocol Port Number Registry; HSMS has none there,
/// 5000 and 5001 are the usual defaults (SEMI E37 leaves them to the user).
public enum ServiceCatalogue {
    public static let entries: [String: [String]] = [
        "ads": ["tcp/48898", "udp/48899"],
        "bacnet": ["udp/47808"],
        "dhcp": ["udp/67"],
        "dhcpv6": ["udp/547"],
        "dicom": ["tcp/104", "tcp/11112"],
        "dnp3": ["tcp/20000", "udp/20000"],
        "dns": ["udp/53", "tcp/53"],
        "ethernet-ip": ["tcp/44818", "udp/44818", "udp/2222"],
        "fins": ["udp/9600", "tcp/9600"],
        "ftp": ["tcp/21"],
        "ftp-data": ["tcp/20"],
        "ftps": ["tcp/990"],
        "hsms": ["tcp/5000", "tcp/5001"],
        "http": ["tcp/80"],
        "https": ["tcp/443"],
        "iec-104": ["tcp/2404"],
        "ipsec": ["udp/500", "udp/4500", "esp/any"],
        "kerberos": ["tcp/88", "udp/88"],
        "ldap": ["tcp/389", "udp/389"],
        "ldaps": ["tcp/636"],
        "llmnr": ["udp/5355"],
        "mdns": ["udp/5353"],
        "melsec": ["tcp/5006-5007", "udp/5006-5007"],
        "mms": ["tcp/102"],
        "modbus": ["tcp/502"],
        "mqtt": ["tcp/1883"],
        "mqtts": ["tcp/8883"],
        "mssql": ["tcp/1433"],
        "mysql": ["tcp/3306"],
        "netbios": ["udp/137-138", "tcp/139"],
        "nfs": ["tcp/2049"],
        "ntp": ["udp/123"],
        "opcua": ["tcp/4840"],
        "oracle": ["tcp/1521"],
        "ping": ["icmp/echo"],
        "postgresql": ["tcp/5432"],
        "profinet-cm": ["udp/34964"],
        "ptp": ["udp/319-320"],
        "rdp": ["tcp/3389", "udp/3389"],
        "rpc-endpoint-mapper": ["tcp/135"],
        "s7": ["tcp/102"],
        "smb": ["tcp/445"],
        "smtp": ["tcp/25"],
        "snmp": ["udp/161"],
        "snmp-trap": ["udp/162"],
        "ssdp": ["udp/1900"],
        "ssh": ["tcp/22"],
        "syslog": ["udp/514", "tcp/601", "tcp/6514"],
        "telnet": ["tcp/23"],
        "tftp": ["udp/69"],
        "vnc": ["tcp/5900-5903"],
        "winrm": ["tcp/5985-5986"],
        "wsus": ["tcp/8530-8531"],
    ]

    /// Whether some entry has this port.
    public static func isKnown(_ ipProtocol: IPProtocol, _ port: Port) -> Bool { known.contains { $0.contains(ipProtocol, port) } }

    private static let known = entries.keys.flatMap { ranges($0) ?? [] }

    /// Compiled; the catalogue's own entries are right, which a test checks.
    static func ranges(_ name: String) -> [ServiceRange]? {
        entries[name]?.flatMap { (try? WrittenService($0))?.ranges ?? [] }
    }
}

extension ServiceRange {
    /// As it would be written.
    public var written: String {
        let name = WrittenService.protocols.first { $0.value == ipProtocol.rawValue }?.key ?? String(ipProtocol.rawValue)
        if ipProtocol == .icmp || ipProtocol == .icmpv6 {
            if count == 65536 { return "\(name)/any" }
            let type = UInt8(low.rawValue >> 8)
            return "\(name)/\(WrittenService.icmpName(type, ipProtocol) ?? String(type))"
        }
        if !ipProtocol.hasPorts || count >= 65535 { return "\(name)/any" }
        return low == high ? "\(name)/\(low.rawValue)" : "\(name)/\(low.rawValue)-\(high.rawValue)"
    }
}
