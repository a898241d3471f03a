"""The page of what was learnt: it says what `baseline --json` says, its commands work, and no name in it does any harm.

The page is opened in Debian's Chromium, as a reader would. It needs no bridge and no root.
"""

import html as html_module
import json
import re
import shlex
import shutil
import subprocess

import pytest

from conftest import CAPTURES, ROOT
from frames import ICMP, IP, TCP, UDP, Raw, ether, write_stamped
from test_report_page import DARK, Page, Picture

TEMPLATE = ROOT / "Sources" / "Baseline" / "Page" / "baseline.html"
PLACE = "__SEKISHO_DATA__"
MES, NTP, LAPTOP, TOOLS = "10.3.0.10", "10.3.0.20", "10.3.0.66", ["10.3.1.21", "10.3.1.22", "10.3.1.23"]

# --- A plant that was recorded -----------------------------------------------------------------------------------


class Recording:
    """Frames with their times, and a file of them."""

    def __init__(self):
        self.frames = []

    def add(self, at, frame):
        self.frames.append((at, bytes(frame)))

    def tcp(self, at, client, server, port, source=40_000, refused=False):
        def one(after, a, b, sport, dport, flags, load=b""):
            self.add(at + after, ether() / IP(src=a, dst=b) / TCP(sport=sport, dport=dport, flags=flags) / Raw(load))

        one(0, client, server, source, port, "S")
        if refused:
            return one(0.001, server, client, port, source, "RA")
        one(0.001, server, client, port, source, "SA")
        one(0.002, client, server, source, port, "A")
        one(0.003, client, server, source, port, "PA", b"ask")
        one(0.004, server, client, port, source, "PA", b"answer")
        one(0.005, client, server, source, port, "FA")
        one(0.006, server, client, port, source, "FA")

    def udp(self, at, client, server, port):
        self.add(at, ether() / IP(src=client, dst=server) / UDP(sport=port, dport=port) / Raw(b"time?"))
        self.add(at + 0.01, ether() / IP(src=server, dst=client) / UDP(sport=port, dport=port) / Raw(b"time!"))

    def write(self, path):
        return write_stamped(path, [(int(at) * 10**9 + int(at % 1 * 1e6) * 1000, frame) for at, frame in sorted(self.frames, key=lambda f: f[0])])


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """Nine days of a host, three tools and a time server; in the end a laptop looks for what is there."""
    made, start = Recording(), 1_767_571_200
    for day in range(9):
        for hour in range(6, 20):
            at = start + day * 86_400 + hour * 3_600
            for place, tool in enumerate(TOOLS):
                made.tcp(at + place, MES, tool, 5000, 40_000 + hour)
                made.udp(at + 30 + place, tool, NTP, 123)
                made.add(at + 40 + place, ether() / IP(src=MES, dst=tool) / ICMP(type=8, id=7) / Raw(b"ping"))
                made.add(at + 40.1 + place, ether() / IP(src=tool, dst=MES) / ICMP(type=0, id=7) / Raw(b"ping"))
    for place, tool in enumerate(TOOLS):
        for port in (22, 445, 3389):
            made.tcp(start + 8 * 86_400 + 70_000 + place * 10, LAPTOP, tool, port, 50_000 + port, refused=True)
    made.tcp(start + 8 * 86_400 + 70_100, LAPTOP, TOOLS[0], 5000, 51_000)
    return made.write(tmp_path_factory.mktemp("recording") / "plant.pcap")


@pytest.fixture
def learnt(recording, sekisho, tmp_path):
    state = tmp_path / "state"
    done = sekisho("learn", recording, "--state", state)
    assert done.returncode == 0, done.stderr
    return state


def written(sekisho, state, path, *options):
    """The page that the program writes, and its data."""
    done = sekisho("baseline", "--state", state, "--html", path, *options)
    assert done.returncode == 0, done.stderr
    page = path.read_text()
    return page, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


# --- A plant that was made up, as large as one likes -------------------------------------------------------------


def plant(tools, seed=7):
    """Data of a page, in the form that the program writes."""
    complete = {"complete": False, "block": "day", "blocks": 9, "span_days": 9.0, "hours_of_week": 126, "conversations": 3, "unseen_share": 0.0,
                "unseen_share_bound": 0.003, "unseen": "0 %", "unseen_bound": "0.30 %", "expected_more": 2.5, "expected_more_bound": 9.2, "missing": ["a Sunday"]}
    devices, conversations = [], []

    def device(address, role):
        devices.append({"address": address, "name": f"{role}-{address.replace('.', '-')}", "role": role, "mac": [], "week": 0, "complete": complete})
        return len(devices) - 1

    def talk(client, server, service, known=None, state="proposed", reasons=()):
        nonlocal seed
        seed = seed * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
        conversations.append({
            "client": client, "server": server, "service": service, "known": known, "vlan": 0, "state": state, "is_ftp_data": False, "rule": 0,
            "decision": None, "connections": seed % 5_000 + 1, "answered": seed % 5_000, "refused": 0, "frames": 9_000, "bytes": 123_456, "days": 9,
            "hours": 90, "first": "2026-01-05 06:00", "last": "2026-01-13 19:59", "side_known": "seen", "rhythm": "asks every 5.0 s (± 1 %)",
            "review": [{"name": n, "text": t} for n, t in reasons], "week": seed % 2})

    hosts = [device(f"10.0.0.{i + 1}", "host") for i in range(3)]
    files, time = device("10.0.0.10", "file-server"), device("10.0.0.11", "time-server")
    laptop = device("10.0.0.66", "workstation")
    for i in range(tools):
        tool = device(f"10.{1 + i // 200}.{i % 200}.21", "equipment")
        talk(hosts[i % 3], tool, "tcp/5000", "hsms")
        talk(tool, files, "tcp/21", "ftp")
        talk(tool, time, "udp/123", "ntp")
        if i % 2:
            talk(tool, device(f"10.{1 + i // 200}.{i % 200}.22", "controller"), "tcp/502", "modbus")
        if i < 40:
            talk(laptop, tool, "tcp/22", "ssh", "waiting", [("refused", "every attempt was refused"), ("scanner", "as a scanner does")])
    talk(laptop, files, "tcp/445", "smb", "rejected")
    return {"schema": "sekisho-baseline", "schema_version": 1, "created": "2026-01-14 08:00", "sekisho_version": "0.1.0", "state": "/var/lib/sekisho",
            "options": [], "zone": "Europe/Berlin", "sources": [], "periods": [], "decisions": [], "complete": complete,
            "curve": [{"begin": f"2026-01-{5 + i:02}", "new": n} for i, n in enumerate([30, 4, 2, 0, 1, 0, 0, 0, 0])],
            "observed": [1 if 6 <= h % 24 else 0 for h in range(168)], "devices": devices,
            "groups": [{"name": "hosts-1", "members": hosts}], "rules": [{"id": "hosts-equipment-hsms", "clients": [], "servers": [], "services": [], "unobserved": 0}],
            "conversations": conversations, "weeks": ["0" * 6 + "1" * 10 + "0" * 152, "1" * 168], "omitted": 0}


# --- Opening a page ----------------------------------------------------------------------------------------------


@pytest.fixture
def look(tmp_path):
    """look(page or data, …): the page as it came out, and its picture if a size is asked for."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs the program chromium (apt install chromium)")

    def run(page, *flags, size=(1300, 2600), picture=None, frame=False, then=""):
        file, shot, net = tmp_path / "page.html", tmp_path / f"{picture}.png", tmp_path / "net.json"
        if not isinstance(page, str):
            page = TEMPLATE.read_text().replace(PLACE, json.dumps(page).replace("<", "\\u003c"))
        file.write_text(page + f"<script>{then}</script>")
        if frame:  # a window is never narrower than 500 px; a frame in it is
            inner, file = file, tmp_path / "frame.html"
            file.write_text(f'<body style="margin:0"><iframe src="{inner.name}" style="border:0;width:{size[0]}px;height:{size[1]}px" '
                            'onload="const d = contentDocument.documentElement; document.documentElement.dataset.ready = d.dataset.ready;'
                            'document.documentElement.dataset.width = d.scrollWidth"></iframe>')
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--enable-logging=stderr",
             "--disable-background-networking", "--allow-file-access-from-files", f"--log-net-log={net}", f"--user-data-dir={tmp_path}/profile",
             f"--window-size={size[0]},{size[1]}", *flags, *([f"--screenshot={shot}"] if picture else []), "--dump-dom", file.as_uri()],
            capture_output=True, text=True, errors="replace", timeout=120, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"})
        assert done.returncode == 0 and "<html" in done.stdout, done.stderr[-2000:]
        assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
        # The browser's own record of what was asked for: by itself (for its clock, its dictionary), or by a page.
        asked = re.findall(r'"initiator":"([^"]*)"', net.read_text(errors="replace"))
        assert set(asked) <= {"not an origin"}, asked
        result = Page(done.stdout)
        result.dom = done.stdout
        return (result, Picture(shot.read_bytes())) if picture else result

    return run


def classed(page, name):
    return [(tag, a) for tag, a, _ in page.elements if name in (a.get("class") or "").split()]


# --- The file itself ---------------------------------------------------------------------------------------------


def test_the_template_has_one_place_and_fetches_nothing():
    text = TEMPLATE.read_text()
    assert text.count(PLACE) == 1
    assert f'<script type="application/json" id="data">{PLACE}</script>' in text
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text, "the browser is to refuse what we forgot"
    assert not re.search(r'\b(src|srcset|href|data|action)\s*=\s*["\'](?!#)', text), "a resource outside this file"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bfetch\b", text)


# --- What the program writes -------------------------------------------------------------------------------------


def check_numbers(data, report):
    """The page's data against what `baseline --json` prints."""
    ours = {(data["devices"][c["client"]]["address"], data["devices"][c["server"]]["address"], c["service"], c["vlan"]): c for c in data["conversations"]}
    assert len(ours) == len(data["conversations"]) == len(report["conversations"])
    for theirs in report["conversations"]:
        one = ours[theirs["client"], theirs["server"], theirs["service"], theirs["vlan"]]
        for key in ("connections", "answered", "refused", "frames", "bytes", "days", "hours", "side_known"):
            assert one[key] == theirs[key], (theirs, key)
        assert [r["name"] for r in one["review"]] == theirs["review"]
    for key, value in report["complete"].items():
        assert data["complete"].get(key) == pytest.approx(value) if isinstance(value, float) else data["complete"].get(key) == value, key
    completes = {d["address"]: d["complete"] for d in data["devices"]}
    for device in report["devices"]:
        assert completes[device["address"]]["missing"] == device["complete"]["missing"]
    assert sum(b["new"] for b in data["curve"]) == report["complete"]["conversations"]
    assert sum(n > 0 for n in data["observed"]) == report["complete"]["hours_of_week"]


def test_the_page_says_what_the_program_says(learnt, sekisho, look, tmp_path):
    html, data = written(sekisho, learnt, tmp_path / "out.html")
    report = json.loads(sekisho("baseline", "--state", learnt, "--json").stdout)
    check_numbers(data, report)
    page = look(html)
    assert page.is_good, page.root
    for one in report["devices"]:
        assert one["address"] in page.text
    for one in report["conversations"]:
        assert f"{one['connections']:,}" in page.text and one["service"] in page.text
    for part in report["complete"]["missing"]:
        assert part in page.text
    assert f"{len(report['conversations'])} conversations" in page.text
    assert f"{report['complete']['hours_of_week']} of the week's 168 hours were observed" in page.text
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))
    # The proposal and the page agree on what waits.
    said = sekisho("propose", "--state", learnt, "-o", tmp_path / "policy.toml").stderr
    waiting = sum(c["state"] == "waiting" and not c["is_ftp_data"] for c in data["conversations"])
    assert f"{waiting} conversations wait" in said and waiting == 10
    assert len(classed(page, "one")) == waiting
    assert len(data["rules"]) == int(said.split()[0])
    # Every device is drawn, and told apart by line style as well as colour: the laptop's are dashed.
    assert len(classed(page, "node")) == len(report["devices"])
    assert any("waiting" in a["class"] for _, a in classed(page, "node"))


def test_a_device_may_be_looked_at_alone(learnt, sekisho, look, tmp_path):
    html, data = written(sekisho, learnt, tmp_path / "out.html", "--device", NTP)
    check_numbers(data, json.loads(sekisho("baseline", "--state", learnt, "--json", "--device", NTP).stdout))
    page = look(html)
    assert page.is_good and f"--device {NTP}" in page.text and LAPTOP not in page.text


def test_the_commands_on_the_page_decide(recording, sekisho, binary, look, tmp_path):
    state = tmp_path / """it's a "plant" $(touch oops) `x` </script>"""
    assert sekisho("learn", recording, "--state", state).returncode == 0
    html, data = written(sekisho, state, tmp_path / "out.html")
    # A reason with everything that a shell would read otherwise.
    why = """it's "fine" $HOME `id` \\\\ </script>"""
    page = look(html, then="const w = document.querySelector('#waiting input[type=text]'); w.value = " + json.dumps(why).replace("<", "\\u003c")
                + "; w.dispatchEvent(new Event('input'));")
    assert page.is_good, page.root
    codes = re.findall(r"<code>(.*?)</code>", page.dom, re.S)
    commands = [html_module.unescape(re.sub(r"<[^>]*>", "", c)) for c in codes]
    commands = [c for c in commands if c.startswith(("sekisho approve", "sekisho reject"))]
    both = [c for c in commands if "--service" in c]
    assert len(both) == 20
    for command in both:
        if command.startswith("sekisho approve" if "tcp/5000" in command else "sekisho reject"):
            done = subprocess.run(["sh", "-c", shlex.quote(binary) + command.removeprefix("sekisho")], capture_output=True, text=True, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert not (tmp_path / "oops").exists()
    html, data = written(sekisho, state, tmp_path / "out.html")
    states = [c["state"] for c in data["conversations"]]
    assert states.count("waiting") == 0 and states.count("rejected") == 9
    assert {d["why"] for d in data["decisions"]} == {why}
    page = look(html)
    assert page.is_good and "Nothing waits." in page.text and why in page.text


def test_without_a_reason_the_command_is_refused(learnt, sekisho):
    done = sekisho("approve", "--state", learnt, "--service", "tcp/22", "--why", "")
    assert done.returncode == 64 and "auditor" in done.stderr


def test_an_empty_history_says_what_to_do(sekisho, look, tmp_path):
    empty, state = Recording().write(tmp_path / "empty.pcap"), tmp_path / "state"
    assert sekisho("learn", empty, "--state", state).returncode == 0
    html, data = written(sekisho, state, tmp_path / "out.html")
    assert data["conversations"] == [] and data["devices"] == []
    page = look(html)
    assert page.is_good, page.root
    for part in (f"sekisho learn CAPTURE.pcap --state {state}", "nothing was observed", "nothing waits"):
        assert part in page.text, part


@pytest.mark.optional_input
@pytest.mark.parametrize("folder", ["labelled", "ics"])
def test_recorded_plants_are_shown(folder, sekisho, look, tmp_path):
    captures = sorted((CAPTURES / folder).glob("*.pcap*")) if CAPTURES.is_dir() else []
    if not captures:
        pytest.skip(f"needs captures in {CAPTURES / folder}")
    assert sekisho("learn", *captures, "--state", tmp_path / "state", timeout=300).returncode == 0
    html, data = written(sekisho, tmp_path / "state", tmp_path / "out.html")
    check_numbers(data, json.loads(sekisho("baseline", "--state", tmp_path / "state", "--json").stdout))
    page = look(html)
    assert page.is_good, page.root
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))


# --- Names that would break a careless page ----------------------------------------------------------------------

NASTY = '</script><script>document.documentElement.dataset.error="run"</script><img src=x onerror=alert(1)>&amp;"\'`${1}\u2028\u2029'


def test_hostile_names_are_text(recording, sekisho, look, tmp_path):
    capture, state = tmp_path / 'a"<img src=x onerror=alert(1)>\u2028.pcap', tmp_path / "state"
    capture.write_bytes(recording.read_bytes())
    assert sekisho("learn", capture, "--state", state).returncode == 0
    assert sekisho("period", NASTY, "--state", state, "--since", "2026-01-05", "--until", "2026-01-06").returncode == 0
    done = sekisho("reject", "--state", state, "--from", LAPTOP, "--service", "ssh", "--why", NASTY, "--who", NASTY)
    assert done.returncode == 0, done.stderr
    html, data = written(sekisho, state, tmp_path / "out.html")
    page = look(html)
    assert page.is_good, page.root
    assert NASTY in page.text and capture.name in page.text
    assert not any(tag == "img" or "onerror" in a for tag, a, _ in page.elements)
    assert sum(tag == "script" for tag, _, _ in page.elements) == 3, "the data, the page's own, the one of look()"


def test_data_that_is_not_as_it_should_be(look):
    data = plant(3)
    data["state"], data["options"], data["zone"] = NASTY, [NASTY, None], NASTY
    data["devices"][0].update(address=NASTY, name=NASTY, role=NASTY, mac=[NASTY], week=99, complete=None)
    data["devices"][1].update(address="fd00:1234:5678:9abc:def0:1234:5678:9abc", role="__proto__")
    data["conversations"][0].update(service=NASTY, known=NASTY, state="constructor", review=[{"name": NASTY, "text": NASTY}, None], connections=None, first=None)
    data["conversations"] += [{"client": 0, "server": 99_999}, None, {"client": 1, "server": 1, "state": "waiting", "service": "tcp/1"}]
    data["curve"], data["observed"], data["weeks"] = [{}, None, {"begin": NASTY, "new": "x"}], [1, None, "x"], [None, 5]
    data["complete"]["expected_more_bound"] = 1e9
    page = look(data, then=EVERYTHING)
    assert page.is_good, page.root
    assert page.text.count(NASTY) >= 5
    assert not any(tag == "img" or "onerror" in a for tag, a, _ in page.elements)
    assert not re.search(r"NaN|undefined|\[object", page.text + str(page.elements))


@pytest.mark.parametrize("data, message", [
    ({"schema": "sekisho-tea", "schema_version": 1}, "cannot show data of the kind “sekisho-tea”"),
    ({"schema": "sekisho-baseline", "schema_version": 2}, "cannot show version 2 of sekisho-baseline"),
    ([], "cannot show data of the kind “”"),
], ids=["schema", "version", "list"])
def test_unknown_data_is_refused_with_a_message(look, data, message):
    page = look(data)
    assert message in page.text and message in page.root["data-error"]


# --- Using it ----------------------------------------------------------------------------------------------------

# Selects every node and line, opens what can be opened, makes every choice, sorts by every column.
EVERYTHING = """
const click = (e, type = "click") => e.dispatchEvent(new MouseEvent(type, { bubbles: true, clientX: 90, clientY: 90 }));
const each = (selector, act) => [...document.querySelectorAll(selector)].forEach(act);
each(".node", e => { e.dispatchEvent(new PointerEvent("pointermove", { clientX: 50, clientY: 50 })); click(e); });
each(".hit", e => { click(e); });
each(".cell", e => e.dispatchEvent(new PointerEvent("pointermove", { clientX: 50, clientY: 50 })));
each("thead button", e => { click(e); click(e); });
each("input[type=radio]", e => e.click());
each("select", s => { for (let i = s.options.length - 1; i >= 0; i--) { s.selectedIndex = i; s.dispatchEvent(new Event("change")); } });
for (let round = 0; round < 3; round++) { const plus = document.querySelector(".node g[role=button]"); if (plus) click(plus); }
const search = document.querySelector("#graph input[type=search]");
if (search) for (const words of ["10.", "no such thing", ""]) { search.value = words; search.dispatchEvent(new Event("input")); }
const svg = document.querySelector(".graph svg");
if (svg) for (const key of ["ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp", "Enter", "+", "ArrowDown", "Escape"]) svg.dispatchEvent(new KeyboardEvent("keydown", { key }));
"""

SELECT = """
const node = [...document.querySelectorAll(".node")].find(n => n.getAttribute("aria-label").includes(%s));
node.dispatchEvent(new MouseEvent("click", { bubbles: true }));
document.body.append(Object.assign(document.createElement("p"), { id: "said", textContent: "SAID " + document.querySelector("aside").textContent +
  " WEEK " + document.querySelector("#week").textContent }));
"""


def test_selecting_shows_a_devices_conversations(learnt, sekisho, look, tmp_path):
    html, data = written(sekisho, learnt, tmp_path / "out.html")
    page = look(html, then=SELECT % json.dumps(TOOLS[0]))
    assert page.is_good, page.root
    said = page.text[page.text.index("SAID "):]
    for part in (f"equipment-{TOOLS[0].replace('.', '-')}", f"← {MES} hsms tcp/5000", f"→ {NTP} ntp udp/123", f"← {LAPTOP} ssh tcp/22", "look at: ", f"of them with {TOOLS[0]}"):
        assert part in said, part
    # The laptop's lines to the other tools have stepped back; this tool's have not.
    lines = [a for tag, a, _ in page.elements if tag == "g" and any(s in a.get("class", "").split() for s in ("proposed", "waiting"))]
    assert any("dim" in a["class"] for a in lines) and any("dim" not in a["class"] for a in lines)


def test_everything_can_be_used(learnt, sekisho, look, tmp_path):
    html, _ = written(sekisho, learnt, tmp_path / "out.html")
    page = look(html, then=EVERYTHING)
    assert page.is_good, page.root
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))


# --- A thousand devices ------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_equal_devices_are_drawn_as_one_and_open(look):
    data = plant(700)
    assert len(data["devices"]) > 1_000
    page = look(data, then="document.body.dataset.took = performance.now();")
    assert page.is_good, page.root
    folded = len(classed(page, "node"))
    assert 5 <= folded <= 40
    assert "330 controllers" in page.text
    took = next(float(a["data-took"]) for tag, a, _ in page.elements if tag == "body")
    assert took < 8_000, "ms until the page stands"
    opened = look(data, then="document.querySelector('.node g[role=button]').dispatchEvent(new MouseEvent('click', { bubbles: true }));")
    assert opened.is_good and len(classed(opened, "node")) > folded
    page = look(data, then=EVERYTHING)
    assert page.is_good, page.root


def test_the_same_data_give_the_same_picture(look):
    data = plant(60)
    assert look(data).dom == look(data).dom


# --- How it looks ------------------------------------------------------------------------------------------------


def test_light_and_dark_are_drawn(look):
    data = plant(12)
    light, dark = (look(data, *flags, picture=name, size=(1300, 1800))[1] for name, flags in (("light", ()), ("dark", (DARK,))))
    for picture in (light, dark):
        for top in range(0, 1500, 300):
            assert len(picture.colours(top, top + 300)) > 12, f"blank from line {top} on"
    assert light.luminance() > 200 and dark.luminance() < 50


@pytest.mark.parametrize("tools", [3, 700])
def test_a_narrow_screen_does_not_scroll_sideways(look, tools):
    page = look(plant(tools), size=(400, 900), frame=True)
    assert page.root["data-ready"] == "true"
    assert int(page.root["data-width"]) == 400
