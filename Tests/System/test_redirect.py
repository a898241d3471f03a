"""Ports that send no frame which the kernel redirects to them: found out by the doctor, refused or said by the bridge."""

import json

import pytest

from conftest import sh
from test_failing import frame, policy

pytestmark = pytest.mark.usefixtures("bpf_file_system")


def doctor(sekisho, net, *words, inside="in0", outside="out0"):
    done = sekisho("doctor", "--json", "--inside", inside, "--outside", outside, *words, prefix=("ip", "netns", "exec", net.bridge))
    findings = json.loads(done.stdout)
    if any("Linux tells since 6.3" in finding["why"] for finding in findings):
        pytest.skip("the kernel does not tell what drivers can do (before Linux 6.3)")
    return {port: [f for f in findings if f["subject"] == port and ("redirected" in f["finding"] or "XDP" in f["finding"])] for port in (inside, outside)}


@pytest.fixture
def deaf(network):
    """Its outer host takes no redirected frame, its inner one does."""
    net = network()
    sh(f"ip netns exec {net.inner} ethtool -K b0 gro on")
    return net


def test_the_doctor_knows_ports_that_send_no_redirected_frame(sekisho, deaf, folder):
    """Why: it must be known before the day the bridge fails."""
    found = doctor(sekisho, deaf)
    assert [f["level"] for f in found["in0"]] == ["note", "good"], found
    assert [f["level"] for f in found["out0"]] == ["note", "note"] and "ndo_xdp_xmit" in found["out0"][1]["finding"]
    assert found["out0"][1]["fix"] == "ethtool -K FAR_END gro on"
    for text, level in ((policy('"closed"'), "note"), (policy('"kernel"'), "problem"), (policy('"open"'), "problem"),
                        (policy('"closed"', 'datapath = "kernel"'), "problem")):
        (folder / "p.toml").write_text(text)
        assert doctor(sekisho, deaf, "--policy", folder / "p.toml")["out0"][1]["level"] == level
    sh(f"ip netns exec {deaf.outer} ethtool -K a0 gro on")
    found = doctor(sekisho, deaf, "--policy", folder / "p.toml")
    assert [f["level"] for f in found["out0"]] == ["note", "good"]


def test_the_doctor_knows_drivers_without_xdp(sekisho, deaf):
    sh(f"ip -n {deaf.bridge} link add plain type bridge")
    found = doctor(sekisho, deaf, inside="plain")["plain"]
    # The kernel says so, not a list.
    assert found[0]["level"] == "warning" and found[0]["finding"].endswith("generic XDP only") and "probably" not in found[0]["finding"]
    # Where frames pass the stack, they leave by it as well.
    assert found[1]["level"] == "good" and "redirected" in found[1]["finding"]


def test_the_kernel_alone_needs_such_ports(bridge, sekisho, deaf):
    """Why: nothing would ever leave by that port."""
    doctor(sekisho, deaf)
    running = bridge(policy('"closed"', 'datapath = "kernel"'), net=deaf, wait=False)
    assert running.wait_for_end() == 1
    assert "EOPNOTSUPP" in running.said() and "out0" in running.said() and "gro on" in running.said(), running.said()
    assert not deaf.has_programs()
    # Nor can it be applied: the running policy stays.
    running = bridge(policy('"closed"'), net=deaf)
    done = running.apply(policy('"closed"', 'datapath = "kernel"'))
    assert done.returncode == 1 and "EOPNOTSUPP" in done.stderr and "out0" in done.stderr
    assert running.status()["judging"]["datapath"] == "worker" and running.status()["policy"]["version"] == 1
    deaf.a.send(frame(1, 1))
    assert deaf.b.receive(1)
    sh(f"ip netns exec {deaf.outer} ethtool -K a0 gro on")
    assert running.apply(policy('"closed"', 'datapath = "kernel"')).returncode == 0
    deaf.a.send(frame(1, 2))
    assert deaf.b.receive(1)


@pytest.mark.parametrize("action", ("kernel", "open"))
def test_a_failure_plan_that_cannot_hold_is_said(bridge, sekisho, deaf, action):
    """Why: the workers carry frames over such a port, so nobody notices until they fail."""
    doctor(sekisho, deaf)
    running = bridge(policy(f'"{action}"'), net=deaf)
    assert "out0 (driver veth) sends no redirected frames" in running.said() and "in0 (driver veth) sends" not in running.said()
    deaf.a.send(frame(1, 1))
    assert deaf.b.receive(1)
    assert running.apply(policy('"closed"')).returncode == 0
    done = running.apply(policy(f'"{action}"'))
    assert done.returncode == 0 and any("out0" in warning and "redirected" in warning for warning in json.loads(done.stdout)["warnings"])
    sh(f"ip netns exec {deaf.outer} ethtool -K a0 gro on")
    assert json.loads(running.apply(policy(f'"{action}"')).stdout)["warnings"] == []
    running.apply(policy('"closed"'))
