"""The keys of the configuration's sections, and of the entries of its lists. Those on its first level: `schema.py`."""

# ruff: noqa: RUF009 - the calls declare dataclass fields, each used once

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from borg_lvm.config.document import Fields
from borg_lvm.config.fields import Record, key, required
from borg_lvm.config.plugin_options import NOTHING, Later, Placed, Word
from borg_lvm.config.size import Size
from borg_lvm.config.value_types import AbsolutePath, Choice, ListOf, ReserveKind, Seconds, SizeKind, Switch, Text
from borg_lvm.plugins.backup_command import Result

OnFailure = Literal["abort", "crash-consistent", "skip-if-absent"]
"""What to do when an application cannot be quiesced."""
Coverage = Literal["whole", "partly", "any"]
"""How much of an application's data must be in the snapshots."""
PLUGIN = "[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = "[A-Za-z0-9+_.][A-Za-z0-9+_.-]*"


@dataclass(frozen=True)
class LuksKey:
    """Where the key of an encrypted volume is found."""

    volume: str = required(
        Text("a volume group and a logical volume, as in vg/lv", f"{_NAME}/{_NAME}"),
        "The logical volume that holds the LUKS container, written `vg/lv`, without `/dev/`.",
        "vg0/home",
    )
    key_file: str = required(
        AbsolutePath(),
        "The file with the key, as for `cryptsetup --key-file`. It must belong to root, and nobody else may be "
        "able to read it or to change it.",
        "/etc/borg-lvm/keys/home.key",
    )


@dataclass(frozen=True)
class VolumeSize:
    """How much space the snapshot of one volume gets."""

    volume: str = required(
        Text("a volume group and a logical volume, as in vg/lv", f"{_NAME}/{_NAME}"),
        "The logical volume, written `vg/lv`, without `/dev/`.",
        "vg0/home",
    )
    size: Size = required(SizeKind(), "The space of its snapshot, written as `snapshot.size`.", "20G")


@dataclass(frozen=True)
class SnapshotSettings:
    """How snapshots are made."""

    size: Size = key(
        SizeKind(),
        Size(),
        "How much may be written to a volume while its snapshot exists; a snapshot that is full is lost, and the "
        "run fails. `auto` decides by what the last runs have used, else by the volume, and by the free space. `5G` or "
        "`512MiB` is an amount: units are K, M, G, T and P, powers of 1024, alone or followed by `iB` or `B`; decimals "
        "such as `1.5T` are fine. `20%ORIGIN` is a part of the volume, `50%FREE` a part of its group's free space, "
        "`200%USED` a part of what its files take up; all are whole percentages, up to 100, of USED up to 999. "
        "Thin volumes need no size.",
        "20%ORIGIN",
    )
    grow: bool = key(
        Switch(),
        True,
        "Give a snapshot more space while the command runs, before it is full, as long as its volume group has more "
        "free space than `reserve`.",
        False,
    )
    reserve: Size = key(
        ReserveKind(),
        Size("free", 10),
        "What a volume group is to keep free when snapshots grow: an amount, or a part of what was free when the run "
        "began.",
        "2G",
    )
    grow_pool: bool = key(
        Switch(),
        False,
        "Make a thin pool larger, by a fifth, when it is nearly full while the command runs. It stays so. Without "
        "this, or without free space, the command is ended before the pool is full: the server's own data come first.",
        True,
    )
    minimum: Size = key(
        SizeKind(),
        Size(),
        "The least that `auto` gives a snapshot: `auto` is 16 MiB.",
        "1G",
    )
    maximum: Size = key(
        SizeKind(),
        Size(),
        "The most that `auto` gives a snapshot, and up to which any grows: `auto` is all that it can ever use.",
        "50%ORIGIN",
    )
    volumes: tuple[VolumeSize, ...] = key(
        ListOf(Record(VolumeSize), "a list of entries with the keys volume and size", unique="volume"),
        (),
        "Sizes for certain volumes, instead of `size`.",
        [{"volume": "vg0/home", "size": "20G"}],
    )
    persistent_minor: bool = key(
        Switch(),
        True,
        "Give the snapshot of a volume the same device number in every run. Backup programs that remember files by "
        "device and inode number then recognise unchanged files.",
        False,
    )


@dataclass(frozen=True)
class ApplicationEntry:
    """An application to be quiesced. Its plugin reads `level` and `options` (`config/plugin_options.py`)."""

    plugin: Word = required(
        Placed(Text("the name of a plugin", PLUGIN)),
        "The plugin that knows this application. `borg-lvm hooks` lists those that are installed, "
        "`borg-lvm hooks NAME` shows the levels and options of one.",
        "postgresql",
    )
    name: str = key(
        Text("a name of letters, digits, dots, dashes and underscores", PLUGIN),
        "",
        "What this application is called in messages; the plugin's name if it is not given. No two entries may have "
        "the same.",
        "shop",
    )
    level: Word | None = key(
        Placed(Text("the name of a level", PLUGIN)),
        None,
        "How much is done to it, in the plugin's own terms; the plugin's first level if it is not given.",
        "checkpoint",
    )
    on_failure: OnFailure = key(
        Choice[OnFailure](get_args(OnFailure)),
        "abort",
        "What to do when it cannot be quiesced, or its snapshot fails verification. `abort`: the run fails, nothing is "
        "backed up. `skip-if-absent`: go on if it is not running at all, else as abort. `crash-consistent`: go on; its "
        "files are saved as a power cut would have left them, or wrong as they are; the last lines of the run name it, "
        "and a command that succeeded ends with status 77.",
        "skip-if-absent",
    )
    coverage: Coverage = key(
        Choice[Coverage](get_args(Coverage)),
        "whole",
        "How much of its data must be in the snapshots of a run. `whole`: all of it, else the run is refused, and what "
        "is missing is named. `partly`: some of it. `any`: none need be.",
        "partly",
    )
    deadline: float = key(
        Seconds(0, 60),
        0.0,
        "How many seconds this application may be quiesced at most. When it has passed, it is resumed and the "
        "run fails. 0: as long as the general `deadline`.",
        3,
    )
    prepare_timeout: float = key(
        Seconds(1, 3600),
        300.0,
        "How many seconds connecting to it, and then preparing it, may take: a database's checkpoint, for instance. "
        "Nothing is quiesced meanwhile.",
        600,
    )
    options: Fields = key(Later(), NOTHING, "The plugin's own options.", {"socket": "/run/postgresql", "port": 5433})

    def __post_init__(self) -> None:
        """Give it its plugin's name, if it has none of its own."""
        object.__setattr__(self, "name", self.name or self.plugin.text)


@dataclass(frozen=True)
class Notification:
    """A command that tells somebody what came of a run."""

    command: tuple[str, ...] = required(
        ListOf(Text("a word", r"[^\u0000]+"), "a list of a program and its arguments", least=1),
        "The program and its arguments; no shell reads them. It runs as root, gets BORG_LVM_RESULT, BORG_LVM_STATUS, "
        "BORG_LVM_MESSAGE, BORG_LVM_RUN, BORG_LVM_HOST, BORG_LVM_PROGRAM and BORG_LVM_ARCHIVE in its environment and "
        "the certificate of the run on its standard input (`null` if the run was refused before it had a plan).",
        ["/usr/local/bin/tell-me", "--urgent"],
    )
    results: tuple[Result, ...] = key(
        ListOf(Choice[Result](get_args(Result)), "a list of results", unique="result", least=1),
        ("warning", "failure", "tainted"),
        "The results that are reported: `success`, `warning` (something was saved, but not all went well), `failure` "
        "(also a run that was refused), `tainted` (what was saved is invalid).",
        ["failure", "tainted"],
    )
    timeout: float = key(
        Seconds(1, 600),
        30.0,
        "How many seconds the command may take before it is killed. The run ends only when it has.",
        60,
    )
