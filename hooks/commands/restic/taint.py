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
from datetime import datetime
from typing import Any

from borg_lvm.plugin_api import Invocation, Marked, Tainted
from borg_lvm_hooks.commands.parsers import options

TAG = "borg-lvm-tainted"
PASSED_ON = frozenset(
    """--cacert --cache-dir --insecure-no-password --insecure-tls --key-hint --no-cache --option --password-command
    --password-file --repo --repository-file --retry-lock --tls-client-cert""".split()
)


def mark(invocation: Invocation, tainted: Tainted, sources: Sequence[str], given: options.Parsed) -> Marked:
    """Mark the snapshot of this run, if there is one that was not finished in time."""
    common = [_option(item) for item in given.given() if item.name in PASSED_ON]
    program = invocation.argv[0]
    host = given.last("--host", "--hostname") or invocation.env.get("RESTIC_HOST") or socket.gethostname()
    paths = {os.path.normpath(source) for source in sources}
    listed = json.loads(tainted.run([program, *common, "snapshots", "--json", "--no-lock"]))
    made = [one for one in listed or () if _is_ours(one, host, paths, tainted)]
    if not made:
        return Marked(("restic has saved no snapshot in this run",))
    names = ", ".join(one["short_id"] for one in made)
    if len(made) > 1:
        told = f"borg-lvm cannot tell which of restic's snapshots {names} this run has made: none was touched"
        return Marked((told,))
    end = made[0].get("summary", {}).get("backup_end")  # since restic 0.17
    if end and _moment(end) <= tainted.sound_until:
        return Marked((f"restic's snapshot {names} was finished before that: it is sound",), sound=True)
    return Marked((_mark(program, common, made[0]["id"], names, tainted),))


def _mark(program: str, common: Sequence[str], name: str, names: str, tainted: Tainted) -> str:
    """Do with a snapshot what is wished; returns what there is to tell."""
    if tainted.wish == "delete":
        tainted.run([program, *common, "forget", name])
        return f"restic's snapshot {names} has been forgotten"
    if tainted.wish == "rename":
        tainted.run([program, *common, "tag", "--add", TAG, name])
        return f"restic's snapshot {names} has now the tag {TAG} (and another id): forget it"
    return f"restic's snapshot {names} is invalid: forget it"


def _option(item: options.Given) -> str:
    return item.name if item.value is None else f"{item.name}={item.value}"


def _is_ours(snapshot: dict[str, Any], host: str, paths: set[str], tainted: Tainted) -> bool:
    if snapshot.get("hostname") != host or not set(snapshot["paths"]) <= paths:
        return False
    return tainted.begin <= _moment(snapshot["time"]) <= tainted.end


def _moment(text: str) -> float:
    """Return one of restic's times as Unix time: Go writes nanoseconds, of which Python reads six digits."""
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text)).timestamp()
