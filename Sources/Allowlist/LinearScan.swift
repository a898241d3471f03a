// The rules read one after the other: slow, obvious, and right. Every table is held against it.

import Frames

extension AllowlistSource {
    /// The first rule that allows these headers with the sender as client, or, failing that, as server.
    ///
    /// As `judgeBurst`, without EtherTypes and bindings.
    public func linearScan(_ headers: FrameHeaders, from side: Side) -> Verdict {
        var verdict = Verdict(rule: Verdict.noRule, cause: headers.cause, isReply: false)
        guard headers.cause == .none else { return verdict }
        if headers.marks.contains(.laterFragment) {
            verdict.cause = .fragmentUntracked
            return verdict
        }
        verdict.cause = .notInPolicy
        for isReply in [false, true] {
            guard let index = rules.firstIndex(where: { $0.matches(headers, isReply: isReply, from: side) }) else { continue }
            let opens = headers.ipProtocol == .tcp && headers.tcpFlags.opensConnection
            if isReply && opens && !headers.marks.contains(.icmpError) {
                verdict.cause = .synFromServer
            } else {
                return Verdict(rule: UInt32(index), cause: .none, isReply: isReply)
            }
        }
        return verdict
    }
}

extension AllowRule {
    /// Whether the frame belongs to a conversation of this rule, this way round.
    public func matches(_ headers: FrameHeaders, isReply: Bool, from side: Side) -> Bool {
        let family: IPFamily = headers.form == .ipv4 ? .ipv4 : .ipv6
        if headers.marks.contains(isReply ? .neverReverse : .neverForward) { return false }
        let client = isReply ? headers.destination : headers.source
        let server = isReply ? headers.source : headers.destination
        let port = isReply ? headers.sourcePort : headers.destinationPort
        return clients.contains { $0.family == family && $0.contains(client) }
            && servers.contains { $0.family == family && $0.contains(server) }
            && services.contains { $0.applies(to: family) && $0.contains(headers.ipProtocol, port) }
            && (vlans.isEmpty || vlans.contains(headers.vlan))
            && (self.clientSide == nil || self.clientSide == Allowlist.clientSide(headers, isReply: isReply, from: side))
    }
}
