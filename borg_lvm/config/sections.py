"""The keys of the configuration's sections, and of the entries of its lists. Those on its first level: `schema.py`."""

from __future__ import annotations

from typing import Literal, get_args

from borg_lvm.config.document import Fields
from borg_lvm.config.fields import ListEntry, Otherwise, key, required
from borg_lvm.config.plugin_options import NOTHING, Later, Placed, Word
from borg_lvm.config.size import CHUNK_PATTERN, ReserveKind, Size, SizeKind
from borg_lvm.config.value_types import (
    AbsolutePath,
    Choice,
    ListOf,
    Seconds,
    Switch,
    Text,
    Whole,
)
from borg_lvm.plugins.backup_command import Result
from borg_lvm.records import dataclass

OnFailure = Literal["abort", "crash-consistent", "skip-if-absent"]
"""What to do when an application cannot be quiesced."""
Coverage = Literal["whole", "partly", "any"]
"""How much of an application's data must be in the snapshots."""
PageCache = Literal["auto", "drop", "keep"]
"""What becomes of the pages of what the command reads."""
PLUGIN = "[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = "[A-Za-z0-9+_.][A-Za-z0-9+_.-]*"
_CHUNK = Text("auto, or a power of two from 4K to 512K", f"auto|{CHUNK_PATTERN}", "write 64K, for instance")
_VOLUME = Text(
    "a volume group and a logical volume, as in vg/lv", f"{_NAME}/{_NAME}", "write both names, without /dev/"
)
_PHYSICAL_VOLUMES = ListOf(
    Text('a path below /dev, or a tag such as "@fast"', r"/dev/[^\u0000]+|@[A-Za-z0-9_+.=!:&#/-]+"),
    "a list of physical volumes, or of their tags",
    unique="physical volume",
)


@dataclass(frozen=True)
class LuksKey:
    """Where the key of an encrypted volume is found."""

    volume: str = required(
        _VOLUME,
        "The logical volume that holds the LUKS container, written `vg/lv`, without `/dev/`.",
        "vg0/home",
    )
    key_file: str = required(
        AbsolutePath(),
        "The file with the key, as for `cryptsetup --key-file`. It must belong to root, and nobody else may be "
        "able to read or to change it.",
        "/etc/borg-lvm/keys/home.key",
    )


@dataclass(frozen=True)
class VolumeSettings:
    """How the snapshot of one volume is made."""

    volume: str = required(
        _VOLUME,
        "The logical volume, written `vg/lv`, without `/dev/`.",
        "vg0/home",
    )
    size: Size | None = key(
        Otherwise(SizeKind()), None, "The size of its snapshot; `snapshot.size` if it is not given.", "20G"
    )
    chunk: str | None = key(
        Otherwise(_CHUNK), None, "The chunk size of its snapshot; `snapshot.chunk` if it is not given.", "16K"
    )
    physical_volumes: tuple[str, ...] | None = key(
        Otherwise(_PHYSICAL_VOLUMES),
        None,
        "The physical volumes for its snapshot; `snapshot.physical_volumes` if it is not given. All must be in the "
        "volume's group.",
        ["@fast"],
    )


@dataclass(frozen=True)
class SnapshotSettings:
    """How snapshots are made."""

    size: Size = key(
        SizeKind(),
        Size(),
        "The size of a snapshot: how much may be written to its volume while it exists. A snapshot that is full is "
        "lost, and the run fails. `auto` goes by what the last runs have used, else by the size of the volume, and by "
        "the free space. `5G` or `512MiB` is an amount: units are K, M, G, T and P, powers of 1024, alone or followed "
        "by `iB` or `B`; decimals such as `1.5T` are allowed. `20%ORIGIN` is a part of the volume, `50%FREE` a part of "
        "its group's free space, `200%USED` a part of what its files take up: whole percentages up to 100, of USED up "
        "to 999. Snapshots of thin volumes have no size.",
        "20%ORIGIN",
    )
    grow: bool = key(
        Switch(),
        True,
        "Extend a snapshot before it is full, while the command runs, as long as its volume group has more free space "
        "than `reserve`.",
        False,
    )
    reserve: Size = key(
        ReserveKind(),
        Size("free", 10),
        "The free space that a volume group keeps when snapshots are extended: an amount, or a part of what was free "
        "when the run began.",
        "2G",
    )
    grow_pool: bool = key(
        Switch(),
        False,
        "Extend a thin pool by a fifth when it is nearly full while the command runs; it keeps that size. If it is "
        "not extended, the command is ended before the pool is full: the server's own data come first.",
        True,
    )
    minimum: Size = key(
        SizeKind(),
        Size(),
        "The least size of a snapshot with `size: auto`. `auto`: 16 MiB.",
        "1G",
    )
    maximum: Size = key(
        SizeKind(),
        Size(),
        "The largest size of a snapshot with `size: auto`, and the one up to which any snapshot is extended. `auto`: "
        "all that it can ever use.",
        "50%ORIGIN",
    )
    chunk: str = key(
        _CHUNK,
        "auto",
        "The chunk size of a snapshot (`lvcreate --chunksize`). While it exists, writes to the volume are split at "
        "the borders of chunks, and whole chunks are copied: small ones slow down large writes, large ones take up "
        "much space for small writes. `auto` takes the largest size with which little more is copied than is written, "
        "judged by the last runs and by how large writes to the volume are; a smaller one where space is short. `plan` "
        "says why, `plan --json` by which numbers. A thin snapshot has the chunk size of its pool.",
        "64K",
    )
    physical_volumes: tuple[str, ...] = key(
        _PHYSICAL_VOLUMES,
        (),
        "The physical volumes for snapshots, also when they are extended: a faster disk, or one that the volume is not "
        "on. Each is named by a path below /dev, or by a tag (`pvchange --addtag fast`), which YAML wants in quotes: "
        '`"@fast"`. In a volume group that has none of them, and if the list is empty, LVM chooses.',
        ["/dev/nvme0n1p4", "@fast"],
    )
    volumes: tuple[VolumeSettings, ...] = key(
        ListOf(ListEntry(VolumeSettings), "a list of entries with at least the key volume", unique="volume"),
        (),
        "Settings for the snapshots of single volumes.",
        [{"volume": "vg0/home", "size": "20G", "chunk": "16K", "physical_volumes": ["@fast"]}],
    )
    persistent_minor: bool = key(
        Switch(),
        True,
        "Give the snapshot of a volume the same device number in each run. A program that remembers files by "
        "device and inode number (GNU tar's `--listed-incremental`) then recognises unchanged files.",
        False,
    )
    page_cache: PageCache = key(
        Choice[PageCache](get_args(PageCache)),
        "auto",
        "The kernel keeps in memory what the command has read from snapshots. Nobody else needs these pages, and they "
        "push out those of databases and other programs. `drop`: they are dropped while the command runs. `keep`: the "
        "kernel decides. `auto`: they are dropped if the command is one call of a backup program that borg-lvm "
        "understands; not for a script, for instance, which may read the same files more than once.",
        "keep",
    )


@dataclass(frozen=True)
class ApplicationEntry:
    """An application to be quiesced. Its plugin reads `level` and `options` (`config/plugin_options.py`)."""

    plugin: Word = required(
        Placed(Text("the name of a plugin", PLUGIN)),
        "The plugin for this application. `borg-lvm hooks` lists those that are installed, `borg-lvm hooks NAME` shows "
        "the levels and options of one.",
        "postgresql",
    )
    name: str = key(
        Text("a name of letters, digits, dots, dashes and underscores", PLUGIN),
        "",
        "The name of this application in messages; that of the plugin if it is not given. No two entries may have the "
        "same.",
        "shop",
    )
    level: Word | None = key(
        Placed(Text("the name of a level", PLUGIN)),
        None,
        "How it is quiesced: one of the plugin's levels, which `borg-lvm hooks NAME` lists; the first if it is not "
        "given.",
        "checkpoint",
    )
    on_failure: OnFailure = key(
        Choice[OnFailure](get_args(OnFailure)),
        "abort",
        "What to do when it cannot be quiesced, or its snapshot fails verification. `abort`: the run fails, and "
        "nothing is backed up. `skip-if-absent`: go on if it is not running at all, else as `abort`. "
        "`crash-consistent`: go on. Its files are saved as a power cut would have left them, or as wrong as they are; "
        "the last lines of the run name it, and the exit status of a command that succeeded becomes 77.",
        "skip-if-absent",
    )
    coverage: Coverage = key(
        Choice[Coverage](get_args(Coverage)),
        "whole",
        "How much of its data must be in the snapshots of a run. `whole`: all of it. `partly`: a part of it. `any`: "
        "none of it need be. Else the run is refused, and a message names what is missing.",
        "partly",
    )
    deadline: float = key(
        Seconds(0, 60),
        0.0,
        "The longest time, in seconds, for which this application is quiesced. Then it is resumed, and the run fails. "
        "0: the general `deadline`.",
        3,
    )
    prepare_timeout: float = key(
        Seconds(1, 3600),
        300.0,
        "The longest time, in seconds, to connect to it, and then to prepare it: for a database's checkpoint, for "
        "instance. Nothing is quiesced meanwhile.",
        600,
    )
    options: Fields = key(Later(), NOTHING, "The plugin's own options.", {"socket": "/run/postgresql", "port": 5433})

    def __post_init__(self) -> None:
        """Give it its plugin's name, if it has none of its own."""
        object.__setattr__(self, "name", self.name or self.plugin.text)


@dataclass(frozen=True)
class DrillSettings:
    """How applications are restored and judged (`borg-lvm drill`)."""

    warn_after: int = key(
        Whole(0, 3650),
        31,
        "`borg-lvm check` warns of an application that has had no good drill for so many days: since its last good "
        "drill, or else since the first run that saved it. 0: never.",
        100,
    )


@dataclass(frozen=True)
class Notification:
    """A command that notifies somebody of the result of a run."""

    command: tuple[str, ...] = required(
        ListOf(Text("a word", r"[^\u0000]+"), "a list of a program and its arguments", least=1, words=True),
        "The program and its arguments; no shell reads them. It runs as root. Its environment has BORG_LVM_RESULT, "
        "BORG_LVM_STATUS, BORG_LVM_MESSAGE, BORG_LVM_RUN, BORG_LVM_HOST, BORG_LVM_PROGRAM and BORG_LVM_ARCHIVE; its "
        "standard input is the certificate of the run, or `null` if the run was refused before it had a plan. After a "
        "drill BORG_LVM_PROGRAM is `drill`, BORG_LVM_DRILL is its id, and the certificate is that of the drill.",
        ["/usr/local/bin/page-me", "--urgent"],
    )
    results: tuple[Result, ...] = key(
        ListOf(Choice[Result](get_args(Result)), "a list of results", unique="result", least=1),
        ("warning", "failure", "tainted"),
        "The results to report: `success`, `warning` (something was saved, but not all went well), `failure` (also of "
        "a run that was refused, or a drill that found something wrong), `tainted` (what was saved is invalid).",
        ["failure", "tainted"],
    )
    timeout: float = key(
        Seconds(1, 600),
        30.0,
        "The longest time, in seconds, that the command may take; then it is killed. The run ends only after it.",
        60,
    )
