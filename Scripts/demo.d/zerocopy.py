"""The demo with its bridge in a virtual machine, between two virtio ports that
AF_XDP serves without a copy:

    mes     ──┐
              switch ── outside [ guest: Sekisho ] inside ── tool
    laptop  ──┘

The cables are taps with several queues. All else is the demo's: its programs,
its captures on the host's ends of the cables, its checks.

Exit status 75 if nothing failed but that frames are missing, and they were lost
between a cable and Sekisho: virtio_net's zero copy does that now and then
(guest.py, about its header). Such a run shows nothing, and Scripts/zerocopy
makes another.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import acts
import bridge
import demo
import evidence
import guest
import lab as laboratory
from console import Console

CHECKS = {
    "zero": "both ports are in zero copy",
    **demo.CHECKS,
    "queues": "frames come by several queues",
    "conserved": "every frame is accounted for",
    "machine": "the machine itself loses no frame",
    "kernel": "the guest's kernel has no complaint",
}
# What cannot hold where the machine itself loses frames.
UNDER_LOSS = {"machine", "bytes", "swaps", "counted", "hsms", "modbus", "added", "queues"}
MACHINE_LOST_FRAMES = 75


class GuestLinks(evidence.Links):
    """Also the guest's ends of the cables."""

    def __init__(self, lab: laboratory.Lab, roles: list[str], machine: guest.Machine):
        super().__init__(lab, roles)
        self._machine = machine

    def carrier_changes(self) -> dict[str, int]:
        return super().carrier_changes() | self._machine.carrier_changes()


# Sekisho's directions: from which port of the guest to which, and whose the
# other ends of the two cables are.
DIRECTIONS = {"inside_to_outside": ("inside", "outside"), "outside_to_inside": ("outside", "inside")}
CABLES = {"inside": ("tool", "eth0"), "outside": ("switch", "uplink")}


class ZeroCopy(acts.Demo):
    # To ask the guest alone takes its emulated processor a second or two.
    TOLD_MS = 30_000

    def __init__(self, lab: laboratory.Lab, console: Console, machine: guest.Machine):
        super().__init__(lab, console, guest.GuestSekisho(lab, machine, acts.HOSTS))
        self.machine = machine

    def run(self):
        try:
            super().run()
        except laboratory.DemoError:
            # What was waited for in vain may have been lost on the way.
            if hasattr(self, "before"):
                with contextlib.suppress(laboratory.DemoError):
                    self.judge_machine()
            raise

    def connect_sekisho(self):
        self.machine.start()
        self.console.step(f"a guest has booted Linux {self.machine.release}")
        for port, role, name in (("outside", "switch", "uplink"), ("inside", "tool", "eth0")):
            self.lab.ip("sekisho", "link", "set", port, "netns", self.lab.namespace(role), "name", name)
            self.lab.ip(role, "link", "set", name, "up")

    def watch_links(self) -> evidence.Links:
        return GuestLinks(self.lab, ["tool", "switch"], self.machine)

    def start_programs(self):
        super().start_programs()
        self.interrupts = self.machine.receive_interrupts()
        self.before = self.carried_and_counted()
        ports = self.sekisho.status()["ports"]
        self.console.check(
            "zero", all(port["af_xdp"] == "zero-copy" and port["xdp"] == "native" and port["driver"] == "virtio_net"
                        for port in ports.values()),
            f"{bridge.describe_ports({'ports': ports})}; Linux {self.machine.release}", ports=ports)

    def settle(self) -> dict:
        """The last moment before Sekisho ends."""
        status = super().settle()
        self.judge_queues()
        self.judge_conservation(status)
        self.judge_machine()
        return status

    def judge_queues(self):
        counts = {port: [now - before for now, before in zip(queues, self.interrupts[port])]
                  for port, queues in self.machine.receive_interrupts().items()}
        used = {port: sum(count > 0 for count in queues) for port, queues in counts.items()}
        self.console.check(
            "queues", len(used) == 2 and all(count > 1 for count in used.values()),
            ", ".join(f"{port} {used[port]} of {len(counts[port])}" for port in counts)
            + "; interrupts of each: " + ", ".join(f"{port} {' '.join(map(str, counts[port]))}" for port in counts),
            interrupts=counts)

    def judge_conservation(self, status: dict):
        """What came was judged by a worker, and forwarded, denied or dropped;
        what memory Sekisho does not have, the driver has."""
        missing, lost = 0, sum(sum(port["lost"].values()) for port in status["ports"].values())
        for direction in status["directions"].values():
            counts = {what: count["frames"] for what, count in direction.items()}
            missing += counts.pop("received") - sum(counts.values())
        unjudged = (status["judging"]["without_worker"]["frames"]
                    - self.status_before["judging"]["without_worker"]["frames"])
        outside = errors = 0
        for worker in status["workers"]:
            outside += worker["frames"]["total"] - worker["frames"]["free"] - sum(worker["rings"].values())
            errors += worker["kick_errors"]
        most = sum(port["queues"] for port in status["ports"].values()) * 2 * guest.VIRTQUEUE_FRAMES
        self.console.check(
            "conserved", not missing and not lost and not errors and not unjudged and 0 <= outside <= most,
            f"{missing} unaccounted for, {unjudged} that no worker judged, {lost} lost in the kernel, {errors} send errors; the driver holds {outside} "
            f"frames of memory, {most} at most",
            missing=missing, unjudged=unjudged, lost=lost, send_errors=errors, in_driver=outside, status=status)

    def at_cables(self) -> dict[str, dict]:
        """What the host's ends of the cables have carried so far, by port of
        the guest: `sent` was taken by QEMU, `received` was given by it."""
        carried = {}
        for port, (role, interface) in CABLES.items():
            [link] = json.loads(self.lab.ip(role, "-j", "-s", "link", "show", "dev", interface).stdout)
            counts = link["stats64"]
            carried[port] = {"sent": counts["tx"]["packets"], "received": counts["rx"]["packets"],
                             "dropped": counts["tx"]["dropped"] + counts["rx"]["dropped"]}
        return carried

    def carried_and_counted(self) -> tuple[dict, dict]:
        """Both of one moment: in which nothing is on its way."""
        for _ in range(20):
            carried, status = self.at_cables(), self.sekisho.status()
            if carried == self.at_cables():
                break
        return carried, status["directions"]

    def judge_machine(self):
        """Where a frame is lost that Sekisho has not seen, or has handed on."""
        (before, counted_before), (now, counted) = self.before, self.carried_and_counted()
        into, out = {}, {}
        for name, (source, target) in DIRECTIONS.items():
            count = {what: counted[name].get(what, {}).get("frames", 0) - counted_before[name].get(what, {}).get("frames", 0)
                     for what in ("received", "forwarded")}
            into[source] = now[source]["sent"] - before[source]["sent"] - count["received"]
            out[target] = count["forwarded"] - (now[target]["received"] - before[target]["received"])
        dropped = {port: now[port]["dropped"] - before[port]["dropped"] for port in now}
        self.console.check(
            "machine", not any((*into.values(), *out.values(), *dropped.values())),
            "; ".join(f"{port}: {into[port]} not come to Sekisho, {out[port]} not gone out after it, {dropped[port]} dropped at the host"
                      for port in CABLES),
            into=into, out=out, dropped=dropped)
        if min(*into.values(), *out.values()) < 0:
            self.console.check("conserved", False, "more frames came out of Sekisho than the cables brought")

    def finish(self):
        super().finish()
        said = self.sekisho.complaints
        self.console.check("kernel", not said, f"{len(said)} lines of it" + "".join(f"; {line}" for line in said[:3]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows Sekisho's main job between two virtio ports in zero copy.")
    parser.add_argument("--kernel", type=pathlib.Path, required=True)
    parser.add_argument("--initrd", type=pathlib.Path, required=True)
    demo.add_options(parser)
    args = parser.parse_args()

    shown: list[Console] = []

    def run(lab: laboratory.Lab, console: Console):
        shown.append(console)
        ZeroCopy(lab, console, guest.Machine(lab, args.kernel, args.initrd)).run()

    status = demo.show(CHECKS, run, json=args.json, keep=args.keep)
    failed = {check.id: check for console in shown for check in console.failed}
    is_loss = "machine" in failed and failed.keys() <= UNDER_LOSS and not ("bytes" in failed and failed["bytes"].values["leaked"])
    return MACHINE_LOST_FRAMES if status == 1 and is_loss else status


if __name__ == "__main__":
    sys.exit(main())
