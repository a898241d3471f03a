"""The systemd unit: as closed as it says, and a bridge really runs in it, restarts and is upgraded, under a real systemd."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

import machine
from conftest import ROOT, inside_netns, sh
from frames import IP, UDP, ether

UNIT, FEED_UNIT = ROOT / "packaging" / "sekisho@.service", ROOT / "packaging" / "sekisho-feed@.service"
HOST, TOOL = "192.0.2.10", "192.0.2.21"

# Of linux/capability.h.
KEPT = 1 << 2 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", [UNIT, FEED_UNIT], ids=lambda unit: unit.stem)
def test_the_unit_is_closed(unit):
    """Why: what is open is said in the unit, with the reason; anything more is a mistake."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found and float(found[1]) <= 3.0, done.stdout + done.stderr


@pytest.fixture
def host(privileged, network, binary, folder):
    """A machine with the program installed, one bridge configured and none started."""
    if reason := machine.what_is_missing():
        pytest.skip(reason)
    net = network()
    for end in (net.a, net.b):
        # So that veth ports take redirected frames: the kernel judges while no process does.
        sh(f"ip netns exec {end.netns} ethtool -K {end.port} gro on")
    made = machine.Machine(net.bridge, folder)
    made.network = net
    try:
        made.install(binary, "/usr/bin/sekisho")
        for unit in (UNIT, FEED_UNIT):
            made.install(unit, f"/usr/lib/systemd/system/{unit.name}", "644")
        made.install(ROOT / "packaging" / "tmpfiles.conf", "/usr/lib/tmpfiles.d/sekisho.conf", "644")
        made.install(ROOT / "packaging" / "sysusers.conf", "/usr/lib/sysusers.d/sekisho.conf", "644")
        made.must("systemd-sysusers", "sekisho.conf")
        made.must("systemd-tmpfiles", "--create", "sekisho.conf")
        made.write("/etc/sekisho/bay3.conf", (ROOT / "packaging" / "example.conf").read_text()
                   .replace("INSIDE=", "INSIDE=in0").replace("OUTSIDE=", "OUTSIDE=out0").replace("OPTIONS=", "OPTIONS=--queues 1 --idle sleep"))
        made.write("/etc/sekisho/bay3.toml", (ROOT / "packaging" / "example.toml").read_text().replace('"monitor"', '"enforce"'))
        made.must("systemctl", "daemon-reload")
        yield made
    finally:
        made.close()


def status_of(pid_on_machine, host):
    """What the kernel says of every thread of the bridge."""
    text = host.must("sh", "-c", f"for task in /proc/{pid_on_machine}/task/*; do cat $task/status; echo; done")
    return [dict(re.findall(r"^(\w+):\s*(.*)$", one, re.MULTILINE)) for one in text.strip().split("\n\n")]


def main_pid(host, unit="sekisho@bay3"):
    return int(host.must("systemctl", "show", "-P", "MainPID", unit))


def frame(number, port=5000):
    return bytes(ether() / IP(src=HOST, dst=TOOL, id=number & 0xFFFF) / UDP(sport=1000, dport=port) / number.to_bytes(4, "big"))


UDP_POLICY = f"""
version = 1
on_failure = "kernel"
[[allow]]
id = "numbers"
from = "{HOST}"
to = "{TOOL}"
service = "udp/5000"
"""


def test_a_bridge_runs_in_the_unit(host):
    """Why: a unit that is closed by guesswork keeps the bridge from something it needs once a year."""
    net = host.network
    host.write("/etc/sekisho/bay3.toml", UDP_POLICY)
    # READY=1 has come when this returns.
    host.must("systemctl", "start", "sekisho@bay3")
    net.a.send(frame(1), frame(2, port=5001))
    assert net.b.receive() == [frame(1)]
    pid = main_pid(host)
    threads = status_of(pid, host)
    workers = [one for one in threads if one["Name"].startswith("sekisho-w")]
    assert workers and all(int(one["CapPrm"], 16) == 0 and one["Seccomp"] == "2" for one in workers)
    assert all(int(one["CapPrm"], 16) & ~KEPT == 0 and one["NoNewPrivs"] == "1" for one in threads), threads
    # What it turns off on its ports, and puts back.
    assert host.must("cat", "/proc/sys/net/ipv6/conf/in0/disable_ipv6").strip() == "1"
    # The group may ask; others may not.
    ask = ["/usr/bin/sekisho", "status", "--control", "bay3"]
    assert host.run("setpriv", "--reuid", "nobody", "--regid", "sekisho", "--clear-groups", *ask).returncode == 0
    assert host.run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *ask).returncode == 1
    assert "recording to /var/lib/sekisho/bay3/history.sqlite" in host.must("sekisho", "status")
    # A change of the policy, also to one that needs a program of its own.
    host.write("/etc/sekisho/bay3.toml", UDP_POLICY.replace('"udp/5000"', '["udp/5000", "udp/5001"]') + "".join(
        f'[[allow]]\nid = "r{i}"\nfrom = "10.{i // 250}.{i % 250}.1"\nto = "{TOOL}"\nservice = "tcp/{i + 1}"\n' for i in range(20_000)))
    host.must("systemctl", "reload", "sekisho@bay3")
    net.a.send(frame(3, port=5001))
    assert net.b.receive() == [frame(3, port=5001)]
    assert host.must("systemctl", "show", "-P", "MainPID", "sekisho@bay3").strip() == str(pid)
    # The log is in the journal, and so in a bundle for the maker.
    assert "forwarding: policy" in host.journal()
    host.must("sekisho", "support", "-o", "/tmp/s.tar")
    assert "forwarding: policy" in host.must("tar", "-xOf", "/tmp/s.tar", "log.txt")
    host.must("sekisho", "backup", "--state", "/var/lib/sekisho/bay3", "-o", "/tmp/b.tar")
    host.must("systemctl", "stop", "sekisho@bay3")
    assert host.run("systemctl", "is-failed", "sekisho@bay3").stdout.strip() == "inactive", host.journal()[-2000:]
    # The kernel still judges; and it can be taken off.
    net.a.send(frame(4), frame(5, port=5002))
    assert net.b.receive() == [frame(4)]
    host.must("sekisho", "restore", "/tmp/b.tar", "--state", "/var/lib/sekisho/bay3", "--force")
    host.must("sekisho", "detach", "--inside", "in0", "--outside", "out0")
    net.a.send(frame(6))
    assert net.b.receive() == [] and not net.has_programs()


def test_a_restart_loses_no_frame(host):
    """Why: an upgrade is a restart, and must not be a maintenance window."""
    net = host.network
    host.write("/etc/sekisho/bay3.toml", UDP_POLICY)
    host.must("systemctl", "start", "sekisho@bay3")
    sent, ends = 0, threading.Event()

    def send():
        nonlocal sent
        while not ends.is_set():
            net.a.send(frame(sent))
            sent += 1
            time.sleep(0.002)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        before = main_pid(host)
        for _ in range(3):
            time.sleep(0.3)
            host.must("systemctl", "restart", "sekisho@bay3")
        time.sleep(0.3)
        restarted = sent
        # And one that nobody asked for: what it had in its hands is lost, and the next one comes by itself.
        middle = main_pid(host)
        host.must("kill", "-9", str(middle))
        host.wait_for(lambda: main_pid(host) not in (0, middle) and host.run("systemctl", "is-active", "sekisho@bay3").returncode == 0, "the next one")
        time.sleep(0.3)
    finally:
        ends.set()
        thread.join()
    received = [int.from_bytes(one[-4:], "big") for one in net.b.receive()]
    missing = sorted(set(range(sent)) - set(received))
    assert before != middle and restarted > 300 and sent > restarted + 100
    # In a hand-over a frame that the kernel passes may overtake one that the workers have.
    assert len(received) == len(set(received)), "twice"
    assert not missing or missing[0] >= restarted - 5, f"lost in a restart (until {restarted}): {missing[:20]}"
    assert len(missing) < 20, f"lost when it was killed: {missing}"
    assert "took over the wire" in host.journal()
    # What the kernel counted while no process was there is told by the next: this is what CAP_SYS_ADMIN is for.
    assert re.search(r"no worker judged \(worker_dead\).* before this start", host.journal()), host.journal()[-3000:]


def test_an_unconfigured_bridge_does_not_start(host):
    """Why: one that comes up with a default is in the way of a plant."""
    host.run("systemctl", "start", "sekisho@bay4")
    assert host.run("systemctl", "is-active", "sekisho@bay4").stdout.strip() == "inactive"
    # As it is shipped: no port is named.
    host.install(ROOT / "packaging" / "example.conf", "/etc/sekisho/bay4.conf", "644")
    host.install(ROOT / "packaging" / "example.toml", "/etc/sekisho/bay4.toml", "644")
    assert host.run("systemctl", "start", "sekisho@bay4").returncode != 0
    host.run("systemctl", "stop", "sekisho@bay4")
    assert not host.network.has_programs()


def test_a_feed_runs_in_its_unit(host):
    """Why: it speaks to networks that the bridge itself has nothing to do with; what it may do beside that is nothing."""
    lines = "/var/lib/sekisho/bay3/feed.jsonl"
    # Without a file of its own it does not start.
    host.run("systemctl", "start", "sekisho-feed@bay3")
    assert host.run("systemctl", "is-active", "sekisho-feed@bay3").stdout.strip() == "inactive"
    sh(f"ip -n {host.network.bridge} link set lo up")
    with inside_netns(host.network.bridge):
        siem = socket.create_server(("127.0.0.1", 5140))
    siem.settimeout(30)
    host.write("/etc/sekisho/bay3.feeds.toml", f'''version = 1
[[file]]
name = "lines"
path = "{lines}"
begin = "start"
[[syslog]]
name = "siem"
to = "tcp://127.0.0.1:5140"
begin = "start"
''')
    host.write("/etc/systemd/system/sekisho-feed@bay3.service.d/to.conf", "[Service]\nIPAddressAllow=127.0.0.1\n")
    host.must("systemctl", "daemon-reload")
    # Before there is anything to tell.
    host.must("systemctl", "start", "sekisho-feed@bay3")
    host.write("/etc/sekisho/bay3.toml", UDP_POLICY)
    host.must("systemctl", "start", "sekisho@bay3")
    with siem, siem.accept()[0] as connection:
        connection.settimeout(30)
        told = b""
        while b" sekisho - start " not in told:
            told += connection.recv(65536)
        assert b'bridge="bay3"' in told
        host.wait_for(lambda: '"type":"start"' in host.run("cat", lines).stdout, "the line in the file")
        pid = main_pid(host, "sekisho-feed@bay3")
        threads = status_of(pid, host)
        assert all(int(one[which], 16) == 0 for one in threads for which in ("CapPrm", "CapEff", "CapBnd")), threads
        assert all(one["NoNewPrivs"] == "1" and one["Seccomp"] == "2" for one in threads), threads
        # As logrotate does.
        host.must("mv", lines, lines + ".1")
        host.must("systemctl", "reload", "sekisho-feed@bay3")
        host.must("systemctl", "stop", "sekisho@bay3")
        host.wait_for(lambda: '"type":"stop"' in host.run("cat", lines).stdout, "the line in the new file")
        assert '"type":"start"' not in host.must("cat", lines) and main_pid(host, "sekisho-feed@bay3") == pid
        host.must("systemctl", "stop", "sekisho-feed@bay3")
    assert host.run("systemctl", "is-failed", "sekisho-feed@bay3").stdout.strip() == "inactive", host.journal()[-2000:]
