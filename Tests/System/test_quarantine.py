"""A device is cut off at once and in every mode, for a time, and comes back; nobody else notices."""

import json
import socket
import time

import pytest

from conftest import sh
from test_identity import arp
from test_learn import HOST, TOOL, Server, open_socket, stacks, talk  # noqa: F401

OTHER = "10.0.0.3"

POLICY = f"""
version = 1
name = "plant"
mode = "MODE"
PROTECTED
[devices.mes]
addresses = ["{OTHER}"]
[devices.tool]
addresses = ["{TOOL}"]
[[allow]]
id = "link"
from = ["{HOST}", "mes"]
to = "tool"
service = ["tcp/5000", "udp/9"]
[[allow]]
id = "spare"
from = "{HOST}"
to = "tool"
service = "tcp/5001"
"""


@pytest.fixture
def plant(bridge, stacks, folder):  # noqa: F811
    """A host with two addresses, of which the second is protected, a tool with two services, and a bridge between them."""
    sh(f"ip -n {stacks.a.netns} addr add {OTHER}/24 dev {stacks.a.port}")
    servers = [Server(stacks.b, TOOL, port) for port in (5000, 5001)]

    def begin(mode="enforce", *options, policy=POLICY, protected="", wait=True):
        running = bridge(policy.replace("MODE", mode).replace("PROTECTED", protected), "--state", folder / "state", *options, net=stacks, wait=wait)
        running.wait_for(lambda: "forwarding" in running.said(), "the start")
        return running
    yield stacks, begin
    for server in servers:
        server.close()


def mac_of(host):
    return json.loads(sh(f"ip -n {host.netns} -j link show dev {host.port}"))[0]["address"]


def is_answered(host, port, source=HOST):
    with open_socket(host) as one:
        one.settimeout(0.6)
        one.bind((source, 0))
        try:
            one.connect((TOOL, port))
            one.sendall(b"hello")
            return one.recv(100) == b"hello"
        except OSError:
            return False


def order(sekisho, running, *words, code=0):
    done = sekisho(*words, "--control", running.socket)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.alone
@pytest.mark.parametrize("mode", ["enforce", "monitor", "learn"])
def test_a_device_is_cut_off_and_comes_back(sekisho, plant, mode):
    """Why: an engineer who sees an infected laptop must not have to write a policy first."""
    net, begin = plant
    running = begin(mode)
    with open_socket(net.a) as session:
        session.connect((TOOL, 5000))
        report = json.loads(order(sekisho, running, "quarantine", HOST, "--why", "scans", "--who", "ann", "--json").stdout)
        [one] = report["orders"]
        assert (one["device"], one["addresses"], one["who"], one["why"]) == (HOST, [HOST], "ann (as root)", "scans")
        # Also under its MAC address: it could take another address.
        assert one["macs"] == [mac_of(net.a)] and report["in_force_us"] < 10_000
        assert one["until"] - one["since"] == 8 * 3600
        # An established session as well.
        session.settimeout(0.6)
        session.sendall(b"hello")
        with pytest.raises(TimeoutError):
            session.recv(100)
        assert not is_answered(net.a, 5000) and not is_answered(net.a, 5000, OTHER)
        order(sekisho, running, "release", HOST)
        session.settimeout(10)
        assert session.recv(100) == b"hello"
    assert is_answered(net.a, 5000)
    status = running.status()
    assert {one["cause"]: one["frames"] for one in status["denied"]}["quarantined"] >= 3 and status["quarantine"] == []
    order(sekisho, running, "release", HOST, code=1)
    events = json.loads(sekisho("audit", "show", "--state", running.policy.parent.parent / "state", "--json").stdout)
    assert [(one["type"], one["who"]) for one in events if one["type"] in ("quarantine", "release")] == [
        ("quarantine", "ann (as root)"), ("release", events[-1]["who"])]
    assert f"quarantine: {HOST} is cut off by ann" in running.said() and "is released by" in running.said()


def test_named_rules_are_excepted_and_others_do_not_notice(sekisho, plant):
    net, begin = plant
    running = begin()
    order(sekisho, running, "quarantine", "02:00:00:00:00:77", "--why", "not here")
    assert is_answered(net.a, 5000)
    order(sekisho, running, "quarantine", HOST, "--except", "spare", "--except", "nonsense", "--why", "x")
    # Who may still talk must find, and be found.
    for host in (net.a, net.b):
        sh(f"ip -n {host.netns} neigh flush all")
    assert not is_answered(net.a, 5000) and is_answered(net.a, 5001)
    # A new policy, in which the rule has another number.
    head, first, second = running.policy.read_text().split("[[allow]]")
    assert running.apply("[[allow]]".join([head, second, first])).returncode == 0
    assert not is_answered(net.a, 5000) and is_answered(net.a, 5001)
    text = order(sekisho, running, "quarantine").stdout
    assert HOST in text and "spare, nonsense" in text
    order(sekisho, running, "release", "all")
    assert is_answered(net.a, 5000)


def test_it_ends_by_itself_and_outlives_the_process(sekisho, plant):
    net, begin = plant
    running = begin()
    order(sekisho, running, "quarantine", HOST, "--for", "6s", "--why", "x")
    began = time.monotonic()
    running.kill()
    running = begin()
    assert f"{HOST} is still in quarantine" in running.said()
    assert time.monotonic() - began > 5 or not is_answered(net.a, 5000)
    running.wait_for(lambda: f"the time of {HOST} is over" in running.said(), "its end", timeout=20)
    # A question for the tool's address may have been asked in vain just before: the next one comes a second later.
    running.wait_for(lambda: is_answered(net.a, 5000), "an answer")
    assert running.status()["quarantine"] == []


def test_an_island(sekisho, plant):
    net, begin = plant
    running = begin("monitor")
    order(sekisho, running, "isolate", "--why", "worm")
    assert not is_answered(net.a, 5000)
    assert {one["cause"] for one in running.status()["denied"]} == {"isolated"}
    order(sekisho, running, "release", "everything")
    assert is_answered(net.a, 5000)


def test_who_is_protected_is_not_cut_off_by_mistake(sekisho, plant):
    """Why: a tool that loses its host loses wafers."""
    net, begin = plant
    running = begin(protected='protected = ["mes"]')
    said = order(sekisho, running, "quarantine", OTHER, "--why", "x", code=1).stderr
    assert "mes is protected by the policy" in said and "--force" in said
    assert is_answered(net.a, 5000, OTHER)
    # Nor along with another that has the same MAC address, as behind a router.
    [one] = json.loads(order(sekisho, running, "quarantine", HOST, "--why", "x", "--json").stdout)["orders"]
    assert one["macs"] == [] and is_answered(net.a, 5000, OTHER) and not is_answered(net.a, 5000)
    order(sekisho, running, "quarantine", "mes", "--force", "--why", "x")
    assert not is_answered(net.a, 5000, OTHER)
    order(sekisho, running, "release", "all")
    # One forged frame must not have another's card cut off, nor one's own protected.
    for address in (HOST, OTHER):
        net.a.send(arp("02:00:00:00:00:66", address), arp(mac_of(net.a), "10.0.0.66"))
    running.wait_for(lambda: running.status()["identities"]["changes"] >= 1, "the claims")
    [one] = json.loads(order(sekisho, running, "quarantine", "10.0.0.66", "--why", "x", "--json").stdout)["orders"]
    assert one["macs"] == []
    order(sekisho, running, "quarantine", "02:00:00:00:00:66", "--why", "x")
    for wrong in (["quarantine", "no-such-device", "--why", "x"], ["release", "no-such-device"]):
        order(sekisho, running, *wrong, code=1)
    for wrong in (["quarantine", HOST], ["quarantine", HOST, "--why", " "], ["quarantine", HOST, "--why", "x", "--for", "31d"], ["isolate"]):
        order(sekisho, running, *wrong, code=64)


def test_a_card_of_a_protected_device_is_protected(sekisho, plant):
    net, begin = plant
    policy = POLICY.replace(f'addresses = ["{OTHER}"]', f'addresses = ["{OTHER}"]\nmac = ["{mac_of(net.a)}"]')
    running = begin(protected='protected = ["mes"]', policy=policy)
    order(sekisho, running, "quarantine", mac_of(net.a), "--why", "x", code=1)
    # Another one that has the same card, by the policy's word, is cut off without it.
    [one] = json.loads(order(sekisho, running, "quarantine", HOST, "--why", "x", "--json").stdout)["orders"]
    assert one["macs"] == [] and is_answered(net.a, 5000, OTHER) and not is_answered(net.a, 5000)


def test_the_kernel_holds_to_it(sekisho, plant):
    """Why: a quarantine that ends where the process is busy is none."""
    net, begin = plant
    for host in (net.a, net.b):
        sh(f"ip netns exec {host.netns} ethtool -K {host.port} gro on")
    running = begin(policy='datapath = "kernel"\n' + POLICY)
    assert is_answered(net.a, 5000)
    order(sekisho, running, "quarantine", HOST, "--why", "x")
    assert not is_answered(net.a, 5000)
    order(sekisho, running, "release", HOST)
    assert is_answered(net.a, 5000)
    order(sekisho, running, "isolate", "--why", "x")
    assert not is_answered(net.a, 5000)
    assert {"quarantined", "isolated"} <= {one["cause"] for one in running.status()["denied"]}


def test_the_kernel_ends_it_alone(sekisho, plant, bpf_file_system):
    """Why: a tool that was cut off for an hour must not stay so because a process is gone."""
    net, begin = plant
    for host in (net.a, net.b):
        sh(f"ip netns exec {host.netns} ethtool -K {host.port} gro on")
    running = begin(policy='on_failure = "kernel"\n' + POLICY)
    # Two, each with its own end.
    order(sekisho, running, "quarantine", HOST, "--for", "3s", "--why", "x")
    began = time.monotonic()
    order(sekisho, running, "quarantine", TOOL, "--for", "6s", "--why", "x")
    running.kill()
    while not is_answered(net.a, 5000):
        assert time.monotonic() - began < 30, "the kernel does not let go"
    assert time.monotonic() - began > 5


NOW = int(time.time())
ENTRY = {"device": "a", "is_island": False, "addresses": ["10.9.9.9"], "macs": [], "exceptions": [], "since": NOW, "until": NOW + 86_400, "who": "w", "why": "y"}


@pytest.mark.parametrize("text", [
    "{", json.dumps([{**ENTRY, "device": str(number)} for number in range(65)]), json.dumps([{**ENTRY, "addresses": ["10.9.9.999"]}]),
    json.dumps([{key: value for key, value in ENTRY.items() if key != "is_island"}]), json.dumps([{**ENTRY, "addresses": []}]),
    json.dumps([{**ENTRY, "until": NOW * 1000}]), json.dumps([{**ENTRY, "until": 2**63 - 1}])],
    ids=["no JSON", "too many", "no address", "unclear", "nobody", "milliseconds", "no end"])
def test_a_damaged_list_is_said(bridge, stacks, folder, text):  # noqa: F811
    """Why: whoever was cut off must not be let in by a file that nobody can read."""
    state = folder / "state"
    state.mkdir()
    (state / "quarantine.json").write_text(text)
    running = bridge(POLICY.replace("MODE", "enforce").replace("PROTECTED", ""), "--state", state, net=stacks, wait=False)
    running.wait_for_end()
    assert "it is damaged" in running.said() and not stacks.has_programs()
    assert (state / "quarantine.json").read_text() == text


def test_what_is_ordered_while_another_takes_over_is_kept(sekisho, plant):
    """Why: who was cut off a moment ago must not come back by an upgrade."""
    net, begin = plant
    running = begin()
    order(sekisho, running, "quarantine", HOST, "--why", "x")
    following = begin("enforce", "--replace", "--control", running.socket, wait=False)
    following.wait_for(lambda: "took over" in following.said() or "forwarding" in following.said(), "the other one")
    following.socket = running.socket
    running.wait_for_end()
    following.wait_for(lambda: "is still in quarantine" in following.said(), "what was ordered")
    assert [one["device"] for one in following.status()["quarantine"]] == [HOST] and not is_answered(net.a, 5000)
