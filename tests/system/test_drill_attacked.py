"""Drills of data whose owner attacks from outside of the sandbox, while what was restored works for them inside."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.support.attacks.attacker import working
from tests.system.support.backups.drilled import Drills, verdicts
from tests.system.support.runs.live import tidy

pytestmark = pytest.mark.limit(900)  # seconds; a fraction of it on an idle machine

SYS_ADD_KEY, SYS_KEYCTL, JOIN, SEARCH, SESSION = 248, 250, 1, 10, -3  # x86_64; linux/keyctl.h
KEY = b"borg-lvm-test"

INSIDE = f"""#!/usr/bin/python3 -I
import ctypes, sys, time
libc = ctypes.CDLL(None)
if sys.argv[1] == "apart":  # it lets go of what others have not got
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
if libc.syscall({SYS_KEYCTL}, {SEARCH}, {SESSION}, b"user", {KEY!r}, 0) > 0:
    sys.exit("it possesses the keys of root's session")
if any(line.split()[8].startswith({KEY.decode()!r}) for line in open("/proc/keys")):
    sys.exit("it sees the keys of root's session")
time.sleep(3)
"""
"""What a restored server does for its owner: it lets go of what might keep others out, and looks for root's keys."""
NAMESPACES = Path("/proc/sys/user/max_user_namespaces")

OUTSIDE = r"""
import os, time
uid, path, told = int(os.environ["OWNER"]), os.environ["OWN"], os.environ["TOLD"]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
live, held = os.stat(path), []
open(told, "a").write("ready\n")
while True:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fd = os.open(f"/proc/{name}/root{path}", os.O_RDONLY)
            except OSError:
                continue
            if not held and os.fstat(fd).st_dev != live.st_dev:
                held.append(fd)
                open(told, "a").write("entered\n")
            else:
                os.close(fd)
    time.sleep(0.01)
"""
"""The owner of the data, who waits for the sandbox, and keeps open what they see there."""


@contextmanager
def attacking(path: Path, told: Path) -> Iterator[None]:
    """Have the owner of a file attack during the block."""
    words = {"OWNER": str(path.stat().st_uid), "OWN": str(path), "TOLD": str(told)}
    with working(["/usr/bin/python3", "-c", OUTSIDE], told, words):
        yield


def take_a_key() -> None:
    """Have a key in a session keyring of ours, as whoever has logged in has one."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(SYS_KEYCTL, JOIN, None) > 0
    assert libc.syscall(SYS_ADD_KEY, b"user", KEY, b"secret", 6, SESSION) > 0


@contextmanager
def namespaces(number: str) -> Iterator[None]:
    """Have so many user namespaces allowed during the block."""
    before = NAMESPACES.read_text()
    NAMESPACES.write_text(number or before)
    try:
        yield
    finally:
        NAMESPACES.write_text(before)


@pytest.mark.parametrize(
    ("how", "number"), [("apart", ""), pytest.param("one capability", "0", marks=pytest.mark.soak)]
)
def test_nobody_comes_in_and_no_key_of_roots_is_inside(rig: Rig, how: str, number: str) -> None:
    with tidy():
        drills = Drills.made(rig)
        script = Path("/usr/local/sbin/borg-lvm-test-attacked")
        script.write_text(INSIDE)
        script.chmod(0o755)
        (drills.data / "own").mkdir()
        (drills.data / "own" / "file").write_text("content")
        for path in (drills.data / "own", drills.data / "own" / "file"):
            shutil.chown(path, "daemon", "daemon")
        options = {"quiesce": ["/usr/bin/true"], "resume": ["/usr/bin/true"], "paths": [str(drills.data / "own")]}
        drill = [str(script), how]
        drills.applications.append({"plugin": "scripts", "name": "shop", "options": {**options, "drill": drill}})
        take_a_key()
        command = drills.command()
        drills.saved(command)
        told = rig.path("told")
        with attacking(drills.data / "own" / "file", told), namespaces(number):
            said = drills.drill(command, on_volume=True)
        assert told.read_text() == "ready\n"
        assert verdicts(said) == {"shop": "good"}
