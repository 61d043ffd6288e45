"""No link is followed and nothing is left, by openat2 and by the walk that takes its place in a sandbox."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borg_lvm.errors import SnapshotError
from borg_lvm.linux import safe_open, syscalls
from borg_lvm.linux.safe_open import Identity
from tests.unit.trees import linked, open_files


@pytest.fixture(params=["openat2", errno.ENOSYS, errno.EPERM], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "openat2":
        try:
            os.close(syscalls.openat2(-1, "/", os.O_PATH, 0))
        except OSError:
            pytest.skip("this kernel, or a sandbox around us, has no openat2")
        return

    def refused(*_: object) -> int:
        raise OSError(request.param, "openat2")

    monkeypatch.setattr(syscalls, "openat2", refused)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return linked(tmp_path)


def read(path: str, at: int | None = None) -> str:
    with safe_open.path(path, at) as fd:
        again = safe_open.reopened(fd, os.O_RDONLY)
        with os.fdopen(again) as file:
            return file.read()


def test_plain_paths(top: Path) -> None:
    before = open_files()
    assert read(f"{top}/a/b/file") == "in a/b"
    assert read(f"{top}//a/./b/file/") == "in a/b"
    with safe_open.path(f"{top}/a") as at:
        assert read("b/file", at) == "in a/b"
        assert read("/b/file", at) == "in a/b"
        with safe_open.path("", at) as same:
            assert safe_open.identity(same) == safe_open.identity(at)
        assert not os.get_inheritable(at)
    assert open_files() == before


@pytest.mark.parametrize("path", ["a/link", "a/link/file", "a/relative/file", "a/b/linked", "a/relative"])
def test_no_link_is_followed(top: Path, path: str) -> None:
    before = open_files()
    with pytest.raises(OSError, match=r".") as raised:
        safe_open.opened(f"{top}/{path}")
    assert raised.value.errno in (errno.ELOOP, errno.ENOTDIR)
    with safe_open.path(str(top)) as at, pytest.raises(OSError, match=r"."):
        safe_open.opened(path, at)
    with pytest.raises(SnapshotError, match=r"replaced or moved.*symbolic link"):
        safe_open.seen(f"{top}/{path}")
    assert safe_open.shown(f"{top}/{path}") == Identity(0, 0)
    assert open_files() == before


@pytest.mark.parametrize("path", ["..", "a/../out/file", "../x"])
def test_there_is_no_way_up(top: Path, path: str) -> None:
    with safe_open.path(str(top)) as at, pytest.raises(OSError, match="not a plain path"):
        safe_open.opened(path, at)
    with pytest.raises(OSError, match="not a plain path"):
        safe_open.opened("relative")


def test_what_is_seen_and_then_another(top: Path) -> None:
    name = f"{top}/a/b"
    known = safe_open.seen(name)
    assert known
    assert safe_open.seen(f"{top}/none") is None
    with safe_open.as_seen(name, known) as fd:
        assert safe_open.identity(fd) == known
    (top / "a" / "b").rename(top / "a" / "was")
    (top / "a" / "b").mkdir()
    with pytest.raises(SnapshotError, match="something else has its name"), safe_open.as_seen(name, known):
        pass
    (top / "a" / "b").rmdir()
    (top / "a" / "b").symlink_to("was")
    with pytest.raises(SnapshotError, match="symbolic link"), safe_open.as_seen(name, known):
        pass
    with pytest.raises(SnapshotError, match="something else is mounted"):
        safe_open.seen(str(top), mount=-1)


def test_pipes_and_devices_are_not_opened(top: Path) -> None:
    os.mkfifo(top / "pipe")
    for name in (f"{top}/pipe", "/dev/null"):
        with safe_open.path(name) as fd, pytest.raises(OSError, match="neither a directory nor a regular file"):
            safe_open.reopened(fd, os.O_RDONLY)


def test_directories_are_made_through_no_link(top: Path) -> None:
    os.close(safe_open.directories(f"{top}/a/new/er"))
    assert (top / "a" / "new" / "er").stat().st_mode & 0o777 == 0o700
    for path in ("a/link/new", "a/relative/new"):
        with pytest.raises(OSError, match=r"."):
            safe_open.directories(f"{top}/{path}")
    assert [path.name for path in (top / "out").iterdir()] == ["file"]


def test_a_new_file_takes_the_place_of_nothing(top: Path) -> None:
    with safe_open.path(f"{top}/a") as directory:
        safe_open.new_file(directory, "label", b"x")
        for name in ("label", "link", "b"):
            with pytest.raises(FileExistsError):
                safe_open.new_file(directory, name, b"y")
        for name in ("b/x", "..", ""):
            with pytest.raises(OSError, match="not a plain name"):
                safe_open.new_file(directory, name, b"y")
    assert (top / "a" / "label").read_bytes() == b"x"


def test_what_is_shown_at_a_path_is_known_without_following_it(top: Path) -> None:
    with safe_open.path(f"{top}/a/b") as fd:
        known = safe_open.identity(fd)
        assert safe_open.mount_id(fd) > 0
    assert safe_open.shown(f"{top}/a/b") == known == safe_open.seen(f"{top}/a/b")
    assert safe_open.shown(f"{top}/none") == Identity(0, 0)
    assert safe_open.leads_to(f"{top}/a/link") != f"{top}/a/link"
    assert safe_open.is_there(f"{top}/a/link")
    assert not safe_open.is_there(f"{top}/none")
    with pytest.raises(OSError, match="Bad file descriptor"):
        safe_open.identity(fd)


def test_a_device_is_known_by_its_number_and_by_a_link_only_if_the_user_gave_it(top: Path) -> None:
    null = os.stat("/dev/null").st_rdev
    (top / "device").symlink_to("/dev/null")
    assert safe_open.device_at("/dev/null") == null
    assert safe_open.device_at(f"{top}/device", links=True) == null
    assert safe_open.device_at(f"{top}/device") == 0
    assert safe_open.device_at(f"{top}/none", links=True) == 0
    assert safe_open.device_behind(f"{top}/device") == os.stat("/dev").st_dev
    assert safe_open.device_behind(f"{top}/none") == 0
    assert safe_open.own_device_number(f"{top}/device") == null
    with open(safe_open.own_device_opened("/dev/zero"), "rb", buffering=0) as zero:
        assert zero.read(2) == b"\0\0"


def test_the_space_that_is_used_is_that_of_the_file_system(top: Path) -> None:
    there = os.statvfs(top)
    assert 0 <= safe_open.used(str(top)) <= there.f_blocks * there.f_frsize
    for name in ("a/link", "none"):
        with pytest.raises(SnapshotError, match="was replaced or moved"):
            safe_open.used(f"{top}/{name}")


def test_a_directory_is_entered_through_no_link(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    safe_open.enter(f"{top}/a")
    assert os.getcwd() == f"{top}/a"
    with pytest.raises(OSError, match=r"."):
        safe_open.enter(f"{top}/a/link")
    assert os.getcwd() == f"{top}/a"


NAMES = st.sampled_from(["a", "b", "file", "link", "relative", "linked", "out", "..", ".", "", "none"])


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, max_size=6))
def test_whatever_the_path_it_stays_below(top: Path, names: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with safe_open.path(f"{top}/a") as at:
        with suppress(OSError):
            fd = safe_open.opened("/".join(names), at)
            there = os.readlink(safe_open.magic(fd))
            os.close(fd)
            assert there == os.path.normpath(f"{top}/a/{'/'.join(names)}")
            assert there == f"{top}/a" or there.startswith(f"{top}/a/")
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # what earlier tests have left open may go meanwhile


def test_a_path_may_be_longer_than_the_kernel_takes_at_once(tmp_path: Path) -> None:
    before = open_files()
    names = ["d" * 250] * 20
    here = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.symlink("/", "link", dir_fd=here)
    inode = os.fstat(here).st_ino
    os.close(here)
    path = "/".join(names)
    with safe_open.path(str(tmp_path)) as top:
        for name, at in ((path, top), (f"{tmp_path}/{path}", None)):
            with safe_open.path(name, at, safe_open.DIRECTORY) as fd:
                assert os.fstat(fd).st_ino == inode
            with pytest.raises(OSError, match="link"):
                safe_open.opened(f"{name}/link", at)
    assert open_files() == before


def test_a_link_that_is_exchanged_while_it_is_followed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until Python 3.12 that is an error of realpath(3): once, or each time."""
    follow, left = os.path.realpath, [1]

    def exchanged(path: str) -> str:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return follow(path)

    monkeypatch.setattr(os.path, "realpath", exchanged)
    assert safe_open.leads_to(f"{top}/a/link") == follow(f"{top}/a/link")
    left[0] = 1000
    with pytest.raises(SnapshotError, match="exchanged again and again"):
        safe_open.leads_to(f"{top}/a/link")
