"""Several providers as one: each has its share of a plan, and their holds are in one window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from borg_lvm.reporting.outcome import Leftovers
from borg_lvm.snapshots.provider import (
    Growth,
    Hold,
    MonitoredSpace,
    MonitoredStore,
    Monitors,
    Named,
    Prepared,
    Provider,
    RunContext,
)

if TYPE_CHECKING:
    from borg_lvm.linux.device_mapper import Fill
    from borg_lvm.linux.processes import Process
    from borg_lvm.log import Log
    from borg_lvm.machine.lvm import Volume
    from borg_lvm.planning.plan import Snapshot
    from borg_lvm.planning.volumes import Volumes
    from borg_lvm.state.dead_run import Dead


class Together(Provider):
    """Gives each provider its share of a plan: LVM, and others by the kind of snapshots that they take."""

    def __init__(self, others: Mapping[str, Provider], lvm: Provider) -> None:
        self._others = others
        self._lvm = lvm
        self._all = (*others.values(), lvm)

    def look(self, devices: Sequence[str], timeout: float) -> Volumes:
        """See `Provider`. A btrfs on one volume is that volume's."""
        volumes = self._lvm.look(devices, timeout)
        for provider in self._others.values():
            volumes = volumes.with_trees_of(provider.look(devices, timeout))
        return volumes

    def close(self) -> None:
        """See `Provider`."""
        for provider in self._all:
            provider.close()

    def announce(self, run: RunContext, snapshots: Iterable[Snapshot]) -> None:
        """See `Provider`."""
        for provider, share in self._shares(snapshots).items():
            provider.announce(run, share)

    def write_down(self, run: RunContext, snapshot: Snapshot) -> None:
        """See `Provider`."""
        self._of(snapshot).write_down(run, snapshot)

    @contextmanager
    def prepared(self, run: RunContext, group: Sequence[Snapshot], fds: Sequence[int]) -> Iterator[Prepared]:
        """See `Provider`."""
        of = dict(zip((snapshot.name for snapshot in group), fds, strict=True))
        with ExitStack() as stack:
            yield ReadyParts(
                [
                    stack.enter_context(provider.prepared(run, share, [of[snapshot.name] for snapshot in share]))
                    for provider, share in self._shares(group).items()
                ]
            )

    def device(self, snapshot: Snapshot) -> int:
        """See `Provider`."""
        return self._of(snapshot).device(snapshot)

    def mount(self, snapshot: Snapshot, point: str, flags: int) -> None:
        """See `Provider`."""
        self._of(snapshot).mount(snapshot, point, flags)

    def fill(self, run: RunContext, snapshot: Snapshot) -> Fill:
        """See `Provider`."""
        return self._of(snapshot).fill(run, snapshot)

    def monitors(self, run: RunContext, growth: Growth) -> Monitors:
        """See `Provider`."""
        of: dict[str, MonitoredSpace] = {}
        stores: list[MonitoredStore] = []
        for provider, part in self._parts(run).items():
            monitors = provider.monitors(part, growth)
            of |= dict(zip((snapshot.name for snapshot in part.plan.snapshots), monitors.snapshots, strict=True))
            stores += monitors.pools
        return Monitors([of[snapshot.name] for snapshot in run.plan.snapshots], stores)

    @contextmanager
    def released(self, run: RunContext, *, keep: bool) -> Iterator[Leftovers]:
        """See `Provider`."""
        leftovers = Leftovers()
        shares: list[Leftovers] = []
        try:
            with ExitStack() as stack:
                for provider, part in self._parts(run).items():
                    shares.append(stack.enter_context(provider.released(part, keep=keep)))
                yield leftovers
        finally:
            for share in shares:
                leftovers.add(share)

    def named(self) -> Sequence[Named]:
        """See `Provider`."""
        return [snapshot for provider in self._all for snapshot in provider.named()]

    def resume(self, dead: Dead, log: Log) -> None:
        """See `Provider`."""
        for provider in self._all:
            provider.resume(dead, log)

    def programs(self, dead: Dead) -> list[Process]:
        """See `Provider`."""
        return [program for provider in self._all for program in provider.programs(dead)]

    def disarm(self, dead: Dead, timeout: float) -> None:
        """See `Provider`."""
        for provider in self._all:
            provider.disarm(dead, timeout)

    def devices(self, dead: Dead) -> list[int]:
        """See `Provider`."""
        return [number for provider in self._all for number in provider.devices(dead)]

    def remove(self, dead: Dead, log: Log, timeout: float) -> Leftovers:
        """See `Provider`."""
        leftovers = Leftovers()
        for provider in self._all:
            leftovers.add(provider.remove(dead, log, timeout))
        return leftovers

    def mend(
        self, mapped: Mapping[str, str], volumes: Sequence[Volume], log: Log, timeout: float
    ) -> tuple[bool, Leftovers]:
        """See `Provider`."""
        mended, leftovers = False, Leftovers()
        for provider in self._all:
            changed, left = provider.mend(mapped, volumes, log, timeout)
            mended = mended or changed
            leftovers.add(left)
        return mended, leftovers

    def _of(self, snapshot: Snapshot) -> Provider:
        return self._others.get(snapshot.kind, self._lvm)

    def _shares(self, snapshots: Iterable[Snapshot]) -> dict[Provider, list[Snapshot]]:
        """Return the snapshots of each provider. What cannot be held comes first, as in the window."""
        shares: dict[Provider, list[Snapshot]] = {}
        for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.hold != "none"):
            shares.setdefault(self._of(snapshot), []).append(snapshot)
        return shares

    def _parts(self, run: RunContext) -> dict[Provider, RunContext]:
        """Return for each provider what it is given of a run: a plan that has its own snapshots alone."""
        shares = self._shares(run.plan.snapshots)
        plans = {provider: replace(run.plan, snapshots=tuple(share)) for provider, share in shares.items()}
        return {provider: replace(run, plan=plan) for provider, plan in plans.items()}


class ReadyParts:
    """What several providers have made ready (`provider.Prepared`)."""

    def __init__(self, parts: Sequence[Prepared]) -> None:
        self._parts = parts

    @contextmanager
    def completed(self) -> Iterator[Sequence[Hold]]:
        """See `Prepared`."""
        with ExitStack() as stack:
            yield [hold for part in self._parts for hold in stack.enter_context(part.completed())]

    def prove(self) -> Mapping[str, str]:
        """See `Prepared`."""
        return {name: number for part in self._parts for name, number in part.prove().items()}

    def transactions(self) -> Mapping[str, int]:
        """See `Prepared`."""
        return {name: number for part in self._parts for name, number in part.transactions().items()}
