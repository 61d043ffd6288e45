"""All that a plugin may import: what it implements, the keys of its options, its errors, and helpers.

The plugins in `hooks/` import nothing else of borg_lvm; docs/plugins.md shows the use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from borg_lvm.config.fields import key, required
    from borg_lvm.config.value_types import AbsolutePath, Choice, ListOf, Seconds, Switch, Text, Whole
    from borg_lvm.drill.disks.judge import DiskJudge
    from borg_lvm.errors import AbsentError, BorgLvmError, BusyError, ConfigError, QuiesceError
    from borg_lvm.linux import permissions, processes, subprocesses
    from borg_lvm.linux.subprocesses import SYSTEM_PATH, Account
    from borg_lvm.machine import mounts
    from borg_lvm.machine.mounts import above
    from borg_lvm.plugins import client_process, opening, wrappers
    from borg_lvm.plugins.application import (
        Added,
        Application,
        ApplicationSettings,
        ApplicationType,
        DataPath,
        DiscoveredApplication,
        Intent,
        Probe,
    )
    from borg_lvm.plugins.backup_command import Excluded, Invocation, LivePath, Marked, Reading, Runs, Span, Tainted
    from borg_lvm.plugins.drill import ArchiveWrongError, Bench, Judge, Part, Restored, RestoredTree, Server
    from borg_lvm.plugins.manager import hookimpl
    from borg_lvm.plugins.opening import HANDLE
    from borg_lvm.plugins.read_back import (
        DamagedError,
        Entry,
        EntryType,
        Programs,
        ReadBack,
        Saved,
        Selection,
        Stores,
        entry_type,
    )
    from borg_lvm.proof import acl
    from borg_lvm.records import dataclass, field

__all__ = [
    "HANDLE",
    "SYSTEM_PATH",
    "AbsentError",
    "AbsolutePath",
    "Account",
    "Added",
    "Application",
    "ApplicationSettings",
    "ApplicationType",
    "ArchiveWrongError",
    "Bench",
    "BorgLvmError",
    "BusyError",
    "Choice",
    "ConfigError",
    "DamagedError",
    "DataPath",
    "DiscoveredApplication",
    "DiskJudge",
    "Entry",
    "EntryType",
    "Excluded",
    "Intent",
    "Invocation",
    "Judge",
    "ListOf",
    "LivePath",
    "Marked",
    "Part",
    "Probe",
    "Programs",
    "QuiesceError",
    "ReadBack",
    "Reading",
    "Restored",
    "RestoredTree",
    "Runs",
    "Saved",
    "Seconds",
    "Selection",
    "Server",
    "Span",
    "Stores",
    "Switch",
    "Tainted",
    "Text",
    "Whole",
    "above",
    "acl",
    "client_process",
    "dataclass",
    "entry_type",
    "field",
    "hookimpl",
    "key",
    "mounts",
    "opening",
    "permissions",
    "processes",
    "required",
    "subprocesses",
    "wrappers",
]

_HOMES = {
    "borg_lvm.config.fields": "key required",
    "borg_lvm.config.value_types": "AbsolutePath Choice ListOf Seconds Switch Text Whole",
    "borg_lvm.errors": "AbsentError BorgLvmError BusyError ConfigError QuiesceError",
    "borg_lvm.linux.permissions": "permissions",
    "borg_lvm.linux.processes": "processes",
    "borg_lvm.linux.subprocesses": "Account subprocesses SYSTEM_PATH",
    "borg_lvm.machine.mounts": "above mounts",
    "borg_lvm.plugins.client_process": "client_process",
    "borg_lvm.plugins.opening": "HANDLE opening",
    "borg_lvm.plugins.wrappers": "wrappers",
    "borg_lvm.plugins.application": (
        "Added Application ApplicationSettings ApplicationType DataPath DiscoveredApplication Intent Probe"
    ),
    "borg_lvm.plugins.backup_command": "Excluded Invocation LivePath Marked Reading Runs Span Tainted",
    "borg_lvm.drill.disks.judge": "DiskJudge",
    "borg_lvm.plugins.drill": "ArchiveWrongError Bench Judge Part Restored RestoredTree Server",
    "borg_lvm.plugins.manager": "hookimpl",
    "borg_lvm.plugins.read_back": ("DamagedError Entry entry_type EntryType Programs ReadBack Saved Selection Stores"),
    "borg_lvm.proof.acl": "acl",
    "borg_lvm.records": "dataclass field",
}
"""The modules that each name comes from; a module's own name means the module."""
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # which would take every name for one of ours

    def __getattr__(name: str) -> object:
        """Import what a plugin asks for (PEP 562): the plugins of a run ask for a third of it."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_HOME[name])
        value = module if _HOME[name].endswith(f".{name}") else getattr(module, name)
        globals()[name] = value
        return value
