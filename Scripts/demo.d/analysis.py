"""What the three captures say about the bridge."""

import dataclasses
import socket

import evidence
from console import Console
from frames import ARP, Frame

STREAM_PORT = 7000


@dataclasses.dataclass(frozen=True)
class Addresses:
    mes: str
    mes_mac: str
    laptop: str
    laptop_mac: str
    tool: str
    tool_mac: str

    def ip(self, role: str) -> bytes:
        return socket.inet_aton(getattr(self, role))

    def mac(self, role: str) -> bytes:
        return bytes.fromhex(getattr(self, role + "_mac").replace(":", ""))


@dataclasses.dataclass
class Moments:
    """When the policy changed, by the wall clock as in the captures. `added`
    and `removed` are answers of `apply`, with "asked" and "answered"."""
    enforced: float = 0
    added: dict = dataclasses.field(default_factory=dict)
    removed: dict = dataclasses.field(default_factory=dict)
    # From then on the laptop may be cut off: also its ARP.
    responds: float = float("inf")
    end: float = 0


class Expectation:
    """What the policies of the demo say about a frame, told from its fields
    and its time alone: independent of Sekisho."""

    def __init__(self, addresses: Addresses, moments: Moments):
        self._moments = moments
        self._mes, self._tool = addresses.ip("mes"), addresses.ip("tool")
        self._laptop, self._laptop_mac = addresses.ip("laptop"), addresses.mac("laptop")

    def of_laptop(self, frame: Frame) -> bool:
        """From or to it; ARP apart, which the policy lets pass."""
        return frame.ether_type != ARP and (
            self._laptop_mac in (frame.source_mac, frame.destination_mac)
            or self._laptop in (frame.source, frame.destination))

    def of_stream(self, frame: Frame) -> bool:
        return ((frame.source, frame.destination, frame.destination_port) == (self._mes, self._tool, STREAM_PORT)
                or (frame.source, frame.destination, frame.source_port) == (self._tool, self._mes, STREAM_PORT))

    def must_be_denied(self, frame: Frame) -> bool:
        if frame.when <= self._moments.enforced:
            return False
        return self.of_laptop(frame) or self.of_stream(frame) and not (
            self._moments.added["asked"] <= frame.when <= self._moments.removed["answered"])

    def may_be_denied(self, frame: Frame) -> bool:
        """Also while a swap is under way, when either policy may judge."""
        in_swap = any(swap["asked"] <= frame.when <= swap["answered"]
                      for swap in (self._moments.added, self._moments.removed))
        may_be_cut_off = frame.when >= self._moments.responds and self._laptop_mac in (frame.source_mac, frame.destination_mac)
        return self.must_be_denied(frame) or in_swap and self.of_stream(frame) or may_be_cut_off


def selects(reply: bytes) -> bool:
    """Whether a Select.rsp (SType 2) with status 0 is among these HSMS
    messages: four bytes of length, ten of header, text."""
    while len(reply) >= 14:
        if reply[7] == 0 and reply[9] == 2:
            return True
        reply = reply[4 + int.from_bytes(reply[:4], "big"):]
    return False


def judge_captures(console: Console, addresses: Addresses, moments: Moments, captures: dict[str, list[Frame]],
                   unprotected: dict, set_point: int, protected: dict, denied: int) -> int:
    """`unprotected` and `protected`: the laptop's results in monitor and in
    enforce mode; `denied`: how many frames Sekisho says it denied since.
    Returns how many frames were changed or lost that the policy allows."""
    outside, inside, at_laptop = captures["switch"], captures["tool"], captures["laptop"]
    expected = Expectation(addresses, moments)
    tool_mac, tool = addresses.mac("tool"), addresses.ip("tool")
    crossing = evidence.compare(outside, inside)

    def after(frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if frame.when > moments.enforced]

    def before(frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if frame.when <= moments.enforced]

    def from_laptop(frames: list[Frame]) -> list[Frame]:
        laptop_mac, laptop = addresses.mac("laptop"), addresses.ip("laptop")
        return [frame for frame in frames if laptop_mac == frame.source_mac or laptop == frame.source]

    # The positive control: the attack works, and this capture shows it.
    took_session = selects(bytes.fromhex(unprotected["ports"]["5000"]["reply"]))
    seen = [frame for frame in from_laptop(before(inside)) if frame.ether_type != ARP]
    forged = [frame for frame in seen if frame.source == addresses.ip("mes")]
    console.check(
        "control", took_session and set_point == 0xBAD and len(seen) > len(forged) > 0,
        f"the laptop {'took' if took_session else 'did not take'} the HSMS session, set point "
        f"{'overwritten' if set_point == 0xBAD else 'intact'}; {len(seen)} frames of it at the tool, "
        f"{len(forged)} of them under the host's address",
        took_session=took_session, set_point=set_point, frames_at_tool=len(seen), forged_at_tool=len(forged))

    # The laptop's side: what it sent, and whether the tool said anything.
    syns = [frame for frame in from_laptop(after(at_laptop)) if frame.is_syn]
    own = [frame for frame in syns if frame.source == addresses.ip("laptop")]
    answers = [frame for frame in after(at_laptop) if frame.source == tool]
    tried = sum(tally["attempts"] for tally in protected["ports"].values())
    answered = sum(tally["connected"] + tally["refused"] for tally in protected["ports"].values())
    console.check(
        "laptop", len(own) > 0 and not answers and answered == 0,
        f"{tried} connects to ports {', '.join(protected['ports'])}: {answered} answered; "
        f"{len(own)} SYNs in the capture, {len(answers)} IP frames from the tool",
        attempts=tried, answered=answered, syns=len(own), answers=len(answers))

    # The tool's side; and that the capture was not simply blind.
    reached = from_laptop(after(inside))
    arp = sum(frame.ether_type == ARP for frame in reached)
    hsms = sum(frame.port_is(5000) and frame.source == addresses.ip("mes")
               and frame.source_mac == addresses.mac("mes") and frame.payload > 0 for frame in after(inside))
    console.check(
        "reach", len(reached) == arp and hsms > 0 and len(syns) > len(own),
        f"{len(reached) - arp} of its frames, of {len(syns)} SYNs sent ({len(syns) - len(own)} under the host's "
        f"address); the same capture has {hsms} HSMS frames of the host. ARP, which the policy passes: {arp}",
        frames=len(reached) - arp, arp=arp, syns=len(syns), forged=len(syns) - len(own), hsms_frames=hsms)

    # A frame has crossed if it is seen on the side it did not come from.
    crossed = [frame for frame in inside if frame.source_mac != tool_mac]
    crossed += [frame for frame in outside if frame.source_mac == tool_mac]
    stream = [frame.when for frame in crossed if expected.of_stream(frame) and frame.payload]
    late = [frame for frame in crossed if expected.of_stream(frame) and expected.must_be_denied(frame)]
    last = max(stream, default=float("nan"))
    cut = (last - moments.removed["asked"]) * 1e3
    took = (moments.removed["answered"] - moments.removed["asked"]) * 1e3
    tried_again = sum(expected.of_stream(frame) for frame in crossing.only_outside + crossing.only_inside
                      if frame.when > moments.removed["answered"])
    console.check(
        "removed", len(stream) > 100 and not late and tried_again > 0,
        f"last frame {cut:.1f} ms after 'apply' was called, which took {took:.1f} ms; "
        f"{len(late)} frames crossed after its answer, {tried_again} tried",
        last_frame_ms=cut, apply_ms=took, crossed_after=len(late), tried_after=tried_again)

    # Every frame that did not cross as it was must have been denied.
    stopped = crossing.only_outside + crossing.only_inside
    missing = [frame for frame in stopped if not expected.may_be_denied(frame)]
    leaked = [frame for frame in crossed if expected.must_be_denied(frame)]
    delays = [seconds for _, seconds in crossing.transit]
    console.check(
        "bytes", crossing.identical > 0 and not missing and not leaked,
        f"{crossing.identical} frames, the same bytes on both sides; {len(missing)} changed or lost, "
        f"{len(leaked)} passed that should not; from capture to capture p50 "
        f"{evidence.percentile(delays, 0.5) * 1e6:.0f} µs, p99 {evidence.percentile(delays, 0.99) * 1e6:.0f} µs",
        identical=crossing.identical, missing=len(missing), leaked=len(leaked))

    stopped = len(after(stopped))
    console.check(
        "counted", denied == stopped >= len(syns) > 0,
        f"Sekisho counted {denied} denied frames, the captures show {stopped} that did not cross",
        counted=denied, captured=stopped)
    return len(missing)
