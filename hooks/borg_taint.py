"""Finds the archive that a `borg create` of borg 1 has just made, and marks it.

An archive is this run's if it was begun while the command ran, on this machine, by the very same command line: borg
writes all three down. Its repository is locked while it writes, so there is no second one.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from borg_lvm.command import Invocation, Tainted

from . import options

PREFIX = "borg-lvm-tainted-"
"""In front, so that a pattern such as `host-*` does not match any more: `borg prune` must not count such an archive."""
PASSED_ON = ("--remote-path", "--rsh", "--umask", "--lock-wait")
MOST = "20"  # of the latest archives are looked at


def mark(invocation: Invocation, tainted: Tainted, repository: str, given: options.Parsed) -> list[str]:
    """Mark the archive of this run, if there is one; returns what there is to tell."""
    common = [f"{item.name}={item.value}" for item in given.given() if item.name in PASSED_ON]
    borg = _Borg(invocation.argv[0], repository, common, tainted)
    made = [name for name in borg.latest() if _is_ours(borg.info(name), invocation, tainted)]
    return [borg.mark(name) for name in made] or ["borg has saved no archive in this run"]


class _Borg:
    """One repository, as the program itself sees it."""

    def __init__(self, program: str, repository: str, common: list[str], tainted: Tainted) -> None:
        self._program = program
        self._repository = repository
        self._common = common
        self._tainted = tainted

    def _run(self, command: str, *words: str) -> str:
        return self._tainted.run([self._program, command, *self._common, *words])

    def latest(self) -> Iterator[str]:
        """Yield the names of the archives, those of interrupted runs too, that were begun while the command ran."""
        options = ("--json", "--consider-checkpoints", "--sort-by", "timestamp", "--last", MOST)
        for archive in json.loads(self._run("list", *options, self._repository))["archives"]:
            if _within(archive["start"], self._tainted):
                yield archive["name"]

    def info(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run("info", "--json", f"{self._repository}::{name}"))["archives"][0]
        return found

    def mark(self, name: str) -> str:
        if self._tainted.wish == "delete":
            self._run("delete", f"{self._repository}::{name}")
            return f"borg's archive {name} has been deleted"
        if self._tainted.wish == "keep" or name.startswith(PREFIX):
            return f"borg's archive {name} is not to be trusted: delete it"
        self._run("rename", f"{self._repository}::{name}", PREFIX + name)
        return f"borg's archive {name} is now called {PREFIX}{name}: delete it"


def _is_ours(info: dict[str, Any], invocation: Invocation, tainted: Tainted) -> bool:
    command = [os.fsencode(word) for word in info["command_line"][1:]]
    same = command == [os.fsencode(word) for word in invocation.argv[1:]]
    return same and info["hostname"] == socket.gethostname() and _within(info["start"], tainted)


def _within(start: str, tainted: Tainted) -> bool:
    """Tell whether borg's local time lies within the run; borg 1.1 and 1.2 cut it to whole seconds at times."""
    return tainted.begin - 1 <= datetime.fromisoformat(start).timestamp() <= tainted.end
