"""An unprivileged process that exchanges two names at chosen moments of a run, as the owner of their directory may."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
RUNS = int(os.environ.get("BORG_LVM_RUNS", "0"))
ROUNDS = 20 if RUNS else 2
"""How often each attack is made, with its moment spread over the window."""
SPREAD = 0.1
"""Seconds over which the moments are spread after what the attacker waits for."""

PROGRAM = r"""
import ctypes, os, sys, time
there, other, told, *moments = sys.argv[1:]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc = ctypes.CDLL(None, use_errno=True)

old, opened = set(os.listdir("/proc")), {}

def processes(file, fits):
    # Only those that are younger than we: a look must not take the processor of those that it waits for.
    names = os.listdir("/proc")
    old.intersection_update(names)
    for name in names:
        try:
            if name.isdigit() and name not in old and fits(open("/proc/%s/%s" % (name, file), "rb").read()):
                return True
        except OSError:
            pass
    return False

def devices():
    # A name, a size, and whether it is suspended, for each; their files are opened once.
    found = []
    for device in os.listdir("/sys/block"):
        try:
            if device.startswith("dm-") and device not in opened:
                files = ["/sys/block/%s/%s" % (device, fact) for fact in ("dm/name", "size", "dm/suspended")]
                opened[device] = [os.open(file, os.O_RDONLY) for file in files]
            if device in opened:
                found.append([os.pread(file, 200, 0).strip() for file in opened[device]])
        except OSError:
            for file in opened.pop(device, ()):  # it has gone
                os.close(file)
    return found

def making():
    # LVM makes the space of a snapshot first, as a volume of its own.
    return any(b"borg_lvm" in name for name, _, _ in devices())

def taken():
    # A snapshot is as large as its space until it works: then as large as its origin.
    sizes = {name: size for name, size, _ in devices() if b"borg_lvm" in name}
    return any(sizes.get(name + b"-cow", size) != size for name, size in sizes.items())

def resumed():
    return taken() and b"1" not in [suspended for _, _, suspended in devices()]

seen = {
    "taken": taken,
    "resumed": resumed,
    "making": making,
    "watchdog": lambda: processes("cmdline", lambda text: b"watchdog/process.py" in text),
    "command": lambda: os.path.exists(told + ".begun"),
}

def exchange():
    if libc.renameat2(-100, os.fsencode(there), -100, os.fsencode(other), 2):
        raise OSError(ctypes.get_errno(), "renameat2")
    with open(told, "a") as file:
        file.write("exchanged\n")

open(told, "a").write("ready\n")
for moment in moments:
    what, _, delay = moment.partition("+")
    if what == "flip":
        end = time.monotonic() + float(delay)
        while time.monotonic() < end:
            exchange()
            time.sleep(0.003)
        continue
    while not seen[what]():
        time.sleep(0.002)
    time.sleep(float(delay or 0))
    exchange()
"""


@dataclass(frozen=True)
class Attack:
    """What is exchanged with what, and when: `taken+0.2` is 0.2 s after one volume's snapshot is seen to be there.

    `resumed` is the same for several volumes, `making` is when LVM has made its space, `watchdog` when ours is there,
    and `command` when the command has begun.
    """

    there: Path
    other: Path
    moments: Sequence[str]


def moment(what: str, number: int) -> str:
    """Return the moment of one round: all of them are spread evenly over SPREAD seconds after `what`."""
    return f"{what}+{SPREAD * number / ROUNDS:.3f}"


@contextmanager
def working(argv: Sequence[str], told: Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """Have a program at work during the block, from when it has written `ready` to a file that it may write."""
    told.touch()
    told.chmod(0o666)
    with subprocess.Popen(argv, env=env) as process:
        try:
            while "ready" not in told.read_text():
                assert process.poll() is None
                time.sleep(0.01)
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def attacking(attack: Attack, told: Path) -> Iterator[None]:
    """Have an unprivileged process attack during the block; afterwards both names are as they were before.

    `told` is a file that it may write; one beside it, `….begun`, tells it that the command runs. It goes before the
    run, as it would on a second processor. It must have come to its exchanges.
    """
    for path in (told, told.with_name(f"{told.name}.begun")):
        path.unlink(missing_ok=True)
    before = os.lstat(attack.there).st_ino
    words = [attack.there, attack.other, told, *attack.moments]
    ahead = ["/usr/bin/nice", "-n", "-15", "/usr/bin/python3", "-c", PROGRAM]
    try:
        with working([*ahead, *map(str, words)], told):
            yield
    finally:
        if os.lstat(attack.there).st_ino != before:
            exchange(attack.there, attack.other)
    assert "exchanged" in told.read_text(), "the attacker never came to it"


def exchange(one: Path, other: Path) -> None:
    """Put each in the place of the other."""
    away = one.with_name(".away")
    one.rename(away)
    other.rename(one)
    away.rename(other)
