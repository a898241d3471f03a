// The XDP program of one port: loaded from the object embedded in the binary, attached by a link.

import CLinux
import Foundation

/// Attached while it lives. The kernel detaches it when the process ends, however it ends.
final class XDPProgram {
    private var program: OpaquePointer?
    let port: NetworkPort
    private(set) var mode = "none"

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

    /// Frames dropped because their queue had no socket.
    var withoutSocket: UInt64 { program.map { clinux_xdp_no_socket($0) } ?? 0 }

    /// Takes it off the port. Nothing else may be done with it then.
    func detach() {
        clinux_xdp_close(program)
        program = nil
        mode = "none"
    }

    deinit { detach() }

    private static func quoted(_ log: [CChar]) -> String {
        let text = String(decoding: log.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? "" : " (\(text.replacingOccurrences(of: "\n", with: "; ")))"
    }
}
