"""The command line: what it prints, what it ends with, and that no input makes it crash."""

import csv
import json
import re
import struct

import pytest

from frames import ARP, IP, TCP, Dot1Q, ether, write_pcap, write_pcapng

# The example of the policy reference.
EXAMPLE = """
version = 1
name = "litho-bay-3"
mode = "enforce"                        # learn | monitor | enforce
ethertypes = ["arp", "lldp", 0x8892]    # non-IP frames that pass; default: arp

[devices.mes]
addresses = ["10.3.0.10"]
mac = ["02:00:00:00:03:0a"]             # optional: binds address and MAC
[devices.scanner-1]
addresses = ["10.3.1.21", "fd00:3::21"]

[groups]
scanners = ["scanner-1", "10.3.1.64/27"]

[services]
hsms   = ["tcp/5000", "tcp/5001"]
recipe = ["tcp/21", "tcp/49152-49407"]

[[allow]]
id = "mes-scanner"
from = "mes"                            # device, group, address, CIDR, "any", or a list
to = ["scanners", "10.3.2.7"]
service = ["hsms", "icmp/echo"]         # service name, proto/port, proto/range, proto/any, or a list
purpose = "SECS/GEM host link"          # purpose and owner are kept for the auditor
owner = "litho"

[[allow]]
id = "six"
from = "fd00:3::/64"
to = "scanners"
service = ["recipe", "icmp/echo"]
vlan = [12]
side = "inside"
mode = "monitor"
expires = 2099-01-01T00:00:00Z
"""


@pytest.fixture
def policy(folder):
    def write(text, name="policy.toml"):
        file = folder / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        return file

    return write


# --- check -------------------------------------------------------------------------------------------------------


def test_the_example_is_valid(sekisho, policy):
    """Why: the documented policy file is a contract."""
    done = sekisho("check", policy(EXAMPLE))
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid" in done.stdout and "litho-bay-3" in done.stdout and "warning" not in done.stdout
    report = json.loads(sekisho("check", policy(EXAMPLE), "--json").stdout)
    assert report["valid"] is True and report["rules"] == 2 and report["diagnostics"] == []


BROKEN = """\
version = 2
nmae = "x"
mode = "enfroce"
ethertypes = ["arp", "lldpp", 0x0800, 99999, 1.5]
[devices.mes]
addresses = ["10.3.0.10", "10.3.0.300", "10.0.0.0/8"]
mac = ["02:00:00:00:03"]
[devices.two]
addresses = ["10.3.0.10"]
colour = "red"
[groups]
empty = []
loop = ["loop"]
mes = ["10.0.0.1"]
bits = ["10.3.1.65/27", "10.0.0.0/33"]
[services]
bad = ["tcp", "tcp/0", "tcp/9-5", "icmp/nonsense", "gre/5", "xyz/1"]
[[allow]]
id = "a"
from = "mse"
to = "nowhere"
service = "hsmss"
vlan = [0, 4095]
side = "insid"
expires = 2027-01-01
[[allow]]
id = "a"
from = []
to = "mes"
extra = 1
"""
# Line, column, and a word of the message.
FAULTS = [
    (1, 11, "version"), (2, 1, "nmae"), (3, 8, "enfroce"), (4, 22, "lldpp"), (4, 31, "IPv4"), (4, 39, "99999"), (4, 46, "EtherType"),
    (6, 27, "10.3.0.300"), (6, 41, "networks"), (7, 8, "MAC"), (9, 14, "belongs"), (10, 1, "colour"), (12, 9, "empty"),
    (13, 1, "itself"), (14, 1, "device and a group"), (15, 9, "host bits"), (15, 25, "too long"), (17, 8, "tcp"),
    (17, 15, "out of range"), (17, 24, "backwards"), (17, 35, "nonsense"), (17, 52, "gre"), (17, 61, "xyz"), (20, 8, "mse"),
    (21, 6, "nowhere"), (22, 11, "hsmss"), (23, 9, "VLAN"), (23, 12, "VLAN"), (24, 8, "insid"), (25, 11, "instant"),
    (26, 1, "service"), (27, 6, "already"), (28, 8, "empty"), (30, 1, "extra"),
]


def test_every_problem_at_once_with_its_place(sekisho, policy):
    """Why: one problem a run costs an engineer in a clean room an hour."""
    file = policy(BROKEN)
    done = sekisho("check", file)
    assert done.returncode == 1
    found = [
        (int(line), int(column), text)
        for line, column, text in re.findall(rf"^{re.escape(str(file))}:(\d+):(\d+): error: (.*)$", done.stdout, re.M)]
    for line, column, word in FAULTS:
        assert any((a, b) == (line, column) and word in text for a, b, text in found), f"{line}:{column} {word}\n{done.stdout}"
    assert len(found) == len(FAULTS), done.stdout
    assert found == sorted(found, key=lambda fault: fault[:2]), "in the order of the file"
    for suggestion in ('"name"', '"enforce"', '"lldp"', "10.3.1.64/27", '"5-9"', '"mes"', '"hsms"', '"inside"'):
        assert suggestion in done.stdout, f"suggests nothing about {suggestion}"
    report = json.loads(sekisho("check", file, "--json").stdout)
    assert report["valid"] is False and len(report["diagnostics"]) == len(FAULTS)


RULE = 'version = 1\n[[allow]]\nid = "{0}"\nfrom = {1}\nto = {2}\nservice = {3}\n{4}\n'


@pytest.mark.parametrize("rule, word", [
    (("a", '"10.0.0.1"', '"10.0.0.2"', '"tcp/1"', "expires = 2020-01-01T00:00:00Z"), "expired"),
    (("a", '"10.0.0.1"', '"fd00::1"', '"tcp/1"', ""), "family"),
    (("a", '"10.0.0.1"', '"10.0.0.2"', '"icmpv6/echo"', ""), "family"),
    (("a", '"10.0.0.1"', '"10.0.0.1"', '"tcp/1"', ""), "itself"),
    (("a", '"any"', '"any"', '"tcp/1"', ""), "anybody"),
    (("a", '"10.0.0.1"', '"10.0.0.2"', '"tcp/1"', '[[allow]]\nid="b"\nfrom="10.0.0.1"\nto="10.0.0.2"\nservice="tcp/1"'), "same"),
    (("a", '"10.0.0.0/8"', '"10.0.0.2"', '"tcp/1"', '[[allow]]\nid="b"\nfrom="10.0.0.1"\nto="10.0.0.2"\nservice="tcp/1"'), "covered"),
    (("a", '"10.0.0.0/8"', '"10.0.0.2"', '"tcp/1-5"', '[[allow]]\nid="b"\nfrom="10.0.0.1"\nto="any"\nservice="tcp/4-9"'), "overlaps"),
    # Errors and replies pass with what they belong to; neighbour discovery passes where ARP does.
    (("a", '"10.0.0.1"', '"10.0.0.2"', '"icmp/3"', ""), "never match"),
    (("a", '"10.0.0.1"', '"10.0.0.2"', '"icmp/0"', ""), "never match"),
    (("a", '"fd00::1"', '"fd00::2"', '"icmpv6/135"', ""), "never match"),
])
def test_doubtful_rules_are_warned_about(sekisho, policy, rule, word):
    """Why: a rule that does nothing, or too much, is a mistake somebody should hear of; the file still works."""
    done = sekisho("check", policy(RULE.format(*rule)))
    assert done.returncode == 0, done.stdout
    assert re.search(rf":\d+:\d+: warning: .*{word}", done.stdout), done.stdout


HOSTILE = {
    "nothing": b"",
    "one zero": b"\0",
    "zeros": bytes(10000),
    "noise": bytes(range(256)) * 400,
    "not UTF-8": b'version = 1\nname = "\xff\xfe"\n',
    "half a character": b'version = 1\nname = "\xf0\x9f\x98',
    "UTF-16": "version = 1\n".encode("utf-16"),
    "a NUL in a string": b'version = 1\nname = "a\0b"\n',
    "no end of a string": b'version = 1\nname = "' + b"x" * 100000,
    "a key of 1 MiB": b"x" * (1 << 20) + b" = 1\n",
    "nested lists": b"version = 1\na = " + b"[" * 200_000 + b"]" * 200_000,
    "nested tables in a line": b"version = 1\na = " + b"{a=" * 200_000 + b"1" + b"}" * 200_000,
    "a dotted table header": b"version = 1\n[" + b".".join([b"a"] * 200_000) + b"]\nb = 1\n",
    "a dotted key": b"version = 1\n" + b".".join([b"a"] * 200_000) + b" = 1\n",
    "devices instead of a table": b"version = 1\ndevices = [[[1]]]\ngroups = 1\nservices = 2\nallow = 3\n",
    "numbers out of range": b"version = 99999999999999999999999\n",
    "a negative version": b"version = -1\nethertypes = [-1, 9223372036854775807]\n",
    "version inf": b"version = inf\n",
    "dates out of range": b'version = 1\n[[allow]]\nid="a"\nfrom="any"\nto="any"\nservice="tcp/1"\nexpires = 9999-99-99T99:99:99Z\n',
    "thousands of errors": b"version = 1\n" + b"".join(b"k%d = 1\n" % i for i in range(20000)),
    "only a carriage return": b"\r",
    "a lone quote": b'"',
    "a thousand groups in groups":
        b"version = 1\n[groups]\n" + b"".join(b'g%d = ["g%d"]\n' % (i, i + 1) for i in range(1000)) + b'g1000 = ["10.0.0.1"]\n',
    "networks times networks":
        b"version = 1\n[[allow]]\nid = 'a'\nfrom = [" + b",".join(b"'10.%d.%d.0/24'" % (i // 250, i % 250) for i in range(3000))
        + b"]\nto = [" + b",".join(b"'11.%d.%d.0/24'" % (i // 250, i % 250) for i in range(3000)) + b"]\nservice = 'tcp/1'\n",
    # Assertions of the TOML library, found by feeding it a million mutations of a policy.
    "three brackets": b"version = 1\n[[[allow]]]\n",
    "a table without a name": b"version = 1\n[=]\n",
    "a header and no more": b"version = 1\n[[\n",
    "a list closed wrongly": b"version = 1\n[[allow]]\nfrom = [}\n",
    "a list separator of another script": "version = 1\nname = [\u2028".encode(),
    "a date glued to a word": b"version = 1\n[[allow]]\nexpires = 2027-01-01true00:00:00\n",
    "half a time": b"version = 1\n[[allow]]\nexpires = 2027-01-01T\n",
    "letters outside of quotes": "version = 1\n\u00e9 = \u0416\n".encode(),
}
HARMLESS = {
    "byte order mark and CRLF": "\ufeffversion = 1\r\nname = \"\u00e9\U0001f600\"\r\n".encode(),
    "the end of time": b'version = 1\n[[allow]]\nid="a"\nfrom="10.0.0.1"\nto="10.0.0.2"\nservice="tcp/1"\nexpires = 9999-12-31T23:59:59-23:59\n',
    "groups in groups": b"version = 1\n[groups]\n" + b"".join(b'g%d = ["g%d"]\n' % (i, i + 1) for i in range(30)) + b'g30 = ["10.0.0.1"]\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(sekisho, policy, name):
    """Why: a file that crashes `check` crashes the running bridge, which reads it with the same code."""
    done = sekisho("check", policy(HOSTILE[name]))
    assert done.returncode == 1
    assert re.search(r":\d+:\d+: error: ", done.stdout), done.stdout[:500]


@pytest.mark.parametrize("name", HARMLESS)
def test_strange_files_are_read(sekisho, policy, name):
    """Why: an editor's habits are no error."""
    done = sekisho("check", policy(HARMLESS[name]))
    assert done.returncode == 0, done.stdout[:500]


@pytest.mark.parametrize("command", [("check",), ("explain",), ("simulate",), ("apply",)])
@pytest.mark.parametrize("case, errno", [("missing", "ENOENT"), ("directory", "EISDIR")])
def test_unreadable_policy(sekisho, folder, command, case, errno):
    """Why: an error names what was done, to what, the errno, and what to do."""
    path = folder / "nowhere.toml" if case == "missing" else folder
    more = {"explain": ("--from", "10.0.0.1", "--to", "10.0.0.2", "--protocol", "tcp"), "simulate": (folder / "x.pcap",)}
    done = sekisho(*command, path, *more.get(command[0], ()))
    assert done.returncode == 1
    assert str(path) in done.stderr and errno in done.stderr and "→" in done.stderr, done.stderr


# --- explain -----------------------------------------------------------------------------------------------------


def explain(sekisho, file, *options):
    plain = sekisho("explain", file, *options)
    report = json.loads(sekisho("explain", file, *options, "--json").stdout)
    assert plain.returncode == {"allow": 0, "deny": 1}[report["verdict"]]
    assert plain.stdout.startswith(report["verdict"])
    return report


def to(source, destination, protocol, port=None, **more):
    words = ["--from", source, "--to", destination, "--protocol", protocol]
    if port is not None:
        words += ["--port", port]
    for name, value in more.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words


@pytest.mark.parametrize("question, rule, reply", [
    (to("10.3.0.10", "10.3.1.21", "tcp", 5000), "mes-scanner", False),
    (to("10.3.0.10", "10.3.1.95", "tcp", 5001, flags="ack,psh"), "mes-scanner", False),
    (to("10.3.1.70", "10.3.0.10", "tcp", 40000, from_port=5000, flags="syn,ack"), "mes-scanner", True),
    (to("10.3.0.10", "10.3.2.7", "icmp"), "mes-scanner", False),
    (to("10.3.0.10", "10.3.2.7", "icmp", 8), "mes-scanner", False),
    (to("10.3.2.7", "10.3.0.10", "6", 40000, from_port=5001, flags="ack"), "mes-scanner", True),
    (to("fd00:3::1", "fd00:3::21", "tcp", 49300, vlan=12), "six", False),
    (to("fd00:3::1", "fd00:3::21", "icmp", vlan=12, side="inside"), "six", False),
    (to("fd00:3::21", "fd00:3::1", "icmp", 129, vlan=12, side="outside"), "six", True),
])
def test_explain_allow(sekisho, policy, question, rule, reply):
    """Why: the engineer's question is about one packet; the answer names the rule."""
    report = explain(sekisho, policy(EXAMPLE), *question)
    assert (report["verdict"], report["rule"], report["reply"]) == ("allow", rule, reply)


@pytest.mark.parametrize("question, cause, nearest, word", [
    (to("10.3.0.11", "10.3.1.21", "tcp", 5000), "not-in-policy", "mes-scanner", "10.3.0.11"),
    (to("10.3.0.10", "10.3.1.96", "tcp", 5000), "not-in-policy", "mes-scanner", "10.3.1.96"),
    (to("10.3.0.10", "10.3.1.21", "tcp", 5002), "not-in-policy", "mes-scanner", "tcp/5002"),
    (to("10.3.0.10", "10.3.1.21", "udp", 5000), "not-in-policy", "mes-scanner", "udp/5000"),
    (to("10.3.1.21", "10.3.0.10", "tcp", 40000, from_port=5000), "syn-from-server", "mes-scanner", "SYN"),
    (to("10.3.1.21", "10.3.0.10", "icmp"), "not-in-policy", "mes-scanner", "request"),
    (to("10.3.0.10", "10.3.1.21", "tcp", 5000, flags="syn,fin"), "tcp-flags", None, None),
    (to("10.3.0.10", "10.3.1.21", "tcp", 5000, flags="none"), "tcp-flags", None, None),
    (to("fd00:3::1", "fd00:3::21", "tcp", 21), "not-in-policy", "six", "untagged"),
    (to("fd00:3::1", "fd00:3::21", "tcp", 21, vlan=13), "not-in-policy", "six", "13"),
    (to("fd00:3::1", "fd00:3::21", "tcp", 21, vlan=12, side="outside"), "not-in-policy", "six", "inside"),
])
def test_explain_deny(sekisho, policy, question, cause, nearest, word):
    """Why: "denied" alone sends the engineer to search the file by eye."""
    report = explain(sekisho, policy(EXAMPLE), *question)
    assert (report["verdict"], report["cause"], report.get("nearest_rule")) == ("deny", cause, nearest)
    assert word is None or any(word in text for text in report["obstacles"]), report["obstacles"]


@pytest.mark.parametrize("question", [
    to("10.3.0.10", "10.3.1.21", "icmp", 0),  # an echo reply that nobody asked for
    to("10.3.0.10", "10.3.1.21", "icmp", 3),  # an error without the packet it is about
    to("fd00:3::1", "fd00:3::21", "icmp", 1),
])
def test_explain_agrees_with_the_data_path_about_icmp(sekisho, policy, question):
    """Why: an explanation that says "allow" where the bridge denies is worse than none."""
    file = policy(EXAMPLE.replace("icmp/echo", "icmp/any").replace("vlan = [12]", ""))
    assert explain(sekisho, file, *question)["verdict"] == "deny"


@pytest.mark.parametrize("words", [
    to("x", "10.0.0.1", "tcp", 1), to("10.0.0.1", "fd00::1", "tcp", 1), to("10.0.0.1", "10.0.0.2", "xyz", 1),
    to("10.0.0.1", "10.0.0.2", "tcp", 65536), to("10.0.0.1", "10.0.0.2", "tcp", -1), to("10.0.0.1", "10.0.0.2", "tcp", 1, flags="x"),
    to("10.0.0.1", "10.0.0.2", "tcp", 1, vlan=4096), to("10.0.0.1", "10.0.0.2", "icmp", 256), to("10.0.0.1", "10.0.0.2", "tcp", 1, side="x"),
    to("10.0.0.1/32", "10.0.0.2", "tcp", 1), to("", "", "", 1), to("10.0.0.1", "10.0.0.2", "999", 1),
])
def test_wrong_arguments(sekisho, policy, words):
    """Why: a typing error must not be taken for an answer (0 and 1 are answers)."""
    done = sekisho("explain", policy(EXAMPLE), *words)
    assert done.returncode == 64 and "Error" in done.stderr and done.stdout == ""


def test_wrong_commands(sekisho):
    """Why: as above."""
    for words in (("nonsense",), ("run",), ("run", "--mode", "x"), ("simulate",), ("check",), ("status", "--nonsense")):
        done = sekisho(*words)
        assert done.returncode == 64, words
        assert "Error" in done.stderr
    assert sekisho("--version").stdout.strip()
    for command in ("run", "apply", "status", "check", "explain", "simulate", "doctor"):
        done = sekisho(command, "--help")
        assert done.returncode == 0 and "USAGE" in done.stdout


# --- simulate ----------------------------------------------------------------------------------------------------


def conversation():
    client, server = dict(src="10.3.0.10", dst="10.3.1.21"), dict(src="10.3.1.21", dst="10.3.0.10")
    mac = "02:00:00:00:03:0a"
    return [
        ether(mac) / IP(**client) / TCP(sport=40000, dport=5000, flags="S"),
        ether(destination=mac) / IP(**server) / TCP(sport=5000, dport=40000, flags="SA"),
        ether(mac) / IP(**client) / TCP(sport=40000, dport=5002, flags="S"),
        ether(destination=mac) / IP(**server) / TCP(sport=5000, dport=40000, flags="S"),
        ether(mac) / Dot1Q(vlan=4) / IP(**client) / TCP(sport=40000, dport=5000, flags="SF"),
        ether(mac) / ARP(psrc="10.3.0.10", hwsrc=mac, pdst="10.3.1.21"),
    ]


VERDICTS = [
    ("allow", "", "mes-scanner"), ("allow", "", "mes-scanner"), ("deny", "not-in-policy", ""), ("deny", "syn-from-server", ""),
    ("deny", "tcp-flags", ""), ("allow", "", ""),
]


def simulated(sekisho, folder, *words):
    done = sekisho("simulate", folder / "policy.toml", *words, "--json", "--verdicts", folder / "out.csv")
    assert done.returncode == 0, done.stderr
    text = (folder / "out.csv").read_text()
    assert text.splitlines()[0] == "packet,timestamp,verdict,cause,rule"
    return json.loads(done.stdout), list(csv.DictReader(text.splitlines())), done.stderr


@pytest.mark.parametrize("write", [write_pcap, write_pcapng])
def test_simulate_writes_verdicts(sekisho, policy, folder, write):
    """Why: columns and counts are a contract for checks outside the project."""
    policy(EXAMPLE)
    capture = write(folder / "in.pcap", map(bytes, conversation()))
    report, rows, complaints = simulated(sekisho, folder, capture)
    assert complaints == ""
    assert [(row["verdict"], row["cause"], row["rule"]) for row in rows] == VERDICTS
    assert [row["packet"] for row in rows] == [str(number) for number in range(1, 7)]
    fraction = "00000{}007" if write is write_pcap else "00000{}000"
    assert [row["timestamp"] for row in rows] == [f"1700000000.{fraction.format(n)}" for n in range(6)]
    assert (report["frames"], report["allowed"], report["denied"]) == (6, 3, 3)
    assert {c["name"]: c["frames"] for c in report["causes"]} == {"not-in-policy": 1, "syn-from-server": 1, "tcp-flags": 1}
    assert {r["name"]: r["frames"] for r in report["rules"]} == {"mes-scanner": 2, "six": 0}


@pytest.mark.parametrize("in_file", ["learn", "monitor", "enforce"])
@pytest.mark.parametrize("asked", [None, "learn", "monitor", "enforce"])
def test_simulate_modes(sekisho, policy, folder, in_file, asked):
    """Why: `--mode` stands above the file; without enforcement all pass and the cause says what would be denied."""
    policy(EXAMPLE.replace('mode = "enforce"', f'mode = "{in_file}"'))
    capture = write_pcap(folder / "in.pcap", map(bytes, conversation()))
    report, rows, _ = simulated(sekisho, folder, capture, *(("--mode", asked) if asked else ()))
    mode = asked or in_file
    assert report["mode"] == mode
    assert [row["cause"] for row in rows] == [cause for _, cause, _ in VERDICTS]
    assert [row["verdict"] for row in rows] == [verdict if mode == "enforce" else "allow" for verdict, _, _ in VERDICTS]


def test_simulate_counts_on_over_several_captures(sekisho, policy, folder):
    """Why: a day's traffic comes in many files, and bursts end where files end."""
    policy(EXAMPLE)
    captures = [write_pcap(folder / f"{n}.pcap", [bytes(f) for f in conversation()] * n) for n in (1, 30, 0, 5)]
    report, rows, _ = simulated(sekisho, folder, *captures)
    assert report["frames"] == 36 * 6 == len(rows)
    assert [(row["verdict"], row["cause"], row["rule"]) for row in rows] == VERDICTS * 36


@pytest.mark.parametrize("cut", [1, 10, 16 + 53, 16 + 54 + 3])
def test_a_capture_that_ends_in_a_frame(sekisho, policy, folder, cut):
    """Why: a recorder that was switched off leaves such a file, and what it saw is still worth judging."""
    policy(EXAMPLE)
    capture = write_pcap(folder / "in.pcap", [bytes(f) for f in conversation()[:4]])
    capture.write_bytes(capture.read_bytes()[:-cut])
    report, rows, complaints = simulated(sekisho, folder, capture)
    whole = 3 if cut < 16 + 54 else 2
    assert len(rows) == report["frames"] == whole
    assert complaints.startswith("warning:") and str(capture) in complaints
    assert report["warnings"] and "read" in report["warnings"][0]


@pytest.mark.parametrize("content", [
    b"", b"\xd4\xc3\xb2\xa1", b"this is no capture\n" * 100, bytes(100000),
    struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 9, 0, 0, 65535, 1),
], ids=["nothing", "magic only", "text", "zeros", "unknown version"])
def test_what_is_no_capture(sekisho, policy, folder, content):
    """Why: the wrong file must be an error, not a simulation of nothing."""
    (folder / "in.pcap").write_bytes(content)
    done = sekisho("simulate", policy(EXAMPLE), folder / "in.pcap")
    assert done.returncode == 1 and str(folder / "in.pcap") in done.stderr and "→" in done.stderr


def test_a_capture_of_another_link(sekisho, policy, folder):
    """Why: frames of "any" have no Ethernet header; judging them as if they had would be nonsense."""
    capture = write_pcap(folder / "in.pcap", [bytes(100)], link=113)
    done = sekisho("simulate", policy(EXAMPLE), capture)
    assert done.returncode == 1 and "LINUX_SLL" in done.stderr and "→" in done.stderr


def test_a_capture_with_an_impossible_length(sekisho, policy, folder):
    """Why: a length field is no promise."""
    policy(EXAMPLE)
    capture = write_pcap(folder / "in.pcap", [bytes(f) for f in conversation()[:2]])
    with open(capture, "ab") as file:
        file.write(struct.pack("<IIII", 1, 1, 0xFFFFFFF0, 0xFFFFFFF0) + bytes(64))
    report, rows, complaints = simulated(sekisho, folder, capture)
    assert len(rows) == 2 and "warning" in complaints


def test_missing_files_of_simulate(sekisho, policy, folder):
    """Why: as for the policy file."""
    done = sekisho("simulate", policy(EXAMPLE), folder / "nowhere.pcap")
    assert done.returncode == 1 and "nowhere.pcap" in done.stderr and "No such file" in done.stderr and "→" in done.stderr
    capture = write_pcap(folder / "in.pcap", map(bytes, conversation()))
    done = sekisho("simulate", folder / "policy.toml", capture, "--verdicts", folder / "no" / "out.csv")
    assert done.returncode == 1 and "ENOENT" in done.stderr and "→" in done.stderr


def test_a_full_disk(sekisho, policy, folder):
    """Why: half a CSV that looks whole would be believed."""
    capture = write_pcap(folder / "in.pcap", [bytes(f) for f in conversation()] * 500)
    done = sekisho("simulate", policy(EXAMPLE), capture, "--verdicts", "/dev/full")
    assert done.returncode == 1 and "ENOSPC" in done.stderr


def test_names_that_need_quotes_in_csv(sekisho, policy, folder):
    """Why: an id is any string, and a comma in it must not shift the columns."""
    policy(EXAMPLE.replace('"mes-scanner"', '"mes, \\"scanner\\""'))
    capture = write_pcap(folder / "in.pcap", map(bytes, conversation()))
    _, rows, _ = simulated(sekisho, folder, capture)
    assert [row["rule"] for row in rows] == ['mes, "scanner"'] * 2 + [""] * 4


# --- doctor, status and apply without a bridge --------------------------------------------------------------------


def test_doctor(sekisho):
    """Why: findings are for a person and for a machine, and a fix is a command."""
    done = sekisho("doctor", "--json")
    findings = json.loads(done.stdout)
    assert {"kernel", "privileges", "memory", "processors"} <= {finding["subject"] for finding in findings}
    for finding in findings:
        assert set(finding) == {"level", "subject", "finding", "why", "fix"}
        assert finding["level"] in ("good", "note", "warning", "problem") and finding["finding"]
    assert done.returncode == (1 if any(finding["level"] == "problem" for finding in findings) else 0)
    assert sekisho("doctor").stdout


def test_doctor_of_ports_that_cannot_be_bridged(sekisho):
    """Why: the doctor is asked before `run` fails."""
    done = sekisho("doctor", "--inside", "nowhere0", "--outside", "lo", "--json")
    problems = {f["subject"]: f for f in json.loads(done.stdout) if f["level"] == "problem"}
    assert done.returncode == 1 and {"nowhere0", "lo"} <= set(problems)


@pytest.mark.parametrize("command", ["status", "apply"])
def test_no_bridge_is_running(sekisho, policy, folder, command):
    """Why: the usual mistake; the hint must say so."""
    file = [policy(EXAMPLE)] if command == "apply" else []
    done = sekisho(command, *file, "--control", folder / "none")
    assert done.returncode == 1 and done.stdout == ""
    assert "ENOENT" in done.stderr and "sekisho run" in done.stderr


def test_a_control_path_that_is_too_long(sekisho, folder):
    """Why: a Unix socket's path has a limit nobody knows by heart."""
    done = sekisho("status", "--control", folder / ("x" * 200))
    assert done.returncode == 1 and "107" in done.stderr
