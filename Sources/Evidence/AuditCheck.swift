// Whether an audit log, or an export of one, is what was written.

import Baseline
import Foundation

public struct AuditCheck: Sendable {
    public struct Problem: Sendable {
        /// The event where it was seen; nil: the log as a whole.
        public var number: Int64?
        public var text: String
    }

    /// Where the expected head was found.
    public enum Anchor: Sendable, Equatable {
        case isHead
        /// So many events have come since.
        case isEarlier(number: Int64, since: Int64)
        case isMissing
    }

    public private(set) var events: Int64 = 0
    /// The last event's hash.
    public private(set) var head = noHash
    /// Of the first and the last event, microseconds since 1970.
    public private(set) var first: Int64?
    public private(set) var last: Int64?
    /// The first of them.
    public private(set) var problems: [Problem] = []
    public private(set) var problemCount = 0
    /// nil: none was expected.
    public private(set) var anchor: Anchor?

    public var isIntact: Bool { problemCount == 0 && anchor != .isMissing }

    private let expected: String?
    private var number: Int64 = 0
    private var anchorNumber: Int64?
    private static let mostProblems = 20

    /// - Parameter expected: a head that was noted somewhere else.
    public init(_ store: AuditStore, expecting expected: String? = nil) throws(StateError) {
        self.init(expected)
        let schema = try store.schemaNow()
        if schema != Set(AuditStore.schema) { complain(nil, "its tables or triggers are not as Sekisho makes them") }
        let texts = try store.texts()
        for hash in texts.filter({ !$0.value }).keys.sorted() { complain(nil, "the text of the policy \(hash.prefix(16))… is not what was written") }
        var check = self
        try store.forEachStored { stored, hash in
            check.take(stored, hash)
            if stored.type.elementsEqual(AuditType.policyApplied.rawValue.utf8) {
                let record = stored.record(hash: hash)
                if let text = record.fields["sha256"], texts[text] == nil { check.complain(stored.number, "the text of its policy is missing") }
            }
        }
        check.finish()
        self = check
    }

    /// An export: one event a line.
    public init(export text: Data, expecting expected: String? = nil) {
        self.init(expected)
        struct Line: Decodable {
            var category: String
            var description: String
            var fields: [String: String]
            var hash: String
            var number: Int64
            var previous: String
            var time: Int64
            var type: String
            var who: String
        }
        var lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() } else { complain(nil, "the last line is cut off") }
        let decoder = JSONDecoder()
        for (index, line) in lines.enumerated() {
            guard let read = try? decoder.decode(Line.self, from: line) else {
                complain(nil, "line \(index + 1) is no event")
                continue
            }
            let stored = StoredEvent(
                number: read.number, time: Array("\(read.time)".utf8), category: Array(read.category.utf8), type: Array(read.type.utf8),
                description: Array(read.description.utf8), who: Array(read.who.utf8), fields: CanonicalJSON.object(read.fields))
            let previous = head
            take(stored, read.hash)
            if read.number == number, !line.elementsEqual(stored.canonical(previous: previous, hash: read.hash)) {
                complain(read.number, "line \(index + 1) is not written as Sekisho writes it")
            }
        }
        finish()
    }

    private init(_ expected: String?) { self.expected = expected?.lowercased() }

    private mutating func take(_ stored: StoredEvent, _ hash: String) {
        events += 1
        if stored.number == number + 1 {
            if stored.digest(previous: head).hex != hash {
                complain(stored.number, "it is not what was written, or what stands before it is not")
            }
        } else if stored.number > number + 1 {
            complain(
                stored.number,
                number + 2 == stored.number ? "event \(number + 1) is missing before it" : "events \(number + 1) to \(stored.number - 1) are missing before it")
        } else {
            complain(stored.number, "its number comes after \(number)")
        }
        number = stored.number
        head = hash
        if hash == expected { anchorNumber = number }
        let time = Int64(String(decoding: stored.time, as: UTF8.self))
        if first == nil { first = time }
        last = time
    }

    private mutating func finish() {
        guard let expected else { return }
        if head == expected {
            anchor = .isHead
        } else if let found = anchorNumber {
            anchor = .isEarlier(number: found, since: number - found)
        } else {
            anchor = .isMissing
        }
    }

    private mutating func complain(_ number: Int64?, _ text: String) {
        problemCount += 1
        if problems.count < Self.mostProblems { problems.append(Problem(number: number, text: text)) }
    }
}
