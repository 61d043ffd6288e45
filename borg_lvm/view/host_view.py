"""A view that is mounted on the machine itself: below `/run/borg-lvm/view/NAME`, each source path at its usual place.

For commands that we do not start (`borg-lvm begin`). The snapshots are mounted in the mount namespace of our caller,
so what is mounted is written down before, and has to be unmounted by somebody whatever happens to us.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from borg_lvm.errors import SnapshotError, SnapshotLostError, with_notes
from borg_lvm.linux import processes, safe_mount, safe_open, syscalls
from borg_lvm.linux.namespaces import ViewNamespace
from borg_lvm.linux.signals import Signals
from borg_lvm.log import Log
from borg_lvm.machine import mounts
from borg_lvm.machine.btrfs_subvolumes import DIRECTORY
from borg_lvm.machine.lvm import doubled, prefix
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.view_layout import ROOT_LIVE
from borg_lvm.records import dataclass, field
from borg_lvm.snapshots.monitor import Moment, Watcher
from borg_lvm.snapshots.users import end_users, subvolumes, unmount_elsewhere
from borg_lvm.state import directories
from borg_lvm.state.directories import STATE
from borg_lvm.state.ledger import VIEWS, Ledger
from borg_lvm.view import mounting
from borg_lvm.view import mounts as view
from borg_lvm.view.control_socket import ABANDON, END, ControlSocket, EndRequest

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10  # linux/fs.h
OURS = "borg-lvm:"
ENDED = 143
"""The status of a command that SIGTERM has ended (as a shell's): that of a view which was unmounted."""


@dataclass(frozen=True)
class ViewRequest:
    """A view to be: its name, for how many seconds it may be mounted, and what is done when it is.

    At the `control` socket its end is asked for.
    """

    name: str
    limit: float
    mounted: Callable[[], None]
    control: ControlSocket

    @property
    def base(self) -> str:
        """The directory that the view is mounted on."""
        return place(self.name)


def place(name: str) -> str:
    """Return where the view of a name is mounted."""
    return os.path.join(VIEWS, name)


def path(name: str, source: str) -> str:
    """Return where a source path is found in the view of a name."""
    return mounting.place(place(name), source)


@dataclass
class HostView:
    """A view that is mounted, since `began`.

    `ended` is how the backup from it has ended, once somebody has said so.
    """

    request: ViewRequest
    plan: Plan
    devices: tuple[int, ...]
    namespace: int
    signals: Signals
    log: Log
    taken: bool = False
    ended: EndRequest | None = None
    began: Moment = field(default_factory=Moment.now)

    def wait(self, watcher: Watcher) -> int:
        """Wait until `end` comes, and return the status that it brings.

        A view whose snapshots are invalid is unmounted at once, so that its readers fail.
        Raises: SnapshotLostError when it was mounted for too long, or the next `begin` wants its place;
        InterruptedRunError when a signal ends us: its readers have not come to an end either.
        """
        self.request.mounted()
        end = time.monotonic() + self.request.limit
        while True:
            pause = watcher.look()
            if watcher.over:
                self.log.warning(f"the view {self.request.base} is removed: {watcher.over}")
                self.take_away()
                return ENDED
            self.signals.check("while the view was mounted")
            word, _, request = self.request.control.asked(min(pause, end - time.monotonic())).partition(" ")
            if word == END:
                self.ended = EndRequest.from_json(request)
                return self.ended.status
            if word == ABANDON:
                raise self._abandoned("by the time that the next one was begun")
            if time.monotonic() >= end:
                raise self._abandoned(f"within {self.request.limit:g} s (--limit)")

    def _abandoned(self, when: str) -> SnapshotLostError:
        name = self.request.name
        return SnapshotLostError(
            f"nobody has ended the view {name} {when}: it was removed; what was saved from it may not be complete",
            remedy=f"borg-lvm end {name} must follow each borg-lvm begin {name}, also after a failure",
        )

    def verify(self, look: Callable[[ViewNamespace], None]) -> None:
        """Have the snapshots verified, each at its usual path. Raises: whatever `look` raises."""
        shown = [
            (mounting.place(self.request.base, view_mount.target), view_mount.target)
            for view_mount in self.plan.view_mounts
        ]
        # A root cannot be bound on itself: then no path shows a snapshot, and none is verified.
        look(ViewNamespace(self.namespace, self.devices, () if self.plan.pivots else tuple(shown)))

    @property
    def view(self) -> ViewNamespace:
        """The view as it is mounted, below its directory."""
        return ViewNamespace(self.namespace, self.devices)

    def shown(self) -> list[tuple[str, int]]:
        """Return each path in the view, with the device number of its snapshot."""
        base = self.request.base
        return [(mounting.place(base, mount.target), self.devices[mount.snapshot]) for mount in self.plan.view_mounts]

    def is_read(self) -> bool:
        """Whether somebody reads the view: nobody knows, for what is not open now may be opened next."""
        return True

    def appeared(self) -> tuple[str, ...]:
        """Return the sources that did not exist and do now: in a view below a directory of its own there are none."""
        return ()

    def vanished(self) -> tuple[str, ...]:
        """Return the paths in the view that do not show their snapshot any more, unless we have taken it away."""
        if self.taken:
            return ()
        return tuple(view.uncovered(self.plan, self.devices, self.request.base))

    def take_away(self) -> None:
        """Take the view away, in our mount namespace; what has been opened in it stays open."""
        self.taken = True
        unmount(self.request.base, self.plan.run_id)


@contextmanager
def mounted(request: ViewRequest, plan: Plan, ledger: Ledger, signals: Signals, log: Log) -> Iterator[HostView]:
    """Have a view mounted for the length of the block. Raises: SnapshotError when it cannot be built."""
    devices = view.device_numbers(plan)
    signals.check()
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _build(plan, request.base, ledger, devices)
        except OSError as error:
            raise SnapshotError(f"the view {request.base} cannot be built: {with_notes(error)}") from error
        built = HostView(request, plan, devices, namespace, signals, log)
        missing = built.vanished()
        if missing:
            raise SnapshotError(f"{missing[0]} does not show its snapshot")
        for name in view.linked(plan, request.base):
            raise safe_open.changed(name, "it led through a symbolic link at the instant")
        yield built
    finally:
        os.close(namespace)
        take_down(request.base, plan.run_id, devices, log)


def take_down(base: str, run_id: str, devices: Iterable[int], log: Log, since: int | None = None) -> None:
    """Take a view away from everybody, and end the processes that still use a file of its snapshots.

    But for those that `end_users` of `snapshots.users` leaves alone (`since`: when the run's process began).
    """
    unmount(base, run_id)
    with suppress(OSError):
        syscalls.umount(os.path.join(STATE, run_id, "view"), syscalls.MNT_DETACH)
    numbers = frozenset(devices)
    unmount_elsewhere(numbers)
    end_users(numbers, log, since)


def unmount(base: str, run_id: str) -> None:
    """Unmount all that a run has mounted on the directory of a view, and remove that directory; no other run's."""
    while any(mount.path == base and mount.source == _source(run_id) for mount in mounts.read()):
        syscalls.umount(base, syscalls.MNT_DETACH)
    if not any(mount.path == base for mount in mounts.read()):
        with suppress(OSError):
            _set_immutable(base, on=False)
        with suppress(OSError):
            os.rmdir(base)


def users(base: str) -> list[processes.Process]:
    """Return the processes that use a file of the view that is mounted there."""
    return processes.holders(snapshots(base))


def snapshots(base: str) -> frozenset[int]:
    """Return the device numbers of the snapshots that a view shows."""
    table = mounts.read()
    runs = [mount.source.partition(":")[2] for mount in table if mount.path == base and mount.source.startswith(OURS)]
    marks = tuple(mark for run_id in runs for mark in (doubled(prefix(run_id)), f"@{prefix(run_id)}"))
    shown = [mount for mount in table if mount.path == base or mount.path.startswith(f"{base}/")]
    names = {mount.device: mount.source for mount in table}
    devices = {mount.device for mount in shown if any(mark in names[mount.device] for mark in marks)}
    numbers = {os.makedev(*(int(part) for part in device.split(":"))) for device in devices}
    return frozenset(numbers | subvolumes(shown, [f"/{DIRECTORY}/{prefix(run_id)}" for run_id in runs]))


def _source(run_id: str) -> str:
    """Return what the mount table shows as the source of a run's view."""
    return f"{OURS}{run_id}"


def _build(plan: Plan, base: str, ledger: Ledger, devices: Sequence[int]) -> None:
    ledger.write("shown", path=base)
    with directories.directory(VIEWS, make=True) as views, suppress(FileExistsError):
        os.mkdir(os.path.basename(base), 0, dir_fd=views)
    with suppress(OSError):  # a tmpfs of kernels before 6.0 does not know it
        _set_immutable(base, on=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount(_source(plan.run_id), base, "tmpfs", flags, "mode=0700,size=1m")
    # A namespace that has received our /run has this empty tmpfs, and gets nothing of what is mounted in it. Shared
    # again, with nobody: namespaces that are made from now on have a copy, from which an unmount takes it away, too.
    syscalls.mount(None, base, None, syscalls.MS_PRIVATE)
    syscalls.mount(None, base, None, syscalls.MS_SHARED)
    staging = os.path.join(ledger.directory, "view")
    os.mkdir(staging, 0o700)
    view.mount_snapshots(plan.snapshots, staging)
    todo = [step for step in mounting.steps(plan, staging) if step.source not in dict(ROOT_LIVE)]
    with mounting.Ground(plan.seen, base, todo) as ground:
        mounted = ground.mount_all()
    _protect([mounting.place(base, step.target) for step in mounted if step.kind == "live"])
    syscalls.umount(staging, syscalls.MNT_DETACH)
    _prove(plan, base, mounted, devices)


def _protect(targets: Sequence[str]) -> None:
    """Make live paths read-only in the view, with all that is mounted in them: a slip must not reach live files.

    What is mounted in them has names that others may swap, so each mount is changed by its number.
    """
    flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
    for mount in mounts.Table(mounts.read()).mounts if targets else ():
        if any(mount.path == target or mount.path.startswith(f"{target}/") for target in targets):
            safe_mount.remount(mount.path, mount.id, flags)


def _prove(plan: Plan, base: str, mounted: Sequence[mounting.Step], devices: Sequence[int]) -> None:
    """Check that what is mounted in the view, and what shows a snapshot anywhere, is what the plan has, and no more."""
    numbers = {f"{os.major(device)}:{os.minor(device)}" for device in devices}
    shown = [mount for mount in mounts.read() if mount.device in numbers or mount.path.startswith(f"{base}/")]
    for wrong in mounting.misplaced(shown, mounted, base, devices):
        raise SnapshotError(wrong, remedy="run it again")


def _set_immutable(directory: str, *, on: bool) -> None:
    """Set or clear the flag of chattr(1), +i. Raises: OSError where the file system does not know it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags | IMMUTABLE if on else flags & ~IMMUTABLE))
    except OSError as error:
        raise OSError(error.errno or errno.ENOTTY, "chattr", directory) from error
    finally:
        os.close(fd)


def refusals(plan: Plan) -> list[str]:
    """Return why a plan cannot be mounted on the machine itself. Pure but for the links that sources are."""
    volumes = [
        f"{view_mount.because} is a volume itself: its snapshot is seen by `borg-lvm run` alone"
        for view_mount in plan.view_mounts
        if view_mount.device
    ]
    return volumes + _linked(plan.sources)


def _linked(sources: Sequence[str]) -> list[str]:
    real = {source: safe_open.leads_to(source) for source in sources}
    return [
        f"{source} leads through a symbolic link, which would lead out of the view: name {target}"
        for source, target in real.items()
        if os.path.normpath(source) != target
    ]
