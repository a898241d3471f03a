// How much of what a device normally does has been seen: a number with a bound, and what is still missing.
//
// Connections are no independent samples: a host polls a thousand times a day and is backed up once a week. So the samples are
// blocks of time (days; hours, where there are few days). What was seen in one block only tells of what was seen in none:
//
//   unseen share   Good–Turing over blocks: of a block's connections, those of conversations seen in no other block (I. J. Good,
//                  Biometrika 1953; blocks left out one at a time, so that what comes in bursts counts as one event)
//   still to come  Chao2 (A. Chao, Biometrics 1987): S + (B−1)/B · Q1 (Q1 − 1) / 2 (Q2 + 1), from how many were seen in one and in two blocks

import Foundation
import Frames

public struct Completeness: Sendable {
    public enum Block: String, Sendable { case day, hour }

    public var block: Block
    public var blocks: Int
    public var conversations: Int
    /// Of the next week's connections, those of conversations that have not been seen; with the upper end of its 95 % interval.
    public var unseenShare: Double
    public var unseenBound: Double
    /// The same as connections a week, at most (95 %).
    public var surprisesBound: Double
    /// Conversations not seen yet, with the upper end of their 95 % interval.
    public var expected: Double
    /// nil: one block says nothing about others.
    public var expectedBound: Double?
    /// Hours of the week, of 168, in local time.
    public var hoursOfWeek: Set<Int>
    /// Whole days between the first and the last observation.
    public var spanDays: Double
    /// New conversations by block, in order: the curve that has to become flat.
    public var newByBlock: [Int]

    /// What must be done or awaited before it may be called complete; empty: it is.
    public func missing(_ limits: Limits = Limits()) -> [String] {
        var missing: [String] = []
        if blocks == 0 { return ["nothing was observed"] }
        if spanDays < limits.days { missing.append("\(Self.number(limits.days)) days of observation (so far \(Self.number(spanDays)))") }
        let names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
        let days = names.indices.filter { day in !(0..<24).contains { hoursOfWeek.contains(day * 24 + $0) } }
        if !days.isEmpty, spanDays >= 1 { missing.append("a \(days.map { names[$0] }.joined(separator: ", a "))") }
        let shifts = [("early", 6..<14), ("late", 14..<22), ("night", 22..<30)].filter { shift in
            !(0..<7).contains { day in shift.1.contains { hoursOfWeek.contains((day * 24 + $0) % 168) } }
        }
        if !shifts.isEmpty { missing.append("the \(shifts.map(\.0).joined(separator: " and the ")) shift") }
        // Of a device that says little even one new connection is a large share.
        if unseenBound > limits.unseenShare, surprisesBound > limits.surprises {
            missing.append(
                "fewer surprises: up to \(Self.share(unseenBound)) of the next week's connections may be new, \(Self.number(surprisesBound.rounded(.up))) of them (limit: "
                    + "\(Self.share(limits.unseenShare)), or \(Self.number(limits.surprises)))")
        }
        if let expectedBound, expectedBound >= Double(max(1, conversations)) * 0.05 + 1 {
            missing.append("up to \(Int(min(expectedBound, 1e9).rounded(.up))) conversations that have not shown themselves yet")
        }
        return missing
    }

    public func isComplete(_ limits: Limits = Limits()) -> Bool { missing(limits).isEmpty }

    /// What has to hold before learning is called complete.
    public struct Limits: Sendable {
        public var unseenShare = 0.001
        /// New connections a week; enough even where the share is larger.
        public var surprises = 2.0
        public var days = 7.0
        public init() {}
    }

    static func number(_ value: Double) -> String { value >= 10 || value == value.rounded() ? String(Int(min(value, 1e15))) : String(format: "%.1f", value) }

    public static func share(_ share: Double) -> String {
        if share <= 0 { return "0 %" }
        return share < 0.000_01 ? "< 0.001 %" : String(format: share < 0.001 ? "%.3f %%" : share < 0.1 ? "%.2f %%" : "%.0f %%", share * 100)
    }

    /// When anything was observed at all: the same for every device.
    public struct ObservedTime: Sendable {
        let block: Block
        /// Of each block, by its number since 1970: which it is.
        let places: [Int64: Int]
        let hoursOfWeek: Set<Int>
        let spanDays: Double

        /// - Parameters:
        ///   - hours: since 1970, in order.
        ///   - zone: of the plant, for shifts and weekdays.
        public init(_ hours: [Int64], zone: TimeZone = .current) {
            let days = Set(hours.map { $0 / 24 })
            block = days.count >= 5 ? .day : .hour
            hoursOfWeek = Set(hours.map { Completeness.hourOfWeek($0, zone) })
            // Of a clock that jumped only what was really observed.
            spanDays = min(Double(days.count), hours.isEmpty ? 0 : Double(hours.last! - hours.first! + 1) / 24)
            var places: [Int64: Int] = [:]
            for (place, name) in (block == .day ? days.sorted() : hours).enumerated() { places[name] = place }
            self.places = places
        }
    }

    /// Of what says something about what is normal, among these conversations.
    public init(_ history: History, _ review: Review, _ places: some Sequence<Int>, _ time: ObservedTime) {
        self.init(places.filter { review.isEvidence($0) }.map { history.conversations[$0] }, time)
    }

    /// - Parameter conversations: those that are asked about.
    public init(_ conversations: [RecordedConversation], _ time: ObservedTime) {
        block = time.block
        blocks = time.places.count
        hoursOfWeek = time.hoursOfWeek
        spanDays = time.spanDays
        self.conversations = conversations.count
        let places = time.places
        var inAll = [Double](repeating: 0, count: blocks), alone = inAll
        var newByBlock = [Int](repeating: 0, count: blocks)
        var once = 0, twice = 0
        var rare: [Double] = []
        for one in conversations {
            var seen: [(place: Int, weight: Double)] = []
            for day in one.days {
                if block == .day {
                    // A session that lives for days opens nothing on most of them, and would be cut all the same.
                    if let place = places[Int64(day.day)] { seen.append((place, Double(max(1, day.connections)))) }
                } else {
                    for hour in day.hourNumbers {
                        if let place = places[hour] { seen.append((place, 1)) }
                    }
                }
            }
            guard let first = seen.first else { continue }
            newByBlock[first.place] += 1
            for (place, weight) in seen { inAll[place] += weight }
            if seen.count == 1 {
                once += 1
                alone[first.place] += first.weight
            } else if seen.count == 2 {
                twice += 1
            }
            if seen.count <= 2 { rare.append(contentsOf: seen.map(\.weight)) }
        }
        self.newByBlock = newByBlock
        (unseenShare, unseenBound) = Self.goodTuring(alone, inAll, rare: rare.sorted(), ahead: block == .day ? 7 : 24)
        surprisesBound = inAll.isEmpty ? 0 : unseenBound * inAll.reduce(0, +) / Double(inAll.count) * (block == .day ? 7 : 168)
        (expected, expectedBound) = Self.chao(once, twice, blocks)
    }

    /// - Parameter hour: since 1970.
    /// - Returns: 0…167, Monday 0 o'clock first.
    static func hourOfWeek(_ hour: Int64, _ zone: TimeZone) -> Int {
        let offset = zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(hour) * 3600))
        // 1970 began on a Thursday.
        return Int((hour + Int64(offset / 3600) + 72) % 168)
    }

    /// - Parameters:
    ///   - alone: by block, connections of conversations seen in no other.
    ///   - ahead: blocks that the interval is for.
    private static func goodTuring(_ alone: [Double], _ inAll: [Double], rare: [Double], ahead: Int) -> (Double, Double) {
        let total = inAll.reduce(0, +), count = Double(inAll.count)
        guard total > 0 else { return (1, 1) }
        guard count >= 2 else { return (1, 1) }
        let share = alone.reduce(0, +) / total
        // Nothing was seen once only: at least so many blocks would have shown it, had it been likely (1 − 0.05^(1/B) is "3/B").
        let typical = rare.isEmpty ? 1 : rare[rare.count / 2]
        let floor = (1 - pow(0.05, 1 / count)) * min(1, typical * count / total)
        // Ratio estimator: blocks differ in size. The next blocks scatter as those before them did.
        let mean = total / count
        let spread = zip(alone, inAll).reduce(0) { $0 + ($1.0 - share * $1.1) * ($1.0 - share * $1.1) } / (count - 1)
        let bound = share + studentT(Int(count) - 1) * (spread * (1 / count + 1 / Double(ahead))).squareRoot() / mean
        return (min(share, 1), min(1, max(bound, floor)))
    }

    private static func chao(_ once: Int, _ twice: Int, _ blocks: Int) -> (Double, Double?) {
        guard blocks >= 2 else { return (0, nil) }
        let a = Double(blocks - 1) / Double(blocks), q1 = Double(once), q2 = Double(twice)
        let more = a * q1 * (q1 - 1) / (2 * (q2 + 1))
        // Variance of the bias-corrected form, and the log-normal interval of Chao 1987.
        let variance =
            a * q1 * (q1 - 1) / (2 * (q2 + 1)) + a * a * q1 * (2 * q1 - 1) * (2 * q1 - 1) / (4 * (q2 + 1) * (q2 + 1))
            + a * a * q1 * q1 * q2 * (q1 - 1) * (q1 - 1) / (4 * pow(q2 + 1, 4))
        guard more > 0 else { return (0, q1 > 0 ? 1 : 0) }
        return (more, more * exp(1.96 * log(1 + max(0, variance) / (more * more)).squareRoot()))
    }

    /// 97.5 % point of Student's t.
    static func studentT(_ degrees: Int) -> Double {
        let table = [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
        if degrees < 1 { return .infinity }
        return degrees <= table.count ? table[degrees - 1] : 1.96 + 2.4 / Double(degrees)
    }
}
