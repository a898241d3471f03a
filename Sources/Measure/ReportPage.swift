// The report as one HTML file that needs nothing else: a template with the data put in.

import Foundation

public enum ReportPage {
    private static let place = "__SEKISHO_DATA__"

    /// - Parameter json: a report, as its JSON.
    public static func html(_ json: Data) throws(MeasureError) -> String {
        guard let data = Data(base64Encoded: EmbeddedReport.base64) else {
            throw MeasureError("reading the embedded report page", hint: "the binary is damaged; install it again")
        }
        // A "</script>" in a name would end the data.
        let text = String(decoding: json, as: UTF8.self).replacingOccurrences(of: "<", with: "\\u003c")
        return String(decoding: data, as: UTF8.self).replacingOccurrences(of: place, with: text)
    }
}
