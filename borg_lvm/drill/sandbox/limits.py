"""Limits of memory and processors for what runs in a sandbox: a control group of its own below ours (cgroup v2).

Who needs more memory is ended, with all that is in that group. A group whose children are limited must hold no process
itself, unless it is the topmost one: so we move into a child of our own where we are alone, in a unit, and leave it at
that where others are with us, in somebody's session. All is put back and removed in the end.
Source: Linux kernel documentation, Control Group v2 ("No Internal Process Constraint", Memory, CPU, PID).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import ReleaseError
from borg_lvm.linux import processes
from borg_lvm.records import dataclass
from borg_lvm.reporting.drills.result import SandboxLimits
from borg_lvm.state.ledger import Ledger, LedgerEntry

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where cgroup v2 is mounted: by itself, or beside the old ones."""
NEEDED, WANTED = "memory", ("memory", "cpu", "pids")
PREFIX, OURS = "borg-lvm-drill-", ".self"
"""How the group of a sandbox is called, and the one that we are in meanwhile."""
STEP = "group"
PERIOD = 100_000
"""Microseconds in which a group may use so much of the processors."""
MOST_PROCESSES = 4096
PATIENCE = 10.0
"""Seconds in which a group becomes empty whose processes were killed."""


@dataclass(frozen=True)
class SandboxGroup:
    """The control group of a sandbox, a directory; empty where there is none."""

    limits: SandboxLimits
    directory: str = ""

    def enter(self) -> None:
        """Put this process into it, and all that it will start. Raises: OSError."""
        if self.directory:
            _write(self.directory, "cgroup.procs", "0")

    def kills(self) -> int:
        """Return how many processes were ended in it for want of memory."""
        with suppress(OSError, ValueError, LookupError):
            events = dict(line.split() for line in _read(self.directory, "memory.events").splitlines())
            return int(events["oom_kill"])
        return 0


@dataclass(frozen=True)
class _Home:
    """Our own control group, a directory, and which controllers must be switched on for its children."""

    directory: str
    missing: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_topmost(self) -> bool:
        """Whether it may hold processes beside children with limits."""
        return self.directory in ROOTS

    @classmethod
    def look(cls) -> _Home:
        """Find it, and whether there can be a limit; changes nothing."""
        root = next((one for one in ROOTS if os.path.exists(f"{one}/cgroup.controllers")), "")
        if not root:
            return cls("", why="cgroup v2 is not mounted")
        try:
            name = processes.control_group("self")
            directory = (root + name).rstrip("/")
            there, on = (_read(directory, f"cgroup.{what}").split() for what in ("controllers", "subtree_control"))
            others = set(_read(directory, "cgroup.procs").split()) - {str(os.getpid())}
        except (OSError, ValueError) as error:
            return cls("", why=f"our control group cannot be read: {error}")
        missing = tuple(one for one in WANTED if one in there and one not in on)
        if NEEDED not in there:
            return cls(directory, why=f"the control group {name} has no memory controller")
        if missing and directory != root and others:
            return cls(directory, why=f"other processes are in the control group {name}")
        return cls(directory, missing)


def unlimited() -> str:
    """Return why a drill that is started from here has no limits; empty if it has."""
    return _Home.look().why


@contextmanager
def limited(ledger: Ledger) -> Iterator[SandboxGroup]:
    """Have a control group for a sandbox, or one without limits, with the reason. Raises: ReleaseError."""
    home = _Home.look()
    if home.why:
        yield SandboxGroup(SandboxLimits(why=home.why))
        return
    directory = os.path.join(home.directory, f"{PREFIX}{ledger.run_id}")
    ledger.write(STEP, directory=directory, on=home.missing)
    try:
        try:
            group = SandboxGroup(_made(home, directory), directory)
        except OSError as error:
            group = SandboxGroup(
                SandboxLimits(why=f"no control group can be made in {home.directory}: {error.strerror}")
            )
        yield group
    finally:
        try:
            _remove(directory, home.missing)
        except OSError as error:
            raise ReleaseError(
                f"the control group of the drill could not be removed: {directory}: {error.strerror}",
                remedy="borg-lvm clean",
            ) from error


def _made(home: _Home, directory: str) -> SandboxLimits:
    """Make the group, with its limits. Raises: OSError."""
    os.mkdir(directory)
    if home.missing and not home.is_topmost:
        os.mkdir(directory + OURS)
        _write(directory + OURS, "cgroup.procs", "0")
    for name in home.missing:
        try:
            _write(home.directory, "cgroup.subtree_control", f"+{name}")
        except OSError:
            if name == NEEDED:
                raise
    memory, processors = (
        share_of_memory(list(_maxima(home.directory))),
        share_of_processors(len(os.sched_getaffinity(0))),
    )
    for file, value in settings(memory, processors).items():
        with suppress(FileNotFoundError):  # a kernel, or a group, that has no such limit
            _write(directory, file, value)
    is_there = os.path.exists(os.path.join(directory, "cpu.max"))
    return SandboxLimits(memory, processors if is_there else None)


def share_of_memory(maxima: Sequence[int]) -> int:
    """Return how many bytes a sandbox gets: half of the machine's, and less than we have ourselves. Pure.

    `maxima` are what the machine has, and the limits of the groups that we are in.
    """
    return min(maxima[0] // 2, min(maxima) // 8 * 7)


def share_of_processors(count: int) -> int:
    """Return how many processors a sandbox gets: half of those that we may use, one at least. Pure."""
    return max(1, count // 2)


def settings(memory: int, processors: int) -> Mapping[str, str]:
    """Return the files of a control group, and what is written to them. Pure."""
    return {
        "memory.max": str(memory),
        "memory.swap.max": "0",
        "memory.oom.group": "1",  # a server without one of its processes would be taken for a bad archive
        "cpu.max": f"{processors * PERIOD} {PERIOD}",
        "pids.max": str(MOST_PROCESSES),
    }


def _maxima(directory: str) -> Iterator[int]:
    """Yield the memory of the machine, then the limits of a group and of those above it, in bytes."""
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    while directory not in ROOTS:
        with suppress(OSError, ValueError):  # the topmost one has none, and others may say `max`
            yield int(_read(directory, "memory.max"))
        directory = os.path.dirname(directory)


def left(entry: LedgerEntry | None) -> list[str]:
    """Remove the groups that a dead drill has left, as its ledger says; return what cannot be removed."""
    problems = []
    for step in entry.named(STEP) if entry else ():
        directory, on = str(step["directory"]), step["on"]
        if os.path.basename(directory) != f"{PREFIX}{entry.run_id if entry else ''}" or not isinstance(on, list):
            problems.append(f"{directory}, which the ledger names as the control group of a drill, and which is none")
            continue
        try:
            _remove(directory, tuple(map(str, on)))
        except OSError as error:
            problems.append(f"{directory}, the control group of a drill: {error.strerror}")
    return problems


def _remove(directory: str, on: Sequence[str]) -> None:
    """Remove the group of a sandbox, and put back what was changed for it in the one above. Raises: OSError."""
    home = os.path.dirname(directory)
    _rmdir(directory)
    with suppress(FileNotFoundError):
        if not any(name.startswith(PREFIX) and not name.endswith(OURS) for name in os.listdir(home)):
            for name in on:
                with suppress(OSError):  # it was never on; or another has a use for it by now
                    _write(home, "cgroup.subtree_control", f"-{name}")
        if os.path.exists(directory + OURS):
            for pid in _read(directory + OURS, "cgroup.procs").split():
                with suppress(ProcessLookupError):
                    _write(home, "cgroup.procs", pid)
    _rmdir(directory + OURS)


def _rmdir(directory: str) -> None:
    """Remove a group; those who were killed in it may be on their way. Raises: OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _read(directory: str, name: str) -> str:
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return file.read()


def _write(directory: str, name: str, value: str) -> None:
    fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CLOEXEC)  # one that is missing cannot be made there
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
