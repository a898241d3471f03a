import Allowlist
import ArgumentParser
import Control
import Datapath
import Foundation
import Logging
import Policy

extension Mode: ExpressibleByArgument {
    public init?(argument: String) { self.init(name: argument) }
    public static var allValueStrings: [String] { allCases.map(\.name) }
}

extension IdlePolicy: ExpressibleByArgument {}

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bridge two ports under a policy, until SIGINT or SIGTERM.",
        discussion: """
            Nothing is attached before the policy file is found valid. SIGHUP reads the file again; \
            if it has an error, the running policy stays. Needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK.
            """)

    @Option(help: ArgumentHelp("Port towards the protected tools.", valueName: "port")) var inside: String
    @Option(help: ArgumentHelp("Port towards the rest of the plant.", valueName: "port")) var outside: String
    @Option(help: ArgumentHelp("Policy file (TOML).", valueName: "file")) var policy: String
    @Option(help: "Mode, whatever the policy file says: learn (forward all, record; needs --state), monitor or enforce.") var mode: Mode?
    @Option(help: ArgumentHelp(
        "State directory, made if it is not there: what passes, and what does not, is recorded there, in every mode. See sekisho baseline.",
        valueName: "directory"))
    var state: String?
    @Option(help: ArgumentHelp("Days with traffic that stay in the state directory's history; older ones are taken out. 0: all stay.", valueName: "days"))
    var keepDays = 400
    @Option(help: "Workers, one for each queue pair; default: as many as both ports have queues and processors allow.")
    var queues: Int?
    @Option(help: ArgumentHelp("Processors of the workers, e.g. 2,3 or 2-5; default: the last ones.", valueName: "list"))
    var cpus: ProcessorList?
    @Option(help: "When there is nothing to do: spin (least latency, a whole core), hybrid (spin, then sleep), or sleep.")
    var idle: IdlePolicy = .hybrid
    @Option(help: "Time one frame in so many on its way through the box, for sekisho latency; 0: none.")
    var latencySample = BridgeConfiguration.usualLatencySample
    @Option(help: ArgumentHelp(
        "Third port that copies of frames leave by: of those rules of the policy that say mirror = true. It gets no address.", valueName: "port"))
    var mirror: String?
    @Flag(help: "Take the place of the bridge that runs on these ports; under on_failure kernel or open no frame is lost.")
    var replace = false
    @Option(help: ArgumentHelp("Group whose members may use the control socket, to ask and to apply; default: root only.", valueName: "name"))
    var controlGroup: String?
    @OptionGroup var trust: TrustOptions
    @OptionGroup var socket: ControlOption

    func validate() throws {
        if mode == .learn, state == nil { throw ValidationError("--mode learn needs a --state directory to record to") }
        guard (0...100_000).contains(keepDays) else { throw ValidationError("--keep-days is 0 to 100000") }
        guard (0...1_000_000).contains(latencySample) else { throw ValidationError("--latency-sample is 0 to 1000000") }
    }

    func run() throws {
        let keys = try trust.keys()
        let errors = LogWriter()
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, writer: errors) }
        // Whoever reads it may have stopped to: that must not keep the process from ending.
        defer { errors.finish() }
        let daemon = Daemon(
            DaemonConfiguration(
                bridge: BridgeConfiguration(
                    inside: inside, outside: outside, queues: queues, cpus: cpus?.cpus ?? [], idle: idle,
                    latencySample: latencySample, mirror: mirror),
                policyFile: policy, mode: mode, controlSocket: socket.own, controlGroup: controlGroup,
                replaces: replace, state: state, keepDays: keepDays, trustedKeys: keys, who: Audit.person(),
                version: Sekisho.configuration.version),
            log: Logger(label: "sekisho"))
        do {
            try daemon.run()
        } catch let failure as ControlFailure {
            for line in failure.diagnostics { errors.write(line, isLast: true) }
            errors.write("error: \(failure.message)", isLast: true)
            throw Exit.failed
        } catch {
            errors.write("error: \(error)", isLast: true)
            throw Exit.failed
        }
    }
}

/// "2,3" or "2-5".
struct ProcessorList: ExpressibleByArgument {
    var cpus: [Int]

    init?(argument: String) {
        cpus = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends[0], let last = ends[ends.count - 1], first >= 0, first <= last, last < 1024 else { return nil }
            cpus += first...last
        }
    }
}

/// Asks the bridge; prints what went wrong.
func ask(_ request: ControlRequest, at socket: String) throws -> ControlResponse {
    let response: ControlResponse
    do {
        response = try ControlClient.ask(request, at: socket)
    } catch {
        Output.error("error: \(error)")
        throw Exit.failed
    }
    if let failure = response.failure {
        for line in failure.diagnostics { Output.error(line) }
        Output.error("error: \(failure.message)")
        throw Exit.failed
    }
    return response
}
