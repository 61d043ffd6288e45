"""The process that becomes the command: it builds the view, waits for us, and replaces itself.

Standard streams, terminal, limits and umask are inherited untouched, and so is the environment but for two variables
that name the run. The process group is, too, on a terminal, whose job control goes by it; elsewhere the command gets
one of its own.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NoReturn

from borg_lvm.errors import CommandNotExecutableError, CommandNotFoundError, SnapshotError, with_notes
from borg_lvm.linux import processes, safe_open, syscalls
from borg_lvm.linux.namespaces import LONGEST, ViewNamespace
from borg_lvm.linux.signals import as_inherited, take_effect
from borg_lvm.planning.plan import Plan
from borg_lvm.records import dataclass
from borg_lvm.state.ledger import Ledger
from borg_lvm.view import mounts
from borg_lvm.view.path_watch import Watch

Mask = set[int | signal.Signals]
READY = b"ready "
"""So begins what the child reports of a view that it has built; the sources whose ways lead elsewhere follow (JSON)."""
LED_ELSEWHERE = "it leads elsewhere now, or did at the instant"
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores for itself and that the command must find as usual."""


@dataclass(frozen=True)
class Command:
    """What is run, and where; `look` is called when the view stands and the command has not begun.

    `instant` is what it sees (Unix time), if it is but one: it finds that in its environment. `spares_page_cache`: what
    it reads of the snapshots is dropped from the page cache.
    """

    argv: Sequence[str]
    cwd: str
    instant: float | None = None
    look: Callable[[ViewNamespace], None] | None = None
    spares_page_cache: bool = False


@dataclass(frozen=True)
class CommandProcess:
    """The process that is to become the command; it reports through one pipe, and waits for a word on the other."""

    pid: int
    report: int
    go: int

    @contextmanager
    def view(self) -> Iterator[int]:
        """Wait for its view, and give a descriptor of its namespace, which stays open if the block ends well.

        Raises: SnapshotError when the view cannot be built, or the way to a source leads elsewhere in it.
        """
        if not select.select([self.report], [], [], LONGEST)[0]:
            os.kill(self.pid, signal.SIGKILL)
            raise SnapshotError(f"the frozen view cannot be built: that took longer than {LONGEST:g} s")
        answer = _read_all(self.report, until=b"\n")
        if not answer.startswith(READY):
            why = answer.decode(errors="replace").strip() or "killed"
            raise SnapshotError(f"the frozen view cannot be built: {why}")
        for name in json.loads(answer.removeprefix(READY)):
            raise safe_open.changed(name, LED_ELSEWHERE)
        namespace = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        except BaseException:
            os.close(namespace)
            raise

    def let_go(self, program: str) -> None:
        """Have it become the command, which is called so. Raises: CommandNotFoundError, CommandNotExecutableError."""
        os.write(self.go, b"g")
        failure = _read_all(self.report)
        if failure:
            raise _not_executed(int(failure), program)


@contextmanager
def waiting(plan: Plan, command: Command, ledger: Ledger, mask: Mask, watch: Watch) -> Iterator[CommandProcess]:
    """Start the process, with the signal mask that it is to have; it ends with the block, unless that ends well.

    It has the ways to the sources watched as they are in the view, before it reports.
    """
    staging = os.path.join(ledger.directory, "view")
    os.mkdir(staging, 0o700)
    read_end, report = os.pipe()
    heed, go = os.pipe()
    ledger.write("view")
    pid = os.fork()
    if pid == 0:
        os.close(go)  # so that an end of file shows that our parent has died
        ledger.let_go()
        _child(plan, command, staging, Given(report, heed, mask, watch))
    os.close(report)
    os.close(heed)
    try:
        yield CommandProcess(pid, read_end, go)
    except BaseException:
        os.close(go)  # which ends a child that waits for us
        os.close(read_end)
        os.waitpid(pid, 0)
        raise
    os.close(go)
    os.close(read_end)


@dataclass(frozen=True)
class Given:
    """What the child is given: its ends of two pipes, its signal mask, and the watch of the ways to the sources.

    `report` is to write how it fares, `heed` says when to go.
    """

    report: int
    heed: int
    mask: Mask
    watch: Watch


def _child(plan: Plan, command: Command, staging: str, given: Given) -> NoReturn:
    """Become the command. Never returns and never raises: what goes wrong is reported through the pipe."""
    try:
        parent = os.getppid()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        take_effect()
        mounts.build(plan, staging, command.cwd)
        os.write(given.report, READY + json.dumps(mounts.follow(plan, given.watch)).encode() + b"\n")
        if os.read(given.heed, 1) == b"g":  # an end of file: our parent is dead
            for signum in RESTORED:
                signal.signal(signum, signal.SIG_DFL)
            as_inherited()
            _leave_group()
            _exec(command.argv, given.report, given.mask, _run_variables(plan, command))
    except BaseException as error:
        os.write(given.report, with_notes(error).encode(errors="replace"))
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


def _exec(argv: Sequence[str], report: int, mask: Mask, variables: Mapping[bytes, bytes]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvpe(argv[0], list(argv), {**_environment(), **variables})  # noqa: S606 - no shell, on purpose
    except OSError as error:
        os.write(report, str(error.errno).encode())


def _run_variables(plan: Plan, command: Command) -> dict[bytes, bytes]:
    """Return what the command finds in its environment besides: the run's id, and the instant in ISO 8601."""
    variables = {b"BORG_LVM_RUN": plan.run_id.encode()}
    if command.instant is not None:
        moment = datetime.fromtimestamp(command.instant, UTC)
        variables[b"BORG_LVM_INSTANT"] = moment.isoformat(timespec="seconds").encode()
    return variables


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
