"""The contract of providers, as tests. Derive a class from `ProviderContract` and give it the fixture `subject`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from borg_lvm.config.size import Size
from borg_lvm.errors import BusyError, LateError
from borg_lvm.linux import processes, safe_open
from borg_lvm.machine import mounts
from borg_lvm.planning.plan import Snapshot
from borg_lvm.snapshots.provider import Growth, Hold, RunContext
from borg_lvm.state import ledger
from borg_lvm.state.dead_run import Dead
from borg_lvm.testing import provider_run
from borg_lvm.testing.provider_run import STEPS, TIMEOUT, begun, each, in_window, mounted, prepared, released, taken
from borg_lvm.testing.provider_subject import ProviderSubject


def held(run: RunContext) -> list[Snapshot]:
    """Return the snapshots of a run whose volumes are held."""
    return [snapshot for snapshot in run.plan.snapshots if snapshot.hold != "none"]


def apart(run: RunContext) -> list[str]:
    """Return where the others are mounted: their snapshots are taken before all others."""
    return [snapshot.mounted_at for snapshot in run.plan.snapshots if snapshot.hold == "none"]


class ProviderContract:
    """What a provider must do. All times are in seconds and may be changed in a derived class."""

    deadline = 60.0
    """How long a window may last."""
    short = 5.0
    """How long one may last that is to be too long."""
    patience = 60.0
    """How long a write may take when nothing is held."""
    moment = 1.0
    """How long a write is waited for that must not come through."""

    def test_it_says_which_mounts_it_serves(self, subject: ProviderSubject) -> None:
        table = {mount.path: mount for mount in mounts.read()}
        own = [table[snapshot.mounted_at] for snapshot in subject.plan().snapshots]
        volumes = subject.provider.look([mount.device for mount in own], TIMEOUT)
        subject.provider.close()
        refused = [mount.path for mount in own if isinstance(volumes.find(mount), str)]
        assert refused == [], "it does not serve what it serves"
        assert isinstance(volumes.find(table[subject.foreign()]), str), "it serves what it cannot snapshot"

    def test_all_snapshots_show_one_moment(self, subject: ProviderSubject, tmp_path: Path) -> None:
        with begun(subject, self.deadline) as run, released(subject, run):
            with prepared(subject, run) as ready:
                with in_window(run, ready) as holds:
                    self._write_all(run, "early")
                    each(holds, "suspend")
                    late = [provider_run.writing(snapshot.mounted_at, "late") for snapshot in held(run)]
                    time.sleep(self.moment)
                    through = [writer for writer in late if writer.poll() is not None]
                    self._appear(run, holds)
                    each(holds, "prove")
                    each(holds[::-1], "resume")
                assert through == [], "a write went through while all were held"
                names = {snapshot.origin.full_name for snapshot in held(run)}
                long = [hold.seconds >= self.moment for hold in holds if hold.name in names]
                assert all(long), "it held them for longer than it reports"
                provider_run.note(run, ready)
            for writer in late:
                assert writer.wait(self.patience) == 0
            for snapshot in run.plan.snapshots:
                with mounted(subject, snapshot, tmp_path) as point:
                    seen = {name for name in ("early", "late") if os.path.exists(f"{point}/{name}")}
                assert seen == {"early"}, (
                    f"{snapshot.mounted_at}: the snapshot is not of the moment at which all were held"
                )

    def _appear(self, run: RunContext, holds: Sequence[Hold]) -> None:
        """Write where nothing is held as soon as a snapshot of that has appeared: all of them show one moment."""
        names = {snapshot.origin.full_name for snapshot in held(run)}
        for hold in holds:
            hold.appear()
            if hold.name not in names:
                provider_run.write(apart(run), "late", self.patience)

    def test_a_snapshot_is_mounted_as_it_is_asked_to(self, subject: ProviderSubject, tmp_path: Path) -> None:
        with taken(subject, self.deadline) as run:
            for snapshot in run.plan.snapshots:
                with mounted(subject, snapshot, tmp_path) as point:
                    number = subject.provider.device(snapshot)
                    assert safe_open.device_behind(point) == number, "its device has another number"
                    assert os.stat(point).st_dev != os.stat(snapshot.mounted_at).st_dev, "that is the original"
                    flags = os.statvfs(point).f_flag
                    safe = os.ST_NOSUID | os.ST_NODEV
                    assert flags & safe == safe, "set-user-id bits or devices have an effect in it"
                    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                        os.mkdir(f"{point}/new")
                assert not os.path.exists(f"{snapshot.mounted_at}/new")

    def test_a_lost_snapshot_is_reported(self, subject: ProviderSubject) -> None:
        with taken(subject, self.deadline) as run:
            growth = Growth(snapshots=False, pools=False, reserve=Size())
            monitors = subject.provider.monitors(run, growth)
            watched = [*monitors.snapshots, *monitors.pools]
            assert [monitored.look(time.monotonic()) for monitored in watched] == [""] * len(watched)
            for number, snapshot in enumerate(run.plan.snapshots):
                assert not subject.provider.fill(run, snapshot).problem
                if subject.lose(snapshot):
                    assert subject.provider.fill(run, snapshot).problem, "a lost snapshot counts as right"
                    assert len(monitors.snapshots) == len(run.plan.snapshots), "it does not watch every snapshot"
                    assert monitors.snapshots[number].look(time.monotonic()), "nobody sees that it is lost"
                    break
            else:
                pytest.skip("no snapshot of these can be lost")

    @pytest.mark.parametrize("fails", [False, True])
    def test_nothing_is_left(self, subject: ProviderSubject, fails: bool) -> None:
        try:
            with taken(subject, self.deadline) as run:
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert subject.leftovers() == [], "it says that it has removed all, and has not"
        self._write_all(run, "after")

    def test_all_go_on_as_before_when_one_fails(self, subject: ProviderSubject) -> None:
        with begun(subject, self.deadline) as run:
            with pytest.raises(ZeroDivisionError):
                self._fail_when_held(subject, run)
            assert subject.leftovers() == []
            self._write_all(run, "after")

    def _fail_when_held(self, subject: ProviderSubject, run: RunContext) -> None:
        with released(subject, run), prepared(subject, run) as ready, in_window(run, ready) as holds:
            each(holds, "suspend")
            each(holds[:1], "appear")
            each(holds, "give_up")
            self._write_all(run, "goes on")  # before anybody else has resumed them
            raise ZeroDivisionError

    def test_the_watchdog_resumes_what_is_held_too_long(self, subject: ProviderSubject) -> None:
        if not subject.holds:
            pytest.skip("none of these is held")
        with begun(subject, self.short) as run:
            with pytest.raises(LateError):
                self._hold_too_long(subject, run)
            assert subject.leftovers() == []

    def _hold_too_long(self, subject: ProviderSubject, run: RunContext) -> None:
        with released(subject, run), prepared(subject, run) as ready, in_window(run, ready) as holds:
            each(holds, "suspend")
            try:
                self._write_all(run, "resumed")
            finally:
                each(holds, "give_up")

    def test_it_proves_that_they_were_held(self, subject: ProviderSubject) -> None:
        with begun(subject, self.deadline) as run:
            with pytest.raises(BusyError):
                self._lose_a_hold(subject, run)
            assert subject.leftovers() == []
            self._write_all(run, "after")

    def _lose_a_hold(self, subject: ProviderSubject, run: RunContext) -> None:
        with released(subject, run), prepared(subject, run) as ready, in_window(run, ready) as holds:
            each(holds, "suspend")
            woken = subject.wake(run.plan.snapshots[-1])
            try:
                if not woken:
                    pytest.skip("nobody can resume these")
                each(holds, "appear")
                each(holds, "prove")
            finally:
                each(holds, "give_up")

    @pytest.mark.parametrize("step", STEPS)
    def test_what_a_dead_run_leaves_is_found_and_removed(self, subject: ProviderSubject, step: str) -> None:
        run_id, places = provider_run.killed(subject, step, self.deadline)
        self._clean(subject, run_id)
        assert subject.leftovers() == [], f"left by a run that died when it had {step}"
        provider_run.write(places, "after", self.patience)

    def test_what_a_power_cut_leaves_is_found_without_a_ledger(self, subject: ProviderSubject) -> None:
        run_id, places = provider_run.killed(subject, "made", self.deadline)
        ledger.forget(run_id)
        self._clean(subject, run_id)
        assert subject.leftovers() == []
        provider_run.write(places, "after", self.patience)

    def _write_all(self, run: RunContext, name: str) -> None:
        provider_run.write([snapshot.mounted_at for snapshot in run.plan.snapshots], name, self.patience)

    def _clean(self, subject: ProviderSubject, run_id: str) -> None:
        """Do what `borg-lvm clean` does of a dead run's snapshots, in its order."""
        provider, log = subject.provider, subject.log
        entries = [entry for entry in ledger.entries() if entry.run_id == run_id]
        for entry in entries:
            dead = Dead(run_id, (), entry)
            provider.resume(dead, log)
            processes.end(partial(provider.programs, dead), log, "left by a dead run", TIMEOUT)
            provider.resume(dead, log)
        for dead in subject.dead(run_id):
            provider.disarm(dead, TIMEOUT)
            assert provider.remove(dead, log, TIMEOUT) == []
        ledger.forget(run_id)
