"""Looking at a machine for `borg-lvm check`: all that would be found out by a run, and changing nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

from borg_lvm.check import drilled, initramfs, unconfigured
from borg_lvm.check.judge import Refused, Seen, Surroundings, Unnamed
from borg_lvm.config.schema import Settings
from borg_lvm.errors import BorgLvmError, LockedError, SnapshotError
from borg_lvm.linux import device_mapper, namespaces, subprocesses
from borg_lvm.machine import lvm, mounts
from borg_lvm.proof import stage
from borg_lvm.quiesce import coordinator
from borg_lvm.records import dataclass
from borg_lvm.session import cleanup, snapshot_target, survey
from borg_lvm.snapshots.providers import closed, provider
from borg_lvm.state import directories, history, ledger
from borg_lvm.watchdog import resume

PROGRAMS = (("lvm", "version"), ("dmsetup", "--version"))
CRYPTSETUP = ("cryptsetup", "--version")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
CONTROL = "/dev/mapper/control"
RULE = "12-borg-lvm.rules"
RULES = [f"{place}/udev/rules.d" for place in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")]
WRITTEN = (directories.STATE, "/run/lock/lvm", history.DIRECTORY)
"""Where a run, and LVM, must be able to write."""


@dataclass(frozen=True)
class CheckRequest:
    """What is to be checked: the settings or why there are none, and the sources, if there are any.

    `applications` are the configured applications, if there are any.
    """

    settings: Settings
    configuration: Refused | None = None
    question: survey.Question | None = None
    runs: Callable[[], None] = lambda: None
    """Raises a BorgLvmError if the command cannot be run."""
    applications: coordinator.Applications | None = None


def refused(error: BorgLvmError) -> Refused:
    """Return an error as what was seen: a check never does anything, and need not say so."""
    return Refused(
        error.message.removesuffix("; nothing was done"), error.details, error.remedy, isinstance(error, LockedError)
    )


def _left(volumes: Sequence[lvm.Volume]) -> tuple[str, ...]:
    """Return the dead runs that have left something."""
    named = provider().named()
    return tuple(dead_run.run_id for dead_run in cleanup.dead_runs(volumes, ledger.entries(), named=named))


def look(asked: CheckRequest) -> Seen:
    """Look at everything. What goes wrong is part of what is seen, never an error."""
    versions = {argv[0]: _version(argv) for argv in PROGRAMS}
    around = surroundings()  # after LVM's own programs, which load device-mapper where it is a module
    release = os.uname().release
    nothing = Seen(around, versions, release, configuration=asked.configuration, volumes=None)
    if not around.root or "" in versions.values() or not around.mapper:  # LVM would only report that it sees nothing
        return nothing
    try:
        dead = [entry for entry in ledger.entries() if not entry.is_live]
    except SnapshotError as error:
        return replace(nothing, unlisted=refused(error))
    still = tuple(entry.run_id for entry in dead if _is_suspended(entry))
    inventory, unlisted = (None, None) if still else _inventory(asked.settings)  # LVM would wait for what is suspended
    volumes = inventory.volumes if inventory else None
    left = _left(volumes or ())
    surveyed, why_not = (None, None) if volumes is None else _surveyed(asked)
    encrypted = surveyed and any(snapshot.crypt for snapshot in surveyed.plan.snapshots)
    past = surveyed.history if surveyed else history.read()
    plan = surveyed.plan if surveyed else None
    return replace(
        nothing,
        versions=versions | ({"cryptsetup": _version(CRYPTSETUP)} if encrypted else {}),
        unbootable=initramfs.without_snapshots(release) if initramfs.concerned(plan) else "",
        no_snapshots=snapshot_target.refusal(),
        volumes=volumes,
        groups=inventory.groups if inventory else {},
        unlisted=unlisted,
        dead=left,
        still=still,
        history_trouble=past.trouble,
        damaged=past.damaged,
        plan=plan,
        refused=why_not,
        past=past.volumes,
        grows=asked.settings.snapshot.grow,
        provable=surveyed is not None and stage.can(surveyed.invocation, asked.settings.hooks),
        drills=drilled.look(asked.settings, asked.applications),
        unnamed=_unnamed(asked, surveyed),
    )


def _unnamed(asked: CheckRequest, surveyed: survey.Survey | None) -> tuple[Unnamed, ...]:
    if asked.configuration:
        return ()
    return unconfigured.look(asked.settings, surveyed.coverage() if surveyed else None)


def run_around() -> str:
    """Return the run inside of whose view we are; nothing if there is none. What it froze cannot be frozen again."""
    try:
        if namespaces.is_first():
            return ""
        # The snapshots of `borg-lvm begin` are seen by everybody, at a place of their own: who sees them is in no run.
        sources = [mount.source for mount in mounts.read() if not mount.path.startswith(f"{directories.STATE}/")]
        live = [entry.run_id for entry in ledger.entries() if entry.is_live]
    except (OSError, SnapshotError):
        return ""
    marks = {run_id: (lvm.doubled(lvm.prefix(run_id)), f"@{lvm.prefix(run_id)}") for run_id in live}
    shown = "\n".join(sources)
    return next((run_id for run_id, own in marks.items() if any(mark in shown for mark in own)), "")


def surroundings() -> Surroundings:
    """Look at our own powers, and at what a sandbox has left of the machine."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    with open("/proc/misc", encoding="ascii") as file:
        known = "device-mapper" in file.read()
    return Surroundings(
        root=os.geteuid() == 0,
        capabilities=int(status.get("CapEff", "0"), 16),
        mapper=_can_open(CONTROL),
        mapper_known=known,
        read_only=tuple(path for path in WRITTEN if _is_read_only(path)),
        namespace=_no_namespace() if os.geteuid() == 0 else "",
        filtered=status.get("Seccomp", "0").strip() == "2",
        unruled=os.path.exists(device_mapper.UDEV) and not any(os.path.exists(f"{place}/{RULE}") for place in RULES),
    )


def _can_open(path: str) -> bool:
    """Whether a device is there, and may be opened: a control group may forbid that."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_read_only(path: str) -> bool:
    """Whether a directory, or what is there of the way to it, lies on something that is mounted read-only."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _no_namespace() -> str:
    """Try to make a private mount namespace, in a process that ends with it; return why that fails, if it does."""
    pid = os.fork()
    if pid == 0:
        number = 1
        try:
            namespaces.make_own()
            number = 0
        except OSError as error:
            number = error.errno or 1
        finally:
            os._exit(number)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        return f"a process that tries is killed by signal {-status}"
    return os.strerror(status) if status else ""


def _version(argv: Sequence[str]) -> str:
    """Return the version that a program prints, empty if there is no such program."""
    if shutil.which(argv[0], path=subprocesses.environment()["PATH"]) is None:
        return ""
    try:
        match = _VERSION.search(subprocesses.run(argv))
    except subprocesses.ProgramError:
        match = None
    return match[0] if match else "of unknown version"


def _is_suspended(entry: ledger.LedgerEntry) -> bool:
    """Whether a dead run may have left something suspended or frozen."""
    return len(entry.named("thawed")) != len(entry.named("window")) or bool(resume.unresumed(entry))


def _inventory(settings: Settings) -> tuple[lvm.Inventory | None, Refused | None]:
    try:
        return lvm.inventory(settings.command_timeout), None
    except BorgLvmError as error:
        return None, refused(error)


def _surveyed(asked: CheckRequest) -> tuple[survey.Survey | None, Refused | None]:
    """Make the plan of a run, with its applications; or return why there is none."""
    if asked.question is None or asked.configuration:
        return None, None
    try:
        asked.runs()
        with closed():
            surveyed = survey.survey(asked.question, asked.settings)
        if asked.applications:
            surveyed = surveyed.with_applications(*asked.applications.probe())
        return surveyed.with_proof(asked.settings).with_holders(), None
    except BorgLvmError as error:
        return None, refused(error)
