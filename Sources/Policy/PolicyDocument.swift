// A policy as its owner wrote it: devices, groups, services and rules, with their places in the file.

import Allowlist
import Frames

/// A valid policy. Made by `PolicyReader` only.
public struct PolicyDocument: Sendable {
    public var name: String
    public var mode: Mode
    public var etherTypes: [EtherType]
    public var devices: [Device]
    public var groups: [Group] = []
    public var rules: [Rule]
    public var failing = FailurePlan()
    public var flows = FlowPlan()
    /// Devices, groups and addresses that nothing automatic may cut off, and a person only with force.
    public var protected: [Group] = []
    public var response = ResponsePlan()

    /// The name under which one of these addresses is protected; nil: none is.
    public func protection(of addresses: [String]) -> String? {
        let hosts = addresses.compactMap { AddressPrefix.host($0) }
        return protected.first { group in group.addresses.contains { one in hosts.contains { one.contains($0) } } }?.name
    }

    /// A machine with its addresses.
    public struct Device: Sendable {
        public var name: String
        public var addresses: [AddressPrefix]
        public var macs: [MACAddress]
        /// Where it is; nil: either side.
        public var side: Side?
        /// It learns alone, while the policy may be enforced for the others.
        public var isLearning = false
        public var location: SourceLocation
    }

    /// Addresses under a name, those of groups inside it included.
    public struct Group: Sendable {
        public var name: String
        public var addresses: [AddressPrefix]
    }

    /// One `[[allow]]`.
    public struct Rule: Sendable {
        public var id: String
        /// Names as written, for messages.
        public var from: [String]
        public var to: [String]
        public var service: [String]
        public var clients: [AddressPrefix]
        public var servers: [AddressPrefix]
        public var services: [ServiceRange]
        public var purpose: String?
        public var owner: String?
        public var vlans: [VLANID]
        public var side: Side?
        /// Passes, and is counted apart: a rule on trial.
        public var isMonitored: Bool
        /// Stands in no file: it is a learning device's.
        public var isLearning = false
        /// Seconds since 1970; nil: for ever.
        public var expires: Int64?
        public var flows = FlowOptions()
        /// Its frames are copied to the mirror port.
        public var isMirrored = false
        public var location: SourceLocation

        public func isExpired(at now: Int64) -> Bool { expires.map { $0 <= now } ?? false }
    }
}

extension PolicyDocument {
    /// What the allowlist is built from, at a point in time.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970; expired rules are left out.
    ///   - ignoringSides: for captures, which do not say by which port a frame came.
    public func compiled(now: Int64, mode: Mode? = nil, ignoringSides: Bool = false) -> CompiledPolicy {
        var rules: [AllowRule] = []
        var names: [String] = []
        var mirrored: Set<Int> = []
        for rule in self.rules where !rule.isExpired(at: now) {
            if rule.isMirrored { mirrored.insert(rules.count) }
            rules.append(
                AllowRule(
                    clients: rule.clients, servers: rule.servers, services: rule.services, vlans: rule.vlans,
                    clientSide: ignoringSides ? nil : rule.side, flows: rule.flows))
            names.append(rule.id)
        }
        var bindings: [AddressBinding] = []
        for device in devices where !device.macs.isEmpty || device.side != nil && !ignoringSides {
            for address in device.addresses {
                bindings.append(
                    AddressBinding(
                        family: address.family, address: address.words, macs: device.macs, side: ignoringSides ? nil : device.side))
            }
        }
        return CompiledPolicy(
            source: AllowlistSource(mode: mode ?? self.mode, rules: rules, etherTypes: etherTypes, bindings: bindings,
                fullPasses: failing.fullPasses, mirrored: mirrored),
            ruleNames: names)
    }

    /// When the next rule expires, after `now`.
    public func nextExpiry(after now: Int64) -> Int64? {
        rules.compactMap(\.expires).filter { $0 > now }.min()
    }

    /// When a rule expired last, `now` at the latest.
    public func lastExpiry(until now: Int64) -> Int64? {
        rules.compactMap(\.expires).filter { $0 <= now }.max()
    }
}

/// Rules without names, and the names by their number.
public struct CompiledPolicy: Sendable {
    public var source: AllowlistSource
    public var ruleNames: [String]
}
