"""The seam: what a run asks of those that take snapshots of its mounts: `lvm/provider.py`, `btrfs/`, `zfs/`.

Nobody above `snapshots/` knows more of a provider than this, and `providers.py` alone knows which there are
(tests/unit/project/test_chain.py). Below it are the facts that planning, which is pure, decides by: what the machine
has (`machine/lvm.py`), and what becomes of it in `planning/`: which volume, which size, which names. What was decided
comes here as `Snapshot`s of a plan.

**One instant with several providers.** All that can be held is held; at most one group that cannot be (the datasets of
one zpool, subvolumes of one btrfs) is snapshotted while all else is. Nothing changes here for it: each provider has its
part of the plan `prepared`, all of them are `completed`, and `window.take` gets the holds of all in one list. Those of
a group that cannot be held stand first. Their `suspend`, `resume` and `give_up` do nothing; the first one's `appear`
is the one atomic step for the whole group, and it comes when all else is suspended, and before any other snapshot;
`prove` sees that the group shows one moment. That there is but one such group is planning's to refuse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from borg_lvm.records import dataclass

if TYPE_CHECKING:
    from borg_lvm.config.size import Size
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.processes import Process
    from borg_lvm.linux.signals import Signals
    from borg_lvm.linux.subprocesses import Steps
    from borg_lvm.log import Log
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.plan import Plan, Snapshot
    from borg_lvm.planning.space.growth_policy import FillHistory, PoolStatistics, SnapshotStatistics
    from borg_lvm.planning.volumes import Volumes
    from borg_lvm.reporting.outcome import Leftovers
    from borg_lvm.state.dead_run import Dead
    from borg_lvm.state.ledger import Ledger
    from borg_lvm.watchdog.client import Watchdog


@dataclass(frozen=True)
class RunContext:
    """What a provider works with in one run; the window may last `deadline` seconds, one program `timeout` seconds."""

    plan: Plan
    watchdog: Watchdog
    ledger: Ledger
    signals: Signals
    log: Log
    deadline: float
    timeout: float


class Hold(Protocol):
    """One volume in the window.

    Each call was prepared before: it starts no process, opens no path, and reads nothing that may be held. Each is made
    for all volumes before the next one is made for any: see `window.take`.
    """

    @property
    def name(self) -> str:
        """The volume as people know it: `vg/lv`."""

    @property
    def seconds(self) -> float:
        """For how many seconds it was held: from before `suspend` until after `resume`."""

    def suspend(self) -> None:
        """Suspend the volume, or freeze what is on it: from now on writes to it wait. Raises: SnapshotError."""

    def appear(self) -> None:
        """Take its snapshot, in one atomic step. Raises: SnapshotError."""

    def prove(self) -> None:
        """Check that it is still held: in the end nothing would show that it was not. Raises: BusyError."""

    def resume(self) -> None:
        """Resume the volume. Raises: OSError; BusyError when somebody else has resumed it already."""

    def give_up(self) -> None:
        """Resume the volume as it was before, after an error anywhere. Raises: OSError."""


class Prepared(Protocol):
    """Snapshots of a group of volumes, all made ready that can be while these are in use."""

    def completed(self) -> AbstractContextManager[Sequence[Hold]]:
        """Do what had to wait until applications are quiesced; give the holds, in the order of the group.

        The window is within the block, in which nobody else changes the volumes.
        Raises: BusyError when somebody has changed them since; SnapshotError, ProgramError.
        """

    def prove(self) -> Mapping[str, str]:
        """See that each snapshot works; return its id by its name, for the ledger (`made`). Raises: SnapshotError."""

    def transactions(self) -> Mapping[str, int]:
        """Return, when that is proven, which transaction of its store each snapshot is of, by its volume's name.

        Those of one number show one moment. What is held by itself has none.
        """


class Monitored(Protocol):
    """Something that fills while the command runs. A look takes no process."""

    not_before: float
    """When (monotonic clock, seconds) it may be extended again."""
    must_end: bool
    """Whether the command must end at once when this says why: then live volumes are at stake."""

    def look(self, now: float) -> str:
        """Look; return why the command must end, or nothing."""

    def growth(self) -> Steps[None] | None:
        """Return what extends it, a step at a time, if that is to be done now."""

    def courses(self) -> list[FillHistory]:
        """Return how it has filled so far."""


class MonitoredSpace(Monitored, Protocol):
    """The space of one snapshot."""

    def statistics(self) -> SnapshotStatistics:
        """Return how it has fared until now."""


class MonitoredStore(Monitored, Protocol):
    """What snapshots share with live volumes, such as the data of a thin pool."""

    def statistics(self) -> PoolStatistics:
        """Return how it filled."""


@dataclass(frozen=True)
class Monitors:
    """All that fills in a run: the space of each snapshot, in the order of the plan, and what they share."""

    snapshots: Sequence[MonitoredSpace]
    pools: Sequence[MonitoredStore]


@dataclass(frozen=True)
class Named:
    """A snapshot that bears the name of a run, and whether it is to be kept."""

    run_id: str
    name: str
    kept: bool


@dataclass(frozen=True)
class Growth:
    """What the configuration says of growing: whether snapshots and thin pools may, and what a group is to keep."""

    snapshots: bool
    pools: bool
    reserve: Size


class Provider(ABC):
    """Takes, shows, watches and removes the snapshots of the mounts that it serves.

    Keeps nothing between calls but what `close` ends.
    """

    # Which mounts it serves.

    @abstractmethod
    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        """Look once at the volumes below these devices (`major:minor`) and all others.

        `Volumes.find` then says of each mount, and asks nobody, which volume is snapshotted for it, or why none can
        be. How that is held for the instant, frozen or suspended, is `Snapshot.hold`.
        Raises: ProgramError; SnapshotError when the answer cannot be read.
        """

    def close(self) -> None:  # noqa: B027 - most leave nothing
        """End what `look` may have left waiting for `prepared`."""

    # Taking.

    @abstractmethod
    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        """Register with the watchdog all that may be held for these snapshots. Raises: SnapshotError."""

    @abstractmethod
    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        """Enter in the ledger what will be made and may be held: `resume` and `remove` find it when we are dead.

        Whatever is made also carries the tags of the plan, or its names, for the ledger does not outlive a power cut.
        Raises: SnapshotError.
        """

    @abstractmethod
    def prepared(
        self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]
    ) -> AbstractContextManager[Prepared]:
        """Make all ready for a window, which is in the block; after an error what was made ready is undone.

        `fds` lead to the mount point or the device of each volume. The snapshots themselves are `released`.
        Raises: SnapshotError, BusyError, ProgramError.
        """

    # What was taken.

    @abstractmethod
    def device(self, snapshot: Snapshot) -> int:
        """Return the device number of what is on a snapshot (`st_dev`), or of itself if it is raw. Raises: OSError."""

    @abstractmethod
    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        """Mount a snapshot, with `MS_` flags besides those of the plan. The original is neither read nor changed.

        Raises: OSError, with a note of which; SnapshotError when it is not whole.
        """

    @abstractmethod
    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        """Return how a snapshot fares, or what is wrong with it: a lost one, or one that is gone, has a problem."""

    @abstractmethod
    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        """Return what is watched while the command runs."""

    # Removing.

    @abstractmethod
    def released(self, run: RunContext, *, keep: bool) -> AbstractContextManager[Leftovers]:
        """Hold the duty to remove the snapshots, whichever will be made, and to prove them gone; or to mark them kept.

        Gives what could not be removed, which is known when the block has ended; nothing is raised for it, because a
        release goes on to its end.
        """

    # What dead runs have left. Each works from any state that a run can die in, and again when it dies half-way.

    @abstractmethod
    def named(self) -> Sequence[Named]:
        """Return all snapshots of runs, of this boot or not, that LVM lists no volume for: found by their names."""

    @abstractmethod
    def resume(self, dead: Dead, log: Log) -> None:
        """Resume what a run that died within its window may have left suspended."""

    @abstractmethod
    def programs(self, dead: Dead) -> list[Process]:
        """Return the programs that a dead run has left at work on what it made."""

    @abstractmethod
    def disarm(self, dead: Dead, timeout: float) -> None:
        """Undo what was `prepared` and never taken."""

    @abstractmethod
    def devices(self, dead: Dead) -> list[int]:
        """Return the device numbers of the snapshots that are left."""

    @abstractmethod
    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        """Remove the snapshots that are left, whatever has become of them; return what cannot be removed."""

    @abstractmethod
    def mend(
        self, mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float
    ) -> tuple[bool, Leftovers]:
        """Put right what nobody has a ledger of any more; return whether there was anything, and what is left of it.

        `mapped` are the uuids of all devices of device-mapper by name, from before the `volumes` were listed.
        """
