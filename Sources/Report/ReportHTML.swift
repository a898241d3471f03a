// A report as one HTML file that needs nothing else, no script either, and prints on A4.

import Foundation
import Policy

extension ReportWriting {
    public func html(_ document: ReportDocument) -> String {
        let numbers = Self.numbers(document.sections)
        let title = Self.escaped(text(document.title))
        var page = """
            <!doctype html>
            <html lang="\(language.rawValue)">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
            <title>\(title)</title>
            <style>
            \(Self.style)
            </style>
            </head>
            <body>
            <header>
            <h1><svg viewBox="0 0 26 26" aria-hidden="true"><path d="M1 4h24v4H1zM4 11h18v3H4zM5 8h3v16H5zM18 8h3v16h-3z"/></svg><span>\(title)</span></h1>
            \(facts(document.cover))
            </header>
            <nav aria-label="\(Self.escaped(text(Phrase.contents)))">
            <h2>\(Self.escaped(text(Phrase.contents)))</h2>
            <ul>

            """
        for (section, number) in zip(document.sections, numbers) {
            page += "<li class=\"level\(section.level)\"><a href=\"#\(section.id)\">\(self.title(section, number, data: Self.escaped))</a></li>\n"
        }
        page += "</ul>\n</nav>\n<main>\n"
        for (section, number) in zip(document.sections, numbers) {
            let heading = section.level == 0 ? "h2" : "h3"
            page += "<section id=\"\(section.id)\" class=\"level\(section.level)\(section.beginsPage ? " page" : "")\" aria-labelledby=\"\(section.id)-title\">\n"
            page += "<\(heading) id=\"\(section.id)-title\">\(self.title(section, number, data: Self.escaped))</\(heading)>\n"
            for block in section.blocks { page += html(block, of: section, number) }
            page += "</section>\n"
        }
        return page + "</main>\n<footer>\(Self.escaped(text(Phrase.footer)))</footer>\n</body>\n</html>\n"
    }

    private func html(_ block: ReportDocument.Block, of section: ReportDocument.Section, _ number: String) -> String {
        switch block {
        case .paragraph(let words): "<p>\(prose(words))</p>\n"
        case .note(let words): "<p class=\"note\">\(prose(words))</p>\n"
        case .list(let all): "<ul>\n" + all.map { "<li>\(prose($0))</li>\n" }.joined() + "</ul>\n"
        case .facts(let all): facts(all) + "\n"
        case .table(let one): table(one, named: "\(number) \(text(section.title))")
        case .days(let name, let days): chart(name, days)
        }
    }

    /// For text and for attributes in double quotes.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private func prose(_ words: Words) -> String { Self.escaped(text(words)) }

    private func cell(_ cell: ReportDocument.Cell) -> String {
        switch cell {
        case .time:
            // Two pieces at the most.
            cell.written(language).split(separator: "T").enumerated().map { place, part in
                "<span class=\"unbroken\">\(place == 0 ? "" : "T")\(part)</span>"
            }.joined(separator: "<wbr>")
        case .code: "<code>\(cell.written(language, data: Self.escaped))</code>"
        case .words(let words) where words.id == Standing.shown.words.id: "<span class=\"shown\">\(prose(words))</span>"
        case .words(let words) where words.id == Standing.partly.words.id: "<span class=\"partly\">\(prose(words))</span>"
        case .words(let words) where words.id == Standing.notEvidenced.words.id: "<span class=\"not\">\(prose(words))</span>"
        case .section(let id, let number): "<a href=\"#\(id)\">\(number)</a>"
        case .list(let cells): cells.isEmpty ? "–" : cells.map(self.cell).joined(separator: language == .english ? ", " : "、")
        default: cell.written(language, data: Self.escaped, words: Self.escaped)
        }
    }

    private func facts(_ facts: [ReportDocument.Fact]) -> String {
        "<dl class=\"facts\">\n" + facts.map { "<dt>\(prose($0.name))</dt><dd>\(cell($0.value))</dd>\n" }.joined() + "</dl>"
    }

    /// Bars by day, as many as there are days from the first to the last; the highest has its number.
    private func chart(_ name: Words, _ days: [(day: Int32, count: UInt64)]) -> String {
        guard let first = days.first?.day, let last = days.last?.day, let most = days.map(\.count).max(), most > 0, last > first, Int64(last) - Int64(first) < 4000 else { return "" }
        let (width, height, floor) = (760.0, 110.0, 92.0)
        let step = width / Double(last - first + 1)
        func place(_ value: Double) -> String { String(format: "%.2f", value) }
        let bars = days.filter { $0.count > 0 }.map { one -> String in
            // What is small is still seen.
            let tall = max(1, 76 * Double(one.count) / Double(most))
            return "<rect x=\"\(place(Double(one.day - first) * step))\" y=\"\(place(floor - tall))\" width=\"\(place(max(0.5, step * 0.85)))\" height=\"\(place(tall))\"/>"
        }
        let title = Self.escaped("\(text(name)): \(ReportDocument.Cell.day(first)) – \(ReportDocument.Cell.day(last))")
        return """
            <figure><svg class="days" viewBox="0 0 \(Int(width)) \(Int(height))" role="img" aria-label="\(title)">
            <text x="0" y="11">\(Self.escaped(text(name))), \(Self.escaped(text(Phrase.mostOfADay))) \(PeopleFormat.grouped(most))</text>
            \(bars.joined())
            <path d="M0 \(place(floor))H\(Int(width))"/>
            <text x="0" y="106">\(ReportDocument.Cell.day(first))</text><text x="\(Int(width))" y="106" text-anchor="end">\(ReportDocument.Cell.day(last))</text>
            </svg></figure>

            """
    }

    private func table(_ table: ReportDocument.Table, named name: String) -> String {
        if table.rows.isEmpty { return "<p class=\"soft\">\(prose(table.empty))</p>\n" }
        let (rows, more) = rows(table)
        // What is short stays on one line; what is long takes the room that is left.
        func kind(_ column: Int) -> String {
            switch table.columns[column].style {
            case .number: " class=\"num\""
            case .long: " class=\"long\""
            case .plain: ""
            }
        }
        let size = table.columns.count <= 3 ? " class=\"small\"" : table.columns.count >= 10 ? " class=\"wide\"" : ""
        var text = "<div class=\"scroll\"><table\(size) aria-label=\"\(Self.escaped(name))\">\n<thead><tr>"
        for (index, column) in table.columns.enumerated() { text += "<th scope=\"col\"\(kind(index))>\(prose(column.name))</th>" }
        text += "</tr></thead>\n<tbody>\n"
        for row in rows {
            text += "<tr>"
            for (index, value) in row.enumerated() {
                let open: String
                switch value {
                case .blank: open = "<td class=\"blank\">"
                default: open = "<td\(kind(index))>"
                }
                text += index == 0 ? "<th scope=\"row\"\(kind(index))>\(cell(value))</th>" : "\(open)\(cell(value))</td>"
            }
            text += "</tr>\n"
        }
        text += "</tbody>\n</table></div>\n"
        if more > 0 { text += "<p class=\"note\">\(prose(Phrase.moreRows(more)))</p>\n" }
        return text
    }

    /// The look of the pages of `baseline` and `bench`; on paper, white whatever the screen is.
    private static let style = """
        :root {
          --paper: #fff; --ground: #f6f7f8; --ink: #1b1f24; --soft: #59616b; --rule: #d9dde2; --grid: #e8ebee;
          --tint: #fbf1ec; --accent: #ba3f0e; --good: #0a6b4e; --part: #12577f;
        }
        @media screen and (prefers-color-scheme: dark) {
          :root {
            --paper: #15181c; --ground: #0f1114; --ink: #e3e6ea; --soft: #9aa3ad; --rule: #343a42; --grid: #262b31;
            --tint: #2a1d16; --accent: #f58a5b; --good: #4fcf9f; --part: #4cc3fa;
          }
        }
        * { box-sizing: border-box; }
        html { background: var(--ground); color: var(--ink); -webkit-text-size-adjust: 100%; }
        body { margin: 0; font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK JP", sans-serif; font-variant-numeric: tabular-nums;
               overflow-wrap: anywhere; }
        body:lang(ja) { font-family: "Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Hiragino Kaku Gothic ProN", "Yu Gothic", Meiryo, sans-serif; line-break: strict; }
        body:lang(zh-TW) { font-family: "Noto Sans CJK TC", "Noto Sans TC", "PingFang TC", "Microsoft JhengHei", sans-serif; }
        header, nav, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 20px; }
        header { padding-top: 26px; }
        h1 { display: flex; gap: 11px; font-size: 24px; line-height: 1.25; font-weight: 650; margin: 0 0 12px; }
        h1 svg { flex: none; width: 26px; height: 26px; margin-top: 2px; fill: var(--accent); }
        h2 { font-size: 17px; font-weight: 650; margin: 0 0 6px; }
        h3 { font-size: 14.5px; font-weight: 650; margin: 0 0 4px; }
        p { margin: 0 0 8px; max-width: 100ch; }
        ul { margin: 0 0 8px; padding-left: 20px; } li { max-width: 100ch; }
        .soft { color: var(--soft); }
        .note { border-left: 3px solid var(--accent); background: var(--tint); padding: 5px 12px; }
        code { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
        a { color: var(--accent); text-underline-offset: 3px; }
        nav { margin-top: 16px; margin-bottom: 18px; } nav h2 { font-size: 14.5px; }
        nav ul { list-style: none; padding: 0; columns: 2 380px; column-gap: 30px; margin: 0; } nav .level1 { padding-left: 18px; }
        nav li { break-inside: avoid; }
        section { background: var(--paper); border: 1px solid var(--rule); border-radius: 6px; padding: 14px 18px 12px; margin: 0 0 14px; }
        section.level1 { margin-left: 18px; }
        :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
        .facts { display: grid; grid-template-columns: minmax(max-content, 22%) 1fr; gap: 2px 16px; margin: 0 0 8px; }
        .facts dt { color: var(--soft); } .facts dd { margin: 0; min-width: 0; }
        .scroll { overflow-x: auto; margin: 0 0 8px; max-width: 100%; }
        table { border-collapse: collapse; min-width: min(100%, 560px); overflow-wrap: normal; }
        th, td { text-align: left; vertical-align: top; padding: 4px 16px 4px 0; font-weight: 400; border-bottom: 1px solid var(--grid); }
        th, td { overflow-wrap: break-word; min-width: 4.5em; } td.long, th.long { overflow-wrap: anywhere; min-width: 16ch; }
        td:not(.long), th:not(.long) { word-break: keep-all; } td.num, th.num { min-width: 0; } td code, th code, .unbroken { white-space: nowrap; }
        thead th { color: var(--soft); font-size: 12.5px; vertical-align: bottom; border-bottom-color: var(--rule); }
        .num { text-align: right; white-space: nowrap; }
        td.blank { border: 1px solid var(--soft); min-width: 9ch; }
        .shown { color: var(--good); font-weight: 650; } .partly { color: var(--part); font-weight: 650; } .not { color: var(--soft); }
        figure { margin: 6px 0 10px; break-inside: avoid; } .days { display: block; width: 100%; max-width: 860px; height: auto; }
        .days rect { fill: var(--part); } .days path { stroke: var(--soft); stroke-width: 1; fill: none; } .days text { fill: var(--soft); font-size: 11px; font-family: inherit; }
        footer { color: var(--soft); font-size: 12.5px; padding-bottom: 30px; }
        @media (max-width: 600px) {
          header, nav, main, footer { padding: 0 10px; } section { padding: 10px; } section.level1 { margin-left: 0; }
          .facts { grid-template-columns: 1fr; } .facts dd { margin-bottom: 4px; }
        }
        @page { size: A4; margin: 16mm 14mm 18mm;
          @bottom-left { content: "Sekisho"; font: 8pt sans-serif; color: #59616b; }
          @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #59616b; } }
        @media print {
          html { background: none; } body { font-size: 9.5pt; line-height: 1.45; } code { font-size: 8.5pt; }
          header, nav, main, footer { max-width: none; padding: 0; }
          header { padding-top: 6mm; } h1 { font-size: 20pt; margin-bottom: 8mm; } h2 { font-size: 13pt; } h3 { font-size: 10.5pt; }
          nav { break-after: page; } a { color: inherit; text-decoration: none; } nav ul { columns: 1; }
          section, section.level1 { border: 0; padding: 0; margin: 0 0 6mm; }
          section.page { break-before: page; }
          .scroll { overflow: visible; } table { width: 100%; min-width: 0; font-size: 8pt; line-height: 1.35; } table code { font-size: 7.5pt; }
          th, td { padding: 2.5pt 7pt 2.5pt 0; } thead { display: table-header-group; } thead th { font-size: 7.5pt; }
          td.long, th.long { min-width: 13ch; } table.small { width: auto; } table.wide { font-size: 7pt; } .wide th, .wide td { padding-right: 5pt; }
          nav { font-size: 8.5pt; line-height: 1.35; } nav h2 { font-size: 10pt; }
          tr, dt, dd, li, .note, h2, h3, section.level1 { break-inside: avoid; } h2, h3 { break-after: avoid; } p { orphans: 3; widows: 3; }
          * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
        }
        """
}
