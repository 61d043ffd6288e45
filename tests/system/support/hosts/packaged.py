"""A booted machine without borg-lvm, and the Debian package that `make deb` has left in dist/ for this release."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.archive import codename
from tests.lab.paths import CHECKOUT
from tests.rig import Rig
from tests.system.support.hosts.machine import PATH, UNITS, Machine, booted
from tests.system.support.runs.live import tidy

DATA = Path("/srv")
PLACE = Path("/run/package")
"""Where the package lies in the machine."""
DIST = CHECKOUT / "dist" / codename()
WITH_BUS = f"rm {UNITS}/dbus.service {UNITS}/dbus.socket"
"""For `boot`: the machine has a message bus, too."""


@contextmanager
def with_package(boot: str = "") -> Iterator[tuple[Machine, Path]]:
    """Give a machine that has a volume with a file at /srv, and the package as it lies in there.

    `boot` are lines of a shell that are run before systemd starts.
    """
    packages = list(DIST.glob("*.deb"))
    if not packages:
        pytest.skip(f"needs the Debian package in {DIST}: make deb RELEASES={codename()}")
    with Rig() as rig, tidy():
        rig.volume("data", fs="ext4", mib=64, at=DATA)
        (DATA / "file").write_text("content")
        with booted(rig.path("machine"), boot) as made:
            made.shell("umount /etc/borg-lvm; rmdir /etc/borg-lvm")  # the package makes it, for root alone
            made.shell(f"mkdir -p {PLACE} /var/log/apt; cp {shlex.quote(str(packages[0]))} {PLACE}/")
            yield made, PLACE / packages[0].name
            made.shell("apt-get purge -qq borg-lvm", status=None)


def typed(machine: Machine, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the package's directory, however long it lasts: apt needs minutes on a loaded machine.

    What it writes is printed, for a test that fails.
    """
    own = ["env", "-i", f"--chdir={PLACE}", f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8"]
    done = subprocess.run(
        [*machine.inside, *own, *map(str, argv)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(done.stdout)
    return done
