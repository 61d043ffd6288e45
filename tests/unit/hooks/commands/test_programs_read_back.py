"""How backup programs' archives are read back: what is refused, what is run, and where the names lead."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
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
from borg_lvm_hooks.commands.borg import read_back as borg
from borg_lvm_hooks.commands.borg import version
from borg_lvm_hooks.commands.parsers import tar_stream
from tests.unit.data.recorded import Recorded

HOOKS = ("borg", "borgmatic", "restic", "rsync", "tar")


def asked(*argv: str, cwd: str = "/work") -> ReadBack:
    found = manager.read_back(HOOKS, Invocation(argv, {"HOME": "/root"}, cwd))
    assert found
    return found


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("borg", "create", "archive", "/srv"), "archives of borg 2 are not read back"),
        (("borg", "create", "-r", "/r", "archive", "/srv"), "archives of borg 2 are not read back"),
        (("borg", "with-lock", "/r", "borg", "create", "/r::a", "/srv"), "not `borg with-lock`"),
        (("borg", "create", "--timestamp", "2020-01-01T00:00:00", "/r::a", "/srv"), "--timestamp"),
        (("borg", "create", "/r::a", "/srv", "etc"), "all be absolute paths"),
        (("borg", "create", "/r::a", "/srv/../etc"), "all be absolute paths"),
        (("borg", "create", "--read-special", "/r::a", "/dev/vg/lv"), "--read-special"),
        (("borg", "create", "::a", "/srv"), "names no REPOSITORY::ARCHIVE"),
        (("borg", "create", "/r::a", "/srv", "/run/borgmatic-12345678/./borgmatic"), "without `..` and `/./`"),
        (("borg", "create", "/r::a", "/view/./srv", "/other/./srv"), "the same directory before"),
        (("borg", "create", "/r::a", "/view/./."), "the same directory before"),
        (("borg", "create", "/r::a", "/./srv"), "the same directory before"),
        (("borg", "create", "/r::a", "./view/./srv"), "the same directory before"),
        (("/nowhere/borg", "create", "/r::a", "/view/./srv"), "does not say whether it takes off"),
        (("borg", "list", "/r"), "reads no source paths"),
        (("tar", "-cf", "-", "/srv"), "standard output"),
        (("tar", "-cf", "host:/a.tar", "/srv"), "another machine"),
        (("tar", "-rf", "/a.tar", "/srv"), "adds to an archive"),
        (("tar", "-cf", "/a.tar", "-g", "/snar", "/srv"), "incremental"),
        (("tar", "-cf", "/a.tar", "--transform=s/a/b/", "/srv"), "other names"),
        (("tar", "-cf", "/a.tar", "-I", "mine -9", "/srv"), "nobody knows how to read what mine"),
        (("tar", "-cf", "/a.tar", "-C", "/a", "x", "-C", "/b", "x"), "lead back to them"),
        (("rsync", "-a", "/srv", "host:/copy/"), "on another machine"),
        (("rsync", "-a", "/srv/", "/etc/", "/copy/"), "do not lead back"),
        (("rsync", "-a", "--compare-dest=/old", "/srv/", "/copy/"), "--compare-dest"),
    ],
)
def test_what_cannot_be_read_back_is_refused_with_the_reason(argv: tuple[str, ...], words: str) -> None:
    assert words in asked(*argv).refused


def test_devices_are_not_compared_but_restored() -> None:
    """As raw disks are for a drill."""
    answer = asked("borg", "create", "--read-special", "/r::a", "/dev/vg/lv")
    assert answer.refused
    assert answer.restored
    assert not asked("borg", "create", "--timestamp", "2020-01-01T00:00:00", "/r::a", "/srv").restored


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"BORG_PASSPHRASE_FD": "5"}, "can be read once only; use BORG_PASSPHRASE"),
        ({"BORG_PASSPHRASE_FD": "5", "BORG_PASSPHRASE": ""}, ""),
        ({"BORG_PASSPHRASE_FD": "5", "BORG_PASSCOMMAND": "cat /root/key"}, ""),
        ({"BORG_PASSPHRASE": "x"}, ""),
    ],
)
def test_a_pass_phrase_that_can_be_read_once_is_no_use(env: dict[str, str], words: str) -> None:
    found = manager.read_back(HOOKS, Invocation(("borg", "create", "/r::a", "/srv"), {"HOME": "/", **env}, "/"))
    assert found
    assert (words in found.refused) if words else not found.refused


DUMP = b"""{
    "_name": "a",
    "_meta":
    {
        "items": [
            "\\u007f2bcb"
        ]
    },
    "_items": [
    {
        "gid": 0,
        "mode": 16877,
        "mtime": 1795976334455553791,
        "path": "srv/sub",
        "uid": 0,
        "xattrs": {
            "user.bin": "\\u007f00ff7f",
            "user.none": null,
            "user.text": "bar"
        }
    },
    {
        "acl_access": "user::rw-\\nuser:joe:r--:1000\\ngroup::r--\\nmask::r--\\nother::r--",
        "chunks": [
            [
                "\\u007ffb28",
                100000,
                100003
            ],
            [
                "\\u007ffb29",
                23,
                24
            ]
        ],
        "gid": 0,
        "hardlink_master": true,
        "mode": 33188,
        "mtime": -5,
        "path": "\\u007f7372762f626164ff6e616d65",
        "uid": 7
    },
    {
        "gid": 0,
        "mode": 33188,
        "mtime": 5,
        "path": "srv/linked",
        "source": "srv/first",
        "uid": 0
    },
    {
        "gid": 0,
        "mode": 41471,
        "mtime": 5,
        "path": "srv/link",
        "source": "first",
        "uid": 0
    },
    {
        "gid": 0,
        "mode": 8612,
        "mtime": 5,
        "path": "srv/null",
        "rdev": 259,
        "uid": 0
    },
    {
        "chunks": [
            [
                "\\u007ffb28",
                100000,
                100003
            ]
        ],
        "gid": 0,
        "mode": 33188,
        "mtime": 5,
        "part": 1,
        "path": "srv/large.borg_part_1",
        "uid": 0
    }
    ]
}
"""
LISTED = b"""{"type": "file_status", "status": "x", "path": "/srv/not"}
{"type": "file_status", "status": "-", "path": "/srv/sub"}
{"type": "log_message", "message": "x"}
{"type": "file_status", "status": "-", "path": "/srv/new\\nline"}
{"type": "file_status", "status": "-", "path": "/srv"}
"""


def archive(programs: Recorded, *argv: str) -> Saved:
    """Return the archive that a command line has made, if the program says that it has made one."""
    words = "".join(f', "{word}"' for word in argv)
    start = "1970-01-01T00:00:05.000000"
    programs.said = {
        **programs.said,
        "list": f'{{"archives": [{{"name": "a", "start": "{start}"}}]}}'.encode(),
        "info": f'{{"archives": [{{"name": "a", "start": "{start}", "end": "{start}", "hostname": "here", '
        f'"command_line": ["/usr/bin/borg"{words}]}}]}}'.encode(),
    }
    invocation = Invocation(("borg", *argv), {"HOME": "/root", "BORG_HOSTNAME": "here"}, "/work")
    answer = manager.read_back(HOOKS, invocation)
    assert answer
    (found,) = answer.archives(programs, Span(1, 10))
    return found


def test_borgs_items_are_read_as_they_are() -> None:
    programs = Recorded({"dump-archive": DUMP, "--dry-run": LISTED})
    found = archive(programs, "create", "--stats", "--exclude", "*.tmp", "/r::a", "/srv")
    directory, file, linked, link, device = found.entries()
    assert (directory.path, directory.type, directory.mode) == ("/srv/sub", "directory", 0o755)
    assert directory.xattrs == {"user.bin": b"\0\xff\x7f", "user.none": b"", "user.text": b"bar"}
    assert (file.path, file.name, file.size, file.uid) == ("/srv/bad\udcffname", "/srv/bad?name", 100023, 7)
    assert (file.mtime, file.linked) == (-5, None)
    assert sorted(file.acl or ()) == ["group::r--", "mask::r--", "other::r--", "user:1000:r--", "user::rw-"]
    assert (linked.linked, link.target, link.linked) == ("/srv/first", "first", None)
    assert (device.type, device.device) == ("character device", 259)
    assert list(found.expected()) == ["/srv/sub", "/srv/new\nline", "/srv"]
    assert list(programs.argv[-1]) == [
        *("borg", "create", "--dry-run", "--list", "--log-json", "--exclude=*.tmp", "--", "/r::a", "/srv"),
    ]


@pytest.mark.parametrize(("strips", "stored"), [(True, "srv/a"), (False, "view/srv/a")])
def test_borg_takes_off_what_stands_before_a_slash_and_a_dot(
    monkeypatch: pytest.MonkeyPatch, strips: bool, stored: str
) -> None:
    monkeypatch.setattr(version, "strips_prefixes", lambda invocation: strips)
    dump = DUMP.replace(b'"srv/', f'"{stored.removesuffix("a")}'.encode())
    programs = Recorded({"dump-archive": dump, "--dry-run": LISTED, "export-tar": tarred(member(stored, 3))})
    found = archive(programs, "create", "/r::a", "/view/./srv", "/view/./etc/./x")
    assert next(iter(found.entries())).path == "/view/srv/sub"
    assert [path for path, _ in found.contents(Selection(paths=frozenset(["/view/srv/a"])))] == ["/view/srv/a"]
    assert programs.argv[-1][-1] == f"pf:{stored}"


def test_borgs_archive_of_another_command_line_is_not_ours() -> None:
    programs = Recorded({})
    archive(programs, "create", "/r::a", "/srv")
    other = manager.read_back(HOOKS, Invocation(("borg", "create", "/r::a", "/srv", "/etc"), {"HOME": "/"}, "/work"))
    assert other
    assert other.archives(programs, Span(1, 10)) == []


def test_of_borgs_archives_none_is_ours_for_sure_if_the_clock_was_put_back_to_the_time_of_an_earlier_one() -> None:
    def found(*seconds: int) -> Sequence[str]:
        made = [{"name": f"a{second}", "start": f"1970-01-01T00:00:{second:02}.000000"} for second in seconds]
        facts = {"end": "1970-01-01T00:00:59.000000", "hostname": socket.gethostname(), "command_line": list(words)}
        infos = {f"/r::{one['name']}": json.dumps({"archives": [{**one, **facts}]}).encode() for one in made}
        programs = Recorded({"list": json.dumps({"archives": made}).encode(), **infos})
        return [one.name for one in asked(*words).archives(programs, Span(30, 40, ((10, 20),)))]

    words = "borg", "create", "/r::{now}", "/srv"
    assert (found(15), found(25, 35), found(31, 35)) == (["/r::a15"], ["/r::a35"], ["/r::a31", "/r::a35"])
    with pytest.raises(LookupError, match="a15, a35 may all be this run's: the clock was put back"):
        found(15, 35)


def tarred(*members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as made:
        for member in members:
            made.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return data.getvalue()


def member(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size = size
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def test_only_wanted_contents_come_out_of_borgs_tar() -> None:
    programs = Recorded({"export-tar": tarred(member("srv/a", 3), member("srv/b", 2_000_000), member("srv/c/d", 1))})
    found = archive(programs, "create", "--remote-path=borg1", "/r::a", "/srv")
    selection = Selection(paths=frozenset(["/srv/b"]), prefixes=("/srv/c",))
    got = {path: sum(map(len, pieces)) for path, pieces in found.contents(selection)}
    assert got == {"/srv/b": 2_000_000, "/srv/c/d": 1}
    assert list(programs.argv[-1]) == [
        *("borg", "export-tar", "--remote-path=borg1", "/r::a", "-", "pp:srv/c", "pf:srv/b"),
    ]


def test_a_tar_stream_that_is_cut_is_damaged() -> None:
    data = tarred(member("a", 3000), member("b", 3000))
    with pytest.raises(DamagedError, match="tar archive is damaged"):
        print([list(one.pieces) for one in tar_stream.members(io.BytesIO(data[:2000]))])


@pytest.mark.parametrize("value", [b"\n9 hdrcharset=\xff\n", b"\n22 GNU.sparse.offset=0\n", b"\0=\n5 a=b\n"])
def test_an_attribute_of_a_users_is_no_header(value: bytes) -> None:
    """Python's tarfile looks for some keywords in all of a header: the archive counted as damaged."""
    record = b" SCHILY.xattr.user.a=" + value + b"\n"
    header = b"%d" % (len(record) + 2) + record + b"13 mtime=1.5\n"
    head, data = member("head", len(header), type=tarfile.XHDTYPE), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as made:  # which adds no such header
        made.addfile(head, io.BytesIO(header))
        for info in (member("a", 3), member("b", 2)):
            made.addfile(info, io.BytesIO(bytes(info.size)))
    data.seek(0)
    found = [(one.info, b"".join(one.pieces)) for one in tar_stream.members(data)]
    assert [(info.name, content) for info, content in found] == [("a", bytes(3)), ("b", bytes(2))]
    entry = tar_stream.entry(found[0][0], "/srv/a", "", xattrs=True, lists=True)
    assert (entry.xattrs, entry.mtime) == ({"user.a": value}, 1_500_000_000)


def test_what_a_program_says_tells_damage_from_failure() -> None:
    class Failing(Recorded):
        """A program that fails."""

        @contextmanager
        def reading(
            self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
        ) -> Iterator[BinaryIO]:
            yield io.BytesIO(b"cut")
            raise ProgramError(argv, "failed with status 2", next(iter(self.said)), 2)

    with (
        pytest.raises(DamagedError, match="Data integrity error"),
        tar_stream.judged(Failing({"Data integrity error: X": b""}), ["borg"], {}, borg.DAMAGE),
    ):
        raise DamagedError("the tar archive is damaged")
    with (
        pytest.raises(ProgramError),
        tar_stream.judged(Failing({"Connection closed": b""}), ["borg"], {}, borg.DAMAGE),
    ):
        raise DamagedError("the tar archive is damaged")


def made(tmp_path: Path, data: bytes, *argv: str) -> tuple[Saved, Recorded]:
    file = tmp_path / "a.tar"
    file.write_bytes(data)
    programs = Recorded(
        {"cat": data, "gzip": data, "--file=/dev/null": b"srv/a\nsrv/\nsrv/\\303\\244 \\\\b\nsrv/n\\nl\n"}
    )
    (found,) = asked("tar", "-cf", str(file), *argv).archives(programs, Span(0, 1))
    return found, programs


def test_tars_members_lead_back_to_the_sources(tmp_path: Path) -> None:
    pax = {"mtime": "1700000000.000000007", "SCHILY.xattr.user.a": "1", "SCHILY.acl.access": "user::rw-,user:0:r--"}
    data = tarred(
        member("srv", type=tarfile.DIRTYPE, mode=0o755, mtime=5),
        member("srv/a", 3, mode=0o644, uid=7, pax_headers=pax),
        member("srv/b", type=tarfile.LNKTYPE, linkname="srv/a"),
        member("srv/l", type=tarfile.SYMTYPE, linkname="a"),
    )
    found, programs = made(tmp_path, data, "--xattrs", "--acls", "--exclude=x", "/srv")
    directory, file, linked, link = found.entries()
    assert (directory.path, directory.type, directory.mtime, directory.xattrs) == ("/srv", "directory", 5 * 10**9, {})
    assert (file.path, file.mtime, file.size, file.uid) == ("/srv/a", 1_700_000_000_000_000_007, 3, 7)
    assert file.xattrs == {"user.a": b"1"}
    assert sorted(file.acl or ()) == ["user:0:r--", "user::rw-"]
    assert (linked.linked, linked.xattrs, link.target) == ("/srv/a", None, "a")
    assert list(found.expected()) == ["/srv/a", "/srv", "/srv/ä \\b", "/srv/n\nl"]
    assert list(programs.argv[-1]) == [
        *("tar", "--file=/dev/null", "--verbose", "--quoting-style=escape", "--show-transformed-names", "--create"),
        *("--xattrs", "--acls", "--exclude=x", "/srv"),
    ]


@pytest.mark.parametrize(
    ("words", "stored", "path"),
    [
        (("-C", "/srv", "."), "./a", "/srv/a"),
        (("-C", "/srv", "."), "./", "/srv"),
        (("-C", "/srv", "x", "-C", "/etc", "y"), "y/z", "/etc/y/z"),
        (("x",), "x", "/work/x"),
        (("-P", "/srv"), "/srv/a", "/srv/a"),
        (("/srv", "/srv-2"), "srv-2/a", "/srv-2/a"),
        (("/",), "etc/a", "/etc/a"),
    ],
)
def test_each_name_in_a_tar_archive_has_its_place(
    tmp_path: Path, words: tuple[str, ...], stored: str, path: str
) -> None:
    found, _ = made(tmp_path, tarred(member(stored, 1)), *words)
    assert [entry.path for entry in found.entries()] == [path]


def test_an_archive_of_tars_that_is_exchanged_is_not_waited_for(tmp_path: Path) -> None:
    """As whoever may write its directory can: a pipe would be waited for, and a device begin to do something."""
    found, programs = made(tmp_path, tarred(member("srv/a", 1)), "/srv")
    assert [entry.path for entry in found.entries()] == ["/srv/a"]
    assert re.fullmatch("/proc/[0-9]+/fd/[0-9]+", programs.argv[-1][-1])
    (tmp_path / "a.tar").unlink()
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DamagedError, match="the archive cannot be opened: it is no plain file"):
        list(found.entries())
    answer = asked("tar", "-cf", str(tmp_path / "a.tar"), "/srv")
    assert answer.restored
    for which in (Span(0, 1), str(tmp_path / "a.tar"), str(tmp_path / "none")):
        with pytest.raises(LookupError, match="there is no archive"):
            answer.restored(programs, which)


def test_what_tars_options_override_is_not_compared(tmp_path: Path) -> None:
    found, _ = made(tmp_path, tarred(member("srv/a", 1)), "--owner=0", "--mtime=2020-01-01", "/srv")
    (entry,) = found.entries()
    assert (entry.uid, entry.mtime, entry.gid, entry.xattrs) == (None, None, 0, None)
    assert found.stores.mtime_step == 10**9


def test_rsyncs_copy_is_read_by_the_names_of_its_dry_run(tmp_path: Path) -> None:
    source, target = tmp_path / "srv", tmp_path / "copy"
    for place in (source, target, target / "srv"):
        place.mkdir()
    (target / "srv" / "a").write_bytes(b"abc")
    (target / "srv" / "of an earlier run").write_bytes(b"")
    listed = b"borg-lvm:srv/\nborg-lvm:srv/a\nskipping x\nborg-lvm:srv/\\#303\\#244\n"
    programs = Recorded({"--dry-run": listed})
    answer = asked("rsync", "-a", "-v", "--delete-after", "--link-dest=../old", str(source), str(target))
    (found,) = answer.archives(programs, Span(0, 1))
    assert list(found.expected()) == [str(source), f"{source}/a", f"{source}/ä"]
    directory, file = found.entries()
    assert (directory.type, file.path, file.size, file.xattrs) == ("directory", f"{source}/a", 3, None)
    assert file.mtime is not None
    wanted = Selection(everything=True)
    assert {path: b"".join(pieces) for path, pieces in found.contents(wanted)} == {f"{source}/a": b"abc"}
    assert list(programs.argv[0]) == [
        *("rsync", "--dry-run", "--out-format=borg-lvm:%n", "--archive", "--", str(source)),
        f"{target}/.borg-lvm-nowhere/",
    ]


def test_what_is_swapped_for_a_link_while_rsyncs_copy_is_read_is_not_followed(tmp_path: Path) -> None:
    """As the owner of a copied directory may: the link leads to the source, which has all that is looked for."""
    source, target = tmp_path / "srv", tmp_path / "copy"
    for place in (source / "d", target / "srv" / "d"):
        place.mkdir(parents=True)
        (place / "a").write_bytes(b"abc")
    programs = Recorded({"--dry-run": b"borg-lvm:srv/d/\nborg-lvm:srv/d/a\n"})
    (found,) = asked("rsync", "-a", str(source), str(target)).archives(programs, Span(0, 1))

    def swap() -> None:
        (target / "srv" / "d").rename(target / "srv" / "away")
        (target / "srv" / "d").symlink_to(source / "d")

    entries = found.entries()
    assert next(entries).type == "directory"
    swap()
    assert list(entries) == []
    assert list(found.contents(Selection(everything=True))) == []
    shutil.rmtree(target)
    with pytest.raises(DamagedError, match="the destination cannot be opened: No such file"):
        list(found.entries())


@pytest.mark.parametrize(
    ("words", "step"), [((), 10**9), (("--modify-window=1",), 2 * 10**9), (("-@-1",), 1), (("-@x",), 10**9)]
)
def test_rsyncs_times_are_as_exact_as_it_compares_them(tmp_path: Path, words: Sequence[str], step: int) -> None:
    answer = asked("rsync", "-a", *words, "/srv/", f"{tmp_path}/")
    (found,) = answer.archives(Recorded({}), Span(0, 1))
    assert found.stores.mtime_step == step
