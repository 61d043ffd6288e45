"""A tree is compared with an archive of it that is right, and with those that are not; on real files."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.config.proof_settings import Mode, PlannedProof
from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.plugins.read_back import DamagedError, Entry, Programs, ReadBack, Saved, Selection, Stores
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import TimeIsUpError, ViewPrograms
from borg_lvm.proof.read_back import Comparison
from borg_lvm.proof.tally import Tally
from borg_lvm.reporting import proof
from borg_lvm.reporting.proof import Proof
from borg_lvm_hooks.commands.parsers import tar_stream

ALL = PlannedProof("all", 10, 1 << 20, 60, (), 1)


class Archive(Saved):
    """An archive that holds what it is given; `wrong` are errors that are raised after so many contents."""

    def __init__(self, entries: Iterable[Entry], expected: Sequence[str], name: str = "one") -> None:
        self.name, self.stores = name, Stores()
        self.held, self.wanted = list(entries), list(expected)
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.dry_runs = 0

    def expected(self) -> Iterator[str]:
        self.dry_runs += 1
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
    assert (proven(tree).state, proven(tree).why) == ("not proven", "no archive was found")


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


def test_a_socket_alone_costs_no_second_dry_run(tree: Path) -> None:
    (tree / "folder" / "below").mkdir(parents=True)
    archive = archived(tree)
    archive.stores = Stores(sockets=False)
    with ExitStack() as stack:
        for directory in (tree, tree / "folder" / "below"):
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(directory / "socket"))
            archive.wanted.append(str(directory / "socket"))
    assert proven(tree, archive, mode="list").state == "proven"
    assert archive.dry_runs == 1
    missed = str(tree / "gone")
    archive.wanted.append(missed)
    assert [one.path for one in proven(tree, archive, mode="list").differences] == [missed]


def test_a_source_that_is_a_link_is_read_live(tree: Path) -> None:
    link = tree / "link"
    link.symlink_to("b")
    archive = Archive([Entry(str(link), "link", target="b")], [str(link)])
    frozen = FrozenTree([str(tree / "b")], [os.stat(tree).st_dev], [], {str(link): str(tree / "b")})
    result = compared(frozen, archive)
    assert (result.count, result.live) == (0, 1)


def test_data_that_an_archive_has_by_another_name_is_read_back_there(tree: Path) -> None:
    """A source may be given by a name with a symbolic link in it, an application names its data by the real path."""
    (tree / "way").symlink_to(tree)
    given = str(tree / "way" / "a")
    frozen = FrozenTree([str(tree)], [os.stat(tree).st_dev], [], {given: str(tree / "a")})
    info = os.lstat(tree / "a")
    archive = Archive([Entry(given, "file", info.st_size)], [given])
    archive.files = {given: b"first"}
    for first in (str(tree / "a"), str(tree), given):
        planned = PlannedProof("sample", 0, 1 << 20, 60, (first,), 1)
        found = compared(frozen, archive, planned=planned)
        assert (found.state, found.files, list(found.reasons())) == ("proven", 1, []), first


class Dumped(Archive):
    """An archive whose contents a program writes as a tar archive."""

    def __init__(self, right: Archive, script: str) -> None:
        super().__init__(right.held, right.wanted)
        self.files, self.script = right.files, script

    def contents(self, selection: Selection) -> Iterator[tuple[str, Iterator[bytes]]]:
        programs = ViewPrograms(Invocation(("sh",), dict(os.environ), "/"), time.monotonic() + 60)
        with tar_stream.judged(programs, ["sh", "-c", self.script], {}, re.compile("corrupt")) as stream:
            for member in tar_stream.members(stream):
                yield f"/{member.info.name}", member.pieces


@pytest.mark.process
@pytest.mark.parametrize(
    ("then", "state"), [("exit 2", "not proven"), ("echo corrupt >&2; exit 2", "differs"), ("true", "differs")]
)
def test_what_breaks_off_because_its_program_failed_is_no_difference(tree: Path, then: str, state: str) -> None:
    (tree / "b").write_bytes(b"x" * 50_000)
    script = f"tar -cPf - {tree}/a {tree}/b {tree}/c | head -c 20000; {then}"
    assert proven(tree, Dumped(archived(tree), script)).state == state


class Unlisting(Archive):
    """An archive of a program whose dry run names files and directories alone; it may leave `optional` out."""

    def __init__(self, entries: Iterable[Entry], expected: Sequence[str], optional: str = "") -> None:
        super().__init__(entries, expected)
        self.stores = Stores(inodes=True, unlisted=frozenset({"link", "fifo"}))
        self.optional = optional
        self.more: dict[str, list[Entry]] = {}

    def unlisted_name(self, path: str) -> str:
        return "" if os.path.basename(path) == self.optional else path

    def doubtful(self) -> Sequence[str]:
        return sorted(self.more)

    def details(self, directory: str) -> Iterator[Entry]:
        return iter(self.more[directory])


def unlisting(tree: Path, optional: str = "") -> Unlisting:
    """Return an archive that is right of a tree with a link and a pipe in a directory."""
    directory = tree / "folder"
    directory.mkdir()
    (directory / "link").symlink_to("nowhere")
    os.mkfifo(directory / "pipe")
    os.mkfifo(tree / "live" / "pipe")
    held = [Entry(str(directory), "directory"), Entry(f"{directory}/link", "link"), Entry(f"{directory}/pipe", "fifo")]
    return Unlisting(held, [f"{directory}/", f"{tree}/live/"], optional)


def test_what_a_dry_run_does_not_name_is_looked_for_in_its_directories(tree: Path) -> None:
    archive = unlisting(tree)
    assert proven(tree, archive).state == "proven"
    del archive.held[1]
    found = proven(tree, archive)
    assert [(one.path, one.what) for one in found.differences] == [
        (f"{tree}/folder/link", "is not in the archive, and the command had to save it")
    ]


def test_what_may_have_been_left_out_is_not_missed_and_not_too_much(tree: Path) -> None:
    archive = unlisting(tree, "link")
    assert proven(tree, archive).state == "proven"
    del archive.held[1]
    assert proven(tree, archive).state == "proven"
    archive.held.append(Entry(f"{tree}/folder/other", "link"))
    assert "was not in the frozen view" in proven(tree, archive).differences[0].what


def test_details_are_compared_where_something_differs(tree: Path) -> None:
    archive = unlisting(tree)
    directory, link = f"{tree}/folder", f"{tree}/folder/link"
    archive.more = {directory: [Entry(link, "link", target="nowhere"), Entry(f"{directory}/gone", "file")]}
    found = proven(tree, archive)
    assert (found.state, found.entries) == ("proven", 3)
    archive.more = {
        directory: [Entry(link, "link", target="elsewhere")],
        f"{tree}/live": [Entry(f"{tree}/live/x", "link", target="elsewhere")],
        f"{tree}/z": [Entry(f"{tree}/live/pipe", "link", target="elsewhere")],
    }
    found = proven(tree, archive)
    assert [(one.path, one.what) for one in found.differences] == [
        (link, "link target: the archive has 'elsewhere', the frozen view 'nowhere'")
    ]
    archive.more = {f"{directory}/{number}": [] for number in range(31)}
    assert proven(tree, archive).unchecked == (
        "not all directories in which something differs were looked into: too many",
    )


def test_an_inode_of_another_file_is_a_copy(tree: Path) -> None:
    archive = unlisting(tree)
    inode = os.lstat(tree / "a").st_ino
    names = [Entry(str(tree / name), "file", inode=(0, inode)) for name in ("a", "z")]
    archive.held += names
    archive.wanted += [one.path for one in names]
    assert proven(tree, archive, mode="list").state == "proven"
    archive.held[-1] = replace(names[1], inode=(0, inode + 1))
    found = proven(tree, archive, mode="list")
    assert [(one.path, one.what) for one in found.differences] == [
        (names[1].path, "the archive has a copy, the frozen view a hard link of another path")
    ]
