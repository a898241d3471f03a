// Prints what the parser says of every frame of a capture, one line of JSON each: for Tests/System/test_parser_tshark.py.
//
// Not in the product: nobody who runs a bridge needs it.

import Captures
import Foundation
import Frames

struct Line: Encodable {
    var cause: String
    var form: UInt8
    var etherType: UInt16
    var vlan: UInt16
    var networkOffset: UInt8
    /// High and low word.
    var source: [UInt64]
    var destination: [UInt64]
    var ipProtocol: UInt8
    var sourcePort: UInt16
    var destinationPort: UInt16
    var tcpFlags: UInt8
    var marks: UInt8
    var transportOffset: UInt16
    /// Or the place of a fragment.
    var detail: UInt64

    init(_ headers: FrameHeaders) {
        cause = Cause.ofParser.first { $0.cause == headers.cause }?.name ?? "none"
        form = headers.form.rawValue
        etherType = headers.etherType.rawValue
        vlan = headers.vlan.rawValue
        networkOffset = headers.networkOffset
        source = [headers.source.high, headers.source.low]
        destination = [headers.destination.high, headers.destination.low]
        ipProtocol = headers.ipProtocol.rawValue
        sourcePort = headers.sourcePort.rawValue
        destinationPort = headers.destinationPort.rawValue
        tcpFlags = headers.tcpFlags.rawValue
        marks = headers.marks.rawValue
        transportOffset = headers.transportOffset
        detail = headers.detail
    }
}

guard CommandLine.arguments.count == 2 else {
    FileHandle.standardError.write(Data("usage: parse-capture CAPTURE\n".utf8))
    exit(64)
}
do {
    let reader = try CaptureReader(CommandLine.arguments[1])
    let encoder = JSONEncoder()
    var headers = FrameHeaders()
    while let frame = reader.next() {
        parseFrame(frame.bytes, wireLength: frame.wireLength, into: &headers)
        FileHandle.standardOutput.write(try encoder.encode(Line(headers)) + Data("\n".utf8))
    }
    if let warning = reader.warning { FileHandle.standardError.write(Data("warning: \(warning)\n".utf8)) }
} catch {
    FileHandle.standardError.write(Data("error: \(error)\n".utf8))
    exit(1)
}
