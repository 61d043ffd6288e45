"""The Debian package on a booted machine: README's way to a nightly backup, as it is typed there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.support.hosts.machine import Machine
from tests.system.support.hosts.packaged import DATA, PLACE, typed, with_package
from tests.system.test_readme import README, lines

pytestmark = [pytest.mark.soak, pytest.mark.limit(900), pytest.mark.needs("systemd", "udev", "borg", "pluggy", "yaml")]
UNIT = "borg-lvm@nightly.service"
PACKAGING = README.parent / "packaging" / "debian"

if README.is_relative_to(DATA):
    pytest.skip("this checkout lies below /srv, which is a volume of its own here", allow_module_level=True)


@pytest.fixture
def packaged() -> Iterator[tuple[Machine, Path]]:
    """A machine, and where the package lies in it."""
    with with_package() as made:
        yield made


def test_the_package_makes_a_nightly_backup(packaged: tuple[Machine, Path]) -> None:
    machine, _ = packaged
    install, check, command, enable = lines(1)
    machine.shell("borg init --encryption=none --make-parent-dirs /backup/repo")
    machine.shell(f"cd {PLACE}; {install}")
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
    machine.shell("apt-get remove -qq borg-lvm")
    assert machine.systemctl("is-active", "borg-lvm@nightly.timer", status=None).out.strip() != "active"
    assert "nightly.env" in machine.shell("ls /etc/borg-lvm").out
    assert machine.shell("ls /var/lib/borg-lvm/history").out
    machine.shell("rm /etc/borg-lvm/nightly.env; apt-get purge -qq borg-lvm")
    left = machine.shell("ls -d /etc/borg-lvm /var/lib/borg-lvm /etc/systemd/system/*/borg-lvm*", status=None)
    assert left.out == ""


@pytest.mark.needs("autopkgtest")
def test_its_own_test_passes_under_autopkgtest(packaged: tuple[Machine, Path]) -> None:
    """By Debian's program, which installs the package by apt, and ends with 2 where the test skips itself."""
    machine, package = packaged
    machine.shell(f"mkdir /run/source; cp -r {shlex.quote(str(PACKAGING))} /run/source/debian")
    words = ["--no-built-binaries", "--output-dir=/run/result", str(package), "/run/source/", "--", "null"]
    done = typed(machine, "autopkgtest", *words)
    assert done.returncode == 0
    assert re.search(r"(?m)^smoke +PASS$", done.stdout)
    assert machine.shell("cat /run/result/smoke-stdout").out.endswith("smoke: frozen, saved, and nothing left\n")
