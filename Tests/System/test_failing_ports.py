"""What becomes of the wire when the bridge fails, on ports that are not the usual ones: generic XDP, several queues."""

import os
import pathlib
import struct
import time

import pytest

from conftest import sh
from test_failing import Streams, policy, second, started  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("bpf_file_system")


@pytest.fixture(params=("generic", "two queues"))
def wire(network, request):
    """As in test_failing. A veth whose other end has more queues to send by than it has to receive by takes no native program."""
    if request.param == "two queues" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors, for two workers")
    net = network(queues=(2, 2))
    for host in (net.a, net.b):
        sh(f"ip netns exec {host.netns} ethtool -K {host.port} gro on")
        sh(f"ip netns exec {host.netns} ethtool -L {host.port} rx 2 tx 2")
    for port in ("in0", "out0"):
        receive = 1 if request.param == "generic" else 2
        sh(f"ip netns exec {net.bridge} ethtool -L {port} rx {receive} tx 2")
    net.kind = request.param
    # A worker for each, also where there are just two processors.
    net.options = ("--queues", 2) if request.param == "two queues" else ()
    yield net
    for file in pathlib.Path("/run/sekisho/bpf/sekisho").glob(f"{os.stat(f'/run/netns/{net.bridge}').st_ino}-*"):
        file.unlink()


class ManyStreams(Streams):
    """The same from sixteen ports, so that frames come by every queue."""

    def _send(self):
        while self.going:
            self.sent_at.append(time.monotonic())
            for port in (1, 2):
                head = self.heads[port]
                self.net.a.send(head[:34] + struct.pack(">H", 4000 + self.sent % 16) + head[36:] + struct.pack(">Q", self.sent) + bytes(10))
            self.sent += 1
            time.sleep(0.001)


def is_as_asked(wire, status):
    ports = status["ports"].values()
    if wire.kind == "generic":
        return all(port["xdp"] == "generic" for port in ports)
    return all(port["xdp"] == "native" and port["queues"] == 2 for port in ports) and len(status["workers"]) == 2


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_killed(started, wire, binary, sekisho, action):  # noqa: F811
    """Why: the NIC at hand decides how frames come in; what was promised holds all the same."""
    running = started(policy(f'"{action}"'), *wire.options)
    assert is_as_asked(wire, running.status()), running.said()
    streams = ManyStreams(wire)
    time.sleep(0.3)
    killed = time.monotonic()
    running.kill()
    time.sleep(0.5)
    dead_until = time.monotonic()
    again = second(binary, sekisho, running, *wire.options)
    again.wait_until_up()
    back = time.monotonic()
    time.sleep(0.3)
    status = again.status()
    streams.finish()
    assert status["judging"]["now"] == "worker" and is_as_asked(wire, status)
    # The bars of test_failing.
    assert len(streams.lost()) <= 60, streams.lost()
    assert streams.longest_gap() < 0.1
    assert streams.twice == 0
    assert len([when for when in streams.came[1].values() if killed + 0.1 < when < dead_until]) > 100
    if action == "kernel":
        assert streams.strangers() == 0
    else:
        assert streams.strangers() > 200 and streams.strangers(since=back + 0.05) == 0
        assert min(streams.came[2].values()) > killed - 0.01
    episode = {e["cause"]: e for e in status["judging"]["episodes"]}["worker_dead"]
    assert not episode["goes_on"] and "before this start" in again.said()
    assert again.stop() == 0


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_replaced_while_it_runs(started, wire, binary, sekisho, action):  # noqa: F811
    """Why: as above."""
    running = started(policy(f'"{action}"'), *wire.options)
    streams = ManyStreams(wire)
    time.sleep(0.3)
    again = second(binary, sekisho, running, "--replace", *wire.options)
    assert running.wait_for_end() == 0
    again.wait_for(lambda: "forwarding" in again.said().split("making way")[-1], "the other's start")
    time.sleep(0.3)
    status = again.status()
    assert status["pid"] != running.process.pid and status["judging"]["now"] == "worker" and is_as_asked(wire, status)
    streams.finish()
    assert streams.lost() == [] and streams.twice == 0
    if action == "kernel":
        assert streams.strangers() == 0
    assert again.stop() == 0
