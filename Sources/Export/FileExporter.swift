// Messages as lines of a file, or on the standard output: for whatever reads lines.

import Glibc

actor FileExporter: Exporter {
    nonisolated let destination: String
    nonisolated let hasConnection = true

    private let path: String
    private let format: MessageFormat
    private let syslog: SyslogFormat
    private let cef: CEFFormat
    private var file: Int32 = -1
    private var sequence: UInt32 = 0
    private var taken = 0
    private var isWriting = false
    private var mustReopen = false
    /// The last line was not written to its end.
    private var isMidLine = false

    init(_ options: FileOptions, version: String) {
        (path, format) = (options.path, options.format)
        destination = options.path == "-" ? "standard output" : options.path
        syslog = SyslogFormat(longest: 65_536, version: version)
        cef = CEFFormat(version: version)
    }

    func open() throws(DeliveryFailure) {
        guard file < 0 else { return }
        // A pipe that nobody reads is an error, not a wait.
        file = path == "-" ? dup(1) : Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
        guard file >= 0 else {
            let code = errno
            throw DeliveryFailure("opening \(path): \(String(cString: strerror(code)))")
        }
        // A file itself says how it ends, also where another process had begun a line.
        var facts = stat()
        guard fstat(file, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { return }
        if let last = Self.lastOctet(of: file, facts.st_size) { isMidLine = last != 10 } else if facts.st_size == 0 { isMidLine = false }
    }

    /// nil: there is none, or it cannot be read. The file is open for writing only.
    private static func lastOctet(of file: Int32, _ size: Int) -> UInt8? {
        guard size > 0 else { return nil }
        let same = Glibc.open("/proc/self/fd/\(file)", O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard same >= 0 else { return nil }
        defer { Glibc.close(same) }
        var octet: UInt8 = 0
        return pread(same, &octet, 1, size - 1) == 1 ? octet : nil
    }

    func send(_ messages: [FeedMessage]) async throws(DeliveryFailure) -> Handover {
        var count = 0
        for message in messages {
            do throws(DeliveryFailure) { try await write(line(message)) } catch {
                // What is in the file already is not written again; the next attempt says what is wrong.
                guard count > 0 else { throw error }
                break
            }
            count += 1
            taken += 1
            // What is in the file is remembered before much more is.
            if count == 64 { break }
        }
        return Handover(count: count)
    }

    private func line(_ message: FeedMessage) -> [UInt8] {
        switch format {
        case .json: return JSONFormat.bytes(message) + [10]
        case .cef: return cef.bytes(message, longest: .max) + [10]
        case .rfc5424:
            sequence = sequence >= 0x7FFF_FFFF ? 1 : sequence + 1
            return syslog.bytes(message, sequence: sequence) + [10]
        }
    }

    private func write(_ line: [UInt8]) async throws(DeliveryFailure) {
        if mustReopen { closeFile() }
        try open()
        isWriting = true
        // An empty line rather than half of one before the next.
        let line = isMidLine ? [10] + line : line
        let before = lseek(file, 0, SEEK_END)
        var done = 0
        defer {
            isWriting = false
            // Half a line would spoil the next.
            if done == line.count { isMidLine = false } else if done > 0, before < 0 || ftruncate(file, before) != 0 { isMidLine = line[done - 1] != 10 }
        }
        var deadline = ContinuousClock.now + .seconds(10)
        while done < line.count {
            var wanted = pollfd(fd: file, events: Int16(POLLOUT), revents: 0)
            let isReady = poll(&wanted, 1, 0) > 0
            // No more than a pipe that is ready takes without waiting.
            let count = isReady ? line[done...].prefix(4096).withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) } : 0
            if count > 0 {
                done += count
                deadline = .now + .seconds(10)
                continue
            }
            let code = errno
            if count < 0, code != EAGAIN, code != EINTR {
                throw DeliveryFailure("writing to \(destination): \(String(cString: strerror(code)))")
            }
            guard ContinuousClock.now < deadline else { throw DeliveryFailure("writing to \(destination): nobody takes it for 10 s") }
            do { try await Task.sleep(for: .milliseconds(20)) } catch { throw DeliveryFailure("ended") }
        }
    }

    func confirmed() -> Int {
        defer { taken = 0 }
        return taken
    }

    func close() -> Int {
        closeFile()
        return confirmed()
    }

    /// The file may have been moved away. A line that is being written is ended where it was begun.
    func reopen() {
        guard path != "-" else { return }
        if isWriting { mustReopen = true } else { closeFile() }
    }

    private func closeFile() {
        if file >= 0 { Glibc.close(file) }
        (file, mustReopen) = (-1, false)
    }
}
