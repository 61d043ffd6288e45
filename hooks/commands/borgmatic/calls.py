"""The calls of `borg create` that a borgmatic would make now: by its own dry run, with a borg that writes them down.

What borgmatic makes of its configuration depends on its release, and the files of patterns that it gives borg are gone
when it has ended. In a dry run it runs no hooks, dumps no databases and notifies nobody.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from borg_lvm.plugin_api import Invocation, Programs
from borg_lvm_hooks.commands.borgmatic.arguments import CommandLine

LISTS = "--patterns-from", "--exclude-from"
UNHELPFUL = "--filter"
"""Its value is the next word; it would keep the dry run from naming all."""
NAME = "borg"
CALLS = "calls"
RECORDER = """\
#!/bin/sh
test "$1" = create || exec {program} "$@"
exec {python} -I -c {code} {calls} "$@"
"""
CODE = f"""\
import json, os, sys
calls, *words = sys.argv[1:]
files = {{}}
for option, name in zip(words, words[1:]):
    if option in {LISTS!r}:
        with open(name, "rb") as file:
            files[name] = os.fsdecode(file.read())
with open(calls, "a") as file:
    print(json.dumps([words, files]), file=file)
"""
"""It is given borg's command line, and adds that and the files of patterns to the file of calls."""
SEVERAL_BEFORE = (1, 8)
"""Before this release one `--override` has all values, and only the last one counts; since then each has one."""


@dataclass(frozen=True)
class Call:
    """A call of `borg create`: its words behind the program's name, and its files of patterns by their names."""

    words: tuple[str, ...]
    files: Mapping[str, str]

    def dry_run(self, directory: str) -> Iterator[str]:
        """Yield the words of its dry run; `directory` is an empty directory for the files of patterns."""
        yield from ("create", "--dry-run", "--list", "--log-json")
        before = ""
        for word in self.words[1:]:
            if before in LISTS:
                path = os.path.join(directory, str(len(os.listdir(directory))))
                with open(path, "wb") as file:
                    file.write(os.fsencode(self.files[word]))
                yield path
            elif UNHELPFUL not in (before, word):
                yield word
            before = word


def recorded(
    invocation: Invocation, line: CommandLine, config: str, program: Sequence[str], programs: Programs
) -> Sequence[Call]:
    """Return the calls by which borgmatic would save what one file of its configuration says, in their order.

    `program` is the borg of that file. Raises: ProgramError; LookupError if borgmatic cannot be given another borg.
    """
    with temporary(invocation, executable=True) as directory:
        path, calls = os.path.join(directory, NAME), os.path.join(directory, CALLS)
        words = {"program": shlex.join(program), "python": shlex.quote(sys.executable), "code": shlex.quote(CODE)}
        with open(path, "w", encoding="utf-8") as file:
            file.write(RECORDER.format(calls=shlex.quote(calls), **words))
        os.chmod(path, 0o700)
        programs.output([invocation.argv[0], *_words(invocation, line, config, path, programs)])
        if not os.path.exists(calls):
            return ()
        with open(calls, encoding="utf-8") as file:
            return [Call(tuple(words), files) for words, files in map(json.loads, file)]


def _words(invocation: Invocation, line: CommandLine, config: str, borg: str, programs: Programs) -> Iterator[str]:
    """Yield the words of borgmatic's dry run. A word without a dash behind `--override` would be a value of its."""
    overrides = [*line.changes.overrides, f"location.local_path={borg}"]
    yield from ("--config", config)
    if len(overrides) > 1 and _release(programs.output([invocation.argv[0], "--version"])) < SEVERAL_BEFORE:
        yield from ("--override", *overrides)
    else:
        yield from (word for override in overrides for word in ("--override", override))
    yield from line.settings
    if not line.changes.interpolates:
        yield "--no-environment-interpolation"
    yield from ("--dry-run", "create")


def _release(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text.strip())
    return tuple(map(int, match.groups())) if match else SEVERAL_BEFORE


@contextmanager
def temporary(invocation: Invocation, *, executable: bool = False) -> Iterator[str]:
    """Have a directory for a while, where programs can be started if it is to be `executable`. Raises: LookupError."""
    for place in (invocation.env.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp", "/dev/shm", "/run"):  # noqa: S108
        try:
            flags = os.statvfs(place).f_flag
        except OSError:
            continue
        if not flags & os.ST_RDONLY and not (executable and flags & os.ST_NOEXEC):
            with tempfile.TemporaryDirectory(prefix="borg-lvm-", dir=place) as directory:
                yield directory
            return
    raise LookupError("there is no temporary directory in which a program can be started: name one in TMPDIR")
