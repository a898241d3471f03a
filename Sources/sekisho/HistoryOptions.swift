import Allowlist
import ArgumentParser
import Baseline
import Foundation
import Frames
import Policy

/// Which part of a history.
struct HistoryTimes: ParsableArguments {
    @Option(help: ArgumentHelp("Only what was seen from then on: 2026-11-24, 2026-11-24T06:00, or with Z for UTC.", valueName: "time"))
    var since: Moment?
    @Option(help: ArgumentHelp("Only what was seen until then.", valueName: "time")) var until: Moment?
    @Option(help: ArgumentHelp("Only times of this name; see 'sekisho period'. -NAME: all but those.", valueName: "name"))
    var period: String?

    /// What narrows the history, as it was given.
    var words: [String] {
        [since.map { "--since \($0.text)" }, until.map { "--until \($0.text)" }, period.map { "--period=\($0)" }].compactMap { $0 }
    }

    /// Without what a person has had forgotten; and what a person must look at in it, by all that is known.
    func history(_ state: String) throws -> (history: History, review: Review) {
        do throws(HistoryError) {
            let whole = try HistoryStore(directory: state, mayMake: false).read().forgetting()
            let part = try chosen(whole, state)
            return (part, words.isEmpty ? Review(part) : Review(part, within: whole))
        } catch { throw HistoryOptions.failed(error) }
    }

    private func chosen(_ whole: History, _ state: String) throws(HistoryError) -> History {
        var history = whole
        if since != nil || until != nil {
            let from = since?.nanoseconds ?? 0, to = until?.nanoseconds ?? .max
            guard from < to else { throw HistoryError(text: "--since \(since?.text ?? "…") does not lie before --until \(until?.text ?? "…")") }
            history = history.during([from..<to])
        }
        guard let period else { return history }
        let isInverse = period.hasPrefix("-"), name = isInverse ? String(period.dropFirst()) : period
        let times = history.periods.filter { $0.name == name && $0.first < $0.last }.map { $0.first..<$0.last }
        if times.isEmpty {
            let names = Set(history.periods.map(\.name)).sorted()
            throw HistoryError(
                text: "there is no period \"\(name)\" in \(state)\n  → "
                    + (names.isEmpty ? "name one: sekisho period \(name) --state \(state) --since … --until …" : "there are: \(names.joined(separator: ", "))"))
        }
        guard isInverse else { return history.during(times) }
        var rest: [Range<UInt64>] = [], at: UInt64 = 0
        for time in times.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if time.lowerBound > at { rest.append(at..<time.lowerBound) }
            at = max(at, time.upperBound)
        }
        rest.append(at..<UInt64.max)
        return history.during(rest)
    }
}

/// Which part of which history.
struct HistoryOptions: ParsableArguments {
    @Option(help: "State directory.") var state: String
    @OptionGroup var times: HistoryTimes

    func history() throws -> (history: History, review: Review) { try times.history(state) }

    static func failed(_ error: HistoryError) -> any Error {
        Output.error("error: \(error)")
        return Exit.failed
    }
}

/// A time on the command line: local, unless it says Z.
struct Moment: ExpressibleByArgument {
    let text: String
    /// Since 1970.
    let nanoseconds: UInt64

    init?(argument: String) {
        text = argument
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.isLenient = false
        var words = argument
        if words.hasSuffix("Z") {
            words.removeLast()
            formatter.timeZone = TimeZone(secondsFromGMT: 0)
        }
        for format in ["yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm", "yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd HH:mm"] {
            formatter.dateFormat = format
            if let date = formatter.date(from: words), date.timeIntervalSince1970 >= 0, date.timeIntervalSince1970 < 9e9 {
                nanoseconds = UInt64(date.timeIntervalSince1970 * 1e9)
                return
            }
        }
        return nil
    }
}

/// Which conversations a decision is about.
struct ConversationOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Clients: an address or a network.", valueName: "address")) var from: String?
    @Option(help: ArgumentHelp("Servers.", valueName: "address")) var to: String?
    @Option(help: ArgumentHelp("tcp/5000, udp/5000-5010, icmp/echo, or a service's name.", valueName: "service")) var service: String?

    var isEmpty: Bool { from == nil && to == nil && service == nil }

    static func prefix(_ text: String?, _ option: String) throws -> AddressPrefix? {
        guard let text else { return nil }
        guard let prefix = WrittenAddress.network(text) else {
            throw ValidationError("\(option): \"\(text)\" is no address or network; e.g. 10.3.1.21 or 10.3.1.0/24")
        }
        return prefix
    }

    /// nil in it: any service.
    static func services(_ service: String?) throws -> [ServiceRange?] {
        guard let service else { return [nil] }
        guard let found = WrittenAddress.services(service), !found.isEmpty else {
            throw ValidationError("--service: \"\(service)\" is neither a service's name nor protocol/port; e.g. hsms, tcp/5000, icmp/echo")
        }
        return found
    }

    /// As many decisions as the service has ranges.
    func decisions(_ verdict: Decision.Verdict, _ reason: ReasonOptions, either: String? = nil, first: UInt64 = 0, last: UInt64 = .max) throws -> [Decision] {
        let clients = try Self.prefix(from, "--from"), servers = try Self.prefix(to, "--to"), either = try Self.prefix(either, "--device")
        let ranges = try Self.services(service)
        return ranges.map {
            Decision(
                at: Int64(Date().timeIntervalSince1970), who: reason.person, why: reason.why, verdict: verdict, clients: clients, servers: servers, either: either,
                service: $0, first: first, last: last)
        }
    }
}
