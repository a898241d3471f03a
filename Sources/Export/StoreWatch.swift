// Whether the files that were opened are still those in the state directory: who reads a file that was moved away hears nothing any more.

import Baseline
import Glibc
import Synchronization

final class StoreWatch: Sendable {
    private struct Identity: Equatable {
        var device: UInt64
        var file: UInt64

        /// nil: there is none, or it cannot be looked at.
        init?(_ path: String) {
            var found = stat()
            guard stat(path, &found) == 0 else { return nil }
            (device, file) = (UInt64(found.st_dev), UInt64(found.st_ino))
        }
    }

    /// As long as they are open, no other file can have these numbers.
    private let opened = Mutex<[String: Identity]>([:])

    /// Opens a store, and remembers which file it is.
    func opening<Store>(_ path: String, _ open: () throws(StateError) -> Store) throws(StateError) -> Store {
        // Where it is replaced in between, that is seen.
        let before = Identity(path)
        let store = try open()
        if let identity = before ?? Identity(path) {
            // Who opened it first has the older one.
            opened.withLock { if $0[path] == nil { $0[path] = identity } }
        }
        return store
    }

    /// A store in whose place there is another; one that is only missing may be about to come back.
    var replaced: String? {
        opened.withLock { $0 }.sorted { $0.key < $1.key }.first { path, identity in Identity(path).map { $0 != identity } ?? false }?.key
    }
}
