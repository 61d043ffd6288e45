"""From a mount to its volume, or to the clause that says why there is none to be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from borg_lvm.machine.btrfs_devices import BtrfsDevices
from borg_lvm.machine.btrfs_superblock import Superblock
from borg_lvm.machine.lvm_groups import Group
from borg_lvm.machine.mounts import Mount
from borg_lvm.planning import file_systems
from borg_lvm.planning.volumes import SnapshotCandidate, Volumes
from tests.unit.data.machine import VOLUME, Machine, pool, thin


def find(machine: Machine, mount: Mount) -> SnapshotCandidate | str:
    return Volumes(tuple(machine.volumes.values()), machine.stack).find(mount)


def reason(machine: Machine, mount: Mount) -> str:
    answer = find(machine, mount)
    assert isinstance(answer, str), answer
    return answer


def home(**facts: object) -> tuple[Machine, Mount]:
    """A machine with /home on vg0/home, of which some facts are different."""
    machine = Machine()
    machine.add("vg0/home")
    machine.volumes["vg0/home"] = replace(machine.volumes["vg0/home"], **facts)  # type: ignore[arg-type]
    return machine, machine.mount("/home", "vg0/home")


def test_a_plain_volume() -> None:
    machine, mount = home()
    assert find(machine, mount) == SnapshotCandidate(machine.volumes["vg0/home"], None)


BLOCK = Superblock(1)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (BtrfsDevices(("254:1",), BLOCK), ""),
        (None, "it is a btrfs whose superblock cannot be read"),
        (BtrfsDevices(("254:1",)), "it is a btrfs whose superblock cannot be read"),
        (BtrfsDevices(("254:1", "8:17"), replace(BLOCK, devices=2)), "of several devices (254:1, 8:17)"),
        (BtrfsDevices(("254:1",), replace(BLOCK, devices=2)), "of several devices (254:1)"),  # degraded
        (BtrfsDevices(("254:1", "8:17"), BLOCK), "of several devices (254:1, 8:17)"),  # one is being replaced
        (BtrfsDevices(("254:1",), replace(BLOCK, seed=True)), "is a seed device"),
        (BtrfsDevices(("254:1",), replace(BLOCK, zoned=True)), "on a zoned device"),
        (BtrfsDevices(("254:1",), replace(BLOCK, changing=True)), "are being changed (btrfstune)"),
        (BtrfsDevices(("254:1",), replace(BLOCK, checksum=9)), "a kind of checksum that borg-lvm cannot make"),
    ],
)
def test_a_btrfs(known: BtrfsDevices | None, words: str) -> None:
    machine, mount = home()
    facts = {mount.device: known} if known else {}
    volumes = Volumes(tuple(machine.volumes.values()), machine.stack, {}, facts)
    answer = volumes.find(replace(mount, fstype="btrfs"))
    if words:
        assert isinstance(answer, str)
        assert words in answer
        assert answer.endswith("; use btrfs snapshots for it")
    else:
        assert answer == SnapshotCandidate(machine.volumes["vg0/home"], None)


@pytest.mark.parametrize("fstype", ["ext2", "ext3", "ext4", "xfs"])
def test_known_file_systems(fstype: str) -> None:
    machine, mount = home()
    assert isinstance(find(machine, replace(mount, fstype=fstype)), SnapshotCandidate)


def test_names_with_dashes_are_found_by_id() -> None:
    machine = Machine()
    mount = machine.mount("/srv", "data-vg/my-lv_1")
    answer = find(machine, mount)
    assert isinstance(answer, SnapshotCandidate)
    assert answer.volume.full_name == "data-vg/my-lv_1"


def test_two_groups_with_the_same_volume_name() -> None:
    machine = Machine()
    first, second = machine.mount("/a", "vg1/data"), machine.mount("/b", "vg2/data")
    found = [find(machine, mount) for mount in (first, second)]
    assert [one.volume.vg for one in found if isinstance(one, SnapshotCandidate)] == ["vg1", "vg2"]


class TestLuks:
    def machine(self, uuid: str = "CRYPT-LUKS2-5f0c-home_crypt") -> tuple[Machine, Mount]:
        machine, _ = home()
        machine.luks("vg0/home", "home_crypt", uuid)
        return machine, machine.mount("/secret", "home_crypt")

    @pytest.mark.parametrize("uuid", ["CRYPT-LUKS1-5f0c-home_crypt", "CRYPT-LUKS2-5f0c-home_crypt"])
    def test_the_volume_below_and_the_mapping_between(self, uuid: str) -> None:
        machine, mount = self.machine(uuid)
        answer = find(machine, mount)
        assert isinstance(answer, SnapshotCandidate)
        assert answer.crypt
        assert (answer.volume.full_name, answer.crypt.name, answer.crypt.uuid) == ("vg0/home", "home_crypt", uuid)

    @pytest.mark.parametrize("uuid", ["CRYPT-PLAIN-home_crypt", "CRYPT-TCRYPT-1", "CRYPT-BITLK-1", "CRYPT-VERITY-1"])
    def test_without_luks(self, uuid: str) -> None:
        assert "without LUKS" in reason(*self.machine(uuid))

    def test_a_suspended_mapping(self) -> None:
        machine, mount = self.machine()
        machine.stack[mount.device] = replace(machine.stack[mount.device], suspended=True)
        assert "cryptsetup luksResume home_crypt" in reason(machine, mount)

    def test_on_a_partition(self) -> None:
        machine, mount = self.machine()
        machine.stack[mount.device] = replace(machine.stack[mount.device], slaves=("8:3",))
        assert "it lies on home_crypt, which is not a logical volume" in reason(machine, mount)

    def test_over_another_mapping(self) -> None:
        """LUKS2 with integrity: dm-crypt on dm-integrity on the volume."""
        machine, mount = self.machine()
        machine.luks("vg0/home", "home_dif", "CRYPT-SUBDEV-1-home_dif")
        machine.stack[mount.device] = replace(machine.stack[mount.device], slaves=(machine.on["home_dif"],))
        assert "home_dif, which is not a logical volume" in reason(machine, mount)


@pytest.mark.parametrize(
    ("fstype", "words"),
    [
        ("tmpfs", "in memory (tmpfs)"),
        ("overlay", "name the directories"),
        ("nfs4", "network file system (nfs4)"),
        ("cifs", "network file system (cifs)"),
        ("fuse.sshfs", "network file system (fuse.sshfs)"),
        ("btrfs", "does not show in /sys/fs/btrfs which device it lies on"),
        ("zfs", "of which zfs list and zpool list say nothing"),
        ("proc", "it lies on proc, which has no block device"),
        ("fuse.portal", "it lies on fuse.portal, which has no block device"),
    ],
)
def test_no_disk_at_all(fstype: str, words: str) -> None:
    machine = Machine()
    assert words in reason(machine, machine.other("/x", fstype))


def test_a_partition() -> None:
    machine, mount = home()
    machine.stack[mount.device] = replace(machine.stack[mount.device], name="sda1", dm_name="", dm_uuid="")
    assert reason(machine, mount) == "it lies on sda1, which is not a logical volume"


def test_a_partition_on_a_volume() -> None:
    machine, mount = home()
    device = machine.stack[mount.device]
    machine.stack[mount.device] = replace(device, dm_name="vg0-home1", dm_uuid=f"part1-{device.dm_uuid}")
    assert "vg0-home1, which is not a logical volume" in reason(machine, mount)


def test_a_device_that_cannot_be_seen() -> None:
    machine, mount = home()
    assert "no block device that we can see" in reason(machine, replace(mount, device="259:7"))


def test_a_directory_that_has_been_deleted() -> None:
    machine, mount = home()
    assert "has been deleted" in reason(machine, replace(mount, root="/gone//deleted"))


def test_a_file_system_that_is_not_whole_in_a_snapshot() -> None:
    machine, mount = home()
    assert reason(machine, replace(mount, fstype="vfat")).startswith("it is a vfat on vg0/home; only btrfs, ext2")


def test_a_mount_point_with_a_line_break() -> None:
    machine = Machine()
    mount = machine.mount("/srv/a\nb", "vg0/odd")
    found = Volumes(tuple(machine.volumes.values()), machine.stack).find(mount)
    assert isinstance(found, str)
    assert "line break" in found


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"tags": ("borg_lvm", "borg_lvm.run=X")}, "frozen already, by the run X"),
        ({"attr": "Owi-aos---"}, "being merged"),
        ({"attr": "Swi-aos---", "origin": "root"}, "being merged"),
        ({"attr": "swi-aos---", "origin": "root"}, "itself a snapshot (of vg0/root)"),
        ({"suspended": True}, "dmsetup resume vg0-home"),
        ({"active": False}, "global/activation is 0"),
    ],
)
def test_a_volume_that_is_in_no_state_for_it(facts: dict[str, object], words: str) -> None:
    assert words in reason(*home(**facts))


def test_of_suspended_volumes_only_those_below_what_was_looked_at_are_waited_for() -> None:
    machine, _ = home(suspended=True)
    elsewhere = replace(VOLUME, name="other", uuid="other", suspended=True)
    volumes = Volumes((*machine.volumes.values(), elsewhere), machine.stack)
    assert [one.name for one in volumes.suspended()] == ["home"]
    assert elsewhere in volumes.inventory.volumes
    machine, _ = home()
    assert Volumes(tuple(machine.volumes.values()), machine.stack).suspended() == []


def test_a_device_that_was_suspended_since_lvm_was_asked() -> None:
    machine, mount = home()
    machine.stack[mount.device] = replace(machine.stack[mount.device], suspended=True)
    assert "is suspended" in reason(machine, mount)


class TestThin:
    def machine(self, data: float = 40.0, metadata: float = 10.0, attr: str = "Vwi-aotz--") -> tuple[Machine, Mount]:
        machine = Machine()
        machine.add("vg0/home", replace(thin(VOLUME), attr=attr, uuid="thin-home"))
        machine.add("vg0/pool", pool(data, metadata))
        return machine, machine.mount("/home", "vg0/home")

    @pytest.mark.parametrize(("data", "metadata"), [(40.0, 10.0), (94.99, 10.0), (40.0, 94.99)])
    def test_with_room_in_the_pool(self, data: float, metadata: float) -> None:
        assert isinstance(find(*self.machine(data, metadata)), SnapshotCandidate)

    @pytest.mark.parametrize(
        ("data", "metadata", "what"),
        [(95.0, 10.0, "used 95.0 % of its data"), (40.0, 99.9, "used 99.9 % of its metadata")],
    )
    @pytest.mark.parametrize("attr", ["Vwi-aotz--", "owi-aotz--"])
    def test_with_a_full_pool(self, data: float, metadata: float, what: str, attr: str) -> None:
        """Also a volume that has a thick snapshot besides (`o`)."""
        answer = reason(*self.machine(data, metadata, attr))
        assert "vg0/pool" in answer
        assert what in answer

    def test_a_full_pool_of_another_group_of_the_same_name(self) -> None:
        machine, mount = self.machine(40.0, 10.0)
        other = replace(pool(99.0, 10.0), vg_uuid="another group", uuid="another pool")
        found = Volumes((*machine.volumes.values(), other), machine.stack).find(mount)
        assert isinstance(found, SnapshotCandidate), found

    def test_a_pool_whose_fill_is_not_known(self) -> None:
        machine, mount = self.machine()
        machine.volumes["vg0/pool"] = replace(machine.volumes["vg0/pool"], data_percent=None, metadata_percent=None)
        assert isinstance(find(machine, mount), SnapshotCandidate)

    def test_a_thin_snapshot_is_a_volume_in_its_own_right(self) -> None:
        machine, mount = self.machine()
        machine.volumes["vg0/home"] = replace(machine.volumes["vg0/home"], origin="base")
        assert isinstance(find(machine, mount), SnapshotCandidate)


@pytest.mark.parametrize(
    ("option", "words"), [("logdev", "its log on another device"), ("rtdev", "its real-time data")]
)
def test_an_xfs_of_two_devices(option: str, words: str) -> None:
    machine, mount = home()
    both = replace(mount, fstype="xfs", super_options=f"rw,attr2,{option}=/dev/sdb1,noquota")
    assert words in reason(machine, both)
    assert "(/dev/sdb1)" in reason(machine, both)


def test_a_volume_that_lvm_does_not_list() -> None:
    machine, mount = home()
    device = machine.stack[mount.device]
    machine.stack[mount.device] = replace(device, dm_uuid="LVM-" + "a" * 32 + "b" * 32)
    groups = {"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa": Group("vg0", exported=True)}
    answer = Volumes(tuple(machine.volumes.values()), machine.stack, groups).find(mount)
    assert isinstance(answer, str)
    assert answer.startswith("it lies on vg0-home, a logical volume in the volume group vg0, which is exported")
    assert "a logical volume that LVM does not list" in reason(machine, mount)


def test_of_an_overlay_the_mount_point_is_named() -> None:
    """`/boot` of a live system: what is named is an ordinary directory."""
    mount = replace(Machine().mounts[0], fstype="overlay", device="0:30")
    assert file_systems.not_a_disk(mount).startswith("it lies on the overlay mounted at /; name the directories")
