"""The rig that a test builds its machine with."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from tests.rig import config, filesystems, leftovers, luks, volumes
from tests.rig.disks import disk
from tests.rig.needed import needed, of_volume
from tests.rig.volumes import Group, Kind, Volume

ROOMY = 1024  # MiB of a disk; it is sparse, so room costs nothing


class Rig:
    """Makes disks, groups, volumes and mounts; undoes all of it in reverse order when it is closed.

    While it is open, ``os.environ`` holds the LVM_SYSTEM_DIR of the rig, so that every program started sees loop
    devices only.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="borg-lvm-rig-", dir="/dev/shm"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._set_environment(config.write(self.directory / "lvm"))
        if config.SERVER in os.environ:
            self._stack.callback(config.end_dmeventd)
        self._group: Group | None = None
        self._known = leftovers.state()

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything away; an undo that fails does not stop the others, and is raised at the end."""
        self._stack.close()

    def path(self, name: str) -> Path:
        """Return a path below the rig's own directory, for a mount point or a file."""
        return self.directory / name

    def disk(self, mib: int = ROOMY) -> str:
        """Return a new disk's device."""
        device = self._stack.enter_context(disk(self.directory, mib))
        self._remember()
        return device

    def group(self, disks: int = 1, mib: int = ROOMY) -> Group:
        """Return a new volume group on new disks."""
        devices = tuple(self.disk(mib) for _ in range(disks))
        group = self._stack.enter_context(volumes.volume_group(devices))
        self._remember()
        return group

    def volume(
        self,
        name: str,
        *,
        kind: Kind = "thick",
        mib: int = 128,
        group: Group | None = None,
        luks_version: int | None = None,
        fs: str | None = None,
        at: Path | str | None = None,
        options: str = "",
    ) -> Volume:
        """Return a new volume, on request with LUKS and a file system on it, mounted at a path.

        Without a group it goes into the rig's first one of two disks, which serves every kind. The test is skipped if
        this machine lacks a program for such a volume.
        """
        needed(*of_volume(kind, fs, luks=luks_version is not None))
        if group is None:
            group = self._group = self._group or self.group(disks=2)
        device = top = volumes.create(group, name, kind, mib)
        key_file = None
        if luks_version is not None:
            key_file = self.path(f"{group.name}-{name}.key")
            top = self._stack.enter_context(luks.opened(device, f"{group.name}-{name}-luks", luks_version, key_file))
        if fs:
            filesystems.make(top, fs)
        where = Path(at) if at else None
        if where:
            self._stack.enter_context(filesystems.mounted(top, where, options, fs or ""))
        self._remember()
        return Volume(group, name, kind, device, top, where, fs, key_file)

    def hide(self, at: Path) -> Path:
        """Hide what a directory holds, if there is one, below an empty one."""
        self._stack.enter_context(filesystems.hidden(at))
        self._remember()
        return at

    def leftovers(self) -> list[str]:
        """Return what is there now though the rig did not make it and it was not there before."""
        found = leftovers.state() - self._known
        return sorted(found | {f"tagged volume {name}" for name in leftovers.tagged()})

    def _remember(self) -> None:
        """Count as known what is there now: call it right after the rig has made something."""
        self._known |= leftovers.state()

    def _set_environment(self, variables: dict[str, str]) -> None:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        self._stack.callback(_restore, before)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
