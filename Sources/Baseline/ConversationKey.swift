// What is learnt: who opens conversations to whom, and for what. The client's port is never part of it.

import Allowlist
import Frames

/// Client, server, protocol and server port.
public struct ConversationKey: Hashable, BitwiseCopyable, Sendable {
    public var client: AddressWords
    public var server: AddressWords
    /// ICMP: type × 256 + code of the request; protocols without ports: 0.
    public var service: Port
    public var vlan: VLANID
    public var ipProtocol: IPProtocol
    public var family: IPFamily

    public init(client: AddressWords, server: AddressWords, service: Port, vlan: VLANID, ipProtocol: IPProtocol, family: IPFamily) {
        self.client = client
        self.server = server
        self.service = service
        self.vlan = vlan
        self.ipProtocol = ipProtocol
        self.family = family
    }

    /// What it is for, as rules have it.
    public var range: ServiceRange { ServiceRange(ipProtocol, service, service) }

    /// All but the addresses.
    package var tail: UInt64 {
        UInt64(service.rawValue) | UInt64(vlan.rawValue) << 16 | UInt64(ipProtocol.rawValue) << 32 | UInt64(family == .ipv6 ? 6 : 4) << 40
    }
}

/// How it is known which side serves.
public enum Orientation: UInt8, Sendable, Comparable, CaseIterable, BitwiseCopyable {
    /// By the ports' numbers, or by who spoke first.
    case guessed = 1
    /// By what else is known of these ports: many come to one of them, or it was seen to be opened.
    case inferred = 2
    /// By a SYN or its answer, or by an ICMP message's type.
    case seen = 3

    public static func < (a: Orientation, b: Orientation) -> Bool { a.rawValue < b.rawValue }
}

/// Two that have to do with each other.
struct AddressPair: Hashable {
    var client: AddressWords
    var server: AddressWords

    init(_ client: AddressWords, _ server: AddressWords) {
        self.client = client
        self.server = server
    }

    var swapped: AddressPair { AddressPair(server, client) }
}

extension AddressWords {
    /// A broadcast to the whole network, or a multicast address. (A subnet's broadcast address is not known from outside.)
    package func isGroup(_ family: IPFamily) -> Bool {
        family == .ipv6 ? high >> 56 == 0xFF : low >> 28 == 0xE || low == 0xFFFF_FFFF
    }
}

/// Secret words, so that nobody can choose traffic that collides.
package struct Scramble: BitwiseCopyable {
    package init() {}

    let a = UInt64.random(in: .min ... .max) | 1
    let b = UInt64.random(in: .min ... .max) | 1

    @inline(__always)
    package func hash(_ x: AddressWords, _ y: AddressWords, _ tail: UInt64) -> UInt64 {
        mum(mum(x.high ^ y.low ^ a, x.low &+ tail ^ b) ^ y.high ^ tail, y.low ^ a)
    }
}
