import Allowlist
import Foundation
import Frames
import Testing
import TestSupport

@testable import Policy

private let start: Int64 = 1_764_000_000  // November 2025

private func read(_ text: String, overlaps: Bool = false) -> PolicyReading {
    PolicyReader.read([UInt8](text.utf8), now: start, findsOverlaps: overlaps)
}

private func messages(_ text: String, overlaps: Bool = false) -> [String] {
    read(text, overlaps: overlaps).diagnostics.map { $0.rendered(file: "p.toml") }
}

/// The policy of the README.
private let example = """
    version = 1
    name = "litho-bay-3"
    mode = "enforce"
    ethertypes = ["arp", "lldp", 0x8892]

    [devices.mes]
    addresses = ["10.3.0.10"]
    mac = ["02:00:00:00:03:0a"]
    [devices.scanner-1]
    addresses = ["10.3.1.21", "fd00:3::21"]

    [groups]
    scanners = ["scanner-1", "10.3.1.64/27"]

    [services]
    hsms   = ["tcp/5000", "tcp/5001"]
    recipe = ["tcp/21", "tcp/49152-49407"]

    [[allow]]
    id = "mes-scanner"
    from = "mes"
    to = ["scanners", "10.3.2.7"]
    service = ["hsms", "icmp/echo"]
    purpose = "SECS/GEM host link"
    owner = "litho"
    """

@Suite struct PolicyReaderTests {
    @Test func whatIsDoneByItselfIsSaid() throws {
        let text = "protected = [\"mes\", \"10.3.9.0/24\"]\n" + example.replacing("    ", with: "") + "\n[respond]\nscan = \"quarantine\"\nbeacon = \"notify\"\nquarantine_s = 60\n"
        let policy = try #require(read(text).document)
        #expect(policy.response == ResponsePlan(quarantines: ["scan"], seconds: 60))
        #expect(policy.protection(of: ["10.3.1.21", "10.3.0.10"]) == "mes" && policy.protection(of: ["10.3.9.7"]) == "10.3.9.0/24" && policy.protection(of: ["10.3.1.21"]) == nil)
        #expect(messages(text.replacing("scan =", with: "scam =")).contains { $0.contains("unknown key \"scam\"") })
        #expect(messages(text.replacing("\"notify\"", with: "\"isolate\"")).contains { $0.contains("unknown response \"isolate\"") })
        #expect(messages(text.replacing("= 60", with: "= 0")).contains { $0.contains("quarantine_s") })
        #expect(messages("protected = [\"nobody\"]\nversion = 1").contains { $0.contains("unknown name \"nobody\"") })
    }

    @Test func aDeviceMayLearnAlone() throws {
        let text = example.replacing("mac = [\"02:00:00:00:03:0a\"]", with: "mode = \"learn\"")
        let reading = read(text, overlaps: true)
        let policy = try #require(reading.document)
        #expect(reading.diagnostics.isEmpty)
        #expect(policy.rules.map(\.id) == ["mes-scanner", "learn:mes:client", "learn:mes:server"])
        #expect(policy.rules[1].clients.map(\.written) == ["10.3.0.10"] && policy.rules[2].servers.map(\.written) == ["10.3.0.10"])
        #expect(policy.rules[1].services.contains { $0.contains(.udp, Port(rawValue: 9)) } && policy.rules[1].isMonitored)
        #expect(messages(text.replacing("\"learn\"", with: "\"lern\"")).contains { $0.contains("a device has no mode") && $0.contains("learn") })
        #expect(messages(text.replacing("id = \"mes-scanner\"", with: "id = \"learn:mes:client\"")).contains { $0.contains("stands for a device that learns") })
    }

    @Test func theExampleIsReadWhole() throws {
        let reading = read(example)
        let policy = try #require(reading.document)
        #expect(reading.diagnostics.isEmpty)
        #expect(policy.name == "litho-bay-3")
        #expect(policy.mode == .enforce)
        #expect(policy.etherTypes.map(\.rawValue) == [0x0806, 0x88CC, 0x8892])
        let rule = try #require(policy.rules.first)
        #expect(rule.id == "mes-scanner")
        #expect(rule.clients.map(\.written) == ["10.3.0.10"])
        #expect(Set(rule.servers.map(\.written)) == ["10.3.1.21", "fd00:3::21", "10.3.1.64/27", "10.3.2.7"])
        #expect(rule.services.map(\.written) == ["tcp/5000", "tcp/5001", "icmp/echo", "icmpv6/echo"])
        #expect(rule.purpose == "SECS/GEM host link")
        #expect(policy.compiled(now: start).source.bindings.first?.macs.first?.written == "02:00:00:00:03:0a")
    }

    @Test func defaults() throws {
        let policy = try #require(read("version = 1").document)
        #expect(policy.mode == .enforce)
        #expect(policy.etherTypes == [.arp])
        #expect(policy.rules.isEmpty)
    }

    /// One line of policy, one finding: place, text and suggestion.
    @Test(arguments: [
        ("modee = \"enforce\"", "p.toml:2:1: error: unknown key \"modee\" in a policy; did you mean \"mode\"?"),
        ("mode = \"enforced\"", "p.toml:2:8: error: unknown mode \"enforced\"; did you mean \"enforce\"?"),
        ("mode = 3", "p.toml:2:8: error: mode must be a string, not an integer"),
        ("ethertypes = [\"lldpp\"]", "p.toml:2:15: error: unknown EtherType \"lldpp\"; did you mean \"lldp\"?"),
        ("ethertypes = [0x0800]", "p.toml:2:15: error: IPv4 cannot be listed here; IP is judged by the rules, a tagged frame by what is inside"),
        ("ethertypes = [1000]", "p.toml:2:15: error: 1000 is no EtherType; EtherTypes are 0x600 to 0xffff, LLC addresses 0 to 0xff"),
        ("devices.a.addresses = [\"10.0.0.256\"]", "p.toml:2:24: error: \"10.0.0.256\" is no IP address or network; e.g. \"10.3.1.21\" or \"10.3.1.64/27\""),
        ("devices.a.addresses = [\"10.0.0.0/24\"]", "p.toml:2:24: error: a device has addresses, not networks; put 10.0.0.0/24 into a group"),
        ("groups.g = []", "p.toml:2:12: error: group \"g\" is empty"),
        ("groups.g = [\"10.3.1.65/27\"]", "p.toml:2:13: error: \"10.3.1.65/27\" has host bits set; the network is \"10.3.1.64/27\""),
        ("groups.g = [\"fd00::/129\"]", "p.toml:2:13: error: the prefix length of \"fd00::/129\" is too long; the most is /128"),
        ("groups.g = [\"nobody\"]", "p.toml:2:13: error: unknown name \"nobody\"; define it under [devices.nobody] or [groups]"),
        ("groups.any = [\"10.0.0.1\"]", "p.toml:2:8: error: \"any\" cannot be a name: it means something already"),
        ("services.s = [\"tcp/0\"]", "p.toml:2:15: error: port out of range in \"tcp/0\"; ports are 1 to 65535"),
        ("services.s = [\"gre/5\"]", "p.toml:2:15: error: gre has no ports; write \"gre/any\""),
        ("services.s = \"tcp/9-5\"", "p.toml:2:14: error: the range in \"tcp/9-5\" runs backwards; write \"5-9\""),
        ("state = 3", "p.toml:2:9: error: state must be a table, not an integer; write [state]"),
        ("state.flows = -1", "p.toml:2:15: error: state.flows must be a number from 0 to 16777216, not an integer"),
        ("state.tcp = \"strikt\"", "p.toml:2:13: error: unknown tcp \"strikt\"; did you mean \"strict\"?"),
        ("state.reply_s = 0", "p.toml:2:17: error: reply_s must be a number from 1 to 86400, not an integer"),
        ("on_failure.flow_table_full = \"opn\"", "p.toml:2:30: error: unknown on_failure.flow_table_full \"opn\"; did you mean \"open\"?"),
        ("devices.a = { addresses = [\"10.0.0.1\"], side = \"up\" }", "p.toml:2:48: error: unknown side \"up\"; use \"inside\" or \"outside\": where the device is"),
        ("allow = 3", "p.toml:2:9: error: allow must be a list of tables, not an integer; write [[allow]]"),
    ])
    func oneMistakeOneFinding(line: String, finding: String) {
        #expect(messages("version = 1\n" + line) == [finding])
    }

    /// One field of a rule changed.
    @Test(arguments: [
        ("service = \"hsmss\"", "unknown service \"hsmss\"; did you mean \"hsms\"?"),
        ("service = []", "\"service\" of rule \"r\" is empty: it would match nothing"),
        ("service = \"tcp/5000\"\nvlan = 4095", "a VLAN id is a number from 1 to 4094"),
        ("service = \"tcp/5000\"\nside = \"out\"", "unknown side \"out\"; use \"inside\" or \"outside\": where the client is"),
        ("service = \"tcp/5000\"\nmode = \"learn\"", "a rule's mode is \"monitor\" (it passes and is counted apart) or \"enforce\""),
        ("service = \"tcp/5000\"\nexpires = 2027-01-01", "expires must name an instant, not a date without a time; e.g. 2027-01-01T00:00:00Z"),
        ("service = \"tcp/5000\"\nexpires = 2020-01-01T00:00:00Z", "rule \"r\" has expired: it can never match; remove it, or set a new date"),
        ("service = \"icmpv6/echo\"", "rule \"r\" can never match: its services are not of the addresses' IP family; write icmp/… for both families"),
        ("service = \"udp/53\"\nftp_data = true", "rule \"r\" has ftp_data, but no TCP service; add service = \"ftp\""),
        ("service = \"tcp/5000\"\nport = 3", "unknown key \"port\" in a rule; known keys: id, from, to, service, purpose, owner, vlan, side, mode, expires, tcp, midstream, reply_s, ftp_data, mirror"),
    ])
    func oneMistakeInARule(fields: String, message: String) {
        let found = read("version = 1\n[[allow]]\nid = \"r\"\nfrom = \"10.0.0.1\"\nto = \"10.0.0.2\"\n\(fields)").diagnostics
        #expect(found.map { $0.message + ($0.suggestion.map { "; \($0)" } ?? "") } == [message])
    }

    @Test func everyProblemIsReportedAtOnceInTheOrderOfTheFile() {
        let found = messages(
            """
            version = 2
            nam = "x"
            [[allow]]
            from = "nobody"
            to = "any"
            service = "tcp/99999"
            [[allow]]
            id = "b"
            """)
        #expect(found.count == 8)
        #expect(found.map { String($0.split(separator: ":")[1]) } == ["1", "2", "3", "4", "6", "7", "7", "7"])
    }

    @Test func syntaxErrorsHaveTheirPlace() {
        #expect(messages("version = 1\nname = \"x").first?.hasPrefix("p.toml:2:") == true)
        #expect(messages("version = 1\nversion = 1").count == 1)
    }

    @Test func bytesOfAnyKindAreAnErrorAndNothingWorse() {
        var random = SplitMix(3)
        for _ in 0..<300 {
            var text = [UInt8](example.utf8)
            for _ in 0..<Int.random(in: 1...10, using: &random) {
                text[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = PolicyReader.read(text, now: start, findsOverlaps: true)
        }
        let deep = "version = 1\na = " + String(repeating: "[", count: 100_000)
        #expect(read(deep).document == nil)
        // Dotted keys nest without brackets: toml++ does not bound them.
        #expect(messages("version = 1\n" + String(repeating: "a.", count: 50_000) + "b = 1").first?.contains("more than 100 parts") == true)
        let dots = String(repeating: "a.", count: 90) + "b"
        let nested = (0..<200).reduce("1") { inner, _ in "{\(dots) = \(inner)}" }
        #expect(messages("version = 1\nx = \(nested)").first?.contains("nested more than 32 deep") == true)
    }

    @Test func groupsMayContainGroupsButNotThemselves() {
        let nested = read("version = 1\n[groups]\na = [\"b\"]\nb = [\"10.0.0.1\", \"c\"]\nc = [\"10.1.0.0/16\"]\n[[allow]]\nid = \"x\"\nfrom = \"a\"\nto = \"10.9.9.9\"\nservice = \"ssh\"")
        #expect(nested.document?.rules.first?.clients.count == 2)
        #expect(messages("version = 1\n[groups]\na = [\"b\"]\nb = [\"a\"]").contains { $0.contains("contains itself (a → b → a)") })
    }

    @Test func duplicateAndOverlappingRulesAreReported() {
        func rule(_ id: String, _ to: String, _ service: String) -> String {
            "[[allow]]\nid = \"\(id)\"\nfrom = \"10.0.0.1\"\nto = \"\(to)\"\nservice = \"\(service)\"\n"
        }
        let found = messages(
            "version = 1\n" + rule("a", "10.0.1.0/24", "tcp/1-100") + rule("b", "10.0.1.0/24", "tcp/1-100")
                + rule("c", "10.0.1.7", "tcp/50") + rule("d", "10.0.1.0/25", "tcp/90-200") + rule("e", "10.0.2.1", "tcp/50"),
            overlaps: true)
        #expect(found.count == 3)
        #expect(found[0].contains("rule \"b\" is the same as rule \"a\" (line 2)"))
        #expect(found[1].contains("rule \"c\" is covered by rule \"a\""))
        #expect(found[2].contains("rule \"d\" overlaps with rule \"a\""))
    }

    @Test func aRuleEndsWhenItExpires() throws {
        let policy = try #require(
            read("version = 1\n[[allow]]\nid = \"r\"\nfrom = \"10.0.0.1\"\nto = \"10.0.0.2\"\nservice = \"ssh\"\nexpires = 2027-01-01T00:00:00+09:00").document)
        // Midnight in Tokyo is 15:00 UTC the day before.
        let end: Int64 = 1_798_729_200
        #expect(policy.rules[0].expires == end)
        #expect(policy.compiled(now: end - 1).source.rules.count == 1)
        #expect(policy.compiled(now: end).source.rules.isEmpty)
        #expect(policy.nextExpiry(after: start) == end)
    }

    @Test func theCatalogueIsValidAndCanBeOverridden() {
        for (name, ports) in ServiceCatalogue.entries {
            for port in ports { #expect((try? WrittenService(port)) != nil, "\(name): \(port)") }
        }
        let policy = read("version = 1\n[services]\nssh = \"tcp/2222\"\n[[allow]]\nid = \"r\"\nfrom = \"10.0.0.1\"\nto = \"10.0.0.2\"\nservice = [\"ssh\", \"modbus\"]").document
        #expect(policy?.rules.first?.services.map(\.written) == ["tcp/2222", "tcp/502"])
    }
}

@Suite struct ExplanationTests {
    private func explain(_ from: String, _ to: String, _ port: UInt16, fromPort: UInt16 = 40000, flags: TCPFlags = .syn) throws -> Explanation {
        let policy = try #require(read(example).document)
        let source = try #require(WrittenAddress(from)), destination = try #require(WrittenAddress(to))
        return try policy.explain(
            PacketQuestion(
                family: source.family, from: source.words, to: destination.words, ipProtocol: .tcp, port: Port(rawValue: port),
                fromPort: Port(rawValue: fromPort), flags: flags), now: start)
    }

    @Test func theRuleThatAllowsIsNamed() throws {
        #expect(try explain("10.3.0.10", "10.3.1.70", 5001).rule?.id == "mes-scanner")
        let back = try explain("10.3.1.70", "10.3.0.10", 40000, fromPort: 5001, flags: .ack)
        #expect(back.rule?.id == "mes-scanner" && back.verdict.isReply)
    }

    @Test func theNearestRuleAndItsObstaclesAreNamed() throws {
        let port = try explain("10.3.0.10", "10.3.1.70", 5002)
        #expect(port.nearest?.id == "mes-scanner")
        #expect(port.obstacles == ["tcp/5002 is not in service = [\"hsms\", \"icmp/echo\"] (tcp/5000, tcp/5001, icmp/echo)"])
        #expect(try explain("10.3.0.66", "10.3.1.70", 5000).obstacles == ["the client 10.3.0.66 is not in from = \"mes\""])
        let syn = try explain("10.3.1.70", "10.3.0.10", 40000, fromPort: 5000)
        #expect(syn.verdict.cause == .synFromServer)
        #expect(syn.obstacles == ["the server may answer, but not open a connection (SYN without ACK)"])
        #expect(try explain("10.3.0.10", "10.3.1.70", 5000, flags: []).verdict.cause == .tcpFlags)
    }
}
