// Prometheus' text exposition format, version 0.0.4.
//
// https://prometheus.io/docs/instrumenting/exposition_formats/

public struct MetricsText {
    public enum Kind: String { case gauge, counter }
    public private(set) var text = ""

    public init() {}

    /// - Parameters:
    ///   - name: without the "sekisho_" that all begin with.
    ///   - samples: labels and values; where there are none, nothing is written.
    public mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [([String: String], Double)]) {
        if samples.isEmpty { return }
        text += "# HELP sekisho_\(name) \(help)\n# TYPE sekisho_\(name) \(kind.rawValue)\n"
        for (labels, value) in samples {
            let written = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
            let number = value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
            text += "sekisho_\(name)\(written.isEmpty ? "" : "{\(written)}") \(number)\n"
        }
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}
