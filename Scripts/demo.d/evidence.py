"""What the demo believes: captures on both sides of the bridge, the kernel's
own counters, and how they are read."""

import collections
import json
import re
import signal
import typing

from scapy.utils import RawPcapReader

import lab as laboratory
from frames import Frame, dissect

# tcpdump hands a block of frames on when it is full or after its timeout of
# one second; stopped earlier, it would lose the last ones.
CAPTURE_SETTLES_SECONDS = 1.2


class Capture:
    """tcpdump on one interface, from construction until `stop`."""

    def __init__(self, lab: laboratory.Lab, role: str, interface: str):
        self._lab, self._file = lab, lab.directory / f"{role}-{interface}.pcap"
        self._program = lab.start(role, f"tcpdump-{role}-{interface}", [
            # Without -Z it would change its user, and with it lose the
            # arrangement to die with the demo.
            "tcpdump", "-i", interface, "-n", "-s", "0", "-B", "32768", "-Z", "root",
            "--time-stamp-precision", "nano", "-w", self._file,
        ])
        lab.wait(f"tcpdump on {interface} of {role}",
                 lambda: "listening on" in self._program.log.read_text())

    def stop(self):
        self._lab.stop(self._program, signal.SIGINT)
        said = self._program.log.read_text()
        lost = re.search(r"(\d+) packets? dropped by kernel", said)
        if lost is None or int(lost[1]):
            # A capture with holes proves nothing, in either direction.
            raise laboratory.DemoError(f"the capture {self._file.name} is not complete:\n{self._program.last_words()}")

    def frames(self, until: float) -> list[Frame]:
        with RawPcapReader(str(self._file)) as reader:
            unit = 1e9 if reader.nano else 1e6
            frames = (dissect(meta.sec + meta.usec / unit, data) for data, meta in reader)
            return [frame for frame in frames if frame.when <= until]


class Crossing(typing.NamedTuple):
    """Two captures, one on either side of the bridge, compared."""
    identical: int              # frames seen on both sides, byte for byte
    only_outside: list[Frame]
    only_inside: list[Frame]
    transit: list[tuple[float, float]]  # when, and seconds from one side to the other


def compare(outside: list[Frame], inside: list[Frame]) -> Crossing:
    """Pairs the frames by their bytes. A frame that occurs several times has
    to occur as often on the other side."""
    waiting = collections.defaultdict(collections.deque)
    for frame in outside:
        waiting[frame.data].append(frame)
    transit, only_inside = [], []
    for frame in inside:
        if twins := waiting.get(frame.data):
            transit.append((frame.when, abs(frame.when - twins.popleft().when)))
        else:
            only_inside.append(frame)
    only_outside = [frame for twins in waiting.values() for frame in twins]
    return Crossing(len(transit), only_outside, only_inside, transit)


def percentile(values: list[float], rank: float) -> float:
    return sorted(values)[min(len(values) - 1, int(rank * len(values)))] if values else float("nan")


def retransmissions(lab: laboratory.Lab, role: str, ports: dict[str, int]) -> dict[str, int | None]:
    """Segments sent again since each connection began, by this end; None
    where there is no connection. Per connection, because the host's total
    would count the revoked one, too."""
    found: dict[str, int | None] = dict.fromkeys(ports)
    listing = laboratory.run("ip", "netns", "exec", lab.namespace(role), "ss", "-tinOH", "state", "established").stdout
    for line in listing.splitlines():
        ends = re.findall(r":(\d+)\s", line)[:2]
        for name, port in ports.items():
            if str(port) in ends:
                again = re.search(r"\bretrans:\d+/(\d+)", line)
                found[name] = (found[name] or 0) + (int(again[1]) if again else 0)
    return found


class Links:
    """Watches the links of some namespaces: a bridge that lets its link go
    down makes the tool lose its host, however briefly."""

    def __init__(self, lab: laboratory.Lab, roles: list[str]):
        self._lab, self._roles = lab, roles
        self._monitors = {
            role: lab.start(role, f"link-events-{role}", ["ip", "-o", "monitor", "link"]) for role in roles
        }

    def events(self) -> int:
        return sum(len(monitor.log.read_text().splitlines()) for monitor in self._monitors.values())

    def carrier_changes(self) -> dict[str, int]:
        """Per interface: how often the kernel saw its carrier come or go."""
        changes = {}
        for role in self._roles:
            for link in json.loads(self._lab.ip(role, "-j", "-d", "-s", "-s", "link", "show").stdout):
                if link.get("linkinfo", {}).get("info_kind") in ("veth", "tun"):
                    changes[f"{role}/{link['ifname']}"] = link["stats64"]["tx"]["carrier_changes"]
        return changes
