"""Stopping LVM from merging a snapshot of ours back into its origin: that would throw away what was written since.

`lvconvert --merge` of a snapshot that is in use, or whose origin is, only writes down that they are to be merged when
the origin is activated next; the kernel's tables stay. No command takes that back, and LVM neither removes nor renames
such a snapshot. But metadata can be put back: they are written anew as they are, but for that one word, under LVM's own
lock of the group, so that no other command changes them in between.
"""

from __future__ import annotations

import os
from contextlib import suppress

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import device_mapper, subprocesses
from borg_lvm.machine.lvm import Volume, dm_name
from borg_lvm.snapshots.lvm import group_lock
from borg_lvm.state import directories


def pending_merge(volume: Volume) -> str:
    """Return what a person is to know of a snapshot whose merging could not be stopped."""
    file, origin = f"/root/{volume.vg}.metadata", f"{volume.vg}/{volume.origin}"
    return (
        f"snapshot {volume.full_name} is to be merged into {origin}: when that is activated next, as at the next boot, "
        "all that was written to it since the snapshot is lost. To stop that: borg-lvm clean; or by hand: vgcfgbackup "
        f"-f {file} {volume.vg}; in that file write cow_store for merging_store (of a thin snapshot: take out the line "
        f"that begins with merge =); vgcfgrestore --force -f {file} {volume.vg}"
    )


def stop(volume: Volume, timeout: float) -> None:
    """Have LVM forget that a snapshot is to be merged. Raises: SnapshotError, ProgramError when that cannot be done."""
    if device_mapper.is_merging(dm_name(volume.vg, volume.origin)):
        raise SnapshotError(f"{volume.full_name} is being merged into {volume.vg}/{volume.origin} already")
    path = os.path.join(directories.STATE, f".{volume.vg}.metadata")
    try:
        with (
            group_lock.locked([volume.vg], _directory(timeout), timeout),
            directories.directory(directories.STATE, make=True),
        ):
            _write_anew(volume, path, timeout)
    except OSError as error:
        raise SnapshotError(
            f"{volume.full_name} is to be merged, and that cannot be stopped: {error.strerror} ({error.filename})"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(path)


def _write_anew(volume: Volume, path: str, timeout: float) -> None:
    subprocesses.run(["vgcfgbackup", "--nolocking", "--file", path, volume.vg], timeout=timeout)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = unmerged(file.read(), volume.name)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    subprocesses.run(["vgcfgrestore", "--nolocking", "--force", "--yes", "--file", path, volume.vg], timeout=timeout)


def unmerged(text: str, name: str) -> str:
    """Return a group's metadata without the wish to merge this snapshot; nothing else is changed. Pure.

    Raises: SnapshotError when they do not say so in the words that are known, once.
    """
    lines = text.split("\n")
    thick = [number for number, line in enumerate(lines) if line.strip() == f'merging_store = "{name}"']
    thin = [number for number in _block(lines, name) if lines[number].strip().startswith("merge = ")]
    if len(thick) + len(thin) != 1:
        raise SnapshotError(f"LVM's metadata of {name} say in no known way that it is to be merged")
    for number in thick:
        lines[number] = lines[number].replace("merging_store", "cow_store")
    for number in thin:
        del lines[number]
    return "\n".join(lines)


def _block(lines: list[str], name: str) -> range:
    """Return the numbers of the lines that describe a volume."""
    begin = next((number for number, line in enumerate(lines) if line.strip() == f"{name} {{"), len(lines))
    if begin == len(lines):
        return range(0)
    margin = lines[begin][: -len(lines[begin].lstrip())]
    end = next((number for number in range(begin, len(lines)) if lines[number] == f"{margin}}}"), begin)
    return range(begin, end)


def _directory(timeout: float) -> str:
    """Return where LVM keeps its locks. Raises: SnapshotError where a lock on this machine is not all."""
    settings = group_lock.settings(timeout)
    if settings.get("use_lvmlockd", "0") != "0":
        raise SnapshotError("other machines may use the group (global/use_lvmlockd): its metadata are left alone")
    return group_lock.directory(settings)
