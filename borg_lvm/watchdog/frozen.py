"""Part of the watchdog's process: what may be frozen or suspended in the kernel, and how it is resumed.

Standard library only, and of that as little as can be: each module is a part of the watchdog's start. What it does
allocates little and reads no file: all descriptors are opened before.
"""

import errno
import fcntl
import os
import struct
from _collections_abc import Iterator

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
LOW = 0xFFFFFFFF
SCRUB_CANCEL, BALANCE_CONTROL, BALANCE_PAUSE = 0x941C, 0x9421, 1
"""Of include/uapi/linux/btrfs.h."""
HEADER = struct.Struct("=3I2IIi3IQ128s129s7x")
REQUEST = 3 << 30 | HEADER.size << 16 | 0xFD << 8
DEV_SUSPEND, DEV_STATUS, TABLE_CLEAR, TABLE_STATUS = 6, 7, 10, 12
SUSPENDED, TABLE_ONLY, WORKS = 0x2, 0x10, 0x20
KIND = struct.Struct("=24x16s")  # of a table's first line: the type of its target
ROOM = 4096
STATELESS = (b"linear", b"striped", b"error", b"zero", b"thin", b"snapshot-origin", b"snapshot", b"")
"""As in device_mapper.py; and a table that is longer than there is room."""


def stop_scrub(fd: int) -> None:
    """Cancel a scrub of the btrfs that a descriptor is on, and pause a balance; nothing elsewhere.

    It holds the file system for hours, and can be resumed. Who begins a run sees to it that there is none; this is for
    one that begins at that moment.
    """
    for call, argument in ((SCRUB_CANCEL, 0), (BALANCE_CONTROL, BALANCE_PAUSE)):
        try:
            fcntl.ioctl(fd, call, argument)
        except OSError:
            pass  # no btrfs, or there is none


class Frozen:
    """The file systems that may be frozen, the devices that may be suspended, and the switch of the grace periods."""

    def __init__(self) -> None:
        self.control = os.open("/dev/mapper/control", os.O_RDWR)
        self.switch = -1
        self.file_systems: list[tuple[str, int]] = []
        self.suspended: list[tuple[str, str]] = []
        self.marks: set[int] = set()

    def may_freeze(self, name: str, path: str, device: int) -> None:
        """Hold a file system open that may be frozen. Raises: OSError when it is not the one that is meant."""
        fd = os.open(os.fsencode(path), os.O_RDONLY)
        if os.fstat(fd).st_dev != device:
            os.close(fd)
            raise OSError(errno.ESTALE, "another file system", path)
        self.file_systems.append((name, fd))
        if not os.major(device):  # of a btrfs `st_dev` names one subvolume, half of this all of them
            self.marks.add(os.fstatvfs(fd).f_fsid & LOW)

    def may_suspend(self, name: str, uuid: str) -> None:
        """Take note of a device. What was registered last is resumed first: a thaw writes to what lies below."""
        if (name, uuid) in self.suspended:
            self.suspended.remove((name, uuid))
        self.suspended.insert(0, (name, uuid))

    def may_expedite(self, path: str) -> None:
        """Open the switch of the kernel's grace periods, which may be quick from now on. Raises: OSError."""
        self.switch = os.open(path, os.O_WRONLY)

    def forget(self) -> None:
        """Close the file systems, which would keep their mounts busy."""
        self.marks.clear()
        while self.file_systems:
            os.close(self.file_systems.pop()[1])

    def close_switch(self) -> None:
        """Close the switch of the grace periods, which are as usual again."""
        if self.switch >= 0:
            os.close(self.switch)
            self.switch = -1

    def dm(self, command: int, uuid: str, flags: int = 0) -> tuple[int, bytes, int]:
        """Do a device-mapper command; returns the device's flags, the type of its first target, and its number."""
        buffer = bytearray(HEADER.size + ROOM)
        HEADER.pack_into(buffer, 0, 4, 0, 0, len(buffer), HEADER.size, 0, 0, flags, 0, 0, 0, b"", uuid.encode())
        fcntl.ioctl(self.control, REQUEST | command, buffer, True)
        fields = HEADER.unpack_from(buffer)
        return int(fields[7]), KIND.unpack_from(buffer, HEADER.size)[0].rstrip(b"\0"), int(fields[10])

    def resume(self, uuid: str) -> None:
        """Resume a device, as `dm.resume` does.

        A table that was loaded in advance is not to be used without those of the other devices, unless they work
        already.
        """
        if self.dm(TABLE_STATUS, uuid, TABLE_ONLY)[1] in STATELESS or not self.works(uuid + "-real"):
            self.dm(TABLE_CLEAR, uuid)
        self.dm(DEV_SUSPEND, uuid)

    def works(self, uuid: str) -> bool:
        """Return whether there is a device of that uuid with a table that it works by."""
        try:
            return bool(self.dm(DEV_STATUS, uuid)[0] & WORKS)
        except OSError:
            return False

    def undo(self) -> Iterator[str]:
        """Resume and thaw everything, devices first: a frozen file system may lie on one.

        Yields the name of each as soon as it goes.
        """
        for name, uuid in self.suspended:
            try:
                if self.dm(DEV_STATUS, uuid)[0] & SUSPENDED:
                    self.resume(uuid)
                    yield name
            except OSError:
                pass  # it is gone, or somebody else was faster
        for name, fd in self.file_systems:
            try:
                fcntl.ioctl(fd, FITHAW, 0)
                yield name
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it is not frozen
                    yield name
        if self.switch >= 0:
            try:
                os.pwrite(self.switch, b"0", 0)
            except OSError:
                pass  # the kernel does not let itself be switched

    def devices(self) -> set[int]:
        """Return the device numbers (`st_dev`) of all of them."""
        devices = {os.fstat(fd).st_dev for _, fd in self.file_systems}
        for _, uuid in self.suspended:
            try:
                number = self.dm(DEV_STATUS, uuid)[2]
            except OSError:
                continue  # it is gone
            devices.add(os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00))
        return devices
