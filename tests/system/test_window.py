"""What we do while volumes stand still, as strace sees it: nothing that could wait for one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.runs.live import tidy
from tests.system.support.runs.program import BIN, run

pytestmark = pytest.mark.limit(600)
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
# Memory, time and waiting; reading and writing are looked at more closely.
HARMLESS = frozenset(
    "brk mmap munmap mremap madvise mprotect clock_gettime clock_nanosleep gettimeofday select pselect6 poll ppoll "
    "futex getpid gettid rt_sigaction rt_sigprocmask rt_sigreturn sched_yield restart_syscall ioctl close "
    "munlockall fcntl sched_getscheduler sched_getparam sched_setscheduler".split()
)
SUSPENDS = "flags=DM_SUSPEND_FLAG}] =>"  # what is asked for, not what a device is
SWITCH = "/sys/kernel/rcu_expedited"
PIPE = re.compile(r"^\d+<(?:pipe|socket):")


def in_the_window(lines: Sequence[str]) -> list[str]:
    """Return the calls from the watchdog's being told to watch until it is told that all is over.

    There are other such times: before, when LVM makes a thin snapshot, and after, when the snapshots are removed.
    """
    begin, suspends = 0, next(number for number, line in enumerate(lines) if SUSPENDS in line)
    for number, line in enumerate(lines[:suspends]):
        begin = number if '"arm ' in line else begin
    end = next(number for number, line in enumerate(lines[begin:], begin) if '"disarm' in line)
    return list(lines[begin:end])


def suspicious(lines: Sequence[str]) -> list[str]:
    """Return the calls that might wait for a volume that stands still."""
    found = []
    for line in lines:
        call = _CALL.match(line)
        if call is None:  # a signal, or the end of a call that was interrupted
            continue
        name, rest = call.groups()
        if name in HARMLESS or (name in ("read", "write") and PIPE.match(rest)):
            continue
        if name == "pwrite64" and SWITCH in rest:
            continue
        found.append(line)
    return found


def traced(rig: Rig, paths: Sequence[Path]) -> list[str]:
    words = [word for path in paths for word in ("--path", path)]
    trace = rig.path("trace")
    run("strace", "-y", "-o", trace, BIN / "borg-lvm", "run", *words, "--", "true")
    return trace.read_text(errors="replace").splitlines()


@pytest.mark.needs("strace")
def test_nothing_is_opened_written_or_started_in_the_window(rig: Rig) -> None:
    volumes = [
        rig.volume("one", fs="ext4", mib=32, at=rig.path("one")),
        rig.volume("two", fs="xfs", mib=64, at=rig.path("two")),
        rig.volume("three", kind="thin", fs="ext4", mib=32, at=rig.path("three")),
    ]
    with tidy():
        lines = traced(rig, [volume.at for volume in volumes if volume.at])
    window = in_the_window(lines)
    print(f"{len(window)} system calls in the window")
    assert sum(SUSPENDS in line for line in window) == len(volumes), "this is not the window"
    assert suspicious(window) == []


def test_the_judge_knows_what_is_wrong() -> None:
    bad = [
        'openat(AT_FDCWD</>, "/srv/file", O_RDONLY|O_CLOEXEC) = 9</srv/file>',
        'write(2</var/log/backup.log>, "borg-lvm: x", 11) = 11',
        "fsync(5</run/borg-lvm/x/ledger>)        = 0",
        'execve("/usr/sbin/lvcreate", ["lvcreate"], 0x7f) = 0',
        'newfstatat(AT_FDCWD</>, "/srv", 0x7f, 0) = 0',
    ]
    good = ['write(7<pipe:[99]>, "arm 10 0", 8) = 8', "select(8, [7<pipe:[99]>], [], [], NULL) = 1 (in [7])"]
    assert suspicious([*bad, *good]) == bad
