"""An idmapped mount: its owners are others than those of the file system, and a snapshot would show the latter."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import Rig
from tests.system.support.runs.live import assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import borg_lvm, run

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442  # on every architecture
CLONE, EMPTY_PATH, MOVE_EMPTY, IDMAP, HERE = 0x1, 0x1000, 0x4, 0x100000, -100


def call(number: int, *arguments: object) -> int:
    """Do a system call that Python does not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextmanager
def idmapped(source: Path, target: Path) -> Iterator[None]:
    """Have a directory mounted once more, with root's files shown as those of user 1000."""
    target.mkdir()
    with subprocess.Popen(["unshare", "--user", "sleep", "60"]) as owner:
        mapping = Path(f"/proc/{owner.pid}/uid_map")
        wait_for(
            lambda: os.readlink(f"/proc/{owner.pid}/ns/user") != os.readlink("/proc/self/ns/user"), "its namespace"
        )
        mapping.write_text("0 1000 1\n")
        Path(f"/proc/{owner.pid}/gid_map").write_text("0 1000 1\n")
        users = os.open(f"/proc/{owner.pid}/ns/user", os.O_RDONLY)
        tree = call(OPEN_TREE, HERE, str(source).encode(), CLONE)
        attributes = struct.pack("=4Q", IDMAP, 0, 0, users)
        call(MOUNT_SETATTR, tree, b"", EMPTY_PATH, attributes, len(attributes))
        call(MOVE_MOUNT, tree, b"", HERE, str(target).encode(), MOVE_EMPTY)
        for fd in (tree, users):
            os.close(fd)
        owner.kill()
    try:
        yield
    finally:
        run("umount", target)


def test_it_is_refused_by_name(rig: Rig) -> None:
    with tidy():
        volume = rig.volume("data", fs="ext4", mib=48, at=rig.path("data"))
        assert volume.at
        (volume.at / "file").write_text("words")
        with idmapped(volume.at, rig.path("mapped")):
            assert (rig.path("mapped") / "file").stat().st_uid == 1000
            for paths in ([rig.path("mapped")], [volume.at, rig.path("mapped")]):
                words = [word for path in paths for word in ("--path", path)]
                said = borg_lvm("run", *words, "--", "true", status=69)
                assert f"{rig.path('mapped')}: it is an idmapped mount" in said.err
            borg_lvm("run", "--path", volume.at, "--", "true")
        assert_nothing_left(rig)
