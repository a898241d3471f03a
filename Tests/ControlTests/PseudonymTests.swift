import Allowlist
import Foundation
import Frames
import Policy
import Testing

@testable import Control

@Suite struct PseudonymTests {
    private let pseudonyms = Pseudonyms()

    @Test(arguments: [
        "10.3.0.5", "10.3.0.5:5000", "tcp:10.3.0.5", "plc10.3.0.5", "tool-10-3-0-5", "tool_10_3_0_5", "10.3.0.0/16", "fd00:3::21", "FD00:3::21", "fd00:3::21.",
        "fd00:0:0:3:0:0:0:21", "::ffff:10.3.0.5", "02:00:5e:00:03:0a", "02-00-5E-00-03-0A", "0200.5e00.030a", "fe80::200:5eff:fe00:30a", "ff02::1:ff00:30a",
        "fd00:3::/64", "239.3.4.5",
    ])
    func whatHasAnAddressHasAnother(text: String) {
        let cleaned = pseudonyms.cleaned("see [\(text)], please")
        #expect(!cleaned.lowercased().contains(text.lowercased().filter { $0 != "/" }) && cleaned != "see [\(text)], please")
        #expect(cleaned.hasPrefix("see [") && cleaned.hasSuffix("], please"))
        #expect(pseudonyms.cleaned("see [\(text)], please") == cleaned)
        #expect(Pseudonyms().cleaned(text) != pseudonyms.cleaned(text), "another bundle, another key")
        #expect(Pseudonyms(replacesAddresses: false).cleaned(text) == text)
    }

    @Test(arguments: [
        "2026-11-25T16:52:37+0000 info sekisho: forwarding", "version 6.18.5-1+deb13", "tcp/49152-49407", "16:52:37", "Foo::bar", "0x8892", "127.0.0.1",
        "255.255.255.255", "0.0.0.0/0", "224.0.0.251", "ff02::1", "::1", "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:0e", "mes → scanners", "関所",
        "/var/lib/sekisho/litho-bay-3/history.sqlite", "Ethernet-Controller-E810-C-for-QSFP", "NVIDIA_ConnectX-6_Dx_EN_adapter_card_25GbE", "inside_to_outside.forwarded.frames", "1.2.3",
    ])
    func whatHasNoneStays(text: String) { #expect(pseudonyms.cleaned(text) == text) }

    @Test(arguments: [
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1h\n-----END PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    ])
    func keysGo(key: String) {
        for pseudonyms in [pseudonyms, Pseudonyms(replacesAddresses: false)] { #expect(pseudonyms.cleaned("a \(key) b").replacing(" b", with: "") == "a [removed]") }
    }

    @Test func almostNoKeyIsTakenForAWord() {
        var generator = SystemRandomNumberGenerator()
        let kept = (0..<5000).count { _ in
            let key = Data((0..<32).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }).base64EncodedString()
            return pseudonyms.cleaned(key) == key
        }
        #expect(kept < 25)
    }

    @Test func networksStayNetworks() throws {
        func mapped(_ text: String) throws -> AddressPrefix { try #require(WrittenAddress.network(pseudonyms.cleaned(text))) }
        for (network, inside, outside) in [("10.3.1.64/27", "10.3.1.70", "10.3.1.96"), ("fd00:3::/64", "fd00:3::21", "fd00:3:0:1::21"), ("0.0.0.0/0", "10.1.1.1", "")] {
            let all = try mapped(network)
            #expect(try all.contains(mapped(inside).words))
            if !outside.isEmpty { #expect(try !all.contains(mapped(outside).words)) }
        }
        let all = Set(try (0..<256).map { try mapped("10.3.1.\($0)").words.low })
        #expect(all.count == 256, "different addresses stay different")
    }

    @Test func ofAPolicyRulesAndNamesStay() throws {
        let policy = """
            version = 1   # call Ms Tanaka, 10.9.9.9, password hunter2
            name = "litho # 3"
            [devices.mes]
            addresses = ["10.3.0.10"] # "old"
            mac = ["02:00:00:00:03:0a"]
            [[allow]]
            id = "a-b"
            from = "mes"
            to = '10.3.1.64/27'
            service = "hsms"
            purpose = "ask Mr Sato \\"first\\" at 5-1234"
            owner = '''Sato
            and Tanaka'''
            """
        let stripped = PolicyForOthers.stripped(policy)
        for secret in ["Tanaka", "Sato", "hunter2", "1234", "old", "9.9"] { #expect(!stripped.contains(secret), "\(secret)") }
        #expect(stripped.split(separator: "\n", omittingEmptySubsequences: false).count == policy.split(separator: "\n", omittingEmptySubsequences: false).count)
        #expect(stripped.contains("litho # 3"))
        let reading = PolicyReader.read(Array(pseudonyms.cleaned(stripped).utf8), now: 0)
        let document = try #require(reading.document, "\(reading.diagnostics.map(\.message))")
        #expect(document.rules.map(\.id) == ["a-b"] && document.devices.map(\.name) == ["mes"] && document.rules[0].servers[0].length == 27)
        // What cannot be read is what is asked about: it is stripped as far as it goes.
        #expect(!PolicyForOthers.stripped("a = \"open # 1\nowner = \"Sato\n# Tanaka").contains("Tanaka"))
        #expect(!PolicyForOthers.stripped("owner = 'Sato").contains("Sato"))
    }
}
