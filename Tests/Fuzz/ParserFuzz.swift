// What libFuzzer calls: one frame through the parser and through `ObviousParser`. Built and run by Scripts/fuzz.
//
// A read beyond the frame is found by AddressSanitizer, a read that was not proved by the assertions of `WireReader`,
// a disagreement here.

import Foundation
import Frames

private func compare(_ frame: UnsafeRawBufferPointer, wireLength: Int) {
    var headers = FrameHeaders()
    parseFrame(frame, wireLength: wireLength, into: &headers)
    let differences = headers.differences(from: ObviousParser.parse(Array(frame), wireLength: wireLength))
    if differences.isEmpty { return }
    let hex = frame.map { String(format: "%02x", $0) }.joined()
    let text = "fuzz: the parsers disagree: \(differences.joined(separator: "; "))\nfuzz: frame \(hex), \(wireLength) bytes on the wire\n"
    FileHandle.standardError.write(Data(text.utf8))
    abort()
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneFrame(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let frame = UnsafeRawBufferPointer(start: start, count: count)
    compare(frame, wireLength: count)
    // A frame recorded cut short. The destination address means nothing to a parser, so its last byte says by how much.
    guard count > 5, frame[5] != 0 else { return 0 }
    let recorded = count - min(count, Int(frame[5]))
    // In memory of its own, so that what lies behind it is watched.
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: recorded, alignment: 1)
    copy.copyMemory(from: UnsafeRawBufferPointer(rebasing: frame[..<recorded]))
    compare(UnsafeRawBufferPointer(copy), wireLength: count)
    copy.deallocate()
    return 0
}
