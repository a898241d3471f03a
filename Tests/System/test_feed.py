"""sekisho feed: what the bridge writes down reaches other people's programs, whole, in order, whatever becomes of the way there."""

import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

import pycef
import pytest
from syslog_rfc5424_parser import SyslogMessage

from conftest import sh
from feeding import free_port, samples_of
from test_alerts import LAPTOP, POLICY, TOOL, syn

needs_rsyslog = pytest.mark.skipif(not shutil.which("rsyslogd"), reason="needs rsyslogd")


def wait_for(condition, what, timeout=30, said=lambda: ""):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout} s for {what}\n{said()}")


# --- A state directory without a bridge --------------------------------------------------------------------------


class State:
    """One that commands have begun; then more is written to it as the bridge does."""

    def __init__(self, sekisho, folder):
        self.path = folder / "bay3"
        capture = folder / "empty.pcap"
        capture.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        assert sekisho("learn", capture, "--state", self.path).returncode == 0
        done = sekisho("alike", "10.0.0.1", "10.0.0.2", "--state", self.path, "--why", "the first]\" \\ event")
        assert done.returncode == 0, done.stderr
        with sqlite3.connect(self.path / "alerts.sqlite") as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE alert (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, severity INTEGER NOT NULL, begin INTEGER NOT NULL, last INTEGER"
                       " NOT NULL, ended INTEGER, body TEXT NOT NULL, acknowledged_at INTEGER, acknowledged_by TEXT, acknowledged_why TEXT) STRICT")
            db.execute("CREATE INDEX alert_last ON alert (last)")
            db.execute(f"PRAGMA application_id = {0x534B5341}")
            db.execute("PRAGMA user_version = 1")

    def add(self, *descriptions, type="policy_applied", category="configuration_change", fields=None):
        """Events of the audit log."""
        db = sqlite3.connect(self.path / "audit.sqlite", timeout=20)
        with db:
            number = db.execute("SELECT max(number) FROM event").fetchone()[0]
            for description in descriptions:
                number += 1
                db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, 'root', ?, ?)", (
                    number, time.time_ns() // 1000, category, type, description, json.dumps(fields or {"name": description}), os.urandom(32)))
        db.close()
        return number

    def alert(self, number, kind="scan", severity=3, ended=False, story="10.0.0.66 scans", evidence=None):
        now = time.time()
        since_2001 = now - 978_307_200
        body = {
            "id": number, "kind": kind, "severity": ["info", "low", "medium", "high", "critical"][severity], "confidence": 0.9, "others": [],
            "device": {"address": "10.0.0.66", "mac": "02:00:00:00:00:66", "side": "outside", "isKnown": False, "isMany": False},
            "begin": since_2001, "last": since_2001, "frames": 12, "attempts": 7, "story": story, "behaviours": [], "techniques": [], "group": "g",
            "evidence": evidence if evidence is not None else [
                {"client": "10.0.0.66", "server": "10.0.0.2", "service": "tcp/445", "attempts": 7, "frames": 12, "isDenied": True, "isAnswered": False,
                 "first": since_2001, "last": since_2001}]}
        if ended:
            body["end"] = since_2001
        at = int(now * 1e6)
        with sqlite3.connect(self.path / "alerts.sqlite", timeout=20) as db:
            db.execute("INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)", (
                number, kind, severity, at, at, at if ended else None, json.dumps(body)))


@pytest.fixture
def state(sekisho, folder):
    return State(sekisho, folder)


class Feed:
    def __init__(self, binary, folder, config, state, *options, out=None):
        self.config, self.log = folder / "feeds.toml", folder / "feed.log"
        self.config.write_text("version = 1\n" + config)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [binary, "feed", "--config", self.config, "--state", state, *options], stdout=out or log, stderr=log)

    def said(self):
        return self.log.read_text(errors="replace")

    def wait(self, condition, what, timeout=30):
        return wait_for(condition, what, timeout, self.said)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)


@pytest.fixture
def feed(binary, folder):
    made = []

    def start(config, state, *options, out=None):
        path = state.path if isinstance(state, State) else state
        made.append(Feed(binary, folder, config, path, *options, out=out))
        return made[-1]

    yield start
    for one in made:
        try:
            code = one.stop()
        finally:
            one.process.kill()
        assert code in (0, 1, -signal.SIGKILL), f"the feed ended with {code}\n{one.said()[-3000:]}"


# --- rsyslog -----------------------------------------------------------------------------------------------------


class Rsyslog:
    """A real one; what it takes it parses, structured data as well, and writes as JSON."""

    def __init__(self, folder, tls=None, name="server"):
        self.folder, self.file = folder, folder / "received.json"
        self.udp, self.tcp = free_port(socket.SOCK_DGRAM), free_port()
        if tls:
            stream = (f'global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{tls}/ca.pem" DefaultNetstreamDriverCertFile="{tls}/{name}.pem" '
                      f'DefaultNetstreamDriverKeyFile="{tls}/{name}.key")\n'
                      'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")\n')
        else:
            stream = 'module(load="imtcp")\n'
        self.conf = folder / "rsyslog.conf"
        self.conf.write_text(f"""
global(workDirectory="{folder}" maxMessageSize="64k")
{stream}module(load="imudp")
module(load="mmpstrucdata")
template(name="all" type="list" option.jsonf="on") {{
    property(outname="msg" name="msg" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="host" name="hostname" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="msgid" name="msgid" format="jsonf")
    property(outname="at" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="version" name="protocol-version" format="jsonf")
    property(outname="sd" name="$!rfc5424-sd" format="jsonf")
}}
ruleset(name="take") {{
    action(type="mmpstrucdata")
    action(type="omfile" file="{self.file}" template="all")
}}
input(type="imudp" address="127.0.0.1" port="{self.udp}" ruleset="take")
input(type="imtcp" address="127.0.0.1" port="{self.tcp}" ruleset="take")
""")
        self.process = None
        self.start()

    def start(self):
        pid = self.folder / "rsyslog.pid"
        pid.unlink(missing_ok=True)
        with open(self.folder / "rsyslog.log", "ab") as log:
            self.process = subprocess.Popen(["rsyslogd", "-n", "-f", self.conf, "-i", pid], stdout=log, stderr=log)
        wait_for(pid.exists, "rsyslog", 20, lambda: (self.folder / "rsyslog.log").read_text())

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(20)

    def received(self):
        if not self.file.exists():
            return []
        lines = self.file.read_bytes().split(b"\n")[:-1]
        return [{**one, "sd": json.loads(one["sd"])} for one in map(json.loads, filter(None, lines))]


def values(one):
    """Structured data as mmpstrucdata has it: names in lower case there."""
    return one["sd"]["sekisho@32473"]


@pytest.fixture
def rsyslog(folder):
    made = []

    def start(**options):
        place = folder / f"rsyslog{len(made)}"
        place.mkdir()
        made.append(Rsyslog(place, **options))
        return made[-1]

    yield start
    for one in made:
        one.kill()


@pytest.fixture
def certificates(folder):
    """An authority, a server of that name and one of that address, a client; and another authority that nobody trusts."""
    place = folder / "tls"
    place.mkdir()

    def make(authority, *names):
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} -keyout {place}/{authority}.key -out {place}/{authority}.pem")
        for name, extra in names:
            sh(f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {place}/{name}.key -out {place}/{name}.csr")
            (place / "ext").write_text(extra)
            sh(f"openssl x509 -req -in {place}/{name}.csr -CA {place}/{authority}.pem -CAkey {place}/{authority}.key -CAcreateserial -days 2 -extfile {place}/ext -out {place}/{name}.pem")

    make("ca", ("server", "subjectAltName=DNS:siem.fab.example"), ("addressed", "subjectAltName=IP:127.0.0.1"), ("client", "subjectAltName=DNS:sekisho"))
    make("other")
    return place


def in_order(numbers):
    """As a receiver has them that drops what it has already."""
    seen = list(dict.fromkeys(numbers))
    assert seen == sorted(seen), f"out of order: {seen[:50]}"
    return seen


@needs_rsyslog
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_rsyslog_takes_and_parses_it(sekisho, state, feed, rsyslog, transport):
    """Why: a format is right when the program that half the world has reads it, not when we do."""
    siem = rsyslog()
    running = feed(f'hostname = "gate-1"\n[[syslog]]\nname = "siem"\nto = "{transport}://127.0.0.1:{getattr(siem, transport)}"\nbegin = "start"\n', state)
    running.wait(siem.received, "the first event")
    first = siem.received()[0]
    assert (first["host"], first["app"], first["msgid"], first["version"], first["facility"]) == ("gate-1", "sekisho", "alike", "1", "local4")
    assert first["severity"] == "info"
    # What it says of itself is in its own place, with every character of it.
    shown = json.loads(sekisho("audit", "show", "--state", state.path, "--json").stdout)[0]
    assert values(first)["id"] == f"bay3/audit/1/{shown['hash'][:8]}" and values(first)["hash"] == shown["hash"]
    assert values(first)["who"] == shown["who"]
    assert first["sd"]["fields@32473"]["why"] == "the first]\" \\ event"
    # An alert, from its beginning to its end; and no second time by the audit log's event of it.
    state.alert(1, kind="unknown-device", severity=2, story="ein unbekanntes Gerät\nscans 装置")
    state.add("the same in the audit log", type="alert", category="security")
    running.wait(lambda: len(siem.received()) == 2, "the alert")
    state.alert(1, kind="scan", severity=3)
    running.wait(lambda: len(siem.received()) == 3, "the graver one")
    state.alert(1, kind="scan", severity=3)
    state.alert(1, kind="scan", severity=3, ended=True)
    running.wait(lambda: len(siem.received()) == 4, "its end")
    raised, graver, ended = siem.received()[1:]
    assert raised["msg"].lstrip("\ufeff") == "ein unbekanntes Gerät scans 装置"
    assert [values(one)["step"] for one in (raised, graver, ended)] == ["raised", "changed", "ended"]
    assert [one["severity"] for one in (raised, graver, ended)] == ["warning", "err", "info"]
    assert (values(raised)["address"], values(raised)["mac"], values(raised)["service"]) == ("10.0.0.66", "02:00:00:00:00:66", "tcp/445")
    assert running.stop() == 0
    assert len(siem.received()) == 4 and "up, " in running.said()
    assert [int(one["sd"]["meta"]["sequenceid"]) for one in siem.received()] == [1, 2, 3, 4]


def test_udp_that_nobody_wants_comes_back(state, feed):
    """Why: UDP knows little; what it does know must not be thrown away."""
    port = free_port(socket.SOCK_DGRAM)
    running = feed(f'[[syslog]]\nname = "siem"\nto = "udp://127.0.0.1:{port}"\nbegin = "start"\n', state)
    running.wait(lambda: "siem: down, " in running.said() and "refused" in running.said(), "the error")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as siem:
        siem.bind(("127.0.0.1", port))
        siem.settimeout(30)
        assert b"bay3/audit/1/" in siem.recv(65536)
    assert running.stop() == 0


@needs_rsyslog
def test_over_tls(state, feed, rsyslog, certificates):
    """Why: what names the holes of a plant goes over its networks to nobody but the SIEM."""
    siem, addressed = rsyslog(tls=certificates), rsyslog(tls=certificates, name="addressed")

    def to(server, *lines):
        return f'[[syslog]]\nname = "siem"\nto = "tls://127.0.0.1:{server.tcp}"\nbegin = "start"\n' + "\n".join(lines)

    ca, name = f'ca = "{certificates}/ca.pem"', 'server_name = "siem.fab.example"'
    mine = f'certificate = "{certificates}/client.pem"\nkey = "{certificates}/client.key"'
    for wrong in (
        # Vouched for by nobody we trust; not who it should be, by name, by address.
        to(siem, f'ca = "{certificates}/other.pem"', name, mine), to(siem, ca, 'server_name = "other.fab.example"', mine), to(siem, ca, mine),
        # We are not who we should be.
        to(siem, ca, name),
    ):
        running = feed(wrong, state)
        running.wait(lambda: "siem: down" in running.said(), "the refusal")
        assert re.search(r"certificate|Hostname|closed by the other side|the connection is closed", running.said()), running.said()
        assert running.stop() == 0 and siem.received() == [] and "siem: up" not in running.said()
        running.log.unlink()
    for server, right in ((siem, to(siem, ca, name, mine)), (addressed, to(addressed, ca, mine))):
        running = feed(right, state)
        state.add("over TLS")
        running.wait(server.received, "the event")
        running.wait(lambda: int(values(server.received()[-1])["number"]) >= 2, "the last one")
        assert running.stop() == 0
    # Nothing was lost by then; and the ends were clean, so that nothing came twice.
    assert [int(values(one)["number"]) for one in siem.received() + addressed.received()] == [1, 2, 3]


@needs_rsyslog
def test_a_broken_connection_loses_nothing(state, feed, rsyslog):
    """Why: a SIEM is restarted when something happens, and that is when it matters."""
    siem = rsyslog()
    running = feed(f'[[syslog]]\nname = "siem"\nto = "tcp://127.0.0.1:{siem.tcp}"\nresend_s = 2\n', state)
    running.wait(lambda: "siem: up" in running.said(), "the connection")
    last = 1
    for round in range(3):
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            last = state.add(*[f"event {i}" for i in range(20)])
            time.sleep(0.02)
            if round < 2 and siem.process.poll() is None and time.monotonic() > ends - 0.8:
                siem.kill()
        if round < 2:
            running.wait(lambda: running.said().count("siem: down") == round + 1, "the loss of it to be seen")
            last = state.add("while it is down")
            siem.start()
            running.wait(lambda: running.said().count("siem: up again") == round + 1, "the way back")
    running.wait(lambda: any(int(values(one)["number"]) == last for one in siem.received()), "the last event")
    got = in_order([int(values(one)["number"]) for one in siem.received()])
    assert got == list(range(2, last + 1)), f"{last - 1 - len(got)} of {last - 1} are missing"
    # Killed itself, it goes on where it was; what it had sent just before may come twice, under the same id.
    last = state.add(*[f"event {i}" for i in range(500)])
    running.wait(lambda: int(values(siem.received()[-1])["number"]) > last - 400, "some of them")
    running.stop(signal.SIGKILL)
    last = state.add("after that")
    second = feed(f'[[syslog]]\nname = "siem"\nto = "tcp://127.0.0.1:{siem.tcp}"\n', state)
    second.wait(lambda: int(values(siem.received()[-1])["number"]) == last, "the rest")
    ids = {}
    for one in siem.received():
        assert ids.setdefault(values(one)["number"], values(one)["id"]) == values(one)["id"]
    assert in_order([int(values(one)["number"]) for one in siem.received()]) == list(range(2, last + 1))


def test_what_waits_is_bounded_and_said(state, feed, folder):
    """Why: a SIEM that is gone for a year must not be buried by what nobody wants any more; and that something is missing must be known."""
    target = folder / "siem.pipe"
    os.mkfifo(target)  # nobody reads it yet
    other = folder / "other.json"
    running = feed(
        f'[[file]]\nname = "siem"\npath = "{target}"\nmost_waiting = 50\nevents = ["configuration_change"]\n[[file]]\nname = "other"\npath = "{other}"\n', state)
    running.wait(lambda: "siem: down" in running.said(), "that it is down")
    for _ in range(4):
        state.add(*[f"event {i}" for i in range(30)])
        state.add(*["nothing for it"] * 10, type="start", category="operation")
    # One that is dead holds up nobody else.
    running.wait(lambda: other.exists() and other.read_text().count("\n") == 160, "the other one's events")
    running.wait(lambda: "the oldest are skipped" in running.said(), "the log line")
    reader = os.fdopen(os.open(target, os.O_RDONLY), "r")
    first = json.loads(reader.readline())
    rest = [json.loads(reader.readline())]
    while rest[-1]["audit"]["number"] != 151:
        rest.append(json.loads(reader.readline()))
    reader.close()
    assert (first["category"], first["type"]) == ("feed", "events_skipped")
    # Of events 2 to 161 the last 50 stayed, of which 30 are of its kind; of the 110 before them 90.
    assert first["skipped"] == 90 and [one["audit"]["number"] for one in rest] == list(range(122, 152))
    assert running.stop() == 0
    # Over a restart nothing is told twice.
    again = feed(f'[[file]]\nname = "other"\npath = "{other}"\n', state)
    state.add("one more")
    again.wait(lambda: "one more" in other.read_text(), "it")
    assert other.read_text().count("\n") == 161


# --- Formats, by other people's parsers --------------------------------------------------------------------------

HARD = 'pipe | equals = back\\slash "quoted" ] end\nnext line Gerät 装置'


def test_formats_are_read_by_others(state, feed, folder):
    """Why: a quotation mark in a reason must not end a field, let alone begin another."""
    paths = {name: folder / f"{name}.log" for name in ("rfc5424", "cef", "json")}
    running = feed("".join(f'[[file]]\nname = "{name}"\npath = "{path}"\nformat = "{name}"\n' for name, path in paths.items()), state)
    running.wait(lambda: running.said().count(": up, ") == 3, "the files")
    state.add(HARD, type="policy_refused", fields={"why": HARD, "a b=c]": HARD, "x" * 50: "long name"})
    state.alert(7, story=HARD)
    lines = lambda name: paths[name].read_text().split("\n")[:-1] if paths[name].exists() else []  # noqa: E731
    running.wait(lambda: all(len(lines(name)) == 2 for name in paths), "both in each")
    event, alert = (SyslogMessage.parse(line) for line in lines("rfc5424"))
    flat = HARD.replace("\n", " ")
    # This parser leaves the backslashes in.
    fields = {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in event.sd["fields@32473"].items()}
    assert fields == {"why": flat, "a_b_c_": flat, "x" * 32: "long name"}
    assert event.msg.lstrip("\ufeff") == flat and event.msgid == "policy_refused" and event.severity.name == "notice"
    assert alert.sd["sekisho@32473"]["kind"] == "scan" and alert.severity.name == "err"
    one = pycef.parse(lines("cef")[1])
    assert (one["DeviceVendor"], one["DeviceEventClassID"], one["Name"], one["Severity"]) == ("Sekisho", "scan", "scan", "8")
    assert (one["src"], one["dst"], one["dpt"], one["proto"], one["act"], one["cnt"]) == ("10.0.0.66", "10.0.0.2", "445", "TCP", "denied", "7")
    assert (one["smac"], one["bridge"], one["step"]) == ("02:00:00:00:00:66", "bay3", "raised")
    assert one["msg"].replace("\\=", "=").replace("\\\\", "\\") == HARD.replace("\n", "\\n")
    refused = pycef.parse(lines("cef")[0])
    assert refused["suser"] == "root" and refused["reason"].replace("\\=", "=").replace("\\\\", "\\") == HARD.replace("\n", "\\n")
    event, alert = map(json.loads, lines("json"))
    assert event["audit"]["fields"]["why"] == HARD and event["text"] == HARD and event["audit"]["type"] == "policy_refused"
    assert alert["alert"]["story"] == HARD and alert["alert"]["evidence"][0]["is_denied"] is True and alert["step"] == "raised"
    # logrotate moves it away and says so.
    paths["json"].rename(folder / "json.1")
    running.process.send_signal(signal.SIGHUP)
    running.wait(lambda: "opening files again" in running.said(), "the signal")
    state.add("after")
    running.wait(lambda: len(lines("json")) == 1, "the new file")
    assert len((folder / "json.1").read_text().split("\n")) == 3


def test_a_long_message_stays_whole_json(state, feed, folder):
    """Why: half an object is no object; a receiver drops it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as siem:
        siem.bind(("127.0.0.1", 0))
        siem.settimeout(20)
        port = siem.getsockname()[1]
        running = feed("".join(
            f'[[syslog]]\nname = "{name}"\nto = "udp://127.0.0.1:{port}"\nformat = "{name}"\n' for name in ("json", "cef", "rfc5424")), state)
        running.wait(lambda: "telling" in running.said(), "the start")
        time.sleep(0.5)
        state.alert(1, story="é" * 3000, evidence=[
            {"client": "10.0.0.66", "server": f"10.0.0.{i}", "service": "tcp/445", "attempts": 7, "frames": 12, "isDenied": True, "isAnswered": False,
             "first": 0, "last": 0} for i in range(30)])
        got = [siem.recv(65536) for _ in range(3)]
    assert max(map(len, got)) <= 2048
    for one in got:
        message = one.decode()  # no character in pieces
        text = message.split("] ", 1)[-1] if "[sekisho@" in message else message.split(" - ", 2)[-1]
        if text.startswith("{"):
            read = json.loads(text)
            assert read["shortened"] is True and read["alert"]["id"] == 1
        elif text.startswith("CEF"):
            assert pycef.parse(text)["src"] == "10.0.0.66"
        else:
            assert text.lstrip("\ufeff").startswith("ééé")


# --- Webhook -----------------------------------------------------------------------------------------------------


class Hook(http.server.ThreadingHTTPServer):
    """Answers as it is told to, in turn; keeps what came."""

    daemon_threads = True

    def __init__(self, answers=(), tls=None):
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{tls}/server.pem", f"{tls}/server.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answers, self.requests = list(answers), []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if callable(answer):
            answer = answer(json.loads(body))
        code, headers = answer if isinstance(answer, tuple) else (answer, {})
        self.server.requests.append((code, dict(self.headers.items()), body, time.monotonic()))
        if code == 0:  # goes away in the middle
            self.close_connection = True
            return
        if code == 202:  # goes away in the middle of what follows the answer
            self.close_connection = True
            self.send_response(code)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"ok")
            return
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def is_genuine(secret, headers, body):
    """docs/feeds.md as a program."""
    headers = {name.lower(): value for name, value in headers.items()}
    if abs(time.time() - int(headers["x-sekisho-timestamp"])) > 300:
        return False
    expected = hmac.new(secret, headers["x-sekisho-timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest("sha256=" + expected, headers["x-sekisho-signature"])


def test_webhook(state, feed, folder):
    """Why: a web server has bad minutes; and whoever takes orders from one must know who speaks."""
    refuse = lambda message: 422 if message.get("text") == "unwanted" else 200  # noqa: E731
    hook = Hook([500, 0, (429, {"retry-after": "1"}), (302, {"location": "http://127.0.0.1:9/"}), 200] + [refuse] * 20)
    secret = folder / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    secret.chmod(0o600)
    url = f"http://127.0.0.1:{hook.server_address[1]}/sekisho"
    running = feed(f'[[webhook]]\nname = "soar"\nurl = "{url}"\nsecret_file = "{secret}"\nbegin = "start"\n', state)
    running.wait(lambda: any(code == 200 for code, *_ in hook.requests), "the answer that takes it")
    state.add("unwanted")
    state.add("wanted")
    running.wait(lambda: len(hook.requests) == 7, "the rest")
    with sqlite3.connect(state.path / "feed.sqlite") as db:
        running.wait(lambda: db.execute("SELECT sent, refused FROM destination").fetchall() == [(2, 1)], "that to be remembered")
    assert running.stop() == 0
    assert [code for code, *_ in hook.requests] == [500, 0, 429, 302, 200, 422, 200]
    for _, headers, body, _ in hook.requests:
        assert is_genuine(secret.read_bytes().strip(), headers, body)
        assert not is_genuine(b"x" * 32, headers, body) and not is_genuine(secret.read_bytes().strip(), headers, body + b" ")
        assert headers["x-sekisho-id"] == json.loads(body)["id"] and headers["content-type"] == "application/json"
    assert hook.requests[3][3] - hook.requests[2][3] >= 1, "it was asked to wait a second"
    # The same one until it was taken, then the next.
    assert [json.loads(body)["audit"]["number"] for _, _, body, _ in hook.requests] == [1, 1, 1, 1, 1, 2, 3]
    log = running.said()
    assert log.count("soar: down") == 1 and log.count("soar: up again") == 1 and "HTTP 422" in log, log
    hook.shutdown()


def test_webhook_that_says_less_than_it_promised(state, feed):
    """Why: who has said that it has a message has it; told again, it would raise a second ticket."""
    hook = Hook([202, 202])
    running = feed(f'[[webhook]]\nname = "soar"\nurl = "http://127.0.0.1:{hook.server_address[1]}/"\nbegin = "start"\n', state)
    state.add("second")
    state.add("third")
    running.wait(lambda: len(hook.requests) >= 3, "all of them")
    assert running.stop() == 0
    assert [(code, json.loads(body)["audit"]["number"]) for code, _, body, _ in hook.requests] == [(202, 1), (202, 2), (200, 3)]
    assert "soar: down" not in running.said()
    hook.shutdown()


def test_webhook_over_tls(state, feed, certificates):
    """Why: alerts say what a plant's holes are; they go to the one server they are for."""
    hook = Hook(tls=certificates)
    to = (f'[[webhook]]\nname = "soar"\nurl = "https://siem.fab.example:{hook.server_address[1]}/"\naddress = "127.0.0.1"\nbegin = "start"\n'
          f'ca = "{certificates}/ca.pem"\n')
    for wrong in (to.replace("ca.pem", "other.pem"), to.replace("siem.fab", "other.fab")):
        running = feed(wrong, state)
        running.wait(lambda: "soar: down" in running.said(), "the refusal")
        assert re.search("certificate verify failed|hostname|Hostname", running.said()), running.said()
        assert running.stop() == 0 and hook.requests == []
        running.log.unlink()
    running = feed(to, state)
    assert running.wait(lambda: hook.requests, "the message")[0][0] == 200
    assert "not signed" in running.said()
    hook.shutdown()


# --- Errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, expected", [
    ("", "version is missing"),
    ("version = 1", "there is nobody to tell"),
    ("version = 2\n", "reads feeds of version 1"),
    ("version = 1\n[[syslg]]\n", 'did you mean "syslog"'),
    ("version = 1\n[syslog]\nname = 'a'\n", "write [[syslog]]"),
    ("version = 1\n[[syslog]]\nname = 'a'\n", "to is missing"),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'tcp://10.0.0.1'\n", "4:6: error: to is no destination"),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'udp://10.0.0.1'\nca = '/x'\n", "ca has no meaning for udp://"),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'udp://10.0.0.1'\nevents = ['alrt']\n", 'did you mean "alert"'),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'udp://10.0.0.1'\nfacility = 'local9'\n", "unknown facility"),
    ("version = 1\n[[file]]\nname = 'a'\npath = '/x'\n[[file]]\nname = 'a'\npath = '/y'\n", 'two of the name "a"'),
    ("version = 1\n[[file]]\nname = 'a b'\npath = '/x'\n", "letters, digits"),
    ("version = 1\n[[webhook]]\nname = 'a'\nurl = 'ftp://x/'\n", "no address of a web server"),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'tls://10.0.0.1'\nca = '/nowhere/ca.pem'\n", "reading the certificates of authorities /nowhere/ca.pem: No such file"),
    ("version = 1\n[[syslog]]\nname = 'a'\nto = 'tls://10.0.0.1'\nca = '/etc/hostname'\n", "PEM"),
    ("version = 1\n[[webhook]]\nname = 'a'\nurl = 'https://x/'\nsecret_file = '/etc/hostname'\n", "anybody may read the secret"),
    ("version = [", "not TOML"),
    ("version = 1\n\x00", "not TOML"),
])
def test_a_bad_file_says_where(sekisho, folder, text, expected):
    file = folder / "feeds.toml"
    file.write_text(text)
    done = sekisho("feed", "--config", file, "--check")
    assert done.returncode == 1 and expected in done.stderr, done.stderr
    assert sekisho("feed", "--config", file, "--state", folder / "s").returncode == 1


def test_what_cannot_be_used_is_said(binary, sekisho, folder):
    done = sekisho("feed", "--config", folder / "none.toml", "--check")
    assert done.returncode == 1 and "none.toml" in done.stderr
    assert sekisho("feed", "--config", folder / "none.toml").returncode == 64
    file = folder / "feeds.toml"
    file.write_text("version = 1\n[[file]]\nname = 'a'\npath = '-'\n")
    done = sekisho("feed", "--config", file, "--check")
    assert done.returncode == 0 and "all events" in done.stdout
    # There is one already.
    first = subprocess.Popen([binary, "feed", "--config", file, "--state", folder / "t"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert "telling a" in first.stderr.readline()
    done = sekisho("feed", "--config", file, "--state", folder / "t")
    assert done.returncode == 1 and "another feed runs" in done.stderr
    first.terminate()
    assert first.wait(20) == 0
    # The state directory is a file.
    (folder / "s").write_text("")
    done = sekisho("feed", "--config", file, "--state", folder / "s")
    assert done.returncode == 1 and str(folder / "s") in done.stderr


def test_a_bad_memory_keeps_metrics_up(state, feed, folder):
    """Why: a full disk is found by the metrics, if they are there then."""
    port, lines = free_port(), folder / "lines.json"
    memory = state.path / "feed.sqlite"
    memory.write_bytes(b"no database of anybody's " * 400)
    running = feed(f'[[file]]\nname = "lines"\npath = "{lines}"\nbegin = "start"\n[metrics]\nlisten = "127.0.0.1:{port}"\n', state)
    running.wait(lambda: "tried again every second" in running.said(), "what is wrong")
    up = "sekisho_feed_destination_up", (("destination", "lines"), ("kind", "file"))
    running.wait(lambda: samples_of(port).get(up) == 0, "the metrics")
    assert not lines.exists()
    memory.unlink()
    running.wait(lambda: lines.exists() and lines.read_text().count("\n") == 1, "the event, when there is a memory")
    running.wait(lambda: samples_of(port).get(up) == 1, "the metrics to say so")
    assert running.said().count("tried again every second") == 1
    assert running.stop() == 0


def test_another_store_in_its_place_ends_it(state, feed, folder):
    """Why: who goes on reading a log that was moved away hears nothing any more, and says nothing of it."""
    lines = folder / "lines.json"
    config = f'[[file]]\nname = "lines"\npath = "{lines}"\nbegin = "start"\n'
    running = feed(config, state)
    running.wait(lambda: lines.exists() and lines.read_text().count("\n") == 1, "the first event")
    store, aside = state.path / "audit.sqlite", state.path / "aside.sqlite"
    shutil.copy(store, aside)
    for end in ("-wal", "-shm"):
        (state.path / f"audit.sqlite{end}").unlink(missing_ok=True)
    aside.rename(store)
    assert running.process.wait(20) == 1
    assert f"{store} is another file than the one that is open" in running.said()


# --- With a bridge -----------------------------------------------------------------------------------------------


@needs_rsyslog
def test_an_alert_of_a_bridge_reaches_the_siem(bridge, network, folder, feed, rsyslog):
    """Why: this is what it is for: the laptop's first frame, and a line in the SIEM."""
    siem = rsyslog()
    path = folder / "state"
    # It may be there before the bridge has ever run.
    running = feed(f'bridge = "gate"\n[[syslog]]\nname = "siem"\nto = "tcp://127.0.0.1:{siem.tcp}"\n', path)
    running.wait(lambda: "siem: up" in running.said(), "the connection")
    net = network()
    gate = bridge(POLICY, "--state", path, "--mode", "enforce", net=net)
    gate.wait_for(lambda: gate.status().get("detection", {}).get("is_ready"), "the watch")
    began = time.time()
    net.a.send(syn(LAPTOP, TOOL, 445))
    found = running.wait(lambda: [one for one in siem.received() if values(one)["category"] == "alert"], "the alert")
    print(f"from the laptop's first frame to the SIEM's file: {time.time() - began:.2f} s")
    assert values(found[0])["address"] == LAPTOP and values(found[0])["bridge"] == "gate" and values(found[0])["denied"] == "true"
    gate.stop()
    running.wait(lambda: any(one["msgid"] == "stop" for one in siem.received()), "the end of the bridge")
    told = [one["msgid"] for one in siem.received() if values(one)["category"] != "alert"]
    assert told[:2] == ["policy_applied", "start"] or told[:2] == ["start", "policy_applied"], told
    assert running.stop() == 0
