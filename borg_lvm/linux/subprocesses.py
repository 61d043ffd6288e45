"""The one door to other programs: argument vectors, a scrubbed environment, a time limit, no shell.

Programs are started in a session of their own, so that a Ctrl-C on the terminal reaches the wrapped command and
us, but never an `lvcreate` half-way through. Nothing of ours is inherited but the three standard descriptors.
"""

from __future__ import annotations

import os
import pwd
import resource
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import IO, Any, TypeVar

from borg_lvm.errors import BorgLvmError
from borg_lvm.linux import syscalls
from borg_lvm.records import dataclass

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"
"""Where system programs lie; the last one is NixOS', which has nothing but sh and env in the others."""
# Kept from our own environment: where LVM's configuration lies, and whether udev makes the device nodes.
KEPT = ("LVM_SYSTEM_DIR", "DM_DISABLE_UDEV", "DM_DISABLE_UDEV_FALLBACK")
DEFAULT_TIMEOUT = 120.0
MOST = 64 << 20
"""How many bytes a program may write to one of its outputs before it is killed."""
NOBODY = 65534
LOOK_AGAIN = 0.005  # seconds between two looks whether a program has ended that runs beside something else
T = TypeVar("T")
Steps = Generator[None, None, T]
"""Something that is done a step at a time while something else goes on; it yields while it has to wait."""


class ProgramError(BorgLvmError):
    """A program failed.

    `stderr` holds its own words, `returncode` its exit status (0: it did not come to one); `brief` leaves out its
    arguments, which may hold secrets. `stdout` is what it had to say besides.
    """

    status = 71
    stdout = ""

    def __init__(self, argv: Sequence[str], reason: str, stderr: str = "", returncode: int = 0) -> None:
        words = tuple(line.strip() for line in stderr.splitlines() if line.strip())
        super().__init__(f"{argv[0]} {reason} ({' '.join(argv)})", details=words)
        self.brief = f"{argv[0]} {reason}"
        self.stderr = stderr
        self.returncode = returncode


@dataclass(frozen=True)
class Account:
    """The user and group that a program runs as, and its other groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int) -> Account:
        """Return a user's account as the machine knows it. A file's group is not asked: that may be any of others'."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, NOBODY)
        return cls(uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def environment() -> dict[str, str]:
    """Return the environment that system programs get: C locale, a fixed PATH, nothing of the user's."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"PATH": SYSTEM_PATH, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", **kept}


@dataclass(frozen=True)
class ProgramPlace:
    """Where a program of the user's runs: its environment and its working directory."""

    env: Mapping[str, str]
    cwd: str


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = DEFAULT_TIMEOUT,
    env: Mapping[str, str] | None = None,
    place: ProgramPlace | None = None,
) -> str:
    """Run a program to its end and return what it wrote to its standard output.

    `stdin` is how secrets are handed over (never by argument); `timeout` is in seconds; without a `place` the
    environment is scrubbed, and `env` is added to it.
    Raises: ProgramError when it cannot be started, fails, or is killed: at the time limit, or for writing without end.
    """
    process = started(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=place.env if place else {**environment(), **(env or {})},
        cwd=place.cwd if place else "/",
    )
    with process:
        try:
            out, err = _exchanged(process, stdin, timeout)
        except BaseException as error:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ProgramError(argv, f"did not end within {timeout:g} s and was killed") from error
            if isinstance(error, _TooMuchError):
                raise ProgramError(argv, TOO_MUCH) from error
            raise
    return _judged(argv, process.returncode, out, err)


class _TooMuchError(Exception):
    """A program writes without end."""


TOO_MUCH = f"wrote more than {MOST >> 20} MiB and was killed"


def _exchanged(process: subprocess.Popen[bytes], stdin: bytes, timeout: float) -> tuple[bytes, bytes]:
    """Write to a program and read from it until it ends, as `communicate`, but not without end."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    end = time.monotonic() + timeout
    read = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as ready:
        for output in read:
            ready.register(output, selectors.EVENT_READ)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        while ready.get_map():
            events = ready.select(max(0.0, end - time.monotonic()))
            if not events:
                raise subprocess.TimeoutExpired(process.args, timeout)
            for key, _ in events:
                if key.fileobj is process.stdin:
                    stdin = _written_on(process.stdin, stdin)
                    more = stdin
                else:
                    more = os.read(key.fd, 1 << 16)
                    read[key.fd] += more
                if not more:
                    ready.unregister(key.fileobj)
            if max(map(len, read.values())) > MOST:
                raise _TooMuchError
    process.wait(max(0.0, end - time.monotonic()))
    out, err = read.values()
    return bytes(out), bytes(err)


def _written_on(pipe: IO[bytes], data: bytes) -> bytes:
    """Write as much as a pipe that is ready takes without waiting; return the rest, and close it after the last."""
    try:
        data = data[os.write(pipe.fileno(), data[: select.PIPE_BUF]) :] if data else b""
    except BrokenPipeError:
        data = b""
    if not data:
        pipe.close()
    return data


def started(argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start a program as `subprocess.Popen` does, in a session of its own.

    Raises: ProgramError when it cannot be started.
    """
    try:
        return subprocess.Popen(argv, start_new_session=True, **how)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ProgramError(argv, "is not installed" if missing else f"cannot be started: {error.strerror}") from error


def _judged(argv: Sequence[str], status: int, stdout: bytes, stderr: bytes) -> str:
    words = os.fsdecode(stderr)
    if status < 0:
        raise ProgramError(argv, f"was ended by signal {-status}", words)
    if status:
        error = ProgramError(argv, f"failed with status {status}", words, status)
        error.stdout = os.fsdecode(stdout)
        raise error
    return os.fsdecode(stdout)


def stepwise(
    argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, env: Mapping[str, str] | None = None
) -> Steps[str]:
    """Run a program as `run` does, but yield while it runs; its end shows by SIGCHLD too.

    What it writes goes into memory: nobody reads a pipe meanwhile. Signals that we block it blocks as well.
    Raises: as for `run`. One that is not waited for to its end is killed, with what it has started.
    """
    end = time.monotonic() + timeout
    with _memory() as out, _memory() as err:
        process = started(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**environment(), **(env or {})}, cwd="/"
        )
        try:
            while process.poll() is None:
                if time.monotonic() >= end:
                    raise ProgramError(argv, f"did not end within {timeout:g} s and was killed")
                if max(os.fstat(file.fileno()).st_size for file in (out, err)) > MOST:
                    raise ProgramError(argv, TOO_MUCH)
                yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return _judged(argv, process.returncode, _written(out), _written(err))


@contextmanager
def beside(argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> Iterator[Callable[[], str]]:
    """Have a program run beside the block; what is given waits for its end and returns what it wrote, or raises.

    Raises: as for `run`. It is killed if it still runs at the end of the block.
    """
    with closing(stepwise(argv, timeout=timeout)) as steps:
        written = _step(steps)

        def end() -> str:
            nonlocal written
            while written is None:
                time.sleep(LOOK_AGAIN)
                written = _step(steps)
            return written

        yield end


def _step(steps: Steps[str]) -> str | None:
    """Do one step; return the results of all of them if it was the last."""
    try:
        next(steps)
    except StopIteration as end:
        return str(end.value)
    return None


def _memory() -> IO[bytes]:
    return os.fdopen(os.memfd_create("borg-lvm"), "w+b", buffering=0)


def _written(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


@contextmanager
def talking(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    user: Account | None = None,
    memory: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that gets commands on its standard input; both its outputs are one pipe.

    `env` is added to the environment; `user` is who it runs as, if not as root, without the keys of root's session;
    `memory` is how many bytes of data it may have. Raises: ProgramError when it cannot be started.
    """
    process = started(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env={**environment(), **(env or {})},
        cwd="/",
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=user.groups if user else None,
        preexec_fn=syscalls.leave_session_keyring if user else None,
    )
    with process:
        if memory:
            with suppress(OSError):  # it has ended; or a sandbox keeps us from it
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
        yield process
