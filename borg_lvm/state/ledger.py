"""What a run has made, or was about to make, written down before each step.

`/run/borg-lvm/<run id>/ledger` holds one JSON object a line. The first names the owner: boot id, process id and the
process's start time, which together can not be taken over by a later process. `/run` is memory: after a reboot
the ledger is gone, and so is all that it has recorded, except the snapshots, which carry our tags.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from borg_lvm.errors import SnapshotError
from borg_lvm.linux.processes import start_time
from borg_lvm.records import dataclass, field
from borg_lvm.state import directories
from borg_lvm.state.directories import STATE

VIEWS = os.path.join(STATE, "view")
"""Where views stand that the whole machine sees: `borg-lvm begin`."""
DRILL = "borg-lvm drill"
"""The command of a drill, in its ledger."""
_LEDGER = "ledger"
_NOT_RUNS = frozenset(("locks", "named", "view"))
_PROCESS: dict[str, type] = {"pid": int, "start": int}
_FACTS: dict[str, dict[str, type]] = {
    "owner": {"boot": str, **_PROCESS},
    "watchdog": _PROCESS,
    "program": _PROCESS,
    "command": _PROCESS,
    "snapshot": {"name": str, "origin": str},
    "subvolume": {"name": str, "file_system": str},
    "dataset": {"name": str, "pool": str},
    "armed": {"origin": str, "snapshot": str},
    "made": {"name": str, "uuid": str},
    "mapping": {"name": str},
    "freeze": {"path": str, "device": int},
    "below": {"device": str},
    "quiesce": {"name": str, "undo": str},
    "resumed": {"name": str},
    "shown": {"path": str},
    "scratch": {"path": str},
    "group": {"directory": str, "on": list},
}
"""What the steps of a ledger must record to be of use to those who come after."""


@dataclass(frozen=True)
class RunProcess:
    """The process that a run belongs to. `start` is in clock ticks since boot (proc_pid_stat(5), field 22)."""

    boot: str
    pid: int
    start: int

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self.boot == boot_id() and start_time(self.pid) == self.start


def boot_id() -> str:
    """Return the id that the kernel made up at this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@dataclass
class Ledger:
    """The ledger of one run."""

    run_id: str
    _fd: int
    snapshots: dict[str, str] = field(default_factory=dict)
    """The snapshots that were made, by their ids (dm uuids), which stay when somebody renames one: `vg/lv`."""

    @property
    def directory(self) -> str:
        """The run's own directory."""
        return os.path.join(STATE, self.run_id)

    def write(self, step: str, **facts: object) -> None:
        """Write a step down before it is done; returns when it is safe."""
        try:
            os.write(self._fd, json.dumps({"step": step, **facts}).encode() + b"\n")
            os.fsync(self._fd)
        except OSError as error:
            raise _unwritten(error) from error

    def write_made(self, name: str, uuid: str) -> None:
        """Write down a snapshot that was made."""
        self.snapshots[uuid] = name
        self.write("made", name=name, uuid=uuid)

    def let_go(self) -> None:
        """Close the ledger in a forked child: who dies before it must not be taken for alive by its lock."""
        os.close(self._fd)

    def write_process(self, step: str, pid: int) -> None:
        """Write a process down such that no later one of the same number is taken for it."""
        self.write(step, pid=pid, start=start_time(pid))


@contextmanager
def opened(run_id: str, command: str) -> Iterator[Ledger]:
    """Open the ledger of a new run; its directory goes when everything in it has been released.

    The directory stays when the run ends with an exception that left something: `keep` it by raising. It gets its
    name when the owner is written in it: without an owner it would be taken for what a dead run has left.
    """
    hidden = os.path.join(STATE, f".{run_id}")
    pid = os.getpid()
    with ExitStack() as stack:
        try:
            with directories.directory(hidden, make=True):
                fd = directories.opened(
                    os.path.join(hidden, _LEDGER), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                )
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            ledger = Ledger(run_id, fd)
            ledger.write("owner", boot=boot_id(), pid=pid, start=start_time(pid), command=command)
            os.rename(hidden, ledger.directory)
        except BaseException as error:
            _remove(hidden)
            if isinstance(error, OSError):
                raise _unwritten(error) from error
            raise
        yield ledger


def path(run_id: str) -> str:
    """Return where the ledger of a run is."""
    return os.path.join(STATE, run_id, _LEDGER)


def _unwritten(error: OSError) -> SnapshotError:
    return SnapshotError(
        f"cannot write the ledger of the run in {STATE}: {error.strerror}; whatever was begun is undone",
        remedy=f"make room for {STATE}, which must be writable",
    )


def forget(run_id: str) -> None:
    """Remove the directory of a run of which nothing is left."""
    _remove(os.path.join(STATE, run_id))


def _remove(directory: str) -> None:
    """Remove a directory of ours as far as possible; follow no links. `shutil` would import five compressors."""
    for here, subdirectories, files in os.walk(directory, topdown=False):
        for path in (os.path.join(here, name) for name in (*files, *subdirectories)):
            with suppress(OSError):
                try:
                    os.unlink(path)
                except IsADirectoryError:
                    os.rmdir(path)
    with suppress(OSError):
        os.rmdir(directory)


@dataclass(frozen=True)
class LedgerEntry:
    """A run as its ledger records it; `owner` is None when the ledger has no readable first line.

    `damaged` is how many lines make no sense and are left out; one that was cut off at the end is not counted.
    """

    run_id: str
    owner: RunProcess | None
    command: str
    steps: tuple[dict[str, object], ...] = field(default=())
    locked: bool = False
    damaged: int = 0

    @property
    def is_live(self) -> bool:
        """Whether the run's process still runs: it holds its ledger, or is seen under its number.

        The lock also shows a process in another pid namespace (a container), where its number means nothing here.
        """
        return self.locked or (self.owner is not None and self.owner.is_alive())

    def named(self, step: str) -> list[dict[str, object]]:
        """Return the steps of one name."""
        return [entry for entry in self.steps if entry["step"] == step]


def entries() -> list[LedgerEntry]:
    """Read the ledger of every run, oldest first. Raises: ForeignStateError, SnapshotError."""
    try:
        names = sorted(directories.names(STATE))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SnapshotError(f"{STATE} cannot be read: {error.strerror}") from error
    runs = [name for name in names if name not in _NOT_RUNS and not name.startswith(".")]
    return [_read(name) for name in runs if os.path.isdir(os.path.join(STATE, name))]


def _read(run_id: str) -> LedgerEntry:
    try:
        with open(directories.opened(path(run_id), os.O_RDONLY), encoding="utf-8", errors="replace") as file:
            *lines, last = file.read().split("\n")
    except OSError:
        lines, last = [], ""
    read = [_step(line) for line in lines]
    steps = [step for step in [*read, _step(last)] if step]  # the last is empty, or its writer was killed
    first = steps[0] if steps else {}
    owner = RunProcess(first["boot"], first["pid"], first["start"]) if first.get("step") == "owner" else None
    damaged = read.count(None)
    return LedgerEntry(run_id, owner, str(first.get("command", "")), tuple(steps), _is_locked(run_id), damaged)


def _step(line: str) -> dict[str, Any] | None:
    """Return what a line records; None if it is none of ours, or damaged."""
    try:
        step = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(step, dict) or not isinstance(step.get("step"), str):
        return None
    facts = _FACTS.get(step["step"], {})
    return step if all(type(step.get(name)) is kind for name, kind in facts.items()) else None


def _is_locked(run_id: str) -> bool:
    try:
        with open(directories.opened(path(run_id), os.O_RDONLY), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
