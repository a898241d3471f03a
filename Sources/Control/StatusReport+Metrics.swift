// The bridge's state for Prometheus.

import Foundation
import Policy

extension StatusReport {
    /// - Parameter version: the program's.
    public func metrics(version: String) -> String {
        var text = MetricsText()
        text.add("info", .gauge, "The program, and the policy it goes by.", [(["version": version, "policy": policy.name, "mode": mode], 1)])
        text.add("uptime_seconds", .gauge, "Since the start of the process.", [([:], uptimeSeconds)])
        text.add("resident_bytes", .gauge, "Memory of the process.", [([:], Double(residentBytes))])
        text.add("policy_version", .gauge, "Number of the policy in use.", [([:], Double(policy.version))])
        text.add("policy_rules", .gauge, "Rules of the policy in use.", [([:], Double(policy.rules))])
        text.add("policy_age_seconds", .gauge, "Since it came into use.", [([:], policy.ageSeconds)])
        let counts = directions.sorted { $0.key < $1.key }.flatMap { name, one in
            [("received", one.received), ("forwarded", one.forwarded), ("denied", one.denied)].map { (["direction": name, "result": $0.0], $0.1) }
        }
        text.add("frames_total", .counter, "Frames by direction and what became of them.", counts.map { ($0.0, Double($0.1.frames)) })
        text.add("bytes_total", .counter, "The same in bytes.", counts.map { ($0.0, Double($0.1.bytes)) })
        text.add("denied_frames_total", .counter, "Frames that did not pass, by cause.", denied.map { (["cause": $0.cause], Double($0.frames)) })
        text.add(
            "would_deny_frames_total", .counter, "Frames that passed in learn or monitor, and enforce would have denied, by cause.",
            wouldDeny.map { (["cause": $0.cause], Double($0.frames)) })
        text.add("rule_frames_total", .counter, "Frames by the rule that let them pass.", rules.map { (["rule": $0.id], Double($0.frames)) })
        let ports = ports.sorted { $0.key < $1.key }
        text.add("port_up", .gauge, "1: the link is up.", ports.map { (["side": $0.key, "port": $0.value.name], $0.value.link == "up" ? 1 : 0) })
        text.add(
            "port_lost_frames_total", .counter, "Frames that the kernel dropped before a worker saw them.",
            ports.flatMap { side, port in
                [("ring_full", port.lost.ringFull), ("fill_empty", port.lost.fillEmpty), ("other", port.lost.other)].map {
                    (["side": side, "port": port.name, "reason": $0.0], Double($0.1))
                }
            })
        text.add("judging", .gauge, "1: who judges now, or what becomes of frames: worker, kernel, open or closed.", [(["by": judging.now], 1)])
        text.add(
            "failures_total", .counter, "Times in which frames came and no worker judged them, by cause.",
            judging.episodes.map { (["cause": $0.cause], Double($0.count)) })
        text.add("without_worker_frames_total", .counter, "Frames that no worker judged.", [([:], Double(judging.withoutWorker.frames))])
        text.add("worker_processor_ratio", .gauge, "Of its processor, over the last second.", workers.map { (["worker": "\($0.index)"], $0.cpuPercent / 100) })
        if let flows {
            text.add("flows", .gauge, "Entries of the flow table.", [([:], Double(flows.now))])
            text.add("flows_capacity", .gauge, "Flows that it is made for.", [([:], Double(flows.capacity))])
            text.add("flows_refused_total", .counter, "Flows that found no room.", [([:], Double(flows.refused))])
        }
        if let mirror {
            text.add(
                "mirror_frames_total", .counter, "Copies of frames for the mirror port, by what became of them.",
                [(["result": "sent"], Double(mirror.frames)), (["result": "lost"], Double(mirror.lost)), (["result": "refused"], Double(mirror.refused))])
        }
        text.add("address_changes_total", .counter, "Addresses that changed hands, or that somebody forged.", [([:], Double(identities.changes))])
        text.add("quarantined_devices", .gauge, "Devices that are cut off.", [([:], Double(quarantine.count { !$0.isIsland }))])
        text.add("isolated", .gauge, "1: nothing crosses.", [([:], quarantine.contains(where: \.isIsland) ? 1 : 0)])
        if let recording {
            text.add("recording_lost_frames_total", .counter, "Frames that are not in the history.", [([:], Double(recording.lostFrames))])
            text.add("recording_failing", .gauge, "1: the history cannot be written.", [([:], recording.error == nil ? 0 : 1)])
        }
        if let detection {
            text.add("alerts_open", .gauge, "Alerts that have not ended.", [([:], Double(detection.open))])
            text.add("alerts_raised_total", .counter, "Alerts since the start.", [([:], Double(detection.raised))])
        }
        if let audit { text.add("audit_lost_events_total", .counter, "Events that are not in the audit log.", [([:], Double(audit.lost))]) }
        return text.text
    }
}
