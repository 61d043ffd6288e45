"""Volume groups and the kinds of logical volumes that borg-lvm may meet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.rig import names
from tests.rig.leftovers import dm_devices
from tests.rig.tools import change, run

Kind = Literal["thick", "striped", "thin", "raid1", "mirror", "cachevol", "cachepool", "writecache"]

EXTENT = "1m"  # small, so that small volumes waste nothing


@dataclass(frozen=True)
class Group:
    """A volume group of the rig."""

    name: str
    disks: tuple[str, ...]


@dataclass(frozen=True)
class Volume:
    """A logical volume of the rig, with all that was put on it."""

    group: Group
    name: str
    kind: Kind
    device: str
    top: str
    at: Path | None = None
    fs: str | None = None
    key_file: Path | None = None

    @property
    def full_name(self) -> str:
        """Return ``group/volume``, as LVM's commands take it."""
        return f"{self.group.name}/{self.name}"


@contextlib.contextmanager
def volume_group(disks: tuple[str, ...]) -> Iterator[Group]:
    """Make a volume group; at the end remove it with whatever is still in it."""
    group = Group(names.new_group(), disks)
    run("vgcreate", "-q", "-y", "-s", EXTENT, group.name, *disks)
    try:
        yield group
    finally:
        resume(group)
        change("vgremove", group.name, "--force")


def create(group: Group, name: str, kind: Kind, mib: int) -> str:
    """Make a logical volume and return its device. It goes with its group; removing it by itself is not needed."""
    size = f"{mib}m"
    match kind:
        case "thick":
            change("lvcreate", group.name, "-n", name, "-L", size)
        case "striped":
            change("lvcreate", group.name, "-n", name, "-L", size, "-i", "2", "-I", "64k")
        case "raid1":
            change("lvcreate", group.name, "-n", name, "-L", size, "--type", "raid1", "-m", "1", "--nosync")
        case "mirror":
            change("lvcreate", group.name, "-n", name, "-L", size, "--type", "mirror", "-m", "1", "--mirrorlog", "core")
        case "thin":
            thin_pool(group, mib)
            change("lvcreate", f"{group.name}/pool", "--type", "thin", "-n", name, "-V", size)
        case "cachevol" | "cachepool":
            change("lvcreate", group.name, "-n", name, "-L", size)
            kind_of_fast = ("--type", "cache-pool") if kind == "cachepool" else ()
            change("lvcreate", group.name, "-n", f"{name}_fast", "-L", "16m", *kind_of_fast)
            change("lvconvert", f"{group.name}/{name}", "--type", "cache", f"--{kind}", f"{name}_fast")
        case "writecache":
            change("lvcreate", group.name, "-n", name, "-L", size)
            change("lvcreate", group.name, "-n", f"{name}_fast", "-L", "16m", "--activate", "n", "--zero", "n")
            change("lvconvert", f"{group.name}/{name}", "--type", "writecache", "--cachevol", f"{name}_fast")
    return f"/dev/{group.name}/{name}"


def thin_pool(group: Group, mib: int) -> None:
    """Make the group's thin pool unless it is there; thin volumes of a group share one."""
    if "pool" not in run("lvs", "--noheadings", "-o", "lv_name", group.name).split():
        change("lvcreate", group.name, "--type", "thin-pool", "-n", "pool", "-L", f"{2 * mib}m", "-Zn")


def resume(group: Group) -> list[str]:
    """Wake the group's devices that somebody left suspended: removing them would wait for ever."""
    prefix = names.ours(group.name).replace("-", "--") + "-"
    asleep = [name for name in dm_devices(suspended=True) if name.startswith(prefix)]
    for name in asleep:
        run("dmsetup", "resume", name)
    return asleep
