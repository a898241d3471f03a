// Who uses a state directory: whoever has a store of it open shares the lock, whoever puts other files in its place must be alone.
//
// The lock is on the directory itself (flock), so that nothing is left behind by a process that is killed.

import Glibc

public final class StateLock: Sendable {
    public enum Use: Sendable { case shared, alone }

    private let descriptor: Int32

    /// Held until it goes away. Where no lock can be had at all (a file system without), a store is opened without one.
    public init(directory: String, _ use: Use) throws(HistoryError) {
        descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            let code = errno
            // A store says itself what is wrong with its directory.
            if use == .shared { return }
            throw HistoryError(text: "opening the state directory \(directory): \(String(cString: strerror(code)))")
        }
        guard flock(descriptor, (use == .shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 else {
            let isTaken = errno == EWOULDBLOCK, code = errno
            if !isTaken, use == .shared { return }
            close(descriptor)
            guard isTaken else { throw HistoryError(text: "locking the state directory \(directory): \(String(cString: strerror(code)))") }
            throw HistoryError(
                text: use == .shared
                    ? "opening the state directory \(directory): it is being restored from a backup\n  → try again when that is done"
                    : "the state directory \(directory) is in use: a bridge records to it, or another command reads it\n  → stop the bridge first, then try again")
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }
}
