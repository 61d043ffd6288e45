"""What `borg-lvm clean` removes: snapshots of runs, and nothing else that carries a tag."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm, run

RUN = "20200102T030405-abcdef"
TAGS = ("--addtag", "borg_lvm", "--addtag", f"borg_lvm.run={RUN}")


def there(full_name: str) -> bool:
    return run("lvs", full_name, status=None).status == 0


def tagged_origin(one: Volume) -> str:
    run("lvchange", *TAGS, one.full_name)
    return one.full_name


def snapshot_of_another_name(one: Volume) -> str:
    run("lvcreate", "-y", "-s", "-n", "before-upgrade", "-L", "8m", *TAGS, one.full_name)
    return f"{one.group.name}/before-upgrade"


def volume_of_our_name(one: Volume) -> str:
    name = f"{one.group.name}/borg_lvm-{RUN}-0"
    run("lvcreate", "-y", "-n", f"borg_lvm-{RUN}-0", "-L", "8m", *TAGS, one.group.name)
    run("mkfs.ext4", "-q", f"/dev/mapper/{one.group.name.replace('-', '--')}-borg_lvm--{RUN.replace('-', '--')}--0")
    return name


TAGGED = [tagged_origin, snapshot_of_another_name, volume_of_our_name]


@pytest.mark.each_value
@pytest.mark.parametrize("tag", TAGGED)
@pytest.mark.parametrize("verb", ["clean", "run"])
def test_what_is_merely_tagged_is_left_alone(rig: Rig, tag: Callable[[Volume], str], verb: str) -> None:
    with tidy():
        one = rig.volume("one", fs="ext4")
        other = rig.volume("other", fs="ext4", at=rig.path("other"))
        name = tag(one)
        try:
            said = borg_lvm(verb, *(() if verb == "clean" else ("--path", str(other.at), "--", "true")))
            assert there(name), f"{name} was removed: {said}"
            if verb == "clean":
                assert f"{name} carries the tags of a run and is no snapshot of one" in said.err
        finally:
            run("lvchange", "--deltag", "borg_lvm", "--deltag", f"borg_lvm.run={RUN}", name)
            if name != one.full_name:
                run("lvremove", "-y", name)
        assert_nothing_left(rig)


def test_the_space_of_a_snapshot_that_a_power_cut_has_left_is_removed(rig: Rig) -> None:
    """Made, and not told to be a snapshot yet; /run is empty again."""
    with tidy():
        one = rig.volume("one", fs="ext4", at=rig.path("one"))
        run("lvcreate", "-y", "-n", f"borg_lvm-{RUN}-0", "-L", "8m", "-Zy", "-Wy", *TAGS, one.group.name)
        borg_lvm("clean")
        assert not there(f"{one.group.name}/borg_lvm-{RUN}-0")
        assert_nothing_left(rig)


def test_a_snapshot_that_a_power_cut_has_left_is_removed(rig: Rig) -> None:
    with tidy():
        one = rig.volume("one", fs="ext4", at=rig.path("one"))
        run("lvcreate", "-y", "-s", "-n", f"borg_lvm-{RUN}-0", "-L", "8m", *TAGS, one.full_name)
        borg_lvm("clean")
        assert not there(f"{one.group.name}/borg_lvm-{RUN}-0")
        assert_nothing_left(rig)
