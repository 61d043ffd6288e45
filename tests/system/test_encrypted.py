"""Directories of fscrypt: unlocked on the server, locked in a snapshot. They are refused by name, or left live."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from borg_lvm.machine import mounts
from borg_lvm.planning.left_out import LeftOut
from borg_lvm.planning.view_layout import FrozenPath, Resolved
from borg_lvm.session import fscrypt
from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.rig.volumes import Volume
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm

pytestmark = [pytest.mark.limit(280), pytest.mark.each_kernel]
ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613  # linux/fscrypt.h
IDENTIFIER, V2, AES_256_XTS, AES_256_CTS, PAD_32 = 2, 2, 1, 4, 3


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Rig, Path]]:
    """Make a file system with the feature, once for all, and one directory of two that is encrypted and unlocked."""
    with Rig() as rig:
        volume = rig.volume("data", fs="ext4", at=rig.path("data"))
        if not os.path.exists("/sys/fs/ext4/features/encryption"):
            pytest.skip("this kernel has no fscrypt")
        yield rig, encrypted(volume)


@pytest.fixture
def home(built: tuple[Rig, Path]) -> Iterator[Path]:
    """Give it; nothing of a run is left."""
    rig, home = built
    with tidy():
        yield home
        assert_nothing_left(rig)


def encrypted(volume: Volume) -> Path:
    """Make the directories and return the one that has them."""
    assert volume.at
    tool("umount", str(volume.at))
    tool("tune2fs", "-O", "encrypt", volume.top)
    tool("mount", volume.top, str(volume.at))
    home = volume.at / "home"
    (home / "anna" / "deep" / "private").mkdir(parents=True)
    (home / "bert").mkdir()
    (home / "bert" / "file").write_text("frozen")
    raw = os.urandom(64)
    directory = os.open(home / "anna" / "deep" / "private", os.O_RDONLY)
    answer = bytearray(struct.pack("=2I32s2I32s", IDENTIFIER, 0, b"", len(raw), 0, b"") + raw)
    fcntl.ioctl(directory, ADD_KEY, answer)
    policy = struct.pack("=4B4x16s", V2, AES_256_XTS, AES_256_CTS, PAD_32, bytes(answer[8:24]))
    fcntl.ioctl(directory, SET_POLICY, policy)
    os.close(directory)
    (home / "anna" / "deep" / "private" / "secret").write_text("unlocked")
    return home


def problems(source: Path) -> tuple[str, ...]:
    """Return what is wrong with a source: what a run asks, without the start of a program, which takes ten seconds."""
    (mount,) = (mount for mount in mounts.read() if source.is_relative_to(mount.path) and mount.fstype == "ext4")
    return fscrypt.with_encrypted(Resolved((FrozenPath(str(source), mount, "", ""),), (), (), (), ())).problems


def test_they_are_refused_by_name(home: Path) -> None:
    private = home / "anna" / "deep" / "private"
    said = borg_lvm("run", "--path", home.parent, "--", "true", status=69)
    assert f"{private} is encrypted by fscrypt, and locked in a snapshot" in said.err, said.err
    assert f"--live {private}" in said.err
    for source in (private, private / "secret"):  # itself, and below
        assert [one.partition(",")[0] for one in problems(source)] == [f"{source} is encrypted by fscrypt"]
    assert problems(home / "bert") == ()
    said = borg_lvm("run", "--path", home / "bert", "--", "cat", home / "bert" / "file")
    assert said.out == "frozen"


def test_or_left_live(home: Path) -> None:
    private = home / "anna" / "deep" / "private"
    read = f"cat {private}/secret {home}/bert/file"
    said = borg_lvm("run", "--live", private, "--path", home, "--", "sh", "-c", read)
    assert said.out == "unlockedfrozen"
    assert f"not frozen, as declared: {private}" in said.err


def test_millions_of_directories_take_no_memory_without_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user may make them, with names as long as they like: the paths of all were kept. That is said."""
    for number in range(100):
        (home / "bert" / f"{number:0200}").mkdir()
    private = [str(home / "anna" / "deep" / "private")]
    later = time.monotonic() + 100
    assert fscrypt._encrypted(str(home), (), LeftOut(), later) == (private, True)
    monkeypatch.setattr(fscrypt, "MOST_WAITING", 10_000)
    assert not fscrypt._encrypted(str(home), (), LeftOut(), later)[1]
    assert not fscrypt._encrypted(str(home), (), LeftOut(), 0)[1]
