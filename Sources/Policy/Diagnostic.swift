// What is wrong with a policy file, or another one in TOML, where, and what to write instead.

/// One finding.
public struct Diagnostic: Sendable, Codable, Hashable, Comparable {
    public enum Severity: String, Sendable, Codable {
        case error, warning
    }

    public var severity: Severity
    public var location: SourceLocation
    public var message: String
    public var suggestion: String?

    public init(severity: Severity, location: SourceLocation, message: String, suggestion: String? = nil) {
        self.severity = severity
        self.location = location
        self.message = message
        self.suggestion = suggestion
    }

    /// `file:line:column: error: message; suggestion`, as compilers write it and editors read it.
    public func rendered(file: String) -> String {
        let tail = suggestion.map { "; \($0)" } ?? ""
        return "\(file):\(location.line):\(location.column): \(severity.rawValue): \(message)\(tail)"
    }

    public static func < (a: Diagnostic, b: Diagnostic) -> Bool {
        (a.location, a.message) < (b.location, b.message)
    }
}

/// Collects findings while a file is read.
package struct Diagnostics {
    package private(set) var all: [Diagnostic] = []

    package init() {}

    package mutating func error(_ message: String, at location: SourceLocation, _ suggestion: String? = nil) {
        all.append(Diagnostic(severity: .error, location: location, message: message, suggestion: suggestion))
    }

    package mutating func warning(_ message: String, at location: SourceLocation, _ suggestion: String? = nil) {
        all.append(Diagnostic(severity: .warning, location: location, message: message, suggestion: suggestion))
    }

    package var hasErrors: Bool { all.contains { $0.severity == .error } }
}
