"""A small machine inside the machine: `/`, `/home` and `/var`, each on a volume of its own, to run a program in."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

from tests.rig import Rig
from tests.rig.native import Native


def borrowed() -> list[str]:
    """Return what comes from outside, being on no volume: programs, Python, and borg-lvm wherever it is installed."""
    specs = [importlib.util.find_spec(package) for package in ("borg_lvm", "borg_lvm_hooks")]
    packages = [str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin]
    found: list[str] = []
    for path in sorted({"/usr", sys.base_prefix, sys.prefix, *packages}):
        if not any(path.startswith(f"{outer}/") for outer in found):
            found.append(path)
    return found


BORROWED = borrowed()
DIRECTORIES = "dev etc home/user proc root run srv sys tmp usr var/lib var/tmp".split()

# Enters the root the way that a machine does when it starts: in a mount namespace of its own, by pivot_root(2).
ENTER = """\
set -e
root=$1 cwd=$2; shift 2
for path in dev proc sys run; do mount --rbind /$path "$root/$path"; done
mount -t tmpfs tmpfs "$root/tmp"
for path in {borrowed}; do mkdir -p "$root$path"; mount --rbind "$path" "$root$path"; done
cd "$root"
pivot_root . .
umount -l .
cd "$cwd"
exec "$@"
"""


class Root:
    """The root and its volumes, as they are seen from outside; `home` is the size of /home in MiB.

    So is `usr`, which is then a volume and empty; else it is borrowed from outside, with all that is needed.
    `names` are what messages call the volumes. In a `tree` they are subvolumes, as openSUSE has them: one at `/`, one
    beside it, and one in it that is mounted apart.
    """

    def __init__(self, rig: Rig, home: int = 128, usr: int = 0, tree: Native | None = None) -> None:
        self.top = tree.at if tree else rig.path("machine")
        self.borrowed = [] if usr else BORROWED
        if tree:
            tree.another("home", self.top / "home")
            tree.another("data/var", self.top / "var")
            self.names = [f"{tree.devices[0]}[/@{name}]" for name in ("data", "home", "data/var")]
        else:
            self.names = self._on_volumes(rig, home, usr)
        self._furnish()

    def _on_volumes(self, rig: Rig, home: int, usr: int) -> list[str]:
        volumes = [("root", "ext4", "", 128), ("home", "xfs", "home", home), ("var", "ext4", "var", 128)]
        volumes += [("usr", "ext4", "usr", usr)] if usr else []
        return [rig.volume(name, fs=fs, at=self.top / below, mib=mib).full_name for name, fs, below, mib in volumes]

    def _furnish(self) -> None:
        for directory in DIRECTORIES:
            (self.top / directory).mkdir(parents=True, exist_ok=True)
        for path in self.borrowed:
            Path(f"{self.top}{path}").mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.top / name).symlink_to(f"usr/{name}")
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf"):
            shutil.copy(f"/etc/{name}", self.top / "etc" / name)

    def entering(self, cwd: str, *argv: str | Path) -> list[str]:
        """Return the command that enters the root, goes to a directory there and runs another command."""
        script = ENTER.format(borrowed=shlex.join(self.borrowed))
        unshare = ["unshare", "--mount", "--propagation", "private"]
        return [*unshare, "sh", "-c", script, "sh", str(self.top), cwd, *map(str, argv)]

    def live_options(self) -> list[str]:
        """Return what tells borg-lvm that the borrowed directories need not be frozen."""
        return [word for path in self.borrowed for word in ("--live", path)]

    def excludes(self, *others: str) -> list[str]:
        """Return borg's options that leave out what is not on a volume, and others."""
        kernel = ("/dev", "/proc", "/sys", "/run", "/tmp")
        return [word for path in (*kernel, *BORROWED, *others) for word in ("--exclude", path)]
