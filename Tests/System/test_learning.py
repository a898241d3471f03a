"""Learning from captures by the command line: what a person sees, approves and gets, and that no input harms what was learnt."""

import functools
import json
import re
import signal
import sqlite3
import subprocess
import time

import pytest

from frames import IP, TCP, Raw, ether, write_stamped

MES, TOOL, LAPTOP = "10.3.0.10", "10.3.1.21", "10.3.0.66"
MACS = {MES: "02:00:00:00:03:0a", TOOL: "02:00:00:00:03:15", LAPTOP: "02:00:00:00:03:42"}
DAY = 86_400
# A Monday, 08:00 UTC.
START = 1_700_467_200


def frame(source, destination, layer):
    return bytes(ether(MACS.get(source, "02:00:00:00:00:98"), MACS.get(destination, "02:00:00:00:00:99")) / IP(src=source, dst=destination) / layer)


def session(at, client, port, server, service, answers=True):
    """A TCP connection with one question, as (time, frame)."""
    def go(one, other, a, b, flags, data=b""):
        return frame(one, other, TCP(sport=a, dport=b, flags=flags, seq=1, ack=1) / Raw(data))

    out = [go(client, server, port, service, "S")]
    if answers:
        out += [go(server, client, service, port, "SA"), go(client, server, port, service, "A"), go(client, server, port, service, "PA", b"ask"),
                go(server, client, service, port, "PA", b"answer"), go(client, server, port, service, "FA"), go(server, client, service, port, "FA")]
    return [(at + i / 1000, one) for i, one in enumerate(out)]


@functools.cache
def plant(days=10):
    """A host that asks its tool every hour, an engineer's remote access on some days, and a scan on the last but two."""
    frames = []
    for day in range(days):
        for hour in range(24):
            at = START + day * DAY + hour * 3600
            frames += session(at, MES, 20_000 + day * 24 + hour, TOOL, 5000)
            frames += session(at + 60, MES, 30_000 + day * 24 + hour, TOOL, 502)
        if day % 2 == 0:
            frames += session(START + day * DAY + 3 * 3600, LAPTOP, 40_000 + day, TOOL, 3389)
    for n in range(1, 40):
        frames += session(START + (days - 3) * DAY + 7200 + n, LAPTOP, 41_000, f"10.3.1.{n + 100}", 445, answers=False)
    return sorted(frames, key=lambda one: one[0])


@pytest.fixture
def sekisho(sekisho):
    """The same; it must end as is expected."""
    def run(*words, code=0):
        done = sekisho(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done
    return run


@pytest.fixture
def capture(folder):
    return lambda frames, name="plant.pcap": write_stamped(
        folder / name, [(int(at) * 10**9 + int(at % 1 * 1e6) * 1000, data) for at, data in frames])


@pytest.fixture
def learnt(sekisho, folder, capture):
    state = folder / "state"
    said = sekisho("learn", capture(plant()), "--state", state).stdout
    assert "42 conversations" in said, said
    return state


def baseline(sekisho, state, *options):
    return json.loads(sekisho("baseline", "--state", state, "--json", *options).stdout)


def by_pair(data):
    return {(one["client"], one["server"], one["service"]): one for one in data["conversations"]}


def test_what_was_learnt(sekisho, learnt):
    pairs = by_pair(baseline(sekisho, learnt))
    hsms = pairs[MES, TOOL, "tcp/5000"]
    assert hsms["connections"] == hsms["answered"] == 240 and hsms["days"] == 11 and hsms["side_known"] == "seen" and hsms["review"] == []
    assert hsms["frames"] == 240 * 7 and hsms["first"] == "2023-11-20T08:00:00Z"
    assert pairs[LAPTOP, TOOL, "tcp/3389"]["review"] == ["risky-service"]
    scans = [one for (client, _, service), one in pairs.items() if client == LAPTOP and service == "tcp/445"]
    assert len(scans) == 39 and all("unanswered" in one["review"] and "scanner" in one["review"] for one in scans)
    text = sekisho("baseline", "--state", learnt).stdout
    assert re.search(r"10\.3\.0\.10 +10\.3\.1\.21 +tcp/5000 +240 ", text), text
    assert "complete: yes" in text, text


def test_from_proposal_to_policy(sekisho, learnt, folder):
    policy = folder / "bay.toml"
    sekisho("propose", "--state", learnt, "-o", policy)
    text = policy.read_text()
    assert "2 conversations, 480 connections" in text and "3389" not in text and "tcp/445" not in text
    assert 'mac = ["02:00:00:00:03:15"]' in text
    assert "mode monitor, 1 rules" in sekisho("check", policy).stdout
    judged = json.loads(sekisho("simulate", policy, "--state", learnt, "--json").stdout)
    assert judged["denied_conversations"] == 40
    assert {one["service"] for one in judged["denied"]} == {"tcp/3389", "tcp/445"}
    # The engineer's visits were legitimate for all that is known: some are to be expected again, the scan is not.
    assert 1 < judged["expected_false_blocks_per_week"] < judged["expected_false_blocks_per_week_bound"] < 15
    # Of a part of the time.
    early = json.loads(sekisho("simulate", policy, "--state", learnt, "--until", "2023-11-25", "--json").stdout)
    assert early["denied_conversations"] == 1 and early["connections"] < judged["connections"]
    # An existing file is not lost by mistake.
    sekisho("propose", "--state", learnt, "-o", policy, code=1)
    assert policy.read_text() == text


def test_what_waits_or_comes_later_is_given_by_no_word_about_others(sekisho, learnt, capture):
    """Why: a sentence about a network must not let in whoever turns up in it."""
    said = sekisho("alike", "10.3.0.0/24", MES, "10.3.0.11", "--state", learnt, "--why", "hosts").stdout
    assert LAPTOP not in said and "10.3.0.11" in said
    later = [frame for at in range(8) for frame in session(START + (11 + at) * DAY, "10.3.0.67", 50_000, TOOL, 9999)]
    sekisho("learn", capture(later, "later.pcap"), "--state", learnt)
    text = sekisho("propose", "--state", learnt).stdout
    assert LAPTOP not in text and "3389" not in text
    assert 'service = ["tcp/502", "tcp/5000"]' in text
    rule = re.search(r'id = "([^"]*tcp-502[^"]*)"', text).group(1)
    why = sekisho("baseline", "--state", learnt, "--why", rule).stdout
    assert "allowed, and never used:" in why and f"10.3.0.11 → {TOOL} tcp/5000" in why
    assert "10.3.0.67" not in why


def test_a_part_of_the_time_does_not_clear_a_scanner(sekisho, folder, capture):
    frames = plant() + [frame for day in range(4, 11) for frame in session(START + day * DAY, LAPTOP, 52_000 + day, TOOL, 8888)]
    frames += [one for n in range(1, 40) for one in session(START + 2 * DAY + n, LAPTOP, 41_000, f"10.3.1.{n + 100}", 445, answers=False)]
    state = folder / "scanned"
    sekisho("learn", capture(sorted(frames, key=lambda one: one[0])), "--state", state)
    for times in ([], ["--since", "2023-11-23"]):
        assert "tcp/8888" not in sekisho("propose", "--state", state, *times).stdout


@pytest.mark.alone
def test_two_at_once_do_not_count_twice(sekisho, binary, folder, capture):
    file, state = capture(plant(2) * 200), folder / "twice"
    both = [subprocess.Popen([binary, "learn", file, "--state", state], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert sorted(one.returncode for one in both) == [0, 0] and any("learnt before" in one for one in said) or any("is at it" in one for one in said), said
    assert by_pair(baseline(sekisho, state))[MES, TOOL, "tcp/5000"]["frames"] == 2 * 24 * 7 * 200


def test_who_stands_in_for_whom(sekisho, learnt, folder):
    said = sekisho("alike", MES, "10.3.0.11", "--service", "tcp/5000", "--state", learnt, "--why", "standby host", "--who", "ann").stdout
    assert "gives 1 permissions that nobody has used (0 before)" in said
    policy = folder / "bay.toml"
    sekisho("propose", "--state", learnt, "-o", policy)
    assert "# unobserved: 1 of the permissions it gives were never used; by decision 1 (ann: standby host)" in policy.read_text()
    sekisho("check", policy)
    [decision] = json.loads(sekisho("decisions", "--state", learnt, "--json").stdout)
    assert (decision["verdict"], decision["what"]) == ("alike", f"{MES} = 10.3.0.11, tcp/5000")
    # A refusal stands above it.
    sekisho("reject", "--state", learnt, "--from", "10.3.0.11", "--why", "out of use")
    assert "10.3.0.11" not in sekisho("propose", "--state", learnt).stdout
    sekisho("decisions", "--undo", "1", "--state", learnt)
    assert "unobserved" not in sekisho("propose", "--state", learnt).stdout
    for wrong in ([MES, "fe80::1"], [MES, "nonsense"], [MES, "224.0.0.5"], [MES, "0.0.0.0"]):
        sekisho("alike", *wrong, "--state", learnt, "--why", "x", code=64)
    for wrong in ([MES], [MES, MES], ["10.99.0.0/16"]):
        sekisho("alike", *wrong, "--state", learnt, "--why", "x", code=1)


def test_a_person_decides(sekisho, learnt):
    said = sekisho("approve", "--state", learnt, "--from", LAPTOP, "--service", "rdp", "--why", "vendor access", "--who", "ann").stdout
    assert f"{LAPTOP} → {TOOL} tcp/3389" in said
    assert "tcp/3389" in sekisho("propose", "--state", learnt).stdout
    sekisho("reject", "--state", learnt, "--from", LAPTOP, "--why", "no longer", "--who", "ben")
    assert "tcp/3389" not in sekisho("propose", "--state", learnt, "--include-review").stdout
    decisions = json.loads(sekisho("decisions", "--state", learnt, "--json").stdout)
    # rdp is TCP and UDP.
    assert [(one["verdict"], one["who"], one["why"]) for one in decisions] == [
        ("approve", "ann", "vendor access"), ("approve", "ann", "vendor access"), ("reject", "ben", "no longer")]
    sekisho("decisions", "--state", learnt, "--undo", str(decisions[-1]["id"]))
    assert "tcp/3389" in sekisho("propose", "--state", learnt).stdout
    assert "no conversation" in sekisho("approve", "--state", learnt, "--to", "10.9.9.9", "--why", "x", code=1).stderr
    for wrong in (["--why", "x"], ["--to", "10.9.9.999", "--why", "x"], ["--service", "nonsense", "--why", "x"], ["--to", TOOL, "--why", " "]):
        sekisho("approve", "--state", learnt, *wrong, code=64)


def test_an_infection_is_taken_out(sekisho, learnt):
    before = by_pair(baseline(sekisho, learnt))
    said = sekisho("forget", "--state", learnt, "--device", LAPTOP, "--since", "2023-11-27T00:00Z", "--why", "infected").stdout
    after = by_pair(baseline(sekisho, learnt))
    assert set(before) - set(after) == {key for key in before if key[2] == "tcp/445"}
    assert after[LAPTOP, TOOL, "tcp/3389"]["days"] < before[LAPTOP, TOOL, "tcp/3389"]["days"]
    number = re.search(r"decision (\d+)", said)[1]
    sekisho("decisions", "--state", learnt, "--undo", number)
    assert by_pair(baseline(sekisho, learnt)) == before


def test_periods_select(sekisho, learnt):
    sekisho("period", "visit", "--state", learnt, "--since", "2023-11-20T11:00Z", "--until", "2023-11-20T12:00Z")
    assert set(by_pair(baseline(sekisho, learnt, "--period", "visit"))) == {
        (MES, TOOL, "tcp/5000"), (MES, TOOL, "tcp/502"), (LAPTOP, TOOL, "tcp/3389")}
    without = by_pair(baseline(sekisho, learnt, "--period=-visit"))
    assert without[LAPTOP, TOOL, "tcp/3389"]["days"] == 4
    assert "there are: visit" in sekisho("baseline", "--state", learnt, "--period", "other", code=1).stderr
    sekisho("period", "visit", "--state", learnt, "--remove")


def test_why(sekisho, learnt):
    proposal = sekisho("propose", "--state", learnt).stdout
    rule = re.search(r'id = "(.+)"', proposal)[1]
    text = sekisho("baseline", "--state", learnt, "--why", rule).stdout
    assert "480 connections" in text and "2023-11-20  ········████████████████" in text
    assert "did you mean" in sekisho("baseline", "--state", learnt, "--why", rule[:8], code=1).stderr


def test_twice_is_once(sekisho, learnt, capture):
    before = baseline(sekisho, learnt)
    assert "learnt before" in sekisho("learn", capture(plant(), "copy.pcap"), "--state", learnt).stdout
    assert baseline(sekisho, learnt) == before
    sekisho("learn", capture(plant(), "copy.pcap"), "--state", learnt, "--again")
    assert by_pair(baseline(sekisho, learnt))[MES, TOOL, "tcp/5000"]["connections"] == 480


def test_clocks_and_truncation(sekisho, folder, capture):
    frames = session(START, MES, 1, TOOL, 5000) + session(START - 40 * DAY, MES, 2, TOOL, 5000) + [(START, b"\x02" * 20), (0, b"")]
    said = sekisho("learn", capture(frames), "--state", folder / "odd")
    assert "goes back" in said.stderr
    assert by_pair(baseline(sekisho, folder / "odd"))[MES, TOOL, "tcp/5000"]["connections"] == 2
    path = capture(plant(1), "cut.pcap")
    path.write_bytes(path.read_bytes()[:-30])
    assert "what came before it was read" in sekisho("learn", path, "--state", folder / "cut").stderr


@pytest.mark.parametrize("content", (b"", b"no database", b"SQLite format 3\0" + bytes(5000)), ids=("empty", "text", "damaged"))
def test_a_damaged_history_stays_as_it_is(sekisho, folder, capture, content):
    state = folder / "state"
    state.mkdir()
    (state / "history.sqlite").write_bytes(content)
    path = capture(plant(1))
    if not content:
        # As SQLite has it: an empty file is an empty database.
        sekisho("learn", path, "--state", state)
        return
    for words in (["learn", path], ["baseline"], ["propose"], ["decisions"]):
        assert "nothing was changed" in sekisho(*words, "--state", state, code=1).stderr
    assert (state / "history.sqlite").read_bytes() == content


def test_another_programs_and_a_later_version(sekisho, folder, capture):
    state = folder / "state"
    state.mkdir()
    with sqlite3.connect(state / "history.sqlite") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    assert "another program" in sekisho("learn", capture(plant(1)), "--state", state, code=1).stderr
    later = folder / "later"
    sekisho("learn", capture(plant(1)), "--state", later)
    with sqlite3.connect(later / "history.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "version 99" in sekisho("baseline", "--state", later, code=1).stderr
    assert "does not exist" in sekisho("baseline", "--state", folder / "nowhere", code=1).stderr


def test_killed_while_it_learns(binary, sekisho, folder, capture):
    """Whatever was written before stays, and learning goes on from there."""
    state, first = folder / "state", capture(plant(2), "first.pcap")
    sekisho("learn", first, "--state", state)
    before = baseline(sekisho, state)
    # So many frames that they are written in pieces: the same ones again and again.
    big = capture(plant(2), "big.pcap")
    head, frames = big.read_bytes()[:24], big.read_bytes()[24:]
    big.write_bytes(head + frames * (2_200_000 // len(plant(2))))
    ends = []
    for moment in (0.1, 0.2, 0.4, 0.6):
        learning = subprocess.Popen([binary, "learn", big, "--state", state, "--again"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        learning.send_signal(signal.SIGKILL)
        ends.append(learning.wait())
        after = by_pair(baseline(sekisho, state))
        for key, one in by_pair(before).items():
            assert after[key]["connections"] >= one["connections"]
    assert -signal.SIGKILL in ends, "it was always done before"
    with sqlite3.connect(state / "history.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_hostile_names_do_not_reach_the_terminal(sekisho, learnt):
    sekisho("reject", "--state", learnt, "--to", TOOL, "--why", "\x1b[31mred\x07", "--who", "eve\x1b]0;x\x07")
    assert "\x1b" not in sekisho("decisions", "--state", learnt).stdout
