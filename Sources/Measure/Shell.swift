// Other programs: run to their end, or kept running as a peer.

import Foundation
import Glibc

enum Shell {
    /// Where a program is, or nil.
    static func find(_ program: String) -> String? {
        if program.contains("/") { return access(program, X_OK) == 0 ? program : nil }
        // Administrators' programs are not in everybody's PATH.
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        return path.split(separator: ":").map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }

    /// Runs a command and returns what it printed.
    @discardableResult
    static func run(_ command: [String], input: String? = nil) throws(MeasureError) -> String {
        let process = try make(command)
        let output = Pipe(), errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        // A file, not a pipe: a ruleset is larger than a pipe holds, and nobody would be reading its answer meanwhile.
        let inputFile = try input.map { (text: String) throws(MeasureError) -> FileHandle in try temporary(text) }
        process.standardInput = inputFile ?? FileHandle.nullDevice
        do {
            try process.run()
        } catch {
            throw MeasureError("running \(command.joined(separator: " ")): \(error.localizedDescription)")
        }
        let printed = output.fileHandleForReading.readDataToEndOfFile()
        let complained = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let said = String(decoding: complained.isEmpty ? printed : complained, as: UTF8.self)
                .trimmingCharacters(in: .whitespacesAndNewlines).prefix(600)
            throw MeasureError("running \(command.joined(separator: " ")): exit status \(process.terminationStatus): \(said)")
        }
        return String(decoding: printed, as: UTF8.self)
    }

    static func make(_ command: [String]) throws(MeasureError) -> Process {
        guard let path = find(command[0]) else { throw MeasureError("running \(command[0]), which is not installed") }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = Array(command.dropFirst())
        return process
    }

    private static func temporary(_ text: String) throws(MeasureError) -> FileHandle {
        let path = NSTemporaryDirectory() + "sekisho-\(UUID().uuidString)"
        defer { unlink(path) }
        do {
            try text.write(toFile: path, atomically: false, encoding: .utf8)
            return try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        } catch {
            throw MeasureError(writing: path, error)
        }
    }
}

/// A program that runs for as long as this object lives.
final class Companion {
    private let process: Process
    private let log: String
    let name: String

    /// - Parameter log: a file that gets everything it prints.
    init(_ name: String, _ command: [String], log: String, environment: [String: String] = [:]) throws(MeasureError) {
        self.name = name
        self.log = log
        process = try Shell.make(command)
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        let handle = FileHandle(forWritingAtPath: log) ?? .nullDevice
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        if !environment.isEmpty {
            process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        }
        do {
            try process.run()
        } catch {
            throw MeasureError("starting \(name): \(error.localizedDescription)")
        }
    }

    var pid: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }
    var printed: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Waits until `isReady`, or says what the program printed.
    func wait(seconds: Double = 20, until isReady: () -> Bool) throws(MeasureError) {
        let deadline = Date().addingTimeInterval(seconds)
        while !isReady() {
            guard process.isRunning, Date() < deadline else {
                let tail = printed.split(separator: "\n").suffix(4).joined(separator: " | ")
                throw MeasureError("\(name) \(process.isRunning ? "is not ready after \(Int(seconds)) s" : "has ended"): \(tail)")
            }
            usleep(50_000)
        }
    }

    /// Takes it off its processor, and lets it go on: whoever polls would otherwise take the others' time.
    func pause() { kill(pid, SIGSTOP) }
    func resume() { kill(pid, SIGCONT) }

    func stop() {
        guard process.isRunning else { return }
        resume()
        process.terminate()
        let deadline = Date().addingTimeInterval(5)
        while process.isRunning, Date() < deadline { usleep(20_000) }
        if process.isRunning { kill(pid, SIGKILL) }
        process.waitUntilExit()
    }

    deinit { stop() }
}
