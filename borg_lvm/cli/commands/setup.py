"""`borg-lvm setup`: units, man pages, completions and examples for the program where it lies."""

from __future__ import annotations

import argparse
import sys

from borg_lvm.cli import options, output
from borg_lvm.errors import ConfigError, shell_word
from borg_lvm.installation import disk, files, programs, record
from borg_lvm.installation.layout import Layout
from borg_lvm.log import Log


def perform(args: argparse.Namespace, log: Log) -> int:
    """Print what is to be done, and do it if that was asked for."""
    if args.write or args.remove:
        options.refuse_all_but_root()
    place = "" if args.remove else programs.directory(sys.argv[0])
    wanted = [] if args.remove else files.files(Layout(place))
    recorded = record.read()
    present = disk.present([*(file.path for file in wanted), *recorded])
    changes = record.compare(wanted, recorded, present)
    _show(changes, present)
    for path in changes.kept:
        log.warning(f"{path} has been changed since setup wrote it: it stays")
    if not (args.write or args.remove):
        log.info("nothing was written; to write these files: borg-lvm setup --write" if changes.write else
                 "all files are there; to remove them: borg-lvm setup --remove")  # fmt: skip
        return 0
    if args.write:
        programs.refuse_what_others_could_change(place)
        _refuse_foreign(changes)
        disk.make_configuration_directory()
    disk.apply(wanted, changes)
    log.info(_conclusion(args.remove, changes))
    return 0


def _show(changes: record.Changes, present: dict[str, str]) -> None:
    output.lines(f"{'replace' if file.path in present else 'write'} {file.path}" for file in changes.write)
    output.lines(f"remove {path}" for path in changes.remove)


def _refuse_foreign(changes: record.Changes) -> None:
    """Raise ConfigError for files in the way that setup has not written, or that were changed since."""
    if changes.foreign:
        raise ConfigError(
            "these files are not as setup has written them, and nothing was written",
            details=changes.foreign,
            remedy="move them away: " + "; ".join(f"mv {shell_word(path)} /root" for path in changes.foreign),
        )


def _conclusion(removed: bool, changes: record.Changes) -> str:
    if removed:
        return f"{len(changes.remove)} files removed; the configuration in {disk.CONFIGURATION} and the history stay"
    count = f"{len(changes.write)} files written, {len(changes.remove)} removed"
    return f"{count}; no unit is started or enabled: borg-lvm@.service has the commands that do that"
