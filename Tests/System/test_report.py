"""Reports for an auditor: what they say of a plant that was really recorded, and that no name, gap or damage in the records gets the better of them."""

import html.parser
import json
import re
import signal
import sqlite3
import time
import unicodedata

import pytest

from frames import IP, TCP, UDP, Raw, ether, write_stamped

KINDS = ("e187", "zones", "coverage", "unused")
LANGUAGES = ("en", "ja", "zh-TW")
MES, TOOL, LAPTOP, LOGS = "10.3.0.10", "10.3.1.21", "10.3.0.66", "10.3.0.30"
START = 1_700_467_200

POLICY = f"""version = 1
name = "bay3"
mode = "enforce"
[devices.mes]
addresses = ["{MES}"]
mac = ["02:00:00:00:00:0a"]
[devices.scanner-1]
addresses = ["{TOOL}"]
[groups]
tools = ["scanner-1", "10.3.1.22"]
[[allow]]
id = "host-link"
from = "mes"
to = "tools"
service = ["tcp/5000", "tcp/5001"]
purpose = "SECS/GEM"
owner = "litho"
[[allow]]
id = "logs"
from = "scanner-1"
to = "{LOGS}"
service = "udp/514"
[[allow]]
id = "spare"
from = "mes"
to = "scanner-1"
service = "tcp/9999"
"""


def plant():
    """Eight days of a host, a tool that logs, and an engineer's remote desktop on the last."""
    frames = []

    def session(at, client, server, port, source=40_000):
        for n, (a, b, sport, dport, flags, data) in enumerate((
                (client, server, source, port, "S", b""), (server, client, port, source, "SA", b""), (client, server, source, port, "A", b""),
                (client, server, source, port, "PA", b"ask"), (server, client, port, source, "PA", b"answer"))):
            frames.append((at + n / 1000, bytes(ether() / IP(src=a, dst=b) / TCP(sport=sport, dport=dport, flags=flags, seq=1, ack=1) / Raw(data))))

    for day in range(8):
        for hour in range(0, 24, 3):
            at = START + day * 86_400 + hour * 3600
            session(at, MES, TOOL, 5000, 20_000 + day * 24 + hour)
            frames.append((at + 5, bytes(ether() / IP(src=TOOL, dst=LOGS) / UDP(sport=514, dport=514) / Raw(b"<1>log"))))
    session(START + 7 * 86_400 + 3600, LAPTOP, TOOL, 3389)
    return sorted(frames)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, sekisho):
    """A state directory with a history, and a policy file. For reading only."""
    folder = tmp_path_factory.mktemp("report")
    capture = write_stamped(folder / "plant.pcap", [(int(at) * 10**9 + int(at % 1 * 1e6) * 1000, data) for at, data in plant()])
    assert sekisho("learn", capture, "--state", folder / "state").returncode == 0
    (folder / "bay3.toml").write_text(POLICY)
    return folder


def report(sekisho, kind, state, *options, code=0):
    done = sekisho("report", kind, "--state", state, *options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def data(sekisho, kind, state, *options):
    return json.loads(report(sekisho, kind, state, "--json", *options))


def section(report, name):
    return next(one for one in report["sections"] if one["id"] == name)


class Page(html.parser.HTMLParser):
    """Strict: every element must be closed by its own end."""

    void = {"meta", "link", "br", "hr", "img", "wbr"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.root, self.words = [], [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == [], self.open
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag == "html":
            self.root = attributes
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("href", "src", "action", "data", "srcset", "style"):
                self.links.append(value)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes {self.open[-1:]}"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def width(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


# --- Forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_report_in_every_language(sekisho, recorded, kind, language, tmp_path):
    options = ("--policy", recorded / "bay3.toml", "--language", language)
    report(sekisho, kind, recorded / "state", *options, "--html", "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert text.startswith("<!doctype html>") and page.root["lang"] == language
    # Nothing is fetched, and nothing runs.
    assert not {"script", "img", "link", "iframe", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links) and not re.search(r"https?:|url\(|@import", text)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("table") == page.tags.count("thead") and "th" in page.tags
    # Every section of the data has its place, and what was recorded stands in it.
    found = data(sekisho, kind, recorded / "state", *options)
    assert [one["id"] for one in found["sections"]] == [one for one in page.ids if not one.endswith("-title")]
    assert found["report"] == kind and found["schema"] == "sekisho-report" and found["schema_version"] == 1
    words = {"coverage": ("T0886", "M0930"), "unused": ("host-link", "spare")}.get(kind, ("host-link", "SECS/GEM"))
    assert all(word in page.text for word in words)
    if language != "en":
        letters = sum(unicodedata.east_asian_width(c) == "W" for c in page.text)
        assert letters > 400, letters
    # Markdown and terminal say the same, in tables that line up.
    markdown = report(sekisho, kind, recorded / "state", *options, "--md")
    widths = set()
    for line in markdown.split("\n"):
        if line.startswith("|"):
            widths.add(width(line))
        else:
            assert len(widths) <= 1, line
            widths = set()
    rows = [len(rows) for one in found["sections"] for rows in one["tables"].values() if rows]
    assert sum(line.startswith("|") for line in markdown.split("\n")) == sum(count + 2 for count in rows)
    terminal = report(sekisho, kind, recorded / "state", *options)
    assert max(width(line) for line in terminal.split("\n")) <= 160
    for text in (markdown, terminal):
        assert all(word in text for word in ("bay3", *words))


def test_json_is_the_same_in_every_language(sekisho, recorded):
    for kind in KINDS:
        options = ("--policy", recorded / "bay3.toml", "--to", "2026-01-01")
        first, *others = [data(sekisho, kind, recorded / "state", *options, "--language", language) for language in LANGUAGES]
        for one in (first, *others):
            assert one["cover"].pop("created")
        assert all(one == first for one in others)


def test_the_names_of_the_json_stay(sekisho, recorded):
    """Why: programs read it. Whoever changes a name here raises the schema's version."""
    options = ("--policy", recorded / "bay3.toml")
    found = data(sekisho, "e187", recorded / "state", *options)
    assert list(found) == ["cover", "report", "schema", "schema_version", "sections"]
    assert {"state", "device", "from", "to", "policy", "policy_version", "sha256", "mode", "audit_head", "audit_intact", "created", "sekisho_version"} <= set(found["cover"])
    tables = {one["id"]: {name: sorted(rows[0]) for name, rows in one["tables"].items() if rows} for one in found["sections"]}
    assert tables["requirements"] == {"requirements": ["assessment", "clause", "evidence", "explanation", "requirement", "standing", "subject"]}
    assert tables["matrix"] == {"matrix": ["client", "connections", "first_seen", "last_seen", "owner", "purpose", "rule", "server", "service"]}
    assert tables["declared"] == {
        "not_declared": ["answered", "client", "connections", "decision", "denied", "first_seen", "last_seen", "review", "server", "service"]}
    assert tables["unused"] == {"unused": ["not_used", "not_used_from", "not_used_service", "not_used_to", "not_used_vlan", "rule"]}
    assert tables["denials"] == {"days": ["connections", "day", "denied", "denied_conversations", "frames"]}
    zones = data(sekisho, "zones", recorded / "state", *options)
    assert sorted(section(zones, "conduits")["tables"]["conduits"][0]) == [
        "conduit", "connections", "conversations", "expires", "from_zone", "last_seen", "mode", "owner", "purpose", "service", "to_zone"]
    coverage = data(sekisho, "coverage", recorded / "state", *options)
    assert sorted(section(coverage, "prevention")["tables"]["prevention"][0]) == [
        "id_18_1", "id_19", "left_open_by", "limit", "mitre_lists", "prevented", "tactics", "technique"]
    unused = data(sekisho, "unused", recorded / "state", *options)
    assert sorted(section(unused, "never")["tables"]["never"][0]) == [
        "allowed_conversations", "from_zone", "idle_days", "in_policy_days", "in_policy_since", "last_hit", "owner", "purpose", "rule", "service", "to_zone"]


# --- What they say -----------------------------------------------------------------------------------------------


def test_what_was_recorded_stands_in_it(sekisho, recorded):
    found = data(sekisho, "e187", recorded / "state", "--policy", recorded / "bay3.toml")
    matrix = section(found, "matrix")["tables"]["matrix"]
    assert [(one["client"], one["server"], one["service"], one["connections"], one["rule"]) for one in matrix] == [
        (f"mes ({MES})", f"scanner-1 ({TOOL})", "tcp/5000", 64, "host-link"), (LAPTOP, f"scanner-1 ({TOOL})", "tcp/3389", 1, "not_allowed"),
        (f"scanner-1 ({TOOL})", LOGS, "udp/514", matrix[2]["connections"], "logs")]
    # The cover says where it comes from.
    assert [re.sub(r"\(\d+\)$", "(n)", one) for one in found["cover"]["sources"]] == [f"capture {recorded / 'plant.pcap'} (n)"]
    assert found["cover"]["observed_hours"] == 65 and found["cover"]["no_room"] == 0 and found["cover"]["forgotten"] == 0
    assert matrix[0]["first_seen"] == "2023-11-20T08:00:00Z" and matrix[0]["purpose"] == "SECS/GEM" and matrix[0]["owner"] == "litho"
    assert [one["port"] for one in section(found, "clear_text")["tables"]["services"] if one["conversations"]] == ["tcp/3389"]
    assert [one["server"] for one in section(found, "declared")["tables"]["not_declared"]] == [f"scanner-1 ({TOOL})"]
    assert {one["rule"]: one["not_used"] for one in section(found, "unused")["tables"]["unused"]}["spare"] == "whole"
    assert section(found, "log_conduits")["tables"]["syslog"][0]["server"] == LOGS
    # The same as the commands that are there for it.
    diff = json.loads(sekisho("diff", recorded / "bay3.toml", "--state", recorded / "state", "--json").stdout)
    facts = section(found, "declared")["facts"]
    assert (facts["allowed"], facts["not_allowed"]) == (diff["allowed"], len(diff["not_allowed"]))
    assert [one["rule"] for one in diff["unused"]] == [one["rule"] for one in section(found, "unused")["tables"]["unused"]]
    # Nobody has answered for the assessor, and nothing is shown in full.
    rows = section(found, "requirements")["tables"]["requirements"]
    assert len(rows) == 13 and all(one["assessment"] is None and one["explanation"] is None for one in rows)
    assert {one["requirement"][11:16] for one in rows if one["standing"] == "in_part"} == {"00003", "00004", "00008"}
    assert all(one["standing"] in ("in_part", "not_evidenced") for one in rows)


def test_a_period_and_a_device(sekisho, recorded):
    options = ("--policy", recorded / "bay3.toml")
    early = data(sekisho, "e187", recorded / "state", *options, "--to", "2023-11-25")
    assert [one["service"] for one in section(early, "matrix")["tables"]["matrix"]] == ["tcp/5000", "udp/514"]
    own = data(sekisho, "e187", recorded / "state", *options, "--device", "mes")
    assert [(one["peer"], one["direction"]) for one in section(own, "matrix")["tables"]["matrix"]] == [(f"scanner-1 ({TOOL})", "outgoing")]
    assert own["cover"]["device"] == "mes"
    # What another device uses of a rule is used.
    spare = data(sekisho, "e187", recorded / "state", *options, "--device", "10.3.1.22")
    assert [(one["rule"], one["not_used"]) for one in section(spare, "unused")["tables"]["unused"]] == [("host-link", "part")]
    # Of several addresses it is said which of them talked.
    group = data(sekisho, "e187", recorded / "state", *options, "--device", "tools")
    assert {one["server"] for one in section(group, "matrix")["tables"]["matrix"]} == {f"scanner-1 ({TOOL})", LOGS}
    # Nothing happened before anything was recorded.
    empty = data(sekisho, "e187", recorded / "state", *options, "--from", "2020-01-01", "--to", "2021-01-01")
    assert section(empty, "matrix")["tables"]["matrix"] == [] and "no_traffic" in section(empty, "scope")["notes"]
    assert {one["standing"] for one in section(empty, "requirements")["tables"]["requirements"]} == {"not_evidenced"}
    for kind in KINDS:
        for form in ((), ("--md",), ("--html",)):
            report(sekisho, kind, recorded / "state", *options, "--from", "2020-01-01", "--to", "2021-01-01", *form)
    last = data(sekisho, "unused", recorded / "state", *options, "--from", "2023-12-30")
    assert [one["rule"] for one in section(last, "no_longer")["tables"]["no_longer"]] == ["host-link", "logs"]


def test_coverage_hangs_on_mode_and_rules(sekisho, recorded, tmp_path):
    def prevented(text):
        (tmp_path / "policy.toml").write_text(text)
        found = data(sekisho, "coverage", recorded / "state", "--policy", tmp_path / "policy.toml")
        return {one["id_18_1"]: one for one in section(found, "prevention")["tables"]["prevention"]}, section(found, "facts")["notes"]

    enforced, notes = prevented(POLICY)
    assert len(enforced) == 83 and enforced["T0886"]["prevented"] == "blocked" and enforced["T0886"]["left_open_by"] is None
    assert enforced["T0855"]["id_19"] == "T1692.001" and enforced["T0855"]["left_open_by"] == ["host-link"] and "fails_open" not in notes
    opened, notes = prevented(POLICY.replace("[devices.mes]", 'on_failure = "open"\n[devices.mes]', 1) + '[[allow]]\nid = "desk"\nfrom = "any"\nto = "mes"\nservice = "rdp"\n')
    assert opened["T0886"]["left_open_by"] == ["desk"] and opened["T0885"]["left_open_by"] == ["desk"] and "fails_open" in notes
    monitored, _ = prevented(POLICY.replace("enforce", "monitor"))
    assert not {"blocked", "limited"} & {one["prevented"] for one in monitored.values()}
    assert "The MITRE Corporation" in report(sekisho, "coverage", recorded / "state", "--policy", tmp_path / "policy.toml", "--language", "ja")


@pytest.mark.usefixtures("privileged")
def test_a_bridge_that_ran(sekisho, bridge, network, folder):
    """The policy, its versions, failures, orders and alerts come from the bridge's own records."""
    state = folder / "state"
    running = bridge(POLICY.replace("enforce", "monitor"), "--state", state, net=network())
    file = folder / "next.toml"
    file.write_text(POLICY)
    assert sekisho("apply", file, "--control", running.socket, "--why", "ticket 4711", "--who", "tanaka").returncode == 0
    ask = bytes(ether() / IP(src=MES, dst=TOOL) / TCP(sport=40_000, dport=5000, flags="S"))

    def asked(*words):
        running.network.a.send(ask)
        return any(one in running.said() for one in words)

    running.process.send_signal(signal.SIGSTOP)
    for _ in range(50):
        running.network.a.send(ask, pause=0.02)
    running.process.send_signal(signal.SIGCONT)
    running.wait_for(lambda: asked("the workers judge again", "no worker judged"), "the failure")
    assert sekisho("quarantine", LAPTOP, "--for", "1h", "--why", "scan", "--control", running.socket).returncode == 0
    running.stop()
    found = data(sekisho, "e187", state)
    assert found["cover"]["policy_version"] == 2 and found["cover"]["mode"] == "enforce" and found["cover"]["audit_intact"] is True
    head = json.loads(sekisho("audit", "verify", "--state", state, "--json").stdout)
    assert found["cover"]["audit_head"] == head["head"] and found["cover"]["audit_events"] == head["events"]
    versions = section(found, "versions")["tables"]["versions"]
    assert [(one["number"], one["mode"]) for one in versions] == [(1, "monitor"), (2, "enforce")]
    assert versions[1]["why"] == "ticket 4711" and versions[1]["who"].startswith("tanaka")
    assert {one["mode"] for one in section(found, "operation")["tables"]["modes"]} == {"monitor", "enforce"}
    failures = section(found, "operation")["tables"]["failures"]
    assert "worker_dead" in [one["failure_state"] for one in failures] and all(not one["goes_on"] for one in failures)
    assert [one["type"] for one in section(found, "quarantines")["tables"]["orders"]] == ["quarantine"]
    standings = {one["requirement"][11:16]: one["standing"] for one in section(found, "requirements")["tables"]["requirements"]}
    assert standings["00011"] == standings["00012"] == "in_part"
    # It enforced for a part of the time only.
    rows = {one["id"]: one for one in section(data(sekisho, "zones", state), "iec_62443")["tables"]["requirements"]}
    assert rows["SR 5.2 RE(1)"]["standing"] == "in_part" and rows["SR 5.2 RE(3)"]["standing"] == "in_part"
    # A log that somebody has changed is no evidence, and that is said first.
    with sqlite3.connect(state / "audit.sqlite") as database:
        database.execute("DROP TRIGGER event_update")
        database.execute("UPDATE event SET who = 'nobody' WHERE number = 2")
    found = data(sekisho, "e187", state)
    assert found["cover"]["audit_intact"] is False and section(found, "scope")["notes"][0] == "log_damaged"
    standings = {one["requirement"][11:16]: one["standing"] for one in section(found, "requirements")["tables"]["requirements"]}
    assert standings["00011"] == standings["00012"] == "not_evidenced"
    rows = {one["id"]: one["standing"] for one in section(data(sekisho, "zones", state), "iec_62443")["tables"]["requirements"]}
    assert "shown" not in rows.values()
    with sqlite3.connect(state / "audit.sqlite") as database:
        database.execute("DROP TRIGGER policy_text_update")
        database.execute("UPDATE policy_text SET text = CAST('version = 1' AS BLOB)")
    assert "policy_unreadable" in section(data(sekisho, "e187", state), "scope")["notes"]
    for kind in KINDS[1:]:
        assert "audit verify" in report(sekisho, kind, state, code=1)


# --- Bad input ---------------------------------------------------------------------------------------------------


def test_what_is_missing_or_damaged_is_said(sekisho, recorded, tmp_path):
    assert "it does not exist" in report(sekisho, "e187", tmp_path / "nowhere", code=1)
    (tmp_path / "empty").mkdir()
    assert "nothing was recorded" in report(sekisho, "e187", tmp_path / "empty", code=1)
    # Without a policy E187 says what it can; the others need one.
    found = data(sekisho, "e187", recorded / "state")
    assert "no_policy" in section(found, "scope")["notes"] and section(found, "matrix")["tables"]["matrix"][0]["rule"] is None
    for kind in KINDS[1:]:
        assert "→ give one: --policy" in report(sekisho, kind, recorded / "state", code=1)
    (tmp_path / "wrong.toml").write_text("version = 1\nnonsense = 2\n")
    assert "nonsense" in report(sekisho, "e187", recorded / "state", "--policy", tmp_path / "wrong.toml", code=1)
    assert "no device" in report(sekisho, "e187", recorded / "state", "--device", "nobody", code=1)
    assert "does not lie before" in report(sekisho, "e187", recorded / "state", "--from", "2099-01-01", code=1)
    for wrong in (("--from", "2024-01-02", "--to", "2024-01-01"), ("--md", "--html"), ("--language", "fr"), ("--rows", "0"), ("--from", "yesterday")):
        assert sekisho("report", "e187", "--state", recorded / "state", *wrong).returncode == 64
    for store in ("history", "audit", "alerts"):
        folder = tmp_path / store
        folder.mkdir()
        for rubbish in (b"no database at all, but long enough to be looked at as one", b"SQLite format 3\0" + bytes(4096)):
            (folder / f"{store}.sqlite").write_bytes(rubbish)
            said = report(sekisho, "e187", folder, code=1)
            assert said.startswith("error: ") and f"{store}.sqlite" in said
            assert (folder / f"{store}.sqlite").read_bytes() == rubbish


def test_the_file_is_there_as_a_whole_or_not_at_all(sekisho, recorded, tmp_path):
    target = tmp_path / "report.html"
    target.write_text("before")
    report(sekisho, "zones", recorded / "state", "-o", target, code=1)
    assert target.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["report.html"]
    report(sekisho, "zones", recorded / "state", "--policy", recorded / "bay3.toml", "--html", "-o", target)
    assert target.read_text().startswith("<!doctype html>") and len(list(tmp_path.iterdir())) == 1
    assert "folder" in report(sekisho, "zones", recorded / "state", "-o", tmp_path, code=1)


def test_no_report_takes_the_place_of_a_record(sekisho, recorded, tmp_path):
    state = recorded / "state"
    (tmp_path / "folder").symlink_to(state)
    (tmp_path / "file").symlink_to(state / "history.sqlite")
    before = {one.name: one.read_bytes() for one in state.iterdir()}
    for target in (state / "history.sqlite", state / "report.html", tmp_path / "folder" / "audit.sqlite", tmp_path / "file"):
        assert "state directory" in report(sekisho, "e187", state, "--html", "-o", target, code=1)
    assert {one.name: one.read_bytes() for one in state.iterdir()} == before


HOSTILE = "<script>alert(1)</script>&\"'|`*_[x](https://evil.example/)![y](z) </td></table>\u202eabc\u0600<img src=x>\u0600[x\u0600](https://e.example/)|\u0301\u061c"


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_does_any_harm(sekisho, recorded, kind, tmp_path):
    name = json.dumps(HOSTILE, ensure_ascii=False)
    (tmp_path / "hostile.toml").write_text(
        POLICY.replace("[devices.scanner-1]", f"[devices.{name}]").replace('"scanner-1"', name).replace('"SECS/GEM"', name).replace('"litho"', name))
    options = ("--policy", tmp_path / "hostile.toml")
    text = report(sekisho, kind, recorded / "state", *options, "--html")
    page = Page(text)
    assert not {"script", "img"} & set(page.tags) and not re.search("[\u202e\u061c]", text) and "a" in page.tags
    assert all(link.startswith("#") for link in page.links)
    if kind != "coverage":
        assert re.sub("[\u202e\u061c]", "\ufffd", HOSTILE) in page.text
    markdown = report(sekisho, kind, recorded / "state", *options, "--md")
    assert not re.search(r"(?<!\\)<(script|img)|(?<!\\)\]\(|(?<!\\)://|(?<!\\)`", markdown) and not re.search("[\u202e\u061c]", markdown)
    for block in re.findall(r"(?:^\|.*\n?)+", markdown, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}) == 1
    assert not re.search("[\u202e\u061c]", report(sekisho, kind, recorded / "state", *options))
