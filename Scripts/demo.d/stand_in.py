"""A toy bridge with Sekisho's command line, and a fault of one's choice.

It exists so that selfcheck.py can show that every check of the demo is able to
fail. It forwards in Python over packet sockets, knows only as much of the
policy file as the demo uses, and has no other purpose.
"""

import argparse
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import tomllib

from frames import ACK, ARP, IPV4, TCP, UDP, dissect

FAULTS = {
    "none": "does what the policy says",
    "eager": "enforces in monitor mode already",
    "open": "forwards everything, whatever the policy says",
    "believing": "believes addresses: ignores that they are bound to a MAC",
    "refusing": "denies by sending a RST",
    "stuck": "answers 'apply' but keeps its first enforcing policy",
    "lingering": "lets established connections live when their rule is gone",
    "forgetful": "knows only connections whose SYN it saw since the last swap",
    "lossy": "loses one frame in a thousand",
    "gapped": "loses what comes within 5 ms after a swap",
    "altering": "lowers the TTL, as a router would",
    "flapping": "takes a port down and up for a swap",
    "blind": "raises no alert",
    "chatty": "raises an alert for every port",
    "merciful": "cuts nobody off",
    "miscounting": "does not count one denied frame in ten",
    "littering": "leaves its control socket behind",
}
# Of Linux's headers, but not of Python's socket module.
ETH_P_ALL, PACKET_OUTGOING = 3, 4
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1


class Policy:
    def __init__(self, path: str, fault: str):
        self.fault = fault
        self.opened = set()  # for the forgetful
        file = tomllib.loads(pathlib.Path(path).read_text())
        devices, services = file["devices"], file["services"]
        self.enforce = file["mode"] == "enforce" or fault == "eager"
        self.rules = len(file["allow"])
        self.responds = "respond" in file and fault != "merciful"
        self.bound = {socket.inet_aton(address): {bytes.fromhex(mac.replace(":", "")) for mac in device["mac"]}
                      for device in devices.values() for address in device["addresses"]}
        self.allowed = set()
        for rule in file["allow"]:
            ends = [[socket.inet_aton(address) for address in devices.get(name, {"addresses": [name]})["addresses"]]
                    for name in (rule["from"], rule["to"])]
            for service in services.get(rule["service"], [rule["service"]]):
                protocol, port = service.split("/")
                self.allowed |= {(client, server, {"tcp": TCP, "udp": UDP}[protocol], int(port))
                                 for client in ends[0] for server in ends[1]}

    def allows(self, frame) -> bool:
        if not self.enforce or self.fault == "open":
            return True
        if frame.ether_type != IPV4:
            return frame.ether_type == ARP
        if self.fault != "believing" and frame.source_mac not in self.bound.get(frame.source, {frame.source_mac}):
            return False
        if self.fault == "forgetful" and frame.protocol == TCP:
            connection = frozenset([(frame.source, frame.source_port), (frame.destination, frame.destination_port)])
            if frame.is_syn:
                self.opened.add(connection)
            elif connection not in self.opened:
                return False
        if (frame.source, frame.destination, frame.protocol, frame.destination_port) in self.allowed:
            return True
        if self.fault == "lingering" and frame.port_is(7000) and not frame.is_syn:
            return True
        return not frame.is_syn and (
            frame.destination, frame.source, frame.protocol, frame.source_port) in self.allowed


class Bridge:
    def __init__(self, args):
        self.fault, self.policy = args.fault, Policy(args.policy, args.fault)
        self.inside, self.outside = (self.open_port(name) for name in (args.inside, args.outside))
        self.counts = {"received": [0, 0], "forwarded": [0, 0], "denied": [0, 0], "dropped": [0, 0]}
        self.control_path, self.control = args.control, socket.socket(socket.AF_UNIX)
        self.control.bind(args.control)
        self.control.listen()
        self.version, self.frames, self.deaf_until = 1, 0, 0.0
        self.state, self.alerts, self.cut_off, self.stopped = pathlib.Path(args.state), {}, {}, 0
        self.state.mkdir(exist_ok=True)
        self.write_alerts()
        self.running = True

    @staticmethod
    def open_port(name: str) -> socket.socket:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        port.bind((name, ETH_P_ALL))
        port.setblocking(False)
        port.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP,
                        struct.pack("iHH8s", socket.if_nametoindex(name), PACKET_MR_PROMISC, 0, b""))
        return port

    def count(self, what: str, direction: int):
        self.counts[what][direction] += 1

    def write_alerts(self):
        (self.state / "alerts.json").write_text(json.dumps(list(self.alerts.values())))

    def watch(self, frame):
        """Whoever is no device of the policy is worth an alert."""
        mac = frame.source_mac
        if frame.ether_type != IPV4 or self.fault == "blind" or any(mac in macs for macs in self.policy.bound.values()):
            return
        key = frame.destination_port if self.fault == "chatty" else 0
        written = ":".join(f"{byte:02x}" for byte in mac)
        kind = "spoofing" if frame.source in self.policy.bound else "unknown-device"
        alert = self.alerts.setdefault(key, {
            "id": len(self.alerts) + 1, "severity": "high", "kind": kind, "device": {"mac": written}, "behaviours": [], "story": ""})
        if kind not in (one["kind"] for one in alert["behaviours"]):
            alert["behaviours"].append({"kind": kind})
            alert["story"] += f" {socket.inet_ntoa(frame.source)} to {socket.inet_ntoa(frame.destination)}"
            self.write_alerts()
        if self.policy.responds:
            self.cut_off.setdefault(mac, {
                "device": written, "macs": [written], "since": int(time.time()), "until": int(time.time()) + 3600, "who": "stand-in", "why": "alert"})

    def forward(self, source: socket.socket, target: socket.socket, direction: int):
        while True:
            try:
                data, origin = source.recvfrom(65536)
            except OSError:  # nothing left, or the port is down
                return
            if origin[2] == PACKET_OUTGOING:
                continue
            self.count("received", direction)
            frame = dissect(0, data)
            self.frames += 1
            if self.deaf_until and time.monotonic() < self.deaf_until:
                continue
            if self.fault == "lossy" and self.policy.enforce and self.frames % 1000 == 0:
                continue
            self.watch(frame)
            is_cut_off = frame.source_mac in self.cut_off or frame.destination_mac in self.cut_off
            self.stopped += is_cut_off
            if is_cut_off or not self.policy.allows(frame):
                if self.fault != "miscounting" or self.frames % 10:
                    self.count("denied", direction)
                if self.fault == "refusing" and frame.is_syn:
                    self.send(source, self.reset(frame))
                continue
            if self.fault == "altering" and frame.ether_type == IPV4:
                data = data[:22] + bytes([data[22] - 1]) + data[23:]
                data = data[:24] + struct.pack("!H", self.ip_checksum(data)) + data[26:]
            self.send(target, data)
            self.count("forwarded", direction)

    @staticmethod
    def send(port: socket.socket, data: bytes):
        try:
            port.send(data)
        except OSError:  # the port is down
            pass

    @staticmethod
    def ip_checksum(data: bytes) -> int:
        words = struct.unpack("!10H", data[14:24] + b"\0\0" + data[26:34])
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        return ~(total + (total >> 16)) & 0xFFFF

    @staticmethod
    def reset(frame) -> bytes:
        sequence = struct.unpack_from("!I", frame.data, 38)[0]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, TCP, 0) + frame.destination + frame.source
        tcp = struct.pack("!HHIIBBHHH", frame.destination_port, frame.source_port, 0, sequence + 1 & 0xFFFFFFFF,
                          5 << 4, 0x04 | ACK, 0, 0, 0)
        words = struct.unpack("!16H", ip[12:20] + struct.pack("!HH", TCP, 20) + tcp)
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        tcp = tcp[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + tcp[18:]
        data = frame.source_mac + frame.destination_mac + b"\x08\x00" + ip + tcp
        return data[:24] + struct.pack("!H", Bridge.ip_checksum(data)) + data[26:]

    def answer(self, request: dict) -> dict:
        if request["command"] == "status":
            directions = {name: {what: {"frames": frames[number]} for what, frames in self.counts.items()}
                          for number, name in enumerate(("inside_to_outside", "outside_to_inside"))}
            return {"mode": "enforce" if self.policy.enforce else "monitor",
                    "ports": {"inside": {"driver": "stand-in"}, "outside": {"driver": "stand-in"}},
                    "directions": directions,
                    "quarantine": list(self.cut_off.values()),
                    "denied": [{"cause": "quarantined", "frames": self.stopped},
                               {"cause": "no_rule", "frames": sum(self.counts["denied"]) - self.stopped}]}
        began = time.monotonic()
        policy = Policy(request["file"], self.fault)
        built = time.monotonic()
        if not (self.fault == "stuck" and self.policy.enforce):
            self.policy = policy
        self.version += 1
        if self.fault == "gapped":
            self.deaf_until = time.monotonic() + 0.005
        if self.fault == "flapping":
            for state in ("down", "up"):
                subprocess.run(["ip", "link", "set", "inside", state], check=True)
        return {"version": self.version, "rules": policy.rules, "build_ms": (built - began) * 1e3,
                "swap_us": (time.monotonic() - built) * 1e6}

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "running", False))
        while self.running:
            ready = select.select([self.inside, self.outside, self.control], [], [], 0.1)[0]
            if self.inside in ready:
                self.forward(self.inside, self.outside, 0)
            if self.outside in ready:
                self.forward(self.outside, self.inside, 1)
            if self.control in ready:
                client, _ = self.control.accept()
                with client:
                    request = json.loads(client.recv(65536))
                    client.sendall(json.dumps(self.answer(request)).encode())
        if self.fault != "littering":
            os.unlink(self.control_path)


def ask(path: str, request: dict):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(path)
        except OSError as error:
            sys.exit(f"stand-in: error: connecting to {path}: {error}")
        client.sendall(json.dumps(request).encode())
        print(client.recv(65536).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    for option in ("--inside", "--outside", "--policy"):
        run.add_argument(option, required=True)
    run.add_argument("--idle")
    run.add_argument("--state", required=True)
    alerts = commands.add_parser("alerts")
    alerts.add_argument("--state", required=True)
    commands.add_parser("status")
    commands.add_parser("apply").add_argument("file")
    for command in commands.choices.values():
        command.add_argument("--control", required=command is not alerts)
        command.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.command == "run":
        Bridge(args).run()
    elif args.command == "alerts":
        print((pathlib.Path(args.state) / "alerts.json").read_text())
    else:
        ask(args.control, {"command": args.command, "file": getattr(args, "file", None)})
