"""What borg-lvm refuses: each time nothing is done, and the message names the thing, the fault and the way out."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.needed import needed
from tests.rig.tools import change
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, ledgers, script, tidy
from tests.system.support.runs.program import BIN, Said, borg_lvm, run

BORG = str(BIN / "borg")


class Refuser:
    """Runs borg-lvm where it must refuse; the command, if it were run, would leave a mark."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.mark = rig.path("the command was run")

    def __call__(
        self, status: int, *argv: str | Path, words: tuple[str, ...], env: Mapping[str, str] | None = None
    ) -> Said:
        """Run `borg-lvm` with these arguments; `{mark}` is the command that leaves the mark."""
        said = borg_lvm(*argv, status=None, env=env)
        self.judge(said, status, words)
        return said

    def judge(self, said: Said, status: int, words: tuple[str, ...]) -> None:
        """Check status, words, and that nothing was done."""
        (Path(os.environ["BORG_LVM_LAB_OUT"]) / "refusals.txt").open("a").write(f"{said.status} {said.err}\n")
        assert said.status == status, said
        for word in words:
            assert word in said.err, f"{word!r} is not in: {said}"
        assert "Traceback" not in said.err
        assert said.out == "", "standard output belongs to the command"
        assert not self.mark.exists(), "the command was run"
        assert ledgers() == {}
        assert_nothing_left(self.rig)

    def path(self, path: Path | str, *words: str, status: int = 69, options: tuple[str | Path, ...] = ()) -> Said:
        """Refuse to freeze a path, which the message must name."""
        argv = ["run", *options, "--path", str(path), "--", "touch", str(self.mark)]
        return self(status, *argv, words=(str(path), *words))


@pytest.fixture
def refused(rig: Rig) -> Iterator[Refuser]:
    """Give what checks refusals."""
    with tidy():
        yield Refuser(rig)


@contextmanager
def mounted(rig: Rig, at: Path, *options: str) -> Iterator[Path]:
    """Mount something that the rig has no words for."""
    at.mkdir()
    run("mount", *options, at)
    rig._remember()
    try:
        yield at
    finally:
        run("umount", at)
        at.rmdir()


def missing(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    return rig.path("nowhere"), ["No such file or directory", "check the spelling"]


def tmpfs(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    return stack.enter_context(mounted(rig, rig.path("tmpfs"), "-t", "tmpfs", "none")), ["in memory (tmpfs)", "--live"]


def overlay(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    for name in ("lower", "upper", "work"):
        rig.path(name).mkdir()
    layers = ",".join(f"{name}dir={rig.path(name)}" for name in ("lower", "upper", "work"))
    at = stack.enter_context(mounted(rig, rig.path("overlay"), "-t", "overlay", "none", "-o", layers))
    return at, ["lies on the overlay mounted at", "name the directories", "--live"]


def btrfs(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    """Of two devices, so that its volumes have no snapshots, and read-only, so that its subvolumes have none."""
    needed("btrfs")
    first, second = (rig.volume(name, mib=128) for name in ("btrfs", "more"))
    run("mkfs.btrfs", "-q", "-f", "-K", "-m", "single", "-d", "single", first.device, second.device)
    at = stack.enter_context(mounted(rig, rig.path("btrfs"), "-t", "btrfs", "-o", "ro", first.device))
    return at, ["is mounted read-only, and no snapshot can be made in it", "mount -o remount,rw", "--live"]


def make_minix(device: str) -> None:
    """Make an empty file system of the first version, in blocks of 1 KiB: no program for it is on every machine.

    Source: the kernel's include/uapi/linux/minix_fs.h.
    """
    inodes, zones, first, magic, is_clean = 32, 64, 5, 0x137F, 1
    superblock = struct.pack("<6HI2HI", inodes, zones, 1, 1, first, 0, zones << 10, magic, is_clean, zones)
    only_the_root = b"\x03"  # of inodes and zones; the lowest bit stands for none
    inode = struct.pack("<2H2I2B9H", stat.S_IFDIR | 0o755, 0, 32, 0, 0, 2, first, *[0] * 8)
    directory = struct.pack("<H14sH14s", 1, b".", 1, b"..")
    blocks = (b"", superblock, only_the_root, only_the_root, inode, directory)
    with open(device, "wb") as written:
        written.write(b"".join(block.ljust(1024, b"\0") for block in blocks))


def minix(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    volume = rig.volume("minix", mib=16)
    make_minix(volume.device)
    at = stack.enter_context(mounted(rig, rig.path("minix"), "-t", "minix", volume.device))
    return at, [f"it is a minix on {volume.full_name}", "only btrfs, ext2, ext3, ext4, xfs", "--live"]


def snapshot(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    origin = rig.volume("origin", fs="ext4", mib=32)
    change("lvcreate", origin.full_name, "-s", "-n", "copy", "-L", "8m")
    device = f"/dev/{origin.group.name}/copy"
    at = stack.enter_context(mounted(rig, rig.path("copy"), "-o", "ro", device))
    return at, [f"{origin.group.name}/copy", f"itself a snapshot (of {origin.full_name})", "back up the origin"]


def merging(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    volume = rig.volume("merging", fs="ext4", at=rig.path("merging"), mib=32)
    change("lvcreate", volume.full_name, "-s", "-n", "back", "-L", "8m")
    change("lvconvert", f"{volume.group.name}/back", "--merge")
    rig._remember()
    return rig.path("merging"), [volume.full_name, "being merged", "wait until"]


def suspended(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    volume = rig.volume("asleep", fs="ext4", at=rig.path("asleep"), mib=32)
    run("dmsetup", "suspend", volume.device)
    stack.callback(run, "dmsetup", "resume", volume.device)
    rig._remember()
    return rig.path("asleep"), [volume.full_name, "is suspended", "dmsetup resume"]


def loop(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    with rig.path("image").open("wb") as image:
        image.truncate(16 << 20)
    run("mkfs.ext4", "-q", rig.path("image"))
    at = stack.enter_context(mounted(rig, rig.path("loop"), "-o", "loop", str(rig.path("image"))))
    return at, ["lies on loop", "which is not a logical volume", "--live"]


def locked(rig: Rig, stack: ExitStack) -> tuple[Path, list[str]]:
    volume = rig.volume("locked", luks_version=2, fs="ext4", at=rig.path("locked"), mib=64)
    return rig.path("locked"), [volume.full_name, "is encrypted", "key file", "/etc/crypttab", "luks:"]


PATHS: list[Callable[[Rig, ExitStack], tuple[Path, list[str]]]] = [
    missing, tmpfs, overlay, btrfs, minix, snapshot, merging, suspended, loop, locked,
]  # fmt: skip


@pytest.mark.limit(400)
@pytest.mark.parametrize("build", PATHS, ids=lambda build: build.__name__)
def test_path(rig: Rig, refused: Refuser, build: Callable[[Rig, ExitStack], tuple[Path, list[str]]]) -> None:
    with ExitStack() as stack:
        path, words = build(rig, stack)
        refused.path(path, *words, "nothing was done")


def test_all_faults_are_told_at_once(rig: Rig, refused: Refuser) -> None:
    with ExitStack() as stack:
        told = [build(rig, stack) for build in (missing, tmpfs, loop)]
        argv = [word for path, _ in told for word in ("--path", str(path))]
        words = tuple(word for path, some in told for word in (str(path), *some))
        refused(69, "run", *argv, "--", "touch", refused.mark, words=words)


def test_no_room(rig: Rig, refused: Refuser) -> None:
    group = rig.group(mib=64)
    rig.volume("full", group=group, fs="ext4", at=rig.path("full"), mib=40)
    run_on = ["--path", str(rig.path("full")), "--", "touch", str(refused.mark)]
    # 64 MiB less one for LVM itself, less the volume.
    words = (f"volume group {group.name} has 23.0 MiB free", "full with size 38MiB", "38.0 MiB, 15.0 MiB more")
    refused(69, "run", "--snapshot-size", "38M", *run_on, words=(*words, "vgextend", "--snapshot-size"))
    rig.volume("rest", group=group, mib=23)
    full = (f"volume group {group.name} has 0 B free", "full", "need at least 16.0 MiB: ", "vgextend")
    refused(69, "run", *run_on, words=full)


def test_full_thin_pool(rig: Rig, refused: Refuser) -> None:
    thin = rig.volume("thin", kind="thin", fs="ext4", at=rig.path("thin"), mib=32)
    other = rig.volume("other", kind="thin", mib=64)  # more than the pool of 64 MiB has room for beside the first

    def fill(mib: int, after: int) -> float:
        dd = ["dd", "if=/dev/zero", f"of={other.device}", "bs=1M", f"seek={after}", f"count={mib}", "conv=fsync"]
        run(*dd)
        pool = f"{thin.group.name}/pool"
        return float(run("lvs", "--noheadings", "-o", "data_percent", pool).out)

    percent = fill(40, after=0)
    assert fill(int((97.5 - percent) * 64 / 100), after=40) >= 95
    refused.path(rig.path("thin"), thin.full_name, f"{thin.group.name}/pool, which has used 9", "extend the pool first")


def test_not_root(rig: Rig, refused: Refuser) -> None:
    # The tests' interpreter may lie where only root can read: the capability for that is not root.
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    said = run(*words, BIN / "borg-lvm", "run", "--path", rig.directory, "--", "touch", refused.mark, status=None)
    refused.judge(said, 64, ("must be run as root",))


@pytest.fixture
def one(rig: Rig) -> Volume:
    """Give a volume that can be frozen."""
    return rig.volume("one", fs="ext4", at=rig.path("one"), mib=32)


def test_command_lines(rig: Rig, one: Volume, refused: Refuser) -> None:
    assert shutil.which(BORG)
    at = str(one.at)
    name = "borg-lvm run --path PATH"
    repository = f"{rig.path('repository')}::a"
    refused(64, "run", "--", BORG, "create", "--no-such", repository, at, words=("--no-such", "borg", name))
    refused(64, "run", "--", BORG, "create", repository, "-", words=("standard input", "run it without borg-lvm"))
    refused(64, "run", "--", BORG, "create", "--paths-from-stdin", repository, words=("--paths-from-stdin", name))
    refused(64, "run", "--", "tar", "-cf", "/dev/null", "--files-from", "-", words=("standard input", name))
    refused(64, "run", "--", "touch", refused.mark, words=("which paths touch reads", name))
    refused(64, "run", "--path", at, words=("no command", "-- COMMAND"))
    refused(64, "run", "--path", at, "--", words=("no command", "-- COMMAND"))
    refused(64, "run", "--no-such-option", "--", "true", words=("--no-such-option", "borg-lvm run --help"))
    refused(64, "run", "--pat", at, "--", "touch", refused.mark, words=("--pat", "--help"))
    refused(64, words=("nothing to do", "--help"))
    refused(64, "rnu", words=("rnu", "run"))
    for size in ("5X", "200%ORIGIN"):
        argv = ["run", "--snapshot-size", size, "--path", at, "--", "touch", str(refused.mark)]
        refused(64, *argv, words=("--snapshot-size", size))


def test_commands(rig: Rig, one: Volume, refused: Refuser) -> None:
    run_on: list[str | Path] = ["run", "--path", str(one.at), "--"]
    refused(127, *run_on, "no-such-command", words=("no-such-command", "command not found", "nothing was done"))
    refused(127, *run_on, rig.path("nowhere"), words=(str(rig.path("nowhere")), "not found", "nothing was done"))
    refused(127, *run_on, "", words=("command",))
    plain = rig.path("plain")
    plain.write_text("#!/bin/sh\n")
    refused(126, *run_on, plain, words=(str(plain), "Permission denied", "chmod +x", "nothing was done"))
    refused(126, *run_on, "/etc", words=("/etc", "directory", "nothing was done"))
    # These show only when the kernel tries; everything has been undone by then.
    refused(126, *run_on, script(rig.directory, "odd", "\1\2\3\n"), words=("odd", "Exec format error"))
    lost = script(rig.directory, "lost", "#!/no/such/interpreter\n")
    refused(127, *run_on, lost, words=("lost", "not found"))


def test_configuration(rig: Rig, one: Volume, refused: Refuser) -> None:
    file = rig.path("config.yaml")

    def faulty(text: str, *words: str, status: int = 65) -> None:
        file.write_text(text)
        run_on: list[str | Path] = ["run", "--config", file, "--path", str(one.at), "--", "touch", refused.mark]
        refused(status, *run_on, words=(*words,))

    faulty("snapshto:\n  size: 5G\n", f"{file}", "1", "snapshto", "did you mean 'snapshot'")
    faulty("snapshot:\n  size: much\n", f"{file}", "2", "snapshot.size", "much")
    faulty("deadline: 1000\n", "deadline", "60")
    faulty("hooks: [brog]\n", "brog", "did you mean 'borg'")
    faulty("live: [relative]\n", "live", "relative", "absolute")
    faulty("luks:\n  - volume: a/b\n", "key_file", "is missing")
    file.chmod(0o666)
    faulty("deadline: 5\n", str(file), "can be written by everybody", f"chmod go-w {file}")
    file.chmod(0o644)
    os.chown(file, 65534, 65534)
    faulty("deadline: 5\n", str(file), "belongs to", f"chown root:root {file}")
    os.chown(file, 0, 0)
    file.unlink()
    run_on: list[str | Path] = ["--path", str(one.at), "--", "touch", refused.mark]
    refused(65, "run", "--config", file, *run_on, words=(str(file), "No such file"))
    refused(65, "run", "--hook", "resitc", *run_on, words=("resitc", "did you mean 'restic'"))


def test_everything_is_live(rig: Rig, one: Volume, refused: Refuser) -> None:
    at = str(one.at)
    refused.path(at, "declared live", "nothing to freeze", "without borg-lvm", options=("--live", at))
    plan = borg_lvm("plan", "--live", at, "--path", at, "--", "touch", refused.mark, status=None)
    refused.judge(plan, 69, ("nothing to freeze",))


def test_repository_is_the_source(rig: Rig, one: Volume, refused: Refuser) -> None:
    words = (str(one.at), "must be writable for borg", "itself a source", "in a directory of its own")
    refused(64, "run", "--", BORG, "create", f"{one.at}::a", str(one.at), words=words)


def test_a_source_of_the_command_s_that_no_path_names(rig: Rig, one: Volume, refused: Refuser) -> None:
    """It would be read live without a word."""
    other, output = rig.path("other"), rig.path("out.tar")
    other.mkdir()
    words = (f"the command also reads {other}", "no --path names", "--live")
    for path in (str(one.at), f"{one.at}/"):
        refused(64, "run", "--path", path, "--", "tar", "-cf", output, str(one.at), other, words=words)
    tar = ("--", "tar", "-cf", output, str(one.at), other)
    borg_lvm("run", "--path", str(one.at), "--live", other, *tar)


def test_inside_another_run(rig: Rig, one: Volume, refused: Refuser) -> None:
    inner: list[str | Path] = [BIN / "borg-lvm", "run", "--path", str(one.at), "--", "touch", refused.mark]
    said = borg_lvm("run", "--path", rig.path("one"), "--", *inner, status=69)
    refused.judge(said, 69, (str(one.at), "is frozen already, by the run", "inside of which we are"))


def test_working_directory_is_gone(rig: Rig, one: Volume, refused: Refuser) -> None:
    gone = rig.path("gone")
    gone.mkdir()
    line = f'cd {gone} && rmdir {gone} && exec "$@"'
    said = run(
        "sh", "-c", line, "sh", BIN / "borg-lvm", "run", "--path", str(one.at), "--", "touch", refused.mark, status=None
    )
    refused.judge(said, 64, ("working directory", "cd"))
