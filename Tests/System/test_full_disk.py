"""What cannot be written: a full disk, a log that nobody reads. What is there stays, it is said, and the wire does not notice."""

import contextlib
import errno
import fcntl
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import sh
from frames import write_pcap
from test_failing import Streams, frame, policy
from test_identity import arp


class Disk:
    """A small file system of its own."""

    def __init__(self, place):
        self.place = place
        self.ballast = place / "ballast"

    def fill(self):
        """Leaves not a byte."""
        with open(self.ballast, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        with pytest.raises(OSError) as full:
            (self.place / "more").write_bytes(b"x")
        assert full.value.errno == errno.ENOSPC
        (self.place / "more").unlink()

    def use_up_names(self):
        """Leaves no room for another file; a socket needs no more."""
        with contextlib.suppress(OSError):
            for number in range(100):
                (self.place / f"name{number}").touch()
        with pytest.raises(OSError):
            (self.place / "more").touch()

    def free(self):
        self.ballast.unlink()

    def names(self):
        return sorted(path.name for path in self.place.iterdir())


@pytest.fixture
def disk(privileged, folder):
    place = folder / "disk"
    place.mkdir()
    sh(f"mount -t tmpfs -o size=256k,nr_inodes=40 tmpfs {place}")
    yield Disk(place)
    sh(f"umount -l {place}")


# --- Files that commands write -----------------------------------------------------------------------------------

MANY = "".join(f'[[allow]]\nid = "r{i}"\nfrom = "10.1.0.{i + 1}"\nto = "10.0.0.2"\nservice = "udp/1-9"\n' for i in range(100))


def fails_for_want_of_room(done, path):
    return done.returncode == 1 and "ENOSPC" in done.stderr and str(path) in done.stderr and "is the disk full?" in done.stderr


@pytest.mark.parametrize("words", [
    ("export", "nftables", "POLICY", "--output", "OUT"), ("export", "openflow", "POLICY", "--output", "OUT"),
    ("simulate", "POLICY", "CAPTURE", "--verdicts", "OUT"),
], ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("room", (0, 3))
def test_a_file_that_is_there_stays(sekisho, disk, folder, words, room):
    """Why: half a ruleset in the place of a good one is loaded at the next start of the machine."""
    (folder / "p.toml").write_text(policy(rules=MANY))
    capture = write_pcap(folder / "in.pcap", [frame(1, 1)] * 2000)
    words = [{"POLICY": folder / "p.toml", "CAPTURE": capture, "OUT": disk.place / "out"}.get(word, word) for word in words]
    assert sekisho(*words).returncode == 0
    whole = (disk.place / "out").read_bytes()
    assert len(whole) > room << 12
    (disk.place / "out").write_text("as it was")
    disk.fill()
    # With some room the beginning can be written.
    with open(disk.ballast, "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - (room << 12))
    before = disk.names()
    done = sekisho(*words)
    assert fails_for_want_of_room(done, disk.place / "out"), done
    assert (disk.place / "out").read_text() == "as it was" and disk.names() == before
    disk.free()
    assert sekisho(*words).returncode == 0 and (disk.place / "out").read_bytes() == whole
    assert disk.names() == ["out"]


def test_a_latency_report_on_a_full_disk(sekisho, disk, bridge, network):
    running = bridge(policy(), net=network())
    page = disk.place / "report.html"
    page.write_text("as it was")
    disk.fill()
    done = sekisho("latency", "--html", page, "--control", running.socket)
    assert fails_for_want_of_room(done, page), done
    assert page.read_text() == "as it was" and disk.names() == ["ballast", "report.html"]


def test_a_comparison_run_needs_room(sekisho, disk, folder):
    """Why: it writes policies and programs' logs, and must say which of them had no room, and put nothing where the report goes."""
    disk.fill()
    (folder / "old.json").write_text("as it was")
    done = sekisho("bench", "--json", folder / "old.json", env={**os.environ, "TMPDIR": str(disk.place)}, timeout=60)
    assert fails_for_want_of_room(done, disk.place), done
    assert (folder / "old.json").read_text() == "as it was" and disk.names() == ["ballast"]


def test_what_is_no_file_is_not_replaced(sekisho, folder):
    """Why: --output to a pipe, or through a link, must not put a file in its place."""
    (folder / "p.toml").write_text(policy())
    export = ("export", "openflow", folder / "p.toml", "--output")
    whole = sekisho(*export[:-1]).stdout
    os.mkfifo(folder / "pipe")
    reader = subprocess.Popen(["cat", folder / "pipe"], stdout=subprocess.PIPE, text=True)
    assert sekisho(*export, folder / "pipe").returncode == 0
    assert reader.communicate(timeout=10)[0] == whole and (folder / "pipe").is_fifo()
    (folder / "target").write_text("before")
    (folder / "target").chmod(0o640)
    (folder / "link").symlink_to("target")
    assert sekisho(*export, folder / "link").returncode == 0
    assert (folder / "link").is_symlink() and (folder / "target").read_text() == whole
    assert (folder / "target").stat().st_mode & 0o777 == 0o640


# --- What commands print -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("check", "POLICY"), ("check", "POLICY", "--json"), ("export", "openflow", "POLICY"), ("doctor",), ("simulate", "POLICY", "CAPTURE")],
                         ids=lambda words: " ".join(words[:2]))
def test_standard_output_on_a_full_disk(binary, disk, folder, words):
    """Why: a script that keeps the output goes by the exit code."""
    (folder / "p.toml").write_text(policy(rules=MANY))
    capture = write_pcap(folder / "in.pcap", [frame(1, 1)])
    words = [{"POLICY": folder / "p.toml", "CAPTURE": capture}.get(word, word) for word in words]
    with open(disk.place / "out", "w") as out:
        disk.fill()
        done = subprocess.run([binary, *words], stdout=out, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1 and "ENOSPC" in done.stderr and "standard output" in done.stderr, done


@contextlib.contextmanager
def deaf(kind, disk):
    """A standard error that takes nothing, and what must stand before a command for it."""
    if kind == "full disk":
        with open(disk.place / "log", "a") as log:
            disk.fill()
            yield log, ()
    elif kind == "closed":
        yield None, ("sh", "-c", 'exec 2>&-; exec "$@"', "sh")
    elif kind == "nobody's pipe":
        there, here = os.pipe()
        os.close(there)
        yield here, ()
        os.close(here)
    else:
        there, here = os.pipe()
        fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(here, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(here, bytes(1)):
                pass
        os.set_blocking(here, True)
        yield here, ()
        os.close(here)
        os.close(there)


DEAF = ("full disk", "closed", "nobody's pipe", "full pipe")


@pytest.mark.parametrize("kind", ("full disk", "closed"))
@pytest.mark.parametrize("words", [("status", "--control", "/nowhere/c"), ("check", "/nowhere/p.toml"), ("run", "--inside", "a", "--outside", "b", "--policy", "/nowhere/p.toml")],
                         ids=lambda words: words[0])
def test_errors_that_nobody_hears(binary, disk, kind, words):
    """Why: to end with a crash because the reason could not be said hides the reason."""
    with deaf(kind, disk) as (errors, prefix):
        done = subprocess.run([*prefix, binary, *words], stdout=subprocess.DEVNULL, stderr=errors, timeout=30)
    assert done.returncode == 1


# --- The running bridge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DEAF)
def test_a_log_that_takes_nothing(disk, bridge, network, kind):
    """Why: a full disk, or a journal that stands still, must not cost the tool its host: nor the operator the bridge."""
    with deaf(kind, disk) as (errors, prefix):
        running = bridge(policy(), net=network(), errors=errors, prefix=prefix)
        streams = Streams(running.network)
        time.sleep(0.2)
        # Each says something: applied, not applied, and who is who.
        assert running.apply(policy()).returncode == 0
        for _ in range(6):
            assert running.apply("version = 1\nnonsense = " + "1" * 500).returncode == 1
        running.network.b.send(*[arp(f"02:00:00:00:01:{n:02x}", "10.0.0.7") for n in range(40)])
        time.sleep(1.2)
        status = running.status()
        streams.finish()
        assert streams.lost() == [] and streams.strangers() == 0 and streams.twice == 0
        assert status["policy"]["version"] == 2 and status["identities"]["changes"] >= 39
        assert status["judging"]["episodes"] == []
        if kind == "closed":
            # Nothing that was opened later has come to be standard error.
            assert os.readlink(f"/proc/{running.process.pid}/fd/2") == "/dev/null"
        assert running.stop() == 0


def test_a_log_goes_on_when_there_is_room_again(disk, bridge, network):
    """Why: a gap in the log must be seen."""
    with open(disk.place / "log", "ab") as log:
        running = bridge(policy(), net=network(), errors=log)
        running.wait_for(lambda: b"forwarding" in (disk.place / "log").read_bytes(), "the start")
        disk.fill()
        with contextlib.suppress(OSError):  # what is left of the last page
            while log.write(b".") and not log.flush():
                pass
        for _ in range(5):
            assert running.apply("version = 1\nnonsense = 1").returncode == 1
        running.wait_for(lambda: b"nonsense" not in (disk.place / "log").read_bytes(), "nothing")
        time.sleep(0.2)
        disk.free()
        assert running.apply(policy()).returncode == 0
        running.wait_for(lambda: b"applied" in (disk.place / "log").read_bytes(), "the log")
        said = (disk.place / "log").read_text()
        assert "5 lines of the log are missing here: ENOSPC" in said and said.index("missing") < said.index("applied")
        assert running.stop() == 0


def test_a_log_that_is_read_again(bridge, network):
    """Why: what waited is not lost, and a pipe that is read slowly gets all of it."""
    there, here = os.pipe()
    fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, 4096)
    running = bridge(policy(), net=network(), errors=here)
    os.close(here)
    for number in range(60):
        assert running.apply(f"version = 1\nnonsense{number} = 1" ).returncode == 1
    assert running.status()["policy"]["version"] == 1
    running.process.send_signal(signal.SIGTERM)
    said = b""
    while chunk := os.read(there, 4096):
        said += chunk
    os.close(there)
    assert running.wait_for_end() == 0
    said = said.decode()
    places = [said.index(f"nonsense{number}\"" if f"nonsense{number}\"" in said else f"nonsense{number} ") for number in range(60)]
    assert places == sorted(places) and said.rstrip().endswith("stopping")


def test_no_room_for_the_control_socket(disk, bridge, network):
    """Why: the reason is the disk, not the rights."""
    disk.use_up_names()
    net = network()
    running = bridge(policy('"closed"'), "--control", disk.place / "control", net=net, wait=False)
    assert running.wait_for_end() == 1
    assert "ENOSPC" in running.said() and str(disk.place / "control") in running.said() and "make room" in running.said()
    assert not net.has_programs() and "control" not in disk.names()


def test_the_control_socket_needs_no_room(disk, bridge, network, sekisho):
    """Why: a machine whose /run is full of something else must still start its bridge."""
    disk.fill()
    running = bridge(policy('"closed"'), "--control", disk.place / "control", net=network(), wait=False)
    running.wait_for(lambda: "forwarding" in running.said(), "the start")
    assert sekisho("status", "--control", disk.place / "control").returncode == 0
    assert running.stop() == 0 and disk.names() == ["ballast"]


@pytest.mark.parametrize("names", (2, 4))
def test_no_room_for_what_is_kept_beside_it(bridge, network, names):
    """Why: a full /run is no reason not to bridge; that a killed bridge's ports cannot be put back then must be said."""
    # 2: for the folder and the lock; 4: for the record as well, which has no byte then.
    script = f'mount -t tmpfs -o size=4k,nr_inodes={names} tmpfs /run/sekisho && head -c 4096 /dev/zero >/run/sekisho/x; ' \
             f'[ {names} = 4 ] || rm /run/sekisho/x; exec "$@"'
    pathlib.Path("/run/sekisho").mkdir(exist_ok=True)
    net = network()
    running = bridge(policy('"closed"'), net=net, prefix=("unshare", "-m", "sh", "-c", script, "sh"))
    net.a.send(frame(1, 1))
    assert net.b.receive(1)
    assert "ENOSPC" in running.said() and ".ports)" in running.said() and "make room" in running.said()
    kept = [path.name for path in pathlib.Path(f"/proc/{running.process.pid}/root/run/sekisho").iterdir()]
    assert not any(name.endswith((".new", ".ports")) for name in kept) and any(name.endswith(".lock") for name in kept)
    assert running.stop() == 0


def test_a_policy_that_was_cut_off(disk, bridge, network):
    """Why: an editor that finds no room leaves the beginning of a file, or nothing of it."""
    running = bridge(policy(), net=network())
    file = disk.place / "policy.toml"
    file.write_text(policy(rules=MANY))
    streams = Streams(running.network)
    disk.fill()
    # Applied from there as it is.
    done = running.sekisho("apply", file, "--control", running.socket)
    assert done.returncode == 0, done.stderr
    for rest in ("", policy(rules=MANY)[:-5]):
        with open(file, "r+") as there:
            there.truncate(0)
            there.write(rest)
        done = running.sekisho("apply", file, "--control", running.socket)
        assert done.returncode == 1 and str(file) in done.stderr, done
        # And by SIGHUP, from the file that it was started with.
        running.policy.write_text(rest)
        running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: running.said().count("the running policy stays") >= 4, "the answers")
    status = running.status()
    streams.finish()
    assert status["policy"]["version"] == 2 and status["policy"]["rules"] == 101
    assert streams.lost() == [] and streams.strangers() == 0
