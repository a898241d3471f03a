"""A machine to try an installation on: this one's files under a layer that is thrown away, systemd as its first process, the ports of a
test's network. Nothing of it is left behind, and nothing of it reaches this machine's own systemd, files or ports."""

import os
import pathlib
import shutil
import subprocess
import time

# What systemd may start: no udev, no log-ins, nothing of what this machine has installed.
UNITS = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "-.slice", "system.slice"]
TARGETS = ["sysinit", "basic", "multi-user", "sockets", "local-fs", "network", "shutdown", "umount", "timers", "paths", "slices", "emergency"]

BEGIN = r"""
set -e
mount --make-rprivate /
layer={folder}/layer
mkdir -p $layer
mount -t tmpfs tmpfs $layer
for place in usr etc var; do
    mkdir -p $layer/$place $layer/work-$place
    mount -t overlay overlay -o lowerdir=/$place,upperdir=$layer/$place,workdir=$layer/work-$place /$place
done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
rm -rf /etc/systemd/system /etc/systemd/system.conf.d /var/log/journal /usr/lib/systemd/system-generators
mkdir -p /etc/systemd/system /run/systemd/system /run/kept
for unit in {units}; do cp /usr/lib/systemd/system/$unit /run/kept/ 2>/dev/null || true; done
rm -rf /usr/lib/systemd/system
mv /run/kept /usr/lib/systemd/system
for target in {targets}; do printf '[Unit]\nDefaultDependencies=no\n' >/run/systemd/system/$target.target; done
printf '[Unit]\nWants=systemd-journald.service\n' >/run/systemd/system/test.target
mount -t tmpfs tmpfs /tmp
export container=test SYSTEMD_LOG_TARGET=console
exec /lib/systemd/systemd --system --unit=test.target --show-status=no
"""


def what_is_missing():
    for tool in ("/lib/systemd/systemd", "systemctl", "nsenter", "unshare"):
        if not (os.path.exists(tool) or shutil.which(tool)):
            return f"needs {tool}"
    if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        return "needs overlayfs"
    return None


class Machine:
    def __init__(self, netns, folder):
        self.folder = folder
        script = folder / "begin"
        script.write_text(BEGIN.format(folder=folder, units=" ".join(UNITS), targets=" ".join(TARGETS)))
        self.log = folder / "systemd.log"
        with open(self.log, "wb") as log:
            self.outer = subprocess.Popen(
                ["ip", "netns", "exec", netns, "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc",
                 "bash", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.first = None
        self.wait_for(self.is_up, "systemd")

    def said(self):
        return self.log.read_text(errors="replace")[-4000:]

    def is_up(self):
        assert self.outer.poll() is None, f"systemd does not begin: {self.said()}"
        if self.first is None:
            children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
            if not children:
                return False
            self.first = int(children[0])
        return self.run("systemctl", "is-active", "test.target").stdout.strip() == "active"

    def run(self, *command, **options):
        """A command on the machine, as it ended."""
        return subprocess.run(
            ["nsenter", "--target", str(self.first), "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--wd=/", *map(str, command)],
            capture_output=True, text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL, **options)

    def must(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.said()}"
        return done.stdout

    def write(self, path, text):
        subprocess.run(
            ["nsenter", "--target", str(self.first), "--mount", "sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path}"], input=text, text=True,
            check=True, timeout=30)

    def install(self, source, path, mode="755"):
        """A file of this machine, also one that the layer hides."""
        with open(source, "rb") as file:
            subprocess.run(
                ["nsenter", "--target", str(self.first), "--mount", "sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path} && chmod {mode} {path}"],
                stdin=file, check=True, timeout=60)

    def journal(self):
        return self.run("journalctl", "--no-pager", "-q", "-o", "cat").stdout

    def wait_for(self, condition, what, timeout=30):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.1)
        raise AssertionError(f"waited {timeout} s for {what}: {self.said()}")

    def close(self):
        # With the first process all others of its namespace end.
        if self.outer.poll() is None:
            self.outer.kill()
        self.outer.wait(20)
