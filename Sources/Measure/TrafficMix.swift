// What is sent, and the policy it is sent under: flows × rules × frame size × denied share.

import Frames
import Policy

/// Sizes of frames, as Ethernet counts them: with the four bytes of the frame check sequence.
public enum FrameSize: Sendable, Equatable, Hashable {
    case fixed(Int)
    /// Seven of 64 bytes, four of 594, one of 1518: the simple IMIX.
    case imix

    public init?(_ text: String) {
        if text.lowercased() == "imix" {
            self = .imix
        } else if let size = Int(text), (64...1518).contains(size) {
            self = .fixed(size)
        } else {
            return nil
        }
    }

    public var name: String {
        switch self {
        case .fixed(let size): "\(size)"
        case .imix: "IMIX"
        }
    }

    /// Bytes of the frame at this place of the list, without the check sequence.
    func length(at place: Int) -> Int {
        switch self {
        case .fixed(let size): size - 4
        case .imix: [60, 590, 60, 60, 590, 60, 590, 60, 1514, 60, 590, 60][place % 12]
        }
    }
}

/// A mix and everything the forwarders are set up with for it.
public struct TrafficMix: Sendable {
    public enum Kind: String, Sendable, Codable { case generated, fab, replay }

    public var kind = Kind.generated
    public var flows: Int
    public var rules: Int
    public var size: FrameSize
    /// Per cent of the frames that the policy does not allow; 100: all but one in a hundred, by whose arrival loss is seen.
    public var deniedPercent: Int
    /// Requests and their answers by turns, not requests alone.
    public var bothWays = false

    public init(
        kind: Kind = .generated, flows: Int = 1000, rules: Int = 10_000, size: FrameSize = .fixed(64), deniedPercent: Int = 0,
        bothWays: Bool = false
    ) {
        self.kind = kind
        self.flows = flows
        self.rules = rules
        self.size = size
        self.deniedPercent = deniedPercent
        self.bothWays = bothWays
    }

    public var id: String {
        switch kind {
        case .fab: "fab"
        case .replay: "replay"
        case .generated:
            "r\(rules)-f\(flows)-s\(size.name)-d\(deniedPercent)\(bothWays ? "-both" : "")"
        }
    }

    public var title: String {
        switch kind {
        case .fab: "fab mix: HSMS, Modbus polling, EDA bursts, file transfer, a scan; \(PeopleFormat.grouped(rules)) rules"
        case .replay: "replayed capture"
        case .generated:
            "\(PeopleFormat.grouped(rules)) rule\(rules == 1 ? "" : "s"), \(PeopleFormat.grouped(flows)) flow\(flows == 1 ? "" : "s"), \(size.name) bytes"
                + (deniedPercent > 0 ? ", \(deniedPercent) % denied" : "") + (bothWays ? ", both ways" : "")
        }
    }

    /// The service that rules of generated mixes allow, and one they do not.
    static let allowedPort: UInt16 = 5000
    static let deniedPort: UInt16 = 445

    /// Client and server of a rule: unique pairs of one plant.
    static func pair(_ rule: Int) -> (client: UInt32, server: UInt32) {
        (0x0A00_0001 + UInt32(rule) * 1, 0x0A80_0000 | UInt32(rule % 4093 + 1))
    }

    /// Frames, in an order that no cache can guess.
    func frames() -> [ListedFrame] {
        switch kind {
        case .generated: generated()
        case .fab: FabMix.frames()
        case .replay: []
        }
    }

    /// Frames of the list for so many flows.
    static func listed(_ flows: Int) -> Int { (max(flows, 1) + 99) / 100 * 100 }

    private func generated() -> [ListedFrame] {
        var random = SplitMix(UInt64(flows) &* 31 &+ UInt64(rules))
        // Whole hundreds, so that shares are right.
        let count = Self.listed(flows)
        // Flows spread over all rules, so that a large table is really used.
        var list = (0..<count).map { index in
            let flow = index % flows
            let rule = flows < rules ? flow * (rules / flows) : flow % rules
            let (client, server) = Self.pair(rule)
            // Several flows of one rule differ in the client's port, which no rule names.
            let clientPort = UInt16(1024 + (flow / min(flows, rules)) % 64_000)
            let isReply = bothWays && index % 2 == 1
            let isDenied = deniedPercent >= 100 ? index % 100 != 0 : index % 100 < deniedPercent
            let length = size.length(at: index)
            let port = isDenied ? Self.deniedPort : Self.allowedPort
            return ListedFrame(
                bytes: isReply
                    ? FrameWriter.udp(
                        from: .inside, source: server, destination: client, sourcePort: port, destinationPort: clientPort,
                        length: length)
                    : FrameWriter.udp(
                        from: .outside, source: client, destination: server, sourcePort: clientPort, destinationPort: port,
                        length: length),
                length: length, from: isReply ? .inside : .outside, isAllowed: !isDenied)
        }
        list.shuffle(using: &random)
        return list
    }

    /// The same list, sent from the other side: servers outside, clients inside. For latency by direction.
    static func turned(_ list: [ListedFrame]) -> [ListedFrame] {
        list.map { frame in
            var turned = frame
            turned.from = frame.from.other
            // The MAC addresses change places, or a learning bridge would send the frame back.
            turned.bytes.replaceSubrange(0..<6, with: frame.bytes[6..<12])
            turned.bytes.replaceSubrange(6..<12, with: frame.bytes[0..<6])
            return turned
        }
    }

    /// The policy, as its owner would write it.
    func policyText() -> String {
        var text = "version = 1\nname = \"bench\"\nmode = \"enforce\"\n"
        text += "[[allow]]\nid = \"probe\"\nfrom = \"\(Bed.hostAddress)\"\nto = \"\(Bed.toolAddress)\"\nservice = \"udp/7000\"\n"
        if kind == .fab { text += FabMix.rules() }
        let written = kind == .fab ? max(0, rules - FabMix.ruleCount) : rules
        for rule in 0..<written {
            let (client, server) = Self.pair(rule)
            text += "[[allow]]\nid = \"r\(rule)\"\nfrom = \"\(dotted(client))\"\nto = \"\(dotted(server))\"\n"
            text += "service = \"udp/\(Self.allowedPort)\"\n"
        }
        return text
    }
}

func dotted(_ address: UInt32) -> String {
    "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
}
