"""What a writer costs while there is a snapshot: requests and bytes, by the chunk of the snapshot. No times."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.rig import Kind, Rig, Volume
from tests.system.support.runs.live import Gate, Run
from tests.system.support.writers import counted
from tests.system.support.writers.counted import KIB, MIB, Cost, Requests

SIZE = 128 * MIB
NIGHTS = 2
HISTORY = Path("/var/lib/borg-lvm/history")
LVM = "snapshot: {chunk: 4K}\n"


def measured(rig: Rig, environment: Mapping[str, str], rounds: int) -> Iterator[str]:
    """Count and yield a table; one count is as good as many, so that `rounds` and the programs in use do not matter."""
    del environment, rounds
    rig.path("lvm.yaml").write_text(LVM)
    yield f"\nFour writers to a volume of {SIZE // MIB} MiB (O_DIRECT, one request after the other):\n"
    yield "| writer | snapshot | chunk | origin: writes | copying: reads | space: requests | in all | space used |"
    yield "|---|---|---|---|---|---|---|---|"
    for number, writer in enumerate(counted.NAMED):
        yield from _rows(rig, writer, f"w{number}")


def _rows(rig: Rig, writer: str, name: str) -> Iterator[str]:
    shutil.rmtree(HISTORY, ignore_errors=True)
    volume = _volume(rig, name, "thick")
    counted.write(volume.device, SIZE, writer)  # before anybody takes a snapshot: that is how the volume is written
    nights = [_night(rig, volume, writer, f"{name}-{night}") for night in range(NIGHTS)]
    shutil.rmtree(HISTORY, ignore_errors=True)
    lvm = _night(rig, volume, writer, f"{name}-lvm", "--config", rig.path("lvm.yaml"))
    thin = _thin(_volume(rig, f"{name}t", "thin"), writer)
    _remove(volume)
    yield _row(writer, "LVM's default", lvm, lvm)
    yield _row(writer, "`auto`, first night", nights[0], lvm)
    yield _row(writer, f"`auto`, night {NIGHTS}", nights[-1], lvm)
    yield _row(writer, "thin", thin, lvm)


Night = tuple[int, Cost, int]
"""The chunk in bytes, what it cost, how many bytes of the space were used."""


def _volume(rig: Rig, name: str, kind: Kind) -> Volume:
    return rig.volume(name, kind=kind, mib=SIZE // MIB, group=rig.group(disks=1, mib=5 * SIZE // MIB // 2))


def _night(rig: Rig, volume: Volume, writer: str, name: str, *options: str | Path) -> Night:
    gate = Gate(rig.directory, name)
    live = Run("run", *options, "--path", volume.device, "--", "sh", "-c", gate.shell)
    gate.reached(process=live.process)
    snapshot, chunk = _lvs("lv_name,chunk_size", "@borg_lvm")
    before, begun = counted.thick(volume.group.name, volume.name, snapshot), _used(volume.group.name, snapshot)
    counted.write(volume.device, SIZE, writer)
    found = counted.thick(volume.group.name, volume.name, snapshot) - before
    used = _used(volume.group.name, snapshot) - begun
    gate.open()
    live.end(0)
    print(f"  {writer}: {int(chunk) // KIB} KiB: {found}, {used / MIB:.1f} MiB", flush=True)
    return int(chunk), found, used


def _thin(volume: Volume, writer: str) -> Night:
    """Do the same with a thin snapshot of LVM's, of which the pool's data has the origin and the space in one."""
    counted.write(volume.device, SIZE, writer)
    group, pool = volume.group.name, f"{volume.group.name}/pool"
    subprocess.run(["lvcreate", "-q", "-y", "-s", "-n", "copy", volume.full_name], check=True, capture_output=True)
    before, begun = counted.thin(group, "pool"), float(_lvs("data_percent", pool)[0])
    counted.write(volume.device, SIZE, writer)
    found = counted.thin(group, "pool") - before
    chunk, size, percent = _lvs("chunk_size,lv_size,data_percent", pool)
    _remove(volume)
    print(f"  {writer}: thin: {found}", flush=True)
    return int(chunk), found, int((float(percent) - begun) / 100 * int(size))


def _lvs(fields: str, name: str) -> list[str]:
    argv = ["lvs", "--noheadings", "--units", "b", "--nosuffix", "-o", fields, name]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()


def _used(vg: str, snapshot: str) -> int:
    argv = ["dmsetup", "status", f"{vg}-{snapshot.replace('-', '--')}"]
    status = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return int(status[3].partition("/")[0]) * counted.SECTOR


def _remove(volume: Volume) -> None:
    subprocess.run(["lvremove", "-q", "-y", "-f", volume.group.name], check=True, capture_output=True)


def _row(writer: str, what: str, night: Night, lvm: Night) -> str:
    chunk, cost, used = night
    origin, space = cost.origin, cost.space
    copying = Requests(origin.reads, origin.read)
    cells = (
        writer,
        what,
        f"{chunk // KIB} KiB",
        _cell(origin.writes, origin.written),
        _cell(copying.reads, copying.read),
        _cell(space.total, space.read + space.written),
        f"{cost.total:,} ({cost.total / lvm[1].total:.3f})",
        f"{used / MIB:.1f} MiB ({used / lvm[2]:.1f})",
    )
    return f"| {' | '.join(cells)} |"


def _cell(count: int, size: int) -> str:
    return f"{count:,} ({size / MIB:.1f} MiB)"
