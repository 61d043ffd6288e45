"""Subvolumes of a btrfs that is on no logical volume: which is snapshotted for a path, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.config import Size
from borg_lvm.errors import SourceError
from borg_lvm.machine.block_devices import BlockDevice
from borg_lvm.machine.btrfs_devices import BtrfsDevices
from borg_lvm.machine.btrfs_subvolumes import Tree, gathers, is_candidate, run_of
from borg_lvm.machine.btrfs_superblock import Superblock
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning import plan
from borg_lvm.planning.view_layout import Resolved
from borg_lvm.planning.volumes import Volumes
from borg_lvm.plugins.backup_command import Excluded
from tests.unit.data.machine import GIB, RUN, Machine

DISK = BlockDevice("8:16", "sdb", "", "", False, ())
OTHER = BlockDevice("8:32", "sdc", "", "", False, ())
SUBVOLUMES = {5: "/", 256: "/@srv", 257: "/@home", 258: "/@srv/inner", 259: "/@srv/inner/deep", 260: "/@srv/log"}
TREE = Tree("fsid", ("8:16", "8:32"), "/dev/sdb", 100 * GIB, 25 * GIB, SUBVOLUMES)
PLAIN = replace(TREE, subvolumes={5: "/", 256: "/@srv", 257: "/@home"})


def machine() -> Machine:
    made = Machine()
    made.stack |= {DISK.number: DISK, OTHER.number: OTHER}
    made.on["native"] = DISK.number
    return made


def srv(made: Machine, root: str = "/@srv", path: str = "/srv", extra: str = "") -> Mount:
    return made.mount(path, "native", root=root, fstype="btrfs", extra=extra)


def planned(
    made: Machine, resolved: Resolved, tree: Tree = PLAIN, consistency: str = "instant", other: Tree | None = None
) -> plan.Plan:
    settings = plan.PlanSettings(RUN, Size(), consistency=consistency)
    trees = {one.devices[0]: one for one in (tree, other) if one}
    volumes = Volumes(tuple(made.volumes.values()), made.stack, trees=trees)
    return plan.make(settings, resolved, (), volumes, frozenset())


def refused(
    made: Machine, resolved: Resolved, tree: Tree = PLAIN, consistency: str = "instant", other: Tree | None = None
) -> str:
    with pytest.raises(SourceError) as caught:
        planned(made, resolved, tree, consistency, other)
    return "\n".join(caught.value.details)


def test_a_subvolume_and_a_volume() -> None:
    """The one that cannot be held comes first; it takes nothing of LVM's."""
    made = machine()
    srv(made)
    made.mount("/data", "vg0/data")
    found = planned(made, made.resolve("/data", "/srv/www"))
    first, second = found.snapshots
    assert (first.kind, first.hold, first.extents, first.minor) == ("subvolume", "none", 0, None)
    assert first.origin.full_name == "/dev/sdb[/@srv]"
    assert first.full_name == f"/dev/sdb[/.borg-lvm/borg_lvm-{RUN}-0]"
    assert first.options == f"subvol=/.borg-lvm/borg_lvm-{RUN}-0"
    assert first.why_size == "takes what it needs from the btrfs, of which 75% are used and 25.0 GiB are free"
    assert (second.origin.full_name, second.hold) == ("vg0/data", "suspend")
    assert {one.target: (one.snapshot, one.inside) for one in found.view_mounts} == {
        "/srv/www": (0, "/www"),
        "/data": (1, "/"),
    }


def test_several_mounts_of_one_are_one_snapshot() -> None:
    made = machine()
    srv(made)
    srv(made, root="/@srv/www", path="/www")
    srv(made, root="/", path="/mnt")
    found = planned(made, made.resolve("/srv", "/www", "/mnt/@srv/log"))
    assert len(found.snapshots) == 1
    assert {one.target: one.inside for one in found.view_mounts} == {
        "/srv": "/",
        "/www": "/www",
        "/mnt/@srv/log": "/log",
    }


def test_two_of_one_btrfs_are_one_group() -> None:
    made = machine()
    srv(made)
    srv(made, root="/@home", path="/home")
    made.mount("/data", "vg0/data")
    found = planned(made, made.resolve("/srv", "/home", "/data")).snapshots
    assert [one.origin.full_name for one in found] == ["/dev/sdb[/@home]", "/dev/sdb[/@srv]", "vg0/data"]


def test_but_not_on_a_kernel_that_makes_two_transactions_of_them() -> None:
    made = machine()
    srv(made)
    srv(made, root="/@home", path="/home")
    tree = replace(PLAIN, gathers=False)
    said = refused(made, made.resolve("/srv", "/home"), tree)
    assert "only those of one btrfs are snapshotted in one transaction, on Linux 6.12 or newer" in said
    assert len(planned(made, made.resolve("/srv", "/home"), tree, consistency="per-volume").snapshots) == 2
    releases = {"6.1.176": False, "5.14.0-503.el9.x86_64": False, "6.12.117+deb13-amd64": True, "7.0": True, "x": False}
    assert {release: gathers(release) for release in releases} == releases


def test_two_of_two_btrfs_are_two_transactions() -> None:
    made = machine()
    srv(made)
    third = BlockDevice("8:48", "sdd", "", "", False, ())
    made.stack[third.number] = third
    made.on["other"] = third.number
    made.mount("/home", "other", root="/@home", fstype="btrfs")
    resolved = made.resolve("/srv", "/home")
    other = replace(PLAIN, id="other", devices=(third.number,), device="/dev/sdd")
    said = refused(made, resolved, other=other)
    assert (
        "/dev/sdd[/@home], /dev/sdb[/@srv]: these subvolumes cannot be suspended, and only those of one btrfs" in said
    )
    assert said.endswith("--consistency per-volume")
    assert len(planned(made, resolved, consistency="per-volume", other=other).snapshots) == 2


@pytest.mark.parametrize(
    ("extra", "swapped", "root", "words"),
    [
        ("", frozenset([256]), "/@srv", "a swap file is in use in /dev/sdb[/@srv]"),
        ("", frozenset([257]), "/@srv", ""),
        ("", frozenset[int](), "/.borg-lvm/x", "a snapshot that a run has made"),
    ],
)
def test_what_the_kernel_would_refuse(extra: str, swapped: frozenset[int], root: str, words: str) -> None:
    made = machine()
    srv(made, root, extra=extra)
    tree = replace(PLAIN, swapped=swapped, subvolumes={**PLAIN.subvolumes, 300: "/.borg-lvm/x"})
    if words:
        assert words in refused(made, made.resolve("/srv"), tree)
    else:
        planned(made, made.resolve("/srv"), tree)


def test_a_read_only_file_system() -> None:
    made = machine()
    mount = srv(made)
    resolved = made.resolve("/srv")
    read_only = replace(resolved.frozen[0], mount=replace(mount, super_options="ro,subvolid=256,subvol=/@srv"))
    assert "is mounted read-only" in refused(made, replace(resolved, frozen=(read_only,)))


def test_one_with_a_seed_device() -> None:
    made = machine()
    srv(made)
    assert "has a seed device" in refused(made, made.resolve("/srv"), replace(PLAIN, is_seeded=True))


class TestNested:
    def test_they_are_named_the_outermost_alone(self) -> None:
        made = machine()
        srv(made)
        lines = refused(made, made.resolve("/srv"), TREE).splitlines()
        assert [line.partition(":")[0] for line in lines] == ["/srv/inner", "/srv/log"]
        assert "--live /srv/inner" in lines[0]

    def test_but_not_those_beside_the_source(self) -> None:
        made = machine()
        srv(made)
        assert planned(made, made.resolve("/srv/www"), TREE).snapshots

    def test_nor_snapshots_of_ours(self) -> None:
        made = machine()
        srv(made, root="/")
        tree = replace(PLAIN, subvolumes={5: "/", 300: f"/.borg-lvm/borg_lvm-{RUN}-0"})
        assert planned(made, made.resolve("/srv"), tree).snapshots

    def test_nor_what_the_command_leaves_out_or_is_live(self) -> None:
        made = machine()
        srv(made)
        excluded = (Excluded("/srv/inner", "--exclude"),)
        said = refused(made, made.resolve("/srv", excluded=excluded), TREE)
        assert "/srv/inner" not in said
        assert "/srv/log" in said

    def test_there_may_be_thousands(self) -> None:
        made = machine()
        srv(made)
        tree = replace(
            PLAIN, subvolumes={256: "/@srv", 5: "/"} | {300 + n: f"/@srv/.snapshots/{n:03}" for n in range(99)}
        )
        lines = refused(made, made.resolve("/srv"), tree).splitlines()
        assert len(lines) == 6
        assert lines[-1] == "/srv: 94 more subvolumes lie below it (btrfs subvolume list)"

    def test_or_more_than_anybody_counts(self) -> None:
        made = machine()
        srv(made)
        many = {300 + n: f"/@srv/.snapshots/{n:05}" for n in range(5000)}
        lines = refused(made, made.resolve("/srv"), replace(PLAIN, subvolumes={256: "/@srv", 5: "/"} | many))
        assert lines.splitlines()[-1] == "/srv: more than 995 more subvolumes lie below it (btrfs subvolume list)"


@pytest.mark.parametrize(
    ("known", "devices", "apart"),
    [
        (BtrfsDevices(("/dev/a",), Superblock(1)), 1, False),
        (BtrfsDevices(("/dev/a", "/dev/b"), Superblock(2)), 2, True),
        (BtrfsDevices(("/dev/a",), Superblock(2)), 1, True),  # degraded
    ],
)
def test_what_can_be_held_is_held(known: BtrfsDevices, devices: int, apart: bool) -> None:
    made = Machine()
    mount = made.mount("/data", "vg0/data", root="/@srv", fstype="btrfs")
    tree = replace(PLAIN, devices=(mount.device, "8:16")[:devices])
    volumes = Volumes(tuple(made.volumes.values()), made.stack, {}, {mount.device: known}, {mount.device: tree})
    answer = volumes.find(mount)
    assert not isinstance(answer, str)
    assert answer.apart == apart


def test_one_that_lies_on_what_is_held() -> None:
    """Its snapshot would have to be written to a volume that is suspended."""
    made = Machine()
    mount = made.mount("/data", "vg0/data", root="/@srv", fstype="btrfs")
    made.mount("/log", "vg0/log")
    number = made.on["vg0/log"]
    tree = replace(PLAIN, devices=(mount.device, number))
    known = BtrfsDevices(("/dev/a", "/dev/b"), Superblock(2))
    volumes = Volumes(tuple(made.volumes.values()), made.stack, {}, {mount.device: known}, {mount.device: tree})
    with pytest.raises(SourceError) as caught:
        plan.make(plan.PlanSettings(RUN, Size()), made.resolve("/data", "/log"), (), volumes, frozenset())
    assert "/dev/sdb[/@srv] lies on vg0/log, which is to be suspended at the same instant" in caught.value.details[0]


@pytest.mark.parametrize("path", ["/@srv/a b", "/@srv/a\nb", "/@srv/ä"])
def test_a_name_that_would_have_to_be_quoted(path: str) -> None:
    tree = replace(PLAIN, subvolumes={5: "/", 300: path})
    assert tree.holding(f"{path}/file").full_name == "/dev/sdb[subvolid=300]"


def test_the_deepest_one_holds_a_path() -> None:
    paths = {"/@srv/inner/deep/x": 259, "/@srv/inner/deeper": 258, "/@srv": 256, "/@srvx": 5, "/": 5}
    assert {path: TREE.holding(path).number for path in paths} == paths


@pytest.mark.parametrize(
    ("name", "run"),
    [
        (f"borg_lvm-{RUN}-0", (RUN, False)),
        (f"borg_lvm-{RUN}-12.keep", (RUN, True)),
        (f"borg_lvm-{RUN}-0.kept", None),
        (f"my-borg_lvm-{RUN}-0", None),
        ("snapshot", None),
    ],
)
def test_whose_a_name_is(name: str, run: tuple[str, bool] | None) -> None:
    assert run_of(name) == run
    assert not is_candidate(name)


def test_candidates_are_of_their_run_and_no_snapshots() -> None:
    name = f"borg_lvm-{RUN}-0.candidate3"
    assert run_of(name) == (RUN, False)
    assert is_candidate(name)
    for other in (f"borg_lvm-{RUN}-0.candidate", f"borg_lvm-{RUN}-0.candidate3.keep", "x.candidate3"):
        assert run_of(other) is None
        assert not is_candidate(other)
