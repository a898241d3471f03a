// A report for machines: ids and values, the same in every language. docs/reports.md says what there is.

extension ReportDocument: Encodable {
    public static let schemaVersion = 1

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(_ name: String) { stringValue = name }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    public func encode(to encoder: any Encoder) throws {
        var root = encoder.container(keyedBy: Key.self)
        try root.encode("sekisho-report", forKey: Key("schema"))
        try root.encode(Self.schemaVersion, forKey: Key("schema_version"))
        try root.encode(kind.rawValue, forKey: Key("report"))
        var facts = root.nestedContainer(keyedBy: Key.self, forKey: Key("cover"))
        for fact in cover { try facts.encode(fact.value, forKey: Key(fact.name.id)) }
        var list = root.nestedUnkeyedContainer(forKey: Key("sections"))
        for section in sections {
            var part = list.nestedContainer(keyedBy: Key.self)
            try part.encode(section.id, forKey: Key("id"))
            if !section.mark.isEmpty { try part.encode(section.mark, forKey: Key("mark")) }
            try part.encode(section.notes, forKey: Key("notes"))
            var facts = part.nestedContainer(keyedBy: Key.self, forKey: Key("facts"))
            for case .facts(let all) in section.blocks { for fact in all { try facts.encode(fact.value, forKey: Key(fact.name.id)) } }
            var tables = part.nestedContainer(keyedBy: Key.self, forKey: Key("tables"))
            for case .table(let table) in section.blocks {
                var rows = tables.nestedUnkeyedContainer(forKey: Key(table.id))
                for row in table.rows {
                    var cells = rows.nestedContainer(keyedBy: Key.self)
                    for (column, cell) in zip(table.columns, row) { try cells.encode(cell, forKey: Key(column.name.id)) }
                }
            }
        }
    }
}

extension ReportDocument.Section {
    /// Ids of the fixed text in it, in order.
    var notes: [String] {
        blocks.flatMap { block -> [String] in
            switch block {
            case .paragraph(let words), .note(let words): [words.id]
            case .list(let all): all.map(\.id)
            case .facts, .table, .days: []
            }
        }
    }
}

extension ReportDocument.Cell: Encodable {
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .none, .blank: try container.encodeNil()
        case .text(let text), .code(let text): try container.encode(text)
        case .words(let words): try container.encode(words.id)
        case .number(let number): try container.encode(number)
        case .flag(let flag): try container.encode(flag)
        case .time(let nanoseconds): try container.encode(Self.time(nanoseconds))
        case .day(let day): try container.encode(Self.day(day))
        case .seconds(let seconds): try container.encode((seconds * 1000).rounded() / 1000)
        case .list(let cells): try container.encode(cells)
        case .section(let id, _): try container.encode(id)
        case .names(let names, _): try container.encode(names)
        }
    }
}
