"""The wrapped command: started inside the view, its signals passed on, its status passed through.

Standard streams, terminal, limits and umask are inherited untouched, and so is the environment but for two variables
that tell of the run. The process group is, too, on a terminal, whose job control goes by it; elsewhere the command gets
one of its own.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from borg_lvm.errors import CommandNotExecutableError, CommandNotFoundError, SnapshotError, with_notes
from borg_lvm.linux import processes, safe_open, syscalls
from borg_lvm.linux.namespaces import View, inside
from borg_lvm.linux.signals import ENDING, STRAY, Signals, as_inherited, take_effect
from borg_lvm.log import Log
from borg_lvm.planning.plan import Plan
from borg_lvm.snapshots.monitor import Watcher
from borg_lvm.state.ledger import Ledger
from borg_lvm.view import mounting, mounts, path_watch, teardown
from borg_lvm.view.path_watch import Watch

# Passed on when a process sent them to us; a terminal's reach the command by itself, being in our process group.
FORWARDED = (*ENDING, *STRAY, signal.SIGWINCH)
Mask = set[int | signal.Signals]
SI_KERNEL = 0x80
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores for itself and that the command must find as usual."""


@dataclass
class Running:
    """The command's process, and the descriptor that keeps its mount namespace alive until we let go of it.

    `watch` knows whether the way to a source was moved, also for a moment: the command may have read another's files.
    """

    pid: int
    namespace: int
    plan: Plan
    devices: tuple[int, ...]
    watch: Watch
    ended: bool = False

    def wait(self, watcher: Watcher) -> int:
        """Wait for the command, passing signals on, and return its exit status as a shell would give it.

        It is ended as soon as the watcher says that what it reads is invalid any more. What the command
        itself sends us is not sent back: borgmatic hands each signal on to its whole process group, which on a terminal
        is ours.
        """
        ending = teardown.Ending(self.pid, self.namespace)
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = True
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            pause = watcher.look()
            if watcher.over:
                ending.go_on()
            got = signal.sigtimedwait({*FORWARDED, signal.SIGCHLD}, pause)
            if got and got.si_signo != signal.SIGCHLD and got.si_code != SI_KERNEL and got.si_pid != self.pid:
                os.kill(self.pid, got.si_signo)

    def is_read(self) -> bool:
        """Whether a process in the view has a file or a directory of a snapshot open."""
        return bool(processes.readers(self.namespace, frozenset(self.devices)))

    def appeared(self) -> tuple[str, ...]:
        """Return the sources that did not exist when the run began, and do now: what was read there was live."""
        if not self.plan.absent:
            return ()
        found = _named(self.namespace, lambda: mounts.appeared(self.plan, self.devices))
        return self.plan.absent if found is None else tuple(found)

    def vanished(self) -> tuple[str, ...]:
        """Return the covered paths that do not show their snapshot any more: what was read there was live."""
        found = _named(
            self.namespace, lambda: [*mounts.uncovered(self.plan, self.devices), *mounts.led_elsewhere(self.plan)]
        )
        if found is None:
            return ("(the view cannot be entered any more)",)
        return tuple(dict.fromkeys([*found, *self.watch.moved()]))


def _named(namespace: int, look: Callable[[], list[str]]) -> list[str] | None:
    """Return the paths that `look` finds in the view; None if it failed."""
    answer = inside(namespace, lambda: "\0".join(look()))
    if answer is None:
        return None
    return answer.split("\0") if answer else []


@dataclass(frozen=True)
class Command:
    """What is run, and where; `look` is called when the view stands and the command has not begun.

    `instant` is what it sees (Unix time), if it is but one: it finds that in its environment.
    """

    argv: Sequence[str]
    cwd: str
    instant: float | None = None
    look: Callable[[View], None] | None = None


@contextmanager
def started(plan: Plan, command: Command, ledger: Ledger, signals: Signals, log: Log) -> Iterator[Running]:
    """Build the view, start the command in it, and in the end take the view away.

    Raises: SnapshotError when the view cannot be built; CommandNotFoundError and CommandNotExecutableError; whatever
    `look` raises; InterruptedRunError for a signal that came meanwhile.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    try:
        signals.check()
        with path_watch.watching(mounts.lasting(plan)) as watch:
            running = _start(plan, command, ledger, signals, mask, watch)
            try:
                yield running
            finally:
                if not running.ended:  # an error of ours: a command that nobody judges must not go on
                    with suppress(ProcessLookupError, ChildProcessError):
                        os.kill(running.pid, signal.SIGTERM)
                        os.waitpid(running.pid, 0)
                # From here on signals are only taken note of: a release goes on to its end.
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                teardown.let_go(running.namespace, mounting.steps(plan, ""), frozenset(running.devices), log)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _told(plan: Plan, command: Command) -> dict[bytes, bytes]:
    """Return what the command finds in its environment besides: the run's id, and the instant in ISO 8601."""
    told = {b"BORG_LVM_RUN": plan.run_id.encode()}
    if command.instant is not None:
        moment = datetime.fromtimestamp(command.instant, UTC)
        told[b"BORG_LVM_INSTANT"] = moment.isoformat(timespec="seconds").encode()
    return told


def _start(plan: Plan, command: Command, ledger: Ledger, signals: Signals, mask: Mask, watch: Watch) -> Running:
    staging = os.path.join(ledger.folder, "view")
    os.mkdir(staging, 0o700)
    report, tell = os.pipe()
    heed, go = os.pipe()
    ledger.write("view")
    pid = os.fork()
    if pid == 0:
        os.close(go)  # so that an end of file tells us of our parent's death
        ledger.let_go()
        _child(plan, command, staging, Pipes(tell, heed), mask)
    os.close(tell)
    os.close(heed)
    try:
        devices = mounts.device_numbers(plan)

        def look(namespace: int) -> None:
            led = _named(namespace, lambda: mounts.follow(plan, watch))
            if led is None:
                raise SnapshotError(
                    "the ways to the sources cannot be watched in the view",
                    remedy="raise fs.inotify.max_user_watches (sysctl)",
                )
            for name in (*led, *watch.moved()):
                raise safe_open.changed(name, "it leads elsewhere now, or did at the instant")
            with _heeding(signals, mask):  # also what came while the view was built
                if command.look:
                    command.look(View(namespace, devices))

        namespace = _hand_over(pid, report, go, ledger, command.argv, look)
    except BaseException:
        os.close(go)  # which ends a child that waits for us
        os.close(report)
        os.waitpid(pid, 0)
        raise
    os.close(go)
    os.close(report)
    return Running(pid, namespace, plan, devices, watch)


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


def _hand_over(pid: int, report: int, go: int, ledger: Ledger, argv: Sequence[str], look: Callable[[int], None]) -> int:
    """Wait for the view, `look` at it, write the process down, let the command go; returns its namespace."""
    answer = _read_all(report, until=b"\n")
    if answer != b"ready\n":
        raise SnapshotError(f"the frozen view cannot be built: {answer.decode(errors='replace').strip() or 'killed'}")
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        look(namespace)
        ledger.write_process("command", pid)
        os.write(go, b"g")
        failure = _read_all(report)
        if failure:
            raise _not_executed(int(failure), argv[0])
    except BaseException:
        os.close(namespace)
        raise
    return namespace


def _not_executed(number: int, program: str) -> CommandNotFoundError | CommandNotExecutableError:
    if number in (errno.ENOENT, errno.ENOTDIR):
        return CommandNotFoundError(f"{program}: command not found in the frozen view")
    return CommandNotExecutableError(f"{program}: {os.strerror(number)}")


def _read_all(fd: int, until: bytes = b"\0") -> bytes:
    data = b""
    while not data.endswith(until):
        more = os.read(fd, 4096)
        if not more:
            break
        data += more
    return data


@dataclass(frozen=True)
class Pipes:
    """The child's ends of its two pipes: one to tell us how it fares, one that says when to go."""

    tell: int
    heed: int


def _child(plan: Plan, command: Command, staging: str, pipes: Pipes, mask: Mask) -> NoReturn:
    """Become the command. Never returns and never raises: what goes wrong is told through the pipe."""
    try:
        parent = os.getppid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        take_effect()
        mounts.build(plan, staging, command.cwd)
        os.write(pipes.tell, b"ready\n")
        if os.read(pipes.heed, 1) == b"g":  # an end of file: our parent is dead
            for signum in RESTORED:
                signal.signal(signum, signal.SIG_DFL)
            as_inherited()
            _leave_group()
            _exec(command.argv, pipes.tell, mask, _told(plan, command))
    except BaseException as error:
        os.write(pipes.tell, with_notes(error).encode(errors="replace"))
    finally:
        os._exit(1)


def _leave_group() -> None:
    """Be a process group of our own where no terminal goes by it: who ends its whole group must not end a script.

    borgmatic does so. Source: proc_pid_stat(5), field 7.
    """
    if not int(processes.stat_fields("self")[4]):  # the terminal
        os.setpgid(0, 0)


def become(argv: Sequence[str]) -> NoReturn:
    """Replace us by a command, in all respects as we were started. Raises: as for `started`."""
    for signum in RESTORED:
        signal.signal(signum, signal.SIG_DFL)
    as_inherited()
    try:
        os.execvpe(argv[0], list(argv), _environment())  # noqa: S606 - no shell, on purpose
    except OSError as error:
        raise _not_executed(error.errno or errno.ENOEXEC, argv[0]) from error


def _environment() -> dict[bytes, bytes]:
    """Return the environment that we were started with: Python adds LC_CTYPE to it in the C locale (PEP 538)."""
    environment = dict(os.environb)
    with suppress(OSError), open("/proc/self/environ", "rb") as file:
        if b"\0LC_CTYPE=" not in b"\0" + file.read():
            environment.pop(b"LC_CTYPE", None)
    return environment


def _exec(argv: Sequence[str], tell: int, mask: Mask, told: Mapping[bytes, bytes]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvpe(argv[0], list(argv), {**_environment(), **told})  # noqa: S606 - no shell, on purpose
    except OSError as error:
        os.write(tell, str(error.errno).encode())
