"""Finds the services that write files of logical volumes: for `borg-lvm discover`."""

from __future__ import annotations

import os
from contextlib import suppress

from borg_lvm.plugin_api import processes as of_machine
from borg_lvm_hooks.applications.cgroups import NEEDED
from borg_lvm_hooks.applications.running import Process, processes

KNOWN = ("postgres", "postmaster", "mariadbd", "redis-server", "valkey-server")
"""Servers that have a plugin of their own."""
ENGINES = ("dockerd", "containerd", "containerd-shim", "podman", "conmon")
"""A program that pauses others must not be frozen itself."""
NO_DATA = ("/var/log/", "/var/cache/", "/var/tmp/", "/tmp/")  # noqa: S108
DEPTH = 3


def writing_services() -> dict[str, tuple[str, ...]]:
    """Return the directories in which services have files of logical volumes open for writing, by the service."""
    ours = Process(os.getpid(), "").unit()
    services: dict[str, set[str]] = {}
    others = {ours}
    for process in processes():
        unit = process.unit()
        if process.name in (*NEEDED, *KNOWN, *ENGINES) and process.is_what_it_says:
            others.add(unit)
        elif unit:
            services.setdefault(unit, set()).update(_directories(process))
    return {
        unit: tuple(sorted(directories)) for unit, directories in services.items() if directories and unit not in others
    }


def _directories(process: Process) -> set[str]:
    directories = set()
    for number, path in process.files():
        with suppress(OSError, ValueError):
            if not path.startswith("/") or path.startswith(NO_DATA) or not process.writes(number):
                continue
            if _is_on_a_volume(of_machine.file_of(process.pid, f"fd/{number}").device):
                directories.add(directory_of(path))
    return directories


def directory_of(path: str) -> str:
    """Return the directory that a file belongs to: /var/lib/shop for all below it, /srv/shop too."""
    parts = path.split("/")[1:-1]
    depth = DEPTH if parts[:1] == ["var"] else DEPTH - 1
    return "/" + "/".join(parts[:depth])


def _is_on_a_volume(device: int) -> bool:
    """Whether a device (`st_dev`) is one of the device-mapper."""
    return os.path.exists(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/dm")
