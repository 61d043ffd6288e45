"""The chunks of a snapshot: chosen by how the volume is written, made so, cheap for its writers. Counts, no times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import Gate, Run, assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run
from tests.system.support.writers import counted
from tests.system.support.writers.counted import KIB, MIB, Cost
from tests.system.test_sized import BURSTS, library

pytestmark = pytest.mark.limit(600)
SIZE = 128 * MIB


@pytest.fixture(autouse=True)
def own_history(rig: Rig) -> Iterator[None]:
    """Put an empty /var/lib/borg-lvm there for the length of a test."""
    with library(rig, "tmpfs", "size=4m,mode=700"):
        yield


def raw(rig: Rig, kind: Kind = "thick") -> Volume:
    """Make a volume with room enough for a snapshot that holds all of it, and be told how it is written."""
    return rig.volume("data", kind=kind, mib=SIZE // MIB, group=rig.group(disks=2, mib=512))


def planned(volume: Volume, *options: str | Path) -> dict[str, object]:
    """Return the snapshot that is planned."""
    (one,) = json.loads(borg_lvm("plan", "--json", *options, "--path", volume.device, "--", "true").out)["snapshots"]
    assert isinstance(one, dict)
    return one


def cost(rig: Rig, volume: Volume, writer: str, *options: str | Path) -> tuple[Cost, int]:
    """Return what a writer costs during a run, and the chunk of its snapshot, in bytes, as LVM and the kernel say."""
    gate = Gate(rig.directory, f"gate{len(list(rig.directory.iterdir()))}")
    live = Run("run", *options, "--path", volume.device, "--", "sh", "-c", gate.shell)
    gate.reached(process=live.process)
    name, chunk = run(
        "lvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "lv_name,chunk_size", "@borg_lvm"
    ).out.split()
    table = run("dmsetup", "table", f"{volume.group.name}-{name.replace('-', '--')}").out.split()
    assert int(table[-1]) * 512 == int(chunk), table
    before = counted.thick(volume.group.name, volume.name, name)
    counted.write(volume.device, SIZE, writer)
    found = counted.thick(volume.group.name, volume.name, name) - before
    gate.open()
    live.end(0)
    print(writer, chunk, found)
    return found, int(chunk)


def of_lvm(rig: Rig) -> list[str | Path]:
    """Return the options of a run that has LVM's own chunks."""
    rig.path("lvm.yaml").write_text("snapshot: {chunk: 4K}\n")
    return ["--config", rig.path("lvm.yaml")]


@pytest.mark.each_series
def test_a_sequential_writer_has_a_tenth_of_the_requests(rig: Rig) -> None:
    """At the origin, for copying and at the space together; and the space is hardly more."""
    with tidy():
        volume = raw(rig)
        counted.write(volume.device, SIZE, "sequential")
        own, chunk = cost(rig, volume, "sequential")
        plain, least = cost(rig, volume, "sequential", *of_lvm(rig))
        assert own.total * 10 <= plain.total, (own, plain)
        assert (least, chunk) == (4 * KIB, 256 * KIB)
        assert own.space.written <= 1.5 * plain.space.written, (own, plain)
        assert_nothing_left(rig)


def test_a_hot_spot_costs_no_more_requests_than_with_lvms_chunks(rig: Rig) -> None:
    """Also when a run has shown that it is one, and chunks are larger; its space is a tenth of the volume at most."""
    with tidy():
        volume = raw(rig)
        counted.write(volume.device, SIZE, "hot")
        plain, _ = cost(rig, volume, "hot", *of_lvm(rig))
        first, _ = cost(rig, volume, "hot")
        second, chunk = cost(rig, volume, "hot")
        assert chunk >= 16 * KIB
        for own in (first, second):
            assert own.total <= 1.1 * plain.total, (own, plain)
            assert own.origin.read <= SIZE // 10, own
        assert_nothing_left(rig)


def test_writes_all_over_have_small_chunks_every_night(rig: Rig) -> None:
    with tidy():
        volume = raw(rig)
        counted.write(volume.device, SIZE, "all over")
        plain, _ = cost(rig, volume, "all over", *of_lvm(rig))
        for _ in range(2):
            own, chunk = cost(rig, volume, "all over")
            assert chunk <= 8 * KIB
            assert own.origin.read <= 3 * plain.origin.read, (own, plain)
        assert_nothing_left(rig)


@pytest.mark.limit(3600)
def test_random_writes_after_sequential_ones_lose_no_snapshot(rig: Rig) -> None:
    """Chunks that were chosen for a log, in a space that was asked for, and then a night with writes all over."""
    rig.path("config.yaml").write_text("snapshot: {size: 42M}\n")
    options: list[str | Path] = ["--config", rig.path("config.yaml")]
    with tidy():
        volume = raw(rig)
        chunks = []
        for _ in range(BURSTS):
            for path in Path("/var/lib/borg-lvm/history").glob("*.json"):
                path.unlink()
            for writer in ("large log", "large all over"):
                chunks.append(cost(rig, volume, writer, *options)[1])
        assert max(chunks) > 4 * KIB
        assert_nothing_left(rig)


@pytest.mark.parametrize(
    "kind", ["raid1", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("striped", "cachepool"))]
)
def test_every_kind_of_origin_gets_the_chunks_that_were_planned(rig: Rig, kind: Kind) -> None:
    """Also one after the other (`per-volume`)."""
    rig.path("config.yaml").write_text("snapshot: {chunk: 64K}\n")
    options: list[str | Path] = ["--config", rig.path("config.yaml"), "--consistency", "per-volume"]
    with tidy():
        volume = raw(rig, kind)
        assert planned(volume, *options)["chunk"] == 64 * KIB
        found, chunk = cost(rig, volume, "sequential", *options)
        assert chunk == 64 * KIB
        assert found.space.written > SIZE * 3 // 4
        assert_nothing_left(rig)


def test_nothing_is_known_of_a_new_volume(rig: Rig) -> None:
    volume = raw(rig)
    one = planned(volume)
    assert (one["chunk"], one["why_chunk"]) == (
        4 * KIB,
        "auto: LVM's default, for it is not known yet how the volume is written",
    )


def test_a_thin_snapshot_has_the_chunks_of_its_pool(rig: Rig) -> None:
    volume = rig.volume("data", kind="thin", mib=64)
    one = planned(volume)
    assert one["chunk"] is None
    assert one["why"] == "thin: takes what it needs from the pool, in the pool's chunks"
