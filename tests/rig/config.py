"""The configuration of LVM for tests: it sees loop devices and nothing else, or it is as servers have it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
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
    reserved_memory = 256
    reserved_stack = 64
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

# Lest swapping hang it, LVM touches each page of the 8 MiB that it reserves before it suspends anything: two fifths of
# the processor time of `lvcreate --snapshot` in a guest. With SERVER it reserves what it does on a server.
RESERVED = re.compile(r" *reserved_(memory|stack) = .*\n")
SERVER = "BORG_LVM_SERVER"
SERVERS = {
    "scanning": {"use_devicesfile = 0": "use_devicesfile = 0\n    scan_lvs = 1"},
    "listing": {"use_devicesfile = 0": "use_devicesfile = 1"},
}
"""How LVM finds its disks on a server, by the value of SERVER: it looks at everything, logical volumes too, or at what
its devices file lists."""
DAEMONS = {"monitoring = 0": "monitoring = 1", "use_lvmpolld = 0": "use_lvmpolld = 1"}
FILTER = re.compile(r" *global_filter = .*\n")


def udev_runs() -> bool:
    """Tell whether somebody answers device-mapper's requests for udev."""
    return Path("/run/udev/control").exists() and os.environ.get("DM_DISABLE_UDEV") != "1"


def write(directory: Path) -> dict[str, str]:
    """Write an LVM_SYSTEM_DIR; return the environment for everything that is to use it."""
    (directory / "lock").mkdir(parents=True)
    text = TEMPLATE.format(directory=directory, udev=int(udev_runs()))
    if server := os.environ.get(SERVER):
        text = RESERVED.sub("", FILTER.sub("", text))
        for usual, wanted in (SERVERS[server] | DAEMONS).items():
            assert usual in text
            text = text.replace(usual, wanted)
        (directory / "devices").mkdir()
        (directory / "devices" / "system.devices").touch()
    (directory / "lvm.conf").write_text(text)
    environment = {"LVM_SYSTEM_DIR": str(directory), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    if not udev_runs():
        environment["DM_DISABLE_UDEV"] = "1"
    return environment


def end_dmeventd() -> None:
    """End LVM's daemon that looks after volumes: it has read this configuration, and stays."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text() == "dmeventd\n":
                os.kill(int(process.name), signal.SIGKILL)
    for pipe in ("client", "server"):
        Path(f"/run/dmeventd-{pipe}").unlink(missing_ok=True)
