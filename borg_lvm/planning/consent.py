"""Messages about live paths: how to leave one live, tomorrow as well, and which are not read then. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from borg_lvm.errors import SourceError, shell_word
from borg_lvm.machine.mounts import Mount, Table, above, join, nearest, relative, upwards
from borg_lvm.machine.paths import SeenPath
from borg_lvm.planning.view_layout import DECLARED, FrozenPath, Resolved, Wanted
from borg_lvm.planning.volumes import Crypt
from borg_lvm.plugins.backup_command import LivePath

_PASSING = re.compile(r"[0-9a-f]{12,}(-init)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the names of containers look like, of which there will be others tomorrow."""
_NUMBER = re.compile(r"x?[0-9]+")
"""Those of revisions and users; a disk may be called so, too."""
_OF_CONTAINERS = frozenset("overlay squashfs".split())


def if_live(path: str) -> str:
    """Say how a path is left live, on the command line and for good."""
    word = shell_word(path)
    key = f"live: [{path}]" if word == path and "," not in path else "live:"
    return f"if it may be read live: --live {word}, or `{key}` in the configuration"


def no_key(name: str, crypt: Crypt, mount: Mount) -> str:
    """Say how a volume that nothing opens is opened, or left live."""
    return (
        f"{mount.path}: it lies on {name}, which is encrypted, and the kernel does not give the key of the mapping "
        f"{crypt.name}: name a key file, in /etc/crypttab or under `luks:` in the configuration (`volume: {name}`), "
        f"and a detached header, if it has one, in /etc/crypttab (`header=`); {if_live(mount.path)}"
    )


def nothing_to_freeze(resolved: Resolved) -> SourceError:
    """Return the error for a run that would read everything live."""
    live = [f"{path}: declared live (--live {declared})" for path, declared in resolved.live_sources]
    return SourceError(
        "there is nothing to freeze; nothing was done",
        details=(*live, *resolved.notes),
        remedy="name with --path what is to be frozen below it, or run the command without borg-lvm"
        if resolved.live_sources
        else "run the command without borg-lvm, or name another source path",
    )


def way_out(frozen_path: FrozenPath, resolved: Resolved) -> str:
    """Say how a path is left live, tomorrow as well: containers get new names every day."""
    if frozen_path.because == frozen_path.target:
        return if_live(frozen_path.target)
    kind = frozen_path.mount.fstype
    if not (kind in _OF_CONTAINERS or kind.startswith("fuse.")):
        return if_live(_stable(frozen_path, resolved, (_PASSING,)))
    stable = _stable(frozen_path, resolved, (_PASSING, _NUMBER))
    return f"{if_live(stable)} (or --live-type {kind}, for all of its kind)"


def unwritable(resolved: Resolved, beside: Iterable[tuple[SeenPath, LivePath]]) -> Iterator[str]:
    """Refuse each file that the command reads by writing beside it, if it or its directory is frozen.

    The directory counts as well as the file: a live file beside a frozen log of its own would be read as a broken one.
    """
    frozen = {frozen_path.target for frozen_path in resolved.frozen}
    known = frozen | {live_path.path for live_path in resolved.live_paths}
    for seen, live in beside:
        path = seen.behind
        directory = os.path.dirname(path)
        shown = {nearest(upwards(place), known) for place in (path, directory)}
        if seen.kind != "missing" and frozen & shown:
            yield f"{live.path}: {live.reason}; {if_live(directory)}"


def _stable(frozen_path: FrozenPath, resolved: Resolved, passing: Sequence[re.Pattern[str]]) -> str:
    """Return the directory that stays when the container has another name: never one that anything else lies in.

    What is frozen otherwise must not be declared live, nor what contains it.
    """
    frozen = {other.target for other in resolved.frozen if other.mount.fstype != frozen_path.mount.fstype}
    frozen |= set(resolved.left_out.sources)
    kept = {outer for path in frozen for outer in upwards(path)}
    for outer in above(frozen_path.target):
        if outer in kept:
            break
        name = relative(frozen_path.target, outer).partition("/")[0]
        if any(pattern.fullmatch(name) for pattern in passing):
            return outer
    return frozen_path.target


def unread(wanted: Wanted, resolved: Resolved, table: Table) -> Resolved:
    """Return the same with what `--one-file-system` does to live paths on the file system of their source.

    The program compares device numbers, and a snapshot has another one than the live file system: it does not enter
    what it would enter without us. What the user wants to be read, and is not, is a problem; what the command needs
    live is a note.
    """
    if not wanted.one_file_system:
        return resolved
    lost = dict(_not_entered(wanted, resolved, table))
    problems = tuple(
        f"{path}: it is to be read live, but the command stays on one file system, and does not enter a live "
        "path below a snapshot: name it as a source as well, or exclude it from the backup"
        for path, reason in lost.items()
        if reason == DECLARED
    )
    needed = [f"{path} ({reason})" for path, reason in lost.items() if reason != DECLARED]
    notes = (
        "the command stays on one file system, and does not enter a live path below a snapshot. Not in the "
        f"backup: {', '.join(needed)}. To save one, name it as a source and declare it live (--live)"
        if needed
        else "",
    )
    return replace(
        resolved,
        problems=(*resolved.problems, *problems),
        notes=(*resolved.notes, *filter(None, notes)),
    )


def _not_entered(wanted: Wanted, resolved: Resolved, table: Table) -> Iterator[tuple[str, str]]:
    """Yield the live paths that the command would read if nothing were frozen, with the reason why they are live.

    Most programs read a file wherever it lies, and what is not there yet is empty.
    """
    needed = [seen for seen, live in wanted.needed if seen.kind in ("file", "missing") or live.unsaved]
    passed = {seen.behind for seen in needed}
    for seen in wanted.declared:
        passed -= {seen.behind}
        if seen.kind == "file" and not wanted.skips_files:
            passed |= {seen.behind}
    sources = resolved.left_out.sources
    for live_path in resolved.live_paths:
        source = nearest(above(live_path.path), sources)
        if source is None or live_path.path in sources or live_path.path in passed:
            continue
        same = table.of(live_path.path).device == table.of(source).device
        inside = join(live_path.path, "*")  # also when only what lies in it is excluded
        if same and not resolved.left_out.excludes(inside):
            yield live_path.path, live_path.reason
