"""The configuration: which keys there are, and reading them from files.

from borg_lvm import config

settings = config.load()                      # /etc/borg-lvm/config.yaml and conf.d/*.yaml
settings = config.load("/root/other.yaml")    # this file alone
"""

from borg_lvm.config.loader import DIRECTORY, load, with_overrides
from borg_lvm.config.schema import Consistency, Settings
from borg_lvm.config.sections import ApplicationEntry, LuksKey, SnapshotSettings
from borg_lvm.config.size import Size

__all__ = [
    "DIRECTORY",
    "ApplicationEntry",
    "Consistency",
    "LuksKey",
    "Settings",
    "Size",
    "SnapshotSettings",
    "load",
    "with_overrides",
]
