// What somebody who knows the generated fab would say of it: who stands in for whom, and for what.

import Allowlist
import Baseline
import FabTraffic
import Frames

extension FabTraffic {
    /// As 'sekisho alike' would have it.
    var standIns: [Decision] {
        var hosts: [String: [UInt32]] = [:], tools: [ToolKind: [UInt32]] = [:], bays: [UInt32: [UInt32]] = [:], controllers: [UInt32] = []
        for device in truth.devices {
            switch device.role {
            case .tool(let kind):
                tools[kind, default: []].append(device.address)
                bays[device.address >> 8, default: []].append(device.address)
            case .controller: controllers.append(device.address)
            case .server where device.name.hasPrefix("eq-host"): hosts[device.name.replacing("-standby", with: ""), default: []].append(device.address)
            default: break
            }
        }
        func tcp(_ ports: Int...) -> [ServiceRange?] { ports.map { ServiceRange(.tcp, Port(rawValue: UInt16($0)), Port(rawValue: UInt16($0))) } }
        func alike(_ addresses: [UInt32], _ services: [ServiceRange?] = [nil]) -> [Decision] {
            services.map { service in
                Decision(
                    at: .max, who: "truth", why: "", verdict: .alike, service: service,
                    members: addresses.map { AddressPrefix(family: .ipv4, words: AddressWords(high: 0, low: UInt64($0)), length: 32) })
            }
        }
        let all = tools.values.flatMap(\.self)
        // Every host has a standby; who comes to one tool of a bay may come to the others; every tool may use what the plant offers to tools.
        var said = hosts.values.flatMap { alike($0) } + bays.values.flatMap { alike($0, tcp(21, 23, 3389, 5900)) }
        said += alike(all, tcp(25, 37, 104, 135, 1433, 1521, 1883, 5985, 5986, 6129, 8014, 8081, 8443, 8444, 8530, 8883, 9100, 9200, 9443, 10_000, 27_000, 27_001))
        said += alike(controllers, [ServiceRange(.udp, Port(rawValue: 162), Port(rawValue: 162))])
        // A maker's programs are those of its tools.
        for (kind, own) in tools { said += alike(own, tcp(443, 7000 + Int(kind.rawValue) * 11)) }
        return said
    }
}
