"""A virtual machine with two virtio ports, and Sekisho in it, in the place of
the namespace `sekisho`: veth has no zero copy, virtio-net has.

The processor is emulated, so that it is the same on every machine. Nothing
leads out of it but the two cables and a serial line for commands.
"""

import base64
import json
import re
import shlex
import signal
import socket
import subprocess
import pathlib

import bridge
import lab as laboratory
from lab import DemoError

PORTS = ("inside", "outside")
# Linux uses as many queues of a virtio port as it has processors. One of these is for everything but the workers.
PROCESSORS = QUEUES = 3
# QEMU's own; a frame of a socket is in a ring of Sekisho's, or in one of these.
VIRTQUEUE_FRAMES = 256
MEMORY_MIB = 1152
# virtio_net sends its header for zero copy from a variable of the module, whose
# address Linux (seen in 6.18) takes for one of directly mapped memory:
# the device reads other memory, by its content some frames or all get lost.
# Without address randomization that is just above 1 GiB: memory that is there,
# zero as the header has to be, and that nobody is to use.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr memmap=64M$1024M"
# Loading XDP programs takes an emulated processor seconds.
BOOT_SECONDS = START_SECONDS = 120
CONTROL = "/run/control.sock"


class Machine:
    def __init__(self, lab: laboratory.Lab, kernel: pathlib.Path, initrd: pathlib.Path):
        self._lab, self._kernel, self._initrd = lab, kernel, initrd
        self._line: socket.socket | None = None
        self._rest = b""

    def start(self):
        """Boots, with the ends of its cables in the namespace `sekisho`, from
        where they can be moved."""
        network = []
        for number, port in enumerate(PORTS, 1):
            self._lab.ip("sekisho", "tuntap", "add", "dev", port, "mode", "tap", "multi_queue")
            # What the emulated machine is too slow for waits here.
            self._lab.ip("sekisho", "link", "set", port, "txqueuelen", "10000", "up")
            network += [
                "-netdev", f"tap,id={port},ifname={port},queues={QUEUES},vhost=off,script=no,downscript=no",
                # Zero copy needs the DMA interface: iommu_platform.
                "-device", f"virtio-net-pci,netdev={port},mac=02:00:00:00:f0:{number:02},mq=on,"
                           f"vectors={2 * QUEUES + 2},disable-legacy=on,iommu_platform=on,romfile=",
            ]
        agent = self._lab.directory / "agent.sock"
        self.program = self._lab.start("sekisho", "sekisho", [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", PROCESSORS, "-m", MEMORY_MIB,
            "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", self._kernel, "-initrd", self._initrd, "-append", COMMAND_LINE,
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={agent},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=agent", *network,
        ])
        self._lab.wait("QEMU's serial line", agent.exists)
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(agent))
        self._send("uname -r")
        self._line.setblocking(False)
        self._lab.wait("the guest to boot", self._has_answered, timeout=BOOT_SECONDS)
        self._line.setblocking(True)
        self.release = self._receive("uname -r", 1).stdout.strip()

    def run(self, script: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        """Runs a shell script in the guest."""
        self._send(script)
        done = self._receive(script, timeout)
        if check and done.returncode != 0:
            raise DemoError(f"'{script}' failed in the guest ({done.returncode}): {(done.stderr or done.stdout).strip()}")
        return done

    def write(self, path: str, text: str):
        self.run(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}")

    def carrier_changes(self) -> dict[str, int]:
        counts = self.run(f"cd /sys/class/net && cat {' '.join(f'{port}/carrier_changes' for port in PORTS)}").stdout
        return {f"guest/{port}": int(count) for port, count in zip(PORTS, counts.split())}

    def receive_interrupts(self) -> dict[str, list[int]]:
        """Of each queue of each port: a queue without any has had no frame."""
        table = self.run("cat /proc/interrupts").stdout
        counts = {}
        for port in PORTS:
            device = pathlib.PurePath(self.run(f"readlink /sys/class/net/{port}/device").stdout.strip()).name
            rows = re.findall(rf"^ *\d+:((?: +\d+)+) .* {device}-input\.\d+$", table, re.MULTILINE)
            counts[port] = [sum(map(int, row.split())) for row in rows]
        return counts

    def complaints(self) -> list[str]:
        """What a kernel says when something in it is wrong."""
        said = self.run("dmesg").stdout.splitlines()
        return [line for line in said if re.search(r"WARNING:|BUG:|Oops|NETDEV WATCHDOG|Call Trace|refcount|swiotlb", line)]

    # --- the serial line ---

    def _send(self, script: str):
        self._line.sendall(base64.b64encode(script.encode()) + b"\n")

    def _has_answered(self) -> bool:
        try:
            self._rest += self._line.recv(65536)
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise DemoError(f"the guest ended while it booted{self._lab.last_words('sekisho')}") from error
        return self._rest.endswith(b"\n")

    def _receive(self, script: str, timeout: float) -> subprocess.CompletedProcess:
        self._line.settimeout(timeout)
        try:
            while not self._rest.endswith(b"\n"):
                data = self._line.recv(65536)
                if not data:
                    raise ConnectionResetError
                self._rest += data
        except ConnectionError as error:
            raise DemoError(f"the guest ended during '{script}'{self._lab.last_words('sekisho')}") from error
        except TimeoutError as error:
            raise DemoError(f"'{script}' did not end within {timeout:g} s in the guest") from error
        status, *texts = self._rest.strip().split(b":")
        self._rest = b""
        output, errors = (base64.b64decode(text).decode(errors="replace") for text in texts)
        return subprocess.CompletedProcess(script, int(status), output, errors)


class GuestSekisho(bridge.Sekisho):
    """Sekisho between the ports of the machine."""

    # An emulated processor that another program keeps waiting is no failure.
    settings = "on_failure = { deadline_ms = 2000 }\n"

    def __init__(self, lab: laboratory.Lab, machine: Machine, hosts: dict[str, str]):
        super().__init__(lab, ["sekisho"], hosts)
        self._machine = machine

    def start(self, policy: pathlib.Path):
        path = self._bring(policy)
        self._machine.run(
            f"(sekisho run --inside inside --outside outside --policy {path} --control {CONTROL} --idle hybrid --state /run/state"
            " >/dev/console 2>&1; echo $? >/run/exit) >/dev/null 2>&1 &")
        self._lab.wait("Sekisho to answer 'status'", self._answers, timeout=START_SECONDS)

    def _answers(self) -> bool:
        if status := self._machine.run("cat /run/exit", check=False).stdout.strip():
            raise DemoError(f"Sekisho ended in the guest with status {status}{self._lab.last_words('sekisho')}")
        return self._ask("status", check=False) is not None

    def alerts(self) -> list[dict]:
        return bridge.devices_alerts(self._machine.run("sekisho alerts --state /run/state --json").stdout)

    def _bring(self, file: pathlib.Path) -> str:
        path = f"/run/{file.name}"
        self._machine.write(path, file.read_text())
        return path

    def _call(self, command: str, *files: pathlib.Path, check: bool = True) -> subprocess.CompletedProcess:
        words = ["sekisho", command, *map(self._bring, files), "--control", CONTROL, "--json"]
        return self._machine.run(shlex.join(words), check)

    def stop(self) -> dict:
        status = self._machine.run(
            "kill -TERM $(pidof sekisho); for i in $(seq 100); do [ -e /run/exit ] && break; sleep 0.1; done; cat /run/exit")
        links = json.loads(self._machine.run("/host/ip -j -d link show").stdout)
        left = {
            "exit_status": int(status.stdout),
            "xdp_left_on": [link["ifname"] for link in links if "xdp" in link],
            "socket_left": self._machine.run(f"[ -e {CONTROL} ]", check=False).returncode == 0,
        }
        self.complaints = self._machine.complaints()
        self._lab.stop(self._machine.program, signal.SIGTERM)
        return left
