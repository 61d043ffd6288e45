"""Images of disks and the real checkers: what is sound passes, whoever used it at the instant; else it is named."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.drill.disks import checkers, layout
from borg_lvm.drill.disks.judge import DiskJudge
from borg_lvm.drill.sandbox.bench import SandboxBench
from borg_lvm.errors import QuiesceError
from borg_lvm.plugins.drill import Restored
from tests.lab.needs import DIRECTORIES

pytestmark = [pytest.mark.process, pytest.mark.needs("e2fsprogs")]
MIB = 1 << 20
SUPERBLOCK = {"ext4": 1024, "xfs": 0, "btrfs": 64 << 10}
MAGIC = {"ext4": 0x38, "xfs": 0, "btrfs": 0x40}


@dataclass
class Told(SandboxBench):
    """A bench that keeps what is reported."""

    rights: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    def right(self, what: str) -> None:
        self.rights.append(what)

    def wrong(self, what: str) -> None:
        self.wrongs.append(what)

    def report(self, **fact: object) -> None:
        pass


def do(*words: str | Path) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True, env={**os.environ, "PATH": DIRECTORIES})


def image(path: Path, kind: str, source: Path | None = None, mib: int = 0) -> Path:
    """Make an image with a file system, which holds a copy of a directory where its program can do so."""
    with path.open("wb") as file:
        file.truncate((mib or {"xfs": 320, "btrfs": 128}.get(kind, 32)) * MIB)
    filled = {"ext4": ["-d", source], "btrfs": ["--rootdir", source]}.get(kind, []) if source else []
    do(f"mkfs.{kind}", "-q", *(["-b", "1024"] if kind == "ext4" else []), *map(str, filled), path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    for number in range(40):
        (directory / f"directory{number}").mkdir(parents=True)
        (directory / f"directory{number}" / "file").write_bytes(os.urandom(3000))
    return directory


def judged(*disks: Path) -> Told:
    bench = Told(str(disks[0].parent), -1, time.monotonic() + 300)
    DiskJudge(Restored("vm", "", tuple(map(str, disks)), ("disk",) * len(disks), "", None)).judge(bench)
    return bench


def written(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


KINDS = [
    pytest.param("ext4", "e2fsck -f -n"),
    pytest.param("xfs", "xfs_repair -n", marks=pytest.mark.needs("xfsprogs")),
    pytest.param("btrfs", "btrfs check --readonly", marks=pytest.mark.needs("btrfs")),
]


@pytest.mark.parametrize(("kind", "words"), KINDS)
def test_one_that_is_sound_passes_and_one_without_its_superblock_does_not(
    tmp_path: Path, source: Path, kind: str, words: str
) -> None:
    disk = image(tmp_path / "disk", kind, source)
    assert judged(disk).rights == [f"{words} of {kind} ({disk})"]
    written(disk, SUPERBLOCK[kind] + MAGIC[kind], b"\0\0\0\0\0\0\0\0")
    found = judged(disk)
    assert not found.rights
    assert f"{disk}: its superblock is damaged; a copy of it, of a" in found.wrongs[0]


@pytest.mark.parametrize(("kind", "words"), KINDS)
def test_flipped_metadata_is_found(tmp_path: Path, source: Path, kind: str, words: str) -> None:
    disk = image(tmp_path / "disk", kind, source)
    whole = disk.read_bytes()
    if kind == "ext4":
        place = whole.index(b"directory7") - 20  # within the root directory
    elif kind == "xfs":
        place = whole.index(b"AB3B")  # the tree of free extents by their place
    else:
        place = 0
        for copy in range(whole.count(b"directory7")):  # of trees there are two copies
            place = whole.index(b"directory7", place + 1)
            written(disk, place, b"flipped!!!" if copy else b"FLIPPED!!!")
    written(disk, place, b"\xff\xff\xff\xff\xff")
    found = judged(disk)
    assert not found.rights
    assert found.wrongs
    assert all(one.startswith(f"{disk}: {kind}: ") for one in found.wrongs)
    assert len(found.wrongs) <= 6


def test_one_that_shows_two_instants_is_found(tmp_path: Path, source: Path) -> None:
    before = image(tmp_path / "before", "ext4", source)
    for number in range(0, 40, 2):
        shutil.rmtree(source / f"directory{number}")
        (source / f"later{number}").mkdir()
    after = image(tmp_path / "after", "ext4", source)
    torn = tmp_path / "torn"
    torn.write_bytes(after.read_bytes()[: 400 << 10] + before.read_bytes()[400 << 10 :])
    found = judged(torn)
    assert not found.rights
    assert any("ext4: " in one for one in found.wrongs)
    assert judged(before, after).rights == [f"e2fsck -f -n of ext4 ({before}), e2fsck -f -n of ext4 ({after})"]


def test_what_was_deleted_and_still_open_is_no_fault(tmp_path: Path, source: Path) -> None:
    """A guest that runs has such files; e2fsck -n alone calls them errors."""
    disk = image(tmp_path / "disk", "ext4", source)
    for command in ("set_super_value last_orphan 13", "set_inode_field <13> links_count 0", "unlink directory0/file"):
        do("debugfs", "-w", "-R", command, disk)
    alone = subprocess.run(["e2fsck", "-f", "-n", disk], capture_output=True, env={"PATH": DIRECTORIES}, check=False)
    assert alone.returncode == 4
    assert judged(disk).wrongs == []


def entry(kind: int, begin: int, size: int) -> bytes:
    """Return an entry of the table of partitions that a disk's first sector has; in bytes."""
    return struct.pack("<4xB3xII", kind, begin // 512, size // 512)


def partitioned(path: Path, *parts: tuple[int, Path | None]) -> Path:
    """Make a disk of partitions; those after the second one are within an extended one."""
    with path.open("wb") as file:
        file.truncate((len(parts) * 33 + 2) * MIB)
    first = [entry(kind, (1 + 33 * number) * MIB, 32 * MIB) for number, (kind, _) in enumerate(parts[:2])]
    if len(parts) > 2:
        first.append(entry(5, 67 * MIB, 33 * MIB))
        written(path, 67 * MIB + 446, entry(parts[2][0], MIB, 32 * MIB))
        written(path, 67 * MIB + 510, b"\x55\xaa")
    written(path, 446, b"".join(first))
    written(path, 510, b"\x55\xaa")
    for number, (_, content) in enumerate(parts):
        if content:
            written(path, (1 + 33 * number + (number > 1)) * MIB, content.read_bytes())
    return path


def test_each_partition_is_checked_by_itself_and_needs_no_room(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "PIECE", MIB)
    (source / "large").write_bytes(os.urandom(20 * MIB))
    good, swap = image(tmp_path / "good", "ext4", source), tmp_path / "swap"
    swap.write_bytes(bytes(32 * MIB))
    do("mkswap", "-q", swap)
    disk = partitioned(tmp_path / "disk", (0x83, good), (0x82, swap), (0x83, good))
    rooms = []

    class Watched(Told):
        def run(self, argv: Sequence[str], **more: Any) -> str:
            rooms.append(sum(one.stat().st_blocks * 512 for one in tmp_path.iterdir() if one.name in names))
            return super().run(argv, **more)

    names = ("disk", "partition-1", "partition-5")
    bench = Watched(str(tmp_path), -1, time.monotonic() + 300)
    before = disk.stat().st_blocks * 512
    DiskJudge(Restored("vm", "", (str(disk),), ("disk",), "", None)).judge(bench)
    assert bench.rights == [
        f"e2fsck -f -n of ext4 ({disk}, partition 1), e2fsck -f -n of ext4 ({disk}, partition 5); "
        f"not checked: swap ({disk}, partition 2)"
    ]
    assert max(rooms) <= before + 2 * MIB
    assert not list(tmp_path.glob("partition-*"))
    broken = image(tmp_path / "broken", "ext4", source)
    written(broken, broken.read_bytes().index(b"directory7") - 20, b"\xff\xff\xff\xff")
    found = judged(partitioned(tmp_path / "other", (0x83, good), (0x83, broken)))
    assert found.wrongs[0].partition(": ")[0] == f"{tmp_path}/other, partition 2"
    assert found.rights == [f"e2fsck -f -n of ext4 ({tmp_path}/other, partition 1)"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(os.urandom(MIB)), "no file system that can be checked: nothing that is known"),
        (lambda path: path.write_bytes(bytes(MIB)), "no file system that can be checked: nothing that is known"),
        (lambda path: path.write_bytes(b"LUKS\xba\xbe\0\1" + bytes(MIB)), "crypto_LUKS .*: it is no file system"),
    ],
)
def test_what_has_no_checker_is_not_judged(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "disk")
    with pytest.raises(QuiesceError, match=words):
        judged(tmp_path / "disk")


def test_a_checker_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = image(tmp_path / "disk", "ext4")
    monkeypatch.setitem(checkers.CHECKERS, "ext4", replace(checkers.CHECKERS["ext4"], program="no-such"))
    with pytest.raises(QuiesceError, match=r"ext4 \(.*disk\): no-such is not installed here apt-get install e2fsprogs"):
        judged(disk)
