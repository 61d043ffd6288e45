"""States of a thin pool in which a snapshot can, or cannot, be made."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.rig import Rig
from tests.rig.tools import change
from tests.system.support.runs.program import run
from tests.system.support.states.building import configured, data, group_of


def filled(rig: Rig, mib: int) -> Path:
    """Make a thin volume in a pool of which so much is used (of 64 MiB)."""
    at = data(rig, kind="thin")
    other = rig.volume("other", kind="thin", mib=64)
    run("dd", "if=/dev/zero", f"of={other.device}", "bs=1M", f"count={mib}", "conv=fsync")
    return at


def above_threshold(rig: Rig, stack: ExitStack) -> Path:
    at = filled(rig, 45)
    configured("activation { thin_pool_autoextend_threshold = 60 }")
    return at


def above_profile(rig: Rig, stack: ExitStack) -> Path:
    at = filled(rig, 45)
    profiles = Path(os.environ["LVM_SYSTEM_DIR"], "profile")
    profiles.mkdir()
    (profiles / "early.profile").write_text("activation { thin_pool_autoextend_threshold = 60 }\n")
    run("lvchange", "-q", "--metadataprofile", "early", f"{group_of(rig)}/pool")
    return at


def little_metadata(rig: Rig, stack: ExitStack) -> Path:
    """A pool with little metadata, of which LVM wants a quarter free; each thin device takes a block."""
    group = rig.group(disks=2)
    argv = ["--type", "thin-pool", "-n", "pool", "-L", "64m", "--poolmetadatasize", "2m", "-c", "64k", "-Zn"]
    change("lvcreate", group.name, *argv)
    at = data(rig, group=group, kind="thin")
    made = f'for n in $(seq 1001 1400); do dmsetup message {group.name}-pool-tpool 0 "create_thin $n" || exit; done'
    run("sh", "-c", made)
    return at


def full_pool(rig: Rig, stack: ExitStack) -> Path:
    at = data(rig, kind="thin")
    other = rig.volume("other", kind="thin", mib=128)
    run("lvchange", "-q", "--errorwhenfull", "y", f"{group_of(rig)}/pool")
    with suppress(OSError), open(other.device, "wb", buffering=0) as device:
        for _ in range(128):
            device.write(bytes(1 << 20))
            os.fsync(device)
    return at


def vdo(rig: Rig, stack: ExitStack) -> Path:
    """A volume that is stored by VDO in LVM's metadata: LVM knows VDO here, the kernel does not."""
    at, group = data(rig), group_of(rig)
    backup = rig.path("group")
    restored = ("vgcfgrestore", "--yes", "--quiet", "--quiet", "--file", backup, group)
    run("vgcfgbackup", "--file", backup, group)
    plain = backup.read_text()

    def written(text: str) -> None:
        backup.write_text(text)
        run(*restored)

    body = plain[plain.index("data {") :]
    body = body[: body.index("\n\t}")]
    uuid = run("lvs", "--noheadings", "-o", "lv_uuid", f"{group}/data").out.strip()
    extents = int(body.split("extent_count = ")[1].split()[0])
    stored = body.replace("data {", "store_vdata {", 1).replace(uuid, _uuid("s")).replace(', "VISIBLE"', "")
    inside = f"{stored}{_described('store', _uuid('p'), extents, POOL)}{_described('data', uuid, extents, INSIDE)}"
    stack.callback(written, plain)
    written(plain.replace(body, inside))
    return at


POOL = """type = "vdo-pool"
data = "store_vdata"
header_size = 512
virtual_extents = {extents}
use_compression = 1
use_deduplication = 1
use_metadata_hints = 1
minimum_io_size = 4096
block_map_cache_size_mb = 128
block_map_era_length = 16380
use_sparse_index = 0
index_memory_size_mb = 256
max_discard = 1
slab_size_mb = 2048
ack_threads = 1
bio_threads = 4
bio_rotation = 64
cpu_threads = 2
hash_zone_threads = 1
logical_threads = 1
physical_threads = 1
write_policy = "auto"
"""
INSIDE = """type = "vdo"
vdo_pool = "store"
vdo_offset = 0
"""


def _uuid(letter: str) -> str:
    return "-".join(letter * length for length in (6, 4, 4, 4, 4, 4, 6))


def _described(name: str, uuid: str, extents: int, kind: str) -> str:
    """Return a volume of one segment, as LVM writes its metadata."""
    segment = f"start_extent = 0\nextent_count = {extents}\n{kind.format(extents=extents)}"
    facts = f'id = "{uuid}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\nsegment_count = 1\n'
    return f"\n{name} {{\n{facts}segment1 {{\n{segment}}}\n}}\n"
