// What a comparison run says, as its JSON has it. The schema's version goes up when a reader would have to change.

import Foundation

public struct BenchReport: Codable, Sendable {
    public static let schemaName = "sekisho-bench"
    public static let currentVersion = 1

    public var schema = BenchReport.schemaName
    public var schemaVersion = BenchReport.currentVersion
    public var created: Date
    public var sekishoVersion: String
    public var preset: String
    public var command: String
    public var durationS = 0.0
    public var machine: Machine
    public var bed: BedFacts
    public var forwarders: [ForwarderFacts] = []
    public var scenarios: [Scenario] = []
    public var throughput: [Throughput] = []
    public var latency: [Latency] = []
    public var swaps: [Swaps] = []
    public var bars: [Bar] = []

    public struct BedFacts: Codable, Sendable {
        public var generatorCpu: Int
        public var workerCpu: Int
        public var rounds: Int
        public var trialS: Double
        public var burst: Int
        public var text: String
    }

    public struct ForwarderFacts: Codable, Sendable {
        public var id: String
        public var title: String
        public var why: String
        public var filters: Bool
        public var version: String
        public var setting: String
        /// Why it was not measured; nil if it was.
        public var skipped: String?
    }

    public struct Scenario: Codable, Sendable {
        public struct Traffic: Codable, Sendable {
            public var kind: String
            public var flows: Int
            public var rules: Int
            public var frame: String
            public var deniedPercent: Int
            public var text: String
        }

        public var id: String
        public var title: String
        public var traffic: Traffic
    }

    /// Frames a second, and processor time. Ratios are to the forwarder they are named after, within each round.
    public struct Throughput: Codable, Sendable {
        public var scenario: String
        public var forwarder: String
        public var pdrFps: Statistic?
        public var ndrFps: Statistic?
        /// At PDR: everything's processor time, for each frame sent.
        public var cpuNsPerFrame: Statistic?
        /// The same at 90 % of what Linux bridge + nftables carries.
        public var cpuNsPerFrameCommon: Statistic?
        /// Frames of the accounting trial: sent = arrived + dropped + lost without a name.
        public var account: Account?
        /// Frames the policy denies that arrived all the same. Must be 0 where the forwarder filters.
        public var deniedCrossed: Int
        public var reflected: Int
        public var reordered: Int
        public var ratioPdr: [String: Statistic]
        public var ratioCpu: [String: Statistic]
    }

    public struct Account: Codable, Sendable {
        public var sent: Int
        public var arrived: Int
        /// By the forwarder's and the ports' own counters.
        public var drops: [String: UInt64]
        /// sent − arrived − drops; nil if the forwarder does not count.
        public var unexplained: Int?
    }

    public struct Latency: Codable, Sendable {
        public var scenario: String
        public var forwarder: String
        /// polling: stamped where the frame enters and leaves the hosts' ports; sleeping: an application that waits in recv.
        public var hosts: String
        public var direction: String
        /// idle, 10, 50, 90 (per cent of the forwarder's own PDR), common (90 % of what Linux bridge + nftables carries); of a
        /// replay also rate (the one asked for) and recorded.
        public var load: String
        public var offeredFps: Double
        public var sent: Int
        public var lost: Int
        public var count: Int
        public var meanNs: Double
        public var p50Ns: Double
        public var p90Ns: Double
        public var p99Ns: Double
        public var p999Ns: Double
        public var p9999Ns: Double
        public var maxNs: Double
        public var percentiles: [[Double]]
        /// The median and the 99th percentile of each round.
        public var p50Rounds: Statistic?
        public var p99Rounds: Statistic?
        /// This p50 and p99 to those of Linux bridge + nftables, within each round.
        public var ratioP50: Statistic?
        public var ratioP99: Statistic?
    }

    public struct Swaps: Codable, Sendable {
        public var forwarder: String
        public var rules: Int
        public var withSwaps: Bool
        public var offeredFps: Double
        public var sent: Int
        public var lost: Int
        public var swaps: Int
        public var p50Ns: Double
        public var p99Ns: Double
        public var maxNs: Double
        /// [second, p50, p99, max].
        public var timeline: [[Double]]
        public var swapTimesS: [Double]
    }

    public struct Bar: Codable, Sendable {
        public var what: String
        public var bar: String
        /// nil if this run did not measure it.
        public var value: Double?
        public var shown: String
        public var held: Bool?
    }
}

/// Everything about the machine that a figure may hang on.
public struct Machine: Codable, Sendable {
    public var kernel: String
    public var cpu: String
    public var cores: Int
    public var memoryBytes: Int
    public var virtual: String
    public var clocksource: String
    public var preemption: String
    public var mitigations: String
    public var governor: String
    public var swift: String
    public var notes: [String]

    public static func describe() -> Machine {
        func file(_ path: String) -> String {
            (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        }
        func field(_ name: String, in text: String) -> String {
            text.split(separator: "\n").first { $0.hasPrefix(name) }?.split(separator: ":").last?
                .trimmingCharacters(in: .whitespaces) ?? ""
        }
        let processor = file("/proc/cpuinfo")
        let isVirtual = processor.contains(" hypervisor")
        let vulnerabilities = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/devices/system/cpu/vulnerabilities")) ?? []
        let mitigated = vulnerabilities.filter { file("/sys/devices/system/cpu/vulnerabilities/\($0)").hasPrefix("Mitigation") }
        // The kernel's name and day are enough; the host's name is nobody's business.
        var system = utsname()
        uname(&system)
        let kernel = withUnsafeBytes(of: &system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        #if compiler(>=6.4)
            let swift = "6.4 or newer"
        #else
            let swift = "6.3"
        #endif
        return Machine(
            kernel: kernel, cpu: field("model name", in: processor), cores: ProcessInfo.processInfo.processorCount,
            memoryBytes: Int(ProcessInfo.processInfo.physicalMemory), virtual: isVirtual ? "yes" : "no",
            clocksource: file("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            preemption: file("/sys/kernel/debug/sched/preempt"), mitigations: mitigated.sorted().joined(separator: ", "),
            governor: file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), swift: swift,
            notes: isVirtual ? ["a virtual machine: other guests take time away; compare ratios within a round, not figures between runs"] : [])
    }
}
