import Allowlist
import Foundation
import Frames
import Testing
import TestSupport

@testable import Policy

private let now: Int64 = 1_764_000_000  // November 2025

private func read(_ text: String) throws -> PolicyDocument {
    let reading = PolicyReader.read([UInt8](("version = 1\n" + text).utf8), now: now)
    return try #require(reading.document, "\(reading.errors.map { $0.rendered(file: "p") })\n\(text)")
}

private func diff(_ a: String, _ b: String) throws -> PolicyDiff { PolicyDiff(try read(a), try read(b), now: now) }

private func rule(_ id: String, _ from: String, _ to: String, _ service: String, _ more: String = "") -> String {
    "[[allow]]\nid = \"\(id)\"\nfrom = \(from)\nto = \(to)\nservice = \(service)\n\(more)\n"
}

/// "from → to services" of every row.
private func texts(_ rows: PolicyDiff.Rows) -> [String] {
    rows.rows.map { row in
        func cell(_ named: NamedAddresses) -> String {
            named.names.joined(separator: " ") + (named.except.isEmpty ? "" : " except " + named.except.joined(separator: " "))
        }
        var text = "\(row.rule): \(cell(row.from)) → \(cell(row.to)) \(row.services.joined(separator: " "))"
        if let vlans = row.vlans { text += " vlan \(vlans)" }
        if let side = row.side { text += " \(side)" }
        if row.isOneFamilyOfTwo { text += " \(row.family == .ipv4 ? "IPv4" : "IPv6")" }
        return text
    }
}

private func texts(_ changes: [PolicyDiff.Change]) -> [String] {
    changes.map { change in
        "\(change.kind.rawValue) \(change.subject): \(change.before) → \(change.after)"
            + (change.rules.isEmpty ? "" : " (\(change.rules.map { $0.a == $0.b ? $0.a : "\($0.a)/\($0.b)" }.joined(separator: " ")))")
    }
}

// MARK: - Against the rules' own definition

/// Small random policies in a small space, so that everything overlaps.
private struct Maker {
    var random: SplitMix

    static let definitions = """
        [devices.mes]
        addresses = ["10.0.0.1", "fd00::1"]
        [devices.tool]
        addresses = ["10.0.0.2"]
        [devices.two]
        addresses = ["10.0.0.8", "10.0.0.9"]
        [groups]
        bay = ["tool", "two", "10.0.0.16/29", "fd00::8/125"]
        all = ["bay", "mes"]

        """

    mutating func pick<T>(_ values: [T]) -> T { values.randomElement(using: &random)! }

    mutating func endpoint() -> String {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: pick(["any", "0.0.0.0/0", "::/0", "255.255.255.255", "0.0.0.0", "ffff::/16"])
        case 1, 2: pick(["mes", "tool", "two", "bay", "all"])
        case 3, 4: "10.0.0.\(Int.random(in: 0..<32, using: &random))"
        case 5: "fd00::\(String(Int.random(in: 0..<16, using: &random), radix: 16))"
        case 6: pick(["fd00::/124", "fd00::8/126", "fd00::/126", "fd00::/64"])
        default: pick(["10.0.0.0/27", "10.0.0.0/28", "10.0.0.8/29", "10.0.0.16/30", "10.0.0.0/31", "10.0.0.0/8"])
        }
    }

    mutating func service() -> String {
        switch Int.random(in: 0..<8, using: &random) {
        case 0: return pick(["icmp/echo", "icmp/any", "icmp/8", "icmpv6/128", "icmp/5", "icmp/3"])
        case 1: return pick(["gre/any", "tcp/any", "udp/any", "tcp/1-65535", "sctp/7"])
        default:
            let low = Int.random(in: 1...12, using: &random)
            let high = Bool.random(using: &random) ? low : Int.random(in: low...14, using: &random)
            return "\(pick(["tcp", "tcp", "udp"]))/\(low)" + (high == low ? "" : "-\(high)")
        }
    }

    mutating func list(_ make: (inout Maker) -> String) -> String {
        "[" + (0..<Int.random(in: 1...3, using: &random)).map { _ in "\"\(make(&self))\"" }.joined(separator: ", ") + "]"
    }

    mutating func rules(_ count: Int) -> [String] {
        (0..<count).map { index in
            var more = ""
            if Int.random(in: 0..<4, using: &random) == 0 { more += "vlan = \(pick(["[1]", "[2, 3]", "[1, 2, 3]", "[4094]"]))\n" }
            if Int.random(in: 0..<4, using: &random) == 0 { more += "side = \"\(pick(["inside", "outside"]))\"\n" }
            if Int.random(in: 0..<12, using: &random) == 0 { more += "expires = 2020-01-01T00:00:00Z\n" }
            return rule("r\(index)", list { $0.endpoint() }, list { $0.endpoint() }, list { $0.service() }, more)
        }
    }

    /// B is A with rules dropped, changed, added, and in another order; or has nothing to do with A.
    mutating func pair(many: Bool) -> (String, String) {
        let a = rules(many ? 120 : Int.random(in: 0...6, using: &random))
        var b = a.filter { _ in Int.random(in: 0..<(many ? 12 : 3), using: &random) > 0 }
        b += rules(Int.random(in: 0...3, using: &random))
        b.shuffle(using: &random)
        // Ids need not tell anything.
        b = b.enumerated().map { $1.replacing(/id = "r\d+"/, with: "id = \"s\($0)\"") }
        return (Self.definitions + a.joined(), Self.definitions + b.joined())
    }
}

private struct Packet {
    var headers: FrameHeaders
    var side: Side
    var lane: Lane
    var point: [UInt128]

    init(_ family: IPFamily, _ from: AddressWords, _ to: AddressWords, _ ipProtocol: IPProtocol, _ port: UInt16, _ vlan: UInt16, _ side: Side) {
        headers =
            PacketQuestion(
                family: family, from: from, to: to, ipProtocol: ipProtocol, port: Port(rawValue: port), vlan: VLANID(rawValue: vlan)
            ).headers
        self.side = side
        lane = Lane(family: family, ipProtocol: ipProtocol)
        let known = ipProtocol.hasPorts || ipProtocol == .icmp || ipProtocol == .icmpv6
        point = [from.number, to.number, known ? UInt128(port) : 0, UInt128(vlan), side == .inside ? 0 : 1]
    }

    /// Whether these rules let the packet open a conversation.
    func opens(_ rules: [AllowRule]) -> Bool {
        guard headers.cause == .none, headers.form != .neighbour else { return false }
        return rules.contains { $0.matches(headers, isReply: false, from: side) }
    }

    func isIn(_ region: Region) -> Bool { (0..<Region.axes).allSatisfy { region[$0].contains(point[$0]) } }
}

private struct Prober {
    var random: SplitMix
    /// Where something begins or ends.
    var edges: [IPFamily: [AddressWords]] = [:]
    var ports: [UInt16] = [0, 1, 65535, 0x0800, 0x0801, 0x08FF, 0x8000, 0x8001, 0x0500, 0x0D00, 0x0000, 0x0300, 0x8100, 0x8700, 0x8900]

    let rules: [AllowRule]

    init(_ random: SplitMix, _ rules: [AllowRule]) {
        self.random = random
        self.rules = rules
        for family in IPFamily.allCases {
            var numbers: Set<UInt128> = [0, Spans.ones(family.bits)]
            for prefix in rules.flatMap({ $0.clients + $0.servers }) where prefix.family == family {
                let span = prefix.span
                for number in [span.low, span.high, span.low &- 1, span.high &+ 1] { numbers.insert(number & Spans.ones(family.bits)) }
            }
            edges[family] = numbers.map { AddressWords(high: UInt64(truncatingIfNeeded: $0 >> 64), low: UInt64(truncatingIfNeeded: $0)) }
        }
        for service in rules.flatMap(\.services) {
            ports += [service.low.rawValue, service.high.rawValue, service.low.rawValue &- 1, service.high.rawValue &+ 1]
        }
    }

    mutating func packet() -> Packet {
        if let rule = rules.randomElement(using: &random), Int.random(in: 0..<4, using: &random) > 0, let packet = packet(around: rule) { return packet }
        let family: IPFamily = Int.random(in: 0..<3, using: &random) == 0 ? .ipv6 : .ipv4
        func address(_ random: inout SplitMix) -> AddressWords {
            if Bool.random(using: &random) { return edges[family]!.randomElement(using: &random)! }
            return family == .ipv4
                ? AddressWords(high: 0, low: 0x0A00_0000 | UInt64.random(in: 0..<40, using: &random))
                : AddressWords(high: 0xFD00_0000_0000_0000, low: UInt64.random(in: 0..<20, using: &random))
        }
        let from = address(&random), to = address(&random)
        let ipProtocol = IPProtocol(rawValue: [6, 6, 6, 17, 17, family == .ipv4 ? 1 : 58, 47, 132].randomElement(using: &random)!)
        let port = Bool.random(using: &random) ? ports.randomElement(using: &random)! : UInt16.random(in: 0...15, using: &random)
        let vlan = [0, 0, 1, 2, 3, 4, 4093, 4094].randomElement(using: &random)!
        return Packet(family, from, to, ipProtocol, port, UInt16(vlan), Bool.random(using: &random) ? .inside : .outside)
    }
}

extension Prober {
    /// In a rule, or just beside it.
    private mutating func packet(around rule: AllowRule) -> Packet? {
        let family: IPFamily = Bool.random(using: &random) ? .ipv6 : .ipv4
        func address(_ prefixes: [AddressPrefix], _ random: inout SplitMix) -> AddressWords? {
            guard let span = prefixes.filter({ $0.family == family }).randomElement(using: &random)?.span else { return nil }
            let number = [span.low, span.low, span.high, span.high, span.low &- 1, span.high &+ 1, span.low + (span.high - span.low) / 2]
                .randomElement(using: &random)! & Spans.ones(family.bits)
            return AddressWords(high: UInt64(truncatingIfNeeded: number >> 64), low: UInt64(truncatingIfNeeded: number))
        }
        guard let from = address(rule.clients, &random), let to = address(rule.servers, &random),
            let service = rule.services.filter({ $0.applies(to: family) }).randomElement(using: &random)
        else { return nil }
        let (low, high) = (service.low.rawValue, service.high.rawValue)
        let port = [low, low, high, high, low &- 1, high &+ 1, low + (high - low) / 2].randomElement(using: &random)!
        let vlan = Bool.random(using: &random) ? rule.vlans.randomElement(using: &random)?.rawValue ?? 0 : [0, 1, 2, 3, 4094].randomElement(using: &random)!
        return Packet(family, from, to, service.ipProtocol, port, vlan, Bool.random(using: &random) ? .inside : .outside)
    }
}

@Suite struct PolicyDiffTests {
    /// Why: an approval rests on it. Every packet is in exactly one piece if B lets it open a conversation and A does not, else in none.
    @Test(arguments: 0..<20)
    func piecesAreWhatTheRulesSay(seed: Int) throws {
        var different = 0
        for round in 0..<12 {
            var maker = Maker(random: SplitMix(UInt64(seed * 100 + round)))
            // Many rules that meet one are first told apart by address.
            let isLarge = round == 0
            let (a, b) = maker.pair(many: isLarge)
            let documents = (a: try read(a), b: try read(b))
            let rules = (a: documents.a.compiled(now: now).source.rules, b: documents.b.compiled(now: now).source.rules)
            let spaces = (a: PolicySpace(documents.a, now: now), b: PolicySpace(documents.b, now: now))
            var budget = WorkBudget(.max)
            let gained = SpaceDifference(of: spaces.b, without: spaces.a, most: .max, &budget)
            let lost = SpaceDifference(of: spaces.a, without: spaces.b, most: .max, &budget)
            let whole = PolicyDiff(documents.a, documents.b, now: now, most: .max)
            #expect(whole.isComplete && gained.more == 0 && lost.more == 0)
            #expect(whole.gained.rows.isEmpty == gained.pieces.isEmpty && whole.lost.rows.isEmpty == lost.pieces.isEmpty)
            let again = try expressed(whole.gained)
            var prober = Prober(maker.random, rules.a + rules.b)
            for _ in 0..<(isLarge ? 200 : 500) {
                let packet = prober.packet()
                let (inA, inB) = (packet.opens(rules.a), packet.opens(rules.b))
                different += inA == inB ? 0 : 1
                let text = "\(packet)\nA:\n\(a)\nB:\n\(b)"
                #expect(gained.pieces.count { $0.lane == packet.lane && packet.isIn($0.region) } == (inB && !inA ? 1 : 0), "gained: \(text)")
                #expect(lost.pieces.count { $0.lane == packet.lane && packet.isIn($0.region) } == (inA && !inB ? 1 : 0), "lost: \(text)")
                if let again { #expect(packet.opens(again) == (inB && !inA), "rows \(texts(whole.gained)): \(text)") }
            }
            // Every piece's own corners.
            for (pieces, yes, no) in [(gained.pieces, rules.b, rules.a), (lost.pieces, rules.a, rules.b)] {
                for piece in pieces.prefix(40) {
                    let region = piece.region
                    for low in [true, false] {
                        func end(_ spans: Spans) -> UInt128 { low ? spans.spans.first!.low : spans.spans.last!.high }
                        func words(_ spans: Spans) -> AddressWords {
                            AddressWords(high: UInt64(truncatingIfNeeded: end(spans) >> 64), low: UInt64(truncatingIfNeeded: end(spans)))
                        }
                        let packet = Packet(
                            piece.lane.family, words(region.clients), words(region.servers), piece.lane.ipProtocol, UInt16(end(region.ports)),
                            UInt16(end(region.vlans)), end(region.sides) == 0 ? .inside : .outside)
                        #expect(packet.opens(yes) && !packet.opens(no), "\(piece)\nA:\n\(a)\nB:\n\(b)")
                    }
                }
            }
        }
        #expect(different > 100, "the test must test something")
    }

    /// The rows as rules again: what is read is what was meant. nil if a row says what a rule cannot ("all but").
    private func expressed(_ rows: PolicyDiff.Rows) throws -> [AllowRule]? {
        var text = Maker.definitions
        for (index, row) in rows.rows.enumerated() {
            guard row.from.except.isEmpty, row.to.except.isEmpty, !row.isOneFamilyOfTwo, row.vlans?.contains(/[a-z]/) != true,
                row.services.allSatisfy({ !$0.contains("code") && !$0.hasSuffix("/0") && !$0.contains("/0-") })
            else { return nil }
            func list(_ names: [String]) -> String {
                "[" + names.map { "\"\($0.split(separator: " ")[0])\"" }.joined(separator: ", ") + "]"
            }
            var more = ""
            if let vlans = row.vlans {
                let numbers = vlans.split(separator: ", ").flatMap { part -> [Int] in
                    let ends = part.split(separator: "-").map { Int($0)! }
                    return Array(ends[0]...ends[ends.count - 1])
                }
                guard numbers.allSatisfy({ $0 < 4095 }) else { return nil }
                more += "vlan = [\(numbers.map(String.init).joined(separator: ", "))]\n"
            }
            if let side = row.side { more += "side = \"\(side)\"\n" }
            text += rule("r\(index)", list(row.from.names), list(row.to.names), list(row.services), more)
        }
        return try read(text).compiled(now: now).source.rules
    }

    // MARK: - The same in other words

    private static let policy = """
        [devices.mes]
        addresses = ["10.3.0.10"]
        mac = ["02:00:00:00:03:0a", "02:00:00:00:03:0b"]
        [devices.scanner-1]
        addresses = ["10.3.1.21", "fd00:3::21"]
        [groups]
        scanners = ["scanner-1", "10.3.1.64/27"]

        """

    private static let sameMeaning: [(String, String)] = [
        // Another name for the group, the devices, the rule; another order of names.
        (
            policy + rule("a", "\"mes\"", "[\"scanners\", \"10.3.2.7\"]", "\"hsms\""),
            """
            [devices.host]
            addresses = ["10.3.0.10"]
            mac = ["02:00:00:00:03:0b", "02-00-00-00-03-0A"]
            [groups]
            tools = ["10.3.1.64/27", "fd00:3::21", "10.3.1.21"]

            """ + rule("b", "\"10.3.0.10\"", "[\"10.3.2.7\", \"tools\"]", "[\"tcp/5001\", \"tcp/5000\"]")
        ),
        // One rule in two, by clients; two by services; in another order.
        (
            rule("a", "[\"10.0.0.1\", \"10.0.0.2\"]", "\"10.0.0.3\"", "[\"tcp/1\", \"udp/2\"]"),
            rule("2u", "\"10.0.0.2\"", "\"10.0.0.3\"", "\"udp/2\"") + rule("12", "[\"10.0.0.1\", \"10.0.0.2\"]", "\"10.0.0.3\"", "\"tcp/1\"")
                + rule("1u", "\"10.0.0.1\"", "\"10.0.0.3\"", "\"udp/2\"")
        ),
        // A network in its halves, a range of ports in three that overlap, VLANs and sides apart.
        (
            rule("a", "\"10.0.0.0/24\"", "\"10.1.0.1\"", "\"tcp/10-30\"", "vlan = [3, 4]"),
            rule("b", "[\"10.0.0.0/25\", \"10.0.0.128/25\"]", "\"10.1.0.1\"", "[\"tcp/10-20\", \"tcp/21-30\", \"tcp/15-25\"]", "vlan = [4]\nside = \"inside\"")
                + rule("c", "\"10.0.0.0/24\"", "\"10.1.0.1\"", "\"tcp/10-30\"", "vlan = [4]\nside = \"outside\"")
                + rule("d", "\"10.0.0.0/24\"", "\"10.1.0.1\"", "\"tcp/10-30\"", "vlan = [3]")
        ),
        // What another rule covers, what can never match, and what has expired.
        (
            rule("a", "\"any\"", "\"10.1.0.1\"", "[\"tcp/any\", \"icmp/echo\"]"),
            rule("a", "\"any\"", "\"10.1.0.1\"", "[\"tcp/any\", \"icmp/echo\", \"icmp/0\", \"icmp/3\"]")
                + rule("b", "\"10.0.0.0/8\"", "\"10.1.0.1\"", "\"tcp/5\"") + rule("c", "\"10.0.0.1\"", "\"fd00::1\"", "\"tcp/5\"")
                + rule("d", "\"10.0.0.1\"", "\"10.0.0.2\"", "\"tcp/5\"", "expires = 2020-01-01T00:00:00Z")
        ),
        // Options of rules that nobody reaches, or that the protocol does not know.
        (
            rule("a", "\"10.0.0.1\"", "\"10.0.0.2\"", "\"tcp/5\""),
            rule("a", "\"10.0.0.1\"", "\"10.0.0.2\"", "\"tcp/5\"", "reply_s = 99")
                + rule("b", "\"10.0.0.1\"", "\"10.0.0.2\"", "\"tcp/5\"", "tcp = \"strict\"\nexpires = 2099-01-01T00:00:00Z")
        ),
        // All of IPv4 in two halves.
        (
            rule("a", "\"0.0.0.0/0\"", "\"0.0.0.0/0\"", "\"udp/any\""),
            rule("a", "[\"0.0.0.0/1\", \"128.0.0.0/1\"]", "\"0.0.0.0/0\"", "\"udp/any\"")
        ),
    ]

    @Test(arguments: sameMeaning)
    func otherWordsAreNoDifference(a: String, b: String) throws {
        for (one, other) in [(a, b), (b, a), (a, a)] {
            let found = try diff(one, other)
            #expect(found.isSame, "\(texts(found.gained)) \(texts(found.lost)) \(texts(found.changes))")
            #expect(found.summary == "A and B mean the same")
        }
    }

    // MARK: - What is said

    @Test func rowsHaveTheNamesOfThePolicy() throws {
        let a = Self.policy + rule("mes-scanner", "\"mes\"", "\"scanners\"", "\"hsms\"")
        let b = Self.policy + rule("mes-scanner", "\"mes\"", "[\"scanners\", \"10.3.2.7\"]", "[\"hsms\", \"icmp/echo\"]")
        let found = try diff(a, b)
        #expect(texts(found.gained) == [
            "mes-scanner: mes → scanners 10.3.2.7 icmp/echo", "mes-scanner: mes → 10.3.2.7 tcp/5000-5001",
        ])
        #expect(found.lost.count == 0 && found.changes.isEmpty)
        #expect(found.summary == "B lets 2 kinds of conversation more pass")
        #expect(try diff(b, a).summary == "B lets 2 kinds of conversation fewer pass")
    }

    @Test func whatIsLeftOutIsNamed() throws {
        let a = Self.policy + rule("r", "\"scanner-1\"", "\"any\"", "\"tcp/7\"")
        let b = Self.policy + rule("all", "\"any\"", "\"any\"", "\"tcp/7\"")
        let gained = texts(try diff(a, b).gained)
        #expect(gained == ["all: any except scanner-1 → any tcp/7"])
        let four = Self.policy + rule("all", "\"0.0.0.0/0\"", "\"any\"", "\"tcp/7\"")
        #expect(texts(try diff(four, b).gained) == ["all: any → any tcp/7 IPv6"])
    }

    @Test func vlansSidesAndPorts() throws {
        func policy(_ more: String, _ service: String = "\"tcp/10-20\"") -> String { rule("r", "\"10.0.0.1\"", "\"10.0.0.2\"", service, more) }
        #expect(texts(try diff(policy("vlan = [5]"), policy("")).gained) == ["r: 10.0.0.1 → 10.0.0.2 tcp/10-20 vlan all but 5"])
        #expect(texts(try diff(policy("vlan = [5]"), policy("vlan = [5, 6, 7]")).gained) == ["r: 10.0.0.1 → 10.0.0.2 tcp/10-20 vlan 6-7"])
        #expect(texts(try diff(policy("side = \"inside\""), policy("")).gained) == ["r: 10.0.0.1 → 10.0.0.2 tcp/10-20 outside"])
        #expect(texts(try diff(policy("", "\"tcp/12\""), policy("")).gained) == ["r: 10.0.0.1 → 10.0.0.2 tcp/10-11 tcp/13-20"])
        #expect(texts(try diff(policy("", "\"icmp/echo\""), policy("", "\"icmp/8\"")).gained) == ["r: 10.0.0.1 → 10.0.0.2 icmp/8 code 1-255"])
    }

    @Test func everythingElse() throws {
        let a = """
            mode = "monitor"
            ethertypes = ["arp", "lldp"]
            [devices.tool]
            addresses = ["10.0.0.1"]
            mac = ["02:00:00:00:00:01"]
            [devices.other]
            addresses = ["10.0.0.3"]
            side = "inside"

            """ + rule("r", "\"tool\"", "\"10.0.0.2\"", "[\"tcp/5\", \"udp/5\"]", "expires = 2098-01-01T00:00:00Z")
        let b = """
            mode = "enforce"
            ethertypes = ["arp", "ptp"]
            on_failure = "kernel"
            [state]
            flows = 1000
            reply_s = 60
            [devices.tool]
            addresses = ["10.0.0.1"]
            side = "outside"
            [devices.renamed]
            addresses = ["10.0.0.3"]
            side = "inside"

            """
            + rule("r", "\"tool\"", "\"10.0.0.2\"", "[\"tcp/5\", \"udp/5\"]", "tcp = \"strict\"\nmode = \"monitor\"\nexpires = 2099-01-01T00:00:00Z")
        let found = try diff(a, b)
        #expect(found.gained.count == 0 && found.lost.count == 0)
        #expect(texts(found.changes) == [
            "mode mode: monitor → enforce", "ethertype lldp (0x88cc): passes → denied", "ethertype ptp (0x88f7): denied → passes",
            "on_failure starting: closed → kernel", "on_failure worker_dead: closed → kernel", "on_failure stopping: closed → kernel",
            "on_failure flow_table_full: closed → the rules alone judge", "state flows: 65536 → 1000", "state reply_s: 30 → 60",
            "binding tool (10.0.0.1): 02:00:00:00:00:01 → outside", "flows tcp: loose → strict (r)",
            "trial mode of a rule: enforce → monitor (r)", "flows reply_s: 30 → 60 (r)",
            "expiry expires: 2098-01-01T00:00:00Z → 2099-01-01T00:00:00Z (r)",
        ])
        #expect(found.summary == "B lets the same conversations pass; mode changes from monitor to enforce; 13 other changes")
    }

    /// Why: the first rule's options hold, and the rule that lasts longest says until when.
    @Test func optionsAreThoseOfTheRuleThatCounts() throws {
        let network = rule("net", "\"10.0.0.0/24\"", "\"10.1.0.1\"", "\"tcp/5\"", "tcp = \"strict\"\nexpires = 2050-01-01T00:00:00Z")
        let host = rule("host", "\"10.0.0.7\"", "\"10.1.0.1\"", "\"tcp/5\"")
        #expect(texts(try diff(host + network, network + host).changes) == ["flows tcp: loose → strict (host/net)"])
        #expect(texts(try diff(host + network, network).changes) == [
            "flows tcp: loose → strict (host/net)", "expiry expires: never → 2050-01-01T00:00:00Z (host/net)",
        ])
    }

    @Test func expiredRulesAreNamed() throws {
        let old = rule("old", "\"10.0.0.1\"", "\"10.0.0.2\"", "\"tcp/5\"", "expires = 2020-01-01T00:00:00Z")
        let found = try diff(old, old.replacing("2020", with: "2050"))
        #expect(found.expired.a == ["old"] && found.expired.b.isEmpty)
        #expect(texts(found.gained) == ["old: 10.0.0.1 → 10.0.0.2 tcp/5"])
    }

    // MARK: - Size

    private func large(_ count: Int, _ change: (Int) -> String? = { _ in nil }) -> String {
        var text = "[groups]\nhosts = [\(groups(64))]\n"
        for i in 0..<count {
            let client = "10.\(i / 250 % 40).\(i % 250).1"
            text += change(i) ?? rule("r\(i)", i % 10 == 0 ? "\"hosts\"" : "\"\(client)\"", "\"11.\(i / 250).\(i % 250).0/30\"", "\"tcp/\(1000 + i % 50)\"")
        }
        return text
    }

    private func groups(_ count: Int) -> String { (0..<count).map { "\"12.0.\($0).1\"" }.joined(separator: ", ") }

    @Test func tenThousandRulesTakeSeconds() throws {
        let a = try read(large(10_000))
        let b = try read(
            large(10_000) { i in
                switch i {
                case 4000: ""
                case 5001: rule("r5001", "\"10.20.1.1\"", "\"11.20.1.0/29\"", "\"tcp/1001\"")
                case 6000: rule("r6000", "[\"hosts\", \"9.9.9.9\"]", "\"11.24.0.0/30\"", "\"tcp/1000\"")
                case 7003: rule("r7003", "\"10.28.3.1\"", "\"11.28.3.0/30\"", "\"tcp/1003\"", "tcp = \"strict\"")
                default: nil
                }
            })
        let clock = ContinuousClock()
        var found: PolicyDiff?
        let time = clock.measure { found = PolicyDiff(a, b, now: now, work: 2_000_000) }
        #expect(texts(found!.gained) == ["r5001: 10.20.1.1 → 11.20.1.4/30 tcp/1001", "r6000: 9.9.9.9 → 11.24.0.0/30 tcp/1000"])
        #expect(texts(found!.lost) == ["r4000: hosts → 11.16.0.0/30 tcp/1000"])
        #expect(texts(found!.changes) == ["flows tcp: loose → strict (r7003)"])
        #expect(found!.isComplete)
        #expect(time < .seconds(20), "\(time)")
        print("10,000 rules: \(time)")
    }

    /// Why: a network in place of ten thousand rules is what somebody in a hurry writes.
    @Test func aNetworkInPlaceOfThousandsOfRules() throws {
        let rules = (0..<3_000).map { rule("r\($0)", "\"10.0.\($0 / 250).\($0 % 250)\"", "\"10.1.\($0 % 250).\($0 / 250)\"", "\"tcp/5\"") }.joined()
        let wide = rule("wide", "\"10.0.0.0/16\"", "\"10.1.0.0/16\"", "\"tcp/5\"")
        let found = PolicyDiff(try read(rules), try read(wide), now: now, most: 50)
        #expect(found.gained.rows.count <= 50 && found.gained.more > 100 && found.lost.count == 0 && found.isComplete)
        #expect(found.summary.hasPrefix("B lets \(found.gained.count) kinds"))
        let cut = PolicyDiff(try read(rules), try read(wide), now: now, work: 1_000)
        #expect(!cut.isComplete && cut.summary.hasSuffix("the rules were not compared to the end"))
    }
}
