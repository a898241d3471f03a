"""A long day in a short time: traffic, swaps, link flaps, restarts, kills and scans, all at once; and what must hold all the while.

Run by Scripts/soak for as long as one likes, and by test_soak.py for half a minute.
"""

import json
import pathlib
import random
import signal
import subprocess
import threading
import time

from conftest import Bridge, Network, sh
from frames import ARP, IP, TCP, UDP, Raw, ether

POLICY = """
version = 1
name = "soak"
on_failure = "kernel"
ethertypes = ["arp", "lldp"]
[state]
reply_s = 2
{state}
[devices.host]
addresses = ["10.0.0.1"]
mac = "02:00:00:00:00:0a"
side = "outside"
[[allow]]
id = "kept"
from = "host"
to = "10.0.0.2"
service = ["udp/1", "tcp/5000", "icmp/echo"]
{more}"""
MORE = '[[allow]]\nid = "r{i}"\nfrom = "10.1.{i}.0/24"\nto = "10.0.0.0/24"\nservice = "tcp/{i}"\n'


def policies(rng):
    """Of many sizes, strict or not; the conversation that is counted is in all of them."""
    count = rng.choice([0, 3, 40, 200])
    return POLICY.format(
        state=rng.choice(["", 'tcp = "strict"']), more="".join(MORE.format(i=i + 1) for i in range(count)))


def traffic(rng):
    """Frames of every kind: allowed, denied, malformed, floods of new flows."""
    back = ("02:00:00:00:00:0b", "02:00:00:00:00:0a")
    there = [
        ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=1) / Raw(bytes(rng.randrange(1400))),
        ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=rng.randrange(1024, 65536), dport=5000, flags="S", seq=7),
        ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=4000, dport=5000, flags="PA", seq=rng.randrange(1 << 32)),
        ether() / IP(src="10.0.0.66", dst="10.0.0.2") / TCP(sport=4000, dport=rng.randrange(1, 1024), flags=rng.choice(["S", "A", "F", "FPU", ""])),
        ether() / ARP(psrc="10.0.0.1", pdst="10.0.0.2", hwsrc=rng.choice(["02:00:00:00:00:0a", "02:00:00:00:06:66"])),
        ether() / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF", id=rng.randrange(1 << 16)) / UDP(sport=9, dport=1, len=900) / Raw(bytes(400)),
    ]
    here = [
        ether(*back) / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=1, dport=9) / Raw(bytes(20)),
        ether(*back) / IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=5000, dport=4000, flags=rng.choice(["A", "SA", "R"]), seq=rng.randrange(1 << 32)),
    ]
    there, here = [bytes(frame) for frame in there], [bytes(frame) for frame in here]
    for frames in (there, here):
        frames += [bytes(rng.randrange(256) for _ in range(rng.randrange(14, 120))) for _ in range(3)]
        for frame in list(frames):
            broken = bytearray(frame)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            frames.append(bytes(broken))
    return there, here


class Soak:
    def __init__(self, binary, sekisho, folder, say=print, seed=None):
        self.seed = seed if seed is not None else random.randrange(1 << 32)
        self.rng = random.Random(self.seed)
        self.binary, self.sekisho, self.folder, self.say = binary, sekisho, folder, say
        self.net = Network()
        for host in (self.net.a, self.net.b):
            sh(f"ip netns exec {host.netns} ethtool -K {host.port} gro on")
        self.going, self.sent, self.done = True, 0, {}
        self.sizes = []

    def start(self, *options):
        return Bridge(self.binary, self.sekisho, self.net, POLICY.format(state="", more=""), self.folder, *options)

    def pour(self):
        """Traffic in both directions, at some thousand frames a second, and hosts that read what comes."""
        rng = random.Random(self.seed + 1)

        def send():
            while self.going:
                there, here = traffic(rng)
                for frames, host in ((there, self.net.a), (here, self.net.b)):
                    for _ in range(8):
                        for frame in frames:
                            try:
                                host.socket.send(frame)
                                self.sent += 1
                            except OSError:
                                pass  # its link is down, or its queue full
                        time.sleep(0.002)

        def read(host):
            while self.going:
                host.receive(quiet=0.2, timeout=0.5)

        threads = [threading.Thread(target=send, daemon=True)] + [
            threading.Thread(target=read, args=(host,), daemon=True) for host in (self.net.a, self.net.b)]
        for thread in threads:
            thread.start()
        return threads

    # What happens, by name.

    def swap(self):
        done = self.bridge.apply(policies(self.rng))
        assert done.returncode == 0, done.stderr

    def wrong_policy(self):
        version = self.bridge.status()["policy"]["version"]
        assert self.bridge.apply("version = 1\nmode = 3\n").returncode == 1
        assert self.bridge.status()["policy"]["version"] == version

    def flap(self):
        namespace, port = self.rng.choice([(self.net.bridge, "in0"), (self.net.bridge, "out0"), (self.net.inner, "b0"), (self.net.outer, "a0")])
        sh(f"ip -n {namespace} link set {port} down")
        time.sleep(self.rng.random() / 2)
        sh(f"ip -n {namespace} link set {port} up")

    def stand_still(self):
        self.bridge.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        self.bridge.process.send_signal(signal.SIGCONT)

    def replace(self):
        old = self.bridge
        self.bridge = self.start("--replace")
        assert old.wait_for_end() == 0

        def answers():
            done = self.sekisho("status", "--json", "--control", self.bridge.socket)
            return done.returncode == 0 and json.loads(done.stdout)["pid"] == self.bridge.process.pid

        self.bridge.wait_for(answers, "the new one")
        self.sizes.clear()

    def kill(self):
        self.bridge.kill()
        time.sleep(0.1)
        self.bridge = self.start()
        self.sizes.clear()

    def check(self):
        """Holds at any time: nothing is lost without a cause, and frames of the UMEM are where they belong."""
        status = self.bridge.status()
        for name, direction in status["directions"].items():
            received, accounted = direction["received"]["frames"], direction["forwarded"]["frames"] + direction["denied"]["frames"]
            # Read while frames are under way: a burst or two apart.
            assert abs(received - accounted) <= 1024, (name, direction)
        for worker in status["workers"]:
            frames = worker["frames"]
            assert 0 <= frames["free"] <= frames["total"]
        size = status["resident_bytes"]
        descriptors = len(list(pathlib.Path(f"/proc/{self.bridge.process.pid}/fd").iterdir()))
        self.sizes.append((size, descriptors, sum(cause["frames"] for cause in status["denied"])))
        return status

    def run(self, seconds):
        self.bridge = self.start()
        threads = self.pour()
        names = ["swap"] * 6 + ["flap", "stand_still", "wrong_policy"] + ["replace", "kill"]
        end, told = time.monotonic() + seconds, time.monotonic()
        steady = []
        try:
            while time.monotonic() < end:
                # The first of every kind soon, then by chance.
                missing = [name for name in dict.fromkeys(names) if name not in self.done]
                name = missing[0] if missing else self.rng.choice(names)
                getattr(self, name)()
                self.done[name] = self.done.get(name, 0) + 1
                self.check()
                steady.append(self.sizes[-1])
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    size, descriptors, denied = self.sizes[-1]
                    self.say(f"  {end - told:5.0f} s left, {self.sent} frames sent, {size >> 20} MiB, {descriptors} descriptors, {self.done}")
                time.sleep(0.2)
        finally:
            self.going = False
            for thread in threads:
                thread.join(5)
        # At rest the sums are exact.
        self.bridge.wait_for(lambda: {p["link"] for p in self.bridge.status()["ports"].values()} == {"up"}, "the links")
        for host in (self.net.a, self.net.b):
            host.drain()

        def is_exact():
            status = self.bridge.status()
            return all(d["received"]["frames"] == d["forwarded"]["frames"] + d["denied"]["frames"] for d in status["directions"].values())

        self.bridge.wait_for(is_exact, f"received = forwarded + every cause: {json.dumps(self.bridge.status()['directions'])}")
        # Memory and descriptors of one process do not grow with its age: the later half is like the earlier one.
        if len(self.sizes) >= 40:
            half = len(self.sizes) // 2
            early, late = self.sizes[half // 2:half], self.sizes[-(half // 2):]
            assert max(s for s, _, _ in late) <= max(s for s, _, _ in early) + (8 << 20), self.sizes
            assert max(d for _, d, _ in late) <= max(d for _, d, _ in early) + 4, self.sizes
        assert self.bridge.stop() == 0
        assert subprocess.run(["ip", "-n", self.net.bridge, "link", "show", "in0"], capture_output=True).returncode == 0
        return self.done

    def close(self):
        self.going = False
        if hasattr(self, "bridge"):
            self.bridge.kill()
        # What the policy wanted to outlive the process.
        subprocess.run(["ip", "netns", "exec", self.net.bridge, self.binary, "detach", "--inside", "in0", "--outside", "out0"], capture_output=True)
        self.net.close()
