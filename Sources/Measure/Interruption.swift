// Ctrl-C in the middle of a run: what was built is taken down before the program ends.

import Glibc
import Synchronization

public enum Interruption {
    private static let asked = Atomic<Bool>(false)

    /// From here on SIGINT and SIGTERM end the run at the next step; a second one ends the program at once.
    public static func watch() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                // Async-signal-safe: one store, and the default for the next.
                if Interruption.asked.exchange(true, ordering: .relaxed) { _exit(128 + number) }
            }
        }
    }

    static func check() throws(MeasureError) {
        if asked.load(ordering: .relaxed) { throw MeasureError("measuring was interrupted; what was built has been taken down") }
    }
}
