import ArgumentParser
import Control
import Foundation
import Glibc
import Measure
import Policy

/// "p99=50us": a percentile and the most it may be.
struct LatencyObjective: ExpressibleByArgument {
    var text: String
    /// nil: the maximum.
    var percentile: Double?
    var nanoseconds: Double

    init?(argument: String) {
        let parts = argument.lowercased().split(separator: "=", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 else { return nil }
        if parts[0] == "max" {
            percentile = nil
        } else {
            guard parts[0].hasPrefix("p"), let value = Double(parts[0].dropFirst()), value > 0, value < 100 else { return nil }
            percentile = value
        }
        let units: [(String, Double)] = [("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)]
        guard let (unit, scale) = units.first(where: { parts[1].hasSuffix($0.0) }),
            let number = Double(parts[1].dropLast(unit.count)), number > 0, number.isFinite
        else { return nil }
        nanoseconds = number * scale
        text = argument
    }
}

/// "30s", "5m", "2h".
struct TimeSpan: ExpressibleByArgument {
    var seconds: Double

    init?(argument: String) {
        let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600]
        guard let unit = argument.last, let scale = units[unit], let number = Double(argument.dropLast()), number > 0, number.isFinite
        else { return nil }
        seconds = number * scale
    }
}

struct Latency: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show how long frames take through the running bridge.",
        discussion: """
            Measured on real traffic, one frame in so many (sekisho run --latency-sample): from the XDP hook of the port a frame \
            came in by to the moment it is handed to the other port. "wait" is the part until a worker has the frame, "work" the \
            rest. The wire, the NICs and interrupt moderation before the hook are not in it.

            Ends with exit code 1 if an --slo is missed, or nothing was measured that could show that it is held.
            """)

    @Option(help: ArgumentHelp("Only the last, e.g. 30s, 5m, 2h (12 hours are kept); default: since the start.", valueName: "time"))
    var since: TimeSpan?
    @Option(help: ArgumentHelp("What must hold in each direction for allowed frames, e.g. p99=50us or max=2ms.", valueName: "objective"))
    var slo: [LatencyObjective] = []
    @Flag(help: "Show it again every second, with a histogram, until Ctrl-C.") var watch = false
    @Flag(help: "Print JSON; with --watch one object a line.") var json = false
    @Option(help: ArgumentHelp("Write the report as one HTML file.", valueName: "file")) var html: String?
    @OptionGroup var socket: ControlOption

    func validate() throws {
        if watch, html != nil { throw ValidationError("--watch and --html exclude each other") }
    }

    func run() throws {
        if let html { try OutputFile.check(html) }
        repeat {
            guard var report = try ask(ControlRequest(command: .latency, window: since?.seconds), at: socket.path).latency else {
                throw Exit.failed
            }
            report.slo = slo.map { report.judge($0) }
            if json {
                watch
                    ? print(String(decoding: try MachineFormat.encoder(pretty: false).encode(report), as: UTF8.self))
                    : try Output.json(report)
            } else {
                if watch { Output.clearScreen() }
                print(report.text(withHistogram: watch))
            }
            try Output.finish()
            if let html { try write(report, to: html) }
            if !watch, report.slo.contains(where: { !$0.held }) { throw Exit.negative }
            if watch { sleep(1) }
        } while watch
    }

    private func write(_ report: LatencyReport, to path: String) throws {
        let page: String
        do throws(MeasureError) {
            page = try ReportPage.html((try? MachineFormat.encoder().encode(report)) ?? Data())
        } catch {
            Output.error("error: \(error)")
            throw Exit.failed
        }
        try OutputFile.write(Data(page.utf8), to: path)
    }
}

extension LatencyReport {
    /// Of each direction's allowed frames, the one that is worst. Nothing measured holds nothing.
    fileprivate func judge(_ objective: LatencyObjective) -> Objective {
        let values = series.filter { $0.verdict == "allowed" && $0.stage == "total" }.map { one -> UInt64 in
            guard let percentile = objective.percentile else { return one.maxNs }
            // The curve has every percentile one may ask for only roughly; buckets have it exactly.
            return one.value(at: percentile)
        }
        let worst = values.max()
        return Objective(
            text: objective.text, held: worst.map { Double($0) <= objective.nanoseconds } ?? false, measuredNs: worst ?? 0)
    }

    fileprivate func text(withHistogram: Bool) -> String {
        var parts = [
            "\(bridge.inside) ═ \(bridge.outside), policy \"\(bridge.policy)\" version \(bridge.policyVersion), mode \(bridge.mode), "
                + "idle \(bridge.idle); the last \(Output.duration(windowS)), one frame in \(sampleOneIn)"
        ]
        if series.isEmpty {
            parts.append(
                sampleOneIn == 0
                    ? "no frame is timed: start the bridge with --latency-sample 128"
                    : "no timed frame yet: nothing has passed, or the driver has no metadata area for XDP programs")
        } else {
            parts.append(
                Output.table(
                    series.map { one in
                        [
                            one.direction.replacingOccurrences(of: "_", with: " "), "\(one.queue)", one.verdict, one.stage,
                            Output.grouped(one.count), micro(Double(one.meanNs)), micro(Double(one.p50Ns)), micro(Double(one.p90Ns)),
                            micro(Double(one.p99Ns)), micro(Double(one.p999Ns)), micro(Double(one.p9999Ns)), micro(Double(one.maxNs)),
                        ]
                    },
                    header: ["direction", "queue", "verdict", "µs", "frames", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"],
                    numbers: [1, 4, 5, 6, 7, 8, 9, 10, 11]))
        }
        if withHistogram {
            for one in series where one.stage == "total" {
                parts.append(
                    Output.coloured("\(one.direction.replacingOccurrences(of: "_", with: " ")), queue \(one.queue), \(one.verdict)", .bold)
                        + "\n" + one.drawing)
            }
        }
        for objective in slo {
            let state = objective.held ? Output.coloured("held", .green) : Output.coloured("MISSED", .red)
            parts.append("\(state)  \(objective.text): \(objective.measuredNs == 0 ? "nothing measured" : micro(Double(objective.measuredNs)) + " µs")")
        }
        return parts.joined(separator: "\n\n")
    }

    private func micro(_ nanoseconds: Double) -> String { LatencyReport.micro(nanoseconds) }
    fileprivate static func micro(_ nanoseconds: Double) -> String {
        String(format: nanoseconds < 99_950 ? "%.2f" : "%.0f", nanoseconds / 1000)
    }
}

extension LatencyReport.Series {
    fileprivate func value(at percentile: Double) -> UInt64 {
        let wanted = max(1, UInt64(max(0, percentile / 100 * Double(count) - 1e-6).rounded(.up)))
        var seen: UInt64 = 0
        for bucket in buckets {
            seen += bucket[2]
            if seen >= wanted { return min(bucket[1], maxNs) }
        }
        return maxNs
    }

    /// Four bars to each doubling of the latency.
    fileprivate var drawing: String {
        var bars: [Int: UInt64] = [:]
        for bucket in buckets {
            let middle = max(1, (Double(bucket[0]) + Double(bucket[1])) / 2)
            bars[Int((log2(middle) * 4).rounded(.down)), default: 0] += bucket[2]
        }
        guard let low = bars.keys.min(), let high = bars.keys.max(), let most = bars.values.max() else { return "  nothing yet" }
        // A rare straggler must not make a screen of empty lines.
        let lines = (low...high).filter { bars[$0] != nil || high - low < 40 }
        return lines.map { place in
            let count = bars[place] ?? 0
            let width = Double(count) / Double(most) * 48
            // Eighths of a cell, so that small counts still show.
            let eighths = Int((width * 8).rounded()), whole = eighths / 8
            let rest = eighths % 8 == 0 ? "" : String(UnicodeScalar(0x2590 - UInt32(eighths % 8))!)
            let bar = String(repeating: "█", count: whole) + (count > 0 && eighths == 0 ? "▏" : rest)
            let from = LatencyReport.micro(pow(2, Double(place) / 4))
            return "  " + String(repeating: " ", count: max(0, 8 - from.count)) + from + " µs  "
                + bar + (count > 0 ? " \(Output.grouped(count))" : "")
        }.joined(separator: "\n")
    }
}
