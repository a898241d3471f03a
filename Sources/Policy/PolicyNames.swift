// Sets of addresses in the words of a policy: its groups and devices, else networks.

import Allowlist
import Frames

/// A set of addresses for a reader: these, without those.
public struct NamedAddresses: Sendable, Hashable {
    public var names: [String]
    /// Names that are not meant, though `names` include them.
    public var except: [String] = []

    public init(names: [String], except: [String] = []) {
        self.names = names
        self.except = except
    }
}

/// What a policy calls addresses.
public struct PolicyNames: Sendable {
    private struct Named: Sendable {
        var name: String
        var spans: Spans
    }

    /// Groups, the largest first.
    private var groups: [IPFamily: [Named]] = [:]
    private var devices: [IPFamily: [UInt128: Named]] = [:]
    private var byName: [String: [IPFamily: Spans]] = [:]

    public init(_ document: PolicyDocument) {
        for family in IPFamily.allCases {
            for device in document.devices {
                let spans = Spans(device.addresses, family)
                if spans.isEmpty { continue }
                byName[device.name, default: [:]][family] = spans
                for address in device.addresses where address.family == family {
                    devices[family, default: [:]][address.words.number] = Named(name: device.name, spans: spans)
                }
            }
            var named: [Named] = []
            for group in document.groups {
                let spans = Spans(group.addresses, family)
                if spans.isEmpty { continue }
                byName[group.name, default: [:]][family] = spans
                // One address is the device, whatever group it is in.
                if spans.size == 1, devices[family]?[spans.spans[0].low]?.spans == spans { continue }
                named.append(Named(name: group.name, spans: spans))
            }
            groups[family] = named.map { ($0, $0.spans.size) }.sorted { $0.1 > $1.1 }.map(\.0)
            byName["any", default: [:]][family] = .addresses(family)
        }
    }

    /// - Parameter preferred: names to try first, as a rule has them.
    public func names(_ prefixes: [AddressPrefix], _ family: IPFamily, preferring preferred: [String] = []) -> [String] {
        names(Spans(prefixes, family), family, preferring: preferred)
    }

    /// "scanner-1", or "10.3.1.21" if the policy has no name for it.
    public func name(_ address: AddressWords, _ family: IPFamily) -> String {
        devices[family]?[address.number]?.name ?? address.written(family)
    }

    /// Whether a name stands for addresses of both families.
    func isOfBothFamilies(_ name: String) -> Bool { byName[name]?.count == 2 }

    func names(_ set: Spans, _ family: IPFamily, preferring preferred: [String]) -> [String] {
        var rest = set
        var names: [String] = []
        func take(_ name: String, _ spans: Spans) {
            guard !rest.isEmpty, set.contains(spans), rest.meets(spans) else { return }
            names.append(name)
            rest = rest.subtracting(spans)
        }
        for name in preferred {
            if let spans = byName[name]?[family] {
                take(name, spans)
            } else if let prefix = WrittenAddress.network(name), prefix.family == family {
                take(prefix.written, Spans([prefix.span]))
            }
        }
        for group in groups[family] ?? [] where !rest.isEmpty { take(group.name, group.spans) }
        // Devices before networks, else a pair of neighbours would be a /31.
        if let devices = devices[family], !devices.isEmpty {
            var taken: [Spans.Span] = []
            var seen: Set<String> = []
            for span in rest.spans where span.high - span.low < 256 {
                for address in span.low...span.high {
                    guard let device = devices[address], rest.contains(device.spans), seen.insert(device.name).inserted else { continue }
                    names.append(device.name)
                    taken += device.spans.spans
                }
            }
            rest = rest.subtracting(Spans(taken))
        }
        for prefix in rest.prefixes(family) {
            if prefix.isHost, let device = devices[family]?[prefix.words.number] {
                // One of several addresses.
                names.append("\(prefix.written) (\(device.name))")
            } else {
                names.append(prefix.written)
            }
        }
        return names
    }

    /// As short as can be: if most of a rule's addresses are meant, those that are not are named.
    func named(_ set: Spans, of whole: Spans, _ family: IPFamily, preferring preferred: [String]) -> NamedAddresses {
        let names = names(set, family, preferring: preferred)
        guard names.count > 3 else { return NamedAddresses(names: names) }
        let all = self.names(whole, family, preferring: preferred)
        let except = self.names(whole.subtracting(set), family, preferring: [])
        if except.isEmpty || all.count + except.count >= names.count { return NamedAddresses(names: names) }
        return NamedAddresses(names: all, except: except)
    }
}
