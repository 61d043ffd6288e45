"""Every key of the configuration: its type, its default and its documentation. Those of sections: `sections.py`.

A new key is one field here or there; then `python -m borg_lvm.config.generate` brings the JSON Schema and the reference
page up to date. The documentation is written for administrators and is shown in both.
"""

from __future__ import annotations

from typing import Literal, get_args

from borg_lvm.config.fields import ListEntry, key, section
from borg_lvm.config.proof_settings import ProofSettings
from borg_lvm.config.sections import PLUGIN, ApplicationEntry, DrillSettings, LuksKey, Notification, SnapshotSettings
from borg_lvm.config.value_types import (
    AbsolutePath,
    Choice,
    ListOf,
    PathOrNone,
    Seconds,
    Text,
    Whole,
)
from borg_lvm.plugins.backup_command import OnTainted
from borg_lvm.records import dataclass

Consistency = Literal["instant", "per-volume"]
"""One instant for all volumes, or one for each."""
MissingSources = Literal["refuse", "skip"]
"""What to do about a source path that does not exist."""

_PATHS = ListOf(AbsolutePath(), "a list of absolute paths")
FILE_SYSTEM = Text("a type of file system, as mount shows it", "[A-Za-z0-9][A-Za-z0-9_.*?-]*")


@dataclass(frozen=True)
class Settings:
    """The whole configuration."""

    paths: tuple[str, ...] = key(
        _PATHS,
        (),
        "What to freeze when the wrapped command is not one that a plugin understands: absolute paths, each frozen "
        "with all that lies below it on its volume. A list given by `--path` replaces it.",
        ["/etc", "/srv"],
    )
    live: tuple[str, ...] = key(
        _PATHS,
        (),
        "Absolute paths that the command sees live, though they lie below a frozen path: what it must write, or "
        "what cannot be frozen and need not be. The report names them.",
        ["/var/cache/backup"],
    )
    live_types: tuple[str, ...] = key(
        ListOf(FILE_SYSTEM, "a list of types of file systems"),
        (),
        "Types of file systems that may be read live where they are mounted below a source path: those of containers, "
        "of snaps and of desktops, for instance. `*` stands for any letters. A source path itself is never left live "
        "by this. The plan names each mount that is.",
        ["overlay", "squashfs", "nsfs", "fuse.*"],
    )
    hooks: tuple[str, ...] = key(
        ListOf(Text("the name of a plugin", PLUGIN), "a list of names of plugins", unique="name"),
        ("borg", "borgmatic", "restic", "rsync", "tar"),
        "The plugins for backup commands to load, by name. An installed plugin that is not named here, or under "
        "`applications`, is never loaded; a name that is not installed is an error.",
        ["borg", "restic"],
    )
    applications: tuple[ApplicationEntry, ...] = key(
        ListOf(ListEntry(ApplicationEntry), "a list of entries with at least the key plugin", unique="name"),
        (),
        "Applications to be quiesced around the instant: in this order, and resumed in the reverse order. Name what "
        "writes to others before what it writes to: the web server before the database.",
        [
            {"plugin": "postgresql", "name": "shop", "level": "checkpoint", "options": {"port": 5433}},
            {"plugin": "scripts", "on_failure": "skip-if-absent", "options": {"directory": "/etc/borg-lvm/freeze.d"}},
        ],
    )
    missing_sources: MissingSources = key(
        Choice[MissingSources](get_args(MissingSources)),
        "refuse",
        "What to do about a source path that does not exist. `refuse`: the run is refused, and nothing is done. "
        "`skip`: the others are frozen, and the command finds nothing there (borg and tar warn of it). A path that is "
        "there when the command ends, and would have been read live, makes the run fail.",
        "skip",
    )
    consistency: Consistency = key(
        Choice[Consistency](get_args(Consistency)),
        "instant",
        "`instant`: all volumes are frozen together, so that every file is read as it was at one instant. "
        "`per-volume`: each volume is seen at an instant of its own, which is enough when no application spreads its "
        "data over several volumes. Less than what is asked for here is an error, never a silent fallback.",
        "per-volume",
    )
    snapshot: SnapshotSettings = section(SnapshotSettings, "How snapshots are made.")
    luks: tuple[LuksKey, ...] = key(
        ListOf(ListEntry(LuksKey), "a list of entries with the keys volume and key_file", unique="volume"),
        (),
        "Keys of encrypted volumes. The snapshot of a volume that holds a LUKS container is a locked copy, which must "
        "be unlocked before it can be mounted. One entry for each such volume.",
        [{"volume": "vg0/home", "key_file": "/etc/borg-lvm/keys/home.key"}],
    )
    on_tainted: OnTainted = key(
        Choice[OnTainted](get_args(OnTainted)),
        "rename",
        "What to do with an archive that was read from a lost snapshot. `rename`: borg's gets a name "
        "that begins with `borg-lvm-tainted-`, restic's snapshot the tag `borg-lvm-tainted`. `delete` deletes the "
        "archive, or forgets the snapshot. `keep` only names it. Only what this very run has made is ever touched.",
        "delete",
    )
    prove: ProofSettings = section(ProofSettings, "What is read back, and compared with the snapshots.")
    drill: DrillSettings = section(DrillSettings, "How applications are restored and judged.")
    deadline: float = key(
        Seconds(1, 60),
        10.0,
        "How many seconds applications may be quiesced and volumes suspended at most. When it has passed, they are "
        "resumed at once, and the run fails.",
        5,
    )
    attempts: int = key(
        Whole(1, 10),
        3,
        "How often a run tries to quiesce its applications, when one cannot be quiesced in time or does not stay so: "
        "when a long statement holds a lock, for instance. Between two attempts everything goes on as usual, and no "
        "snapshot is left. 1: only once. What waiting does not mend (a server that is down, a missing privilege) is "
        "not tried again.",
        5,
    )
    retry_pause: float = key(
        Seconds(0, 600),
        15.0,
        "How many seconds lie between two attempts to quiesce the applications.",
        60,
    )
    command_timeout: float = key(
        Seconds(1, 3600),
        120.0,
        "How many seconds an LVM command may take before it is given up and the run fails.",
        300,
    )
    lock_wait: float = key(
        Seconds(0, 86400),
        0.0,
        "How many seconds to wait for another run that holds one of the volumes. 0 fails at once.",
        600,
    )
    view_limit: float = key(
        Seconds(60, 7 * 86400),
        86400.0,
        "How many seconds a view of `borg-lvm begin` exists at most. When nobody has ended it by then, it is removed, "
        "and what still reads it fails.",
        14400,
    )
    metrics: str = key(
        PathOrNone(),
        "",
        "A file for the textfile collector of Prometheus' node exporter, with the result of the last run. It is "
        "rewritten after each run, whatever ended it. Its directory must exist.",
        "/var/lib/prometheus/node-exporter/borg-lvm.prom",
    )
    notify: tuple[Notification, ...] = key(
        ListOf(ListEntry(Notification), "a list of entries with at least the key command"),
        (),
        "Commands that are run after a run, one after the other, to notify somebody of its result. One that fails is a "
        "warning, and changes nothing.",
        [{"command": ["/usr/local/bin/page-me"], "results": ["failure", "tainted"], "timeout": 60}],
    )
