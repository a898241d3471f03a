// Builds BPF/*.bpf.c with the toolchain's clang and embeds the object in the target that uses this plugin; page
// templates are embedded as they are. So the program is one file.

import Foundation
import PackagePlugin

@main
struct EmbedBPF: BuildToolPlugin {
    /// What each target embeds: a file of the package, and the name of the enum it becomes.
    private static let sources: [String: [(file: String, name: String)]] = [
        "Datapath": [("BPF/sekisho_xdp.bpf.c", "EmbeddedXDPProgram")],
        "Baseline": [("Sources/Baseline/Page/baseline.html", "EmbeddedBaselinePage")],
        "Measure": [
            ("BPF/bench_hosts.bpf.c", "EmbeddedBenchHosts"),
            ("Sources/Measure/Report/report.html", "EmbeddedReport"),
        ],
    ]

    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let clang = try clang(context)
        return try (Self.sources[target.name] ?? []).map { file, name in
            let source = context.package.directoryURL.appending(path: file)
            let output = context.pluginWorkDirectoryURL.appending(path: "\(name).swift")
            return .buildCommand(
                displayName: "Embedding \(source.lastPathComponent)",
                executable: try context.tool(named: "bpf-embed").url,
                arguments: [clang.path, source.path, output.path, name],
                inputFiles: [source] + headers(context), outputFiles: [output])
        }
    }

    /// Any of them may be included.
    private func headers(_ context: PluginContext) -> [URL] {
        let folder = context.package.directoryURL.appending(path: "BPF")
        let files = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        return files.filter { $0.pathExtension == "h" }
    }

    /// The toolchain's own clang targets bpf; Debian's would do as well.
    private func clang(_ context: PluginContext) throws -> URL { try context.tool(named: "clang").url }
}
