"""The machines that libvirt and Proxmox VE know by their configuration files: also those that are off now.

Those files are root's, and are read as such. Source: libvirt's `formatdomain` and `formatstorage`,
QEMU_CONF_DIR (/etc/libvirt/qemu); qm.conf(5), pvesm(1), /etc/pve/storage.cfg.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from borg_lvm.plugin_api import opening

if TYPE_CHECKING:
    from xml.etree import ElementTree

DOMAINS, POOLS = "/etc/libvirt/qemu", "/etc/libvirt/storage"
NUMBERED, STORAGES = "/etc/pve/qemu-server", "/etc/pve/storage.cfg"
AGENT = "org.qemu.guest_agent.0"
MOST, MOST_BYTES = 1024, 1 << 20
"""How many files of a directory are read, and how much of each: what is longer is none that these programs write."""
DISK = re.compile(r"(?:scsi|virtio|ide|sata)[0-9]+|(?:efidisk|tpmstate)0")
"""The keys of Proxmox VE that attach a volume; `unused0` and others name one that no guest sees."""
OFF = ("", "0", "no", "off", "false")


@dataclass(frozen=True)
class Defined:
    """A machine by its name for libvirt, or its number for Proxmox VE, and the devices that are its disks.

    `has_agent`: a channel to an agent in the guest is configured.
    """

    way: str
    name: str
    disks: tuple[str, ...]
    has_agent: bool


def everything() -> list[Defined]:
    """Return all machines whose configuration can be read, with disks that are devices."""
    pools = dict(filter(None, map(_pool, _texts(POOLS, ".xml").values())))
    found = [_domain(text, pools) for text in _texts(DOMAINS, ".xml").values()]
    groups = volume_groups(_decoded(_text(STORAGES)))
    found += [
        _numbered(number, _decoded(text), groups)
        for number, text in _texts(NUMBERED, ".conf").items()
        if re.fullmatch(r"[1-9][0-9]{2,8}", number)
    ]
    return [machine for machine in found if machine and machine.disks]


def _texts(directory: str, end: str) -> dict[str, bytes]:
    """Return the content of root's files of a directory, by their names without the end."""
    with suppress(OSError):
        names = [name for name in sorted(os.listdir(directory)) if name.endswith(end)]
        return {name.removesuffix(end): _text(f"{directory}/{name}") for name in names[:MOST]}
    return {}


def _text(path: str) -> bytes:
    """Return the content of a file of root's; nothing of another one."""
    with suppress(OSError), opening.plain(path, 0) as file:
        return file.read(MOST_BYTES)
    return b""


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")


def _parsed(text: bytes) -> ElementTree.Element | None:
    """Return a document's root; None for one that libvirt did not write: those declare no entities of their own."""
    from xml.etree import ElementTree  # only discovery needs it

    if b"<!DOCTYPE" not in text:
        with suppress(ElementTree.ParseError):
            return ElementTree.fromstring(text)  # noqa: S314 - root's file, without entities
    return None


def _pool(text: bytes) -> tuple[str, str] | None:
    """Return the name of a storage pool that is a volume group, and the directory of its volumes."""
    root = _parsed(text)
    if root is None or root.tag != "pool" or root.get("type") != "logical":
        return None
    name = root.findtext("name", "")
    return name, root.findtext("target/path") or f"/dev/{root.findtext('source/name') or name}"


def _domain(text: bytes, pools: Mapping[str, str]) -> Defined | None:
    root = _parsed(text)
    if root is None or root.tag != "domain" or root.get("type") not in ("kvm", "qemu"):
        return None
    disks = []
    for disk in root.iterfind("devices/disk"):
        source = disk.find("source")  # the one of the disk itself: those below it are of a mirror, or a backing store
        if disk.get("device", "disk") not in ("disk", "lun") or disk.find("readonly") is not None or source is None:
            continue
        if disk.get("type") == "block":
            disks.append(source.get("dev", ""))
        elif disk.get("type") == "volume" and source.get("pool") in pools:
            disks.append(f"{pools[source.get('pool', '')]}/{source.get('volume', '')}")
    channels = {target.get("name") for target in root.iterfind("devices/channel/target")}
    return Defined("libvirt", root.findtext("name", ""), _devices(disks), AGENT in channels)


def volume_groups(text: str) -> dict[str, str]:
    """Return the volume groups of Proxmox VE's storages of the types `lvm` and `lvmthin`, by the storages' names."""
    groups, storage = {}, ""
    for line in text.splitlines():
        if head := re.fullmatch(r"([a-z]+): *(\S+) *", line):
            storage = head[2] if head[1] in ("lvm", "lvmthin") else ""
        elif storage and (group := re.fullmatch(r"\s+vgname +(\S+) *", line)):
            groups[storage] = group[1]
    return groups


def _numbered(number: str, text: str, groups: Mapping[str, str]) -> Defined | None:
    """Read a machine of Proxmox VE; None for a template, which never runs."""
    keys = dict(_keys(text))
    if keys.get("template", "") not in OFF:
        return None
    disks = []
    for key, text_of_key in keys.items():
        first, *options = text_of_key.split(",")
        if DISK.fullmatch(key) and "media=cdrom" not in options:
            storage, _, volume = first.removeprefix("file=").rpartition(":")
            if not storage:
                disks.append(volume)
            elif storage in groups:
                disks.append(f"/dev/{groups[storage]}/{os.path.basename(volume)}")
    agent = keys.get("agent", "").split(",")[0].removeprefix("enabled=")
    return Defined("proxmox", number, _devices(disks), agent not in OFF)


def _keys(text: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the machine as it is: sections are of its snapshots, and of what is to be changed."""
    for line in text.splitlines():
        if line.startswith("["):
            return
        if found := re.fullmatch(r"([a-z][a-z_]*\d*):\s*(\S.*?)\s*", line):
            yield found[1], found[2]


def _devices(paths: list[str]) -> tuple[str, ...]:
    """Return the paths that are below /dev, each once."""
    return tuple(dict.fromkeys(path for path in paths if path == os.path.normpath(path) and path.startswith("/dev/")))
