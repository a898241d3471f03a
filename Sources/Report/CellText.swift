// Values as a person reads them.

import Policy

extension ReportDocument.Cell {
    /// - Parameter data: what is done to text out of the evidence, so that it stays text.
    func written(_ language: ReportLanguage, data: (String) -> String = { $0 }, words: (String) -> String = { $0 }) -> String {
        switch self {
        case .none: return "–"
        case .blank: return ""
        case .text(let text), .code(let text): return data(Self.clean(text))
        case .words(let phrase): return words(phrase.text(language))
        case .number(let number): return PeopleFormat.grouped(number)
        case .flag(let flag): return words((flag ? Phrase.yes : Phrase.no).text(language))
        case .time(let nanoseconds): return Self.time(nanoseconds)
        case .day(let day): return Self.day(day)
        case .seconds(let seconds): return words(Phrase.duration(seconds).text(language))
        case .list(let cells):
            let separator = language == .english ? ", " : "、"
            return cells.isEmpty ? "–" : cells.map { $0.written(language, data: data, words: words) }.joined(separator: separator)
        case .section(_, let number): return number
        case .names(let names, let most):
            // One more is shorter than saying that there is one.
            let isAll = names.count <= most + 1
            let shown: [Self] = (isAll ? names[...] : names.prefix(most)).map { .text($0) }
            return Self.list(shown + (isAll ? [] : [.words(Phrase.more(names.count - most))])).written(language, data: data, words: words)
        }
    }

    /// Nothing in a name may move the cursor, turn the direction of reading, or end the line.
    static func clean(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { scalar in
            switch scalar.value {
            case 0x09, 0x0A, 0x0D, 0x2028, 0x2029: " "
            case 0..<0x20, 0x7F...0x9F, 0xAD, 0x61C, 0x180E, 0x200B...0x200F, 0x202A...0x202E, 0x2060...0x2069, 0xFEFF, 0xFFF9...0xFFFB, 0xE0000...0xE007F: "\u{FFFD}"
            default: scalar
            }
        }))
    }

    static func time(_ nanoseconds: UInt64) -> String { PolicyExport.written(Int64(nanoseconds / 1_000_000_000)) }
    static func day(_ day: Int32) -> String { String(PolicyExport.written(Int64(day) * 86_400).prefix(10)) }
}
