"""Clocks that jump: the wall clock of a running bridge, a time namespace, captures whose clock was set."""

import datetime
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

from frames import IP, TCP, UDP, Raw, ether, write_stamped
from test_failing import Streams, frame
from test_identity import arp

YEAR = 365 * 86400
JUMPS = {"ten years on": 10 * YEAR, "ten years back": -10 * YEAR, "before 1970": -70 * YEAR}

# The C library asks the kernel's shared memory for the time; this stands in front of it, and shifts the wall clock alone.
SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long *shift;
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("WALL_CLOCK_SHIFT");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *at = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
  if (at != MAP_FAILED) shift = at;
  if (file >= 0) close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
  return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec fine;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &fine);
  *now = (struct timeval){fine.tv_sec, fine.tv_nsec / 1000};
  return 0;
}
time_t time(time_t *out) {
  struct timespec fine;
  clock_gettime(CLOCK_REALTIME, &fine);
  if (out) *out = fine.tv_sec;
  return fine.tv_sec;
}
"""


@pytest.fixture
def wall_clock(folder):
    """Sets the wall clock of whatever is started with its environment: a call with the seconds it is wrong by."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if not compiler:
        pytest.skip("needs a C compiler")
    (folder / "shim.c").write_text(SHIM)
    done = subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "shift").write_bytes(bytes(8))
    with open(folder / "shift", "r+b") as file, mmap.mmap(file.fileno(), 8) as memory:

        def set_to(seconds):
            memory[:] = struct.pack("q", seconds)

        set_to.environment = {"LD_PRELOAD": str(folder / "shim.so"), "WALL_CLOCK_SHIFT": str(folder / "shift")}
        set_to(5 * YEAR)
        said = subprocess.run(["date", "+%s"], env={**os.environ, **set_to.environment}, capture_output=True, text=True).stdout
        assert abs(int(said) - time.time() - 5 * YEAR) < 60, "the shim does not shift the clock"
        set_to(0)
        yield set_to


def policy(reply_s=30, more=""):
    return f"""
version = 1
name = "clock"
on_failure = {{ deadline_ms = 2000 }}
[state]
reply_s = {reply_s}
midstream = false
tcp = "strict"
[[allow]]
id = "kept"
from = "10.0.0.1"
to = "10.0.0.2"
service = ["udp/1", "udp/53", "tcp/7"]
{more}"""


def ask(number=0):
    return bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=4000, dport=53) / Raw(b"question"))


def answer(number=0, port=4000):
    return bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src="10.0.0.2", dst="10.0.0.1", id=number) / UDP(sport=53, dport=port) / Raw(b"answer"))


def there(number=0, **tcp):
    return bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / TCP(sport=4001, dport=7, **tcp))


def back(number=0, **tcp):
    return bytes(ether("02:00:00:00:00:0b", "02:00:00:00:00:0a") / IP(src="10.0.0.2", dst="10.0.0.1", id=number) / TCP(sport=7, dport=4001, **tcp))


def crosses(sender, receiver, frame):
    receiver.drain()
    sender.send(frame)
    return frame in receiver.receive(quiet=0.15, timeout=1)


@pytest.mark.parametrize("name", JUMPS)
def test_the_wall_clock_jumps(sekisho, bridge, network, wall_clock, name):
    """Why: machines without a battery start in 1970, and a wrong time server takes the clock anywhere; no tool may notice."""
    running = bridge(policy(), net=network(), environment=wall_clock.environment)
    a, b = running.network.a, running.network.b
    assert crosses(a, b, there(flags="S", seq=1_000_000)) and crosses(b, a, back(flags="SA", seq=2_000_000, ack=1_000_001))
    assert crosses(a, b, there(1, flags="A", seq=1_000_001, ack=2_000_001)) and crosses(a, b, ask())
    b.send(arp("02:00:00:00:01:01", "10.0.0.7"), arp("02:00:00:00:01:02", "10.0.0.7"))
    running.wait_for(lambda: running.status()["identities"]["changes"] >= 1, "the change")
    streams = Streams(running.network)
    wall_clock(JUMPS[name])
    # More than a turn of the control side.
    time.sleep(1.2)
    status = running.status()
    assert 0 < status["uptime_seconds"] < 60 and 0 < status["policy"]["age_seconds"] < 60
    assert status["policy"]["version"] == 1 and status["judging"]["now"] == "worker" and status["judging"]["episodes"] == []
    streams.finish()
    assert streams.lost() == [] and streams.strangers() == 0 and streams.twice == 0
    # What was open before is, and what was not asked for is not.
    assert crosses(b, a, answer(1))
    assert crosses(b, a, back(2, flags="PA", seq=2_000_001, ack=1_000_001)) and crosses(a, b, there(3, flags="PA", seq=1_000_001, ack=2_000_001))
    b.send(arp("02:00:00:00:01:03", "10.0.0.7"))
    running.wait_for(lambda: running.status()["identities"]["changes"] >= 2, "the change")
    changes = running.status()["identities"]["latest"]
    years = [datetime.datetime.fromisoformat(change["at"].replace("Z", "+00:00")).year for change in changes]
    now = datetime.datetime.now().year
    assert years[-1] == now and years[0] == now + round(JUMPS[name] / YEAR / 1.0007), years
    # Asked by somebody whose clock is right, and by somebody whose is not.
    for environment in (os.environ, {**os.environ, **wall_clock.environment}):
        done = sekisho("status", "--control", running.socket, env=environment)
        assert done.returncode == 0 and "who is who" in done.stdout
        assert sekisho("latency", "--since", "10s", "--json", "--control", running.socket, env=environment).returncode == 0
    assert running.apply(policy()).returncode == 0 and running.status()["policy"]["version"] == 2
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: running.status()["policy"]["version"] == 3, "the policy")
    assert crosses(b, a, back(4, flags="PA", seq=2_000_001, ack=1_000_001))
    assert running.stop() == 0


@pytest.mark.parametrize("name", list(JUMPS)[:2])
def test_grace_and_replies_go_by_another_clock(bridge, network, wall_clock, name):
    """Why: a clock that is set must neither keep the door open nor shut it early."""
    begin = time.monotonic()
    running = bridge(policy(reply_s=2), net=network(), environment=wall_clock.environment)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    a, b = running.network.a, running.network.b
    wall_clock(JUMPS[name])
    # A machine that stood still meanwhile has shown nothing.
    assert crosses(b, a, answer(port=1)) or time.monotonic() - begin > 2, "grace was cut short"
    time.sleep(2.3)
    assert not crosses(b, a, answer(port=2)), "grace does not end"
    for number in range(5):
        begin = time.monotonic()
        wall_clock(JUMPS[name])
        assert crosses(a, b, ask(number))
        wall_clock(0)
        if (passed := crosses(b, a, answer(number))) or time.monotonic() - begin < 2:
            break
    assert passed, "the time for an answer was cut short"
    time.sleep(2.3)
    assert not crosses(b, a, answer(9)), "the time for an answer does not end"


def test_a_rule_expires_by_the_wall_clock_and_comes_back(bridge, network, wall_clock):
    """Why: that is what its owner wrote; and a clock that was wrong for a minute must not cost the rule for good."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=700)
    visit = f'[[allow]]\nid = "visit"\nfrom = "10.0.0.1"\nto = "10.0.0.2"\nservice = "udp/2"\nexpires = {end:%Y-%m-%dT%H:%M:%SZ}\n'
    running = bridge(policy(more=visit), net=network(), environment=wall_clock.environment)
    a, b = running.network.a, running.network.b
    versions = []
    for shift, is_there in ((0, True), (10 * YEAR, False), (0, True), (-70 * YEAR, True), (10 * YEAR, False)):
        wall_clock(shift)
        running.wait_for(lambda: running.status()["policy"]["rules"] == 1 + is_there, f"the rules at {shift}")
        time.sleep(1.2)
        assert crosses(a, b, frame(2, shift & 0xFF)) == is_there and crosses(a, b, frame(1, shift & 0xFF))
        versions.append(running.status()["policy"]["version"])
    # Compiled when something changes, and only then.
    assert versions == [1, 2, 3, 3, 4] and "the clock was set back" in running.said()
    assert running.status()["judging"]["episodes"] == []


@pytest.mark.parametrize("offset", (100_000, -1_000))
def test_a_time_namespace_is_refused(sekisho, bridge, network, offset):
    """Why: the XDP program goes by the kernel's own clock: every worker would look dead, or none ever."""
    own = ("unshare", "--time", "--monotonic", str(offset), "--fork")
    if subprocess.run([*own, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs time namespaces")
    net = network()
    running = bridge(policy(), net=net, prefix=own, wait=False)
    assert running.wait_for_end() == 1
    assert "time namespace" in running.said() and "→" in running.said() and not net.has_programs()
    done = sekisho("doctor", "--json", prefix=own)
    assert done.returncode == 1 and any("time namespace" in finding["finding"] for finding in json.loads(done.stdout))


# --- Captures ----------------------------------------------------------------------------------------------------


def simulated(sekisho, folder, file, text=None):
    (folder / "p.toml").write_text(text or policy(reply_s=10))
    done = sekisho("simulate", folder / "p.toml", file, "--verdicts", folder / "out.csv", "--json")
    assert done.returncode == 0, done.stderr
    return [line.split(",")[2:4] for line in (folder / "out.csv").read_text().splitlines()[1:]]


NOW = 1_790_000_000 * 10**9
PASSES, UNASKED = ["allow", ""], ["deny", "reply-unasked"]


@pytest.mark.parametrize("later", (NOW - 20 * YEAR * 10**9, NOW + 20 * YEAR * 10**9, NOW - 86400 * 10**9, 0, 5 * 10**9),
                         ids=("20 years back", "20 years on", "a day back", "1970", "five seconds after 1970"))
def test_the_clock_of_a_capture_is_set(sekisho, folder, later):
    """Why: the recorder's clock was set while it ran; what was asked before is still asked, and grace is over as on a bridge."""
    s = 10**9
    frames = [(NOW, ask()), (NOW + 11 * s, answer(1, port=5)), (NOW + 12 * s, ask(2)), (later, answer(3)), (later + 5 * s, answer(4)),
              (later + 12 * s, answer(5)), (later + 13 * s, answer(6, port=5))]
    assert simulated(sekisho, folder, write_stamped(folder / "in.pcap", frames)) == [PASSES, UNASKED, PASSES, PASSES, PASSES, UNASKED, UNASKED]


def test_frames_out_of_order_are_no_set_clock(sekisho, folder):
    """Why: captures of several queues are; time must not run faster for it."""
    s = 10**9
    frames = [(NOW, ask())] + [(NOW + 20 * s - (n % 2) * 2 * s, ask(1)) for n in range(60)] + [(NOW + 21 * s, answer(1))]
    assert simulated(sekisho, folder, write_stamped(folder / "in.pcap", frames)) == [PASSES] * 62


def test_the_first_stamp_is_nought(sekisho, folder):
    """Why: tools that make captures leave the time out; a question at time 0 is a question."""
    frames = [(0, ask()), (0, answer(1)), (20 * 10**9, answer(2))]
    assert simulated(sekisho, folder, write_stamped(folder / "in.pcap", frames)) == [PASSES, PASSES, UNASKED]


@pytest.mark.parametrize("resolution", (0, 3, 6, 9, 18, 0x80 | 1, 0x80 | 63))
def test_stamps_that_are_no_time(sekisho, folder, resolution):
    """Why: a field of a file is no promise."""
    def block(kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))

    data = ask()
    stamps = (2**64 - 1, 0, 2**63, 2**63 - 1, 1, 2**62, 18 * 10**18, 2**32)
    with open(folder / "in.pcapng", "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack("<HHI", 1, 0, 65535) + struct.pack("<HHB3x", 9, 1, resolution) + struct.pack("<HHq", 14, 8, -2**62) + bytes(4)))
        for stamp in stamps:
            file.write(block(6, struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)) + data))
    # libpcap may refuse the file; it may not bring the judge down.
    (folder / "p.toml").write_text(policy())
    done = sekisho("simulate", folder / "p.toml", folder / "in.pcapng", "--verdicts", folder / "out.csv", "--json")
    if done.returncode == 0:
        assert json.loads(done.stdout)["allowed"] == len(stamps), done.stdout
    else:
        assert "in.pcapng" in done.stderr
    # And in a pcap, where a second may have four milliards of nanoseconds.
    with open(folder / "in.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4 if resolution % 2 else 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for stamp in stamps:
            file.write(struct.pack("<IIII", stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)) + data)
    assert simulated(sekisho, folder, folder / "in.pcap") == [PASSES] * len(stamps)
    assert all(re.fullmatch(r"\d+,\d+\.\d{9},.*", line) for line in (folder / "out.csv").read_text().splitlines()[1:])


@pytest.mark.parametrize("jump", JUMPS.values(), ids=list(JUMPS))
def test_a_quarantine_lasts_as_long_as_was_said(bridge, sekisho, network, folder, wall_clock, jump):
    """Why: neither may a tool be cut off for ten years because a battery was dead, nor a laptop be let go by a clock."""

    def start():
        return bridge(policy(), "--state", folder / "state", net=network(), environment=wall_clock.environment)

    def left(running, clock):
        [order] = running.status()["quarantine"]
        return order["until"] - time.time() - clock

    running = start()
    assert sekisho("quarantine", "10.9.9.66", "--for", "1h", "--why", "x", "--control", running.socket).returncode == 0
    wall_clock(jump)
    running.wait_for(lambda: abs(left(running, jump) - 3600) < 120, "the order to follow the clock")
    wall_clock(0)
    running.wait_for(lambda: abs(left(running, 0) - 3600) < 120, "the order to follow it back")
    assert running.stop() == 0
    # A start under a clock that is put right only then.
    wall_clock(jump)
    running = start()
    wall_clock(0)
    running.wait_for(lambda: running.status()["quarantine"] and abs(left(running, 0) - 3600) < 120, "the order, at the right time")
