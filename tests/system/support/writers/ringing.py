"""A program that writes to one file by io_uring and then to another, again and again: `python ringing.py DATA LOG`.

It begins many writes to DATA at once, and writes to LOG while some of them have not ended: as a database does that
comes upon a page whose log record is not written yet. It says `going` when it has done so once.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import Any

SETUP, ENTER, REGISTER, WRITE, GETEVENTS = (
    425,
    426,
    427,
    23,
    1,
)  # linux/io_uring.h, and the system calls' numbers on x86-64
FILES, RINGS, REGISTERED, FIXED = 2, 20, 1 << 4, 1  # IORING_REGISTER_…, IORING_ENTER_…, IOSQE_FIXED_FILE
CQ_RING, SQES = 0x8000000, 0x10000000
BLOCK, MANY = 1 << 18, 32
LIBC = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int | ctypes.Array[Any] | None) -> int:
    """Do a system call. Errors: OSError."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    done = int(LIBC.syscall(ctypes.c_long(number), *words))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


class Ring:
    """An io_uring that is only written by."""

    def __init__(self, entries: int) -> None:
        params = ctypes.create_string_buffer(120)
        self.fd = call(SETUP, entries, params)
        numbers = struct.unpack("30I", params.raw)
        _, self.tail, self.mask, _, _, _, self.array = numbers[10:17]
        self.head_of_ends, self.tail_of_ends, _, _, _, ends = numbers[20:26]
        self.enter = (self.fd, 0)
        self.submissions = mmap.mmap(self.fd, self.array + numbers[0] * 4, offset=0)
        self.ends = mmap.mmap(self.fd, ends + numbers[1] * 16, offset=CQ_RING)
        self.wanted = mmap.mmap(self.fd, numbers[0] * 64, offset=SQES)

    def begin(self, fd: int, address: int, count: int, flags: int = 0) -> None:
        """Begin so many writes of a block each, one behind the other; does not wait for them. `flags`: IOSQE_…."""
        (tail,) = struct.unpack_from("I", self.submissions, self.tail)
        (mask,) = struct.unpack_from("I", self.submissions, self.mask)
        for number in range(count):
            slot = (tail + number) & mask
            entry = (WRITE, flags, 0, fd, number * BLOCK, address, BLOCK, 0, number)
            struct.pack_into("<BBHiQQIIQ24x", self.wanted, slot * 64, *entry)
            struct.pack_into("I", self.submissions, self.array + slot * 4, slot)
        struct.pack_into("I", self.submissions, self.tail, tail + count)
        assert self._enter(count, 0, 0) == count

    def submit(self, entry: bytes) -> None:
        """Begin what an entry for the first place says (struct io_uring_sqe); does not wait for it."""
        self.wanted[: len(entry)] = entry
        struct.pack_into("I", self.submissions, self.array, 0)
        struct.pack_into("I", self.submissions, self.tail, 1)
        assert self._enter(1, 0, 0) == 1

    def ended(self) -> int:
        """Return how many writes have ended that have not been waited for."""
        return self._of_ends(self.tail_of_ends) - self._of_ends(self.head_of_ends)

    def end(self, count: int) -> None:
        """Wait until so many writes have ended, as databases do: who is woken meanwhile waits again."""
        while True:
            try:
                self._enter(0, count, GETEVENTS)
                break
            except InterruptedError:
                continue
        struct.pack_into("I", self.ends, self.head_of_ends, self._of_ends(self.head_of_ends) + count)

    def register(self, file: int) -> None:
        """Have a file, and the ring itself, be known to the ring alone, and close their descriptors."""
        call(REGISTER, self.fd, FILES, (ctypes.c_int * 1)(file), 1)
        update = struct.pack("=IIQ", 0, 0, self.fd)
        call(REGISTER, self.fd, RINGS, ctypes.create_string_buffer(update), 1)
        os.close(file)
        os.close(self.fd)
        self.enter = (0, REGISTERED)

    def _enter(self, begin: int, end: int, flags: int) -> int:
        fd, registered = self.enter
        return call(ENTER, fd, begin, end, flags | registered, None, 0)

    def _of_ends(self, place: int) -> int:
        (number,) = struct.unpack_from("I", self.ends, place)
        return int(number)


def main(data: Path, log: Path) -> None:
    """Go round until somebody ends us."""
    memory = mmap.mmap(-1, BLOCK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ring = Ring(MANY)
    logged = os.open(log, os.O_CREAT | os.O_WRONLY)
    data.write_bytes(bytes(MANY * BLOCK))  # what is to be written is there already, else somebody else would do it
    os.sync()
    fd = os.open(data, os.O_WRONLY | os.O_DIRECT)
    said = False
    while True:
        ring.begin(fd, address, MANY)
        if ring.ended() < MANY:
            os.pwrite(logged, b"x", 0)
            if not said:
                said = True
                print("going", flush=True)
        ring.end(MANY)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
