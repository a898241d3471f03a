// Interface A (EDA): a client asks the tool for its data, and the tool calls the client back with them.
//
// Freeze 1 and 2 are SOAP over HTTP/1.1, two sockets a request and none used again; freeze 3 is gRPC, a few long connections.

import Frames

extension FabPlan {
    mutating func addDataCollection() {
        var random = random()
        for tool in tools {
            let (isOld, isNew): (Bool, Bool) =
                switch tool.kind {
                case .lithography, .etch: (random.chance(0.6), true)
                case .deposition, .implant: (random.chance(0.3), random.chance(0.3))
                default: (false, false)
                }
            guard isOld || isNew else { continue }
            let client = server("eda-\(tool.kind)")
            if isOld {
                // HTTPS where the maker can.
                let port = tool.kind == .lithography ? 443 : 8080
                let rate = scenario.edaRequestsPerHour
                let ask = line("eda \(tool.kind)", client, tool.data, .tcp, port, perDay: rate * 20)
                exchanges.append(
                    Exchanges(
                        ask, perHour: rate * 0.2, rhythm: .production, out: .payload(1800), back: .payload(4000),
                        lasting: 80 * Span.millisecond, sockets: 2, failures: scenario.failures, random: self.random()))
                let call = line("eda callback \(tool.kind)", tool.data, client, .tcp, 9090, perDay: rate * 20)
                exchanges.append(
                    Exchanges(
                        call, perHour: rate * 0.8, rhythm: .production, out: .payload(24_000), back: .payload(600),
                        lasting: 60 * Span.millisecond, sockets: 2, failures: scenario.failures, random: self.random()))
            } else {
                let pace = Pace(
                    period: 10 * Span.second, phase: 0, out: Load(frames: 1, bytes: 95), back: Load(frames: 3, bytes: 2600), messagesPerHour: 120,
                    messageBytes: 1200)
                let stream = line("eda freeze 3 \(tool.kind)", client, tool.data, .tcp, 50051, perDay: .infinity)
                sessions.append(LongSession(stream, pace, rhythm: .production, lifeDays: 4, retrySeconds: 15, random: self.random()))
            }
        }
    }
}
