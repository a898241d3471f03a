// How wide text is where every letter has the same width: Chinese and Japanese letters take two places.

enum DisplayWidth {
    static func of(_ text: String) -> Int { text.unicodeScalars.reduce(0) { $0 + of($1) } }

    static func of(_ scalar: Unicode.Scalar) -> Int {
        switch scalar.value {
        case 0x20..<0x300: return 1
        // Unicode Standard Annex 11, "W" and "F", as far as reports have them.
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6,
            0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD: return 2
        default:
            switch scalar.properties.generalCategory {
            case .nonspacingMark, .enclosingMark, .format: return 0
            default: return 1
            }
        }
    }

    static func padded(_ text: String, to width: Int, right: Bool = false) -> String {
        let room = String(repeating: " ", count: max(0, width - of(text)))
        return right ? room + text : text + room
    }

    /// Lines of a width. A word that is longer than a line is cut.
    static func wrapped(_ text: String, _ width: Int) -> [String] {
        var lines: [String] = [], line = "", used = 0
        func isClosing(_ scalar: Unicode.Scalar) -> Bool { "、。，．）」』：；！？・%".unicodeScalars.contains(scalar) }
        var words: [String] = [], word = ""
        for scalar in text.unicodeScalars {
            if scalar == " " {
                words.append(word)
                words.append(" ")
                word = ""
            } else if of(scalar) == 2 {
                // Between such letters a line may end anywhere, but not before what closes.
                if isClosing(scalar) {
                    if word.isEmpty, words.last.map({ $0 != " " }) == true {
                        words[words.count - 1].unicodeScalars.append(scalar)
                    } else {
                        word.unicodeScalars.append(scalar)
                    }
                } else {
                    words.append(word)
                    words.append(String(scalar))
                    word = ""
                }
            } else {
                word.unicodeScalars.append(scalar)
            }
        }
        words.append(word)
        for word in words where !word.isEmpty {
            let wide = of(word)
            if used + wide > width, used > 0 {
                lines.append(line)
                (line, used) = ("", 0)
            }
            if word == " ", used == 0 { continue }
            if wide <= width {
                line += word
                used += wide
                continue
            }
            // The line is empty here, and a word may be as long as a file.
            for scalar in word.unicodeScalars {
                if used > 0, used + of(scalar) > max(2, width) {
                    lines.append(line)
                    (line, used) = ("", 0)
                }
                line.unicodeScalars.append(scalar)
                used += of(scalar)
            }
        }
        if used > 0 || lines.isEmpty { lines.append(line) }
        return lines.map { line in
            var line = line
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
