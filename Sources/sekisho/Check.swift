import Allowlist
import ArgumentParser
import Control
import Evidence
import Foundation
import Frames
import Policy

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check a policy file: every problem at once, with its place and a suggestion.",
        discussion: "Ends with exit code 1 if there is an error; warnings alone end with 0.")

    @Argument(help: "Policy file.") var file: String
    @OptionGroup var trust: TrustOptions
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        var file: String
        var valid: Bool
        /// The key that has signed it; only with --trusted-key.
        var signedBy: String?
        var name: String?
        var mode: String?
        var rules: Int?
        var exactConversations: Int?
        var networkPairs: Int?
        var diagnostics: [Diagnostic]
    }

    func run() throws {
        let keys = try trust.keys()
        let policy = try PolicyFile(file, findsOverlaps: true)
        var report = Report(file: file, valid: false, diagnostics: policy.reading.diagnostics)
        if let document = policy.reading.document {
            report.name = document.name
            report.mode = document.mode.name
            report.rules = document.rules.count
            do throws(TableError) {
                let statistics = try CompiledTable.build(document.compiled(now: PolicyFile.now).source).statistics
                report.exactConversations = statistics.exactIPv4 + statistics.exactIPv6
                report.networkPairs = statistics.networkPairs
                report.valid = true
            } catch {
                report.diagnostics.append(
                    Diagnostic(
                        severity: .error, location: SourceLocation(line: 1, column: 1),
                        message: error.text.replacingOccurrences(of: "\n  →", with: ";"), suggestion: nil))
            }
        }
        if !keys.isEmpty {
            do {
                report.signedBy = try keys.check(policy.text, signature: PolicyFile.signature(file)).text
            } catch let error as SignatureError {
                report.valid = false
                report.diagnostics.append(
                    Diagnostic(
                        severity: .error, location: SourceLocation(line: 1, column: 1),
                        message: error.description.replacingOccurrences(of: "\n  →", with: ";"), suggestion: nil))
            }
        }
        if json {
            try Output.json(report)
        } else {
            for finding in report.diagnostics { print(finding.rendered(file: file)) }
            let errors = report.diagnostics.filter { $0.severity == .error }.count
            let warnings = report.diagnostics.count - errors
            if report.valid {
                print(
                    "\(Output.coloured("valid", .green)): \"\(report.name!)\", mode \(report.mode!), \(report.rules!) rules → "
                        + "\(Output.grouped(report.exactConversations!)) exact conversations, "
                        + "\(Output.grouped(report.networkPairs!)) network pairs"
                        + (warnings > 0 ? ", \(warnings) warning(s)" : "") + (report.signedBy.map { "; signed with the key \($0)" } ?? ""))
            } else {
                print("\(Output.coloured("not valid", .red)): \(errors) error(s), \(warnings) warning(s)")
            }
        }
        if !report.valid { throw Exit.negative }
    }
}

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say whether a packet may pass, by which rule, or what keeps the nearest rule from matching.",
        discussion: "Ends with exit code 0 if it may pass, 1 if not.")

    @Argument(help: "Policy file.") var file: String
    @Option(help: ArgumentHelp("Source address.", valueName: "ip")) var from: String
    @Option(help: ArgumentHelp("Destination address.", valueName: "ip")) var to: String
    @Option(name: .customLong("protocol"), help: "tcp, udp, icmp, a protocol's name or number.") var ipProtocol: String
    @Option(help: "Destination port; for ICMP the type (default: echo request).") var port: Int?
    @Option(name: .customLong("from-port"), help: "Source port.") var fromPort: Int = 49152
    @Option(help: "TCP flags, e.g. syn or syn,ack.") var flags: String = "syn"
    @Option(help: "VLAN id; 0: untagged.") var vlan: Int = 0
    @Option(help: "Port of the bridge it comes in by: inside or outside; default: either.") var side: String?
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        var verdict: String
        var cause: String?
        var reason: String?
        var rule: String?
        var reply: Bool
        var nearestRule: String?
        var obstacles: [String]
    }

    func run() throws {
        let document = try PolicyFile(file).document()
        let question = try question()
        let answer: Explanation
        do throws(TableError) {
            answer = try document.explain(question, now: PolicyFile.now)
        } catch {
            Output.error("error: \(error.text)")
            throw Exit.failed
        }
        let allowed = answer.verdict.isAllowed
        if json {
            try Output.json(
                Report(
                    verdict: allowed ? "allow" : "deny", cause: allowed ? nil : answer.verdict.cause.name,
                    reason: allowed ? nil : answer.verdict.cause.text, rule: answer.rule?.id, reply: answer.verdict.isReply,
                    nearestRule: answer.nearest?.id, obstacles: answer.obstacles))
        } else if allowed, answer.rule == nil {
            print("\(Output.coloured("allow", .green)): neighbour discovery passes where ethertypes has \"arp\"")
        } else if allowed, let rule = answer.rule {
            print("\(Output.coloured("allow", .green)) by rule \"\(rule.id)\" (\(file):\(rule.location.line))\(answer.verdict.isReply ? ", as the server's side of it" : "")")
            if let purpose = rule.purpose { print("  purpose: \(purpose)") }
            if let owner = rule.owner { print("  owner: \(owner)") }
        } else {
            print("\(Output.coloured("deny", .red)): \(answer.verdict.cause.name), \(answer.verdict.cause.text)")
            if let nearest = answer.nearest {
                print("nearest rule: \"\(nearest.id)\" (\(file):\(nearest.location.line))")
                for obstacle in answer.obstacles { print("  - \(obstacle)") }
            }
        }
        if !allowed { throw Exit.negative }
    }

    private func question() throws -> PacketQuestion {
        guard let source = WrittenAddress(from) else { throw ValidationError("--from: \"\(from)\" is no IP address") }
        guard let destination = WrittenAddress(to) else { throw ValidationError("--to: \"\(to)\" is no IP address") }
        guard source.family == destination.family else { throw ValidationError("--from and --to are of different IP families") }
        var name = ipProtocol.lowercased()
        if name == "icmp", source.family == .ipv6 { name = "icmpv6" }
        guard let number = WrittenAddress.ipProtocol(name) else {
            throw ValidationError("--protocol: \"\(ipProtocol)\" is no protocol; use tcp, udp, icmp or a number")
        }
        guard (0...65535).contains(port ?? 0), (0...65535).contains(fromPort) else { throw ValidationError("ports are 0 to 65535") }
        guard (0...4094).contains(vlan) else { throw ValidationError("--vlan is 0 to 4094") }
        var asked: Side?
        if let side {
            guard let known = ["inside": Side.inside, "outside": .outside][side] else { throw ValidationError("--side is inside or outside") }
            asked = known
        }
        let isICMP = number == .icmp || number == .icmpv6
        let type = port ?? (isICMP ? (number == .icmp ? 8 : 128) : 0)
        if isICMP && type > 255 { throw ValidationError("--port: an ICMP type is 0 to 255") }
        return PacketQuestion(
            family: source.family, from: source.words, to: destination.words, ipProtocol: number,
            port: isICMP ? .icmp(type: UInt8(type), code: 0) : Port(rawValue: UInt16(type)),
            fromPort: Port(rawValue: UInt16(fromPort)), flags: try tcpFlags(), vlan: VLANID(rawValue: UInt16(vlan)), side: asked)
    }

    private func tcpFlags() throws -> TCPFlags {
        let names: [String: TCPFlags] = [
            "fin": .fin, "syn": .syn, "rst": .rst, "psh": .psh, "ack": .ack, "urg": .urg, "ece": .ece, "cwr": .cwr,
        ]
        var result = TCPFlags(rawValue: 0)
        for part in flags.lowercased().split(whereSeparator: { ",+|".contains($0) }) where part != "none" {
            guard let flag = names[String(part)] else {
                throw ValidationError("--flags: \"\(part)\" is none of \(names.keys.sorted().joined(separator: ", "))")
            }
            result.insert(flag)
        }
        return result
    }
}
