"""Our end of the watchdog: a process that undoes every freeze when we cannot (see `service.py`).

It is exec'ed, not forked, so that it holds none of our descriptors; it has a session of its own, so that a Ctrl-C
does not reach it; and it watches a pipe, whose end shows it that we have died.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from borg_lvm.errors import LateError, SnapshotError
from borg_lvm.linux import safe_open, subprocesses
from borg_lvm.linux.signals import undisturbed

PROGRAM = os.path.join(os.path.dirname(__file__), "process.py")
DIED = "it has ended"


class Watchdog:
    """A watchdog that is ready. Register what may be frozen *before* it is."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._expect("ready")

    @property
    def pid(self) -> int:
        """The watchdog's process id."""
        return self._process.pid

    def may_freeze(self, name: str, fd: int) -> None:
        """Report that the file system of a volume (`vg/lv`), on which `fd` lies, may be frozen from now on.

        The watchdog opens our descriptor: by the mount point's name it might come to another file system.
        """
        self._say(f"freeze {name} {os.fstat(fd).st_dev} {safe_open.magic_for_others(fd)}")

    def may_suspend(self, name: str, dm_uuid: str) -> None:
        """Report that a volume's device may be suspended from now on."""
        self._say(f"suspend {name} {dm_uuid}")

    def may_expedite(self, path: str) -> None:
        """Report that the kernel's grace periods may be quick until the window ends; `path` is the switch."""
        self._say(f"expedite {path}")

    def writes_to(self, ledger: str) -> None:
        """Report where to write down which applications have been resumed."""
        self._say(f"ledger {ledger}")

    def may_quiesce(self, name: str, undo: str) -> None:
        """Register how an application is resumed that may be quiesced from now on (`resume_process.py`)."""
        self._say(f"undo {name} {undo}")

    def hold(self, name: str, seconds: float) -> None:
        """Register that an application is quiesced from now on, for so many seconds at most."""
        self._say(f"hold {name} {seconds:g}")

    def resumed(self, name: str) -> str:
        """Register that an application is resumed; the answer is empty, or why its quiescence is void."""
        answer = self._ask(f"resumed {name}")
        if answer == "acted":
            return "it was quiesced for longer than its deadline, and the watchdog has resumed it"
        return "" if answer == "ok" else f"the watchdog: {answer}"

    def forget_mounts(self) -> None:
        """Report that no file system will be frozen any more: the watchdog lets go of their mounts."""
        if self._ask("forget") == DIED:
            raise SnapshotError("the watchdog died before the command was started; what was made has been removed")

    @contextmanager
    def window(self, deadline: float) -> Iterator[None]:
        """Hold the time in which something may be suspended, at most `deadline` seconds.

        Raises: LateError when the watchdog had to act: then the snapshots are of no instant; SnapshotError.
        """
        self._say(f"arm {deadline:g} 0")
        try:
            yield
        except Exception as error:
            self._ask("release")
            self._disarm(deadline, error)
            raise
        self._disarm(deadline)

    @contextmanager
    def standing_by(self, deadline: float, grace: float) -> Iterator[list[str]]:
        """Hold a time in which a program of LVM's may die and leave something suspended. It ends without an error.

        If we die as well, everything is resumed after `grace` seconds: so what a dead program has left is resumed in
        the block. The list gets the messages.
        """
        messages: list[str] = []
        answer = self._ask(f"arm {deadline:g} {grace:g}")
        try:
            yield messages
        finally:
            if answer == "ok":
                answer = self._ask("disarm")
            if answer.startswith("acted"):
                messages.append(f"the watchdog resumed {_resumed(answer)}")
            elif answer != "ok":
                messages.append(f"the watchdog: {answer}")

    def _disarm(self, deadline: float, error: Exception | None = None) -> None:
        """End the window. What the watchdog had to do explains an error in the window better than that one does."""
        answer = self._ask("disarm")
        details = (str(error), *getattr(error, "details", ())) if error else ()
        if answer == DIED:
            raise SnapshotError(
                "the watchdog died while volumes were suspended; what was made has been removed", details=details
            ) from error
        if answer != "ok":
            raise LateError(
                f"the window took longer than {deadline:g} s: the watchdog resumed {_resumed(answer)}",
                remedy="look for what is slow (disks, lvcreate), or allow more time with `deadline:`",
                details=details,
            ) from error

    def _say(self, line: str) -> None:
        answer = self._ask(line)
        if answer != "ok":
            raise SnapshotError(f"the watchdog refused {line!r}: {answer}; nothing was frozen")

    def _ask(self, line: str) -> str:
        if "\n" in line:
            raise SnapshotError(f"a mount point with a line break in its name cannot be guarded: {line!r}")
        assert self._process.stdin
        try:
            self._process.stdin.write(os.fsencode(line) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout
        return os.fsdecode(self._process.stdout.readline()).rstrip("\n") or DIED

    def _expect(self, word: str) -> None:
        answer = self._answer()
        if answer != word:
            raise SnapshotError(
                f"the watchdog did not start: {answer}; nothing was frozen",
                remedy="it must be able to lock its memory (LimitMEMLOCK= of a systemd unit, CAP_IPC_LOCK)",
            )


def _resumed(answer: str) -> str:
    """Say what the watchdog has acted on, from its answer: `acted vg/lv 10.02 …`."""
    words = answer.split()[1:]
    pairs = dict(zip(words[::2], words[1::2], strict=False))  # a volume may have been held in two ways
    return ", ".join(f"{name}, which had been held for {seconds} s" for name, seconds in pairs.items())


@contextmanager
def started() -> Iterator[Watchdog]:
    """Start a watchdog and wait until it is ready; it ends with the block, undoing what is still frozen."""
    with undisturbed():  # which it inherits: until it ignores stray signals, they wait
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # so that nothing is left to be written to one that has died
            env=subprocesses.environment(),
            cwd="/",
            start_new_session=True,
        )
    with process:
        yield Watchdog(process)
