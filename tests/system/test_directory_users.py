"""A server whose user is in no /etc/passwd, but in a directory service (sssd, LDAP): by a real module of nsswitch.conf.

The module is Debian's libnss-extrausers: who looks into /etc/passwd alone, or where the service does not answer, finds
no such user.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.backups.archives import Tar
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import tidy
from tests.system.support.runs.program import run
from tests.system.support.servers.postgres import USER, Cluster, cluster

pytestmark = [pytest.mark.limit(900), pytest.mark.needs("postgresql", "extrausers")]
DIRECTORY = Path("/var/lib/extrausers")
NUMBER = 7100  # the module gives no user with a number of the system's
SWITCH = "passwd: files extrausers\ngroup: files extrausers\nshadow: files\n"


@contextmanager
def over(rig: Rig, path: Path, text: str) -> Iterator[None]:
    """Have another file in the place of one of /etc."""
    ours = rig.path(f"over-{path.name}")
    ours.write_text(text)
    run("mount", "--bind", ours, path)
    try:
        yield
    finally:
        run("umount", path)


@pytest.fixture
def served(rig: Rig) -> Iterator[None]:
    """Have the server's user in the directory, with another number, and nowhere else."""
    if os.environ.get("BORG_LVM_LAB") != "guest":
        pytest.skip("this machine's users would be others meanwhile")
    with ExitStack() as stack:
        for name, entry in (("passwd", f"{USER}:x:{NUMBER}:{NUMBER}::/:/bin/sh"), ("group", f"{USER}:x:{NUMBER}:")):
            (DIRECTORY / name).write_text(f"{entry}\n")
            stack.callback((DIRECTORY / name).unlink)
            lines = Path("/etc", name).read_text().splitlines(keepends=True)
            rest = "".join(line for line in lines if not line.startswith(f"{USER}:"))
            stack.enter_context(over(rig, Path("/etc", name), rest))
        stack.enter_context(over(rig, Path("/etc/nsswitch.conf"), SWITCH))
        assert run("getent", "passwd", USER).out.startswith(f"{USER}:x:{NUMBER}:")
        yield


def test_its_backup_is_verified_and_its_drill_starts_it(rig: Rig, served: None) -> None:
    rig.directory.chmod(0o711)
    volume = rig.volume("data", fs="ext4", mib=128, at=rig.path("data"))
    assert volume.at
    new = Cluster(volume.at / "data", rig.path("sockets"), checksums=True)
    with tidy(), cluster(new, {"fsync": "off"}, None) as server:
        server.sql("CREATE TABLE t AS SELECT generate_series(1, 100) i")
        options = {"socket": str(new.sockets), "os_user": USER}
        entry = {"plugin": "postgresql", "name": "shop", "options": options}
        drills = Drills(rig, volume.at, [entry], Tar.made(rig.path("archives")))
        rig.path("scratch").mkdir()
        assert pwd.getpwnam(USER).pw_uid == NUMBER == (volume.at / "data").stat().st_uid
        drills.saved(drills.command())
        assert verdicts(drills.drill(drills.command())) == {"shop": "good"}
