// All techniques of MITRE ATT&CK for ICS, version 18.1 (official STIX bundle of 13 November 2025), and what a checkpoint at layer 4 can do about each.
//
// © 2025 The MITRE Corporation. This work is reproduced and distributed with the permission of The MITRE Corporation.
//
// Ids, names, tactics, mitigations and what MITRE's detection looks at are MITRE's. What an allowlist does about a technique is our own analysis,
// whatever list of mitigations it stands in. Ids of version 19 are by published crosswalks; its official bundle was not at hand.

struct AttackTechnique: Sendable {
    enum Tactic: String, Sendable, CaseIterable {
        case initialAccess = "initial-access"
        case execution, persistence
        case privilegeEscalation = "privilege-escalation"
        case evasion, discovery
        case lateralMovement = "lateral-movement"
        case collection
        case commandAndControl = "command-and-control"
        case inhibitResponseFunction = "inhibit-response-function"
        case impairProcessControl = "impair-process-control"
        case impact
    }

    /// Which rules would leave it open.
    enum Ports: Sendable, CaseIterable {
        /// It may come by any service.
        case any
        /// Protocols that control machines.
        case control
        /// Remote terminals and desktops.
        case remote
        /// File transfer and file sharing.
        case files
        /// To or from other networks than those of a plant: rules with "any", or with a public address.
        case outside
    }

    /// Why nothing can be done about it here.
    enum Reason: Sendable, CaseIterable {
        /// It happens on the host.
        case host
        /// Inside a conversation that is allowed.
        case content
        /// By media, radio, serial lines or the supply chain.
        case elsewhere
        /// The effect of other techniques.
        case effect
        /// A person is made to do it.
        case user
        /// Something is kept from coming: only its absence shows.
        case absence
    }

    enum Reach: Sendable {
        /// It needs a conversation, which is dropped unless a rule allows it.
        case blocks(Ports)
        /// Fewer can try, or less is to be had; the act itself is not seen.
        case limits(Ports)
        /// Forged addresses are dropped where the policy binds them.
        case binding
        /// What is not allowed does not get through; there is no limit for what is, so it is limited only.
        case flood
        case none(Reason)
    }

    let id: String
    let name: String
    let tactics: [Tactic]
    let reach: Reach
    /// Of the mitigations that are about networks, those that MITRE lists for it.
    let mitigations: [String]
    /// Whether MITRE's own detection looks at network traffic flow.
    let isFlowVisible: Bool

    init(_ id: String, _ name: String, _ tactics: [Tactic], _ reach: Reach, in mitigations: [String] = [], flow isFlowVisible: Bool = false) {
        (self.id, self.name, self.tactics, self.reach, self.mitigations, self.isFlowVisible) = (id, name, tactics, reach, mitigations, isFlowVisible)
    }

    var laterID: String { Self.laterIDs[id] ?? id }

    /// Where version 19 has another.
    private static let laterIDs = [
        "T0803": "T1691.001", "T0804": "T1691.002", "T0805": "T1695.001", "T0812": "T1694.001", "T0839": "T1693.002", "T0855": "T1692.001",
        "T0856": "T1692.002", "T0857": "T1693.001", "T0891": "T1694.002",
    ]

    static let all: [AttackTechnique] = [
        AttackTechnique("T0800", "Activate Firmware Update Mode", [.inhibitResponseFunction], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0801", "Monitor Process State", [.collection], .none(.content)),
        AttackTechnique("T0802", "Automated Collection", [.collection], .blocks(.any), in: ["M0930", "M0807"]),
        AttackTechnique("T0803", "Block Command Message", [.inhibitResponseFunction], .none(.absence), in: ["M0807", "M0814"], flow: true),
        AttackTechnique("T0804", "Block Reporting Message", [.inhibitResponseFunction], .none(.absence), in: ["M0807", "M0814"], flow: true),
        AttackTechnique("T0805", "Block Serial COM", [.inhibitResponseFunction], .none(.elsewhere), in: ["M0930", "M0807"], flow: true),
        AttackTechnique("T0806", "Brute Force I/O", [.impairProcessControl], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0807", "Command-Line Interface", [.execution], .none(.host)),
        AttackTechnique("T0809", "Data Destruction", [.inhibitResponseFunction], .none(.host)),
        AttackTechnique("T0811", "Data from Information Repositories", [.collection], .none(.content)),
        AttackTechnique("T0812", "Default Credentials", [.lateralMovement], .limits(.any)),
        AttackTechnique("T0813", "Denial of Control", [.impact], .none(.effect)),
        AttackTechnique("T0814", "Denial of Service", [.inhibitResponseFunction], .flood, flow: true),
        AttackTechnique("T0815", "Denial of View", [.impact], .none(.effect)),
        AttackTechnique("T0816", "Device Restart/Shutdown", [.inhibitResponseFunction], .blocks(.control), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0817", "Drive-by Compromise", [.initialAccess], .none(.user), flow: true),
        AttackTechnique("T0819", "Exploit Public-Facing Application", [.initialAccess], .blocks(.any), in: ["M0930"]),
        AttackTechnique("T0820", "Exploitation for Evasion", [.evasion], .none(.host)),
        AttackTechnique("T0821", "Modify Controller Tasking", [.execution], .none(.host)),
        AttackTechnique("T0822", "External Remote Services", [.initialAccess], .blocks(.outside), in: ["M0930"], flow: true),
        AttackTechnique("T0823", "Graphical User Interface", [.execution], .none(.host)),
        AttackTechnique("T0826", "Loss of Availability", [.impact], .none(.effect)),
        AttackTechnique("T0827", "Loss of Control", [.impact], .none(.effect)),
        AttackTechnique("T0828", "Loss of Productivity and Revenue", [.impact], .none(.effect)),
        AttackTechnique("T0829", "Loss of View", [.impact], .none(.effect)),
        AttackTechnique("T0830", "Adversary-in-the-Middle", [.collection], .binding, in: ["M0930", "M0931", "M0814"], flow: true),
        AttackTechnique("T0831", "Manipulation of Control", [.impact], .none(.effect)),
        AttackTechnique("T0832", "Manipulation of View", [.impact], .none(.effect)),
        AttackTechnique("T0834", "Native API", [.execution], .none(.host)),
        AttackTechnique("T0835", "Manipulate I/O Image", [.inhibitResponseFunction], .none(.host)),
        AttackTechnique("T0836", "Modify Parameter", [.impairProcessControl], .none(.content)),
        AttackTechnique("T0837", "Loss of Protection", [.impact], .none(.effect)),
        AttackTechnique("T0838", "Modify Alarm Settings", [.inhibitResponseFunction], .blocks(.control), in: ["M0930", "M0807"]),
        AttackTechnique("T0839", "Module Firmware", [.persistence, .impairProcessControl], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0840", "Network Connection Enumeration", [.discovery], .none(.host)),
        AttackTechnique("T0842", "Network Sniffing", [.discovery], .limits(.any), in: ["M0930", "M0814"]),
        AttackTechnique("T0843", "Program Download", [.lateralMovement], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0845", "Program Upload", [.collection], .blocks(.control), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0846", "Remote System Discovery", [.discovery], .blocks(.any), in: ["M0814"], flow: true),
        AttackTechnique("T0847", "Replication Through Removable Media", [.initialAccess], .none(.elsewhere)),
        AttackTechnique("T0848", "Rogue Master", [.initialAccess], .blocks(.control), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0849", "Masquerading", [.evasion], .none(.host)),
        AttackTechnique("T0851", "Rootkit", [.evasion, .inhibitResponseFunction], .none(.host)),
        AttackTechnique("T0852", "Screen Capture", [.collection], .none(.host)),
        AttackTechnique("T0853", "Scripting", [.execution], .none(.host)),
        AttackTechnique("T0855", "Unauthorized Command Message", [.impairProcessControl], .blocks(.control), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0856", "Spoof Reporting Message", [.evasion, .impairProcessControl], .blocks(.control), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0857", "System Firmware", [.persistence, .inhibitResponseFunction], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0858", "Change Operating Mode", [.execution, .evasion], .blocks(.control), in: ["M0930", "M0807"]),
        AttackTechnique("T0859", "Valid Accounts", [.persistence, .lateralMovement], .limits(.any), in: ["M0937"]),
        AttackTechnique("T0860", "Wireless Compromise", [.initialAccess], .none(.elsewhere), flow: true),
        AttackTechnique("T0861", "Point & Tag Identification", [.collection], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0862", "Supply Chain Compromise", [.initialAccess], .none(.elsewhere)),
        AttackTechnique("T0863", "User Execution", [.execution], .none(.user), in: ["M0931"], flow: true),
        AttackTechnique("T0864", "Transient Cyber Asset", [.initialAccess], .blocks(.any), in: ["M0930"], flow: true),
        AttackTechnique("T0865", "Spearphishing Attachment", [.initialAccess], .none(.user), in: ["M0931"]),
        AttackTechnique("T0866", "Exploitation of Remote Services", [.initialAccess, .lateralMovement], .blocks(.any), in: ["M0930"]),
        AttackTechnique("T0867", "Lateral Tool Transfer", [.lateralMovement], .blocks(.files), in: ["M0931"], flow: true),
        AttackTechnique("T0868", "Detect Operating Mode", [.collection], .blocks(.control), in: ["M0930", "M0807", "M0937"]),
        AttackTechnique("T0869", "Standard Application Layer Protocol", [.commandAndControl], .blocks(.outside), in: ["M0930", "M0807", "M0931"], flow: true),
        AttackTechnique("T0871", "Execution through API", [.execution], .none(.host)),
        AttackTechnique("T0872", "Indicator Removal on Host", [.evasion], .none(.host)),
        AttackTechnique("T0873", "Project File Infection", [.persistence], .none(.host)),
        AttackTechnique("T0874", "Hooking", [.execution, .privilegeEscalation], .none(.host)),
        AttackTechnique("T0877", "I/O Image", [.collection], .none(.host)),
        AttackTechnique("T0878", "Alarm Suppression", [.inhibitResponseFunction], .limits(.control), in: ["M0930", "M0807", "M0814"], flow: true),
        AttackTechnique("T0879", "Damage to Property", [.impact], .none(.effect), in: ["M0807"]),
        AttackTechnique("T0880", "Loss of Safety", [.impact], .none(.effect)),
        AttackTechnique("T0881", "Service Stop", [.inhibitResponseFunction], .limits(.any), in: ["M0930"]),
        AttackTechnique("T0882", "Theft of Operational Information", [.impact], .none(.effect)),
        AttackTechnique("T0883", "Internet Accessible Device", [.initialAccess], .blocks(.outside), in: ["M0930"], flow: true),
        AttackTechnique("T0884", "Connection Proxy", [.commandAndControl], .blocks(.outside), in: ["M0807", "M0937", "M0931"], flow: true),
        AttackTechnique("T0885", "Commonly Used Port", [.commandAndControl], .blocks(.outside), in: ["M0930", "M0931"], flow: true),
        AttackTechnique("T0886", "Remote Services", [.initialAccess, .lateralMovement], .blocks(.remote), in: ["M0930", "M0807", "M0937"], flow: true),
        AttackTechnique("T0887", "Wireless Sniffing", [.discovery, .collection], .none(.elsewhere), flow: true),
        AttackTechnique("T0888", "Remote System Information Discovery", [.discovery], .blocks(.any), in: ["M0814"], flow: true),
        AttackTechnique("T0889", "Modify Program", [.persistence], .none(.host)),
        AttackTechnique("T0890", "Exploitation for Privilege Escalation", [.privilegeEscalation], .none(.host)),
        AttackTechnique("T0891", "Hardcoded Credentials", [.lateralMovement, .persistence], .limits(.any)),
        AttackTechnique("T0892", "Change Credential", [.inhibitResponseFunction], .none(.host)),
        AttackTechnique("T0893", "Data from Local System", [.collection], .none(.host)),
        AttackTechnique("T0894", "System Binary Proxy Execution", [.evasion], .none(.host)),
        AttackTechnique("T0895", "Autorun Image", [.execution], .none(.host)),
    ]
}
