// A TOML file as a tree with the place of every key and value.

import CTOML

/// Line and column, both from 1.
public struct SourceLocation: Sendable, Hashable, Comparable, Codable {
    public var line: Int
    public var column: Int

    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    public static func < (a: SourceLocation, b: SourceLocation) -> Bool { (a.line, a.column) < (b.line, b.column) }
}

/// A date and time with its offset.
package struct TOMLDateTime {
    package var year, month, day, hour, minute, second: Int
    /// nil: the file names no instant.
    package var offsetMinutes: Int?
}

/// One value.
package struct TOMLValue {
    package indirect enum Content {
        case table([TOMLEntry])
        case array([TOMLValue])
        case string(String)
        case integer(Int64)
        case float(Double)
        case boolean(Bool)
        case date
        case time
        case dateTime(TOMLDateTime)
    }

    package var content: Content
    package var location: SourceLocation

    /// What a person calls it.
    package var kindName: String {
        switch content {
        case .table: "a table"
        case .array: "a list"
        case .string: "a string"
        case .integer: "an integer"
        case .float: "a number with a fraction"
        case .boolean: "true or false"
        case .date: "a date without a time"
        case .time: "a time of day"
        case .dateTime: "a date and time"
        }
    }
}

/// A key and its value.
package struct TOMLEntry {
    package var key: String
    package var keyLocation: SourceLocation
    package var value: TOMLValue
}

/// Why a text is not TOML.
package struct TOMLSyntaxError: Error {
    package var message: String
    package var location: SourceLocation
}

extension TOMLValue {
    /// Reads a TOML text; tables keep the order of the file.
    package static func parse(_ text: [UInt8]) throws(TOMLSyntaxError) -> TOMLValue {
        let document = text.withUnsafeBytes {
            ctoml_parse($0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
        }
        guard let document else {
            throw TOMLSyntaxError(message: "no memory or thread to read the file", location: SourceLocation(line: 1, column: 1))
        }
        defer { ctoml_free(document) }
        var line: UInt32 = 0, column: UInt32 = 0
        if let error = ctoml_error(document, &line, &column) {
            throw TOMLSyntaxError(
                message: String(cString: error),
                location: SourceLocation(line: max(1, Int(line)), column: max(1, Int(column))))
        }
        var count = 0
        let nodes = UnsafeBufferPointer(start: ctoml_nodes(document, &count), count: count)
        return TOMLValue(nodes, 0)
    }

    private init(_ nodes: UnsafeBufferPointer<ctoml_node>, _ index: Int) {
        let node = nodes[index]
        // The root, and tables that exist only through their children, have no place of their own.
        location = SourceLocation(line: max(1, Int(node.line)), column: max(1, Int(node.column)))
        func children() -> [Int] {
            var result: [Int] = []
            var child = Int(node.first_child)
            while child >= 0 {
                result.append(child)
                child = Int(nodes[child].next_sibling)
            }
            return result
        }
        switch node.kind {
        case CTOML_TABLE:
            content = .table(
                children().map { child in
                    let entry = nodes[child]
                    return TOMLEntry(
                        key: Self.text(entry.key, entry.key_length),
                        keyLocation: SourceLocation(line: max(1, Int(entry.key_line)), column: max(1, Int(entry.key_column))),
                        value: TOMLValue(nodes, child))
                }.sorted { $0.keyLocation < $1.keyLocation })
        case CTOML_ARRAY: content = .array(children().map { TOMLValue(nodes, $0) })
        case CTOML_STRING: content = .string(Self.text(node.string, node.string_length))
        case CTOML_INTEGER: content = .integer(node.integer)
        case CTOML_FLOAT: content = .float(node.real)
        case CTOML_BOOLEAN: content = .boolean(node.boolean)
        case CTOML_DATE: content = .date
        case CTOML_TIME: content = .time
        default:
            content = .dateTime(
                TOMLDateTime(
                    year: Int(node.year), month: Int(node.month), day: Int(node.day), hour: Int(node.hour),
                    minute: Int(node.minute), second: Int(node.second),
                    offsetMinutes: node.has_offset ? Int(node.offset_minutes) : nil))
        }
    }

    private static func text(_ bytes: UnsafePointer<CChar>?, _ count: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: bytes, count: count), as: UTF8.self)
    }
}
