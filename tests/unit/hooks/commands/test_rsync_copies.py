"""What a drill restores from a copy of rsync's: all that is there, as it is there, if it is that of the run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.plugins.read_back import ReadBack
from tests.unit.data.recorded import Recorded


def asked(*argv: str) -> ReadBack:
    found = manager.read_back(("rsync",), Invocation(argv, {"HOME": "/root"}, "/work"))
    assert found
    return found


def test_what_is_of_no_source_is_left_out_and_nothing_is_asked_of_the_sources(tmp_path: Path) -> None:
    for name in ("db/file", "other/file", ".hidden"):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_text(name)
    found = asked("rsync", "-rt", "/srv/db", f"{tmp_path}/copy/")
    assert found.archive == f"{tmp_path}/copy"
    assert found.restored
    saved = found.restored(Recorded({}), f"{tmp_path}/copy")
    entries = {entry.path: entry for entry in saved.entries()}
    assert set(entries) == {"/srv/db", "/srv/db/file"}
    assert entries["/srv/db/file"].uid == os.getuid()  # though this rsync has not kept it


def test_what_was_changed_since_is_not_that_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "file").touch()
    found = asked("rsync", "-a", "/srv/", f"{tmp_path}/copy")
    assert found.restored
    found.restored(Recorded({}), Span(0, time.time() + 1))
    with pytest.raises(LookupError, match=r"copy.* was changed after that run, at .*--archive"):
        found.restored(Recorded({}), Span(0, time.time() - 60))
    with pytest.raises(LookupError, match="there is no directory /work/none"):
        found.restored(Recorded({}), "none")
