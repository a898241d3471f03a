"""The demo with its bridge in a virtual machine, between two virtio ports that
AF_XDP serves without a copy:

    mes     ──┐
              switch ── outside [ guest: Sekisho ] inside ── tool
    laptop  ──┘

The cables are taps with several queues. All else is the demo's: its programs,
its captures on the host's ends of the cables, its checks.
"""

import argparse
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
    "kernel": "the guest's kernel has no complaint",
}


class GuestLinks(evidence.Links):
    """Also the guest's ends of the cables."""

    def __init__(self, lab: laboratory.Lab, roles: list[str], machine: guest.Machine):
        super().__init__(lab, roles)
        self._machine = machine

    def carrier_changes(self) -> dict[str, int]:
        return super().carrier_changes() | self._machine.carrier_changes()


class ZeroCopy(acts.Demo):
    def __init__(self, lab: laboratory.Lab, console: Console, machine: guest.Machine):
        super().__init__(lab, console, guest.GuestSekisho(lab, machine, acts.HOSTS))
        self.machine = machine

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

    def run(lab: laboratory.Lab, console: Console):
        ZeroCopy(lab, console, guest.Machine(lab, args.kernel, args.initrd)).run()

    return demo.show(CHECKS, run, json=args.json, keep=args.keep)


if __name__ == "__main__":
    sys.exit(main())
