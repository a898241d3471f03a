// The kernel's part of both ports: loaded from the object embedded in the binary, attached by links, spoken to through maps.
//
// It hands frames to the workers, and knows what to do while none is alive (BPF/sekisho_xdp.bpf.c).

import Allowlist
import CLinux
import Foundation
import Frames
import Synchronization

/// A time in which frames came and no worker judged them.
public struct FailureEpisodes: Sendable {
    public var state: FailureState
    /// How many there were.
    public var count: UInt64
    /// Of the last one, CLOCK_MONOTONIC in ns: its first frame, its last, and the first one that a worker had again (0: not yet).
    public var since: UInt64
    public var last: UInt64
    public var until: UInt64
    public var isActive: Bool

    /// When it ended, or its last frame so far.
    public var end: UInt64 { until != 0 ? until : last }
}

/// Attached while it lives, unless its links are pinned. Used by one thread at a time.
final class XDPProgram {
    private var program: OpaquePointer?
    private(set) var modes: [Side: String] = [.inside: "none", .outside: "none"]
    private let queues: Mapping
    private let beats: Mapping
    private let control: Mapping
    private let failures: Mapping
    private let quarantine: Mapping
    private var tables: Mapping
    private var image: Mapping
    private var hits: Mapping
    /// Words of each half of the image, and counters of each half of the hits.
    private var imageRoom: Int
    private var hitRoom: Int
    /// Rule names of each half, and what was counted in tables that are gone.
    private var ruleNames: [[String]] = [[], []]
    private var pastHits: [String: UInt64] = [:]
    private var said: Mapping?

    /// Without a table the twin denies all.
    private static let smallestImage = 4096
    private static let smallestHits = 64

    /// - Parameter predecessor: the pinned link of a program whose counters go on in this one's.
    init(predecessor: String? = nil) throws(DatapathError) {
        imageRoom = Self.smallestImage
        hitRoom = Self.smallestHits
        let program = try Self.load(imageRoom, hitRoom, before: nil, predecessor)
        self.program = program
        queues = try Mapping(program, "queues", writable: false)
        beats = try Mapping(program, "beats", writable: true)
        control = try Mapping(program, "control", writable: true)
        failures = try Mapping(program, "failures", writable: true)
        quarantine = try Mapping(program, "quarantine", writable: true)
        tables = try Mapping(program, "tables", writable: true)
        image = try Mapping(program, "image", writable: true)
        hits = try Mapping(program, "hits", writable: true)
    }

    private static func load(
        _ imageRoom: Int, _ hitRoom: Int, before: OpaquePointer?, _ predecessor: String? = nil
    ) throws(DatapathError) -> OpaquePointer {
        guard let object = Data(base64Encoded: EmbeddedXDPProgram.base64) else {
            throw DatapathError("reading the embedded XDP program", hint: "the binary is damaged; install it again")
        }
        var log = [CChar](repeating: 0, count: 16384)
        let loaded = object.withUnsafeBytes {
            clinux_xdp_load($0.baseAddress, $0.count, UInt32(2 * imageRoom), UInt32(2 * hitRoom), before, predecessor, &log, log.count)
        }
        guard let loaded else {
            let code = errno
            throw DatapathError(
                "loading the XDP program" + Self.quoted(log), code: code,
                hint: code == EPERM
                    ? DatapathError.usualHint(code, port: "it")
                    : "the kernel must be 6.1 or newer, with CONFIG_BPF_SYSCALL; see: uname -r")
        }
        return loaded
    }

    // MARK: - Ports

    /// Says which ports they are. Before it is attached to one: frames may leave by the other at once.
    func setPorts(_ ports: [NetworkPort]) throws(DatapathError) {
        for (side, port) in zip(Side.allCases, ports) {
            let error = clinux_xdp_set_port(program, Int32(side.rawValue), port.index)
            guard error == 0 else { throw DatapathError("telling the XDP program of \(port.name)", code: -error) }
        }
        store(UInt32(ports[1].index), at: .outside)
    }

    /// Attaches in the driver, or else in the generic path.
    func attach(_ port: NetworkPort, _ side: Side, native: Bool) -> Int32 {
        var log = [CChar](repeating: 0, count: 16384)
        let error = clinux_xdp_attach(program, Int32(side.rawValue), port.index, native, &log, log.count)
        if error == 0 { modes[side] = native ? "native" : "generic" }
        return -error
    }

    /// Keeps it attached to a port when this process ends.
    func pin(_ side: Side, at path: String) -> Int32 { -clinux_xdp_pin(program, Int32(side.rawValue), path) }

    /// Takes over the link of a bridge that was here before.
    func adopt(_ port: NetworkPort, _ side: Side, pin: String) -> Int32 {
        let error = clinux_xdp_adopt(program, Int32(side.rawValue), port.index, pin)
        if error == 0 { modes[side] = port.attachedProgram?.isNative == false ? "generic" : "native" }
        return -error
    }

    /// A queue's place in the maps.
    private static func place(_ side: Side, _ queue: Int) -> UInt32 { UInt32(side.rawValue) * 256 + UInt32(queue) }

    /// - Parameter judge: processor on which the kernel judges the queue's frames, if it does; nil: where they come in.
    func set(worker: Int, judge: Int?, of queue: Int, _ port: NetworkPort, _ side: Side) throws(DatapathError) {
        let error = clinux_xdp_set_worker(program, Self.place(side, queue), UInt32(worker), Int32(judge ?? -1))
        guard error == 0 else { throw DatapathError("giving queue \(queue) of \(port.name) its worker", code: -error) }
    }

    func set(socket: Int32, of queue: Int, _ port: String, _ side: Side) throws(DatapathError) {
        let error = clinux_xdp_set_socket(program, Self.place(side, queue), socket)
        guard error == 0 else { throw DatapathError("giving queue \(queue) of \(port) its socket", code: -error) }
    }

    /// Where the program counts the frames it has timed on a queue. It can be read for as long as this object lives, also
    /// when the program is off the port: workers stop after that.
    func stampedFrames(_ side: Side, queue: Int) -> UnsafeMutablePointer<Counter> {
        // One 64-byte entry for each queue; a Counter is its first word. Read-only: nobody here adds to it.
        (queues.base + Int(Self.place(side, queue)) * 64).assumingMemoryBound(to: Counter.self)
    }

    /// Frames that were sent to another processor to be judged. It may not have come to them yet.
    func sentAway(_ side: Side, queue: Int) -> UInt64 {
        (queues.base + Int(Self.place(side, queue)) * 64).assumingMemoryBound(to: Counter.self)[3].count
    }

    /// Where a worker shows that it is alive.
    func heartbeat(worker: Int) -> Heartbeat {
        Heartbeat((beats.base + worker * 64).assumingMemoryBound(to: Atomic<UInt64>.self))
    }

    /// Lets go of its links: what is not pinned comes off its port.
    func release() {
        clinux_xdp_release(program)
        modes = [.inside: "none", .outside: "none"]
    }

    /// Once more onto the links it holds: whoever made way may have been there meanwhile.
    func reassert() throws(DatapathError) {
        let error = clinux_xdp_reassert(program)
        guard error == 0 else { throw DatapathError("putting the XDP program in place", code: -error) }
    }

    /// Puts back what was on the links it has taken over.
    func giveBack() { clinux_xdp_give_back(program) }

    /// Takes it off the ports, unless its links are pinned. Nothing else may be done with it then.
    func detach() {
        clinux_xdp_close(program)
        program = nil
        modes = [.inside: "none", .outside: "none"]
    }

    deinit { detach() }

    // MARK: - What it does

    /// Byte offsets in `struct control` of BPF/sekisho_xdp.bpf.c.
    private enum Word: Int {
        case outside = 0, state = 4, actions = 8, onlyKernel = 24, table = 28, deadline = 32, gap = 40, tag = 44, longest = 48, quarantined = 52, islandUntil = 56
    }

    private func store(_ value: UInt32, at word: Word, index: Int = 0) {
        // The program reads it at any time: one whole word, after all that was written before.
        (control.base + word.rawValue + 4 * index).assumingMemoryBound(to: Atomic<UInt32>.self).pointee
            .store(value, ordering: .releasing)
    }

    /// What the bridge is doing. With `.workerDead` it runs: then the workers' heartbeats decide.
    func setState(_ state: FailureState) {
        store(UInt32(state.rawValue), at: .state)
        if state == .workerDead { endEpisodes() }
    }

    /// From now on frames are judged. Of what lies behind, the program itself sees only that a worker is alive again.
    private func endEpisodes() {
        // A program that still saw the state before must not begin another.
        clinux_xdp_wait_for_programs()
        for ended in FailureState.allCases where failure(ended)[4].count != 0 {
            failure(ended)[3].set(clinux_monotonic())
            failure(ended)[4].set(0)
        }
    }

    /// The longest frame that the sockets take: a longer one is dropped by the kernel and wakes no worker.
    func setLongestFrame(_ bytes: Int) { store(UInt32(bytes), at: .longest) }

    /// Whom the kernel cuts off when it judges. Exceptions there are none then.
    func setQuarantine(_ new: Quarantine) {
        // The half not in use: nobody reads it any more since `settleQuarantine`.
        let half = (control.base + Word.quarantined.rawValue).load(as: UInt32.self) & 1 << 30 == 0 ? 1 : 0
        for (i, device) in new.devices.enumerated() {
            let words = (quarantine.base + (half * Quarantine.capacity + i) * 40).assumingMemoryBound(to: UInt64.self)
            words[0] = device.address?.high ?? .max
            words[1] = device.address?.low ?? .max
            words[2] = device.mac?.rawValue ?? 0
            words[3] = device.family == .ipv6 ? 1 : 0
            words[4] = device.until
        }
        (control.base + Word.islandUntil.rawValue).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(new.islandUntil, ordering: .releasing)
        store(UInt32(new.devices.count) | UInt32(half) << 30 | (new.isIsland ? 1 << 31 : 0), at: .quarantined)
    }

    /// Waits until nobody reads the half that `setQuarantine` has put out of use: afterwards, for it takes longer than the rest.
    func settleQuarantine() { clinux_xdp_wait_for_programs() }

    /// Words of `struct failure` of BPF/sekisho_xdp.bpf.c: episodes, since, last, until, active.
    private func failure(_ state: FailureState) -> UnsafeMutablePointer<Counter> {
        (failures.base + state.rawValue * 64).assumingMemoryBound(to: Counter.self)
    }

    /// - Parameter deadline: milliseconds after which a worker counts as dead.
    func setActions(_ actions: FailureActions, deadline: Int, onlyKernel: Bool) {
        for state in FailureState.allCases { store(actions[state].rawValue, at: .actions, index: state.rawValue) }
        (control.base + Word.deadline.rawValue).assumingMemoryBound(to: Atomic<UInt64>.self).pointee
            .store(UInt64(deadline) * 1_000_000, ordering: .releasing)
        store(onlyKernel ? 1 : 0, at: .onlyKernel)
        if onlyKernel { endEpisodes() }
    }

    /// Times one frame in `gap` on average; 0: none.
    func setSampling(gap: Int, tag: UInt16) {
        store(UInt32(tag), at: .tag)
        store(UInt32(gap), at: .gap)
    }

    func episodes() -> [FailureEpisodes] {
        FailureState.allCases.map { state in
            let words = failure(state)
            return FailureEpisodes(
                state: state, count: words[0].count, since: words[1].count, last: words[2].count, until: words[3].count,
                isActive: words[4].count != 0)
        }
    }

    /// Frames that no worker judged, by the port they came in by.
    func counts(_ from: Side) -> DirectionCounts {
        var words = [UInt64](repeating: 0, count: 4 + 4 * Cause.capacity)
        guard program != nil, clinux_xdp_counts(program, UInt32(from.rawValue), &words, words.count) == 0 else {
            return DirectionCounts()
        }
        return DirectionCounts(words: words)
    }

    // MARK: - The twin's table

    /// Gives the twin this table, all at once: a frame is judged by the one or by the other.
    func publish(_ table: CompiledTable, ruleNames names: [String]) throws(DatapathError) {
        let bytes = TableImage(table).bytes
        try makeRoom(words: (bytes.count + 7) / 8, rules: names.count)
        // The half not in use; nobody may still be reading what lies there.
        let old = Int((control.base + Word.table.rawValue).load(as: UInt32.self) & 1)
        let new = 1 - old
        clinux_xdp_wait_for_programs()
        collectHits(of: new)
        bytes.withUnsafeBytes { (image.base + new * imageRoom * 8).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        let words = TableImage.headerWords
        let header = tables.base + new * (words + 2) * 8
        bytes.withUnsafeBytes { header.copyMemory(from: $0.baseAddress!, byteCount: words * 8) }
        header.storeBytes(of: UInt64(new * imageRoom), toByteOffset: words * 8, as: UInt64.self)
        header.storeBytes(of: UInt64(new * hitRoom), toByteOffset: words * 8 + 8, as: UInt64.self)
        ruleNames[new] = names
        store(UInt32(new), at: .table)
    }

    /// Frames by rule name, of those that no worker judged.
    func ruleHits() -> [String: UInt64] {
        var sum = pastHits
        for half in 0..<2 { add(half, to: &sum) }
        return sum
    }

    private func counter(_ half: Int, _ rule: Int) -> UnsafeMutablePointer<UInt64> {
        (hits.base + (half * hitRoom + rule) * 8).assumingMemoryBound(to: UInt64.self)
    }

    private func add(_ half: Int, to sum: inout [String: UInt64]) {
        for (rule, name) in ruleNames[half].enumerated() where counter(half, rule).pointee > 0 {
            sum[name, default: 0] += counter(half, rule).pointee
        }
    }

    private func collectHits(of half: Int) {
        add(half, to: &pastHits)
        for rule in ruleNames[half].indices { counter(half, rule).pointee = 0 }
        ruleNames[half] = []
    }

    /// A larger table needs larger maps, and these a program of their own, which takes the place of this one at once.
    private func makeRoom(words: Int, rules: Int) throws(DatapathError) {
        guard words > imageRoom || rules > hitRoom else { return }
        let (imageRoom, hitRoom) = (max(self.imageRoom, words + words / 2), max(self.hitRoom, rules + rules / 2))
        let larger = try Self.load(imageRoom, hitRoom, before: program)
        do throws(DatapathError) {
            let tables = try Mapping(larger, "tables", writable: true)
            let image = try Mapping(larger, "image", writable: true)
            let hits = try Mapping(larger, "hits", writable: true)
            // Until the new table is written, frames are judged by the one in use: it moves along.
            let half = Int((control.base + Word.table.rawValue).load(as: UInt32.self) & 1)
            let header = (TableImage.headerWords + 2) * 8
            tables.base.copyMemory(from: self.tables.base, byteCount: 2 * header)
            (image.base + half * imageRoom * 8).copyMemory(from: self.image.base + half * self.imageRoom * 8, byteCount: self.imageRoom * 8)
            let place = tables.base + half * header + TableImage.headerWords * 8
            place.storeBytes(of: UInt64(half * imageRoom), as: UInt64.self)
            place.storeBytes(of: UInt64(half * hitRoom), toByteOffset: 8, as: UInt64.self)
            let error = clinux_xdp_replace(larger, program)
            guard error == 0 else { throw DatapathError("putting a larger XDP program in place", code: -error) }
            // Frames that still wait for the old program on another processor are judged by the table in use, or denied:
            // its other half holds a policy that is gone.
            (self.tables.base + (1 - half) * header).storeBytes(of: 0, as: UInt64.self)
            // Of the half in use the counts begin anew there; both are kept here.
            let names = ruleNames[half]
            collectHits(of: 0)
            collectHits(of: 1)
            ruleNames[half] = names
            clinux_xdp_close(program)
            program = larger
            said = nil
            (self.tables, self.image, self.hits, self.imageRoom, self.hitRoom) = (tables, image, hits, imageRoom, hitRoom)
        } catch {
            clinux_xdp_close(larger)
            throw error
        }
    }

    /// What the twin says of a frame, for tests.
    ///
    /// - Returns: nil: the kernel does not take such a frame (fewer than 14 bytes).
    func verdict(of frame: [UInt8], from side: Side) throws(DatapathError) -> Verdict? {
        guard frame.count >= 14 else { return nil }
        // The test program takes the side from here.
        store(UInt32(side.rawValue), at: .state)
        let error = clinux_xdp_say(program, frame, UInt32(frame.count))
        guard error == 0 else { throw DatapathError("having the twin judge a frame of \(frame.count) bytes", code: -error) }
        if said == nil { said = try Mapping(program!, "said", writable: false) }
        let answer = said!.base.load(as: UInt64.self)
        return Verdict(
            rule: UInt32(truncatingIfNeeded: answer), cause: Cause(rawValue: UInt8(truncatingIfNeeded: answer >> 40)),
            isReply: answer >> 32 & 1 == 1)
    }

    private static func quoted(_ log: [CChar]) -> String {
        let text = String(decoding: log.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? "" : " (\(text.replacingOccurrences(of: "\n", with: "; ")))"
    }
}

/// A map's values in this process's memory.
private final class Mapping {
    let base: UnsafeMutableRawPointer
    private let bytes: Int

    init(_ program: OpaquePointer, _ name: String, writable: Bool) throws(DatapathError) {
        var bytes = 0
        guard let base = clinux_xdp_map(program, name, writable, &bytes) else {
            throw DatapathError("mapping \"\(name)\" of the XDP program", code: errno)
        }
        self.base = base
        self.bytes = bytes
    }

    deinit { munmap(base, bytes) }
}
