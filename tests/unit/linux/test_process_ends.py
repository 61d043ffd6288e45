"""Processes are ended: asked first, forced if they do not go, each once, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from borg_lvm.linux import namespaces, processes
from borg_lvm.linux.processes import Process
from borg_lvm.log import Log

pytestmark = pytest.mark.process
STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
"""Whatever it is asked, it goes on."""
LONG = 60.0
"""Seconds for what comes at once, on a machine that is busy."""


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def seen(process: subprocess.Popen[str]) -> Process:
    start = processes.start_time(process.pid)
    assert start is not None
    return Process(process.pid, start, "it")


def alive(*known: Process) -> list[Process]:
    return [process for process in known if processes.start_time(process.pid) == process.start]


def test_who_goes_when_asked_is_not_forced(capfd: pytest.CaptureFixture[str]) -> None:
    with started("sh", "-c", "echo ready; exec sleep 600") as process:
        known = seen(process)
        processes.end(lambda: alive(known), Log(), "vg0/home is in use", patience=LONG)
        assert process.wait(LONG) == -signal.SIGTERM
    assert capfd.readouterr().err == f"borg-lvm: warning: vg0/home is in use: sending SIGTERM to it ({known.pid})\n"


def test_who_does_not_go_is_forced_and_named_twice(capfd: pytest.CaptureFixture[str]) -> None:
    with started("sh", "-c", STUBBORN) as process:
        known = seen(process)
        processes.end(lambda: alive(known), Log(), "why", patience=0.2)
        assert process.wait(LONG) == -signal.SIGKILL
    assert [line.split()[4] for line in capfd.readouterr().err.splitlines()] == ["SIGTERM", "SIGKILL"]


def test_what_comes_meanwhile_is_ended_too_and_each_is_asked_once(capfd: pytest.CaptureFixture[str]) -> None:
    with started("sh", "-c", "echo ready; exec sleep 600") as first, started("sh", "-c", STUBBORN) as second:
        known = [seen(first), seen(second)]

        def left() -> Sequence[Process]:
            return alive(*known) if first.poll() is not None else alive(known[0])

        processes.end(left, Log(), "why", patience=0.5)
        assert (first.wait(LONG), second.wait(LONG)) == (-signal.SIGTERM, -signal.SIGKILL)
    assert [line.split()[4] for line in capfd.readouterr().err.splitlines()] == ["SIGTERM", "SIGTERM", "SIGKILL"]


def test_nobody_who_has_the_number_of_another_is_ended() -> None:
    with started("sh", "-c", "echo ready; exec sleep 600") as process:
        known = seen(process)
        Process(known.pid, known.start - 1, "an earlier one").kill(signal.SIGKILL)
        known.kill(signal.SIGTERM)
        assert process.wait(LONG) == -signal.SIGTERM
        known.kill(signal.SIGKILL)  # is nobody's any more


def test_one_that_has_ended_and_was_not_waited_for_is_none() -> None:
    process = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.start_time(process.pid) is None
    process.wait()


def test_what_a_process_uses_is_known_by_its_directory_and_by_what_it_has_open() -> None:
    proc, sys_ = os.stat("/proc").st_dev, os.stat("/sys").st_dev
    wait = "print('ready', flush=True); import time; time.sleep(600)"
    ways = {
        "": set[int](),
        "import os; os.chdir('/sys'); ": {sys_},
        "import os; os.chdir('/sys'); held = open('/proc/self/maps'); ": {proc, sys_},
        "import os; held = os.open('/proc', os.O_PATH); ": {proc},
    }
    for code, used in ways.items():
        with started(sys.executable, "-I", "-S", "-c", code + wait) as process:
            assert processes.devices_of(process.pid) & {proc, sys_} == used


APART = """
import os
from borg_lvm.linux import namespaces
namespaces.make_own()
os.chdir("/sys")
if os.fork():
    os.chdir("/")
    os.set_inheritable(os.open("/proc", os.O_RDONLY), True)
    print("ready", flush=True)
os.execv("/bin/sleep", ["sleep", "600"])
"""


@pytest.fixture
def apart() -> Iterator[subprocess.Popen[str]]:
    """Two processes in a mount namespace of their own: the first has /proc open, the second lives in /sys."""
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("nobody here makes mount namespaces")
    with started(sys.executable, "-c", APART) as process:
        yield process


def eventually(find: Callable[[], list[Process]]) -> list[int]:
    """Whoever does not answer at once is left out, and on a busy machine that may be anybody."""
    return next((pids for pids in ([one.pid for one in find()] for _ in range(50)) if pids), [])


def test_who_is_in_a_namespace_is_found_and_killed_and_nobody_else(apart: subprocess.Popen[str]) -> None:
    inode = namespaces.number(apart.pid)
    handle = os.open(f"/proc/{apart.pid}/ns/mnt", os.O_RDONLY)
    try:
        inside = processes.in_namespace(handle)
        assert len(inside) == 2
        assert Process(apart.pid, processes.start_time(apart.pid) or 0, inside[0].name) in inside
        assert apart.pid in [process.pid for process in inside]
        device = frozenset({os.stat("/proc").st_dev})
        assert eventually(lambda: processes.readers(handle, device)) == [apart.pid]
        assert eventually(lambda: processes.users(handle, device)) == [apart.pid]
        lives = frozenset({os.stat("/sys").st_dev})
        other = next(process.pid for process in inside if process.pid != apart.pid)
        assert eventually(lambda: processes.users(handle, lives)) == [other]
        assert processes.readers(handle, lives) == []
    finally:
        os.close(handle)
    processes.kill_all_in(inode)
    assert apart.wait(LONG) == -signal.SIGKILL
    end = time.monotonic() + LONG
    while alive(*inside) and time.monotonic() < end:  # the second is an orphan by now, which others have to wait for
        time.sleep(0.01)
    assert alive(*inside) == []
