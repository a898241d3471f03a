"""`sekisho latency`: what a running bridge says of the time frames take through it."""

import json
import re
import signal
import subprocess
import time

import pytest

import test_bridge
from frames import IP, UDP, Dot1Q, Raw, ether

POLICY = """version = 1
name = "timed"
[[allow]]
id = "udp"
from = "10.0.0.1"
to = "10.0.0.2"
service = "udp/7000"
"""


def asked(number=0, port=7000, **fields):
    return bytes(ether(**fields) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=port) / Raw(number.to_bytes(8, "big") + bytes(12)))


def answered(number=0):
    return bytes(
        ether(source="02:00:00:00:00:0b", destination="02:00:00:00:00:0a")
        / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=7000, dport=9) / Raw(number.to_bytes(8, "big") + bytes(12)))


@pytest.fixture
def timed(bridge, network):
    def start(sample=1, *options, policy=POLICY, net=None):
        return bridge(policy, "--latency-sample", sample, *options, net=net or network())

    return start


def latency(one, sekisho, *options, code=0):
    done = sekisho("latency", "--control", one.socket, *options)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done


def report(one, sekisho, *options):
    return json.loads(latency(one, sekisho, "--json", *options).stdout)


def counts(data):
    return {(s["direction"], s["verdict"], s["stage"]): s["count"] for s in data["series"]}


def send(one, allowed=40, denied=25, replies=30):
    net = one.network
    net.a.send(*[asked(n) for n in range(allowed)], *[asked(n, port=7001) for n in range(denied)])
    net.b.send(*[answered(n) for n in range(replies)])
    crossed = net.b.receive(allowed), net.a.receive(replies)
    one.wait_for(lambda: sum(one.denied().values()) >= denied, "the denied frames")
    return crossed


def test_every_frame_is_timed_and_none_is_changed(timed, sekisho):
    one = timed(1)
    at_tool, at_host = send(one)
    assert at_tool == [asked(n) for n in range(40)]
    assert at_host == [answered(n) for n in range(30)]
    expected = {}
    for stage in ("wait", "work", "total"):
        expected["outside_to_inside", "allowed", stage] = 40
        expected["outside_to_inside", "denied", stage] = 25
        expected["inside_to_outside", "allowed", stage] = 30
    # A frame may be at its end before it is counted.
    one.wait_for(lambda: counts(report(one, sekisho)) == expected, "every frame's time")
    data = report(one, sekisho)
    assert (data["schema"], data["schema_version"], data["sample_one_in"]) == ("sekisho-latency", 1, 1)
    assert counts(data) == expected
    series = {(s["direction"], s["verdict"], s["stage"]): s for s in data["series"]}
    for (direction, verdict, stage), one_series in series.items():
        values = [one_series[key] for key in ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns")]
        assert values == sorted(values) and values[0] > 0
        assert sum(bucket[2] for bucket in one_series["buckets"]) == one_series["count"]
        if stage == "total":
            parts = series[direction, verdict, "wait"]["mean_ns"] + series[direction, verdict, "work"]["mean_ns"]
            assert abs(parts - one_series["mean_ns"]) < 1
            # A real way through a box: not nothing, and not a second.
            assert 500 < one_series["p50_ns"] < 100_000_000


def test_sampling_takes_its_share_and_survives_a_swap(timed, sekisho):
    one = timed(8)
    for round in range(2):
        send(one, allowed=800, denied=0, replies=0)
        count = counts(report(one, sekisho))["outside_to_inside", "allowed", "total"]
        frames = 800 * (round + 1)
        assert frames / 8 * 0.6 < count < frames / 8 * 1.6
        assert one.apply(POLICY.replace("timed", "other")).returncode == 0


def test_a_swap_of_the_policy_changes_nothing_about_it(timed, sekisho):
    """Why: the histograms belong to the workers, which live on; a report that began anew would hide what was slow before."""
    one = timed(1)
    send(one)
    assert one.apply(POLICY.replace("udp/7000", "udp/7000-7001")).returncode == 0
    one.network.a.send(*[asked(n, port=7001) for n in range(9)])
    assert len(one.network.b.receive(9)) == 9
    data = report(one, sekisho)
    assert data["bridge"]["policy_version"] == 2
    assert counts(data)["outside_to_inside", "allowed", "total"] == 49
    assert counts(data)["outside_to_inside", "denied", "total"] == 25


@pytest.mark.parametrize("idle", ["spin", "hybrid", "sleep"])
def test_timed_frames_arrive_byte_for_byte(timed, network, sekisho, idle):
    """Why: the time stands in front of the frame, in its own memory; not one byte of it may show on the wire."""
    one = timed(1, "--idle", idle, policy=test_bridge.POLICY)
    requests, answers = test_bridge.allowed_frames()
    for _ in range(3):  # the same memory again, with the last frame's time in front of it
        one.network.a.send(*requests)
        assert one.network.b.receive(len(requests)) == requests
        one.network.b.send(*answers)
        assert one.network.a.receive(len(answers)) == answers
    seen = counts(report(one, sekisho))
    assert seen["outside_to_inside", "allowed", "total"] == 3 * len(requests)
    assert seen["inside_to_outside", "allowed", "total"] == 3 * len(answers)


def test_frames_in_several_buffers_are_timed_once(timed, network, sekisho):
    """Why: a jumbo frame has one time, in front of its first buffer, and takes the other way through the worker."""
    one = timed(1, policy=test_bridge.POLICY, net=network(mtu=9000))
    request = test_bridge.ether() / IP(**test_bridge.CLIENT) / test_bridge.REQUEST
    frames = [test_bridge.to_length(request, size) for size in (60, 4000, 9014, 1514, 8192)]
    one.network.a.send(*frames)
    assert one.network.b.receive(len(frames)) == frames
    assert counts(report(one, sekisho))["outside_to_inside", "allowed", "total"] == len(frames)


def test_what_monitor_lets_pass_is_timed_as_denied(timed, sekisho):
    """Why: an objective is about what the policy allows; a scan that monitor lets through must not spoil it, or hold it."""
    one = timed(1, "--mode", "monitor")
    one.network.a.send(*[asked(n, port=7001) for n in range(5)])
    assert len(one.network.b.receive(5)) == 5
    assert counts(report(one, sekisho)) == {
        ("outside_to_inside", "denied", stage): 5 for stage in ("wait", "work", "total")}
    latency(one, sekisho, "--slo", "max=10s", code=1)


def test_nothing_is_timed_when_nothing_is_asked_for(timed, sekisho):
    one = timed(0)
    send(one)
    data = report(one, sekisho)
    assert (data["series"], data["sample_one_in"]) == ([], 0)
    assert "start the bridge with --latency-sample" in latency(one, sekisho).stdout
    # What was not measured cannot be held.
    assert "nothing measured" in latency(one, sekisho, "--slo", "p99=10s", code=1).stdout


def test_before_the_first_frame(timed, sekisho):
    """Why: "no frame yet" and "not measuring" are different troubles; neither is an objective held."""
    one = timed(1)
    text = latency(one, sekisho).stdout
    assert "no timed frame yet" in text and "start the bridge with" not in text
    assert "nothing measured" in latency(one, sekisho, "--slo", "p99=10s", code=1).stdout
    assert report(one, sekisho)["series"] == []


@pytest.mark.parametrize("sample", ["-1", "1000001", "often"])
def test_a_wrong_share_is_refused(sekisho, sample):
    done = sekisho("run", "--inside", "a", "--outside", "b", "--policy", "c", f"--latency-sample={sample}")
    assert done.returncode == 64 and "latency-sample" in done.stderr


def test_since(timed, sekisho):
    one = timed(1)
    send(one)
    time.sleep(4.5)
    assert counts(report(one, sekisho, "--since", "3s")) == {}
    one.network.a.send(*[asked(n) for n in range(7)])
    assert len(one.network.b.receive(7)) == 7
    recent = report(one, sekisho, "--since", "3s")
    assert counts(recent) == {("outside_to_inside", "allowed", stage): 7 for stage in ("wait", "work", "total")}
    assert recent["window_s"] <= 4.5
    for series in recent["series"]:
        assert series["max_ns"] >= series["p9999_ns"]
        assert sum(bucket[2] for bucket in series["buckets"]) == 7
    assert counts(report(one, sekisho, "--since", "1m"))["outside_to_inside", "allowed", "total"] == 47
    assert counts(report(one, sekisho))["outside_to_inside", "allowed", "total"] == 47
    # A second later the same, from what was kept.
    time.sleep(1.5)
    assert counts(report(one, sekisho, "--since", "1m"))["outside_to_inside", "allowed", "total"] == 47


def test_objectives(timed, sekisho):
    one = timed(1)
    send(one)
    assert "held" in latency(one, sekisho, "--slo", "p99=10s", "--slo", "max=20s").stdout
    assert "MISSED" in latency(one, sekisho, "--slo", "p50=1ns", code=1).stdout
    latency(one, sekisho, "--slo", "p99=10s", "--slo", "p50=1ns", code=1)
    latency(one, sekisho, "--slo", "p99=1ns", code=1)
    told = report(one, sekisho, "--slo", "p99=10s", "--slo", "max=10s")["slo"]
    assert [objective["held"] for objective in told] == [True, True]
    # In each direction: the worst one counts.
    worst = [max(s[key] for s in report(one, sekisho)["series"] if (s["verdict"], s["stage"]) == ("allowed", "total"))
             for key in ("p99_ns", "max_ns")]
    assert [objective["measured_ns"] for objective in told] == worst
    for wrong in ("p99", "p99=", "=5us", "p99=5", "p0=5us", "p100=5us", "q99=5us", "p99=-5us", "p99=0us", "p99=infus", "p99=nanus",
                  "p99=5us=6us", "max=5min"):
        latency(one, sekisho, f"--slo={wrong}", code=64)
    for wrong in ("3", "s", "-3s", "0s", "3d"):
        latency(one, sekisho, f"--since={wrong}", code=64)


def test_vlan_frames_are_timed_too(timed, sekisho):
    one = timed(1)
    tagged = bytes(ether() / Dot1Q(vlan=12) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=7000) / Raw(bytes(20)))
    one.network.a.send(tagged)
    assert one.network.b.receive(1) == [tagged]
    refused = bytes(ether() / Dot1Q(vlan=12) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=7001) / Raw(bytes(20)))
    one.network.a.send(refused, refused)
    one.wait_for(lambda: sum(one.denied().values()) == 2, "the denied frames")
    seen = counts(report(one, sekisho))
    assert seen["outside_to_inside", "allowed", "total"] == 1
    assert seen["outside_to_inside", "denied", "total"] == 2


def test_the_text_lines_up_and_the_page_holds_the_data(timed, sekisho, tmp_path):
    one = timed(1)
    send(one)
    text = latency(one, sekisho).stdout
    table = [line for line in text.splitlines() if re.search(r"frames|\ballowed\b|\bdenied\b", line)]
    assert len(table) == 10
    assert len({len(line) for line in table}) == 1
    page = tmp_path / "latency.html"
    latency(one, sekisho, "--html", page)
    html = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(\s*["']?https?:""", html), "it needs something from elsewhere"
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])
    assert data["schema"] == "sekisho-latency" and data["bridge"]["policy"] == "timed"
    assert counts(data) == counts(report(one, sekisho))
    failed = latency(one, sekisho, "--html", tmp_path / "missing" / "latency.html", code=1)
    assert "ENOENT" in failed.stderr


def watch(one, binary, *options, seconds=3.2):
    """What it printed until Ctrl-C."""
    watching = subprocess.Popen(
        [binary, "latency", "--watch", "--control", one.socket, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        time.sleep(seconds)
        assert watching.poll() is None, watching.communicate()
        watching.send_signal(signal.SIGINT)
        text, said = watching.communicate(timeout=10)
    finally:
        watching.kill()
    assert said == ""
    return text


def test_watch_draws_again(timed, binary):
    one = timed(1)
    send(one)
    text = watch(one, binary)
    assert 2 <= text.count('policy "timed"') <= 4
    # Each time a histogram of every direction and verdict; the bars' counts are all the frames.
    last = text.split('policy "timed"')[-1]
    for heading, frames in (("outside to inside, queue 0, allowed", 40), ("outside to inside, queue 0, denied", 25),
                            ("inside to outside, queue 0, allowed", 30)):
        drawn = last.split(heading)[1].split("\n\n")[0]
        assert sum(int(line.split()[-1].replace(",", "")) for line in drawn.splitlines() if re.search("[█-▏]", line)) == frames
        assert "█" * 48 in drawn, "the highest bar is not whole"


def test_watch_prints_one_object_a_line(timed, binary, sekisho, tmp_path):
    one = timed(1)
    send(one)
    lines = watch(one, binary, "--json").splitlines()
    assert 2 <= len(lines) <= 4
    assert all(counts(json.loads(line))["outside_to_inside", "allowed", "total"] == 40 for line in lines)
    latency(one, sekisho, "--watch", "--html", tmp_path / "x.html", code=64)


def test_without_a_bridge(sekisho, folder):
    done = sekisho("latency", "--control", folder / "nobody")
    assert done.returncode == 1 and "no bridge runs there" in done.stderr
