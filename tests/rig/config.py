"""The configuration of LVM for tests: it sees loop devices and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

TEMPLATE = """\
devices {{
    dir = "/dev"
    scan = [ "/dev" ]
    use_devicesfile = 0
    global_filter = [ "a|^/dev/loop[0-9]+$|", "r|.*|" ]
    obtain_device_list_from_udev = {udev}
    issue_discards = 0
}}
activation {{
    udev_sync = {udev}
    udev_rules = {udev}
    verify_udev_operations = 0
    monitoring = 0
}}
global {{
    locking_dir = "{directory}/lock"
    use_lvmlockd = 0
    use_lvmpolld = 0
    notify_dbus = 0
    event_activation = 0
}}
backup {{
    backup = 0
    archive = 0
    backup_dir = "{directory}/backup"
    archive_dir = "{directory}/archive"
}}
"""


def udev_runs() -> bool:
    """Tell whether somebody answers device-mapper's requests for udev."""
    return Path("/run/udev/control").exists() and os.environ.get("DM_DISABLE_UDEV") != "1"


def write(directory: Path) -> dict[str, str]:
    """Write an LVM_SYSTEM_DIR; return the environment for everything that is to use it."""
    (directory / "lock").mkdir(parents=True)
    (directory / "lvm.conf").write_text(TEMPLATE.format(directory=directory, udev=int(udev_runs())))
    environment = {"LVM_SYSTEM_DIR": str(directory), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    if not udev_runs():
        environment["DM_DISABLE_UDEV"] = "1"
    return environment
