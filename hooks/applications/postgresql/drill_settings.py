"""Settings of a PostgreSQL server that starts from what was restored, and acts on its own files alone. Pure.

They are a configuration of ours: the restored one may lie elsewhere, and what ALTER SYSTEM has left is put aside. Of
the old ones only those are kept without which a recovery does not begin; pg_controldata prints them.
Source: PostgreSQL documentation, chapter 20; src/backend/access/transam/xlog.c (`CheckRequiredParameterValues`),
src/backend/replication/slot.c (`RestoreSlotFromDisk`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

OFF: Mapping[str, str] = {
    # What calls programs, or loads libraries, which may do anything: pg_cron is one.
    "archive_mode": "off",
    "archive_command": "",
    "restore_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    # What talks to others: a standby's stream, subscriptions, clients.
    "primary_conninfo": "",
    "primary_slot_name": "",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "listen_addresses": "",
    "ssl": "off",
    "external_pid_file": "",
    # What changes data by itself, calling functions that users have made.
    "autovacuum": "off",
    # What would leave the sandbox's log, or need more of the machine than a look at all tables does.
    "logging_collector": "off",
    "log_destination": "stderr",
    "lc_messages": "C",
    "jit": "off",
    "fsync": "off",
    "huge_pages": "off",
    "shared_buffers": "64MB",
}
NEWER: Mapping[str, tuple[int, str]] = {"archive_library": (15, ""), "event_triggers": (17, "off")}
"""Settings that older majors do not know, by the first major that does."""
KEPT = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
    "track_commit_timestamp setting": "track_commit_timestamp",
}
SPARE_SLOTS = 10


def settings(major: int, control: str, slots: int, socket: str) -> dict[str, str]:
    """Return all settings, for a cluster of a major version that has so many replication slots.

    `control` is what pg_controldata prints, `socket` the directory for the server's socket.
    """
    known = dict(re.findall(r"^([^:\n]+):\s+(\S+)$", control, re.MULTILINE))
    kept = {name: known[label] for label, name in KEPT.items() if label in known}
    newer = {name: value for name, (since, value) in NEWER.items() if major >= since}
    return {
        **OFF,
        **newer,
        **kept,
        "wal_level": "logical",  # a slot of logical replication keeps a server of less from starting
        "max_replication_slots": str(slots + SPARE_SLOTS),
        "unix_socket_directories": socket,
        "unix_socket_permissions": "0700",
    }


def as_file(settings: Mapping[str, str]) -> str:
    """Return them as a configuration file."""
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def has_checksums(control: str) -> bool:
    """Whether the cluster has checksums of its pages, as pg_controldata says."""
    match = re.search(r"^Data page checksum version:\s+(\d+)$", control, re.MULTILINE)
    return match is not None and match[1] != "0"
