"""The page that reads like a run: each step acquires something that undoes itself, in reverse, in every case."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from borg_lvm.errors import BUG_STATUS, BusyError, SnapshotError, SourceError
from borg_lvm.linux import namespaces, safe_open
from borg_lvm.linux.signals import Signals
from borg_lvm.plugins import wrappers
from borg_lvm.proof import stage
from borg_lvm.quiesce.retry import Attempts
from borg_lvm.records import dataclass, field
from borg_lvm.reporting.outcome import Instant, Leftovers, Outcome, summary
from borg_lvm.session import automounts, recorder
from borg_lvm.session.recorder import Clock, RunResult
from borg_lvm.snapshots.monitor import Watcher, watching_over
from borg_lvm.snapshots.provider import Growth, RunContext
from borg_lvm.snapshots.providers import provider
from borg_lvm.snapshots.take import Quiesced, Taker
from borg_lvm.state import ledger, locks
from borg_lvm.view import command, teardown
from borg_lvm.view.execute import Command
from borg_lvm.watchdog import client

if TYPE_CHECKING:
    from borg_lvm.config.schema import Settings
    from borg_lvm.log import Log
    from borg_lvm.quiesce.coordinator import Applications
    from borg_lvm.session.survey import Survey
    from borg_lvm.state.ledger import Ledger
    from borg_lvm.view.command import Running
    from borg_lvm.view.host_view import HostView, ViewRequest
    from borg_lvm.watchdog.client import Watchdog


@dataclass(frozen=True)
class RunRequest:
    """The command to run and where, and the applications that are quiesced for it, if there are any.

    `view`: the command is somebody else's, between `begin` and `end`, who reads this view.
    """

    argv: tuple[str, ...]
    cwd: str
    keep: bool = False
    applications: Applications | None = None
    view: ViewRequest | None = None

    @property
    def program(self) -> str:
        """The command's program, for locks and ledgers: arguments may hold secrets and stay out of them."""
        return self.argv[0]


def perform(surveyed: Survey, request: RunRequest, settings: Settings, log: Log) -> RunResult:
    """Carry out the plan of a survey; everything that can be undone has been when it returns.

    What has ended the run, if it has failed, is in the result: the caller may raise it.
    """
    outcome = Outcome(surveyed.plan, since=time.time(), subject="the backup" if request.view else "the command")
    log.context["run"] = surveyed.plan.run_id
    status, failure = BUG_STATUS, None
    try:
        status = _Run(surveyed, request, settings, log, outcome).perform()
    except BaseException as error:
        failure = error
    return recorder.recorded(surveyed, outcome, status, failure, log)


@dataclass
class _Run:
    """A run: what it is given, and what it holds while it goes on; `invocation` is its command, once that is known."""

    surveyed: Survey
    request: RunRequest
    settings: Settings
    log: Log
    outcome: Outcome
    clock: Clock = field(init=False)
    stack: ExitStack = field(init=False)
    signals: Signals = field(init=False)
    ledger: Ledger = field(init=False)
    watchdog: Watchdog = field(init=False)
    context: RunContext = field(init=False)
    leftovers: list[Leftovers] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock(self.outcome)
        self.plan = self.surveyed.plan
        self.invocation = self.surveyed.invocation

    def perform(self) -> int:
        """Do it all; return the command's exit status. Raises: BorgLvmError, with everything undone that can be."""
        try:
            for note in self.plan.notes:
                self.log.info(f"note: {note}")
            try:
                self._backup()
            finally:
                self._end()
            self._mark()
            for line, fields in summary(self.outcome):
                self.log.info(line, **fields)
        except Exception as error:
            self.outcome.refuse_harm(error)
            raise
        return self.outcome.judge()

    def _backup(self) -> None:
        with Signals() as self.signals, ExitStack() as self.stack:
            try:
                self._acquire()
                self._take_snapshots()
                self._open_snapshots()
                running = self._mount_view()
                self._wait(running, self.stack.enter_context(self._monitor(running)))
            finally:
                self.clock.begin("release")

    def _acquire(self) -> None:
        """Have the ledger, the locks and the watchdog."""
        plan, hold = self.plan, self.stack.enter_context
        self.clock.begin("waiting")
        self.ledger = hold(ledger.opened(plan.run_id, self.request.program))
        holder = f"run {plan.run_id}, pid {os.getpid()}, {self.request.program}"
        origins = [snapshot.origin for snapshot in plan.snapshots]
        hold(locks.held(origins, holder, self.settings.lock_wait, self.signals))
        self.clock.begin("preparing")
        hold(automounts.held(self.surveyed.live))
        _make_directories(self.surveyed.make)
        self.watchdog = hold(client.started())
        self.ledger.write_process("watchdog", self.watchdog.pid)
        deadline, timeout = self.settings.deadline, self.settings.command_timeout
        self.context = RunContext(plan, self.watchdog, self.ledger, self.signals, self.log, deadline, timeout)

    def _take_snapshots(self) -> None:
        """Quiesce, take the snapshots and resume, anew while an application is busy; they are removed in the end."""
        tries = Attempts(self.settings.attempts, self.settings.retry_pause, self.signals, self.log)
        take = partial(self._attempt, Taker(self.context, provider()), tries)
        self.outcome.instants = self.stack.enter_context(tries.kept(self._released, take))

    def _attempt(self, taker: Taker, tries: Attempts) -> tuple[Instant, ...]:
        self.clock.begin("preparing")
        quiesced: Quiesced = nullcontext
        applications = self.request.applications
        if applications:
            quiesced = applications.prepare(self.watchdog, self.ledger, self.signals, patient=tries.another).quiesced
        self.clock.begin("snapshots")
        names = ", ".join(snapshot.origin.full_name for snapshot in self.plan.snapshots)
        try:
            with self.log.step(f"snapshot of {names}"):
                return taker.take(quiesced)
        except BusyError:
            self.clock.begin("waiting")
            if applications:
                applications.close()
            raise

    @contextmanager
    def _released(self) -> Iterator[Leftovers]:
        """Have the snapshots removed in the end; gives what could not be."""
        with provider().released(self.context, keep=self.request.keep) as leftovers:
            self.leftovers.append(leftovers)
            yield leftovers

    def _open_snapshots(self) -> None:
        """Do what is left to do with the snapshots themselves: files that a restore needs, LUKS."""
        self.clock.begin("view")
        if applications := self.request.applications:
            from borg_lvm.quiesce import added_files

            applications.ask_again()
            added_files.put(self.plan, applications.added(), self.ledger)
            applications.close()
        _refuse_what_has_changed(self.surveyed)
        if any(snapshot.crypt for snapshot in self.plan.snapshots):
            from borg_lvm.snapshots import luks

            self.leftovers.append(self.stack.enter_context(luks.opened(self.plan.snapshots, self.ledger)))

    def _mount_view(self) -> Running | HostView:
        """Build the view, have applications look at their snapshots in it, and let the command go."""
        request, plan = self.request, self.plan
        look = partial(request.applications.verify, plan, self.signals) if request.applications else None
        if request.view:
            from borg_lvm.view import host_view, page_cache

            view = host_view.mounted(request.view, plan, self.ledger, self.signals, self.log)
            mounted = self.stack.enter_context(view)
            if look:
                mounted.verify(look)
            if self._spares_page_cache():
                self.stack.enter_context(page_cache.spared(mounted.shown(), namespaces.apart, self.log))
            return mounted
        moment = self.outcome.instants[0].begin if len(self.outcome.instants) == 1 else None
        wanted = Command(request.argv, request.cwd, moment, look, self._spares_page_cache())
        return self.stack.enter_context(command.started(plan, wanted, self.ledger, self.signals, self.log))

    def _spares_page_cache(self) -> bool:
        """Whether what is read of the snapshots is dropped from the page cache: a script may read all of it twice."""
        wanted = self.settings.snapshot.page_cache
        return wanted == "drop" or (wanted == "auto" and bool(self.surveyed.reading.sources))

    def _monitor(self, running: Running | HostView) -> AbstractContextManager[Watcher]:
        """Watch the snapshots, and extend them."""
        settings = self.settings.snapshot
        growth = Growth(settings.grow, settings.grow_pool, settings.reserve)
        is_read = running.is_read if self.surveyed.reading.reads_once else None
        return watching_over(provider().monitors(self.context, growth), self.log, running.began, is_read)

    def _wait(self, running: Running | HostView, monitor: Watcher) -> None:
        """Wait for the end of the command; note what it has seen, and how its snapshots fared."""
        outcome = self.outcome
        self.clock.begin("command")
        outcome.status = running.wait(monitor)
        if isinstance(running, command.Running) and running.forced:
            self.log.warning(f"the command did not end within {teardown.COMMAND_PATIENCE:g} s and was killed")
        outcome.seconds, outcome.ran = time.monotonic() - running.began.monotonic, monitor.ran()
        outcome.kept = "snapshots kept" if self.request.keep else ""
        outcome.vanished, outcome.appeared = running.vanished(), running.appeared()
        outcome.fills = tuple(provider().fill(self.context, snapshot) for snapshot in self.plan.snapshots)
        outcome.over, outcome.stories, outcome.pools = monitor.over, monitor.stories(), monitor.pools()
        outcome.sound_until = 0.0 if outcome.vanished or outcome.appeared else monitor.sound_until
        self._prove(running, monitor)

    def _prove(self, running: Running | HostView, monitor: Watcher) -> None:
        """Read back what the command has saved, while its view is there."""
        outcome = self.outcome
        if isinstance(running, command.Running):
            asked = stage.of_run(self.plan, self.invocation)
        else:
            if running.ended and running.ended.argv:
                self.invocation = wrappers.peel(running.ended.argv, running.ended.env, running.ended.cwd)
            asked = stage.of_view(running, self.invocation, self.settings)
        if not asked or outcome.distrust():
            return
        from borg_lvm.proof.process import ProofMeans

        self.clock.begin("proof")
        means = ProofMeans(running.view, monitor, self.ledger, self.signals, self.log)
        outcome.proof = stage.after(asked, self.settings.hooks, outcome, means)
        self.clock.begin("release")

    def _end(self) -> None:
        """When all is undone, note the applications' results, and what is left; the ledger is kept if anything is."""
        self.clock.begin("")
        if applications := self.request.applications:
            self.outcome.applications = applications.results()
            self.outcome.leftovers.extend(applications.not_resumed())
        for leftovers in self.leftovers:
            self.outcome.leftovers.add(leftovers)
        if self.outcome.leftovers:
            details = ["not everything could be removed; later: borg-lvm clean", *self.outcome.leftovers]
            self.log.warning("\n".join(details))
        else:
            ledger.forget(self.plan.run_id)

    def _mark(self) -> None:
        """Have the plugins mark what was saved from a lost snapshot."""
        outcome = self.outcome
        if outcome.distrust():
            from borg_lvm.session import mark_tainted

            loss = mark_tainted.LossTimes.of(outcome)
            self.clock.begin("marking")
            marked = mark_tainted.mark(self.settings.hooks, self.invocation, self.settings.on_tainted, loss)
            outcome.marked, outcome.sound = marked.lines, marked.sound
            self.clock.begin("")
        for warning in outcome.warnings():
            self.log.warning(warning)


def _refuse_what_has_changed(surveyed: Survey) -> None:
    """Refuse to go on when a file system came or went between survey and snapshot: the plan knows nothing of it."""
    changed = surveyed.changed()
    if changed:
        raise SnapshotError(
            f"file systems were mounted or unmounted while the run began: {', '.join(changed)}",
            remedy="run it again",
        )


def _make_directories(directories: Sequence[str]) -> None:
    """Make the caches that the program would make itself if its view were not read-only."""
    for directory in directories:
        try:
            os.close(safe_open.directories(directory))
        except OSError as error:
            raise SourceError(f"cannot make {directory}, which the command needs: {error.strerror}") from error
