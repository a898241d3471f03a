"""Sekisho, as the demo uses it: by its command line only."""

import json
import pathlib
import signal
import subprocess
import time

import lab as laboratory

POLICY = """\
version = 1
name = "demo"
mode = "{mode}"
ethertypes = ["arp"]
protected = ["mes", "scanner-1"]
{settings}
[devices.mes]
addresses = ["{mes_address}"]
mac = ["{mes_mac}"]

[devices.scanner-1]
addresses = ["{tool_address}"]
mac = ["{tool_mac}"]

[services]
hsms = ["tcp/5000"]
modbus = ["tcp/502"]
"""
RESPOND = """
[respond]
unknown-device = "quarantine"
spoofing = "quarantine"
"""

RULE = """
[[allow]]
id = "{id}"
from = "{client}"
to = "{server}"
service = "{service}"
purpose = "{purpose}"
owner = "demo"
"""

ALWAYS = [
    dict(id="mes-hsms", client="mes", server="scanner-1", service="hsms", purpose="SECS/GEM host link"),
    dict(id="mes-modbus", client="mes", server="scanner-1", service="modbus", purpose="sub-fab monitoring"),
    dict(id="mes-probe", client="mes", server="scanner-1", service="udp/9000", purpose="numbered datagrams"),
]
STREAM = dict(id="mes-stream", client="mes", server="scanner-1", service="tcp/7000", purpose="trace data")


def another_tool(number: int) -> dict:
    """A rule that no traffic of the demo meets; makes a policy differ."""
    return dict(id=f"mes-tool-{number}", client="mes", server=f"10.3.2.{number}", service="hsms",
                purpose="another tool's host link")


class Sekisho:
    """The bridge between the interfaces `inside` and `outside` of the
    namespace `sekisho`."""

    settings = ""  # more lines of the policy's head

    def __init__(self, lab: laboratory.Lab, command: list[str], hosts: dict[str, str]):
        self._lab, self._command, self._hosts = lab, command, hosts
        self._socket = lab.directory / "control.sock"
        self._state = lab.directory / "state"
        self._policies = 0
        self.program: laboratory.Program | None = None

    def policy(self, *rules: dict, mode: str = "enforce", responds: bool = False) -> pathlib.Path:
        """Writes a policy file with the standing rules and these; whether alerts may cut devices off."""
        self._policies += 1
        path = self._lab.directory / f"policy-{self._policies:02}.toml"
        path.write_text(POLICY.format(mode=mode, settings=self.settings, **self._hosts)
                        + (RESPOND if responds else "") + "".join(RULE.format(**rule) for rule in (*ALWAYS, *rules)))
        return path

    def start(self, policy: pathlib.Path):
        self.program = self._lab.start("sekisho", "sekisho", [
            *self._command, "run", "--inside", "inside", "--outside", "outside",
            "--policy", policy, "--control", self._socket, "--idle", "hybrid", "--state", self._state,
        ])
        self._lab.wait("Sekisho to answer 'status'", lambda: self._ask("status", check=False), timeout=15)

    def _call(self, *arguments, check: bool) -> subprocess.CompletedProcess:
        return laboratory.run(*self._command, *arguments, "--control", self._socket, "--json", timeout=10, check=check)

    def _ask(self, *arguments, check: bool = True) -> dict | None:
        done = self._call(*arguments, check=check)
        if done.returncode != 0:
            return None
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise laboratory.DemoError(f"'sekisho {arguments[0]} --json' did not answer in JSON: "
                                       f"{done.stdout[:200]!r}") from error

    def status(self) -> dict:
        return self._ask("status")

    def alerts(self) -> list[dict]:
        """Those of devices, so far."""
        return devices_alerts(laboratory.run(*self._command, "alerts", "--state", self._state, "--json").stdout)

    def apply(self, policy: pathlib.Path) -> dict:
        """The answer, with the moments (wall clock, as in the captures)
        between which the swap must have happened."""
        asked = time.time()
        answer = self._ask("apply", policy)
        return {**answer, "asked": asked, "answered": time.time()}

    def stop(self) -> dict:
        """Ends it as a service manager would; says what it left behind."""
        status = self._lab.stop(self.program, signal.SIGTERM)
        links = json.loads(self._lab.ip("sekisho", "-j", "-d", "link", "show").stdout)
        return {
            "exit_status": status,
            "xdp_left_on": [link["ifname"] for link in links if "xdp" in link],
            "socket_left": self._socket.exists(),
        }


def devices_alerts(text: str) -> list[dict]:
    return [alert for alert in json.loads(text) if "device" in alert]


def denied_frames(status: dict) -> int:
    return sum(entry.get("frames", 0) for entry in status.get("denied", []))


def dropped_frames(status: dict) -> int:
    directions = status.get("directions", {}).values()
    return sum(direction.get("dropped", {}).get("frames", 0) for direction in directions)


def describe_ports(status: dict) -> str:
    """How the ports really run: driver, XDP and AF_XDP mode obtained."""
    def one(name: str, port: dict) -> str:
        modes = [str(port[key]) for key in ("driver", "xdp", "af_xdp") if port.get(key)]
        return f"{name} {' '.join(modes)}".strip()
    return ", ".join(one(name, port) for name, port in status.get("ports", {}).items()) or "ports unknown"
