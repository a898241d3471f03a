// Whether somebody looks for what is not there: Threshold Random Walk over first contacts (J. Jung et al., "Fast portscan detection
// using sequential hypothesis testing", IEEE S&P 2004), with the thresholds its authors and Zeek use.

import Foundation

/// One client's first contacts, each one step: up where it failed, down where it was answered. Four failures in a row suffice.
package struct RandomWalk: Sendable {
    /// Of the contacts of an honest client so many are answered, of a scanner's so many.
    private static let (benign, scan) = (0.8, 0.2)
    /// Detected with a probability of 0.99, by mistake with 0.01.
    private static let (detected, cleared) = (log(0.99 / 0.01), log(0.01 / 0.99))

    private var sum = 0.0
    /// When the failures began that it stands by, and its last step, ns since 1970.
    package private(set) var since: UInt64
    package private(set) var last: UInt64

    package init(at time: UInt64) { (since, last) = (time, time) }

    /// - Parameter halfLife: seconds after which a step counts half; nil: never.
    package mutating func add(failed: Bool, at time: UInt64, halfLife: Double? = nil) {
        if let halfLife, time > last { sum *= exp2(-Double(time - last) / 1e9 / halfLife) }
        last = max(last, time)
        // Hardly anything may be left of what was long ago.
        if failed, sum <= 0 || halfLife != nil && sum < 0.1 { since = time }
        sum += failed ? log((1 - Self.scan) / (1 - Self.benign)) : log(Self.scan / Self.benign)
        // Who was cleared may yet turn.
        sum = max(sum, Self.cleared)
    }

    package var isScan: Bool { sum >= Self.detected }
}
