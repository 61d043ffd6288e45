"""How the archives of borgmatic are read back: what is refused, what is run, which archive is whose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import NOTHING, Invocation, Span
from borg_lvm.plugins.read_back import ReadBack, Saved
from borg_lvm_hooks.commands.borgmatic import arguments, calls
from borg_lvm_hooks.commands.borgmatic.calls import Call

DURING = Span(1795990000.0, 1795999999.0)
NAME = "{now}"


class Borgs:
    """A borgmatic whose dry run calls the borg that it is given, and a borg that has archives."""

    def __init__(self, called: Sequence[Sequence[str]], archives: Sequence[tuple[str, str]], release: str) -> None:
        self.called, self.archives, self.release = called, archives, release
        self.argv: list[Sequence[str]] = []

    def output(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        self.argv.append(argv)
        if argv[0] == "borgmatic":
            if argv[1] == "--version":
                return f"{self.release}\n"
            (path,) = (word.partition("=")[2] for word in argv if word.startswith("location.local_path="))
            for words in self.called:
                subprocess.run([path, *words], check=True, timeout=60)
            return ""
        made = [name for name, location in self.archives if location in argv[-1]]
        if argv[1] == "list":
            return json.dumps({"archives": [{"name": name, "start": "2026-11-29T22:40:00"} for name in made]})
        name = argv[-1].partition("::")[2]
        facts = {"name": name, "hostname": "here", "start": "2026-11-29T22:40:00", "end": "2026-11-29T22:40:01"}
        location = argv[-1].partition("::")[0]
        return json.dumps({"archives": [{**facts, "command_line": ["borg", "create", f"{location}::{NAME}", "/x"]}]})

    @contextmanager
    def reading(
        self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
    ) -> Iterator[BinaryIO]:
        self.argv.append(argv)
        listed = [f"{word}/in" for word in argv if word.startswith("/srv")]
        facts = [{"type": "file_status", "status": "-", "path": path} for path in (*listed, "/etc/borgmatic/c.yaml")]
        yield BytesIO("".join(json.dumps(one) + "\n" for one in facts).encode())


def configured(directory: Path, name: str = "config", /, **settings: object) -> Path:
    known = {"source_directories": ["/srv"], "repositories": [{"path": "/r"}], "archive_name_format": NAME}
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps({**known, **settings}))
    return path


def asked(*files: Path, more: Sequence[str] = ()) -> ReadBack:
    argv = "borgmatic", *(f"--config={path}" for path in files), *more, "create"
    found = manager.read_back(("borgmatic",), Invocation(argv, {"HOME": "/root", "BORG_HOSTNAME": "here"}, "/work"))
    assert found
    return found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encryption_passphrase": "{credential file /x}"}, "one of borgmatic's credentials"),
        ({"source_directories": ["/view/./srv", "/etc"]}, "the same directory before a `/./`"),
        ({"source_directories": ["/view/./srv"], "local_path": "/nowhere/borg"}, "borg must say which release it is"),
        ({"extra_borg_options": {"create": "--timestamp 2020-01-01T00:00:00"}}, "a time of the configuration's"),
        ({"read_special": True}, "read_special"),
        ({"postgresql_databases": [{"name": "all"}]}, "which other files it leaves out"),
        ({"source_directories": ["srv"], "working_directory": "/"}, "relative to borgmatic's working directory"),
        ({"repositories": [{"path": "r"}], "working_directory": "/"}, "relative to borgmatic's working directory"),
        ({"lvm": {}}, "makes snapshots of its own"),
    ],
)
def test_what_cannot_be_read_back_is_refused_with_the_reason(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    assert words in asked(configured(tmp_path, **settings)).refused


def test_other_actions_are_refused() -> None:
    found = manager.read_back(("borgmatic",), Invocation(("borgmatic", "list"), {"HOME": "/root"}, "/"))
    assert found
    assert "reads no source paths" in found.refused


def made(borgs: Borgs, *files: Path, more: Sequence[str] = ()) -> list[Saved]:
    found = asked(*files, more=more)
    assert found.refused == ""
    return list(found.archives(borgs, DURING))


@pytest.mark.process
def test_the_dry_run_is_that_of_the_call_which_borgmatic_would_make(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_bytes(b"R /srv\n! fm:\xff\n")
    call = [
        *("create", "--patterns-from", str(rules), "--exclude-caches", "--list", "--filter", "AME"),
        *("--dry-run", f"/r::{NAME}", "/srv"),
    ]
    borgs = Borgs([call], [("one", "/r")], "2.1.10")
    (saved,) = made(borgs, configured(tmp_path))
    rules.unlink()  # as borgmatic does when it has ended
    assert list(saved.expected()) == ["/srv/in"]
    words = list(borgs.argv[-1])
    assert words[:4] == ["borg", "create", "--dry-run", "--list"]
    assert "--filter" not in words
    assert "AME" not in words
    assert words[-2:] == [f"/r::{NAME}", "/srv"]
    assert not os.path.exists(words[words.index("--patterns-from") + 1])


@pytest.mark.process
def test_archives_of_one_name_are_those_of_the_files_in_their_order(tmp_path: Path) -> None:
    first, second = configured(tmp_path, "a"), configured(tmp_path, "b", source_directories=["/srv/b"])
    borgs = Borgs([["create", f"/r::{NAME}", "/srv"]], [("one", "/r"), ("two", "/r")], "2.1.10")
    saved = made(borgs, first, second)
    assert [one.name for one in saved] == ["/r::one", "/r::two"]
    asked_for = [argv[2] for argv in borgs.argv if argv[0] == "borgmatic" and "--dry-run" in argv]
    assert asked_for == [str(first), str(second)]
    assert list(saved[0].expected()) == ["/srv/in"]
    assert list(saved[1].expected()) == []  # nothing that the dry run lists is below /srv/b


@pytest.mark.process
@pytest.mark.parametrize(("source", "is_ours"), [("/", False), ("/borgmatic", True)])
def test_what_borgmatic_adds_is_none_of_its_sources(tmp_path: Path, source: str, *, is_ours: bool) -> None:
    """Its manifest is in the archive as `borgmatic/bootstrap`, which leads to the root, and its dry run has none."""

    class Dumped(Borgs):
        @contextmanager
        def reading(
            self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
        ) -> Iterator[BinaryIO]:
            items = [
                {"path": path, "mode": 0o100644, "uid": 0, "gid": 0, "mtime": 0}
                for path in ("borgmatic/bootstrap/manifest.json", "srv/file")
            ]
            texts = [textwrap.indent(json.dumps(item, indent=4), "    ") for item in items]
            yield BytesIO(('{\n    "_items": [\n' + ",\n".join(texts) + "\n    ]\n}\n").encode())

    borgs = Dumped([["create", f"/r::{NAME}", source]], [("one", "/r")], "2.1.10")
    (saved,) = made(borgs, configured(tmp_path, source_directories=[source]))
    found = [entry.path for entry in saved.entries()]
    assert found == (["/borgmatic/bootstrap/manifest.json"] if is_ours else ["/srv/file"])


def test_more_or_fewer_archives_than_the_run_has_made_are_no_answer(tmp_path: Path) -> None:
    for archives in ([], [("one", "/r"), ("two", "/r")]):
        with pytest.raises(LookupError, match=f"has {len(archives)} archives"):
            made(Borgs([], archives, "2.1.10"), configured(tmp_path))


@pytest.mark.process
def test_a_dry_run_that_calls_another_borg_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="does not call borg as its configuration says"):
        made(Borgs([["create", "/other::{now}", "/srv"]], [("one", "/r")], "2.1.10"), configured(tmp_path))


@pytest.mark.process
@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("2.1.10", ["--override", "lock_wait=5", "--override", "location.local_path="]),
        ("1.7.7", ["--override", "lock_wait=5", "location.local_path="]),
    ],
)
def test_what_the_command_line_changes_is_changed_there_too(
    tmp_path: Path, release: str, expected: Sequence[str]
) -> None:
    borgs = Borgs([["create", f"/r::{NAME}", "/srv"]], [("one", "/r")], release)
    made(borgs, configured(tmp_path), more=["--override", "lock_wait=5", "--no-environment-interpolation", "--list"])
    (words,) = (argv[3:] for argv in borgs.argv if argv[0] == "borgmatic" and "--dry-run" in argv)
    shown = [word.partition("local_path=")[0] + "local_path=" if "local_path=" in word else word for word in words]
    assert shown == [*expected, "--no-environment-interpolation", "--dry-run", "create"]


def test_options_that_stand_for_settings_are_kept() -> None:
    line = arguments.read(["create", "--list", "--exclude-caches", "--compression=zstd", "--stats"])
    assert "--exclude-caches" in line.settings
    assert "--compression=zstd" in line.settings


@pytest.mark.process
def test_the_recorder_hands_everything_but_create_to_borg(tmp_path: Path) -> None:
    line = arguments.read(["create"])
    here = Invocation(("borgmatic", "create"), {"TMPDIR": str(tmp_path)}, "/")
    seen: list[str] = []

    class Asking(Borgs):
        def output(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
            path = next(word.partition("=")[2] for word in argv if "local_path=" in word)
            seen.append(subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout)
            return ""

    program = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]
    assert calls.recorded(here, line, "/etc/c.yaml", program, Asking([], [], "")) == ()
    assert seen == ["['--version']\n"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_patterns_is_written_as_it_was(tmp_path: Path) -> None:
    call = Call(("create", "--exclude-from", "/gone", "/r::a"), {"/gone": os.fsdecode(b"\xff\n")})
    words = list(call.dry_run(str(tmp_path)))
    assert words[-3:] == ["--exclude-from", str(tmp_path / "0"), "/r::a"]
    assert (tmp_path / "0").read_bytes() == b"\xff\n"


def restored(which: Span | str, *files: Path, archives: Sequence[tuple[str, str]] = ()) -> Saved:
    found = asked(*files)
    assert found.restored
    return found.restored(Borgs([], archives, "2.1.10"), which)


def test_for_a_drill_it_is_the_archive_in_the_first_repository_or_one_that_is_named(tmp_path: Path) -> None:
    config = configured(tmp_path, repositories=[{"path": "/r"}, {"path": "/s"}])
    made_there = [("one", "/r"), ("two", "/s")]
    assert restored(DURING, config, archives=made_there).name == "/r::one"
    assert restored("/s::two", config).name == "/s::two"
    assert restored("one", config).name == "/r::one"
    with pytest.raises(LookupError, match="no repository /t, but /r, /s"):
        restored("/t::one", config)
    with pytest.raises(LookupError, match=r"has no archives .* name the archive"):
        restored(DURING, config)


def test_of_several_files_each_has_an_archive_of_its_own(tmp_path: Path) -> None:
    files = configured(tmp_path, "a"), configured(tmp_path, "b", repositories=[{"path": "/s"}])
    with pytest.raises(LookupError, match="2 configuration files"):
        restored(DURING, *files)
    assert restored("/s::two", *files).name == "/s::two"


def test_what_is_not_compared_is_restored_all_the_same(tmp_path: Path) -> None:
    found = asked(configured(tmp_path, postgresql_databases=[{"name": "all"}]))
    assert "which other files it leaves out" in found.refused
    assert found.restored
    assert asked(configured(tmp_path, source_directories=["srv"], working_directory="/")).restored is None
