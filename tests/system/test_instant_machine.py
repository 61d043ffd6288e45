"""One instant over the disk of a virtual machine and volumes beside it, with writers in the guest and on the host.

The judges of test_instant: the clock of the writers is the same, for the guest's kernel is the test's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.rig import Rig
from tests.rig.filesystems import mounted
from tests.rig.volumes import Volume
from tests.system.support.hosts.guest import Guest, entry, guest, needs_replay, words
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers.turns import linear, order
from tests.system.support.writers.writers import Writer, broken, gap, writing

RUNS = int(os.environ.get("BORG_LVM_RUNS", "2"))
CONTROLS = 2
SYNCED = ("in-place synced", "append synced")
BUFFERED = ("in-place buffered", "append buffered")
BESIDE = 2
pytestmark = [pytest.mark.limit(900 + 180 * RUNS), pytest.mark.needs("qemu-ga", "e2fsprogs")]
PER_VOLUME = ("--consistency", "per-volume")


@dataclass(frozen=True)
class Stage:
    """A guest with one disk, and volumes beside it; `at` are their file systems, the guest's first."""

    rig: Rig
    machine: Guest
    disk: Volume
    beside: Sequence[Volume]

    @property
    def at(self) -> list[Path]:
        return [self.machine.seen(), *(volume.at for volume in self.beside if volume.at)]

    def copied(self, writers: Sequence[Writer], turn: int, *options: str, quiesced: bool) -> list[list[int]]:
        """Back all up, in another order at each turn; return what the copies show of each writer, for each file.

        The copy of a guest's disk that was quiesced has no journal to be replayed.
        """
        with ExitStack() as stack:
            target = Path(stack.enter_context(TemporaryDirectory(dir=self.rig.directory)))
            paths = self._paths(stack, turn)
            lines = [f"dd if={paths[0]} of={target}/disk bs=1M conv=sparse status=none"]
            for place in range(1, len(paths)):
                lines.append(f"mkdir {target}/{place} && cp --archive {paths[place]}/. {target}/{place}")
            asked = words(self.rig, [], *([entry(self.machine, [self.disk])] if quiesced else []))
            sources = [word for path in paths for word in ("--path", path)]
            borg_lvm("run", *asked, *options, *sources, "--", "sh", "-ec", "\n".join(lines))
            assert needs_replay(target / "disk") is not quiesced
            copies = [stack.enter_context(mounted(str(target / "disk"), target / "0", "loop"))]
            copies += [target / str(place) for place in range(1, len(paths))]
            where = dict(zip(self.at, copies, strict=True))
            return [[writer.shown(where[file.parent] / file.name) for file in writer.files] for writer in writers]

    def _paths(self, stack: ExitStack, turn: int) -> list[Path]:
        """Give a path for each, whose order is the one in which a run takes them."""
        names = [self.rig.path(f"{order(1 + BESIDE, turn).index(number)}-of-{turn}") for number in range(1 + BESIDE)]
        names[0].symlink_to(self.disk.device)
        stack.callback(names[0].unlink)
        for name, at in zip(names[1:], self.at[1:], strict=True):
            stack.enter_context(mounted(str(at), name, "bind"))
        return names


Missed = Callable[..., list[float]]


def gaps(
    stage: Stage, runs: int, *options: str, quiesced: bool = True, how: Sequence[str] = (*SYNCED, *BUFFERED)
) -> list[float]:
    """Let a writer for each way of writing work on each file system; return by how much each run misses one instant."""
    writers = [
        Writer(way, (at / way.replace(" ", "-"),), stage.rig.path(f"{number}-{way}"))
        for number, at in enumerate(stage.at)
        for way in how
    ]
    with writing(writers):
        run("sync")  # something of each is on its disk, whatever the guest keeps in memory from now on
        shown = [stage.copied(writers, turn, *options, quiesced=quiesced) for turn in range(runs)]
    missed = [gap(writers, [number for (number,) in of_run]) for of_run in shown]
    print("gaps, in seconds:", *(f"{one:.3f}" for one in missed))
    return missed


def breaks(stage: Stage, runs: int, *options: str, quiesced: bool = True) -> list[float]:
    """Let one writer write to the guest and to the volumes in turn; return by how many writes each run misses it."""
    chain = Writer("in-place synced", tuple(at / "chain" for at in stage.at), stage.rig.path("diary"))
    with writing([chain]):
        shown = [stage.copied([chain], turn, *options, quiesced=quiesced)[0] for turn in range(runs)]
    assert all(0 < min(before) < min(after) for before, after in pairwise(shown)), "it stood still"
    print("shown:", *shown)
    return [broken(one) for one in shown]


def staged(rig: Rig, missed: Missed, runs: int, *options: str, **more: Any) -> list[float]:
    """Judge some runs over a guest's disk and the volumes beside it."""
    with tidy():
        beside = linear(rig, BESIDE)
        with guest(rig, "one") as (machine, (disk,)):
            found = missed(Stage(rig, machine, disk, beside), runs, *options, **more)
        assert_nothing_left(rig)
    return found


@pytest.mark.parametrize("missed", [pytest.param(gaps, marks=pytest.mark.soak), breaks])
def test_a_guests_disk_and_volumes_show_one_instant(rig: Rig, missed: Missed) -> None:
    assert [one for one in staged(rig, missed, RUNS) if one > 0] == []


@pytest.mark.soak
@pytest.mark.parametrize("missed", [partial(gaps, how=SYNCED), breaks], ids=["gaps", "breaks"])
def test_the_judges_see_one_snapshot_after_the_other(rig: Rig, missed: Missed) -> None:
    assert all(one > 0 for one in staged(rig, missed, CONTROLS, *PER_VOLUME, quiesced=False))


@pytest.mark.soak
@pytest.mark.parametrize(("how", "is_missing"), [(BUFFERED, True), (SYNCED, False)], ids=["buffered", "synced"])
def test_without_the_agent_what_a_guest_has_not_synced_is_missing(
    rig: Rig, how: Sequence[str], is_missing: bool
) -> None:
    """Its disk and the volumes are of one instant all the same, as what was synced shows."""
    found = staged(rig, gaps, CONTROLS, quiesced=False, how=how)
    assert [one > 0 for one in found] == [is_missing] * CONTROLS
