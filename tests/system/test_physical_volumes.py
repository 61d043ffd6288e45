"""The space of a snapshot lies on the physical volumes that the configuration names, also when it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Kind, Rig
from tests.rig.volumes import Group
from tests.system.support.runs.live import Gate, Run, assert_nothing_left, tidy, wait_for
from tests.system.support.runs.program import borg_lvm, run
from tests.system.test_sized import library, loaded

pytestmark = pytest.mark.limit(600)


@pytest.fixture(autouse=True)
def own_history(rig: Rig) -> Iterator[None]:
    """Put an empty /var/lib/borg-lvm there for the length of a test."""
    with library(rig, "tmpfs", "size=4m,mode=700"):
        yield


def configured(rig: Rig, text: str) -> list[str | Path]:
    path = rig.path("config.yaml")
    path.write_text(text)
    return ["--config", path]


def disks_of(snapshot: str) -> set[str]:
    """Return the disks on which a volume lies, as LVM and the kernel's table say."""
    rows = run("lvs", "--noheadings", "-o", "devices", snapshot).out.split()
    return {device.partition("(")[0] for row in rows for device in row.split(",")}


def lies_on(rig: Rig, paths: list[str], *options: str | Path) -> dict[str, set[str]]:
    """Return on which disks the spaces of a run's snapshots lie, by the origin."""
    gate = Gate(rig.directory, "looked-at")
    words = [word for path in paths for word in ("--path", path)]
    live = Run("run", *options, *words, "--", "sh", "-c", gate.shell)
    gate.reached(process=live.process)
    found = _disks_of_ours()
    gate.open()
    live.end(0)
    return found


def group_of(rig: Rig, mib: int = 300) -> tuple[Group, str]:
    """Make a group of two disks, of which the second one has a tag."""
    group = rig.group(disks=2, mib=mib)
    run("pvchange", "-q", "--addtag", "fast", group.disks[1])
    return group, group.disks[1]


LINK = Path("/dev/fast-disk")


@pytest.mark.parametrize(("kind", "how"), [("thick", "name"), ("raid1", "link"), ("cachepool", "tag")])
def test_it_lies_where_it_is_to_lie(rig: Rig, kind: Kind, how: str) -> None:
    """By a name, by a link to it, by a tag; for one volume, while the other's lies elsewhere, in another window."""
    group, fast = group_of(rig)
    a, b = (rig.volume(name, kind=kind, mib=32, group=group) for name in "ab")
    LINK.symlink_to(fast)
    try:
        with tidy():
            named = {"name": fast, "link": LINK, "tag": "@fast"}[how]
            options = configured(rig, f'snapshot: {{size: 8M, physical_volumes: ["{named}"]}}\n')
            assert lies_on(rig, [a.device, b.device], *options) == {"a": {fast}, "b": {fast}}
            rig.path("looked-at.fifo").unlink()
            rig.path("looked-at.reached").unlink()
            options = configured(
                rig,
                "snapshot:\n  size: 8M\n  volumes:\n"
                f'    - volume: {a.full_name}\n      physical_volumes: ["@fast"]\n      chunk: 64K\n',
            )
            found = lies_on(rig, [a.device, b.device], *options, "--consistency", "per-volume")
            assert found == {"a": {fast}, "b": {group.disks[0]}}
            assert_nothing_left(rig)
    finally:
        LINK.unlink()


def test_it_grows_there(rig: Rig) -> None:
    """By what is free there: meanwhile another snapshot has taken more elsewhere than is left there."""
    group, fast = group_of(rig, mib=500)
    volume = rig.volume("data", fs="ext4", mib=96, group=group, at=rig.path("data"))
    other = rig.volume("other", mib=150, group=group)
    run("lvcreate", "-q", "-y", "-n", "filler", "-L", "400m", group.name, fast)
    options = configured(
        rig,
        f"snapshot:\n  size: 150M\n  volumes:\n    - volume: {volume.full_name}\n      size: 24M\n"
        '      chunk: 16K\n      physical_volumes: ["@fast"]\n',
    )
    try:
        with tidy():
            seen: dict[str, set[str]] = {}
            words = [*map(str, options), "--path", other.device]
            said = loaded(rig, volume, *words, look=lambda: seen.update(_disks_of_ours()))
            assert f"{volume.full_name}: snapshot grown from 24.0 MiB" in said.err, said
            assert seen == {"data": {fast}, "other": {group.disks[0]}}
    finally:
        run("lvremove", "-q", "-y", f"{group.name}/filler")
    assert_nothing_left(rig)


def test_it_goes_on_to_the_next_of_them(rig: Rig) -> None:
    """Where LVM by itself takes the one between them, which was not named: it goes by the order of the disks."""
    group = rig.group(disks=3, mib=300)
    first, other, second = group.disks
    volume = rig.volume("data", fs="ext4", mib=96, group=group, at=rig.path("data"))
    run("pvchange", "-q", "--addtag", "fast", first, second)
    left = {first: 36, second: 30}  # MiB; the snapshot begins on the first, where there is more
    for disk, mib in left.items():
        room = run("pvs", "--noheadings", "--nosuffix", "--units", "m", "-o", "pv_free", disk).out
        filler = f"{int(float(room)) - mib}m"
        run("lvcreate", "-q", "-y", "-n", f"filler-{Path(disk).name}", "-L", filler, group.name, disk)
    options = configured(rig, 'snapshot: {size: 24M, chunk: 16K, physical_volumes: ["@fast"]}\n')
    try:
        with tidy():
            seen: dict[str, set[str]] = {}
            said = loaded(rig, volume, *map(str, options), look=lambda: seen.update(_disks_when_larger_than(24)))
            assert f"{volume.full_name}: snapshot grown from 24.0 MiB" in said.err, said
            assert seen == {"data": {first, second}}, (seen, other)
    finally:
        for disk in left:
            run("lvremove", "-q", "-y", f"{group.name}/filler-{Path(disk).name}")
    assert_nothing_left(rig)


def _disks_when_larger_than(mib: int) -> dict[str, set[str]]:
    """Wait until the snapshot has so much space; return what `_disks_of_ours` does."""

    def is_larger() -> bool:
        size = run("lvs", "--noheadings", "--nosuffix", "--units", "m", "-o", "lv_size", "@borg_lvm").out
        return float(size) > mib

    wait_for(is_larger, "the snapshot to grow")
    return _disks_of_ours()


def _disks_of_ours() -> dict[str, set[str]]:
    """Return on which disks the spaces of all snapshots of ours lie, by the origin."""
    rows = run("lvs", "--noheadings", "--separator", "|", "-o", "origin,vg_name,lv_name", "@borg_lvm").out.splitlines()
    return {origin: disks_of(f"{vg}/{name}") for origin, vg, name in (row.strip().split("|") for row in rows)}


def test_what_cannot_be_is_refused_before_anything_is_done(rig: Rig) -> None:
    group, fast = group_of(rig)
    volume = rig.volume("data", mib=32, group=group)
    run("pvchange", "-q", "--allocatable", "n", fast)
    for name, words in (
        ("/dev/no-such", "/dev/no-such is none in the volume groups of this run"),
        ("@no", "no physical volume has the tag @no"),
        ("@fast", f"nothing may be allocated from {fast}"),
    ):
        options = configured(rig, f'snapshot: {{physical_volumes: ["{name}"]}}\n')
        for verb in ("plan", "run"):
            said = borg_lvm(verb, *options, "--path", volume.device, "--", "true", status=69)
            assert words in said.err, said
    run("pvchange", "-q", "--allocatable", "y", fast)
    options = configured(rig, 'snapshot: {physical_volumes: ["@fast"]}\n')
    run("lvcreate", "-q", "-y", "-n", "filler", "-l", "100%PVS", group.name, fast)
    said = borg_lvm("plan", *options, "--path", volume.device, "--", "true", status=69)
    assert f"have nothing free: {fast}" in said.err
    run("lvremove", "-q", "-y", f"{group.name}/filler")
    assert_nothing_left(rig)
