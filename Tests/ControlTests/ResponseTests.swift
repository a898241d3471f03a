import Control
import Detection
import Policy
import Testing

@Suite struct ResponseTests {
    /// The policy cannot know the detector: its words are the same.
    @Test func whatAPolicyMayAnswerIsWhatTheDetectorTells() {
        #expect(ResponsePlan.kinds.allSatisfy { AlertKind(rawValue: $0) != nil })
        // The bridge, the policy, and what stopped are no devices that do something.
        #expect(Set(AlertKind.allCases.map(\.rawValue)).subtracting(ResponsePlan.kinds) == [
            "policy-changed", "out-of-hours", "volume", "missing", "gone-silent", "bridge-failure"])
    }
}
