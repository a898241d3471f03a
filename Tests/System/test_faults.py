"""What goes wrong around a bridge: it must say so, leave nothing behind, and come back."""

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from conftest import sh
from frames import IP, UDP, ether

POLICY = """
version = 1
[[allow]]
id = "one"
from = "10.0.0.1"
to = "10.0.0.2"
service = "udp/1"
"""


def frame(number=0):
    return bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2", id=number) / UDP(sport=9, dport=1) / b"frame")


def answer(number=0):
    return bytes(ether() / IP(src="10.0.0.2", dst="10.0.0.1", id=number) / UDP(sport=1, dport=9) / b"answer")


def forwards(net):
    net.a.drain(), net.b.drain()
    net.a.send(frame(7))
    net.b.send(answer(8))
    return net.b.receive(1, timeout=2) == [frame(7)] and net.a.receive(1, timeout=2) == [answer(8)]


def fails(bridge, net, *words, inside="in0", outside="out0", policy=POLICY):
    """A start that must fail: cleanly, soon, with an explanation, and with nothing attached."""
    before = {name: link for name, link in net.links().items()}
    running = bridge(policy, net=net, wait=False, inside=inside, outside=outside)
    assert running.wait_for_end() == 1, running.said()
    said = running.said()
    assert "error" in said
    for word in words:
        assert word in said, f"does not say {word!r}: {said}"
    after = net.links()
    for name, link in before.items():
        assert ("xdp" in after[name]) == ("xdp" in link), f"{name}: a program was left or taken off"
        assert after[name]["promiscuity"] == link["promiscuity"]
    assert not running.socket.exists()
    return said


# --- Starts that must fail ---------------------------------------------------------------------------------------


def test_a_missing_port(bridge, network):
    """Why: names of ports change with the slot."""
    fails(bridge, network(), "nowhere0", "ENODEV", "→", inside="nowhere0")


def test_the_second_port_is_missing(bridge, network):
    """Why: a bridge attached to one port only is a line cut."""
    fails(bridge, network(), "nowhere0", "ENODEV", "→", outside="nowhere0")


def test_one_port_twice(bridge, network):
    """Why: a frame would be sent back where it came from."""
    fails(bridge, network(), "itself", "→", inside="in0", outside="in0")


def test_one_port_under_two_names(bridge, network):
    """Why: as above, less obviously."""
    net = network()
    sh(f"ip -n {net.bridge} link property add dev in0 altname tool-side")
    fails(bridge, net, "itself", inside="in0", outside="tool-side")


def test_different_mtus(bridge, network):
    """Why: large frames would be lost without a word."""
    net = network()
    sh(f"ip -n {net.bridge} link set in0 mtu 1400")
    fails(bridge, net, "MTU", "1400", "1500", "→")


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_the_port_with_the_default_route(bridge, network, family):
    """Why: the machine would cut itself off, and nobody could log in to undo it."""
    net = network(is_quiet=False)
    sh(f"ip -n {net.bridge} link set in0 up")
    gateway = {"-4": ("192.0.2.1/24", "192.0.2.2"), "-6": ("2001:db8::1/64", "2001:db8::2")}[family]
    sh(f"ip -n {net.bridge} {family} address add {gateway[0]} dev in0" + (" nodad" if family == "-6" else ""))
    sh(f"ip -n {net.bridge} {family} route add default via {gateway[1]} dev in0")
    fails(bridge, net, "default route", "→")


def test_a_port_of_a_kernel_bridge(bridge, network):
    """Why: frames would go two ways."""
    net = network()
    sh(f"ip -n {net.bridge} link add br0 type bridge")
    sh(f"ip -n {net.bridge} link set out0 master br0")
    fails(bridge, net, "br0", "nomaster")


def test_the_loopback_port(bridge, network):
    """Why: it is no wire."""
    net = network()
    sh(f"ip -n {net.bridge} link set lo up")
    fails(bridge, net, "lo", "→", outside="lo")


def test_another_program_on_the_port(bridge, network, folder):
    """Why: somebody else's program is not ours to throw out."""
    net = network()
    source = folder / "pass.c"
    source.write_text('__attribute__((section("xdp"), used)) int pass(void *c) { return 2; }\n')
    compiled = subprocess.run(["clang", "-O2", "-target", "bpf", "-c", source, "-o", folder / "pass.o"], capture_output=True)
    assert compiled.returncode == 0, compiled.stderr
    sh(f"ip netns exec {net.bridge} ip link set dev in0 xdp object {folder}/pass.o section xdp")
    before = net.links()["in0"]["xdp"]["prog"]["id"]
    fails(bridge, net, "in0", "EBUSY", "xdp off")
    assert net.links()["in0"]["xdp"]["prog"]["id"] == before


@pytest.mark.parametrize("policy, word", [("version = 2\n", "version"), ("", "version is missing"), ("[allow\n", "TOML")])
def test_no_valid_policy_nothing_attached(bridge, network, policy, word):
    """Why: a bridge without a policy could only open the line or cut it."""
    fails(bridge, network(), ":1:", word, policy=policy)


def test_a_missing_policy(sekisho, network, folder):
    """Why: as above."""
    net = network()
    done = sekisho(
        "run", "--inside", "in0", "--outside", "out0", "--policy", folder / "nowhere.toml", "--control", folder / "c",
        prefix=("ip", "netns", "exec", net.bridge))
    assert done.returncode == 1 and "ENOENT" in done.stderr and "nowhere.toml" in done.stderr and "→" in done.stderr
    assert not net.has_programs()


def test_without_privileges(binary, sekisho, network, folder):
    """Why: the first try is always without sudo."""
    net = network()
    # The program itself may lie where others cannot go.
    own = folder / "sekisho"
    shutil.copy(binary, own)
    folder.chmod(0o777)
    (folder / "policy.toml").write_text(POLICY)
    drop = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    done = subprocess.run(
        ["ip", "netns", "exec", net.bridge, *drop, own, "run", "--inside", "in0", "--outside", "out0",
         "--policy", folder / "policy.toml", "--control", folder / "c"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done.stderr
    assert "EPERM" in done.stderr and "root" in done.stderr and "CAP_NET_ADMIN" in done.stderr, done.stderr
    assert not net.has_programs() and not (folder / "c").exists()
    # Where nobody may write, the socket is the first thing to fail.
    folder.chmod(0o755)
    done = subprocess.run(
        ["ip", "netns", "exec", net.bridge, *drop, own, "run", "--inside", "in0", "--outside", "out0",
         "--policy", folder / "policy.toml", "--control", folder / "c"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "EACCES" in done.stderr and "root" in done.stderr, done.stderr
    doctor = subprocess.run(
        ["ip", "netns", "exec", net.bridge, *drop, own, "doctor", "--inside", "in0", "--outside", "out0"],
        capture_output=True, text=True, timeout=30)
    assert doctor.returncode == 1 and "CAP_NET_ADMIN" in doctor.stdout


def test_another_bridge_on_the_same_ports(bridge, network):
    """Why: started twice by mistake, the first one must not suffer."""
    net = network()
    first = bridge(POLICY, net=net)
    second = bridge(POLICY, net=net, wait=False)
    assert second.wait_for_end() == 1
    assert "another sekisho" in second.said() and "EBUSY" in second.said()
    assert not second.socket.exists()
    assert forwards(net) and first.status()["policy"]["version"] == 1


def test_another_bridge_on_the_same_socket(binary, sekisho, bridge, network):
    """Why: the second one would steal the first one's socket."""
    first, other = bridge(POLICY, net=network()), network()
    done = sekisho(
        "run", "--inside", "in0", "--outside", "out0", "--policy", first.policy, "--control", first.socket,
        prefix=("ip", "netns", "exec", other.bridge))
    assert done.returncode == 1 and "EADDRINUSE" in done.stderr and str(first.socket) in done.stderr
    assert not other.has_programs()
    assert first.status()["policy"]["version"] == 1 and forwards(first.network)


def test_a_file_in_the_place_of_the_socket(bridge, network, folder):
    """Why: a wrong path must not cost a file."""
    (folder / "0").mkdir()
    (folder / "0" / "control").write_text("precious")
    running = bridge(POLICY, net=network(), wait=False)
    assert running.wait_for_end() == 1
    assert "EADDRINUSE" in running.said() and running.socket.read_text() == "precious"


def test_the_socket_of_a_dead_bridge(bridge, network, folder):
    """Why: after a power cut the file is still there."""
    (folder / "0").mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "0" / "control"))
    dead.close()
    assert bridge(POLICY, net=network()).status()["policy"]["version"] == 1


def test_a_port_on_top_of_another(bridge, network):
    """Why: above another port the kernel has taken the VLAN tag off already; a bridge there must refuse, or keep the tag."""
    net = network()
    sh(f"ip -n {net.bridge} link set in0 up")
    sh(f"ip -n {net.bridge} link add link in0 name upper type macvlan mode passthru")
    running = bridge(POLICY, net=net, inside="upper", wait=False)
    if not until_up(running):
        assert running.wait_for_end() == 1 and "upper" in running.said() and "→" in running.said(), running.said()
        assert not net.has_programs()
        return
    tagged = answer()[:12] + b"\x81\0\0\7" + answer()[12:]
    net.b.send(tagged)
    assert net.a.receive(1) == [tagged]


def until_up(running):
    """Waits until it is up (true) or has ended (false)."""
    def answers():
        return running.sekisho("status", "--control", running.socket).returncode == 0

    running.wait_for(lambda: running.process.poll() is not None or answers(), "an end or a beginning")
    return running.process.poll() is None


# --- Ends --------------------------------------------------------------------------------------------------------


def settings(net):
    features = {
        port: sh(f"ip netns exec {net.bridge} ethtool -k {port}") for port in ("in0", "out0")}
    links = {
        name: (link["promiscuity"], link.get("xdp"), "UP" in link["flags"], link["mtu"]) for name, link in net.links().items()}
    ipv6 = sh(f"ip netns exec {net.bridge} sysctl net.ipv6.conf.in0.disable_ipv6 net.ipv6.conf.out0.disable_ipv6")
    return features, links, ipv6


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_end_leaves_nothing_behind(bridge, network, how):
    """Why: the port is somebody else's again."""
    net = network(is_quiet=False)
    for port in ("in0", "out0"):
        sh(f"ip -n {net.bridge} link set {port} up")
        sh(f"ip netns exec {net.bridge} ethtool -K {port} rxvlan on gro on")
    before = settings(net)
    running = bridge(POLICY, net=net)
    assert forwards(net)
    during = settings(net)
    assert "rx-vlan-offload: off" in during[0]["in0"] and net.has_programs()
    assert net.links()["in0"]["promiscuity"] == before[1]["in0"][0] + 1
    assert running.stop(how) == 0, running.said()
    assert settings(net) == before
    assert not running.socket.exists()
    assert not forwards(net), "who forwards?"


def test_an_end_while_frames_come(bridge, network):
    """Why: nobody stops the factory to stop the bridge."""
    net = network()
    for _ in range(3):
        running = bridge(POLICY, net=net)
        net.a.send(*[frame(number) for number in range(500)])
        assert running.stop() == 0, running.said()
        assert not net.has_programs()


def test_killed_and_started_again_at_once(bridge, network):
    """Why: what a supervisor does; nothing of the dead one may be in the way."""
    net = network(queues=(2, 2))
    for _ in range(5):
        running = bridge(POLICY, net=net)
        net.a.send(*[frame(number) for number in range(100)])
        running.process.kill()
        again = bridge(POLICY, net=net)
        assert again.socket != running.socket
        assert forwards(net)
        again.kill()


def test_killed_and_started_again_on_the_same_socket(binary, sekisho, bridge, network):
    """Why: as above: the socket's file is still there as well."""
    net = network()
    running = bridge(POLICY, net=net)
    running.kill()
    assert running.socket.exists()
    with open(running.log, "ab") as log:
        running.process = subprocess.Popen(
            ["ip", "netns", "exec", net.bridge, binary, "run", "--inside", "in0", "--outside", "out0", "--policy", running.policy,
             "--control", running.socket], stdout=log, stderr=log)
    running.wait_until_up()
    assert forwards(net)


# --- While it runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", ["spin", "hybrid", "sleep"])
@pytest.mark.parametrize("which", ["near", "far"])
def test_a_link_goes_down_and_comes_back(bridge, network, idle, which):
    """Why: somebody pulls a plug every day."""
    net = network()
    running = bridge(POLICY, "--idle", idle, net=net)
    assert forwards(net)
    namespace, port = (net.bridge, "in0") if which == "near" else (net.inner, "b0")
    sh(f"ip -n {namespace} link set {port} down")
    assert running.status()["ports"]["inside"]["link"] == "down"
    net.a.send(*[frame(number) for number in range(300)])
    assert running.status()["mode"] == "enforce"
    sh(f"ip -n {namespace} link set {port} up")
    running.wait_for(lambda: {p["link"] for p in running.status()["ports"].values()} == {"up"}, "the link")
    running.wait_for(lambda: forwards(net), "traffic")


@pytest.mark.parametrize("idle", ["spin", "hybrid", "sleep"])
def test_a_port_vanishes(bridge, network, idle):
    """Why: a USB adapter, a virtual function, a container: it must be seen, and the bridge must still end."""
    net = network()
    running = bridge(POLICY, "--idle", idle, net=net)
    assert forwards(net)
    sh(f"ip -n {net.bridge} link del in0")
    net.a.send(*[frame(number) for number in range(300)])
    # It has no right any more to take a port up that comes back: the service manager starts another.
    assert running.wait_for_end() == 1
    assert "in0 is gone" in running.said()
    assert "xdp" not in net.links()["out0"]


def test_what_changes_on_the_ports_is_said(bridge, network):
    """Why: somebody else's tool renames ports, changes MTUs and queues; nobody thinks of the bridge then."""
    net = network(queues=(2, 2))
    running = bridge(POLICY, net=net)
    assert forwards(net)
    sh(f"ip -n {net.bridge} link set in0 mtu 1400")
    running.wait_for(lambda: "in0: its MTU is now 1400, and was 1500" in running.said(), "the MTU")
    if subprocess.run(["ip", "-n", net.bridge, "link", "set", "out0", "name", "wan0"], capture_output=True).returncode == 0:
        running.wait_for(lambda: "out0: is now called wan0" in running.said(), "the name")
        running.wait_for(lambda: forwards(net), "traffic")
        assert running.status()["ports"]["outside"]["link"] == "up"
    if subprocess.run(["ip", "netns", "exec", net.bridge, "ethtool", "-L", "in0", "rx", "1"], capture_output=True).returncode == 0:
        running.wait_for(lambda: "in0: it has 1 queues now" in running.said(), "the queues")
    assert running.stop() == 0


def test_the_mtu_grows_while_it_runs(bridge, network):
    """Why: larger frames than it was made for must be dropped and counted, not crash it."""
    net = network()
    running = bridge(POLICY, net=net)
    for namespace, port in ((net.bridge, "in0"), (net.bridge, "out0"), (net.outer, "a0"), (net.inner, "b0")):
        subprocess.run(["ip", "-n", namespace, "link", "set", port, "mtu", "9000"], capture_output=True)
    large = bytes(ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=1) / bytes(8000))
    try:
        net.a.send(large, large)
    except OSError:
        pass  # the kernel did not allow it
    assert forwards(net) or running.process.poll() is None
    assert running.status()["mode"] == "enforce"


def test_hosts_that_send_more_than_fits(bridge, network):
    """Why: what cannot be sent is dropped and counted, and afterwards all is as before."""
    net = network()
    running = bridge(POLICY, net=net)
    sh(f"ip -n {net.inner} link set b0 down")
    net.a.send(*[frame(number) for number in range(9000)])  # more than it has buffers
    sh(f"ip -n {net.inner} link set b0 up")
    running.wait_for(lambda: forwards(net), "traffic")
    status = running.status()
    for direction in status["directions"].values():
        assert direction["received"]["frames"] == direction["forwarded"]["frames"] + direction["denied"]["frames"]
