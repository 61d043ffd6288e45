"""Finds the archives of borg 1's that a run has just made, and marks them.

An archive is this run's if it was begun while the command ran, on this machine, by the very command line that the run
gave borg: borg writes all three down. Its repository is locked while it writes, so there is no second one meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from borg_lvm.plugin_api import Invocation, Marked, Tainted
from borg_lvm_hooks.commands.parsers import options

PREFIX = "borg-lvm-tainted-"
"""In front, so that a pattern such as `host-*` does not match any more: `borg prune` must not count such an archive."""
PASSED_ON = ("--remote-path", "--rsh", "--umask", "--lock-wait")
UTC_TIMES = {"TZ": "UTC"}
"""borg 1 writes times without a zone: so the hour that comes twice, when summer time ends, is distinguished."""
CUT = 1.0
"""Seconds by which borg 1.1 and 1.2 cut their times at times."""
PUT_BACK = "the clock was put back to its time while the command ran"
MOST = "20"  # of the latest archives are examined
KNOWN = "{hostname}{command_line}{end}"
"""What else `borg list --json` is to say of each."""
IsOurs = Callable[[Sequence[str]], bool]
"""Returns whether a command line, without the program's name, is one that the run gave borg."""


@dataclass(frozen=True)
class Repository:
    """Where archives may be, and how borg is called for it: with these `common` options, and this besides in its `env`.

    `hosts` are the names by which this machine may be known there.
    """

    program: tuple[str, ...]
    location: str
    common: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()


def mark(invocation: Invocation, tainted: Tainted, repository: str, given: options.Parsed) -> Marked:
    """Mark the archive that this command line has made, if there is one."""
    borg = Borg(place(invocation, repository, given), tainted)
    return borg.marked(borg.archives(same_words(invocation)))


def place(invocation: Invocation, repository: str, given: options.Parsed) -> Repository:
    """Return where a command line of borg's has its archive made."""
    return Repository((invocation.argv[0],), repository, common(given), hosts=hosts(invocation.env))


def same_words(invocation: Invocation) -> IsOurs:
    """Return a test of whether an archive was made by this very command line."""
    command = words(invocation.argv[1:])
    return lambda said: words(said) == command


NONE = "borg has saved no archive in this run"


def moment(text: str) -> float:
    """Return one of borg's times, which are UTC as we ask for them, as Unix time."""
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def common(given: options.Parsed) -> tuple[str, ...]:
    """Return those of the options that borg needs for the repository, whatever is to be done with it."""
    return tuple(f"{item.name}={item.value}" for item in given.given() if item.name in PASSED_ON)


def hosts(env: Mapping[str, str]) -> frozenset[str]:
    """Return the names that borg may write down for this machine: before 1.4.5 it does not look at BORG_HOSTNAME."""
    return frozenset(filter(None, (socket.gethostname(), env.get("BORG_HOSTNAME"))))


def words(command: Sequence[str]) -> list[bytes]:
    """Return a command line as the kernel has it, for comparing."""
    return [os.fsencode(word) for word in command]


@dataclass(frozen=True)
class Archive:
    """An archive of this run's, and whether it was finished when all snapshots were right.

    It may be an earlier one (`doubtful`) if the clock was put back to its time while the command ran.
    """

    name: str
    sound: bool
    doubtful: bool = False


class Borg:
    """One repository, as the program itself sees it."""

    def __init__(self, repository: Repository, tainted: Tainted) -> None:
        self._repository = repository
        self._tainted = tainted

    def _run(self, command: str, *words: str) -> str:
        argv = [*self._repository.program, command, *self._repository.common, *words]
        return self._tainted.run(argv, env={**self._repository.env, **UTC_TIMES})

    def _archive(self, name: str) -> str:
        return f"{self._repository.location}::{name}"

    def archives(self, is_ours: IsOurs) -> list[Archive]:
        """Return the archives that this run has made."""
        return [self._archive_of(info) for info in self._latest() if self._is_ours(info, is_ours)]

    def _archive_of(self, info: Mapping[str, Any]) -> Archive:
        earlier = self._tainted.ran.is_earlier(moment(info["start"]), CUT)
        return Archive(info["name"], self._is_sound(info), earlier)

    def _latest(self) -> Iterator[dict[str, Any]]:
        """Yield what borg knows of the archives, also of interrupted runs, that were begun while the command ran.

        `borg info` would say the same, and read all metadata of an archive for that. It is asked only where the list
        does not show: before borg 1.1.18, and of a command line with bytes that are no UTF-8.
        """
        options = ("--json", "--format", KNOWN, "--consider-checkpoints", "--sort-by", "timestamp", "--last", MOST)
        for archive in json.loads(self._run("list", *options, self._repository.location))["archives"]:
            if self._is_of_the_time(archive["start"]):
                is_whole = "command_line" in archive and not any("?" in word for word in archive["command_line"])
                yield archive if is_whole else self._info(archive["name"])

    def _info(self, name: str) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self._run("info", "--json", self._archive(name)))["archives"][0]
        return info

    def _is_ours(self, info: dict[str, Any], is_ours: IsOurs) -> bool:
        here = info["hostname"] in self._repository.hosts
        return here and self._is_of_the_time(info["start"]) and is_ours(info["command_line"][1:])

    def _is_of_the_time(self, start: str) -> bool:
        """Return whether borg's local time lies within the run."""
        return self._tainted.ran.has(moment(start), CUT)

    def _is_sound(self, info: Mapping[str, Any]) -> bool:
        """Return whether an archive was finished in time; a checkpoint is what an interrupted run has left."""
        return ".checkpoint" not in info["name"] and moment(info["end"]) + 1 <= self._tainted.sound_until

    def marked(self, archives: Sequence[Archive]) -> Marked:
        """Do with each archive what is wished, but for those that are sound."""
        only = self._tainted.only
        wrong = [archive for archive in archives if not only or self._archive(archive.name) in only]
        lines = tuple(map(self._mark, wrong)) or ((NONE,) if not archives else ())
        return Marked(lines, bool(wrong) and all(archive.sound for archive in wrong), all_judged=True)

    def _mark(self, archive: Archive) -> str:
        name = archive.name
        if archive.doubtful and not self._tainted.only:
            return f"borg's archive {name} is invalid, unless it is of an earlier run: {PUT_BACK}"
        if archive.sound:
            return f"borg's archive {name} was finished before that: it is sound"
        if self._tainted.action == "delete":
            self._run("delete", self._archive(name))
            return f"borg's archive {name} has been deleted"
        if self._tainted.action == "keep" or name.startswith(PREFIX):
            return f"borg's archive {name} is invalid: delete it"
        self._run("rename", self._archive(name), PREFIX + name)
        return f"borg's archive {name} is now called {PREFIX}{name}: delete it"
