"""The Debian package: what is in it, and that it comes, is upgraded and goes without disturbing a wire or leaving anything behind."""

import gzip
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import machine
from conftest import ROOT


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", timeout=180, **options)


@pytest.fixture(scope="session")
def package():
    """The one that SEKISHO_PACKAGE names, else the newest that Scripts/package has made."""
    if path := os.environ.get("SEKISHO_PACKAGE"):
        return pathlib.Path(path).resolve()
    made = sorted((ROOT / ".build-package").glob("*.deb"), key=lambda one: one.stat().st_mtime)
    if not made:
        pytest.skip("there is no package: Scripts/package builds one")
    return made[-1]


@pytest.fixture(scope="session")
def tree(package, tmp_path_factory):
    """What is in it."""
    folder = tmp_path_factory.mktemp("package")
    assert run("dpkg-deb", "--raw-extract", package, folder).returncode == 0
    return folder


def commands(program):
    """Every command's name, with those it stands under."""
    def walk(command, path):
        yield path
        for one in command.get("subcommands", []):
            if one["shouldDisplay"] and one["commandName"] != "help":
                yield from walk(one, [*path, one["commandName"]])

    told = json.loads(run(program, "--experimental-dump-help").stdout)
    return list(walk(told["command"], ["sekisho"]))


def test_what_is_in_it(tree, package):
    """Why: a machine in a plant has no Swift, and no way to get it."""
    program = tree / "usr/bin/sekisho"
    version = run(program, "--version").stdout.strip()
    fields = dict(line.split(": ", 1) for line in (tree / "DEBIAN/control").read_text().splitlines() if ": " in line and line[0] != " ")
    assert fields["Version"] == version and fields["Package"] == "sekisho" and version in package.name
    names = {one.split(" (")[0].strip() for one in fields["Depends"].split(",")}
    assert {"libbpf1", "libelf1", "zlib1g", "libseccomp2", "libpcap0.8", "libsqlite3-0", "libc6"} <= names, names
    assert "libswift" not in run("objdump", "-p", program).stdout
    # By versions that Debian 12 has.
    for one in fields["Depends"].split(","):
        assert run("dpkg-query", "-W", "-f", "${Status}", one.split("(")[0].split("|")[0].strip()).stdout.endswith("installed"), one
    for unit in ("sekisho@.service", "sekisho-feed@.service"):
        assert (tree / "lib/systemd/system" / unit).read_text() == (ROOT / "packaging" / unit).read_text()
    assert run(program, "feed", "--check", "--config", tree / "etc/sekisho/example.feeds.toml").returncode == 0
    for script in ("postinst", "prerm", "postrm"):
        assert run("sh", "-n", tree / "DEBIAN" / script).returncode == 0
    # Nothing is writable for others, and all is root's.
    listing = run("dpkg-deb", "--contents", package).stdout.splitlines()
    assert all(line.split()[1] == "root/root" and (line[0] == "l" or line[8] != "w") for line in listing)
    assert run(program, "check", tree / "etc/sekisho/example.toml").returncode == 0
    for example in ("prometheus-rules.yml", "grafana-dashboard.json"):
        assert (tree / "usr/share/doc/sekisho/examples" / example).read_text() == (ROOT / "packaging" / example).read_text()


@pytest.mark.skipif(not shutil.which("lintian"), reason="needs lintian")
def test_lintian_finds_no_error(package):
    """Why: who checks packages before they come into a plant uses it."""
    # Who is to answer for it is told by DEBEMAIL where it is built for somebody.
    # zlib comes with Swift's own libraries, which no Debian has.
    nobody = "bogus-mail-host,bogus-mail-host-in-debian-changelog,embedded-library"
    done = run("lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", nobody, package)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
def test_every_command_has_a_page(tree):
    """Why: the machine in the plant has no network to look things up."""
    folder = tree / "usr/share/man/man1"
    wanted = {"-".join(path) for path in commands(tree / "usr/bin/sekisho")}
    assert {one.name.removesuffix(".1.gz") for one in folder.iterdir()} == wanted and len(wanted) > 20
    for page in sorted(folder.iterdir()):
        done = run("man", "--warnings=w,mac", "-l", page, env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""})
        assert done.returncode == 0 and done.stderr == "", f"{page.name}: {done.stderr}"
        assert "NAME" in done.stdout and "OPTIONS" in done.stdout
    text = run("man", "-l", folder / "sekisho-run.1.gz", env={**os.environ, "MANWIDTH": "200"}).stdout
    assert "--inside port" in text and "--replace" in text and "Bridge two ports" in text
    assert b"\\-\\-inside" in gzip.decompress((folder / "sekisho-run.1.gz").read_bytes()), "a hyphen that cannot be copied"


@pytest.mark.parametrize("shell, path", [
    ("bash", "bash-completion/completions/sekisho"), ("zsh", "zsh/vendor-completions/_sekisho"), ("fish", "fish/vendor_completions.d/sekisho.fish")])
def test_completions_are_read(tree, shell, path):
    """Why: a shell that stumbles over one says so at every log-in."""
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    done = run(shell, "-n", tree / "usr/share" / path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "support" in (tree / "usr/share" / path).read_text()


def test_bash_completes(tree):
    """Why: that it parses does not mean that it works."""
    script = tree / "usr/share/bash-completion/completions/sekisho"
    done = run("bash", "-c", f"source {script}; COMP_WORDS=(sekisho sup); COMP_CWORD=1; COMP_LINE='sekisho sup'; COMP_POINT=11; "
                             "$(complete -p sekisho | sed 's/.*-F \\([^ ]*\\).*/\\1/') sekisho sup sekisho; echo ${COMPREPLY[@]}")
    assert done.stdout.split() == ["support"], done


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_it_comes_and_goes_in_a_root_of_its_own(package, folder):
    """Why: images are made so, without a running system."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    root = folder / "root"
    for place in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log", "etc", "run", "usr", "tmp"):
        (root / place).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends", "--force-not-root"]
    before = files(root)
    done = run(*dpkg, "--install", package)
    assert done.returncode == 0, done.stderr
    program = root / "usr/bin/sekisho"
    assert run(program, "--version").returncode == 0 and run(program, "check", root / "etc/sekisho/example.toml").returncode == 0
    if shutil.which("systemd-sysusers"):
        assert "sekisho:" in (root / "etc/group").read_text()
    assert not list((root / "etc").rglob("*.wants"))
    (root / "etc/sekisho/bay3.toml").write_text("mine")
    (root / "var/lib/sekisho/bay3").mkdir(parents=True)
    (root / "var/lib/sekisho/bay3/history.sqlite").write_text("mine")
    assert run(*dpkg, "--remove", "sekisho").returncode == 0
    assert not program.exists() and (root / "var/lib/sekisho/bay3/history.sqlite").exists() and (root / "etc/sekisho/bay3.toml").exists()
    done = run(*dpkg, "--purge", "sekisho")
    assert done.returncode == 0, done.stderr
    # Groups are never removed (Debian's policy): a file may be theirs.
    left = {path for path in files(root) - before if not path.startswith(("var/lib/dpkg/", "etc/group", "etc/gshadow", "var/log/dpkg", "etc/.pwd.lock"))}
    assert left <= {"etc/passwd", "etc/shadow"} and not any("sekisho" in path for path in files(root)), left


@pytest.fixture
def host(privileged, network, folder):
    if reason := machine.what_is_missing():
        pytest.skip(reason)
    net = network()
    made = machine.Machine(net.bridge, folder)
    made.network = net
    yield made
    made.close()


def active(host):
    return host.run("systemctl", "is-active", "sekisho@bay3").stdout.strip()


def test_upgrades_and_removal_on_a_running_machine(host, tree, package, folder):
    """Why: what a package does to a running bridge it does to a tool."""
    host.install(package, "/tmp/first.deb", "644")
    done = host.run("dpkg", "--install", "/tmp/first.deb")
    assert done.returncode == 0, done.stdout + done.stderr
    # Not by itself.
    assert "sekisho@" not in host.must("systemctl", "list-units", "--all", "--plain", "--no-legend")
    assert not host.network.has_programs()
    host.write("/etc/sekisho/bay3.conf", "INSIDE=in0\nOUTSIDE=out0\nOPTIONS=--queues 1 --idle sleep\n")
    host.must("cp", "/etc/sekisho/example.toml", "/etc/sekisho/bay3.toml")
    host.must("sh", "-c", "echo '# mine' >>/etc/sekisho/example.toml")
    host.must("systemctl", "enable", "--now", "sekisho@bay3")
    assert active(host) == "active" and "monitor" in host.must("sekisho", "status")
    host.write("/etc/sekisho/bay3.feeds.toml", 'version = 1\n[[file]]\nname = "lines"\npath = "/var/lib/sekisho/bay3/feed.jsonl"\n')
    host.must("systemctl", "enable", "--now", "sekisho-feed@bay3")
    pid = host.must("systemctl", "show", "-P", "MainPID", "sekisho@bay3")
    # An upgrade: a later version with another example.
    later = folder / "later"
    shutil.copytree(tree, later, symlinks=True)
    control = later / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9."))
    example = later / "etc/sekisho/example.toml"
    example.write_text(example.read_text() + "# theirs\n")
    assert run("dpkg-deb", "--root-owner-group", "-Znone", "--build", later, folder / "later.deb").returncode == 0
    host.install(folder / "later.deb", "/tmp/later.deb", "644")
    said = host.must("dpkg", "--install", "--force-confdef", "--force-confold", "/tmp/later.deb")
    assert active(host) == "active" and host.must("systemctl", "show", "-P", "MainPID", "sekisho@bay3") == pid
    assert "systemctl restart sekisho@bay3" in said
    assert host.must("tail", "-n", "1", "/etc/sekisho/example.toml").strip() == "# mine"
    pinned = host.must("ls", "/sys/fs/bpf/sekisho").split()
    assert len(pinned) == 2
    # Removed: it stops, and what was learnt stays. Purged: that goes, too.
    host.must("dpkg", "--remove", "sekisho")
    assert active(host) == "inactive"
    assert host.run("test", "-e", "/var/lib/sekisho/bay3/history.sqlite").returncode == 0
    assert host.run("systemctl", "is-active", "sekisho-feed@bay3").stdout.strip() == "inactive"
    assert host.run("sh", "-c", "ls /etc/systemd/system/*.wants/sekisho*").returncode != 0
    host.must("dpkg", "--purge", "sekisho")
    left = host.run("find", "/etc", "/usr", "/var", "-xdev", "-name", "*sekisho*").stdout.split()
    assert left == [], left
    assert host.run("ls", "/sys/fs/bpf/sekisho").stdout.split() == pinned
