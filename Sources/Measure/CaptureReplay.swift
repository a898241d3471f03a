// A capture as a list of frames: sides, recorded times, addresses rewritten on demand, the policy's opinion of each frame.

import Allowlist
import Captures
import Frames
import Policy

/// What to replay and how.
public struct ReplayOptions: Sendable {
    public enum Timing: Sendable, Equatable {
        /// As recorded, so many times as fast.
        case recorded(Double)
        /// Frames a second.
        case rate(Double)
        case fastest
    }

    public var captures: [String]
    public var timing: Timing
    /// Hosts on the inside; what they send leaves by the inside port. Empty: everything comes from the outside.
    public var inside: [AddressPrefix]
    /// Networks to rewrite, in order; the first that fits is taken.
    public var rewrites: [AddressRewrite]

    public init(captures: [String], timing: Timing = .recorded(1), inside: [AddressPrefix] = [], rewrites: [AddressRewrite] = []) {
        self.captures = captures
        self.timing = timing
        self.inside = inside
        self.rewrites = rewrites
    }
}

/// One IPv4 network for another of the same length: the host part stays.
public struct AddressRewrite: Sendable, Equatable {
    public var from: UInt32
    public var to: UInt32
    public var length: Int

    public init(from: UInt32, to: UInt32, length: Int) {
        self.from = from
        self.to = to
        self.length = length
    }

    fileprivate func applied(to address: UInt32) -> UInt32? {
        let mask: UInt32 = length == 0 ? 0 : ~UInt32(0) << UInt32(32 - length)
        return address & mask == from & mask ? to & mask | address & ~mask : nil
    }
}

/// A capture made ready to be sent.
public struct CaptureReplay {
    public private(set) var frames: [ListedFrame] = []
    /// Recorded length in ns, one mean gap added for the step from the last frame to the first.
    public private(set) var duration: UInt64 = 0
    /// What was left out or changed, for the report.
    public private(set) var notes: [String] = []

    /// - Parameter table: judges which frames the policy allows.
    public init(_ options: ReplayOptions, table: CompiledTable) throws {
        var first: UInt64?
        var tooLong = 0, short = 0, runts = 0
        for path in options.captures {
            let reader = try CaptureReader(path)
            while let frame = reader.next() {
                let at = frame.time
                if first == nil { first = at }
                guard frame.bytes.count == frame.wireLength else {
                    short += 1
                    continue
                }
                // Nothing such crosses a wire.
                guard frame.wireLength >= 14 else {
                    runts += 1
                    continue
                }
                let longest = Self.longest(frame.bytes)
                guard frame.wireLength <= longest else {
                    tooLong += 1
                    continue
                }
                var bytes = Array(frame.bytes)
                Self.rewrite(&bytes, options.rewrites)
                let from = Self.side(bytes, options.inside)
                // Behind the packet, where padding is; a full frame's last bytes are overwritten instead.
                let length = min(max(bytes.count, 44) + HostPrograms.trailerBytes, longest)
                bytes += [UInt8](repeating: 0, count: max(0, length - bytes.count))
                frames.append(
                    ListedFrame(bytes: bytes, length: length, from: from, isAllowed: true, offset: at &- first!))
            }
            if let warning = reader.warning { notes.append(warning) }
        }
        if short > 0 { notes.append("\(short) frames were recorded in part and are left out") }
        if runts > 0 { notes.append("\(runts) frames are shorter than an Ethernet header and are left out") }
        if tooLong > 0 { notes.append("\(tooLong) frames are longer than the MTU allows (joined by a NIC's offload?) and are left out") }
        // Captures of several files, or of several ports, may not be in order.
        frames.sort { Int64(bitPattern: $0.offset) < Int64(bitPattern: $1.offset) }
        if let start = frames.first?.offset { for index in frames.indices { frames[index].offset &-= start } }
        let last = frames.last?.offset ?? 0
        duration = last + max(1000, last / UInt64(max(frames.count, 1)))
        if case .recorded(let speed) = options.timing, speed != 1 {
            for index in frames.indices { frames[index].offset = UInt64(Double(frames[index].offset) / speed) }
            duration = max(1, UInt64(Double(duration) / speed))
        }
        judge(table)
    }

    private mutating func judge(_ table: CompiledTable) {
        let memory = JudgeMemory()
        for index in frames.indices {
            var headers = FrameHeaders()
            var verdict = Verdict(rule: 0, cause: .none, isReply: false)
            frames[index].bytes.withUnsafeBytes { bytes in
                parseFrame(bytes, wireLength: bytes.count, into: &headers)
                var start = bytes.baseAddress!
                _ = withUnsafePointer(to: &start) { pointer in
                    judgeBurst(
                        table.view, frames: pointer, headers: &headers, count: 1, from: frames[index].from,
                        scratch: memory.scratch, verdicts: &verdict)
                }
            }
            frames[index].isAllowed = verdict.isAllowed
        }
    }

    /// The longest frame like this one that the beds' ports take: a tag comes on top of the MTU.
    private static func longest(_ bytes: UnsafeRawBufferPointer) -> Int {
        let type = Int(bytes[12]) << 8 | Int(bytes[13])
        return HostPrograms.longestFrame - (isTag(type) ? 0 : 4)
    }

    /// As the parser knows them (`EtherType.isVLANTag`).
    private static func isTag(_ type: Int) -> Bool { EtherType(rawValue: UInt16(type)).isVLANTag }

    /// Where the IPv4 header or the ARP body begins, and the type it has.
    private static func network(_ bytes: [UInt8]) -> (type: Int, at: Int)? {
        var at = 12
        for _ in 0..<3 {
            guard at + 2 <= bytes.count else { return nil }
            let type = Int(bytes[at]) << 8 | Int(bytes[at + 1])
            if !isTag(type) { return (type, at + 2) }
            at += 4
        }
        return nil
    }

    /// Places of IPv4 addresses in a frame: sender's, receiver's.
    private static func addresses(_ bytes: [UInt8]) -> (source: Int, destination: Int, isPacket: Bool)? {
        guard let (type, at) = network(bytes) else { return nil }
        if type == 0x0800, at + 20 <= bytes.count { return (at + 12, at + 16, true) }
        if type == 0x0806, at + 28 <= bytes.count { return (at + 14, at + 24, false) }
        return nil
    }

    private static func word(_ bytes: [UInt8], _ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 << 8 | UInt32(bytes[at + $1]) } }

    private static func side(_ bytes: [UInt8], _ inside: [AddressPrefix]) -> Side {
        guard let (family, address) = sender(bytes) else { return .outside }
        return inside.contains { $0.family == family && $0.contains(address) } ? .inside : .outside
    }

    private static func sender(_ bytes: [UInt8]) -> (IPFamily, AddressWords)? {
        if let (type, at) = network(bytes), type == 0x86DD, at + 40 <= bytes.count {
            func half(_ at: Int) -> UInt64 { UInt64(word(bytes, at)) << 32 | UInt64(word(bytes, at + 4)) }
            return (.ipv6, AddressWords(high: half(at + 8), low: half(at + 16)))
        }
        guard let (source, _, _) = addresses(bytes) else { return nil }
        return (.ipv4, AddressWords(high: 0, low: UInt64(word(bytes, source))))
    }

    private static func rewrite(_ bytes: inout [UInt8], _ rewrites: [AddressRewrite]) {
        guard !rewrites.isEmpty, let (source, destination, isPacket) = addresses(bytes) else { return }
        for at in [source, destination] {
            let before = word(bytes, at)
            guard let after = rewrites.lazy.compactMap({ $0.applied(to: before) }).first, after != before else { continue }
            for byte in 0..<4 { bytes[at + byte] = UInt8(truncatingIfNeeded: after >> UInt32(24 - 8 * byte)) }
            // The transport's checksum is left as it is: the receiver here looks at the trailer only.
            if isPacket { patch(&bytes, source - 2, before, after) }
        }
    }

    /// Updates a checksum for a changed word (RFC 1624, equation 3).
    private static func patch(_ bytes: inout [UInt8], _ at: Int, _ before: UInt32, _ after: UInt32) {
        var sum = UInt32(~(UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1])))
        sum += ~before >> 16 & 0xFFFF
        sum += ~before & 0xFFFF
        sum += after >> 16
        sum += after & 0xFFFF
        while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
        let checksum = ~UInt16(truncatingIfNeeded: sum)
        bytes[at] = UInt8(checksum >> 8)
        bytes[at + 1] = UInt8(truncatingIfNeeded: checksum)
    }
}
