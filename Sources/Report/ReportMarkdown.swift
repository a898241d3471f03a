// A report as Markdown (GitHub's tables). Tables line up in the file as well.

import Foundation

extension ReportWriting {
    public func markdown(_ document: ReportDocument) -> String {
        var lines = ["# \(prose(document.title))", ""]
        lines += facts(document.cover)
        for (section, number) in zip(document.sections, Self.numbers(document.sections)) {
            lines += [String(repeating: "#", count: section.level + 2) + " " + title(section, number, data: Self.phrase), ""]
            for block in section.blocks {
                switch block {
                case .paragraph(let words): lines += [prose(words), ""]
                case .note(let words): lines += ["> **!** \(prose(words))", ""]
                case .list(let all): lines += all.map { "- \(prose($0))" } + [""]
                case .facts(let all): lines += facts(all)
                case .table(let one): lines += table(one)
                case .days: continue
                }
            }
        }
        while lines.last == "" { lines.removeLast() }
        return lines.joined(separator: "\n") + "\n"
    }

    private func prose(_ words: Words) -> String { Self.phrase(text(words)) }

    /// Our own text has no marks but these.
    private static func phrase(_ text: String) -> String { escaped(text, "|<>*\\") }

    /// Nothing in a name is a mark, a link, an image or HTML.
    private static func data(_ text: String) -> String {
        let scalars = Array(text.unicodeScalars)
        // GitHub makes links of bare addresses.
        return escaped(scalars, "\\`*_{}[]<>#|~&!@") { place in
            switch scalars[place] {
            case ":": scalars[place...].starts(with: "://".unicodeScalars)
            case ".": scalars[..<place].suffix(3).elementsEqual("www".unicodeScalars) { $0.properties.lowercaseMapping == String($1) }
            default: false
            }
        }
    }

    private static func escaped(_ text: String, _ marks: String) -> String { escaped(Array(text.unicodeScalars), marks) { _ in false } }

    /// By scalars: a sign that joins with a mark would hide it in one character, and whoever reads Markdown knows no characters.
    private static func escaped(_ scalars: [Unicode.Scalar], _ marks: String, _ isLink: (Int) -> Bool) -> String {
        var result = String.UnicodeScalarView()
        for (place, scalar) in scalars.enumerated() {
            if marks.unicodeScalars.contains(scalar) || isLink(place) { result.append("\\") }
            result.append(scalar)
        }
        return String(result)
    }

    private func cell(_ cell: ReportDocument.Cell) -> String { cell.written(language, data: Self.data, words: Self.phrase) }

    private func facts(_ facts: [ReportDocument.Fact]) -> [String] {
        facts.map { "- **\(prose($0.name))**: \(cell($0.value))" } + [""]
    }

    private func table(_ table: ReportDocument.Table) -> [String] {
        if table.rows.isEmpty { return [prose(table.empty), ""] }
        let (rows, more) = rows(table)
        let cells = [table.columns.map { prose($0.name) }] + rows.map { $0.map(cell) }
        let widths = table.columns.indices.map { column in max(3, cells.map { DisplayWidth.of($0[column]) }.max() ?? 0) }
        var lines = cells.map { row in
            "| " + zip(row.indices, row).map { DisplayWidth.padded($1, to: widths[$0], right: table.columns[$0].style == .number) }.joined(separator: " | ") + " |"
        }
        let rule = table.columns.indices.map { column in
            String(repeating: "-", count: widths[column] + 1) + (table.columns[column].style == .number ? ":" : "-")
        }
        lines.insert("|" + rule.joined(separator: "|") + "|", at: 1)
        if more > 0 { lines += ["", self.text(Phrase.moreRows(more))] }
        return lines + [""]
    }
}
