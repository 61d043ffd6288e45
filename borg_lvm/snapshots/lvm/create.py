"""What LVM does for snapshots, before anything is suspended: it makes room for them and writes them down.

- A thick snapshot: its space is made and zeroed as a volume of its own, then LVM writes down that it is a snapshot,
  without the kernel (`lvconvert` with `activation=0`).
- A thin snapshot: LVM makes one, inactive. In the window the pool makes it anew, under the same number, so that LVM
  knows nothing but what it has made itself.

All is typed into one `lvm` shell, which is quicker than a program for each. The kernel comes in with `arm.py` and
`instant/window.py`. A crash before leaves plain volumes or snapshots that the kernel does not know; all carry our tags,
and `lvremove` removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from borg_lvm.errors import BorgLvmError, SnapshotError
from borg_lvm.linux import subprocesses
from borg_lvm.machine import lvm
from borg_lvm.machine.lvm_settings import FORM, JSON, OURS, SILENT, configured
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.records import dataclass
from borg_lvm.snapshots.lvm import group_lock, shell
from borg_lvm.snapshots.lvm.removal import origin_tables
from borg_lvm.snapshots.lvm.removal.remove import GRACE
from borg_lvm.snapshots.lvm.shell import Shell
from borg_lvm.state.ledger import Ledger
from borg_lvm.watchdog.client import Watchdog

UNTOLD = "global{activation=0} " + SILENT
_STRICT = frozenset(("contiguous", "cling"))
"""Policies of groups (`vgchange --alloc`), for volumes that stay: they would refuse space that is free."""
_FIELDS = ("vg_name", "lv_name", "lv_uuid", "origin", "thin_id", "pool_lv", "chunk_size")
_REPORT = ("lvs", "--all", "--units", "s", "--options", ",".join(_FIELDS))
_ALONE = (*_REPORT, "--nolocking", *JSON, "--config", FORM + SILENT)
_LOCKLESS = ("--readonly", "--config", "global{wait_for_locks=0}")
"""Reads without LVM's lock, which is ours meanwhile, in a shell: that has its locking from its start, so that it would
wait for ever with `--nolocking`. Source: lvm(8), lvm.conf(5)."""
_TYPED = (*_REPORT, *_LOCKLESS, *shell.AS_ROWS)
Listed = Mapping[tuple[str, str], Mapping[str, str]]
"""Rows of a report by group and name."""


@dataclass(frozen=True)
class Written:
    """What LVM has written down of a snapshot.

    `uuid` is that of its device (device-mapper's), `chunk` the size of a thick one's chunks in sectors. Of a thin one:
    its number in the pool, that of its origin, and the uuid of the pool's device.
    """

    uuid: str
    chunk: int = 0
    number: int = 0
    origin: int = 0
    pool: str = ""


@dataclass(frozen=True)
class Creator:
    """Has LVM make snapshots of a plan; times in seconds."""

    plan: Plan
    watch: Watchdog
    ledger: Ledger
    deadline: float
    timeout: float

    def create(self, group: Sequence[Snapshot], ours: Shell) -> Made:
        """Have LVM make the snapshots of a group. Raises: SnapshotError, ProgramError."""
        if ours.pid:  # programs are known by their arguments
            self.ledger.write_process("program", ours.pid)
        said = {}
        for snapshot in group:
            with self._guarded(snapshot):
                said[snapshot.name] = [ours.run(command) for command in _commands(snapshot, self.plan)]
        settings = configured(ours.run(group_lock.QUESTION))
        return Made(group, group_lock.directory(settings), said, ours)

    @contextmanager
    def _guarded(self, snapshot: Snapshot) -> Iterator[None]:
        """Have a volume resumed that LVM suspends for a moment to make a thin snapshot, should LVM die or hang then."""
        if snapshot.extents:
            yield
            return
        self.ledger.write("window")
        with self.watch.standing_by(self.deadline, GRACE) as messages:
            try:
                yield
            except BorgLvmError:  # LVM died; the watchdog stands by until the volume is resumed, for we may die as well
                with suppress(OSError):
                    origin_tables.resume_left(snapshot.origin.dm_uuid, snapshot.origin.vg, self.timeout)
                raise
        self.ledger.write("thawed")
        if messages:
            raise SnapshotError(
                f"LVM did not make the snapshot of {snapshot.origin.full_name}", details=tuple(messages)
            )


@dataclass(frozen=True)
class Made:
    """What LVM was asked to make, where it keeps its locks, and what it said: of each snapshot, at each command.

    `shell` is where it was asked; it has ended when volumes are held.
    """

    group: Sequence[Snapshot]
    locks: str
    said: Mapping[str, Sequence[Sequence[str]]]
    shell: Shell

    @property
    def is_thin(self) -> bool:
        """Whether one of them is a thin snapshot, of which only LVM's metadata know before the window."""
        return not all(snapshot.extents for snapshot in self.group)

    @contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold LVM's lock on the volume groups: no other command changes them.

        Raises: SnapshotError; BusyError when a command of LVM's has kept one for `timeout` seconds.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    group_lock.locked((snapshot.origin.vg for snapshot in self.group), self.locks, timeout)
                )
            except OSError as error:
                raise SnapshotError(
                    f"cannot take LVM's lock in {self.locks}: {error.strerror}; nothing was frozen",
                    remedy="borg-lvm needs LVM's own directory of locks, as the lvm commands do",
                ) from error
            yield

    def is_still(self, written: Sequence[Written], timeout: float) -> bool:
        """Return whether LVM has the same written down; the lock must be held. Raises: ProgramError."""
        try:
            return self.written(timeout) == written
        except SnapshotError:
            return False

    def written(self, timeout: float) -> list[Written]:
        """Read what LVM has written down; the lock must be held.

        By a program where the shell does not show all of it: LVM has made less, or lvm.conf has reports look otherwise.
        Raises: SnapshotError when one is missing, or the report cannot be read; ProgramError.
        """
        groups = sorted({snapshot.origin.vg for snapshot in self.group})
        written: list[Written] = []
        with suppress(subprocesses.ProgramError, ValueError):  # the shell has ended
            typed = self.shell.run([*_TYPED, *groups])
            written = _known(self._found(_by_name(shell.rows(typed, _FIELDS))))
        return written if len(written) == len(self.group) else self._reported(groups, timeout)

    def _reported(self, groups: Sequence[str], timeout: float) -> list[Written]:
        text = subprocesses.run([*_ALONE, *groups], timeout=timeout)
        try:
            listed = _by_name(lvm.rows(text))
            found = self._found(listed)
        except (LookupError, ValueError) as error:
            raise lvm.unreadable(text) from error
        missing = [snapshot for snapshot in self.group if found[snapshot.name] is None]
        if missing:
            known = {name for _, name in listed}
            raise _not_made(
                {
                    snapshot.origin.full_name: self._reasons(snapshot, is_made=snapshot.name in known)
                    for snapshot in missing
                }
            )
        return _known(found)

    def _found(self, listed: Listed) -> dict[str, Written | None]:
        """Return what is written down of each snapshot. Raises: LookupError, ValueError for what LVM never writes."""
        return {snapshot.name: _written(snapshot, listed) for snapshot in self.group}

    def _reasons(self, snapshot: Snapshot, *, is_made: bool) -> tuple[str, ...]:
        """Return why LVM has not made a snapshot; `is_made`: its volume is there, so the last command has failed."""
        said = self.said[snapshot.name]
        return shell.reasons(said[-1] if is_made else said[0])


def _not_made(why: Mapping[str, Sequence[str]]) -> SnapshotError:
    """Return the error for volumes (`vg/lv`) of which LVM has made no snapshot, with its reasons."""
    (first, *more), *_ = [*filter(None, why.values()), ("LVM does not say why",)]
    details = list(more)
    if len(why) > 1:
        details = [f"{name}: {line}" for name, lines in why.items() for line in lines]
    return SnapshotError(f"LVM did not make the snapshot of {', '.join(why)}: {first}", details=tuple(details))


def _commands(snapshot: Snapshot, plan: Plan) -> Iterator[list[str]]:
    tags = [word for tag in plan.tags for word in ("--addtag", tag)]
    minor = [] if snapshot.minor is None else ["--persistent", "y", "--minor", str(snapshot.minor)]
    make = ["lvcreate", "--name", snapshot.name, "--yes", "--config", SILENT + OURS, *tags]
    if snapshot.extents:
        policy = ["--alloc", "normal"] if snapshot.origin.vg_policy in _STRICT else []
        space = ["--zero", "y", "--wipesignatures", "y", "--extents", str(snapshot.extents), *policy]
        yield [*make, *space, *minor, snapshot.origin.vg, *snapshot.origin.vg_disks]
        convert = ["lvconvert", "--type", "snapshot", "--chunksize", f"{snapshot.chunk}b", "--yes", "--zero", "n"]
        convert += ["--config", UNTOLD]
        yield [*convert, snapshot.origin.full_name, snapshot.full_name]
    else:
        skip = ["--activate", "n", "--setactivationskip", "y"]
        yield [*make, "--snapshot", *skip, *minor, snapshot.origin.full_name]


def _by_name(rows: Iterable[Mapping[str, str]]) -> Listed:
    return {(row["vg_name"], row["lv_name"].strip("[]")): row for row in rows}


def _known(found: Mapping[str, Written | None]) -> list[Written]:
    return [one for one in found.values() if one]


def _written(snapshot: Snapshot, listed: Listed) -> Written | None:
    vg = snapshot.origin.vg
    row, origin = listed.get((vg, snapshot.name)), listed.get((vg, snapshot.origin.name))
    if row is None or origin is None or row["origin"].strip("[]") != snapshot.origin.name:
        return None
    if _device(snapshot, origin) != snapshot.origin.dm_uuid:  # somebody has given the name to another volume
        return None
    uuid = _device(snapshot, row)
    if snapshot.extents:
        return Written(uuid, chunk=int(row["chunk_size"]))
    pool = listed.get((vg, row["pool_lv"].strip("[]")))
    if pool is None or not (row["thin_id"].isdigit() and origin["thin_id"].isdigit()):
        return None
    return Written(
        uuid, number=int(row["thin_id"]), origin=int(origin["thin_id"]), pool=f"{_device(snapshot, pool)}-tpool"
    )


def _device(snapshot: Snapshot, row: Mapping[str, str]) -> str:
    """Return the uuid of a volume's device, as `Volume.dm_uuid` does."""
    return "LVM-" + f"{snapshot.origin.vg_uuid}{row['lv_uuid']}".replace("-", "")
