"""A drill from top to bottom: which archive, scratch space, and each application restored, judged and removed."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from borg_lvm.config.schema import Settings
from borg_lvm.drill import judging, restore, scratch, scratch_volume
from borg_lvm.drill.judging import Judgement
from borg_lvm.drill.plan import DrillPlan, DrillRequest, PlannedDrill, planned
from borg_lvm.drill.restore import ToRestore
from borg_lvm.drill.restored_tree import TreeOnDisk
from borg_lvm.drill.sandbox import limits
from borg_lvm.drill.sandbox.limits import SandboxGroup
from borg_lvm.drill.scratch import Scratch
from borg_lvm.drill.shown import Shown, shown
from borg_lvm.errors import BorgLvmError, DegradedError, ReleaseError
from borg_lvm.linux.signals import ENDING, Signals, raising
from borg_lvm.linux.subprocesses import Account, ProgramError
from borg_lvm.log import Log
from borg_lvm.planning.snapshot_size import human
from borg_lvm.plugins.drill import ArchiveWrongError, Part
from borg_lvm.plugins.read_back import DamagedError, Saved
from borg_lvm.proof.programs import TimeIsUpError, ViewPrograms, limited_memory
from borg_lvm.records import dataclass
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.reporting.drills.result import DrilledApplication, DrillPhase, DrillResult
from borg_lvm.state import ledger

DURING = "during the drill"
NONSENSE = ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError
"""The result for an archive that may say anything, though its form is right to the program that reads it."""


def perform(request: DrillRequest, settings: Settings, certificates: Sequence[Certificate], log: Log) -> DrillResult:
    """Do a drill. Raises: UsageError, SourceError … before anything is done; InterruptedRunError, ReleaseError."""
    begin, end = time.time(), time.monotonic() + request.time_limit
    with planned(request, settings, certificates) as plan, Signals() as signals:
        programs = ViewPrograms(plan.invocation, end)
        with raising(ENDING, DURING), log.step("finding the archive and what it holds"):
            listed = _Listed.of(plan, programs)
            listed = listed.fitting(request.scratch, settings.command_timeout)
        drilled = [*plan.unable, *listed.bad(), *listed.left_out]
        where, most = request.scratch, None
        if listed.wanted:
            with (
                ledger.opened(request.drill, ledger.DRILL) as book,
                _place(request, book, listed, settings.command_timeout) as place,
            ):
                where, most = place.scratch.shown, place.group.limits
                with raising(ENDING, DURING):
                    drilled.extend(_Drill(listed, programs, place, log).each())
        signals.check(DURING)
    order = [facts.name for facts in plan.run.applications]
    drilled.sort(key=lambda application: order.index(application.name))
    bad = [application.name for application in drilled if application.verdict == "bad"]
    unjudged = [application.name for application in drilled if application.verdict == "not judged"]
    status = ArchiveWrongError.status if bad else DegradedError.status if unjudged else 0
    return DrillResult(
        drill=request.drill,
        host=socket.gethostname(),
        begin=begin,
        end=time.time(),
        run="" if request.archive else plan.run.run,
        program=plan.invocation.program,
        archive=listed.saved.name,
        instant=None if request.archive else plan.run.instant,
        scratch=where,
        applications=tuple(drilled),
        status=status,
        limits=most,
        left_out=tuple(plan.left_out),
    )


@dataclass(frozen=True)
class _Place:
    """Where a drill restores to, and the control group in which that is judged."""

    scratch: Scratch
    group: SandboxGroup


@contextmanager
def _place(request: DrillRequest, book: ledger.Ledger, listed: _Listed, timeout: float) -> Iterator[_Place]:
    """Have a place for what was listed; the ledger goes with it. Raises: SourceError, ReleaseError, OSError."""
    kept = False
    try:
        if request.scratch:
            restore.refuse_without_room(request.scratch, listed.room)
            scratch_space = scratch.directory(request.scratch, book)
        else:
            scratch_space = scratch_volume.volume(book, listed.room, listed.plan.run.groups, timeout)
        with scratch_space as space, limits.limited(book) as group:
            yield _Place(space, group)
    except ReleaseError:
        kept = True
        raise
    finally:
        if not kept:
            ledger.forget(book.run_id)


@dataclass(frozen=True)
class _Listed:
    """The archive, and what it holds of each application; nothing, if it is damaged.

    Of those that are `left_out` nothing is restored: they are not judged.
    """

    plan: DrillPlan
    saved: Saved
    wanted: Mapping[str, ToRestore]
    damage: str = ""
    left_out: tuple[DrilledApplication, ...] = ()

    @classmethod
    def of(cls, plan: DrillPlan, programs: ViewPrograms) -> _Listed:
        """Find it and list it. Raises: SourceError, ProgramError, DegradedError."""
        try:
            saved = plan.archive(programs)
            if not plan.applications:
                return cls(plan, saved, {})
            with limited_memory() as most:
                selections = {application.name: application.selection for application in plan.applications}
                listed = cls(plan, saved, restore.listed(saved, selections, most // 2))
            return listed.without({name: wanted.why for name, wanted in listed.wanted.items() if wanted.why})
        except DamagedError as error:
            return cls(plan, saved, {}, str(error))
        except TimeIsUpError as error:
            raise DegradedError("the time limit was reached while the archive was listed") from error
        except MemoryError as error:
            raise DegradedError("the applications have more files than there is memory for listing them") from error
        except NONSENSE as error:
            raise DegradedError(f"the archive cannot be listed: {judging.nonsense(error)}") from error

    def without(self, why: Mapping[str, str]) -> _Listed:
        """Return it without some applications, each with the reason, which its owner has made: others are judged."""
        wanted = {name: wanted for name, wanted in self.wanted.items() if name not in why}
        left_out = (
            replace(application.result(), why=why[application.name])
            for application in self.plan.applications
            if application.name in why
        )
        return replace(self, wanted=wanted, left_out=(*self.left_out, *left_out))

    def fitting(self, scratch: str, timeout: float) -> _Listed:
        """Return it without those for which there is not enough room where there is enough for others.

        Raises: SourceError, ProgramError, OSError.
        """
        if len(self.wanted) < 2:
            return self  # it is refused where its place would be made
        room = restore.room_in(scratch) if scratch else scratch_volume.room(self.plan.run.groups, timeout)
        large = {
            name: f"the scratch space is too small for it: {human(wanted.room)} are needed, {human(room)} are free"
            for name, wanted in self.wanted.items()
            if wanted.room > room
        }
        return self.without(large) if len(large) < len(self.wanted) else self

    @property
    def room(self) -> int:
        """How many bytes of scratch space are needed: those of the largest application, for each is removed again."""
        return max(wanted.room for wanted in self.wanted.values())

    def bad(self) -> Iterator[DrilledApplication]:
        """Yield the applications of an archive that is damaged."""
        if self.damage:
            yield from (
                replace(application.result(), verdict="bad", wrong=(self.damage,))
                for application in self.plan.applications
            )


@dataclass(frozen=True)
class _Drill:
    """The applications of a drill, one after the other."""

    listed: _Listed
    programs: ViewPrograms
    place: _Place
    log: Log

    def each(self) -> Iterator[DrilledApplication]:
        """Yield the result of each, first of those that need least room.

        Each has its share of the time that is left, however long its owner's data keep a judge: others come after it.
        """
        wanted, end = self.listed.wanted, self.programs.end
        applications = [application for application in self.listed.plan.applications if application.name in wanted]
        applications.sort(key=lambda application: wanted[application.name].room)
        for number, application in enumerate(applications):
            directory, now = os.path.join(self.place.scratch.directory, str(number)), time.monotonic()
            self.programs.end = now + (end - now) / (len(applications) - number)
            yield self._drilled(self.listed.saved, application, wanted[application.name], directory)

    def _drilled(
        self, saved: Saved, application: PlannedDrill, wanted: ToRestore, directory: str
    ) -> DrilledApplication:
        """Restore, judge and remove one application."""
        result = replace(application.result(), files=wanted.files, bytes=wanted.bytes)
        for name in ("tree", "root", "temporary"):
            os.makedirs(os.path.join(directory, name), 0o700)
        tree, begin = os.path.join(directory, "tree"), time.monotonic()
        try:
            with self.log.step(f"restoring {application.name}"), limited_memory():
                restore.restore(saved, wanted, application.selection, tree, self.programs.check)
            result = replace(result, phases=(DrillPhase("restore", round(time.monotonic() - begin, 3)),))
            with self.log.step(f"judging {application.name}"):
                return self._judged(application, result, shown(tree, application.facts), directory)
        except (DamagedError, ArchiveWrongError) as error:
            return replace(result, verdict="bad", wrong=(judging.short(str(error)),))
        except TimeIsUpError:
            return replace(result, why="the time limit was reached while it was restored")
        except BorgLvmError as error:
            said = error.brief if isinstance(error, ProgramError) else error.message
            return replace(result, why=judging.short(" ".join([said, *error.details])))
        except OSError as error:
            return replace(result, why=judging.short(f"{error.strerror}: {error.filename or application.name}"))
        except (*NONSENSE, MemoryError) as error:
            return replace(result, why=f"it cannot be restored: {judging.nonsense(error)}")
        finally:
            with suppress(OSError):  # the whole space is removed in the end, and a failure of that is reported
                scratch.remove(directory)

    def _judged(
        self, application: PlannedDrill, result: DrilledApplication, seen: Shown, directory: str
    ) -> DrilledApplication:
        """Have its parts judged, one after the other."""
        tree = TreeOnDisk(os.path.join(directory, "tree"), dict(seen.places))
        if application.judge.own:
            tree.refuse_foreign(application.judge.restored.paths)
        parts = [
            self._part(
                application,
                part,
                seen.linked(part.links).only(part.paths),
                tree.owner(part.judge.restored.paths[0]),
                directory,
            )
            for part in application.judge.divided(tree)
        ]
        return replace(
            result,
            verdict=judging.worst([part.verdict for part in parts]),
            phases=(*result.phases, *(phase for part in parts for phase in part.phases)),
            right=tuple(text for part in parts for text in part.right),
            wrong=tuple(text for part in parts for text in part.wrong),
            why="; ".join(part.why for part in parts if part.why),
        )

    def _part(self, application: PlannedDrill, part: Part, seen: Shown, owner: int, directory: str) -> Judgement:
        """Have a part judged in a sandbox, as its owner. Raises: BorgLvmError when it cannot be prepared; OSError."""
        user = Account.of(owner) if owner else Account(0, 0)
        temporary = tempfile.mkdtemp(dir=os.path.join(directory, "temporary"))
        own = os.path.join(temporary, "tmp", os.path.basename(judging.DIRECTORY))
        os.makedirs(own)
        os.chown(own, user.uid, user.gid)
        prepared = application.programs if part.judge is application.judge else part.judge.prepare()
        programs = (*prepared, *judging.own_programs(part.judge))
        root = seen.root(os.path.join(directory, "root"), programs, temporary)
        left = max(1.0, self.programs.end - time.monotonic())
        return judging.judged(part.judge, root, self.place.group, user, left).named(part.name)
