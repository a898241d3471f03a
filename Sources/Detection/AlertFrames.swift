// The beginnings of frames that did not pass, kept until it shows whether an alert is about their sender.

import Allowlist
import Foundation
import Frames

/// What is kept of a frame.
public struct AlertFrame: Sendable, Equatable {
    /// ns since 1970, to some milliseconds.
    public var time: UInt64
    /// Ethernet source.
    public var sender: MACAddress
    /// Of IP its source, of ARP and ND the address its sender claims; else zero.
    public var source: AddressWords
    public var side: Side
    /// Why it did not pass, or would not.
    public var cause: Cause
    /// Bytes on the wire.
    public var wireLength: Int
    /// The first of them.
    public var bytes: [UInt8]

    public init(time: UInt64, sender: MACAddress, source: AddressWords, side: Side, cause: Cause, wireLength: Int, bytes: [UInt8]) {
        (self.time, self.sender, self.source, self.side) = (time, sender, source, side)
        (self.cause, self.wireLength, self.bytes) = (cause, wireLength, bytes)
    }
}

/// The latest frames that did not pass, a bounded number; each is given to the first alert that asks for it.
public struct AlertFrames {
    /// Of one alert: what it began with, and some of what it became.
    public static let mostOfAlert = 32
    /// That wait; a megabyte at the most.
    static let most = 4096
    /// Of one sender, so that a flood of one does not push out the rest.
    static let mostOfSender = 64

    private var frames: [AlertFrame] = []
    private var bySender: [MACAddress: Int] = [:]
    /// By alert.
    private var given: [Int64: Int] = [:]

    public init() {}

    public mutating func add(_ more: [AlertFrame]) {
        for frame in more where bySender[frame.sender, default: 0] < Self.mostOfSender {
            bySender[frame.sender, default: 0] += 1
            frames.append(frame)
        }
        // A quarter at once, so that it costs nothing each time.
        if frames.count > Self.most { drop(frames.count - Self.most * 3 / 4) }
    }

    private mutating func drop(_ count: Int) {
        for frame in frames.prefix(count) { forget(frame) }
        frames.removeFirst(count)
    }

    private mutating func forget(_ frame: AlertFrame) {
        if let left = bySender[frame.sender], left > 1 { bySender[frame.sender] = left - 1 } else { bySender[frame.sender] = nil }
    }

    /// Frames of an alert that it was not given yet.
    public mutating func take(for alert: Alert) -> [AlertFrame] {
        let room = Self.mostOfAlert - given[alert.id, default: 0]
        guard room > 0, let key = ActorKey(text: alert.group) else { return [] }
        let others = Set(alert.others.compactMap { $0.mac.flatMap { MACAddress(written: $0) } })
        var taken: [AlertFrame] = []
        frames.removeAll { frame in
            guard taken.count < room, key.isOf(frame) || others.contains(frame.sender) else { return false }
            taken.append(frame)
            return true
        }
        for frame in taken { forget(frame) }
        if !taken.isEmpty { given[alert.id, default: 0] += taken.count }
        return taken
    }

    /// The alert is over.
    public mutating func end(_ alert: Alert) { given[alert.id] = nil }
}

extension ActorKey {
    fileprivate func isOf(_ frame: AlertFrame) -> Bool {
        switch level {
        case .mac: frame.sender == mac
        case .address: frame.source == address
        // Cards that nobody knows: their frames are not told from those of others there.
        case .side: frame.side == side
        case .silent, .bridge, .policy: false
        }
    }
}
