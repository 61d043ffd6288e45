"""Holds still what runs in control groups, by the kernel's own freezer (cgroup v2): for units and containers.

Freezing is one word written to a file of the kernel's, and so is thawing: no daemon is asked, none need answer. Source:
Linux kernel documentation, Control Group v2, `cgroup.freeze` and `cgroup.events`.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from borg_lvm.plugin_api import BusyError, Intent, QuiesceError, processes
from borg_lvm_hooks.applications.running import Process

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where cgroup v2 is mounted: by itself, or beside the old ones."""
THAW = 'echo 0 2>/dev/null >"$0" || [ ! -e "$0" ]'
NEEDED = {
    **dict.fromkeys(("systemd-udevd", "(udev-worker)", "udevd"), "LVM waits for it"),
    **dict.fromkeys(("dmeventd", "lvmpolld", "lvmetad", "lvmlockd", "clvmd"), "it is a part of LVM"),
    **dict.fromkeys(("sanlock", "wdmd", "dlm_controld", "corosync"), "LVM's locks depend on it"),
    **dict.fromkeys(("multipathd", "iscsid", "iscsiuio", "tcmu-runner"), "disks depend on it"),
    **dict.fromkeys(("nbd-client", "rbd-nbd", "qemu-nbd", "qemu-storage-da"), "disks depend on it"),
    "systemd-journal": "processes that log would wait for it",
}
"""Programs that must not be frozen, by the name that the kernel knows (15 characters), and why."""


@dataclass(frozen=True)
class Group:
    """A control group, as `/system.slice/shop.service`, and what it belongs to, in a word."""

    name: str
    path: str

    def file(self, name: str) -> str:
        """Return where a file of the group is."""
        return os.path.join(root() + self.path, name)

    @property
    def exists(self) -> bool:
        """Whether the group is there, and may be frozen: the topmost one may not."""
        return bool(self.path) and os.path.exists(self.file("cgroup.freeze"))

    @property
    def is_populated(self) -> bool:
        """Whether any process is in it."""
        try:
            return "populated 1" in _text(self.file("cgroup.events"))
        except OSError:
            return False

    @property
    def is_held(self) -> bool:
        """Whether somebody has frozen this very group."""
        return _text(self.file("cgroup.freeze")).strip() == "1"

    def pids(self) -> Iterator[int]:
        """Yield the processes in it and below."""
        for directory, _, _ in os.walk(root() + self.path):
            with suppress(OSError):
                yield from map(int, _text(os.path.join(directory, "cgroup.procs")).split())


def root() -> str:
    """Return where cgroup v2 is. Raises: QuiesceError."""
    for place in ROOTS:
        if os.path.exists(f"{place}/cgroup.controllers"):
            return place
    raise QuiesceError(
        f"cgroup v2 is not mounted at {ROOTS[0]}, and only its processes can be frozen together",
        remedy="start the machine with systemd.unified_cgroup_hierarchy=1",
    )


def refuse_what_is_needed(group: Group) -> None:
    """Refuse a group in which we live ourselves, or what LVM needs to make a snapshot. Raises: QuiesceError."""
    ours = set(_us())  # the first process of all is among them
    for pid in group.pids():
        if pid in ours:
            raise QuiesceError(f"{group.name} must not be frozen: borg-lvm itself was started in it")
        name = _name(pid)
        if name in NEEDED and Process(pid, name).is_what_it_says:
            raise QuiesceError(f"{group.name} must not be frozen: {name} runs in it, and {NEEDED[name]}")


def refuse_read_only(group: Group) -> None:
    """Refuse a group whose file cannot be written, because we are in a sandbox. Raises: QuiesceError."""
    if os.statvfs(root()).f_flag & os.ST_RDONLY:
        raise QuiesceError(
            f"{group.name} cannot be frozen: {root()} is read-only for us",
            remedy="in the systemd unit of the backup: ProtectControlGroups=no; or use the level stop",
        )


class Freezer:
    """Freezes groups in their order. What somebody else has frozen before stays so, but must not be thawed either."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._ours = [group for group in groups if not group.is_held]
        self._holds: list[_Hold] = []

    def intents(self) -> list[Intent]:
        """Return what thaws them: it writes to a file of the kernel's, if that is still there."""
        return [Intent(("/bin/sh", "-c", THAW, group.file("cgroup.freeze"))) for group in self._ours]

    @contextmanager
    def frozen(self, deadline: float) -> Iterator[None]:
        """Hold them still for the length of the block; BusyError after half of the deadline (in seconds)."""
        end = time.monotonic() + deadline / 2
        with ExitStack() as stack:
            for group in self._groups:
                if group in self._ours and group.exists and group.is_held:
                    raise BusyError(f"somebody has frozen {group.name} meanwhile", remedy="run it again")
                hold = stack.enter_context(_held(group))
                self._holds.append(hold)
                if group in self._ours:
                    stack.callback(_thaw, group)
                    _write(group, "1")
                hold.wait(end)
            yield

    def let_go(self) -> None:
        """Thaw those that nobody had frozen before us, also if somebody else has frozen them since."""
        for group in self._ours:
            _thaw(group)

    def confirm(self) -> None:
        """See that they are still frozen and were so all the time. Raises: BusyError."""
        for hold in self._holds:
            hold.confirm()


class _Hold:
    """A frozen group: its file is open, so that one of the same name is not taken for it.

    A poll of that file reports every change since it was last read, within some ten milliseconds.
    """

    def __init__(self, group: Group, events: int) -> None:
        self._group = group
        self._events = events
        self._poll = select.poll()
        self._poll.register(events, select.POLLPRI)
        self._is_frozen()

    def wait(self, end: float) -> None:
        """Wait until nothing in it runs any more."""
        while not self._is_frozen():
            if time.monotonic() >= end:
                raise BusyError(f"{self._group.name} cannot be frozen: {self._culprit()}")
            self._poll.poll(1000 * min(1.0, max(0.001, end - time.monotonic())))

    def confirm(self) -> None:
        changed = any(events & select.POLLPRI for _, events in self._poll.poll(0))
        if not self._is_frozen() or changed:
            raise BusyError(f"{self._group.name} was thawed before the snapshots were taken")

    def _is_frozen(self) -> bool:
        try:
            return "frozen 1" in os.pread(self._events, 4096, 0).decode()
        except OSError as error:  # ENODEV: the group is gone
            raise BusyError(f"{self._group.name} has ended, or was started again", remedy="run it again") from error

    def _culprit(self) -> str:
        for pid in self._group.pids():
            with suppress(OSError, IndexError):
                if processes.stat_fields(pid)[0] == b"D":
                    return f"its process {pid} ({_name(pid)}) waits in the kernel, for a disk or the network perhaps"
        return "it did not come to rest in time"


@contextmanager
def _held(group: Group) -> Iterator[_Hold]:
    try:
        file = os.open(group.file("cgroup.events"), os.O_RDONLY)
    except OSError as error:
        raise BusyError(f"{group.name} has ended", remedy="run it again") from error
    try:
        yield _Hold(group, file)
    finally:
        os.close(file)


def _write(group: Group, word: str) -> None:
    try:
        file = os.open(group.file("cgroup.freeze"), os.O_WRONLY)
    except OSError as error:
        raise BusyError(f"{group.name} has ended", remedy="run it again") from error
    try:
        os.write(file, word.encode())
    finally:
        os.close(file)


def _thaw(group: Group) -> None:
    try:
        _write(group, "0")
    except (OSError, QuiesceError):
        if group.exists:
            raise


def _us() -> Iterator[int]:
    """Yield our own process and those that have started it, up to the first of all."""
    pid = os.getpid()
    while pid:
        yield pid
        pid = int(processes.stat_fields(pid)[1])


def _name(pid: int) -> str:
    with suppress(OSError):
        return _text(f"/proc/{pid}/comm").rstrip("\n")
    return ""


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
