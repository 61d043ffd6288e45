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
        "The source paths, if no plugin understands the command. Each is frozen with all that lies and is mounted "
        "below it. `--path` replaces the list.",
        ["/etc", "/srv"],
    )
    live: tuple[str, ...] = key(
        _PATHS,
        (),
        "Paths below a source that the command reads live: it must write there, or they cannot be frozen and need not "
        "be. `plan` and `report` name them.",
        ["/var/cache/backup"],
    )
    live_types: tuple[str, ...] = key(
        ListOf(FILE_SYSTEM, "a list of types of file systems"),
        (),
        "File systems of these types are read live where they are mounted below a source path: those of containers, "
        "snaps and desktops, for instance. `*` stands for any characters. A source path itself never becomes live by "
        "this. `plan` names each mount that does.",
        ["overlay", "squashfs", "nsfs", "fuse.*"],
    )
    hooks: tuple[str, ...] = key(
        ListOf(Text("the name of a plugin", PLUGIN), "a list of names of plugins", unique="name"),
        ("borg", "borgmatic", "restic", "rsync", "tar"),
        "The plugins that read command lines of backup programs, by name. A plugin that is named neither here nor as "
        "one of the `applications` is never loaded. A name that is not installed is an error, and so is one of our "
        "plugins for applications.",
        ["borg", "restic"],
    )
    applications: tuple[ApplicationEntry, ...] = key(
        ListOf(ListEntry(ApplicationEntry), "a list of entries with at least the key plugin", unique="name"),
        (),
        "The applications that are quiesced around the instant, in this order; they are resumed in the reverse order. "
        "Name what writes to others before what it writes to: the web server before the database.",
        [
            {"plugin": "postgresql", "name": "shop", "level": "checkpoint", "options": {"port": 5433}},
            {"plugin": "scripts", "on_failure": "skip-if-absent", "options": {"directory": "/etc/borg-lvm/freeze.d"}},
        ],
    )
    missing_sources: MissingSources = key(
        Choice[MissingSources](get_args(MissingSources)),
        "refuse",
        "What to do about a source path that does not exist. `refuse`: the run is refused, and nothing is done. "
        "`skip`: the others are frozen, and the command finds nothing there (borg and tar warn of it). If the path "
        "is there when the command ends, it may have been read live: the run fails.",
        "skip",
    )
    consistency: Consistency = key(
        Choice[Consistency](get_args(Consistency)),
        "instant",
        "`instant`: all volumes are frozen together, and every file is read as it was at one instant. "
        "`per-volume`: each volume is frozen at an instant of its own; that is enough when no application has data on "
        "several volumes. What cannot be kept is an error, never a silent fallback.",
        "per-volume",
    )
    snapshot: SnapshotSettings = section(SnapshotSettings, "How snapshots are made.")
    luks: tuple[LuksKey, ...] = key(
        ListOf(ListEntry(LuksKey), "a list of entries with the keys volume and key_file", unique="volume"),
        (),
        "Keys of encrypted volumes, one entry for each. The snapshot of a volume that holds a LUKS container must be "
        "unlocked before it can be mounted.",
        [{"volume": "vg0/home", "key_file": "/etc/borg-lvm/keys/home.key"}],
    )
    on_tainted: OnTainted = key(
        Choice[OnTainted](get_args(OnTainted)),
        "rename",
        "What to do with an archive that was read from a lost snapshot. `rename`: borg's archive gets a name "
        "that begins with `borg-lvm-tainted-`, restic's snapshot the tag `borg-lvm-tainted`. `delete`: borg's archive "
        "is deleted, restic's snapshot forgotten. `keep`: a message names it. Only what this run has made is touched.",
        "delete",
    )
    prove: ProofSettings = section(ProofSettings, "What is read back, and compared with the snapshots.")
    drill: DrillSettings = section(DrillSettings, "How applications are restored and judged.")
    deadline: float = key(
        Seconds(1, 60),
        10.0,
        "The longest time, in seconds, for which applications are quiesced and volumes suspended. Then they are "
        "resumed at once, and the run fails.",
        5,
    )
    attempts: int = key(
        Whole(1, 10),
        3,
        "How many times a run tries to quiesce its applications, if one cannot be quiesced in time or does not stay "
        "quiesced: a long statement holds a lock, for instance. Between two attempts everything works as usual, and "
        "there is no snapshot. What waiting does not mend (a server that is down, a missing privilege) is not tried "
        "again.",
        5,
    )
    retry_pause: float = key(
        Seconds(0, 600),
        15.0,
        "The time between two attempts to quiesce the applications, in seconds.",
        60,
    )
    command_timeout: float = key(
        Seconds(1, 3600),
        120.0,
        "The longest time, in seconds, that a command of LVM may take; then the run fails.",
        300,
    )
    lock_wait: float = key(
        Seconds(0, 86400),
        0.0,
        "How many seconds to wait for another run that uses one of the volumes. 0: fail at once.",
        600,
    )
    view_limit: float = key(
        Seconds(60, 7 * 86400),
        86400.0,
        "The longest time, in seconds, for which a view of `borg-lvm begin` exists. Then it is removed, and programs "
        "that still read it fail.",
        14400,
    )
    metrics: str = key(
        PathOrNone(),
        "",
        "A file for the textfile collector of Prometheus' node exporter, with the result of the last run. It is "
        "written anew after each run, however that ended. Its directory must exist.",
        "/var/lib/prometheus/node-exporter/borg-lvm.prom",
    )
    notify: tuple[Notification, ...] = key(
        ListOf(ListEntry(Notification), "a list of entries with at least the key command"),
        (),
        "Commands that report the result of a run, called after it one after the other. If one fails, that is a "
        "warning; the exit status stays.",
        [{"command": ["/usr/local/bin/page-me"], "results": ["failure", "tainted"], "timeout": 60}],
    )
