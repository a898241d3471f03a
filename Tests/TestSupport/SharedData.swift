// Outside data that may lie beside the checkout: captures and rule sets nobody wrote for this project.

import Foundation

public enum SharedData {
    /// `../shared` beside the checkout, or nil.
    public static let folder: URL? = {
        let checkout = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let shared = checkout.deletingLastPathComponent().appending(path: "shared")
        return FileManager.default.fileExists(atPath: shared.path) ? shared : nil
    }()

    public static func file(_ path: String) -> URL? {
        guard let url = folder?.appending(path: path), FileManager.default.fileExists(atPath: url.path) else { return nil }
        return url
    }
}
