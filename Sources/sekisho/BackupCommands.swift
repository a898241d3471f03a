import ArgumentParser
import Baseline
import Control
import Foundation
import Glibc

struct Backup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copy the state directory into one file, while the bridge goes on writing to it.",
        discussion: """
            Holds every store of the directory, each as it was at one moment, with its SHA-256; a tar file, readable by its owner only. \
            'sekisho restore' puts it back.
            """)

    @Option(help: "State directory.") var state: String
    @Option(name: .shortAndLong, help: ArgumentHelp("File to write.", valueName: "file")) var output: String
    @Option(help: ArgumentHelp("Policy file that goes with it.", valueName: "file")) var policy: String?
    @Flag(help: "Print JSON: what is in it.") var json = false

    func run() throws {
        let policy = try policy.map { (path: $0, text: try PolicyFile.text($0)) }
        // The copies are as secret as what they are copied from, and need as much room.
        let scratch = ScratchFolder(beside: output)
        guard let scratch else { throw OutputFile.failed(output, errno) }
        let file = try OutputFile(output, mode: 0o600)
        let (manifest, leftOut) = try reportingErrors {
            try StateBackup.make(of: state, policy: policy, scratch: scratch.path, version: Sekisho.configuration.version) { file.write($0) }
        }
        try file.finish()
        for name in leftOut { Output.error("warning: \(Output.printable(name)) is another program's database and was left out") }
        if json { return try Output.json(manifest) }
        print("\(output): \(manifest.files.count) files of \(state)\n" + manifest.table)
    }
}

struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put a backup of a state directory back.",
        discussion: """
            All of it is checked before anything is changed; what is there already is moved aside with --force, never deleted. The bridge \
            that records to the directory must be stopped.
            """)

    @Argument(help: "File that 'sekisho backup' made.") var file: String
    @Option(help: "State directory; made if it is not there.") var state: String
    @Option(help: ArgumentHelp("Write the policy file that is in it here.", valueName: "file")) var policy: String?
    @Flag(help: "Also where there is something already: that is moved into a folder beside it.") var force = false

    func run() throws {
        if let policy {
            try OutputFile.check(policy)
            if !force, access(policy, F_OK) == 0 {
                Output.error("error: \(policy) is there already; nothing was changed\n  → --force replaces it, or give another name")
                throw Exit.failed
            }
        }
        let restored = try reportingErrors { try StateBackup.restore(file, to: state, replaces: force) }
        let made = restored.manifest
        print("\(state): restored what was backed up at \(Output.time(UInt64(max(0, made.created.timeIntervalSince1970)) * 1_000_000_000)) by version \(Output.printable(made.sekishoVersion))\n" + made.table)
        if let before = restored.before { print("what was there before is in \(before)") }
        if let policy {
            guard let text = restored.policy else {
                Output.error("error: there is no policy file in \(file); the state is restored")
                throw Exit.failed
            }
            try OutputFile.write(text, to: policy)
            print("\(policy): the policy file of the backup")
        } else if restored.policy != nil {
            print("the policy file in it was left there; --policy FILE writes it, or: tar -xOf \(file) policy.toml")
        }
    }
}

struct Prune: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take old days out of the history, for good.",
        discussion: """
            In small pieces, while the bridge goes on writing. Decisions, names of times, and what was learnt from stay. A running bridge does \
            the same by itself: sekisho run --keep-days. The file does not become smaller; its room is used again.
            """)

    @Option(help: "State directory.") var state: String
    @Option(help: ArgumentHelp("Days (UTC) before the one of this time go: 2026-11-24, or 2026-11-24T06:00, with Z for UTC.", valueName: "time"))
    var before: Moment
    @Flag(help: "Print JSON.") var json = false

    struct Report: Encodable {
        var before: String
        var days: Int
        var conversations: Int
        var addresses: Int
    }

    func validate() throws {
        guard Double(before.nanoseconds) / 1e9 <= Date().timeIntervalSince1970 else {
            throw ValidationError("--before \(before.text) has not come yet: that would be all there is")
        }
    }

    func run() throws {
        var pruning = Pruning(before: Int32(before.nanoseconds / 86_400_000_000_000))
        do throws(HistoryError) {
            let store = try HistoryStore(directory: state, mayMake: false)
            while !pruning.isDone {
                let begin = ContinuousClock().now
                guard try store.prune(&pruning) else { continue }
                // Whoever records comes first: it asks again after milliseconds.
                let took = begin.duration(to: .now).components
                usleep(UInt32(clamping: max(5000, 2 * (took.seconds * 1_000_000 + took.attoseconds / 1_000_000_000_000))))
            }
        } catch { throw HistoryOptions.failed(error) }
        let report = Report(
            before: Output.day(pruning.before), days: pruning.days, conversations: pruning.conversations, addresses: pruning.addresses)
        if json { return try Output.json(report) }
        print(
            "\(state): before \(report.before), \(Output.grouped(report.days)) days of conversations taken out; \(Output.grouped(report.conversations)) conversations "
                + "and \(Output.grouped(report.addresses)) uses of addresses are gone altogether")
    }
}

/// Prints what modules below say of failures.
func reportingErrors<T>(_ body: () throws -> T) throws -> T {
    do { return try body() } catch let error as ExitCode { throw error } catch {
        Output.error("error: \(error)")
        throw Exit.failed
    }
}

extension ArchiveManifest {
    var table: String {
        Output.table(files.map { [Output.printable($0.name), Output.bytes($0.bytes), Output.printable($0.about)] }, header: ["file", "size", "what"], numbers: [1])
    }
}

/// A folder of our own that goes away with this.
final class ScratchFolder {
    let path: String

    /// - Parameter file: on whose disk it is to be. nil: errno says why not.
    init?(beside file: String) {
        let folder = (file as NSString).deletingLastPathComponent
        var template = Array("\(folder.isEmpty ? "." : folder)/.sekisho-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { return nil }
        path = String(cString: made)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
