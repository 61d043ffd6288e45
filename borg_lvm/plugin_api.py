"""All that a plugin may import: what it implements, the keys of its options, its errors, and helpers.

The plugins in `hooks/` import nothing else of borg_lvm; docs/plugins.md shows the use.
"""

from __future__ import annotations

from borg_lvm.config.fields import key, required
from borg_lvm.config.value_types import AbsolutePath, Choice, ListOf, Seconds, Switch, Text, Whole
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
from borg_lvm.plugins.backup_command import Excluded, Invocation, LivePath, Marked, Reading, Tainted
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
    Span,
    Stores,
    entry_type,
)
from borg_lvm.proof import acl

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
    "BorgLvmError",
    "BusyError",
    "Choice",
    "ConfigError",
    "DamagedError",
    "DataPath",
    "DiscoveredApplication",
    "Entry",
    "EntryType",
    "Excluded",
    "Intent",
    "Invocation",
    "ListOf",
    "LivePath",
    "Marked",
    "Probe",
    "Programs",
    "QuiesceError",
    "ReadBack",
    "Reading",
    "Saved",
    "Seconds",
    "Selection",
    "Span",
    "Stores",
    "Switch",
    "Tainted",
    "Text",
    "Whole",
    "above",
    "acl",
    "client_process",
    "entry_type",
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
