"""`/` itself as the source: the command gets a frozen root, and what it must write or talk to stays live."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.machine.btrfs_subvolumes import gathers
from tests.rig import Rig
from tests.rig.native import native
from tests.system.support.backups.archives import Borg
from tests.system.support.hosts.rootfs import Root
from tests.system.support.runs.gate import BORG_LVM, Gate

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine

# What a program may expect of a machine, told on standard error; the gate is passed all the same.
LOOK = """\
{
echo "cwd $(pwd) $(cat notes)"
echo "etc $(cat /etc/setting)"
test /proc/self -ef /proc/$$ && echo 'proc is there'
grep -q ' / ro,' /proc/self/mountinfo && echo 'the root is read-only'
touch /etc/forbidden 2>/dev/null || echo 'etc cannot be written'
[ -d /sys/kernel ] && echo 'sys is there'
echo x >/dev/null && [ -c /dev/null ] && [ -d /dev/mapper ] && echo 'dev is there'
echo 'by the command' >/run/made-by-the-command && echo 'run can be written'
echo x >/tmp/file && [ "$(cat /tmp/file)" = x ] && echo 'tmp can be written'
touch /root/repository/repository/touched && echo 'the repository can be written'
} >&2
"""
SEEN = """\
proc is there
the root is read-only
etc cannot be written
sys is there
dev is there
run can be written
tmp can be written
the repository can be written
""".splitlines()


@pytest.fixture(autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


FILES = ("etc/setting", "home/user/notes", "var/lib/state", "srv/page")


@pytest.mark.parametrize("one_file_system", [False, True], ids=["nested", "one-file-system"])
@pytest.mark.some_kernel
def test_root_is_frozen_with_all_that_is_mounted_below(rig: Rig, one_file_system: bool) -> None:
    saved(rig, Root(rig), one_file_system=one_file_system)


@pytest.mark.needs("btrfs")
@pytest.mark.each_series
def test_the_same_on_a_btrfs_without_volumes(rig: Rig) -> None:
    """Before Linux 6.12 its subvolumes have an instant each."""
    tree = native(rig, "machine", disks=1, mib=512)
    saved(rig, Root(rig, tree=tree), one_by_one=not gathers(os.uname().release))
    assert tree.snapshots() == []


def saved(rig: Rig, root: Root, *, one_file_system: bool = False, one_by_one: bool = False) -> None:
    """Have borg save `/`, and see that it got the frozen one, and what it must have of the live one."""
    for name in FILES:
        (root.top / name).write_text("before")
    borg = Borg.made(root.top / "root" / "repository")
    inside = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    env = {"HOME": "/root", "TMPDIR": "/tmp", **inside}
    gate = Gate(rig.path("gate"), "borg", LOOK)
    options = [*root.excludes("/root/.cache", "/root/.config", "/root/repository", "*/lost+found")]
    options += ["--one-file-system"] if one_file_system else []
    consistency = ["--consistency", "per-volume" if one_by_one else "instant"]
    create: list[str | Path] = [gate.program, "create", *options, "/root/repository/repository::a", "/"]
    config = rig.path("config.yaml")
    config.write_text("deadline: 60\n")  # three volumes take their time where lvcreate is emulated
    frozen_run: list[str | Path] = [BORG_LVM, "run", "--config", config, *consistency, *root.live_options(), "--"]
    argv = root.entering("/home/user", *frozen_run, *create)
    with gate.closed(*argv, env=env) as passing:
        for name in FILES:
            (root.top / name).write_text("after")
        (root.top / "srv" / "new").write_text("after")
    said = passing.said.err.splitlines()
    assert [line for line in said if line in SEEN] == SEEN
    # The gate's script looked before the files were changed; the archive was made after.
    nested = {} if one_file_system else {"home/user/notes": "before", "var/lib/state": "before"}
    assert "cwd /home/user before" in said
    contents = borg.contents("a")
    assert {name: contents[name] for name in FILES if name in contents} == {
        "etc/setting": "before",
        "srv/page": "before",
        **nested,
    }
    assert "etc/passwd" in contents
    assert "srv/new" not in contents
    paths = set(borg.paths("a"))
    assert {"home", "var", "etc", "root"} <= paths
    # Repository, cache and configuration were written where they always are, and not into a copy that is gone.
    assert (root.top / "root/repository/repository/touched").exists()
    assert list((root.top / "root/.cache/borg").glob("*/files*"))
    assert list((root.top / "root/.config/borg").iterdir())
    assert Path("/run/made-by-the-command").read_text() == "by the command\n"
    assert not (root.top / "etc/forbidden").exists()
    Path("/run/made-by-the-command").unlink()
    frozen = [line for line in said if line.startswith("borg-lvm: frozen at ")]
    assert len(frozen) == (len(root.names) if one_by_one else 1)
    for number, name in enumerate(root.names):
        assert (name in " ".join(frozen)) == (number == 0 or not one_file_system)


def test_without_us_the_files_are_read_live(rig: Rig) -> None:
    """Prove that the judge above can fail."""
    root = Root(rig)
    (root.top / "etc/setting").write_text("before")
    gate = Gate(rig.path("gate"), "cat")
    with gate.closed(*root.entering("/home/user", gate.program, "/etc/setting")) as passing:
        (root.top / "etc/setting").write_text("after")
    assert passing.said.out == "after"
