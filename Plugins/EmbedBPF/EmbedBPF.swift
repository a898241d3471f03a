// Builds BPF/*.bpf.c with the toolchain's clang and embeds the object in the target that uses this plugin.

import Foundation
import PackagePlugin

@main
struct EmbedBPF: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let source = context.package.directoryURL.appending(path: "BPF/sekisho_xdp.bpf.c")
        let output = context.pluginWorkDirectoryURL.appending(path: "EmbeddedXDPProgram.swift")
        return [
            .buildCommand(
                displayName: "Compiling \(source.lastPathComponent) for bpf",
                executable: try context.tool(named: "bpf-embed").url,
                arguments: [try clang(context).path, source.path, output.path],
                inputFiles: [source], outputFiles: [output])
        ]
    }

    /// The toolchain's own clang targets bpf; Debian's would do as well.
    private func clang(_ context: PluginContext) throws -> URL { try context.tool(named: "clang").url }
}
