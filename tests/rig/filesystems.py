"""File systems: made small and quickly, mounted, and always let go."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.rig.tools import run

_libc = ctypes.CDLL(None, use_errno=True)

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
def mounted(device: str, at: Path, options: str = "", kind: str = "") -> Iterator[Path]:
    """Mount a device; make the mount point if need be and remove only what was made.

    With a kind and no options no program is started.
    """
    arguments = [*(["-o", options] if options else []), device, str(at)]
    by_call = kind and not options
    with _at(at, lambda: _mount(device, at, kind) if by_call else run("mount", *arguments)):
        yield at


@contextlib.contextmanager
def hidden(at: Path) -> Iterator[Path]:
    """Hide what a directory holds below an empty file system in memory."""
    with _at(at, lambda: run("mount", "-t", "tmpfs", "-o", "mode=755", "borg-lvm-rig", str(at))):
        yield at


@contextlib.contextmanager
def _at(at: Path, mount: Callable[[], object]) -> Iterator[Path]:
    made = [path for path in (at, *at.parents) if not path.exists()]
    at.mkdir(parents=True, exist_ok=True)
    try:
        mount()
        try:
            yield at
        finally:
            thaw(at)
            _umount(at)
    finally:
        for path in made:
            path.rmdir()


def _mount(device: str, at: Path, kind: str) -> None:
    device = _as_mounted(device)
    if _libc.mount(os.fsencode(device), os.fsencode(at), kind.encode(), ctypes.c_ulong(0), None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", device, None, str(at))


def _as_mounted(device: str) -> str:
    """Return the name under which mount(8) shows a device in mountinfo: of device-mapper's, the one in /dev/mapper."""
    real = os.path.realpath(device)
    name = Path("/sys/class/block", os.path.basename(real), "dm", "name")
    return f"/dev/mapper/{name.read_text().strip()}" if name.is_file() else real


def _umount(at: Path) -> None:
    if _libc.umount2(os.fsencode(at), 0):
        number = ctypes.get_errno()
        raise OSError(number, f"umount: {os.strerror(number)}", str(at))


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
