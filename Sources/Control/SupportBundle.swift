// What the maker needs to see when something does not work, and no more: no address of the plant, no secret, nothing that people wrote
// for themselves. Everything goes through `Pseudonyms.cleaned`, also what comes to be added later.

import Allowlist
import Crypto
import Datapath
import Foundation
import GRDB
import Glibc
import Policy

public struct SupportBundle {
    /// In order; each with what it is, for the list.
    public private(set) var files: [(name: String, about: String, bytes: [UInt8])] = []
    private let pseudonyms: Pseudonyms
    private let version: String

    public init(version: String, withAddresses: Bool) {
        self.version = version
        pseudonyms = Pseudonyms(replacesAddresses: !withAddresses)
    }

    /// - Parameter text: as it is; it is cleaned here.
    public mutating func add(_ name: String, _ about: String, _ text: String) {
        files.append((name, about, [UInt8](pseudonyms.cleaned(text).utf8)))
    }

    public mutating func add(_ name: String, _ about: String, json value: some Encodable) {
        guard let data = try? MachineFormat.encoder().encode(value) else { return }
        add(name, about, String(decoding: data, as: UTF8.self))
    }

    /// One that cannot be read is what is being asked about: it goes along as far as it is text.
    public mutating func add(policy text: [UInt8], number: Int) {
        add(
            "policy-\(number).toml", "policy file: names and rules; comments, purposes and owners are taken out",
            PolicyForOthers.stripped(String(decoding: text, as: UTF8.self)))
        let reading = PolicyReader.read(text, now: Int64(Date().timeIntervalSince1970))
        add(
            "policy-\(number)-check.txt", "what sekisho check says of it",
            reading.diagnostics.isEmpty ? "nothing\n" : reading.diagnostics.map { "\($0.rendered(file: "policy-\(number).toml"))\n" }.joined())
    }

    public mutating func addMachine(ports: [String]) {
        add("machine.txt", "kernel, processors, memory; the ports: driver, queues, offloads", Self.machine() + ports.map(Self.port).joined())
    }

    /// Rows by table: how large they are, never what is in them.
    public mutating func addStores(of directory: String) {
        var lines: [String] = []
        do throws(ArchiveError) {
            for name in try StateBackup.stores(in: directory) {
                let path = "\(directory)/\(name)"
                let bytes = (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? UInt64 ?? 0
                do throws(ArchiveError) {
                    guard try StateBackup.isOurs(applicationID: StateBackup.applicationID(path)) else { continue }
                    lines.append("\(name): \(bytes) bytes, version \(try StateBackup.asking(path) { db in try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0 })")
                    lines += try StateBackup.asking(path) { db in
                        try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name").map { table in
                            "  \(table): \(try Int.fetchOne(db, sql: "SELECT count(*) FROM \(table.quotedDatabaseIdentifier)") ?? 0) rows"
                        }
                    }
                } catch { lines.append("\(name): \(bytes) bytes; \(error)") }
            }
        } catch { lines.append("\(error)") }
        add("stores.txt", "stores of the state directory: sizes and counts", lines.map { $0 + "\n" }.joined())
    }

    /// Of the journal, if there is one.
    public mutating func addLog(lines: Int = 500) {
        guard access("/run/systemd/journal", F_OK) == 0,
            let text = Self.output("/usr/bin/journalctl", ["-q", "--no-pager", "-o", "cat", "-n", "\(lines)", "-t", "sekisho"]), !text.isEmpty
        else { return }
        add("log.txt", "the last lines that sekisho logged (journal)", text)
    }

    public func manifest() -> ArchiveManifest {
        ArchiveManifest(
            kind: "support", created: Date(), sekishoVersion: version,
            files: files.map {
                ArchiveManifest.File(name: $0.name, bytes: UInt64($0.bytes.count), sha256: SHA256.hash(data: $0.bytes).hex, about: $0.about)
            })
    }

    public func write(_ body: @escaping ([UInt8]) -> Void) throws {
        let archive = try ArchiveWriter(manifest(), write: body)
        for file in files { archive.add(file.name, file.bytes) }
        archive.finish()
    }

    // MARK: - The machine

    private static func text(_ path: String) -> String? {
        (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Without the machine's name, and of the kernel's command line only what concerns processors: the rest is the owner's.
    private static func machine() -> String {
        var name = utsname()
        uname(&name)
        func field<T>(_ value: T) -> String { withUnsafeBytes(of: value) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
        var lines = ["kernel: \(field(name.sysname)) \(field(name.release)) \(field(name.version)) \(field(name.machine))"]
        for line in (text("/etc/os-release") ?? "").split(separator: "\n") where line.hasPrefix("PRETTY_NAME=") { lines.append("system: \(line.dropFirst(12))") }
        let processors = (text("/proc/cpuinfo") ?? "").split(separator: "\n").filter { $0.hasPrefix("model name") }
        lines.append("processors: \(sysconf(Int32(_SC_NPROCESSORS_ONLN)))\(processors.first?.split(separator: ":").last.map { ",\($0)" } ?? "")")
        let told = ["isolcpus", "nohz_full", "rcu_nocbs", "mitigations", "hugepages", "iommu", "intel_iommu", "intel_idle", "processor"]
        lines.append("command line: " + (text("/proc/cmdline") ?? "").split(separator: " ").filter { word in told.contains { word.hasPrefix($0) } }.joined(separator: " "))
        for line in (text("/proc/meminfo") ?? "").split(separator: "\n") where ["MemTotal", "MemAvailable", "HugePages_"].contains(where: { line.hasPrefix($0) }) {
            lines.append(String(line))
        }
        lines.append("time zone: \(TimeZone.current.identifier), \(TimeZone.current.secondsFromGMT()) s from UTC")
        return lines.map { $0 + "\n" }.joined()
    }

    private static func port(_ name: String) -> String {
        guard let port = try? NetworkPort(name) else { return "\nport \(name): there is none\n" }
        let queues = port.queues, abilities = port.abilities
        var lines = ["", "port \(name): driver \(abilities.driver), \(abilities.xdp), MTU \(port.mtu), queues \(queues.now) of \(queues.most)"]
        for offload in [NetworkPort.Offload.rxVLAN, .rxServiceVLAN, .lro, .hardwareGRO, .gro] {
            if let isOn = port.offload(offload) { lines.append("  \(offload.rawValue): \(isOn ? "on" : "off")") }
        }
        for file in ["speed", "duplex", "operstate", "carrier_changes", "device/numa_node"] {
            if let value = text("/sys/class/net/\(name)/\(file)") { lines.append("  \(file): \(value)") }
        }
        let folder = "/sys/class/net/\(name)/statistics"
        for file in ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted() {
            if let value = text("\(folder)/\(file)"), value != "0" { lines.append("  \(file): \(value)") }
        }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func output(_ program: String, _ arguments: [String]) -> String? {
        guard access(program, X_OK) == 0 else { return nil }
        let process = Process(), pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return nil }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
    }
}
