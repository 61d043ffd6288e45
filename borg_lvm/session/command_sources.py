"""Which sources a command has: what it names itself, what the user names beside it, and what cannot be meant."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from borg_lvm.config.schema import Settings
from borg_lvm.errors import SourceError, UsageError, shell_word
from borg_lvm.machine import mounts
from borg_lvm.machine.paths import SeenPath, impossible, look
from borg_lvm.planning.view_layout import Resolved, Wanted
from borg_lvm.plugins.backup_command import Reading

STANDARD_INPUT = 0


def sources(named: Sequence[str], settings: Settings, reading: Reading) -> tuple[str, ...]:
    """Return what is to be frozen: what the user has named, else what the command reads.

    Raises: UsageError when that is not known.
    """
    if named:
        return tuple(named)
    if reading.problems:
        raise UsageError(
            f"borg-lvm cannot tell which paths this {reading.program} command reads",
            details=reading.problems,
            remedy=_way_out(reading.problems),
        )
    if reading.sources or settings.paths:
        return reading.sources or settings.paths
    raise UsageError(
        f"borg-lvm does not know which paths {reading.program} reads",
        remedy=f"name them: borg-lvm run --path PATH … -- {reading.program} … (or `paths:` in the configuration)",
    )


def _way_out(problems: Sequence[str]) -> str:
    """Return the remedy that all problems have in common, unless one has a remedy of its own."""
    if all("--path" in problem for problem in problems):
        return "name them yourself: borg-lvm run --path PATH … -- COMMAND …"
    return ""


def refuse_impossible(paths: Sequence[str]) -> None:
    """Refuse names that no file can have: no system call takes them."""
    wrong = tuple(f"{path!r}: {why}" for path in paths if (why := impossible(path)))
    if wrong:
        raise SourceError("no file can have such a name; nothing was done", details=wrong)


def refuse_others(wanted: Wanted, reading: Reading) -> None:
    """Refuse sources of the command's own that no --path holds: nobody has said that they may be read live.

    Where the command line is not understood, --path is all that is known.
    """
    named = {path for seen in (*wanted.sources, *wanted.declared) for path in (seen.real, seen.target) if path}
    others = [
        source
        for source in (() if reading.problems else reading.sources)
        for real in [look(source)]
        if real.kind != "missing" and not named & {real.behind, *mounts.above(real.behind)}
    ]
    if others:
        listed = ", ".join(others)
        raise UsageError(
            f"the command also reads {listed}, which no --path names",
            remedy=f"leave --path out, for the command line is understood; or name {others[0]} as well, by --path "
            "or, if it may be read live, by --live",
        )


def read_live(wanted: Wanted, resolved: Resolved, reading: Reading) -> Iterator[tuple[str, str]]:
    """Yield the sources of the command's own that are declared live, where the user names those to be frozen."""
    declared = {seen.behind: seen.given for seen in wanted.declared}
    frozen = {frozen_path.target for frozen_path in resolved.frozen}
    for source in reading.sources if wanted.named else ():
        real = look(source)
        ways = [real.behind, *mounts.above(real.behind)]
        over = next((path for path in ways if path in declared or path in frozen), None)
        if over in declared and real.kind != "missing":
            yield source, declared[over]


def refuse_devices(reading: Reading, sources: Sequence[SeenPath]) -> None:
    """Refuse what would not save what the user means: the name of a device, or devices below a directory, read live."""
    name = reading.program
    if reading.reads_devices:
        wrong = [seen for seen in sources if not (seen.device or seen.regular)]
        why = f"{name} also reads the devices and named pipes that it finds there, which stay live"
        remedy = "give devices to a command of their own; if there are none below the others, name these with --path"
    else:
        wrong = [seen for seen in sources if seen.device]
        why = f"{name} saves the name of this device, not what is on it"
        hint = "give it --read-special" if name == "borg" else "read it by a program that does"
        remedy = f"{hint}, as in: borg-lvm run --path {shell_word(wrong[0].given)} -- …" if wrong else ""
    if wrong and sources:
        details = tuple(f"{seen.given}: {why}" for seen in wrong)
        raise UsageError("the command would not save what is frozen", details=details, remedy=remedy)


def refuse_standard_input(resolved: Resolved) -> None:
    """Refuse a command whose standard input is one of the devices that are to be frozen: it was opened before.

    What the shell has opened stays the live device, whatever is mounted over its name afterwards.
    """
    try:
        seen = os.fstat(STANDARD_INPUT)
    except OSError:  # it is closed
        return
    number = f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}" if stat.S_ISBLK(seen.st_mode) else ""
    frozen = next((frozen_path for frozen_path in resolved.frozen if frozen_path.mount.device == number), None)
    if frozen:
        raise UsageError(
            f"the standard input is the live device of {frozen.target}, opened before it is frozen",
            remedy="have the command open it: borg-lvm run --path DEVICE … -- sh -c 'COMMAND … <DEVICE'",
        )
