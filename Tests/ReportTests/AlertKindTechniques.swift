// Every technique that some kind of alert names.

import Detection

enum AlertKindTechniques {
    static var all: [Technique] { AlertKind.allCases.flatMap(\.techniques) }
}
