"""Flow collectors: what IPFIX tells is what the history has, read by nfdump and by tshark, over restarts and breaks."""

import collections
import contextlib
import ipaddress
import json
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import time

import pytest

from feeding import free_port, samples_of, wait_for
from frames import ICMP, IP, TCP, UDP, Dot1Q, Ether, IPv6, Raw, write_pcap, write_stamped
from test_alerts import HOST, LAPTOP, MACS, POLICY, TOOL, scan, syn, watching  # noqa: F401

CONFIG = """
version = 1
[[ipfix]]
name = "flows"
to = "{to}"
interval_s = 1
begin = "start"
[metrics]
listen = "127.0.0.1:{metrics}"
"""


def talk(sport, seconds, client="10.1.0.1", server="10.1.0.2", port=5000, count=3, vlan=None, udp=False):
    """A conversation's frames: (ns, bytes), begun so many seconds ago."""
    at = time.time_ns() - seconds * 10**9
    network = IPv6 if ":" in client else IP
    def ends(source, destination, first, second):
        ether = Ether(src=first, dst=second)
        return (ether / Dot1Q(vlan=vlan) if vlan else ether) / network(src=source, dst=destination)
    out, back = ends(client, server, "02:00:00:00:01:01", "02:00:00:00:01:02"), ends(server, client, "02:00:00:00:01:02", "02:00:00:00:01:01")
    if udp:
        frames = [out / UDP(sport=sport, dport=port) / Raw(b"x" * 40), back / UDP(sport=port, dport=sport) / Raw(b"y" * 400)] * count
    else:
        frames = [out / TCP(sport=sport, dport=port, flags="S"), back / TCP(sport=port, dport=sport, flags="SA")]
        frames += [out / TCP(sport=sport, dport=port, flags="PA") / Raw(b"z" * 100), back / TCP(sport=port, dport=sport, flags="PA") / Raw(b"w" * 300)] * count
    return [(at + number * 10**6, bytes(frame)) for number, frame in enumerate(frames)]


def ping(seconds):
    at = time.time_ns() - seconds * 10**9
    ask = Ether(src="02:00:00:00:01:01", dst="02:00:00:00:01:02") / IP(src="10.1.0.1", dst="10.1.0.2") / ICMP(type=8) / Raw(b"p" * 40)
    answer = Ether(src="02:00:00:00:01:02", dst="02:00:00:00:01:01") / IP(src="10.1.0.2", dst="10.1.0.1") / ICMP(type=0) / Raw(b"p" * 40)
    return [(at, bytes(ask)), (at + 10**6, bytes(answer))]


class Plant:
    """A state directory that learns from captures."""

    def __init__(self, sekisho, folder):
        self.sekisho, self.state, self.folder, self.count = sekisho, folder / "state", folder, 0

    def learn(self, *conversations):
        self.count += 1
        capture = write_stamped(self.folder / f"{self.count}.pcap", sorted(frame for one in conversations for frame in one))
        done = self.sekisho("learn", capture, "--state", self.state)
        assert done.returncode == 0, done.stderr

    def totals(self):
        """Packets and bytes of frames by source, destination, protocol, port of the source, port of the destination."""
        return totals_of(self.state)


def totals_of(state):
    database = sqlite3.connect(f"file:{state}/history.sqlite?mode=ro", uri=True)
    sums = collections.Counter(), collections.Counter()
    for client, server, family, protocol, service, vlan, out, back, out_bytes, back_bytes in database.execute(
            "SELECT client, server, family, protocol, service, vlan, sum(frames_out), sum(frames_in), sum(bytes_out), sum(bytes_in) "
            "FROM conversation JOIN day ON conversation = id GROUP BY id"):
        client, server = str(ipaddress.ip_address(client)), str(ipaddress.ip_address(server))
        port = service if protocol in (6, 17) else 0
        headers = 18 if vlan else 14
        for key, frames, size in (((client, server, protocol, 0, port), out, out_bytes), ((server, client, protocol, port, 0), back, back_bytes)):
            if frames:
                sums[0][key] += frames
                sums[1][key] += size - headers * frames
    database.close()
    return sums


@pytest.fixture
def plant(sekisho, folder):
    return Plant(sekisho, folder)


# --- Collectors --------------------------------------------------------------------------------------------------


class NFCapd:
    """nfdump's collector."""

    def __init__(self, folder, port):
        self.folder, self.port, self.log = folder / "nfcapd", port, folder / "nfcapd.log"
        self.folder.mkdir(exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["nfcapd", "-w", self.folder, "-b", "127.0.0.1", "-p", str(port), "-t", "3600"], stdout=log, stderr=log)
        wait_for(lambda: "Startup" in self.said(), "nfcapd")

    def said(self):
        return self.log.read_text(errors="replace")

    def stop(self, sessions):
        self.process.terminate()
        assert self.process.wait(20) == 0
        # It takes a session that begins for a gap in the one before, and finds no other.
        assert f"Sequence Errors: {sessions - 1}, Bad Packets: 0" in self.said(), self.said()

    def records(self):
        done = subprocess.run(["nfdump", "-R", self.folder, "-o", "json", "-6"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def totals(self):
        sums = collections.Counter(), collections.Counter()
        for one in self.records():
            source, destination = (one.get(f"{end}4_addr") or one[f"{end}6_addr"] for end in ("src", "dst"))
            key = source, destination, one["proto"], one.get("src_port", 0), one.get("dst_port", 0)
            sums[0][key] += one["in_packets"]
            sums[1][key] += one["in_bytes"]
        return sums


class TCPCollector:
    """Keeps the messages that come by TCP, session by session; tshark reads them."""

    def __init__(self, port=0):
        self.sessions = []
        self.connections = []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections.append(connection)
            self.sessions.append([])
            threading.Thread(target=self.read, args=(connection, self.sessions[-1]), daemon=True).start()

    @staticmethod
    def read(connection, messages):
        waiting = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                waiting += data
                while len(waiting) >= 16:
                    version, length = struct.unpack(">HH", waiting[:4])
                    assert version == 10 and length >= 16
                    if len(waiting) < length:
                        break
                    messages.append(waiting[:length])
                    waiting = waiting[length:]

    def close(self):
        # close() alone neither wakes who waits nor hangs up.
        for one in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


FIELDS = ("cflow.od_id", "cflow.sequence", "cflow.srcaddr", "cflow.dstaddr", "cflow.srcaddrv6", "cflow.dstaddrv6", "cflow.srcport", "cflow.dstport",
          "cflow.protocol", "cflow.packets", "cflow.octets", "cflow.layer2_octet_delta_count", "cflow.inputint", "cflow.outputint",
          "cflow.srcmac", "cflow.dstmac", "cflow.vlanid", "cflow.forwarding_status", "cflow.icmp_ipv4_type")


def dissected(folder, messages, source=40_000):
    """tshark's records of messages of one session; the tree of each."""
    file = write_pcap(
        folder / "messages.pcap",
        [bytes(Ether() / IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=source, dport=4739) / Raw(one)) for one in messages])
    done = subprocess.run(
        ["tshark", "-r", file, "-T", "json", "--no-duplicate-keys", "-J", "cflow"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "malformed" not in done.stdout.lower()
    found = []

    def walk(tree):
        if isinstance(tree, list):
            for one in tree:
                walk(one)
        elif isinstance(tree, dict):
            if "cflow.packets" in tree:
                found.append({key.removeprefix("cflow."): value for key, value in flat(tree)})
            else:
                for one in tree.values():
                    walk(one)

    def flat(tree):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value)
            else:
                yield key, value

    walk(json.loads(done.stdout))
    return found


def totals_by_tshark(records):
    sums = collections.Counter(), collections.Counter()
    for one in records:
        key = (one.get("srcaddr") or one["srcaddrv6"], one.get("dstaddr") or one["dstaddrv6"], int(one["protocol"]),
               int(one.get("srcport", 0)), int(one.get("dstport", 0)))
        sums[0][key] += int(one["packets"])
        sums[1][key] += int(one["octets"])
    return sums


needs_nfdump = pytest.mark.skipif(not shutil.which("nfcapd"), reason="needs nfdump")
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")


def sent(metrics):
    return samples_of(metrics).get(("sekisho_feed_sent_total", (("destination", "flows"), ("kind", "ipfix"))), 0)


@needs_nfdump
def test_nfdump_counts_what_the_history_counts(feed, plant, folder):
    """Why: two systems that count differently are believed by nobody; a restart is the usual reason."""
    metrics, port = free_port(), free_port(socket.SOCK_DGRAM)
    collector = NFCapd(folder, port)
    plant.learn(talk(40_001, 60), talk(40_002, 50), talk(40_003, 40, port=502, vlan=7), talk(50_000, 30, "fd00::1", "fd00::2", 4840), ping(20),
                talk(40_004, 20, port=123, udp=True))
    running = feed(plant.state, CONFIG.format(to=f"udp://127.0.0.1:{port}", metrics=metrics))
    wait_for(lambda: sent(metrics) >= 10, "the first export", running)
    # What grew, and what is new.
    plant.learn(talk(40_010, 5, count=20), talk(40_011, 4, server="10.1.0.3"))
    wait_for(lambda: sent(metrics) >= 14, "the growth", running)
    # However it ends, nothing is told twice.
    for how in (signal.SIGTERM, signal.SIGKILL):
        running.stop(how)
        plant.learn(talk(41_000 + how, 3, count=4))
        running = feed(plant.state, CONFIG.format(to=f"udp://127.0.0.1:{port}", metrics=metrics))
        wait_for(lambda: sent(metrics) >= 2, "the export after the restart", running)
    running.stop()
    collector.stop(sessions=3)
    # Echo and its answer have no ports; nfdump says so.
    assert collector.totals() == plant.totals()
    told = collector.records()
    vlans = {(one["src4_addr"], one["dst4_addr"]): one["src_vlan"] for one in told if one.get("dst_port") == 502}
    assert vlans == {("10.1.0.1", "10.1.0.2"): 7}
    assert {(one["src4_addr"], one["icmp_type"]) for one in told if one["proto"] == 1} == {("10.1.0.1", 8), ("10.1.0.2", 0)}
    [asked] = [one for one in told if one.get("dst_port") == 123]
    assert (asked["in_src_mac"], asked["in_dst_mac"]) == ("02:00:00:00:01:01", "02:00:00:00:01:02")
    assert all(one["first"] <= one["last"] for one in told)


@needs_tshark
def test_a_collector_that_was_away_misses_nothing(feed, plant, folder):
    """Why: the collector is restarted more often than the bridge; what was said meanwhile is what is asked about later."""
    metrics = free_port()
    collector = TCPCollector()
    plant.learn(talk(40_001, 60), talk(50_000, 30, "fd00::1", "fd00::2", 4840))
    running = feed(plant.state, CONFIG.format(to=f"tcp://127.0.0.1:{collector.port}", metrics=metrics))
    wait_for(lambda: sent(metrics) == 4, "the first export", running)
    plant.learn(talk(40_002, 20))
    wait_for(lambda: sent(metrics) == 6, "the second", running)
    collector.close()
    plant.learn(talk(40_003, 10, count=9))
    wait_for(lambda: samples_of(metrics).get(("sekisho_feed_destination_up", (("destination", "flows"), ("kind", "ipfix")))) == 0, "the break", running)
    assert "flows: down, tcp://127.0.0.1:" in running.said()
    plant.learn(talk(40_004, 5, server="10.1.0.4"))
    again = TCPCollector(collector.port)
    wait_for(lambda: sent(metrics) == 10, "the export after the break", running)
    assert "flows: up again after " in running.said() and running.said().count(": down, ") == 1
    running.stop()
    sessions = [*collector.sessions, *again.sessions]
    again.close()
    assert len(sessions) == 2
    records = [dissected(folder, messages, 40_000 + number) for number, messages in enumerate(sessions)]
    # All of the time away is one record.
    assert [len(one) for one in records] == [6, 4]
    assert totals_by_tshark(records[0] + records[1]) == plant.totals()
    for messages in sessions:
        # Templates once, and records are numbered.
        assert [struct.unpack(">H", one[16:18])[0] == 2 for one in messages] == [True] + [False] * (len(messages) - 1)
        assert [struct.unpack(">I", one[8:12])[0] for one in messages] == ([0, 4] if len(messages) == 2 else [0])


@needs_tshark
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
def test_what_is_denied_is_told_apart(feed, watching, folder, mode):  # noqa: F811
    """Why: a scan that was dropped is an attempt; one that passed is an incident."""
    running, net = watching(POLICY, "--mode", mode)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(1)
        fed = feed(folder / "state", f"""
            version = 1
            [[ipfix]]
            name = "flows"
            to = "udp://127.0.0.1:{collector.getsockname()[1]}"
            interval_s = 1
            observation_domain = 77
            """, "--control", running.socket)
        # From now on: nothing that was before it is told.
        wait_for(lambda: "flows go to" in fed.said(), "the feed", fed)
        answer = bytes(Ether(src=MACS[TOOL], dst=MACS[HOST]) / IP(src=TOOL, dst=HOST) / TCP(sport=5000, dport=40_000, flags="SA"))
        net.a.send(syn(HOST, TOOL, 5000, 40_000))
        net.b.receive(1)
        net.b.send(answer)
        scan(net, LAPTOP)
        messages = []

        def all_came():
            with contextlib.suppress(TimeoutError):
                messages.append(collector.recv(65536))
            return messages and len(dissected(folder, messages)) >= 42

        wait_for(all_came, "the records", fed, timeout=30)
    told = dissected(folder, messages)
    assert all(len(one) <= 1400 for one in messages) and {struct.unpack(">I", one[12:16])[0] for one in messages} == {77}
    by_source = collections.defaultdict(list)
    for one in told:
        by_source[one["srcaddr"]].append(one)
    assert {source: len(found) for source, found in by_source.items()} == {HOST: 1, TOOL: 1, LAPTOP: 40}
    # 1 inside, 2 outside.
    def facts(one):
        return int(one["forwarding_status"]), int(one["inputint"]), int(one["outputint"])
    # Passed, which is 1 in the two bits of the status; dropped, which is 2.
    assert facts(by_source[HOST][0]) == (1, 2, 1) and facts(by_source[TOOL][0]) == (1, 1, 2)
    assert {facts(one) for one in by_source[LAPTOP]} == ({(2, 2, 0)} if mode == "enforce" else {(1, 2, 1)})
    [asked] = by_source[HOST]
    assert (asked["srcmac"], asked["dstmac"], int(asked["dstport"])) == (MACS[HOST], MACS[TOOL], 5000)
    packets, sizes = totals_by_tshark(told)
    assert (packets, sizes) == totals_of(folder / "state")


def test_over_udp_too_nobody_is_no_collector(feed, plant):
    """Why: what a machine refuses was not told, and is told when somebody listens there."""
    metrics, port = free_port(), free_port(socket.SOCK_DGRAM)
    plant.learn(talk(40_001, 60))
    running = feed(plant.state, CONFIG.format(to=f"udp://127.0.0.1:{port}", metrics=metrics))
    wait_for(lambda: "flows: down, udp://127.0.0.1:" in running.said(), "the refusal", running)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", port))
        collector.settimeout(20)
        assert struct.unpack(">HH", collector.recv(65536)[:4])[0] == 10
        wait_for(lambda: "flows: up again after " in running.said(), "the export", running)
        # Refused again and again, said once.
        assert running.said().count(": down, ") == 1 and "refused" in running.said()
        assert sent(metrics) == 2
    running.stop()


@needs_tshark
def test_a_new_collector_begins_now(feed, plant, folder):
    """Why: a year of history at once is what nobody wants; `begin` says otherwise."""
    metrics = free_port()
    collector = TCPCollector()
    plant.learn(talk(40_001, 60))
    running = feed(plant.state, CONFIG.format(to=f"tcp://127.0.0.1:{collector.port}", metrics=metrics).replace('begin = "start"', ""))
    wait_for(lambda: "flows go to" in running.said(), "the start", running)
    plant.learn(talk(40_002, 20, server="10.1.0.9"))
    wait_for(lambda: sent(metrics) >= 2 and any(collector.sessions), "what is new", running)
    running.stop()
    collector.close()
    # Of what was there before there is nothing.
    told = [one for number, messages in enumerate(collector.sessions) for one in dissected(folder, messages, 40_000 + number)]
    assert sorted((one["srcaddr"], one["dstaddr"]) for one in told) == [("10.1.0.1", "10.1.0.9"), ("10.1.0.9", "10.1.0.1")]


@pytest.mark.parametrize("text, said", [
    ('[[ipfix]]\nname = "a"\nto = "tls://10.0.0.1:4739"', "flow records go over UDP or TCP"),
    ('[[ipfix]]\nname = "a"\nto = "udp://10.0.0.1:99999"', "to is no destination"),
    ('[[ipfix]]\nname = "a"', "to is missing"),
    ('[[ipfix]]\nto = "udp://10.0.0.1"', "name is missing"),
    ('[[ipfix]]\nname = "a"\nto = "udp://10.0.0.1"\ninterval = 5', 'unknown key "interval" in [[ipfix]]; did you mean "interval_s"?'),
    ('[[ipfix]]\nname = "a"\nto = "udp://10.0.0.1"\ninterval_s = 0', "interval_s must be a number from 1 to 3600"),
    ('[[ipfix]]\nname = "a"\nto = "udp://10.0.0.1"\n[[ipfix]]\nname = "a"\nto = "udp://10.0.0.2"', 'there are two of the name "a"'),
    ('[metrics]\nlisten = "9469"', "listen is no address and port"),
    ('[metrics]\nlisten = "localhost:9469"', "listen is no address and port"),
    ('[metrics]\ncertificate = "/x"', "certificate and key belong together"),
    ("metrics = 3", "metrics must be a table"),
])
def test_mistakes_in_the_file_are_said(sekisho, folder, text, said):
    file = folder / "feeds.toml"
    file.write_text(f"version = 1\n{text}\n" if not text.startswith("metrics =") else f"version = 1\n{text}\n")
    done = sekisho("feed", "--check", "--config", file)
    assert done.returncode == 1 and said.split(";")[0] in done.stderr, done.stderr
    assert all(part.strip() in done.stderr for part in said.split(";")), done.stderr
