import Allowlist
import Testing

@testable import Policy

private let now: Int64 = 1_764_000_000  // November 2025

private func export(_ text: String) throws -> PolicyExport {
    PolicyExport(try #require(PolicyReader.read([UInt8](text.utf8), now: now).document), now: now)
}

/// Without the comments at the head.
private func body(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).drop { $0.hasPrefix("#") || $0.isEmpty }.joined(separator: "\n")
}

private let tiny = """
    version = 1
    name = "tiny"
    ethertypes = ["lldp"]
    [[allow]]
    id = "a"
    from = "10.0.0.1"
    to = ["10.0.0.2", "10.2.0.0/16"]
    service = "tcp/5000"
    """

/// Of a set, its elements; of several layers, each.
private func elements(_ text: String, _ set: String) -> [[String]] {
    text.components(after: "add element bridge sekisho ").filter { $0.hasPrefix(set + " {") || $0.hasPrefix(set + "_") }.map {
        $0.split(separator: "\n").dropFirst().prefix { $0 != "}" }.map { $0.hasSuffix(",") ? String($0.dropLast()) : String($0) }
    }
}

extension String {
    fileprivate func components(after mark: String) -> [String] {
        var parts: [String] = []
        for line in split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix(mark) {
                parts.append(line.dropFirst(mark.count) + "\n")
            } else if !parts.isEmpty {
                parts[parts.count - 1] += line + "\n"
            }
        }
        return parts
    }
}

@Suite struct ExportTests {
    @Test func aTinyPolicyAsNftables() throws {
        let text = try export(tiny).nftables()
        #expect(text.hasPrefix("# Sekisho policy \"tiny\" for nftables: 1 rule(s), mode enforce.\n# Without what Sekisho remembers of flows"))
        #expect(
            body(text).contains(
                """
                add table bridge sekisho
                delete table bridge sekisho
                table bridge sekisho {
                """))
        #expect(
            text.contains(
                """
                \tset exact4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; size 1; }
                \tset networks4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }
                """))
        #expect(
            text.contains(
                """
                \tchain opening4 {
                \t\tip saddr . ip daddr . meta l4proto . th dport @exact4 counter name allowed accept
                \t\tip saddr . ip daddr . meta l4proto . th dport @networks4 counter name allowed accept
                \t\tgoto servers_syn4
                \t}
                \tchain talk4 {
                \t\tip saddr . ip daddr . meta l4proto . th dport @exact4 counter name allowed accept
                \t\tip daddr . ip saddr . meta l4proto . th sport @exact4 counter name allowed accept
                \t\tip saddr . ip daddr . meta l4proto . th dport @networks4 counter name allowed accept
                \t\tip daddr . ip saddr . meta l4proto . th sport @networks4 counter name allowed accept
                \t}
                """))
        #expect(
            text.hasSuffix(
                """
                \tchain forward {
                \t\ttype filter hook forward priority filter; policy drop;
                \t\tmeta protocol vmap { ip : jump ipv4, ip6 : jump ipv6 }
                \t\tmeta protocol { 0x88cc } counter name allowed accept
                \t\tmeta protocol != { ip, ip6 } counter name denied_ethertype drop
                \t\tcounter name denied drop
                \t}
                }
                add element bridge sekisho exact4 {
                10.0.0.1 . 10.0.0.2 . 6 . 5000
                }
                add element bridge sekisho networks4 {
                10.0.0.1 . 10.2.0.0/16 . 6 . 5000
                }

                """))
    }

    @Test func aTinyPolicyAsOpenFlow() throws {
        let flows = body(try export(tiny).openFlow()).split(separator: "\n").map(String.init)
        #expect(
            flows.filter { $0.contains("priority=100,") } == [
                "table=0,priority=100,tcp,tp_dst=5000,nw_src=10.0.0.1,nw_dst=10.0.0.2 actions=output:1,output:2",
                "table=0,priority=100,tcp,tp_dst=5000,nw_src=10.0.0.1,nw_dst=10.2.0.0/16 actions=output:1,output:2",
                "table=0,priority=100,tcp,tp_src=5000,tcp_flags=+syn+ack,nw_src=10.0.0.2,nw_dst=10.0.0.1 actions=output:1,output:2",
                "table=0,priority=100,tcp,tp_src=5000,tcp_flags=+syn+ack,nw_src=10.2.0.0/16,nw_dst=10.0.0.1 actions=output:1,output:2",
                "table=0,priority=100,tcp,tp_src=5000,tcp_flags=-syn,nw_src=10.0.0.2,nw_dst=10.0.0.1 actions=output:1,output:2",
                "table=0,priority=100,tcp,tp_src=5000,tcp_flags=-syn,nw_src=10.2.0.0/16,nw_dst=10.0.0.1 actions=output:1,output:2",
            ])
        #expect(flows.contains("table=0,priority=0 actions=drop"))
        // The combinations no stack sends, of both families.
        #expect(flows.count { $0.contains("tcp_flags=") && $0.contains("priority=500") } == 20)
    }

    @Test func overlapsOfIntervalSetsGoIntoSetsOfTheirOwn() throws {
        let text = try export(
            """
            version = 1
            [[allow]]
            id = "wide"
            from = "10.1.0.0/24"
            to = "10.2.0.0/24"
            service = "tcp/80-90"
            [[allow]]
            id = "covered"
            from = "10.1.0.7"
            to = "10.2.0.0/25"
            service = "tcp/85"
            [[allow]]
            id = "crossing"
            from = "10.1.0.0/25"
            to = "10.2.0.0/16"
            service = ["tcp/80", "tcp/81"]
            [[allow]]
            id = "apart"
            from = "10.1.0.0/25"
            to = "10.2.0.0/16"
            service = ["tcp/8000", "udp/80"]
            """
        ).nftables()
        #expect(
            elements(text, "networks4") == [
                [
                    "10.1.0.0/24 . 10.2.0.0/24 . 6 . 80-90", "10.1.0.0/25 . 10.2.0.0/16 . 6 . 8000", "10.1.0.0/25 . 10.2.0.0/16 . 17 . 80",
                ],
                ["10.1.0.0/25 . 10.2.0.0/16 . 6 . 80-81"],
            ])
    }

    @Test func namesCannotLeaveTheirComment() throws {
        #expect(PolicyExport.oneLine("a\nb\u{85}c\u{2028}d\te") == "a b c d e")
        for (name, isGood) in [
            ("eth0", true), ("enp3s0f0", true), ("a.12", true), ("", false), ("sixteen-letters-", false), ("a b", false),
            ("a\"", false), ("a*", false), ("a/b", false), ("a\\", false), (".", false), ("é", false), ("a\n", false),
        ] {
            #expect(NftablesOptions.isPortName(name) == isGood, "\(name)")
        }
    }

    @Test func theOrderOfRulesDoesNotMatter() throws {
        let rules = (0..<50).map {
            "[[allow]]\nid = \"\($0)\"\nfrom = \"10.0.\($0 % 7).0/\(24 + $0 % 9)\"\nto = \"10.9.0.\($0)\"\nservice = \"tcp/\(1 + $0 % 5)\"\n"
        }
        let forward = try export("version = 1\n" + rules.joined())
        let backward = try export("version = 1\n" + rules.reversed().joined())
        #expect(forward.nftables(NftablesOptions(judgesICMPErrors: true)) == backward.nftables(NftablesOptions(judgesICMPErrors: true)))
        #expect(forward.openFlow() == backward.openFlow())
    }

    @Test func expiryAndModeAreSaid() throws {
        let text = """
            version = 1
            mode = "monitor"
            [[allow]]
            id = "gone"
            from = "10.0.0.1"
            to = "10.0.0.2"
            service = "tcp/1"
            expires = 2020-01-01T00:00:00Z
            [[allow]]
            id = "going"
            from = "10.0.0.1"
            to = "10.0.0.2"
            service = "tcp/2"
            expires = 2028-02-29T23:59:58Z
            """
        for output in [try export(text).nftables(), try export(text).openFlow()] {
            #expect(output.contains("# Left out: 1 expired rule(s).\n"))
            #expect(output.contains("# A rule expires 2028-02-29T23:59:58Z; "))
            #expect(output.contains("# Mode monitor: everything passes"))
            #expect(!output.contains("drop;") && !output.contains(" drop\n") && !output.contains("=drop"))
        }
    }

    @Test func portRangesAsMasks() {
        #expect(OpenFlow.masks(80, 80) == ["80"])
        #expect(OpenFlow.masks(0, 65535) == ["0x0/0x0"])
        #expect(OpenFlow.masks(1, 65535).count == 16)
        for (low, high) in [(1, 1), (1, 2), (7, 9), (49152, 49407), (1000, 1999), (65530, 65535), (1, 65535)] as [(UInt16, UInt16)] {
            let ranges = OpenFlow.masks(low, high).map { mask in
                let parts = mask.split(separator: "/").map { $0.hasPrefix("0x") ? UInt16($0.dropFirst(2), radix: 16)! : UInt16($0)! }
                return parts[0]...parts[0] + (parts.count > 1 ? ~parts[1] : 0)
            }
            #expect(ranges.first?.lowerBound == low && ranges.last?.upperBound == high)
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound + 1 == $1.lowerBound })
        }
    }

    @Test func icmpRolesAreTheParsers() {
        let replies = ICMPRole.all(.ipv4).enumerated().filter { $0.element == .reply(to: 8) || $0.element == .reply(to: 13) }
        #expect(replies.map(\.offset) == [0, 14])
        #expect(ICMPRole.all(.ipv6)[129] == .reply(to: 128))
        #expect(ICMPRole.all(.ipv6)[135] == .neighbour)
        #expect(ICMPRole.all(.ipv4)[11] == .error)
        let whole = icmpPieces(ServiceRange(.icmp, .icmp(type: 0, code: 0), .icmp(type: 255, code: 255)))
        #expect(whole.count == 1 && whole[0] == (0...255, 0...255))
        let odd = icmpPieces(ServiceRange(.icmp, .icmp(type: 3, code: 200), .icmp(type: 6, code: 7)))
        #expect(odd.count == 3 && odd[0] == (3...3, 200...255) && odd[1] == (6...6, 0...7) && odd[2] == (4...5, 0...255))
    }
}
