// A bay's traffic in one list: long HSMS sessions, Modbus polling, EDA bursts, a file transfer, and a scan from a laptop.
//
// Shares of frames, not of bytes. Sizes are typical of the protocols: an HSMS message of a few dozen to a few hundred bytes
// (SEMI E37: 14 bytes of header), a Modbus/TCP request of 12 bytes and an answer of 9 to 260 (Modbus Application Protocol),
// EDA and FTP data in full segments.

import Frames

enum FabMix {
    private static let mes: UInt32 = 0x0AF0_000A
    private static let eda: UInt32 = 0x0AF0_000B
    private static let recipes: UInt32 = 0x0AF0_000C
    private static let supervisor: UInt32 = 0x0AF0_000D
    private static let laptop: UInt32 = 0x0AF0_0042
    private static let tools: [UInt32] = (0..<40).map { 0x0AF0_0115 + $0 }
    private static let controllers: [UInt32] = (0..<20).map { 0x0AF0_0215 + $0 }

    /// Rules these conversations need.
    static let ruleCount = tools.count * 3 + controllers.count

    static func rules() -> String {
        var text = ""
        func allow(_ name: String, _ from: UInt32, _ to: UInt32, _ service: String) {
            text += "[[allow]]\nid = \"\(name)\"\nfrom = \"\(dotted(from))\"\nto = \"\(dotted(to))\"\nservice = \"\(service)\"\n"
        }
        for (index, tool) in tools.enumerated() {
            allow("hsms-\(index)", mes, tool, "tcp/5000")
            allow("eda-\(index)", eda, tool, "tcp/8443")
            allow("recipe-\(index)", recipes, tool, "tcp/990")
        }
        for (index, controller) in controllers.enumerated() { allow("modbus-\(index)", supervisor, controller, "tcp/502") }
        return text
    }

    static func frames() -> [ListedFrame] {
        var random = SplitMix(5000)
        var list: [ListedFrame] = []
        func add(
            _ from: Side, _ source: UInt32, _ destination: UInt32, _ ports: (UInt16, UInt16), _ flags: TCPFlags, _ size: Int,
            allowed: Bool = true
        ) {
            // 70 bytes: the least that hold TCP and the trailer.
            let length = min(max(size, 70), 1514)
            list.append(
                ListedFrame(
                    bytes: FrameWriter.tcp(
                        from: from, source: source, destination: destination, sourcePort: ports.0, destinationPort: ports.1,
                        flags: flags, sequence: UInt32.random(in: 1...UInt32.max, using: &random), length: length),
                    length: length, from: from, isAllowed: allowed))
        }
        func exchange(_ client: UInt32, _ server: UInt32, _ port: UInt16, _ ask: Int, _ answer: Int) {
            let clientPort = UInt16(49_152 + Int(client ^ server) % 16_000)
            add(.outside, client, server, (clientPort, port), [.psh, .ack], ask)
            add(.inside, server, client, (port, clientPort), [.psh, .ack], answer)
            add(.outside, client, server, (clientPort, port), .ack, 70)
        }
        for round in 0..<12 {
            for tool in tools {
                exchange(mes, tool, 5000, 54 + 14 + Int.random(in: 10...80, using: &random), 54 + 14 + Int.random(in: 20...600, using: &random))
            }
            for controller in controllers { exchange(supervisor, controller, 502, 54 + 12, 54 + 9 + 2 * Int.random(in: 1...125, using: &random)) }
            // One tool at a time reports much data.
            let tool = tools[round * 3 % tools.count]
            for _ in 0..<24 { add(.inside, tool, eda, (8443, 51_000), .ack, 1514) }
            for _ in 0..<12 { add(.outside, eda, tool, (51_000, 8443), .ack, 70) }
            for _ in 0..<40 { add(.outside, recipes, tool, (52_000, 990), .ack, 1514) }
            for _ in 0..<20 { add(.inside, tool, recipes, (990, 52_000), .ack, 70) }
            // The laptop looks for whoever listens: about one frame in forty.
            for probe in 0..<16 {
                add(
                    .outside, laptop, tools[(round * 16 + probe) % tools.count], (UInt16(40_000 + probe), [5000, 502, 445, 22][probe % 4]),
                    .syn, 70, allowed: false)
            }
        }
        return list
    }
}
