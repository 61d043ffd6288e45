"""The machine of the demo: two volumes with the shop on them, and a repository of borg's. All of it is temporary."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.demo import screen
from tests.demo.shop import Places, Shop, lay_out
from tests.rig import Rig, Volume

BIN = Path(sys.executable).parent
DEADLINE = 60
CONFIGURATION = Path("/etc/borg-lvm")
OURS = (CONFIGURATION, Path("/run/borg-lvm"), Path("/var/lib/borg-lvm"))
"""What borg-lvm reads and writes on a machine: the demo must not see what is there, nor add to it."""
NEEDED = {"borg": "borgbackup", "borg-lvm": "", "lvcreate": "lvm2", "mkfs.ext4": "e2fsprogs", "mount": "mount"}
"""Programs, and the Debian packages that they are in; what is in none comes with `make setup`."""
LAB = ("BORG_SELFTEST",)  # set by the lab for all programs
EMULATED = os.environ.get("BORG_LVM_LAB") == "guest"


@dataclass(frozen=True)
class Machine:
    """The volumes, the program on them, and the environment of the commands that are shown."""

    rig: Rig
    volumes: tuple[Volume, Volume]
    at: Places
    shop: Shop
    environment: dict[str, str]

    @property
    def sources(self) -> list[str]:
        """Return the source paths, in the order in which borg is to read them."""
        return [str(self.at.shipped), str(self.at.shop)]


def built(rig: Rig) -> Machine:
    """Build it on a rig, which will take it away again."""
    _refuse_incomplete()
    at = _places(rig)
    for directory in OURS:
        rig.hide(directory)
    if EMULATED:
        (CONFIGURATION / "config.yaml").write_text(f"deadline: {DEADLINE}\n")
    shop = rig.volume("shop", fs="ext4", mib=640, at=at.shop)
    shipped = rig.volume("shipped", fs="ext4", mib=64, at=at.shipped)
    environment = _environment(rig)
    lay_out(at, _photos(rig))
    return Machine(rig, (shop, shipped), at, Shop(at), environment)


def _refuse_incomplete() -> None:
    path = f"{BIN}:{os.environ['PATH']}"
    missing = [program for program in NEEDED if not shutil.which(program, path=path)]
    if missing:
        packages = " ".join(sorted({NEEDED[program] for program in missing} - {""}))
        remedy = f"apt-get install {packages}" if packages else "make setup"
        sys.exit(f"demo: not installed: {', '.join(missing)}; run: {remedy}")


def _places(rig: Rig) -> Places:
    """Choose mount points that hide nothing, below an ordinary directory."""
    names = ("shop", "shipped")
    for base in map(Path, ("/srv", "/srv/demo", "/mnt")):
        there = next(path for path in (base, *base.parents) if os.path.lexists(path))
        free = not any(os.path.lexists(base / name) for name in names)
        if base.resolve() == base and there.is_dir() and os.access(there, os.W_OK) and free:
            return Places(*(base / name for name in names))
    return Places(*map(rig.path, names))


def _environment(rig: Rig) -> dict[str, str]:
    """Create what a user of borg has: a repository. What this machine's user has set for another one does not count."""
    home = rig.path("borg")
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BORG_") or name in LAB}
    environment = {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "BORG_REPO": str(rig.path("repository")),
        "BORG_BASE_DIR": str(home),
    }
    screen.quietly(["borg", "init", "--encryption", "none"], environment, home)
    return environment


def _photos(rig: Rig) -> int:
    """Return how many MiB keep borg busy for a few seconds on this machine, if there is memory for so many."""
    block = bytes(1 << 20)
    began = time.monotonic()
    hashlib.sha256(block)
    busy = round(1.0 / (time.monotonic() - began))
    memory = os.statvfs(rig.directory)
    return max(6, min(192, busy, memory.f_bavail * memory.f_frsize // 8 >> 20))
