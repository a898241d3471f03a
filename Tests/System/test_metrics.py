"""What Prometheus is told is what status says, read by Prometheus' own parser."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from feeding import free_port, page_of, samples, samples_of, wait_for
from test_alerts import HOST, LAPTOP, POLICY, TOOL, scan, syn, watching  # noqa: F401

PACKAGING = pathlib.Path(__file__).parents[2] / "packaging"
RULES, DASHBOARD = PACKAGING / "prometheus-rules.yml", PACKAGING / "grafana-dashboard.json"

def test_metrics_are_what_status_says(sekisho, watching, folder):  # noqa: F811
    running, net = watching(POLICY.replace('id = "link"', r'id = "li\"n\\k"'), "--mode", "enforce")
    net.a.send(*[syn(HOST, TOOL, 5000, 40_000 + number) for number in range(7)])
    scan(net, LAPTOP)
    running.wait_for(lambda: running.status()["detection"]["open"] == 1, "an alert")
    assert sekisho("quarantine", "02:00:00:00:00:66", "--why", "x", "--control", running.socket).returncode == 0
    done = sekisho("metrics", "--control", running.socket)
    assert done.returncode == 0, done.stderr
    told, status = samples(done.stdout), running.status()
    assert told["sekisho_rule_frames_total", (("rule", 'li"n\\k'),)] == 7
    assert told["sekisho_frames_total", (("direction", "outside_to_inside"), ("result", "received"))] == status["directions"]["outside_to_inside"]["received"]["frames"]
    assert {dict(labels)["cause"]: value for (name, labels), value in told.items() if name == "sekisho_denied_frames_total"} == {
        one["cause"]: one["frames"] for one in status["denied"]}
    assert told["sekisho_judging", (("by", "worker"),)] == 1 and told["sekisho_alerts_open", ()] == 1 and told["sekisho_quarantined_devices", ()] == 1
    assert told["sekisho_isolated", ()] == 0 and told["sekisho_port_up", (("port", "in0"), ("side", "inside"))] == 1
    # Counters are called so, and everything has its help.
    for family in text_string_to_metric_families(done.stdout):
        assert family.documentation and (family.type == "counter") == any(one.name.endswith("_total") for one in family.samples)
    file = folder / "sekisho.prom"
    assert sekisho("metrics", "-o", file, "--control", running.socket).returncode == 0
    assert samples(file.read_text()).keys() == told.keys()
    if shutil.which("promtool"):
        assert subprocess.run(["promtool", "check", "metrics"], input=done.stdout, text=True).returncode == 0
        assert subprocess.run(["promtool", "check", "rules", RULES]).returncode == 0


def test_without_a_bridge_it_is_said(sekisho, folder):
    done = sekisho("metrics", "--control", folder / "nobody", "-o", folder / "kept")
    assert done.returncode == 1 and done.stderr and not (folder / "kept").exists()


# --- /metrics of the feed ----------------------------------------------------------------------------------------

LISTEN = """
version = 1
[metrics]
listen = "127.0.0.1:{}"
"""


def expressions(dashboard):
    """Every PromQL expression of its panels, with the panel's title."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_dashboard_and_rules_ask_for_what_there_is(sekisho, feed, watching, folder):  # noqa: F811
    """Why: a panel that asks for a name that nobody tells stays empty, and an alert like that stays silent."""
    failing = POLICY.replace("version = 1", 'version = 1\non_failure = "closed"', 1)
    running, net = watching(failing.replace("version = 1", 'version = 1\nmode = "monitor"', 1))
    scan(net, LAPTOP)
    running.wait_for(lambda: running.would_deny(), "what would be denied")
    assert running.apply(failing).returncode == 0
    scan(net, LAPTOP, first=43_000)
    net.a.send(*[syn(HOST, TOOL, 5000, 40_000 + number) for number in range(7)])
    # A time in which nobody judged.
    running.process.send_signal(signal.SIGSTOP)
    children = subprocess.run(["pgrep", "-P", str(running.process.pid)], capture_output=True, text=True).stdout.split()
    for pid in children:
        os.kill(int(pid), signal.SIGSTOP)
    for number in range(20):
        net.a.send(syn(HOST, TOOL, 5000, 41_000 + number), pause=0.05)
    for pid in [*children, running.process.pid]:
        os.kill(int(pid), signal.SIGCONT)

    # With the next frame it is over.
    def is_over():
        net.a.send(syn(HOST, TOOL, 5000, 41_500))
        return running.status()["judging"]["now"] == "worker"

    running.wait_for(is_over, "the worker")
    assert running.denied()
    port = free_port()
    fed = feed(folder / "state", LISTEN.format(port) + f"""
        [[file]]
        name = "lines"
        path = "{folder}/lines"
        [[ipfix]]
        name = "flows"
        to = "udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        """, "--control", running.socket)
    wait_for(lambda: len([name for name, _ in samples_of(port) if name == "sekisho_feed_destination_up"]) == 2, "both destinations", fed)
    text = page_of(port)
    there = {name for name, _ in samples(text)}
    assert samples(text)[("sekisho_up", ())] == 1
    asked = {(f"rule {name}", name) for name in re.findall(r"sekisho_\w+", RULES.read_text())}
    dashboard = json.loads(DASHBOARD.read_text())
    asked |= {(title, name) for title, expression in expressions(dashboard) for name in re.findall(r"sekisho_\w+", expression)}
    assert len(asked) > 30
    assert not [one for one in asked if one[1] not in there]
    # Labels that legends and rules name are those of the metrics.
    labels = {}
    for name, pairs in samples(text):
        labels.setdefault(name, {"instance", "job"}).update(key for key, _ in pairs)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            [metric] = set(re.findall(r"sekisho_\w+", target["expr"]))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels[metric], panel["title"]
            assert 'instance=~"$instance"' in target["expr"]
    if shutil.which("promtool"):
        assert subprocess.run(["promtool", "check", "metrics"], input=text, text=True).returncode == 0
        # Expressions are PromQL, once Grafana has put its own words in.
        rules = {"groups": [{"name": "panels", "rules": [
            {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".+")}
            for number, (_, expression) in enumerate(expressions(dashboard))]}]}
        (folder / "panels.yml").write_text(json.dumps(rules))
        done = subprocess.run(["promtool", "check", "rules", folder / "panels.yml"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_can_be_imported():
    """Why: Grafana says little about a file that it does not like."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert dashboard["schemaVersion"] >= 36 and dashboard["title"] and "id" not in dashboard
    assert len({one["id"] for one in panels}) == len(panels)
    variables = {one["name"]: one["type"] for one in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    # Of no particular installation.
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text()))
    assert used <= {*variables, "__rate_interval"}
    assert all(one["datasource"]["uid"] == "${datasource}" for one in panels if one["type"] != "row")
    taken = set()
    for one in panels:
        place = one["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, one["title"]
        taken |= cells


def test_without_a_bridge_the_page_says_so(feed, folder):
    """Why: a page that fails looks like a network that fails."""
    port = free_port()
    fed = feed(folder / "state", LISTEN.format(port))
    wait_for(lambda: samples_of(port), "the page", fed)
    assert samples_of(port) == {("sekisho_up", ()): 0}


def ask(port, method, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_only_what_there_is_is_answered(feed, folder):
    port = free_port()
    fed = feed(folder / "state", LISTEN.format(port))
    wait_for(lambda: samples_of(port), "the page", fed)
    answer, body = ask(port, "GET", "/metrics?x=1")
    assert answer.status == 200 and body and answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.getheader("Connection") == "close" and int(answer.getheader("Content-Length")) == len(body)
    answer, body = ask(port, "HEAD", "/metrics")
    assert answer.status == 200 and body == b"" and int(answer.getheader("Content-Length")) > 0
    for method, path, status in (("GET", "/", 404), ("GET", "/metrics/", 404), ("GET", "/../metrics", 404), ("POST", "/metrics", 405), ("DELETE", "/x", 405)):
        assert ask(port, method, path)[0].status == status
    # Nobody who speaks another language, or too much, is listened to.
    for said in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET /metrics HTTP/9.9\r\n\r\n", b"\r\n" * 40_000,
                 b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000, b"GET /" + b"a" * 100_000, b"POST /metrics HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", port), timeout=15) as one:
            try:
                one.sendall(said)
                heard = b""
                while data := one.recv(65536):
                    heard += data
            except ConnectionError:
                heard = b""
            assert b" 200 " not in heard
    assert samples_of(port)
    fed.stop()


def test_the_slow_and_the_many_keep_nobody_out(feed, folder):
    """Why: whoever reaches the port could else switch the monitoring off."""
    port = free_port()
    fed = feed(folder / "state", LISTEN.format(port))
    wait_for(lambda: samples_of(port), "the page", fed)
    slow = [socket.create_connection(("127.0.0.1", port), timeout=15) for _ in range(200)]
    for one in slow:
        try:
            one.sendall(b"GET /metrics HTTP/1.1\r\nX-A: ")
        except ConnectionError:
            pass
    # Those who ask are answered meanwhile.
    for _ in range(5):
        assert samples_of(port)
    # And the slow ones are hung up on, though they go on.
    for one in slow:
        end = time.monotonic() + 15
        one.settimeout(0.1)
        while True:
            assert time.monotonic() < end, "a slow client was not cut off"
            try:
                one.sendall(b"b")
                if one.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        one.close()
    descriptors = len(os.listdir(f"/proc/{fed.process.pid}/fd"))
    assert descriptors < 60
    assert samples_of(port)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_with_a_token_over_tls(feed, sekisho, folder):
    """Why: on a network with others, names of rules and tools are not for everybody."""
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"], capture_output=True)
    assert done.returncode == 0, done.stderr
    token = "0123456789abcdef0123456789abcdef"
    (folder / "token").write_text(token + "\n")
    port = free_port()
    text = LISTEN.format(port) + f'token_file = "{folder}/token"\ncertificate = "{folder}/certificate.pem"\nkey = "{folder}/key.pem"\n'
    fed = feed(folder / "state", text)
    wait_for(lambda: "metrics: at https://127.0.0.1:" in fed.said(), "the listener", fed)
    trust = ssl.create_default_context(cafile=folder / "certificate.pem")

    def status(**headers):
        request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=15, context=trust) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as problem:
            return problem.code, b""

    assert status()[0] == 401 and status(Authorization="Bearer " + token[:-1])[0] == 401 and status(Authorization=token)[0] == 401
    code, body = status(Authorization=f"Bearer {token}")
    assert code == 200 and b"sekisho_up 0" in body
    # Those without a token who stay on the line, with and without an answer, keep nobody out.
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    staying = []
    for number in range(80):
        one = socket.create_connection(("127.0.0.1", port), timeout=15)
        staying.append(one)
        try:
            staying[-1] = one = blind.wrap_socket(one)
            if number % 2:
                one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 401 " in one.recv(65536)
        except OSError:
            continue
    assert status(Authorization=f"Bearer {token}")[0] == 200
    # Who had to go for another is gone.
    assert len(os.listdir(f"/proc/{fed.process.pid}/fd")) < 60
    for one in staying:
        one.close()
    # A token that anybody can guess, or none, is no token: said before anything starts.
    (folder / "token").write_text("short\n")
    (folder / "feeds.toml").write_text(text)
    done = sekisho("feed", "--check", "--config", folder / "feeds.toml")
    assert done.returncode == 1 and "has no token" in done.stderr
    (folder / "key.pem").write_text("nothing")
    (folder / "token").write_text(token)
    done = sekisho("feed", "--check", "--config", folder / "feeds.toml")
    assert done.returncode == 1 and "cannot be used" in done.stderr


@pytest.mark.alone
@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
def test_prometheus_scrapes_it_while_the_wire_is_flooded(feed, watching, folder):  # noqa: F811
    """Why: a flood is when it is looked at, and looking at it must cost the wire nothing."""
    running, net = watching(POLICY, "--mode", "enforce")
    port, own = free_port(), free_port()
    fed = feed(folder / "state", LISTEN.format(port), "--control", running.socket)
    wait_for(lambda: samples_of(port), "the page", fed)
    # Ten that scrape every half second, as ten jobs.
    jobs = [{"job_name": f"sekisho-{number}", "scrape_interval": "500ms", "scrape_timeout": "500ms",
             "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for number in range(10)]
    (folder / "prometheus.json").write_text(json.dumps({"rule_files": [str(RULES)], "scrape_configs": jobs, "global": {"evaluation_interval": "1s"}}))
    with open(folder / "prometheus.log", "wb") as log:
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{own}"],
            stdout=log, stderr=log)

    def query(expression):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/query?" + urllib.parse.urlencode({"query": expression}), timeout=10) as answer:
                return {one["metric"].get("job"): float(one["value"][1]) for one in json.load(answer)["data"]["result"]}
        except OSError:
            return {}

    try:
        wait_for(lambda: len(query("sekisho_up == 1")) == 10, "Prometheus", fed, timeout=60)
        # What passes, among denied frames, as fast as the sender can; and four more who ask without a pause.
        def hammer():
            asked = 0
            while not is_over:
                assert samples(page_of(port))[("sekisho_up", ())] == 1
                asked += 1
            return asked

        is_over, sent = False, 0
        with concurrent.futures.ThreadPoolExecutor() as pool:
            hammers = [pool.submit(hammer) for _ in range(4)]
            try:
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    net.a.send(*[syn(LAPTOP, TOOL, 445, 42_000 + number) for number in range(50)])
                    net.a.send(syn(HOST, TOOL, 5000, 40_000 + sent % 1000))
                    sent += 1
            finally:
                is_over = True
            asked = [one.result() for one in hammers]
        assert min(asked) > 0
        wait_for(lambda: set(query('sekisho_rule_frames_total{rule="link"}').values()) == {sent}, "Prometheus to have it all", fed)
        assert set(query('sekisho_denied_frames_total{cause!=""} > 0').values()) == {running.status()["denied"][0]["frames"]} == {50 * sent}
        # Nothing was lost on the wire, and no scrape failed.
        lost = running.status()["ports"]["outside"]["lost"]
        assert sum(lost.values()) == 0
        assert set(query("min_over_time(up[30s])").values()) == {1}
        assert set(query('ALERTS{alertname="SekishoAlert"}')) and not query('ALERTS{alertname="SekishoDoesNotAnswer"}')
    finally:
        prometheus.terminate()
        prometheus.wait(20)
