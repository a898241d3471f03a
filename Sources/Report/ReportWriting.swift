// What the written forms of a report have in common.

public struct ReportWriting: Sendable {
    public var language: ReportLanguage
    /// Rows that are written of a table; JSON has all.
    public var mostRows: Int

    public init(language: ReportLanguage = .english, mostRows: Int = 500) { (self.language, self.mostRows) = (language, mostRows) }

    func text(_ words: Words) -> String { words.text(language) }

    /// "2.1", by place in the list.
    static func numbers(_ sections: [ReportDocument.Section]) -> [String] {
        var main = 0, part = 0
        return sections.map { section in
            if section.level == 0 {
                (main, part) = (main + 1, 0)
                return "\(main)"
            }
            part += 1
            return "\(main).\(part)"
        }
    }

    func title(_ section: ReportDocument.Section, _ number: String, data: (String) -> String = { $0 }) -> String {
        "\(number) \(section.mark.isEmpty ? "" : data(ReportDocument.Cell.clean(section.mark)) + (language == .english ? ": " : "　"))\(data(text(section.title)))"
    }

    /// Rows to write, and how many are left out.
    func rows(_ table: ReportDocument.Table) -> (rows: ArraySlice<[ReportDocument.Cell]>, more: Int) {
        table.rows.count <= mostRows || table.rows.count - mostRows <= mostRows / 10 ? (table.rows[...], 0) : (table.rows.prefix(mostRows), table.rows.count - mostRows)
    }
}
