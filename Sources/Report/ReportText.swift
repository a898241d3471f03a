// A report for a terminal: columns line up, what is long is broken within its column.

extension ReportWriting {
    private static let lineWidth = 118
    private static let indent = 2

    public func terminal(_ document: ReportDocument) -> String {
        var lines = [text(document.title), String(repeating: "=", count: DisplayWidth.of(text(document.title))), ""]
        lines += facts(document.cover)
        for (section, number) in zip(document.sections, Self.numbers(document.sections)) {
            let title = title(section, number)
            lines += ["", title, String(repeating: section.level == 0 ? "-" : "·", count: min(Self.lineWidth, DisplayWidth.of(title)))]
            for block in section.blocks {
                switch block {
                case .paragraph(let words): lines += DisplayWidth.wrapped(text(words), Self.lineWidth)
                case .note(let words): lines += hanging("! ", text(words))
                case .list(let all): lines += all.flatMap { hanging("- ", text($0)) }
                case .facts(let all): lines += facts(all)
                case .table(let one): lines += table(one)
                case .days: continue
                }
                lines.append("")
            }
            if lines.last == "" { lines.removeLast() }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func hanging(_ mark: String, _ text: String) -> [String] {
        DisplayWidth.wrapped(text, Self.lineWidth - mark.count).enumerated().map { ($0.offset == 0 ? mark : String(repeating: " ", count: mark.count)) + $0.element }
    }

    private func facts(_ facts: [ReportDocument.Fact]) -> [String] {
        let names = facts.map { text($0.name) }
        let width = names.map(DisplayWidth.of).max() ?? 0
        return zip(facts, names).flatMap { fact, name in
            DisplayWidth.wrapped(fact.value.written(language), max(30, Self.lineWidth - width - 4)).enumerated().map { index, line in
                String(repeating: " ", count: Self.indent) + DisplayWidth.padded(index == 0 ? name : "", to: width) + "  " + line
            }
        }
    }

    private func table(_ table: ReportDocument.Table) -> [String] {
        if table.rows.isEmpty { return ["  " + text(table.empty)] }
        let (rows, more) = rows(table)
        let cells = [table.columns.map { text($0.name) }] + rows.map { $0.map { $0.written(language) } }
        // A head is broken between its words rather than make a narrow column wide.
        let natural = table.columns.indices.map { column in
            let head = cells[0][column].split(separator: " ").map { min(DisplayWidth.of(String($0)), 14) }.max() ?? 0
            return max(head, cells.dropFirst().map { DisplayWidth.of($0[column]) }.max() ?? 0)
        }
        var widths = natural
        // Long columns give way first, the widest of them most; then times, which are broken behind the day; then all.
        let room = Self.lineWidth - Self.indent - 2 * (table.columns.count - 1)
        func shrink(_ columns: [Int], to least: Int) {
            while widths.reduce(0, +) > room, let widest = columns.filter({ widths[$0] > least }).max(by: { widths[$0] < widths[$1] }) { widths[widest] -= 1 }
        }
        let times = table.columns.indices.filter { column in rows.contains { if case .time = $0[column] { true } else { false } } }
        let others = table.columns.indices.filter { !times.contains($0) && table.columns[$0].style != .number }
        shrink(others.filter { table.columns[$0].style == .long }, to: 14)
        if widths.reduce(0, +) > room { for column in times { widths[column] = min(widths[column], 10) } }
        shrink(others, to: 10)
        var lines: [String] = []
        for row in cells {
            let broken = zip(row, widths).map { DisplayWidth.wrapped($0, $1) }
            for line in 0..<(broken.map(\.count).max() ?? 0) {
                var text = String(repeating: " ", count: Self.indent)
                for (column, parts) in broken.enumerated() {
                    let part = line < parts.count ? parts[line] : ""
                    text += DisplayWidth.padded(part, to: widths[column], right: table.columns[column].style == .number) + "  "
                }
                while text.last == " " { text.removeLast() }
                lines.append(text)
            }
        }
        if more > 0 { lines.append("  " + self.text(Phrase.moreRows(more))) }
        return lines
    }
}
