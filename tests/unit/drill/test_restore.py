"""What is read back of an archive is written to disk as it was; and what an archive must not do is not done."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.drill import restore
from borg_lvm.errors import SourceError
from borg_lvm.plugins.read_back import DamagedError, Entry, EntryType, Saved, Selection, Stores
from borg_lvm.proof import acl

DATA = b"data" + bytes(1 << 20) + b"more"
ALL = Selection(prefixes=("/srv/db",))


def mine(path: str, kind: EntryType, **more: Any) -> Entry:
    """Return an entry of ours."""
    return Entry(path, kind, uid=os.getuid(), gid=os.getgid(), **more)


@dataclass
class Archive(Saved):
    """An archive in memory."""

    listed: list[Entry]
    held: dict[str, bytes]
    name = "archive"
    stores = Stores()

    def expected(self) -> Iterator[str]:
        """Of no use here."""
        raise NotImplementedError

    def entries(self) -> Iterator[Entry]:
        """Yield all of them."""
        yield from self.listed

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield what is wanted, in pieces."""
        for path, data in self.held.items():
            if selection.wants(path):
                yield path, (data[at : at + 65536] for at in range(0, len(data), 65536))


def archive() -> Archive:
    listed = [
        Entry("/srv/db/again", "file", size=len(DATA), linked="/srv/db/deep/file"),
        mine("/srv/db/deep/file", "file", size=len(DATA), mode=0o640, mtime=5_000_000_001),
        mine("/srv/db/deep", "directory", mode=0o500, mtime=7),
        mine("/srv/db", "directory", mode=0o700),
        mine("/srv/db/empty", "file", size=0, mode=0o600),
        mine("/srv/db/link", "link", target="/etc"),
        mine("/srv/db/pipe", "fifo", mode=0o600),
        mine("/srv/db/socket", "socket"),
        mine("/srv/other", "file", size=3),
    ]
    return Archive(listed, {"/srv/db/deep/file": DATA, "/srv/db/empty": b"", "/srv/other": b"abc"})


def restored(saved: Archive, directory: Path) -> restore.ToRestore:
    wanted = restore.listed(saved, {"db": ALL})["db"]
    restore.restore(saved, wanted, ALL, str(directory), lambda: None)
    return wanted


def test_all_is_as_it_was(tmp_path: Path) -> None:
    wanted = restored(archive(), tmp_path)
    top = tmp_path / "srv" / "db"
    assert sorted(os.listdir(top)) == ["again", "deep", "empty", "link", "pipe"]
    file = top / "deep" / "file"
    assert file.read_bytes() == (top / "again").read_bytes() == DATA
    info = file.stat()
    assert (info.st_nlink, info.st_mtime_ns, stat.S_IMODE(info.st_mode)) == (2, 5_000_000_001, 0o640)
    assert info.st_blocks * 512 < 1 << 19  # its middle is a hole
    assert stat.S_IMODE((top / "deep").stat().st_mode) == 0o500
    assert (top / "deep").stat().st_mtime_ns == 7
    assert os.readlink(top / "link") == "/etc"
    assert stat.S_ISFIFO((top / "pipe").stat().st_mode)
    assert (wanted.files, wanted.bytes) == (3, len(DATA))
    assert not (tmp_path / "srv" / "other").exists()


def test_access_control_lists_are_restored(tmp_path: Path) -> None:
    listed = frozenset(["user::rw-", "user:1:r--", "group::r--", "group:2:rw-", "mask::rw-", "other::---"])
    try:
        os.setxattr(tmp_path, acl.DEFAULT, acl.to_xattr(listed))
    except OSError as error:
        pytest.skip(f"no access control lists in {tmp_path}: {error.strerror}")
    os.removexattr(tmp_path, acl.DEFAULT)
    saved = archive()
    at = [one.path for one in saved.listed].index("/srv/db/deep")
    saved.listed[at] = replace(saved.listed[at], acl=listed, default_acl=listed)
    saved.listed.append(mine("/srv/db/unknown", "directory", acl=frozenset(["user:joe:r--"])))
    restored(saved, tmp_path)
    found = os.fsencode(tmp_path / "srv" / "db" / "deep")
    assert [acl.from_xattr(os.getxattr(found, name)) for name in (acl.ACCESS, acl.DEFAULT)] == [listed, listed]
    assert os.listxattr(tmp_path / "srv" / "db" / "deep" / "file") == []


def test_a_content_without_end_takes_no_more_room_than_the_archive_says(tmp_path: Path) -> None:
    class Endless(Archive):
        """An archive whose file does not end."""

        def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
            yield "/srv/db/deep/file", itertools.repeat(b"x" * 65536)

    with pytest.raises(DamagedError, match="holds more than"):
        restored(Endless(archive().listed, {}), tmp_path)
    assert (tmp_path / "srv/db/deep/file").stat().st_size <= len(DATA)


def test_no_restored_file_works_as_another_user(tmp_path: Path) -> None:
    restored(
        Archive([mine("/srv/db", "directory", mode=0o2750), mine("/srv/db/x", "file", size=0, mode=0o6755)], {}),
        tmp_path,
    )
    assert stat.S_IMODE((tmp_path / "srv/db").stat().st_mode) == 0o2750
    assert stat.S_IMODE((tmp_path / "srv/db/x").stat().st_mode) == 0o755


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    saved = archive()
    saved.listed = [
        mine("/srv/db", "directory", mode=0o700),
        mine("/srv/db/link", "link", target=str(away)),
        mine("/srv/db/link/file", "file", size=4, mode=0o644),
    ]
    saved.held = {"/srv/db/link/file": b"evil"}
    (tmp_path / "tree").mkdir()
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|Not a directory"):
        restored(saved, tmp_path / "tree")
    assert list(away.iterdir()) == []
    saved.listed[2] = replace(saved.listed[2], path="/srv/db/../../../away/file")
    (tmp_path / "second").mkdir()
    with pytest.raises(OSError, match="not a plain path"):
        restored(saved, tmp_path / "second")
    assert list(away.iterdir()) == []


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"/srv/db/empty": b""}, "/srv/db/deep/file: the archive holds no content of it"),
        ({"/srv/db/deep/file": DATA[:-1]}, "holds 1048583 bytes of it, and says otherwise"),
        ({"/srv/db/deep/file": DATA + b"x"}, "holds more than the 1048584 bytes that it says"),
        ({"/srv/db/pipe": b"x"}, "/srv/db/pipe: the archive holds its content twice, or of what is no file"),
    ],
)
def test_a_content_that_is_missing_or_of_another_length_is_damage(
    tmp_path: Path, held: dict[str, bytes], words: str
) -> None:
    saved = archive()
    saved.held = held
    with pytest.raises(DamagedError, match=words):
        restored(saved, tmp_path)


def test_a_space_that_is_too_small_is_refused_with_numbers(tmp_path: Path) -> None:
    restore.refuse_without_room(str(tmp_path), 1 << 20)
    with pytest.raises(SourceError, match=r"is too small: .*iB are needed, .*iB are free"):
        restore.refuse_without_room(str(tmp_path), 1 << 60)


def test_a_link_of_which_the_archive_does_not_say_where_it_leads_is_damage(tmp_path: Path) -> None:
    saved = archive()
    saved.listed.append(mine("/srv/db/lost", "link"))
    with pytest.raises(DamagedError, match="/srv/db/lost: the archive does not hold where this link leads"):
        restored(saved, tmp_path)


def test_the_time_limit_counts_for_names_too(tmp_path: Path) -> None:
    """An archive may have any number of empty files, each as deep as a path can be."""
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1

    saved = archive()
    saved.listed = [mine("/srv/db", "directory"), *(mine(f"/srv/db/{number}", "file", size=0) for number in range(50))]
    wanted = restore.listed(saved, {"db": ALL})["db"]
    saved.held = {}
    restore.restore(saved, wanted, ALL, str(tmp_path), check)
    assert asked == 2 * len(saved.listed)


def test_whose_files_are_too_many_for_the_memory_is_left_out_and_others_are_not() -> None:
    saved = archive()
    names = (f"/srv/many/{number:05}" for number in range(3000))
    saved.listed = [*saved.listed, *(mine(name, "file", size=0) for name in names), mine("/srv/db/last", "directory")]
    selections = {"many": Selection(prefixes=("/srv/many",)), "db": ALL}
    found = restore.listed(saved, selections, 1 << 20)
    assert found["many"].entries == ()
    assert found["many"].why.endswith("files, too many for the memory that listing them takes")
    assert (len(found["db"].entries), found["db"].why) == (9, "")


def test_what_is_a_file_and_a_directory_is_damage(tmp_path: Path) -> None:
    """A directory keeps its mode, also where that would let a file work as another user."""
    saved = archive()
    saved.listed.append(mine("/srv/db/empty", "directory", mode=0o4755))
    with pytest.raises(DamagedError, match="has it as a file, and as a directory"):
        restored(saved, tmp_path)
    assert not (tmp_path / "srv/db/empty").stat().st_mode & stat.S_ISUID
