// Why a conversation passes, or what keeps the nearest rule from letting it pass.

import Allowlist
import Frames

/// A question: may this packet pass?
public struct PacketQuestion: Sendable {
    public var family: IPFamily
    public var from: AddressWords
    public var to: AddressWords
    public var ipProtocol: IPProtocol
    /// Destination port; ICMP: type × 256 + code.
    public var port: Port
    public var fromPort: Port
    public var flags: TCPFlags
    public var vlan: VLANID
    /// Where it comes in; nil: try both.
    public var side: Side?

    public init(
        family: IPFamily, from: AddressWords, to: AddressWords, ipProtocol: IPProtocol, port: Port,
        fromPort: Port = Port(rawValue: 49152), flags: TCPFlags = .syn, vlan: VLANID = .untagged, side: Side? = nil
    ) {
        self.family = family
        self.from = from
        self.to = to
        self.ipProtocol = ipProtocol
        self.port = port
        self.fromPort = fromPort
        self.flags = flags
        self.vlan = vlan
        self.side = side
    }

    /// As the parser would give them.
    public var headers: FrameHeaders {
        var headers = FrameHeaders()
        headers.form = family == .ipv4 ? .ipv4 : .ipv6
        headers.etherType = family == .ipv4 ? .ipv4 : .ipv6
        headers.source = from
        headers.destination = to
        headers.ipProtocol = ipProtocol
        headers.vlan = vlan
        let isICMP = ipProtocol == .icmp || ipProtocol == .icmpv6
        headers.destinationPort = ipProtocol.hasPorts || isICMP ? port : Port(rawValue: 0)
        headers.sourcePort = ipProtocol.hasPorts ? fromPort : Port(rawValue: 0)
        if isICMP {
            headers.setICMPDirection()
            // As the parser: an error is judged by the packet it carries, and here is none.
            if headers.isICMPError { headers.cause = .icmpHeader }
            if headers.isNeighbourDiscovery { headers.form = .neighbour }
        }
        if ipProtocol == .tcp {
            headers.tcpFlags = flags
            if !flags.isPossible { headers.cause = .tcpFlags }
        }
        return headers
    }
}

/// The answer.
public struct Explanation: Sendable {
    public var verdict: Verdict
    /// The rule that let it pass.
    public var rule: PolicyDocument.Rule?
    /// Else the rule that comes nearest, and what keeps it from matching.
    public var nearest: PolicyDocument.Rule?
    public var obstacles: [String]
}

extension PolicyDocument {
    public func explain(_ question: PacketQuestion, now: Int64) throws(TableError) -> Explanation {
        let compiled = compiled(now: now, mode: .enforce)
        let table = try CompiledTable.build(compiled.source)
        let memory = JudgeMemory()
        let headers = question.headers
        var verdict = table.judge(headers, from: question.side ?? .inside, memory)
        if question.side == nil, !verdict.isAllowed {
            let other = table.judge(headers, from: .outside, memory)
            if other.isAllowed { verdict = other }
        }
        if verdict.isAllowed, verdict.rule == Verdict.noRule {
            return Explanation(verdict: verdict, obstacles: [])
        }
        if verdict.isAllowed {
            let name = compiled.ruleNames[Int(verdict.rule)]
            return Explanation(verdict: verdict, rule: rules.first { $0.id == name }, nearest: nil, obstacles: [])
        }
        // A broken frame is denied whatever the rules say.
        guard headers.cause == .none else { return Explanation(verdict: verdict, obstacles: []) }
        var best: (rule: Rule, obstacles: [String], weight: Int)?
        for rule in rules {
            for isReply in [false, true] {
                let (obstacles, weight) = rule.obstacles(question, isReply: isReply, now: now)
                if weight < best?.weight ?? .max { best = (rule, obstacles, weight) }
            }
        }
        return Explanation(verdict: verdict, nearest: best?.rule, obstacles: best?.obstacles ?? [])
    }
}

extension PolicyDocument.Rule {
    /// What keeps the rule from matching. The weight says how far away it is: devices count most.
    fileprivate func obstacles(
        _ question: PacketQuestion, isReply: Bool, now: Int64
    ) -> (texts: [String], weight: Int) {
        let headers = question.headers
        let client = isReply ? question.to : question.from
        let server = isReply ? question.from : question.to
        let port = isReply ? headers.sourcePort : headers.destinationPort
        func contains(_ prefixes: [AddressPrefix], _ address: AddressWords) -> Bool {
            prefixes.contains { $0.family == question.family && $0.contains(address) }
        }
        var texts: [String] = []
        var weight = isReply ? 1 : 0
        if !contains(clients, client) {
            texts.append("the client \(client.written(question.family)) is not in from = \(Self.list(from))")
            weight += 40
        }
        if !contains(servers, server) {
            texts.append("the server \(server.written(question.family)) is not in to = \(Self.list(to))")
            weight += 40
        }
        if !services.contains(where: { $0.applies(to: question.family) && $0.contains(headers.ipProtocol, port) }) {
            let asked = ServiceRange(headers.ipProtocol, port, port).written
            let known = services.filter { $0.applies(to: question.family) }.map(\.written)
            texts.append("\(asked) is not in service = \(Self.list(service)) (\(known.joined(separator: ", ")))")
            weight += services.contains { $0.ipProtocol == headers.ipProtocol } ? 20 : 30
        }
        if isReply, headers.ipProtocol == .tcp, question.flags.opensConnection {
            texts.append("the server may answer, but not open a connection (SYN without ACK)")
            weight += 5
        }
        if headers.marks.contains(isReply ? .neverReverse : .neverForward) {
            texts.append(isReply ? "a server answers requests, it does not make them" : "a client makes requests, it does not answer them")
            weight += 5
        }
        if !vlans.isEmpty, !vlans.contains(question.vlan) {
            let asked = question.vlan == .untagged ? "untagged" : "VLAN \(question.vlan.rawValue)"
            texts.append("it holds for vlan = \(vlans.map { String($0.rawValue) }.joined(separator: ", ")) only, and the frame is \(asked)")
            weight += 5
        }
        if let side, let came = question.side, (came == side) == isReply {
            texts.append("its client must be \(side)")
            weight += 5
        }
        if isExpired(at: now) {
            texts.append("it has expired")
            weight += 3
        }
        return (texts, weight)
    }

    private static func list(_ names: [String]) -> String {
        names.count == 1 ? "\"\(names[0])\"" : "[\(names.map { "\"\($0)\"" }.joined(separator: ", "))]"
    }
}
