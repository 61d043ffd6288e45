"""A plain chroot is refused before anything is done; a pivoted root is a root like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.rig.volumes import Volume
from tests.system.support.runs.live import STATE, assert_nothing_left, tidy
from tests.system.support.runs.program import BIN, run

# The whole machine below another root, in a mount namespace of its own, as a rescue system has it.
BELOW = 'mount --make-rprivate / && mount --rbind / "$0" && cd "$0" && '
CHROOT = BELOW + 'exec chroot "$0" "$@"'
PIVOT = BELOW + 'mkdir -p .old && pivot_root . .old && umount -l /.old && exec "$@"'
SUBDIRECTORY = 'mount --make-rprivate / && mount --rbind / "$0" && mount --rbind "$0" /mnt && exec chroot /mnt "$@"'


@pytest.fixture
def one(rig: Rig) -> Iterator[Volume]:
    """Give a volume with a file, and a place for another root."""
    with tidy():
        made = rig.volume("one", fs="ext4", at=rig.path("one"))
        (rig.path("one") / "file").write_text("content\n")
        rig.path("root").mkdir()
        yield made


def below(rig: Rig, how: str, *argv: str | Path, status: int) -> str:
    """Run borg-lvm below another root; return what it said."""
    words = ["unshare", "--mount", "sh", "-c", how, rig.path("root"), BIN / "borg-lvm", *argv]
    return run(*words, status=status).err


@pytest.mark.parametrize("how", [CHROOT, SUBDIRECTORY], ids=["chroot", "subdirectory"])
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_chroot_is_refused(rig: Rig, one: Volume, verb: str, how: str) -> None:
    ledgers = set(STATE.glob("*/ledger"))
    said = below(rig, how, verb, "--path", str(one.at), "--", "touch", rig.path("ran"), status=64)
    assert "this is a chroot" in said
    assert "nothing was done" in said
    assert not rig.path("ran").exists()
    assert set(STATE.glob("*/ledger")) == ledgers
    assert_nothing_left(rig)


def test_a_pivoted_root_is_a_root(rig: Rig, one: Volume) -> None:
    below(rig, PIVOT, "run", "--path", str(one.at), "--", "cat", rig.path("one") / "file", status=0)
    assert_nothing_left(rig)
