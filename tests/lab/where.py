"""Decides where a job runs: on this very kernel, or in a guest, and with which acceleration."""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.kernels import named

DM_VERSION = 0xC138FD00  # _IOWR(0xfd, 0, struct dm_ioctl)
DM_IOCTL_SIZE = 312


@dataclass(frozen=True)
class Facts:
    """What this machine can do."""

    root: bool
    device_mapper: bool
    release: str


@dataclass(frozen=True)
class Choice:
    """Where to run, on which kernel, and why."""

    here: bool
    series: str
    why: str


def facts() -> Facts:
    """Look at this machine."""
    root = os.geteuid() == 0
    return Facts(root, root and device_mapper(), platform.release())


def decide(where: str, series: str | None, known: Facts) -> Choice:
    """Choose. Without a wish for a kernel the machine's own is as good as any, if it can do LVM."""
    own = ".".join(known.release.split(".")[:2])
    if where == "vm":
        return Choice(False, series or named("nearest"), "asked for")
    obstacle = _obstacle(series, own, known)
    if where == "here":
        if obstacle:
            raise ValueError(f"cannot run here: {obstacle}")
        return Choice(True, own, "asked for")
    if obstacle:
        return Choice(False, series or named("nearest"), obstacle)
    return Choice(True, own, "this kernel has device-mapper and we are root")


def _obstacle(series: str | None, own: str, known: Facts) -> str:
    if not known.root:
        return "we are not root"
    if not known.device_mapper:
        return "this kernel has no device-mapper"
    if series and series != own:
        return f"this kernel is {own}, not {series}"
    return ""


def device_mapper() -> bool:
    """Ask the kernel's device-mapper for its version; only an answer counts."""
    subprocess.run(["modprobe", "-q", "dm_mod"], check=False, stderr=subprocess.DEVNULL)
    control = Path("/dev/mapper/control")
    if not control.exists():
        return False
    request = struct.pack("<3I", 4, 0, 0) + struct.pack("<I", DM_IOCTL_SIZE)
    try:
        with control.open("rb") as device:
            fcntl.ioctl(device, DM_VERSION, bytearray(request.ljust(DM_IOCTL_SIZE, b"\0")))
    except OSError:
        return False
    return True
