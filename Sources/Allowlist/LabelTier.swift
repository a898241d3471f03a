// Rules of networks and port ranges.
//
//   client address ─► trie ─► label ┐
//                                   ├─► perfect table ─► port set ─► rules
//   server address ─► trie ─► label ┘
//
// Every rule would have to stand under every pair of labels inside it. A
// prefix that contains many others (`any`, a plant's /8) would make that
// explode, so each side has two labels: the longest *narrow* prefix, and the longest *wide*
// one, which contains more than `wideFanOut` others. Four probes replace the
// product. Structure comes from rules only, never from traffic.

import Frames

/// The labels of one base label. 0: none on that side.
struct LabelProjection: BitwiseCopyable {
    var narrowClient: UInt32 = 0
    var wideClient: UInt32 = 0
    var narrowServer: UInt32 = 0
    var wideServer: UInt32 = 0
}

/// Read-only view.
struct LabelTier: BitwiseCopyable {
    let trie4: AddressTrie
    let trie6: AddressTrie
    /// By base label, as the tries give it; place 0 is all zero.
    let projections: UnsafePointer<LabelProjection>
    /// (client label, server label) → port set.
    let pairs: PerfectTable<Key4>
    let portSets: PortSets
    /// Pairs of wide labels exist at all, by probe: narrow–narrow, wide–narrow, narrow–wide, wide–wide.
    let probesInUse: UInt8

    @inline(__always) var isEmpty: Bool { probesInUse == 0 }

    @inline(__always)
    static func key(_ client: UInt32, _ server: UInt32) -> Key4 {
        Key4(client: client, server: server, port: 0, ipProtocol: 0)
    }
}

/// Room for one burst.
struct LabelScratch: BitwiseCopyable {
    /// Base labels of source and destination, by frame of the burst.
    let sources: UnsafeMutablePointer<UInt32>
    let destinations: UnsafeMutablePointer<UInt32>
    let lookup: LookupScratch<Key4>
    /// Which entry of the list a probe belongs to.
    let probeOwners: UnsafeMutablePointer<UInt8>

    init(capacity: Int, in memory: TableMemory) {
        sources = memory.allocate(UInt32.self, count: capacity)
        destinations = memory.allocate(UInt32.self, count: capacity)
        lookup = LookupScratch(capacity: capacity * 4, in: memory)
        probeOwners = memory.allocate(UInt8.self, count: capacity * 4)
    }
}

extension LabelTier {
    /// Finds the base labels of the frames in `list`.
    @inline(__always)
    func findLabels(
        _ headers: UnsafePointer<FrameHeaders>, _ list: UnsafePointer<UInt8>, _ n: Int, _ scratch: LabelScratch
    ) {
        for i in 0..<n {
            let frame = Int(list[i])
            if headers[frame].form == .ipv4 {
                scratch.sources[frame] = trie4.labelIPv4(UInt32(truncatingIfNeeded: headers[frame].source.low))
                scratch.destinations[frame] = trie4.labelIPv4(UInt32(truncatingIfNeeded: headers[frame].destination.low))
            } else {
                scratch.sources[frame] = trie6.labelIPv6(headers[frame].source)
                scratch.destinations[frame] = trie6.labelIPv6(headers[frame].destination)
            }
        }
    }

    /// Looks the frames of `list` up; `found` gets the lowest rule that holds, or stays.
    ///
    /// - Parameter isReply: whether the sender is taken for the server.
    @inline(__always)
    func lookUp(
        _ headers: UnsafePointer<FrameHeaders>, _ list: UnsafePointer<UInt8>, _ n: Int, isReply: Bool, from side: Side,
        _ references: RuleReferences, _ scratch: LabelScratch, found: UnsafeMutablePointer<UInt32>
    ) {
        var probes = 0
        for i in 0..<n {
            let frame = Int(list[i])
            let never: FrameMarks = isReply ? .neverReverse : .neverForward
            if headers[frame].marks.contains(never) { continue }
            let client = projections[Int(isReply ? scratch.destinations[frame] : scratch.sources[frame])]
            let server = projections[Int(isReply ? scratch.sources[frame] : scratch.destinations[frame])]
            let owner = UInt8(truncatingIfNeeded: i)
            probe(1, client.narrowClient, server.narrowServer, owner, scratch, &probes)
            probe(2, client.wideClient, server.narrowServer, owner, scratch, &probes)
            probe(4, client.narrowClient, server.wideServer, owner, scratch, &probes)
            probe(8, client.wideClient, server.wideServer, owner, scratch, &probes)
        }
        if probes == 0 { return }
        pairs.lookUp(probes, scratch.lookup)
        for p in 0..<probes where scratch.lookup.references[p] != noReference {
            let frame = Int(list[Int(scratch.probeOwners[p])])
            let port = isReply ? headers[frame].sourcePort : headers[frame].destinationPort
            let reference = portSets.reference(
                portKey(headers[frame].ipProtocol, port), inSetAt: scratch.lookup.references[p])
            let rule = references.resolve(
                reference, clientSide: clientSide(headers[frame], isReply: isReply, from: side),
                vlan: headers[frame].vlan)
            if rule < found[frame] { found[frame] = rule }
        }
    }
}

extension LabelTier {
    /// Adds a probe. Written always, counted only if it can hit: no branch to mispredict.
    @inline(__always)
    private func probe(
        _ kind: UInt8, _ client: UInt32, _ server: UInt32, _ owner: UInt8, _ scratch: LabelScratch, _ probes: inout Int
    ) {
        scratch.lookup.keys[probes] = Self.key(client, server)
        scratch.probeOwners[probes] = owner
        probes &+= probesInUse & kind != 0 && client != 0 && server != 0 ? 1 : 0
    }
}

/// The side the client of a conversation is on, if `headers` belongs to it this way round. An ICMP error carries the
/// packet it is about, which went the other way.
@inline(__always)
func clientSide(_ headers: FrameHeaders, isReply: Bool, from side: Side) -> Side {
    isReply != headers.marks.contains(.icmpError) ? side.other : side
}
