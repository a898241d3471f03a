// Frames out of pcap and pcapng files, read by libpcap.

import CPcap

/// Why a capture cannot be read.
public struct CaptureError: Error, CustomStringConvertible, Sendable {
    public let description: String
}

/// One recorded frame. The bytes are valid until the next one is read.
public struct CapturedFrame {
    /// What was recorded of it; may be less than was on the wire.
    public let bytes: UnsafeRawBufferPointer
    /// Length on the wire.
    public let wireLength: Int
    /// Since 1970, and of a second: never less than nothing, whatever the file says.
    public let seconds: Int64
    public let nanoseconds: Int

    /// Nanoseconds since 1970; what 64 bits do not hold is the most they do.
    public var time: UInt64 {
        let (whole, isTooMuch) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, isOver) = whole.addingReportingOverflow(UInt64(nanoseconds))
        return isTooMuch || isOver ? .max : sum
    }

    /// Seconds since 1970 with nine decimals, as `tshark -e frame.time_epoch` prints it.
    public var timestamp: String {
        let digits = String(nanoseconds)
        return "\(seconds).\(String(repeating: "0", count: max(0, 9 - digits.count)))\(digits)"
    }
}

/// Reads one file, front to back.
public final class CaptureReader {
    public let path: String
    private let handle: OpaquePointer
    /// Set when the file ended in the middle of a frame: what came before was read.
    public private(set) var warning: String?

    public init(_ path: String) throws(CaptureError) {
        self.path = path
        var message = [CChar](repeating: 0, count: Int(PCAP_ERRBUF_SIZE))
        guard
            let handle = pcap_open_offline_with_tstamp_precision(
                path, UInt32(PCAP_TSTAMP_PRECISION_NANO), &message)
        else {
            let reason = String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw CaptureError(
                description: "opening the capture \(path): \(reason)\n  → it must be a pcap or pcapng file; see: file \(path)")
        }
        self.handle = handle
        let link = pcap_datalink(handle)
        guard link == DLT_EN10MB else {
            // `deinit` closes the file: all properties are set.
            let name = pcap_datalink_val_to_name(link).map { String(cString: $0) } ?? String(link)
            throw CaptureError(
                description: "reading the capture \(path): its link type is \(name), not Ethernet\n"
                    + "  → record on an Ethernet port, not on \"any\" or a tunnel")
        }
    }

    deinit { pcap_close(handle) }

    /// The next frame, or nil at the end.
    public func next() -> CapturedFrame? {
        var header: UnsafeMutablePointer<pcap_pkthdr>?
        var data: UnsafePointer<UInt8>?
        switch pcap_next_ex(handle, &header, &data) {
        case 1:
            guard let header, let data else { return nil }
            // libpcap takes the 32 bits of a pcap for signed: from 2038 on they would lie before 1970.
            var seconds = Int64(header.pointee.ts.tv_sec)
            if seconds < 0, seconds >= Int64(Int32.min) { seconds += 1 << 32 }
            return CapturedFrame(
                bytes: UnsafeRawBufferPointer(start: data, count: Int(header.pointee.caplen)),
                wireLength: Int(header.pointee.len), seconds: max(0, seconds),
                nanoseconds: min(max(0, Int(header.pointee.ts.tv_usec)), 999_999_999))
        case -2:
            return nil  // the end
        default:
            warning = "\(path): \(String(cString: pcap_geterr(handle))); what came before it was read"
            return nil
        }
    }
}
