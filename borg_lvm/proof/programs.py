"""Programs that read an archive back: in the command's environment, as streams, without a terminal, within a time.

For a process of its own in the view, whose process group they join: an end of that group is an end of all of them.
"""

from __future__ import annotations

import fcntl
import io
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

from borg_lvm.linux import syscalls
from borg_lvm.linux.subprocesses import MOST, TOO_MUCH, ProgramError
from borg_lvm.plugins.backup_command import NOTHING, Invocation

PATIENCE = 10.0
"""Seconds between asking a program to end and forcing it."""
LAST_WORDS = 1 << 16
"""Bytes of a program's errors that are kept: the last of them."""
PIPE = 1 << 20
"""Bytes that may wait in a program's output: sixteen times as many as without."""
MOST_MEMORY, LEAST_MEMORY = 2 << 30, 256 << 20
"""Bytes of memory for reading an archive: half of what the machine has, but no more and no less than these."""


class TimeIsUpError(Exception):
    """The time limit of the proof has been reached."""


class ViewPrograms:
    """Starts programs where `invocation` ran; `end` is when (monotonic) the time is up."""

    def __init__(self, invocation: Invocation, end: float) -> None:
        self._invocation = invocation
        self._memory = resource.getrlimit(resource.RLIMIT_DATA)
        self.end = end

    def check(self) -> None:
        """Raise TimeIsUpError if it is."""
        if time.monotonic() >= self.end:
            raise TimeIsUpError

    def output(self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING) -> str:
        """Return what a program writes to its standard output. Raises: ProgramError, TimeIsUpError."""
        with self.reading(argv, env=env) as stream:
            data = stream.read(MOST + 1)
            if len(data) > MOST:
                raise ProgramError(argv, TOO_MUCH)
        return os.fsdecode(data)

    @contextmanager
    def reading(
        self, argv: Sequence[str], *, env: Mapping[str, str] = NOTHING, errors: bool = False
    ) -> Iterator[BinaryIO]:
        """Have a program's output as a stream, which ends when the block does. Raises: ProgramError, TimeIsUpError."""
        process = self._started(argv, env, errors=errors)
        pipe = _Timed(process, self)
        try:
            with io.BufferedReader(pipe, 1 << 17) as stream:
                yield stream
                while stream.read(1 << 20):  # what nobody wanted
                    pass
                pipe.hear_out()
            self._waited_for(process)
        finally:
            _end(process)
        if process.returncode:
            how = "failed with status {}" if process.returncode > 0 else "was ended by signal {}"
            said = os.fsdecode(bytes(pipe.said))
            raise ProgramError(argv, how.format(abs(process.returncode)), said, max(process.returncode, 0))

    def _started(self, argv: Sequence[str], env: Mapping[str, str], *, errors: bool) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if errors else subprocess.PIPE,
                bufsize=0,
                env={**self._invocation.env, **env},
                cwd=self._invocation.cwd,
                preexec_fn=self._begin,  # noqa: PLW1509 - there is no other thread
            )
        except OSError as error:
            raise ProgramError(argv, f"cannot be started: {error.strerror}") from error
        assert process.stdout
        with suppress(OSError):  # fewer turns between the two of us; the limit of the machine may be lower
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE)
        return process

    def _begin(self) -> None:
        """Die with us, and have the memory that we had; in the new process."""
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_DATA, self._memory)

    def _waited_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(max(0.0, self.end - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise TimeIsUpError from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """See a program gone: it may let go of its repository first."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        process.wait()


@contextmanager
def limited_memory() -> Iterator[int]:
    """Have this process, not what `ViewPrograms` starts, get no more than so many bytes of memory in the block.

    What is read may be anybody's: the number and the names of files are those of their owners, and users who may write
    an archive can put a header of gigabytes into it. Raises: MemoryError.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    most = max(LEAST_MEMORY, min(MOST_MEMORY, half))
    if soft != resource.RLIM_INFINITY:
        most = min(most, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield most
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class _Timed(io.RawIOBase):
    """A program's output, which is waited for until the time is up; `said` are the last words of its errors."""

    def __init__(self, process: subprocess.Popen[bytes], programs: ViewPrograms) -> None:
        assert process.stdout
        self._out = process.stdout
        self._errors = process.stderr
        self._programs = programs
        self.said = bytearray()

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on. Raises: TimeIsUpError."""
        while self._out not in self._ready(self._out):
            pass
        data = os.read(self._out.fileno(), len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def hear_out(self) -> None:
        """Read the errors to their end. Raises: TimeIsUpError."""
        while self._errors:
            self._ready(self._errors)

    def _ready(self, wanted: IO[bytes]) -> list[IO[bytes]]:
        """Wait for one of the outputs, and read what there is of the errors."""
        left = self._programs.end - time.monotonic()
        ready = select.select([wanted, *filter(None, [self._errors])], [], [], max(0.0, left))[0] if left > 0 else []
        if not ready:
            raise TimeIsUpError
        if self._errors in ready:
            assert self._errors
            data = os.read(self._errors.fileno(), 1 << 16)
            self.said += data
            del self.said[:-LAST_WORDS]
            if not data:
                self._errors.close()
                self._errors = None
        return list(ready)

    def close(self) -> None:
        """Close both."""
        for pipe in filter(None, [self._out, self._errors]):
            pipe.close()
        super().close()
