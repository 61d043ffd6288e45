"""The Debian package on a booted machine: README's way to a nightly backup, as it is typed there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.archive import codename
from tests.rig import Rig
from tests.system.support.hosts.machine import Machine, booted
from tests.system.support.runs.live import tidy
from tests.system.test_readme import README, lines

pytestmark = [pytest.mark.soak, pytest.mark.limit(600), pytest.mark.needs("systemd", "udev", "borg", "pluggy", "yaml")]
DATA = Path("/srv")
UNIT = "borg-lvm@nightly.service"
SMOKE = README.parent / "packaging" / "debian" / "tests" / "smoke"
DIST = README.parent / "dist" / codename()

if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Have a machine without borg-lvm, and the package in its working directory, /run/package."""
    packages = list(DIST.glob("*.deb"))
    if not packages:
        pytest.skip(f"needs the Debian package in {DIST}: make deb RELEASES={codename()}")
    with Rig() as rig, tidy():
        rig.volume("data", fs="ext4", mib=64, at=DATA)
        (DATA / "file").write_text("content")
        with booted(rig.path("machine")) as made:
            made.shell("umount /etc/borg-lvm; rmdir /etc/borg-lvm")  # the package makes it, for root alone
            made.shell(f"mkdir -p /run/package /var/log/apt; cp {shlex.quote(str(packages[0]))} /run/package/")
            yield made
            made.shell("apt-get purge -qq borg-lvm", status=None)


def test_the_package_makes_a_nightly_backup(machine: Machine) -> None:
    install, check, command, enable = lines(1)
    machine.shell("borg init --encryption=none --make-parent-dirs /backup/repo")
    machine.shell(f"cd /run/package; {install}")
    assert machine.shell("command -v borg-lvm").out.strip() == "/usr/sbin/borg-lvm"
    assert machine.shell("stat -c %a /etc/borg-lvm").out.strip() == "700"
    assert machine.shell("ls /etc/systemd/system | grep borg-lvm", status=1).out == ""  # nothing is enabled
    for line in (check, command, enable):
        machine.shell(line)
    machine.systemctl("start", UNIT)
    assert machine.show(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert "all snapshots removed" in machine.messages(UNIT)
    (archive,) = machine.do("borg", "list", "--short", "/backup/repo").out.split()
    assert machine.do("borg", "extract", "--stdout", f"/backup/repo::{archive}", "srv/file").out == "content"
    assert machine.systemctl("is-active", "borg-lvm@nightly.timer").out.strip() == "active"
    said = machine.shell(f"sh {shlex.quote(str(SMOKE))}")  # as autopkgtest runs it
    assert "smoke: frozen, saved, and nothing left" in said.out
    machine.shell("apt-get remove -qq borg-lvm")
    assert machine.systemctl("is-active", "borg-lvm@nightly.timer", status=None).out.strip() != "active"
    assert "nightly.env" in machine.shell("ls /etc/borg-lvm").out
    assert machine.shell("ls /var/lib/borg-lvm/history").out
    machine.shell("rm /etc/borg-lvm/nightly.env; apt-get purge -qq borg-lvm")
    left = machine.shell("ls -d /etc/borg-lvm /var/lib/borg-lvm /etc/systemd/system/*/borg-lvm*", status=None)
    assert left.out == ""
