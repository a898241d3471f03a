import ArgumentParser
import Datapath

struct Detach: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take what a stopped or killed bridge left on its ports off them.",
        discussion: """
            Under on_failure "kernel" or "open" the wire stays in use when the bridge ends. This ends it: nothing passes \
            any more, and the ports get their settings back. Exit code 1 if there was nothing to take off.
            """)

    @Option(help: ArgumentHelp("Port towards the protected tools.", valueName: "port")) var inside: String
    @Option(help: ArgumentHelp("Port towards the rest of the plant.", valueName: "port")) var outside: String
    @OptionGroup var socket: ControlOption

    func run() throws {
        switch Bridge.detach(inside: inside, outside: outside) {
        case nil:
            Output.error("error: a bridge runs on \(inside) and \(outside)\n  → stop it first")
            throw Exit.failed
        case true?: print("taken off \(inside) and \(outside)")
        case false?:
            Output.error("nothing was left on \(inside) and \(outside)")
            throw Exit.negative
        }
    }
}
