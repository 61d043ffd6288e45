"""The words of single verbs: `begin` and `end`, but for those that a run has as well, and `drill`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from borg_lvm.cli import values

DRILL = "restore applications from an archive of COMMAND, start and judge them in a sandbox, remove them"
LONGEST = 6 * 3600.0
"""Seconds that a drill may take, if nothing else is said."""


def fill_begin(begin: argparse.ArgumentParser) -> None:
    """Add the options of `begin`."""
    begin.usage = "%(prog)s NAME [options] [--path PATH]… [--live PATH]…"
    begin.add_argument("name", metavar="NAME", help="the name of the view: letters, digits, - and _")
    begin.add_argument(
        "--limit",
        type=values.limit,
        metavar="SECONDS",
        help="remove the view if `end` has not come by then (default: a day, or as configured)",
    )
    begin.add_argument(
        "--print",
        choices=("directory", "paths", "kopia"),
        help="print the directory of the view, its source paths, or the variable that Kopia reads",
    )


def fill_end(end: argparse.ArgumentParser) -> None:
    """Add the options of `end`."""
    end.usage = "%(prog)s [options] NAME [--status N] [--prove MODE] [-- COMMAND …]"
    end.add_argument("name", metavar="NAME", help="the name that was given to `begin`")
    end.add_argument(
        "--status", type=values.status, default=0, metavar="N",
        help="how the backup has ended: an exit status, a signal's name, or '' if it never began (default: 0)",
    )  # fmt: skip
    end.add_argument(
        "--prove", choices=("off", "list", "sample", "all"),
        help="read back first what COMMAND has saved, and compare it with the snapshots (default: as for `begin`);"
        " COMMAND …, after --, is the command line that has read the view",
    )  # fmt: skip
    end.set_defaults(command=[])


def fill_drill(drill: argparse.ArgumentParser) -> None:
    """Add the options of `drill`."""
    drill.description = f"{DRILL[0].upper()}{DRILL[1:]}. COMMAND is the command that makes the backups, word for word."
    drill.usage = "%(prog)s [options] [APPLICATION …] -- COMMAND …"
    drill.add_argument(
        "applications", nargs="*", metavar="APPLICATION",
        help="its name in the configuration; VG/LV of a volume that was saved as a device (default: all)",
    )  # fmt: skip
    which = drill.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="RUN", default="", help="the archive of this run (default: of the newest)")
    which.add_argument("--archive", metavar="NAME", default="", help="this archive, as the backup program calls it")
    drill.add_argument(
        "--scratch", metavar="DIRECTORY", default="",
        help="restore to a new directory below this (default: to a new logical volume, out of free extents)",
    )  # fmt: skip
    drill.add_argument(
        "--time-limit", type=values.time_limit, default=LONGEST, metavar="SECONDS",
        help="how long the whole drill may take (default: 6 hours)",
    )  # fmt: skip
    drill.set_defaults(command=[])


def parted(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what is ours of a command line, and the command that follows `--` where names may stand before it."""
    if next(iter(words), "") not in ("drill", "end") or "--" not in words:
        return words, ()
    place = words.index("--")
    return words[:place], words[place + 1 :]
