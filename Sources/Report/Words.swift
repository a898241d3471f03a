// Fixed text in every language of a report: one that lacks a language does not compile.

public enum ReportLanguage: String, Sendable, CaseIterable {
    case english = "en"
    case japanese = "ja"
    case chinese = "zh-TW"
}

/// A phrase. What comes from the evidence (names, addresses) is never part of one: it stands in cells of its own.
public struct Words: Sendable, Hashable {
    /// What JSON has for it, whatever the language.
    public let id: String
    private let english: String
    private let japanese: String
    private let chinese: String

    init(_ id: String, _ english: String, ja japanese: String, zh chinese: String) {
        (self.id, self.english, self.japanese, self.chinese) = (id, english, japanese, chinese)
    }

    public func text(_ language: ReportLanguage) -> String {
        switch language {
        case .english: english
        case .japanese: japanese
        case .chinese: chinese
        }
    }
}
