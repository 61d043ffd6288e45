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
    folder: str = ""

    def enter(self) -> None:
        """Put this process into it, and all that it will start. Raises: OSError."""
        if self.folder:
            _write(self.folder, "cgroup.procs", "0")

    def kills(self) -> int:
        """Return how many processes were ended in it for want of memory."""
        with suppress(OSError, ValueError, LookupError):
            events = dict(line.split() for line in _read(self.folder, "memory.events").splitlines())
            return int(events["oom_kill"])
        return 0


@dataclass(frozen=True)
class _Home:
    """Our own control group, a directory, and which controllers must be switched on for its children."""

    folder: str
    missing: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_topmost(self) -> bool:
        """Whether it may hold processes beside children with limits."""
        return self.folder in ROOTS

    @classmethod
    def look(cls) -> _Home:
        """Find it, and whether there can be a limit; changes nothing."""
        root = next((one for one in ROOTS if os.path.exists(f"{one}/cgroup.controllers")), "")
        if not root:
            return cls("", why="cgroup v2 is not mounted")
        try:
            with open("/proc/self/cgroup", encoding="utf-8") as file:
                (name,) = (line[3:].rstrip("\n") for line in file if line.startswith("0::"))
            folder = (root + name).rstrip("/")
            there, on = (_read(folder, f"cgroup.{what}").split() for what in ("controllers", "subtree_control"))
            others = set(_read(folder, "cgroup.procs").split()) - {str(os.getpid())}
        except (OSError, ValueError) as error:
            return cls("", why=f"our control group cannot be read: {error}")
        missing = tuple(one for one in WANTED if one in there and one not in on)
        if NEEDED not in there:
            return cls(folder, why=f"the control group {name} has no memory controller")
        if missing and folder != root and others:
            return cls(folder, why=f"other processes are in the control group {name}")
        return cls(folder, missing)


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
    folder = os.path.join(home.folder, f"{PREFIX}{ledger.run_id}")
    ledger.write(STEP, folder=folder, on=home.missing)
    try:
        try:
            group = SandboxGroup(_made(home, folder), folder)
        except OSError as error:
            group = SandboxGroup(SandboxLimits(why=f"no control group can be made in {home.folder}: {error.strerror}"))
        yield group
    finally:
        try:
            _remove(folder, home.missing)
        except OSError as error:
            raise ReleaseError(
                f"the control group of the drill could not be removed: {folder}: {error.strerror}",
                remedy="borg-lvm clean",
            ) from error


def _made(home: _Home, folder: str) -> SandboxLimits:
    """Make the group, with its limits. Raises: OSError."""
    os.mkdir(folder)
    if home.missing and not home.is_topmost:
        os.mkdir(folder + OURS)
        _write(folder + OURS, "cgroup.procs", "0")
    for name in home.missing:
        try:
            _write(home.folder, "cgroup.subtree_control", f"+{name}")
        except OSError:
            if name == NEEDED:
                raise
    memory, processors = share_of_memory(list(_maxima(home.folder))), share_of_processors(len(os.sched_getaffinity(0)))
    for file, value in settings(memory, processors).items():
        with suppress(FileNotFoundError):  # a kernel, or a group, that has no such limit
            _write(folder, file, value)
    is_there = os.path.exists(os.path.join(folder, "cpu.max"))
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


def _maxima(folder: str) -> Iterator[int]:
    """Yield the memory of the machine, then the limits of a group and of those above it, in bytes."""
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    while folder not in ROOTS:
        with suppress(OSError, ValueError):  # the topmost one has none, and others may say `max`
            yield int(_read(folder, "memory.max"))
        folder = os.path.dirname(folder)


def left(entry: LedgerEntry | None) -> list[str]:
    """Remove the groups that a dead drill has left, as its ledger says; return what cannot be removed."""
    problems = []
    for step in entry.named(STEP) if entry else ():
        folder, on = str(step["folder"]), step["on"]
        if os.path.basename(folder) != f"{PREFIX}{entry.run_id if entry else ''}" or not isinstance(on, list):
            problems.append(f"{folder}, which the ledger names as the control group of a drill, and which is none")
            continue
        try:
            _remove(folder, tuple(map(str, on)))
        except OSError as error:
            problems.append(f"{folder}, the control group of a drill: {error.strerror}")
    return problems


def _remove(folder: str, on: Sequence[str]) -> None:
    """Remove the group of a sandbox, and put back what was changed for it in the one above. Raises: OSError."""
    home = os.path.dirname(folder)
    _rmdir(folder)
    with suppress(FileNotFoundError):
        if not any(name.startswith(PREFIX) and not name.endswith(OURS) for name in os.listdir(home)):
            for name in on:
                with suppress(OSError):  # it was never on; or another has a use for it by now
                    _write(home, "cgroup.subtree_control", f"-{name}")
        if os.path.exists(folder + OURS):
            for pid in _read(folder + OURS, "cgroup.procs").split():
                with suppress(ProcessLookupError):
                    _write(home, "cgroup.procs", pid)
    _rmdir(folder + OURS)


def _rmdir(folder: str) -> None:
    """Remove a group; those who were killed in it may be on their way. Raises: OSError."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def _write(folder: str, name: str, value: str) -> None:
    fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CLOEXEC)  # one that is missing cannot be made there
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
