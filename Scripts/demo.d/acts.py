"""The demo's acts, in their order."""

import pathlib
import time

import bridge
import evidence
import lab as laboratory
import verdicts
import words
from analysis import Addresses, Moments, judge_captures
from console import Console
from frames import ARP, IPV4
from lab import DemoError

ADDRESSES = Addresses(
    mes="10.3.0.10", mes_mac="02:00:00:00:03:0a",
    laptop="10.3.0.66", laptop_mac="02:00:00:00:03:42",
    tool="10.3.1.21", tool_mac="02:00:00:00:03:15",
)
HOSTS = {f"{role}_{what}": value for role in ("mes", "tool") for what, value in (
    ("address", getattr(ADDRESSES, role)), ("mac", getattr(ADDRESSES, role + "_mac")))}
ENDS = ("mes", "tool")
SWAPS = 20
# Enough for every conversation to have said something under each policy.
SWAP_PAUSE_SECONDS = 0.1


class Demo:
    # How soon an alert has to be there.
    TOLD_MS = 1000

    def __init__(self, lab: laboratory.Lab, console: Console, sekisho: bridge.Sekisho):
        self.lab, self.console, self.sekisho = lab, console, sekisho
        self.moments = Moments()
        self.applied: list[dict] = []

    def run(self):
        self.build_network()
        self.start_programs()
        self.console.heading("Monitor: everything passes, so the attack must work")
        self.attack_unprotected()
        self.console.heading("Enforce: only the policy's conversations pass")
        self.attack_protected()
        self.start_conversations()
        self.console.heading("Hot swap: the policy changes under traffic")
        self.add_rule()
        self.swap_often()
        self.remove_rule()
        self.console.heading("Response: what an alert may do by itself")
        self.respond()
        self.console.heading("Evidence")
        self.finish()

    # --- set-up ---

    def build_network(self):
        lab = self.lab
        for role in ("mes", "laptop", "switch", "sekisho", "tool"):
            lab.add_namespace(role)
        # A plain learning switch: no spanning tree, no multicast snooping,
        # so that it says nothing of its own.
        lab.ip("switch", "link", "add", "br0", "type", "bridge",
               "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        lab.ip("switch", "link", "set", "br0", "up")
        lab.cable("mes", "eth0", "switch", "mes")
        lab.cable("laptop", "eth0", "switch", "laptop")
        self.connect_sekisho()
        for port in ("mes", "laptop", "uplink"):
            lab.ip("switch", "link", "set", port, "master", "br0")
        for role in ("mes", "laptop", "tool"):
            address, mac = getattr(ADDRESSES, role), getattr(ADDRESSES, role + "_mac")
            lab.end_host(role, "eth0", mac, f"{address}/16")

    def connect_sekisho(self):
        self.lab.cable("sekisho", "outside", "switch", "uplink")
        self.lab.cable("tool", "eth0", "sekisho", "inside")

    def watch_links(self) -> evidence.Links:
        return evidence.Links(self.lab, ["sekisho", "tool", "switch"])

    def start_programs(self):
        lab, tool = self.lab, ADDRESSES.tool
        self.captures = {role: evidence.Capture(lab, role, interface)
                         for role, interface in (("tool", "eth0"), ("switch", "uplink"), ("laptop", "eth0"))}
        self.sekisho.start(self.sekisho.policy(mode="monitor"))
        status = self.sekisho.status()
        self.console.step(f"Sekisho bridges in mode {status.get('mode', '?')}: {bridge.describe_ports(status)}")
        # Only now: attaching to a port may reset its link on some drivers.
        self.links = self.watch_links()

        self.hsms_tool = self.start_hsms_tool()
        self.modbus_tool = lab.converse("tool", "modbus-tool", "modbus_tool.py", "--address", tool)
        self.stream_tool = lab.converse("tool", "stream-tool", "stream.py", "tool", "--tool", tool)
        self.probe_tool = lab.converse("tool", "probe-tool", "probe.py", "tool", "--tool", tool)
        for program in (self.modbus_tool, self.stream_tool, self.probe_tool):
            lab.wait(f"{program.name} to listen", lambda: program.result().get("listening"))

    def start_hsms_tool(self) -> laboratory.Conversation:
        program = self.lab.converse("tool", "hsms-tool", "hsms_tool.py", "--address", ADDRESSES.tool)
        self.lab.wait("hsms-tool to listen", lambda: program.result().get("listening"))
        return program

    def start_laptop(self) -> laboratory.Conversation:
        return self.lab.converse(
            "laptop", "laptop", "laptop.py", "--tool", ADDRESSES.tool, "--interface", "eth0",
            "--mac", ADDRESSES.laptop_mac, "--tool-mac", ADDRESSES.tool_mac, "--forge", ADDRESSES.mes)

    # --- monitor: the positive control ---

    def attack_unprotected(self):
        """Shows that the attack is real and that the captures see it: else
        its absence later would prove nothing."""
        self.attacked_at = time.time()
        laptop = self.start_laptop()
        self.lab.wait_if("an alert", self.sekisho.alerts, timeout=5)
        self.alerted_at = time.time()
        self.lab.wait("the laptop's first round", lambda: laptop.result().get("rounds"))
        self.lab.stop(laptop)
        # It has to ask for the tool's MAC again: so the ARP that the policy
        # passes is seen, too.
        self.lab.ip("laptop", "neighbour", "flush", "dev", "eth0")
        self.unprotected = laptop.result()
        # The tool's result file is a little behind it.
        self.lab.wait_if("the laptop's write to show", lambda: self.modbus_tool.result()["writes"], timeout=1)
        self.set_point = self.modbus_tool.result()["set_point"]
        self.console.step("laptop: " + words.ports(self.unprotected["ports"])
                          + f"; the tool's set point is now {self.set_point:#x}")
        # secsgem's equipment does not recover from a host that took its
        # session and left; a real tool would be waiting for an engineer too.
        self.lab.stop(self.hsms_tool)
        self.hsms_tool = self.start_hsms_tool()

    # --- enforce ---

    def attack_protected(self):
        time.sleep(0.3)  # let the last frames of the attack be counted as what they were: monitored
        applied = self.apply(self.sekisho.policy())
        self.moments.enforced = applied["answered"]
        self.status_before = self.sekisho.status()
        self.console.step(f"enforcing {applied.get('rules', '?')} rules, {words.swap(applied)}")
        # The laptop goes on until the end, through every swap. Its first
        # round comes before the host: secsgem, like many a tool, listens only
        # while it has no session, and a closed port would refuse by itself.
        self.laptop = self.start_laptop()
        self.lab.wait("the laptop's first round", lambda: self.laptop.result().get("rounds"))
        found = words.ports(self.laptop.result()["ports"])
        self.console.step(f"laptop: {found}; it goes on trying")
        if "connected" in found or "refused" in found:
            self.console.check("laptop", False, found)
            raise DemoError("the tool answered the laptop, which no rule allows; the rest would measure nothing")

    def start_conversations(self):
        lab, tool = self.lab, ADDRESSES.tool
        self.hsms = lab.converse("mes", "hsms-host", "hsms_host.py", "--tool", tool)
        self.modbus = lab.converse("mes", "modbus-host", "modbus_host.py", "--tool", tool)
        self.probe = lab.converse("mes", "probe-host", "probe.py", "host", "--tool", tool)
        lab.wait("HSMS messages", lambda: self.hsms.result().get("answered", 0) >= 10, timeout=15)
        lab.wait("Modbus polls", lambda: self.modbus.result().get("polls", 0) >= 50)
        hsms, modbus = self.hsms.result(), self.modbus.result()
        self.console.step(f"HSMS selected in {hsms['select_ms']:.0f} ms, communication established; "
                          f"{hsms['answered']} messages answered, {words.times(hsms['rtt_ms'])}")
        self.console.step(f"Modbus: {modbus['polls']} polls, {words.times(modbus['rtt_ms'])}")

    # --- hot swap ---

    def apply(self, policy: pathlib.Path) -> dict:
        self.applied.append(self.sekisho.apply(policy))
        return self.applied[-1]

    def add_rule(self):
        self.stream = self.lab.converse("mes", "stream-host", "stream.py", "host", "--tool", ADDRESSES.tool)
        self.lab.wait_if("the stream's attempts", lambda: self.stream.result().get("refused", 0) >= 3, timeout=3)
        refused = self.stream.result()
        self.console.step(f"tcp/7000 has no rule: {refused['attempts']} attempts to connect, "
                          f"{refused['connected']} succeeded")

        self.events_before, self.carriers_before = self.links.events(), self.links.carrier_changes()
        self.again_before = self.retransmissions()
        self.moments.added = self.apply(self.sekisho.policy(bridge.STREAM))
        self.lab.wait_if("the stream", lambda: self.stream.result().get("lines", 0) >= 100, timeout=5)
        stream = self.stream.result()
        after = ((stream["connected_at"] or float("nan")) - self.moments.added["answered"]) * 1e3
        self.console.step(f"rule for it added, {words.swap(self.moments.added)}; connected {after:.0f} ms later")
        self.console.check(
            "added", refused["connected"] == 0 and stream["lines"] >= 100,
            f"tcp/7000 refused {refused['refused']} times before, connected {after:.0f} ms after the swap",
            refused_before=refused["refused"], connected_after_ms=after, lines=stream["lines"])

    def swap_often(self):
        for number in range(SWAPS):
            self.apply(self.sekisho.policy(bridge.STREAM, bridge.another_tool(1 + number % 2)))
            time.sleep(SWAP_PAUSE_SECONDS)
        self.console.step(f"{SWAPS} swaps in a row under traffic, the slowest: "
                          + words.swap(max(self.applied[-SWAPS:], key=lambda one: one.get("swap_us", 0))))
        time.sleep(0.5)

    def remove_rule(self):
        # While the connection lives: once cut, it sends again and again.
        self.stream_again = [evidence.retransmissions(self.lab, end, {"stream": 7000})["stream"] for end in ENDS]
        self.stream_before = self.stream.result()
        self.moments.removed = self.apply(self.sekisho.policy())
        self.lab.wait_if("the stream's end", lambda: self.stream.result().get("cut", 0) > 0, timeout=4)
        stream = self.stream.result()
        noticed = (stream["cut_at"] or float("nan")) - self.moments.removed["asked"]
        self.console.step(f"the rule removed again, {words.swap(self.moments.removed)}; after {stream['lines']} lines "
                          f"the stream is silent, its host gave up after {noticed:.1f} s")
        time.sleep(0.5)  # for it to try again, in vain

    def respond(self):
        self.lab.wait_if("the alert to tell all", lambda: any(len(one["behaviours"]) > 1 for one in self.sekisho.alerts()), timeout=3)
        self.moments.responds = time.time()
        self.apply(self.sekisho.policy(responds=True))
        # An alert that goes on is looked at again after ten seconds at the most.
        self.lab.wait_if("the quarantine", lambda: self.sekisho.status()["quarantine"], timeout=12)
        self.quarantine = self.sekisho.status()["quarantine"]
        self.alerts = self.sekisho.alerts()
        for order in self.quarantine:
            self.console.step(f"{order['device']} is cut off by {order['who']}: {order['why']}")
        for alert in self.alerts:
            self.console.step(f"alert {alert['id']}, {alert['severity']}, {alert['kind']}: {alert['story']}")
        time.sleep(0.5)  # for it to try again, in vain

    def retransmissions(self) -> dict[str, list[int | None]]:
        """So far, by either end, of the conversations that must not notice."""
        ends = [evidence.retransmissions(self.lab, end, {"HSMS": 5000, "Modbus": 502}) for end in ENDS]
        return {name: [counts[name] for counts in ends] for name in ends[0]}

    # --- the end, and what it all amounts to ---

    def finish(self):
        lab = self.lab
        lab.stop(self.laptop)
        lab.stop(self.stream)
        lab.stop(self.probe)
        again = self.retransmissions()
        carriers, events = self.links.carrier_changes(), self.links.events()
        lab.stop(self.hsms)
        lab.stop(self.modbus)
        status = self.settle()
        self.moments.end = time.time()
        time.sleep(evidence.CAPTURE_SETTLES_SECONDS)
        for capture in self.captures.values():
            capture.stop()

        frames = {name: capture.frames(until=self.moments.end) for name, capture in self.captures.items()}
        self.console.step("captured: " + ", ".join(f"{len(frames[name])} frames {where}" for name, where in (
            ("switch", "before Sekisho"), ("tool", "behind it"), ("laptop", "at the laptop"))))

        verdicts.hsms(self.console, self.hsms.result())
        verdicts.modbus(self.console, self.modbus.result())
        denied, dropped = (count(status) - count(self.status_before)
                           for count in (bridge.denied_frames, bridge.dropped_frames))
        missing = judge_captures(
            self.console, ADDRESSES, self.moments, frames, unprotected=self.unprotected,
            set_point=self.set_point, protected=self.laptop.result(), denied=denied)
        verdicts.swaps(self.console, self.applied, self.probe.result(), self.probe_tool.result(),
                       self.stream_before, self.resent(again), dropped, missing)
        verdicts.links(self.console, self.carriers_before, carriers, events - self.events_before)
        first = min((frame.when for frame in frames["laptop"] if frame.when > self.attacked_at and frame.ether_type in (ARP, IPV4)),
                    default=float("nan"))
        verdicts.alerts(self.console, self.alerts, ADDRESSES, (self.alerted_at - first) * 1e3, self.TOLD_MS)
        cut = sum(entry["frames"] for entry in status["denied"] if entry["cause"] == "quarantined")
        verdicts.response(self.console, self.quarantine, ADDRESSES, cut)
        verdicts.end(self.console, self.sekisho.stop())

    def resent(self, again: dict[str, list]) -> dict[str, int | None]:
        """TCP segments sent again during the swaps, per conversation; None if
        its connection is gone, or was never there."""
        resent = {name: None if None in (*counts, *self.again_before[name])
                  else sum(counts) - sum(self.again_before[name]) for name, counts in again.items()}
        resent["stream"] = None if None in self.stream_again else sum(self.stream_again)
        return resent

    def settle(self) -> dict:
        """Waits until the last denied frame is counted: the ends of the cut
        connection send into the void a little longer."""
        status = self.sekisho.status()
        for _ in range(10):
            time.sleep(0.3)
            before, status = status, self.sekisho.status()
            if bridge.denied_frames(before) == bridge.denied_frames(status):
                break
        return status
