"""The guardian's own process: undoes every freeze and suspend when nobody else will. Started by `guardian.py`.

It is run by its path in an isolated interpreter, so it imports the standard library only, and all of it before it
says that it is ready. From then on it allocates little, starts no program and reads no file: what it needs may
lie on the very volume that stands still. All its memory is locked.

Protocol, one line each on standard input, each answered by one line (`ok` or `error TEXT`):
    freeze NAME PATH  a file system that may be frozen from now on (a descriptor of PATH is opened now)
    suspend NAME UUID a device that may be suspended from now on; NAME is what both are called in answers; devices that
                      lie below others are told after them
    forget            nothing is frozen any more: close the descriptors, which would keep their mounts busy
    arm SECONDS GRACE the window opens: after so many seconds everything is undone
    release           everything is undone now: what a program that died in the window has left
    disarm            the window is closed; the answer is `ok`, or `acted NAME SECONDS …` when the deadline had passed
                      and something had to be undone: how long after the window's beginning that was
A run that takes one window for each volume arms and disarms again, and once more for the removal of its snapshots.
End of input in a window: the owner is dead; everything is undone after GRACE seconds. In the window of the snapshots
they are 0. An lvremove that has lost its owner gets a moment to come to its end by itself.
"""

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import sys
import time

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
HEADER = struct.Struct("=3I2IIi3IQ128s129s7x")
REQUEST = 3 << 30 | HEADER.size << 16 | 0xFD << 8
DEV_SUSPEND, DEV_STATUS, TABLE_CLEAR = 6, 7, 10
SUSPENDED = 0x2
MCL_CURRENT_AND_FUTURE = 3
LOOK_AGAIN = 0.2


class Guardian:
    """What may stand still, and how it is set going again."""

    def __init__(self) -> None:
        self.control = os.open("/dev/mapper/control", os.O_RDWR)
        self.frozen: list[tuple[str, int]] = []
        self.suspended: list[tuple[str, str]] = []
        self.began = 0.0
        self.deadline = 0.0
        self.grace = 0.0
        self.acted: list[str] = []

    def dm(self, command: int, uuid: str) -> int:
        """Do a device-mapper command without flags; returns the device's flags."""
        buffer = bytearray(HEADER.size)
        HEADER.pack_into(buffer, 0, 4, 0, 0, HEADER.size, HEADER.size, 0, 0, 0, 0, 0, 0, b"", uuid.encode())
        fcntl.ioctl(self.control, REQUEST | command, buffer, True)
        return int(HEADER.unpack_from(buffer)[7])

    def undo(self) -> None:
        """Set everything going again that stands still, devices first: a frozen file system may lie on one."""
        for name, uuid in self.suspended:
            try:
                if self.dm(DEV_STATUS, uuid) & SUSPENDED:
                    # A table that LVM has loaded in advance is not to be used without those of the other devices.
                    self.dm(TABLE_CLEAR, uuid)
                    self.dm(DEV_SUSPEND, uuid)
                    self.note(name)
            except OSError:
                pass  # it is gone, or somebody else was faster
        for name, fd in self.frozen:
            try:
                fcntl.ioctl(fd, FITHAW, 0)
                self.note(name)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it is not frozen
                    self.note(name)

    def note(self, name: str) -> None:
        """Remember what stood still, and since when at most."""
        self.acted.append(name + " " + format(time.monotonic() - self.began, ".2f"))

    def obey(self, line: str) -> str:
        """Carry out one line and return the answer."""
        word, _, rest = line.partition(" ")
        if word == "freeze":
            name, _, path = rest.partition(" ")
            self.frozen.append((name, os.open(os.fsencode(path), os.O_RDONLY)))
        elif word == "suspend":
            name, _, uuid = rest.partition(" ")
            if (name, uuid) in self.suspended:
                self.suspended.remove((name, uuid))
            self.suspended.insert(0, (name, uuid))  # what was told last goes first: a thaw writes to what lies below
        elif word == "forget":
            while self.frozen:
                os.close(self.frozen.pop()[1])
        elif word == "arm":
            seconds, _, grace = rest.partition(" ")
            self.began, self.grace = time.monotonic(), float(grace)
            self.deadline = self.began + float(seconds)
            self.acted.clear()
        elif word == "release":
            known = len(self.acted)
            self.undo()
            del self.acted[known:]
        elif word == "disarm":
            self.deadline = 0.0
            return "acted " + " ".join(self.acted) if self.acted else "ok"
        else:
            return "error unknown word"
        return "ok"

    def timeout(self) -> float | None:
        """Return how long to wait for the next line, in seconds; None for ever."""
        return max(0.0, self.deadline - time.monotonic()) if self.deadline else None


def serve(guardian: Guardian) -> None:
    """Read lines until the end of input."""
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], guardian.timeout())
        if not ready:
            guardian.undo()
            guardian.deadline = time.monotonic() + LOOK_AGAIN
            continue
        data = os.read(0, 65536)
        if not data:
            if guardian.deadline:  # outside a window nothing of ours stands still, and what does is somebody else's
                time.sleep(guardian.grace)
                guardian.undo()
            return
        waiting += data
        while b"\n" in waiting:
            line, waiting = waiting.split(b"\n", 1)
            try:
                answer = guardian.obey(os.fsdecode(line))
            except (OSError, ValueError) as error:
                answer = "error " + str(error)
            os.write(1, os.fsencode(answer) + b"\n")


def main() -> None:
    """Lock the memory, warm up every path of the code, say `ready`, serve."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT_AND_FUTURE):
        os.write(1, b"error cannot lock memory: " + os.strerror(ctypes.get_errno()).encode() + b"\n")
        sys.exit(1)
    guardian = Guardian()
    guardian.suspended.append(("none", "LVM-no-such-device"))
    guardian.frozen.append(("/proc", os.open("/proc", os.O_RDONLY)))
    guardian.undo()
    guardian.note("none")
    guardian.timeout()
    select.select([], [], [], 0)
    time.sleep(0)
    guardian.suspended.clear()
    guardian.obey("forget")
    guardian.acted.clear()
    os.write(1, b"ready\n")
    serve(guardian)


if __name__ == "__main__":
    main()
