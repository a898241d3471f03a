"""`sekisho diff`: two policies, and a policy and what was learnt."""

import json
import re

import pytest

from frames import ARP, ICMP, IP, TCP, UDP, ether, write_pcap

HEAD = """
version = 1
name = "bay"
mode = "{mode}"
[devices.mes]
addresses = ["10.3.0.10"]
[devices.vendor]
addresses = ["10.3.0.99"]
[devices.scanner-1]
addresses = ["10.3.1.21", "fd00:3::21"]
[groups]
scanners = ["scanner-1", "10.3.1.64/27"]
"""
RULE = '[[allow]]\nid = "{}"\nfrom = "{}"\nto = {}\nservice = {}\n{}\n'
A = HEAD.format(mode="monitor") + RULE.format("mes-scanner", "mes", '"scanners"', '"hsms"', "") + RULE.format(
    "vendor-ssh", "vendor", '"scanner-1"', '"ssh"', 'side = "outside"')
B = HEAD.format(mode="enforce") + RULE.format("mes-scanner", "mes", '["scanners", "10.3.2.7"]', '["hsms", "icmp/echo"]', "")


@pytest.fixture
def diff(sekisho, folder):
    """Texts in place of files; returns what was printed, as JSON and as text."""

    def run(*texts, state=None, expect):
        files = []
        for number, text in enumerate(texts):
            files.append(folder / f"{'ab'[number]}.toml")
            files[-1].write_text(text)
        words = [*files, *(["--state", state] if state else [])]
        plain, machine = sekisho("diff", *words), sekisho("diff", *words, "--json")
        assert (plain.returncode, plain.stderr) == (expect, ""), plain
        assert (machine.returncode, machine.stderr) == (expect, ""), machine
        return json.loads(machine.stdout), plain.stdout

    return run


def test_two_policies(diff):
    """Why: who signs reads this, and what does not change must not be in it."""
    report, text = diff(A, B, expect=1)
    assert text == """\
+  mes → scanners, 10.3.2.7  icmp/echo             (rule "mes-scanner" in B)
+  mes → 10.3.2.7            tcp/5000-5001         (rule "mes-scanner" in B)
-  vendor → scanner-1        tcp/22, from outside  (rule "vendor-ssh" in A)
~  mode  monitor → enforce
under a mode other than enforce everything passes: + and - are what enforce would do
B lets 2 kinds of conversation more pass, 1 fewer; mode changes from monitor to enforce
"""
    assert (report["same"], report["complete"]) == (False, True)
    assert (report["a"]["mode"], report["a"]["rules"], report["b"]["rules"]) == ("monitor", 2, 1)
    assert report["gained"] == {"more": 0, "conversations": [
        {"rule": "mes-scanner", "from": {"names": ["mes"]}, "to": {"names": ["scanners", "10.3.2.7"]}, "service": ["icmp/echo"], "family": "ipv4"},
        {"rule": "mes-scanner", "from": {"names": ["mes"]}, "to": {"names": ["10.3.2.7"]}, "service": ["tcp/5000-5001"], "family": "ipv4"}]}
    assert report["lost"]["conversations"] == [
        {"rule": "vendor-ssh", "from": {"names": ["vendor"]}, "to": {"names": ["scanner-1"]}, "service": ["tcp/22"], "side": "outside",
         "family": "ipv4"}]
    assert report["changes"] == [{"what": "mode", "subject": "mode", "a": "monitor", "b": "enforce"}]
    assert report["summary"] == text.splitlines()[-1]


def test_other_words(diff):
    """Why: a file that was only tidied up needs no new approval."""
    tidied = B.replace("scanners", "tools").replace("mes-scanner", "link").replace('"hsms"', '"tcp/5001", "tcp/5000"')
    report, text = diff(B, tidied, expect=0)
    assert text == "A and B mean the same\n" and report["same"] and report["gained"]["conversations"] == report["changes"] == []


def test_expired_rules_and_what_else_changes(diff):
    """Why: these decide whether frames pass, too, and no rule shows them."""
    old = 'expires = 2020-01-01T00:00:00Z'
    before = B + RULE.format("old", "vendor", '"mes"', '"ssh"', old)
    after = B.replace('name = "bay"', 'name = "bay"\non_failure = { worker_dead = "kernel" }\nethertypes = ["arp", "lldp"]') \
        .replace('addresses = ["10.3.0.10"]', 'addresses = ["10.3.0.10"]\nmac = ["02:00:00:00:03:0a"]').replace('"icmp/echo"]', '"icmp/echo"]\ntcp = "strict"')
    report, text = diff(before, after, expect=1)
    assert report["a"]["expired"] == ["old"] and report["gained"]["conversations"] == report["lost"]["conversations"] == []
    assert text == """\
~  ethertype lldp (0x88cc)     denied → passes
~  on_failure.worker_dead      closed → kernel
~  binding of mes (10.3.0.10)  not bound → 02:00:00:00:03:0a
~  tcp                         loose → strict                 (rule "mes-scanner")
1 rule of A has expired and does not count: old
B lets the same conversations pass; 4 other changes
"""
    assert {change["what"] for change in report["changes"]} == {"ethertype", "on_failure", "binding", "flows"}


def test_more_than_a_screen(diff):
    """Why: hundreds of lines hide the one that matters; none may vanish unsaid."""
    rules = "".join(RULE.format(f"r{n}", f"10.9.{n // 250}.{n % 250}", f'"10.8.{n % 7}.{n % 250}"', f'"tcp/{n + 1}"', "") for n in range(1200))
    report, text = diff(B, B + rules, expect=1)
    assert len(report["gained"]["conversations"]) == 1000 and report["gained"]["more"] == 200
    assert len(text.splitlines()) == 42 and "… and 1,160 more" in text
    assert "1200 kinds of conversation more" in text


@pytest.mark.parametrize("case", ["missing", "folder", "broken", "both broken"])
def test_wrong_files(sekisho, folder, case):
    """Why: "differs" is an answer; a file that could not be read is none."""
    good, bad = folder / "good.toml", folder / "bad.toml"
    good.write_text(B)
    if case == "folder":
        bad.mkdir()
    elif case != "missing":
        bad.write_text('version = 1\nmode = "enfroce"\n')
    done = sekisho("diff", bad if case == "both broken" else good, bad)
    assert done.returncode == 2 and done.stdout == "" and str(bad) in done.stderr
    if "broken" in case:
        assert len(re.findall(r":2:8: error: .*\"enforce\"", done.stderr)) == (2 if case == "both broken" else 1)


@pytest.mark.parametrize("words", [(), ("a",), ("a", "b", "c"), ("a", "b", "--state", "s"), ("--state", "s"), ("a", "b", "--nonsense")])
def test_wrong_arguments(sekisho, words):
    done = sekisho("diff", *words)
    assert done.returncode == 64 and "Error" in done.stderr and done.stdout == ""


def test_help(sekisho):
    done = sekisho("diff", "--help")
    assert done.returncode == 0 and "--state" in done.stdout and "exit code 0" in done.stdout


# --- against what was learnt -------------------------------------------------------------------------------------


def talk(client, server, port, count=1, sport=40000, layer=TCP):
    there, back = dict(src=client, dst=server), dict(src=server, dst=client)
    out = []
    for number in range(count):
        ports, answer = dict(sport=sport + number, dport=port), dict(sport=port, dport=sport + number)
        if layer is UDP:
            out += [ether() / IP(**there) / UDP(**ports) / b"?", ether() / IP(**back) / UDP(**answer) / b"!"]
            continue
        out += [
            ether() / IP(**there) / TCP(flags="S", seq=1, **ports), ether() / IP(**back) / TCP(flags="SA", seq=9, ack=2, **answer),
            ether() / IP(**there) / TCP(flags="A", seq=2, ack=10, **ports), ether() / IP(**back) / TCP(flags="PA", seq=10, ack=2, **answer) / b"x"]
    return out


@pytest.fixture
def learnt(sekisho, folder):
    def run(frames):
        capture = write_pcap(folder / "in.pcap", [bytes(frame) for frame in frames])
        done = sekisho("learn", capture, "--state", folder / "state")
        assert done.returncode == 0, done.stderr
        return folder / "state"

    return run


def test_what_would_be_stopped_and_what_nobody_used(diff, learnt):
    """Why: before enforcing, what would break; after a year, what can go."""
    state = learnt(
        [ether() / ARP()] + talk("10.3.0.10", "10.3.1.21", 5000, 3) + talk("10.3.0.10", "10.3.5.5", 502, 2) + talk("10.3.0.99", "10.3.0.10", 53, 1, layer=UDP))
    policy = B.replace("mes-scanner", "link") + RULE.format("unused", "vendor", '"mes"', '"tcp/9"', "")
    report, text = diff(policy, state=state, expect=1)
    assert [(row["client"], row["server"], row["service"]) for row in report["not_allowed"]] == [
        ("10.3.0.10", "10.3.5.5", "tcp/502"), ("10.3.0.99", "10.3.0.10", "udp/53")]
    assert [(row["connections"], row["frames"], row["days"]) for row in report["not_allowed"]] == [(2, 8, 1), (1, 2, 1)]
    assert report["allowed"] == 1 and not report["same"]
    assert report["unused"] == [
        {"rule": "link", "whole": False, "from": [], "to": ["10.3.2.7", "10.3.1.64/27"], "service": ["tcp/5001", "icmp/echo"], "vlan": []},
        {"rule": "unused", "whole": True, "from": [], "to": [], "service": [], "vlan": []}]
    lines = text.splitlines()
    assert re.match(r"-  mes → 10\.3\.5\.5 +tcp/502 +2 connections +8 frames +1 day", lines[0]), text
    assert re.match(r"-  vendor → mes +udp/53 +1 connection +2 frames +1 day", lines[1]), text
    assert '?  rule "link"    not used: to: 10.3.2.7, 10.3.1.64/27; service: tcp/5001, icmp/echo' in lines
    assert '?  rule "unused"  nobody has used it' in lines
    assert lines[-1] == "of 3 conversations learnt the policy allows 1; 1 rule was not used; 1 was used in part"


def test_a_policy_that_fits(diff, learnt):
    """Why: the aim of it all is the exit code 0."""
    state = learnt([ether() / ARP()] + talk("10.3.0.10", "10.3.1.21", 5000))
    policy = HEAD.format(mode="enforce") + RULE.format("link", "mes", '"10.3.1.21"', '"tcp/5000"', "")
    report, text = diff(policy, state=state, expect=0)
    assert report["same"] and text == "of 1 conversation learnt the policy allows 1\n"


def test_sides_of_a_capture_are_not_held_against_a_rule(diff, learnt):
    """Why: a capture does not say by which port a frame came."""
    state = learnt([ether() / ARP()] + talk("10.3.0.10", "10.3.1.21", 5000))
    for side in ("inside", "outside"):
        diff(HEAD.format(mode="enforce") + RULE.format("link", "mes", '"10.3.1.21"', '"tcp/5000"', f'side = "{side}"'), state=state, expect=0)


def test_data_connections_of_ftp_need_no_rule(diff, learnt):
    """Why: they pass with their session, and every one of them has another port."""
    state = learnt([ether() / ARP()] + talk("10.3.0.10", "10.3.1.21", 21) + talk("10.3.0.10", "10.3.1.21", 50123, sport=41000))
    policy = HEAD.format(mode="enforce") + RULE.format("ftp", "mes", '"10.3.1.21"', '"ftp"', "{}")
    diff(policy.format("ftp_data = true"), state=state, expect=0)
    report, _ = diff(policy.format(""), state=state, expect=1)
    assert [row["service"] for row in report["not_allowed"]] == ["tcp/50123"]


def test_what_else_was_seen(diff, learnt):
    """Why: ping has no port, and LLDP no address; a policy stops them all the same."""
    lldp = ether(destination="01:80:c2:00:00:0e", type=0x88CC) / (b"\0" * 46)
    ping = dict(src="10.3.0.10", dst="10.3.1.21"), dict(src="10.3.1.21", dst="10.3.0.10")
    state = learnt([lldp, ether() / IP(**ping[0]) / ICMP(type=8), ether() / IP(**ping[1]) / ICMP(type=0)])
    report, text = diff(HEAD.format(mode="enforce") + RULE.format("ping", "mes", '"10.3.1.21"', '"icmp/echo"', ""), state=state, expect=1)
    assert report["not_allowed"] == report["unused"] == []
    assert report["ethertypes_not_allowed"] == [{"ethertype": "lldp (0x88cc)", "frames": 1}] and report["ethertypes_unused"] == ["arp (0x806)"]
    assert "-  ethertype lldp (0x88cc)  1 frame\n?  ethertype arp (0x806)  nobody has used it\n" in text


def test_no_history(sekisho, folder):
    (folder / "a.toml").write_text(B)
    done = sekisho("diff", folder / "a.toml", "--state", folder / "nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr and "→" in done.stderr and done.stdout == ""
