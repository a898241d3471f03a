import ArgumentParser
import Control
import Foundation
import Policy

struct Support: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Collect what the maker needs to find a fault, without addresses and secrets.",
        discussion: """
            Writes a tar file: version, machine, the doctor's findings, the running bridge's status and latency, policy files without comments, \
            sizes of the stores, the last lines of the log. Every IP and MAC address is replaced by another one, the same by the same, networks \
            by networks; the key is not kept. Look at it before you send it: tar -xf FILE.
            """)

    @Option(name: .shortAndLong, help: ArgumentHelp("File to write.", valueName: "file")) var output: String
    @Option(help: ArgumentHelp("Policy file; may be repeated. Default: the running bridge's.", valueName: "file")) var policy: [String] = []
    @Option(help: "State directory: sizes and counts of what is in it. Default: the running bridge's.") var state: String?
    @Option(help: ArgumentHelp("Port towards the protected tools. Default: the running bridge's.", valueName: "port")) var inside: String?
    @Option(help: ArgumentHelp("Port towards the rest of the plant.", valueName: "port")) var outside: String?
    @Flag(help: "Leave addresses as they are.") var withAddresses = false
    @OptionGroup var socket: ControlOption

    func run() throws {
        let version = Sekisho.configuration.version
        var bundle = SupportBundle(version: version, withAddresses: withAddresses)
        // No bridge may be running: that is what is asked about, maybe.
        var missing: [String] = []
        func answer(_ command: ControlRequest.Command) -> ControlResponse? {
            do {
                let response = try ControlClient.ask(ControlRequest(command: command), at: socket.path)
                if let failure = response.failure { missing.append("\(command): \(failure)") }
                return response
            } catch {
                missing.append("\(command): \(error)")
                return nil
            }
        }
        let status = answer(.status)?.status
        let latency = status == nil ? nil : answer(.latency)?.latency
        let ports = (inside ?? status?.ports["inside"]?.name, outside ?? status?.ports["outside"]?.name)
        bundle.add("version.txt", "version of sekisho", "sekisho \(version)\n")
        if let status { bundle.add("status.json", "status of the running bridge: counters, rules, who is who", json: status) }
        if let latency { bundle.add("latency.json", "how long frames take through it", json: latency) }
        bundle.add("doctor.json", "what sekisho doctor finds", json: Doctor.examine(inside: ports.0, outside: ports.1))
        bundle.addMachine(ports: [ports.0, ports.1].compactMap(\.self))
        for (number, path) in (policy.isEmpty ? [status?.policy.file].compactMap(\.self) : policy).enumerated() {
            do { bundle.add(policy: try PolicyText.read(path), number: number + 1) } catch {
                // One that was named must be there; the running bridge's may have been moved.
                if !policy.isEmpty { try reportingErrors { throw error } }
                missing.append("policy: \(error)")
            }
        }
        if let directory = state ?? status?.recording.map({ ($0.file as NSString).deletingLastPathComponent }) { bundle.addStores(of: directory) }
        bundle.addLog()
        if !missing.isEmpty { bundle.add("missing.txt", "what could not be asked", missing.map { $0 + "\n" }.joined()) }
        let file = try OutputFile(output, mode: 0o600)
        try bundle.write { file.write($0) }
        try file.finish()
        print("\(output):\n" + bundle.manifest().table)
        print(
            (withAddresses ? "addresses are in it as they are" : "addresses are replaced")
                + "; names of devices, rules, ports and files are in it. Look at it before you send it: tar -xf \(output)")
    }
}
