// The XDP program of one port: loaded from the object embedded in the binary, attached by a link.

import CLinux
import Foundation

/// Attached while it lives. The kernel detaches it when the process ends, however it ends.
final class XDPProgram {
    private var program: OpaquePointer?
    let port: NetworkPort
    private(set) var mode = "none"
    private var stamped: UnsafeMutableRawPointer?
    private var stampedBytes = 0

    init(_ port: NetworkPort) throws(DatapathError) {
        self.port = port
        guard let object = Data(base64Encoded: EmbeddedXDPProgram.base64) else {
            throw DatapathError("reading the embedded XDP program", hint: "the binary is damaged; install it again")
        }
        var log = [CChar](repeating: 0, count: 16384)
        let loaded = object.withUnsafeBytes { clinux_xdp_load($0.baseAddress, $0.count, &log, log.count) }
        guard let loaded else {
            let code = errno
            throw DatapathError(
                "loading the XDP program for \(port.name)" + Self.quoted(log), code: code,
                hint: code == EPERM
                    ? DatapathError.usualHint(code, port: port.name)
                    : "the kernel must be 5.15 or newer, with CONFIG_BPF_SYSCALL; see: uname -r")
        }
        program = loaded
    }

    /// Attaches in the driver, or else in the generic path.
    func attach(native: Bool) -> Int32 {
        var log = [CChar](repeating: 0, count: 16384)
        let error = clinux_xdp_attach(program, port.index, native, &log, log.count)
        if error == 0 { mode = native ? "native" : "generic" }
        return -error
    }

    func set(socket: Int32, queue: Int) throws(DatapathError) {
        let error = clinux_xdp_set_socket(program, UInt32(queue), socket)
        guard error == 0 else {
            throw DatapathError("giving queue \(queue) of \(port.name) its socket", code: -error)
        }
    }

    /// Times one frame in `gap` on average; 0: none.
    func setSampling(gap: Int, tag: UInt16) throws(DatapathError) {
        let error = clinux_xdp_set_sampling(program, UInt32(gap), tag)
        guard error == 0 else { throw DatapathError("choosing which frames of \(port.name) are timed", code: -error) }
    }

    /// Where the program counts the frames it has timed on a queue. It can be read for as long as this object lives, also
    /// when the program is off the port: workers stop after that.
    func stampedFrames(queue: Int) throws(DatapathError) -> UnsafeMutablePointer<Counter> {
        if stamped == nil { stamped = clinux_xdp_stamped(program, &stampedBytes) }
        guard let base = stamped else {
            throw DatapathError("mapping the XDP program's counters of \(port.name)", code: errno)
        }
        // One 64-byte entry for each queue; a Counter is its 64-bit word. Read-only: nobody here adds to it.
        return (base + queue * 64).assumingMemoryBound(to: Counter.self)
    }

    /// Frames dropped because their queue had no socket.
    var withoutSocket: UInt64 { program.map { clinux_xdp_no_socket($0) } ?? 0 }

    /// Takes it off the port. Nothing else may be done with it then.
    func detach() {
        clinux_xdp_close(program)
        program = nil
        mode = "none"
    }

    deinit {
        detach()
        if let stamped { munmap(stamped, stampedBytes) }
    }

    private static func quoted(_ log: [CChar]) -> String {
        let text = String(decoding: log.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? "" : " (\(text.replacingOccurrences(of: "\n", with: "; ")))"
    }
}
