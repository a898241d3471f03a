// What of a bridge outlives its process: the links that hold the XDP program to its ports, and a record of how the ports were.
//
//   /sys/fs/bpf/sekisho/NAME-inside, NAME-outside    pinned links (or under /run/sekisho/bpf, which is mounted then)
//   /run/sekisho/NAME.ports                          "inside INDEX PORT SETTING…", a line for each port
//   /run/sekisho/NAME.lock                           locked (flock) by the process that bridges them
//
// NAME is made of the network namespace's number and the ports' names.

import CLinux
import Frames
import Glibc

struct BridgeRemains {
    private let name: String
    private static let folder = "/run/sekisho"

    init(inside: String, outside: String) {
        var status = stat()
        let space = stat("/proc/self/ns/net", &status) == 0 ? status.st_ino : 0
        // A BPF file system takes no dots; a port's name has no colon.
        name = "\(space)-\(inside)+\(outside)".split(separator: ".", omittingEmptySubsequences: false).joined(separator: ":")
    }

    // MARK: - Links

    private static let pinFolders = ["/sys/fs/bpf/sekisho", "\(folder)/bpf/sekisho"]

    private func pin(_ side: Side, in folder: String) -> String { "\(folder)/\(name)-\(side)" }

    /// The pinned link of a port, if there is one.
    func pinned(_ side: Side) -> String? {
        Self.pinFolders.map { pin(side, in: $0) }.first { access($0, F_OK) == 0 }
    }

    var hasLinks: Bool { Side.allCases.contains { pinned($0) != nil } }

    /// Where to pin a port's link; made if need be.
    func place(for side: Side) throws(DatapathError) -> String {
        if clinux_is_bpffs("/sys/fs/bpf") {
            mkdir(Self.pinFolders[0], 0o700)
            return pin(side, in: Self.pinFolders[0])
        }
        let mount = "\(Self.folder)/bpf"
        mkdir(Self.folder, 0o755)
        guard mkdir(mount, 0o700) == 0 || errno == EEXIST else { throw DatapathError("making the folder \(mount)", code: errno) }
        let error = clinux_mount_bpffs(mount)
        guard error == 0 else {
            throw DatapathError(
                "mounting a BPF file system on \(mount)", code: -error,
                hint: "on_failure other than \"closed\" needs one; try: mount -t bpf bpf /sys/fs/bpf")
        }
        mkdir(Self.pinFolders[1], 0o700)
        return pin(side, in: Self.pinFolders[1])
    }

    func removeLinks() {
        for side in Side.allCases {
            for folder in Self.pinFolders { unlink(pin(side, in: folder)) }
        }
    }

    // MARK: - How the ports were

    var record: String { "\(Self.folder)/\(name).ports" }

    /// Settings that a bridge has changed on this port and not put back; of another port of that name: none.
    func settings(of port: NetworkPort, _ side: Side) -> [PortSetting] {
        for line in String(decoding: readFile(record) ?? [], as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 3, words[0] == "\(side)", words[1] == "\(port.index)", words[2] == port.name else { continue }
            return words.dropFirst(3).compactMap { PortSetting(name: $0) }
        }
        return []
    }

    /// Without it only a killed bridge's ports cannot be put back.
    ///
    /// - Returns: an errno, 0 if it is written; what was there before stays until then.
    func write(_ preparations: [PortPreparation]) -> Int32 {
        mkdir(Self.folder, 0o755)
        let lines = zip(Side.allCases, preparations).map { side, preparation in
            (["\(side)", "\(preparation.port.index)", preparation.port.name] + preparation.changed.map(\.name)).joined(separator: " ")
        }
        let new = "\(record).new"
        let descriptor = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return errno }
        close(descriptor)
        errno = 0
        if writeFile(new, lines.joined(separator: "\n") + "\n"), rename(new, record) == 0 { return 0 }
        let code = errno == 0 ? ENOSPC : errno
        unlink(new)
        return code
    }

    func removeRecord() { unlink(record) }

    // MARK: - Who bridges them

    private var lockFile: String { "\(Self.folder)/\(name).lock" }

    /// Takes the lock: a descriptor to keep and close, -1 where no lock can be had at all, nil if another process has it.
    func lock() -> Int32? {
        mkdir(Self.folder, 0o755)
        while true {
            let descriptor = open(lockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { return -1 }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let isTaken = errno == EWOULDBLOCK
                close(descriptor)
                return isTaken ? nil : -1
            }
            // Whoever had it may have removed the file in between: then it is a lock on nothing.
            var own = stat(), named = stat()
            if fstat(descriptor, &own) == 0, stat(lockFile, &named) == 0, own.st_ino == named.st_ino { return descriptor }
            close(descriptor)
        }
    }

    /// Removes the file while it is still locked.
    func unlock(_ descriptor: Int32) {
        guard descriptor >= 0 else { return }
        unlink(lockFile)
        close(descriptor)
    }
}
