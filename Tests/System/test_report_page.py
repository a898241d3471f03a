"""The HTML report: what it says for good, hostile, old and missing data, in both themes and two widths.

The page is opened in Debian's Chromium, as a reader would. It needs no bridge and no root.
"""

import html.parser
import json
import re
import shutil
import subprocess
import zlib

import pytest

from conftest import ROOT

TEMPLATE = ROOT / "Sources" / "Measure" / "Report" / "report.html"
DATA = ROOT / "Tests" / "System" / "data"
PLACE = "__SEKISHO_DATA__"
DARK = "--blink-settings=preferredColorScheme=0"  # 0 is dark, 1 is light


def fixture(name):
    return json.loads((DATA / f"{name}.json").read_text())


# --- Opening a page ----------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """The DOM as the browser left it: the attributes of <html>, and what stands inside what."""

    void = {"meta", "input", "br", "link", "img", "hr"}

    def __init__(self, dom):
        super().__init__()
        self.root, self.open, self.elements, self.words = {}, [], [], []
        self.feed(dom)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "html":
            self.root = attributes
        self.elements.append((tag, attributes, tuple(a.get("data-chart") for _, a in self.open)))
        if tag not in self.void:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if not any(tag in ("script", "style", "noscript") for tag, _ in self.open):
            self.words.append(data)

    def count(self, tag, of_class, in_chart):
        return sum(t == tag and of_class in a.get("class", "").split() and in_chart in charts
                   for t, a, charts in self.elements)

    @property
    def is_good(self):
        return self.root.get("data-ready") == "true" and "data-error" not in self.root


@pytest.fixture
def show(tmp_path):
    """show(data, …) fills the template and opens it: the page as it came out, and its picture if a size is asked for."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs the program chromium (apt install chromium)")

    def run(data, *flags, size=(1200, 2600), picture=None, frame=False, then=""):
        page, shot = tmp_path / "report.html", tmp_path / f"{picture}.png"
        filling = data if isinstance(data, str) else json.dumps(data)
        page.write_text(TEMPLATE.read_text().replace(PLACE, filling.replace("<", "\\u003c")) + f"<script>{then}</script>")
        if frame:  # a window is never narrower than 500 px; a frame in it is
            page = tmp_path / "frame.html"
            page.write_text(f'<body style="margin:0"><iframe src="report.html" style="border:0;width:{size[0]}px;'
                            f'height:{size[1]}px" onload="const d = contentDocument.documentElement;'
                            'document.documentElement.dataset.ready = d.dataset.ready;'
                            'document.documentElement.dataset.width = d.scrollWidth"></iframe>')
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--disable-background-networking", "--allow-file-access-from-files", f"--user-data-dir={tmp_path}/profile",
             f"--window-size={size[0]},{size[1]}", *flags, *([f"--screenshot={shot}"] if picture else []),
             "--dump-dom", page.as_uri()],
            capture_output=True, text=True, errors="replace", timeout=120, cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"})
        assert done.returncode == 0 and "<html" in done.stdout, done.stderr[-2000:]
        result = Page(done.stdout)
        return (result, Picture(shot.read_bytes())) if picture else result

    return run


class Picture:
    """A PNG of eight bits a channel, decoded with what Python has."""

    def __init__(self, png):
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        at, packed = 8, b""
        while at < len(png):
            length, kind = int.from_bytes(png[at:at + 4], "big"), png[at + 4:at + 8]
            body = png[at + 8:at + 8 + length]
            if kind == b"IHDR":
                self.width, self.height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
                assert body[8] == 8 and body[9] in (2, 6) and body[12] == 0, "not plain RGB or RGBA"
                self.channels = 3 if body[9] == 2 else 4
            elif kind == b"IDAT":
                packed += body
            at += length + 12
        raw, wide, step = zlib.decompress(packed), self.width * self.channels, self.channels
        self.rows, above = [], bytes(wide)
        for y in range(self.height):
            start = y * (wide + 1)
            above = self._unfiltered(raw[start], bytearray(raw[start + 1:start + 1 + wide]), above, step)
            self.rows.append(above)

    @staticmethod
    def _unfiltered(kind, line, above, step):
        if kind == 2 and not any(line):  # most lines of a page: the same as the one above
            return above
        for i in range(len(line) if kind else 0):
            left, up = line[i - step] if i >= step else 0, above[i]
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            else:
                corner = above[i - step] if i >= step else 0
                a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                guess = left if a <= b and a <= c else up if b <= c else corner
            line[i] = (line[i] + guess) & 255
        return bytes(line)

    def pixel(self, x, y):
        return tuple(self.rows[y][x * self.channels:x * self.channels + 3])

    def colours(self, top, bottom):
        return {self.pixel(x, y) for y in range(top, bottom, 2) for x in range(0, self.width, 2)}

    def luminance(self):
        """Of the page's ground: its left edge."""
        red, green, blue = self.pixel(1, self.height // 2)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# --- The file itself ---------------------------------------------------------------------------------------------


def test_the_template_has_one_place_and_fetches_nothing():
    text = TEMPLATE.read_text()
    assert text.count(PLACE) == 1
    assert f'<script type="application/json" id="data">{PLACE}</script>' in text
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text, "the browser is to refuse what we forgot"
    assert not re.search(r'\b(src|srcset|href|data|action)\s*=\s*["\'](?!#)', text), "a resource outside this file"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bfetch\b", text)


# --- The report of a benchmark -----------------------------------------------------------------------------------


def test_a_benchmark_is_shown_whole(show):
    data = fixture("bench")
    page = show(data)
    assert page.is_good, page.root
    for forwarder in data["forwarders"]:
        assert forwarder["title"] in page.text
        assert not forwarder["skipped"] or f"skipped: {forwarder['skipped']}" in page.text
    for result in data["throughput"]:
        if result["scenario"] == "base":
            assert f"{result['pdr_fps']['median']:,}" in page.text
            assert f"{result['ndr_fps']['median']:,}" in page.text
            assert f"{result['ratio_pdr']['bridge-nft']['median']:.2f}" in page.text
    for bar in data["bars"]:
        assert bar["what"] in page.text and bar["shown"] in page.text
    assert page.text.count("✓ held") == 4 and page.text.count("✗ missed") == 1 and page.text.count("– not measured") == 1
    for part in (data["command"], data["machine"]["cpu"], "2 cores", "2026-11-24 22:00 UTC", "2 min 41 s",
                 data["machine"]["notes"][0], data["bed"]["text"]):
        assert part in page.text, part


def test_a_benchmark_draws_every_series(show):
    data = fixture("bench")
    page = show(data)
    measured = sum(not f["skipped"] for f in data["forwarders"])
    assert measured == 8
    assert page.count("rect", "bar", "throughput") == measured
    assert page.count("path", "whisker", "throughput") == measured
    for chart in ("percentiles", "rules", "flows"):
        assert page.count("path", "line", chart) == measured, chart
        assert page.count("path", "mark", chart) == measured, chart
    for chart, swaps in (("timeline-swaps", 7), ("timeline-quiet", 0)):
        assert page.count("path", "line", chart) == 3, chart
        assert page.count("path", "swaphead", chart) == swaps, chart
    charts = [a for tag, a, _ in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(charts) == 6 and all(a["aria-label"] and a["tabindex"] == "0" for a in charts)
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))


def test_what_is_missing_is_said(show):
    page = show({"schema": "sekisho-bench", "schema_version": 1})
    assert page.is_good, page.root
    for sentence in ("No targets were set", "No throughput was measured", "No latency was measured",
                     "No scenarios differ only in their number of rules", "number of flows", "No run with swaps was made",
                     "The data names no forwarder"):
        assert sentence in page.text, sentence


def test_scenarios_that_differ_in_more_than_one_thing_make_no_line(show):
    data = fixture("bench")
    for scenario in data["scenarios"]:
        if scenario["id"].startswith("rules"):
            scenario["traffic"]["frame"] = "1500"
    page = show(data)
    assert page.is_good, page.root
    assert page.count("path", "line", "rules") == 0 and page.count("path", "line", "flows") == 8
    assert "No scenarios differ only in their number of rules" in page.text


# --- Data that would break a careless page -----------------------------------------------------------------------

NASTY = '</script><script>document.documentElement.dataset.error="run"</script><img src=x onerror=alert(1)>&amp;"\'`${1}'


def hostile():
    data = fixture("bench")
    data["forwarders"][0]["title"] = NASTY
    data["forwarders"][1]["title"] = "a very long title " * 60
    data["forwarders"][2]["id"] = "__proto__"  # and so there is no baseline, and results of one that is not listed
    data["forwarders"][3] = {"id": "only-an-id"}
    data["forwarders"].append(None)
    data["command"], data["machine"]["cpu"] = NASTY, "W" * 3000
    data["machine"]["notes"] = [None, {"a": [1]}, NASTY]
    data["scenarios"][0]["title"] = NASTY * 3
    data["scenarios"][1]["traffic"] = None
    base = [r for r in data["throughput"] if r["scenario"] == "base"]
    base[0].update(pdr_fps=None, ndr_fps=None, cpu_ns_per_frame=None, ratio_pdr=None, ratio_cpu=[])
    base[1]["pdr_fps"] = {"median": 0, "min": 0, "max": 0, "rounds": []}
    base[2]["pdr_fps"] = {"median": 5.0, "min": 5.0, "max": 5.0, "rounds": [5.0]}
    base[3]["pdr_fps"] = {"median": "many", "min": None, "max": None, "rounds": None}
    base[4]["ratio_pdr"] = {}
    base[5].update(pdr_fps=[1, 2], denied_crossed=None)
    for i, entry in enumerate(data["latency"]):
        entry["percentiles"] = [[], None, [[50.0, 0], [100.0, 0]], [[100.0, 5]], [["x", "y"], [1], None, [50, None]],
                                [[99.0, 10], [50.0, 3], [50.0, 3]], [[50.0, 1e15], [99.0, -4]]][i % 7]
        entry.update(p50_ns=None, p90_ns=0, max_ns=-1, lost=None, count=[0, 1, None, 2][i % 4])
    data["latency"].append({"forwarder": NASTY, "load": NASTY})
    data["swaps"][0]["timeline"] = [[0.0, 0, 0, 0], [None, 1, 1, 1], [1.0, None, 5], "x", []]
    data["swaps"][0]["swap_times_s"] = [-1, 0.5, 1e9, "soon", None]
    data["swaps"][1]["timeline"] = None
    data["swaps"].append({"forwarder": "nobody", "with_swaps": True})
    data["bars"] = [{"what": NASTY, "bar": None, "value": None, "shown": None, "held": None}, {}, 7, None]
    return data


def test_hostile_data_does_not_break_a_benchmark(show):
    page, picture = show(hostile(), picture="hostile", size=(1200, 900))
    assert page.is_good, page.root
    assert page.text.count(NASTY) >= 6, "shown as it is"
    assert not any(tag == "img" or "onerror" in a for tag, a, _ in page.elements)
    assert sum(tag == "script" for tag, _, _ in page.elements) == 3, "the data, the page's own, the one of show()"
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))
    assert len(picture.colours(0, 900)) > 20


@pytest.mark.parametrize("key", ["machine", "bed", "forwarders", "scenarios", "throughput", "latency", "swaps", "bars"])
def test_no_part_of_a_benchmark_is_needed(show, key):
    data = fixture("bench")
    data[key] = "text"
    page = show(data)
    assert page.is_good, page.root
    assert data["command"] in page.text


@pytest.mark.parametrize("data, message", [
    ({"schema": "sekisho-tea", "schema_version": 1}, "cannot show data of the kind “sekisho-tea”"),
    ({"schema": "toString", "schema_version": 1}, "cannot show data of the kind “toString”"),
    ({"schema": "sekisho-bench", "schema_version": 2}, "cannot show version 2 of sekisho-bench"),
    ([], "cannot show data of the kind “”"),
    (PLACE, "holds no readable data"),
], ids=["schema", "inherited", "version", "list", "unfilled"])
def test_unknown_data_is_refused_with_a_message(show, data, message):
    page = show(data)
    assert message in page.text and message in page.root["data-error"]
    assert "data-ready" not in page.root


# --- The report of a running bridge ------------------------------------------------------------------------------


def test_a_running_bridge_is_shown_whole(show):
    data = fixture("latency")
    page = show(data)
    assert page.is_good, page.root
    assert page.text.count("✓ held") == 1 and page.text.count("✗ missed") == 1 and page.text.count("– not measured") == 1
    for part in (data["command"], "litho-bay-3", "enp1s0", "Of every 64 frames", "over 60 s", "p99=50us", "92,000", "2,100",
                 "outside → inside", "inside → outside"):
        assert part in page.text, part
    for series in data["series"]:
        assert f"{series['mean_ns'] / 1000:.2f}" in page.text
    # Two directions, two verdicts of one stage; one histogram, which is one path.
    assert page.count("path", "line", "percentiles") == 4
    assert page.count("path", "bar", "histogram") == 1


def test_hostile_data_does_not_break_a_running_bridge(show):
    data = fixture("latency")
    data["bridge"] = {"inside": NASTY, "policy": None}
    data["slo"] = [None, {}, {"text": NASTY, "held": False, "measured_ns": None}]
    first, second, third, *rest = data["series"]
    first.update(buckets=[[0, 0, 5], [0, 1, 2], [7, 3, 1], [1, 2], None, [1, 2, None], [1e15, 2e15, 1e15]], mean_ns=None)
    second.update(buckets=None, percentiles=None, stage=NASTY)
    third.update(buckets=[], percentiles=[[50.0, 0]], count=0, direction="__proto__")
    data["series"] = [None, first, second, third, {}, *rest]
    page = show(data)
    assert page.is_good, page.root
    assert page.text.count(NASTY) >= 3
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))

    page = show({"schema": "sekisho-latency", "schema_version": 1})
    assert page.is_good, page.root
    for sentence in ("No objectives were given", "No frame was timed", "There are no histograms"):
        assert sentence in page.text, sentence


# --- Using it ----------------------------------------------------------------------------------------------------

# Makes every choice there is, twice over since a choice may bring others, and asks every chart for its tooltips, by
# pointer and by keyboard. What the tooltips said is left in the document.
EVERYTHING = """
const said = [];
for (let round = 0; round < 2; round++) {
  for (const radio of document.querySelectorAll("input[type=radio]")) { radio.click(); hover(); }
  for (const select of document.querySelectorAll("select"))
    for (let i = select.options.length - 1; i >= 0; i--) {
      select.selectedIndex = i; select.dispatchEvent(new Event("change")); hover();
    }
}
function hover() {
  for (const chart of document.querySelectorAll("svg[role=img]")) {
    const box = chart.getBoundingClientRect();
    chart.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2, clientY: box.top + 60 }));
    said.push(document.getElementById("tip").textContent);
    for (const key of ["ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft"]) {
      chart.dispatchEvent(new KeyboardEvent("keydown", { key }));
      said.push(document.getElementById("tip").textContent);
    }
    chart.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    if (!document.getElementById("tip").hidden) throw new Error("the tooltip stays");
  }
}
document.body.append(...[...new Set(said)].map(s => Object.assign(document.createElement("p"), { textContent: s })));
"""


@pytest.mark.parametrize("make, expected", [
    (lambda: fixture("bench"), ["frames/s", "ns of CPU per frame", "% within", " rules", " flows", "µs at"]),
    (lambda: fixture("latency"), ["% within", " frames", "% of all"]),
    (hostile, [NASTY]),
], ids=["bench", "latency", "hostile"])
def test_every_choice_and_tooltip_works(show, make, expected):
    page = show(make(), then=EVERYTHING)
    assert page.is_good, page.root
    said = page.text[page.text.index("with the id “data”"):]
    for part in expected:
        assert part in said, part
    assert not re.search(r"NaN|undefined|Infinity|\[object", page.text + str(page.elements))


# --- How it looks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, size", [("bench", (1200, 2600)), ("latency", (1200, 1700))])
def test_light_and_dark_are_drawn(show, name, size):
    light = show(fixture(name), size=size, picture="light")[1]
    dark = show(fixture(name), DARK, size=size, picture="dark")[1]
    for picture in (light, dark):
        assert (picture.width, picture.height) == size
        for top in range(0, size[1] - 300, 300):
            assert len(picture.colours(top, top + 300)) > 12, f"blank from line {top} on"
    assert light.luminance() > 200 and dark.luminance() < 50


@pytest.mark.parametrize("make", [lambda: fixture("bench"), lambda: fixture("latency"), hostile],
                         ids=["bench", "latency", "hostile"])
def test_a_narrow_screen_does_not_scroll_sideways(show, make):
    page = show(make(), size=(400, 900), frame=True)
    assert page.root["data-ready"] == "true"
    assert int(page.root["data-width"]) == 400
