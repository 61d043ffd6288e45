"""Would tonight's backup work, and how consistent would it be: judges what was seen of a machine. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from borg_lvm.check import drill_findings, group_findings, proof_findings, size_findings
from borg_lvm.check.drill_findings import Drills
from borg_lvm.check.finding import Finding, Level
from borg_lvm.machine.lvm import KEEP_TAG, Volume
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.space import usage_estimate
from borg_lvm.records import dataclass, field

OLDEST_LVM = (2, 3)
CAPABILITIES = {21: "CAP_SYS_ADMIN", 2: "CAP_DAC_READ_SEARCH", 14: "CAP_IPC_LOCK", 5: "CAP_KILL"}
"""What a run needs of root's powers, by their numbers (linux/capability.h): mounts and device-mapper; to read all;
memory that is locked; to end what works in a view."""
EASIER = {2: 1}
"""A capability that includes another: CAP_DAC_OVERRIDE."""


@dataclass(frozen=True)
class Refused:
    """Why a step cannot be done, in the words of its error."""

    message: str
    details: tuple[str, ...] = ()
    remedy: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Surroundings:
    """The powers that we have, and what a sandbox may withhold.

    `capabilities` are the effective ones, a bit each. `mapper`: device-mapper's control node can be opened;
    `mapper_known`: the kernel has device-mapper. `read_only` are those of the directories that a run writes to where it
    cannot. `namespace` is why no private mount namespace can be made, if none can. `filtered`: some system calls may be
    forbidden. `unruled`: udev runs, and our rule is not installed.
    """

    root: bool = True
    capabilities: int = (1 << 64) - 1
    mapper: bool = True
    mapper_known: bool = True
    read_only: tuple[str, ...] = ()
    namespace: str = ""
    filtered: bool = False
    unruled: bool = False


@dataclass(frozen=True)
class Unnamed:
    """What runs here and is not configured, in its plugin's words; without these, a plugin could not look.

    `is_server`: it knows itself where its data is, which it was asked; else it is known by the files that it has open.
    `saved` are the paths of its data that the sources hold, `missing` the others, with the reason; `unknown` is why it
    did not say.
    """

    description: str
    is_server: bool = True
    saved: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Seen:
    """All that was examined. `versions` are those of programs by name, empty for one that is missing.

    `volumes` is None when LVM could not be asked (`unlisted` says why). `dead` are runs that are no more and have left
    something, `still` those that have left something suspended or frozen. `plan` is None when there is none: `refused`
    says why, or nothing was asked for. `unbootable` is the initramfs that cannot activate the root volume when it has
    a snapshot. `provable`: what is saved could be read back. `drills` is what is known of drills.
    """

    surroundings: Surroundings
    versions: Mapping[str, str]
    kernel: str = ""
    no_snapshots: tuple[str, str] = ("", "")
    volumes: Sequence[Volume] | None = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    unlisted: Refused | None = None
    dead: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    configuration: Refused | None = None
    history_trouble: str = ""
    damaged: tuple[str, ...] = ()
    plan: Plan | None = None
    refused: Refused | None = None
    past: Mapping[str, Sequence[usage_estimate.Once]] = field(default_factory=dict)
    grows: bool = True
    unnamed: tuple[Unnamed, ...] = ()
    unbootable: str = ""
    provable: bool = False
    drills: Drills = field(default_factory=Drills)


def judge(seen: Seen) -> tuple[Finding, ...]:
    """Return every finding, in the order in which a person would look."""
    return tuple(
        finding
        for part in (_programs, _sandbox, _kernel, _configuration, _leftovers, _groups, _plan, _unnamed, _history)
        for finding in part(seen)
    )


def _programs(seen: Seen) -> Iterator[Finding]:
    missing = sorted(name for name, version in seen.versions.items() if not version)
    for name in missing:
        yield Finding("error", name, "is not installed, or not in PATH", f"install the package that brings {name}")
    old = seen.versions.get("lvm", "")
    numbers = tuple(int(number) for number in re.findall(r"\d+", old)[:2])
    if old and numbers < OLDEST_LVM:
        yield Finding("error", "lvm", f"is of version {old}, older than 2.03", "upgrade lvm2")
    elif not missing:
        versions = ", ".join(f"{name} {version}" for name, version in seen.versions.items())
        yield Finding("ok", "programs", versions)


def _sandbox(seen: Seen) -> Iterator[Finding]:
    around = seen.surroundings
    unit = "in its systemd unit"
    if not around.root:
        yield Finding(
            "error", "root", "we are not root: only root can make, and remove, LVM snapshots", "run it as root"
        )
        return
    for bit, name in CAPABILITIES.items():
        if not around.capabilities >> bit & 1 and not around.capabilities >> EASIER.get(bit, bit) & 1:
            yield Finding("error", "sandbox", f"{name} is missing", f"{unit} take it into CapabilityBoundingSet=")
    if not around.mapper and around.mapper_known:
        remedy = f"{unit}: PrivateDevices=no, DevicePolicy=auto; in a container: it needs the host's /dev"
        yield Finding(
            "error", "sandbox", "/dev/mapper/control cannot be opened, though the kernel has device-mapper", remedy
        )
    elif not around.mapper:
        yield Finding("error", "kernel", "it has no device-mapper, or has not loaded it", "modprobe dm_mod")
    for path in around.read_only:
        yield Finding("error", "sandbox", f"{path} cannot be written", f"{unit}: ReadWritePaths={path}")
    if around.namespace:
        remedy = f"{unit}: RestrictNamespaces=no, and @mount in SystemCallFilter= if there is one"
        yield Finding("error", "sandbox", f"no private mount namespace can be made: {around.namespace}", remedy)
    if around.filtered:
        yield Finding(
            "note", "sandbox", "system calls are filtered; mount, unshare, pivot_root, mlockall and ioctl are needed"
        )


def _kernel(seen: Seen) -> Iterator[Finding]:
    why, remedy = seen.no_snapshots
    if why:
        yield Finding("error", "kernel", why, remedy)
    elif seen.surroundings.mapper or not seen.surroundings.root:
        yield Finding("ok", "kernel", seen.kernel)
    if seen.unbootable:
        yield Finding(
            "warning",
            "kernel",
            f"{seen.unbootable} has no dm-snapshot: with the snapshot that a power cut leaves of the root volume, the"
            " machine would not boot",
            "add dm_snapshot to /etc/initramfs-tools/modules; update-initramfs -u (dracut: add_drivers; dracut -f)",
        )


def _configuration(seen: Seen) -> Iterator[Finding]:
    if seen.configuration:
        yield from _refused("configuration", seen.configuration)
    else:
        yield Finding("ok", "configuration", "understood, and only root can change it")


def _refused(about: str, why: Refused) -> Iterator[Finding]:
    level: Level = "warning" if why.passing else "error"
    yield Finding(level, about, why.message, why.remedy, why.details)


def _leftovers(seen: Seen) -> Iterator[Finding]:
    for run in seen.still:
        message = f"interrupted run {run}: volumes are still suspended, or applications still quiesced"
        yield Finding("error", "leftovers", message, "borg-lvm clean")
    for run in sorted(set(seen.dead) - set(seen.still)):
        yield Finding("warning", "leftovers", f"leftovers of interrupted run {run}", "borg-lvm clean")
    kept: defaultdict[str, list[Volume]] = defaultdict(list)
    for volume in seen.volumes or ():
        if KEEP_TAG in volume.tags and volume.run_id:
            kept[volume.run_id].append(volume)
    for run, volumes in sorted(kept.items()):
        fills = not all(volume.is_thin for volume in volumes)  # one that is full is lost
        names = ", ".join(f"{volume.full_name}{_fill(volume)}" for volume in volumes)
        message = (
            f"snapshots are kept, which slow down every write{' and are lost when full' if fills else ''}: {names}"
        )
        yield Finding("warning" if fills else "note", "leftovers", message, f"borg-lvm clean --run {run}")


def _fill(volume: Volume) -> str:
    return "" if volume.data_percent is None else f" ({volume.data_percent:.0f} % full)"


def _groups(seen: Seen) -> Iterator[Finding]:
    if seen.volumes is None:
        if seen.unlisted:
            yield from _refused("LVM", seen.unlisted)
        return
    ours = {snapshot.origin.vg for snapshot in seen.plan.snapshots if not snapshot.apart} if seen.plan else None
    refused = seen.refused.details if seen.refused else ()
    for finding in group_findings.judge(seen.volumes, seen.groups, ours):
        if not any(line.startswith(f"volume {finding.about} has ") for line in refused):  # which says why
            yield finding


def _plan(seen: Seen) -> Iterator[Finding]:
    if seen.refused:
        yield from _refused("sources", seen.refused)
    if seen.plan is None:
        return
    plan = seen.plan
    yield Finding("ok", "sources", f"{', '.join(plan.sources)} can be frozen")
    if plan.lifetime:
        yield Finding("note", "snapshots", f"the snapshots exist {plan.lifetime}")
    for path, declared in plan.live_sources:
        yield Finding("note", "sources", f"{path} is read live, as declared (--live {declared})")
    if plan.consistency == "per-volume":
        message = "each volume has an instant of its own: what is spread over several may not fit together"
        remedy = "" if plan.late else "consistency: instant"  # in a mode for several instants, one is impossible
        yield Finding("note" if plan.late else "warning", "sources", message, remedy)
    for note in plan.notes:
        yield Finding("note", "sources", note)
    if seen.surroundings.unruled and any(snapshot.crypt for snapshot in plan.snapshots):
        message = (
            "during a run links of udev's by content, as /dev/disk/by-uuid, may lead to the snapshot of a LUKS volume"
        )
        yield Finding("warning", "udev", message, "borg-lvm setup --write: it installs the rule")
    yield from _applications(plan)
    yield from proof_findings.findings(plan.proof, seen.provable)


def _applications(plan: Plan) -> Iterator[Finding]:
    for application in plan.applications:
        missing = [f"{kept.path}: {kept.missing}" for kept in application.kept if kept.missing]
        plugin = " ".join(filter(None, (application.plugin, application.version)))
        yield Finding("ok", application.name, f"{plugin}, level {application.level}: {application.does}")
        for text in missing:
            yield Finding("warning", application.name, f"not saved: {text}", "name it as a source")
        for note in application.notes:
            yield Finding("note", application.name, note)


def _unnamed(seen: Seen) -> Iterator[Finding]:
    for unnamed in seen.unnamed:
        remedy = "borg-lvm discover prints its entry for the configuration"
        missing = "; ".join(unnamed.missing)
        if not unnamed.description:
            yield Finding("note", "not configured", unnamed.unknown)
        elif unnamed.unknown:
            yield Finding(
                "note",
                "not configured",
                f"{unnamed.description}: it does not report where its data is: {unnamed.unknown}",
                remedy,
            )
        elif unnamed.is_server and unnamed.saved and missing:
            yield Finding(
                "warning", "not configured", f"{unnamed.description}: half of its data is not saved: {missing}", remedy
            )
        elif unnamed.is_server and missing:
            yield Finding(
                "warning", "not configured", f"{unnamed.description}: its data is not saved: {missing}", remedy
            )
        elif unnamed.is_server or unnamed.saved:
            saved = ": it is saved as a power cut would leave it" if unnamed.saved else ""
            yield Finding("note", "not configured", f"{unnamed.description}{saved}", remedy)


def _history(seen: Seen) -> Iterator[Finding]:
    if seen.history_trouble:
        yield Finding("warning", "history", seen.history_trouble)
    for name in seen.damaged:
        yield Finding("warning", "history", f"the record of a run is damaged: {name}", "the next run sets it aside")
    if seen.plan:
        yield from size_findings.findings(seen.plan, seen.past, seen.grows)
    yield from drill_findings.findings(seen.drills)
