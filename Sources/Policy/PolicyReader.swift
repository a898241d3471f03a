// From TOML to a policy: every problem is reported, none stops the search for the next.

import Allowlist
import Frames

/// What came of reading a file: a document if there was no error, and all findings in the order of the file.
public struct PolicyReading: Sendable {
    public var document: PolicyDocument?
    public var diagnostics: [Diagnostic]

    public var errors: [Diagnostic] { diagnostics.filter { $0.severity == .error } }
    public var warnings: [Diagnostic] { diagnostics.filter { $0.severity == .warning } }
}

/// Larger files are refused before they are read: a million rules fit.
public let largestPolicyFile = 256 << 20

/// Groups in groups in groups: more than this is a mistake, or an attack.
private let deepestGroup = 32

public struct PolicyReader {
    var diagnostics = Diagnostics()
    private var devices: [String: PolicyDocument.Device] = [:]
    private var deviceOrder: [String] = []
    private var groupEntries: [String: (entry: TOMLEntry, members: [TOMLValue])] = [:]
    private var groups: [String: [AddressPrefix]] = [:]
    private var groupOrder: [String] = []
    private var services: [String: [ServiceRange]] = [:]
    /// What rules ask of their flows if they do not say otherwise.
    private var flowOptions = FlowOptions()
    private let now: Int64

    /// - Parameters:
    ///   - text: the file.
    ///   - now: seconds since 1970, for rules that have expired.
    ///   - findsOverlaps: also compares every rule with every other; slow for thousands.
    public static func read(_ text: [UInt8], now: Int64, findsOverlaps: Bool = false) -> PolicyReading {
        var reader = PolicyReader(now: now)
        let document = reader.document(text)
        if findsOverlaps, let document { reader.findOverlaps(document) }
        return PolicyReading(
            document: reader.diagnostics.hasErrors ? nil : document, diagnostics: reader.diagnostics.all.sorted())
    }

    private init(now: Int64) { self.now = now }

    private mutating func document(_ text: [UInt8]) -> PolicyDocument? {
        let start = SourceLocation(line: 1, column: 1)
        guard text.count <= largestPolicyFile else {
            diagnostics.error("the file has \(text.count >> 20) MiB; the most is \(largestPolicyFile >> 20)", at: start)
            return nil
        }
        let root: TOMLValue
        do throws(TOMLSyntaxError) {
            root = try TOMLValue.parse(text)
        } catch {
            diagnostics.error("not TOML: \(error.message)", at: error.location)
            return nil
        }
        guard case .table(let entries) = root.content else { return nil }
        let table = Table(entries)
        checkKeys(table, ["version", "name", "mode", "datapath", "on_failure", "state", "ethertypes", "devices", "groups", "services", "protected", "respond", "allow"], of: "a policy")

        if let version = table["version"] {
            if case .integer(let number) = version.content, number == 1 {} else {
                diagnostics.error("this program reads policies of version 1", at: version.location, "write version = 1")
            }
        } else {
            diagnostics.error("version is missing", at: start, "begin the file with version = 1")
        }
        let name = table["name"].flatMap { string($0, "name") } ?? "unnamed"
        let mode = table["mode"].flatMap { readMode($0) } ?? .enforce
        let etherTypes = table["ethertypes"].map { readEtherTypes($0) } ?? [.arp]
        let flows = table["state"].map { readState($0) } ?? FlowPlan()
        if let value = table["devices"] { readDevices(value) }
        if let value = table["services"] { readServices(value) }
        if let value = table["groups"] { readGroups(value) }
        var rules = table["allow"].map { readRules($0) } ?? []
        for device in deviceOrder.compactMap({ devices[$0] }) where device.isLearning {
            for rule in learningRules(device) {
                if rules.contains(where: { $0.id == rule.id }) { diagnostics.error("the id \"\(rule.id)\" stands for a device that learns", at: device.location) }
                rules.append(rule)
            }
        }
        var document = PolicyDocument(
            name: name, mode: mode, etherTypes: etherTypes, devices: deviceOrder.compactMap { devices[$0] }, rules: rules)
        document.groups = groupOrder.map { PolicyDocument.Group(name: $0, addresses: groups[$0] ?? []) }
        document.flows = flows
        if let value = table["respond"] { document.response = readResponse(value) }
        if let value = table["protected"] {
            for item in list(value, "protected") {
                guard let text = string(item, "protected") else { continue }
                document.protected.append(PolicyDocument.Group(name: text, addresses: endpoint(text, at: item.location)))
            }
        }
        if let value = table["on_failure"] { document.failing = readFailing(value) }
        if let value = table["datapath"] { document.failing.onlyKernel = readDatapath(value) }
        if flows.flows == 0 || document.failing.onlyKernel, let rule = rules.first(where: { $0.flows.isStrict || !$0.flows.picksUp || $0.flows.expectsData }) {
            diagnostics.warning(
                "rule \"\(rule.id)\" asks for what only flow state can give (tcp = \"strict\", midstream = false or ftp_data), and none is kept",
                at: rule.location, flows.flows == 0 ? "state.flows is 0" : "datapath is \"kernel\"")
        }
        return document
    }

    // MARK: - Reading values

    /// Entries by key.
    struct Table {
        let entries: [TOMLEntry]
        private let byKey: [String: TOMLEntry]

        init(_ entries: [TOMLEntry]) {
            self.entries = entries
            byKey = Dictionary(entries.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        }

        subscript(_ key: String) -> TOMLValue? { byKey[key]?.value }
    }

    private mutating func checkKeys(_ table: Table, _ known: [String], of what: String) {
        for entry in table.entries where !known.contains(entry.key) {
            diagnostics.error(
                "unknown key \"\(entry.key)\" in \(what)", at: entry.keyLocation,
                nearest(entry.key, among: known) ?? "known keys: \(known.joined(separator: ", "))")
        }
    }

    private mutating func expect(_ what: String, _ name: String, _ value: TOMLValue, _ suggestion: String? = nil) {
        diagnostics.error("\(name) must be \(what), not \(value.kindName)", at: value.location, suggestion)
    }

    private mutating func string(_ value: TOMLValue, _ name: String) -> String? {
        guard case .string(let text) = value.content else {
            expect("a string", name, value)
            return nil
        }
        // Names go to terminals, logs and CSV files.
        if let found = text.unicodeScalars.first(where: { $0.properties.generalCategory == .control }) {
            diagnostics.error(
                "\(name) has a control character (U+\(String(found.value, radix: 16, uppercase: true)))", at: value.location)
            return nil
        }
        return text
    }

    /// One value or a list of them; an empty list is an error.
    private mutating func list(_ value: TOMLValue, _ name: String) -> [TOMLValue] {
        guard case .array(let values) = value.content else { return [value] }
        if values.isEmpty { diagnostics.error("\(name) is empty: it would match nothing", at: value.location) }
        return values
    }

    private mutating func readMode(_ value: TOMLValue) -> Mode? {
        guard let text = string(value, "mode") else { return nil }
        if let mode = Mode(name: text) { return mode }
        let names = Mode.allCases.map(\.name)
        diagnostics.error(
            "unknown mode \"\(text)\"", at: value.location, nearest(text, among: names) ?? "use learn, monitor or enforce")
        return nil
    }

    private mutating func readAction(_ value: TOMLValue, _ name: String) -> FailureAction {
        guard let text = string(value, name) else { return .closed }
        if let action = FailureAction(name: text) { return action }
        diagnostics.error(
            "unknown \(name) \"\(text)\"", at: value.location,
            nearest(text, among: FailureAction.allCases.map(\.name)) ?? "use closed, open or kernel")
        return .closed
    }

    /// One word for all causes, or a table by cause; what it leaves out is closed.
    private mutating func readFailing(_ value: TOMLValue) -> FailurePlan {
        guard case .table(let entries) = value.content else {
            let action = readAction(value, "on_failure")
            return FailurePlan(FailureActions(action), fullPasses: action != .closed)
        }
        let table = Table(entries)
        checkKeys(table, ["starting", "worker_dead", "stopping", "flow_table_full", "deadline_ms"], of: "on_failure")
        var plan = FailurePlan()
        if let action = table["starting"] { plan.actions.starting = readAction(action, "on_failure.starting") }
        if let action = table["worker_dead"] { plan.actions.workerDead = readAction(action, "on_failure.worker_dead") }
        if let action = table["stopping"] { plan.actions.stopping = readAction(action, "on_failure.stopping") }
        if let action = table["flow_table_full"] { plan.fullPasses = readAction(action, "on_failure.flow_table_full") != .closed }
        if let deadline = table["deadline_ms"] {
            if case .integer(let number) = deadline.content, FailurePlan.deadlines.contains(Int(clamping: number)) {
                plan.deadline = Int(number)
            } else {
                expect("a number of milliseconds from \(FailurePlan.deadlines.lowerBound) to \(FailurePlan.deadlines.upperBound)", "on_failure.deadline_ms", deadline)
            }
        }
        return plan
    }

    private mutating func readDatapath(_ value: TOMLValue) -> Bool {
        guard let text = string(value, "datapath") else { return false }
        if text != "kernel", text != "worker" {
            diagnostics.error(
                "unknown datapath \"\(text)\"", at: value.location, nearest(text, among: ["kernel", "worker"]) ?? "use worker or kernel")
        }
        return text == "kernel"
    }

    private mutating func readResponse(_ value: TOMLValue) -> ResponsePlan {
        var plan = ResponsePlan()
        guard case .table(let entries) = value.content else {
            expect("a table", "respond", value, "write [respond]")
            return plan
        }
        let table = Table(entries)
        checkKeys(table, ResponsePlan.kinds + ["quarantine_s"], of: "respond")
        for kind in ResponsePlan.kinds {
            guard let value = table[kind], let text = string(value, "respond.\(kind)") else { continue }
            if text == "quarantine" {
                plan.quarantines.insert(kind)
            } else if text != "notify" {
                diagnostics.error(
                    "unknown response \"\(text)\"", at: value.location, nearest(text, among: ["quarantine", "notify"]) ?? "use notify or quarantine")
            }
        }
        if let value = table["quarantine_s"] { plan.seconds = Int64(integer(value, "respond.quarantine_s", 1...2_592_000) ?? 3600) }
        return plan
    }

    // MARK: - Flows

    /// Of the whole policy: the size of the flow table, and what holds for rules that do not say otherwise.
    private mutating func readState(_ value: TOMLValue) -> FlowPlan {
        var plan = FlowPlan()
        guard case .table(let entries) = value.content else {
            expect("a table", "state", value, "write [state]")
            return plan
        }
        let table = Table(entries)
        checkKeys(table, ["flows", "tcp", "midstream", "reply_s"], of: "state")
        if let flows = table["flows"] { plan.flows = integer(flows, "state.flows", 0...FlowTable.most) ?? plan.flows }
        flowOptions = readFlowOptions(table, flowOptions)
        plan.graceSeconds = flowOptions.replySeconds
        return plan
    }

    private mutating func readFlowOptions(_ table: Table, _ usual: FlowOptions) -> FlowOptions {
        var options = usual
        if let value = table["tcp"], let text = string(value, "tcp") {
            if text != "strict", text != "loose" {
                diagnostics.error(
                    "unknown tcp \"\(text)\"", at: value.location, nearest(text, among: ["strict", "loose"]) ?? "use strict or loose")
            }
            options.isStrict = text == "strict"
        }
        if let value = table["midstream"] { options.picksUp = boolean(value, "midstream") ?? options.picksUp }
        // A day: longer, and the word "recent" means nothing.
        if let value = table["reply_s"] { options.replySeconds = integer(value, "reply_s", 1...86_400) ?? options.replySeconds }
        return options
    }

    private mutating func integer(_ value: TOMLValue, _ name: String, _ range: ClosedRange<Int>) -> Int? {
        if case .integer(let number) = value.content, range.contains(Int(clamping: number)) { return Int(number) }
        expect("a number from \(range.lowerBound) to \(range.upperBound)", name, value)
        return nil
    }

    private mutating func boolean(_ value: TOMLValue, _ name: String) -> Bool? {
        if case .boolean(let answer) = value.content { return answer }
        expect("true or false", name, value)
        return nil
    }

    private mutating func readEtherTypes(_ value: TOMLValue) -> [EtherType] {
        guard case .array(let values) = value.content else {
            expect("a list", "ethertypes", value)
            return []
        }
        var result: [EtherType] = []
        for item in values {
            var number: Int64?
            switch item.content {
            case .integer(let value): number = value
            case .string(let text):
                if let known = EtherTypeNames.all[text.lowercased()] {
                    number = Int64(known)
                } else {
                    let ip = ["ip", "ipv4", "ipv6", "vlan"].contains(text.lowercased())
                    diagnostics.error(
                        ip ? "\"\(text)\" cannot be listed here" : "unknown EtherType \"\(text)\"", at: item.location,
                        ip ? "IP is judged by the rules, a tagged frame by what is inside"
                            : nearest(text, among: EtherTypeNames.all.keys) ?? "use a name such as \"lldp\" or a number such as 0x8892")
                    continue
                }
            default: expect("a name or a number", "an EtherType", item)
            }
            guard let number else { continue }
            // Below 256 an LLC address; from 1536 on a type.
            guard (0..<0x100).contains(number) || (Int64(EtherType.minimum)...0xFFFF).contains(number) else {
                diagnostics.error(
                    "\(number) is no EtherType", at: item.location, "EtherTypes are 0x600 to 0xffff, LLC addresses 0 to 0xff")
                continue
            }
            if let what = EtherTypeNames.notListable[UInt16(number)] {
                diagnostics.error(
                    "\(what) cannot be listed here", at: item.location, "IP is judged by the rules, a tagged frame by what is inside")
                continue
            }
            let type = EtherType(rawValue: UInt16(number))
            if result.contains(type) { diagnostics.warning("\(EtherTypeNames.name(type)) is listed twice", at: item.location) }
            result.append(type)
        }
        return result
    }

    // MARK: - Devices

    private mutating func readDevices(_ value: TOMLValue) {
        guard case .table(let entries) = value.content else { return expect("a table", "devices", value) }
        var owners: [AddressPrefix: String] = [:]
        for entry in entries {
            guard case .table(let fields) = entry.value.content else {
                expect("a table", "device \"\(entry.key)\"", entry.value, "write [devices.\(entry.key)]")
                continue
            }
            checkName(entry)
            let table = Table(fields)
            checkKeys(table, ["addresses", "mac", "side", "mode"], of: "a device")
            var device = PolicyDocument.Device(name: entry.key, addresses: [], macs: [], location: entry.keyLocation)
            if let addresses = table["addresses"] {
                for item in list(addresses, "addresses of \"\(entry.key)\"") {
                    guard let prefix = address(item) else { continue }
                    guard prefix.isHost else {
                        diagnostics.error(
                            "a device has addresses, not networks", at: item.location, "put \(prefix.written) into a group")
                        continue
                    }
                    if let other = owners[prefix] {
                        diagnostics.error(
                            "\(prefix.written) belongs to device \"\(other)\" already", at: item.location)
                    }
                    owners[prefix] = entry.key
                    device.addresses.append(prefix)
                }
            } else {
                diagnostics.error("device \"\(entry.key)\" has no addresses", at: entry.keyLocation, "add addresses = [\"…\"]")
            }
            device.side = table["side"].flatMap { readSide($0, "where the device is") }
            if let value = table["mode"], let text = string(value, "mode of \"\(entry.key)\"") {
                device.isLearning = text == "learn"
                if text != "learn" {
                    diagnostics.error(
                        "a device has no mode \"\(text)\"", at: value.location,
                        nearest(text, among: ["learn"]) ?? "use learn, or leave it out: the policy's mode holds")
                }
            }
            for item in table["mac"].map({ list($0, "mac of \"\(entry.key)\"") }) ?? [] {
                guard let text = string(item, "mac") else { continue }
                guard let mac = MACAddress(written: text) else {
                    diagnostics.error("\"\(text)\" is no MAC address", at: item.location, "e.g. \"02:00:00:00:03:0a\"")
                    continue
                }
                if mac.isGroup || mac.rawValue == 0 {
                    diagnostics.error("\(mac.written) is no device's own address (it is \(mac.isGroup ? "a group's" : "zero"))", at: item.location)
                    continue
                }
                device.macs.append(mac)
            }
            devices[entry.key] = device
            deviceOrder.append(entry.key)
        }
    }

    /// Whatever this device asks for or is asked passes, in whatever mode the others are: it comes last, so that its counts say what no other rule allows.
    private func learningRules(_ device: PolicyDocument.Device) -> [PolicyDocument.Rule] {
        let anyone: [AddressPrefix] = [.any(.ipv4), .any(.ipv6)]
        return [true, false].map { asks in
            PolicyDocument.Rule(
                id: "learn:\(device.name):\(asks ? "client" : "server")", from: [asks ? device.name : "any"], to: [asks ? "any" : device.name], service: ["any"],
                clients: asks ? device.addresses : anyone, servers: asks ? anyone : device.addresses, services: WrittenService.all, purpose: nil, owner: nil,
                vlans: [], side: nil, isMonitored: true, isLearning: true, expires: nil, flows: flowOptions, location: device.location)
        }
    }

    /// A name that reads as an address would never be found.
    private mutating func checkName(_ entry: TOMLEntry) {
        if entry.key == "any" || AddressPrefix.address(String(entry.key.split(separator: "/").first ?? "")) != nil {
            diagnostics.error("\"\(entry.key)\" cannot be a name: it means something already", at: entry.keyLocation)
        } else if entry.key.isEmpty {
            diagnostics.error("a name is empty", at: entry.keyLocation)
        } else if entry.key.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
            diagnostics.error("a name has a control character", at: entry.keyLocation)
        }
    }

    private mutating func address(_ value: TOMLValue) -> AddressPrefix? {
        guard let text = string(value, "an address") else { return nil }
        do throws(AddressPrefix.WrittenError) {
            return try AddressPrefix(written: text)
        } catch {
            report(error, text, at: value.location, known: [])
            return nil
        }
    }

    private mutating func report(
        _ error: AddressPrefix.WrittenError, _ text: String, at location: SourceLocation, known: [String]
    ) {
        switch error {
        case .notAnAddress:
            let looksNumeric = text.contains(":") || text.allSatisfy { $0.isASCIIDigit || $0 == "." || $0 == "/" }
            if known.isEmpty || looksNumeric {
                diagnostics.error("\"\(text)\" is no IP address or network", at: location, "e.g. \"10.3.1.21\" or \"10.3.1.64/27\"")
            } else {
                diagnostics.error(
                    "unknown name \"\(text)\"", at: location,
                    nearest(text, among: known) ?? "define it under [devices.\(text)] or [groups]")
            }
        case .length(let most):
            diagnostics.error("the prefix length of \"\(text)\" is too long", at: location, "the most is /\(most)")
        case .hostBits(let network):
            diagnostics.error("\"\(text)\" has host bits set", at: location, "the network is \"\(network.written)\"")
        }
    }

    // MARK: - Groups

    private mutating func readGroups(_ value: TOMLValue) {
        guard case .table(let entries) = value.content else { return expect("a table", "groups", value) }
        for entry in entries {
            checkName(entry)
            if devices[entry.key] != nil {
                diagnostics.error("\"\(entry.key)\" is a device and a group", at: entry.keyLocation, "give one of them another name")
            }
            guard case .array(let members) = entry.value.content else {
                expect("a list", "group \"\(entry.key)\"", entry.value)
                continue
            }
            if members.isEmpty { diagnostics.error("group \"\(entry.key)\" is empty", at: entry.value.location) }
            groupEntries[entry.key] = (entry, members)
            groupOrder.append(entry.key)
        }
        for entry in entries where groupEntries[entry.key] != nil { _ = group(entry.key, []) }
    }

    /// The addresses of a group, those of groups inside it included.
    private mutating func group(_ name: String, _ path: [String]) -> [AddressPrefix] {
        if let known = groups[name] { return known }
        guard let (entry, members) = groupEntries[name] else { return [] }
        if path.count > deepestGroup {
            diagnostics.error("group \"\(name)\" lies more than \(deepestGroup) groups deep", at: entry.keyLocation)
            return []
        }
        if path.contains(name) {
            diagnostics.error(
                "group \"\(name)\" contains itself (\((path + [name]).joined(separator: " → ")))", at: entry.keyLocation)
            groups[name] = []
            return []
        }
        var result: [AddressPrefix] = []
        for member in members {
            guard let text = string(member, "a member of group \"\(name)\"") else { continue }
            result += endpoint(text, at: member.location, path + [name])
        }
        result = Self.minimal(result)
        groups[name] = result
        return result
    }

    /// A device, group, address, network or "any".
    private mutating func endpoint(_ text: String, at location: SourceLocation, _ path: [String] = []) -> [AddressPrefix] {
        if text == "any" { return [.any(.ipv4), .any(.ipv6)] }
        if let device = devices[text] { return device.addresses }
        if groupEntries[text] != nil { return group(text, path) }
        do throws(AddressPrefix.WrittenError) {
            return [try AddressPrefix(written: text)]
        } catch {
            report(error, text, at: location, known: Array(devices.keys) + Array(groupEntries.keys) + ["any"])
            return []
        }
    }

    /// Without duplicates and without what a wider one covers.
    private static func minimal(_ prefixes: [AddressPrefix]) -> [AddressPrefix] {
        let unique = Array(Set(prefixes)).sorted {
            ($0.family.rawValue, $0.length, $0.words.high, $0.words.low) < ($1.family.rawValue, $1.length, $1.words.high, $1.words.low)
        }
        let networks = unique.filter { !$0.isHost }
        return unique.filter { prefix in !networks.contains { $0 != prefix && $0.contains(prefix) } }
    }

    // MARK: - Services

    private mutating func readServices(_ value: TOMLValue) {
        guard case .table(let entries) = value.content else { return expect("a table", "services", value) }
        for entry in entries {
            if entry.key.contains("/") {
                diagnostics.error("a service name cannot contain \"/\"", at: entry.keyLocation)
            }
            var ranges: [ServiceRange] = []
            for item in list(entry.value, "service \"\(entry.key)\"") {
                guard let text = string(item, "a port of service \"\(entry.key)\"") else { continue }
                ranges += writtenService(text, at: item.location)
            }
            services[entry.key] = ranges
        }
    }

    private mutating func writtenService(_ text: String, at location: SourceLocation) -> [ServiceRange] {
        do throws(WrittenService.Problem) {
            let service = try WrittenService(text)
            if let reason = service.neverMatches {
                diagnostics.warning("\"\(text)\" can never match: \(reason)", at: location, "e.g. \"icmp/echo\"")
            }
            return service.ranges
        } catch {
            diagnostics.error(error.message, at: location, error.suggestion)
            return []
        }
    }

    private mutating func service(_ text: String, at location: SourceLocation) -> [ServiceRange] {
        if let own = services[text] ?? ServiceCatalogue.ranges(text) { return own }
        if text.contains("/") { return writtenService(text, at: location) }
        let known = Array(services.keys) + Array(ServiceCatalogue.entries.keys)
        diagnostics.error(
            "unknown service \"\(text)\"", at: location,
            nearest(text, among: known) ?? "define it under [services], or write protocol/port")
        return []
    }

    // MARK: - Rules

    private mutating func readRules(_ value: TOMLValue) -> [PolicyDocument.Rule] {
        guard case .array(let values) = value.content else {
            expect("a list of tables", "allow", value, "write [[allow]]")
            return []
        }
        var ids: [String: SourceLocation] = [:]
        var rules: [PolicyDocument.Rule] = []
        for value in values {
            guard case .table(let fields) = value.content else {
                expect("a table", "a rule", value, "write [[allow]]")
                continue
            }
            if let rule = readRule(Table(fields), value.location, &ids) { rules.append(rule) }
        }
        return rules
    }

    private mutating func readRule(
        _ table: Table, _ location: SourceLocation, _ ids: inout [String: SourceLocation]
    ) -> PolicyDocument.Rule? {
        checkKeys(
            table, ["id", "from", "to", "service", "purpose", "owner", "vlan", "side", "mode", "expires", "tcp", "midstream", "reply_s", "ftp_data", "mirror"],
            of: "a rule")
        var id = ""
        if let value = table["id"] {
            id = string(value, "id") ?? ""
            if id.isEmpty, case .string = value.content { diagnostics.error("id is empty", at: value.location) }
            if let first = ids[id], !id.isEmpty {
                diagnostics.error("the id \"\(id)\" is used already, in line \(first.line)", at: value.location)
            }
            ids[id] = value.location
        } else {
            diagnostics.error("a rule has no id", at: location, "add id = \"…\": counters and evidence go by it")
        }
        let label = id.isEmpty ? "the rule" : "rule \"\(id)\""
        func missing(_ key: String) {
            diagnostics.error("\(label) has no \"\(key)\"", at: location, "add \(key) = …; \"any\" is a value, silence is not")
        }
        var endpoints: [String: (names: [String], prefixes: [AddressPrefix])] = [:]
        for key in ["from", "to"] {
            guard let value = table[key] else {
                missing(key)
                continue
            }
            var names: [String] = []
            var prefixes: [AddressPrefix] = []
            for item in list(value, "\"\(key)\" of \(label)") {
                guard let text = string(item, "\"\(key)\"") else { continue }
                names.append(text)
                prefixes += endpoint(text, at: item.location)
            }
            endpoints[key] = (names, Self.minimal(prefixes))
        }
        var serviceNames: [String] = []
        var ranges: [ServiceRange] = []
        if let value = table["service"] {
            for item in list(value, "\"service\" of \(label)") {
                guard let text = string(item, "\"service\"") else { continue }
                serviceNames.append(text)
                ranges += service(text, at: item.location)
            }
        } else {
            missing("service")
        }
        var flows = readFlowOptions(table, flowOptions)
        if let value = table["ftp_data"] { flows.expectsData = boolean(value, "ftp_data") ?? false }
        if flows.expectsData, !ranges.contains(where: { $0.ipProtocol == .tcp }) {
            diagnostics.error("\(label) has ftp_data, but no TCP service", at: location, "add service = \"ftp\"")
        }
        let rule = PolicyDocument.Rule(
            id: id, from: endpoints["from"]?.names ?? [], to: endpoints["to"]?.names ?? [], service: serviceNames,
            clients: endpoints["from"]?.prefixes ?? [], servers: endpoints["to"]?.prefixes ?? [],
            services: ranges, purpose: table["purpose"].flatMap { string($0, "purpose") },
            owner: table["owner"].flatMap { string($0, "owner") }, vlans: table["vlan"].map { readVLANs($0) } ?? [],
            side: table["side"].flatMap { readSide($0) }, isMonitored: table["mode"].map { readRuleMode($0) } ?? false,
            expires: table["expires"].flatMap { readExpiry($0) }, flows: flows,
            isMirrored: table["mirror"].flatMap { boolean($0, "mirror") } ?? false, location: location)
        checkMatchable(rule, label)
        return rule
    }

    private mutating func readVLANs(_ value: TOMLValue) -> [VLANID] {
        var known: Set<UInt16> = []
        return list(value, "vlan").compactMap { item in
            guard case .integer(let number) = item.content, (1...4094).contains(number) else {
                diagnostics.error("a VLAN id is a number from 1 to 4094", at: item.location)
                return nil
            }
            guard known.insert(UInt16(number)).inserted else {
                diagnostics.warning("VLAN \(number) is listed twice", at: item.location)
                return nil
            }
            return VLANID(rawValue: UInt16(number))
        }
    }

    private mutating func readSide(_ value: TOMLValue, _ what: String = "where the client is") -> Side? {
        guard let text = string(value, "side") else { return nil }
        switch text {
        case "inside": return .inside
        case "outside": return .outside
        default:
            diagnostics.error(
                "unknown side \"\(text)\"", at: value.location,
                nearest(text, among: ["inside", "outside"]) ?? "use \"inside\" or \"outside\": \(what)")
            return nil
        }
    }

    private mutating func readRuleMode(_ value: TOMLValue) -> Bool {
        guard let text = string(value, "mode") else { return false }
        switch text {
        case "monitor": return true
        case "enforce": return false
        default:
            diagnostics.error(
                "a rule's mode is \"monitor\" (it passes and is counted apart) or \"enforce\"", at: value.location)
            return false
        }
    }

    private mutating func readExpiry(_ value: TOMLValue) -> Int64? {
        guard case .dateTime(let date) = value.content, let offset = date.offsetMinutes else {
            diagnostics.error(
                "expires must name an instant, not \(value.kindName)", at: value.location, "e.g. 2027-01-01T00:00:00Z")
            return nil
        }
        let days = daysFromCivil(date.year, date.month, date.day)
        let seconds = date.hour * 3600 + date.minute * 60 + date.second - offset * 60
        return Int64(days * 86400 + seconds)
    }

    /// A rule that can never match is a mistake somebody should hear of.
    private mutating func checkMatchable(_ rule: PolicyDocument.Rule, _ label: String) {
        if rule.isExpired(at: now) {
            diagnostics.warning("\(label) has expired: it can never match", at: rule.location, "remove it, or set a new date")
        }
        guard !rule.clients.isEmpty, !rule.servers.isEmpty, !rule.services.isEmpty else { return }
        let families = IPFamily.allCases.filter { family in
            rule.clients.contains { $0.family == family } && rule.servers.contains { $0.family == family }
        }
        if families.isEmpty {
            diagnostics.warning(
                "\(label) can never match: \"from\" and \"to\" have no IP family in common", at: rule.location,
                "add the missing IPv4 or IPv6 addresses")
        } else if !rule.services.contains(where: { service in families.contains { service.applies(to: $0) } }) {
            diagnostics.warning(
                "\(label) can never match: its services are not of the addresses' IP family", at: rule.location,
                "write icmp/… for both families")
        } else if rule.clients == rule.servers, rule.clients.count == 1, rule.clients[0].isHost {
            diagnostics.warning("\(label) can never match: it allows a device to talk to itself", at: rule.location)
        }
        if rule.clients.contains(where: { $0.length == 0 }), rule.servers.contains(where: { $0.length == 0 }) {
            diagnostics.warning("\(label) allows anybody to reach anybody", at: rule.location, "name the devices")
        }
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
private func daysFromCivil(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146097 + dayOfEra - 719468
}
