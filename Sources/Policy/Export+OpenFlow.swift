// As flows of OpenFlow, for Open vSwitch: port 1 is inside, port 2 outside.

import Allowlist
import Frames

extension PolicyExport {
    /// The flows, for `ovs-ofctl add-flows`.
    public func openFlow() -> String {
        var writer = OpenFlow(self)
        return writer.text()
    }
}

/// Priorities, one for each reason.
private enum Priority: Int {
    case malformed = 500
    case neighbour = 400
    /// ICMP errors, and neighbour discovery that is not listed or not what it should be.
    case deniedICMP = 300
    /// A reply is the server's: nothing below may let a client send one.
    case icmpReply = 200
    case noICMPReply = 150
    case allow = 100
    case etherType = 50
    case rest = 0
}

struct OpenFlow {
    let policy: PolicyExport
    private var flows: Set<String> = []
    private var fixed: [String] = []
    /// Services with ports that OpenFlow has no fields for.
    private var unsaid: Set<String> = []
    /// Never sent back by the port it came from, so this is the other one.
    private let pass = "output:1,output:2"
    private var denial: String { policy.enforces ? "drop" : pass }
    /// Bindings are looked at first, in tables 0 (sender) and 1 (receiver).
    private var table: Int { policy.source.bindings.isEmpty ? 0 : 2 }

    init(_ policy: PolicyExport) { self.policy = policy }

    mutating func text() -> String {
        always()
        bindings()
        policy.forEachConversation { add($0) }
        var lines = (policy.heading(for: "Open vSwitch") + limits).map { $0.isEmpty ? "#" : "# \($0)" }
        lines += fixed
        lines += flows.sorted()
        var text = ""
        for line in lines {
            text += line
            text += "\n"
        }
        return text
    }

    private var limits: [String] {
        var lines = [
            "",
            "Load it with:  ovs-ofctl add-flows BRIDGE FILE       counters:  ovs-ofctl dump-flows BRIDGE",
            "The bridge needs fail_mode=secure, ports inside and outside with ofport_request=1 and 2, and, for frames with two tags:",
            "  ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2",
            "First fragments have ports only after:  ovs-ofctl set-frags BRIDGE nx-match",
            "",
            "Where it differs from Sekisho:",
            "- Of malformed frames it denies those with impossible TCP flags or a group as sender. Open vSwitch sees others",
            "  without ports, or not as IP; source routes pass.",
            "- ICMP errors are denied: OpenFlow does not see the packet in them.",
            "- IP in LLC/SNAP is judged as if it stood in Ethernet. LLC addresses cannot be told apart, and are denied.",
            "- ARP: a probe (from 0.0.0.0) for a bound address passes from any MAC address.",
            "- Neighbour discovery: length and options are not looked at; a bound address is compared in the IPv6 header only.",
        ]
        let llc = policy.otherTypes.filter { $0 < EtherType.minimum }
        if !llc.isEmpty {
            lines.append("- Left out of ethertypes: \(llc.map { "0x" + String($0, radix: 16) }.joined(separator: ", ")) (LLC).")
        }
        if !unsaid.isEmpty { lines.append("- Left out, for want of a field for their ports: \(unsaid.sorted().joined(separator: ", ")).") }
        return lines
    }

    // MARK: - Flows

    private static func flow(_ table: Int, _ priority: Priority, _ match: [String], _ actions: String) -> String {
        let match = match.isEmpty ? "" : "," + match.joined(separator: ",")
        return "table=\(table),priority=\(priority.rawValue)\(match) actions=\(actions)"
    }

    private mutating func fix(_ priority: Priority, _ match: [String], _ actions: String) {
        fixed.append(Self.flow(table, priority, match, actions))
    }

    /// What does not come from a rule.
    private mutating func always() {
        fix(.malformed, ["dl_src=01:00:00:00:00:00/01:00:00:00:00:00"], denial)
        for ip in ["ip", "ipv6"] { fix(.malformed, [ip, "nw_frag=later"], denial) }
        for tcp in ["tcp", "tcp6"] {
            for bits in UInt8(0)..<16 {
                let flags: [(String, TCPFlags)] = [("fin", .fin), ("syn", .syn), ("rst", .rst), ("ack", .ack)]
                let set = flags.enumerated().filter { bits >> UInt8($0.offset) & 1 == 1 }.map(\.element.1)
                if TCPFlags(set).isPossible { continue }
                let written = flags.enumerated().map { (bits >> UInt8($0.offset) & 1 == 1 ? "+" : "-") + $0.element.0 }.joined()
                fix(.malformed, [tcp, "tcp_flags=\(written)"], denial)
            }
        }
        for type in [135, 136] {
            if policy.allowsARP { fix(.neighbour, ["icmp6", "icmp_type=\(type)", "icmp_code=0", "nw_ttl=255"], pass) }
            fix(.deniedICMP, ["icmp6", "icmp_type=\(type)"], denial)
        }
        for (icmp, family) in [("icmp", IPFamily.ipv4), ("icmp6", .ipv6)] {
            for (type, role) in ICMPRole.all(family).enumerated() {
                switch role {
                case .error: fix(.deniedICMP, [icmp, "icmp_type=\(type)"], denial)
                case .reply: fix(.noICMPReply, [icmp, "icmp_type=\(type)"], denial)
                case .request, .neighbour: break
                }
            }
        }
        if policy.allowsARP {
            for operation in [1, 2] { fix(.etherType, ["arp", "arp_op=\(operation)"], pass) }
        }
        for type in policy.otherTypes where type >= EtherType.minimum {
            fix(.etherType, ["dl_type=0x\(String(type, radix: 16))"], pass)
        }
        fix(.rest, [], denial)
    }

    private mutating func bindings() {
        guard table > 0 else { return }
        for binding in policy.source.bindings {
            let address = binding.address.written(binding.family)
            let (ip, prefix) = binding.family == .ipv4 ? ("ip", "nw") : ("ipv6", "ipv6")
            for (table, end) in [(0, "src"), (1, "dst")] {
                let match = [ip, "\(prefix)_\(end)=\(address)"]
                for mac in binding.macs {
                    flows.insert(Self.flow(table, .allow, match + ["dl_\(end)=\(mac.written)"], "resubmit(,\(table + 1))"))
                }
                flows.insert(Self.flow(table, .etherType, match, denial))
            }
            guard binding.family == .ipv4 else { continue }
            for mac in binding.macs {
                let own = ["arp", "arp_spa=\(address)", "arp_sha=\(mac.written)"]
                // The Ethernet address may be any of its own.
                for sender in binding.macs {
                    flows.insert(Self.flow(0, .allow, own + ["dl_src=\(sender.written)"], "resubmit(,1)"))
                }
            }
            flows.insert(Self.flow(0, .etherType, ["arp", "arp_spa=\(address)"], denial))
        }
        for table in 0...1 { fixed.append(Self.flow(table, .rest, [], "resubmit(,\(table + 1))")) }
    }

    private mutating func add(_ talk: Conversation) {
        let ports: [String?]
        let isIPv4 = talk.family == .ipv4
        if talk.isICMP { return addICMP(talk) }
        let names: [IPProtocol: String] = [.tcp: "tcp", .udp: "udp", .sctp: "sctp"]
        var match: [String]
        let isWhole = !talk.service.ipProtocol.hasPorts || talk.service.count == 65536
        if let name = names[talk.service.ipProtocol] {
            match = [isIPv4 ? name : name + "6"]
            ports = isWhole ? [nil] : Self.masks(talk.service.low.rawValue, talk.service.high.rawValue)
        } else if isWhole {
            match = [isIPv4 ? "ip" : "ipv6", "nw_proto=\(talk.service.ipProtocol.rawValue)"]
            ports = [nil]
        } else {
            unsaid.insert(talk.service.written)
            return
        }
        if talk.vlan != 0 { match.append("dl_vlan=\(talk.vlan)") }
        for port in ports {
            insert(.allow, talk, match + (port.map { ["tp_dst=\($0)"] } ?? []), isReply: false)
            let reply = match + (port.map { ["tp_src=\($0)"] } ?? [])
            if talk.service.ipProtocol == .tcp {
                // All but SYN without ACK.
                for flags in ["-syn", "+syn+ack"] { insert(.allow, talk, reply + ["tcp_flags=\(flags)"], isReply: true) }
            } else {
                insert(.allow, talk, reply, isReply: true)
            }
        }
    }

    private mutating func addICMP(_ talk: Conversation) {
        let vlan = talk.vlan != 0 ? ["dl_vlan=\(talk.vlan)"] : []
        let icmp = talk.family == .ipv4 ? "icmp" : "icmp6"
        let roles = ICMPRole.all(talk.family)
        for piece in icmpPieces(talk.service) {
            let codes: [[String]] = piece.codes.count == 256 ? [[]] : piece.codes.map { ["icmp_code=\($0)"] }
            for code in codes {
                if piece.types.count == 256 {
                    insert(.allow, talk, [icmp] + vlan, isReply: false)
                } else {
                    for type in piece.types where roles[Int(type)] == .request {
                        insert(.allow, talk, [icmp] + vlan + ["icmp_type=\(type)"] + code, isReply: false)
                    }
                }
                for (type, role) in roles.enumerated() {
                    if case .reply(let request) = role, piece.types.contains(UInt16(request)) {
                        insert(.icmpReply, talk, [icmp] + vlan + ["icmp_type=\(type)"] + code, isReply: true)
                    }
                }
            }
        }
    }

    /// The flow of one way.
    private mutating func insert(_ priority: Priority, _ talk: Conversation, _ match: [String], isReply: Bool) {
        let name = talk.family == .ipv4 ? "nw" : "ipv6"
        let (source, destination) = isReply ? (talk.server, talk.client) : (talk.client, talk.server)
        var match = match
        if source.length > 0 { match.append("\(name)_src=\(source.written)") }
        if destination.length > 0 { match.append("\(name)_dst=\(destination.written)") }
        guard let side = talk.side else {
            flows.insert(Self.flow(table, priority, match, pass))
            return
        }
        let isFromInside = (side == .inside) != isReply
        match.append("in_port=\(isFromInside ? 1 : 2)")
        flows.insert(Self.flow(table, priority, match, "output:\(isFromInside ? 2 : 1)"))
    }

    /// A range as the fewest values with masks.
    static func masks(_ low: UInt16, _ high: UInt16) -> [String] {
        var result: [String] = []
        var at = UInt32(low)
        while at <= UInt32(high) {
            var size: UInt32 = at == 0 ? 65536 : at & (~at + 1)
            while at + size - 1 > UInt32(high) { size /= 2 }
            let mask = UInt32(65536) - size
            result.append(size == 1 ? "\(at)" : "0x\(String(at, radix: 16))/0x\(String(mask & 0xFFFF, radix: 16))")
            at += size
        }
        return result
    }
}
