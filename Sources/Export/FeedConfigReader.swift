// From TOML to a configuration: every problem is reported, with its place.

import Policy

/// What came of reading a file: a configuration if there was no error, and all findings in the order of the file.
public struct FeedConfigReading: Sendable {
    public var config: FeedConfig?
    public var diagnostics: [Diagnostic]
}

/// Larger files are refused.
public let largestFeedFile = 1 << 20

public struct FeedConfigReader {
    var diagnostics = Diagnostics()
    /// Of every kind.
    private var names: Set<String> = []

    public static func read(_ text: [UInt8]) -> FeedConfigReading {
        var reader = FeedConfigReader()
        let config = reader.config(text)
        return FeedConfigReading(config: reader.diagnostics.hasErrors ? nil : config, diagnostics: reader.diagnostics.all.sorted())
    }

    private static let keys = ["version", "bridge", "hostname", "syslog", "webhook", "file", "ipfix", "metrics"]

    private mutating func config(_ text: [UInt8]) -> FeedConfig? {
        let start = SourceLocation(line: 1, column: 1)
        let root: TOMLValue
        do throws(TOMLSyntaxError) { root = try TOMLValue.parse(text) } catch {
            diagnostics.error("not TOML: \(error.message)", at: error.location)
            return nil
        }
        guard case .table(let entries) = root.content else { return nil }
        let table = Table(entries, root.location)
        check(table, Self.keys, of: "a configuration of feeds")
        if let version = table["version"] {
            if case .integer(1) = version.content {} else {
                diagnostics.error("this program reads feeds of version 1", at: version.location, "write version = 1")
            }
        } else {
            diagnostics.error("version is missing", at: start, "begin the file with version = 1")
        }
        var config = FeedConfig()
        config.bridge = word(table, "bridge")
        config.hostname = word(table, "hostname")
        for one in tables(table, "syslog") { if let read = syslog(one) { config.syslog.append(read) } }
        for one in tables(table, "webhook") { if let read = webhook(one) { config.webhooks.append(read) } }
        for one in tables(table, "file") { if let read = file(one) { config.files.append(read) } }
        for one in tables(table, "ipfix") { if let read = ipfix(one) { config.collectors.append(read) } }
        if let value = table["metrics"] { config.metrics = metrics(value) }
        if config.isEmpty, !diagnostics.hasErrors {
            diagnostics.error("there is nobody to tell", at: start, "write [[syslog]], [[webhook]], [[file]], [[ipfix]] or [metrics]")
        }
        return config
    }

    // MARK: - Destinations

    /// Keys of every destination of messages.
    private static let deliveryKeys = ["name", "events", "most_waiting", "begin"]
    private static let tlsKeys = ["ca", "certificate", "key", "server_name"]

    private mutating func syslog(_ table: Table) -> SyslogOptions? {
        check(table, Self.deliveryKeys + Self.tlsKeys + ["to", "format", "facility", "framing", "enterprise", "longest", "resend_s"], of: "[[syslog]]")
        guard let delivery = delivery(table, "[[syslog]]") else { return nil }
        guard let to = endpoint(table, "to", usual: [.udp: 514, .tls: 6514], example: "tls://10.0.9.5:6514") else { return nil }
        let tls = tls(table, isUsed: to.transport == .tls, "\(to.transport.rawValue)://")
        if to.transport == .udp {
            for key in ["framing", "resend_s"] {
                if let value = table[key] { diagnostics.error("\(key) has no meaning over UDP", at: value.location, "leave it out") }
            }
        }
        return SyslogOptions(
            delivery: delivery, to: to, format: choice(table, "format", MessageFormat.self) ?? .rfc5424, facility: facility(table),
            framing: choice(table, "framing", SyslogOptions.Framing.self) ?? .octets, tls: tls,
            enterprise: integer(table, "enterprise", 1...0x7FFF_FFFF) ?? SyslogFormat.exampleEnterprise,
            // RFC 5426 asks receivers to take 2048 octets in a datagram; 8 KiB is what rsyslog takes by itself.
            longest: integer(table, "longest", 480...60_000) ?? (to.transport == .udp ? 2048 : 8192),
            resendSeconds: integer(table, "resend_s", 0...600) ?? 5)
    }

    private mutating func webhook(_ table: Table) -> WebhookOptions? {
        check(table, Self.deliveryKeys + Self.tlsKeys.filter { $0 != "server_name" } + ["url", "address", "secret_file", "timeout_s"], of: "[[webhook]]")
        guard let delivery = delivery(table, "[[webhook]]") else { return nil }
        guard let url = string(table, "url", isNeeded: true) else { return nil }
        let scheme = url.hasPrefix("https://") ? "https://" : url.hasPrefix("http://") ? "http://" : nil
        guard let scheme, WebhookExporter.host(of: url) != nil else {
            diagnostics.error("url is no address of a web server", at: table["url"]!.location, "write e.g. url = \"https://10.0.9.6/sekisho\"")
            return nil
        }
        let tls = tls(table, isUsed: scheme == "https://", scheme)
        let address = string(table, "address")
        if let address, !Endpoint.isAddress(address) {
            diagnostics.error("address must be an IP address", at: table["address"]!.location, "the name belongs into url")
        }
        let secret = string(table, "secret_file")
        if secret == nil {
            diagnostics.warning("messages to \"\(delivery.name)\" are not signed", at: table.location, "name a secret_file")
        }
        return WebhookOptions(
            delivery: delivery, url: url, address: address, secretFile: secret, tls: tls, timeoutSeconds: integer(table, "timeout_s", 1...300) ?? 10)
    }

    private mutating func file(_ table: Table) -> FileOptions? {
        check(table, Self.deliveryKeys + ["path", "format"], of: "[[file]]")
        guard let delivery = delivery(table, "[[file]]"), let path = string(table, "path", isNeeded: true) else { return nil }
        if path != "-", !path.hasPrefix("/") {
            diagnostics.error("path must begin with /, or be \"-\" for the standard output", at: table["path"]!.location)
        }
        let format = choice(table, "format", MessageFormat.self) ?? .json
        return FileOptions(delivery: delivery, path: path, format: format)
    }

    /// Of any destination of messages.
    mutating func delivery(_ table: Table, _ what: String) -> DeliveryOptions? {
        let name = self.name(table, what)
        var events = Set(FeedCategory.choices)
        if let value = table["events"] {
            events = []
            guard case .array(let items) = value.content, !items.isEmpty else {
                diagnostics.error("events must be a list of kinds", at: value.location, "leave it out for all of them")
                return nil
            }
            for item in items {
                guard case .string(let text) = item.content else {
                    diagnostics.error("an event must be a string, not \(item.kindName)", at: item.location)
                    continue
                }
                if let found = FeedCategory.choices.first(where: { $0.rawValue == text }) { events.insert(found) } else {
                    unknown("kind of event", text, at: item.location, FeedCategory.choices.map(\.rawValue))
                }
            }
        }
        let most = integer(table, "most_waiting", 1...10_000_000) ?? 100_000
        let begin = choice(table, "begin", Begin.self) ?? .now
        guard let name else { return nil }
        return DeliveryOptions(name: name, events: events, mostWaiting: Int64(most), beginsAtStart: begin == .start)
    }

    enum Begin: String, CaseIterable { case now, start }

    /// It stands in logs, metrics and the feed's memory.
    mutating func name(_ table: Table, _ what: String) -> String? {
        guard let name = string(table, "name", isNeeded: true) else { return nil }
        let isPlain = name.unicodeScalars.allSatisfy {
            $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0) || "-_.".unicodeScalars.contains($0))
        }
        guard isPlain, (1...64).contains(name.utf8.count) else {
            diagnostics.error("the name of a \(what) has 1 to 64 letters, digits, '-', '_' and '.'", at: table["name"]!.location)
            return nil
        }
        if !names.insert(name).inserted { diagnostics.error("there are two of the name \"\(name)\"", at: table["name"]!.location) }
        return name
    }

    mutating func endpoint(_ table: Table, _ key: String, usual: [Endpoint.Transport: Int] = [:], example: String) -> Endpoint? {
        guard let text = string(table, key, isNeeded: true) else { return nil }
        if let endpoint = Endpoint(text, usual: usual) { return endpoint }
        diagnostics.error("\(key) is no destination: \"\(text)\"", at: table[key]!.location, "write e.g. \(key) = \"\(example)\"")
        return nil
    }

    private mutating func tls(_ table: Table, isUsed: Bool, _ scheme: String) -> TLSOptions {
        if !isUsed {
            for key in Self.tlsKeys {
                if let value = table[key] { diagnostics.error("\(key) has no meaning for \(scheme)", at: value.location, "nothing is encrypted there") }
            }
        }
        let tls = TLSOptions(
            ca: string(table, "ca"), certificate: string(table, "certificate"), key: string(table, "key"), serverName: string(table, "server_name"))
        if (tls.certificate == nil) != (tls.key == nil) {
            diagnostics.error("certificate and key belong together", at: (table["certificate"] ?? table["key"])!.location)
        }
        return tls
    }

    private mutating func facility(_ table: Table) -> Int {
        guard let text = string(table, "facility") else { return SyslogFormat.usualFacility }
        if let number = SyslogFormat.facilities[text] { return number }
        unknown("facility", text, at: table["facility"]!.location, SyslogFormat.facilities.keys.sorted())
        return SyslogFormat.usualFacility
    }

    // MARK: - Reading values

    /// Entries by key.
    struct Table {
        let entries: [TOMLEntry]
        let location: SourceLocation

        init(_ entries: [TOMLEntry], _ location: SourceLocation) { (self.entries, self.location) = (entries, location) }

        subscript(_ key: String) -> TOMLValue? { entries.first { $0.key == key }?.value }
    }

    mutating func check(_ table: Table, _ known: [String], of what: String) {
        for entry in table.entries where !known.contains(entry.key) {
            diagnostics.error(
                "unknown key \"\(entry.key)\" in \(what)", at: entry.keyLocation,
                nearest(entry.key, among: known) ?? "known keys: \(known.joined(separator: ", "))")
        }
    }

    /// `[[key]]`, any number.
    mutating func tables(_ table: Table, _ key: String) -> [Table] {
        guard let value = table[key] else { return [] }
        guard case .array(let items) = value.content else {
            diagnostics.error("\(key) must be a list of tables, not \(value.kindName)", at: value.location, "write [[\(key)]]")
            return []
        }
        return items.compactMap { item in
            if case .table(let entries) = item.content { return Table(entries, item.location) }
            diagnostics.error("\(key) must be a list of tables", at: item.location, "write [[\(key)]]")
            return nil
        }
    }

    mutating func string(_ table: Table, _ key: String, isNeeded: Bool = false) -> String? {
        guard let value = table[key] else {
            if isNeeded { diagnostics.error("\(key) is missing", at: table.location) }
            return nil
        }
        guard case .string(let text) = value.content else {
            diagnostics.error("\(key) must be a string, not \(value.kindName)", at: value.location)
            return nil
        }
        guard !text.isEmpty, !text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
            diagnostics.error(text.isEmpty ? "\(key) is empty" : "\(key) has a control character", at: value.location)
            return nil
        }
        return text
    }

    /// What a message's header may hold (RFC 5424: printable ASCII).
    private mutating func word(_ table: Table, _ key: String) -> String? {
        guard let text = string(table, key) else { return nil }
        if text.utf8.count <= 48, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) { return text }
        diagnostics.error("\(key) has 1 to 48 printable ASCII characters and no blanks", at: table[key]!.location)
        return nil
    }

    mutating func integer(_ table: Table, _ key: String, _ range: ClosedRange<Int>) -> Int? {
        guard let value = table[key] else { return nil }
        if case .integer(let number) = value.content, range.contains(Int(clamping: number)) { return Int(number) }
        diagnostics.error("\(key) must be a number from \(range.lowerBound) to \(range.upperBound)", at: value.location)
        return nil
    }

    mutating func choice<T: RawRepresentable<String> & CaseIterable>(_ table: Table, _ key: String, _ type: T.Type) -> T? {
        guard let text = string(table, key) else { return nil }
        if let found = T(rawValue: text) { return found }
        unknown(key, text, at: table[key]!.location, T.allCases.map(\.rawValue))
        return nil
    }

    private mutating func unknown(_ what: String, _ text: String, at location: SourceLocation, _ known: [String]) {
        diagnostics.error("unknown \(what) \"\(text)\"", at: location, nearest(text, among: known) ?? "known: \(known.joined(separator: ", "))")
    }
}
