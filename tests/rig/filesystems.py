"""File systems: made small and quickly, mounted, and always let go."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tests.rig.tools import run

FITHAW = 0xC0045878  # _IOWR('X', 120, int)

# A new ext4 is written at once: else the kernel does that later, all by itself, and fills snapshots meanwhile.
MKFS = {
    "ext2": ["mkfs.ext2", "-q", "-F", "-E", "nodiscard"],
    "ext3": ["mkfs.ext3", "-q", "-F", "-E", "nodiscard"],
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-K", "-m", "single"],
}

# mkfs.xfs makes file systems below 300 MB only for xfstests, which it knows by these.
SMALL_XFS = {"TEST_DIR": "1", "TEST_DEV": "1", "QA_CHECK_FS": "1"}


def make(device: str, kind: str) -> None:
    """Make a file system."""
    run(*MKFS[kind], device, environment={**os.environ, **SMALL_XFS})


@contextlib.contextmanager
def mounted(device: str, at: Path, options: str = "") -> Iterator[Path]:
    """Mount a device; make the mount point if need be and remove only what was made."""
    with _mounted(at, *(["-o", options] if options else []), device):
        yield at


@contextlib.contextmanager
def hidden(at: Path) -> Iterator[Path]:
    """Hide what a directory holds below an empty file system in memory."""
    with _mounted(at, "-t", "tmpfs", "-o", "mode=755", "borg-lvm-rig"):
        yield at


@contextlib.contextmanager
def _mounted(at: Path, *arguments: str) -> Iterator[Path]:
    made = [path for path in (at, *at.parents) if not path.exists()]
    at.mkdir(parents=True, exist_ok=True)
    try:
        run("mount", *arguments, str(at))
        try:
            yield at
        finally:
            thaw(at)
            run("umount", str(at))
    finally:
        for path in made:
            path.rmdir()


def thaw(at: Path) -> int:
    """Thaw a mounted file system as often as it was frozen; return how often that was."""
    descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    times = 0
    try:
        while True:
            fcntl.ioctl(descriptor, FITHAW, 0)
            times += 1
    except OSError:
        return times
    finally:
        os.close(descriptor)


def mounts() -> set[str]:
    """Return what is mounted in our namespace, as "mount point source"."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        found.add(f"{before.split()[4]} {after.split()[1]}")
    return found
