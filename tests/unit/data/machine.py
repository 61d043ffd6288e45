"""A made-up machine: mounts put one over the other as a kernel would, volumes, block devices, and a plan of it all."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from borg_lvm.config import Size
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.lvm import Volume
from borg_lvm.machine.mounts import Mount, Table
from borg_lvm.machine.paths import SeenPath
from borg_lvm.planning import plan
from borg_lvm.planning.view_layout import Resolved, Wanted, resolve
from borg_lvm.planning.volumes import Volumes
from borg_lvm.plugins.backup_command import LivePath

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
RUN = "20240102T030405-abcdef"

VOLUME = Volume(
    vg="vg0",
    vg_uuid="y9NYy4-P4LL-xwmQ-DbpQ-7lkM-XMHQ-wUF3Ui",
    vg_free=100 * GIB,
    extent=4 * MIB,
    name="home",
    uuid="rTmfcX-uDXJ-02My-1xWM-Wqxr-y843-aM6FQE",
    size=10 * GIB,
    attr="-wi-ao----",
    layout=frozenset(["linear"]),
    role=frozenset(["public"]),
    active=True,
    suspended=False,
    tags=(),
    pool="",
    origin="",
    data_percent=None,
    metadata_percent=None,
    minor=3,
)
"""A plain volume; others are made from it by `dataclasses.replace`."""


def thin(volume: Volume, pool: str = "pool") -> Volume:
    """The same volume in a thin pool."""
    layout = frozenset(["thin", "sparse"])
    return replace(volume, attr="Vwi-aotz--", layout=layout, pool=pool, data_percent=40.0)


def pool(data: float = 40.0, metadata: float = 10.0) -> Volume:
    """The thin pool of vg0."""
    return replace(
        VOLUME,
        name="pool",
        uuid="pool",
        attr="twi-aotz--",
        layout=frozenset(["thin", "pool"]),
        role=frozenset(["private"]),
        data_percent=data,
        metadata_percent=metadata,
    )


def directory(path: str) -> SeenPath:
    """A directory that is there, under its real path."""
    return SeenPath(path, path, "dir")


def directories(*paths: str) -> tuple[SeenPath, ...]:
    """Directories that are there."""
    return tuple(directory(path) for path in paths)


def device(path: str, number: str, name: str = "") -> SeenPath:
    """A block device (`major:minor`), or a symbolic link to it of another name."""
    return SeenPath(name or path, name or path, "link" if name else "file", path if name else "", device=number)


def link(path: str, target: str, error: str = "") -> SeenPath:
    """A symbolic link and where it leads."""
    return SeenPath(path, path, "link", target, error)


def needed(*paths: str) -> tuple[tuple[SeenPath, LivePath], ...]:
    """Directories that the command must find live."""
    return tuple((directory(path), LivePath(path, "cache")) for path in paths)


@dataclass
class Namespace:
    """A slow and obvious model of a mount namespace: every lookup walks from the root, name by name."""

    root: Mount
    on: dict[tuple[int, str], Mount] = field(default_factory=dict)

    def enter(self, mount: Mount, path: str) -> Mount:
        """Follow whatever is mounted on this place, and on that, to the topmost."""
        while (mount.id, path) in self.on:
            mount = self.on[mount.id, path]
        return mount

    def of(self, path: str) -> Mount:
        """The mount that a path ends on. Nothing is followed at `/`: the walk begins there."""
        here, mount = "/", self.root
        for name in path.strip("/").split("/") if path != "/" else ():
            here = posixpath.join(here, name)
            mount = self.enter(mount, here)
        return mount

    def mount(self, mount: Mount) -> Mount:
        """Mount on top of whatever is there, as mount(2) does; at `/` too, though nobody will enter it."""
        below = self.enter(self.root, "/") if mount.path == "/" else self.of(mount.path)
        mount = replace(mount, parent=below.id)
        self.on[below.id, mount.path] = mount
        return mount


@dataclass
class Machine:
    """Grows by calls; `vg0/root` is mounted at `/` unless another root is given."""

    root: str = "vg0/root"
    mounts: list[Mount] = field(default_factory=list)
    volumes: dict[str, Volume] = field(default_factory=dict)
    stack: dict[str, BlockDevice] = field(default_factory=dict)
    on: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add(self.root)
        top = self._mount("/", self.on[self.root], "/", "ext4", "")
        self.namespace = Namespace(top)
        self.mounts.append(top)

    def add(self, full_name: str, volume: Volume = VOLUME) -> Volume:
        """Make a volume and its block device."""
        vg, name = full_name.split("/")
        uuid = volume.uuid if volume is not VOLUME else f"uuid-of-{full_name}"
        volume = replace(volume, vg=vg, vg_uuid=f"uuid-of-{vg}", name=name, uuid=uuid)
        self.volumes[full_name] = volume
        number = f"254:{len(self.stack)}"
        self.stack[number] = BlockDevice(
            number, f"dm-{len(self.stack)}", full_name.replace("/", "-"), volume.dm_uuid, False, ("8:1",)
        )
        self.on[full_name] = number
        return volume

    def luks(self, full_name: str, mapping: str, dm_uuid: str = "CRYPT-LUKS2-5f0c-home_crypt") -> None:
        """Open a LUKS container on a volume; a mount on `mapping` lies above it."""
        number = f"254:{len(self.stack)}"
        self.stack[number] = BlockDevice(
            number, f"dm-{len(self.stack)}", mapping, dm_uuid, False, (self.on[full_name],)
        )
        self.on[mapping] = number

    def mount(
        self, path: str, on: str = "vg0/root", *, root: str = "/", fstype: str = "ext4", extra: str = ""
    ) -> Mount:
        """Mount a volume, which is made if there is none of that name."""
        if on not in self.on:
            self.add(on)
        mount = self.namespace.mount(self._mount(path, self.on[on], root, fstype, extra))
        self.mounts.append(mount)
        return mount

    def other(self, path: str, fstype: str, source: str = "none") -> Mount:
        """Mount something that lies on no disk."""
        mount = Mount(100 + len(self.mounts), 0, f"0:{len(self.mounts)}", "/", path, "rw", fstype, source, "rw")
        mount = self.namespace.mount(mount)
        self.mounts.append(mount)
        return mount

    def _mount(self, path: str, device: str, root: str, fstype: str, extra: str) -> Mount:
        source = f"/dev/{self.stack[device].name}" if device in self.stack else "none"
        return Mount(100 + len(self.mounts), 1, device, root, path, "rw", fstype, source, f"rw{extra}")

    def table(self) -> Table:
        """The visible mounts."""
        return Table(self.mounts)

    def resolve(self, *sources: str | SeenPath, one_file_system: bool = False, **wanted: object) -> Resolved:
        """Resolve sources; a path stands for a directory."""
        seen = tuple(directory(source) if isinstance(source, str) else source for source in sources)
        question = Wanted(seen, one_file_system=one_file_system)
        return resolve(replace(question, **wanted), self.table())  # type: ignore[arg-type]

    def plan(self, resolved: Resolved, **settings: object) -> plan.Plan:
        """Plan what was resolved."""
        plan_settings = replace(plan.PlanSettings(RUN, Size(), consistency="per-volume"), **settings)  # type: ignore[arg-type]
        volumes = Volumes(tuple(self.volumes.values()), self.stack)
        sources = tuple(frozen_path.target for frozen_path in resolved.frozen)
        return plan.make(plan_settings, resolved, sources, volumes, frozenset())


def shown(resolved: Resolved) -> Mapping[str, str]:
    """The frozen paths by their target, each with what of which device it shows."""
    return {frozen_path.target: f"{frozen_path.mount.device}:{frozen_path.inside}" for frozen_path in resolved.frozen}


def live_paths(resolved: Resolved) -> list[str]:
    """The paths of the live paths."""
    return [live_path.path for live_path in resolved.live_paths]
