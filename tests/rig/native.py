"""A btrfs that lies on disks, and on no logical volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rig.filesystems import mounted
from tests.rig.rig import Rig
from tests.rig.tools import run
from tests.rig.volumes import Group, Volume

SUBVOLUME = "@data"


@dataclass(frozen=True)
class Native:
    """A btrfs of some disks, with a subvolume that is mounted at a path; its top level is mounted nowhere."""

    rig: Rig
    devices: tuple[str, ...]
    at: Path

    def another(self, name: str, at: Path | None = None) -> Path:
        """Make another subvolume, `@NAME`, and mount it."""
        with self.top() as top:
            run("btrfs", "subvolume", "create", str(top / f"@{name}"))
        at = at or self.rig.path(name)
        self.rig._stack.enter_context(mounted(self.devices[0], at, f"subvol=@{name}"))
        self.rig._remember()
        return at

    def on(self, at: Path) -> Volume:
        """Return where a subvolume of it is mounted as something that a test writes to, beside volumes of LVM's."""
        device = self.devices[0]
        return Volume(Group("", self.devices), at.name, "thick", device, device, at, "btrfs")

    @contextmanager
    def top(self) -> Iterator[Path]:
        """Mount the top level for the length of the block."""
        with (
            TemporaryDirectory(dir=self.rig.directory) as directory,
            mounted(self.devices[0], Path(directory, "top"), "subvolid=5") as top,
        ):
            yield top

    @property
    def volume(self) -> Volume:
        """Its first subvolume as something that a test writes to."""
        return self.on(self.at)

    def snapshots(self) -> list[str]:
        """Return the snapshots that lie in it."""
        with self.top() as top:
            return sorted(f"subvolume {path.name}" for path in top.glob(".borg-lvm/*"))


def native(rig: Rig, name: str = "native", disks: int = 2, mib: int = 256) -> Native:
    """Make a btrfs, and mount its subvolume `@data`."""
    devices = tuple(rig.disk(mib) for _ in range(disks))
    run("mkfs.btrfs", "-q", "-f", "-K", "-m", "single", "-d", "single", *devices)
    made = Native(rig, devices, rig.path(name))
    with made.top() as top:
        run("btrfs", "subvolume", "create", str(top / SUBVOLUME))
    rig._stack.enter_context(mounted(devices[0], made.at, f"subvol={SUBVOLUME}"))
    rig._remember()
    return made
