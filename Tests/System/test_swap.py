"""Changing the policy of a running bridge: what it costs, and that a bad file costs nothing."""

import datetime
import json
import signal
import struct
import threading
import time

import pytest

from frames import IP, TCP, UDP, Raw, ether


def rule(name, port, **more):
    extra = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[allow]]\nid = "{name}"\nfrom = "10.0.0.1"\nto = "10.0.0.2"\nservice = "udp/{port}"\n{extra}'


def policy(*rules, name="p"):
    return f'version = 1\nname = "{name}"\n' + "".join(rules)


KEPT = rule("kept", 1)
ADDED = rule("added", 2)


def frame(port, number=0):
    return bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=port) / Raw(struct.pack(">Q", number) + bytes(10)))


def passes(net, port):
    """Whether a frame to this port crosses now; one that always crosses follows it, so that nothing is waited for."""
    probe, after = frame(port, 1 << 40), frame(1, 1 << 41)
    net.a.send(probe, after)
    got = []
    while after not in got:
        some = net.b.receive(1)
        assert some, "not even the frame that always crosses came"
        got += some
    return probe in got


class Stream(threading.Thread):
    """Numbered frames of the conversation that every policy allows, at a modest rate."""

    def __init__(self, net):
        super().__init__(daemon=True)
        self.net, self.sent, self.going = net, 0, True
        self.head = frame(1)[:42]

    def run(self):
        while self.going:
            for _ in range(4):
                self.net.a.send(self.head + struct.pack(">Q", self.sent) + bytes(10))
                self.sent += 1
            time.sleep(0.002)

    def finish(self):
        self.going = False
        self.join(10)
        return self.sent


def test_swaps_lose_no_frame_of_other_conversations(bridge, network):
    """Why: the equipment engineer must never lose a tool because a rule was added for another one."""
    net = network()
    running = bridge(policy(KEPT), net=net)
    stream = Stream(net)
    stream.start()
    try:
        for number in range(50):
            done = running.apply(policy(KEPT, ADDED) if number % 2 == 0 else policy(KEPT))
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout)
            assert report["version"] == number + 2 and report["rules"] == 2 - number % 2
            assert report["build_ms"] > 0 and report["swap_us"] > 0
    finally:
        sent = stream.finish()
    assert sent > 200, "too few frames to have seen a swap"
    numbers = [struct.unpack(">Q", data[42:50])[0] for data in net.b.receive(sent)]
    assert numbers == list(range(sent)), f"{sent - len(set(numbers))} of {sent} lost, or out of order"
    status = running.status()
    assert status["policy"]["version"] == 51
    assert status["denied"] == []
    assert running.hits() == {"kept": sent}


def test_a_rule_works_from_the_moment_apply_answers(bridge, network):
    """Why: "applied" is a promise: the very next frame is judged by the new policy."""
    net = network()
    running = bridge(policy(KEPT), net=net)
    for _ in range(5):
        assert not passes(net, 2)
        assert running.apply(policy(KEPT, ADDED)).returncode == 0
        assert passes(net, 2)
        assert running.apply(policy(KEPT)).returncode == 0
    assert not passes(net, 2)


def test_a_removed_rule_cuts_its_established_connection(bridge, network):
    """Why: revoking access must not wait until the intruder hangs up."""
    net = network()
    tcp = '[[allow]]\nid = "tcp"\nfrom = "10.0.0.1"\nto = "10.0.0.2"\nservice = "tcp/5000"\n'
    running = bridge(policy(KEPT, tcp), net=net)
    segment = bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=40000, dport=5000, flags="PA") / b"data....")
    answer = bytes(ether() / IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=5000, dport=40000, flags="A") / b"data....")
    net.a.send(segment)
    net.b.send(answer)
    assert (net.b.receive(1), net.a.receive(1)) == ([segment], [answer])
    assert running.apply(policy(KEPT)).returncode == 0
    net.a.send(segment, frame(1))
    net.b.send(answer)
    assert (net.b.receive(), net.a.receive()) == ([frame(1)], [])
    assert running.denied() == {"not-in-policy": 2}


BAD = {
    "syntax": "version = 1\n[[allow]\n", "no version": 'name = "x"\n', "unknown name": policy(KEPT, rule("b", 3).replace('"10.0.0.2"', '"x"')),
    "same id twice": policy(KEPT, KEPT), "nothing": "", "not UTF-8": policy(KEPT, name="x").encode().replace(b'"x"', b'"\xff"'), "binary": b"\0\xff" * 1000,
    "a dotted key": b"version = 1\n" + b".".join([b"a"] * 200_000) + b" = 1\n",
    "nested lists": b"a = " + b"[" * 100_000, "three brackets": "version = 1\n[[[allow]]]\n",
    "a list closed wrongly": "version = 1\n[[allow]]\nfrom = [}\n", "a date glued to a word": "version = 1\n[[allow]]\nexpires = 2027-01-01true00:00:00\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_leaves_the_running_policy(bridge, network, name):
    """Why: a typing error must not open the line, nor cut it."""
    net = network()
    running = bridge(policy(KEPT, name="good"), net=net)
    done = running.apply(BAD[name])
    assert done.returncode == 1 and done.stdout == ""
    assert "next.toml:" in done.stderr and "error" in done.stderr, done.stderr
    status = running.status()
    assert (status["policy"]["version"], status["policy"]["name"]) == (1, "good")
    assert passes(net, 1) and not passes(net, 2)


def test_sighup_reads_the_file_again(bridge, network):
    """Why: configuration management writes the file and sends SIGHUP."""
    net = network()
    running = bridge(policy(KEPT), net=net)
    running.policy.write_text(policy(KEPT, ADDED))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: running.status()["policy"]["version"] == 2, "the new policy")
    assert passes(net, 2)
    for number, bad in enumerate((policy(KEPT, KEPT), "version = 9\n", "[[[allow]]]\n", None), start=1):
        running.policy.write_text(bad) if bad else running.policy.unlink()
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(lambda: running.said().count("running policy stays") == number, "a word about the bad file")
        assert running.status()["policy"]["version"] == 2
        assert passes(net, 2)
    running.policy.write_text(policy(KEPT))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: running.status()["policy"]["version"] == 3, "the third policy")
    assert not passes(net, 2)


def test_a_rule_expires_by_itself(bridge, network):
    """Why: a vendor's access for an afternoon ends in the afternoon, whoever has forgotten it."""
    net = network()
    # Whole seconds; far enough away that the bridge is up by then.
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=4)
    running = bridge(policy(KEPT, rule("visit", 2, expires=end.strftime("%Y-%m-%dT%H:%M:%SZ"))), net=net)
    assert passes(net, 2), "expired before it began"
    running.wait_for(lambda: not passes(net, 2), "the end of the rule")
    assert datetime.datetime.now(datetime.timezone.utc) >= end.replace(microsecond=0), "expired too early"
    status = running.status()
    assert status["policy"]["version"] == 2 and status["policy"]["rules"] == 1
    assert passes(net, 1)


def test_hits_outlive_swaps(bridge, network):
    """Why: "this rule was never used" decides whether it goes; a swap must not start the count again."""
    net = network()
    running = bridge(policy(KEPT, ADDED), net=net)
    net.a.send(*[frame(1)] * 5, *[frame(2)] * 3)
    assert len(net.b.receive(8)) == 8
    # In another order, among others.
    assert running.apply(policy(rule("new", 3), ADDED, KEPT)).returncode == 0
    net.a.send(*[frame(1)] * 2, frame(3), frame(3))
    assert len(net.b.receive(4)) == 4
    assert running.hits() == {"kept": 7, "added": 3, "new": 2}
    assert running.apply(policy(KEPT)).returncode == 0
    assert running.hits() == {"kept": 7}


def test_the_mode_asked_for_at_the_start_stays(bridge, network):
    """Why: a bridge put in "monitor" for a trial must not begin to block because a file says "enforce"."""
    net = network()
    running = bridge(policy(KEPT), "--mode", "monitor", net=net)
    assert running.apply('mode = "enforce"\n' + policy(KEPT)).returncode == 0
    assert running.status()["mode"] == "monitor" and passes(net, 2)


def test_the_mode_of_the_file_changes_with_it(bridge, network):
    """Why: going from monitor to enforce is a swap like any other, and back again."""
    net = network()
    running = bridge('mode = "monitor"\n' + policy(KEPT), net=net)
    assert passes(net, 2)
    assert running.apply('mode = "enforce"\n' + policy(KEPT)).returncode == 0
    assert not passes(net, 2)
    assert running.apply('mode = "learn"\n' + policy(KEPT)).returncode == 0
    assert passes(net, 2) and running.status()["mode"] == "learn"


def test_a_large_policy_under_traffic(bridge, network):
    """Why: 10,000 rules take their time to build; the wire must not notice."""
    net = network()
    running = bridge(policy(KEPT), net=net)
    many = "".join(
        f'[[allow]]\nid = "r{n}"\nfrom = "10.{n >> 8 & 255}.{n & 255}.1"\nto = "10.0.0.2"\nservice = "tcp/5000"\n' for n in range(10000))
    stream = Stream(net)
    stream.start()
    try:
        done = running.apply(policy(KEPT, many))
    finally:
        sent = stream.finish()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exact_conversations"] == 10001
    assert [struct.unpack(">Q", data[42:50])[0] for data in net.b.receive(sent)] == list(range(sent))
    status = running.status()
    assert len(status["rules"]) == 10001 and running.hits()["kept"] == sent
