"""Alerts of a running bridge: few, of the right device and kind, and soon."""

import json
import signal
import sqlite3
import time

import pytest

from conftest import sh
from frames import ARP, IP, TCP, UDP, Ether, rdpcap
from test_audit import types

HOST, TOOL, LAPTOP = "10.0.0.1", "10.0.0.2", "10.0.0.66"
MACS = {HOST: "02:00:00:00:00:01", TOOL: "02:00:00:00:00:02", LAPTOP: "02:00:00:00:00:66"}

POLICY = f"""
version = 1
name = "alerts"
[devices.mes]
addresses = ["{HOST}"]
mac = ["{MACS[HOST]}"]
[devices.tool]
addresses = ["{TOOL}"]
[[allow]]
id = "link"
from = "mes"
to = "tool"
service = ["tcp/5000"]
"""


def frame(source, destination, segment, mac=None):
    return bytes(Ether(src=mac or MACS[source], dst=MACS.get(destination, "02:00:00:00:00:99")) / IP(src=source, dst=destination) / segment)


def syn(source, destination, port, sport=40_000, mac=None):
    return frame(source, destination, TCP(sport=sport, dport=port, flags="S"), mac)


@pytest.fixture
def watching(bridge, network, folder):
    """A bridge with a state directory; its network."""

    def start(policy=POLICY, *options, net=None):
        net = net or network()
        running = bridge(policy, "--state", folder / "state", *options, net=net)
        running.wait_for(lambda: running.status().get("detection", {}).get("is_ready"), "the watch")
        return running, net

    return start


def alerts(sekisho, folder, *options):
    done = sekisho("alerts", "--state", folder / "state", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def first_alert(running, sekisho, folder, timeout=10):
    running.wait_for(lambda: alerts(sekisho, folder), "an alert", timeout)


def test_a_laptop_that_scans_is_one_alert(sekisho, watching, folder):
    """Why: an operator who gets one alert reads it; who gets a thousand reads none."""
    running, net = watching(POLICY, "--mode", "enforce")
    began = time.time()
    net.a.send(syn(LAPTOP, TOOL, 445))
    running.wait_for(lambda: ", unknown-device: " in running.said(), "the log line")
    # How soon is the demo's to say; on a machine that builds something meanwhile, not for ever.
    assert time.time() - began < 5.0
    for number in range(1, 200):
        net.a.send(syn(LAPTOP, f"10.0.0.{3 + number % 60}", 445 if number % 2 else 5000, 40_000 + number))
    # It does more than that: guesses at one port, and takes the host's address.
    net.a.send(*[syn(LAPTOP, TOOL, 22, 50_000 + number) for number in range(50)])
    running.wait_for(lambda: any(one["kind"] == "scan" for one in alerts(sekisho, folder)), "the scan to be seen")
    running.wait_for(lambda: alerts(sekisho, folder)[0]["attempts"] >= 250, "all attempts to be counted")
    found = alerts(sekisho, folder)
    assert len(found) == 1, found
    one = found[0]
    assert (one["device"]["address"], one["device"]["mac"], one["device"]["side"]) == (LAPTOP, MACS[LAPTOP], "outside")
    assert one["severity"] == "high" and "end" not in one and not one["device"]["is_known"]
    assert one["attempts"] == 250 and one["frames"] == 250
    assert {behaviour["kind"] for behaviour in one["behaviours"]} == {"scan", "unknown-device"}
    begin = time.mktime(time.strptime(one["begin"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(begin - began) < 2
    assert LAPTOP in one["story"] and "tcp/445" in one["story"] and "none answered; all denied" in one["story"]
    scan = [technique for technique in one["techniques"] if technique["ids"][0]["id"] == "T0846"]
    assert scan and scan[0]["ids"][1] == {"version": "19", "id": "T0846.001", "name": "Port Scan"} and scan[0]["relation"] == "consistent with"
    assert 0 < len(one["evidence"]) <= 8
    # One line for it.
    assert running.said().count("alert 1, ") == 1
    # And when it takes another's address it is still the same.
    net.a.send(syn(HOST, TOOL, 5000, mac=MACS[LAPTOP]))
    running.wait_for(lambda: alerts(sekisho, folder)[0]["kind"] == "spoofing", "the forgery to be seen")
    found = alerts(sekisho, folder)
    assert len(found) == 1 and found[0]["severity"] == "critical" and HOST in found[0]["story"]
    assert net.b.receive(quiet=0.2) == []


RESPOND = 'protected = ["mes"]\n' + POLICY + '[respond]\nscan = "quarantine"\nspoofing = "quarantine"\n'


def scan(net, source, mac=None, first=42_000):
    net.a.send(*[syn(source, f"10.0.0.{100 + number}", 445, first + number, mac) for number in range(40)])


def passes(net, source, sport):
    net.b.drain()
    net.a.send(syn(source, TOOL, 5000, sport))
    return net.b.receive(quiet=0.3) != []


def test_a_scanner_is_cut_off_where_the_policy_asks_for_it(sekisho, watching, folder):
    """Why: at night nobody is there who could."""
    running, net = watching(RESPOND, "--mode", "monitor")
    assert passes(net, LAPTOP, 40_001)
    scan(net, LAPTOP)
    running.wait_for(lambda: running.status()["quarantine"], "the quarantine")
    [order] = running.status()["quarantine"]
    assert (order["device"], order["macs"], order["who"], order["until"] - order["since"]) == (LAPTOP, [MACS[LAPTOP]], "sekisho", 3600)
    assert order["why"].startswith("alert 1: ")
    assert not passes(net, LAPTOP, 40_002) and passes(net, HOST, 40_003)
    events = types(sekisho, folder / "state")
    assert events.count("alert") == 1 and events.count("quarantine") == 1
    # A person's word stands: it goes on scanning, and is not cut off a second time for the same alert.
    assert sekisho("release", LAPTOP, "--control", running.socket).returncode == 0
    # How many of the first forty came before it was cut off depends on how soon that was.
    before = alerts(sekisho, folder)[0]["attempts"]
    scan(net, LAPTOP, first=43_000)
    running.wait_for(lambda: alerts(sekisho, folder)[0]["attempts"] >= before + 40, "more of it")
    time.sleep(0.5)
    assert running.status()["quarantine"] == [] and passes(net, LAPTOP, 40_004)
    # Nor when another order, for which somebody had reasons of his own, has ended by itself.
    assert sekisho("quarantine", LAPTOP, "--for", "1s", "--why", "a cable", "--control", running.socket).returncode == 0
    running.wait_for(lambda: not running.status()["quarantine"], "its end")
    scan(net, LAPTOP, first=44_000)
    running.wait_for(lambda: alerts(sekisho, folder)[0]["attempts"] >= before + 80, "more of it")
    time.sleep(0.5)
    assert running.status()["quarantine"] == [] and cut_off(sekisho, folder) == 2


def cut_off(sekisho, folder):
    """How often somebody was."""
    return types(sekisho, folder / "state").count("quarantine")


@pytest.mark.parametrize("forges", (False, True))
def test_a_scanner_that_goes_on_when_its_time_is_over_is_cut_off_again(sekisho, watching, folder, forges):
    """Why: else whoever waits for an hour has a night to himself, as long as his alert goes on."""
    running, net = watching(RESPOND + "quarantine_s = 3\n", "--mode", "monitor")
    scan(net, LAPTOP)
    running.wait_for(lambda: cut_off(sekisho, folder) == 1, "the quarantine")
    if forges:
        # From now on only his card is meant, under another name.
        net.a.send(syn(HOST, TOOL, 5000, mac=MACS[LAPTOP]))
    running.wait_for(lambda: not running.status()["quarantine"], "its end")
    time.sleep(1.5)
    # Nothing came of it since: nothing is done.
    assert running.status()["quarantine"] == [] and cut_off(sekisho, folder) == 1
    scan(net, LAPTOP, first=43_000)
    running.wait_for(lambda: cut_off(sekisho, folder) == 2, "the second one", timeout=20)
    assert len(alerts(sekisho, folder)) == 1


def test_nobody_is_cut_off_for_what_another_forged(sekisho, watching, folder):
    """Why: else an attacker chooses whom the bridge cuts off."""
    running, net = watching(RESPOND, "--mode", "monitor")
    scan(net, HOST, mac=MACS[LAPTOP])
    running.wait_for(lambda: running.status()["quarantine"], "the quarantine")
    [order] = running.status()["quarantine"]
    assert (order["addresses"], order["macs"]) == ([], [MACS[LAPTOP]])
    assert passes(net, HOST, 40_001) and not passes(net, LAPTOP, 40_002)


def test_a_router_is_not_cut_off_with_who_is_behind_it(sekisho, watching, folder):
    """Why: everybody behind it would pay."""
    running, net = watching(RESPOND.replace(f'mac = ["{MACS[HOST]}"]\n', ""), "--mode", "monitor")
    # Two senders by one card.
    net.a.send(syn(HOST, TOOL, 5000, 40_001, mac="02:00:00:00:00:aa"))
    running.wait_for(lambda: running.status()["identities"]["known"] >= 1, "the host")
    scan(net, "10.9.0.66", mac="02:00:00:00:00:aa")
    running.wait_for(lambda: running.status()["quarantine"], "the quarantine")
    [order] = running.status()["quarantine"]
    assert (order["addresses"], order["macs"]) == (["10.9.0.66"], [])


def test_an_order_of_a_person_is_not_replaced(sekisho, watching, folder):
    """In learn mode what is cut off is watched as well."""
    running, net = watching(RESPOND, "--mode", "learn")
    assert sekisho("quarantine", LAPTOP, "--for", "3d", "--except", "link", "--why", "x", "--control", running.socket).returncode == 0
    scan(net, LAPTOP, mac="02:00:00:00:00:67")
    running.wait_for(lambda: alerts(sekisho, folder), "an alert")
    time.sleep(0.5)
    orders = {one["device"]: one for one in running.status()["quarantine"]}
    assert orders[LAPTOP]["exceptions"] == ["link"] and orders[LAPTOP]["until"] - orders[LAPTOP]["since"] == 3 * 86_400


def test_who_is_protected_is_never_cut_off_by_itself(sekisho, watching, folder):
    running, net = watching(RESPOND, "--mode", "monitor")
    scan(net, HOST)
    running.wait_for(lambda: "it is protected by the policy (mes)" in running.said(), "the decision")
    assert running.status()["quarantine"] == [] and passes(net, HOST, 40_001)


def test_what_is_allowed_raises_nothing(sekisho, watching, folder):
    """Why: the alert that everybody ignores is the one that comes every day."""
    running, net = watching(POLICY, "--mode", "enforce")
    for port in range(40_000, 40_100):
        net.a.send(syn(HOST, TOOL, 5000, port))
        net.b.send(frame(TOOL, HOST, TCP(sport=5000, dport=port, flags="SA")))
        net.a.send(frame(HOST, TOOL, TCP(sport=port, dport=5000, flags="PA") / b"hello"))
        net.b.send(frame(TOOL, HOST, TCP(sport=5000, dport=port, flags="PA") / b"hello"))
    # A host that knocks at a tool which is down: the same again and again (SEMI E37, T5).
    for port in range(41_000, 41_020):
        net.a.send(syn(HOST, TOOL, 5000, port))
    running.wait_for(lambda: running.status()["recording"]["records"] > 300, "the records")
    time.sleep(4)
    assert alerts(sekisho, folder) == [] and "alert 1" not in running.said()
    assert running.status()["detection"] == {
        "file": str(folder / "state" / "alerts.sqlite"), "is_ready": True, "open": 0, "raised": 0, "lost_records": 0}
    assert "no alerts" in sekisho("alerts", "--state", folder / "state").stdout


@pytest.mark.parametrize("forges_cards", [False, True])
def test_forged_senders_are_few_alerts(sekisho, watching, folder, forges_cards):
    """Why: whoever can make a thousand alerts can hide in them."""
    running, net = watching(POLICY, "--mode", "enforce")
    for number in range(2000):
        mac = f"02:66:00:00:{number >> 8:02x}:{number & 255:02x}" if forges_cards else MACS[LAPTOP]
        net.a.send(syn(f"172.16.{number >> 8}.{number & 255}", TOOL, 445, mac=mac))
    running.wait_for(lambda: sum(one["attempts"] for one in alerts(sekisho, folder)) >= 2000, "all to be counted", timeout=30)
    found = alerts(sekisho, folder)
    assert len(found) <= (5 if forges_cards else 1)
    if forges_cards:
        assert any(one["device"]["is_many"] and one["device"]["side"] == "outside" for one in found)


def test_a_damaged_alert_holds_up_no_wire(sekisho, watching, folder):
    """Why: a tool must not stand still because an entry was spoilt, or because a later version wrote it."""
    running, net = watching()
    net.a.send(syn(LAPTOP, TOOL, 445), syn("10.0.0.67", TOOL, 445, mac="02:00:00:00:00:67"))
    running.wait_for(lambda: len(alerts(sekisho, folder)) == 2, "two alerts")
    running.stop()
    with sqlite3.connect(folder / "state" / "alerts.sqlite") as database:
        database.execute("UPDATE alert SET body = replace(body, 'unknown-device', 'told-by-a-later-version') WHERE id = 1")
    listed = sekisho("alerts", "--state", folder / "state", "--json")
    assert listed.returncode == 0 and [one["id"] for one in json.loads(listed.stdout)] == [2]
    assert "alert 1 is damaged, or of another version; it is left out" in listed.stderr
    running, net = watching(net=net)
    assert "alert 1 in alerts.sqlite is damaged, or of another version; it is not taken up" in running.said()
    net.a.send(syn(LAPTOP, TOOL, 446))
    running.wait_for(lambda: [one["id"] for one in alerts(sekisho, folder)] == [2, 3], "a new alert")


def test_an_alert_outlives_the_bridge(sekisho, watching, folder):
    """Why: a restart in the middle of an attack must not make it two."""
    running, net = watching(POLICY, "--mode", "enforce")
    net.a.send(*[syn(LAPTOP, f"10.0.0.{number}", 445) for number in range(10, 30)])
    running.wait_for(lambda: any(one["kind"] == "scan" for one in alerts(sekisho, folder)), "the scan")
    running.stop()
    running, net = watching(POLICY, "--mode", "enforce", net=net)
    net.a.send(*[syn(LAPTOP, f"10.0.0.{number}", 445) for number in range(30, 50)])
    running.wait_for(lambda: alerts(sekisho, folder)[0]["attempts"] >= 40, "it to go on")
    assert [one["id"] for one in alerts(sekisho, folder)] == [1]


def test_learning_tells_of_scans_only(sekisho, watching, folder):
    """Why: while it is learnt what is usual, nothing is unusual but what is never right."""
    running, net = watching(POLICY, "--mode", "learn")
    net.a.send(syn(LAPTOP, TOOL, 8080))
    net.b.send(frame(TOOL, LAPTOP, TCP(sport=8080, dport=40_000, flags="SA")))
    time.sleep(5)
    assert alerts(sekisho, folder) == []
    net.a.send(*[syn(LAPTOP, f"10.0.0.{number}", 445) for number in range(10, 30)])
    running.wait_for(lambda: alerts(sekisho, folder), "the scan to be seen")
    found = alerts(sekisho, folder)
    assert [(one["kind"], one["device"]["address"]) for one in found] == [("scan", LAPTOP)]
    # Two cards with one address: both go on.
    for _ in range(3):
        net.a.send(syn(HOST, TOOL, 5000))
        net.a.send(syn(HOST, TOOL, 5000, mac="02:00:00:00:00:77"))
        time.sleep(0.3)
    running.wait_for(lambda: any(one["kind"] == "spoofing" for one in alerts(sekisho, folder)), "the forgery to be seen")


def test_a_changed_policy_is_told(sekisho, watching, folder):
    """Why: whoever lets himself in by the policy must be seen."""
    running, _ = watching(POLICY, "--mode", "enforce")
    assert running.apply(POLICY + '[[allow]]\nid = "more"\nfrom = "any"\nto = "tool"\nservice = "tcp/22"\n').returncode == 0
    first_alert(running, sekisho, folder)
    (one,) = alerts(sekisho, folder)
    assert one["kind"] == "policy-changed" and one["severity"] == "info" and "device" not in one and "version 2" in one["story"]


def test_when_learning_ends_the_watch_begins(sekisho, watching, folder):
    """Why: whoever learns for weeks and then enforces does not start the bridge again for it."""
    running, net = watching('mode = "learn"\n' + POLICY)
    net.a.send(syn(LAPTOP, TOOL, 445))
    time.sleep(5)
    assert alerts(sekisho, folder) == []
    assert running.apply('mode = "enforce"\n' + POLICY).returncode == 0
    net.a.send(syn(LAPTOP, TOOL, 446, 40_001))
    running.wait_for(lambda: any(one["kind"] == "unknown-device" for one in alerts(sekisho, folder)), "the laptop to be told of")


def test_a_failure_of_the_bridge_is_told(sekisho, watching, folder):
    """Why: whoever can stop the judge must not do so in silence."""
    running, net = watching(POLICY.replace("version = 1", 'version = 1\non_failure = "closed"', 1), "--mode", "enforce")
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    net.a.send(*[syn(HOST, TOOL, 5000, 40_000 + number) for number in range(10)], pause=0.01)
    time.sleep(0.3)
    running.process.send_signal(signal.SIGCONT)
    running.wait_for(lambda: any(one["kind"] == "bridge-failure" for one in alerts(sekisho, folder)), "the failure to be told")

    def is_over():
        # With the first frame that is judged again.
        net.a.send(syn(HOST, TOOL, 5000))
        return all("end" in one for one in alerts(sekisho, folder))

    running.wait_for(is_over, "its end")
    (one,) = alerts(sekisho, folder)
    assert one["severity"] == "high" and "the workers judge again" in one["story"] and "device" not in one


def test_somebody_looks_at_it(sekisho, watching, folder):
    """Why: what was looked at, by whom and why, is evidence."""
    running, net = watching(POLICY, "--mode", "enforce")
    state = folder / "state"
    net.a.send(syn(LAPTOP, TOOL, 445))
    first_alert(running, sekisho, folder)
    shown = sekisho("alerts", "show", "1", "--state", state)
    assert shown.returncode == 0 and LAPTOP in shown.stdout and "consistent with ATT&CK for ICS 18.1" in shown.stdout and "T0864" in shown.stdout
    done = sekisho("alerts", "ack", "1", "--state", state, "--why", "our own test", "--who", "ana")
    assert done.returncode == 0, done.stderr
    net.a.send(syn(LAPTOP, TOOL, 446))
    running.wait_for(lambda: alerts(sekisho, folder)[0]["attempts"] == 2, "it to go on")
    (one,) = alerts(sekisho, folder)
    assert (one["acknowledged"]["who"], one["acknowledged"]["why"]) == ("ana", "our own test")
    text = sekisho("alerts", "--state", state).stdout
    assert "by ana" in text and LAPTOP in text and "goes on" in text
    assert alerts(sekisho, folder, "--open") == [one] and alerts(sekisho, folder, "--since", "2090-01-01") == []
    for wrong in (("show", "7"), ("ack", "7", "--why", "x")):
        done = sekisho("alerts", *wrong, "--state", state)
        assert done.returncode == 1 and "there is no alert 7" in done.stderr and "→" in done.stderr
    assert sekisho("alerts", "ack", "1", "--state", state, "--why", " ").returncode == 64


def test_without_a_state_directory_nothing_is_watched(sekisho, bridge, network, folder):
    """Why: silence must not be taken for peace."""
    running = bridge(POLICY, net=network())
    running.wait_for(lambda: "nothing raises an alert" in running.said(), "a word of it")
    assert "detection" not in running.status()
    done = sekisho("alerts", "--state", folder / "none")
    assert done.returncode == 1 and "does not exist" in done.stderr and "→" in done.stderr


def test_alerts_of_another_program_are_left_alone(bridge, network, folder):
    """Why: a file that is not ours may be somebody's only copy."""
    state = folder / "state"
    state.mkdir()
    with sqlite3.connect(state / "alerts.sqlite") as database:
        database.executescript("CREATE TABLE t (x)")
    before = (state / "alerts.sqlite").read_bytes()
    net = network()
    running = bridge(POLICY, "--state", state, net=net, wait=False)
    assert running.wait_for_end() == 1 and "another program" in running.said()
    assert (state / "alerts.sqlite").read_bytes() == before and not net.has_programs()


def test_the_frames_an_alert_rests_on_can_be_looked_at(sekisho, watching, folder):
    """Why: an engineer believes what he sees in Wireshark; and an evidence file must say which port, and why."""
    running, net = watching(POLICY, "--mode", "enforce")
    sent = [syn(LAPTOP, TOOL, 445)] + [syn(LAPTOP, f"10.0.0.{3 + number}", 5000, 40_000 + number) for number in range(100)]
    net.a.send(syn(HOST, TOOL, 22), *sent, frame(LAPTOP, TOOL, UDP(sport=9, dport=9) / bytes(1000)))
    running.wait_for(lambda: any(one["kind"] == "scan" for one in alerts(sekisho, folder)), "the scan to be seen")
    [one] = [one for one in alerts(sekisho, folder) if one["device"]["address"] == LAPTOP]
    file = folder / "alert.pcapng"
    running.wait_for(
        lambda: sekisho("alerts", "capture", str(one["id"]), "--state", folder / "state", "-o", file).returncode == 0, "the frames")
    shown = sh(f"tshark -r {file} -T fields -e frame.interface_name -e frame.comment -e frame.len -e frame.time_epoch").splitlines()
    frames = [bytes(packet) for packet in rdpcap(str(file))]
    assert 1 <= len(frames) == len(shown) <= 32
    assert frames == sent[: len(frames)], "what it began with, in order"
    for line in shown:
        interface, comment, length, at = line.split("\t")
        assert (interface, comment, int(length)) == ("outside", "not-in-policy", len(sent[0]))
        assert abs(float(at) - time.time()) < 60
    done = sekisho("alerts", "capture", "77", "--state", folder / "state", "-o", file)
    assert done.returncode == 1 and "there is no alert 77" in done.stderr and file.stat().st_size > 0
