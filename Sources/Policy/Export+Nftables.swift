// As a ruleset of nftables, for a Linux bridge.
//
//   forward ─┬─► ipv4 ─┬─► tcp4 ─┬─► opening4   SYN: the client's or nobody's
//            │         │         └─► talk4      the client's or the server's
//            │         ├─► icmp4 ───► errors4   by the packet inside
//            │         └─► talk4
//            ├─► ipv6 … the same
//            └─► arp, listed EtherTypes
//
// Rules between hosts are keys of a hash set, so that a frame costs the same under ten rules as under a
// million; networks and long port ranges stand in interval sets. Both ways of a conversation are looked up
// in one set, with the key turned round.

import Allowlist
import Frames

public struct NftablesOptions: Sendable {
    /// Names of the bridge's ports.
    public var inside: String
    public var outside: String
    /// Judges ICMP errors by the packet in them. That takes a second copy of every set, in types without a name, which
    /// nft 1.0.6 loads but cannot list: it ends with a failed assertion.
    public var judgesICMPErrors: Bool

    public init(inside: String = "inside", outside: String = "outside", judgesICMPErrors: Bool = false) {
        self.inside = inside
        self.outside = outside
        self.judgesICMPErrors = judgesICMPErrors
    }

    /// Whether the text can be a port's name (dev_valid_name in Linux), and can be quoted for nft, where a
    /// `*` at the end would match more.
    public static func isPortName(_ name: String) -> Bool {
        (1...15).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy { $0 > 32 && $0 < 127 && !"/:\"\\*".utf8.contains($0) }
    }

    func port(_ side: Side) -> String { side == .inside ? inside : outside }
}

extension PolicyExport {
    /// The ruleset, for `nft -f`.
    public func nftables(_ options: NftablesOptions = NftablesOptions()) -> String {
        var writer = Nftables(self, options)
        return writer.text()
    }
}

/// Host-to-host ranges up to this many ports become keys of the hash set, as in the compiled table.
private let expandedPorts = 64
/// Elements of one command: nft handles a command as a whole, and few large ones are quicker than many.
private let elementsInCommand = 10_000

private enum SetKind: Int, CaseIterable {
    /// client . server . protocol . port
    case exact
    /// client . server . protocol: services without a port, or with every port.
    case portless
    case networks
    case portlessNetworks
    /// source . destination . type . code: requests, and their replies the other way.
    case icmp
    case icmpNetworks

    var name: String { ["exact", "portless", "networks", "portless_networks", "icmp", "icmp_networks"][rawValue] }
    var hasIntervals: Bool { self == .networks || self == .portlessNetworks || self == .icmpNetworks }
    var isICMP: Bool { self == .icmp || self == .icmpNetworks }
    var hasPorts: Bool { self == .exact || self == .networks }
}

/// Which conversations a set is about. Ordered by `order`.
private struct SetKey: Hashable {
    var family: IPFamily
    var kind: SetKind
    /// 0: whatever the tag.
    var vlan: UInt16
    /// Where the client is; ICMP: where the frame comes from.
    var side: Side?

    var order: Int {
        ((Int(family.rawValue) * 8 + kind.rawValue) * 4096 + Int(vlan)) * 4 + (side.map { Int($0.rawValue) + 1 } ?? 0)
    }

    func name(layer: Int = 0) -> String {
        "\(kind.name)\(family.rawValue)\(vlan > 0 ? "_vlan\(vlan)" : "")\(side == .inside ? "_inside" : side == .outside ? "_outside" : "")"
            + (layer > 0 ? "_\(layer + 1)" : "")
    }
}

/// One element. ICMP: source, destination, types, codes; else client, server, protocol, ports.
private struct Element: Hashable {
    var a: AddressPrefix
    var b: AddressPrefix
    var first: ClosedRange<UInt16>
    var second: ClosedRange<UInt16>

    static func inOrder(_ x: Element, _ y: Element) -> Bool {
        // Widest first: what is covered by an earlier one needs not stand there.
        if x.a.length != y.a.length { return x.a.length < y.a.length }
        if x.b.length != y.b.length { return x.b.length < y.b.length }
        if x.a.words != y.a.words { return (x.a.words.high, x.a.words.low) < (y.a.words.high, y.a.words.low) }
        if x.b.words != y.b.words { return (x.b.words.high, x.b.words.low) < (y.b.words.high, y.b.words.low) }
        return (x.first.lowerBound, x.first.upperBound, x.second.lowerBound, x.second.upperBound)
            < (y.first.lowerBound, y.first.upperBound, y.second.lowerBound, y.second.upperBound)
    }
}

/// Which way round a frame is looked up.
private enum View: CaseIterable {
    case client, server
    /// An ICMP error about a packet that its receiver sent as client, or as server.
    case errorToClient, errorToServer
    /// The same where only who received that packet may send the error.
    case hostErrorToClient, hostErrorToServer

    var isError: Bool { self != .client && self != .server }
    var isServer: Bool { self == .server || self == .errorToServer || self == .hostErrorToServer }
    var isHostError: Bool { self == .hostErrorToClient || self == .hostErrorToServer }
}

private struct Nftables {
    let policy: PolicyExport
    let options: NftablesOptions
    private var sets: [(key: SetKey, layers: [[Element]])] = []
    private var lines: [String] = []
    private let denial: String

    init(_ policy: PolicyExport, _ options: NftablesOptions) {
        self.policy = policy
        self.options = options
        denial = policy.enforces ? "drop" : "accept"
        collect()
    }

    // MARK: - Elements

    private mutating func collect() {
        var groups: [SetKey: [Element]] = [:]
        let roles = [IPFamily.ipv4: ICMPRole.all(.ipv4), .ipv6: ICMPRole.all(.ipv6)]
        policy.forEachConversation { talk in
            func add(_ kind: SetKind, _ side: Side?, _ element: Element) {
                groups[SetKey(family: talk.family, kind: kind, vlan: talk.vlan, side: side), default: []].append(element)
            }
            let isHosts = talk.client.isHost && talk.server.isHost
            if talk.isICMP {
                for piece in icmpPieces(talk.service) {
                    for (isReply, types) in Self.messages(piece.types, roles[talk.family]!) {
                        let single = types.count == 1 && piece.codes.count == 1
                        add(
                            isHosts && single ? .icmp : .icmpNetworks, isReply ? talk.side?.other : talk.side,
                            Element(
                                a: isReply ? talk.server : talk.client, b: isReply ? talk.client : talk.server, first: types,
                                second: piece.codes))
                    }
                }
                return
            }
            let number = UInt16(talk.service.ipProtocol.rawValue)
            var element = Element(a: talk.client, b: talk.server, first: number...number, second: 0...0)
            let ports = talk.service.low.rawValue...talk.service.high.rawValue
            if !talk.service.ipProtocol.hasPorts {
                add(isHosts ? .portless : .portlessNetworks, talk.side, element)
            } else if isHosts && ports == 0...65535 {
                add(.portless, talk.side, element)
            } else if isHosts && ports.count <= expandedPorts {
                for port in ports {
                    element.second = port...port
                    add(.exact, talk.side, element)
                }
            } else {
                element.second = ports
                add(.networks, talk.side, element)
            }
        }
        sets = groups.map { key, elements in
            let sorted = elements.sorted(by: Element.inOrder)
            return (key, key.kind.hasIntervals ? Layers(sorted, key.family).layers : [Self.unique(sorted)])
        }.sorted { $0.key.order < $1.key.order }
    }

    /// The requests among some types, in runs, and the replies to them.
    private static func messages(_ types: ClosedRange<UInt16>, _ roles: [ICMPRole]) -> [(isReply: Bool, ClosedRange<UInt16>)] {
        var result: [(isReply: Bool, ClosedRange<UInt16>)] = []
        for type in types where roles[Int(type)] == .request {
            if let last = result.last, last.1.upperBound + 1 == type {
                result[result.count - 1].1 = last.1.lowerBound...type
            } else {
                result.append((false, type...type))
            }
        }
        for (type, role) in roles.enumerated() {
            if case .reply(let request) = role, types.contains(UInt16(request)) {
                result.append((true, UInt16(type)...UInt16(type)))
            }
        }
        return result
    }

    private static func unique(_ sorted: [Element]) -> [Element] {
        var result: [Element] = []
        result.reserveCapacity(sorted.count)
        for element in sorted where result.last != element { result.append(element) }
        return result
    }

    // MARK: - The text

    mutating func text() -> String {
        lines = policy.heading(for: "nftables") + limits
        lines = lines.map { $0.isEmpty ? "#" : "# \($0)" }
        lines += ["", "add table bridge sekisho", "delete table bridge sekisho", "table bridge sekisho {"]
        for name in [
            "allowed", "denied", "denied_binding", "denied_ethertype", "denied_fragment", "denied_header",
            "denied_icmp_error", "denied_syn_from_server",
        ] { lines.append("\tcounter \(name) { }") }
        for (key, layers) in sets {
            for (index, layer) in layers.enumerated() {
                // A size lets the kernel take the hash of fixed size.
                let kind = key.kind.hasIntervals ? "flags interval" : "size \(layer.count)"
                lines.append("\tset \(key.name(layer: index)) { \(type(key)); \(kind); }")
                if options.judgesICMPErrors {
                    lines.append("\tset \(key.name(layer: index))_error { typeof \(expression(key, .errorToClient)); \(kind); }")
                }
            }
        }
        for family in IPFamily.allCases { declareBindings(family) }
        for family in IPFamily.allCases { chains(family) }
        forwardChain()
        lines.append("}")
        var text = ""
        for line in lines {
            text += line
            text += "\n"
        }
        for (key, layers) in sets {
            for (index, layer) in layers.enumerated() {
                append(layer, to: key.name(layer: index), asNumbers: false, key, &text)
                if options.judgesICMPErrors {
                    append(layer, to: key.name(layer: index) + "_error", asNumbers: true, key, &text)
                }
            }
        }
        return text
    }

    /// What a reader must know, and what nftables cannot say.
    private var limits: [String] {
        [
            "",
            "Load it with:  nft -f FILE       counters:  nft list counters table bridge sekisho",
            "It holds for every bridge of the network namespace. For one that forwards as a cable does:",
            "  ip link add br0 type bridge stp_state 0 mcast_snooping 0 group_fwd_mask 0xfff8",
            "  ip link set \(options.inside) master br0; ip link set \(options.inside) type bridge_slave learning off",
            "  ip link set \(options.outside) master br0; ip link set \(options.outside) type bridge_slave learning off",
            "  sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
            "",
            "Where it differs from Sekisho:",
            "- Of malformed frames it denies those with impossible TCP flags or source routes. It does not see wrong lengths,",
            "  overlapping or tiny first fragments, too many or misplaced extension headers, malformed LLC.",
            "- Frames with two VLAN tags are denied (denied_ethertype): nftables does not find the IP header in them. So are",
            "  those whose only tag has EtherType 0x9100.",
            options.judgesICMPErrors
                ? "- ICMP errors: the receiver must be a party of an allowed conversation with the other address inside, at the ports"
                : "- ICMP errors are denied; --icmp-errors judges them by the packet inside.",
        ]
            + (options.judgesICMPErrors
                ? [
                    "  inside. That the receiver sent the packet inside cannot be compared. Errors about IPv4 packets with options are denied.",
                    "  nft 1.0.6 loads this but cannot list it; read the counters with: nft reset counters table bridge sekisho",
                ] : [])
            + [
                "- Neighbour discovery: length and options are not looked at; a bound address is compared in the IPv6 header only.",
                "- The Linux bridge itself keeps pause frames, LACP and what is addressed to its own ports, and drops frames from a",
            "  group or from 00:00:00:00:00:00.",
            ]
    }

    /// The type of a set's keys.
    private func type(_ key: SetKey) -> String {
        let address = key.family == .ipv4 ? "ipv4_addr" : "ipv6_addr"
        let icmp = key.family == .ipv4 ? "icmp" : "icmpv6"
        let tail =
            key.kind.isICMP ? "\(icmp)_type . \(icmp)_code" : key.kind.hasPorts ? "inet_proto . inet_service" : "inet_proto"
        return "type \(address) . \(address) . \(tail)"
    }

    /// What of a frame is looked up.
    private func expression(_ key: SetKey, _ view: View) -> String {
        let isIPv4 = key.family == .ipv4
        let (ip, icmp) = isIPv4 ? ("ip", "icmp") : ("ip6", "icmpv6")
        // Bit offsets of the packet inside an ICMP error: 8 bytes of ICMP, then its header, then its ports.
        let inner: (destination: String, protocol: String, ports: Int) =
            isIPv4 ? ("@th,192,32", "@th,136,8", 224) : ("@th,256,128", "@th,112,8", 384)
        var fields: [String]
        if !view.isError {
            fields = view.isServer ? ["\(ip) daddr", "\(ip) saddr"] : ["\(ip) saddr", "\(ip) daddr"]
            if key.kind.isICMP {
                fields += ["\(icmp) type", "\(icmp) code"]
            } else {
                fields.append("meta l4proto")
                if key.kind.hasPorts { fields.append(view.isServer ? "th sport" : "th dport") }
            }
        } else {
            // nftables cannot compare two fields of a frame: the error's receiver stands in for the sender of the packet
            // inside, so that it must be a party of the conversation; likewise its sender, where that must be the other one.
            let receiver = isIPv4 ? "@nh,128,32" : "@nh,192,128"
            let other = view.isHostError ? (isIPv4 ? "@nh,96,32" : "@nh,64,128") : inner.destination
            fields = view.isServer ? [other, receiver] : [receiver, other]
            if key.kind.isICMP {
                fields += ["@th,\(inner.ports),8", "@th,\(inner.ports + 8),8"]
            } else {
                fields.append(inner.protocol)
                if key.kind.hasPorts { fields.append("@th,\(view.isServer ? inner.ports : inner.ports + 16),16") }
            }
        }
        return fields.joined(separator: " . ")
    }

    private func append(_ elements: [Element], to name: String, asNumbers: Bool, _ key: SetKey, _ text: inout String) {
        var start = 0
        while start < elements.count {
            let end = min(start + elementsInCommand, elements.count)
            text += "add element bridge sekisho \(name) {\n"
            for index in start..<end {
                let element = elements[index]
                text += asNumbers ? Self.number(element.a) : element.a.written
                text += " . "
                text += asNumbers ? Self.number(element.b) : element.b.written
                for range in [element.first, element.second].prefix(key.kind.isICMP || key.kind.hasPorts ? 2 : 1) {
                    text += " . "
                    text += range.count == 1 ? String(range.lowerBound) : "\(range.lowerBound)-\(range.upperBound)"
                }
                text += index + 1 < end ? ",\n" : "\n"
            }
            text += "}\n"
            start = end
        }
    }

    /// An address as the number it is, for fields read raw.
    private static func number(_ prefix: AddressPrefix) -> String {
        func written(_ words: AddressWords) -> String {
            if prefix.family == .ipv4 { return String(words.low) }
            let low = String(words.low, radix: 16)
            return "0x" + String(words.high, radix: 16) + String(repeating: "0", count: 16 - low.count) + low
        }
        if prefix.isHost { return written(prefix.words) }
        let free = prefix.family.bits - prefix.length
        let last = AddressWords(
            high: prefix.words.high | (free <= 64 ? 0 : UInt64.max >> (128 - free)),
            low: prefix.words.low | (free >= 64 ? UInt64.max : (1 << free) - 1))
        return "\(written(prefix.words))-\(written(last))"
    }

    // MARK: - Chains

    private mutating func chain(_ name: String, _ body: [String]) {
        lines.append("\tchain \(name) {")
        lines += body.map { "\t\t\($0)" }
        lines.append("\t}")
    }

    /// A rule for each set: is this frame one of its conversations?
    private func lookups(
        _ family: IPFamily, isICMP: Bool, vlan: UInt16, _ views: [View], _ verdict: String
    ) -> [String] {
        var rules: [String] = []
        // What costs little first: all hash sets, then the interval sets.
        for hasIntervals in [false, true] {
            for view in views {
                for (key, layers) in sets
                where key.family == family && key.kind.isICMP == isICMP && key.vlan == vlan
                    && key.kind.hasIntervals == hasIntervals
                {
                    var guards = ""
                    if let side = key.side {
                        // An error travels against the packet it is about.
                        let comesFrom = view.isServer != view.isError ? side.other : side
                        guards = "iifname \"\(options.port(comesFrom))\" "
                    }
                    // Else the ports of another protocol would be taken for type and code.
                    if key.kind.isICMP, view.isError { guards += family == .ipv4 ? "@th,136,8 1 " : "@th,112,8 58 " }
                    for index in layers.indices {
                        rules.append("\(guards)\(expression(key, view)) @\(key.name(layer: index))\(view.isError ? "_error" : "") \(verdict)")
                    }
                }
            }
        }
        return rules
    }

    private typealias Part = (isICMP: Bool, views: [View], verdict: String)
    private static let allowed = "counter name allowed accept"

    /// A chain of lookups; those of a VLAN stand in a chain of their own that only its frames go through.
    private mutating func lookupChain(_ name: String, _ family: IPFamily, _ parts: [Part], before: [String] = [], after: [String] = []) {
        func lookups(vlan: UInt16) -> [String] {
            parts.flatMap { self.lookups(family, isICMP: $0.isICMP, vlan: vlan, $0.views, $0.verdict) }
        }
        var vlans: [UInt16] = []
        for vlan in Set(sets.filter { $0.key.family == family && $0.key.vlan > 0 }.map(\.key.vlan)).sorted() {
            let body = lookups(vlan: vlan)
            if body.isEmpty { continue }
            chain("\(name)_vlan\(vlan)", body)
            vlans.append(vlan)
        }
        var body = before + lookups(vlan: 0)
        if !vlans.isEmpty {
            // Read raw: nft means 802.1Q only by "vlan id".
            chain("\(name)_vlans", ["@ll,116,12 vmap { \(vlans.map { "\($0) : goto \(name)_vlan\($0)" }.joined(separator: ", ")) }"])
            body.append("ether type { 8021q, 8021ad } jump \(name)_vlans")
        }
        chain(name, body + after)
    }

    private mutating func chains(_ family: IPFamily) {
        let isIPv4 = family == .ipv4
        let n = family.rawValue
        let (ip, icmp, meta) = isIPv4 ? ("ip", "icmp", "meta protocol ip") : ("ip6", "icmpv6", "meta protocol ip6")
        let errorTypes = isIPv4 ? "{ 3, 11, 12 }" : "{ 1, 2, 3, 4 }"
        if options.judgesICMPErrors {
            lookupChain(
                "host_errors\(n)", family,
                [(false, [.hostErrorToClient, .hostErrorToServer], Self.allowed), (true, [.hostErrorToClient], Self.allowed)])
            lookupChain(
                "errors\(n)", family,
                [(false, [.errorToClient, .errorToServer], Self.allowed), (true, [.errorToClient], Self.allowed)])
            chain(
                "judge_errors\(n)",
                [
                    "\(meta) \(icmp) type . \(icmp) code \(isIPv4 ? "{ 3 . 2, 3 . 3 }" : "{ 1 . 4 }") jump host_errors\(n)",
                    "\(meta) \(icmp) type . \(icmp) code != \(isIPv4 ? "{ 3 . 2, 3 . 3 }" : "{ 1 . 4 }") jump errors\(n)",
                    "counter name denied_icmp_error \(denial)",
                ])
        }
        var body: [String] = []
        if !isIPv4 {
            let isAllowed = policy.allowsARP
            body.append(
                "\(meta) icmpv6 type { 135, 136 } "
                    + (isAllowed ? "icmpv6 code 0 ip6 hoplimit 255 counter name allowed accept" : "counter name denied_ethertype \(denial)"))
            if isAllowed { body.append("\(meta) icmpv6 type { 135, 136 } counter name denied_header \(denial)") }
        }
        if options.judgesICMPErrors {
            // A whole packet, within what an error may have, about a first fragment without options.
            body.append(
                "\(meta) \(icmp) type \(errorTypes) "
                    + (isIPv4 ? "ip frag-off & 0x3fff == 0 ip length <= 576 @th,64,8 0x45 @th,115,13 0" : "ip6 length <= 1240 @th,64,4 6")
                    + " goto judge_errors\(n)")
        }
        body.append("\(meta) \(icmp) type \(errorTypes) counter name denied_icmp_error \(denial)")
        lookupChain("icmp\(n)", family, [(true, [.client], Self.allowed)], before: body)
        // Which of the denied have a server for sender is asked last: another rule may make it the client.
        lookupChain("servers_syn\(n)", family, [(false, [.server], "counter name denied_syn_from_server \(denial)")])
        lookupChain("opening\(n)", family, [(false, [.client], Self.allowed)], after: ["goto servers_syn\(n)"])
        lookupChain("talk\(n)", family, [(false, [.client, .server], Self.allowed)])
        chain(
            "tcp\(n)",
            [
                "tcp flags & (fin | syn | rst | ack) vmap { syn : goto opening\(n), syn | ack : goto talk\(n), ack : goto talk\(n), "
                    + "fin | ack : goto talk\(n), rst : goto talk\(n), rst | ack : goto talk\(n) }",
                "counter name denied_header \(denial)",
            ])
        if isIPv4 {
            chain(
                "options4",
                ["\(meta) ip option lsrr exists counter name denied_header \(denial)", "\(meta) ip option ssrr exists counter name denied_header \(denial)"])
            body = ["ip frag-off & 0x1fff != 0 counter name denied_fragment \(denial)", "ip hdrlength > 5 jump options4"]
        } else {
            chain(
                "extensions6",
                ["\(meta) frag frag-off != 0 counter name denied_fragment \(denial)", "\(meta) rt type 0 counter name denied_header \(denial)"])
            body = ["ip6 nexthdr { 0, 43, 44, 60 } jump extensions6"]
        }
        if policy.source.bindings.contains(where: { $0.family == family }) {
            for end in ["saddr", "daddr"] {
                body.append("\(ip) \(end) @bound\(n) \(ip) \(end) . ether \(end) != @binding\(n) counter name denied_binding \(denial)")
            }
        }
        body += ["meta l4proto vmap { \(isIPv4 ? 1 : 58) : goto icmp\(n), 6 : goto tcp\(n) }", "goto talk\(n)"]
        chain("ipv\(n)", body)
    }

    private mutating func declareBindings(_ family: IPFamily) {
        let bindings = policy.source.bindings.filter { $0.family == family }.sorted {
            ($0.address.high, $0.address.low) < ($1.address.high, $1.address.low)
        }
        if bindings.isEmpty { return }
        let n = family.rawValue
        let addresses = bindings.map { $0.address.written(family) }
        let pairs = zip(addresses, bindings).flatMap { address, binding in binding.macs.map { "\(address) . \($0.written)" } }
        lines.append("\tset bound\(n) { type \("ipv\(n)_addr"); elements = { \(addresses.joined(separator: ", ")) }; }")
        lines.append("\tset binding\(n) { type \("ipv\(n)_addr") . ether_addr; elements = { \(pairs.joined(separator: ", ")) }; }")
    }

    private mutating func forwardChain() {
        var body = [
            "type filter hook forward priority filter; policy \(denial);",
        ]
        if policy.allowsARP {
            var arp: [String] = []
            if policy.source.bindings.contains(where: { $0.family == .ipv4 }) {
                for mac in ["ether saddr", "arp saddr ether"] {
                    arp.append(
                        "meta protocol arp arp saddr ip @bound4 arp saddr ip . \(mac) != @binding4 counter name denied_binding \(denial)")
                    // A probe claims what it asks for.
                    arp.append(
                        "meta protocol arp arp saddr ip 0.0.0.0 arp daddr ip @bound4 arp daddr ip . \(mac) != @binding4 counter name denied_binding \(denial)")
                }
            }
            arp += [
                // Else nft asks "ether type", which is the tag's in a tagged frame.
                "meta protocol arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp operation { 1, 2 } counter name allowed accept",
                "counter name denied_header \(denial)",
            ]
            chain("arp_frames", arp)
        }
        body.append("meta protocol vmap { ip : jump ipv4, ip6 : jump ipv6\(policy.allowsARP ? ", arp : goto arp_frames" : "") }")
        let types = policy.otherTypes.filter { $0 >= EtherType.minimum }
        if !types.isEmpty {
            body.append("meta protocol { \(types.map { "0x" + String($0, radix: 16) }.joined(separator: ", ")) } counter name allowed accept")
        }
        // LLC, named by its DSAP. The kernel calls such frames 0x0004, and 0x0001 where it is ff.
        for dsap in policy.otherTypes where dsap < EtherType.minimum && dsap != 0x06 {
            let match = "meta protocol { 0x0001, 0x0004 } @nh,0,8 0x\(String(dsap, radix: 16))"
            // SNAP must not carry an EtherType.
            if dsap & 0xFE == 0xAA { body.append("\(match) @nh,24,8 0 @nh,32,16 { 0, 0xf8 } counter name denied_header \(denial)") }
            body.append("\(match) counter name allowed accept")
        }
        body += ["meta protocol != { ip, ip6 } counter name denied_ethertype \(denial)", "counter name denied \(denial)"]
        chain("forward", body)
    }
}

/// Interval sets refuse elements that overlap: what another covers is left out, and what overlaps otherwise goes into a
/// set of its own.
private struct Layers {
    private(set) var layers: [[Element]] = []
    private var placed: [(element: Element, layer: Int)] = []
    /// Elements by their pair of networks, and, for each wider second network, those below it.
    private var same: [Pair: [Int]] = [:]
    private var below: [Pair: [Int]] = [:]

    private struct Pair: Hashable {
        var a: AddressPrefix
        var b: AddressPrefix
    }

    /// - Parameter sorted: widest first, so that no later element's first network contains an earlier one's.
    init(_ sorted: [Element], _ family: IPFamily) {
        let elements = Self.merged(sorted)
        let lengthsA = Set(elements.map(\.a.length)).sorted()
        let lengthsB = Set(elements.map(\.b.length)).sorted()
        for element in elements {
            var taken: Set<Int> = []
            var isCovered = false
            for length in lengthsA where length <= element.a.length {
                let a = AddressPrefix(family: family, words: element.a.words, length: length)
                for length in lengthsB where length <= element.b.length {
                    let pair = Pair(a: a, b: AddressPrefix(family: family, words: element.b.words, length: length))
                    for index in same[pair] ?? [] where Self.meets(placed[index].element, element) {
                        taken.insert(placed[index].layer)
                        isCovered = isCovered || Self.covers(placed[index].element, element)
                    }
                }
                for index in below[Pair(a: a, b: element.b)] ?? [] where Self.meets(placed[index].element, element) {
                    taken.insert(placed[index].layer)
                }
            }
            if isCovered { continue }
            let layer = (0...layers.count).first { !taken.contains($0) }!
            if layer == layers.count { layers.append([]) }
            layers[layer].append(element)
            same[Pair(a: element.a, b: element.b), default: []].append(placed.count)
            for length in lengthsB where length < element.b.length {
                let wider = AddressPrefix(family: family, words: element.b.words, length: length)
                below[Pair(a: element.a, b: wider), default: []].append(placed.count)
            }
            placed.append((element, layer))
        }
    }

    /// Ranges that touch, as one.
    private static func merged(_ sorted: [Element]) -> [Element] {
        var result: [Element] = []
        for element in sorted {
            if let last = result.last, last.a == element.a, last.b == element.b, last.first == element.first,
                Int(element.second.lowerBound) <= Int(last.second.upperBound) + 1
            {
                result[result.count - 1].second = last.second.lowerBound...max(last.second.upperBound, element.second.upperBound)
            } else {
                result.append(element)
            }
        }
        return result
    }

    /// Whether two elements whose networks overlap do so altogether.
    private static func meets(_ x: Element, _ y: Element) -> Bool {
        x.first.overlaps(y.first) && x.second.overlaps(y.second)
    }

    /// The same for covering.
    private static func covers(_ wide: Element, _ narrow: Element) -> Bool {
        wide.first.contains(narrow.first) && wide.second.contains(narrow.second)
    }
}
