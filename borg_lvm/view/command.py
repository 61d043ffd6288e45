"""The wrapped command: started inside the view, its signals passed on, its status passed through.

What becomes the command is in `execute.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial

from borg_lvm.linux import processes, safe_open
from borg_lvm.linux.namespaces import ViewNamespace, inside
from borg_lvm.linux.signals import ENDING, STRAY, Signals
from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan
from borg_lvm.records import dataclass
from borg_lvm.snapshots.monitor import Moment, Watcher
from borg_lvm.state.ledger import Ledger
from borg_lvm.view import execute, mounting, mounts, path_watch, teardown
from borg_lvm.view.execute import LED_ELSEWHERE, Command, Mask
from borg_lvm.view.path_watch import Watch

# Passed on when a process sent them to us; a terminal's reach the command by itself, being in our process group.
FORWARDED = (*ENDING, *STRAY, signal.SIGWINCH)
SI_KERNEL = 0x80


@dataclass
class Running:
    """The command's process, and the descriptor that keeps its mount namespace alive until we let go of it.

    `watch` knows whether the way to a source was moved, also for a moment: the command may have read another's files.
    `began`: when the command was let go. `forced`: it did not end when it was asked to, and was killed.
    """

    pid: int
    namespace: int
    plan: Plan
    devices: tuple[int, ...]
    watch: Watch
    began: Moment = Moment(0.0, 0.0)
    ended: bool = False
    forced: bool = False

    def wait(self, watcher: Watcher) -> int:
        """Wait for the command, passing signals on, and return its exit status as a shell would give it.

        It is ended as soon as the watcher says that what it reads is invalid any more. What the command
        itself sends us is not sent back: borgmatic hands each signal on to its whole process group, which on a terminal
        is ours.
        """
        ending = teardown.Terminator(self.pid, self.namespace)
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended, self.forced = True, ending.forced
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            pause = watcher.look()
            if watcher.over:
                ending.go_on()
            got = signal.sigtimedwait({*FORWARDED, signal.SIGCHLD}, pause)
            if got and got.si_signo != signal.SIGCHLD and got.si_code != SI_KERNEL and got.si_pid != self.pid:
                os.kill(self.pid, got.si_signo)

    @property
    def view(self) -> ViewNamespace:
        """The view as others enter it."""
        return ViewNamespace(self.namespace, self.devices)

    def sparing_page_cache(self, log: Log) -> AbstractContextManager[None]:
        """Drop from the page cache, for the length of the block, what is read of the snapshots in the view."""
        from borg_lvm.view import page_cache

        return page_cache.spared(self.shown(), partial(inside, self.namespace), log)

    def shown(self) -> list[tuple[str, int]]:
        """Return each frozen path of the view, with the device number of its snapshot."""
        return [(mount.target, self.devices[mount.snapshot]) for mount in self.plan.view_mounts]

    def is_read(self) -> bool:
        """Whether a process in the view has a file or a directory of a snapshot open."""
        return bool(processes.readers(self.namespace, frozenset(self.devices)))

    def appeared(self) -> tuple[str, ...]:
        """Return the sources that did not exist when the run began, and do now: what was read there was live."""
        if not self.plan.absent:
            return ()
        appeared = _named(self.namespace, lambda: mounts.appeared(self.plan, self.devices))
        return self.plan.absent if appeared is None else tuple(appeared)

    def vanished(self) -> tuple[str, ...]:
        """Return the covered paths that do not show their snapshot any more: what was read there was live."""
        vanished = _named(
            self.namespace, lambda: [*mounts.uncovered(self.plan, self.devices), *mounts.led_elsewhere(self.plan)]
        )
        if vanished is None:
            return ("(the view cannot be entered any more)",)
        return tuple(dict.fromkeys([*vanished, *self.watch.moved()]))


def _named(namespace: int, look: Callable[[], list[str]]) -> list[str] | None:
    """Return the paths that `look` finds in the view; None if it failed."""
    answer = inside(namespace, lambda: "\0".join(look()))
    if answer is None:
        return None
    return answer.split("\0") if answer else []


@contextmanager
def started(plan: Plan, command: Command, ledger: Ledger, signals: Signals, log: Log) -> Iterator[Running]:
    """Build the view, start the command in it, and in the end take the view away.

    Raises: SnapshotError when the view cannot be built; CommandNotFoundError and CommandNotExecutableError; whatever
    `look` raises; InterruptedRunError for a signal that came meanwhile.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    try:
        signals.check()
        with path_watch.watching(path_watch.lasting(plan)) as watch, ExitStack() as beside:
            with execute.waiting(plan, command, ledger, mask, watch) as child, child.view() as namespace:
                running = Running(child.pid, namespace, plan, mounts.device_numbers(plan), watch)
                for name in watch.moved():
                    raise safe_open.changed(name, LED_ELSEWHERE)
                with _heeding(signals, mask):  # also what came while the view was built
                    if command.look:
                        command.look(running.view)
                if command.spares_page_cache:
                    beside.enter_context(running.sparing_page_cache(log))
                ledger.write_process("command", child.pid)
                running.began = Moment.now()  # before it: what it saves is found by when it ran
                child.let_go(command.argv[0])
            try:
                yield running
            finally:
                if not running.ended:  # an error of ours: a command that nobody judges must not go on
                    with suppress(ProcessLookupError, ChildProcessError):
                        os.kill(running.pid, signal.SIGTERM)
                        os.waitpid(running.pid, 0)
                beside.close()  # it may have a file of a snapshot open
                # From here on signals are only taken note of: a release goes on to its end.
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                teardown.let_go(running.namespace, mounting.steps(plan, ""), frozenset(running.devices), log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _heeding(signals: Signals, mask: Mask) -> Iterator[None]:
    """Have ending signals end the run in the block, as they do before; afterwards the command gets them."""
    heeded = {*ENDING, *STRAY} - mask
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, heeded)
    signals.check()
