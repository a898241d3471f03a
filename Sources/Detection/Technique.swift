// Techniques of MITRE ATT&CK for ICS that a kind of alert is consistent with. Names and ids of version 18.1 are from the official STIX
// bundle of 13 November 2025 (© The MITRE Corporation; reproduced under the ATT&CK terms of use). Those of version 19 (28 April 2026) are
// by published crosswalks; the official bundle of that version was not at hand. Which technique belongs to which kind is our own
// analysis: traffic at layer 4 shows what was tried, not why.

/// A technique, by every version's id of it.
public struct Technique: Codable, Sendable, Equatable {
    public struct Name: Codable, Sendable, Equatable {
        public var version: String
        public var id: String
        public var name: String
    }

    public var ids: [Name]
    /// "consistent with": no more can be said.
    public var relation: String
    /// Whether MITRE's own detection of it (18.1) looks at network traffic flow; else it is our own analysis only.
    public var isFlowVisible: Bool

    private init(_ id: String, _ name: String, v19: (id: String, name: String)? = nil, flow: Bool = true) {
        let later = v19 ?? (id, name)
        ids = [Name(version: "18.1", id: id, name: name), Name(version: "19", id: later.id, name: later.name)]
        relation = "consistent with"
        isFlowVisible = flow
    }

    static let remoteSystemDiscovery = Technique("T0846", "Remote System Discovery", v19: ("T0846.001", "Port Scan"))
    static let remoteSystemInformation = Technique("T0888", "Remote System Information Discovery")
    static let transientCyberAsset = Technique("T0864", "Transient Cyber Asset")
    static let rogueMaster = Technique("T0848", "Rogue Master")
    static let remoteServices = Technique("T0886", "Remote Services")
    static let exploitationOfRemoteServices = Technique("T0866", "Exploitation of Remote Services", flow: false)
    static let adversaryInTheMiddle = Technique("T0830", "Adversary-in-the-Middle")
    static let commonlyUsedPort = Technique("T0885", "Commonly Used Port")
    static let standardProtocol = Technique("T0869", "Standard Application Layer Protocol")
    static let lateralToolTransfer = Technique("T0867", "Lateral Tool Transfer")
    static let denialOfService = Technique("T0814", "Denial of Service")
    static let blockCommand = Technique("T0803", "Block Command Message", v19: ("T1691.001", "Block Command Message"))
    static let blockReporting = Technique("T0804", "Block Reporting Message", v19: ("T1691.002", "Block Reporting Message"))
}

extension AlertKind {
    /// What it is consistent with; none for what is no attack by itself.
    public var techniques: [Technique] {
        switch self {
        case .scan, .slowScan: [.remoteSystemDiscovery]
        case .unknownDevice: [.transientCyberAsset]
        case .newConversation: [.remoteSystemInformation, .remoteServices]
        case .lateralMovement: [.remoteServices, .exploitationOfRemoteServices]
        case .spoofing, .wrongSide: [.adversaryInTheMiddle]
        case .beacon: [.commonlyUsedPort, .standardProtocol]
        case .outOfHours: [.remoteServices]
        case .volume: [.lateralToolTransfer, .denialOfService]
        case .missing, .silent: [.blockCommand, .blockReporting]
        case .policyChanged, .bridgeFailure: []
        }
    }
}
