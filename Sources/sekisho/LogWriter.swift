// The bridge's log, on standard error. Nobody who logs waits for whoever reads: a pipe may be full, a disk too.

import CLinux
import Foundation
import Glibc
import Logging

/// Lines that wait, and the thread that writes them.
final class LogWriter: @unchecked Sendable {
    // Unchecked: `changed` guards all of it.
    private let changed = NSCondition()
    private var waiting: [String] = []
    private var bytes = 0
    private var isWriting = false
    private var hasThread = false
    /// Lines that could not be written, and why.
    private var lost: UInt64 = 0
    private var reason = ""

    /// What waits at the most; the newest lines are lost beyond that, for the oldest say how it began.
    private static let mostBytes = 256 << 10
    /// How long the end waits for what is not written, in milliseconds.
    private static let patience = 1000

    /// - Parameter isLast: said before the end; it waits whatever there is.
    func write(_ line: String, isLast: Bool = false) {
        changed.lock()
        defer { changed.unlock() }
        // Not before: threads inherit which signals are blocked, and the daemon blocks them first.
        if !hasThread {
            hasThread = true
            Thread.detachNewThread { [self] in run() }
        }
        guard isLast || bytes + line.utf8.count <= Self.mostBytes else {
            lost += 1
            reason = "nobody took them"
            return
        }
        bytes += line.utf8.count
        waiting.append(line + "\n")
        changed.broadcast()
    }

    /// Returns when all is written, or could not be for a while.
    func finish() {
        for _ in 0..<Self.patience / 5 {
            changed.lock()
            let isDone = !isWriting && waiting.isEmpty && lost == 0
            changed.unlock()
            if isDone { return }
            usleep(5000)
        }
    }

    private func run() {
        clinux_name_thread("sekisho-log")
        // It needs none.
        _ = clinux_keep_capabilities(0)
        // The last write failed, maybe in the middle of a line.
        var isBroken = false
        while true {
            if isBroken { usleep(200_000) }
            changed.lock()
            while waiting.isEmpty && lost == 0 { changed.wait() }
            let lines = waiting
            (waiting, bytes, isWriting) = ([], 0, true)
            var (missing, why) = (lost, reason)
            lost = 0
            changed.unlock()
            // Off the workers' processors, once they have theirs.
            _ = clinux_follow_first_thread()
            // That something is missing is said even if nothing follows.
            for line in lines.isEmpty ? [""] : lines {
                let note = missing == 0 ? "" : "\(isBroken ? "\n" : "")\(timestamp()) warning sekisho: \(missing) lines of the log are missing here: \(why)\n"
                let code = writeAll(Array((note + line).utf8), to: STDERR_FILENO)
                isBroken = code != 0
                if code == 0 {
                    missing = 0
                } else {
                    missing += line.isEmpty ? 0 : 1
                    why = "\(String(cString: clinux_errno_name(code))) (\(String(cString: strerror(code))))"
                }
            }
            changed.lock()
            isWriting = false
            if missing > 0 {
                lost += missing
                reason = why
            }
            changed.broadcast()
            changed.unlock()
        }
    }
}

/// "2026-11-25T16:52:37+0000".
private func timestamp() -> String {
    var now = time(nil), local = tm()
    var text = [CChar](repeating: 0, count: 64)
    guard localtime_r(&now, &local) != nil else { return "\(now)" }
    let length = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S%z", &local)
    return String(decoding: text[0..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// As swift-log's own handler writes lines, by a `LogWriter`.
struct LineLogHandler: LogHandler {
    let label: String
    let writer: LogWriter
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        writer.write("\(timestamp()) \(event.level) \(label): [\(event.source)] \(event.message)")
    }
}
