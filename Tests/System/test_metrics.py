"""What Prometheus is told is what status says, read by Prometheus' own parser."""

import pathlib
import re
import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families

from test_alerts import HOST, LAPTOP, POLICY, TOOL, scan, syn, watching  # noqa: F401

RULES = pathlib.Path(__file__).parents[2] / "packaging" / "prometheus-rules.yml"


def samples(text):
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in text_string_to_metric_families(text) for one in family.samples}


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
    # The rules ask for what there is.
    asked = set(re.findall(r"sekisho_\w+", RULES.read_text()))
    assert asked <= {name for name, _ in told}
    if shutil.which("promtool"):
        assert subprocess.run(["promtool", "check", "metrics"], input=done.stdout, text=True).returncode == 0
        assert subprocess.run(["promtool", "check", "rules", RULES]).returncode == 0


def test_without_a_bridge_it_is_said(sekisho, folder):
    done = sekisho("metrics", "--control", folder / "nobody", "-o", folder / "kept")
    assert done.returncode == 1 and done.stderr and not (folder / "kept").exists()
