"""The plan: everything decided, every reason against it told at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.config import Size
from borg_lvm.errors import SourceError
from borg_lvm.machine.block_devices import FIRST_MINOR, MINORS, persistent_minors
from borg_lvm.planning import plan
from borg_lvm.planning.plan import Plan, Snapshot
from borg_lvm.planning.volumes import Volumes
from tests.unit.data.machine import GIB, MIB, RUN, VOLUME, Machine, directories, link, needed, pool, thin


def refused(machine: Machine, *sources: str, **settings: object) -> str:
    with pytest.raises(SourceError) as told:
        machine.plan(machine.resolve(*sources), **settings)
    return "\n".join([told.value.message, *told.value.details])


def only(made: Plan) -> Snapshot:
    (snapshot,) = made.snapshots
    return snapshot


def test_one_volume() -> None:
    machine = Machine()
    machine.mount("/home", "data-vg/my-home")
    made = machine.plan(machine.resolve("/home"))
    snapshot = only(made)
    assert snapshot.full_name == f"data-vg/borg_lvm-{RUN}-0"
    assert snapshot.volume_device == snapshot.device == f"/dev/mapper/data--vg-borg_lvm--{RUN.replace('-', '--')}--0"
    assert (snapshot.kind, snapshot.size, snapshot.extents, snapshot.hold) == ("thick", 2 * GIB, 512, "suspend")
    assert (snapshot.fstype, snapshot.options, snapshot.mounted_at, snapshot.crypt) == (
        "ext4",
        "errors=continue",
        "/home",
        None,
    )
    assert made.tags == ("borg_lvm", f"borg_lvm.run={RUN}")
    assert made.consistency == "instant"
    assert not made.pivots


def test_names_stay_within_what_lvm_allows() -> None:
    machine = Machine()
    for number in range(120):
        machine.add(f"vg{number}/v{number}", replace(VOLUME, uuid=f"uuid-{number}"))
        machine.mount(f"/srv/{number}", f"vg{number}/v{number}")
    made = machine.plan(machine.resolve("/srv"))
    assert len({snapshot.full_name for snapshot in made.snapshots}) == 121
    assert max(len(snapshot.crypt_name) for snapshot in made.snapshots) < 128


def test_many_mounts_of_one_volume_are_one_snapshot() -> None:
    machine = Machine()
    machine.mount("/srv", "vg0/data", root="/srv")
    machine.mount("/mnt/data", "vg0/data")
    machine.mount("/srv/inner", "vg0/data", root="/other")
    made = machine.plan(machine.resolve("/srv", "/mnt/data"))
    assert only(made).origin.name == "data"
    assert {view_mount.target: view_mount.inside for view_mount in made.view_mounts} == {
        "/mnt/data": "/",
        "/srv": "/srv",
        "/srv/inner": "/other",
    }


def test_each_cover_shows_its_own_volume() -> None:
    machine = Machine()
    machine.mount("/home", "vg0/home")
    machine.mount("/var", "vg1/var")
    made = machine.plan(machine.resolve("/"))
    assert {
        view_mount.target: made.snapshots[view_mount.snapshot].origin.full_name for view_mount in made.view_mounts
    } == {
        "/": "vg0/root",
        "/home": "vg0/home",
        "/var": "vg1/var",
    }
    assert made.pivots


def test_everything_wrong_is_told_at_once() -> None:
    machine = Machine()
    machine.other("/srv/nas", "nfs4")
    machine.other("/srv/mem", "tmpfs")
    machine.mount("/srv/small", "vg1/small")
    machine.volumes["vg1/small"] = replace(machine.volumes["vg1/small"], vg_free=0)
    machine.add("vg0/secret")
    machine.luks("vg0/secret", "secret_crypt")
    machine.mount("/srv/secret", "secret_crypt")
    words = refused(machine, "/srv")
    assert "nothing was done" in words
    assert "/srv/nas (mounted below /srv): it lies on a network file system" in words
    assert "if it may be read live: --live /srv/mem" in words
    assert "volume group vg1 has 0 B free" in words
    assert "vg0/secret, which is encrypted, and the kernel does not give the key of the mapping secret_crypt" in words


def test_a_conflict_is_told_with_the_rest() -> None:
    machine = Machine()
    machine.other("/srv/mem", "tmpfs")
    with pytest.raises(SourceError) as told:
        machine.plan(machine.resolve("/srv", "/home", needed=needed("/home")))
    assert len(told.value.details) == 2


class TestNothingToFreeze:
    """The command would read everything live, and the report would sound as if all were well."""

    def test_all_is_declared_live(self) -> None:
        machine = Machine()
        with pytest.raises(SourceError, match="nothing to freeze") as told:
            machine.plan(machine.resolve("/srv/a", "/srv/b", declared=directories("/srv")))
        assert told.value.details == (
            "/srv/a: declared live (--live /srv)",
            "/srv/b: declared live (--live /srv)",
        )

    def test_only_a_link_that_leads_nowhere(self) -> None:
        machine = Machine()
        with pytest.raises(SourceError, match="nothing to freeze") as told:
            machine.plan(machine.resolve(link("/srv/x", "/gone", "it leads nowhere")))
        assert "leads nowhere" in told.value.details[0]


class TestLuks:
    def machine(self, fstype: str = "ext4") -> Machine:
        machine = Machine()
        machine.add("vg0/secret")
        machine.luks("vg0/secret", "secret_crypt")
        machine.mount("/secret", "secret_crypt", fstype=fstype)
        return machine

    def made(self, key: str, fstype: str = "ext4") -> Snapshot:
        machine = self.machine(fstype)
        return only(machine.plan(machine.resolve("/secret"), key_files={"vg0/secret": key}))

    def test_its_file_system_is_frozen_by_us_because_lvm_does_not_see_it(self) -> None:
        assert self.made("/root/key").hold == "freeze"

    def test_the_snapshot_is_opened_under_a_name_of_its_own(self) -> None:
        snapshot = self.made("/root/key")
        assert snapshot.device == f"/dev/mapper/borg_lvm-{RUN}-0-crypt"
        assert snapshot.volume_device != snapshot.device
        assert snapshot.key_file == "/root/key"

    def test_the_kernels_own_key_is_an_empty_text(self) -> None:
        assert self.made("").key_file == ""

    def test_no_key_at_all(self) -> None:
        words = refused(self.machine(), "/secret")
        assert "name a key file" in words
        assert "`volume: vg0/secret`" in words

    def test_an_xfs_is_mounted_without_recovery(self) -> None:
        assert self.made("", "xfs").options == "nouuid,norecovery"


class TestXfs:
    @pytest.mark.parametrize(
        ("extra", "options"),
        [
            ("", "nouuid"),
            (",attr2,inode64,noquota", "nouuid"),
            (",attr2,usrquota,prjquota,logbufs=8", "nouuid,usrquota,prjquota"),
            (",uqnoenforce,grpquota", "nouuid,uqnoenforce,grpquota"),
        ],
    )
    def test_its_options(self, extra: str, options: str) -> None:
        machine = Machine()
        machine.mount("/var", "vg0/var", fstype="xfs", extra=extra)
        assert only(machine.plan(machine.resolve("/var"))).options == options

    def test_labels_are_those_of_the_mount(self) -> None:
        machine = Machine()
        labels = 'context="system_u:object_r:t:s0:c1,c2",fscontext=a:b:c'
        machine.mount("/var", "vg0/var", fstype="xfs", extra=f",{labels},noquota")
        assert only(machine.plan(machine.resolve("/var"))).options == f"nouuid,{labels}"


@pytest.mark.parametrize("fstype", ["ext2", "ext3", "ext4"])
def test_an_error_in_a_snapshot_never_stops_the_machine(fstype: str) -> None:
    machine = Machine()
    machine.mount("/var", "vg0/var", fstype=fstype, extra=",usrquota,errors=panic,noacl")
    assert only(machine.plan(machine.resolve("/var"))).options == "errors=continue,noacl"


def test_what_a_mount_forbids() -> None:
    machine = Machine()
    machine.mount("/var", "vg0/var")
    assert only(machine.plan(machine.resolve("/var"))).flags == ()


class TestThin:
    def machine(self, volume: str = "vg0/home") -> Machine:
        machine = Machine()
        machine.add("vg0/pool", pool())
        machine.add(volume, replace(thin(VOLUME), uuid="thin", vg_free=0))
        machine.mount("/home", volume)
        return machine

    def test_a_thin_snapshot_needs_no_space(self) -> None:
        machine = self.machine()
        snapshot = only(machine.plan(machine.resolve("/home")))
        assert (snapshot.kind, snapshot.extents, snapshot.size) == ("thin", 0, 0)

    def test_a_size_is_for_thick_ones_only(self) -> None:
        machine = self.machine()
        made = machine.plan(machine.resolve("/home"), size=Size.parse("50G"))
        assert only(made).extents == 0
        assert [note for note in made.notes if "50GiB is of no use" in note]
        assert not machine.plan(machine.resolve("/home")).notes

    def test_one_with_a_thick_snapshot_besides_is_thin_all_the_same(self) -> None:
        machine = self.machine()
        machine.volumes["vg0/home"] = replace(machine.volumes["vg0/home"], attr="owi-aotz--")
        assert only(machine.plan(machine.resolve("/home"))).kind == "thin"


class TestInstant:
    def machine(self) -> Machine:
        machine = Machine()
        machine.mount("/a", "vg0/a")
        machine.mount("/b", "vg1/b")
        machine.mount("/c", "vg1/c")
        return machine

    def made(self, *logs: str) -> Plan:
        machine = self.machine()
        return machine.plan(machine.resolve("/a", "/b", "/c"), consistency="instant", logs=frozenset(logs))

    def test_all_are_held_in_their_order(self) -> None:
        made = self.made()
        assert [(snapshot.origin.name, snapshot.name[-2:], snapshot.hold) for snapshot in made.snapshots] == [
            ("a", "-0", "suspend"),
            ("b", "-1", "suspend"),
            ("c", "-2", "suspend"),
        ]

    def test_logs_are_held_last(self) -> None:
        made = self.made("vg1/b", "vg0/a")
        assert [snapshot.origin.name for snapshot in made.snapshots] == ["c", "a", "b"]
        assert {
            view_mount.target: made.snapshots[view_mount.snapshot].origin.name for view_mount in made.view_mounts
        } == {
            "/a": "a",
            "/b": "b",
            "/c": "c",
        }

    def test_thin_volumes_are_copied_thin_whoever_is_beside_them(self) -> None:
        machine = self.machine()
        machine.add("vg1/pool", replace(pool(), uuid="pool1"))
        for name in ("x", "y"):
            machine.add(f"vg1/{name}", replace(thin(VOLUME), uuid=name))
            machine.mount(f"/{name}", f"vg1/{name}")
        made = machine.plan(machine.resolve("/a", "/x", "/y"), consistency="instant")
        assert [snapshot.kind for snapshot in made.snapshots] == ["thick", "thin", "thin"]

    def test_volume_by_volume(self) -> None:
        made = self.machine().plan(self.machine().resolve("/a", "/b"), consistency="per-volume")
        assert {snapshot.hold for snapshot in made.snapshots} == {"suspend"}
        assert made.consistency == "per-volume"

    def test_a_single_volume_always_shows_one_instant(self) -> None:
        made = self.machine().plan(self.machine().resolve("/a"), consistency="per-volume")
        assert made.consistency == "instant"


class TestMinors:
    def minors(self, *paths: str, taken: frozenset[int] = frozenset()) -> dict[str, int | None]:
        machine = Machine()
        for path in ("/a", "/b", "/c"):
            machine.mount(path, f"vg0{path}")
        resolved = machine.resolve(*paths)
        volumes = Volumes(tuple(machine.volumes.values()), machine.stack)
        settings = plan.PlanSettings("another-run", Size(), consistency="per-volume")
        made = plan.make(settings, resolved, paths, volumes, taken)
        return {snapshot.origin.name: snapshot.minor for snapshot in made.snapshots}

    def test_the_same_in_every_run_and_for_every_choice_of_sources(self) -> None:
        assert self.minors("/b") == {"b": self.minors("/c", "/b", "/a")["b"]}

    def test_far_from_those_that_lvm_hands_out(self) -> None:
        assert all(minor and FIRST_MINOR <= minor < MINORS for minor in self.minors("/a", "/b", "/c").values())

    def test_one_that_is_taken_is_left_alone(self) -> None:
        minor = self.minors("/a")["a"]
        assert minor
        assert self.minors("/a", taken=frozenset([minor]))["a"] == minor + 1

    def test_none_when_they_are_not_wanted(self) -> None:
        machine = Machine()
        assert only(machine.plan(machine.resolve("/etc"), persistent_minor=False)).minor is None

    @settings(deadline=None)
    @given(st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=30), st.data())
    def test_never_one_twice(self, uuids: set[str], data: st.DataObject) -> None:
        once = persistent_minors(uuids, frozenset())
        taken = data.draw(st.frozensets(st.sampled_from(sorted({*once.values(), MINORS - 1, FIRST_MINOR}))))
        chosen = persistent_minors(uuids, taken)
        assert len(set(chosen.values())) == len(uuids)
        assert not taken & set(chosen.values())
        assert all(FIRST_MINOR <= minor < MINORS for minor in chosen.values())

    def test_the_last_number_is_followed_by_the_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("borg_lvm.machine.block_devices.zlib.crc32", lambda data: MINORS - FIRST_MINOR - 1)
        assert persistent_minors([VOLUME.uuid], frozenset([MINORS - 1])) == {VOLUME.uuid: FIRST_MINOR}


def test_what_the_user_declared_is_carried_along() -> None:
    machine = Machine()
    resolved = machine.resolve("/srv", "/home", declared=directories("/home", "/srv/cache"))
    made = machine.plan(resolved)
    assert made.live_sources == (("/home", "/home"),)
    assert [live_path.path for live_path in made.live_paths] == ["/srv/cache"]


def test_a_wished_size() -> None:
    machine = Machine()
    snapshot = only(machine.plan(machine.resolve("/etc"), size=Size.parse("10M")))
    assert (snapshot.size, snapshot.why_size) == (12 * MIB, "10MiB")
