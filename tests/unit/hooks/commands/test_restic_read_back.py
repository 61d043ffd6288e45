"""How restic's snapshots are read back: what is refused, what is run, and where names lead; on recorded words."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from borg_lvm.linux.subprocesses import ProgramError
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import NOTHING, Invocation, Span
from borg_lvm.plugins.read_back import DamagedError, ReadBack, Saved, Selection
from borg_lvm_hooks.commands.restic import exact, left_out, nodes, reading
from borg_lvm_hooks.commands.restic.pflag import read
from tests.unit.data.recorded import Recorded

FFFD = "\N{REPLACEMENT CHARACTER}"
SNAPSHOT = {
    "time": "2026-11-29T22:40:00.123456789Z", "tree": "10ee", "paths": ["/srv/data"], "hostname": "here",
    "id": "1dea" * 16, "short_id": "1dea1dea",
}  # fmt: skip
DURING = Span(1795990000.0, 1795999999.0)


def asked(*argv: str, cwd: str = "/work", env: Mapping[str, str] = NOTHING) -> ReadBack:
    found = manager.read_back(
        ("restic",), Invocation(argv, {"HOME": "/root", "RESTIC_REPOSITORY": "/r", "RESTIC_HOST": "here", **env}, cwd)
    )
    assert found
    return found


@pytest.mark.parametrize(
    ("argv", "env", "words"),
    [
        (("restic", "check"), {}, "not `restic check`"),
        (("restic", "backup", "--stdin"), {}, "standard input"),
        (("restic", "backup", "--time", "2020-01-01 00:00:00", "/srv"), {}, "--time"),
        (("restic", "backup", "--skip-if-unchanged", "/srv"), {}, "--skip-if-unchanged"),
        (("restic", "backup", "/srv", "etc"), {}, "all be absolute paths"),
        (("restic", "backup", "../etc"), {}, "all be absolute paths"),
        (("restic", "backup", "-p", "/dev/fd/5", "/srv"), {}, "/dev/fd/5, which can be read once only"),
        (("restic", "backup", "/srv"), {"RESTIC_PASSWORD_FILE": "/proc/self/fd/5"}, "can be read once only"),
    ],
)
def test_what_cannot_be_read_back_is_refused_with_the_reason(
    argv: tuple[str, ...], env: Mapping[str, str], words: str
) -> None:
    assert words in asked(*argv, env=env).refused


def archives(*snapshots: Mapping[str, object], argv: Sequence[str] = ("restic", "backup", "/srv/data")) -> list[Saved]:
    found = asked(*argv)
    assert found.refused == ""
    return list(found.archives(Recorded({"snapshots": json.dumps(snapshots).encode()}), DURING))


def test_only_a_snapshot_of_this_host_this_time_and_these_paths_is_this_runs() -> None:
    others = (
        {**SNAPSHOT, "hostname": "there"},
        {**SNAPSHOT, "time": "2020-01-01T00:00:00Z"},
        {**SNAPSHOT, "paths": ["/srv/data", "/etc"]},
    )
    assert [one.name for one in archives(*others, SNAPSHOT)] == ["snapshot 1dea1dea"]
    assert archives(*others) == []
    with pytest.raises(LookupError, match="1dea1dea, 1dea1dea"):
        archives(SNAPSHOT, SNAPSHOT)


def test_a_source_whose_name_is_no_text_is_found_by_the_name_that_json_has() -> None:
    argv = "restic", "backup", os.fsdecode(b"/srv/\xff\xfe")
    assert len(archives({**SNAPSHOT, "paths": [f"/srv/{FFFD}{FFFD}"]}, argv=argv)) == 1


def saved(said: Mapping[str, bytes], *argv: str, cwd: str = "/work") -> tuple[Saved, Recorded]:
    snapshots = json.dumps([{**SNAPSHOT, "paths": [os.path.join(cwd, argv[-1])]}]).encode()
    recorded = Recorded({"snapshots": snapshots, **said})
    (found,) = asked("restic", *argv, cwd=cwd).archives(recorded, DURING)
    return found, recorded


def status(action: str, item: str) -> bytes:
    facts = {"message_type": "verbose_status", "action": action, "item": item, "duration": 0.1}
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


DRY = (
    b'{"message_type":"status","percent_done":0,"total_files":1}\n'
    + status("unchanged", "/srv/data/file")
    + status("unchanged", "/srv/data/same/")
    + status("modified", "/srv/data/")
    + status("modified", "/srv/")
    + b'{"message_type":"summary","files_new":0,"dry_run":true}\n'
)


def test_the_dry_run_has_the_runs_snapshot_as_its_parent_and_what_changes_only_its_words_is_left_out() -> None:
    made, recorded = saved(
        {"--dry-run": DRY}, "-q", "backup", "-f", "--tag", "a", "-e", "*.o", "--parent=older", "-x", "/srv/data"
    )
    assert list(made.expected()) == ["/srv/data/file", "/srv/data/same/", "/srv/data/"]
    start = ["restic", "backup", f"--parent={SNAPSHOT['id']}", "--dry-run", "--json", "--verbose=2"]
    assert list(recorded.argv[-1]) == [*start, "--exclude=*.o", "--one-file-system", "--", "/srv/data"]
    assert list(made.doubtful()) == ["/", "/srv", "/srv/data"]


def test_relative_sources_lead_to_the_working_directory() -> None:
    made, _ = saved({"--dry-run": status("new", "/data/") + status("new", "/data/x")}, "backup", "data", cwd="/srv")
    assert list(made.expected()) == ["/srv/data/", "/srv/data/x"]
    assert list(made.doubtful()) == ["/srv", "/srv/data"]


def node(path: str, kind: str = "file", **more: object) -> bytes:
    facts = {"path": path, "type": kind, "uid": 0, "gid": 5, "size": 3, "mode": 0o644, "mtime": "2026-01-02T03:04:05Z"}
    return json.dumps({**facts, "struct_type": "node", **more}, ensure_ascii=False).encode() + b"\n"


NAMES = [b"/a", b"/b\nc", b"/d\xff", b"/d\xff/e\nf", b"/g", b'/"h"']
JSON = b'{"struct_type":"snapshot"}\n' + b"".join(node(nodes.garbled(os.fsdecode(name))) for name in NAMES)
AS_THEY_ARE = b"".join(name + b"\n" for name in NAMES)
QUOTED = b'/a\n"/b\\nc"\n"/d\\xff"\n"/d\\xff/e\\nf"\n/g\n/"h"\n'


@pytest.mark.parametrize("plain", [AS_THEY_ARE, QUOTED])
def test_names_that_are_no_text_are_told_byte_for_byte(plain: bytes) -> None:
    @contextmanager
    def reading(*words: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(JSON if "--json" in words else plain)

    assert [os.fsencode(path) for _, path in exact.paths(reading, "1dea")] == NAMES


def test_two_listings_that_differ_are_no_answer() -> None:
    @contextmanager
    def reading(*words: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(JSON if "--json" in words else AS_THEY_ARE.replace(b"/a\n", b"/a\n/more\n"))

    with pytest.raises(LookupError, match="in another"):
        list(exact.paths(reading, "1dea"))


def test_what_lies_above_the_sources_is_no_entry() -> None:
    made, _ = saved({"ls": node("/srv", "dir") + node("/srv/data", "dir", inode=7)}, "backup", "/srv/data")
    (entry,) = made.entries()
    assert (entry.path, entry.type, entry.gid, entry.inode) == ("/srv/data", "directory", 5, (0, 7))


def test_a_tree_is_reached_from_the_root_and_has_what_the_listing_does_not_say() -> None:
    attributes = [{"name": "user.a", "value": "AP8="}, {"name": "system.posix_acl_access", "value": "AgAAAA=="}]
    trees = {
        "10ee": [{"name": "srv", "type": "dir", "subtree": "5e1"}],
        "5e1": [{"name": "data", "type": "dir", "subtree": "da1a", "extended_attributes": attributes}],
        "da1a": [
            {"name": "l\\xff", "type": "symlink", "linktarget": FFFD, "linktarget_raw": "/w=="},
            {"name": "old", "type": "symlink", "linktarget": FFFD},
            {"name": "disk", "type": "dev", "device": 1793, "inode": 9},
            {"name": "same", "type": "dir", "subtree": "5a"},
        ],
    }
    said = {name: json.dumps({"nodes": tree}).encode() for name, tree in trees.items()}
    made, recorded = saved({"--dry-run": DRY, **said}, "backup", "/srv/data")
    list(made.expected())
    found = {entry.path: entry for directory in made.doubtful() for entry in made.details(directory)}
    assert (found["/srv/data"].xattrs, found["/srv/data"].acl) == ({"user.a": b"\0\xff"}, frozenset())
    assert found[os.fsdecode(b"/srv/data/l\xff")].target == os.fsdecode(b"\xff")
    assert found["/srv/data/old"].target is None
    assert (found["/srv/data/disk"].device, found["/srv/data/disk"].inode) == (1793, (0, 9))
    assert not any("5a" in argv for argv in recorded.argv)


def test_directories_are_dumped_as_a_whole_and_files_one_by_one_as_the_snapshot_has_them() -> None:
    """What lies there now says nothing: a drill restores what may be gone."""
    trees = {
        "10ee": [{"name": "srv", "type": "dir", "subtree": "5e1"}],
        "5e1": [{"name": "db", "type": "dir", "subtree": "db0"}, {"name": "single", "type": "file"}],
    }
    said = {name: json.dumps({"nodes": tree}).encode() for name, tree in trees.items()}
    said |= {"--archive=tar": b"\0" * 1024, "dump": b"data"}
    made, recorded = saved(said, "backup", "/srv")
    wanted = Selection(paths=frozenset(["/srv/chosen"]), prefixes=("/srv/db", "/srv/db/in", "/srv/single"))
    found = [(path, b"".join(pieces)) for path, pieces in made.contents(wanted)]
    assert found == [("/srv/single", b"data"), ("/srv/chosen", b"data")]
    dumped = [argv[argv.index("dump") :] for argv in recorded.argv if "dump" in argv]
    assert [argv[-1] for argv in dumped] == ["/srv/db", "/srv/single", "/srv/chosen"]


class Failing(Recorded):
    """A restic that fails when it has written what it can."""

    @contextmanager
    def reading(
        self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
    ) -> Iterator[BinaryIO]:
        with super().reading(argv) as stream:
            yield stream
        if "dump" in argv:
            raise ProgramError(argv, "failed with status 1", self.said["why"].decode(), 1)


@pytest.mark.parametrize(
    ("why", "error"),
    [
        (b"connection reset", ProgramError),
        (b"ciphertext verification failed", DamagedError),
        (b"not found in sna", None),
        (b'"/srv/data/x" should be a file, but is a "symlink" in the sna', None),
    ],
)
def test_a_file_that_breaks_off_is_no_shorter_file(why: bytes, error: type[Exception] | None) -> None:
    """What has failed is told before the content ends; a file that the snapshot does not have is passed over."""
    said = {
        "snapshots": json.dumps([SNAPSHOT]).encode(),
        "dump": b"" if error is None else b"half",
        "why": why + b"pshot",
    }
    (made,) = asked("restic", "backup", "/srv/data").archives(Failing(said), DURING)
    found = made.contents(Selection(paths=frozenset(["/srv/data/x"])))
    if error is None:
        assert list(found) == []
        return
    _, pieces = next(found)
    with pytest.raises(error):
        b"".join(pieces)


@pytest.mark.parametrize(
    ("repository", "mib", "at_once"), [("/r", 15, True), ("/r", 17, False), ("rest:http://there/", 15, False)]
)
def test_files_are_read_at_once_where_that_is_quicker_than_a_call_for_each(
    repository: str, mib: int, at_once: bool
) -> None:
    """Two files: what one call less saves is the time for 16 MiB, and only where no network is between."""
    made = asked("restic", "backup", "-r", repository, "/srv/data")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as written:
        for name in "abc":
            member = tarfile.TarInfo(f"srv/data/{name}")
            member.size = 1
            written.addfile(member, io.BytesIO(name.encode()))
    said = {"snapshots": json.dumps([SNAPSHOT]).encode(), "ls": node("/srv/data/c", size=mib << 20)}
    recorded = Recorded({**said, "--archive=tar": archive.getvalue(), "dump": b"x"})
    (one,) = made.archives(recorded, DURING)
    list(one.entries())
    wanted = Selection(paths=frozenset(["/srv/data/a", "/srv/data/b"]))
    found = {path: b"".join(pieces) for path, pieces in one.contents(wanted)}
    calls = [argv for argv in recorded.argv if "dump" in argv]
    assert (len(calls), found) == (
        (1, {"/srv/data/a": b"a", "/srv/data/b": b"b"}) if at_once else (2, {"/srv/data/a": b"x", "/srv/data/b": b"x"})
    )


def test_what_lies_in_the_cache_is_no_proof_of_a_local_repository() -> None:
    for repository, is_cached in (("/r", False), ("local:/r", False), ("rest:http://there/", True)):
        made = asked("restic", "backup", "-r", repository, "/srv/data")
        recorded = Recorded({"snapshots": json.dumps([SNAPSHOT]).encode(), "ls": b""})
        (one,) = made.archives(recorded, DURING)
        list(one.entries())
        assert ("--no-cache" not in recorded.argv[-1]) == is_cached


@pytest.mark.parametrize(
    ("words", "path", "may"),
    [
        ((), "/srv/link", False),
        (("-e", "*.o"), "/srv/link", False),
        (("-e", "*.o"), "/srv/link.o", True),
        (("-e", "/srv/l?nk/"), "/srv/link", True),
        (("-e", "/elsewhere/link"), "/srv/link", True),
        (("-e", "LINK"), "/srv/link", False),
        (("--iexclude", "LINK"), "/srv/Link", True),
        (("-e", "!keep"), "/srv/link", True),
        (("-e", "/srv/**"), "/srv/link", True),
        (("-e", "[a"), "/srv/link", True),
        (("--exclude-larger-than", "10M"), "/srv/link", False),
        (("--exclude-larger-than", "1k"), "/srv/link", True),
        (("--exclude-file", "/nowhere/at/all"), "/srv/link", True),
    ],
)
def test_what_may_be_left_out_is_never_missed(words: tuple[str, ...], path: str, may: bool) -> None:
    parsed = read(words, reading.BACKUP_TABLE)
    assert left_out.reader(Invocation(("restic",), {}, "/"), parsed)(path) is may


def test_a_list_of_excludes_and_a_marked_directory(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# link\n\n  *.o \n$HOME/x\n")
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / "CACHEDIR.TAG").write_bytes(b"")
    here = Invocation(("restic",), {}, str(tmp_path))
    listed = left_out.reader(here, read(("--exclude-file=list",), reading.BACKUP_TABLE))
    assert listed("/srv/link")  # nobody knows what $HOME/x will be
    (tmp_path / "list").write_text("# link\n\n  *.o \n")
    listed = left_out.reader(here, read(("--exclude-file=list",), reading.BACKUP_TABLE))
    assert (listed("/srv/link"), listed("/srv/link.o")) == (False, True)
    for words in (("--exclude-caches",), ("--exclude-if-present", "CACHEDIR.TAG:Signature")):
        marked = left_out.reader(here, read(words, reading.BACKUP_TABLE))
        assert (marked(f"{tmp_path}/marked/link"), marked(f"{tmp_path}/link")) == (True, False)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.000000007+01:00", 7),
        ("1930-11-18T00:28:29.876543211Z", -1234567890123456789),
        ("2106-02-07T06:28:21.5Z", (2**32 + 5) * 10**9 + 500_000_000),
        ("0000-07-18T07:06:40.25Z", -62_150_000_000 * 10**9 + 250_000_000),  # no year of Python's
    ],
)
def test_times_are_exact(text: str, ns: int) -> None:
    assert nodes.moment(text) == ns


def test_what_go_quotes() -> None:
    assert os.fsencode(nodes.unquoted(r"a\n\x00\xff\\n\"é\u2028")) == b'a\n\0\xff\\n"' + "é\u2028".encode()
