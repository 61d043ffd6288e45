"""A machine that systemd has booted: process 1 with journald and udev, and Debian's own units up to multi-user.target.

It is a process namespace of the lab's guest, with mounts, /run, machine id and installed units of its own; kernel,
control groups and devices are the guest's. `container=` (empty) tells systemd that it is on a machine and not in a
container, so it leaves nothing out. Only what is masked below is missing: it takes long, and nothing here needs it.
"""

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.support.hosts.units import CGROUPS, SYSTEMD, _gone, _groups
from tests.system.support.runs.live import wait_for
from tests.system.support.runs.program import BIN, Said, run

CONTRIB = Path(__file__).parents[4] / "contrib" / "systemd"
UNITS = Path("/etc/systemd/system")
SBIN = Path("/usr/local/sbin")
ID = Path("/etc/machine-id")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN = (
    *(
        UNITS,
        SBIN,
        Path("/usr/local/lib/systemd"),
        Path("/etc/borg-lvm"),
        Path("/etc/borgmatic"),
        Path("/opt/borg-lvm"),
    ),
    *(Path("/backup"), Path("/var/log"), Path("/var/lib/systemd/timers")),
)
"""Directories that are empty in the machine at first, and gone with it."""
MASKED = """
dbus.service dbus.socket systemd-logind.service getty.target systemd-user-sessions.service systemd-firstboot.service
systemd-sysusers.service systemd-tmpfiles-clean.timer systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service
systemd-udev-trigger.service systemd-hwdb-update.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-sysctl.service
systemd-modules-load.service systemd-journal-flush.service kmod-static-nodes.service dev-mqueue.mount
dev-hugepages.mount sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount
sys-kernel-tracing.mount systemd-ask-password-console.path systemd-ask-password-wall.path systemd-pstore.service
modprobe@configfs.service modprobe@fuse.service systemd-network-generator.service
""".split()
BOOT = """#!/bin/sh
set -e
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
for own in {own}; do mount -t tmpfs -o mode=755 tmpfs $own; done
echo 4c19d0d7c2b04ba0a5b7a5d1d1c1a001 >/run/machine-id
mount --bind /run/machine-id /etc/machine-id
for unit in {masked}; do ln -s /dev/null {units}/$unit; done
mkdir {units}/sockets.target.wants
ln -s /lib/systemd/system/dm-event.socket {units}/sockets.target.wants/  # as Debian's lvm2 has it
{more}
exec env -i PATH={path} container= SYSTEMD_GENERATOR_PATH=/nowhere {systemd} --show-status=no --unit=multi-user.target
"""


class Machine:
    """The booted machine. `boot` are lines of a shell that are run in its mounts before systemd starts."""

    def __init__(self, directory: Path, boot: str = "") -> None:
        self.directory = directory
        self._groups = _groups()
        self._made = [path for path in OWN if not path.exists()]
        for path in self._made:
            path.mkdir(parents=True)
        if not ID.exists():
            ID.touch()
        directory.mkdir(parents=True)
        start = directory / "boot"
        words = {"own": " ".join(map(str, OWN)), "masked": " ".join(MASKED), "units": UNITS, "path": PATH}
        start.write_text(BOOT.format(**words, more=boot, systemd=SYSTEMD))
        start.chmod(0o755)
        space = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation=slave", "--mount-proc"]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen([*space, start], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = wait_for(lambda: children.read_text().split(), "its first process")
        self.inside = ["nsenter", f"--target={pid}", "--pid", "--mount"]
        wait_for(lambda: self._looks(pid), "systemd")
        assert self.systemctl("is-system-running", "--wait", status=None).out.strip() == "running", self.failed()

    def _looks(self, pid: str) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        return os.path.exists(f"/proc/{pid}/root/run/systemd/private")

    def failed(self) -> str:
        """Return what has failed at the boot."""
        return self.systemctl("--failed", "--no-legend", status=None).out + (self.directory / "log").read_text()

    def do(self, *argv: str | Path, status: int | None = 0) -> Said:
        """Run a program there, with root's ordinary environment."""
        return run(*self.inside, "env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", *argv, status=status)

    def shell(self, line: str, status: int | None = 0) -> Said:
        """Have a shell run a line there."""
        return self.do("sh", "-ec", line, status=status)

    def systemctl(self, *words: str, status: int | None = 0) -> Said:
        """Have systemctl do something there."""
        return self.do("systemctl", *words, status=status)

    def write(self, path: Path | str, text: str) -> None:
        """Write a file there; systemd reads its units anew."""
        self.shell(f"mkdir -p {os.path.dirname(path)}; printf %s {shlex.quote(text)} >{path}; systemctl daemon-reload")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        told = self.systemctl("show", f"--property={','.join(names)}", "--timestamp=unix", unit).out
        return dict(line.split("=", 1) for line in told.splitlines())

    def ended(self, unit: str) -> None:
        """Wait until a unit is there, and gone again. By its control group: systemctl would take its processor."""
        (group,) = wait_for(lambda: list(CGROUPS.glob(f"**/{glob.escape(unit)}")), f"{unit} to start")
        wait_for(lambda: not group.exists(), f"the end of {unit}")

    def journal(self, *words: str) -> list[dict[str, str]]:
        """Return entries of the journal, as `journalctl` finds them by these words."""
        self.do("journalctl", "--sync")
        return [json.loads(line) for line in self.do("journalctl", "--output=json", *words).out.splitlines()]

    def messages(self, unit: str) -> str:
        """Return what a unit has said."""
        return "\n".join(str(entry["MESSAGE"]) for entry in self.journal(f"--unit={unit}"))

    def end(self) -> None:
        """End it with all that it has started, and remove its traces."""
        self.process.kill()
        self.process.wait()
        for path in _groups():
            if path not in self._groups and path != str(CGROUPS):
                wait_for(lambda path=path: _gone(path), f"the end of {path}")  # type: ignore[misc]
        for own in self._made:
            shutil.rmtree(own, ignore_errors=True)
        shutil.rmtree(self.directory)


def installed() -> str:
    """Return the lines for `boot` that do what `make install` would, with the programs of this checkout."""
    programs = shlex.join(str(BIN / name) for name in ("borg-lvm", "borg-lvm-borg", "borg-lvm-restic"))
    directory, units = "/usr/local/lib/systemd/system", shlex.quote(str(CONTRIB))
    return f"ln -s {programs} {SBIN}/\nmkdir {directory}\ncp {units}/*.service {units}/*.timer {directory}/"


@contextmanager
def booted(directory: Path, boot: str = "") -> Iterator[Machine]:
    """Give a booted machine. It takes a guest, or a machine without systemd."""
    if Path("/run/systemd/system").exists():
        pytest.skip("this machine has a systemd of its own, which would be disturbed")
    machine = Machine(directory, boot)
    try:
        yield machine
    finally:
        machine.end()
