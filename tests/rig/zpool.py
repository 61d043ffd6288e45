"""A pool of ZFS, and its datasets. `make zfs` builds the module for the lab's stock kernel 6.12."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.paths import ZFS, ZFS_MODULES
from tests.rig.rig import Rig
from tests.rig.tools import run
from tests.rig.volumes import Group, Volume


def loaded() -> None:
    """Have ZFS in this guest: its module and its programs; the test is skipped where there is none for its kernel."""
    release = os.uname().release
    if not Path("/sys/module/zfs").is_dir():
        if not (ZFS / release).is_dir() or os.environ.get("BORG_LVM_LAB") != "guest":
            import pytest

            pytest.skip(f"needs ZFS's module for {release}: make zfs builds it, for the lab's kernel 6.12")
        run("cp", "-a", f"{ZFS}/root/.", "/")
        run("ldconfig")
        for name in ZFS_MODULES:
            run("insmod", str(ZFS / release / name))


@dataclass(frozen=True)
class Pool:
    """A pool on some disks; its first dataset is mounted nowhere."""

    rig: Rig
    name: str
    devices: tuple[str, ...]
    known: set[str] = field(default_factory=set)

    def dataset(self, name: str, *options: str, at: Path | None = None) -> Path:
        """Make a dataset that is mounted below the rig's directory, and return where."""
        where = at or self.rig.path(f"{self.name}-{name.replace('/', '-')}")
        given = [word for option in options for word in ("-o", option)]
        run("zfs", "create", "-o", f"mountpoint={where}", *given, f"{self.name}/{name}")
        self.rig._remember()
        return where

    def volume(self, at: Path) -> Volume:
        """Return a dataset as something that a test writes to, beside volumes of LVM's."""
        device = self.devices[0]
        return Volume(Group("", self.devices), at.name, "thick", device, device, at, "zfs")

    def snapshots(self) -> list[str]:
        """Return the snapshots of runs that lie in it."""
        listed = run("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", self.name).splitlines()
        return sorted(name for name in listed if "@borg_lvm-" in name)


def pool(rig: Rig, name: str, disks: int = 1, mib: int = 256) -> Pool:
    """Make a pool on disks of its own; it goes with the rig."""
    loaded()
    devices = tuple(rig.disk(mib) for _ in range(disks))
    rig._stack.enter_context(_made(name, devices))
    rig._remember()
    return Pool(rig, name, devices)


@contextmanager
def _made(name: str, devices: tuple[str, ...]) -> Iterator[None]:
    run("zpool", "create", "-f", "-o", "cachefile=none", "-m", "none", name, *devices)
    try:
        yield
    finally:
        run("zpool", "destroy", "-f", name)
