// What one end of a flow sent the other during a while: what is learnt from.
//
// A capture gives one for each frame, a worker one for each flow and moment. Fixed size, plain data.

/// Frames of one direction of one flow. 88 bytes.
@frozen
public struct TrafficRecord: BitwiseCopyable, Sendable {
    public var source: AddressWords
    public var destination: AddressWords
    /// When the first and the last of them came, ns since 1970.
    public var first: UInt64
    public var last: UInt64
    public var bytes: UInt64
    /// Ethernet source.
    public var sourceMAC: MACAddress
    public var frames: UInt32
    /// The server's port if the sender is the server; see `FrameHeaders`.
    public var sourcePort: Port
    public var destinationPort: Port
    public var vlan: VLANID
    public var etherType: EtherType
    public var ipProtocol: IPProtocol
    /// Of all of them together.
    public var tcpFlags: TCPFlags
    public var form: FrameForm
    public var marks: FrameMarks
    /// The port they came in by; nil: a capture, which does not say.
    public var side: Side?
    /// Why they were denied, or would be; `.none`: they passed. The parser's word comes first.
    public var cause: Cause
    /// Was told ahead of its time: somebody may have to be cut off for it.
    public var isUrgent = false

    /// - Parameters:
    ///   - frame: at least an Ethernet header; the parser proved it.
    ///   - nanoseconds: since 1970.
    @inlinable @inline(__always)
    public init(_ headers: borrowing FrameHeaders, frame: UnsafeRawPointer, wireLength: Int, at nanoseconds: UInt64, side: Side?) {
        self.init(
            source: headers.source, destination: headers.destination, first: nanoseconds, last: nanoseconds,
            bytes: UInt64(truncatingIfNeeded: wireLength), sourceMAC: frame.loadMAC(6), frames: 1, sourcePort: headers.sourcePort,
            destinationPort: headers.destinationPort, vlan: headers.vlan, etherType: headers.etherType, ipProtocol: headers.ipProtocol,
            tcpFlags: headers.tcpFlags, form: headers.form, marks: headers.marks, side: side, cause: headers.cause)
    }

    /// A sum of several frames.
    @inlinable @inline(__always)
    public init(
        source: AddressWords, destination: AddressWords, first: UInt64, last: UInt64, bytes: UInt64, sourceMAC: MACAddress, frames: UInt32,
        sourcePort: Port, destinationPort: Port, vlan: VLANID, etherType: EtherType, ipProtocol: IPProtocol, tcpFlags: TCPFlags,
        form: FrameForm, marks: FrameMarks, side: Side?, cause: Cause
    ) {
        self.source = source
        self.destination = destination
        self.first = first
        self.last = last
        self.bytes = bytes
        self.sourceMAC = sourceMAC
        self.frames = frames
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.vlan = vlan
        self.etherType = etherType
        self.ipProtocol = ipProtocol
        self.tcpFlags = tcpFlags
        self.form = form
        self.marks = marks
        self.side = side
        self.cause = cause
    }
}
