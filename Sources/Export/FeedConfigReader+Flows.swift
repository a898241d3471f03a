// The parts of `feeds.toml` that are no messages: flow collectors and metrics.

import Policy

extension FeedConfigReader {
    mutating func ipfix(_ table: Table) -> FlowCollector? {
        check(table, ["name", "to", "interval_s", "observation_domain", "begin"], of: "[[ipfix]]")
        let name = name(table, "[[ipfix]]")
        // The registered port, of UDP and TCP (RFC 7011 13).
        let to = endpoint(table, "to", usual: [.udp: 4739, .tcp: 4739], example: "udp://10.0.9.7:4739")
        if let to, to.transport == .tls {
            diagnostics.error("flow records go over UDP or TCP", at: table["to"]?.location ?? table.location, "write udp:// or tcp://")
        }
        let interval = integer(table, "interval_s", 1...3600) ?? 60
        let domain = integer(table, "observation_domain", 1...0xFFFF_FFFF) ?? 1
        let begin = choice(table, "begin", Begin.self) ?? .now
        guard let name, let to else { return nil }
        return FlowCollector(name: name, to: to, interval: interval, observationDomain: UInt32(clamping: domain), beginsAtStart: begin == .start)
    }

    mutating func metrics(_ value: TOMLValue) -> MetricsOptions? {
        guard case .table(let entries) = value.content else {
            diagnostics.error("metrics must be a table, not \(value.kindName)", at: value.location, "write [metrics]")
            return nil
        }
        let table = Table(entries, value.location)
        check(table, ["listen", "token_file", "certificate", "key"], of: "[metrics]")
        let listen = string(table, "listen") ?? "127.0.0.1:9469"
        let place = table["listen"]?.location ?? table.location
        guard let to = Endpoint("tcp://\(listen)"), Endpoint.isAddress(to.host) else {
            diagnostics.error("listen is no address and port: \"\(listen)\"", at: place, "write e.g. listen = \"127.0.0.1:9469\"")
            return nil
        }
        let options = MetricsOptions(
            host: to.host, port: to.port, tokenFile: string(table, "token_file"), certificate: string(table, "certificate"), key: string(table, "key"))
        if (options.certificate == nil) != (options.key == nil) {
            diagnostics.error("certificate and key belong together", at: (table["certificate"] ?? table["key"])?.location ?? table.location)
        }
        let isLocal = to.host.hasPrefix("127.") || to.host == "::1"
        if !isLocal, options.tokenFile == nil {
            diagnostics.warning("whoever reaches \(listen) can read the metrics, names of rules and ports among them", at: place, "name a token_file")
        } else if !isLocal, options.certificate == nil {
            diagnostics.warning("the token crosses the network in clear", at: place, "name a certificate and its key")
        }
        return options
    }
}
