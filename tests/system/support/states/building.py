"""What states of LVM and of file systems are built with: a volume, a mount, LVM's configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.rig import Rig
from tests.system.support.runs.program import run

FILE = "file"


@dataclass(frozen=True)
class State:
    """A state and how it is built; `words` are in the refusal, which has this `status`; without them a run works."""

    name: str
    build: Callable[[Rig, ExitStack], Path]
    words: tuple[str, ...] = ()
    status: int = 69


def configured(text: str) -> None:
    """Have LVM's configuration say something more."""
    path = Path(os.environ["LVM_SYSTEM_DIR"], "lvmlocal.conf")
    if text:
        path.write_text(f"{text}\n")
    else:
        path.unlink(missing_ok=True)


def mounted(rig: Rig, stack: ExitStack, device: str, *options: str) -> Path:
    """Mount a device."""
    at = rig.path("data")
    at.mkdir()
    run("mount", *options, device, at)
    stack.callback(run, "umount", at)
    rig._remember()
    return at


def group_of(rig: Rig) -> str:
    """Return the name of the group of which the rig makes its volumes."""
    assert rig._group
    return rig._group.name


def data(rig: Rig, **wanted: object) -> Path:
    """Make a volume with an ext4 on it, and return where that is mounted."""
    volume = rig.volume("data", fs="ext4", mib=32, at=rig.path("data"), **wanted)  # type: ignore[arg-type]
    assert volume.at
    return volume.at


def made(rig: Rig, stack: ExitStack, device: str, *options: str, mkfs: tuple[str, ...] = ("mkfs.ext4", "-q")) -> Path:
    """Make a file system on a device and mount it."""
    run(*mkfs, device)
    return mounted(rig, stack, device, *options)
