"""What is proposed after a loss is accepted: by the configuration, and by the planner when the group has grown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from borg_lvm.config import Size, loader
from borg_lvm.errors import SourceError
from borg_lvm.linux.device_mapper import Fill
from borg_lvm.planning.plan import Plan
from borg_lvm.planning.snapshot_size import Sizing, most
from borg_lvm.planning.space.growth_policy import FillHistory, Rest, Sample, SnapshotStatistics
from borg_lvm.planning.space.usage_estimate import Once
from borg_lvm.reporting import verdict
from tests.unit.data.machine import GIB, MIB, VOLUME, Machine

FULL, SOUND = "the kernel calls it 'Invalid' (snapshot)", ""
NAMES = ("home", "srv", "var")


def planned(free: int, names: tuple[str, ...], size: str, known: Sizing) -> Plan:
    """The plan of a run of some thick volumes in a group with so much free space. Raises: SourceError."""
    machine = Machine()
    for name in names:
        machine.add(f"vg0/{name}", replace(VOLUME, vg_free=free, size=4 * GIB, uuid=name))
        machine.mount(f"/{name}", f"vg0/{name}")
    return machine.plan(machine.resolve(*(f"/{name}" for name in names)), size=Size.parse(size), known=known)


def fates(plan: Plan, lost: tuple[str, ...]) -> list[verdict.Fate]:
    """Some were full, others had grown to one and a half times what they had."""
    made = []
    for snapshot in plan.snapshots:
        first, is_lost = Sample(0, 0, snapshot.size), snapshot.origin.name in lost
        last = Sample(60, snapshot.size - MIB, snapshot.size if is_lost else snapshot.size * 3 // 2)
        story = SnapshotStatistics(FillHistory.begun(first).then(last), rest=Rest(1, 21 * MIB) if is_lost else None)
        made.append(verdict.Fate(snapshot, Fill(0, 0, FULL if is_lost else SOUND), story))
    return made


def sizes(remedy: str, path: Path) -> Mapping[str, Size]:
    """The sizes that a remedy proposes, as the loader reads them from a file with these very words."""
    entry = re.search(r"snapshot: \{volumes: \[.*?\]\}", remedy)
    assert entry, remedy
    path.write_text(entry[0] + "\n")
    path.chmod(0o600)
    return {volume.volume: volume.size for volume in loader.load(str(path)).snapshot.volumes if volume.size}


def growth(remedy: str) -> int:
    """By how many bytes the group is to grow, as it is named."""
    named = re.search(r"vg0 needs (\d+) ([MG])iB more free space", remedy)
    return int(named[1]) << {"M": 20, "G": 30}[named[2]] if named else 0


@pytest.mark.parametrize("lost", [("home",), ("home", "srv")])
@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:2], NAMES])
@pytest.mark.parametrize("size", ["auto", "40M", "1%ORIGIN", "30%FREE"])
@pytest.mark.parametrize("own", [{}, {"vg0/home": "24M"}, {"vg0/home": "24M", "vg0/srv": "52M"}])
@pytest.mark.parametrize("free", [620 * MIB, 40 * GIB])
def test_the_planner_accepts_it_after_the_growth_it_names(  # the very plan that was refused on the walk, and its kin
    lost: tuple[str, ...], names: tuple[str, ...], size: str, own: dict[str, str], free: int, tmp_path: Path
) -> None:
    known = Sizing(sizes={name: Size.parse(text) for name, text in own.items()})
    past = Sizing(sizes=known.sizes, past={name: [Once(60, 20 * MIB, 40 * MIB, written=MIB)] for name in names})
    plan = planned(free, names, size, past)
    lost = tuple(name for name in lost if name in names)
    seen = fates(plan, lost)
    found = verdict.distrust(seen, ())
    assert found
    assert "--snapshot-size" not in found.remedy
    proposed = sizes(found.remedy, tmp_path / "config.yaml")
    assert set(proposed) == {f"vg0/{name}" for name in lost}
    after = {
        fate.snapshot.origin.uuid: [
            Once(60, look.last.used, look.last.total, lost=bool(fate.fill.problem), written=9 * MIB)
        ]
        for fate in seen
        if (look := fate.story.course)
    }
    then = planned(free + growth(found.remedy), names, size, Sizing(sizes={**known.sizes, **proposed}, past=after))
    for snapshot in then.snapshots:
        if snapshot.origin.name in lost:
            had = next(fate.snapshot.size for fate in seen if fate.snapshot.origin.uuid == snapshot.origin.uuid)
            assert snapshot.size >= min(2 * had, most(snapshot.origin))


def test_with_less_than_it_names_the_plan_is_refused(tmp_path: Path) -> None:
    """So that the number is not merely large."""
    names, known = NAMES[:2], Sizing(sizes={"vg0/home": Size.parse("40M"), "vg0/srv": Size.parse("32M")})
    found = verdict.distrust(fates(planned(72 * MIB, names, "auto", known), ("home",)), ())
    assert found
    fixed = Sizing(sizes={**known.sizes, **sizes(found.remedy, tmp_path / "config.yaml")})
    # The other had grown to 48 MiB: that is what it is given room for.
    planned(72 * MIB + growth(found.remedy) - 16 * MIB, names, "auto", fixed)
    with pytest.raises(SourceError):
        planned(72 * MIB + growth(found.remedy) - 20 * MIB, names, "auto", fixed)
    assert "beside the snapshot of vg0/srv" in found.remedy
