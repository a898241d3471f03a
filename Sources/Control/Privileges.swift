// What the process may still do once the bridge runs: change its ports and its XDP program, and read policy files.

import CLinux
import Datapath

enum Privileges {
    /// linux/capability.h.
    private static let kept: [(name: String, bit: UInt64)] = [
        ("CAP_DAC_READ_SEARCH", 2),  // policy files, wherever they lie
        ("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13),  // settings of the ports, XDP links
        ("CAP_PERFMON", 38), ("CAP_BPF", 39),  // a larger table needs a program of its own
    ]

    /// For the calling thread and those it starts from now on. The workers keep none.
    static func drop() throws(DatapathError) {
        let error = clinux_keep_capabilities(kept.reduce(0) { $0 | 1 << $1.bit })
        guard error == 0 else { throw DatapathError("giving up privileges", code: -error) }
    }
}
