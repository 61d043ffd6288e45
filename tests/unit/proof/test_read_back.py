"""A tree is compared with an archive of it that is right, and with those that are not; on real files."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.config.proof_settings import Mode, PlannedProof
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins.backup_command import Invocation
from borg_lvm.plugins.read_back import DamagedError, Entry, Programs, ReadBack, Saved, Selection, Span, Stores
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import TimeIsUpError, ViewPrograms
from borg_lvm.proof.read_back import Comparison, Tally
from borg_lvm.reporting import proof
from borg_lvm.reporting.proof import Proof

ALL = PlannedProof("all", 10, 1 << 20, 60, (), 1)


class Archive(Saved):
    """An archive that holds what it is given; `wrong` are errors that are raised after so many contents."""

    def __init__(self, entries: Iterable[Entry], expected: Sequence[str], name: str = "one") -> None:
        self.name, self.stores = name, Stores()
        self.held, self.wanted = list(entries), list(expected)
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None

    def expected(self) -> Iterator[str]:
        return iter(self.wanted)

    def entries(self) -> Iterator[Entry]:
        return iter(self.held)

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        for path, data in self.files.items():
            if selection.wants(path):
                yield path, iter([data[:2], data[2:]])
        if self.error:
            raise self.error


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, data in (("a", b"first"), ("b", b"second"), ("c", b"third")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "x").write_bytes(b"now")
    os.link(tmp_path / "a", tmp_path / "z")
    return tmp_path


def archived(tree: Path) -> Archive:
    """Return an archive of the tree that is right."""
    entries = []
    for name in ("a", "b", "c"):
        info = os.lstat(tree / name)
        entries.append(
            Entry(
                str(tree / name), "file", info.st_size, info.st_mode & 0o7777, info.st_uid, info.st_gid,
                info.st_mtime_ns,
            )
        )  # fmt: skip
    entries.append(replace(entries[0], path=str(tree / "z"), linked=str(tree / "a")))
    made = Archive(entries, [entry.path for entry in reversed(entries)])
    made.files = {str(tree / name): (tree / name).read_bytes() for name in ("a", "b", "c")}
    return made


def proven(tree: Path, *archives: Archive, mode: Mode = "all", first: tuple[str, ...] = (), files: int = 10) -> Proof:
    frozen = FrozenTree([str(tree)], [os.stat(tree).st_dev], [str(tree / "live")], {})
    return compared(frozen, *archives, planned=PlannedProof(mode, files, 1 << 20, 60, first, 1))


def compared(frozen: FrozenTree, *archives: Archive, planned: PlannedProof = ALL) -> Proof:
    programs = ViewPrograms(Invocation(("true",), {}, "/"), time.monotonic() + 60)

    def made(programs: Programs, span: Span) -> Sequence[Saved]:
        return archives

    return Comparison(planned, frozen, programs, Tally(lambda tally: None)).prove(ReadBack("", made), Span(0, 1))


@pytest.mark.parametrize(("mode", "files"), [("list", 0), ("sample", 3), ("all", 3)])
def test_a_right_archive_is_proven(tree: Path, mode: Mode, files: int) -> None:
    found = proven(tree, archived(tree), mode=mode)
    assert (found.state, found.count, found.entries, found.files) == ("proven", 0, 4, files)
    assert found.bytes == (len(b"firstsecondthird") if files else 0)
    assert "are as frozen" in proof.line(found)


def changed(archive: Archive, number: int, entry: Entry) -> Archive:
    archive.held[number] = entry
    return archive


def wrong(tree: Path) -> Iterator[tuple[str, Archive, str, str]]:
    """Yield archives that are wrong: what is, the archive, the path that is named, and words."""
    right = archived(tree).held
    left_out = archived(tree)
    del left_out.held[1], left_out.files[str(tree / "b")]
    yield "left out", left_out, "b", "is not in the archive, and the command had to save it"
    more = archived(tree)
    more.held.append(replace(right[0], path=str(tree / "nowhere")))
    yield "more", more, "nowhere", "is in the archive, and was not in the frozen view"
    yield "mode", changed(archived(tree), 1, replace(right[1], mode=0o4755)), "b", "mode: the archive has 4755"
    yield "copy", changed(archived(tree), 3, replace(right[3], linked=None)), "z", "the archive has a copy"
    other = replace(right[3], linked=str(tree / "b"))
    yield "link", changed(archived(tree), 3, other), "z", f"the archive has a hard link of {tree}/b"
    for what, data, words in (
        ("flipped", b"sexond", "content: differs from byte 2 on"),
        ("short", b"seco", "content: differs from byte 4 on"),
        ("long", b"second!", "content: differs from byte 6 on"),
    ):
        content = archived(tree)
        content.files[str(tree / "b")] = data
        yield what, content, "b", words


def test_each_fault_is_named(tree: Path) -> None:
    for what, archive, name, words in wrong(tree):
        found = proven(tree, archive)
        assert (found.state, found.wrong) == ("differs", ("one",)), what
        assert any(one.path == str(tree / name) and words in one.what for one in found.differences), (what, found)


def test_what_is_read_live_is_not_compared(tree: Path) -> None:
    archive = archived(tree)
    archive.held.append(Entry(str(tree / "live" / "x"), "file", 99))
    archive.wanted.append(str(tree / "live" / "y"))
    archive.files[str(tree / "live" / "x")] = b"then"
    found = proven(tree, archive)
    assert (found.state, found.live) == ("proven", 1)


def test_only_some_differences_are_named_and_all_counted(tree: Path) -> None:
    archive = archived(tree)
    archive.held += [Entry(f"{tree}/none{number}", "file") for number in range(25)]
    found = proven(tree, archive, mode="list")
    assert (len(found.differences), found.count) == (10, 25)
    assert list(found.reasons())[-1] == "and 15 more differences"


def test_content_that_does_not_come_is_a_difference(tree: Path) -> None:
    archive = archived(tree)
    del archive.files[str(tree / "b")]
    assert "of 3 files to be read the archive gave only 2" in "".join(proven(tree, archive).reasons())


def test_a_damaged_archive_differs_and_the_others_are_still_read(tree: Path) -> None:
    damaged, sound = archived(tree), archived(tree)
    damaged.error, sound.name = DamagedError("borg failed: Data integrity error"), "two"
    found = proven(tree, damaged, sound)
    assert (found.state, found.wrong, found.entries) == ("differs", ("one",), 8)


def test_each_archive_that_differs_is_named_however_much_differs_before(tree: Path) -> None:
    """One that is not named would not be marked."""
    many, same = archived(tree), archived(tree)
    many.held += [Entry(f"{tree}/none{number}", "file") for number in range(25)]
    same.held.append(Entry(f"{tree}/none0", "file"))
    same.name = "two"
    assert proven(tree, many, same, mode="list").wrong == ("one", "two")


def test_a_program_that_fails_proves_nothing_and_accuses_nobody(tree: Path) -> None:
    archive = archived(tree)
    archive.error = ProgramError(["borg", "secret"], "failed with status 2", "Connection closed")
    found = proven(tree, archive)
    assert (found.state, found.count) == ("not proven", 0)
    assert found.why == "one: borg failed with status 2: Connection closed"


def test_what_cannot_be_compared_is_noted_once() -> None:
    """There may be millions of such entries."""
    tally = Tally(lambda tally: None)
    for _ in range(3):
        tally.leaves("some hard links")
    assert tally.unchecked == ["some hard links"]


class Late(ViewPrograms):
    """Programs whose time is up when the second archive is read."""

    def check(self) -> None:
        raise TimeIsUpError


def test_a_time_limit_does_not_hide_an_archive_that_could_not_be_read(tree: Path) -> None:
    archive = archived(tree)
    archive.error = ProgramError(["borg"], "failed with status 2", "Connection closed")
    for kept in (archive.wanted, archive.held, archive.files):
        kept.clear()
    late = archived(tree)
    frozen = FrozenTree([str(tree)], [os.stat(tree).st_dev], [], {})
    programs = Late(Invocation(("true",), {}, "/"), time.monotonic() + 60)
    planned = PlannedProof("all", 1, 1, 60, (), 1)
    answer = ReadBack("", lambda programs, span: [archive, late])
    found = Comparison(planned, frozen, programs, Tally(lambda tally: None)).prove(answer, Span(0, 1))
    assert (found.state, found.why) == ("not proven", "one: borg failed with status 2: Connection closed")


def test_no_archive_is_no_proof(tree: Path) -> None:
    assert proven(tree).state == "not proven"


def test_what_is_wanted_first_is_read_beside_the_sample(tree: Path) -> None:
    found = proven(tree, archived(tree), mode="sample", first=(str(tree / "c"),), files=1)
    assert (found.state, found.files) == ("proven", 2)


def test_sources_by_a_link_are_found_where_they_lead(tree: Path) -> None:
    frozen = FrozenTree([str(tree)], [os.stat(tree).st_dev], [], {"/somewhere/link": str(tree)})
    seen = frozen.look("/somewhere/link/a")
    assert seen is not None
    assert (seen.type, seen.size, seen.names) == ("file", 5, 2)
    assert frozen.look("/somewhere/link/none") is None


def test_a_source_that_is_a_file_is_compared(tree: Path) -> None:
    right = archived(tree)
    path = str(tree / "b")
    archive = Archive([entry for entry in right.held if entry.path == path], [path])
    archive.files = {path: b"second"}
    frozen = FrozenTree([path], [os.stat(path).st_dev], [], {})
    assert compared(frozen, archive).count == 0
    archive.files = {path: b"secant"}
    assert [one.what for one in compared(frozen, archive).differences] == ["content: differs from byte 3 on"]


@pytest.mark.parametrize("sockets", [True, False])
def test_a_socket_that_the_program_does_not_store_is_not_missed(tree: Path, sockets: bool) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "socket"))
    archive = archived(tree)
    archive.wanted += [str(tree / "socket"), str(tree / "gone")]
    archive.stores = Stores(sockets=sockets)
    missed = [Path(one.path).name for one in proven(tree, archive, mode="list").differences]
    assert missed == (["gone", "socket"] if sockets else ["gone"])


def test_a_source_that_is_a_link_is_read_live(tree: Path) -> None:
    link = tree / "link"
    link.symlink_to("b")
    archive = Archive([Entry(str(link), "link", target="b")], [str(link)])
    frozen = FrozenTree([str(tree / "b")], [os.stat(tree).st_dev], [], {str(link): str(tree / "b")})
    result = compared(frozen, archive)
    assert (result.count, result.live) == (0, 1)
