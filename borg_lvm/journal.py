"""Messages to journald with fields of their own, when it is what reads our standard error.

Source: systemd.exec(5), JOURNAL_STREAM; systemd's JOURNAL_NATIVE_PROTOCOL: one datagram of `NAME=value` lines, a value
with a line break as its name, its length in eight bytes and itself.

journald looks up the unit of a message's sender when it reads the message. A program's last words may come after its
end, and belong to no unit then: `systemctl status` would not have them. So the unit is named in `OBJECT_SYSTEMD_UNIT`,
by which `journalctl --unit=` finds what root has said of a unit (systemd.journal-fields(7)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"error": "3", "warning": "4", "info": "6"}
Send = Callable[[str, str, Mapping[str, object]], bool]
"""Sends a message, its level and its fields; returns whether journald has it."""


def connected(path: str = SOCKET) -> Send | None:
    """Return what sends messages to journald, None if it does not read our standard error or cannot be reached."""
    if not _reads_us(os.environ.get("JOURNAL_STREAM", "")):
        return None
    import socket

    talk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    talk.setblocking(False)
    try:
        talk.connect(path)
    except OSError:
        talk.close()
        return None

    unit = unit_of(_control_group())

    def send(level: str, text: str, fields: Mapping[str, object]) -> bool:
        try:
            talk.send(datagram(level, text, fields, unit))
        except OSError:  # too large, or journald does not follow: then it reads plain lines
            return False
        return True

    return send


def _reads_us(stream: str) -> bool:
    """Return whether `device:inode` is what our standard error is connected to."""
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return stream == f"{here.st_dev}:{here.st_ino}"


def _control_group() -> str:
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("0::", "1:name=systemd:")):  # version 2, and systemd's own hierarchy of version 1
                return line.split(":", 2)[2].rstrip("\n")
    return ""


def unit_of(group: str) -> str:
    """Return the unit of the system's manager that a control group belongs to, empty if none: the first below slices.

    Source: systemd's CGROUP_DELEGATION; a name that would clash with the kernel's files has `_` before it.
    """
    for part in group.split("/"):
        name = part.removeprefix("_")
        if name.endswith((".service", ".scope")):
            return name
        if name and not name.endswith(".slice"):
            break
    return ""


def datagram(level: str, text: str, fields: Mapping[str, object], unit: str = "") -> bytes:
    """Return one message; our own fields are named `BORG_LVM_…`."""
    own = {f"BORG_LVM_{re.sub('[^A-Z0-9]', '_', name.upper())}": str(value) for name, value in fields.items()}
    head = {"MESSAGE": text, "PRIORITY": PRIORITIES[level], "SYSLOG_IDENTIFIER": "borg-lvm"}
    if unit:
        head["OBJECT_SYSTEMD_UNIT"] = unit
    return b"".join(_field(name, value) for name, value in (head | own).items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
