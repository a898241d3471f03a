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
    /// Then those of so long ago make room, ns: what somebody is denied every day is no evidence of what he does now.
    private static let young: UInt64 = 10_000_000_000
    /// Before an alert's beginning, ns: clocks of records and of frames differ by some milliseconds.
    private static let margin: UInt64 = 1_000_000_000

    private var frames: [AlertFrame] = []
    /// How many, and when the oldest came.
    private var bySender: [MACAddress: (count: Int, oldest: UInt64)] = [:]
    /// By alert.
    private var given: [Int64: Int] = [:]

    public init() {}

    public mutating func add(_ more: [AlertFrame]) {
        for frame in more {
            var known = bySender[frame.sender] ?? (0, frame.time)
            if known.count >= Self.mostOfSender {
                guard frame.time > known.oldest &+ Self.young else { continue }
                frames.removeAll { $0.sender == frame.sender && $0.time &+ Self.young < frame.time }
                let left = frames.filter { $0.sender == frame.sender }
                known = (left.count, left.first?.time ?? frame.time)
            }
            bySender[frame.sender] = (known.count + 1, known.oldest)
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
        if let left = bySender[frame.sender], left.count > 1 { bySender[frame.sender] = (left.count - 1, left.oldest) } else { bySender[frame.sender] = nil }
    }

    /// Frames of an alert that it was not given yet, none from before it. Half of the room is for what it becomes.
    ///
    /// - Parameter known: cards of devices that are known, which an alert about unknown ones has nothing to do with.
    public mutating func take(for alert: Alert, known: Set<MACAddress> = []) -> [AlertFrame] {
        let before = given[alert.id]
        let room = before.map { Self.mostOfAlert - $0 } ?? Self.mostOfAlert / 2
        guard room > 0, let key = ActorKey(text: alert.group) else { return [] }
        let others = Set(alert.others.compactMap { $0.mac.flatMap { MACAddress(written: $0) } })
        let cards = key.level == .side ? known : []
        let from = alert.begin.nanoseconds > Self.margin ? alert.begin.nanoseconds - Self.margin : 0
        var taken: [AlertFrame] = []
        frames.removeAll { frame in
            guard taken.count < room, frame.time >= from, key.isOf(frame) && !cards.contains(frame.sender) || others.contains(frame.sender) else { return false }
            taken.append(frame)
            return true
        }
        for frame in taken { forget(frame) }
        if !taken.isEmpty { given[alert.id] = (before ?? 0) + taken.count }
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
        // Any card that nobody knows.
        case .side: frame.side == side
        case .silent, .bridge, .policy: false
        }
    }
}
