"""What is covered and what stays live, for the sources that people name."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from borg_lvm.machine.paths import SeenPath, look
from borg_lvm.planning import consent
from borg_lvm.planning.consent import if_live
from borg_lvm.planning.view_layout import Resolved, Wanted, mounts_around, resolve
from borg_lvm.plugins.backup_command import Excluded, LivePath
from tests.unit.data.machine import VOLUME, Machine, directories, directory, link, live_paths, needed, shown

ROOT_LIVE = ["/dev", "/proc", "/run", "/sys", "/tmp"]


def server() -> Machine:
    """/, /home and /var on volumes of their own, and the kernel's windows."""
    machine = Machine()
    machine.other("/proc", "proc")
    machine.other("/dev", "devtmpfs")
    machine.other("/dev/shm", "tmpfs")
    machine.other("/run", "tmpfs")
    machine.mount("/home", "vg0/home")
    machine.mount("/var", "vg0/var", fstype="xfs")
    return machine


def problems(resolved: Resolved) -> str:
    return "\n".join(resolved.problems)


def test_a_directory_of_the_root() -> None:
    resolved = server().resolve("/etc")
    assert shown(resolved) == {"/etc": "254:0:/etc"}
    assert live_paths(resolved) == []


def test_a_directory_below_a_mount() -> None:
    assert shown(server().resolve("/home/anna")) == {"/home/anna": "254:1:/anna"}


def test_a_file() -> None:
    assert shown(server().resolve(SeenPath("/etc/fstab", "/etc/fstab", "file"))) == {"/etc/fstab": "254:0:/etc/fstab"}


def test_the_root_with_everything_below() -> None:
    resolved = server().resolve("/")
    assert shown(resolved) == {"/": "254:0:/", "/home": "254:1:/", "/var": "254:2:/"}
    assert live_paths(resolved) == ROOT_LIVE
    assert {frozen_path.target: frozen_path.because for frozen_path in resolved.frozen}["/var"] == "mounted below /"


def test_a_bind_mount_shows_its_part_of_the_volume() -> None:
    machine = server()
    machine.mount("/srv/www", "vg0/var", root="/www", fstype="xfs")
    assert shown(machine.resolve("/srv")) == {"/srv": "254:0:/srv", "/srv/www": "254:2:/www"}
    assert shown(machine.resolve("/srv/www/site")) == {"/srv/www/site": "254:2:/www/site"}


def test_a_file_that_is_bind_mounted() -> None:
    machine = server()
    machine.mount("/etc/hosts", "vg0/var", root="/lib/hosts", fstype="xfs")
    assert shown(machine.resolve("/etc")) == {"/etc": "254:0:/etc", "/etc/hosts": "254:2:/lib/hosts"}


def test_two_mounts_of_one_volume() -> None:
    machine = server()
    machine.mount("/mnt/a", "vg0/data")
    machine.mount("/mnt/b", "vg0/data")
    assert shown(machine.resolve("/mnt")) == {"/mnt": "254:0:/mnt", "/mnt/a": "254:3:/", "/mnt/b": "254:3:/"}


def test_the_topmost_of_two_mounts_on_one_directory() -> None:
    machine = server()
    machine.mount("/srv", "vg0/old")
    machine.mount("/srv/inner", "vg0/inner")
    machine.mount("/srv", "vg0/new")
    assert shown(machine.resolve("/srv")) == {"/srv": "254:5:/"}


def test_a_source_inside_a_source_is_shown_by_the_outer() -> None:
    assert shown(server().resolve("/home/anna/mail", "/home", "/home/anna")) == {"/home": "254:1:/"}
    assert shown(server().resolve("/", "/etc", "/home/anna")) == shown(server().resolve("/"))


def test_siblings_whose_names_begin_alike() -> None:
    assert set(shown(server().resolve("/srv", "/srv-old", "/srv.d/x"))) == {"/srv", "/srv-old", "/srv.d/x"}


def test_a_source_that_is_missing_is_a_problem() -> None:
    resolved = server().resolve(SeenPath("/gone", "/gone", "missing", error="No such file or directory"))
    assert problems(resolved).startswith("/gone: No such file or directory")


def test_a_source_that_is_missing_may_be_skipped() -> None:
    absent = SeenPath("/etc/x", "/etc/x", "missing", error="No such file or directory")
    hidden = SeenPath("/home/x", "/home/x", "missing", error="Permission denied")
    resolved = server().resolve("/etc", absent, hidden, skip_missing=True)
    assert set(shown(resolved)) == {"/etc"}
    assert resolved.absent == ("/etc/x",)
    assert resolved.notes == ("/etc/x does not exist: nothing of it will be in the backup",)
    assert [problem.partition(":")[0] for problem in resolved.problems] == ["/home/x"]


def test_a_declared_path_that_is_missing_is_a_problem() -> None:
    gone = SeenPath("/gone", "/gone", "missing", error="No such file or directory")
    assert "/gone" in problems(server().resolve("/etc", declared=(gone,)))


class TestLinks:
    def test_what_it_leads_to_is_frozen_and_said_so(self) -> None:
        resolved = server().resolve(link("/srv/current", "/home/releases/7"))
        assert shown(resolved) == {"/home/releases/7": "254:1:/releases/7"}
        assert resolved.notes == (
            "/srv/current is a symbolic link: the link itself is read live, /home/releases/7 is frozen",
        )

    def test_a_link_below_a_source_is_frozen_with_it(self) -> None:
        resolved = server().resolve("/srv", link("/srv/current", "/home/releases/7"))
        assert set(shown(resolved)) == {"/srv", "/home/releases/7"}
        assert resolved.notes == ()

    def test_one_that_leads_nowhere_covers_nothing(self) -> None:
        """Nothing could be mounted there: the run would fail with everything frozen."""
        resolved = server().resolve("/etc", link("/srv/current", "/home/gone", "it leads nowhere"))
        assert shown(resolved) == {"/etc": "254:0:/etc"}
        assert "leads nowhere" in resolved.notes[0]
        assert resolved.problems == ()

    def test_one_whose_end_is_declared_live(self) -> None:
        resolved = server().resolve("/etc", link("/srv/current", "/home/x"), declared=directories("/home"))
        assert set(shown(resolved)) == {"/etc"}
        assert resolved.live_sources == (("/srv/current", "/home"),)
        assert resolved.notes == ()

    def test_a_declared_link_means_what_it_leads_to(self) -> None:
        resolved = server().resolve("/home", declared=(link("/live", "/home/cache"),))
        assert live_paths(resolved) == ["/home/cache"]

    def test_seen_on_disk(self, tmp_path: Path) -> None:
        (tmp_path / "end").mkdir()
        (tmp_path / "good").symlink_to("end")
        (tmp_path / "bad").symlink_to("gone")
        (tmp_path / "loop").symlink_to("loop")
        real = os.path.realpath(tmp_path)
        assert look(f"{tmp_path}/good") == SeenPath(f"{tmp_path}/good", f"{real}/good", "link", f"{real}/end")
        assert look(f"{tmp_path}/good/").kind == "dir"
        assert look(f"{tmp_path}/good/..").real == real
        assert look(f"{tmp_path}/bad").error == "it leads nowhere"
        assert look(f"{tmp_path}/loop").error == "it leads nowhere"
        assert look(f"{tmp_path}/bad/x").kind == "missing"
        assert look("/").real == look("//").real == "/"


class TestLive:
    def test_a_needed_path_below_a_source_is_a_hole(self) -> None:
        resolved = server().resolve("/home", needed=needed("/home/anna/.cache/borg", "/var/cache"))
        assert [(live_path.path, live_path.reason) for live_path in resolved.live_paths] == [
            ("/home/anna/.cache/borg", "cache")
        ]

    def test_a_needed_path_that_is_missing_and_will_not_be_made_is_none(self) -> None:
        gone = SeenPath("/home/x", "/home/x", "missing", error="No such file or directory")
        assert live_paths(server().resolve("/home", needed=((gone, LivePath("/home/x", "cache")),))) == []
        assert live_paths(server().resolve("/home", needed=((gone, LivePath("/home/x", "cache", make=True)),))) == [
            "/home/x"
        ]

    def test_a_needed_path_that_is_a_source_is_refused(self) -> None:
        resolved = server().resolve("/home/anna", needed=needed("/home/anna"))
        assert "/home/anna: must be frozen, but /home/anna (cache)" in problems(resolved)

    def test_a_needed_path_between_two_sources_is_refused(self) -> None:
        resolved = server().resolve("/home", "/home/anna/mail", needed=needed("/home/anna"))
        assert "/home/anna/mail: must be frozen, but /home/anna (cache)" in problems(resolved)

    def test_unless_the_source_is_declared_live(self) -> None:
        resolved = server().resolve("/etc", "/home/anna", declared=directories("/home/anna"), needed=needed("/home"))
        assert resolved.problems == ()
        assert resolved.live_sources == (("/home/anna", "/home/anna"),)

    def test_declared_above_a_source(self) -> None:
        resolved = server().resolve("/etc", "/home/anna/mail", declared=directories("/home"))
        assert set(shown(resolved)) == {"/etc"}
        assert resolved.live_sources == (("/home/anna/mail", "/home"),)
        assert live_paths(resolved) == []

    def test_a_source_below_a_source_that_is_declared(self) -> None:
        resolved = server().resolve("/", "/home", declared=directories("/"), needed=needed("/home/cache"))
        assert shown(resolved) == {"/home": "254:1:/"}
        assert resolved.live_sources == (("/", "/"),)
        assert live_paths(resolved) == ["/home/cache"]

    def test_declared_above_a_source_that_the_user_names(self) -> None:
        resolved = server().resolve("/home/anna", declared=directories("/"), named=True)
        assert shown(resolved) == {"/home/anna": "254:1:/anna"}
        resolved = server().resolve("/home/anna", "/etc", declared=directories("/home/anna"), named=True)
        assert set(shown(resolved)) == {"/etc"}

    def test_a_live_mount_below_a_source_needs_no_snapshot(self) -> None:
        machine = server()
        machine.other("/home/nas", "nfs4")
        resolved = machine.resolve("/home", declared=directories("/home/nas"))
        assert set(shown(resolved)) == {"/home"}
        assert live_paths(resolved) == ["/home/nas"]

    def test_holes_inside_holes_are_bound_with_them(self) -> None:
        resolved = server().resolve("/home", declared=directories("/home/a"), needed=needed("/home/a/b/c"))
        assert live_paths(resolved) == ["/home/a"]

    def test_the_declaration_gives_the_reason_not_the_need(self) -> None:
        resolved = server().resolve("/", declared=directories("/tmp"), needed=needed("/tmp"))
        assert [live_path.reason for live_path in resolved.live_paths if live_path.path == "/tmp"] == ["declared live"]

    def test_the_kernels_windows_stay_live_without_a_word(self) -> None:
        machine = server()
        machine.other("/srv/jail/proc", "proc")
        resolved = machine.resolve("/srv")
        assert [(live_path.path, live_path.reason) for live_path in resolved.live_paths] == [
            ("/srv/jail/proc", "proc, nothing to back up")
        ]

    def test_memory_below_a_source_is_no_window(self) -> None:
        machine = server()
        machine.other("/srv/jail/tmp", "tmpfs")
        assert "/srv/jail/tmp" in shown(machine.resolve("/srv"))  # and the plan will refuse it by name


class TestFileSystemsOfUsers:
    """Root may not look at a FUSE file system of a user's: it is neither a reason to refuse nor one to begin anew."""

    @staticmethod
    def machine(options: str = "rw,user_id=1000,group_id=1000", fstype: str = "fuse.sshfs") -> Machine:
        machine = server()
        mount = machine.other("/home/anna/nas", fstype)
        machine.mounts[-1] = replace(mount, super_options=options)
        return machine

    def test_it_is_left_out_and_said_so(self) -> None:
        resolved = self.machine().resolve("/home")
        assert set(shown(resolved)) == {"/home"}
        assert live_paths(resolved) == []
        assert resolved.notes == (
            "/home/anna/nas (fuse.sshfs) belongs to user 1000, and not even root may read it: it is not in the backup",
        )

    @pytest.mark.parametrize("declared", ["/home/anna/nas", "/home/anna"])
    def test_declared_live_it_is_not_spoken_of(self, declared: str) -> None:
        resolved = self.machine().resolve("/home", declared=directories(declared))
        assert set(shown(resolved)) == {"/home"}
        assert resolved.problems == resolved.notes == ()

    @pytest.mark.parametrize(
        ("options", "fstype"),
        [
            ("rw,user_id=1000,group_id=1000,allow_other", "fuse.sshfs"),
            ("rw,user_id=0,group_id=0", "fuse.sshfs"),
            ("rw", "nfs4"),
        ],
    )
    def test_what_root_can_read_is_refused_as_before(self, options: str, fstype: str) -> None:
        assert "/home/anna/nas" in shown(self.machine(options, fstype).resolve("/home"))

    def test_its_coming_and_going_is_nobodys_business(self) -> None:
        before, after = server(), self.machine()
        resolved = before.resolve("/home")
        assert mounts_around(resolved, before.table()) == mounts_around(resolved, after.table())


class TestSourcesBelowTheRootsOwnLivePaths:
    """A frozen root needs /dev, /proc, /sys, /run and /tmp live; a source below one of them is frozen all the same."""

    @pytest.mark.parametrize("source", ["/tmp/important", "/run/important"])
    def test_it_is_covered_again(self, source: str) -> None:
        machine = Machine()
        assert shown(machine.resolve("/", source)) == {"/": "254:0:/", source: f"254:0:{source}"}

    def test_the_source_itself_takes_the_place_of_the_hole(self) -> None:
        resolved = Machine().resolve("/", "/tmp")
        assert set(shown(resolved)) == {"/"}
        assert live_paths(resolved) == ["/dev", "/proc", "/run", "/sys"]

    def test_what_is_mounted_below_it_is_covered_too(self) -> None:
        machine = server()
        machine.mount("/run/data", "vg0/data")
        machine.mount("/run/data/more", "vg0/more")
        assert {"/run/data", "/run/data/more"} <= set(shown(machine.resolve("/", "/run/data")))

    def test_a_live_path_below_it_is_a_hole_again(self) -> None:
        machine = server()
        machine.mount("/run/data", "vg0/data")
        resolved = machine.resolve("/", "/run/data", needed=needed("/run/data/cache"))
        assert "/run/data/cache" in live_paths(resolved)


class TestOneFileSystem:
    def test_other_file_systems_stay_live(self) -> None:
        resolved = server().resolve("/", one_file_system=True)
        assert set(shown(resolved)) == {"/"}
        assert live_paths(resolved) == sorted([*ROOT_LIVE, "/home", "/var"])

    def test_unless_they_are_named(self) -> None:
        resolved = server().resolve("/", "/home", one_file_system=True)
        assert set(shown(resolved)) == {"/", "/home"}
        assert "/home" not in live_paths(resolved)

    def test_a_directory_below_one_is_named(self) -> None:
        resolved = server().resolve("/", "/home/anna", one_file_system=True)
        assert shown(resolved) == {"/": "254:0:/", "/home/anna": "254:1:/anna"}
        assert "/home" in live_paths(resolved)

    def test_a_bind_mount_of_the_same_one_is_covered(self) -> None:
        machine = server()
        machine.mount("/srv/www", root="/data/www")
        machine.mount("/srv/www/again", root="/")
        resolved = machine.resolve("/srv", one_file_system=True)
        assert shown(resolved) == {"/srv": "254:0:/srv", "/srv/www": "254:0:/data/www", "/srv/www/again": "254:0:/"}
        assert live_paths(resolved) == []

    def test_a_bind_mount_that_lies_on_another_one_is_not_reached(self) -> None:
        machine = server()
        machine.mount("/var/www", root="/data/www")
        resolved = machine.resolve("/", one_file_system=True)
        assert set(shown(resolved)) == {"/"}
        assert "/var/www" not in live_paths(resolved)  # /var is bound with all that is mounted there

    def test_a_bind_mount_that_is_excluded_stays_live(self) -> None:
        machine = server()
        machine.mount("/srv/www", root="/data/www")
        resolved = machine.resolve("/srv", one_file_system=True, excluded=(Excluded("/srv/www", "--exclude"),))
        assert live_paths(resolved) == ["/srv/www"]

    def unread(self, *sources: str, **wanted: object) -> Resolved:
        """What becomes of live paths below the sources."""
        machine = server()
        seen = Wanted(directories(*sources), **{"one_file_system": True, **wanted})  # type: ignore[arg-type]
        return consent.unread(seen, resolve(seen, machine.table()), machine.table())

    def test_a_declared_path_that_is_not_entered_then_is_refused(self) -> None:
        resolved = self.unread("/srv", declared=directories("/srv/enc"))
        assert "/srv/enc: it is to be read live, but" in problems(resolved)
        assert "name it as a source as well, or exclude it" in problems(resolved)

    @pytest.mark.parametrize(
        ("sources", "wanted"),
        [
            (["/srv", "/srv/enc"], {}),  # what is named is entered
            (["/srv"], {"excluded": (Excluded("/srv/enc", "--exclude"),)}),
            (["/srv"], {"excluded": (Excluded("/srv/enc", "--exclude", inside=True),)}),
            (["/srv"], {"one_file_system": False}),
            (["/"], {"declared": directories("/home/enc")}),  # it is not entered in a plain run either
            (["/srv"], {"declared": (SeenPath("/srv/socket", "/srv/socket", "file"),)}),
        ],
    )
    def test_unless_it_is_read_or_would_not_be_read_anyway(self, sources: list[str], wanted: dict[str, object]) -> None:
        resolved = self.unread(*sources, **{"declared": directories("/srv/enc"), **wanted})
        assert resolved.problems == ()

    def test_a_declared_file_is_refused_where_the_program_skips_files_too(self) -> None:
        resolved = self.unread("/srv", declared=(SeenPath("/srv/f", "/srv/f", "file"),), skips_files=True)
        assert "/srv/f: it is to be read live, but" in problems(resolved)

    def test_the_user_is_told_of_what_is_needed(self) -> None:
        resolved = self.unread("/", needed=needed("/root/.cache/restic"))
        told = next(note for note in resolved.notes if "stays on one file system" in note)
        assert "/root/.cache/restic (cache), /sys (the kernel), /tmp (the command's temporary files)" in told
        assert "/run" not in told  # which lies on another one
        assert resolved.problems == ()

    def test_not_of_what_the_program_does_not_save_or_has_still_to_make(self) -> None:
        repository = (directory("/srv/r"), LivePath("/srv/r", "the repository", unsaved=True))
        cache = (SeenPath("/srv/c", "/srv/c", "missing"), LivePath("/srv/c", "cache", make=True))
        assert self.unread("/srv", needed=(repository, cache)).notes == ()

    def test_a_named_one_between_two_live_ones(self) -> None:
        machine = server()
        machine.mount("/var/lib/pg", "vg0/pg")
        machine.mount("/var/lib/pg/wal", "vg0/wal")
        resolved = machine.resolve(
            "/", "/var/lib/pg", one_file_system=True, needed=needed("/var/lib/pg/cache", "/var/cache")
        )
        assert set(shown(resolved)) == {"/", "/var/lib/pg"}
        assert live_paths(resolved) == sorted([*ROOT_LIVE, "/home", "/var", "/var/lib/pg/cache", "/var/lib/pg/wal"])


def calls(mounts: int) -> int:
    """How many calls it takes to plan a machine with that many mounts and half as many volumes and sources."""
    machine = Machine()
    for number in range(mounts // 2):
        machine.add(f"data{number % 5}/v{number}", replace(VOLUME, uuid=f"uuid-{number}", vg_free=1 << 60))
        machine.mount(f"/srv/group{number % 7}/v{number}", f"data{number % 5}/v{number}", fstype="xfs")
        machine.other(f"/srv/group{number % 7}/v{number}/proc", "proc")
    sources = ["/", *(f"/srv/group{number % 7}/v{number}/folder" for number in range(mounts // 2))]
    live = directories(*(f"/srv/group{number % 7}/v{number}/cache" for number in range(mounts // 2)))
    count = 0

    def tick(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tick)
    try:
        plan = machine.plan(machine.resolve(*sources, declared=live))
    finally:
        sys.setprofile(before)
    assert len(plan.snapshots) == mounts // 2 + 1
    return count


def test_planning_a_large_machine_is_linear_work() -> None:
    small, large = calls(1000), calls(2000)
    assert large < 2.2 * small, (small, large)


def test_a_live_path_around_a_source_is_no_conflict_when_nothing_covers_it() -> None:
    resolved = server().resolve("/srv/data", needed=needed("/srv"))
    assert problems(resolved) == ""
    assert shown(resolved) == {"/srv/data": "254:0:/srv/data"}


def test_a_list_of_more_sources_than_mounts_are_good_for_is_refused() -> None:
    resolved = server().resolve(*(f"/srv/{number}" for number in range(2001)))
    assert "2001 source paths" in problems(resolved)
    assert "--path" in problems(resolved)


def containers() -> Machine:
    """A server with containers, whose mounts have other names every day."""
    machine = server()
    machine.other("/var/lib/docker/overlay2/0123456789abcdef/merged", "overlay")
    machine.other("/snap/core/1234", "squashfs")
    machine.other("/home/anna/.gvfs", "fuse.gvfsd-fuse")
    return machine


DOCKER = Excluded("/var/lib/docker", "--exclude /var/lib/docker")


def test_what_is_mounted_in_an_excluded_directory_stays_live() -> None:
    resolved = containers().resolve("/", excluded=(DOCKER,), live_types=("fuse.*", "squashfs"))
    reasons = {live_path.path: live_path.reason for live_path in resolved.live_paths if live_path.path not in ROOT_LIVE}
    assert reasons == {
        "/home/anna/.gvfs": "fuse.gvfsd-fuse, declared live (live_types: fuse.*)",
        "/snap/core/1234": "squashfs, declared live (live_types: squashfs)",
        "/var/lib/docker/overlay2/0123456789abcdef/merged": "the command leaves it out (--exclude /var/lib/docker)",
    }
    assert sorted(shown(resolved)) == ["/", "/home", "/var"]


def test_a_source_is_never_left_out() -> None:
    machine = containers()
    resolved = machine.resolve("/home", "/snap/core/1234", excluded=(Excluded("/home", "-e"),), live_types=("*",))
    assert sorted(shown(resolved)) == ["/home", "/snap/core/1234"]


def test_by_another_name_it_is_not_excluded() -> None:
    """The command comes to the directory by two names, of which one is not excluded."""
    twice = (link("/srv/var", "/var"), directory("/"))
    resolved = containers().resolve(*twice, excluded=(DOCKER,))
    assert "/var/lib/docker/overlay2/0123456789abcdef/merged" in shown(resolved)
    one = (Excluded(DOCKER.path, DOCKER.option, sources=frozenset({"/var"})),)
    assert "/var/lib/docker/overlay2/0123456789abcdef/merged" in shown(containers().resolve("/", "/var", excluded=one))
    assert "/var/lib/docker/overlay2/0123456789abcdef/merged" in live_paths(containers().resolve("/var", excluded=one))


def test_containers_that_come_and_go_meanwhile_change_no_plan() -> None:
    machine = containers()
    for wanted in ({"excluded": (DOCKER,)}, {"live_types": ("overlay",)}):
        resolved = machine.resolve("/", **wanted)
        later = containers()
        later.other("/var/lib/docker/overlay2/fedcba9876543210/merged", "overlay")
        assert mounts_around(resolved, machine.table()) == mounts_around(resolved, later.table())
        later.other("/var/lib/new", "ext4")
        assert mounts_around(resolved, machine.table()) != mounts_around(resolved, later.table())


@pytest.mark.parametrize(
    ("path", "fstype", "sources", "options"),
    [
        ("/var/lib/docker/overlay2/0123456789abcdef/merged", "overlay", ["/"], "/var/lib/docker/overlay2"),
        ("/var/lib/docker/containers/0123456789abcdef/mounts/shm", "tmpfs", ["/"], "/var/lib/docker/containers"),
        ("/snap/core/x12", "squashfs", ["/"], "/snap/core"),
        ("/snap/core/1234", "squashfs", ["/snap"], "/snap/core"),
        ("/srv/2024/old", "btrfs", ["/"], "/srv/2024/old"),
        ("/home/1000/0123456789abcdef/merged", "overlay", ["/"], "/home/1000"),
        ("/snap/core/1234", "tmpfs", ["/snap/core"], "/snap/core/1234"),
        ("/snap/core/1234", "tmpfs", ["/snap/core/1234"], "/snap/core/1234"),
        ("/var/pods/12345678-1234-1234-1234-123456789abc/v/4", "tmpfs", ["/var"], "/var/pods"),
        ("/home/anna/sshfs", "fuse.sshfs", ["/"], "/home/anna/sshfs"),
    ],
)
def test_the_hint_names_what_will_be_there_tomorrow(path: str, fstype: str, sources: list[str], options: str) -> None:
    machine = server()
    machine.other(path, fstype)
    resolved = machine.resolve(*sources)
    frozen_path = next(frozen_path for frozen_path in resolved.frozen if frozen_path.target == path)
    nested = path not in sources and fstype not in ("tmpfs", "btrfs")
    every = f" (or --live-type {fstype}, for all of its kind)" if nested else ""
    assert consent.way_out(frozen_path, resolved) == f"{if_live(options)}{every}"


def test_a_file_beside_which_the_command_writes_is_not_frozen() -> None:
    def refused(resolved: Resolved, path: str = "/srv/app/db") -> list[str]:
        seen = SeenPath(path, path, "missing" if path == "/none" else "file")
        return list(consent.unwritable(resolved, [(seen, LivePath(path, "it is dumped"))]))

    machine = server()
    why = f"/srv/app/db: it is dumped; {if_live('/srv/app')}"
    assert refused(machine.resolve("/srv")) == [why]
    assert refused(machine.resolve("/")) == [why]
    assert refused(machine.resolve(SeenPath("/srv/app/db", "/srv/app/db", "file"))) == [why]
    assert refused(machine.resolve("/srv", declared=directories("/srv/app/db"))) == [why], "its log is beside it"
    assert refused(machine.resolve("/srv", declared=directories("/srv/app"))) == []
    assert refused(machine.resolve("/etc")) == []
    assert refused(machine.resolve("/"), "/none") == []
