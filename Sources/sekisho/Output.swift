// Printing: tables that line up, colour on a terminal only, JSON for machines.

import CLinux
import Control
import Foundation
import Glibc
import Policy

enum Output {
    /// Whether standard output is a terminal that shows colours (https://no-color.org).
    static let hasColour =
        isatty(1) == 1 && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
        && ProcessInfo.processInfo.environment["TERM"] != "dumb"

    enum Colour: String {
        case red = "31", green = "32", yellow = "33", dim = "2", bold = "1"
    }

    static func coloured(_ text: String, _ colour: Colour) -> String {
        hasColour ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }

    static func json(_ value: some Encodable) throws {
        print(String(decoding: try MachineFormat.encoder().encode(value), as: UTF8.self))
    }

    /// What cannot be said, because nobody reads it or the disk is full, is no reason to end otherwise.
    static func error(_ text: String) { _ = writeAll(Array((text + "\n").utf8), to: STDERR_FILENO) }

    /// Each of the three is something: a file or socket that is opened later must not come to be standard error.
    static func holdStandardStreams() {
        while true {
            let file = open("/dev/null", O_RDONLY)
            guard file >= 0, file <= 2 else {
                if file > 2 { close(file) }
                return
            }
        }
    }

    /// Says if what was printed did not get where it was to go.
    static func finish() throws {
        let code = -clinux_finish_output()
        guard code == 0 else { throw OutputFile.failed("standard output", code) }
    }

    /// Without what a terminal would take for an order.
    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { scalar in
            scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
                ? "\u{FFFD}" : scalar
        }))
    }

    /// - Parameter nanoseconds: since 1970.
    static func time(_ nanoseconds: UInt64) -> String { PolicyExport.written(Int64(nanoseconds / 1_000_000_000)) }

    /// - Parameter day: since 1970, UTC.
    static func day(_ day: Int32) -> String { String(PolicyExport.written(Int64(day) * 86_400).prefix(10)) }

    /// Where the next picture replaces the last.
    static func clearScreen() {
        if isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J", terminator: "") }
    }

    /// Columns as wide as their widest cell; those in `numbers` are right-aligned.
    static func table(_ rows: [[String]], header: [String]? = nil, numbers: Set<Int> = [], indent: Int = 2) -> String {
        let all = (header.map { [$0] } ?? []) + rows
        guard let columns = all.map(\.count).max() else { return "" }
        let widths = (0..<columns).map { column in all.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return all.enumerated().map { index, row in
            var line = String(repeating: " ", count: indent)
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                let isLast = column == row.count - 1
                line += numbers.contains(column) ? padding + cell : isLast ? cell : cell + padding
                if !isLast { line += "  " }
            }
            return header != nil && index == 0 ? coloured(line, .dim) : line
        }.joined(separator: "\n")
    }

    static func grouped(_ number: some BinaryInteger) -> String { PeopleFormat.grouped(number) }

    static func bytes(_ count: UInt64) -> String {
        var value = Double(count)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 { return unit == "B" ? "\(count) B" : String(format: "%.1f %@", value, unit) }
            value /= 1024
        }
        return String(format: "%.1f TiB", value)
    }

    static func duration(_ seconds: Double) -> String {
        let whole = Int(seconds)
        if whole < 120 { return String(format: "%.0f s", seconds) }
        if whole < 7200 { return "\(whole / 60) min" }
        if whole < 172_800 { return "\(whole / 3600) h" }
        return "\(whole / 86400) days"
    }
}
