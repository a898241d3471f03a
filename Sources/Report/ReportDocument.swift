// A report as data, made once from the evidence; terminal, Markdown, HTML and JSON are written from it.

public struct ReportDocument: Sendable {
    public let kind: ReportKind
    public let title: Words
    /// What stands on the first page: which bridge, which time, which policy, which log.
    public var cover: [Fact]
    public var sections: [Section]

    /// One with a number; parts of one have a level of 1.
    public struct Section: Sendable {
        public let id: String
        /// nil: it has a name out of the evidence or a standard, which is the same in every language.
        public let title: Words
        /// Before the title: "E187.00-RQ-00003-00".
        public var mark = ""
        public var level = 0
        /// Begins a page on paper.
        public var beginsPage = false
        public var blocks: [Block]

        init(_ id: String, _ title: Words, mark: String = "", level: Int = 0, beginsPage: Bool = false, _ blocks: [Block]) {
            (self.id, self.title, self.mark, self.level, self.beginsPage, self.blocks) = (id, title, mark, level, beginsPage, blocks)
        }
    }

    public enum Block: Sendable {
        case paragraph(Words)
        /// What must not be overlooked.
        case note(Words)
        case list([Words])
        case facts([Fact])
        case table(Table)
        /// Numbers by day, drawn where one can draw: a table beside it has them.
        case days(Words, [(day: Int32, count: UInt64)])
    }

    public struct Fact: Sendable {
        public let name: Words
        public let value: Cell

        init(_ name: Words, _ value: Cell) { (self.name, self.value) = (name, value) }
    }

    public struct Column: Sendable {
        public enum Style: Sendable {
            case plain, number
            /// Text of some length: takes the room that others leave.
            case long
        }
        public let name: Words
        public let style: Style

        init(_ name: Words, _ style: Style = .plain) { (self.name, self.style) = (name, style) }
    }

    public struct Table: Sendable {
        public let id: String
        public let columns: [Column]
        public var rows: [[Cell]]
        /// Stands there if there are no rows.
        public let empty: Words

        init(_ id: String, _ columns: [Column], _ rows: [[Cell]], empty: Words = Phrase.nothing) {
            (self.id, self.columns, self.rows, self.empty) = (id, columns, rows, empty)
        }
    }

    /// A value, before it is written.
    public enum Cell: Sendable, Hashable {
        /// Not known, or there is none.
        case none
        /// To be filled in by a person.
        case blank
        /// Out of the evidence: anything may be in it.
        case text(String)
        /// An id, a hash, a command.
        case code(String)
        case words(Words)
        case number(UInt64)
        case flag(Bool)
        /// Nanoseconds since 1970.
        case time(UInt64)
        /// Days since 1970, UTC.
        case day(Int32)
        case seconds(Double)
        case list([Cell])
        /// A section of this report: its id, and its number.
        case section(String, number: String)
        /// Names out of the evidence, perhaps thousands: the first few are written, and how many more there are; JSON has all.
        case names([String], most: Int)
    }
}

public enum ReportKind: String, Sendable, CaseIterable {
    case e187, zones, coverage, unused
}

/// How far something is shown. Nothing is ever called fulfilled: that is for the assessor to say.
public enum Standing: String, Sendable, CaseIterable {
    case shown
    case partly = "in_part"
    case notEvidenced = "not_evidenced"

    var words: Words {
        switch self {
        case .shown: Phrase.standingShown
        case .partly: Phrase.standingPartly
        case .notEvidenced: Phrase.standingNot
        }
    }
}

extension ReportDocument.Cell {
    static func numbers(_ value: some BinaryInteger) -> Self { .number(UInt64(clamping: value)) }

    static func some(_ values: [String], most: Int = 8) -> Self { values.isEmpty ? .none : .names(values, most: most) }

    static func maybe(_ text: String?) -> Self { text.flatMap { $0.isEmpty ? nil : .text($0) } ?? .none }
    static func maybe(code: String?) -> Self { code.flatMap { $0.isEmpty ? nil : .code($0) } ?? .none }
    static func maybe(time: UInt64?) -> Self { time.flatMap { $0 == 0 ? nil : .time($0) } ?? .none }
}
