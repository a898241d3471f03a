"""The audit log, the versions of the policy, the time to confirm one, and signatures."""

import base64
import hashlib
import json
import os
import pathlib
import pwd
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from conftest import CAPTURES, sh
from test_clock import wall_clock  # noqa: F401
from test_failing import Streams


def policy(name="p", mode="enforce", port=1, extra="", deadline=5000):
    return f"""version = 1
on_failure = {{ deadline_ms = {deadline} }}
name = "{name}"
mode = "{mode}"
[[allow]]
id = "kept"
from = "10.0.0.1"
to = "10.0.0.2"
service = ["udp/1", "tcp/7"]
[[allow]]
id = "other"
from = "10.0.0.3"
to = "10.0.0.4"
service = "tcp/{port}"
{extra}"""


def events(sekisho, state, *options):
    done = sekisho("audit", "show", "--state", state, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def types(sekisho, state):
    return [one["type"] for one in events(sekisho, state)]


def verify(sekisho, *options):
    done = sekisho("audit", "verify", *options, "--json")
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["intact"]
    return report


def versions(sekisho, state):
    done = sekisho("versions", "--state", state, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def started(bridge, network, folder):
    """A bridge with a state directory, and that."""
    running = bridge(policy(), "--state", folder / "state", net=network())
    running.state = folder / "state"
    return running


# --- Another program's opinion -----------------------------------------------------------------------------------


def check_export(path):
    """docs/evidence.md as a program. Returns the events and the head."""
    previous, number, found = "0" * 64, 0, []
    for line in path.read_text().rstrip("\n").split("\n"):
        event = json.loads(line)
        written = event.pop("hash")
        number += 1
        assert (event["number"], event["previous"]) == (number, previous)
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert previous == written, f"event {number}"
        found.append(event)
    return found, previous


def check_database(path):
    """The same from the file itself. Returns the head."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        previous, number = "0" * 64, 0
        names = ("number", "time", "category", "type", "description", "who", "fields")
        for *values, written in database.execute(f"SELECT {', '.join(names)}, hash FROM event ORDER BY number"):
            event = dict(zip(names, values)) | {"previous": previous, "fields": json.loads(values[-1])}
            number += 1
            text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            previous = hashlib.sha256(text.encode()).hexdigest()
            assert event["number"] == number and previous == written.hex()
        for digest, text in database.execute("SELECT sha256, text FROM policy_text"):
            assert hashlib.sha256(text).hexdigest() == digest
    return previous


def test_another_program_finds_the_same(sekisho, started, folder):
    """Why: an auditor need not trust the program that wrote the log."""
    file = folder / 'odd "\\ name.toml'
    file.write_text(policy(name="ü 関所 𝄞", port=2))
    done = sekisho("apply", file, "--control", started.socket, "--why", "a\tb\nc\x01\x7f\u2028\b\f\r \"quoted\" \\ /", "--who", "\ud83d".encode(
        "utf-8", "surrogatepass").decode("utf-8", "replace"))
    assert done.returncode == 0, done.stderr
    report = verify(sekisho, "--state", started.state)
    assert report["intact"] and check_database(started.state / "audit.sqlite") == report["head"]
    assert sekisho("audit", "export", "--state", started.state, "-o", folder / "log.jsonl").returncode == 0
    found, head = check_export(folder / "log.jsonl")
    assert head == report["head"] and len(found) == report["events"]
    assert [one["type"] for one in found] == types(sekisho, started.state)
    assert verify(sekisho, folder / "log.jsonl", "--head", head)["expected"] == "head"
    # And both find a change.
    text = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(text.replace(b'"rules":"2"', b'"rules":"3"', 1))
    assert not verify(sekisho, folder / "log.jsonl")["intact"]
    with pytest.raises(AssertionError):
        check_export(folder / "log.jsonl")


# --- What is written ---------------------------------------------------------------------------------------------


def test_what_a_bridge_writes_down(sekisho, started):
    assert types(sekisho, started.state) == ["start", "policy_applied"]
    done = started.apply(policy(mode="monitor", port=2))
    assert done.returncode == 0
    file = started.folder / "more.toml"
    file.write_text(policy(mode="monitor", port=3))
    done = sekisho("apply", file, "--control", started.socket, "--why", "ticket 4711", "--who", "tanaka")
    assert done.returncode == 0, done.stderr
    assert started.apply("version = 1\nnonsense = 1").returncode == 1
    started.process.send_signal(signal.SIGHUP)
    started.wait_for(lambda: started.status()["policy"]["version"] == 4, "the file to be read again")
    assert started.stop() == 0
    found = events(sekisho, started.state)
    assert [one["type"] for one in found] == [
        "start", "policy_applied", "policy_applied", "mode_changed", "policy_applied", "policy_refused", "policy_applied", "mode_changed", "stop"]
    account = pwd.getpwuid(os.geteuid()).pw_name
    start, first, second, mode, third, refused, fourth, _, stop = found
    assert start["category"] == "operation" and start["fields"]["inside"] == "in0" and account in start["who"]
    assert second["category"] == "configuration_change"
    assert first["fields"]["sha256"] == hashlib.sha256(policy().encode()).hexdigest()
    assert second["fields"]["changes"].splitlines() == [
        '+ 10.0.0.3 → 10.0.0.4 tcp/2 (rule "other")', '- 10.0.0.3 → 10.0.0.4 tcp/1 (rule "other")', "~ mode mode: enforce → monitor"]
    assert "1 kind of conversation more pass, 1 fewer" in second["description"]
    assert mode["description"] == "mode enforce → monitor"
    assert third["who"] == f"tanaka (as {account})" and third["fields"]["why"] == "ticket 4711" and third["fields"]["uid"] == str(os.geteuid())
    assert "nonsense" in refused["fields"]["findings"]
    assert fourth["who"] == "sekisho" and fourth["fields"]["via"] == "SIGHUP" and stop["fields"]["reason"] == "SIGTERM"
    assert all(one["description"] and one["who"] and one["at"] and one["type"] for one in found)
    head = verify(sekisho, "--state", started.state)["head"]
    assert f"audit log: 9 events, head {head}" in started.said()
    shown = sekisho("audit", "show", "--state", started.state, "--type", "policy_applied").stdout
    assert len(shown.splitlines()) == 5 and "(why: ticket 4711)" in shown
    assert len(events(sekisho, started.state, "--since", "2100-01-01")) == 0
    assert len(events(sekisho, started.state, "--until", "2100-01-01", "--type", "operation")) == 2


def test_versions_go_on_over_restarts(sekisho, bridge, network, folder):
    """Why: a number stands for one text, whoever asks and when."""
    net, state = network(), folder / "state"
    first = bridge(policy(), "--state", state, net=net)
    assert first.apply(policy(port=2)).returncode == 0
    first.stop()
    # The file of the start is another than what was applied last; then it is the same.
    second = bridge(policy(), "--state", state, net=net)
    assert second.status()["policy"]["version"] == 3
    second.kill()
    third = bridge(policy(), "--state", state, net=net)
    assert third.status()["policy"]["version"] == 3
    listed = versions(sekisho, state)
    assert [one["version"] for one in listed] == [1, 2, 3] and listed[0]["sha256"] == listed[2]["sha256"] != listed[1]["sha256"]
    assert "1 kind of conversation more pass, 1 fewer" in listed[2]["change"]
    assert sekisho("versions", "--state", state, "--show", 2).stdout == policy(port=2)
    done = sekisho("rollback", 2, "--why", "as it was", "--control", third.socket, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["version"] == 4, done.stderr
    last = versions(sekisho, state)[-1]
    assert last["sha256"] == listed[1]["sha256"] and last["why"] == "as it was" and third.status()["policy"]["sha256"] == last["sha256"]
    assert "applied as version 4, back to version 2" in events(sekisho, state)[-1]["description"]
    for wrong in (0, 9):
        done = sekisho("rollback", wrong, "--control", third.socket)
        assert done.returncode == 1 and "version" in done.stderr and "→" in done.stderr
    assert third.status()["policy"]["version"] == 4
    assert sekisho("versions", "--state", state, "--show", 9).returncode == 1


def test_a_bridge_that_takes_over_goes_on_in_the_same_log(sekisho, bridge, network, folder):
    net, state = network(), folder / "state"
    first = bridge(policy(), "--state", state, net=net)
    assert first.apply(policy(port=2)).returncode == 0
    second = bridge(policy(port=2), "--state", state, "--replace", "--control", first.socket, net=net, wait=False)
    assert first.wait_for_end() == 0
    second.wait_for(lambda: "forwarding" in second.said(), "the start")
    second.wait_for(lambda: sorted(types(sekisho, state)) == ["policy_applied"] * 2 + ["start"] * 2 + ["stop"], "the log")
    stop = events(sekisho, state, "--type", "stop")[0]
    assert stop["fields"]["reason"] == "made way for another bridge"
    assert events(sekisho, state, "--type", "start")[1]["fields"]["version"] == "2"
    assert verify(sekisho, "--state", state)["intact"]


def test_without_a_state_directory_there_are_no_versions(sekisho, bridge, network):
    running = bridge(policy(), net=network())
    done = sekisho("rollback", 1, "--control", running.socket)
    assert done.returncode == 1 and "--state" in done.stderr
    assert "audit" not in running.status()


def test_failures_and_clocks_are_written_down(sekisho, bridge, network, folder, wall_clock):  # noqa: F811
    state = folder / "state"
    wall_clock(0)
    ends = time.gmtime(time.time() + 86400)
    expiring = policy(extra=f'expires = {time.strftime("%Y-%m-%dT%H:%M:%SZ", ends)}\n', deadline=50)
    running = bridge(expiring, "--state", state, net=network(), environment=wall_clock.environment)
    running.wait_for(lambda: len(events(sekisho, state)) == 2, "the start")
    wall_clock(3 * 86400)
    running.wait_for(lambda: "rule_expired" in types(sekisho, state) and "clock_changed" in types(sekisho, state), "the clock")
    # A new day: for whoever keeps the log.
    running.wait_for(lambda: "audit log: " in running.said() and " events, head " in running.said(), "the head")
    wall_clock(0)
    running.wait_for(lambda: "rule_returned" in types(sekisho, state), "the rule to be back")
    streams = Streams(running.network)
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    running.process.send_signal(signal.SIGCONT)
    running.wait_for(lambda: "failure_left" in types(sekisho, state), "the failure")
    streams.finish()
    running.stop()
    found = events(sekisho, state)
    clocks = [one["fields"]["by"] for one in found if one["type"] == "clock_changed"]
    assert [round(float(one.split()[0]) / 86400, 1) for one in clocks] == [3, -3]
    assert [one["fields"]["rules"] for one in found if one["type"].startswith("rule_")] == ["other", "other"]
    failures = [one for one in found if one["category"] == "system_error"]
    assert {one["fields"]["state"] for one in failures} == {"worker_dead"}
    assert verify(sekisho, "--state", state)["intact"]


@pytest.mark.optional_input
def test_decisions_are_written_down(sekisho, folder):
    if not CAPTURES.is_dir():
        pytest.skip(f"no captures in {CAPTURES}")
    capture = sorted(CAPTURES.rglob("*.pcap*"), key=lambda path: path.stat().st_size)[0]
    state = folder / "state"
    assert sekisho("learn", capture, "--state", state, timeout=120).returncode == 0
    options = ("--state", state, "--why", "ticket 7", "--who", "sato")
    assert sekisho("reject", *options, "--service", "tcp/9").returncode == 0
    assert sekisho("forget", *options, "--until", "1980-01-01").returncode == 0
    assert sekisho("decisions", "--state", state, "--undo", 1).returncode == 0
    found = events(sekisho, state)
    assert [one["type"] for one in found] == ["rejected", "forgotten", "decision_undone"]
    assert found[0]["who"].startswith("sato (as ") and found[0]["fields"]["why"] == "ticket 7" and found[0]["fields"]["what"] == "tcp/9"
    assert verify(sekisho, "--state", state)["intact"]


def test_another_users_request_is_written_down(sekisho, started):
    """Why: whose account it was is the kernel's word, whatever name was given."""
    nobody = pwd.getpwnam("nobody")
    os.chmod(started.socket, 0o666)
    text = base64.b64encode(policy(port=9).encode()).decode()
    request = json.dumps({"command": "apply", "file": "x.toml", "text": text, "who": "root"})
    script = "import os,socket,sys; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3])); s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); " \
             "s.sendall(sys.argv[4].encode()); s.shutdown(1); print(s.makefile().read())"

    def ask(request):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", script, started.socket, str(nobody.pw_gid), str(nobody.pw_uid), request], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert "applied" in ask(request)
    assert "failure" in ask(json.dumps({"command": "makeWay"}))
    started.wait_for(lambda: "access_refused" in types(sekisho, started.state), "the refusal")
    found = events(sekisho, started.state)
    assert found[-2]["who"] == "root (as nobody)" and found[-2]["fields"]["uid"] == str(nobody.pw_uid)
    assert found[-1]["who"] == "nobody" and found[-1]["category"] == "access_control"


# --- Changed by somebody -----------------------------------------------------------------------------------------


def tamper(path, statement):
    with sqlite3.connect(path) as database:
        kept = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
        for _, sql in kept:
            database.execute(sql)


def test_a_change_is_found(sekisho, bridge, network, folder):
    state, net = folder / "state", network()
    running = bridge(policy(), "--state", state, net=net)
    for port in (2, 3):
        assert running.apply(policy(port=port)).returncode == 0
    running.stop()
    file = state / "audit.sqlite"
    head = verify(sekisho, "--state", state)["head"]
    assert verify(sekisho, "--state", state, "--head", head)["expected"] == "head"
    with sqlite3.connect(file) as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE event SET who = 'nobody'")
    shutil.copy(file, folder / "kept")
    tamper(file, "UPDATE event SET who = 'nobody' WHERE number = 3")
    report = verify(sekisho, "--state", state)
    assert not report["intact"] and [one["event"] for one in report["problems"]] == [3]
    # A bridge goes on, and says so.
    again = bridge(policy(port=3), "--state", state, net=net)
    again.wait_for(lambda: "log_damaged" in types(sekisho, state), "the finding")
    assert "audit log: it is not what was written" in again.said()
    again.stop()
    # The tail: only with what was kept elsewhere.
    shutil.copy(folder / "kept", file)
    tamper(file, "DELETE FROM event WHERE number > 3")
    assert verify(sekisho, "--state", state)["intact"]
    done = sekisho("audit", "verify", "--state", state, "--head", head)
    assert done.returncode == 1 and "missing at the end" in done.stdout
    assert sekisho("audit", "verify", "--state", folder / "nowhere").returncode == 2
    assert sekisho("audit", "verify", "--state", state, "--head", "abc").returncode == 64


def damaged(state):
    (state / "audit.sqlite").write_bytes(b"SQLite format 3\0" + b"\x5a" * 8000)
    return "damaged"


def of_another_program(state):
    with sqlite3.connect(state / "audit.sqlite") as database:
        database.executescript("CREATE TABLE t (x)")
    return "another program"


def of_another_user(state):
    (state / "audit.sqlite").touch(0o600)
    os.chown(state / "audit.sqlite", 65534, 65534)
    return "open"


@pytest.mark.parametrize("spoil", [damaged, of_another_program, of_another_user])
def test_a_log_that_cannot_be_written_keeps_the_bridge_from_starting(bridge, network, folder, spoil):
    """Why: a bridge whose log begins to be missing only later looks like one that did nothing."""
    net, state = network(), folder / "state"
    state.mkdir()
    complaint = spoil(state)
    before = (state / "audit.sqlite").read_bytes()
    running = bridge(policy(), "--state", state, net=net, wait=False)
    assert running.wait_for_end() == 1
    assert "error: " in running.said() and complaint in running.said() and str(state / "audit.sqlite") in running.said()
    assert (state / "audit.sqlite").read_bytes() == before and not net.has_programs() and not running.socket.exists()


# --- Killed, crowded, full ---------------------------------------------------------------------------------------


def test_a_killed_bridge_and_other_writers_keep_the_chain(binary, sekisho, bridge, network, folder):
    """Why: power fails, processes are killed, and several of them write at once."""
    net, state = network(), folder / "state"
    made, going = [], True

    def decide(sekisho, number):
        while going:
            done = sekisho("reject", "--state", state, "--service", f"tcp/{number}", "--why", "x")
            made.append(done.returncode == 0)

    running = bridge(policy(), "--state", state, net=net)
    threads = [threading.Thread(target=decide, args=(sekisho, number)) for number in range(1, 3)]
    for thread in threads:
        thread.start()
    try:
        for port in range(2, 8):
            end = time.monotonic() + 0.7
            while time.monotonic() < end:
                assert running.apply(policy(port=port)).returncode == 0
            # In the middle of one.
            (folder / "p.toml").write_text(policy(port=port + 100))
            client = subprocess.Popen([binary, "apply", folder / "p.toml", "--control", running.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0, 0.03))
            running.kill()
            client.wait(20)
            running = bridge(policy(port=port), "--state", state, net=net)
    finally:
        going = False
        for thread in threads:
            thread.join()
    running.stop()
    report = verify(sekisho, "--state", state)
    assert report["intact"], report
    assert check_database(state / "audit.sqlite") == report["head"]
    found = types(sekisho, state)
    assert found.count("rejected") == sum(made) > 3 and found.count("start") == 7
    listed = versions(sekisho, state)
    assert [one["version"] for one in listed] == list(range(1, len(listed) + 1))


def test_a_full_disk_does_not_stop_the_bridge(sekisho, bridge, network, folder):
    """Why: the log must not cost a tool its host; what happened meanwhile is in it when there is room again."""
    place = folder / "disk"
    place.mkdir()
    sh(f"mount -t tmpfs -o size=8m tmpfs {place}")
    try:
        running = bridge(policy(), "--state", place / "state", net=network())
        streams = Streams(running.network)
        running.wait_for(lambda: "last_written" in running.status()["audit"], "the start to be written")
        with open(place / "ballast", "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        warned, port = "", 1
        while "it is not in the audit log yet" not in warned:
            port += 1
            assert port < 200, "the disk does not fill"
            # Large enough not to fit into what is left of a page.
            done = running.apply(policy(port=port, extra="# " + "x" * 60_000))
            assert done.returncode == 0, done.stderr
            warned = done.stdout
        for more in range(port + 1, port + 4):
            assert running.apply(policy(port=more)).returncode == 0
        status = running.status()
        assert "error" in status["audit"] and "ALARM" in sekisho("status", "--control", running.socket).stdout
        assert status["policy"]["version"] == port + 3 and status["judging"]["episodes"] == []
        (place / "ballast").unlink()
        running.wait_for(lambda: "error" not in running.status()["audit"], "it to be written again")
        streams.finish()
        assert streams.lost() == [] and streams.strangers() == 0
        assert running.said().count("audit log: writing") == 1 and "audit log: written again" in running.said()
        assert running.stop() == 0
        assert [one["version"] for one in versions(sekisho, place / "state")] == list(range(1, port + 4))
        assert verify(sekisho, "--state", place / "state")["intact"]
        assert "events_lost" not in types(sekisho, place / "state")
    finally:
        sh(f"umount -l {place}")


# --- Confirming --------------------------------------------------------------------------------------------------


def apply(sekisho, running, text, *options):
    file = running.folder / "confirm.toml"
    file.write_text(text)
    done = sekisho("apply", file, "--control", running.socket, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_not_confirmed_is_undone(sekisho, started):
    """Why: who has cut himself off cannot undo it; the bridge does, though the client is long gone."""
    report = apply(sekisho, started, policy(port=2), "--confirm", "2s", "--why", "risky")
    assert report["version"] == 2 and report["confirm_within"] == 2 and report["otherwise"] == 1
    unconfirmed = started.status()["policy"]["unconfirmed"]
    assert unconfirmed["otherwise"] == 1 and 0 <= unconfirmed["seconds_left"] <= 2
    assert "not confirmed" in sekisho("status", "--control", started.socket).stdout
    started.wait_for(lambda: started.status()["policy"]["version"] == 3, "it to be undone")
    status = started.status()["policy"]
    assert "unconfirmed" not in status and status["sha256"] == hashlib.sha256(policy().encode()).hexdigest()
    started.wait_for(lambda: len(versions(sekisho, started.state)) == 3, "the log")
    assert types(sekisho, started.state)[2:] == ["policy_applied", "policy_undone", "policy_applied"]
    last = versions(sekisho, started.state)[-1]
    assert last["who"] == "sekisho" and "version 2 was not confirmed within 2 s" in last["why"]
    done = sekisho("confirm", "--control", started.socket)
    assert done.returncode == 1 and "no policy waits" in done.stderr


def test_what_is_confirmed_stays(sekisho, started):
    apply(sekisho, started, policy(port=2), "--confirm", "3s")
    done = sekisho("confirm", "--control", started.socket, "--who", "sato", "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"version": 2}
    time.sleep(4)
    assert started.status()["policy"]["version"] == 2
    assert types(sekisho, started.state)[2:] == ["policy_applied", "policy_confirmed"]
    assert events(sekisho, started.state)[-1]["who"].startswith("sato (as ")


def test_a_second_apply_while_the_first_waits(sekisho, started):
    """With --confirm: what comes back is the last policy that nobody doubted, not the first doubtful one. Without: it stays."""
    apply(sekisho, started, policy(port=2), "--confirm", "2s")
    report = apply(sekisho, started, policy(port=3), "--confirm", "4s")
    assert report["otherwise"] == 1
    time.sleep(2.5)
    assert started.status()["policy"]["version"] == 3, "the first one's time has no meaning any more"
    started.wait_for(lambda: started.status()["policy"]["version"] == 4, "it to be undone")
    assert started.status()["policy"]["sha256"] == hashlib.sha256(policy().encode()).hexdigest()
    apply(sekisho, started, policy(port=5), "--confirm", "2s")
    report = apply(sekisho, started, policy(port=6))
    assert "confirm_within" not in report and "unconfirmed" not in started.status()["policy"]
    # One with an error changes nothing of it.
    apply(sekisho, started, policy(port=7), "--confirm", "2s")
    assert started.apply("nonsense").returncode == 1
    assert started.status()["policy"]["unconfirmed"]["otherwise"] == 6
    started.wait_for(lambda: started.status()["policy"]["version"] == 8, "it to be undone")
    assert started.status()["policy"]["sha256"] == hashlib.sha256(policy(port=6).encode()).hexdigest()
    assert verify(sekisho, "--state", started.state)["intact"]


def test_confirming_needs_no_state_directory(sekisho, bridge, network):
    running = bridge(policy(), net=network())
    apply(sekisho, running, policy(port=2), "--confirm", "1s")
    running.wait_for(lambda: running.status()["policy"]["version"] == 3, "it to be undone")


def test_a_stop_forgets_what_waits(sekisho, started, bridge):
    """Why: the next start reads its file, and that must be known."""
    apply(sekisho, started, policy(port=2), "--confirm", "10m")
    assert started.stop() == 0
    assert "version 2 was never confirmed; the next start reads" in started.said()
    again = bridge(policy(), "--state", started.state, net=started.network)
    assert "unconfirmed" not in again.status()["policy"]


@pytest.mark.parametrize("wrong", ["0s", "5", "25h", "x", "-1s", "99999999999999999999m"])
def test_times_to_confirm(sekisho, folder, wrong):
    (folder / "p.toml").write_text(policy())
    assert sekisho("apply", folder / "p.toml", "--confirm", wrong).returncode == 64


# --- Signatures --------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(sekisho, folder):
    for name in ("key", "other"):
        assert sekisho("keygen", "-o", folder / name).returncode == 0
    return folder / "key", folder / "other"


def signed(sekisho, file, text, key):
    file.write_text(text)
    done = sekisho("sign", file, "--key", key)
    assert done.returncode == 0, done.stderr
    return file


def test_keys(sekisho, folder, keys):
    key, public = keys[0], pathlib.Path(f"{keys[0]}.pub")
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes(), public.read_bytes()
    done = sekisho("keygen", "-o", key)
    assert done.returncode == 1 and "EEXIST" in done.stderr and (key.read_bytes(), public.read_bytes()) == before
    # Nor half of it.
    key.rename(folder / "moved")
    assert sekisho("keygen", "-o", key).returncode == 1 and not key.exists() and public.read_bytes() == before[1]
    (folder / "p.toml").write_text(policy())
    for wrong in (public, "/nowhere", folder / "p.toml"):
        done = sekisho("sign", folder / "p.toml", "--key", wrong)
        assert done.returncode == 1 and str(wrong) in done.stderr and "→" in done.stderr and not (folder / "p.toml.sig").exists()
    (folder / "p.toml").write_text("nonsense")
    assert sekisho("sign", folder / "p.toml", "--key", folder / "moved").returncode == 1 and not (folder / "p.toml.sig").exists()


def test_openssl_agrees(sekisho, folder, keys):
    """Why: a signature that only its maker can check is a claim."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    key = keys[0]
    file = signed(sekisho, folder / "p.toml", policy(), key)
    lines = dict(line.split(": ") for line in pathlib.Path(f"{file}.sig").read_text().splitlines())
    (folder / "raw").write_bytes(base64.b64decode(lines["ed25519"]))
    raw = subprocess.run(["openssl", "pkey", "-pubin", "-in", f"{key}.pub", "-outform", "DER"], capture_output=True).stdout[-32:]
    assert lines["key"] == hashlib.sha256(raw).hexdigest()[:32]

    def check():
        return subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{key}.pub", "-rawin", "-in", file, "-sigfile", folder / "raw"],
            capture_output=True).returncode

    assert check() == 0
    file.write_text(policy() + "\n")
    assert check() == 1
    # And the other way round.
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "theirs"], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", folder / "theirs", "-pubout", "-out", folder / "theirs.pub"], check=True)
    signed(sekisho, file, policy(), folder / "theirs")
    assert sekisho("check", file, "--trusted-key", folder / "theirs.pub").returncode == 0


def test_check_with_trusted_keys(sekisho, folder, keys):
    key, other = keys
    file = signed(sekisho, folder / "p.toml", policy(), key)

    def check(*trusted):
        done = sekisho("check", file, *(word for one in trusted for word in ("--trusted-key", one)), "--json")
        return done.returncode, json.loads(done.stdout)

    code, report = check(f"{key}.pub")
    assert code == 0 and report["valid"] and report["signed_by"] in pathlib.Path(f"{file}.sig").read_text()
    assert check(f"{other}.pub", f"{key}.pub")[0] == 0
    code, report = check(f"{other}.pub")
    assert code == 1 and "not trusted" in report["diagnostics"][-1]["message"]
    file.write_text(policy(port=2))
    assert "changed" in check(f"{key}.pub")[1]["diagnostics"][-1]["message"] and check()[0] == 0
    pathlib.Path(f"{file}.sig").unlink()
    assert "not signed" in check(f"{key}.pub")[1]["diagnostics"][-1]["message"]
    done = sekisho("check", file, "--trusted-key", key)
    assert done.returncode == 1 and "private key" in done.stderr


def test_only_signed_policies_are_used(sekisho, bridge, network, folder, keys):
    """At the start, at an apply, at SIGHUP and at a rollback."""
    key, other = keys
    net, state = network(), folder / "state"
    trust = ("--state", state, "--trusted-key", f"{key}.pub")

    refused = bridge(policy(), *trust, net=net, wait=False)
    assert refused.wait_for_end() == 1 and "not signed" in refused.said() and not net.has_programs()
    assert types(sekisho, state) == ["signature_refused"]

    # One that was applied before signatures were asked for.
    before = bridge(policy(port=9), "--state", state, net=net)
    before.stop()

    running = bridge(policy(), *trust, net=net, key=key)
    assert running.status()["policy"]["key"] in pathlib.Path(f"{running.policy}.sig").read_text()
    assert running.status()["policy"]["version"] == 2

    file = folder / "next.toml"

    def applies(text, by=None, spoil=None):
        pathlib.Path(f"{file}.sig").unlink(missing_ok=True)
        file.write_text(text)
        if by:
            signed(sekisho, file, text, by)
        if spoil:
            file.write_text(spoil)
        return sekisho("apply", file, "--control", running.socket)

    assert "not signed" in applies(policy(port=2)).stderr
    assert "not trusted" in applies(policy(port=2), other).stderr
    assert "changed" in applies(policy(port=2), key, policy(port=3)).stderr
    assert applies(policy(port=2), key).returncode == 0
    pathlib.Path(f"{file}.sig").write_text("x" * 5000)
    assert sekisho("apply", file, "--control", running.socket).returncode == 1
    assert running.status()["policy"]["version"] == 3

    # SIGHUP: the file with its signature, or what runs stays.
    running.policy.write_text(policy(port=5))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: "the running policy stays" in running.said(), "the refusal")
    signed(sekisho, running.policy, policy(port=5), key)
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: running.status()["policy"]["version"] == 4, "the signed one")

    # A rollback to what was signed, and to what was not.
    done = sekisho("rollback", 3, "--control", running.socket)
    assert done.returncode == 0, done.stderr
    done = sekisho("rollback", 1, "--control", running.socket)
    assert done.returncode == 1 and "not signed" in done.stderr
    assert running.status()["policy"]["version"] == 5
    running.wait_for(lambda: types(sekisho, state).count("signature_refused") == 6, "the log")
    found = [one for one in events(sekisho, state) if one["type"] == "signature_refused"]
    assert all(one["category"] == "access_control" and "sha256" in one["fields"] for one in found)
    assert [one["key"] != "" for one in versions(sekisho, state) if "key" in one] == [True] * 4
    # A key that is none.
    done = sekisho("run", "--inside", "a", "--outside", "b", "--policy", file, "--trusted-key", key)
    assert done.returncode == 1 and "private key" in done.stderr

