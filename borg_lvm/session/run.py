"""The page that reads like a run: each line acquires something that undoes itself, in reverse, in every case."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from borg_lvm.config.schema import Settings
from borg_lvm.errors import BusyError, SnapshotError, SourceError
from borg_lvm.linux import device_mapper, safe_open
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.quiesce import added_files
from borg_lvm.quiesce.retry import Attempts
from borg_lvm.reporting import outcome as report
from borg_lvm.reporting.certificate import Certificate
from borg_lvm.session import mark_tainted, recorder
from borg_lvm.session.survey import Survey
from borg_lvm.snapshots import extend, luks, remove
from borg_lvm.snapshots.lvm import take as taking
from borg_lvm.snapshots.monitor import Growth, watching_over
from borg_lvm.state import ledger, locks
from borg_lvm.view import command as run
from borg_lvm.view import host_view
from borg_lvm.view.control_socket import Desk
from borg_lvm.watchdog import client

if TYPE_CHECKING:
    from borg_lvm.quiesce.coordinator import Troupe


@dataclass(frozen=True)
class Held:
    """A view that is to stand where everybody sees it, and the desk at which its end is told."""

    wish: host_view.Wish
    desk: Desk


@dataclass(frozen=True)
class Job:
    """The command to run and where, and the applications that are quiesced for it, if there are any.

    `certified` is handed the certificate of the run. `held`: the command is somebody else's, between `begin` and `end`.
    """

    argv: tuple[str, ...]
    cwd: str
    keep: bool = False
    troupe: Troupe | None = None
    certified: Callable[[Certificate], None] = lambda _: None
    held: Held | None = None

    @property
    def program(self) -> str:
        """The command's program, for locks and ledgers: arguments may hold secrets and stay out of them."""
        return self.argv[0]


def perform(surveyed: Survey, job: Job, settings: Settings, log: Log) -> int:
    """Carry out the plan of a survey and return the command's exit status.

    Errors: any BorgLvmError; whatever it is, everything that could be undone has been.
    """
    outcome = report.Outcome(surveyed.plan, since=time.time(), subject="the backup" if job.held else "the command")
    clock = recorder.Clock(outcome)
    log.context["run"] = surveyed.plan.run_id
    with recorder.recorded(surveyed, outcome, job.certified, log) as statuses:
        try:
            _perform(surveyed, job, settings, log, clock)
        except Exception as error:
            outcome.refuse_harm(error)
            raise
        statuses.append(outcome.judge())
    return statuses[0]


def _perform(surveyed: Survey, job: Job, settings: Settings, log: Log, clock: recorder.Clock) -> None:
    plan, outcome = surveyed.plan, clock.outcome
    for note in plan.notes:
        log.info(f"note: {note}")
    try:
        with Signals() as signals, ExitStack() as stack:
            try:
                _acquire_and_run(surveyed, job, settings, log, signals, stack, clock)
            finally:
                clock.begin("release")
    finally:
        clock.begin("")
        if job.troupe:
            outcome.applications = job.troupe.told()
        if outcome.leftovers:
            log.warning("\n".join(["not everything could be removed; later: borg-lvm clean", *outcome.leftovers]))
        else:
            ledger.forget(plan.run_id)
    if outcome.distrust():
        span = mark_tainted.Span(outcome.begin, outcome.begin + outcome.seconds, outcome.sound_until)
        clock.begin("marking")
        marked = mark_tainted.mark(settings.hooks, surveyed.invocation, settings.on_tainted, span)
        outcome.marked, outcome.sound = marked.lines, marked.sound
        clock.begin("")
    if told := outcome.not_needed():
        log.warning("\n".join(told))
    for line, fields in report.summary(outcome):
        log.info(line, **fields)


def _acquire_and_run(
    surveyed: Survey,
    job: Job,
    settings: Settings,
    log: Log,
    signals: Signals,
    stack: ExitStack,
    clock: recorder.Clock,
) -> None:
    plan, outcome = surveyed.plan, clock.outcome
    clock.begin("waiting")
    origins = [copy.origin for copy in plan.copies]
    timeout = settings.command_timeout
    book = stack.enter_context(ledger.opened(plan.run_id, job.program))
    holder = f"run {plan.run_id}, pid {os.getpid()}, {job.program}"
    stack.enter_context(locks.held(origins, holder, settings.lock_wait, signals))
    clock.begin("preparing")
    _make_folders(surveyed.make)
    watch = stack.enter_context(client.started())
    book.write_process("guardian", watch.pid)
    taker = taking.Taker(plan, watch, book, signals, settings.deadline, timeout)
    tries = Attempts(settings.attempts, settings.retry_pause, signals, log)

    def released() -> AbstractContextManager[None]:
        return remove.released(plan, watch, book, log, outcome.leftovers, keep=job.keep, timeout=timeout)

    def take() -> tuple[report.Instant, ...]:
        clock.begin("preparing")
        quiesced: taking.Quiesced = nullcontext
        if job.troupe:
            ready = job.troupe.prepare(watch, book, signals, outcome.leftovers, patient=tries.another)
            quiesced = ready.quiesced
        clock.begin("snapshots")
        try:
            with log.step(f"snapshot of {', '.join(volume.full_name for volume in origins)}"):
                return taker.take(quiesced)
        except BusyError:
            clock.begin("waiting")
            if job.troupe:
                job.troupe.close()
            raise

    outcome.instants = stack.enter_context(tries.kept(released, take, outcome.leftovers))
    clock.begin("view")
    if job.troupe:
        job.troupe.ask_again()
        added_files.put(plan, job.troupe.added(), book)
        job.troupe.close()
    _refuse_what_has_changed(surveyed)
    stack.enter_context(luks.opened(plan.copies, book, outcome.leftovers))
    running = _begun(job, outcome, book, signals, log, stack)
    grower = extend.Grower(watch, book, timeout)
    ids = {name: uuid for uuid, name in book.made.items()}
    is_read = running.is_read if surveyed.reading.reads_once else None
    watcher = stack.enter_context(watching_over(plan, ids, _growth(settings), grower, log, is_read))
    clock.begin("command")
    outcome.begin, begin = time.time(), time.monotonic()
    outcome.status = running.wait(watcher)
    outcome.seconds = time.monotonic() - begin
    outcome.kept = "snapshots kept" if job.keep else ""
    outcome.vanished, outcome.appeared = running.vanished(), running.appeared()
    outcome.fills = tuple(device_mapper.fill(copy.dm_name, ids.get(copy.full_name, "")) for copy in plan.copies)
    outcome.over, outcome.stories, outcome.pools = watcher.over, watcher.stories(), watcher.pools()
    outcome.sound_until = 0.0 if outcome.vanished or outcome.appeared else watcher.sound_until


def _begun(
    job: Job, outcome: report.Outcome, book: ledger.Ledger, signals: Signals, log: Log, stack: ExitStack
) -> run.Running | host_view.Standing:
    """Build the view, have applications look at their copies in it, and let the command go, whoever starts that."""
    plan = outcome.plan
    look = partial(job.troupe.verify, plan, signals) if job.troupe else None
    if job.held:
        stood = stack.enter_context(host_view.standing(job.held.wish, plan, job.held.desk, book, signals, log))
        if look:
            stood.verify(look)
        return stood
    moment = outcome.instants[0].begin if len(outcome.instants) == 1 else None
    command = run.Command(job.argv, job.cwd, moment, look)
    return stack.enter_context(run.started(plan, command, book, signals, log))


def _growth(settings: Settings) -> Growth:
    wishes = settings.snapshot
    return Growth(wishes.grow, wishes.grow_pool, wishes.reserve)


def _refuse_what_has_changed(surveyed: Survey) -> None:
    """Refuse to go on when a file system came or went between survey and snapshot: the plan knows nothing of it."""
    changed = surveyed.changed()
    if changed:
        raise SnapshotError(
            f"file systems were mounted or unmounted while the run began: {', '.join(changed)}",
            remedy="run it again",
        )


def _make_folders(folders: Sequence[str]) -> None:
    """Make the caches that the program would make itself if its view were not read-only."""
    for folder in folders:
        try:
            os.close(safe_open.folders(folder))
        except OSError as error:
            raise SourceError(f"cannot make {folder}, which the command needs: {error.strerror}") from error
