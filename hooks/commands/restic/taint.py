"""Finds the snapshot that a `restic backup` has just made, and marks it.

A snapshot is this run's if it was begun while the command ran, on the host that the command line names, of its paths.
If there are two of them, another restic ran beside us, and neither is touched.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from borg_lvm.plugin_api import Invocation, Marked, Runs, Span, Tainted
from borg_lvm_hooks.commands.parsers import options
from borg_lvm_hooks.commands.restic import nodes

TAG = "borg-lvm-tainted"
PASSED_ON = frozenset(
    """--cacert --cache-dir --insecure-no-password --insecure-tls --key-hint --no-cache --option --password-command
    --password-file --repo --repository-file --retry-lock --tls-client-cert""".split()
)


@dataclass(frozen=True)
class Backup:
    """A `restic backup`: how restic is called for its repository, and what its snapshots say of their origin."""

    program: str
    common: tuple[str, ...]
    host: str
    paths: frozenset[str]

    @classmethod
    def of(cls, invocation: Invocation, sources: Sequence[str], given: options.Parsed) -> Backup:
        """Return that of a command line."""
        common = tuple(_option(item) for item in given.given() if item.name in PASSED_ON)
        host = given.last("--host", "--hostname") or invocation.env.get("RESTIC_HOST") or socket.gethostname()
        paths = frozenset(nodes.garbled(os.path.normpath(source)) for source in sources)
        return cls(invocation.argv[0], common, host, paths)

    def snapshots(self, run: Runs, ran: Span) -> list[dict[str, Any]]:
        """Return the snapshots that it may have made when it ran. Raises: ProgramError."""
        return [
            snapshot for snapshot in self._listed(run) if self._is_ours(snapshot) and ran.has(_moment(snapshot["time"]))
        ]

    def named(self, run: Runs, name: str) -> list[dict[str, Any]]:
        """Return the snapshots of an id, or of its beginning. Raises: ProgramError."""
        return [snapshot for snapshot in self._listed(run) if snapshot["id"].startswith(name)]

    def _listed(self, run: Runs) -> list[dict[str, Any]]:
        return json.loads(run([self.program, *self.common, "snapshots", "--json", "--no-lock"])) or []

    def _is_ours(self, snapshot: dict[str, Any]) -> bool:
        return snapshot.get("hostname") == self.host and set(snapshot["paths"]) <= self.paths


def mark(invocation: Invocation, tainted: Tainted, sources: Sequence[str], given: options.Parsed) -> Marked:
    """Mark the snapshot of this run, if there is one that was not finished in time."""
    backup = Backup.of(invocation, sources, given)
    snapshots = backup.snapshots(tainted.run, tainted.ran)
    if not snapshots:
        return Marked(("restic has saved no snapshot in this run",), all_judged=True)
    names = ", ".join(snapshot["short_id"] for snapshot in snapshots)
    if len(snapshots) > 1:
        message = f"borg-lvm cannot tell which of restic's snapshots {names} this run has made: none was touched"
        return Marked((message,))
    if tainted.ran.is_earlier(_moment(snapshots[0]["time"])) and not tainted.only:
        doubt = "the clock was put back to its time while the command ran"
        return Marked((f"restic's snapshot {names} is invalid, unless it is of an earlier run: {doubt}",))
    end = snapshots[0].get("summary", {}).get("backup_end")  # since restic 0.17
    if end and _moment(end) <= tainted.sound_until:
        return Marked((f"restic's snapshot {names} was finished before that: it is sound",), sound=True)
    return Marked((_mark(backup.program, backup.common, snapshots[0]["id"], names, tainted),), all_judged=bool(end))


def _mark(program: str, common: Sequence[str], name: str, names: str, tainted: Tainted) -> str:
    """Do with a snapshot what is wished; returns what there is to report."""
    if tainted.action == "delete":
        tainted.run([program, *common, "forget", name])
        return f"restic's snapshot {names} has been forgotten"
    if tainted.action == "rename":
        tainted.run([program, *common, "tag", "--add", TAG, name])
        return f"restic's snapshot {names} has now the tag {TAG} (and another id): forget it"
    return f"restic's snapshot {names} is invalid: forget it"


def _option(item: options.Given) -> str:
    return item.name if item.value is None else f"{item.name}={item.value}"


def _moment(text: str) -> float:
    """Return one of restic's times as Unix time: Go writes nanoseconds, of which Python reads six digits."""
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text)).timestamp()
