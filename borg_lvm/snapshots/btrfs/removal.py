"""Finding snapshots of subvolumes by their names, and removing them: after a run, and after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import btrfs
from borg_lvm.machine.btrfs_subvolumes import DIRECTORY, KEPT, device_name, is_candidate, run_of
from borg_lvm.machine.lvm import TAG
from borg_lvm.records import dataclass
from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots import users
from borg_lvm.snapshots.btrfs import calls, one_transaction, top_level
from borg_lvm.snapshots.provider import Named, RunContext
from borg_lvm.state.dead_run import Dead


@dataclass(frozen=True)
class SnapshotPlace:
    """A btrfs: its id, and the name of a device of it."""

    device: str
    file_system: str

    def full_name(self, name: str) -> str:
        """Return what a snapshot in it is called."""
        return f"{self.device}[/{DIRECTORY}/{name}]"

    def has(self, full_name: str) -> bool:
        """Whether something of this name lies in it."""
        return full_name.startswith(f"{self.device}[")


def everywhere() -> Iterator[SnapshotPlace]:
    """Yield each btrfs that is mounted somewhere, and is not itself in a snapshot of ours."""
    for mounted in btrfs.mounted():
        if mounted.devices and f"{TAG}-" not in (device := device_name(mounted.devices[0])):
            yield SnapshotPlace(device, mounted.id)


def named() -> list[Named]:
    """Return all snapshots of runs, wherever they are."""
    found = []
    for place in everywhere():
        with suppress(OSError, SnapshotError):
            for name in top_level.names(place.device, place.file_system):
                if run := run_of(name):
                    found.append(Named(run[0], place.full_name(name), kept=run[1]))
    return found


@contextmanager
def released(run: RunContext, *, keep: bool) -> Iterator[Leftovers]:
    """Hold the duty to remove the snapshots of a plan, whichever of them will be made, as `Provider.released`."""
    subvolumes = [snapshot.subvolume for snapshot in run.plan.snapshots if snapshot.subvolume]
    places = list(dict.fromkeys(SnapshotPlace(one.device, one.file_system) for one in subvolumes))
    complete = False
    leftovers = Leftovers()
    try:
        yield leftovers
        complete = True
    finally:
        if keep and complete:
            leftovers.extend(_keep(places, run))
        else:
            leftovers.extend(remove(places, run.plan.run_id, kept=False))


def _keep(places: Sequence[SnapshotPlace], run: RunContext) -> Iterator[str]:
    """Have the snapshots of a run kept, by their names; yield what could not be."""
    for place in places:
        try:
            names = _of_run(place, run.plan.run_id, kept=False)
            with top_level.directory(place.device, place.file_system) as directory:
                for name in names:
                    if is_candidate(name):
                        yield from _removed(directory, name, place)
                        continue
                    os.rename(name, f"{name}{KEPT}", src_dir_fd=directory, dst_dir_fd=directory)
                    kept = place.full_name(f"{name}{KEPT}")
                    # Not to be silenced by --quiet: it has to be removed by hand.
                    run.log.warning(f"kept {kept}; remove with: borg-lvm clean --run {run.plan.run_id}")
        except (OSError, SnapshotError) as error:
            yield f"the snapshots on {place.device}, which could not be marked as kept: {error}"


def _of_run(place: SnapshotPlace, run_id: str, *, kept: bool) -> list[str]:
    """Return the snapshots of a run, `kept` ones too. Raises: OSError, SnapshotError."""
    runs = [(run_id, False), *([(run_id, True)] if kept else [])]
    return [name for name in top_level.names(place.device, place.file_system) if run_of(name) in runs]


def remove(places: Iterable[SnapshotPlace], run_id: str, *, kept: bool) -> Iterator[str]:
    """Remove a run's snapshots, `kept` ones too; yield what could not be. Those that are not there are gone already."""
    for place in places:
        try:
            if names := _of_run(place, run_id, kept=kept):
                with top_level.directory(place.device, place.file_system) as directory:
                    for name in names:
                        yield from _removed(directory, name, place)
        except (OSError, SnapshotError) as error:
            yield f"the snapshots of run {run_id} on {place.device}, if there are any: {error}"


def _removed(directory: int, name: str, place: SnapshotPlace) -> Iterator[str]:
    try:
        if is_candidate(name):
            one_transaction.removed(directory, name)
        else:
            calls.delete_subvolume(directory, name)
    except OSError as error:
        by_hand = f"mount -o subvolid=5 {place.device} /mnt && btrfs subvolume delete /mnt/{DIRECTORY}/{name}"
        yield f"snapshot {place.full_name(name)}: {error.strerror}; to remove it: {by_hand}"


def devices(run_id: str) -> list[int]:
    """Return the numbers (`st_dev`) of the snapshots of a dead run, which count as file systems of their own."""
    numbers = []
    for place in everywhere():
        with suppress(OSError, SnapshotError):
            if names := _of_run(place, run_id, kept=True):
                with top_level.directory(place.device, place.file_system) as directory:
                    numbers += [number(directory, name) for name in names if not is_candidate(name)]
    return numbers


def number(directory: int, name: str) -> int:
    """Return the number (`st_dev`) of a snapshot, which counts as a file system of its own. Raises: OSError."""
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return btrfs.set_apart(info.st_dev, f"/{DIRECTORY}/{name}")


def clean(dead: Dead) -> Leftovers:
    """Remove what a dead run has left; return what could not be removed.

    Without a ledger it may be a run that is alive, in a container whose /run is not ours: then what somebody sees is
    left alone. Nothing is looked for but where the run has made some, by their names or its ledger: there may be a
    btrfs that cannot be mounted.
    """
    if dead.entry is None and users.is_seen(devices(dead.run_id)):
        return Leftovers(f"snapshot {name}: somebody has it mounted" for name in dead.others)
    steps = dead.entry.named("subvolume") if dead.entry else []
    used = {step["file_system"] for step in steps}
    places = [place for place in everywhere() if place.file_system in used or any(map(place.has, dead.others))]
    leftovers = Leftovers(remove(places, dead.run_id, kept=dead.kept))
    there = {place.file_system for place in places}
    for step in steps:
        if step["file_system"] not in there:
            leftovers.append(f"snapshot {step['name']}, if it was made: mount the btrfs {step['file_system']} again")
    return leftovers
