// bpf-embed CLANG SOURCE OUTPUT NAME: compiles a BPF program and writes it as Swift source, as `enum NAME`. A source that
// is not a BPF program (a page template) is written as it is.
//
// Runs at build time, from Plugins/EmbedBPF. The bytes are written as base64 in a
// string literal, which the compiler reads a hundred times faster than an array literal.

import Foundation

func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("bpf-embed: error: \(message)\n".utf8))
    exit(1)
}

let arguments = CommandLine.arguments
guard arguments.count == 5 else { fail("usage: bpf-embed CLANG SOURCE OUTPUT NAME") }
let (clang, source, output, type) = (arguments[1], arguments[2], arguments[3], arguments[4])
let isProgram = source.hasSuffix(".bpf.c")
let object = isProgram ? output + ".o" : source

#if arch(x86_64)
let machine = "x86_64"
#elseif arch(arm64)
let machine = "aarch64"
#endif

if isProgram { compile() }

func compile() {
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: clang)
    compiler.arguments = [
        // v3: atomic operations and 32-bit jumps (Linux 5.12).
        "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror",
        // Swift's clang moves rare paths into functions of their own, which libbpf refuses.
        "-Xclang", "-fno-split-cold-code",
        // Debian keeps asm/types.h, which linux/types.h asks for, by machine.
        "-I/usr/include/\(machine)-linux-gnu",
        "-c", source, "-o", object,
    ]
    do {
        try compiler.run()
    } catch {
        fail("cannot run \(clang): \(error)")
    }
    compiler.waitUntilExit()
    guard compiler.terminationStatus == 0 else {
        fail("\(clang) could not compile \(source). Is libbpf-dev installed? (apt-get install libbpf-dev linux-libc-dev)")
    }
}
guard let bytes = FileManager.default.contents(atPath: object) else { fail("\(object) is missing") }
let name = URL(fileURLWithPath: source).lastPathComponent
let text = """
    // Made from \(name) at build time.
    enum \(type) {
        static let base64 = "\(bytes.base64EncodedString())"
    }

    """
// What is as it was stays untouched: otherwise everything behind it would be compiled again.
if FileManager.default.contents(atPath: output) == Data(text.utf8) { exit(0) }
do {
    try text.write(toFile: output, atomically: true, encoding: .utf8)
} catch {
    fail("cannot write \(output): \(error)")
}
