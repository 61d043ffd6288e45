"""The configuration by which a restored PostgreSQL server starts: what is switched off, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_lvm.errors import ConfigError
from borg_lvm.plugins.drill import Restored
from borg_lvm_hooks.applications.postgresql import drill, drill_settings

CONTROL = """\
pg_control version number:            1300
Database cluster state:               in production
wal_level setting:                    replica
wal_log_hints setting:                off
max_connections setting:              317
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           20
max_locks_per_xact setting:           64
track_commit_timestamp setting:       on
Data page checksum version:           1
"""
"""Of PostgreSQL 15's pg_controldata."""


@pytest.mark.parametrize(
    ("major", "newer"), [(13, set()), (15, {"archive_library"}), (17, {"archive_library", "event_triggers"})]
)
def test_what_a_major_knows_is_switched_off(major: int, newer: set[str]) -> None:
    found = drill_settings.settings(major, CONTROL, 3, "/tmp/socket")
    assert newer == {"archive_library", "event_triggers"} & found.keys()
    off = ("archive_command", "restore_command", "primary_conninfo", "shared_preload_libraries", "listen_addresses")
    assert {found[name] for name in off} == {""}
    assert (found["archive_mode"], found["max_logical_replication_workers"], found["autovacuum"]) == ("off", "0", "off")


def test_what_a_recovery_needs_is_kept() -> None:
    found = drill_settings.settings(15, CONTROL, 3, "/tmp/socket")
    assert (found["max_connections"], found["max_prepared_transactions"]) == ("317", "20")
    assert (found["track_commit_timestamp"], found["max_replication_slots"], found["wal_level"]) == (
        "on",
        "13",
        "logical",
    )
    assert "max_connections = '317'\n" in drill_settings.as_file(found)


def test_whether_there_are_checksums() -> None:
    assert drill_settings.has_checksums(CONTROL)
    assert not drill_settings.has_checksums(CONTROL.replace("version:           1", "version:           0"))
    assert not drill_settings.has_checksums("")


@pytest.mark.process
def test_programs_that_are_somebody_elses_are_not_started_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "postgres"
    server.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 'postgres (PostgreSQL) 15.1'\n")
    server.chmod(0o757)
    monkeypatch.setattr(drill, "PLACES", (str(tmp_path),))
    judge = drill.PostgreSQLJudge(Restored("pg", "15.1", ("/srv/pg",), ("data",), "", None))
    with pytest.raises(ConfigError, match="could be changed by others than root"):
        judge.prepare()
    assert not (tmp_path / "started").exists()
