"""Datasets of ZFS: which is snapshotted for a path, in which group, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config import Size
from borg_lvm.drill import choice
from borg_lvm.errors import SourceError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.zfs_datasets import Dataset, parse
from borg_lvm.planning import plan
from borg_lvm.planning.volumes import Volumes
from borg_lvm.plugins.backup_command import Reading, Span
from borg_lvm.reporting import certificate, prometheus
from borg_lvm.reporting.certificate import RunEnd
from borg_lvm.reporting.outcome import Instant, Outcome
from borg_lvm.reporting.prometheus import News
from tests.unit.data.machine import GIB, RUN, Machine, device

POOLS = "tank\t11\toff\tONLINE\nother\t22\toff\tONLINE\n"
LISTED = f"tank\t1\t{GIB}\t{3 * GIB}\ntank/home\t2\t{GIB}\t{GIB}\ntank/srv\t3\t0\t{3 * GIB}\nother\t4\t0\t{GIB}\n"
KNOWN = parse(POOLS, LISTED)


def planned(made: Machine, *paths: str, consistency: str = "instant", known: dict[str, Dataset] = KNOWN) -> plan.Plan:
    trees = {mount.device: known[mount.source] for mount in made.mounts if mount.source in known}
    volumes = Volumes(tuple(made.volumes.values()), made.stack, trees=trees)
    settings = plan.PlanSettings(RUN, Size(), consistency=consistency)
    return plan.make(settings, made.resolve(*paths), (), volumes, frozenset())


def refused(made: Machine, *paths: str, known: dict[str, Dataset] = KNOWN) -> str:
    with pytest.raises(SourceError) as caught:
        planned(made, *paths, known=known)
    return "\n".join(caught.value.details)


def machine() -> Machine:
    made = Machine()
    for path, source in (("/home", "tank/home"), ("/srv", "tank/srv"), ("/other", "other")):
        made.other(path, "zfs", source)
    made.mount("/data", "vg0/data")
    return made


def test_datasets_of_a_pool_and_a_volume() -> None:
    """They come first, and take nothing of LVM's; each is mounted as it is, by its name."""
    found = planned(machine(), "/data", "/home/me", "/srv")
    first, second, third = found.snapshots
    assert [(snapshot.kind, snapshot.hold, snapshot.extents) for snapshot in found.snapshots[:2]] == [
        ("dataset", "none", 0)
    ] * 2
    assert not first.may_be_frozen
    assert {first.full_name, second.full_name} == {f"tank/home@borg_lvm-{RUN}-0", f"tank/srv@borg_lvm-{RUN}-1"}
    assert (first.options, first.fstype) == ("", "zfs")
    assert first.why_size == "takes what it needs from the pool tank, of which 25% are used and 3.0 GiB are free"
    assert (third.origin.full_name, third.hold) == ("vg0/data", "suspend")
    assert {one.target: one.inside for one in found.view_mounts} == {"/home/me": "/me", "/srv": "/", "/data": "/"}


def test_a_dataset_and_a_volume_of_one_name() -> None:
    """Whatever keys by the name of one of them does not meet the other: certificate, metrics, applications, drill."""
    made = Machine()
    made.other("/srv", "zfs", "tank/home")
    made.mount("/data", "tank/home")
    found = planned(made, "/srv", "/data")
    dataset, volume = (snapshot.origin.full_name for snapshot in found.snapshots)
    instant = Instant((dataset, volume), 1.0, 0.1, (0.0, 0.05), {dataset: 77})
    fills = (Fill(0, 0), Fill(GIB, 2 * GIB))
    whole = Outcome(found, (instant,), 0, 1.0, fills, ran=Span(1.0, 2.0))
    written = certificate.build(whole, Reading("borg", "create"), RunEnd("host", 3.0, 0))
    assert [(one["transaction"], one["still_ms"]) for one in written["volumes"]] == [(77, 0.0), (None, 50.0)]
    assert {path["path"]: path["volume"] for path in written["frozen"]} == {"/srv": dataset, "/data": volume}
    text = prometheus.text(News("success", 0, 3.0, "host", "borg", certificate=written), "")
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if "{" in line]
    assert len(lines) == len(set(lines))
    chosen = choice.choose([written], "borg", "", [])
    assert chosen.groups == {"tank"}
    assert choice.choose([{**written, "volumes": written["volumes"][:1]}], "borg", "", []).groups == set()
    assert (dataset, volume) == ("zfs:tank/home", "tank/home")


def test_two_pools_are_no_instant() -> None:
    said = refused(machine(), "/home", "/other")
    assert "zfs:tank/home, zfs:other: these cannot be suspended, and only datasets of one pool" in said
    assert said.endswith("--consistency per-volume")
    assert len(planned(machine(), "/home", "/other", consistency="per-volume").snapshots) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"read_only": True}, "the pool tank is imported read-only"),
        ({"state": "SUSPENDED"}, "the pool tank is SUSPENDED, and does not answer"),
        ({"state": "DEGRADED"}, ""),
    ],
)
def test_pools_in_which_nothing_can_be_made(change: dict[str, object], words: str) -> None:
    known = {**KNOWN, "tank/home": replace(KNOWN["tank/home"], **change)}  # type: ignore[arg-type]
    if words:
        assert words in refused(machine(), "/home", known=known)
    else:
        planned(machine(), "/home", known=known)


def test_snapshots_that_are_mounted() -> None:
    made = machine()
    made.other("/theirs", "zfs", "tank/home@theirs")
    made.other("/ours", "zfs", f"tank/home@borg_lvm-{RUN}-0")
    assert "it is tank/home@theirs, a snapshot already" in refused(made, "/theirs")
    assert "a snapshot that a run has made; back up the original" in refused(made, "/ours")


def test_a_volume_of_zfs() -> None:
    made = machine()
    made.stack["230:0"] = BlockDevice("230:0", "zd0", "", "", False, ())
    made.on["zvol"] = "230:0"
    made.mount("/disk", "zvol")
    assert "it lies on zd0, a volume of ZFS (zvol), of which no snapshot is taken" in refused(made, "/disk")
    volumes, resolved = Volumes((), made.stack), made.resolve(device("/dev/zd0", "230:0"))
    with pytest.raises(SourceError, match="cannot freeze") as caught:
        plan.make(plan.PlanSettings(RUN, Size()), resolved, (), volumes, frozenset())
    assert "it is zd0, a volume of ZFS (zvol)" in "\n".join(caught.value.details)


def test_a_pool_on_a_volume_that_is_suspended_at_the_same_instant() -> None:
    """The snapshot would wait for the volume, with all others suspended."""
    made = machine()
    lies_on = tuple(number for number, one in made.stack.items() if one.dm_name == "vg0-data")
    known = {**KNOWN, "tank/home": replace(KNOWN["tank/home"], devices=lies_on)}
    said = refused(made, "/home", "/data", known=known)
    assert "zfs:tank/home lies on vg0/data, which is to be suspended at the same instant" in said
    planned(made, "/srv", "/data", known=known)
