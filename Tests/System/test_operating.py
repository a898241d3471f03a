"""What is recorded survives: backups while it is written, restoring, pruning; and a bundle for the maker that gives nothing away."""

import hashlib
import ipaddress
import json
import os
import re
import sqlite3
import stat
import tarfile
import threading
import time

import pytest

from conftest import sh
from frames import IP, TCP, UDP, ether

HOST, TOOL = "10.77.3.1", "10.77.3.2"

POLICY = f"""
version = 1   # ask Ms Tanaka, 10.77.9.9, before you change this
name = "operating"
[devices.host]
addresses = ["{HOST}", "fd77:3::1"]
[devices.tool-10-77-3-2]
addresses = ["{TOOL}"]
mac = ["02:77:00:00:03:0a"]
[[allow]]
id = "link"
from = "host"
to = ["tool-10-77-3-2", "10.77.4.0/24"]
service = "tcp/9"
purpose = "key nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
owner = "Tanaka"
# -----BEGIN PRIVATE KEY-----
# MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
# -----END PRIVATE KEY-----
"""
# As it stands in the policy, or as the bridge would say it.
SECRETS = [HOST, TOOL, "10.77.9.9", "10.77.4.0", "fd77:3::1", "02:77:00:00:03:0a", "10-77-3-2", "02:00:00:00:00", "10.77.3.66",
           "Tanaka", "nWGxne", "9WmC6hEr0", "MC4CAQAw", "PRIVATE KEY"]


def frame(number, client=HOST):
    """A connection of its own for each; who opens it is plain at once."""
    return bytes(ether() / IP(src=client, dst=TOOL) / TCP(sport=1 + number % 60000, dport=9, flags="S", seq=1))


def conversations(sekisho, state):
    done = sekisho("baseline", "--state", state, "--json")
    assert done.returncode == 0, done.stderr
    return {(one["client"], one["server"], one["service"]): one for one in json.loads(done.stdout)["conversations"]}


@pytest.fixture
def recorded(sekisho, bridge, folder):
    """A bridge that records, and has recorded something."""
    running = bridge(POLICY.replace('mac = ["02:77:00:00:03:0a"]\n', ""), "--state", folder / "state")
    running.network.a.send(frame(1))
    assert running.network.b.receive(1)
    running.wait_for(lambda: (HOST, TOOL, "tcp/9") in conversations(sekisho, folder / "state"), "the first record")
    return running


class Sender:
    """Sends all the time; what is sent arrives."""

    def __init__(self, network):
        self.network, self.sent, self.ends = network, 0, False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ends:
            self.network.a.send(frame(self.sent, f"10.77.3.{self.sent % 200 + 20}"))
            self.sent += 1
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends = True
        self.thread.join()


def test_a_backup_is_made_while_it_is_written(sekisho, bridge, recorded, folder):
    """Why: a bridge that must be stopped to be backed up is not backed up."""
    state, file = folder / "state", folder / "b.tar"
    with Sender(recorded.network) as sender:
        for number in range(5):
            done = sekisho("backup", "--state", state, "--policy", recorded.policy, "-o", file, "--json")
            assert done.returncode == 0, done.stderr
            time.sleep(0.3)
        assert sender.sent > 100
    assert "error" not in recorded.status()["recording"]
    # What any tar and any sha256sum say of it.
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        assert archive.getnames() == ["manifest.json", "alerts.sqlite", "audit.sqlite", "history.sqlite", "policy.toml"]
        manifest = json.load(archive.extractfile("manifest.json"))
        for entry in manifest["files"]:
            assert hashlib.sha256(archive.extractfile(entry["name"]).read()).hexdigest() == entry["sha256"]
        assert archive.extractfile("policy.toml").read() == recorded.policy.read_bytes()
        (folder / "copy.sqlite").write_bytes(archive.extractfile("history.sqlite").read())
    assert json.loads(done.stdout) == manifest
    with sqlite3.connect(folder / "copy.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM conversation").fetchone()[0] > 10
    # Nothing else is left beside it.
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_restoring(sekisho, recorded, folder):
    """Why: it is done once in years, in a hurry: it must refuse what would make things worse."""
    state, file = folder / "state", folder / "b.tar"
    assert sekisho("reject", "--state", state, "--from", HOST, "--why", "test", "--who", "t").returncode == 0
    assert sekisho("backup", "--state", state, "--policy", recorded.policy, "-o", file).returncode == 0
    for force in ([], ["--force"]):
        done = sekisho("restore", file, "--state", state, *force)
        assert done.returncode == 1 and "in use" in done.stderr and "stop the bridge" in done.stderr
    recorded.stop()
    before = conversations(sekisho, state)
    done = sekisho("restore", file, "--state", state)
    assert done.returncode == 1 and "already" in done.stderr and "--force" in done.stderr
    done = sekisho("restore", file, "--state", state, "--policy", recorded.policy)
    assert done.returncode == 1 and "nothing was changed" in done.stderr
    # One that was cut short, or changed, restores nothing.
    for damage in (file.read_bytes()[:-2000], file.read_bytes().replace(b"SQLite format 3", b"SQLite format 4"), b"", b"no tar at all" * 100):
        (folder / "damaged").write_bytes(damage)
        done = sekisho("restore", folder / "damaged", "--state", state, "--force")
        assert done.returncode == 1 and "error: " in done.stderr, damage[:50]
    assert conversations(sekisho, state) == before and not list(state.glob("before*")) and not list(state.glob("*restoring*"))
    (state / "history.sqlite").write_bytes(b"ruined")
    done = sekisho("restore", file, "--state", state, "--force", "--policy", folder / "p.toml")
    assert done.returncode == 0, done.stderr
    assert conversations(sekisho, state).keys() == before.keys()
    assert "test" in sekisho("decisions", "--state", state).stdout
    assert (folder / "p.toml").read_bytes() == recorded.policy.read_bytes()
    aside = list(state.glob("before-restore-*"))
    assert len(aside) == 1 and (aside[0] / "history.sqlite").read_bytes() == b"ruined"
    assert stat.S_IMODE((state / "history.sqlite").stat().st_mode) == 0o640
    # On a new machine.
    done = sekisho("restore", file, "--state", folder / "new" / "state")
    assert done.returncode == 0 and conversations(sekisho, folder / "new" / "state").keys() == before.keys()


def test_a_bridge_goes_on_where_the_backup_ends(sekisho, bridge, recorded, folder):
    """Why: what is restored must be what a bridge records to, also as whom it does so."""
    recorded.stop()
    assert sekisho("backup", "--state", folder / "state", "-o", folder / "b.tar").returncode == 0
    assert sekisho("restore", folder / "b.tar", "--state", folder / "other").returncode == 0
    count = conversations(sekisho, folder / "other")[HOST, TOOL, "tcp/9"]["frames"]
    running = bridge(POLICY.replace('mac = ["02:77:00:00:03:0a"]\n', ""), "--state", folder / "other")
    running.network.a.send(frame(2))
    assert running.network.b.receive(1)
    running.stop()
    assert conversations(sekisho, folder / "other")[HOST, TOOL, "tcp/9"]["frames"] == count + 1


@pytest.mark.parametrize("arguments, complaint", [
    (["backup", "--state", "{}/nowhere", "-o", "{}/x"], "nowhere"), (["backup", "--state", "{}", "-o", "{}/x"], "nothing to back up"),
    (["backup", "--state", "{}", "-o", "/nowhere/x"], "/nowhere/x"), (["restore", "{}/nowhere", "--state", "{}/s"], "nowhere"),
    (["restore", "/dev/null", "--state", "{}/s"], "/dev/null"), (["prune", "--state", "{}/nowhere", "--before", "2020-01-01"], "nowhere"),
    (["support", "-o", "/nowhere/x"], "/nowhere/x"), (["support", "-o", "{}/x", "--policy", "{}/nowhere"], "nowhere"),
])
def test_what_cannot_be_done_is_said(sekisho, folder, arguments, complaint):
    """Why: these commands stand in scripts that nobody looks at."""
    done = sekisho(*[argument.format(folder) for argument in arguments])
    assert done.returncode == 1 and "error: " in done.stderr and complaint in done.stderr and "Error Domain" not in done.stderr
    assert list(folder.iterdir()) == []


def age(state, days):
    """The same, so many days earlier."""
    with sqlite3.connect(state / "history.sqlite", timeout=10) as database:
        database.execute("UPDATE day SET day = day - ?, first = first - ?, last = last - ?", [days, days * 86_400 * 10**9, days * 86_400 * 10**9])
        database.execute("UPDATE observed_hour SET hour = hour - ?", [days * 24])
        database.execute("UPDATE address SET first = first - ?, last = last - ?", [days * 86_400 * 10**9] * 2)


def test_pruning_while_it_is_written(sekisho, recorded, folder):
    """Why: a history grows for years; and what somebody decided must outlive it."""
    state = folder / "state"
    assert sekisho("reject", "--state", state, "--from", "10.9.9.9", "--why", "test", "--who", "t").returncode == 0
    with sqlite3.connect(state / "history.sqlite", timeout=10) as database:
        for number in range(3000):
            row = 1000 + number
            database.execute("INSERT INTO conversation (id, client, server, family, protocol, service, vlan, orientation) VALUES (?, ?, ?, 4, 6, 1, 4096, 1)",
                             [row, row.to_bytes(4, "big"), b"\x0a\x00\x00\x01"])
            database.execute("INSERT INTO day VALUES (?, 18000, 1, 1, 2, 1, 1, 0, 1, 1, 1, 1, 0)", [row])
    database.close()
    with Sender(recorded.network):
        done = sekisho("prune", "--state", state, "--before", "2025-01-01", "--json")
    assert done.returncode == 0, done.stderr
    assert {key: json.loads(done.stdout)[key] for key in ("days", "conversations")} == {"days": 3000, "conversations": 3000}
    assert "error" not in recorded.status()["recording"]
    assert (HOST, TOOL, "tcp/9") in conversations(sekisho, state) and "test" in sekisho("decisions", "--state", state).stdout
    done = sekisho("prune", "--state", state, "--before", "2100-01-01")
    assert done.returncode == 64 and "has not come" in done.stderr
    # What it knows and what is gone meanwhile: it is written anew.
    age(state, 3)
    yesterday = time.strftime("%Y-%m-%dT00:00Z", time.gmtime(time.time() - 86_400))
    assert sekisho("prune", "--state", state, "--before", yesterday).returncode == 0
    assert (HOST, TOOL, "tcp/9") not in conversations(sekisho, state) or conversations(sekisho, state)[HOST, TOOL, "tcp/9"]["days"] == 1
    recorded.network.a.send(frame(70))
    recorded.wait_for(lambda: (HOST, TOOL, "tcp/9") in conversations(sekisho, state), "it to be written anew")


def test_a_running_bridge_prunes(sekisho, bridge, recorded, folder):
    """Why: nobody will think of it."""
    state = folder / "state"
    recorded.stop()
    age(state, 2)
    running = bridge(POLICY.replace('mac = ["02:77:00:00:03:0a"]\n', ""), "--state", state, "--keep-days", "1", net=recorded.network)
    # The day before the only one would go: it is the latest, and stays.
    time.sleep(1.5)
    assert (HOST, TOOL, "tcp/9") in conversations(sekisho, state)
    running.network.a.send(frame(5, "10.77.3.66"))
    running.wait_for(lambda: ("10.77.3.66", TOOL, "tcp/9") in conversations(sekisho, state), "today's")
    running.stop()
    running = bridge(POLICY, "--state", state, "--keep-days", "1", net=recorded.network)
    running.wait_for(lambda: "are taken out" in running.said(), "the pruning")
    running.stop()
    assert conversations(sekisho, state).keys() == {("10.77.3.66", TOOL, "tcp/9")}


def unpacked(file):
    with tarfile.open(file) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive.getmembers()}


def test_a_support_bundle_gives_nothing_away(sekisho, bridge, network, folder):
    """Why: it leaves the plant."""
    net = network()
    running = bridge(POLICY, "--state", folder / "state", net=net)
    net.a.send(frame(1), frame(2, "10.77.3.66"), bytes(ether() / IP(src="10.77.3.66", dst=TOOL) / UDP(sport=1, dport=10) / b"x"))
    running.wait_for(lambda: running.status()["identities"]["known"] > 0 or running.denied(), "somebody to be known")
    running.wait_for(lambda: running.status()["recording"]["records"] > 0, "something recorded")
    status = running.status()
    assert HOST in running.policy.read_text()
    prefix = ("ip", "netns", "exec", net.bridge)
    done = sekisho("support", "-o", folder / "s.tar", "--control", running.socket, prefix=prefix)
    assert done.returncode == 0, done.stderr
    files = unpacked(folder / "s.tar")
    assert set(files) >= {"manifest.json", "version.txt", "status.json", "latency.json", "doctor.json", "machine.txt", "policy-1.toml", "stores.txt"}
    everything = "\n".join(files.values())
    for secret in SECRETS:
        assert secret.lower() not in everything.lower(), secret
    # Nor another address of a network that is in use here.
    for text in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", everything):
        assert ipaddress.ip_address(text) not in ipaddress.ip_network("10.77.3.0/24"), text
    # What it is for is in it.
    assert 'id = "link"' in files["policy-1.toml"] and "driver veth" in files["machine.txt"] and "conversation: " in files["stores.txt"]
    assert json.loads(files["status.json"])["ports"]["inside"]["name"] == status["ports"]["inside"]["name"]
    assert json.loads(files["manifest.json"])["kind"] == "support"
    for name in files:
        assert name == "manifest.json" or name in done.stdout
    # Still a policy, with the same structure, in which the same name has the same address.
    (folder / "p.toml").write_text(files["policy-1.toml"])
    checked = sekisho("check", folder / "p.toml", "--json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["rules"] == 1, checked.stdout
    assert stat.S_IMODE((folder / "s.tar").stat().st_mode) == 0o600
    # Each bundle has a key of its own.
    assert sekisho("support", "-o", folder / "t.tar", "--control", running.socket, prefix=prefix).returncode == 0
    assert unpacked(folder / "t.tar")["policy-1.toml"] != files["policy-1.toml"]
    # Addresses where they are wanted; never keys.
    done = sekisho("support", "-o", folder / "u.tar", "--control", running.socket, "--with-addresses", prefix=prefix)
    files = unpacked(folder / "u.tar")
    assert TOOL in files["policy-1.toml"] and "nWGxne" not in "".join(files.values()) and "Tanaka" not in files["policy-1.toml"]


def test_a_support_bundle_without_a_bridge(sekisho, folder):
    """Why: that it does not start is what is asked about."""
    (folder / "p.toml").write_text(POLICY + "nonsense = 10.77.3.9\n")
    done = sekisho("support", "-o", folder / "s.tar", "--control", folder / "none", "--policy", folder / "p.toml", "--state", folder)
    assert done.returncode == 0, done.stderr
    files = unpacked(folder / "s.tar")
    assert "no bridge runs there" in files["missing.txt"] and "status.json" not in files
    assert "error" in files["policy-1-check.txt"]
    for secret in SECRETS + ["10.77.3.9"]:
        assert secret.lower() not in "\n".join(files.values()).lower(), secret


def test_a_bridge_is_found_by_its_name(sekisho, bridge, folder):
    """Why: who has one bridge should not have to say where its socket is, and who has several can by their names."""
    os.makedirs("/run/sekisho", exist_ok=True)
    names = [f"t{os.getpid()}a", f"t{os.getpid()}b"]
    running = [bridge(POLICY, "--control", name, wait=False) for name in names]
    try:
        for name, one in zip(names, running):
            one.wait_for(lambda: sekisho("status", "--control", name).returncode == 0, "an answer")
        others = [path for path in os.listdir("/run/sekisho") if path.endswith(".sock") and path[:-5] not in names]
        if not os.path.exists("/run/sekisho/control.sock"):
            done = sekisho("status")
            assert done.returncode == 1 and all(name in done.stderr for name in names)
            running[1].stop()
            if not others:
                assert sekisho("status").returncode == 0
    finally:
        for one in running:
            one.kill()
        for name in names:
            if os.path.exists(path := f"/run/sekisho/{name}.sock"):
                os.unlink(path)
