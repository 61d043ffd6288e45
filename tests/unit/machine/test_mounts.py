"""The mount table: recorded ones read right, and which mounts a path can reach."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_lvm.errors import SourceError
from borg_lvm.machine.mounts import Mount, Table, above, join, parse, relative, visible
from tests.unit.data.machine import Namespace

DATA = Path(__file__).parents[1] / "data"


def recorded(name: str) -> list[Mount]:
    return parse(os.fsdecode((DATA / f"mountinfo-{name}").read_bytes()))


def of(name: str, path: str) -> Mount:
    return Table(recorded(name)).of(path)


def test_a_line_without_optional_fields() -> None:
    assert parse("36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw,errors=continue\n") == [
        Mount(36, 35, "98:0", "/mnt1", "/mnt2", "rw,noatime", "ext3", "/dev/root", "rw,errors=continue")
    ]


def test_optional_fields_are_skipped() -> None:
    (mount,) = parse("36 35 98:0 / /mnt rw shared:1 master:2 propagate_from:3 unbindable - xfs /dev/x rw,nouuid")
    assert (mount.fstype, mount.source, mount.super_options) == ("xfs", "/dev/x", "rw,nouuid")


def test_an_empty_source_is_read_as_one() -> None:
    (mount,) = parse("36 35 0:5 / /mnt rw - tmpfs  rw,size=1k")
    assert (mount.source, mount.super_options) == ("", "rw,size=1k")


def test_a_debian_server() -> None:
    assert of("debian", "/etc/passwd").source == "/dev/mapper/vg0-root"
    assert of("debian", "/home/anna").device == "254:2"
    assert of("debian", "/var/lib/postgresql").source == "/dev/mapper/vg0-var"
    assert of("debian", "/boot").device == "8:1"
    assert of("debian", "/proc/sys/fs/binfmt_misc").fstype == "binfmt_misc"  # not the autofs under it


def test_a_volume_that_is_mounted_twice() -> None:
    first, second = of("debian", "/srv/www"), of("debian", "/mnt/www")
    assert first.device == second.device
    assert first.inside("/srv/www/index.html") == "/index.html"
    assert second.inside("/mnt/www/index.html") == "/htdocs/index.html"


def test_luks_on_a_volume_shows_the_mapping() -> None:
    assert of("debian", "/secret/key").source == "/dev/mapper/secret_crypt"


def test_blanks_line_breaks_and_backslashes_in_names() -> None:
    paths = {mount.path for mount in recorded("names")}
    assert {"/mnt/my disk", "/mnt/a\nb", "/mnt/tab\there", "/mnt/back\\slash", "/mnt/octal\\040"} <= paths


def test_names_that_are_not_utf_8_come_through_unchanged() -> None:
    mount = of("names", os.fsdecode(b"/mnt/caf\xe9/x"))
    assert os.fsencode(mount.path) == b"/mnt/caf\xe9"
    assert os.fsencode(mount.root) == b"/b\xfcro"
    assert os.fsencode(mount.inside(os.fsdecode(b"/mnt/caf\xe9/x"))) == b"/b\xfcro/x"


def test_a_hash_in_a_source_is_escaped_by_the_kernel_too() -> None:
    assert of("names", "/mnt/share").source == "//nas/we#1"


def test_line_separators_that_are_none_for_the_kernel() -> None:
    assert [mount.path for mount in parse("1 0 8:1 / /a\x0b\u2028\x85b rw - ext4 /dev/a rw\n")] == ["/a\x0b\u2028\x85b"]


def test_a_docker_host() -> None:
    mounts = recorded("docker")
    assert {mount.fstype for mount in Table(mounts).mounts} >= {"overlay", "nsfs", "tmpfs", "nfs4", "autofs"}
    assert of("docker", "/var/lib/docker/overlay2/1f2e/merged/etc").fstype == "overlay"
    assert of("docker", "/var/lib/docker/volumes").source == "/dev/mapper/docker-docker--data"
    assert of("docker", "/mnt/nas/projects/x").source == "nas:/export/projects"
    assert of("docker", "/mnt/nas").fstype == "autofs"


def test_what_is_mounted_over_a_directory_hides_what_is_below() -> None:
    assert of("covered", "/srv/data").source == "/dev/mapper/vg0-new"
    assert of("covered", "/srv/data/inner").source == "/dev/mapper/vg0-new"  # the nested one is gone from sight
    assert of("covered", "/opt").source == "/dev/mapper/vg0-opt2"
    assert of("covered", "/opt/deep/er").source == "/dev/mapper/vg0-opt2"
    assert of("covered", "/mnt").source == "/dev/mapper/vg0-top"  # three on one directory
    assert len(Table(recorded("covered")).mounts) == 4


def test_a_bind_mount_of_the_root_over_itself_changes_nothing() -> None:
    """Who is there already keeps the old root: `mount --bind / /` is seen by nobody, and hides nothing."""
    mounts = parse(
        "43 42 254:0 / / rw - ext4 /dev/vda rw\n"
        "63 43 254:1 / /home rw - ext4 /dev/vdb rw\n"
        "64 43 254:0 / / rw - ext4 /dev/vda rw\n"
        "65 64 254:3 / /late rw - ext4 /dev/vdc rw\n"
    )
    assert {mount.id for mount in visible(mounts)} == {43, 63}
    assert Table(mounts).of("/home/anna").id == 63


def test_a_chroot_that_is_no_mount_is_told_so() -> None:
    table = Table(parse("63 43 254:1 / /home rw - ext4 /dev/vdb rw\n"))
    assert table.of("/home/anna").id == 63
    with pytest.raises(SourceError, match="chroot") as told:
        table.of("/etc")
    assert "mount --bind" in told.value.remedy


def test_our_own_table_can_be_read() -> None:
    from borg_lvm.machine import mounts

    assert mounts.Table(mounts.read()).of("/proc").fstype == "proc"


@pytest.mark.parametrize(
    ("path", "directories"),
    [
        ("/", []),
        ("/a", ["/"]),
        ("/a/b/c", ["/a/b", "/a", "/"]),
        ("/a b/c\n", ["/a b", "/"]),
        ("relative", []),
        ("a/b", ["a"]),
        ("", []),
        ("//x", ["/"]),
        ("//x/y", ["//x", "/"]),
        ("///", []),
    ],
)
def test_above(path: str, directories: list[str]) -> None:
    assert list(islice(above(path), 9)) == directories


@pytest.mark.parametrize(
    ("path", "base", "rest"), [("/a/b", "/a", "b"), ("/a", "/a", ""), ("/a/b", "/", "a/b"), ("/", "/", "")]
)
def test_relative_and_join_are_opposites(path: str, base: str, rest: str) -> None:
    assert relative(path, base) == rest
    assert join(base, rest) == path


PLACES = st.lists(st.sampled_from("ab"), max_size=4).map(lambda names: "/" + "/".join(names))
BLANK = Mount(1, 0, "254:0", "/", "/", "rw", "ext4", "/dev/root", "rw")


@settings(deadline=None)
@given(st.lists(PLACES, max_size=12), st.lists(PLACES, min_size=1, max_size=8), st.randoms())
def test_lookups_agree_with_a_kernel_that_walks(points: list[str], paths: list[str], random: Random) -> None:
    namespace = Namespace(BLANK)
    mounts = [BLANK]
    for number, point in enumerate(points, start=2):
        mounts.append(namespace.mount(replace(BLANK, id=number, device=f"254:{number}", path=point)))
    random.shuffle(mounts)  # the table's order is not to matter
    table = Table(mounts)
    for path in [*paths, *points]:
        assert table.of(path).id == namespace.of(path).id
    reachable = {namespace.of(mount.path).id for mount in mounts}
    assert {mount.id for mount in visible(mounts)} == reachable
