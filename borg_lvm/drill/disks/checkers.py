"""The file systems' own checkers, for images that are ours to write to, and what they say.

Sources: e2fsck(8), xfs_repair(8), btrfs-check(8).

A disk that was in use at the instant is checked as it would be found at the next boot: what the kernel does when it
mounts a file system is no fault. ext's own checker can do that, too: it replays the journal and removes what was
deleted and still open. A log of xfs is replayed by a mount alone, and nothing that others wrote is mounted here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence

from borg_lvm.errors import QuiesceError
from borg_lvm.linux import subprocesses
from borg_lvm.plugins.drill import Bench
from borg_lvm.records import dataclass

CORRECTED, FAILED = 1, 8
"""Bits of e2fsck's status."""
UNABLE = re.compile(r"unsupported feature|newer version|external journal", re.IGNORECASE)
"""What e2fsck says of a file system that it cannot check, however right that is."""
DIRTY = "metadata changes in a log"
BAD_SUPERBLOCK = "bad primary superblock"
PROGRESS = re.compile(
    r"^(e2fsck \d|Pass \d|Phase \d|\[\d/\d\]|Opening filesystem|Checking filesystem on|UUID:|- |No modify flag|[.*]*$)"
    r"|geometry|sector size mismatch|^the image and the host|non-contiguous|\*\*\* WARNING"
)
"""Lines that show how far it was."""
QUESTION = re.compile(r"\s*[A-Z][^?.]*\? no$")
"""What e2fsck asks, and answers itself."""


@dataclass(frozen=True)
class Checker:
    """A program that checks file systems: Debian's package of it, how it is called, and what it finds.

    `check` returns what is wrong. Raises: QuiesceError where it cannot tell; ProgramError.
    """

    program: str
    package: str
    words: str
    check: Callable[[Bench, str], tuple[str, ...]]

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.program, path=subprocesses.SYSTEM_PATH) is not None


def _ext(bench: Bench, image: str) -> tuple[str, ...]:
    status, said = _said(bench, ["e2fsck", "-p", image])
    if UNABLE.search(said):
        raise QuiesceError("e2fsck cannot check it", details=_faults(said))
    again, found = _said(bench, ["e2fsck", "-f", "-n", image])
    if not status & FAILED and not again & ~CORRECTED:
        return ()
    return _faults(found) or (f"e2fsck ended with status {again or status}",)


def _xfs(bench: Bench, image: str) -> tuple[str, ...]:
    status, said = _said(bench, ["xfs_repair", "-n", "-f", image])
    if not status:
        return ()
    if DIRTY in said and BAD_SUPERBLOCK not in said:
        raise QuiesceError(
            "its log has changes that only a mount replays: it was mounted at the instant (xfs_repair checks one that "
            "was unmounted)"
        )
    return _faults(said)


def _btrfs(bench: Bench, image: str) -> tuple[str, ...]:
    status, said = _said(bench, ["btrfs", "check", "--readonly", image])
    return _faults(said) if status else ()


def _said(bench: Bench, argv: Sequence[str]) -> tuple[int, str]:
    """Return the status and all the words of a program. Raises: ProgramError when it came to no end of its own."""
    try:
        return 0, bench.run(argv)
    except subprocesses.ProgramError as error:
        if not error.returncode:
            raise
        return error.returncode, f"{error.stdout}\n{error.stderr}"


def _faults(said: str) -> tuple[str, ...]:
    lines = (QUESTION.sub("", line.strip()) for line in said.splitlines() if not PROGRESS.search(line.strip()))
    return tuple(dict.fromkeys(line for line in lines if line))


_E2FSCK = Checker("e2fsck", "e2fsprogs", "e2fsck -f -n", _ext)
CHECKERS: Mapping[str, Checker] = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _E2FSCK),
    "xfs": Checker("xfs_repair", "xfsprogs", "xfs_repair -n", _xfs),
    "btrfs": Checker("btrfs", "btrfs-progs", "btrfs check --readonly", _btrfs),
}
"""By what blkid(8) calls a file system."""
