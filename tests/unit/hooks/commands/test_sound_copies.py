"""What tar and rsync leave otherwise by their own rules is no difference: the programs themselves, on small trees."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from borg_lvm.config.proof_settings import PlannedProof
from borg_lvm.plugins import manager
from borg_lvm.plugins.backup_command import Invocation, Span
from borg_lvm.proof.frozen_tree import FrozenTree
from borg_lvm.proof.programs import ViewPrograms
from borg_lvm.proof.read_back import Comparison
from borg_lvm.proof.tally import Tally
from borg_lvm.reporting.proof import Proof

pytestmark = pytest.mark.process
PLANNED = PlannedProof("all", 10, 1 << 20, 60, (), 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a tree with hard links of each type."""
    made = tmp_path / "tree"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_bytes(b"file")
    (made / "sub" / "link").symlink_to("../file")
    os.mkfifo(made / "pipe")
    for name in ("file", "sub/link", "pipe"):
        os.link(made / name, made / f"{name}-2", follow_symlinks=False)
    return made


def proven(tree: Path, *argv: str | Path) -> Proof:
    """Run a command, and return what comes of reading back what it has saved of the tree."""
    subprocess.run(list(map(str, argv)), check=True, capture_output=True)
    return compared(tree, *argv)


def compared(tree: Path, *argv: str | Path) -> Proof:
    """Return what comes of comparing what a command has saved before with the tree as it is."""
    invocation = Invocation(tuple(map(str, argv)), dict(os.environ), "/")
    answer = manager.read_back(("tar", "rsync"), invocation)
    assert answer
    assert not answer.refused
    programs = ViewPrograms(invocation, time.monotonic() + 60)
    frozen = FrozenTree([str(tree)], [os.stat(tree).st_dev], [], {})
    comparison = Comparison(PLANNED, frozen, programs, Tally(lambda tally: None))
    return comparison.prove(answer, Span(0, time.time()))


@pytest.mark.parametrize(
    "words",
    [
        ["--format=gnu"],
        ["--format=gnu", "--label=a label"],
        ["--format=posix", "--label=a label"],
        ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,ctime:=0"],
    ],
    ids=["links", "label", "posix", "headers"],
)
def test_tar(tree: Path, words: list[str]) -> None:
    found = proven(tree, "tar", *words, "-cf", tree.parent / "a.tar", tree)
    assert (found.state, found.differences, found.entries) == ("proven", (), 8)


def test_tar_is_given_a_directory_twice(tree: Path) -> None:
    found = proven(tree, "tar", "-cf", tree.parent / "a.tar", tree, tree / "sub")
    assert (found.state, found.differences) == ("proven", ())


def test_tars_hard_link_of_another_file_is_found(tree: Path) -> None:
    words = "tar", "-cf", tree.parent / "a.tar", tree
    assert proven(tree, *words).state == "proven"
    for name, other in (("pipe", "sub/link"), ("sub/link", "pipe")):
        (tree / f"{name}-2").unlink()
        os.link(tree / other, tree / f"{name}-2", follow_symlinks=False)
    found = {Path(one.path).name: one.what for one in compared(tree, *words).differences}
    assert any("the archive has a hard link of" in what for what in found.values()), found


def test_tars_name_of_an_attribute_with_signs_that_a_header_cannot_have(tree: Path) -> None:
    for name in ("user.a=b", "user.100%", "user.%3D"):
        try:
            os.setxattr(tree / "file", name, b"1")
        except OSError as error:
            pytest.skip(f"no extended attributes here: {error}")
    found = proven(tree, "tar", "--format=posix", "--xattrs", "-cf", tree.parent / "a.tar", tree)
    assert (found.state, found.differences) == ("proven", ())


def test_tars_option_that_changes_times_is_refused(tree: Path) -> None:
    for value in ("delete=mtime", "delete=*", "mtime:=5", "exthdr.name=x,uid=0"):
        words = ("tar", "--format=posix", f"--pax-option={value}", "-cf", "/a.tar", str(tree))
        answer = manager.read_back(("tar",), Invocation(words, {}, "/"))
        assert answer
        assert "--pax-option" in answer.refused


def test_rsync_leaves_times_of_directories_when_it_makes_backups_in_them(tree: Path) -> None:
    copy = tree.parent / "copy"
    copy.mkdir()
    os.utime(tree / "sub", ns=(0, 10**18))
    found = proven(tree, "rsync", "-aH", "--backup", tree, f"{copy}/")
    assert (found.state, found.differences) == ("proven", ())
    os.utime(copy / "tree" / "sub")
    assert proven(tree, "rsync", "-aH", "--backup", f"--backup-dir={copy}/old", tree, f"{copy}/").state == "proven"


def test_rsync_leaves_what_is_linked_in_the_destination(tree: Path) -> None:
    copy = tree.parent / "copy"
    copy.mkdir()
    (tree / "file-3").hardlink_to(tree / "file")
    assert proven(tree, "rsync", "-aH", tree, f"{copy}/").state == "proven"
    kept = os.stat(tree / "file")
    (tree / "file-2").unlink()
    (tree / "file-2").write_bytes(b"file")
    os.utime(tree / "file-2", ns=(0, kept.st_mtime_ns))
    (tree / "file-4").hardlink_to(tree / "file-2")
    found = proven(tree, "rsync", "-aH", tree, f"{copy}/")
    assert (found.state, found.differences) == ("proven", ())
    (copy / "tree" / "file").unlink()
    (copy / "tree" / "file").write_bytes(b"file")
    os.utime(copy / "tree" / "file", ns=(0, kept.st_mtime_ns))
    os.utime(copy / "tree", ns=(0, os.stat(tree).st_mtime_ns))
    wrong = compared(tree, "rsync", "-aH", tree, f"{copy}/")
    assert "the archive has a copy" in wrong.differences[0].what


@pytest.mark.parametrize("option", ["--copy-devices", "--no-super"])
def test_rsyncs_options_that_keep_something_else_are_refused(option: str) -> None:
    answer = manager.read_back(("rsync",), Invocation(("rsync", "-a", option, "/srv/", "/copy/"), {}, "/"))
    assert answer
    assert option in answer.refused
