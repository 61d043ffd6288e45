"""Directories of fscrypt: unlocked on the server, locked in a snapshot. They are refused by name, or left live."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.tools import run as tool
from tests.system.support.runs.live import assert_nothing_left, tidy
from tests.system.support.runs.program import borg_lvm

pytestmark = [pytest.mark.limit(280), pytest.mark.each_kernel]
ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613  # linux/fscrypt.h
IDENTIFIER, V2, AES_256_XTS, AES_256_CTS, PAD_32 = 2, 2, 1, 4, 3


@pytest.fixture
def home(rig: Rig) -> Iterator[Path]:
    """A file system with the feature, and one directory of two that is encrypted and unlocked."""
    volume = rig.volume("data", fs="ext4", at=rig.path("data"))
    if not os.path.exists("/sys/fs/ext4/features/encryption"):
        pytest.skip("this kernel has no fscrypt")
    assert volume.at
    tool("umount", str(volume.at))
    tool("tune2fs", "-O", "encrypt", volume.top)
    tool("mount", volume.top, str(volume.at))
    home = volume.at / "home"
    (home / "anna" / "deep" / "private").mkdir(parents=True)
    (home / "bert").mkdir()
    (home / "bert" / "file").write_text("frozen")
    raw = os.urandom(64)
    folder = os.open(home / "anna" / "deep" / "private", os.O_RDONLY)
    answer = bytearray(struct.pack("=2I32s2I32s", IDENTIFIER, 0, b"", len(raw), 0, b"") + raw)
    fcntl.ioctl(folder, ADD_KEY, answer)
    policy = struct.pack("=4B4x16s", V2, AES_256_XTS, AES_256_CTS, PAD_32, bytes(answer[8:24]))
    fcntl.ioctl(folder, SET_POLICY, policy)
    os.close(folder)
    (home / "anna" / "deep" / "private" / "secret").write_text("unlocked")
    with tidy():
        yield home
        assert_nothing_left(rig)


def test_they_are_refused_by_name(home: Path) -> None:
    private = home / "anna" / "deep" / "private"
    for source in (home.parent, private / "secret"):  # above, and below
        said = borg_lvm("run", "--path", source, "--", "true", status=69)
        assert "is encrypted by fscrypt, and locked in a snapshot" in said.err, said.err
        assert f"--live {private}" in said.err
    said = borg_lvm("run", "--path", home / "bert", "--", "cat", home / "bert" / "file")
    assert said.out == "frozen"


def test_or_left_live(home: Path) -> None:
    private = home / "anna" / "deep" / "private"
    read = f"cat {private}/secret {home}/bert/file"
    said = borg_lvm("run", "--live", private, "--path", home, "--", "sh", "-c", read)
    assert said.out == "unlockedfrozen"
    assert f"not frozen, as declared: {private}" in said.err
