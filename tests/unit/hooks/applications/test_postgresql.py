"""PostgreSQL's backup mode: what a server must allow, what its label says, and which WAL files a restore needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from borg_lvm.errors import QuiesceError
from borg_lvm_hooks.applications.postgresql import backup_mode

MIB = 1 << 20
# As told by a server of version 15, with WAL files of 1 MiB.
TOLD = {
    "end": "0/5C3A2B8",
    "label": "START WAL LOCATION: 0/5B00028 (file 00000001000000000000005B)\nCHECKPOINT LOCATION: 0/5B000A0\n"
    "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-26 08:00:01 UTC\nLABEL: borg-lvm\n"
    "START TIMELINE: 1\n",
    "map": "16384 /srv/tables/tables\n",
}
MEANS = {"level": "replica", "slots": 10, "segment": MIB, "slot": True, "mode": True}
FACTS = {"recovery": False, "user": "backup", "number": 150018}


def test_what_its_end_tells() -> None:
    ended = backup_mode.ended(TOLD, MIB)
    assert (ended.begin, ended.end) == ("0/5B00028", "0/5C3A2B8")
    assert ended.files == ("00000001000000000000005B", "00000001000000000000005C")
    assert [file.name for file in ended.added("/pg", 5)] == ["backup_label", "tablespace_map"]
    assert [file.name for file in backup_mode.ended({**TOLD, "map": ""}, MIB).added("/pg", 5)] == ["backup_label"]
    with pytest.raises(QuiesceError, match="its backup label is not understood"):
        backup_mode.ended({**TOLD, "label": "something else"}, MIB)


@pytest.mark.parametrize(
    ("first", "last", "segment", "names"),
    [
        ("0/2000028", "0/2000138", 16 * MIB, ["000000070000000000000002"]),
        ("0/2000028", "0/3000000", 16 * MIB, ["000000070000000000000002"]),
        ("0/FF000000", "1/10", 16 * MIB, ["0000000700000000000000FF", "000000070000000100000000"]),
        ("A/0", "A/80000000", 1024 * MIB, ["000000070000000A00000000", "000000070000000A00000001"]),
    ],
)
def test_the_files_that_hold_it(first: str, last: str, segment: int, names: list[str]) -> None:
    assert list(backup_mode.files("00000007", first, last, segment)) == names


@pytest.mark.parametrize(
    ("means", "facts", "why"),
    [
        ({}, {"recovery": True}, "it is a standby"),
        ({"level": "minimal"}, {}, "needs a wal_level above minimal"),
        ({"slots": 0}, {}, "and a replication slot"),
        ({"slot": False}, {}, "the role backup may not make a slot"),
        ({"mode": False}, {}, "the role backup may not call pg_backup_start and pg_backup_stop"),
        ({"mode": False}, {"number": 140003}, "may not call pg_start_backup and pg_stop_backup"),
    ],
)
def test_what_a_server_must_allow(means: dict[str, Any], facts: dict[str, Any], why: str) -> None:
    backup_mode.refuse_unless_possible(MEANS, FACTS)
    with pytest.raises(QuiesceError, match=why):
        backup_mode.refuse_unless_possible(MEANS | means, FACTS | facts)


def test_names_of_its_functions() -> None:
    assert backup_mode.begin(130010) == "SELECT pg_start_backup('borg-lvm', true, false);"
    assert "idle_session_timeout" not in backup_mode.keep(130010, "it")
    assert "idle_session_timeout" in backup_mode.keep(140000, "it")
    assert backup_mode.begin(150004) == "SELECT pg_backup_start('borg-lvm', true);"
    assert "FROM pg_stop_backup(false, false);" in backup_mode.end(140000)
    assert "FROM pg_backup_stop(false);" in backup_mode.end(150000)


def test_a_copy_is_looked_at(tmp_path: Path) -> None:
    ended = backup_mode.ended(TOLD, MIB)
    (tmp_path / "pg_wal").mkdir()
    for name in ended.files:
        (tmp_path / "pg_wal" / name).touch()
    for file in ended.added(str(tmp_path), 0):
        (tmp_path / file.name).write_bytes(file.content)
    assert backup_mode.verify(str(tmp_path), ended, os.geteuid()) == "backup_label, WAL from 0/5B00028 to 0/5C3A2B8"
    (tmp_path / "pg_wal" / ended.files[1]).unlink()
    with pytest.raises(QuiesceError, match="it has no 00000001000000000000005C of the WAL"):
        backup_mode.verify(str(tmp_path), ended, os.geteuid())
    (tmp_path / "backup_label").write_text("another's")
    with pytest.raises(QuiesceError, match="is not the label of this backup"):
        backup_mode.verify(str(tmp_path), ended, os.geteuid())
    (tmp_path / "tablespace_map").unlink()
    (tmp_path / "backup_label").write_bytes(ended.label.encode())
    with pytest.raises(QuiesceError, match="tablespace_map cannot be read"):
        backup_mode.verify(str(tmp_path), ended, os.geteuid())
