"""Which tasks the watchdog takes for writers, asked about real ones."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_lvm.watchdog import writers
from borg_lvm.watchdog.writers import Targets

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/syscall").exists() or platform.machine() not in writers.CALLS,
    reason="the kernel does not tell calls",
)
SPLICE_OF_32_BITS = (
    b"\x53\x55\xb8\x39\x01\x00\x00\xbb%b\x31\xc9\xba%b\x31\xf6\xbf\x00\x10\x00\x00\x31\xed\xcd\x80\x5d\x5b\xc3"
)
"""push rbx, rbp; eax=313 (splice), ebx=%b, ecx=0, edx=%b, esi=0, edi=4096, ebp=0; int 0x80; pop; ret."""


def spliced(pipe: int, file: int) -> None:
    os.splice(pipe, file, 4096)


def spliced_by_32_bits(pipe: int, file: int) -> None:
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(SPLICE_OF_32_BITS % (pipe.to_bytes(4, "little"), file.to_bytes(4, "little")))
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


@contextmanager
def sleeping(work: Callable[[int, int], None], file: Path) -> Iterator[int]:
    """Have a child sleep in a call that writes to a file; skip if there is no such call here."""
    pid = os.fork()
    if pid == 0:
        work(os.pipe()[0], os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
        os._exit(0)
    try:
        end = time.monotonic() + 10
        while writers.state(str(pid)) != "S":
            if writers.state(str(pid)) == "Z" or time.monotonic() > end:
                pytest.skip("the kernel has no such call")
            time.sleep(0.01)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="machine code of x86-64")
@pytest.mark.parametrize("work", [spliced, spliced_by_32_bits])
def test_a_splice_is_one_whatever_the_program(tmp_path: Path, work: Callable[[int, int], None]) -> None:
    """The kernel tells numbers of 32 bits for a program of theirs, of which none was looked for."""
    here = Targets(frozenset([tmp_path.stat().st_dev]), frozenset())
    with sleeping(work, tmp_path / "file") as pid:
        assert writers.sleeps(str(pid), str(pid), here, late=False, leased=False)
        elsewhere = Targets(frozenset([os.makedev(8, 99)]), frozenset())
        assert not writers.sleeps(str(pid), str(pid), elsewhere, late=False, leased=False)


def test_what_handles_tell() -> None:
    """A file of a file system that may lie above another one has none, or its kind."""
    assert writers.handle("/proc/self/status") in writers.OF_A_LAYER
    assert writers.handle("/dev/shm") not in (*writers.OF_A_LAYER, *writers.OF_BTRFS)
